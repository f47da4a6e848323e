//! The caller of a REST request, and the request's context.

use core::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

/// A service account that the REST API has authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Its id.
    pub id: Uuid,
    /// Its address: its name for people and for the key flow.
    pub email: String,
    /// Its grants.
    pub grants: Vec<Grant>,
}

/// A role, and where it applies.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The project; all projects if none.
    pub project: Option<Uuid>,
    /// The ring; all rings of the project if none.
    pub ring: Option<Uuid>,
}

/// A role of an account. `policy::roles` has the permissions of each.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Everything.
    Owner,
    /// Everything with rings, keys and their use.
    Admin,
    /// Use and rotate keys.
    Editor,
    /// Use keys.
    User,
    /// See rings and keys.
    Reader,
    /// Read the audit log.
    AuditReader,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Owner, Self::Admin, Self::Editor, Self::User, Self::Reader, Self::AuditReader];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "kms.admin",
            Self::Editor => "kms.editor",
            Self::User => "kms.user",
            Self::Reader => "kms.reader",
            Self::AuditReader => "audit-log.reader",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Where a client is, as seen from the networks that `access_scope: SNA` is bound to (`docs/decisions/0054`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NetworkArea {
    /// The configuration names no networks, so there is no inside.
    Unbound,
    /// The client's address is in none of them.
    Outside,
    /// The client's address is in one of them.
    Inside,
}

/// The context of a request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The account that sent it.
    pub account: Arc<Account>,
    /// The client's address.
    pub source: IpAddr,
    /// Where the peer of the connection is. It may differ from `source`, which a proxy states.
    pub area: NetworkArea,
    /// The client's `User-Agent`, truncated by the REST listener.
    pub agent: Arc<str>,
    /// The method and the path, without query.
    pub endpoint: String,
    /// The request's id: `x-trace-id`.
    pub trace: Uuid,
}
