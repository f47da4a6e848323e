//! Random walks of requests, by a caller who wants to know a key that he should not.
//!
//! The walk keeps its own ledger on values, not on objects: who made a value, whether the caller knows it, what objects
//! with it can do. After each step it checks that nothing which a strict ring protects came out, and that nothing
//! stands ready from which it would: a wrapping key that also works on data (unless with another half), or that the caller
//! knows. The same walk in a compat ring finds just that, which shows that the ledger are kept well.

use std::cell::RefCell;
use std::collections::HashSet;

use kms_core::integrity;
use kms_core::object::{KeyBytes, Material};
use kms_protocol::AttributeType as A;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};

use super::requests::{ecdh, hkdf, kwp, oaep, secret};
use super::*;

/// Walks, and steps of each.
const WALKS: u32 = 64;
const STEPS: usize = 400;

/// Objects the walk remembers; the oldest are forgotten, never destroyed.
const OBJECTS_MAX: usize = 24;

/// What a step may ask for.
const FLAGS: [A; 11] = [
    A::SENSITIVE,
    A::EXTRACTABLE,
    A::ENCRYPT,
    A::DECRYPT,
    A::WRAP,
    A::UNWRAP,
    A::SIGN,
    A::DERIVE,
    A::COPYABLE,
    A::PRIVATE,
    A::WRAP_WITH_TRUSTED,
];

/// One step: what to do, and with what.
#[derive(Clone, Copy, Debug)]
struct Step {
    what: u8,
    one: usize,
    other: usize,
    flags: u64,
}

fn step() -> impl Strategy<Value = Step> {
    (0_u8..12, 0_usize..64, 0_usize..64, any::<u64>()).prop_map(|(what, one, other, flags)| Step {
        what,
        one,
        other,
        flags,
    })
}

/// An object as the walk knows it.
#[derive(Clone)]
struct TrackedObject {
    view: ObjectView,
    /// Its value; of a public key, its private half's.
    value: Vec<u8>,
}

/// What the walk knows of one value.
#[derive(Default)]
struct TaintLedger {
    /// Values that the caller made, or was shown, or agreed on with somebody who knows them.
    known: HashSet<Vec<u8>>,
    /// Values that are protected: made inside and sensitive from the start, or derived from such.
    protected: HashSet<Vec<u8>>,
    /// Values that have wrapped a protected one, and whether with a half of their own.
    wrapped: HashSet<(Vec<u8>, bool)>,
    /// Values with which some object works on data.
    working: HashSet<(Vec<u8>, A)>,
}

struct Walk<'a> {
    fixture: &'a mut Fixture,
    objects: Vec<TrackedObject>,
    blobs: Vec<Secret>,
    ledger: TaintLedger,
    fixed: &'a [TrackedObject],
    refused: usize,
    /// How often a protected value was wrapped: that must be tried, and go well.
    wraps: usize,
}

