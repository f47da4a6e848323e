//! Slots, tokens and mechanisms (spec, "Slot and token management functions").

use std::time::Duration;

use kms_protocol::mechanism_table::{Row, TABLE, Uses};
use kms_protocol::{KeyType, MechanismType, RingPolicy, Rv, Slot, SlotId};

use crate::module::{Freshness, Module, SlotView};
use crate::session::reply::Room;

/// SlotFilter slots are asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SlotFilter {
    All,
    WithToken,
}

/// `C_GetSlotList`. The call with a buffer lists what the call for the length counted.
pub(crate) fn list(module: &Module, which: SlotFilter, room: Room) -> Vec<SlotId> {
    let freshness = match room {
        Room::LengthOnly => Freshness::Recent,
        Room::Bytes(_) => Freshness::AsSaid,
    };
    let slots = module.slots(freshness);
    slots.iter().filter(|slot| which == SlotFilter::All || slot.present).map(|slot| slot.id).collect()
}

/// `C_GetSlotInfo`.
pub(crate) fn slot(module: &Module, id: SlotId) -> Result<SlotView, Rv> {
    module.slot(id)
}

/// What `C_GetTokenInfo` tells.
pub(crate) struct Token {
    pub(crate) slot: Slot,
    pub(crate) sessions: u64,
    pub(crate) writing_sessions: u64,
}

/// `C_GetTokenInfo`.
pub(crate) fn token(module: &Module, id: SlotId) -> Result<Token, Rv> {
    let slot = module.token(id)?;
    let (sessions, writing_sessions) = module.sessions(|sessions| sessions.count(id));
    Ok(Token { slot, sessions, writing_sessions })
}

/// `C_GetMechanismList`.
pub(crate) fn mechanisms(module: &Module, id: SlotId) -> Result<Vec<MechanismType>, Rv> {
    let policy = module.terms(id)?.policy;
    Ok(TABLE.iter().filter(|row| row.uses_in(policy) != Uses::NONE).map(|row| row.kind).collect())
}

/// What `C_GetMechanismInfo` tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MechanismInfo {
    pub(crate) sizes: (u32, u32),
    pub(crate) uses: Uses,
    /// What curves the mechanism is about, if any.
    pub(crate) curves: Curves,
}

/// What curves a mechanism is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Curves {
    None,
    /// Named curves over prime fields, with uncompressed points.
    Prime,
    /// Those of RFC 7748, by name.
    Twisted,
}

/// How often a call that waits for an event looks: the slots themselves are asked for once a second at most.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

/// `C_WaitForSlotEvent`: a slot that has come, gone, or whose token has, since it was last told.
///
/// # Errors
/// `CKR_NO_EVENT` when nothing has happened and nobody wants to wait, `CKR_CRYPTOKI_NOT_INITIALIZED` when
/// `C_Finalize` in another thread ends the wait.
pub(crate) fn event(module: &Module, patience: WaitMode) -> Result<SlotId, Rv> {
    loop {
        if let Some(slot) = module.event() {
            return Ok(slot);
        }
        if patience == WaitMode::None {
            return Err(Rv::NO_EVENT);
        }
        if module.is_closed() {
            return Err(Rv::CRYPTOKI_NOT_INITIALIZED);
        }
        std::thread::sleep(EVENT_INTERVAL);
    }
}

/// Whether a call waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WaitMode {
    None,
    UntilFinalized,
}

/// `C_GetMechanismInfo`.
pub(crate) fn mechanism(module: &Module, id: SlotId, kind: MechanismType) -> Result<MechanismInfo, Rv> {
    let policy = module.terms(id)?.policy;
    let row = TABLE.iter().find(|row| row.kind == kind).ok_or(Rv::MECHANISM_INVALID)?;
    info(row, policy)
}

fn info(row: &Row, policy: RingPolicy) -> Result<MechanismInfo, Rv> {
    match row.uses_in(policy) {
        Uses::NONE => Err(Rv::MECHANISM_INVALID),
        uses => {
            let curves = match row.key {
                Some(KeyType::EC) => Curves::Prime,
                Some(KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => Curves::Twisted,
                _ => Curves::None,
            };
            Ok(MechanismInfo { sizes: row.sizes, uses, curves })
        }
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::mechanism_table::row_of;

    use super::*;

    #[test]
    fn a_strict_ring_offers_pkcs_1_v1_5_for_signatures_alone() {
        let row = row_of(MechanismType::RSA_PKCS).unwrap();
        assert_eq!(info(row, RingPolicy::Strict).map(|info| info.uses), Ok(Uses::SIGNATURE));
        assert!(info(row, RingPolicy::Compat).unwrap().uses.has(Uses::CIPHER));
    }
}
