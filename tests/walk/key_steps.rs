//! Steps that use keys: wrap, unwrap, derive, encrypt, decrypt, sign, digest, message encryption.

use cryptoki_sys::{
    CKA_CLASS, CKA_DECRYPT, CKA_DERIVE, CKA_EC_POINT, CKA_ENCRYPT, CKA_EXTRACTABLE, CKA_KEY_TYPE, CKA_SIGN,
    CKA_UNWRAP, CKA_VALUE_LEN, CKA_WRAP, CKG_MGF1_SHA256, CKG_NO_GENERATE, CKK_EC, CKK_RSA, CKM_AES_CBC,
    CKM_AES_CBC_ENCRYPT_DATA, CKM_AES_CBC_PAD, CKM_AES_CMAC, CKM_AES_ECB, CKM_AES_ECB_ENCRYPT_DATA,
    CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_KWP, CKM_CONCATENATE_BASE_AND_DATA, CKM_CONCATENATE_BASE_AND_KEY,
    CKM_CONCATENATE_DATA_AND_BASE, CKM_ECDH1_DERIVE, CKM_EXTRACT_KEY_FROM_KEY, CKM_HKDF_DERIVE, CKM_RSA_PKCS,
    CKM_RSA_X_509, CKM_SHA256, CKM_SHA256_HMAC, CKM_SHA256_HMAC_GENERAL, CKM_SP800_108_COUNTER_KDF,
    CKM_XOR_BASE_AND_DATA, CKO_PUBLIC_KEY,
};
use kms_tests::call;
use kms_tests::raw::{Direction, Field, Mechanism, Template};

use crate::walk::{Blob, TrackedObject, Violation, Walk};

/// The number of outputs that the walk stores.
const BLOBS_MAX: usize = 64;

