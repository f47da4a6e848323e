//! What a PKCS#11 application has open: sessions, logins, operations, object handles. Pure: knows no socket, no clock
//! and no C memory, and its lock (`Module`) is held for lookups alone, never across a round trip.

/// What an application may learn of an object it knows.
pub(crate) mod attributes;
/// Encryption and decryption in progress.
pub(crate) mod cipher;
/// Digests in progress.
pub(crate) mod digest;
/// Messages, one after the other.
pub(crate) mod message;
/// Objects by handle.
pub(crate) mod objects;
/// The two-call rule.
pub(crate) mod reply;
/// The find-objects cursor.
pub(crate) mod search;
/// Signatures in progress, made or verified.
pub(crate) mod signing;
/// What mechanism and key alone say at `C_*Init`.
pub(crate) mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use kms_protocol::{Mechanism, RingPolicy, Role, Rv, Secret, SlotId, Ticket};

use cipher::Cipher;
use digest::Digesting;
use message::Messaging;
use objects::{Known, Objects};
use search::Search;
use signing::Signing;

/// A session, as the application names it. Never zero, never given twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct SessionHandle(pub(crate) u64);

/// An object, as the application names it. Never zero, never given twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct ObjectHandle(pub(crate) u64);

/// What a session may do to token objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Use them (R/O).
    ReadOnly,
    /// Make, change and destroy them, too (R/W).
    ReadWrite,
}

/// The state of a session (spec, "Session states"), numbered as `CK_STATE` is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// R/O, nobody logged in.
    RoPublic = 0,
    /// R/O, the user logged in.
    RoUser = 1,
    /// R/W, nobody logged in.
    RwPublic = 2,
    /// R/W, the user logged in.
    RwUser = 3,
    /// R/W, the security officer logged in.
    RwOfficer = 4,
}

/// The running operations of a session: one of each kind (spec, "Function types").
#[derive(Default)]
pub(crate) struct Operations {
    pub(crate) encrypt: Option<Cipher>,
    pub(crate) decrypt: Option<Cipher>,
    pub(crate) sign: Option<Signing>,
    pub(crate) verify: Option<Signing>,
    pub(crate) digest: Option<Digesting>,
    pub(crate) search: Option<Search>,
    pub(crate) message_encrypt: Option<Messaging>,
    pub(crate) message_decrypt: Option<Messaging>,
    pub(crate) wrapped: Option<Wrapped>,
}

/// A wrapped key for which the caller has no room yet, and the call that made it.
pub(crate) struct Wrapped {
    pub(crate) mechanism: Mechanism,
    pub(crate) wrapping: ObjectHandle,
    pub(crate) key: ObjectHandle,
    pub(crate) bytes: Secret,
}

impl Operations {
    /// Ends what uses a private object: its owner has logged out.
    fn end_private(&mut self) {
        let private = |key: &Arc<Known>| key.is_private();
        self.encrypt.take_if(|cipher| private(&cipher.key));
        self.decrypt.take_if(|cipher| private(&cipher.key));
        self.sign.take_if(|signing| private(&signing.key));
        self.verify.take_if(|signing| private(&signing.key));
        self.message_encrypt.take_if(|messaging| private(&messaging.key));
        self.message_decrypt.take_if(|messaging| private(&messaging.key));
        self.search = None;
        self.wrapped = None;
    }
}

/// One session.
pub(crate) struct Session {
    pub(crate) slot: SlotId,
    pub(crate) policy: RingPolicy,
    pub(crate) access: Access,
    pub(crate) operations: Operations,
}

/// Who is logged in to a slot's token: one login for all sessions of the application (spec, "C_Login").
struct Login {
    role: Role,
    ticket: Ticket,
    /// A backend said that this login holds no more: the next `C_Login` is made, not refused as a second one.
    doubted: bool,
}

/// In whose name a session asks.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) slot: SlotId,
    pub(crate) ticket: Option<Ticket>,
}

/// Everything the application has open.
#[derive(Default)]
pub(crate) struct Sessions {
    last: u64,
    open: BTreeMap<SessionHandle, Session>,
    logins: BTreeMap<SlotId, Login>,
    pub(crate) objects: Objects,
}

