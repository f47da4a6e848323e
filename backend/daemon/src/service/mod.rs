//! The backend as a whole: created once, opened by the daemon or by a command; what the commands do with it.

mod accounts;
mod audit;
mod audited_command;
mod backup;
mod credentials;
mod erase;
mod error;
mod keys;
mod principals;
mod projects;
mod reports;
mod restore_plan;
mod rings;
mod service_keys;

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use kms_core::integrity::RowKey;
use kms_core::object::MasterVersion;
use kms_core::policy::TicketKey;
use kms_core::seal::Seals;
use kms_hsm::{Hsm, HsmError};
use kms_store::{LockedStore, RingLimits, Store, StoreLimits};

use crate::config::{Config, RestConfig, RingShares};
use crate::dispatch::{AuditWriter, Authenticator, Clock, Dispatch, HsmCounter, IvBudget, Shares};
use crate::keys::Keys;
use crate::pins::{PinKey, Pins};
use crate::rest::RestListener;
use crate::scheduler::Scheduler;
use crate::server::{self, Owner, SocketLimits, SocketListener};
use rings::check_name;
use service_keys::{
    CREDENTIALS, FINGERPRINTS, PINS, ROWS, SEALS, TICKETS, create_service_key, fresh_key, pins_key,
    service_key, service_key_or_create,
};

pub use accounts::{AccountError, AccountInfo, GrantInfo, Scope};
pub use backup::Restored;
pub use credentials::{AccountKeyInfo, NewToken, TokenInfo};
pub use erase::erase_database;
pub use error::ServiceError;
pub use keys::KeyInfo;
pub use principals::PrincipalInfo;
pub use restore_plan::{Difference, ItemKind, RestoreOptions, RestorePlan};
pub use rings::{NewRing, RingInfo, ring_id};

/// An opened home: HSM, database and service keys.
pub struct Backend {
    dispatch: Arc<Dispatch>,
    /// Whether it is the home's own database, whose changes the HSM's token counts.
    counts: bool,
}

impl Backend {
    /// Creates the master key in an initialised token, and a new database. Neither may exist.
    ///
    /// # Errors
    /// When the token cannot be used, or the master key or the database exists.
    pub fn create(config: &Config) -> Result<Self, ServiceError> {
        let hsm = Hsm::open(&config.hsm())?;
        if let Some(version) = hsm.masters()?.first() {
            return Err(ServiceError::ForeignMaster(*version));
        }
        let store = Store::create(&config.store_path())?;
        let master = MasterVersion(1);
        hsm.create_master(master)?;
        for purpose in [ROWS, TICKETS, SEALS, FINGERPRINTS, CREDENTIALS, PINS] {
            create_service_key(&hsm, &store, master, purpose)?;
        }
        Self::unlock(config, hsm, store, Age::Present)
    }

    /// Opens the home that [`Backend::create`] created.
    ///
    /// # Errors
    /// When the token or the database is missing or damaged, or belongs to another home.
    pub fn open(config: &Config) -> Result<Self, ServiceError> {
        let hsm = Hsm::open(&config.hsm())?;
        let store = Store::open_existing(&config.store_path())?;
        Self::unlock(config, hsm, store, Age::Present)
    }

    /// Opens a home with the database at another path: a copy that may replace its own, and may be old.
    fn open_at(config: &Config, database: &Path) -> Result<Self, ServiceError> {
        let hsm = Hsm::open(&config.hsm())?;
        let store = Store::open_existing(database)?;
        Self::unlock(config, hsm, store, Age::Any)
    }

    fn unlock(config: &Config, hsm: Hsm, store: LockedStore, age: Age) -> Result<Self, ServiceError> {
        let rows = service_key(&hsm, &store, ROWS)?;
        let tickets = service_key(&hsm, &store, TICKETS)?;
        let seals = service_key(&hsm, &store, SEALS)?;
        let master = hsm.masters()?.last().copied().ok_or(HsmError::MasterMissing(MasterVersion(1)))?;
        let credentials = service_key_or_create(&hsm, &store, master, CREDENTIALS, fresh_key)?;
        let fingerprints = service_key_or_create(&hsm, &store, master, FINGERPRINTS, || Ok(seals.clone()))?;
        let pins = PinKey::from(pins_key(&hsm, &store, master)?);
        let home = store.home();
        let hsm_counter = config.counts().then(|| HsmCounter::new(hsm.clone(), home));
        let counted = hsm_counter.as_ref().map_or(Ok(None), HsmCounter::counted)?;
        let store = match age {
            Age::Present => store.unlock_at(RowKey::from(rows), counted)?,
            Age::Any => store.unlock_copy(RowKey::from(rows))?,
        };
        if let Some(hsm_counter) = hsm_counter.as_ref().filter(|_| age == Age::Present) {
            hsm_counter.begin(&store, counted)?;
        }
        store.set_limits(store_limits(config));
        let iv_budget = IvBudget::open(&store)?;
        let restored = store.restores()?.last;
        let dispatch = Dispatch {
            store,
            keys: Keys::new(hsm.clone(), &config.key_cache()),
            hsm,
            seals: Seals::new(seals, fingerprints),
            pins: Pins::new(pins, fresh_key()?)?,
            tickets: TicketKey::from(tickets),
            authenticator: Authenticator::new(credentials, home, config.token_lifetimes()),
            master,
            random: SystemRandom::new(),
            clock: Clock::default(),
            iv_budget,
            restored,
            lifecycle: config.lifecycle(),
            hsm_counter,
            audit_writer: AuditWriter::new(config.audit(), Clock::default().millis()),
            offers_free_slot: config.offers_free_slot(),
            shares: Shares::new(config.ring_shares()),
        };
        Ok(Self { dispatch: Arc::new(dispatch), counts: age == Age::Present })
    }

