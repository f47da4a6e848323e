//! AES key wrap without and with padding (SP 800-38F, KW and KWP; RFC 3394 and RFC 5649), with a prepared cipher.

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser};
use aes_kw::{AesKw, AesKwp, InnerInit};
use kms_protocol::{MechanismType, Parameters, Rv, Secret};

/// A semiblock (half of a block): the unit of key wrap, in bytes.
const SEMIBLOCK: usize = 8;

/// How a key is wrapped that is not a whole number of semiblocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Padding {
    /// Such a key is rejected (KW).
    None,
    /// With zeros after it, and its length before it (KWP).
    Zeros,
}

/// The padding of a key wrap mechanism. None for other mechanisms.
///
/// # Errors
/// `CKR_MECHANISM_PARAM_INVALID` for an initial value other than the specified one: it distinguishes a wrapped key from
/// noise, and the library supports no other.
pub(super) fn padding_of(kind: MechanismType, parameters: &Parameters) -> Result<Option<Padding>, Rv> {
    let (padding, initial): (_, &[u8]) = match kind {
        MechanismType::AES_KEY_WRAP => (Padding::None, &[0xa6; SEMIBLOCK]),
        // SoftHSM's number and name for KWP, from before the specification gave it one.
        MechanismType::AES_KEY_WRAP_KWP | MechanismType::AES_KEY_WRAP_PAD => {
            (Padding::Zeros, &[0xa6, 0x59, 0x59, 0xa6])
        }
        _ => return Ok(None),
    };
    if let Parameters::WrapIv(given) = parameters
        && **given != *initial
    {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    }
    Ok(Some(padding))
}

/// Wraps a key.
///
/// # Errors
/// `CKR_KEY_SIZE_RANGE` for a length that this padding does not take.
pub(super) fn wrap<C>(cipher: &C, padding: Padding, key: &[u8]) -> Result<Secret, Rv>
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let fits = match padding {
        // A single semiblock would be a block cipher without the wrap's integrity (RFC 3394, "Key Wrap").
        Padding::None => key.len().is_multiple_of(SEMIBLOCK) && key.len() >= 2 * SEMIBLOCK,
        Padding::Zeros => !key.is_empty(),
    };
    if !fits {
        return Err(Rv::KEY_SIZE_RANGE);
    }
    let mut out = Secret::from(vec![0; key.len().next_multiple_of(SEMIBLOCK) + SEMIBLOCK]);
    let wrapped = match padding {
        Padding::None => AesKw::inner_init(cipher).wrap_key(key, out.bytes_mut()).map(<[u8]>::len),
        Padding::Zeros => AesKwp::inner_init(cipher).wrap_key(key, out.bytes_mut()).map(<[u8]>::len),
    };
    wrapped.map_err(|_| Rv::KEY_SIZE_RANGE)?;
    Ok(out)
}

/// Unwraps a key.
///
/// # Errors
/// `CKR_WRAPPED_KEY_LEN_RANGE` for a length that no wrapped key has, `CKR_WRAPPED_KEY_INVALID` for all other errors.
pub(super) fn unwrap<C>(cipher: &C, padding: Padding, wrapped: &[u8]) -> Result<Secret, Rv>
where
    C: BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    let least = match padding {
        Padding::None => 3 * SEMIBLOCK,
        Padding::Zeros => 2 * SEMIBLOCK,
    };
    if !wrapped.len().is_multiple_of(SEMIBLOCK) || wrapped.len() < least {
        return Err(Rv::WRAPPED_KEY_LEN_RANGE);
    }
    let mut out = Secret::from(vec![0; wrapped.len() - SEMIBLOCK]);
    let length = match padding {
        Padding::None => AesKw::inner_init(cipher).unwrap_key(wrapped, out.bytes_mut()).map(<[u8]>::len),
        Padding::Zeros => AesKwp::inner_init(cipher).unwrap_key(wrapped, out.bytes_mut()).map(<[u8]>::len),
    };
    let length = length.map_err(|_| Rv::WRAPPED_KEY_INVALID)?;
    if length == 0 {
        return Err(Rv::WRAPPED_KEY_INVALID);
    }
    out.bytes_mut().truncate(length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use aes::cipher::KeyInit;
    use aes::{Aes128, Aes192, Aes256};
    use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn wrapped_keys_round_trip_and_changed_ones_are_rejected(
            key in prop::collection::vec(any::<u8>(), 1..100), kek: [u8; 24], flip in any::<prop::sample::Index>(),
        ) {
            let cipher = Aes192::new(&kek.into());
            for padding in [Padding::None, Padding::Zeros] {
                let fits = padding == Padding::Zeros || (key.len() >= 16 && key.len().is_multiple_of(8));
                let wrapped = wrap(&cipher, padding, &key);
                prop_assert_eq!(wrapped.is_ok(), fits);
                let Ok(mut wrapped) = wrapped else { continue };
                prop_assert_eq!(&*unwrap(&cipher, padding, &wrapped).unwrap(), &key[..]);
                let at = flip.index(wrapped.len());
                wrapped.bytes_mut()[at] ^= 1;
                prop_assert_eq!(unwrap(&cipher, padding, &wrapped).unwrap_err(), Rv::WRAPPED_KEY_INVALID);
                let cut = unwrap(&cipher, padding, &wrapped[1..]).unwrap_err();
                prop_assert_eq!(cut, Rv::WRAPPED_KEY_LEN_RANGE);
            }
        }

        #[test]
        fn another_library_agrees(key in prop::collection::vec(any::<u8>(), 1..100), kek: [u8; 32]) {
            let ours = wrap(&Aes256::new(&kek.into()), Padding::Zeros, &key).unwrap();
            let mut theirs = vec![0; key.len() + 15];
            let theirs = AesKek::new(&AES_256, &kek).unwrap().wrap_with_padding(&key, &mut theirs).unwrap();
            prop_assert_eq!(&*ours, &*theirs);
        }
    }

    #[test]
    fn an_initial_value_is_the_specified_one_or_rejected() {
        let kind = MechanismType::AES_KEY_WRAP;
        let specified = Parameters::WrapIv(Secret::from(vec![0xa6; 8]));
        assert_eq!(padding_of(kind, &specified), Ok(Some(Padding::None)));
        let other = Parameters::WrapIv(Secret::from(vec![0xa5; 8]));
        assert_eq!(padding_of(kind, &other), Err(Rv::MECHANISM_PARAM_INVALID));
        assert_eq!(padding_of(MechanismType::AES_KEY_WRAP_PAD, &Parameters::None), Ok(Some(Padding::Zeros)));
        assert_eq!(padding_of(MechanismType::AES_CBC, &Parameters::Iv([0; 16])), Ok(None));
        let short = unwrap(&Aes128::new(&[0; 16].into()), Padding::None, &[0; 16]);
        assert_eq!(short.unwrap_err(), Rv::WRAPPED_KEY_LEN_RANGE);
    }
}
