//! The requests of the provider. A request contains all that its response depends on: the backend has no session state
//! (architecture D1), so any backend of a cluster can process it, and so can the same one after a restart.

use serde::{Deserialize, Serialize};

use crate::attribute::Template;
use crate::id::{ObjectId, RequestId, SlotId};
use crate::mechanism::Mechanism;
use crate::response::Ticket;
use crate::secret::Secret;

/// The maximum data of one request, in bytes. A frame has space for it and for the fields around it.
pub const DATA_BYTES_MAX: usize = 1 << 20;

/// The maximum length of a PIN, in bytes: `name:secret`, or a service account's token.
pub const PIN_BYTES_MAX: usize = 4096;

/// One request, with the slot and the login that it is made for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RequestEnvelope {
    /// The id, the same for each repetition of one request.
    pub id: RequestId,
    /// The slot of the token. [`Request::Slots`] ignores it.
    pub slot: SlotId,
    /// The proof of login, if the application is logged in.
    pub ticket: Option<Ticket>,
    /// The request itself.
    pub request: Request,
}

/// A reference to a key or another object.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum ObjectRef {
    /// A token object, stored by the backend.
    Token(ObjectId),
    /// A session object, held by the provider and sealed by the backends (architecture D4).
    Session(Secret),
}

/// The user type of a login.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// The security officer, who sets the user's PIN.
    Officer,
    /// The user, who uses the keys.
    User,
    /// The user's context-specific login. Providers of version 1 send it; it permits nothing, and
    /// [`Request::ProveUse`] took its place.
    Context,
}

