//! The configuration: one checked struct, and the only place that knows how it is spelled.
//!
//! [`Config::parse`] reads the whole text and reports *every* problem at once, each with file,
//! line, key, what is wrong and what would be right. [`Config::default`] needs no file and is
//! what an empty one means. [`template()`] is the commented file that `ninefold init` writes,
//! [`check_report`] what `ninefold check` prints of a good one.
//!
//! How it works: the TOML parser yields a tree with the place of every key; each part reads its
//! own table through [`reader`](self), which takes note of the keys that were asked for, so that
//! all others are unknown. `docs/configuration.md` lists every key; a test holds that.
//!
//! Invariant: a [`Config`] that exists is right in itself. What only the world can tell (whether
//! a file is there, a port is free) is not asked here: parsing opens nothing but the time zone
//! database.

mod access;
mod kafka;
mod maintenance;
mod memory;
mod openslo;
mod pool;
mod problem;
mod promise;
mod reader;
mod receiver;
mod remote_write;
mod report;
mod route;
mod secret;
mod template;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

pub use access::{Access, OpenAddress, Role, TlsFiles, Token, token_hash};
pub use kafka::{GROUP, KafkaOption, KafkaSource, KafkaStart};
pub use memory::{BASE_BYTES, Budget, BudgetError, Limit, Memory};
pub use openslo::{ImportError, Imported, import_openslo};
pub use problem::{Problem, Problems};
pub use receiver::{Destination, Receiver};
pub use remote_write::{HeaderValue, RemoteWrite};
pub use report::check_report;
pub use secret::{Secret, SecretError, SecretFrom};
pub use template::{Sample, template};

use crate::decode::{self, Fields, Format};
use crate::model::ATTRIBUTES_MAX;
use crate::notify::route::Routes;
use crate::notify::silence::Silence;
use crate::report::CreditStep;
use crate::slo::alert::AlertOptions;
use crate::slo::decimal::Decimal;
use crate::slo::objective::{Objectives, Slis};
use crate::slo::pool::Pools;
use crate::source::wal;
use crate::time::MINUTE_MS;
use reader::{Reader, Section};

