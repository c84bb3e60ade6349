//! `[source.kafka]`: which topics are counted, and how the client is told to reach them.
//!
//! A secret never stands in the configuration: it is named by the environment variable or the
//! file that holds it, and read when the client is made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::SecretFrom;
use super::reader::{Section, Written};
use crate::decode::Format;
use crate::source::guard::Holes;
use crate::time::parse_rfc3339;

/// `[source.kafka]`.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSource {
    /// Addresses to begin with, as `host:port`; at least one.
    pub brokers: Vec<String>,
    /// Topics, at least one; no patterns.
    pub topics: Vec<String>,
    /// Consumer group: instances of one group share the partitions.
    pub group: String,
    /// Where a topic begins that the table has never seen.
    pub start: KafkaStart,
    /// What missing offsets are worth.
    pub holes: Holes,
    /// Whether a partition is paused that is full of dead letters.
    pub pause_on_flood: bool,
    /// Topic that gets every dead letter of the table; `None` = nobody does.
    pub dead_letters_topic: Option<String>,
    /// Topic that gets every live alert transition of the table; `None` = nobody does.
    pub alerts_topic: Option<String>,
    /// Format of the records; `None` = that of `[decode]`, and the native one where that is
    /// `auto`.
    pub format: Option<Format>,
    /// Service of events that name none.
    pub service: Option<String>,
    /// Settings of the client library, by their names there.
    pub options: BTreeMap<String, KafkaOption>,
}

/// Where the counting of a new topic begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaStart {
    /// With the oldest record that is still there.
    #[default]
    Earliest,
    /// With what comes after the first start.
    Latest,
    /// With the first record at or after this time, in epoch milliseconds.
    At(i64),
}

/// The value of a setting of the client library, or where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaOption {
    /// Itself.
    Value(String),
    /// Elsewhere.
    Secret(SecretFrom),
}

/// The group where none is named.
pub const GROUP: &str = "ninefold";

/// Settings on which exactness rests: they are ours.
const OURS: [&str; 14] = [
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "isolation.level",
    "metadata.broker.list",
    "offset.store.method",
    "partition.assignment.strategy",
    "statistics.interval.ms",
];

/// Settings that hold secrets.
const SECRETS: [&str; 8] = [
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "ssl_key_pem",
    "ssl_keystore_password",
];

const START_TAKES: &str = "\"earliest\", \"latest\" or a time such as \"2026-11-01T00:00:00Z\"";

/// Reads the section; `None` where it is not written, or cannot be used.
pub(super) fn kafka(section: &Section<'_>, format: Option<Format>) -> Option<KafkaSource> {
    let list = |key, takes| required(section, key, takes);
    let brokers = list("brokers", "addresses such as \"kafka-1:9092\"");
    let topics = list("topics", "names of topics");
    let group = section.name("group", "a name").unwrap_or(GROUP).to_owned();
    let start = start(section).unwrap_or_default();
    let holes = [("verify", Holes::Verify), ("refuse", Holes::Refuse), ("accept", Holes::Accept)];
    let holes = section.choice("holes", &holes).unwrap_or_default();
    let flood = section.choice("flood", &[("pause", true), ("count", false)]);
    let dead_letters_topic = outlet(section, "dead_letters_topic", topics.as_deref());
    let alerts_topic = outlet(section, "alerts_topic", topics.as_deref());
    let service = section.name("service", "a service name").map(str::to_owned);
    if format == Some(Format::Parquet) {
        section.problem("format", "\"parquet\" is no format of records", "takes one of lines");
    }
    let options = options(section);
    Some(KafkaSource {
        brokers: brokers?,
        topics: topics?,
        group,
        start,
        holes,
        pause_on_flood: flood.unwrap_or(true),
        dead_letters_topic,
        alerts_topic,
        format,
        service,
        options,
    })
}

/// A list of names that has to be there where the section is.
fn required(section: &Section<'_>, key: &'static str, takes: &str) -> Option<Vec<String>> {
    let names = section.names(key, takes);
    if section.is_present() && !section.has(key) {
        section.missing(key, format!("a list of {takes}"));
    }
    if names.as_ref().is_some_and(Vec::is_empty) {
        section.problem(key, "is empty", format!("takes a list of {takes}"));
    }
    Some(names?.into_iter().map(str::to_owned).collect())
}

/// A topic that is written to; one that is counted as well would feed on itself.
fn outlet(section: &Section<'_>, key: &'static str, counted: Option<&[String]>) -> Option<String> {
    let topic = section.name(key, "the name of a topic")?;
    if counted.is_some_and(|counted| counted.iter().any(|one| one == topic)) {
        let what = format!("{topic:?} is counted as well");
        section.problem(key, what, "takes a topic that is not among topics");
    }
    Some(topic.to_owned())
}

fn start(section: &Section<'_>) -> Option<KafkaStart> {
    match section.text("start", START_TAKES)? {
        "earliest" => Some(KafkaStart::Earliest),
        "latest" => Some(KafkaStart::Latest),
        time => {
            let at_ms = parse_rfc3339(time.as_bytes());
            if at_ms.is_none() {
                let what = format!("{time:?} is no time");
                section.problem("start", what, format!("takes {START_TAKES}"));
            }
            at_ms.map(KafkaStart::At)
        }
    }
}

/// Reads the settings of the client library.
pub(super) fn options(section: &Section<'_>) -> BTreeMap<String, KafkaOption> {
    let mut options = BTreeMap::new();
    for (name, written) in section.settings("options") {
        if OURS.contains(&name) {
            let takes = "takes settings on which exactness does not rest";
            section.problem("options", format!("{name:?} is set by Ninefold"), takes);
        } else if SECRETS.contains(&name) && matches!(written, Written::Text(_)) {
            let takes = "takes { env = \"NAME\" } or { file = \"path\" } for a secret";
            section.problem("options", format!("{name:?} is a secret in plain sight"), takes);
        } else {
            let option = match written {
                Written::Text(text) => KafkaOption::Value(text),
                Written::Env(name) => KafkaOption::Secret(SecretFrom::Env(name.to_owned())),
                Written::File(path) => KafkaOption::Secret(SecretFrom::File(PathBuf::from(path))),
            };
            options.insert(name.to_owned(), option);
        }
    }
    options
}
