//! Extraction of a request's parts: the ids in its path, its query, its headers and its body.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, Uri, header};
use kms_core::api::{KeyPath, Page, Problem, RingPath, Status, VersionPath, WrappingKeyPath};
use serde::Deserialize;
use uuid::Uuid;

/// The only region.
pub(super) const REGION: &str = "eu01";

/// The header that makes a creation idempotent.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The maximum number of entries of one page.
const PAGE_ENTRIES_MAX: u32 = 1000;

/// The maximum length of a cursor: several times the longest that is issued.
const CURSOR_BYTES_MAX: usize = 256;

/// The maximum length of a message about a body that cannot be parsed, because it may quote the body.
const BODY_ERROR_CHARACTERS_MAX: usize = 400;

/// The resource that a request addresses: the ids in its path.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ResourcePath {
    pub(super) project: Uuid,
    ring: Option<Uuid>,
    key: Option<Uuid>,
    wrapping_key: Option<Uuid>,
    version: Option<i64>,
}

/// A request whose caller has been authenticated, but not yet authorised.
pub(super) struct ApiRequest<'a> {
    pub(super) path: ResourcePath,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

impl ResourcePath {
    /// Parses the parameters of a path.
    ///
    /// # Errors
    /// 400 for an id that is not a UUID or not a number, 404 for an unknown region.
    pub(super) fn parse<'p>(
        parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
    ) -> Result<Self, Problem> {
        let mut path = Self::default();
        for (name, value) in parameters {
            match name {
                "projectId" => path.project = parse_uuid(name, value)?,
                "regionId" if value == REGION => {}
                "regionId" => {
                    let message =
                        format!("there is no region {:?} here; use {REGION:?}", truncated(value, 40));
                    return Err(Problem::new(Status::NotFound, message));
                }
                "keyRingId" => path.ring = Some(parse_uuid(name, value)?),
                "keyId" => path.key = Some(parse_uuid(name, value)?),
                "wrappingKeyId" => path.wrapping_key = Some(parse_uuid(name, value)?),
                "versionNumber" => {
                    let number = value.parse().map_err(|_| {
                        let value = truncated(value, 40);
                        Problem::malformed(format!("versionNumber must be a whole number; this is {value:?}"))
                    })?;
                    path.version = Some(number);
                }
                _ => return Err(misrouted()),
            }
        }
        Ok(path)
    }

    pub(super) fn ring(&self) -> Result<RingPath, Problem> {
        Ok(RingPath { project: self.project, ring: self.ring.ok_or_else(misrouted)? })
    }

    pub(super) fn key(&self) -> Result<KeyPath, Problem> {
        Ok(KeyPath { ring: self.ring()?, key: self.key.ok_or_else(misrouted)? })
    }

    pub(super) fn version(&self) -> Result<VersionPath, Problem> {
        Ok(VersionPath { key: self.key()?, number: self.version.ok_or_else(misrouted)? })
    }

    pub(super) fn wrapping_key(&self) -> Result<WrappingKeyPath, Problem> {
        Ok(WrappingKeyPath { ring: self.ring()?, key: self.wrapping_key.ok_or_else(misrouted)? })
    }
}

impl<'a> ApiRequest<'a> {
    /// Parses the pagination parameters of a list.
    pub(super) fn page(&self) -> Result<Page, Problem> {
        let mut page = Page::default();
        for pair in self.uri.query().unwrap_or_default().split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("limit", value) => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE_ENTRIES_MAX).contains(limit));
                    page.limit = Some(limit.ok_or_else(|| {
                        let value = truncated(value, 40);
                        Problem::malformed(format!(
                            "limit must be 1 to {PAGE_ENTRIES_MAX}; this is {value:?}"
                        ))
                    })?);
                }
                // Cursors that this service issues consist of characters that need no percent-encoding.
                ("cursor", value) if value.len() <= CURSOR_BYTES_MAX => page.cursor = Some(value.to_owned()),
                ("cursor", _) => return Err(Problem::malformed("cursor was not issued by this service")),
                (_, _) => {}
            }
        }
        Ok(page)
    }

    /// The idempotency key that the client sent with the request.
    pub(super) fn idempotency_key(&self) -> Result<Option<Uuid>, Problem> {
        let Some(value) = self.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let text = value.to_str().ok().map(|text| text.trim().trim_matches('"'));
        let key = text.and_then(|text| Uuid::try_parse(text).ok());
        key.map(Some).ok_or_else(|| Problem::malformed("Idempotency-Key must be a UUID"))
    }

    /// Deserialises the body.
    ///
    /// # Errors
    /// 400, with the field and the reason.
    pub(super) fn payload<P: Deserialize<'a>>(&self) -> Result<P, Problem> {
        check_content_type(self.headers)?;
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::malformed("the body is empty; expected JSON"));
        }
        let mut reader = serde_json::Deserializer::from_slice(self.body);
        let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let (field, problem) = (error.path().to_string(), error.inner().to_string());
            // The path of an error that concerns the body as a whole is ".".
            let prefix = if field == "." { String::new() } else { format!("{field}: ") };
            unreadable_body(&format!("{prefix}{problem}"))
        });
        read.and_then(|payload| {
            reader.end().map(|()| payload).map_err(|error| unreadable_body(&error.to_string()))
        })
    }
}

/// Rejects a content type other than JSON. A request without a content type is taken as JSON.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    if media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
    {
        return Ok(());
    }
    Err(Problem::malformed("Content-Type must be application/json"))
}

fn unreadable_body(problem: &str) -> Problem {
    Problem::malformed(format!("the body cannot be read: {}", truncated(problem, BODY_ERROR_CHARACTERS_MAX)))
}

fn parse_uuid(name: &str, value: &str) -> Result<Uuid, Problem> {
    // Other forms of a UUID (braces, no hyphens) would give one resource several paths.
    let parsed = Uuid::try_parse(value).ok().filter(|_| value.len() == 36);
    parsed.ok_or_else(|| {
        Problem::malformed(format!("{name} must be a UUID; this is {:?}", truncated(value, 60)))
    })
}

fn truncated(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A route needs a parameter that its path does not have: `routes` and the router disagree.
fn misrouted() -> Problem {
    Problem::new(Status::Internal, "internal error")
}