/// Everything that can be configured, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Folder that holds the table, `[table] dir`; `None` where the command line has to say it.
    pub data: Option<PathBuf>,
    /// Room that `run` keeps beside the table for the log entries of a full disk,
    /// `[table] reserve`, in bytes; 0 = none.
    pub reserve_bytes: u64,
    /// How events are sorted, `[[sli]]`.
    pub slis: Slis,
    /// What is promised to whom, `[[objective]]`, `[tier.NAME]` and `[customer."NAME"]`.
    pub objectives: Objectives,
    /// Who is judged together, `[tier.NAME]` and `[[pool]]`.
    pub pools: Arc<Pools>,
    /// When a burning objective fires, `[alerts]`.
    pub alerts: AlertOptions,
    /// How lines become events, `[decode]`; its attributes are `[dimensions] attributes`.
    pub decode: decode::Options,
    /// Values kept per service, dimension and UTC day, `[dimensions] values_max`; more are
    /// counted as `__other__`.
    pub dimension_values_max: usize,
    /// An id that is seen again within so many bytes of its partition is a duplicate,
    /// `[dedupe] window_bytes`; 0 = off.
    pub dedupe_window_bytes: u64,
    /// The same for sources whose offsets are numbers of records, `[dedupe] window_records`.
    pub dedupe_window_records: u64,
    /// How much memory each part may take, `[memory]`.
    pub memory: Memory,
    /// The ladder of SLA credits, `[[report.credits]]`; the highest `below` first.
    pub credits: Vec<CreditStep>,
    /// IANA zone of calendar months and reports, `[report] zone`.
    pub report_zone: String,
    /// Where the API listens, `[api] listen`; an address that [`Access::check_listen`] allows.
    pub listen: SocketAddr,
    /// How long the headers of a request may take, and how long a connection may be idle, `[api]
    /// header_timeout`, in milliseconds.
    pub header_timeout_ms: u64,
    /// How many connections may be open at once, `[api] connections_max`.
    pub connections_max: usize,
    /// Who is told of alerts, `[[notify]]`.
    pub receivers: Vec<Receiver>,
    /// Of which, `[[route]]`.
    pub routes: Routes,
    /// When nobody is, `[[silence]]`; the table may hold further ones.
    pub silences: Vec<Silence>,
    /// How many burning and how many of the largest customers have gauges of their own,
    /// `[metrics] customers_max`; 0 = none.
    pub metrics_customers_max: usize,
    /// Where these gauges are sent, `[remote_write]`.
    pub remote_write: Option<RemoteWrite>,
    /// Who may ask, `[[api.token]]` and `[api] insecure`, `tls_certificate` and `tls_key`.
    pub access: Access,
    /// What `run` reads, `[[source.file]]`, `[source.stdin]`, `[source.http]`
    /// and `[source.kafka]`.
    pub sources: Sources,
    /// How what is sent to us is kept before it is counted, `[wal]`; its
    /// [`keep_records`](wal::Options::keep_records) is the dedupe window.
    pub wal: wal::Options,
    /// Where, `[wal] dir`; `None` = `wal` beside the table.
    pub wal_dir: Option<PathBuf>,
    /// Longest time between two commits, `[run] commit_interval`, in milliseconds.
    pub commit_interval_ms: u64,
    /// Most lines of one epoch, `[run] epoch_events_max`: reached sooner, it commits sooner.
    pub epoch_events_max: usize,
    /// How long a stop may take until the process ends with something uncommitted, `[run]
    /// stop_timeout`, in milliseconds.
    pub stop_timeout_ms: u64,
    /// How often a snapshot of memory is written beside the table, `[run] snapshot_interval`, in
    /// milliseconds; 0 = never, and none is read.
    pub snapshot_interval_ms: u64,
    /// Worker threads, `[run] threads`; `None` = one per core.
    pub threads: Option<usize>,
}

/// What `run` reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// Files, in the order of the configuration.
    pub files: Vec<FileSource>,
    /// Piped standard input, where configured.
    pub stdin: Option<StdinSource>,
    /// Topics, where configured.
    pub kafka: Option<KafkaSource>,
    /// `POST /v1/events`, where configured.
    pub http: Option<HttpSource>,
}

/// One `[[source.file]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSource {
    /// Paths and globs, at least one.
    pub paths: Vec<String>,
    /// Whether to wait for more at the end, rotation included.
    pub follow: bool,
    /// Its format; `None` = that of `[decode]`.
    pub format: Option<Format>,
    /// Service of events that name none.
    pub service: Option<String>,
}

/// `[source.stdin]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StdinSource {
    /// Its format; `None` = that of `[decode]`.
    pub format: Option<Format>,
    /// Service of events that name none.
    pub service: Option<String>,
}

/// `[source.http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// Longest body as it is sent, `body_bytes_max`.
    pub body_bytes_max: u64,
    /// Longest body once it is inflated, `decoded_bytes_max`.
    pub decoded_bytes_max: u64,
}

impl Default for HttpSource {
    fn default() -> Self {
        HttpSource { body_bytes_max: 4 << 20, decoded_bytes_max: 32 << 20 }
    }
}

