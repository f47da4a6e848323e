//! The published attacks on PKCS #11 tokens, through the C ABI against a strict ring; see `docs/attacks.md`. The
//! backend's `dispatch/pkcs11/tests/attacks.rs` tries more variants; here the attacker uses the module.

use cryptoki_sys::{
    CK_OBJECT_HANDLE, CKA_CLASS, CKA_COPYABLE, CKA_DECRYPT, CKA_DERIVE, CKA_ENCRYPT, CKA_EXTRACTABLE,
    CKA_KEY_TYPE, CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_SENSITIVE, CKA_SIGN, CKA_TOKEN, CKA_TRUSTED,
    CKA_UNWRAP, CKA_VALUE, CKA_VALUE_LEN, CKA_WRAP, CKK_AES, CKK_GENERIC_SECRET, CKK_RSA, CKM_AES_CBC,
    CKM_AES_CBC_ENCRYPT_DATA, CKM_AES_ECB, CKM_AES_KEY_WRAP, CKM_CONCATENATE_BASE_AND_DATA,
    CKM_EXTRACT_KEY_FROM_KEY, CKM_GENERIC_SECRET_KEY_GEN, CKM_HKDF_DERIVE, CKM_RSA_PKCS, CKM_SHA256,
    CKM_SHA256_HMAC, CKO_PUBLIC_KEY, CKU_SO,
};
use kms_protocol::Rv;
use kms_tests::raw::{Field, Mechanism, Module, Session, Template};
use kms_tests::{SO_PIN, Stack};

use crate::wrap::{aes, extractable_aes, kwp, oaep, rsa, secret, wrapping_key, yes};

