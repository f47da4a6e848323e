//! The audit log's entries: who did what to which resource, from where, and with which result. They never contain data,
//! signatures, PINs or wrapped keys. Pure: no clock and no database.

mod api;
mod chain;
mod record;
mod restart;
mod usage_counters;

// From `core`: this module has no network I/O, only addresses as values.
use core::net::IpAddr;

use serde_json::{Map, Value};
use uuid::Uuid;

pub use api::{AuditItems, Item, item, millis, timestamp};
pub use chain::{Chain, ChainFault, ChainVerifier, FaultKind, Head, Link, Row, Verified};
pub use record::{Body, Record, body};
pub use restart::{Restart, RowsDigest};
pub use usage_counters::{Count, Counted, Tally, Used};

/// An audit entry before it is appended to the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The time, in milliseconds since 1970.
    pub at: u64,
    /// The event's name, `kms.key.rotate` for example.
    pub event: &'static str,
    /// The kind of event.
    pub kind: Kind,
    /// The project; none for events that concern the home as a whole.
    pub project: Option<Uuid>,
    /// The resource: `projects/…/keyrings/…/keys/…`.
    pub resource: String,
    /// The initiator: the account's id, if there is an account.
    pub initiator: Option<Uuid>,
    /// The initiator's name for readers: an email address, `user@ring` over PKCS#11, `kms` for the service itself, or
    /// the operator's user name.
    pub name: String,
    /// The API and the call: `POST /v1/…`, `pkcs11 C_GenerateKey`, `kms key rotate`.
    pub endpoint: String,
    /// The client's address, if the call came over a network.
    pub source: Option<IpAddr>,
    /// The client's name for itself (`User-Agent`).
    pub agent: String,
    /// The call's trace id.
    pub trace: Option<Uuid>,
    /// The result as an HTTP status; 200 to 299 is success.
    pub status: u16,
    /// The parts of the request that may be recorded: names, algorithms, numbers.
    pub details: Map<String, Value>,
}

/// The kind of an event (Audit Log API, `eventType`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = auditLogEventType)]
pub enum Kind {
    /// A caller changed or used something.
    AdminActivity,
    /// The service did something automatically: a purge, a rotation that was due.
    SystemEvent,
    /// A call was not permitted.
    PolicyDenied,
}

/// How uses of keys are recorded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CryptoAudit {
    /// Not at all.
    Off,
    /// As the number of times that each caller used each key version, once a minute.
    #[default]
    Summary,
    /// Each use, before the response is sent.
    Each,
}
