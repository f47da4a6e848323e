//! `C_WrapKey` and `C_UnwrapKey` with each mechanism, and which keys may wrap which keys. Calls the C API, because the
//! `cryptoki` crate lacks half of the mechanisms and nested templates. Also the templates that `attacks` uses.

use cryptoki_sys::{
    CK_KEY_TYPE, CK_OBJECT_HANDLE, CKA_CLASS, CKA_DECRYPT, CKA_ENCRYPT, CKA_EXTRACTABLE, CKA_KEY_TYPE,
    CKA_LABEL, CKA_LOCAL, CKA_MODULUS_BITS, CKA_SENSITIVE, CKA_SIGN, CKA_TOKEN, CKA_TRUSTED, CKA_UNWRAP,
    CKA_UNWRAP_TEMPLATE, CKA_VALUE, CKA_VALUE_LEN, CKA_VERIFY, CKA_WRAP, CKA_WRAP_TEMPLATE,
    CKA_WRAP_WITH_TRUSTED, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKG_MGF1_SHA256, CKK_AES, CKK_GENERIC_SECRET,
    CKK_RSA, CKM_AES_CBC_PAD, CKM_AES_ECB, CKM_AES_KEY_GEN, CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_KWP,
    CKM_AES_KEY_WRAP_PAD, CKM_RSA_PKCS, CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_SHA256, CKM_SHA256_RSA_PKCS,
    CKO_PRIVATE_KEY, CKO_SECRET_KEY, CKU_SO,
};
use kms_protocol::Rv;
use kms_tests::raw::{Mechanism, Module, Session, Template};
use kms_tests::{SO_PIN, Stack, USER_PIN};

/// A block of 16 bytes to encrypt.
const BLOCK: &[u8] = b"sixteen bytes of";

/// The template of a secret key of this type.
pub(crate) fn secret(kind: CK_KEY_TYPE) -> Template {
    Template::new().ulong(CKA_CLASS, CKO_SECRET_KEY).ulong(CKA_KEY_TYPE, kind)
}

/// A template that sets these attributes to true.
pub(crate) fn yes(kinds: &[u64]) -> Template {
    kinds.iter().fold(Template::new(), |template, kind| template.bool(*kind, true))
}

/// `CKM_AES_KEY_WRAP_KWP`.
pub(crate) fn kwp() -> Mechanism {
    Mechanism::plain(CKM_AES_KEY_WRAP_KWP)
}

/// OAEP with SHA-256.
pub(crate) fn oaep() -> Mechanism {
    Mechanism::oaep(CKM_SHA256, CKG_MGF1_SHA256, b"")
}

/// Generates an AES key.
pub(crate) fn aes(session: &Session<'_>, template: Template) -> CK_OBJECT_HANDLE {
    let template = template.ulong(CKA_VALUE_LEN, 32);
    session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template).expect("the AES key is generated")
}

/// Generates an extractable AES token key, which can be wrapped.
pub(crate) fn extractable_aes(session: &Session<'_>) -> CK_OBJECT_HANDLE {
    aes(session, yes(&[CKA_TOKEN, CKA_EXTRACTABLE, CKA_ENCRYPT, CKA_DECRYPT]))
}

/// Generates a token key that wraps and unwraps.
pub(crate) fn wrapping_key(session: &Session<'_>) -> CK_OBJECT_HANDLE {
    aes(session, yes(&[CKA_TOKEN, CKA_WRAP, CKA_UNWRAP]))
}

/// Generates an RSA pair: public key, private key.
pub(crate) fn rsa(
    session: &Session<'_>,
    public: Template,
    private: Template,
) -> (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) {
    let mechanism = Mechanism::plain(CKM_RSA_PKCS_KEY_PAIR_GEN);
    let pair = session.generate_pair(mechanism, public.ulong(CKA_MODULUS_BITS, 2048), private);
    pair.expect("the RSA pair is generated")
}

fn ecb() -> Mechanism {
    Mechanism::plain(CKM_AES_ECB)
}

