//! The audit entries of providers' requests: of every request that changes a token object, a PIN or the token itself,
//! of every login, and of denials.

use kms_core::audit::{Entry, Kind};
use kms_core::object::{Caller, Peer};
use kms_core::policy;
use kms_protocol::{AttributeType, ObjectClass, ObjectId, Request, Response, Role, Rv, Template, Ticket};
use kms_store::Ring;
use serde_json::{Map, Value, json};

use crate::dispatch::accounts::login as account_login;
use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::pkcs11::token_object_of;
use crate::dispatch::{Dispatch, OFFICER, USER};
use crate::error::Error;

/// A PKCS#11 function and its events in the audit log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::dispatch) struct AuditedFunction {
    /// The function that the application called.
    pub(in crate::dispatch) function: &'static str,
    /// The event if the function concerns a key.
    pub(in crate::dispatch) key_event: &'static str,
    /// The event if it concerns another object, a principal or the ring.
    pub(in crate::dispatch) object_event: &'static str,
}

impl AuditedFunction {
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
    pub(in crate::dispatch) const CREATE_RING: Self = Self::of_principal("C_InitToken", "kms.keyring.create");
    pub(in crate::dispatch) const REVEAL: Self =
        Self::new("C_GetAttributeValue", "kms.key.version.reveal", "kms.object.reveal");
    pub(in crate::dispatch) const SET_ATTRIBUTES: Self =
        Self::new("C_SetAttributeValue", "kms.key.update", "kms.object.update");
    pub(in crate::dispatch) const SET_PIN: Self = Self::of_principal("C_SetPIN", "kms.principal.set-pin");
    pub(in crate::dispatch) const UNWRAP: Self = Self::new("C_UnwrapKey", "kms.key.import", "kms.key.import");
    pub(in crate::dispatch) const WRAP: Self =
        Self::new("C_WrapKey", "kms.key.version.wrap", "kms.key.version.wrap");

    /// The function and events of a request.
    fn of(request: &Request) -> Self {
        let same = |function, event| Self::new(function, event, event);
        match request {
            Request::Attributes { .. } => same("C_GetAttributeValue", "kms.object.get"),
            Request::Copy { .. } => Self::COPY,
            Request::Create { .. } => Self::CREATE,
            Request::Decapsulate { .. } => Self::DECAPSULATE,
            Request::Decrypt { .. } | Request::DecryptProven { .. } => {
                same("C_Decrypt", "kms.key.version.decrypt")
            }
            Request::Derive { .. } => Self::DERIVE,
            Request::Destroy { .. } => Self::DESTROY,
            Request::Encapsulate { .. } => Self::ENCAPSULATE,
            Request::Encrypt { .. } => same("C_Encrypt", "kms.key.version.encrypt"),
            Request::EncryptMessage { .. } => same("C_EncryptMessage", "kms.key.version.encrypt"),
            Request::Find { .. } => same("C_FindObjects", "kms.object.list"),
            Request::Generate { .. } => Self::GENERATE,
            Request::GeneratePair { .. } => Self::GENERATE_PAIR,
            Request::InitPin { .. } => Self::INIT_PIN,
            Request::InitToken { .. } => Self::INIT_TOKEN,
            Request::Login { .. } | Request::ProveUse { .. } => Self::LOGIN,
            Request::Reveal { .. } => Self::REVEAL,
            Request::SetAttributes { .. } => Self::SET_ATTRIBUTES,
            Request::SetPin { .. } => Self::SET_PIN,
            Request::Sign { .. } | Request::SignProven { .. } => same("C_Sign", "kms.key.version.sign"),
            Request::Slots => same("C_GetSlotList", "kms.keyring.list"),
            Request::Unwrap { .. } => Self::UNWRAP,
            Request::Verify { .. } => same("C_Verify", "kms.key.version.verify"),
            Request::Wrap { .. } => Self::WRAP,
        }
    }

    const fn new(function: &'static str, key_event: &'static str, object_event: &'static str) -> Self {
        Self { function, key_event, object_event }
    }

    const fn of_principal(function: &'static str, event: &'static str) -> Self {
        Self::new(function, event, event)
    }
}

