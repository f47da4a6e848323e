//! One generation of the module, from `C_Initialize` to `C_Finalize`: sessions, slots, the way to the backend.
//! A forked child never touches its parent's (`ffi::generation`).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kms_protocol::{
    Request, RequestEnvelope, RequestId, Response, ResponseEnvelope, RingPolicy, Rv, Slot, SlotId,
};

use crate::client::{Client, Lost};
use crate::config::{Config, LogLevel};
use crate::session::{CallContext, Sessions};

/// How old what is known of the slots may be. Hosts ask for slot and token infos in bursts, and a ring made a second
/// ago is new enough.
const SLOTS_FRESH_FOR: Duration = Duration::from_secs(1);

/// The slot shown while no backend has ever been reached.
const PLACEHOLDER: SlotId = SlotId(0);

/// Everything between `C_Initialize` and `C_Finalize`.
pub(crate) struct Module {
    sessions: Mutex<Sessions>,
    slots: Mutex<Slots>,
    client: Option<Client>,
    log: Option<Log>,
    /// Set by `C_Finalize`: calls that still wait go home.
    closed: AtomicBool,
}

/// What is known of the slots.
#[derive(Clone, Default)]
struct Slots {
    known: Arc<Vec<Slot>>,
    present: bool,
    looked: Option<Instant>,
    /// What the application has been told of: a difference is an event. None until the slots were first seen.
    told: Option<BTreeMap<SlotId, bool>>,
}

/// What is always asked of a slot's token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SlotRequirements {
    /// What its ring allows.
    pub(crate) policy: RingPolicy,
    /// Whether there is a ring.
    pub(crate) initialized: bool,
}

/// How fresh what is said of slots has to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Freshness {
    /// Not older than a second.
    Recent,
    /// As it was said before, if anything was: so that a list has the length it was said to have.
    AsSaid,
}

/// A slot, with or without its token.
#[derive(Clone, Debug)]
pub(crate) struct SlotView {
    /// Its number.
    pub(crate) id: SlotId,
    /// Its ring; none for the slot shown while no backend has been reached.
    pub(crate) ring: Option<Slot>,
    /// Whether the backend answers.
    pub(crate) present: bool,
}

