//! The one typed configuration, `kms.toml`, checked while it is read; and the only room that reads the environment.
//!
//! A mistake is told with file, line and key. Paths in the file are relative to the file's folder, so a home can be
//! moved. The room knows nothing of what the values are for.

mod audit;
mod log;
mod rest;
mod tokens;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use zeroize::Zeroizing;

pub use audit::AuditConfig;
pub use rest::RestConfig;
pub use tokens::TokenLives;

/// The configuration's name in a home.
pub const FILE_NAME: &str = "kms.toml";

/// The longest configuration that is read: a hundred times the longest sensible one.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The longest PIN of an HSM: twice what any known one takes.
const PIN_BYTES_MAX: u64 = 512;

/// Where SoftHSM looks for its own configuration.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

/// Where the OpenSSL inside an HSM's module looks for its own.
const OPENSSL_CONF: &str = "OPENSSL_CONF";

/// Why the configuration, or a file it names, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no home here.
    #[error("{} does not exist; make a home with `kms init --home DIR`, or name another with --home", .0.display())]
    Missing(PathBuf),
    /// A value is wrong, unknown or missing.
    #[error("{}, line {line}{}: {problem}", path.display(), Key(key))]
    Wrong {
        /// The configuration's file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, as `[section] key`; empty where the line has none.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The PIN of the HSM could be read by others.
    #[error("{} can be read or changed by other users (mode {mode:04o}); `chmod 600` it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The PIN's file holds no PIN.
    #[error("{} holds no PIN: one line of UTF-8 is wanted", .0.display())]
    NoPin(PathBuf),
}

/// Writes a key in front of what is wrong with it, if there is one.
struct Key<'a>(&'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", {}", self.0) }
    }
}

/// The configuration of one home.
#[derive(Clone, Debug)]
pub struct Config {
    folder: PathBuf,
    file: File,
    rest: RestConfig,
}

/// How to reach the HSM.
#[derive(Clone, Debug)]
pub struct HsmConfig {
    /// Its PKCS#11 module.
    pub module: PathBuf,
    /// The token's label or serial number.
    pub token: String,
    /// The file with the user's PIN.
    pub pin_file: PathBuf,
    /// How many sessions work at once.
    pub threads: usize,
}

