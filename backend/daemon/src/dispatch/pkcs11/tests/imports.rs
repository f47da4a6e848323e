//! Objects that are created and copied: keys, certificates, data.

use kms_core::object::KeySpec;
use kms_protocol::AttributeType as A;

use super::requests::{no, secret, yes};
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

fn value(fixture: &mut Fixture, object: &ObjectRef) -> Result<Vec<u8>, Rv> {
    fixture.reveal(object).map(|secrets| secrets.bytes(A::VALUE).unwrap().to_vec())
}

#[test]
fn certificates_and_data_are_stored_and_deleted() {
    let Some(mut fixture) = Fixture::new("imports::certificates_and_data_are_stored_and_deleted") else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let stored = fixture.create(&certificate(true)).unwrap();
    assert_eq!(stored.attributes.bytes(A::VALUE).map(<[u8]>::len), Some(1500));
    assert_eq!(stored.attributes.bool(A::PRIVATE), Some(false));
    let private = fixture.create(&data(true, true, b"a secret")).unwrap();
    assert!(
        private.attributes.bytes(A::VALUE).is_none(),
        "the value of a data object is not among its attributes"
    );
    let public = fixture.create(&data(true, false, b"a note")).unwrap();
    let empty = fixture.create(&data(true, true, b"")).unwrap();
    let (session, sealed) =
        (fixture.create(&certificate(false)).unwrap(), fixture.create(&data(false, true, b"s")).unwrap());
    assert!(matches!((&session.object, &sealed.object), (ObjectRef::Session(_), ObjectRef::Session(_))));
    let mut fixture = fixture.restart();
    assert_eq!(value(&mut fixture, &private.object), Ok(b"a secret".to_vec()));
    assert_eq!(value(&mut fixture, &public.object), Ok(b"a note".to_vec()));
    assert_eq!(value(&mut fixture, &empty.object), Ok(Vec::new()));
    assert_eq!(value(&mut fixture, &sealed.object), Ok(b"s".to_vec()));
    assert_eq!(value(&mut fixture, &stored.object), Err(Rv::ATTRIBUTE_TYPE_INVALID));
    fixture.set(&private.object, &[Attribute::bytes(A::LABEL, "renamed")]).unwrap();
    assert_eq!(value(&mut fixture, &private.object), Ok(b"a secret".to_vec()));
    let long = fixture.find(vec![Attribute::bytes(A::APPLICATION, "oracle")]);
    assert_eq!(long.len(), 3);
    let copied = fixture.copy(&private.object, &[Attribute::bytes(A::LABEL, "copied")]).unwrap();
    assert_eq!(value(&mut fixture, &copied.object), Ok(b"a secret".to_vec()));
    let user = fixture.ticket.take();
    assert_eq!(value(&mut fixture, &private.object), Err(Rv::OBJECT_HANDLE_INVALID));
    assert_eq!(value(&mut fixture, &public.object), Ok(b"a note".to_vec()));
    assert_eq!(fixture.find(vec![]).len(), 2);
    fixture.ticket = user;
    let destroy = Request::Destroy { object: stored.object.clone() };
    fixture.send_with_id(RequestId([77; 16]), destroy.clone()).unwrap();
    fixture.send_with_id(RequestId([77; 16]), destroy.clone()).expect("the request is repeated");
    assert_eq!(fixture.send_with_id(RequestId([78; 16]), destroy), Err(Rv::OBJECT_HANDLE_INVALID));
    assert!(fixture.find(vec![Attribute::bytes(A::LABEL, "certificate")]).is_empty());
    assert!(fixture.backend.keys(None).unwrap().is_empty(), "none of them is a key");
}

#[test]
fn an_edited_value_is_rejected() {
    let Some(mut fixture) = Fixture::new("imports::an_edited_value_is_rejected") else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    fixture.create(&data(true, true, b"one")).unwrap();
    fixture.create(&data(true, true, b"two")).unwrap();
    let database = Config::read(&fixture.home.join(config::FILE_NAME)).unwrap().store_path();
    let editor = rusqlite::Connection::open(database).unwrap();
    let sql = "UPDATE objects SET wrapped = (SELECT wrapped FROM objects WHERE id = 1) WHERE id = 2";
    assert_eq!(editor.execute(sql, []).unwrap(), 1);
    let mut fixture = fixture.restart();
    assert_eq!(fixture.find(vec![]).len(), 1);
}

