//! The rows of the table of C API operations, and the target of each in relation to SoftHSM's time.

/// A row of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Row {
    Gcm,
    Message,
    Rsa2048,
    Rsa4096,
    P256,
    Attributes,
    Generate,
    GenerateSession,
    Find,
}

impl Row {
    /// All rows. `Find` comes last, because the thousand keys that it creates would slow the others down.
    pub(crate) const ALL: [Self; 9] = [
        Self::Gcm,
        Self::Message,
        Self::Rsa2048,
        Self::Rsa4096,
        Self::P256,
        Self::Attributes,
        Self::Generate,
        Self::GenerateSession,
        Self::Find,
    ];

    /// The name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gcm => "AES-256-GCM encrypt 1 KiB",
            Self::Message => "the same by C_EncryptMessage with a generated IV, against C_Encrypt of the KMS",
            Self::Rsa2048 => "RSA-2048 sign (SHA-256, PKCS #1)",
            Self::Rsa4096 => "RSA-4096 sign (SHA-256, PKCS #1)",
            Self::P256 => "ECDSA P-256 sign",
            Self::Attributes => "read five attributes of a key",
            Self::Generate => "generate a token AES key",
            Self::GenerateSession => "generate a session AES key",
            Self::Find => "find by label among 1,000 keys",
        }
    }

    /// The name that the worker and `KMS_BENCH_ROWS` use.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Gcm => "gcm",
            Self::Message => "message",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa4096 => "rsa4096",
            Self::P256 => "p256",
            Self::Attributes => "attributes",
            Self::Generate => "generate",
            Self::GenerateSession => "generate-session",
            Self::Find => "find",
        }
    }

    /// The row with this id.
    pub(crate) fn of(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.id() == id)
    }

    /// For an operation that SoftHSM does not have: the row of the KMS that it is compared with.
    pub(crate) fn own_reference(self) -> Option<Self> {
        (self == Self::Message).then_some(Self::Gcm)
    }

    /// The target: the highest ratio of the KMS's time to SoftHSM's.
    pub(crate) fn target(self) -> f64 {
        match self {
            Self::Gcm => 1.0,
            // Equal, plus the noise of one run.
            Self::Message => 1.1,
            Self::Rsa2048 => 0.9,
            Self::Rsa4096 => 0.6,
            Self::P256 => 0.8,
            Self::Attributes => 0.1,
            Self::Generate | Self::GenerateSession => 0.5,
            Self::Find => 0.01,
        }
    }
}
