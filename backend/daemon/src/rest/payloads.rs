//! Request bodies: their schemas, with the names of the public API, and their conversion into validated requests.
//!
//! Unknown fields are rejected, so that a misspelt `descripton` is reported and not ignored. `null` is the same as an
//! absent field, except in edits, where it removes the value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms_core::api::{
    AccessScope, Algorithm, CreateKey, CreateKeyRing, CreateWrappingKey, DATA_BYTES_MAX, Data, Description,
    DisplayName, EditKey, EditKeyRing, ImportKey, MakeDataKey, PLAINTEXT_BYTES_MAX, Problem, Protection,
    Purpose, ROTATION_DAYS_MAX, Tags, WrappingAlgorithm, WrappingPurpose,
};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The maximum length of a data key, in bytes: anything longer is data rather than a key.
const DATA_KEY_BYTES_MAX: u16 = 1024;

/// The default length of a data key, in bytes: AES-256.
const DATA_KEY_BYTES: u16 = 32;

/// A request to create a key ring.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateKeyRingPayload {
    /// The name of the key ring.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: String,
    /// A description. An empty string is the same as none.
    #[schema(max_length = 256)]
    description: Option<String>,
}

/// A request to create a key.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateKeyPayload {
    /// The name of the key.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: String,
    /// A description. An empty string is the same as none.
    #[schema(max_length = 256)]
    description: Option<String>,
    /// The algorithm of the key.
    #[serde(deserialize_with = "enum_name")]
    algorithm: Algorithm,
    /// The purpose of the key. Each algorithm has exactly one purpose.
    #[serde(deserialize_with = "enum_name")]
    purpose: Purpose,
    /// The protection level. Only `software` is supported.
    protection: String,
    /// Whether the versions of the key can only be imported, not generated.
    #[schema(default = false)]
    import_only: Option<bool>,
    /// The networks from which the key may be used.
    #[serde(rename = "access_scope", default, deserialize_with = "optional_enum_name")]
    access_scope: Option<AccessScope>,
    /// Labels of the customer's choice (an extension).
    tags: Option<BTreeMap<String, String>>,
    /// The period of automatic rotation, in days. Without it the key is not rotated automatically (an extension).
    #[schema(minimum = 1, maximum = 3650)]
    rotation_days: Option<u32>,
}

/// A request to create a wrapping key.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateWrappingKeyPayload {
    /// The name of the wrapping key.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: String,
    /// A description. An empty string is the same as none.
    #[schema(max_length = 256)]
    description: Option<String>,
    /// The wrapping algorithm.
    #[serde(deserialize_with = "enum_name")]
    algorithm: WrappingAlgorithm,
    /// The kind of key that is wrapped.
    #[serde(deserialize_with = "enum_name")]
    purpose: WrappingPurpose,
    /// The protection level. Only `software` is supported.
    protection: String,
    /// The networks from which the wrapping key may be used.
    #[serde(rename = "access_scope", default, deserialize_with = "optional_enum_name")]
    access_scope: Option<AccessScope>,
}

/// A request to import wrapped key material.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ImportKeyPayload<'a> {
    /// The id of the wrapping key under which the material is wrapped.
    wrapping_key_id: Uuid,
    /// The wrapped key material, base64-encoded.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    wrapped_key: Cow<'a, str>,
}

/// A request to encrypt data.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EncryptPayload<'a> {
    /// The plaintext, base64-encoded. At most 65,536 bytes before encoding.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    data: Cow<'a, str>,
    /// Additional authenticated data to which the ciphertext is bound, base64-encoded. AES only (an extension).
    #[serde(borrow)]
    #[schema(value_type = Option<String>, format = Byte)]
    aad: Option<Cow<'a, str>>,
}

/// A request to decrypt a ciphertext.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecryptPayload<'a> {
    /// The ciphertext, base64-encoded.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    data: Cow<'a, str>,
    /// The additional authenticated data to which the ciphertext was bound, base64-encoded (an extension).
    #[serde(borrow)]
    #[schema(value_type = Option<String>, format = Byte)]
    aad: Option<Cow<'a, str>>,
}

/// A request to sign data.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignPayload<'a> {
    /// The message, base64-encoded. The service computes its digest.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    data: Cow<'a, str>,
}

/// A request to verify a signature.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyPayload<'a> {
    /// The message, base64-encoded.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    data: Cow<'a, str>,
    /// The signature of the message, base64-encoded.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    signature: Cow<'a, str>,
}

