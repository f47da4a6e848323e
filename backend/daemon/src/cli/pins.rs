//! The PINs of rings and principals: given or random, and written into the home's `credentials`, which only its owner
//! can read.
//!
//! The file is TOML: a table for each ring, with a table for each principal in it. An entry is written before the ring
//! or principal is created, and removed again if that fails, so that no random PIN is lost. Only `kms doctor` reads the
//! file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kms_protocol::Secret;
use zeroize::Zeroizing;

use super::arguments;
use super::failure::Failure;
use crate::pins;
use crate::service::ServiceError;

/// The characters of a random PIN, without those that look alike. There are 32, so each encodes five bits.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The length of a random PIN: 100 bits of entropy.
const RANDOM_CHARACTERS: usize = 20;

/// The maximum number of bytes that are read of a PIN file: many times the longest PIN.
const PIN_FILE_BYTES_MAX: u64 = 4096;

/// The maximum number of bytes that are read of `credentials`: 10,000 principals of 100 bytes.
const CREDENTIALS_BYTES_MAX: u64 = 1 << 20;

/// The PINs of a new ring.
pub(super) struct RingPins {
    pub(super) user: Secret,
    pub(super) so: Secret,
}

impl RingPins {
    /// The PINs in the arguments or in the files that they name; random PINs where there is neither.
    pub(super) fn from_arguments(arguments: arguments::Pins) -> Result<Self, Failure> {
        Ok(Self {
            user: given_or_random(arguments.user_pin, arguments.user_pin_file.as_deref())?,
            so: given_or_random(arguments.so_pin, arguments.so_pin_file.as_deref())?,
        })
    }

    /// The entry in `credentials`.
    pub(super) fn entry(&self, ring: &str) -> Zeroizing<String> {
        let (user, so) = (quoted(&self.user), quoted(&self.so));
        Zeroizing::new(format!("\n[{ring}]\nuser_pin = {}\nso_pin = {}\n", *user, *so))
    }
}

/// The entry of a principal in `credentials`.
pub(super) fn account_entry(ring: &str, name: &str, secret: &Secret) -> Zeroizing<String> {
    let login = Secret::from([name.as_bytes(), b":", secret].concat());
    Zeroizing::new(format!("\n[{ring}.accounts.{name}]\npin = {}\n", *quoted(&login)))
}

/// The given PIN, or the one in the file; else a random PIN.
pub(super) fn given_or_random(given: Option<String>, file: Option<&Path>) -> Result<Secret, Failure> {
    let pin = match (given, file) {
        (Some(pin), _) => Secret::from(pin.into_bytes()),
        (None, Some(file)) => from_file(file)?,
        (None, None) => return random(),
    };
    pins::check_length(&pin).map_err(|_| ServiceError::BadPin)?;
    Ok(pin)
}

/// Reads a PIN from the first line of a file.
pub(super) fn from_file(path: &Path) -> Result<Secret, Failure> {
    let mut text = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(PIN_FILE_BYTES_MAX).read_to_end(&mut text));
    read.map_err(|error| {
        let next = "name a file that you can read, with the PIN on its first line";
        Failure::because(format!("cannot read a PIN from {}", path.display()), &error, next)
    })?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Secret::from(line.strip_suffix(b"\r").unwrap_or(line)))
}

/// A random PIN.
pub(super) fn random() -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new([0; RANDOM_CHARACTERS]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| {
        Failure::new(format!("the operating system returned no random numbers: {error}"), "try again later")
    })?;
    let characters = bytes.iter().map(|byte| ALPHABET[usize::from(byte % 32)]).collect::<Vec<u8>>();
    Ok(Secret::from(characters))
}

/// A PIN as a TOML string, with quotes.
fn quoted(pin: &Secret) -> Zeroizing<String> {
    Zeroizing::new(toml::Value::String(String::from_utf8_lossy(pin).into_owned()).to_string())
}

