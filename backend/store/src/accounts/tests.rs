//! Service accounts in a real database: caching, revocation, edited rows.

use kms_core::api::Role;
use rusqlite::Connection;

use super::*;
use crate::tests::{Fixture, entry};

fn account(number: u128) -> ServiceAccount {
    let email = format!("account-{number}@test.sa.kms.local");
    ServiceAccount { id: Uuid::from_u128(number), email, created: 5, disabled: None, generation: 1 }
}

fn grant_of(account: u128, role: Role, ring: Option<u128>) -> AccountGrant {
    let grant = Grant { role, project: Some(Uuid::from_u128(77)), ring: ring.map(Uuid::from_u128) };
    AccountGrant { id: Uuid::new_v4(), account: Uuid::from_u128(account), grant, created: 6 }
}

fn token(account: u128, name: &str, digest: u8) -> Token {
    let (id, account) = (Uuid::new_v4(), Uuid::from_u128(account));
    Token { id, account, name: name.to_owned(), digest: [digest; 32], created: 7, expires: Some(900) }
}

fn key(account: u128) -> AccountKey {
    AccountKey {
        id: Uuid::new_v4(),
        account: Uuid::from_u128(account),
        algorithm: KeyAlgorithm::Rsa4096,
        public: vec![1, 2, 3],
        generated: true,
        created: 8,
        valid_until: Some(800),
        revoked: None,
    }
}

#[test]
fn stored_rows_are_read_after_a_restart_and_names_are_unique() {
    let (fixture, store) = Fixture::new();
    let grants = vec![grant_of(1, Role::Admin, None), grant_of(1, Role::Reader, Some(3))];
    store.insert_account(account(1), grants.clone(), entry(1)).unwrap();
    store.insert_account(account(2), Vec::new(), entry(1)).unwrap();
    let same = ServiceAccount { id: Uuid::from_u128(9), ..account(1) };
    assert!(matches!(store.insert_account(same, Vec::new(), entry(1)), Err(StoreError::NameInUse(_))));
    let taken = store.insert_grant(grant_of(1, Role::Admin, None), entry(1));
    assert!(matches!(taken, Err(StoreError::NameInUse(_))));
    let (token, key) = (token(1, "ci", 4), key(1));
    store.insert_token(token.clone(), entry(1)).unwrap();
    let again = Token { digest: [5; 32], id: Uuid::new_v4(), ..token.clone() };
    assert!(matches!(store.insert_token(again, entry(1)), Err(StoreError::NameInUse(_))));
    store.insert_account_key(key.clone(), entry(1)).unwrap();
    assert!(matches!(store.insert_account_key(key.clone(), entry(1)), Err(StoreError::NameInUse(_))));
    drop(store);

    let store = fixture.open();
    assert_eq!(store.accounts().unwrap(), [account(1), account(2)]);
    assert_eq!(store.account_named(&account(2).email).unwrap(), Some(account(2)));
    assert_eq!(store.account_named("unknown@x").unwrap(), None);
    let mut read = store.grants(Some(Uuid::from_u128(1))).unwrap();
    read.sort_by_key(|given| given.grant.ring.is_some());
    assert_eq!(read, grants);
    assert_eq!(store.tokens(None).unwrap(), [token]);
    assert_eq!(store.account_keys(Some(Uuid::from_u128(1))).unwrap(), std::slice::from_ref(&key));
    assert_eq!(store.account_key(key.id).unwrap(), Some(key));
    assert!(store.tokens(Some(Uuid::from_u128(2))).unwrap().is_empty());
}

