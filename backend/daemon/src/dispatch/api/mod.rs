//! The service's operations: load → decide → act → record, as for the provider's requests and with the same rooms.

mod audit_events;
mod crypto;
mod expiry;
mod export;
mod failure;
mod keys;
mod lists;
mod material;
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
use kms_core::object::{Caller, Login, RingRole};
use kms_core::policy;
use kms_protocol::RingId;
use kms_store::{Project, Ring};
use uuid::Uuid;

use super::Dispatch;
use super::audit_writer::UsedKey;
use audit_events::{about, entry};
use failure::Failure;

pub use export::{ExportError, Exporting};

/// A ring with its project, found and allowed.
struct Place {
    ring: Arc<Ring>,
    project: Uuid,
}

impl Dispatch {
    /// Answers one operation. It blocks: for the database, the HSM, or a long computation.
    ///
    /// # Errors
    /// A problem as the caller may see it. Failures of our own are logged here, once.
    pub fn serve(&self, context: &RequestContext, operation: Operation) -> Result<Outcome, Problem> {
        self.authorise(context, &operation)?;
        let (event, subject) = (operation.event(), operation.subject());
        let used = UsedKey::of(&operation);
        let refuse = |failure: Failure| failure.problem(event, &subject.resource());
        let done = self.perform(context, operation).map_err(refuse);
        if let Some(used) = used {
            self.used_over_rest(context, used, &done).map_err(|error| refuse(error.into()))?;
        }
        done
    }

    /// Whether an operation will be answered from memory within some microseconds, so that a door need not move it to
    /// a thread that may block.
    pub fn is_quick(&self, operation: &Operation) -> bool {
        let (Operation::Encrypt { version, .. }
        | Operation::Decrypt { version, .. }
        | Operation::Sign { version, .. }
        | Operation::Verify { version, .. }) = operation
        else {
            return false;
        };
        let number = u32::try_from(version.number).unwrap_or(0);
        let mut opened = None;
        let remembered = self.store.remembers(version.key.key, |key| {
            let fast = key.metadata.algorithm.is_some_and(|algorithm| match algorithm.purpose() {
                Purpose::SymmetricEncryptDecrypt | Purpose::MessageAuthenticationCode => true,
                Purpose::AsymmetricEncryptDecrypt | Purpose::AsymmetricSignVerify => false,
            });
            opened = key.version(number).and_then(|version| version.hidden).filter(|_| fast);
            opened
        });
        remembered && opened.is_some_and(|object| self.keys.is_open(object))
    }

    /// Whether the caller may. A denial is in the audit log before the caller hears of it.
    fn authorise(&self, context: &RequestContext, operation: &Operation) -> Result<(), Problem> {
        let subject = operation.subject();
        let (project, ring) = (subject.project(), subject.ring());
        let grants = &context.account.grants;
        // The list shows what may be seen of it.
        let is_list = matches!(operation, Operation::ListKeyRings { .. });
        let missing = operation.permissions().iter().find(|permission| {
            let somewhere = is_list && policy::allowed_somewhere(grants, **permission, project);
            !somewhere && !policy::allowed(grants, **permission, project, ring)
        });
        let Some(missing) = missing else { return Ok(()) };
        let status = Status::Forbidden;
        let denied = entry(context, operation, self.clock.millis(), Kind::PolicyDenied, status.code());
        self.record_denial(denied)
            .map_err(|error| Failure::from(error).problem(operation.event(), &subject.resource()))?;
        let message =
            format!("{} is not permitted {missing} here; ask for a role that has it", context.account.email);
        Err(Problem::new(status, message))
    }

