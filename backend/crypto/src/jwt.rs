//! The key flow (RFC 7523): checks of a service account's signed assertion, and the tokens that it is exchanged for.
//! Pure: the time and all random numbers are arguments.
//!
//! Access and refresh tokens are JWTs (RFC 7519), because clients read their `exp`; each kind is signed with a key of
//! its own, so that neither is accepted as the other. They contain the account's generation: a newer one ends them.

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use sha2::Sha512;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The maximum size of an assertion or a token, in bytes: one signed with RSA-4096 takes 1,100.
pub const JWT_BYTES_MAX: usize = 4096;

/// The tolerated deviation of a client's clock, in seconds.
pub const LEEWAY_SECONDS: u64 = 60;

/// The maximum lifetime of an assertion, in seconds: the vendor's Go client asks for an hour.
pub const ASSERTION_SECONDS_MAX: u64 = 3600;

/// The maximum length of an assertion's `jti`, in bytes: clients send a UUID.
const ASSERTION_ID_BYTES_MAX: usize = 256;

/// The issuer of our tokens.
const ISSUER: &str = "kms";

/// The content of a token of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Issued {
    /// The account that it was issued to.
    pub account: Uuid,
    /// The account's generation when it was issued.
    pub generation: u64,
    /// The key that signed the assertion.
    pub key: Uuid,
    /// When it was issued, in seconds since 1970.
    pub issued: u64,
    /// When it expires, in the same unit.
    pub expires: u64,
    /// The login that it descends from; none in tokens of earlier versions.
    pub family: Option<Uuid>,
}

/// The two kinds of tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JwtUse {
    /// Sent with each request.
    Access,
    /// Exchanged for the next access token.
    Refresh,
}

/// Why a token or an assertion is rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwtError {
    /// It is malformed, or not signed with the right key.
    #[error("it is not signed with an accepted key")]
    Invalid,
    /// Its header names an extension that must be understood.
    #[error("its header has crit or b64, and no such extension is supported (RFC 7515, section 4.1.11)")]
    Critical,
    /// It has expired.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it is issued in the future: check the clocks")]
    Early,
    /// Its lifetime is too long.
    #[error("it is valid for longer than an hour")]
    TooLong,
    /// It has another audience.
    #[error("its audience is not this service")]
    Audience,
    /// Its issuer or subject is not the key's account.
    #[error("its issuer or subject is not the account whose key signed it")]
    Subject,
    /// It has no `jti`, so that a second use would not be detected.
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
            // HS512 requires a key as long as its digest (RFC 7518, 3.2).
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
struct TokenClaims {
    iss: String,
    sub: Uuid,
    #[serde(rename = "gen")]
    generation: u64,
    kid: Uuid,
    jti: Uuid,
    iat: u64,
    exp: u64,
    #[serde(default, rename = "fam", skip_serializing_if = "Option::is_none")]
    family: Option<Uuid>,
}

impl JwtKeys {
    /// Issues a token. `name` is random, so that no two tokens are equal.
    pub fn issue(&self, kind: JwtUse, issued: &Issued, name: Uuid) -> Zeroizing<String> {
        let claims = TokenClaims {
            iss: ISSUER.to_owned(),
            sub: issued.account,
            generation: issued.generation,
            kid: issued.key,
            jti: name,
            iat: issued.issued,
            exp: issued.expires,
            family: issued.family,
        };
        let key = &self.pair(kind).0;
        let text = encode(&Header::new(Algorithm::HS512), &claims, key);
        Zeroizing::new(text.expect("numbers and ids can be encoded and signed"))
    }

    /// Checks a token at this time and returns its content. The caller compares the generation with the account's.
    ///
    /// # Errors
    /// [`JwtError::Expired`]; [`JwtError::Invalid`] for everything that is no token of ours.
    pub fn check(&self, kind: JwtUse, text: &str, now: u64) -> Result<Issued, JwtError> {
        self.check_named(kind, text, now).map(|(issued, _)| issued)
    }

