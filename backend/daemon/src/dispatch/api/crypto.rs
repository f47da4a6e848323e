//! Encrypt, decrypt, sign, verify: by the version that is named, or the current one.

use aws_lc_rs::rand::SecureRandom;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms_core::api::{
    Algorithm, Data, DataKey, DecryptedData, EncryptedData, Hash, Header, KeyPath, MakeDataKey, Outcome,
    PLAINTEXT_BYTES_MAX, Problem, Purpose, RequestContext, SignedData, VerifiedData, VersionPath,
    VersionedData, additional_data,
};
use kms_core::object::{Curve, KeySpec, RingRole};
use kms_core::policy::Usage;
use kms_protocol::{Mechanism, MechanismType, ObjectId, ObjectRef, Parameters, Rv, Secret};
use kms_store::KeyRecord;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::{Dispatch, Place, caller};
use crate::dispatch::open_key::Opened;
use crate::error::Error;

/// The lengths that a data key can have, in bytes.
const DATA_KEY_BYTES: std::ops::RangeInclusive<u16> = 16..=1024;

/// The bits of a tag.
const TAG_BITS: u8 = 128;

/// The bytes of a nonce.
const NONCE_BYTES: u16 = 12;

impl Dispatch {
    pub(super) fn encrypt_named(
        &self,
        context: &RequestContext,
        path: VersionPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (place, known) = self.key_of(path.key)?;
        let encrypted = self.seal_under(context, &place, &known, path.number, &data.0, aad)?;
        Ok(Outcome::Encrypted(EncryptedData { data: STANDARD.encode(&encrypted) }))
    }

    pub(super) fn decrypt_named(
        &self,
        context: &RequestContext,
        path: VersionPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (place, known) = self.key_of(path.key)?;
        let plain = self.open_under(context, &place, &known, path.number, &data.0, aad)?;
        Ok(Outcome::Decrypted(DecryptedData { data: STANDARD.encode(&*plain) }))
    }

    pub(super) fn encrypt_current(
        &self,
        context: &RequestContext,
        path: KeyPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (place, known) = self.key_of(path)?;
        let number = self.current(&known)?.number;
        let encrypted = self.seal_under(context, &place, &known, number.into(), &data.0, aad)?;
        Ok(Outcome::Versioned(VersionedData { data: STANDARD.encode(&encrypted), version_number: number }))
    }

    pub(super) fn decrypt_any(
        &self,
        context: &RequestContext,
        path: KeyPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (place, known) = self.key_of(path)?;
        let number = self.named_by(&known, &data.0)?;
        let plain = self.open_under(context, &place, &known, number.into(), &data.0, aad)?;
        Ok(Outcome::Versioned(VersionedData { data: STANDARD.encode(&*plain), version_number: number }))
    }

    pub(super) fn re_encrypt(
        &self,
        context: &RequestContext,
        path: KeyPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (place, known) = self.key_of(path)?;
        let from = self.named_by(&known, &data.0)?;
        let plain = self.open_under(context, &place, &known, from.into(), &data.0, aad)?;
        let to = self.current(&known)?.number;
        let encrypted = self.seal_under(context, &place, &known, to.into(), &plain, aad)?;
        Ok(Outcome::Versioned(VersionedData { data: STANDARD.encode(&encrypted), version_number: to }))
    }

    pub(super) fn make_data_key(
        &self,
        context: &RequestContext,
        path: KeyPath,
        ask: &MakeDataKey,
    ) -> Result<Outcome, Failure> {
        if !DATA_KEY_BYTES.contains(&ask.bytes) {
            let (least, most) = (DATA_KEY_BYTES.start(), DATA_KEY_BYTES.end());
            return Err(
                Problem::malformed(format!("bytes must be {least} to {most}, not {}", ask.bytes)).into()
            );
        }
        let (place, known) = self.key_of(path)?;
        let number = self.current(&known)?.number;
        let mut plain = Zeroizing::new(vec![0; usize::from(ask.bytes)]);
        self.random.fill(&mut plain).map_err(|_| Rv::FUNCTION_FAILED)?;
        let wrapped = self.seal_under(context, &place, &known, number.into(), &plain, &ask.aad)?;
        Ok(Outcome::DataKey(DataKey {
            plaintext: ask.plaintext.then(|| STANDARD.encode(&*plain)),
            wrapped: STANDARD.encode(&wrapped),
            version_number: number,
        }))
    }

    pub(super) fn sign_named(
        &self,
        context: &RequestContext,
        path: VersionPath,
        data: &Data,
    ) -> Result<Outcome, Failure> {
        let (place, known) = self.key_of(path.key)?;
        let (mechanism, digest) = signing(&known, &data.0)?;
        let (_, hidden) = self.ready_version(&known, path.number)?;
        let Opened { permit, key, .. } = self.opened(context, &place, Usage::Sign, hidden, &mechanism)?;
        let signature = kms_crypto::sign(&permit, &key, &mechanism, &digest)?;
        let signature = match curve_of(&known) {
            None => signature.to_vec(),
            Some(curve) => kms_crypto::signature_to_der(curve, &signature).ok_or(Rv::FUNCTION_FAILED)?,
        };
        let (data, signature) = (STANDARD.encode(&*data.0), STANDARD.encode(&signature));
        Ok(Outcome::Signed(SignedData { data, signature }))
    }

