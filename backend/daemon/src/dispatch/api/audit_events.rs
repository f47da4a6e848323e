//! The audit entries of operations and background jobs.

use kms_core::api::{Operation, RequestContext, RingPath, Subject};
use kms_core::audit::{Entry, Kind};
use kms_store::Purged;
use serde_json::{Map, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Returns the entry of an operation that is permitted or denied, as of the start of the operation.
pub(super) fn operation_entry(
    context: &RequestContext,
    operation: &Operation,
    at: u64,
    kind: Kind,
    status: u16,
) -> Entry {
    entry_for(context, (operation.event(), operation.subject()), at, kind, status)
}

/// Returns the entry of an operation from its event and subject.
pub(super) fn entry_for(
    context: &RequestContext,
    (event, subject): (&'static str, Subject),
    at: u64,
    kind: Kind,
    status: u16,
) -> Entry {
    Entry {
        at,
        event,
        kind,
        project: Some(subject.project()),
        resource: subject.resource(),
        initiator: Some(context.account.id),
        name: context.account.email.clone(),
        endpoint: context.endpoint.clone(),
        source: Some(context.source),
        agent: context.agent.to_string(),
        trace: Some(context.trace),
        status,
        details: Map::new(),
    }
}

/// Returns the entry of a background job.
pub(super) fn system_entry(at: u64, event: &'static str, project: Option<Uuid>, resource: String) -> Entry {
    Entry {
        at,
        event,
        kind: Kind::SystemEvent,
        project,
        resource,
        initiator: None,
        name: "kms".to_owned(),
        endpoint: "kms serve".to_owned(),
        source: None,
        agent: String::new(),
        trace: None,
        status: 200,
        details: Map::new(),
    }
}

/// Returns the entry of an erasure.
pub(super) fn purge_entry(at: u64, project: Option<Uuid>, purged: &Purged) -> Entry {
    let (event, ring, path, number) = match purged {
        Purged::Key { ring, key } => ("kms.key.purge", ring, format!("keys/{key}"), None),
        Purged::Version { ring, key, number } => {
            ("kms.key.version.purge", ring, format!("keys/{key}/versions/{number}"), Some(*number))
        }
        Purged::WrappingKey { ring, key } => {
            ("kms.wrapping-key.expire", ring, format!("wrappingkeys/{key}"), None)
        }
    };
    let ring = Uuid::from_bytes(ring.0);
    let parent = match project {
        Some(project) => RingPath { project, ring }.resource(),
        None => format!("keyrings/{ring}"),
    };
    let mut entry = system_entry(at, event, project, format!("{parent}/{path}"));
    if let Some(number) = number {
        entry.details.insert("versionNumber".to_owned(), json!(number));
    }
    entry
}

/// Returns the digest of a request, with which a repetition is recognised.
pub(super) fn request_digest(request: &impl std::fmt::Debug) -> [u8; 32] {
    Sha256::digest(format!("{request:?}").as_bytes()).into()
}
