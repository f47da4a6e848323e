//! The OpenAPI document, generated from the table of routes and the types that are served.

use std::sync::OnceLock;

use kms_core::{api, audit};
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, KnownFormat, ObjectBuilder, OpenApi,
    OpenApiBuilder, PathsBuilder, Ref, Required, ResponseBuilder, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::extract::REGION;
use super::payloads;
use super::routes::{self, ErrorFormat, Handler, Method, Origin, ParameterKind, Route};
use super::{audit_and_export, token};

/// The error statuses of every operation: malformed request, missing or invalid credentials, missing permission,
/// unknown project or region, too many calls, internal failure.
const ALWAYS: [u16; 6] = [400, 401, 403, 404, 429, 500];

/// Returns the document as JSON.
pub fn json() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| document().to_pretty_json().unwrap_or_default())
}

fn document() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in routes::all() {
        paths = paths.path(route.path, utoipa::openapi::PathItem::new(method(route), operation(route)));
    }
    let components = schemas(ComponentsBuilder::new()).security_scheme(
        "bearer",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build()),
    );
    let info = InfoBuilder::new()
        .title("Key management service")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Compatible with the STACKIT Key Management Service API v1, and with what its clients use of the \
             Audit Log API v2 and of the token service. Extensions are marked as such; they are part of none \
             of these APIs.",
        ));
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("bearer", [""; 0])]))
        .build()
}

fn method(route: &Route) -> HttpMethod {
    match route.method {
        Method::Get => HttpMethod::Get,
        Method::Post => HttpMethod::Post,
        Method::Patch => HttpMethod::Patch,
        Method::Delete => HttpMethod::Delete,
    }
}

fn operation(route: &Route) -> utoipa::openapi::path::Operation {
    let summary = match route.origin {
        Origin::Extension => format!("{} (an extension)", route.summary),
        Origin::Public | Origin::AdjacentApi => route.summary.to_owned(),
    };
    let mut operation = OperationBuilder::new().operation_id(Some(route.id)).summary(Some(summary));
    for name in route.path.split(['{', '}']).skip(1).step_by(2) {
        operation = operation.parameter(path_parameter(name));
    }
    for parameter in route.query {
        operation = operation.parameter(query(parameter));
    }
    if matches!(route.handler, Handler::Token) {
        // The assertion or refresh token in the form is the credential.
        operation = operation.securities(Some([]));
    }
    if let Some(schema) = route.request_schema {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        let kind = match route.error_format {
            ErrorFormat::Plain | ErrorFormat::AuditLog => "application/json",
            ErrorFormat::Token => "application/x-www-form-urlencoded",
        };
        operation = operation.request_body(Some(body.content(kind, reference(schema)).build()));
        if route.success == 202 && route.id.starts_with("Create") {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name("Idempotency-Key")
                    .parameter_in(ParameterIn::Header)
                    .required(Required::False)
                    .description(Some(
                        "A repetition with the same key within a day creates nothing new (an extension)",
                    ))
                    .schema(Some(uuid())),
            );
        }
    }
    let mut done = ResponseBuilder::new().description("Done");
    if let Some(schema) = route.response_schema {
        done = done.content("application/json", reference(schema));
    }
    operation = operation.response(route.success.to_string(), done);
    for status in ALWAYS.iter().chain(route.error_statuses) {
        let refused = ResponseBuilder::new().description(problem(*status));
        operation = operation.response(
            status.to_string(),
            refused.content("application/json", reference(route.error_format.schema())),
        );
    }
    operation.build()
}

fn problem(status: u16) -> &'static str {
    match status {
        400 => "The request is malformed or a value is not valid",
        401 => "The credentials are missing or invalid",
        403 => "The caller lacks the permission",
        404 => "The resource does not exist",
        409 => "The resource is in a state that does not allow the operation",
        429 => "Too many calls; `Retry-After` states when to retry",
        503 => "The service is busy, or the key material is unavailable at the moment",
        _ => "Internal error",
    }
}

fn reference(schema: &str) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build()
}

fn query(parameter: &routes::Parameter) -> ParameterBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let schema = match parameter.kind {
        ParameterKind::Limit => {
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(1000))
        }
        ParameterKind::Cursor => text(),
        ParameterKind::Time => text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))),
    };
    ParameterBuilder::new()
        .name(parameter.name)
        .parameter_in(ParameterIn::Query)
        .required(if parameter.required { Required::True } else { Required::False })
        .description(Some(parameter.description))
        .schema(Some(schema))
}

fn path_parameter(name: &str) -> ParameterBuilder {
    let (schema, description) = match name {
        "projectId" => (uuid(), "The id of the project"),
        "regionId" => {
            (ObjectBuilder::new().schema_type(Type::String).enum_values(Some([REGION])).into(), "The region")
        }
        "keyRingId" => (uuid(), "The id of the key ring"),
        "keyId" => (uuid(), "The id of the key"),
        "wrappingKeyId" => (uuid(), "The id of the wrapping key"),
        _ => (
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .into(),
            "The number of the key version",
        ),
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
}

fn uuid() -> Schema {
    let format = SchemaFormat::KnownFormat(KnownFormat::Uuid);
    ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
}

fn schemas(mut components: ComponentsBuilder) -> ComponentsBuilder {
    let mut found = Vec::new();
    macro_rules! with {
        ($($schema:ty),* $(,)?) => {
            $(
                found.push((<$schema>::name().into_owned(), <$schema>::schema()));
                <$schema>::schemas(&mut found);
            )*
        };
    }
    with!(
        payloads::CreateKeyRingPayload,
        payloads::CreateKeyPayload,
        payloads::CreateWrappingKeyPayload,
        payloads::ImportKeyPayload<'_>,
        payloads::EncryptPayload<'_>,
        payloads::DecryptPayload<'_>,
        payloads::SignPayload<'_>,
        payloads::VerifyPayload<'_>,
        payloads::EditKeyRingPayload,
        payloads::EditKeyPayload,
        payloads::MakeDataKeyPayload<'_>,
        api::HttpError,
        api::KeyRing,
        api::KeyRingList,
        api::Key,
        api::KeyList,
        api::Version,
        api::VersionList,
        api::WrappingKey,
        api::WrappingKeyList,
        api::EncryptedData,
        api::DecryptedData,
        api::SignedData,
        api::VerifiedData,
        api::VersionedData,
        api::DataKey,
        api::Amounts,
        api::Usage,
        api::Export,
        audit::AuditItems,
        audit_and_export::AuditLogError,
        token::TokenForm,
        token::TokenPair<'_>,
        token::TokenError<'_>,
    );
    for (name, schema) in found {
        components = components.schema(name, schema);
    }
    components
}
