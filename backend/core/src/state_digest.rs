//! The state digest: one number for each table of the database, from which follows that its rows are those that were
//! written, no more, no fewer and none of an earlier time (docs/decisions/0047). Pure: random bytes are an argument.
//!
//! A table's number is the sum, modulo 2^256, of HMAC-SHA-256 over each of its rows. So it is updated with two MACs when
//! a row changes, whatever the size of the table. The numbers are stored encrypted, so that who reads the database does
//! not learn the MAC of any row and cannot look for rows whose sums are equal.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use zeroize::Zeroizing;

use crate::integrity::{Cell, MAC_BYTES, RowKey};

/// The number of random bytes with which a digest is sealed.
pub const STATE_NONCE_BYTES: usize = 24;

/// The length of a sealed digest's mark: its nonce and its tag. No two sealed digests have the same.
pub const STATE_MARK_BYTES: usize = STATE_NONCE_BYTES + TAG_BYTES;

const TAG_BYTES: usize = 16;

/// The length of one table's entry: its number, its count, its sum.
const ENTRY_BYTES: usize = 1 + 8 + MAC_BYTES;

/// The mark of a sealed digest, by which the audit head names it.
pub type StateMark = [u8; STATE_MARK_BYTES];

/// The keys of the state digest, both derived from the home's row key.
pub struct StateKey {
    rows: RowKey,
    seal: RowKey,
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateKey")
    }
}

/// The rows of one table: how many, and the sum of their MACs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TableDigest {
    count: u64,
    /// 256 bits, the least significant first.
    sum: [u64; 4],
}

impl TableDigest {
    /// The number of rows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds the rows of another.
    pub fn add(&mut self, other: &Self) {
        self.count = self.count.wrapping_add(other.count);
        let mut carry = false;
        for (limb, more) in self.sum.iter_mut().zip(other.sum) {
            let (sum, first) = limb.overflowing_add(more);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first || second);
        }
    }

    /// Takes the rows of another away.
    pub fn remove(&mut self, other: &Self) {
        // Two's complement: the difference modulo 2^256 is the sum with the complement and one.
        let mut negative = Self { count: other.count.wrapping_neg(), sum: other.sum.map(|limb| !limb) };
        negative.add(&Self { count: 0, sum: [1, 0, 0, 0] });
        self.add(&negative);
    }

    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// The digests of all tables, by the tables' numbers. Also a change of them: what it adds less what it takes away.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StateDigest(BTreeMap<u8, TableDigest>);

impl StateDigest {
    /// The digest of a table.
    pub fn table(&self, number: u8) -> TableDigest {
        self.0.get(&number).copied().unwrap_or_default()
    }

    /// Adds a row to a table.
    pub fn add(&mut self, number: u8, row: &TableDigest) {
        self.0.entry(number).or_default().add(row);
    }

    /// Takes a row of a table away.
    pub fn remove(&mut self, number: u8, row: &TableDigest) {
        self.0.entry(number).or_default().remove(row);
    }

    /// Applies a change.
    pub fn apply(&mut self, change: &Self) {
        for (number, table) in &change.0 {
            self.add(*number, table);
        }
    }

    /// Whether it changes nothing.
    pub fn is_zero(&self) -> bool {
        self.0.values().all(TableDigest::is_zero)
    }
}

impl StateKey {
    /// Derives the keys from the home's row key.
    pub fn of(rows: &RowKey) -> Self {
        Self { rows: rows.derive("kms state digest rows v1"), seal: rows.derive("kms state digest seal v1") }
    }

