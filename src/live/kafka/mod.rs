//! Kafka as a source of the running service: one thread that polls a consumer of a group.
//!
//! Positions are the table's, never Kafka's: a partition that the group gives to this instance
//! is fetched from where the table says, after the record before that was compared with the one
//! that was counted. Kafka is told afterwards, for lag monitors, what a commit has confirmed.
//!
//! Invariants:
//! - The thread polls always, so that the group never takes it for dead: where the loop is slow,
//!   fetching pauses and polling goes on.
//! - What is wrong with a partition stops that partition, with its reason in the health notes;
//!   the others go on. Only what makes the whole source useless ends the service.
//! - Letting a partition go is always right: whoever gets it next begins where the table stands.

mod damage;
mod errors;
mod fetched;
mod group;
mod look;
mod outlet;
mod partition;
mod places;
mod relay;
pub mod retention;
pub mod scout;
mod suspects;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use ninefold_engine::config::{Config, KafkaSource};
use ninefold_engine::decode;
use ninefold_engine::failpoint;
use ninefold_engine::pipeline::{Pipeline, Unit};
use ninefold_engine::query::KafkaHealth;
use ninefold_engine::source::chunk::Tail;
use ninefold_engine::source::kafka::{client, label, name, place};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{Begin, Current, Message, Service};
use crate::kafka::{BROKER_LIMIT, decode_of};
use crate::states::read;
use fetched::{Fetched, Record};
use group::{Change, Group, Id};
use look::{Look, is_due};
use outlet::Outlet;
use partition::{Partition, State, Step};
use places::{Known, Places};
use suspects::Suspects;

/// How long one waits for a record where none is there.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// So many records are taken at once.
const POLL_RECORDS: usize = 2_000;

/// So long records wait for the next one.
const FLOW_PATIENCE: Duration = Duration::from_millis(5);

/// So long a record waits for others, while more of them come.
const BATCH_PATIENCE: Duration = Duration::from_millis(25);

/// How often partitions are led into the queue of fetched records, where none was assigned for
/// as long.
const LEAD_INTERVAL: Duration = Duration::from_secs(1);

/// How long the loop may take nothing until fetching pauses. Shorter pauses would cost more
/// than they save: what was fetched is thrown away.
const PAUSE_AFTER: Duration = Duration::from_millis(500);

/// How long a partition that is given back waits for its commit.
const REVOKE_LIMIT: Duration = Duration::from_secs(5);

/// How long the loop may take to see the version of the table that this thread has seen.
const FOLLOW_LIMIT: Duration = Duration::from_millis(1_500);

/// What the thread tells of itself.
pub type Board = Arc<Mutex<KafkaHealth>>;

/// Starts the thread, if topics are configured.
///
/// # Errors
/// The client refuses its settings.
pub fn start(
    service: &Service,
    config: &Config,
    data: PathBuf,
    sender: SyncSender<Message>,
) -> anyhow::Result<()> {
    let Some(source) = config.sources.kafka.clone() else { return Ok(()) };
    let settings = client::consumer(&source)?;
    let consumer: BaseConsumer<Group> =
        settings.create_with_context(Group::default()).context("source.kafka")?;
    let consumer = Arc::new(consumer);
    let failed = sender.clone();
    let (pipeline, stop) = (Arc::clone(&service.pipeline), Arc::clone(&service.stop));
    let relay = relay::start(&source, data.clone(), Arc::clone(&pipeline), Arc::clone(&stop))?;
    let retention = retention::watch(&source, stop)?;
    let instance = read(&pipeline).instance().to_owned();
    let mut reader = Reader {
        look: Look::new(source.topics.clone()),
        decode: decode_of(config, &source),
        source,
        settings,
        told: service.config.clone(),
        config: service.config(),
        suspects: Suspects::start(&data, &instance),
        damaged: BTreeSet::new(),
        fetched: Arc::new(Fetched::new(Arc::clone(&consumer))),
        consumer,
        places: Places::new(data, Arc::clone(&service.pipeline)),
        pipeline: Arc::clone(&service.pipeline),
        committing: Arc::clone(&service.committing),
        stop: Arc::clone(&service.stop),
        generation: Arc::clone(&service.generation),
        current: service.generation.load(Ordering::Acquire),
        assignments: 0,
        partitions: BTreeMap::new(),
        outlet: Outlet::new(sender),
        cluster: String::new(),
        board: Arc::clone(&service.kafka),
        relay,
        retention,
        leaving: Some(Arc::clone(&service.leaving)),
        window: config.dedupe_window_records,
        started: Instant::now(),
        proved: None,
        is_paused: false,
        is_flowing: false,
        assigned: None,
        led: None,
    };
    std::thread::spawn(move || {
        if let Err(error) = reader.run() {
            // The loop may be gone already; then there is nobody to tell.
            let _ = failed.send(Message::Failed(error));
        }
    });
    Ok(())
}