impl Walk<'_> {
    fn held(&self, index: usize) -> TrackedObject {
        let count = self.fixed.len() + self.objects.len();
        let index = index % count;
        self.fixed.get(index).unwrap_or_else(|| &self.objects[index - self.fixed.len()]).clone()
    }

    /// One that says it can do this, if there is one.
    fn able(&self, index: usize, kind: A) -> TrackedObject {
        let able = self.fixed.iter().chain(&self.objects);
        let able: Vec<_> = able.filter(|held| held.view.attributes.bool(kind) == Some(true)).collect();
        able.get(index % able.len().max(1))
            .map_or_else(|| self.held(index), |held| TrackedObject::clone(held))
    }

    /// The truth, which no caller has: what the object's value is.
    fn value(&self, object: &ObjectRef) -> Vec<u8> {
        let dispatch = self.fixture.backend.dispatch();
        let ring = dispatch.store.ring(self.fixture.slot).unwrap().unwrap();
        match object {
            ObjectRef::Session(seal) => {
                match dispatch.seals.open(ring.id, Some("user"), seal).unwrap().material {
                    Material::Open(bytes) => bytes.as_ref().to_vec(),
                    Material::None | Material::Wrapped(_) => Vec::new(),
                }
            }
            ObjectRef::Token(id) => {
                let object = dispatch.store.object(ring.id, *id).unwrap();
                let Material::Wrapped(wrapped) = &object.material else { return Vec::new() };
                let (class, kind) = (object.class().unwrap(), object.key_type().unwrap());
                let identity = integrity::identity(ring.id, object.version.unwrap(), class, kind);
                let bytes: KeyBytes = dispatch.hsm.unwrap(wrapped.master, &identity, &wrapped.bytes).unwrap();
                bytes.as_ref().to_vec()
            }
        }
    }

    /// Flags for a template: each attribute is asked for, asked not to be, or not named.
    fn template(flags: u64, kinds: &[A]) -> Vec<Attribute> {
        let asked = kinds.iter().enumerate().filter_map(|(at, kind)| match flags >> (2 * at) & 3 {
            0 => Some(Attribute::bool(*kind, true)),
            1 => Some(Attribute::bool(*kind, false)),
            _ => None,
        });
        let token = flags >> 60 == 0;
        asked.chain([Attribute::bool(A::TOKEN, token)]).collect()
    }

    /// Enters a new object in the ledger. `inside` says that its value was made inside; `from` what it comes from.
    fn enter(&mut self, view: ObjectView, origin: Origin<'_>) {
        let value = match origin {
            // Halves of pairs are told apart by their public key alone.
            Origin::From(base) if view.attributes.class() != Some(ObjectClass::SECRET_KEY) => base.clone(),
            Origin::GeneratedKey | Origin::Brought | Origin::From(_) => self.value(&view.object),
        };
        let sensitive = view.attributes.bool(A::SENSITIVE) == Some(true);
        let protected = match origin {
            Origin::GeneratedKey => sensitive,
            Origin::Brought => false,
            Origin::From(base) => self.ledger.protected.contains(base),
        };
        let agreed =
            matches!(origin, Origin::Brought) || (matches!(origin, Origin::GeneratedKey) && !sensitive);
        if agreed {
            self.ledger.known.insert(value.clone());
        }
        if protected && !self.ledger.known.contains(&value) {
            self.ledger.protected.insert(value.clone());
        }
        self.ledger.see(&view, &value);
        if self.objects.len() == OBJECTS_MAX {
            self.objects.remove(0);
        }
        self.objects.push(TrackedObject { view, value });
    }

    fn take(&mut self, step: Step) -> Result<(), Rv> {
        let flags = Self::template(step.flags, &FLAGS);
        let (one, other) = match step.what {
            6 => (self.able(step.one, A::WRAP), self.able(step.other, A::EXTRACTABLE)),
            7 => (self.able(step.one, A::UNWRAP), self.held(step.other)),
            8 => (self.able(step.one, A::DERIVE), self.held(step.other)),
            10 => (self.able(step.one, A::DECRYPT), self.held(step.other)),
            _ => (self.held(step.one), self.held(step.other)),
        };
        let kind = if step.flags >> 40 & 1 == 0 { KeyType::AES } else { KeyType::GENERIC_SECRET };
        let object = one.view.object.clone();
        match step.what {
            0 | 1 => self.generate(step, flags, kind)?,
            2 => {
                let value = Attribute::bytes(A::VALUE, vec![u8::try_from(step.other).unwrap(); 32]);
                let made = self.fixture.create(&[&flags[..], &secret(kind), &[value]].concat())?;
                self.enter(made, Origin::Brought);
            }
            3 => {
                let few = Self::template(step.flags | 0x5555_5555 << 20, &FLAGS);
                let copied = self.fixture.copy(&object, &few)?;
                let value = one.value.clone();
                self.enter(copied, Origin::From(&value));
            }
            4 => {
                let flag = Attribute::bool(FLAGS[step.other % FLAGS.len()], step.flags & 1 == 0);
                let changed = self.fixture.set(&object, &[flag])?;
                self.ledger.see(&changed, &one.value);
                let same = |held: &&mut TrackedObject| held.view.object == object;
                if let Some(held) = self.objects.iter_mut().find(same) {
                    held.view = changed;
                }
            }
            5 | 6 => self.wrap(step, &one, &other)?,
            7 => self.unwrap(step, &one, &flags, kind)?,
            8 => self.derive(step, &one, &flags, kind)?,
            9 => {
                let secrets = self.fixture.reveal(&object)?;
                let shown = secrets.bytes(A::VALUE).unwrap_or_default();
                assert!(!self.ledger.protected.contains(shown), "a protected value was shown");
                self.ledger.known.insert(shown.to_vec());
            }
            10 => self.decrypt(step, &one)?,
            _ => {
                let data = Secret::from([7; 32].as_slice());
                let mechanism = self.cipher(step, &one);
                let answer = self.fixture.send(Request::Encrypt { key: object, mechanism, data })?;
                self.blobs.push(bytes(answer));
            }
        }
        Ok(())
    }

    fn generate(&mut self, step: Step, flags: Vec<Attribute>, kind: KeyType) -> Result<(), Rv> {
        let mechanism = match kind {
            KeyType::AES => MechanismType::AES_KEY_GEN,
            _ => MechanismType::GENERIC_SECRET_KEY_GEN,
        };
        // Half of them ask for what somebody would ask who means to wrap, or to be wrapped.
        let flags = match step.flags >> 42 & 3 {
            0 => {
                let kinds = [A::SENSITIVE, A::EXTRACTABLE, A::COPYABLE, A::ENCRYPT];
                let few = Self::template(step.flags | 0xaa, &kinds);
                [few, vec![Attribute::bool(A::WRAP, true), Attribute::bool(A::UNWRAP, true)]].concat()
            }
            1 => {
                let few = Self::template(step.flags, &[A::DECRYPT, A::COPYABLE, A::DERIVE]);
                [few, vec![Attribute::bool(A::EXTRACTABLE, true)]].concat()
            }
            _ => flags,
        };
        let template = Template([&flags[..], &[Attribute::ulong(A::VALUE_LEN, 32)]].concat());
        let mechanism = Mechanism::plain(mechanism);
        let made = self.fixture.object(Request::Generate { mechanism, template })?;
        self.enter(made, Origin::GeneratedKey);
        Ok(())
    }

    fn unwrap(
        &mut self,
        step: Step,
        by: &TrackedObject,
        flags: &[Attribute],
        kind: KeyType,
    ) -> Result<(), Rv> {
        let Some(blob) = self.blobs.get(step.other % self.blobs.len().max(1)).cloned() else {
            return Ok(());
        };
        let template = [flags, &secret(kind)].concat();
        let mechanism = self.wrapping(step, by);
        let unwrapped = self.fixture.unwrap(mechanism, &by.view.object, &blob, &template)?;
        let value = self.value(&unwrapped.object);
        self.enter(unwrapped, Origin::From(&value));
        Ok(())
    }

    fn decrypt(&mut self, step: Step, by: &TrackedObject) -> Result<(), Rv> {
        let key = by.view.object.clone();
        let Some(blob) = self.blobs.get(step.other % self.blobs.len().max(1)).cloned() else {
            return Ok(());
        };
        let mechanism = self.cipher(step, by);
        let answer = self.fixture.send(Request::Decrypt { key, mechanism, data: blob })?;
        self.look_for_values_in(&bytes(answer));
        Ok(())
    }

    fn wrapping(&self, step: Step, by: &TrackedObject) -> Mechanism {
        match (by.view.attributes.key_type(), step.flags >> 50 & 3) {
            (Some(KeyType::RSA), 0) => Mechanism::plain(MechanismType::RSA_PKCS),
            (Some(KeyType::RSA), _) => oaep(),
            (_, 0) => kwp(),
            (_, 1) => Mechanism::plain(MechanismType::AES_KEY_WRAP),
            (_, 2) => gcm(),
            _ => Mechanism { kind: MechanismType::AES_CBC, parameters: Parameters::Iv([0; 16]) },
        }
    }

    fn cipher(&self, step: Step, by: &TrackedObject) -> Mechanism {
        match (by.view.attributes.key_type(), step.flags >> 52 & 3) {
            (Some(KeyType::RSA), 0) => Mechanism::plain(MechanismType::RSA_PKCS),
            (Some(KeyType::RSA), 1) => Mechanism::plain(MechanismType::RSA_X_509),
            (Some(KeyType::RSA), _) => oaep(),
            (_, 0) => Mechanism::plain(MechanismType::AES_ECB),
            (_, 1) => gcm(),
            _ => Mechanism { kind: MechanismType::AES_CBC, parameters: Parameters::Iv([0; 16]) },
        }
    }

    fn wrap(&mut self, step: Step, by: &TrackedObject, key: &TrackedObject) -> Result<(), Rv> {
        let mechanism = self.wrapping(step, by);
        let blob = self.fixture.wrap(mechanism, &by.view.object, &key.view.object)?;
        self.look_for_values_in(&blob);
        self.blobs.push(blob);
        if self.ledger.protected.contains(&key.value) {
            assert!(!by.value.is_empty(), "a key that somebody brought has wrapped a protected one");
            let apart = by.view.attributes.bool(A::KMS_WRAP_SUBKEY) == Some(true);
            self.ledger.wrapped.insert((by.value.clone(), apart));
            self.wraps += 1;
        }
        Ok(())
    }

    fn derive(
        &mut self,
        step: Step,
        base: &TrackedObject,
        flags: &[Attribute],
        kind: KeyType,
    ) -> Result<(), Rv> {
        let length = [1, 16, 32][step.other % 3];
        let template = [flags, &secret(kind), &[Attribute::ulong(A::VALUE_LEN, length)]].concat();
        let agreement = base.view.attributes.key_type() == Some(KeyType::EC);
        let data =
            |bytes: usize| Parameters::Data { iv: Secret::default(), data: Secret::from(vec![7; bytes]) };
        let mechanism = match step.flags >> 54 & 3 {
            _ if agreement => {
                let public = self.fixed.iter().find_map(|held| held.view.attributes.bytes(A::EC_POINT));
                ecdh(public.unwrap())
            }
            0 => Mechanism { kind: MechanismType::CONCATENATE_BASE_AND_DATA, parameters: data(1) },
            1 => Mechanism { kind: MechanismType::AES_ECB_ENCRYPT_DATA, parameters: data(32) },
            _ => hkdf(&[u8::try_from(step.other % 4).unwrap()]),
        };
        let derived = self.fixture.derive(mechanism, &base.view.object, &template)?;
        if agreement {
            self.enter(derived, Origin::Brought);
            return Ok(());
        }
        let protected = self.ledger.protected.contains(&base.value);
        assert!(!protected || length >= 16, "a part of a protected value, short enough to guess");
        self.enter(derived, Origin::From(&base.value));
        Ok(())
    }

    fn look_for_values_in(&self, bytes: &[u8]) {
        let found =
            |value: &&Vec<u8>| bytes.windows(value.len().min(16)).any(|window| value.starts_with(window));
        assert!(
            self.ledger.protected.iter().find(found).is_none(),
            "a protected value stands in what came out"
        );
    }
}

