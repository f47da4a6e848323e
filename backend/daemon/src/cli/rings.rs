//! `kms ring` and `kms key`.

use std::ffi::OsString;

use kms_protocol::RingPolicy;
use serde_json::{Value, json};

use super::arguments::{KeyList, KeyRotate, RingCreate, RingList};
use super::failure::Failure;
use super::home::Home;
use super::output;
use super::pins::{CredentialsEntry, RingPins};
use crate::service::{Backend, KeyInfo, NewRing, RingInfo};

/// `kms ring create`.
pub(super) fn create(arguments: RingCreate, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let pins = RingPins::from_arguments(arguments.pins)?;
    let entry = CredentialsEntry::append(&home.credentials(), &pins.entry(&arguments.name))?;
    let ring = backend.create_ring(NewRing {
        name: arguments.name,
        policy: arguments.policy.into(),
        user_pin: pins.user,
        so_pin: pins.so,
    })?;
    entry.commit();
    let credentials = home.credentials();
    if arguments.output.json {
        let mut json = ring_json(&ring);
        json["credentials"] = json!(credentials.to_string_lossy());
        output::json(&json);
    } else {
        output::line(&format!(
            "ring {:?} created: slot {}, policy {}",
            ring.label,
            ring.slot,
            policy(ring.policy)
        ));
        output::line(&format!("the PINs are in {}", credentials.display()));
    }
    Ok(())
}

/// `kms ring list`.
pub(super) fn list(arguments: RingList, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let rings = Backend::open(&home.open(argv)?)?.rings()?;
    if arguments.output.json {
        output::json(&rings.iter().map(ring_json).collect());
        return Ok(());
    }
    let rows: Vec<_> = rings
        .iter()
        .map(|ring| {
            let (slot, keys) = (ring.slot.to_string(), ring.keys.to_string());
            let policy = policy(ring.policy).to_owned();
            [ring.label.clone(), slot, policy, keys, ring.serial.clone(), output::time(ring.created)]
        })
        .collect();
    output::table(["NAME", "SLOT", "POLICY", "KEYS", "SERIAL", "CREATED"], &rows, "no rings");
    Ok(())
}

/// `kms key list`.
pub(super) fn keys(arguments: KeyList, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let keys = Backend::open(&home.open(argv)?)?.keys(arguments.ring.as_deref())?;
    if arguments.output.json {
        output::json(&keys.iter().map(key_json).collect());
        return Ok(());
    }
    let rows: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let (versions, created) = (key.versions.to_string(), output::time(key.created));
            [key.ring, key.label, key.algorithm, versions, key.state, created, key.id.to_string()]
        })
        .collect();
    output::table(["RING", "LABEL", "ALGORITHM", "VERSIONS", "STATE", "CREATED", "ID"], &rows, "no keys");
    Ok(())
}

/// `kms key rotate`.
pub(super) fn rotate(arguments: KeyRotate, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let ring = backend.ring_name(&arguments.ring)?;
    let version = backend.rotate_key(&ring, &arguments.key)?;
    if arguments.output.json {
        output::json(&json!({ "ring": ring, "key": arguments.key, "version": version }));
    } else {
        let previous = version.saturating_sub(1);
        output::line(&format!("key {:?} has version {version} now", arguments.key));
        output::line(&format!("version {previous} remains usable as LABEL#{previous} and by its own id"));
    }
    Ok(())
}

/// The name of a policy.
pub(super) fn policy(policy: RingPolicy) -> &'static str {
    match policy {
        RingPolicy::Strict => "strict",
        RingPolicy::Compat => "compat",
    }
}

/// A ring as JSON.
pub(super) fn ring_json(ring: &RingInfo) -> Value {
    json!({
        "id": ring.id.to_string(),
        "name": ring.label,
        "slot": ring.slot,
        "serial": ring.serial,
        "policy": policy(ring.policy),
        "keys": ring.keys,
        "created": output::time(ring.created),
    })
}

fn key_json(key: &KeyInfo) -> Value {
    json!({
        "id": key.id.to_string(),
        "ring": key.ring,
        "label": key.label,
        "algorithm": key.algorithm,
        "versions": key.versions,
        "state": key.state,
        "created": output::time(key.created),
    })
}
