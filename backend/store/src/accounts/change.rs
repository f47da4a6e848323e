//! Changes of service accounts, inside the writer's transaction. Each forgets what it makes stale.

use kms_core::api::Grant;
use rusqlite::params;
use uuid::Uuid;

use super::rows::{AccountKey, GivenGrant, ServiceAccount, Stored, Token};
use super::{Assertion, Spent};
use crate::StoreError;
use crate::cache::Stale;
use crate::rows::signed;
use crate::writer::Desk;

/// Accounts in a home: ten times the largest organisation's that we know.
const ACCOUNTS_MAX: u64 = 100_000;

/// Grants of one account: all of them are looked at in each call.
const GRANTS_MAX: u64 = 256;

/// Tokens of one account.
const TOKENS_MAX: u64 = 256;

/// Keys of one account, those among them that are revoked.
const KEYS_MAX: u64 = 256;

/// Assertions of one account that have not ended: three each second of the hour that one may last.
const ASSERTIONS_MAX: u64 = 10_000;

/// Assertions that have ended are forgotten so many at a time.
const ASSERTIONS_FORGOTTEN: i64 = 100;

/// Refuses one more where there are `most` already.
fn room(
    desk: &Desk<'_>,
    what: &'static str,
    most: u64,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<(), StoreError> {
    let count: u64 = desk.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    if count < most { Ok(()) } else { Err(StoreError::TooMany { what, most }) }
}

fn account(desk: &Desk<'_>, id: Uuid) -> Result<ServiceAccount, StoreError> {
    let found = ServiceAccount::one(desk.connection, desk.key, "WHERE id = ?1", [id.as_bytes()])?;
    found.ok_or(StoreError::NotFound)
}

pub(super) fn insert_account(
    desk: &Desk<'_>,
    account: &ServiceAccount,
    grants: &[GivenGrant],
) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM accounts WHERE email = ?1";
    if desk.connection.query_row(sql, [&account.email], |row| row.get::<_, u64>(0))? > 0 {
        return Err(StoreError::Taken(account.email.clone()));
    }
    room(desk, "service accounts", ACCOUNTS_MAX, "SELECT count(*) FROM accounts", [])?;
    account.put(desk)?;
    grants.iter().try_for_each(|given| insert_grant(desk, given))
}

/// Ends all that was derived from an account's tokens and keys, and changes it.
pub(super) fn end_generation(
    desk: &Desk<'_>,
    id: Uuid,
    change: impl FnOnce(&mut ServiceAccount),
) -> Result<(), StoreError> {
    let mut account = account(desk, id)?;
    account.generation += 1;
    change(&mut account);
    account.put(desk)?;
    desk.forget(Stale::Account(id));
    Ok(())
}

pub(super) fn remove_account(desk: &Desk<'_>, id: Uuid) -> Result<(), StoreError> {
    account(desk, id)?;
    let mut digests = desk.connection.prepare_cached("SELECT digest FROM tokens WHERE account = ?1")?;
    let digests = digests.query_map([id.as_bytes()], |row| row.get::<_, [u8; 32]>(0))?;
    for digest in digests {
        desk.forget(Stale::Token(digest?));
    }
    for sql in [
        "DELETE FROM token_uses WHERE token IN (SELECT id FROM tokens WHERE account = ?1)",
        "DELETE FROM tokens WHERE account = ?1",
        "DELETE FROM account_keys WHERE account = ?1",
        "DELETE FROM grants WHERE account = ?1",
        "DELETE FROM accounts WHERE id = ?1",
    ] {
        desk.connection.prepare_cached(sql)?.execute([id.as_bytes()])?;
    }
    desk.forget(Stale::Account(id));
    Ok(())
}

/// The grants of an account that can be read.
fn grants(desk: &Desk<'_>, account: Uuid) -> Result<Vec<GivenGrant>, StoreError> {
    let all = GivenGrant::all(desk.connection, desk.key, "WHERE account = ?1", [account.as_bytes()])?;
    Ok(all.0)
}

