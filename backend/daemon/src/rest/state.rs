//! One call's way: who asks → how many calls are left → what is asked → the rooms → the answer.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, header};
use axum_server::Handle;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kms_core::api::{Account, Operation, Outcome, Problem, RequestContext, Status};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::backend_trait::RestBackend;
use super::blocking_pool::Work;
use super::extract::{Asked, Place};
use super::health::Health;
use super::metrics::Metrics;
use super::quota::{Allowance, Exhausted, Quota};
use super::respond::{self, Rejection};
use super::routes::Route;
use super::stream_body::Exports;
use crate::config::RestConfig;

/// The longest body: two fields of the largest data in base64, and the JSON around them. What is longer is no call.
const BODY_BYTES_MAX: usize = 256 << 10;

/// How long a body may take to arrive: 256 KiB in this time are less than the slowest line brings.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The longest name that a client's program is remembered by.
const AGENT_CHARACTERS_MAX: usize = 200;

/// Refused tokens per address and hour. Whoever guesses is not told more often than this that it was wrong, and
/// whoever fails by mistake sees it long before.
const FAILURES_PER_HOUR: u32 = 1000;

/// What the outermost layer knows of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// From where it came.
    pub(super) source: IpAddr,
    /// Its own id.
    pub(super) trace: Uuid,
}

/// Whose calls are counted: a project's, if the caller has any part in it. A stranger to the project is counted by
/// itself, or it could use up what belongs to others.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Counted {
    Project(Uuid),
    Stranger(Uuid),
}

/// The state: what all calls share.
pub(crate) struct RestState {
    pub(super) backend: Arc<dyn RestBackend>,
    pub(super) settings: ArcSwap<RestConfig>,
    pub(super) work: Work,
    pub(super) exports: Exports,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) handle: Handle<SocketAddr>,
    calls: Quota<Counted>,
    failures: Quota<IpAddr>,
}

impl RestState {
    pub(super) fn new(backend: Arc<dyn RestBackend>, settings: RestConfig) -> Self {
        Self {
            backend,
            settings: ArcSwap::from_pointee(settings),
            work: Work::new(),
            exports: Exports::new(),
            metrics: Metrics::new(),
            health: Health::default(),
            handle: Handle::new(),
            calls: Quota::default(),
            failures: Quota::default(),
        }
    }

