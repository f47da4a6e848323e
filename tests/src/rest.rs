//! A client of the REST API: sends requests and returns responses with status, headers and body. It contains the API's
//! paths and nothing of the implementation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::http::{HeaderMap, Request};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::Stack;

/// The id of the project that `kms init` creates by default.
pub const PROJECT: &str = "00000000-0000-0000-0000-000000000000";

/// How long a response may take: ten times what the slowest call (an RSA-4096 key) takes on a busy machine.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client with the address of a KMS, a project and a token.
#[derive(Clone, Debug)]
pub struct Rest {
    agent: ureq::Agent,
    base: String,
    project: String,
    token: Option<String>,
}

/// A response.
#[derive(Clone)]
pub struct Response {
    /// Method and path of the request, for failure messages.
    pub call: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Rest {
    /// A client of a running stack's first project with the administrator's token.
    ///
    /// # Panics
    /// When the daemon did not print its REST address, or the home has no token.
    pub fn of(stack: &Stack) -> Self {
        Self::new(&stack.rest_address(), &[], Some(&stack.admin_token()))
    }

    /// A client of the API at this address; for `https`, it trusts these certificates (PEM).
    ///
    /// # Panics
    /// When a certificate is not valid PEM.
    pub fn new(base: &str, trusted: &[&str], token: Option<&str>) -> Self {
        let trusted: Vec<_> = trusted
            .iter()
            .map(|pem| Certificate::from_pem(pem.as_bytes()).expect("a certificate in PEM"))
            .collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(trusted)));
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .proxy(None)
            .timeout_global(Some(RESPONSE_TIMEOUT))
            .tls_config(tls.build())
            .build();
        Self {
            agent: config.new_agent(),
            base: base.to_owned(),
            project: PROJECT.to_owned(),
            token: token.map(str::to_owned),
        }
    }

    /// The same client with another token, or none.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// The same client for another project.
    #[must_use]
    pub fn in_project(&self, project: &str) -> Self {
        Self { project: project.to_owned(), ..self.clone() }
    }

    /// The API's address, without a trailing slash.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The client's token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The full path for a path below `/v1/projects/…/regions/eu01/`.
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/projects/{}/regions/eu01/{rest}", self.project)
    }

    /// GET of a path below the region.
    pub fn read(&self, path: &str) -> Response {
        self.call("GET", &self.path(path), None, &[])
    }

    /// POST with JSON to a path below the region.
    pub fn post(&self, path: &str, body: Value) -> Response {
        self.call("POST", &self.path(path), Some(body.to_string().as_bytes()), &[])
    }

    /// POST without a body to a path below the region.
    pub fn post_empty(&self, path: &str) -> Response {
        self.call("POST", &self.path(path), None, &[])
    }

    /// DELETE of a path below the region.
    pub fn delete(&self, path: &str) -> Response {
        self.call("DELETE", &self.path(path), None, &[])
    }

    /// Sends any request; the path is a full path. The content type of a body is JSON unless a header sets another.
    ///
    /// # Panics
    /// When no response arrives.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&[u8]>, headers: &[(&str, &str)]) -> Response {
        self.try_call(method, path, body, headers).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same for requests that may get no response, because the daemon is being killed.
    ///
    /// # Errors
    /// When no response arrives.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> Result<Response, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match body {
            Some(body) => self.agent.run(request.body(body)?)?,
            None if method == "POST" => self.agent.run(request.body([].as_slice())?)?,
            None => self.agent.run(request.body(())?)?,
        };
        let (parts, mut body) = response.into_parts();
        Ok(Response {
            call: format!("{method} {path}"),
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.with_config().limit(64 << 20).read_to_vec()?,
        })
    }

    /// Creates a ring and returns its id.
    #[track_caller]
    pub fn create_ring(&self, name: &str) -> String {
        self.post("keyrings", json!({ "displayName": name })).json(202).text("id")
    }

    /// Creates a key of this algorithm in a ring and returns its path below the region.
    #[track_caller]
    pub fn create_key(&self, ring: &str, name: &str, algorithm: &str) -> String {
        let created = self.post(&format!("keyrings/{ring}/keys"), key(name, algorithm)).json(202);
        format!("keyrings/{ring}/keys/{}", created.text("id"))
    }
}

/// The JSON body that creates a key of this algorithm.
pub fn key(name: &str, algorithm: &str) -> Value {
    json!({
        "displayName": name,
        "protection": "software",
        "algorithm": algorithm,
        "purpose": purpose(algorithm),
    })
}

/// The only purpose that an algorithm has.
pub fn purpose(algorithm: &str) -> &'static str {
    match algorithm.split('_').next() {
        Some("aes") => "symmetric_encrypt_decrypt",
        Some("rsa") => "asymmetric_encrypt_decrypt",
        Some("hmac") => "message_authentication_code",
        _ => "asymmetric_sign_verify",
    }
}

/// Encodes bytes as the API does.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Decodes bytes that the API returned.
///
/// # Panics
/// When the text is not padded base64 of the standard alphabet.
#[track_caller]
pub fn bytes(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_else(|error| panic!("{text:?} is not base64: {error}"))
}

/// The DER inside a public key's PEM.
///
/// # Panics
/// When it is not one.
#[track_caller]
pub fn der(pem: &str) -> Vec<u8> {
    let inside = pem.strip_prefix("-----BEGIN PUBLIC KEY-----\n").and_then(|rest| {
        let end = rest.trim_end().strip_suffix("-----END PUBLIC KEY-----")?;
        Some(end.lines().collect::<String>())
    });
    bytes(&inside.unwrap_or_else(|| panic!("{pem:?} is no public key in PEM")))
}

/// Access to the fields of a JSON response.
pub trait Field {
    /// The value of a text field.
    ///
    /// # Panics
    /// When there is no such field.
    fn text(&self, name: &str) -> String;
}

impl Field for Value {
    #[track_caller]
    fn text(&self, name: &str) -> String {
        self[name].as_str().unwrap_or_else(|| panic!("no text {name:?} in {self}")).to_owned()
    }
}

impl Response {
    /// The JSON of a response that must have this status.
    ///
    /// # Panics
    /// When the status is another, or the body or its content type is not JSON.
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.assert_trace_id();
        assert_eq!(self.header("content-type"), Some("application/json"), "{self}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Asserts that a response has this status and no body.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn empty(&self, status: u16) {
        assert_eq!(self.status, status, "{self}");
        self.assert_trace_id();
        assert!(self.body.is_empty(), "{self}");
    }

    /// The message of a problem with this status.
    ///
    /// # Panics
    /// When the status is another, or the body is not in the API's format of problems.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        let body = self.json(status);
        let fields = body.as_object().map_or(0, serde_json::Map::len);
        let message = body["message"].as_str().unwrap_or_default();
        assert!(fields == 1 && message.split_whitespace().count() > 1, "{self}");
        message.to_owned()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    fn assert_trace_id(&self) {
        assert_eq!(self.header("x-trace-id").map(str::len), Some(36), "a UUID in x-trace-id: {self}");
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let shown: String = body.chars().take(2000).collect();
        write!(f, "{} -> {}\n{:?}\n{shown}", self.call, self.status, self.headers)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
