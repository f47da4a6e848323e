//! What is recorded of a call: who did what to which resource, from where, and how it ended. Never data, signatures,
//! PINs or wrapped keys. Pure: knows no clock and no database.

mod api;
mod chain;
mod form;
mod restart;
mod tally;

// `core`, for this room knows no network: only how an address is written.
use core::net::IpAddr;

use serde_json::{Map, Value};
use uuid::Uuid;

pub use api::{AuditItems, Item, item, millis, timestamp};
pub use chain::{Broken, Chain, Fault, Head, Link, Row, Verified, Walk};
pub use form::{Body, Record, body};
pub use restart::{Heap, Restart};
pub use tally::{Count, Counted, Tally, Used};

/// One entry, before it has its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What happened: `kms.key.rotate`, say.
    pub event: &'static str,
    /// Of which kind.
    pub kind: Kind,
    /// The project; none for what concerns the home as a whole.
    pub project: Option<Uuid>,
    /// The resource: `projects/…/keyrings/…/keys/…`.
    pub resource: String,
    /// Who: the account's id, where it has one.
    pub initiator: Option<Uuid>,
    /// Who, for people: an email, `user@ring` over PKCS#11, `kms` for the service itself, the operator's user name.
    pub name: String,
    /// Through which door, and what was asked: `POST /v1/…`, `pkcs11 C_GenerateKey`, `kms key rotate`.
    pub endpoint: String,
    /// From where, over a network.
    pub source: Option<IpAddr>,
    /// With what, as it calls itself.
    pub agent: String,
    /// The call's own id.
    pub trace: Option<Uuid>,
    /// How it ended, as HTTP numbers it; 200 to 299 is success.
    pub status: u16,
    /// What of the request may be told: names, algorithms, numbers.
    pub details: Map<String, Value>,
}

/// What kind of event it is (Audit Log API, `eventType`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = auditLogEventType)]
pub enum Kind {
    /// Somebody changed or used something.
    AdminActivity,
    /// The service did it by itself: a purge, a rotation that was due.
    SystemEvent,
    /// It was not permitted.
    PolicyDenied,
}

/// What is recorded of uses of keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CryptoAudit {
    /// Nothing.
    Off,
    /// How often each caller used each key version, each minute.
    #[default]
    Summary,
    /// Each use, before it is answered.
    Each,
}
