//! Rows of service accounts, their grants, tokens and keys. Reading a row verifies its MAC, or fails.

use kms_core::api::{Grant, Role};
use kms_core::integrity::{Cell, RowKey};
use rusqlite::{Connection, Params, Row};
use uuid::Uuid;

use crate::StoreError;
use crate::rows::{bytes, check_mac, column, invalid, signed, unsigned};
use crate::writer::WriteTx;

/// A service account, as stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceAccount {
    /// Its id.
    pub id: Uuid,
    /// Its address, by which users and assertions name it.
    pub email: String,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// Since when it is disabled.
    pub disabled: Option<u64>,
    /// Incremented to end all logins and access tokens derived from its tokens and keys.
    pub generation: u64,
}

/// A grant of an account, as stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountGrant {
    /// Its id.
    pub id: Uuid,
    /// The account.
    pub account: Uuid,
    /// The role and where it applies.
    pub grant: Grant,
    /// When it was granted, in seconds since 1970.
    pub created: u64,
}

/// A static token, as stored: its digest, never the token itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// The account it belongs to.
    pub account: Uuid,
    /// Its display name, unique in its account.
    pub name: String,
    /// SHA-256 of the token.
    pub digest: [u8; 32],
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// When it expires; `None` for never.
    pub expires: Option<u64>,
}

/// The types of keys that sign assertions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyAlgorithm {
    /// `RSA_2048`.
    Rsa2048,
    /// `RSA_4096`.
    Rsa4096,
}

impl KeyAlgorithm {
    /// All types.
    pub const ALL: [Self; 2] = [Self::Rsa2048, Self::Rsa4096];

    /// Returns its name in key files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa4096 => "RSA_4096",
        }
    }

    /// Returns the length of the modulus, in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa4096 => 4096,
        }
    }

    fn number(self) -> i64 {
        match self {
            Self::Rsa2048 => 1,
            Self::Rsa4096 => 2,
        }
    }
}

/// A public key that verifies an account's assertions, as stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountKey {
    /// Its id: an assertion's `kid`.
    pub id: Uuid,
    /// The account it belongs to.
    pub account: Uuid,
    /// Its type.
    pub algorithm: KeyAlgorithm,
    /// `SubjectPublicKeyInfo`, DER.
    pub public: Vec<u8>,
    /// Whether the key pair was generated here; the private key is never stored.
    pub generated: bool,
    /// When it was added, in seconds since 1970.
    pub created: u64,
    /// When it expires; `None` for never.
    pub valid_until: Option<u64>,
    /// Since when it is revoked.
    pub revoked: Option<u64>,
}

impl AccountKey {
    /// Whether it verifies assertions at this time.
    pub fn is_active(&self, now: u64) -> bool {
        self.revoked.is_none() && self.valid_until.is_none_or(|end| now < end)
    }
}

/// A row of a table of accounts, protected by a MAC.
pub(crate) trait AccountRow: Sized {
    /// The table.
    const TABLE: &'static str;
    /// The columns that are read, the row's id first and the MAC last.
    const COLUMNS: &'static str;