/// What the thread works with.
struct Reader {
    source: KafkaSource,
    decode: decode::Options,
    /// Those of the consumer.
    settings: ClientConfig,
    /// The configuration in force, and the one that was taken last.
    told: Current,
    config: Arc<Config>,
    suspects: Suspects,
    /// Partitions that this process would not survive to read.
    damaged: BTreeSet<Id>,
    consumer: Arc<BaseConsumer<Group>>,
    fetched: Arc<Fetched>,
    places: Places,
    pipeline: Arc<RwLock<Pipeline>>,
    committing: Arc<Mutex<()>>,
    stop: Arc<AtomicBool>,
    /// The generation of the service, and the one that everything here began in.
    generation: Arc<AtomicU64>,
    current: u64,
    /// How often partitions were assigned: the generation of their guards.
    assignments: u64,
    partitions: BTreeMap<Id, Partition>,
    outlet: Outlet,
    /// The id of the cluster.
    cluster: String,
    look: Look,
    board: Board,
    /// Why what should go to topics does not.
    relay: relay::Note,
    /// Topics that keep their records too shortly.
    retention: retention::Notes,
    /// Held until the group was left: the process waits for it, within limits.
    leaving: Option<Arc<()>>,
    /// Records of the dedupe window.
    window: u64,
    started: Instant,
    /// When running partitions were proved last.
    proved: Option<Instant>,
    is_paused: bool,
    /// Whether records came in the last round, and may wait for others.
    is_flowing: bool,
    /// When partitions were assigned last, and when they were last led.
    assigned: Option<Instant>,
    led: Option<Instant>,
}

