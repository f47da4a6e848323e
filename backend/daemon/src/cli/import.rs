//! `kms import`: wraps a key file for the user and uploads it. A client of the REST API like any other; the home is asked
//! only where the service is and for a token.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kms_core::api::Algorithm;
use kms_core::object::KeyBytes;
use serde_json::{Value, json};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use zeroize::Zeroizing;

use super::arguments::Import;
use super::failure::Failure;
use super::home::Home;
use super::output;

/// The wrapping algorithm that takes material of every length.
const WRAPPING: &str = "rsa_3072_oaep_sha256_aes_256_key_wrap";

/// The longest key file: an RSA-4096 key in PEM has 3.2 KiB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// How long an answer may take: an RSA-3072 pair is made meanwhile.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// Uploads.
pub(super) fn run(import: &Import) -> Result<(), Failure> {
    let material = read_material(&import.file)?;
    let service = Service::reach(import)?;
    let (ring, id) = (format!("/keyrings/{}", import.key_ring), import.key);
    let key = service.ask("GET", &format!("{ring}/keys/{id}"), None)?;
    let algorithm = key["algorithm"].as_str().and_then(Algorithm::named);
    let algorithm =
        algorithm.ok_or_else(|| odd("the key has an algorithm that this program does not know"))?;
    let private = algorithm.class() == kms_protocol::ObjectClass::PRIVATE_KEY;
    let material = if private { pkcs8(material)? } else { material };
    let ask = json!({
        "displayName": "kms-import",
        "protection": "software",
        "purpose": if private { "wrap_asymmetric_key" } else { "wrap_symmetric_key" },
        "algorithm": WRAPPING,
    });
    let wrapping = service.ask("POST", &format!("{ring}/wrappingkeys"), Some(&ask))?;
    let wrapping_id = wrapping["id"].as_str().ok_or_else(|| odd("the new wrapping key has no id"))?;
    let outcome = upload(&service, &ring, import, &wrapping, &material);
    // Whatever came of it, the wrapping key has served.
    let deleted = service.ask("DELETE", &format!("{ring}/wrappingkeys/{wrapping_id}"), None);
    let version = outcome?;
    if let Err(failure) = deleted {
        output::note(&format!(
            "the wrapping key {wrapping_id} was not deleted, and expires: {}",
            failure.what
        ));
    }
    if import.output.json {
        output::json(&version);
    } else {
        output::line(&format!("{} is version {} of key {id}.", import.file.display(), version["number"]));
    }
    Ok(())
}

fn upload(
    service: &Service,
    ring: &str,
    import: &Import,
    wrapping: &Value,
    material: &KeyBytes,
) -> Result<Value, Failure> {
    let public =
        wrapping["publicKey"].as_str().ok_or_else(|| odd("the new wrapping key has no public key"))?;
    let wrapped = kms_crypto::wrap_for_import(public, material.as_ref(), &SystemRandom::new());
    let wrapped = wrapped.ok_or_else(|| odd("the wrapping key's public half is no RSA key"))?;
    let ask = json!({ "wrappingKeyId": wrapping["id"], "wrappedKey": STANDARD.encode(wrapped) });
    service.ask("POST", &format!("{ring}/keys/{}/import", import.key), Some(&ask))
}

fn read_material(path: &Path) -> Result<KeyBytes, Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::because(
            format!("cannot read {}", path.display()),
            error,
            "name the file with the key material",
        )
    };
    let length = fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if length == 0 || length > FILE_BYTES_MAX {
        let what = format!("{} has {length} bytes, which is no key", path.display());
        return Err(Failure::new(what, "name the file with the key material"));
    }
    Ok(KeyBytes::from(fs::read(path).map_err(|error| cannot(&error))?))
}

/// A private key's DER, out of PEM or as it is.
fn pkcs8(material: KeyBytes) -> Result<KeyBytes, Failure> {
    let next = "make PKCS#8 of it: openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW";
    let Ok(text) = std::str::from_utf8(material.as_ref()) else { return Ok(material) };
    if !text.contains("-----BEGIN ") {
        return Ok(material);
    }
    if !text.contains("-----BEGIN PRIVATE KEY-----") {
        return Err(Failure::new("the file is PEM, but holds no PKCS#8 private key in the clear", next));
    }
    let body: Zeroizing<String> = Zeroizing::new(
        text.lines()
            .skip_while(|line| !line.starts_with("-----BEGIN PRIVATE KEY-----"))
            .skip(1)
            .take_while(|line| !line.starts_with("-----"))
            .collect(),
    );
    STANDARD.decode(body.as_bytes()).map(KeyBytes::from).map_err(|_| Failure::new("the PEM is damaged", next))
}

/// The service, as one of its clients sees it.
struct Service {
    agent: ureq::Agent,
    base: String,
    token: Zeroizing<String>,
}

impl Service {
    fn reach(import: &Import) -> Result<Self, Failure> {
        let home = || Home::of(super::arguments::Home { folder: import.home.folder.clone() });
        let url = match &import.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => {
                let config = home()?.read_config()?;
                let rest = config.rest();
                let scheme = if rest.tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", rest.listen)
            }
        };
        let path = import.token_file.clone().map_or_else(|| Ok(home()?.admin_token()), Ok::<_, Failure>)?;
        let text = fs::read_to_string(&path).map(Zeroizing::new).map_err(|error| {
            let next = "name a file with --token-file; `kms token create` makes a token";
            Failure::because(format!("cannot read the token in {}", path.display()), &error, next)
        })?;
        let token = Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned());
        let base = format!("{url}/v1/projects/{}/regions/{}", import.project, import.region);
        Ok(Self { agent: agent(import.ca.as_deref())?, base, token })
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.base);
        let away = |error: &ureq::Error| {
            Failure::because(
                format!("{method} {url} got no answer"),
                error,
                "check --url, and that `kms serve` runs there",
            )
        };
        let text = body.map_or_else(String::new, Value::to_string);
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("authorization", format!("Bearer {}", *self.token))
            .header("content-type", "application/json")
            .body(text)
            .map_err(|error| {
                Failure::because("this is no request", &error, "check --url and --token-file")
            })?;
        let mut response = self.agent.run(request).map_err(|error| away(&error))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|error| away(&error))?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let said = value["message"].as_str().unwrap_or("it gave no reason");
        let next = match status {
            401 | 403 => "use a token of an account that may; `kms role list` shows who may what",
            404 => "check --project, --key-ring and --key: they are ids, which the REST API lists",
            _ => "change what the message names, and try again",
        };
        Err(Failure::new(format!("{method} {url} was answered with {status}: {said}"), next))
    }
}

fn agent(ca: Option<&Path>) -> Result<ureq::Agent, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls =
        TlsConfig::builder().provider(TlsProvider::Rustls).unversioned_rustls_crypto_provider(provider);
    if let Some(path) = ca {
        let next = "name a file of certificates in PEM";
        let text = fs::read(path)
            .map_err(|error| Failure::because(format!("cannot read {}", path.display()), &error, next))?;
        let trusted: Vec<Certificate<'static>> = parse_pem(&text)
            .filter_map(|item| if let Ok(PemItem::Certificate(found)) = item { Some(found) } else { None })
            .collect();
        if trusted.is_empty() {
            return Err(Failure::new(format!("{} holds no certificate", path.display()), next));
        }
        tls = tls.root_certs(RootCerts::Specific(Arc::new(trusted)));
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(ANSWERED_WITHIN))
        .tls_config(tls.build());
    Ok(config.build().new_agent())
}

fn odd(what: &str) -> Failure {
    Failure::new(what, "is --url really this service, of this version?")
}
