//! The operations of the KMS API. This file checks permissions and passes each operation on:
//!
//! - `rings`: key rings, and the amounts of a project; `lists`: every list, whole or in pages.
//! - `keys`: create, edit, rotate, delete, restore; `versions`: enable, disable, destroy, restore.
//! - `key_drafts`: the PKCS#11 objects of a new key; `wrapping`: wrapping keys, and import under them.
//! - `crypto`: encrypt, decrypt, re-encrypt, sign, verify, data keys.
//! - `expiry`: the background jobs: erasure and automatic rotation.
//! - `reports`: audit log, usage and the start of an export; `export`: the export itself, and usage for the commands.
//! - `access_scope`: keys that may be used from some networks only.
//! - `views`: the API's response types from records of the store; `failure`: errors as problems.
//! - `audit_events`: the audit entries of operations and background jobs.

mod access_scope;
mod audit_events;
mod crypto;
mod expiry;
mod export;
mod failure;
mod key_drafts;
mod keys;
mod lists;
pub(in crate::dispatch) mod reports;
mod rings;
#[cfg(test)]
mod tests;
mod versions;
mod views;
mod wrapping;

use std::sync::Arc;

use kms_core::api::{Operation, Outcome, Problem, Purpose, RequestContext, RingPath, Status};
use kms_core::audit::Kind;
use kms_core::object::{Caller, Login, LoginId, RingRole};
use kms_core::policy;
use kms_protocol::RingId;
use kms_store::Ring;
use uuid::Uuid;

use super::Dispatch;
use super::audit_writer::RestKeyUse;
use audit_events::{entry_for, operation_entry};
use failure::Failure;

pub use export::{ExportError, PendingExport};

/// A ring and its project, resolved from a path.
struct ResolvedRing {
    ring: Arc<Ring>,
    project: Uuid,
}

impl Dispatch {
    /// Performs one operation. It blocks for the database, the HSM, or a long computation.
    ///
    /// # Errors
    /// The problem for the response. Internal failures are logged here, once.
    pub fn serve(&self, context: &RequestContext, operation: Operation) -> Result<Outcome, Problem> {
        self.authorise(context, &operation)?;
        self.check_access_scope(context, &operation)?;
        let (event, subject) = (operation.event(), operation.subject());
        let key_use = RestKeyUse::of(&operation);
        let to_problem = |failure: Failure| failure.problem(event, &subject.resource());
        let result = self.perform(context, operation).map_err(to_problem);
        if let Some(key_use) = key_use {
            self.record_rest_use(context, key_use, &result).map_err(|error| to_problem(error.into()))?;
        }
        result
    }

    /// Whether an operation takes some microseconds and needs only memory, so that the listener does not have to move
    /// it to a thread that may block.
    pub fn is_quick(&self, operation: &Operation) -> bool {
        let (Operation::Encrypt { version, .. }
        | Operation::Decrypt { version, .. }
        | Operation::Sign { version, .. }
        | Operation::Verify { version, .. }) = operation
        else {
            return false;
        };
        let number = u32::try_from(version.number).unwrap_or(0);
        let mut object = None;
        let in_memory = self.store.remembers(version.key.key, |key| {
            let is_fast = key.metadata.algorithm.is_some_and(|algorithm| match algorithm.purpose() {
                Purpose::SymmetricEncryptDecrypt | Purpose::MessageAuthenticationCode => true,
                Purpose::AsymmetricEncryptDecrypt | Purpose::AsymmetricSignVerify => false,
            });
            object = key.version(number).and_then(|version| version.hidden).filter(|_| is_fast);
            object
        });
        in_memory && object.is_some_and(|object| self.keys.is_open(object))
    }

    /// Checks the permissions of the caller. A denial is in the audit log before the response is sent.
    fn authorise(&self, context: &RequestContext, operation: &Operation) -> Result<(), Problem> {
        let subject = operation.subject();
        let (project, ring) = (subject.project(), subject.ring());
        let grants = &context.account.grants;
        // The list of rings contains those that the caller may see, so a role in one of them suffices.
        let is_list = matches!(operation, Operation::ListKeyRings { .. });
        let missing = operation.permissions().iter().find(|permission| {
            let somewhere = is_list && policy::allowed_somewhere(grants, **permission, project);
            !somewhere && !policy::allowed(grants, **permission, project, ring)
        });
        let Some(missing) = missing else { return Ok(()) };
        let status = Status::Forbidden;
        let denied =
            operation_entry(context, operation, self.clock.millis(), Kind::PolicyDenied, status.code());
        self.record_denial(denied)
            .map_err(|error| Failure::from(error).problem(operation.event(), &subject.resource()))?;
        let message =
            format!("{} is not permitted {missing} here; ask for a role that has it", context.account.email);
        Err(Problem::new(status, message))
    }

