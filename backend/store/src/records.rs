//! What callers store and load: rings, principals, keys and objects as values.

use kms_core::audit::Entry;
use kms_core::object::{KeyVersion, RingRole, Wrapped};
use kms_protocol::{RingId, RingPolicy, SlotId};

use super::{KeyMetadata, RingMetadata};

/// A ring, as stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ring {
    /// Its slot: its number for applications, never given to another ring.
    pub slot: SlotId,
    /// Its id.
    pub id: RingId,
    /// Its name: the token's label.
    pub label: String,
    /// What it allows.
    pub policy: RingPolicy,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// What the service's API knows of it.
    pub metadata: RingMetadata,
}

/// A ring to be stored.
#[derive(Clone, Debug)]
pub struct NewRing {
    /// Its id.
    pub id: RingId,
    /// Its name.
    pub label: String,
    /// What it allows.
    pub policy: RingPolicy,
    /// The time, in seconds since 1970.
    pub created: u64,
    /// The slot it must come into; any free one where none is named.
    pub slot: Option<SlotId>,
    /// What the service's API knows of it.
    pub metadata: RingMetadata,
    /// What is recorded of it.
    pub entry: Option<Entry>,
}

/// Who may log in to a ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// The name; `user` and `so` are the ring's own.
    pub name: String,
    /// What they may do.
    pub ring_role: RingRole,
    /// The PIN, as argon2 writes it; empty where there is none yet.
    pub pin_hash: String,
    /// Counts the times that all logins before were ended.
    pub generation: u64,
}

impl Principal {
    /// The ring's own user (`CKU_USER`).
    pub const USER: &str = "user";

    /// Whether there is a PIN to log in with.
    pub fn has_pin(&self) -> bool {
        !self.pin_hash.is_empty()
    }
}

/// The next version of a key.
#[derive(Clone, Debug)]
pub struct NextVersion {
    /// Which: the number after the newest one's.
    pub version: KeyVersion,
    /// Its material.
    pub wrapped: Wrapped,
    /// The time, in seconds since 1970.
    pub created: u64,
    /// The day, as `CK_DATE` writes it.
    pub today: [u8; 8],
    /// What is recorded of it.
    pub entry: Option<Entry>,
}

/// An object to be stored that belongs to no key.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Its ring.
    pub ring: RingId,
    /// Its value, where that is encrypted.
    pub value: Option<Wrapped>,
    /// The time, in seconds since 1970.
    pub created: u64,
    /// What is recorded of it.
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
    /// What it is, in a word.
    pub algorithm: String,
    /// Its material; a lone public key has none.
    pub wrapped: Option<Wrapped>,
    /// The time, in seconds since 1970.
    pub created: u64,
    /// What the service's API knows of it.
    pub metadata: KeyMetadata,
    /// What is recorded of it.
    pub entry: Option<Entry>,
}

/// A key, as listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeySummary {
    /// Its UUID.
    pub id: [u8; 16],
    /// Its label.
    pub label: Vec<u8>,
    /// What it is, in a word.
    pub algorithm: String,
    /// How many versions it has.
    pub versions: u64,
    /// `active`, `disabled` or `destroyed`.
    pub state: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}
