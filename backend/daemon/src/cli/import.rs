//! `kms import`: wraps a key file and uploads it. It is an ordinary client of the REST API, and uses the home only for
//! the address of the service and the token.

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
use uuid::Uuid;
use zeroize::Zeroizing;

use super::arguments::Import;
use super::failure::Failure;
use super::home::Home;
use super::output;
use crate::service;

/// A wrapping algorithm for material of any length.
const WRAPPING: &str = "rsa_3072_oaep_sha256_aes_256_key_wrap";

/// The maximum size of a key file: an RSA-4096 key in PEM has 3.2 KiB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The maximum time for a response, in which an RSA-3072 key pair is generated.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `kms import`.
pub(super) fn run(import: &Import) -> Result<(), Failure> {
    let material = read_material(&import.file)?;
    let service = Service::from_arguments(import)?;
    let (ring, id) = (format!("/keyrings/{}", ring_id(&service, import)?), import.key);
    let key = service.request("GET", &format!("{ring}/keys/{id}"), None)?;
    let algorithm = key["algorithm"].as_str().and_then(Algorithm::named);
    let algorithm =
        algorithm.ok_or_else(|| unexpected("the key has an algorithm that this program does not know"))?;
    let private = algorithm.class() == kms_protocol::ObjectClass::PRIVATE_KEY;
    let material = if private { pkcs8(material)? } else { material };
    let payload = json!({
        "displayName": "kms-import",
        "protection": "software",
        "purpose": if private { "wrap_asymmetric_key" } else { "wrap_symmetric_key" },
        "algorithm": WRAPPING,
    });
    let wrapping = service.request("POST", &format!("{ring}/wrappingkeys"), Some(&payload))?;
    let wrapping_id = wrapping["id"].as_str().ok_or_else(|| unexpected("the new wrapping key has no id"))?;
    let outcome = upload(&service, &ring, import, &wrapping, &material);
    // The wrapping key is deleted whether or not the upload succeeded.
    let deleted = service.request("DELETE", &format!("{ring}/wrappingkeys/{wrapping_id}"), None);
    let version = outcome?;
    if let Err(failure) = deleted {
        output::note(&format!(
            "the wrapping key {wrapping_id} was not deleted; it will expire: {}",
            failure.what
        ));
    }
    if import.output.json {
        output::json(&version);
    } else {
        output::line(&format!("{} is version {} of key {id}", import.file.display(), version["number"]));
    }
    Ok(())
}

/// The id of the ring that the arguments name.
fn ring_id(service: &Service, import: &Import) -> Result<Uuid, Failure> {
    let named = import.ring.as_deref().unwrap_or_default();
    match import.key_ring.or_else(|| service::ring_id(named)) {
        Some(id) => Ok(id),
        None => ring_named(&service.request("GET", "/keyrings", None)?, named),
    }
}

/// The id of the only ring with this name in a list of key rings.
fn ring_named(list: &Value, name: &str) -> Result<Uuid, Failure> {
    let rings =
        list["keyRings"].as_array().ok_or_else(|| unexpected("the response is not a list of key rings"))?;
    let named: Vec<_> = rings.iter().filter(|ring| ring["displayName"] == name).collect();
    match named[..] {
        [ring] => ring["id"]
            .as_str()
            .and_then(|id| Uuid::parse_str(id).ok())
            .ok_or_else(|| unexpected("a key ring has no id")),
        [] => {
            let next = "check --ring and --project; the REST API lists the names and ids of key rings";
            Err(Failure::new(format!("no key ring of the project has the name {name:?}"), next))
        }
        [..] => {
            Err(Failure::new(format!("several key rings have the name {name:?}"), "name the ring by its id"))
        }
    }
}

fn upload(
    service: &Service,
    ring: &str,
    import: &Import,
    wrapping: &Value,
    material: &KeyBytes,
) -> Result<Value, Failure> {
    let public =
        wrapping["publicKey"].as_str().ok_or_else(|| unexpected("the new wrapping key has no public key"))?;
    let wrapped = kms_crypto::wrap_for_import(public, material.as_ref(), &SystemRandom::new());
    let wrapped =
        wrapped.ok_or_else(|| unexpected("the public key of the wrapping key is not an RSA key"))?;
    let payload = json!({ "wrappingKeyId": wrapping["id"], "wrappedKey": STANDARD.encode(wrapped) });
    service.request("POST", &format!("{ring}/keys/{}/import", import.key), Some(&payload))
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
        let what = format!("{} has {length} bytes and is not a key file", path.display());
        return Err(Failure::new(what, "name the file with the key material"));
    }
    Ok(KeyBytes::from(fs::read(path).map_err(|error| cannot(&error))?))
}

