//! Upkeep of the table: compaction, log clean-up, retention, vacuum.
//!
//! Each kind is a bounded step by the same protocol as a commit, so any number of writers may do
//! it at once, be killed at any point and go on: a step lands as one log entry, or nothing of it
//! does and its files are orphans. What a compaction reads is checked against the hashes of the
//! log; what it has written is read back, and must add up to the same, key by key, before the
//! entry. Where another writer has replaced one of its inputs meanwhile it is abandoned.
//!
//! A service calls [`Upkeep::step`] from a thread of its own, with a [`Table`] of its own. A
//! commit beside it meets at most one more conflict for each step, which costs it the reading of
//! one entry; it never waits for a merge.

mod merge;
mod plan;
mod proof;
mod vacuum;

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use uuid::Uuid;

use super::live::{LiveFile, TAG_COVERS, TAG_LEVEL};
use super::log::{Add, EntryKind};
use super::scan::Scan;
use super::schema::Grain;
use super::{
    CommitError, Filter, Move, RETENTION, Replacement, Table, TableError, coarse, data_path,
};
use crate::failpoint;
use crate::time::{DAY_MINUTES, Day, MINUTE_MS};
use merge::{MergeError, Source, merge};
use plan::{Job, When};
use proof::{Fold, Proof, Sums};

pub use vacuum::{Vacuumed, vacuum};

/// Jobs of one step have at most so many bytes to read, unless one alone has more.
const STEP_BYTES_MAX: u64 = 64 << 20;

/// Jobs of one step merge at most so many files, unless one alone has more.
const STEP_FILES_MAX: usize = 512;

/// A file that is not sorted is sorted in memory up to this size, and left alone beyond it.
const UNSORTED_BYTES_MAX: u64 = 32 << 20;

/// Files that one step of retention removes at most.
const RETAINED_MAX: usize = 1_000;

/// How long each kind of work rests where it found nothing to do.
const COMPACTION_REST_MS: i64 = MINUTE_MS;
const CLEANING_REST_MS: i64 = 10 * MINUTE_MS;
const RETENTION_REST_MS: i64 = 60 * MINUTE_MS;
const VACUUM_REST_MS: i64 = 6 * 60 * MINUTE_MS;

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing was due.
    Nothing,
    /// Files were merged.
    Compacted {
        /// The version that this made.
        version: u64,
        /// Grains and days.
        groups: usize,
        /// Files that went.
        before: usize,
        /// Files that came.
        after: usize,
    },
    /// Another writer was first: what was merged is dropped, and looked at again.
    Abandoned,
    /// Files of the log were removed.
    Cleaned {
        /// Entries and checkpoints.
        files: usize,
    },
    /// Days past retention were removed.
    Retained {
        /// The version that this made.
        version: u64,
        /// How many days.
        days: usize,
        /// How many files.
        files: usize,
    },
    /// Files that nobody needs were removed from the disk.
    Vacuumed {
        /// How many.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Done::Nothing => f.write_str("nothing was due"),
            Done::Compacted { version, groups, before, after } => write!(
                f,
                "compacted {before} files to {after}, of {groups} grains and days, as version \
                 {version}"
            ),
            Done::Abandoned => f.write_str("another writer has compacted the same files"),
            Done::Cleaned { files } => write!(f, "removed {files} old files of the log"),
            Done::Retained { version, days, files } => write!(
                f,
                "removed {days} days older than 13 months, {files} files, as version {version}"
            ),
            Done::Vacuumed { files, bytes } => {
                write!(f, "removed {files} files that nobody needs, {bytes} bytes")
            }
        }
    }
}

/// What is due when. It holds nothing that a new one would not find out again.
#[derive(Debug, Default)]
pub struct Upkeep {
    eager: bool,
    /// Files that are not sorted and too large to be sorted here.
    left_alone: HashSet<String>,
    compaction_ms: i64,
    cleaning_ms: i64,
    retention_ms: i64,
    vacuum_ms: i64,
}

impl Upkeep {
    /// For a service: fresh files wait until their hour is over.
    pub fn new() -> Upkeep {
        Upkeep::default()
    }

    /// For a command: fresh files of any age are compacted.
    pub fn eager() -> Upkeep {
        Upkeep { eager: true, ..Upkeep::default() }
    }

