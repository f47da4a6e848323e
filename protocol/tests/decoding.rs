//! Decoding is total: any bytes give a value or an error, never a panic, and never an allocation that the frame's own
//! size does not justify.

mod samples;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kms_protocol::{
    Attribute, AttributeType, FRAME_BYTES_MAX, FrameError, Hello, Nested, Request, RequestEnvelope,
    ResponseEnvelope, Secret, Template, Value, Welcome, frame,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

thread_local! {
    static LARGEST_ALLOCATION: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which records the largest allocation of each thread.
struct RecordingAllocator;

#[allow(unsafe_code, reason = "a global allocator cannot be written without; it forwards to the system's")]
// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for RecordingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST_ALLOCATION.with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: RecordingAllocator = RecordingAllocator;

/// The largest allocation while `work` runs, in bytes.
fn largest<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LARGEST_ALLOCATION.with(|largest| largest.set(0));
    let result = work();
    (result, LARGEST_ALLOCATION.with(Cell::get))
}

fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Zeroizing::new(Vec::new());
    frame::encode(value, &mut bytes).expect("the sample fits in a frame");
    bytes[frame::HEADER_BYTES..].to_vec()
}

/// The maximum factor by which an element of a list is larger in memory than on the wire.
const GROWTH: usize = 256;

fn decode_all(bytes: &[u8]) {
    let ((), most) = largest(|| {
        let request = frame::decode::<RequestEnvelope>(bytes);
        drop(request);
        let response = frame::decode::<ResponseEnvelope>(bytes);
        drop(response);
        let handshake = frame::decode::<Hello>(bytes).is_ok() || frame::decode::<Welcome>(bytes).is_ok();
        std::hint::black_box(handshake);
    });
    // The fixed part is the largest list at its limit: 4,096 slots declared before one of them is decoded.
    assert!(
        most <= bytes.len() * GROWTH + (1 << 20),
        "{most} bytes allocated for a frame of {}",
        bytes.len()
    );
}

proptest! {
    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        decode_all(&bytes);
    }

    #[test]
    fn a_damaged_message_gives_a_value_or_an_error(
        which in 0usize..64,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut requests = samples::requests();
        let mut bytes = encoded(&samples::envelope(requests.swap_remove(which % requests.len())));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decode_all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        decode_all(&bytes);
    }

    #[test]
    fn a_damaged_response_gives_a_value_or_an_error(
        which in 0usize..16,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let responses = samples::responses();
        let mut bytes = encoded(&responses[which % responses.len()].1);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_all(&bytes);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_value(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(envelope) = frame::decode::<RequestEnvelope>(&bytes) {
            prop_assert_eq!(frame::decode::<RequestEnvelope>(&encoded(&envelope)), Ok(envelope));
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    for request in samples::requests() {
        let bytes = encoded(&samples::envelope(request));
        for cut in 0..bytes.len() {
            assert_eq!(frame::decode::<RequestEnvelope>(&bytes[..cut]), Err(FrameError::Malformed));
        }
        assert_eq!(
            frame::decode::<RequestEnvelope>(&[bytes, vec![0]].concat()),
            Err(FrameError::Malformed),
            "one byte too many"
        );
    }
}

#[test]
fn a_length_beyond_the_limit_is_rejected_before_the_value_is_read() {
    let beyond = u32::try_from(FRAME_BYTES_MAX + 1).expect("the limit fits in a header");
    assert_eq!(frame::length(beyond.to_le_bytes()), Err(FrameError::TooLarge));
    assert_eq!(frame::length(u32::MAX.to_le_bytes()), Err(FrameError::TooLarge));
    let too_much = samples::envelope(Request::InitPin { pin: Secret::from(vec![0; FRAME_BYTES_MAX]) });
    assert_eq!(frame::encode(&too_much, &mut Zeroizing::new(Vec::new())), Err(FrameError::TooLarge));
}

#[test]
fn templates_nest_once_and_no_deeper() {
    let mut value = Value::Template(Nested::default());
    for depth in 1..64 {
        let attribute = Attribute { kind: AttributeType::WRAP_TEMPLATE, value: value.clone() };
        let envelope = samples::envelope(Request::Create { template: Template(vec![attribute.clone()]) });
        let decoded = frame::decode::<RequestEnvelope>(&encoded(&envelope));
        assert_eq!(decoded.is_ok(), depth == 1, "{depth} templates in each other");
        value = Value::Template(Nested(vec![attribute]));
    }
}

#[test]
fn a_declared_length_beyond_the_frame_allocates_nothing() {
    // A request `InitPin` whose PIN is declared with 2^63 bytes.
    let valid = encoded(&samples::envelope(Request::InitPin { pin: Secret::from(b"1".as_slice()) }));
    let mut forged = valid[..valid.len() - 2].to_vec();
    forged.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let (result, most) = largest(|| frame::decode::<RequestEnvelope>(&forged));
    assert_eq!(result, Err(FrameError::Malformed));
    assert!(most < 4096, "{most} bytes allocated");
}
