//! Reference results: signatures, ciphertexts, digests and MACs by the openssl program, which gets only the public key
//! of a pair. It shares no code with the provider (RustCrypto) or the backend (aws-lc-rs).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program::{self, Ran};

/// A public key, in a temporary folder.
#[derive(Debug)]
pub struct PublicKey {
    folder: TempDir,
}

impl PublicKey {
    /// From `SubjectPublicKeyInfo`, DER.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn new(info: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("key.der"), info).expect("a file can be written");
        Self { folder }
    }

    /// Whether a signature over a digest is valid. `options` are `-pkeyopt` values.
    ///
    /// # Panics
    /// When openssl fails otherwise.
    pub fn verifies(&self, options: &[&str], digest: &[u8], signature: &[u8]) -> bool {
        let (data, signature) = (self.file("data", digest), self.file("signature", signature));
        let mut command = self.pkeyutl("-verify", options);
        command.arg("-in").arg(data).arg("-sigfile").arg(signature);
        let ran = program::run(&mut command);
        ran.status.success() && ran.text().contains("Signature Verified Successfully")
    }

    /// Whether a signature over a message is valid, for schemes that hash the message themselves, such as Ed25519.
    ///
    /// # Panics
    /// When openssl fails otherwise.
    pub fn verifies_message(&self, message: &[u8], signature: &[u8]) -> bool {
        let (data, signature) = (self.file("data", message), self.file("signature", signature));
        let mut command = self.pkeyutl("-verify", &[]);
        command.arg("-rawin").arg("-in").arg(data).arg("-sigfile").arg(signature);
        let ran = program::run(&mut command);
        ran.status.success() && ran.text().contains("Signature Verified Successfully")
    }

    /// The data that a PKCS #1 signature contains, recovered with the public key, because openssl verifies only data
    /// that may be a digest.
    ///
    /// # Panics
    /// When the signature was not made with this key.
    pub fn signed(&self, signature: &[u8]) -> Vec<u8> {
        let signature = self.file("signature", signature);
        let mut command = self.pkeyutl("-verifyrecover", &["rsa_padding_mode:pkcs1"]);
        output_of(program::run(command.arg("-in").arg(signature)))
    }

    /// Encrypts.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn encrypt(&self, options: &[&str], data: &[u8]) -> Vec<u8> {
        let data = self.file("data", data);
        let mut command = self.pkeyutl("-encrypt", options);
        output_of(program::run(command.arg("-in").arg(data)))
    }

    /// openssl's description of the key: its type, size and curve.
    ///
    /// # Panics
    /// When openssl cannot read it.
    pub fn describe(&self) -> String {
        let mut command = openssl();
        command.args(["pkey", "-pubin", "-inform", "DER", "-noout", "-text", "-in"]);
        program::run(command.arg(self.folder.path().join("key.der"))).ok()
    }

    fn pkeyutl(&self, action: &str, options: &[&str]) -> Command {
        let mut command = openssl();
        command.args(["pkeyutl", action, "-pubin", "-keyform", "DER", "-inkey"]);
        command.arg(self.folder.path().join("key.der"));
        for option in options {
            command.args(["-pkeyopt", option]);
        }
        command
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        write(self.folder.path(), name, bytes)
    }
}

/// A key pair that the openssl program generated, in a temporary folder.
#[derive(Debug)]
pub struct PrivateKey {
    folder: TempDir,
}

impl PrivateKey {
    /// Generates a pair; `arguments` are those of `openssl genpkey`.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn generate(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = openssl();
        command.arg("genpkey").args(arguments).arg("-out").arg(folder.path().join("key.pem"));
        program::run(&mut command).ok();
        Self { folder }
    }

    /// The public key as `SubjectPublicKeyInfo`, DER.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn public_key_info(&self) -> Vec<u8> {
        let mut command = openssl();
        command.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(self.folder.path().join("key.pem"));
        output_of(program::run(&mut command))
    }

    /// The private key in PKCS #8, DER.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn private_key_info(&self) -> Vec<u8> {
        let mut command = openssl();
        command.args(["pkey", "-outform", "DER", "-in"]).arg(self.folder.path().join("key.pem"));
        output_of(program::run(&mut command))
    }

    /// Signs with these arguments of `openssl pkeyutl`: a digest, or with `-rawin` a message.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn sign(&self, arguments: &[&str], data: &[u8]) -> Vec<u8> {
        let data = write(self.folder.path(), "data", data);
        let mut command = openssl();
        command.args(["pkeyutl", "-sign", "-inkey"]).arg(self.folder.path().join("key.pem"));
        output_of(program::run(command.args(arguments).arg("-in").arg(data)))
    }

    /// The secret agreed on with another public key.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn agree(&self, other: &[u8]) -> Vec<u8> {
        let other = write(self.folder.path(), "other.der", other);
        let mut command = openssl();
        command.args(["pkeyutl", "-derive", "-inkey"]).arg(self.folder.path().join("key.pem"));
        output_of(program::run(command.args(["-peerform", "DER", "-peerkey"]).arg(other)))
    }
}

