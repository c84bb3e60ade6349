//! What the thread looks at now and then: partitions that wait or are stopped, floods of dead
//! letters, the client's statistics; and what it tells of itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ninefold_engine::query::{KafkaHealth, KafkaPartition};
use ninefold_engine::source::guard::Holes;
use ninefold_engine::source::kafka::name;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};

use super::super::Message;
use super::group::{Group, Id};
use super::partition::{Partition, State};
use super::{POLL_INTERVAL, Reader, add};
use crate::kafka::BROKER_LIMIT;
use crate::states::{lock, read};

/// How often partitions that wait are tried again, and what is told of them.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the table is asked for partitions that are stopped, the brokers for topics that
/// were not there, and Kafka told how far the table is.
const ROUND_INTERVAL: Duration = Duration::from_secs(5);

/// How often an error of the client is printed.
const PRINT_INTERVAL: Duration = Duration::from_secs(10);

/// How long an error of the client is shown.
const ERROR_SHOWN: Duration = Duration::from_secs(30);

/// After so long behind the end of its log, a partition is looked at: its last offsets may hold
/// no record.
const HOLE_AFTER: Duration = Duration::from_secs(10);

/// So many partitions are moved over such offsets in one round: each takes a client of its own,
/// and nothing else is read meanwhile.
const HOLES_AT_ONCE: usize = 4;

/// What was seen.
pub struct Look {
    /// Changes of the group.
    pub rebalances: u64,
    /// Records of partitions that are not ours.
    pub strays: u64,
    /// Topics that are not counted yet.
    pub missing: Vec<String>,
    records: u64,
    bytes: u64,
    /// Of guards that are gone.
    dropped: u64,
    holes: u64,
    /// Where each log ends, as the brokers have told last.
    ends: HashMap<Id, u64>,
    stuck: Vec<Id>,
    /// Records of the dedupe window that were gone when they were to be read again.
    expired: HashMap<Id, u64>,
    waits_for: Option<String>,
    store_error: Option<String>,
    error: Option<(Instant, String)>,
    printed: Option<Instant>,
    looked: Option<Instant>,
    rounded: Option<Instant>,
}

impl Look {
    /// Nothing was seen.
    pub fn new(missing: Vec<String>) -> Look {
        Look {
            rebalances: 0,
            strays: 0,
            missing,
            records: 0,
            bytes: 0,
            dropped: 0,
            holes: 0,
            ends: HashMap::new(),
            stuck: Vec::new(),
            expired: HashMap::new(),
            waits_for: None,
            store_error: None,
            error: None,
            printed: None,
            looked: None,
            rounded: None,
        }
    }

    /// A record came.
    pub fn took(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }

    /// What is waited for before anything can be counted.
    pub fn wait_for(&mut self, what: Option<String>) {
        self.waits_for = what;
    }

    /// The table could not be read.
    pub fn note_store(&mut self, error: Option<String>) {
        if let Some(error) = &error
            && self.store_error.is_none()
        {
            eprintln!("ninefold: kafka: partitions wait for the table: {error}");
        }
        self.store_error = error;
    }

    /// The client has an error. They come in swarms, so few of them are printed.
    pub fn note_error(&mut self, error: String) {
        if is_due(&mut self.printed, PRINT_INTERVAL) {
            eprintln!("ninefold: kafka: {error}");
        }
        self.error = Some((Instant::now(), error));
    }

    /// So many records of the dedupe window are not there any more.
    pub fn note_expired(&mut self, id: &Id, records: u64) {
        if records > 0 {
            self.expired.insert(id.clone(), records);
        }
    }

    /// A partition is gone, or begins afresh: what its guard has met stays counted.
    pub fn keep_counts(&mut self, partition: &Partition) {
        let counts = partition.counts();
        self.dropped += counts.stale + counts.repeated + counts.held;
        self.holes += counts.holes;
    }
}

/// Whether `interval` has passed since then; if so, it begins anew.
pub fn is_due(last: &mut Option<Instant>, interval: Duration) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= interval);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}

