//! Rotation: a key's next version. PKCS#11 applications find it under the key's label at their next search.

use kms_core::audit::Entry;
use kms_core::integrity;
use kms_core::object::{Draft, KeyBytes, KeyVersion, Object, ck_date};
use kms_core::policy;
use kms_crypto::GeneratedKey;
use kms_protocol::{AttributeType, ObjectClass, Rv};
use kms_store::{NextVersion, Ring};

use crate::dispatch::Dispatch;
use crate::dispatch::object_ids::assign_ids;
use crate::error::Error;
use crate::fairness::Tenant;

impl Dispatch {
    /// Generates the next version of a key, with the attributes of the newest one that has material; returns its
    /// number.
    pub(crate) fn rotate(&self, ring: &Ring, key: [u8; 16], entry: Option<Entry>) -> Result<u32, Error> {
        let (newest, objects) = self.store.newest(ring.id, key)?;
        let secret = objects.iter().find(|object| has_secret(object)).ok_or(Error::NoSuchObject)?;
        let spec = policy::next_version_spec(&secret.attributes)?;
        let GeneratedKey { material, attributes, public } =
            self.generate_key(Tenant { uid: None, ring: ring.id.0 }, &spec)?;
        let version = KeyVersion { key, number: newest.saturating_add(1) };
        let today = ck_date(self.clock.seconds());
        let drafts = objects.iter().map(|object| {
            let mut next = policy::next_version_attributes(&object.attributes, &today);
            let generated = if has_secret(object) { &attributes } else { &public };
            generated.iter().for_each(|attribute| next.set(attribute.clone()));
            Draft { attributes: next, token: true }
        });
        self.add_version(ring, version, &material, drafts.collect(), entry)?;
        let label = secret.attributes.bytes(AttributeType::LABEL).map(String::from_utf8_lossy);
        tracing::info!(ring = ring.label, label = label.as_deref(), version = version.number, "key rotated");
        Ok(version.number)
    }

    /// Wraps the material of a key's next version in the HSM and stores it with its objects.
    pub(in crate::dispatch) fn add_version(
        &self,
        ring: &Ring,
        version: KeyVersion,
        material: &KeyBytes,
        mut drafts: Vec<Draft>,
        entry: Option<Entry>,
    ) -> Result<(), Error> {
        let secret = drafts.iter().find_map(|draft| {
            let class = draft.attributes.class().filter(|class| *class != ObjectClass::PUBLIC_KEY)?;
            Some((class, draft.attributes.key_type()?))
        });
        let (class, kind) = secret.ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
        let identity = integrity::identity(ring.id, version, class, kind);
        let wrapped = self.wrap_under_master(&identity, material.as_ref())?;
        drafts.iter_mut().for_each(|draft| assign_ids(draft, version));
        let created = self.clock.seconds();
        let next = NextVersion { version, wrapped, created, today: ck_date(created), entry };
        self.store.rotate(next, drafts)?;
        Ok(())
    }
}

/// Whether an object is the one with the version's secret: a secret key or a private key.
fn has_secret(object: &Object) -> bool {
    matches!(object.class(), Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY))
}
