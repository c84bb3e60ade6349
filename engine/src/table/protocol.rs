//! The protocol by which one entry becomes part of the log, without a store: what is checked,
//! when, and what each answer means. [`Table`](super::Table) runs it on a real log, the
//! simulator (`engine/tests/sim`) on one that fails in every way.
//!
//! ```text
//!            ┌──────────── refresh ◀──── conflict, unclear ────┐
//!            ▼                                                 │
//! check ──▶ append ──▶ confirm ──▶ landed                      │
//!   │ └─ fenced            └──────── not there ────────────────┘
//!   └─ files too old: write them again
//! ```
//!
//! Invariants:
//! - An entry goes only on top of a version on which its needs hold: every partition stands
//!   where the counting began, and every file that goes is live. They are looked at again after
//!   each refresh, since the entry that came first may have moved them.
//! - Whatever the store answers, the log is read before anything is believed. A put that was
//!   refused may land later: as soon as the log has come so far, the place where it was put is
//!   read, before anything else is tried.
//! - A file that is older than [`FILE_AGE_MS_MAX`] is not named: a machine that slept for a day
//!   would name a file that was collected meanwhile.
//! - Each step does one thing to the store, so that a crash or a pause fits between any two.

use std::collections::HashSet;

/// How often an entry is tried against other writers. Each conflict is another writer's
/// progress, so this many in a row mean that commits are far too frequent.
pub const CONFLICTS_MAX: u32 = 1_000;

/// A data file older than this is written again before an entry names it. Files that no entry
/// names are collected after a day, which is far from it.
pub const FILE_AGE_MS_MAX: i64 = 10 * 60_000;

/// After so many conflicts the pauses between them do not grow any more.
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// How far one partition was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The partition: `file/<identity>`, or `source/topic/partition`.
    pub partition: String,
    /// Where the counting of this epoch began; `None` where the table has never seen it.
    pub base: Option<u64>,
    /// One past the last offset that this epoch counts.
    pub next: u64,
}

/// A log as one writer sees it at one version, and the entry that it wants to append.
pub trait LogStore {
    /// Why the store did not answer.
    type Error;

    /// The version that this sees.
    fn version(&self) -> u64;

    /// How far `partition` was counted at this version; `None` where it never was.
    ///
    /// # Errors
    /// The version cannot be read.
    fn offset(&self, partition: &str) -> Result<Option<u64>, Self::Error>;

    /// Whether every one of these files is live at this version.
    ///
    /// # Errors
    /// The version cannot be read.
    fn are_live(&self, paths: &HashSet<String>) -> Result<bool, Self::Error>;

    /// Advances to the newest version.
    ///
    /// # Errors
    /// The log cannot be read; the version is the old one.
    fn refresh(&mut self) -> Result<(), Self::Error>;

    /// Creates the entry of [`LogStore::version`] + 1 where none is.
    ///
    /// # Errors
    /// Unclear: it may have landed, or may land later.
    fn append(&mut self) -> Result<Appended, Self::Error>;

    /// Whether a file that our entry adds is live at this version. Its path was never used
    /// before, so that no other entry can have added it.
    ///
    /// # Errors
    /// The version cannot be read.
    fn is_added(&self) -> Result<bool, Self::Error>;

    /// Advances, and says what a reader sees where our entry was put.
    ///
    /// # Errors
    /// The log cannot be read.
    fn confirm(&mut self, version: u64) -> Result<Seen, Self::Error>;
}

/// What the store says of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The entry was created.
    Landed,
    /// Another writer's entry came first.
    Conflict,
}

/// What a reader sees at the version of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is ours.
    Ours,
    /// There is none, or another one.
    Other,
    /// A checkpoint lies above it: whether it is under that, or in a hole below it that nobody
    /// looks at, only what the log comes to can tell.
    Covered,
}

/// Why an entry may not go on top of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Another writer has moved a partition.
    Moved {
        /// Which.
        partition: String,
        /// Where our counting began.
        expected: Option<u64>,
        /// Where the log says that it stands.
        found: Option<u64>,
    },
    /// Another writer has removed a file that this entry would remove.
    Removed,
}

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<E> {
    /// The next step may follow at once.
    Next,
    /// Another writer came first: the next step may follow after [`pause_ms`].
    Conflict,
    /// The data files are to be written again, under new names; then the next step may follow.
    FilesTooOld,
    /// The entry is in the log, as a reader sees it.
    Landed(u64),
    /// What was counted is not ours to commit.
    Fenced(Fence),
    /// The store has failed. Nothing is known to have landed: the next step reads on, or the
    /// commit is given up. Its files stay: an entry that lands later may name them.
    Failed(E),
    /// Others came first [`CONFLICTS_MAX`] times.
    Contended,
}

