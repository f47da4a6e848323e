//! Authentication of service accounts over REST and PKCS#11, with a real token and database.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use kms_core::api::{Problem, Role as ApiRole, Status};
use kms_core::policy;
use kms_protocol::{
    Attribute, AttributeType, Mechanism, MechanismType, Request, Response, Role, Rv, Secret, SlotId, Template,
};
use kms_store::KeyAlgorithm;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dispatch::tests::Fixture;
use crate::dispatch::{TokenPair, TokenRequest, TokenRequestContext};
use crate::service::{AccountKeyInfo, RestoreOptions, Scope};

const CI: &str = "ci@test.sa.kms.local";

/// Creates the fixture for a test of this file.
fn fixture(test: &str) -> Option<Fixture> {
    Fixture::start(&format!("accounts::tests::{test}"))
}

impl Fixture {
    fn create_account(&self, role: ApiRole, ring: Option<&str>) {
        let scope = Scope { project: None, ring: ring.map(str::to_owned) };
        self.backend.add_service_account(CI, Some((role, scope))).unwrap();
    }

    fn create_token(&self, name: &str, lifetime: Option<Duration>) -> String {
        self.backend.create_token(CI, name, lifetime).unwrap().text.to_string()
    }

    fn authenticate(&self, bearer: &str) -> Result<String, (Status, String)> {
        let dispatch = self.backend.dispatch();
        let now = dispatch.clock.seconds();
        let authenticated = dispatch.authenticate(bearer, now);
        if let Some(recognised) = dispatch.authenticate_cached(bearer, now) {
            assert_eq!(recognised, authenticated, "the cache and the database agree");
        }
        authenticated
            .map(|account| account.email.clone())
            .map_err(|problem| (problem.status, problem.message))
    }

    fn exchange(&self, request: TokenRequest<'_>) -> Result<TokenPair, String> {
        let context = TokenRequestContext { source: None, agent: "test", trace: None };
        let message = |problem: Problem| {
            assert_eq!(problem.status, Status::Forbidden);
            problem.message
        };
        self.backend.dispatch().exchange(&context, request).map_err(message)
    }
}

struct Signer {
    key: AccountKeyInfo,
    private: String,
}

