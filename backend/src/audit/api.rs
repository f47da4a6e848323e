//! An entry as the Audit Log API shows it, and times as it writes them.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Kind, Record};

/// Where there is no address: the call came over the machine's own socket, or from its command line.
const LOCAL: &str = "local";

/// The one region.
const REGION: &str = "eu01";

/// An entry as an item of the API.
pub fn item(record: &Record) -> Value {
    let body = &record.body;
    let succeeded = (200..300).contains(&body.status);
    let (severity, visibility) = (if succeeded { "INFO" } else { "ERROR" }, "PUBLIC");
    let time = timestamp(record.at);
    let mut item = json!({
        "id": record.id,
        "receivedTimeStamp": time,
        "eventTimeStamp": time,
        "eventVersion": "1.0",
        "eventSource": "kms",
        "region": REGION,
        "severity": severity,
        "visibility": visibility,
        "eventType": kind(body.kind),
        "eventName": body.event,
        "sourceIpAddress": body.source.map_or_else(|| LOCAL.to_owned(), |source| source.to_string()),
        "userAgent": body.agent,
        "initiator": initiator(record),
        "request": { "endpoint": body.endpoint },
        "result": { "status": body.status },
        "resourceId": body.resource,
        "sequence": record.sequence,
    });
    if let Some(project) = record.project {
        item["context"] = json!({ "projectId": project });
    }
    if let Some(trace) = body.trace {
        item["correlationId"] = json!(trace);
    }
    if !body.details.is_empty() {
        item["details"] = Value::Object(body.details.clone());
    }
    item
}

fn initiator(record: &Record) -> Value {
    let body = &record.body;
    let id = body.initiator.map_or_else(|| body.name.clone(), |id| id.to_string());
    let mut initiator = Map::from_iter([("id".to_owned(), json!(id))]);
    // The field is for addresses; other names are the id already.
    if body.initiator.is_some() {
        initiator.insert("email".to_owned(), json!(body.name));
    }
    Value::Object(initiator)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::AdminActivity => "ADMIN_ACTIVITY",
        Kind::SystemEvent => "SYSTEM_EVENT",
        Kind::PolicyDenied => "POLICY_DENIED",
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
    use uuid::Uuid;

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
        let item = item(&record);
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
