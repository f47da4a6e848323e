//! Whole operations with a real token and database, thirty days included.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test wants one answer")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms_core::api::{
    AccessScope, Account, Algorithm, CreateKey, CreateKeyRing, Data, Description, DisplayName, EditKey,
    Grant, KeyPath, KeyState, Page, Protection, Role, Tags, Version, VersionPath, VersionState,
};
use kms_protocol::{Attribute, AttributeType, Template};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::config::{self, Config};
use crate::service::Backend;
use crate::test_home;

const DAY: u64 = 24 * 3600;

struct Fixture {
    backend: Backend,
    context: RequestContext,
    ring: RingPath,
}

impl Fixture {
    fn new(test: &str) -> Option<Self> {
        let home = test_home::home_in_child(&format!("dispatch::api::tests::{test}"))?;
        let backend = Backend::create(&Config::read(&home.join(config::FILE_NAME)).unwrap()).unwrap();
        let ring = RingPath { project: Uuid::nil(), ring: Uuid::nil() };
        let mut fixture = Self { backend, context: context(Role::Owner, None), ring };
        fixture.ring.ring = fixture.make_ring("ring");
        Some(fixture)
    }

    fn serve(&self, operation: Operation) -> Result<Outcome, Problem> {
        self.backend.dispatch().serve(&self.context, operation)
    }

    fn make_ring(&self, name: &str) -> Uuid {
        let (display_name, description) = (DisplayName::new(name).unwrap(), Description::default());
        let ask = CreateKeyRing { display_name, description };
        let project = self.ring.project;
        match self.serve(Operation::CreateKeyRing { project, ask, repeat: None }).unwrap() {
            Outcome::KeyRing(ring) => ring.id,
            _ => panic!("no ring"),
        }
    }

    fn make_key(&self, name: &str, algorithm: Algorithm) -> KeyPath {
        self.make(create(name, algorithm), None)
    }

    fn make(&self, ask: CreateKey, repeat: Option<Uuid>) -> KeyPath {
        match self.serve(Operation::CreateKey { ring: self.ring, ask, repeat }).unwrap() {
            Outcome::Key(key) => KeyPath { ring: self.ring, key: key.id },
            _ => panic!("no key"),
        }
    }

    fn state(&self, key: KeyPath) -> Result<KeyState, u16> {
        match self.serve(Operation::GetKey(key)) {
            Ok(Outcome::Key(key)) => Ok(key.state),
            Ok(_) => panic!("no key"),
            Err(problem) => Err(problem.status.code()),
        }
    }

    fn version(&self, key: KeyPath, number: i64) -> Version {
        match self.serve(Operation::GetVersion(VersionPath { key, number })).unwrap() {
            Outcome::Version(version) => version,
            _ => panic!("no version"),
        }
    }

    fn encrypt(&self, key: KeyPath, number: i64, data: &[u8]) -> Result<Vec<u8>, u16> {
        let version = VersionPath { key, number };
        match self.serve(Operation::Encrypt { version, data: bytes(data), aad: Vec::new() }) {
            Ok(Outcome::Encrypted(encrypted)) => Ok(STANDARD.decode(encrypted.data).unwrap()),
            Ok(_) => panic!("no ciphertext"),
            Err(problem) => Err(problem.status.code()),
        }
    }

    fn decrypt(&self, key: KeyPath, number: i64, data: &[u8]) -> Result<Vec<u8>, u16> {
        let version = VersionPath { key, number };
        match self.serve(Operation::Decrypt { version, data: bytes(data), aad: Vec::new() }) {
            Ok(Outcome::Decrypted(plain)) => Ok(STANDARD.decode(plain.data).unwrap()),
            Ok(_) => panic!("no plaintext"),
            Err(problem) => Err(problem.status.code()),
        }
    }

    fn done(&self, operation: Operation) -> Result<(), u16> {
        self.serve(operation).map(drop).map_err(|problem| problem.status.code())
    }

    fn wait(&self, seconds: u64) {
        self.backend.dispatch().clock.advance(seconds);
        self.backend.dispatch().run_due_jobs();
    }