/// A request to change a key ring (an extension). Absent fields are not changed.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EditKeyRingPayload {
    /// The new name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: Option<String>,
    /// The new description. `null` or an empty string removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 256)]
    description: Option<Option<String>>,
}

/// A request to change a key (an extension). Absent fields are not changed.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EditKeyPayload {
    /// The new name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: Option<String>,
    /// The new description. `null` or an empty string removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 256)]
    description: Option<Option<String>>,
    /// The new tags, which replace all existing ones. `null` removes them.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    tags: Option<Option<BTreeMap<String, String>>>,
    /// The new period of automatic rotation, in days. `null` disables automatic rotation.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 3650)]
    rotation_days: Option<Option<u32>>,
}

/// A request to generate a data key (an extension).
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MakeDataKeyPayload<'a> {
    /// The length of the data key, in bytes.
    #[schema(minimum = 1, maximum = 1024, default = 32)]
    bytes: Option<u16>,
    /// Additional authenticated data to which the wrapped data key is bound, base64-encoded.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, format = Byte)]
    aad: Option<Cow<'a, str>>,
    /// Whether the response contains the data key in plaintext in addition to the wrapped data key.
    #[schema(default = true)]
    plaintext: Option<bool>,
}

impl TryFrom<CreateKeyRingPayload> for CreateKeyRing {
    type Error = Problem;

    fn try_from(payload: CreateKeyRingPayload) -> Result<Self, Problem> {
        Ok(Self {
            display_name: DisplayName::new(payload.display_name)?,
            description: Description::new(payload.description)?,
        })
    }
}

impl TryFrom<CreateKeyPayload> for CreateKey {
    type Error = Problem;

    fn try_from(payload: CreateKeyPayload) -> Result<Self, Problem> {
        let CreateKeyPayload { algorithm, purpose, .. } = payload;
        if algorithm.purpose() != purpose {
            let (name, right) = (algorithm.name(), name_of(algorithm.purpose()));
            let wrong = name_of(purpose);
            let rule =
                format!("purpose must be \"{right}\" for algorithm \"{name}\"; this one is \"{wrong}\"");
            return Err(Problem::malformed(rule));
        }
        Ok(Self {
            display_name: DisplayName::new(payload.display_name)?,
            description: Description::new(payload.description)?,
            algorithm,
            protection: protection(&payload.protection)?,
            import_only: payload.import_only.unwrap_or(false),
            access_scope: payload.access_scope.unwrap_or_default(),
            tags: Tags::new(payload.tags.unwrap_or_default())?,
            rotation_days: payload.rotation_days.map(rotation_days).transpose()?,
        })
    }
}

impl TryFrom<CreateWrappingKeyPayload> for CreateWrappingKey {
    type Error = Problem;

    fn try_from(payload: CreateWrappingKeyPayload) -> Result<Self, Problem> {
        Ok(Self {
            display_name: DisplayName::new(payload.display_name)?,
            description: Description::new(payload.description)?,
            algorithm: payload.algorithm,
            purpose: payload.purpose,
            protection: protection(&payload.protection)?,
            access_scope: payload.access_scope.unwrap_or_default(),
        })
    }
}

impl TryFrom<ImportKeyPayload<'_>> for ImportKey {
    type Error = Problem;

    fn try_from(payload: ImportKeyPayload<'_>) -> Result<Self, Problem> {
        let wrapped = decode_base64("wrappedKey", &payload.wrapped_key, DATA_BYTES_MAX)?.to_vec();
        Ok(Self { wrapping_key: payload.wrapping_key_id, wrapped })
    }
}

impl TryFrom<EditKeyRingPayload> for EditKeyRing {
    type Error = Problem;

    fn try_from(payload: EditKeyRingPayload) -> Result<Self, Problem> {
        Ok(Self {
            display_name: payload.display_name.map(DisplayName::new).transpose()?,
            description: payload.description.map(Description::new).transpose()?,
        })
    }
}

impl TryFrom<EditKeyPayload> for EditKey {
    type Error = Problem;

    fn try_from(payload: EditKeyPayload) -> Result<Self, Problem> {
        let days = payload.rotation_days.map(|days| days.map(rotation_days).transpose());
        Ok(Self {
            display_name: payload.display_name.map(DisplayName::new).transpose()?,
            description: payload.description.map(Description::new).transpose()?,
            tags: payload.tags.map(|tags| Tags::new(tags.unwrap_or_default())).transpose()?,
            rotation_days: days.transpose()?,
        })
    }
}

