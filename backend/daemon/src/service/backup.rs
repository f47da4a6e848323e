//! Backup and restore of the database. A copy can be opened only with the master key that wraps its service keys.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kms_store::{CheckReport, StoreError, beside, settle, sync_folder};
use serde_json::json;

use super::audited_command::AuditedCommand;
use super::{Backend, ServiceError};
use crate::config::Config;
use crate::server::SocketListener;

/// The result of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the copy contains.
    pub checked: CheckReport,
    /// The path to which the previous database was moved, if there was one.
    pub replaced: Option<PathBuf>,
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
    /// token and verified; the previous database is kept beside it under another name.
    ///
    /// # Errors
    /// When a daemon serves the home, the token does not open the copy's service keys, or the copy is not intact.
    pub fn restore(config: &Config, from: &Path) -> Result<Restored, ServiceError> {
        // Held until the end, so that no daemon can start meanwhile.
        let _listener = SocketListener::open(&config.socket_path(), config.socket_mode())?;
        let database = config.store_path();
        let candidate = Candidate(beside(&database, "restoring"));
        candidate.copy_from(from)?;
        let (checked, raised) = {
            let backend = Self::open_at(config, &candidate.0)?;
            let store = &backend.dispatch.store;
            let audited = AuditedCommand {
                event: "kms.home.restore",
                command: "kms restore",
                resource: "home".to_owned(),
                project: None,
            };
            let head = store.audit_head()?.last.to_string();
            let file = from.to_string_lossy();
            store.record(backend.entry(audited, [("file", json!(file)), ("head", json!(head))]))?;
            let checked = store.check_copy(&candidate.0)?;
            // The copy counts on from the token's number, so that every other copy is old as soon as this one is in place.
            let epoch = backend.dispatch.epoch.as_ref().filter(|_| checked.audit.is_ok());
            (checked, epoch.map(|epoch| epoch.raise(store)).transpose()?)
        };
        if let Err(broken) = checked.audit {
            return Err(ServiceError::AuditBroken(broken));
        }
        settle(&candidate.0)?;
        let replaced = move_aside(&database)?;
        fs::rename(&candidate.0, &database).map_err(|source| failed(&database, source))?;
        sync_folder(&database)?;
        if let Some(raised) = raised {
            raised.count()?;
        }
        Ok(Restored { checked, replaced })
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

/// Renames the present database, with its write-ahead log, to the first unused name beside it.
fn move_aside(database: &Path) -> Result<Option<PathBuf>, StoreError> {
    if !database.exists() {
        return Ok(None);
    }
    let free = (1..10_000_u32).map(|number| beside(database, &format!("replaced-{number}")));
    let free = free.into_iter().find(|path| fs::symlink_metadata(path).is_err());
    let aside = free.ok_or_else(|| StoreError::Exists(beside(database, "replaced-1")))?;
    for suffix in ["-wal", "-shm", ""] {
        let (from, to) = (with_suffix(database, suffix), with_suffix(&aside, suffix));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&from, error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Some(aside))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
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
        assert!(matches!(Backend::restore(&config, &file), Err(ServiceError::SocketListener(_))));
        drop((listener, backend));

        let restored = Backend::restore(&config, &file).unwrap();
        let previous = restored.replaced.unwrap();
        assert!(previous.exists());
        let backend = Backend::open(&config).unwrap();
        let now = names(&backend);
        assert!(now.contains(&"before".to_owned()) && !now.contains(&"after".to_owned()), "{now:?}");
        assert!(backend.verify_audit(None, |_, _| {}).unwrap().is_ok());
        drop(backend);
        // The previous database can be restored in the same way.
        Backend::restore(&config, &previous).unwrap();
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
            assert!(Backend::restore(&config, &changed).is_err(), "{edit}");
            fs::remove_file(&changed).unwrap();
        }
        fs::write(home.join("text"), "no database").unwrap();
        assert!(Backend::restore(&config, &home.join("text")).is_err());
        assert!(Backend::restore(&config, &home.join("missing")).is_err());
        let backend = Backend::open(&config).unwrap();
        assert_eq!((names(&backend), backend.audit_head().unwrap().last), (vec!["only".to_owned()], head));
        let left: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let restoring = |name: &std::ffi::OsString| name.to_string_lossy().contains("restoring");
        assert!(!left.iter().any(restoring), "{left:?}");
    }
}
