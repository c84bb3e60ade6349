//! One partition that the group has given to this instance: what becomes of its records.
//!
//! ```text
//! Waiting ──▶ Proving ──▶ Reading ──▶ Stopped
//!    ▲           the record before the offset is compared       │
//!    └──────────────── the table has moved ◀────────────────────┘
//! ```
//!
//! Invariant: what is handed out tiles the partition from where it began.

use std::time::{Duration, Instant};

use ninefold_engine::source::chunk::Chunk;
use ninefold_engine::source::guard::{Guard, GuardCounts, Holes, Verdict};
use ninefold_engine::source::kafka::batch::Batch;
use ninefold_engine::source::kafka::flood::Flood;
use ninefold_engine::source::kafka::place::{Obstacle, Proof, Prover};

use super::places::Known;

/// What a partition is doing.
#[derive(Clone, Debug)]
pub enum State {
    /// It is ours, but where it goes on could not be looked up yet.
    Waiting,
    /// Records before the offset are fetched, to compare the last with the table, and for the
    /// dedupe window.
    Proving(Option<Prover>),
    /// Its records are counted.
    Reading,
    /// It is not read until the table's offset has passed `at`, where there is such a place, or
    /// the configuration was read again.
    Stopped {
        /// Why, for people.
        why: String,
        /// Where.
        at: Option<u64>,
    },
}

/// What is to be done after a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next one may come.
    Next,
    /// The partition has to be assigned afresh there.
    Fetch(u64),
    /// It stops.
    Stop(String),
}

/// A partition.
pub struct Partition {
    /// What it is doing.
    pub state: State,
    /// Whether the client is told to fetch it.
    pub is_assigned: bool,
    /// How its log grows.
    pub progress: Progress,
    /// Whether it is full of dead letters.
    pub flood: Flood,
    /// The offset that Kafka was told last.
    pub told: u64,
    holes: Holes,
    guard: Guard,
    batch: Batch,
    /// Records of the dedupe window.
    before: Option<Batch>,
    /// The hash of the record before the offset at which it began.
    tail: Option<[u8; 32]>,
    /// When the oldest record of the batch came.
    since: Option<Instant>,
    /// Where it was seen to stand, and since when.
    idle: Option<(u64, Instant)>,
}

impl Partition {
    /// One that waits for its place.
    pub fn new(holes: Holes) -> Partition {
        Partition {
            state: State::Waiting,
            is_assigned: false,
            progress: Progress::default(),
            flood: Flood::default(),
            told: 0,
            holes,
            guard: Guard::new(holes),
            batch: Batch::new(0),
            before: None,
            tail: None,
            since: None,
            idle: None,
        }
    }

    /// Begins where the table says, with `window` records before that for dedupe; answers the
    /// offset to fetch from.
    pub fn begin(&mut self, generation: u64, known: &Known, window: u64) -> u64 {
        let offset = known.offset;
        self.guard.assign(generation, offset);
        self.batch = Batch::new(offset);
        self.tail = known.tail;
        self.since = None;
        let prover = known.tail.filter(|_| offset > 0).map(|tail| Prover::new(offset, tail));
        let window_from = offset.saturating_sub(window);
        let from = prover.as_ref().map_or(offset, Prover::fetch_from).min(window_from);
        self.before = (window > 0).then(|| Batch::new(from));
        self.state = if from < offset { State::Proving(prover) } else { State::Reading };
        from
    }

    /// Is read again from where it stands, its log proved first; answers the offset to fetch
    /// from.
    pub fn prove_again(&mut self, generation: u64) -> u64 {
        let offset = self.position();
        self.guard.assign(generation, offset);
        let tail = self.batch.tail_hash().or(self.tail);
        let Some(tail) = tail.filter(|_| offset > 0) else {
            self.state = State::Reading;
            return offset;
        };
        let prover = Prover::new(offset, tail);
        let from = prover.fetch_from();
        self.state = State::Proving(Some(prover));
        from
    }

    /// Is read from `offset` under a newer assignment, which is where it stands or, while it
    /// is being proved, before that.
    pub fn fetch(&mut self, generation: u64, offset: u64) {
        let position = self.position();
        self.guard.assign(generation, position);
        if offset == position {
            self.state = State::Reading;
        }
    }

    /// Its assignment: what was fetched under an older one is not taken.
    pub fn generation(&self) -> u64 {
        self.guard.generation()
    }

    /// The next offset to be counted.
    pub fn position(&self) -> u64 {
        self.guard.expected().unwrap_or_else(|| self.batch.next())
    }