    /// The dispatcher behind both listeners.
    #[cfg(test)]
    pub(crate) fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// Checks whether the HSM and the database work.
    pub fn health(&self) -> Health {
        Health {
            hsm: self.dispatch.hsm.alive().map_err(ServiceError::from),
            store: self.dispatch.store.check().map_err(ServiceError::from),
            rows: self.dispatch.store.row_faults().map_err(ServiceError::from),
        }
    }
}

impl Drop for Backend {
    /// What a command has changed is not in older copies: they are found from now on.
    fn drop(&mut self) {
        if self.counts {
            self.dispatch.follow_counter(None);
        }
    }
}

/// Which databases are opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Age {
    /// Those that have counted as far as the HSM's token.
    Present,
    /// Old copies, too.
    Any,
}

/// The limits of the database.
fn store_limits(config: &Config) -> StoreLimits {
    let RingShares { keys_max, objects_max, bytes_max, .. } = config.ring_shares();
    let ring = RingLimits { keys: keys_max, objects: objects_max, bytes: bytes_max };
    StoreLimits { ring, disk_floor: config.disk_floor() }
}

/// The result of [`Backend::health`].
pub struct Health {
    /// The HSM and its master key.
    pub hsm: Result<(), ServiceError>,
    /// The database.
    pub store: Result<(), ServiceError>,
    /// What is wrong with its rows as a whole: none were deleted, inserted, edited or put back if nothing is.
    pub rows: Result<Vec<String>, ServiceError>,
}

/// Serves until the process receives SIGTERM or SIGINT, and notifies the owner of the daemon's state.
///
/// # Errors
/// When the home cannot be opened, or a listener fails permanently.
pub fn serve(config: &Config, rest: &RestConfig, owner: &mut dyn Owner) -> Result<(), ServiceError> {
    let socket = SocketListener::open(&config.socket_path(), config.socket_mode())?;
    let backend = Backend::open(config)?;
    backend.dispatch.store.check_rows()?;
    let _guard = backend.dispatch.store.guard()?;
    let listener = if rest.enabled { Some(RestListener::open(rest)?) } else { None };
    let _scheduler = Scheduler::start(Arc::clone(&backend.dispatch))?;
    let limits = SocketLimits {
        connections_max: config.connections_max(),
        connections_per_uid: config.connections_per_uid(),
    };
    server::run(socket, listener, Arc::clone(&backend.dispatch), limits, owner)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use kms_core::object::RingRole;
    use kms_protocol::{RingPolicy, Secret};
    use kms_store::StoreError;
    use uuid::Uuid;

    use super::*;
    use crate::{config, test_home};

    fn home(test: &str) -> Option<PathBuf> {
        test_home::home_in_child(&format!("service::tests::{test}"))
    }

    fn read(home: &Path) -> Config {
        Config::read(&home.join(config::FILE_NAME)).unwrap()
    }

    fn new_ring(name: &str) -> NewRing {
        let (policy, pin) = (RingPolicy::Strict, || Secret::from(b"1234".as_slice()));
        NewRing { name: name.to_owned(), policy, user_pin: pin(), so_pin: pin() }
    }

    #[test]
    fn a_home_is_created_once_and_can_be_reopened() {
        let Some(home) = home("a_home_is_created_once_and_can_be_reopened") else { return };
        let config = read(&home);
        assert!(matches!(Backend::open(&config), Err(ServiceError::Store(StoreError::Missing(_)))));
        let backend = Backend::create(&config).unwrap();
        let created = backend.create_ring(new_ring("first")).unwrap();
        assert!(matches!(backend.create_ring(new_ring("first")), Err(ServiceError::Exists(_))));
        assert!(matches!(backend.create_ring(new_ring("no name")), Err(ServiceError::BadName(_))));
        let short = NewRing { so_pin: Secret::from(b"123".as_slice()), ..new_ring("short") };
        assert!(matches!(backend.create_ring(short), Err(ServiceError::BadPin)));
        let secret = Secret::from(b"secret".as_slice());
        backend.add_account("first", "app", RingRole::User, &secret).unwrap();
        let twice = backend.add_account("first", "app", RingRole::User, &secret);
        assert!(matches!(twice, Err(ServiceError::Exists(_))));
        drop(backend);

        assert!(matches!(Backend::create(&config), Err(ServiceError::ForeignMaster(MasterVersion(1)))));
        let backend = Backend::open(&config).unwrap();
        let rings = backend.rings().unwrap();
        assert_eq!((rings.len(), rings[0].id, &rings[0].serial), (1, created.id, &created.serial));
        assert!(backend.keys(Some("first")).unwrap().is_empty());
        assert!(matches!(backend.keys(Some("other")), Err(ServiceError::NoSuchRing(_))));
        let id = created.id.to_string();
        for ring in ["first", &id, &id.to_uppercase()] {
            assert_eq!(backend.ring_name(ring).unwrap(), "first");
            assert!(backend.keys(Some(ring)).unwrap().is_empty());
            assert_eq!(backend.principals(Some(ring)).unwrap().len(), 3);
        }
        // 32 digits without hyphens could be a ring's name: they are not taken for an id.
        for ring in [created.id.simple().to_string(), Uuid::from_u128(1).to_string()] {
            assert!(matches!(backend.ring_name(&ring), Err(ServiceError::NoSuchRing(_))));
        }
        let health = backend.health();
        assert!(health.hsm.is_ok() && health.store.is_ok());
    }

    #[test]
    fn a_database_and_a_token_of_different_homes_do_not_open() {
        let Some(home) = home("a_database_and_a_token_of_different_homes_do_not_open") else { return };
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
