//! Readiness: whether the HSM and the database work. Both are really checked, at most once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::backend_trait::RestBackend;

/// How long a result is cached, so that frequent checks do not load the HSM.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// The timeout for the HSM and the database; shorter than a load balancer's.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of the checks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HealthReport {
    /// The HSM's failure, if there is one.
    pub(super) hsm: Option<String>,
    /// The database's failure, if there is one.
    pub(super) store: Option<String>,
}

/// The last result.
#[derive(Debug, Default)]
pub(super) struct Health {
    // An asynchronous lock: requests that arrive during a check wait for its result and start no second one.
    last: Mutex<Option<(Instant, HealthReport)>>,
}

impl Health {
    /// Checks the HSM and the database, or returns the result of less than a second ago.
    pub(super) async fn check(&self, backend: &Arc<dyn RestBackend>) -> HealthReport {
        let mut last = self.last.lock().await;
        if let Some((when, report)) = last.as_ref()
            && when.elapsed() < CACHE_TIME
        {
            return report.clone();
        }
        let (hsm, store) = (Arc::clone(backend), Arc::clone(backend));
        let (hsm, store) = tokio::join!(probe(move || hsm.check_hsm()), probe(move || store.check_store()));
        let report = HealthReport { hsm: hsm.err(), store: store.err() };
        *last = Some((Instant::now(), report.clone()));
        report
    }
}

/// Runs outside of the blocking pool, because a service that is busy is not unhealthy.
async fn probe(check: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    match tokio::time::timeout(PROBE_TIMEOUT, tokio::task::spawn_blocking(check)).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the check panicked".to_owned()),
        Err(_) => Err(format!("no answer within {} seconds", PROBE_TIMEOUT.as_secs())),
    }
}
