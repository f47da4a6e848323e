//! What makes the log one chain: each entry's MAC covers the entry and the MAC before it, and the head, which is the
//! last of them, has a MAC of its own. Who has not the key can neither edit, remove, reorder nor add entries, nor cut
//! off the end, without its being found. What cannot be found from here: that the whole database was replaced by an
//! older copy; against that the head is kept elsewhere ([`Walk::expecting`]).

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::integrity::{Cell, MAC_BYTES, RowKey};

/// The key of the chain: made from the rows' key, and good for nothing else.
pub struct Chain(RowKey);

/// One place in the log, and the MAC that stands for all up to there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// The entry's number.
    pub sequence: u64,
    /// Its MAC.
    pub mac: [u8; MAC_BYTES],
}

impl Link {
    /// Before the first entry.
    pub const START: Self = Self { sequence: 0, mac: [0; MAC_BYTES] };
}

/// `sequence:mac`, as an operator keeps it elsewhere.
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

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The last entry.
    pub last: Link,
    /// The last entry of those that were pruned: what is there begins after it.
    pub anchor: Link,
    /// The MAC of the last restart, if the log was ever begun anew (`restart`).
    pub restarted: Option<[u8; MAC_BYTES]>,
}

impl Head {
    /// Of an empty log.
    pub const START: Self = Self { last: Link::START, anchor: Link::START, restarted: None };
}

/// An entry as it is stored, without its MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row<'a> {
    /// Its number, as it was found.
    pub sequence: i64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The project.
    pub project: Option<Uuid>,
    /// The rest, as `form` writes it.
    pub body: &'a str,
}

impl Chain {
    /// The key of the chain of a home with this row key.
    pub fn of(rows: &RowKey) -> Self {
        Self(rows.derive("kms audit chain v1"))
    }

    /// The MAC of an entry that comes after another.
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
            ],
        )
    }

    /// The MAC of another row of the log's.
    pub(super) fn row(&self, table: &str, cells: &[(&str, Cell<'_>)]) -> [u8; MAC_BYTES] {
        self.0.mac(table, cells)
    }
}

/// What is wrong with the log, and where first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Broken {
    /// The number of the entry.
    pub sequence: i64,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The entry is not what was written there.
    Changed,
    /// The entry is gone.
    Missing,
    /// There is an entry where none can be.
    Added,
    /// The row that says where the log ends is gone, or was changed.
    Head,
    /// The log is another one than the head that was kept elsewhere says.
    Replaced,
    /// What a restart has set aside is not what it was then, or the restart itself is not.
    SetAside,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, fault } = self;
        match fault {
            Fault::Changed => write!(f, "entry {sequence} was changed, or moved here from elsewhere"),
            Fault::Missing => write!(f, "entry {sequence} is gone"),
            Fault::Added => write!(f, "entry {sequence} was added from outside"),
            Fault::Head => f.write_str("the row that says where the log ends is gone, or was changed"),
            Fault::Replaced => write!(f, "entry {sequence} is not the one that the given head names"),
            Fault::SetAside => {
                write!(f, "what restart {sequence} of the log has set aside was changed since")
            }
        }
    }
}

/// A log that is whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verified {
    /// How many entries are there.
    pub entries: u64,
    /// How many before them were removed for their age.
    pub pruned: u64,
    /// How often it was begun anew.
    pub restarts: u64,
    /// Where it begins and ends.
    pub head: Head,
}

/// Goes along a log, entry by entry.
pub struct Walk<'a> {
    chain: &'a Chain,
    head: Head,
    expected: Option<Link>,
    here: Link,
    entries: u64,
    /// After which number the log was begun last, and how often that was anew.
    begun: (u64, u64),
}

impl<'a> Walk<'a> {
    /// Begins where the head says.
    ///
    /// # Errors
    /// [`Fault::Head`] when the head does not bear its MAC.
    pub fn begin(chain: &'a Chain, head: Head, mac: &[u8]) -> Result<Self, Broken> {
        let walk = Self { chain, head, expected: None, here: head.anchor, entries: 0, begun: (0, 0) };
        let holds: bool = chain.head_mac(&head).as_slice().ct_eq(mac).into();
        if holds && head.anchor.sequence <= head.last.sequence { Ok(walk) } else { Err(Broken::HEAD) }
    }

    /// Tells how often the log was begun anew, and after which number last.
    #[must_use]
    pub fn begun(mut self, after: u64, restarts: u64) -> Self {
        self.begun = (after, restarts);
        self
    }

    /// Checks on the way that the log holds what an earlier head stood for. An entry that has been pruned since cannot
    /// be compared any more.
    ///
    /// # Errors
    /// [`Fault::Replaced`] when the log ends before it.
    pub fn expecting(mut self, earlier: Link) -> Result<Self, Broken> {
        if earlier.sequence > self.head.last.sequence {
            return Err(Broken { sequence: signed(earlier.sequence), fault: Fault::Replaced });
        }
        self.expected = Some(earlier);
        self.compare()?;
        Ok(self)
    }