pub(super) fn insert_grant(desk: &Desk<'_>, given: &GivenGrant) -> Result<(), StoreError> {
    account(desk, given.account)?;
    if grants(desk, given.account)?.iter().any(|known| known.grant == given.grant) {
        return Err(StoreError::Taken(given.grant.role.name().to_owned()));
    }
    let count = "SELECT count(*) FROM grants WHERE account = ?1";
    room(desk, "roles of one account", GRANTS_MAX, count, [given.account.as_bytes()])?;
    given.insert(desk)?;
    desk.forget(Stale::Account(given.account));
    Ok(())
}

pub(super) fn remove_grant(desk: &Desk<'_>, account: Uuid, grant: Grant) -> Result<(), StoreError> {
    let found = grants(desk, account)?.into_iter().find(|known| known.grant == grant);
    let found = found.ok_or(StoreError::NotFound)?;
    desk.connection.execute("DELETE FROM grants WHERE id = ?1", [found.id.as_bytes()])?;
    desk.forget(Stale::Account(account));
    Ok(())
}

pub(super) fn insert_token(desk: &Desk<'_>, token: &Token) -> Result<(), StoreError> {
    account(desk, token.account)?;
    let sql = "SELECT count(*) FROM tokens WHERE account = ?1 AND name = ?2";
    let same: u64 =
        desk.connection.query_row(sql, params![token.account.as_bytes(), token.name], |row| row.get(0))?;
    if same > 0 {
        return Err(StoreError::Taken(token.name.clone()));
    }
    let count = "SELECT count(*) FROM tokens WHERE account = ?1";
    room(desk, "tokens of one account", TOKENS_MAX, count, [token.account.as_bytes()])?;
    token.insert(desk)
}

pub(super) fn remove_token(desk: &Desk<'_>, id: Uuid) -> Result<(), StoreError> {
    let sql = "DELETE FROM tokens WHERE id = ?1 RETURNING digest";
    let digest = desk.connection.query_row(sql, [id.as_bytes()], |row| row.get::<_, [u8; 32]>(0))?;
    desk.connection.execute("DELETE FROM token_uses WHERE token = ?1", [id.as_bytes()])?;
    desk.forget(Stale::Token(digest));
    Ok(())
}

pub(super) fn insert_key(desk: &Desk<'_>, key: &AccountKey) -> Result<(), StoreError> {
    account(desk, key.account)?;
    let sql = "SELECT count(*) FROM account_keys WHERE account = ?1 AND public_key = ?2";
    let same: u64 =
        desk.connection.query_row(sql, params![key.account.as_bytes(), key.public], |row| row.get(0))?;
    if same > 0 {
        return Err(StoreError::Taken("this public key".to_owned()));
    }
    let count = "SELECT count(*) FROM account_keys WHERE account = ?1";
    room(desk, "keys of one account", KEYS_MAX, count, [key.account.as_bytes()])?;
    key.put(desk)
}

pub(super) fn revoke_key(desk: &Desk<'_>, id: Uuid, now: u64) -> Result<(), StoreError> {
    let found = AccountKey::one(desk.connection, desk.key, "WHERE id = ?1", [id.as_bytes()])?;
    let key = found.filter(|key| key.revoked.is_none()).ok_or(StoreError::NotFound)?;
    let account = key.account;
    AccountKey { revoked: Some(now), ..key }.put(desk)?;
    end_generation(desk, account, |_| {})
}

pub(super) fn spend(desk: &Desk<'_>, assertion: Assertion, now: u64) -> Result<Spent, StoreError> {
    let sql = "DELETE FROM assertions WHERE digest IN \
               (SELECT digest FROM assertions WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    desk.connection.prepare_cached(sql)?.execute(params![signed(now), ASSERTIONS_FORGOTTEN])?;
    let count = "SELECT count(*) FROM assertions WHERE account = ?1";
    let most = ASSERTIONS_MAX;
    room(desk, "assertions of one account that have not ended", most, count, [assertion.account.as_bytes()])?;
    let sql = "INSERT INTO assertions (digest, account, expires) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let values = params![assertion.digest, assertion.account.as_bytes(), signed(assertion.expires)];
    match desk.connection.prepare_cached(sql)?.execute(values)? {
        0 => Ok(Spent::Before),
        _ => Ok(Spent::Now),
    }
}
