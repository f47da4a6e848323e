//! The REST door (axum): it authenticates, parses, limits, calls the dispatcher, writes JSON. Nothing else.
//!
//! A call's way: `listen` (a connection) → `service` (its id and its caller's address) → the router, made of `routes` →
//! `door` (who, how often, what) → `work` if it may block → the dispatcher → `reply`.

mod asked;
mod document;
mod door;
mod health;
mod listen;
mod metrics;
mod operations;
mod payloads;
mod quota;
mod records;
mod reply;
mod rooms;
mod routes;
mod service;
mod streamed;
#[cfg(test)]
mod tests;
mod token;
mod work;

use std::any::Any;
use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::{MethodFilter, on};
use kms_core::api::{Refusal, Status};
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

use crate::dispatch::Dispatch;
use door::Door;
use reply::Rejection;
use rooms::Rooms;
use routes::{Handler, Route, Verb};

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
    let rooms: Arc<dyn Rooms> = Arc::clone(dispatch) as _;
    let door = Arc::new(Door::new(rooms, listener.settings().clone()));
    let router = router(&door);
    listener.serve(door, finished(router))
}

/// The API, and what operators ask.
fn router(door: &Arc<Door>) -> Router {
    let mut router = operations::router(Arc::clone(door));
    for route in routes::all() {
        let door = Arc::clone(door);
        let handler = async move |request: Request<Body>| answer(&door, route, request).await;
        let mut method = on(filter(route), handler);
        if let Handler::Token = route.handler {
            method = method.fallback(token::wrong_method);
        }
        router = router.route(route.path, method);
    }
    router
}

/// Answers a call, and counts it.
async fn answer(door: &Arc<Door>, route: &'static Route, request: Request<Body>) -> Response<Body> {
    let begun = Instant::now();
    let response = match route.handler {
        Handler::Operation(operation) => door.call(route, operation, request).await,
        Handler::Report(ask) => records::report(door, route, ask, request).await,
        Handler::Export => records::export(door, request).await,
        Handler::Token => token::token(door, request).await,
    };
    door.metrics.observe(route.id, response.status().as_u16(), begun.elapsed());
    response
}

/// What answers where nothing else does; nothing can be added after it.
fn finished(router: Router) -> Router {
    let router = router
        .fallback(async || {
            let refusal = Refusal::new(Status::NotFound, "there is no such path; /openapi.json lists them");
            reply::rejection(&Rejection::from(refusal))
        })
        .method_not_allowed_fallback(async || reply::refused(405, "this path does not have this method"));
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
    reply::refused(500, "internal error")
}
