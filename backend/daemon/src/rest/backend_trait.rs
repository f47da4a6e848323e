//! What the REST API needs of the backend. The dispatcher implements it; unit tests use a mock.

use std::io::{self, Write};
use std::sync::Arc;

use kms_core::api::{Account, Operation, Outcome, Problem, RequestContext};
use kms_core::error_chain;
use uuid::Uuid;

use crate::dispatch::{
    Dispatch, ExportError, Report, ReportOutput, TokenPair, TokenRequest, TokenRequestContext,
};
use crate::fairness::ListenerCounts;

/// The values that `/metrics` reports of the backend.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MetricValues {
    /// Opened keys in memory.
    pub(crate) opened_keys: u64,
    /// Rings.
    pub(crate) key_rings: u64,
    /// Keys.
    pub(crate) keys: u64,
    /// Versions that have material.
    pub(crate) key_versions: u64,
    /// Versions that can be used now.
    pub(crate) available_versions: u64,
    /// HSM calls since the start.
    pub(crate) hsm_calls: u64,
    /// HSM calls that failed since the start.
    pub(crate) hsm_failures: u64,
    /// Connections of providers that were refused since the start.
    pub(crate) provider_connections_refused: u64,
    /// Idle connections of providers that were closed for others.
    pub(crate) provider_connections_closed: u64,
    /// Connections to the REST API that were refused since the start.
    pub(crate) rest_connections_refused: u64,
    /// Idle connections to the REST API that were closed for others.
    pub(crate) rest_connections_closed: u64,
    /// Free bytes on the disk of the database.
    pub(crate) disk_free_bytes: u64,
    /// Free bytes below which nothing more is created.
    pub(crate) disk_floor_bytes: u64,
}

/// A function that writes a body.
pub(crate) type BodyWriter = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The backend as the REST API uses it.
pub(crate) trait RestBackend: Send + Sync + 'static {
    /// Seconds since 1970.
    fn now(&self) -> u64;

    /// Returns the account of a token. May block.
    fn authenticate(&self, token: &str, now: u64) -> Result<Arc<Account>, Problem>;

    /// Returns the same if it can be decided from memory.
    fn authenticate_cached(&self, token: &str, now: u64) -> Option<Result<Arc<Account>, Problem>>;

    /// Exchanges an assertion or a refresh token for a token pair. `admit` decides whether the account may have another
    /// one, before anything is written. May block.
    fn exchange(
        &self,
        context: &TokenRequestContext<'_>,
        request: TokenRequest<'_>,
        admit: &dyn Fn(Uuid) -> Result<(), Problem>,
    ) -> Result<TokenPair, Problem>;

    /// Whether a project has other callers than this account: accounts with a grant in it. May block.
    fn has_other_callers(&self, project: Uuid, account: Uuid) -> bool;

    /// The counts of the REST listener's connections.
    fn rest_connections(&self) -> Arc<ListenerCounts>;

    /// Executes an operation. May block.
    fn serve(&self, context: &RequestContext, operation: Operation) -> Result<Outcome, Problem>;

    /// Returns a report of a project. May block.
    fn report(
        &self,
        context: &RequestContext,
        project: Uuid,
        report: &Report,
    ) -> Result<ReportOutput, Problem>;

    /// Begins an export of a project, and returns the function that writes it. Both may block.
    fn export(&self, context: &RequestContext, project: Uuid) -> Result<BodyWriter, Problem>;

    /// Whether an operation runs from memory, without blocking.
    fn is_quick(&self, operation: &Operation) -> bool;

    /// Checks the HSM. May block.
    fn check_hsm(&self) -> Result<(), String>;

    /// Checks the database. May block.
    fn check_store(&self) -> Result<(), String>;

    /// Returns the values for `/metrics`. May block.
    fn metric_values(&self) -> MetricValues;
}

impl RestBackend for Dispatch {
    fn now(&self) -> u64 {
        self.clock.seconds()
    }

    fn authenticate(&self, token: &str, now: u64) -> Result<Arc<Account>, Problem> {
        Self::authenticate(self, token, now)
    }

    fn authenticate_cached(&self, token: &str, now: u64) -> Option<Result<Arc<Account>, Problem>> {
        Self::authenticate_cached(self, token, now)
    }

    fn exchange(
        &self,
        context: &TokenRequestContext<'_>,
        request: TokenRequest<'_>,
        admit: &dyn Fn(Uuid) -> Result<(), Problem>,
    ) -> Result<TokenPair, Problem> {
        self.exchange_if(context, request, admit)
    }

    fn has_other_callers(&self, project: Uuid, account: Uuid) -> bool {
        // If the database fails, there may be others.
        self.store.has_other_callers(project, account).unwrap_or(true)
    }

    fn rest_connections(&self) -> Arc<ListenerCounts> {
        Arc::clone(&self.shares.rest_connections)
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

    fn export(&self, context: &RequestContext, project: Uuid) -> Result<BodyWriter, Problem> {
        let export = self.begin_export(context, project)?;
        Ok(Box::new(move |out| {
            export.write(out).map_err(|error| match error {
                ExportError::Io(error) => error,
                ExportError::Rejected(problem) => io::Error::other(problem),
            })
        }))
    }

    fn is_quick(&self, operation: &Operation) -> bool {
        Self::is_quick(self, operation)
    }

    fn check_hsm(&self) -> Result<(), String> {
        self.hsm.alive().map_err(|error| error_chain(&error))
    }

    fn check_store(&self) -> Result<(), String> {
        self.store.alive().map_err(|error| error_chain(&error))
    }

    fn metric_values(&self) -> MetricValues {
        let rings: Vec<_> = self.store.rings().unwrap_or_default().iter().map(|ring| ring.id).collect();
        let amounts = self.store.amounts(&rings, self.clock.seconds()).unwrap_or_default();
        let (hsm_calls, hsm_failures) = self.hsm.asked();
        let disk = self.store.disk().ok();
        MetricValues {
            opened_keys: self.keys.opened(),
            key_rings: amounts.key_rings,
            keys: amounts.keys,
            key_versions: amounts.versions,
            available_versions: amounts.available_versions,
            hsm_calls,
            hsm_failures,
            provider_connections_refused: self.shares.provider_connections.refused(),
            provider_connections_closed: self.shares.provider_connections.closed(),
            rest_connections_refused: self.shares.rest_connections.refused(),
            rest_connections_closed: self.shares.rest_connections.closed(),
            disk_free_bytes: disk.map_or(0, |disk| disk.free),
            disk_floor_bytes: disk.map_or(0, |disk| disk.floor),
        }
    }
}
