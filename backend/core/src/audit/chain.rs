//! The audit chain: each entry's MAC covers the entry and the MAC before it, and the head, which names the last entry,
//! has a MAC of its own. Without the key it is not possible to edit, remove, reorder or add entries, or to truncate the
//! log, undetected. One change cannot be detected from the log alone: that the whole database was replaced by an older
//! copy. For that a copy of the head is stored elsewhere ([`ChainVerifier::expecting`]).

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::integrity::{Cell, MAC_BYTES, RowKey};
use crate::state_digest::StateMark;

/// The key of the audit chain, derived from the row key for this purpose only.
pub struct Chain(RowKey);

/// A position in the log, and the MAC that covers all entries up to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// The entry's number.
    pub sequence: u64,
    /// Its MAC.
    pub mac: [u8; MAC_BYTES],
}

impl Link {
    /// The position before the first entry.
    pub const START: Self = Self { sequence: 0, mac: [0; MAC_BYTES] };
}

/// `sequence:mac`, the form in which an operator stores it elsewhere.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.sequence)?;
        self.mac.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Link {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "a head is a number, a colon and 64 hexadecimal digits, as `kms audit head` prints it";
        let (sequence, digits) = text.trim().split_once(':').ok_or(FORM)?;
        let sequence = sequence.parse().map_err(|_| FORM)?;
        if digits.len() != 2 * MAC_BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(FORM);
        }
        let mut mac = [0; MAC_BYTES];
        for (byte, pair) in mac.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| FORM)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| FORM)?;
        }
        Ok(Self { sequence, mac })
    }
}

/// The audit head: where the log begins and ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The last entry.
    pub last: Link,
    /// The last entry that was pruned; the stored entries begin after it.
    pub anchor: Link,
    /// The MAC of the last restart, if the log was ever restarted (`restart`).
    pub restarted: Option<[u8; MAC_BYTES]>,
    /// The mark of the state digest that belongs to this head; none before there was one.
    pub state: Option<StateMark>,
    /// How often the number outside of the database had grown; none before there was one.
    pub counter: Option<u64>,
}

impl Head {
    /// The head of an empty log.
    pub const START: Self =
        Self { last: Link::START, anchor: Link::START, restarted: None, state: None, counter: None };
}

/// An entry as it is stored, without its MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row<'a> {
    /// Its number, as it was read.
    pub sequence: i64,
    /// The time, in milliseconds since 1970.
    pub at: i64,
    /// The project.
    pub project: Option<Uuid>,
    /// The rest, as JSON (`record`).
    pub body: &'a str,
}

impl Chain {
    /// Derives the chain's key from the home's row key.
    pub fn of(rows: &RowKey) -> Self {
        Self(rows.derive("kms audit chain v1"))
    }

    /// The MAC of an entry, which follows another.
    pub fn mac(&self, before: &Link, row: &Row<'_>) -> [u8; MAC_BYTES] {
        let project = row.project.as_ref().map(|project| project.as_bytes().as_slice());
        self.0.mac(
            "audit",
            &[
                ("sequence", Cell::Integer(row.sequence)),
                ("at", Cell::Integer(row.at)),
                ("project", Cell::from(project)),
                ("body", Cell::Text(row.body)),
                ("before", Cell::Bytes(&before.mac)),
            ],
        )
    }

    /// The MAC of the head.
    pub fn head_mac(&self, head: &Head) -> [u8; MAC_BYTES] {
        let number = |link: &Link| Cell::Integer(i64::try_from(link.sequence).unwrap_or(i64::MAX));
        self.0.mac(
            "audit_head",
            &[
                ("sequence", number(&head.last)),
                ("link", Cell::Bytes(&head.last.mac)),
                ("anchor", number(&head.anchor)),
                ("anchor_link", Cell::Bytes(&head.anchor.mac)),
                ("restarted", Cell::from(head.restarted.as_ref().map(<[u8; MAC_BYTES]>::as_slice))),
                ("state", Cell::from(head.state.as_ref().map(StateMark::as_slice))),
                (
                    "counter",
                    Cell::from(head.counter.map(|counter| i64::try_from(counter).unwrap_or(i64::MAX))),
                ),
            ],
        )
    }