impl Reader {
    fn run(&mut self) -> anyhow::Result<()> {
        self.cluster = self.wait_for_cluster();
        self.look.wait_for(None);
        while !self.is_stopping() {
            self.look_around()?;
            self.lead();
            self.act_on_changes()?;
            if self.generation.load(Ordering::Acquire) != self.current {
                self.begin_all_again()?;
            }
            self.heed_reload()?;
            self.hand_out(BATCH_PATIENCE);
            self.outlet.drain()?;
            self.mind_the_loop()?;
            self.poll()?;
        }
        self.leave()
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The id of the cluster, once a broker has told it.
    fn wait_for_cluster(&mut self) -> String {
        while !self.is_stopping() {
            if let Some(cluster) = self.consumer.client().fetch_cluster_id(BROKER_LIMIT) {
                return cluster;
            }
            let told = self.consumer.context().error();
            let why = told.map_or(String::new(), |error| format!(" ({error})"));
            let brokers = self.source.brokers.join(", ");
            self.look.wait_for(Some(format!("kafka: no broker of {brokers} answers{why}")));
            self.tell();
            // Its errors come by polling.
            self.consumer.poll(POLL_INTERVAL);
        }
        String::new()
    }

    /// Leads partitions into the queue of fetched records anew: quickly as long as some may just
    /// have been assigned, since what is fetched of them waits for it.
    fn lead(&mut self) {
        let interval = if self.is_fresh() { FLOW_PATIENCE } else { LEAD_INTERVAL };
        if is_due(&mut self.led, interval) {
            let assigned = self.partitions.iter().filter(|(_, partition)| partition.is_assigned);
            assigned.for_each(|(id, _)| self.fetched.lead(id));
        }
    }

    fn is_fresh(&self) -> bool {
        self.assigned.is_some_and(|assigned| assigned.elapsed() < LEAD_INTERVAL)
    }

    /// Takes what the client tells, and the records that it has fetched.
    fn poll(&mut self) -> anyhow::Result<()> {
        let consumer = Arc::clone(&self.consumer);
        for _ in 0..POLL_RECORDS {
            match consumer.poll(Duration::ZERO) {
                None => break,
                Some(Err(error)) => return self.heed(&error),
                // Of a partition that the library knows anew since it was led past this queue.
                Some(Ok(message)) => {
                    let id = (message.topic().to_owned(), message.partition());
                    let (offset, payload) = (message.offset(), message.payload());
                    let time_ms = message.timestamp().to_millis();
                    let generation = self.assignments;
                    self.take(&id, generation, offset, time_ms, payload.unwrap_or_default())?;
                }
            }
        }
        let fetched = Arc::clone(&self.fetched);
        let is_quick = self.is_flowing || self.is_fresh();
        let wait = if is_quick { FLOW_PATIENCE } else { POLL_INTERVAL };
        let records = fetched.take(POLL_RECORDS, wait);
        let generation = self.assignments;
        // Records of one partition mostly follow each other: its name is written once.
        let (mut before, mut id): (Option<&Record<'_>>, Id) = (None, (String::new(), 0));
        for record in &records {
            if let Some(error) = record.error() {
                self.heed(&error)?;
                continue;
            }
            if !before.is_some_and(|before| record.is_beside(before)) {
                id = record.id();
            }
            before = Some(record);
            self.take(&id, generation, record.offset(), record.time_ms(), record.payload())?;
        }
        self.is_flowing = !records.is_empty();
        if !self.is_flowing {
            self.hand_out(Duration::ZERO);
        }
        Ok(())
    }

    /// Takes a record that was fetched while the newest assignment was `generation`.
    fn take(
        &mut self,
        id: &Id,
        generation: u64,
        offset: i64,
        time_ms: Option<i64>,
        payload: &[u8],
    ) -> anyhow::Result<()> {
        let partition = self.partitions.get_mut(id);
        let partition = partition.filter(|partition| partition.generation() <= generation);
        let (Some(partition), Ok(offset)) = (partition, u64::try_from(offset)) else {
            self.look.strays += 1;
            return Ok(());
        };
        match partition.take(offset, time_ms, payload) {
            Step::Next => {
                self.look.took(payload.len());
                Ok(())
            }
            Step::Fetch(from) => self.fetch(&[(id.clone(), from)]),
            Step::Stop(why) => {
                let at = partition.position();
                self.stop_partition(id, why, Some(at))
            }
        }
    }

    /// Hands out records that have waited long enough, and those of which there are many.
    fn hand_out(&mut self, patience: Duration) {
        let generation = self.current;
        for ((topic, number), partition) in &mut self.partitions {
            if let Some(chunk) = partition.remembered() {
                let partition = name(topic, *number);
                self.outlet.push(Message::Remember { generation, partition, chunk });
            }
            let arrived = partition.oldest();
            if let Some(chunk) = partition.chunk(patience) {
                let partition = name(topic, *number);
                self.outlet.push(Message::Chunk { generation, partition, chunk, arrived });
            }
        }
    }

    /// Stops fetching while the loop takes nothing.
    fn mind_the_loop(&mut self) -> anyhow::Result<()> {
        if self.outlet.is_full() {
            self.outlet.drain_for(PAUSE_AFTER, |outlet| !outlet.is_full())?;
        }
        let is_full = self.outlet.is_full();
        if is_full || self.is_paused {
            let assigned = self.list(|partition| partition.is_assigned.then_some(Offset::Invalid));
            let done = match is_full {
                true => self.consumer.pause(&assigned),
                false => self.consumer.resume(&assigned),
            };
            if let Err(error) = done {
                self.look.note_error(error.to_string());
            }
        }
        self.is_paused = is_full;
        Ok(())
    }

    /// A list of the partitions that `offset` answers for.
    fn list(&self, offset: impl Fn(&Partition) -> Option<Offset>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for ((topic, number), partition) in &self.partitions {
            if let Some(offset) = offset(partition) {
                add(&mut list, &(topic.clone(), *number), offset);
            }
        }
        list
    }

    /// Does what the group has asked for.
    fn act_on_changes(&mut self) -> anyhow::Result<()> {
        while let Some(change) = self.consumer.context().next_change() {
            self.look.rebalances += 1;
            match change {
                Change::Assigned(ids) => {
                    failpoint::reach("kafka.assign");
                    for id in &ids {
                        self.partitions.insert(id.clone(), Partition::new(self.source.holes));
                    }
                    self.take_up(&ids);
                }
                Change::Revoked { partitions, lost } => self.give_back(&partitions, lost)?,
            }
        }
        Ok(())
    }

    /// Begins partitions where the table says. Where it cannot be read they wait, and the
    /// client is told to fetch nothing of them.
    fn take_up(&mut self, ids: &[Id]) {
        self.note_reading();
        let known = match self.places.known(ids) {
            Ok((known, version)) => {
                self.wait_until_followed(version);
                self.look.note_store(None);
                known
            }
            Err(error) => {
                self.look.note_store(Some(error.to_string()));
                Vec::new()
            }
        };
        let mut places: Vec<(Id, u64)> = Vec::with_capacity(ids.len());
        for (id, known) in ids.iter().zip(&known) {
            places.extend(self.begin(id, known).map(|from| (id.clone(), from)));
        }
        let corrupt = self.look_ahead(&places);
        let mut list = TopicPartitionList::new();
        for (id, from) in places.iter().filter(|(id, _)| !corrupt.contains(id)) {
            add(&mut list, id, Offset::Offset(*from as i64));
            self.fetched.lead(id);
        }
        self.assigned = Some(Instant::now());
        // Called for an empty list as well: the library waits for an answer.
        let assigned = self.consumer.incremental_assign(&list);
        for id in ids {
            let is_listed = list.find_partition(&id.0, id.1).is_some();
            let Some(partition) = self.partitions.get_mut(id) else { continue };
            partition.is_assigned = is_listed && assigned.is_ok();
            if is_listed && assigned.is_err() {
                partition.state = State::Waiting;
            }
        }
        if let Err(error) = assigned {
            self.look.note_error(format!("partitions cannot be assigned: {error}"));
        }
        for id in &corrupt {
            if let Err(error) = self.read_up_to_damage(id) {
                self.look.note_error(format!("{}/{}: {error:#}", id.0, id.1));
                if let Some(partition) = self.partitions.get_mut(id) {
                    partition.state = State::Waiting;
                }
            }
        }
    }

    /// Begins one partition; the offset to fetch from, unless it stops at once.
    fn begin(&mut self, id: &Id, known: &Known) -> Option<u64> {
        let (topic, number) = id;
        if let Err(obstacle) = place::check_cluster(known.cluster.as_deref(), &self.cluster) {
            let partition = self.partitions.get_mut(id)?;
            partition.stop(obstacle.to_string(), None);
            tell_stop(id, &obstacle.to_string());
            return None;
        }
        self.assignments += 1;
        let partition = self.partitions.get_mut(id)?;
        let from = partition.begin(self.assignments, known, self.window);
        self.outlet.push(Message::Begin(Box::new(Begin {
            generation: self.current,
            unit: Unit::Records,
            partition: name(topic, *number),
            label: label(&self.cluster, topic, *number),
            decode: self.decode.clone(),
            head: Vec::new(),
            place: (known.offset, Tail::default()),
            before: None,
        })));
        Some(from)
    }

    /// Waits until the loop has seen what others have committed, so that it finds the partition
    /// where this thread has found it. Within limits: where it does not, it says so.
    fn wait_until_followed(&self, version: u64) {
        let since = Instant::now();
        while read(&self.pipeline).table().version() < version && since.elapsed() < FOLLOW_LIMIT {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Gives partitions back: what was counted of them is committed, if that does not take too
    /// long, and they are let go.
    fn give_back(&mut self, ids: &[Id], lost: bool) -> anyhow::Result<()> {
        failpoint::reach("kafka.revoke");
        let names: Vec<String> = ids.iter().map(|(topic, number)| name(topic, *number)).collect();
        self.outlet.forget(&names);
        let mut list = TopicPartitionList::new();
        for id in ids {
            let Some(partition) = self.partitions.remove(id) else { continue };
            self.look.keep_counts(&partition);
            if partition.is_assigned {
                add(&mut list, id, Offset::Invalid);
            }
        }
        let done = self.let_go(names, lost);
        self.outlet.drain()?;
        let since = Instant::now();
        while since.elapsed() < REVOKE_LIMIT {
            self.outlet.drain()?;
            if done.recv_timeout(Duration::from_millis(5)).is_ok() {
                break;
            }
        }
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            self.look.note_error(format!("partitions cannot be given back: {error}"));
        }
        self.note_reading();
        Ok(())
    }

    /// Tells the loop to let partitions go; what is answered hears when it has.
    fn let_go(&mut self, partitions: Vec<String>, lost: bool) -> std::sync::mpsc::Receiver<()> {
        let (done, is_done) = sync_channel(1);
        self.outlet.push(Message::Revoke { partitions, lost, done });
        is_done
    }

    /// Fetches partitions afresh under a newer assignment: the only way back. What the client
    /// may still deliver of before is dropped by the guards.
    fn fetch(&mut self, places: &[(Id, u64)]) -> anyhow::Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let (mut old, mut new) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (id, from) in places {
            self.assignments += 1;
            let Some(partition) = self.partitions.get_mut(id) else { continue };
            partition.fetch(self.assignments, *from);
            if partition.is_assigned {
                add(&mut old, id, Offset::Invalid);
            }
            add(&mut new, id, Offset::Offset(*from as i64));
        }
        self.assigned = Some(Instant::now());
        let done = self.consumer.incremental_unassign(&old);
        let done = done.and_then(|()| self.consumer.incremental_assign(&new));
        for (id, _) in places {
            let Some(partition) = self.partitions.get_mut(id) else { continue };
            partition.is_assigned = done.is_ok();
            if done.is_err() {
                partition.state = State::Waiting;
            }
        }
        if let Err(error) = done {
            self.look.note_error(format!("partitions cannot be fetched again: {error}"));
        }
        Ok(())
    }

    /// Stops one partition; the loop lets it go once what was counted of it is committed.
    fn stop_partition(&mut self, id: &Id, why: String, at: Option<u64>) -> anyhow::Result<()> {
        tell_stop(id, &why);
        self.hand_out(Duration::ZERO);
        let Some(partition) = self.partitions.get_mut(id) else { return Ok(()) };
        partition.stop(why, at);
        if std::mem::take(&mut partition.is_assigned) {
            let mut list = TopicPartitionList::new();
            add(&mut list, id, Offset::Invalid);
            if let Err(error) = self.consumer.incremental_unassign(&list) {
                self.look.note_error(format!("a partition cannot be stopped: {error}"));
            }
        }
        // Nobody waits for that: it is told to begin again only when the table has moved.
        drop(self.let_go(vec![name(&id.0, id.1)], false));
        self.outlet.drain()
    }

    /// Begins every partition that is not stopped where the pipeline or the table says now.
    fn begin_all_again(&mut self) -> anyhow::Result<()> {
        self.current = self.generation.load(Ordering::Acquire);
        let all = self.adopt_config();
        let again = self.ids(|partition| all || !partition.is_stopped());
        self.take_up_again(&again)
    }

    /// Where the configuration was read again, partitions that are stopped are tried once more.
    fn heed_reload(&mut self) -> anyhow::Result<()> {
        if !self.adopt_config() {
            return Ok(());
        }
        let stopped = self.ids(Partition::is_stopped);
        for (topic, number) in &stopped {
            eprintln!("ninefold: {topic}/{number} is tried again");
        }
        self.take_up_again(&stopped)
    }

    /// Takes what a running source can take of a new configuration; false where there is none.
    fn adopt_config(&mut self) -> bool {
        let config = self.told.get();
        let is_new = !Arc::ptr_eq(&config, &self.config);
        if is_new && let Some(source) = &config.sources.kafka {
            self.decode = decode_of(&config, source);
            self.source = source.clone();
        }
        self.config = config;
        is_new
    }

    /// Begins partitions that may be assigned already.
    fn take_up_again(&mut self, ids: &[Id]) -> anyhow::Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = ids.iter().map(|(topic, number)| name(topic, *number)).collect();
        self.outlet.forget(&names);
        let mut list = TopicPartitionList::new();
        for id in ids {
            let Some(partition) = self.partitions.get_mut(id) else { continue };
            if std::mem::take(&mut partition.is_assigned) {
                add(&mut list, id, Offset::Invalid);
            }
            self.look.keep_counts(partition);
            *partition = Partition::new(self.source.holes);
        }
        if list.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&list)
        {
            self.look.note_error(format!("partitions cannot begin again: {error}"));
        }
        self.take_up(ids);
        Ok(())
    }

