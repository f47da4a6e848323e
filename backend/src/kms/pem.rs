//! Public keys as text (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Characters in a line.
const LINE: usize = 64;

/// A `SubjectPublicKeyInfo`, DER, as PEM.
pub fn public_key_pem(info: &[u8]) -> String {
    let text = STANDARD.encode(info);
    let mut pem = String::with_capacity(text.len() + text.len() / LINE + 64);
    pem.push_str("-----BEGIN PUBLIC KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};

    use super::*;

    #[test]
    fn what_is_written_others_read() {
        let key = p521::SecretKey::from_slice(&[1; 66]);
        let key = key.unwrap_or_else(|_| {
            p521::SecretKey::from_slice(&[0; 65].iter().chain(&[7]).copied().collect::<Vec<u8>>()).unwrap()
        });
        let info = key.public_key().to_public_key_der().unwrap();
        assert_eq!(
            p521::PublicKey::from_public_key_pem(&public_key_pem(info.as_bytes())).unwrap(),
            key.public_key()
        );
    }
}
