//! Everything a provider can ask. A request carries all that its answer needs: the backend keeps no session
//! (architecture D1), so any backend of a cluster can answer it, and so can the same one after a restart.

use serde::{Deserialize, Serialize};

use crate::attribute::Template;
use crate::id::{ObjectId, RequestId, SlotId};
use crate::mechanism::Mechanism;
use crate::response::Ticket;
use crate::secret::Secret;

/// The data of one request, in bytes. The frame has room for it and for what stands around it.
pub const DATA_BYTES_MAX: usize = 1 << 20;

/// The longest PIN, in bytes: `name:secret`, or a token of the service.
pub const PIN_BYTES_MAX: usize = 4096;

/// One question, with who asks it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RequestEnvelope {
    /// The same for each repetition of one request.
    pub id: RequestId,
    /// The token it concerns. [`Request::Slots`] concerns none and ignores it.
    pub slot: SlotId,
    /// The proof of login, if the application is logged in.
    pub ticket: Option<Ticket>,
    /// The question.
    pub request: Request,
}

/// The key or other object a request is about.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum ObjectRef {
    /// A token object, kept by the backend.
    Token(ObjectId),
    /// A session object, kept by the provider under the backends' seal (architecture D4).
    Session(Secret),
}

/// Which of the token's users logs in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// The security officer: sets the user's PIN.
    Officer,
    /// The user: uses the keys.
    User,
    /// The user again, for one operation of a key with `CKA_ALWAYS_AUTHENTICATE`.
    Context,
}