    /// Parses a row without verifying its MAC.
    fn parse(row: &Row<'_>) -> Result<Self, StoreError>;

    /// Returns the columns that the MAC covers: all others.
    fn cells(&self) -> Vec<(&'static str, Cell<'_>)>;

    /// Parses a row and verifies its MAC.
    fn read(row: &Row<'_>, key: &RowKey) -> Result<Self, StoreError> {
        let found = Self::parse(row)?;
        let last = row.as_ref().column_count() - 1;
        check_mac(key, Self::TABLE, &found.cells(), bytes(row, Self::TABLE, last)?.unwrap_or_default(), row)?;
        Ok(found)
    }

    /// Returns the rows that meet a condition, and the errors of those that cannot be read.
    fn all(
        connection: &Connection,
        key: &RowKey,
        condition: &str,
        values: impl Params,
    ) -> Result<(Vec<Self>, Vec<StoreError>), StoreError> {
        let sql = format!("SELECT {} FROM {} {condition}", Self::COLUMNS, Self::TABLE);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(values)?;
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            match Self::read(row, key) {
                Ok(one) => found.push(one),
                Err(error @ StoreError::RowInvalid { .. }) => unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((found, unreadable))
    }

    /// Returns the row that meets a condition on a unique column.
    fn one(
        connection: &Connection,
        key: &RowKey,
        condition: &str,
        values: impl Params,
    ) -> Result<Option<Self>, StoreError> {
        let sql = format!("SELECT {} FROM {} {condition}", Self::COLUMNS, Self::TABLE);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(values)?;
        rows.next()?.map(|row| Self::read(row, key)).transpose()
    }
}

pub(super) fn id(row: &Row<'_>, table: &'static str, index: usize) -> Result<Uuid, StoreError> {
    Ok(Uuid::from_bytes(column(row, table, index)?))
}

pub(super) fn optional_id(
    row: &Row<'_>,
    table: &'static str,
    index: usize,
) -> Result<Option<Uuid>, StoreError> {
    Ok(column::<Option<[u8; 16]>>(row, table, index)?.map(Uuid::from_bytes))
}

pub(super) fn time(row: &Row<'_>, table: &'static str, index: usize) -> Result<Option<u64>, StoreError> {
    Ok(column::<Option<i64>>(row, table, index)?.map(unsigned))
}

pub(super) fn bytes_of(id: Option<&Uuid>) -> Option<&[u8]> {
    id.map(|id| id.as_bytes().as_slice())
}

impl AccountRow for ServiceAccount {
    const TABLE: &'static str = "accounts";
    const COLUMNS: &'static str = "id, email, created, disabled, generation, mac";

    fn parse(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: id(row, Self::TABLE, 0)?,
            email: column(row, Self::TABLE, 1)?,
            created: unsigned(column(row, Self::TABLE, 2)?),
            disabled: time(row, Self::TABLE, 3)?,
            generation: unsigned(column(row, Self::TABLE, 4)?),
        })
    }

    fn cells(&self) -> Vec<(&'static str, Cell<'_>)> {
        vec![
            ("id", Cell::Bytes(self.id.as_bytes())),
            ("email", Cell::Text(&self.email)),
            ("created", Cell::Integer(signed(self.created))),
            ("disabled", Cell::from(self.disabled.map(signed))),
            ("generation", Cell::Integer(signed(self.generation))),
        ]
    }
}

impl ServiceAccount {
    /// Inserts the row.
    pub(super) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        insert(tx, self)
    }

    /// Updates the row with its id.
    pub(super) fn update(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        update(tx, self, &["disabled", "generation"])
    }
}

impl AccountRow for AccountGrant {
    const TABLE: &'static str = "grants";
    const COLUMNS: &'static str = "id, account, role, project, ring, created, mac";

    fn parse(row: &Row<'_>) -> Result<Self, StoreError> {
        let role: String = column(row, Self::TABLE, 2)?;
        let role = Role::named(&role).ok_or_else(|| invalid(Self::TABLE, row))?;
        let (project, ring) = (optional_id(row, Self::TABLE, 3)?, optional_id(row, Self::TABLE, 4)?);
        Ok(Self {
            id: id(row, Self::TABLE, 0)?,
            account: id(row, Self::TABLE, 1)?,
            grant: Grant { role, project, ring },
            created: unsigned(column(row, Self::TABLE, 5)?),
        })
    }

    fn cells(&self) -> Vec<(&'static str, Cell<'_>)> {
        vec![
            ("id", Cell::Bytes(self.id.as_bytes())),
            ("account", Cell::Bytes(self.account.as_bytes())),
            ("role", Cell::Text(self.grant.role.name())),
            ("project", Cell::from(bytes_of(self.grant.project.as_ref()))),
            ("ring", Cell::from(bytes_of(self.grant.ring.as_ref()))),
            ("created", Cell::Integer(signed(self.created))),
        ]
    }
}