/// Wraps an AES key, unwraps it, and checks that it is the same key.
#[track_caller]
fn assert_round_trip(
    session: &Session<'_>,
    mechanism: &Mechanism,
    wrapping: CK_OBJECT_HANDLE,
    unwrapping: CK_OBJECT_HANDLE,
) {
    let key = extractable_aes(session);
    let sealed = session.encrypt(ecb(), key, BLOCK).expect("it encrypts");
    let wrapped = session.wrap(mechanism.clone(), wrapping, key).expect("it wraps");
    for token in [true, false] {
        let template = secret(CKK_AES).bool(CKA_DECRYPT, true).bool(CKA_TOKEN, token);
        let back = session.unwrap(mechanism.clone(), unwrapping, &wrapped, template).expect("it unwraps");
        assert_eq!(session.decrypt(ecb(), back, &sealed).expect("it decrypts"), BLOCK);
        assert_eq!(session.attribute(back, CKA_LOCAL), Ok(vec![0]), "CKA_LOCAL is false");
        assert_eq!(session.attribute(back, CKA_VALUE_LEN), Ok(32_u64.to_ne_bytes().to_vec()));
    }
    let mut damaged = wrapped;
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let result = session.unwrap(mechanism.clone(), unwrapping, &damaged, secret(CKK_AES));
    let codes = [Rv::WRAPPED_KEY_INVALID, Rv::WRAPPED_KEY_LEN_RANGE];
    assert!(matches!(result, Err(rv) if codes.contains(&rv)), "{result:?}");
}

#[test]
fn every_mechanism_of_a_strict_ring_wraps_and_unwraps() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let key = wrapping_key(&session);
    for kind in [CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP_KWP] {
        assert_round_trip(&session, &Mechanism::plain(kind), key, key);
    }
    let (public, private) = rsa(&session, yes(&[CKA_TOKEN, CKA_WRAP]), yes(&[CKA_TOKEN, CKA_UNWRAP]));
    assert_round_trip(&session, &oaep(), public, private);
    assert_round_trip(&session, &Mechanism::rsa_aes(256, CKM_SHA256, CKG_MGF1_SHA256), public, private);
}

#[test]
fn only_a_compat_ring_has_the_older_mechanisms() {
    for stack in [Stack::strict(), Stack::compat()] {
        let strict = stack.kms(&["ring", "list"]).ok().contains("strict");
        let module = Module::of(&stack);
        let session = module.user(stack.ring());
        let key = wrapping_key(&session);
        let (public, private) = rsa(&session, yes(&[CKA_TOKEN, CKA_WRAP]), yes(&[CKA_TOKEN, CKA_UNWRAP]));
        let gcm = Mechanism::gcm(&[7; 12], b"aad", 128);
        if strict {
            let target = extractable_aes(&session);
            let cbc = Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]);
            for (mechanism, key) in [(gcm, key), (cbc, key), (Mechanism::plain(CKM_RSA_PKCS), public)] {
                assert_eq!(session.wrap(mechanism, key, target), Err(Rv::MECHANISM_INVALID));
            }
        } else {
            assert_round_trip(&session, &gcm, key, key);
            let target = extractable_aes(&session);
            for (mechanism, key, back) in [
                (Mechanism::with(CKM_AES_CBC_PAD, &[3; 16]), key, key),
                (Mechanism::plain(CKM_RSA_PKCS), public, private),
            ] {
                let wrapped = session.wrap(mechanism.clone(), key, target).expect("it wraps");
                let back = session.unwrap(mechanism, back, &wrapped, secret(CKK_AES)).expect("it unwraps");
                let sealed = session.encrypt(ecb(), target, BLOCK).expect("it encrypts");
                assert_eq!(session.encrypt(ecb(), back, BLOCK), Ok(sealed));
            }
        }
    }
}

