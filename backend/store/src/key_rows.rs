//! Rows of keys: the columns of PKCS#11 and those of the REST API.

use kms_core::api::{AccessScope, Algorithm, WrappingAlgorithm, WrappingPurpose};
use kms_core::integrity::{Cell, RowKey};
use kms_protocol::RingId;
use rusqlite::Row;

use super::api::KeyMetadata;
use super::rows::{bytes, check_mac, column, signed, unsigned};
use super::writer::WriteTx;
use super::{StoreError, rows};

/// The columns that are read of a key.
pub(super) const KEY_COLUMNS: &str = "id, ring, label, algorithm, created, mac, kind, rest, display_name, description, \
     import_only, access, purpose, expires_at, deletion_at, rotation_days, rotate_at, tags";

/// The number of [`KEY_COLUMNS`].
pub(super) const KEY_COLUMNS_COUNT: usize = 18;

/// `kind` of a wrapping key.
pub(super) const WRAPPING: i64 = 2;

/// A row of `keys`.
#[derive(Clone, Debug)]
pub(super) struct KeyRow {
    pub(super) id: [u8; 16],
    pub(super) ring: RingId,
    pub(super) label: Vec<u8>,
    pub(super) algorithm: String,
    pub(super) created: i64,
    pub(super) metadata: KeyMetadata,
}

/// The metadata as the values of its columns.
struct MetadataColumns {
    kind: Option<i64>,
    rest: Option<&'static str>,
    import_only: Option<i64>,
    access: Option<i64>,
    purpose: Option<i64>,
    expires_at: Option<i64>,
    deletion_at: Option<i64>,
    rotation_days: Option<i64>,
    rotate_at: Option<i64>,
}

impl MetadataColumns {
    fn of(metadata: &KeyMetadata) -> Self {
        let wrapping = metadata.wrapping.map(|(algorithm, purpose)| (algorithm.name(), purpose));
        Self {
            kind: wrapping.map(|_| WRAPPING),
            rest: metadata.algorithm.map(Algorithm::name).or(wrapping.map(|(name, _)| name)),
            import_only: metadata.import_only.then_some(1),
            access: (metadata.access_scope == AccessScope::Sna).then_some(2),
            purpose: wrapping.map(|(_, purpose)| match purpose {
                WrappingPurpose::WrapSymmetricKey => 1,
                WrappingPurpose::WrapAsymmetricKey => 2,
            }),
            expires_at: metadata.expires_at.map(signed),
            deletion_at: metadata.deletion_at.map(signed),
            rotation_days: metadata.rotation_days.map(i64::from),
            rotate_at: metadata.rotate_at.map(signed),
        }
    }
}

impl KeyRow {
    pub(super) const TABLE: &'static str = "keys";

    /// Reads a row of [`KEY_COLUMNS`].
    pub(super) fn read(row: &Row<'_>, key: &RowKey) -> Result<Self, StoreError> {
        const TABLE: &str = KeyRow::TABLE;
        let found = Self {
            id: column(row, TABLE, 0)?,
            ring: RingId(column(row, TABLE, 1)?),
            label: column(row, TABLE, 2)?,
            algorithm: column(row, TABLE, 3)?,
            created: column(row, TABLE, 4)?,
            metadata: read_metadata(row).map_err(|error| {
                let unknown = matches!(error, StoreError::NotFound);
                if unknown { rows::invalid(TABLE, row) } else { error }
            })?,
        };
        let mac = bytes(row, TABLE, 5)?.unwrap_or_default();
        check_mac(key, TABLE, &found.columns(&MetadataColumns::of(&found.metadata)), mac, row)?;
        Ok(found)
    }

    fn columns<'a>(&'a self, metadata: &MetadataColumns) -> [(&'static str, Cell<'a>); 17] {
        let KeyMetadata { display_name, description, tags, .. } = &self.metadata;
        [
            ("id", Cell::Bytes(&self.id)),
            ("ring", Cell::Bytes(&self.ring.0)),
            ("label", Cell::Bytes(&self.label)),
            ("algorithm", Cell::Text(&self.algorithm)),
            ("created", Cell::Integer(self.created)),
            ("kind", Cell::from(metadata.kind)),
            ("rest", Cell::from(metadata.rest)),
            ("display_name", Cell::from(display_name.as_deref())),
            ("description", Cell::from(description.as_deref())),
            ("import_only", Cell::from(metadata.import_only)),
            ("access", Cell::from(metadata.access)),
            ("purpose", Cell::from(metadata.purpose)),
            ("expires_at", Cell::from(metadata.expires_at)),
            ("deletion_at", Cell::from(metadata.deletion_at)),
            ("rotation_days", Cell::from(metadata.rotation_days)),
            ("rotate_at", Cell::from(metadata.rotate_at)),
            ("tags", Cell::from(tags.as_deref())),
        ]
    }

    /// Inserts the row.
    pub(super) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let metadata = MetadataColumns::of(&self.metadata);
        let columns = self.columns(&metadata);
        let mac = tx.key.mac(Self::TABLE, &columns);
        tx.insert(Self::TABLE, &[columns.as_slice(), &[("mac", Cell::Bytes(&mac))]].concat())
    }

    /// Updates the row with its id.
    pub(super) fn update(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        const CHANGES: [&str; 6] =
            ["label", "display_name", "description", "deletion_at", "rotation_days", "rotate_at"];
        let metadata = MetadataColumns::of(&self.metadata);
        let columns = self.columns(&metadata);
        let mac = tx.key.mac(Self::TABLE, &columns);
        let mut set: Vec<_> = columns.into_iter().filter(|(name, _)| CHANGES.contains(name)).collect();
        set.extend([("tags", Cell::from(self.metadata.tags.as_deref())), ("mac", Cell::Bytes(&mac))]);
        tx.update(Self::TABLE, &columns[..1], &set)
    }
}

/// Reads the metadata of a row; [`StoreError::NotFound`] for values that this program never writes.
fn read_metadata(row: &Row<'_>) -> Result<KeyMetadata, StoreError> {
    const TABLE: &str = KeyRow::TABLE;
    let rest: Option<String> = column(row, TABLE, 7)?;
    let name = rest.as_deref();
    let (algorithm, wrapping) = match column::<Option<i64>>(row, TABLE, 6)? {
        None => (name.map(|name| Algorithm::named(name).ok_or(StoreError::NotFound)).transpose()?, None),
        Some(WRAPPING) => {
            let algorithm = name.and_then(WrappingAlgorithm::named).ok_or(StoreError::NotFound)?;
            let purpose = match column(row, TABLE, 12)? {
                1_i64 => WrappingPurpose::WrapSymmetricKey,
                2 => WrappingPurpose::WrapAsymmetricKey,
                _ => return Err(StoreError::NotFound),
            };
            (None, Some((algorithm, purpose)))
        }
        Some(_) => return Err(StoreError::NotFound),
    };
    let time = |at| Ok::<_, StoreError>(column::<Option<i64>>(row, TABLE, at)?.map(unsigned));
    Ok(KeyMetadata {
        algorithm,
        wrapping,
        display_name: column(row, TABLE, 8)?,
        description: column(row, TABLE, 9)?,
        import_only: column::<Option<i64>>(row, TABLE, 10)?.is_some(),
        access_scope: match column::<Option<i64>>(row, TABLE, 11)? {
            None => AccessScope::Public,
            Some(_) => AccessScope::Sna,
        },
        expires_at: time(13)?,
        deletion_at: time(14)?,
        rotation_days: column::<Option<u32>>(row, TABLE, 15)?,
        rotate_at: time(16)?,
        tags: column(row, TABLE, 17)?,
    })
}
