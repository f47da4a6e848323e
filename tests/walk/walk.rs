//! The walk: its state, and the steps that create and change objects.

use std::collections::HashMap;

use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CKA_CLASS, CKA_COPYABLE, CKA_DECRYPT, CKA_DERIVE, CKA_EC_PARAMS,
    CKA_ENCRYPT, CKA_EXTRACTABLE, CKA_KEY_TYPE, CKA_MODULUS_BITS, CKA_PRIVATE, CKA_SENSITIVE, CKA_SIGN,
    CKA_TOKEN, CKA_UNIQUE_ID, CKA_UNWRAP, CKA_VALUE, CKA_VALUE_LEN, CKA_WRAP, CKA_WRAP_WITH_TRUSTED, CKK_AES,
    CKK_EC, CKK_GENERIC_SECRET, CKM_AES_KEY_GEN, CKM_EC_KEY_PAIR_GEN, CKM_GENERIC_SECRET_KEY_GEN,
    CKM_RSA_PKCS_KEY_PAIR_GEN, CKO_PRIVATE_KEY, CKO_SECRET_KEY, CKU_SO, CKU_USER,
};
use kms_protocol::Rv;
use kms_tests::raw::{Mechanism, Messages, Module, Session, Template};
use kms_tests::{SO_PIN, USER_PIN};

use crate::ledger::{EscrowKey, TaintLedger};
use crate::rng::Rng;

/// The curve P-256, as `CKA_EC_PARAMS`.
pub(crate) const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// The number of objects that the walk tracks; beyond it, the oldest one that the walk created is destroyed.
const OBJECTS_MAX: usize = 40;

/// Boolean attributes that a template may set.
const FLAGS: [CK_ATTRIBUTE_TYPE; 11] = [
    CKA_SENSITIVE,
    CKA_EXTRACTABLE,
    CKA_ENCRYPT,
    CKA_DECRYPT,
    CKA_WRAP,
    CKA_UNWRAP,
    CKA_SIGN,
    CKA_DERIVE,
    CKA_COPYABLE,
    CKA_PRIVATE,
    CKA_WRAP_WITH_TRUSTED,
];

/// An object, and whether its value is protected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackedObject {
    pub(crate) handle: CK_OBJECT_HANDLE,
    pub(crate) protected: bool,
    /// Created before the walk began; it is never destroyed.
    fixed: bool,
}

/// An output, and whether it is a wrapped protected value.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) protected: bool,
    /// The mechanism and the key that wrapped it.
    pub(crate) by: Option<(Mechanism, TrackedObject)>,
}

/// Statistics of a walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: usize,
    pub(crate) refused: usize,
    pub(crate) protected: usize,
    pub(crate) wraps: usize,
    pub(crate) unwraps: usize,
    pub(crate) derives: usize,
    /// Derived keys whose value the walk computes.
    pub(crate) computed: usize,
    /// MACs of messages that derivations are made of.
    pub(crate) asked: usize,
    pub(crate) copies: usize,
    /// The number of output bytes that were searched.
    pub(crate) searched: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.refused += other.refused;
        self.protected += other.protected;
        self.wraps += other.wraps;
        self.unwraps += other.unwraps;
        self.derives += other.derives;
        self.computed += other.computed;
        self.asked += other.asked;
        self.copies += other.copies;
        self.searched += other.searched;
    }
}

/// A violation: a protected value was disclosed, or has lost its protection.
pub(crate) type Violation = String;

pub(crate) struct Walk<'m> {
    pub(crate) session: Session<'m>,
    pub(crate) messages: Messages,
    pub(crate) rng: Rng,
    pub(crate) ledger: TaintLedger,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) counts: Counts,
    escrow: Option<&'m EscrowKey>,
    objects: Vec<TrackedObject>,
    /// The objects by `CKA_UNIQUE_ID`, which a new login does not change.
    by_unique_id: HashMap<Vec<u8>, TrackedObject>,
    /// The protected values that the walk imported.
    imported: Vec<Vec<u8>>,
    /// The values of objects from which the walk computes what is derived.
    pub(crate) known_values: HashMap<CK_OBJECT_HANDLE, Vec<u8>>,
    /// The messages whose MACs are derived keys.
    pub(crate) derivation_messages: Vec<Vec<u8>>,
}

