//! The home of a KMS: the paths of its files, and its creation, which completes or leaves nothing behind.
//!
//! While `kms init` creates a home, the home contains a file `init.unfinished` that the process has locked. It
//! distinguishes what a killed `kms init` left, which the next one removes, from a folder with other files.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kms_core::error_chain;
use rustix::fs::{FlockOperation, flock};

use super::arguments;
use super::environment;
use super::failure::Failure;
use crate::config::Config;

/// The marker file of an unfinished home.
const UNFINISHED: &str = "init.unfinished";

/// The files that `kms init` and SQLite create in a home. Nothing else is ever removed.
const CREATED: [&str; 12] = [
    "tokens",
    "softhsm2.conf",
    "hsm.pin",
    "hsm.so-pin",
    "kms.toml",
    "kms.db",
    "kms.db-wal",
    "kms.db-shm",
    "pkcs11.toml",
    "credentials",
    "admin.token",
    UNFINISHED,
];

/// A home, and the paths in it.
#[derive(Clone, Debug)]
pub(super) struct Home(PathBuf);

impl Home {
    /// The home that the arguments name, or the default, as the absolute path that SoftHSM and the provider need.
    pub(super) fn of(arguments: arguments::Home) -> Result<Self, Failure> {
        let folder = arguments.folder.or_else(environment::home).unwrap_or_else(|| "kms-home".into());
        let absolute = std::path::absolute(&folder);
        absolute.map(Self).map_err(|error| {
            Failure::because(
                format!("{:?} is not a valid path", folder.display()),
                &error,
                "name a folder with --home DIR",
            )
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The daemon's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.0.join("kms.toml")
    }

    /// The provider's configuration.
    pub(super) fn provider_config(&self) -> PathBuf {
        self.0.join("pkcs11.toml")
    }

    /// SoftHSM's configuration.
    pub(super) fn softhsm_config(&self) -> PathBuf {
        self.0.join("softhsm2.conf")
    }

    /// SoftHSM's token.
    pub(super) fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    /// The HSM token's user PIN.
    pub(super) fn hsm_pin(&self) -> PathBuf {
        self.0.join("hsm.pin")
    }

    /// The HSM token's security officer PIN, with which a new user PIN can be set.
    pub(super) fn hsm_so_pin(&self) -> PathBuf {
        self.0.join("hsm.so-pin")
    }

    /// The PINs of rings and principals.
    pub(super) fn credentials(&self) -> PathBuf {
        self.0.join("credentials")
    }

    /// The REST API token of the first service account.
    pub(super) fn admin_token(&self) -> PathBuf {
        self.0.join("admin.token")
    }

    /// Reads the configuration of an existing home, and ensures that the process has the environment variables that the
    /// HSM's library needs.
    pub(super) fn open(&self, argv: &[OsString]) -> Result<Config, Failure> {
        let config = self.read_config()?;
        environment::require(config.environment(), argv)?;
        Ok(config)
    }

    /// Reads the configuration of an existing home.
    pub(super) fn read_config(&self) -> Result<Config, Failure> {
        let here = self.0.display();
        if self.0.join(UNFINISHED).exists() {
            let next =
                format!("run `kms init --home {here}` again, which removes the incomplete files first");
            return Err(Failure::new(format!("{here} is incomplete: `kms init` did not finish"), next));
        }
        if !self.config().exists() {
            let next =
                format!("create a home with `kms init --home {here}`, or name another one with --home");
            return Err(Failure::new(format!("{here} is not a KMS home: it contains no kms.toml"), next));
        }
        self.read_new_config()
    }

    /// Reads the configuration of a home that is being created.
    pub(super) fn read_new_config(&self) -> Result<Config, Failure> {
        Config::read(&self.config())
            .map_err(|error| Failure::new(error_chain(&error), "correct the file, then try again"))
    }
}

/// A home that is being created. Dropping it removes its files, unless it was finished.
pub(super) struct UnfinishedHome {
    home: Home,
    /// The marker file, locked until this value is dropped.
    _marker: File,
    folder: Folder,
    is_finished: bool,
}

/// Whether `kms init` created the folder.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Folder {
    Created,
    Existing,
}

impl UnfinishedHome {
    /// Starts a home in a new folder, or in one that is empty except for what a killed `kms init` left.
    ///
    /// # Errors
    /// When the folder contains other files, which are not changed, or cannot be created.
    pub(super) fn begin(home: &Home) -> Result<Self, Failure> {
        let path = home.path();
        let failed = |error: io::Error| {
            let next = "name a folder that you can write to with --home";
            Failure::because(format!("cannot create {}", path.display()), &error, next)
        };
        let folder = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => Folder::Created,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Folder::Existing,
            Err(error) => return Err(failed(error)),
        };
        if folder == Folder::Existing {
            Self::remove_leftovers(home)?;
        }
        let marker = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(UNFINISHED));
        let marker = marker.map_err(failed)?;
        flock(&marker, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        let unfinished = Self { home: home.clone(), _marker: marker, folder, is_finished: false };
        // The mode is changed only now: a folder that is rejected keeps its mode.
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
        Ok(unfinished)
    }

