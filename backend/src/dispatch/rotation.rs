//! A key's next version. Applications see it under the key's label at their next search.

use kms_protocol::{AttributeType, ObjectClass, Rv};

use super::Dispatch;
use super::keys::name;
use crate::crypto;
use crate::error::Error;
use crate::integrity;
use crate::object::{Draft, KeyVersion, Wrapped};
use crate::policy;
use crate::store::{NextVersion, Ring};

impl Dispatch {
    /// Makes the next version of a key; tells its number.
    pub(crate) fn rotate(&self, ring: &Ring, key: [u8; 16], today: [u8; 8]) -> Result<u32, Error> {
        let (newest, objects) = self.store.newest(ring.id, key)?;
        let hidden = |class| matches!(class, Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY));
        let now = objects.iter().find(|object| hidden(object.class())).ok_or(Error::NoSuchObject)?;
        let spec = policy::successor(&now.attributes)?;
        let made = crypto::make(&spec, &self.random)?;
        let version = KeyVersion { key, number: newest.number + 1 };
        let (class, kind) = now.class().zip(now.key_type()).ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
        let identity = integrity::identity(ring.id, version, class, kind);
        let bytes = self.hsm.wrap(self.master, &identity, made.material.as_ref())?;
        let wrapped = Wrapped { master: self.master, bytes };
        let drafts = objects.iter().map(|object| {
            let mut attributes = policy::reborn(&object.attributes, &today);
            let came = if hidden(object.class()) { &made.attributes } else { &made.public };
            came.iter().for_each(|attribute| attributes.set(attribute.clone()));
            let mut draft = Draft { attributes, token: true };
            name(&mut draft, version);
            draft
        });
        let next = NextVersion { version, wrapped, created: self.clock.seconds(), today };
        let stored = self.store.rotate(next, drafts.collect())?;
        let label = now.attributes.bytes(AttributeType::LABEL).map(String::from_utf8_lossy);
        let objects = stored.len();
        tracing::info!(
            ring = ring.label,
            label = label.as_deref(),
            version = version.number,
            objects,
            "key rotated"
        );
        Ok(version.number)
    }
}

/// The day of a time in seconds since 1970, as `CK_DATE` writes it.
pub(crate) fn day_of(seconds: u64) -> [u8; 8] {
    let days = i64::try_from(seconds / 86_400).unwrap_or(0);
    let date = time::Date::from_ordinal_date(1970, 1)
        .ok()
        .and_then(|first| first.checked_add(time::Duration::days(days)));
    let text = date.map_or_else(String::new, |date| {
        format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day())
    });
    text.as_bytes().try_into().unwrap_or(*b"19700101")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_as_cryptoki_writes_them() {
        assert_eq!(&day_of(0), b"19700101");
        assert_eq!(&day_of(951_782_400), b"20000229");
        assert_eq!(&day_of(1_795_651_200), b"20261126");
        assert_eq!(&day_of(86_399), b"19700101");
    }
}
