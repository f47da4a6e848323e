//! Restarts of a log in which a fault was found: the existing entries are set aside as they are, and the new chain
//! begins with a link whose MAC covers all of them. They cannot be changed or removed undetected.

use sha2::{Digest, Sha256};

use super::chain::{Chain, Link};
use crate::integrity::{Cell, MAC_BYTES};

/// A restart of the audit log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restart {
    /// Its number: 1 for the first.
    pub number: u64,
    /// The time, in milliseconds since 1970.
    pub at: u64,
    /// The name of the operator who restarted the log.
    pub name: String,
    /// The fault that was found.
    pub problem: String,
    /// The head as it was found, if there was one.
    pub head: Option<String>,
    /// The number of entries that were set aside.
    pub entries: u64,
    /// The digest of the entries as they were found, and of everything that was set aside before.
    pub digest: [u8; MAC_BYTES],
    /// The new log's first entry has the next number after this one.
    pub after: u64,
}

impl Chain {
    /// The MAC of a restart.
    pub fn restart_mac(&self, restart: &Restart) -> [u8; MAC_BYTES] {
        let number = |number: u64| Cell::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        self.row(
            "audit_restarts",
            &[
                ("number", number(restart.number)),
                ("at", number(restart.at)),
                ("name", Cell::Text(&restart.name)),
                ("problem", Cell::Text(&restart.problem)),
                ("head", Cell::from(restart.head.as_deref())),
                ("entries", number(restart.entries)),
                ("digest", Cell::Bytes(&restart.digest)),
                ("after", number(restart.after)),
            ],
        )
    }
}

impl Restart {
    /// The link at which the new chain begins.
    pub fn link(&self, mac: [u8; MAC_BYTES]) -> Link {
        Link { sequence: self.after, mac }
    }
}

/// The digest of rows, whatever they contain.
#[derive(Default)]
pub struct RowsDigest(Sha256);

impl RowsDigest {
    /// Adds the next row, whose columns are always in the same order.
    pub fn add(&mut self, columns: &[Cell<'_>]) {
        for column in columns {
            let (tag, number, bytes);
            match column {
                Cell::Null => (tag, bytes) = (b'N', [].as_slice()),
                Cell::Integer(value) => {
                    number = value.to_le_bytes();
                    (tag, bytes) = (b'I', number.as_slice());
                }
                Cell::Text(text) => (tag, bytes) = (b'T', text.as_bytes()),
                Cell::Bytes(blob) => (tag, bytes) = (b'B', *blob),
            }
            self.0.update([tag]);
            self.0.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
            self.0.update(bytes);
        }
    }

    /// The digest of all rows.
    pub fn digest(self) -> [u8; MAC_BYTES] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::integrity::RowKey;

    #[test]
    fn the_mac_covers_each_part_of_a_restart() {
        let chain = Chain::of(&RowKey::from(Zeroizing::new([3; 32])));
        let one = Restart {
            number: 1,
            at: 2,
            name: "uid 0".to_owned(),
            problem: "entry 3 is missing".to_owned(),
            head: Some("7:aa".to_owned()),
            entries: 6,
            digest: [1; MAC_BYTES],
            after: 7,
        };
        let mac = chain.restart_mac(&one);
        let others = [
            Restart { number: 2, ..one.clone() },
            Restart { at: 3, ..one.clone() },
            Restart { name: "uid 1".to_owned(), ..one.clone() },
            Restart { problem: "none".to_owned(), ..one.clone() },
            Restart { head: None, ..one.clone() },
            Restart { entries: 5, ..one.clone() },
            Restart { digest: [2; MAC_BYTES], ..one.clone() },
            Restart { after: 8, ..one.clone() },
        ];
        for other in others {
            assert_ne!(chain.restart_mac(&other), mac, "{other:?}");
        }
        assert_eq!(one.link(mac), Link { sequence: 7, mac });
    }

    #[test]
    fn the_digest_covers_each_part_of_the_rows() {
        let digest_of = |rows: &[&[Cell<'_>]]| {
            let mut digest = RowsDigest::default();
            rows.iter().for_each(|row| digest.add(row));
            digest.digest()
        };
        let (one, two) = (Cell::Integer(1), Cell::Integer(2));
        let all = [
            digest_of(&[]),
            digest_of(&[&[one, Cell::Null, Cell::Bytes(b"body")]]),
            digest_of(&[&[two, Cell::Null, Cell::Bytes(b"body")]]),
            digest_of(&[&[one, Cell::Bytes(b""), Cell::Bytes(b"body")]]),
            digest_of(&[&[one, Cell::Null, Cell::Text("body")]]),
            digest_of(&[&[one, Cell::Bytes(b"bo"), Cell::Bytes(b"dy")]]),
            digest_of(&[&[one, Cell::Null, Cell::Bytes(b"body")], &[two]]),
            digest_of(&[&[two], &[one, Cell::Null, Cell::Bytes(b"body")]]),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }
}