    /// Where the client has to fetch from to go on.
    pub fn fetch_from(&self) -> u64 {
        let State::Proving(prover) = &self.state else { return self.position() };
        let proof_from = prover.as_ref().map_or_else(|| self.position(), Prover::fetch_from);
        self.before.as_ref().map_or(proof_from, |before| before.next().min(proof_from))
    }

    /// Whether it is fetched and not stopped.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Proving(_) | State::Reading)
    }

    /// Whether somebody has to look.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped { .. })
    }

    /// Whether it has stood where it stands for so long, with everything handed out that came.
    pub fn is_idle_for(&mut self, limit: Duration) -> bool {
        let position = self.position();
        let is_waiting = matches!(self.state, State::Reading) && self.since.is_none();
        if self.idle.is_none_or(|(at, _)| at != position) || !is_waiting {
            self.idle = Some((position, Instant::now()));
        }
        self.idle.is_some_and(|(_, since)| since.elapsed() >= limit)
    }

    /// Moves on over offsets that were proved to hold no record.
    pub fn pass(&mut self, end: u64) -> Chunk {
        self.idle = None;
        self.guard.pass(end);
        self.batch.pass(end)
    }

    /// What the guard has met.
    pub fn counts(&self) -> GuardCounts {
        self.guard.counts()
    }

    /// Stops: nothing is taken until it begins again.
    pub fn stop(&mut self, why: String, at: Option<u64>) {
        self.guard.revoke();
        self.state = State::Stopped { why, at };
    }

    /// Takes a record that the client has delivered.
    pub fn take(&mut self, offset: u64, time_ms: Option<i64>, payload: &[u8]) -> Step {
        if let State::Proving(_) = self.state
            && let Some(step) = self.prove(offset, time_ms, payload)
        {
            return step;
        }
        if !matches!(self.state, State::Reading) {
            return Step::Next;
        }
        match self.guard.judge(self.guard.generation(), offset) {
            Verdict::Take { .. } => {
                self.batch.push(offset, time_ms, payload);
                self.since.get_or_insert_with(Instant::now);
                Step::Next
            }
            Verdict::Drop(_) => Step::Next,
            Verdict::Suspect { expected } => Step::Fetch(expected),
            Verdict::Stop(reason) => Step::Stop(reason.to_string()),
        }
    }

    /// Takes a record while the log is proved; `None` where it is the first one to be counted.
    fn prove(&mut self, offset: u64, time_ms: Option<i64>, payload: &[u8]) -> Option<Step> {
        let base = self.position();
        let from = self.fetch_from();
        if offset < base
            && let Some(before) = &mut self.before
            && offset >= before.next()
        {
            before.push(offset, time_ms, payload);
        }
        if offset + 1 < base {
            return Some(Step::Next);
        }
        let State::Proving(prover) = &mut self.state else { return None };
        let proof = match prover {
            Some(prover) => prover.judge(offset, time_ms, payload),
            None if offset < base => Proof::Same,
            None => {
                self.state = State::Reading;
                return None;
            }
        };
        match proof {
            Proof::Same => {
                self.state = State::Reading;
                Some(Step::Next)
            }
            Proof::Missing if self.holes != Holes::Refuse => {
                self.state = State::Reading;
                None
            }
            Proof::Differs | Proof::Missing => {
                let offset = base.saturating_sub(1);
                Some(Step::Stop(Obstacle::Changed { offset }.to_string()))
            }
            Proof::Again => Some(Step::Fetch(from)),
        }
    }

    /// Records of the dedupe window that are to be remembered: all of them once the log is
    /// proved, before that those that have come.
    pub fn remembered(&mut self) -> Option<Chunk> {
        let ready = matches!(self.state, State::Reading);
        let chunk = self.before.as_mut()?.take_if(ready);
        if ready {
            self.before = None;
        }
        chunk
    }

    /// When the oldest record came that was not handed out.
    pub fn oldest(&self) -> Instant {
        self.since.unwrap_or_else(Instant::now)
    }

    /// Records to be counted, where there are many, or where they have waited long enough.
    pub fn chunk(&mut self, patience: Duration) -> Option<Chunk> {
        let is_old = self.since.is_some_and(|since| since.elapsed() >= patience);
        let chunk = self.batch.take_if(is_old);
        if chunk.is_some() {
            self.since = None;
        }
        chunk
    }
}

/// Whether a partition moves while its log grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    position: u64,
    end: u64,
    /// Since when it has stood there while its log grew, on a clock that never goes back.
    since_ms: Option<u64>,
}

