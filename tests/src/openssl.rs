//! A second opinion: signatures, ciphertexts, digests and MACs as the openssl program sees them, with the public key
//! alone where there is one. It shares no code with the provider (RustCrypto) or the backend (aws-lc-rs).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program::{self, Ran};

/// A folder with a public key.
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

    /// Whether a signature over a digest is right. `options` are `-pkeyopt` values.
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

    /// Whether a signature over a message is right, by keys that hash for themselves, such as Ed25519.
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

    /// What a PKCS #1 signature signs, read with the public key: openssl verifies only what may be a digest.
    ///
    /// # Panics
    /// When it is no signature of this key.
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

    /// What openssl says of the key: its kind, size and curve.
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

/// A pair that the openssl program made and keeps.
#[derive(Debug)]
pub struct PrivateKey {
    folder: TempDir,
}

impl PrivateKey {
    /// A new one; `words` as `openssl genpkey` takes them.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn generate(words: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = openssl();
        command.arg("genpkey").args(words).arg("-out").arg(folder.path().join("key.pem"));
        program::run(&mut command).ok();
        Self { folder }
    }

    /// Its public half as `SubjectPublicKeyInfo`, DER.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn public_key_info(&self) -> Vec<u8> {
        let mut command = openssl();
        command.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(self.folder.path().join("key.pem"));
        output_of(program::run(&mut command))
    }

    /// The private key itself in PKCS #8, DER.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn private_key_info(&self) -> Vec<u8> {
        let mut command = openssl();
        command.args(["pkey", "-outform", "DER", "-in"]).arg(self.folder.path().join("key.pem"));
        output_of(program::run(&mut command))
    }

    /// Signs with what `openssl pkeyutl` is told: a digest, or a message after `-rawin`.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn sign(&self, words: &[&str], data: &[u8]) -> Vec<u8> {
        let data = write(self.folder.path(), "data", data);
        let mut command = openssl();
        command.args(["pkeyutl", "-sign", "-inkey"]).arg(self.folder.path().join("key.pem"));
        output_of(program::run(command.args(words).arg("-in").arg(data)))
    }

    /// The secret agreed on with another's public half.
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

/// A digest; `name` as openssl calls it.
///
/// # Panics
/// When openssl fails.
pub fn digest(name: &str, data: &[u8]) -> Vec<u8> {
    let mut command = openssl();
    command.args(["dgst", "-binary", &format!("-{name}")]);
    output_of(program::run_with(&mut command, data, program::PATIENCE))
}

/// The front of a digest without end; `name` as openssl calls it.
///
/// # Panics
/// When openssl fails.
pub fn xof(name: &str, bytes: usize, data: &[u8]) -> Vec<u8> {
    let mut command = openssl();
    command.args(["dgst", "-binary", &format!("-{name}"), "-xoflen", &bytes.to_string()]);
    output_of(program::run_with(&mut command, data, program::PATIENCE))
}

/// An HMAC.
///
/// # Panics
/// When openssl fails.
pub fn hmac(name: &str, key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut command = openssl();
    let key = format!("hexkey:{}", hex(key));
    command.args(["dgst", "-binary", &format!("-{name}"), "-mac", "HMAC", "-macopt", &key]);
    output_of(program::run_with(&mut command, data, program::PATIENCE))
}

/// AES in a mode without authentication; `cipher` as in `aes-256-cbc`.
///
/// # Panics
/// When openssl fails.
pub fn encrypt(cipher: &str, options: &[&str], key: &[u8], iv: &[u8], data: &[u8]) -> Vec<u8> {
    let mut command = openssl();
    command.args(["enc", "-e", &format!("-{cipher}"), "-K", &hex(key)]).args(options);
    if !iv.is_empty() {
        command.args(["-iv", &hex(iv)]);
    }
    output_of(program::run_with(&mut command, data, program::PATIENCE))
}

/// AES-GCM by another library than the backend's, for 96-bit IVs and 128-bit tags: openssl's program has none.
///
/// # Panics
/// When key, IV or data are of a wrong length.
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
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).expect("data of a legal length");
    sealed
}

/// PKCS #11's form of an ECDSA signature, both numbers at full length, as the DER that openssl takes.
pub fn ecdsa_der(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    let body = [integer(r), integer(s)].concat();
    [vec![0x30], length(body.len()), body].concat()
}

/// The openssl program without anybody's configuration.
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
