//! Checks of credentials for `kms doctor`: what a copy of the database, or a reader of the home, could do with them.

use super::failure::Failure;
use super::home::Home;
use super::report::Report;
use crate::service::Backend;

/// Reports PINs whose hash is not bound to the HSM.
pub(super) fn pins(backend: &Backend, report: &mut Report) {
    const NAME: &str = "pins";
    let principals = match backend.principals(None) {
        Ok(principals) => principals,
        Err(error) => return report.add(NAME, Err(error.into())),
    };
    let with_pin = principals.iter().filter(|principal| principal.has_pin);
    let (bound, unbound): (Vec<_>, Vec<_>) = with_pin.partition(|principal| principal.pin_bound);
    let Some(first) = unbound.first() else {
        let detail = format!("the hashes of {} PIN(s) are useless without the HSM's token", bound.len());
        return report.add(NAME, Ok(detail));
    };
    let what = format!(
        "the hashes of {} of {} PINs are of an earlier version: whoever has a copy of the database can guess them \
         (the first is that of {:?} in ring {:?})",
        unbound.len(),
        unbound.len() + bound.len(),
        first.name,
        first.ring
    );
    let next = "log in once as each principal that `kms account list --json` shows with pinBound false, or set its PIN \
                anew; then delete old backups";
    report.warn(NAME, Failure::new(what, next));
}

/// Reports the files with credentials that `kms init` wrote, while they are in the home.
pub(super) fn files(home: &Home, report: &mut Report) {
    const NAME: &str = "credentials";
    let (token, pins) = (home.admin_token(), home.credentials());
    let (mut left, mut next) = (Vec::new(), Vec::new());
    if token.exists() {
        left.push("admin.token (a token that never expires, of the owner of everything)");
        next.push(
            "store admin.token elsewhere, or replace it: `kms token create admin@default.sa.kms.local --expires-in 90d`, \
             then `kms token revoke admin@default.sa.kms.local init` and delete the file",
        );
    }
    if pins.exists() {
        left.push("credentials (PINs in plaintext)");
        next.push("store credentials elsewhere and delete it (then `kms doctor` needs --pin-file to log in)");
    }
    if left.is_empty() {
        return report.add(NAME, Ok("neither admin.token nor PINs are in the home".into()));
    }
    let what = format!(
        "{} in {} for whoever reads the home or its backup",
        left.join(" and "),
        home.path().display()
    );
    report.warn(NAME, Failure::new(what, next.join("; ")));
}
