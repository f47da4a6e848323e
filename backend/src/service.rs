//! The backend as its owner handles it: made once, opened by the daemon or by a command, rings and accounts added.

mod accounts;
mod audit;
mod backup;
mod bearers;
mod operator;
mod principals;
mod projects;
mod reports;

use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use kms_protocol::{RingId, RingPolicy, Secret};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::audit::Broken;
use crate::config::{Config, RestConfig};
use crate::dispatch::{self, Bearers, Clock, Dispatch, ExportError, OFFICER, Recorder, USER, Vectors};
use crate::duties::Duties;
use crate::error::Error;
use crate::hsm::{Hsm, HsmError};
use crate::integrity::RowKey;
use crate::keys::Keys;
use crate::object::{KeyBytes, MasterVersion, Standing, Wrapped};
use crate::pins::{self, Pins};
use crate::policy::TicketKey;
use crate::rest::{RestError, RestListener};
use crate::seal::Seals;
use crate::server::{self, Door, DoorError, Owner};
use crate::store::{LockedStore, NewRing as StoredRing, RingFacts, Store, StoreError};

use operator::Command;

pub use accounts::{AccountError, AccountInfo, GrantInfo, Scope};
pub use backup::Restored;
pub use bearers::{AccountKeyInfo, NewToken, TokenInfo};
pub use principals::PrincipalInfo;

/// The keys the backend itself needs, each wrapped by the HSM and kept in the database: for the integrity of rows, …
const ROWS: &str = "rows";
/// … for the tickets of logins, …
const TICKETS: &str = "tickets";
/// … for sealed session objects, …
const SEALS: &str = "seals";
/// … and for the tokens of service accounts. Homes that were made before there were any get it when they are opened.
const BEARERS: &str = "bearers";

/// Why the backend cannot be made, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The HSM does not do its part.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request of the owner's was refused, or failed.
    #[error(transparent)]
    Request(#[from] Error),
    /// The socket is not ours to listen on.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The REST door cannot be opened.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The daemon could not go on.
    #[error("the daemon stopped")]
    Io(#[from] io::Error),
    /// The token has a master key, and the database is new: they do not belong together.
    #[error(
        "the token already holds a master key (version {}), so another KMS uses it; \
         initialise a token of its own for this home",
        .0.0
    )]
    ForeignMaster(MasterVersion),
    /// The database and the token do not belong together.
    #[error(
        "the master key in the token does not open the database's {purpose} key: this is another home's token, \
         or the database was copied without its token; check [hsm] token and [store] path in kms.toml"
    )]
    Mismatch {
        /// Which key did not open.
        purpose: &'static str,
    },
    /// The database is not complete.
    #[error("the database has no {0} key; it was not made by `kms init`, or not to the end")]
    Incomplete(&'static str),
    /// There is no such ring.
    #[error("no ring is named {0:?}; `kms ring list` shows them")]
    NoSuchRing(String),
    /// There is no such key.
    #[error("no active key has the label or id {0:?}; `kms key list` shows them")]
    NoSuchKey(String),
    /// A label is several keys'.
    #[error("several keys have the label {0:?}; name one by its id, which `kms key list` shows")]
    Ambiguous(String),
    /// The name is taken.
    #[error("{0:?} exists already")]
    Exists(String),
    /// A name that is not one.
    #[error("{0:?} is no name: 1 to 32 letters, digits, `-` and `_`")]
    BadName(String),
    /// What there is could not be told.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A copy was tampered with.
    #[error("the audit log in the copy is not whole: {0}")]
    AuditBroken(Broken),
    /// Something about accounts, roles or tokens.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A PIN that will not do.
    #[error("this PIN will not do: {} to {} bytes of UTF-8", pins::PIN_BYTES_MIN, pins::PIN_BYTES_MAX)]
    BadPin,
}

/// A ring to be made.
pub struct NewRing {
    /// Its name: the token's label.
    pub name: String,
    /// What it allows.
    pub policy: RingPolicy,
    /// The user's PIN.
    pub user_pin: Secret,
    /// The security officer's PIN.
    pub so_pin: Secret,
}

impl NewRing {
    /// Whether name and PINs will do, without asking whether the name is free.
    ///
    /// # Errors
    /// When one of them will not do.
    pub fn check(&self) -> Result<(), ServiceError> {
        check_name(&self.name)?;
        for pin in [&self.user_pin, &self.so_pin] {
            pins::acceptable(pin).map_err(|_| ServiceError::BadPin)?;
        }
        Ok(())
    }
}

