//! The bodies of the fuzz targets, and the replay of their corpus: keys that are imported, and tokens and assertions.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use kms_core::object::KeyBytes;
use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass, Template, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{AssertionAccount, JwtKeys, JwtUse, OpenedKey, assertion_key, check_assertion};
use super::{account_key, import, jwt, public_attributes};

/// The keys that an import may be of.
const KEYS: [(ObjectClass, KeyType); 11] = [
    (ObjectClass::SECRET_KEY, KeyType::AES),
    (ObjectClass::SECRET_KEY, KeyType::CHACHA20),
    (ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET),
    (ObjectClass::PRIVATE_KEY, KeyType::RSA),
    (ObjectClass::PRIVATE_KEY, KeyType::EC),
    (ObjectClass::PRIVATE_KEY, KeyType::EC_EDWARDS),
    (ObjectClass::PRIVATE_KEY, KeyType::EC_MONTGOMERY),
    (ObjectClass::PRIVATE_KEY, KeyType::ML_KEM),
    (ObjectClass::PRIVATE_KEY, KeyType::ML_DSA),
    (ObjectClass::PUBLIC_KEY, KeyType::RSA),
    (ObjectClass::PUBLIC_KEY, KeyType::EC),
];

/// The attributes that a key may be created from.
const PARTS: [AttributeType; 12] = [
    AttributeType::VALUE,
    AttributeType::EC_PARAMS,
    AttributeType::EC_POINT,
    AttributeType::MODULUS,
    AttributeType::PUBLIC_EXPONENT,
    AttributeType::PRIVATE_EXPONENT,
    AttributeType::PRIME_1,
    AttributeType::PRIME_2,
    AttributeType::EXPONENT_1,
    AttributeType::EXPONENT_2,
    AttributeType::COEFFICIENT,
    AttributeType::SEED,
];

/// An unwrapped key (PKCS #8 for private keys). The first byte names what it should be.
///
/// # Panics
/// When what was taken is not a key that opens, or is another one when it is taken again.
pub fn unwrapped_keys(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let (class, kind) = KEYS[usize::from(*kind) % KEYS.len()];
    let Some(stored) = import::stored(class, kind, Zeroizing::new(bytes.to_vec())) else { return };
    taken(class, kind, &stored);
    let again = import::stored(class, kind, Zeroizing::new(stored.as_ref().to_vec()));
    assert_eq!(again.expect("what is stored is a key").as_ref(), stored.as_ref());
}

/// A key that is created from its parts: each is a byte for the attribute, two for its length, and the value.
///
/// # Panics
/// Like [`unwrapped_keys`].
pub fn created_keys(bytes: &[u8]) {
    let Some((kind, mut bytes)) = bytes.split_first() else { return };
    let (class, kind) = KEYS[usize::from(*kind) % KEYS.len()];
    let mut template = Template(Vec::new());
    while let [part, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (value, rest) = rest.split_at(length);
        let attribute = match usize::from(*part) % (PARTS.len() + 1) {
            0 => Attribute::ulong(AttributeType::PARAMETER_SET, value.first().copied().unwrap_or(0).into()),
            part => Attribute::bytes(PARTS[part - 1], value),
        };
        template.set(attribute);
        bytes = rest;
    }
    let Ok(imported) = import(class, kind, &template) else { return };
    if let Some(material) = &imported.material {
        taken(class, kind, material);
    }
    for attribute in &imported.attributes {
        assert!(!matches!(&attribute.value, Value::Bytes(bytes) if bytes.is_empty()), "{attribute:?}");
    }
}

/// What was taken opens, and has attributes.
fn taken(class: ObjectClass, kind: KeyType, material: &KeyBytes) {
    OpenedKey::open(class, kind, material).expect("a key that was taken opens");
    public_attributes(class, kind, material).expect("a key that was taken has attributes");
}

/// The public key of an account, in PEM or DER.
pub fn account_keys(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok((info, _)) = account_key::read_public_key(text)
    {
        account_key::rsa_public_key(&info).expect("it was read");
    }
    // Rejected or not: it does not panic.
    drop(account_key::rsa_public_key(bytes));
}

const EMAIL: &str = "ci@fuzz.sa.kms.local";
const AUDIENCE: &str = "urn:kms:fuzz";
const NOW: u64 = 1_000_000;
const ACCOUNT: Uuid = Uuid::from_u128(1);

/// An account's key pair.
struct Signer {
    private: EncodingKey,
    public: Vec<u8>,
}

fn signer() -> &'static Signer {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let pair = account_key::generate_account_key_pair(2048, &SystemRandom::new()).expect("a key pair");
        let public = account_key::rsa_public_key(&pair.public).expect("its public key");
        let private = EncodingKey::from_rsa_pem(pair.private.as_bytes()).expect("its private key");
        Signer { private, public }
    })
}

/// Assertions and tokens: the text as it is, and header and payload (separated by a zero byte) with valid signatures, so that
/// what stands behind the signature is reached as well.
///
/// # Panics
/// When one without a signature is accepted, or a signed one that has expired or never ends.
pub fn tokens(bytes: &[u8]) {
    let keys = JwtKeys::from(Zeroizing::new([3; 32]));
    let account = AssertionAccount { id: ACCOUNT, email: EMAIL, public: &signer().public };
    if let Ok(text) = std::str::from_utf8(bytes) {
        // Rejected or not: it does not panic.
        let _read: Option<Uuid> = assertion_key(text);
        assert!(check_assertion(text, account, AUDIENCE, NOW).is_err());
        for kind in [JwtUse::Access, JwtUse::Refresh] {
            assert!(keys.check(kind, text, NOW).is_err());
        }
    }
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(header), Some(payload)) = (parts.next(), parts.next()) else { return };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signed = |key: &EncodingKey, algorithm| {
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).expect("it signs");
        format!("{message}.{signature}")
    };
    let assertion = signed(&signer().private, Algorithm::RS512);
    let _read: Option<Uuid> = assertion_key(&assertion);
    if let Ok(checked) = check_assertion(&assertion, account, AUDIENCE, NOW) {
        assert!((NOW + 1..=NOW + 3600 + 3 * 60).contains(&checked.forgotten_at), "{checked:?}");
        assert!((1..=256).contains(&checked.name.len()));
    }
    for kind in [JwtUse::Access, JwtUse::Refresh] {
        let token = signed(jwt::signing_key(&keys, kind), Algorithm::HS512);
        if let Ok(issued) = keys.check(kind, &token, NOW) {
            assert!(issued.expires > NOW, "{issued:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs a fuzz target with its corpus.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files = 0;
        for entry in std::fs::read_dir(&corpus).expect("the corpus is committed") {
            run(&std::fs::read(entry.expect("a file of the corpus").path()).expect("a readable file"));
            files += 1;
        }
        assert!(files > 20, "the corpus of {target} has {files} files");
    }

    #[test]
    fn the_corpus_of_unwrapped_keys_is_taken_or_rejected() {
        replay("unwrapped_keys", unwrapped_keys);
    }

    #[test]
    fn the_corpus_of_created_keys_is_taken_or_rejected() {
        replay("created_keys", created_keys);
    }

    #[test]
    fn the_corpus_of_account_keys_is_taken_or_rejected() {
        replay("account_keys", account_keys);
    }

    #[test]
    fn the_corpus_of_tokens_is_rejected_or_valid() {
        replay("tokens", tokens);
    }
}
