//! Decoding is total: whatever the bytes are, there is a value or an error, never a panic, and never an allocation
//! that the frame's own size does not justify.

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
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, remembering the largest request of this thread.
struct Watching;

#[allow(unsafe_code, reason = "a global allocator cannot be written without; it forwards to the system's")]
// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

/// The largest allocation while `work` runs, in bytes.
fn largest<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.with(|largest| largest.set(0));
    let result = work();
    (result, LARGEST.with(Cell::get))
}

fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Zeroizing::new(Vec::new());
    frame::encode(value, &mut bytes).expect("the sample fits in a frame");
    bytes[frame::HEADER_BYTES..].to_vec()
}

/// An element of a list is larger in memory than on the wire, at most by so much.
const GROWTH: usize = 256;

fn decode_all(bytes: &[u8]) {
    let ((), most) = largest(|| {
        let asked = frame::decode::<RequestEnvelope>(bytes);
        drop(asked);
        let answered = frame::decode::<ResponseEnvelope>(bytes);
        drop(answered);
        let greeted = frame::decode::<Hello>(bytes).is_ok() || frame::decode::<Welcome>(bytes).is_ok();
        std::hint::black_box(greeted);
    });
    // The fixed part is the largest list at its limit: 4,096 slots announced before one of them is read.
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
        let mut bytes = encoded(&samples::ask(requests.swap_remove(which % requests.len())));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decode_all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        decode_all(&bytes);
    }

    #[test]
    fn a_damaged_answer_gives_a_value_or_an_error(
        which in 0usize..16,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let answers = samples::answers();
        let mut bytes = encoded(&answers[which % answers.len()].1);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_all(&bytes);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_value(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(ask) = frame::decode::<RequestEnvelope>(&bytes) {
            prop_assert_eq!(frame::decode::<RequestEnvelope>(&encoded(&ask)), Ok(ask));
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    for request in samples::requests() {
        let bytes = encoded(&samples::ask(request));
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
fn a_length_beyond_the_limit_is_refused_before_it_is_read() {
    let beyond = u32::try_from(FRAME_BYTES_MAX + 1).expect("the limit fits in a header");
    assert_eq!(frame::length(beyond.to_le_bytes()), Err(FrameError::TooLarge));
    assert_eq!(frame::length(u32::MAX.to_le_bytes()), Err(FrameError::TooLarge));
    let too_much = samples::ask(Request::InitPin { pin: Secret::from(vec![0; FRAME_BYTES_MAX]) });
    assert_eq!(frame::encode(&too_much, &mut Zeroizing::new(Vec::new())), Err(FrameError::TooLarge));
}

#[test]
fn templates_nest_once_and_no_deeper() {
    let mut value = Value::Template(Nested::default());
    for depth in 1..64 {
        let attribute = Attribute { kind: AttributeType::WRAP_TEMPLATE, value: value.clone() };
        let ask = samples::ask(Request::Create { template: Template(vec![attribute.clone()]) });
        let decoded = frame::decode::<RequestEnvelope>(&encoded(&ask));
        assert_eq!(decoded.is_ok(), depth == 1, "{depth} templates in each other");
        value = Value::Template(Nested(vec![attribute]));
    }
}

#[test]
fn an_announced_length_beyond_the_frame_allocates_nothing() {
    // An ask for `InitPin` whose PIN claims to have 2^63 bytes.
    let honest = encoded(&samples::ask(Request::InitPin { pin: Secret::from(b"1".as_slice()) }));
    let mut lying = honest[..honest.len() - 2].to_vec();
    lying.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let (result, most) = largest(|| frame::decode::<RequestEnvelope>(&lying));
    assert_eq!(result, Err(FrameError::Malformed));
    assert!(most < 4096, "{most} bytes allocated");
}
