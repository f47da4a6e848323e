//! The key flow (RFC 7523): what a service account's signed assertion must say, and the tokens it is exchanged for.
//! Pure: the time and all random numbers are arguments.
//!
//! Access and refresh tokens are JWTs (RFC 7519), because clients read their `exp`; each kind is signed under a key of
//! its own, so that neither passes for the other. They name the account's generation: a newer one ends them.

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use sha2::Sha512;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The longest assertion or token that is looked at, in bytes: one under RSA-4096 takes 1,100.
pub const JWT_BYTES_MAX: usize = 4096;

/// How far a client's clock may be off, in seconds.
const LEEWAY_SECONDS: u64 = 60;

/// The longest life of an assertion, in seconds: the vendor's Go client asks for an hour.
const ASSERTION_SECONDS_MAX: u64 = 3600;

/// The longest `jti` of an assertion, in bytes: clients send a UUID.
const ASSERTION_ID_BYTES_MAX: usize = 256;

/// Who says so in our tokens.
const ISSUER: &str = "kms";

/// What a token of ours proves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Issued {
    /// Whose it is.
    pub account: Uuid,
    /// The account's generation when it was issued.
    pub generation: u64,
    /// The key that signed the assertion.
    pub key: Uuid,
    /// When it was issued, in seconds since 1970.
    pub issued: u64,
    /// From when it holds no longer.
    pub expires: u64,
}

/// The two kinds of tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JwtUse {
    /// Shown with each call.
    Access,
    /// Exchanged for the next access token.
    Refresh,
}

/// Why a text is no token of ours, or no assertion that counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwtError {
    /// It is not one, or not signed by whom it should be.
    #[error("it is not signed by a key that counts here")]
    Invalid,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it is issued in the future: check the clocks")]
    Early,
    /// It lives too long.
    #[error("it is valid for longer than an hour")]
    TooLong,
    /// It is meant for somebody else.
    #[error("its audience is not this service")]
    Audience,
    /// Issuer or subject are not the key's account.
    #[error("its issuer or subject is not the account whose key signed it")]
    Subject,
    /// It has no name, so that it could be used twice.
    #[error("it has no jti of 1 to {ASSERTION_ID_BYTES_MAX} bytes")]
    Nameless,
}

/// Signs and checks our tokens.
pub struct JwtKeys {
    access: (EncodingKey, DecodingKey),
    refresh: (EncodingKey, DecodingKey),
}

impl From<Zeroizing<[u8; 32]>> for JwtKeys {
    fn from(key: Zeroizing<[u8; 32]>) -> Self {
        let pair = |label: &[u8]| {
            // HS512 wants a key as long as its digest (RFC 7518, 3.2).
            let mac = Hmac::<Sha512>::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
            let derived: Zeroizing<[u8; 64]> =
                Zeroizing::new(mac.chain_update(label).finalize().into_bytes().into());
            (EncodingKey::from_secret(derived.as_slice()), DecodingKey::from_secret(derived.as_slice()))
        };
        Self { access: pair(b"kms access token v1"), refresh: pair(b"kms refresh token v1") }
    }
}

/// A token's claims as they are encoded.
#[derive(Deserialize, Serialize)]
struct Written {
    iss: String,
    sub: Uuid,
    #[serde(rename = "gen")]
    generation: u64,
    kid: Uuid,
    jti: Uuid,
    iat: u64,
    exp: u64,
}

impl JwtKeys {
    /// Writes a token. `name` is random, so that no two are alike.
    pub fn issue(&self, kind: JwtUse, issued: &Issued, name: Uuid) -> Zeroizing<String> {
        let written = Written {
            iss: ISSUER.to_owned(),
            sub: issued.account,
            generation: issued.generation,
            kid: issued.key,
            jti: name,
            iat: issued.issued,
            exp: issued.expires,
        };
        let key = &self.pair(kind).0;
        let text = encode(&Header::new(Algorithm::HS512), &written, key);
        Zeroizing::new(text.expect("numbers and ids can be encoded and signed"))
    }