impl<'m> Walk<'m> {
    /// Starts a walk; destroys all objects of the token except the escrow key.
    pub(crate) fn begin(module: &'m Module, ring: &str, escrow: Option<&'m EscrowKey>, seed: u64) -> Self {
        let slot = module.slot(ring);
        kms_tests::call!(module, C_CloseAllSessions(slot)).expect("all sessions close");
        let session = module.user(ring);
        let escrow_handle = escrow.map(|escrow| escrow.handle(&session));
        for object in session.find(Template::new()).expect("a search") {
            if Some(object) != escrow_handle {
                session.destroy(object).expect("an object is destroyed");
            }
        }
        let messages = module.messages().expect("the module has message functions");
        let mut walk = Self {
            session,
            messages,
            rng: Rng::new(seed),
            ledger: TaintLedger::default(),
            blobs: Vec::new(),
            counts: Counts::default(),
            escrow,
            objects: Vec::new(),
            by_unique_id: HashMap::new(),
            imported: Vec::new(),
            known_values: HashMap::new(),
            derivation_messages: Vec::new(),
        };
        walk.generate_initial_keys();
        walk
    }

    pub(crate) fn end(mut self) -> Counts {
        self.counts.protected = self.ledger.count();
        self.counts
    }

    /// Generates the keys that every walk starts with: two wrapping keys, an RSA pair that wraps, one that encrypts
    /// data, and two EC pairs for key agreement.
    fn generate_initial_keys(&mut self) {
        let yes =
            |kinds: &[u64]| kinds.iter().fold(Template::new(), |template, kind| template.bool(*kind, true));
        let aes = |template: Template| (Mechanism::plain(CKM_AES_KEY_GEN), template.ulong(CKA_VALUE_LEN, 32));
        for token in [true, false] {
            let (mechanism, template) =
                aes(yes(&[CKA_WRAP, CKA_UNWRAP, CKA_COPYABLE]).bool(CKA_TOKEN, token));
            let key = self.session.generate(mechanism, template).expect("a wrapping key");
            self.track_fixed(key);
        }
        for (public, private) in [(CKA_WRAP, CKA_UNWRAP), (CKA_ENCRYPT, CKA_DECRYPT)] {
            let mechanism = Mechanism::plain(CKM_RSA_PKCS_KEY_PAIR_GEN);
            let public = yes(&[CKA_TOKEN, public]).ulong(CKA_MODULUS_BITS, 2048);
            let pair = self.session.generate_pair(mechanism, public, yes(&[CKA_TOKEN, private]));
            let (public, private) = pair.expect("an RSA pair");
            self.track_fixed(public);
            self.track_fixed(private);
        }
        for _ in 0..2 {
            let public = yes(&[CKA_TOKEN]).bytes(CKA_EC_PARAMS, P256);
            let private = yes(&[CKA_TOKEN, CKA_DERIVE]);
            let pair = self.session.generate_pair(Mechanism::plain(CKM_EC_KEY_PAIR_GEN), public, private);
            let (public, private) = pair.expect("an EC pair");
            self.track_fixed(public);
            self.track_fixed(private);
        }
    }

    fn track_fixed(&mut self, handle: CK_OBJECT_HANDLE) {
        self.insert(TrackedObject { handle, protected: false, fixed: true });
    }

    fn insert(&mut self, object: TrackedObject) {
        if let Some(name) = self.record(self.session.attribute(object.handle, CKA_UNIQUE_ID)) {
            self.by_unique_id.insert(name, object);
        }
        self.objects.push(object);
    }

