//! The REST API (axum): authenticates requests, parses them, limits them, calls the dispatcher and writes JSON.
//!
//! The path of a request: `listen` (the connection) → `middleware` (trace id, client address) → the router, built from
//! `routes` → `state` (authentication, quota, parsing) → `blocking_pool` if it may block → the dispatcher → `respond`.

mod audit_and_export;
mod backend_trait;
mod blocking_pool;
mod document;
mod extract;
mod health;
mod listen;
mod metrics;
mod middleware;
mod operations;
mod payloads;
mod quota;
mod respond;
mod routes;
mod state;
mod stream_body;
#[cfg(test)]
mod tests;
mod token;

use std::any::Any;
use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::{MethodFilter, on};
use kms_core::api::{Problem, Status};
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

use crate::dispatch::Dispatch;
use backend_trait::RestBackend;
use respond::Rejection;
use routes::{Handler, Method, Route};
use state::RestState;

pub use document::json as openapi;
pub(crate) use listen::RestServerHandle;
pub use listen::{RestError, RestListener};

/// Serves a listener. Returns the handle that stops it, and a future that completes when it has stopped.
///
/// # Errors
/// When the listener cannot be used by the runtime.
pub(crate) fn serve(
    listener: RestListener,
    dispatch: &Arc<Dispatch>,
) -> io::Result<(RestServerHandle, impl Future<Output = io::Result<()>> + Send + 'static)> {
    let backend: Arc<dyn RestBackend> = Arc::clone(dispatch) as _;
    let state = Arc::new(RestState::new(backend, listener.settings().clone()));
    let router = router(&state);
    listener.serve(state, with_fallbacks(router))
}

/// The router of the API and of the operators' endpoints.
fn router(state: &Arc<RestState>) -> Router {
    let mut router = operations::router(Arc::clone(state));
    for route in routes::all() {
        let state = Arc::clone(state);
        let handler = async move |request: Request<Body>| handle(&state, route, request).await;
        let mut method = on(filter(route), handler);
        if let Handler::Token = route.handler {
            method = method.fallback(token::wrong_method);
        }
        router = router.route(route.path, method);
    }
    router
}

/// Handles a request and records it in the metrics.
async fn handle(state: &Arc<RestState>, route: &'static Route, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let response = match route.handler {
        Handler::Operation(operation) => state.call(route, operation, request).await,
        Handler::Report(to_report) => audit_and_export::report(state, route, to_report, request).await,
        Handler::Export => audit_and_export::export(state, request).await,
        Handler::Token => token::token(state, request).await,
    };
    state.metrics.observe(route.id, response.status().as_u16(), started.elapsed());
    response
}

/// Adds the responses for unknown paths, wrong methods and panics. No route can be added afterwards.
fn with_fallbacks(router: Router) -> Router {
    let router = router
        .fallback(async |request: Request<Body>| {
            let message = if request.uri().path().starts_with("//") {
                "there is no path that begins with two slashes; remove the slash at the end of the endpoint's address"
            } else {
                "there is no such path; /openapi.json lists them"
            };
            let problem = Problem::new(Status::NotFound, message);
            respond::rejection(&Rejection::from(problem))
        })
        .method_not_allowed_fallback(async || respond::error(405, "this path does not have this method"));
    router.layer(CatchPanicLayer::custom(panicked)).with_state(())
}

fn filter(route: &Route) -> MethodFilter {
    match route.method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response<Body> {
    tracing::error!("a request made the backend panic; this is a bug");
    respond::error(500, "internal error")
}
