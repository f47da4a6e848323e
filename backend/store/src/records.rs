//! The values that callers store and load: rings, principals, keys and objects.

use kms_core::audit::Entry;
use kms_core::object::{KeyVersion, LoginId, RingRole, Wrapped};
use kms_protocol::{RingId, RingPolicy, SlotId};

use super::{KeyMetadata, RingMetadata};

/// A ring, as stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ring {
    /// Its slot: its number for applications, never assigned to another ring.
    pub slot: SlotId,
    /// Its id.
    pub id: RingId,
    /// Its label: that of the token.
    pub label: String,
    /// Its policy.
    pub policy: RingPolicy,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// How often it was initialised again.
    pub epoch: u64,
    /// Its metadata of the REST API.
    pub metadata: RingMetadata,
}

/// A ring to be stored.
#[derive(Clone, Debug)]
pub struct NewRing {
    /// Its id.
    pub id: RingId,
    /// Its label.
    pub label: String,
    /// Its policy.
    pub policy: RingPolicy,
    /// The current time, in seconds since 1970.
    pub created: u64,
    /// The slot it must get; `None` for the next free one.
    pub slot: Option<SlotId>,
    /// Its metadata of the REST API.
    pub metadata: RingMetadata,
    /// Its first principals, which are there from the start.
    pub principals: Vec<Principal>,
    /// Its entry in the audit log.
    pub entry: Option<Entry>,
}

/// What the hash of a PIN is made over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PinKind {
    /// The PIN: whoever has the database can guess it. Databases of earlier versions have such hashes; each is replaced
    /// when its principal logs in.
    Plain,
    /// A MAC of the PIN under a key that the HSM wraps: guessing needs the HSM.
    Bound,
}

/// A principal of a ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// The name; `user` and `so` are those of PKCS#11 (`CKU_USER`, `CKU_SO`).
    pub name: String,
    /// The role of its logins.
    pub ring_role: RingRole,
    /// The PIN's hash, as argon2 formats it; empty before a PIN is set.
    pub pin_hash: String,
    /// What the hash is made over.
    pub pin_kind: PinKind,
    /// Incremented to end all earlier logins.
    pub generation: u64,
    /// How often the principal has changed its PIN itself in this generation, which ends session objects, not logins.
    pub pin_changes: u64,
    /// The login that changed it last: its session objects have not ended.
    pub kept: Option<KeptLogin>,
}

/// The login that changed its principal's PIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeptLogin {
    /// Its number.
    pub login: LoginId,
    /// The number of PIN changes from which on its session objects have not ended.
    pub since: u64,
}

impl Principal {
    /// The name of the ring's user (`CKU_USER`).
    pub const USER: &str = "user";

    /// Creates a principal, or ends all logins of an existing one with a new generation.
    pub fn new(
        name: String,
        ring_role: RingRole,
        pin_hash: String,
        pin_kind: PinKind,
        generation: u64,
    ) -> Self {
        Self { name, ring_role, pin_hash, pin_kind, generation, pin_changes: 0, kept: None }
    }

    /// Changes the PIN for the principal itself, logged in with `login` or not at all. All logins continue, but the
    /// session objects of all other logins end.
    #[must_use]
    pub fn with_changed_pin(self, pin_hash: String, pin_kind: PinKind, login: Option<LoginId>) -> Self {
        let kept = login.map(|login| KeptLogin { login, since: self.objects_from(login) });
        Self { pin_hash, pin_kind, pin_changes: self.pin_changes + 1, kept, ..self }
    }

    /// The number of PIN changes from which on the session objects of a login have not ended.
    pub fn objects_from(&self, login: LoginId) -> u64 {
        self.kept.filter(|kept| kept.login == login).map_or(self.pin_changes, |kept| kept.since)
    }

    /// Whether a PIN is set.
    pub fn has_pin(&self) -> bool {
        !self.pin_hash.is_empty()
    }
}

/// The next version of a key.
#[derive(Clone, Debug)]
pub struct NextVersion {
    /// The key, and the number after that of the newest version.
    pub version: KeyVersion,
    /// Its material, wrapped.
    pub wrapped: Wrapped,
    /// The current time, in seconds since 1970.
    pub created: u64,
    /// The current day, formatted as `CK_DATE`.
    pub today: [u8; 8],
    /// Its entry in the audit log.
    pub entry: Option<Entry>,
}

/// An object to be stored that belongs to no key.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Its ring.
    pub ring: RingId,
    /// Its wrapped value, if it has one.
    pub value: Option<Wrapped>,
    /// The current time, in seconds since 1970.
    pub created: u64,
    /// Its entry in the audit log.
    pub entry: Option<Entry>,
}

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its ring.
    pub ring: RingId,
    /// Its UUID.
    pub key: [u8; 16],
    /// Its label.
    pub label: Vec<u8>,
    /// The algorithm's name.
    pub algorithm: String,
    /// Its wrapped material; a public key without a private key has none.
    pub wrapped: Option<Wrapped>,
    /// The current time, in seconds since 1970.
    pub created: u64,
    /// Its metadata of the REST API.
    pub metadata: KeyMetadata,
    /// Its entry in the audit log.
    pub entry: Option<Entry>,
}

/// A key in a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeySummary {
    /// Its UUID.
    pub id: [u8; 16],
    /// Its label.
    pub label: Vec<u8>,
    /// The algorithm's name.
    pub algorithm: String,
    /// How many versions it has.
    pub versions: u64,
    /// `active`, `disabled` or `destroyed`.
    pub state: String,
    /// When it was created, in seconds since 1970.
    pub created: u64,
}
