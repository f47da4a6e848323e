//! The state of a PKCS#11 application: sessions, logins, operations, object handles. Pure: no socket, no clock and no C
//! memory; its lock (in `Module`) is held for lookups only, never across a round trip.

/// The attributes of an object as an application sees them.
pub(crate) mod attributes;
/// Encryption and decryption in progress.
pub(crate) mod cipher;
/// Digests in progress.
pub(crate) mod digest;
/// Message encryption and decryption in progress.
pub(crate) mod message;
/// Objects by handle.
pub(crate) mod objects;
/// The two-call convention for output.
pub(crate) mod reply;
/// The cursor of `C_FindObjects`.
pub(crate) mod search;
/// Signatures and verifications in progress.
pub(crate) mod signature;
/// The checks of mechanism and key at `C_*Init`.
pub(crate) mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use kms_protocol::{Mechanism, RingPolicy, Role, Rv, Secret, SlotId, Ticket};

use cipher::CipherOperation;
use digest::DigestOperation;
use message::MessageOperation;
use objects::{ObjectInfo, Objects};
use search::Search;
use signature::SignatureOperation;

/// A session handle. Never zero, never issued twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct SessionHandle(pub(crate) u64);

/// An object handle. Never zero, never issued twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct ObjectHandle(pub(crate) u64);

/// What a session may do to token objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Use them (read-only, R/O).
    ReadOnly,
    /// Also create, change and destroy them (read-write, R/W).
    ReadWrite,
}

/// The state of a session (spec, "Session states"), numbered as `CK_STATE` is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// R/O, no login.
    RoPublic = 0,
    /// R/O, the user is logged in.
    RoUser = 1,
    /// R/W, no login.
    RwPublic = 2,
    /// R/W, the user is logged in.
    RwUser = 3,
    /// R/W, the security officer is logged in.
    RwOfficer = 4,
}

/// The active operations of a session: at most one of each kind (spec, "Function types").
#[derive(Default)]
pub(crate) struct Operations {
    pub(crate) encrypt: Option<CipherOperation>,
    pub(crate) decrypt: Option<CipherOperation>,
    pub(crate) sign: Option<SignatureOperation>,
    pub(crate) verify: Option<SignatureOperation>,
    pub(crate) digest: Option<DigestOperation>,
    pub(crate) search: Option<Search>,
    pub(crate) message_encrypt: Option<MessageOperation>,
    pub(crate) message_decrypt: Option<MessageOperation>,
    pub(crate) wrapped: Option<PendingWrap>,
}

/// A wrapped key that did not fit in the caller's buffer, and the arguments that it was wrapped with.
pub(crate) struct PendingWrap {
    pub(crate) mechanism: Mechanism,
    pub(crate) wrapping: ObjectHandle,
    pub(crate) key: ObjectHandle,
    pub(crate) bytes: Secret,
}

impl Operations {
    /// Ends the operations that use a private object after a logout.
    fn end_private(&mut self) {
        let private = |key: &Arc<ObjectInfo>| key.is_private();
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

/// An operation that can wait for a context-specific login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WaitingOperation {
    /// `C_SignInit` began it.
    Sign,
    /// `C_DecryptInit` began it.
    Decrypt,
}

/// One session.
pub(crate) struct Session {
    pub(crate) slot: SlotId,
    pub(crate) policy: RingPolicy,
    pub(crate) access: Access,
    pub(crate) operations: Operations,
}

/// The login to a slot's token: one for all sessions of the application (spec, "C_Login").
struct Login {
    role: Role,
    ticket: Ticket,
    /// The backend has rejected the ticket: the next `C_Login` is sent to it, not rejected as a second login.
    stale: bool,
}

/// The slot and the ticket that a request of a session carries.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) slot: SlotId,
    pub(crate) ticket: Option<Ticket>,
}

