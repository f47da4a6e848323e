//! Reports on a whole project: the export and the usage (extensions).
//!
//! The lists in an export may be long: they are streamed entry by entry, and are empty in these values
//! (`dispatch/api/export.rs`).

use std::borrow::Cow;

use serde::Serialize;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::{Key, KeyRing, KeyState, Time, Version, WrappingKey};

/// The version of the export format, incremented with each change that readers must know of.
pub const EXPORT_FORMAT: u32 = 1;

/// Everything needed to recreate a project's rings and keys, without key material (an extension).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = export)]
pub struct Export {
    /// The version of the format.
    pub format: u32,
    /// `kms`.
    pub service: &'static str,
    /// The region.
    pub region: &'static str,
    /// When it was created: everything in it is as of that moment.
    pub exported_at: Time,
    /// The projects.
    pub projects: Vec<ExportedProject>,
    /// The service accounts that have a role in them.
    pub accounts: Vec<ExportedAccount>,
}

/// A project.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedProject)]
pub struct ExportedProject {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: Time,
    /// Its rings, by slot.
    pub key_rings: Vec<ExportedRing>,
}

/// A ring, with its properties over PKCS #11.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedKeyRing)]
pub struct ExportedRing {
    /// The ring as in the API.
    #[serde(flatten)]
    pub ring: KeyRing,
    /// The label of its token.
    pub label: String,
    /// Its slot.
    pub slot: u64,
    /// `strict` or `compat`.
    pub policy: &'static str,
    /// Its principals.
    pub principals: Vec<ExportedPrincipal>,
    /// Its keys, the oldest first.
    pub keys: Vec<ExportedKey>,
}

/// A principal, who may log in to a ring over PKCS #11.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedPrincipal)]
pub struct ExportedPrincipal {
    /// The name.
    pub name: String,
    /// Its role in the ring.
    #[serde(rename = "standing")]
    pub ring_role: String,
}

/// A key, including those whose algorithm the API has no name for.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedKey)]
pub struct ExportedKey {
    /// The key as in the API.
    #[serde(flatten)]
    pub metadata: ExportedMetadata,
    /// `key` or `wrapping`.
    #[serde(rename = "use")]
    pub used_for: &'static str,
    /// The type of key, in a word.
    #[serde(rename = "type")]
    pub shape: String,
    /// Its label over PKCS #11.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The label's bytes, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_bytes: Option<Vec<u8>>,
    /// Its versions.
    pub versions: Vec<Version>,
}

/// A key's metadata in the API.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ExportedMetadata {
    /// A key.
    Key(Box<Key>),
    /// A wrapping key.
    Wrapping(Box<WrappingKey>),
    /// A key whose algorithm the API has no name for.
    Other(OtherKey),
}

/// `anyOf`, not `oneOf`: the other variants have all the fields of `OtherKey` as well.
impl PartialSchema for ExportedMetadata {
    fn schema() -> RefOr<Schema> {
        let any = AnyOfBuilder::new();
        let any = [Key::name(), WrappingKey::name(), OtherKey::name()]
            .into_iter()
            .fold(any, |any, name| any.item(Ref::from_schema_name(name)));
        RefOr::T(Schema::AnyOf(any.description(Some("A key's metadata in the API.")).build()))
    }
}

impl ToSchema for ExportedMetadata {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("exportedFacts")
    }

    fn schemas(found: &mut Vec<(String, RefOr<Schema>)>) {
        found.push((OtherKey::name().into_owned(), OtherKey::schema()));
        OtherKey::schemas(found);
    }
}

/// A key whose algorithm the API has no name for.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = otherKey)]
pub struct OtherKey {
    /// Its id.
    pub id: Uuid,
    /// Its state.
    pub state: KeyState,
    /// When it was created.
    pub created_at: Time,
}

/// A service account: names and dates, no secrets.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedAccount)]
pub struct ExportedAccount {
    /// Its id.
    pub id: Uuid,
    /// Its address.
    pub email: String,
    /// When it was created.
    pub created_at: Time,
    /// When it was disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Time>,
    /// Its grants.
    pub grants: Vec<ExportedGrant>,
    /// Its tokens.
    pub tokens: Vec<ExportedToken>,
    /// Its public keys.
    pub keys: Vec<ExportedAccountKey>,
}

/// A role, and where it applies.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedGrant)]
pub struct ExportedGrant {
    /// The role.
    pub role: &'static str,
    /// The project; all projects if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<Uuid>,
    /// The ring; all rings if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ring: Option<Uuid>,
}

/// A static token, without its value.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedToken)]
pub struct ExportedToken {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: Time,
    /// When it expires; never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// A public key that signs for an account.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedAccountKey)]
pub struct ExportedAccountKey {
    /// Its id.
    pub id: Uuid,
    /// Its algorithm.
    pub algorithm: &'static str,
    /// When it was added.
    pub created_at: Time,
    /// When it expires; never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// Whether it can be used now.
    pub active: bool,
}

/// The number of available key versions in each hour (an extension).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = usage)]
pub struct Usage {
    /// The sum of all hours: the unit of billing.
    pub version_hours: u64,
    /// The hours in which there were any available versions.
    pub hours: Vec<UsageHour>,
}

/// The usage in one hour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = usageHour)]
pub struct UsageHour {
    /// When it began.
    pub hour: Time,
    /// The number of versions that were available at any time in it.
    pub versions: u64,
    /// The sum of the times for which they were available, in seconds.
    pub version_seconds: u64,
}
