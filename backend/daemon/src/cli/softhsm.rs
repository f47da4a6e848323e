//! A new SoftHSM token for a new home: its folder, its configuration, its PINs. The crate `kms_hsm` does the rest.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use kms_protocol::Secret;

use super::environment::Setting;
use super::failure::Failure;
use super::home::{Home, write_new};
use super::pins;

/// SoftHSM's configuration, with a placeholder for the folder of the tokens. The container image uses the same file.
const SOFTHSM_CONFIG: &str = include_str!("../../../../softhsm-config/softhsm2.conf");

/// The paths of SoftHSM's library in distributions.
const LIBRARIES: [&str; 7] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// SoftHSM's library on this machine.
pub(super) fn library() -> Result<PathBuf, Failure> {
    let found = LIBRARIES.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::new(
            "SoftHSM is not installed",
            "install it (`apt-get install softhsm2`), or use another HSM with --hsm-module, --hsm-token and --hsm-pin-file",
        )
    })
}

/// The environment variables that SoftHSM needs when it is loaded.
pub(super) fn environment(home: &Home) -> Vec<Setting> {
    vec![("SOFTHSM2_CONF", home.softhsm_config().into_os_string()), no_openssl_config()]
}

/// Prevents the OpenSSL in an HSM's library from reading the system's configuration, which may name an engine that
/// loads a PKCS#11 module: libkms_pkcs11.so.
pub(super) fn no_openssl_config() -> Setting {
    ("OPENSSL_CONF", OsString::from("/dev/null"))
}

/// Creates a token with random PINs in a home that is being created, and returns the label of the token.
pub(super) fn create_token(home: &Home, library: &Path) -> Result<String, Failure> {
    let tokens = home.tokens();
    DirBuilder::new().mode(0o700).create(&tokens).map_err(|error| {
        Failure::because(
            format!("cannot create {}", tokens.display()),
            &error,
            "check the disk, then try again",
        )
    })?;
    let path = tokens.to_str().filter(|path| !path.contains(char::is_control)).ok_or_else(|| {
        let what = format!("cannot write the path {:?} into SoftHSM's configuration", tokens.display());
        Failure::new(what, "name a home whose path is UTF-8 without control characters")
    })?;
    write_new(&home.softhsm_config(), 0o600, &SOFTHSM_CONFIG.replace("{tokens}", path))?;
    let label = format!("kms-{}", text(&pins::random()?));
    let (pin, so_pin) = (pins::random()?, pins::random()?);
    write_new(&home.hsm_pin(), 0o600, &text(&pin))?;
    write_new(&home.hsm_so_pin(), 0o600, &text(&so_pin))?;
    initialise(library, &label, &pin, &so_pin).map_err(|error| {
        let what = format!("SoftHSM ({}) cannot create a token in {}", library.display(), tokens.display());
        Failure::because(
            what,
            &error,
            "check whether `softhsm2-util --init-token --free` works with this folder",
        )
    })?;
    Ok(label)
}

fn initialise(library: &Path, label: &str, pin: &Secret, so_pin: &Secret) -> Result<(), Error> {
    let (pin, so_pin) = (AuthPin::from(text(pin)), AuthPin::from(text(so_pin)));
    let module = Pkcs11::new(library)?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let free = slot_where(&module, |info| !info.token_initialized())?;
    module.init_token(free, &so_pin, label)?;
    // SoftHSM assigns a new slot number to an initialised token.
    let initialised = slot_where(&module, |info| info.label() == label)?;
    let session = module.open_rw_session(initialised)?;
    session.login(UserType::So, Some(&so_pin))?;
    session.init_pin(&pin)?;
    session.close()?;
    module.finalize()
}

fn slot_where(module: &Pkcs11, matches: impl Fn(&cryptoki::slot::TokenInfo) -> bool) -> Result<Slot, Error> {
    for slot in module.get_slots_with_token()? {
        if matches(&module.get_token_info(slot)?) {
            return Ok(slot);
        }
    }
    Err(Error::InvalidValue)
}

/// A random PIN, which consists of letters and digits, as text.
fn text(pin: &Secret) -> String {
    String::from_utf8_lossy(pin).into_owned()
}
