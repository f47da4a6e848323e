//! The fixture that the tests of `pkcs11`, `api` and `accounts` share: whole requests with a real token and database.

use std::path::{Path, PathBuf};

use kms_core::audit::Record;
use kms_core::object::Peer;
use kms_protocol::{
    Attribute, AttributeType, Mechanism, MechanismType, ObjectRef, ObjectView, Parameters, Request,
    RequestEnvelope, RequestId, Response, RingPolicy, Role, Rv, Secret, SlotId, Template, Ticket,
};
use kms_store::AuditFilter;

use super::Memory;
use crate::config::{self, Config};
use crate::service::{Backend, NewRing, RestoreOptions};
use crate::test_home;

/// A backend with the rings `strict` (slot 0) and `compat` (slot 1), and a caller of the PKCS#11 API.
pub(super) struct Fixture {
    pub(super) home: PathBuf,
    pub(super) backend: Backend,
    memory: Memory,
    pub(super) ticket: Option<Ticket>,
    pub(super) slot: SlotId,
    /// How many requests were sent, for their ids.
    sent: u128,
}

impl Fixture {
    /// Starts it in the child process; `test` is the path of the test below `dispatch::`. In the parent: `None`.
    pub(super) fn start(test: &str) -> Option<Self> {
        let home = test_home::home_in_child(&format!("dispatch::{test}"))?;
        let backend = Backend::create(&Config::read(&home.join(config::FILE_NAME)).unwrap()).unwrap();
        for (name, policy) in [("strict", RingPolicy::Strict), ("compat", RingPolicy::Compat)] {
            let pin = |pin: &[u8]| Secret::from(pin);
            let (user_pin, so_pin) = (pin(b"1234"), pin(b"12345678"));
            backend.create_ring(NewRing { name: name.to_owned(), policy, user_pin, so_pin }).unwrap();
        }
        let memory = Memory::default();
        Some(Self { home, backend, memory, ticket: None, slot: SlotId(0), sent: 0 })
    }

    /// Closes the backend and opens it again.
    pub(super) fn restart(self) -> Self {
        let Self { home, backend, ticket, slot, sent, .. } = self;
        drop(backend);
        let backend = Backend::open(&Config::read(&home.join(config::FILE_NAME)).unwrap()).unwrap();
        Self { home, backend, memory: Memory::default(), ticket, slot, sent }
    }

    /// Closes the backend, restores a backup, and opens it again.
    pub(super) fn replace_database(self, from: &Path, options: &RestoreOptions) -> Self {
        let Self { home, backend, ticket, slot, sent, .. } = self;
        drop(backend);
        let config = Config::read(&home.join(config::FILE_NAME)).unwrap();
        Backend::restore(&config, from, options, |_| true).unwrap();
        let backend = Backend::open(&config).unwrap();
        Self { home, backend, memory: Memory::default(), ticket, slot, sent }
    }

    pub(super) fn send(&mut self, request: Request) -> Result<Response, Rv> {
        self.sent += 1;
        self.send_with_id(RequestId(self.sent.to_be_bytes()), request)
    }

    pub(super) fn send_with_id(&mut self, id: RequestId, request: Request) -> Result<Response, Rv> {
        let envelope = RequestEnvelope { id, slot: self.slot, ticket: self.ticket.clone(), request };
        let peer = Some(Peer { uid: 1000, pid: 1 });
        self.backend.dispatch().answer(peer, envelope, &mut self.memory).result
    }

    pub(super) fn log_in(&mut self, role: Role, pin: &str) -> Result<(), Rv> {
        let response = self.send(Request::Login { role, pin: Secret::from(pin.as_bytes()) })?;
        let Response::LoggedIn { ticket } = response else { panic!("{response:?}") };
        self.ticket = Some(ticket);
        Ok(())
    }

    /// Generates a key with a mechanism.
    pub(super) fn generate_with(&mut self, kind: MechanismType, template: Vec<Attribute>) -> ObjectView {
        let request = Request::Generate { mechanism: Mechanism::plain(kind), template: Template(template) };
        let response = self.send(request).unwrap();
        let Response::Object(view) = response else { panic!("{response:?}") };
        view
    }

    /// Generates an AES-256 key that encrypts and decrypts.
    pub(super) fn aes(&mut self, label: &str, token: bool) -> ObjectView {
        self.generate_with(
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

    /// Generates an RSA-2048 pair that signs and verifies.
    pub(super) fn pair(&mut self, token: bool) -> (ObjectView, ObjectView) {
        let flags = |sign| vec![Attribute::bool(AttributeType::TOKEN, token), sign];
        let bits = Attribute::ulong(AttributeType::MODULUS_BITS, 2048);
        let mut public = flags(Attribute::bool(AttributeType::VERIFY, true));
        public.extend([bits, Attribute::bytes(AttributeType::PUBLIC_EXPONENT, vec![1, 0, 1])]);
        let request = Request::GeneratePair {
            mechanism: Mechanism::plain(MechanismType::RSA_PKCS_KEY_PAIR_GEN),
            public: Template(public),
            private: Template(flags(Attribute::bool(AttributeType::SIGN, true))),
        };
        let response = self.send(request).unwrap();
        let Response::Pair { public, private } = response else { panic!("{response:?}") };
        (public, private)
    }

    pub(super) fn encrypt(&mut self, key: &ObjectRef, data: &[u8]) -> Result<Secret, Rv> {
        let request = Request::Encrypt { key: key.clone(), mechanism: gcm(), data: Secret::from(data) };
        self.send(request).map(bytes)
    }

    pub(super) fn decrypt(&mut self, key: &ObjectRef, data: &[u8]) -> Result<Secret, Rv> {
        let request = Request::Decrypt { key: key.clone(), mechanism: gcm(), data: Secret::from(data) };
        self.send(request).map(bytes)
    }

    pub(super) fn sign(&mut self, key: &ObjectRef) -> Result<Secret, Rv> {
        let mechanism = Mechanism::plain(MechanismType::SHA256_RSA_PKCS);
        let request = Request::Sign { key: key.clone(), mechanism, data: Secret::from([7; 32].as_slice()) };
        self.send(request).map(bytes)
    }

    pub(super) fn find(&mut self, template: Vec<Attribute>) -> Vec<ObjectView> {
        let response = self.send(Request::Find { template: Template(template), after: None }).unwrap();
        let Response::Found { objects, next: None } = response else { panic!("{response:?}") };
        objects
    }

    /// Advances the backend's clock.
    pub(super) fn advance_clock(&self, seconds: u64) {
        self.backend.dispatch().clock.advance(seconds);
    }

    /// Verifies the audit log and returns its entries after `after`.
    pub(super) fn audit_log(&self, after: u64) -> Vec<Record> {
        let store = &self.backend.dispatch().store;
        store.verify_audit(None, |_, _| {}).unwrap().unwrap();
        let all = AuditFilter { project: None, from: 0, until: u64::MAX };
        let page = store.audit_page(&all, None, 1000).unwrap();
        page.into_iter().filter(|record| record.sequence > after).collect()
    }

    /// The number of the last entry of the audit log.
    pub(super) fn audit_end(&self) -> u64 {
        self.backend.dispatch().store.audit_head().unwrap().last.sequence
    }
}

pub(super) fn bytes(response: Response) -> Secret {
    let Response::Bytes(bytes) = response else { panic!("{response:?}") };
    bytes
}

pub(super) fn gcm() -> Mechanism {
    let parameters = Parameters::Gcm { iv: Secret::from(vec![1; 12]), aad: Secret::default(), tag_bits: 128 };
    Mechanism { kind: MechanismType::AES_GCM, parameters }
}