/// Runs an attack by the ring's user, who has a wrapping key, against an extractable key; then checks that the key's
/// value cannot be read.
fn attack(body: impl FnOnce(&Session<'_>, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)) {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let (key, target) = (wrapping_key(&session), extractable_aes(&session));
    body(&session, key, target);
    // Handles of private objects end with a login, so the target is searched again.
    let target = session.find(yes(&[CKA_EXTRACTABLE, CKA_TOKEN, CKA_DECRYPT])).expect("a search")[0];
    assert_eq!(session.attribute(target, CKA_VALUE), Err(Rv::ATTRIBUTE_SENSITIVE));
}

/// Clulow 2003: a key that both wraps and decrypts.
#[test]
fn wrap_then_decrypt() {
    attack(|session, key, target| {
        // A key that is generated for both uses wraps with its wrapping subkey.
        let dual_use = aes(session, yes(&[CKA_WRAP, CKA_UNWRAP, CKA_DECRYPT, CKA_ENCRYPT]));
        let wrapped = session.wrap(Mechanism::plain(CKM_AES_KEY_WRAP), dual_use, target).expect("it wraps");
        assert_eq!(unwrap_by_decrypting(session, dual_use, &wrapped), None, "the target was decrypted");
        // A key that works on data does not derive.
        let both = aes(session, yes(&[CKA_WRAP, CKA_DECRYPT, CKA_DERIVE]));
        assert_eq!(session.attribute(both, CKA_DERIVE), Ok(vec![0]));
        let wrapped = session.wrap(kwp(), key, target).expect("it wraps");
        let decrypted = session.decrypt(Mechanism::plain(CKM_AES_ECB), key, &wrapped);
        assert_eq!(decrypted, Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
        for kind in [CKA_DECRYPT, CKA_ENCRYPT, CKA_SIGN, CKA_DERIVE] {
            assert!(session.set(key, yes(&[kind])).is_err(), "no usage is added to a key");
            let copyable = aes(session, yes(&[CKA_WRAP, CKA_COPYABLE]));
            assert!(session.copy(copyable, yes(&[kind])).is_err(), "no usage is added to a copy");
        }
    });
}

/// Unwraps block by block with a decryption key, as RFC 3394, section 2.2.2, describes; `None` if the integrity check
/// fails.
fn unwrap_by_decrypting(session: &Session<'_>, key: CK_OBJECT_HANDLE, wrapped: &[u8]) -> Option<Vec<u8>> {
    let mut registers: Vec<u64> =
        wrapped.chunks(8).map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes"))).collect();
    let mut a = registers.remove(0);
    for step in (1..=6 * registers.len()).rev() {
        let at = (step - 1) % registers.len();
        let mixed = a ^ u64::try_from(step).expect("a small number");
        let block = [mixed.to_be_bytes(), registers[at].to_be_bytes()].concat();
        let block = session.decrypt(Mechanism::plain(CKM_AES_ECB), key, &block).expect("it decrypts");
        let number = |at: usize| u64::from_be_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        (a, registers[at]) = (number(0), number(8));
    }
    (a == 0xa6a6_a6a6_a6a6_a6a6)
        .then(|| registers.iter().flat_map(|register| register.to_be_bytes()).collect())
}

/// In a compat ring, where keys have no wrapping subkey, the same calls read the key, which shows that the attack above
/// is a real one.
#[test]
fn wrap_then_decrypt_succeeds_in_a_compat_ring() {
    let stack = Stack::compat();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let target = aes(&session, yes(&[CKA_EXTRACTABLE]).bool(CKA_SENSITIVE, false));
    let dual_use = aes(&session, yes(&[CKA_WRAP, CKA_UNWRAP, CKA_DECRYPT, CKA_ENCRYPT]));
    let wrapped = session.wrap(Mechanism::plain(CKM_AES_KEY_WRAP), dual_use, target).expect("it wraps");
    let read = unwrap_by_decrypting(&session, dual_use, &wrapped).expect("the key");
    assert_eq!(session.attribute(target, CKA_VALUE), Ok(read));
}

/// The reverse (Delaune, Kremer, Steel 2008): encrypt a known key and unwrap it.
#[test]
fn encrypt_then_unwrap() {
    attack(|session, key, target| {
        let encrypted = session.encrypt(Mechanism::plain(CKM_AES_ECB), key, &[7; 32]);
        assert_eq!(encrypted, Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
        // Bytes that the attacker chooses do not unwrap.
        let forged = session.unwrap(kwp(), key, &[7; 40], secret(CKK_AES).and(yes(&[CKA_WRAP])));
        assert!(matches!(forged, Err(Rv::WRAPPED_KEY_INVALID | Rv::WRAPPED_KEY_LEN_RANGE)), "{forged:?}");
        let (public, private) = rsa(session, yes(&[CKA_WRAP, CKA_ENCRYPT]), yes(&[CKA_UNWRAP, CKA_DECRYPT]));
        assert_eq!(session.wrap(oaep(), public, target), Err(Rv::KEY_NOT_WRAPPABLE));
        if let Ok(known) = session.encrypt(oaep(), public, &[7; 32]) {
            let trojan = session.unwrap(oaep(), private, &known, secret(CKK_AES).and(yes(&[CKA_WRAP])));
            if let Ok(trojan) = trojan {
                assert_eq!(session.wrap(kwp(), trojan, target), Err(Rv::KEY_NOT_WRAPPABLE));
            }
        }
    });
}

/// Delaune, Kremer, Steel 2008: a wrapped key is unwrapped with other attributes.
#[test]
fn a_weaker_template_when_unwrapping() {
    attack(|session, key, target| {
        let wrapped = session.wrap(kwp(), key, target).expect("it wraps");
        for token in [true, false] {
            let weak = yes(&[CKA_EXTRACTABLE, CKA_WRAP]).bool(CKA_SENSITIVE, false).bool(CKA_TOKEN, token);
            let back = session.unwrap(kwp(), key, &wrapped, secret(CKK_AES).and(weak)).expect("it unwraps");
            assert_eq!(session.attribute(back, CKA_VALUE), Err(Rv::ATTRIBUTE_SENSITIVE));
            assert_eq!(session.attribute(back, CKA_SENSITIVE), Ok(vec![1]));
            assert_eq!(session.attribute(back, CKA_EXTRACTABLE), Ok(vec![0]));
            assert_eq!(session.wrap(kwp(), back, target), Err(Rv::KEY_NOT_WRAPPABLE));
            assert_eq!(session.wrap(kwp(), key, back), Err(Rv::KEY_UNEXTRACTABLE));
            assert!(session.set(back, Template::new().bool(CKA_SENSITIVE, false)).is_err());
            assert!(session.copy(back, yes(&[CKA_EXTRACTABLE])).is_err());
        }
    });
}

/// Clulow 2003, on reduced key spaces: a key is unwrapped as another type, whose operations reveal the value.
#[test]
fn unwrapping_as_another_key_type() {
    attack(|session, key, target| {
        let wrapped = session.wrap(kwp(), key, target).expect("it wraps");
        let confused = secret(CKK_GENERIC_SECRET).bool(CKA_SENSITIVE, false).bool(CKA_DERIVE, true);
        let confused = session.unwrap(kwp(), key, &wrapped, confused).expect("it unwraps");
        assert_eq!(session.attribute(confused, CKA_VALUE), Err(Rv::ATTRIBUTE_SENSITIVE));
        let truncated =
            session.unwrap(kwp(), key, &wrapped, secret(CKK_GENERIC_SECRET).ulong(CKA_VALUE_LEN, 16));
        assert!(truncated.is_err(), "a truncated key can be guessed");
        let byte = secret(CKK_GENERIC_SECRET).ulong(CKA_VALUE_LEN, 1);
        let data = Mechanism::fields(CKM_CONCATENATE_BASE_AND_DATA, vec![Field::Bytes(vec![0])]);
        assert_eq!(session.derive(data, confused, byte.clone()), Err(Rv::MECHANISM_INVALID));
        let extract = Mechanism::fields(CKM_EXTRACT_KEY_FROM_KEY, vec![Field::Number(0)]);
        assert_eq!(session.derive(extract, confused, byte.clone()), Err(Rv::MECHANISM_INVALID));
        let cbc = Mechanism::fields(CKM_AES_CBC_ENCRYPT_DATA, vec![Field::Number(0); 4]);
        assert!(session.derive(cbc, target, byte).is_err(), "a key is not derived by encrypting data");
    });
}

/// Clulow 2003: a wrapping key that the attacker knows.
#[test]
fn trojan_wrapping_keys() {
    attack(|session, _, target| {
        let known = secret(CKK_AES).bytes(CKA_VALUE, &[7; 32]).and(yes(&[CKA_WRAP, CKA_UNWRAP]));
        assert_eq!(session.create(known.clone().bool(CKA_TOKEN, true)), Err(Rv::TEMPLATE_INCONSISTENT));
        let trojan = session.create(known).expect("a session key is created");
        assert_eq!(session.wrap(kwp(), trojan, target), Err(Rv::KEY_NOT_WRAPPABLE));
        assert!(session.copy(trojan, yes(&[CKA_TOKEN])).is_err());
        let open = aes(session, yes(&[CKA_WRAP]).bool(CKA_SENSITIVE, false));
        assert_eq!(session.wrap(kwp(), open, target), Err(Rv::KEY_NOT_WRAPPABLE));
        // A public key whose private key the attacker may have: here a copy of the public key of an encryption pair.
        let (public, _) = rsa(session, yes(&[CKA_ENCRYPT]), yes(&[CKA_DECRYPT]));
        let number = |kind| session.attribute(public, kind).expect("a public number");
        let imported = Template::new()
            .ulong(CKA_CLASS, CKO_PUBLIC_KEY)
            .ulong(CKA_KEY_TYPE, CKK_RSA)
            .bytes(CKA_MODULUS, &number(CKA_MODULUS))
            .bytes(CKA_PUBLIC_EXPONENT, &number(CKA_PUBLIC_EXPONENT))
            .and(yes(&[CKA_WRAP, CKA_TOKEN]));
        assert!(session.create(imported.clone().bool(CKA_TRUSTED, true)).is_err());
        let imported = session.create(imported).expect("a public key is created");
        assert_eq!(session.wrap(oaep(), imported, target), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
        assert!(session.set(imported, yes(&[CKA_TRUSTED])).is_err());
    });
}

/// Clulow 2003, on weak wrapping mechanisms: two keys under one IV, and padding oracles.
#[test]
fn weak_wrapping_mechanisms() {
    attack(|session, key, target| {
        let (public, private) = rsa(session, yes(&[CKA_TOKEN, CKA_WRAP]), yes(&[CKA_TOKEN, CKA_UNWRAP]));
        let gcm = Mechanism::gcm(&[0; 12], b"", 128);
        for (mechanism, key) in [
            (gcm, key),
            (Mechanism::with(CKM_AES_CBC, &[0; 16]), key),
            (Mechanism::plain(CKM_AES_ECB), key),
            (Mechanism::plain(CKM_RSA_PKCS), public),
        ] {
            assert_eq!(session.wrap(mechanism, key, target), Err(Rv::MECHANISM_INVALID));
        }
        let oracle = session.unwrap(Mechanism::plain(CKM_RSA_PKCS), private, &[1; 256], secret(CKK_AES));
        assert_eq!(oracle, Err(Rv::MECHANISM_INVALID));
    });
}

/// A key that changes its usage, and a login with another role.
#[test]
fn role_changes() {
    attack(|session, key, target| {
        let extractable_wrapper = aes(session, yes(&[CKA_WRAP, CKA_EXTRACTABLE]));
        assert_eq!(
            session.attribute(extractable_wrapper, CKA_EXTRACTABLE),
            Ok(vec![0]),
            "a wrapping key is unextractable"
        );
        assert_eq!(session.wrap(kwp(), key, key), Err(Rv::KEY_UNEXTRACTABLE));
        assert!(session.set(target, Template::new().bool(CKA_SENSITIVE, false)).is_err());
        session.logout().expect("the user logs out");
        assert!(session.wrap(kwp(), key, target).is_err(), "nothing is wrapped without a login");
        session.login(CKU_SO, SO_PIN.as_bytes()).expect("the officer logs in");
        assert!(session.wrap(kwp(), key, target).is_err(), "the officer does not use keys");
        assert!(session.attribute(target, CKA_VALUE).is_err());
        session.logout().expect("the officer logs out");
        let pin = kms_tests::USER_PIN.as_bytes();
        session.login(cryptoki_sys::CKU_USER, pin).expect("the user logs in");
    });
}

/// HKDF is HMAC: a caller that signs with the extracted key computes what is expanded from it.
#[test]
fn a_mac_that_is_a_derived_key() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let hkdf = |steps: u64, info: &[u8]| {
        let salt = [Field::Number(CKM_SHA256), Field::Number(1), Field::Bytes(vec![]), Field::Number(0)];
        let fields = [&[Field::Number(steps)][..], &salt, &[Field::Bytes(info.to_vec())]].concat();
        Mechanism::fields(CKM_HKDF_DERIVE, fields)
    };
    // `bExtract` and `bExpand` are the first two bytes.
    let (extract, expand, both) = (0x0001, 0x0100, 0x0101);
    let length = || Template::new().ulong(CKA_VALUE_LEN, 32);
    let generate = |template: Template| {
        session.generate(Mechanism::plain(CKM_GENERIC_SECRET_KEY_GEN), length().and(template))
    };
    let base = generate(yes(&[CKA_TOKEN, CKA_DERIVE])).expect("a base key");
    let victim = secret(CKK_AES).and(length()).and(yes(&[CKA_TOKEN, CKA_ENCRYPT]));
    session.derive(hkdf(both, b"tenant 7"), base, victim).expect("the victim's key");
    let signs = secret(CKK_GENERIC_SECRET).and(length()).and(yes(&[CKA_SIGN, CKA_EXTRACTABLE]));
    let extracted = session.derive(hkdf(extract, b""), base, signs.clone()).expect("it extracts");
    let hmac = || Mechanism::plain(CKM_SHA256_HMAC);
    assert_eq!(session.sign(hmac(), extracted, b"tenant 7\x01"), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    assert!(session.set(extracted, yes(&[CKA_SIGN])).is_err());
    session.derive(hkdf(expand, b"tenant 7"), extracted, signs.clone()).expect("it expands");
    // A key that does both from the start.
    let signing = generate(yes(&[CKA_DERIVE, CKA_SIGN])).expect("a key that signs");
    session.sign(hmac(), signing, b"message").expect("it signs");
    assert_eq!(session.derive(hkdf(expand, b"x"), signing, signs), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
}