    fn perform(&self, context: &RequestContext, operation: Operation) -> Result<Outcome, Failure> {
        let (named, success) = ((operation.event(), operation.subject()), operation.success());
        let recorded = || about(context, named, self.clock.millis(), Kind::AdminActivity, success);
        match operation {
            Operation::ListKeyRings { project, page } => self.list_rings(context, project, &page),
            Operation::CreateKeyRing { project, ask, repeat } => {
                self.create_key_ring(project, ask, repeat, recorded())
            }
            Operation::GetKeyRing(path) => {
                let place = self.place(path)?;
                Ok(Outcome::KeyRing(views::ring(&place.ring)))
            }
            Operation::DeleteKeyRing(path) => self.delete_key_ring(path, recorded()),
            Operation::EditKeyRing { ring, ask } => self.edit_key_ring(ring, ask, recorded()),
            Operation::ListKeys { ring, page } => self.list_keys(ring, &page),
            Operation::CreateKey { ring, ask, repeat } => {
                self.create_key(context, ring, ask, repeat, recorded())
            }
            Operation::GetKey(path) => {
                let place = self.place(path.ring)?;
                Ok(Outcome::Key(views::key(&*self.key(&place, path.key)?)?))
            }
            Operation::DeleteKey(path) => self.delete_key(path, recorded()),
            Operation::EditKey { key, ask } => self.edit_key(key, ask, recorded()),
            Operation::ImportKey { key, ask } => self.import_key(context, key, &ask, recorded()),
            Operation::RestoreKey(path) => self.restore_key(path, recorded()),
            Operation::RotateKey(path) => self.rotate_key(context, path, recorded()),
            Operation::ListVersions { key, page } => self.list_versions(key, &page),
            Operation::GetVersion(path) => self.version_view(path).map(Outcome::Version),
            Operation::DestroyVersion(path) => self.change(path, kms_core::api::Change::Destroy, recorded()),
            Operation::DisableVersion(path) => self.change(path, kms_core::api::Change::Disable, recorded()),
            Operation::EnableVersion(path) => self.change(path, kms_core::api::Change::Enable, recorded()),
            Operation::RestoreVersion(path) => self.change(path, kms_core::api::Change::Restore, recorded()),
            Operation::Encrypt { version, data, aad } => self.encrypt_named(context, version, &data, &aad),
            Operation::Decrypt { version, data, aad } => self.decrypt_named(context, version, &data, &aad),
            Operation::Sign { version, data } => self.sign_named(context, version, &data),
            Operation::Verify { version, data, signature } => {
                self.verify_named(context, version, &data, &signature)
            }
            Operation::EncryptCurrent { key, data, aad } => self.encrypt_current(context, key, &data, &aad),
            Operation::DecryptAny { key, data, aad } => self.decrypt_any(context, key, &data, &aad),
            Operation::ReEncrypt { key, data, aad } => self.re_encrypt(context, key, &data, &aad),
            Operation::MakeDataKey { key, ask } => self.make_data_key(context, key, &ask),
            Operation::ListWrappingKeys { ring, page } => self.list_wrapping_keys(ring, &page),
            Operation::CreateWrappingKey { ring, ask, repeat } => {
                self.create_wrapping_key(context, ring, ask, repeat, recorded())
            }
            Operation::GetWrappingKey(path) => {
                let place = self.place(path.ring)?;
                let key = self.wrapping_key(&place, path.key)?;
                self.wrapping_view(&key).map(Outcome::WrappingKey)
            }
            Operation::DeleteWrappingKey(path) => self.delete_wrapping_key(path, recorded()),
            Operation::Amounts { project } => self.amounts(project),
        }
    }

    /// All projects; a home from before there were any has one, whose id is nil.
    fn projects(&self) -> Result<Vec<Project>, Failure> {
        Ok(export::projects_of(self.store.projects()?))
    }

    /// Says that a project is not there, if it is not; and whether it is the first one.
    fn known_project(&self, id: Uuid) -> Result<bool, Failure> {
        match self.store.project_place(id)? {
            Some(place) => Ok(place == 0),
            None if id.is_nil() && self.store.projects()?.is_empty() => Ok(true),
            None => Err(Problem::not_found("project").into()),
        }
    }

    /// The ring of a path: it must belong to the path's project.
    fn place(&self, path: RingPath) -> Result<Place, Failure> {
        let is_first = self.known_project(path.project)?;
        let ring = self.store.ring_of(RingId(path.ring.into_bytes()))?;
        let belongs = |ring: &Arc<Ring>| match ring.metadata.project {
            Some(project) => project == path.project,
            None => is_first,
        };
        let ring = ring.filter(belongs).ok_or_else(|| Problem::not_found("key ring"))?;
        Ok(Place { ring, project: path.project })
    }
}

/// The caller as `policy` knows callers: what it may do over REST has been decided, and the ring's rules are asked next.
fn caller(context: &RequestContext, ring: &Ring, ring_role: RingRole) -> Caller {
    let login = Login { ring: ring.id, name: context.account.email.clone(), ring_role };
    Caller { peer: None, login: Some(login), policy: ring.policy }
}
