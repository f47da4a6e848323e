//! The backend is killed and started again while an application runs.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType};
use cryptoki::session::SessionState;
use cryptoki_sys::{
    CKA_DECRYPT, CKA_ENCRYPT, CKA_LABEL, CKA_TOKEN, CKA_VALUE_LEN, CKM_AES_CBC_PAD, CKM_AES_KEY_GEN,
};
use kms_protocol::Rv;
use kms_tests::client::{Client, load, pin};
use kms_tests::raw::{Mechanism as Raw, Module, Template};
use kms_tests::{SetOnDrop, Stack};

/// The template of an AES key.
pub(crate) fn template(label: &str, token: bool) -> Vec<Attribute> {
    vec![
        Attribute::Token(token),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.into()),
    ]
}

#[test]
fn handles_sessions_and_login_survive_a_backend_restart() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let key =
        session.generate_key(&Mechanism::AesKeyGen, &template("token", true)).expect("the key is generated");
    let session_key =
        session.generate_key(&Mechanism::AesKeyGen, &template("session", false)).expect("a session key");
    let mechanism = Mechanism::AesCbcPad([4; 16]);
    let sealed = session.encrypt(&mechanism, key, b"before").expect("it encrypts");
    let sealed_by_session_key =
        session.encrypt(&mechanism, session_key, b"before, too").expect("it encrypts");
    for _ in 0..3 {
        stack.restart();
        let state = session.get_session_info().expect("the session is there").session_state();
        assert_eq!(state, SessionState::RwUser);
        assert_eq!(session.decrypt(&mechanism, key, &sealed).expect("the key works"), b"before");
        assert_eq!(
            session.decrypt(&mechanism, session_key, &sealed_by_session_key).expect("the session key works"),
            b"before, too"
        );
        let found = session.find_objects(&[Attribute::Label(b"token".to_vec())]).expect("a search");
        assert_eq!(found, [key], "the key keeps its handle");
        session.get_attributes(key, &[AttributeType::Label]).expect("attributes can be read");
        session
            .generate_key(&Mechanism::AesKeyGen, &template("more", true))
            .expect("the login is still valid");
    }
}

#[test]
fn a_multi_part_operation_continues_after_a_restart() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let key =
        session.generate_key(&Mechanism::AesKeyGen, &template("pieces", true)).expect("the key is generated");
    let mechanism = Mechanism::AesCbcPad([4; 16]);
    let data: Vec<u8> = (0..200).collect();
    let whole = session.encrypt(&mechanism, key, &data).expect("it encrypts");
    session.encrypt_init(&mechanism, key).expect("C_EncryptInit succeeds");
    let mut sealed = session.encrypt_update(&data[..100]).expect("the part is accepted");
    stack.restart();
    sealed.extend(session.encrypt_update(&data[100..]).expect("the next part is accepted"));
    sealed.extend(session.encrypt_final().expect("encryption ends"));
    assert_eq!(sealed, whole);
}

#[test]
fn calls_in_flight_succeed_or_return_one_clean_error() {
    let mut stack = Stack::strict();
    let module = Module::load(&stack.module());
    module.initialize(&stack.config_with_timeout(5000)).expect("it initialises");
    let session = module.user("test");
    let template = Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, b"busy");
    let template = template.bool(CKA_ENCRYPT, true).bool(CKA_DECRYPT, true);
    let key = session.generate(Raw::plain(CKM_AES_KEY_GEN), template).expect("the key is generated");
    let (stop, done, failed) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let ending = SetOnDrop(&stop);
        for thread in 0..4_u8 {
            let (module, stop, done, failed) = (&module, &stop, &done, &failed);
            scope.spawn(move || {
                let slot = session.info().expect("the session is there").slotID;
                let session = module.open(slot, cryptoki_sys::CKF_SERIAL_SESSION).expect("a session opens");
                while !stop.load(Ordering::Relaxed) {
                    let mechanism = || Raw::with(CKM_AES_CBC_PAD, &[thread; 16]);
                    match session.encrypt(mechanism(), key, b"in flight") {
                        Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                        Err(Rv::DEVICE_REMOVED | Rv::DEVICE_ERROR | Rv::TOKEN_NOT_PRESENT) => {
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                        Err(other) => panic!("unexpected error: {other}"),
                    };
                }
            });
        }
        for _ in 0..5 {
            let before = done.load(Ordering::Relaxed);
            while done.load(Ordering::Relaxed) < before + 200 {
                std::thread::yield_now();
            }
            stack.restart();
        }
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < before + 200 {
            std::thread::yield_now();
        }
        drop(ending);
    });
    let (done, failed) = (done.into_inner(), failed.into_inner());
    assert!(done > 1000, "{done} done, {failed} failed");
}