/// Most values of a dimension per service and day; DESIGN names 1,000.
const DIMENSION_VALUES_MAX: usize = 1_000;
/// Many thousand entries of the log.
const RESERVE_BYTES: u64 = 64 << 20;
/// Ten seconds of uncommitted lines are re-read after a crash: a second's work.
const COMMIT_INTERVAL_MS: u64 = 10_000;
/// Bounds the memory of an epoch: about a second of the fastest stream on two cores.
const EPOCH_EVENTS_MAX: usize = 1_000_000;
/// Less than what service managers wait before they kill.
const STOP_TIMEOUT_MS: u64 = 30_000;
/// A few dozen log entries are followed after a crash; three gigabytes of memory are written at
/// 1.7 MB/s on average.
const SNAPSHOT_INTERVAL_MS: u64 = 1_800_000;
/// Long for a head of some kilobytes, short for whoever means to hold connections open.
const HEADER_TIMEOUT_MS: u64 = 30_000;
/// A fraction of the file descriptors that services get.
const CONNECTIONS_MAX: usize = 1_024;
/// Loopback: without tokens nobody else may ask.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8089);
/// Some thousand series, which a Prometheus does not notice.
const METRICS_CUSTOMERS_MAX: usize = 100;
/// Less than even odds would be no evidence.
const CONFIDENCE_MIN: Decimal = Decimal { units: 5, scale: 1 };
const CONFIDENCE_TAKES: &str = "0.5 or more and less than 1, such as 0.999";
const ROUTES_TAKE: &str = "route patterns such as \"/orders/{id}\" or \"GET /orders/{id}\"";

