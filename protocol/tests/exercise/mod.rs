//! What the fuzzer does with bytes, and what the replay of its corpus does with them again.

use kms_protocol::{Hello, Mechanism, Request, RequestEnvelope, ResponseEnvelope, Welcome, frame};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Reads bytes as each kind of message.
pub(crate) fn exercise(bytes: &[u8]) {
    same::<Hello>(bytes);
    same::<Welcome>(bytes);
    same::<ResponseEnvelope>(bytes);
    if let Some(ask) = same::<RequestEnvelope>(bytes)
        && let Some(mechanism) = mechanism(&ask.request)
    {
        std::hint::black_box(mechanism.check().is_ok());
    }
}

/// What is a message is the same after it was written and read again.
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value = frame::decode::<T>(bytes).ok()?;
    let mut again = Zeroizing::new(Vec::new());
    frame::encode(&value, &mut again).expect("what came out of a frame goes into one");
    assert_eq!(frame::decode::<T>(&again[frame::HEADER_BYTES..]).as_ref(), Ok(&value));
    Some(value)
}

fn mechanism(request: &Request) -> Option<&Mechanism> {
    match request {
        Request::Generate { mechanism, .. } | Request::GeneratePair { mechanism, .. } => Some(mechanism),
        Request::Encrypt { mechanism, .. } | Request::Decrypt { mechanism, .. } => Some(mechanism),
        Request::Sign { mechanism, .. } | Request::Verify { mechanism, .. } => Some(mechanism),
        Request::Wrap { mechanism, .. } | Request::Unwrap { mechanism, .. } => Some(mechanism),
        Request::Derive { mechanism, .. } | Request::EncryptMessage { mechanism, .. } => Some(mechanism),
        Request::Encapsulate { mechanism, .. } | Request::Decapsulate { mechanism, .. } => Some(mechanism),
        Request::Slots | Request::Login { .. } | Request::InitPin { .. } | Request::SetPin { .. } => None,
        Request::Find { .. } | Request::Attributes { .. } | Request::Reveal { .. } => None,
        Request::SetAttributes { .. } | Request::Destroy { .. } => None,
        Request::Create { .. } | Request::Copy { .. } | Request::InitToken { .. } => None,
    }
}
