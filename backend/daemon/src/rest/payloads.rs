//! The bodies of calls: their shapes, by the names the public API has for them, and what makes checked asks of them.
//!
//! Fields that nobody knows are refused, so that a misspelt `descripton` is told and not dropped. `null` is as good as
//! absent, except where an edit takes something away with it.

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

/// The longest data key, in bytes: more is no key any more but data.
const DATA_KEY_BYTES_MAX: u16 = 1024;

/// A data key's length unless told otherwise: AES-256.
const DATA_KEY_BYTES: u16 = 32;

/// A ring to be made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateKeyRingPayload {
    /// Its name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: String,
    /// Its description; an empty one is none.
    #[schema(max_length = 256)]
    description: Option<String>,
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateKeyPayload {
    /// Its name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: String,
    /// Its description; an empty one is none.
    #[schema(max_length = 256)]
    description: Option<String>,
    /// What it is.
    #[serde(deserialize_with = "enum_word")]
    algorithm: Algorithm,
    /// What it is for; each algorithm has one purpose.
    #[serde(deserialize_with = "enum_word")]
    purpose: Purpose,
    /// Where its material is: `software`.
    protection: String,
    /// Whether its versions come from outside alone.
    #[schema(default = false)]
    import_only: Option<bool>,
    /// From where it may be used.
    #[serde(rename = "access_scope", default, deserialize_with = "maybe_word")]
    access_scope: Option<AccessScope>,
    /// The customer's own order (an extension).
    tags: Option<BTreeMap<String, String>>,
    /// How often it is rotated by itself, in days (an extension).
    #[schema(minimum = 1, maximum = 3650)]
    rotation_days: Option<u32>,
}

/// A wrapping key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateWrappingKeyPayload {
    /// Its name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: String,
    /// Its description; an empty one is none.
    #[schema(max_length = 256)]
    description: Option<String>,
    /// How it wraps.
    #[serde(deserialize_with = "enum_word")]
    algorithm: WrappingAlgorithm,
    /// What it wraps.
    #[serde(deserialize_with = "enum_word")]
    purpose: WrappingPurpose,
    /// Where its material is: `software`.
    protection: String,
    /// From where it may be used.
    #[serde(rename = "access_scope", default, deserialize_with = "maybe_word")]
    access_scope: Option<AccessScope>,
}

/// Material from outside.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ImportKeyPayload<'a> {
    /// The wrapping key it is wrapped under.
    wrapping_key_id: Uuid,
    /// The wrapped material, base64.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    wrapped_key: Cow<'a, str>,
}

/// What is to be encrypted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EncryptPayload<'a> {
    /// At most 65,536 bytes, base64.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    data: Cow<'a, str>,
    /// What the ciphertext is bound to besides, base64; AES only (an extension).
    #[serde(borrow)]
    #[schema(value_type = Option<String>, format = Byte)]
    aad: Option<Cow<'a, str>>,
}

/// What is to be decrypted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecryptPayload<'a> {
    /// Ciphertext, base64.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    data: Cow<'a, str>,
    /// What the ciphertext was bound to besides, base64 (an extension).
    #[serde(borrow)]
    #[schema(value_type = Option<String>, format = Byte)]
    aad: Option<Cow<'a, str>>,
}

/// What is to be signed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignPayload<'a> {
    /// The message itself, not its digest, base64.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    data: Cow<'a, str>,
}

/// What is to be verified.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyPayload<'a> {
    /// The message, base64.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    data: Cow<'a, str>,
    /// Its signature, base64.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    signature: Cow<'a, str>,
}

/// A change to a ring (an extension). What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EditKeyRingPayload {
    /// A new name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: Option<String>,
    /// A new description; `null` or an empty one takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 256)]
    description: Option<Option<String>>,
}

/// A change to a key (an extension). What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EditKeyPayload {
    /// A new name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-zA-Z0-9_-]+$")]
    display_name: Option<String>,
    /// A new description; `null` or an empty one takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 256)]
    description: Option<Option<String>>,
    /// All tags anew; `null` takes them away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    tags: Option<Option<BTreeMap<String, String>>>,
    /// A new rotation period in days; `null` ends it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 3650)]
    rotation_days: Option<Option<u32>>,
}

/// A data key to be made (an extension).
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MakeDataKeyPayload<'a> {
    /// Its length in bytes.
    #[schema(minimum = 1, maximum = 1024, default = 32)]
    bytes: Option<u16>,
    /// What its wrapped copy is bound to besides, base64.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, format = Byte)]
    aad: Option<Cow<'a, str>>,
    /// Whether the key itself comes with the wrapped copy.
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
        let wrapped = decoded("wrappedKey", &payload.wrapped_key, DATA_BYTES_MAX)?.to_vec();
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
    /// The plaintext, and what its ciphertext will be bound to.
    pub(super) fn opened(self) -> Result<(Data, Vec<u8>), Problem> {
        Ok((Data(decoded("data", &self.data, PLAINTEXT_BYTES_MAX)?), aad(self.aad)?))
    }
}

impl DecryptPayload<'_> {
    /// The ciphertext, and what it was bound to.
    pub(super) fn opened(self) -> Result<(Data, Vec<u8>), Problem> {
        Ok((Data(decoded("data", &self.data, DATA_BYTES_MAX)?), aad(self.aad)?))
    }
}

impl SignPayload<'_> {
    /// The message.
    pub(super) fn opened(self) -> Result<Data, Problem> {
        Ok(Data(decoded("data", &self.data, DATA_BYTES_MAX)?))
    }
}

impl VerifyPayload<'_> {
    /// The message and its signature.
    pub(super) fn opened(self) -> Result<(Data, Vec<u8>), Problem> {
        let signature = decoded("signature", &self.signature, DATA_BYTES_MAX)?.to_vec();
        Ok((Data(decoded("data", &self.data, DATA_BYTES_MAX)?), signature))
    }
}

/// A field that is there, `null` or not: `Some`, whereas an absent one is `None`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A value out of a list of words. serde alone would take `{"aes_256_gcm": null}` as well.
fn enum_word<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    T::deserialize(text.into_deserializer())
}

/// The same where `null` is as good as absent.
fn maybe_word<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<Cow<'_, str>>::deserialize(deserializer)?;
    text.map(|text| T::deserialize(text.into_deserializer())).transpose()
}

/// `hsm` is a value the API has, and we have no such keys: it is told, not taken for a misspelling.
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
    text.map_or(Ok(Vec::new()), |text| Ok(decoded("aad", &text, DATA_BYTES_MAX)?.to_vec()))
}

/// The bytes that base64 says (RFC 4648: standard alphabet, padded, nothing in between). No bytes are bytes too.
fn decoded(field: &str, text: &str, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // Four characters are three bytes: refused by its length before room is made for it.
    if text.len() > bytes_max.div_ceil(3) * 4 {
        return Err(Problem::malformed(format!("{field} is too long: at most {bytes_max} bytes are taken")));
    }
    let mut bytes = Zeroizing::new(vec![0; text.len() / 4 * 3 + 3]);
    let length = STANDARD.decode_slice(text, &mut bytes).map_err(|_| {
        Problem::malformed(format!(
            "{field} must be base64: standard alphabet, padded with \"=\", no line breaks"
        ))
    })?;
    if length > bytes_max {
        return Err(Problem::malformed(format!("{field} is too long: at most {bytes_max} bytes are taken")));
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