    /// What PKCS#11 finds under a label.
    fn found(&self, label: &str) -> usize {
        let template = Template(vec![Attribute::bytes(AttributeType::LABEL, label)]);
        let ring = RingId(self.ring.ring.into_bytes());
        self.backend.dispatch().store.find(ring, &template, None, 100).unwrap().len()
    }
}

fn context(role: Role, ring: Option<Uuid>) -> RequestContext {
    let grants = vec![Grant { role, project: Some(Uuid::nil()), ring }];
    RequestContext {
        account: Arc::new(Account { id: Uuid::from_u128(7), email: "a@b.c".to_owned(), grants }),
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        agent: "test".into(),
        endpoint: "POST /v1".to_owned(),
        trace: Uuid::from_u128(8),
    }
}

fn create(name: &str, algorithm: Algorithm) -> CreateKey {
    CreateKey {
        display_name: DisplayName::new(name).unwrap(),
        description: Description::default(),
        algorithm,
        protection: Protection::Software,
        import_only: false,
        access_scope: AccessScope::Public,
        tags: Tags::default(),
        rotation_days: None,
    }
}

fn bytes(data: &[u8]) -> Data {
    Data(Zeroizing::new(data.to_vec()))
}

fn at(key: KeyPath, number: i64) -> VersionPath {
    VersionPath { key, number }
}

#[test]
fn every_algorithm_does_what_it_is_for_and_nothing_else() {
    let Some(fixture) = Fixture::new("every_algorithm_does_what_it_is_for_and_nothing_else") else { return };
    for algorithm in Algorithm::ALL {
        let key = fixture.make_key("k", algorithm);
        let (data, version) = (bytes(b"data"), at(key, 1));
        let encrypted = fixture.encrypt(key, 1, b"data");
        let signed = fixture.serve(Operation::Sign { version, data: data.clone() });
        match algorithm.purpose() {
            Purpose::SymmetricEncryptDecrypt | Purpose::AsymmetricEncryptDecrypt => {
                let encrypted = encrypted.unwrap();
                assert_eq!(fixture.decrypt(key, 1, &encrypted).unwrap(), b"data");
                let mut other = encrypted.clone();
                *other.last_mut().unwrap() ^= 1;
                assert_eq!(fixture.decrypt(key, 1, &other), Err(400), "{}", algorithm.name());
                assert_eq!(fixture.encrypt(key, 1, &vec![0; 65_537]), Err(400));
                assert_eq!(signed.err().unwrap().status.code(), 400);
            }
            Purpose::MessageAuthenticationCode | Purpose::AsymmetricSignVerify => {
                assert_eq!(encrypted, Err(400));
                let Ok(Outcome::Signed(signed)) = signed else { panic!("{}", algorithm.name()) };
                let signature = STANDARD.decode(signed.signature).unwrap();
                let verify = |data: Data, signature: Vec<u8>| {
                    let asked = Operation::Verify { version, data, signature };
                    let Outcome::Verified(verified) = fixture.serve(asked).unwrap() else {
                        panic!("no verdict")
                    };
                    verified.valid
                };
                assert!(verify(data.clone(), signature.clone()), "{}", algorithm.name());
                assert!(!verify(bytes(b"date"), signature.clone()));
                for wrong in [vec![], signature[1..].to_vec(), [signature.as_slice(), &[0]].concat()] {
                    assert!(!verify(data.clone(), wrong));
                }
            }
        }
        assert_eq!(
            fixture.version(key, 1).public_key.is_some(),
            algorithm.class() != kms_protocol::ObjectClass::SECRET_KEY
        );
    }
}

