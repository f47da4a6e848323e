//! The configuration, `kms.toml`: typed, and validated when it is read. Only this module reads the environment.
//!
//! Errors state file, line and key. Paths in the file are relative to the file's folder; a home still cannot be moved,
//! because SoftHSM's configuration names its folder. This module does not know what the values are used for.

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
use file::{File, Hsm, Keys, Lifecycle, Rings};

pub use audit::AuditConfig;
pub use environment::{lacking, variable};
pub use error::ConfigError;
pub use rest::RestConfig;
pub use template::NewConfig;
pub use tokens::TokenLifetimes;

/// The name of the configuration file in a home.
pub const FILE_NAME: &str = "kms.toml";

/// The maximum size of the configuration: a hundred times the longest sensible one.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The environment variable that names SoftHSM's configuration.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

/// The environment variable that names the configuration of the OpenSSL inside an HSM's module.
const OPENSSL_CONF: &str = "OPENSSL_CONF";

/// The environment variable that sets from which size on the C library takes memory from the kernel for each block.
const MALLOC_MMAP_THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";

/// The configuration of one home.
#[derive(Clone, Debug)]
pub struct Config {
    folder: PathBuf,
    file: File,
    rest: RestConfig,
}

/// The limits of the cache of opened keys.
#[derive(Clone, Copy, Debug)]
pub struct KeyCache {
    /// The maximum number of keys.
    pub entries: u64,
    /// How long an opened key may be used before the HSM opens it again.
    pub lifetime: Duration,
}

/// How long deleted keys can be restored, and wrapping keys can be used.
#[derive(Clone, Copy, Debug)]
pub struct LifecycleConfig {
    /// From the deletion of a key to its erasure, in seconds.
    pub deletion_seconds: u64,
    /// From the creation of a wrapping key to its expiry, in seconds.
    pub wrapping_seconds: u64,
}

/// What a ring may have, and its principals may do.
#[derive(Clone, Copy, Debug)]
pub struct RingShares {
    /// Keys of a ring.
    pub keys_max: u64,
    /// Objects of a ring.
    pub objects_max: u64,
    /// Bytes that a ring takes in the database.
    pub bytes_max: u64,
    /// Recorded changes of one principal over PKCS#11 within an hour.
    pub changes_per_hour: u32,
}

impl Config {
    /// Reads `kms.toml` of a home.
    ///
    /// # Errors
    /// When it is missing or not valid; the error states where and why.
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

    /// The configuration file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    /// The settings of the REST API.
    pub fn rest(&self) -> &RestConfig {
        &self.rest
    }

    /// The log filter, unless the command line states one: a level, or directives such as `info,kms_hsm=debug`.
    pub fn log_level(&self) -> &str {
        &self.file.log.level
    }

    /// How to connect to the HSM.
    pub fn hsm(&self) -> HsmConfig {
        let Hsm { module, token, pin_file, threads, .. } = &self.file.hsm;
        HsmConfig {
            module: self.folder.join(module),
            token: token.clone(),
            pin_file: self.folder.join(pin_file),
            threads: usize::from(*threads),
        }
    }

    /// Whether a number in the HSM's token shows that a database is an old copy.
    pub fn counts(&self) -> bool {
        self.file.hsm.counter
    }

    /// The path of the database.
    pub fn store_path(&self) -> PathBuf {
        self.folder.join(&self.file.store.path)
    }

    /// The path of the socket for providers.
    pub fn socket_path(&self) -> PathBuf {
        self.folder.join(&self.file.socket.path)
    }

    /// The file mode of the socket, which decides who may connect.
    pub fn socket_mode(&self) -> u32 {
        self.file.socket.mode.0
    }

    /// The maximum number of connections of providers.
    pub fn connections_max(&self) -> usize {
        usize::from(self.file.socket.connections_max)
    }

    /// The maximum number of connections of providers that run as one user of the operating system: a quarter of all
    /// unless the file says otherwise.
    pub fn connections_per_uid(&self) -> usize {
        match self.file.socket.connections_per_uid {
            0 => quarter_of(self.connections_max()),
            number => usize::from(number),
        }
    }

    /// The limits of the cache of opened keys.
    pub fn key_cache(&self) -> KeyCache {
        let Keys { cache_entries, cache_seconds } = self.file.keys;
        KeyCache { entries: cache_entries.into(), lifetime: Duration::from_secs(cache_seconds.into()) }
    }

    /// How long deleted keys can be restored, and wrapping keys can be used.
    pub fn lifecycle(&self) -> LifecycleConfig {
        let Lifecycle { deletion_seconds, wrapping_key_seconds } = self.file.lifecycle;
        LifecycleConfig {
            deletion_seconds: deletion_seconds.into(),
            wrapping_seconds: wrapping_key_seconds.into(),
        }
    }

    /// What the audit log records, and for how long.
    pub fn audit(&self) -> AuditConfig {
        self.file.audit
    }

    /// Whether there is a slot with an uninitialised token, which `C_InitToken` turns into a ring.
    pub fn offers_free_slot(&self) -> bool {
        self.file.rings.free_slot
    }

    /// What a ring may have, and its principals may do.
    pub fn ring_shares(&self) -> RingShares {
        let Rings { keys_max, objects_max, mib_max, changes_per_hour, .. } = self.file.rings;
        RingShares {
            keys_max: keys_max.into(),
            objects_max: objects_max.into(),
            bytes_max: u64::from(mib_max) << 20,
            changes_per_hour,
        }
    }

