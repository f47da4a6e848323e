//! The operations of the API, as one table: the router, the success codes, the OpenAPI document and the names in the
//! metrics all follow from it.

mod extensions;
mod v1;

use super::asked::Asked;
use crate::kms::{Operation, Refusal};

/// The methods that operations have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

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
    /// The schema of what it takes, if it takes a body.
    pub(super) takes: Option<&'static str>,
    /// The schema of what it gives, if it gives a body.
    pub(super) gives: Option<&'static str>,
    /// The statuses of its refusals beyond those that every operation has.
    pub(super) refuses: &'static [u16],
    /// Whether it is part of a list that can be had in pages.
    pub(super) paged: bool,
    /// Whether the public API has it not.
    pub(super) extension: bool,
    /// What it makes of a call.
    pub(super) operation: fn(&Asked<'_>) -> Result<Operation, Refusal>,
}

impl Route {
    const fn new(
        id: &'static str,
        (verb, path): (Verb, &'static str),
        summary: &'static str,
        operation: fn(&Asked<'_>) -> Result<Operation, Refusal>,
    ) -> Self {
        let (takes, gives) = (None, None);
        let (refuses, paged, extension) = ([].as_slice(), false, false);
        Self { id, verb, path, summary, success: 204, takes, gives, refuses, paged, extension, operation }
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
        self.extension = true;
        self
    }

    const fn paged(mut self) -> Self {
        self.paged = true;
        self
    }
}

/// All of them: the public API's, then ours.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    v1::ROUTES.iter().chain(&extensions::ROUTES)
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
