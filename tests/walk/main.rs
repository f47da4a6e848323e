//! Random walks of calls through the C ABI, by somebody who has a login and wants the value of a sensitive key.
//!
//! `backend/src/dispatch/tests/walk.rs` walks at the dispatcher and keeps books on who can do what. Here everything that
//! an application has is in between, and one thing is watched: no output of any call holds a part of a protected value.
//! The same walk in a compat ring finds the published attacks; so it is not blind.
#![allow(missing_docs, reason = "tests")]

mod books;
mod chance;
mod look;
mod moves;
mod races;
mod steps;

use kms_tests::Stack;
use kms_tests::raw::Module;

use books::Escrow;
use steps::{Counts, Walk};

/// Seeds that are always walked. A seed that once found something is added, with what it found.
const SEEDS: [u64; 6] = [1, 2, 3, 4, 5, 6];

/// Moves of one walk; each is one to ten calls.
const MOVES: usize = 2_000;

/// Walks one seed; gives what came out, if something did.
fn walk(stack: &Stack, module: &Module, escrow: Option<&Escrow>, seed: u64) -> Result<Counts, String> {
    let mut walk = Walk::begin(module, stack.ring(), escrow, seed);
    for number in 0..MOVES {
        walk.take_a_move().map_err(|found| format!("seed {seed}, move {number}: {found}"))?;
    }
    Ok(walk.end())
}

/// The seeds, or the one that somebody asks for with `KMS_WALK_SEED`, or as many anew as with `KMS_WALKS`.
fn seeds() -> Vec<u64> {
    let number = |name| kms_tests::artefacts::variable(name).and_then(|text| text.to_str()?.parse().ok());
    match (number("KMS_WALK_SEED"), number("KMS_WALKS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(walks)) => (1000..1000 + walks).collect(),
        (None, None) => SEEDS.to_vec(),
    }
}

#[test]
fn no_walk_brings_a_sensitive_value_out_of_a_strict_ring() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let escrow = Escrow::new();
    escrow.install(&module.user(stack.ring()));
    let mut total = Counts::default();
    for seed in seeds() {
        let counts = walk(&stack, &module, Some(&escrow), seed).unwrap_or_else(|found| panic!("{found}"));
        total.add(&counts);
    }
    println!("{total:?}");
    // A walk that is refused everything proves nothing.
    assert!(total.refused < total.calls * 3 / 4, "{total:?}");
    let met = [total.protected, total.wraps, total.unwraps, total.derives, total.copies];
    assert!(met.into_iter().all(|count| count > 50), "{total:?}");
}

#[test]
fn the_same_walks_find_the_attacks_in_a_compat_ring() {
    let stack = Stack::compat();
    let module = Module::of(&stack);
    let found = SEEDS.iter().find_map(|seed| walk(&stack, &module, None, *seed).err());
    assert!(found.is_some(), "the walk is blind");
}
