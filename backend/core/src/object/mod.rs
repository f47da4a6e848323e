//! Objects, key material, key specifications and callers: the types that the backend's crates pass to each other. Pure:
//! no I/O, no clock, no randomness.

mod caller;
mod key_spec;

use std::fmt;

use kms_protocol::{AttributeType, KeyType, ObjectClass, ObjectId, RingId, Template};
use zeroize::Zeroizing;

pub use caller::{Caller, Login, LoginId, Peer, RingRole};
pub use key_spec::{Curve, EdwardsMontgomery, KeySpec, MlDsaSet, MlKemSet};

/// Key bytes outside the HSM: neither `Clone` nor `Serialize`, and wiped when dropped. A secret key is its value; a
/// private key is PKCS #8 (`PrivateKeyInfo`, RFC 5958), DER.
pub struct KeyBytes(pub Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for KeyBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBytes({} bytes)", self.0.len())
    }
}

/// A version of the master key in the HSM, counted from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MasterVersion(pub u32);

/// A key's material as the database stores it: wrapped by the HSM under a version of the master key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrapped {
    /// The version of the master key that wrapped it.
    pub master: MasterVersion,
    /// The wrapped bytes.
    pub bytes: Vec<u8>,
}

/// The key and version that an object belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyVersion {
    /// The key's UUID.
    pub key: [u8; 16],
    /// The version's number, from 1.
    pub number: u32,
}

/// The date of a time in seconds since 1970, in the format of `CK_DATE`.
pub fn ck_date(seconds: u64) -> [u8; 8] {
    let days = i64::try_from(seconds / 86_400).unwrap_or(0);
    let date = time::Date::from_ordinal_date(1970, 1)
        .ok()
        .and_then(|first| first.checked_add(time::Duration::days(days)));
    let text = date.map_or_else(String::new, |date| {
        format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day())
    });
    text.as_bytes().try_into().unwrap_or(*b"19700101")
}

/// An object, loaded from the database or opened from a seal.
#[derive(Debug)]
pub struct Object {
    /// Its number in the database; a session object has none.
    pub id: Option<ObjectId>,
    /// The ring it belongs to.
    pub ring: RingId,
    /// The key and version it belongs to; certificates and data belong to none.
    pub version: Option<KeyVersion>,
    /// Its attributes, without the secret ones.
    pub attributes: Template,
    /// Its secret, if it has one.
    pub material: Material,
}

/// An object's secret, and the form it is in.
#[derive(Debug)]
pub enum Material {
    /// No secret: public keys, certificates.
    None,
    /// Wrapped, from the database.
    Wrapped(Wrapped),
    /// In plaintext, from an opened seal.
    Plaintext(KeyBytes),
}

impl Object {
    /// The value of a boolean attribute; a missing one is false.
    pub fn is(&self, attribute: AttributeType) -> bool {
        self.attributes.bool(attribute).unwrap_or(false)
    }

    /// Its class.
    pub fn class(&self) -> Option<ObjectClass> {
        self.attributes.class()
    }

    /// Its key type, if it is a key.
    pub fn key_type(&self) -> Option<KeyType> {
        self.attributes.key_type()
    }
}

/// An object to be stored or sealed: policy has checked and completed its attributes, except those that are added with
/// the key.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its attributes.
    pub attributes: Template,
    /// Whether it is a token object.
    pub token: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_format_of_ck_date() {
        assert_eq!(&ck_date(0), b"19700101");
        assert_eq!(&ck_date(951_782_400), b"20000229");
        assert_eq!(&ck_date(1_795_651_200), b"20261126");
        assert_eq!(&ck_date(86_399), b"19700101");
    }
}
