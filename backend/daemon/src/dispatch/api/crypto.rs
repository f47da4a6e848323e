//! Encrypts, decrypts, re-encrypts, signs and verifies with the version that is named or the current one; data keys.

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
use super::{Dispatch, ResolvedRing, caller};
use crate::dispatch::open_key::PermittedKey;
use crate::error::Error;

/// The permitted lengths of a data key, in bytes.
const DATA_KEY_BYTES: std::ops::RangeInclusive<u16> = 16..=1024;

/// The length of the GCM tag, in bits.
const TAG_BITS: u8 = 128;

/// The length of the GCM nonce, in bytes.
const NONCE_BYTES: u16 = 12;

impl Dispatch {
    pub(super) fn encrypt_with_version(
        &self,
        context: &RequestContext,
        path: VersionPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (resolved, record) = self.resolve_key(path.key)?;
        let encrypted = self.encrypt_under(context, &resolved, &record, path.number, &data.0, aad)?;
        Ok(Outcome::Encrypted(EncryptedData { data: STANDARD.encode(&encrypted) }))
    }

    pub(super) fn decrypt_with_version(
        &self,
        context: &RequestContext,
        path: VersionPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (resolved, record) = self.resolve_key(path.key)?;
        let plain = self.decrypt_under(context, &resolved, &record, path.number, &data.0, aad)?;
        Ok(Outcome::Decrypted(DecryptedData { data: STANDARD.encode(&*plain) }))
    }

    pub(super) fn encrypt_with_current(
        &self,
        context: &RequestContext,
        path: KeyPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (resolved, record) = self.resolve_key(path)?;
        let number = self.current(&record)?.number;
        let encrypted = self.encrypt_under(context, &resolved, &record, number.into(), &data.0, aad)?;
        Ok(Outcome::Versioned(VersionedData { data: STANDARD.encode(&encrypted), version_number: number }))
    }

    pub(super) fn decrypt_any(
        &self,
        context: &RequestContext,
        path: KeyPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (resolved, record) = self.resolve_key(path)?;
        let number = self.version_in_header(&record, &data.0)?;
        let plain = self.decrypt_under(context, &resolved, &record, number.into(), &data.0, aad)?;
        Ok(Outcome::Versioned(VersionedData { data: STANDARD.encode(&*plain), version_number: number }))
    }

    pub(super) fn re_encrypt(
        &self,
        context: &RequestContext,
        path: KeyPath,
        data: &Data,
        aad: &[u8],
    ) -> Result<Outcome, Failure> {
        let (resolved, record) = self.resolve_key(path)?;
        let from = self.version_in_header(&record, &data.0)?;
        let plain = self.decrypt_under(context, &resolved, &record, from.into(), &data.0, aad)?;
        let to = self.current(&record)?.number;
        let encrypted = self.encrypt_under(context, &resolved, &record, to.into(), &plain, aad)?;
        Ok(Outcome::Versioned(VersionedData { data: STANDARD.encode(&encrypted), version_number: to }))
    }

    pub(super) fn make_data_key(
        &self,
        context: &RequestContext,
        path: KeyPath,
        request: &MakeDataKey,
    ) -> Result<Outcome, Failure> {
        if !DATA_KEY_BYTES.contains(&request.bytes) {
            let (least, most) = (DATA_KEY_BYTES.start(), DATA_KEY_BYTES.end());
            return Err(Problem::malformed(format!(
                "bytes must be {least} to {most}, not {}",
                request.bytes
            ))
            .into());
        }
        let (resolved, record) = self.resolve_key(path)?;
        let number = self.current(&record)?.number;
        let mut plain = Zeroizing::new(vec![0; usize::from(request.bytes)]);
        self.random.fill(&mut plain).map_err(|_| Rv::FUNCTION_FAILED)?;
        let wrapped = self.encrypt_under(context, &resolved, &record, number.into(), &plain, &request.aad)?;
        Ok(Outcome::DataKey(DataKey {
            plaintext: request.plaintext.then(|| STANDARD.encode(&*plain)),
            wrapped: STANDARD.encode(&wrapped),
            version_number: number,
        }))
    }

