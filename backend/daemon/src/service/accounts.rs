//! Service accounts as their owner handles them: made, listed, shut out, given roles.

use kms_core::api::{Grant, Role};
use kms_crypto::PublicKeyError;
use kms_store::{GivenGrant, Project, Ring, ServiceAccount, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::operator::Command;
use super::{Backend, ServiceError};

/// The longest address: what RFC 5321 allows.
const EMAIL_BYTES_MAX: usize = 254;

/// Why a command about accounts, roles or tokens is not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such account.
    #[error("no service account has the address or id {0:?}; `kms account list` shows them")]
    NoSuchAccount(String),
    /// There is no such principal.
    #[error("ring {ring:?} has no principal {name:?}; `kms account list --ring {ring}` shows them")]
    NoSuchPrincipal {
        /// The ring.
        ring: String,
        /// The name.
        name: String,
    },
    /// The user and the officer are the ring's own.
    #[error("{0:?} is the ring's own and stays")]
    BuiltIn(String),
    /// There is no such project.
    #[error("no project has the name or id {0:?}; `kms project list` shows them")]
    NoSuchProject(String),
    /// A project and a ring that is not in it.
    #[error("ring {ring:?} is not in project {project:?}")]
    OtherProject {
        /// The ring.
        ring: String,
        /// The project.
        project: String,
    },
    /// It is no address.
    #[error(
        "{0:?} is no address of a service account: NAME@DOMAIN, of letters, digits and `.-_+`, is wanted"
    )]
    BadEmail(String),
    /// It is no name.
    #[error("{0:?} is no name: 1 to 64 letters, digits, `-`, `_` and `.`")]
    BadName(String),
    /// The account has the role already.
    #[error("{account} has the role {role} there already")]
    Granted {
        /// The account.
        account: String,
        /// The role.
        role: &'static str,
    },
    /// The account does not have the role.
    #[error("{account} does not have the role {role} there; `kms role list {account}` shows what it has")]
    NotGranted {
        /// The account.
        account: String,
        /// The role.
        role: &'static str,
    },
    /// There is no such token.
    #[error("{account} has no token with the name or id {token:?}; `kms token list {account}` shows them")]
    NoSuchToken {
        /// The account.
        account: String,
        /// The token.
        token: String,
    },
    /// There is no such key.
    #[error("no active key of a service account has the id {0:?}; `kms account key list` shows them")]
    NoSuchKey(String),
    /// The file holds no key that may sign.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
}

/// Where a role counts, as typed: nothing said is everywhere.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// A project, by name or id.
    pub project: Option<String>,
    /// A ring, by name or id.
    pub ring: Option<String>,
}

/// A service account, as listed.
#[derive(Clone, Debug)]
pub struct AccountInfo {
    /// Its id.
    pub id: Uuid,
    /// Its address.
    pub email: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Since when it is shut out.
    pub disabled: Option<u64>,
    /// What it was given.
    pub grants: Vec<GrantInfo>,
    /// How many tokens it has.
    pub tokens: usize,
    /// How many keys it has that are not revoked.
    pub keys: usize,
}

/// A role that an account has, as listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantInfo {
    /// The account's address.
    pub account: String,
    /// The role.
    pub role: Role,
    /// The project's id; every project without.
    pub project: Option<Uuid>,
    /// The project's name.
    pub project_name: Option<String>,
    /// The ring's id; all rings without.
    pub ring: Option<Uuid>,
    /// The ring's name.
    pub ring_name: Option<String>,
    /// When it was given, in seconds since 1970.
    pub created: u64,
}

/// Names of what grants are about.
struct Names {
    projects: Vec<Project>,
    rings: Vec<Ring>,
}

