//! What is told of a project as a whole, in shapes of our own: the export and the usage (extensions).
//!
//! The lists in an export may be long: they are written one entry after the other, and are empty in these values
//! (`dispatch/kms/export.rs`).

use std::borrow::Cow;

use serde::Serialize;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::{Key, KeyRing, KeyState, Time, Version, WrappingKey};

/// The form of an export; it grows with each change that a reader must know of.
pub const EXPORT_FORMAT: u32 = 1;

/// All that is needed to build the architecture of a project's keys anew, without any material (an extension).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = export)]
pub struct Export {
    /// The form of this document.
    pub format: u32,
    /// `kms`.
    pub service: &'static str,
    /// The region.
    pub region: &'static str,
    /// When it was taken: everything in it is as it was at that moment.
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
    /// When it was made.
    pub created_at: Time,
    /// Its rings, by slot.
    pub key_rings: Vec<ExportedRing>,
}

/// A ring, and what PKCS #11 knows of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedKeyRing)]
pub struct ExportedRing {
    /// As the API shows it.
    #[serde(flatten)]
    pub ring: KeyRing,
    /// The label of its token.
    pub label: String,
    /// Its slot.
    pub slot: u64,
    /// `strict` or `compat`.
    pub policy: &'static str,
    /// Who may log in to it.
    pub principals: Vec<ExportedPrincipal>,
    /// Its keys, the oldest first.
    pub keys: Vec<ExportedKey>,
}

/// Who may log in to a ring over PKCS #11.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedPrincipal)]
pub struct ExportedPrincipal {
    /// The name.
    pub name: String,
    /// What it may do, in a word.
    #[serde(rename = "standing")]
    pub ring_role: String,
}

/// A key, also one that the API has no name for.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedKey)]
pub struct ExportedKey {
    /// As the API shows it.
    #[serde(flatten)]
    pub metadata: ExportedMetadata,
    /// `key` or `wrapping`.
    #[serde(rename = "use")]
    pub used_for: &'static str,
    /// What it is, in a word.
    #[serde(rename = "type")]
    pub shape: String,
    /// Its label over PKCS #11.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The same where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_bytes: Option<Vec<u8>>,
    /// Its versions.
    pub versions: Vec<Version>,
}

/// What the API knows of a key.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ExportedMetadata {
    /// A key.
    Key(Box<Key>),
    /// A wrapping key.
    Wrapping(Box<WrappingKey>),
    /// A key of a shape that the API has no name for.
    Other(OtherKey),
}

/// Any of them, not one alone: what the API has a name for has the fields of what it has none for as well.
impl PartialSchema for ExportedMetadata {
    fn schema() -> RefOr<Schema> {
        let any = AnyOfBuilder::new();
        let any = [Key::name(), WrappingKey::name(), OtherKey::name()]
            .into_iter()
            .fold(any, |any, name| any.item(Ref::from_schema_name(name)));
        RefOr::T(Schema::AnyOf(any.description(Some("What the API knows of a key.")).build()))
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

/// A key of a shape that the API has no name for.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = otherKey)]
pub struct OtherKey {
    /// Its id.
    pub id: Uuid,
    /// Its state.
    pub state: KeyState,
    /// When it was made.
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
    /// When it was made.
    pub created_at: Time,
    /// Since when it is shut out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Time>,
    /// What it was given.
    pub grants: Vec<ExportedGrant>,
    /// Its tokens.
    pub tokens: Vec<ExportedToken>,
    /// Its public keys.
    pub keys: Vec<ExportedAccountKey>,
}

/// A role, and where it holds.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedGrant)]
pub struct ExportedGrant {
    /// Which.
    pub role: &'static str,
    /// The project; every project without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<Uuid>,
    /// The ring; all rings without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ring: Option<Uuid>,
}

/// A static token, never itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = exportedToken)]
pub struct ExportedToken {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Time,
    /// From when it holds no longer; never without.
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
    /// What it is.
    pub algorithm: &'static str,
    /// When it came.
    pub created_at: Time,
    /// From when it holds no longer; never without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// Whether it can be used now.
    pub active: bool,
}

/// How many key versions were available, hour by hour (an extension).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = usage)]
pub struct Usage {
    /// The sum of all hours: the unit of billing.
    pub version_hours: u64,
    /// The hours in which there were any.
    pub hours: Vec<UsageHour>,
}

/// An hour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = usageHour)]
pub struct UsageHour {
    /// When it began.
    pub hour: Time,
    /// How many versions were available at any time in it.
    pub versions: u64,
    /// For how long, all of them together, in seconds.
    pub version_seconds: u64,
}