    /// What a token proves at this time. Whether the account still has that generation is for the caller to compare.
    ///
    /// # Errors
    /// [`JwtError::Expired`]; [`JwtError::Invalid`] for all that is no token of ours.
    pub fn check(&self, kind: JwtUse, text: &str, now: u64) -> Result<Issued, JwtError> {
        if text.len() > JWT_BYTES_MAX {
            return Err(JwtError::Invalid);
        }
        let read = decode::<Written>(text, &self.pair(kind).1, &signature_alone(Algorithm::HS512));
        let claims = read.map_err(|_| JwtError::Invalid)?.claims;
        if claims.iss != ISSUER {
            return Err(JwtError::Invalid);
        }
        if now >= claims.exp {
            return Err(JwtError::Expired);
        }
        Ok(Issued {
            account: claims.sub,
            generation: claims.generation,
            key: claims.kid,
            issued: claims.iat,
            expires: claims.exp,
        })
    }

    fn pair(&self, kind: JwtUse) -> &(EncodingKey, DecodingKey) {
        match kind {
            JwtUse::Access => &self.access,
            JwtUse::Refresh => &self.refresh,
        }
    }
}

/// The library checks form and signature; times are checked here, for the library would read a clock of its own.
fn signature_alone(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

/// What an assertion's account is known by.
#[derive(Clone, Copy, Debug)]
pub struct Asserter<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its address.
    pub email: &'a str,
    /// The public key, `RSAPublicKey` (PKCS #1), DER.
    pub public: &'a [u8],
}

/// An assertion that counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asserted {
    /// Its name, given once by its account.
    pub name: String,
    /// When it can be forgotten: it is refused for its age from then on.
    pub forgotten_at: u64,
}

/// An assertion's claims.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    jti: Option<String>,
    iat: Option<u64>,
    exp: u64,
}

/// One audience or several (RFC 7519, 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(name) => name == wanted,
            Self::Several(names) => names.iter().any(|name| name == wanted),
        }
    }
}

/// The key that an assertion says it is signed with; nothing of it is proven yet.
pub fn assertion_key(text: &str) -> Option<Uuid> {
    if text.len() > JWT_BYTES_MAX {
        return None;
    }
    let header = decode_header(text).ok().filter(|header| header.alg == Algorithm::RS512)?;
    header.kid.as_deref().and_then(|kid| Uuid::parse_str(kid).ok())
}

