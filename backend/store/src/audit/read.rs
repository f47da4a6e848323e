//! Reading the audit log: by project and time, page by page. The MAC of each returned entry is verified.

use kms_core::audit::{Chain, Link, Record};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{COLUMNS, TABLE, head, read};
use crate::rows::{bytes, invalid, signed, unsigned};
use crate::{Store, StoreError};

/// The entries to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditFilter {
    /// Those of one project; `None` for all, including those without a project.
    pub project: Option<Uuid>,
    /// The start of the time range, inclusive, in milliseconds since 1970.
    pub from: u64,
    /// The end of the time range, exclusive.
    pub until: u64,
}

/// The end of a page: the next page begins after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditCursor {
    /// The time of the last entry.
    pub at: u64,
    /// Its number.
    pub sequence: u64,
}

fn page(
    connection: &Connection,
    chain: &Chain,
    filter: &AuditFilter,
    after: Option<AuditCursor>,
    limit: usize,
) -> Result<Vec<Record>, StoreError> {
    let anchor = head(connection, chain)?.anchor;
    let before = "(SELECT mac FROM audit b WHERE b.sequence = audit.sequence - 1)";
    // Entries of one project are sorted by time, all entries in the order of the log.
    let sql = match filter.project {
        Some(_) => format!(
            "SELECT {COLUMNS}, {before} FROM audit INDEXED BY audit_by_project WHERE project = ?1 \
             AND at >= ?2 AND at < ?3 AND (at, sequence) > (?4, ?5) ORDER BY at, sequence LIMIT ?6"
        ),
        None => format!(
            "SELECT {COLUMNS}, {before} FROM audit WHERE ?1 IS NULL AND at >= ?2 AND at < ?3 \
             AND ?4 IS NOT NULL AND sequence > ?5 ORDER BY sequence LIMIT ?6"
        ),
    };
    let project = filter.project.as_ref().map(Uuid::as_bytes);
    let after = after.unwrap_or(AuditCursor { at: filter.from, sequence: 0 });
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (from, until) = (signed(filter.from), signed(filter.until));
    let mut rows =
        statement.query(params![project, from, until, signed(after.at), signed(after.sequence), limit])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let (entry, mac) = read(row)?;
        let before = match bytes(row, TABLE, 5)? {
            Some(before) => before.try_into().ok(),
            None => Some(anchor.mac).filter(|_| signed(anchor.sequence + 1) == entry.sequence),
        };
        let before = Link { sequence: 0, mac: before.ok_or_else(|| invalid(TABLE, row))? };
        let expected = chain.mac(&before, &entry);
        let link = Link { sequence: unsigned(entry.sequence), mac: expected };
        let record = Record::read(&link, unsigned(entry.at), entry.project, entry.body);
        records.push(record.filter(|_| expected == *mac).ok_or_else(|| invalid(TABLE, row))?);
    }
    Ok(records)
}

impl Store {
    /// Returns a page of the audit log, the oldest entries first: those of one project by their time, those of all in
    /// the order in which they were written.
    ///
    /// # Errors
    /// When the database fails, or one of the entries was changed.
    pub fn audit_page(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.readers.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            page(&snapshot, &Chain::of(&self.key), filter, after, limit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Fixture, entry};

    const ALL: AuditFilter = AuditFilter { project: None, from: 0, until: u64::MAX };

    fn filled() -> (Fixture, Store) {
        let (fixture, store) = Fixture::new();
        // Written in an order different from that of their times.
        for at in [5, 4, 4, 2, 9, 1] {
            store.record(entry(at)).unwrap();
        }
        (fixture, store)
    }

    fn pages(store: &Store, filter: &AuditFilter, limit: usize) -> Vec<(u64, u64)> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.audit_page(filter, after, limit).unwrap();
            assert!(page.len() <= limit);
            all.extend(page.iter().map(|record| (record.at, record.sequence)));
            let Some(last) = page.last() else { return all };
            after = Some(AuditCursor { at: last.at, sequence: last.sequence });
        }
    }

    #[test]
    fn pages_of_any_size_return_each_entry_once() {
        let (_home, store) = filled();
        let project = AuditFilter { project: Some(Uuid::from_u128(1)), ..ALL };
        for limit in 1..8 {
            assert_eq!(pages(&store, &ALL, limit), [(5, 1), (4, 2), (4, 3), (2, 4), (9, 5), (1, 6)]);
            assert_eq!(pages(&store, &project, limit), [(2, 4), (4, 2), (4, 3)]);
            let some = AuditFilter { from: 4, until: 5, ..project };
            assert_eq!(pages(&store, &some, limit), [(4, 2), (4, 3)]);
            assert_eq!(pages(&store, &AuditFilter { project: None, ..some }, limit), [(4, 2), (4, 3)]);
        }
        assert_eq!(pages(&store, &AuditFilter { project: Some(Uuid::nil()), ..ALL }, 9), []);
    }

    #[test]
    fn an_entry_that_was_changed_is_not_returned() {
        let (fixture, store) = filled();
        assert_eq!(fixture.edit("UPDATE audit SET body = replace(body, 'some', 'no') WHERE sequence = 2"), 1);
        assert!(matches!(
            store.audit_page(&ALL, None, 9),
            Err(StoreError::RowInvalid { table: "audit", .. })
        ));
        assert_eq!(store.audit_page(&ALL, None, 1).unwrap().len(), 1);
    }

    #[test]
    fn the_entries_that_remain_after_pruning_are_returned() {
        let (_home, store) = filled();
        store.prune_audit(5, &entry(10)).unwrap();
        assert_eq!(pages(&store, &ALL, 9)[0], (5, 1), "an older entry that follows it stays, too");
        store.prune_audit(6, &entry(10)).unwrap();
        assert_eq!(pages(&store, &ALL, 9)[0], (9, 5));
    }
}
