//! Dead letters and alert transitions to topics of Kafka: a thread that follows the table.
//!
//! Invariants:
//! - What is sent is what the table holds: durable first, and never by way of memory.
//! - The version up to which everything was sent is an offset of the table, fenced like one. It
//!   moves only once the brokers have taken every row up to it, so that a crash repeats rows,
//!   under their keys, and loses none.
//! - One instance sends: the judge. Two that both believe to be it send rows twice, and one of
//!   them is fenced.
//! - Counting never waits for it: brokers that are away are a note.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use ninefold_engine::config::KafkaSource;
use ninefold_engine::failpoint;
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::relay::Relayed;
use ninefold_engine::source::kafka::client;
use ninefold_engine::table::{Added, CommitError, Epoch, Filter, Move, Table, TableError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::states::{lock, read};

/// How often the table is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long one waits after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// How long the brokers may take for what is sent at once: longer than the client tries.
const SEND_LIMIT: Duration = Duration::from_secs(40);

/// So many versions without a row are passed before that is written down: the log keeps its
/// newest 2,000 entries at least, and what is written down must not fall out of them.
const UNTOLD_VERSIONS_MAX: u64 = 500;

/// So many entries are sent at once, at most.
const ENTRIES_AT_ONCE: usize = 64;

/// What the thread tells of itself: why it waits, if it does.
pub type Note = Arc<Mutex<Option<String>>>;

/// Starts the thread, where a topic is named.
///
/// # Errors
/// A secret is not where the configuration says.
pub fn start(
    source: &KafkaSource,
    data: PathBuf,
    pipeline: Arc<RwLock<Pipeline>>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Note> {
    let note = Note::default();
    let topics =
        [(Relayed::Dead, &source.dead_letters_topic), (Relayed::Alerts, &source.alerts_topic)];
    let outlets: Vec<Outlet> = topics
        .into_iter()
        .filter_map(|(rows, topic)| Some(Outlet { rows, topic: topic.clone()?, place: None }))
        .collect();
    if outlets.is_empty() {
        return Ok(note);
    }
    let settings = client::producer(source)?;
    let mut relay =
        Relay { settings, producer: None, data, table: None, outlets, note: Arc::clone(&note) };
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let (is_judge, version) = {
                let pipeline = read(&pipeline);
                (pipeline.is_judge(), pipeline.table().version())
            };
            let wait = relay.look(is_judge, version);
            std::thread::park_timeout(wait);
        }
    });
    Ok(note)
}

/// A topic, and what it gets.
struct Outlet {
    rows: Relayed,
    topic: String,
    /// How far it was sent; `None` until the table was asked.
    place: Option<Place>,
}

/// How far rows were sent.
#[derive(Clone, Copy)]
struct Place {
    /// What the table says; `None` where nothing was ever sent to this topic.
    told: Option<u64>,
    /// The version up to which everything has arrived; `None` as above.
    sent: Option<u64>,
}

struct Relay {
    settings: ClientConfig,
    /// Made when it is needed, and made afresh after a failure: one that has given up a record
    /// may refuse those behind it.
    producer: Option<BaseProducer<Receipts>>,
    data: PathBuf,
    table: Option<Table>,
    outlets: Vec<Outlet>,
    note: Note,
}

impl Relay {
    /// Sends what the table holds at `version` or later, if this instance should; answers how
    /// long to wait before the next look.
    fn look(&mut self, is_judge: bool, version: u64) -> Duration {
        if !is_judge {
            // Who judges next goes on where the table says; so do we, should we be it again.
            self.outlets.iter_mut().for_each(|outlet| outlet.place = None);
            *lock(&self.note) = None;
            return LOOK_INTERVAL;
        }
        let mut done = Ok(());
        for at in 0..self.outlets.len() {
            done = done.and(self.send_all(at, version));
        }
        let complaint = done.err().map(|error| {
            self.producer = None;
            self.outlets.iter_mut().for_each(|outlet| outlet.place = None);
            format!("kafka: what is in the table waits to be sent: {error:#}")
        });
        let wait = if complaint.is_some() { RETRY_INTERVAL } else { LOOK_INTERVAL };
        let mut note = lock(&self.note);
        if let Some(complaint) = &complaint
            && note.is_none()
        {
            eprintln!("ninefold: {complaint}");
        }
        *note = complaint;
        wait
    }

    /// Sends to one topic everything that the table holds and that was not sent.
    fn send_all(&mut self, at: usize, version: u64) -> anyhow::Result<()> {
        let place = self.outlets[at].place;
        if place.is_some_and(|place| place.sent >= Some(version)) {
            return Ok(());
        }
        let mut table = match self.table.take() {
            Some(table) => table,
            None => Table::open_or_create(&self.data)?,
        };
        table.refresh()?;
        let done = self.send_table(at, &mut table);
        self.table = Some(table);
        done
    }

