//! What a restore brings back, as lines of text, and the question whether to restore nevertheless.

use std::io::{self, BufRead, IsTerminal, Write};

use super::output;
use crate::service::{Difference, RestorePlan};

/// How many things of a list are shown; JSON has all of them.
const SHOWN_MAX: usize = 100;

/// Shows the plan and asks at the terminal. Without a terminal nothing is confirmed; then the plan is the output.
pub(super) fn confirmed(plan: &RestorePlan, as_json: bool) -> bool {
    let (mut err, stdin) = (io::stderr().lock(), io::stdin());
    if as_json && !stdin.is_terminal() {
        output::json(&serde_json::json!({ "restored": false, "plan": plan.json() }));
        return false;
    }
    let mut write = |text: &str| {
        if let Err(error) = err.write_all(text.as_bytes()).and_then(|()| err.flush()) {
            tracing::debug!(%error, "cannot write the question");
        }
    };
    for line in lines(plan) {
        write(&format!("{line}\n"));
    }
    if !stdin.is_terminal() {
        return false;
    }
    write("restore nevertheless? [y/N] ");
    let mut answer = String::new();
    // An answer that cannot be read is none.
    let read = stdin.lock().read_line(&mut answer).is_ok();
    read && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// The plan as lines of text.
pub(super) fn lines(plan: &RestorePlan) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(reason) = &plan.not_compared {
        lines.push(format!(
            "what comes back is not known, because {reason}: PINs, accounts, roles, account keys and keys are those of the \
             copy, whatever was changed, revoked or erased since; check them with the list commands"
        ));
        lines.push(
            "each key counts 2^29 AES-GCM initialisation vectors as used since the copy; rotate keys that have encrypted \
             more messages since"
                .to_owned(),
        );
    }
    list(&mut lines, "comes back", &plan.returning, |item| {
        format!("{} (replaced database: {}; copy: {})", item.name, item.replaced, item.copy)
    });
    list(&mut lines, "ends", &plan.ended, |item| item.name.clone());
    list(&mut lines, "is lost", &plan.lost, |item| format!("{} ({})", item.name, item.replaced));
    lines.push(
        if plan.ends_logins {
            "all logins, session objects and access tokens end; applications log in again"
        } else {
            "logins, session objects, access tokens and credentials of the copy continue, whatever was revoked since"
        }
        .to_owned(),
    );
    lines
}

fn list(lines: &mut Vec<String>, verb: &str, items: &[Difference], text: impl Fn(&Difference) -> String) {
    let shown = items.iter().take(SHOWN_MAX);
    lines.extend(shown.map(|item| output::printable(format!("{verb}: {} {}", item.kind.text(), text(item)))));
    if items.len() > SHOWN_MAX {
        lines.push(format!("{verb}: {} more, which --json lists", items.len() - SHOWN_MAX));
    }
}
