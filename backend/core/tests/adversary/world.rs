//! The objects of a ring, with their symbolic values, and what an attacker learns from using them. The policy itself
//! decides on every use.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use kms_core::object::{Caller, Login, LoginId, Object, RingRole};
use kms_core::policy;
use kms_protocol::{
    Attribute, AttributeType as A, Mechanism, MechanismType as M, ObjectClass, RingId, RingPolicy, Template,
    Usage,
};

use crate::kinds::{KindId, Kinds};
use crate::knowledge::{Knowledge, Oracles};
use crate::menu::Move;
use crate::term::{Id, Party, Term, Terms};

/// An object, and how it was made.
pub(crate) struct Key {
    pub(crate) kind: KindId,
    pub(crate) value: Id,
    /// The number of calls that made it and the objects that it was made of.
    pub(crate) calls: u32,
    /// The last of these calls, and the objects that it used.
    made: (&'static str, Vec<usize>),
}

/// The keys that the attacker starts from.
#[derive(Clone, Copy)]
pub(crate) struct Generates {
    /// Whether templates request several uses at once.
    pub(crate) several_uses: bool,
    /// Whether the only secret keys that are generated are AES keys.
    pub(crate) only_aes: bool,
}

/// The rules under which the attacker plays.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) policy: RingPolicy,
    pub(crate) moves: Vec<Move>,
    pub(crate) generates: Generates,
    /// Whether keys both derive and work on data, as they could before the rules of `policy::derivation`.
    pub(crate) without_separate_derivation: bool,
}

impl Rules {
    pub(crate) fn has(&self, wanted: Move) -> bool {
        self.moves.contains(&wanted)
    }

    pub(crate) fn caller(&self) -> Caller {
        let (id, ring) = (LoginId::default(), RingId([1; 16]));
        let login = Login::new(id, ring, "attacker".to_owned(), RingRole::Admin);
        Caller { peer: None, login: Some(login), policy: self.policy }
    }
}

/// A call and the kinds of objects that it uses: what the policy's decision depends on.
type Decision = (&'static str, Vec<KindId>);

/// Everything that exists in the ring and that the attacker knows.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) terms: Terms,
    pub(crate) kinds: Kinds,
    pub(crate) keys: Vec<Key>,
    pub(crate) knowledge: Knowledge,
    /// The ciphertexts that the attacker has from wrapping, with the number of calls.
    pub(crate) wrapped: BTreeMap<Id, u32>,
    by_value: HashMap<Id, Vec<KindId>>,
    decided: HashMap<Decision, Rc<Vec<KindId>>>,
    permitted: HashMap<(A, M, KindId), bool>,
    permitted_salts: HashMap<KindId, bool>,
    permitted_wraps: HashMap<(KindId, KindId), bool>,
    randoms: u32,
}

