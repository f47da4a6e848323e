//! Entries and times in the form of the Audit Log API.

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Kind, Record};

/// The source address of calls without one, over a Unix socket or from the command line.
const LOCAL: &str = "local";

/// The only region.
const REGION: &str = "eu01";

/// A page of the log (Audit Log API, `ListAuditLogResponse`).
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = auditLogList)]
pub struct AuditItems {
    /// The entries, the oldest first.
    pub items: Vec<Item>,
    /// The maximum number of entries in a page.
    pub limit: u64,
    /// The start of the next page, if this one is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An entry as an item of the API.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = auditLogEntry)]
pub struct Item {
    /// Its id.
    pub id: Uuid,
    /// The time when it was recorded.
    #[schema(format = DateTime)]
    pub received_time_stamp: String,
    /// The time when it happened.
    #[schema(format = DateTime)]
    pub event_time_stamp: String,
    /// The version of the event format.
    pub event_version: &'static str,
    /// `kms`.
    pub event_source: &'static str,
    /// The region.
    pub region: &'static str,
    /// `INFO` for success, else `ERROR`.
    pub severity: &'static str,
    /// `PUBLIC`.
    pub visibility: &'static str,
    /// The kind of event.
    pub event_type: Kind,
    /// The event's name.
    pub event_name: String,
    /// The client's address; `local` for a Unix socket and the command line.
    pub source_ip_address: String,
    /// The client's name for itself.
    pub user_agent: String,
    /// The initiator.
    pub initiator: Initiator,
    /// The request.
    pub request: Request,
    /// The result.
    pub result: EventResult,
    /// The resource.
    pub resource_id: String,
    /// Its number in the log.
    pub sequence: u64,
    /// The context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// `x-trace-id` of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// The parts of the request that are recorded.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub details: Map<String, Value>,
}

/// The initiator of an event.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = auditLogInitiator)]
pub struct Initiator {
    /// The account's id, or the name of an initiator without an account.
    pub id: String,
    /// The account's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// The request that caused an event.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = auditLogRequest)]
pub struct Request {
    /// The API and the call.
    pub endpoint: String,
}

/// The result of an event.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = auditLogResult)]
pub struct EventResult {
    /// The HTTP status.
    pub status: u16,
}

/// The context of an event.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = auditLogContext)]
pub struct Context {
    /// The project.
    pub project_id: Uuid,
}

/// An entry as an item of the API.
pub fn item(record: &Record) -> Item {
    let body = &record.body;
    let succeeded = (200..300).contains(&body.status);
    let time = timestamp(record.at);
    Item {
        id: record.id,
        received_time_stamp: time.clone(),
        event_time_stamp: time,
        event_version: "1.0",
        event_source: "kms",
        region: REGION,
        severity: if succeeded { "INFO" } else { "ERROR" },
        visibility: "PUBLIC",
        event_type: body.kind,
        event_name: body.event.clone(),
        source_ip_address: body.source.map_or_else(|| LOCAL.to_owned(), |source| source.to_string()),
        user_agent: body.agent.clone(),
        initiator: Initiator {
            id: body.initiator.map_or_else(|| body.name.clone(), |id| id.to_string()),
            // The field is for addresses; other names are in `id` already.
            email: body.initiator.map(|_| body.name.clone()),
        },
        request: Request { endpoint: body.endpoint.clone() },
        result: EventResult { status: body.status },
        resource_id: body.resource.clone(),
        sequence: record.sequence,
        context: record.project.map(|project_id| Context { project_id }),
        correlation_id: body.trace,
        details: body.details.clone(),
    }
}

/// A time in milliseconds since 1970, in RFC 3339 format.
pub fn timestamp(millis: u64) -> String {
    let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| millis.to_string())
}

/// Parses a time in RFC 3339 format to milliseconds since 1970; none if it is malformed or before 1970.
pub fn millis(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::{Body, Link};

    #[test]
    fn a_formatted_time_can_be_parsed() {
        assert_eq!(timestamp(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(millis("2023-11-14T22:13:20.123Z"), Some(1_700_000_000_123));
        assert_eq!(millis("2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000));
        for wrong in ["", "yesterday", "2023-11-14", "1969-12-31T23:59:59Z"] {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_item_has_all_required_fields() {
        let body = Body {
            event: "kms.key.rotate".to_owned(),
            kind: Kind::PolicyDenied,
            resource: "projects/p".to_owned(),
            initiator: None,
            name: "user@ring".to_owned(),
            endpoint: "pkcs11 C_Sign".to_owned(),
            source: None,
            agent: String::new(),
            trace: None,
            status: 403,
            details: Map::new(),
        };
        let link = Link { sequence: 3, mac: [7; 32] };
        let json = serde_json::to_string(&body).unwrap();
        let record = Record::read(&link, 0, Some(Uuid::nil()), &json).unwrap();
        let item = serde_json::to_value(item(&record)).unwrap();
        let required = [
            "id",
            "receivedTimeStamp",
            "eventVersion",
            "eventSource",
            "region",
            "severity",
            "visibility",
            "eventType",
            "eventTimeStamp",
            "eventName",
            "sourceIpAddress",
            "userAgent",
            "initiator",
            "request",
        ];
        for field in required {
            assert!(!item[field].is_null(), "{field}");
        }
        assert_eq!((&item["severity"], &item["eventType"]), (&"ERROR".into(), &"POLICY_DENIED".into()));
        assert_eq!(item["initiator"], json!({ "id": "user@ring" }));
        assert_eq!(item["context"]["projectId"], Uuid::nil().to_string());
    }
}
