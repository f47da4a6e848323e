//! Where the backend is: the one place that reads the environment and a file, and only at `C_Initialize`.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// How long a call may take unless configured: a cold unwrap in the HSM (~200 ms) behind the deepest queue, doubled.
const TIMEOUT_MS: u64 = 10_000;

/// The longest a call may be told to take. An application that waits for longer has hung.
const TIMEOUT_MS_MAX: u64 = 600_000;

/// Connections of one process unless configured: one for each concurrent call.
const CONNECTIONS_MAX: usize = 64;

/// The most connections that may be configured: the backend takes 1,024 from all processes.
const CONNECTIONS_LIMIT: usize = 1024;

/// The largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The system's configuration.
const SYSTEM_FILE: &str = "/etc/kms/pkcs11.toml";

/// How much is written to the log, if there is one.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Calls that failed because of backend, connection or a bug.
    #[default]
    Error,
    /// Every call that failed.
    Info,
    /// Every call.
    Debug,
}

/// What `pkcs11.toml` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The backend's socket.
    pub socket: PathBuf,
    /// How long one request may take.
    pub timeout: Duration,
    /// How many requests may be under way at once.
    pub connections_max: usize,
    /// Where calls are logged; nowhere unless configured.
    pub log: Option<PathBuf>,
    /// What is logged.
    pub log_level: LogLevel,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    socket: PathBuf,
    timeout_ms: Option<u64>,
    connections_max: Option<usize>,
    log: Option<PathBuf>,
    #[serde(default)]
    log_level: LogLevel,
}

/// Why there is no configuration, although there should be one.
#[derive(Debug)]
pub enum ConfigError {
    /// The file named, or found, cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not say what it should.
    Malformed {
        /// The file.
        file: PathBuf,
        /// Line, key and what is wrong.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, source } => write!(f, "{}: cannot be read: {source}", file.display()),
            Self::Malformed { file, reason } => write!(f, "{}: {}", file.display(), reason.trim_end()),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Malformed { .. } => None,
        }
    }
}

/// What the process's environment says. Read through `secure_getenv`, so nothing in a set-user-id host.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `KMS_PKCS11_CONFIG`: the file.
    pub file: Option<OsString>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
}

/// Finds the configuration and reads it: `KMS_PKCS11_CONFIG`, else the file that `C_Initialize` was told (`pReserved`),
/// else the system's, else the user's. None when there is none: the module works, and has no slots.
///
/// # Errors
/// When a file was named and is not there, or one that is there does not say what it should. The application sees
/// `CKR_FUNCTION_FAILED`; this says why.
pub fn explain(environment: &Environment, reserved: Option<&Path>) -> Result<Option<Config>, ConfigError> {
    let set = |value: &Option<OsString>| value.clone().filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = set(&environment.file).or_else(|| reserved.map(Path::to_owned)) {
        return match read(&file)? {
            Some(config) => Ok(Some(config)),
            None => Err(ConfigError::Unreadable { file, source: ErrorKind::NotFound.into() }),
        };
    }
    let user =
        set(&environment.config_home).or_else(|| set(&environment.home).map(|home| home.join(".config")));
    let user = user.filter(|folder| folder.is_absolute()).map(|folder| folder.join("kms/pkcs11.toml"));
    for file in [Some(PathBuf::from(SYSTEM_FILE)), user].into_iter().flatten() {
        if let Some(config) = read(&file)? {
            return Ok(Some(config));
        }
    }
    Ok(None)
}

/// The path in `pReserved`, if it is meant for us: `config=PATH`, or a path of a `.toml` file, or an absolute one.
/// Other hosts pass other things there, which are none of our business.
pub(crate) fn reserved_path(text: &str) -> Option<PathBuf> {
    let text = text.trim();
    let path = match text.strip_prefix("config=") {
        Some(path) => path.trim().trim_matches('"'),
        None if text.starts_with('/') || text.ends_with(".toml") => text,
        None => return None,
    };
    (!path.is_empty()).then(|| PathBuf::from(path))
}

