//! Messages, encrypted or decrypted one after the other under one key (spec, "Message-based encryption functions").
//! Each message has its own nonce and tag and is one request: its parts are buffered until its end, because no output
//! may leave before the tag is checked. Pure: returns requests.

use std::sync::Arc;

use kms_protocol::{
    DATA_BYTES_MAX, Mechanism, MechanismType, ObjectRef, Parameters, Request, RingPolicy, Rv, Secret,
    mechanism_table,
};

use super::cipher::Direction;
use super::objects::ObjectInfo;
use super::usage::{self, Usage};

/// Where a message's nonce comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Nonce {
    /// The caller passes it.
    Provided(Secret),
    /// The backend generates it.
    Generated {
        /// Its length.
        bytes: u16,
        /// Its first bits, which the caller passes.
        fixed: Secret,
        /// The number of these bits.
        fixed_bits: u16,
    },
}

/// The parameter of one message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Parameter {
    /// The mechanism whose structure the caller passed.
    pub(crate) kind: MechanismType,
    /// The nonce.
    pub(crate) nonce: Nonce,
    /// The tag's length.
    pub(crate) tag_bits: u8,
    /// The tag, if one is to be checked.
    pub(crate) tag: Secret,
}

/// A message that is passed in parts.
struct OpenMessage {
    parameter: Parameter,
    aad: Secret,
    buffered: Secret,
}

/// Message encryption or decryption in progress.
pub(crate) struct MessageOperation {
    /// The key.
    pub(crate) key: Arc<ObjectInfo>,
    direction: Direction,
    kind: MechanismType,
    open_message: Option<OpenMessage>,
}

/// The request for one message.
pub(crate) struct MessageRequest {
    /// The request.
    pub(crate) request: Request,
    /// The length of the message's tag in bytes.
    pub(crate) tag_bytes: usize,
    /// The length of the nonce that the backend generates; none if the caller passed it.
    pub(crate) nonce_bytes: Option<usize>,
}

impl MessageOperation {
    /// `C_MessageEncryptInit`, `C_MessageDecryptInit`.
    ///
    /// # Errors
    /// When mechanism and key do not go together.
    pub(crate) fn begin(
        direction: Direction,
        key: Arc<ObjectInfo>,
        kind: MechanismType,
        policy: RingPolicy,
    ) -> Result<Self, Rv> {
        let usage = match direction {
            Direction::Encrypt => Usage::MessageEncrypt,
            Direction::Decrypt => Usage::MessageDecrypt,
        };
        let row = mechanism_table::row_of(kind).ok_or(Rv::MECHANISM_INVALID)?;
        usage::admit(usage, row, &key, policy)?;
        Ok(Self { key, direction, kind, open_message: None })
    }

