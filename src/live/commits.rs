//! Committing, whatever the store does, and following what other instances commit.
//!
//! A commit that fails keeps everything in memory. It is tried again after a while that doubles
//! up to half a minute, with jitter, so that several instances do not come at once. Meanwhile
//! counting goes on until the epoch is full; then nothing more is taken from the sources: files
//! wait, and what is sent to us is refused until the store works again. Only what waiting cannot
//! mend ends the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use ninefold_engine::pipeline::decision::stored_silences;
use ninefold_engine::pipeline::follow::Followed;
use ninefold_engine::pipeline::{Pipeline, PipelineError, Ready};
use ninefold_engine::table::{CommitError, JUDGE, TableError, io_error_in};
use ninefold_engine::time::Minute;

use super::turn::write;
use super::{Loop, MEMORY_MINUTES, Published, Service, clock_ms, rivals};
use crate::batch::random_seed;
use crate::states::{lock, read};

/// The first wait after a commit that failed.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// When commits are due, and how they go.
pub(super) struct Commits {
    /// When the last one landed, or was not needed.
    pub last: Instant,
    /// When the oldest of what is not committed was counted.
    pub uncommitted_since: Option<Instant>,
    /// How many have failed since the start.
    pub failures: u64,
    failing: Option<Failing>,
    /// Whether the last commit could not shorten the log.
    upkeep_fails: bool,
    /// The share of the interval by which this one comes sooner.
    jitter: f64,
}

struct Failing {
    since: Instant,
    retry_at: Instant,
    wait: Duration,
    /// What is the matter, without the names of files, which change from try to try.
    cause: String,
    text: String,
}

impl Commits {
    pub fn new() -> Commits {
        Commits {
            last: Instant::now(),
            uncommitted_since: None,
            failures: 0,
            failing: None,
            upkeep_fails: false,
            jitter: random_share(),
        }
    }

    /// Whether the interval is over. Each comes up to a tenth sooner, so that instances which
    /// were started together do not stay together.
    pub fn is_due(&self, interval: Duration) -> bool {
        self.last.elapsed() >= interval.mul_f64(1.0 - 0.1 * self.jitter)
    }

    /// Whether the store has to be left alone for now.
    pub fn must_wait(&self) -> bool {
        self.failing.as_ref().is_some_and(|failing| Instant::now() < failing.retry_at)
    }

    /// Whether the store fails.
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// What is the matter with the store, for people.
    pub fn note(&self) -> Option<String> {
        let failing = self.failing.as_ref()?;
        let seconds = failing.since.elapsed().as_secs();
        Some(format!("no commit for {seconds} s: {}; tried again by itself", failing.text))
    }

    /// Nothing is left to be committed.
    fn landed(&mut self) {
        (self.last, self.uncommitted_since) = (Instant::now(), None);
        self.jitter = random_share();
    }

    /// Takes note of whether the log could be shortened; of several failures the first is told.
    fn note_upkeep(&mut self, error: Option<TableError>) {
        if let Some(error) = error.as_ref().filter(|_| !self.upkeep_fails) {
            eprintln!("ninefold: {error}");
        }
        self.upkeep_fails = error.is_some();
    }

    /// The store did what it was asked.
    fn works(&mut self) {
        if let Some(failing) = self.failing.take() {
            let seconds = failing.since.elapsed().as_secs_f64();
            eprintln!("ninefold: the store works again, after {seconds:.1} s");
        }
    }

    /// Takes note of a failure that may heal; told once for each cause.
    fn failed(&mut self, error: &PipelineError) {
        self.failures += 1;
        let cause = io_error_in(error).map_or_else(|| error.to_string(), ToString::to_string);
        let text = error.to_string();
        let known = self.failing.take();
        if known.as_ref().is_none_or(|known| known.cause != cause) {
            eprintln!("ninefold: {text}; nothing is lost, and it is tried again by itself");
        }
        let wait = known.as_ref().map_or(RETRY_FIRST, |known| (2 * known.wait).min(RETRY_MAX));
        let since = known.map_or_else(Instant::now, |known| known.since);
        let retry_at = Instant::now() + wait.mul_f64(0.5 + 0.5 * random_share());
        self.failing = Some(Failing { since, retry_at, wait, cause, text });
    }
}

/// Anything from 0 to 1.
fn random_share() -> f64 {
    random_seed() as f64 / u64::MAX as f64
}