#[test]
fn a_change_is_visible_at_once_and_a_removed_account_leaves_no_rows() {
    let (fixture, store) = Fixture::new();
    let id = Uuid::from_u128(1);
    store.insert_account(account(1), vec![grant_of(1, Role::User, None)], entry(1)).unwrap();
    let token = token(1, "ci", 4);
    store.insert_token(token.clone(), entry(1)).unwrap();
    store.insert_account_key(key(1), entry(1)).unwrap();
    assert!(store.record_token_use(token.id, 3600) && store.record_token_use(Uuid::from_u128(99), 1));
    assert!(store.record_token_use(token.id, 7));
    // The writer keeps the order of jobs: when this one is done, those before are done.
    store.insert_account(account(2), Vec::new(), entry(1)).unwrap();
    store.remove_account(account(2).id, entry(1)).unwrap();
    assert_eq!(store.token_used(token.id).unwrap(), Some(3600));
    assert_eq!(store.token_used(Uuid::from_u128(99)).unwrap(), None);
    let before = store.member(id).unwrap().unwrap();
    assert!(Arc::ptr_eq(&before, &store.cached_account(id).unwrap()));
    assert_eq!(store.token([4; 32]).unwrap().unwrap().id, token.id);

    store.insert_grant(grant_of(1, Role::Reader, Some(3)), entry(1)).unwrap();
    assert_eq!(store.member(id).unwrap().unwrap().account.grants.len(), 2);
    store.remove_grant(id, grant_of(1, Role::Reader, Some(3)).grant, entry(1)).unwrap();
    let again = store.remove_grant(id, grant_of(1, Role::Reader, Some(3)).grant, entry(1));
    assert!(matches!(again, Err(StoreError::NotFound)));
    assert_eq!(store.member(id).unwrap().unwrap(), before);

    store.set_account_disabled(id, Some(10), entry(1)).unwrap();
    let member = store.member(id).unwrap().unwrap();
    assert!(member.disabled && member.generation == 2);
    let kid = store.account_keys(None).unwrap()[0].id;
    store.revoke_account_key(kid, 11, entry(1)).unwrap();
    assert!(matches!(store.revoke_account_key(kid, 12, entry(1)), Err(StoreError::NotFound)));
    assert_eq!(store.member(id).unwrap().unwrap().generation, 3);
    assert!(!store.account_key(kid).unwrap().unwrap().is_active(12));

    store.remove_account(id, entry(1)).unwrap();
    assert_eq!(store.member(id).unwrap(), None);
    assert_eq!(store.token([4; 32]).unwrap(), None);
    assert!(matches!(store.remove_account(id, entry(1)), Err(StoreError::NotFound)));
    let edit = Connection::open(fixture.path()).unwrap();
    for table in ["accounts", "grants", "tokens", "account_keys", "token_uses"] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(edit.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "{table}");
    }
}

