//! "Object management functions": find, read, change, destroy.

use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use kms_tests::Stack;
use kms_tests::client::{Client, refused};

use crate::keys;

#[test]
fn objects_are_found_by_template() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let one = keys::aes(&client, "one");
    let two = keys::aes(&client, "two");
    let (public, private) = keys::rsa(&client, 2048);
    let find = |template: &[Attribute]| {
        let mut found = client.session.find_objects(template).expect("a search");
        found.sort_by_key(|object| object.handle());
        found
    };
    assert_eq!(find(&[Attribute::Label(b"one".to_vec())]), [one]);
    assert_eq!(find(&[Attribute::Class(ObjectClass::SECRET_KEY)]), [one, two]);
    assert_eq!(
        find(&[Attribute::KeyType(KeyType::RSA), Attribute::Class(ObjectClass::PRIVATE_KEY)]),
        [private]
    );
    assert_eq!(find(&[Attribute::Sign(true), Attribute::KeyType(KeyType::RSA)]), [private]);
    let id = client.bytes(public, AttributeType::Id);
    let mut pair = [public, private];
    pair.sort_by_key(|object| object.handle());
    assert_eq!(find(&[Attribute::Id(id)]), pair);
    let modulus = client.bytes(public, AttributeType::Modulus);
    assert_eq!(find(&[Attribute::Modulus(modulus)]), pair);
    assert_eq!(find(&[]).len(), 4);
    assert_eq!(find(&[Attribute::Label(b"three".to_vec())]), []);
    assert_eq!(find(&[Attribute::Label(b"on".to_vec())]), [], "a part of a label is not the label");
    assert_eq!(find(&[Attribute::Application(b"x".to_vec())]), [], "an attribute that keys do not have");
    // The same object, found again, has the same handle.
    assert_eq!(find(&[Attribute::Label(b"two".to_vec())]), find(&[Attribute::Label(b"two".to_vec())]));
}

#[test]
fn many_objects_are_found_page_by_page() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    for number in 0..300 {
        keys::aes(&client, &format!("many-{number}"));
    }
    let found = client.session.find_objects(&[Attribute::KeyType(KeyType::AES)]).expect("a search");
    let mut handles: Vec<_> = found.iter().map(|object| object.handle()).collect();
    handles.sort_unstable();
    handles.dedup();
    assert_eq!(handles.len(), 300);
}

#[test]
fn labels_are_any_bytes() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let long = "ORACLE.SECURITY.KM.ENCRYPTION.".repeat(4);
    for label in [b"".as_slice(), b"with\0null", "überall €".as_bytes(), &[0xff, 0xfe, 0x80], long.as_bytes()]
    {
        let template =
            [Attribute::Token(true), Attribute::ValueLen(16.into()), Attribute::Label(label.to_vec())];
        let key =
            client.session.generate_key(&Mechanism::AesKeyGen, &template).expect("a key with this label");
        assert_eq!(client.bytes(key, AttributeType::Label), label);
        let found = client.session.find_objects(&[Attribute::Label(label.to_vec())]).expect("a search");
        assert_eq!(found, [key]);
    }
}

#[test]
fn labels_and_ids_change_and_the_change_lasts() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let (public, private) = keys::rsa(&client, 2048);
    let new = [Attribute::Label(b"renamed".to_vec()), Attribute::Id(b"\x01\x02".to_vec())];
    for key in [public, private] {
        client.session.update_attributes(key, &new).expect("label and id change");
        assert_eq!(client.bytes(key, AttributeType::Label), b"renamed");
    }
    stack.restart();
    let found = client.session.find_objects(&new).expect("a search after a restart");
    assert_eq!(found.len(), 2);
}

#[test]
fn attribute_changes_are_one_way_and_atomic() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let (key, value) = keys::open_aes(&client, 32);
    // One of the two attributes is read-only, so neither changes.
    let both = [Attribute::Label(b"changed".to_vec()), Attribute::ValueLen(16.into())];
    let (code, _) = kms_tests::client::code(client.session.update_attributes(key, &both));
    assert!(matches!(code, RvError::AttributeReadOnly | RvError::TemplateInconsistent), "{code:?}");
    assert_ne!(client.bytes(key, AttributeType::Label), b"changed");
    client.session.update_attributes(key, &[Attribute::Sensitive(true)]).expect("a key becomes sensitive");
    keys::is_sensitive(&client, key, &[AttributeType::Value]);
    refused(
        client.session.update_attributes(key, &[Attribute::Sensitive(false)]),
        RvError::AttributeReadOnly,
    );
    client
        .session
        .update_attributes(key, &[Attribute::Extractable(false)])
        .expect("a key becomes unextractable");
    refused(
        client.session.update_attributes(key, &[Attribute::Extractable(true)]),
        RvError::AttributeReadOnly,
    );
    let history = [Attribute::AlwaysSensitive(false), Attribute::NeverExtractable(false)];
    let kinds = [AttributeType::AlwaysSensitive, AttributeType::NeverExtractable];
    assert_eq!(client.session.get_attributes(key, &kinds).expect("attributes can be read"), history);
    // The key's value is the same.
    let sealed = client.session.encrypt(&Mechanism::AesEcb, key, &[5; 16]).expect("it encrypts");
    assert_eq!(sealed, kms_tests::openssl::encrypt("aes-256-ecb", &["-nopad"], &value, &[], &[5; 16]));
}

#[test]
fn a_destroyed_object_is_not_found_any_more() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let key = keys::aes(&client, "destroyed");
    let kept = keys::aes(&client, "kept");
    client.session.destroy_object(key).expect("the key is destroyed");
    refused(client.session.encrypt(&Mechanism::AesEcb, key, &[0; 16]), RvError::KeyHandleInvalid);
    refused(client.session.destroy_object(key), RvError::ObjectHandleInvalid);
    assert_eq!(
        client.session.find_objects(&[Attribute::Label(b"destroyed".to_vec())]).expect("a search"),
        []
    );
    stack.restart();
    assert_eq!(client.session.find_objects(&[]).expect("a search"), [kept]);
}
