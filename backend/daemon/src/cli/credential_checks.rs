//! Checks of credentials for `kms doctor`: what a copy of the database, or a reader of the home, could do with them.

use super::failure::Failure;
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
