//! Commands on keys: list, rotate.

use uuid::Uuid;

use super::audited_command::AuditedCommand;
use super::{Backend, ServiceError};

/// A key, as `kms key list` shows it.
#[derive(Clone, Debug)]
pub struct KeyInfo {
    /// The name of its ring.
    pub ring: String,
    /// The key's id.
    pub id: Uuid,
    /// Its label; bytes that are not UTF-8 are replaced.
    pub label: String,
    /// Its algorithm, such as `aes-256`.
    pub algorithm: String,
    /// The number of its versions.
    pub versions: u64,
    /// `active`, `disabled` or `destroyed`.
    pub state: String,
    /// The time of its creation, in seconds since 1970.
    pub created: u64,
}

impl Backend {
    /// The keys of one ring, or of all rings.
    ///
    /// # Errors
    /// When there is no such ring, or the database fails.
    pub fn keys(&self, ring: Option<&str>) -> Result<Vec<KeyInfo>, ServiceError> {
        let rings = match ring {
            Some(name) => vec![self.ring_of(name)?],
            None => self.dispatch.store.rings()?,
        };
        let mut keys = Vec::new();
        for ring in rings {
            for key in self.dispatch.store.keys(ring.id)? {
                keys.push(KeyInfo {
                    ring: ring.label.clone(),
                    id: Uuid::from_bytes(key.id),
                    label: String::from_utf8_lossy(&key.label).into_owned(),
                    algorithm: key.algorithm,
                    versions: key.versions,
                    state: key.state,
                    created: key.created,
                });
            }
        }
        Ok(keys)
    }

    /// Creates the next version of the key with this label or id, and returns the version's number.
    ///
    /// # Errors
    /// When there is no such ring or active key, or several keys have the label.
    pub fn rotate_key(&self, ring: &str, key: &str) -> Result<u32, ServiceError> {
        let ring = self.ring_of(ring)?;
        let keys = self.dispatch.store.keys(ring.id)?;
        let active = keys.iter().filter(|known| known.state == "active");
        let named = active
            .filter(|known| known.label == key.as_bytes() || Uuid::from_bytes(known.id).to_string() == key);
        let found: Vec<_> = named.map(|known| known.id).collect();
        match found.as_slice() {
            [] => Err(ServiceError::NoSuchKey(key.to_owned())),
            [id] => {
                let audited = AuditedCommand {
                    event: "kms.key.rotate",
                    command: "kms key rotate",
                    resource: format!("{}/keys/{}", self.dispatch.ring_path(&ring), Uuid::from_bytes(*id)),
                    project: Some(ring.metadata.project),
                };
                Ok(self.dispatch.rotate(&ring, *id, Some(self.entry(audited, [])))?)
            }
            [_, _, ..] => Err(ServiceError::Ambiguous(key.to_owned())),
        }
    }
}
