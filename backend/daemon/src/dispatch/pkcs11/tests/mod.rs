//! Whole requests, from a fixture's call to its answer, with a real token and database.

mod accounts;
mod attacks;
mod audit;
mod imports;
mod init_token;
mod lifecycle;
mod rotation;
mod walk;
mod wrap_subkeys;

use std::path::PathBuf;

use kms_protocol::{Attribute, AttributeType, KeyType, MechanismType, ObjectClass, ObjectId, Parameters};
use kms_protocol::{Mechanism, ObjectView, RequestId, RingPolicy, Secret, Template};

use super::*;
use crate::config::{self, Config};
use crate::dispatch::*;
use crate::service::{Backend, NewRing};
use crate::test_home;

struct Fixture {
    home: PathBuf,
    backend: Backend,
    memory: Memory,
    ticket: Option<Ticket>,
    slot: SlotId,
    asked: u128,
}

impl Fixture {
    fn new(test: &str) -> Option<Self> {
        let home = test_home::home_in_child(&format!("dispatch::pkcs11::tests::{test}"))?;
        let backend = Backend::create(&Config::read(&home.join(config::FILE_NAME)).unwrap()).unwrap();
        for (name, policy) in [("strict", RingPolicy::Strict), ("compat", RingPolicy::Compat)] {
            let pin = |pin: &[u8]| Secret::from(pin);
            let (user_pin, so_pin) = (pin(b"1234"), pin(b"12345678"));
            backend.create_ring(NewRing { name: name.to_owned(), policy, user_pin, so_pin }).unwrap();
        }
        let memory = Memory::default();
        Some(Self { home, backend, memory, ticket: None, slot: SlotId(0), asked: 0 })
    }

    fn restart(self) -> Self {
        let Self { home, backend, ticket, slot, asked, .. } = self;
        drop(backend);
        let backend = Backend::open(&Config::read(&home.join(config::FILE_NAME)).unwrap()).unwrap();
        Self { home, backend, memory: Memory::default(), ticket, slot, asked }
    }

    fn ask(&mut self, request: Request) -> Result<Response, Rv> {
        self.asked += 1;
        self.ask_as(RequestId(self.asked.to_be_bytes()), request)
    }

    fn ask_as(&mut self, id: RequestId, request: Request) -> Result<Response, Rv> {
        let ask = RequestEnvelope { id, slot: self.slot, ticket: self.ticket.clone(), request };
        let peer = Some(Peer { uid: 1000, pid: 1 });
        self.backend.dispatch().answer(peer, ask, &mut self.memory).result
    }

    fn log_in(&mut self, role: Role, pin: &str) -> Result<(), Rv> {
        let answer = self.ask(Request::Login { role, pin: Secret::from(pin.as_bytes()) })?;
        let Response::LoggedIn { ticket } = answer else { panic!("{answer:?}") };
        self.ticket = Some(ticket);
        Ok(())
    }

    fn make(&mut self, kind: MechanismType, template: Vec<Attribute>) -> ObjectView {
        let request = Request::Generate { mechanism: Mechanism::plain(kind), template: Template(template) };
        let answer = self.ask(request).unwrap();
        let Response::Object(view) = answer else { panic!("{answer:?}") };
        view
    }

    fn aes(&mut self, label: &str, token: bool) -> ObjectView {
        self.make(
            MechanismType::AES_KEY_GEN,
            vec![
                Attribute::ulong(AttributeType::VALUE_LEN, 32),
                Attribute::bytes(AttributeType::LABEL, label),
                Attribute::bool(AttributeType::TOKEN, token),
                Attribute::bool(AttributeType::ENCRYPT, true),
                Attribute::bool(AttributeType::DECRYPT, true),
            ],
        )
    }

