//! The responses of the backend.

use serde::{Deserialize, Serialize};

use crate::attribute::Template;
use crate::id::{ObjectId, RingId, SlotId};
use crate::request::ObjectRef;
use crate::rv::Rv;
use crate::secret::Secret;

/// The maximum number of slots in one response. A thousand rings are more than an application enumerates.
pub const SLOTS_MAX: usize = 4096;

/// The maximum number of objects in one page of a search: with 2 KiB of attributes each, half a frame.
pub const FOUND_MAX: usize = 256;

/// The response to one [`crate::RequestEnvelope`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ResponseEnvelope {
    /// A renewed ticket that replaces the request's, when that one is past half of its lifetime.
    pub ticket: Option<Ticket>,
    /// The response, or the error.
    pub result: Result<Response, Rv>,
}

/// The proof of a login, issued and checked by backends only; the provider sends it with each request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ticket(pub Secret);

/// The policy of a ring: strict, unless the ring is created with the other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum RingPolicy {
    /// Keys are sensitive and unextractable unless requested otherwise; the published attacks are prevented.
    Strict,
    /// What SoftHSM allows, with its defaults, except for attacks whose prevention breaks nothing.
    Compat,
}

/// A slot and its token.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The slot's number.
    pub id: SlotId,
    /// The ring that the token is.
    pub ring: RingId,
    /// The token's label: at most 32 bytes of UTF-8, without padding.
    pub label: String,
    /// The token's serial number, 16 characters, from the ring's id: unique and stable.
    pub serial: String,
    /// The ring's policy.
    pub policy: RingPolicy,
    /// Whether the user has a PIN.
    pub user_pin_set: bool,
    /// Whether there is a ring. The free slot has none, and its other fields are empty: `C_InitToken` creates the ring.
    pub initialized: bool,
}

/// An object as the application sees it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ObjectView {
    /// The reference to use in requests.
    pub object: ObjectRef,
    /// Its attributes, except those that are secret.
    pub attributes: Template,
}

/// A response.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// Success, without a result.
    Done,
    /// The slots, in ascending order of id.
    Slots(#[serde(deserialize_with = "crate::bounded::vec::<_, _, SLOTS_MAX>")] Vec<Slot>),
    /// Successful login.
    LoggedIn {
        /// The proof of the login.
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
        /// The public key.
        public: ObjectView,
        /// The private key.
        private: ObjectView,
    },
    /// Secret attributes.
    Revealed(Template),
    /// Ciphertext, plaintext, signature, MAC or wrapped key.
    Bytes(Secret),
    /// A shared secret, and its encapsulation for the other side.
    Encapsulated {
        /// The encapsulation, to be sent to the other side.
        ciphertext: Secret,
        /// The shared secret.
        secret: ObjectView,
    },
    /// An encrypted message.
    Message {
        /// The nonce that the backend generated.
        nonce: Secret,
        /// The ciphertext, followed by the tag.
        ciphertext: Secret,
    },
    /// The proof of a context-specific login, for one use of one key within half a minute.
    Proof(Secret),
}
