//! KNOWN_DIFFERENCES: where we answer otherwise than SoftHSM on purpose, and why. Whatever is not here is a bug of ours.

use kms_protocol::Rv;

use crate::call::{Call, Offer};
use crate::world::Outcome::{self, Done, Length, Refused, Wants};

/// What a difference means for the rest of the sequence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    /// Both are still in the same state.
    GoOn,
    /// One has an operation, an object or a login that the other has not.
    Part,
}

/// One difference.
struct Difference {
    /// Why we do it.
    #[expect(dead_code, reason = "for the reader")]
    why: &'static str,
    /// Whether this is a case of it.
    is: fn(&Case<'_>) -> bool,
    then: Then,
}

/// One call that the two answered differently.
pub(crate) struct Case<'c> {
    pub(crate) before: &'c [Call],
    pub(crate) call: &'c Call,
    pub(crate) ours: Outcome,
    pub(crate) theirs: Outcome,
}

impl Case<'_> {
    /// What the difference is known as, if it is.
    pub(crate) fn known(&self) -> Option<Then> {
        KNOWN_DIFFERENCES.iter().find(|difference| (difference.is)(self)).map(|difference| difference.then)
    }

    fn refused(&self, ours: Rv, theirs: Rv) -> bool {
        self.ours == Refused(ours) && self.theirs == Refused(theirs)
    }

    /// Whether the call is about an encryption or a signature that was begun before.
    fn goes_on(&self) -> bool {
        let cipher = matches!(
            self.call,
            Call::Encrypt { .. } | Call::EncryptUpdate { .. } | Call::EncryptFinal { .. }
        );
        cipher || matches!(self.call, Call::Sign { .. } | Call::SignUpdate { .. } | Call::SignFinal { .. })
    }

    fn searches(&self) -> bool {
        matches!(self.call, Call::Find { .. } | Call::FindClass { .. })
    }
}

const KNOWN_DIFFERENCES: &[Difference] = &[
    Difference {
        why: "Spec, \"Sessions\": operations of several kinds may be active at once. SoftHSM has one for all of them.",
        is: |case| {
            matches!(case.call, Call::RoundTrip { .. }) && case.theirs == Refused(Rv::OPERATION_ACTIVE)
        },
        then: Then::GoOn,
    },
    Difference {
        why: "The same of searches; the handles that ours has found are none of the other side's.",
        is: |case| case.searches() && case.theirs == Refused(Rv::OPERATION_ACTIVE),
        then: Then::Part,
    },
    Difference {
        why: "The same of calls that begin an operation, which SoftHSM then has not.",
        is: |case| case.ours == Done && case.theirs == Refused(Rv::OPERATION_ACTIVE),
        then: Then::Part,
    },
    Difference {
        why: "The same where the key will not do: there is no operation of this kind, so we look at the key.",
        is: |case| matches!(case.ours, Refused(_)) && case.theirs == Refused(Rv::OPERATION_ACTIVE),
        then: Then::GoOn,
    },
    Difference {
        why: "Spec, \"C_Logout\": nobody is logged in, and USER_NOT_LOGGED_IN says so. SoftHSM is content.",
        is: |case| {
            let logout = matches!(case.call, Call::Logout { .. });
            logout && case.ours == Refused(Rv::USER_NOT_LOGGED_IN) && case.theirs == Done
        },
        then: Then::GoOn,
    },
    Difference {
        why: "A login that the backend has not taken once may have ended there (its PIN was set anew): a new one is let in.",
        is: |case| {
            let already = [Rv::USER_ALREADY_LOGGED_IN, Rv::USER_ANOTHER_ALREADY_LOGGED_IN].map(Refused);
            let tried = [Done, Refused(Rv::PIN_INCORRECT)].contains(&case.ours);
            matches!(case.call, Call::Login { .. }) && tried && already.contains(&case.theirs)
        },
        then: Then::Part,
    },
    Difference {
        why: "Asking for the length never looks at the data: data of a wrong length is refused when there is room for more.",
        is: |case| {
            let room = matches!(
                case.call,
                Call::Encrypt { room: Offer::RequestEnvelope | Offer::Little, .. }
                    | Call::EncryptFinal { room: Offer::RequestEnvelope | Offer::Little, .. }
            );
            let asked = matches!(case.ours, Length(0, _) | Wants(Rv::BUFFER_TOO_SMALL, _));
            room && asked && case.theirs == Refused(Rv::DATA_LEN_RANGE)
        },
        then: Then::Part,
    },
    Difference {
        why: "Spec, \"C_Logout\", leaves open what becomes of operations; ours end with the login.",
        is: |case| {
            let left = case.before.iter().any(|call| matches!(call, Call::Logout { .. }));
            left && case.goes_on() && case.ours == Refused(Rv::OPERATION_NOT_INITIALIZED)
        },
        then: Then::Part,
    },
    Difference {
        why: "What was begun in pieces is not ended whole: C_Encrypt after C_EncryptUpdate finds no operation of its kind.",
        is: |case| {
            let piece = |call: &Call| matches!(call, Call::EncryptUpdate { .. } | Call::SignUpdate { .. });
            let whole = matches!(case.call, Call::Encrypt { .. } | Call::Sign { .. });
            whole && case.before.iter().any(piece) && case.ours == Refused(Rv::OPERATION_NOT_INITIALIZED)
        },
        then: Then::Part,
    },
    Difference {
        why: "An operation does not outlive its key: each piece is asked of the backend, where the key is gone.",
        is: |case| case.goes_on() && case.ours == Refused(Rv::KEY_HANDLE_INVALID),
        then: Then::Part,
    },
    Difference {
        why: "A key of a closed session or a destroyed one: spec, \"C_EncryptInit\", names KEY_HANDLE_INVALID.",
        is: |case| case.refused(Rv::KEY_HANDLE_INVALID, Rv::OBJECT_HANDLE_INVALID),
        then: Then::GoOn,
    },
    Difference {
        why: "GCM is buffered to its end (decision 0007); SoftHSM gives blocks out as they come.",
        is: |case| {
            let update = matches!(case.call, Call::EncryptUpdate { .. });
            update && case.ours == Length(0, 0) && matches!(case.theirs, Length(_, _))
        },
        then: Then::Part,
    },
];