    /// Does one piece of work that is due at `now_ms` (epoch milliseconds by the wall clock),
    /// after advancing the table to its newest version. [`Done::Nothing`] says that the next
    /// minute is early enough to ask again.
    ///
    /// # Errors
    /// As [`Table::commit`] and [`Table::scan`]; the table is as before, and the same step may
    /// be tried again.
    pub fn step(&mut self, table: &mut Table, now_ms: i64) -> Result<Done, CommitError> {
        table.refresh()?;
        if self.compaction_ms <= now_ms {
            match self.compact(table, now_ms)? {
                Done::Nothing => self.compaction_ms = now_ms + COMPACTION_REST_MS,
                done => return Ok(done),
            }
        }
        if self.cleaning_ms <= now_ms {
            match clean(table)? {
                Done::Nothing => self.cleaning_ms = now_ms + CLEANING_REST_MS,
                done => return Ok(done),
            }
        }
        if self.retention_ms <= now_ms {
            match retain(table, now_ms)? {
                Done::Nothing => self.retention_ms = now_ms + RETENTION_REST_MS,
                done => return Ok(done),
            }
        }
        if self.vacuum_ms <= now_ms {
            let vacuumed = vacuum(table, now_ms, false)?;
            self.vacuum_ms = now_ms + VACUUM_REST_MS;
            if !vacuumed.files.is_empty() {
                let (files, bytes) = (vacuumed.files.len(), vacuumed.bytes);
                return Ok(Done::Vacuumed { files, bytes });
            }
        }
        Ok(Done::Nothing)
    }

    /// Merges files that are due, as one log entry, at the version that the table has.
    ///
    /// # Errors
    /// As [`Upkeep::step`].
    pub fn compact(&mut self, table: &mut Table, now_ms: i64) -> Result<Done, CommitError> {
        let when = When { now_ms, eager: self.eager };
        let live = table.live_files()?;
        let jobs = bounded(plan::compactions(&live, when, &self.left_alone));
        if jobs.is_empty() {
            return Ok(Done::Nothing);
        }
        let (written, mut adds, mut removes) = (table.clock.now(), Vec::new(), HashSet::new());
        for job in &jobs {
            let job = self.run(table, job, &mut adds)?;
            failpoint::reach("compact.merged");
            removes.extend(job.removes());
        }
        let (before, after) = (removes.len(), adds.len());
        if removes.is_empty() {
            return Ok(Done::Abandoned);
        }
        let info = format!("compaction of {} grains and days", jobs.len());
        let (kind, adds, removes, info) = (EntryKind::Compaction, &*adds, &removes, &*info);
        let change = Replacement { kind, adds, moves: &[], removes, now_ms, info, written };
        let landed = table.replace(&change)?;
        Ok(landed.map_or(Done::Abandoned, |version| Done::Compacted {
            version,
            groups: jobs.len(),
            before,
            after,
        }))
    }

    /// Merges the files of one job and proves the sums; what it took in the end.
    fn run(&mut self, table: &Table, job: &Job, adds: &mut Vec<Add>) -> Result<Job, CommitError> {
        let (mut job, mut unsorted) = (job.clone(), HashSet::new());
        let fold = Fold::same(job.grain);
        loop {
            let mut written = Written::new(table, &job);
            match written.merge(fold, &job.inputs, &unsorted) {
                Ok(sums) => {
                    written.prove(fold, sums)?;
                    if job.grain == Grain::Series {
                        written.add_coarse()?;
                    }
                    adds.append(&mut written.adds);
                    return Ok(job);
                }
                Err(MergeError::Failed(error)) => return Err(error),
                Err(MergeError::Unsorted(at)) if job.inputs[at].size <= UNSORTED_BYTES_MAX => {
                    unsorted.insert(job.inputs[at].path.clone());
                }
                Err(MergeError::Unsorted(at)) => {
                    let large = job.inputs.remove(at).path;
                    job.coarse.clear();
                    self.left_alone.insert(large);
                }
            }
        }
    }
}

/// As many of the first jobs as one step may do.
fn bounded(mut jobs: Vec<Job>) -> Vec<Job> {
    let (mut bytes, mut files) = (0, 0);
    let fits = |job: &&Job| {
        bytes += job.bytes();
        files += job.inputs.len();
        bytes <= STEP_BYTES_MAX && files <= STEP_FILES_MAX
    };
    let count = jobs.iter().take_while(fits).count().max(1);
    jobs.truncate(count);
    jobs
}

/// Files that a job has written.
struct Written<'a> {
    table: &'a Table,
    day: Day,
    level: u8,
    id: Uuid,
    adds: Vec<Add>,
}