    pub(super) fn verify_named(
        &self,
        context: &RequestContext,
        path: VersionPath,
        data: &Data,
        signature: &[u8],
    ) -> Result<Outcome, Failure> {
        let (place, known) = self.key_of(path.key)?;
        let (mechanism, digest) = signing(&known, &data.0)?;
        let (version, hidden) = self.ready_version(&known, path.number)?;
        let (object, signature) = match curve_of(&known) {
            None => (hidden, Some(signature.to_vec())),
            Some(curve) => {
                let public = version.public.ok_or_else(lone_private)?;
                (public, kms_crypto::signature_from_der(curve, signature))
            }
        };
        let Opened { permit, key, .. } = self.opened(context, &place, Usage::Verify, object, &mechanism)?;
        let outcome =
            signature.map(|signature| kms_crypto::verify(&permit, &key, &mechanism, &digest, &signature));
        let valid = match outcome {
            Some(Ok(())) => true,
            None | Some(Err(Rv::SIGNATURE_INVALID | Rv::SIGNATURE_LEN_RANGE)) => false,
            Some(Err(rv)) => return Err(rv.into()),
        };
        Ok(Outcome::Verified(VerifiedData { valid }))
    }

    /// Opens an object for a use, as for a provider's request.
    fn opened(
        &self,
        context: &RequestContext,
        place: &Place,
        usage: Usage,
        object: ObjectId,
        mechanism: &Mechanism,
    ) -> Result<Opened, Failure> {
        let by = caller(context, &place.ring, RingRole::User);
        Ok(self.open_object(&place.ring, &by, usage, &ObjectRef::Token(object), mechanism)?)
    }

    /// Encrypts under a version.
    fn seal_under(
        &self,
        context: &RequestContext,
        place: &Place,
        known: &KeyRecord,
        number: i64,
        data: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        if data.len() > PLAINTEXT_BYTES_MAX {
            let (got, most) = (data.len(), PLAINTEXT_BYTES_MAX);
            return Err(
                Problem::malformed(format!("data has {got} bytes; at most {most} are encrypted")).into()
            );
        }
        let purpose = algorithm_of(known)?.purpose();
        if purpose == Purpose::AsymmetricEncryptDecrypt && aad.is_empty() {
            return self.encrypt_oaep(context, place, known, number, data);
        }
        if purpose != Purpose::SymmetricEncryptDecrypt {
            return Err(unsuited(known, if aad.is_empty() { "encrypt" } else { "encrypt with aad" }).into());
        }
        let (version, hidden) = self.ready_version(known, number)?;
        let parameters = Parameters::GcmGenerate {
            iv_bytes: NONCE_BYTES,
            fixed: Secret::from(Vec::new()),
            fixed_bits: 0,
            aad: Secret::from(additional_data(version.number, aad)),
            tag_bits: TAG_BITS,
        };
        let mechanism = Mechanism { kind: MechanismType::AES_GCM, parameters };
        let opened = self.opened(context, place, Usage::Encrypt, hidden, &mechanism)?;
        self.take_iv(&opened.object, &opened.key)?;
        let (nonce, encrypted) =
            kms_crypto::encrypt_message(&opened.permit, &opened.key, &mechanism, data, &self.random)?;
        let nonce = (&*nonce).try_into().map_err(|_| Rv::FUNCTION_FAILED)?;
        let header = Header { version: version.number, nonce };
        Ok([header.to_bytes().as_slice(), &encrypted].concat())
    }

    fn encrypt_oaep(
        &self,
        context: &RequestContext,
        place: &Place,
        known: &KeyRecord,
        number: i64,
        data: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let (version, _) = self.ready_version(known, number)?;
        let public = version.public.ok_or_else(lone_private)?;
        let mechanism = oaep(algorithm_of(known)?)?;
        let Opened { permit, key, .. } = self.opened(context, place, Usage::Encrypt, public, &mechanism)?;
        let encrypted = kms_crypto::encrypt(&permit, &key, &mechanism, data).map_err(|rv| match rv {
            Rv::DATA_LEN_RANGE => {
                let most = room_of(algorithm_of(known).ok());
                let said = format!("data has {} bytes; this key encrypts at most {most}", data.len());
                Failure::from(Problem::malformed(said))
            }
            other => Failure::from(other),
        })?;
        Ok(encrypted.to_vec())
    }