    /// The next entry that is there, in the order of their numbers.
    ///
    /// # Errors
    /// When it is not the one that was written there.
    pub fn step(&mut self, row: &Row<'_>, mac: &[u8]) -> Result<(), Broken> {
        let (next, last) = (signed(self.here.sequence + 1), signed(self.head.last.sequence));
        if row.sequence < next || next > last {
            return Err(Broken { sequence: row.sequence, fault: Fault::Added });
        }
        if row.sequence > next {
            return Err(Broken { sequence: next, fault: Fault::Missing });
        }
        let right = self.chain.mac(&self.here, row);
        if !bool::from(right.as_slice().ct_eq(mac)) {
            return Err(Broken { sequence: row.sequence, fault: Fault::Changed });
        }
        self.here = Link { sequence: self.here.sequence + 1, mac: right };
        self.entries += 1;
        self.compare()
    }

    /// There is no further entry.
    ///
    /// # Errors
    /// When there should be.
    pub fn end(self) -> Result<Verified, Broken> {
        let next = signed(self.here.sequence + 1);
        if self.here.sequence < self.head.last.sequence {
            return Err(Broken { sequence: next, fault: Fault::Missing });
        }
        if self.here != self.head.last {
            return Err(Broken::HEAD);
        }
        let pruned = self.head.anchor.sequence.saturating_sub(self.begun.0);
        Ok(Verified { entries: self.entries, pruned, restarts: self.begun.1, head: self.head })
    }

    fn compare(&self) -> Result<(), Broken> {
        let other = self
            .expected
            .is_some_and(|expected| expected.sequence == self.here.sequence && expected.mac != self.here.mac);
        let sequence = signed(self.here.sequence);
        if other { Err(Broken { sequence, fault: Fault::Replaced }) } else { Ok(()) }
    }
}

impl Broken {
    /// The head is not ours.
    pub const HEAD: Self = Self { sequence: 0, fault: Fault::Head };
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

    /// A log as a database would hold it.
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
            // Bodies repeat, so that what differs between two entries is their place alone.
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

    fn verify(log: &Log, expected: Option<Link>) -> Result<Verified, Broken> {
        let chain = chain();
        let mut walk = Walk::begin(&chain, log.head, &log.head_mac)?;
        if let Some(expected) = expected {
            walk = walk.expecting(expected)?;
        }
        // A database gives rows by their number, however they were put there.
        let mut rows: Vec<_> = log.rows.iter().collect();
        rows.sort_by_key(|row| row.sequence);
        for row in rows {
            walk.step(&row.row(), &row.mac)?;
        }
        walk.end()
    }

    fn link(log: &Log, index: usize) -> Link {
        let row = &log.rows[index];
        // Somebody may have cut it before: what is missing is zeros then.
        let mut mac = [0; 32];
        mac[..row.mac.len()].copy_from_slice(&row.mac);
        Link { sequence: row.sequence.unsigned_abs(), mac }
    }

    #[test]
    fn a_log_as_it_was_written_is_whole() {
        for entries in 0..20 {
            let log = log(entries);
            let verified = verify(&log, None).unwrap();
            assert_eq!((verified.entries, verified.head), (u64::from(entries), log.head));
        }
    }

    #[test]
    fn a_head_is_read_as_it_is_printed() {
        let head = log(3).head.last;
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in ["", "3", "3:", "3:zz", "x:00", &format!("3:{}", "é".repeat(32))] {
            assert!(wrong.parse::<Link>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_older_copy_is_found_with_a_head_that_was_kept_elsewhere() {
        let (old, new) = (log(4), log(9));
        assert!(verify(&old, None).is_ok(), "from inside it looks whole");
        let kept = new.head.last;
        assert_eq!(verify(&old, Some(kept)), Err(Broken { sequence: 9, fault: Fault::Replaced }));
        assert!(verify(&new, Some(old.head.last)).is_ok());
        let other = Link { mac: [1; 32], ..old.head.last };
        assert_eq!(verify(&new, Some(other)), Err(Broken { sequence: 4, fault: Fault::Replaced }));
    }

    #[test]
    fn what_was_pruned_is_replaced_by_its_link() {
        let mut log = log(9);
        log.head.anchor = link(&log, 3);
        log.rows.drain(..4);
        assert_eq!(verify(&log, None), Err(Broken::HEAD), "only who has the key may prune");
        log.head_mac = chain().head_mac(&log.head).to_vec();
        assert_eq!(verify(&log, None).unwrap().entries, 5);
        assert!(verify(&log, Some(log.head.anchor)).is_ok());
        log.rows.remove(0);
        assert_eq!(verify(&log, None), Err(Broken { sequence: 5, fault: Fault::Missing }));
    }

    /// What somebody with the database but without the key may do.
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
            (at.clone(), 0..6_u8).prop_map(|(index, what)| Tampering::Edit(index, what)),
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
            Tampering::Edit(index, what) => {
                let row = &mut log.rows[index % count];
                match what {
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
                // Where there is a row already, a database takes no second one.
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
        fn nothing_can_be_changed_unseen(entries in 1..12_u8, acts in proptest::collection::vec(tampering(), 1..3)) {
            let whole = log(entries);
            let mut log = whole.clone();
            for act in &acts {
                if !log.rows.is_empty() {
                    tamper(&mut log, act);
                }
            }
            // Two acts may undo each other.
            let mut rows = log.rows.clone();
            rows.sort_by_key(|row| row.sequence);
            let same = rows == whole.rows && log.head == whole.head && log.head_mac == whole.head_mac;
            prop_assert_eq!(verify(&log, None).is_ok(), same, "{:?}", acts);
        }
    }
}