/// One commit on its way.
#[derive(Debug)]
pub struct Commit<E> {
    moves: Vec<Move>,
    removes: HashSet<String>,
    phase: Phase<E>,
    conflicts: u32,
    /// Where entries were put of which nothing is known.
    unclear: Vec<u64>,
}

#[derive(Debug)]
enum Phase<E> {
    Check,
    Append,
    Confirm(u64),
    Unclear(u64, E),
    Refresh,
}

impl<E> Commit<E> {
    /// A commit that moves partitions and removes files. One that does neither cannot be
    /// fenced, nor told from its repetition.
    pub fn new(moves: Vec<Move>, removes: HashSet<String>) -> Commit<E> {
        Commit { moves, removes, phase: Phase::Check, conflicts: 0, unclear: Vec::new() }
    }

    /// How often another writer came first.
    pub fn conflicts(&self) -> u32 {
        self.conflicts
    }

    /// Does the next thing. After [`Step::Landed`], [`Step::Fenced`] and [`Step::Contended`]
    /// there is none.
    pub fn step(&mut self, log: &mut impl LogStore<Error = E>, files_are_fresh: bool) -> Step<E> {
        match std::mem::replace(&mut self.phase, Phase::Refresh) {
            Phase::Check => self.check(log, files_are_fresh),
            Phase::Append => self.append(log),
            Phase::Confirm(version) => self.confirm(log, version),
            Phase::Unclear(version, error) => self.resolve(log, version, error),
            Phase::Refresh => match log.refresh() {
                Ok(()) => self.go_on(Phase::Check),
                Err(error) => Step::Failed(error),
            },
        }
    }

    fn go_on(&mut self, phase: Phase<E>) -> Step<E> {
        self.phase = phase;
        Step::Next
    }

    fn check(&mut self, log: &mut impl LogStore<Error = E>, files_are_fresh: bool) -> Step<E> {
        // Until the log has come there, the next put goes to the same place, and one of them.
        let reached = self.unclear.iter().position(|version| *version <= log.version());
        if let Some(at) = reached {
            let version = self.unclear.swap_remove(at);
            return self.go_on(Phase::Confirm(version));
        }
        match fence(log, &self.moves, &self.removes) {
            Err(error) => Step::Failed(error),
            Ok(None) if files_are_fresh => self.go_on(Phase::Append),
            Ok(None) => {
                self.phase = Phase::Check;
                Step::FilesTooOld
            }
            Ok(Some(fence)) => Step::Fenced(fence),
        }
    }

    fn append(&mut self, log: &mut impl LogStore<Error = E>) -> Step<E> {
        let version = log.version() + 1;
        match log.append() {
            Ok(Appended::Landed) => self.go_on(Phase::Confirm(version)),
            Ok(Appended::Conflict) => {
                self.conflicts += 1;
                if self.conflicts < CONFLICTS_MAX { Step::Conflict } else { Step::Contended }
            }
            Err(error) => self.go_on(Phase::Unclear(version, error)),
        }
    }

    fn confirm(&mut self, log: &mut impl LogStore<Error = E>, version: u64) -> Step<E> {
        match self.is_seen(log, version) {
            Ok(true) => Step::Landed(version),
            Ok(false) => self.go_on(Phase::Refresh),
            Err(error) => {
                self.phase = Phase::Confirm(version);
                Step::Failed(error)
            }
        }
    }

    fn resolve(&mut self, log: &mut impl LogStore<Error = E>, version: u64, error: E) -> Step<E> {
        if let Ok(true) = self.is_seen(log, version) {
            return Step::Landed(version);
        }
        self.unclear.push(version);
        Step::Failed(error)
    }

    /// Whether a reader sees the entry of `version`, and it is ours. Where that cannot be told
    /// any more it is not: then the check finds the partitions moved, which is always safe.
    fn is_seen(&self, log: &mut impl LogStore<Error = E>, version: u64) -> Result<bool, E> {
        match log.confirm(version)? {
            Seen::Ours => Ok(true),
            Seen::Other => Ok(false),
            // Where its partitions stand would not tell: another writer may have counted the
            // same range, but not what else this entry holds.
            Seen::Covered => log.is_added(),
        }
    }
}

