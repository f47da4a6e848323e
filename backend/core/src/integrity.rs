//! Row MACs, and the identity that a key's material is bound to (architecture D7, docs/decisions/0005). Pure: no
//! database and no HSM, only the values that they check.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use kms_protocol::{KeyType, ObjectClass, RingId};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::object::KeyVersion;

/// The length of a row MAC, in bytes.
pub const MAC_BYTES: usize = 32;

/// The identity that the HSM binds a key's material to: everything about a key that never changes. The HSM rejects the
/// material under any other identity.
pub fn identity(ring: RingId, version: KeyVersion, class: ObjectClass, kind: KeyType) -> Vec<u8> {
    let mut identity = b"kms key material v1 ".to_vec();
    identity.extend_from_slice(&ring.0);
    identity.extend_from_slice(&version.key);
    // Every part has a fixed length, so no two identities have the same bytes.
    for number in [version.number, class.0, kind.0] {
        identity.extend_from_slice(&number.to_be_bytes());
    }
    identity
}

/// The identity for the value of an object that is not a key; its unique id never changes either.
pub fn value_identity(ring: RingId, unique_id: &[u8]) -> Vec<u8> {
    [b"kms object value v1 ".as_slice(), &ring.0, unique_id].concat()
}

/// One value of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// A number.
    Integer(i64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl<'a> From<Option<&'a [u8]>> for Cell<'a> {
    fn from(bytes: Option<&'a [u8]>) -> Self {
        bytes.map_or(Self::Null, Self::Bytes)
    }
}

impl<'a> From<Option<&'a str>> for Cell<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<Option<i64>> for Cell<'_> {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Integer)
    }
}

/// The key of the row MACs, itself wrapped by the HSM.
pub struct RowKey(Zeroizing<[u8; 32]>);

impl From<Zeroizing<[u8; 32]>> for RowKey {
    fn from(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowKey")
    }
}

