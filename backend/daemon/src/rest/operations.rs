//! What operators and tools ask without a token: does it live, can it work, what did it count, what does it offer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use axum::routing::get;
use serde_json::json;

use super::document;
use super::respond;
use super::state::{Arrival, RestState};

pub(super) fn router(state: Arc<RestState>) -> Router {
    Router::new()
        .route("/healthz", get(async || respond::json(200, &json!({ "status": "ok" }))))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(async || respond::text(200, "application/json", document::json().into())))
        .with_state(state)
}

async fn readyz(State(state): State<Arc<RestState>>) -> Response<Body> {
    let found = state.health.look(&state.backend).await;
    let word = |wrong: &Option<String>| if wrong.is_none() { "ok" } else { "failed" };
    let (hsm, store) = (word(&found.hsm), word(&found.store));
    for (part, wrong) in [("HSM", &found.hsm), ("database", &found.store)] {
        if let Some(cause) = wrong {
            // The cause may name files and slots: for the log, not for whoever asks.
            tracing::warn!(part, cause, "not ready");
        }
    }
    let bad: Vec<&str> = [("HSM", hsm), ("database", store)]
        .iter()
        .filter(|(_, word)| *word != "ok")
        .map(|(name, _)| *name)
        .collect();
    if bad.is_empty() {
        return respond::json(200, &json!({ "status": "ok", "hsm": hsm, "database": store }));
    }
    let message = format!("not ready: {} does not answer as it should; the log says why", bad.join(" and "));
    respond::json(503, &json!({ "message": message, "hsm": hsm, "database": store }))
}

async fn metrics(State(state): State<Arc<RestState>>, request: Request<Body>) -> Response<Body> {
    let source = request.extensions().get::<Arrival>().map(|arrival| arrival.source);
    let near = source.as_ref().is_some_and(IpAddr::is_loopback);
    if !near && !state.settings.load().metrics_public {
        let message =
            "metrics are for this machine alone; set [rest] metrics_public = true in kms.toml to open them";
        return respond::refused(403, message);
    }
    let backend = Arc::clone(&state.backend);
    let figures = match state.work.run(move || backend.figures()).await {
        Ok(figures) => figures,
        Err(problem) => return respond::rejection(&problem.into()),
    };
    let text = state.metrics.text(&figures, state.connections());
    respond::text(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text.into())
}
