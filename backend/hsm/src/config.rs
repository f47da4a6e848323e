//! Access to the HSM: module, token, and the file with its PIN.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// The maximum length of a PIN file: twice the longest PIN that any known HSM accepts.
const PIN_BYTES_MAX: usize = 512;

/// Access to the HSM.
#[derive(Clone, Debug)]
pub struct HsmConfig {
    /// The HSM's PKCS#11 module.
    pub module: PathBuf,
    /// The token's label or serial number.
    pub token: String,
    /// The file with the user's PIN.
    pub pin_file: PathBuf,
    /// The number of sessions that work in parallel.
    pub threads: usize,
}

/// Why the PIN of the HSM cannot be read from its file.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Other users can read or change the file.
    #[error("{} can be read or changed by other users (mode {mode:04o}); `chmod 600` it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds no PIN.
    #[error("{} holds no PIN: expected one line of UTF-8", .0.display())]
    NoPin(PathBuf),
}

impl HsmConfig {
    /// Reads the PIN from its file, without the line ending. The only copy that remains is the returned one.
    ///
    /// # Errors
    /// When the file is missing or empty, or can be read by other users.
    pub(super) fn pin(&self) -> Result<Zeroizing<String>, PinError> {
        let path = &self.pin_file;
        let unreadable = |source| PinError::Unreadable { path: path.clone(), source };
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(PinError::Exposed { path: path.clone(), mode });
        }
        // A buffer that does not grow: a vector that moves leaves copies behind.
        let mut buffer = Zeroizing::new([0; PIN_BYTES_MAX + 1]);
        let text = read(file, &mut buffer).map_err(unreadable)?;
        let pin = text.trim_end_matches(['\n', '\r']);
        if pin.is_empty() || pin.contains('\n') {
            return Err(PinError::NoPin(path.clone()));
        }
        Ok(Zeroizing::new(pin.to_owned()))
    }
}

fn read(mut file: File, buffer: &mut [u8; PIN_BYTES_MAX + 1]) -> io::Result<&str> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    let mut length = 0;
    loop {
        match file.read(&mut buffer[length..])? {
            0 if length > PIN_BYTES_MAX => {
                return Err(invalid(format!("it is longer than {PIN_BYTES_MAX} bytes")));
            }
            0 => break,
            more => length += more,
        }
    }
    std::str::from_utf8(&buffer[..length]).map_err(|_| invalid("it is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pin_is_read_from_a_private_file_with_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let pin_file = folder.path().join("hsm.pin");
        let hsm = HsmConfig {
            module: PathBuf::new(),
            token: String::new(),
            pin_file: pin_file.clone(),
            threads: 1,
        };
        assert!(matches!(hsm.pin(), Err(PinError::Unreadable { .. })));
        fs::write(&pin_file, "1234\n").unwrap();
        fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(hsm.pin(), Err(PinError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(hsm.pin().unwrap().as_str(), "1234");
        fs::write(&pin_file, "\n").unwrap();
        assert!(matches!(hsm.pin(), Err(PinError::NoPin(_))));
    }
}
