//! Objects that are created and copied: keys, certificates, data.

use kms_protocol::AttributeType as A;

use super::attacks::{no, secret, yes};
use super::*;

fn certificate(token: bool) -> Vec<Attribute> {
    vec![
        Attribute::ulong(A::CLASS, u64::from(ObjectClass::CERTIFICATE.0)),
        Attribute::ulong(A::CERTIFICATE_TYPE, 0),
        Attribute::bytes(A::SUBJECT, vec![0x30, 0]),
        Attribute::bytes(A::VALUE, vec![0x30; 1500]),
        Attribute::bytes(A::LABEL, "certificate"),
        Attribute::bytes(A::ID, vec![1]),
        Attribute::bool(A::TOKEN, token),
    ]
}

fn data(token: bool, private: bool, value: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::ulong(A::CLASS, u64::from(ObjectClass::DATA.0)),
        Attribute::bytes(A::LABEL, "ORACLE.SECURITY.KM.ENCRYPTION.".to_owned() + &"30".repeat(40)),
        Attribute::bytes(A::APPLICATION, "oracle"),
        Attribute::bytes(A::VALUE, value),
        Attribute::bool(A::TOKEN, token),
        Attribute::bool(A::PRIVATE, private),
    ]
}

fn value(door: &mut Door, object: &ObjectRef) -> Result<Vec<u8>, Rv> {
    door.reveal(object).map(|secrets| secrets.bytes(A::VALUE).unwrap().to_vec())
}

#[test]
fn certificates_and_data_are_kept_and_deleted() {
    let Some(mut door) = Door::new("imports::certificates_and_data_are_kept_and_deleted") else { return };
    door.log_in(Role::User, "1234").unwrap();
    let kept = door.create(&certificate(true)).unwrap();
    assert_eq!(kept.attributes.bytes(A::VALUE).map(<[u8]>::len), Some(1500));
    assert_eq!(kept.attributes.bool(A::PRIVATE), Some(false));
    let private = door.create(&data(true, true, b"a secret")).unwrap();
    assert!(private.attributes.bytes(A::VALUE).is_none(), "a data object's value is not among what is seen");
    let public = door.create(&data(true, false, b"a note")).unwrap();
    let empty = door.create(&data(true, true, b"")).unwrap();
    let (session, sealed) =
        (door.create(&certificate(false)).unwrap(), door.create(&data(false, true, b"s")).unwrap());
    assert!(matches!((&session.object, &sealed.object), (ObjectRef::Session(_), ObjectRef::Session(_))));
    let mut door = door.restart();
    assert_eq!(value(&mut door, &private.object), Ok(b"a secret".to_vec()));
    assert_eq!(value(&mut door, &public.object), Ok(b"a note".to_vec()));
    assert_eq!(value(&mut door, &empty.object), Ok(Vec::new()));
    assert_eq!(value(&mut door, &sealed.object), Ok(b"s".to_vec()));
    assert_eq!(value(&mut door, &kept.object), Err(Rv::ATTRIBUTE_TYPE_INVALID));
    door.set(&private.object, &[Attribute::bytes(A::LABEL, "renamed")]).unwrap();
    assert_eq!(value(&mut door, &private.object), Ok(b"a secret".to_vec()));
    let long = door.find(vec![Attribute::bytes(A::APPLICATION, "oracle")]);
    assert_eq!(long.len(), 3);
    let copied = door.copy(&private.object, &[Attribute::bytes(A::LABEL, "copied")]).unwrap();
    assert_eq!(value(&mut door, &copied.object), Ok(b"a secret".to_vec()));
    let user = door.ticket.take();
    assert_eq!(value(&mut door, &private.object), Err(Rv::OBJECT_HANDLE_INVALID));
    assert_eq!(value(&mut door, &public.object), Ok(b"a note".to_vec()));
    assert_eq!(door.find(vec![]).len(), 2);
    door.ticket = user;
    let destroy = Request::Destroy { object: kept.object.clone() };
    door.ask_as(RequestId([77; 16]), destroy.clone()).unwrap();
    door.ask_as(RequestId([77; 16]), destroy.clone()).expect("it is repeated");
    assert_eq!(door.ask_as(RequestId([78; 16]), destroy), Err(Rv::OBJECT_HANDLE_INVALID));
    assert!(door.find(vec![Attribute::bytes(A::LABEL, "certificate")]).is_empty());
    assert!(door.backend.keys(None).unwrap().is_empty(), "none of them is a key");
}

#[test]
fn an_edited_value_is_refused() {
    let Some(mut door) = Door::new("imports::an_edited_value_is_refused") else { return };
    door.log_in(Role::User, "1234").unwrap();
    door.create(&data(true, true, b"one")).unwrap();
    door.create(&data(true, true, b"two")).unwrap();
    let database = Config::read(&door.home.join(config::FILE_NAME)).unwrap().store_path();
    let editor = rusqlite::Connection::open(database).unwrap();
    let sql = "UPDATE objects SET wrapped = (SELECT wrapped FROM objects WHERE id = 1) WHERE id = 2";
    assert_eq!(editor.execute(sql, []).unwrap(), 1);
    let mut door = door.restart();
    assert_eq!(door.find(vec![]).len(), 1);
}