/// Where a new object's value comes from.
enum Origin<'a> {
    /// The KMS made it.
    GeneratedKey,
    /// The caller brought it, or knows it together with another.
    Brought,
    /// From an object with this value.
    From(&'a Vec<u8>),
}

impl TaintLedger {
    /// Notes what an object with this value can do.
    fn see(&mut self, view: &ObjectView, value: &[u8]) {
        let is = |kind: &&A| view.attributes.bool(**kind) == Some(true);
        let private = view.attributes.class() == Some(ObjectClass::PRIVATE_KEY);
        let working: &[A] = match private {
            true => &[A::DECRYPT, A::SIGN],
            false => &[A::ENCRYPT, A::DECRYPT, A::SIGN, A::DERIVE],
        };
        if view.attributes.class() != Some(ObjectClass::PUBLIC_KEY) {
            self.working.extend(working.iter().filter(is).map(|use_of| (value.to_vec(), *use_of)));
        }
        let open = view.attributes.bool(A::SENSITIVE) == Some(false);
        assert!(!(open && self.protected.contains(value)), "an open object has a protected value");
    }

    /// What must hold after each step.
    fn check(&self) {
        for (value, apart) in &self.wrapped {
            assert!(!self.known.contains(value), "a known key has wrapped a protected one");
            // Who derives with the key might derive its other half.
            let uses: &[A] =
                if *apart { &[A::DERIVE] } else { &[A::ENCRYPT, A::DECRYPT, A::SIGN, A::DERIVE] };
            let works = uses.iter().find(|use_of| self.working.contains(&(value.clone(), **use_of)));
            assert_eq!(works, None, "a key that has wrapped a protected one works on data");
        }
        assert!(self.protected.is_disjoint(&self.known));
    }
}