impl Reader {
    /// Looks at what is due.
    pub(super) fn look_around(&mut self) -> anyhow::Result<()> {
        if let Some(statistics) = self.consumer.context().statistics() {
            self.study(&statistics);
        }
        if is_due(&mut self.look.rounded, ROUND_INTERVAL) {
            self.begin_missing_topics()?;
            self.take_up_moved()?;
            self.pass_holes();
            self.tell_kafka();
        }
        if is_due(&mut self.look.looked, LOOK_INTERVAL) {
            let waiting = self.ids(|partition| matches!(partition.state, State::Waiting));
            if !waiting.is_empty() {
                self.take_up_again(&waiting)?;
            }
            self.look_for_floods()?;
            self.tell();
        }
        Ok(())
    }

    /// Takes note of where the logs end, and which partitions do not move.
    fn study(&mut self, statistics: &Statistics) {
        let now_ms = self.started.elapsed().as_millis() as u64;
        self.look.stuck.clear();
        for (id, partition) in &mut self.partitions {
            let told = statistics.topics.get(&id.0).and_then(|topic| topic.partitions.get(&id.1));
            let Some(end) = told.and_then(|told| u64::try_from(told.hi_offset).ok()) else {
                continue;
            };
            self.look.ends.insert(id.clone(), end);
            if self.is_paused || !partition.is_live() {
                partition.progress.reset();
            } else if partition.progress.is_stuck(now_ms, partition.position(), end) {
                self.look.stuck.push(id.clone());
            }
        }
    }

    /// Begins stopped partitions where the table has moved past the place: somebody has
    /// accepted the gap.
    fn take_up_moved(&mut self) -> anyhow::Result<()> {
        let stopped: Vec<(Id, u64)> = self
            .partitions
            .iter()
            .filter_map(|(id, partition)| match partition.state {
                State::Stopped { at: Some(at), .. } => Some((id.clone(), at)),
                _ => None,
            })
            .collect();
        if stopped.is_empty() {
            return Ok(());
        }
        let offsets = match self.places.table() {
            Ok(table) => table.offsets(),
            Err(error) => {
                self.look.note_store(Some(error.to_string()));
                return Ok(());
            }
        };
        let moved: Vec<Id> = stopped
            .into_iter()
            .filter(|((topic, number), at)| {
                offsets.get(&name(topic, *number)).is_some_and(|offset| offset > at)
            })
            .map(|(id, _)| id)
            .collect();
        for (topic, number) in &moved {
            eprintln!("ninefold: {topic}/{number} goes on: the table has moved");
        }
        if moved.is_empty() { Ok(()) } else { self.take_up_again(&moved) }
    }

    /// Moves partitions to the ends of their logs that have only markers and compacted records
    /// before them: once those have expired, nobody could tell them from records.
    fn pass_holes(&mut self) {
        if self.source.holes == Holes::Refuse || self.is_paused {
            return;
        }
        let ends = &self.look.ends;
        let mut behind = Vec::new();
        for (id, partition) in &mut self.partitions {
            let is_behind = ends.get(id).is_some_and(|end| *end > partition.position());
            if partition.is_idle_for(HOLE_AFTER) && partition.is_assigned && is_behind {
                behind.push((id.clone(), partition.position()));
            }
        }
        let mut passed = 0;
        for (id, position) in behind {
            if passed == HOLES_AT_ONCE {
                break;
            }
            let end = match self.end_without_records(&id, position) {
                Ok(Some(end)) => end,
                Ok(None) => continue,
                Err(error) => {
                    self.look.note_error(format!("{}/{}: {error}", id.0, id.1));
                    continue;
                }
            };
            passed += 1;
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            let (chunk, generation) = (partition.pass(end), self.current);
            let partition = name(&id.0, id.1);
            let arrived = Instant::now();
            self.outlet.push(Message::Chunk { generation, partition, chunk, arrived });
        }
    }