#[test]
fn a_key_goes_through_its_life() {
    let Some(fixture) = Fixture::new("a_key_goes_through_its_life") else { return };
    let key = fixture.make_key("life", Algorithm::Aes256Gcm);
    let first = fixture.encrypt(key, 1, b"one").unwrap();
    assert_eq!(fixture.found("life"), 1);
    fixture.done(Operation::RotateKey(key)).unwrap();
    assert_eq!((fixture.found("life"), fixture.found("life#1")), (1, 1));
    let second = fixture.encrypt(key, 2, b"two").unwrap();
    assert_eq!(fixture.decrypt(key, 1, &first).unwrap(), b"one");
    assert_eq!(fixture.decrypt(key, 2, &first), Err(400), "bound to its version");

    // Disabled: at once, on both doors; the label follows the highest active version.
    fixture.done(Operation::DisableVersion(at(key, 2))).unwrap();
    assert_eq!(fixture.decrypt(key, 2, &second), Err(409));
    assert_eq!((fixture.found("life"), fixture.found("life#1"), fixture.found("life#2")), (1, 0, 0));
    assert!(fixture.version(key, 2).disabled);
    fixture.done(Operation::DestroyVersion(at(key, 2))).unwrap();
    assert_eq!(fixture.version(key, 2).state, VersionState::Destroyed);
    for refused in [Operation::EnableVersion(at(key, 2)), Operation::DestroyVersion(at(key, 2))] {
        assert_eq!(fixture.done(refused), Err(409));
    }
    fixture.done(Operation::RestoreVersion(at(key, 2))).unwrap();
    assert_eq!(fixture.version(key, 2).state, VersionState::Disabled);
    fixture.done(Operation::EnableVersion(at(key, 2))).unwrap();
    assert_eq!(fixture.decrypt(key, 2, &second).unwrap(), b"two");
    assert_eq!((fixture.found("life"), fixture.found("life#1")), (1, 1));

    // Deleted: nothing can be used; all comes back.
    fixture.done(Operation::DeleteKey(key)).unwrap();
    assert_eq!(fixture.done(Operation::DeleteKey(key)), Err(400));
    assert_eq!(fixture.state(key), Ok(KeyState::Deleted));
    assert_eq!(
        (fixture.encrypt(key, 1, b"x"), fixture.found("life"), fixture.found("life#1")),
        (Err(409), 0, 0)
    );
    assert_eq!(fixture.done(Operation::RotateKey(key)), Err(409));
    assert_eq!(fixture.done(Operation::DeleteKeyRing(fixture.ring)), Err(400), "not empty");
    fixture.wait(29 * DAY);
    fixture.done(Operation::RestoreKey(key)).unwrap();
    assert_eq!(fixture.done(Operation::RestoreKey(key)), Err(409));
    assert_eq!(fixture.decrypt(key, 1, &first).unwrap(), b"one");

    // Erased: a version's material after thirty days, the key altogether.
    fixture.done(Operation::DestroyVersion(at(key, 1))).unwrap();
    fixture.wait(30 * DAY + 1);
    assert_eq!(fixture.done(Operation::RestoreVersion(at(key, 1))), Err(409));
    assert_eq!(fixture.version(key, 1).state, VersionState::Destroyed);
    fixture.done(Operation::RotateKey(key)).unwrap();
    assert_eq!(fixture.encrypt(key, 3, b"x").unwrap().len(), 34);
    fixture.done(Operation::DeleteKey(key)).unwrap();
    fixture.wait(30 * DAY + 1);
    assert_eq!(fixture.state(key), Err(404));
    fixture.done(Operation::DeleteKeyRing(fixture.ring)).unwrap();
    assert_eq!(fixture.done(Operation::GetKeyRing(fixture.ring)), Err(404));
}

