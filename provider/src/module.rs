//! The module between `C_Initialize` and `C_Finalize`: sessions, slots, the client of the backend, the log. A forked
//! child never uses its parent's (`ffi::instance`).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kms_protocol::{
    Request, RequestEnvelope, RequestId, Response, ResponseEnvelope, RingPolicy, Rv, Slot, SlotId,
};

use crate::client::{CallError, Client, ServerUser};
use crate::config::{Config, LogLevel};
use crate::session::{CallContext, Sessions};

/// The maximum age of the cached list of slots. Hosts request slot and token information in bursts, and a new ring may
/// appear a second late.
const SLOTS_FRESH_FOR: Duration = Duration::from_secs(1);

/// The slot that is listed until the backend is reached for the first time.
const PLACEHOLDER: SlotId = SlotId(0);

/// The state between `C_Initialize` and `C_Finalize`.
pub(crate) struct Module {
    sessions: Mutex<Sessions>,
    slots: Mutex<SlotCache>,
    client: Option<Client>,
    log: Option<Log>,
    /// Set by `C_Finalize`: calls that wait for a slot event return.
    closed: AtomicBool,
}

/// The slots as the backend last listed them.
#[derive(Clone, Default)]
struct SlotCache {
    list: Arc<Vec<Slot>>,
    /// Whether the backend responded to the last request for the list.
    present: bool,
    refreshed: Option<Instant>,
    /// The slots, and whether their tokens are present, as reported to the application: a difference is a slot event.
    /// None until the first list.
    reported: Option<BTreeMap<SlotId, bool>>,
}

/// The state of a slot's token that every new session depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TokenState {
    /// The policy of its ring.
    pub(crate) policy: RingPolicy,
    /// Whether the slot has a ring.
    pub(crate) initialized: bool,
}

/// How fresh a list of slots has to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Freshness {
    /// Not older than a second.
    Recent,
    /// The cached list, if there is one: so that a list has the length that the length query returned.
    Cached,
}

/// A slot, with or without its token.
#[derive(Clone, Debug)]
pub(crate) struct SlotView {
    /// Its id.
    pub(crate) id: SlotId,
    /// Its ring; none for the slot that is listed until the backend is reached.
    pub(crate) ring: Option<Slot>,
    /// Whether the backend responds.
    pub(crate) present: bool,
}

