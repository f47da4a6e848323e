//! Rows of objects: read, verified and written.

use kms_core::integrity::{Cell, RowKey};
use kms_core::object::{KeyVersion, Material, Object, Wrapped};
use kms_protocol::{AttributeType, ObjectClass, ObjectId, RingId, Template};
use rusqlite::Row;

use super::StoreError;
use super::rows::{bytes, check_mac, column, invalid, signed, unsigned};
use super::version_rows::{VersionRow, wrapped};
use super::writer::WriteTx;

/// The maximum size of one object's attributes, in bytes: a certificate with long names fits, and a page of a search
/// fits into a frame.
pub(super) const OBJECT_BYTES_MAX: usize = 64 << 10;

/// The columns that are read of an object and of the version it belongs to.
pub(super) const OBJECT_COLUMNS: &str = "o.id, o.ring, o.key, o.version, o.class, o.key_type, o.label, o.ckid, \
     o.attributes, o.created, o.destroy_at, o.mac, o.master, o.wrapped, o.private, \
     v.state, v.destroy_at, v.protection, v.master, v.wrapped, v.created, v.mac, v.disabled, v.withheld";

/// Joins an object with its version.
pub(super) const OBJECT_JOIN: &str = "LEFT JOIN versions v ON v.key = o.key AND v.number = o.version";

/// The index in [`OBJECT_COLUMNS`] of the version's first column.
const VERSION_AT: usize = 15;

/// A row of `objects`, whose attributes are still encoded.
#[derive(Debug)]
pub(super) struct ObjectRow<'a> {
    pub(super) id: i64,
    pub(super) ring: RingId,
    pub(super) version: Option<KeyVersion>,
    pub(super) class: Option<i64>,
    pub(super) key_type: Option<i64>,
    pub(super) label: Option<&'a [u8]>,
    pub(super) ckid: Option<&'a [u8]>,
    pub(super) attributes: &'a [u8],
    pub(super) created: i64,
    pub(super) destroy_at: Option<i64>,
    /// The object's own value; a key's value is stored in its version.
    pub(super) wrapped: Option<Wrapped>,
    /// 1 for a private object, 0 for a public one; none in a row that is older than the column. A search that must not
    /// show private objects does not read their rows.
    pub(super) private: Option<i64>,
}

impl<'a> ObjectRow<'a> {
    pub(super) const TABLE: &'static str = "objects";

    /// Returns the row of an object whose encoded attributes are `encoded`.
    pub(super) fn of(
        (id, ring, version): (ObjectId, RingId, Option<KeyVersion>),
        attributes: &'a Template,
        encoded: &'a [u8],
        created: i64,
    ) -> Self {
        Self {
            id: signed(id.0),
            ring,
            version,
            class: attributes.ulong(AttributeType::CLASS).map(signed),
            key_type: attributes.ulong(AttributeType::KEY_TYPE).map(signed),
            label: attributes.bytes(AttributeType::LABEL),
            ckid: attributes.bytes(AttributeType::ID),
            attributes: encoded,
            created,
            destroy_at: None,
            wrapped: None,
            // A missing attribute counts as true, as in the policy.
            private: Some(i64::from(attributes.bool(AttributeType::PRIVATE) != Some(false))),
        }
    }

    fn read(row: &'a Row<'_>, key: &RowKey) -> Result<Self, StoreError> {
        const TABLE: &str = ObjectRow::TABLE;
        let of_key: Option<[u8; 16]> = column(row, TABLE, 2)?;
        let number: Option<u32> = column(row, TABLE, 3)?;
        let found = Self {
            id: column(row, TABLE, 0)?,
            ring: RingId(column(row, TABLE, 1)?),
            version: of_key.zip(number).map(|(key, number)| KeyVersion { key, number }),
            class: column(row, TABLE, 4)?,
            key_type: column(row, TABLE, 5)?,
            label: bytes(row, TABLE, 6)?,
            ckid: bytes(row, TABLE, 7)?,
            attributes: bytes(row, TABLE, 8)?.unwrap_or_default(),
            created: column(row, TABLE, 9)?,
            destroy_at: column(row, TABLE, 10)?,
            wrapped: wrapped(row, TABLE, 12)?,
            private: column(row, TABLE, 14)?,
        };
        let mac = bytes(row, TABLE, 11)?.unwrap_or_default();
        check_mac(key, TABLE, &found.columns(), mac, row)?;
        Ok(found)
    }

