//! Whether the service can do its work: the HSM and the database are really asked, but not more than once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::backend_trait::RestBackend;

/// How long what was found is good: whoever asks in between costs the HSM nothing.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// How long HSM and database may take. A load balancer's own patience is longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    /// What is wrong with the HSM.
    pub(super) hsm: Option<String>,
    /// What is wrong with the database.
    pub(super) store: Option<String>,
}

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Health {
    // An asynchronous lock: who comes while the HSM is being asked waits for that answer, and asks no second time.
    last: Mutex<Option<(Instant, Found)>>,
}

impl Health {
    /// Asks, or tells what was found less than a second ago.
    pub(super) async fn look(&self, backend: &Arc<dyn RestBackend>) -> Found {
        let mut last = self.last.lock().await;
        if let Some((when, found)) = last.as_ref()
            && when.elapsed() < GOOD_FOR
        {
            return found.clone();
        }
        let (hsm, store) = (Arc::clone(backend), Arc::clone(backend));
        let (hsm, store) = tokio::join!(asked(move || hsm.ask_hsm()), asked(move || store.ask_store()));
        let found = Found { hsm: hsm.err(), store: store.err() };
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

/// Not among the places for work: the service is not unwell because it is busy.
async fn asked(question: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    match tokio::time::timeout(ANSWER_WITHIN, tokio::task::spawn_blocking(question)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err("asking it ended in a panic".to_owned()),
        Err(_) => Err(format!("no answer within {} seconds", ANSWER_WITHIN.as_secs())),
    }
}
