//! Idempotency keys: a creation that is asked for again makes nothing twice (an extension of the API).

use kms_core::api::Problem;
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use crate::StoreError;
use crate::rows::signed;
use crate::writer::WriteTx;

/// How long a repetition is recognised: a day, which is longer than anybody retries.
const REMEMBERED_SECONDS: u64 = 24 * 3600;

/// Repetitions forgotten with each new one, at most.
const FORGOTTEN: u32 = 16;

/// A creation's idempotency key.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// The project it counts in.
    pub project: Uuid,
    /// The key, as the client chose it.
    pub id: Uuid,
    /// A digest of what was asked: the same key for another request is a mistake.
    pub asked: [u8; 32],
}

impl IdempotencyKey {
    /// What the same request made before, if it did. It refuses a key that came with another request.
    pub(crate) fn before(&self, tx: &WriteTx<'_>) -> Result<Option<Uuid>, Result<Problem, StoreError>> {
        let sql = "SELECT made, asked FROM repeats WHERE project = ?1 AND id = ?2";
        let found: Option<([u8; 16], [u8; 32])> = tx
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                let values = params![self.project.as_bytes(), self.id.as_bytes()];
                statement.query_row(values, |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(|error| Err(StoreError::from(error)))?;
        match found {
            None => Ok(None),
            Some((made, asked)) if asked == self.asked => Ok(Some(Uuid::from_bytes(made))),
            Some(_) => {
                let said = "this Idempotency-Key came with another request before; use a new one";
                Err(Ok(Problem::conflict(said)))
            }
        }
    }

    /// Remembers what was made, and forgets some that are old.
    pub(crate) fn remember(&self, tx: &WriteTx<'_>, made: Uuid, at: u64) -> Result<(), StoreError> {
        let sql = "INSERT INTO repeats (project, id, made, asked, at) VALUES (?1, ?2, ?3, ?4, ?5)";
        let (project, id) = (self.project.as_bytes(), self.id.as_bytes());
        let values = params![project, id, made.as_bytes(), self.asked, signed(at)];
        tx.connection.prepare_cached(sql)?.execute(values)?;
        let sql = "DELETE FROM repeats WHERE (project, id) IN \
                   (SELECT project, id FROM repeats WHERE at < ?1 ORDER BY at LIMIT ?2)";
        let old = signed(at.saturating_sub(REMEMBERED_SECONDS));
        tx.connection.prepare_cached(sql)?.execute(params![old, FORGOTTEN])?;
        Ok(())
    }
}
