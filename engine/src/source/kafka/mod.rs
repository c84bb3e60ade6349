//! Kafka as a source: the parts that need no broker, and the client's settings.
//!
//! What talks to the broker is the service's thread; what it decides on the way stands here, so
//! that it can be tested alone: how a partition is called ([`name`]), whether its log is still
//! the one that was counted ([`place`]), how records become chunks ([`batch`]), and when a
//! partition is paused because almost nothing in it can be read ([`flood`]).

pub mod batch;
#[cfg(feature = "kafka")]
pub mod client;
pub mod flood;
pub mod place;

/// The partition's name in the table.
///
/// ```
/// assert_eq!(ninefold_engine::source::kafka::name("requests", 7), "kafka/requests/7");
/// ```
pub fn name(topic: &str, partition: i32) -> String {
    format!("kafka/{topic}/{partition}")
}

/// The topic and the number of the partition that has this name in the table.
///
/// ```
/// use ninefold_engine::source::kafka::split;
/// assert_eq!(split("kafka/requests/7"), Some(("requests", 7)));
/// assert_eq!(split("file/7"), None);
/// ```
pub fn split(name: &str) -> Option<(&str, i32)> {
    let (topic, number) = name.strip_prefix("kafka/")?.rsplit_once('/')?;
    Some((topic, number.parse().ok()?))
}

/// What people call it; the cluster's id stands first, so that a table knows its cluster again.
pub fn label(cluster: &str, topic: &str, partition: i32) -> String {
    format!("{cluster}/{topic}/{partition}")
}

/// The cluster that a label names; `None` where it is no label of a partition of `topic`.
///
/// ```
/// use ninefold_engine::source::kafka::{cluster_of, label};
/// assert_eq!(cluster_of(&label("a/b", "requests", 7), "requests", 7), Some("a/b"));
/// assert_eq!(cluster_of("requests/7", "requests", 8), None);
/// ```
pub fn cluster_of<'a>(label: &'a str, topic: &str, partition: i32) -> Option<&'a str> {
    label.strip_suffix(&format!("/{topic}/{partition}"))
}
