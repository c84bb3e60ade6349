//! The commented configuration that `ninefold init` writes.
//!
//! Every key stands in it, as `#key = value`, with a sentence on what it does; prose has a
//! space behind its `#`. The tables are there and empty, so that as written it is the default
//! configuration, and taking the `#` off a line changes that one thing. A sample log fills in
//! its own format, customer field and file.

use super::promise::PERIOD_DAYS;
use super::value::{duration_text, one_of, size_text};
use super::{Config, GROUP, HttpSource};
use crate::decode::Format;
use crate::slo::objective::TARGET_DEFAULT;
use crate::slo::sli::THRESHOLD_US_DEFAULT;

/// What was seen in a sample log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Its path, as it shall stand in `[[source.file]]`.
    pub path: String,
    /// Its detected format, one of those of `[decode] format`.
    pub format: String,
    /// The field that seems to name the customer, where it is not the format's own.
    pub customer_field: Option<String>,
    /// Services seen, in no order.
    pub services: Vec<String>,
}

/// The text of a configuration that is the default, or that reads `sample`.
///
/// ```
/// use ninefold_engine::config::{Config, template};
/// assert_eq!(Config::parse(&template(None), "ninefold.toml").unwrap(), Config::default());
/// ```
pub fn template(sample: Option<Sample>) -> String {
    let config = Config::default();
    let sample = sample.as_ref();
    [
        HEAD.to_owned(),
        table_text(&config),
        source_text(sample),
        push_text(&config),
        decode_text(sample),
        promise_text(),
        SCOPES.to_owned(),
        alerts_text(&config),
        rest_text(&config, sample),
    ]
    .concat()
}

const HEAD: &str = "\
# Configuration of Ninefold. Lines such as #key = value show what holds without them;
# take the # off to change it. `ninefold check FILE` tells what is wrong, or what it means.
# Every key with its range: docs/configuration.md.
";

const SCOPES: &str = r#"
# A tier of customers. It inherits by name: what is left unsaid is as above.
#[tier.enterprise]
#customers = ["globex", "initech"]
#[[tier.enterprise.objective]]
#name = "availability"
#target = 0.999

# One customer, and one of its services.
#[customer."acme"]
#tier = "enterprise"
#[[customer."acme".objective]]
#name = "availability"
#service = "inbox"
#target = 0.9995

# Who is too small for evidence is judged with others: with those of their tier, or of a pool.
#[[pool]]
#name = "trials"
#customers = ["trial-*"]
"#;

fn table_text(config: &Config) -> String {
    format!(
        "
# Where the counts are kept: a Delta Lake table that other tools can read.
[table]
#dir = \"ninefold-data\"
# Room for the log entries of a full disk.
#reserve = \"{reserve}\"
",
        reserve = size_text(config.reserve_bytes),
    )
}

fn source_text(sample: Option<&Sample>) -> String {
    let on = if sample.is_some() { "" } else { "#" };
    let path = quoted(sample.map_or("/var/log/nginx/access*.log", |sample| &sample.path));
    let format = quoted(sample.map_or("auto", |sample| &sample.format));
    format!(
        "
# What `ninefold run` reads: files by path or glob. With follow it waits for more lines.
{on}[[source.file]]
{on}paths = [{path}]
{on}format = {format}
#follow = true
#service = \"default\"

# Piped standard input.
#[source.stdin]
#format = \"auto\"
#service = \"default\"

# Topics of Kafka. Instances of one group share the partitions and one table.
#[source.kafka]
#brokers = [\"127.0.0.1:9092\"]
#topics = [\"requests\"]
#group = \"{GROUP}\"
# Where a new topic begins: earliest, latest or a time. The table says where it goes on.
#start = \"earliest\"
# Offsets that are missing: verify, refuse, or accept for transactional topics.
#holes = \"verify\"
# A partition that is full of dead letters: pause or count.
#flood = \"pause\"
# Topics that get what the table holds of dead letters and alert transitions.
#dead_letters_topic = \"ninefold-dead\"
#alerts_topic = \"ninefold-alerts\"
#format = \"ndjson\"
#service = \"default\"
# Settings of librdkafka; secrets as {{ env = \"NAME\" }} or {{ file = \"path\" }}.
#options = {{ \"session.timeout.ms\" = 45000 }}
"
    )
}