    fn pair(&mut self, token: bool) -> (ObjectView, ObjectView) {
        let flags = |sign| vec![Attribute::bool(AttributeType::TOKEN, token), sign];
        let bits = Attribute::ulong(AttributeType::MODULUS_BITS, 2048);
        let mut public = flags(Attribute::bool(AttributeType::VERIFY, true));
        public.extend([bits, Attribute::bytes(AttributeType::PUBLIC_EXPONENT, vec![1, 0, 1])]);
        let request = Request::GeneratePair {
            mechanism: Mechanism::plain(MechanismType::RSA_PKCS_KEY_PAIR_GEN),
            public: Template(public),
            private: Template(flags(Attribute::bool(AttributeType::SIGN, true))),
        };
        let answer = self.ask(request).unwrap();
        let Response::Pair { public, private } = answer else { panic!("{answer:?}") };
        (public, private)
    }

    fn encrypt(&mut self, key: &ObjectRef, data: &[u8]) -> Result<Secret, Rv> {
        let request = Request::Encrypt { key: key.clone(), mechanism: gcm(), data: Secret::from(data) };
        self.ask(request).map(bytes)
    }

    fn decrypt(&mut self, key: &ObjectRef, data: &[u8]) -> Result<Secret, Rv> {
        let request = Request::Decrypt { key: key.clone(), mechanism: gcm(), data: Secret::from(data) };
        self.ask(request).map(bytes)
    }

    fn sign(&mut self, key: &ObjectRef) -> Result<Secret, Rv> {
        let mechanism = Mechanism::plain(MechanismType::SHA256_RSA_PKCS);
        let request = Request::Sign { key: key.clone(), mechanism, data: Secret::from([7; 32].as_slice()) };
        self.ask(request).map(bytes)
    }

    fn find(&mut self, template: Vec<Attribute>) -> Vec<ObjectView> {
        let answer = self.ask(Request::Find { template: Template(template), after: None }).unwrap();
        let Response::Found { objects, next: None } = answer else { panic!("{answer:?}") };
        objects
    }
}

fn bytes(response: Response) -> Secret {
    let Response::Bytes(bytes) = response else { panic!("{response:?}") };
    bytes
}

fn gcm() -> Mechanism {
    let parameters = Parameters::Gcm { iv: Secret::from(vec![1; 12]), aad: Secret::default(), tag_bits: 128 };
    Mechanism { kind: MechanismType::AES_GCM, parameters }
}

