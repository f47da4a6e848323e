//! Bring your own key: wrapping keys, and material that comes under them.

use std::sync::Arc;

use kms_core::api::{
    CreateWrappingKey, ImportKey, KeyPath, Outcome, Problem, RequestContext, RingPath, Subject,
    WrappingKeyPath,
};
use kms_core::audit::Entry;
use kms_core::object::{KeyVersion, RingRole};
use kms_core::policy::Usage;
use kms_protocol::{ObjectRef, Rv};
use kms_store::{IdempotencyKey, KeyMetadata, KeyRecord, NewKey};
use serde_json::json;
use uuid::Uuid;

use super::audit_events::asked;
use super::failure::Failure;
use super::keys::usable;
use super::material::unwrapping;
use super::{Dispatch, Place, caller};
use crate::dispatch::open_key::Opened;
use crate::error::Error;

/// How often a number is tried for while others are faster.
const IMPORTS_TRIED: u32 = 32;

impl Dispatch {
    /// A wrapping key of a ring.
    pub(super) fn wrapping_key(&self, place: &Place, id: Uuid) -> Result<Arc<KeyRecord>, Failure> {
        let known = self.store.known(place.ring.id, id);
        let known = known.map_err(|error| Failure::from(error).naming("wrapping key"))?;
        if known.metadata.wrapping.is_some() {
            Ok(known)
        } else {
            Err(Problem::not_found("wrapping key").into())
        }
    }

    pub(super) fn create_wrapping_key(
        &self,
        context: &RequestContext,
        path: RingPath,
        ask: CreateWrappingKey,
        repeat: Option<Uuid>,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        let place = self.place(path)?;
        let (id, now) = (Uuid::new_v4(), self.clock.seconds());
        let repeat =
            repeat.map(|id| IdempotencyKey { project: place.project, id, asked: asked(&(path, &ask)) });
        entry.resource = Subject::WrappingKey(WrappingKeyPath { ring: path, key: id }).resource();
        entry.details.insert("displayName".to_owned(), json!(ask.display_name.as_str()));
        entry.details.insert("algorithm".to_owned(), json!(ask.algorithm.name()));
        let label = ask.display_name.as_str();
        let metadata = KeyMetadata {
            wrapping: Some((ask.algorithm, ask.purpose)),
            display_name: Some(label.to_owned()),
            description: ask.description.text().map(str::to_owned),
            access_scope: ask.access_scope,
            expires_at: Some(now.saturating_add(self.lifecycle.wrapping_seconds)),
            ..KeyMetadata::default()
        };
        let by = caller(context, &place.ring, RingRole::Admin);
        let fresh = self.fresh_wrapping(&by, label, ask.algorithm)?;
        let (drafts, wrapped) = self.ready(&place.ring, id, Some(fresh))?;
        let new = NewKey {
            ring: place.ring.id,
            key: id.into_bytes(),
            label: label.as_bytes().to_vec(),
            algorithm: format!("wrapping-rsa-{}", ask.algorithm.bits()),
            wrapped,
            created: now,
            metadata,
            entry: Some(entry),
        };
        let made = self.store.create_key(new, drafts, repeat)??;
        let known = self.wrapping_key(&place, made)?;
        Ok(Outcome::WrappingKey(self.wrapping_view(&known)?))
    }

    pub(super) fn delete_wrapping_key(
        &self,
        path: WrappingKeyPath,
        entry: Entry,
    ) -> Result<Outcome, Failure> {
        let place = self.place(path.ring)?;
        let known = self.wrapping_key(&place, path.key)?;
        let gone = self.store.delete_wrapping_key(place.ring.id, path.key, entry);
        gone.map_err(|error| Failure::from(error).naming("wrapping key"))?;
        known
            .versions
            .iter()
            .filter_map(|version| version.hidden)
            .for_each(|object| self.keys.forget(object));
        Ok(Outcome::Done)
    }

    pub(super) fn import_key(
        &self,
        context: &RequestContext,
        path: KeyPath,
        ask: &ImportKey,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        let place = self.place(path.ring)?;
        let known = self.key(&place, path.key)?;
        usable(&known)?;
        let by = caller(context, &place.ring, RingRole::Admin);
        let algorithm = known.metadata.algorithm.ok_or(Error::NoSuchObject)?;
        let label = String::from_utf8_lossy(&known.label).into_owned();
        entry.details.insert("wrappingKeyId".to_owned(), json!(ask.wrapping_key));
        for _ in 0..IMPORTS_TRIED {
            let material = self.unwrapped(context, &place, &known, ask)?;
            let arrived = self.arrived(&by, &label, algorithm, material)?;
            let number = self.key(&place, path.key)?.next_number();
            let version = KeyVersion { key: known.id.into_bytes(), number };
            entry.details.insert("versionNumber".to_owned(), json!(number));
            let added = self.add_version(
                &place.ring,
                version,
                &arrived.material,
                arrived.drafts,
                Some(entry.clone()),
            );
            match added {
                Ok(()) => return self.new_version(&place, path.key, number),
                // Another caller made that version first, or deleted the key.
                Err(Error::NoSuchObject) => usable(&*self.key(&place, path.key)?)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::conflict("other callers make versions of the key as well; try again").into())
    }

    /// Opens what a wrapping key wrapped.
    fn unwrapped(
        &self,
        context: &RequestContext,
        place: &Place,
        known: &KeyRecord,
        ask: &ImportKey,
    ) -> Result<kms_core::object::KeyBytes, Failure> {
        let wrapping = self.wrapping_key(place, ask.wrapping_key)?;
        let (by, purpose) = wrapping.metadata.wrapping.ok_or(Error::NoSuchObject)?;
        let algorithm = known.metadata.algorithm.ok_or(Error::NoSuchObject)?;
        if !purpose.suits(algorithm.purpose()) {
            let said = format!("the wrapping key's purpose does not fit a key of {}", algorithm.name());
            return Err(Problem::malformed(said).into());
        }
        if wrapping.metadata.expires_at.is_some_and(|at| at <= self.clock.seconds()) {
            return Err(Problem::conflict("the wrapping key has expired; make a new one").into());
        }
        let (_, hidden) = self.ready_version(&wrapping, 1)?;
        let mechanism = unwrapping(by);
        let caller = caller(context, &place.ring, RingRole::Admin);
        let object = ObjectRef::Token(hidden);
        let Opened { permit, key, .. } =
            self.open_object(&place.ring, &caller, Usage::Unwrap, &object, &mechanism)?;
        let (class, kind) = (algorithm.class(), algorithm.key_type());
        kms_crypto::unwrap(&permit, &key, &mechanism, &ask.wrapped, class, kind).map_err(|rv| match rv {
            Rv::WRAPPED_KEY_INVALID | Rv::WRAPPED_KEY_LEN_RANGE => {
                let said = format!(
                    "wrappedKey does not open: it must be wrapped with {} under this wrapping key's publicKey, and hold \
                     {}",
                    by.name(),
                    match class {
                        kms_protocol::ObjectClass::PRIVATE_KEY => "a private key in PKCS #8, DER",
                        _ => "the key's bytes",
                    }
                );
                Failure::from(Problem::malformed(said))
            }
            other => Failure::from(other),
        })
    }
}
