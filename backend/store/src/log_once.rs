//! The log of rows that cannot be read, once each: otherwise every call that reads such a row would log it again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::StoreError;

/// The maximum number of rows that are logged.
const LOGGED_MAX: usize = 1000;

/// The rows that were logged, by table and id.
#[derive(Default)]
pub(super) struct LogOnce(Mutex<HashSet<(&'static str, String)>>);

impl LogOnce {
    /// Logs the rows that were not logged before.
    pub(super) fn log(&self, errors: &[StoreError]) {
        for error in errors {
            if let StoreError::ProjectMissing { ring, .. } = error {
                let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if logged.len() < LOGGED_MAX && logged.insert(("projects", ring.clone())) {
                    tracing::error!("{error}");
                }
                continue;
            }
            let StoreError::RowInvalid { table, id } = error else { continue };
            let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if logged.len() < LOGGED_MAX && logged.insert((table, id.clone())) {
                tracing::error!(
                    table,
                    row = id,
                    "key_material_invalid: this row was changed outside the KMS"
                );
            }
        }
    }

    /// Returns the number of logged rows.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
