//! The stored form of an entry: JSON, over whose bytes the chain's MAC is computed.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::{Builder, Uuid, Variant, Version};

use super::{Entry, Kind, Link};

/// The maximum length of a text in an entry, in bytes. Names and paths are shorter; a `User-Agent` need not be.
const TEXT_BYTES_MAX: usize = 512;

/// The maximum length of the details, in bytes of JSON: some names and numbers.
const DETAILS_BYTES_MAX: usize = 4096;

/// The parts of an entry that are stored as JSON: all except its time and project. See [`Entry`] for the fields.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[expect(missing_docs, reason = "each is the field of that name of `Entry`")]
pub struct Body {
    pub event: String,
    pub kind: Kind,
    pub resource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<Uuid>,
    pub name: String,
    pub endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Uuid>,
    pub status: u16,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

/// A stored entry with its position in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number: 1 for the first, without gaps.
    pub sequence: u64,
    /// Its id, which follows from its MAC.
    pub id: Uuid,
    /// The time, in milliseconds since 1970.
    pub at: u64,
    /// The project, if it concerns one.
    pub project: Option<Uuid>,
    /// The rest.
    pub body: Body,
}

/// The JSON of an entry.
pub fn body(entry: &Entry) -> String {
    let body = Body {
        event: entry.event.to_owned(),
        kind: entry.kind,
        resource: truncated(&entry.resource),
        initiator: entry.initiator,
        name: truncated(&entry.name),
        endpoint: truncated(&entry.endpoint),
        source: entry.source,
        agent: truncated(&entry.agent),
        trace: entry.trace,
        status: entry.status,
        details: bounded_details(&entry.details),
    };
    serde_json::to_string(&body).expect("text and numbers can be written as JSON")
}

impl Record {
    /// Parses a stored entry; none if it does not have the form of one.
    pub fn read(link: &Link, at: u64, project: Option<Uuid>, body: &str) -> Option<Self> {
        let body = serde_json::from_str(body).ok()?;
        Some(Self { sequence: link.sequence, id: id(link), at, project, body })
    }
}

/// The entry's id: a UUID from its MAC, which identifies the entry already, so no id is stored (RFC 9562, version 8).
fn id(link: &Link) -> Uuid {
    let first = link.mac.first_chunk::<16>().expect("a MAC has 32 bytes");
    Builder::from_bytes(*first).with_variant(Variant::RFC4122).with_version(Version::Custom).into_uuid()
}

fn truncated(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn bounded_details(details: &Map<String, Value>) -> Map<String, Value> {
    let bytes = serde_json::to_string(details).map_or(usize::MAX, |json| json.len());
    if bytes <= DETAILS_BYTES_MAX {
        return details.clone();
    }
    Map::from_iter([("omitted".to_owned(), Value::from(format!("{bytes} bytes of details")))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: 1_700_000_000_123,
            event: "kms.key.rotate",
            kind: Kind::AdminActivity,
            project: Some(Uuid::from_u128(1)),
            resource: "projects/p/keyrings/r/keys/k".to_owned(),
            initiator: Some(Uuid::from_u128(2)),
            name: "admin@kms.local".to_owned(),
            endpoint: "POST /v1/…/rotate".to_owned(),
            source: Some([127, 0, 0, 1].into()),
            agent: "curl".to_owned(),
            trace: Some(Uuid::from_u128(3)),
            status: 202,
            details: Map::from_iter([("version".to_owned(), Value::from(2))]),
        }
    }

    fn read(entry: &Entry) -> Record {
        let link = Link { sequence: 7, mac: [9; 32] };
        Record::read(&link, entry.at, entry.project, &body(entry)).unwrap()
    }

    #[test]
    fn a_stored_entry_can_be_parsed() {
        let (entry, record) = (entry(), read(&entry()));
        assert_eq!((record.sequence, record.at, record.project), (7, entry.at, entry.project));
        assert_eq!(record.id.to_string(), "09090909-0909-8909-8909-090909090909");
        let body = record.body;
        assert_eq!(body.event, entry.event);
        assert_eq!((body.kind, body.status), (entry.kind, entry.status));
        assert_eq!((body.resource, body.name), (entry.resource, entry.name));
        assert_eq!((body.endpoint, body.agent), (entry.endpoint, entry.agent));
        assert_eq!((body.initiator, body.source, body.trace), (entry.initiator, entry.source, entry.trace));
        assert_eq!(body.details, entry.details);
    }

    #[test]
    fn absent_fields_are_left_out() {
        let nothing = Entry {
            initiator: None,
            source: None,
            agent: String::new(),
            trace: None,
            details: Map::new(),
            ..entry()
        };
        let json = body(&nothing);
        for absent in ["initiator", "source", "agent", "trace", "details"] {
            assert!(!json.contains(&format!("\"{absent}\":")), "{absent} in {json}");
        }
        assert_eq!(read(&nothing).body.source, None);
    }

    #[test]
    fn long_fields_are_truncated() {
        let details = Map::from_iter([("tags".to_owned(), Value::from("x".repeat(100_000)))]);
        let long = Entry { agent: "ä".repeat(100_000), details, ..entry() };
        let json = body(&long);
        assert!(json.len() < 4 * TEXT_BYTES_MAX, "{} bytes", json.len());
        assert_eq!(read(&long).body.details["omitted"], "100011 bytes of details");
    }
}
