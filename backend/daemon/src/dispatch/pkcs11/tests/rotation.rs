//! Rotation: the versions of a key, as applications see them.

use kms_protocol::AttributeType as A;

use super::requests::yes;
use super::*;

fn by_label(fixture: &mut Fixture, label: &str) -> Vec<ObjectView> {
    fixture.find(vec![Attribute::bytes(A::LABEL, label)])
}

#[test]
fn the_label_follows_the_current_version() {
    let Some(mut fixture) = Fixture::new("rotation::the_label_follows_the_current_version") else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    let first = fixture.aes("k", true);
    let sealed = fixture.encrypt(&first.object, b"before").unwrap();
    assert_eq!(fixture.backend.rotate_key("strict", "k").unwrap(), 2);
    assert_eq!(fixture.backend.rotate_key("strict", "k").unwrap(), 3);
    let [current] = by_label(&mut fixture, "k").try_into().unwrap();
    let [old] = by_label(&mut fixture, "k#1").try_into().unwrap();
    let [middle] = by_label(&mut fixture, "k#2").try_into().unwrap();
    assert_eq!(old.object, first.object);
    let id = |view: &ObjectView| view.attributes.bytes(A::ID).unwrap().to_vec();
    assert_eq!(id(&old), id(&first));
    assert!(id(&old) != id(&middle) && id(&middle) != id(&current));
    assert_eq!(id(&current)[..16], id(&old)[..16], "the key's UUID and the number of the version");
    assert_eq!(current.attributes.bytes(A::START_DATE).map(<[u8]>::len), Some(8));
    assert_eq!(current.attributes.bytes(A::END_DATE), Some(&[][..]));
    assert_eq!(old.attributes.bytes(A::END_DATE).map(<[u8]>::len), Some(8));
    assert_ne!(current.attributes.bytes(A::CHECK_VALUE), old.attributes.bytes(A::CHECK_VALUE));
    assert_eq!(current.attributes.bool(A::NEVER_EXTRACTABLE), Some(true));
    assert!(fixture.decrypt(&current.object, &sealed).is_err());
    let mut fixture = fixture.restart();
    assert_eq!(*fixture.decrypt(&old.object, &sealed).unwrap(), *b"before");
    let sealed = fixture.encrypt(&current.object, b"after").unwrap();
    assert_eq!(*fixture.decrypt(&current.object, &sealed).unwrap(), *b"after");
    let keys = fixture.backend.keys(None).unwrap();
    assert_eq!((keys.len(), keys[0].versions, keys[0].label.as_str()), (1, 3, "k"));
    // The label of an old version belongs to that version; the label of the current one is the key's.
    fixture.set(&old.object, &[Attribute::bytes(A::LABEL, "renamed")]).unwrap();
    assert_eq!(fixture.backend.keys(None).unwrap()[0].label, "k");
    fixture.set(&current.object, &[Attribute::bytes(A::LABEL, "other")]).unwrap();
    assert_eq!(fixture.backend.keys(None).unwrap()[0].label, "other");
    fixture.send(Request::Destroy { object: middle.object }).unwrap();
    fixture.encrypt(&current.object, b"the other versions are still usable").unwrap();
    assert!(fixture.backend.rotate_key("strict", "nothing").is_err());
}

#[test]
fn both_keys_of_a_pair_have_the_next_version() {
    let Some(mut fixture) = Fixture::new("rotation::both_keys_of_a_pair_have_the_next_version") else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let label = Attribute::bytes(A::LABEL, "pair");
    let (public, _) = fixture
        .rsa(&[yes(A::TOKEN), yes(A::VERIFY), label.clone()], &[yes(A::TOKEN), yes(A::SIGN), label.clone()]);
    fixture.backend.rotate_key("strict", "pair").unwrap();
    let found = by_label(&mut fixture, "pair");
    assert_eq!((found.len(), by_label(&mut fixture, "pair#1").len()), (2, 2));
    let ids: Vec<_> = found.iter().map(|view| view.attributes.bytes(A::ID)).collect();
    assert_eq!(ids[0], ids[1]);
    let moduli: Vec<_> = found.iter().map(|view| view.attributes.bytes(A::MODULUS)).collect();
    assert_eq!(moduli[0], moduli[1]);
    assert_ne!(moduli[0], public.attributes.bytes(A::MODULUS));
    let private =
        found.iter().find(|view| view.attributes.class() == Some(ObjectClass::PRIVATE_KEY)).unwrap();
    fixture.sign(&private.object).unwrap();
}