#[test]
fn wrapped_keys_match_the_published_vectors() {
    let stack = Stack::compat();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let known = |kind, value: &[u8]| {
        let uses = yes(&[CKA_WRAP, CKA_UNWRAP, CKA_EXTRACTABLE]);
        session.create(secret(kind).and(uses).bytes(CKA_VALUE, value)).expect("a key is created")
    };
    // RFC 3394, section 4.1, and RFC 5649, section 6.
    let kek: Vec<u8> = (0..16).collect();
    let data: Vec<u8> = (0..16).map(|digit| digit * 0x11).collect();
    let wrapped =
        session.wrap(Mechanism::plain(CKM_AES_KEY_WRAP), known(CKK_AES, &kek), known(CKK_AES, &data));
    let wrapped = wrapped.expect("it wraps");
    assert_eq!(kms_tests::openssl::hex(&wrapped), "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5");
    let kek = [
        0x58, 0x40, 0xdf, 0x6e, 0x29, 0xb0, 0x2a, 0xf1, 0xab, 0x49, 0x3b, 0x70, 0x5b, 0xf1, 0x6e, 0xa1, 0xae,
        0x83, 0x38, 0xf4, 0xdc, 0xc1, 0x76, 0xa8,
    ];
    let value = [
        0xc3, 0x7b, 0x7e, 0x64, 0x92, 0x58, 0x43, 0x40, 0xbe, 0xd1, 0x22, 0x07, 0x80, 0x89, 0x41, 0x15, 0x50,
        0x68, 0xf7, 0x38,
    ];
    let (kek, data) = (
        known(CKK_AES, &kek),
        session.create(secret(CKK_GENERIC_SECRET).and(yes(&[CKA_EXTRACTABLE])).bytes(CKA_VALUE, &value)),
    );
    let data = data.expect("a secret is created");
    let wrapped = session.wrap(kwp(), kek, data).expect("it wraps");
    let expected = "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a";
    assert_eq!(kms_tests::openssl::hex(&wrapped), expected);
    let open = secret(CKK_GENERIC_SECRET).bool(CKA_SENSITIVE, false).bool(CKA_EXTRACTABLE, true);
    let back = session.unwrap(kwp(), kek, &wrapped, open).expect("it unwraps");
    assert_eq!(session.attribute(back, CKA_VALUE), Ok(value.to_vec()));
}

#[test]
fn private_keys_are_wrapped_and_unwrapped() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let key = wrapping_key(&session);
    let (wraps, unwraps) = rsa(&session, yes(&[CKA_TOKEN, CKA_WRAP]), yes(&[CKA_TOKEN, CKA_UNWRAP]));
    let (public, private) =
        rsa(&session, yes(&[CKA_TOKEN, CKA_VERIFY]), yes(&[CKA_TOKEN, CKA_SIGN, CKA_EXTRACTABLE]));
    let rsa_aes = Mechanism::rsa_aes(256, CKM_SHA256, CKG_MGF1_SHA256);
    for (mechanism, wraps, unwraps) in [(kwp(), key, key), (rsa_aes, wraps, unwraps)] {
        let wrapped = session.wrap(mechanism.clone(), wraps, private).expect("it wraps");
        let template = Template::new().ulong(CKA_CLASS, CKO_PRIVATE_KEY).ulong(CKA_KEY_TYPE, CKK_RSA);
        let template = template.and(yes(&[CKA_TOKEN, CKA_SIGN]));
        let back = session.unwrap(mechanism, unwraps, &wrapped, template).expect("it unwraps");
        let signs = || Mechanism::plain(CKM_SHA256_RSA_PKCS);
        let signature = session.sign(signs(), back, b"message").expect("it signs");
        session.verify_init(signs(), public).expect("C_VerifyInit succeeds");
        session.verify(b"message", &signature).expect("the pair is the same");
    }
}

