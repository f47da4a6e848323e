//! The REST door (axum): it authenticates, parses, limits, calls the dispatcher, writes JSON. Nothing else.
//!
//! A call's way: `listen` (a connection) → `service` (its id and its caller's address) → the router, made of `routes` →
//! `door` (who, how often, what) → `work` if it may block → the dispatcher → `reply`.

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
use routes::{Handler, Route, Verb};
use state::RestState;

pub use document::json as openapi;
pub(crate) use listen::Serving;
pub use listen::{RestError, RestListener};

/// Serves a listener: what stops it, and what ends when it has stopped.
///
/// # Errors
/// When the listener cannot be used by the runtime.
pub(crate) fn serve(
    listener: RestListener,
    dispatch: &Arc<Dispatch>,
) -> io::Result<(Serving, impl Future<Output = io::Result<()>> + Send + 'static)> {
    let backend: Arc<dyn RestBackend> = Arc::clone(dispatch) as _;
    let state = Arc::new(RestState::new(backend, listener.settings().clone()));
    let router = router(&state);
    listener.serve(state, finished(router))
}

/// The API, and what operators ask.
fn router(state: &Arc<RestState>) -> Router {
    let mut router = operations::router(Arc::clone(state));
    for route in routes::all() {
        let state = Arc::clone(state);
        let handler = async move |request: Request<Body>| answer(&state, route, request).await;
        let mut method = on(filter(route), handler);
        if let Handler::Token = route.handler {
            method = method.fallback(token::wrong_method);
        }
        router = router.route(route.path, method);
    }
    router
}

/// Answers a call, and counts it.
async fn answer(state: &Arc<RestState>, route: &'static Route, request: Request<Body>) -> Response<Body> {
    let begun = Instant::now();
    let response = match route.handler {
        Handler::Operation(operation) => state.call(route, operation, request).await,
        Handler::Report(ask) => audit_and_export::report(state, route, ask, request).await,
        Handler::Export => audit_and_export::export(state, request).await,
        Handler::Token => token::token(state, request).await,
    };
    state.metrics.observe(route.id, response.status().as_u16(), begun.elapsed());
    response
}

/// What answers where nothing else does; nothing can be added after it.
fn finished(router: Router) -> Router {
    let router = router
        .fallback(async || {
            let problem = Problem::new(Status::NotFound, "there is no such path; /openapi.json lists them");
            respond::rejection(&Rejection::from(problem))
        })
        .method_not_allowed_fallback(async || respond::refused(405, "this path does not have this method"));
    router.layer(CatchPanicLayer::custom(panicked)).with_state(())
}

fn filter(route: &Route) -> MethodFilter {
    match route.verb {
        Verb::Get => MethodFilter::GET,
        Verb::Post => MethodFilter::POST,
        Verb::Patch => MethodFilter::PATCH,
        Verb::Delete => MethodFilter::DELETE,
    }
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response<Body> {
    tracing::error!("a call made the backend panic; this is a bug");
    respond::refused(500, "internal error")
}
