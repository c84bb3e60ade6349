//! The turns of the loop: take what has come, follow the table, tick, commit, say how it goes.
//!
//! Answers wait for as long as the pipeline is locked for writing, so what only reads it (decoding,
//! looking at what may burn, writing the files of a commit and of a snapshot) is done under a
//! shared lock. No other thread changes it, so that it is the same when the loop locks it again.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ninefold_engine::pipeline::careful::Poison;
use ninefold_engine::pipeline::replay::settled_decode;
use ninefold_engine::pipeline::{Pipeline, Start};
use ninefold_engine::query::Health;
use ninefold_engine::source::chunk::Chunk;
use ninefold_engine::time::Minute;

use super::{Begin, Chores, Commits, Loop, Message, Pace, Service, Snapshots, clock_ms, poison};
use crate::ask::promise;
use crate::states::{lock, read};

/// The longest time between two looks at what other instances have committed.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// How long the loop waits for chunks at most: it also looks for signals.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// At a stop, sources that have sent nothing for so long have nothing more to send.
const QUIET: Duration = Duration::from_millis(250);

/// How often the board is written at most.
const NOTE_INTERVAL: Duration = Duration::from_millis(100);

/// How many reports of damage the notes hold.
const DAMAGE_NOTES_MAX: usize = 10;

/// So many bytes of chunks the loop takes at once, and what the last one has more.
const BATCH_BYTES: usize = 32 << 20;

/// How far behind the clock events are at most that are of now.
const NOW_MINUTES: u32 = 2;

/// Whether what is counted is of now, so that alerts wait for it: a backlog is not.
fn is_of_now(pipeline: &Pipeline) -> bool {
    let oldest = Minute::of_ms(clock_ms()).minus(NOW_MINUTES);
    pipeline.state.newest().is_some_and(|newest| newest >= oldest)
}

/// The pipeline, to change it.
///
/// # Panics
/// If this thread, the only one that changes it, has panicked with it.
pub(super) fn write(pipeline: &RwLock<Pipeline>) -> RwLockWriteGuard<'_, Pipeline> {
    pipeline.write().expect("nobody has panicked with it")
}

