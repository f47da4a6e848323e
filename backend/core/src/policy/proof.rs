//! Proofs of a context-specific login (`CKU_CONTEXT_SPECIFIC`): each is for one use of one key with
//! `CKA_ALWAYS_AUTHENTICATE` (`docs/decisions/0049`). Pure: the caller burns the nonce.

use kms_protocol::{AttributeType, ObjectClass, ObjectRef, RingId, RingPolicy, Rv, Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TicketKey;
use crate::object::{Caller, Object};

/// The lifetime of a proof, in seconds: from the PIN to the end of the operation.
pub const PROOF_SECONDS: u64 = 30;

/// The version of the format. A new format has a new number, and old proofs become invalid.
const FORMAT: u8 = 1;

/// The label of a proof's MAC: no ticket is a proof.
const LABEL: &[u8] = b"kms use proof";

/// The maximum length of a proof that is parsed, in bytes: a name and two hundred bytes more.
const PROOF_BYTES_MAX: usize = 1024;

/// What a proof proves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UseClaims {
    /// The ring of key and principal.
    pub ring: RingId,
    /// The principal, as its ticket names it.
    pub name: String,
    /// The generation of the login, as in the ticket: what ends the ticket ends the proof.
    pub generation: u64,
    /// The user id of the peer on the socket, which alone may use the proof.
    pub uid: Option<u32>,
    /// The key, as [`key_digest`] names it.
    pub key: [u8; 32],
    /// When it expires, in seconds since 1970.
    pub expires: u64,
    /// A random number, which is burned at the use.
    pub nonce: [u8; 16],
}

#[derive(Deserialize, Serialize)]
struct EncodedUse<'a> {
    format: u8,
    ring: [u8; 16],
    name: &'a str,
    generation: u64,
    uid: Option<u32>,
    key: [u8; 32],
    expires: u64,
    nonce: [u8; 16],
}

/// Names the key of a request: a token object by its id, a session object by its seal.
pub fn key_digest(key: &ObjectRef) -> [u8; 32] {
    let mut hash = Sha256::new();
    match key {
        ObjectRef::Token(id) => hash.update([&b"T"[..], &id.0.to_be_bytes()].concat()),
        ObjectRef::Session(seal) => {
            hash.update(b"S");
            hash.update(&**seal);
        }
    }
    hash.finalize().into()
}

/// Issues a proof.
pub fn issue_proof(key: &TicketKey, claims: &UseClaims) -> Secret {
    let encoded = EncodedUse {
        format: FORMAT,
        ring: claims.ring.0,
        name: &claims.name,
        generation: claims.generation,
        uid: claims.uid,
        key: claims.key,
        expires: claims.expires,
        nonce: claims.nonce,
    };
    key.sign(LABEL, &encoded)
}

/// Checks a proof that the user `uid` sent at the time `now`, and returns its claims. [`super::permit_proven`] compares
/// them with the use; the caller of both compares the generation and burns the nonce.
///
/// # Errors
/// `CKR_USER_NOT_LOGGED_IN` for a proof that the backend did not issue, that has expired, or that is another user's.
pub fn check_proof(key: &TicketKey, proof: &[u8], now: u64, uid: Option<u32>) -> Result<UseClaims, Rv> {
    decode(key, proof)
        // The upper bound ends proofs of a clock that was ahead.
        .filter(|claims| now < claims.expires && claims.expires <= now + PROOF_SECONDS && claims.uid == uid)
        .ok_or(Rv::USER_NOT_LOGGED_IN)
}

fn decode(key: &TicketKey, proof: &[u8]) -> Option<UseClaims> {
    let encoded: EncodedUse<'_> = key.verify(LABEL, proof, PROOF_BYTES_MAX)?;
    if encoded.format != FORMAT {
        return None;
    }
    Some(UseClaims {
        ring: RingId(encoded.ring),
        name: encoded.name.to_owned(),
        generation: encoded.generation,
        uid: encoded.uid,
        key: encoded.key,
        expires: encoded.expires,
        nonce: encoded.nonce,
    })
}

/// Whether each use of a key needs a proof of its own.
pub fn needs_proof(key: &Object) -> bool {
    key.class() == Some(ObjectClass::PRIVATE_KEY) && key.is(AttributeType::ALWAYS_AUTHENTICATE)
}

/// Whether a key's value stays inside although its attributes let it out: a copy of it outside could be used without a
/// proof. A compat ring allows what SoftHSM allows.
pub(super) fn stays_inside(policy: RingPolicy, key: &Object) -> bool {
    policy == RingPolicy::Strict && needs_proof(key)
}

/// Whether a proof is for this caller and this key.
pub(super) fn covers(claims: &UseClaims, caller: &Caller, key: &Object, reference: &ObjectRef) -> bool {
    let same_login =
        caller.login.as_ref().is_some_and(|login| login.name == claims.name && login.ring == claims.ring);
    same_login && claims.ring == key.ring && claims.key == key_digest(reference)
}

