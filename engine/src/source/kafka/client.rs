//! The settings of the client library: those that exactness rests on, and what is passed through.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

use crate::config::{KafkaOption, KafkaSource, SecretError};

/// How the members of a group share partitions.
pub const STRATEGY: &str = "cooperative-sticky";

/// A secret is not where the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("Kafka options {key:?}: {source}")]
pub struct SettingsError {
    /// The setting.
    key: String,
    /// What is wrong.
    source: SecretError,
}

/// Settings that anybody needs to reach `brokers`: addresses, TLS, SASL. Debug-printing them
/// would print secrets: nobody does.
///
/// # Errors
/// A secret is not where the configuration says.
pub fn settings(
    brokers: &[String],
    options: &BTreeMap<String, KafkaOption>,
) -> Result<ClientConfig, SettingsError> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers.join(","));
    settings.set("client.id", "ninefold");
    for (key, option) in options {
        settings.set(key, value(key, option)?);
    }
    Ok(settings)
}

fn value(key: &str, option: &KafkaOption) -> Result<String, SettingsError> {
    match option {
        KafkaOption::Value(value) => Ok(value.clone()),
        KafkaOption::Secret(secret) => match secret.fetch() {
            Ok(secret) => Ok(secret.reveal().to_owned()),
            Err(source) => Err(SettingsError { key: key.to_owned(), source }),
        },
    }
}

/// The settings of the consumer. What bounds memory and time may be configured otherwise; what
/// decides which records are seen may not.
///
/// # Errors
/// As [`settings`].
pub fn consumer(source: &KafkaSource) -> Result<ClientConfig, SettingsError> {
    let mut consumer = settings(&source.brokers, &source.options)?;
    consumer.set("group.id", &source.group);
    for (key, value) in [
        // Positions are the table's: Kafka's are told after the fact, for lag monitors.
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // A position that the broker does not have is an error, never another position.
        ("auto.offset.reset", "error"),
        ("check.crcs", "true"),
        ("isolation.level", "read_committed"),
        ("group.protocol", "classic"),
        ("partition.assignment.strategy", STRATEGY),
        ("enable.partition.eof", "false"),
        ("statistics.interval.ms", "1000"),
    ] {
        consumer.set(key, value);
    }
    for (key, value) in [
        ("session.timeout.ms", "45000"),
        ("max.poll.interval.ms", "300000"),
        ("queued.max.messages.kbytes", "16384"),
        ("fetch.wait.max.ms", "100"),
        // A full queue is empty again in a fraction of the second that the library would wait.
        ("fetch.queue.backoff.ms", "10"),
    ] {
        if consumer.get(key).is_none() {
            consumer.set(key, value);
        }
    }
    Ok(consumer)
}

/// The settings of the producer: a record that was taken is on the brokers' disks, once as far
/// as this producer is concerned, and one that is not taken is told as such.
///
/// # Errors
/// As [`settings`].
pub fn producer(source: &KafkaSource) -> Result<ClientConfig, SettingsError> {
    let mut producer = settings(&source.brokers, &source.options)?;
    for (key, value) in
        [("enable.idempotence", "true"), ("acks", "all"), ("message.timeout.ms", "30000")]
    {
        producer.set(key, value);
    }
    Ok(producer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn source(options: &str) -> KafkaSource {
        let text = format!(
            "[source.kafka]\nbrokers = [\"a:1\", \"b:2\"]\ntopics = [\"t\"]\noptions = {options}"
        );
        Config::parse(&text, "f").unwrap().sources.kafka.unwrap()
    }

    #[test]
    fn what_exactness_rests_on_is_set_and_the_rest_may_be_changed() {
        let consumer = consumer(&source("{ \"session.timeout.ms\" = 6000 }")).unwrap();
        assert_eq!(consumer.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(consumer.get("group.id"), Some("ninefold"));
        assert_eq!(consumer.get("session.timeout.ms"), Some("6000"));
        assert_eq!(consumer.get("max.poll.interval.ms"), Some("300000"));
        assert_eq!(consumer.get("auto.offset.reset"), Some("error"));
        assert!(consumer.create_native_config().is_ok(), "the library knows each of them");
    }

    #[test]
    fn secrets_come_from_elsewhere_and_are_never_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let path = file.path().display();
        let text = format!("{{ \"sasl.password\" = {{ file = \"{path}\" }} }}");
        let of = |text: &str| {
            let source = source(text);
            settings(&source.brokers, &source.options)
        };
        assert_eq!(of(&text).unwrap().get("sasl.password"), Some("hunter2"));
        let text = "{ \"sasl.password\" = { env = \"NINEFOLD_NO_SUCH_VARIABLE\" } }";
        let error = of(text).unwrap_err().to_string();
        assert!(error.contains("NINEFOLD_NO_SUCH_VARIABLE"), "{error}");
    }
}
