//! What the doctor found: a list of checks, as text and as JSON.

use serde_json::{Value, json};

use super::failure::Failure;
use super::module_probe::Step;
use super::output;

/// What was found, in the order of looking.
#[derive(Default)]
pub(super) struct Report {
    checks: Vec<Check>,
}

struct Check {
    name: &'static str,
    outcome: Outcome,
}

enum Outcome {
    Well(String),
    Failed(Failure),
    NotChecked(String),
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, result: Result<String, Failure>) {
        let outcome = result.map_or_else(Outcome::Failed, Outcome::Well);
        self.checks.push(Check { name, outcome });
    }

    pub(super) fn skip(&mut self, name: &'static str) {
        self.skip_because(name, "what it needs failed");
    }

    pub(super) fn skip_because(&mut self, name: &'static str, why: &str) {
        self.checks.push(Check { name, outcome: Outcome::NotChecked(why.to_owned()) });
    }

    /// Whether this was looked at, and failed.
    pub(super) fn failed(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name && matches!(check.outcome, Outcome::Failed(_)))
    }

    fn has(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name)
    }

    pub(super) fn module_missing(&mut self, failure: Failure) {
        self.add(Step::Module.name(), Err(failure));
        self.skip_rest();
    }

    pub(super) fn skip_rest(&mut self) {
        for step in Step::ALL {
            if step != Step::End && !self.has(step.name()) {
                self.skip(step.name());
            }
        }
    }

    pub(super) fn is_well(&self) -> bool {
        self.checks.iter().all(|check| !matches!(check.outcome, Outcome::Failed(_)))
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Check { name, outcome } in &self.checks {
            match outcome {
                Outcome::Well(detail) => lines.push(format!("ok      {name:14} {detail}")),
                Outcome::NotChecked(why) => lines.push(format!("-       {name:14} not checked: {why}")),
                Outcome::Failed(failure) => {
                    lines.push(format!("FAILED  {name:14} {}", failure.what));
                    lines.push(format!("{:23}next: {}", "", failure.next));
                }
            }
        }
        lines.push(if self.is_well() { "all is well".into() } else { "something is wrong".into() });
        lines.into_iter().map(output::printable).collect()
    }

    pub(super) fn json(&self) -> Value {
        let checks = self.checks.iter().map(|Check { name, outcome }| match outcome {
            Outcome::Well(detail) => json!({ "name": name, "state": "ok", "detail": detail }),
            Outcome::NotChecked(why) => json!({ "name": name, "state": "not checked", "detail": why }),
            Outcome::Failed(failure) => {
                json!({ "name": name, "state": "failed", "detail": failure.what, "next": failure.next })
            }
        });
        json!({ "ok": self.is_well(), "checks": checks.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_checked_is_no_failure_of_its_own() {
        let mut report = Report::default();
        report.skip_because("login", "no PIN");
        assert!(report.is_well());
        assert_eq!(report.json()["checks"][0]["state"], "not checked");
    }

    #[test]
    fn a_failure_says_what_to_do_next() {
        let mut report = Report::default();
        report.add("socket", Err(Failure::new("no daemon listens", "start it")));
        assert!(report.lines().join("\n").ends_with("next: start it\nsomething is wrong"));
        assert_eq!(report.json()["checks"][0]["next"], "start it");
        assert_eq!(report.json()["ok"], false);
    }
}