#[test]
fn templates_of_objects_are_checked() {
    let Some(mut door) = Door::new("imports::templates_of_objects_are_checked") else { return };
    door.log_in(Role::User, "1234").unwrap();
    let without = |template: Vec<Attribute>, kind| -> Vec<Attribute> {
        template.into_iter().filter(|attribute| attribute.kind != kind).collect()
    };
    for (template, expected) in [
        (without(certificate(true), A::CLASS), Rv::TEMPLATE_INCOMPLETE),
        (without(certificate(true), A::CERTIFICATE_TYPE), Rv::TEMPLATE_INCOMPLETE),
        (without(certificate(true), A::SUBJECT), Rv::TEMPLATE_INCOMPLETE),
        (without(certificate(true), A::VALUE), Rv::TEMPLATE_INCOMPLETE),
        ([certificate(true), vec![yes(A::TRUSTED)]].concat(), Rv::ATTRIBUTE_READ_ONLY),
        ([certificate(true), vec![yes(A::SENSITIVE)]].concat(), Rv::ATTRIBUTE_TYPE_INVALID),
        (data(true, true, &[0; 17 << 10]), Rv::ATTRIBUTE_VALUE_INVALID),
        (vec![Attribute::ulong(A::CLASS, 5)], Rv::ATTRIBUTE_VALUE_INVALID),
        (vec![Attribute::ulong(A::CLASS, 4)], Rv::TEMPLATE_INCOMPLETE),
        (secret(KeyType::AES).to_vec(), Rv::TEMPLATE_INCOMPLETE),
        (
            [&secret(KeyType::AES)[..], &[Attribute::bytes(A::VALUE, vec![1; 15])]].concat(),
            Rv::ATTRIBUTE_VALUE_INVALID,
        ),
        (
            [&secret(KeyType::AES)[..], &[Attribute::bytes(A::VALUE, vec![1; 16]), yes(A::LOCAL)]].concat(),
            Rv::ATTRIBUTE_READ_ONLY,
        ),
        (
            [
                &secret(KeyType::AES)[..],
                &[Attribute::bytes(A::VALUE, vec![1; 16]), Attribute::bytes(A::CHECK_VALUE, vec![1, 2, 3])],
            ]
            .concat(),
            Rv::ATTRIBUTE_VALUE_INVALID,
        ),
    ] {
        assert_eq!(door.create(&template).map(drop), Err(expected), "{template:?}");
    }
}

#[test]
fn a_compat_ring_takes_keys_in_plaintext_and_copies_them() {
    let Some(mut door) = Door::new("imports::a_compat_ring_takes_keys_in_plaintext_and_copies_them") else {
        return;
    };
    door.slot = SlotId(1);
    door.log_in(Role::User, "1234").unwrap();
    let plain =
        [Attribute::bytes(A::VALUE, vec![7; 32]), yes(A::TOKEN), no(A::SENSITIVE), yes(A::EXTRACTABLE)];
    let key = door.create(&[&secret(KeyType::AES)[..], &plain, &[yes(A::COPYABLE)]].concat()).unwrap();
    assert_eq!(key.attributes.bool(A::LOCAL), Some(false));
    assert_eq!(key.attributes.bool(A::NEVER_EXTRACTABLE), Some(false));
    assert_eq!(key.attributes.ulong(A::VALUE_LEN), Some(32));
    assert_eq!(value(&mut door, &key.object), Ok(vec![7; 32]));
    let ciphertext = door.encrypt(&key.object, b"data").unwrap();
    for token in [true, false] {
        let copy = door.copy(&key.object, &[yes(A::SENSITIVE), Attribute::bool(A::TOKEN, token)]).unwrap();
        assert_eq!(*door.decrypt(&copy.object, &ciphertext).unwrap(), *b"data");
        assert_eq!(door.reveal(&copy.object), Err(Rv::ATTRIBUTE_SENSITIVE));
        assert_ne!(copy.attributes.bytes(A::UNIQUE_ID), key.attributes.bytes(A::UNIQUE_ID));
        assert_eq!(door.copy(&copy.object, &[no(A::SENSITIVE)]).map(drop), Err(Rv::TEMPLATE_INCONSISTENT));
    }
    assert_eq!(
        door.copy(&key.object, &[Attribute::bytes(A::VALUE, vec![8; 32])]).map(drop),
        Err(Rv::ATTRIBUTE_READ_ONLY)
    );
    let fixed = door.copy(&key.object, &[no(A::COPYABLE)]).unwrap();
    assert_eq!(door.copy(&fixed.object, &[]).map(drop), Err(Rv::ACTION_PROHIBITED));
}
