//! Makes the same call on both modules and returns outcomes that can be compared.

use std::path::Path;

use cryptoki_sys::{
    CK_OBJECT_HANDLE, CK_SLOT_ID, CKA_CLASS, CKA_DECRYPT, CKA_ENCRYPT, CKA_ID, CKA_KEY_TYPE, CKA_LABEL,
    CKA_LOCAL, CKA_MODULUS, CKA_NEVER_EXTRACTABLE, CKA_PRIVATE, CKA_SENSITIVE, CKA_SIGN, CKA_TOKEN,
    CKA_VALUE, CKA_VALUE_LEN, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKK_AES, CKK_GENERIC_SECRET, CKM_AES_CBC,
    CKM_AES_CBC_PAD, CKM_AES_ECB, CKM_AES_KEY_GEN, CKM_GENERIC_SECRET_KEY_GEN, CKM_SHA256, CKM_SHA256_HMAC,
    CKU_SO, CKU_USER,
};
use kms_protocol::Rv;
use kms_tests::raw::{Mechanism, Module, Session, Template};
use kms_tests::{SO_PIN, USER_PIN, call};

use crate::call::{AttributeKind, Call, Cipher, Kind, LoginKind};

/// The outcome of a call without values that differ between modules: keys are ids of the sequence, ciphertexts lengths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The sequence has no session or key yet for the call.
    Nothing,
    Done,
    Refused(Rv),
    /// Refused, with the length that is needed.
    RefusedWithLength(Rv, usize),
    Number(u64),
    Bytes(Vec<u8>),
    /// The number of bytes written, and the length reported.
    Length(usize, usize),
    /// The ids of keys of the sequence.
    Keys(Vec<u32>),
}

/// Both modules, loaded and initialised, with the slot of each.
pub(crate) struct LoadedModules {
    sides: [(Module, CK_SLOT_ID); 2],
}

/// The state of both modules during a sequence.
pub(crate) struct Pair<'m> {
    kms: Side<'m>,
    softhsm: Side<'m>,
}

struct Side<'m> {
    module: &'m Module,
    slot: CK_SLOT_ID,
    sessions: Vec<Session<'m>>,
    /// The generated keys with their ids: handles end with a login, ids do not.
    keys: Vec<(u32, CK_OBJECT_HANDLE)>,
    /// The next id: the number of keys requested so far.
    next_id: u32,
}

impl LoadedModules {
    /// Loads and initialises both; the environment names their configurations.
    pub(crate) fn load(kms: &Path, softhsm: &Path) -> Self {
        let side = |path| {
            let module = Module::load(path);
            module.initialize_bare().expect("it initialises");
            let slot = module.slot("test");
            (module, slot)
        };
        Self { sides: [side(kms), side(softhsm)] }
    }

    /// Empties both tokens and closes all sessions.
    pub(crate) fn clean(&self) -> Pair<'_> {
        let [kms, softhsm] = self.sides.each_ref().map(|(module, slot)| Side::clean(module, *slot));
        Pair { kms, softhsm }
    }
}

impl Pair<'_> {
    /// Makes the same call on both sides; returns the outcome of the KMS and that of SoftHSM.
    pub(crate) fn run(&mut self, call: &Call) -> (Outcome, Outcome) {
        let (kms, softhsm) = (self.kms.run(call), self.softhsm.run(call));
        // A session or key that exists on one side only would shift all later ids.
        let keys = self.kms.keys.len().min(self.softhsm.keys.len());
        self.kms.keys.truncate(keys);
        self.softhsm.keys.truncate(keys);
        let sessions = self.kms.sessions.len().min(self.softhsm.sessions.len());
        self.kms.sessions.truncate(sessions);
        self.softhsm.sessions.truncate(sessions);
        (kms, softhsm)
    }
}

impl<'m> Side<'m> {
    fn clean(module: &'m Module, slot: CK_SLOT_ID) -> Self {
        call!(module, C_CloseAllSessions(slot)).expect("all sessions close");
        let session = module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
        session.login(CKU_USER, USER_PIN.as_bytes()).expect("the user logs in");
        for key in session.find(Template::new()).expect("a search") {
            session.destroy(key).expect("a key is destroyed");
        }
        session.close().expect("the session closes");
        Self { module, slot, sessions: Vec::new(), keys: Vec::new(), next_id: 0 }
    }

    fn run(&mut self, call: &Call) -> Outcome {
        self.try_run(call).unwrap_or_else(|outcome| outcome)
    }

