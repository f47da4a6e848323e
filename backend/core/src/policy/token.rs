//! Static tokens: `kms_` and 48 characters, which hold 32 random bytes and a checksum (docs/decisions/0024). Pure:
//! randomness is an argument.
//!
//! The database stores SHA-256 of a token. No slow hash is needed: 256 random bits cannot be guessed. The checksum is
//! not secret; it distinguishes a token from text that only looks like one, without a database query.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The prefix of every token, by which secret scanners find it.
pub const TOKEN_PREFIX: &str = "kms_";

/// The number of random bytes in a token.
pub const TOKEN_SECRET_BYTES: usize = 32;

const CHECK_BYTES: usize = 4;

/// The number of characters of a token.
const TOKEN_CHARACTERS: usize = TOKEN_PREFIX.len() + (TOKEN_SECRET_BYTES + CHECK_BYTES) / 3 * 4;

/// Encodes random bytes as a token.
pub fn token_of(secret: &[u8; TOKEN_SECRET_BYTES]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; TOKEN_SECRET_BYTES + CHECK_BYTES]);
    bytes[..TOKEN_SECRET_BYTES].copy_from_slice(secret);
    bytes[TOKEN_SECRET_BYTES..].copy_from_slice(&checksum(secret));
    let mut text = Zeroizing::new(String::with_capacity(TOKEN_CHARACTERS));
    text.push_str(TOKEN_PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
    text
}

/// Whether a text has the form and the checksum of a token; the database decides whether it is valid.
pub fn is_token(text: &str) -> bool {
    let Some(encoded) = text.strip_prefix(TOKEN_PREFIX).filter(|_| text.len() == TOKEN_CHARACTERS) else {
        return false;
    };
    let mut bytes = Zeroizing::new([0; TOKEN_SECRET_BYTES + CHECK_BYTES]);
    if URL_SAFE_NO_PAD.decode_slice(encoded, bytes.as_mut_slice()).is_err() {
        return false;
    }
    let (secret, check) = bytes.split_at(TOKEN_SECRET_BYTES);
    checksum(secret) == check
}

/// The SHA-256 digest of a token or another credential's text, as the database stores it.
pub fn token_digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn checksum(secret: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::new().chain_update(b"kms token v1 ").chain_update(secret).finalize();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_form_of_tokens_is_stable() {
        let token = token_of(&[7; 32]);
        assert_eq!(*token, "kms_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcmsa_9");
        assert_eq!(token.len(), TOKEN_CHARACTERS);
        assert!(is_token(&token));
    }

    proptest! {
        #[test]
        fn a_changed_or_shortened_token_is_rejected(secret: [u8; 32], at in 0_usize..52, to in "[A-Za-z0-9_-]") {
            let token = token_of(&secret);
            prop_assert!(is_token(&token));
            let mut wrong = token.to_string();
            wrong.replace_range(at..=at, &to);
            prop_assert!(wrong == *token || !is_token(&wrong));
            prop_assert!(!is_token(&token[..at]));
        }

        #[test]
        fn no_other_text_is_a_token(text in ".{0,80}") {
            prop_assert!(!is_token(&text));
        }
    }
}
