//! Service accounts and the principals of rings: made, listed, removed; their roles.

use std::ffi::OsString;

use kms_core::object::RingRole;
use serde_json::{Value, json};

use super::arguments::{
    Account, AccountAdd, AccountList, AccountRemove, AccountState, Given, Role, RoleCommand, RoleList,
};
use super::credentials;
use super::failure::Failure;
use super::home::Home;
use super::output;
use super::pins::{self, Entry};
use crate::service::{AccountInfo, Backend, GrantInfo, PrincipalInfo, Scope};

/// The ring that is meant where none is named.
const DEFAULT_RING: &str = "default";

/// `kms account`.
pub(super) fn run(command: Account, typed: &[OsString]) -> Result<(), Failure> {
    match command {
        Account::Add(add) if add.name.contains('@') => add_service_account(add, typed),
        Account::Add(add) => add_principal(add, typed),
        Account::List(list) => self::list(list, typed),
        Account::Remove(remove) => self::remove(remove, typed),
        Account::Disable(state) => set_disabled(state, true, typed),
        Account::Enable(state) => set_disabled(state, false, typed),
        Account::Key(command) => credentials::keys(command, typed),
    }
}

fn add_service_account(arguments: AccountAdd, typed: &[OsString]) -> Result<(), Failure> {
    if arguments.secret_file.is_some() {
        return Err(Failure::new(
            "a service account has no secret of its own",
            "leave --secret-file out, then make a token with `kms token create`",
        ));
    }
    let scope = Scope { project: arguments.project, ring: arguments.ring };
    let role = match arguments.role {
        Some(role) => Some((role.into(), scope)),
        None if scope.project.is_some() || scope.ring.is_some() => {
            return Err(Failure::new(
                "--project and --ring say where a role counts, and none is named",
                "add --role kms.user, or leave them out",
            ));
        }
        None => None,
    };
    let home = Home::of(arguments.home)?;
    let made = Backend::open(&home.open(typed)?)?.add_service_account(&arguments.name, role)?;
    if arguments.output.json {
        output::json(&account_json(&made));
        return Ok(());
    }
    output::line(&format!("service account {} added: {}", made.email, roles_of(&made)));
    output::line(&format!("make a token with `kms token create {}`", made.email));
    Ok(())
}

fn add_principal(arguments: AccountAdd, typed: &[OsString]) -> Result<(), Failure> {
    if arguments.project.is_some() {
        return Err(Failure::new(
            format!("{:?} is a principal of one ring, which no project is named for", arguments.name),
            "leave --project out, or make a service account: NAME@DOMAIN",
        ));
    }
    let ring_role = arguments.role.unwrap_or(Role::User).ring_role().ok_or_else(|| {
        Failure::new(
            "this role is for service accounts",
            "choose kms.admin, kms.editor, kms.user or kms.reader, or make a service account: NAME@DOMAIN",
        )
    })?;
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let secret = pins::chosen(None, arguments.secret_file.as_deref())?;
    let (ring, name) = (arguments.ring.unwrap_or_else(|| DEFAULT_RING.to_owned()), arguments.name);
    let entry = Entry::append(&home.credentials(), &pins::account_entry(&ring, &name, &secret))?;
    backend.add_account(&ring, &name, ring_role, &secret)?;
    entry.keep();
    let credentials = home.credentials();
    if arguments.output.json {
        output::json(&json!({ "ring": ring, "name": name, "credentials": credentials.to_string_lossy() }));
    } else {
        output::line(&format!(
            "account {name:?} added to ring {ring:?}: it logs in with the PIN `{name}:SECRET`"
        ));
        output::line(&format!("that PIN is in {}", credentials.display()));
    }
    Ok(())
}

