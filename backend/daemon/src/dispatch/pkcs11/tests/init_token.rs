//! `C_InitToken`: a ring emptied by its security officer, and a ring created in the free slot.

use super::requests::yes;
use super::*;

fn init(pin: &str, label: &str) -> Request {
    Request::InitToken { pin: Secret::from(pin.as_bytes()), label: label.to_owned() }
}

fn slots(fixture: &mut Fixture) -> Vec<Slot> {
    let Ok(Response::Slots(slots)) = fixture.send(Request::Slots) else { panic!("no slots") };
    slots
}

#[test]
fn the_officer_empties_a_ring() {
    let Some(mut fixture) = Fixture::new("init_token::the_officer_empties_a_ring") else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.generate(&[yes(AttributeType::TOKEN)]).object;
    fixture.pair(true);
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    let other = fixture.aes("other", true).object;
    let other_user = fixture.ticket.take();
    fixture.slot = SlotId(0);
    assert_eq!(fixture.send(init("1234", "renamed")), Err(Rv::PIN_INCORRECT));
    assert_eq!(fixture.send(init("12345678", "")), Err(Rv::ARGUMENTS_BAD));
    assert_eq!(fixture.send(init("12345678", "compat")), Err(Rv::FUNCTION_REJECTED));
    fixture.log_in(Role::User, "1234").unwrap();
    let user = fixture.ticket.clone();
    assert_eq!(fixture.find(vec![]).len(), 3);
    fixture.send(init("12345678", "renamed")).unwrap();
    fixture.ticket = user.clone();
    assert_eq!(fixture.encrypt(&key, b"data"), Err(Rv::USER_NOT_LOGGED_IN));
    assert_eq!(fixture.log_in(Role::User, "1234"), Err(Rv::USER_PIN_NOT_INITIALIZED));
    let [slot, _] = slots(&mut fixture).try_into().unwrap();
    assert_eq!((slot.label.as_str(), slot.user_pin_set, slot.initialized), ("renamed", false, true));
    fixture.log_in(Role::Officer, "12345678").unwrap();
    fixture.send(Request::InitPin { pin: Secret::from(b"5678".as_slice()) }).unwrap();
    fixture.ticket = user;
    assert_eq!(fixture.encrypt(&key, b"data"), Err(Rv::USER_NOT_LOGGED_IN), "an old ticket stays invalid");
    let mut fixture = fixture.restart();
    fixture.ticket = None;
    fixture.log_in(Role::User, "5678").unwrap();
    assert!(fixture.find(vec![]).is_empty());
    assert_eq!(fixture.encrypt(&key, b"data"), Err(Rv::KEY_HANDLE_INVALID));
    assert_eq!(fixture.backend.keys(Some("renamed")).unwrap()[0].state, "destroyed");
    fixture.slot = SlotId(1);
    fixture.ticket = other_user;
    fixture.encrypt(&other, b"data").expect("the other ring is not affected");
}

#[test]
fn a_free_slot_becomes_a_ring_if_the_configuration_offers_it() {
    let Some(mut fixture) =
        Fixture::new("init_token::a_free_slot_becomes_a_ring_if_the_configuration_offers_it")
    else {
        return;
    };
    assert_eq!(slots(&mut fixture).len(), 2);
    fixture.slot = SlotId(2);
    assert_eq!(fixture.send(init("87654321", "mine")), Err(Rv::TOKEN_NOT_PRESENT));
    let path = fixture.home.join(config::FILE_NAME);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("# free_slot = false", "free_slot = true")).unwrap();
    let mut fixture = fixture.restart();
    let free = slots(&mut fixture).pop().unwrap();
    assert_eq!((free.id, free.initialized), (SlotId(2), false));
    assert_eq!(fixture.log_in(Role::User, "1234"), Err(Rv::TOKEN_NOT_PRESENT));
    assert_eq!(fixture.send(init("1", "mine")), Err(Rv::PIN_LEN_RANGE));
    fixture.send(init("87654321", "mine")).unwrap();
    let slots = slots(&mut fixture);
    assert_eq!(
        slots.iter().map(|slot| (slot.id.0, slot.initialized)).collect::<Vec<_>>(),
        [(0, true), (1, true), (2, true), (3, false)]
    );
    assert_eq!((slots[2].label.as_str(), slots[2].policy), ("mine", RingPolicy::Strict));
    fixture.log_in(Role::Officer, "87654321").unwrap();
    fixture.send(Request::InitPin { pin: Secret::from(b"5678".as_slice()) }).unwrap();
    fixture.log_in(Role::User, "5678").unwrap();
    fixture.aes("first", true);
}