    /// As [`JwtKeys::check`]; also returns the token's name, the `jti`.
    ///
    /// # Errors
    /// As [`JwtKeys::check`].
    pub fn check_named(&self, kind: JwtUse, text: &str, now: u64) -> Result<(Issued, Uuid), JwtError> {
        if text.len() > JWT_BYTES_MAX {
            return Err(JwtError::Invalid);
        }
        let read = decode::<TokenClaims>(text, &self.pair(kind).1, &signature_only(Algorithm::HS512));
        let claims = read.map_err(|_| JwtError::Invalid)?.claims;
        if claims.iss != ISSUER {
            return Err(JwtError::Invalid);
        }
        if now >= claims.exp {
            return Err(JwtError::Expired);
        }
        let issued = Issued {
            account: claims.sub,
            generation: claims.generation,
            key: claims.kid,
            issued: claims.iat,
            expires: claims.exp,
            family: claims.family,
        };
        Ok((issued, claims.jti))
    }

    fn pair(&self, kind: JwtUse) -> &(EncodingKey, DecodingKey) {
        match kind {
            JwtUse::Access => &self.access,
            JwtUse::Refresh => &self.refresh,
        }
    }
}

/// The key that signs one kind of tokens, for what the fuzz targets sign.
#[cfg(any(test, fuzzing))]
pub(super) fn signing_key(keys: &JwtKeys, kind: JwtUse) -> &EncodingKey {
    &keys.pair(kind).0
}

/// The library checks form and signature; times are checked here, because the library would read a clock of its own.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

/// The account that an assertion must be from.
#[derive(Clone, Copy, Debug)]
pub struct AssertionAccount<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its address.
    pub email: &'a str,
    /// The public key, `RSAPublicKey` (PKCS #1), DER.
    pub public: &'a [u8],
}

/// A valid assertion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedAssertion {
    /// Its `jti`, which its account uses once.
    pub name: String,
    /// When its record can be deleted: from then on it is rejected as expired.
    pub forgotten_at: u64,
    /// When it was signed, if it says so (`iat`).
    pub issued: Option<u64>,
}

