//! The one typed configuration, `kms.toml`, checked while it is read; and the only room that reads the environment.
//!
//! A mistake is told with file, line and key. Paths in the file are relative to the file's folder, so a home can be
//! moved. The room knows nothing of what the values are for.

mod audit;
mod environment;
mod error;
mod file;
mod log;
mod rest;
mod template;
mod tokens;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_hsm::HsmConfig;

use error::wrong;
use file::{File, Hsm, Keys, Lifecycle};

pub use audit::AuditConfig;
pub use environment::{lacking, variable};
pub use error::ConfigError;
pub use rest::RestConfig;
pub use template::NewConfig;
pub use tokens::TokenLifetimes;

/// The configuration's name in a home.
pub const FILE_NAME: &str = "kms.toml";

/// The longest configuration that is read: a hundred times the longest sensible one.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where SoftHSM looks for its own configuration.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

/// Where the OpenSSL inside an HSM's module looks for its own.
const OPENSSL_CONF: &str = "OPENSSL_CONF";

/// The configuration of one home.
#[derive(Clone, Debug)]
pub struct Config {
    folder: PathBuf,
    file: File,
    rest: RestConfig,
}

/// How many opened keys are remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct KeyCache {
    /// The most keys at once.
    pub entries: u64,
    /// How long an opened key may be used before the HSM is asked again.
    pub lifetime: Duration,
}

/// How long deleted keys can be restored, and wrapping keys be used.
#[derive(Clone, Copy, Debug)]
pub struct LifecycleConfig {
    /// From the deletion of a key to its erasure, in seconds.
    pub deletion_seconds: u64,
    /// From the creation of a wrapping key to its expiry, in seconds.
    pub wrapping_seconds: u64,
}

impl Config {
    /// Reads `kms.toml` of a home.
    ///
    /// # Errors
    /// When it is missing, or anything in it is wrong; the error says what and where.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path, FILE_BYTES_MAX).map_err(|source| {
            let path = path.to_owned();
            let missing = source.kind() == io::ErrorKind::NotFound;
            if missing { ConfigError::Missing(path) } else { ConfigError::Unreadable { path, source } }
        })?;
        let file: File = toml::from_str(&text).map_err(|error| wrong(path, &text, &error))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let rest = file.rest.in_folder(&folder).map_err(|problem| {
            let line = text.lines().position(|line| line.trim() == "[rest]").map_or(1, |index| index + 1);
            let (path, key, problem) = (path.to_owned(), "[rest]".to_owned(), problem.to_owned());
            ConfigError::Wrong { path, line, key, problem }
        })?;
        Ok(Self { folder, file, rest })
    }

    /// The file it was read from.
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    /// The REST door.
    pub fn rest(&self) -> &RestConfig {
        &self.rest
    }

    /// What is logged, unless the command line says otherwise: a level, or directives as in `info,kms_hsm=debug`.
    pub fn log_level(&self) -> &str {
        &self.file.log.level
    }

    /// How to reach the HSM.
    pub fn hsm(&self) -> HsmConfig {
        let Hsm { module, token, pin_file, threads, .. } = &self.file.hsm;
        HsmConfig {
            module: self.folder.join(module),
            token: token.clone(),
            pin_file: self.folder.join(pin_file),
            threads: usize::from(*threads),
        }
    }

    /// The database.
    pub fn store_path(&self) -> PathBuf {
        self.folder.join(&self.file.store.path)
    }

    /// The socket on which providers ask.
    pub fn socket_path(&self) -> PathBuf {
        self.folder.join(&self.file.socket.path)
    }

    /// Who may connect, as a file mode.
    pub fn socket_mode(&self) -> u32 {
        self.file.socket.mode.0
    }

    /// How many providers may be connected at once.
    pub fn connections_max(&self) -> usize {
        usize::from(self.file.socket.connections_max)
    }

    /// How many opened keys are remembered, and for how long.
    pub fn key_cache(&self) -> KeyCache {
        let Keys { cache_entries, cache_seconds } = self.file.keys;
        KeyCache { entries: cache_entries.into(), lifetime: Duration::from_secs(cache_seconds.into()) }
    }

    /// How long deleted keys can be restored, and wrapping keys be used.
    pub fn lifecycle(&self) -> LifecycleConfig {
        let Lifecycle { deletion_seconds, wrapping_key_seconds } = self.file.lifecycle;
        LifecycleConfig {
            deletion_seconds: deletion_seconds.into(),
            wrapping_seconds: wrapping_key_seconds.into(),
        }
    }

    /// What the audit log holds, and for how long.
    pub fn audit(&self) -> AuditConfig {
        self.file.audit
    }

    /// Whether there is a slot that `C_InitToken` makes a ring of.
    pub fn offers_free_slot(&self) -> bool {
        self.file.rings.free_slot
    }

    /// How long the tokens of the key flow live.
    pub fn token_lifetimes(&self) -> TokenLifetimes {
        self.file.tokens.lives()
    }

    /// What the environment must say before the HSM's module is loaded, for the module reads it by itself.
    ///
    /// A process cannot change its own environment safely once it has threads, so `main` starts itself again
    /// (`exec`) with these when [`Config::lacking`] finds that one is not there.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let softhsm = self.file.hsm.conf.as_ref().map(|conf| (SOFTHSM2_CONF, self.folder.join(conf).into()));
        // SoftHSM's OpenSSL would read the system's configuration, which may name our own module as an engine.
        softhsm.into_iter().chain([(OPENSSL_CONF, OsString::from("/dev/null"))]).collect()
    }

    /// What of [`Config::environment`] this process lacks; empty when the module can be loaded.
    pub fn lacking(&self) -> Vec<(&'static str, OsString)> {
        lacking(self.environment())
    }
}