    fn columns(&self) -> [(&'static str, Cell<'_>); 14] {
        [
            ("id", Cell::Integer(self.id)),
            ("ring", Cell::Bytes(&self.ring.0)),
            ("key", Cell::from(self.version.as_ref().map(|version| version.key.as_slice()))),
            ("version", Cell::from(self.version.map(|version| i64::from(version.number)))),
            ("class", Cell::from(self.class)),
            ("key_type", Cell::from(self.key_type)),
            ("label", Cell::from(self.label)),
            ("ckid", Cell::from(self.ckid)),
            ("attributes", Cell::Bytes(self.attributes)),
            ("created", Cell::Integer(self.created)),
            ("destroy_at", Cell::from(self.destroy_at)),
            ("master", Cell::from(self.wrapped.as_ref().map(|wrapped| i64::from(wrapped.master.0)))),
            ("wrapped", Cell::from(self.wrapped.as_ref().map(|wrapped| wrapped.bytes.as_slice()))),
            ("private", Cell::from(self.private)),
        ]
    }

    /// Inserts the row. One with its id is never replaced.
    pub(super) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns();
        let mac = tx.key.mac(Self::TABLE, &columns);
        tx.insert(Self::TABLE, &[columns.as_slice(), &[("mac", Cell::Bytes(&mac))]].concat())
    }

    /// Updates the row with its id.
    pub(super) fn update(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns();
        let mac = tx.key.mac(Self::TABLE, &columns);
        let [id, _, _, _, _, _, label, ckid, attributes, _, destroy_at, master, wrapped, private] = columns;
        let mac = ("mac", Cell::Bytes(&mac));
        tx.update(Self::TABLE, &[id], &[label, ckid, attributes, destroy_at, mac, master, wrapped, private])
    }
}

/// An object with its stored state.
#[derive(Debug)]
pub(super) struct StoredObject {
    /// The object.
    pub(super) object: Object,
    /// When it was created.
    pub(super) created: i64,
    /// When it will be erased, if it was destroyed separately from its version.
    pub(super) destroy_at: Option<i64>,
    /// The version it belongs to.
    pub(super) version: Option<VersionRow>,
    /// Its own value, if it belongs to no version.
    pub(super) value: Option<Wrapped>,
}

impl StoredObject {
    /// Reads a row of [`OBJECT_COLUMNS`].
    pub(super) fn read(row: &Row<'_>, key: &RowKey) -> Result<Self, StoreError> {
        let found = ObjectRow::read(row, key)?;
        let version =
            found.version.map(|version| VersionRow::read(row, VERSION_AT, version, key)).transpose()?;
        let attributes = decode(found.attributes).ok_or_else(|| invalid(ObjectRow::TABLE, row))?;
        let of_version = version.as_ref().and_then(|version| version.wrapped.clone());
        let material = match (attributes.class(), of_version, &found.wrapped) {
            (Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY), Some(wrapped), _) => {
                Material::Wrapped(wrapped)
            }
            (_, None, Some(value)) => Material::Wrapped(value.clone()),
            (Some(_) | None, _, _) => Material::None,
        };
        let id = Some(ObjectId(unsigned(found.id)));
        let object = Object { id, ring: found.ring, version: found.version, attributes, material };
        let (created, destroy_at) = (found.created, found.destroy_at);
        Ok(Self { object, created, destroy_at, version, value: found.wrapped })
    }

    /// Whether applications see it: its destruction is not scheduled, and its version is visible.
    pub(super) fn is_visible(&self) -> bool {
        let active = self.version.as_ref().is_none_or(VersionRow::is_visible);
        self.destroy_at.is_none() && active
    }

    /// Whether it was destroyed and can still be restored.
    pub(super) fn is_destruction_scheduled(&self) -> bool {
        self.destroy_at.is_some() || self.version.as_ref().is_some_and(VersionRow::is_destruction_scheduled)
    }
}

/// Encodes a template for storage.
pub(super) fn encode(attributes: &Template) -> Result<Vec<u8>, StoreError> {
    let encoded = postcard::to_stdvec(attributes).map_err(|_| StoreError::TooLarge(usize::MAX))?;
    if encoded.len() > OBJECT_BYTES_MAX { Err(StoreError::TooLarge(encoded.len())) } else { Ok(encoded) }
}

fn decode(bytes: &[u8]) -> Option<Template> {
    match postcard::take_from_bytes(bytes) {
        Ok((template, [])) => Some(template),
        Ok(_) | Err(_) => None,
    }
}
