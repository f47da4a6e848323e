//! "Session management functions": the five session states, and the end of a login.

use cryptoki::error::RvError;
use cryptoki::object::Attribute;
use cryptoki::session::{SessionState, UserType};
use kms_tests::client::{Client, pin, refused};
use kms_tests::{SO_PIN, Stack, USER_PIN};

use crate::keys;

#[test]
fn session_states_follow_the_login() {
    let stack = Stack::strict();
    let client = Client::public(&stack);
    let reader = client.pkcs11.open_ro_session(client.slot).expect("a session opens");
    let states = || {
        let of = |session: &cryptoki::session::Session| {
            session.get_session_info().expect("session info is returned")
        };
        (of(&client.session).session_state(), of(&reader).session_state())
    };
    assert_eq!(states(), (SessionState::RwPublic, SessionState::RoPublic));
    reader.login(UserType::User, Some(&pin(USER_PIN))).expect("the user logs in");
    assert_eq!(states(), (SessionState::RwUser, SessionState::RoUser));
    refused(client.session.login(UserType::User, Some(&pin(USER_PIN))), RvError::UserAlreadyLoggedIn);
    // Two errors apply: the user is logged in, and there is a read-only session.
    let (code, _) = kms_tests::client::code(client.session.login(UserType::So, Some(&pin(SO_PIN))));
    let known = matches!(code, RvError::UserAnotherAlreadyLoggedIn | RvError::SessionReadOnlyExists);
    assert!(known, "{code:?}");
    client.session.logout().expect("the user logs out");
    assert_eq!(states(), (SessionState::RwPublic, SessionState::RoPublic));
    refused(client.session.login(UserType::So, Some(&pin(SO_PIN))), RvError::SessionReadOnlyExists);
    reader.close().expect("the session closes");
    client.session.login(UserType::So, Some(&pin(SO_PIN))).expect("the officer logs in");
    let info = client.session.get_session_info().expect("session info is returned");
    assert_eq!(info.session_state(), SessionState::RwSecurityOfficer);
    refused(client.pkcs11.open_ro_session(client.slot), RvError::SessionReadWriteSoExists);
}

#[test]
fn the_login_ends_with_the_last_session() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let (pkcs11, slot) = (client.pkcs11.clone(), client.slot);
    let second = pkcs11.open_rw_session(slot).expect("a session opens");
    client.session.close().expect("the session closes");
    let state = |session: &cryptoki::session::Session| {
        session.get_session_info().expect("info is returned").session_state()
    };
    assert_eq!(state(&second), SessionState::RwUser);
    second.close().expect("the session closes");
    let third = pkcs11.open_rw_session(slot).expect("a session opens");
    assert_eq!(state(&third), SessionState::RwPublic);
}

#[test]
fn read_only_sessions_create_no_token_objects() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let key = keys::aes(&client, "kept");
    let reader = client.pkcs11.open_ro_session(client.slot).expect("a session opens");
    let template = [Attribute::Token(true), Attribute::ValueLen(32.into())];
    refused(
        reader.generate_key(&cryptoki::mechanism::Mechanism::AesKeyGen, &template),
        RvError::SessionReadOnly,
    );
    refused(reader.destroy_object(key), RvError::SessionReadOnly);
    refused(reader.update_attributes(key, &[Attribute::Label(b"x".to_vec())]), RvError::SessionReadOnly);
    // Session keys are not token objects, and using a key changes nothing.
    let template = [Attribute::Token(false), Attribute::ValueLen(32.into())];
    reader
        .generate_key(&cryptoki::mechanism::Mechanism::AesKeyGen, &template)
        .expect("the session key is generated");
    reader.encrypt(&cryptoki::mechanism::Mechanism::AesEcb, key, &[0; 16]).expect("a token key is used");
}
