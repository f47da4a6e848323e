//! One level of the search: every object that takes exactly so many calls.

use kms_core::object::Object;
use kms_core::policy;
use kms_protocol::{
    Attribute, AttributeType as A, KeyType, Mechanism, MechanismType as M, ObjectClass, Template, Usage,
};

use crate::menu::{self, Move};
use crate::term::{Id, Party, Term};
use crate::world::World;

impl World {
    /// Makes every object that takes this many calls.
    pub(crate) fn level(&mut self, calls: u32) {
        for at in 0..self.keys.len() {
            if self.keys[at].calls + 1 == calls {
                self.copies_and_changes(at);
                self.agreements(at);
                self.derivations(at);
            }
            self.salted_derivations(at, calls);
            self.wraps(at, calls);
            self.unwraps(at, calls);
        }
    }

    fn copies_and_changes(&mut self, at: usize) {
        if self.rules.has(Move::Copy) {
            let copied = self.outcomes("copy", &[at], menu::changes, |caller, objects, template| {
                policy::permit_copy(caller, objects[0]).ok()?;
                Some(policy::copy(caller, objects[0], template).ok()?.draft.attributes)
            });
            self.add_all(&copied, self.keys[at].value, self.keys[at].calls + 1, "copy", &[at]);
        }
        if self.rules.has(Move::Change) {
            let changed = self.outcomes("change", &[at], menu::changes, |caller, objects, template| {
                policy::may(caller, policy::Action::Change, &objects[0].attributes).ok()?;
                policy::change(caller, objects[0], template).ok()
            });
            self.add_all(&changed, self.keys[at].value, self.keys[at].calls + 1, "change", &[at]);
        }
    }

    fn add_all(&mut self, kinds: &[usize], value: Id, calls: u32, how: &'static str, from: &[usize]) {
        for kind in kinds {
            self.add(*kind, value, calls, how, from);
        }
    }

    fn agreements(&mut self, at: usize) {
        let ecdh = Mechanism::plain(M::ECDH1_DERIVE);
        if !self.rules.has(Move::Agree) || self.object(at).key_type() != Some(KeyType::EC) {
            return;
        }
        for party in [Party::Honest, Party::Attacker] {
            let secret = self.terms.id(Term::Agreed(self.keys[at].value, party));
            let data = self.terms.id(Term::Chosen(menu::MESSAGE));
            let hashed = self.terms.id(Term::Hashed(secret, data));
            for value in [secret, hashed] {
                let how = if party == Party::Honest { "ECDH" } else { "ECDH with the attacker" };
                self.derive(how, &[at], &ecdh, value, self.keys[at].calls + 1);
            }
        }
    }

    fn derivations(&mut self, at: usize) {
        if self.object(at).class() != Some(ObjectClass::SECRET_KEY) {
            return;
        }
        let (base, calls) = (self.keys[at].value, self.keys[at].calls + 1);
        let message = self.terms.id(Term::Chosen(menu::MESSAGE));
        let salt = self.terms.id(Term::Chosen(menu::SALT));
        if self.rules.has(Move::Derive) {
            let extracted = self.terms.id(Term::Hmac(salt, base));
            let expanded = self.terms.id(Term::Hmac(base, message));
            let both = self.terms.id(Term::Hmac(extracted, message));
            self.derive("HKDF extract", &[at], &menu::hkdf(true, false), extracted, calls);
            self.derive("HKDF expand", &[at], &menu::hkdf(false, true), expanded, calls);
            self.derive("HKDF", &[at], &menu::hkdf(true, true), both, calls);
            let is_aes = self.object(at).key_type() == Some(KeyType::AES);
            let value = if is_aes { Term::Cmac(base, message) } else { Term::Hmac(base, message) };
            let value = self.terms.id(value);
            self.derive("SP 800-108", &[at], &Mechanism::plain(M::SP800_108_COUNTER_KDF), value, calls);
        }
        if self.rules.has(Move::Extract) {
            let part = self.terms.id(Term::Part(base));
            self.derive("extract a part", &[at], &Mechanism::plain(M::EXTRACT_KEY_FROM_KEY), part, calls);
        }
    }