    /// The MAC of another row that belongs to the log.
    pub(super) fn row(&self, table: &str, cells: &[(&str, Cell<'_>)]) -> [u8; MAC_BYTES] {
        self.0.mac(table, cells)
    }
}

/// The first fault that was found in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChainFault {
    /// The number of the entry.
    pub sequence: i64,
    /// What is wrong with it.
    pub fault: FaultKind,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// The entry is not the one that was written.
    Changed,
    /// The entry is missing.
    Missing,
    /// There is an entry where there can be none.
    Added,
    /// The row that records the end of the log is missing or was changed.
    Head,
    /// The log is not the one of the head that was stored elsewhere.
    Replaced,
    /// The entries that a restart set aside, or the restart itself, were changed.
    SetAside,
    /// The rows of a table are not those that were written: some were deleted, added, edited or put back.
    Table {
        /// The table.
        name: &'static str,
        /// The number of rows that were written.
        written: u64,
        /// The number of rows that are there.
        found: u64,
    },
    /// The state digest itself is missing or was changed.
    State,
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, fault } = self;
        match fault {
            FaultKind::Changed => write!(f, "entry {sequence} was changed, or moved here from elsewhere"),
            FaultKind::Missing => write!(f, "entry {sequence} is missing"),
            FaultKind::Added => write!(f, "entry {sequence} was added from outside"),
            FaultKind::Head => {
                f.write_str("the row that records the end of the log is missing or was changed")
            }
            FaultKind::Replaced => write!(f, "entry {sequence} is not the one that the given head names"),
            FaultKind::SetAside => {
                write!(f, "what restart {sequence} of the log has set aside was changed since")
            }
            FaultKind::Table { name, written, found } => write!(
                f,
                "the rows of table {name} are not those that kms wrote ({found} rows, {written} were written): some \
                 were deleted, added, edited or put back from outside"
            ),
            FaultKind::State => f.write_str("the digest of the database's rows is missing or was changed"),
        }
    }
}

/// The result of verifying a log without faults.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The number of stored entries.
    pub entries: u64,
    /// The number of entries before them that were pruned because of their age.
    pub pruned: u64,
    /// The number of restarts.
    pub restarts: u64,
    /// The head.
    pub head: Head,
}

/// Verifies a log entry by entry.
pub struct ChainVerifier<'a> {
    chain: &'a Chain,
    head: Head,
    expected: Option<Link>,
    position: Link,
    entries: u64,
    /// The number after which the last restart began, and the number of restarts.
    restarted: (u64, u64),
}

impl<'a> ChainVerifier<'a> {
    /// Begins at the head's anchor.
    ///
    /// # Errors
    /// [`FaultKind::Head`] when the head's MAC is wrong.
    pub fn begin(chain: &'a Chain, head: Head, mac: &[u8]) -> Result<Self, ChainFault> {
        let walk = Self { chain, head, expected: None, position: head.anchor, entries: 0, restarted: (0, 0) };
        let authentic: bool = chain.head_mac(&head).as_slice().ct_eq(mac).into();
        if authentic && head.anchor.sequence <= head.last.sequence { Ok(walk) } else { Err(ChainFault::HEAD) }
    }

    /// Sets the number after which the last restart began, and the number of restarts.
    #[must_use]
    pub fn begun(mut self, after: u64, restarts: u64) -> Self {
        self.restarted = (after, restarts);
        self
    }

    /// Also checks that the log contains the entry of an earlier head. An entry that has been pruned since cannot be
    /// compared any more.
    ///
    /// # Errors
    /// [`FaultKind::Replaced`] when the log ends before that entry.
    pub fn expecting(mut self, earlier: Link) -> Result<Self, ChainFault> {
        if earlier.sequence > self.head.last.sequence {
            return Err(ChainFault { sequence: signed(earlier.sequence), fault: FaultKind::Replaced });
        }
        self.expected = Some(earlier);
        self.check_expected()?;
        Ok(self)
    }

    /// Verifies the next stored entry, in the order of their numbers.
    ///
    /// # Errors
    /// When it is not the one that was written.
    pub fn step(&mut self, row: &Row<'_>, mac: &[u8]) -> Result<(), ChainFault> {
        let (next, last) = (signed(self.position.sequence + 1), signed(self.head.last.sequence));
        if row.sequence < next || next > last {
            return Err(ChainFault { sequence: row.sequence, fault: FaultKind::Added });
        }
        if row.sequence > next {
            return Err(ChainFault { sequence: next, fault: FaultKind::Missing });
        }
        let expected = self.chain.mac(&self.position, row);
        if !bool::from(expected.as_slice().ct_eq(mac)) {
            return Err(ChainFault { sequence: row.sequence, fault: FaultKind::Changed });
        }
        self.position = Link { sequence: self.position.sequence + 1, mac: expected };
        self.entries += 1;
        self.check_expected()
    }