/// All sessions, logins and object handles of the application.
#[derive(Default)]
pub(crate) struct Sessions {
    last_handle: u64,
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
        self.last_handle += 1;
        let handle = SessionHandle(self.last_handle);
        self.open.insert(handle, Session { slot, policy, access, operations: Operations::default() });
        Ok(handle)
    }

    /// `C_CloseSession`. Removes the session's objects and, with the last session of a slot, the login.
    pub(crate) fn close(&mut self, handle: SessionHandle) -> Result<(), Rv> {
        let slot = self.open.remove(&handle).ok_or(Rv::SESSION_HANDLE_INVALID)?.slot;
        self.objects.remove_owned_by(handle);
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
            self.objects.remove_owned_by(handle);
        }
        self.end_login(slot);
    }

    /// A session.
    pub(crate) fn session(&self, handle: SessionHandle) -> Result<&Session, Rv> {
        self.open.get(&handle).ok_or(Rv::SESSION_HANDLE_INVALID)
    }

    /// A session's active operations.
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

    /// The number of sessions of a slot, and how many of them are read-write.
    pub(crate) fn count(&self, slot: SlotId) -> (u64, u64) {
        let of_slot = self.open.values().filter(|session| session.slot == slot);
        of_slot.fold((0, 0), |(all, read_write), session| {
            (all + 1, read_write + u64::from(session.access == Access::ReadWrite))
        })
    }

    /// The slot and ticket of a session's requests.
    pub(crate) fn context(&self, handle: SessionHandle) -> Result<CallContext, Rv> {
        let slot = self.session(handle)?.slot;
        Ok(CallContext { slot, ticket: self.logins.get(&slot).map(|login| login.ticket.clone()) })
    }

    /// The role of the login to a slot.
    pub(crate) fn role(&self, slot: SlotId) -> Option<Role> {
        self.logins.get(&slot).map(|login| login.role)
    }

    /// Whether a session may log in as `role`; checked before the PIN is sent and again before the login is stored.
    pub(crate) fn may_log_in(&mut self, handle: SessionHandle, role: Role) -> Result<SlotId, Rv> {
        let slot = self.session(handle)?.slot;
        if role == Role::Context {
            return self.check_context_login(handle, slot);
        }
        let read_only = |session: &Session| session.slot == slot && session.access == Access::ReadOnly;
        if role == Role::Officer && self.open.values().any(read_only) {
            return Err(Rv::SESSION_READ_ONLY_EXISTS);
        }
        match self.logins.get(&slot) {
            Some(login) if login.stale => Ok(slot),
            Some(login) if login.role == role => Err(Rv::USER_ALREADY_LOGGED_IN),
            Some(_) => Err(Rv::USER_ANOTHER_ALREADY_LOGGED_IN),
            None => Ok(slot),
        }
    }

    /// A context-specific login needs an operation that waits for it (spec, "C_Login", `CKU_CONTEXT_SPECIFIC`).
    fn check_context_login(&mut self, handle: SessionHandle, slot: SlotId) -> Result<SlotId, Rv> {
        if self.role(slot) != Some(Role::User) {
            return Err(Rv::USER_NOT_LOGGED_IN);
        }
        let waiting = self.waiting(handle)?;
        if waiting.is_empty() { Err(Rv::OPERATION_NOT_INITIALIZED) } else { Ok(slot) }
    }

    /// The operations of a session that wait for a context-specific login, with their keys.
    pub(crate) fn waiting(
        &mut self,
        handle: SessionHandle,
    ) -> Result<Vec<(WaitingOperation, Arc<ObjectInfo>)>, Rv> {
        let operations = self.operations(handle)?;
        let signing = operations.sign.as_ref().filter(|signing| signing.needs_context_login);
        let decrypting = operations.decrypt.as_ref().filter(|cipher| cipher.needs_context_login);
        let signing = signing.map(|signing| (WaitingOperation::Sign, Arc::clone(&signing.key)));
        let decrypting = decrypting.map(|cipher| (WaitingOperation::Decrypt, Arc::clone(&cipher.key)));
        Ok(signing.into_iter().chain(decrypting).collect())
    }

    /// Stores the proof of a context-specific login in the operation that waited for it. An operation that another
    /// thread began meanwhile, with another key, does not get it.
    pub(crate) fn prove(
        &mut self,
        handle: SessionHandle,
        operation: WaitingOperation,
        key: &Arc<ObjectInfo>,
        proof: Secret,
    ) -> Result<(), Rv> {
        let operations = self.operations(handle)?;
        match operation {
            WaitingOperation::Sign => {
                if let Some(signing) = operations.sign.as_mut().filter(|active| Arc::ptr_eq(&active.key, key))
                {
                    (signing.needs_context_login, signing.proof) = (false, Some(proof));
                }
            }
            WaitingOperation::Decrypt => {
                if let Some(cipher) =
                    operations.decrypt.as_mut().filter(|active| Arc::ptr_eq(&active.key, key))
                {
                    (cipher.needs_context_login, cipher.proof) = (false, Some(proof));
                }
            }
        }
        Ok(())
    }

    /// Stores a login that the backend has confirmed.
    pub(crate) fn log_in(&mut self, handle: SessionHandle, role: Role, ticket: Ticket) -> Result<(), Rv> {
        let slot = self.may_log_in(handle, role)?;
        match role {
            Role::Officer | Role::User => {
                // A stale login of the other role ends: its private objects are not visible to this one.
                if self.role(slot).is_some_and(|previous| previous != role) {
                    self.end_login(slot);
                } else if self.logins.contains_key(&slot) {
                    // The backend has ended the session objects of the stale login.
                    self.objects.remove_private_session_objects(slot);
                }
                self.logins.insert(slot, Login { role, ticket, stale: false });
            }
            // Not a login of the session: `prove` stores its result.
            Role::Context => return Err(Rv::USER_TYPE_INVALID),
        }
        Ok(())
    }

    /// `C_Logout`.
    pub(crate) fn log_out(&mut self, handle: SessionHandle) -> Result<(), Rv> {
        let slot = self.session(handle)?.slot;
        if self.end_login(slot) { Ok(()) } else { Err(Rv::USER_NOT_LOGGED_IN) }
    }

    /// Replaces the ticket that a request carried by the new one of its response.
    pub(crate) fn renew_ticket(&mut self, slot: SlotId, old: &Ticket, new: Ticket) {
        if let Some(login) = self.logins.get_mut(&slot)
            && login.ticket == *old
        {
            login.ticket = new;
        }
    }

    /// Marks a login whose ticket the backend rejected: the PIN was changed, or the principal was deleted. Not one of a
    /// security officer, who gets the same return value for operations that only the user may perform.
    pub(crate) fn mark_login_stale(&mut self, slot: SlotId, ticket: &Ticket) {
        if let Some(login) = self.logins.get_mut(&slot)
            && login.ticket == *ticket
            && login.role != Role::Officer
        {
            login.stale = true;
        }
    }

    /// Ends a login. Handles of private objects become invalid, and private session objects are removed (spec,
    /// "C_Logout").
    fn end_login(&mut self, slot: SlotId) -> bool {
        let existed = self.logins.remove(&slot).is_some();
        self.objects.remove_private(slot);
        for session in self.open.values_mut().filter(|session| session.slot == slot) {
            session.operations.end_private();
        }
        existed
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
        let read_only = open(&mut sessions, Access::ReadOnly);
        let read_write = open(&mut sessions, Access::ReadWrite);
        assert_eq!(sessions.may_log_in(read_write, Role::Officer), Err(Rv::SESSION_READ_ONLY_EXISTS));
        sessions.close(read_only).unwrap();
        sessions.log_in(read_write, Role::Officer, ticket()).unwrap();
        let rejected = sessions.open(SLOT, RingPolicy::Strict, Access::ReadOnly);
        assert_eq!(rejected, Err(Rv::SESSION_READ_WRITE_SO_EXISTS));
        assert_eq!(sessions.may_log_in(read_write, Role::User), Err(Rv::USER_ANOTHER_ALREADY_LOGGED_IN));
    }

    #[test]
    fn a_stale_login_can_be_repeated() {
        let mut sessions = Sessions::default();
        let session = open(&mut sessions, Access::ReadWrite);
        sessions.log_in(session, Role::User, ticket()).unwrap();
        assert_eq!(sessions.may_log_in(session, Role::User), Err(Rv::USER_ALREADY_LOGGED_IN));
        sessions.mark_login_stale(SLOT, &ticket());
        assert_eq!(sessions.may_log_in(session, Role::User), Ok(SLOT));
    }

    #[test]
    fn an_officer_stays_logged_in_after_a_rejected_user_operation() {
        let mut sessions = Sessions::default();
        let session = open(&mut sessions, Access::ReadWrite);
        sessions.log_in(session, Role::Officer, ticket()).unwrap();
        sessions.mark_login_stale(SLOT, &ticket());
        assert_eq!(sessions.may_log_in(session, Role::User), Err(Rv::USER_ANOTHER_ALREADY_LOGGED_IN));
    }

    #[test]
    fn a_context_specific_login_needs_an_operation() {
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
                (slot.clone(), any::<bool>()).prop_map(|(slot, read_write)| Step::Open(slot, read_write)),
                (0..12_usize).prop_map(Step::Close),
                slot.prop_map(Step::CloseAll),
                (0..12_usize, any::<bool>()).prop_map(|(session, officer)| Step::LogIn(session, officer)),
                (0..12_usize).prop_map(Step::LogOut),
            ],
            0..60,
        )
    }

    proptest! {
        /// Invariants of any sequence of calls: handles are never zero and never issued twice, a slot without sessions
        /// has no login, and a slot with an officer has no read-only session.
        #[test]
        fn any_sequence_of_calls_keeps_the_invariants(steps in steps()) {
            let (mut sessions, mut issued) = (Sessions::default(), Vec::<SessionHandle>::new());
            let pick = |issued: &[SessionHandle], at: usize| issued.get(at).copied().unwrap_or(SessionHandle(0));
            for step in steps {
                match step {
                    Step::Open(slot, read_write) => {
                        let access = if read_write { Access::ReadWrite } else { Access::ReadOnly };
                        if let Ok(handle) = sessions.open(SlotId(slot), RingPolicy::Compat, access) {
                            prop_assert!(handle.0 != 0 && !issued.contains(&handle));
                            issued.push(handle);
                        }
                    }
                    Step::Close(at) => _ = sessions.close(pick(&issued, at)),
                    Step::CloseAll(slot) => sessions.close_all(SlotId(slot)),
                    Step::LogIn(at, officer) => {
                        let role = if officer { Role::Officer } else { Role::User };
                        _ = sessions.log_in(pick(&issued, at), role, ticket());
                    }
                    Step::LogOut(at) => _ = sessions.log_out(pick(&issued, at)),
                }
                for slot in [SlotId(1), SlotId(2)] {
                    let (all, read_write) = sessions.count(slot);
                    match sessions.role(slot) {
                        None => {}
                        Some(Role::Officer) => prop_assert!(all > 0 && all == read_write),
                        Some(Role::User | Role::Context) => prop_assert!(all > 0),
                    }
                }
            }
        }
    }
}
