//! The stored form of PINs: argon2id over a MAC of the PIN, whose key only the HSM opens.
//!
//! A PIN may have four digits, and argon2id alone makes ten thousand guesses a matter of minutes for whoever has a copy
//! of the database. The MAC's key is a service key, wrapped by the master key: without the HSM's token there is nothing
//! to guess against.

use argon2::Argon2;
use hmac::{Hmac, KeyInit, Mac};
use kms_protocol::RingId;
use kms_store::{PinKind, Principal};
use password_hash::{PasswordHasher, PasswordVerifier};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::Error;

/// The service key of PINs.
pub struct PinKey(Zeroizing<[u8; 32]>);

impl From<Zeroizing<[u8; 32]>> for PinKey {
    fn from(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }
}

impl PinKey {
    /// Returns the stored form of a principal's PIN: argon2id with a random salt, in the PHC string format.
    ///
    /// # Errors
    /// When the operating system returns no random numbers, or there is no memory for argon2.
    pub fn hash(&self, ring: RingId, name: &str, pin: &[u8]) -> Result<String, Error> {
        hash(self.bind(ring, name, pin).as_slice())
    }

    /// Whether a PIN is the principal's.
    pub(super) fn verify(&self, ring: RingId, principal: &Principal, pin: &[u8]) -> Result<bool, Error> {
        // Computed for both kinds: the time says nothing about the kind.
        let bound = self.bind(ring, &principal.name, pin);
        match principal.pin_kind {
            PinKind::Plain => verify(pin, &principal.pin_hash),
            PinKind::Bound => verify(bound.as_slice(), &principal.pin_hash),
        }
    }

    /// The name under which failures are counted in the database, which does not show the names that were tried.
    pub(super) fn name_tag(&self, ring: RingId, name: &str) -> [u8; 16] {
        let parts = [b"kms login name v1".as_slice(), &ring.0, name.as_bytes()];
        let mut tag = [0; 16];
        tag.copy_from_slice(&mac_of_parts(self.0.as_slice(), &parts)[..16]);
        tag
    }

    /// A MAC of the PIN, bound to the principal that it belongs to.
    fn bind(&self, ring: RingId, name: &str, pin: &[u8]) -> Zeroizing<[u8; 32]> {
        let parts = [b"kms pin v1".as_slice(), &ring.0, name.as_bytes(), pin];
        Zeroizing::new(mac_of_parts(self.0.as_slice(), &parts))
    }
}

/// HMAC-SHA-256 over parts, each with its length before it, so that no two lists of parts have the same MAC.
pub(super) fn mac_of_parts(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Argon2id with a random salt.
pub(super) fn hash(bytes: &[u8]) -> Result<String, Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(Error::Random)?;
    let hash = Argon2::default().hash_password_with_salt(bytes, &salt).map_err(Error::Pin)?;
    Ok(hash.to_string())
}

/// Whether an argon2 hash is one of these bytes.
pub(super) fn verify(bytes: &[u8], stored: &str) -> Result<bool, Error> {
    match Argon2::default().verify_password(bytes, stored) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(Error::Pin(error)),
    }
}

#[cfg(test)]
mod tests {
    use kms_core::object::RingRole;

    use super::*;

    const RING: RingId = RingId([1; 16]);

    fn key(byte: u8) -> PinKey {
        PinKey::from(Zeroizing::new([byte; 32]))
    }

    fn principal(name: &str, pin_kind: PinKind, pin_hash: String) -> Principal {
        Principal::new(name.to_owned(), RingRole::User, pin_hash, pin_kind, 1)
    }

    #[test]
    fn a_bound_hash_needs_the_key_the_ring_and_the_name() {
        let hash = key(1).hash(RING, "user", b"1234").unwrap();
        let user = principal("user", PinKind::Bound, hash.clone());
        assert!(key(1).verify(RING, &user, b"1234").unwrap());
        assert!(!key(1).verify(RING, &user, b"1235").unwrap());
        assert!(!key(2).verify(RING, &user, b"1234").unwrap());
        assert!(!key(1).verify(RingId([2; 16]), &user, b"1234").unwrap());
        let so = principal("so", PinKind::Bound, hash.clone());
        assert!(!key(1).verify(RING, &so, b"1234").unwrap());
        // Neither the PIN itself nor the MAC is what an unbound hash is made over.
        let unbound = principal("user", PinKind::Plain, hash);
        assert!(!key(1).verify(RING, &unbound, b"1234").unwrap());
    }

    #[test]
    fn a_hash_of_an_earlier_version_is_still_verified() {
        let user = principal("user", PinKind::Plain, hash(b"1234").unwrap());
        assert!(key(1).verify(RING, &user, b"1234").unwrap());
        assert!(!key(1).verify(RING, &user, b"1235").unwrap());
    }

    #[test]
    fn name_and_pin_are_not_confused() {
        let (ab, a) = (key(1).bind(RING, "ab", b"1234"), key(1).bind(RING, "a", b"b1234"));
        assert_ne!(ab, a);
    }
}