/// A native field that may have another name in a source, and where its name is kept.
type Field = (&'static str, fn(&mut Fields) -> &mut String);

/// The native fields.
const FIELDS: [Field; 13] = [
    ("ts", |fields| &mut fields.ts),
    ("customer", |fields| &mut fields.customer),
    ("service", |fields| &mut fields.service),
    ("route", |fields| &mut fields.route),
    ("status", |fields| &mut fields.status),
    ("outcome", |fields| &mut fields.outcome),
    ("latency_ms", |fields| &mut fields.latency_ms),
    ("latency_us", |fields| &mut fields.latency_us),
    ("release", |fields| &mut fields.release),
    ("cohort", |fields| &mut fields.cohort),
    ("region", |fields| &mut fields.region),
    ("id", |fields| &mut fields.id),
    ("count", |fields| &mut fields.count),
];

impl Default for Config {
    fn default() -> Self {
        Config {
            data: None,
            reserve_bytes: RESERVE_BYTES,
            slis: Slis::default(),
            objectives: Objectives::default(),
            pools: Arc::default(),
            alerts: AlertOptions::default(),
            decode: decode::Options::default(),
            dimension_values_max: DIMENSION_VALUES_MAX,
            dedupe_window_bytes: 0,
            dedupe_window_records: 0,
            memory: Memory::default(),
            credits: Vec::new(),
            report_zone: "UTC".to_owned(),
            listen: LISTEN,
            header_timeout_ms: HEADER_TIMEOUT_MS,
            connections_max: CONNECTIONS_MAX,
            access: Access::default(),
            receivers: Vec::new(),
            routes: Routes::default(),
            silences: Vec::new(),
            metrics_customers_max: METRICS_CUSTOMERS_MAX,
            remote_write: None,
            sources: Sources::default(),
            wal: wal::Options::default(),
            wal_dir: None,
            commit_interval_ms: COMMIT_INTERVAL_MS,
            epoch_events_max: EPOCH_EVENTS_MAX,
            stop_timeout_ms: STOP_TIMEOUT_MS,
            snapshot_interval_ms: SNAPSHOT_INTERVAL_MS,
            threads: None,
        }
    }
}

impl Config {
    /// Reads a TOML text; `file` is its name in messages.
    ///
    /// ```
    /// use ninefold_engine::config::Config;
    /// let config = Config::parse("[run]\ncommit_interval = \"5s\"", "ninefold.toml").unwrap();
    /// assert_eq!(config.commit_interval_ms, 5_000);
    /// assert_eq!(Config::parse("", "empty.toml").unwrap(), Config::default());
    /// ```
    ///
    /// # Errors
    /// Every problem of the text, by line: no TOML, unknown keys, wrong types, values out of
    /// range, names that are taken or that nothing has.
    pub fn parse(text: &str, file: &str) -> Result<Config, Problems> {
        let (document, errors) = toml::de::DeTable::parse_recoverable(text);
        let reader = Reader::new(text, &errors);
        let config = read(&reader.root(document.get_ref()));
        match reader.into_problems(file) {
            Some(problems) => Err(problems),
            None => Ok(config),
        }
    }
}

/// Reads all tables; what is wrong stays at its default and is reported by the reader.
fn read(root: &Section<'_>) -> Config {
    let mut config = Config::default();
    read_table(root.section("table"), &mut config);
    read_report(root.section("report"), &mut config);
    config.slis = promise::slis(root);
    config.objectives = promise::objectives(root, &config.slis, &config.report_zone);
    config.pools = Arc::new(pool::pools(root, &config.objectives));
    config.slis.maintenance = maintenance::maintenance(root, &config.objectives);
    read_alerts(root.section("alerts"), &mut config.alerts);
    read_decode(root.section("decode"), &mut config.decode);
    read_dimensions(root.section("dimensions"), &mut config);
    read_dedupe(root.section("dedupe"), &mut config);
    memory::read_memory(root.section("memory"), &mut config.memory);
    read_api(root.section("api"), &mut config);
    config.receivers = receiver::receivers(root);
    config.routes = route::routes(root, &config.receivers);
    config.silences = route::silences(root);
    read_metrics(root, &mut config);
    read_sources(root.section("source"), &mut config.sources);
    read_wal(root.section("wal"), &mut config);
    read_run(root.section("run"), &mut config);
    root.finish();
    config
}

fn read_table(section: Section<'_>, config: &mut Config) {
    config.data = section.name("dir", "a folder").map(PathBuf::from);
    set(&mut config.reserve_bytes, section.size_bytes("reserve", 0..=16 << 30));
    section.finish();
}

fn read_report(section: Section<'_>, config: &mut Config) {
    if let Some(zone) = promise::zone(&section, "zone") {
        config.report_zone = zone.to_owned();
    }
    for step in section.sections("credits") {
        config.credits.extend(credit_step(&step, config.credits.last()));
        step.finish();
    }
    section.finish();
}

/// Reads one step; `above` is the step before it.
fn credit_step(section: &Section<'_>, above: Option<&CreditStep>) -> Option<CreditStep> {
    let below = section.ratio("below");
    let percent = percent(section);
    for key in ["below", "percent"].into_iter().filter(|key| !section.has(key)) {
        section.missing(key, "a number, such as below = 0.999 and percent = 10");
    }
    let step = CreditStep { below: below?, percent: percent? };
    if above.is_some_and(|above| step.below >= above.below) {
        section.problem("below", "is not under the step before it", "takes falling ratios");
    }
    if above.is_some_and(|above| step.percent <= above.percent) {
        section.problem("percent", "is not over the step before it", "takes rising credits");
    }
    Some(step)
}

fn percent(section: &Section<'_>) -> Option<f64> {
    let takes = "more than 0, at most 100";
    let percent = section.decimal("percent", takes)?;
    let inside = percent > Decimal::ZERO && percent <= Decimal { units: 100, scale: 0 };
    if !inside {
        section.out_of_range("percent", percent, takes);
    }
    inside.then(|| percent.to_f64())
}

fn read_alerts(section: Section<'_>, alerts: &mut AlertOptions) {
    let confidence = section.decimal("confidence", CONFIDENCE_TAKES).filter(|confidence| {
        let inside = confidence.is_target() && *confidence >= CONFIDENCE_MIN;
        if !inside {
            section.out_of_range("confidence", confidence, CONFIDENCE_TAKES);
        }
        inside
    });
    set(&mut alerts.confidence, confidence.map(Decimal::to_f64));
    set(&mut alerts.min_bad, section.whole("min_bad", 1..=1_000_000));
    set(&mut alerts.min_valid, section.whole("min_valid", 1..=1_000_000));
    let keep_ms = section.duration_ms("keep_firing_for", 0..=86_400_000);
    let minutes = |key, ms: Option<u64>| ms.and_then(|ms| whole_minutes(&section, key, ms));
    set(&mut alerts.keep_firing_for_minutes, minutes("keep_firing_for", keep_ms));
    let after_ms = section.duration_ms("silence_after", 0..=86_400_000);
    let after = minutes("silence_after", after_ms).or(alerts.silence_after_minutes);
    alerts.silence_after_minutes = after.filter(|_| section.flag("silence").unwrap_or(true));
    section.finish();
}

/// Alerts step by minutes, so that a shorter time would be rounded.
fn whole_minutes(section: &Section<'_>, key: &'static str, ms: u64) -> Option<u32> {
    let minute_ms = MINUTE_MS as u64;
    if !ms.is_multiple_of(minute_ms) {
        let what = format!("{:?} is no whole number of minutes", value::duration_text(ms));
        section.problem(key, what, "takes minutes, such as \"5m\"");
        return None;
    }
    u32::try_from(ms / minute_ms).ok()
}

fn read_decode(section: Section<'_>, decode: &mut decode::Options) {
    set(&mut decode.format, format(&section));
    decode.service = service(&section);
    decode.customer_field =
        section.name("customer_field", "the name of a field").map(str::to_owned);
    for route in section.names("routes", ROUTES_TAKE).unwrap_or_default() {
        let path = route.split_once(' ').map_or(route, |(_, path)| path);
        if !path.starts_with('/') {
            section.problem(
                "routes",
                format!("{route:?} has no path"),
                format!("takes {ROUTES_TAKE}"),
            );
        }
        decode.routes.push(route.to_owned());
    }
    let names = section.section("fields");
    for (field, place) in FIELDS {
        let path = names.name(field, "the path of a field, such as \"account.id\"");
        set(place(&mut decode.fields), path.map(str::to_owned));
    }
    names.finish();
    section.finish();
}

fn format(section: &Section<'_>) -> Option<Format> {
    section.choice("format", &Format::ALL.map(|(format, name)| (name, format)))
}

fn read_dimensions(section: Section<'_>, config: &mut Config) {
    for name in section.names("attributes", "field names").unwrap_or_default() {
        if config.decode.attributes.iter().any(|other| other == name) {
            section.problem("attributes", format!("{name:?} stands twice"), "names are unique");
        } else if FIELDS.iter().any(|(field, _)| *field == name) {
            let what = format!("{name:?} is a field of every event");
            section.problem("attributes", what, "takes further fields");
        } else {
            config.decode.attributes.push(name.to_owned());
        }
    }
    if config.decode.attributes.len() > ATTRIBUTES_MAX {
        let what = format!("holds {} names", config.decode.attributes.len());
        section.problem("attributes", what, format!("takes at most {ATTRIBUTES_MAX}"));
    }
    let values_max = section.whole("values_max", 1..=100_000).map(|count| count as usize);
    set(&mut config.dimension_values_max, values_max);
    section.finish();
}

fn read_dedupe(section: Section<'_>, config: &mut Config) {
    set(&mut config.dedupe_window_bytes, section.size_bytes("window_bytes", 0..=64 << 30));
    set(&mut config.dedupe_window_records, section.whole("window_records", 0..=1_000_000_000));
    section.finish();
}

fn read_api(section: Section<'_>, config: &mut Config) {
    config.access = access::read(&section);
    set(&mut config.header_timeout_ms, section.duration_ms("header_timeout", 100..=300_000));
    let connections = section.whole("connections_max", 16..=100_000);
    set(&mut config.connections_max, connections.map(|count| count as usize));
    let takes = "an address and port such as \"127.0.0.1:8089\"";
    if let Some(text) = section.text("listen", takes) {
        match text.parse().map(|address| config.access.check_listen(address)) {
            Ok(Ok(address)) => config.listen = address,
            Ok(Err(error)) => {
                let error = error.to_string();
                let (what, takes) = error.split_once("; ").unwrap_or((&error, ""));
                section.problem("listen", what, takes);
            }
            Err(_) => {
                section.problem(
                    "listen",
                    format!("{text:?} is no address"),
                    format!("takes {takes}"),
                );
            }
        }
    }
    section.finish();
}

fn read_metrics(root: &Section<'_>, config: &mut Config) {
    let metrics = root.section("metrics");
    let customers = metrics.whole("customers_max", 0..=1_000).map(|count| count as usize);
    set(&mut config.metrics_customers_max, customers);
    metrics.finish();
    let section = root.section("remote_write");
    config.remote_write = remote_write::remote_write(&section);
    section.finish();
}

fn read_sources(section: Section<'_>, sources: &mut Sources) {
    for file in section.sections("file") {
        let paths = file.names("paths", "paths or globs").map(|paths| {
            if paths.is_empty() {
                file.problem("paths", "is empty", "takes a list of paths or globs");
            }
            paths.into_iter().map(str::to_owned).collect()
        });
        if !file.has("paths") {
            file.missing("paths", "a list of paths or globs");
        }
        let follow = file.flag("follow").unwrap_or(true);
        let (format, service) = (format(&file), service(&file));
        sources.files.extend(paths.map(|paths| FileSource { paths, follow, format, service }));
        file.finish();
    }
    let stdin = section.section("stdin");
    let options = StdinSource { format: format(&stdin), service: service(&stdin) };
    sources.stdin = stdin.is_present().then_some(options);
    stdin.finish();
    let kafka = section.section("kafka");
    sources.kafka = kafka::kafka(&kafka, format(&kafka));
    kafka.finish();
    let http = section.section("http");
    let mut options = HttpSource::default();
    let bytes = 1 << 10..=256 << 20;
    set(&mut options.body_bytes_max, http.size_bytes("body_bytes_max", bytes.clone()));
    set(&mut options.decoded_bytes_max, http.size_bytes("decoded_bytes_max", bytes));
    sources.http = http.is_present().then_some(options);
    http.finish();
    section.finish();
}

fn read_wal(section: Section<'_>, config: &mut Config) {
    config.wal_dir = section.name("dir", "a folder").map(PathBuf::from);
    let wal = &mut config.wal;
    let bytes = 1 << 20..=1 << 40;
    set(&mut wal.uncommitted_bytes_max, section.size_bytes("uncommitted_bytes_max", bytes.clone()));
    set(&mut wal.horizon_bytes, section.size_bytes("idempotency_bytes", bytes));
    let horizon_ms = section.duration_ms("idempotency_horizon", 60_000..=30 * 86_400_000);
    set(&mut wal.horizon_ms, horizon_ms.map(|ms| ms as i64));
    let keys = section.whole("idempotency_keys_max", 1_000..=100_000_000);
    set(&mut wal.keys_max, keys.map(|count| count as usize));
    let http = config.sources.http.clone().unwrap_or_default();
    if wal.uncommitted_bytes_max < 2 * http.decoded_bytes_max {
        let what = "is less than twice what one body may hold";
        let takes = "takes more, or a smaller decoded_bytes_max under [source.http]";
        section.problem("uncommitted_bytes_max", what, takes);
    }
    wal.keep_records = config.dedupe_window_records;
    wal.queue_bytes_max = config.memory.wal_bytes;
    section.finish();
}

fn service(section: &Section<'_>) -> Option<String> {
    section.name("service", "a service name").map(str::to_owned)
}

fn read_run(section: Section<'_>, config: &mut Config) {
    set(&mut config.commit_interval_ms, section.duration_ms("commit_interval", 100..=600_000));
    let events = section.whole("epoch_events_max", 1_000..=100_000_000);
    set(&mut config.epoch_events_max, events.map(|count| count as usize));
    set(&mut config.stop_timeout_ms, section.duration_ms("stop_timeout", 1_000..=600_000));
    let snapshots = section.duration_ms("snapshot_interval", 0..=86_400_000);
    set(&mut config.snapshot_interval_ms, snapshots);
    config.threads = section.whole("threads", 1..=1_024).map(|count| count as usize);
    section.finish();
}

/// Puts a value in place where one was read.
fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
mod tests;
