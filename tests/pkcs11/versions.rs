//! Versions of a key: `kms key rotate` moves the label to the new version; older versions stay available.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use kms_tests::Stack;
use kms_tests::client::Client;

use crate::keys;

/// The objects with this label.
fn labelled(client: &Client, label: &str) -> Vec<ObjectHandle> {
    client.session.find_objects(&[Attribute::Label(label.into())]).expect("a search")
}

#[test]
fn the_label_moves_to_the_new_version_and_the_id_stays() {
    let mut stack = Stack::strict();
    let cbc = Mechanism::AesCbcPad([4; 16]);
    let client = Client::user(&stack);
    let first = keys::aes(&client, "invoices");
    let sealed = client.session.encrypt(&cbc, first, b"of the first version").expect("it encrypts");
    let id = client.bytes(first, AttributeType::Id);
    for version in ["2", "3"] {
        stack.stop();
        let output = stack.kms(&["key", "rotate", "--ring", "test", "invoices"]).ok();
        assert!(output.contains(&format!("has version {version} now")), "{output}");
        stack.start();
    }
    let [current] = labelled(&client, "invoices")[..] else { panic!("one key has the label") };
    let [old] = labelled(&client, "invoices#1")[..] else { panic!("the first version has its own label") };
    assert_eq!(labelled(&client, "invoices#2").len(), 1);
    assert_ne!(client.bytes(current, AttributeType::Id), id);
    let by_id = client.session.find_objects(&[Attribute::Id(id)]).expect("a search");
    assert_eq!(by_id, [old]);
    assert_eq!(client.session.decrypt(&cbc, old, &sealed).expect("it decrypts"), b"of the first version");
    assert!(client.session.decrypt(&cbc, current, &sealed).is_err(), "the current version is another key");
    let check = |key| client.bytes(key, AttributeType::CheckValue);
    assert_ne!(check(old), check(current));
    let again = client.session.encrypt(&cbc, current, b"of the third").expect("it encrypts");
    assert_eq!(client.session.decrypt(&cbc, current, &again).expect("it decrypts"), b"of the third");
}

#[test]
fn key_pairs_have_versions() {
    let mut stack = Stack::strict();
    let mechanism = Mechanism::Sha256RsaPkcs;
    let client = Client::user(&stack);
    let (_, private) = keys::rsa(&client, 2048);
    let signature = client.session.sign(&mechanism, private, b"message").expect("it signs");
    stack.stop();
    stack.kms(&["key", "rotate", "--ring", "test", "rsa"]).ok();
    stack.start();
    let verifies = |label: &str| {
        let public = [Attribute::Label(label.into()), Attribute::Verify(true)];
        let [public] = client.session.find_objects(&public).expect("a search")[..] else { panic!("{label}") };
        client.session.verify(&mechanism, public, b"message", &signature).is_ok()
    };
    assert!(verifies("rsa#1") && !verifies("rsa"));
    let private = [Attribute::Label(b"rsa".to_vec()), Attribute::Sign(true)];
    let private = client.session.find_objects(&private).expect("a search")[0];
    client.session.sign(&mechanism, private, b"message").expect("the current version signs");
}
