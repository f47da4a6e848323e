//! `kms account` and `kms role`: service accounts, the principals of rings, and roles.

use std::ffi::OsString;

use kms_core::object::RingRole;
use serde_json::{Value, json};

use super::arguments::{
    Account, AccountAdd, AccountList, AccountRemove, AccountState, Role, RoleArguments, RoleCommand, RoleList,
};
use super::credentials;
use super::failure::Failure;
use super::home::Home;
use super::output;
use super::pins::{self, CredentialsEntry};
use crate::service::{AccountInfo, Backend, GrantInfo, PrincipalInfo, Scope};

/// The ring of a principal if none is named.
const DEFAULT_RING: &str = "default";

/// `kms account`.
pub(super) fn run(command: Account, argv: &[OsString]) -> Result<(), Failure> {
    match command {
        Account::Add(add) if add.name.contains('@') => add_service_account(add, argv),
        Account::Add(add) => add_principal(add, argv),
        Account::List(list) => self::list(list, argv),
        Account::Remove(remove) => self::remove(remove, argv),
        Account::Disable(state) => set_disabled(state, true, argv),
        Account::Enable(state) => set_disabled(state, false, argv),
        Account::Key(command) => credentials::keys(command, argv),
    }
}

fn add_service_account(arguments: AccountAdd, argv: &[OsString]) -> Result<(), Failure> {
    if arguments.secret_file.is_some() {
        return Err(Failure::new(
            "a service account has no secret",
            "omit --secret-file, and create a token with `kms token create`",
        ));
    }
    let scope = Scope { project: arguments.project, ring: arguments.ring };
    let role = match arguments.role {
        Some(role) => Some((role.into(), scope)),
        None if scope.project.is_some() || scope.ring.is_some() => {
            return Err(Failure::new(
                "--project and --ring are the scope of a role, and --role is missing",
                "add --role, for example --role kms.user, or omit --project and --ring",
            ));
        }
        None => None,
    };
    let home = Home::of(arguments.home)?;
    let account = Backend::open(&home.open(argv)?)?.add_service_account(&arguments.name, role)?;
    if arguments.output.json {
        output::json(&account_json(&account));
        return Ok(());
    }
    output::line(&format!("service account {} added: {}", account.email, describe_roles(&account)));
    output::line(&format!("create a token with `kms token create {}`", account.email));
    Ok(())
}

fn add_principal(arguments: AccountAdd, argv: &[OsString]) -> Result<(), Failure> {
    if arguments.project.is_some() {
        return Err(Failure::new(
            format!(
                "{:?} is a principal of one ring, and --project is only for service accounts",
                arguments.name
            ),
            "omit --project, or add a service account: NAME@DOMAIN",
        ));
    }
    let ring_role = arguments.role.unwrap_or(Role::User).ring_role().ok_or_else(|| {
        Failure::new(
            "only a service account can have this role",
            "use kms.admin, kms.editor, kms.user or kms.reader, or add a service account: NAME@DOMAIN",
        )
    })?;
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let secret = pins::given_or_random(None, arguments.secret_file.as_deref())?;
    let (ring, name) =
        (backend.ring_name(arguments.ring.as_deref().unwrap_or(DEFAULT_RING))?, arguments.name);
    let entry = CredentialsEntry::append(&home.credentials(), &pins::account_entry(&ring, &name, &secret))?;
    backend.add_account(&ring, &name, ring_role, &secret)?;
    entry.commit();
    let credentials = home.credentials();
    if arguments.output.json {
        output::json(&json!({ "ring": ring, "name": name, "credentials": credentials.to_string_lossy() }));
    } else {
        output::line(&format!(
            "principal {name:?} added to ring {ring:?}; it logs in with the PIN `{name}:SECRET`"
        ));
        output::line(&format!("the PIN is in {}", credentials.display()));
    }
    Ok(())
}

fn list(arguments: AccountList, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let accounts = if arguments.ring.is_some() { Vec::new() } else { backend.service_accounts()? };
    let principals = backend.principals(arguments.ring.as_deref())?;
    if arguments.output.json {
        let accounts: Vec<_> = accounts.iter().map(account_json).collect();
        let principals: Vec<_> = principals.iter().map(principal_json).collect();
        output::json(&json!({ "serviceAccounts": accounts, "principals": principals }));
        return Ok(());
    }
    let mut rows: Vec<_> = accounts
        .iter()
        .map(|account| {
            let state = if account.disabled.is_some() { "disabled" } else { "active" };
            let (tokens, keys) = (account.tokens.to_string(), account.keys.to_string());
            [
                account.email.clone(),
                "service account".into(),
                describe_roles(account),
                state.into(),
                tokens,
                keys,
            ]
        })
        .collect();
    rows.extend(principals.iter().map(|principal| {
        let role = format!("{} in ring {}", ring_role(principal.ring_role), principal.ring);
        let state = if principal.has_pin { "active" } else { "no PIN" };
        [principal.name.clone(), "principal".into(), role, state.into(), "-".into(), "-".into()]
    }));
    output::table(["NAME", "KIND", "ROLES", "STATE", "TOKENS", "KEYS"], &rows, "no accounts");
    Ok(())
}

