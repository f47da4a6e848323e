//! The two-call convention for output of variable length (spec, "Conventions for functions returning output in a
//! variable-length buffer"). Knows lengths only: `ffi` accesses the caller's memory.

use kms_protocol::Secret;

/// The capacity of the caller's output buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Capacity {
    /// There is no buffer: the caller asks for the length.
    LengthQuery,
    /// A buffer of this many bytes.
    Bytes(usize),
}

/// What a call returns to the caller.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Reply {
    /// The length of the output.
    Length(usize),
    /// The buffer is too small; this many bytes are needed.
    TooSmall(usize),
    /// The output.
    Bytes(Secret),
}

impl Reply {
    /// Whether the output was not returned yet: the operation continues.
    pub(crate) fn is_pending(&self) -> bool {
        match self {
            Self::Length(_) | Self::TooSmall(_) => true,
            Self::Bytes(_) => false,
        }
    }
}

/// The length of an output, as far as it is known before the output is computed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OutputLength {
    /// The exact length.
    Exact(usize),
    /// An upper bound: padding will be removed.
    AtMost(usize),
}

impl OutputLength {
    /// The length that a length query returns.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Exact(bytes) | Self::AtMost(bytes) => bytes,
        }
    }
}

/// The reply that needs no output; none when the output has to be computed.
///
/// A length query computes nothing, nor does a call whose buffer is too small for an output of known length. An output
/// of bounded length is computed for any buffer, because it may fit in a smaller one.
pub(crate) fn length_reply(capacity: Capacity, length: OutputLength) -> Option<Reply> {
    match (capacity, length) {
        (Capacity::LengthQuery, length) => Some(Reply::Length(length.bytes())),
        (Capacity::Bytes(capacity), OutputLength::Exact(needed)) if capacity < needed => {
            Some(Reply::TooSmall(needed))
        }
        (Capacity::Bytes(_), _) => None,
    }
}

/// The reply with a computed output. An output that does not fit is returned beside it, to be stored for the next call.
pub(crate) fn output_reply(capacity: Capacity, output: Secret) -> (Reply, Option<Secret>) {
    match capacity {
        Capacity::LengthQuery => (Reply::Length(output.len()), Some(output)),
        Capacity::Bytes(capacity) if capacity < output.len() => (Reply::TooSmall(output.len()), Some(output)),
        Capacity::Bytes(_) => (Reply::Bytes(output), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_computed_only_for_a_large_enough_buffer() {
        let exact = OutputLength::Exact;
        assert_eq!(length_reply(Capacity::LengthQuery, exact(3)), Some(Reply::Length(3)));
        assert_eq!(length_reply(Capacity::Bytes(0), exact(3)), Some(Reply::TooSmall(3)));
        assert_eq!(length_reply(Capacity::Bytes(2), exact(3)), Some(Reply::TooSmall(3)));
        assert_eq!(length_reply(Capacity::Bytes(3), exact(3)), None);
        assert_eq!(length_reply(Capacity::Bytes(usize::MAX), exact(3)), None);
        assert_eq!(length_reply(Capacity::Bytes(0), exact(0)), None);
    }

    #[test]
    fn an_output_of_unknown_length_is_stored_until_it_fits() {
        let at_most = OutputLength::AtMost;
        assert_eq!(length_reply(Capacity::LengthQuery, at_most(16)), Some(Reply::Length(16)));
        assert_eq!(length_reply(Capacity::Bytes(1), at_most(16)), None);
        let (reply, stored) = output_reply(Capacity::Bytes(1), Secret::from(vec![7; 5]));
        assert_eq!(reply, Reply::TooSmall(5));
        let (reply, stored) = output_reply(Capacity::Bytes(5), stored.expect("it did not fit"));
        assert_eq!(reply, Reply::Bytes(Secret::from(vec![7; 5])));
        assert_eq!(stored, None);
    }
}