    /// Finishes after the last stored entry.
    ///
    /// # Errors
    /// When there should be more entries.
    pub fn end(self) -> Result<Verified, ChainFault> {
        let next = signed(self.position.sequence + 1);
        if self.position.sequence < self.head.last.sequence {
            return Err(ChainFault { sequence: next, fault: FaultKind::Missing });
        }
        if self.position != self.head.last {
            return Err(ChainFault::HEAD);
        }
        let pruned = self.head.anchor.sequence.saturating_sub(self.restarted.0);
        Ok(Verified { entries: self.entries, pruned, restarts: self.restarted.1, head: self.head })
    }

    fn check_expected(&self) -> Result<(), ChainFault> {
        let other = self.expected.is_some_and(|expected| {
            expected.sequence == self.position.sequence && expected.mac != self.position.mac
        });
        let sequence = signed(self.position.sequence);
        if other { Err(ChainFault { sequence, fault: FaultKind::Replaced }) } else { Ok(()) }
    }
}

impl ChainFault {
    /// The fault of a missing or changed head.
    pub const HEAD: Self = Self { sequence: 0, fault: FaultKind::Head };
}

fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Stored {
        sequence: i64,
        at: i64,
        project: Option<Uuid>,
        body: String,
        mac: Vec<u8>,
    }

    impl Stored {
        fn row(&self) -> Row<'_> {
            Row { sequence: self.sequence, at: self.at, project: self.project, body: &self.body }
        }
    }

    /// A log as a database stores it.
    #[derive(Clone, Debug, PartialEq)]
    struct Log {
        rows: Vec<Stored>,
        head: Head,
        head_mac: Vec<u8>,
    }

    fn chain() -> Chain {
        Chain::of(&RowKey::from(Zeroizing::new([3; 32])))
    }

    fn log(entries: u8) -> Log {
        let (chain, mut head, mut rows) = (chain(), Head::START, Vec::new());
        for number in 1..=entries {
            // Bodies repeat, so that some entries differ only in their position.
            let (at, project) = (i64::from(number / 2), (number % 3 == 0).then(|| Uuid::from_u128(1)));
            let body = format!("entry of kind {}", number % 2);
            let mut row = Stored { sequence: i64::from(number), at, project, body, mac: Vec::new() };
            let mac = chain.mac(&head.last, &row.row());
            row.mac = mac.to_vec();
            rows.push(row);
            head.last = Link { sequence: u64::from(number), mac };
        }
        Log { rows, head, head_mac: chain.head_mac(&head).to_vec() }
    }

    fn verify(log: &Log, expected: Option<Link>) -> Result<Verified, ChainFault> {
        let chain = chain();
        let mut walk = ChainVerifier::begin(&chain, log.head, &log.head_mac)?;
        if let Some(expected) = expected {
            walk = walk.expecting(expected)?;
        }
        // A database returns rows ordered by their number, however they were inserted.
        let mut rows: Vec<_> = log.rows.iter().collect();
        rows.sort_by_key(|row| row.sequence);
        for row in rows {
            walk.step(&row.row(), &row.mac)?;
        }
        walk.end()
    }

    fn link(log: &Log, index: usize) -> Link {
        let row = &log.rows[index];
        // An earlier tampering may have truncated the MAC; missing bytes are zeros.
        let mut mac = [0; 32];
        mac[..row.mac.len()].copy_from_slice(&row.mac);
        Link { sequence: row.sequence.unsigned_abs(), mac }
    }

    #[test]
    fn an_unchanged_log_has_no_faults() {
        for entries in 0..20 {
            let log = log(entries);
            let verified = verify(&log, None).unwrap();
            assert_eq!((verified.entries, verified.head), (u64::from(entries), log.head));
        }
    }

    #[test]
    fn a_printed_head_can_be_parsed() {
        let head = log(3).head.last;
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in ["", "3", "3:", "3:zz", "x:00", &format!("3:{}", "é".repeat(32))] {
            assert!(wrong.parse::<Link>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_older_copy_is_detected_with_a_head_that_was_stored_elsewhere() {
        let (old, new) = (log(4), log(9));
        assert!(verify(&old, None).is_ok(), "the copy itself has no faults");
        let stored = new.head.last;
        assert_eq!(verify(&old, Some(stored)), Err(ChainFault { sequence: 9, fault: FaultKind::Replaced }));
        assert!(verify(&new, Some(old.head.last)).is_ok());
        let other = Link { mac: [1; 32], ..old.head.last };
        assert_eq!(verify(&new, Some(other)), Err(ChainFault { sequence: 4, fault: FaultKind::Replaced }));
    }

    #[test]
    fn pruned_entries_are_replaced_by_the_anchor() {
        let mut log = log(9);
        log.head.anchor = link(&log, 3);
        log.rows.drain(..4);
        assert_eq!(verify(&log, None), Err(ChainFault::HEAD), "pruning requires the key");
        log.head_mac = chain().head_mac(&log.head).to_vec();
        assert_eq!(verify(&log, None).unwrap().entries, 5);
        assert!(verify(&log, Some(log.head.anchor)).is_ok());
        log.rows.remove(0);
        assert_eq!(verify(&log, None), Err(ChainFault { sequence: 5, fault: FaultKind::Missing }));
    }

    /// Changes that are possible with access to the database but without the key.
    #[derive(Clone, Debug)]
    enum Tampering {
        Edit(usize, u8),
        Remove(usize),
        Swap(usize, usize),
        Truncate(usize),
        Duplicate(usize, i64),
        MoveHead(usize),
        EditHead(usize),
    }

    fn tampering() -> impl Strategy<Value = Tampering> {
        let at = 0..12_usize;
        prop_oneof![
            (at.clone(), 0..6_u8).prop_map(|(index, column)| Tampering::Edit(index, column)),
            at.clone().prop_map(Tampering::Remove),
            (at.clone(), at.clone()).prop_map(|(left, right)| Tampering::Swap(left, right)),
            at.clone().prop_map(Tampering::Truncate),
            (at.clone(), -2..20_i64).prop_map(|(index, to)| Tampering::Duplicate(index, to)),
            at.clone().prop_map(Tampering::MoveHead),
            at.prop_map(Tampering::EditHead),
        ]
    }

    fn tamper(log: &mut Log, tampering: &Tampering) {
        let count = log.rows.len();
        match *tampering {
            Tampering::Edit(index, column) => {
                let row = &mut log.rows[index % count];
                match column {
                    0 => row.at += 1,
                    1 => row.project = row.project.is_none().then(|| Uuid::from_u128(1)),
                    2 => row.body.push(' '),
                    3 => row.mac[30] ^= 1,
                    4 => row.mac.truncate(31),
                    _ => row.body = "entry of another kind".to_owned(),
                }
            }
            Tampering::Remove(index) => drop(log.rows.remove(index % count)),
            Tampering::Swap(left, right) => {
                let (left, right) = (left % count, right % count);
                let (first, second) = (log.rows[left].sequence, log.rows[right].sequence);
                (log.rows[left].sequence, log.rows[right].sequence) = (second, first);
            }
            Tampering::Truncate(index) => log.rows.truncate(index % count),
            Tampering::Duplicate(index, to) => {
                // A database accepts no second row with the same number.
                if log.rows.iter().all(|row| row.sequence != to) {
                    log.rows.push(Stored { sequence: to, ..log.rows[index % count].clone() });
                }
            }
            Tampering::MoveHead(index) => {
                log.rows.truncate(index % count);
                log.head.last = if index % count == 0 { Link::START } else { link(log, index % count - 1) };
            }
            Tampering::EditHead(index) => log.head_mac[index] ^= 1,
        }
    }

    proptest! {
        #[test]
        fn every_change_is_detected(entries in 1..12_u8, changes in proptest::collection::vec(tampering(), 1..3)) {
            let original = log(entries);
            let mut log = original.clone();
            for change in &changes {
                if !log.rows.is_empty() {
                    tamper(&mut log, change);
                }
            }
            // Two changes may undo each other.
            let mut rows = log.rows.clone();
            rows.sort_by_key(|row| row.sequence);
            let same = rows == original.rows && log.head == original.head && log.head_mac == original.head_mac;
            prop_assert_eq!(verify(&log, None).is_ok(), same, "{:?}", changes);
        }
    }
}