impl Dispatch {
    /// The entry of a request that succeeds.
    pub(in crate::dispatch) fn request_entry(
        &self,
        ring: &Ring,
        caller: &Caller,
        function: AuditedFunction,
        resource: &AuditedResource<'_>,
    ) -> Entry {
        let login = caller.login.as_ref().map(|login| login.name.as_str());
        let (initiator, name) = self.initiator(ring, login, caller.peer.map(|peer| peer.uid));
        Entry {
            at: self.clock.millis(),
            event: if resource.is_key() { function.key_event } else { function.object_event },
            kind: Kind::AdminActivity,
            project: Some(ring.metadata.project),
            resource: format!("{}{}", self.ring_path(ring), resource.path()),
            initiator,
            name,
            endpoint: format!("pkcs11 {}", function.function),
            source: None,
            agent: String::new(),
            trace: None,
            status: 200,
            details: peer_details(caller.peer),
        }
    }

    /// Records a login or a denial, before the response is sent. A request that is merely wrong, or needs a login
    /// first, is not a denial; only the daemon's log has it.
    pub(in crate::dispatch) fn record_outcome(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: &AuditedRequest,
        result: Result<Response, Error>,
    ) -> Result<Response, Error> {
        let denied = match &result {
            Ok(Response::LoggedIn { ticket }) => {
                let name = self.name_in_ticket(ticket, caller);
                let mut entry =
                    self.request_entry(ring, caller, request.function, &AuditedResource::Principal(&name));
                (entry.initiator, entry.name) = self.initiator(ring, Some(&name), None);
                self.record_login(ring, caller, &name, entry)?;
                return result;
            }
            Ok(Response::Proof(_)) => {
                let name = caller.login.as_ref().map_or("?", |login| login.name.as_str());
                let mut entry =
                    self.request_entry(ring, caller, request.function, &AuditedResource::Principal(name));
                entry.details.insert("context".to_owned(), json!(true));
                self.store.record(entry)?;
                return result;
            }
            Err(Error::Rejected(rv)) if is_denial(*rv) => *rv,
            Ok(_) | Err(_) => return result,
        };
        let object = request.object.and_then(|id| self.store.object(ring.id, id).ok());
        let resource = match (&object, &request.principal) {
            (Some(object), _) => AuditedResource::object(object),
            (None, Some(name)) => AuditedResource::Principal(name),
            (None, None) => AuditedResource::Ring,
        };
        let mut entry = self.request_entry(ring, caller, request.function, &resource);
        entry.kind = Kind::PolicyDenied;
        entry.status = 403;
        entry.details.insert("answer".to_owned(), json!(denied.to_string()));
        self.record_denial(entry)?;
        result
    }

    /// The name of the principal or account that has just logged in.
    fn name_in_ticket(&self, ticket: &Ticket, caller: &Caller) -> String {
        let uid = caller.peer.map(|peer| peer.uid);
        let claims = policy::check(&self.tickets, ticket, self.clock.seconds(), uid);
        claims
            .map_or_else(|_| "?".to_owned(), |claims| account_login::without_digest(&claims.name).to_owned())
    }

    /// Takes from a request what an entry needs, before it is performed.
    pub(in crate::dispatch) fn audited_request(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: &Request,
    ) -> AuditedRequest {
        let principal = if let Request::SetPin { role, .. } = request {
            let default = if *role == Role::Officer { OFFICER } else { USER };
            Some(caller.login.as_ref().map_or_else(|| default.to_owned(), |login| login.name.clone()))
        } else if let Request::ProveUse { .. } = request {
            caller.login.as_ref().map(|login| login.name.clone())
        } else if let Request::Login { role, pin } = request
            && *role != Role::Officer
        {
            self.claimed_name(ring, *role, pin)
        } else {
            matches!(request, Request::Login { .. } | Request::InitToken { .. }).then(|| OFFICER.to_owned())
        };
        // A context-specific login concerns the principal, as every login does.
        let object = token_object_of(request).map(ObjectId);
        let object = object.filter(|_| !matches!(request, Request::ProveUse { .. }));
        AuditedRequest { function: AuditedFunction::of(request), object, principal }
    }
}

/// What an entry needs of a request, kept while it is performed.
#[derive(Clone, Debug)]
pub(in crate::dispatch) struct AuditedRequest {
    function: AuditedFunction,
    object: Option<ObjectId>,
    principal: Option<String>,
}

/// The details of the process at the other end of the socket.
fn peer_details(peer: Option<Peer>) -> Map<String, Value> {
    let Some(Peer { uid, pid }) = peer else { return Map::new() };
    Map::from_iter([("uid".to_owned(), json!(uid)), ("pid".to_owned(), json!(pid))])
}

/// Adds what may be recorded of an object: label, class, key type, extractability and sensitivity.
pub(in crate::dispatch) fn with_object_details(mut entry: Entry, attributes: &Template) -> Entry {
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

/// Whether a return value means that the caller is not permitted, rather than that the request is wrong.
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
