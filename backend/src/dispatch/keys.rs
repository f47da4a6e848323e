//! Making keys. A token key is in the database, wrapped by the HSM, before anybody hears of it; a session key goes
//! back to the provider under the backends' seal.

use std::sync::Arc;

use kms_protocol::{
    Attribute, AttributeType, KeyType, Mechanism, ObjectClass, ObjectRef, ObjectView, RequestId, Response,
    Rv, Secret, Template,
};
use uuid::Uuid;

use super::recorded::{About, Act, described};
use super::{Dispatch, objects::view, owner};
use crate::crypto;
use crate::error::Error;
use crate::integrity;
use crate::kms::DisplayName;
use crate::object::{
    Caller, Curve, Draft, KeyBytes, KeyVersion, Material, MlDsaSet, MlKemSet, Object, Twisted, Wrapped,
};
use crate::policy;
use crate::seal::NONCE_BYTES;
use crate::store::{KeyFacts, NewKey, Ring};

impl Dispatch {
    pub(super) fn generate(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: RequestId,
        mechanism: &Mechanism,
        template: &Template,
    ) -> Result<Response, Error> {
        mechanism.check()?;
        let (spec, mut draft) = policy::generate(caller, mechanism, template)?;
        let made = crypto::make(&spec, &self.random)?;
        let key = Uuid::new_v4().into_bytes();
        complete(&mut draft, key, made.attributes);
        if !draft.token {
            return Ok(Response::Object(self.seal(ring, caller, draft, &made.material)?));
        }
        let stored =
            self.store_key((ring, caller, Act::GENERATE), request, key, &made.material, vec![draft])?;
        let object = stored.first().ok_or(Error::NoSuchObject)?;
        Ok(Response::Object(view(object)))
    }

    pub(super) fn generate_pair(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: RequestId,
        mechanism: &Mechanism,
        public: &Template,
        private: &Template,
    ) -> Result<Response, Error> {
        mechanism.check()?;
        let (spec, mut public, mut private) = policy::generate_pair(caller, mechanism, public, private)?;
        let made = crypto::make(&spec, &self.random)?;
        let key = Uuid::new_v4().into_bytes();
        complete(&mut private, key, made.attributes);
        complete(&mut public, key, made.public);
        let by = (ring, caller, Act::GENERATE_PAIR);
        let (public, private) = match (public.token, private.token) {
            (true, true) => {
                let stored = self.store_key(by, request, key, &made.material, vec![private, public])?;
                let [private, public] = stored.as_slice() else { return Err(Error::NoSuchObject) };
                (view(public), view(private))
            }
            (false, false) => (
                self.seal(ring, caller, public, &KeyBytes::from(Vec::new()))?,
                self.seal(ring, caller, private, &made.material)?,
            ),
            (false, true) => {
                let stored = self.store_key(by, request, key, &made.material, vec![private])?;
                let private = half_of(&stored, key)?;
                (self.seal(ring, caller, public, &KeyBytes::from(Vec::new()))?, view(private))
            }
            (true, false) => {
                let stored = self.store_key(by, request, key, &KeyBytes::from(Vec::new()), vec![public])?;
                let public = half_of(&stored, key)?;
                (view(public), self.seal(ring, caller, private, &made.material)?)
            }
        };
        Ok(Response::Pair { public, private })
    }

    /// Wraps a key's material in the HSM and stores it with its objects, in one transaction.
    pub(super) fn store_key(
        &self,
        (ring, caller, act): (&Ring, &Caller, Act),
        request: RequestId,
        key: [u8; 16],
        material: &KeyBytes,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Arc<Object>>, Error> {
        let first = drafts.first().map(|draft| &draft.attributes).ok_or(Error::NoSuchObject)?;
        let (class, kind) = (first.class(), first.key_type());
        let (class, kind) =
            (class.unwrap_or(ObjectClass::SECRET_KEY), kind.unwrap_or(KeyType::GENERIC_SECRET));
        let version = KeyVersion { key, number: 1 };
        let wrapped = if material.as_ref().is_empty() {
            None
        } else {
            let identity = integrity::identity(ring.id, version, class, kind);
            let bytes = self.hsm.wrap(self.master, &identity, material.as_ref())?;
            Some(Wrapped { master: self.master, bytes })
        };
        let label = first.bytes(AttributeType::LABEL).unwrap_or_default().to_vec();
        let algorithm = algorithm_of(first);
        // A key that came to be over PKCS #11 has a name in the API as well, if it has a shape the API can say.
        let named = crate::kms::algorithm_of(first);
        let display_name = named.map(|_| DisplayName::nearest(&label).as_str().to_owned());
        let facts = KeyFacts { algorithm: named, display_name, ..KeyFacts::default() };
        let created = self.clock.seconds();
        let mut entry = described(self.entry_of(ring, caller, act, &About::Key(key)), first);
        entry.details.insert("algorithm".to_owned(), algorithm.as_str().into());
        let entry = Some(entry);
        let new = NewKey { ring: ring.id, key, label, algorithm, wrapped, created, facts, entry };
        Ok(self.store.insert(request, new, drafts)?)
    }

    pub(super) fn seal(
        &self,
        ring: &Ring,
        caller: &Caller,
        draft: Draft,
        material: &KeyBytes,
    ) -> Result<ObjectView, Error> {
        let seal = self.seals.seal(ring.id, owner(caller), &draft.attributes, material, nonce()?)?;
        Ok(ObjectView { object: ObjectRef::Session(seal), attributes: draft.attributes })
    }

    /// The same session object with other attributes.
    pub(super) fn reseal(
        &self,
        ring: &Ring,
        caller: &Caller,
        seal: &Secret,
        attributes: &Template,
    ) -> Result<Secret, Error> {
        let object = self.seals.open(ring.id, owner(caller), seal)?;
        let nothing = KeyBytes::from(Vec::new());
        let material = match &object.material {
            Material::Open(bytes) => bytes,
            Material::None | Material::Wrapped(_) => &nothing,
        };
        Ok(self.seals.seal(ring.id, owner(caller), attributes, material, nonce()?)?)
    }
}

fn nonce() -> Result<[u8; NONCE_BYTES], Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(Error::Random)?;
    Ok(nonce)
}

