//! Both modules side by side: the same call to each, its outcome in terms that can be compared.

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

use crate::call::{Asked, Call, Cipher, Kind, Who};

/// What came of a call, without what differs by nature: handles are numbers of the sequence, ciphertexts are lengths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The sequence has nothing yet that the call could be about.
    Nothing,
    Done,
    Refused(Rv),
    /// Refused with a length.
    Wants(Rv, usize),
    Number(u64),
    Bytes(Vec<u8>),
    /// So many bytes, and the length reported.
    Length(usize, usize),
    /// Which of the sequence's keys, by id.
    Keys(Vec<u32>),
}

/// The loaded modules.
pub(crate) struct World {
    sides: [(Module, CK_SLOT_ID); 2],
}

/// Both in the course of a sequence.
pub(crate) struct Pair<'w> {
    ours: Side<'w>,
    theirs: Side<'w>,
}

struct Side<'w> {
    module: &'w Module,
    slot: CK_SLOT_ID,
    sessions: Vec<Session<'w>>,
    /// The keys made, with the id given to each: handles end with a login, ids do not.
    keys: Vec<(u32, CK_OBJECT_HANDLE)>,
    /// Keys asked for, made or not: the next id.
    asked: u32,
}

impl World {
    /// Loads and initialises both; the environment has their configurations.
    pub(crate) fn load(ours: &Path, theirs: &Path) -> Self {
        let side = |path| {
            let module = Module::load(path);
            module.initialize_bare().expect("it initialises");
            let slot = module.slot("test");
            (module, slot)
        };
        Self { sides: [side(ours), side(theirs)] }
    }

    /// Both tokens empty, without sessions.
    pub(crate) fn clean(&self) -> Pair<'_> {
        let [ours, theirs] = self.sides.each_ref().map(|(module, slot)| Side::clean(module, *slot));
        Pair { ours, theirs }
    }
}

impl Pair<'_> {
    /// Makes the same call on both sides: ours, then SoftHSM's outcome.
    pub(crate) fn run(&mut self, call: &Call) -> (Outcome, Outcome) {
        let (ours, theirs) = (self.ours.run(call), self.theirs.run(call));
        // A handle that only one side has would shift all later ones.
        let keys = self.ours.keys.len().min(self.theirs.keys.len());
        self.ours.keys.truncate(keys);
        self.theirs.keys.truncate(keys);
        let sessions = self.ours.sessions.len().min(self.theirs.sessions.len());
        self.ours.sessions.truncate(sessions);
        self.theirs.sessions.truncate(sessions);
        (ours, theirs)
    }
}

