//! Identifiers, each with its own type so that none is confused with another.

use serde::{Deserialize, Serialize};

/// The number of a slot as applications see it: the ring's number, stable for the ring's lifetime.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SlotId(pub u64);

/// The number of a token object, never given to a second object.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ObjectId(pub u64);

/// The id of a key ring, a UUID.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct RingId(pub [u8; 16]);

/// The id of a request, chosen at random by the provider: a request that is repeated after a broken connection has the
/// same id, and the backend does not create a second key for it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct RequestId(pub [u8; 16]);
