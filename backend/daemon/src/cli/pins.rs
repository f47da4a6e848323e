//! The PINs of rings and accounts: chosen or random, and written into the home's `credentials`, for its owner alone.
//!
//! The file is TOML: a table for each ring, and in it one for each account. It is written before what it opens is made,
//! and shortened again when that fails: there is never a random PIN that nobody knows. Only `kms doctor` reads it.

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

/// The characters of a random PIN: none of them looks like another. There are 32, so each holds five bits.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The length of a random PIN: 100 bits, which nobody guesses.
const RANDOM_CHARACTERS: usize = 20;

/// The longest file that is read for a PIN: many times the longest PIN.
const PIN_FILE_BYTES_MAX: u64 = 4096;

/// The longest `credentials` that is read: 10,000 accounts of 100 bytes.
const CREDENTIALS_BYTES_MAX: u64 = 1 << 20;

/// A new ring's PINs.
pub(super) struct Chosen {
    pub(super) user: Secret,
    pub(super) so: Secret,
}

impl Chosen {
    /// What was typed or is in the named files; random where nothing is said.
    pub(super) fn from_arguments(typed: arguments::Pins) -> Result<Self, Failure> {
        Ok(Self {
            user: chosen(typed.user_pin, typed.user_pin_file.as_deref())?,
            so: chosen(typed.so_pin, typed.so_pin_file.as_deref())?,
        })
    }

    /// As `credentials` has them.
    pub(super) fn entry(&self, ring: &str) -> Zeroizing<String> {
        let (user, so) = (quoted(&self.user), quoted(&self.so));
        Zeroizing::new(format!("\n[{ring}]\nuser_pin = {}\nso_pin = {}\n", *user, *so))
    }
}

/// As `credentials` has an account's login.
pub(super) fn account_entry(ring: &str, name: &str, secret: &Secret) -> Zeroizing<String> {
    let login = Secret::from([name.as_bytes(), b":", secret].concat());
    Zeroizing::new(format!("\n[{ring}.accounts.{name}]\npin = {}\n", *quoted(&login)))
}

/// The PIN that was typed or is in a file; else a random one.
pub(super) fn chosen(typed: Option<String>, file: Option<&Path>) -> Result<Secret, Failure> {
    let pin = match (typed, file) {
        (Some(pin), _) => Secret::from(pin.into_bytes()),
        (None, Some(file)) => from_file(file)?,
        (None, None) => return random(),
    };
    pins::acceptable(&pin).map_err(|_| ServiceError::BadPin)?;
    Ok(pin)
}

/// The first line of a file.
pub(super) fn from_file(path: &Path) -> Result<Secret, Failure> {
    let mut text = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(PIN_FILE_BYTES_MAX).read_to_end(&mut text));
    read.map_err(|error| {
        let next = "name a file that you can read, with the PIN on its first line";
        Failure::because(format!("the PIN cannot be read from {}", path.display()), &error, next)
    })?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Secret::from(line.strip_suffix(b"\r").unwrap_or(line)))
}

/// A PIN that nobody guesses.
pub(super) fn random() -> Result<Secret, Failure> {
    let mut bytes = Zeroizing::new([0; RANDOM_CHARACTERS]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| {
        Failure::new(format!("the operating system gives no random numbers: {error}"), "try again later")
    })?;
    let characters = bytes.iter().map(|byte| ALPHABET[usize::from(byte % 32)]).collect::<Vec<u8>>();
    Ok(Secret::from(characters))
}

/// A PIN as a TOML string, with its quotes.
fn quoted(pin: &Secret) -> Zeroizing<String> {
    Zeroizing::new(toml::Value::String(String::from_utf8_lossy(pin).into_owned()).to_string())
}

/// What the file says at its top.
pub(super) fn heading(home: &Path) -> String {
    format!(
        "# The PINs of {}. Whoever reads this file can use the keys: keep it as you keep them, or move it away.\n",
        home.display()
    )
}

/// An entry written for what is about to be made; taken back when dropped, unless it is kept.
pub(super) struct Entry {
    file: File,
    path: PathBuf,
    /// How long the file was before; none once the entry is to stay.
    before: Option<u64>,
}

impl Entry {
    /// Appends to `credentials`, which is made if somebody has moved it away.
    pub(super) fn append(path: &Path, text: &str) -> Result<Self, Failure> {
        let append = || -> io::Result<Self> {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            let before = Some(file.metadata()?.len());
            let entry = Self { file: file.try_clone()?, path: path.to_owned(), before };
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            Ok(entry)
        };
        append().map_err(|error| {
            let next = "make it writable for you, or move it away; nothing was made";
            Failure::because(format!("{} cannot be written", path.display()), &error, next)
        })
    }

    /// What it opens is made: it stays.
    pub(super) fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        if let Err(error) = self.file.set_len(before) {
            let what = format!("{} names what was not made", self.path.display());
            super::output::failure(&Failure::because(what, &error, "remove its last entry yourself"));
        }
    }
}

/// A ring's user PIN, if the file is there and names it.
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

    fn pins(user: &str, so: &str) -> Chosen {
        Chosen { user: Secret::from(user.as_bytes()), so: Secret::from(so.as_bytes()) }
    }

    #[test]
    fn what_is_written_is_read_again_whatever_the_pin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let odd = ["1234", "a\"b\\c", "'''", "\u{e4}\u{20ac} x", "line\nbreak", "\u{7f}\u{1}"];
        for (number, pin) in odd.iter().enumerate() {
            Entry::append(&path, &pins(pin, "so").entry(&format!("ring-{number}"))).unwrap().keep();
        }
        Entry::append(&path, &account_entry("ring-0", "alice", &Secret::from(b"s".as_slice())))
            .unwrap()
            .keep();
        for (number, pin) in odd.iter().enumerate() {
            let read = user_pin(&path, &format!("ring-{number}")).unwrap();
            assert_eq!(&*read, pin.as_bytes(), "{pin:?}");
        }
        assert!(user_pin(&path, "ring-9").is_none());
    }

    #[test]
    fn an_entry_that_is_not_kept_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        Entry::append(&path, "# first\n").unwrap().keep();
        drop(Entry::append(&path, &pins("1234", "5678").entry("ring")).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# first\n");
    }

    #[test]
    fn a_pin_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        for text in ["1234", "1234\n", "1234\r\n", "1234\nmore\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(&*chosen(None, Some(&path)).unwrap(), b"1234");
        }
        std::fs::write(&path, "\n1234\n").unwrap();
        assert!(chosen(None, Some(&path)).is_err(), "an empty first line is no PIN");
        assert!(chosen(None, Some(&folder.path().join("absent"))).is_err());
    }

    #[test]
    fn random_pins_differ_and_will_do() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), RANDOM_CHARACTERS);
        assert!(one.iter().all(|character| ALPHABET.contains(character)));
    }
}