    /// Free bytes on the disk of the database below which nothing more is created.
    pub fn disk_floor(&self) -> u64 {
        u64::from(self.file.store.disk_floor_mib) << 20
    }

    /// The lifetimes of the tokens of the key flow.
    pub fn token_lifetimes(&self) -> TokenLifetimes {
        self.file.tokens.lifetimes()
    }

    /// The environment variables that the HSM's module and the C library read when they are loaded.
    ///
    /// A process that has threads cannot change its environment safely, so `main` executes the program again (`exec`)
    /// with these variables when [`Config::lacking`] returns any.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let softhsm = self.file.hsm.conf.as_ref().map(|conf| (SOFTHSM2_CONF, self.folder.join(conf).into()));
        // glibc would keep large blocks for reuse; so they are given back when they are freed (mallopt(3)).
        let malloc = [(MALLOC_MMAP_THRESHOLD, OsString::from("65536"))];
        // The OpenSSL in SoftHSM would read the system's configuration, which may name our own module as an engine.
        softhsm.into_iter().chain([(OPENSSL_CONF, OsString::from("/dev/null"))]).chain(malloc).collect()
    }

    /// Returns those of [`Config::environment`] that are not set in this process. If there are none, the module can be
    /// loaded.
    pub fn lacking(&self) -> Vec<(&'static str, OsString)> {
        lacking(self.environment())
    }
}

/// A peer's share of the connections unless the file says otherwise.
fn quarter_of(connections_max: usize) -> usize {
    (connections_max / 4).max(1)
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

    const MINIMAL: &str = "[hsm]\nmodule = \"m.so\"\ntoken = \"t\"\npin_file = \"hsm.pin\"\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[track_caller]
    fn check(text: &str, line: usize, key: &str, problem: &str) {
        let error = parse(text).expect_err("this is not valid").to_string();
        let location = format!("{FILE_NAME}, line {line}, {key}: ");
        assert!(error.contains(&location), "{error:?} lacks {location:?}");
        assert!(error.contains(problem), "{error:?} lacks {problem:?}");
    }

    #[test]
    fn a_short_file_has_all_defaults_and_paths_in_its_folder() {
        let config = parse(MINIMAL).unwrap();
        assert!(config.store_path().is_absolute() && config.store_path().ends_with("kms.db"));
        assert!(config.socket_path().ends_with("kms.sock"));
        assert_eq!((config.socket_mode(), config.connections_max()), (0o660, 1024));
        assert_eq!((config.connections_per_uid(), config.rest().connections_per_address), (256, 256));
        assert_eq!((config.key_cache().entries, config.key_cache().lifetime.as_secs()), (10_000, 300));
        assert_eq!(config.hsm().threads, 4);
        assert_eq!(config.environment().len(), 2);
        assert_eq!((config.disk_floor(), config.ring_shares().keys_max), (64 << 20, 200_000));
        assert_eq!(config.rest().listen.to_string(), "127.0.0.1:9200");
        assert_eq!((config.rest().enabled, config.rest().calls_per_hour), (true, 10_000));
        assert!(config.rest().tls.is_none() && config.log_level() == "info");
    }

    #[test]
    fn errors_state_line_and_key() {
        check(&format!("{MINIMAL}threads = 0\n"), 5, "[hsm] threads", "0 is not between 1 and 64");
        check(
            &format!("{MINIMAL}\n[socket]\nmode = \"0999\"\n"),
            7,
            "[socket] mode",
            "no file mode for a socket",
        );
        check(&format!("{MINIMAL}[socket]\nmode = 660\n"), 6, "[socket] mode", "expected a string");
        check(&format!("{MINIMAL}thread = 4\n"), 5, "[hsm] thread", "unknown field `thread`");
        check(
            &format!("{MINIMAL}[keys]\ncache_entries = \"many\"\n"),
            6,
            "[keys] cache_entries",
            "invalid type",
        );
        check(
            &format!("{MINIMAL}[keys]\ncache_seconds = -1\n"),
            6,
            "[keys] cache_seconds",
            "-1 is not between",
        );
        check(
            &format!("{MINIMAL}[rest]\nlisten = \"9200\"\n"),
            6,
            "[rest] listen",
            "\"9200\" is no address with a port",
        );
        check(&format!("{MINIMAL}[rest]\ntls_cert = \"c\"\n"), 5, "[rest]", "tls_cert needs tls_key");
        check("[hsm]\nmodule = \"\"\ntoken = \"t\"\n", 2, "[hsm] module", "it is empty");
        check("[hsm]\nmodule = \"m\"\ntoken = \"t\"\n", 1, "[hsm]", "missing field `pin_file`");
        check("[hsm]\nmodule = \n", 2, "[hsm] module", "");
    }

    #[test]
    fn the_error_for_a_missing_configuration_names_it() {
        let error = Config::read(Path::new("/nonexistent/kms.toml")).expect_err("there is none").to_string();
        assert!(error.contains("/nonexistent/kms.toml does not exist"), "{error}");
    }

    #[test]
    fn the_template_parses_to_its_values_and_the_defaults() {
        let (module, pin) = (Path::new("/usr/lib/a \"quoted\".so"), Path::new("hsm.pin"));
        let conf = Some(Path::new("softhsm2.conf"));
        let config = parse(&NewConfig { module, token: "kms-1", pin_file: pin, conf }.text()).unwrap();
        assert_eq!(config.hsm().module, module);
        assert_eq!(config.hsm().token, "kms-1");
        assert_eq!(config.environment()[0].0, "SOFTHSM2_CONF");
        assert_eq!(config.socket_mode(), 0o660);
        // Every commented default is a valid key with its real default.
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
