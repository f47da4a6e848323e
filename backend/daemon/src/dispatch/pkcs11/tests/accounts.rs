//! Service accounts from a bearer's text to an account, over REST and over PKCS #11, with a real token and database.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use kms_core::api::{Role as Given, Status};
use kms_store::KeyAlgorithm;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::service::{AccountKeyInfo, Scope};

const CI: &str = "ci@test.sa.kms.local";

impl Fixture {
    fn account(&self, role: Given, ring: Option<&str>) {
        let scope = Scope { project: None, ring: ring.map(str::to_owned) };
        self.backend.add_service_account(CI, Some((role, scope))).unwrap();
    }

    fn token(&self, name: &str, life: Option<Duration>) -> String {
        self.backend.create_token(CI, name, life).unwrap().text.to_string()
    }

    fn authenticate(&self, bearer: &str) -> Result<String, (Status, String)> {
        let dispatch = self.backend.dispatch();
        let now = dispatch.clock.seconds();
        let known = dispatch.authenticate(bearer, now);
        if let Some(recognised) = dispatch.recognise(bearer, now) {
            assert_eq!(recognised, known, "from memory and from the database the same");
        }
        known.map(|account| account.email.clone()).map_err(|problem| (problem.status, problem.message))
    }

    fn exchange(&self, ask: TokenRequest<'_>) -> Result<TokenPair, String> {
        let context = TokenRequestContext { source: None, agent: "test", trace: None };
        let refused = |problem: kms_core::api::Problem| {
            assert_eq!(problem.status, Status::Forbidden);
            problem.message
        };
        self.backend.dispatch().exchange(&context, ask).map_err(refused)
    }

    fn later(&self, seconds: u64) {
        self.backend.dispatch().clock.advance(seconds);
    }
}

struct Signer {
    key: AccountKeyInfo,
    private: String,
}

impl Signer {
    fn new(fixture: &Fixture, life: Option<Duration>) -> Self {
        let (key, private) = fixture.backend.create_account_key(CI, KeyAlgorithm::Rsa2048, life).unwrap();
        Self { key, private: private.to_string() }
    }

    fn assertion(&self, fixture: &Fixture, change: (&str, Value)) -> String {
        let now = fixture.backend.dispatch().clock.seconds();
        let mut claims = json!({
            "iss": CI, "sub": self.key.account, "aud": self.key.audience,
            "jti": Uuid::new_v4(), "iat": now, "exp": now + 600,
        });
        claims[change.0] = change.1;
        let mut header = Header::new(Algorithm::RS512);
        header.kid = Some(self.key.id.to_string());
        encode(&header, &claims, &EncodingKey::from_rsa_pem(self.private.as_bytes()).unwrap()).unwrap()
    }

    fn pair(&self, fixture: &Fixture) -> TokenPair {
        fixture.exchange(TokenRequest::Assertion(&self.assertion(fixture, ("x", json!(1))))).unwrap()
    }
}

#[test]
fn a_token_counts_until_it_is_revoked_or_ends_and_not_while_its_account_is_shut_out() {
    let name = "accounts::a_token_counts_until_it_is_revoked_or_ends_and_not_while_its_account_is_shut_out";
    let Some(fixture) = Fixture::new(name) else { return };
    fixture.account(Given::User, None);
    let (lasting, short) =
        (fixture.token("lasting", None), fixture.token("short", Some(Duration::from_secs(60))));
    assert_eq!(fixture.authenticate(&lasting), Ok(CI.to_owned()));
    assert_eq!(fixture.authenticate(&short), Ok(CI.to_owned()));
    assert!(fixture.backend.dispatch().recognise(&lasting, 0).is_some(), "it is remembered");
    fixture.later(61);
    let (status, expired) = fixture.authenticate(&short).unwrap_err();
    assert!(status == Status::Unauthenticated && expired.contains("expired"), "{expired}");

    let unknown = fixture.authenticate("nonsense").unwrap_err();
    assert_eq!(unknown.0, Status::Unauthenticated);
    let forged = policy::token_of(&[9; 32]);
    let long = "x".repeat(100_000);
    for wrong in ["", "kms_", "kms_short", &lasting[1..], &forged, &long] {
        assert_eq!(fixture.authenticate(wrong), Err(unknown.clone()), "the same words for {wrong:.20?}");
    }
    fixture.backend.set_service_account_disabled(CI, true).unwrap();
    assert_eq!(fixture.authenticate(&lasting), Err(unknown.clone()));
    fixture.backend.set_service_account_disabled(CI, false).unwrap();
    assert_eq!(fixture.authenticate(&lasting), Ok(CI.to_owned()));
    fixture.backend.revoke_token(CI, "lasting").unwrap();
    assert_eq!(fixture.authenticate(&lasting), Err(unknown));
    let used = fixture.backend.tokens(Some(CI)).unwrap();
    assert!(used.len() == 1 && used[0].used.is_some_and(|hour| hour % 3600 == 0), "{used:?}");
}

