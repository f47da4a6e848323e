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

struct Desk {
    backend: Backend,
    visit: Visit,
    ring: RingPath,
}

impl Desk {
    fn new(test: &str) -> Option<Self> {
        let home = test_home::home_in_child(&format!("dispatch::api::tests::{test}"))?;
        let backend = Backend::create(&Config::read(&home.join(config::FILE_NAME)).unwrap()).unwrap();
        let ring = RingPath { project: Uuid::nil(), ring: Uuid::nil() };
        let mut desk = Self { backend, visit: visit(Role::Owner, None), ring };
        desk.ring.ring = desk.make_ring("ring");
        Some(desk)
    }

    fn serve(&self, operation: Operation) -> Result<Outcome, Refusal> {
        self.backend.dispatch().serve(&self.visit, operation)
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
            Err(refusal) => Err(refusal.status.code()),
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
            Err(refusal) => Err(refusal.status.code()),
        }
    }

    fn decrypt(&self, key: KeyPath, number: i64, data: &[u8]) -> Result<Vec<u8>, u16> {
        let version = VersionPath { key, number };
        match self.serve(Operation::Decrypt { version, data: bytes(data), aad: Vec::new() }) {
            Ok(Outcome::Decrypted(plain)) => Ok(STANDARD.decode(plain.data).unwrap()),
            Ok(_) => panic!("no plaintext"),
            Err(refusal) => Err(refusal.status.code()),
        }
    }

    fn done(&self, operation: Operation) -> Result<(), u16> {
        self.serve(operation).map(drop).map_err(|refusal| refusal.status.code())
    }

    fn wait(&self, seconds: u64) {
        self.backend.dispatch().clock.advance(seconds);
        self.backend.dispatch().duties();
    }

    /// What PKCS#11 finds under a label.
    fn found(&self, label: &str) -> usize {
        let template = Template(vec![Attribute::bytes(AttributeType::LABEL, label)]);
        let ring = RingId(self.ring.ring.into_bytes());
        self.backend.dispatch().store.find(ring, &template, None, 100).unwrap().len()
    }
}

