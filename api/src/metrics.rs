//! `GET /metrics`: OpenMetrics text of the service itself and of the series that matter.
//!
//! `ninefold_…` is [`Health`]. `slo:…` are gauges under the names that Sloth's recording rules
//! give, so that dashboards and alert routes made for those work unchanged. Sloth knows one SLO
//! per `sloth_service` and `sloth_slo`; here each customer's objective is one: `sloth_slo` is
//! `OBJECTIVE/CUSTOMER`, `sloth_id` is `SERVICE-OBJECTIVE/CUSTOMER`, and `customer` stands
//! beside them. The fleet is `sloth_service="fleet"` without a customer.
//!
//! A million customers are no labels: listed are the burning ones and the largest ones, at most
//! [`Options::metrics_customers`](crate::Options::metrics_customers) of each. Ratios are those
//! of exact windows; where nothing was valid a sample is absent, never 0.

mod kafka;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use ninefold_engine::query::body::{ObjectiveStatus, Sla, Window};
use ninefold_engine::query::{Answers, AskError, By, Health, MemoryUse};
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
/// The windows for which Sloth records an error ratio.
const SLOTH_WINDOWS: [&str; 8] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"];

type Labels = Vec<(&'static str, String)>;
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
            if let Some(desk) = desk {
                register_ingest(&mut registry, &desk);
            }
            let help = "Requests refused since the start whose token had used up its rate";
            registry.register("ninefold_rate_limited", help, ConstCounter::new(limits.refused()));
            register_slos(&mut registry, answers, customers_max, target, now_ms)?;
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

fn register_slos(
    registry: &mut Registry,
    answers: &dyn Answers,
    customers_max: usize,
    target: f64,
    now_ms: i64,
) -> Result<(), AskError> {
    let slos = Slos::register(registry);
    let fleet = answers.fleet(now_ms)?;
    let labels = labels("fleet", "availability", None);
    slos.promise(&labels, target, 30.0);
    for window in SLOTH_WINDOWS {
        slos.error_ratio(&labels, window, fleet.windows.get(window));
    }
    slos.burn(&labels, fleet.windows.get("5m"), fleet.windows.get("30d"));
    for customer in listed(answers, customers_max)? {
        match answers.sla(&customer, None, None) {
            Ok(sla) => slos.customer(&sla),
            // Evicted or corrected between the two questions: the next scrape is right again.
            Err(AskError::Unknown { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The burning customers with the highest burn rate, and the largest ones.
fn listed(answers: &dyn Answers, customers_max: usize) -> Result<BTreeSet<String>, AskError> {
    let mut burning = answers.burn()?.burning;
    let rate = |row: &ninefold_engine::query::body::BurnRow| row.long.burn_rate.unwrap_or(0.0);
    burning.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    let mut listed = BTreeSet::new();
    for row in burning {
        if listed.len() == customers_max {
            break;
        }
        listed.insert(row.customer);
    }
    let largest = answers.top(By::Valid, None, customers_max.max(1), None)?.customers;
    listed.extend(largest.into_iter().take(customers_max).map(|row| row.customer));
    Ok(listed)
}

/// The gauges that Sloth's rules would record.
struct Slos {
    error_ratios: [(&'static str, Ratios); SLOTH_WINDOWS.len()],
    objective: Ratios,
    budget: Ratios,
    period_days: Ratios,
    burn_now: Ratios,
    burn_period: Ratios,
    left: Ratios,
    info: Ratios,
}

impl Slos {
    fn register(registry: &mut Registry) -> Slos {
        let mut family = |name: &str, help: &str| {
            let family = Ratios::default();
            registry.register(name, help, family.clone());
            family
        };
        let error_ratios = SLOTH_WINDOWS.map(|window| {
            let name = format!("slo:sli_error:ratio_rate{window}");
            (window, family(&name, "Bad over valid events of the window"))
        });
        Slos {
            error_ratios,
            objective: family("slo:objective:ratio", "The target"),
            budget: family("slo:error_budget:ratio", "One less the target"),
            period_days: family("slo:time_period:days", "The period of the objective"),
            burn_now: family("slo:current_burn_rate:ratio", "Burn rate of the last 5 minutes"),
            burn_period: family("slo:period_burn_rate:ratio", "Burn rate of the period"),
            left: family("slo:period_error_budget_remaining:ratio", "Budget left of the period"),
            info: family("sloth_slo_info", "One per objective"),
        }
    }

    fn customer(&self, sla: &Sla) {
        for service in &sla.services {
            for status in &service.objectives {
                let labels = labels(&service.service, &status.objective, Some(&sla.customer));
                self.objective(&labels, status);
            }
        }
    }

    fn objective(&self, labels: &Labels, status: &ObjectiveStatus) {
        self.promise(labels, status.target, period_days(&status.period));
        for window in SLOTH_WINDOWS {
            self.error_ratio(labels, window, status.windows.get(window));
        }
        set(&self.burn_now, labels, status.windows.get("5m").and_then(|window| window.burn_rate));
        set(&self.burn_period, labels, status.budget.consumed);
        set(&self.left, labels, status.budget.left);
    }

    fn promise(&self, labels: &Labels, target: f64, period_days: f64) {
        set(&self.objective, labels, Some(target));
        set(&self.budget, labels, Some(1.0 - target));
        set(&self.period_days, labels, Some(period_days));
        let mut info = labels.clone();
        info.push(("sloth_mode", "ninefold".to_owned()));
        info.push(("sloth_objective", format!("{}", (target * 1e9).round() / 1e7)));
        set(&self.info, &info, Some(1.0));
    }

    fn error_ratio(&self, labels: &Labels, window: &str, counts: Option<&Window>) {
        let family = self.error_ratios.iter().find(|(name, _)| *name == window);
        let (Some((_, family)), Some(counts)) = (family, counts) else { return };
        let mut labels = labels.clone();
        labels.push(("sloth_window", window.to_owned()));
        let ratio = (counts.valid > 0).then(|| counts.bad as f64 / counts.valid as f64);
        set(family, &labels, ratio);
    }

    fn burn(&self, labels: &Labels, now: Option<&Window>, period: Option<&Window>) {
        let burn_period = period.and_then(|window| window.burn_rate);
        set(&self.burn_now, labels, now.and_then(|window| window.burn_rate));
        set(&self.burn_period, labels, burn_period);
        set(&self.left, labels, burn_period.map(|consumed| 1.0 - consumed));
    }
}

fn set(family: &Ratios, labels: &Labels, value: Option<f64>) {
    if let Some(value) = value {
        family.get_or_create(labels).set(value);
    }
}

fn labels(service: &str, objective: &str, customer: Option<&str>) -> Labels {
    let slo = match customer {
        Some(customer) => format!("{objective}/{customer}"),
        None => objective.to_owned(),
    };
    let mut labels = vec![
        ("sloth_id", format!("{service}-{slo}")),
        ("sloth_service", service.to_owned()),
        ("sloth_slo", slo),
    ];
    if let Some(customer) = customer {
        labels.push(("customer", customer.to_owned()));
    }
    labels
}

/// Days of a period as alerts take them: 30 for `month`, 90 for `quarter`.
fn period_days(period: &str) -> f64 {
    match period {
        "month" => 30.0,
        "quarter" => 90.0,
        rolling => rolling.strip_suffix('d').and_then(|days| days.parse().ok()).unwrap_or(30.0),
    }
}
