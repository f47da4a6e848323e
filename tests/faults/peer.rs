//! A peer that violates the protocol loses its connection; the daemon and other connections are not affected.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kms_protocol::frame::{self, VERSION, VERSION_OLDEST};
use kms_protocol::{Hello, Welcome};
use kms_tests::Stack;
use kms_tests::client::Client;
use zeroize::Zeroizing;

fn connect(stack: &Stack) -> UnixStream {
    let stream = UnixStream::connect(stack.socket()).expect("the daemon listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
    stream
}

fn frame_of(hello: Hello) -> Vec<u8> {
    let mut frame = Zeroizing::new(Vec::new());
    frame::encode(&hello, &mut frame).expect("a hello fits into a frame");
    frame.to_vec()
}

fn receive(stream: &mut UnixStream) -> Vec<u8> {
    let mut header = [0; frame::HEADER_BYTES];
    stream.read_exact(&mut header).expect("a frame header arrives");
    let mut body = vec![0; frame::length(header).expect("a length within the limit")];
    stream.read_exact(&mut body).expect("a frame body arrives");
    body
}

/// Asserts that the daemon closes the connection.
#[track_caller]
fn assert_closed(mut stream: UnixStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the daemon does not close the connection: {error}"),
    }
}

/// Sends bytes after a successful hello; the daemon must close the connection.
#[track_caller]
fn send_after_hello(stack: &Stack, bytes: &[u8]) {
    let mut stream = connect(stack);
    stream.write_all(&frame_of(Hello::ours())).expect("the hello is sent");
    let body = receive(&mut stream);
    assert_eq!(frame::decode::<Welcome>(&body), Ok(Welcome::Version(VERSION)));
    // The daemon may close before all of it is sent.
    stream.write_all(bytes).unwrap_or_default();
    assert_closed(stream);
}

#[test]
fn invalid_frames_close_only_their_connection() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    for first in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0; 64], &[0xff; 64], &u32::MAX.to_le_bytes()] {
        let mut stream = connect(&stack);
        stream.write_all(first).unwrap_or_default();
        assert_closed(stream);
    }
    send_after_hello(&stack, &u32::MAX.to_le_bytes());
    send_after_hello(&stack, &[&20_u32.to_le_bytes()[..], &[0xff; 20]].concat());
    send_after_hello(&stack, &[&4_u32.to_le_bytes()[..], &[0x80; 4]].concat());
    send_after_hello(&stack, &0_u32.to_le_bytes());
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..200 {
        let garbage: Vec<u8> = (0..100)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                u8::try_from(seed & 0xff).expect("a byte")
            })
            .collect();
        send_after_hello(&stack, &[&100_u32.to_le_bytes()[..], &garbage].concat());
    }
    assert!(stack.daemon().ended().is_none(), "the daemon still runs");
    client.session.find_objects(&[]).expect("other connections still work");
}

#[test]
fn an_incomplete_frame_times_out() {
    let stack = Stack::strict();
    let mut stream = connect(&stack);
    stream.write_all(&frame_of(Hello::ours())[..5]).expect("half a hello is sent");
    assert_closed(stream);
}

#[test]
fn an_unsupported_version_gets_the_supported_range() {
    let stack = Stack::strict();
    for hello in [
        Hello { oldest: VERSION + 1, newest: VERSION + 5, ..Hello::ours() },
        Hello { magic: *b"nope", ..Hello::ours() },
    ] {
        let mut stream = connect(&stack);
        stream.write_all(&frame_of(hello)).expect("the hello is sent");
        let body = receive(&mut stream);
        let welcome = frame::decode::<Welcome>(&body).expect("a welcome");
        assert!(
            matches!(welcome, Welcome::Unsupported { oldest, newest } if oldest <= newest),
            "{welcome:?}"
        );
        assert_closed(stream);
    }
}

#[test]
fn a_provider_of_the_oldest_version_is_accepted() {
    let stack = Stack::strict();
    let mut stream = connect(&stack);
    let hello = Hello { oldest: VERSION_OLDEST, newest: VERSION_OLDEST, ..Hello::ours() };
    stream.write_all(&frame_of(hello)).expect("the hello is sent");
    assert_eq!(frame::decode::<Welcome>(&receive(&mut stream)), Ok(Welcome::Version(VERSION_OLDEST)));
}
