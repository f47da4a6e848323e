//! The protocol between provider and backend.
//!
//! # The exchange
//!
//! The provider connects and sends a [`Hello`]; the backend responds with a [`Welcome`]. From then on, each frame from
//! the provider contains one [`RequestEnvelope`] and each frame from the backend its [`ResponseEnvelope`], in order,
//! one at a time. A connection has no state but the agreed version: each `RequestEnvelope` contains its slot and its
//! [`Ticket`], so the next one may use another connection, another backend, or the same one after a restart.
//!
//! A frame is a length of four bytes, little endian, and a value encoded with postcard ([`frame`]). Decoding is total:
//! any bytes give a value or an error, and no allocation exceeds the frame's own size.
//!
//! The only error on the wire is [`Rv`].
//!
//! This crate contains no sockets, keys or databases.
#![forbid(unsafe_code)]

mod attribute;
mod bounded;
mod codes;
mod id;
mod mechanism;
mod mechanism_check;
mod mechanism_names;
mod prehash;
mod request;
mod response;
mod rv;
mod secret;
mod usage;

// The public interface is:

/// Frames: length, version, limits.
pub mod frame;
/// The supported mechanisms, and everything that depends on the mechanism alone.
pub mod mechanism_table;

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
