//! Writes of service accounts inside the writer's transaction. Each invalidates the cached rows that it changes.

use kms_core::api::Grant;
use kms_core::integrity::Cell;
use rusqlite::params;
use uuid::Uuid;

use super::rows::{AccountGrant, AccountKey, AccountRow, ServiceAccount, Token};
use super::{Assertion, AssertionExchange};
use crate::StoreError;
use crate::cache::Invalidation;
use crate::rows::signed;
use crate::writer::WriteTx;

/// The maximum number of accounts in a home: ten times that of the largest organisation that we know.
const ACCOUNTS_MAX: u64 = 100_000;

/// The maximum number of grants of one account: each call checks all of them.
const GRANTS_MAX: u64 = 256;

/// The maximum number of tokens of one account.
const TOKENS_MAX: u64 = 256;

/// The maximum number of keys of one account, including revoked ones.
const KEYS_MAX: u64 = 256;

/// The maximum number of assertions of one account that have not expired: about three a second, for the hour that an
/// assertion may be valid.
const ASSERTIONS_MAX: u64 = 10_000;

/// The maximum number of expired assertions deleted with each new one.
const ASSERTIONS_DELETED_MAX: i64 = 100;

/// Fails if `most` rows exist already.
fn check_limit(
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
    grants: &[AccountGrant],
) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM accounts WHERE email = ?1";
    if tx.connection.query_row(sql, [&account.email], |row| row.get::<_, u64>(0))? > 0 {
        return Err(StoreError::NameInUse(account.email.clone()));
    }
    check_limit(tx, "service accounts", ACCOUNTS_MAX, "SELECT count(*) FROM accounts", [])?;
    account.insert(tx)?;
    grants.iter().try_for_each(|given| insert_grant(tx, given))
}

/// Changes an account, and ends all logins and access tokens derived from its tokens and keys.
pub(super) fn end_generation(
    tx: &WriteTx<'_>,
    id: Uuid,
    change: impl FnOnce(&mut ServiceAccount),
) -> Result<(), StoreError> {
    let mut account = account(tx, id)?;
    account.generation += 1;
    change(&mut account);
    account.update(tx)?;
    tx.invalidate(Invalidation::Account(id));
    Ok(())
}

pub(super) fn remove_account(tx: &WriteTx<'_>, id: Uuid) -> Result<(), StoreError> {
    account(tx, id)?;
    let mut digests = tx.connection.prepare_cached("SELECT digest FROM tokens WHERE account = ?1")?;
    let digests = digests.query_map([id.as_bytes()], |row| row.get::<_, [u8; 32]>(0))?;
    for digest in digests {
        tx.invalidate(Invalidation::Token(digest?));
    }
    let of_tokens = "token IN (SELECT id FROM tokens WHERE account = ?1)";
    tx.delete_where("token_uses", of_tokens, [id.as_bytes()])?;
    let account = [("account", Cell::Bytes(id.as_bytes()))];
    for table in [Token::TABLE, AccountKey::TABLE, "refresh_families", AccountGrant::TABLE] {
        tx.delete(table, &account)?;
    }
    tx.delete_one(ServiceAccount::TABLE, &[("id", Cell::Bytes(id.as_bytes()))])?;
    tx.invalidate(Invalidation::Account(id));
    Ok(())
}

/// Returns the grants of an account that can be read.
fn grants(tx: &WriteTx<'_>, account: Uuid) -> Result<Vec<AccountGrant>, StoreError> {
    let all = AccountGrant::all(tx.connection, tx.key, "WHERE account = ?1", [account.as_bytes()])?;
    Ok(all.0)
}

pub(super) fn insert_grant(tx: &WriteTx<'_>, given: &AccountGrant) -> Result<(), StoreError> {
    account(tx, given.account)?;
    if grants(tx, given.account)?.iter().any(|other| other.grant == given.grant) {
        return Err(StoreError::NameInUse(given.grant.role.name().to_owned()));
    }
    let count = "SELECT count(*) FROM grants WHERE account = ?1";
    check_limit(tx, "roles of one account", GRANTS_MAX, count, [given.account.as_bytes()])?;
    given.insert(tx)?;
    tx.invalidate(Invalidation::Account(given.account));
    Ok(())
}