/// Pairs that all walks share: making them takes longer than a walk.
fn pairs(fixture: &mut Fixture) -> Vec<TrackedObject> {
    let yes = |kind| Attribute::bool(kind, true);
    let wraps = fixture.rsa(&[yes(A::WRAP)], &[yes(A::UNWRAP)]);
    let open = fixture.rsa(&[yes(A::WRAP)], &[yes(A::UNWRAP), Attribute::bool(A::SENSITIVE, false)]);
    let decrypts = fixture.rsa(&[yes(A::WRAP), yes(A::ENCRYPT)], &[yes(A::UNWRAP), yes(A::DECRYPT)]);
    let request = Request::GeneratePair {
        mechanism: Mechanism::plain(MechanismType::EC_KEY_PAIR_GEN),
        public: Template(vec![Attribute::bytes(A::EC_PARAMS, kms_core::object::Curve::P256.oid_der())]),
        private: Template(vec![yes(A::DERIVE)]),
    };
    let Response::Pair { public, private } = fixture.send(request).unwrap() else { panic!("a pair") };
    [wraps, open, decrypts, (public, private)]
        .into_iter()
        .flat_map(|(public, private)| {
            let value = private.attributes.bytes(A::PUBLIC_KEY_INFO).unwrap().to_vec();
            [public, private].map(|view| TrackedObject { view, value: value.clone() })
        })
        .collect()
}