    /// Where the log of a partition ends that holds no record from `position` on: a client that
    /// has nothing else fetches from there, and meets the end.
    fn end_without_records(&self, id: &Id, position: u64) -> anyhow::Result<Option<u64>> {
        // The end of what is committed: an open transaction is not passed.
        let end = self.span(id)?.end;
        if end <= position {
            return Ok(None);
        }
        let mut settings = self.settings.clone();
        settings.set("enable.partition.eof", "true").set("statistics.interval.ms", "0");
        let probe: BaseConsumer<Group> = settings.create_with_context(Group::default())?;
        probe.context().close();
        let mut list = TopicPartitionList::new();
        add(&mut list, id, Offset::Offset(position as i64));
        probe.assign(&list)?;
        let since = Instant::now();
        while since.elapsed() < BROKER_LIMIT {
            match probe.poll(POLL_INTERVAL) {
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Some(end)),
                Some(Ok(_)) => return Ok(None),
                Some(Err(_)) | None => {}
            }
        }
        Ok(None)
    }

    /// Tells Kafka how far the table is, for whoever watches the lag there. Waits for a commit that
    /// is being made: where the disk hangs, the group has to miss our polls, so that others go on
    /// with our partitions.
    fn tell_kafka(&mut self) {
        drop(lock(&self.committing));
        let mut list = TopicPartitionList::new();
        let pipeline = read(&self.pipeline);
        for (id, partition) in &mut self.partitions {
            let Ok(Some(offset)) = pipeline.table().offset(&name(&id.0, id.1)) else { continue };
            if offset > partition.told {
                partition.told = offset;
                add(&mut list, id, Offset::Offset(offset as i64));
            }
        }
        drop(pipeline);
        if list.count() > 0 {
            // Nothing depends on it, and the next round says it again.
            let _ = self.consumer.commit(&list, CommitMode::Async);
        }
    }

    /// Pauses partitions that are full of dead letters.
    fn look_for_floods(&mut self) -> anyhow::Result<()> {
        if !self.source.pause_on_flood {
            return Ok(());
        }
        let now_ms = self.started.elapsed().as_millis() as u64;
        let mut floods = Vec::new();
        let pipeline = read(&self.pipeline);
        for (id, partition) in &mut self.partitions {
            let lines = pipeline.lines_of(&name(&id.0, id.1));
            let Some(lines) = lines.filter(|_| partition.is_live()) else { continue };
            if partition.flood.is_flood(now_ms, lines.read, lines.dead) {
                floods.push(id.clone());
            }
        }
        drop(pipeline);
        for id in floods {
            let why = "more than a fifth of a minute's records cannot be read (schema change?); \
                       nothing more becomes a dead letter until the configuration is read again \
                       (SIGHUP): map the new form, or set flood = \"count\"";
            let at = self.partitions.get(&id).map(Partition::position);
            self.stop_partition(&id, why.to_owned(), at)?;
        }
        Ok(())
    }

    /// Tells how things are.
    pub(super) fn tell(&mut self) {
        let mut kafka = KafkaHealth {
            notes: self.notes(),
            rebalances: self.look.rebalances,
            records: self.look.records,
            bytes: self.look.bytes,
            dropped: self.look.dropped + self.look.strays,
            holes: self.look.holes,
            is_paused: self.is_paused,
            partitions: Vec::with_capacity(self.partitions.len()),
        };
        for (id, partition) in &self.partitions {
            let counts = partition.counts();
            kafka.dropped += counts.stale + counts.repeated + counts.held;
            kafka.holes += counts.holes;
            let position = partition.position();
            let end = self.look.ends.get(id);
            kafka.partitions.push(KafkaPartition {
                topic: id.0.clone(),
                number: id.1,
                position,
                lag: end.map(|end| end.saturating_sub(position)),
                is_stopped: partition.is_stopped(),
                is_stuck: self.look.stuck.contains(id),
            });
        }
        *lock(&self.board) = kafka;
    }

    fn notes(&self) -> Vec<String> {
        let look = &self.look;
        let mut notes: Vec<String> = look.waits_for.iter().cloned().collect();
        notes.extend(lock(&self.relay).clone());
        for topic in &look.missing {
            notes.push(format!("topic {topic} is not there yet"));
        }
        if let Some(error) = &look.store_error {
            notes.push(format!("partitions wait for the table: {error}"));
        }
        if let Some((since, error)) = &look.error
            && since.elapsed() < ERROR_SHOWN
        {
            notes.push(format!("kafka: {error}"));
        }
        for ((topic, number), partition) in &self.partitions {
            if let State::Stopped { why, .. } = &partition.state {
                notes.push(format!("{topic}/{number} is stopped: {why}"));
            }
        }
        notes.extend(lock(&self.retention).iter().cloned());
        for ((topic, number), records) in &look.expired {
            notes.push(format!(
                "{topic}/{number}: {records} records of the dedupe window have expired, and their \
                 ids are not known; lengthen the topic's retention, or shorten the window"
            ));
        }
        for (topic, number) in &look.stuck {
            notes.push(format!(
                "{topic}/{number} is stuck: its log grows and it does not move (open transaction?)"
            ));
        }
        notes
    }
}