pub(super) fn remove_grant(tx: &WriteTx<'_>, account: Uuid, grant: Grant) -> Result<(), StoreError> {
    let found = grants(tx, account)?.into_iter().find(|other| other.grant == grant);
    let found = found.ok_or(StoreError::NotFound)?;
    tx.delete_one(AccountGrant::TABLE, &[("id", Cell::Bytes(found.id.as_bytes()))])?;
    tx.invalidate(Invalidation::Account(account));
    Ok(())
}

pub(super) fn insert_token(tx: &WriteTx<'_>, token: &Token) -> Result<(), StoreError> {
    account(tx, token.account)?;
    let sql = "SELECT count(*) FROM tokens WHERE account = ?1 AND name = ?2";
    let same: u64 =
        tx.connection.query_row(sql, params![token.account.as_bytes(), token.name], |row| row.get(0))?;
    if same > 0 {
        return Err(StoreError::NameInUse(token.name.clone()));
    }
    let count = "SELECT count(*) FROM tokens WHERE account = ?1";
    check_limit(tx, "tokens of one account", TOKENS_MAX, count, [token.account.as_bytes()])?;
    token.insert(tx)
}

pub(super) fn remove_token(tx: &WriteTx<'_>, id: Uuid) -> Result<(), StoreError> {
    let sql = "SELECT digest FROM tokens WHERE id = ?1";
    let digest = tx.connection.query_row(sql, [id.as_bytes()], |row| row.get::<_, [u8; 32]>(0))?;
    tx.delete_one(Token::TABLE, &[("id", Cell::Bytes(id.as_bytes()))])?;
    tx.delete("token_uses", &[("token", Cell::Bytes(id.as_bytes()))])?;
    tx.invalidate(Invalidation::Token(digest));
    Ok(())
}

pub(super) fn insert_key(tx: &WriteTx<'_>, key: &AccountKey) -> Result<(), StoreError> {
    account(tx, key.account)?;
    let sql = "SELECT count(*) FROM account_keys WHERE account = ?1 AND public_key = ?2";
    let same: u64 =
        tx.connection.query_row(sql, params![key.account.as_bytes(), key.public], |row| row.get(0))?;
    if same > 0 {
        return Err(StoreError::NameInUse("this public key".to_owned()));
    }
    let count = "SELECT count(*) FROM account_keys WHERE account = ?1";
    check_limit(tx, "keys of one account", KEYS_MAX, count, [key.account.as_bytes()])?;
    key.insert(tx)
}

pub(super) fn revoke_key(tx: &WriteTx<'_>, id: Uuid, now: u64) -> Result<(), StoreError> {
    let found = AccountKey::one(tx.connection, tx.key, "WHERE id = ?1", [id.as_bytes()])?;
    let key = found.filter(|key| key.revoked.is_none()).ok_or(StoreError::NotFound)?;
    let account = key.account;
    AccountKey { revoked: Some(now), ..key }.update(tx)?;
    end_generation(tx, account, |_| {})
}

pub(super) fn exchange_assertion(
    tx: &WriteTx<'_>,
    assertion: Assertion,
    now: u64,
) -> Result<AssertionExchange, StoreError> {
    let expired = "digest IN (SELECT digest FROM assertions WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    tx.delete_where("assertions", expired, params![signed(now), ASSERTIONS_DELETED_MAX])?;
    let count = "SELECT count(*) FROM assertions WHERE account = ?1";
    let most = ASSERTIONS_MAX;
    check_limit(
        tx,
        "assertions of one account that have not expired",
        most,
        count,
        [assertion.account.as_bytes()],
    )?;
    let sql = "SELECT count(*) FROM assertions WHERE digest = ?1";
    let known: u64 = tx.connection.prepare_cached(sql)?.query_row([assertion.digest], |row| row.get(0))?;
    if known > 0 {
        return Ok(AssertionExchange::Replayed);
    }
    let columns = [
        ("digest", Cell::Bytes(&assertion.digest)),
        ("account", Cell::Bytes(assertion.account.as_bytes())),
        ("expires", Cell::Integer(signed(assertion.expires))),
    ];
    tx.insert("assertions", &columns)?;
    Ok(AssertionExchange::First)
}
