//! What the walk knows of values: those that must never come out, and how it comes to know them.
//!
//! A value that the walk brings along it knows. One that the KMS made it learns through an escrow: a public key that the
//! officer trusts, whose private half is here and nowhere else. The walk itself never uses that half.

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

/// How much of a value must not stand in any output: a part that long is no coincidence.
const WINDOW_BYTES: usize = 8;

/// The name of the escrow's key.
const ESCROW: &[u8] = b"escrow";

/// All parts of protected values, with the number of the value.
#[derive(Default)]
pub(crate) struct Books {
    windows: HashMap<[u8; WINDOW_BYTES], usize>,
    protected: usize,
}

impl Books {
    /// From now on this value must not come out.
    pub(crate) fn protect(&mut self, value: &[u8]) {
        self.protected += 1;
        for window in value.windows(WINDOW_BYTES) {
            let window = window.try_into().expect("windows have their length");
            self.windows.insert(window, self.protected);
        }
    }

    /// How many values are protected.
    pub(crate) fn count(&self) -> usize {
        self.protected
    }

    /// Which protected value a part of stands in these bytes.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Option<usize> {
        bytes.windows(WINDOW_BYTES).find_map(|window| self.windows.get(window).copied())
    }
}

/// The key whose private half is outside.
pub(crate) struct Escrow {
    private: OaepPrivateDecryptingKey,
    modulus: Vec<u8>,
}

impl Escrow {
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

    /// Has the officer trust it; the session is the user's before and after.
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
        let public = session.create(public).expect("the officer brings a public key");
        session.set(public, Template::new().bool(CKA_TRUSTED, true)).expect("and trusts it");
        session.logout().expect("the officer logs out");
        session.login(CKU_USER, USER_PIN.as_bytes()).expect("the user logs in");
    }

    /// The escrow's key as the module has it.
    pub(crate) fn handle(&self, session: &Session<'_>) -> CK_OBJECT_HANDLE {
        session.find(Template::new().bytes(CKA_LABEL, ESCROW)).expect("a search")[0]
    }

    /// The value of a key, if it may be wrapped at all.
    pub(crate) fn value(&self, session: &Session<'_>, key: CK_OBJECT_HANDLE) -> Option<Vec<u8>> {
        let oaep = Mechanism::oaep(CKM_SHA256, cryptoki_sys::CKG_MGF1_SHA256, b"");
        let wrapped = session.wrap(oaep, self.handle(session), key).ok()?;
        let mut room = vec![0; 256];
        let value = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, &wrapped, &mut room, None);
        Some(value.expect("what was wrapped for it opens").to_vec())
    }
}

#[test]
fn the_books_find_parts_of_values_and_nothing_else() {
    let mut books = Books::default();
    books.protect(b"0123456789abcdef");
    assert_eq!(books.found_in(b"xx89abcdefxx"), Some(1));
    assert_eq!(books.found_in(b"0123456x"), None);
    assert_eq!(books.found_in(b"short"), None);
    assert_eq!(books.count(), 1);
}
