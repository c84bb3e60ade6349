//! Topics of Kafka as anybody sees them who is no member of the group: for `ninefold verify` and
//! `ninefold doctor`. What the service shares with them stands here too.
//!
//! Nothing here joins the group, commits an offset or changes a topic.

mod doctor;
mod verify;

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context;
use ninefold_engine::config::{Config, KafkaSource};
use ninefold_engine::decode::{self, Format};
use ninefold_engine::source::chunk::Chunk;
use ninefold_engine::source::kafka::batch::Batch;
use ninefold_engine::source::kafka::client;
use ninefold_engine::source::kafka::place::Span;
use ninefold_engine::table::{Filter, Table, TableError};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

pub use doctor::advice;
pub use verify::verify;

/// How long a broker may take to answer a question.
pub const BROKER_LIMIT: Duration = Duration::from_secs(5);

/// How long brokers may hand out nothing while records are to come.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// How long one waits for a record where none is there.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How the records of a source are read.
pub fn decode_of(config: &Config, source: &KafkaSource) -> decode::Options {
    let mut decode = config.decode.clone();
    decode.format = source.format.unwrap_or(decode.format);
    decode.service = source.service.clone().or(decode.service);
    if decode.format == Format::Auto {
        decode.format = Format::Ndjson;
    }
    decode
}

/// Where the log of a partition begins and ends.
///
/// # Errors
/// No broker answers, or none knows the partition.
pub fn span<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    number: i32,
) -> anyhow::Result<Span> {
    let (begin, end) = consumer.fetch_watermarks(topic, number, BROKER_LIMIT)?;
    let offset = |offset: i64| u64::try_from(offset).context("a log begins below 0");
    Ok(Span { begin: offset(begin)?, end: offset(end)? })
}

/// The newest row of a partition in the table.
pub struct Counted {
    /// How far it was counted then.
    pub next: u64,
    /// The hash of the record before that.
    pub tail: Option<[u8; 32]>,
    /// What people call it; the cluster's id stands in it.
    pub label: String,
}

/// The newest row of every partition of Kafka.
///
/// # Errors
/// The table cannot be read.
pub fn newest_rows(table: &Table) -> Result<HashMap<String, Counted>, TableError> {
    let mut rows: HashMap<String, Counted> = HashMap::new();
    table.for_each_source(&Filter::default(), |row| {
        let is_newer = rows.get(row.partition).is_none_or(|known| known.next < row.next);
        if row.partition.starts_with("kafka/") && is_newer {
            let (next, tail) = (row.next, row.tail.try_into().ok());
            let counted = Counted { next, tail, label: row.name.to_owned() };
            rows.insert(row.partition.to_owned(), counted);
        }
    })?;
    Ok(rows)
}

/// A consumer that is in no group, and the cluster that it has reached.
struct Topics {
    consumer: BaseConsumer,
    cluster: String,
    brokers: usize,
}

impl Topics {
    /// Reaches the brokers of a source.
    fn reach(source: &KafkaSource) -> anyhow::Result<Topics> {
        let mut settings = client::consumer(source)?;
        // The end of a log is told, so that nobody waits there. A wrong checksum would end the
        // process: what the records say is compared in any case.
        settings.set("enable.partition.eof", "true").set("check.crcs", "false");
        settings.set("statistics.interval.ms", "0");
        let consumer: BaseConsumer = settings.create().context("source.kafka")?;
        let reached = consumer.fetch_metadata(None, BROKER_LIMIT);
        let silent = || format!("no broker of {} answers", source.brokers.join(", "));
        let brokers = reached.with_context(silent)?.brokers().len();
        let cluster = consumer.client().fetch_cluster_id(BROKER_LIMIT).with_context(silent)?;
        Ok(Topics { consumer, cluster, brokers })
    }

    /// The numbers of the partitions of a topic; none where it is not there.
    fn partitions(&self, topic: &str) -> anyhow::Result<Vec<i32>> {
        let metadata = self.consumer.fetch_metadata(Some(topic), BROKER_LIMIT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(&[][..], |found| found.partitions());
        Ok(partitions.iter().map(|one| one.id()).collect())
    }

    fn span(&self, topic: &str, number: i32) -> anyhow::Result<Span> {
        span(&self.consumer, topic, number)
    }

    /// The records of a partition from `first` up to `until`, or to its end.
    fn records(
        &self,
        topic: &str,
        number: i32,
        first: u64,
        until: u64,
    ) -> Result<Records<'_>, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, number, Offset::Offset(first as i64))?;
        self.consumer.assign(&list)?;
        let batch = Batch::new(first);
        Ok(Records { consumer: &self.consumer, batch, until, heard: Instant::now() })
    }
}

/// Records of one partition in chunks. Dropped, the partition is let go.
struct Records<'a> {
    consumer: &'a BaseConsumer,
    batch: Batch,
    /// One past the last offset that is wanted.
    until: u64,
    heard: Instant,
}

impl Records<'_> {
    /// Takes what comes until a chunk is full, or all is there.
    fn fill(&mut self) -> io::Result<()> {
        let mut error = None;
        while self.batch.next() < self.until && !self.batch.is_full() {
            match self.consumer.poll(POLL_INTERVAL) {
                Some(Ok(message)) => {
                    let offset = u64::try_from(message.offset()).unwrap_or_default();
                    if offset >= self.until {
                        self.until = self.batch.next();
                        return Ok(());
                    }
                    let time_ms = message.timestamp().to_millis();
                    self.batch.push(offset, time_ms, message.payload().unwrap_or_default());
                    self.heard = Instant::now();
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.until = self.batch.next(),
                // The client goes on by itself, or nothing more comes.
                Some(Err(other)) => error = Some(other),
                None => {}
            }
            if self.heard.elapsed() >= SILENCE_LIMIT {
                let why = error.map_or("nothing came".to_owned(), |error| error.to_string());
                let at = self.batch.next();
                return Err(io::Error::other(format!(
                    "the brokers are silent at offset {at}: {why}"
                )));
            }
        }
        Ok(())
    }
}

impl Iterator for Records<'_> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<io::Result<Chunk>> {
        match self.fill() {
            Ok(()) => self.batch.take().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Drop for Records<'_> {
    fn drop(&mut self) {
        // Where that fails, the next assignment replaces it all the same.
        let _ = self.consumer.unassign();
    }
}