    pub(super) fn sign_with_version(
        &self,
        context: &RequestContext,
        path: VersionPath,
        data: &Data,
    ) -> Result<Outcome, Failure> {
        let (resolved, record) = self.resolve_key(path.key)?;
        let (mechanism, input) = mechanism_and_input(&record, &data.0)?;
        let (_, hidden) = self.usable_version(&record, path.number)?;
        let PermittedKey { permit, key, .. } =
            self.open_version(context, &resolved, Usage::Sign, hidden, &mechanism)?;
        let signature = kms_crypto::sign(&permit, &key, &mechanism, &input)?;
        let signature = match curve_of(&record) {
            None => signature.to_vec(),
            Some(curve) => kms_crypto::signature_to_der(curve, &signature).ok_or(Rv::FUNCTION_FAILED)?,
        };
        let (data, signature) = (STANDARD.encode(&*data.0), STANDARD.encode(&signature));
        Ok(Outcome::Signed(SignedData { data, signature }))
    }

    pub(super) fn verify_with_version(
        &self,
        context: &RequestContext,
        path: VersionPath,
        data: &Data,
        signature: &[u8],
    ) -> Result<Outcome, Failure> {
        let (resolved, record) = self.resolve_key(path.key)?;
        let (mechanism, input) = mechanism_and_input(&record, &data.0)?;
        let (version, hidden) = self.usable_version(&record, path.number)?;
        let (object, signature) = match curve_of(&record) {
            None => (hidden, Some(signature.to_vec())),
            Some(curve) => {
                let public = version.public.ok_or_else(no_public_key)?;
                (public, kms_crypto::signature_from_der(curve, signature))
            }
        };
        let PermittedKey { permit, key, .. } =
            self.open_version(context, &resolved, Usage::Verify, object, &mechanism)?;
        let outcome =
            signature.map(|signature| kms_crypto::verify(&permit, &key, &mechanism, &input, &signature));
        let valid = match outcome {
            Some(Ok(())) => true,
            None | Some(Err(Rv::SIGNATURE_INVALID | Rv::SIGNATURE_LEN_RANGE)) => false,
            Some(Err(rv)) => return Err(rv.into()),
        };
        Ok(Outcome::Verified(VerifiedData { valid }))
    }

    /// Opens an object of a version for a use, by the same rules as for a request of a provider.
    fn open_version(
        &self,
        context: &RequestContext,
        resolved: &ResolvedRing,
        usage: Usage,
        object: ObjectId,
        mechanism: &Mechanism,
    ) -> Result<PermittedKey, Failure> {
        let by = caller(context, &resolved.ring, RingRole::User);
        Ok(self.open_object(&resolved.ring, &by, usage, &ObjectRef::Token(object), mechanism)?)
    }

    /// Encrypts under a version.
    fn encrypt_under(
        &self,
        context: &RequestContext,
        resolved: &ResolvedRing,
        record: &KeyRecord,
        number: i64,
        data: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        if data.len() > PLAINTEXT_BYTES_MAX {
            let (length, most) = (data.len(), PLAINTEXT_BYTES_MAX);
            return Err(
                Problem::malformed(format!("data has {length} bytes; at most {most} are encrypted")).into()
            );
        }
        let purpose = algorithm_of(record)?.purpose();
        if purpose == Purpose::AsymmetricEncryptDecrypt && aad.is_empty() {
            return self.encrypt_oaep(context, resolved, record, number, data);
        }
        if purpose != Purpose::SymmetricEncryptDecrypt {
            return Err(unsuited(record, if aad.is_empty() { "encrypt" } else { "encrypt with aad" }).into());
        }
        let (version, hidden) = self.usable_version(record, number)?;
        let parameters = Parameters::GcmGenerate {
            iv_bytes: NONCE_BYTES,
            fixed: Secret::from(Vec::new()),
            fixed_bits: 0,
            aad: Secret::from(additional_data(version.number, aad)),
            tag_bits: TAG_BITS,
        };
        let mechanism = Mechanism { kind: MechanismType::AES_GCM, parameters };
        let opened = self.open_version(context, resolved, Usage::Encrypt, hidden, &mechanism)?;
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
        resolved: &ResolvedRing,
        record: &KeyRecord,
        number: i64,
        data: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let (version, _) = self.usable_version(record, number)?;
        let public = version.public.ok_or_else(no_public_key)?;
        let mechanism = oaep(algorithm_of(record)?)?;
        let PermittedKey { permit, key, .. } =
            self.open_version(context, resolved, Usage::Encrypt, public, &mechanism)?;
        let encrypted = kms_crypto::encrypt(&permit, &key, &mechanism, data).map_err(|rv| match rv {
            Rv::DATA_LEN_RANGE => {
                let most = oaep_bytes_max(algorithm_of(record).ok());
                let message = format!("data has {} bytes; this key encrypts at most {most}", data.len());
                Failure::from(Problem::malformed(message))
            }
            other => Failure::from(other),
        })?;
        Ok(encrypted.to_vec())
    }

