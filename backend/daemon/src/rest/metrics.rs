//! Metrics in the OpenMetrics format. Labels have few values (operations, statuses), never an id.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::backend_trait::MetricValues;

/// Bucket bounds of the latencies, in seconds: from a response out of memory to an RSA-4096 key pair.
const LATENCY_BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Names and help texts of the gauges of the backend, in the order of [`MetricValues`].
const BACKEND_GAUGES: [(&str, &str); 13] = [
    ("opened_keys", "Keys opened in memory"),
    ("key_rings", "Key rings"),
    ("keys", "Keys, including those whose deletion is scheduled"),
    ("key_versions", "Key versions that have material"),
    ("available_versions", "Key versions that can be used now"),
    ("hsm_calls", "HSM calls since the start"),
    ("hsm_failures", "HSM calls that failed since the start"),
    ("provider_connections_refused", "Connections of providers that were refused since the start"),
    ("provider_connections_closed", "Idle connections of providers that were closed for others"),
    ("rest_connections_refused", "Connections to the REST API that were refused since the start"),
    ("rest_connections_closed", "Idle connections to the REST API that were closed for others"),
    ("disk_free_bytes", "Free bytes on the disk of the database"),
    ("disk_floor_bytes", "Free bytes below which nothing more is created"),
];

/// The label of an operation.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ByOperation {
    operation: &'static str,
}

/// The labels of an operation and the status it ended with.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ByStatus {
    operation: &'static str,
    status: Code,
}

/// An HTTP status.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Code(u16);

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&u32::from(self.0), encoder)
    }
}

/// All metrics.
pub(super) struct Metrics {
    registry: Registry,
    calls: Family<ByStatus, Counter>,
    latencies: Family<ByOperation, Histogram>,
    quota_refusals: Counter,
    backend: [Gauge; 13],
    connections: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("kms");
        let calls = Family::default();
        registry.register("calls", "Calls by operation and status", calls.clone());
        let latencies =
            Family::new_with_constructor((|| Histogram::new(LATENCY_BOUNDS)) as fn() -> Histogram);
        let help = "Time from a request's header section to its response, in seconds";
        registry.register("call_duration_seconds", help, latencies.clone());
        let quota_refusals = Counter::default();
        registry.register(
            "quota_refusals",
            "Calls rejected because a quota was used up",
            quota_refusals.clone(),
        );
        let backend: [Gauge; BACKEND_GAUGES.len()] = std::array::from_fn(|_| Gauge::default());
        for ((name, help), gauge) in BACKEND_GAUGES.into_iter().zip(&backend) {
            registry.register(name, help, gauge.clone());
        }
        let connections = Gauge::default();
        registry.register("connections", "Open connections to the REST API", connections.clone());
        Self { registry, calls, latencies, quota_refusals, backend, connections }
    }

    /// Records a call.
    pub(super) fn observe(&self, operation: &'static str, status: u16, took: Duration) {
        self.calls.get_or_create(&ByStatus { operation, status: Code(status) }).inc();
        self.latencies.get_or_create(&ByOperation { operation }).observe(took.as_secs_f64());
    }

    /// Counts a call that was rejected because a quota was used up.
    pub(super) fn quota_refused(&self) {
        self.quota_refusals.inc();
    }

    /// Encodes all metrics as text.
    pub(super) fn text(&self, values: &MetricValues, connections: usize) -> String {
        let MetricValues {
            opened_keys,
            key_rings,
            keys,
            key_versions,
            available_versions,
            hsm_calls,
            hsm_failures,
            provider_connections_refused,
            provider_connections_closed,
            rest_connections_refused,
            rest_connections_closed,
            disk_free_bytes,
            disk_floor_bytes,
        } = *values;
        let gauges = [
            opened_keys,
            key_rings,
            keys,
            key_versions,
            available_versions,
            hsm_calls,
            hsm_failures,
            provider_connections_refused,
            provider_connections_closed,
            rest_connections_refused,
            rest_connections_closed,
            disk_free_bytes,
            disk_floor_bytes,
        ];
        for (gauge, value) in self.backend.iter().zip(gauges) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics could not be written; this is a bug");
        }
        text
    }
}
