//! Connections: nobody is shut out by a peer that opens as many as it can, whether or not the peer is logged in.

use std::time::Duration;

use kms_protocol::{Request, Role, Rv, Secret};
use kms_tests::client::Client;
use kms_tests::peer::{Peer, open_to_all_users};
use kms_tests::program::runs_as_root;
use kms_tests::{Policy, Stack};

/// The hostile user.
const HOSTILE: u32 = 40_001;

/// The first of several other users.
const OTHERS: u32 = 40_002;

/// A stack with few connections that all users of the machine can reach. `None` if this process may not be others.
fn stack(connections_max: &str) -> Option<Stack> {
    if !runs_as_root("takes the ids of other users") {
        return None;
    }
    let mut stack = Stack::stopped(Policy::Strict);
    open_to_all_users(&stack);
    stack.configure("socket", "connections_max", connections_max);
    stack.start();
    Some(stack)
}

/// Waits until this many of the connections are closed.
#[track_caller]
fn assert_closed(peers: &mut [Peer], expected: usize) {
    let mut closed = 0;
    for _ in 0..500 {
        closed = peers.iter_mut().map(Peer::is_closed).filter(|closed| *closed).count();
        if closed >= expected {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(closed, expected, "closed connections");
}

#[test]
fn a_user_with_many_connections_shuts_out_nobody() {
    // Four for each user, of which two places are kept for root.
    let Some(stack) = stack("16") else { return };
    let mut hostile: Vec<_> = (0..40)
        .map(|number| Peer::connect(&stack.socket(), HOSTILE).unwrap_or_else(|| panic!("{number}")))
        .collect();
    assert_closed(&mut hostile, 36);
    // Each of four other users gets four, although that is more than there are places.
    let mut others: Vec<_> = (0..4)
        .flat_map(|user| std::iter::repeat_n(OTHERS + user, 4))
        .map(|user| Peer::connect(&stack.socket(), user).unwrap_or_else(|| panic!("{user} is shut out")))
        .collect();
    // A user that was not there before still gets in, and can log in.
    let mut newcomer = Peer::connect(&stack.socket(), OTHERS + 9).expect("a newcomer is shut out");
    newcomer.log_in(0, kms_tests::USER_PIN).expect("it is answered").expect("it logs in");
    // So do root's applications and the doctor.
    let client = Client::user(&stack);
    client.session.find_objects(&[]).expect("a search");
    let module = stack.module();
    stack.kms(&["doctor", "--module", module.to_str().expect("a path")]).ok();
    let open = others.iter_mut().chain(&mut hostile).map(Peer::is_closed).filter(|closed| !closed).count();
    assert!(open < 16, "{open} connections are open");
}

#[test]
fn a_connection_with_a_request_in_flight_is_not_closed() {
    let Some(stack) = stack("8") else { return };
    let wrong = || Request::Login { role: Role::User, pin: Secret::from(b"9999".as_slice()) };
    let mut guesser = Peer::connect(&stack.socket(), OTHERS).expect("it gets in");
    for _ in 0..5 {
        assert_eq!(guesser.call(0, wrong()).expect("an answer"), Err(Rv::PIN_INCORRECT));
    }
    // Wrong PINs are delayed, by half a second after five: this request is in flight while others come.
    guesser.request(0, wrong()).expect("the request is sent");
    std::thread::sleep(Duration::from_millis(50));
    let flood: Vec<_> = (0..40).map(|number| Peer::connect(&stack.socket(), HOSTILE + 10 + number)).collect();
    assert!(flood.iter().all(Option::is_some), "idle connections give way");
    assert_eq!(guesser.response().expect("the request in flight is answered"), Err(Rv::PIN_INCORRECT));
}

#[test]
fn an_application_whose_idle_connection_was_closed_does_not_notice() {
    let Some(stack) = stack("8") else { return };
    let client = Client::user(&stack);
    for round in 0..5 {
        // Root's connection is the longest idle one of these, and no user has more than one.
        let flood: Vec<_> =
            (0..20).map(|number| Peer::connect(&stack.socket(), HOSTILE + 10 + number)).collect();
        assert!(flood.iter().all(Option::is_some), "round {round}");
        client.session.find_objects(&[]).expect("the module connects again");
    }
}

#[test]
fn connections_that_are_all_in_use_are_kept_and_others_are_told() {
    let Some(stack) = stack("8") else { return };
    let wrong = || Request::Login { role: Role::User, pin: Secret::from(b"9999".as_slice()) };
    // Two for each user: the second waits for the first one's delay.
    let mut busy: Vec<_> =
        (0..2).map(|_| Peer::connect(&stack.socket(), HOSTILE).expect("it gets in")).collect();
    for _ in 0..6 {
        assert_eq!(busy[0].call(0, wrong()).expect("an answer"), Err(Rv::PIN_INCORRECT));
    }
    for peer in &mut busy {
        peer.request(0, wrong()).expect("the request is sent");
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(Peer::connect(&stack.socket(), HOSTILE).is_none(), "its share is in use");
    assert!(Peer::connect(&stack.socket(), OTHERS).is_some(), "others are not affected");
    for peer in &mut busy {
        assert_eq!(peer.response().expect("an answer"), Err(Rv::PIN_INCORRECT));
    }
    let log = kms_tests::daemon::read_log(&stack.log());
    assert!(log.contains("a connection was rejected") && log.contains("uid=40001"), "{log}");
}

#[test]
fn a_frame_that_arrives_byte_by_byte_times_out_as_a_whole() {
    let Some(stack) = stack("8") else { return };
    let mut peer = Peer::connect(&stack.socket(), HOSTILE).expect("it gets in");
    peer.send_raw(&1000_u32.to_le_bytes()).expect("the header is sent");
    // Each byte comes before the timeout for the next one; the frame as a whole does not.
    for _ in 0..12 {
        if peer.send_raw(&[0]).is_err() || peer.is_closed() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2500));
    }
    panic!("the connection is open after 30 seconds");
}
