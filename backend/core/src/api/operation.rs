//! The operations of the API, which the REST listener passes to the dispatcher, and their outcomes.

use uuid::Uuid;

use super::{
    Amounts, CreateKey, CreateKeyRing, CreateWrappingKey, Data, DataKey, DecryptedData, EditKey, EditKeyRing,
    EncryptedData, ImportKey, Key, KeyList, KeyRing, KeyRingList, MakeDataKey, Page, Permission, SignedData,
    VerifiedData, Version, VersionList, VersionedData, WrappingKey, WrappingKeyList,
};

/// The path of a ring in a project.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RingPath {
    /// The project.
    pub project: Uuid,
    /// The ring.
    pub ring: Uuid,
}

impl RingPath {
    /// The ring's resource name in the audit log.
    pub fn resource(self) -> String {
        Subject::Ring(self).resource()
    }
}

/// The path of a key in a ring.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyPath {
    /// The ring.
    pub ring: RingPath,
    /// The key.
    pub key: Uuid,
}

/// The path of a version of a key. A number that no version can have (0, negative) names no version.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct VersionPath {
    /// The key.
    pub key: KeyPath,
    /// The version's number, as the client sent it.
    pub number: i64,
}

/// The path of a wrapping key in a ring.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct WrappingKeyPath {
    /// The ring.
    pub ring: RingPath,
    /// The wrapping key.
    pub key: Uuid,
}

/// The resource that an operation concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A project as a whole.
    Project(Uuid),
    /// A ring.
    Ring(RingPath),
    /// A key.
    Key(KeyPath),
    /// A version of a key.
    Version(VersionPath),
    /// A wrapping key.
    WrappingKey(WrappingKeyPath),
}

impl Subject {
    /// The project.
    pub fn project(self) -> Uuid {
        match self {
            Self::Project(project) => project,
            Self::Ring(RingPath { project, .. })
            | Self::Key(KeyPath { ring: RingPath { project, .. }, .. })
            | Self::Version(VersionPath { key: KeyPath { ring: RingPath { project, .. }, .. }, .. })
            | Self::WrappingKey(WrappingKeyPath { ring: RingPath { project, .. }, .. }) => project,
        }
    }

    /// The ring, unless it is a project.
    pub fn ring(self) -> Option<Uuid> {
        match self {
            Self::Project(_) => None,
            Self::Ring(ring)
            | Self::Key(KeyPath { ring, .. })
            | Self::Version(VersionPath { key: KeyPath { ring, .. }, .. })
            | Self::WrappingKey(WrappingKeyPath { ring, .. }) => Some(ring.ring),
        }
    }

    /// The resource's name in the audit log: `projects/…/keyrings/…/keys/…/versions/…`.
    pub fn resource(self) -> String {
        let ring = |ring: RingPath| format!("projects/{}/keyrings/{}", ring.project, ring.ring);
        let key = |path: KeyPath| format!("{}/keys/{}", ring(path.ring), path.key);
        match self {
            Self::Project(project) => format!("projects/{project}"),
            Self::Ring(path) => ring(path),
            Self::Key(path) => key(path),
            Self::Version(path) => format!("{}/versions/{}", key(path.key), path.number),
            Self::WrappingKey(path) => format!("{}/wrappingkeys/{}", ring(path.ring), path.key),
        }
    }
}