fn push_text(config: &Config) -> String {
    let (http, wal) = (HttpSource::default(), &config.wal);
    format!(
        "
# Events that are sent to us: POST /v1/events, one JSON object a line, or a JSON array.
#[source.http]
#body_bytes_max = \"{body}\"
#decoded_bytes_max = \"{decoded}\"

# What is sent or piped to us is durable here before it is acknowledged.
[wal]
#dir = \"ninefold-data/wal\"
# So much may wait to be counted; more is refused until commits come.
#uncommitted_bytes_max = \"{uncommitted}\"
# For how long, how many bytes and how many requests an Idempotency-Key is known.
#idempotency_horizon = \"{horizon}\"
#idempotency_bytes = \"{bytes}\"
#idempotency_keys_max = {keys}
",
        body = size_text(http.body_bytes_max),
        decoded = size_text(http.decoded_bytes_max),
        uncommitted = size_text(wal.uncommitted_bytes_max),
        horizon = duration_text(wal.horizon_ms as u64),
        bytes = size_text(wal.horizon_bytes),
        keys = wal.keys_max,
    )
}

fn decode_text(sample: Option<&Sample>) -> String {
    let formats = one_of(&Format::ALL.map(|(_, name)| name));
    // The native form maps all its names; access logs have one key for the customer.
    let field =
        sample.and_then(|sample| Some((&*sample.format, sample.customer_field.as_deref()?)));
    let (mapped, access) = match field {
        Some(("ndjson" | "parquet", field)) => (Some(field), None),
        Some((_, field)) => (None, Some(field)),
        None => (None, None),
    };
    let mapped = setting("customer", mapped, "account.id");
    let access = setting("customer_field", access, "user");
    format!(
        "
# How lines become events. Formats: {formats}.
[decode]
#format = \"auto\"
#service = \"default\"
# Which field of an access log is the customer; the client address unless set.
{access}
# Routes by pattern, the first match wins; otherwise numbers and ids become {{id}}.
#routes = [\"/v1/orders/{{id}}\"]

# Where a field of the native form (one JSON object a line) has another name in yours.
[decode.fields]
{mapped}
#ts = \"time\"
#service = \"svc\"
#route = \"endpoint\"
#status = \"response.status\"
#outcome = \"result\"
#latency_ms = \"elapsed_ms\"
#latency_us = \"elapsed_us\"
#release = \"version\"
#cohort = \"group\"
#region = \"zone\"
#id = \"request_id\"
#count = \"n\"
"
    )
}

fn promise_text() -> String {
    let (target, threshold_ms) = (TARGET_DEFAULT, THRESHOLD_US_DEFAULT / 1_000);
    format!(
        "
# How events are sorted into good, bad and excluded. Two are always there: availability
# (bad = statuses 500-599) and latency (good events slower than {threshold_ms} ms).
#[[sli]]
#name = \"availability\"
#kind = \"availability\"
#bad = [\"500-599\"]
#excluded = []
#[[sli]]
#name = \"latency\"
#kind = \"latency\"
#threshold_ms = {threshold_ms}
#[[sli]]
#name = \"checkout\"
#services = [\"shop\"]
#routes = [\"POST /checkout*\"]

# What is promised to everyone. A period is rolling ({PERIOD_DAYS}d) or calendar (month, quarter).
#[[objective]]
#name = \"availability\"
#sli = \"availability\"
#target = {target}
#period = \"{PERIOD_DAYS}d\"
#tiers = {{ ticket_3d = {{ enabled = false }}, page_1h = {{ factor = 14.4, min_bad = 3 }} }}
#[[objective]]
#name = \"contract\"
#sli = \"availability\"
#target = {target}
#period = \"month\"
#zone = \"UTC\"
"
    )
}

