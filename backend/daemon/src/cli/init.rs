//! `kms init`: creates a complete home, or nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kms_core::api::Role;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::arguments::Init;
use super::environment::{self, Setting};
use super::failure::Failure;
use super::home::{Home, UnfinishedHome, write_new};
use super::output;
use super::pins::{self, RingPins};
use super::rings::ring_json;
use super::softhsm;
use crate::config::{Config, NewConfig};
use crate::service::{Backend, NewRing, RingInfo, Scope};

/// The text of `pkcs11.toml`. The path of the socket is relative to the file, so that the home of a container can be
/// used from outside of it.
const PROVIDER_CONFIG: &str = "\
# Configuration of libkms_pkcs11.so, through which applications use this KMS. Set KMS_PKCS11_CONFIG to the path of this
# file, or copy it to /etc/kms/pkcs11.toml with the absolute path of the socket. It contains no secrets.

# The daemon's socket. A relative path is relative to the folder of this file.
socket = {socket}
# The maximum time that a call waits for the backend, in milliseconds.
# timeout_ms = 10000
# The user id as which the daemon runs. Without it, nothing is sent to a daemon of another user than root, this process's
# own, the owner of this file, or the owner of the socket's folder if nobody else can write that folder or one above it.
# A daemon in a container may have another id outside of it.
# server_uid = 999
";

/// The name of the first project.
const FIRST_PROJECT: &str = "default";

/// The first service account, which has the role owner everywhere.
const FIRST_OWNER: &str = "admin@default.sa.kms.local";

/// The HSM token for the master key.
enum HsmToken {
    /// A new SoftHSM token in the home.
    NewSoftHsm { library: PathBuf },
    /// An existing token.
    Existing { module: PathBuf, token: String, pin_file: PathBuf },
}

/// Creates a home.
pub(super) fn run(arguments: Init, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let hsm = HsmToken::of(arguments.hsm_module, arguments.hsm_token, arguments.hsm_pin_file)?;
    environment::require(hsm.environment(&home), argv)?;
    let pins = RingPins::from_arguments(arguments.pins)?;
    let ring = NewRing {
        name: arguments.ring,
        policy: arguments.policy.into(),
        user_pin: pins.user.clone(),
        so_pin: pins.so.clone(),
    };
    ring.check()?;
    let unfinished = UnfinishedHome::begin(&home)?;
    let ring = create(&home, &hsm, &pins, ring, arguments.project)?;
    unfinished.finish()?;
    if arguments.output.json {
        print_json(&home, &ring, arguments.project);
    } else {
        print_text(&home, &ring, arguments.project);
    }
    Ok(())
}

/// Creates the files of a home, in the order of their dependencies.
fn create(
    home: &Home,
    hsm: &HsmToken,
    pins: &RingPins,
    ring: NewRing,
    project: Uuid,
) -> Result<RingInfo, Failure> {
    write_new(&home.config(), 0o600, &hsm.config(home)?)?;
    let config = home.read_new_config()?;
    let socket = provider_socket(home, &config);
    write_new(&home.provider_config(), 0o644, &PROVIDER_CONFIG.replace("{socket}", &toml_text(&socket)?))?;
    let header = pins::credentials_header(home.path());
    write_new(&home.credentials(), 0o600, &[header.as_str(), &pins.entry(&ring.name)].concat())?;
    let backend = Backend::create(&config)?;
    backend.add_project(project, FIRST_PROJECT)?;
    backend.add_service_account(FIRST_OWNER, Some((Role::Owner, Scope::default())))?;
    let token = backend.create_token(FIRST_OWNER, "init", None)?;
    write_new(&home.admin_token(), 0o600, &Zeroizing::new(format!("{}\n", *token.text)))?;
    Ok(backend.create_ring(ring)?)
}

/// The path of the socket for `pkcs11.toml`: relative to the home if it is in the home.
fn provider_socket(home: &Home, config: &Config) -> PathBuf {
    let socket = config.socket_path();
    socket.strip_prefix(home.path()).map(Path::to_owned).unwrap_or(socket)
}

impl HsmToken {
    fn of(
        module: Option<PathBuf>,
        token: Option<String>,
        pin_file: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let (Some(module), Some(token), Some(pin_file)) = (module, token, pin_file) else {
            return Ok(Self::NewSoftHsm { library: softhsm::library()? });
        };
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| {
                Failure::because(
                    format!("{:?} is not a valid path", path.display()),
                    &error,
                    "name an existing file",
                )
            })
        };
        Ok(Self::Existing { module: absolute(module)?, token, pin_file: absolute(pin_file)? })
    }

    fn environment(&self, home: &Home) -> Vec<Setting> {
        match self {
            Self::NewSoftHsm { .. } => softhsm::environment(home),
            Self::Existing { .. } => vec![softhsm::no_openssl_config()],
        }
    }

    /// The text of `kms.toml`. Creates the SoftHSM token if a new one is wanted.
    fn config(&self, home: &Home) -> Result<String, Failure> {
        match self {
            Self::NewSoftHsm { library } => {
                let token = softhsm::create_token(home, library)?;
                let (pin_file, conf) = (Path::new("hsm.pin"), Some(Path::new("softhsm2.conf")));
                Ok(NewConfig { module: library, token: &token, pin_file, conf }.text())
            }
            Self::Existing { module, token, pin_file } => {
                // If the existing HSM is SoftHSM, its configuration is the one in the environment.
                let conf = environment::softhsm_config();
                Ok(NewConfig { module, token, pin_file, conf: conf.as_deref() }.text())
            }
        }
    }
}

fn toml_text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| {
        let what = format!("cannot write the path {:?} into a configuration file", path.display());
        Failure::new(what, "name a home whose path is valid UTF-8")
    })?;
    Ok(toml::Value::from(text).to_string())
}

fn print_text(home: &Home, ring: &RingInfo, project: Uuid) {
    let here = home.path().display();
    output::line(&format!("KMS home created in {here}, with the ring {:?}.", ring.label));
    let (credentials, token) = (home.credentials(), home.admin_token());
    output::line(&format!("The PINs of the ring are in {}, which only you can read.", credentials.display()));
    output::line(&format!(
        "The administrator's token for the REST API is in {}, which only you can read.",
        token.display()
    ));
    output::line(
        "Both files give full access: store them elsewhere before the KMS is used in earnest (`kms doctor`",
    );
    output::line("says how).");
    output::line("");
    output::line("Next steps:");
    output::line(&format!("  kms serve --home {here}"));
    output::line(&format!("  export KMS_PKCS11_CONFIG={}", home.provider_config().display()));
    output::line("  pkcs11-tool --module libkms_pkcs11.so --list-token-slots");
    output::line(&format!(
        "  curl -H \"Authorization: Bearer $(cat {})\" \
         http://127.0.0.1:9200/v1/projects/{project}/regions/eu01/keyrings",
        token.display()
    ));
}

fn print_json(home: &Home, ring: &RingInfo, project: Uuid) {
    let name = |path: PathBuf| path.to_string_lossy().into_owned();
    output::json(&json!({
        "home": name(home.path().to_owned()),
        "config": name(home.config()),
        "pkcs11_config": name(home.provider_config()),
        "credentials": name(home.credentials()),
        "admin_token": name(home.admin_token()),
        "project": project,
        "ring": ring_json(ring),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_configuration_is_toml_with_only_the_socket() {
        let text = PROVIDER_CONFIG.replace("{socket}", &toml_text(Path::new("kms.sock")).unwrap());
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table.len(), 1);
        assert_eq!(table["socket"].as_str(), Some("kms.sock"));
    }
}
