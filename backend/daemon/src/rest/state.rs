//! The state that all requests share, and their common steps: authentication, parsing, dispatch, response. `metering`
//! counts them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, header};
use axum_server::Handle;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kms_core::api::{Account, NetworkArea, Operation, Outcome, Problem, RequestContext, Status};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::backend_trait::RestBackend;
use super::blocking_pool::BlockingPool;
use super::connection::client_network;
use super::extract::{ApiRequest, ResourcePath};
use super::health::Health;
use super::metering::{Meter, Metered};
use super::metrics::Metrics;
use super::respond::{self, Rejection};
use super::routes::Route;
use super::stream_body::ExportSlots;
use crate::config::RestConfig;
use crate::fairness::{Exhausted, Quota};

/// The maximum size of a body: two fields of the largest data in base64, and the JSON around them. Anything longer is
/// not a request of this API.
const BODY_BYTES_MAX: usize = 256 << 10;

/// The timeout for receiving a body: the slowest connections transfer more than 256 KiB in this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum length of the user agent that is recorded.
const USER_AGENT_CHARACTERS_MAX: usize = 200;

/// Invalid credentials per client network and hour. This bounds how many guesses an attacker learns to be wrong, and a
/// client that is misconfigured shows long before.
const FAILURES_PER_HOUR: u32 = 1000;

/// What the middleware knows of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestInfo {
    /// The client's address.
    pub(super) source: IpAddr,
    /// Where the peer of the connection is.
    pub(super) area: NetworkArea,
    /// The request's trace id.
    pub(super) trace: Uuid,
}

/// The state that all requests share.
pub(crate) struct RestState {
    pub(super) backend: Arc<dyn RestBackend>,
    pub(super) settings: ArcSwap<RestConfig>,
    pub(super) blocking_pool: BlockingPool,
    pub(super) exports: ExportSlots,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) handle: Handle<SocketAddr>,
    pub(super) meter: Meter,
    failures: Quota<IpAddr>,
}

impl RestState {
    pub(super) fn new(backend: Arc<dyn RestBackend>, settings: RestConfig) -> Self {
        Self {
            backend,
            settings: ArcSwap::from_pointee(settings),
            blocking_pool: BlockingPool::new(),
            exports: ExportSlots::new(),
            metrics: Metrics::new(),
            health: Health::default(),
            handle: Handle::new(),
            meter: Meter::default(),
            failures: Quota::default(),
        }
    }

    /// Applies the limits of a configuration that was reloaded.
    pub(super) fn apply_settings(&self, settings: RestConfig) {
        self.settings.store(Arc::new(settings));
    }

    /// Returns the number of open connections.
    pub(super) fn connections(&self) -> usize {
        self.handle.connection_count()
    }