/// An operation. The first 25 are those of the public API; the others are extensions.
///
/// `repeat` is the client's idempotency key: a request repeated with the same key within a day creates nothing again.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the API's operation of the same name")]
pub enum Operation {
    ListKeyRings {
        project: Uuid,
        page: Page,
    },
    CreateKeyRing {
        project: Uuid,
        ask: CreateKeyRing,
        repeat: Option<Uuid>,
    },
    GetKeyRing(RingPath),
    DeleteKeyRing(RingPath),
    ListKeys {
        ring: RingPath,
        page: Page,
    },
    CreateKey {
        ring: RingPath,
        ask: CreateKey,
        repeat: Option<Uuid>,
    },
    GetKey(KeyPath),
    DeleteKey(KeyPath),
    ImportKey {
        key: KeyPath,
        ask: ImportKey,
    },
    RestoreKey(KeyPath),
    RotateKey(KeyPath),
    ListVersions {
        key: KeyPath,
        page: Page,
    },
    GetVersion(VersionPath),
    Encrypt {
        version: VersionPath,
        data: Data,
        aad: Vec<u8>,
    },
    Decrypt {
        version: VersionPath,
        data: Data,
        aad: Vec<u8>,
    },
    Sign {
        version: VersionPath,
        data: Data,
    },
    Verify {
        version: VersionPath,
        data: Data,
        signature: Vec<u8>,
    },
    DestroyVersion(VersionPath),
    DisableVersion(VersionPath),
    EnableVersion(VersionPath),
    RestoreVersion(VersionPath),
    ListWrappingKeys {
        ring: RingPath,
        page: Page,
    },
    CreateWrappingKey {
        ring: RingPath,
        ask: CreateWrappingKey,
        repeat: Option<Uuid>,
    },
    GetWrappingKey(WrappingKeyPath),
    DeleteWrappingKey(WrappingKeyPath),
    /// Changes a ring's name or description.
    EditKeyRing {
        ring: RingPath,
        ask: EditKeyRing,
    },
    /// Changes a key's name, description, tags or rotation period.
    EditKey {
        key: KeyPath,
        ask: EditKey,
    },
    /// Encrypts under the current version: the highest active one.
    EncryptCurrent {
        key: KeyPath,
        data: Data,
        aad: Vec<u8>,
    },
    /// Decrypts under the version that the ciphertext names.
    DecryptAny {
        key: KeyPath,
        data: Data,
        aad: Vec<u8>,
    },
    /// Decrypts and encrypts again under the current version, without returning the plaintext.
    ReEncrypt {
        key: KeyPath,
        data: Data,
        aad: Vec<u8>,
    },
    /// Generates a data key, encrypted under the current version.
    MakeDataKey {
        key: KeyPath,
        ask: MakeDataKey,
    },
    /// Counts the resources of a project.
    Amounts {
        project: Uuid,
    },
}

/// The result of a successful operation.
#[derive(Clone)]
#[expect(missing_docs, reason = "each is the body of that name in the API")]
pub enum Outcome {
    KeyRing(KeyRing),
    KeyRings(KeyRingList),
    Key(Key),
    Keys(KeyList),
    Version(Version),
    Versions(VersionList),
    WrappingKey(WrappingKey),
    WrappingKeys(WrappingKeyList),
    Encrypted(EncryptedData),
    Decrypted(DecryptedData),
    Signed(SignedData),
    Verified(VerifiedData),
    Versioned(VersionedData),
    DataKey(DataKey),
    Amounts(Amounts),
    /// No body.
    Done,
}

