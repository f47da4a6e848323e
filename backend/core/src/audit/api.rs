//! An entry as the Audit Log API shows it, and times as it writes them.

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Kind, Record};

/// Where there is no address: the call came over the machine's own socket, or from its command line.
const LOCAL: &str = "local";

/// The one region.
const REGION: &str = "eu01";

/// A page of the log (Audit Log API, `ListAuditLogResponse`).
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = auditLogList)]
pub struct AuditItems {
    /// The entries, the oldest first.
    pub items: Vec<Item>,
    /// How many there are at most.
    pub limit: u64,
    /// Where the next page begins, if this one is full.
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
    /// When it was written down.
    #[schema(format = DateTime)]
    pub received_time_stamp: String,
    /// When it happened.
    #[schema(format = DateTime)]
    pub event_time_stamp: String,
    /// Of this form.
    pub event_version: &'static str,
    /// `kms`.
    pub event_source: &'static str,
    /// The region.
    pub region: &'static str,
    /// `INFO`, or `ERROR` for what was not done.
    pub severity: &'static str,
    /// `PUBLIC`.
    pub visibility: &'static str,
    /// Of which kind.
    pub event_type: Kind,
    /// What happened.
    pub event_name: String,
    /// From where; `local` for this machine's own socket and command line.
    pub source_ip_address: String,
    /// With what, as it calls itself.
    pub user_agent: String,
    /// Who.
    pub initiator: Initiator,
    /// What was asked.
    pub request: Request,
    /// How it ended.
    pub result: Ended,
    /// To what.
    pub resource_id: String,
    /// Its number in the log.
    pub sequence: u64,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// `x-trace-id` of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// What of the request may be told.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub details: Map<String, Value>,
}

/// Who.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = auditLogInitiator)]
pub struct Initiator {
    /// The account's id, or the name of who has none.
    pub id: String,
    /// The account's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = auditLogRequest)]
pub struct Request {
    /// Through which door, and what.
    pub endpoint: String,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = auditLogResult)]
pub struct Ended {
    /// As HTTP numbers it.
    pub status: u16,
}

/// Where.
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
            // The field is for addresses; other names are the id already.
            email: body.initiator.map(|_| body.name.clone()),
        },
        request: Request { endpoint: body.endpoint.clone() },
        result: Ended { status: body.status },
        resource_id: body.resource.clone(),
        sequence: record.sequence,
        context: record.project.map(|project_id| Context { project_id }),
        correlation_id: body.trace,
        details: body.details.clone(),
    }
}

/// A time in milliseconds since 1970 as RFC 3339 writes it.
pub fn timestamp(millis: u64) -> String {
    let written = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok());
    written.unwrap_or_else(|| millis.to_string())
}

/// The milliseconds since 1970 of a time in RFC 3339; none for what is no such time, or before 1970.
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
    fn times_are_read_as_they_are_written() {
        assert_eq!(timestamp(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(millis("2023-11-14T22:13:20.123Z"), Some(1_700_000_000_123));
        assert_eq!(millis("2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000));
        for wrong in ["", "yesterday", "2023-11-14", "1969-12-31T23:59:59Z"] {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_item_has_all_that_the_api_requires() {
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
        let written = serde_json::to_string(&body).unwrap();
        let record = Record::read(&link, 0, Some(Uuid::nil()), &written).unwrap();
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