/// What can be asked.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Which slots there are. Response: `Slots`.
    Slots,
    /// `C_Login`. `pin` may be `name:secret`. Response: `LoggedIn`.
    Login {
        /// As whom.
        role: Role,
        /// The PIN.
        pin: Secret,
    },
    /// `C_InitPIN`: the officer sets the user's PIN. Response: `Done`.
    InitPin {
        /// The new PIN.
        pin: Secret,
    },
    /// `C_SetPIN`: whoever is logged in, or the user if nobody is, changes their own PIN. Response: `Done`.
    SetPin {
        /// Whose: the officer's or the user's.
        role: Role,
        /// The PIN as it is.
        old: Secret,
        /// The PIN as it shall be.
        new: Secret,
    },
    /// `C_FindObjectsInit`, or its next page. Response: `Found`, in ascending order of id.
    Find {
        /// What to look for; empty finds all.
        template: Template,
        /// The last object of the page before.
        after: Option<ObjectId>,
    },
    /// The attributes of an object that are no secret, fresh. Response: `Object`.
    Attributes {
        /// Which object.
        object: ObjectRef,
    },
    /// The secret attributes of a key that is neither sensitive nor unextractable. Response: `Revealed`.
    Reveal {
        /// Which key.
        object: ObjectRef,
    },
    /// `C_SetAttributeValue`: all attributes or none. Response: `Object`.
    SetAttributes {
        /// Which object.
        object: ObjectRef,
        /// The new values.
        template: Template,
    },
    /// `C_DestroyObject` of a token object: schedules the destruction of a key. Response: `Done`.
    Destroy {
        /// Which object.
        object: ObjectRef,
    },
    /// `C_GenerateKey`. Response: `Object`.
    Generate {
        /// How.
        mechanism: Mechanism,
        /// What it shall be like.
        template: Template,
    },
    /// `C_GenerateKeyPair`. Response: `Pair`.
    GeneratePair {
        /// How.
        mechanism: Mechanism,
        /// What the public half shall be like.
        public: Template,
        /// What the private half shall be like.
        private: Template,
    },
    /// `C_Encrypt` with a secret key. Response: `Bytes`.
    Encrypt {
        /// With what.
        key: ObjectRef,
        /// How.
        mechanism: Mechanism,
        /// What.
        data: Secret,
    },
    /// `C_Decrypt` with a secret or private key. Response: `Bytes`.
    Decrypt {
        /// With what.
        key: ObjectRef,
        /// How.
        mechanism: Mechanism,
        /// What.
        data: Secret,
    },
    /// `C_Sign`. Response: `Bytes`.
    Sign {
        /// With what.
        key: ObjectRef,
        /// How.
        mechanism: Mechanism,
        /// For a hash-then-sign mechanism the digest of the data (the provider hashed it), otherwise the data.
        data: Secret,
    },
    /// `C_Verify` of a MAC; signatures of key pairs are verified in the provider. Response: `Done`.
    Verify {
        /// With what.
        key: ObjectRef,
        /// How.
        mechanism: Mechanism,
        /// The data.
        data: Secret,
        /// The MAC to check.
        signature: Secret,
    },
    /// `C_CreateObject`. Response: `Object`.
    Create {
        /// What it shall be.
        template: Template,
    },
    /// `C_CopyObject`. Response: `Object`.
    Copy {
        /// What to copy.
        object: ObjectRef,
        /// What shall be different.
        template: Template,
    },
    /// `C_WrapKey`. Response: `Bytes`.
    Wrap {
        /// How.
        mechanism: Mechanism,
        /// With what.
        wrapping: ObjectRef,
        /// Which key.
        key: ObjectRef,
    },
    /// `C_UnwrapKey`. Response: `Object`.
    Unwrap {
        /// How.
        mechanism: Mechanism,
        /// With what.
        unwrapping: ObjectRef,
        /// The wrapped key.
        wrapped: Secret,
        /// What it shall be like.
        template: Template,
    },
    /// `C_DeriveKey`. Response: `Object`.
    Derive {
        /// How.
        mechanism: Mechanism,
        /// From what.
        base: ObjectRef,
        /// What the derived key shall be like.
        template: Template,
    },
    /// `C_EncapsulateKey` with a public key of the token or of the session. Response: `Encapsulated`.
    Encapsulate {
        /// How.
        mechanism: Mechanism,
        /// To which public key.
        public: ObjectRef,
        /// What the shared secret shall be like.
        template: Template,
    },
    /// `C_DecapsulateKey`. Response: `Object`.
    Decapsulate {
        /// How.
        mechanism: Mechanism,
        /// With which private key.
        private: ObjectRef,
        /// What was encapsulated.
        ciphertext: Secret,
        /// What the shared secret shall be like.
        template: Template,
    },
    /// `C_EncryptMessage` where the backend makes the nonce ([`crate::Parameters::GcmGenerate`]). Response: `Message`.
    EncryptMessage {
        /// With what.
        key: ObjectRef,
        /// How.
        mechanism: Mechanism,
        /// What.
        data: Secret,
    },
    /// `C_InitToken`: a new ring in the free slot, or an existing ring emptied by its security officer. Response: `Done`.
    InitToken {
        /// The security officer's PIN.
        pin: Secret,
        /// The token's label, at most 32 bytes of UTF-8, without padding.
        label: String,
    },
}

impl Request {
    /// The request's name, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Login { .. } => "login",
            Self::InitPin { .. } => "init-pin",
            Self::SetPin { .. } => "set-pin",
            Self::Find { .. } => "find",
            Self::Attributes { .. } => "attributes",
            Self::Reveal { .. } => "reveal",
            Self::SetAttributes { .. } => "set-attributes",
            Self::Destroy { .. } => "destroy",
            Self::Generate { .. } => "generate",
            Self::GeneratePair { .. } => "generate-pair",
            Self::Encrypt { .. } => "encrypt",
            Self::Decrypt { .. } => "decrypt",
            Self::Sign { .. } => "sign",
            Self::Verify { .. } => "verify",
            Self::Create { .. } => "create",
            Self::Copy { .. } => "copy",
            Self::Wrap { .. } => "wrap",
            Self::Unwrap { .. } => "unwrap",
            Self::Derive { .. } => "derive",
            Self::Encapsulate { .. } => "encapsulate",
            Self::Decapsulate { .. } => "decapsulate",
            Self::EncryptMessage { .. } => "encrypt-message",
            Self::InitToken { .. } => "init-token",
        }
    }
}
