//! Backup and restore of the database. A copy can be opened only with the master key that wraps its service keys.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kms_core::error_chain;
use kms_store::{CheckReport, HighWaterMarks, Renewal, Store, StoreError, beside, settle, sync_folder};
use serde_json::json;

use super::audited_command::AuditedCommand;
use super::restore_plan::{Inventory, ItemKind, RestoreOptions, RestorePlan};
use super::service_keys::{CREDENTIALS, SEALS, TICKETS, new_service_key};
use super::{Backend, ServiceError};
use crate::config::Config;
use crate::dispatch::RESTORE_BLOCKS;
use crate::server::SocketListener;

/// The result of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the copy contains.
    pub checked: CheckReport,
    /// The path to which the previous database was moved, if there was one.
    pub replaced: Option<PathBuf>,
    /// What it brought back, and what it ended.
    pub plan: RestorePlan,
}

impl Backend {
    /// Copies a consistent snapshot of the database to a new file, and verifies the copy.
    ///
    /// # Errors
    /// When the file exists or cannot be written, or the copy is not intact.
    pub fn backup(&self, to: &Path, progress: impl FnMut(u64, u64)) -> Result<CheckReport, ServiceError> {
        let store = &self.dispatch.store;
        let checked = store.backup(to, progress)?;
        let audited = AuditedCommand {
            event: "kms.home.backup",
            command: "kms backup",
            resource: "home".to_owned(),
            project: None,
        };
        store.record(self.entry(audited, [("file", json!(to.to_string_lossy()))]))?;
        Ok(checked)
    }

    /// Replaces a home's database by a copy. Nothing is changed before the copy has been opened with the home's own
    /// token and verified, and `confirm` has accepted what the restore brings back; the previous database is kept beside
    /// it under another name. Logins, session objects, access tokens and revoked credentials end, unless `options` keep
    /// them.
    ///
    /// # Errors
    /// When a daemon serves the home, the token does not open the copy's service keys, the copy is not intact, or the
    /// restore is not confirmed.
    pub fn restore(
        config: &Config,
        from: &Path,
        options: &RestoreOptions,
        confirm: impl FnOnce(&RestorePlan) -> bool,
    ) -> Result<Restored, ServiceError> {
        // Held until the end, so that no daemon can start meanwhile.
        let _listener = SocketListener::open(&config.socket_path(), config.socket_mode())?;
        let database = config.store_path();
        let candidate = Candidate(beside(&database, "restoring"));
        candidate.copy_from(from)?;
        let copy = {
            let backend = Self::open_at(config, &candidate.0)?;
            check(&backend, &candidate.0)?;
            Inventory::of(&backend.dispatch.store, backend.dispatch.clock.seconds())?
        };
        let replaced = Replaced::of(config, &database);
        let inventory = replaced.as_ref().map(|replaced| &replaced.inventory).map_err(String::clone);
        let plan = RestorePlan::new(&copy, inventory, options).map_err(ServiceError::NoSuchCredential)?;
        if plan.must_be_confirmed() && !confirm(&plan) {
            return Err(ServiceError::NotConfirmed);
        }
        let aside = free_name(&database)?;
        Self::renew(config, &candidate.0, from, &aside, &plan, replaced.as_ref().ok())?;
        let (checked, raised) = {
            let backend = Self::open_at(config, &candidate.0)?;
            let store = &backend.dispatch.store;
            let checked = check(&backend, &candidate.0)?;
            // The copy counts on from the token's number, so that every other copy is old as soon as this one is in place.
            (checked, backend.dispatch.hsm_counter.as_ref().map(|counter| counter.raise(store)).transpose()?)
        };
        settle(&candidate.0)?;
        let replaced = move_aside(&database, aside)?;
        fs::rename(&candidate.0, &database).map_err(|source| failed(&database, source))?;
        sync_folder(&database)?;
        if let Some(raised) = raised {
            raised.count()?;
        }
        Ok(Restored { checked, replaced, plan })
    }

