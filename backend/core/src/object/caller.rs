//! Callers, their logins and their roles in a ring.

use kms_protocol::{RingId, RingPolicy};

/// The caller of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The process that is connected to the socket, if the listener knows it.
    pub peer: Option<Peer>,
    /// The login that its ticket proves; none without a login.
    pub login: Option<Login>,
    /// The policy of the ring that the request names.
    pub policy: RingPolicy,
}

/// The process at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its user id.
    pub uid: u32,
    /// Its process id when it connected.
    pub pid: i32,
}

/// The number of a login: random, and the same in all tickets of the login.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct LoginId(pub [u8; 16]);

/// A valid login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// Its number, which its private session objects are bound to; zero for a caller of the REST API, which has none.
    pub id: LoginId,
    /// How often the principal has changed its PIN itself; zero for a service account.
    pub pin_changes: u64,
    /// The private session objects of this login that were sealed at this number of PIN changes, or a later one, have
    /// not ended.
    pub objects_from: u64,
    /// The ring it is valid for.
    pub ring: RingId,
    /// The principal's name: every ring has `user` and `so`.
    pub name: String,
    /// Its role in the ring.
    pub ring_role: RingRole,
}

impl Login {
    /// A login of a principal that has not changed its PIN itself, or of a service account.
    pub fn new(id: LoginId, ring: RingId, name: String, ring_role: RingRole) -> Self {
        Self { id, pin_changes: 0, objects_from: 0, ring, name, ring_role }
    }
}

/// The role of a login in a ring.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RingRole {
    /// The security officer: sets the user's PIN; sees no private object (`CKU_SO`).
    Officer,
    /// Creates, uses, changes and destroys keys (`kms.admin`; the ring's user).
    Admin,
    /// Uses and rotates keys (`kms.editor`).
    Editor,
    /// Uses keys (`kms.user`).
    User,
    /// Sees keys (`kms.reader`).
    Reader,
}

impl Caller {
    /// The caller's role in the ring; without a login it has none, and sees only public objects.
    pub fn ring_role(&self) -> Option<RingRole> {
        self.login.as_ref().map(|login| login.ring_role)
    }
}