impl Sessions {
    /// `C_OpenSession`.
    ///
    /// # Errors
    /// `CKR_SESSION_READ_WRITE_SO_EXISTS` for a read-only session while the officer is logged in.
    pub(crate) fn open(
        &mut self,
        slot: SlotId,
        policy: RingPolicy,
        access: Access,
    ) -> Result<SessionHandle, Rv> {
        let officer = self.logins.get(&slot).is_some_and(|login| login.role == Role::Officer);
        if officer && access == Access::ReadOnly {
            return Err(Rv::SESSION_READ_WRITE_SO_EXISTS);
        }
        self.last += 1;
        let handle = SessionHandle(self.last);
        self.open.insert(handle, Session { slot, policy, access, operations: Operations::default() });
        Ok(handle)
    }

    /// `C_CloseSession`. Its session objects go with it, and with the last session of a slot the login.
    pub(crate) fn close(&mut self, handle: SessionHandle) -> Result<(), Rv> {
        let slot = self.open.remove(&handle).ok_or(Rv::SESSION_HANDLE_INVALID)?.slot;
        self.objects.forget_owned_by(handle);
        if self.open.values().all(|other| other.slot != slot) {
            self.end_login(slot);
        }
        Ok(())
    }

    /// `C_CloseAllSessions`, of one slot.
    pub(crate) fn close_all(&mut self, slot: SlotId) {
        let of_slot = self.open.iter().filter(|(_, session)| session.slot == slot);
        let handles: Vec<SessionHandle> = of_slot.map(|(handle, _)| *handle).collect();
        for handle in handles {
            self.open.remove(&handle);
            self.objects.forget_owned_by(handle);
        }
        self.end_login(slot);
    }

    /// A session.
    pub(crate) fn session(&self, handle: SessionHandle) -> Result<&Session, Rv> {
        self.open.get(&handle).ok_or(Rv::SESSION_HANDLE_INVALID)
    }

    /// A session's running operations.
    pub(crate) fn operations(&mut self, handle: SessionHandle) -> Result<&mut Operations, Rv> {
        Ok(&mut self.open.get_mut(&handle).ok_or(Rv::SESSION_HANDLE_INVALID)?.operations)
    }

    /// The state of a session.
    pub(crate) fn state(&self, handle: SessionHandle) -> Result<State, Rv> {
        let session = self.session(handle)?;
        Ok(match (session.access, self.role(session.slot)) {
            (Access::ReadOnly, Some(Role::User | Role::Context)) => State::RoUser,
            (Access::ReadOnly, Some(Role::Officer) | None) => State::RoPublic,
            (Access::ReadWrite, Some(Role::User | Role::Context)) => State::RwUser,
            (Access::ReadWrite, Some(Role::Officer)) => State::RwOfficer,
            (Access::ReadWrite, None) => State::RwPublic,
        })
    }

    /// How many sessions a slot has, and how many of them are read-write.
    pub(crate) fn count(&self, slot: SlotId) -> (u64, u64) {
        let of_slot = self.open.values().filter(|session| session.slot == slot);
        of_slot.fold((0, 0), |(all, writing), session| {
            (all + 1, writing + u64::from(session.access == Access::ReadWrite))
        })
    }

    /// In whose name a session asks.
    pub(crate) fn context(&self, handle: SessionHandle) -> Result<CallContext, Rv> {
        let slot = self.session(handle)?.slot;
        Ok(CallContext { slot, ticket: self.logins.get(&slot).map(|login| login.ticket.clone()) })
    }

    /// Who is logged in to a slot.
    pub(crate) fn role(&self, slot: SlotId) -> Option<Role> {
        self.logins.get(&slot).map(|login| login.role)
    }

    /// Whether a session may log in as `role`; asked before the PIN is sent and again before the login is noted.
    pub(crate) fn may_log_in(&mut self, handle: SessionHandle, role: Role) -> Result<SlotId, Rv> {
        let slot = self.session(handle)?.slot;
        if role == Role::Context {
            return self.may_confirm(handle, slot);
        }
        let reading = |session: &Session| session.slot == slot && session.access == Access::ReadOnly;
        if role == Role::Officer && self.open.values().any(reading) {
            return Err(Rv::SESSION_READ_ONLY_EXISTS);
        }
        match self.logins.get(&slot) {
            Some(login) if login.doubted => Ok(slot),
            Some(login) if login.role == role => Err(Rv::USER_ALREADY_LOGGED_IN),
            Some(_) => Err(Rv::USER_ANOTHER_ALREADY_LOGGED_IN),
            None => Ok(slot),
        }
    }

