//! A KMS's folder: where its files are, and how it comes to be, wholly or not at all.
//!
//! A home that is being made has a file `init.unfinished` in it, locked by who makes it. So a home half made by an
//! attempt that was killed is told from one that is somebody's, and the next attempt clears it away.

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

/// The mark of a home that is being made.
const UNFINISHED: &str = "init.unfinished";

/// All that `kms init` puts into a home, and what SQLite puts beside its database. Nothing else is ever removed.
const MADE: [&str; 12] = [
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

/// Where things are in a home.
#[derive(Clone, Debug)]
pub(super) struct Home(PathBuf);

impl Home {
    /// The home that was typed, or its default, as an absolute path: SoftHSM and the provider need it so.
    pub(super) fn of(typed: arguments::Home) -> Result<Self, Failure> {
        let folder = typed.folder.or_else(environment::home).unwrap_or_else(|| "kms-home".into());
        let absolute = std::path::absolute(&folder);
        absolute.map(Self).map_err(|error| {
            Failure::because(
                format!("{:?} is no folder's name", folder.display()),
                &error,
                "give one with --home DIR",
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

    /// The HSM token's security officer's PIN, with which a new user PIN can be set.
    pub(super) fn hsm_so_pin(&self) -> PathBuf {
        self.0.join("hsm.so-pin")
    }

    /// The PINs of rings and accounts.
    pub(super) fn credentials(&self) -> PathBuf {
        self.0.join("credentials")
    }

    /// The first owner's token for the REST API.
    pub(super) fn admin_token(&self) -> PathBuf {
        self.0.join("admin.token")
    }

    /// Reads the configuration of a home that is there, and sees to it that the process has the environment that the
    /// HSM's library needs.
    pub(super) fn open(&self, arguments: &[OsString]) -> Result<Config, Failure> {
        let config = self.read_config()?;
        environment::require(config.environment(), arguments)?;
        Ok(config)
    }

    /// Reads the configuration of a home that is there.
    pub(super) fn read_config(&self) -> Result<Config, Failure> {
        let here = self.0.display();
        if self.0.join(UNFINISHED).exists() {
            let next = format!("run `kms init --home {here}` again: it clears away what is half made");
            return Err(Failure::new(format!("{here} is half made: `kms init` did not end"), next));
        }
        if !self.config().exists() {
            let next = format!("make one with `kms init --home {here}`, or name another with --home");
            return Err(Failure::new(format!("{here} is no KMS home: it has no kms.toml"), next));
        }
        self.read_new_config()
    }

    /// Reads the configuration of a home that is being made.
    pub(super) fn read_new_config(&self) -> Result<Config, Failure> {
        Config::read(&self.config())
            .map_err(|error| Failure::new(error_chain(&error), "correct the file, then try again"))
    }
}

/// A home that is being made: removed again when dropped, unless it is kept.
pub(super) struct HalfMade {
    home: Home,
    /// Locked as long as this lives.
    _mark: File,
    origin: Origin,
    fate: Fate,
}

/// Whether the folder was there before.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Origin {
    Ours,
    There,
}

/// What happens when the making ends.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Fate {
    Remove,
    Keep,
}

impl HalfMade {
    /// Begins a home: in a new folder, or in one that is empty but for an attempt that was killed.
    ///
    /// # Errors
    /// When something is there; nothing is changed then.
    pub(super) fn begin(home: &Home) -> Result<Self, Failure> {
        let path = home.path();
        let failed = |error: io::Error| {
            let next = "choose a folder that you may write to, with --home";
            Failure::because(format!("{} cannot be made", path.display()), &error, next)
        };
        let origin = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => Origin::Ours,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Origin::There,
            Err(error) => return Err(failed(error)),
        };
        if origin == Origin::There {
            Self::clear(home)?;
        }
        let mark = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(UNFINISHED));
        let mark = mark.map_err(failed)?;
        flock(&mark, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        let made = Self { home: home.clone(), _mark: mark, origin, fate: Fate::Remove };
        // Tightened only now that it is ours: a folder that is refused stays as it was.
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
        Ok(made)
    }

    /// Refuses a folder that is somebody's; removes what a killed attempt left.
    fn clear(home: &Home) -> Result<(), Failure> {
        let here = home.path().display();
        let unreadable = |error: io::Error| {
            Failure::because(
                format!("{here} cannot be looked into"),
                &error,
                "choose another folder with --home",
            )
        };
        let mark = home.path().join(UNFINISHED);
        match OpenOptions::new().write(true).open(&mark) {
            Ok(file) => {
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                    let what =
                        format!("another `kms init` is making {here} at this moment; nothing was changed");
                    return Err(Failure::new(what, "wait until it ends"));
                }
                remove_made(home.path()).map_err(unreadable)?;
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
            true => format!("{here} is a KMS home already; nothing was changed"),
            false => format!("{here} exists and is not an empty folder; nothing was changed"),
        };
        Err(Failure::new(
            what,
            "choose another folder with --home; a home that is there is never overwritten",
        ))
    }

    /// The home is complete: it stays.
    pub(super) fn keep(mut self) -> Result<(), Failure> {
        let removed = fs::remove_file(self.home.path().join(UNFINISHED));
        removed.and_then(|()| File::open(self.home.path())?.sync_all()).map_err(|error| {
            let what = format!("{} cannot be completed", self.home.path().display());
            Failure::because(what, &error, "look at the disk, then try again")
        })?;
        self.fate = Fate::Keep;
        Ok(())
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        if self.fate == Fate::Keep {
            return;
        }
        let mut removed = remove_made(self.home.path());
        if self.origin == Origin::Ours {
            removed = removed.and_then(|()| fs::remove_dir(self.home.path()));
        }
        if let Err(error) = removed {
            let what = format!("{} could not be cleared away", self.home.path().display());
            super::output::failure(&Failure::because(
                what,
                &error,
                "remove it yourself: it holds no keys in use",
            ));
        }
    }
}

fn remove_made(folder: &Path) -> io::Result<()> {
    for name in MADE {
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

/// Writes a file that must not be there yet, so that it is on the disk when this returns.
///
/// # Errors
/// When it is there, or cannot be written.
pub(super) fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        // The umask must not take from a file what others are to read.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| {
        Failure::because(
            format!("{} cannot be written", path.display()),
            &error,
            "look at the disk, then try again",
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
    fn what_is_not_kept_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        let half = HalfMade::begin(&home).unwrap();
        write_new(&home.hsm_pin(), 0o600, "secret").unwrap();
        fs::create_dir(home.tokens()).unwrap();
        drop(half);
        assert!(!home.path().exists());
    }

    #[test]
    fn an_empty_folder_is_used_and_left_empty_on_failure() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        fs::create_dir(home.path()).unwrap();
        drop(HalfMade::begin(&home).unwrap());
        assert!(names(home.path()).is_empty());
        HalfMade::begin(&home).unwrap().keep().unwrap();
        assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn somebodys_folder_is_refused_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        fs::create_dir(home.path()).unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(home.path().join("kms.db"), "mine").unwrap();
        let refused = HalfMade::begin(&home).err().unwrap();
        assert!(refused.what.contains("nothing was changed"), "{refused:?}");
        assert_eq!(names(home.path()), ["kms.db"]);
        assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_file_is_refused_too() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        fs::write(home.path(), "a file").unwrap();
        assert!(HalfMade::begin(&home).is_err());
        assert_eq!(fs::read(home.path()).unwrap(), b"a file");
    }

    #[test]
    fn what_a_killed_attempt_left_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        fs::create_dir(home.path()).unwrap();
        fs::write(home.path().join(UNFINISHED), "").unwrap();
        fs::write(home.config(), "half").unwrap();
        assert!(home.read_config().is_err());
        HalfMade::begin(&home).unwrap().keep().unwrap();
        assert!(names(home.path()).is_empty());
    }

    #[test]
    fn two_attempts_at_once_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let home = home_in(&folder);
        let first = HalfMade::begin(&home).unwrap();
        let second = HalfMade::begin(&home).err().unwrap();
        assert!(second.what.contains("another `kms init`"), "{second:?}");
        first.keep().unwrap();
    }
}
