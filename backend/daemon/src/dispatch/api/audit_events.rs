//! The audit entry of an operation.

use kms_core::api::{Operation, RequestContext, RingPath, Subject};
use kms_core::audit::{Entry, Kind};
use kms_store::Purged;
use serde_json::{Map, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The entry of an operation that is allowed (or was denied), as it stands when the operation begins.
pub(super) fn entry(
    context: &RequestContext,
    operation: &Operation,
    at: u64,
    kind: Kind,
    status: u16,
) -> Entry {
    about(context, (operation.event(), operation.subject()), at, kind, status)
}

/// The same of an operation that has been taken apart.
pub(super) fn about(
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

/// The entry of what the service does by itself.
pub(super) fn system(at: u64, event: &'static str, project: Option<Uuid>, resource: String) -> Entry {
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

/// The entry of something that was erased for good.
pub(super) fn purged(at: u64, project: Option<Uuid>, what: &Purged) -> Entry {
    let (event, ring, rest, number) = match what {
        Purged::Key { ring, key } => ("kms.key.purge", ring, format!("keys/{key}"), None),
        Purged::Version { ring, key, number } => {
            ("kms.key.version.purge", ring, format!("keys/{key}/versions/{number}"), Some(*number))
        }
        Purged::WrappingKey { ring, key } => {
            ("kms.wrapping-key.expire", ring, format!("wrappingkeys/{key}"), None)
        }
    };
    let ring = Uuid::from_bytes(ring.0);
    let front = match project {
        Some(project) => RingPath { project, ring }.resource(),
        None => format!("keyrings/{ring}"),
    };
    let mut entry = system(at, event, project, format!("{front}/{rest}"));
    if let Some(number) = number {
        entry.details.insert("versionNumber".to_owned(), json!(number));
    }
    entry
}

/// A digest of what was asked, to recognise a repetition.
pub(super) fn asked(ask: &impl std::fmt::Debug) -> [u8; 32] {
    Sha256::digest(format!("{ask:?}").as_bytes()).into()
}
