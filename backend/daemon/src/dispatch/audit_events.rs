//! The audit entries of providers' requests: every request that changes a token object, a PIN or the token itself,
//! every login, and what was denied.

use kms_core::api::RingPath;
use kms_core::audit::{Entry, Kind};
use kms_core::object::{Caller, KeyVersion, Object, Peer};
use kms_core::policy;
use kms_protocol::{AttributeType, ObjectClass, ObjectId, Request, Response, Role, Rv, Template, Ticket};
use kms_store::Ring;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::dispatch::accounts::login as account_login;
use crate::dispatch::pkcs11::subject;
use crate::dispatch::{Dispatch, OFFICER, USER};
use crate::error::Error;

/// A request, as the log names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::dispatch) struct Act {
    /// The function that the application called.
    pub(in crate::dispatch) call: &'static str,
    /// What that means for a key.
    pub(in crate::dispatch) key: &'static str,
    /// What it means for another object.
    pub(in crate::dispatch) object: &'static str,
}

impl Act {
    pub(in crate::dispatch) const COPY: Self = Self::new("C_CopyObject", "kms.key.copy", "kms.object.copy");
    pub(in crate::dispatch) const CREATE: Self =
        Self::new("C_CreateObject", "kms.key.import", "kms.object.create");
    pub(in crate::dispatch) const DECAPSULATE: Self =
        Self::new("C_DecapsulateKey", "kms.key.derive", "kms.key.derive");
    pub(in crate::dispatch) const DERIVE: Self = Self::new("C_DeriveKey", "kms.key.derive", "kms.key.derive");
    pub(in crate::dispatch) const DESTROY: Self =
        Self::new("C_DestroyObject", "kms.key.version.destroy", "kms.object.destroy");
    pub(in crate::dispatch) const ENCAPSULATE: Self =
        Self::new("C_EncapsulateKey", "kms.key.derive", "kms.key.derive");
    pub(in crate::dispatch) const GENERATE: Self =
        Self::new("C_GenerateKey", "kms.key.create", "kms.key.create");
    pub(in crate::dispatch) const GENERATE_PAIR: Self =
        Self::new("C_GenerateKeyPair", "kms.key.create", "kms.key.create");
    pub(in crate::dispatch) const INIT_PIN: Self = Self::of_principal("C_InitPIN", "kms.principal.init-pin");
    pub(in crate::dispatch) const INIT_TOKEN: Self =
        Self::of_principal("C_InitToken", "kms.keyring.initialize");
    pub(in crate::dispatch) const LOGIN: Self = Self::of_principal("C_Login", "kms.principal.login");
    pub(in crate::dispatch) const MAKE_RING: Self = Self::of_principal("C_InitToken", "kms.keyring.create");
    pub(in crate::dispatch) const REVEAL: Self =
        Self::new("C_GetAttributeValue", "kms.key.version.reveal", "kms.object.reveal");
    pub(in crate::dispatch) const SET_ATTRIBUTES: Self =
        Self::new("C_SetAttributeValue", "kms.key.update", "kms.object.update");
    pub(in crate::dispatch) const SET_PIN: Self = Self::of_principal("C_SetPIN", "kms.principal.set-pin");
    pub(in crate::dispatch) const UNWRAP: Self = Self::new("C_UnwrapKey", "kms.key.import", "kms.key.import");
    pub(in crate::dispatch) const WRAP: Self =
        Self::new("C_WrapKey", "kms.key.version.wrap", "kms.key.version.wrap");

    /// What a request is called.
    fn of(request: &Request) -> Self {
        let using = |call, event| Self::new(call, event, event);
        match request {
            Request::Attributes { .. } => using("C_GetAttributeValue", "kms.object.get"),
            Request::Copy { .. } => Self::COPY,
            Request::Create { .. } => Self::CREATE,
            Request::Decapsulate { .. } => Self::DECAPSULATE,
            Request::Decrypt { .. } => using("C_Decrypt", "kms.key.version.decrypt"),
            Request::Derive { .. } => Self::DERIVE,
            Request::Destroy { .. } => Self::DESTROY,
            Request::Encapsulate { .. } => Self::ENCAPSULATE,
            Request::Encrypt { .. } => using("C_Encrypt", "kms.key.version.encrypt"),
            Request::EncryptMessage { .. } => using("C_EncryptMessage", "kms.key.version.encrypt"),
            Request::Find { .. } => using("C_FindObjects", "kms.object.list"),
            Request::Generate { .. } => Self::GENERATE,
            Request::GeneratePair { .. } => Self::GENERATE_PAIR,
            Request::InitPin { .. } => Self::INIT_PIN,
            Request::InitToken { .. } => Self::INIT_TOKEN,
            Request::Login { .. } => Self::LOGIN,
            Request::Reveal { .. } => Self::REVEAL,
            Request::SetAttributes { .. } => Self::SET_ATTRIBUTES,
            Request::SetPin { .. } => Self::SET_PIN,
            Request::Sign { .. } => using("C_Sign", "kms.key.version.sign"),
            Request::Slots => using("C_GetSlotList", "kms.keyring.list"),
            Request::Unwrap { .. } => Self::UNWRAP,
            Request::Verify { .. } => using("C_Verify", "kms.key.version.verify"),
            Request::Wrap { .. } => Self::WRAP,
        }
    }

    const fn new(call: &'static str, key: &'static str, object: &'static str) -> Self {
        Self { call, key, object }
    }