/// What keeps an entry from going on top of this version; `None` where nothing does.
///
/// # Errors
/// The version cannot be read.
pub fn fence<L: LogStore>(
    log: &L,
    moves: &[Move],
    removes: &HashSet<String>,
) -> Result<Option<Fence>, L::Error> {
    for Move { partition, base, .. } in moves {
        let found = log.offset(partition)?;
        if found != *base {
            let (partition, expected) = (partition.clone(), *base);
            return Ok(Some(Fence::Moved { partition, expected, found }));
        }
    }
    if !removes.is_empty() && !log.are_live(removes)? {
        return Ok(Some(Fence::Removed));
    }
    Ok(None)
}

/// How long to wait after a conflict, in milliseconds: a random part of 4 ms, which is about a
/// commit, doubled with each further conflict up to 256 ms. Writers that met once are thereby
/// spread.
pub fn pause_ms(conflicts: u32, random: u64) -> u64 {
    random % ((4 << conflicts.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX)) + 1)
}

/// A moment by two clocks of one machine, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since 1970; may be set.
    pub wall_ms: i64,
    /// Since the machine was started, times of sleep included; never set, but does not know of
    /// a machine that was suspended by its host.
    pub boot_ms: i64,
}

impl Moment {
    /// Whether files written then may be named in an entry at `now`: neither clock says that
    /// more than [`FILE_AGE_MS_MAX`] have passed, nor that time went backwards so far.
    pub fn is_fresh(self, now: Moment) -> bool {
        let is_near = |then: i64, now: i64| now.abs_diff(then) <= FILE_AGE_MS_MAX as u64;
        is_near(self.wall_ms, now.wall_ms) && is_near(self.boot_ms, now.boot_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log whose answers are written down, newest first.
    #[derive(Default)]
    struct Script {
        version: u64,
        offset: Option<u64>,
        appends: Vec<Result<Appended, &'static str>>,
        seen: Vec<Result<Seen, &'static str>>,
        /// Where the partition stands after each refresh.
        moved: Vec<Option<u64>>,
        is_added: bool,
    }

    impl LogStore for Script {
        type Error = &'static str;

        fn version(&self) -> u64 {
            self.version
        }

        fn offset(&self, _partition: &str) -> Result<Option<u64>, Self::Error> {
            Ok(self.offset)
        }

        fn are_live(&self, paths: &HashSet<String>) -> Result<bool, Self::Error> {
            Ok(!paths.contains("gone"))
        }

        fn refresh(&mut self) -> Result<(), Self::Error> {
            self.version += 1;
            self.offset = self.moved.pop().ok_or("away")?;
            Ok(())
        }

        fn append(&mut self) -> Result<Appended, Self::Error> {
            self.appends.pop().expect("the script goes so far")
        }

        fn is_added(&self) -> Result<bool, Self::Error> {
            Ok(self.is_added)
        }

        fn confirm(&mut self, _version: u64) -> Result<Seen, Self::Error> {
            self.seen.pop().expect("the script goes so far")
        }
    }

    fn commit() -> Commit<&'static str> {
        let one = Move { partition: "p".to_owned(), base: Some(10), next: 20 };
        Commit::new(vec![one], HashSet::new())
    }

    /// Runs to the end; conflicts are waited for and failures tried again `retries` times.
    fn run(
        commit: &mut Commit<&'static str>,
        log: &mut Script,
        retries: u32,
    ) -> Step<&'static str> {
        let mut left = retries;
        loop {
            match commit.step(log, true) {
                Step::Next | Step::Conflict => {}
                Step::Failed(_) if left > 0 => left -= 1,
                end => return end,
            }
        }
    }