/// An assertion's claims.
#[derive(Deserialize)]
struct AssertionClaims {
    iss: String,
    sub: String,
    aud: Audience,
    jti: Option<String>,
    iat: Option<u64>,
    nbf: Option<u64>,
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

/// The key with which an assertion claims to be signed; nothing is verified yet.
pub fn assertion_key(text: &str) -> Option<Uuid> {
    if text.len() > JWT_BYTES_MAX {
        return None;
    }
    let header = decode_header(text).ok().filter(|header| header.alg == Algorithm::RS512)?;
    header.kid.as_deref().and_then(|kid| Uuid::parse_str(kid).ok())
}

/// Whether a header names an extension that its reader must understand. None is supported, so RFC 7515, section 4.1.11,
/// requires rejecting the token. `b64` (RFC 7797) changes what is signed and is rejected however it is written.
fn is_critical(header: &Header) -> bool {
    header.crit.is_some() || header.extras.inner().contains_key("b64")
}

/// Checks an assertion of an account.
///
/// # Errors
/// Why it is rejected.
pub fn check_assertion(
    text: &str,
    asserter: AssertionAccount<'_>,
    audience: &str,
    now: u64,
) -> Result<CheckedAssertion, JwtError> {
    if text.len() > JWT_BYTES_MAX {
        return Err(JwtError::Invalid);
    }
    let key = DecodingKey::from_rsa_der(asserter.public);
    let claims = match decode::<AssertionClaims>(text, &key, &signature_only(Algorithm::RS512)) {
        Ok(read) if is_critical(&read.header) => return Err(JwtError::Critical),
        Ok(read) => read.claims,
        Err(error) => {
            // The signature is valid, but a claim is missing or malformed.
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
    if claims.iat.max(claims.nbf).is_some_and(|start| start > latest) {
        return Err(JwtError::Early);
    }
    let issued = claims.iat.unwrap_or(now);
    if claims.exp > latest.saturating_add(ASSERTION_SECONDS_MAX)
        || claims.exp.saturating_sub(issued) > ASSERTION_SECONDS_MAX
    {
        return Err(JwtError::TooLong);
    }
    let name = claims.jti.filter(|name| (1..=ASSERTION_ID_BYTES_MAX).contains(&name.len()));
    Ok(CheckedAssertion { name: name.ok_or(JwtError::Nameless)?, forgotten_at, issued: claims.iat })
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
            family: Some(Uuid::from_u128(3)),
        }
    }

    #[test]
    fn a_token_is_valid_until_it_expires() {
        let text = keys().issue(JwtUse::Access, &issued(), Uuid::from_u128(9));
        assert_eq!(keys().check(JwtUse::Access, &text, NOW + 599), Ok(issued()));
        assert_eq!(keys().check(JwtUse::Access, &text, NOW + 600), Err(JwtError::Expired));
        assert_eq!(keys().check(JwtUse::Refresh, &text, NOW), Err(JwtError::Invalid));
        let others = JwtKeys::from(Zeroizing::new([4; 32]));
        assert_eq!(others.check(JwtUse::Access, &text, NOW), Err(JwtError::Invalid));
        assert_ne!(keys().issue(JwtUse::Access, &issued(), Uuid::from_u128(8)), text);
    }

    #[test]
    fn a_token_without_our_signature_is_rejected() {
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
        fn a_changed_token_is_rejected(at: prop::sample::Index, to in "[A-Za-z0-9_-]", other in ".{0,60}") {
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

    /// Two key pairs, generated once because the search for primes takes long.
    fn pairs() -> &'static [Pair; 2] {
        static PAIRS: OnceLock<[Pair; 2]> = OnceLock::new();
        let pair = || {
            let generated = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
            use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
            let der: Pkcs8V1Der<'_> = generated.as_der().unwrap();
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
    fn check(text: &str, now: u64) -> Result<CheckedAssertion, JwtError> {
        let asserter = AssertionAccount { id: Uuid::from_u128(1), email: EMAIL, public: &pairs()[0].public };
        check_assertion(text, asserter, AUDIENCE, now)
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn an_assertion_is_valid_for_its_account_and_audience_only() {
        let text = signed(&good(), Algorithm::RS512);
        let asserted =
            CheckedAssertion { name: "once".to_owned(), forgotten_at: NOW + 660, issued: Some(NOW) };
        assert_eq!(check(&text, NOW), Ok(asserted));
        assert_eq!(assertion_key(&text), Some(Uuid::from_u128(2)));
        let other = AssertionAccount { id: Uuid::from_u128(1), email: EMAIL, public: &pairs()[1].public };
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
        let without_iat = with("iat", Value::Null);
        assert!(check(&signed(&without_iat, Algorithm::RS512), NOW).is_ok());
    }

    #[test]
    fn an_assertion_expires_with_leeway_and_is_signed_with_rs512() {
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
        // The public key as an HMAC secret: the known confusion of RS512 and HS512.
        let secret = EncodingKey::from_secret(&pairs()[0].public);
        let confused = encode(&Header::new(Algorithm::HS512), &good(), &secret).unwrap();
        assert_eq!(check(&confused, NOW), Err(JwtError::Invalid));
        let long = format!("{text}{}", "x".repeat(JWT_BYTES_MAX));
        assert_eq!((check(&long, NOW), assertion_key(&long)), (Err(JwtError::Invalid), None));
    }

    #[test]
    fn an_assertion_is_rejected_before_its_nbf() {
        let early = signed(&with("nbf", json!(NOW + 61)), Algorithm::RS512);
        assert_eq!(check(&early, NOW), Err(JwtError::Early));
        assert!(check(&early, NOW + 1).is_ok(), "a minute of leeway");
        assert!(check(&signed(&with("nbf", json!(NOW - 5)), Algorithm::RS512), NOW).is_ok());
        let malformed = signed(&with("nbf", json!("soon")), Algorithm::RS512);
        assert_eq!(check(&malformed, NOW), Err(JwtError::Subject));
    }

    #[test]
    fn a_critical_header_is_rejected_though_the_signature_is_valid() {
        for (name, value) in
            [("crit", json!(["exp"])), ("crit", json!([])), ("b64", json!(false)), ("b64", json!(true))]
        {
            let mut header = serde_json::to_value(Header::new(Algorithm::RS512)).unwrap();
            header["kid"] = json!(Uuid::from_u128(2).to_string());
            header[name] = value;
            let header: Header = serde_json::from_value(header).unwrap();
            let text = encode(&header, &good(), &pairs()[0].private).unwrap();
            assert_eq!(check(&text, NOW), Err(JwtError::Critical), "{name}");
        }
    }
}
