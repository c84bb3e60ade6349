//! A topic of Kafka as a receiver: one idempotent producer that waits for every acknowledgement.
//!
//! A record's key is its idempotency key, so that repetitions lie in one partition and a compacted
//! topic keeps one of them. The library never sends a record twice by itself; we do where we did
//! not hear of it in time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use ninefold_engine::config::KafkaOption;
use ninefold_engine::notify::message::Message;
use ninefold_engine::source::kafka::client;
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};

use crate::states::lock;

/// How often it is looked whether a record was acknowledged.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How much longer than the library itself one waits for its word.
const PATIENCE: Duration = Duration::from_secs(1);

/// One topic.
pub struct Topic {
    producer: BaseProducer<Acknowledged>,
    name: String,
    limit: Duration,
}

/// What became of one record; `None` until that is known.
type Outcome = Arc<Mutex<Option<Result<(), String>>>>;

/// Notes what became of each record.
struct Acknowledged;

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Outcome;

    fn delivery(&self, result: &DeliveryResult<'_>, outcome: Outcome) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.to_string());
        *lock(&outcome) = Some(result);
    }
}

impl Topic {
    /// A producer for topic `name`; brokers are asked once there is something to send.
    ///
    /// # Errors
    /// A secret is not where the configuration says, or the library refuses its settings.
    pub fn new(
        brokers: &[String],
        name: &str,
        options: &BTreeMap<String, KafkaOption>,
        limit: Duration,
    ) -> anyhow::Result<Topic> {
        let mut settings = client::settings(brokers, options)?;
        let limit_ms = limit.as_millis().to_string();
        for (key, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", limit_ms.as_str()),
            ("linger.ms", "0"),
        ] {
            settings.set(key, value);
        }
        let producer = settings.create_with_context(Acknowledged);
        let producer = producer.context("the Kafka library refuses the options")?;
        Ok(Topic { producer, name: name.to_owned(), limit })
    }

    /// Sends a record and waits for its acknowledgement by all replicas in sync.
    ///
    /// # Errors
    /// There is none in time.
    pub fn send(&self, message: &Message) -> anyhow::Result<()> {
        let outcome = Outcome::default();
        let content_type = Header { key: "content-type", value: Some(&message.content_type) };
        let record = BaseRecord::with_opaque_to(&self.name, Arc::clone(&outcome))
            .key(&message.idempotency_key)
            .payload(&message.body)
            .headers(OwnedHeaders::new().insert(content_type));
        self.producer.send(record).map_err(|(error, _)| error)?;
        // The library gives up by itself after the limit, and says so.
        let since = Instant::now();
        while since.elapsed() < self.limit + PATIENCE {
            self.producer.poll(POLL_INTERVAL);
            if let Some(outcome) = lock(&outcome).take() {
                return outcome.map_err(|error| anyhow!("{}: {error}", self.name));
            }
        }
        // Where it comes after all, it is a repetition under the same key.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        bail!("{}: no acknowledgement within {} s", self.name, self.limit.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::config::FromClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::{Headers, Message as _};
    use rdkafka::mocking::MockCluster;

    fn message(key: &str) -> Message {
        Message {
            path: "",
            headers: Vec::new(),
            content_type: "application/json".to_owned(),
            idempotency_key: key.to_owned(),
            body: "{\"state\":\"firing\"}".to_owned(),
        }
    }

    #[test]
    fn a_record_is_acknowledged_and_carries_its_key() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("alerts", 1, 1).unwrap();
        let brokers = vec![cluster.bootstrap_servers()];
        let limit = Duration::from_secs(30);
        let topic = Topic::new(&brokers, "alerts", &BTreeMap::new(), limit).unwrap();
        topic.send(&message("i-firing")).unwrap();
        let mut settings = client::settings(&brokers, &BTreeMap::new()).unwrap();
        settings.set("group.id", "test").set("auto.offset.reset", "earliest");
        let consumer = BaseConsumer::from_config(&settings).unwrap();
        consumer.subscribe(&["alerts"]).unwrap();
        let since = Instant::now();
        let record = loop {
            assert!(since.elapsed() < limit, "no record");
            if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
                break record;
            }
        };
        assert_eq!(record.key(), Some(&b"i-firing"[..]));
        assert_eq!(record.payload(), Some(&b"{\"state\":\"firing\"}"[..]));
        let header = record.headers().unwrap().get(0);
        assert_eq!((header.key, header.value), ("content-type", Some(&b"application/json"[..])));
    }

    #[test]
    fn where_nobody_acknowledges_it_is_said_so_in_time() {
        let brokers = vec!["127.0.0.1:1".to_owned()];
        let limit = Duration::from_millis(500);
        let topic = Topic::new(&brokers, "alerts", &BTreeMap::new(), limit).unwrap();
        let error = topic.send(&message("i-firing")).unwrap_err().to_string();
        assert!(error.starts_with("alerts: "), "{error}");
    }
}