/// Reads a file; none if it is not there.
fn read(file: &Path) -> Result<Option<Config>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
    let malformed = |reason: String| ConfigError::Malformed { file: file.to_owned(), reason };
    match std::fs::metadata(file) {
        Ok(found) if !found.is_file() => return Err(malformed("is not a file".to_owned())),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            return Err(malformed("is larger than 64 KiB".to_owned()));
        }
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let folder = std::path::absolute(file).map_err(unreadable)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    parse(&text, folder).map(Some).map_err(malformed)
}

/// Understands the text of a file that lies in `folder`.
fn parse(text: &str, folder: &Path) -> Result<Config, String> {
    let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
    if written.socket.as_os_str().is_empty() {
        return Err("socket: is empty".to_owned());
    }
    let timeout_ms = written.timeout_ms.unwrap_or(TIMEOUT_MS);
    if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
        return Err(format!("timeout_ms: {timeout_ms} is not between 1 and {TIMEOUT_MS_MAX}"));
    }
    let connections_max = written.connections_max.unwrap_or(CONNECTIONS_MAX);
    if !(1..=CONNECTIONS_LIMIT).contains(&connections_max) {
        return Err(format!("connections_max: {connections_max} is not between 1 and {CONNECTIONS_LIMIT}"));
    }
    Ok(Config {
        socket: folder.join(written.socket),
        timeout: Duration::from_millis(timeout_ms),
        connections_max,
        log: written.log.map(|log| folder.join(log)),
        log_level: written.log_level,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let error = parse(text, Path::new("/home/kms")).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_socket_is_enough_and_lies_beside_the_file() {
        let config = parse("socket = \"kms.sock\"", Path::new("/home/kms")).unwrap();
        assert_eq!(config.socket, Path::new("/home/kms/kms.sock"));
        assert_eq!(config.timeout, Duration::from_secs(10));
        assert_eq!((config.connections_max, config.log), (64, None));
        let config =
            parse("socket = \"/run/kms.sock\"\nlog = \"log\"\nlog_level = \"debug\"", Path::new("/h"))
                .unwrap();
        assert_eq!(config.socket, Path::new("/run/kms.sock"));
        assert_eq!((config.log.as_deref(), config.log_level), (Some(Path::new("/h/log")), LogLevel::Debug));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_key() {
        refused("socket = \"a\"\nsokcet = 1", "line 2");
        refused("socket = \"a\"\nsokcet = 1", "sokcet");
        refused("timeout_ms = 5", "socket");
        refused("socket = \"a\"\ntimeout_ms = 0", "timeout_ms");
        refused("socket = \"a\"\ntimeout_ms = \"long\"", "line 2");
        refused("socket = \"a\"\nconnections_max = 0", "connections_max");
        refused("socket = \"\"", "socket");
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("missing.toml");
        let named = Environment { file: Some(file.clone().into()), ..Environment::default() };
        assert!(explain(&named, None).unwrap_err().to_string().contains("missing.toml"));
        assert!(explain(&Environment::default(), Some(&file)).is_err());
    }

    #[test]
    fn the_users_file_is_found_and_the_environments_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kms")).unwrap();
        std::fs::write(folder.path().join("kms/pkcs11.toml"), "socket = \"user\"").unwrap();
        std::fs::write(folder.path().join("named.toml"), "socket = \"named\"").unwrap();
        let mut environment =
            Environment { config_home: Some(folder.path().into()), ..Environment::default() };
        let socket = |environment: &Environment| explain(environment, None).unwrap().unwrap().socket;
        assert_eq!(socket(&environment), folder.path().join("kms/user"));
        environment.file = Some(folder.path().join("named.toml").into());
        assert_eq!(socket(&environment), folder.path().join("named"));
    }

    #[test]
    fn what_other_hosts_pass_is_left_alone() {
        assert_eq!(reserved_path("config=/a/b.toml"), Some(PathBuf::from("/a/b.toml")));
        assert_eq!(reserved_path(" /a/b "), Some(PathBuf::from("/a/b")));
        assert_eq!(reserved_path("b.toml"), Some(PathBuf::from("b.toml")));
        assert_eq!(reserved_path("configdir='sql:/etc/pki' flags=readOnly"), None);
        assert_eq!(reserved_path("config="), None);
        assert_eq!(reserved_path(""), None);
    }
}
