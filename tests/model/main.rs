//! Random calls to two modules at once, ours on a compat ring and SoftHSM: they must answer alike, but for what
//! `differences` lists with its reason. SoftHSM is not right in everything; it is what applications are used to.
#![allow(missing_docs, reason = "tests")]

mod call;
mod differences;
mod world;

use kms_tests::softhsm::{self, SoftHsm};
use kms_tests::{Policy, Stack, child, program};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use call::Call;
use world::World;

/// Sequences tried; with their length chosen so that the suite stays within a minute.
const CASES: u32 = 150;

/// Calls in one sequence.
const CALLS: usize = 40;

#[test]
fn both_answer_alike() {
    if !child::is_child() && !program::installed(&["softhsm2-util", softhsm::MODULE]) {
        return;
    }
    // SoftHSM reads its configuration from the environment, which belongs to a process: so the body runs in a child,
    // with the token and the daemon made by the parent.
    let made = (!child::is_child()).then(|| (SoftHsm::new("test"), Stack::new(Policy::Compat)));
    let environment = made.as_ref().map(|(hsm, stack)| {
        let nothing = "/dev/null".into();
        let module = stack.module();
        [("SOFTHSM2_CONF", hsm.conf()), ("KMS_PKCS11_CONFIG", stack.config()), ("OPENSSL_CONF", nothing), (OURS, module)]
    });
    child::with_environment(environment.as_ref().map_or(&[], |set| set.as_slice()), || {
        let ours = kms_tests::artefacts::variable(OURS).expect("the parent names the module");
        let world = World::load(ours.as_ref(), softhsm::MODULE.as_ref());
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let calls = prop::collection::vec(call::any_call(), 1..CALLS);
        let result = runner.run(&calls, |calls| check(&world, &calls));
        assert!(result.is_ok(), "{}", result.expect_err("it failed"));
    });
}

/// In the child: our module.
const OURS: &str = "KMS_TESTS_MODEL_MODULE";

/// Runs one sequence on both.
fn check(world: &World, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut pair = world.clean();
    for (index, call) in calls.iter().enumerate() {
        let (ours, theirs) = pair.run(call);
        if ours == theirs {
            continue;
        }
        match differences::known(call, &ours, &theirs) {
            Some(differences::Then::GoOn) => {}
            // The two are in different states now; what follows says nothing.
            Some(differences::Then::Part) => return Ok(()),
            None => {
                let before = &calls[..index];
                let told = format!("{call:?}: ours {ours:?}, SoftHSM's {theirs:?}; before it: {before:#?}");
                return Err(TestCaseError::fail(told));
            }
        }
    }
    Ok(())
}
