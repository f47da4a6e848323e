//! `kms init`: a home made whole, or not at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kms_core::api::Role;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::arguments::Init;
use super::environment::{self, Setting};
use super::failure::Failure;
use super::home::{HalfMade, Home, write_new};
use super::output;
use super::pins::{self, Chosen};
use super::rings::ring_json;
use super::token;
use crate::config::{Config, NewConfig};
use crate::service::{Backend, NewRing, RingInfo, Scope};

/// What `pkcs11.toml` says. The socket is named relative to the file, so that a container's home works from outside.
const PROVIDER_CONFIG: &str = "\
# For libkms_pkcs11.so: how applications reach this KMS. Name this file in KMS_PKCS11_CONFIG, or copy it to
# /etc/kms/pkcs11.toml with the socket's whole path. It holds no secret.

# The daemon's socket; a relative path starts at this file's folder.
socket = {socket}
# How long a call may wait for the backend, in milliseconds.
# timeout_ms = 10000
";

/// The first project's name.
const FIRST_PROJECT: &str = "default";

/// The first service account: it owns everything.
const FIRST_OWNER: &str = "admin@default.sa.kms.local";

/// Where the master key will be.
enum Hsm {
    /// In a SoftHSM token of the home's own.
    Soft { library: PathBuf },
    /// In a token that is there already.
    Given { module: PathBuf, token: String, pin_file: PathBuf },
}

/// Makes a home.
pub(super) fn run(arguments: Init, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let hsm = Hsm::of(arguments.hsm_module, arguments.hsm_token, arguments.hsm_pin_file)?;
    environment::require(hsm.environment(&home), typed)?;
    let pins = Chosen::from_arguments(arguments.pins)?;
    let ring = NewRing {
        name: arguments.ring,
        policy: arguments.policy.into(),
        user_pin: pins.user.clone(),
        so_pin: pins.so.clone(),
    };
    ring.check()?;
    let half = HalfMade::begin(&home)?;
    let made = make(&home, &hsm, &pins, ring, arguments.project)?;
    half.keep()?;
    if arguments.output.json {
        tell_script(&home, &made, arguments.project);
    } else {
        tell(&home, &made, arguments.project);
    }
    Ok(())
}

/// Everything in a home, in the order in which one part needs another.
fn make(home: &Home, hsm: &Hsm, pins: &Chosen, ring: NewRing, project: Uuid) -> Result<RingInfo, Failure> {
    write_new(&home.config(), 0o600, &hsm.config(home)?)?;
    let config = home.read_new_config()?;
    let socket = provider_socket(home, &config);
    write_new(&home.provider_config(), 0o644, &PROVIDER_CONFIG.replace("{socket}", &toml_text(&socket)?))?;
    let heading = pins::heading(home.path());
    write_new(&home.credentials(), 0o600, &[heading.as_str(), &pins.entry(&ring.name)].concat())?;
    let backend = Backend::create(&config)?;
    backend.add_project(project, FIRST_PROJECT)?;
    backend.add_service_account(FIRST_OWNER, Some((Role::Owner, Scope::default())))?;
    let token = backend.create_token(FIRST_OWNER, "init", None)?;
    write_new(&home.admin_token(), 0o600, &Zeroizing::new(format!("{}\n", *token.text)))?;
    Ok(backend.create_ring(ring)?)
}

/// The socket as `pkcs11.toml` names it: relative to the home where it is in the home.
fn provider_socket(home: &Home, config: &Config) -> PathBuf {
    let socket = config.socket_path();
    socket.strip_prefix(home.path()).map(Path::to_owned).unwrap_or(socket)
}

impl Hsm {
    fn of(
        module: Option<PathBuf>,
        token: Option<String>,
        pin_file: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let (Some(module), Some(token), Some(pin_file)) = (module, token, pin_file) else {
            return Ok(Self::Soft { library: token::library()? });
        };
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| {
                Failure::because(
                    format!("{:?} is no file's name", path.display()),
                    &error,
                    "name a file that is there",
                )
            })
        };
        Ok(Self::Given { module: absolute(module)?, token, pin_file: absolute(pin_file)? })
    }

    fn environment(&self, home: &Home) -> Vec<Setting> {
        match self {
            Self::Soft { .. } => token::environment(home),
            Self::Given { .. } => vec![token::quiet_openssl()],
        }
    }

    /// The text of `kms.toml`; a token of our own is made on the way.
    fn config(&self, home: &Home) -> Result<String, Failure> {
        match self {
            Self::Soft { library } => {
                let token = token::make(home, library)?;
                let (pin_file, conf) = (Path::new("hsm.pin"), Some(Path::new("softhsm2.conf")));
                Ok(NewConfig { module: library, token: &token, pin_file, conf }.text())
            }
            Self::Given { module, token, pin_file } => {
                // A SoftHSM that is there already is found where it is found now.
                let conf = environment::softhsm_config();
                Ok(NewConfig { module, token, pin_file, conf: conf.as_deref() }.text())
            }
        }
    }
}

fn toml_text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| {
        let what = format!("a configuration cannot name {:?}", path.display());
        Failure::new(what, "choose a home whose name is UTF-8")
    })?;
    Ok(toml::Value::from(text).to_string())
}

fn tell(home: &Home, ring: &RingInfo, project: Uuid) {
    let here = home.path().display();
    output::line(&format!("A KMS home is made in {here}, with the ring {:?}.", ring.label));
    let (credentials, token) = (home.credentials(), home.admin_token());
    output::line(&format!("Its PINs are in {}, for you alone.", credentials.display()));
    output::line(&format!("The owner's token for the REST API is in {}, for you alone.", token.display()));
    output::line("");
    output::line("Next:");
    output::line(&format!("  kms serve --home {here}"));
    output::line(&format!("  export KMS_PKCS11_CONFIG={}", home.provider_config().display()));
    output::line("  pkcs11-tool --module libkms_pkcs11.so --list-token-slots");
    output::line(&format!(
        "  curl -H \"Authorization: Bearer $(cat {})\" \
         http://127.0.0.1:9200/v1/projects/{project}/regions/eu01/keyrings",
        token.display()
    ));
}

fn tell_script(home: &Home, ring: &RingInfo, project: Uuid) {
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
    fn the_providers_configuration_is_toml_with_the_socket_alone() {
        let text = PROVIDER_CONFIG.replace("{socket}", &toml_text(Path::new("kms.sock")).unwrap());
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table.len(), 1);
        assert_eq!(table["socket"].as_str(), Some("kms.sock"));
    }
}
