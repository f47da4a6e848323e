//! Moves with keys at work: wrap, unwrap, derive, encrypt, decrypt, sign, digest.

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
use kms_tests::raw::{Field, Mechanism, Template, Way};

use crate::steps::{Blob, Found, Held, Walk};

/// Outputs that the walk remembers.
const BLOBS_MAX: usize = 64;

impl Walk<'_> {
    fn is_rsa(&mut self, held: Held) -> bool {
        self.number(held, CKA_KEY_TYPE) == Some(CKK_RSA)
    }

    fn number(&mut self, held: Held, kind: u64) -> Option<u64> {
        let value = self.told(self.session.attribute(held.handle, kind))?;
        value.try_into().ok().map(u64::from_ne_bytes)
    }

    fn wrapping(&mut self, by: Held) -> Mechanism {
        if self.is_rsa(by) {
            return match self.chance.below(4) {
                0 => Mechanism::plain(CKM_RSA_PKCS),
                1 => Mechanism::rsa_aes(256, CKM_SHA256, CKG_MGF1_SHA256),
                _ => Mechanism::oaep(CKM_SHA256, CKG_MGF1_SHA256, b""),
            };
        }
        match self.chance.below(8) {
            0 => Mechanism::with(CKM_AES_CBC, &[0; 16]),
            1 => Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]),
            2 => Mechanism::gcm(&[0; 12], b"", 128),
            3 => Mechanism::plain(CKM_AES_ECB),
            4 => Mechanism::plain(CKM_AES_KEY_WRAP),
            _ => Mechanism::plain(CKM_AES_KEY_WRAP_KWP),
        }
    }

    fn cipher(&mut self, by: Held) -> Mechanism {
        if self.is_rsa(by) {
            return match self.chance.below(3) {
                0 => Mechanism::plain(CKM_RSA_PKCS),
                1 => Mechanism::plain(CKM_RSA_X_509),
                _ => Mechanism::oaep(CKM_SHA256, CKG_MGF1_SHA256, b""),
            };
        }
        match self.chance.below(5) {
            0 => Mechanism::with(CKM_AES_CBC, &[0; 16]),
            1 => Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]),
            2 => Mechanism::gcm(&[0; 12], b"", 128),
            3 => Mechanism::ctr(128, [0; 16]),
            _ => Mechanism::plain(CKM_AES_ECB),
        }
    }

    fn keep(&mut self, bytes: Vec<u8>, protected: bool, by: Option<(Mechanism, Held)>) {
        if self.blobs.len() == BLOBS_MAX {
            self.blobs.remove(0);
        }
        self.blobs.push(Blob { bytes, protected, by });
    }

    /// What came out once; sometimes cut or changed.
    fn blob(&mut self) -> Option<Blob> {
        let mut blob = self.blobs.get(self.chance.below(self.blobs.len()))?.clone();
        if self.chance.once_in(6) {
            blob.protected = false;
            let at = self.chance.below(blob.bytes.len());
            match self.chance.below(3) {
                0 => blob.bytes.truncate(at & !7),
                1 => blob.bytes.extend_from_within(..at & !7),
                _ => blob.bytes[at] ^= 1,
            }
        }
        Some(blob)
    }

    pub(crate) fn wrap(&mut self) -> Result<(), Found> {
        let (by, key) = (self.able(CKA_WRAP), self.able(CKA_EXTRACTABLE));
        let mechanism = self.wrapping(by);
        let wrapped = self.told(self.session.wrap(mechanism.clone(), by.handle, key.handle));
        let Some(blob) = wrapped else {
            return Ok(());
        };
        self.out("C_WrapKey", &blob)?;
        self.counts.wraps += usize::from(key.protected);
        self.keep(blob, key.protected, Some((mechanism, by)));
        Ok(())
    }

    pub(crate) fn unwrap(&mut self) -> Result<(), Found> {
        let valuable = self.blobs.iter().filter(|blob| blob.protected).count();
        let chosen = self.chance.below(valuable.max(1));
        let valuable = self.blobs.iter().filter(|blob| blob.protected).nth(chosen).cloned();
        let blob = if self.chance.below(4) > 0 { valuable } else { self.blob() };
        let Some(blob) = blob else { return Ok(()) };
        // Mostly by what it was wrapped with: else few would come back.
        let (mechanism, by) = match blob.by.clone().filter(|_| self.chance.below(4) > 0) {
            Some(same) => same,
            None => {
                let by = self.able(CKA_UNWRAP);
                (self.wrapping(by), by)
            }
        };
        let ((mut template, length), flags) = (self.secret(), self.flags());
        if self.chance.once_in(4) {
            template = template.ulong(CKA_VALUE_LEN, length as u64);
        }
        let template = template.and(flags);
        let unwrapped = self.told(self.session.unwrap(mechanism, by.handle, &blob.bytes, template));
        let Some(unwrapped) = unwrapped else { return Ok(()) };
        self.counts.unwraps += usize::from(blob.protected);
        self.hold("unwrapped", unwrapped, blob.protected)
    }

    pub(crate) fn derive(&mut self) -> Result<(), Found> {
        let base = self.able(CKA_DERIVE);
        let length = self.chance.of_these(&[1, 2, 8, 15, 16, 32]);
        let agreement = self.number(base, CKA_KEY_TYPE) == Some(CKK_EC);
        let mechanism = if agreement { self.agreement() } else { self.derivation() };
        let Some(mechanism) = mechanism else { return Ok(()) };
        let ((template, _), flags) = (self.secret(), self.flags());
        // What two agree on, who knows the other half knows.
        let protected = base.protected && !agreement;
        let template = template.ulong(CKA_VALUE_LEN, length).and(flags);
        let how = format!("derived from {base:?} by {mechanism:?}");
        let Some(derived) = self.told(self.session.derive(mechanism, base.handle, template)) else {
            return Ok(());
        };
        if protected && length < 16 {
            return Err(format!("{length} bytes of a protected value are a key, short enough to guess"));
        }
        self.counts.derives += usize::from(protected);
        self.learn(derived, protected)?;
        self.hold(&how, derived, protected)
    }

    fn derivation(&mut self) -> Option<Mechanism> {
        let length = self.chance.of_these(&[1, 8, 16, 32]);
        let data = Field::Bytes(self.chance.bytes(length));
        let fields = Mechanism::fields;
        Some(match self.chance.below(16) {
            0 => fields(CKM_CONCATENATE_BASE_AND_DATA, vec![data]),
            1 => fields(CKM_CONCATENATE_DATA_AND_BASE, vec![data]),
            2 => fields(CKM_XOR_BASE_AND_DATA, vec![data]),
            3 => fields(CKM_EXTRACT_KEY_FROM_KEY, vec![Field::Number(self.chance.below(64) as u64)]),
            4 => fields(CKM_CONCATENATE_BASE_AND_KEY, vec![Field::Number(self.any().handle)]),
            5 => fields(CKM_AES_ECB_ENCRYPT_DATA, vec![data]),
            6 => fields(CKM_AES_CBC_ENCRYPT_DATA, vec![Field::Number(0), Field::Number(0), data]),
            7..=9 => {
                let format = Field::Structure(vec![Field::Number(0), Field::Number(32)]);
                // An iteration variable of 16 bytes, and a byte array.
                let parts = vec![Field::Number(1), format, Field::Number(16), Field::Number(4), data];
                let kdf = vec![Field::Number(CKM_SHA256_HMAC), Field::Number(2), Field::Structure(parts)];
                let none = vec![Field::Number(0), Field::Number(0)];
                fields(CKM_SP800_108_COUNTER_KDF, [kdf, none].concat())
            }
            _ => {
                // `bExtract` and `bExpand` are the first two bytes.
                let steps = self.chance.of_these(&[0x0001, 0x0100, 0x0101, 0x0101]);
                let no_salt = vec![Field::Number(CKM_SHA256), Field::Number(1), Field::Bytes(vec![])];
                let info = vec![Field::Number(0), data];
                fields(CKM_HKDF_DERIVE, [vec![Field::Number(steps)], no_salt, info].concat())
            }
        })
    }

    /// With the public half of one of our own pairs.
    fn agreement(&mut self) -> Option<Mechanism> {
        let session = self.session;
        let public = (0..40).map(|_| self.any()).find(|held| {
            let class = session.attribute(held.handle, CKA_CLASS);
            let ec = session.attribute(held.handle, CKA_KEY_TYPE) == Ok(CKK_EC.to_ne_bytes().to_vec());
            ec && class == Ok(CKO_PUBLIC_KEY.to_ne_bytes().to_vec())
        })?;
        let point = self.told(self.session.attribute(public.handle, CKA_EC_POINT))?;
        let point = point.get(point.len().checked_sub(65)?..)?;
        let words = point.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            Field::Number(u64::from_ne_bytes(word))
        });
        let point = Field::Structure(words.collect());
        let number = Field::Number;
        Some(Mechanism::fields(CKM_ECDH1_DERIVE, vec![number(1), number(0), number(0), number(65), point]))
    }

    pub(crate) fn encrypt(&mut self) -> Result<(), Found> {
        let by = self.able(CKA_ENCRYPT);
        let mechanism = self.cipher(by);
        let length = self.chance.of_these(&[16, 32, 48, 256]);
        let data = self.chance.bytes(length);
        let Some(encrypted) = self.told(self.session.encrypt(mechanism, by.handle, &data)) else {
            return Ok(());
        };
        self.out("C_Encrypt", &encrypted)?;
        self.keep(encrypted, false, None);
        Ok(())
    }

    pub(crate) fn decrypt(&mut self) -> Result<(), Found> {
        let by = self.able(CKA_DECRYPT);
        let mechanism = self.cipher(by);
        let Some(blob) = self.blob() else { return Ok(()) };
        let Some(data) = self.told(self.session.decrypt(mechanism, by.handle, &blob.bytes)) else {
            return Ok(());
        };
        self.out("C_Decrypt", &data)
    }

    /// The first of all attacks, aimed: what a key wraps, it or a copy of it decrypts.
    pub(crate) fn wrap_then_decrypt(&mut self) -> Result<(), Found> {
        let (by, key) = (self.able(CKA_WRAP), self.able(CKA_EXTRACTABLE));
        self.told(self.session.set(by.handle, Template::new().bool(CKA_DECRYPT, true)));
        let copied = self.told(self.session.copy(by.handle, Template::new().bool(CKA_DECRYPT, true)));
        for mechanism in [Mechanism::with(CKM_AES_CBC, &[0; 16]), Mechanism::plain(CKM_AES_ECB)] {
            let wrapped = self.told(self.session.wrap(mechanism.clone(), by.handle, key.handle));
            let wrapped = wrapped.or_else(|| self.blob().map(|blob| blob.bytes)).unwrap_or_default();
            for decrypting in [Some(by.handle), copied].into_iter().flatten() {
                let decrypted = self.told(self.session.decrypt(mechanism.clone(), decrypting, &wrapped));
                self.out("C_Decrypt", &decrypted.unwrap_or_default())?;
            }
        }
        match copied {
            Some(copied) => self.hold("copied", copied, by.protected),
            None => Ok(()),
        }
    }

    pub(crate) fn sign(&mut self) -> Result<(), Found> {
        let by = self.able(CKA_SIGN);
        let mechanism = match self.chance.below(3) {
            0 => Mechanism::plain(CKM_AES_CMAC),
            1 => Mechanism::plain(CKM_SHA256_HMAC),
            _ => Mechanism::general(CKM_SHA256_HMAC_GENERAL, 16),
        };
        let data = self.chance.bytes(32);
        let Some(signature) = self.told(self.session.sign(mechanism, by.handle, &data)) else {
            return Ok(());
        };
        self.out("C_Sign", &signature)
    }

    /// A digest over a key: of a protected one it would tell whether a guess is right.
    pub(crate) fn digest(&mut self) -> Result<(), Found> {
        let held = self.any();
        let Some(()) = self.told(self.session.digest_init(Mechanism::plain(CKM_SHA256))) else {
            return Ok(());
        };
        let module = self.session.module;
        let taken = self.told(call!(module, C_DigestKey(self.session.handle, held.handle)));
        let (mut digest, mut length) = ([0_u8; 32], 32);
        let session = self.session.handle;
        self.told(call!(module, C_DigestFinal(session, digest.as_mut_ptr(), &raw mut length)));
        self.out("C_DigestFinal", &digest)?;
        match taken {
            Some(()) if held.protected => Err("a protected key is digested".to_owned()),
            _ => Ok(()),
        }
    }

    /// A message with a vector of the walk's: the same as a classic encryption, by another door.
    pub(crate) fn message(&mut self) -> Result<(), Found> {
        let way = if self.chance.once_in(2) { Way::Encrypt } else { Way::Decrypt };
        let by = self.able(if way == Way::Encrypt { CKA_ENCRYPT } else { CKA_DECRYPT });
        let (messages, session) = (self.messages, self.session);
        let Some(()) = self.told(messages.begin(way, &session, by.handle)) else { return Ok(()) };
        let blob = self.blob().map(|blob| blob.bytes).unwrap_or_default();
        let (data, tag) = match blob.split_last_chunk::<16>() {
            Some((data, tag)) if way == Way::Decrypt => (data.to_vec(), *tag),
            _ => (self.chance.bytes(32), [0; 16]),
        };
        let (mut iv, mut tag, mut output) = ([0; 12], tag, vec![0; data.len()]);
        let nonce = (&mut iv[..], CKG_NO_GENERATE);
        self.told(messages.message(way, &session, nonce, &mut tag, &data, &mut output));
        self.out("a message", &output)?;
        if way == Way::Encrypt {
            self.keep([output, tag.to_vec()].concat(), false, None);
        }
        self.told(messages.end(way, &session));
        Ok(())
    }
}