impl<'a> Loop<'a> {
    /// A loop that has not begun.
    pub(super) fn new(service: &'a Service) -> anyhow::Result<Loop<'a>> {
        let poison = poison::Note::read(&service.data)?;
        let mut pipeline = write(&service.pipeline);
        pipeline.set_poison(poison.places().to_vec());
        let mut snapshots = Snapshots::new(&service.data);
        snapshots.note(pipeline.restored());
        let now = Instant::now();
        Ok(Loop {
            service,
            commits: Commits::new(),
            chores: Chores::default(),
            started: now,
            pace: Pace::new(now),
            followed: now,
            arrived: None,
            poison,
            snapshots,
            noted: None,
            refused: None,
            unloaded: None,
            split_customers: 0,
        })
    }

    /// As [`Service::count_until_end`].
    pub(super) fn count_until_end(&mut self, messages: &Receiver<Message>) -> anyhow::Result<()> {
        let service = self.service;
        while let Ok(first) = messages.recv() {
            let ended = self.take(first, messages)?;
            let mut pipeline = write(&service.pipeline);
            if ended || pipeline.epoch_is_full() {
                self.commit(&mut pipeline)?;
            }
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// As [`Service::run`].
    pub(super) fn run(&mut self, messages: &Receiver<Message>) -> anyhow::Result<()> {
        let service = self.service;
        service.outbox.watch();
        let pipeline = Arc::clone(&service.pipeline);
        service.verdicts.watch(&service.data, service.config.clone(), pipeline);
        self.follow(&mut write(&service.pipeline))?;
        loop {
            self.note_health();
            let ended = self.wait(messages)?;
            if ended || service.stop.load(Ordering::Relaxed) {
                self.end(messages)?;
                let config = service.config();
                let limit = Duration::from_millis(config.stop_timeout_ms) / 4;
                let interval = Duration::from_millis(config.snapshot_interval_ms);
                self.snapshots.finish(&read(&service.pipeline), interval, limit);
                return Ok(());
            }
            self.turn()?;
        }
    }

    /// Takes what comes until the next tick; true where nothing will come any more.
    fn wait(&mut self, messages: &Receiver<Message>) -> anyhow::Result<bool> {
        let news = self.arrived.is_some();
        let wait = self.pace.until_tick(Instant::now(), news).min(WAIT_MAX);
        if self.is_full() {
            std::thread::park_timeout(wait.max(Duration::from_millis(10)));
            return Ok(false);
        }
        match messages.recv_timeout(wait) {
            Ok(first) => self.take(first, messages).map(|_| false),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Ok(true),
        }
    }

    /// Whether nothing more can be taken until the store works again.
    fn is_full(&self) -> bool {
        let pipeline = read(&self.service.pipeline);
        !pipeline.is_complete() || (self.commits.is_failing() && pipeline.epoch_is_full())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let service = self.service;
        let mut pipeline = write(&service.pipeline);
        if !self.commits.must_wait() && !pipeline.is_complete() {
            self.rebuild(&mut pipeline)?;
        }
        // Before the tick: a zombie that wakes up finds out before it decides anything.
        if !self.commits.must_wait() && self.followed.elapsed() >= FOLLOW_INTERVAL {
            self.follow(&mut pipeline)?;
        }
        drop(pipeline);
        if self.pace.until_tick(Instant::now(), self.arrived.is_some()).is_zero() {
            self.tick();
        }
        let config = self.service.config();
        let interval = Duration::from_millis(config.commit_interval_ms);
        let reload = self.service.reload.load(Ordering::Relaxed);
        let may = !self.commits.must_wait();
        let due = reload || self.commits.is_due(interval) || {
            let pipeline = read(&service.pipeline);
            let lines = pipeline.uncommitted_lines();
            pipeline.epoch_is_full()
                || (is_of_now(&pipeline) && self.pace.is_long(Instant::now(), lines))
        };
        // What was counted is judged before a commit holds it up, and what fires goes with it.
        if may && due && self.arrived.is_some() {
            self.tick();
        }
        let news = || read(&service.pipeline).has_transitions();
        if may && (due || (news() && self.pace.ask(Instant::now()))) {
            self.commit_beside(&service.pipeline)?;
            let interval = Duration::from_millis(config.snapshot_interval_ms);
            self.snapshots.turn(&read(&service.pipeline), interval);
        }
        if !reload {
            return Ok(());
        }
        let pipeline = &mut *write(&service.pipeline);
        if pipeline.is_complete() && !pipeline.has_uncommitted() {
            self.service.reload.store(false, Ordering::Relaxed);
            self.reload(pipeline)?;
        }
        Ok(())
    }

    /// Evaluates the alerts. It looks while others may answer; only this thread changes anything,
    /// so that what it has seen is still so when it enters it.
    fn tick(&mut self) {
        let began = Instant::now();
        if read(&self.service.pipeline).is_complete() {
            self.evaluate();
        }
        self.pace.ticked(began, Instant::now());
    }

    fn evaluate(&mut self) {
        let (service, config) = (self.service, self.service.config());
        self.unloaded = None;
        let lacks_evicted = read(&service.pipeline).lacks_evicted();
        if lacks_evicted {
            let mut pipeline = write(&service.pipeline);
            // What cannot be loaded now is judged later: everything else is judged now.
            self.unloaded = pipeline.load_evicted().err().map(|error| error.to_string());
        }
        let sight = read(&service.pipeline).look(clock_ms(), &config.objectives, &config.alerts);
        let mut pipeline = write(&service.pipeline);
        pipeline.enter(sight);
        if let Some(look) = service.verdicts.take() {
            pipeline.note_verdicts(look, clock_ms(), &promise(&config));
        }
        service.outbox.offer(pipeline.notices().iter(), self.arrived.take());
        self.note_uncommitted(&pipeline);
        self.split_customers = pipeline.split_series();
    }

    /// At once, so that nobody who sees a count in an answer is told that it is committed.
    fn note_uncommitted(&mut self, pipeline: &Pipeline) {
        if self.commits.uncommitted_since.is_none() && pipeline.has_uncommitted() {
            let now = Instant::now();
            self.commits.uncommitted_since = Some(now);
            self.service.board.note_uncommitted(now);
        }
    }

    /// Counts what the sources have sent, lets them say good-bye, and commits. Where the store
    /// fails it is tried again; whoever has asked for the stop sets the limit.
    fn end(&mut self, messages: &Receiver<Message>) -> anyhow::Result<()> {
        let service = self.service;
        let since = Instant::now();
        let limit = Duration::from_millis(service.config().stop_timeout_ms) / 2;
        while since.elapsed() < limit && !self.is_full() {
            match messages.recv_timeout(QUIET) {
                Ok(first) => drop(self.take(first, messages)?),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if Arc::strong_count(&service.leaving) == 1 => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let mut pipeline = write(&service.pipeline);
            if pipeline.epoch_is_full() && !self.commits.must_wait() {
                self.commit(&mut pipeline)?;
            }
        }
        self.tick();
        let mut pipeline = write(&service.pipeline);
        loop {
            self.commit(&mut pipeline)?;
            if !pipeline.is_complete() || !pipeline.has_uncommitted() {
                return Ok(());
            }
            drop(pipeline);
            self.noted = None;
            self.note_health();
            while self.commits.must_wait() {
                std::thread::park_timeout(QUIET);
            }
            pipeline = write(&service.pipeline);
        }
    }

    /// Lets partitions go, as [`Message::Revoke`] says.
    fn revoke(
        &mut self,
        pipeline: &mut Pipeline,
        partitions: &[String],
        lost: bool,
    ) -> anyhow::Result<()> {
        let is_uncommitted = |pipeline: &Pipeline| {
            partitions.iter().any(|partition| pipeline.is_uncommitted(partition))
        };
        if !lost && (is_uncommitted(pipeline) || pipeline.has_transitions()) {
            self.commit(pipeline)?;
        }
        if is_uncommitted(pipeline) {
            return self.rebuild(pipeline);
        }
        partitions.iter().for_each(|partition| pipeline.release(partition));
        self.service.outbox.withdraw(pipeline.notices().iter());
        Ok(())
    }

    /// Takes what has come; true where the past has ended.
    fn take(&mut self, first: Message, messages: &Receiver<Message>) -> anyhow::Result<bool> {
        let service = self.service;
        let mut waiting: Vec<(u16, Vec<Chunk>)> = Vec::new();
        let (mut ended, mut bytes) = (false, 0);
        // Where the store fails one by one, so that the epoch's budget is kept to a chunk.
        let most = if self.commits.is_failing() { 0 } else { BATCH_BYTES };
        let mut next = Some(first);
        while let Some(message) = next {
            if !matches!(message, Message::Chunk { .. }) {
                self.ingest(&std::mem::take(&mut waiting))?;
            }
            bytes += message.bytes();
            let current = service.generation.load(Ordering::Acquire);
            let is_current =
                |generation: u64| generation == current && read(&service.pipeline).is_complete();
            match message {
                Message::Failed(error) => {
                    self.commit(&mut write(&service.pipeline))?;
                    return Err(error);
                }
                Message::PastEnded => ended = true,
                Message::Begin(begin) if is_current(begin.generation) => {
                    self.begin(&mut write(&service.pipeline), *begin)?;
                }
                Message::Remember { generation, partition, chunk } if is_current(generation) => {
                    let mut pipeline = write(&service.pipeline);
                    let number = pipeline.number_of(&partition).context("it has begun")?;
                    pipeline.remember(number, &[chunk]);
                }
                Message::End { generation, partition } if is_current(generation) => {
                    lock(&service.claims).remove(&partition);
                }
                Message::Gap { generation, partition, next, reason, done } => {
                    let landed = is_current(generation)
                        && self.accept_gap(
                            &mut write(&service.pipeline),
                            &partition,
                            next,
                            &reason,
                        )?;
                    // Who asked may have given up waiting.
                    let _ = done.send(landed);
                }
                Message::Chunk { generation, partition, chunk, arrived }
                    if is_current(generation) =>
                {
                    self.arrived = Some(self.arrived.map_or(arrived, |oldest| oldest.min(arrived)));
                    let number = read(&service.pipeline).number_of(&partition);
                    let number = number.context("it has begun")?;
                    match waiting.iter_mut().find(|(known, _)| *known == number) {
                        Some((_, chunks)) => chunks.push(chunk),
                        None => waiting.push((number, vec![chunk])),
                    }
                }
                // Of before the pipeline was built afresh: it will be read again.
                Message::Begin(_)
                | Message::End { .. }
                | Message::Chunk { .. }
                | Message::Remember { .. } => {}
                Message::Revoke { partitions, lost, done } => {
                    self.revoke(&mut write(&service.pipeline), &partitions, lost)?;
                    // Who asked may have given up waiting.
                    let _ = done.send(());
                }
            }
            next = if bytes < most { messages.try_recv().ok() } else { None };
        }
        self.ingest(&waiting)?;
        Ok(ended)
    }

    /// Counts chunks of partitions, which are decoded while others may answer; where that panics,
    /// leaves a note for the next life and ends this one.
    fn ingest(&mut self, work: &[(u16, Vec<Chunk>)]) -> anyhow::Result<()> {
        if work.is_empty() {
            return Ok(());
        }
        let decoded = read(&self.service.pipeline).try_decode_all(work);
        let mut pipeline = write(&self.service.pipeline);
        let counted = decoded.and_then(|decoded| pipeline.try_count_all(work, decoded));
        if let Err(poisons) = counted {
            let place = |one: &Poison| {
                format!("{} from offset {} to {}", one.partition, one.first, one.next)
            };
            let places: Vec<String> = poisons.iter().map(place).collect();
            let message = poisons.first().map(|one| one.message.clone()).unwrap_or_default();
            self.poison.add(poisons)?;
            bail!(
                "a bug: counting {} panicked: {message}; start again: it is taken record by \
                 record, and what panics again becomes a dead letter",
                places.join(", ")
            );
        }
        self.note_uncommitted(&pipeline);
        Ok(())
    }

    /// Takes a partition that begins, or that goes on. Where it stands somewhere else by now,
    /// the sources look up their places again.
    fn begin(&mut self, pipeline: &mut Pipeline, begin: Begin) -> anyhow::Result<()> {
        let Begin { unit, partition, label, decode, head, place, before, .. } = begin;
        if pipeline.place_of(&partition)? != place.0 {
            self.service.restart_sources();
            return Ok(());
        }
        self.poison.reread()?;
        pipeline.set_poison(self.poison.places().to_vec());
        let decode = settled_decode(&label, decode, &head)?;
        let is_new = pipeline.number_of(&partition).is_none();
        let (name, label, (offset, tail)) = (&*partition, &*label, place);
        let number = pipeline.partition(Start { name, label, decode, unit, offset, tail })?;
        for chunk in before.into_iter().flatten().take_while(|_| is_new) {
            pipeline.remember(number, &[chunk?]);
        }
        Ok(())
    }

    /// Writes on the board how things are; not at every turn, since it counts all series.
    fn note_health(&mut self) {
        if self.noted.is_some_and(|noted| noted.elapsed() < NOTE_INTERVAL) {
            return;
        }
        self.noted = Some(Instant::now());
        let service = self.service;
        let pipeline = read(&service.pipeline);
        let lines = pipeline.lines();
        let memory = pipeline.memory_use();
        let mut notes: Vec<String> =
            self.commits.note().into_iter().chain(memory.notes()).collect();
        if let Some(error) = &self.unloaded {
            notes.push(format!("alerts of customers who were evicted wait for the table: {error}"));
        }
        notes.extend(service.notifiers.notes());
        notes.extend(service.verdicts.note());
        if !pipeline.is_complete() {
            notes.push("memory is being read from the table afresh".to_owned());
        }
        if let Some(refused) = &self.refused {
            notes.push(format!("the configuration stays as it was: {refused}"));
        }
        let damages = lock(&service.damages);
        notes.extend(damages.iter().take(DAMAGE_NOTES_MAX).cloned());
        if let Some(more) = damages.len().checked_sub(DAMAGE_NOTES_MAX).filter(|more| *more > 0) {
            notes.push(format!("{more} more reports of damage are on standard error"));
        }
        for one in self.poison.places() {
            let Poison { partition, first, next, .. } = one;
            notes.push(format!("counting {partition} from offset {first} to {next} panicked"));
        }
        if self.split_customers > 0 {
            notes.push(format!(
                "{} customers with failures are in several partitions of Kafka: their counts are \
                 exact, their alerts late; key events by customer",
                self.split_customers
            ));
        }
        let mut partitions: Vec<String> = pipeline.owned().map(str::to_owned).collect();
        partitions.sort_unstable();
        let health = Health {
            ready: pipeline.is_complete(),
            notes,
            as_of: pipeline.state.newest().map(|minute| minute.to_string()),
            read: lines.read,
            counted: lines.counted,
            dead: lines.dead,
            duplicate: lines.duplicate,
            series: pipeline.state.series_count(),
            commits: pipeline.commits(),
            table_version: Some(pipeline.table().version()),
            commit_failures: self.commits.failures,
            uncommitted_lines: pipeline.uncommitted_lines(),
            instance: pipeline.instance().to_owned(),
            role: if pipeline.is_judge() { "judge" } else { "member" }.to_owned(),
            partitions,
            memory,
            split_customers: self.split_customers,
            ..Health::default()
        };
        service.board.note(health, self.commits.uncommitted_since);
    }
}