impl Names {
    fn describe(&self, account: &str, given: &GivenGrant) -> GrantInfo {
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
    /// Makes a service account, with a role if one is named.
    ///
    /// # Errors
    /// When the address will not do or is taken, or the role is for what is not there.
    pub fn add_service_account(
        &self,
        email: &str,
        role: Option<(Role, Scope)>,
    ) -> Result<AccountInfo, ServiceError> {
        check_email(email)?;
        let (id, created) = (Uuid::new_v4(), self.dispatch.clock.seconds());
        let account = ServiceAccount { id, email: email.to_owned(), created, disabled: None, generation: 1 };
        let grant = role.map(|(role, scope)| self.grant_of(role, &scope)).transpose()?;
        let given = grant.map(|grant| GivenGrant { id: Uuid::new_v4(), account: id, grant, created });
        let entry = self.entry(
            Command {
                event: "kms.account.create",
                typed: "kms account add",
                resource: format!("accounts/{id}"),
                project: grant.and_then(|grant| grant.project),
            },
            [("email", json!(email)), ("role", role_json(grant))],
        );
        match self.dispatch.store.insert_account(account, given.into_iter().collect(), entry) {
            Err(StoreError::Taken(email)) => Err(ServiceError::Exists(email)),
            done => Ok(done?),
        }?;
        let all = self.service_accounts()?;
        let made = all.into_iter().find(|known| known.id == id);
        made.ok_or_else(|| AccountError::NoSuchAccount(email.to_owned()).into())
    }

    /// All service accounts, by address.
    ///
    /// # Errors
    /// When the database fails.
    pub fn service_accounts(&self) -> Result<Vec<AccountInfo>, ServiceError> {
        let store = &self.dispatch.store;
        let (grants, tokens, keys) = (store.grants(None)?, store.tokens(None)?, store.account_keys(None)?);
        let names = self.names()?;
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

    /// Shuts a service account out, or lets it in again.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn set_service_account_disabled(&self, account: &str, disabled: bool) -> Result<(), ServiceError> {
        let account = self.account_of(account)?;
        let (event, typed) = match disabled {
            true => ("kms.account.disable", "kms account disable"),
            false => ("kms.account.enable", "kms account enable"),
        };
        let entry = self.account_entry(event, typed, &account, []);
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

    /// Gives a service account a role.
    ///
    /// # Errors
    /// When it has it already, or something named is not there.
    pub fn grant_role(&self, account: &str, role: Role, scope: &Scope) -> Result<GrantInfo, ServiceError> {
        let account = self.account_of(account)?;
        let grant = self.grant_of(role, scope)?;
        let created = self.dispatch.clock.seconds();
        let given = GivenGrant { id: Uuid::new_v4(), account: account.id, grant, created };
        let details = [("role", role_json(Some(grant)))];
        let entry = self.account_entry("kms.account.role.grant", "kms role grant", &account, details);
        match self.dispatch.store.insert_grant(given.clone(), entry) {
            Err(StoreError::Taken(_)) => {
                Err(AccountError::Granted { account: account.email, role: role.name() }.into())
            }
            done => {
                done?;
                Ok(self.names()?.describe(&account.email, &given))
            }
        }
    }

    /// Takes a role from a service account.
    ///
    /// # Errors
    /// When it does not have it there, or something named is not there.
    pub fn revoke_role(&self, account: &str, role: Role, scope: &Scope) -> Result<(), ServiceError> {
        let account = self.account_of(account)?;
        let grant = self.grant_of(role, scope)?;
        let details = [("role", role_json(Some(grant)))];
        let entry = self.account_entry("kms.account.role.revoke", "kms role revoke", &account, details);
        match self.dispatch.store.remove_grant(account.id, grant, entry) {
            Err(StoreError::NotFound) => {
                Err(AccountError::NotGranted { account: account.email, role: role.name() }.into())
            }
            done => Ok(done?),
        }
    }

    /// The roles of a service account, or of all.
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

    /// What is recorded of a command about an account.
    pub(super) fn account_entry<const N: usize>(
        &self,
        event: &'static str,
        typed: &'static str,
        account: &ServiceAccount,
        details: [(&'static str, Value); N],
    ) -> kms_core::audit::Entry {
        let resource = format!("accounts/{}", account.id);
        let mut entry = self.entry(Command { event, typed, resource, project: None }, details);
        entry.details.insert("email".to_owned(), json!(account.email));
        entry
    }

    /// A role in what was typed. A ring's grant names its project too.
    fn grant_of(&self, role: Role, scope: &Scope) -> Result<Grant, ServiceError> {
        let project = scope.project.as_deref().map(|name| self.project_of(name)).transpose()?;
        let Some(name) = &scope.ring else {
            return Ok(Grant { role, project: project.map(|project| project.id), ring: None });
        };
        let rings = self.dispatch.store.rings()?;
        let ring = rings
            .into_iter()
            .find(|ring| ring.label == *name || Uuid::from_bytes(ring.id.0).to_string() == *name)
            .ok_or_else(|| ServiceError::NoSuchRing(name.clone()))?;
        let its = self.dispatch.project_of(&ring)?;
        if let Some(project) = project.filter(|project| project.id != its) {
            return Err(AccountError::OtherProject { ring: name.clone(), project: project.name }.into());
        }
        Ok(Grant { role, project: Some(its), ring: Some(Uuid::from_bytes(ring.id.0)) })
    }

    fn names(&self) -> Result<Names, ServiceError> {
        Ok(Names { projects: self.projects()?, rings: self.dispatch.store.rings()? })
    }
}

fn role_json(grant: Option<Grant>) -> Value {
    grant.map_or(
        Value::Null,
        |grant| json!({ "role": grant.role.name(), "project": grant.project, "ring": grant.ring }),
    )
}

/// The address of a service account: it stands in assertions, logs and tables.
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
