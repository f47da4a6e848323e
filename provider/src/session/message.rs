//! Messages encrypted or decrypted one after the other under one key (spec, "Message-based encryption functions").
//! Each message has its own nonce and tag, and is one request: what comes in parts is held until its end, because
//! nothing of a message may come out before its tag is right. Pure: says what to ask.

use std::sync::Arc;

use kms_protocol::{
    DATA_BYTES_MAX, Mechanism, MechanismType, ObjectRef, Parameters, Request, RingPolicy, Rv, Secret,
    mechanism_table,
};

use super::cipher::Direction;
use super::objects::Known;
use super::usage::{self, Usage};

/// Where a message's nonce comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Nonce {
    /// The caller has it.
    Given(Secret),
    /// The backend makes it.
    Made {
        /// Its length.
        bytes: u16,
        /// Its first bits, which the caller chose.
        fixed: Secret,
        /// How many they are.
        fixed_bits: u16,
    },
}

/// What the caller says of one message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Parameter {
    /// The mechanism whose structure it came in.
    pub(crate) kind: MechanismType,
    /// The nonce.
    pub(crate) nonce: Nonce,
    /// The tag's length.
    pub(crate) tag_bits: u8,
    /// The tag, where one is to be checked.
    pub(crate) tag: Secret,
}

/// A message that comes in parts.
struct Opened {
    parameter: Parameter,
    aad: Secret,
    held: Secret,
}

/// Message encryption or decryption in progress.
pub(crate) struct Messaging {
    /// The key.
    pub(crate) key: Arc<Known>,
    direction: Direction,
    kind: MechanismType,
    opened: Option<Opened>,
}

/// One message, ready to be asked for.
pub(crate) struct Message {
    /// The request.
    pub(crate) request: Request,
    /// The length of its tag in bytes.
    pub(crate) tag_bytes: usize,
    /// The length of the nonce the backend makes; none if it came from the caller.
    pub(crate) nonce_bytes: Option<usize>,
}