    /// One random step: a few calls.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        match self.rng.below(36) {
            0..=2 => self.import(),
            3..=5 => self.generate(),
            6..=7 => self.copy(),
            8..=10 => self.set(),
            11..=13 => self.read_attributes(),
            14..=16 => self.wrap(),
            17..=19 => self.unwrap(),
            20..=23 => self.derive(),
            24..=25 => self.encrypt(),
            26..=28 => self.decrypt(),
            29 => self.sign(),
            34 => self.derive_known(),
            35 => self.ask_for_a_derived_value(),
            30 => self.digest(),
            31 => self.wrap_then_decrypt(),
            32 => self.search(),
            _ if self.rng.one_in(8) => self.switch_login(),
            _ => self.message(),
        }
    }

    /// Counts the result of a call.
    pub(crate) fn record<T>(&mut self, result: Result<T, Rv>) -> Option<T> {
        self.counts.calls += 1;
        self.counts.refused += usize::from(result.is_err());
        result.ok()
    }

    /// Searches an output for protected values.
    pub(crate) fn check_output(&mut self, what: &str, bytes: &[u8]) -> Result<(), Violation> {
        self.counts.searched += bytes.len();
        match self.ledger.found_in(bytes) {
            Some(value) => Err(format!("{what} returns a part of the protected value {value}")),
            None => Ok(()),
        }
    }

    /// Any object.
    pub(crate) fn any_object(&mut self) -> TrackedObject {
        let index = self.rng.below(self.objects.len());
        self.objects[index]
    }

    /// An object with this attribute set; any object, if none of eight random ones has it.
    pub(crate) fn object_with(&mut self, kind: CK_ATTRIBUTE_TYPE) -> TrackedObject {
        for _ in 0..8 {
            let object = self.any_object();
            if self.record(self.session.attribute(object.handle, kind)).is_some_and(|value| value == [1]) {
                return object;
            }
        }
        self.any_object()
    }

    /// A template that sets each flag to true, to false, or not at all.
    pub(crate) fn flags(&mut self) -> Template {
        let mut template = Template::new();
        for kind in FLAGS {
            match self.rng.below(6) {
                0 => template = template.bool(kind, true),
                1 => template = template.bool(kind, false),
                _ => {}
            }
        }
        template.bool(CKA_TOKEN, self.rng.one_in(8))
    }

    /// The template of a secret key of a random type, and a random length.
    pub(crate) fn secret(&mut self) -> (Template, usize) {
        let kind = self.rng.choose(&[CKK_AES, CKK_AES, CKK_GENERIC_SECRET]);
        let length = self.rng.choose(&[16, 32, 32]);
        (Template::new().ulong(CKA_CLASS, CKO_SECRET_KEY).ulong(CKA_KEY_TYPE, kind), length)
    }

    /// Tracks a new object. One with a protected value must be sensitive, whatever it was created from.
    pub(crate) fn track(
        &mut self,
        how: &str,
        handle: CK_OBJECT_HANDLE,
        protected: bool,
    ) -> Result<(), Violation> {
        let sensitive = self.record(self.session.attribute(handle, CKA_SENSITIVE));
        if protected && sensitive.as_deref() != Some(&[1]) {
            return Err(format!("an object with a protected value is not sensitive: {how}, {sensitive:?}"));
        }
        if self.objects.len() == OBJECTS_MAX {
            let index = self.objects.iter().position(|object| !object.fixed).expect("few are fixed");
            let oldest = self.objects.remove(index);
            self.record(self.session.destroy(oldest.handle));
        }
        self.insert(TrackedObject { handle, protected, fixed: false });
        Ok(())
    }

    pub(crate) fn is(&mut self, handle: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> bool {
        self.record(self.session.attribute(handle, kind)).is_some_and(|value| value == [1])
    }

    /// Imports a key with a value that the walk knows; if the module makes it sensitive, the value is protected.
    fn import(&mut self) -> Result<(), Violation> {
        let (secret, length) = self.secret();
        let value = self.rng.bytes(length);
        let template = match self.rng.below(8) {
            0 => Template::new()
                .ulong(CKA_CLASS, CKO_PRIVATE_KEY)
                .ulong(CKA_KEY_TYPE, CKK_EC)
                .bytes(CKA_EC_PARAMS, P256),
            _ => secret,
        };
        let mut flags = self.flags();
        if self.rng.below(4) > 0 {
            flags = flags.bool(CKA_DERIVE, true).bool(CKA_SENSITIVE, true);
        }
        let template = template.bytes(CKA_VALUE, &value).and(flags);
        let Some(handle) = self.record(self.session.create(template)) else { return Ok(()) };
        if self.is(handle, CKA_SENSITIVE) {
            self.ledger.protect(&value);
            self.known_values.insert(handle, value.clone());
            self.imported.push(value);
            return self.track("imported", handle, true);
        }
        self.track("imported", handle, false)
    }

    fn generate(&mut self) -> Result<(), Violation> {
        let length = self.rng.choose(&[16, 32]);
        let kind = self.rng.choose(&[CKM_AES_KEY_GEN, CKM_AES_KEY_GEN, CKM_GENERIC_SECRET_KEY_GEN]);
        let mut flags = self.flags();
        for kind in [CKA_EXTRACTABLE, CKA_COPYABLE, CKA_DERIVE] {
            if self.rng.one_in(2) {
                flags = flags.bool(kind, true);
            }
        }
        let template = flags.ulong(CKA_VALUE_LEN, length);
        let Some(handle) = self.record(self.session.generate(Mechanism::plain(kind), template)) else {
            return Ok(());
        };
        let sensitive = self.is(handle, CKA_SENSITIVE);
        self.learn(handle, sensitive)?;
        self.track("generated", handle, sensitive)
    }

    /// Learns a new value through the escrow key and protects it.
    pub(crate) fn learn(&mut self, handle: CK_OBJECT_HANDLE, protected: bool) -> Result<(), Violation> {
        if !protected || !self.is(handle, CKA_EXTRACTABLE) {
            return Ok(());
        }
        let value = self.escrow.and_then(|escrow| escrow.value(&self.session, handle));
        if let Some(value) = value {
            self.ledger.protect(&value);
        }
        Ok(())
    }

    fn copy(&mut self) -> Result<(), Violation> {
        let (object, mut template) = (self.object_with(CKA_COPYABLE), Template::new());
        for kind in FLAGS {
            if self.rng.one_in(8) {
                template = template.bool(kind, self.rng.one_in(2));
            }
        }
        let template = template.bool(CKA_TOKEN, self.rng.one_in(4));
        let Some(copied) = self.record(self.session.copy(object.handle, template)) else { return Ok(()) };
        self.counts.copies += usize::from(object.protected);
        self.track("copied", copied, object.protected)
    }

    fn set(&mut self) -> Result<(), Violation> {
        let object = self.any_object();
        let kind = self.rng.choose(&FLAGS);
        let template = Template::new().bool(kind, self.rng.one_in(2));
        self.record(self.session.set(object.handle, template));
        if object.protected && !self.is(object.handle, CKA_SENSITIVE) {
            return Err("a protected object is not sensitive any more".to_owned());
        }
        Ok(())
    }

    /// Searches for an object by a protected value: a match would confirm the value.
    fn search(&mut self) -> Result<(), Violation> {
        let Some(value) = self.imported.get(self.rng.below(self.imported.len())).cloned() else {
            return Ok(());
        };
        let found = self.record(self.session.find(Template::new().bytes(CKA_VALUE, &value)));
        match found.is_some_and(|found| !found.is_empty()) {
            true => Err("a protected key is found by its value".to_owned()),
            false => Ok(()),
        }
    }

    /// Logs in as the security officer for some steps, then as the user again: private session objects are then gone
    /// and handles are new.
    fn switch_login(&mut self) -> Result<(), Violation> {
        // The new login gives all objects new handles.
        self.known_values.clear();
        self.record(self.session.logout());
        self.record(self.session.login(CKU_SO, SO_PIN.as_bytes()));
        for _ in 0..4 {
            self.read_attributes()?;
            self.wrap()?;
        }
        self.record(self.session.logout());
        self.record(self.session.login(CKU_USER, USER_PIN.as_bytes()));
        self.objects.clear();
        for handle in self.record(self.session.find(Template::new())).unwrap_or_default() {
            let name = self.record(self.session.attribute(handle, CKA_UNIQUE_ID)).unwrap_or_default();
            if let Some(object) = self.by_unique_id.get(&name) {
                self.objects.push(TrackedObject { handle, ..*object });
            }
        }
        Ok(())
    }
}
