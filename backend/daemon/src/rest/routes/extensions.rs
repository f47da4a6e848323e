//! What we have beyond the public API, on paths of its own: clients that do not know of it never meet it.

use kms_core::api::{Operation, Problem};

use super::super::audit_and_export;
use super::super::extract::Asked;
use super::super::payloads::{
    DecryptPayload, EditKeyPayload, EditKeyRingPayload, EncryptPayload, MakeDataKeyPayload,
};
use super::{Handler, Parameter, Route, Value, Verb, at, key};

/// Of which time usage is told.
const SPAN: &[Parameter] = &[
    Parameter { name: "from", what: "From this hour on", kind: Value::Time, required: true },
    Parameter {
        name: "to",
        what: "Before this time, at most 366 days later",
        kind: Value::Time,
        required: true,
    },
];

/// Changes, uses of the current version, what is told of a project.
pub(super) static ROUTES: [Route; 9] = [
    Route::new(
        "EditKeyRing",
        (Verb::Patch, at!("/keyrings/{keyRingId}")),
        "Changes a key ring's name or description",
        |asked| {
            let ask = asked.payload::<EditKeyRingPayload>()?.try_into()?;
            Ok(Operation::EditKeyRing { ring: asked.place.ring()?, ask })
        },
    )
    .takes("EditKeyRingPayload")
    .gives(200, "keyRing")
    .refuses(&[404])
    .ours(),
    Route::new(
        "EditKey",
        (Verb::Patch, key!("")),
        "Changes a key's name, description, tags or rotation period",
        |asked| {
            let ask = asked.payload::<EditKeyPayload>()?.try_into()?;
            Ok(Operation::EditKey { key: asked.place.key()?, ask })
        },
    )
    .takes("EditKeyPayload")
    .gives(200, "key")
    .refuses(&[404, 409])
    .ours(),
    Route::new(
        "EncryptCurrent",
        (Verb::Post, key!("/encrypt")),
        "Encrypts under the current version: the highest that is active",
        |asked| {
            let (data, aad) = asked.payload::<EncryptPayload<'_>>()?.opened()?;
            Ok(Operation::EncryptCurrent { key: asked.place.key()?, data, aad })
        },
    )
    .takes("EncryptPayload")
    .gives(200, "versionedData")
    .refuses(&[404, 409, 503])
    .ours(),
    Route::new(
        "DecryptAny",
        (Verb::Post, key!("/decrypt")),
        "Decrypts under the version that the ciphertext names",
        |asked| {
            let (data, aad) = asked.payload::<DecryptPayload<'_>>()?.opened()?;
            Ok(Operation::DecryptAny { key: asked.place.key()?, data, aad })
        },
    )
    .takes("DecryptPayload")
    .gives(200, "versionedData")
    .refuses(&[404, 409, 503])
    .ours(),
    Route::new(
        "ReEncrypt",
        (Verb::Post, key!("/reencrypt")),
        "Decrypts, and encrypts under the current version, without showing the plaintext",
        re_encrypt,
    )
    .takes("DecryptPayload")
    .gives(200, "versionedData")
    .refuses(&[404, 409, 503])
    .ours(),
    Route::new(
        "MakeDataKey",
        (Verb::Post, key!("/datakeys")),
        "Makes a data key, wrapped under the current version",
        |asked| {
            let ask = asked.payload::<MakeDataKeyPayload<'_>>()?.try_into()?;
            Ok(Operation::MakeDataKey { key: asked.place.key()?, ask })
        },
    )
    .takes("MakeDataKeyPayload")
    .gives(200, "dataKey")
    .refuses(&[404, 409, 503])
    .ours(),
    Route::new("Amounts", (Verb::Get, at!("/amounts")), "Counts what a project has", |asked| {
        Ok(Operation::Amounts { project: asked.place.project })
    })
    .gives(200, "amounts")
    .ours(),
    Route::other(
        "Usage",
        (Verb::Get, at!("/usage")),
        "Tells how many key versions were available, hour by hour",
        Handler::Report(audit_and_export::usage_of),
    )
    .gives(200, "usage")
    .query(SPAN)
    .ours(),
    Route::other(
        "Export",
        (Verb::Get, at!("/export")),
        "Tells all that is needed to build the architecture of the keys anew, without material",
        Handler::Export,
    )
    .gives(200, "export")
    .refuses(&[503])
    .ours(),
];

fn re_encrypt(asked: &Asked<'_>) -> Result<Operation, Problem> {
    let (data, aad) = asked.payload::<DecryptPayload<'_>>()?.opened()?;
    Ok(Operation::ReEncrypt { key: asked.place.key()?, data, aad })
}