/// How many opened keys are remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct KeyCache {
    /// The most keys at once.
    pub entries: u64,
    /// How long an opened key may be used before the HSM is asked again.
    pub lifetime: Duration,
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

    /// What is logged, unless the command line says otherwise: a level, or directives as in `info,kms_backend::hsm=debug`.
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
    pub(crate) fn lifecycle(&self) -> crate::dispatch::Lifecycle {
        let Lifecycle { deletion_seconds, wrapping_key_seconds } = self.file.lifecycle;
        crate::dispatch::Lifecycle {
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
    pub fn token_lives(&self) -> TokenLives {
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

/// What of these variables this process lacks, or has otherwise.
#[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
pub fn lacking(wanted: Vec<(&'static str, OsString)>) -> Vec<(&'static str, OsString)> {
    wanted.into_iter().filter(|(name, value)| std::env::var_os(name).as_ref() != Some(value)).collect()
}

/// A variable of this process's environment, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl HsmConfig {
    /// The PIN, out of its file; the line's end does not belong to it.
    ///
    /// # Errors
    /// When the file is missing, empty, or can be read by other users.
    pub fn pin(&self) -> Result<Zeroizing<String>, ConfigError> {
        let path = &self.pin_file;
        let unreadable = |source| ConfigError::Unreadable { path: path.clone(), source };
        let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(ConfigError::Exposed { path: path.clone(), mode });
        }
        let text = Zeroizing::new(read(path, PIN_BYTES_MAX).map_err(unreadable)?);
        let pin = text.trim_end_matches(['\n', '\r']);
        if pin.is_empty() || pin.contains('\n') {
            return Err(ConfigError::NoPin(path.clone()));
        }
        Ok(Zeroizing::new(pin.to_owned()))
    }
}

/// What a new home's `kms.toml` says; all else has its default and stands in the file as a comment.
#[derive(Clone, Debug)]
pub struct NewConfig<'a> {
    /// The HSM's PKCS#11 module.
    pub module: &'a Path,
    /// The token's label or serial number.
    pub token: &'a str,
    /// The file with the user's PIN.
    pub pin_file: &'a Path,
    /// SoftHSM's configuration, where the module is SoftHSM.
    pub conf: Option<&'a Path>,
}

impl NewConfig<'_> {
    /// The text of `kms.toml`. A path that is not UTF-8 has no place in TOML and is written as nearly as possible.
    pub fn text(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let conf = self.conf.map_or_else(
            || "# conf = \"softhsm2.conf\"".to_owned(),
            |conf| format!("conf = {}", quoted(&conf.to_string_lossy())),
        );
        include_str!("config_template.toml")
            .replace("{module}", &quoted(&self.module.to_string_lossy()))
            .replace("{token}", &quoted(self.token))
            .replace("{pin_file}", &quoted(&self.pin_file.to_string_lossy()))
            .replace("{conf}", &conf)
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

/// Where in the text an error of the parser is.
fn wrong(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let Range { start, .. } = error.span().unwrap_or(0..0);
    let before = text.get(..start).unwrap_or(text);
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n') && !before.is_empty());
    let at = text.lines().nth(line - 1).unwrap_or_default();
    let key = at.split_once('=').map(|(key, _)| key.trim()).unwrap_or_default();
    let lines = text.lines().take(line).map(str::trim);
    let section = lines.filter(|line| line.starts_with('[')).last().unwrap_or_default();
    let section = section.split(']').next().map(|name| format!("{name}]")).filter(|name| name.len() > 1);
    let key = [section.unwrap_or_default().as_str(), key].join(" ").trim().to_owned();
    let problem = error.message().replace('\n', " ");
    ConfigError::Wrong { path: path.to_owned(), line, key, problem }
}

/// The file as it is written.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hsm: Hsm,
    #[serde(default)]
    store: Store,
    #[serde(default)]
    socket: Socket,
    #[serde(default)]
    keys: Keys,
    #[serde(default)]
    lifecycle: Lifecycle,
    #[serde(default)]
    rings: Rings,
    #[serde(default)]
    audit: AuditConfig,
    #[serde(default)]
    tokens: tokens::Tokens,
    #[serde(default)]
    rest: rest::Rest,
    #[serde(default)]
    log: log::Log,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rings {
    free_slot: bool,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Hsm {
    #[serde(deserialize_with = "filled")]
    module: String,
    #[serde(deserialize_with = "filled")]
    token: String,
    #[serde(deserialize_with = "filled")]
    pin_file: String,
    conf: Option<String>,
    #[serde(default = "threads", deserialize_with = "between::<1, 64, _>")]
    threads: u16,
}

/// Sessions that wrap and unwrap at once: SoftHSM takes tens of microseconds for a key, so a few serve many callers.
fn threads() -> u16 {
    4
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Store {
    #[serde(deserialize_with = "filled")]
    path: String,
}

impl Default for Store {
    fn default() -> Self {
        Self { path: "kms.db".to_owned() }
    }
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Socket {
    #[serde(deserialize_with = "filled")]
    path: String,
    mode: Mode,
    #[serde(deserialize_with = "between::<1, 65_535, _>")]
    connections_max: u16,
}

impl Default for Socket {
    fn default() -> Self {
        Self { path: "kms.sock".to_owned(), mode: Mode(0o660), connections_max: 1024 }
    }
}

/// A file mode, written as text: TOML's numbers would read 0660 as decimal, or not at all.
#[derive(Clone, Copy, Debug)]
struct Mode(u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777 && *mode & 0o600 == 0o600);
        mode.map(Self).ok_or_else(|| {
            D::Error::custom(format_args!(
                "{text:?} is no mode for a socket; write \"0600\", \"0660\" or \"0666\""
            ))
        })
    }
}

/// How long things last, in seconds. A hundred years stand for ever.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Lifecycle {
    #[serde(deserialize_with = "between_u32::<1, 3_155_760_000, _>")]
    deletion_seconds: u32,
    #[serde(deserialize_with = "between_u32::<1, 31_557_600, _>")]
    wrapping_key_seconds: u32,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { deletion_seconds: 30 * 24 * 3600, wrapping_key_seconds: 3 * 24 * 3600 }
    }
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    #[serde(deserialize_with = "between_u32::<1, 1_000_000, _>")]
    cache_entries: u32,
    #[serde(deserialize_with = "between_u32::<1, 86_400, _>")]
    cache_seconds: u32,
}

impl Default for Keys {
    fn default() -> Self {
        Self { cache_entries: 10_000, cache_seconds: 300 }
    }
}

fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() || text.contains('\0') {
        Err(D::Error::custom("it is empty"))
    } else {
        Ok(text)
    }
}

fn between<'de, const MIN: u16, const MAX: u16, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u16, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let fits = u16::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
    fits.ok_or_else(|| D::Error::custom(format_args!("{number} is not between {MIN} and {MAX}")))
}

fn between_u32<'de, const MIN: u32, const MAX: u32, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let fits = u32::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
    fits.ok_or_else(|| D::Error::custom(format_args!("{number} is not between {MIN} and {MAX}")))
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

    #[test]
    fn a_pin_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pin_file = folder.path().join("hsm.pin");
        let hsm = HsmConfig {
            module: PathBuf::new(),
            token: String::new(),
            pin_file: pin_file.clone(),
            threads: 1,
        };
        assert!(matches!(hsm.pin(), Err(ConfigError::Unreadable { .. })));
        fs::write(&pin_file, "1234\n").unwrap();
        fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(hsm.pin(), Err(ConfigError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(hsm.pin().unwrap().as_str(), "1234");
        fs::write(&pin_file, "\n").unwrap();
        assert!(matches!(hsm.pin(), Err(ConfigError::NoPin(_))));
    }
}
