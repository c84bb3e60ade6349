//! Metrics of the Kafka source: counters of all partitions, gauges of each.

use std::sync::atomic::AtomicU64;

use ninefold_engine::query::{Health, KafkaHealth, KafkaPartition};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Ratios, set};

/// Registers its metrics; none where there is no such source.
pub(super) fn register_kafka(registry: &mut Registry, health: &Health) {
    let kafka = &health.kafka;
    if *kafka == KafkaHealth::default() {
        return;
    }
    let counters = [
        ("ninefold_kafka_records", "Records taken since the start", kafka.records),
        ("ninefold_kafka_bytes", "Bytes of the records taken", kafka.bytes),
        ("ninefold_kafka_rebalances", "Changes of the partitions by the group", kafka.rebalances),
        ("ninefold_kafka_dropped", "Records that came again or too late", kafka.dropped),
        ("ninefold_kafka_holes", "Offsets without a record", kafka.holes),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::new(value));
    }
    let split = Gauge::<f64, AtomicU64>::default();
    split.set(health.split_customers as f64);
    let help = "Series with failures in several partitions: key events by customer";
    registry.register("ninefold_split_customers", help, split);
    let paused = Gauge::<f64, AtomicU64>::default();
    paused.set(f64::from(kafka.is_paused));
    registry.register("ninefold_kafka_paused", "1 while fetching waits for the loop", paused);
    type Value = fn(&KafkaPartition) -> Option<f64>;
    let gauges: [(&str, &str, Value); 4] = [
        ("ninefold_kafka_lag", "Offsets between the position and the log's end", |one| {
            one.lag.map(|lag| lag as f64)
        }),
        ("ninefold_kafka_position", "The next offset to be counted", |one| {
            Some(one.position as f64)
        }),
        ("ninefold_kafka_stopped", "1 where it waits for somebody to look", |one| {
            Some(f64::from(one.is_stopped))
        }),
        ("ninefold_kafka_stuck", "1 where its log grows and it does not move", |one| {
            Some(f64::from(one.is_stuck))
        }),
    ];
    for (name, help, value) in gauges {
        let family = Ratios::default();
        for one in &kafka.partitions {
            let labels = vec![("topic", one.topic.clone()), ("partition", one.number.to_string())];
            set(&family, &labels, value(one));
        }
        registry.register(name, help, family);
    }
}