impl Signer {
    fn new(fixture: &Fixture, lifetime: Option<Duration>) -> Self {
        let (key, private) = fixture.backend.create_account_key(CI, KeyAlgorithm::Rsa2048, lifetime).unwrap();
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
fn a_token_is_valid_until_it_expires_or_is_revoked_or_its_account_is_disabled() {
    let name = "a_token_is_valid_until_it_expires_or_is_revoked_or_its_account_is_disabled";
    let Some(fixture) = fixture(name) else { return };
    fixture.create_account(ApiRole::User, None);
    let (lasting, short) =
        (fixture.create_token("lasting", None), fixture.create_token("short", Some(Duration::from_secs(60))));
    assert_eq!(fixture.authenticate(&lasting), Ok(CI.to_owned()));
    assert_eq!(fixture.authenticate(&short), Ok(CI.to_owned()));
    assert!(fixture.backend.dispatch().authenticate_cached(&lasting, 0).is_some(), "it is cached");
    fixture.advance_clock(61);
    let (status, expired) = fixture.authenticate(&short).unwrap_err();
    assert!(status == Status::Unauthenticated && expired.contains("expired"), "{expired}");

    let unknown = fixture.authenticate("nonsense").unwrap_err();
    assert_eq!(unknown.0, Status::Unauthenticated);
    let forged = policy::token_of(&[9; 32]);
    let long = "x".repeat(100_000);
    for wrong in ["", "kms_", "kms_short", &lasting[1..], &forged, &long] {
        assert_eq!(fixture.authenticate(wrong), Err(unknown.clone()), "the same message for {wrong:.20?}");
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
fn an_assertion_is_exchanged_once() {
    let Some(fixture) = fixture("an_assertion_is_exchanged_once") else { return };
    fixture.create_account(ApiRole::User, None);
    let signer = Signer::new(&fixture, None);
    let assertion = signer.assertion(&fixture, ("x", json!(1)));
    let pair = fixture.exchange(TokenRequest::Assertion(&assertion)).unwrap();
    assert_eq!(pair.seconds, 3600);
    assert_eq!(fixture.authenticate(&pair.access), Ok(CI.to_owned()));
    assert!(fixture.authenticate(&pair.refresh).is_err(), "a refresh token does not authenticate");
    let again = fixture.exchange(TokenRequest::Assertion(&assertion)).map(drop).unwrap_err();
    assert!(again.contains("exchanged before"), "{again}");
    for (change, words) in [
        (("aud", json!("urn:kms:other")), "audience"),
        (("iss", json!("other@test")), "issuer"),
        (("exp", json!(1)), "expired"),
        (("exp", json!(u32::MAX)), "longer than an hour"),
        (("jti", Value::Null), "jti"),
    ] {
        let message = fixture
            .exchange(TokenRequest::Assertion(&signer.assertion(&fixture, change)))
            .map(drop)
            .unwrap_err();
        assert!(message.contains(words), "{message}");
    }
    let other = Signer { key: Signer::new(&fixture, None).key, private: signer.private.clone() };
    let forged = other.assertion(&fixture, ("x", json!(1)));
    assert!(fixture.exchange(TokenRequest::Assertion(&forged)).is_err());
    assert!(fixture.exchange(TokenRequest::Assertion("a.b.c")).is_err());
    fixture.advance_clock(3600);
    assert!(fixture.authenticate(&pair.access).unwrap_err().1.contains("expired"));
}

/// Writes a backup, and restores it after `change`.
fn restored(fixture: Fixture, options: &RestoreOptions, change: impl FnOnce(&Fixture)) -> Fixture {
    let file = fixture.home.join("copy.db");
    fixture.backend.backup(&file, |_, _| {}).unwrap();
    change(&fixture);
    fixture.replace_database(&file, options)
}

#[test]
fn what_was_made_under_the_former_keys_ends_with_a_restore() {
    let Some(mut fixture) = fixture("what_was_made_under_the_former_keys_ends_with_a_restore") else {
        return;
    };
    fixture.create_account(ApiRole::Admin, None);
    let (valid, revoked) = (fixture.create_token("valid", None), fixture.create_token("revoked", None));
    let (signer, gone) = (Signer::new(&fixture, None), Signer::new(&fixture, None));
    let pair = signer.pair(&fixture);
    fixture.log_in(Role::User, &valid).unwrap();
    let key = fixture.aes("k", true).object;
    let spent = signer.assertion(&fixture, ("x", json!(1)));
    let change = |fixture: &Fixture| {
        fixture.exchange(TokenRequest::Assertion(&spent)).unwrap();
        fixture.backend.revoke_token(CI, "revoked").unwrap();
        fixture.backend.revoke_account_key(&gone.key.id.to_string()).unwrap();
    };
    let mut fixture = restored(fixture, &RestoreOptions::default(), change);
    assert_eq!(fixture.encrypt(&key, b"data"), Err(Rv::USER_NOT_LOGGED_IN));
    assert!(fixture.authenticate(&pair.access).is_err(), "an access token");
    assert!(fixture.exchange(TokenRequest::Refresh(&pair.refresh)).is_err(), "a refresh token");
    assert!(fixture.authenticate(&valid).is_ok(), "a static token that the replaced database accepts");
    assert!(fixture.authenticate(&revoked).is_err(), "a static token that was revoked");
    let refused = |fixture: &Fixture, text: &str| {
        fixture.exchange(TokenRequest::Assertion(text)).map(drop).unwrap_err()
    };
    assert!(refused(&fixture, &spent).contains("before the database was restored"));
    let undated = signer.assertion(&fixture, ("iat", Value::Null));
    assert!(refused(&fixture, &undated).contains("does not say when"));
    fixture.advance_clock(120);
    signer.pair(&fixture);
    assert!(
        refused(&fixture, &gone.assertion(&fixture, ("x", json!(1)))).contains("rejected"),
        "a revoked key"
    );
    fixture.advance_clock(7200);
    let undated = signer.assertion(&fixture, ("iat", Value::Null));
    fixture.exchange(TokenRequest::Assertion(&undated)).unwrap();
}

#[test]
fn a_restore_that_keeps_logins_keeps_credentials_but_no_spent_assertion() {
    let Some(mut fixture) = fixture("a_restore_that_keeps_logins_keeps_credentials_but_no_spent_assertion")
    else {
        return;
    };
    fixture.create_account(ApiRole::Admin, None);
    let revoked = fixture.create_token("revoked", None);
    let signer = Signer::new(&fixture, None);
    let pair = signer.pair(&fixture);
    fixture.log_in(Role::User, "1234").unwrap();
    let session = fixture.aes("session", false).object;
    let spent = signer.assertion(&fixture, ("x", json!(1)));
    let options = RestoreOptions { keep_logins: true, ..RestoreOptions::default() };
    let mut fixture = restored(fixture, &options, |fixture| {
        fixture.exchange(TokenRequest::Assertion(&spent)).unwrap();
        fixture.backend.revoke_token(CI, "revoked").unwrap();
    });
    fixture.encrypt(&session, b"data").unwrap();
    assert!(fixture.authenticate(&pair.access).is_ok() && fixture.authenticate(&revoked).is_ok());
    assert!(fixture.exchange(TokenRequest::Assertion(&spent)).is_err());
}

#[test]
fn refreshed_tokens_end_with_the_key_the_account_or_their_lifetime() {
    let Some(fixture) = fixture("refreshed_tokens_end_with_the_key_the_account_or_their_lifetime") else {
        return;
    };
    fixture.create_account(ApiRole::User, None);
    let signer = Signer::new(&fixture, Some(Duration::from_secs(30 * 3600)));
    let pair = signer.pair(&fixture);
    fixture.advance_clock(1800);
    let next = fixture.exchange(TokenRequest::Refresh(&pair.refresh)).unwrap();
    assert_eq!(fixture.authenticate(&next.access), Ok(CI.to_owned()));
    // The response may have been lost: the client repeats the request within seconds.
    let pair = fixture.exchange(TokenRequest::Refresh(&pair.refresh)).unwrap();
    assert!(
        fixture.exchange(TokenRequest::Refresh(&pair.access)).is_err(),
        "an access token is not a refresh token"
    );
    fixture.backend.revoke_account_key(&signer.key.id.to_string()).unwrap();
    assert!(fixture.authenticate(&next.access).is_err());
    assert!(fixture.exchange(TokenRequest::Refresh(&pair.refresh)).is_err());
    assert!(fixture.exchange(TokenRequest::Assertion(&signer.assertion(&fixture, ("x", json!(1))))).is_err());

    let signer = Signer::new(&fixture, Some(Duration::from_secs(3600 + 6600)));
    let pair = signer.pair(&fixture);
    fixture.backend.set_service_account_disabled(CI, true).unwrap();
    assert!(fixture.exchange(TokenRequest::Refresh(&pair.refresh)).is_err());
    fixture.backend.set_service_account_disabled(CI, false).unwrap();
    assert!(fixture.authenticate(&pair.access).is_err(), "earlier tokens stay invalid");
    let pair = signer.pair(&fixture);
    fixture.advance_clock(3600);
    let late = fixture.exchange(TokenRequest::Refresh(&pair.refresh)).map(drop).unwrap_err();
    assert!(late.contains("expired"), "{late}");
    let last = signer.pair(&fixture);
    fixture.advance_clock(1800);
    let last = fixture.exchange(TokenRequest::Refresh(&last.refresh)).unwrap();
    fixture.advance_clock(3000);
    let last = fixture.exchange(TokenRequest::Refresh(&last.refresh)).unwrap();
    fixture.advance_clock(1200);
    let short = fixture.exchange(TokenRequest::Refresh(&last.refresh)).unwrap();
    // Less than 600 if the test itself took some seconds.
    assert!((1..=600).contains(&short.seconds), "no token is valid longer than the key: {}", short.seconds);
    fixture.advance_clock(601);
    assert!(fixture.exchange(TokenRequest::Refresh(&last.refresh)).is_err());
}

#[test]
fn a_refresh_token_that_is_used_again_ends_its_login() {
    let Some(fixture) = fixture("a_refresh_token_that_is_used_again_ends_its_login") else { return };
    fixture.create_account(ApiRole::User, None);
    let signer = Signer::new(&fixture, None);
    let (stolen, other) = (signer.pair(&fixture), signer.pair(&fixture));
    let refresh = |pair: &TokenPair| fixture.exchange(TokenRequest::Refresh(&pair.refresh));
    // The thief is first, and renews what it has; then the owner presents the same token.
    let first = refresh(&stolen).unwrap();
    let thief = refresh(&first).unwrap();
    fixture.advance_clock(60);
    let message = refresh(&stolen).map(drop).unwrap_err();
    assert!(message.contains("used before") && message.contains("revoked"), "{message}");
    for pair in [&stolen, &first, &thief] {
        let message = refresh(pair).map(drop).unwrap_err();
        assert!(message.contains("sign a new assertion"), "{message}");
    }
    // It is recorded, and other logins of the account go on.
    let recorded = format!("{:?}", fixture.audit_log(0));
    assert_eq!(recorded.matches("a refresh token was used again").count(), 1, "{recorded}");
    let next = refresh(&other).unwrap();
    // The state is in the database.
    let fixture = fixture.restart();
    fixture.advance_clock(120);
    let refresh = |pair: &TokenPair| fixture.exchange(TokenRequest::Refresh(&pair.refresh));
    assert!(refresh(&thief).is_err());
    refresh(&next).unwrap();
    fixture.advance_clock(60);
    assert!(refresh(&next).map(drop).unwrap_err().contains("used before"));
}

#[test]
fn an_account_key_that_was_generated_elsewhere_signs_assertions() {
    let Some(fixture) = fixture("an_account_key_that_was_generated_elsewhere_signs_assertions") else {
        return;
    };
    fixture.create_account(ApiRole::User, None);
    let other = fixture.backend.create_account_key(CI, KeyAlgorithm::Rsa4096, None).unwrap();
    fixture.backend.revoke_account_key(&other.0.id.to_string()).unwrap();
    let twice = fixture.backend.add_account_key(CI, &other.0.public, None);
    assert!(twice.is_err(), "a revoked key cannot be added again");
    let pair = kms_crypto::generate_account_key_pair(4096, &fixture.backend.dispatch().random).unwrap();
    let pem = kms_crypto::public_key_pem(&pair.public).unwrap();
    let key = fixture.backend.add_account_key(CI, &pem, None).unwrap();
    let signer = Signer { key, private: pair.private.to_string() };
    assert_eq!(fixture.authenticate(&signer.pair(&fixture).access), Ok(CI.to_owned()));
}

#[test]
fn a_token_is_a_pin_in_rings_where_its_account_has_a_role() {
    let Some(mut fixture) = fixture("a_token_is_a_pin_in_rings_where_its_account_has_a_role") else {
        return;
    };
    fixture.create_account(ApiRole::Admin, Some("strict"));
    let token = fixture.create_token("pkcs11", None);
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
    assert_eq!(fixture.send(change).map(drop), Err(Rv::ACTION_PROHIBITED));
    let account_ticket = fixture.ticket.clone();
    fixture.slot = SlotId(1);
    assert_eq!(fixture.encrypt(&key, b"data").map(drop), Err(Rv::USER_NOT_LOGGED_IN), "another ring");
    assert_eq!(fixture.log_in(Role::User, &token), Err(Rv::PIN_INCORRECT), "the account has no role there");
    fixture.slot = SlotId(0);

    fixture.log_in(Role::User, "1234").unwrap();
    assert!(
        fixture.encrypt(&session, b"data").is_err(),
        "the ring's user cannot open the account's session objects"
    );
    fixture.ticket = account_ticket;
    // The role decides; a change takes effect at the next call.
    let ring = Scope { project: None, ring: Some("strict".to_owned()) };
    fixture.backend.grant_role(CI, ApiRole::Reader, &ring).unwrap();
    fixture.encrypt(&key, b"data").unwrap();
    fixture.backend.revoke_role(CI, ApiRole::Admin, &ring).unwrap();
    assert_eq!(fixture.encrypt(&key, b"data").map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    fixture.log_in(Role::User, &token).unwrap();
    assert_eq!(fixture.encrypt(&key, b"data").map(drop), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    assert_eq!(fixture.find(vec![Attribute::bytes(AttributeType::LABEL, "account's")]).len(), 1);
    fixture.backend.revoke_token(CI, "pkcs11").unwrap();
    let find = Request::Find { template: Template(Vec::new()), after: None };
    assert_eq!(fixture.send(find).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
    assert_eq!(fixture.log_in(Role::User, &token), Err(Rv::PIN_INCORRECT));
}

#[test]
fn a_login_ends_when_its_token_expires() {
    let Some(mut fixture) = fixture("a_login_ends_when_its_token_expires") else { return };
    fixture.create_account(ApiRole::User, None);
    let token = fixture.create_token("short", Some(Duration::from_secs(3600)));
    fixture.log_in(Role::User, &token).unwrap();
    fixture.advance_clock(3599);
    assert!(fixture.find(Vec::new()).is_empty());
    fixture.advance_clock(2);
    let find = Request::Find { template: Template(Vec::new()), after: None };
    assert_eq!(fixture.send(find).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
}

/// `cargo test --release -p kms-daemon dispatch::accounts::tests::cost -- --ignored --nocapture` prints it.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn cost() {
    let Some(fixture) = fixture("cost") else { return };
    fixture.create_account(ApiRole::User, None);
    let (token, pair) = (fixture.create_token("t", None), Signer::new(&fixture, None).pair(&fixture));
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

#[test]
fn a_token_is_the_pin_of_a_context_login() {
    let Some(mut fixture) = fixture("a_token_is_the_pin_of_a_context_login") else { return };
    fixture.create_account(ApiRole::User, Some("strict"));
    let (token, other) = (fixture.create_token("one", None), fixture.create_token("two", None));
    fixture.log_in(Role::User, &token).unwrap();
    let request = Request::GeneratePair {
        mechanism: Mechanism::plain(MechanismType::RSA_PKCS_KEY_PAIR_GEN),
        public: Template(vec![Attribute::ulong(AttributeType::MODULUS_BITS, 2048)]),
        private: Template(vec![
            Attribute::bool(AttributeType::SIGN, true),
            Attribute::bool(AttributeType::ALWAYS_AUTHENTICATE, true),
        ]),
    };
    let Response::Pair { private, .. } = fixture.send(request).unwrap() else { panic!("no pair") };
    let key = private.object;
    let prove = |fixture: &mut Fixture, pin: &str| {
        let request = Request::ProveUse { key: key.clone(), pin: Secret::from(pin.as_bytes()) };
        fixture.send(request).map(|response| {
            let Response::Proof(proof) = response else { panic!("{response:?}") };
            proof
        })
    };
    let sign = |fixture: &mut Fixture, proof: Secret| {
        let (mechanism, data) = (Mechanism::plain(MechanismType::SHA256_RSA_PKCS), vec![7; 32].into());
        fixture.send(Request::SignProven { key: key.clone(), mechanism, data, proof }).map(drop)
    };
    assert_eq!(prove(&mut fixture, &policy::token_of(&[9; 32])), Err(Rv::PIN_INCORRECT));
    assert_eq!(prove(&mut fixture, "1234"), Err(Rv::USER_NOT_LOGGED_IN), "the user's PIN");
    let proof = prove(&mut fixture, &token).unwrap();
    sign(&mut fixture, proof.clone()).unwrap();
    assert_eq!(sign(&mut fixture, proof), Err(Rv::USER_NOT_LOGGED_IN));
    // Any token of the account proves it; revoking the login's token ends both.
    let proof = prove(&mut fixture, &other).unwrap();
    fixture.backend.revoke_token(CI, "one").unwrap();
    assert_eq!(sign(&mut fixture, proof), Err(Rv::USER_NOT_LOGGED_IN));
}
