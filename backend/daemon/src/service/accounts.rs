//! Commands on service accounts and their roles.

use kms_core::api::{Grant, Role};
use kms_crypto::PublicKeyError;
use kms_store::{AccountGrant, Project, Ring, ServiceAccount, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::audited_command::AuditedCommand;
use super::{Backend, ServiceError};

/// The maximum length of an address (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;

/// Why a command on accounts, roles or tokens failed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such account.
    #[error("no service account has the address or id {0:?}")]
    NoSuchAccount(String),
    /// There is no such principal.
    #[error("ring {ring:?} has no principal {name:?}")]
    NoSuchPrincipal {
        /// The ring.
        ring: String,
        /// The name.
        name: String,
    },
    /// The user and the security officer are built in.
    #[error("{0:?} is the ring's own principal and cannot be removed")]
    BuiltIn(String),
    /// There is no such project.
    #[error("no project has the name or id {0:?}")]
    NoSuchProject(String),
    /// The named ring is in another project.
    #[error("ring {ring:?} is not in project {project:?}")]
    OtherProject {
        /// The ring.
        ring: String,
        /// The project.
        project: String,
    },
    /// The text is not an address.
    #[error("{0:?} is no address of a service account (NAME@DOMAIN, of letters, digits and `.-_+`)")]
    BadEmail(String),
    /// The text is not a display name.
    #[error("invalid name {0:?}: a name is 1 to 64 letters, digits, `-`, `_` and `.`")]
    BadName(String),
    /// The account has the role already.
    #[error("{account} already has the role {role} in this scope")]
    Granted {
        /// The account.
        account: String,
        /// The role.
        role: &'static str,
    },
    /// The account does not have the role.
    #[error("{account} does not have the role {role} in this scope")]
    NotGranted {
        /// The account.
        account: String,
        /// The role.
        role: &'static str,
    },
    /// There is no such token.
    #[error("{account} has no token with the name or id {token:?}")]
    NoSuchToken {
        /// The account.
        account: String,
        /// The token.
        token: String,
    },
    /// There is no such key.
    #[error("no active key of a service account has the id {0:?}")]
    NoSuchKey(String),
    /// The file does not contain a public key that an account may have.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
}

/// The scope of a role. If neither is named, the role applies everywhere.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// A project, by name or id.
    pub project: Option<String>,
    /// A ring, by name or id.
    pub ring: Option<String>,
}

/// A service account, as `kms account list` shows it.
#[derive(Clone, Debug)]
pub struct AccountInfo {
    /// The account's id.
    pub id: Uuid,
    /// Its address.
    pub email: String,
    /// The time of its creation, in seconds since 1970.
    pub created: u64,
    /// The time at which it was disabled, if it is.
    pub disabled: Option<u64>,
    /// Its roles.
    pub grants: Vec<GrantInfo>,
    /// The number of its tokens.
    pub tokens: usize,
    /// The number of its keys that are not revoked.
    pub keys: usize,
}

/// A role that an account has, as `kms role list` shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantInfo {
    /// The account's address.
    pub account: String,
    /// The role.
    pub role: Role,
    /// The project's id; none for every project.
    pub project: Option<Uuid>,
    /// The project's name.
    pub project_name: Option<String>,
    /// The ring's id; none for all rings.
    pub ring: Option<Uuid>,
    /// The ring's name.
    pub ring_name: Option<String>,
    /// The time of the grant, in seconds since 1970.
    pub created: u64,
}

/// The names of the projects and rings that grants refer to.
struct ScopeNames {
    projects: Vec<Project>,
    rings: Vec<Ring>,
}

impl ScopeNames {
    fn describe(&self, account: &str, given: &AccountGrant) -> GrantInfo {
        let Grant { role, project, ring } = given.grant;
        let project_name =
            self.projects.iter().find(|known| Some(known.id) == project).map(|known| known.name.clone());
        let ring_name = self
            .rings
            .iter()
            .find(|known| Some(Uuid::from_bytes(known.id.0)) == ring)
            .map(|known| known.label.clone());
        let (account, created) = (account.to_owned(), given.created);
        GrantInfo { account, role, project, project_name, ring, ring_name, created }
    }
}

