//! The walk: what it holds, and one move after the other.

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

use crate::books::{Books, Escrow};
use crate::chance::Chance;

/// P-256.
pub(crate) const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// Objects that the walk remembers; beyond, one that it made is destroyed.
const HELD_MAX: usize = 40;

/// What a template may say yes or no to.
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

/// An object, and whether its value must not come out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) handle: CK_OBJECT_HANDLE,
    pub(crate) protected: bool,
    /// Made before the walk began: it stays.
    fixed: bool,
}

/// Bytes that came out, and whether a protected value is wrapped in them.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) protected: bool,
    /// By what it was wrapped.
    pub(crate) by: Option<(Mechanism, Held)>,
}

/// What a walk has met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: usize,
    pub(crate) refused: usize,
    pub(crate) protected: usize,
    pub(crate) wraps: usize,
    pub(crate) unwraps: usize,
    pub(crate) derives: usize,
    pub(crate) copies: usize,
    /// Outputs that were searched, in bytes.
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
        self.copies += other.copies;
        self.searched += other.searched;
    }
}

/// What went wrong: a value came out, or stands where it soon will.
pub(crate) type Found = String;

pub(crate) struct Walk<'m> {
    pub(crate) session: Session<'m>,
    pub(crate) messages: Messages,
    pub(crate) chance: Chance,
    pub(crate) books: Books,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) counts: Counts,
    escrow: Option<&'m Escrow>,
    held: Vec<Held>,
    /// By what no login changes.
    names: HashMap<Vec<u8>, Held>,
    /// The values that the walk brought, all protected.
    brought: Vec<Vec<u8>>,
}

impl<'m> Walk<'m> {
    /// Begins on a token without any object but the escrow's.
    pub(crate) fn begin(module: &'m Module, ring: &str, escrow: Option<&'m Escrow>, seed: u64) -> Self {
        let slot = module.slot(ring);
        kms_tests::call!(module, C_CloseAllSessions(slot)).expect("all sessions close");
        let session = module.user(ring);
        let kept = escrow.map(|escrow| escrow.handle(&session));
        for object in session.find(Template::new()).expect("a search") {
            if Some(object) != kept {
                session.destroy(object).expect("an object is destroyed");
            }
        }
        let messages = module.messages().expect("the module has messages");
        let mut walk = Self {
            session,
            messages,
            chance: Chance::of(seed),
            books: Books::default(),
            blobs: Vec::new(),
            counts: Counts::default(),
            escrow,
            held: Vec::new(),
            names: HashMap::new(),
            brought: Vec::new(),
        };
        walk.lay_out();
        walk
    }

    pub(crate) fn end(mut self) -> Counts {
        self.counts.protected = self.books.count();
        self.counts
    }

    /// The keys that every walk begins with: two that wrap, a pair that wraps, one that works on data, two that agree.
    fn lay_out(&mut self) {
        let yes =
            |kinds: &[u64]| kinds.iter().fold(Template::new(), |template, kind| template.bool(*kind, true));
        let aes = |template: Template| (Mechanism::plain(CKM_AES_KEY_GEN), template.ulong(CKA_VALUE_LEN, 32));
        for token in [true, false] {
            let (mechanism, template) =
                aes(yes(&[CKA_WRAP, CKA_UNWRAP, CKA_COPYABLE]).bool(CKA_TOKEN, token));
            let key = self.session.generate(mechanism, template).expect("a wrapping key");
            self.hold_fixed(key);
        }
        for (public, private) in [(CKA_WRAP, CKA_UNWRAP), (CKA_ENCRYPT, CKA_DECRYPT)] {
            let mechanism = Mechanism::plain(CKM_RSA_PKCS_KEY_PAIR_GEN);
            let public = yes(&[CKA_TOKEN, public]).ulong(CKA_MODULUS_BITS, 2048);
            let pair = self.session.generate_pair(mechanism, public, yes(&[CKA_TOKEN, private]));
            let (public, private) = pair.expect("an RSA pair");
            self.hold_fixed(public);
            self.hold_fixed(private);
        }
        for _ in 0..2 {
            let public = yes(&[CKA_TOKEN]).bytes(CKA_EC_PARAMS, P256);
            let private = yes(&[CKA_TOKEN, CKA_DERIVE]);
            let pair = self.session.generate_pair(Mechanism::plain(CKM_EC_KEY_PAIR_GEN), public, private);
            let (public, private) = pair.expect("an EC pair");
            self.hold_fixed(public);
            self.hold_fixed(private);
        }
    }