/// A digest; `name` is openssl's name of the hash.
///
/// # Panics
/// When openssl fails.
pub fn digest(name: &str, data: &[u8]) -> Vec<u8> {
    let mut command = openssl();
    command.args(["dgst", "-binary", &format!("-{name}")]);
    output_of(program::run_with(&mut command, data, program::TIMEOUT))
}

/// The first `bytes` of an extendable-output function; `name` is openssl's name of it.
///
/// # Panics
/// When openssl fails.
pub fn xof(name: &str, bytes: usize, data: &[u8]) -> Vec<u8> {
    let mut command = openssl();
    command.args(["dgst", "-binary", &format!("-{name}"), "-xoflen", &bytes.to_string()]);
    output_of(program::run_with(&mut command, data, program::TIMEOUT))
}

/// An HMAC.
///
/// # Panics
/// When openssl fails.
pub fn hmac(name: &str, key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut command = openssl();
    let key = format!("hexkey:{}", hex(key));
    command.args(["dgst", "-binary", &format!("-{name}"), "-mac", "HMAC", "-macopt", &key]);
    output_of(program::run_with(&mut command, data, program::TIMEOUT))
}

/// Encrypts with AES in a mode without authentication; `cipher` is a name such as `aes-256-cbc`.
///
/// # Panics
/// When openssl fails.
pub fn encrypt(cipher: &str, options: &[&str], key: &[u8], iv: &[u8], data: &[u8]) -> Vec<u8> {
    let mut command = openssl();
    command.args(["enc", "-e", &format!("-{cipher}"), "-K", &hex(key)]).args(options);
    if !iv.is_empty() {
        command.args(["-iv", &hex(iv)]);
    }
    output_of(program::run_with(&mut command, data, program::TIMEOUT))
}

/// Encrypts with AES-GCM (96-bit IV, 128-bit tag) by aws-lc-rs, because the openssl program has no AES-GCM.
///
/// # Panics
/// When key, IV or data have a wrong length.
pub fn encrypt_gcm(key: &[u8], iv: &[u8], aad: &[u8], data: &[u8]) -> Vec<u8> {
    use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        _ => &AES_256_GCM,
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).expect("an AES key"));
    let nonce = Nonce::try_assume_unique_for_key(iv).expect("an IV of 12 bytes");
    let mut sealed = data.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).expect("data of a valid length");
    sealed
}

/// Converts an ECDSA signature from PKCS #11's format, both numbers at full length, to the DER that openssl takes.
pub fn ecdsa_der(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    let body = [integer(r), integer(s)].concat();
    [vec![0x30], length(body.len()), body].concat()
}

/// The openssl program without the configuration of the system or the user.
pub fn openssl() -> Command {
    let mut command = Command::new("openssl");
    command.env("OPENSSL_CONF", "/dev/null");
    command
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}

fn integer(big_endian: &[u8]) -> Vec<u8> {
    let start = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len() - 1);
    let mut digits = big_endian[start..].to_vec();
    if digits[0] & 0x80 != 0 {
        digits.insert(0, 0);
    }
    [vec![0x02], length(digits.len()), digits].concat()
}

fn length(bytes: usize) -> Vec<u8> {
    match u8::try_from(bytes).expect("signatures are shorter than 256 bytes") {
        short @ 0..=127 => vec![short],
        long => vec![0x81, long],
    }
}

fn output_of(ran: Ran) -> Vec<u8> {
    assert!(ran.status.success(), "{ran}");
    ran.output
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file can be written");
    path
}