    /// The digest of one row: of its table, and of the name and value of each column that is not null. The order of the
    /// columns does not matter.
    pub fn row(&self, table: &str, columns: &mut [(&str, Cell<'_>)]) -> TableDigest {
        columns.sort_unstable_by_key(|(name, _)| *name);
        let mac = self.rows.mac(table, columns);
        let mut sum = [0; 4];
        for (limb, bytes) in sum.iter_mut().zip(mac.chunks_exact(8)) {
            *limb = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        TableDigest { count: 1, sum }
    }

    /// Encrypts a digest; `nonce` is random. Returns its mark and the sealed bytes.
    pub fn seal(&self, digest: &StateDigest, nonce: [u8; STATE_NONCE_BYTES]) -> (StateMark, Vec<u8>) {
        let mut sealed = nonce.to_vec();
        for (number, table) in digest.0.iter().filter(|(_, table)| !table.is_zero()) {
            sealed.push(*number);
            sealed.extend_from_slice(&table.count.to_le_bytes());
            table.sum.iter().for_each(|limb| sealed.extend_from_slice(&limb.to_le_bytes()));
        }
        let content = &mut sealed[STATE_NONCE_BYTES..];
        let tag = self
            .cipher(&nonce)
            .encrypt_inout_detached(&Nonce::default(), b"", content.into())
            .expect("some hundred bytes are not too many for AES-GCM");
        sealed.extend_from_slice(&tag);
        (mark(&sealed).expect("a nonce and a tag"), sealed)
    }

    /// Decrypts a digest that has this mark; `None` if it is another, or was changed.
    pub fn open(&self, expected: &StateMark, sealed: &[u8]) -> Option<StateDigest> {
        if mark(sealed)? != *expected {
            return None;
        }
        let (nonce, rest) = sealed.split_first_chunk::<STATE_NONCE_BYTES>()?;
        let (content, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut content = content.to_vec();
        self.cipher(nonce)
            .decrypt_inout_detached(&Nonce::default(), b"", content.as_mut_slice().into(), &Tag::from(*tag))
            .ok()?;
        let mut digest = StateDigest::default();
        for entry in content.chunks(ENTRY_BYTES) {
            let (number, rest) = entry.split_first()?;
            let (count, sum) = rest.split_first_chunk::<8>()?;
            let limbs: Vec<u64> =
                sum.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
            let table = TableDigest { count: u64::from_le_bytes(*count), sum: limbs.try_into().ok()? };
            digest.0.insert(*number, table);
        }
        Some(digest)
    }

    /// The cipher of one seal: each has a key of its own, so that no two share a key and a nonce.
    fn cipher(&self, nonce: &[u8; STATE_NONCE_BYTES]) -> Aes256Gcm {
        let key = Zeroizing::new(self.seal.keyed(nonce));
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
    }
}

/// The mark of sealed bytes: the nonce before them and the tag after them.
pub fn mark(sealed: &[u8]) -> Option<StateMark> {
    let (nonce, rest) = sealed.split_first_chunk::<STATE_NONCE_BYTES>()?;
    let tag = rest.last_chunk::<TAG_BYTES>()?;
    let mut mark = [0; STATE_MARK_BYTES];
    mark[..STATE_NONCE_BYTES].copy_from_slice(nonce);
    mark[STATE_NONCE_BYTES..].copy_from_slice(tag);
    Some(mark)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> StateKey {
        StateKey::of(&RowKey::from(Zeroizing::new([7; 32])))
    }

    fn row(number: i64) -> TableDigest {
        key().row("t", &mut [("id", Cell::Integer(number)), ("b", Cell::Null), ("a", Cell::Text("x"))])
    }

    #[test]
    fn a_row_counts_by_its_table_its_names_and_its_values_in_any_order() {
        let one = row(1);
        assert_eq!(one, key().row("t", &mut [("a", Cell::Text("x")), ("id", Cell::Integer(1))]));
        assert_ne!(one, key().row("u", &mut [("a", Cell::Text("x")), ("id", Cell::Integer(1))]));
        assert_ne!(one, key().row("t", &mut [("a", Cell::Bytes(b"x")), ("id", Cell::Integer(1))]));
        assert_ne!(one, key().row("t", &mut [("b", Cell::Text("x")), ("id", Cell::Integer(1))]));
        assert_ne!(one, row(2));
    }

    #[test]
    fn a_sealed_digest_opens_with_its_mark_only() {
        let mut digest = StateDigest::default();
        digest.add(3, &row(1));
        digest.add(9, &row(2));
        let (mark, sealed) = key().seal(&digest, [1; STATE_NONCE_BYTES]);
        assert_eq!(key().open(&mark, &sealed), Some(digest.clone()));
        let (other, again) = key().seal(&digest, [2; STATE_NONCE_BYTES]);
        assert!(mark != other && sealed != again);
        assert_eq!(key().open(&mark, &again), None);
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(key().open(&mark, &changed), None, "byte {index}");
        }
        assert_eq!(key().open(&mark, &sealed[..10]), None);
        let empty = key().seal(&StateDigest::default(), [3; STATE_NONCE_BYTES]);
        assert_eq!(key().open(&empty.0, &empty.1), Some(StateDigest::default()));
    }

    proptest! {
        #[test]
        fn what_was_added_and_taken_away_in_any_order_is_what_is_left(
            rows in proptest::collection::vec((0..4_u8, 0..20_i64), 0..30),
            removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let mut digest = StateDigest::default();
            let mut left = rows.clone();
            for (table, number) in &rows {
                digest.add(*table, &row(*number));
            }
            for index in removed {
                if !left.is_empty() {
                    let (table, number) = left.swap_remove(index.index(left.len()));
                    digest.remove(table, &row(number));
                }
            }
            let mut expected = StateDigest::default();
            for (table, number) in &left {
                expected.add(*table, &row(*number));
            }
            for table in 0..4 {
                prop_assert_eq!(digest.table(table), expected.table(table));
                let count = left.iter().filter(|(of, _)| *of == table).count();
                prop_assert_eq!(digest.table(table).count(), u64::try_from(count).unwrap());
            }
            prop_assert_eq!(left.is_empty(), digest.is_zero());
        }
    }
}
