//! The outermost layer (tower), around every request whatever its path: it assigns the trace id, determines the
//! client's address, removes doubled slashes at the start of the path, and rejects requests that do not name their host.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header};
use kms_core::api::{NetworkArea, Problem};
use tower::Service;
use uuid::Uuid;

use super::connection::BusyBody;
use super::respond::{self, TRACE_ID};
use super::state::{RequestInfo, RestState};
use crate::fairness::Activity;

/// The service that handles the requests of one connection.
#[derive(Clone)]
pub(crate) struct ConnectionService {
    router: Router,
    state: Arc<RestState>,
    peer: SocketAddr,
    activity: Arc<Activity>,
}

impl ConnectionService {
    pub(super) fn new(router: Router, state: Arc<RestState>, peer: SocketAddr) -> Self {
        Self { router, state, peer, activity: Activity::new() }
    }

    /// The same service for a connection with this activity.
    pub(super) fn with_activity(self, activity: Arc<Activity>) -> Self {
        Self { activity, ..self }
    }

    /// The address at the other end of the connection.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    fn source(&self, headers: &HeaderMap) -> IpAddr {
        let peer = self.peer();
        if self.state.settings.load().trust_forwarded_for {
            forwarded_for(headers).unwrap_or(peer)
        } else {
            peer
        }
    }

    /// Where the peer of the connection is. A header may be forged, so it does not count here.
    fn area(&self) -> NetworkArea {
        let (settings, peer) = (self.state.settings.load(), self.peer.ip().to_canonical());
        match &*settings.sna_networks {
            [] => NetworkArea::Unbound,
            networks if networks.iter().any(|network| network.contains(&peer)) => NetworkArea::Inside,
            _ => NetworkArea::Outside,
        }
    }
}

impl<B> Service<Request<B>> for ConnectionService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        normalise_path(request.uri_mut());
        let trace = Uuid::new_v4();
        let source = self.source(request.headers());
        request.extensions_mut().insert(RequestInfo { source, area: self.area(), trace });
        let future = match check_host(&request) {
            Ok(()) => Ok(self.router.call(request)),
            Err(problem) => Err(respond::rejection(&problem.into())),
        };
        let busy = self.activity.busy();
        Box::pin(async move {
            let mut response = match future {
                Ok(future) => future.await?,
                Err(response) => response,
            }
            .map(|body| BusyBody::wrap(body, busy));
            let mut text = Uuid::encode_buffer();
            if let Ok(value) = HeaderValue::from_str(trace.hyphenated().encode_lower(&mut text)) {
                response.headers_mut().insert(TRACE_ID, value);
            }
            Ok(response)
        })
    }
}

/// Checks that a request names its host once, as HTTP/1.1 requires (RFC 9112, section 3.2): what forwards requests and we
/// must not disagree about whom they are for.
fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() >= Version::HTTP_11) {
        return Err(Problem::malformed("an HTTP/1.1 request needs the header Host, once"));
    }
    Ok(())
}

/// Collapses slashes at the start of the path: clients whose endpoint ends with a slash request `//v1/…`.
fn normalise_path(uri: &mut Uri) {
    if !uri.path().starts_with("//") {
        return;
    }
    let all = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let normalised = format!("/{}", all.trim_start_matches('/'));
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = normalised.parse().ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Returns the last address of `X-Forwarded-For`: the one that our proxy added. A client may have forged those before
/// it.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let address = last.rsplit(',').next()?.trim();
    address.parse::<IpAddr>().or_else(|_| address.parse::<SocketAddr>().map(|address| address.ip())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_leading_slash_is_one() {
        for (given, path, query) in [
            ("//v1/projects?limit=2", "/v1/projects", Some("limit=2")),
            ("http://h:1//v1", "/v1", None),
            ("/v1//x", "/v1//x", None),
            ("//", "/", None),
        ] {
            let mut uri = given.parse().unwrap();
            normalise_path(&mut uri);
            assert_eq!((uri.path(), uri.query()), (path, query), "{given}");
        }
    }

    #[test]
    fn the_last_forwarded_address_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded_for(&headers), None);
        headers.append("x-forwarded-for", HeaderValue::from_static("1.1.1.1, 10.0.0.7"));
        assert_eq!(forwarded_for(&headers), Some("10.0.0.7".parse().unwrap()));
        headers.append("x-forwarded-for", HeaderValue::from_static("[2001:db8::1]:443"));
        assert_eq!(forwarded_for(&headers), Some("2001:db8::1".parse().unwrap()));
        headers.append("x-forwarded-for", HeaderValue::from_static("unknown"));
        assert_eq!(forwarded_for(&headers), None);
    }
}
