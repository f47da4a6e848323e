//! A client of the REST door: a call, and an answer with its status, headers and JSON. It knows the API's paths, and
//! nothing of what is behind them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::http::{HeaderMap, Request};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::Stack;

/// The project that `kms init` makes when it is told none.
pub const PROJECT: &str = "00000000-0000-0000-0000-000000000000";

/// How long an answer may take: ten times what the slowest call (an RSA-4096 key) takes on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// A caller of one project of one KMS.
#[derive(Clone, Debug)]
pub struct Rest {
    agent: ureq::Agent,
    base: String,
    project: String,
    token: Option<String>,
}

/// What came back.
#[derive(Clone)]
pub struct ResponseEnvelope {
    /// The call, to name it in failures.
    pub call: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Rest {
    /// The owner of a running stack's first project.
    ///
    /// # Panics
    /// When the daemon does not say where its door is, or the home has no token.
    pub fn of(stack: &Stack) -> Self {
        Self::new(&stack.rest_address(), &[], Some(&stack.admin_token()))
    }

    /// A caller of the door at this address; for `https`, trusting these certificates (PEM).
    ///
    /// # Panics
    /// When a certificate is none.
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
            .timeout_global(Some(ANSWERED_WITHIN))
            .tls_config(tls.build())
            .build();
        Self {
            agent: config.new_agent(),
            base: base.to_owned(),
            project: PROJECT.to_owned(),
            token: token.map(str::to_owned),
        }
    }

    /// The same place, another caller.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// The same caller, another project.
    #[must_use]
    pub fn in_project(&self, project: &str) -> Self {
        Self { project: project.to_owned(), ..self.clone() }
    }

    /// The door's address, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The caller's token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// `/v1/projects/…/regions/eu01`, and what follows.
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/projects/{}/regions/eu01/{rest}", self.project)
    }

    /// GET, below the region.
    pub fn read(&self, path: &str) -> ResponseEnvelope {
        self.call("GET", &self.path(path), None, &[])
    }

    /// POST with JSON, below the region.
    pub fn post(&self, path: &str, body: Value) -> ResponseEnvelope {
        self.call("POST", &self.path(path), Some(body.to_string().as_bytes()), &[])
    }

    /// POST without a body, below the region.
    pub fn act(&self, path: &str) -> ResponseEnvelope {
        self.call("POST", &self.path(path), None, &[])
    }

    /// DELETE, below the region.
    pub fn delete(&self, path: &str) -> ResponseEnvelope {
        self.call("DELETE", &self.path(path), None, &[])
    }

    /// Any call at all; the path is whole. A body is said to be JSON unless a header says otherwise.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> ResponseEnvelope {
        self.try_call(method, path, body, headers).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same, when no answer may come: the daemon is being killed.
    ///
    /// # Errors
    /// When none comes.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> Result<ResponseEnvelope, ureq::Error> {
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
        let answered = match body {
            Some(body) => self.agent.run(request.body(body)?)?,
            None if method == "POST" => self.agent.run(request.body([].as_slice())?)?,
            None => self.agent.run(request.body(())?)?,
        };
        let (parts, mut body) = answered.into_parts();
        Ok(ResponseEnvelope {
            call: format!("{method} {path}"),
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.with_config().limit(64 << 20).read_to_vec()?,
        })
    }

    /// A new ring; gives its id.
    #[track_caller]
    pub fn make_ring(&self, name: &str) -> String {
        self.post("keyrings", json!({ "displayName": name })).json(202).text("id")
    }

    /// A new key of this algorithm in a ring; gives its path below the region.
    #[track_caller]
    pub fn make_key(&self, ring: &str, name: &str, algorithm: &str) -> String {
        let made = self.post(&format!("keyrings/{ring}/keys"), key(name, algorithm)).json(202);
        format!("keyrings/{ring}/keys/{}", made.text("id"))
    }
}

/// What makes a key of this algorithm, as JSON.
pub fn key(name: &str, algorithm: &str) -> Value {
    json!({
        "displayName": name,
        "protection": "software",
        "algorithm": algorithm,
        "purpose": purpose(algorithm),
    })
}

/// The one purpose of an algorithm.
pub fn purpose(algorithm: &str) -> &'static str {
    match algorithm.split('_').next() {
        Some("aes") => "symmetric_encrypt_decrypt",
        Some("rsa") => "asymmetric_encrypt_decrypt",
        Some("hmac") => "message_authentication_code",
        _ => "asymmetric_sign_verify",
    }
}

/// Bytes as the API writes them.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Bytes as the API wrote them.
///
/// # Panics
/// When they are no padded base64 of the standard alphabet.
#[track_caller]
pub fn bytes(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_else(|error| panic!("{text:?} is no base64: {error}"))
}

/// The DER inside a public key's PEM.
///
/// # Panics
/// When it is none.
#[track_caller]
pub fn der(pem: &str) -> Vec<u8> {
    let inside = pem.strip_prefix("-----BEGIN PUBLIC KEY-----\n").and_then(|rest| {
        let end = rest.trim_end().strip_suffix("-----END PUBLIC KEY-----")?;
        Some(end.lines().collect::<String>())
    });
    bytes(&inside.unwrap_or_else(|| panic!("{pem:?} is no public key in PEM")))
}

/// A field of an answer.
pub trait Field {
    /// A text.
    ///
    /// # Panics
    /// When it is not there.
    fn text(&self, name: &str) -> String;
}

impl Field for Value {
    #[track_caller]
    fn text(&self, name: &str) -> String {
        self[name].as_str().unwrap_or_else(|| panic!("no text {name:?} in {self}")).to_owned()
    }
}

impl ResponseEnvelope {
    /// The JSON of an answer that must have this status.
    ///
    /// # Panics
    /// When it has another, or its body is not JSON and said to be.
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.traced();
        assert_eq!(self.header("content-type"), Some("application/json"), "{self}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// That an answer has this status and no body.
    ///
    /// # Panics
    /// When it is otherwise.
    #[track_caller]
    pub fn empty(&self, status: u16) {
        assert_eq!(self.status, status, "{self}");
        self.traced();
        assert!(self.body.is_empty(), "{self}");
    }

    /// The sentence of a refusal with this status.
    ///
    /// # Panics
    /// When it is none, or not in the API's one form of refusals.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        let body = self.json(status);
        let fields = body.as_object().map_or(0, serde_json::Map::len);
        let message = body["message"].as_str().unwrap_or_default();
        assert!(fields == 1 && message.split_whitespace().count() > 1, "{self}");
        message.to_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    fn traced(&self) {
        assert_eq!(self.header("x-trace-id").map(str::len), Some(36), "an id in x-trace-id: {self}");
    }
}

impl fmt::Display for ResponseEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let shown: String = body.chars().take(2000).collect();
        write!(f, "{} -> {}\n{:?}\n{shown}", self.call, self.status, self.headers)
    }
}

impl fmt::Debug for ResponseEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
