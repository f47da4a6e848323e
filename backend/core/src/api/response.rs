//! What operations answer, in the API's own shapes. Optional fields without a value are left out.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    AccessScope, Algorithm, KeyState, Purpose, VersionState, WrappingAlgorithm, WrappingKeyState,
    WrappingPurpose,
};

/// A time in seconds since 1970, written as RFC 3339 has it, in UTC.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Time(pub u64);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let seconds = i64::try_from(self.0).unwrap_or(0);
        let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let text = time.format(&Rfc3339).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

/// Every problem's body.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = httpError)]
pub struct HttpError {
    /// What is wrong.
    pub message: String,
}

/// A key ring.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = keyRing)]
pub struct KeyRing {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    #[schema(max_length = 64)]
    pub display_name: String,
    /// Its description.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub description: Option<String>,
    /// `active`: a ring is there at once, and gone when it is deleted.
    pub state: &'static str,
    /// When it was made.
    pub created_at: Time,
}

/// A key.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = key)]
pub struct Key {
    /// Its id.
    pub id: Uuid,
    /// Its ring.
    pub key_ring_id: Uuid,
    /// Its name.
    #[schema(max_length = 64)]
    pub display_name: String,
    /// Its description.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub description: Option<String>,
    /// Its state.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Time,
    /// When it will be deleted for good, if that is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_date: Option<Time>,
    /// Whether its versions come from outside alone.
    pub import_only: bool,
    /// Where its material is.
    pub protection: &'static str,
    /// What it is for.
    pub purpose: Purpose,
    /// What it is.
    pub algorithm: Algorithm,
    /// From where it may be used.
    #[serde(rename = "access_scope")]
    pub access_scope: AccessScope,
    /// The customer's own order (an extension).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How often it is rotated by itself, in days (an extension).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_days: Option<u32>,
    /// When that happens next (an extension).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation_at: Option<Time>,
}

/// A version of a key.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = version)]
pub struct Version {
    /// Its number, from 1.
    pub number: u32,
    /// Its key.
    pub key_id: Uuid,
    /// Its ring.
    pub key_ring_id: Uuid,
    /// Its state.
    pub state: VersionState,
    /// Whether it is disabled; a destroyed version remembers it.
    pub disabled: bool,
    /// When it was made.
    pub created_at: Time,
    /// When its material is erased for good, if that is scheduled or done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy_date: Option<Time>,
    /// The public half, PEM (`SubjectPublicKeyInfo`, RFC 5280).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// A wrapping key.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = wrappingKey)]
pub struct WrappingKey {
    /// Its id.
    pub id: Uuid,
    /// Its ring.
    pub key_ring_id: Uuid,
    /// Its name.
    #[schema(max_length = 64)]
    pub display_name: String,
    /// Its description.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub description: Option<String>,
    /// Its state.
    pub state: WrappingKeyState,
    /// When it was made.
    pub created_at: Time,
    /// From when it can no longer be used.
    pub expires_at: Time,
    /// Where its material is.
    pub protection: &'static str,
    /// What it wraps.
    pub purpose: WrappingPurpose,
    /// How it wraps.
    pub algorithm: WrappingAlgorithm,
    /// From where it may be used.
    #[serde(rename = "access_scope")]
    pub access_scope: AccessScope,
    /// The public half, PEM (`SubjectPublicKeyInfo`, RFC 5280).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// A list's end: where the next page begins, if the list goes on (an extension).
macro_rules! list {
    ($name:ident, $schema:ident, $field:ident, $of:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[schema(as = $schema)]
        pub struct $name {
            /// The entries; empty, never absent.
            pub $field: Vec<$of>,
            /// Where the next page begins, if a page was asked for and the list goes on (an extension).
            #[serde(skip_serializing_if = "Option::is_none")]
            pub next_cursor: Option<String>,
        }
    };
}

list!(KeyRingList, keyRingList, key_rings, KeyRing, "Rings.");
list!(KeyList, keyList, keys, Key, "Keys.");
list!(VersionList, versionList, versions, Version, "Versions.");
list!(WrappingKeyList, wrappingKeyList, wrapping_keys, WrappingKey, "Wrapping keys.");

/// Ciphertext.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = encryptedData)]
pub struct EncryptedData {
    /// Base64 (RFC 4648, standard alphabet, padded).
    #[schema(format = Byte)]
    pub data: String,
}

/// Plaintext.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = decryptedData)]
pub struct DecryptedData {
    /// Base64.
    #[schema(format = Byte)]
    pub data: String,
}

/// A signature with what it signs.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = signedData)]
pub struct SignedData {
    /// What was signed, base64.
    #[schema(format = Byte)]
    pub data: String,
    /// The signature, base64: ECDSA in DER (RFC 3279), HMAC as it is.
    #[schema(format = Byte)]
    pub signature: String,
}

/// Whether a signature holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[schema(as = verifiedData)]
pub struct VerifiedData {
    /// Whether it does.
    pub valid: bool,
}

/// Data with the version that was used (an extension).
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = versionedData)]
pub struct VersionedData {
    /// Base64.
    #[schema(format = Byte)]
    pub data: String,
    /// The version.
    pub version_number: u32,
}

/// A data key (an extension).
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = dataKey)]
pub struct DataKey {
    /// The key itself, base64, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Byte)]
    pub plaintext: Option<String>,
    /// The key encrypted under the version, base64: `decrypt` opens it.
    #[schema(format = Byte)]
    pub wrapped: String,
    /// The version.
    pub version_number: u32,
}

/// How much there is in a project (an extension; the certificate's "amounts").
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = amounts)]
pub struct Amounts {
    /// Rings.
    pub key_rings: u64,
    /// Keys, those whose deletion is scheduled among them.
    pub keys: u64,
    /// Versions whose material is still held.
    pub versions: u64,
    /// Versions that can be used now.
    pub available_versions: u64,
    /// Wrapping keys that have not expired.
    pub wrapping_keys: u64,
}
