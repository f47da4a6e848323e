//! The API's own description (OpenAPI), out of the table of routes and the types that are served.

use std::sync::OnceLock;

use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, KnownFormat, ObjectBuilder, OpenApi,
    OpenApiBuilder, PathsBuilder, Ref, Required, ResponseBuilder, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::asked::REGION;
use super::payloads;
use super::routes::{self, Route, Verb};
use crate::kms;

/// What every operation may answer besides: wrong input, no or wrong credentials, not allowed, no such project or region,
/// too many calls, our own failure.
const ALWAYS: [u16; 6] = [400, 401, 403, 404, 429, 500];

/// The document as JSON.
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
            "Compatible with the STACKIT Key Management Service API v1. What is marked as an extension is not part of it.",
        ));
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("bearer", [""; 0])]))
        .build()
}

fn method(route: &Route) -> HttpMethod {
    match route.verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

fn operation(route: &Route) -> utoipa::openapi::path::Operation {
    let summary =
        if route.extension { format!("{} (an extension)", route.summary) } else { route.summary.to_owned() };
    let mut operation = OperationBuilder::new().operation_id(Some(route.id)).summary(Some(summary));
    for name in route.path.split(['{', '}']).skip(1).step_by(2) {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(parameter(name))),
        );
    }
    if route.paged {
        let entries = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(1000));
        operation =
            operation.parameter(query("limit", "At most so many entries (an extension)", entries.into()));
        let cursor = ObjectBuilder::new().schema_type(Type::String).into();
        operation =
            operation.parameter(query("cursor", "`nextCursor` of the page before (an extension)", cursor));
    }
    if let Some(schema) = route.takes {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        operation = operation.request_body(Some(body.content("application/json", reference(schema)).build()));
        if route.success == 202 && route.id.starts_with("Create") {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name("Idempotency-Key")
                    .parameter_in(ParameterIn::Header)
                    .required(Required::False)
                    .description(Some("The same one within a day makes nothing twice (an extension)"))
                    .schema(Some(uuid())),
            );
        }
    }
    let mut done = ResponseBuilder::new().description("Done");
    if let Some(schema) = route.gives {
        done = done.content("application/json", reference(schema));
    }
    operation = operation.response(route.success.to_string(), done);
    for status in ALWAYS.iter().chain(route.refuses) {
        let refused = ResponseBuilder::new().description(refusal(*status));
        operation = operation
            .response(status.to_string(), refused.content("application/json", reference("httpError")));
    }
    operation.build()
}

fn refusal(status: u16) -> &'static str {
    match status {
        400 => "The call itself is wrong",
        401 => "No or wrong credentials",
        403 => "Not allowed",
        404 => "Not there",
        409 => "Not in a state for this",
        429 => "Too many calls; `Retry-After` says when to come back",
        503 => "The key cannot be reached at the moment",
        _ => "A failure of the service",
    }
}

fn reference(schema: &str) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build()
}

fn query(name: &str, description: &str, schema: Schema) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
}

fn parameter(name: &str) -> Schema {
    match name {
        "regionId" => ObjectBuilder::new().schema_type(Type::String).enum_values(Some([REGION])).into(),
        "versionNumber" => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .into(),
        _ => uuid(),
    }
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
        kms::HttpError,
        kms::KeyRing,
        kms::KeyRingList,
        kms::Key,
        kms::KeyList,
        kms::Version,
        kms::VersionList,
        kms::WrappingKey,
        kms::WrappingKeyList,
        kms::EncryptedData,
        kms::DecryptedData,
        kms::SignedData,
        kms::VerifiedData,
        kms::VersionedData,
        kms::DataKey,
        kms::Amounts,
    );
    for (name, schema) in found {
        components = components.schema(name, schema);
    }
    components
}