    /// Decrypts under a version.
    fn decrypt_under(
        &self,
        context: &RequestContext,
        resolved: &ResolvedRing,
        record: &KeyRecord,
        number: i64,
        data: &[u8],
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let algorithm = algorithm_of(record)?;
        let (version, hidden) = self.usable_version(record, number)?;
        let (mechanism, encrypted) = match algorithm.purpose() {
            Purpose::SymmetricEncryptDecrypt => {
                let (header, encrypted) = Header::read(data)?;
                if header.version != version.number {
                    let (actual, requested) = (header.version, version.number);
                    let message =
                        format!("data was encrypted under version {actual}, not under version {requested}");
                    return Err(Problem::malformed(message).into());
                }
                let parameters = Parameters::Gcm {
                    iv: Secret::from(header.nonce.as_slice()),
                    aad: Secret::from(additional_data(header.version, aad)),
                    tag_bits: TAG_BITS,
                };
                (Mechanism { kind: MechanismType::AES_GCM, parameters }, encrypted)
            }
            Purpose::AsymmetricEncryptDecrypt if aad.is_empty() => (oaep(algorithm)?, data),
            Purpose::AsymmetricEncryptDecrypt => return Err(unsuited(record, "decrypt with aad").into()),
            Purpose::MessageAuthenticationCode | Purpose::AsymmetricSignVerify => {
                return Err(unsuited(record, "decrypt").into());
            }
        };
        let PermittedKey { permit, key, .. } =
            self.open_version(context, resolved, Usage::Decrypt, hidden, &mechanism)?;
        let plain = kms_crypto::decrypt(&permit, &key, &mechanism, encrypted).map_err(|rv| match rv {
            Rv::ENCRYPTED_DATA_INVALID | Rv::ENCRYPTED_DATA_LEN_RANGE => {
                let message =
                    "data does not decrypt: it was changed, cut short, or encrypted under another key or aad";
                Failure::from(Problem::malformed(message))
            }
            other => Failure::from(other),
        })?;
        Ok(Zeroizing::new(plain.to_vec()))
    }

    /// Returns the version that a ciphertext names.
    fn version_in_header(&self, record: &KeyRecord, data: &[u8]) -> Result<u32, Failure> {
        if algorithm_of(record)?.purpose() != Purpose::SymmetricEncryptDecrypt {
            let message = "only ciphertext of AES keys names its version; name the version in the path";
            return Err(Problem::malformed(message).into());
        }
        Ok(Header::read(data)?.0.version)
    }
}

fn algorithm_of(record: &KeyRecord) -> Result<Algorithm, Error> {
    record.metadata.algorithm.ok_or(Error::NoSuchObject)
}

/// Returns the curve of an ECDSA key.
fn curve_of(record: &KeyRecord) -> Option<Curve> {
    if let KeySpec::Ec { curve } = record.metadata.algorithm?.spec() { Some(curve) } else { None }
}

fn no_public_key() -> Problem {
    Problem::conflict("the version's public key was destroyed over PKCS#11")
}

fn unsuited(record: &KeyRecord, verb: &str) -> Problem {
    let name = record.metadata.algorithm.map_or("this", Algorithm::name);
    Problem::malformed(format!("a key of {name} does not {verb}"))
}

/// Returns the OAEP mechanism of an algorithm: MGF1 with the same hash function, and no label.
fn oaep(algorithm: Algorithm) -> Result<Mechanism, Error> {
    let hash = algorithm.hash().ok_or(Rv::MECHANISM_INVALID)?;
    let (mgf, label) = (hash.mgf(), Secret::from(Vec::new()));
    let parameters = Parameters::Oaep { hash: hash.mechanism(), mgf, label };
    Ok(Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters })
}

/// Returns how many bytes an RSA key encrypts (RFC 8017, "RSAES-OAEP-ENCRYPT").
fn oaep_bytes_max(algorithm: Option<Algorithm>) -> usize {
    let bits = match algorithm.map(Algorithm::spec) {
        Some(KeySpec::Rsa { bits, .. }) => usize::try_from(bits).unwrap_or(0),
        _ => 0,
    };
    let digest = algorithm.and_then(Algorithm::hash).map_or(0, Hash::bytes);
    (bits / 8).saturating_sub(2 * digest + 2)
}

/// Returns the signature mechanism of a key and its input: the data for a MAC, their digest for ECDSA.
fn mechanism_and_input<'a>(
    record: &KeyRecord,
    data: &'a [u8],
) -> Result<(Mechanism, std::borrow::Cow<'a, [u8]>), Failure> {
    let algorithm = algorithm_of(record)?;
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
        _ => Err(unsuited(record, "sign or verify").into()),
    }
}