#[test]
fn an_assertion_becomes_an_access_token_once() {
    let Some(fixture) = Fixture::new("accounts::an_assertion_becomes_an_access_token_once") else { return };
    fixture.account(Given::User, None);
    let signer = Signer::new(&fixture, None);
    let assertion = signer.assertion(&fixture, ("x", json!(1)));
    let pair = fixture.exchange(TokenRequest::Assertion(&assertion)).unwrap();
    assert_eq!(pair.seconds, 3600);
    assert_eq!(fixture.authenticate(&pair.access), Ok(CI.to_owned()));
    assert!(fixture.authenticate(&pair.refresh).is_err(), "a refresh token opens nothing");
    let again = fixture.exchange(TokenRequest::Assertion(&assertion)).map(drop).unwrap_err();
    assert!(again.contains("exchanged before"), "{again}");
    for (change, words) in [
        (("aud", json!("urn:kms:other")), "audience"),
        (("iss", json!("other@test")), "issuer"),
        (("exp", json!(1)), "expired"),
        (("exp", json!(u32::MAX)), "longer than an hour"),
        (("jti", Value::Null), "jti"),
    ] {
        let refused = fixture
            .exchange(TokenRequest::Assertion(&signer.assertion(&fixture, change)))
            .map(drop)
            .unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    let other = Signer { key: Signer::new(&fixture, None).key, private: signer.private.clone() };
    let forged = other.assertion(&fixture, ("x", json!(1)));
    assert!(fixture.exchange(TokenRequest::Assertion(&forged)).is_err());
    assert!(fixture.exchange(TokenRequest::Assertion("a.b.c")).is_err());
    fixture.later(3600);
    assert!(fixture.authenticate(&pair.access).unwrap_err().1.contains("expired"));
}

#[test]
fn refreshed_tokens_end_with_the_key_the_account_or_their_time() {
    let Some(fixture) = Fixture::new("accounts::refreshed_tokens_end_with_the_key_the_account_or_their_time")
    else {
        return;
    };
    fixture.account(Given::User, None);
    let signer = Signer::new(&fixture, Some(Duration::from_secs(30 * 3600)));
    let pair = signer.pair(&fixture);
    fixture.later(1800);
    let next = fixture.exchange(TokenRequest::Refresh(&pair.refresh)).unwrap();
    assert_eq!(fixture.authenticate(&next.access), Ok(CI.to_owned()));
    // The vendor's Python client uses its first refresh token again and again.
    fixture.exchange(TokenRequest::Refresh(&pair.refresh)).unwrap();
    assert!(
        fixture.exchange(TokenRequest::Refresh(&pair.access)).is_err(),
        "an access token refreshes nothing"
    );
    fixture.backend.revoke_account_key(&signer.key.id.to_string()).unwrap();
    assert!(fixture.authenticate(&next.access).is_err());
    assert!(fixture.exchange(TokenRequest::Refresh(&pair.refresh)).is_err());
    assert!(fixture.exchange(TokenRequest::Assertion(&signer.assertion(&fixture, ("x", json!(1))))).is_err());

    let signer = Signer::new(&fixture, Some(Duration::from_secs(30 * 3600)));
    let pair = signer.pair(&fixture);
    fixture.backend.set_service_account_disabled(CI, true).unwrap();
    assert!(fixture.exchange(TokenRequest::Refresh(&pair.refresh)).is_err());
    fixture.backend.set_service_account_disabled(CI, false).unwrap();
    assert!(fixture.authenticate(&pair.access).is_err(), "what was got before does not come back");
    let pair = signer.pair(&fixture);
    fixture.later(24 * 3600);
    let late = fixture.exchange(TokenRequest::Refresh(&pair.refresh)).map(drop).unwrap_err();
    assert!(late.contains("expired"), "{late}");
    let last = signer.pair(&fixture);
    fixture.later(6 * 3600 - 600);
    let short = fixture.exchange(TokenRequest::Refresh(&last.refresh)).unwrap();
    // Fewer, if the seconds of this test went by in between.
    assert!((1..=600).contains(&short.seconds), "no token outlives the key: {}", short.seconds);
    fixture.later(601);
    assert!(fixture.exchange(TokenRequest::Refresh(&last.refresh)).is_err());
}

#[test]
fn a_key_of_the_owners_own_signs_too() {
    let Some(fixture) = Fixture::new("accounts::a_key_of_the_owners_own_signs_too") else { return };
    fixture.account(Given::User, None);
    let other = fixture.backend.create_account_key(CI, KeyAlgorithm::Rsa4096, None).unwrap();
    fixture.backend.revoke_account_key(&other.0.id.to_string()).unwrap();
    let twice = fixture.backend.add_account_key(CI, &other.0.public, None);
    assert!(twice.is_err(), "a key that was revoked does not come back");
    let pair = kms_crypto::generate_account_key_pair(4096, &fixture.backend.dispatch().random).unwrap();
    let pem = kms_crypto::public_key_pem(&pair.public).unwrap();
    let key = fixture.backend.add_account_key(CI, &pem, None).unwrap();
    let signer = Signer { key, private: pair.private.to_string() };
    assert_eq!(fixture.authenticate(&signer.pair(&fixture).access), Ok(CI.to_owned()));
}

#[test]
fn a_token_is_a_pin_where_its_accounts_roles_count() {
    let Some(mut fixture) = Fixture::new("accounts::a_token_is_a_pin_where_its_accounts_roles_count") else {
        return;
    };
    fixture.account(Given::Admin, Some("strict"));
    let token = fixture.token("pkcs11", None);
    assert_eq!(fixture.log_in(Role::Officer, &token), Err(Rv::PIN_INCORRECT));
    fixture.log_in(Role::User, &token).unwrap();
    let key = fixture.aes("account's", true).object;
    let session = fixture.aes("private", false).object;
    fixture.encrypt(&key, b"data").unwrap();
    fixture.encrypt(&session, b"data").unwrap();
    let change = Request::SetPin {
        role: Role::User,
        old: Secret::from(token.as_bytes()),
        new: Secret::from(b"98765".as_slice()),
    };
    assert_eq!(fixture.ask(change).map(drop), Err(Rv::ACTION_PROHIBITED));
    let account_ticket = fixture.ticket.clone();
    fixture.slot = SlotId(1);
    assert_eq!(fixture.encrypt(&key, b"data").map(drop), Err(Rv::USER_NOT_LOGGED_IN), "another ring");
    assert_eq!(fixture.log_in(Role::User, &token), Err(Rv::PIN_INCORRECT), "no role counts there");
    fixture.slot = SlotId(0);

    fixture.log_in(Role::User, "1234").unwrap();
    assert!(
        fixture.encrypt(&session, b"data").is_err(),
        "the ring's user has not the account's session objects"
    );
    fixture.ticket = account_ticket;
    // The role decides, and what it becomes counts at the next call.
    let ring = Scope { project: None, ring: Some("strict".to_owned()) };
    fixture.backend.grant_role(CI, Given::Reader, &ring).unwrap();
    fixture.encrypt(&key, b"data").unwrap();
    fixture.backend.revoke_role(CI, Given::Admin, &ring).unwrap();
    assert_eq!(fixture.encrypt(&key, b"data").map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    fixture.log_in(Role::User, &token).unwrap();
    assert_eq!(fixture.encrypt(&key, b"data").map(drop), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    assert_eq!(fixture.find(vec![Attribute::bytes(AttributeType::LABEL, "account's")]).len(), 1);
    fixture.backend.revoke_token(CI, "pkcs11").unwrap();
    let find = Request::Find { template: Template(Vec::new()), after: None };
    assert_eq!(fixture.ask(find).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    assert_eq!(fixture.log_in(Role::User, &token), Err(Rv::PIN_INCORRECT));
}

#[test]
fn a_login_ends_with_its_token() {
    let Some(mut fixture) = Fixture::new("accounts::a_login_ends_with_its_token") else { return };
    fixture.account(Given::User, None);
    let token = fixture.token("short", Some(Duration::from_secs(3600)));
    fixture.log_in(Role::User, &token).unwrap();
    fixture.later(3599);
    assert!(fixture.find(Vec::new()).is_empty());
    fixture.later(2);
    let find = Request::Find { template: Template(Vec::new()), after: None };
    assert_eq!(fixture.ask(find).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
}

#[test]
fn a_principal_that_comes_back_does_not_revive_its_logins() {
    let Some(mut fixture) = Fixture::new("accounts::a_principal_that_comes_back_does_not_revive_its_logins")
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
    assert_eq!(fixture.ask(find()).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    std::thread::sleep(Duration::from_millis(2));
    fixture.backend.add_account("strict", "alice", ring_role, &secret).unwrap();
    assert_eq!(fixture.ask(find()).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    assert!(fixture.backend.remove_principal("strict", "user").is_err());
    assert!(fixture.backend.remove_principal("strict", "bob").is_err());
    let listed = fixture.backend.principals(Some("strict")).unwrap();
    assert_eq!(listed.iter().map(|known| known.name.as_str()).collect::<Vec<_>>(), ["alice", "so", "user"]);
}

/// Not a test of time: `cargo test --release -p kms-daemon dispatch::tests::accounts::cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn cost() {
    let Some(fixture) = Fixture::new("accounts::cost") else { return };
    fixture.account(Given::User, None);
    let (token, pair) = (fixture.token("t", None), Signer::new(&fixture, None).pair(&fixture));
    for (what, bearer) in [("static token", token.as_str()), ("access token", &pair.access)] {
        fixture.authenticate(bearer).unwrap();
        let dispatch = fixture.backend.dispatch();
        let start = std::time::Instant::now();
        for _ in 0..100_000 {
            let now = dispatch.clock.seconds();
            std::hint::black_box(dispatch.authenticate(std::hint::black_box(bearer), now).unwrap());
        }
        println!("{what}: {:?}", start.elapsed() / 100_000);
    }
}
