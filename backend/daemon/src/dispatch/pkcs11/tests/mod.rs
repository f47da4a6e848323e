//! Tests of whole requests, from a caller's request to its response.
//!
//! - this file: token keys, session keys, repeated requests, concurrent changes, edited rows, revealed values.
//! - `login`, `seals`, `init_token`, `imports`, `rotation`, `wrap_subkeys`, `audit`: one area each.
//! - `attacks`: the published attacks, tried one by one; `walk`: random walks that search for others.
//! - `requests`: helpers.

mod attacks;
mod audit;
mod imports;
mod init_token;
mod login;
mod requests;
mod rotation;
mod seals;
mod walk;
mod wrap_subkeys;

use kms_protocol::{Attribute, AttributeType, KeyType, MechanismType, ObjectClass, ObjectId, Parameters};
use kms_protocol::{Mechanism, ObjectView, RequestId, RingPolicy, Secret, Template};

use super::*;
use crate::config::{self, Config};
use crate::dispatch::tests::{Fixture, bytes, gcm};
use crate::dispatch::*;

impl Fixture {
    /// Creates it for a test of this folder.
    fn new(test: &str) -> Option<Self> {
        Self::start(&format!("pkcs11::tests::{test}"))
    }
}

#[test]
fn token_keys_work_after_a_restart_with_the_same_ticket() {
    let Some(mut fixture) = Fixture::new("token_keys_work_after_a_restart_with_the_same_ticket") else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    let (public, private) = fixture.pair(true);
    let sealed = fixture.encrypt(&key, b"data").unwrap();
    let signature = fixture.sign(&private.object).unwrap();
    assert_eq!(fixture.find(vec![]).len(), 3);
    let mut fixture = fixture.restart();
    assert_eq!(*fixture.decrypt(&key, &sealed).unwrap(), *b"data");
    assert_eq!(fixture.sign(&private.object).unwrap(), signature);
    let id = |view: &ObjectView| view.attributes.bytes(AttributeType::ID).map(<[u8]>::to_vec);
    assert_eq!(id(&public), id(&private));
    assert_eq!(fixture.find(vec![Attribute::bytes(AttributeType::ID, id(&public).unwrap())]).len(), 2);
    let mut keys: Vec<_> = fixture.backend.keys(None).unwrap().into_iter().map(|key| key.algorithm).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["aes-256", "rsa-2048"]);
}

#[test]
fn session_keys_are_seals_that_open_for_their_owner_only() {
    let Some(mut fixture) = Fixture::new("session_keys_are_seals_that_open_for_their_owner_only") else {
        return;
    };
    let secret = Secret::from(b"secret".as_slice());
    fixture.backend.add_account("strict", "app", kms_core::object::RingRole::User, &secret).unwrap();
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", false).object;
    let (_, private) = fixture.pair(false);
    let sealed = fixture.encrypt(&key, b"data").unwrap();
    fixture.sign(&private.object).unwrap();
    let mut fixture = fixture.restart();
    assert_eq!(*fixture.decrypt(&key, &sealed).unwrap(), *b"data");
    fixture.sign(&private.object).unwrap();
    assert!(fixture.find(vec![]).is_empty());
    let template = Template(vec![Attribute::bytes(AttributeType::LABEL, "renamed")]);
    let renamed = fixture.send(Request::SetAttributes { object: key.clone(), template }).unwrap();
    let Response::Object(renamed) = renamed else { panic!("{renamed:?}") };
    assert_eq!(*fixture.decrypt(&renamed.object, &sealed).unwrap(), *b"data");
    fixture.log_in(Role::User, "app:secret").unwrap();
    assert!(fixture.decrypt(&key, &sealed).is_err());
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    assert!(fixture.decrypt(&key, &sealed).is_err());
}

#[test]
fn a_repeated_request_creates_one_key_and_a_repeated_destruction_succeeds() {
    let Some(mut fixture) =
        Fixture::new("a_repeated_request_creates_one_key_and_a_repeated_destruction_succeeds")
    else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let template = Template(vec![
        Attribute::ulong(AttributeType::VALUE_LEN, 16),
        Attribute::bool(AttributeType::TOKEN, true),
    ]);
    let request = Request::Generate { mechanism: Mechanism::plain(MechanismType::AES_KEY_GEN), template };
    let first = fixture.send_with_id(RequestId([200; 16]), request.clone()).unwrap();
    let again = fixture.send_with_id(RequestId([200; 16]), request).unwrap();
    assert_eq!(first, again);
    assert_eq!(fixture.find(vec![]).len(), 1);

    let (public, private) = fixture.pair(true);
    let destroy = |object: &ObjectRef| Request::Destroy { object: object.clone() };
    fixture.send(destroy(&private.object)).unwrap();
    fixture.send(destroy(&private.object)).unwrap();
    fixture.send(destroy(&public.object)).unwrap();
    assert_eq!(fixture.sign(&private.object), Err(Rv::KEY_HANDLE_INVALID));
    assert_eq!(fixture.find(vec![]).len(), 1);
    assert_eq!(fixture.send(destroy(&ObjectRef::Token(ObjectId(999)))), Err(Rv::OBJECT_HANDLE_INVALID));
    fixture.ticket = None;
    assert_eq!(fixture.send(destroy(&private.object)), Err(Rv::OBJECT_HANDLE_INVALID));
}

