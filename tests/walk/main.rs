//! Random walks of calls through the C ABI by an attacker who has a login and wants the value of a sensitive key.
//!
//! `backend/daemon/src/dispatch/pkcs11/tests/walk.rs` does the same at the dispatcher, with a ledger of every key
//! value. This suite uses the module as an application does, and checks one property: no output of any call contains a
//! part of a protected value. In a compat ring the same walks find the published attacks, which shows that the check
//! works.
//!
//! One walk: `KMS_WALK_SEED=3 cargo test -p kms-tests --test walk no_walk`; `KMS_WALKS=100` walks 100 other seeds.
#![allow(missing_docs, reason = "tests")]

mod attributes;
mod derivations;
mod key_steps;
mod ledger;
mod races;
mod rng;
mod walk;

use kms_tests::Stack;
use kms_tests::raw::Module;

use ledger::EscrowKey;
use walk::{Counts, Walk};

/// The seeds of a normal run. A seed that finds something is added, with a comment on what it found.
const SEEDS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// Steps of one walk; each is one to ten calls.
const STEPS: usize = 2_000;

/// Runs the walk of one seed; an error describes the violation that was found.
fn run_walk(stack: &Stack, module: &Module, escrow: Option<&EscrowKey>, seed: u64) -> Result<Counts, String> {
    let mut walk = Walk::begin(module, stack.ring(), escrow, seed);
    for number in 0..STEPS {
        walk.step().map_err(|violation| format!("seed {seed}, step {number}: {violation}"))?;
    }
    Ok(walk.end())
}

/// The seed in `KMS_WALK_SEED`, else as many other seeds as `KMS_WALKS` says, else [`SEEDS`].
fn seeds() -> Vec<u64> {
    let number = |name| kms_tests::artefacts::variable(name).and_then(|text| text.to_str()?.parse().ok());
    match (number("KMS_WALK_SEED"), number("KMS_WALKS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(walks)) => (1000..1000 + walks).collect(),
        (None, None) => SEEDS.to_vec(),
    }
}

#[test]
fn no_walk_reveals_a_sensitive_value_of_a_strict_ring() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let escrow = EscrowKey::new();
    escrow.install(&module.user(stack.ring()));
    let mut total = Counts::default();
    for seed in seeds() {
        let counts =
            run_walk(&stack, &module, Some(&escrow), seed).unwrap_or_else(|violation| panic!("{violation}"));
        total.add(&counts);
    }
    println!("{total:?}");
    // A walk whose calls are all rejected proves nothing.
    assert!(total.refused < total.calls * 3 / 4, "{total:?}");
    let counts = [
        total.protected,
        total.wraps,
        total.unwraps,
        total.derives,
        total.copies,
        total.computed,
        total.asked,
    ];
    assert!(counts.into_iter().all(|count| count > 50), "{total:?}");
}

/// The equations alone: in a compat ring, a key that derives also signs.
#[test]
fn a_walk_of_derivations_finds_a_derived_value_in_a_compat_ring() {
    let stack = Stack::compat();
    let module = Module::of(&stack);
    let violation = SEEDS.iter().find_map(|seed| {
        let mut walk = Walk::begin(&module, stack.ring(), None, *seed);
        (0..STEPS).find_map(|_| walk.derivation_step().err())
    });
    let violation = violation.expect("a MAC is the value of a derived key");
    assert!(violation.starts_with("C_Sign returns"), "{violation}");
}

#[test]
fn the_same_walks_find_the_attacks_in_a_compat_ring() {
    let stack = Stack::compat();
    let module = Module::of(&stack);
    let violation = SEEDS.iter().find_map(|seed| run_walk(&stack, &module, None, *seed).err());
    assert!(violation.is_some(), "no walk finds an attack");
}