    /// Removes what a killed `kms init` left; rejects a folder with other files.
    fn remove_leftovers(home: &Home) -> Result<(), Failure> {
        let here = home.path().display();
        let unreadable = |error: io::Error| {
            Failure::because(
                format!("cannot read the folder {here}"),
                &error,
                "name another folder with --home",
            )
        };
        let marker = home.path().join(UNFINISHED);
        match OpenOptions::new().write(true).open(&marker) {
            Ok(file) => {
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                    let what = format!("another `kms init` is creating {here}; nothing was changed");
                    return Err(Failure::new(what, "wait until it has finished"));
                }
                remove_created(home.path()).map_err(unreadable)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::NotADirectory => {}
            Err(error) => return Err(unreadable(error)),
        }
        let occupied = match fs::read_dir(home.path()) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == ErrorKind::NotADirectory => true,
            Err(error) => return Err(unreadable(error)),
        };
        if !occupied {
            return Ok(());
        }
        let what = match home.config().exists() {
            true => format!("{here} is already a KMS home; nothing was changed"),
            false => format!("{here} exists and is not an empty folder; nothing was changed"),
        };
        Err(Failure::new(what, "name another folder with --home; an existing home is never overwritten"))
    }

    /// Marks the home as complete, so that it is not removed.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let removed = fs::remove_file(self.home.path().join(UNFINISHED));
        removed.and_then(|()| File::open(self.home.path())?.sync_all()).map_err(|error| {
            let what = format!("cannot complete {}", self.home.path().display());
            Failure::because(what, &error, "check the disk, then try again")
        })?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for UnfinishedHome {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let mut removed = remove_created(self.home.path());
        if self.folder == Folder::Created {
            removed = removed.and_then(|()| fs::remove_dir(self.home.path()));
        }
        if let Err(error) = removed {
            let what = format!("cannot remove the incomplete home {}", self.home.path().display());
            super::output::failure(&Failure::because(
                what,
                &error,
                "remove it manually: it contains no keys in use",
            ));
        }
    }
}

fn remove_created(folder: &Path) -> io::Result<()> {
    for name in CREATED {
        let path = folder.join(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Writes a new file and syncs it to the disk.
///
/// # Errors
/// When the file exists or cannot be written.
pub(super) fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        // The umask must not remove permissions that other users need.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| {
        Failure::because(
            format!("cannot write {}", path.display()),
            &error,
            "check that the file does not exist and that the disk has space, then try again",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_in(folder: &tempfile::TempDir) -> Home {
        Home(folder.path().join("home"))
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn an_unfinished_home_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        let unfinished = UnfinishedHome::begin(&home).unwrap();
        write_new(&home.hsm_pin(), 0o600, "secret").unwrap();
        fs::create_dir(home.tokens()).unwrap();
        drop(unfinished);
        assert!(!home.path().exists());
    }

    #[test]
    fn an_empty_folder_is_used_and_left_empty_on_failure() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        fs::create_dir(home.path()).unwrap();
        drop(UnfinishedHome::begin(&home).unwrap());
        assert!(names(home.path()).is_empty());
        UnfinishedHome::begin(&home).unwrap().finish().unwrap();
        assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_with_files_is_rejected_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        fs::create_dir(home.path()).unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(home.path().join("kms.db"), "other").unwrap();
        let failure = UnfinishedHome::begin(&home).err().unwrap();
        assert!(failure.what.contains("nothing was changed"), "{failure:?}");
        assert_eq!(names(home.path()), ["kms.db"]);
        assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_file_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        fs::write(home.path(), "a file").unwrap();
        assert!(UnfinishedHome::begin(&home).is_err());
        assert_eq!(fs::read(home.path()).unwrap(), b"a file");
    }

    #[test]
    fn leftovers_of_a_killed_init_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        fs::create_dir(home.path()).unwrap();
        fs::write(home.path().join(UNFINISHED), "").unwrap();
        fs::write(home.config(), "half").unwrap();
        assert!(home.read_config().is_err());
        UnfinishedHome::begin(&home).unwrap().finish().unwrap();
        assert!(names(home.path()).is_empty());
    }

    #[test]
    fn concurrent_inits_do_not_interfere() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        let first = UnfinishedHome::begin(&home).unwrap();
        let second = UnfinishedHome::begin(&home).err().unwrap();
        assert!(second.what.contains("another `kms init`"), "{second:?}");
        first.finish().unwrap();
    }
}