fn visit(role: Role, ring: Option<Uuid>) -> Visit {
    let grants = vec![Grant { role, project: Some(Uuid::nil()), ring }];
    Visit {
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
    let Some(desk) = Desk::new("every_algorithm_does_what_it_is_for_and_nothing_else") else { return };
    for algorithm in Algorithm::ALL {
        let key = desk.make_key("k", algorithm);
        let (data, version) = (bytes(b"data"), at(key, 1));
        let encrypted = desk.encrypt(key, 1, b"data");
        let signed = desk.serve(Operation::Sign { version, data: data.clone() });
        match algorithm.purpose() {
            Purpose::SymmetricEncryptDecrypt | Purpose::AsymmetricEncryptDecrypt => {
                let encrypted = encrypted.unwrap();
                assert_eq!(desk.decrypt(key, 1, &encrypted).unwrap(), b"data");
                let mut other = encrypted.clone();
                *other.last_mut().unwrap() ^= 1;
                assert_eq!(desk.decrypt(key, 1, &other), Err(400), "{}", algorithm.name());
                assert_eq!(desk.encrypt(key, 1, &vec![0; 65_537]), Err(400));
                assert_eq!(signed.err().unwrap().status.code(), 400);
            }
            Purpose::MessageAuthenticationCode | Purpose::AsymmetricSignVerify => {
                assert_eq!(encrypted, Err(400));
                let Ok(Outcome::Signed(signed)) = signed else { panic!("{}", algorithm.name()) };
                let signature = STANDARD.decode(signed.signature).unwrap();
                let verify = |data: Data, signature: Vec<u8>| {
                    let asked = Operation::Verify { version, data, signature };
                    let Outcome::Verified(verified) = desk.serve(asked).unwrap() else {
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
            desk.version(key, 1).public_key.is_some(),
            algorithm.class() != kms_protocol::ObjectClass::SECRET_KEY
        );
    }
}

#[test]
fn a_key_goes_through_its_life() {
    let Some(desk) = Desk::new("a_key_goes_through_its_life") else { return };
    let key = desk.make_key("life", Algorithm::Aes256Gcm);
    let first = desk.encrypt(key, 1, b"one").unwrap();
    assert_eq!(desk.found("life"), 1);
    desk.done(Operation::RotateKey(key)).unwrap();
    assert_eq!((desk.found("life"), desk.found("life#1")), (1, 1));
    let second = desk.encrypt(key, 2, b"two").unwrap();
    assert_eq!(desk.decrypt(key, 1, &first).unwrap(), b"one");
    assert_eq!(desk.decrypt(key, 2, &first), Err(400), "bound to its version");

    // Disabled: at once, on both doors; the label follows the highest active version.
    desk.done(Operation::DisableVersion(at(key, 2))).unwrap();
    assert_eq!(desk.decrypt(key, 2, &second), Err(409));
    assert_eq!((desk.found("life"), desk.found("life#1"), desk.found("life#2")), (1, 0, 0));
    assert!(desk.version(key, 2).disabled);
    desk.done(Operation::DestroyVersion(at(key, 2))).unwrap();
    assert_eq!(desk.version(key, 2).state, VersionState::Destroyed);
    for refused in [Operation::EnableVersion(at(key, 2)), Operation::DestroyVersion(at(key, 2))] {
        assert_eq!(desk.done(refused), Err(409));
    }
    desk.done(Operation::RestoreVersion(at(key, 2))).unwrap();
    assert_eq!(desk.version(key, 2).state, VersionState::Disabled);
    desk.done(Operation::EnableVersion(at(key, 2))).unwrap();
    assert_eq!(desk.decrypt(key, 2, &second).unwrap(), b"two");
    assert_eq!((desk.found("life"), desk.found("life#1")), (1, 1));

    // Deleted: nothing can be used; all comes back.
    desk.done(Operation::DeleteKey(key)).unwrap();
    assert_eq!(desk.done(Operation::DeleteKey(key)), Err(400));
    assert_eq!(desk.state(key), Ok(KeyState::Deleted));
    assert_eq!((desk.encrypt(key, 1, b"x"), desk.found("life"), desk.found("life#1")), (Err(409), 0, 0));
    assert_eq!(desk.done(Operation::RotateKey(key)), Err(409));
    assert_eq!(desk.done(Operation::DeleteKeyRing(desk.ring)), Err(400), "not empty");
    desk.wait(29 * DAY);
    desk.done(Operation::RestoreKey(key)).unwrap();
    assert_eq!(desk.done(Operation::RestoreKey(key)), Err(409));
    assert_eq!(desk.decrypt(key, 1, &first).unwrap(), b"one");

    // Erased: a version's material after thirty days, the key altogether.
    desk.done(Operation::DestroyVersion(at(key, 1))).unwrap();
    desk.wait(30 * DAY + 1);
    assert_eq!(desk.done(Operation::RestoreVersion(at(key, 1))), Err(409));
    assert_eq!(desk.version(key, 1).state, VersionState::Destroyed);
    desk.done(Operation::RotateKey(key)).unwrap();
    assert_eq!(desk.encrypt(key, 3, b"x").unwrap().len(), 34);
    desk.done(Operation::DeleteKey(key)).unwrap();
    desk.wait(30 * DAY + 1);
    assert_eq!(desk.state(key), Err(404));
    desk.done(Operation::DeleteKeyRing(desk.ring)).unwrap();
    assert_eq!(desk.done(Operation::GetKeyRing(desk.ring)), Err(404));
}

#[test]
fn a_key_is_rotated_by_itself_and_made_once() {
    let Some(desk) = Desk::new("a_key_is_rotated_by_itself_and_made_once") else { return };
    let ask = CreateKey { rotation_days: Some(10), ..create("auto", Algorithm::HmacSha256) };
    let key = desk.make(ask.clone(), Some(Uuid::from_u128(1)));
    assert_eq!(desk.make(ask.clone(), Some(Uuid::from_u128(1))), key, "asked for again");
    let other = Operation::CreateKey {
        ring: desk.ring,
        ask: create("other", Algorithm::HmacSha256),
        repeat: Some(Uuid::from_u128(1)),
    };
    assert_eq!(desk.done(other), Err(409));
    desk.wait(9 * DAY);
    assert_eq!(desk.done(Operation::GetVersion(at(key, 2))), Err(404));
    desk.wait(DAY + 1);
    assert_eq!(desk.version(key, 2).state, VersionState::Active);
    let end = EditKey { rotation_days: Some(None), ..EditKey::default() };
    desk.done(Operation::EditKey { key, ask: end }).unwrap();
    desk.wait(20 * DAY);
    assert_eq!(desk.done(Operation::GetVersion(at(key, 3))), Err(404));
    let name = EditKey { display_name: Some(DisplayName::new("renamed").unwrap()), ..EditKey::default() };
    desk.done(Operation::EditKey { key, ask: name }).unwrap();
    assert_eq!((desk.found("renamed"), desk.found("renamed#1"), desk.found("auto")), (1, 1, 0));
}

#[test]
fn who_may_not_is_told_so_and_others_projects_are_not_there() {
    let Some(mut desk) = Desk::new("who_may_not_is_told_so_and_others_projects_are_not_there") else {
        return;
    };
    let key = desk.make_key("k", Algorithm::Aes256Gcm);
    let other = desk.make_ring("other");
    desk.visit = visit(Role::User, Some(desk.ring.ring));
    desk.encrypt(key, 1, b"x").unwrap();
    assert_eq!(desk.done(Operation::RotateKey(key)), Err(403));
    let elsewhere = RingPath { ring: other, ..desk.ring };
    assert_eq!(desk.done(Operation::GetKeyRing(elsewhere)), Err(403));
    assert_eq!(desk.done(Operation::GetKey(KeyPath { ring: elsewhere, ..key })), Err(403));
    // A role in one ring shows that one in the list.
    let listed = |desk: &Desk| {
        let list = Operation::ListKeyRings { project: desk.ring.project, page: Page::default() };
        match desk.serve(list) {
            Ok(Outcome::KeyRings(list)) => Ok(list.key_rings.iter().map(|ring| ring.id).collect::<Vec<_>>()),
            Ok(_) => panic!("no list"),
            Err(refusal) => Err(refusal.status.code()),
        }
    };
    assert_eq!(listed(&desk), Ok(vec![desk.ring.ring]));
    desk.visit = visit(Role::AuditReader, None);
    assert_eq!(listed(&desk), Err(403));
    desk.visit = visit(Role::Owner, None);
    assert_eq!(listed(&desk), Ok(vec![desk.ring.ring, other]));
    assert_eq!(desk.done(Operation::GetKey(KeyPath { ring: elsewhere, ..key })), Err(404), "of another ring");
    let nowhere = RingPath { project: Uuid::from_u128(9), ..desk.ring };
    assert_eq!(desk.done(Operation::GetKeyRing(nowhere)), Err(403));
}

#[test]
fn lists_come_whole_or_in_pages() {
    let Some(desk) = Desk::new("lists_come_whole_or_in_pages") else { return };
    for number in 0..5 {
        desk.make_key(&format!("k{number}"), Algorithm::HmacSha256);
    }
    let list = |page: Page| match desk.serve(Operation::ListKeys { ring: desk.ring, page }).unwrap() {
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
        assert_eq!(desk.done(Operation::ListKeys { ring: desk.ring, page }), Err(400));
    }
}