fn alerts_text(config: &Config) -> String {
    let alerts = &config.alerts;
    format!(
        "
# When a burning objective fires, and when it resolves.
[alerts]
# Evidence: the chance of so many failures at the target is at most 1 - confidence.
#confidence = {}
# Fewest bad events in the long window, and fewest valid ones in the short to resolve.
#min_bad = {}
#min_valid = {}
#keep_firing_for = \"{}\"
# Whether it alerts where many customers fall silent together, and how long events have to be
# of now before anybody is missed.
#silence = true
#silence_after = \"{}\"
",
        alerts.confidence,
        alerts.min_bad,
        alerts.min_valid,
        duration_text(u64::from(alerts.keep_firing_for_minutes) * 60_000),
        duration_text(u64::from(alerts.silence_after_minutes.unwrap_or(0)) * 60_000),
    )
}

fn rest_text(config: &Config, sample: Option<&Sample>) -> String {
    let mut services = sample.map_or(Vec::new(), |sample| sample.services.clone());
    services.sort();
    let seen = if services.is_empty() {
        String::new()
    } else {
        let names: Vec<String> = services.iter().map(|name| quoted(name)).collect();
        format!("# Services in the sample: {}.\n", names.join(", "))
    };
    format!(
        "
# Further fields that may explain failures, at most 4, and how many values of each are kept
# per service and day.
[dimensions]
#attributes = [\"flag\"]
#values_max = {values_max}
{seen}
# An id seen again within so much text of its source is counted once; 0B = off.
[dedupe]
#window_bytes = \"{window}\"
#window_records = {records}

# Memory: all of it (75% of the machine or control group unless set), and its parts. Where
# uncommitted events or series reach their part, it is committed sooner, and customers that
# were idle longest are dropped from memory, to be loaded again where they are asked for.
[memory]
#total = \"2GiB\"
#queue = \"{queue}\"
#uncommitted = \"512MiB\"
#series = \"1GiB\"
#dedupe = \"{dedupe}\"
#wal = \"{wal}\"
#new_customers_per_minute = {new_customers}

# Calendar months are counted in this zone. Credits: the share of the bill that is owed.
[report]
#zone = \"{zone}\"
#[[report.credits]]
#below = 0.998
#percent = 10
#[[report.credits]]
#below = 0.99
#percent = 25

# API and pages. Without tokens on the loopback only. `ninefold token` makes a token.
[api]
#listen = \"{listen}\"
# TLS: a chain of certificates and the private key, both PEM; read again when they change.
#tls_certificate = \"/etc/ninefold/tls.crt\"
#tls_key = \"/etc/ninefold/tls.key\"
# Whether tokens may be sent in the clear, as behind a proxy that speaks TLS.
#insecure = false
# How long headers may take, and a connection be idle; how many may be open.
#header_timeout = \"{header_timeout}\"
#connections_max = {connections_max}
#[[api.token]]
#name = \"gateway\"
#role = \"ingest\"
#sha256 = \"{no_hash}\"
#expires = \"2030-01-01T00:00:00Z\"
#requests_per_second = 50
#bytes_per_second = \"4MiB\"

# Who is told of alerts: a webhook, an Alertmanager, PagerDuty, a topic of Kafka or a program.
#[[notify]]
#name = \"alertmanager\"
#kind = \"alertmanager\"
#url = \"http://127.0.0.1:9093\"
#allow = [\"127.0.0.1/32\"]
#severities = [\"page\", \"ticket\"]
#each = \"incident\"
#[[notify]]
#name = \"roll-back\"
#kind = \"webhook\"
#each = \"verdict\"
#url = \"https://deploy.example.com/hooks/ninefold\"
#secret = {{ env = \"NINEFOLD_WEBHOOK_SECRET\" }}
#[[notify]]
#name = \"on-call\"
#kind = \"pagerduty\"
#secret = {{ file = \"/run/secrets/pagerduty\" }}
#timeout = \"10s\"
#[[notify]]
#name = \"chat\"
#kind = \"webhook\"
#url = \"https://chat.example.com/hooks/7\"
#content_type = \"application/json\"
#template = '{{\"text\": {{{{ summary }}}}}}'
#[[notify]]
#name = \"topic\"
#kind = \"kafka\"
#brokers = [\"kafka-1:9092\"]
#topic = \"alerts\"
#options = {{ \"security.protocol\" = \"plaintext\" }}
#[[notify]]
#name = \"script\"
#kind = \"command\"
#command = [\"/usr/local/bin/roll-back\", \"--now\"]
#each = \"alert\"

# Who is told of what: the first route that picks an alert decides, unless it continues.
# Without any route every receiver is told of everything at once.
#[[route]]
#receivers = [\"script\"]
#tiers = [\"rollout_5m\"]
#services = [\"api\", \"inbox-*\"]
#objectives = [\"availability\"]
#continue = true
#[[route]]
#receivers = [\"on-call\"]
#severities = [\"page\"]
#customers = [\"acme\"]
#customer_tiers = [\"gold\"]
#[[route]]
#receivers = [\"alertmanager\", \"chat\"]
#group_by = [\"service\"]
#group_wait = \"0s\"
#group_interval = \"0s\"
#repeat_interval = \"4h\"

# When nobody is told. `ninefold silence` and POST /v1/silences make further ones.
#[[silence]]
#author = \"ops\"
#reason = \"the vendor mends it on Monday\"
#from = \"2026-11-01T12:00:00Z\"
#to = \"2026-11-02T12:00:00Z\"
#customers = [\"acme\"]
#services = [\"reports\"]
#objectives = [\"availability\"]
#tiers = [\"ticket_*\"]
#severities = [\"ticket\"]
#customer_tiers = [\"gold\"]

# Minutes whose events are excluded as they are counted, once or again and again.
#[[maintenance]]
#reason = \"database upgrade\"
#from = \"2026-11-01T02:00:00Z\"
#to = \"2026-11-01T04:00:00Z\"
#services = [\"api\"]
#[[maintenance]]
#reason = \"weekly maintenance\"
#rrule = \"FREQ=WEEKLY;BYDAY=SU\"
#start = \"2026-11-01T03:00\"
#zone = \"Europe/Berlin\"
#duration = \"2h\"
#customers = [\"acme\"]
#tiers = [\"enterprise\"]

# How many burning customers, and how many of the largest, /metrics has series of; 0 = none.
[metrics]
#customers_max = {metrics_customers}

# The same series, sent to a Prometheus or what speaks its remote-write.
#[remote_write]
#url = \"https://prometheus.example.com/api/v1/write\"
#interval = \"15s\"
#headers = {{ Authorization = {{ env = \"NINEFOLD_REMOTE_WRITE\" }} }}
#labels = {{ job = \"ninefold\" }}
#allow = [\"10.0.0.0/8\"]

# How much is counted between two commits, at most.
[run]
#commit_interval = \"{interval}\"
#epoch_events_max = {events}
# How long a stop may take. Then the process ends; what is uncommitted is read again.
#stop_timeout = \"{stop}\"
# How often a copy of memory is written beside the table, for a faster start; \"0s\" = never.
#snapshot_interval = \"{snapshot}\"
# As many threads as there are cores, unless set.
#threads = 2
",
        values_max = config.dimension_values_max,
        window = size_text(config.dedupe_window_bytes),
        records = config.dedupe_window_records,
        queue = size_text(config.memory.queue_bytes),
        dedupe = size_text(config.memory.dedupe_bytes),
        wal = size_text(config.memory.wal_bytes),
        new_customers = config.memory.new_customers_per_minute,
        zone = config.report_zone,
        listen = config.listen,
        header_timeout = duration_text(config.header_timeout_ms),
        connections_max = config.connections_max,
        no_hash = "0".repeat(64),
        metrics_customers = config.metrics_customers_max,
        interval = duration_text(config.commit_interval_ms),
        events = config.epoch_events_max,
        stop = duration_text(config.stop_timeout_ms),
        snapshot = duration_text(config.snapshot_interval_ms),
    )
}

/// A line that sets `key` to what was found, or that shows an example, switched off.
fn setting(key: &str, found: Option<&str>, example: &str) -> String {
    match found {
        Some(found) => format!("{key} = {}", quoted(found)),
        None => format!("#{key} = {}", quoted(example)),
    }
}

/// A TOML string of `text` on one line, whatever it holds: line breaks would end a comment.
pub(super) fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}