    fn hold_fixed(&mut self, handle: CK_OBJECT_HANDLE) {
        self.remember(Held { handle, protected: false, fixed: true });
    }

    fn remember(&mut self, held: Held) {
        if let Some(name) = self.told(self.session.attribute(held.handle, CKA_UNIQUE_ID)) {
            self.names.insert(name, held);
        }
        self.held.push(held);
    }

    /// One move: a few calls.
    pub(crate) fn take_a_move(&mut self) -> Result<(), Found> {
        match self.chance.below(34) {
            0..=2 => self.bring(),
            3..=5 => self.generate(),
            6..=7 => self.copy(),
            8..=10 => self.set(),
            11..=13 => self.look(),
            14..=16 => self.wrap(),
            17..=19 => self.unwrap(),
            20..=23 => self.derive(),
            24..=25 => self.encrypt(),
            26..=28 => self.decrypt(),
            29 => self.sign(),
            30 => self.digest(),
            31 => self.wrap_then_decrypt(),
            32 => self.search(),
            _ if self.chance.once_in(8) => self.change_who(),
            _ => self.message(),
        }
    }

    /// Notes an outcome.
    pub(crate) fn told<T>(&mut self, result: Result<T, Rv>) -> Option<T> {
        self.counts.calls += 1;
        self.counts.refused += usize::from(result.is_err());
        result.ok()
    }

    /// Looks for protected values in what came out.
    pub(crate) fn out(&mut self, what: &str, bytes: &[u8]) -> Result<(), Found> {
        self.counts.searched += bytes.len();
        match self.books.found_in(bytes) {
            Some(value) => Err(format!("{what} gives a part of the protected value {value}")),
            None => Ok(()),
        }
    }

    /// Any object.
    pub(crate) fn any(&mut self) -> Held {
        let index = self.chance.below(self.held.len());
        self.held[index]
    }

    /// One that says it can do this; any, if the first three are not.
    pub(crate) fn able(&mut self, kind: CK_ATTRIBUTE_TYPE) -> Held {
        for _ in 0..8 {
            let held = self.any();
            if self.told(self.session.attribute(held.handle, kind)).is_some_and(|value| value == [1]) {
                return held;
            }
        }
        self.any()
    }

    /// Each flag is asked for, asked not to be, or not named.
    pub(crate) fn flags(&mut self) -> Template {
        let mut template = Template::new();
        for kind in FLAGS {
            match self.chance.below(6) {
                0 => template = template.bool(kind, true),
                1 => template = template.bool(kind, false),
                _ => {}
            }
        }
        template.bool(CKA_TOKEN, self.chance.once_in(8))
    }

    /// A secret key's template, of a type and a length by chance.
    pub(crate) fn secret(&mut self) -> (Template, usize) {
        let kind = self.chance.of_these(&[CKK_AES, CKK_AES, CKK_GENERIC_SECRET]);
        let length = self.chance.of_these(&[16, 32, 32]);
        (Template::new().ulong(CKA_CLASS, CKO_SECRET_KEY).ulong(CKA_KEY_TYPE, kind), length)
    }

    /// Holds a new object. One whose value is protected must be sensitive, whatever it was made from.
    pub(crate) fn hold(&mut self, how: &str, handle: CK_OBJECT_HANDLE, protected: bool) -> Result<(), Found> {
        let sensitive = self.told(self.session.attribute(handle, CKA_SENSITIVE));
        if protected && sensitive.as_deref() != Some(&[1]) {
            return Err(format!("an object with a protected value is not sensitive: {how}, {sensitive:?}"));
        }
        if self.held.len() == HELD_MAX {
            let made = self.held.iter().position(|held| !held.fixed).expect("few are fixed");
            let oldest = self.held.remove(made);
            self.told(self.session.destroy(oldest.handle));
        }
        self.remember(Held { handle, protected, fixed: false });
        Ok(())
    }

