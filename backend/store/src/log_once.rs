//! Rows that cannot be read, logged once each: each call that meets them would say it again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::StoreError;

/// So many are remembered.
const REPORTED_MAX: usize = 1000;

/// Which were logged.
#[derive(Default)]
pub(super) struct Reported(Mutex<HashSet<(&'static str, String)>>);

impl Reported {
    /// Logs those that were not before.
    pub(super) fn tell(&self, refused: &[StoreError]) {
        for error in refused {
            let StoreError::RowInvalid { table, id } = error else { continue };
            let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if reported.len() < REPORTED_MAX && reported.insert((table, id.clone())) {
                tracing::error!(
                    table,
                    row = id,
                    "key_material_invalid: this row was changed outside the KMS"
                );
            }
        }
    }

    /// How many were logged.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