/// A request; each variant names its response.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// The list of slots. Response: `Slots`.
    Slots,
    /// `C_Login`. `pin` may be `name:secret`. Response: `LoggedIn`.
    Login {
        /// The user type.
        role: Role,
        /// The PIN.
        pin: Secret,
    },
    /// `C_InitPIN`: the officer sets the user's PIN. Response: `Done`.
    InitPin {
        /// The new PIN.
        pin: Secret,
    },
    /// `C_SetPIN`: the logged-in user, or the normal user without a login, changes their own PIN. Response: `Done`.
    SetPin {
        /// Whose PIN: the officer's or the user's.
        role: Role,
        /// The current PIN.
        old: Secret,
        /// The new PIN.
        new: Secret,
    },
    /// `C_FindObjectsInit`, or the next page of its result. Response: `Found`, in ascending order of id.
    Find {
        /// The search template; an empty one finds all objects.
        template: Template,
        /// The last object of the previous page.
        after: Option<ObjectId>,
    },
    /// The current attributes of an object, except those that are secret. Response: `Object`.
    Attributes {
        /// The object.
        object: ObjectRef,
    },
    /// The secret attributes of a key that is neither sensitive nor unextractable. Response: `Revealed`.
    Reveal {
        /// The key.
        object: ObjectRef,
    },
    /// `C_SetAttributeValue`: all attributes or none. Response: `Object`.
    SetAttributes {
        /// The object.
        object: ObjectRef,
        /// The new values.
        template: Template,
    },
    /// `C_DestroyObject` of a token object: schedules the destruction of a key. Response: `Done`.
    Destroy {
        /// The object.
        object: ObjectRef,
    },
    /// `C_GenerateKey`. Response: `Object`.
    Generate {
        /// The mechanism.
        mechanism: Mechanism,
        /// The template of the key.
        template: Template,
    },
    /// `C_GenerateKeyPair`. Response: `Pair`.
    GeneratePair {
        /// The mechanism.
        mechanism: Mechanism,
        /// The template of the public key.
        public: Template,
        /// The template of the private key.
        private: Template,
    },
    /// `C_Encrypt` with a secret key. Response: `Bytes`.
    Encrypt {
        /// The key.
        key: ObjectRef,
        /// The mechanism.
        mechanism: Mechanism,
        /// The data.
        data: Secret,
    },
    /// `C_Decrypt` with a secret or private key. Response: `Bytes`.
    Decrypt {
        /// The key.
        key: ObjectRef,
        /// The mechanism.
        mechanism: Mechanism,
        /// The data.
        data: Secret,
    },
    /// `C_Sign`. Response: `Bytes`.
    Sign {
        /// The key.
        key: ObjectRef,
        /// The mechanism.
        mechanism: Mechanism,
        /// For a hash-then-sign mechanism the digest of the data (the provider hashed it), otherwise the data.
        data: Secret,
    },
    /// `C_Verify` of a MAC; signatures of key pairs are verified in the provider. Response: `Done`.
    Verify {
        /// The key.
        key: ObjectRef,
        /// The mechanism.
        mechanism: Mechanism,
        /// The data.
        data: Secret,
        /// The MAC to check.
        signature: Secret,
    },
    /// `C_CreateObject`. Response: `Object`.
    Create {
        /// The template of the object.
        template: Template,
    },
    /// `C_CopyObject`. Response: `Object`.
    Copy {
        /// The object to copy.
        object: ObjectRef,
        /// The attributes that differ in the copy.
        template: Template,
    },
    /// `C_WrapKey`. Response: `Bytes`.
    Wrap {
        /// The mechanism.
        mechanism: Mechanism,
        /// The wrapping key.
        wrapping: ObjectRef,
        /// The key to wrap.
        key: ObjectRef,
    },
    /// `C_UnwrapKey`. Response: `Object`.
    Unwrap {
        /// The mechanism.
        mechanism: Mechanism,
        /// The unwrapping key.
        unwrapping: ObjectRef,
        /// The wrapped key.
        wrapped: Secret,
        /// The template of the key.
        template: Template,
    },
    /// `C_DeriveKey`. Response: `Object`.
    Derive {
        /// The mechanism.
        mechanism: Mechanism,
        /// The base key.
        base: ObjectRef,
        /// The template of the derived key.
        template: Template,
    },
    /// `C_EncapsulateKey` with a public key of the token or of the session. Response: `Encapsulated`.
    Encapsulate {
        /// The mechanism.
        mechanism: Mechanism,
        /// The public key.
        public: ObjectRef,
        /// The template of the shared secret.
        template: Template,
    },
    /// `C_DecapsulateKey`. Response: `Object`.
    Decapsulate {
        /// The mechanism.
        mechanism: Mechanism,
        /// The private key.
        private: ObjectRef,
        /// The encapsulated secret.
        ciphertext: Secret,
        /// The template of the shared secret.
        template: Template,
    },
    /// `C_EncryptMessage` where the backend generates the nonce ([`crate::Parameters::GcmGenerate`]). Response:
    /// `Message`.
    EncryptMessage {
        /// The key.
        key: ObjectRef,
        /// The mechanism.
        mechanism: Mechanism,
        /// The data.
        data: Secret,
    },
    /// `C_InitToken`: a new ring in the free slot, or an existing ring emptied by its security officer. Response:
    /// `Done`.
    InitToken {
        /// The security officer's PIN.
        pin: Secret,
        /// The token's label, at most 32 bytes of UTF-8, without padding.
        label: String,
    },
    /// `C_Login` with `CKU_CONTEXT_SPECIFIC`: the logged-in user proves the PIN again, for one use of a key with
    /// `CKA_ALWAYS_AUTHENTICATE`. Response: `Proof`.
    ProveUse {
        /// The key.
        key: ObjectRef,
        /// The PIN, as in `Login`.
        pin: Secret,
    },
    /// `C_Sign` with a key that needs a proof; the proof is used up. Response: `Bytes`.
    SignProven {
        /// The key.
        key: ObjectRef,
        /// The mechanism.
        mechanism: Mechanism,
        /// As in `Sign`.
        data: Secret,
        /// The proof.
        proof: Secret,
    },
    /// `C_Decrypt` with a key that needs a proof; the proof is used up. Response: `Bytes`.
    DecryptProven {
        /// The key.
        key: ObjectRef,
        /// The mechanism.
        mechanism: Mechanism,
        /// The data.
        data: Secret,
        /// The proof.
        proof: Secret,
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
            Self::ProveUse { .. } => "prove-use",
            Self::SignProven { .. } => "sign-proven",
            Self::DecryptProven { .. } => "decrypt-proven",
        }
    }
}
