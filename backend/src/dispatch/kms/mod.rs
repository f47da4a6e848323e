//! The service's operations: load → decide → act → record, as for the provider's requests and with the same rooms.

mod recorded;

use crate::kms::{Operation, Outcome, Refusal, Visit};

use super::Dispatch;

impl Dispatch {
    /// Answers one operation. It blocks: for the database, the HSM, or a long computation.
    ///
    /// # Errors
    /// A refusal as the caller may see it. Failures of our own are logged here, once.
    pub fn serve(&self, visit: &Visit, operation: Operation) -> Result<Outcome, Refusal> {
        let _ = (visit, operation);
        Err(Refusal::malformed("not there yet"))
    }

    /// Whether an operation will be answered from memory within some microseconds, so that a door need not move it to
    /// a thread that may block.
    pub fn is_quick(&self, operation: &Operation) -> bool {
        let _ = operation;
        false
    }
}