    /// Renews a copy that is about to become the database: its numbers, its credentials and its service keys; and records
    /// the restore in the copy's audit log.
    fn renew(
        config: &Config,
        candidate: &Path,
        from: &Path,
        aside: &Path,
        plan: &RestorePlan,
        replaced: Option<&Replaced>,
    ) -> Result<(), ServiceError> {
        {
            let home = Store::open_existing(candidate)?.home();
            let backend = Self::open_at(config, candidate)?;
            let store = &backend.dispatch.store;
            let audited = AuditedCommand {
                event: "kms.home.restore",
                command: "kms restore",
                resource: "home".to_owned(),
                project: None,
            };
            let iv_blocks = if replaced.is_some() { 0 } else { RESTORE_BLOCKS };
            let entry = backend.entry(
                audited,
                [
                    ("file", json!(from.to_string_lossy())),
                    ("head", json!(store.audit_head()?.last.to_string())),
                    ("replaced", json!(aside.to_string_lossy())),
                    ("replacedHead", json!(replaced.map(|replaced| &replaced.head))),
                    ("plan", plan.summary()),
                    ("ivBlocks", json!(iv_blocks)),
                ],
            );
            let ended = [TICKETS, SEALS, CREDENTIALS].into_iter().filter(|_| plan.ends_logins);
            let service_keys = ended
                .map(|purpose| Ok((purpose.to_owned(), new_service_key(&backend.dispatch, home, purpose)?)))
                .collect::<Result<_, ServiceError>>()?;
            store.renew(Renewal {
                service_keys,
                at: backend.dispatch.clock.seconds(),
                marks: replaced.map(|replaced| replaced.marks.clone()),
                iv_blocks,
                end_logins: plan.ends_logins,
                tokens: plan.ended_ids(ItemKind::Token),
                account_keys: plan.ended_ids(ItemKind::AccountKey),
                entry,
            })?;
        }
        Ok(())
    }
}

/// Verifies a copy, its audit log too.
fn check(backend: &Backend, path: &Path) -> Result<CheckReport, ServiceError> {
    let checked = backend.dispatch.store.check_copy(path)?;
    match checked.audit {
        Ok(_) => Ok(checked),
        Err(broken) => Err(ServiceError::AuditBroken(broken)),
    }
}

/// What a restore needs of the database that the copy replaces.
struct Replaced {
    inventory: Inventory,
    marks: HighWaterMarks,
    head: String,
}

impl Replaced {
    /// Reads it, or returns why it cannot be read: a damaged database must not prevent that a copy takes its place.
    fn of(config: &Config, database: &Path) -> Result<Self, String> {
        if !database.exists() {
            return Err("there is no previous database".to_owned());
        }
        let read = || -> Result<Self, ServiceError> {
            let backend = Backend::open_at(config, database)?;
            let store = &backend.dispatch.store;
            let inventory = Inventory::of(store, backend.dispatch.clock.seconds())?;
            let (marks, head) = (store.high_water_marks()?, store.audit_head()?.last.to_string());
            Ok(Self { inventory, marks, head })
        };
        read().map_err(|error| format!("the previous database cannot be read: {}", error_chain(&error)))
    }
}

/// The copy under its temporary name in the home. Removed when dropped, unless it was renamed to the database.
struct Candidate(PathBuf);

impl Candidate {
    fn copy_from(&self, from: &Path) -> Result<(), StoreError> {
        let mut source = File::open(from).map_err(|error| failed(from, error))?;
        // A killed restore may have left one.
        self.remove();
        let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.0);
        let copied = target.and_then(|mut target| {
            io::copy(&mut source, &mut target)?;
            target.sync_all()
        });
        copied.map_err(|error| failed(&self.0, error))
    }

    fn remove(&self) {
        for path in [self.0.clone(), with_suffix(&self.0, "-wal"), with_suffix(&self.0, "-shm")] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove the temporary copy of an unfinished restore");
            }
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The first unused name beside the present database.
fn free_name(database: &Path) -> Result<PathBuf, StoreError> {
    let free = (1..10_000_u32).map(|number| beside(database, &format!("replaced-{number}")));
    let free = free.into_iter().find(|path| fs::symlink_metadata(path).is_err());
    free.ok_or_else(|| StoreError::Exists(beside(database, "replaced-1")))
}