/// The stored half of a pair whose other half is a session object. A request that is repeated gets the half it stored
/// before, and the session object that went with that is gone with the answer that was lost: there is no pair to give.
fn half_of(stored: &[Arc<Object>], key: [u8; 16]) -> Result<&Arc<Object>, Error> {
    let ours = |object: &&Arc<Object>| object.version.is_some_and(|version| version.key == key);
    stored.first().filter(ours).ok_or(Error::Refused(Rv::FUNCTION_FAILED))
}

/// Adds what comes with the key: its public values, and names where the caller gave none.
pub(super) fn complete(draft: &mut Draft, key: [u8; 16], made: Vec<Attribute>) {
    for attribute in made {
        draft.attributes.set(attribute);
    }
    name(draft, KeyVersion { key, number: 1 });
}

/// Names an object of a key version, where its caller gave no name.
pub(super) fn name(draft: &mut Draft, version: KeyVersion) {
    // The same id for both halves and unlike any other key's: the key's UUID and the number of its version.
    if draft.attributes.value(AttributeType::ID).is_none() {
        let id = [version.key.as_slice(), &version.number.to_be_bytes()].concat();
        draft.attributes.set(Attribute::bytes(AttributeType::ID, id));
    }
    let class = draft.attributes.class().unwrap_or(ObjectClass::SECRET_KEY);
    draft.attributes.set(Attribute::bytes(AttributeType::UNIQUE_ID, unique_of(version, class)));
}

/// The name that no other object has or will have.
pub(super) fn unique_id(key: [u8; 16], class: ObjectClass) -> String {
    unique_of(KeyVersion { key, number: 1 }, class)
}

fn unique_of(version: KeyVersion, class: ObjectClass) -> String {
    format!("{}-{}-{}", Uuid::from_bytes(version.key), version.number, class.0)
}

/// The key's algorithm in a word, for listings.
fn algorithm_of(attributes: &Template) -> String {
    let number = |kind| attributes.ulong(kind).unwrap_or(0);
    match attributes.key_type() {
        Some(KeyType::AES) => format!("aes-{}", number(AttributeType::VALUE_LEN) * 8),
        Some(KeyType::RSA) => {
            let bytes = attributes.bytes(AttributeType::MODULUS).unwrap_or_default().len();
            format!("rsa-{}", bytes * 8)
        }
        Some(KeyType::EC) => match attributes.bytes(AttributeType::EC_PARAMS) {
            Some(params) => Curve::ALL
                .iter()
                .find(|curve| curve.oid_der() == params)
                .map_or_else(|| "ec".to_owned(), |curve| format!("ec-p{}", bits_of(*curve))),
            None => "ec".to_owned(),
        },
        Some(KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => {
            let curve = attributes.bytes(AttributeType::EC_PARAMS).and_then(Twisted::of_params);
            match curve {
                Some(Twisted::Ed25519) => "ed25519".to_owned(),
                Some(Twisted::X25519) => "x25519".to_owned(),
                Some(Twisted::Ed448) => "ed448".to_owned(),
                Some(Twisted::X448) => "x448".to_owned(),
                None => "twisted".to_owned(),
            }
        }
        Some(KeyType::CHACHA20) => "chacha20".to_owned(),
        Some(KeyType::ML_KEM) => match MlKemSet::of_number(number(AttributeType::PARAMETER_SET)) {
            Some(MlKemSet::Kem512) => "ml-kem-512".to_owned(),
            Some(MlKemSet::Kem768) => "ml-kem-768".to_owned(),
            Some(MlKemSet::Kem1024) => "ml-kem-1024".to_owned(),
            None => "ml-kem".to_owned(),
        },
        Some(KeyType::ML_DSA) => match MlDsaSet::of_number(number(AttributeType::PARAMETER_SET)) {
            Some(MlDsaSet::Dsa44) => "ml-dsa-44".to_owned(),
            Some(MlDsaSet::Dsa65) => "ml-dsa-65".to_owned(),
            Some(MlDsaSet::Dsa87) => "ml-dsa-87".to_owned(),
            None => "ml-dsa".to_owned(),
        },
        Some(_) if attributes.class() == Some(ObjectClass::SECRET_KEY) => {
            format!("secret-{}", number(AttributeType::VALUE_LEN) * 8)
        }
        Some(other) => other.to_string().to_ascii_lowercase(),
        None => "unknown".to_owned(),
    }
}

fn bits_of(curve: Curve) -> u32 {
    match curve {
        Curve::P256 => 256,
        Curve::P384 => 384,
        Curve::P521 => 521,
    }
}
