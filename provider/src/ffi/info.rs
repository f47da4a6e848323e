//! Information about the module, its slots, tokens, sessions and mechanisms, as C structures.

use cryptoki_sys::{
    CK_EFFECTIVELY_INFINITE, CK_FLAGS, CK_INFO, CK_MECHANISM_INFO, CK_SESSION_INFO, CK_SLOT_INFO,
    CK_TOKEN_INFO, CK_VERSION, CKF_EC_F_P, CKF_EC_NAMEDCURVE, CKF_EC_UNCOMPRESS, CKF_LOGIN_REQUIRED, CKF_RNG,
    CKF_RW_SESSION, CKF_SERIAL_SESSION, CKF_TOKEN_INITIALIZED, CKF_TOKEN_PRESENT, CKF_USER_PIN_INITIALIZED,
};
use kms_protocol::SlotId;

use super::output::{UNAVAILABLE, ulong};
use crate::calls::general::{CRYPTOKI_VERSION, MANUFACTURER, library_version};
use crate::calls::slot::{Curves, MechanismInfo, Token};
use crate::module::SlotView;
use crate::session::{Access, State};

/// The shortest and the longest PIN that the backend accepts, in bytes (the same as in its module `pins`).
const PIN_BYTES: (u64, u64) = (4, 255);

/// The model of all our tokens.
const MODEL: &str = "KMS";

/// Fills a fixed field: UTF-8, padded with blanks, cut at a character boundary, without a final zero.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    let fits = &text.as_bytes()[..text.floor_char_boundary(N)];
    field[..fits.len()].copy_from_slice(fits);
    field
}

fn version((major, minor): (u8, u8)) -> CK_VERSION {
    CK_VERSION { major, minor }
}

/// `C_GetInfo`.
pub(crate) fn module() -> CK_INFO {
    CK_INFO {
        cryptokiVersion: version(CRYPTOKI_VERSION),
        manufacturerID: padded(MANUFACTURER),
        flags: 0,
        libraryDescription: padded("KMS PKCS#11 module"),
        libraryVersion: version(library_version()),
    }
}

/// `C_GetSlotInfo`. The slot remains and the token is present while the backend is, but `CKF_REMOVABLE_DEVICE` is not
/// set: hosts wait for such tokens to be inserted.
pub(crate) fn slot(slot: &SlotView) -> CK_SLOT_INFO {
    let description = match &slot.ring {
        Some(ring) if !ring.initialized => "KMS, free for a new key ring".to_owned(),
        Some(ring) => format!("KMS key ring {}", ring.label),
        None => "KMS, no backend reached yet".to_owned(),
    };
    CK_SLOT_INFO {
        slotDescription: padded(&description),
        manufacturerID: padded(MANUFACTURER),
        flags: if slot.present { CKF_TOKEN_PRESENT } else { 0 },
        hardwareVersion: version((0, 0)),
        firmwareVersion: version(library_version()),
    }
}

/// `C_GetTokenInfo`. Some hosts do not use a token whose flags or limits say that it is write-protected, uninitialised
/// or short of sessions.
pub(crate) fn token(token: &Token) -> CK_TOKEN_INFO {
    let user_pin = if token.slot.user_pin_set { CKF_USER_PIN_INITIALIZED } else { 0 };
    let initialized = if token.slot.initialized { CKF_TOKEN_INITIALIZED } else { 0 };
    CK_TOKEN_INFO {
        label: padded(&token.slot.label),
        manufacturerID: padded(MANUFACTURER),
        model: padded(MODEL),
        serialNumber: padded(&token.slot.serial),
        flags: CKF_RNG | CKF_LOGIN_REQUIRED | initialized | user_pin,
        ulMaxSessionCount: CK_EFFECTIVELY_INFINITE,
        ulSessionCount: ulong(token.sessions),
        ulMaxRwSessionCount: CK_EFFECTIVELY_INFINITE,
        ulRwSessionCount: ulong(token.rw_sessions),
        ulMaxPinLen: ulong(PIN_BYTES.1),
        ulMinPinLen: ulong(PIN_BYTES.0),
        ulTotalPublicMemory: UNAVAILABLE,
        ulFreePublicMemory: UNAVAILABLE,
        ulTotalPrivateMemory: UNAVAILABLE,
        ulFreePrivateMemory: UNAVAILABLE,
        hardwareVersion: version((0, 0)),
        firmwareVersion: version(library_version()),
        utcTime: padded(""),
    }
}

/// `C_GetSessionInfo`.
pub(crate) fn session((slot, state, access): (SlotId, State, Access)) -> CK_SESSION_INFO {
    let read_write = match access {
        Access::ReadOnly => 0,
        Access::ReadWrite => CKF_RW_SESSION,
    };
    CK_SESSION_INFO {
        slotID: ulong(slot.0),
        state: state_number(state),
        flags: CKF_SERIAL_SESSION | read_write,
        ulDeviceError: 0,
    }
}

fn state_number(state: State) -> cryptoki_sys::CK_STATE {
    match state {
        State::RoPublic => cryptoki_sys::CKS_RO_PUBLIC_SESSION,
        State::RoUser => cryptoki_sys::CKS_RO_USER_FUNCTIONS,
        State::RwPublic => cryptoki_sys::CKS_RW_PUBLIC_SESSION,
        State::RwUser => cryptoki_sys::CKS_RW_USER_FUNCTIONS,
        State::RwOfficer => cryptoki_sys::CKS_RW_SO_FUNCTIONS,
    }
}

/// `C_GetMechanismInfo`.
pub(crate) fn mechanism(info: MechanismInfo) -> CK_MECHANISM_INFO {
    let curves = match info.curves {
        Curves::None => 0,
        Curves::Prime => CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS,
        Curves::EdwardsMontgomery => CKF_EC_F_P | CKF_EC_NAMEDCURVE,
    };
    CK_MECHANISM_INFO {
        ulMinKeySize: ulong(info.sizes.0.into()),
        ulMaxKeySize: ulong(info.sizes.1.into()),
        flags: CK_FLAGS::from(info.uses.0) | curves,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_padded_and_cut_between_characters() {
        assert_eq!(padded::<6>("abc"), *b"abc   ");
        assert_eq!(padded::<3>("abcd"), *b"abc");
        assert_eq!(padded::<4>("abcü"), *b"abc ");
        assert_eq!(padded::<16>(""), [b' '; 16]);
    }
}