/// After so long a partition that does not move is told.
const STUCK_AFTER_MS: u64 = 60_000;

impl Progress {
    /// Whether it is stuck, where it stands at `position` of a log that ends at `end`.
    pub fn is_stuck(&mut self, now_ms: u64, position: u64, end: u64) -> bool {
        if position != self.position || position >= end {
            *self = Progress { position, end, since_ms: None };
            return false;
        }
        if end > self.end {
            self.end = end;
            self.since_ms.get_or_insert(now_ms);
        }
        self.since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= STUCK_AFTER_MS)
    }

    /// It was not meant to move.
    pub fn reset(&mut self) {
        *self = Progress::default();
    }
}

#[cfg(test)]
mod tests {
    use ninefold_engine::source::chunk::Tail;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn known(offset: u64) -> Known {
        let tail = Tail::of_record(offset.saturating_sub(1), None, b"last").hash();
        Known { offset, tail: Some(tail), cluster: None }
    }

    #[test]
    fn the_record_before_the_offset_is_compared_and_not_counted() {
        let mut partition = Partition::new(Holes::Verify);
        assert_eq!(partition.begin(1, &known(10), 0), 9);
        assert_eq!(partition.take(9, None, b"last"), Step::Next);
        assert_eq!(partition.take(10, None, b"a"), Step::Next);
        let chunk = partition.chunk(NOW).unwrap();
        assert_eq!((chunk.first, chunk.next, &*chunk.bytes), (10, 11, &b"a"[..]));
        assert_eq!(partition.begin(2, &known(10), 0), 9);
        let stop = partition.take(9, None, b"other");
        assert!(
            matches!(&stop, Step::Stop(why) if why.contains("changed at offset 9")),
            "{stop:?}"
        );
    }

    #[test]
    fn a_record_that_compaction_has_removed_is_missed_twice() {
        for (holes, taken) in [(Holes::Verify, true), (Holes::Refuse, false)] {
            let mut partition = Partition::new(holes);
            partition.begin(1, &known(10), 0);
            assert_eq!(partition.take(12, None, b"new"), Step::Fetch(9));
            partition.fetch(2, 9);
            match partition.take(12, None, b"new") {
                // Then the jump from 10 to 12 is looked at like any other.
                Step::Fetch(10) if taken => {}
                Step::Stop(_) if !taken => {}
                step => panic!("{holes:?}: {step:?}"),
            }
        }
    }

    #[test]
    fn the_dedupe_window_is_remembered_and_not_counted() {
        let mut partition = Partition::new(Holes::Verify);
        assert_eq!(partition.begin(1, &known(10), 4), 6);
        for offset in 6..9 {
            assert_eq!(partition.take(offset, None, b"x"), Step::Next);
        }
        assert_eq!(partition.take(9, None, b"last"), Step::Next);
        assert_eq!(partition.take(10, None, b"y"), Step::Next);
        let remembered = partition.remembered().unwrap();
        assert_eq!((remembered.first, remembered.next), (6, 10));
        assert_eq!(partition.remembered(), None);
        let chunk = partition.chunk(NOW).unwrap();
        assert_eq!((chunk.first, chunk.next), (10, 11));
    }

    #[test]
    fn a_running_partition_proves_its_own_last_record() {
        let mut partition = Partition::new(Holes::Verify);
        let fresh = Known::default();
        assert_eq!(partition.begin(1, &fresh, 0), 0);
        assert_eq!(partition.take(0, None, b"a"), Step::Next);
        assert_eq!(partition.prove_again(2), 0);
        assert_eq!(partition.take(0, None, b"a"), Step::Next);
        assert_eq!(partition.take(1, None, b"b"), Step::Next);
        let chunk = partition.chunk(NOW).unwrap();
        assert_eq!((chunk.first, chunk.next), (0, 2));
        partition.prove_again(3);
        assert!(matches!(partition.take(1, None, b"c"), Step::Stop(_)));
    }

    #[test]
    fn a_partition_is_stuck_when_its_log_grows_for_a_minute_without_it() {
        let mut progress = Progress::default();
        assert!(!progress.is_stuck(0, 5, 10));
        assert!(!progress.is_stuck(100_000, 5, 10), "the log does not grow");
        assert!(!progress.is_stuck(101_000, 5, 11));
        assert!(progress.is_stuck(161_000, 5, 11));
        assert!(!progress.is_stuck(162_000, 6, 11));
        assert!(!progress.is_stuck(163_000, 11, 11));
    }
}