    fn moved(found: Option<u64>) -> Step<&'static str> {
        Step::Fenced(Fence::Moved { partition: "p".to_owned(), expected: Some(10), found })
    }

    #[test]
    fn an_entry_lands_when_a_reader_sees_it() {
        let mut log = Script {
            version: 4,
            offset: Some(10),
            appends: vec![Ok(Appended::Landed)],
            seen: vec![Ok(Seen::Ours)],
            ..Script::default()
        };
        assert_eq!(run(&mut commit(), &mut log, 0), Step::Landed(5));
    }

    #[test]
    fn a_partition_that_stands_elsewhere_is_fenced_before_anything_is_put() {
        let mut log = Script { offset: Some(15), ..Script::default() };
        assert_eq!(run(&mut commit(), &mut log, 0), moved(Some(15)));
    }

    #[test]
    fn after_a_conflict_everything_is_checked_again() {
        let conflicting = |after: Option<u64>| Script {
            offset: Some(10),
            appends: vec![Ok(Appended::Landed), Ok(Appended::Conflict)],
            moved: vec![after],
            seen: vec![Ok(Seen::Ours)],
            ..Script::default()
        };
        assert_eq!(run(&mut commit(), &mut conflicting(Some(10)), 0), Step::Landed(2));
        assert_eq!(run(&mut commit(), &mut conflicting(Some(20)), 0), moved(Some(20)));
    }

    #[test]
    fn an_unclear_put_is_read_and_may_have_landed() {
        let unclear = |seen: Result<Seen, &'static str>| Script {
            offset: Some(10),
            appends: vec![Err("timeout")],
            seen: vec![seen],
            ..Script::default()
        };
        assert_eq!(run(&mut commit(), &mut unclear(Ok(Seen::Ours)), 0), Step::Landed(1));
        assert_eq!(run(&mut commit(), &mut unclear(Ok(Seen::Other)), 0), Step::Failed("timeout"));
        assert_eq!(run(&mut commit(), &mut unclear(Err("away")), 0), Step::Failed("timeout"));
    }

    #[test]
    fn an_entry_of_ours_that_landed_late_is_no_fence() {
        let late = |seen: Seen| Script {
            offset: Some(10),
            appends: vec![Err("timeout")],
            seen: vec![Ok(seen), Ok(Seen::Other)],
            moved: vec![Some(20), Some(20)],
            ..Script::default()
        };
        assert_eq!(run(&mut commit(), &mut late(Seen::Ours), 1), Step::Landed(1));
        assert_eq!(run(&mut commit(), &mut late(Seen::Other), 1), moved(Some(20)));
    }

    #[test]
    fn below_a_checkpoint_the_files_of_an_entry_tell_that_it_landed() {
        let covered = |is_added: bool| Script {
            offset: Some(10),
            appends: vec![Ok(Appended::Landed)],
            seen: vec![Ok(Seen::Covered)],
            moved: vec![Some(20)],
            is_added,
            ..Script::default()
        };
        assert_eq!(run(&mut commit(), &mut covered(true), 0), Step::Landed(1));
        // Others may have counted the same range: that does not make it ours.
        assert_eq!(run(&mut commit(), &mut covered(false), 0), moved(Some(20)));
    }

    #[test]
    fn a_file_that_goes_must_be_live() {
        let removes = HashSet::from(["gone".to_owned()]);
        let outcome = Commit::new(Vec::new(), removes).step(&mut Script::default(), true);
        assert_eq!(outcome, Step::Fenced(Fence::Removed));
    }

    #[test]
    fn old_files_are_written_again_before_the_entry() {
        let mut log = Script { offset: Some(10), ..Script::default() };
        let mut one = commit();
        assert_eq!(one.step(&mut log, false), Step::FilesTooOld);
        assert_eq!(one.step(&mut log, false), Step::FilesTooOld);
        assert_eq!(one.step(&mut log, true), Step::Next);
    }

    #[test]
    fn both_clocks_must_say_that_a_file_is_fresh() {
        let then = Moment { wall_ms: 1_000_000_000, boot_ms: 5_000 };
        let check = |wall_ms: i64, boot_ms: i64, expect: bool| {
            let now = Moment { wall_ms: then.wall_ms + wall_ms, boot_ms: then.boot_ms + boot_ms };
            assert_eq!(then.is_fresh(now), expect, "{wall_ms} {boot_ms}");
        };
        check(0, 0, true);
        check(FILE_AGE_MS_MAX, FILE_AGE_MS_MAX, true);
        check(FILE_AGE_MS_MAX + 1, 0, false);
        check(0, FILE_AGE_MS_MAX + 1, false);
        check(-FILE_AGE_MS_MAX - 1, 0, false);
    }

    #[test]
    fn pauses_grow_with_the_conflicts_and_are_bounded() {
        let longest = |conflicts| (0..2_000).map(|random| pause_ms(conflicts, random)).max();
        assert_eq!([1, 2, 3, 7, 900].map(longest), [4, 8, 16, 256, 256].map(Some));
        assert_eq!(pause_ms(0, 0), 0);
    }
}