fn read(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > bytes_max {
        let problem = format!("it is longer than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "[hsm]\nmodule = \"m.so\"\ntoken = \"t\"\npin_file = \"hsm.pin\"\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[track_caller]
    fn check(text: &str, line: usize, key: &str, problem: &str) {
        let error = parse(text).expect_err("this is wrong").to_string();
        let place = format!("{FILE_NAME}, line {line}, {key}: ");
        assert!(error.contains(&place), "{error:?} does not say {place:?}");
        assert!(error.contains(problem), "{error:?} does not say {problem:?}");
    }

    #[test]
    fn a_short_file_has_all_defaults_and_paths_in_its_folder() {
        let config = parse(WHOLE).unwrap();
        assert!(config.store_path().is_absolute() && config.store_path().ends_with("kms.db"));
        assert!(config.socket_path().ends_with("kms.sock"));
        assert_eq!((config.socket_mode(), config.connections_max()), (0o660, 1024));
        assert_eq!((config.key_cache().entries, config.key_cache().lifetime.as_secs()), (10_000, 300));
        assert_eq!(config.hsm().threads, 4);
        assert_eq!(config.environment().len(), 1);
        assert_eq!(config.rest().listen.to_string(), "127.0.0.1:9200");
        assert_eq!((config.rest().enabled, config.rest().calls_per_hour), (true, 10_000));
        assert!(config.rest().tls.is_none() && config.log_level() == "info");
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_key() {
        check(&format!("{WHOLE}threads = 0\n"), 5, "[hsm] threads", "0 is not between 1 and 64");
        check(&format!("{WHOLE}\n[socket]\nmode = \"0999\"\n"), 7, "[socket] mode", "no mode for a socket");
        check(&format!("{WHOLE}[socket]\nmode = 660\n"), 6, "[socket] mode", "expected a string");
        check(&format!("{WHOLE}thread = 4\n"), 5, "[hsm] thread", "unknown field `thread`");
        check(
            &format!("{WHOLE}[keys]\ncache_entries = \"many\"\n"),
            6,
            "[keys] cache_entries",
            "invalid type",
        );
        check(
            &format!("{WHOLE}[keys]\ncache_seconds = -1\n"),
            6,
            "[keys] cache_seconds",
            "-1 is not between",
        );
        check(
            &format!("{WHOLE}[rest]\nlisten = \"9200\"\n"),
            6,
            "[rest] listen",
            "\"9200\" is no address with a port",
        );
        check(&format!("{WHOLE}[rest]\ntls_cert = \"c\"\n"), 5, "[rest]", "tls_cert needs tls_key");
        check("[hsm]\nmodule = \"\"\ntoken = \"t\"\n", 2, "[hsm] module", "it is empty");
        check("[hsm]\nmodule = \"m\"\ntoken = \"t\"\n", 1, "[hsm]", "missing field `pin_file`");
        check("[hsm]\nmodule = \n", 2, "[hsm] module", "");
    }

    #[test]
    fn a_home_without_configuration_is_named() {
        let error = Config::read(Path::new("/nonexistent/kms.toml")).expect_err("there is none").to_string();
        assert!(error.contains("/nonexistent/kms.toml does not exist"), "{error}");
    }

    #[test]
    fn the_template_reads_as_what_it_was_made_of() {
        let (module, pin) = (Path::new("/usr/lib/a \"quoted\".so"), Path::new("hsm.pin"));
        let conf = Some(Path::new("softhsm2.conf"));
        let config = parse(&NewConfig { module, token: "kms-1", pin_file: pin, conf }.text()).unwrap();
        assert_eq!(config.hsm().module, module);
        assert_eq!(config.hsm().token, "kms-1");
        assert_eq!(config.environment()[0].0, "SOFTHSM2_CONF");
        assert_eq!(config.socket_mode(), 0o660);
        // Every commented default is a key the file takes, with that value.
        let text = NewConfig { module, token: "kms-1", pin_file: pin, conf }.text();
        let all: String = text.lines().map(|line| format!("{}\n", uncommented(line))).collect();
        let all = parse(&all).unwrap_or_else(|error| panic!("{error}\n{all}"));
        assert_eq!(format!("{:?}", all.file), format!("{:?}", config.file));
    }

    fn uncommented(line: &str) -> &str {
        line.strip_prefix("# ")
            .filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')))
            .unwrap_or(line)
    }
}