impl Module {
    /// Connects to nothing yet: an application must start while its backend is away.
    ///
    /// # Errors
    /// When the log cannot be written to.
    pub(crate) fn open(config: Option<Config>) -> std::io::Result<Self> {
        let log = match &config {
            Some(Config { log: Some(file), log_level, .. }) => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
                Some(Log { file, level: *log_level })
            }
            Some(_) | None => None,
        };
        let client = config.map(|config| Client::new(config.socket, config.timeout, config.connections_max));
        let (sessions, slots, closed) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Ok(Self { sessions, slots, client, log, closed })
    }

    /// Looks at, or changes, what is open: short, and never while waiting for anything.
    pub(crate) fn sessions<T>(&self, look: impl FnOnce(&mut Sessions) -> T) -> T {
        look(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the backend in a session's name.
    ///
    /// # Errors
    /// What the backend says, `CKR_DEVICE_REMOVED` when it has gone, `CKR_DEVICE_ERROR` when it does not do its part.
    pub(crate) fn ask(&self, context: &CallContext, request: Request) -> Result<Response, Rv> {
        let id = if makes_something(&request) { random_id()? } else { RequestId::default() };
        let oversize = too_large(&request);
        let ask = RequestEnvelope { id, slot: context.slot, ticket: context.ticket.clone(), request };
        let ResponseEnvelope { ticket: fresh, result } = self.send(&ask).map_err(|lost| match lost {
            Lost::Absent | Lost::Broken => Rv::DEVICE_REMOVED,
            Lost::TimedOut | Lost::Unfit => Rv::DEVICE_ERROR,
            Lost::TooLarge => oversize,
        })?;
        if let (Some(old), Some(fresh)) = (&ask.ticket, fresh) {
            self.sessions(|sessions| sessions.renew(context.slot, old, fresh));
        }
        if let (Some(old), Err(Rv::USER_NOT_LOGGED_IN)) = (&ask.ticket, &result) {
            self.sessions(|sessions| sessions.doubt(context.slot, old));
        }
        result
    }

    fn send(&self, ask: &RequestEnvelope) -> Result<ResponseEnvelope, Lost> {
        let answer = self.client.as_ref().ok_or(Lost::Absent)?.ask(ask);
        if answer.is_err() {
            self.known_slots().looked = None;
        }
        answer
    }

    /// All slots, in ascending order. Those known stay when the backend goes away, without their tokens.
    pub(crate) fn slots(&self, freshness: Freshness) -> Vec<SlotView> {
        let slots = self.look(freshness);
        if slots.known.is_empty() && !slots.present && self.client.is_some() {
            return vec![SlotView { id: PLACEHOLDER, ring: None, present: false }];
        }
        let view = |slot: &Slot| SlotView { id: slot.id, ring: Some(slot.clone()), present: slots.present };
        slots.known.iter().map(view).collect()
    }

    /// One slot.
    ///
    /// # Errors
    /// `CKR_SLOT_ID_INVALID` when it is none.
    pub(crate) fn slot(&self, id: SlotId) -> Result<SlotView, Rv> {
        let slots = self.look(Freshness::Recent);
        match slots.known.iter().find(|slot| slot.id == id) {
            Some(slot) => Ok(SlotView { id, ring: Some(slot.clone()), present: slots.present }),
            None if slots.known.is_empty()
                && !slots.present
                && self.client.is_some()
                && id == PLACEHOLDER =>
            {
                Ok(SlotView { id, ring: None, present: false })
            }
            None => Err(Rv::SLOT_ID_INVALID),
        }
    }

    /// The token in a slot.
    ///
    /// # Errors
    /// `CKR_SLOT_ID_INVALID`, or `CKR_TOKEN_NOT_PRESENT` when the backend does not answer.
    pub(crate) fn token(&self, id: SlotId) -> Result<Slot, Rv> {
        let slot = self.slot(id)?;
        slot.ring.filter(|_| slot.present).ok_or(Rv::TOKEN_NOT_PRESENT)
    }

    /// What the token in a slot is, without a round trip when the slot is known and its backend was there when last
    /// looked at: sessions are opened for each operation by some.
    pub(crate) fn terms(&self, id: SlotId) -> Result<SlotRequirements, Rv> {
        let terms = |slot: &Slot| SlotRequirements { policy: slot.policy, initialized: slot.initialized };
        let known = {
            let slots = self.known_slots();
            slots.known.iter().find(|slot| slot.id == id && slots.present).map(terms)
        };
        match known {
            Some(known) if known.initialized => Ok(known),
            Some(_) | None => self.token(id).map(|slot| terms(&slot)),
        }
    }

    /// A slot of which the application was told otherwise, or not at all; it is told now.
    pub(crate) fn event(&self) -> Option<SlotId> {
        let now = present(&self.look(Freshness::Recent));
        let mut slots = self.known_slots();
        let told = slots.told.get_or_insert_with(|| now.clone());
        let changed = now.iter().find(|(id, present)| told.get(*id) != Some(*present));
        let changed =
            changed.map(|(id, _)| *id).or_else(|| told.keys().find(|id| !now.contains_key(*id)).copied());
        if let Some(id) = changed {
            match now.get(&id) {
                Some(present) => told.insert(id, *present),
                None => told.remove(&id),
            };
        }
        changed
    }

    /// `C_Finalize`: whoever waits for an event waits no longer.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether `C_Finalize` was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Something about the slots has changed.
    pub(crate) fn slots_changed(&self) {
        self.known_slots().looked = None;
    }

    fn look(&self, freshness: Freshness) -> Slots {
        let slots = self.known_slots().clone();
        let good = match freshness {
            Freshness::Recent => slots.looked.is_some_and(|looked| looked.elapsed() < SLOTS_FRESH_FOR),
            Freshness::AsSaid => slots.looked.is_some(),
        };
        if good {
            return slots;
        }
        let ask = RequestEnvelope {
            id: RequestId::default(),
            slot: PLACEHOLDER,
            ticket: None,
            request: Request::Slots,
        };
        let answer = self.client.as_ref().ok_or(Lost::Absent).and_then(|client| client.ask(&ask));
        let mut slots = self.known_slots();
        match answer {
            Ok(ResponseEnvelope { result: Ok(Response::Slots(known)), .. }) => {
                slots.known = Arc::new(known);
                slots.present = true;
            }
            Ok(_) | Err(_) => slots.present = false,
        }
        slots.looked = Some(Instant::now());
        let now = present(&slots);
        slots.told.get_or_insert(now);
        slots.clone()
    }

    fn known_slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a call ended: its name and the code, never an argument.
    pub(crate) fn returned(&self, name: &str, result: Result<(), Rv>) {
        if let Some(log) = &self.log {
            log.returned(name, result);
        }
    }
}

/// The slots there are, and whether their tokens are there.
fn present(slots: &Slots) -> BTreeMap<SlotId, bool> {
    slots.known.iter().map(|slot| (slot.id, slots.present)).collect()
}

/// Whether repeating a request would make a second thing: then its id is what tells the backend.
fn makes_something(request: &Request) -> bool {
    match request {
        Request::Generate { .. } | Request::GeneratePair { .. } => true,
        Request::Create { .. } | Request::Copy { .. } | Request::Unwrap { .. } | Request::Derive { .. } => {
            true
        }
        Request::Encapsulate { .. } | Request::Decapsulate { .. } => true,
        // To be a new ring once or twice is the same; the second time its officer is asked for the same PIN.
        Request::InitToken { .. } | Request::Wrap { .. } | Request::EncryptMessage { .. } => false,
        Request::Slots | Request::Login { .. } | Request::InitPin { .. } | Request::SetPin { .. } => false,
        Request::Find { .. } | Request::Attributes { .. } | Request::Reveal { .. } => false,
        Request::SetAttributes { .. }
        | Request::Destroy { .. }
        | Request::Encrypt { .. }
        | Request::Decrypt { .. } => false,
        Request::Sign { .. } | Request::Verify { .. } => false,
    }
}

/// What a request that does not fit in a frame has too much of.
fn too_large(request: &Request) -> Rv {
    match request {
        Request::Encrypt { .. } | Request::Sign { .. } | Request::Verify { .. } => Rv::DATA_LEN_RANGE,
        Request::EncryptMessage { .. } => Rv::DATA_LEN_RANGE,
        Request::Decrypt { .. } | Request::Decapsulate { .. } => Rv::ENCRYPTED_DATA_LEN_RANGE,
        Request::Unwrap { .. } => Rv::WRAPPED_KEY_LEN_RANGE,
        Request::Create { .. } | Request::Copy { .. } | Request::Encapsulate { .. } => {
            Rv::ATTRIBUTE_VALUE_INVALID
        }
        Request::Derive { .. } | Request::Wrap { .. } => Rv::MECHANISM_PARAM_INVALID,
        Request::InitToken { .. } => Rv::PIN_LEN_RANGE,
        Request::Find { .. } | Request::SetAttributes { .. } => Rv::ATTRIBUTE_VALUE_INVALID,
        Request::Generate { .. } | Request::GeneratePair { .. } => Rv::ATTRIBUTE_VALUE_INVALID,
        Request::Login { .. } | Request::InitPin { .. } | Request::SetPin { .. } => Rv::PIN_LEN_RANGE,
        Request::Slots | Request::Attributes { .. } | Request::Reveal { .. } => Rv::GENERAL_ERROR,
        Request::Destroy { .. } => Rv::GENERAL_ERROR,
    }
}

fn random_id() -> Result<RequestId, Rv> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| Rv::RANDOM_NO_RNG)?;
    Ok(RequestId(id))
}