#[test]
fn a_requested_key_is_generated_once_although_the_backend_is_killed() {
    let mut stack = Stack::strict();
    let module = Module::load(&stack.module());
    module.initialize(&stack.config_with_timeout(20_000)).expect("it initialises");
    let session = module.user("test");
    let (mut generated, mut kills) = (Vec::new(), 0);
    for number in 0..60_u32 {
        let label = format!("once-{number}");
        let template =
            Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, label.as_bytes());
        let result = std::thread::scope(|scope| {
            let call = scope.spawn(|| session.generate(Raw::plain(CKM_AES_KEY_GEN), template));
            if number % 10 == 9 {
                stack.restart();
                kills += 1;
            }
            call.join().expect("the call returns")
        });
        let found = session.find(Template::new().bytes(CKA_LABEL, label.as_bytes())).expect("a search");
        match result {
            Ok(key) => assert_eq!(found, [key], "{label}"),
            Err(Rv::DEVICE_REMOVED | Rv::DEVICE_ERROR) => assert!(found.len() <= 1, "{label}: {found:?}"),
            Err(other) => panic!("unexpected error: {other}"),
        }
        generated.extend(found);
    }
    assert!(kills == 6 && generated.len() >= 54, "{} keys, {kills} kills", generated.len());
}

#[test]
fn acknowledged_keys_are_durable() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    for round in 0..5 {
        let label = format!("durable-{round}");
        let key = client
            .session
            .generate_key(&Mechanism::AesKeyGen, &template(&label, true))
            .expect("the key is generated");
        stack.kill9();
        stack.start();
        let found = client.session.find_objects(&[Attribute::Label(label.into_bytes())]).expect("a search");
        assert_eq!(found, [key]);
    }
}

#[test]
fn sigterm_stops_quickly_and_removes_the_socket() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    client.session.generate_key(&Mechanism::AesKeyGen, &template("k", true)).expect("the key is generated");
    stack.stop();
    assert!(!stack.socket().exists(), "the socket is removed");
    let removed = client.session.find_objects(&[]);
    assert!(
        matches!(
            removed,
            Err(Error::Pkcs11(RvError::DeviceRemoved | RvError::TokenNotPresent | RvError::DeviceError, _))
        ),
        "{removed:?}"
    );
    stack.start();
    client.session.find_objects(&[]).expect("a search after the start");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a deadline")]
fn a_module_initialised_without_a_backend_connects_later() {
    let mut stack = Stack::stopped(kms_tests::Policy::Strict);
    let pkcs11 = load(&stack.module(), &stack.config());
    assert_eq!(pkcs11.get_slots_with_token().expect("slots can be listed"), []);
    stack.start();
    // Cached slot information may be a second old.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while pkcs11.get_slots_with_token().expect("slots can be listed").is_empty() {
        assert!(std::time::Instant::now() < until, "the token does not appear");
        std::thread::yield_now();
    }
    let slot = kms_tests::client::slot(&pkcs11, stack.ring());
    let session = pkcs11.open_rw_session(slot).expect("a session opens");
    session
        .login(cryptoki::session::UserType::User, Some(&pin(kms_tests::USER_PIN)))
        .expect("the user logs in");
}