/// The comment at the top of `credentials`.
pub(super) fn credentials_header(home: &Path) -> String {
    format!(
        "# The PINs of {}. Everyone who can read this file can use the keys: protect it, or move it elsewhere.\n",
        home.display()
    )
}

/// A new entry in `credentials`, for a ring or principal that is about to be created. Dropping it removes the entry,
/// unless it was committed.
pub(super) struct CredentialsEntry {
    file: File,
    path: PathBuf,
    /// The length of the file without the entry; none after the commit.
    length_before: Option<u64>,
}

impl CredentialsEntry {
    /// Appends an entry to `credentials`, which is created if it was moved elsewhere.
    pub(super) fn append(path: &Path, text: &str) -> Result<Self, Failure> {
        let append = || -> io::Result<Self> {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            let length_before = Some(file.metadata()?.len());
            let entry = Self { file: file.try_clone()?, path: path.to_owned(), length_before };
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            Ok(entry)
        };
        append().map_err(|error| {
            let next = "make the file writable, or move it elsewhere; nothing was created";
            Failure::because(format!("cannot write {}", path.display()), &error, next)
        })
    }

    /// Keeps the entry: the ring or principal was created.
    pub(super) fn commit(mut self) {
        self.length_before = None;
    }
}

impl Drop for CredentialsEntry {
    fn drop(&mut self) {
        let Some(length) = self.length_before else { return };
        if let Err(error) = self.file.set_len(length) {
            let what = format!("{} contains an entry for a login that was not created", self.path.display());
            super::output::failure(&Failure::because(
                what,
                &error,
                "remove the last entry of the file manually",
            ));
        }
    }
}

/// The user PIN of a ring, if the file exists and contains it.
pub(super) fn user_pin(path: &Path, ring: &str) -> Option<Secret> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len().min(CREDENTIALS_BYTES_MAX);
    let mut text = Zeroizing::new(vec![0; usize::try_from(length).ok()?]);
    file.read_exact_at(&mut text, 0).ok()?;
    let table: toml::Table = toml::from_str(std::str::from_utf8(&text).ok()?).ok()?;
    let pin = table.get(ring)?.get("user_pin")?.as_str()?;
    Some(Secret::from(pin.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(user: &str, so: &str) -> RingPins {
        RingPins { user: Secret::from(user.as_bytes()), so: Secret::from(so.as_bytes()) }
    }

    #[test]
    fn every_pin_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let odd = ["1234", "a\"b\\c", "'''", "\u{e4}\u{20ac} x", "line\nbreak", "\u{7f}\u{1}"];
        for (number, pin) in odd.iter().enumerate() {
            CredentialsEntry::append(&path, &pins(pin, "so").entry(&format!("ring-{number}")))
                .unwrap()
                .commit();
        }
        CredentialsEntry::append(&path, &account_entry("ring-0", "alice", &Secret::from(b"s".as_slice())))
            .unwrap()
            .commit();
        for (number, pin) in odd.iter().enumerate() {
            let read = user_pin(&path, &format!("ring-{number}")).unwrap();
            assert_eq!(&*read, pin.as_bytes(), "{pin:?}");
        }
        assert!(user_pin(&path, "ring-9").is_none());
    }

    #[test]
    fn an_uncommitted_entry_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        CredentialsEntry::append(&path, "# first\n").unwrap().commit();
        drop(CredentialsEntry::append(&path, &pins("1234", "5678").entry("ring")).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# first\n");
    }

    #[test]
    fn a_pin_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        for text in ["1234", "1234\n", "1234\r\n", "1234\nmore\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(&*given_or_random(None, Some(&path)).unwrap(), b"1234");
        }
        std::fs::write(&path, "\n1234\n").unwrap();
        assert!(given_or_random(None, Some(&path)).is_err(), "an empty first line is not a PIN");
        assert!(given_or_random(None, Some(&folder.path().join("absent"))).is_err());
    }

    #[test]
    fn random_pins_differ_and_are_valid() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), RANDOM_CHARACTERS);
        assert!(one.iter().all(|character| ALPHABET.contains(character)));
    }
}