#[test]
fn unextractable_keys_cannot_be_wrapped() {
    for stack in [Stack::strict(), Stack::compat()] {
        let module = Module::of(&stack);
        let session = module.user(stack.ring());
        let key = wrapping_key(&session);
        let unextractable = aes(&session, yes(&[CKA_TOKEN, CKA_ENCRYPT]));
        assert_eq!(session.wrap(kwp(), key, unextractable), Err(Rv::KEY_UNEXTRACTABLE));
        let set = session.set(unextractable, yes(&[CKA_EXTRACTABLE]));
        assert!(set.is_err(), "CKA_EXTRACTABLE cannot be set again");
        let uses_none = aes(&session, yes(&[CKA_TOKEN, CKA_ENCRYPT]).bool(CKA_WRAP, false));
        let target = extractable_aes(&session);
        assert_eq!(session.wrap(kwp(), uses_none, target), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    }
}

#[test]
fn wrap_and_unwrap_templates_are_enforced() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let unwrap_template = Template::new().bool(CKA_DECRYPT, false).bytes(CKA_LABEL, b"unwrapped");
    let key = aes(
        &session,
        yes(&[CKA_TOKEN, CKA_WRAP, CKA_UNWRAP])
            .nested(CKA_WRAP_TEMPLATE, yes(&[CKA_ENCRYPT]))
            .nested(CKA_UNWRAP_TEMPLATE, unwrap_template),
    );
    let wrapped =
        session.wrap(kwp(), key, extractable_aes(&session)).expect("the key matches the wrap template");
    let signs = aes(&session, yes(&[CKA_EXTRACTABLE, CKA_SIGN]));
    assert_eq!(session.wrap(kwp(), key, signs), Err(Rv::KEY_NOT_WRAPPABLE));
    let back = session.unwrap(kwp(), key, &wrapped, secret(CKK_AES)).expect("it unwraps");
    assert_eq!(session.attribute(back, CKA_LABEL), Ok(b"unwrapped".to_vec()));
    assert_eq!(session.attribute(back, CKA_DECRYPT), Ok(vec![0]));
    let against = session.unwrap(kwp(), key, &wrapped, secret(CKK_AES).bool(CKA_DECRYPT, true));
    assert_eq!(against, Err(Rv::TEMPLATE_INCONSISTENT));
}

#[test]
fn only_the_security_officer_sets_trusted() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let (trusted, _) = rsa(&session, yes(&[CKA_TOKEN, CKA_WRAP]), yes(&[CKA_TOKEN, CKA_UNWRAP]));
    let plain = wrapping_key(&session);
    let target = aes(&session, yes(&[CKA_TOKEN, CKA_EXTRACTABLE, CKA_ENCRYPT, CKA_WRAP_WITH_TRUSTED]));
    assert_eq!(session.wrap(kwp(), plain, target), Err(Rv::KEY_NOT_WRAPPABLE));
    assert_eq!(session.wrap(oaep(), trusted, target), Err(Rv::KEY_NOT_WRAPPABLE));
    assert!(session.set(trusted, yes(&[CKA_TRUSTED])).is_err(), "a user cannot set CKA_TRUSTED");
    let reset = session.set(target, Template::new().bool(CKA_WRAP_WITH_TRUSTED, false));
    assert!(reset.is_err(), "CKA_WRAP_WITH_TRUSTED is one-way");
    let id = session.attribute(trusted, cryptoki_sys::CKA_ID).expect("an id");
    session.logout().expect("the user logs out");
    session.login(CKU_SO, SO_PIN.as_bytes()).expect("the officer logs in");
    let by_id = || Template::new().bytes(cryptoki_sys::CKA_ID, &id).bool(CKA_WRAP, true);
    let seen = session.find(by_id()).expect("a search")[0];
    session.set(seen, yes(&[CKA_TRUSTED])).expect("the officer sets CKA_TRUSTED");
    session.logout().expect("the officer logs out");
    let session = module.open(module.slot(stack.ring()), CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("open");
    session.login(cryptoki_sys::CKU_USER, USER_PIN.as_bytes()).expect("the user logs in");
    let trusted = session.find(by_id()).expect("a search")[0];
    let target = session.find(yes(&[CKA_WRAP_WITH_TRUSTED])).expect("a search")[0];
    session.wrap(oaep(), trusted, target).expect("a trusted key wraps it");
}