/// A ring, as listed.
#[derive(Clone, Debug)]
pub struct RingInfo {
    /// Its id.
    pub id: Uuid,
    /// Its slot.
    pub slot: u64,
    /// The token's label.
    pub label: String,
    /// The token's serial number.
    pub serial: String,
    /// What it allows.
    pub policy: RingPolicy,
    /// How many keys it has.
    pub keys: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// A key, as listed.
#[derive(Clone, Debug)]
pub struct KeyInfo {
    /// The label of its ring.
    pub ring: String,
    /// Its id.
    pub id: Uuid,
    /// Its label; bytes that are not UTF-8 are replaced.
    pub label: String,
    /// What it is.
    pub algorithm: String,
    /// How many versions it has.
    pub versions: u64,
    /// `active`, `disabled` or `destroyed`.
    pub state: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// Everything opened.
pub struct Backend {
    dispatch: Arc<Dispatch>,
}

impl Backend {
    /// Makes the master key in an initialised token, and a new database. There must be neither.
    ///
    /// # Errors
    /// When the token cannot be used, or one of them is there already.
    pub fn create(config: &Config) -> Result<Self, ServiceError> {
        let hsm = Hsm::open(&config.hsm())?;
        if let Some(version) = hsm.masters()?.first() {
            return Err(ServiceError::ForeignMaster(*version));
        }
        let store = Store::create(&config.store_path())?;
        let master = MasterVersion(1);
        hsm.create_master(master)?;
        for purpose in [ROWS, TICKETS, SEALS, BEARERS] {
            make_service_key(&hsm, &store, master, purpose)?;
        }
        Self::unlock(config, hsm, store)
    }

    /// Opens what [`Backend::create`] made.
    ///
    /// # Errors
    /// When the token or the database is missing, damaged, or another home's.
    pub fn open(config: &Config) -> Result<Self, ServiceError> {
        Self::open_at(config, &config.store_path())
    }

    /// Opens a home with another database than its own: a copy that may become it.
    fn open_at(config: &Config, database: &Path) -> Result<Self, ServiceError> {
        let hsm = Hsm::open(&config.hsm())?;
        let store = Store::open_existing(database)?;
        Self::unlock(config, hsm, store)
    }

    fn unlock(config: &Config, hsm: Hsm, store: LockedStore) -> Result<Self, ServiceError> {
        let rows = service_key(&hsm, &store, ROWS)?;
        let tickets = service_key(&hsm, &store, TICKETS)?;
        let seals = service_key(&hsm, &store, SEALS)?;
        let master = hsm.masters()?.last().copied().ok_or(HsmError::MasterMissing(MasterVersion(1)))?;
        let bearers = later_service_key(&hsm, &store, master, BEARERS)?;
        let home = store.home();
        let store = store.unlock(RowKey::from(rows))?;
        let vectors = Vectors::open(&store)?;
        let dispatch = Dispatch {
            store,
            keys: Keys::new(hsm.clone(), &config.key_cache()),
            hsm,
            seals: Seals::new(seals),
            pins: Pins::new(fresh_key()?)?,
            tickets: TicketKey::from(tickets),
            bearers: Bearers::new(bearers, home, config.token_lives()),
            master,
            random: SystemRandom::new(),
            clock: Clock::default(),
            vectors,
            lifecycle: config.lifecycle(),
            recorder: Recorder::new(config.audit(), Clock::default().millis()),
            offers_free_slot: config.offers_free_slot(),
        };
        Ok(Self { dispatch: Arc::new(dispatch) })
    }

    /// Makes a ring with its user and its security officer.
    ///
    /// # Errors
    /// When the name or a PIN will not do, or the name is taken.
    pub fn create_ring(&self, ring: NewRing) -> Result<RingInfo, ServiceError> {
        ring.check()?;
        let store = &self.dispatch.store;
        if store.rings()?.iter().any(|known| known.label == ring.name) {
            return Err(ServiceError::Exists(ring.name));
        }
        let id = Uuid::new_v4();
        let project = store.projects()?.first().map(|project| project.id).unwrap_or_default();
        let command = Command {
            event: "kms.keyring.create",
            typed: "kms ring create",
            resource: format!("projects/{project}/keyrings/{id}"),
            project: Some(project),
        };
        let entry = Some(self.entry(command, [("label", ring.name.as_str().into())]));
        let made = store.insert_ring(&StoredRing {
            id: RingId(id.into_bytes()),
            label: ring.name,
            policy: ring.policy,
            created: self.dispatch.clock.seconds(),
            slot: None,
            facts: RingFacts::default(),
            entry,
        })?;
        self.dispatch.put(&made, USER, Standing::Admin, &ring.user_pin, 1, None)?;
        self.dispatch.put(&made, OFFICER, Standing::Officer, &ring.so_pin, 1, None)?;
        Ok(self.describe(&made, 0))
    }

    /// All rings, by slot.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rings(&self) -> Result<Vec<RingInfo>, ServiceError> {
        let store = &self.dispatch.store;
        store.rings()?.iter().map(|ring| Ok(self.describe(ring, store.count_keys(ring.id)?))).collect()
    }