/// Renames the present database, with its write-ahead log.
fn move_aside(database: &Path, aside: PathBuf) -> Result<Option<PathBuf>, StoreError> {
    if !database.exists() {
        return Ok(None);
    }
    for suffix in ["-wal", "-shm", ""] {
        let (from, to) = (with_suffix(database, suffix), with_suffix(&aside, suffix));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&from, error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Some(aside))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kms_protocol::{RingPolicy, Secret};

    use super::*;
    use crate::service::NewRing;
    use crate::{config, test_home};

    fn ring(backend: &Backend, name: &str) {
        let pin = || Secret::from(b"1234".as_slice());
        let (user_pin, so_pin) = (pin(), pin());
        let policy = RingPolicy::Strict;
        backend.create_ring(NewRing { name: name.to_owned(), policy, user_pin, so_pin }).unwrap();
    }

    fn names(backend: &Backend) -> Vec<String> {
        backend.rings().unwrap().into_iter().map(|ring| ring.label).collect()
    }

    fn restore(config: &Config, from: &Path) -> Result<Restored, ServiceError> {
        Backend::restore(config, from, &RestoreOptions::default(), |_| true)
    }

    fn home(test: &str) -> Option<(PathBuf, Config)> {
        let home = test_home::home_in_child(&format!("service::backup::tests::{test}"))?;
        let config = Config::read(&home.join(config::FILE_NAME)).unwrap();
        Some((home, config))
    }

    #[test]
    fn a_backup_during_writes_is_intact_and_can_be_restored() {
        let Some((home, config)) = home("a_backup_during_writes_is_intact_and_can_be_restored") else {
            return;
        };
        let backend = Backend::create(&config).unwrap();
        ring(&backend, "before");
        let file = home.join("copy.db");
        let checked = std::thread::scope(|scope| {
            let writer =
                scope.spawn(|| (0..5).for_each(|number| ring(&backend, &format!("during-{number}"))));
            let checked = backend.backup(&file, |_, _| {}).unwrap();
            writer.join().unwrap();
            checked
        });
        assert!(checked.rings >= 1 && checked.audit.is_ok(), "{checked:?}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = backend.backup(&file, |_, _| {});
        assert!(matches!(again, Err(ServiceError::Store(StoreError::Exists(_)))), "{again:?}");
        ring(&backend, "after");
        let listener = SocketListener::open(&config.socket_path(), config.socket_mode()).unwrap();
        assert!(matches!(restore(&config, &file), Err(ServiceError::SocketListener(_))));
        drop((listener, backend));

        let restored = restore(&config, &file).unwrap();
        let previous = restored.replaced.unwrap();
        assert!(previous.exists());
        let backend = Backend::open(&config).unwrap();
        let now = names(&backend);
        assert!(now.contains(&"before".to_owned()) && !now.contains(&"after".to_owned()), "{now:?}");
        assert!(backend.verify_audit(None, |_, _| {}).unwrap().is_ok());
        drop(backend);
        // The previous database can be restored in the same way.
        restore(&config, &previous).unwrap();
        assert!(names(&Backend::open(&config).unwrap()).contains(&"after".to_owned()));
    }

    #[test]
    fn a_copy_that_is_not_intact_changes_nothing() {
        let Some((home, config)) = home("a_copy_that_is_not_intact_changes_nothing") else { return };
        let backend = Backend::create(&config).unwrap();
        ring(&backend, "only");
        let file = home.join("copy.db");
        backend.backup(&file, |_, _| {}).unwrap();
        let head = backend.audit_head().unwrap().last;
        drop(backend);
        let edits = [
            "UPDATE rings SET label = 'other'",
            "UPDATE rings SET display_name = 'other'",
            "UPDATE principals SET standing = 2 WHERE name = 'so'",
            "UPDATE audit SET body = '{}' WHERE sequence = 1",
            "DELETE FROM audit",
            "UPDATE service_keys SET wrapped = zeroblob(60)",
            "DELETE FROM service_keys WHERE purpose = 'rows'",
        ];
        for edit in edits {
            let changed = home.join("changed.db");
            fs::copy(&file, &changed).unwrap();
            let connection = rusqlite::Connection::open(&changed).unwrap();
            assert!(connection.execute(edit, []).unwrap() > 0, "{edit}");
            drop(connection);
            assert!(restore(&config, &changed).is_err(), "{edit}");
            fs::remove_file(&changed).unwrap();
        }
        fs::write(home.join("text"), "no database").unwrap();
        assert!(restore(&config, &home.join("text")).is_err());
        assert!(restore(&config, &home.join("missing")).is_err());
        let backend = Backend::open(&config).unwrap();
        assert_eq!((names(&backend), backend.audit_head().unwrap().last), (vec!["only".to_owned()], head));
        let left: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let restoring = |name: &std::ffi::OsString| name.to_string_lossy().contains("restoring");
        assert!(!left.iter().any(restoring), "{left:?}");
    }
}
