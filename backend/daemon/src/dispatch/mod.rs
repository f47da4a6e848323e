//! The dispatcher: the one path to a key, for both APIs and the commands. It loads objects, asks `policy` for a
//! decision, performs the operation and records it. Everything here blocks; callers run it on a thread that may wait.
//!
//! - `pkcs11`: the requests of PKCS#11 providers (`Dispatch::answer`).
//! - `api`: the operations and reports of the KMS API (`Dispatch::serve`), and the background jobs on keys.
//! - `accounts`: authentication of service accounts by bearer token, key flow (`/token`) and PKCS#11 login.
//! - `open_key`: from a key's reference to the opened key; `object_ids`: the ids of a new version's objects.
//! - `rotation`: a key's next version; `iv_budget`: the limit of IVs generated for one key;
//!   `master_wraps`: wrapping under the master key, which has the same limit.
//! - `seals`: seals session objects, and opens those that have not ended.
//! - `audit_names`: rings, callers and objects as the audit log names them; `audit_writer`: uses of keys and denials,
//!   counted or written one by one; `audit_maintenance`: its background jobs. `pkcs11` and `api` have `audit_events`.
//! - `hsm_counter`: the number in the HSM's token by which an old copy of the database is found.
//! - `shares`: what tenants have in common: turns for expensive work, rates, and counts of what was refused.
//! - `clock`: the time, which tests can advance.

mod accounts;
mod api;
mod audit_maintenance;
mod audit_names;
mod audit_writer;
mod clock;
mod hsm_counter;
mod iv_budget;
mod master_wraps;
mod object_ids;
mod open_key;
mod pkcs11;
mod rotation;
mod seals;
mod shares;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use kms_core::object::{Caller, MasterVersion, Object};
use kms_core::policy::{self, Claims, TicketKey};
use kms_core::seal::Seals;
use kms_hsm::Hsm;
use kms_protocol::{ObjectRef, Ticket};
use kms_store::{Ring, Store};

use crate::error::Error;
use crate::keys::Keys;
use crate::pins::Pins;

pub(crate) use accounts::Authenticator;
pub use accounts::key_flow::{TokenPair, TokenRequest, TokenRequestContext};
pub(crate) use api::reports::{Report, ReportOutput};
pub use api::{ExportError, PendingExport};
pub(crate) use audit_writer::AuditWriter;
pub(crate) use clock::Clock;
pub(crate) use hsm_counter::HsmCounter;
pub(crate) use iv_budget::{IvBudget, RESTORE_BLOCKS};
pub(crate) use kms_store::AuditCursor;
pub use master_wraps::MasterUse;
pub(crate) use pkcs11::login::{OFFICER, USER};
pub(crate) use pkcs11::slot_of;
pub(crate) use shares::Shares;

/// The lifetime of a ticket. Each use checks the ticket against the principal's current PIN, and half-way through it is
/// renewed; so its length only limits how long an application may be idle. A database, for example, uses its master key
/// at start only.
pub const TICKET_SECONDS: u64 = 30 * 24 * 3600;

/// The opened parts of the backend that both APIs and the commands use.
pub struct Dispatch {
    pub(crate) store: Store,
    pub(crate) hsm: Hsm,
    pub(crate) keys: Keys,
    pub(crate) seals: Seals,
    pub(crate) pins: Pins,
    pub(crate) tickets: TicketKey,
    pub(crate) authenticator: Authenticator,
    pub(crate) master: MasterVersion,
    pub(crate) random: SystemRandom,
    pub(crate) clock: Clock,
    pub(crate) iv_budget: IvBudget,
    /// When the database was last restored from a copy, in seconds since 1970.
    pub(crate) restored: Option<u64>,
    pub(crate) lifecycle: crate::config::LifecycleConfig,
    pub(crate) audit_writer: AuditWriter,
    /// The number in the HSM's token, unless the configuration switches it off.
    pub(crate) hsm_counter: Option<HsmCounter>,
    /// Whether a free slot is offered, which `C_InitToken` turns into a ring.
    pub(crate) offers_free_slot: bool,
    /// What tenants have in common, in fair shares.
    pub(crate) shares: Shares,
}

/// The state of one provider connection between two requests: the last ticket and the claims it proved.
#[derive(Default)]
pub struct Memory {
    checked: Option<(Ticket, Claims)>,
}

impl Dispatch {
    /// Raises the number in the HSM's token if the rows have changed; in the daemon at most once a minute.
    pub(crate) fn follow_counter(&self, now: Option<u64>) {
        if let Some(hsm_counter) = &self.hsm_counter {
            hsm_counter.follow(&self.store, now);
        }
    }

    /// Loads the object of a request. An object that the caller may not see is reported as missing.
    fn load(&self, ring: &Ring, caller: &Caller, object: &ObjectRef) -> Result<Arc<Object>, Error> {
        let object = match object {
            ObjectRef::Token(id) => self.store.object(ring.id, *id)?,
            ObjectRef::Session(seal) => Arc::new(self.open_seal(ring, caller, seal)?.object),
        };
        if policy::visible(caller, &object.attributes) { Ok(object) } else { Err(Error::NoSuchObject) }
    }
}
