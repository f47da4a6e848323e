//! KNOWN_DIFFERENCES: the intended differences from SoftHSM, with their reasons. Any other difference is a bug of the
//! KMS.

use kms_protocol::Rv;

use crate::call::{Call, OutputBuffer};
use crate::pair::Outcome::{self, Done, Length, Refused, RefusedWithLength};

/// Whether the sequence can continue after a difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AfterDifference {
    /// Both modules are still in the same state.
    Continue,
    /// Only one of them has a certain operation, object or login now.
    Stop,
}

/// A known difference.
struct Difference {
    /// The reason for it.
    #[expect(dead_code, reason = "documentation")]
    reason: &'static str,
    /// Whether a case is an instance of it.
    matches: fn(&Case<'_>) -> bool,
    after: AfterDifference,
}

/// A call with different outcomes on the two modules.
pub(crate) struct Case<'c> {
    pub(crate) before: &'c [Call],
    pub(crate) call: &'c Call,
    pub(crate) kms: Outcome,
    pub(crate) softhsm: Outcome,
}

impl Case<'_> {
    /// How to proceed, if the difference is known.
    pub(crate) fn known(&self) -> Option<AfterDifference> {
        KNOWN_DIFFERENCES
            .iter()
            .find(|difference| (difference.matches)(self))
            .map(|difference| difference.after)
    }

    fn refused(&self, kms: Rv, softhsm: Rv) -> bool {
        self.kms == Refused(kms) && self.softhsm == Refused(softhsm)
    }

    /// Whether the call continues an encryption or a signature that was begun before.
    fn continues_operation(&self) -> bool {
        let cipher = matches!(
            self.call,
            Call::Encrypt { .. } | Call::EncryptUpdate { .. } | Call::EncryptFinal { .. }
        );
        cipher || matches!(self.call, Call::Sign { .. } | Call::SignUpdate { .. } | Call::SignFinal { .. })
    }

    fn is_search(&self) -> bool {
        matches!(self.call, Call::Find { .. } | Call::FindClass { .. })
    }
}

const KNOWN_DIFFERENCES: &[Difference] = &[
    Difference {
        reason: "Spec, \"Sessions\": operations of several kinds may be active at once. SoftHSM allows only one.",
        matches: |case| {
            matches!(case.call, Call::RoundTrip { .. }) && case.softhsm == Refused(Rv::OPERATION_ACTIVE)
        },
        after: AfterDifference::Continue,
    },
    Difference {
        reason: "The same for searches; the handles that the KMS found do not exist on the other side.",
        matches: |case| case.is_search() && case.softhsm == Refused(Rv::OPERATION_ACTIVE),
        after: AfterDifference::Stop,
    },
    Difference {
        reason: "The same for calls that begin an operation, which SoftHSM then does not have.",
        matches: |case| case.kms == Done && case.softhsm == Refused(Rv::OPERATION_ACTIVE),
        after: AfterDifference::Stop,
    },
    Difference {
        reason: "The same with an unsuitable key: no operation of this kind is active, so the KMS checks the key.",
        matches: |case| matches!(case.kms, Refused(_)) && case.softhsm == Refused(Rv::OPERATION_ACTIVE),
        after: AfterDifference::Continue,
    },
    Difference {
        reason: "Spec, \"C_Logout\": without a login it returns USER_NOT_LOGGED_IN. SoftHSM returns OK.",
        matches: |case| {
            let logout = matches!(case.call, Call::Logout { .. });
            logout && case.kms == Refused(Rv::USER_NOT_LOGGED_IN) && case.softhsm == Done
        },
        after: AfterDifference::Continue,
    },
    Difference {
        reason: "A login that the backend once rejected may have ended there (a new PIN), so a new login is accepted.",
        matches: |case| {
            let already = [Rv::USER_ALREADY_LOGGED_IN, Rv::USER_ANOTHER_ALREADY_LOGGED_IN].map(Refused);
            let tried = [Done, Refused(Rv::PIN_INCORRECT)].contains(&case.kms);
            matches!(case.call, Call::Login { .. }) && tried && already.contains(&case.softhsm)
        },
        after: AfterDifference::Stop,
    },
    Difference {
        reason: "A length query does not check the data: a wrong length is rejected only with a large enough buffer.",
        matches: |case| {
            let small_buffer = matches!(
                case.call,
                Call::Encrypt { buffer: OutputBuffer::Query | OutputBuffer::TooSmall, .. }
                    | Call::EncryptFinal { buffer: OutputBuffer::Query | OutputBuffer::TooSmall, .. }
            );
            let length_reported =
                matches!(case.kms, Length(0, _) | RefusedWithLength(Rv::BUFFER_TOO_SMALL, _));
            small_buffer && length_reported && case.softhsm == Refused(Rv::DATA_LEN_RANGE)
        },
        after: AfterDifference::Stop,
    },
    Difference {
        reason: "Spec, \"C_Logout\", does not define what happens to operations; in the KMS they end with the login.",
        matches: |case| {
            let logged_out = case.before.iter().any(|call| matches!(call, Call::Logout { .. }));
            logged_out && case.continues_operation() && case.kms == Refused(Rv::OPERATION_NOT_INITIALIZED)
        },
        after: AfterDifference::Stop,
    },
    Difference {
        reason: "A multi-part operation has no single-part end: C_Encrypt after C_EncryptUpdate finds no operation.",
        matches: |case| {
            let is_part = |call: &Call| matches!(call, Call::EncryptUpdate { .. } | Call::SignUpdate { .. });
            let single_part = matches!(case.call, Call::Encrypt { .. } | Call::Sign { .. });
            single_part
                && case.before.iter().any(is_part)
                && case.kms == Refused(Rv::OPERATION_NOT_INITIALIZED)
        },
        after: AfterDifference::Stop,
    },
    Difference {
        reason: "An operation ends with its key: each part is sent to the backend, where the key no longer exists.",
        matches: |case| case.continues_operation() && case.kms == Refused(Rv::KEY_HANDLE_INVALID),
        after: AfterDifference::Stop,
    },
    Difference {
        reason: "A destroyed key, or one of a closed session: spec, \"C_EncryptInit\", names KEY_HANDLE_INVALID.",
        matches: |case| case.refused(Rv::KEY_HANDLE_INVALID, Rv::OBJECT_HANDLE_INVALID),
        after: AfterDifference::Continue,
    },
    Difference {
        reason: "GCM is buffered until its end (decision 0007); SoftHSM returns blocks at once.",
        matches: |case| {
            let update = matches!(case.call, Call::EncryptUpdate { .. });
            update && case.kms == Length(0, 0) && matches!(case.softhsm, Length(_, _))
        },
        after: AfterDifference::Stop,
    },
];
