//! Rings, callers and objects as the audit log names them: for the entries of requests and for the summaries of uses.

use kms_core::api::RingPath;
use kms_core::object::{KeyVersion, Object};
use kms_protocol::AttributeType;
use kms_store::Ring;
use uuid::Uuid;

use crate::dispatch::Dispatch;
use crate::dispatch::accounts::login as account_login;

/// The resource of an entry, within its ring.
#[derive(Clone, Debug)]
pub(in crate::dispatch) enum AuditedResource<'a> {
    /// The ring itself.
    Ring,
    /// A principal of the ring.
    Principal(&'a str),
    /// A key as a whole.
    Key([u8; 16]),
    /// A version of a key.
    Version(KeyVersion),
    /// An object that is not a key, by its unique id.
    Object(&'a [u8]),
}

impl<'a> AuditedResource<'a> {
    /// The resource of a stored object: its key version, or the object itself.
    pub(in crate::dispatch) fn object(object: &'a Object) -> Self {
        match object.version {
            Some(version) => Self::Version(version),
            None => Self::Object(object.attributes.bytes(AttributeType::UNIQUE_ID).unwrap_or_default()),
        }
    }

    /// Whether it is a key or a version of one.
    pub(in crate::dispatch) fn is_key(&self) -> bool {
        match self {
            Self::Key(_) | Self::Version(_) => true,
            Self::Ring | Self::Principal(_) | Self::Object(_) => false,
        }
    }

    /// Its path below the ring's.
    pub(in crate::dispatch) fn path(&self) -> String {
        match self {
            Self::Ring => String::new(),
            Self::Principal(name) => format!("/principals/{name}"),
            Self::Key(key) => format!("/keys/{}", Uuid::from_bytes(*key)),
            Self::Version(KeyVersion { key, number }) => {
                format!("/keys/{}/versions/{number}", Uuid::from_bytes(*key))
            }
            Self::Object(unique) => format!("/objects/{}", String::from_utf8_lossy(unique)),
        }
    }
}

impl Dispatch {
    /// The initiator of a request: the id of a service account, and a name for readers of the log.
    pub(in crate::dispatch) fn initiator(
        &self,
        ring: &Ring,
        login: Option<&str>,
        uid: Option<u32>,
    ) -> (Option<Uuid>, String) {
        match (login, uid) {
            (Some(login), _) => match account_login::account_id(login) {
                // An account has the same name in every ring: its address.
                Some(id) => {
                    let member = self.store.member(id).ok().flatten();
                    (Some(id), member.map_or_else(|| login.to_owned(), |member| member.account.email.clone()))
                }
                None => (None, format!("{login}@{}", ring.label)),
            },
            (None, Some(uid)) => (None, format!("uid:{uid}@{}", ring.label)),
            (None, None) => (None, format!("nobody@{}", ring.label)),
        }
    }

    /// The resource path of a ring.
    pub(crate) fn ring_path(&self, ring: &Ring) -> String {
        RingPath { project: ring.metadata.project, ring: Uuid::from_bytes(ring.id.0) }.resource()
    }
}