impl<'w> Side<'w> {
    fn clean(module: &'w Module, slot: CK_SLOT_ID) -> Self {
        call!(module, C_CloseAllSessions(slot)).expect("all sessions close");
        let session = module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
        session.login(CKU_USER, USER_PIN.as_bytes()).expect("the user logs in");
        for key in session.find(Template::new()).expect("a search") {
            session.destroy(key).expect("a key is destroyed");
        }
        session.close().expect("the session closes");
        Self { module, slot, sessions: Vec::new(), keys: Vec::new(), asked: 0 }
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
            Call::Login { session, who } => {
                let (user, pin) = match who {
                    Who::User => (CKU_USER, USER_PIN),
                    Who::Officer => (CKU_SO, SO_PIN),
                    Who::Stranger => (CKU_USER, "0000"),
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

    #[expect(clippy::wildcard_enum_match_arm, reason = "`try_run` has sorted the calls by family")]
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
                let id = self.asked;
                self.asked += 1;
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
            other => unreachable!("{other:?} is not about objects"),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`try_run` has sorted the calls by family")]
    fn cipher_call(&self, call: &Call) -> Result<Outcome, Outcome> {
        match call {
            Call::EncryptInit { session, key, cipher } => {
                done(self.session(*session)?.encrypt_init(mechanism(*cipher), self.key(*key)?))
            }
            Call::DecryptInit { session, key, cipher } => {
                done(self.session(*session)?.decrypt_init(mechanism(*cipher), self.key(*key)?))
            }
            Call::Encrypt { session, bytes, room } => {
                length(self.session(*session)?.encrypt_into(&vec![7; *bytes], room.room()))
            }
            Call::EncryptUpdate { session, bytes } => {
                let room = kms_tests::raw::Room::Bytes(4096);
                length(self.session(*session)?.encrypt_update(&vec![7; *bytes], room))
            }
            Call::EncryptFinal { session, room } => {
                length(self.session(*session)?.encrypt_final(room.room()))
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
            other => unreachable!("{other:?} is no cipher's"),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`try_run` has sorted the calls by family")]
    fn signature_call(&self, call: &Call) -> Result<Outcome, Outcome> {
        match call {
            Call::SignInit { session, key } => {
                done(self.session(*session)?.sign_init(Mechanism::plain(CKM_SHA256_HMAC), self.key(*key)?))
            }
            Call::Sign { session, bytes, room } => {
                length(self.session(*session)?.sign_into(&vec![7; *bytes], room.room()))
            }
            Call::SignUpdate { session, bytes } => {
                done(self.session(*session)?.sign_update(&vec![7; *bytes]))
            }
            Call::SignFinal { session, room } => length(self.session(*session)?.sign_final(room.room())),
            Call::DigestInit { session } => {
                done(self.session(*session)?.digest_init(Mechanism::plain(CKM_SHA256)))
            }
            Call::Digest { session, bytes, room } => {
                let digest = self.session(*session)?.digest_into(&vec![7; *bytes], room.room());
                match digest {
                    Ok((digest, reported)) if digest.is_empty() => Ok(Outcome::Length(0, reported)),
                    Ok((digest, _)) => Ok(Outcome::Bytes(digest)),
                    Err((rv, wanted)) => Err(refused(rv, wanted)),
                }
            }
            other => unreachable!("{other:?} is no signature's"),
        }
    }

    fn attribute(&self, session: usize, key: usize, attribute: Asked) -> Result<Outcome, Outcome> {
        let kind = match attribute {
            Asked::Class => CKA_CLASS,
            Asked::Token => CKA_TOKEN,
            Asked::Label => CKA_LABEL,
            Asked::ValueLen => CKA_VALUE_LEN,
            Asked::Sensitive => CKA_SENSITIVE,
            Asked::Value => CKA_VALUE,
            Asked::Modulus => CKA_MODULUS,
            Asked::Encrypt => CKA_ENCRYPT,
            Asked::Local => CKA_LOCAL,
            Asked::NeverExtractable => CKA_NEVER_EXTRACTABLE,
        };
        let value = self.session(session)?.attribute(self.key(key)?, kind).map_err(Outcome::Refused)?;
        match attribute {
            Asked::Value => Ok(Outcome::Length(value.len(), value.len())),
            Asked::Class
            | Asked::Token
            | Asked::Label
            | Asked::ValueLen
            | Asked::Sensitive
            | Asked::Modulus
            | Asked::Encrypt
            | Asked::Local
            | Asked::NeverExtractable => Ok(Outcome::Bytes(value)),
        }
    }

    /// Looks for keys, and takes the handles found as the keys' from now on.
    fn find(&mut self, session: usize, template: Template) -> Result<Outcome, Outcome> {
        let session = self.session(session)?;
        let mut numbers = Vec::new();
        for handle in session.find(template).map_err(Outcome::Refused)? {
            let id = session.attribute(handle, CKA_ID).map_err(Outcome::Refused)?;
            let id = u32::from_be_bytes(id.try_into().expect("the tests' ids are four bytes"));
            // A key that only one side made, and that the sequence therefore forgot, counts by its id alone.
            if let Some(key) = self.keys.iter_mut().find(|(known, _)| *known == id) {
                key.1 = handle;
            }
            numbers.push(id);
        }
        numbers.sort_unstable();
        Ok(Outcome::Keys(numbers))
    }

    fn session(&self, number: usize) -> Result<Session<'w>, Outcome> {
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
        Err((rv, wanted)) => Err(refused(rv, wanted)),
    }
}

/// The length says something with `BUFFER_TOO_SMALL` alone.
fn refused(rv: Rv, wanted: usize) -> Outcome {
    if rv == Rv::BUFFER_TOO_SMALL { Outcome::Wants(rv, wanted) } else { Outcome::Refused(rv) }
}
