//! The number of key versions available in each hour, which is billed (docs/decisions/0028). It is computed from time
//! spans that are recorded with each change (`spans`), so it survives restarts and counts while no daemon runs.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::rows::signed;
use super::{Store, StoreError};

/// An hour, in seconds.
const HOUR: u64 = 3600;

/// The maximum number of hours in one query: a leap year.
pub const USAGE_HOURS_MAX: u64 = 366 * 24;

/// The usage of one hour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HourUsage {
    /// Its start, in seconds since 1970.
    pub hour: u64,
    /// The number of versions that were available at any time in it: this is billed.
    pub versions: u64,
    /// The total time for which they were available, in seconds.
    pub seconds: u64,
}

/// The versions to count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UsageScope {
    /// Those of all projects.
    All,
    /// Those of one project.
    Project(Uuid),
}

fn usage(
    connection: &Connection,
    of: UsageScope,
    (from, until): (u64, u64),
    now: u64,
) -> Result<Vec<HourUsage>, StoreError> {
    let first = from / HOUR;
    let count = (until.min(now).div_ceil(HOUR)).saturating_sub(first).min(USAGE_HOURS_MAX);
    let length = usize::try_from(count).unwrap_or(0);
    let mut hours: Vec<HourUsage> =
        (first..first + count).map(|hour| HourUsage { hour: hour * HOUR, ..HourUsage::default() }).collect();
    let project = match of {
        UsageScope::All => None,
        UsageScope::Project(id) => Some(id),
    };
    // Ordered by version, so that each counts once in an hour, however often it became available.
    let sql = "SELECT key, number, since, until FROM spans WHERE since < ?2 AND (until IS NULL OR until > ?1) \
               AND (?3 IS NULL OR project = ?3) ORDER BY key, number, since";
    let mut statement = connection.prepare_cached(sql)?;
    let (begin, end) = (first * HOUR, until.min(now));
    let project = project.as_ref().map(Uuid::as_bytes);
    let mut rows = statement.query(params![signed(begin), signed(end), project])?;
    let mut last_counted: Option<([u8; 16], u32, usize)> = None;
    while let Some(row) = rows.next()? {
        let (key, number): ([u8; 16], u32) = (row.get(0)?, row.get(1)?);
        let since = row.get::<_, u64>(2)?.max(begin);
        let until = row.get::<_, Option<u64>>(3)?.unwrap_or(end).min(end);
        let mut at = usize::try_from((since - begin) / HOUR).unwrap_or(length);
        while let Some(hour) = hours.get_mut(at).filter(|hour| hour.hour < until) {
            let counted = last_counted.is_some_and(|(k, n, hour)| (k, n) == (key, number) && hour >= at);
            hour.versions += u64::from(!counted);
            hour.seconds += until.min(hour.hour + HOUR).saturating_sub(since.max(hour.hour));
            last_counted = Some((key, number, at));
            at += 1;
        }
    }
    hours.retain(|hour| hour.versions > 0);
    Ok(hours)
}

impl Store {
    /// Returns the hours of `range`, from its start to before its end (seconds since 1970), in which a version was
    /// available.
    ///
    /// # Errors
    /// When the database fails.
    pub fn usage(&self, of: UsageScope, range: (u64, u64), now: u64) -> Result<Vec<HourUsage>, StoreError> {
        self.readers.read(|connection| usage(connection, of, range, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, version, project, since, until.
    type Span = (u8, u32, Option<u8>, u64, Option<u64>);

    fn spans(rows: &[Span]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "CREATE TABLE spans (key BLOB, number INTEGER, project BLOB, since INTEGER, until INTEGER)";
        connection.execute_batch(sql).unwrap();
        for (key, number, project, since, until) in rows {
            let project = project.map(|byte| [byte; 16]);
            let sql = "INSERT INTO spans VALUES (?1, ?2, ?3, ?4, ?5)";
            connection.execute(sql, params![[*key; 16], number, project, since, until]).unwrap();
        }
        connection
    }

    fn hours(rows: &[Span], of: UsageScope) -> Vec<(u64, u64, u64)> {
        let found = usage(&spans(rows), of, (0, 5 * HOUR), 4 * HOUR + 10).unwrap();
        found.iter().map(|hour| (hour.hour / HOUR, hour.versions, hour.seconds)).collect()
    }

    #[test]
    fn a_version_counts_in_each_hour_it_was_available_in() {
        let open = (1, 1, None, HOUR + 600, None);
        assert_eq!(hours(&[open], UsageScope::All), [(1, 1, 3000), (2, 1, 3600), (3, 1, 3600), (4, 1, 10)]);
        let closed = (1, 1, None, HOUR + 600, Some(2 * HOUR));
        assert_eq!(hours(&[closed], UsageScope::All), [(1, 1, 3000)], "it ended with the hour");
        assert_eq!(hours(&[], UsageScope::All), []);
    }

    #[test]
    fn a_version_available_repeatedly_within_an_hour_counts_once() {
        let rows = [(1, 1, None, 10, Some(20)), (1, 1, None, 30, Some(HOUR + 5)), (1, 2, None, 15, Some(16))];
        assert_eq!(hours(&rows, UsageScope::All), [(0, 2, 10 + 3570 + 1), (1, 1, 5)]);
    }

    #[test]
    fn versions_count_for_their_own_project() {
        let rows = [(1, 1, None, 0, Some(60)), (2, 1, Some(2), 0, Some(30)), (3, 1, Some(3), 0, Some(10))];
        let of = |byte| UsageScope::Project(Uuid::from_bytes([byte; 16]));
        assert_eq!(hours(&rows, UsageScope::All), [(0, 3, 100)]);
        assert_eq!(hours(&rows, of(2)), [(0, 1, 30)]);
        assert_eq!(hours(&rows, of(3)), [(0, 1, 10)], "no project's versions count for none");
    }
}