#[test]
fn a_key_is_rotated_by_itself_and_made_once() {
    let Some(fixture) = Fixture::new("a_key_is_rotated_by_itself_and_made_once") else { return };
    let ask = CreateKey { rotation_days: Some(10), ..create("auto", Algorithm::HmacSha256) };
    let key = fixture.make(ask.clone(), Some(Uuid::from_u128(1)));
    assert_eq!(fixture.make(ask.clone(), Some(Uuid::from_u128(1))), key, "asked for again");
    let other = Operation::CreateKey {
        ring: fixture.ring,
        ask: create("other", Algorithm::HmacSha256),
        repeat: Some(Uuid::from_u128(1)),
    };
    assert_eq!(fixture.done(other), Err(409));
    fixture.wait(9 * DAY);
    assert_eq!(fixture.done(Operation::GetVersion(at(key, 2))), Err(404));
    fixture.wait(DAY + 1);
    assert_eq!(fixture.version(key, 2).state, VersionState::Active);
    let end = EditKey { rotation_days: Some(None), ..EditKey::default() };
    fixture.done(Operation::EditKey { key, ask: end }).unwrap();
    fixture.wait(20 * DAY);
    assert_eq!(fixture.done(Operation::GetVersion(at(key, 3))), Err(404));
    let name = EditKey { display_name: Some(DisplayName::new("renamed").unwrap()), ..EditKey::default() };
    fixture.done(Operation::EditKey { key, ask: name }).unwrap();
    assert_eq!((fixture.found("renamed"), fixture.found("renamed#1"), fixture.found("auto")), (1, 1, 0));
}

#[test]
fn who_may_not_is_told_so_and_others_projects_are_not_there() {
    let Some(mut fixture) = Fixture::new("who_may_not_is_told_so_and_others_projects_are_not_there") else {
        return;
    };
    let key = fixture.make_key("k", Algorithm::Aes256Gcm);
    let other = fixture.make_ring("other");
    fixture.context = context(Role::User, Some(fixture.ring.ring));
    fixture.encrypt(key, 1, b"x").unwrap();
    assert_eq!(fixture.done(Operation::RotateKey(key)), Err(403));
    let elsewhere = RingPath { ring: other, ..fixture.ring };
    assert_eq!(fixture.done(Operation::GetKeyRing(elsewhere)), Err(403));
    assert_eq!(fixture.done(Operation::GetKey(KeyPath { ring: elsewhere, ..key })), Err(403));
    // A role in one ring shows that one in the list.
    let listed = |fixture: &Fixture| {
        let list = Operation::ListKeyRings { project: fixture.ring.project, page: Page::default() };
        match fixture.serve(list) {
            Ok(Outcome::KeyRings(list)) => Ok(list.key_rings.iter().map(|ring| ring.id).collect::<Vec<_>>()),
            Ok(_) => panic!("no list"),
            Err(problem) => Err(problem.status.code()),
        }
    };
    assert_eq!(listed(&fixture), Ok(vec![fixture.ring.ring]));
    fixture.context = context(Role::AuditReader, None);
    assert_eq!(listed(&fixture), Err(403));
    fixture.context = context(Role::Owner, None);
    assert_eq!(listed(&fixture), Ok(vec![fixture.ring.ring, other]));
    assert_eq!(
        fixture.done(Operation::GetKey(KeyPath { ring: elsewhere, ..key })),
        Err(404),
        "of another ring"
    );
    let nowhere = RingPath { project: Uuid::from_u128(9), ..fixture.ring };
    assert_eq!(fixture.done(Operation::GetKeyRing(nowhere)), Err(403));
}

#[test]
fn lists_come_whole_or_in_pages() {
    let Some(fixture) = Fixture::new("lists_come_whole_or_in_pages") else { return };
    for number in 0..5 {
        fixture.make_key(&format!("k{number}"), Algorithm::HmacSha256);
    }
    let list = |page: Page| match fixture.serve(Operation::ListKeys { ring: fixture.ring, page }).unwrap() {
        Outcome::Keys(list) => list,
        _ => panic!("no list"),
    };
    let whole: Vec<_> = list(Page::default()).keys.iter().map(|key| key.id).collect();
    assert_eq!(whole.len(), 5);
    let (mut paged, mut cursor) = (Vec::new(), None);
    loop {
        let page = list(Page { limit: Some(2), cursor });
        paged.extend(page.keys.iter().map(|key| key.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(paged, whole);
    for page in [Page { limit: Some(0), cursor: None }, Page { limit: None, cursor: Some("x".to_owned()) }] {
        assert_eq!(fixture.done(Operation::ListKeys { ring: fixture.ring, page }), Err(400));
    }
}