    /// Derives with HKDF and another key as the salt.
    fn salted_derivations(&mut self, at: usize, calls: u32) {
        let kind = self.keys[at].kind;
        if !self.rules.has(Move::Derive) || !self.permits(Usage::Derive, M::HKDF_DERIVE, kind) {
            return;
        }
        for salt_at in 0..self.keys.len() {
            let so_far = self.keys[at].calls + self.keys[salt_at].calls;
            if so_far + 1 != calls || !self.permits_salt(self.keys[salt_at].kind) {
                continue;
            }
            let message = self.terms.id(Term::Chosen(menu::MESSAGE));
            let extracted = self.terms.id(Term::Hmac(self.keys[salt_at].value, self.keys[at].value));
            let both = self.terms.id(Term::Hmac(extracted, message));
            let bases = [at, salt_at];
            self.derive("HKDF extract with a salt key", &bases, &menu::hkdf(true, false), extracted, calls);
            self.derive("HKDF with a salt key", &bases, &menu::hkdf(true, true), both, calls);
        }
    }

    /// Derives a value from keys, with every template.
    fn derive(&mut self, how: &'static str, bases: &[usize], mechanism: &Mechanism, value: Id, calls: u32) {
        let kind = self.keys[bases[0]].kind;
        if !self.permits(Usage::Derive, mechanism.kind, kind) {
            return;
        }
        let several = self.rules.generates.several_uses;
        let derived = self.outcomes(
            how,
            bases,
            || menu::secrets(several),
            |caller, objects, template| {
                Some(policy::derive(caller, mechanism, objects, template).ok()?.draft.attributes)
            },
        );
        self.add_all(&derived, value, calls, how, bases);
    }

    /// The value that a key wraps with, if it may wrap or unwrap; and whether it is of a pair.
    fn wrapping_value(&mut self, at: usize, usage: Usage) -> Option<(Id, bool)> {
        let pair = self.object(at).class() != Some(ObjectClass::SECRET_KEY);
        let mechanism = if pair { M::RSA_PKCS_OAEP } else { M::AES_KEY_WRAP };
        if !self.permits(usage, mechanism, self.keys[at].kind) {
            return None;
        }
        let value = self.keys[at].value;
        let subkey = self.object(at).is(A::KMS_WRAP_SUBKEY);
        Some((if subkey { self.terms.id(Term::Subkey(value)) } else { value }, pair))
    }

    fn wraps(&mut self, at: usize, calls: u32) {
        if !self.rules.has(Move::Wrap) {
            return;
        }
        let Some((by, pair)) = self.wrapping_value(at, Usage::Wrap) else { return };
        for key in 0..self.keys.len() {
            if self.keys[at].calls + self.keys[key].calls + 1 != calls {
                continue;
            }
            if self.permits_being_wrapped(self.keys[at].kind, self.keys[key].kind) {
                let value = self.keys[key].value;
                let term = if pair { Term::WrappedForPair(by, value) } else { Term::Wrapped(by, value) };
                let id = self.terms.id(term);
                self.wrapped.entry(id).or_insert(calls);
            }
        }
    }

    /// Unwraps every ciphertext that the attacker has with a key that unwraps.
    fn unwraps(&mut self, at: usize, calls: u32) {
        let Some((by, pair)) = self.wrapping_value(at, Usage::Unwrap) else { return };
        // A key that the attacker knows: it can be encrypted with a public key, or with a key that encrypts.
        let trojan = self.terms.id(Term::Chosen(menu::TROJAN));
        let smuggled = if pair { Term::WrappedForPair(by, trojan) } else { Term::Wrapped(by, trojan) };
        self.terms.id(smuggled);
        let content = |(id, term)| {
            let (Term::Wrapped(key, content) | Term::WrappedForPair(key, content)) = term else {
                return None;
            };
            (key == by).then_some((id, content))
        };
        let contents: Vec<(Id, Id)> = self.terms.all().filter_map(content).collect();
        for (ciphertext, content) in contents {
            let own = self.keys[at].calls;
            let so_far = match self.wrapped.get(&ciphertext) {
                Some(wrapped) => own.max(*wrapped),
                None if self.knowledge.knows(ciphertext) => own,
                None => continue,
            };
            if so_far + 1 == calls {
                self.unwrap(at, content, calls);
            }
        }
    }