fn list(arguments: AccountList, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
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
            [account.email.clone(), "service account".into(), roles_of(account), state.into(), tokens, keys]
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

fn remove(arguments: AccountRemove, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let name = arguments.name;
    // An address or an id is a service account's; a principal's name has neither @ nor 36 characters.
    if name.contains('@') || uuid::Uuid::parse_str(&name).is_ok() {
        backend.remove_service_account(&name)?;
        tell(arguments.output.json, &json!({ "removed": name }), &format!("service account {name} removed"));
    } else {
        let ring = arguments.ring.unwrap_or_else(|| DEFAULT_RING.to_owned());
        backend.remove_principal(&ring, &name)?;
        let told =
            format!("{name:?} removed from ring {ring:?}; its PIN in DIR/credentials opens nothing now");
        tell(arguments.output.json, &json!({ "removed": name, "ring": ring }), &told);
    }
    Ok(())
}

fn set_disabled(arguments: AccountState, disabled: bool, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let account = arguments.account;
    Backend::open(&home.open(typed)?)?.set_service_account_disabled(&account, disabled)?;
    let state = if disabled { "shut out" } else { "let in again" };
    let json = json!({ "account": account, "disabled": disabled });
    tell(arguments.output.json, &json, &format!("service account {account} is {state}"));
    Ok(())
}

/// `kms role`.
pub(super) fn roles(command: RoleCommand, typed: &[OsString]) -> Result<(), Failure> {
    match command {
        RoleCommand::Grant(grant) => self::grant(grant.given, typed),
        RoleCommand::Revoke(revoke) => self::revoke(revoke.given, typed),
        RoleCommand::List(list) => list_roles(list, typed),
    }
}

fn grant(given: Given, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(given.home)?;
    let scope = Scope { project: given.project, ring: given.ring };
    let granted = Backend::open(&home.open(typed)?)?.grant_role(&given.account, given.role.into(), &scope)?;
    let told = format!("{} has the role {}", granted.account, role_words(&granted));
    tell(given.output.json, &grant_json(&granted), &told);
    Ok(())
}

fn revoke(given: Given, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(given.home)?;
    let (scope, role) =
        (Scope { project: given.project, ring: given.ring }, kms_core::api::Role::from(given.role));
    Backend::open(&home.open(typed)?)?.revoke_role(&given.account, role, &scope)?;
    let told = format!("{} no longer has the role {} there", given.account, role.name());
    tell(given.output.json, &json!({ "account": given.account, "revoked": role.name() }), &told);
    Ok(())
}

fn list_roles(arguments: RoleList, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let roles = Backend::open(&home.open(typed)?)?.roles(arguments.account.as_deref())?;
    if arguments.output.json {
        output::json(&roles.iter().map(grant_json).collect());
        return Ok(());
    }
    let rows: Vec<_> = roles
        .iter()
        .map(|grant| {
            let (project, ring) = places(grant);
            let created = output::time(grant.created);
            [grant.account.clone(), grant.role.name().to_owned(), project, ring, created]
        })
        .collect();
    output::table(["ACCOUNT", "ROLE", "PROJECT", "RING", "GRANTED"], &rows, "no roles are granted");
    Ok(())
}

/// What was done, for people or for scripts.
pub(super) fn tell(as_json: bool, value: &Value, line: &str) {
    if as_json { output::json(value) } else { output::line(line) }
}

fn roles_of(account: &AccountInfo) -> String {
    let words: Vec<_> = account.grants.iter().map(role_words).collect();
    if words.is_empty() { "no roles".to_owned() } else { words.join(", ") }
}

fn role_words(grant: &GrantInfo) -> String {
    let role = grant.role.name();
    match (places(grant), grant.ring, grant.project) {
        ((_, ring), Some(_), _) => format!("{role} in ring {ring}"),
        ((project, _), None, Some(_)) => format!("{role} in project {project}"),
        (_, None, None) => format!("{role} everywhere"),
    }
}

/// Project and ring by name; by id where what had the name is gone.
fn places(grant: &GrantInfo) -> (String, String) {
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
    })
}