    /// Takes over the limits of a configuration that was read again.
    pub(super) fn adopt(&self, settings: RestConfig) {
        self.settings.store(Arc::new(settings));
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> usize {
        self.handle.connection_count()
    }

    /// Answers one operation of the API.
    pub(super) async fn call(
        &self,
        route: &'static Route,
        operation: fn(&Asked<'_>) -> Result<Operation, Problem>,
        request: Request<Body>,
    ) -> Response<Body> {
        let mut allowance = None;
        let (mut parts, body) = request.into_parts();
        let body = route.takes.is_some().then_some(body);
        let mut response = match self.answer(operation, &mut parts, body, &mut allowance).await {
            Ok(outcome) => respond::outcome(route.success, &outcome),
            Err(rejection) => respond::rejection(&rejection),
        };
        if let Some(allowance) = allowance {
            respond::tell_allowance(&mut response, &allowance);
        }
        response
    }

    async fn answer(
        &self,
        operation: fn(&Asked<'_>) -> Result<Operation, Problem>,
        parts: &mut Parts,
        body: Option<Body>,
        allowance: &mut Option<Allowance>,
    ) -> Result<Outcome, Rejection> {
        let (context, place) = self.enter(parts, allowance).await?;
        let body = match body {
            Some(body) => read(body).await?,
            None => Zeroizing::default(),
        };
        let asked = Asked { place, uri: &parts.uri, headers: &parts.headers, body: &body };
        let operation = operation(&asked)?;
        if self.backend.is_quick(&operation) {
            return Ok(self.backend.serve(&context, operation)?);
        }
        Ok(self.work.serve(&self.backend, context, operation).await?)
    }

    /// Lets a caller in: who asks, about what, and whether calls are left. What a path below a project needs before
    /// anything else, operation of the service or not.
    pub(super) async fn enter(
        &self,
        parts: &mut Parts,
        allowance: &mut Option<Allowance>,
    ) -> Result<(RequestContext, Place), Rejection> {
        let arrival = arrival(parts)?;
        let now = self.backend.now();
        let account = self.authenticate(&parts.headers, arrival.source, now).await?;
        let place = match RawPathParams::from_request_parts(parts, &()).await {
            Ok(parameters) => Place::of(&parameters)?,
            Err(_) => return Err(Problem::malformed("the path is not UTF-8").into()),
        };
        *allowance = Some(self.count(&account, place.project, now, allowance)?);
        let context = RequestContext {
            account,
            source: arrival.source,
            agent: agent(&parts.headers),
            endpoint: format!("{} {}", parts.method, parts.uri.path()),
            trace: arrival.trace,
        };
        Ok((context, place))
    }

    /// Who asks.
    pub(super) async fn authenticate(
        &self,
        headers: &HeaderMap,
        source: IpAddr,
        now: u64,
    ) -> Result<Arc<Account>, Rejection> {
        let problem = match self.account(headers, now).await {
            Ok(account) => return Ok(account),
            Err(problem) => problem,
        };
        if problem.status != Status::Unauthenticated {
            return Err(problem.into());
        }
        Err(self.failed(problem, source, now))
    }

    /// Counts credentials that were wrong, and says so for so long.
    pub(super) fn failed(&self, problem: Problem, source: IpAddr, now: u64) -> Rejection {
        match self.failures.take(network(source), now, FAILURES_PER_HOUR) {
            Ok(_) => problem.into(),
            Err(Exhausted(allowance)) => {
                self.metrics.quota_refused();
                let sentence = "too many calls with wrong credentials came from this address";
                let problem = Problem::new(Status::TooMany, sentence);
                Rejection { problem, retry_after: Some(allowance.reset) }
            }
        }
    }

    async fn account(&self, headers: &HeaderMap, now: u64) -> Result<Arc<Account>, Problem> {
        let token = bearer(headers)?;
        if let Some(known) = self.backend.recognise(token, now) {
            return known;
        }
        // Not seen before, or not lately: the database is asked, or a signature checked.
        let (backend, token) = (Arc::clone(&self.backend), Zeroizing::new(token.to_owned()));
        self.work.run(move || backend.authenticate(&token, now)).await?
    }

    fn count(
        &self,
        account: &Account,
        project: Uuid,
        now: u64,
        told: &mut Option<Allowance>,
    ) -> Result<Allowance, Rejection> {
        let part = account.grants.iter().any(|grant| grant.project.is_none_or(|granted| granted == project));
        let counted = if part { Counted::Project(project) } else { Counted::Stranger(account.id) };
        let limit = self.settings.load().calls_per_hour;
        self.calls.take(counted, now, limit).map_err(|Exhausted(allowance)| {
            self.metrics.quota_refused();
            *told = Some(allowance);
            let sentence = format!("the project's {limit} calls of this hour are used up");
            let problem = Problem::new(Status::TooMany, sentence);
            Rejection { problem, retry_after: Some(allowance.reset) }
        })
    }
}

/// What the outermost layer wrote down.
pub(super) fn arrival(parts: &Parts) -> Result<Arrival, Problem> {
    let arrival = parts.extensions.get::<Arrival>().copied();
    arrival.ok_or_else(|| Problem::new(Status::Internal, "internal error"))
}

/// The token (RFC 6750).
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
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

/// What calls itself so.
pub(super) fn agent(headers: &HeaderMap) -> Arc<str> {
    let text = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let end = text.char_indices().nth(AGENT_CHARACTERS_MAX).map_or(text.len(), |(end, _)| end);
    Arc::from(&text[..end])
}

/// What one party has of addresses: with IPv6 that is a network of 64 bits.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Reads a body into memory that is wiped afterwards.
pub(super) async fn read(body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let slow = |_| Problem::malformed("the body did not arrive within 10 seconds");
    tokio::time::timeout(BODY_WITHIN, collect(body)).await.map_err(slow)?
}

async fn collect(body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let too_long = || {
        let sentence = format!("the body is too long: at most {BODY_BYTES_MAX} bytes are taken");
        Problem::new(Status::TooLarge, sentence)
    };
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if expected > BODY_BYTES_MAX {
        // Its length was told: nobody waits for what will not be taken.
        return Err(too_long());
    }
    // The whole length at once, so that no half-filled copy is left behind unwiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected));
    let mut limited = Limited::new(body, BODY_BYTES_MAX);
    while let Some(frame) = limited.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_long()
            } else {
                Problem::malformed("the body did not arrive whole")
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