    /// The keys of a ring, or of all.
    ///
    /// # Errors
    /// When there is no such ring, or the database fails.
    pub fn keys(&self, ring: Option<&str>) -> Result<Vec<KeyInfo>, ServiceError> {
        let rings = match ring {
            Some(name) => vec![self.ring_named(name)?],
            None => self.dispatch.store.rings()?,
        };
        let mut keys = Vec::new();
        for ring in rings {
            for key in self.dispatch.store.keys(ring.id)? {
                keys.push(KeyInfo {
                    ring: ring.label.clone(),
                    id: Uuid::from_bytes(key.id),
                    label: String::from_utf8_lossy(&key.label).into_owned(),
                    algorithm: key.algorithm,
                    versions: key.versions,
                    state: key.state,
                    created: key.created,
                });
            }
        }
        Ok(keys)
    }

    /// Makes the next version of a key, named by its id or its label; tells its number.
    ///
    /// # Errors
    /// When there is no such ring or active key, or several keys have the label.
    pub fn rotate_key(&self, ring: &str, key: &str) -> Result<u32, ServiceError> {
        let ring = self.ring_named(ring)?;
        let keys = self.dispatch.store.keys(ring.id)?;
        let active = keys.iter().filter(|known| known.state == "active");
        let named = active
            .filter(|known| known.label == key.as_bytes() || Uuid::from_bytes(known.id).to_string() == key);
        let found: Vec<_> = named.map(|known| known.id).collect();
        match found.as_slice() {
            [] => Err(ServiceError::NoSuchKey(key.to_owned())),
            [id] => {
                let command = Command {
                    event: "kms.key.rotate",
                    typed: "kms key rotate",
                    resource: format!("{}/keys/{}", self.dispatch.ring_path(&ring), Uuid::from_bytes(*id)),
                    project: Some(self.dispatch.project_of(&ring)?),
                };
                Ok(self.dispatch.rotate(&ring, *id, Some(self.entry(command, [])))?)
            }
            [_, _, ..] => Err(ServiceError::Ambiguous(key.to_owned())),
        }
    }

    /// The rooms behind every door.
    #[cfg(test)]
    pub(crate) fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// Asks the HSM and the database whether they work.
    pub fn health(&self) -> Health {
        Health {
            hsm: self.dispatch.hsm.alive().map_err(ServiceError::from),
            store: self.dispatch.store.check().map_err(ServiceError::from),
        }
    }

    fn ring_named(&self, name: &str) -> Result<crate::store::Ring, ServiceError> {
        let rings = self.dispatch.store.rings()?;
        rings
            .into_iter()
            .find(|ring| ring.label == name)
            .ok_or_else(|| ServiceError::NoSuchRing(name.to_owned()))
    }

    fn describe(&self, ring: &crate::store::Ring, keys: u64) -> RingInfo {
        let slot = dispatch::slot_of(ring, true);
        RingInfo {
            id: Uuid::from_bytes(ring.id.0),
            slot: slot.id.0,
            label: slot.label,
            serial: slot.serial,
            policy: slot.policy,
            keys,
            created: ring.created,
        }
    }
}

/// What [`Backend::health`] found.
pub struct Health {
    /// The HSM and its master key.
    pub hsm: Result<(), ServiceError>,
    /// The database.
    pub store: Result<(), ServiceError>,
}

/// Serves until the process is told to stop, and tells the owner what happens.
///
/// # Errors
/// When something is missing at the start, or a door fails for good.
pub fn serve(config: &Config, rest: &RestConfig, owner: &mut dyn Owner) -> Result<(), ServiceError> {
    let door = Door::open(&config.socket_path(), config.socket_mode())?;
    let backend = Backend::open(config)?;
    let listener = if rest.enabled { Some(RestListener::open(rest)?) } else { None };
    let _duties = Duties::start(Arc::clone(&backend.dispatch))?;
    server::run(door, listener, Arc::clone(&backend.dispatch), config.connections_max(), owner)?;
    Ok(())
}

/// The name of a ring or a principal: it fits in a token's label, in a URI and before the colon of `name:secret`.
fn check_name(name: &str) -> Result<(), ServiceError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=32).contains(&name.len()) && name.chars().all(legal) {
        Ok(())
    } else {
        Err(ServiceError::BadName(name.to_owned()))
    }
}

fn fresh_key() -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(Error::Random)?;
    Ok(key)
}

fn make_service_key(
    hsm: &Hsm,
    store: &LockedStore,
    master: MasterVersion,
    purpose: &'static str,
) -> Result<(), ServiceError> {
    let key = fresh_key()?;
    let bytes = hsm.wrap(master, &service_identity(store, purpose), key.as_slice())?;
    Ok(store.put_service_key(purpose, &Wrapped { master, bytes })?)
}