#[test]
fn concurrent_changes_are_all_stored() {
    let Some(mut fixture) = Fixture::new("concurrent_changes_are_all_stored") else { return };
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.generate_with(
        MechanismType::AES_KEY_GEN,
        vec![
            Attribute::ulong(AttributeType::VALUE_LEN, 16),
            Attribute::bool(AttributeType::TOKEN, true),
            Attribute::bool(AttributeType::SENSITIVE, false),
        ],
    );
    let (dispatch, ticket, slot) = (fixture.backend.dispatch(), fixture.ticket.clone(), fixture.slot);
    let set = |attribute: Attribute| {
        let (object, template) = (key.object.clone(), Template(vec![attribute]));
        let request = Request::SetAttributes { object, template };
        let envelope = RequestEnvelope { id: RequestId::default(), slot, ticket: ticket.clone(), request };
        dispatch.answer(Some(Peer { uid: 1000, pid: 1 }), envelope, &mut Memory::default()).result
    };
    std::thread::scope(|scope| {
        scope.spawn(|| set(Attribute::bool(AttributeType::SENSITIVE, true)).unwrap());
        for number in 0..4_u8 {
            let set = &set;
            scope.spawn(move || {
                (0..5).for_each(|_| drop(set(Attribute::bytes(AttributeType::LABEL, vec![number])).unwrap()))
            });
        }
    });
    let Response::Object(view) = fixture.send(Request::Attributes { object: key.object.clone() }).unwrap()
    else {
        panic!("no object")
    };
    assert_eq!(view.attributes.bool(AttributeType::SENSITIVE), Some(true));
}

#[test]
fn an_edited_key_is_rejected_and_the_others_stay_usable() {
    let Some(mut fixture) = Fixture::new("an_edited_key_is_rejected_and_the_others_stay_usable") else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let (edited, other) = (fixture.aes("edited", true).object, fixture.aes("other", true).object);
    let ObjectRef::Token(id) = edited else { panic!("{edited:?}") };
    let database = Config::read(&fixture.home.join(config::FILE_NAME)).unwrap().store_path();
    let editor = rusqlite::Connection::open(database).unwrap();
    let sql =
        "UPDATE versions SET wrapped = zeroblob(60) WHERE key = (SELECT key FROM objects WHERE id = ?1)";
    assert_eq!(editor.execute(sql, [id.0]).unwrap(), 1);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(fixture.encrypt(&ObjectRef::Token(id), b"data"), Err(Rv::DEVICE_ERROR));
    fixture.encrypt(&other, b"data").unwrap();
    assert_eq!(fixture.find(vec![]).len(), 1);
}

#[test]
fn an_open_key_reveals_its_value_and_a_sensitive_one_does_not() {
    let Some(mut fixture) = Fixture::new("an_open_key_reveals_its_value_and_a_sensitive_one_does_not") else {
        return;
    };
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    for token in [true, false] {
        let template = |sensitive| {
            vec![
                Attribute::ulong(AttributeType::VALUE_LEN, 20),
                Attribute::bool(AttributeType::TOKEN, token),
                Attribute::bool(AttributeType::SENSITIVE, sensitive),
                Attribute::bool(AttributeType::EXTRACTABLE, true),
            ]
        };
        let open = fixture.generate_with(MechanismType::GENERIC_SECRET_KEY_GEN, template(false));
        let closed = fixture.generate_with(MechanismType::GENERIC_SECRET_KEY_GEN, template(true));
        assert_eq!(open.attributes.class(), Some(ObjectClass::SECRET_KEY));
        assert_eq!(open.attributes.key_type(), Some(KeyType::GENERIC_SECRET));
        let Response::Revealed(secrets) = fixture.send(Request::Reveal { object: open.object }).unwrap()
        else {
            panic!("no value")
        };
        assert_eq!(secrets.bytes(AttributeType::VALUE).map(<[u8]>::len), Some(20));
        assert!(open.attributes.bytes(AttributeType::VALUE).is_none());
        assert_eq!(fixture.send(Request::Reveal { object: closed.object }), Err(Rv::ATTRIBUTE_SENSITIVE));
    }
}

/// `cargo test --release -p kms-daemon dispatch::pkcs11::tests::cost -- --ignored --nocapture` prints it.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn cost() {
    let Some(mut fixture) = Fixture::new("cost") else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    let (token, session) = (fixture.aes("k", true).object, fixture.aes("k", false).object);
    let (_, pair) = fixture.pair(true);
    let (_, sealed_pair) = fixture.pair(false);
    let data = [5; 1024];
    let mut time = |name: &str, count: u32, work: &mut dyn FnMut(&mut Fixture)| {
        work(&mut fixture);
        let start = std::time::Instant::now();
        (0..count).for_each(|_| work(&mut fixture));
        println!("{name}: {:?}", start.elapsed() / count);
    };
    time("AES-GCM 1 KiB, token key", 100_000, &mut |fixture| drop(fixture.encrypt(&token, &data).unwrap()));
    time("AES-GCM 1 KiB, session key", 100_000, &mut |fixture| {
        drop(fixture.encrypt(&session, &data).unwrap())
    });
    time("RSA-2048 sign, token key", 500, &mut |fixture| drop(fixture.sign(&pair.object).unwrap()));
    time("RSA-2048 sign, session key", 500, &mut |fixture| drop(fixture.sign(&sealed_pair.object).unwrap()));
    time("find by label", 10_000, &mut |fixture| {
        drop(fixture.find(vec![Attribute::bytes(AttributeType::LABEL, "k")]))
    });
    time("generate a token AES key", 500, &mut |fixture| drop(fixture.aes("new", true)));
}