fn remove(arguments: AccountRemove, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let name = arguments.name;
    // An address or an id names a service account: the name of a principal has neither an @ nor 36 characters.
    if name.contains('@') || uuid::Uuid::parse_str(&name).is_ok() {
        backend.remove_service_account(&name)?;
        let message = format!("service account {name} removed");
        output::result(arguments.output.json, &json!({ "removed": name }), &message);
    } else {
        let ring = backend.ring_name(arguments.ring.as_deref().unwrap_or(DEFAULT_RING))?;
        backend.remove_principal(&ring, &name)?;
        let message = format!(
            "principal {name:?} removed from ring {ring:?}; its PIN in DIR/credentials is no longer valid"
        );
        output::result(arguments.output.json, &json!({ "removed": name, "ring": ring }), &message);
    }
    Ok(())
}

fn set_disabled(arguments: AccountState, disabled: bool, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let account = arguments.account;
    Backend::open(&home.open(argv)?)?.set_service_account_disabled(&account, disabled)?;
    let state = if disabled { "disabled" } else { "enabled" };
    let json = json!({ "account": account, "disabled": disabled });
    output::result(arguments.output.json, &json, &format!("service account {account} {state}"));
    Ok(())
}

/// `kms role`.
pub(super) fn roles(command: RoleCommand, argv: &[OsString]) -> Result<(), Failure> {
    match command {
        RoleCommand::Grant(grant) => self::grant(grant.role, argv),
        RoleCommand::Revoke(revoke) => self::revoke(revoke.role, argv),
        RoleCommand::List(list) => list_roles(list, argv),
    }
}

fn grant(arguments: RoleArguments, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let scope = Scope { project: arguments.project, ring: arguments.ring };
    let granted =
        Backend::open(&home.open(argv)?)?.grant_role(&arguments.account, arguments.role.into(), &scope)?;
    let message = format!("role granted to {}: {}", granted.account, describe_grant(&granted));
    output::result(arguments.output.json, &grant_json(&granted), &message);
    Ok(())
}

fn revoke(arguments: RoleArguments, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let (scope, role) = (
        Scope { project: arguments.project, ring: arguments.ring },
        kms_core::api::Role::from(arguments.role),
    );
    Backend::open(&home.open(argv)?)?.revoke_role(&arguments.account, role, &scope)?;
    let message = format!("role revoked from {}: {}", arguments.account, role.name());
    let json = json!({ "account": arguments.account, "revoked": role.name() });
    output::result(arguments.output.json, &json, &message);
    Ok(())
}

fn list_roles(arguments: RoleList, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let roles = Backend::open(&home.open(argv)?)?.roles(arguments.account.as_deref())?;
    if arguments.output.json {
        output::json(&roles.iter().map(grant_json).collect());
        return Ok(());
    }
    let rows: Vec<_> = roles
        .iter()
        .map(|grant| {
            let (project, ring) = scope_names(grant);
            let created = output::time(grant.created);
            [grant.account.clone(), grant.role.name().to_owned(), project, ring, created]
        })
        .collect();
    output::table(["ACCOUNT", "ROLE", "PROJECT", "RING", "GRANTED"], &rows, "no roles");
    Ok(())
}

fn describe_roles(account: &AccountInfo) -> String {
    let grants: Vec<_> = account.grants.iter().map(describe_grant).collect();
    if grants.is_empty() { "no roles".to_owned() } else { grants.join(", ") }
}

fn describe_grant(grant: &GrantInfo) -> String {
    let role = grant.role.name();
    match (scope_names(grant), grant.ring, grant.project) {
        ((_, ring), Some(_), _) => format!("{role} in ring {ring}"),
        ((project, _), None, Some(_)) => format!("{role} in project {project}"),
        (_, None, None) => format!("{role} everywhere"),
    }
}

/// The project and the ring of a grant, by name; by id if they no longer exist.
fn scope_names(grant: &GrantInfo) -> (String, String) {
    let named = |name: &Option<String>, id: Option<uuid::Uuid>| {
        let id = id.map_or_else(|| "all".to_owned(), |id| id.to_string());
        name.clone().unwrap_or(id)
    };
    (named(&grant.project_name, grant.project), named(&grant.ring_name, grant.ring))
}

fn ring_role(ring_role: RingRole) -> &'static str {
    match ring_role {
        RingRole::Officer => "security officer",
        RingRole::Admin => "kms.admin",
        RingRole::Editor => "kms.editor",
        RingRole::User => "kms.user",
        RingRole::Reader => "kms.reader",
    }
}

fn account_json(account: &AccountInfo) -> Value {
    json!({
        "id": account.id,
        "email": account.email,
        "created": output::time(account.created),
        "disabled": account.disabled.map(output::time),
        "roles": account.grants.iter().map(grant_json).collect::<Vec<_>>(),
        "tokens": account.tokens,
        "keys": account.keys,
    })
}

fn grant_json(grant: &GrantInfo) -> Value {
    json!({
        "account": grant.account,
        "role": grant.role.name(),
        "project": grant.project,
        "projectName": grant.project_name,
        "ring": grant.ring,
        "ringName": grant.ring_name,
        "created": output::time(grant.created),
    })
}

fn principal_json(principal: &PrincipalInfo) -> Value {
    json!({
        "ring": principal.ring,
        "name": principal.name,
        "role": ring_role(principal.ring_role),
        "hasPin": principal.has_pin,
        "pinBound": principal.pin_bound,
    })
}
