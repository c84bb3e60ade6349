//! A child process that reads where a batch may be corrupt: what it does not survive, the
//! service is not given to read.
//!
//! The client library (2.12.1) answers a wrong checksum by skipping to a wrong place, and mostly
//! dies there of an assertion. So suspects are read by a child first, `ninefold kafka-scout`,
//! which is told what to read on standard input, and says what it has read on standard output.
//!
//! Invariant: what a child has said is right, however it ends: a frame that is cut off is none.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::group::Id;

/// How long a child looks ahead at most.
const SCAN_LIMIT: Duration = Duration::from_secs(20);

/// How long a child waits for something to come.
const SILENCE_LIMIT: Duration = Duration::from_secs(8);

/// So many bytes a child looks ahead at most: more than a process fetches between two commits
/// unless its store fails. What is farther ahead is found by the next one.
const SCAN_BYTES: u64 = 256 << 20;

/// So many children run at once.
const CHILDREN_MAX: usize = 8;

/// The exit code of a child that was told of a corrupt batch and lived.
const CORRUPT: i32 = 3;

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Errand {
    /// To see whether what is there can be read.
    Scan,
    /// To see whether the first record can be.
    First,
    /// To hand over every record, batch by batch, so that it comes as near to a corrupt one as
    /// possible.
    Records,
}

/// What a child is told.
#[derive(Serialize, Deserialize)]
struct Job {
    settings: BTreeMap<String, String>,
    topic: String,
    partition: i32,
    from: u64,
    errand: Errand,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has read what there was, or could not say.
    Fine,
    /// It has met a corrupt batch.
    Corrupt,
}

/// A record that a child has read: offset, time, payload.
pub type Record = (u64, Option<i64>, Vec<u8>);

/// Which of these places a child does not survive.
pub fn corrupt(settings: &ClientConfig, places: &[(Id, u64)]) -> anyhow::Result<Vec<Id>> {
    let mut corrupt = Vec::new();
    for some in places.chunks(CHILDREN_MAX) {
        let mut running = Vec::with_capacity(some.len());
        for (id, from) in some {
            running.push((id, Scout::start(settings, id, *from, Errand::Scan)?));
        }
        for (id, scout) in running {
            if scout.end()? == Ended::Corrupt {
                corrupt.push(id.clone());
            }
        }
    }
    Ok(corrupt)
}

/// The first offset behind a corrupt batch at `offset` from which reading goes on, at most `end`,
/// where the log ends. Batches do not say how long they are once they are corrupt, so that it is
/// found by trying.
pub fn end_of_corrupt(
    settings: &ClientConfig,
    id: &Id,
    offset: u64,
    end: u64,
) -> anyhow::Result<u64> {
    let is_corrupt = |at: u64| -> anyhow::Result<bool> {
        Ok(at < end && Scout::start(settings, id, at, Errand::First)?.end()? == Ended::Corrupt)
    };
    let (mut inside, mut step) = (offset, 1);
    while is_corrupt(inside + step)? {
        inside += step;
        step *= 2;
    }
    let mut outside = (inside + step).min(end.max(offset + 1));
    while outside - inside > 1 {
        let middle = inside + (outside - inside) / 2;
        match is_corrupt(middle)? {
            true => inside = middle,
            false => outside = middle,
        }
    }
    Ok(outside)
}

/// A child at work; it is killed when this is dropped.
pub struct Scout {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Scout {
    /// One that hands over records from an offset on.
    pub fn records(settings: &ClientConfig, id: &Id, from: u64) -> anyhow::Result<Scout> {
        Scout::start(settings, id, from, Errand::Records)
    }

    fn start(settings: &ClientConfig, id: &Id, from: u64, errand: Errand) -> anyhow::Result<Scout> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(&program);
        command.arg("kafka-scout");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let named = || format!("cannot start {} kafka-scout", program.display());
        let mut child = command.spawn().with_context(named)?;
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let settings = settings.config_map().into_iter().map(own).collect();
        let (topic, partition) = id.clone();
        let job = Job { settings, topic, partition, from, errand };
        let job = serde_json::to_vec(&job).expect("it is plain data");
        let stdin = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let scout = Scout { child, output };
        { stdin }.write_all(&job).with_context(named)?;
        Ok(scout)
    }

    /// The next record; `None` once no more come, for whatever reason.
    pub fn next_record(&mut self) -> Option<Record> {
        let mut head = [0; 20];
        self.output.read_exact(&mut head).ok()?;
        let eight = |at: usize| head[at..at + 8].try_into().expect("eight bytes");
        let length = u32::from_le_bytes(head[16..].try_into().expect("four bytes"));
        let mut payload = vec![0; length as usize];
        self.output.read_exact(&mut payload).ok()?;
        let time_ms = i64::from_le_bytes(eight(8));
        Some((u64::from_le_bytes(eight(0)), Some(time_ms).filter(|ms| *ms != i64::MIN), payload))
    }

    /// Waits for its end; it limits its own time.
    pub fn end(mut self) -> anyhow::Result<Ended> {
        std::io::copy(&mut self.output, &mut std::io::sink()).context("a child's output")?;
        let status = self.child.wait().context("a child")?;
        Ok(match status.code() {
            // A signal: the assertion.
            None => Ended::Corrupt,
            Some(CORRUPT) => Ended::Corrupt,
            Some(_) => Ended::Fine,
        })
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        // One that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ninefold kafka-scout`: the child.
pub fn main() -> anyhow::Result<ExitCode> {
    let job: Job = serde_json::from_reader(std::io::stdin().lock()).context("standard input")?;
    let mut settings = ClientConfig::new();
    settings.extend(job.settings);
    settings.set("enable.partition.eof", "true").set("statistics.interval.ms", "0");
    if job.errand != Errand::Scan {
        // A broker hands out a whole batch, however little is asked for.
        settings.set("max.partition.fetch.bytes", "1").set("queued.min.messages", "1");
    }
    let consumer: BaseConsumer = settings.create().context("source.kafka")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&job.topic, job.partition, Offset::Offset(job.from as i64))?;
    consumer.assign(&list)?;
    let (since, mut heard, mut bytes) = (Instant::now(), Instant::now(), 0);
    let mut out = std::io::stdout().lock();
    while heard.elapsed() < SILENCE_LIMIT {
        let message = match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::BadMessage) => std::process::exit(CORRUPT),
                // It is for who has asked to find out what is the matter.
                Some(RDKafkaErrorCode::AutoOffsetReset) => break,
                _ => continue,
            },
            None => continue,
        };
        heard = Instant::now();
        let payload = message.payload().unwrap_or_default();
        bytes += payload.len() as u64;
        match job.errand {
            Errand::First => break,
            Errand::Scan if bytes >= SCAN_BYTES || since.elapsed() >= SCAN_LIMIT => break,
            Errand::Scan => {}
            Errand::Records => {
                let mut frame = Vec::with_capacity(20 + payload.len());
                frame.extend_from_slice(&message.offset().to_le_bytes());
                let time_ms = message.timestamp().to_millis().unwrap_or(i64::MIN);
                frame.extend_from_slice(&time_ms.to_le_bytes());
                let length = u32::try_from(payload.len()).expect("records are smaller");
                frame.extend_from_slice(&length.to_le_bytes());
                frame.extend_from_slice(payload);
                // Whole, before the next batch is fetched.
                out.write_all(&frame).and_then(|()| out.flush())?;
            }
        }
    }
    // Without closing the client, which waits for brokers: nothing of it is to be kept.
    std::process::exit(0)
}
