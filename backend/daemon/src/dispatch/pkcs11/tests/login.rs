//! Logins, PINs and principals.

use std::path::Path;

use kms_store::{PinKind, Principal, StoreError};
use rusqlite::Connection;

use super::*;
use crate::service::{Backend, ServiceError};

/// Guesses the PIN of the user in slot 0 from a copy of the database alone, as it was possible before hashes were bound
/// to the HSM.
fn guess_from(copy: &Path, guesses: impl IntoIterator<Item = String>) -> Option<String> {
    use argon2::{Argon2, PasswordVerifier};
    let sql =
        "SELECT pin_hash FROM principals JOIN rings ON rings.id = ring WHERE slot = 0 AND name = 'user'";
    let hash: String = Connection::open(copy).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    guesses
        .into_iter()
        .find(|guess| Argon2::default().verify_password(guess.as_bytes(), hash.as_str()).is_ok())
}

#[test]
fn a_copy_of_the_database_confirms_no_pin() {
    let Some(mut fixture) = Fixture::new("login::a_copy_of_the_database_confirms_no_pin") else { return };
    let guesses = || (1225..=1240).map(|pin: u32| pin.to_string());
    let mut copies = 0;
    let mut copy = |fixture: &Fixture| {
        copies += 1;
        let path = fixture.home.join(format!("copy-{copies}.db"));
        fixture.backend.backup(&path, |_, _| {}).unwrap();
        path
    };
    assert_eq!(guess_from(&copy(&fixture), guesses()), None);
    assert!(fixture.backend.principals(None).unwrap().iter().all(|principal| principal.pin_bound));

    // A row of an earlier version, whose PIN is found; the next login binds it.
    let ring = fixture.backend.dispatch().store.ring(SlotId(0)).unwrap().unwrap();
    let user = fixture.backend.dispatch().store.principal(ring.id, "user").unwrap().unwrap();
    let plain = {
        use argon2::{Argon2, PasswordHasher};
        Argon2::default().hash_password_with_salt(b"1234", &[7; 16]).unwrap().to_string()
    };
    let old = Principal { pin_hash: plain, pin_kind: PinKind::Plain, ..Principal::clone(&user) };
    fixture.backend.dispatch().store.put_principal(ring.id, &old, None).unwrap();
    assert_eq!(guess_from(&copy(&fixture), guesses()).as_deref(), Some("1234"));
    assert_eq!(fixture.log_in(Role::User, "4321"), Err(Rv::PIN_INCORRECT));
    assert_eq!(guess_from(&copy(&fixture), guesses()).as_deref(), Some("1234"));
    let unbound = fixture.backend.principals(None).unwrap();
    assert_eq!(unbound.iter().filter(|principal| !principal.pin_bound).count(), 1);
    fixture.log_in(Role::User, "1234").unwrap();
    let ticket = fixture.ticket.clone();
    assert_eq!(guess_from(&copy(&fixture), guesses()), None);
    assert!(fixture.backend.principals(None).unwrap().iter().all(|principal| principal.pin_bound));
    // No login ends, and the PIN is the same.
    assert!(fixture.find(vec![]).is_empty());
    let mut fixture = fixture.restart();
    assert_eq!(fixture.log_in(Role::User, "4321"), Err(Rv::PIN_INCORRECT));
    fixture.log_in(Role::User, "1234").unwrap();
    fixture.ticket = ticket;
    assert!(fixture.find(vec![]).is_empty());

    // The kind is under the row's MAC, and the key is never made anew while a hash needs it.
    let database = fixture.home.join("kms.db");
    let edit =
        |sql: &str| assert!(Connection::open(&database).unwrap().execute(sql, []).unwrap() > 0, "{sql}");
    edit("UPDATE principals SET pin_kind = NULL WHERE name = 'user'");
    let Fixture { home, backend, .. } = fixture;
    drop(backend);
    let open = || Backend::open(&Config::read(&home.join(config::FILE_NAME)).unwrap());
    let backend = open().unwrap();
    let edited = backend.dispatch().store.principal(ring.id, "user");
    assert!(matches!(edited, Err(StoreError::RowInvalid { table: "principals", .. })), "{edited:?}");
    drop(backend);
    edit("DELETE FROM service_keys WHERE purpose = 'pins'");
    assert!(matches!(open(), Err(ServiceError::Incomplete("pins"))));
}

