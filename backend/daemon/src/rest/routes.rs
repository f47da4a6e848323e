//! All that can be asked with a token or for one, as one table: the router, the success codes, the OpenAPI document and
//! the names in the metrics all follow from it.

mod extensions;
mod v1;
mod vendor_neighbours;

use std::collections::HashMap;

use kms_core::api::{Operation, Problem};

use super::extract::Asked;
use crate::dispatch::Report;

/// The methods that operations have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

/// What answers a call.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// The dispatcher, as the operation that is made of the call.
    Operation(fn(&Asked<'_>) -> Result<Operation, Problem>),
    /// The dispatcher, as the report that its query asks for.
    Report(fn(&Fields) -> Result<Report, Problem>),
    /// The export, written while it is read.
    Export,
    /// The exchange of assertions for tokens.
    Token,
}

/// The fields of a query.
pub(super) type Fields = HashMap<String, String>;

/// Whose an operation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// The public API's.
    Public,
    /// Another API's of the vendor, which its clients use beside this one.
    Neighbour,
    /// An extension.
    Ours,
}

/// The form of an operation's problems.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// A sentence.
    Plain,
    /// The Audit Log API's.
    AuditLog,
    /// The token service's.
    Token,
}

impl Form {
    /// Its schema.
    pub(super) fn schema(self) -> &'static str {
        match self {
            Self::Plain => "httpError",
            Self::AuditLog => "auditLogError",
            Self::Token => "tokenError",
        }
    }
}

/// A field of an operation's query.
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: &'static str,
    /// What it says.
    pub(super) what: &'static str,
    /// What it may be.
    pub(super) kind: Value,
    /// Whether it must be there.
    pub(super) required: bool,
}

/// What a field of a query may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value {
    /// A number from 1 to 1000.
    Limit,
    /// Text of ours.
    Cursor,
    /// A time (RFC 3339).
    Time,
}

/// What a list takes that can be had in pages.
const PAGES: &[Parameter] = &[
    Parameter {
        name: "limit",
        what: "At most so many entries (an extension)",
        kind: Value::Limit,
        required: false,
    },
    Parameter {
        name: "cursor",
        what: "`nextCursor` of the page before (an extension)",
        kind: Value::Cursor,
        required: false,
    },
];

/// One operation of the API.
pub(super) struct Route {
    /// Its `operationId`.
    pub(super) id: &'static str,
    /// Its method.
    pub(super) verb: Verb,
    /// Its path, with parameters in braces.
    pub(super) path: &'static str,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    /// The status when it is done.
    pub(super) success: u16,
    /// The schema of what it takes, if it takes a body: a form at the token service, JSON elsewhere.
    pub(super) takes: Option<&'static str>,
    /// The schema of what it gives, if it gives a body.
    pub(super) gives: Option<&'static str>,
    /// The statuses of its problems beyond those that every operation has.
    pub(super) refuses: &'static [u16],
    /// The form of them.
    pub(super) form: Form,
    /// What its query may say.
    pub(super) query: &'static [Parameter],
    /// Whose it is.
    pub(super) origin: Origin,
    /// What answers it.
    pub(super) handler: Handler,
}

impl Route {
    const fn new(
        id: &'static str,
        (verb, path): (Verb, &'static str),
        summary: &'static str,
        operation: fn(&Asked<'_>) -> Result<Operation, Problem>,
    ) -> Self {
        Self::other(id, (verb, path), summary, Handler::Operation(operation))
    }

    const fn other(
        id: &'static str,
        (verb, path): (Verb, &'static str),
        summary: &'static str,
        handler: Handler,
    ) -> Self {
        let (success, takes, gives, refuses) = (204, None, None, [].as_slice());
        let (form, query, origin) = (Form::Plain, [].as_slice(), Origin::Public);
        Self { id, verb, path, summary, success, takes, gives, refuses, form, query, origin, handler }
    }

    const fn takes(mut self, schema: &'static str) -> Self {
        self.takes = Some(schema);
        self
    }

    const fn gives(mut self, success: u16, schema: &'static str) -> Self {
        self.success = success;
        self.gives = Some(schema);
        self
    }

    const fn gives_nothing(mut self, success: u16) -> Self {
        self.success = success;
        self
    }

    const fn refuses(mut self, statuses: &'static [u16]) -> Self {
        self.refuses = statuses;
        self
    }

    const fn ours(mut self) -> Self {
        self.origin = Origin::Ours;
        self
    }

    const fn neighbour(mut self, form: Form) -> Self {
        self.origin = Origin::Neighbour;
        self.form = form;
        self
    }

    const fn query(mut self, parameters: &'static [Parameter]) -> Self {
        self.query = parameters;
        self
    }

    const fn paged(self) -> Self {
        self.query(PAGES)
    }
}

/// All of them: the public API's, then ours, then those of its vendor_neighbours.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    v1::ROUTES.iter().chain(&extensions::ROUTES).chain(&vendor_neighbours::ROUTES)
}

/// The path of a project in a region, and what follows.
macro_rules! at {
    ($rest:literal) => {
        concat!("/v1/projects/{projectId}/regions/{regionId}", $rest)
    };
}

/// The path of a key, and what follows.
macro_rules! key {
    ($rest:literal) => {
        concat!("/v1/projects/{projectId}/regions/{regionId}/keyrings/{keyRingId}/keys/{keyId}", $rest)
    };
}

use {at, key};
