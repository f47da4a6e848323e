//! Names for things, each its own type so that none is taken for another.

use serde::{Deserialize, Serialize};

/// A slot, as applications number it: the ring's number, stable for the ring's life.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SlotId(pub u64);

/// A token object, for ever: a number is never given to a second object.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ObjectId(pub u64);

/// The id of a key ring, a UUID.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct RingId(pub [u8; 16]);

/// One request, chosen at random by the provider: a request repeated after a broken connection bears the same id,
/// and the backend does not make a second key for it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct RequestId(pub [u8; 16]);
