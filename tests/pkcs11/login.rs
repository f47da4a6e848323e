//! Login and PINs: of the user, the security officer and named principals.

use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use kms_tests::client::{Client, pin, refused};
use kms_tests::{SO_PIN, Stack, USER_PIN};

use crate::keys;

#[test]
fn the_right_pin_logs_in_and_wrong_pins_do_not_lock() {
    let stack = Stack::strict();
    let client = Client::public(&stack);
    for wrong in ["1233", "12345", "", USER_PIN.repeat(50).as_str()] {
        let (code, _) = kms_tests::client::code(client.session.login(UserType::User, Some(&pin(wrong))));
        assert!(matches!(code, RvError::PinIncorrect | RvError::PinLenRange), "{wrong:?}: {code:?}");
    }
    refused(client.session.login(UserType::So, Some(&pin(USER_PIN))), RvError::PinIncorrect);
    client.session.login(UserType::User, Some(&pin(USER_PIN))).expect("the right PIN after wrong ones");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test measures the time of a login")]
fn a_repeated_login_is_quick() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let mut quickest = Duration::MAX;
    for _ in 0..50 {
        client.session.logout().expect("the user logs out");
        let started = Instant::now();
        client.session.login(UserType::User, Some(&pin(USER_PIN))).expect("the user logs in");
        quickest = quickest.min(started.elapsed());
    }
    // Argon2 takes tens of milliseconds. The minimum is used because a busy machine slows down some of the logins.
    assert!(quickest.as_millis() < 5, "the quickest of fifty repeated logins: {quickest:?}");
}

#[test]
fn the_user_changes_the_pin() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    refused(client.session.set_pin(&pin("wrong"), &pin("98765")), RvError::PinIncorrect);
    let (code, _) = kms_tests::client::code(client.session.set_pin(&pin(USER_PIN), &pin("1")));
    assert!(matches!(code, RvError::PinLenRange | RvError::PinInvalid), "{code:?}");
    client.session.set_pin(&pin(USER_PIN), &pin("98765")).expect("the PIN changes");
    keys::aes(&client, "the login is still valid");
    client.session.logout().expect("the user logs out");
    refused(client.session.login(UserType::User, Some(&pin(USER_PIN))), RvError::PinIncorrect);
    client.session.login(UserType::User, Some(&pin("98765"))).expect("the new PIN logs in");
}

#[test]
fn the_officer_sets_the_users_pin_and_ends_older_logins() {
    let stack = Stack::strict();
    let user = Client::user(&stack);
    let key = keys::aes(&user, "before");
    let copy = stack.folder().join("officer.so");
    std::fs::copy(stack.module(), &copy).expect("the module can be copied");
    let pkcs11 = kms_tests::client::load(&copy, &stack.config());
    let officer = pkcs11.open_rw_session(user.slot).expect("a session opens");
    refused(officer.init_pin(&pin("55555")), RvError::UserNotLoggedIn);
    officer.login(UserType::So, Some(&pin(SO_PIN))).expect("the officer logs in");
    officer.init_pin(&pin("55555")).expect("the officer sets the PIN");
    assert_eq!(officer.find_objects(&[]).expect("a search"), [], "the officer sees no private object");
    // A login with the old PIN ends at the next call (decision 0004).
    let used = user.session.encrypt(&cryptoki::mechanism::Mechanism::AesEcb, key, &[0; 16]);
    refused(used, RvError::UserNotLoggedIn);
    user.session.logout().unwrap_or_default();
    user.session.login(UserType::User, Some(&pin("55555"))).expect("the new PIN logs in");
    // Spec, "C_Logout": handles of private objects end with the login, so the key is searched again.
    let found = user.session.find_objects(&[Attribute::Label(b"before".to_vec())]).expect("a search");
    user.session.encrypt(&cryptoki::mechanism::Mechanism::AesEcb, found[0], &[0; 16]).expect("the key works");
}

#[test]
fn private_objects_need_a_login() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let key = keys::aes(&client, "private");
    let (public, _) = keys::rsa(&client, 2048);
    client.session.logout().expect("the user logs out");
    let found = client.session.find_objects(&[]).expect("a search");
    assert_eq!(found.len(), 1, "only the public key is found");
    let (code, _) = kms_tests::client::code(client.session.encrypt(
        &cryptoki::mechanism::Mechanism::AesEcb,
        key,
        &[0; 16],
    ));
    assert!(matches!(code, RvError::KeyHandleInvalid | RvError::UserNotLoggedIn), "{code:?}");
    let template = [Attribute::Token(true), Attribute::ValueLen(32.into())];
    let generated = client.session.generate_key(&cryptoki::mechanism::Mechanism::AesKeyGen, &template);
    refused(generated, RvError::UserNotLoggedIn);
    client.session.login(UserType::User, Some(&pin(USER_PIN))).expect("the user logs in");
    let again = client.session.find_objects(&[Attribute::Label(b"private".to_vec())]).expect("a search");
    assert_eq!(again.len(), 1);
    client.public_key_info(public);
}

#[test]
fn a_named_principal_logs_in() {
    let mut stack = Stack::strict();
    let secret = stack.folder().join("secret");
    std::fs::write(&secret, "swordfish\n").expect("a file can be written");
    stack
        .kms(&[
            "account",
            "add",
            "alice",
            "--ring",
            "test",
            "--secret-file",
            secret.to_str().expect("a path"),
        ])
        .ok();
    stack.restart();
    let client = Client::public(&stack);
    refused(client.session.login(UserType::User, Some(&pin("alice:perch"))), RvError::PinIncorrect);
    refused(client.session.login(UserType::User, Some(&pin("bob:swordfish"))), RvError::PinIncorrect);
    client.session.login(UserType::User, Some(&pin("alice:swordfish"))).expect("alice logs in");
    client.session.find_objects(&[]).expect("alice can search");
}
