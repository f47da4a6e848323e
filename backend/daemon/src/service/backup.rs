//! Backup and restore. A copy opens under the master key that wraps its service keys, and under no other.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kms_store::{Checked, StoreError, beside, settle, sync_folder};
use serde_json::json;

use super::operator::Command;
use super::{Backend, ServiceError};
use crate::config::Config;
use crate::server::SocketListener;

/// What a restore has done.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What was found in the copy.
    pub checked: Checked,
    /// Where the database is now that was there before, if there was one.
    pub replaced: Option<PathBuf>,
}

impl Backend {
    /// Copies the database as it is at this moment to a new file, and verifies the copy.
    ///
    /// # Errors
    /// When the file is there already or cannot be written, or the copy is not whole.
    pub fn backup(&self, to: &Path, progress: impl FnMut(u64, u64)) -> Result<Checked, ServiceError> {
        let store = &self.dispatch.store;
        let checked = store.backup(to, progress)?;
        let command = Command {
            event: "kms.home.backup",
            typed: "kms backup",
            resource: "home".to_owned(),
            project: None,
        };
        store.record(self.entry(command, [("file", json!(to.to_string_lossy()))]))?;
        Ok(checked)
    }

    /// Puts a copy in the place of a home's database. Nothing is touched before the copy has been opened with the home's
    /// own token and found whole; the database that is there is kept beside.
    ///
    /// # Errors
    /// When a daemon serves the home, the token does not open the copy's service keys, or the copy is not whole.
    pub fn restore(config: &Config, from: &Path) -> Result<Restored, ServiceError> {
        // Held until the end, so that no daemon begins meanwhile.
        let _door = SocketListener::open(&config.socket_path(), config.socket_mode())?;
        let database = config.store_path();
        let candidate = Candidate(beside(&database, "restoring"));
        candidate.take(from)?;
        let checked = {
            let backend = Self::open_at(config, &candidate.0)?;
            let store = &backend.dispatch.store;
            let command = Command {
                event: "kms.home.restore",
                typed: "kms restore",
                resource: "home".to_owned(),
                project: None,
            };
            let head = store.audit_head()?.last.to_string();
            let file = from.to_string_lossy();
            store.record(backend.entry(command, [("file", json!(file)), ("head", json!(head))]))?;
            store.check_copy(&candidate.0)?
        };
        if let Err(broken) = checked.audit {
            return Err(ServiceError::AuditBroken(broken));
        }
        settle(&candidate.0)?;
        let replaced = set_aside(&database)?;
        fs::rename(&candidate.0, &database).map_err(|source| failed(&database, source))?;
        sync_folder(&database)?;
        Ok(Restored { checked, replaced })
    }
}

/// The copy under its name in the home: gone again when dropped, unless it has become the database.
struct Candidate(PathBuf);

impl Candidate {
    fn take(&self, from: &Path) -> Result<(), StoreError> {
        let mut source = File::open(from).map_err(|error| failed(from, error))?;
        // One that a restore before was killed over.
        self.remove();
        let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.0);
        let copied = target.and_then(|mut target| {
            io::copy(&mut source, &mut target)?;
            target.sync_all()
        });
        copied.map_err(|error| failed(&self.0, error))
    }

    fn remove(&self) {
        for path in [self.0.clone(), log_of(&self.0, "-wal"), log_of(&self.0, "-shm")] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a copy that was not taken could not be removed");
            }
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Moves the database that is there, with its log, to the first free name beside it.
fn set_aside(database: &Path) -> Result<Option<PathBuf>, StoreError> {
    if !database.exists() {
        return Ok(None);
    }
    let free = (1..10_000_u32).map(|number| beside(database, &format!("replaced-{number}")));
    let free = free.into_iter().find(|path| fs::symlink_metadata(path).is_err());
    let aside = free.ok_or_else(|| StoreError::Exists(beside(database, "replaced-1")))?;
    for suffix in ["-wal", "-shm", ""] {
        let (from, to) = (log_of(database, suffix), log_of(&aside, suffix));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&from, error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Some(aside))
}

fn log_of(path: &Path, suffix: &str) -> PathBuf {
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
    fn a_backup_taken_while_others_write_is_whole_and_comes_back() {
        let Some((home, config)) = home("a_backup_taken_while_others_write_is_whole_and_comes_back") else {
            return;
        };
        let backend = Backend::create(&config).unwrap();
        ring(&backend, "before");
        let file = home.join("copy.db");
        let checked = std::thread::scope(|scope| {
            let writing =
                scope.spawn(|| (0..5).for_each(|number| ring(&backend, &format!("during-{number}"))));
            let checked = backend.backup(&file, |_, _| {}).unwrap();
            writing.join().unwrap();
            checked
        });
        assert!(checked.rings >= 1 && checked.audit.is_ok(), "{checked:?}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = backend.backup(&file, |_, _| {});
        assert!(matches!(again, Err(ServiceError::Store(StoreError::Exists(_)))), "{again:?}");
        ring(&backend, "after");
        let served = SocketListener::open(&config.socket_path(), config.socket_mode()).unwrap();
        assert!(matches!(Backend::restore(&config, &file), Err(ServiceError::SocketListener(_))));
        drop((served, backend));

        let restored = Backend::restore(&config, &file).unwrap();
        let aside = restored.replaced.unwrap();
        assert!(aside.exists());
        let backend = Backend::open(&config).unwrap();
        let now = names(&backend);
        assert!(now.contains(&"before".to_owned()) && !now.contains(&"after".to_owned()), "{now:?}");
        assert!(backend.verify_audit(None, |_, _| {}).unwrap().is_ok());
        drop(backend);
        // What was replaced can be put back just so.
        Backend::restore(&config, &aside).unwrap();
        assert!(names(&Backend::open(&config).unwrap()).contains(&"after".to_owned()));
    }

    #[test]
    fn nothing_is_touched_for_a_copy_that_is_not_whole() {
        let Some((home, config)) = home("nothing_is_touched_for_a_copy_that_is_not_whole") else { return };
        let backend = Backend::create(&config).unwrap();
        ring(&backend, "only");
        let file = home.join("copy.db");
        backend.backup(&file, |_, _| {}).unwrap();
        let head = backend.audit_head().unwrap();
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
        assert_eq!((names(&backend), backend.audit_head().unwrap()), (vec!["only".to_owned()], head));
        let left: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let restoring = |name: &std::ffi::OsString| name.to_string_lossy().contains("restoring");
        assert!(!left.iter().any(restoring), "{left:?}");
    }
}