    fn send_table(&mut self, at: usize, table: &mut Table) -> anyhow::Result<()> {
        let outlet = &self.outlets[at];
        let (rows, topic) = (outlet.rows, outlet.topic.clone());
        let position = rows.position(&topic);
        let mut place = match outlet.place {
            Some(place) => place,
            None => {
                let told = table.offset(&position)?;
                Place { told, sent: told }
            }
        };
        let newest = table.version();
        let mut later = match place.sent {
            Some(sent) => table.entries_after(sent)?,
            None => None,
        };
        // Where entries were cleaned away, or their files, everything is sent once more.
        if later.is_none() {
            later = Some(Vec::new());
            self.send(table, (rows, &topic), &Filter::default())?;
            place = self.tell(table, &position, Place { sent: Some(newest), ..place })?;
        }
        for entries in later.unwrap_or_default().chunks(ENTRIES_AT_ONCE) {
            let last = entries.last().map(|entry| entry.version);
            let added = Added::of_all(entries.iter().map(|entry| &entry.files));
            let filter = Filter { added: Some(added), ..Filter::default() };
            let sent = match self.send(table, (rows, &topic), &filter) {
                Err(error) if is_expired(&error) => {
                    self.send(table, (rows, &topic), &Filter::default())?
                }
                sent => sent?,
            };
            place.sent = last;
            let untold = last.unwrap_or(0) - place.told.unwrap_or(0);
            if sent > 0 || untold >= UNTOLD_VERSIONS_MAX {
                place = self.tell(table, &position, place)?;
            }
        }
        self.outlets[at].place = Some(place);
        Ok(())
    }

    /// Sends the rows that pass a filter, and waits until the brokers have taken each; how many
    /// that were.
    fn send(
        &mut self,
        table: &Table,
        (rows, topic): (Relayed, &str),
        filter: &Filter,
    ) -> anyhow::Result<u64> {
        let (mut count, mut failed) = (0, None);
        rows.for_each(table, filter, |key, body| {
            if count == 0 {
                failpoint::reach("relay.send");
            }
            if failed.is_none() {
                count += 1;
                failed = self.produce(topic, key, body).err();
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let Some(producer) = self.producer.as_ref().filter(|_| count > 0) else { return Ok(0) };
        let flushed = producer.flush(SEND_LIMIT);
        let receipts = producer.context();
        if let Some(why) = lock(&receipts.refused).take() {
            return Err(anyhow!("topic {topic}: {why}"));
        }
        flushed.map_err(|error| anyhow!("topic {topic}: {}", receipts.explain(&error)))?;
        let taken = receipts.taken.swap(0, Ordering::AcqRel);
        ensure!(taken == count, "topic {topic}: {taken} of {count} records were taken");
        failpoint::reach("relay.sent");
        Ok(count)
    }

    /// Hands one record to the client; where its queue is full, waits for the brokers.
    fn produce(&mut self, topic: &str, key: &str, body: &[u8]) -> anyhow::Result<()> {
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => {
                let made = self.settings.create_with_context(Receipts::default());
                none.insert(made.context("source.kafka")?)
            }
        };
        let mut record = BaseRecord::to(topic).key(key).payload(body);
        let since = Instant::now();
        while let Err((error, same)) = producer.send(record) {
            let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if !is_full || since.elapsed() >= SEND_LIMIT {
                return Err(anyhow!("topic {topic}: {}", producer.context().explain(&error)));
            }
            producer.poll(LOOK_INTERVAL);
            record = same;
        }
        Ok(())
    }

    /// Writes down how far was sent. Where somebody else has done so, theirs holds.
    fn tell(&self, table: &mut Table, position: &str, place: Place) -> anyhow::Result<Place> {
        let Place { told, sent } = place;
        let next = sent.context("something was sent")?;
        let moves = vec![Move { partition: position.to_owned(), base: told, next }];
        let info = format!("ninefold: {position} up to version {next}");
        match table.commit(Epoch { files: Vec::new(), moves, info }) {
            Ok(_) => Ok(Place { told: sent, sent }),
            Err(error @ CommitError::Fenced { .. }) => {
                Err(error).context("another instance sends as well")
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether rows were vacuumed between the look at the log and that at its files.
fn is_expired(error: &anyhow::Error) -> bool {
    let found = error.downcast_ref::<TableError>();
    found.is_some_and(|error| {
        matches!(error, TableError::SnapshotExpired { .. } | TableError::FileMissing { .. })
    })
}

/// What the brokers have said of records.
#[derive(Default)]
struct Receipts {
    taken: AtomicU64,
    /// Why one was not taken.
    refused: Mutex<Option<String>>,
    /// The newest error of the client.
    error: Mutex<Option<String>>,
}

impl Receipts {
    /// An error with what the client has said of its cause.
    fn explain(&self, error: &KafkaError) -> String {
        let cause = lock(&self.error).clone();
        cause.map_or_else(|| error.to_string(), |cause| format!("{error} ({cause})"))
    }
}

impl ClientContext for Receipts {
    fn error(&self, error: KafkaError, reason: &str) {
        *lock(&self.error) = Some(format!("{error}: {reason}"));
    }

    /// As that of the consumer.
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ProducerContext for Receipts {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.taken.fetch_add(1, Ordering::AcqRel)),
            Err((error, _)) => *lock(&self.refused) = Some(self.explain(error)),
        }
    }
}