    fn perform(&self, context: &RequestContext, operation: Operation) -> Result<Outcome, Failure> {
        let (event, success) = ((operation.event(), operation.subject()), operation.success());
        let entry = || entry_for(context, event, self.clock.millis(), Kind::AdminActivity, success);
        match operation {
            Operation::ListKeyRings { project, page } => self.list_rings(context, project, &page),
            Operation::CreateKeyRing { project, ask, repeat } => {
                self.create_key_ring(project, ask, repeat, entry())
            }
            Operation::GetKeyRing(path) => {
                let resolved = self.resolve_ring(path)?;
                Ok(Outcome::KeyRing(views::ring(&resolved.ring)))
            }
            Operation::DeleteKeyRing(path) => self.delete_key_ring(path, entry()),
            Operation::EditKeyRing { ring, ask } => self.edit_key_ring(ring, ask, entry()),
            Operation::ListKeys { ring, page } => self.list_keys(ring, &page),
            Operation::CreateKey { ring, ask, repeat } => {
                self.create_key(context, ring, ask, repeat, entry())
            }
            Operation::GetKey(path) => {
                let resolved = self.resolve_ring(path.ring)?;
                Ok(Outcome::Key(views::key(&*self.key(&resolved, path.key)?)?))
            }
            Operation::DeleteKey(path) => self.delete_key(path, entry()),
            Operation::EditKey { key, ask } => self.edit_key(key, ask, entry()),
            Operation::ImportKey { key, ask } => self.import_key(context, key, &ask, entry()),
            Operation::RestoreKey(path) => self.restore_key(path, entry()),
            Operation::RotateKey(path) => self.rotate_key(context, path, entry()),
            Operation::ListVersions { key, page } => self.list_versions(key, &page),
            Operation::GetVersion(path) => self.version(path).map(Outcome::Version),
            Operation::DestroyVersion(path) => self.change(path, kms_core::api::Change::Destroy, entry()),
            Operation::DisableVersion(path) => self.change(path, kms_core::api::Change::Disable, entry()),
            Operation::EnableVersion(path) => self.change(path, kms_core::api::Change::Enable, entry()),
            Operation::RestoreVersion(path) => self.change(path, kms_core::api::Change::Restore, entry()),
            Operation::Encrypt { version, data, aad } => {
                self.encrypt_with_version(context, version, &data, &aad)
            }
            Operation::Decrypt { version, data, aad } => {
                self.decrypt_with_version(context, version, &data, &aad)
            }
            Operation::Sign { version, data } => self.sign_with_version(context, version, &data),
            Operation::Verify { version, data, signature } => {
                self.verify_with_version(context, version, &data, &signature)
            }
            Operation::EncryptCurrent { key, data, aad } => {
                self.encrypt_with_current(context, key, &data, &aad)
            }
            Operation::DecryptAny { key, data, aad } => self.decrypt_any(context, key, &data, &aad),
            Operation::ReEncrypt { key, data, aad } => self.re_encrypt(context, key, &data, &aad),
            Operation::MakeDataKey { key, ask } => self.make_data_key(context, key, &ask),
            Operation::ListWrappingKeys { ring, page } => self.list_wrapping_keys(ring, &page),
            Operation::CreateWrappingKey { ring, ask, repeat } => {
                self.create_wrapping_key(context, ring, ask, repeat, entry())
            }
            Operation::GetWrappingKey(path) => {
                let resolved = self.resolve_ring(path.ring)?;
                let key = self.wrapping_key(&resolved, path.key)?;
                self.wrapping_key_view(&key).map(Outcome::WrappingKey)
            }
            Operation::DeleteWrappingKey(path) => self.delete_wrapping_key(path, entry()),
            Operation::Amounts { project } => self.amounts(project),
        }
    }

    /// Checks that there is a project. An empty home without projects has the implied one.
    ///
    /// # Errors
    /// 404 when there is no such project.
    fn check_project(&self, id: Uuid) -> Result<(), Failure> {
        let projects = export::projects_of(self.store.projects()?);
        let is_known = projects.iter().any(|project| project.id == id);
        if is_known { Ok(()) } else { Err(Problem::not_found("project").into()) }
    }

    /// Finds the ring of a path, which must belong to the path's project.
    fn resolve_ring(&self, path: RingPath) -> Result<ResolvedRing, Failure> {
        self.check_project(path.project)?;
        let ring = self.store.ring_of(RingId(path.ring.into_bytes()))?;
        let ring = ring
            .filter(|ring| ring.metadata.project == path.project)
            .ok_or_else(|| Problem::not_found("key ring"))?;
        Ok(ResolvedRing { ring, project: path.project })
    }
}

/// Returns the caller for `policy`. Its permissions over REST were checked; the ring's rules apply in addition.
fn caller(context: &RequestContext, ring: &Ring, ring_role: RingRole) -> Caller {
    let login = Login::new(LoginId::default(), ring.id, context.account.email.clone(), ring_role);
    Caller { peer: None, login: Some(login), policy: ring.policy }
}
