//! `CKA_ALWAYS_AUTHENTICATE` through the C API: a context-specific login between `C_*Init` and the use, for each use;
//! in parts, with length queries, in a forked child.

use cryptoki_sys::{
    CK_OBJECT_HANDLE, CKA_ALWAYS_AUTHENTICATE, CKA_DECRYPT, CKA_ENCRYPT, CKA_LABEL, CKA_MODULUS_BITS,
    CKA_SIGN, CKA_TOKEN, CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_RSA_PKCS_OAEP, CKM_SHA256_RSA_PKCS,
    CKU_CONTEXT_SPECIFIC, CKU_USER,
};
use kms_protocol::Rv;
use kms_tests::child::isolated;
use kms_tests::raw::{Mechanism, Module, OutputSize, Session, Template};
use kms_tests::{Policy, USER_PIN};

use crate::fork::{SUCCESS, in_fork};

const LABEL: &[u8] = b"asks each time";

fn pair(session: &Session<'_>) -> (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) {
    let public = Template::new().ulong(CKA_MODULUS_BITS, 2048).bool(CKA_TOKEN, true).bool(CKA_ENCRYPT, true);
    let private = Template::new().bool(CKA_TOKEN, true).bool(CKA_SIGN, true).bool(CKA_DECRYPT, true);
    let private = private.bool(CKA_ALWAYS_AUTHENTICATE, true).bytes(CKA_LABEL, LABEL);
    let pair = session.generate_pair(Mechanism::plain(CKM_RSA_PKCS_KEY_PAIR_GEN), public, private);
    pair.expect("the pair is generated")
}

fn sign_init(session: &Session<'_>, key: CK_OBJECT_HANDLE) {
    session.sign_init(Mechanism::plain(CKM_SHA256_RSA_PKCS), key).expect("C_SignInit needs no PIN");
}

fn context_login(session: &Session<'_>) {
    session.login(CKU_CONTEXT_SPECIFIC, USER_PIN.as_bytes()).expect("the PIN is right");
}

/// Begins a signature, logs in for it, and signs.
fn signs(session: &Session<'_>, key: CK_OBJECT_HANDLE) -> bool {
    session.sign_init(Mechanism::plain(CKM_SHA256_RSA_PKCS), key) == Ok(())
        && session.login(CKU_CONTEXT_SPECIFIC, USER_PIN.as_bytes()) == Ok(())
        && session.sign_into(b"message", OutputSize::Bytes(256)).is_ok_and(|(bytes, _)| bytes.len() == 256)
}

#[test]
fn each_use_needs_a_login_of_its_own() {
    isolated(Policy::Strict, |target| {
        let module = Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        let (public, key) = pair(&session);
        let refused = Err(Rv::USER_NOT_LOGGED_IN);
        // Nothing waits for a login.
        assert_eq!(
            session.login(CKU_CONTEXT_SPECIFIC, USER_PIN.as_bytes()),
            Err(Rv::OPERATION_NOT_INITIALIZED)
        );
        sign_init(&session, key);
        let without = session.sign_into(b"message", OutputSize::Bytes(256)).map(drop).map_err(|(rv, _)| rv);
        assert_eq!(without, refused);
        // A wrong PIN leaves the operation waiting.
        sign_init(&session, key);
        assert_eq!(session.login(CKU_CONTEXT_SPECIFIC, b"wrong"), Err(Rv::PIN_INCORRECT));
        context_login(&session);
        // Length queries and short buffers do not use the proof up.
        assert_eq!(session.sign_into(b"message", OutputSize::Query).expect("a length").1, 256);
        let short = session.sign_into(b"message", OutputSize::Bytes(10)).map(drop).map_err(|(rv, _)| rv);
        assert_eq!(short, Err(Rv::BUFFER_TOO_SMALL));
        let (first, _) = session.sign_into(b"message", OutputSize::Bytes(256)).expect("it signs");
        // The login of the session did not end, and does not count for the next use.
        assert_eq!(session.login(CKU_USER, USER_PIN.as_bytes()), Err(Rv::USER_ALREADY_LOGGED_IN));
        sign_init(&session, key);
        let second = session.sign_into(b"message", OutputSize::Bytes(256)).map(drop).map_err(|(rv, _)| rv);
        assert_eq!(second, refused);
        assert_eq!(session.login(CKU_USER, USER_PIN.as_bytes()), Err(Rv::USER_ALREADY_LOGGED_IN));
        // In parts.
        sign_init(&session, key);
        session.sign_update(b"mess").expect("a part");
        context_login(&session);
        session.sign_update(b"age").expect("a part");
        assert_eq!(session.sign_final(OutputSize::Bytes(256)).expect("it signs").0, first);
        // Signing and decrypting wait at the same time; one login is for both.
        let parameters: [usize; 5] = [0x250, 2, 1, 0, 0];
        let parameters: Vec<u8> = parameters.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let oaep = || Mechanism::with(CKM_RSA_PKCS_OAEP, &parameters);
        let sealed = session.encrypt(oaep(), public, b"secret").expect("it encrypts");
        session.decrypt_init(oaep(), key).expect("C_DecryptInit needs no PIN");
        sign_init(&session, key);
        context_login(&session);
        let (opened, _) = session.decrypt_into(&sealed, OutputSize::Bytes(256)).expect("it decrypts");
        assert_eq!(opened, b"secret");
        assert_eq!(session.sign_into(b"message", OutputSize::Bytes(256)).expect("it signs").0, first);
        session.decrypt_init(oaep(), key).expect("C_DecryptInit needs no PIN");
        let without = session.decrypt_into(&sealed, OutputSize::Bytes(256)).map(drop).map_err(|(rv, _)| rv);
        assert_eq!(without, refused);
        // A forked child logs in for itself.
        let ended = in_fork(|| {
            module.initialize_bare() == Ok(()) && {
                let session = module.user("test");
                let found = session.find(Template::new().bytes(CKA_LABEL, LABEL));
                found.is_ok_and(|found| found.len() == 1 && signs(&session, found[0]))
            }
        });
        assert_eq!(ended, SUCCESS);
        assert!(signs(&session, key), "the parent still works");
    });
}