impl TryFrom<MakeDataKeyPayload<'_>> for MakeDataKey {
    type Error = Problem;

    fn try_from(payload: MakeDataKeyPayload<'_>) -> Result<Self, Problem> {
        let bytes = payload.bytes.unwrap_or(DATA_KEY_BYTES);
        if !(1..=DATA_KEY_BYTES_MAX).contains(&bytes) {
            let rule = format!("bytes must be 1 to {DATA_KEY_BYTES_MAX}; this is {bytes}");
            return Err(Problem::malformed(rule));
        }
        Ok(Self { bytes, aad: aad(payload.aad)?, plaintext: payload.plaintext.unwrap_or(true) })
    }
}

impl EncryptPayload<'_> {
    /// Decodes the plaintext and the additional authenticated data.
    pub(super) fn decode(self) -> Result<(Data, Vec<u8>), Problem> {
        Ok((Data(decode_base64("data", &self.data, PLAINTEXT_BYTES_MAX)?), aad(self.aad)?))
    }
}

impl DecryptPayload<'_> {
    /// Decodes the ciphertext and the additional authenticated data.
    pub(super) fn decode(self) -> Result<(Data, Vec<u8>), Problem> {
        Ok((Data(decode_base64("data", &self.data, DATA_BYTES_MAX)?), aad(self.aad)?))
    }
}

impl SignPayload<'_> {
    /// Decodes the message.
    pub(super) fn decode(self) -> Result<Data, Problem> {
        Ok(Data(decode_base64("data", &self.data, DATA_BYTES_MAX)?))
    }
}

impl VerifyPayload<'_> {
    /// Decodes the message and its signature.
    pub(super) fn decode(self) -> Result<(Data, Vec<u8>), Problem> {
        let signature = decode_base64("signature", &self.signature, DATA_BYTES_MAX)?.to_vec();
        Ok((Data(decode_base64("data", &self.data, DATA_BYTES_MAX)?), signature))
    }
}

/// Deserialises a field whose `null` differs from its absence: `Some` if it is present, `None` if it is absent.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Deserialises an enum from its name. serde alone would also accept `{"aes_256_gcm": null}`.
fn enum_name<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    T::deserialize(text.into_deserializer())
}

/// Deserialises the same, with `null` as absent.
fn optional_enum_name<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<Cow<'_, str>>::deserialize(deserializer)?;
    text.map(|text| T::deserialize(text.into_deserializer())).transpose()
}

/// Parses the protection level. `hsm` is a value of the API that is not supported, so it has a message of its own.
fn protection(name: &str) -> Result<Protection, Problem> {
    match name {
        "software" => Ok(Protection::Software),
        "hsm" => Err(Problem::malformed(
            "protection \"hsm\" is not offered here; use \"software\": the material is wrapped by the HSM's master key",
        )),
        _ => Err(Problem::malformed("protection must be \"software\"")),
    }
}

fn rotation_days(days: u32) -> Result<u32, Problem> {
    if (1..=ROTATION_DAYS_MAX).contains(&days) {
        return Ok(days);
    }
    Err(Problem::malformed(format!("rotationDays must be 1 to {ROTATION_DAYS_MAX}; this is {days}")))
}

fn aad(text: Option<Cow<'_, str>>) -> Result<Vec<u8>, Problem> {
    text.map_or(Ok(Vec::new()), |text| Ok(decode_base64("aad", &text, DATA_BYTES_MAX)?.to_vec()))
}

/// Decodes base64 (RFC 4648: standard alphabet, padded, no other characters). An empty string is valid.
fn decode_base64(field: &str, text: &str, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // Checked before decoding, so that no buffer is allocated for data that is too long.
    if text.len() > bytes_max.div_ceil(3) * 4 {
        return Err(Problem::malformed(format!(
            "{field} is too long: at most {bytes_max} bytes are accepted"
        )));
    }
    let mut bytes = Zeroizing::new(vec![0; text.len() / 4 * 3 + 3]);
    let length = STANDARD.decode_slice(text, &mut bytes).map_err(|_| {
        Problem::malformed(format!(
            "{field} must be base64: standard alphabet, padded with \"=\", no line breaks"
        ))
    })?;
    if length > bytes_max {
        return Err(Problem::malformed(format!(
            "{field} is too long: at most {bytes_max} bytes are accepted"
        )));
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn name_of(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::SymmetricEncryptDecrypt => "symmetric_encrypt_decrypt",
        Purpose::AsymmetricEncryptDecrypt => "asymmetric_encrypt_decrypt",
        Purpose::MessageAuthenticationCode => "message_authentication_code",
        Purpose::AsymmetricSignVerify => "asymmetric_sign_verify",
    }
}
