//! KNOWN_DIFFERENCES: where we answer otherwise than SoftHSM on purpose, and why. Whatever is not here is a bug of ours.

use kms_protocol::Rv;

use crate::call::{Call, Cipher};
use crate::world::Outcome::{self, Refused};

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
    is: fn(&Call, &Outcome, &Outcome) -> bool,
    then: Then,
}

/// What the difference between two outcomes is known as, if it is.
pub(crate) fn known(call: &Call, ours: &Outcome, theirs: &Outcome) -> Option<Then> {
    KNOWN_DIFFERENCES.iter().find(|difference| (difference.is)(call, ours, theirs)).map(|difference| difference.then)
}

const KNOWN_DIFFERENCES: &[Difference] = &[
    Difference {
        why: "An AES-GCM call without data is one tag. SoftHSM refuses CBC, ECB and GCM of no bytes in its own ways.",
        is: |call, _, _| matches!(call, Call::RoundTrip { bytes: 0, .. }),
        then: Then::Part,
    },
    Difference {
        why: "Spec, \"C_Encrypt\": the length asked for may be an upper bound; ours is exact where SoftHSM adds a block.",
        is: |call, ours, theirs| {
            matches!(call, Call::Encrypt { .. } | Call::EncryptFinal { .. })
                && matches!((ours, theirs), (Outcome::Length(0, ours), Outcome::Length(0, theirs)) if ours <= theirs)
        },
        then: Then::GoOn,
    },
    Difference {
        why: "We buffer GCM until the end (nothing comes out before the tag); SoftHSM gives blocks out as they come.",
        is: |call, _, _| matches!(call, Call::EncryptInit { cipher: Cipher::Gcm, .. }),
        then: Then::Part,
    },
    Difference {
        why: "A key of a closed session or a destroyed one: spec, \"C_EncryptInit\" names KEY_HANDLE_INVALID.",
        is: |call, ours, theirs| {
            let uses = matches!(call, Call::EncryptInit { .. } | Call::DecryptInit { .. } | Call::SignInit { .. });
            let whole = matches!(call, Call::RoundTrip { .. });
            let gone = [Rv::KEY_HANDLE_INVALID, Rv::OBJECT_HANDLE_INVALID];
            (uses || whole) && *ours == Refused(gone[0]) && *theirs == Refused(gone[1])
        },
        then: Then::GoOn,
    },
];
