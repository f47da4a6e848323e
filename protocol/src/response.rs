//! Everything a provider can hear back.

use serde::{Deserialize, Serialize};

use crate::attribute::Template;
use crate::id::{ObjectId, RingId, SlotId};
use crate::request::ObjectRef;
use crate::rv::Rv;
use crate::secret::Secret;

/// Slots in one answer. A thousand rings are more than a consumer walks through.
pub const SLOTS_MAX: usize = 4096;

/// Objects in one page of a search: with 2 KiB of attributes each, half a frame.
pub const FOUND_MAX: usize = 256;

/// The answer to one [`crate::RequestEnvelope`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ResponseEnvelope {
    /// A fresh ticket in place of the one asked with, when that one has lived half its life.
    pub ticket: Option<Ticket>,
    /// What was asked for, or why not.
    pub result: Result<Response, Rv>,
}

/// The proof of a login, made and checked by backends alone; the provider hands it back with each request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ticket(pub Secret);

/// What a ring allows: strict unless the ring is created otherwise.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum RingPolicy {
    /// Keys sensitive and unextractable unless asked, none of the published attacks.
    Strict,
    /// What SoftHSM allows and defaults to, without the attacks whose prevention breaks nothing.
    Compat,
}

/// A slot and its token.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The number applications use.
    pub id: SlotId,
    /// The ring that is the token.
    pub ring: RingId,
    /// The token's label: at most 32 bytes of UTF-8, without padding.
    pub label: String,
    /// The token's serial number, 16 characters, from the ring's id: unique and stable.
    pub serial: String,
    /// What the ring allows.
    pub policy: RingPolicy,
    /// Whether the user has a PIN.
    pub user_pin_set: bool,
    /// Whether there is a ring. The free slot has none yet, and all but its number is empty: `C_InitToken` makes one.
    pub initialized: bool,
}

/// An object as its application sees it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ObjectView {
    /// How to name it in a request.
    pub object: ObjectRef,
    /// Its attributes, except those that are secret.
    pub attributes: Template,
}

/// What can be answered.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// Done; there is nothing to say.
    Done,
    /// The slots, in ascending order of id.
    Slots(#[serde(deserialize_with = "crate::bounded::vec::<_, _, SLOTS_MAX>")] Vec<Slot>),
    /// The login holds.
    LoggedIn {
        /// Its proof.
        ticket: Ticket,
    },
    /// One page of a search.
    Found {
        /// The objects.
        #[serde(deserialize_with = "crate::bounded::vec::<_, _, FOUND_MAX>")]
        objects: Vec<ObjectView>,
        /// Where the next page starts, if there is one.
        next: Option<ObjectId>,
    },
    /// One object.
    Object(ObjectView),
    /// A new key pair.
    Pair {
        /// The public half.
        public: ObjectView,
        /// The private half.
        private: ObjectView,
    },
    /// Secret attributes.
    Revealed(Template),
    /// Ciphertext, plaintext, signature, MAC or wrapped key.
    Bytes(Secret),
    /// A shared secret, and what its other holder needs.
    Encapsulated {
        /// What to send to the other side.
        ciphertext: Secret,
        /// The shared secret.
        secret: ObjectView,
    },
    /// An encrypted message.
    Message {
        /// The nonce that the backend made.
        nonce: Secret,
        /// The ciphertext, the tag at its end.
        ciphertext: Secret,
    },
}
