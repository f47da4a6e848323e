//! Logins, PINs and principals.

use super::*;

#[test]
fn logins_end_when_the_officer_sets_the_pin() {
    let Some(mut fixture) = Fixture::new("login::logins_end_when_the_officer_sets_the_pin") else { return };
    assert_eq!(fixture.log_in(Role::User, "4321"), Err(Rv::PIN_INCORRECT));
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    let user = fixture.ticket.clone();
    let (old, new) = (Secret::from(b"1234".as_slice()), Secret::from(b"5678".as_slice()));
    fixture.send(Request::SetPin { role: Role::User, old, new }).unwrap();
    fixture.encrypt(&key, b"changing one's own PIN ends no login").unwrap();
    fixture.log_in(Role::Officer, "12345678").unwrap();
    assert!(fixture.encrypt(&key, b"the officer uses no keys").is_err());
    assert!(fixture.find(vec![]).is_empty());
    fixture.send(Request::InitPin { pin: Secret::from(b"9999".as_slice()) }).unwrap();
    fixture.ticket = user;
    assert_eq!(fixture.encrypt(&key, b"data"), Err(Rv::USER_NOT_LOGGED_IN));
    fixture.ticket = None;
    fixture.log_in(Role::User, "9999").unwrap();
    fixture.encrypt(&key, b"data").unwrap();
}

#[test]
fn a_principal_that_is_created_again_does_not_revive_its_logins() {
    let Some(mut fixture) =
        Fixture::new("login::a_principal_that_is_created_again_does_not_revive_its_logins")
    else {
        return;
    };
    let secret = Secret::from(b"swordfish".as_slice());
    let ring_role = kms_core::object::RingRole::User;
    fixture.backend.add_account("strict", "alice", ring_role, &secret).unwrap();
    fixture.log_in(Role::User, "alice:swordfish").unwrap();
    assert!(fixture.find(Vec::new()).is_empty());
    fixture.backend.remove_principal("strict", "alice").unwrap();
    let find = || Request::Find { template: Template(Vec::new()), after: None };
    assert_eq!(fixture.send(find()).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    std::thread::sleep(std::time::Duration::from_millis(2));
    fixture.backend.add_account("strict", "alice", ring_role, &secret).unwrap();
    assert_eq!(fixture.send(find()).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    assert!(fixture.backend.remove_principal("strict", "user").is_err());
    assert!(fixture.backend.remove_principal("strict", "bob").is_err());
    let listed = fixture.backend.principals(Some("strict")).unwrap();
    assert_eq!(
        listed.iter().map(|principal| principal.name.as_str()).collect::<Vec<_>>(),
        ["alice", "so", "user"]
    );
}