impl Module {
    /// Opens the module without connecting: an application must be able to start while the backend is unavailable.
    ///
    /// # Errors
    /// When the log file cannot be opened.
    pub(crate) fn open(config: Option<Config>) -> std::io::Result<Self> {
        let log = match &config {
            Some(Config { log: Some(file), log_level, .. }) => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
                Some(Log { file, level: *log_level })
            }
            Some(_) | None => None,
        };
        let client = config.map(|config| {
            let server = ServerUser { uid: config.server_uid, configured_by: config.owner };
            Client::new(config.socket, server, config.timeout, config.connections_max)
        });
        let (sessions, slots, closed) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Ok(Self { sessions, slots, client, log, closed })
    }

    /// Reads or changes the sessions under their lock. `access` must not block.
    pub(crate) fn sessions<T>(&self, access: impl FnOnce(&mut Sessions) -> T) -> T {
        access(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a request of a session to the backend and returns the response.
    ///
    /// # Errors
    /// The backend's return value, `CKR_DEVICE_REMOVED` when the backend is unreachable, `CKR_DEVICE_ERROR` when it
    /// does not respond in time or is unusable.
    pub(crate) fn call(&self, context: &CallContext, request: Request) -> Result<Response, Rv> {
        let id = if creates_object(&request) { random_id()? } else { RequestId::default() };
        let too_large = too_large_rv(&request);
        // These get the same return value when their proof has expired, and the login is valid nevertheless.
        let proven = matches!(request, Request::SignProven { .. } | Request::DecryptProven { .. });
        let envelope = RequestEnvelope { id, slot: context.slot, ticket: context.ticket.clone(), request };
        let ResponseEnvelope { ticket: new, result } = self.send(&envelope).map_err(|error| match error {
            CallError::Unreachable | CallError::Disconnected => Rv::DEVICE_REMOVED,
            CallError::TimedOut | CallError::Unusable | CallError::ForeignServer(_) => Rv::DEVICE_ERROR,
            CallError::RequestTooLarge => too_large,
        })?;
        if let (Some(old), Some(new)) = (&envelope.ticket, new) {
            self.sessions(|sessions| sessions.renew_ticket(context.slot, old, new));
        }
        if let (Some(ticket), Err(Rv::USER_NOT_LOGGED_IN), false) = (&envelope.ticket, &result, proven) {
            self.sessions(|sessions| sessions.mark_login_stale(context.slot, ticket));
        }
        result
    }

    fn send(&self, envelope: &RequestEnvelope) -> Result<ResponseEnvelope, CallError> {
        let response = self.client.as_ref().ok_or(CallError::Unreachable)?.call(envelope);
        if let Err(error) = response {
            self.log_foreign_server(error);
            self.slot_cache().refreshed = None;
        }
        response
    }

    /// Logs why calls fail although something listens: their return value does not say it.
    fn log_foreign_server(&self, error: CallError) {
        if let (CallError::ForeignServer(uid), Some(log)) = (error, &self.log) {
            log.write_error(&format!(
                "the process that listens on the socket runs as user {uid}, so nothing is sent to it: if it is the \
                 backend, set server_uid = {uid} in pkcs11.toml, or move the socket into a folder that this user alone \
                 can write"
            ));
        }
    }

    /// All slots, in ascending order. While the backend is unavailable they are listed without their tokens.
    pub(crate) fn slots(&self, freshness: Freshness) -> Vec<SlotView> {
        let slots = self.fresh_slots(freshness);
        if slots.list.is_empty() && !slots.present && self.client.is_some() {
            return vec![SlotView { id: PLACEHOLDER, ring: None, present: false }];
        }
        let view = |slot: &Slot| SlotView { id: slot.id, ring: Some(slot.clone()), present: slots.present };
        slots.list.iter().map(view).collect()
    }

    /// One slot.
    ///
    /// # Errors
    /// `CKR_SLOT_ID_INVALID` when there is no such slot.
    pub(crate) fn slot(&self, id: SlotId) -> Result<SlotView, Rv> {
        let slots = self.fresh_slots(Freshness::Recent);
        match slots.list.iter().find(|slot| slot.id == id) {
            Some(slot) => Ok(SlotView { id, ring: Some(slot.clone()), present: slots.present }),
            None if slots.list.is_empty() && !slots.present && self.client.is_some() && id == PLACEHOLDER => {
                Ok(SlotView { id, ring: None, present: false })
            }
            None => Err(Rv::SLOT_ID_INVALID),
        }
    }

    /// The token in a slot.
    ///
    /// # Errors
    /// `CKR_SLOT_ID_INVALID`, or `CKR_TOKEN_NOT_PRESENT` when the backend does not respond.
    pub(crate) fn token(&self, id: SlotId) -> Result<Slot, Rv> {
        let slot = self.slot(id)?;
        slot.ring.filter(|_| slot.present).ok_or(Rv::TOKEN_NOT_PRESENT)
    }

    /// The state of the token in a slot, without a round trip if the slot is in the cache and the backend responded
    /// last time: some hosts open a session for each operation.
    pub(crate) fn token_state(&self, id: SlotId) -> Result<TokenState, Rv> {
        let state = |slot: &Slot| TokenState { policy: slot.policy, initialized: slot.initialized };
        let cached = {
            let slots = self.slot_cache();
            slots.list.iter().find(|slot| slot.id == id && slots.present).map(state)
        };
        match cached {
            Some(cached) if cached.initialized => Ok(cached),
            Some(_) | None => self.token(id).map(|slot| state(&slot)),
        }
    }

    /// The next slot event: a slot whose state differs from the reported one. It counts as reported from now on.
    pub(crate) fn slot_event(&self) -> Option<SlotId> {
        let now = present(&self.fresh_slots(Freshness::Recent));
        let mut slots = self.slot_cache();
        let reported = slots.reported.get_or_insert_with(|| now.clone());
        let changed = now.iter().find(|(id, present)| reported.get(*id) != Some(*present));
        let removed = || reported.keys().find(|id| !now.contains_key(*id)).copied();
        let changed = changed.map(|(id, _)| *id).or_else(removed);
        if let Some(id) = changed {
            match now.get(&id) {
                Some(present) => reported.insert(id, *present),
                None => reported.remove(&id),
            };
        }
        changed
    }

    /// `C_Finalize`: calls that wait for a slot event return.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether `C_Finalize` was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Invalidates the cached slots after a call that changes them.
    pub(crate) fn slots_changed(&self) {
        self.slot_cache().refreshed = None;
    }

    /// The slots, requested again if the cache is not fresh enough.
    fn fresh_slots(&self, freshness: Freshness) -> SlotCache {
        let slots = self.slot_cache().clone();
        let fresh = match freshness {
            Freshness::Recent => {
                slots.refreshed.is_some_and(|refreshed| refreshed.elapsed() < SLOTS_FRESH_FOR)
            }
            Freshness::Cached => slots.refreshed.is_some(),
        };
        if fresh {
            return slots;
        }
        let envelope = RequestEnvelope {
            id: RequestId::default(),
            slot: PLACEHOLDER,
            ticket: None,
            request: Request::Slots,
        };
        let client = self.client.as_ref().ok_or(CallError::Unreachable);
        let response = client.and_then(|client| client.call(&envelope));
        let mut slots = self.slot_cache();
        match response {
            Ok(ResponseEnvelope { result: Ok(Response::Slots(list)), .. }) => {
                slots.list = Arc::new(list);
                slots.present = true;
            }
            Ok(_) => slots.present = false,
            Err(error) => {
                self.log_foreign_server(error);
                slots.present = false;
            }
        }
        slots.refreshed = Some(Instant::now());
        let now = present(&slots);
        slots.reported.get_or_insert(now);
        slots.clone()
    }

    fn slot_cache(&self) -> MutexGuard<'_, SlotCache> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs the result of a call: its name and return value, never an argument.
    pub(crate) fn log_result(&self, name: &str, result: Result<(), Rv>) {
        if let Some(log) = &self.log {
            log.write(name, result);
        }
    }
}

/// The slots, and whether their tokens are present.
fn present(slots: &SlotCache) -> BTreeMap<SlotId, bool> {
    slots.list.iter().map(|slot| (slot.id, slots.present)).collect()
}

/// Whether a repeated request would create a second object: then the backend recognises the repetition by the id.
fn creates_object(request: &Request) -> bool {
    match request {
        Request::Generate { .. } | Request::GeneratePair { .. } => true,
        Request::Create { .. } | Request::Copy { .. } | Request::Unwrap { .. } | Request::Derive { .. } => {
            true
        }
        Request::Encapsulate { .. } | Request::Decapsulate { .. } => true,
        // A repeated `C_InitToken` has the same result: the second time, the new officer's PIN is the same.
        Request::InitToken { .. } | Request::Wrap { .. } | Request::EncryptMessage { .. } => false,
        Request::Slots | Request::Login { .. } | Request::InitPin { .. } | Request::SetPin { .. } => false,
        Request::Find { .. } | Request::Attributes { .. } | Request::Reveal { .. } => false,
        Request::SetAttributes { .. }
        | Request::Destroy { .. }
        | Request::Encrypt { .. }
        | Request::Decrypt { .. } => false,
        Request::Sign { .. } | Request::Verify { .. } => false,
        // A repetition finds its proof used up, if the first one arrived.
        Request::ProveUse { .. } | Request::SignProven { .. } | Request::DecryptProven { .. } => false,
    }
}

/// The return value for a request that does not fit in a frame.
fn too_large_rv(request: &Request) -> Rv {
    match request {
        Request::Encrypt { .. } | Request::Sign { .. } | Request::Verify { .. } => Rv::DATA_LEN_RANGE,
        Request::SignProven { .. } => Rv::DATA_LEN_RANGE,
        Request::DecryptProven { .. } => Rv::ENCRYPTED_DATA_LEN_RANGE,
        Request::ProveUse { .. } => Rv::PIN_LEN_RANGE,
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

/// The log file: a line for each call of the configured level.
struct Log {
    file: std::fs::File,
    level: LogLevel,
}

impl Log {
    fn write(&self, name: &str, result: Result<(), Rv>) {
        let level = match result {
            Ok(()) => LogLevel::Debug,
            Err(Rv::GENERAL_ERROR | Rv::DEVICE_ERROR | Rv::DEVICE_REMOVED | Rv::TOKEN_NOT_PRESENT) => {
                LogLevel::Error
            }
            Err(Rv::BUFFER_TOO_SMALL) => LogLevel::Debug,
            Err(_) => LogLevel::Info,
        };
        if level <= self.level {
            let rv = result.map_or_else(|rv| rv.to_string(), |()| "CKR_OK".to_owned());
            self.write_error(&format!("{name} {rv}"));
        }
    }

    /// Writes a line at every level.
    fn write_error(&self, text: &str) {
        let line = format!("{} {text}\n", std::process::id());
        // A full disk must not fail the host's call, and there is nowhere to report it.
        drop((&self.file).write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &tempfile::TempDir) -> Config {
        Config {
            socket: folder.path().join("sock"),
            server_uid: None,
            owner: None,
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
        assert_eq!(module.token_state(PLACEHOLDER).err(), Some(Rv::TOKEN_NOT_PRESENT));
        assert_eq!(module.slot_event(), None);
        assert_eq!(module.token(SlotId(5)).err(), Some(Rv::SLOT_ID_INVALID));
    }

    #[test]
    fn the_log_contains_names_and_return_values() {
        let folder = tempfile::tempdir().unwrap();
        let module = Module::open(Some(config(&folder))).unwrap();
        module.log_result("C_Sign", Err(Rv::KEY_HANDLE_INVALID));
        module.log_result("C_Digest", Ok(()));
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(log, format!("{} C_Sign CKR_KEY_HANDLE_INVALID\n", std::process::id()));
    }
}
