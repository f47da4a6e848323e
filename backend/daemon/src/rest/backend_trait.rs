//! What the door needs of the rooms behind it. The dispatcher is all of it; the door's own tests put another behind it.

use std::io::{self, Write};
use std::sync::Arc;

use kms_core::api::{Account, Operation, Outcome, Problem, RequestContext};
use kms_core::error_chain;
use uuid::Uuid;

use crate::dispatch::{
    Dispatch, ExportError, Report, ReportOutput, TokenPair, TokenRequest, TokenRequestContext,
};

/// What `/metrics` tells of the backend.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MetricValues {
    /// Opened keys in memory.
    pub(crate) opened_keys: u64,
    /// Rings.
    pub(crate) key_rings: u64,
    /// Keys.
    pub(crate) keys: u64,
    /// Versions whose material is held.
    pub(crate) key_versions: u64,
    /// Versions that can be used now.
    pub(crate) available_versions: u64,
    /// What the HSM was asked since the start.
    pub(crate) hsm_calls: u64,
    /// And how often it failed.
    pub(crate) hsm_failures: u64,
}

/// Writes a body.
pub(crate) type Writing = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The rooms behind the state.
pub(crate) trait RestBackend: Send + Sync + 'static {
    /// Seconds since 1970.
    fn now(&self) -> u64;

    /// Whose token this is. It may block.
    fn authenticate(&self, token: &str, now: u64) -> Result<Arc<Account>, Problem>;

    /// The same, where memory alone tells.
    fn recognise(&self, token: &str, now: u64) -> Option<Result<Arc<Account>, Problem>>;

    /// Exchanges an assertion or a refresh token. It may block.
    fn exchange(
        &self,
        context: &TokenRequestContext<'_>,
        ask: TokenRequest<'_>,
    ) -> Result<TokenPair, Problem>;

    /// Answers an operation. It may block.
    fn serve(&self, context: &RequestContext, operation: Operation) -> Result<Outcome, Problem>;

    /// Tells something of a project. It may block.
    fn report(
        &self,
        context: &RequestContext,
        project: Uuid,
        report: &Report,
    ) -> Result<ReportOutput, Problem>;

    /// Begins an export of a project, and gives what writes it. Both may block.
    fn export(&self, context: &RequestContext, project: Uuid) -> Result<Writing, Problem>;

    /// Whether an operation is answered from memory.
    fn is_quick(&self, operation: &Operation) -> bool;

    /// Asks the HSM; it may block.
    fn ask_hsm(&self) -> Result<(), String>;

    /// Asks the database; it may block.
    fn ask_store(&self) -> Result<(), String>;

    /// What `/metrics` tells; it may block.
    fn figures(&self) -> MetricValues;
}

impl RestBackend for Dispatch {
    fn now(&self) -> u64 {
        self.clock.seconds()
    }

    fn authenticate(&self, token: &str, now: u64) -> Result<Arc<Account>, Problem> {
        Self::authenticate(self, token, now)
    }

    fn recognise(&self, token: &str, now: u64) -> Option<Result<Arc<Account>, Problem>> {
        Self::recognise(self, token, now)
    }

    fn exchange(
        &self,
        context: &TokenRequestContext<'_>,
        ask: TokenRequest<'_>,
    ) -> Result<TokenPair, Problem> {
        Self::exchange(self, context, ask)
    }

    fn serve(&self, context: &RequestContext, operation: Operation) -> Result<Outcome, Problem> {
        Self::serve(self, context, operation)
    }

    fn report(
        &self,
        context: &RequestContext,
        project: Uuid,
        report: &Report,
    ) -> Result<ReportOutput, Problem> {
        Self::report(self, context, project, report)
    }

    fn export(&self, context: &RequestContext, project: Uuid) -> Result<Writing, Problem> {
        let exporting = self.begin_export(context, project)?;
        Ok(Box::new(move |out| {
            exporting.write(out).map_err(|error| match error {
                ExportError::Io(error) => error,
                ExportError::Refused(problem) => io::Error::other(problem),
            })
        }))
    }

    fn is_quick(&self, operation: &Operation) -> bool {
        Self::is_quick(self, operation)
    }

    fn ask_hsm(&self) -> Result<(), String> {
        self.hsm.alive().map_err(|error| error_chain(&error))
    }

    fn ask_store(&self) -> Result<(), String> {
        self.store.alive().map_err(|error| error_chain(&error))
    }

    fn figures(&self) -> MetricValues {
        let rings: Vec<_> = self.store.rings().unwrap_or_default().iter().map(|ring| ring.id).collect();
        let amounts = self.store.amounts(&rings, self.clock.seconds()).unwrap_or_default();
        let (hsm_calls, hsm_failures) = self.hsm.asked();
        MetricValues {
            opened_keys: self.keys.opened(),
            key_rings: amounts.key_rings,
            keys: amounts.keys,
            key_versions: amounts.versions,
            available_versions: amounts.available_versions,
            hsm_calls,
            hsm_failures,
        }
    }
}
