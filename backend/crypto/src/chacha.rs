//! ChaCha20-Poly1305 (RFC 8439).

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use kms_core::object::KeyBytes;
use kms_protocol::{Mechanism, MechanismType, Parameters, Rv, Secret};

/// The length of a key, in bytes.
pub(super) const KEY_BYTES: usize = 32;

/// The length of a tag, in bytes.
const TAG_BYTES: usize = 16;

/// A ChaCha20-Poly1305 key.
pub(super) struct ChaChaKey(ChaCha20Poly1305);

impl ChaChaKey {
    /// Opens a key. None if it has the wrong length.
    pub(super) fn open(material: &KeyBytes) -> Option<Self> {
        ChaCha20Poly1305::new_from_slice(material.as_ref()).ok().map(Self)
    }

    /// Encrypts, and appends the tag.
    pub(super) fn encrypt(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        let (nonce, aad) = nonce_and_aad(mechanism)?;
        let mut out = Secret::from(data);
        let tag = self.0.encrypt_inout_detached(&nonce.into(), aad, out.bytes_mut().as_mut_slice().into());
        out.bytes_mut().extend_from_slice(&tag.map_err(|_| Rv::DATA_LEN_RANGE)?);
        Ok(out)
    }

    /// Decrypts, if the tag at the end is valid.
    pub(super) fn decrypt(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        let (nonce, aad) = nonce_and_aad(mechanism)?;
        let (data, tag) = data.split_last_chunk::<TAG_BYTES>().ok_or(Rv::ENCRYPTED_DATA_LEN_RANGE)?;
        let mut out = Secret::from(data);
        let buffer = out.bytes_mut().as_mut_slice().into();
        self.0
            .decrypt_inout_detached(&nonce.into(), aad, buffer, tag.into())
            .map_err(|_| Rv::ENCRYPTED_DATA_INVALID)?;
        Ok(out)
    }
}

fn nonce_and_aad(mechanism: &Mechanism) -> Result<([u8; 12], &[u8]), Rv> {
    match (mechanism.kind, &mechanism.parameters) {
        (MechanismType::CHACHA20_POLY1305, Parameters::Poly1305 { nonce, aad }) => {
            let nonce = nonce.as_ref().try_into().map_err(|_| Rv::MECHANISM_PARAM_INVALID)?;
            Ok((nonce, aad))
        }
        _ => Err(Rv::MECHANISM_INVALID),
    }
}
