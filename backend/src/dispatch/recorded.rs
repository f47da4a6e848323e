//! The audit entries of providers' requests: every request that changes a token object, a PIN or the token itself,
//! every login, and what was denied.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use kms_protocol::{AttributeType, ObjectClass, Rv, Template};

use super::Dispatch;
use crate::audit::{Entry, Kind};
use crate::error::Error;
use crate::kms::RingPath;
use crate::object::{Caller, KeyVersion, Object, Peer};
use crate::store::Ring;

/// A request, as the log names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Act {
    /// The function that the application called.
    pub(super) call: &'static str,
    /// What that means for a key.
    pub(super) key: &'static str,
    /// What it means for another object.
    pub(super) object: &'static str,
}

impl Act {
    pub(super) const COPY: Self = Self::new("C_CopyObject", "kms.key.copy", "kms.object.copy");
    pub(super) const CREATE: Self = Self::new("C_CreateObject", "kms.key.import", "kms.object.create");
    pub(super) const DECAPSULATE: Self = Self::new("C_DecapsulateKey", "kms.key.derive", "kms.key.derive");
    pub(super) const DERIVE: Self = Self::new("C_DeriveKey", "kms.key.derive", "kms.key.derive");
    pub(super) const DESTROY: Self =
        Self::new("C_DestroyObject", "kms.key.version.destroy", "kms.object.destroy");
    pub(super) const ENCAPSULATE: Self = Self::new("C_EncapsulateKey", "kms.key.derive", "kms.key.derive");
    pub(super) const GENERATE: Self = Self::new("C_GenerateKey", "kms.key.create", "kms.key.create");
    pub(super) const GENERATE_PAIR: Self = Self::new("C_GenerateKeyPair", "kms.key.create", "kms.key.create");
    pub(super) const INIT_PIN: Self = Self::of_principal("C_InitPIN", "kms.principal.init-pin");
    pub(super) const INIT_TOKEN: Self = Self::of_principal("C_InitToken", "kms.keyring.initialize");
    pub(super) const LOGIN: Self = Self::of_principal("C_Login", "kms.principal.login");
    pub(super) const MAKE_RING: Self = Self::of_principal("C_InitToken", "kms.keyring.create");
    pub(super) const REVEAL: Self =
        Self::new("C_GetAttributeValue", "kms.key.version.reveal", "kms.object.reveal");
    pub(super) const SET_ATTRIBUTES: Self =
        Self::new("C_SetAttributeValue", "kms.key.update", "kms.object.update");
    pub(super) const SET_PIN: Self = Self::of_principal("C_SetPIN", "kms.principal.set-pin");
    pub(super) const UNWRAP: Self = Self::new("C_UnwrapKey", "kms.key.import", "kms.key.import");
    pub(super) const WRAP: Self = Self::new("C_WrapKey", "kms.key.version.wrap", "kms.key.version.wrap");

    const fn new(call: &'static str, key: &'static str, object: &'static str) -> Self {
        Self { call, key, object }
    }

    const fn of_principal(call: &'static str, event: &'static str) -> Self {
        Self { call, key: event, object: event }
    }
}

