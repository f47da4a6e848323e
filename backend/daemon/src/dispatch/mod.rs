//! Where the rooms meet: load → decide → act → record, for every door alike.
//!
//! Everything here blocks: a door calls it on a thread that may wait. No door has a path of its own to a key.

mod accounts;
mod algorithm_name;
mod api;
mod audit_events;
mod audit_maintenance;
mod audit_writer;
mod clock;
mod iv_budget;
mod new_keys;
mod open_key;
mod pkcs11;
mod rotation;

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
pub use api::{ExportError, Exporting};
pub(crate) use audit_writer::Recorder;
pub(crate) use clock::Clock;
pub(crate) use iv_budget::IvBudget;
pub(crate) use kms_store::AuditPlace;
pub(crate) use pkcs11::login::{OFFICER, USER};
pub(crate) use pkcs11::slot_of;

/// How long a ticket lives. It is checked against the principal's present PIN at each use, and renewed after half its
/// life, so its length only limits how long an application may be idle: a database uses its master key at start alone.
pub const TICKET_SECONDS: u64 = 30 * 24 * 3600;

/// The rooms behind every door, opened.
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
    pub(crate) lifecycle: crate::config::LifecycleConfig,
    pub(crate) recorder: Recorder,
    /// Whether there is a slot that `C_InitToken` makes a ring of.
    pub(crate) offers_free_slot: bool,
}

/// What one connection remembers between two requests: the ticket it saw last and what that proved.
#[derive(Default)]
pub struct Memory {
    checked: Option<(Ticket, Claims)>,
}

impl Dispatch {
    /// Loads what a request is about. An object the caller may not see is not there.
    fn load(&self, ring: &Ring, caller: &Caller, object: &ObjectRef) -> Result<Arc<Object>, Error> {
        let object = match object {
            ObjectRef::Token(id) => self.store.object(ring.id, *id)?,
            ObjectRef::Session(seal) => Arc::new(self.seals.open(ring.id, owner(caller), seal)?),
        };
        if policy::visible(caller, &object.attributes) { Ok(object) } else { Err(Error::NoSuchObject) }
    }
}

/// Whose a private session object is.
fn owner(caller: &Caller) -> Option<&str> {
    caller.login.as_ref().map(|login| login.name.as_str())
}
