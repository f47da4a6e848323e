//! The audit entry of an operation.

use crate::audit::{Entry, Kind};
use crate::kms::{Operation, Visit};

/// The entry of an operation that is allowed (or was denied), as it stands when the operation begins.
pub(in crate::dispatch) fn entry(
    visit: &Visit,
    operation: &Operation,
    at: u64,
    kind: Kind,
    status: u16,
) -> Entry {
    let subject = operation.subject();
    Entry {
        at,
        event: operation.event(),
        kind,
        project: Some(subject.project()),
        resource: subject.resource(),
        initiator: Some(visit.account.id),
        name: visit.account.email.clone(),
        endpoint: visit.endpoint.clone(),
        source: Some(visit.source),
        agent: visit.agent.to_string(),
        trace: Some(visit.trace),
        status,
        details: serde_json::Map::new(),
    }
}