impl AccountGrant {
    /// Inserts the row.
    pub(super) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        insert(tx, self)
    }
}

impl AccountRow for Token {
    const TABLE: &'static str = "tokens";
    const COLUMNS: &'static str = "id, account, name, digest, created, expires, mac";

    fn parse(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: id(row, Self::TABLE, 0)?,
            account: id(row, Self::TABLE, 1)?,
            name: column(row, Self::TABLE, 2)?,
            digest: column(row, Self::TABLE, 3)?,
            created: unsigned(column(row, Self::TABLE, 4)?),
            expires: time(row, Self::TABLE, 5)?,
        })
    }

    fn cells(&self) -> Vec<(&'static str, Cell<'_>)> {
        vec![
            ("id", Cell::Bytes(self.id.as_bytes())),
            ("account", Cell::Bytes(self.account.as_bytes())),
            ("name", Cell::Text(&self.name)),
            ("digest", Cell::Bytes(&self.digest)),
            ("created", Cell::Integer(signed(self.created))),
            ("expires", Cell::from(self.expires.map(signed))),
        ]
    }
}

impl Token {
    /// Inserts the row.
    pub(super) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        insert(tx, self)
    }
}

impl AccountRow for AccountKey {
    const TABLE: &'static str = "account_keys";
    const COLUMNS: &'static str =
        "id, account, algorithm, public_key, generated, created, valid_until, revoked, mac";

    fn parse(row: &Row<'_>) -> Result<Self, StoreError> {
        let number: i64 = column(row, Self::TABLE, 2)?;
        let algorithm = KeyAlgorithm::ALL.into_iter().find(|algorithm| algorithm.number() == number);
        Ok(Self {
            id: id(row, Self::TABLE, 0)?,
            account: id(row, Self::TABLE, 1)?,
            algorithm: algorithm.ok_or_else(|| invalid(Self::TABLE, row))?,
            public: column(row, Self::TABLE, 3)?,
            generated: column::<i64>(row, Self::TABLE, 4)? == 1,
            created: unsigned(column(row, Self::TABLE, 5)?),
            valid_until: time(row, Self::TABLE, 6)?,
            revoked: time(row, Self::TABLE, 7)?,
        })
    }

    fn cells(&self) -> Vec<(&'static str, Cell<'_>)> {
        vec![
            ("id", Cell::Bytes(self.id.as_bytes())),
            ("account", Cell::Bytes(self.account.as_bytes())),
            ("algorithm", Cell::Integer(self.algorithm.number())),
            ("public_key", Cell::Bytes(&self.public)),
            ("generated", Cell::Integer(i64::from(self.generated))),
            ("created", Cell::Integer(signed(self.created))),
            ("valid_until", Cell::from(self.valid_until.map(signed))),
            ("revoked", Cell::from(self.revoked.map(signed))),
        ]
    }
}

impl AccountKey {
    /// Inserts the row.
    pub(super) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        insert(tx, self)
    }

    /// Updates the row with its id.
    pub(super) fn update(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        update(tx, self, &["revoked"])
    }
}

fn insert<T: AccountRow>(tx: &WriteTx<'_>, row: &T) -> Result<(), StoreError> {
    let mut columns = row.cells();
    let mac = tx.key.mac(T::TABLE, &columns);
    columns.push(("mac", Cell::Bytes(&mac)));
    tx.insert(T::TABLE, &columns)
}

/// Sets the named columns of the row with this id, its first column.
fn update<T: AccountRow>(tx: &WriteTx<'_>, row: &T, changes: &[&str]) -> Result<(), StoreError> {
    let columns = row.cells();
    let mac = tx.key.mac(T::TABLE, &columns);
    let mut set: Vec<_> = columns.iter().copied().filter(|(name, _)| changes.contains(name)).collect();
    set.push(("mac", Cell::Bytes(&mac)));
    tx.update(T::TABLE, &columns[..1], &set)
}
