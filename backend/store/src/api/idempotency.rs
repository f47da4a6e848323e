//! Idempotency keys: a repeated creation creates nothing again (an extension of the API).

use kms_core::api::Problem;
use kms_core::integrity::Cell;
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use crate::StoreError;
use crate::rows::signed;
use crate::writer::WriteTx;

/// How long a repetition is recognised: a day, which is longer than clients retry.
const RETENTION_SECONDS: u64 = 24 * 3600;

/// The maximum number of old keys deleted with each new one.
const DELETED_MAX: u32 = 16;

/// The idempotency key of a creation.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// The project in which it is unique.
    pub project: Uuid,
    /// The key that the client chose.
    pub id: Uuid,
    /// A digest of the request: the same key with a different request is an error.
    pub asked: [u8; 32],
}

impl IdempotencyKey {
    /// Returns what the same request created before, if it did. Rejects a key that was used with a different request.
    pub(crate) fn earlier_result(
        &self,
        tx: &WriteTx<'_>,
    ) -> Result<Option<Uuid>, Result<Problem, StoreError>> {
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
            Some((created, asked)) if asked == self.asked => Ok(Some(Uuid::from_bytes(created))),
            Some(_) => {
                let message = "this Idempotency-Key was used with a different request before; use a new one";
                Err(Ok(Problem::conflict(message)))
            }
        }
    }

    /// Stores what was created, and deletes some old keys.
    pub(crate) fn record(&self, tx: &WriteTx<'_>, created: Uuid, at: u64) -> Result<(), StoreError> {
        let columns = [
            ("project", Cell::Bytes(self.project.as_bytes())),
            ("id", Cell::Bytes(self.id.as_bytes())),
            ("made", Cell::Bytes(created.as_bytes())),
            ("asked", Cell::Bytes(&self.asked)),
            ("at", Cell::Integer(signed(at))),
        ];
        tx.insert("repeats", &columns)?;
        let old = "(project, id) IN (SELECT project, id FROM repeats WHERE at < ?1 ORDER BY at LIMIT ?2)";
        let oldest = signed(at.saturating_sub(RETENTION_SECONDS));
        tx.delete_where("repeats", old, params![oldest, DELETED_MAX])?;
        Ok(())
    }
}
