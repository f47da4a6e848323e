//! Decoding of arbitrary bytes, for the fuzzer and for the replay of its corpus.

use kms_protocol::{Hello, Mechanism, Request, RequestEnvelope, ResponseEnvelope, Welcome, frame};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Decodes bytes as each kind of message.
pub(crate) fn decode_messages(bytes: &[u8]) {
    round_trip::<Hello>(bytes);
    round_trip::<Welcome>(bytes);
    round_trip::<ResponseEnvelope>(bytes);
    if let Some(envelope) = round_trip::<RequestEnvelope>(bytes)
        && let Some(mechanism) = mechanism(&envelope.request)
    {
        std::hint::black_box(mechanism.check().is_ok());
    }
}

/// Decodes a message, and checks that encoding and decoding it again gives the same.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value = frame::decode::<T>(bytes).ok()?;
    let mut again = Zeroizing::new(Vec::new());
    frame::encode(&value, &mut again).expect("a decoded value fits in a frame");
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
        Request::SignProven { mechanism, .. } | Request::DecryptProven { mechanism, .. } => Some(mechanism),
        Request::ProveUse { .. } => None,
        Request::Slots | Request::Login { .. } | Request::InitPin { .. } | Request::SetPin { .. } => None,
        Request::Find { .. } | Request::Attributes { .. } | Request::Reveal { .. } => None,
        Request::SetAttributes { .. } | Request::Destroy { .. } => None,
        Request::Create { .. } | Request::Copy { .. } | Request::InitToken { .. } => None,
    }
}