impl Loop<'_> {
    /// Commits what was counted, or drops it where others have counted it.
    pub(super) fn commit(&mut self, pipeline: &mut Pipeline) -> anyhow::Result<()> {
        if !pipeline.is_complete() {
            return self.rebuild(pipeline);
        }
        self.note_told(pipeline);
        let (began, is_short) = (Instant::now(), pipeline.is_short_of_memory());
        let (lines, outcome) = (pipeline.uncommitted_lines(), pipeline.commit());
        self.committed(pipeline, (began, lines, is_short), outcome)
    }

    /// As [`Loop::commit`], but that the files are written while others may answer: only this
    /// thread changes anything, so that what is written is still all there is when it lands.
    pub(super) fn commit_beside(&mut self, pipeline: &RwLock<Pipeline>) -> anyhow::Result<()> {
        let service = self.service;
        let _committing = lock(&service.committing);
        let mut before = write(pipeline);
        if !before.is_complete() {
            return self.rebuild(&mut before);
        }
        self.note_told(&mut before);
        drop(before);
        let began = Instant::now();
        let (lines, is_short, ready) = {
            let pipeline = read(pipeline);
            let (lines, is_short) = (pipeline.uncommitted_lines(), pipeline.is_short_of_memory());
            (lines, is_short, pipeline.write_ahead())
        };
        let pipeline = &mut *write(pipeline);
        let land = |ready: Option<Ready>| ready.map(|ready| pipeline.land(ready)).transpose();
        let outcome = ready.and_then(land);
        self.committed(pipeline, (began, lines, is_short), outcome)
    }

    /// What people were told is kept with the next commit.
    fn note_told(&self, pipeline: &mut Pipeline) {
        self.service.notifiers.take_told().into_iter().for_each(|sent| pipeline.note_sent(sent));
    }

    /// Goes on after a commit, which began then, of so many lines; whether memory was short.
    fn committed(
        &mut self,
        pipeline: &mut Pipeline,
        (began, lines, is_short): (Instant, u64, bool),
        outcome: Result<Option<u64>, PipelineError>,
    ) -> anyhow::Result<()> {
        match outcome {
            Ok(version) => {
                if version.is_some() {
                    self.pace.committed(began, Instant::now(), lines);
                }
                if is_short {
                    crate::allocator::give_back();
                }
                self.commits.landed();
                if version.is_some() {
                    self.commits.works();
                    self.commits.note_upkeep(pipeline.take_upkeep_error());
                }
                self.service.outbox.confirm();
                self.poison.strike(pipeline)?;
                self.follow(pipeline)
            }
            Err(PipelineError::Commit(CommitError::Fenced { partition, .. }))
                if partition == JUDGE =>
            {
                // Another instance has decided: what we decided is dropped, what we counted is
                // not. Without the role there is nothing of the judge to be fenced again.
                self.service.rivals.saw(JUDGE);
                pipeline.stop_judging()?;
                self.follow(pipeline)?;
                if pipeline.is_complete() { self.commit(pipeline) } else { Ok(()) }
            }
            Err(error) => self.not_landed(pipeline, error),
        }
    }

    /// Accepts that a partition is not counted up to `next`, in a commit of its own; false where
    /// it has not landed.
    pub(super) fn accept_gap(
        &mut self,
        pipeline: &mut Pipeline,
        partition: &str,
        next: u64,
        reason: &str,
    ) -> anyhow::Result<bool> {
        if self.commits.must_wait() {
            return Ok(false);
        }
        self.commit(pipeline)?;
        let is_counted = pipeline.is_complete() && pipeline.number_of(partition).is_some();
        if !is_counted || pipeline.has_moved() {
            return Ok(false);
        }
        match pipeline.accept_gap(partition, next, reason, Minute::of_ms(clock_ms())) {
            Ok(()) => Ok(true),
            Err(error) => self.not_landed(pipeline, error).map(|()| false),
        }
    }

    /// Goes on after a commit that did not land.
    fn not_landed(&mut self, pipeline: &mut Pipeline, error: PipelineError) -> anyhow::Result<()> {
        if let PipelineError::Commit(CommitError::Fenced { partition, .. }) = &error {
            self.fenced(&error.to_string());
            self.service.rivals.saw(partition);
            return self.rebuild(pipeline);
        }
        self.failed(error)
    }

    fn fenced(&self, what: &str) {
        eprintln!("ninefold: {what}; counting on from where the table stands");
    }

    /// Keeps going where the error may heal.
    fn failed(&mut self, error: PipelineError) -> anyhow::Result<()> {
        let may_heal = match &error {
            PipelineError::Table(error) => error.may_heal(),
            PipelineError::Commit(error) => error.may_heal(),
            _ => false,
        };
        if !may_heal {
            return Err(error.into());
        }
        self.commits.failed(&error);
        Ok(())
    }

    /// Builds the pipeline afresh from the table, under a new generation. Where the store fails,
    /// the pipeline stays incomplete and this is tried again.
    pub(super) fn rebuild(&mut self, pipeline: &mut Pipeline) -> anyhow::Result<()> {
        pipeline.distrust();
        self.service.outbox.withdraw(std::iter::empty());
        let now = Minute::of_ms(clock_ms());
        match pipeline.rebuild(now.minus(MEMORY_MINUTES)..=Minute(u32::MAX)) {
            Ok(()) => {
                self.snapshots.note(pipeline.restored());
                self.read_silences(pipeline)?;
                self.service.notifiers.read_again();
                self.commits.landed();
                self.commits.works();
                self.service.restart_sources();
                Ok(())
            }
            Err(error) => self.failed(error),
        }
    }

    /// Tells the notifiers which silences the table holds.
    fn read_silences(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        match stored_silences(pipeline.table()) {
            Ok(silences) => self.service.notifiers.set_silences(&silences),
            Err(error) => return self.failed(error.into()),
        }
        Ok(())
    }

    /// Adds what other instances have committed; a zombie finds out here.
    pub(super) fn follow(&mut self, pipeline: &mut Pipeline) -> anyhow::Result<()> {
        self.followed = Instant::now();
        let Followed { overtaken, lost, silences, transitions, moved } = match pipeline.follow() {
            Ok(followed) => followed,
            Err(error) => return self.failed(error),
        };
        moved.keys().for_each(|name| self.service.rivals.saw(name));
        if silences {
            self.read_silences(pipeline)?;
        }
        let published = |transition| Published { transition, uncommitted: false };
        self.service.notifiers.publish(transitions.into_iter().map(published).collect());
        if let Some(one) = overtaken {
            let by = moved.get(&one.partition).map_or("another instance", String::as_str);
            let at = |offset: Option<u64>| offset.unwrap_or(0);
            let (from, to) = (at(one.expected), at(one.found));
            self.fenced(&format!("fenced: {} moved {from}->{to} by {by}", one.partition));
            self.service.rivals.saw(&one.partition);
            return self.rebuild(pipeline);
        }
        if lost {
            eprintln!("ninefold: the table cannot be followed; it is read afresh");
            return self.rebuild(pipeline);
        }
        self.settle_role(pipeline)?;
        self.service.outbox.withdraw(pipeline.notices().iter());
        // Where a commit waits, only a commit shows that the store takes what it is given.
        if !pipeline.has_uncommitted() {
            self.commits.works();
        }
        Ok(())
    }

    /// Takes or leaves the role of the judge.
    fn settle_role(&mut self, pipeline: &mut Pipeline) -> anyhow::Result<()> {
        let patience = rivals::patience(&self.service.config());
        let rivals = &self.service.rivals;
        rivals.forget(patience, pipeline);
        let is_new = self.started.elapsed() < patience;
        match rivals::should_judge(pipeline, rivals, is_new) {
            true if !pipeline.is_judge() => pipeline.judge(rivals.any())?,
            true => pipeline.announce(rivals.any()),
            false if pipeline.is_judge() => pipeline.stop_judging()?,
            false => {}
        }
        self.chores.set(pipeline.is_judge(), self.service);
        self.service.notifiers.set_active(pipeline.is_judge());
        self.service.verdicts.set_active(pipeline.is_judge());
        Ok(())
    }
}

/// The work on the table that one instance does for all: compaction, clean-up, retention. It
/// runs in a thread of its own while this instance is the judge; others may do it too, safely.
#[derive(Default)]
pub(super) struct Chores {
    /// Ends the thread that does them.
    stop: Option<Arc<AtomicBool>>,
}

impl Chores {
    /// Begins or ends them.
    fn set(&mut self, wanted: bool, service: &Service) {
        match (&self.stop, service.upkeep) {
            (None, Some(begin)) if wanted => {
                let stop = Arc::new(AtomicBool::new(false));
                // Nobody waits for its end: each step is safe to be cut off.
                drop(begin(service.data.clone(), Arc::clone(&stop)));
                self.stop = Some(stop);
            }
            (Some(_), _) if !wanted => self.end(),
            _ => {}
        }
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Chores {
    fn drop(&mut self) {
        self.end();
    }
}