impl<'a> Written<'a> {
    fn new(table: &'a Table, job: &Job) -> Written<'a> {
        let (day, level) = (job.day, job.level);
        Written { table, day, level, id: Uuid::new_v4(), adds: Vec::new() }
    }

    fn scan(&self, grain: Grain, file: &LiveFile) -> Result<Scan, TableError> {
        let files = std::slice::from_ref(file);
        Scan::new(&self.table.scan_place(), files, grain, &Filter::default())
    }

    /// Merges files into new ones; those in `unsorted` are sorted in memory first.
    fn merge(
        &mut self,
        fold: Fold,
        inputs: &[LiveFile],
        unsorted: &HashSet<String>,
    ) -> Result<Sums, MergeError> {
        let mut sources = Vec::with_capacity(inputs.len());
        for file in inputs {
            let scan = self.scan(fold.from, file)?;
            sources.push(match unsorted.contains(&file.path) {
                true => Source::sorted(fold, scan)?,
                false => Source::File(Box::new(scan)),
            });
        }
        merge(fold, sources, &mut |encoded| {
            let name = format!("{}-{}", self.id, self.adds.len());
            let path = data_path(fold.to, self.day, &name);
            let mut add = self.table.put_file(fold.to, self.day, path, encoded)?;
            add.tags.insert(TAG_LEVEL, self.level.to_string());
            self.adds.push(add);
            Ok(())
        })
    }

    /// Reads back what is written and compares it with what was read.
    fn prove(&self, fold: Fold, expect: Sums) -> Result<(), TableError> {
        self.prove_files(fold, &self.adds, expect)
    }

    fn prove_files(&self, fold: Fold, adds: &[Add], expect: Sums) -> Result<(), TableError> {
        let mut proof = Proof::new(Fold::same(fold.to));
        for add in adds {
            for batch in self.scan(fold.to, &LiveFile::written(add))? {
                proof.add(&batch?)?;
            }
        }
        if proof.sums() != expect {
            let (grain, day) = (fold.to.name(), self.day.to_string());
            return Err(TableError::Sums { grain, day });
        }
        Ok(())
    }

    /// Sums each file of minutes by hours, and at level 2 by the day.
    fn add_coarse(&mut self) -> Result<(), CommitError> {
        let minutes: Vec<LiveFile> = self.adds.iter().map(LiveFile::written).collect();
        for file in minutes {
            let hour = (Grain::Series, Grain::SeriesHour, coarse::HOUR_MINUTES);
            let hours = self.add_coarse_file(hour, &file, &file.path)?;
            if self.level == 2 {
                let day = (Grain::SeriesHour, Grain::SeriesDay, DAY_MINUTES);
                self.add_coarse_file(day, &hours, &file.path)?;
            }
        }
        Ok(())
    }

    fn add_coarse_file(
        &mut self,
        (from, to, unit_minutes): (Grain, Grain, u32),
        file: &LiveFile,
        covers: &str,
    ) -> Result<LiveFile, CommitError> {
        let (fold, before) = (Fold { from, to, unit_minutes }, self.adds.len());
        let merged = self.merge(fold, std::slice::from_ref(file), &HashSet::new());
        let sums = match merged {
            Ok(sums) => sums,
            Err(MergeError::Failed(error)) => return Err(error),
            Err(MergeError::Unsorted(_)) => unreachable!("a merge writes in order"),
        };
        self.prove_files(fold, &self.adds[before..], sums)?;
        assert_eq!(self.adds.len(), before + 1, "coarse rows are fewer than one file holds");
        let add = self.adds.last_mut().expect("it was written above");
        add.tags.insert(TAG_COVERS, covers.to_owned());
        Ok(LiveFile::written(add))
    }
}

/// Removes entries and checkpoints of the log that nobody needs: see [`Done::Cleaned`].
///
/// # Errors
/// If the log cannot be read, or a file not removed.
pub fn clean(table: &Table) -> Result<Done, TableError> {
    Ok(match table.log.clean()? {
        0 => Done::Nothing,
        files => Done::Cleaned { files },
    })
}

/// Removes the days older than 13 months before `now_ms` (epoch milliseconds by the wall clock)
/// from the table, many files at once but not all. The grains `source` and `gap` stay: they
/// prove how far each source was counted.
///
/// # Errors
/// As [`Upkeep::step`].
pub fn retain(table: &mut Table, now_ms: i64) -> Result<Done, CommitError> {
    let live = table.live_files()?;
    let expired = plan::expired(&live, now_ms);
    let expired = &expired[..expired.len().min(RETAINED_MAX)];
    if expired.is_empty() {
        return Ok(Done::Nothing);
    }
    let removes: HashSet<String> = expired.iter().map(|file| file.path.clone()).collect();
    let days = expired.iter().filter_map(|file| file.day).collect::<BTreeSet<Day>>().len();
    let info = "retention of 13 months";
    let (kind, written) = (EntryKind::Retention, table.clock.now());
    let last = expired.iter().filter_map(|file| file.day).max();
    let base = table.offset(RETENTION)?;
    let next = last.map_or(0, |day| u64::from(day.0) + 1).max(base.unwrap_or(0));
    let moves = [Move { partition: RETENTION.to_owned(), base, next }];
    let removes = &removes;
    let change = Replacement { kind, adds: &[], moves: &moves, removes, now_ms, info, written };
    let landed = table.replace(&change)?;
    let files = removes.len();
    Ok(landed.map_or(Done::Abandoned, |version| Done::Retained { version, days, files }))
}