impl RowKey {
    /// The MAC of a row: over its table, and the name and value of every column that is not null, including the primary
    /// key.
    ///
    /// Null columns are left out, so rows stay valid when a later migration adds a column. A value cannot be removed or
    /// added undetected, because the MAC covers each value with its column's name.
    pub fn mac(&self, table: &str, columns: &[(&str, Cell<'_>)]) -> [u8; MAC_BYTES] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes a key of any length");
        let mut part = |tag: u8, bytes: &[u8]| {
            mac.update(&[tag]);
            mac.update(&u64::try_from(bytes.len()).expect("a length fits in 64 bits").to_le_bytes());
            mac.update(bytes);
        };
        part(b'R', table.as_bytes());
        for (name, cell) in columns {
            let (tag, number, bytes);
            match cell {
                Cell::Null => continue,
                Cell::Integer(value) => {
                    number = value.to_le_bytes();
                    (tag, bytes) = (b'I', number.as_slice());
                }
                Cell::Text(text) => (tag, bytes) = (b'T', text.as_bytes()),
                Cell::Bytes(blob) => (tag, bytes) = (b'B', *blob),
            }
            part(b'C', name.as_bytes());
            part(tag, bytes);
        }
        mac.finalize().into_bytes().into()
    }

    /// Derives a key for another purpose. It cannot be used to create MACs of rows.
    pub fn derive(&self, purpose: &str) -> Self {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes a key of any length");
        // The input of a row MAC begins with `R`, so no row MAC equals this value.
        mac.update(b"D");
        mac.update(purpose.as_bytes());
        Self(Zeroizing::new(mac.finalize().into_bytes().into()))
    }

    /// A key for one seal, from the seal's random bytes. It cannot be used to create MACs of rows.
    pub(crate) fn keyed(&self, nonce: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes a key of any length");
        mac.update(b"S");
        mac.update(nonce);
        mac.finalize().into_bytes().into()
    }

    /// Whether a row's MAC is right. Compared in constant time: an attacker who edits rows must not learn the right MAC
    /// byte by byte.
    pub fn holds(&self, table: &str, columns: &[(&str, Cell<'_>)], mac: &[u8]) -> bool {
        self.mac(table, columns).as_slice().ct_eq(mac).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> RowKey {
        RowKey::from(Zeroizing::new([7; 32]))
    }

    #[test]
    fn each_part_of_an_identity_changes_it() {
        let version = KeyVersion { key: [1; 16], number: 1 };
        let of = |ring: u8, version, class, kind| identity(RingId([ring; 16]), version, class, kind);
        let first = of(1, version, ObjectClass::SECRET_KEY, KeyType::AES);
        let others = [
            of(2, version, ObjectClass::SECRET_KEY, KeyType::AES),
            of(1, KeyVersion { key: [2; 16], number: 1 }, ObjectClass::SECRET_KEY, KeyType::AES),
            of(1, KeyVersion { key: [1; 16], number: 2 }, ObjectClass::SECRET_KEY, KeyType::AES),
            of(1, version, ObjectClass::PRIVATE_KEY, KeyType::AES),
            of(1, version, ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET),
        ];
        for other in others {
            assert_ne!(first, other);
            assert_eq!(first.len(), other.len());
        }
    }

    #[test]
    fn identities_are_what_existing_material_is_bound_to() {
        let version = KeyVersion { key: [2; 16], number: 3 };
        let key = identity(RingId([1; 16]), version, ObjectClass::SECRET_KEY, KeyType::AES);
        let numbers = [0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0x1f];
        assert_eq!(key, [b"kms key material v1 ".as_slice(), &[1; 16], &[2; 16], &numbers].concat());
        assert_eq!(
            value_identity(RingId([1; 16]), b"id"),
            [b"kms object value v1 ".as_slice(), &[1; 16], b"id"].concat()
        );
    }

    #[test]
    fn a_mac_belongs_to_a_table_and_a_key() {
        let row = [("id", Cell::Integer(1))];
        let mac = key().mac("objects", &row);
        assert!(key().holds("objects", &row, &mac));
        assert!(!key().holds("versions", &row, &mac));
        assert!(!RowKey::from(Zeroizing::new([8; 32])).holds("objects", &row, &mac));
        assert!(!key().holds("objects", &row, &mac[..31]));
        assert!(!key().holds("objects", &row, &[]));
    }

    #[test]
    fn derived_keys_differ_by_purpose() {
        let row = [("id", Cell::Integer(1))];
        let macs = [key(), key().derive("a"), key().derive("b"), key().derive("a").derive("b")]
            .map(|key| key.mac("t", &row));
        for (index, mac) in macs.iter().enumerate() {
            assert!(!macs[..index].contains(mac));
        }
        assert_eq!(key().derive("a").mac("t", &row), macs[1]);
    }

    #[test]
    fn a_new_column_changes_the_mac_only_if_it_is_not_null() {
        let row = [("id", Cell::Integer(1))];
        let later = [("id", Cell::Integer(1)), ("later", Cell::Null)];
        let used = [("id", Cell::Integer(1)), ("later", Cell::Integer(0))];
        assert_eq!(key().mac("t", &row), key().mac("t", &later));
        assert_ne!(key().mac("t", &row), key().mac("t", &used));
    }

    #[derive(Clone, Debug, Eq, PartialEq)]
    enum Owned {
        Integer(i64),
        Text(String),
        Bytes(Vec<u8>),
    }

    fn cell(owned: &Owned) -> Cell<'_> {
        match owned {
            Owned::Integer(number) => Cell::Integer(*number),
            Owned::Text(text) => Cell::Text(text),
            Owned::Bytes(bytes) => Cell::Bytes(bytes),
        }
    }

    fn row() -> impl Strategy<Value = Vec<(String, Owned)>> {
        let value = prop_oneof![
            any::<i64>().prop_map(Owned::Integer),
            "[a-c]{0,3}".prop_map(Owned::Text),
            proptest::collection::vec(0_u8..3, 0..3).prop_map(Owned::Bytes),
        ];
        proptest::collection::vec(("[a-c]{0,2}", value), 0..3)
    }

    proptest! {
        #[test]
        fn only_equal_rows_have_the_same_mac(left in row(), right in row()) {
            let columns = |row: &'_ [(String, Owned)]| {
                key().mac("t", &row.iter().map(|(name, value)| (name.as_str(), cell(value))).collect::<Vec<_>>())
            };
            prop_assert_eq!(columns(&left) == columns(&right), left == right);
        }
    }
}
