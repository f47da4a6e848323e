//! The ledger of protected values, which must never appear in an output, and how the walk learns them.
//!
//! The walk knows the values that it imports. It learns values that the KMS generates through an escrow key: a public
//! key that the security officer marks as trusted, whose private key is object here only. The steps of the walk never
//! use the private key.

use std::collections::HashMap;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use cryptoki_sys::{
    CK_OBJECT_HANDLE, CKA_CLASS, CKA_KEY_TYPE, CKA_LABEL, CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_TOKEN,
    CKA_TRUSTED, CKA_WRAP, CKK_RSA, CKM_SHA256, CKO_PUBLIC_KEY, CKU_SO, CKU_USER,
};
use kms_tests::raw::{Mechanism, Session, Template};
use kms_tests::{SO_PIN, USER_PIN};

/// The length of the parts of a value that are searched for: a match of this length is no coincidence.
const WINDOW_BYTES: usize = 8;

/// The label of the escrow key.
const ESCROW: &[u8] = b"escrow";

/// All parts of the protected values, each with the number of its value.
#[derive(Default)]
pub(crate) struct TaintLedger {
    windows: HashMap<[u8; WINDOW_BYTES], usize>,
    protected: usize,
}

impl TaintLedger {
    /// Adds a value that must not appear in any output from now on.
    pub(crate) fn protect(&mut self, value: &[u8]) {
        self.protected += 1;
        for window in value.windows(WINDOW_BYTES) {
            let window = window.try_into().expect("a window has the window's length");
            self.windows.insert(window, self.protected);
        }
    }

    /// The number of protected values.
    pub(crate) fn count(&self) -> usize {
        self.protected
    }

    /// The number of the protected value of which these bytes contain a part.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Option<usize> {
        bytes.windows(WINDOW_BYTES).find_map(|window| self.windows.get(window).copied())
    }
}

/// A key pair whose private key is outside of the KMS.
pub(crate) struct EscrowKey {
    private: OaepPrivateDecryptingKey,
    modulus: Vec<u8>,
}

impl EscrowKey {
    pub(crate) fn new() -> Self {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("an RSA key");
        let public: PublicEncryptingKey = private.public_key();
        let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(&public).expect("its DER");
        // A SubjectPublicKeyInfo of 2048 bits ends with the modulus and `INTEGER 65537`.
        let end = der.as_ref().len() - 5;
        assert_eq!(der.as_ref()[end..], [2, 3, 1, 0, 1]);
        let modulus = der.as_ref()[end - 256..end].to_vec();
        Self { private: OaepPrivateDecryptingKey::new(private).expect("a key for OAEP"), modulus }
    }

    /// Imports the public key as the security officer and marks it as trusted; the user is logged in before and after.
    pub(crate) fn install(&self, session: &Session<'_>) {
        session.logout().expect("the user logs out");
        session.login(CKU_SO, SO_PIN.as_bytes()).expect("the officer logs in");
        let public = Template::new()
            .ulong(CKA_CLASS, CKO_PUBLIC_KEY)
            .ulong(CKA_KEY_TYPE, CKK_RSA)
            .bytes(CKA_MODULUS, &self.modulus)
            .bytes(CKA_PUBLIC_EXPONENT, &[1, 0, 1])
            .bytes(CKA_LABEL, ESCROW);
        let public = public.bool(CKA_TOKEN, true).bool(CKA_WRAP, true);
        let public = session.create(public).expect("the officer imports a public key");
        session.set(public, Template::new().bool(CKA_TRUSTED, true)).expect("the officer sets CKA_TRUSTED");
        session.logout().expect("the officer logs out");
        session.login(CKU_USER, USER_PIN.as_bytes()).expect("the user logs in");
    }

    /// The public key's handle in the module.
    pub(crate) fn handle(&self, session: &Session<'_>) -> CK_OBJECT_HANDLE {
        session.find(Template::new().bytes(CKA_LABEL, ESCROW)).expect("a search")[0]
    }

    /// The value of a key; `None` if the key cannot be wrapped.
    pub(crate) fn value(&self, session: &Session<'_>, key: CK_OBJECT_HANDLE) -> Option<Vec<u8>> {
        let oaep = Mechanism::oaep(CKM_SHA256, cryptoki_sys::CKG_MGF1_SHA256, b"");
        let wrapped = session.wrap(oaep, self.handle(session), key).ok()?;
        let mut buffer = vec![0; 256];
        let value = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, &wrapped, &mut buffer, None);
        Some(value.expect("it decrypts what was wrapped with it").to_vec())
    }
}

#[test]
fn the_ledger_finds_only_parts_of_protected_values() {
    let mut ledger = TaintLedger::default();
    ledger.protect(b"0123456789abcdef");
    assert_eq!(ledger.found_in(b"xx89abcdefxx"), Some(1));
    assert_eq!(ledger.found_in(b"0123456x"), None);
    assert_eq!(ledger.found_in(b"short"), None);
    assert_eq!(ledger.count(), 1);
}