#[test]
fn token_keys_work_on_after_a_restart_with_the_same_ticket() {
    let Some(mut fixture) = Fixture::new("token_keys_work_on_after_a_restart_with_the_same_ticket") else {
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
fn session_keys_travel_in_seals_that_open_for_their_owner_alone() {
    let Some(mut fixture) = Fixture::new("session_keys_travel_in_seals_that_open_for_their_owner_alone")
    else {
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
    let renamed = fixture.ask(Request::SetAttributes { object: key.clone(), template }).unwrap();
    let Response::Object(renamed) = renamed else { panic!("{renamed:?}") };
    assert_eq!(*fixture.decrypt(&renamed.object, &sealed).unwrap(), *b"data");
    fixture.log_in(Role::User, "app:secret").unwrap();
    assert!(fixture.decrypt(&key, &sealed).is_err());
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    assert!(fixture.decrypt(&key, &sealed).is_err());
}

#[test]
fn a_repeated_request_makes_one_key_and_a_repeated_destruction_is_done() {
    let Some(mut fixture) =
        Fixture::new("a_repeated_request_makes_one_key_and_a_repeated_destruction_is_done")
    else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let template = Template(vec![
        Attribute::ulong(AttributeType::VALUE_LEN, 16),
        Attribute::bool(AttributeType::TOKEN, true),
    ]);
    let request = Request::Generate { mechanism: Mechanism::plain(MechanismType::AES_KEY_GEN), template };
    let first = fixture.ask_as(RequestId([200; 16]), request.clone()).unwrap();
    let again = fixture.ask_as(RequestId([200; 16]), request).unwrap();
    assert_eq!(first, again);
    assert_eq!(fixture.find(vec![]).len(), 1);

    let (public, private) = fixture.pair(true);
    let destroy = |object: &ObjectRef| Request::Destroy { object: object.clone() };
    fixture.ask(destroy(&private.object)).unwrap();
    fixture.ask(destroy(&private.object)).unwrap();
    fixture.ask(destroy(&public.object)).unwrap();
    assert_eq!(fixture.sign(&private.object), Err(Rv::KEY_HANDLE_INVALID));
    assert_eq!(fixture.find(vec![]).len(), 1);
    assert_eq!(fixture.ask(destroy(&ObjectRef::Token(ObjectId(999)))), Err(Rv::OBJECT_HANDLE_INVALID));
    fixture.ticket = None;
    assert_eq!(fixture.ask(destroy(&private.object)), Err(Rv::OBJECT_HANDLE_INVALID));
}

#[test]
fn logins_end_when_the_officer_sets_the_pin() {
    let Some(mut fixture) = Fixture::new("logins_end_when_the_officer_sets_the_pin") else { return };
    assert_eq!(fixture.log_in(Role::User, "4321"), Err(Rv::PIN_INCORRECT));
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    let user = fixture.ticket.clone();
    let (old, new) = (Secret::from(b"1234".as_slice()), Secret::from(b"5678".as_slice()));
    fixture.ask(Request::SetPin { role: Role::User, old, new }).unwrap();
    fixture.encrypt(&key, b"one's own new PIN ends nothing").unwrap();
    fixture.log_in(Role::Officer, "12345678").unwrap();
    assert!(fixture.encrypt(&key, b"the officer uses no key").is_err());
    assert!(fixture.find(vec![]).is_empty());
    fixture.ask(Request::InitPin { pin: Secret::from(b"9999".as_slice()) }).unwrap();
    fixture.ticket = user;
    assert_eq!(fixture.encrypt(&key, b"data"), Err(Rv::USER_NOT_LOGGED_IN));
    fixture.ticket = None;
    fixture.log_in(Role::User, "9999").unwrap();
    fixture.encrypt(&key, b"data").unwrap();
}

#[test]
fn changes_at_the_same_time_are_all_kept() {
    let Some(mut fixture) = Fixture::new("changes_at_the_same_time_are_all_kept") else { return };
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.make(
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
        let ask = RequestEnvelope { id: RequestId::default(), slot, ticket: ticket.clone(), request };
        dispatch.answer(Some(Peer { uid: 1000, pid: 1 }), ask, &mut Memory::default()).result
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
    let Response::Object(seen) = fixture.ask(Request::Attributes { object: key.object.clone() }).unwrap()
    else {
        panic!("attributes are an object")
    };
    assert_eq!(seen.attributes.bool(AttributeType::SENSITIVE), Some(true));
}

#[test]
fn an_edited_key_is_refused_and_the_others_go_on() {
    let Some(mut fixture) = Fixture::new("an_edited_key_is_refused_and_the_others_go_on") else { return };
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
fn a_revealable_key_shows_its_value_and_a_sensitive_one_does_not() {
    let Some(mut fixture) = Fixture::new("a_revealable_key_shows_its_value_and_a_sensitive_one_does_not")
    else {
        return;
    };
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    for token in [true, false] {
        let make = |sensitive| {
            vec![
                Attribute::ulong(AttributeType::VALUE_LEN, 20),
                Attribute::bool(AttributeType::TOKEN, token),
                Attribute::bool(AttributeType::SENSITIVE, sensitive),
                Attribute::bool(AttributeType::EXTRACTABLE, true),
            ]
        };
        let open = fixture.make(MechanismType::GENERIC_SECRET_KEY_GEN, make(false));
        let closed = fixture.make(MechanismType::GENERIC_SECRET_KEY_GEN, make(true));
        assert_eq!(open.attributes.class(), Some(ObjectClass::SECRET_KEY));
        assert_eq!(open.attributes.key_type(), Some(KeyType::GENERIC_SECRET));
        let Response::Revealed(secrets) = fixture.ask(Request::Reveal { object: open.object }).unwrap()
        else {
            panic!("a revealable key reveals")
        };
        assert_eq!(secrets.bytes(AttributeType::VALUE).map(<[u8]>::len), Some(20));
        assert!(open.attributes.bytes(AttributeType::VALUE).is_none());
        assert_eq!(fixture.ask(Request::Reveal { object: closed.object }), Err(Rv::ATTRIBUTE_SENSITIVE));
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
    time("generate a token AES key", 500, &mut |fixture| drop(fixture.aes("made", true)));
}
