//! The rule for output of variable length, once (spec, "Conventions for functions returning output in a
//! variable-length buffer"). Knows lengths only: the caller's memory is `ffi`'s.

use kms_protocol::Secret;

/// How much room the caller offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Room {
    /// None: it asks for the length.
    LengthOnly,
    /// So many bytes.
    Bytes(usize),
}

/// What the caller gets.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Reply {
    /// The length it asked for.
    Length(usize),
    /// Its room is too small; so much is needed.
    TooSmall(usize),
    /// The output itself.
    Bytes(Secret),
}

impl Reply {
    /// Whether the output is still to come: the operation goes on.
    pub(crate) fn is_pending(&self) -> bool {
        match self {
            Self::Length(_) | Self::TooSmall(_) => true,
            Self::Bytes(_) => false,
        }
    }
}

/// How long an output will be, as far as it is known before it exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Length {
    /// Exactly so long.
    Exact(usize),
    /// Not longer than this: padding is yet to be removed.
    AtMost(usize),
}

impl Length {
    /// The number that may be told to a caller.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Exact(bytes) | Self::AtMost(bytes) => bytes,
        }
    }
}

/// Answers from what is known already; none when the output has to be made first.
///
/// CallContext for the length, or offering too little room for an output of known length, makes nothing. An output whose
/// length is only bounded is made as soon as there is room at all, because a smaller room may be enough.
pub(crate) fn early(room: Room, needed: Length) -> Option<Reply> {
    match (room, needed) {
        (Room::LengthOnly, needed) => Some(Reply::Length(needed.bytes())),
        (Room::Bytes(room), Length::Exact(needed)) if room < needed => Some(Reply::TooSmall(needed)),
        (Room::Bytes(_), _) => None,
    }
}

/// Hands over an output that exists. One that does not fit comes back, to be kept until the caller has room.
pub(crate) fn hand_over(room: Room, output: Secret) -> (Reply, Option<Secret>) {
    match room {
        Room::LengthOnly => (Reply::Length(output.len()), Some(output)),
        Room::Bytes(room) if room < output.len() => (Reply::TooSmall(output.len()), Some(output)),
        Room::Bytes(_) => (Reply::Bytes(output), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_caller_with_room_makes_the_output() {
        assert_eq!(early(Room::LengthOnly, Length::Exact(3)), Some(Reply::Length(3)));
        assert_eq!(early(Room::Bytes(0), Length::Exact(3)), Some(Reply::TooSmall(3)));
        assert_eq!(early(Room::Bytes(2), Length::Exact(3)), Some(Reply::TooSmall(3)));
        assert_eq!(early(Room::Bytes(3), Length::Exact(3)), None);
        assert_eq!(early(Room::Bytes(usize::MAX), Length::Exact(3)), None);
        assert_eq!(early(Room::Bytes(0), Length::Exact(0)), None);
    }

    #[test]
    fn an_output_of_unknown_length_is_kept_until_it_fits() {
        assert_eq!(early(Room::LengthOnly, Length::AtMost(16)), Some(Reply::Length(16)));
        assert_eq!(early(Room::Bytes(1), Length::AtMost(16)), None);
        let (reply, kept) = hand_over(Room::Bytes(1), Secret::from(vec![7; 5]));
        assert_eq!(reply, Reply::TooSmall(5));
        let (reply, kept) = hand_over(Room::Bytes(5), kept.expect("it did not fit"));
        assert_eq!(reply, Reply::Bytes(Secret::from(vec![7; 5])));
        assert_eq!(kept, None);
    }
}