    /// Handles one operation of the API.
    pub(super) async fn call(
        &self,
        route: &'static Route,
        to_operation: fn(&ApiRequest<'_>) -> Result<Operation, Problem>,
        request: Request<Body>,
    ) -> Response<Body> {
        let mut metered = Metered::default();
        let (mut parts, body) = request.into_parts();
        let body = route.request_schema.is_some().then_some(body);
        let mut response = match self.execute(to_operation, &mut parts, body, &mut metered).await {
            Ok(outcome) => respond::outcome(route.success, &outcome),
            Err(rejection) => respond::rejection(&rejection),
        };
        self.settle(metered, &mut response);
        response
    }

    async fn execute(
        &self,
        to_operation: fn(&ApiRequest<'_>) -> Result<Operation, Problem>,
        parts: &mut Parts,
        body: Option<Body>,
        metered: &mut Metered,
    ) -> Result<Outcome, Rejection> {
        let (context, path) = self.admit(parts, metered).await?;
        let body = match body {
            Some(body) => read_body(body).await?,
            None => Zeroizing::default(),
        };
        let request = ApiRequest { path, uri: &parts.uri, headers: &parts.headers, body: &body };
        let operation = to_operation(&request)?;
        if self.backend.is_quick(&operation) {
            let outcome = self.backend.serve(&context, operation);
            kms_crypto::wipe_stack();
            return Ok(outcome?);
        }
        Ok(self.blocking_pool.serve(&self.backend, context, operation).await?)
    }

    /// Authenticates a request, parses its path and counts it against the quota. Every route below a project begins
    /// with this, whether it is an operation, a report or the export.
    pub(super) async fn admit(
        &self,
        parts: &mut Parts,
        metered: &mut Metered,
    ) -> Result<(RequestContext, ResourcePath), Rejection> {
        let request_info = request_info(parts)?;
        let now = self.backend.now();
        let account = self.authenticate(&parts.headers, request_info.source, now).await?;
        let path = match RawPathParams::from_request_parts(parts, &()).await {
            Ok(parameters) => ResourcePath::parse(&parameters),
            Err(_) => Err(Problem::malformed("the path is not UTF-8")),
        };
        let path = match path {
            Ok(path) => path,
            Err(problem) => {
                self.count_own(account.id, now)?;
                return Err(problem.into());
            }
        };
        self.count_call(&account, path.project, now, metered).await?;
        let context = RequestContext {
            account,
            source: request_info.source,
            area: request_info.area,
            agent: user_agent(&parts.headers),
            endpoint: format!("{} {}", parts.method, parts.uri.path()),
            trace: request_info.trace,
        };
        Ok((context, path))
    }

    /// Authenticates the caller; failures are counted by client network.
    pub(super) async fn authenticate(
        &self,
        headers: &HeaderMap,
        source: IpAddr,
        now: u64,
    ) -> Result<Arc<Account>, Rejection> {
        let problem = match self.account_of_token(headers, now).await {
            Ok(account) => return Ok(account),
            Err(problem) => problem,
        };
        if problem.status != Status::Unauthenticated {
            return Err(problem.into());
        }
        Err(self.failed_authentication(problem, source, now))
    }

    /// Counts a failed authentication. Returns the problem until the limit is reached, then 429.
    pub(super) fn failed_authentication(&self, problem: Problem, source: IpAddr, now: u64) -> Rejection {
        match self.failures.take(client_network(source), now, FAILURES_PER_HOUR) {
            Ok(_) => problem.into(),
            Err(Exhausted(allowance)) => {
                self.metrics.quota_refused();
                let message = "too many calls with wrong credentials came from this address";
                let problem = Problem::new(Status::TooMany, message);
                Rejection { problem, retry_after: Some(allowance.reset) }
            }
        }
    }

    async fn account_of_token(&self, headers: &HeaderMap, now: u64) -> Result<Arc<Account>, Problem> {
        let token = bearer_token(headers)?;
        if let Some(known) = self.backend.authenticate_cached(token, now) {
            return known;
        }
        // Not cached: a token needs the database, or its signature must be verified.
        let (backend, token) = (Arc::clone(&self.backend), Zeroizing::new(token.to_owned()));
        self.blocking_pool.run(move || backend.authenticate(&token, now)).await?
    }
}

/// Returns what the middleware attached to the request.
pub(super) fn request_info(parts: &Parts) -> Result<RequestInfo, Problem> {
    let request_info = parts.extensions.get::<RequestInfo>().copied();
    request_info.ok_or_else(|| Problem::new(Status::Internal, "internal error"))
}

/// Extracts the bearer token (RFC 6750).
fn bearer_token(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = "this call needs `Authorization: Bearer TOKEN`; `kms token create` makes one";
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::new(Status::Unauthenticated, missing));
    };
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(token.trim())
        }
        Some(_) | None => Err(Problem::new(Status::Unauthenticated, missing)),
    }
}

/// Returns the client's user agent, truncated.
pub(super) fn user_agent(headers: &HeaderMap) -> Arc<str> {
    let text = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let end = text.char_indices().nth(USER_AGENT_CHARACTERS_MAX).map_or(text.len(), |(end, _)| end);
    Arc::from(&text[..end])
}

/// Reads a body into memory that is wiped afterwards.
pub(super) async fn read_body(body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let timed_out = |_| Problem::malformed("the body did not arrive within 10 seconds");
    tokio::time::timeout(BODY_TIMEOUT, collect_body(body)).await.map_err(timed_out)?
}

async fn collect_body(body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let too_long = || {
        let message = format!("the body is too long: at most {BODY_BYTES_MAX} bytes are accepted");
        Problem::new(Status::TooLarge, message)
    };
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if expected > BODY_BYTES_MAX {
        // Content-Length announces it: it is rejected without reading it.
        return Err(too_long());
    }
    // The announced length is allocated at once, because a vector that grows leaves unwiped copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected));
    let mut limited = Limited::new(body, BODY_BYTES_MAX);
    while let Some(frame) = limited.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_long()
            } else {
                Problem::malformed("the body is incomplete")
            }
        })?;
        let data: &Bytes = match frame.data_ref() {
            Some(data) => data,
            None => continue,
        };
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}