/// Decodes a private key in PEM; a key in DER is returned unchanged.
fn pkcs8(material: KeyBytes) -> Result<KeyBytes, Failure> {
    let next = "convert it to PKCS#8: openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW";
    let Ok(text) = std::str::from_utf8(material.as_ref()) else { return Ok(material) };
    if !text.contains("-----BEGIN ") {
        return Ok(material);
    }
    if !text.contains("-----BEGIN PRIVATE KEY-----") {
        return Err(Failure::new(
            "the file is PEM, but contains no PKCS#8 private key without encryption",
            next,
        ));
    }
    let body: Zeroizing<String> = Zeroizing::new(
        text.lines()
            .skip_while(|line| !line.starts_with("-----BEGIN PRIVATE KEY-----"))
            .skip(1)
            .take_while(|line| !line.starts_with("-----"))
            .collect(),
    );
    STANDARD.decode(body.as_bytes()).map(KeyBytes::from).map_err(|_| Failure::new("the PEM is invalid", next))
}

/// A client of the REST API, for one project and region.
struct Service {
    agent: ureq::Agent,
    base: String,
    token: Zeroizing<String>,
}

impl Service {
    fn from_arguments(import: &Import) -> Result<Self, Failure> {
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
            let next = "name a token file with --token-file; `kms token create` creates a token";
            Failure::because(format!("cannot read the token in {}", path.display()), &error, next)
        })?;
        let token = Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned());
        let base = format!("{url}/v1/projects/{}/regions/{}", import.project, import.region);
        Ok(Self { agent: agent(import.ca.as_deref())?, base, token })
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.base);
        let no_response = |error: &ureq::Error| {
            Failure::because(
                format!("no response to {method} {url}"),
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
            .map_err(|error| Failure::because("invalid request", &error, "check --url and --token-file"))?;
        let mut response = self.agent.run(request).map_err(|error| no_response(&error))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|error| no_response(&error))?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let message = value["message"].as_str().unwrap_or("no reason given");
        let next = match status {
            401 | 403 => "use a token of an account with permission; `kms role list` shows the roles",
            404 => "check --project, --ring and --key against the lists of the REST API",
            _ => "correct what the message names, and try again",
        };
        Err(Failure::new(format!("{method} {url} returned {status}: {message}"), next))
    }
}

fn agent(ca: Option<&Path>) -> Result<ureq::Agent, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls =
        TlsConfig::builder().provider(TlsProvider::Rustls).unversioned_rustls_crypto_provider(provider);
    if let Some(path) = ca {
        let next = "name a file with certificates in PEM";
        let text = fs::read(path)
            .map_err(|error| Failure::because(format!("cannot read {}", path.display()), &error, next))?;
        let trusted: Vec<Certificate<'static>> = parse_pem(&text)
            .filter_map(|item| if let Ok(PemItem::Certificate(found)) = item { Some(found) } else { None })
            .collect();
        if trusted.is_empty() {
            return Err(Failure::new(format!("{} contains no certificate", path.display()), next));
        }
        tls = tls.root_certs(RootCerts::Specific(Arc::new(trusted)));
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(RESPONSE_TIMEOUT))
        .tls_config(tls.build());
    Ok(config.build().new_agent())
}

fn unexpected(what: &str) -> Failure {
    Failure::new(what, "check that --url is the address of this service, and its version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_found_by_its_name_if_that_is_unique() {
        let id = Uuid::from_u128(7);
        let list = json!({ "keyRings": [
            { "id": id, "displayName": "payments" },
            { "id": Uuid::from_u128(8), "displayName": "twice" },
            { "id": Uuid::from_u128(9), "displayName": "twice" },
        ] });
        assert_eq!(ring_named(&list, "payments").unwrap(), id);
        let none = ring_named(&list, "other").unwrap_err();
        assert!(none.what.contains("\"other\"") && none.next.contains("--ring"), "{none:?}");
        let several = ring_named(&list, "twice").unwrap_err();
        assert!(several.what.contains("several") && several.next.contains("id"), "{several:?}");
        assert!(ring_named(&Value::Null, "payments").is_err());
    }
}
