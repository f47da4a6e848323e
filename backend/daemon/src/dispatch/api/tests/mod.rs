//! Tests of whole operations with a real token and database; they advance the clock by up to thirty days.
//! `lifecycle` compares sequences of operations with a model; `reports` tests usage, export and audit log.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test expects one outcome")]

mod lifecycle;
mod reports;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms_core::api::{
    AccessScope, Account, Algorithm, CreateKey, CreateKeyRing, Data, Description, DisplayName, EditKey,
    Grant, KeyPath, KeyState, NetworkArea, Page, Protection, Role, Tags, Version, VersionPath, VersionState,
};
use kms_protocol::{Attribute, AttributeType, Template};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::config::{self, Config};
use crate::service::Backend;
use crate::test_home;

const DAY: u64 = 24 * 3600;

/// A backend with one key ring, and the context of an account.
struct ApiFixture {
    backend: Backend,
    context: RequestContext,
    ring: RingPath,
}

impl ApiFixture {
    fn new(test: &str) -> Option<Self> {
        let home = test_home::home_in_child(&format!("dispatch::api::tests::{test}"))?;
        let backend = Backend::create(&Config::read(&home.join(config::FILE_NAME)).unwrap()).unwrap();
        let ring = RingPath { project: Uuid::nil(), ring: Uuid::nil() };
        let mut fixture = Self { backend, context: context(Role::Owner, None), ring };
        fixture.ring.ring = fixture.create_ring("ring");
        Some(fixture)
    }

    fn serve(&self, operation: Operation) -> Result<Outcome, Problem> {
        self.backend.dispatch().serve(&self.context, operation)
    }

    fn create_ring(&self, name: &str) -> Uuid {
        let (display_name, description) = (DisplayName::new(name).unwrap(), Description::default());
        let ask = CreateKeyRing { display_name, description };
        let project = self.ring.project;
        match self.serve(Operation::CreateKeyRing { project, ask, repeat: None }).unwrap() {
            Outcome::KeyRing(ring) => ring.id,
            _ => panic!("no ring"),
        }
    }

    fn create_key(&self, name: &str, algorithm: Algorithm) -> KeyPath {
        self.create_key_as(key_request(name, algorithm), None)
    }

    fn create_key_as(&self, ask: CreateKey, repeat: Option<Uuid>) -> KeyPath {
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

    /// Performs an operation; returns the status of a problem.
    fn status(&self, operation: Operation) -> Result<(), u16> {
        self.serve(operation).map(drop).map_err(|problem| problem.status.code())
    }

    /// Advances the clock and runs the background jobs.
    fn wait(&self, seconds: u64) {
        self.backend.dispatch().clock.advance(seconds);
        self.backend.dispatch().run_due_jobs();
    }

    /// The number of PKCS#11 objects with a label.
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
        area: NetworkArea::Unbound,
        agent: "test".into(),
        endpoint: "POST /v1".to_owned(),
        trace: Uuid::from_u128(8),
    }
}

