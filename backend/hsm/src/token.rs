//! A logged-in session with the token, and the operations with the master key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error as Cryptoki, RvError};
use cryptoki::mechanism::{Mechanism, aead::GcmParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::{AuthPin, Ulong};
use kms_core::object::{KeyBytes, MasterVersion};

use crate::config::HsmConfig;
use crate::error::HsmError;
use crate::hsm::MATERIAL_BYTES_MAX;

/// The master keys' label in the token; their `CKA_ID` is the version.
const MASTER_LABEL: &[u8] = b"kms-master";

/// The length of a master key, in bytes.
const MASTER_BYTES: u64 = 32;

/// The length of the IV before wrapped bytes. It is random: 96 bits are safe for 2^32 keys under one version of the
/// master key (NIST SP 800-38D, "RBG-based Construction"), and each rotation starts a new count.
const IV_BYTES: usize = 12;

/// The IV of the probe, and of nothing else: that a random one equals it is as likely as that two random ones are equal.
const PROBE_IV: [u8; IV_BYTES] = *b"kms probe iv";

/// The length of the tag after wrapped bytes.
const TAG_BYTES: usize = 16;

/// The tag's length as `CK_GCM_PARAMS` counts it.
const TAG_BITS: u64 = 128;

/// `CKR_AEAD_DECRYPT_FAILED`, for which `cryptoki` has no name.
const AEAD_DECRYPT_FAILED: u64 = 0x42;

/// The loaded module, and the data to log in to the token.
pub(super) struct Access {
    module: Pkcs11,
    config: HsmConfig,
    pin_rejected: AtomicBool,
}

impl Access {
    /// Loads the module. The process must have the environment of `Config::environment`.
    pub(super) fn load(config: &HsmConfig) -> Result<Self, HsmError> {
        let path = &config.module;
        if !path.exists() {
            return Err(HsmError::ModuleMissing(path.clone()));
        }
        let unusable =
            |source: Cryptoki| HsmError::ModuleUnusable { path: path.clone(), source: source.into() };
        let module = Pkcs11::new(path).map_err(unusable)?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Another `Hsm` of this process initialised it, as in a command that creates and opens a home.
            Ok(()) | Err(Cryptoki::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(unusable(error)),
        }
        Ok(Self { module, config: config.clone(), pin_rejected: AtomicBool::new(false) })
    }

    /// Opens a session and logs in.
    pub(super) fn session(&self) -> Result<Token, HsmError> {
        let slot = self.slot()?;
        let session = self.module.open_rw_session(slot)?;
        self.log_in(&session)?;
        Ok(Token { session, masters: HashMap::new() })
    }

    /// Logs in, unless the application is logged in already. The PIN is read from its file for each login and wiped after
    /// it, so that it is not in memory while the daemon serves. A PIN that was rejected once is not tried again: after
    /// some wrong PINs a token locks.
    fn log_in(&self, session: &Session) -> Result<(), HsmError> {
        if matches!(session.get_session_info()?.session_state(), SessionState::RwUser) {
            return Ok(());
        }
        if self.pin_rejected.load(Ordering::SeqCst) {
            return Err(HsmError::PinRefused(RvError::PinIncorrect));
        }
        let pin = AuthPin::from(self.config.pin()?.as_str());
        match session.login(UserType::User, Some(&pin)) {
            // Spec, "C_Login": a login is valid for all sessions of the application with that token.
            Ok(()) | Err(Cryptoki::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Cryptoki::Pkcs11(
                rv @ (RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinLocked
                | RvError::PinExpired
                | RvError::UserPinNotInitialized),
                _,
            )) => {
                self.pin_rejected.store(true, Ordering::SeqCst);
                Err(HsmError::PinRefused(rv))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Finds the token by serial number or label.
    fn slot(&self) -> Result<Slot, HsmError> {
        let mut seen = Vec::new();
        for slot in self.module.get_slots_with_token()? {
            let Ok(info) = self.module.get_token_info(slot) else { continue };
            if !info.token_initialized() {
                continue;
            }
            if info.serial_number().trim_end() == self.config.token
                || info.label().trim_end() == self.config.token
            {
                return Ok(slot);
            }
            seen.push(format!("{:?}", info.label().trim_end()));
        }
        Err(HsmError::TokenMissing { wanted: self.config.token.clone(), seen })
    }
}

/// A logged-in session, owned by one thread.
pub(super) struct Token {
    pub(super) session: Session,
    masters: HashMap<MasterVersion, ObjectHandle>,
}

impl Token {
    /// The versions of the master key that the token holds, ascending.
    pub(super) fn masters(&self) -> Result<Vec<MasterVersion>, HsmError> {
        let mut versions = Vec::new();
        for key in self.find(&template(None))? {
            for attribute in self.session.get_attributes(key, &[AttributeType::Id])? {
                if let Attribute::Id(id) = attribute
                    && let Ok(version) = <[u8; 4]>::try_from(id.as_slice())
                {
                    versions.push(MasterVersion(u32::from_be_bytes(version)));
                }
            }
        }
        versions.sort_unstable();
        match versions.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(HsmError::MasterTwice(twice[0])),
            None => Ok(versions),
        }
    }

    /// Generates a master key inside the token, which never leaves it.
    pub(super) fn create_master(&self, version: MasterVersion) -> Result<(), HsmError> {
        if self.masters()?.contains(&version) {
            return Err(HsmError::MasterExists(version));
        }
        let mut wanted = template(Some(version));
        wanted.extend([
            Attribute::ValueLen(Ulong::from(MASTER_BYTES)),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            // The key encrypts our bytes only. With these it could unwrap what it encrypted, and so reveal keys.
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Sign(false),
            Attribute::Verify(false),
            Attribute::Derive(false),
        ]);
        self.session.generate_key(&Mechanism::AesKeyGen, &wanted)?;
        Ok(())
    }

    /// Returns `IV ‖ AES-GCM(material)` with the identity as AAD.
    pub(super) fn wrap(
        &mut self,
        version: MasterVersion,
        identity: &[u8],
        material: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        let mut iv = [0; IV_BYTES];
        getrandom::fill(&mut iv).map_err(HsmError::Random)?;
        self.wrap_with_iv(iv, version, identity, material)
    }

    fn wrap_with_iv(
        &mut self,
        mut iv: [u8; IV_BYTES],
        version: MasterVersion,
        identity: &[u8],
        material: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        if material.len() > MATERIAL_BYTES_MAX {
            return Err(HsmError::TooLarge(material.len()));
        }
        let master = self.master(version)?;
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, identity, Ulong::from(TAG_BITS))?);
        let encrypted = self.session.encrypt(&mechanism, master, material)?;
        drop(mechanism);
        // Read after C_Encrypt: some HSMs replace the IV by one of their own.
        Ok([&iv[..], &encrypted].concat())
    }

    /// Unwraps what [`Token::wrap`] returned.
    pub(super) fn unwrap(
        &mut self,
        version: MasterVersion,
        identity: &[u8],
        wrapped: &[u8],
    ) -> Result<KeyBytes, HsmError> {
        if !(IV_BYTES + TAG_BYTES..=IV_BYTES + MATERIAL_BYTES_MAX + TAG_BYTES).contains(&wrapped.len()) {
            return Err(HsmError::MaterialInvalid);
        }
        let master = self.master(version)?;
        let (iv, ciphertext) = wrapped.split_at(IV_BYTES);
        let mut iv = iv.to_vec();
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, identity, Ulong::from(TAG_BITS))?);
        match self.session.decrypt(&mechanism, master, ciphertext) {
            Ok(material) => Ok(KeyBytes::from(material)),
            Err(Cryptoki::Pkcs11(
                RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::UnknownErrorCode(AEAD_DECRYPT_FAILED),
                _,
            )) => Err(HsmError::MaterialInvalid),
            // SoftHSM returns these for a wrong tag, too; if a probe still works, it was the tag and not the HSM.
            Err(error @ Cryptoki::Pkcs11(RvError::GeneralError | RvError::FunctionFailed, _)) => {
                match self.round_trip(version) {
                    Ok(()) => Err(HsmError::MaterialInvalid),
                    Err(_) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Wraps and unwraps a probe under the newest master key.
    pub(super) fn self_test(&mut self) -> Result<(), HsmError> {
        let newest = self.masters()?.last().copied().ok_or(HsmError::MasterMissing(MasterVersion(1)))?;
        self.round_trip(newest)
    }

    fn round_trip(&mut self, version: MasterVersion) -> Result<(), HsmError> {
        let (identity, probe) = (b"kms probe", [0x5a; 32]);
        // Always the same message under the same IV, which gives the same ciphertext each time and so nothing away: probes
        // use up none of the random IVs that are safe under one key.
        let wrapped = self.wrap_with_iv(PROBE_IV, version, identity, &probe)?;
        let master = self.master(version)?;
        let (iv, ciphertext) = wrapped.split_at(IV_BYTES);
        let mut iv = iv.to_vec();
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, identity, Ulong::from(TAG_BITS))?);
        if self.session.decrypt(&mechanism, master, ciphertext)? == probe {
            Ok(())
        } else {
            Err(HsmError::MaterialInvalid)
        }
    }

    /// Finds objects. Without a login the master keys are invisible rather than an error, so an empty result is valid
    /// only while the session is logged in.
    pub(super) fn find(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, HsmError> {
        let found = self.session.find_objects(template)?;
        if found.is_empty()
            && !matches!(self.session.get_session_info()?.session_state(), SessionState::RwUser)
        {
            return Err(Cryptoki::Pkcs11(RvError::UserNotLoggedIn, Function::FindObjects).into());
        }
        Ok(found)
    }

    fn master(&mut self, version: MasterVersion) -> Result<ObjectHandle, HsmError> {
        if let Some(master) = self.masters.get(&version) {
            return Ok(*master);
        }
        let found = self.find(&template(Some(version)))?;
        match found.as_slice() {
            [] => Err(HsmError::MasterMissing(version)),
            [master] => {
                self.masters.insert(version, *master);
                Ok(*master)
            }
            [_, _, ..] => Err(HsmError::MasterTwice(version)),
        }
    }
}

/// The search template for master keys: all, or one version.
fn template(version: Option<MasterVersion>) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Label(MASTER_LABEL.to_vec()),
    ];
    template.extend(version.map(|version| Attribute::Id(version.0.to_be_bytes().to_vec())));
    template
}