#[test]
fn logins_end_when_the_officer_sets_the_pin() {
    let Some(mut fixture) = Fixture::new("login::logins_end_when_the_officer_sets_the_pin") else { return };
    assert_eq!(fixture.log_in(Role::User, "4321"), Err(Rv::PIN_INCORRECT));
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    let user = fixture.ticket.clone();
    let (old, new) = (Secret::from(b"1234".as_slice()), Secret::from(b"5678".as_slice()));
    fixture.send(Request::SetPin { role: Role::User, old, new }).unwrap();
    fixture.encrypt(&key, b"changing one's own PIN ends no login").unwrap();
    fixture.log_in(Role::Officer, "12345678").unwrap();
    assert!(fixture.encrypt(&key, b"the officer uses no keys").is_err());
    assert!(fixture.find(vec![]).is_empty());
    fixture.send(Request::InitPin { pin: Secret::from(b"9999".as_slice()) }).unwrap();
    fixture.ticket = user;
    assert_eq!(fixture.encrypt(&key, b"data"), Err(Rv::USER_NOT_LOGGED_IN));
    fixture.ticket = None;
    fixture.log_in(Role::User, "9999").unwrap();
    fixture.encrypt(&key, b"data").unwrap();
}

#[test]
fn a_proof_of_a_context_login_expires_and_ends_with_its_login() {
    let name = "login::a_proof_of_a_context_login_expires_and_ends_with_its_login";
    let Some(mut fixture) = Fixture::new(name) else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    let always = Attribute::bool(AttributeType::ALWAYS_AUTHENTICATE, true);
    let sign = Attribute::bool(AttributeType::SIGN, true);
    for token in [true, false] {
        let request = Request::GeneratePair {
            mechanism: Mechanism::plain(MechanismType::RSA_PKCS_KEY_PAIR_GEN),
            public: Template(vec![Attribute::ulong(AttributeType::MODULUS_BITS, 2048)]),
            private: Template(vec![
                Attribute::bool(AttributeType::TOKEN, token),
                always.clone(),
                sign.clone(),
            ]),
        };
        let Response::Pair { private, .. } = fixture.send(request).unwrap() else { panic!("no pair") };
        let key = private.object;
        let prove = |fixture: &mut Fixture| {
            let pin = Secret::from(b"1234".as_slice());
            let response = fixture.send(Request::ProveUse { key: key.clone(), pin }).unwrap();
            let Response::Proof(proof) = response else { panic!("{response:?}") };
            proof
        };
        let sign = |fixture: &mut Fixture, proof: Secret| {
            let (mechanism, data) = (Mechanism::plain(MechanismType::SHA256_RSA_PKCS), vec![7; 32].into());
            fixture.send(Request::SignProven { key: key.clone(), mechanism, data, proof }).map(drop)
        };
        assert_eq!(fixture.sign(&key).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
        let proof = prove(&mut fixture);
        sign(&mut fixture, proof.clone()).unwrap();
        assert_eq!(sign(&mut fixture, proof), Err(Rv::USER_NOT_LOGGED_IN));
        let (early, late) = (prove(&mut fixture), prove(&mut fixture));
        fixture.backend.dispatch().clock.advance(20);
        sign(&mut fixture, early).unwrap();
        fixture.backend.dispatch().clock.advance(11);
        assert_eq!(sign(&mut fixture, late), Err(Rv::USER_NOT_LOGGED_IN));
        // The officer sets the PIN: a new login of the same user does not revive the proof of the old one.
        let proof = prove(&mut fixture);
        fixture.ticket = None;
        fixture.log_in(Role::Officer, "12345678").unwrap();
        fixture.send(Request::InitPin { pin: Secret::from(b"1234".as_slice()) }).unwrap();
        fixture.ticket = None;
        fixture.log_in(Role::User, "1234").unwrap();
        // A session object has ended with its login.
        let ended = if token { Rv::USER_NOT_LOGGED_IN } else { Rv::KEY_HANDLE_INVALID };
        assert_eq!(sign(&mut fixture, proof), Err(ended));
    }
}

#[test]
fn a_principal_that_is_created_again_does_not_revive_its_logins() {
    let Some(mut fixture) =
        Fixture::new("login::a_principal_that_is_created_again_does_not_revive_its_logins")
    else {
        return;
    };
    let secret = Secret::from(b"swordfish".as_slice());
    let ring_role = kms_core::object::RingRole::User;
    fixture.backend.add_account("strict", "alice", ring_role, &secret).unwrap();
    fixture.log_in(Role::User, "alice:swordfish").unwrap();
    assert!(fixture.find(Vec::new()).is_empty());
    fixture.backend.remove_principal("strict", "alice").unwrap();
    let find = || Request::Find { template: Template(Vec::new()), after: None };
    assert_eq!(fixture.send(find()).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    std::thread::sleep(std::time::Duration::from_millis(2));
    fixture.backend.add_account("strict", "alice", ring_role, &secret).unwrap();
    assert_eq!(fixture.send(find()).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    assert!(fixture.backend.remove_principal("strict", "user").is_err());
    assert!(fixture.backend.remove_principal("strict", "bob").is_err());
    let listed = fixture.backend.principals(Some("strict")).unwrap();
    assert_eq!(
        listed.iter().map(|principal| principal.name.as_str()).collect::<Vec<_>>(),
        ["alice", "so", "user"]
    );
}
