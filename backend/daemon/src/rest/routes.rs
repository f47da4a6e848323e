//! All routes that take or issue a token, as one table. The router, the success codes, the OpenAPI document and the
//! operation names in the metrics derive from it.

mod adjacent_apis;
mod extensions;
mod v1;

use std::collections::HashMap;

use kms_core::api::{Operation, Problem};

use super::extract::ApiRequest;
use crate::dispatch::Report;

/// The HTTP methods of the routes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Get,
    Post,
    Patch,
    Delete,
}

/// What handles a request.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// The dispatcher, with the operation that the function builds from the request.
    Operation(fn(&ApiRequest<'_>) -> Result<Operation, Problem>),
    /// The dispatcher, with the report that the function builds from the query.
    Report(fn(&QueryFields) -> Result<Report, Problem>),
    /// The export, which is streamed.
    Export,
    /// The exchange of an assertion or a refresh token for an access token.
    Token,
}

/// The fields of a query string.
pub(super) type QueryFields = HashMap<String, String>;

/// The API that a route belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// The public key management API.
    Public,
    /// Another API of the vendor that its clients use together with this one.
    AdjacentApi,
    /// An extension of the public API.
    Extension,
}

/// The format of a route's error responses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ErrorFormat {
    /// `message` only.
    Plain,
    /// The format of the Audit Log API.
    AuditLog,
    /// The format of the token service.
    Token,
}

impl ErrorFormat {
    /// Returns the name of the format's schema.
    pub(super) fn schema(self) -> &'static str {
        match self {
            Self::Plain => "httpError",
            Self::AuditLog => "auditLogError",
            Self::Token => "tokenError",
        }
    }
}

/// A query parameter of a route.
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: &'static str,
    /// Its description in the OpenAPI document.
    pub(super) description: &'static str,
    /// The kind of its value.
    pub(super) kind: ParameterKind,
    /// Whether it is required.
    pub(super) required: bool,
}

/// The kind of a query parameter's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ParameterKind {
    /// A number of entries, from 1 to 1000.
    Limit,
    /// An opaque cursor that this service issued.
    Cursor,
    /// A time (RFC 3339).
    Time,
}

/// The query parameters of a paginated list.
const PAGES: &[Parameter] = &[
    Parameter {
        name: "limit",
        description: "Maximum number of entries to return (an extension)",
        kind: ParameterKind::Limit,
        required: false,
    },
    Parameter {
        name: "cursor",
        description: "`nextCursor` of the previous page (an extension)",
        kind: ParameterKind::Cursor,
        required: false,
    },
];

/// A route of the API.
pub(super) struct Route {
    /// Its `operationId`.
    pub(super) id: &'static str,
    /// Its HTTP method.
    pub(super) method: Method,
    /// Its path, with the parameters in braces.
    pub(super) path: &'static str,
    /// Its summary, in one sentence.
    pub(super) summary: &'static str,
    /// The status code of success.
    pub(super) success: u16,
    /// The schema of the request body, if there is one: a form at the token service, JSON elsewhere.
    pub(super) request_schema: Option<&'static str>,
    /// The schema of the response body, if there is one.
    pub(super) response_schema: Option<&'static str>,
    /// The error statuses in addition to those of every operation.
    pub(super) error_statuses: &'static [u16],
    /// The format of the error responses.
    pub(super) error_format: ErrorFormat,
    /// The query parameters.
    pub(super) query: &'static [Parameter],
    /// The API it belongs to.
    pub(super) origin: Origin,
    /// What handles its requests.
    pub(super) handler: Handler,
}

impl Route {
    const fn new(
        id: &'static str,
        (method, path): (Method, &'static str),
        summary: &'static str,
        operation: fn(&ApiRequest<'_>) -> Result<Operation, Problem>,
    ) -> Self {
        Self::other(id, (method, path), summary, Handler::Operation(operation))
    }

    const fn other(
        id: &'static str,
        (method, path): (Method, &'static str),
        summary: &'static str,
        handler: Handler,
    ) -> Self {
        Self {
            id,
            method,
            path,
            summary,
            success: 204,
            request_schema: None,
            response_schema: None,
            error_statuses: &[],
            error_format: ErrorFormat::Plain,
            query: &[],
            origin: Origin::Public,
            handler,
        }
    }

    const fn request_schema(mut self, schema: &'static str) -> Self {
        self.request_schema = Some(schema);
        self
    }

    const fn responds(mut self, success: u16, schema: &'static str) -> Self {
        self.success = success;
        self.response_schema = Some(schema);
        self
    }

    const fn responds_empty(mut self, success: u16) -> Self {
        self.success = success;
        self
    }

    const fn errors(mut self, statuses: &'static [u16]) -> Self {
        self.error_statuses = statuses;
        self
    }

    const fn extension(mut self) -> Self {
        self.origin = Origin::Extension;
        self
    }

    const fn adjacent(mut self, error_format: ErrorFormat) -> Self {
        self.origin = Origin::AdjacentApi;
        self.error_format = error_format;
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

/// All routes: the public API, the extensions, then the adjacent APIs.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    v1::ROUTES.iter().chain(&extensions::ROUTES).chain(&adjacent_apis::ROUTES)
}

/// A path below a project and region.
macro_rules! project_path {
    ($rest:literal) => {
        concat!("/v1/projects/{projectId}/regions/{regionId}", $rest)
    };
}

/// A path below a key.
macro_rules! key_path {
    ($rest:literal) => {
        concat!("/v1/projects/{projectId}/regions/{regionId}/keyrings/{keyRingId}/keys/{keyId}", $rest)
    };
}

use {key_path, project_path};