/// Checks an assertion of an account.
///
/// # Errors
/// Why it does not count.
pub fn check_assertion(
    text: &str,
    asserter: Asserter<'_>,
    audience: &str,
    now: u64,
) -> Result<Asserted, JwtError> {
    if text.len() > JWT_BYTES_MAX {
        return Err(JwtError::Invalid);
    }
    let key = DecodingKey::from_rsa_der(asserter.public);
    let claims = match decode::<Claims>(text, &key, &signature_alone(Algorithm::RS512)) {
        Ok(read) => read.claims,
        Err(error) => {
            // The signature held, but what it signs lacks a claim or has one of another form.
            let unreadable = matches!(error.kind(), ErrorKind::Json(_));
            return Err(if unreadable { JwtError::Subject } else { JwtError::Invalid });
        }
    };
    if claims.iss != asserter.email || Uuid::parse_str(&claims.sub) != Ok(asserter.id) {
        return Err(JwtError::Subject);
    }
    if !claims.aud.names(audience) {
        return Err(JwtError::Audience);
    }
    let forgotten_at = claims.exp.saturating_add(LEEWAY_SECONDS);
    if now >= forgotten_at {
        return Err(JwtError::Expired);
    }
    let latest = now.saturating_add(LEEWAY_SECONDS);
    if claims.iat.is_some_and(|issued| issued > latest) {
        return Err(JwtError::Early);
    }
    let issued = claims.iat.unwrap_or(now);
    if claims.exp > latest.saturating_add(ASSERTION_SECONDS_MAX)
        || claims.exp.saturating_sub(issued) > ASSERTION_SECONDS_MAX
    {
        return Err(JwtError::TooLong);
    }
    let name = claims.jti.filter(|name| (1..=ASSERTION_ID_BYTES_MAX).contains(&name.len()));
    Ok(Asserted { name: name.ok_or(JwtError::Nameless)?, forgotten_at })
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::prelude::*;
    use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_000_000;
    const EMAIL: &str = "ci@test.sa.kms.local";
    const AUDIENCE: &str = "urn:kms:test";

    fn keys() -> JwtKeys {
        JwtKeys::from(Zeroizing::new([3; 32]))
    }

    fn issued() -> Issued {
        Issued {
            account: Uuid::from_u128(1),
            generation: 4,
            key: Uuid::from_u128(2),
            issued: NOW,
            expires: NOW + 600,
        }
    }

    #[test]
    fn a_token_proves_what_was_written_until_it_ends() {
        let text = keys().issue(JwtUse::Access, &issued(), Uuid::from_u128(9));
        assert_eq!(keys().check(JwtUse::Access, &text, NOW + 599), Ok(issued()));
        assert_eq!(keys().check(JwtUse::Access, &text, NOW + 600), Err(JwtError::Expired));
        assert_eq!(keys().check(JwtUse::Refresh, &text, NOW), Err(JwtError::Invalid));
        let others = JwtKeys::from(Zeroizing::new([4; 32]));
        assert_eq!(others.check(JwtUse::Access, &text, NOW), Err(JwtError::Invalid));
        assert_ne!(keys().issue(JwtUse::Access, &issued(), Uuid::from_u128(8)), text);
    }

    #[test]
    fn a_token_that_is_not_signed_or_signed_otherwise_is_none() {
        let text = keys().issue(JwtUse::Access, &issued(), Uuid::from_u128(9));
        let claims = text.split('.').nth(1).unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"RS512"}"#] {
            use base64::Engine;
            let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
            for signature in ["", text.rsplit('.').next().unwrap()] {
                let forged = format!("{header}.{claims}.{signature}");
                assert_eq!(keys().check(JwtUse::Access, &forged, NOW), Err(JwtError::Invalid));
            }
        }
    }

    proptest! {
        #[test]
        fn no_changed_token_counts(at: prop::sample::Index, to in "[A-Za-z0-9_-]", other in ".{0,60}") {
            let text = keys().issue(JwtUse::Access, &issued(), Uuid::from_u128(9));
            let at = at.index(text.len() - 1);
            let mut wrong = text.to_string();
            wrong.replace_range(at..=at, &to);
            if wrong != *text {
                prop_assert_eq!(keys().check(JwtUse::Access, &wrong, NOW), Err(JwtError::Invalid));
            }
            prop_assert_eq!(keys().check(JwtUse::Access, &other, NOW), Err(JwtError::Invalid));
            prop_assert!(assertion_key(&other).is_none());
        }
    }

    struct Pair {
        private: EncodingKey,
        public: Vec<u8>,
    }

    /// Two pairs, made once: the time goes into looking for primes.
    fn pairs() -> &'static [Pair; 2] {
        static PAIRS: OnceLock<[Pair; 2]> = OnceLock::new();
        let pair = || {
            let made = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
            use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
            let der: Pkcs8V1Der<'_> = made.as_der().unwrap();
            use rsa::pkcs8::DecodePrivateKey;
            let key = rsa::PrivateKey::from_pkcs8_der(der.as_ref()).unwrap();
            Pair {
                private: EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes()),
                public: key.to_public_key().to_pkcs1_der().unwrap().as_bytes().to_vec(),
            }
        };
        PAIRS.get_or_init(|| [pair(), pair()])
    }

    fn good() -> Value {
        json!({
            "iss": EMAIL, "sub": Uuid::from_u128(1).to_string(), "aud": AUDIENCE,
            "jti": "once", "iat": NOW, "exp": NOW + 600,
        })
    }

    fn signed(claims: &Value, algorithm: Algorithm) -> String {
        let mut header = Header::new(algorithm);
        header.kid = Some(Uuid::from_u128(2).to_string());
        encode(&header, claims, &pairs()[0].private).unwrap()
    }

    #[track_caller]
    fn check(text: &str, now: u64) -> Result<Asserted, JwtError> {
        let asserter = Asserter { id: Uuid::from_u128(1), email: EMAIL, public: &pairs()[0].public };
        check_assertion(text, asserter, AUDIENCE, now)
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn an_assertion_counts_for_its_account_and_audience_alone() {
        let text = signed(&good(), Algorithm::RS512);
        let asserted = Asserted { name: "once".to_owned(), forgotten_at: NOW + 660 };
        assert_eq!(check(&text, NOW), Ok(asserted));
        assert_eq!(assertion_key(&text), Some(Uuid::from_u128(2)));
        let other = Asserter { id: Uuid::from_u128(1), email: EMAIL, public: &pairs()[1].public };
        assert_eq!(check_assertion(&text, other, AUDIENCE, NOW), Err(JwtError::Invalid));
        for (name, value, error) in [
            ("iss", json!("other@test"), JwtError::Subject),
            ("sub", json!(Uuid::from_u128(3).to_string()), JwtError::Subject),
            ("sub", json!(17), JwtError::Subject),
            ("aud", json!("urn:kms:other"), JwtError::Audience),
            ("aud", json!([]), JwtError::Audience),
            ("jti", json!(""), JwtError::Nameless),
            ("jti", json!("x".repeat(300)), JwtError::Nameless),
            ("jti", Value::Null, JwtError::Nameless),
            ("iat", json!(NOW + 61), JwtError::Early),
            ("exp", json!(NOW + 3601), JwtError::TooLong),
            ("iat", json!(NOW - 3600), JwtError::TooLong),
            ("exp", json!(u64::MAX), JwtError::TooLong),
        ] {
            let claims = with(name, value);
            assert_eq!(check(&signed(&claims, Algorithm::RS512), NOW), Err(error), "{claims}");
        }
        let several = with("aud", json!(["x", AUDIENCE]));
        assert!(check(&signed(&several, Algorithm::RS512), NOW).is_ok());
        let ageless = with("iat", Value::Null);
        assert!(check(&signed(&ageless, Algorithm::RS512), NOW).is_ok());
    }

    #[test]
    fn an_assertion_ends_with_some_leeway_and_is_signed_with_rs512() {
        let text = signed(&good(), Algorithm::RS512);
        assert!(check(&text, NOW + 659).is_ok());
        assert_eq!(check(&text, NOW + 660), Err(JwtError::Expired));
        assert!(check(&text, NOW - 60).is_ok());
        assert_eq!(check(&text, NOW - 61), Err(JwtError::Early));
        for algorithm in [Algorithm::RS256, Algorithm::PS512] {
            let other = signed(&good(), algorithm);
            assert_eq!(check(&other, NOW), Err(JwtError::Invalid));
            assert_eq!(assertion_key(&other), None);
        }
        // The public key as a secret: the old confusion of RS512 and HS512.
        let secret = EncodingKey::from_secret(&pairs()[0].public);
        let confused = encode(&Header::new(Algorithm::HS512), &good(), &secret).unwrap();
        assert_eq!(check(&confused, NOW), Err(JwtError::Invalid));
        let long = format!("{text}{}", "x".repeat(JWT_BYTES_MAX));
        assert_eq!((check(&long, NOW), assertion_key(&long)), (Err(JwtError::Invalid), None));
    }
}