impl Messaging {
    /// `C_MessageEncryptInit`, `C_MessageDecryptInit`.
    ///
    /// # Errors
    /// When mechanism and key do not go together.
    pub(crate) fn begin(
        direction: Direction,
        key: Arc<Known>,
        kind: MechanismType,
        policy: RingPolicy,
    ) -> Result<Self, Rv> {
        let usage = match direction {
            Direction::Encrypt => Usage::MessageEncrypt,
            Direction::Decrypt => Usage::MessageDecrypt,
        };
        let row = mechanism_table::row_of(kind).ok_or(Rv::MECHANISM_INVALID)?;
        usage::admit(usage, row, &key, policy)?;
        Ok(Self { key, direction, kind, opened: None })
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// `C_EncryptMessageBegin`, `C_DecryptMessageBegin`.
    ///
    /// # Errors
    /// `CKR_OPERATION_ACTIVE` while a message is open, `CKR_MECHANISM_PARAM_INVALID` for what the mechanism does not
    /// take.
    pub(crate) fn open(&mut self, parameter: Parameter, aad: &[u8]) -> Result<(), Rv> {
        if self.is_open() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        self.mechanism(&parameter, aad)?;
        self.opened = Some(Opened { parameter, aad: Secret::from(aad), held: Secret::default() });
        Ok(())
    }

    /// How much of the open message has come.
    ///
    /// # Errors
    /// `CKR_OPERATION_NOT_INITIALIZED` when none is open.
    pub(crate) fn held(&self) -> Result<usize, Rv> {
        self.opened.as_ref().map(|opened| opened.held.len()).ok_or(Rv::OPERATION_NOT_INITIALIZED)
    }

    /// Holds a part of the open message.
    ///
    /// # Errors
    /// The code for too much data, `CKR_OPERATION_NOT_INITIALIZED` when no message is open.
    pub(crate) fn hold(&mut self, data: &[u8]) -> Result<(), Rv> {
        let too_much = self.wrong_length();
        let opened = self.opened.as_mut().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        if opened.held.len().saturating_add(data.len()) > DATA_BYTES_MAX {
            return Err(too_much);
        }
        opened.held.bytes_mut().extend_from_slice(data);
        Ok(())
    }

    /// The open message is complete. Its tag, if it is to be checked, came with the last part.
    ///
    /// # Errors
    /// As for [`Self::message`].
    pub(crate) fn close(&mut self, tag: Secret) -> Result<Message, Rv> {
        let Opened { mut parameter, aad, held } = self.opened.take().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        parameter.tag = tag;
        self.message(&parameter, &aad, held)
    }

    /// One message.
    ///
    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID`, or the code for too much data.
    pub(crate) fn message(&self, parameter: &Parameter, aad: &[u8], mut data: Secret) -> Result<Message, Rv> {
        if data.len() > DATA_BYTES_MAX {
            return Err(self.wrong_length());
        }
        let mechanism = self.mechanism(parameter, aad)?;
        let key: ObjectRef = self.key.object.clone();
        let (request, nonce_bytes) = match (self.direction, &parameter.nonce) {
            (Direction::Encrypt, Nonce::Given(_)) => (Request::Encrypt { key, mechanism, data }, None),
            (Direction::Encrypt, Nonce::Made { bytes, .. }) => {
                (Request::EncryptMessage { key, mechanism, data }, Some(usize::from(*bytes)))
            }
            (Direction::Decrypt, Nonce::Given(_)) => {
                data.bytes_mut().extend_from_slice(&parameter.tag);
                (Request::Decrypt { key, mechanism, data }, None)
            }
            (Direction::Decrypt, Nonce::Made { .. }) => return Err(Rv::MECHANISM_PARAM_INVALID),
        };
        Ok(Message { request, tag_bytes: usize::from(parameter.tag_bits / 8), nonce_bytes })
    }

    fn mechanism(&self, parameter: &Parameter, aad: &[u8]) -> Result<Mechanism, Rv> {
        let (aad, tag_bits) = (Secret::from(aad), parameter.tag_bits);
        let parameters = match &parameter.nonce {
            Nonce::Given(nonce) if parameter.kind == MechanismType::CHACHA20_POLY1305 => {
                Parameters::Poly1305 { nonce: nonce.clone(), aad }
            }
            Nonce::Given(iv) => Parameters::Gcm { iv: iv.clone(), aad, tag_bits },
            Nonce::Made { bytes, fixed, fixed_bits } => Parameters::GcmGenerate {
                iv_bytes: *bytes,
                fixed: fixed.clone(),
                fixed_bits: *fixed_bits,
                aad,
                tag_bits,
            },
        };
        let mechanism = Mechanism { kind: self.kind, parameters };
        mechanism.check()?;
        Ok(mechanism)
    }

    fn wrong_length(&self) -> Rv {
        match self.direction {
            Direction::Encrypt => Rv::DATA_LEN_RANGE,
            Direction::Decrypt => Rv::ENCRYPTED_DATA_LEN_RANGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::{AttributeType, KeyType, ObjectClass};

    use super::super::usage::tests::key;
    use super::*;

    fn messaging(direction: Direction) -> Messaging {
        let usages = [AttributeType::ENCRYPT, AttributeType::DECRYPT];
        let key = Arc::new(key(ObjectClass::SECRET_KEY, KeyType::AES, &usages));
        Messaging::begin(direction, key, MechanismType::AES_GCM, RingPolicy::Strict).unwrap()
    }

    fn parameter(nonce: Nonce) -> Parameter {
        Parameter { kind: MechanismType::AES_GCM, nonce, tag_bits: 128, tag: Secret::default() }
    }

    fn given() -> Parameter {
        parameter(Nonce::Given(Secret::from(vec![1; 12])))
    }

    #[test]
    fn a_message_with_its_own_nonce_is_an_encryption_like_any_other() {
        let message =
            messaging(Direction::Encrypt).message(&given(), b"aad", Secret::from(vec![5; 3])).unwrap();
        assert!(matches!(message.request, Request::Encrypt { .. }));
        assert_eq!((message.tag_bytes, message.nonce_bytes), (16, None));
    }

    #[test]
    fn a_nonce_that_is_to_be_made_is_made_by_the_backend() {
        let made = || parameter(Nonce::Made { bytes: 12, fixed: Secret::default(), fixed_bits: 0 });
        let message = messaging(Direction::Encrypt).message(&made(), b"", Secret::default()).unwrap();
        assert!(matches!(message.request, Request::EncryptMessage { .. }));
        assert_eq!(message.nonce_bytes, Some(12));
        let refused = messaging(Direction::Decrypt).message(&made(), b"", Secret::default());
        assert_eq!(refused.err(), Some(Rv::MECHANISM_PARAM_INVALID));
    }

    #[test]
    fn parts_are_one_message_at_its_end() {
        let mut decrypt = messaging(Direction::Decrypt);
        assert_eq!(decrypt.hold(b"early"), Err(Rv::OPERATION_NOT_INITIALIZED));
        decrypt.open(given(), b"aad").unwrap();
        assert_eq!(decrypt.open(given(), b"aad"), Err(Rv::OPERATION_ACTIVE));
        decrypt.hold(b"one ").unwrap();
        decrypt.hold(b"two").unwrap();
        assert_eq!(decrypt.held(), Ok(7));
        let message = decrypt.close(Secret::from(b"tag".as_slice())).unwrap();
        let Request::Decrypt { data, .. } = message.request else { panic!("it is decrypted") };
        assert_eq!(&*data, b"one twotag");
        assert!(!decrypt.is_open());
    }

    #[test]
    fn another_mechanisms_parameter_is_refused() {
        let chacha = Parameter { kind: MechanismType::CHACHA20_POLY1305, ..given() };
        let refused = messaging(Direction::Encrypt).message(&chacha, b"", Secret::default());
        assert_eq!(refused.err(), Some(Rv::MECHANISM_PARAM_INVALID));
    }
}
