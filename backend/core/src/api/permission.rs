//! Permissions, with the names of the vendor's identity service where it has one.

use std::fmt;

/// A permission: one action on one kind of resource in a project, or in one of its rings.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Permission {
    /// See the list of rings.
    KeyringList,
    /// Create a ring.
    KeyringCreate,
    /// See a ring.
    KeyringGet,
    /// Change a ring: its description, its wrapping keys.
    KeyringUpdate,
    /// Delete a ring.
    KeyringDelete,
    /// See the list of keys, versions and wrapping keys.
    KeyList,
    /// See a key, a version or a wrapping key.
    KeyGet,
    /// Create a key.
    KeyCreate,
    /// Change a key: description, tags, rotation period.
    KeyUpdate,
    /// Delete and restore a key.
    KeyDelete,
    /// Create the next version, generated or imported.
    KeyRotate,
    /// Import a version.
    KeyImport,
    /// Enable, disable, destroy and restore a version.
    VersionManage,
    /// Encrypt; generate data keys.
    VersionEncrypt,
    /// Decrypt.
    VersionDecrypt,
    /// Sign.
    VersionSign,
    /// Verify.
    VersionVerify,
    /// Read the audit log.
    AuditRead,
    /// Export the metadata; read amounts and usage.
    ProjectExport,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::KeyringList,
        Self::KeyringCreate,
        Self::KeyringGet,
        Self::KeyringUpdate,
        Self::KeyringDelete,
        Self::KeyList,
        Self::KeyGet,
        Self::KeyCreate,
        Self::KeyUpdate,
        Self::KeyDelete,
        Self::KeyRotate,
        Self::KeyImport,
        Self::VersionManage,
        Self::VersionEncrypt,
        Self::VersionDecrypt,
        Self::VersionSign,
        Self::VersionVerify,
        Self::AuditRead,
        Self::ProjectExport,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyringList => "kms.keyring.list",
            Self::KeyringCreate => "kms.keyring.create",
            Self::KeyringGet => "kms.keyring.get",
            Self::KeyringUpdate => "kms.keyring.update",
            Self::KeyringDelete => "kms.keyring.delete",
            Self::KeyList => "kms.key.list",
            Self::KeyGet => "kms.key.get",
            Self::KeyCreate => "kms.key.create",
            Self::KeyUpdate => "kms.key.update",
            Self::KeyDelete => "kms.key.delete",
            Self::KeyRotate => "kms.key.rotate",
            Self::KeyImport => "kms.key.import",
            Self::VersionManage => "kms.key.version.manage",
            Self::VersionEncrypt => "kms.key.version.encrypt",
            Self::VersionDecrypt => "kms.key.version.decrypt",
            Self::VersionSign => "kms.key.version.sign",
            Self::VersionVerify => "kms.key.version.verify",
            Self::AuditRead => "audit-log.entry.get",
            Self::ProjectExport => "kms.project.export",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