fn key_request(name: &str, algorithm: Algorithm) -> CreateKey {
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

fn version_path(key: KeyPath, number: i64) -> VersionPath {
    VersionPath { key, number }
}

#[test]
fn every_algorithm_performs_the_operations_of_its_purpose_only() {
    let Some(fixture) = ApiFixture::new("every_algorithm_performs_the_operations_of_its_purpose_only") else {
        return;
    };
    for algorithm in Algorithm::ALL {
        let key = fixture.create_key("k", algorithm);
        let (data, version) = (bytes(b"data"), version_path(key, 1));
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
                    let operation = Operation::Verify { version, data, signature };
                    let Outcome::Verified(verified) = fixture.serve(operation).unwrap() else {
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
fn a_key_passes_through_all_states() {
    let Some(fixture) = ApiFixture::new("a_key_passes_through_all_states") else { return };
    let key = fixture.create_key("life", Algorithm::Aes256Gcm);
    let first = fixture.encrypt(key, 1, b"one").unwrap();
    assert_eq!(fixture.found("life"), 1);
    fixture.status(Operation::RotateKey(key)).unwrap();
    assert_eq!((fixture.found("life"), fixture.found("life#1")), (1, 1));
    let second = fixture.encrypt(key, 2, b"two").unwrap();
    assert_eq!(fixture.decrypt(key, 1, &first).unwrap(), b"one");
    assert_eq!(fixture.decrypt(key, 2, &first), Err(400), "bound to its version");

    // Disabled: takes effect at once in both APIs; the label follows the highest active version.
    fixture.status(Operation::DisableVersion(version_path(key, 2))).unwrap();
    assert_eq!(fixture.decrypt(key, 2, &second), Err(409));
    assert_eq!((fixture.found("life"), fixture.found("life#1"), fixture.found("life#2")), (1, 0, 0));
    assert!(fixture.version(key, 2).disabled);
    fixture.status(Operation::DestroyVersion(version_path(key, 2))).unwrap();
    assert_eq!(fixture.version(key, 2).state, VersionState::Destroyed);
    for operation in
        [Operation::EnableVersion(version_path(key, 2)), Operation::DestroyVersion(version_path(key, 2))]
    {
        assert_eq!(fixture.status(operation), Err(409));
    }
    fixture.status(Operation::RestoreVersion(version_path(key, 2))).unwrap();
    assert_eq!(fixture.version(key, 2).state, VersionState::Disabled);
    fixture.status(Operation::EnableVersion(version_path(key, 2))).unwrap();
    assert_eq!(fixture.decrypt(key, 2, &second).unwrap(), b"two");
    assert_eq!((fixture.found("life"), fixture.found("life#1")), (1, 1));

    // Deleted: no version can be used; a restored key has all of them again.
    fixture.status(Operation::DeleteKey(key)).unwrap();
    assert_eq!(fixture.status(Operation::DeleteKey(key)), Err(400));
    assert_eq!(fixture.state(key), Ok(KeyState::Deleted));
    assert_eq!(
        (fixture.encrypt(key, 1, b"x"), fixture.found("life"), fixture.found("life#1")),
        (Err(409), 0, 0)
    );
    assert_eq!(fixture.status(Operation::RotateKey(key)), Err(409));
    assert_eq!(fixture.status(Operation::DeleteKeyRing(fixture.ring)), Err(400), "not empty");
    fixture.wait(29 * DAY);
    fixture.status(Operation::RestoreKey(key)).unwrap();
    assert_eq!(fixture.status(Operation::RestoreKey(key)), Err(409));
    assert_eq!(fixture.decrypt(key, 1, &first).unwrap(), b"one");

    // Erased: after thirty days the material of a version, or the whole key.
    fixture.status(Operation::DestroyVersion(version_path(key, 1))).unwrap();
    fixture.wait(30 * DAY + 1);
    assert_eq!(fixture.status(Operation::RestoreVersion(version_path(key, 1))), Err(409));
    assert_eq!(fixture.version(key, 1).state, VersionState::Destroyed);
    fixture.status(Operation::RotateKey(key)).unwrap();
    assert_eq!(fixture.encrypt(key, 3, b"x").unwrap().len(), 34);
    fixture.status(Operation::DeleteKey(key)).unwrap();
    fixture.wait(30 * DAY + 1);
    assert_eq!(fixture.state(key), Err(404));
    fixture.status(Operation::DeleteKeyRing(fixture.ring)).unwrap();
    assert_eq!(fixture.status(Operation::GetKeyRing(fixture.ring)), Err(404));
}

#[test]
fn a_key_is_rotated_automatically_and_created_once() {
    let Some(fixture) = ApiFixture::new("a_key_is_rotated_automatically_and_created_once") else { return };
    let ask = CreateKey { rotation_days: Some(10), ..key_request("auto", Algorithm::HmacSha256) };
    let key = fixture.create_key_as(ask.clone(), Some(Uuid::from_u128(1)));
    assert_eq!(fixture.create_key_as(ask.clone(), Some(Uuid::from_u128(1))), key, "the request is repeated");
    let other = Operation::CreateKey {
        ring: fixture.ring,
        ask: key_request("other", Algorithm::HmacSha256),
        repeat: Some(Uuid::from_u128(1)),
    };
    assert_eq!(fixture.status(other), Err(409));
    fixture.wait(9 * DAY);
    assert_eq!(fixture.status(Operation::GetVersion(version_path(key, 2))), Err(404));
    fixture.wait(DAY + 1);
    assert_eq!(fixture.version(key, 2).state, VersionState::Active);
    let end = EditKey { rotation_days: Some(None), ..EditKey::default() };
    fixture.status(Operation::EditKey { key, ask: end }).unwrap();
    fixture.wait(20 * DAY);
    assert_eq!(fixture.status(Operation::GetVersion(version_path(key, 3))), Err(404));
    let name = EditKey { display_name: Some(DisplayName::new("renamed").unwrap()), ..EditKey::default() };
    fixture.status(Operation::EditKey { key, ask: name }).unwrap();
    assert_eq!((fixture.found("renamed"), fixture.found("renamed#1"), fixture.found("auto")), (1, 1, 0));
}

#[test]
fn calls_without_a_role_are_forbidden() {
    let Some(mut fixture) = ApiFixture::new("calls_without_a_role_are_forbidden") else {
        return;
    };
    let key = fixture.create_key("k", Algorithm::Aes256Gcm);
    let other = fixture.create_ring("other");
    fixture.context = context(Role::User, Some(fixture.ring.ring));
    fixture.encrypt(key, 1, b"x").unwrap();
    assert_eq!(fixture.status(Operation::RotateKey(key)), Err(403));
    let elsewhere = RingPath { ring: other, ..fixture.ring };
    assert_eq!(fixture.status(Operation::GetKeyRing(elsewhere)), Err(403));
    assert_eq!(fixture.status(Operation::GetKey(KeyPath { ring: elsewhere, ..key })), Err(403));
    // A role in one ring shows that one in the list.
    let listed = |fixture: &ApiFixture| {
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
        fixture.status(Operation::GetKey(KeyPath { ring: elsewhere, ..key })),
        Err(404),
        "of another ring"
    );
    let nowhere = RingPath { project: Uuid::from_u128(9), ..fixture.ring };
    assert_eq!(fixture.status(Operation::GetKeyRing(nowhere)), Err(403));
}

#[test]
fn lists_are_complete_or_in_pages() {
    let Some(fixture) = ApiFixture::new("lists_are_complete_or_in_pages") else { return };
    for number in 0..5 {
        fixture.create_key(&format!("k{number}"), Algorithm::HmacSha256);
    }
    let list = |page: Page| match fixture.serve(Operation::ListKeys { ring: fixture.ring, page }).unwrap() {
        Outcome::Keys(list) => list,
        _ => panic!("no list"),
    };
    let complete: Vec<_> = list(Page::default()).keys.iter().map(|key| key.id).collect();
    assert_eq!(complete.len(), 5);
    let (mut paged, mut cursor) = (Vec::new(), None);
    loop {
        let page = list(Page { limit: Some(2), cursor });
        paged.extend(page.keys.iter().map(|key| key.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(paged, complete);
    for page in [Page { limit: Some(0), cursor: None }, Page { limit: None, cursor: Some("x".to_owned()) }] {
        assert_eq!(fixture.status(Operation::ListKeys { ring: fixture.ring, page }), Err(400));
    }
}
