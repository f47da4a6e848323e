//! A symbolic adversary against the policy (Dolev and Yao; Delaune, Kremer and Steel, "Formal Analysis of PKCS#11").
//!
//! It makes every object that takes up to a number of calls, from keys of every kind and with templates of every kind,
//! and closes what it knows under the equations between the primitives. The policy itself decides on every call. Objects
//! only ever add to what an attacker can do, so one world that has all of them at once contains every sequence of so
//! many calls that make objects, with any number of calls that use them.

mod calls;
mod kinds;
mod knowledge;
mod menu;
mod term;
mod world;

use kms_protocol::RingPolicy;

use menu::{ALL, Move};
use world::{Generates, Rules, World};

/// The calls that make objects in one sequence; generating a key is one. `make suites` asks for one more.
#[expect(clippy::disallowed_methods, reason = "a parameter of the test")]
fn calls() -> u32 {
    let calls = std::env::var_os("KMS_ADVERSARY_CALLS");
    calls.map_or(4, |calls| calls.to_str().and_then(|calls| calls.parse().ok()).expect("a number of calls"))
}

fn rules(policy: RingPolicy, moves: &[Move]) -> Rules {
    let generates = Generates { several_uses: true, only_aes: false };
    Rules { policy, moves: moves.to_vec(), generates, without_separate_derivation: false }
}

/// Searches for a broken promise; also returns how many objects there were.
fn search(rules: Rules, calls: u32) -> (Option<String>, usize) {
    let mut world = World::new(rules);
    world.first_calls();
    let mut broken = world.learn();
    for level in 2..=calls {
        if broken.is_some() {
            break;
        }
        world.level(level);
        broken = world.learn();
    }
    (broken, world.keys.len())
}

#[test]
fn no_value_comes_out_of_a_strict_ring() {
    let (broken, objects) = search(rules(RingPolicy::Strict, &ALL), calls());
    println!("{objects} objects by up to {} calls", calls());
    assert!(objects > 5_000, "{objects}: the adversary did not get far");
    assert_eq!(broken, None);
}

/// The attack that the rules of `policy::derivation` prevent: HKDF and the KDFs of SP 800-108 are HMAC and CMAC.
#[test]
fn a_key_that_derives_and_signs_is_found() {
    for moves in [&[Move::Derive, Move::Sign][..], &[Move::Derive, Move::Encrypt], &ALL] {
        let rules = Rules { without_separate_derivation: true, ..rules(RingPolicy::Strict, moves) };
        let (broken, _) = search(rules, calls());
        println!("{moves:?}: {broken:?}");
        assert!(broken.is_some(), "{moves:?}");
    }
}

/// The published attacks of `docs/attacks.md` that a compat ring allows, each with its own moves only.
#[test]
fn the_published_attacks_are_found_in_a_compat_ring() {
    let generates = Generates { several_uses: false, only_aes: true };
    let single = |moves: &[Move]| Rules { generates, ..rules(RingPolicy::Compat, moves) };
    let attacks = [
        ("wrap, then decrypt", rules(RingPolicy::Compat, &[Move::Wrap, Move::Decrypt])),
        (
            "encrypt a known key, unwrap it, wrap with it",
            rules(RingPolicy::Compat, &[Move::Encrypt, Move::Unwrap, Move::Wrap]),
        ),
        ("unwrap with a weaker template", single(&[Move::Wrap, Move::Unwrap, Move::UnwrapReadable])),
        ("unwrap as another type", single(&[Move::Wrap, Move::UnwrapAsOtherType, Move::Extract, Move::Sign])),
        ("wrap with a known key", single(&[Move::Create, Move::Wrap])),
        ("the padding as an oracle", single(&[Move::Wrap, Move::PaddingOracle])),
        ("a key changes its role", single(&[Move::Wrap, Move::Change, Move::Decrypt])),
    ];
    for (name, compat) in attacks {
        let (broken, _) = search(compat.clone(), 5);
        println!("{name}: {broken:?}");
        assert!(broken.is_some(), "{name} was not found");
        let strict = Rules { policy: RingPolicy::Strict, ..compat };
        assert_eq!(search(strict, 5).0, None, "{name}");
    }
}
