//! What a call brings, taken apart: the ids in its path, its query, its headers, its body.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, Uri, header};
use kms_core::api::{KeyPath, Page, Problem, RingPath, Status, VersionPath, WrappingKeyPath};
use serde::Deserialize;
use uuid::Uuid;

/// The one region there is.
pub(super) const REGION: &str = "eu01";

/// The header by which a client says that it asks the same thing again.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The most entries of one page.
const PAGE_ENTRIES_MAX: u32 = 1000;

/// The longest cursor: several times the longest of ours.
const CURSOR_BYTES_MAX: usize = 256;

/// The longest sentence about a body that cannot be read: it may quote what came.
const COMPLAINT_CHARACTERS_MAX: usize = 400;

/// Where a call goes: the ids of its path.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) project: Uuid,
    ring: Option<Uuid>,
    key: Option<Uuid>,
    wrapping_key: Option<Uuid>,
    version: Option<i64>,
}

/// A call, before anybody has looked whether it may be.
pub(super) struct Asked<'a> {
    pub(super) place: Place,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

impl Place {
    /// Reads the parameters of a path.
    ///
    /// # Errors
    /// 400 for an id that is none, 404 for a region that is not ours.
    pub(super) fn of<'p>(parameters: impl IntoIterator<Item = (&'p str, &'p str)>) -> Result<Self, Problem> {
        let mut place = Self::default();
        for (name, value) in parameters {
            match name {
                "projectId" => place.project = id(name, value)?,
                "regionId" if value == REGION => {}
                "regionId" => {
                    let sentence =
                        format!("there is no region {:?} here; use {REGION:?}", shortened(value, 40));
                    return Err(Problem::new(Status::NotFound, sentence));
                }
                "keyRingId" => place.ring = Some(id(name, value)?),
                "keyId" => place.key = Some(id(name, value)?),
                "wrappingKeyId" => place.wrapping_key = Some(id(name, value)?),
                "versionNumber" => {
                    let number = value.parse().map_err(|_| {
                        let value = shortened(value, 40);
                        Problem::malformed(format!("versionNumber must be a whole number; this is {value:?}"))
                    })?;
                    place.version = Some(number);
                }
                _ => return Err(misrouted()),
            }
        }
        Ok(place)
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

impl<'a> Asked<'a> {
    /// Which part of a list is wanted.
    pub(super) fn page(&self) -> Result<Page, Problem> {
        let mut page = Page::default();
        for pair in self.uri.query().unwrap_or_default().split('&') {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("limit", value) => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE_ENTRIES_MAX).contains(limit));
                    page.limit = Some(limit.ok_or_else(|| {
                        let value = shortened(value, 40);
                        Problem::malformed(format!(
                            "limit must be 1 to {PAGE_ENTRIES_MAX}; this is {value:?}"
                        ))
                    })?);
                }
                // Cursors of ours are made of characters that no client changes on their way.
                ("cursor", value) if value.len() <= CURSOR_BYTES_MAX => page.cursor = Some(value.to_owned()),
                ("cursor", _) => return Err(Problem::malformed("cursor is none that this service gave out")),
                (_, _) => {}
            }
        }
        Ok(page)
    }

    /// The client's own mark of this call.
    pub(super) fn repeat(&self) -> Result<Option<Uuid>, Problem> {
        let Some(value) = self.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let text = value.to_str().ok().map(|text| text.trim().trim_matches('"'));
        let mark = text.and_then(|text| Uuid::try_parse(text).ok());
        mark.map(Some).ok_or_else(|| Problem::malformed("Idempotency-Key must be a UUID"))
    }

    /// The body as what the operation takes.
    ///
    /// # Errors
    /// 400, with the field and what is wrong with it.
    pub(super) fn payload<P: Deserialize<'a>>(&self) -> Result<P, Problem> {
        check_type(self.headers)?;
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::malformed("the body is empty; JSON is wanted"));
        }
        let mut reader = serde_json::Deserializer::from_slice(self.body);
        let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let (path, problem) = (error.path().to_string(), error.inner().to_string());
            // The path of what is wrong with the body as a whole is ".".
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            complaint(&format!("{place}{problem}"))
        });
        read.and_then(|payload| reader.end().map(|()| payload).map_err(|error| complaint(&error.to_string())))
    }
}

/// A content type that says it is something else than JSON. Clients that say nothing mean JSON.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::malformed("Content-Type must be application/json"))
}

fn complaint(problem: &str) -> Problem {
    Problem::malformed(format!("the body cannot be read: {}", shortened(problem, COMPLAINT_CHARACTERS_MAX)))
}

fn id(name: &str, value: &str) -> Result<Uuid, Problem> {
    // Other forms of a UUID (braces, no hyphens) would give one resource several paths.
    let parsed = Uuid::try_parse(value).ok().filter(|_| value.len() == 36);
    parsed.ok_or_else(|| {
        Problem::malformed(format!("{name} must be a UUID; this is {:?}", shortened(value, 60)))
    })
}

fn shortened(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A route that wants what its path does not have: `routes` and the router differ.
fn misrouted() -> Problem {
    Problem::new(Status::Internal, "internal error")
}