impl Backend {
    /// Creates a service account, with a role if one is named.
    ///
    /// # Errors
    /// When the address is invalid or already used, or the role's project or ring does not exist.
    pub fn add_service_account(
        &self,
        email: &str,
        role: Option<(Role, Scope)>,
    ) -> Result<AccountInfo, ServiceError> {
        check_email(email)?;
        let (id, created) = (Uuid::new_v4(), self.dispatch.clock.seconds());
        let account = ServiceAccount { id, email: email.to_owned(), created, disabled: None, generation: 1 };
        let grant = role.map(|(role, scope)| self.resolve_grant(role, &scope)).transpose()?;
        let given = grant.map(|grant| AccountGrant { id: Uuid::new_v4(), account: id, grant, created });
        let entry = self.entry(
            AuditedCommand {
                event: "kms.account.create",
                command: "kms account add",
                resource: format!("accounts/{id}"),
                project: grant.and_then(|grant| grant.project),
            },
            [("email", json!(email)), ("role", role_json(grant))],
        );
        match self.dispatch.store.insert_account(account, given.into_iter().collect(), entry) {
            Err(StoreError::NameInUse(email)) => Err(ServiceError::Exists(email)),
            done => Ok(done?),
        }?;
        let all = self.service_accounts()?;
        let created = all.into_iter().find(|known| known.id == id);
        created.ok_or_else(|| AccountError::NoSuchAccount(email.to_owned()).into())
    }

    /// All service accounts, by address.
    ///
    /// # Errors
    /// When the database fails.
    pub fn service_accounts(&self) -> Result<Vec<AccountInfo>, ServiceError> {
        let store = &self.dispatch.store;
        let (grants, tokens, keys) = (store.grants(None)?, store.tokens(None)?, store.account_keys(None)?);
        let names = self.scope_names()?;
        let described = store.accounts()?.into_iter().map(|account| AccountInfo {
            grants: grants
                .iter()
                .filter(|given| given.account == account.id)
                .map(|given| names.describe(&account.email, given))
                .collect(),
            tokens: tokens.iter().filter(|token| token.account == account.id).count(),
            keys: keys.iter().filter(|key| key.account == account.id && key.revoked.is_none()).count(),
            id: account.id,
            email: account.email,
            created: account.created,
            disabled: account.disabled,
        });
        Ok(described.collect())
    }

