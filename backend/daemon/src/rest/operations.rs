//! Endpoints for operators and tools, without authentication: liveness, readiness, metrics, the OpenAPI document.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, header};
use axum::routing::get;
use serde_json::json;

use super::document;
use super::respond;
use super::state::{RequestInfo, RestState};

/// The headers by which proxies say that they forward a request.
const FORWARDING_HEADERS: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

pub(super) fn router(state: Arc<RestState>) -> Router {
    Router::new()
        .route("/healthz", get(async || respond::json(200, &json!({ "status": "ok" }))))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(async || respond::text(200, "application/json", document::json().into())))
        .with_state(state)
}

async fn readyz(State(state): State<Arc<RestState>>) -> Response<Body> {
    let report = state.health.check(&state.backend).await;
    let status = |failure: &Option<String>| if failure.is_none() { "ok" } else { "failed" };
    let (hsm, store) = (status(&report.hsm), status(&report.store));
    for (part, failure) in [("HSM", &report.hsm), ("database", &report.store)] {
        if let Some(cause) = failure {
            // The cause may name files and slots, so it is logged and not returned.
            tracing::warn!(part, cause, "not ready");
        }
    }
    let failed: Vec<&str> = [("HSM", hsm), ("database", store)]
        .iter()
        .filter(|(_, status)| *status != "ok")
        .map(|(name, _)| *name)
        .collect();
    if failed.is_empty() {
        return respond::json(200, &json!({ "status": "ok", "hsm": hsm, "database": store }));
    }
    let message =
        format!("not ready: {} does not work as it should; the log states why", failed.join(" and "));
    respond::json(503, &json!({ "message": message, "hsm": hsm, "database": store }))
}

/// Whether a request from this machine was meant for it: the host is an address or `localhost`, and no proxy says that it
/// forwards. Any other name may be that of a web page whose DNS entry was changed to a loopback address (DNS rebinding).
fn is_direct(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.parse::<SocketAddr>().map(|address| address.ip().to_string()).unwrap_or_else(|_| {
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .map_or(host, |(name, _)| name);
        name.to_owned()
    });
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let forwarded = FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name));
    (literal || name.eq_ignore_ascii_case("localhost")) && !forwarded
}

async fn metrics(State(state): State<Arc<RestState>>, request: Request<Body>) -> Response<Body> {
    let source = request.extensions().get::<RequestInfo>().map(|info| info.source);
    let is_local = source.as_ref().is_some_and(IpAddr::is_loopback);
    let may_read = is_local && is_direct(request.headers()) || state.settings.load().metrics_public;
    if !may_read {
        let message = "metrics are served to this machine only, under its address or as localhost, and not through a \
             proxy; set [rest] metrics_public = true in kms.toml to serve them to others";
        return respond::error(403, message);
    }
    let backend = Arc::clone(&state.backend);
    let metric_values = match state.blocking_pool.run(move || backend.metric_values()).await {
        Ok(metric_values) => metric_values,
        Err(problem) => return respond::rejection(&problem.into()),
    };
    let text = state.metrics.text(&metric_values, state.connections());
    respond::text(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text.into())
}
