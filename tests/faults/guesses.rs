//! Wrong PINs: the delays that a guesser is given, through the socket.

use std::time::{Duration, Instant};

use kms_protocol::{Role, Rv};
use kms_tests::peer::Peer;
use kms_tests::{Stack, USER_PIN};

/// The delay before each answer to a wrong PIN, in milliseconds: the first three are free.
const DELAYS: [u64; 8] = [0, 0, 0, 250, 500, 1000, 2000, 4000];

/// What an answer may take besides its delay: argon2 on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// Guesses once; returns when the answer came.
fn guess(peer: &mut Peer, pin: &str) -> Instant {
    assert_eq!(peer.enter(Role::User, pin), Err(Rv::PIN_INCORRECT), "{pin}");
    now()
}

#[expect(clippy::disallowed_methods, reason = "delays are what is tested")]
fn now() -> Instant {
    Instant::now()
}

/// Asserts that answer number `number` came after its delay, counted from the answer before it, and not much later.
#[track_caller]
fn delayed(name: &str, number: usize, gap: Duration) {
    let delay = Duration::from_millis(DELAYS[number]);
    // The daemon counts the delay from a moment before its answer.
    assert!(gap + Duration::from_millis(50) >= delay, "answer {number} to {name} came after {gap:?}");
    assert!(gap < delay + SLACK, "answer {number} to {name} came after {gap:?}");
}

#[test]
fn names_that_exist_and_names_that_do_not_get_the_same_delays_also_after_a_restart() {
    let mut stack = Stack::strict();
    let ring = stack.ring().to_owned();
    stack.kms(&["account", "add", "alice", "--ring", &ring]).ok();
    let names = ["alice", "bob", "carol"];
    let answers: Vec<Vec<Instant>> = std::thread::scope(|scope| {
        let guessers = names.map(|name| {
            let mut peer = Peer::of(&stack);
            scope.spawn(move || (0..6).map(|_| guess(&mut peer, &format!("{name}:wrong"))).collect())
        });
        guessers.map(|guesser| guesser.join().expect("it ends")).into_iter().collect()
    });
    for (name, answers) in names.iter().zip(&answers) {
        for number in 1..answers.len() {
            delayed(name, number, answers[number] - answers[number - 1]);
        }
    }

    // A restart forgives neither.
    stack.kill9();
    stack.start();
    std::thread::scope(|scope| {
        for (name, answers) in names.iter().zip(&answers) {
            let mut peer = Peer::of(&stack);
            let last = *answers.last().expect("there are answers");
            scope.spawn(move || {
                let seventh = guess(&mut peer, &format!("{name}:wrong"));
                // The daemon's start is part of the gap: only the lower bound is certain.
                assert!(seventh - last + Duration::from_millis(50) >= Duration::from_millis(DELAYS[6]));
                let eighth = guess(&mut peer, &format!("{name}:wrong"));
                delayed(name, 7, eighth - seventh);
            });
        }
    });

    // One guess at each of many names is not delayed, whether the name exists or not, and slows nobody else.
    let mut peer = Peer::of(&stack);
    for name in ["dave", "erin", "frank", "grace", "heidi", "ivan", "so", "user"] {
        let started = now();
        delayed(name, 0, guess(&mut peer, &format!("{name}:wrong")) - started);
    }
    let started = now();
    peer.enter(Role::User, USER_PIN).expect("the user's PIN is right");
    assert!(started.elapsed() < SLACK, "the user waited for {:?}", started.elapsed());
}

#[test]
fn a_user_pin_with_a_colon_works_and_names_do_not_show_whether_the_user_has_a_pin() {
    let stack = Stack::strict();
    let mut peer = Peer::of(&stack);
    peer.enter(Role::User, USER_PIN).expect("the PIN is right");
    let secret = |pin: &str| kms_protocol::Secret::from(pin.as_bytes());
    let set = kms_protocol::Request::SetPin {
        role: Role::User,
        old: secret(USER_PIN),
        new: secret("colon:inside"),
    };
    peer.send(set).expect("the PIN is changed");
    peer.ticket = None;
    assert_eq!(peer.enter(Role::User, "colon:outside"), Err(Rv::PIN_INCORRECT));
    peer.enter(Role::User, "colon:inside").expect("the PIN is right");
    // `C_InitToken` leaves a user without a PIN.
    peer.ticket = None;
    let label = stack.ring().to_owned();
    let pin = secret(kms_tests::SO_PIN);
    peer.send(kms_protocol::Request::InitToken { pin, label }).expect("the officer's PIN is right");
    assert_eq!(peer.enter(Role::User, "1234"), Err(Rv::USER_PIN_NOT_INITIALIZED));
    for name in ["alice:1234", "bob:1234"] {
        assert_eq!(peer.enter(Role::User, name), Err(Rv::PIN_INCORRECT));
    }
}