/// What a request is about, within its ring.
#[derive(Clone, Debug)]
pub(super) enum About<'a> {
    /// The ring itself.
    Ring,
    /// Somebody who logs in to it.
    Principal(&'a str),
    /// A key as a whole.
    Key([u8; 16]),
    /// A version of a key.
    Version(KeyVersion),
    /// An object that is no key, by its unique id.
    Object(&'a [u8]),
}

impl<'a> About<'a> {
    /// A stored object: a key's, or one by itself.
    pub(super) fn object(object: &'a Object) -> Self {
        match object.version {
            Some(version) => Self::Version(version),
            None => Self::Object(object.attributes.bytes(AttributeType::UNIQUE_ID).unwrap_or_default()),
        }
    }

    fn is_key(&self) -> bool {
        match self {
            Self::Key(_) | Self::Version(_) => true,
            Self::Ring | Self::Principal(_) | Self::Object(_) => false,
        }
    }

    fn path(&self) -> String {
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
    /// The entry of a request that succeeds.
    pub(super) fn entry(&self, ring: &Ring, caller: &Caller, act: Act, about: &About<'_>) -> Entry {
        Entry {
            at: self.clock.millis(),
            event: if about.is_key() { act.key } else { act.object },
            kind: Kind::AdminActivity,
            project: Some(self.project_of(ring)),
            resource: format!("{}{}", self.ring_path(ring), about.path()),
            initiator: None,
            name: self::name(ring, caller),
            endpoint: format!("pkcs11 {}", act.call),
            source: None,
            agent: String::new(),
            trace: None,
            status: 200,
            details: peer(caller.peer),
        }
    }

    /// The project of a ring: the first one for a ring that names none, nil where there is none yet.
    pub(super) fn project_of(&self, ring: &Ring) -> Uuid {
        let first = || {
            let projects = self.store.projects().unwrap_or_default();
            projects.first().map_or(Uuid::nil(), |project| project.id)
        };
        ring.facts.project.unwrap_or_else(first)
    }

    /// The name of a ring in the log.
    pub(super) fn ring_path(&self, ring: &Ring) -> String {
        RingPath { project: self.project_of(ring), ring: Uuid::from_bytes(ring.id.0) }.resource()
    }

    /// Records that somebody was told no, before they are told. What is merely a mistake, or asks for a login first, is
    /// none: the log of the daemon has it.
    pub(super) fn refused(
        &self,
        ring: &Ring,
        caller: &Caller,
        act: Act,
        about: &About<'_>,
        error: Error,
    ) -> Error {
        let Error::Refused(rv) = error else { return error };
        if !is_denial(rv) {
            return error;
        }
        let mut entry = self.entry(ring, caller, act, about);
        entry.kind = Kind::PolicyDenied;
        entry.status = 403;
        entry.details.insert("answer".to_owned(), json!(rv.to_string()));
        match self.denied(entry, ring, caller) {
            Ok(()) => error,
            Err(failed) => failed,
        }
    }
}

/// Who asks, for people.
pub(super) fn name(ring: &Ring, caller: &Caller) -> String {
    match (&caller.login, caller.peer) {
        (Some(login), _) => format!("{}@{}", login.name, ring.label),
        (None, Some(peer)) => format!("uid:{}@{}", peer.uid, ring.label),
        (None, None) => format!("nobody@{}", ring.label),
    }
}

/// The process at the other end of the socket.
fn peer(peer: Option<Peer>) -> Map<String, Value> {
    let Some(Peer { uid, pid }) = peer else { return Map::new() };
    Map::from_iter([("uid".to_owned(), json!(uid)), ("pid".to_owned(), json!(pid))])
}

/// What may be told of an object: its label, its class, whether it may leave.
pub(super) fn described(mut entry: Entry, attributes: &Template) -> Entry {
    let label = attributes.bytes(AttributeType::LABEL).map(String::from_utf8_lossy);
    if let Some(label) = label.filter(|label| !label.is_empty()) {
        entry.details.insert("label".to_owned(), json!(label));
    }
    if let Some(class) = attributes.class() {
        entry.details.insert("class".to_owned(), json!(class_name(class)));
    }
    if let Some(kind) = attributes.key_type() {
        entry.details.insert("keyType".to_owned(), json!(kind.to_string()));
    }
    for (name, kind) in [("extractable", AttributeType::EXTRACTABLE), ("sensitive", AttributeType::SENSITIVE)] {
        if let Some(set) = attributes.bool(kind) {
            entry.details.insert(name.to_owned(), json!(set));
        }
    }
    entry
}

fn class_name(class: ObjectClass) -> String {
    match class {
        ObjectClass::SECRET_KEY => "secret key".to_owned(),
        ObjectClass::PRIVATE_KEY => "private key".to_owned(),
        ObjectClass::PUBLIC_KEY => "public key".to_owned(),
        ObjectClass::CERTIFICATE => "certificate".to_owned(),
        ObjectClass::DATA => "data".to_owned(),
        other => other.0.to_string(),
    }
}

/// Which answers say that the caller may not, rather than that the request is wrong.
fn is_denial(rv: Rv) -> bool {
    [
        Rv::ACTION_PROHIBITED,
        Rv::ATTRIBUTE_SENSITIVE,
        Rv::FUNCTION_REJECTED,
        Rv::KEY_FUNCTION_NOT_PERMITTED,
        Rv::KEY_UNEXTRACTABLE,
        Rv::PIN_INCORRECT,
        Rv::PIN_LOCKED,
    ]
    .contains(&rv)
}