/// A service key that homes of earlier versions have not: it is made where it is missing.
fn later_service_key(
    hsm: &Hsm,
    store: &LockedStore,
    master: MasterVersion,
    purpose: &'static str,
) -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    if store.service_key(purpose)?.is_none()
        && let Err(error) = make_service_key(hsm, store, master, purpose)
        // Another process may have made it meanwhile; that one counts.
        && store.service_key(purpose)?.is_none()
    {
        return Err(error);
    }
    service_key(hsm, store, purpose)
}

fn service_key(
    hsm: &Hsm,
    store: &LockedStore,
    purpose: &'static str,
) -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    let wrapped = store.service_key(purpose)?.ok_or(ServiceError::Incomplete(purpose))?;
    let opened = hsm.unwrap(wrapped.master, &service_identity(store, purpose), &wrapped.bytes);
    let opened: KeyBytes = opened.map_err(|error| {
        let theirs = matches!(error, HsmError::MaterialInvalid);
        if theirs { ServiceError::Mismatch { purpose } } else { error.into() }
    })?;
    let key: [u8; 32] = opened.as_ref().try_into().map_err(|_| ServiceError::Mismatch { purpose })?;
    Ok(Zeroizing::new(key))
}

/// What the HSM binds a service key to: this home and this purpose.
fn service_identity(store: &LockedStore, purpose: &str) -> Vec<u8> {
    [b"kms service key v1 ".as_slice(), &store.home(), purpose.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::{config, softhsm};

    fn home(test: &str) -> Option<PathBuf> {
        softhsm::token(&format!("service::tests::{test}"))
    }

    fn read(home: &Path) -> Config {
        Config::read(&home.join(config::FILE_NAME)).unwrap()
    }

    fn new_ring(name: &str) -> NewRing {
        let (policy, pin) = (RingPolicy::Strict, || Secret::from(b"1234".as_slice()));
        NewRing { name: name.to_owned(), policy, user_pin: pin(), so_pin: pin() }
    }

    #[test]
    fn a_home_is_made_once_and_opens_again() {
        let Some(home) = home("a_home_is_made_once_and_opens_again") else { return };
        let config = read(&home);
        assert!(matches!(Backend::open(&config), Err(ServiceError::Store(StoreError::Missing(_)))));
        let backend = Backend::create(&config).unwrap();
        let made = backend.create_ring(new_ring("first")).unwrap();
        assert!(matches!(backend.create_ring(new_ring("first")), Err(ServiceError::Exists(_))));
        assert!(matches!(backend.create_ring(new_ring("no name")), Err(ServiceError::BadName(_))));
        let short = NewRing { so_pin: Secret::from(b"123".as_slice()), ..new_ring("short") };
        assert!(matches!(backend.create_ring(short), Err(ServiceError::BadPin)));
        let secret = Secret::from(b"secret".as_slice());
        backend.add_account("first", "app", Standing::User, &secret).unwrap();
        let twice = backend.add_account("first", "app", Standing::User, &secret);
        assert!(matches!(twice, Err(ServiceError::Exists(_))));
        drop(backend);

        assert!(matches!(Backend::create(&config), Err(ServiceError::ForeignMaster(MasterVersion(1)))));
        let backend = Backend::open(&config).unwrap();
        let rings = backend.rings().unwrap();
        assert_eq!((rings.len(), rings[0].id, &rings[0].serial), (1, made.id, &made.serial));
        assert!(backend.keys(Some("first")).unwrap().is_empty());
        assert!(matches!(backend.keys(Some("other")), Err(ServiceError::NoSuchRing(_))));
        let health = backend.health();
        assert!(health.hsm.is_ok() && health.store.is_ok());
    }

    #[test]
    fn a_database_and_a_token_of_two_homes_do_not_open() {
        let Some(home) = home("a_database_and_a_token_of_two_homes_do_not_open") else { return };
        let config = read(&home);
        drop(Backend::create(&config).unwrap());
        let database = config.store_path();
        // The service keys of another database, wrapped under the same master key.
        let other = home.join("other.db");
        let text = fs::read_to_string(home.join(config::FILE_NAME)).unwrap();
        fs::write(home.join(config::FILE_NAME), text.replace("# path = \"kms.db\"", "path = \"other.db\""))
            .unwrap();
        drop(Store::create(&other).unwrap());
        assert!(matches!(Backend::open(&read(&home)), Err(ServiceError::Incomplete("rows"))));
        let edit = rusqlite::Connection::open(&other).unwrap();
        edit.execute("ATTACH ?1 AS first", [database.to_str()]).unwrap();
        edit.execute("INSERT INTO service_keys SELECT * FROM first.service_keys", []).unwrap();
        drop(edit);
        assert!(matches!(Backend::open(&read(&home)), Err(ServiceError::Mismatch { purpose: "rows" })));
    }
}