#[test]
fn a_token_revoked_by_another_process_is_unknown_within_a_second() {
    let (fixture, store) = Fixture::new();
    store.insert_account(account(1), Vec::new(), entry(1)).unwrap();
    let token = token(1, "ci", 4);
    store.insert_token(token.clone(), entry(1)).unwrap();
    assert!(store.token([4; 32]).unwrap().is_some());
    fixture.open().remove_token(token.id, entry(1)).unwrap();
    let mut waited = 0;
    while store.token([4; 32]).unwrap().is_some() {
        waited += 50;
        assert!(waited < 1000, "the token is still valid");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn an_edited_row_is_not_used() {
    let (fixture, store) = Fixture::new();
    store.insert_account(account(1), vec![grant_of(1, Role::User, Some(3))], entry(1)).unwrap();
    store.insert_token(token(1, "ci", 4), entry(1)).unwrap();
    store.insert_account_key(key(1), entry(1)).unwrap();
    drop(store);
    let edit = Connection::open(fixture.path()).unwrap();
    let member = |store: &Store| store.member(Uuid::from_u128(1)).map(|found| found.unwrap());
    for (change, undo) in [
        ("role = 'owner'", "role = 'kms.user'"),
        ("ring = NULL", "ring = unhex('00000000000000000000000000000003')"),
        ("project = NULL", "project = unhex('0000000000000000000000000000004d')"),
    ] {
        edit.execute_batch(&format!("UPDATE grants SET {change}")).unwrap();
        assert!(member(&fixture.open()).unwrap().account.grants.is_empty(), "{change}");
        edit.execute_batch(&format!("UPDATE grants SET {undo}")).unwrap();
        assert_eq!(member(&fixture.open()).unwrap().account.grants.len(), 1, "{undo}");
    }
    for (change, undo) in
        [("expires = NULL", "expires = 900"), ("account = account, created = 6", "created = 7")]
    {
        edit.execute_batch(&format!("UPDATE tokens SET {change}")).unwrap();
        assert!(fixture.open().token([4; 32]).is_err(), "{change}");
        edit.execute_batch(&format!("UPDATE tokens SET {undo}")).unwrap();
        assert!(fixture.open().token([4; 32]).unwrap().is_some(), "{undo}");
    }
    edit.execute_batch("UPDATE account_keys SET public_key = unhex('09')").unwrap();
    assert!(fixture.open().account_keys(None).unwrap().is_empty());
    edit.execute_batch("UPDATE accounts SET generation = 9").unwrap();
    assert!(member(&fixture.open()).is_err());
}

#[test]
fn an_assertion_can_be_exchanged_once_until_it_expires() {
    let (_fixture, store) = Fixture::new();
    store.insert_account(account(1), Vec::new(), entry(1)).unwrap();
    let assertion = Assertion { account: Uuid::from_u128(1), digest: [1; 32], expires: 100 };
    let family = || RefreshFamily::new(Uuid::new_v4(), Uuid::from_u128(1), Uuid::new_v4(), 200);
    let spend =
        |assertion, now| store.exchange_assertion(assertion, family(), now, entry(1), entry(1)).unwrap();
    assert_eq!(spend(assertion, 10), AssertionExchange::First);
    assert_eq!(spend(assertion, 99), AssertionExchange::Replayed);
    assert_eq!(spend(Assertion { digest: [2; 32], ..assertion }, 99), AssertionExchange::First);
    // By then the caller rejects it as expired.
    assert_eq!(spend(assertion, 101), AssertionExchange::First);
}

/// A refresh of the login 1 at a time: the token `presented` is replaced by `next`.
fn refresh(store: &Store, presented: u128, next: u128, now: u64) -> RefreshExchange {
    let id = Uuid::from_u128;
    let (family, account, presented, next) = (id(1), id(1), id(presented), id(next));
    let token = RefreshUse { family, account, presented, next, expires: now + 100, now };
    store.rotate_refresh(token, entry(1)).unwrap()
}

/// A store with the login 1, whose first refresh token is 10.
fn with_login() -> (Fixture, Store) {
    let (fixture, store) = Fixture::new();
    store.insert_account(account(1), Vec::new(), entry(1)).unwrap();
    let assertion = Assertion { account: Uuid::from_u128(1), digest: [1; 32], expires: 100 };
    let id = Uuid::from_u128;
    let family = RefreshFamily::new(id(1), id(1), id(10), 150);
    store.exchange_assertion(assertion, family, 50, entry(1), entry(1)).unwrap();
    (fixture, store)
}

#[test]
fn a_refresh_token_is_used_once_and_reuse_revokes_its_login() {
    let (fixture, store) = with_login();
    assert_eq!(refresh(&store, 10, 11, 60), RefreshExchange::Rotated);
    drop(store);
    let store = fixture.open();
    assert_eq!(refresh(&store, 11, 12, 100), RefreshExchange::Rotated);
    // Two generations old: at once; the previous one: after the time for repetitions.
    assert_eq!(refresh(&store, 11, 13, 111), RefreshExchange::Reused);
    for token in [10, 11, 12, 13] {
        assert_eq!(refresh(&store, token, 14, 111), RefreshExchange::Refused, "{token}");
    }
    drop(store);
    assert_eq!(refresh(&fixture.open(), 12, 14, 112), RefreshExchange::Refused);

    let (_fixture, store) = with_login();
    refresh(&store, 10, 11, 60);
    refresh(&store, 11, 12, 61);
    assert_eq!(refresh(&store, 10, 13, 62), RefreshExchange::Reused);
}

#[test]
fn a_lost_response_can_be_repeated_for_seconds_and_ends_the_lost_token() {
    let (_fixture, store) = with_login();
    assert_eq!(refresh(&store, 10, 11, 60), RefreshExchange::Rotated);
    assert_eq!(refresh(&store, 10, 12, 70), RefreshExchange::Rotated);
    assert_eq!(refresh(&store, 12, 13, 71), RefreshExchange::Rotated);
    assert_eq!(refresh(&store, 11, 14, 72), RefreshExchange::Reused, "the lost one was not lost");
    assert_eq!(refresh(&store, 13, 14, 72), RefreshExchange::Refused);
}

#[test]
fn a_login_that_is_deleted_or_edited_refuses_its_refresh_tokens() {
    let (fixture, store) = with_login();
    refresh(&store, 10, 11, 60);
    drop(store);
    fixture.edit("UPDATE refresh_families SET current = previous");
    let store = fixture.open();
    let id = Uuid::from_u128;
    let (presented, next) = (id(10), id(12));
    let token = RefreshUse { family: id(1), account: id(1), presented, next, expires: 160, now: 60 };
    let edited = store.rotate_refresh(token, entry(1));
    assert!(matches!(edited, Err(StoreError::RowInvalid { .. })), "{edited:?}");
    drop(store);
    fixture.edit("DELETE FROM refresh_families");
    assert_eq!(refresh(&fixture.open(), 11, 12, 60), RefreshExchange::Refused);
    // Expired logins are deleted with the next ones.
    let (fixture, store) = with_login();
    let assertion = Assertion { account: id(1), digest: [2; 32], expires: 400 };
    let family = RefreshFamily::new(id(2), id(1), id(20), 400);
    store.exchange_assertion(assertion, family, 300, entry(1), entry(1)).unwrap();
    assert_eq!(refresh(&store, 10, 11, 300), RefreshExchange::Refused);
    drop(fixture);
}
