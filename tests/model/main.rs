//! Random sequences of calls to two modules, the KMS with a compat ring and SoftHSM: they must return the same results,
//! except for the differences that `differences` lists with reasons. SoftHSM is not always right, but it is what
//! applications are used to. `proptest` generates the sequences and shrinks a failing one.
//!
//! `cargo test -p kms-tests --test model`; needs SoftHSM.
#![allow(missing_docs, reason = "tests")]

mod call;
mod differences;
mod pair;

use std::time::{Duration, Instant};

use kms_softhsm::SoftHsm;
use kms_tests::{Policy, SO_PIN, Stack, USER_PIN, child, program};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use call::Call;
use differences::{AfterDifference, Case};
use pair::LoadedModules;

/// The maximum number of sequences.
const CASES: u32 = 300;

/// No new sequence starts after this time, so that the suite takes less than a minute on a busy machine.
const TIME: Duration = Duration::from_secs(40);

/// The maximum number of calls in a sequence.
const CALLS: usize = 40;

#[test]
fn both_modules_return_the_same_results() {
    if !child::is_child() && !program::installed(&["softhsm2-util", kms_softhsm::MODULE]) {
        return;
    }
    // SoftHSM reads its configuration from the environment, which is per process, so the body runs in a child; the
    // parent creates the token and the daemon.
    let parent =
        (!child::is_child()).then(|| (SoftHsm::new("test", USER_PIN, SO_PIN), Stack::new(Policy::Compat)));
    let environment = parent.as_ref().map(|(hsm, stack)| {
        let nothing = "/dev/null".into();
        let module = stack.module();
        [
            ("SOFTHSM2_CONF", hsm.conf()),
            ("KMS_PKCS11_CONFIG", stack.config()),
            ("OPENSSL_CONF", nothing),
            (MODULE_VARIABLE, module),
        ]
    });
    child::with_environment(environment.as_ref().map_or(&[], |set| set.as_slice()), || {
        let module = kms_tests::artefacts::variable(MODULE_VARIABLE).expect("the parent names the module");
        let modules = LoadedModules::load(module.as_ref(), kms_softhsm::module());
        let mut runner =
            TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let calls = call::sequence(CALLS);
        let started = now();
        let result = runner
            .run(&calls, |calls| if started.elapsed() > TIME { Ok(()) } else { check(&modules, &calls) });
        assert!(result.is_ok(), "{}", result.expect_err("it failed"));
    });
}

/// The environment variable that names the KMS's module in the child.
const MODULE_VARIABLE: &str = "KMS_TESTS_MODEL_MODULE";

#[expect(clippy::disallowed_methods, reason = "the suite's time is limited")]
fn now() -> Instant {
    Instant::now()
}

/// Runs one sequence on both modules.
fn check(modules: &LoadedModules, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut pair = modules.clean();
    for (index, call) in calls.iter().enumerate() {
        let (kms, softhsm) = pair.run(call);
        if kms == softhsm {
            continue;
        }
        let case = Case { before: &calls[..index], call, kms, softhsm };
        match case.known() {
            Some(AfterDifference::Continue) => {}
            // The modules are in different states now; further results cannot be compared.
            Some(AfterDifference::Stop) => return Ok(()),
            None => {
                let Case { before, call, kms, softhsm } = case;
                let message =
                    format!("{call:?}: KMS {kms:?}, SoftHSM {softhsm:?}; calls before it: {before:#?}");
                return Err(TestCaseError::fail(message));
            }
        }
    }
    Ok(())
}