    pub(crate) fn is(&mut self, handle: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> bool {
        self.told(self.session.attribute(handle, kind)).is_some_and(|value| value == [1])
    }

    /// Brings a key along, whose value the walk knows: what the module calls sensitive it must keep even so.
    fn bring(&mut self) -> Result<(), Found> {
        let (secret, length) = self.secret();
        let value = self.chance.bytes(length);
        let template = match self.chance.below(8) {
            0 => Template::new()
                .ulong(CKA_CLASS, CKO_PRIVATE_KEY)
                .ulong(CKA_KEY_TYPE, CKK_EC)
                .bytes(CKA_EC_PARAMS, P256),
            _ => secret,
        };
        let mut flags = self.flags();
        if self.chance.below(4) > 0 {
            flags = flags.bool(CKA_DERIVE, true).bool(CKA_SENSITIVE, true);
        }
        let template = template.bytes(CKA_VALUE, &value).and(flags);
        let Some(handle) = self.told(self.session.create(template)) else { return Ok(()) };
        if self.is(handle, CKA_SENSITIVE) {
            self.books.protect(&value);
            self.brought.push(value);
            return self.hold("brought", handle, true);
        }
        self.hold("brought", handle, false)
    }

    fn generate(&mut self) -> Result<(), Found> {
        let length = self.chance.of_these(&[16, 32]);
        let kind = self.chance.of_these(&[CKM_AES_KEY_GEN, CKM_AES_KEY_GEN, CKM_GENERIC_SECRET_KEY_GEN]);
        let mut flags = self.flags();
        for kind in [CKA_EXTRACTABLE, CKA_COPYABLE, CKA_DERIVE] {
            if self.chance.once_in(2) {
                flags = flags.bool(kind, true);
            }
        }
        let template = flags.ulong(CKA_VALUE_LEN, length);
        let Some(handle) = self.told(self.session.generate(Mechanism::plain(kind), template)) else {
            return Ok(());
        };
        let sensitive = self.is(handle, CKA_SENSITIVE);
        self.learn(handle, sensitive)?;
        self.hold("generated", handle, sensitive)
    }

    /// Learns a new value, so that it is known when it is seen.
    pub(crate) fn learn(&mut self, handle: CK_OBJECT_HANDLE, protected: bool) -> Result<(), Found> {
        if !protected || !self.is(handle, CKA_EXTRACTABLE) {
            return Ok(());
        }
        let value = self.escrow.and_then(|escrow| escrow.value(&self.session, handle));
        if let Some(value) = value {
            self.books.protect(&value);
        }
        Ok(())
    }

    fn copy(&mut self) -> Result<(), Found> {
        let (held, mut template) = (self.able(CKA_COPYABLE), Template::new());
        for kind in FLAGS {
            if self.chance.once_in(8) {
                template = template.bool(kind, self.chance.once_in(2));
            }
        }
        let template = template.bool(CKA_TOKEN, self.chance.once_in(4));
        let Some(copied) = self.told(self.session.copy(held.handle, template)) else { return Ok(()) };
        self.counts.copies += usize::from(held.protected);
        self.hold("copied", copied, held.protected)
    }

    fn set(&mut self) -> Result<(), Found> {
        let held = self.any();
        let kind = self.chance.of_these(&FLAGS);
        let template = Template::new().bool(kind, self.chance.once_in(2));
        self.told(self.session.set(held.handle, template));
        if held.protected && !self.is(held.handle, CKA_SENSITIVE) {
            return Err("a protected object is not sensitive any more".to_owned());
        }
        Ok(())
    }

    /// Searches for an object by a value that must not be told: being found would tell it.
    fn search(&mut self) -> Result<(), Found> {
        let Some(value) = self.brought.get(self.chance.below(self.brought.len())).cloned() else {
            return Ok(());
        };
        let found = self.told(self.session.find(Template::new().bytes(CKA_VALUE, &value)));
        match found.is_some_and(|found| !found.is_empty()) {
            true => Err("a protected key is found by its value".to_owned()),
            false => Ok(()),
        }
    }

    /// The officer looks around, then the user comes back: private objects of the session are gone, handles are new.
    fn change_who(&mut self) -> Result<(), Found> {
        self.told(self.session.logout());
        self.told(self.session.login(CKU_SO, SO_PIN.as_bytes()));
        for _ in 0..4 {
            self.look()?;
            self.wrap()?;
        }
        self.told(self.session.logout());
        self.told(self.session.login(CKU_USER, USER_PIN.as_bytes()));
        self.held.clear();
        for handle in self.told(self.session.find(Template::new())).unwrap_or_default() {
            let name = self.told(self.session.attribute(handle, CKA_UNIQUE_ID)).unwrap_or_default();
            if let Some(held) = self.names.get(&name) {
                self.held.push(Held { handle, ..*held });
            }
        }
        Ok(())
    }
}