/// A file with a line for each call that is worth one.
struct Log {
    file: std::fs::File,
    level: LogLevel,
}

impl Log {
    fn returned(&self, name: &str, result: Result<(), Rv>) {
        let level = match result {
            Ok(()) => LogLevel::Debug,
            Err(Rv::GENERAL_ERROR | Rv::DEVICE_ERROR | Rv::DEVICE_REMOVED | Rv::TOKEN_NOT_PRESENT) => {
                LogLevel::Error
            }
            Err(Rv::BUFFER_TOO_SMALL) => LogLevel::Debug,
            Err(_) => LogLevel::Info,
        };
        if level <= self.level {
            let code = result.map_or_else(|rv| rv.to_string(), |()| "CKR_OK".to_owned());
            let line = format!("{} {name} {code}\n", std::process::id());
            // A full disk must not fail the host's call, and there is nobody to tell.
            drop((&self.file).write_all(line.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &tempfile::TempDir) -> Config {
        Config {
            socket: folder.path().join("sock"),
            timeout: Duration::from_secs(1),
            connections_max: 4,
            log: Some(folder.path().join("log")),
            log_level: LogLevel::Info,
        }
    }

    #[test]
    fn without_a_configuration_there_are_no_slots() {
        let module = Module::open(None).unwrap();
        assert!(module.slots(Freshness::Recent).is_empty());
        assert_eq!(module.token(PLACEHOLDER).err(), Some(Rv::SLOT_ID_INVALID));
    }

    #[test]
    fn without_a_backend_there_is_a_slot_without_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let module = Module::open(Some(config(&folder))).unwrap();
        let slots = module.slots(Freshness::Recent);
        assert!(matches!(slots.as_slice(), [SlotView { id: PLACEHOLDER, present: false, .. }]));
        assert_eq!(module.token(PLACEHOLDER).err(), Some(Rv::TOKEN_NOT_PRESENT));
        assert_eq!(module.terms(PLACEHOLDER).err(), Some(Rv::TOKEN_NOT_PRESENT));
        assert_eq!(module.event(), None);
        assert_eq!(module.token(SlotId(5)).err(), Some(Rv::SLOT_ID_INVALID));
    }

    #[test]
    fn the_log_says_names_and_codes() {
        let folder = tempfile::tempdir().unwrap();
        let module = Module::open(Some(config(&folder))).unwrap();
        module.returned("C_Sign", Err(Rv::KEY_HANDLE_INVALID));
        module.returned("C_Digest", Ok(()));
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(log, format!("{} C_Sign CKR_KEY_HANDLE_INVALID\n", std::process::id()));
    }
}