    fn ids(&self, wanted: impl Fn(&Partition) -> bool) -> Vec<Id> {
        let wanted = self.partitions.iter().filter(|(_, partition)| wanted(partition));
        wanted.map(|(id, _)| id.clone()).collect()
    }

    /// Counts what has come and leaves the group, within limits. The client is closed when the
    /// thread ends; that has been seen to hang, and the process ends all the same.
    fn leave(&mut self) -> anyhow::Result<()> {
        self.hand_out(Duration::ZERO);
        self.outlet.drain_for(REVOKE_LIMIT, Outlet::is_empty)?;
        self.consumer.unsubscribe();
        let since = Instant::now();
        while !self.partitions.is_empty() && since.elapsed() < REVOKE_LIMIT {
            self.act_on_changes()?;
            // What comes now is not taken: the next owner begins where the table stands.
            drop(self.consumer.poll(POLL_INTERVAL));
        }
        self.consumer.context().close();
        let damaged: Vec<String> = self.damaged.iter().map(|id| name(&id.0, id.1)).collect();
        self.suspects.end(&damaged);
        self.leaving = None;
        Ok(())
    }
}

fn add(list: &mut TopicPartitionList, (topic, number): &Id, offset: Offset) {
    list.add_partition_offset(topic, *number, offset).expect("offsets of the log fit");
}

fn tell_stop((topic, number): &Id, why: &str) {
    eprintln!("ninefold: {topic}/{number} is stopped: {why}");
}
