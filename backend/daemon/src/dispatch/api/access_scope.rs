//! `access_scope: SNA`: such a key is used and changed from the networks in `[rest] sna_networks` only
//! (`docs/decisions/0054`). Providers connect to a Unix socket of this machine, which is inside.

use kms_core::api::{AccessScope, NetworkArea, Operation, Problem, RequestContext, Status, Subject};
use kms_core::audit::Kind;
use kms_protocol::RingId;
use kms_store::StoreError;
use uuid::Uuid;

use super::Dispatch;
use super::audit_events::operation_entry;
use super::failure::Failure;

/// What an operator does so that keys can have the scope.
const NEXT: &str = "set [rest] sna_networks in kms.toml, for example [\"10.0.0.0/8\"]";

impl Dispatch {
    /// Checks that a key whose scope is SNA is used from inside. A denial is in the audit log before the response is
    /// sent.
    ///
    /// # Errors
    /// 400 for a new key with a scope that is bound to no networks; 403 for a client that is not inside.
    pub(super) fn check_access_scope(
        &self,
        context: &RequestContext,
        operation: &Operation,
    ) -> Result<(), Problem> {
        if context.area == NetworkArea::Unbound && creates_sna_key(operation) {
            let message = format!(
                "access_scope SNA is not available here, because it is bound to no networks: use PUBLIC, or {NEXT}"
            );
            return Err(Problem::malformed(message));
        }
        if context.area == NetworkArea::Inside || operation.is_read() {
            return Ok(());
        }
        let failed = |error: Failure| error.problem(operation.event(), &operation.subject().resource());
        let mut keys = keys_of(operation).into_iter().flatten();
        if !keys
            .try_fold(false, |found, (ring, key)| Ok(found || self.is_sna_key(ring, key)?))
            .map_err(failed)?
        {
            return Ok(());
        }
        let status = Status::Forbidden;
        let denied =
            operation_entry(context, operation, self.clock.millis(), Kind::PolicyDenied, status.code());
        self.record_denial(denied).map_err(|error| failed(error.into()))?;
        let message = match context.area {
            NetworkArea::Unbound => {
                format!("the key's access_scope is SNA, which is bound to no networks here: {NEXT}")
            }
            NetworkArea::Outside | NetworkArea::Inside => {
                "the key's access_scope is SNA, and this call comes from outside of those networks ([rest] \
                 sna_networks in kms.toml)"
                    .to_owned()
            }
        };
        Err(Problem::new(status, message))
    }

    /// Whether a key has the scope. A key that does not exist has none: the operation itself answers 404.
    fn is_sna_key(&self, ring: Uuid, key: Uuid) -> Result<bool, Failure> {
        match self.store.known(RingId(ring.into_bytes()), key) {
            Ok(record) => Ok(record.metadata.access_scope == AccessScope::Sna),
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn creates_sna_key(operation: &Operation) -> bool {
    if let Operation::CreateKey { ask, .. } = operation {
        ask.access_scope == AccessScope::Sna
    } else if let Operation::CreateWrappingKey { ask, .. } = operation {
        ask.access_scope == AccessScope::Sna
    } else {
        false
    }
}

/// The keys that an operation uses or changes, each with its ring: that of its path, and for an import the wrapping key.
fn keys_of(operation: &Operation) -> [Option<(Uuid, Uuid)>; 2] {
    let own = match operation.subject() {
        Subject::Project(_) | Subject::Ring(_) => None,
        Subject::Key(path) => Some((path.ring.ring, path.key)),
        Subject::Version(path) => Some((path.key.ring.ring, path.key.key)),
        Subject::WrappingKey(path) => Some((path.ring.ring, path.key)),
    };
    let wrapping = if let Operation::ImportKey { key, ask } = operation {
        Some((key.ring.ring, ask.wrapping_key))
    } else {
        None
    };
    [own, wrapping]
}
