//! The response bodies of the API. Optional fields without a value are left out.

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

/// A time in seconds since 1970, serialised in RFC 3339 format, in UTC.
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

/// The body of every problem.
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
    /// `active`: a ring can be used at once, and does not exist after its deletion.
    pub state: &'static str,
    /// When it was created.
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
    /// When it was created.
    pub created_at: Time,
    /// When it will be deleted permanently, if that is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_date: Option<Time>,
    /// Whether its versions are imported only.
    pub import_only: bool,
    /// Its protection level.
    pub protection: &'static str,
    /// Its purpose.
    pub purpose: Purpose,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// The networks from which it may be used.
    #[serde(rename = "access_scope")]
    pub access_scope: AccessScope,
    /// Tags of the customer (an extension).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The period of automatic rotation, in days (an extension).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_days: Option<u32>,
    /// When it is rotated next (an extension).
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
    /// Whether it is disabled, or was when it was destroyed.
    pub disabled: bool,
    /// When it was created.
    pub created_at: Time,
    /// When its material is erased permanently, if that is scheduled or done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy_date: Option<Time>,
    /// The public key, PEM (`SubjectPublicKeyInfo`, RFC 5280).
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
    /// When it was created.
    pub created_at: Time,
    /// When it expires.
    pub expires_at: Time,
    /// Its protection level.
    pub protection: &'static str,
    /// What it wraps.
    pub purpose: WrappingPurpose,
    /// How it wraps.
    pub algorithm: WrappingAlgorithm,
    /// The networks from which it may be used.
    #[serde(rename = "access_scope")]
    pub access_scope: AccessScope,
    /// The public key, PEM (`SubjectPublicKeyInfo`, RFC 5280).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// Defines a list response.
macro_rules! list {
    ($name:ident, $schema:ident, $field:ident, $of:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[schema(as = $schema)]
        pub struct $name {
            /// The entries; empty, never absent.
            pub $field: Vec<$of>,
            /// The start of the next page, if the request asked for a page and the list goes on (an extension).
            #[serde(skip_serializing_if = "Option::is_none")]
            pub next_cursor: Option<String>,
        }
    };
}

list!(KeyRingList, keyRingList, key_rings, KeyRing, "A list of rings.");
list!(KeyList, keyList, keys, Key, "A list of keys.");
list!(VersionList, versionList, versions, Version, "A list of versions.");
list!(WrappingKeyList, wrappingKeyList, wrapping_keys, WrappingKey, "A list of wrapping keys.");

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

/// A signature with the data that it signs.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = signedData)]
pub struct SignedData {
    /// The signed data, base64.
    #[schema(format = Byte)]
    pub data: String,
    /// The signature, base64: ECDSA in DER (RFC 3279), HMAC as it is.
    #[schema(format = Byte)]
    pub signature: String,
}

/// The result of verifying a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[schema(as = verifiedData)]
pub struct VerifiedData {
    /// Whether the signature is valid.
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
    /// The key itself, base64, if it was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Byte)]
    pub plaintext: Option<String>,
    /// The key encrypted under the version, base64: `decrypt` returns it.
    #[schema(format = Byte)]
    pub wrapped: String,
    /// The version.
    pub version_number: u32,
}

/// The numbers of resources in a project (an extension; "amounts" in the service certificate).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = amounts)]
pub struct Amounts {
    /// Rings.
    pub key_rings: u64,
    /// Keys, including those whose deletion is scheduled.
    pub keys: u64,
    /// Versions whose material is not erased.
    pub versions: u64,
    /// Versions that can be used now.
    pub available_versions: u64,
    /// Wrapping keys that have not expired.
    pub wrapping_keys: u64,
}
