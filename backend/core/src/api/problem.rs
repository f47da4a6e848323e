//! Problems: why an operation failed, as the client sees it.

use std::fmt;

/// A problem: a status and a sentence. It contains nothing that the caller may not know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The status.
    pub status: Status,
    /// What is wrong and, if there is one, the next step.
    pub message: String,
}

/// The statuses of problems (RFC 9110).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// 400: the request itself is wrong.
    Malformed,
    /// 401: the caller is not authenticated.
    Unauthenticated,
    /// 403: the caller is not permitted to do this.
    Forbidden,
    /// 404: the resource does not exist, or the caller may not know of it.
    NotFound,
    /// 409: the resource's state does not allow this.
    Conflict,
    /// 413: the body is too long.
    TooLarge,
    /// 429: too many calls.
    TooMany,
    /// 500: a failure of the service itself.
    Internal,
    /// 503: the HSM or the database is unavailable.
    Unavailable,
}

impl Status {
    /// The HTTP status code.
    pub fn code(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::TooMany => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

impl Problem {
    /// A problem with this status and sentence.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Status::Malformed, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Status::Conflict, message)
    }

    /// 404: `what` is a noun of the API, `key ring` for example.
    pub fn not_found(what: &str) -> Self {
        Self::new(Status::NotFound, format!("there is no such {what}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status.code(), self.message)
    }
}

impl std::error::Error for Problem {}