    /// Disables a service account, or enables it again.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn set_service_account_disabled(&self, account: &str, disabled: bool) -> Result<(), ServiceError> {
        let account = self.account_of(account)?;
        let (event, command) = match disabled {
            true => ("kms.account.disable", "kms account disable"),
            false => ("kms.account.enable", "kms account enable"),
        };
        let entry = self.account_entry(event, command, &account, []);
        let since = disabled.then(|| self.dispatch.clock.seconds());
        Ok(self.dispatch.store.set_account_disabled(account.id, since, entry)?)
    }

    /// Removes a service account with its roles, tokens and keys.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn remove_service_account(&self, account: &str) -> Result<(), ServiceError> {
        let account = self.account_of(account)?;
        let entry = self.account_entry("kms.account.delete", "kms account remove", &account, []);
        Ok(self.dispatch.store.remove_account(account.id, entry)?)
    }

    /// Grants a service account a role.
    ///
    /// # Errors
    /// When it already has the role in this scope, or the account, project or ring does not exist.
    pub fn grant_role(&self, account: &str, role: Role, scope: &Scope) -> Result<GrantInfo, ServiceError> {
        let account = self.account_of(account)?;
        let grant = self.resolve_grant(role, scope)?;
        let created = self.dispatch.clock.seconds();
        let given = AccountGrant { id: Uuid::new_v4(), account: account.id, grant, created };
        let details = [("role", role_json(Some(grant)))];
        let entry = self.account_entry("kms.account.role.grant", "kms role grant", &account, details);
        match self.dispatch.store.insert_grant(given.clone(), entry) {
            Err(StoreError::NameInUse(_)) => {
                Err(AccountError::Granted { account: account.email, role: role.name() }.into())
            }
            done => {
                done?;
                Ok(self.scope_names()?.describe(&account.email, &given))
            }
        }
    }

    /// Revokes a role of a service account.
    ///
    /// # Errors
    /// When it does not have the role in this scope, or the account, project or ring does not exist.
    pub fn revoke_role(&self, account: &str, role: Role, scope: &Scope) -> Result<(), ServiceError> {
        let account = self.account_of(account)?;
        let grant = self.resolve_grant(role, scope)?;
        let details = [("role", role_json(Some(grant)))];
        let entry = self.account_entry("kms.account.role.revoke", "kms role revoke", &account, details);
        match self.dispatch.store.remove_grant(account.id, grant, entry) {
            Err(StoreError::NotFound) => {
                Err(AccountError::NotGranted { account: account.email, role: role.name() }.into())
            }
            done => Ok(done?),
        }
    }

    /// The roles of one service account, or of all.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn roles(&self, account: Option<&str>) -> Result<Vec<GrantInfo>, ServiceError> {
        let only = account.map(|account| self.account_of(account)).transpose()?;
        let all = self.service_accounts()?.into_iter();
        let wanted = all.filter(|known| only.as_ref().is_none_or(|only| only.id == known.id));
        Ok(wanted.flat_map(|account| account.grants).collect())
    }

    /// The service account with this address or id.
    pub(super) fn account_of(&self, name: &str) -> Result<ServiceAccount, ServiceError> {
        let missing = || AccountError::NoSuchAccount(name.to_owned());
        let found = match Uuid::parse_str(name) {
            Ok(id) => self.dispatch.store.accounts()?.into_iter().find(|account| account.id == id),
            Err(_) => self.dispatch.store.account_named(name)?,
        };
        Ok(found.ok_or_else(missing)?)
    }

    /// The audit entry of a command on an account.
    pub(super) fn account_entry<const N: usize>(
        &self,
        event: &'static str,
        command: &'static str,
        account: &ServiceAccount,
        details: [(&'static str, Value); N],
    ) -> kms_core::audit::Entry {
        let resource = format!("accounts/{}", account.id);
        let mut entry = self.entry(AuditedCommand { event, command, resource, project: None }, details);
        entry.details.insert("email".to_owned(), json!(account.email));
        entry
    }

    /// The grant of a role in the named scope. The grant of a ring names the ring's project as well.
    fn resolve_grant(&self, role: Role, scope: &Scope) -> Result<Grant, ServiceError> {
        let project = scope.project.as_deref().map(|name| self.project_of(name)).transpose()?;
        let Some(name) = &scope.ring else {
            return Ok(Grant { role, project: project.map(|project| project.id), ring: None });
        };
        let ring = self.ring_of(name)?;
        let project_of_ring = ring.metadata.project;
        if let Some(project) = project.filter(|project| project.id != project_of_ring) {
            return Err(AccountError::OtherProject { ring: name.clone(), project: project.name }.into());
        }
        Ok(Grant { role, project: Some(project_of_ring), ring: Some(Uuid::from_bytes(ring.id.0)) })
    }

    fn scope_names(&self) -> Result<ScopeNames, ServiceError> {
        Ok(ScopeNames { projects: self.projects()?, rings: self.dispatch.store.rings()? })
    }
}

fn role_json(grant: Option<Grant>) -> Value {
    grant.map_or(
        Value::Null,
        |grant| json!({ "role": grant.role.name(), "project": grant.project, "ring": grant.ring }),
    )
}

/// Checks the address of a service account, which appears in assertions, logs and tables.
fn check_email(email: &str) -> Result<(), AccountError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let part = |part: &str| !part.is_empty() && part.chars().all(legal);
    let good = email.split_once('@').is_some_and(|(name, domain)| part(name) && part(domain));
    if good && email.len() <= EMAIL_BYTES_MAX {
        Ok(())
    } else {
        Err(AccountError::BadEmail(email.to_owned()))
    }
}
