//! What the attacker knows: everything that it reads, everything that keys compute for it, and everything that follows
//! from the equations.

use std::collections::{HashMap, HashSet};

use crate::term::{Id, Party, Term, Terms};

/// What the objects do for the attacker, by the values of their keys.
#[derive(Default)]
pub(crate) struct Oracles {
    /// HMACs of messages that the attacker chooses.
    pub(crate) hmac: HashSet<Id>,
    /// The AES encryption of blocks, and with it CMAC.
    pub(crate) encrypts: HashSet<Id>,
    /// The AES decryption of blocks, and with it the content of whatever the key wrapped.
    pub(crate) decrypts: HashSet<Id>,
    /// The decryption of RSA ciphertexts, by the private key's value.
    pub(crate) decrypts_rsa: HashSet<Id>,
}

/// What the attacker knows, and how.
#[derive(Default)]
pub(crate) struct Knowledge {
    known: HashMap<Id, String>,
}

impl Knowledge {
    pub(crate) fn knows(&self, id: Id) -> bool {
        self.known.contains_key(&id)
    }

    /// How the attacker knows a value.
    pub(crate) fn why(&self, id: Id) -> &str {
        self.known.get(&id).map_or("", String::as_str)
    }

    pub(crate) fn learn(&mut self, id: Id, why: impl FnOnce() -> String) -> bool {
        let new = !self.knows(id);
        if new {
            self.known.insert(id, why());
        }
        new
    }

    /// Applies the equations until nothing new follows.
    pub(crate) fn close(&mut self, terms: &Terms, oracles: &Oracles) {
        while terms.all().fold(false, |grown, (id, term)| self.apply(terms, oracles, id, term) || grown) {}
    }

    /// Applies the equations to one value; returns whether something new followed.
    fn apply(&mut self, terms: &Terms, oracles: &Oracles, id: Id, term: Term) -> bool {
        let text = |id| terms.text(id);
        let composed = match term {
            Term::Random(_) => None,
            Term::Chosen(_) => Some("chosen".to_owned()),
            Term::Hmac(key, message) => self.keyed(key, message, &oracles.hmac, "signs", &text),
            Term::Cmac(key, message) => self.keyed(key, message, &oracles.encrypts, "encrypts", &text),
            Term::Wrapped(key, value) => self.keyed(key, value, &oracles.encrypts, "encrypts", &text),
            Term::WrappedForPair(_, value) => {
                self.knows(value).then(|| "encrypted with a public key".to_owned())
            }
            Term::Agreed(private, Party::Honest) => {
                self.knows(private).then(|| format!("computed with {}", text(private)))
            }
            Term::Agreed(_, Party::Attacker) => Some("the attacker's own secret".to_owned()),
            Term::Hashed(secret, data) => {
                (self.knows(secret) && self.knows(data)).then(|| format!("computed with {}", text(secret)))
            }
            Term::Subkey(key) | Term::Part(key) => {
                self.knows(key).then(|| format!("computed with {}", text(key)))
            }
        };
        let mut grown = composed.is_some_and(|why| self.learn(id, || why));
        // What is taken apart.
        let content = match term {
            Term::Wrapped(key, value) if self.knows(id) => {
                let opens = self.knows(key) || oracles.decrypts.contains(&key);
                opens.then(|| (value, format!("{} decrypts {}", text(key), text(id))))
            }
            Term::WrappedForPair(pair, value) if self.knows(id) => {
                let opens = self.knows(pair) || oracles.decrypts_rsa.contains(&pair);
                opens.then(|| (value, format!("{} decrypts {}", text(pair), text(id))))
            }
            // A part can be guessed from a MAC, and the other parts in the same way.
            Term::Part(value) if self.knows(id) || oracles.hmac.contains(&id) => {
                Some((value, format!("{} was guessed", text(id))))
            }
            Term::Random(_)
            | Term::Chosen(_)
            | Term::Hmac(..)
            | Term::Cmac(..)
            | Term::Agreed(..)
            | Term::Hashed(..)
            | Term::Subkey(_)
            | Term::Wrapped(..)
            | Term::WrappedForPair(..)
            | Term::Part(_) => None,
        };
        if let Some((value, why)) = content {
            grown |= self.learn(value, || why);
        }
        grown
    }

    /// How a value is known that a key computes from a message: by the key's value, or by a key that computes it.
    fn keyed(
        &self,
        key: Id,
        message: Id,
        computes: &HashSet<Id>,
        how: &str,
        text: &impl Fn(Id) -> String,
    ) -> Option<String> {
        if !self.knows(message) {
            None
        } else if self.knows(key) {
            Some(format!("computed with {}", text(key)))
        } else {
            computes
                .contains(&key)
                .then(|| format!("a key with the value {} {how} {}", text(key), text(message)))
        }
    }
}