    fn unwrap(&mut self, at: usize, content: Id, calls: u32) {
        let own = (0..self.keys.len()).find(|key| self.keys[*key].value == content);
        let own = own.map(|own| self.object(own)).map(|object| (object.class(), object.key_type()));
        let rules = self.rules.clone();
        let unwrap = |caller: &_, objects: &[&Object], template: &Template| {
            Some(policy::unwrap(caller, objects[0], template).ok()?.draft.attributes)
        };
        let (how, templates): (_, Vec<Template>) = match own {
            Some((Some(ObjectClass::PRIVATE_KEY), Some(kind))) if kind == KeyType::RSA => {
                ("unwrap RSA", vec![menu::private(kind, &[A::DECRYPT, A::UNWRAP, A::SIGN])])
            }
            Some((Some(ObjectClass::PRIVATE_KEY), Some(kind))) => {
                ("unwrap EC", vec![menu::private(kind, &[A::DERIVE])])
            }
            own => {
                let own = own.and_then(|(_, kind)| kind);
                let allowed = |template: &Template| {
                    let same = own.is_none() || template.key_type() == own;
                    let kind = if same { Move::Unwrap } else { Move::UnwrapAsOtherType };
                    let readable = template.bool(A::SENSITIVE) == Some(false);
                    rules.has(kind) && (!readable || rules.has(Move::UnwrapReadable))
                };
                let how = match own {
                    Some(KeyType::AES) => "unwrap AES",
                    Some(KeyType::HKDF) => "unwrap HKDF",
                    Some(_) => "unwrap generic",
                    None => "unwrap a trojan",
                };
                (how, menu::secrets(rules.generates.several_uses).into_iter().filter(allowed).collect())
            }
        };
        let unwrapped = self.outcomes(how, &[at], || templates, unwrap);
        self.add_all(&unwrapped, content, calls, how, &[at]);
    }

    /// The first calls: generates keys, and creates some with values that the attacker chose.
    pub(crate) fn first_calls(&mut self) {
        let several = self.rules.generates.several_uses;
        for (mechanism, name) in [
            (M::AES_KEY_GEN, "generate AES"),
            (M::GENERIC_SECRET_KEY_GEN, "generate generic"),
            (M::HKDF_KEY_GEN, "generate HKDF"),
        ] {
            if self.rules.generates.only_aes && mechanism != M::AES_KEY_GEN {
                continue;
            }
            let generated = self.outcomes(
                name,
                &[],
                || menu::secrets(several),
                |caller, _, template| {
                    let mut template = template.clone();
                    template.set(Attribute::ulong(A::VALUE_LEN, 32));
                    Some(policy::generate(caller, &Mechanism::plain(mechanism), &template).ok()?.1.attributes)
                },
            );
            for kind in generated.iter().flat_map(|kind| [kind; menu::INSTANCES]) {
                let value = self.random();
                self.add(*kind, value, 1, name, &[]);
            }
        }
        if self.rules.has(Move::Create) {
            let created = self.outcomes(
                "create",
                &[],
                || menu::secrets(several),
                |caller, _, template| {
                    let mut template = template.clone();
                    template.set(Attribute::bytes(A::VALUE, vec![7; 32]));
                    Some(policy::create(caller, &template).ok()?.draft.attributes)
                },
            );
            for number in [menu::TROJAN, menu::MESSAGE] {
                let value = self.terms.id(Term::Chosen(number));
                self.add_all(&created, value, 1, "create", &[]);
            }
        }
        for (mechanism, public, private) in menu::pairs() {
            let caller = self.rules.caller();
            let pair = policy::generate_pair(&caller, &Mechanism::plain(mechanism), &public, &private);
            let (_, of_public, of_private) = pair.expect("a pair that the policy generates");
            let value = self.random();
            for draft in [of_public, of_private] {
                let kind = self.kinds.id(draft.attributes);
                self.add(kind, value, 1, "generate a pair", &[]);
            }
        }
    }
}
