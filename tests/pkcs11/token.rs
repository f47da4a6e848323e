//! "Slot and token management functions" that change a token: `C_InitToken`, `C_InitPIN`, and the
//! security officer's session.

use cryptoki::error::RvError;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{SessionState, UserType};
use kms_tests::client::{self, Client, pin, refused};
use kms_tests::{SO_PIN, Stack, USER_PIN};

use crate::keys;

#[test]
fn a_token_is_reinitialised() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    keys::aes(&client, "erased");
    refused(client.pkcs11.init_token(client.slot, &pin(SO_PIN), "test"), RvError::SessionExists);
    let Client { session, slot, pkcs11 } = client;
    session.close().expect("the session closes");
    refused(pkcs11.init_token(slot, &pin(USER_PIN), "test"), RvError::PinIncorrect);
    pkcs11.init_token(slot, &pin(SO_PIN), "renamed").expect("the officer initialises");
    let token = pkcs11.get_token_info(slot).expect("token info is returned");
    assert_eq!(token.label(), "renamed");
    assert!(token.token_initialized() && !token.user_pin_initialized(), "{token:?}");
    let session = pkcs11.open_rw_session(slot).expect("a session opens");
    refused(session.login(UserType::User, Some(&pin(USER_PIN))), RvError::UserPinNotInitialized);
    session.login(UserType::So, Some(&pin(SO_PIN))).expect("the officer logs in");
    session.init_pin(&pin("99999")).expect("the officer sets the PIN");
    session.logout().expect("the officer logs out");
    session.login(UserType::User, Some(&pin("99999"))).expect("the user logs in");
    assert_eq!(session.find_objects(&[]).expect("a search"), [], "the ring is empty");
}

#[test]
fn the_officers_session() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    keys::aes(&client, "private");
    client.session.logout().expect("the user logs out");
    let reading = client.pkcs11.open_ro_session(client.slot).expect("a session opens");
    refused(client.session.login(UserType::So, Some(&pin(SO_PIN))), RvError::SessionReadOnlyExists);
    reading.close().expect("it closes");
    client.session.login(UserType::So, Some(&pin(SO_PIN))).expect("the officer logs in");
    refused(client.session.login(UserType::User, Some(&pin(USER_PIN))), RvError::UserAnotherAlreadyLoggedIn);
    let state = client.session.get_session_info().expect("session info is returned").session_state();
    assert!(matches!(state, SessionState::RwSecurityOfficer), "{state:?}");
    refused(client.pkcs11.open_ro_session(client.slot), RvError::SessionReadWriteSoExists);
    let seen = client.session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).expect("a search");
    assert_eq!(seen, [], "the officer sees no private object");
    let template = [Attribute::Token(true), Attribute::ValueLen(32.into())];
    let mechanism = cryptoki::mechanism::Mechanism::AesKeyGen;
    assert!(client.session.generate_key(&mechanism, &template).is_err(), "the officer generates no key");
}

#[test]
fn a_free_slot_becomes_a_ring_when_configured() {
    let mut stack = Stack::stopped(kms_tests::Policy::Strict);
    let path = stack.home().join("kms.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration can be read");
    let allowed = text.replace("# free_slot = false", "free_slot = true");
    assert_ne!(text, allowed);
    std::fs::write(&path, allowed).expect("the configuration can be written");
    stack.start();
    let pkcs11 = client::load(&stack.module(), &stack.config());
    let slots = pkcs11.get_slots_with_token().expect("slots can be listed");
    let blank = |slot: &&cryptoki::slot::Slot| {
        pkcs11.get_token_info(**slot).is_ok_and(|token| !token.token_initialized())
    };
    let free = *slots.iter().find(blank).expect("one token is not initialised");
    pkcs11.init_token(free, &pin("87654321"), "mine").expect("a ring is created");
    let slot = client::slot(&pkcs11, "mine");
    let session = pkcs11.open_rw_session(slot).expect("a session opens");
    session.login(UserType::So, Some(&pin("87654321"))).expect("its officer logs in");
    session.init_pin(&pin("4321")).expect("the officer sets the PIN");
    session.logout().expect("the officer logs out");
    session.login(UserType::User, Some(&pin("4321"))).expect("the user logs in");
    let client = Client { session, slot, pkcs11 };
    keys::aes(&client, "first");
    assert!(stack.kms(&["ring", "list"]).ok().contains("mine"));
}