impl World {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            terms: Terms::default(),
            kinds: Kinds::default(),
            keys: Vec::new(),
            knowledge: Knowledge::default(),
            wrapped: BTreeMap::new(),
            by_value: HashMap::new(),
            decided: HashMap::new(),
            permitted: HashMap::new(),
            permitted_salts: HashMap::new(),
            permitted_wraps: HashMap::new(),
            randoms: 0,
        }
    }

    /// A new random value.
    pub(crate) fn random(&mut self) -> Id {
        self.randoms += 1;
        self.terms.id(Term::Random(self.randoms))
    }

    /// Adds an object, unless there is one with the same value that can do all that it can do.
    ///
    /// One known value is like another, so that all objects with known values have the same, unless the attacker is a
    /// party to it.
    pub(crate) fn add(&mut self, kind: KindId, value: Id, calls: u32, how: &'static str, from: &[usize]) {
        let chosen = matches!(self.terms.term(value), Term::Chosen(_));
        let known = !chosen && !self.attacker_is_a_party(value) && self.is_known(value);
        let value = if known { self.terms.id(Term::Chosen(crate::menu::TROJAN)) } else { value };
        let same_value = self.by_value.entry(value).or_default();
        if !same_value.iter().any(|one| self.kinds.covers(*one, kind)) {
            same_value.push(kind);
            self.keys.push(Key { kind, value, calls, made: (how, from.to_vec()) });
        }
    }

    /// Whether the attacker knows a value, or computes it from what it knows.
    fn is_known(&self, value: Id) -> bool {
        self.knowledge.knows(value)
            || match self.terms.term(value) {
                Term::Chosen(_) => true,
                Term::Hmac(key, message) | Term::Cmac(key, message) => {
                    self.is_known(key) && self.is_known(message)
                }
                Term::Part(from) => self.is_known(from),
                Term::Random(_)
                | Term::Agreed(..)
                | Term::Hashed(..)
                | Term::Subkey(_)
                | Term::Wrapped(..)
                | Term::WrappedForPair(..) => false,
            }
    }

    pub(crate) fn object(&self, at: usize) -> &Object {
        self.kinds.object(self.keys[at].kind)
    }

    /// The kinds of objects that a call makes of these objects with any of the templates. `decide` asks the policy.
    pub(crate) fn outcomes(
        &mut self,
        call: &'static str,
        from: &[usize],
        templates: impl FnOnce() -> Vec<Template>,
        decide: impl Fn(&Caller, &[&Object], &Template) -> Option<Template>,
    ) -> Rc<Vec<KindId>> {
        let decision = (call, from.iter().map(|at| self.keys[*at].kind).collect::<Vec<_>>());
        if let Some(found) = self.decided.get(&decision) {
            return Rc::clone(found);
        }
        let caller = self.rules.caller();
        let mut found: Vec<KindId> = Vec::new();
        for template in templates() {
            let objects: Vec<&Object> = decision.1.iter().map(|kind| self.kinds.object(*kind)).collect();
            if let Some(attributes) = decide(&caller, &objects, &template) {
                let kind = self.kinds.id(self.as_before(attributes, &template));
                if !found.contains(&kind) {
                    found.push(kind);
                }
            }
        }
        // Kinds that others cover are of no use.
        let covered = |kind: &KindId| found.iter().any(|one| one != kind && self.kinds.covers(*one, *kind));
        let found: Rc<Vec<KindId>> = Rc::new(found.iter().filter(|kind| !covered(kind)).copied().collect());
        self.decided.insert(decision, Rc::clone(&found));
        found
    }

    /// Undoes the separation of deriving from other uses, if the rules say so.
    fn as_before(&self, mut attributes: Template, requested: &Template) -> Template {
        if self.rules.without_separate_derivation {
            for usage in [A::ENCRYPT, A::DECRYPT, A::SIGN, A::VERIFY, A::DERIVE] {
                if let Some(value) = requested.bool(usage) {
                    attributes.set(Attribute::bool(usage, value));
                }
            }
        }
        attributes
    }

    /// Whether the policy permits a use of a key with a mechanism.
    pub(crate) fn permits(&mut self, usage: Usage, mechanism: M, kind: KindId) -> bool {
        if let Some(permitted) = self.permitted.get(&(usage.attribute(), mechanism, kind)) {
            return *permitted;
        }
        let caller = self.rules.caller();
        let permitted = |key: &Object| {
            let mechanism = Mechanism::plain(mechanism);
            policy::permit(&caller, usage, &mechanism, key).is_ok()
        };
        let key = self.kinds.object(kind);
        let separately = usage == Usage::Derive && self.rules.without_separate_derivation;
        let result = if separately && key.class() == Some(ObjectClass::SECRET_KEY) {
            permitted(&only_derives(key))
        } else {
            permitted(key)
        };
        self.permitted.insert((usage.attribute(), mechanism, kind), result);
        result
    }

    /// Whether the policy permits a key as the salt of HKDF.
    pub(crate) fn permits_salt(&mut self, kind: KindId) -> bool {
        let (caller, key) = (self.rules.caller(), self.kinds.object(kind));
        let permitted = || policy::permit_second_base(&caller, &crate::menu::hkdf(true, true), key).is_ok();
        *self.permitted_salts.entry(kind).or_insert_with(permitted)
    }

    /// Whether the policy permits wrapping a key under another.
    pub(crate) fn permits_being_wrapped(&mut self, wrapping: KindId, key: KindId) -> bool {
        let (caller, kinds) = (self.rules.caller(), &self.kinds);
        let permitted =
            || policy::permit_being_wrapped(&caller, kinds.object(wrapping), kinds.object(key)).is_ok();
        *self.permitted_wraps.entry((wrapping, key)).or_insert_with(permitted)
    }

    /// What the objects do for the attacker.
    fn oracles(&mut self) -> Oracles {
        let mut oracles = Oracles::default();
        let can = |wanted| self.rules.has(wanted);
        let (signs, encrypts) = (can(Move::Sign), can(Move::Encrypt));
        let (decrypts, pads) = (can(Move::Decrypt), can(Move::PaddingOracle));
        for at in 0..self.keys.len() {
            let Key { kind, value, .. } = self.keys[at];
            let mut uses = |allowed: bool, usage, mechanism| allowed && self.permits(usage, mechanism, kind);
            if uses(signs, Usage::Sign, M::SHA256_HMAC) || uses(signs, Usage::Verify, M::SHA256_HMAC) {
                oracles.hmac.insert(value);
            }
            let decrypts_blocks = uses(decrypts, Usage::Decrypt, M::AES_CBC);
            // Decrypting zeros in counter mode encrypts the counter.
            if decrypts_blocks
                || uses(encrypts, Usage::Encrypt, M::AES_CTR)
                || uses(signs, Usage::Sign, M::AES_CMAC)
                || uses(signs, Usage::Verify, M::AES_CMAC)
            {
                oracles.encrypts.insert(value);
            }
            if decrypts_blocks || uses(pads, Usage::Unwrap, M::AES_CBC_PAD) {
                oracles.decrypts.insert(value);
            }
            if uses(decrypts, Usage::Decrypt, M::RSA_PKCS_OAEP)
                || uses(decrypts, Usage::Decrypt, M::RSA_X_509)
                || uses(signs, Usage::Sign, M::RSA_X_509)
                || uses(pads, Usage::Unwrap, M::RSA_PKCS)
            {
                oracles.decrypts_rsa.insert(value);
            }
        }
        oracles
    }

    /// Reads what is readable and applies the equations; returns a broken promise, if there is one.
    pub(crate) fn learn(&mut self) -> Option<String> {
        let caller = self.rules.caller();
        for at in 0..self.keys.len() {
            let value = self.keys[at].value;
            if !self.knowledge.knows(value) && policy::permit_reveal(&caller, self.object(at)).is_ok() {
                let how = format!("read from {}", self.made(at));
                self.knowledge.learn(value, || how);
            }
        }
        for id in self.wrapped.keys() {
            self.knowledge.learn(*id, || "wrapped".to_owned());
        }
        let oracles = self.oracles();
        self.knowledge.close(&self.terms, &oracles);
        let broken = |at: &usize| self.is_promised(*at) && self.knowledge.knows(self.keys[*at].value);
        let broken = (0..self.keys.len()).find(broken)?;
        let value = self.keys[broken].value;
        let (value, why) = (self.terms.text(value), self.knowledge.why(value));
        Some(format!("{}\n  has the value {value}, which is {why}", self.made(broken)))
    }

    /// Whether a strict ring promises that nobody learns the value: the object says that it was always sensitive or
    /// never extractable, and the attacker is not a party to the value.
    fn is_promised(&self, at: usize) -> bool {
        let object = self.object(at);
        let secret = matches!(object.class(), Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY));
        let says_so = object.is(A::ALWAYS_SENSITIVE) || object.is(A::NEVER_EXTRACTABLE);
        secret && says_so && !self.attacker_is_a_party(self.keys[at].value)
    }

    /// Whether the value was agreed on with the attacker, or computed from such a value.
    fn attacker_is_a_party(&self, value: Id) -> bool {
        match self.terms.term(value) {
            Term::Agreed(_, party) => party == Party::Attacker,
            Term::Hashed(from, _)
            | Term::Subkey(from)
            | Term::Part(from)
            | Term::Hmac(from, _)
            | Term::Cmac(from, _) => self.attacker_is_a_party(from),
            Term::Random(_) | Term::Chosen(_) | Term::Wrapped(..) | Term::WrappedForPair(..) => false,
        }
    }

    /// How an object was made, from the first call on.
    fn made(&self, at: usize) -> String {
        let Key { kind, made: (how, from), .. } = &self.keys[at];
        let before: Vec<String> = from.iter().map(|at| self.made(*at)).collect();
        let before = if before.is_empty() { String::new() } else { format!(" ({})", before.join("; ")) };
        format!("{how}{before} -> {}", self.kinds.text(*kind))
    }
}

/// The key as if it did nothing but derive.
fn only_derives(key: &Object) -> Object {
    let mut only = Object { attributes: key.attributes.clone(), ..stub(key) };
    for usage in crate::menu::USES {
        only.attributes.set(Attribute::bool(usage, usage == A::DERIVE && key.is(A::DERIVE)));
    }
    only.attributes.set(Attribute::bool(A::EXTRACTABLE, false));
    only
}

fn stub(key: &Object) -> Object {
    let material = kms_core::object::Material::None;
    Object { id: None, ring: key.ring, version: None, attributes: Template::default(), material }
}