    const fn of_principal(call: &'static str, event: &'static str) -> Self {
        Self { call, key: event, object: event }
    }
}

/// What a request is about, within its ring.
#[derive(Clone, Debug)]
pub(in crate::dispatch) enum About<'a> {
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
    pub(in crate::dispatch) fn object(object: &'a Object) -> Self {
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
    /// The entry of a request that succeeds.
    pub(in crate::dispatch) fn entry_of(
        &self,
        ring: &Ring,
        caller: &Caller,
        act: Act,
        about: &About<'_>,
    ) -> Entry {
        let login = caller.login.as_ref().map(|login| login.name.as_str());
        let (initiator, name) = self.who(ring, login, caller.peer.map(|peer| peer.uid));
        Entry {
            at: self.clock.millis(),
            event: if about.is_key() { act.key } else { act.object },
            kind: Kind::AdminActivity,
            project: Some(self.home_project(ring)),
            resource: format!("{}{}", self.ring_path(ring), about.path()),
            initiator,
            name,
            endpoint: format!("pkcs11 {}", act.call),
            source: None,
            agent: String::new(),
            trace: None,
            status: 200,
            details: peer(caller.peer),
        }
    }

    /// The project of a ring, in the log: nil where it cannot be read at this moment.
    pub(in crate::dispatch) fn home_project(&self, ring: &Ring) -> Uuid {
        self.project_of(ring).unwrap_or_default()
    }

    /// Who asks: the account's id, where there is one, and a name for people.
    pub(in crate::dispatch) fn who(
        &self,
        ring: &Ring,
        login: Option<&str>,
        uid: Option<u32>,
    ) -> (Option<Uuid>, String) {
        match (login, uid) {
            (Some(login), _) => match account_login::account_in(login) {
                // An account is known by its address in every ring.
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

    /// The name of a ring in the log.
    pub(crate) fn ring_path(&self, ring: &Ring) -> String {
        RingPath { project: self.home_project(ring), ring: Uuid::from_bytes(ring.id.0) }.resource()
    }

    /// Records a login, and that somebody was told no, before they are told. What is merely a mistake, or asks for a
    /// login first, is no denial: the daemon's log has it.
    pub(in crate::dispatch) fn told(
        &self,
        ring: &Ring,
        caller: &Caller,
        asked: &Asked,
        answer: Result<Response, Error>,
    ) -> Result<Response, Error> {
        let denied = match &answer {
            Ok(Response::LoggedIn { ticket }) => {
                let name = self.logged_in(ticket, caller);
                let mut entry = self.entry_of(ring, caller, asked.act, &About::Principal(&name));
                (entry.initiator, entry.name) = self.who(ring, Some(&name), None);
                self.store.record(entry)?;
                return answer;
            }
            Err(Error::Refused(rv)) if is_denial(*rv) => *rv,
            Ok(_) | Err(_) => return answer,
        };
        let object = asked.object.and_then(|id| self.store.object(ring.id, id).ok());
        let about = match (&object, &asked.principal) {
            (Some(object), _) => About::object(object),
            (None, Some(name)) => About::Principal(name),
            (None, None) => About::Ring,
        };
        let mut entry = self.entry_of(ring, caller, asked.act, &about);
        entry.kind = Kind::PolicyDenied;
        entry.status = 403;
        entry.details.insert("answer".to_owned(), json!(denied.to_string()));
        self.record_denial(entry)?;
        answer
    }

    /// Who has just logged in.
    fn logged_in(&self, ticket: &Ticket, caller: &Caller) -> String {
        let uid = caller.peer.map(|peer| peer.uid);
        let claims = policy::check(&self.tickets, ticket, self.clock.seconds(), uid);
        claims.map_or_else(|_| "?".to_owned(), |claims| account_login::shown(&claims.name).to_owned())
    }

    /// What is asked, kept while it is being done.
    pub(in crate::dispatch) fn asked(&self, ring: &Ring, caller: &Caller, request: &Request) -> Asked {
        let principal = if let Request::SetPin { role, .. } = request {
            let own = if *role == Role::Officer { OFFICER } else { USER };
            Some(caller.login.as_ref().map_or_else(|| own.to_owned(), |login| login.name.clone()))
        } else if let Request::Login { role, pin } = request
            && *role != Role::Officer
        {
            self.claimed(ring, *role, pin)
        } else {
            matches!(request, Request::Login { .. } | Request::InitToken { .. }).then(|| OFFICER.to_owned())
        };
        Asked { act: Act::of(request), object: subject(request).map(ObjectId), principal }
    }
}

/// What a request asks for, kept while it is being done.
#[derive(Clone, Debug)]
pub(in crate::dispatch) struct Asked {
    act: Act,
    object: Option<ObjectId>,
    principal: Option<String>,
}

/// The process at the other end of the socket.
fn peer(peer: Option<Peer>) -> Map<String, Value> {
    let Some(Peer { uid, pid }) = peer else { return Map::new() };
    Map::from_iter([("uid".to_owned(), json!(uid)), ("pid".to_owned(), json!(pid))])
}

/// What may be told of an object: its label, its class, whether it may leave.
pub(in crate::dispatch) fn described(mut entry: Entry, attributes: &Template) -> Entry {
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
    for (name, kind) in [("extractable", AttributeType::EXTRACTABLE), ("sensitive", AttributeType::SENSITIVE)]
    {
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