/// Walks in a ring, and says what was found there.
fn walk(test: &str, slot: SlotId, max_shrink_iters: u32) -> Option<Result<(usize, usize, usize), String>> {
    let mut fixture = Fixture::new(&format!("walk::{test}"))?;
    fixture.slot = slot;
    fixture.log_in(Role::User, "1234").unwrap();
    let fixed = pairs(&mut fixture);
    let (fixture, counts) = (RefCell::new(fixture), RefCell::new((0, 0, 0)));
    let runs = Runs { cases: WALKS, max_shrink_iters, failure_persistence: None, ..Runs::default() };
    let mut runner = TestRunner::new_with_rng(
        runs,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let outcome = runner.run(&prop::collection::vec(step(), STEPS), |steps| {
        let (mut fixture, blobs) = (fixture.borrow_mut(), Vec::new());
        let (objects, ledger) = (Vec::new(), TaintLedger::default());
        let mut walk =
            Walk { fixture: &mut fixture, objects, blobs, ledger, fixed: &fixed, refused: 0, wraps: 0 };
        for held in &fixed {
            walk.ledger.see(&held.view, &held.value);
            if held.view.attributes.bool(A::SENSITIVE) == Some(false) {
                walk.ledger.known.insert(held.value.clone());
            }
        }
        for step in &steps {
            if walk.take(*step).is_err() {
                walk.refused += 1;
            }
            walk.ledger.check();
        }
        let mut counts = counts.borrow_mut();
        *counts = (counts.0 + steps.len(), counts.1 + walk.refused, counts.2 + walk.wraps);
        Ok(())
    });
    Some(outcome.map(|()| *counts.borrow()).map_err(|error| error.to_string()))
}

#[test]
fn no_walk_brings_a_sensitive_value_out_of_a_strict_ring() {
    let Some(outcome) = walk("no_walk_brings_a_sensitive_value_out_of_a_strict_ring", SlotId(0), 500) else {
        return;
    };
    let (steps, refused, wraps) = outcome.unwrap_or_else(|found| panic!("{found}"));
    assert!(steps > 20_000 && refused < steps / 4 * 3, "{refused} of {steps} steps were refused");
    println!("{steps} steps, {refused} refused, {wraps} wraps");
    assert!(wraps > 100, "protected keys were wrapped {wraps} times only");
}

#[test]
fn the_same_walks_find_the_attacks_in_a_compat_ring() {
    let Some(outcome) = walk("the_same_walks_find_the_attacks_in_a_compat_ring", SlotId(1), 0) else {
        return;
    };
    assert!(outcome.is_err(), "the walk is blind");
}
