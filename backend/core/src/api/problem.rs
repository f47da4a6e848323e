//! Why an operation is not done, as a client sees it.

use std::fmt;

/// A problem: a status and a sentence in plain words. It never says more than the caller may know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Which status.
    pub status: Status,
    /// What is wrong, and where there is one, the next step.
    pub message: String,
}

/// The statuses that the API has for problems (RFC 9110).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// 400: the request itself is wrong.
    Malformed,
    /// 401: nobody knows who asks.
    Unauthenticated,
    /// 403: who asks may not.
    Forbidden,
    /// 404: what is asked for is not there, or not for this caller.
    NotFound,
    /// 409: it is there, but not in a state for this.
    Conflict,
    /// 413: the body is too long.
    TooLarge,
    /// 429: too many calls.
    TooMany,
    /// 500: our own failure.
    Internal,
    /// 503: the HSM or the database is away.
    Unavailable,
}

impl Status {
    /// The number.
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