    /// Decrypts under a version.
    fn open_under(
        &self,
        context: &RequestContext,
        place: &Place,
        known: &KeyRecord,
        number: i64,
        data: &[u8],
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let algorithm = algorithm_of(known)?;
        let (version, hidden) = self.ready_version(known, number)?;
        let (mechanism, encrypted) = match algorithm.purpose() {
            Purpose::SymmetricEncryptDecrypt => {
                let (header, encrypted) = Header::read(data)?;
                if header.version != version.number {
                    let (of, asked) = (header.version, version.number);
                    let said = format!("data was encrypted under version {of}, not under version {asked}");
                    return Err(Problem::malformed(said).into());
                }
                let parameters = Parameters::Gcm {
                    iv: Secret::from(header.nonce.as_slice()),
                    aad: Secret::from(additional_data(header.version, aad)),
                    tag_bits: TAG_BITS,
                };
                (Mechanism { kind: MechanismType::AES_GCM, parameters }, encrypted)
            }
            Purpose::AsymmetricEncryptDecrypt if aad.is_empty() => (oaep(algorithm)?, data),
            Purpose::AsymmetricEncryptDecrypt => return Err(unsuited(known, "decrypt with aad").into()),
            Purpose::MessageAuthenticationCode | Purpose::AsymmetricSignVerify => {
                return Err(unsuited(known, "decrypt").into());
            }
        };
        let Opened { permit, key, .. } = self.opened(context, place, Usage::Decrypt, hidden, &mechanism)?;
        let plain = kms_crypto::decrypt(&permit, &key, &mechanism, encrypted).map_err(|rv| match rv {
            Rv::ENCRYPTED_DATA_INVALID | Rv::ENCRYPTED_DATA_LEN_RANGE => {
                let said =
                    "data does not decrypt: it was changed, cut short, or encrypted under another key or aad";
                Failure::from(Problem::malformed(said))
            }
            other => Failure::from(other),
        })?;
        Ok(Zeroizing::new(plain.to_vec()))
    }

    /// The version that a ciphertext names.
    fn named_by(&self, known: &KeyRecord, data: &[u8]) -> Result<u32, Failure> {
        if algorithm_of(known)?.purpose() != Purpose::SymmetricEncryptDecrypt {
            let said = "only ciphertext of AES keys names its version; name the version in the path";
            return Err(Problem::malformed(said).into());
        }
        Ok(Header::read(data)?.0.version)
    }
}

fn algorithm_of(known: &KeyRecord) -> Result<Algorithm, Error> {
    known.metadata.algorithm.ok_or(Error::NoSuchObject)
}

/// The curve of an ECDSA key.
fn curve_of(known: &KeyRecord) -> Option<Curve> {
    if let KeySpec::Ec { curve } = known.metadata.algorithm?.spec() { Some(curve) } else { None }
}

fn lone_private() -> Problem {
    Problem::conflict("the version's public half was destroyed over PKCS#11")
}

fn unsuited(known: &KeyRecord, verb: &str) -> Problem {
    let name = known.metadata.algorithm.map_or("this", Algorithm::name);
    Problem::malformed(format!("a key of {name} does not {verb}"))
}

/// OAEP as an algorithm has it: MGF1 over the same digest, no label.
fn oaep(algorithm: Algorithm) -> Result<Mechanism, Error> {
    let hash = algorithm.hash().ok_or(Rv::MECHANISM_INVALID)?;
    let (mgf, label) = (hash.mgf(), Secret::from(Vec::new()));
    let parameters = Parameters::Oaep { hash: hash.mechanism(), mgf, label };
    Ok(Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters })
}

/// How many bytes an RSA key encrypts (RFC 8017, "RSAES-OAEP-ENCRYPT").
fn room_of(algorithm: Option<Algorithm>) -> usize {
    let bits = match algorithm.map(Algorithm::spec) {
        Some(KeySpec::Rsa { bits, .. }) => usize::try_from(bits).unwrap_or(0),
        _ => 0,
    };
    let digest = algorithm.and_then(Algorithm::hash).map_or(0, Hash::bytes);
    (bits / 8).saturating_sub(2 * digest + 2)
}

/// How a key signs, and what its mechanism takes: the data for a MAC, their digest for ECDSA.
fn signing<'a>(
    known: &KeyRecord,
    data: &'a [u8],
) -> Result<(Mechanism, std::borrow::Cow<'a, [u8]>), Failure> {
    let algorithm = algorithm_of(known)?;
    match (algorithm.purpose(), algorithm.hash()) {
        (Purpose::MessageAuthenticationCode, Some(hash)) => {
            Ok((Mechanism::plain(hash.hmac()), std::borrow::Cow::Borrowed(data)))
        }
        (Purpose::AsymmetricSignVerify, Some(hash)) => {
            let digest = match hash {
                Hash::Sha256 => Sha256::digest(data).to_vec(),
                Hash::Sha384 => Sha384::digest(data).to_vec(),
                Hash::Sha512 => Sha512::digest(data).to_vec(),
            };
            Ok((Mechanism::plain(MechanismType::ECDSA), digest.into()))
        }
        _ => Err(unsuited(known, "sign or verify").into()),
    }
}
