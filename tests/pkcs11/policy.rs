//! What a strict ring refuses and a compat ring allows.

use cryptoki::error::RvError;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType};
use kms_tests::client::{Client, code};
use kms_tests::{Policy, Stack};

use crate::keys;

fn session(policy: Policy) -> (Stack, Client) {
    let stack = Stack::new(policy);
    let client = Client::user(&stack);
    (stack, client)
}

fn flags(client: &Client, template: &[Attribute], kinds: &[AttributeType]) -> Vec<Attribute> {
    let key = client.session.generate_key(&Mechanism::AesKeyGen, template).expect("the key is generated");
    client.session.get_attributes(key, kinds).expect("attributes can be read")
}

#[test]
fn strict_keys_are_sensitive_and_stay_inside() {
    let (_stack, client) = session(Policy::Strict);
    let kinds = [AttributeType::Sensitive, AttributeType::Extractable, AttributeType::Private];
    let inside = [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Private(true)];
    assert_eq!(flags(&client, &[Attribute::Token(true), Attribute::ValueLen(32.into())], &kinds), inside);
    let asked = [Attribute::Token(true), Attribute::ValueLen(32.into()), Attribute::Extractable(true)];
    let outside = [Attribute::Sensitive(true), Attribute::Extractable(true), Attribute::Private(true)];
    assert_eq!(flags(&client, &asked, &kinds), outside);
}

#[test]
fn no_strict_token_key_is_in_the_clear() {
    let (_stack, client) = session(Policy::Strict);
    let template = [
        Attribute::Token(true),
        Attribute::ValueLen(32.into()),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    // Recorded as sensitive, so that applications which always ask so work all the same (decision 0009).
    let key = client.session.generate_key(&Mechanism::AesKeyGen, &template).expect("the key is generated");
    let found =
        client.session.get_attributes(key, &[AttributeType::Sensitive]).expect("attributes can be read");
    assert_eq!(found, [Attribute::Sensitive(true)]);
    keys::is_sensitive(&client, key, &[AttributeType::Value]);
}

#[test]
fn no_strict_key_comes_to_both_wrap_and_decrypt() {
    // Who asks for both at once gets a key of two halves: `attacks::wrap_then_decrypt`.
    let (_stack, client) = session(Policy::Strict);
    let key = keys::aes(&client, "decrypts");
    let changed = client.session.update_attributes(key, &[Attribute::Wrap(true)]);
    assert!(changed.is_err(), "a key that decrypts learns to wrap");
    let plain = [Attribute::Token(true), Attribute::ValueLen(32.into())];
    let kinds = [AttributeType::Wrap, AttributeType::Decrypt, AttributeType::Unwrap, AttributeType::Encrypt];
    let defaults = flags(&client, &plain, &kinds);
    assert!(
        !(defaults[0] == Attribute::Wrap(true) && defaults[1] == Attribute::Decrypt(true)),
        "{defaults:?}"
    );
    assert!(
        !(defaults[2] == Attribute::Unwrap(true) && defaults[3] == Attribute::Encrypt(true)),
        "{defaults:?}"
    );
}

#[test]
fn strict_neither_decrypts_nor_lists_pkcs1_decryption() {
    let (_stack, client) = session(Policy::Strict);
    let (public, private) = keys::rsa(&client, 2048);
    let info =
        client.pkcs11.get_mechanism_info(client.slot, MechanismType::RSA_PKCS).expect("info is returned");
    assert!(info.sign() && info.verify() && !info.encrypt() && !info.decrypt());
    for refusal in [
        code(client.session.decrypt(&Mechanism::RsaPkcs, private, &[1; 256])).0,
        code(client.session.encrypt(&Mechanism::RsaPkcs, public, b"secret")).0,
    ] {
        assert!(
            matches!(refusal, RvError::MechanismInvalid | RvError::KeyFunctionNotPermitted),
            "{refusal:?}"
        );
    }
}

#[test]
fn compat_keys_can_be_had_in_the_clear_when_asked() {
    let (_stack, client) = session(Policy::Compat);
    let (key, value) = keys::open_aes(&client, 32);
    assert_eq!(value.len(), 32);
    let kinds = [AttributeType::AlwaysSensitive, AttributeType::NeverExtractable];
    let history = [Attribute::AlwaysSensitive(false), Attribute::NeverExtractable(false)];
    assert_eq!(client.session.get_attributes(key, &kinds).expect("attributes can be read"), history);
}

#[test]
fn compat_is_generous_with_usages() {
    let (_stack, client) = session(Policy::Compat);
    let plain = [Attribute::Token(true), Attribute::ValueLen(32.into())];
    let kinds = [AttributeType::Encrypt, AttributeType::Decrypt];
    assert_eq!(flags(&client, &plain, &kinds), [Attribute::Encrypt(true), Attribute::Decrypt(true)]);
}

#[test]
fn nobody_but_the_officer_trusts() {
    for policy in [Policy::Strict, Policy::Compat] {
        let (_stack, client) = session(policy);
        let key = keys::aes(&client, "trusted?");
        let changed = client.session.update_attributes(key, &[Attribute::Trusted(true)]);
        assert!(changed.is_err(), "a user may not set CKA_TRUSTED ({policy:?})");
        let template = [Attribute::Token(true), Attribute::ValueLen(32.into()), Attribute::Trusted(true)];
        let made = client.session.generate_key(&Mechanism::AesKeyGen, &template);
        assert!(made.is_err(), "nor make a key with it ({policy:?})");
    }
}
