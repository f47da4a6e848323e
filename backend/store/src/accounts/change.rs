//! Changes of service accounts, inside the writer's transaction. Each forgets what it makes stale.

use kms_core::api::Grant;
use rusqlite::params;
use uuid::Uuid;

use super::rows::{AccountKey, GivenGrant, ServiceAccount, Stored, Token};
use super::{Assertion, AssertionUse};
use crate::StoreError;
use crate::cache::Stale;
use crate::rows::signed;
use crate::writer::WriteTx;

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
    tx: &WriteTx<'_>,
    what: &'static str,
    most: u64,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<(), StoreError> {
    let count: u64 = tx.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    if count < most { Ok(()) } else { Err(StoreError::TooMany { what, most }) }
}

fn account(tx: &WriteTx<'_>, id: Uuid) -> Result<ServiceAccount, StoreError> {
    let found = ServiceAccount::one(tx.connection, tx.key, "WHERE id = ?1", [id.as_bytes()])?;
    found.ok_or(StoreError::NotFound)
}

pub(super) fn insert_account(
    tx: &WriteTx<'_>,
    account: &ServiceAccount,
    grants: &[GivenGrant],
) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM accounts WHERE email = ?1";
    if tx.connection.query_row(sql, [&account.email], |row| row.get::<_, u64>(0))? > 0 {
        return Err(StoreError::Taken(account.email.clone()));
    }
    room(tx, "service accounts", ACCOUNTS_MAX, "SELECT count(*) FROM accounts", [])?;
    account.put(tx)?;
    grants.iter().try_for_each(|given| insert_grant(tx, given))
}

/// Ends all that was derived from an account's tokens and keys, and changes it.
pub(super) fn end_generation(
    tx: &WriteTx<'_>,
    id: Uuid,
    change: impl FnOnce(&mut ServiceAccount),
) -> Result<(), StoreError> {
    let mut account = account(tx, id)?;
    account.generation += 1;
    change(&mut account);
    account.put(tx)?;
    tx.forget(Stale::Account(id));
    Ok(())
}

pub(super) fn remove_account(tx: &WriteTx<'_>, id: Uuid) -> Result<(), StoreError> {
    account(tx, id)?;
    let mut digests = tx.connection.prepare_cached("SELECT digest FROM tokens WHERE account = ?1")?;
    let digests = digests.query_map([id.as_bytes()], |row| row.get::<_, [u8; 32]>(0))?;
    for digest in digests {
        tx.forget(Stale::Token(digest?));
    }
    for sql in [
        "DELETE FROM token_uses WHERE token IN (SELECT id FROM tokens WHERE account = ?1)",
        "DELETE FROM tokens WHERE account = ?1",
        "DELETE FROM account_keys WHERE account = ?1",
        "DELETE FROM grants WHERE account = ?1",
        "DELETE FROM accounts WHERE id = ?1",
    ] {
        tx.connection.prepare_cached(sql)?.execute([id.as_bytes()])?;
    }
    tx.forget(Stale::Account(id));
    Ok(())
}

/// The grants of an account that can be read.
fn grants(tx: &WriteTx<'_>, account: Uuid) -> Result<Vec<GivenGrant>, StoreError> {
    let all = GivenGrant::all(tx.connection, tx.key, "WHERE account = ?1", [account.as_bytes()])?;
    Ok(all.0)
}

pub(super) fn insert_grant(tx: &WriteTx<'_>, given: &GivenGrant) -> Result<(), StoreError> {
    account(tx, given.account)?;
    if grants(tx, given.account)?.iter().any(|known| known.grant == given.grant) {
        return Err(StoreError::Taken(given.grant.role.name().to_owned()));
    }
    let count = "SELECT count(*) FROM grants WHERE account = ?1";
    room(tx, "roles of one account", GRANTS_MAX, count, [given.account.as_bytes()])?;
    given.insert(tx)?;
    tx.forget(Stale::Account(given.account));
    Ok(())
}

pub(super) fn remove_grant(tx: &WriteTx<'_>, account: Uuid, grant: Grant) -> Result<(), StoreError> {
    let found = grants(tx, account)?.into_iter().find(|known| known.grant == grant);
    let found = found.ok_or(StoreError::NotFound)?;
    tx.connection.execute("DELETE FROM grants WHERE id = ?1", [found.id.as_bytes()])?;
    tx.forget(Stale::Account(account));
    Ok(())
}

pub(super) fn insert_token(tx: &WriteTx<'_>, token: &Token) -> Result<(), StoreError> {
    account(tx, token.account)?;
    let sql = "SELECT count(*) FROM tokens WHERE account = ?1 AND name = ?2";
    let same: u64 =
        tx.connection.query_row(sql, params![token.account.as_bytes(), token.name], |row| row.get(0))?;
    if same > 0 {
        return Err(StoreError::Taken(token.name.clone()));
    }
    let count = "SELECT count(*) FROM tokens WHERE account = ?1";
    room(tx, "tokens of one account", TOKENS_MAX, count, [token.account.as_bytes()])?;
    token.insert(tx)
}

pub(super) fn remove_token(tx: &WriteTx<'_>, id: Uuid) -> Result<(), StoreError> {
    let sql = "DELETE FROM tokens WHERE id = ?1 RETURNING digest";
    let digest = tx.connection.query_row(sql, [id.as_bytes()], |row| row.get::<_, [u8; 32]>(0))?;
    tx.connection.execute("DELETE FROM token_uses WHERE token = ?1", [id.as_bytes()])?;
    tx.forget(Stale::Token(digest));
    Ok(())
}

pub(super) fn insert_key(tx: &WriteTx<'_>, key: &AccountKey) -> Result<(), StoreError> {
    account(tx, key.account)?;
    let sql = "SELECT count(*) FROM account_keys WHERE account = ?1 AND public_key = ?2";
    let same: u64 =
        tx.connection.query_row(sql, params![key.account.as_bytes(), key.public], |row| row.get(0))?;
    if same > 0 {
        return Err(StoreError::Taken("this public key".to_owned()));
    }
    let count = "SELECT count(*) FROM account_keys WHERE account = ?1";
    room(tx, "keys of one account", KEYS_MAX, count, [key.account.as_bytes()])?;
    key.put(tx)
}

pub(super) fn revoke_key(tx: &WriteTx<'_>, id: Uuid, now: u64) -> Result<(), StoreError> {
    let found = AccountKey::one(tx.connection, tx.key, "WHERE id = ?1", [id.as_bytes()])?;
    let key = found.filter(|key| key.revoked.is_none()).ok_or(StoreError::NotFound)?;
    let account = key.account;
    AccountKey { revoked: Some(now), ..key }.put(tx)?;
    end_generation(tx, account, |_| {})
}

pub(super) fn spend(tx: &WriteTx<'_>, assertion: Assertion, now: u64) -> Result<AssertionUse, StoreError> {
    let sql = "DELETE FROM assertions WHERE digest IN \
               (SELECT digest FROM assertions WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    tx.connection.prepare_cached(sql)?.execute(params![signed(now), ASSERTIONS_FORGOTTEN])?;
    let count = "SELECT count(*) FROM assertions WHERE account = ?1";
    let most = ASSERTIONS_MAX;
    room(tx, "assertions of one account that have not ended", most, count, [assertion.account.as_bytes()])?;
    let sql = "INSERT INTO assertions (digest, account, expires) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let values = params![assertion.digest, assertion.account.as_bytes(), signed(assertion.expires)];
    match tx.connection.prepare_cached(sql)?.execute(values)? {
        0 => Ok(AssertionUse::Before),
        _ => Ok(AssertionUse::Now),
    }
}
