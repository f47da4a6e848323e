//! Tests of the REST API with a mock backend that records the operations it receives: what an operation does is tested
//! in the dispatcher.

mod audit_and_export;
mod calls;
mod document;
mod limits;
mod token;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, Response, header};
use http_body_util::BodyExt;
use kms_core::api::{Account, Grant, Operation, Outcome, Problem, RequestContext, Role, Status, Usage};
use kms_core::audit::AuditItems;
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::backend_trait::{BodyWriter, MetricValues, RestBackend};
use super::middleware::ConnectionService;
use super::state::RestState;
use crate::config::RestConfig;
use crate::dispatch::{Report, ReportOutput, TokenPair, TokenRequest, TokenRequestContext};
use crate::fairness::ListenerCounts;

/// The project that the test account owns.
const PROJECT: Uuid = Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1111);

/// The id of a ring, key or wrapping key in a path.
const ID: &str = "22222222-2222-4222-8222-222222222222";

/// A backend that records what it receives, and returns the results that it was given.
struct MockBackend {
    operations: Mutex<Vec<(RequestContext, Operation)>>,
    outcome: Mutex<Result<Outcome, Problem>>,
    now: AtomicU64,
    quick: bool,
    others: AtomicBool,
    hsm: Mutex<Result<(), String>>,
    reported: Mutex<Vec<String>>,
}

impl RestBackend for MockBackend {
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn authenticate_cached(&self, token: &str, now: u64) -> Option<Result<Arc<Account>, Problem>> {
        self.quick.then(|| self.authenticate(token, now))
    }

    fn authenticate(&self, token: &str, _: u64) -> Result<Arc<Account>, Problem> {
        let (id, project) = match token {
            "owner" => (7, Some(PROJECT)),
            "everywhere" => (10, None),
            "colleague" => (8, Some(PROJECT)),
            "stranger" => (9, Some(Uuid::from_u128(9))),
            _ => return Err(Problem::new(Status::Unauthenticated, "the token is not known here")),
        };
        let grants = vec![Grant { role: Role::Owner, project, ring: None }];
        Ok(Arc::new(Account { id: Uuid::from_u128(id), email: "owner@test".to_owned(), grants }))
    }

    fn exchange(
        &self,
        context: &TokenRequestContext<'_>,
        request: TokenRequest<'_>,
        admit: &dyn Fn(Uuid) -> Result<(), Problem>,
    ) -> Result<TokenPair, Problem> {
        assert!(context.source.is_some() && context.trace.is_some());
        match request {
            TokenRequest::Assertion("good") | TokenRequest::Refresh("good") => {
                admit(Uuid::from_u128(7))?;
                Ok(TokenPair {
                    access: Zeroizing::new("access".to_owned()),
                    refresh: Zeroizing::new("refresh".to_owned()),
                    seconds: 600,
                })
            }
            TokenRequest::Assertion(_) => Err(Problem::new(Status::Forbidden, "a bad assertion")),
            TokenRequest::Refresh(_) => Err(Problem::new(Status::Forbidden, "a bad refresh token")),
        }
    }

    fn serve(&self, context: &RequestContext, operation: Operation) -> Result<Outcome, Problem> {
        assert!(context.agent.as_ref() != "panic", "this agent makes the backend panic");
        self.operations.lock().unwrap().push((context.clone(), operation));
        self.outcome.lock().unwrap().clone()
    }

    fn report(&self, _: &RequestContext, project: Uuid, report: &Report) -> Result<ReportOutput, Problem> {
        self.reported.lock().unwrap().push(format!("{project} {report:?}"));
        Ok(match report {
            Report::Audit { .. } => {
                ReportOutput::Audit(AuditItems { items: Vec::new(), limit: 3, cursor: None })
            }
            Report::Usage { .. } => ReportOutput::Usage(Usage { version_hours: 0, hours: Vec::new() }),
        })
    }

    fn export(&self, _: &RequestContext, project: Uuid) -> Result<BodyWriter, Problem> {
        Ok(Box::new(move |out| write!(out, "{{\"exported\":\"{project}\"}}")))
    }

    fn is_quick(&self, _: &Operation) -> bool {
        self.quick
    }

    fn has_other_callers(&self, _: Uuid, _: Uuid) -> bool {
        self.others.load(Ordering::Relaxed)
    }

    fn rest_connections(&self) -> Arc<ListenerCounts> {
        Arc::default()
    }

    fn check_hsm(&self) -> Result<(), String> {
        self.hsm.lock().unwrap().clone()
    }

    fn check_store(&self) -> Result<(), String> {
        Ok(())
    }

    fn metric_values(&self) -> MetricValues {
        MetricValues { opened_keys: 3, key_versions: 5, hsm_calls: 7, ..MetricValues::default() }
    }
}

/// A router with a mock backend.
struct TestServer {
    backend: Arc<MockBackend>,
    state: Arc<RestState>,
    peer: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

/// A response of the router.
struct TestResponse {
    status: u16,
    response: Response<()>,
    body: String,
}

impl TestResponse {
    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns the error message; the body has no other field.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["message"].as_str().unwrap().to_owned()
    }
}

fn settings() -> RestConfig {
    RestConfig {
        enabled: true,
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        calls_per_hour: 10_000,
        connections_max: 10,
        connections_per_address: 10,
        trust_forwarded_for: false,
        metrics_public: false,
        sna_networks: Vec::new(),
    }
}

impl TestServer {
    fn new() -> Self {
        Self::with(settings(), true)
    }

    fn with(settings: RestConfig, quick: bool) -> Self {
        let backend = Arc::new(MockBackend {
            operations: Mutex::default(),
            outcome: Mutex::new(Ok(Outcome::Done)),
            now: AtomicU64::new(1_800_000_000),
            quick,
            others: AtomicBool::new(false),
            hsm: Mutex::new(Ok(())),
            reported: Mutex::default(),
        });
        let state = Arc::new(RestState::new(Arc::clone(&backend) as _, settings));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { backend, state, peer: "127.0.0.1:4711".parse().unwrap(), runtime: runtime.unwrap() }
    }

    /// Sends a request, with a Host header if it has none.
    fn send(&self, mut request: Request<Body>) -> TestResponse {
        let host = header::HeaderValue::from_static("127.0.0.1:9200");
        request.headers_mut().entry(header::HOST).or_insert(host);
        self.send_as_is(request)
    }

    fn send_as_is(&self, request: Request<Body>) -> TestResponse {
        let router = super::with_fallbacks(super::router(&self.state));
        let connection = ConnectionService::new(router, Arc::clone(&self.state), self.peer);
        self.runtime.block_on(async {
            let (parts, body) = connection.oneshot(request).await.unwrap().into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let body = String::from_utf8(bytes.to_vec()).unwrap();
            let status = parts.status.as_u16();
            TestResponse { status, response: Response::from_parts(parts, ()), body }
        })
    }

    /// Sends a request of the owner to a path below the project.
    fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> TestResponse {
        self.send(request(method, &project_path(path)).body(body.into()).unwrap())
    }

    /// Takes the one operation that was executed since the last call.
    #[track_caller]
    fn take_operation(&self) -> Operation {
        let mut operations = std::mem::take(&mut *self.backend.operations.lock().unwrap());
        assert_eq!(operations.len(), 1);
        operations.remove(0).1
    }
}

/// Returns a path below the project.
fn project_path(path: &str) -> String {
    format!("/v1/projects/{PROJECT}/regions/eu01{}", path.replace("{id}", ID))
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::AUTHORIZATION, "Bearer owner")
}