    /// A login for one operation needs that operation (spec, "C_Login", `CKU_CONTEXT_SPECIFIC`).
    fn may_confirm(&mut self, handle: SessionHandle, slot: SlotId) -> Result<SlotId, Rv> {
        if self.role(slot) != Some(Role::User) {
            return Err(Rv::USER_NOT_LOGGED_IN);
        }
        let operations = self.operations(handle)?;
        let waiting = operations.sign.as_ref().is_some_and(|signing| signing.awaits_login)
            || operations.decrypt.as_ref().is_some_and(|cipher| cipher.awaits_login)
            || operations.encrypt.as_ref().is_some_and(|cipher| cipher.awaits_login);
        if waiting { Ok(slot) } else { Err(Rv::OPERATION_NOT_INITIALIZED) }
    }

    /// Notes a login that a backend has confirmed.
    pub(crate) fn log_in(&mut self, handle: SessionHandle, role: Role, ticket: Ticket) -> Result<(), Rv> {
        let slot = self.may_log_in(handle, role)?;
        match role {
            Role::Officer | Role::User => {
                // In place of a doubted login of the other role, whose private objects are not this one's to see.
                if self.role(slot).is_some_and(|before| before != role) {
                    self.end_login(slot);
                }
                self.logins.insert(slot, Login { role, ticket, doubted: false });
            }
            Role::Context => {
                let operations = self.operations(handle)?;
                operations.sign.iter_mut().for_each(|signing| signing.awaits_login = false);
                operations.decrypt.iter_mut().for_each(|cipher| cipher.awaits_login = false);
                operations.encrypt.iter_mut().for_each(|cipher| cipher.awaits_login = false);
            }
        }
        Ok(())
    }

    /// `C_Logout`.
    pub(crate) fn log_out(&mut self, handle: SessionHandle) -> Result<(), Rv> {
        let slot = self.session(handle)?.slot;
        if self.end_login(slot) { Ok(()) } else { Err(Rv::USER_NOT_LOGGED_IN) }
    }

    /// A backend gave a fresh ticket for the one it was asked with.
    pub(crate) fn renew(&mut self, slot: SlotId, old: &Ticket, fresh: Ticket) {
        if let Some(login) = self.logins.get_mut(&slot)
            && login.ticket == *old
        {
            login.ticket = fresh;
        }
    }

    /// A backend no longer takes this ticket: the PIN was set anew, or the principal is gone. Of a security officer it
    /// says nothing: the same code tells that only the user may do what was asked.
    pub(crate) fn doubt(&mut self, slot: SlotId, ticket: &Ticket) {
        if let Some(login) = self.logins.get_mut(&slot)
            && login.ticket == *ticket
            && login.role != Role::Officer
        {
            login.doubted = true;
        }
    }