impl Operation {
    /// Whether it only shows what is known about keys, and neither uses nor changes one.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::ListKeyRings { .. }
                | Self::GetKeyRing(_)
                | Self::ListKeys { .. }
                | Self::GetKey(_)
                | Self::ListVersions { .. }
                | Self::GetVersion(_)
                | Self::ListWrappingKeys { .. }
                | Self::GetWrappingKey(_)
                | Self::Amounts { .. }
        )
    }

    /// Its name in the audit log.
    pub fn event(&self) -> &'static str {
        match self {
            Self::ListKeyRings { .. } => "kms.keyring.list",
            Self::CreateKeyRing { .. } => "kms.keyring.create",
            Self::GetKeyRing(_) => "kms.keyring.get",
            Self::DeleteKeyRing(_) => "kms.keyring.delete",
            Self::EditKeyRing { .. } => "kms.keyring.update",
            Self::ListKeys { .. } => "kms.key.list",
            Self::CreateKey { .. } => "kms.key.create",
            Self::GetKey(_) => "kms.key.get",
            Self::DeleteKey(_) => "kms.key.delete",
            Self::EditKey { .. } => "kms.key.update",
            Self::ImportKey { .. } => "kms.key.import",
            Self::RestoreKey(_) => "kms.key.restore",
            Self::RotateKey(_) => "kms.key.rotate",
            Self::ListVersions { .. } => "kms.key.version.list",
            Self::GetVersion(_) => "kms.key.version.get",
            Self::Encrypt { .. } | Self::EncryptCurrent { .. } => "kms.key.version.encrypt",
            Self::Decrypt { .. } | Self::DecryptAny { .. } => "kms.key.version.decrypt",
            Self::ReEncrypt { .. } => "kms.key.version.re-encrypt",
            Self::MakeDataKey { .. } => "kms.key.version.make-data-key",
            Self::Sign { .. } => "kms.key.version.sign",
            Self::Verify { .. } => "kms.key.version.verify",
            Self::DestroyVersion(_) => "kms.key.version.destroy",
            Self::DisableVersion(_) => "kms.key.version.disable",
            Self::EnableVersion(_) => "kms.key.version.enable",
            Self::RestoreVersion(_) => "kms.key.version.restore",
            Self::ListWrappingKeys { .. } => "kms.wrapping-key.list",
            Self::CreateWrappingKey { .. } => "kms.wrapping-key.create",
            Self::GetWrappingKey(_) => "kms.wrapping-key.get",
            Self::DeleteWrappingKey(_) => "kms.wrapping-key.delete",
            Self::Amounts { .. } => "kms.project.amounts",
        }
    }

    /// The permissions that the caller needs.
    pub fn permissions(&self) -> &'static [Permission] {
        match self {
            Self::ListKeyRings { .. } => &[Permission::KeyringList],
            Self::CreateKeyRing { .. } => &[Permission::KeyringCreate],
            Self::GetKeyRing(_) => &[Permission::KeyringGet],
            Self::DeleteKeyRing(_) => &[Permission::KeyringDelete],
            Self::EditKeyRing { .. } | Self::CreateWrappingKey { .. } | Self::DeleteWrappingKey(_) => {
                &[Permission::KeyringUpdate]
            }
            Self::ListKeys { .. } | Self::ListVersions { .. } | Self::ListWrappingKeys { .. } => {
                &[Permission::KeyList]
            }
            Self::CreateKey { .. } => &[Permission::KeyCreate],
            Self::GetKey(_) | Self::GetVersion(_) | Self::GetWrappingKey(_) => &[Permission::KeyGet],
            Self::DeleteKey(_) | Self::RestoreKey(_) => &[Permission::KeyDelete],
            Self::EditKey { .. } => &[Permission::KeyUpdate],
            Self::ImportKey { .. } => &[Permission::KeyImport],
            Self::RotateKey(_) => &[Permission::KeyRotate],
            Self::Encrypt { .. } | Self::EncryptCurrent { .. } | Self::MakeDataKey { .. } => {
                &[Permission::VersionEncrypt]
            }
            Self::Decrypt { .. } | Self::DecryptAny { .. } => &[Permission::VersionDecrypt],
            Self::ReEncrypt { .. } => &[Permission::VersionDecrypt, Permission::VersionEncrypt],
            Self::Sign { .. } => &[Permission::VersionSign],
            Self::Verify { .. } => &[Permission::VersionVerify],
            Self::DestroyVersion(_)
            | Self::DisableVersion(_)
            | Self::EnableVersion(_)
            | Self::RestoreVersion(_) => &[Permission::VersionManage],
            Self::Amounts { .. } => &[Permission::ProjectExport],
        }
    }

    /// The resource that it concerns.
    pub fn subject(&self) -> Subject {
        match self {
            Self::ListKeyRings { project, .. }
            | Self::CreateKeyRing { project, .. }
            | Self::Amounts { project } => Subject::Project(*project),
            Self::GetKeyRing(ring)
            | Self::DeleteKeyRing(ring)
            | Self::EditKeyRing { ring, .. }
            | Self::ListKeys { ring, .. }
            | Self::CreateKey { ring, .. }
            | Self::ListWrappingKeys { ring, .. }
            | Self::CreateWrappingKey { ring, .. } => Subject::Ring(*ring),
            Self::GetWrappingKey(path) | Self::DeleteWrappingKey(path) => Subject::WrappingKey(*path),
            Self::GetKey(key)
            | Self::DeleteKey(key)
            | Self::RestoreKey(key)
            | Self::RotateKey(key)
            | Self::ImportKey { key, .. }
            | Self::ListVersions { key, .. }
            | Self::EditKey { key, .. }
            | Self::EncryptCurrent { key, .. }
            | Self::DecryptAny { key, .. }
            | Self::ReEncrypt { key, .. }
            | Self::MakeDataKey { key, .. } => Subject::Key(*key),
            Self::GetVersion(version)
            | Self::DestroyVersion(version)
            | Self::DisableVersion(version)
            | Self::EnableVersion(version)
            | Self::RestoreVersion(version)
            | Self::Encrypt { version, .. }
            | Self::Decrypt { version, .. }
            | Self::Sign { version, .. }
            | Self::Verify { version, .. } => Subject::Version(*version),
        }
    }

    /// Whether it changes something, and so is always recorded in the audit log.
    pub fn is_administrative(&self) -> bool {
        match self {
            Self::CreateKeyRing { .. }
            | Self::DeleteKeyRing(_)
            | Self::EditKeyRing { .. }
            | Self::CreateKey { .. }
            | Self::DeleteKey(_)
            | Self::EditKey { .. }
            | Self::ImportKey { .. }
            | Self::RestoreKey(_)
            | Self::RotateKey(_)
            | Self::DestroyVersion(_)
            | Self::DisableVersion(_)
            | Self::EnableVersion(_)
            | Self::RestoreVersion(_)
            | Self::CreateWrappingKey { .. }
            | Self::DeleteWrappingKey(_) => true,
            Self::ListKeyRings { .. }
            | Self::GetKeyRing(_)
            | Self::ListKeys { .. }
            | Self::GetKey(_)
            | Self::ListVersions { .. }
            | Self::GetVersion(_)
            | Self::ListWrappingKeys { .. }
            | Self::GetWrappingKey(_)
            | Self::Amounts { .. } => false,
            Self::Encrypt { .. }
            | Self::Decrypt { .. }
            | Self::Sign { .. }
            | Self::Verify { .. }
            | Self::EncryptCurrent { .. }
            | Self::DecryptAny { .. }
            | Self::ReEncrypt { .. }
            | Self::MakeDataKey { .. } => false,
        }
    }

    /// The HTTP status of success.
    pub fn success(&self) -> u16 {
        match self {
            Self::CreateKeyRing { .. }
            | Self::CreateKey { .. }
            | Self::DeleteKey(_)
            | Self::ImportKey { .. }
            | Self::RotateKey(_)
            | Self::CreateWrappingKey { .. } => 202,
            Self::DeleteKeyRing(_)
            | Self::RestoreKey(_)
            | Self::DestroyVersion(_)
            | Self::DisableVersion(_)
            | Self::EnableVersion(_)
            | Self::RestoreVersion(_)
            | Self::DeleteWrappingKey(_) => 204,
            Self::ListKeyRings { .. }
            | Self::GetKeyRing(_)
            | Self::EditKeyRing { .. }
            | Self::ListKeys { .. }
            | Self::GetKey(_)
            | Self::EditKey { .. }
            | Self::ListVersions { .. }
            | Self::GetVersion(_)
            | Self::ListWrappingKeys { .. }
            | Self::GetWrappingKey(_) => 200,
            Self::Encrypt { .. }
            | Self::Decrypt { .. }
            | Self::Sign { .. }
            | Self::Verify { .. }
            | Self::EncryptCurrent { .. }
            | Self::DecryptAny { .. }
            | Self::ReEncrypt { .. }
            | Self::MakeDataKey { .. }
            | Self::Amounts { .. } => 200,
        }
    }

    /// Whether it uses a key's material.
    pub fn is_cryptographic(&self) -> bool {
        let uses = [
            Permission::VersionEncrypt,
            Permission::VersionDecrypt,
            Permission::VersionSign,
            Permission::VersionVerify,
        ];
        self.permissions().iter().any(|permission| uses.contains(permission))
    }
}
