//! The outermost layer, around every call whatever its path: its own id, its caller's address, a path with one slash
//! in front.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tower::Service;
use uuid::Uuid;

use super::respond::TRACE_ID;
use super::state::{Arrival, RestState};

/// What answers the calls of one connection.
#[derive(Clone)]
pub(crate) struct Connection {
    router: Router,
    state: Arc<RestState>,
    peer: SocketAddr,
    /// The connection's place among those that may be open; given back with the last copy.
    _place: Option<Arc<tokio::sync::OwnedSemaphorePermit>>,
}

impl Connection {
    pub(super) fn new(
        router: Router,
        state: Arc<RestState>,
        peer: SocketAddr,
        place: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Self {
        Self { router, state, peer, _place: place.map(Arc::new) }
    }

    fn source(&self, headers: &HeaderMap) -> IpAddr {
        let peer = self.peer.ip().to_canonical();
        if self.state.settings.load().trust_forwarded_for { forwarded(headers).unwrap_or(peer) } else { peer }
    }
}

impl<B> Service<Request<B>> for Connection
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
        straighten(request.uri_mut());
        let trace = Uuid::new_v4();
        let source = self.source(request.headers());
        request.extensions_mut().insert(Arrival { source, trace });
        let answered = self.router.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            let mut text = Uuid::encode_buffer();
            if let Ok(value) = HeaderValue::from_str(trace.hyphenated().encode_lower(&mut text)) {
                response.headers_mut().insert(TRACE_ID, value);
            }
            Ok(response)
        })
    }
}

/// Clients that were given an address with a slash at its end ask for `//v1/…`.
fn straighten(uri: &mut Uri) {
    if !uri.path().starts_with("//") {
        return;
    }
    let all = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let straight = format!("/{}", all.trim_start_matches('/'));
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = straight.parse().ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// The address that the proxy in front of us saw: the last one. What stands before it, a client may have made up.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
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
            straighten(&mut uri);
            assert_eq!((uri.path(), uri.query()), (path, query), "{given}");
        }
    }

    #[test]
    fn the_last_forwarded_address_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded(&headers), None);
        headers.append("x-forwarded-for", HeaderValue::from_static("1.1.1.1, 10.0.0.7"));
        assert_eq!(forwarded(&headers), Some("10.0.0.7".parse().unwrap()));
        headers.append("x-forwarded-for", HeaderValue::from_static("[2001:db8::1]:443"));
        assert_eq!(forwarded(&headers), Some("2001:db8::1".parse().unwrap()));
        headers.append("x-forwarded-for", HeaderValue::from_static("unknown"));
        assert_eq!(forwarded(&headers), None);
    }
}