    fn try_run(&mut self, call: &Call) -> Result<Outcome, Outcome> {
        match call {
            Call::Open { write } => {
                let flags = if *write { CKF_SERIAL_SESSION | CKF_RW_SESSION } else { CKF_SERIAL_SESSION };
                self.sessions.push(self.module.open(self.slot, flags).map_err(Outcome::Refused)?);
                Ok(Outcome::Done)
            }
            Call::CloseAll => done(call!(self.module, C_CloseAllSessions(self.slot))),
            Call::Close { session } => done(self.session(*session)?.close()),
            Call::State { session } => {
                let info = self.session(*session)?.info().map_err(Outcome::Refused)?;
                Ok(Outcome::Number(info.state))
            }
            Call::Login { session, kind } => {
                let (user, pin) = match kind {
                    LoginKind::User => (CKU_USER, USER_PIN),
                    LoginKind::Officer => (CKU_SO, SO_PIN),
                    LoginKind::WrongPin => (CKU_USER, "0000"),
                };
                done(self.session(*session)?.login(user, pin.as_bytes()))
            }
            Call::Logout { session } => done(self.session(*session)?.logout()),
            Call::Generate { .. }
            | Call::Destroy { .. }
            | Call::Find { .. }
            | Call::FindClass { .. }
            | Call::Attribute { .. }
            | Call::Rename { .. } => self.object_call(call),
            Call::EncryptInit { .. }
            | Call::DecryptInit { .. }
            | Call::Encrypt { .. }
            | Call::EncryptUpdate { .. }
            | Call::EncryptFinal { .. }
            | Call::RoundTrip { .. } => self.cipher_call(call),
            Call::SignInit { .. }
            | Call::Sign { .. }
            | Call::SignUpdate { .. }
            | Call::SignFinal { .. }
            | Call::DigestInit { .. }
            | Call::Digest { .. } => self.signature_call(call),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`try_run` passes only calls of this group")]
    fn object_call(&mut self, call: &Call) -> Result<Outcome, Outcome> {
        match call {
            Call::Generate { session, kind, token, label, usage } => {
                let session = self.session(*session)?;
                let (mechanism, usages) = match kind {
                    Kind::Aes => (CKM_AES_KEY_GEN, [CKA_ENCRYPT, CKA_DECRYPT]),
                    Kind::Secret => (CKM_GENERIC_SECRET_KEY_GEN, [CKA_SIGN, CKA_SIGN]),
                };
                let mut template = Template::new().bool(CKA_TOKEN, *token).ulong(CKA_VALUE_LEN, 32);
                template = template.bytes(CKA_LABEL, &[b'a' + label]).bool(CKA_PRIVATE, true);
                let id = self.next_id;
                self.next_id += 1;
                template = template.bytes(CKA_ID, &id.to_be_bytes());
                if let Some(usage) = usage {
                    template = template.bool(usages[0], *usage);
                    if usages[0] != usages[1] {
                        template = template.bool(usages[1], *usage);
                    }
                }
                let key =
                    session.generate(Mechanism::plain(mechanism), template).map_err(Outcome::Refused)?;
                self.keys.push((id, key));
                Ok(Outcome::Done)
            }
            Call::Destroy { session, key } => done(self.session(*session)?.destroy(self.key(*key)?)),
            Call::Find { session, label } => {
                self.find(*session, Template::new().bytes(CKA_LABEL, &[b'a' + label]))
            }
            Call::FindClass { session, kind } => {
                let kind = match kind {
                    Kind::Aes => CKK_AES,
                    Kind::Secret => CKK_GENERIC_SECRET,
                };
                self.find(*session, Template::new().ulong(CKA_KEY_TYPE, kind))
            }
            Call::Attribute { session, key, attribute } => self.attribute(*session, *key, *attribute),
            Call::Rename { session, key, label } => {
                let template = Template::new().bytes(CKA_LABEL, &[b'a' + label]);
                done(self.session(*session)?.set(self.key(*key)?, template))
            }
            other => unreachable!("{other:?} is not an object call"),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`try_run` passes only calls of this group")]
    fn cipher_call(&self, call: &Call) -> Result<Outcome, Outcome> {
        match call {
            Call::EncryptInit { session, key, cipher } => {
                done(self.session(*session)?.encrypt_init(mechanism(*cipher), self.key(*key)?))
            }
            Call::DecryptInit { session, key, cipher } => {
                done(self.session(*session)?.decrypt_init(mechanism(*cipher), self.key(*key)?))
            }
            Call::Encrypt { session, bytes, buffer } => {
                length(self.session(*session)?.encrypt_into(&vec![7; *bytes], buffer.size()))
            }
            Call::EncryptUpdate { session, bytes } => {
                let size = kms_tests::raw::OutputSize::Bytes(4096);
                length(self.session(*session)?.encrypt_update(&vec![7; *bytes], size))
            }
            Call::EncryptFinal { session, buffer } => {
                length(self.session(*session)?.encrypt_final(buffer.size()))
            }
            Call::RoundTrip { session, key, cipher, bytes } => {
                let (session, key) = (self.session(*session)?, self.key(*key)?);
                let data: Vec<u8> =
                    (0..*bytes).map(|index| u8::try_from(index).expect("at most 100")).collect();
                let sealed = session.encrypt(mechanism(*cipher), key, &data).map_err(Outcome::Refused)?;
                session
                    .decrypt(mechanism(*cipher), key, &sealed)
                    .map(Outcome::Bytes)
                    .map_err(Outcome::Refused)
            }
            other => unreachable!("{other:?} is not a cipher call"),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`try_run` passes only calls of this group")]
    fn signature_call(&self, call: &Call) -> Result<Outcome, Outcome> {
        match call {
            Call::SignInit { session, key } => {
                done(self.session(*session)?.sign_init(Mechanism::plain(CKM_SHA256_HMAC), self.key(*key)?))
            }
            Call::Sign { session, bytes, buffer } => {
                length(self.session(*session)?.sign_into(&vec![7; *bytes], buffer.size()))
            }
            Call::SignUpdate { session, bytes } => {
                done(self.session(*session)?.sign_update(&vec![7; *bytes]))
            }
            Call::SignFinal { session, buffer } => length(self.session(*session)?.sign_final(buffer.size())),
            Call::DigestInit { session } => {
                done(self.session(*session)?.digest_init(Mechanism::plain(CKM_SHA256)))
            }
            Call::Digest { session, bytes, buffer } => {
                let digest = self.session(*session)?.digest_into(&vec![7; *bytes], buffer.size());
                match digest {
                    Ok((digest, reported)) if digest.is_empty() => Ok(Outcome::Length(0, reported)),
                    Ok((digest, _)) => Ok(Outcome::Bytes(digest)),
                    Err((rv, needed)) => Err(refused(rv, needed)),
                }
            }
            other => unreachable!("{other:?} is not a signature call"),
        }
    }

    fn attribute(&self, session: usize, key: usize, attribute: AttributeKind) -> Result<Outcome, Outcome> {
        let kind = match attribute {
            AttributeKind::Class => CKA_CLASS,
            AttributeKind::Token => CKA_TOKEN,
            AttributeKind::Label => CKA_LABEL,
            AttributeKind::ValueLen => CKA_VALUE_LEN,
            AttributeKind::Sensitive => CKA_SENSITIVE,
            AttributeKind::Value => CKA_VALUE,
            AttributeKind::Modulus => CKA_MODULUS,
            AttributeKind::Encrypt => CKA_ENCRYPT,
            AttributeKind::Local => CKA_LOCAL,
            AttributeKind::NeverExtractable => CKA_NEVER_EXTRACTABLE,
        };
        let value = self.session(session)?.attribute(self.key(key)?, kind).map_err(Outcome::Refused)?;
        match attribute {
            AttributeKind::Value => Ok(Outcome::Length(value.len(), value.len())),
            AttributeKind::Class
            | AttributeKind::Token
            | AttributeKind::Label
            | AttributeKind::ValueLen
            | AttributeKind::Sensitive
            | AttributeKind::Modulus
            | AttributeKind::Encrypt
            | AttributeKind::Local
            | AttributeKind::NeverExtractable => Ok(Outcome::Bytes(value)),
        }
    }

    /// Searches for keys and stores the handles found as those of the keys.
    fn find(&mut self, session: usize, template: Template) -> Result<Outcome, Outcome> {
        let session = self.session(session)?;
        let mut ids = Vec::new();
        for handle in session.find(template).map_err(Outcome::Refused)? {
            let id = session.attribute(handle, CKA_ID).map_err(Outcome::Refused)?;
            let id = u32::from_be_bytes(id.try_into().expect("ids are four bytes"));
            // A key that only one side generated is not in the list; only its id is compared.
            if let Some(key) = self.keys.iter_mut().find(|(known, _)| *known == id) {
                key.1 = handle;
            }
            ids.push(id);
        }
        ids.sort_unstable();
        Ok(Outcome::Keys(ids))
    }

    fn session(&self, number: usize) -> Result<Session<'m>, Outcome> {
        let index = number.checked_rem(self.sessions.len()).ok_or(Outcome::Nothing)?;
        Ok(self.sessions[index])
    }

    fn key(&self, number: usize) -> Result<CK_OBJECT_HANDLE, Outcome> {
        let index = number.checked_rem(self.keys.len()).ok_or(Outcome::Nothing)?;
        Ok(self.keys[index].1)
    }
}

fn mechanism(cipher: Cipher) -> Mechanism {
    match cipher {
        Cipher::Ecb => Mechanism::plain(CKM_AES_ECB),
        Cipher::Cbc => Mechanism::with(CKM_AES_CBC, &[1; 16]),
        Cipher::CbcPad => Mechanism::with(CKM_AES_CBC_PAD, &[1; 16]),
        Cipher::Gcm => Mechanism::gcm(&[1; 12], b"aad", 128),
    }
}

fn done(result: Result<(), Rv>) -> Result<Outcome, Outcome> {
    result.map(|()| Outcome::Done).map_err(Outcome::Refused)
}

fn length(result: Result<(Vec<u8>, usize), (Rv, usize)>) -> Result<Outcome, Outcome> {
    match result {
        Ok((bytes, reported)) => Ok(Outcome::Length(bytes.len(), reported)),
        Err((rv, needed)) => Err(refused(rv, needed)),
    }
}

/// The reported length is meaningful only with `BUFFER_TOO_SMALL`.
fn refused(rv: Rv, needed: usize) -> Outcome {
    if rv == Rv::BUFFER_TOO_SMALL { Outcome::RefusedWithLength(rv, needed) } else { Outcome::Refused(rv) }
}
