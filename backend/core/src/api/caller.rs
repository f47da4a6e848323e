//! Who asks over REST, and what is known of the context.

use core::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

/// A service account, as a door has recognised it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Its id.
    pub id: Uuid,
    /// Its address: its name for people and for the key flow.
    pub email: String,
    /// What it was given.
    pub grants: Vec<Grant>,
}

/// A role, and where it holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Grant {
    /// Which.
    pub role: Role,
    /// The project; every project without.
    pub project: Option<Uuid>,
    /// The ring; all rings of the project without.
    pub ring: Option<Uuid>,
}

/// What an account may do, in a word. `policy::roles` says what each permits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Everything.
    Owner,
    /// Everything with rings, keys and their use.
    Admin,
    /// Use and rotate.
    Editor,
    /// Use.
    User,
    /// See.
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

/// One call of a caller.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Who asks.
    pub account: Arc<Account>,
    /// From where.
    pub source: IpAddr,
    /// With what, as it calls itself; bounded by the door.
    pub agent: Arc<str>,
    /// The method and the path, without query.
    pub endpoint: String,
    /// The call's own id: `x-trace-id`.
    pub trace: Uuid,
}