#[cfg(test)]
mod tests {
    use kms_protocol::{Attribute, KeyType, Mechanism, MechanismType, ObjectId, Template, Usage};
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::super::callers::caller;
    use super::super::{Claims, issue, permit, permit_proven, permit_reveal};
    use super::*;
    use crate::object::{Curve, Material, RingRole};

    fn key() -> TicketKey {
        TicketKey::from(Zeroizing::new([7; 32]))
    }

    const KEY: ObjectRef = ObjectRef::Token(ObjectId(7));

    fn claims() -> UseClaims {
        let login = caller(Some(RingRole::User), RingPolicy::Strict).login.unwrap();
        UseClaims {
            ring: login.ring,
            name: login.name,
            generation: 2,
            uid: Some(1000),
            key: key_digest(&KEY),
            expires: 130,
            nonce: [9; 16],
        }
    }

    fn signing_key() -> Object {
        let flag = |kind| Attribute::bool(kind, true);
        Object {
            id: Some(ObjectId(7)),
            ring: claims().ring,
            version: None,
            attributes: Template(vec![
                Attribute::ulong(AttributeType::CLASS, u64::from(ObjectClass::PRIVATE_KEY.0)),
                Attribute::ulong(AttributeType::KEY_TYPE, u64::from(KeyType::EC.0)),
                Attribute::bytes(AttributeType::EC_PARAMS, Curve::P256.oid_der()),
                flag(AttributeType::PRIVATE),
                flag(AttributeType::SIGN),
                flag(AttributeType::EXTRACTABLE),
                flag(AttributeType::ALWAYS_AUTHENTICATE),
                Attribute::bool(AttributeType::SENSITIVE, false),
            ]),
            material: Material::None,
        }
    }

    #[test]
    fn a_proof_is_valid_for_its_time_and_its_user_and_is_no_ticket() {
        let proof = issue_proof(&key(), &claims());
        assert_eq!(check_proof(&key(), &proof, 129, Some(1000)), Ok(claims()));
        for (now, uid) in [(130, Some(1000)), (99, Some(1000)), (120, Some(1001)), (120, None)] {
            assert_eq!(check_proof(&key(), &proof, now, uid), Err(Rv::USER_NOT_LOGGED_IN), "{now} {uid:?}");
        }
        let UseClaims { ring, name, generation, uid, expires, nonce, .. } = claims();
        let (login, ring_role) = (crate::object::LoginId(nonce), RingRole::User);
        let ticket = Claims { login, ring, name, ring_role, generation, uid, issued: 100, expires };
        assert!(check_proof(&key(), &issue(&key(), &ticket).0, 120, Some(1000)).is_err());
    }

    #[test]
    fn a_key_that_always_authenticates_needs_a_proof_of_its_own() {
        let (user, ecdsa) =
            (caller(Some(RingRole::User), RingPolicy::Strict), Mechanism::plain(MechanismType::ECDSA));
        let object = signing_key();
        assert_eq!(permit(&user, Usage::Sign, &ecdsa, &object).map(drop), Err(Rv::USER_NOT_LOGGED_IN));
        let proven =
            |claims: &UseClaims| permit_proven(&user, Usage::Sign, &ecdsa, &object, &KEY, claims).map(drop);
        assert_eq!(proven(&claims()), Ok(()));
        for other in [
            UseClaims { key: key_digest(&ObjectRef::Token(ObjectId(8))), ..claims() },
            UseClaims { name: "other".to_owned(), ..claims() },
            UseClaims { ring: RingId([0xee; 16]), ..claims() },
        ] {
            assert_eq!(proven(&other), Err(Rv::USER_NOT_LOGGED_IN));
        }
        // A proof replaces nothing else.
        let reader = caller(Some(RingRole::Reader), RingPolicy::Strict);
        assert!(permit_proven(&reader, Usage::Sign, &ecdsa, &object, &KEY, &claims()).is_err());
        // Its value does not come out of a strict ring, whatever the other attributes say.
        assert_eq!(permit_reveal(&user, &object).map(drop), Err(Rv::ATTRIBUTE_SENSITIVE));
        let compat = caller(Some(RingRole::User), RingPolicy::Compat);
        assert_eq!(permit_reveal(&compat, &object).map(drop), Ok(()));
    }

    proptest! {
        #[test]
        fn no_other_bytes_are_a_valid_proof(bytes: Vec<u8>, at: prop::sample::Index, flip in 1_u8..=255) {
            prop_assert!(check_proof(&key(), &bytes, 120, Some(1000)).is_err());
            let mut wrong = issue_proof(&key(), &claims()).to_vec();
            let index = at.index(wrong.len());
            wrong[index] ^= flip;
            prop_assert!(check_proof(&key(), &wrong, 120, Some(1000)).is_err());
        }
    }
}
