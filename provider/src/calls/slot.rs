//! Slots, tokens and mechanisms (spec, "Slot and token management functions").

use std::time::Duration;

use kms_protocol::mechanism_table::{EDWARDS_BITS, Row, TABLE, Uses};
use kms_protocol::{KeyType, MechanismType, RingPolicy, Rv, Slot, SlotId};

use crate::module::{Freshness, Module, SlotView};
use crate::session::reply::Capacity;

/// Which slots a list contains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SlotFilter {
    All,
    WithToken,
}

/// `C_GetSlotList`. The call with a buffer lists the slots that the length query counted.
pub(crate) fn list(module: &Module, filter: SlotFilter, capacity: Capacity) -> Vec<SlotId> {
    let freshness = match capacity {
        Capacity::LengthQuery => Freshness::Recent,
        Capacity::Bytes(_) => Freshness::Cached,
    };
    let slots = module.slots(freshness);
    slots.iter().filter(|slot| filter == SlotFilter::All || slot.present).map(|slot| slot.id).collect()
}

/// `C_GetSlotInfo`.
pub(crate) fn slot(module: &Module, id: SlotId) -> Result<SlotView, Rv> {
    module.slot(id)
}

/// The result of `C_GetTokenInfo`.
pub(crate) struct Token {
    pub(crate) slot: Slot,
    pub(crate) sessions: u64,
    pub(crate) rw_sessions: u64,
}

/// `C_GetTokenInfo`.
pub(crate) fn token(module: &Module, id: SlotId) -> Result<Token, Rv> {
    let slot = module.token(id)?;
    let (sessions, rw_sessions) = module.sessions(|sessions| sessions.count(id));
    Ok(Token { slot, sessions, rw_sessions })
}

/// `C_GetMechanismList`.
pub(crate) fn mechanisms(module: &Module, id: SlotId) -> Result<Vec<MechanismType>, Rv> {
    let policy = module.token_state(id)?.policy;
    Ok(TABLE.iter().filter(|row| row.uses_in(policy) != Uses::NONE).map(|row| row.kind).collect())
}

/// The result of `C_GetMechanismInfo`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MechanismInfo {
    pub(crate) sizes: (u32, u32),
    pub(crate) uses: Uses,
    /// The curves of the mechanism, if any.
    pub(crate) curves: Curves,
}

/// The curves of a mechanism.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Curves {
    None,
    /// Named curves over prime fields, with uncompressed points.
    Prime,
    /// Those of RFC 7748, by name.
    EdwardsMontgomery,
}

/// The interval at which a waiting call checks for an event: the slots are requested once a second at most.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

/// `C_WaitForSlotEvent`: a slot that was added or removed, or whose token was, since it was last reported.
///
/// # Errors
/// `CKR_NO_EVENT` when there is no event and the call does not wait, `CKR_CRYPTOKI_NOT_INITIALIZED` when `C_Finalize`
/// in another thread ends the wait.
pub(crate) fn wait_for_event(module: &Module, mode: WaitMode) -> Result<SlotId, Rv> {
    loop {
        if let Some(slot) = module.slot_event() {
            return Ok(slot);
        }
        if mode == WaitMode::None {
            return Err(Rv::NO_EVENT);
        }
        if module.is_closed() {
            return Err(Rv::CRYPTOKI_NOT_INITIALIZED);
        }
        std::thread::sleep(EVENT_INTERVAL);
    }
}

/// Whether `C_WaitForSlotEvent` waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WaitMode {
    None,
    UntilFinalized,
}

/// `C_GetMechanismInfo`.
pub(crate) fn mechanism(module: &Module, id: SlotId, kind: MechanismType) -> Result<MechanismInfo, Rv> {
    let policy = module.token_state(id)?.policy;
    let row = TABLE.iter().find(|row| row.kind == kind).ok_or(Rv::MECHANISM_INVALID)?;
    info(row, policy)
}

fn info(row: &Row, policy: RingPolicy) -> Result<MechanismInfo, Rv> {
    match row.uses_in(policy) {
        Uses::NONE => Err(Rv::MECHANISM_INVALID),
        uses => {
            let curves = match row.key {
                Some(KeyType::EC) => Curves::Prime,
                Some(KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => Curves::EdwardsMontgomery,
                _ => Curves::None,
            };
            Ok(MechanismInfo { sizes: sizes(row), uses, curves })
        }
    }
}

/// The key sizes of a mechanism. Without the feature `pre-release-curves` there are no keys on curve 448.
fn sizes(row: &Row) -> (u32, u32) {
    let leaves_out = row.sizes == EDWARDS_BITS && !cfg!(feature = "pre-release-curves");
    if leaves_out { (EDWARDS_BITS.0, EDWARDS_BITS.0) } else { row.sizes }
}

#[cfg(test)]
mod tests {
    use kms_protocol::mechanism_table::row_of;

    use super::*;

    #[test]
    fn a_strict_ring_allows_pkcs_1_v1_5_for_signatures_only() {
        let row = row_of(MechanismType::RSA_PKCS).unwrap();
        assert_eq!(info(row, RingPolicy::Strict).map(|info| info.uses), Ok(Uses::SIGNATURE));
        assert!(info(row, RingPolicy::Compat).unwrap().uses.has(Uses::CIPHER));
    }
}
