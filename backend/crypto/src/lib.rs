//! Cryptography: bytes and keys in, bytes out; one module for each family of keys.
//!
//! The crate has no callers, objects or storage: a `Permit` proves that an operation is allowed, and each function
//! checks that the permit is for its operation. Nothing here is hand-written cryptography; where a library lacks a
//! form, the form is composed from the library's own parts (architecture D10, `docs/decisions/0006`), and the tests
//! compare the composition with another library or with published vectors.
//!
//! The library for each operation:
//!
//! | operation | library |
//! |---|---|
//! | AES-GCM, IV of 12 bytes | `aes-gcm` (a tag below 16 bytes is checked by the composition) |
//! | AES-GCM, other IVs | composed: `ghash` and `ctr` over `aes` |
//! | AES ECB, CBC, CTR | `aes`, `cbc`, `ctr` |
//! | RSA signatures over SHA-256, SHA-384, SHA-512, usual salts | `aws-lc-rs` |
//! | RSA signatures otherwise | `rsa`, blinded; PSS padding is composed (`pss`) |
//! | RSA-OAEP with one digest of SHA-1, SHA-256, SHA-384, SHA-512 | `aws-lc-rs` |
//! | RSA-OAEP otherwise, PKCS #1 v1.5 decryption (implicit rejection) | `rsa`, blinded |
//! | ECDSA | `aws-lc-rs`; P-521 over more than 64 bytes: `p521`; DER: `p256`, `p384`, `p521` |
//! | RSA-OAEP with a public key | `rsa` |
//! | HMAC | `hmac` over `sha1`, `sha2`, `sha3` |
//! | AES-CMAC; AES key wrap | `cmac`; `aes-kw` |
//! | AES-CCM | composed: `cbc` and `ctr` over `aes` |
//! | ChaCha20-Poly1305 | `chacha20poly1305` |
//! | Ed25519, Ed25519ph | `ed25519-dalek` |
//! | Ed448, Ed448ph; X448 | `ed448-goldilocks`; `x448`: pre-releases, with the feature `pre-release-curves` only (`docs/decisions/0055`) |
//! | Wrapping subkeys | `hkdf` |
//! | ECDH, X25519 | `aws-lc-rs` |
//! | HKDF; X9.63 and SP 800-108 | `hkdf`; composed over digests and MACs |
//! | ML-KEM, ML-DSA | `aws-lc-rs`; ML-DSA with a context or without randomness, HashML-DSA: `ml-dsa`; seeds of ML-KEM: `ml-kem` |

mod account_key;
mod aes;
mod ccm;
mod chacha;
#[cfg(feature = "pre-release-curves")]
mod curve448;
#[cfg(not(feature = "pre-release-curves"))]
#[path = "curve448_absent.rs"]
mod curve448;
mod der;
mod derive;
mod digest;
mod ec;
mod ed25519ctx;
mod edwards_montgomery;
mod error;
mod export_value;
mod gcm;
mod generate;
mod import;
mod jwt;
mod kdf;
mod keywrap;
mod mac;
mod message;
mod mldsa;
mod mlkem;
mod opened_key;
mod operations;
mod pss;
mod public;
mod public_attributes;
mod random;
mod rsa;
mod rsa_parts;
mod stack;
mod verify;
mod wrap;
mod wrap_for_import;
mod wrap_subkey;

// The public interface is:

/// The fuzz targets and the replay of their corpus.
#[cfg(any(test, fuzzing))]
pub mod fuzz_support;
pub use account_key::{
    AccountPair, PUBLIC_KEY_FILE_BYTES_MAX, PublicKeyError, generate_account_key_pair, public_key_pem,
    read_public_key, rsa_public_key,
};
pub use derive::{decapsulate, derive, encapsulate};
pub use error::CryptoError;
pub use export_value::export_value;
pub use generate::{GeneratedKey, generate};
pub use import::{Imported, import};
pub use jwt::{
    ASSERTION_SECONDS_MAX, AssertionAccount, CheckedAssertion, Issued, JWT_BYTES_MAX, JwtError, JwtKeys,
    JwtUse, LEEWAY_SECONDS, assertion_key, check_assertion,
};
pub use message::encrypt_message;
pub use opened_key::OpenedKey;
pub use operations::{decrypt, encrypt, sign, verify};
pub use public_attributes::{public_attributes, public_key_attributes};
pub use stack::wipe_stack;
pub use verify::{signature_from_der, signature_to_der};
pub use wrap::{unwrap, wrap};
pub use wrap_for_import::wrap_for_import;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod wycheproof_vectors;