    /// Private objects cannot be named any more, and private session objects are gone (spec, "C_Logout").
    fn end_login(&mut self, slot: SlotId) -> bool {
        let was = self.logins.remove(&slot).is_some();
        self.objects.forget_private(slot);
        for session in self.open.values_mut().filter(|session| session.slot == slot) {
            session.operations.end_private();
        }
        was
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOT: SlotId = SlotId(1);

    fn ticket() -> Ticket {
        Ticket(Secret::from(b"ticket".as_slice()))
    }

    fn open(sessions: &mut Sessions, access: Access) -> SessionHandle {
        sessions.open(SLOT, RingPolicy::Strict, access).unwrap()
    }

    #[test]
    fn a_login_ends_with_the_last_session_of_its_slot() {
        let mut sessions = Sessions::default();
        let first = open(&mut sessions, Access::ReadWrite);
        let second = open(&mut sessions, Access::ReadOnly);
        let elsewhere = sessions.open(SlotId(2), RingPolicy::Strict, Access::ReadWrite).unwrap();
        sessions.log_in(first, Role::User, ticket()).unwrap();
        assert_eq!(sessions.state(second), Ok(State::RoUser));
        assert_eq!(sessions.state(elsewhere), Ok(State::RwPublic));
        sessions.close(first).unwrap();
        assert_eq!(sessions.role(SLOT), Some(Role::User));
        sessions.close(second).unwrap();
        assert_eq!(sessions.role(SLOT), None);
    }

    #[test]
    fn the_officer_and_read_only_sessions_exclude_each_other() {
        let mut sessions = Sessions::default();
        let reading = open(&mut sessions, Access::ReadOnly);
        let writing = open(&mut sessions, Access::ReadWrite);
        assert_eq!(sessions.may_log_in(writing, Role::Officer), Err(Rv::SESSION_READ_ONLY_EXISTS));
        sessions.close(reading).unwrap();
        sessions.log_in(writing, Role::Officer, ticket()).unwrap();
        let refused = sessions.open(SLOT, RingPolicy::Strict, Access::ReadOnly);
        assert_eq!(refused, Err(Rv::SESSION_READ_WRITE_SO_EXISTS));
        assert_eq!(sessions.may_log_in(writing, Role::User), Err(Rv::USER_ANOTHER_ALREADY_LOGGED_IN));
    }

    #[test]
    fn a_login_the_backend_dropped_can_be_made_again() {
        let mut sessions = Sessions::default();
        let session = open(&mut sessions, Access::ReadWrite);
        sessions.log_in(session, Role::User, ticket()).unwrap();
        assert_eq!(sessions.may_log_in(session, Role::User), Err(Rv::USER_ALREADY_LOGGED_IN));
        sessions.doubt(SLOT, &ticket());
        assert_eq!(sessions.may_log_in(session, Role::User), Ok(SLOT));
    }

    #[test]
    fn an_officer_who_is_refused_the_users_work_stays_logged_in() {
        let mut sessions = Sessions::default();
        let session = open(&mut sessions, Access::ReadWrite);
        sessions.log_in(session, Role::Officer, ticket()).unwrap();
        sessions.doubt(SLOT, &ticket());
        assert_eq!(sessions.may_log_in(session, Role::User), Err(Rv::USER_ANOTHER_ALREADY_LOGGED_IN));
    }

    #[test]
    fn a_login_for_one_operation_needs_one() {
        let mut sessions = Sessions::default();
        let session = open(&mut sessions, Access::ReadWrite);
        assert_eq!(sessions.may_log_in(session, Role::Context), Err(Rv::USER_NOT_LOGGED_IN));
        sessions.log_in(session, Role::User, ticket()).unwrap();
        assert_eq!(sessions.may_log_in(session, Role::Context), Err(Rv::OPERATION_NOT_INITIALIZED));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open(u64, bool),
        Close(usize),
        CloseAll(u64),
        LogIn(usize, bool),
        LogOut(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let slot = 1..3_u64;
        prop::collection::vec(
            prop_oneof![
                (slot.clone(), any::<bool>()).prop_map(|(slot, writing)| Step::Open(slot, writing)),
                (0..12_usize).prop_map(Step::Close),
                slot.prop_map(Step::CloseAll),
                (0..12_usize, any::<bool>()).prop_map(|(session, officer)| Step::LogIn(session, officer)),
                (0..12_usize).prop_map(Step::LogOut),
            ],
            0..60,
        )
    }

    proptest! {
        /// Whatever an application does, these hold: handles are never zero and never come twice, a slot without
        /// sessions has no login, and an officer's slot has no read-only session.
        #[test]
        fn the_state_stays_lawful(steps in steps()) {
            let (mut sessions, mut given) = (Sessions::default(), Vec::<SessionHandle>::new());
            let pick = |given: &[SessionHandle], at: usize| given.get(at).copied().unwrap_or(SessionHandle(0));
            for step in steps {
                match step {
                    Step::Open(slot, writing) => {
                        let access = if writing { Access::ReadWrite } else { Access::ReadOnly };
                        if let Ok(handle) = sessions.open(SlotId(slot), RingPolicy::Compat, access) {
                            prop_assert!(handle.0 != 0 && !given.contains(&handle));
                            given.push(handle);
                        }
                    }
                    Step::Close(at) => _ = sessions.close(pick(&given, at)),
                    Step::CloseAll(slot) => sessions.close_all(SlotId(slot)),
                    Step::LogIn(at, officer) => {
                        let role = if officer { Role::Officer } else { Role::User };
                        _ = sessions.log_in(pick(&given, at), role, ticket());
                    }
                    Step::LogOut(at) => _ = sessions.log_out(pick(&given, at)),
                }
                for slot in [SlotId(1), SlotId(2)] {
                    let (all, writing) = sessions.count(slot);
                    match sessions.role(slot) {
                        None => {}
                        Some(Role::Officer) => prop_assert!(all > 0 && all == writing),
                        Some(Role::User | Role::Context) => prop_assert!(all > 0),
                    }
                }
            }
        }
    }
}
