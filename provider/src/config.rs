//! The configuration of the module. Only this code uses the environment and reads a file, and only at `C_Initialize`.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// The default timeout of a call: a cold unwrap in the HSM (~200 ms) behind the deepest queue, doubled.
const TIMEOUT_MS: u64 = 10_000;

/// The longest timeout that may be configured. An application that waits for longer has hung.
const TIMEOUT_MS_MAX: u64 = 600_000;

/// The default maximum of connections of one process: one for each concurrent call.
const CONNECTIONS_MAX: usize = 64;

/// The most connections that may be configured: the backend accepts 1,024 from all processes.
const CONNECTIONS_LIMIT: usize = 1024;

/// The largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The system-wide configuration file.
const SYSTEM_FILE: &str = "/etc/kms/pkcs11.toml";

/// The level of the log.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Calls that failed because of the backend, the connection or a bug.
    #[default]
    Error,
    /// Every call that failed.
    Info,
    /// Every call.
    Debug,
}

/// The contents of `pkcs11.toml`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The backend's socket.
    pub socket: PathBuf,
    /// The user as whom the backend runs; without it, those whom the module trusts by default.
    pub server_uid: Option<u32>,
    /// The owner of the file.
    pub owner: Option<u32>,
    /// The timeout of one request.
    pub timeout: Duration,
    /// The maximum of concurrent requests.
    pub connections_max: usize,
    /// The log file; none unless configured.
    pub log: Option<PathBuf>,
    /// The level of the log.
    pub log_level: LogLevel,
}

/// The file before its values are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    socket: PathBuf,
    server_uid: Option<u32>,
    timeout_ms: Option<u64>,
    connections_max: Option<usize>,
    log: Option<PathBuf>,
    #[serde(default)]
    log_level: LogLevel,
}

/// Why a configuration file cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The contents are invalid.
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, the key and the problem.
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

/// Variables of the process's environment. They are read through `secure_getenv`, so none are set in a set-user-id
/// host.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `KMS_PKCS11_CONFIG`: the configuration file.
    pub file: Option<OsString>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
}

/// Finds and reads the configuration: the file in `KMS_PKCS11_CONFIG`, else the one in `pReserved` of `C_Initialize`,
/// else the system-wide one, else the user's. None when there is no file: then the module works and has no slots.
///
/// # Errors
/// When a file was named and does not exist, or when a file is invalid. The application gets `CKR_FUNCTION_FAILED`; the
/// error says why.
pub fn load(environment: &Environment, reserved: Option<&Path>) -> Result<Option<Config>, ConfigError> {
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

/// The path in `pReserved`: `config=PATH`, the path of a `.toml` file, or an absolute path. None for other strings,
/// which hosts pass for other modules.
pub(crate) fn reserved_path(text: &str) -> Option<PathBuf> {
    let text = text.trim();
    let path = match text.strip_prefix("config=") {
        Some(path) => path.trim().trim_matches('"'),
        None if text.starts_with('/') || text.ends_with(".toml") => text,
        None => return None,
    };
    (!path.is_empty()).then(|| PathBuf::from(path))
}

/// Reads a file; none if it does not exist.
fn read(file: &Path) -> Result<Option<Config>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
    let malformed = |reason: String| ConfigError::Malformed { file: file.to_owned(), reason };
    let owner = match std::fs::metadata(file) {
        Ok(metadata) if !metadata.is_file() => return Err(malformed("is not a file".to_owned())),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(malformed("is larger than 64 KiB".to_owned()));
        }
        Ok(metadata) => metadata.uid(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let folder = std::path::absolute(file).map_err(unreadable)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    let config = parse(&text, folder).map_err(malformed)?;
    Ok(Some(Config { owner: Some(owner), ..config }))
}

/// Parses a file that is in `folder`, which relative paths refer to.
fn parse(text: &str, folder: &Path) -> Result<Config, String> {
    let raw: RawConfig = toml::from_str(text).map_err(|error| error.to_string())?;
    if raw.socket.as_os_str().is_empty() {
        return Err("socket: is empty".to_owned());
    }
    let timeout_ms = raw.timeout_ms.unwrap_or(TIMEOUT_MS);
    if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
        return Err(format!("timeout_ms: {timeout_ms} is not between 1 and {TIMEOUT_MS_MAX}"));
    }
    let connections_max = raw.connections_max.unwrap_or(CONNECTIONS_MAX);
    if !(1..=CONNECTIONS_LIMIT).contains(&connections_max) {
        return Err(format!("connections_max: {connections_max} is not between 1 and {CONNECTIONS_LIMIT}"));
    }
    Ok(Config {
        socket: folder.join(raw.socket),
        server_uid: raw.server_uid,
        owner: None,
        timeout: Duration::from_millis(timeout_ms),
        connections_max,
        log: raw.log.map(|log| folder.join(log)),
        log_level: raw.log_level,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(text: &str, part: &str) {
        let error = parse(text, Path::new("/home/kms")).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn only_the_socket_is_required_and_paths_are_relative_to_the_file() {
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
    fn errors_contain_the_line_and_the_key() {
        check_error("socket = \"a\"\nsokcet = 1", "line 2");
        check_error("socket = \"a\"\nsokcet = 1", "sokcet");
        check_error("timeout_ms = 5", "socket");
        check_error("socket = \"a\"\ntimeout_ms = 0", "timeout_ms");
        check_error("socket = \"a\"\ntimeout_ms = \"long\"", "line 2");
        check_error("socket = \"a\"\nconnections_max = 0", "connections_max");
        check_error("socket = \"\"", "socket");
        check_error("socket = \"a\"\nserver_uid = -1", "server_uid");
    }

    #[test]
    fn a_named_file_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("missing.toml");
        let named = Environment { file: Some(file.clone().into()), ..Environment::default() };
        assert!(load(&named, None).unwrap_err().to_string().contains("missing.toml"));
        assert!(load(&Environment::default(), Some(&file)).is_err());
    }

    #[test]
    fn the_file_in_the_environment_precedes_the_users() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kms")).unwrap();
        std::fs::write(folder.path().join("kms/pkcs11.toml"), "socket = \"user\"").unwrap();
        std::fs::write(folder.path().join("named.toml"), "socket = \"named\"").unwrap();
        let mut environment =
            Environment { config_home: Some(folder.path().into()), ..Environment::default() };
        let socket = |environment: &Environment| load(environment, None).unwrap().unwrap().socket;
        assert_eq!(socket(&environment), folder.path().join("kms/user"));
        environment.file = Some(folder.path().join("named.toml").into());
        assert_eq!(socket(&environment), folder.path().join("named"));
    }

    #[test]
    fn other_strings_in_preserved_are_ignored() {
        assert_eq!(reserved_path("config=/a/b.toml"), Some(PathBuf::from("/a/b.toml")));
        assert_eq!(reserved_path(" /a/b "), Some(PathBuf::from("/a/b")));
        assert_eq!(reserved_path("b.toml"), Some(PathBuf::from("b.toml")));
        assert_eq!(reserved_path("configdir='sql:/etc/pki' flags=readOnly"), None);
        assert_eq!(reserved_path("config="), None);
        assert_eq!(reserved_path(""), None);
    }
}
