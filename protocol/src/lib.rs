//! The words that provider and backend exchange.
//!
//! # The conversation
//!
//! The provider connects and sends a [`Hello`]; the backend answers [`Welcome`]. From then on, each frame from the
//! provider holds one [`RequestEnvelope`] and each frame from the backend the [`ResponseEnvelope`] to it, in order, one at a time. A
//! connection carries no state but the agreed version: each `RequestEnvelope` names its slot and bears its [`Ticket`], so the
//! next one may go over another connection, to another backend, or to the same one after a restart.
//!
//! A frame is a length of four bytes, little endian, and a value in postcard's form ([`frame`]). Decoding is total:
//! whatever the bytes are, there is a value or an error, and no allocation beyond a frame's own size.
//!
//! The only error that crosses the wire is [`Rv`].
//!
//! This crate knows no sockets, keys or databases.
#![forbid(unsafe_code)]

mod attribute;
mod bounded;
mod codes;
/// Frames: length, version, limits.
pub mod frame;
mod id;
mod mechanism;
mod mechanism_names;
/// What we offer, and what follows from a mechanism alone.
pub mod mechanism_table;
mod prehash;
mod request;
mod response;
mod rv;
mod secret;
mod usage;

pub use attribute::{
    ALLOWED_MECHANISMS_MAX, Attribute, AttributeType, KeyType, Mechanisms, NESTED_ATTRIBUTES_MAX, Nested,
    ObjectClass, Shape, TEMPLATE_ATTRIBUTES_MAX, Template, Value,
};
pub use frame::{FRAME_BYTES_MAX, FrameError, Hello, Welcome};
pub use id::{ObjectId, RequestId, RingId, SlotId};
pub use mechanism::{
    CCM_DATA_BYTES_MAX, CONTEXT_BYTES_MAX, Counter, DERIVATION_BYTES_MAX, ECDH_PUBLIC_BYTES_MAX,
    GCM_AAD_BYTES_MAX, GCM_IV_BYTES_MAX, Mechanism, OAEP_LABEL_BYTES_MAX, POLY1305_NONCE_BYTES, PRF_DATA_MAX,
    Parameters, PrfData, PrfPart, Salt,
};
pub use mechanism_names::{Kdf, MechanismType, Mgf};
pub use prehash::{Prehash, prehash_bytes};
pub use request::{DATA_BYTES_MAX, ObjectRef, PIN_BYTES_MAX, Request, RequestEnvelope, Role};
pub use response::{FOUND_MAX, ObjectView, Response, ResponseEnvelope, RingPolicy, SLOTS_MAX, Slot, Ticket};
pub use rv::Rv;
pub use secret::Secret;
pub use usage::Usage;
