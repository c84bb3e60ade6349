//! Whether topics keep their records long enough for somebody to count them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow};
use ninefold_engine::config::KafkaSource;
use ninefold_engine::source::kafka::client;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use crate::kafka::BROKER_LIMIT;
use crate::states::lock;

/// Records that are kept for less are gone before a service that fell in the evening is up again.
const RETENTION_MS_MIN: i64 = 24 * 3_600_000;

/// How often topics are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(3_600);

/// How long one waits after brokers that did not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// What is to be said of topics.
pub type Notes = Arc<Mutex<Vec<String>>>;

/// Starts the thread that looks at the topics of a source now and then.
///
/// # Errors
/// A secret is not where the configuration says.
pub fn watch(source: &KafkaSource, stop: Arc<AtomicBool>) -> anyhow::Result<Notes> {
    let (settings, topics) =
        (client::settings(&source.brokers, &source.options)?, source.topics.clone());
    let notes = Notes::default();
    let told = Arc::clone(&notes);
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let wait = match short(&settings, &topics) {
                Ok(short) => {
                    let mut told = lock(&told);
                    for note in short.iter().filter(|note| !told.contains(note)) {
                        eprintln!("ninefold: {note}");
                    }
                    *told = short;
                    LOOK_INTERVAL
                }
                // That brokers are away is told by whoever reads from them.
                Err(_) => RETRY_INTERVAL,
            };
            std::thread::park_timeout(wait);
        }
    });
    Ok(notes)
}

/// What is to be said of each topic of a source that keeps its records too shortly.
///
/// # Errors
/// A secret is not where the configuration says, or the brokers do not answer.
pub fn of(source: &KafkaSource) -> anyhow::Result<Vec<String>> {
    short(&client::settings(&source.brokers, &source.options)?, &source.topics)
}

fn short(settings: &ClientConfig, topics: &[String]) -> anyhow::Result<Vec<String>> {
    let client: AdminClient<DefaultClientContext> = settings.create().context("source.kafka")?;
    let options = AdminOptions::new().request_timeout(Some(BROKER_LIMIT));
    let asked: Vec<ResourceSpecifier<'_>> =
        topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let told = runtime.block_on(client.describe_configs(&asked, &options))?;
    let mut notes = Vec::new();
    for (topic, told) in topics.iter().zip(told) {
        // A topic that is not there yet is told by whoever waits for it.
        let Ok(told) = told else { continue };
        let value = |key| told.get(key).and_then(|entry| entry.value.as_deref());
        let policy =
            value("cleanup.policy").ok_or_else(|| anyhow!("{topic}: no cleanup.policy"))?;
        let kept_ms = value("retention.ms").and_then(|ms| ms.parse().ok());
        notes.extend(note(topic, policy, kept_ms));
    }
    Ok(notes)
}

/// What is to be said of a topic with this `cleanup.policy` and `retention.ms`.
fn note(topic: &str, policy: &str, kept_ms: Option<i64>) -> Option<String> {
    let kept_ms = kept_ms.filter(|ms| (0..RETENTION_MS_MIN).contains(ms))?;
    policy.split(',').any(|one| one.trim() == "delete").then(|| {
        format!(
            "topic {topic} keeps its records for {:.1} h (retention.ms {kept_ms}), less than a \
             day: what is not counted by then is a gap",
            kept_ms as f64 / 3_600_000.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_a_day_is_told_unless_nothing_is_deleted() {
        let hours = |hours: i64| Some(hours * 3_600_000);
        assert_eq!(note("t", "delete", hours(24)), None);
        assert_eq!(note("t", "delete", Some(-1)), None, "for ever");
        assert_eq!(note("t", "compact", hours(1)), None);
        assert_eq!(note("t", "delete", None), None);
        let told = note("t", "compact, delete", hours(6)).unwrap();
        assert!(told.starts_with("topic t keeps its records for 6.0 h (retention.ms 21600000)"));
    }
}
