//! Keys: listed and rotated.

use uuid::Uuid;

use super::operator::Command;
use super::{Backend, ServiceError};

/// A key, as listed.
#[derive(Clone, Debug)]
pub struct KeyInfo {
    /// The label of its ring.
    pub ring: String,
    /// Its id.
    pub id: Uuid,
    /// Its label; bytes that are not UTF-8 are replaced.
    pub label: String,
    /// What it is.
    pub algorithm: String,
    /// How many versions it has.
    pub versions: u64,
    /// `active`, `disabled` or `destroyed`.
    pub state: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

impl Backend {
    /// The keys of a ring, or of all.
    ///
    /// # Errors
    /// When there is no such ring, or the database fails.
    pub fn keys(&self, ring: Option<&str>) -> Result<Vec<KeyInfo>, ServiceError> {
        let rings = match ring {
            Some(name) => vec![self.ring_named(name)?],
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

    /// Makes the next version of a key, named by its id or its label; tells its number.
    ///
    /// # Errors
    /// When there is no such ring or active key, or several keys have the label.
    pub fn rotate_key(&self, ring: &str, key: &str) -> Result<u32, ServiceError> {
        let ring = self.ring_named(ring)?;
        let keys = self.dispatch.store.keys(ring.id)?;
        let active = keys.iter().filter(|known| known.state == "active");
        let named = active
            .filter(|known| known.label == key.as_bytes() || Uuid::from_bytes(known.id).to_string() == key);
        let found: Vec<_> = named.map(|known| known.id).collect();
        match found.as_slice() {
            [] => Err(ServiceError::NoSuchKey(key.to_owned())),
            [id] => {
                let command = Command {
                    event: "kms.key.rotate",
                    typed: "kms key rotate",
                    resource: format!("{}/keys/{}", self.dispatch.ring_path(&ring), Uuid::from_bytes(*id)),
                    project: Some(self.dispatch.project_of(&ring)?),
                };
                Ok(self.dispatch.rotate(&ring, *id, Some(self.entry(command, [])))?)
            }
            [_, _, ..] => Err(ServiceError::Ambiguous(key.to_owned())),
        }
    }
}
