//! The symbolic values: what keys, messages and ciphertexts are made of.
//!
//! Cryptography is perfect (Dolev and Yao, "On the security of public key protocols", 1983): a value is known only if
//! an equation says how it is computed.

use std::collections::HashMap;

/// The number of a value in [`Terms`].
pub(crate) type Id = u32;

/// A value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Term {
    /// A random value: that of a generated key.
    Random(u32),
    /// Bytes that the attacker chose: a message, a salt, or the value of a key that it creates.
    Chosen(u8),
    /// HMAC of a message under a key; HKDF and the KDFs of SP 800-108 are made of it.
    Hmac(Id, Id),
    /// AES-CMAC of a message under a key.
    Cmac(Id, Id),
    /// What a private key and the public key of a party agree on.
    Agreed(Id, Party),
    /// The digest of a shared secret with public data (X9.63, SP 800-56C).
    Hashed(Id, Id),
    /// The wrapping subkey of an AES key.
    Subkey(Id),
    /// A value wrapped under a secret key.
    Wrapped(Id, Id),
    /// A value wrapped under the public key of a pair; the first value is the private key's.
    WrappedForPair(Id, Id),
    /// A part of a value, short enough to be guessed (`CKM_EXTRACT_KEY_FROM_KEY`).
    Part(Id),
}

/// The other party of a key agreement, outside the KMS.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Party {
    /// It keeps its private key.
    Honest,
    /// The attacker.
    Attacker,
}

/// All values that occur.
#[derive(Default)]
pub(crate) struct Terms {
    terms: Vec<Term>,
    ids: HashMap<Term, Id>,
}

impl Terms {
    /// The number of a value, which is added if it is new.
    pub(crate) fn id(&mut self, term: Term) -> Id {
        let terms = &mut self.terms;
        *self.ids.entry(term).or_insert_with(|| {
            terms.push(term);
            u32::try_from(terms.len() - 1).expect("few values")
        })
    }

    pub(crate) fn term(&self, id: Id) -> Term {
        self.terms[id as usize]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Id, Term)> + '_ {
        (0..).zip(self.terms.iter().copied())
    }

    /// The value as a formula.
    pub(crate) fn text(&self, id: Id) -> String {
        let text = |id| self.text(id);
        match self.term(id) {
            Term::Random(number) => format!("k{number}"),
            Term::Chosen(number) => format!("chosen{number}"),
            Term::Hmac(key, message) => format!("HMAC({}, {})", text(key), text(message)),
            Term::Cmac(key, message) => format!("CMAC({}, {})", text(key), text(message)),
            Term::Agreed(private, party) => format!("agreed({}, {party:?})", text(private)),
            Term::Hashed(secret, data) => format!("H({}, {})", text(secret), text(data)),
            Term::Subkey(key) => format!("subkey({})", text(key)),
            Term::Wrapped(key, value) => format!("wrap({}, {})", text(key), text(value)),
            Term::WrappedForPair(pair, value) => format!("rsa({}, {})", text(pair), text(value)),
            Term::Part(value) => format!("part({})", text(value)),
        }
    }
}