    /// Whether a message was begun and has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.open_message.is_some()
    }

    /// `C_EncryptMessageBegin`, `C_DecryptMessageBegin`.
    ///
    /// # Errors
    /// `CKR_OPERATION_ACTIVE` while a message is open, `CKR_MECHANISM_PARAM_INVALID` for a parameter that the mechanism
    /// does not take.
    pub(crate) fn begin_message(&mut self, parameter: Parameter, aad: &[u8]) -> Result<(), Rv> {
        if self.is_open() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        self.mechanism(&parameter, aad)?;
        self.open_message =
            Some(OpenMessage { parameter, aad: Secret::from(aad), buffered: Secret::default() });
        Ok(())
    }

    /// The number of bytes buffered of the open message.
    ///
    /// # Errors
    /// `CKR_OPERATION_NOT_INITIALIZED` when none is open.
    pub(crate) fn buffered_bytes(&self) -> Result<usize, Rv> {
        let message = self.open_message.as_ref().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        Ok(message.buffered.len())
    }

    /// Buffers a part of the open message.
    ///
    /// # Errors
    /// The code for too much data, `CKR_OPERATION_NOT_INITIALIZED` when no message is open.
    pub(crate) fn buffer(&mut self, data: &[u8]) -> Result<(), Rv> {
        let too_much = self.wrong_length();
        let message = self.open_message.as_mut().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        if message.buffered.len().saturating_add(data.len()) > DATA_BYTES_MAX {
            return Err(too_much);
        }
        message.buffered.bytes_mut().extend_from_slice(data);
        Ok(())
    }

    /// Ends the open message. A tag that is to be checked is passed with the last part.
    ///
    /// # Errors
    /// As for [`Self::request`].
    pub(crate) fn end_message(&mut self, tag: Secret) -> Result<MessageRequest, Rv> {
        let message = self.open_message.take().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        let OpenMessage { mut parameter, aad, buffered } = message;
        parameter.tag = tag;
        self.request(&parameter, &aad, buffered)
    }

    /// The request for one whole message.
    ///
    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID`, or the code for too much data.
    pub(crate) fn request(
        &self,
        parameter: &Parameter,
        aad: &[u8],
        mut data: Secret,
    ) -> Result<MessageRequest, Rv> {
        if data.len() > DATA_BYTES_MAX {
            return Err(self.wrong_length());
        }
        let mechanism = self.mechanism(parameter, aad)?;
        let key: ObjectRef = self.key.object.clone();
        let (request, nonce_bytes) = match (self.direction, &parameter.nonce) {
            (Direction::Encrypt, Nonce::Provided(_)) => (Request::Encrypt { key, mechanism, data }, None),
            (Direction::Encrypt, Nonce::Generated { bytes, .. }) => {
                (Request::EncryptMessage { key, mechanism, data }, Some(usize::from(*bytes)))
            }
            (Direction::Decrypt, Nonce::Provided(_)) => {
                data.bytes_mut().extend_from_slice(&parameter.tag);
                (Request::Decrypt { key, mechanism, data }, None)
            }
            (Direction::Decrypt, Nonce::Generated { .. }) => return Err(Rv::MECHANISM_PARAM_INVALID),
        };
        Ok(MessageRequest { request, tag_bytes: usize::from(parameter.tag_bits / 8), nonce_bytes })
    }

    fn mechanism(&self, parameter: &Parameter, aad: &[u8]) -> Result<Mechanism, Rv> {
        let (aad, tag_bits) = (Secret::from(aad), parameter.tag_bits);
        let parameters = match &parameter.nonce {
            Nonce::Provided(nonce) if parameter.kind == MechanismType::CHACHA20_POLY1305 => {
                Parameters::Poly1305 { nonce: nonce.clone(), aad }
            }
            Nonce::Provided(iv) => Parameters::Gcm { iv: iv.clone(), aad, tag_bits },
            Nonce::Generated { bytes, fixed, fixed_bits } => Parameters::GcmGenerate {
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

    fn operation(direction: Direction) -> MessageOperation {
        let usages = [AttributeType::ENCRYPT, AttributeType::DECRYPT];
        let key = Arc::new(key(ObjectClass::SECRET_KEY, KeyType::AES, &usages));
        MessageOperation::begin(direction, key, MechanismType::AES_GCM, RingPolicy::Strict).unwrap()
    }

    fn parameter(nonce: Nonce) -> Parameter {
        Parameter { kind: MechanismType::AES_GCM, nonce, tag_bits: 128, tag: Secret::default() }
    }

    fn provided() -> Parameter {
        parameter(Nonce::Provided(Secret::from(vec![1; 12])))
    }

    #[test]
    fn a_message_with_a_provided_nonce_is_a_classic_encryption() {
        let message =
            operation(Direction::Encrypt).request(&provided(), b"aad", Secret::from(vec![5; 3])).unwrap();
        assert!(matches!(message.request, Request::Encrypt { .. }));
        assert_eq!((message.tag_bytes, message.nonce_bytes), (16, None));
    }

    #[test]
    fn the_backend_generates_nonces() {
        let generated = || parameter(Nonce::Generated { bytes: 12, fixed: Secret::default(), fixed_bits: 0 });
        let message = operation(Direction::Encrypt).request(&generated(), b"", Secret::default()).unwrap();
        assert!(matches!(message.request, Request::EncryptMessage { .. }));
        assert_eq!(message.nonce_bytes, Some(12));
        let rejected = operation(Direction::Decrypt).request(&generated(), b"", Secret::default());
        assert_eq!(rejected.err(), Some(Rv::MECHANISM_PARAM_INVALID));
    }

    #[test]
    fn parts_become_one_request_at_the_end() {
        let mut decrypt = operation(Direction::Decrypt);
        assert_eq!(decrypt.buffer(b"early"), Err(Rv::OPERATION_NOT_INITIALIZED));
        decrypt.begin_message(provided(), b"aad").unwrap();
        assert_eq!(decrypt.begin_message(provided(), b"aad"), Err(Rv::OPERATION_ACTIVE));
        decrypt.buffer(b"one ").unwrap();
        decrypt.buffer(b"two").unwrap();
        assert_eq!(decrypt.buffered_bytes(), Ok(7));
        let message = decrypt.end_message(Secret::from(b"tag".as_slice())).unwrap();
        let Request::Decrypt { data, .. } = message.request else { panic!("a decryption is requested") };
        assert_eq!(&*data, b"one twotag");
        assert!(!decrypt.is_open());
    }

    #[test]
    fn the_parameter_of_another_mechanism_is_rejected() {
        let chacha = Parameter { kind: MechanismType::CHACHA20_POLY1305, ..provided() };
        let rejected = operation(Direction::Encrypt).request(&chacha, b"", Secret::default());
        assert_eq!(rejected.err(), Some(Rv::MECHANISM_PARAM_INVALID));
    }
}