#[test]
fn templates_of_objects_are_checked() {
    let Some(mut fixture) = Fixture::new("imports::templates_of_objects_are_checked") else { return };
    fixture.log_in(Role::User, "1234").unwrap();
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
        assert_eq!(fixture.create(&template).map(drop), Err(expected), "{template:?}");
    }
}

#[test]
fn a_compat_ring_creates_keys_in_plaintext_and_copies_them() {
    let Some(mut fixture) = Fixture::new("imports::a_compat_ring_creates_keys_in_plaintext_and_copies_them")
    else {
        return;
    };
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    let plain =
        [Attribute::bytes(A::VALUE, vec![7; 32]), yes(A::TOKEN), no(A::SENSITIVE), yes(A::EXTRACTABLE)];
    let key = fixture.create(&[&secret(KeyType::AES)[..], &plain, &[yes(A::COPYABLE)]].concat()).unwrap();
    assert_eq!(key.attributes.bool(A::LOCAL), Some(false));
    assert_eq!(key.attributes.bool(A::NEVER_EXTRACTABLE), Some(false));
    assert_eq!(key.attributes.ulong(A::VALUE_LEN), Some(32));
    assert_eq!(value(&mut fixture, &key.object), Ok(vec![7; 32]));
    let ciphertext = fixture.encrypt(&key.object, b"data").unwrap();
    for token in [true, false] {
        let copy = fixture.copy(&key.object, &[yes(A::SENSITIVE), Attribute::bool(A::TOKEN, token)]).unwrap();
        assert_eq!(*fixture.decrypt(&copy.object, &ciphertext).unwrap(), *b"data");
        assert_eq!(fixture.reveal(&copy.object), Err(Rv::ATTRIBUTE_SENSITIVE));
        assert_ne!(copy.attributes.bytes(A::UNIQUE_ID), key.attributes.bytes(A::UNIQUE_ID));
        assert_eq!(fixture.copy(&copy.object, &[no(A::SENSITIVE)]).map(drop), Err(Rv::TEMPLATE_INCONSISTENT));
    }
    assert_eq!(
        fixture.copy(&key.object, &[Attribute::bytes(A::VALUE, vec![8; 32])]).map(drop),
        Err(Rv::ATTRIBUTE_READ_ONLY)
    );
    let fixed = fixture.copy(&key.object, &[no(A::COPYABLE)]).unwrap();
    assert_eq!(fixture.copy(&fixed.object, &[]).map(drop), Err(Rv::ACTION_PROHIBITED));
}

#[test]
fn an_rsa_key_with_a_small_exponent_is_imported_in_a_compat_ring_only() {
    let test = "imports::an_rsa_key_with_a_small_exponent_is_imported_in_a_compat_ring_only";
    let Some(mut fixture) = Fixture::new(test) else { return };
    let key = |exponent: &[u8]| {
        let spec = KeySpec::Rsa { bits: 2048, exponent: exponent.to_vec() };
        let random = SystemRandom::new();
        let made = kms_crypto::generate(&spec, &random).unwrap();
        let rsa = <rsa::PrivateKey as rsa::pkcs8::DecodePrivateKey>::from_pkcs8_der(made.material.as_ref());
        let rsa = rsa.unwrap();
        let private = rsa::traits::PrivateKeyParts::d(&rsa).to_be_bytes();
        let primes = rsa::traits::PrivateKeyParts::primes(&rsa);
        let attributes = Template(made.attributes);
        vec![
            Attribute::ulong(A::CLASS, u64::from(ObjectClass::PRIVATE_KEY.0)),
            Attribute::ulong(A::KEY_TYPE, u64::from(KeyType::RSA.0)),
            Attribute::bool(A::TOKEN, false),
            Attribute::bytes(A::MODULUS, attributes.bytes(A::MODULUS).unwrap()),
            Attribute::bytes(A::PUBLIC_EXPONENT, exponent),
            Attribute::bytes(A::PRIVATE_EXPONENT, private.to_vec()),
            Attribute::bytes(A::PRIME_1, primes[0].to_be_bytes().to_vec()),
            Attribute::bytes(A::PRIME_2, primes[1].to_be_bytes().to_vec()),
        ]
    };
    let (small, usual) = (key(&[3]), key(&[1, 0, 1]));
    fixture.log_in(Role::User, "1234").unwrap();
    assert_eq!(fixture.create(&small).unwrap_err(), Rv::ATTRIBUTE_VALUE_INVALID);
    fixture.create(&usual).unwrap();
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    fixture.create(&small).unwrap();
}