impl Walk<'_> {
    fn is_rsa(&mut self, object: TrackedObject) -> bool {
        self.number(object, CKA_KEY_TYPE) == Some(CKK_RSA)
    }

    pub(crate) fn number(&mut self, object: TrackedObject, kind: u64) -> Option<u64> {
        let value = self.record(self.session.attribute(object.handle, kind))?;
        value.try_into().ok().map(u64::from_ne_bytes)
    }

    fn wrapping(&mut self, by: TrackedObject) -> Mechanism {
        if self.is_rsa(by) {
            return match self.rng.below(4) {
                0 => Mechanism::plain(CKM_RSA_PKCS),
                1 => Mechanism::rsa_aes(256, CKM_SHA256, CKG_MGF1_SHA256),
                _ => Mechanism::oaep(CKM_SHA256, CKG_MGF1_SHA256, b""),
            };
        }
        match self.rng.below(8) {
            0 => Mechanism::with(CKM_AES_CBC, &[0; 16]),
            1 => Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]),
            2 => Mechanism::gcm(&[0; 12], b"", 128),
            3 => Mechanism::plain(CKM_AES_ECB),
            4 => Mechanism::plain(CKM_AES_KEY_WRAP),
            _ => Mechanism::plain(CKM_AES_KEY_WRAP_KWP),
        }
    }

    fn cipher(&mut self, by: TrackedObject) -> Mechanism {
        if self.is_rsa(by) {
            return match self.rng.below(3) {
                0 => Mechanism::plain(CKM_RSA_PKCS),
                1 => Mechanism::plain(CKM_RSA_X_509),
                _ => Mechanism::oaep(CKM_SHA256, CKG_MGF1_SHA256, b""),
            };
        }
        match self.rng.below(5) {
            0 => Mechanism::with(CKM_AES_CBC, &[0; 16]),
            1 => Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]),
            2 => Mechanism::gcm(&[0; 12], b"", 128),
            3 => Mechanism::ctr(128, [0; 16]),
            _ => Mechanism::plain(CKM_AES_ECB),
        }
    }

    fn store_blob(&mut self, bytes: Vec<u8>, protected: bool, by: Option<(Mechanism, TrackedObject)>) {
        if self.blobs.len() == BLOBS_MAX {
            self.blobs.remove(0);
        }
        self.blobs.push(Blob { bytes, protected, by });
    }

    /// A stored output; sometimes truncated, extended or modified.
    fn blob(&mut self) -> Option<Blob> {
        let mut blob = self.blobs.get(self.rng.below(self.blobs.len()))?.clone();
        if self.rng.one_in(6) {
            blob.protected = false;
            let at = self.rng.below(blob.bytes.len());
            match self.rng.below(3) {
                0 => blob.bytes.truncate(at & !7),
                1 => blob.bytes.extend_from_within(..at & !7),
                _ => blob.bytes[at] ^= 1,
            }
        }
        Some(blob)
    }

    pub(crate) fn wrap(&mut self) -> Result<(), Violation> {
        let (by, key) = (self.object_with(CKA_WRAP), self.object_with(CKA_EXTRACTABLE));
        let mechanism = self.wrapping(by);
        let wrapped = self.record(self.session.wrap(mechanism.clone(), by.handle, key.handle));
        let Some(blob) = wrapped else {
            return Ok(());
        };
        self.check_output("C_WrapKey", &blob)?;
        self.counts.wraps += usize::from(key.protected);
        self.store_blob(blob, key.protected, Some((mechanism, by)));
        Ok(())
    }

    pub(crate) fn unwrap(&mut self) -> Result<(), Violation> {
        let protected = self.blobs.iter().filter(|blob| blob.protected).count();
        let chosen = self.rng.below(protected.max(1));
        let protected = self.blobs.iter().filter(|blob| blob.protected).nth(chosen).cloned();
        let blob = if self.rng.below(4) > 0 { protected } else { self.blob() };
        let Some(blob) = blob else { return Ok(()) };
        // Mostly with the mechanism and key that wrapped it; otherwise few unwraps would succeed.
        let (mechanism, by) = match blob.by.clone().filter(|_| self.rng.below(4) > 0) {
            Some(same) => same,
            None => {
                let by = self.object_with(CKA_UNWRAP);
                (self.wrapping(by), by)
            }
        };
        let ((mut template, length), flags) = (self.secret(), self.flags());
        if self.rng.one_in(4) {
            template = template.ulong(CKA_VALUE_LEN, length as u64);
        }
        let template = template.and(flags);
        let unwrapped = self.record(self.session.unwrap(mechanism, by.handle, &blob.bytes, template));
        let Some(unwrapped) = unwrapped else { return Ok(()) };
        self.counts.unwraps += usize::from(blob.protected);
        self.track("unwrapped", unwrapped, blob.protected)
    }

    pub(crate) fn derive(&mut self) -> Result<(), Violation> {
        let base = self.object_with(CKA_DERIVE);
        let length = self.rng.choose(&[1, 2, 8, 15, 16, 32]);
        let agreement = self.number(base, CKA_KEY_TYPE) == Some(CKK_EC);
        let mechanism = if agreement { self.agreement() } else { self.derivation() };
        let Some(mechanism) = mechanism else { return Ok(()) };
        let ((template, _), flags) = (self.secret(), self.flags());
        // The holder of the other private key knows the agreed secret, so it is not protected.
        let protected = base.protected && !agreement;
        let template = template.ulong(CKA_VALUE_LEN, length).and(flags);
        let how = format!("derived from {base:?} by {mechanism:?}");
        let Some(derived) = self.record(self.session.derive(mechanism, base.handle, template)) else {
            return Ok(());
        };
        if protected && length < 16 {
            return Err(format!(
                "a key of {length} bytes is derived from a protected value: short enough to guess"
            ));
        }
        self.counts.derives += usize::from(protected);
        self.learn(derived, protected)?;
        self.track(&how, derived, protected)
    }

    fn derivation(&mut self) -> Option<Mechanism> {
        let length = self.rng.choose(&[1, 8, 16, 32]);
        let data = Field::Bytes(self.rng.bytes(length));
        let fields = Mechanism::fields;
        Some(match self.rng.below(16) {
            0 => fields(CKM_CONCATENATE_BASE_AND_DATA, vec![data]),
            1 => fields(CKM_CONCATENATE_DATA_AND_BASE, vec![data]),
            2 => fields(CKM_XOR_BASE_AND_DATA, vec![data]),
            3 => fields(CKM_EXTRACT_KEY_FROM_KEY, vec![Field::Number(self.rng.below(64) as u64)]),
            4 => fields(CKM_CONCATENATE_BASE_AND_KEY, vec![Field::Number(self.any_object().handle)]),
            5 => fields(CKM_AES_ECB_ENCRYPT_DATA, vec![data]),
            6 => fields(CKM_AES_CBC_ENCRYPT_DATA, vec![Field::Number(0), Field::Number(0), data]),
            7..=9 => {
                let format = Field::Structure(vec![Field::Number(0), Field::Number(32)]);
                // An iteration variable (a 16-byte structure) and a byte array.
                let parts = vec![Field::Number(1), format, Field::Number(16), Field::Number(4), data];
                let kdf = vec![Field::Number(CKM_SHA256_HMAC), Field::Number(2), Field::Structure(parts)];
                let none = vec![Field::Number(0), Field::Number(0)];
                fields(CKM_SP800_108_COUNTER_KDF, [kdf, none].concat())
            }
            _ => {
                // `bExtract` and `bExpand` are the first two bytes.
                let steps = self.rng.choose(&[0x0001, 0x0100, 0x0101, 0x0101]);
                let no_salt = vec![Field::Number(CKM_SHA256), Field::Number(1), Field::Bytes(vec![])];
                let info = vec![Field::Number(0), data];
                fields(CKM_HKDF_DERIVE, [vec![Field::Number(steps)], no_salt, info].concat())
            }
        })
    }

    /// ECDH with the public key of one of the walk's pairs.
    fn agreement(&mut self) -> Option<Mechanism> {
        let session = self.session;
        let public = (0..40).map(|_| self.any_object()).find(|object| {
            let class = session.attribute(object.handle, CKA_CLASS);
            let ec = session.attribute(object.handle, CKA_KEY_TYPE) == Ok(CKK_EC.to_ne_bytes().to_vec());
            ec && class == Ok(CKO_PUBLIC_KEY.to_ne_bytes().to_vec())
        })?;
        let point = self.record(self.session.attribute(public.handle, CKA_EC_POINT))?;
        let point = point.get(point.len().checked_sub(65)?..)?;
        let fields = point.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            Field::Number(u64::from_ne_bytes(word))
        });
        let point = Field::Structure(fields.collect());
        let number = Field::Number;
        Some(Mechanism::fields(CKM_ECDH1_DERIVE, vec![number(1), number(0), number(0), number(65), point]))
    }

    pub(crate) fn encrypt(&mut self) -> Result<(), Violation> {
        let by = self.object_with(CKA_ENCRYPT);
        let mechanism = self.cipher(by);
        let length = self.rng.choose(&[16, 32, 48, 256]);
        let data = self.rng.bytes(length);
        let Some(encrypted) = self.record(self.session.encrypt(mechanism, by.handle, &data)) else {
            return Ok(());
        };
        self.check_output("C_Encrypt", &encrypted)?;
        self.store_blob(encrypted, false, None);
        Ok(())
    }

    pub(crate) fn decrypt(&mut self) -> Result<(), Violation> {
        let by = self.object_with(CKA_DECRYPT);
        let mechanism = self.cipher(by);
        let Some(blob) = self.blob() else { return Ok(()) };
        let Some(data) = self.record(self.session.decrypt(mechanism, by.handle, &blob.bytes)) else {
            return Ok(());
        };
        self.check_output("C_Decrypt", &data)
    }

    /// The wrap-then-decrypt attack: a key, or a copy of it, decrypts what it has wrapped.
    pub(crate) fn wrap_then_decrypt(&mut self) -> Result<(), Violation> {
        let (by, key) = (self.object_with(CKA_WRAP), self.object_with(CKA_EXTRACTABLE));
        self.record(self.session.set(by.handle, Template::new().bool(CKA_DECRYPT, true)));
        let copied = self.record(self.session.copy(by.handle, Template::new().bool(CKA_DECRYPT, true)));
        for mechanism in [Mechanism::with(CKM_AES_CBC, &[0; 16]), Mechanism::plain(CKM_AES_ECB)] {
            let wrapped = self.record(self.session.wrap(mechanism.clone(), by.handle, key.handle));
            let wrapped = wrapped.or_else(|| self.blob().map(|blob| blob.bytes)).unwrap_or_default();
            for decrypting in [Some(by.handle), copied].into_iter().flatten() {
                let decrypted = self.record(self.session.decrypt(mechanism.clone(), decrypting, &wrapped));
                self.check_output("C_Decrypt", &decrypted.unwrap_or_default())?;
            }
        }
        match copied {
            Some(copied) => self.track("copied", copied, by.protected),
            None => Ok(()),
        }
    }

    pub(crate) fn sign(&mut self) -> Result<(), Violation> {
        let by = self.object_with(CKA_SIGN);
        let mechanism = match self.rng.below(3) {
            0 => Mechanism::plain(CKM_AES_CMAC),
            1 => Mechanism::plain(CKM_SHA256_HMAC),
            _ => Mechanism::general(CKM_SHA256_HMAC_GENERAL, 16),
        };
        let data = self.rng.bytes(32);
        let Some(signature) = self.record(self.session.sign(mechanism, by.handle, &data)) else {
            return Ok(());
        };
        self.check_output("C_Sign", &signature)
    }

    /// A digest of a key: for a protected key it would confirm a guessed value.
    pub(crate) fn digest(&mut self) -> Result<(), Violation> {
        let object = self.any_object();
        let Some(()) = self.record(self.session.digest_init(Mechanism::plain(CKM_SHA256))) else {
            return Ok(());
        };
        let module = self.session.module;
        let digested = self.record(call!(module, C_DigestKey(self.session.handle, object.handle)));
        let (mut digest, mut length) = ([0_u8; 32], 32);
        let session = self.session.handle;
        self.record(call!(module, C_DigestFinal(session, digest.as_mut_ptr(), &raw mut length)));
        self.check_output("C_DigestFinal", &digest)?;
        match digested {
            Some(()) if object.protected => Err("a protected key is digested".to_owned()),
            _ => Ok(()),
        }
    }

    /// Message encryption or decryption with an IV of the walk's: the same as `C_Encrypt`, through other functions.
    pub(crate) fn message(&mut self) -> Result<(), Violation> {
        let direction = if self.rng.one_in(2) { Direction::Encrypt } else { Direction::Decrypt };
        let by = self.object_with(if direction == Direction::Encrypt { CKA_ENCRYPT } else { CKA_DECRYPT });
        let (messages, session) = (self.messages, self.session);
        let Some(()) = self.record(messages.begin(direction, &session, by.handle)) else { return Ok(()) };
        let blob = self.blob().map(|blob| blob.bytes).unwrap_or_default();
        let (data, tag) = match blob.split_last_chunk::<16>() {
            Some((data, tag)) if direction == Direction::Decrypt => (data.to_vec(), *tag),
            _ => (self.rng.bytes(32), [0; 16]),
        };
        let (mut iv, mut tag, mut output) = ([0; 12], tag, vec![0; data.len()]);
        let nonce = (&mut iv[..], CKG_NO_GENERATE);
        self.record(messages.message(direction, &session, nonce, &mut tag, &data, &mut output));
        self.check_output("C_EncryptMessage or C_DecryptMessage", &output)?;
        if direction == Direction::Encrypt {
            self.store_blob([output, tag.to_vec()].concat(), false, None);
        }
        self.record(messages.end(direction, &session));
        Ok(())
    }
}
