//! Extensions of the public API, on paths of their own: clients that do not know them are not affected.

use kms_core::api::{Operation, Problem};

use super::super::audit_and_export;
use super::super::extract::ApiRequest;
use super::super::payloads::{
    DecryptPayload, EditKeyPayload, EditKeyRingPayload, EncryptPayload, MakeDataKeyPayload,
};
use super::{Handler, Method, Parameter, ParameterKind, Route, key_path, project_path};

/// The query of the usage report.
const SPAN: &[Parameter] = &[
    Parameter {
        name: "from",
        description: "First hour of the time range",
        kind: ParameterKind::Time,
        required: true,
    },
    Parameter {
        name: "to",
        description: "End of the time range (exclusive), at most 366 days after `from`",
        kind: ParameterKind::Time,
        required: true,
    },
];

/// Edits, use of the current version, reports of a project.
pub(super) static ROUTES: [Route; 9] = [
    Route::new(
        "EditKeyRing",
        (Method::Patch, project_path!("/keyrings/{keyRingId}")),
        "Changes the name or description of a key ring",
        |request| {
            let ask = request.payload::<EditKeyRingPayload>()?.try_into()?;
            Ok(Operation::EditKeyRing { ring: request.path.ring()?, ask })
        },
    )
    .request_schema("EditKeyRingPayload")
    .responds(200, "keyRing")
    .errors(&[404])
    .extension(),
    Route::new(
        "EditKey",
        (Method::Patch, key_path!("")),
        "Changes the name, description, tags or rotation period of a key",
        |request| {
            let ask = request.payload::<EditKeyPayload>()?.try_into()?;
            Ok(Operation::EditKey { key: request.path.key()?, ask })
        },
    )
    .request_schema("EditKeyPayload")
    .responds(200, "key")
    .errors(&[404, 409])
    .extension(),
    Route::new(
        "EncryptCurrent",
        (Method::Post, key_path!("/encrypt")),
        "Encrypts data with the current version of a key: the highest active version",
        |request| {
            let (data, aad) = request.payload::<EncryptPayload<'_>>()?.decode()?;
            Ok(Operation::EncryptCurrent { key: request.path.key()?, data, aad })
        },
    )
    .request_schema("EncryptPayload")
    .responds(200, "versionedData")
    .errors(&[404, 409, 503])
    .extension(),
    Route::new(
        "DecryptAny",
        (Method::Post, key_path!("/decrypt")),
        "Decrypts data with the key version that the ciphertext names",
        |request| {
            let (data, aad) = request.payload::<DecryptPayload<'_>>()?.decode()?;
            Ok(Operation::DecryptAny { key: request.path.key()?, data, aad })
        },
    )
    .request_schema("DecryptPayload")
    .responds(200, "versionedData")
    .errors(&[404, 409, 503])
    .extension(),
    Route::new(
        "ReEncrypt",
        (Method::Post, key_path!("/reencrypt")),
        "Decrypts a ciphertext and encrypts it with the current version, without returning the plaintext",
        re_encrypt,
    )
    .request_schema("DecryptPayload")
    .responds(200, "versionedData")
    .errors(&[404, 409, 503])
    .extension(),
    Route::new(
        "MakeDataKey",
        (Method::Post, key_path!("/datakeys")),
        "Generates a data key and wraps it with the current version of a key",
        |request| {
            let ask = request.payload::<MakeDataKeyPayload<'_>>()?.try_into()?;
            Ok(Operation::MakeDataKey { key: request.path.key()?, ask })
        },
    )
    .request_schema("MakeDataKeyPayload")
    .responds(200, "dataKey")
    .errors(&[404, 409, 503])
    .extension(),
    Route::new(
        "Amounts",
        (Method::Get, project_path!("/amounts")),
        "Counts the resources of a project",
        |request| Ok(Operation::Amounts { project: request.path.project }),
    )
    .responds(200, "amounts")
    .extension(),
    Route::other(
        "Usage",
        (Method::Get, project_path!("/usage")),
        "Returns how many key versions of a project were available in each hour",
        Handler::Report(audit_and_export::usage_report),
    )
    .responds(200, "usage")
    .query(SPAN)
    .extension(),
    Route::other(
        "Export",
        (Method::Get, project_path!("/export")),
        "Exports what is needed to recreate a project's keys and settings, without key material",
        Handler::Export,
    )
    .responds(200, "export")
    .errors(&[503])
    .extension(),
];

fn re_encrypt(request: &ApiRequest<'_>) -> Result<Operation, Problem> {
    let (data, aad) = request.payload::<DecryptPayload<'_>>()?.decode()?;
    Ok(Operation::ReEncrypt { key: request.path.key()?, data, aad })
}
