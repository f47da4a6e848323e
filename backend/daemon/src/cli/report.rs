//! The report of `kms doctor`: a list of checks, as text and as JSON.

use serde_json::{Value, json};

use super::failure::Failure;
use super::module_probe::Step;
use super::output;

/// The checks, in the order in which they were made.
#[derive(Default)]
pub(super) struct Report {
    checks: Vec<Check>,
}

struct Check {
    name: &'static str,
    outcome: Outcome,
}

enum Outcome {
    Passed(String),
    Failed(Failure),
    /// Passed, with something that the operator should do.
    Warned(Failure),
    NotChecked(String),
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, result: Result<String, Failure>) {
        let outcome = result.map_or_else(Outcome::Failed, Outcome::Passed);
        self.checks.push(Check { name, outcome });
    }

    /// Adds a check that passed with something that the operator should do: the exit code remains 0.
    pub(super) fn warn(&mut self, name: &'static str, warning: Failure) {
        self.checks.push(Check { name, outcome: Outcome::Warned(warning) });
    }

    pub(super) fn skip(&mut self, name: &'static str) {
        self.skip_because(name, "a check that it depends on failed");
    }

    pub(super) fn skip_because(&mut self, name: &'static str, why: &str) {
        self.checks.push(Check { name, outcome: Outcome::NotChecked(why.to_owned()) });
    }

    /// Whether this check was made and failed.
    pub(super) fn failed(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name && matches!(check.outcome, Outcome::Failed(_)))
    }

    fn has(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name)
    }

    pub(super) fn fail_module(&mut self, failure: Failure) {
        self.add(Step::Module.name(), Err(failure));
        self.skip_remaining_steps();
    }

    pub(super) fn skip_remaining_steps(&mut self) {
        for step in Step::ALL {
            if step != Step::End && !self.has(step.name()) {
                self.skip(step.name());
            }
        }
    }

    pub(super) fn all_passed(&self) -> bool {
        self.checks.iter().all(|check| !matches!(check.outcome, Outcome::Failed(_)))
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Check { name, outcome } in &self.checks {
            match outcome {
                Outcome::Passed(detail) => lines.push(format!("ok      {name:14} {detail}")),
                Outcome::NotChecked(why) => lines.push(format!("-       {name:14} not checked: {why}")),
                Outcome::Failed(failure) => {
                    lines.push(format!("FAILED  {name:14} {}", failure.what));
                    lines.push(format!("{:23}next: {}", "", failure.next));
                }
                Outcome::Warned(warning) => {
                    lines.push(format!("warning {name:14} {}", warning.what));
                    lines.push(format!("{:23}next: {}", "", warning.next));
                }
            }
        }
        lines.push(if self.all_passed() {
            "all checks passed".into()
        } else {
            "at least one check failed".into()
        });
        lines.into_iter().map(output::printable).collect()
    }

    pub(super) fn json(&self) -> Value {
        let checks = self.checks.iter().map(|Check { name, outcome }| match outcome {
            Outcome::Passed(detail) => json!({ "name": name, "state": "ok", "detail": detail }),
            Outcome::NotChecked(why) => json!({ "name": name, "state": "not checked", "detail": why }),
            Outcome::Warned(warning) => {
                json!({ "name": name, "state": "warning", "detail": warning.what, "next": warning.next })
            }
            Outcome::Failed(failure) => {
                json!({ "name": name, "state": "failed", "detail": failure.what, "next": failure.next })
            }
        });
        json!({ "ok": self.all_passed(), "checks": checks.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_check_is_not_a_failure() {
        let mut report = Report::default();
        report.skip_because("login", "no PIN");
        assert!(report.all_passed());
        assert_eq!(report.json()["checks"][0]["state"], "not checked");
    }

    #[test]
    fn a_warning_states_the_next_step_and_is_not_a_failure() {
        let mut report = Report::default();
        report.warn("pins", Failure::new("an old hash", "log in"));
        assert!(report.lines().join("\n").ends_with("next: log in\nall checks passed"));
        assert_eq!(report.json()["checks"][0]["state"], "warning");
        assert_eq!(report.json()["ok"], true);
    }

    #[test]
    fn a_failure_states_the_next_step() {
        let mut report = Report::default();
        report.add("socket", Err(Failure::new("no daemon listens", "start it")));
        assert!(report.lines().join("\n").ends_with("next: start it\nat least one check failed"));
        assert_eq!(report.json()["checks"][0]["next"], "start it");
        assert_eq!(report.json()["ok"], false);
    }
}
