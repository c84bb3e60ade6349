//! `GET /metrics`: OpenMetrics text of the service itself and of the series that matter.
//!
//! `ninefold_…` is [`Health`]. `slo:…` are the [gauges](mod@gauges) under the names that Sloth's recording
//! rules give, of the fleet and of at most
//! [`Options::metrics_customers`](crate::Options::metrics_customers) burning and as many of the
//! largest customers.

mod kafka;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use ninefold_engine::query::gauges::{self, Gauge as SloGauge, Labels, gauges};
use ninefold_engine::query::{Health, MemoryUse, RemoteWriteHealth};
use ninefold_engine::time::parse_rfc3339;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::app::App;
use crate::arguments::Arguments;
use crate::ingest::Desk;
use crate::problem::Problem;

/// The media type of OpenMetrics 1.0.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Ratios = Family<Labels, Gauge<f64, AtomicU64>>;

/// The route.
pub(crate) async fn metrics(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    let customers_max = app.options.metrics_customers;
    let target = app.options.target;
    let now_ms = app.now_ms();
    let (desk, limits) = (app.desk.clone(), Arc::clone(&app.limits));
    let text = app
        .ask(move |answers| {
            let mut registry = Registry::default();
            let health = answers.health();
            register_health(&mut registry, &health);
            kafka::register_kafka(&mut registry, &health);
            if let Some(remote_write) = &health.remote_write {
                register_remote_write(&mut registry, remote_write);
            }
            if let Some(desk) = desk {
                register_ingest(&mut registry, &desk);
            }
            let help = "Requests refused since the start whose token had used up its rate";
            registry.register("ninefold_rate_limited", help, ConstCounter::new(limits.refused()));
            register_slos(&mut registry, gauges(answers, customers_max, target, now_ms)?);
            let mut text = String::new();
            encode(&mut text, &registry).expect("a string takes all that is written");
            Ok(text)
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}

fn register_health(registry: &mut Registry, health: &Health) {
    let counters = [
        ("ninefold_lines_read", "Lines read since the start", health.read),
        ("ninefold_lines_counted", "Lines counted since the start", health.counted),
        ("ninefold_lines_dead", "Lines refused since the start", health.dead),
        ("ninefold_lines_duplicate", "Lines dropped by the dedupe window", health.duplicate),
        ("ninefold_commits", "Epochs committed since the start", health.commits),
        (
            "ninefold_commit_failures",
            "Commits that failed since the start, each of which was tried again",
            health.commit_failures,
        ),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
    register_memory(registry, &health.memory);
    if !health.instance.is_empty() {
        let (instance, role) = (health.instance.clone(), health.role.clone());
        let labels: Labels = vec![("instance", instance), ("role", role)];
        let info = Info::new(labels);
        registry.register("ninefold_instance", "This process and its role", info);
        let owned = Gauge::<f64, AtomicU64>::default();
        owned.set(health.partitions.len() as f64);
        registry.register("ninefold_partitions", "Partitions that this instance counts", owned);
    }
    let help = "From the arrival of events to the alert that they caused";
    let delays = &health.event_to_alert;
    let delays = ConstHistogram { buckets: delays.buckets().to_vec(), sum: delays.sum_s() };
    registry.register("ninefold_event_to_alert_seconds", help, delays);
    let as_of_ms = health.as_of.as_deref().and_then(|text| parse_rfc3339(text.as_bytes()));
    let gauges = [
        ("ninefold_ready", "1 where answers are complete", Some(f64::from(health.ready))),
        ("ninefold_series", "Series in memory", Some(health.series as f64)),
        (
            "ninefold_uncommitted_age_seconds",
            "Age of the oldest uncommitted line",
            Some(health.uncommitted_age_ms as f64 / 1e3),
        ),
        (
            "ninefold_uncommitted_lines",
            "Lines that no commit has taken",
            Some(health.uncommitted_lines as f64),
        ),
        (
            "ninefold_table_version",
            "Version of the table",
            health.table_version.map(|version| version as f64),
        ),
        (
            "ninefold_as_of_timestamp_seconds",
            "Start of the newest counted minute",
            as_of_ms.map(|ms| ms as f64 / 1e3),
        ),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    }
}

/// What was sent to us, and the log that keeps it.
fn register_ingest(registry: &mut Registry, desk: &Desk) {
    let (accepted, refused) = desk.counts();
    let figures = desk.intake.ingest.figures();
    let counters = [
        ("ninefold_ingest_accepted", "Events acknowledged since the start", accepted),
        ("ninefold_wal_damages", "Reports of damage in the log since the start", figures.damages),
        ("ninefold_wal_failures", "Writes of the log that failed", figures.failures),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
    let reasons = Family::<Labels, Counter>::default();
    for (reason, count) in refused {
        reasons.get_or_create(&vec![("reason", reason.to_owned())]).inc_by(count);
    }
    registry.register("ninefold_ingest_refused", "Requests refused, by reason", reasons);
    let gauges = [
        ("ninefold_wal_bytes", "Bytes of the log", figures.wal_bytes),
        (
            "ninefold_wal_uncommitted_bytes",
            "Bytes of the log that no commit has taken",
            figures.wal_uncommitted_bytes,
        ),
        ("ninefold_wal_keys", "Idempotency keys that are known", figures.keys),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value as f64);
        registry.register(name, help, gauge);
    }
    let syncs = ConstHistogram { buckets: figures.syncs, sum: figures.sync_seconds };
    registry.register("ninefold_wal_fsync_seconds", "How long syncs of the log took", syncs);
}

/// What became of the samples of remote-write.
fn register_remote_write(registry: &mut Registry, remote_write: &RemoteWriteHealth) {
    let samples = Family::<Labels, Counter>::default();
    let outcomes = [
        ("sent", remote_write.samples_sent),
        ("refused", remote_write.samples_refused),
        ("overflowed", remote_write.samples_overflowed),
    ];
    for (outcome, count) in outcomes {
        samples.get_or_create(&vec![("outcome", outcome.to_owned())]).inc_by(count);
    }
    let help = "Samples of remote-write: sent, or dropped because they were refused or too many";
    registry.register("ninefold_remote_write_samples", help, samples);
    let failures = ConstCounter::new(remote_write.failures);
    let help = "Attempts of remote-write that failed and were made again";
    registry.register("ninefold_remote_write_failures", help, failures);
    let waiting = Gauge::<f64, AtomicU64>::default();
    waiting.set(remote_write.batches_waiting as f64);
    registry.register("ninefold_remote_write_waiting", "Batches that wait to be taken", waiting);
}

/// What each part of the memory takes and may take, and what was evicted.
fn register_memory(registry: &mut Registry, memory: &MemoryUse) {
    let used = Family::<Labels, Gauge>::default();
    let bound = Family::<Labels, Gauge>::default();
    for part in &memory.parts {
        let labels = vec![("part", part.name.to_owned())];
        used.get_or_create(&labels).set(part.used as i64);
        if let Some(bytes) = part.bound {
            bound.get_or_create(&labels).set(bytes as i64);
        }
    }
    registry.register("ninefold_memory_bytes", "What a part of the memory takes", used);
    registry.register("ninefold_memory_bound_bytes", "What it may take", bound);
    let rate = Gauge::<i64>::default();
    rate.set(memory.new_customers_per_minute as i64);
    let help = "Customers that were not in memory, over the last minute";
    registry.register("ninefold_new_customers_per_minute", help, rate);
    let counters = [
        ("ninefold_evicted", "Customers evicted from memory", memory.evicted),
        ("ninefold_evicted_hot", "Those of them with recent failures", memory.evicted_hot),
        ("ninefold_evicted_loaded", "Customers loaded again to be judged", memory.loaded),
        (
            "ninefold_dedupe_ids_forgotten",
            "Ids dropped before their window's end",
            memory.ids_forgotten,
        ),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
}

/// A histogram that was counted elsewhere.
#[derive(Debug)]
struct ConstHistogram {
    /// Upper ends, and how many are in each bucket alone.
    buckets: Vec<(f64, u64)>,
    sum: f64,
}

impl EncodeMetric for ConstHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let count = self.buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum, count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The gauges of objectives: one family for each name.
fn register_slos(registry: &mut Registry, gauges: Vec<SloGauge>) {
    let mut families: BTreeMap<String, Ratios> = BTreeMap::new();
    for SloGauge { name, labels, value } in gauges {
        let family = families.entry(name).or_default();
        family.get_or_create(&labels).set(value);
    }
    for (name, family) in families {
        let help = gauges::help(&name);
        registry.register(name, help, family);
    }
}

fn set(family: &Ratios, labels: &Labels, value: Option<f64>) {
    if let Some(value) = value {
        family.get_or_create(labels).set(value);
    }
}
