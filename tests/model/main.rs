//! Random calls to two modules at once, ours on a compat ring and SoftHSM: they must answer alike, but for what
//! `differences` lists with its reason. SoftHSM is not right in everything; it is what applications are used to.
#![allow(missing_docs, reason = "tests")]

mod call;
mod differences;
mod world;

use std::time::{Duration, Instant};

use kms_softhsm::SoftHsm;
use kms_tests::{Policy, SO_PIN, Stack, USER_PIN, child, program};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use call::Call;
use differences::{Case, Then};
use world::World;

/// Sequences tried, at most.
const CASES: u32 = 300;

/// No new sequence is begun after so long: the suite stays within a minute on a busy machine.
const TIME: Duration = Duration::from_secs(40);

/// Calls in one sequence.
const CALLS: usize = 40;

#[test]
fn both_answer_alike() {
    if !child::is_child() && !program::installed(&["softhsm2-util", kms_softhsm::MODULE]) {
        return;
    }
    // SoftHSM reads its configuration from the environment, which belongs to a process: so the body runs in a child,
    // with the token and the daemon made by the parent.
    let made =
        (!child::is_child()).then(|| (SoftHsm::new("test", USER_PIN, SO_PIN), Stack::new(Policy::Compat)));
    let environment = made.as_ref().map(|(hsm, stack)| {
        let nothing = "/dev/null".into();
        let module = stack.module();
        [
            ("SOFTHSM2_CONF", hsm.conf()),
            ("KMS_PKCS11_CONFIG", stack.config()),
            ("OPENSSL_CONF", nothing),
            (OURS, module),
        ]
    });
    child::with_environment(environment.as_ref().map_or(&[], |set| set.as_slice()), || {
        let ours = kms_tests::artefacts::variable(OURS).expect("the parent names the module");
        let world = World::load(ours.as_ref(), kms_softhsm::module());
        let mut runner =
            TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let calls = call::sequence(CALLS);
        let started = now();
        let result =
            runner.run(&calls, |calls| if started.elapsed() > TIME { Ok(()) } else { check(&world, &calls) });
        assert!(result.is_ok(), "{}", result.expect_err("it failed"));
    });
}

/// In the child: our module.
const OURS: &str = "KMS_TESTS_MODEL_MODULE";

#[expect(clippy::disallowed_methods, reason = "the suite's time is limited")]
fn now() -> Instant {
    Instant::now()
}

/// Runs one sequence on both.
fn check(world: &World, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut pair = world.clean();
    for (index, call) in calls.iter().enumerate() {
        let (ours, theirs) = pair.run(call);
        if ours == theirs {
            continue;
        }
        let case = Case { before: &calls[..index], call, ours, theirs };
        match case.known() {
            Some(Then::GoOn) => {}
            // The two are in different states now; what follows says nothing.
            Some(Then::Part) => return Ok(()),
            None => {
                let Case { before, call, ours, theirs } = case;
                let told = format!("{call:?}: ours {ours:?}, SoftHSM's {theirs:?}; before it: {before:#?}");
                return Err(TestCaseError::fail(told));
            }
        }
    }
    Ok(())
}
