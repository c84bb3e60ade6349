//! Proving a table from itself, at rest or while it is being written.
//!
//! The audit opens the table at one version and checks what must hold of it whatever crashed,
//! in any order, with any number of writers:
//!
//! | what | must hold |
//! |---|---|
//! | log | no hole; every entry can be parsed; the entries fold to what a reader sees, and each checkpoint to the entries before it |
//! | files | every live file is there with its size, hash and number of rows, and its rows lie in its day |
//! | offsets | the ranges that commits and gaps say of a partition tile `first..next` without hole or overlap, and `next` is where the log says the partition stands |
//! | lines | of every range `read = counted + dead + duplicate`, and where offsets count records `next - first = read + holes` |
//! | events | what a partition's ranges counted is what its rows of `series` sum up to: of the whole table and, while its files are unmerged, of each commit |
//! | dead letters | as many rows as the ranges say |
//! | dimensions | `series` and `dimension` agree on every minute, service and partition, and `failure` on the bad events |
//! | hours and days | each file of coarse rows is what the file of minutes sums up to that it stands for |
//! | properties | none that the table was not created with |
//!
//! Whatever does not hold is a [`Finding`] with the place and the remedy; an audit without one is
//! *clean*. The days are looked at one after the other, so memory is bounded by one day, by the
//! number of files, and by the offsets that do not join. Nothing is written.

mod day;
mod doctor;
mod file;
mod log;
mod tiles;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

pub use doctor::{Advice, Level, doctor};

use crate::table::{LiveFile, RETENTION, Table, TableError};
use crate::time::Day;
use day::DaySums;
use file::{FileSums, PartitionSums, Provable};
use log::Review;
use tiles::Tiles;

/// How many findings are told; all are counted.
const FINDINGS_MAX: usize = 1_000;

/// How many files are read before their sums are merged: enough for all cores, few enough that
/// their sums are small.
const FILES_AT_ONCE: usize = 64;

/// What to do where the table is not what it was.
const RESTORE: &str = "restore it from a copy of the table";

/// What to do where rows are wrong that no copy may have right.
const RECOUNT: &str = "restore the table from a copy, or count the sources into a new one; `ninefold verify` tells \
     which minutes differ from the source";

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Audit {
    /// Whether there is no finding.
    pub clean: bool,
    /// The version that was audited; 0 where the table could not be opened.
    pub version: u64,
    /// Log entries that were read.
    pub entries: u64,
    /// Live data files.
    pub files: u64,
    /// Their bytes, each hashed.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
    /// How far each partition was counted, and what became of it; by name.
    pub partitions: Vec<PartitionAudit>,
    /// The gaps that somebody has accepted.
    pub gaps: Vec<Gap>,
    /// How many findings there are.
    pub findings_count: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// What is worth knowing and no fault.
    pub notes: Vec<String>,
}

/// One partition of a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PartitionAudit {
    /// Its name in the table.
    pub partition: String,
    /// What people call it.
    pub name: String,
    /// The first offset that was counted.
    pub first: u64,
    /// One past the last, by the log.
    pub next: u64,
    /// Lines or records.
    pub read: u64,
    /// Those that are events.
    pub counted: u64,
    /// Those that were refused.
    pub dead: u64,
    /// Those that were dropped as repetitions.
    pub duplicate: u64,
    /// Offsets that stand for nothing.
    pub holes: u64,
    /// Events that the counted ones stand for.
    pub events: u64,
    /// Offsets in accepted gaps.
    pub gap: u64,
}

/// A part of a partition that will never be counted, and that somebody has accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Gap {
    /// The partition.
    pub partition: String,
    /// Its first offset.
    pub first: u64,
    /// One past its last.
    pub next: u64,
    /// Why it was accepted.
    pub reason: String,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which proof failed, in one word: `log`, `checkpoint`, `file`, `offsets`, `lines`,
    /// `events`, `dead`, `dimension`, `failure`, `coarse`, `histogram`, `property`, `vacuum`, `foreign`,
    /// `table`.
    pub proof: &'static str,
    /// The data file or log entry, relative to the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The partition of a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Where in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What was found, and what would be right.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    fn new(proof: &'static str, found: String, remedy: &str) -> Finding {
        let remedy = remedy.to_owned();
        Finding { proof, file: None, partition: None, offset: None, found, remedy }
    }

    fn of_file(mut self, path: &str) -> Finding {
        self.file = Some(path.to_owned());
        self
    }

    fn of_partition(mut self, partition: &str, offset: Option<u64>) -> Finding {
        (self.partition, self.offset) = (Some(partition.to_owned()), offset);
        self
    }
}

impl Audit {
    fn find(&mut self, finding: Finding) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// Takes over what another one has found.
    fn absorb(&mut self, other: Audit) {
        self.entries += other.entries;
        self.findings_count += other.findings_count - other.findings.len() as u64;
        other.findings.into_iter().for_each(|finding| self.find(finding));
        self.notes.extend(other.notes);
    }
}

/// Audits the table under `dir`; `None` where there is none. `now_ms` is the wall clock in epoch
/// milliseconds: it judges how long ago a file was removed.
///
/// # Errors
/// The folder itself cannot be read. A table that cannot be opened is a finding.
pub fn audit(dir: &Path, now_ms: i64) -> Result<Option<Audit>, TableError> {
    let listing = log::list(dir)?;
    let mut audit = Audit::default();
    match Table::open(dir) {
        Ok(None) => return Ok(None),
        Ok(Some(table)) => Auditor::new(&table).run(&mut audit, listing, now_ms)?,
        Err(error) => {
            log::explain(dir, &listing, &mut audit);
            let remedy = "`ninefold doctor` says what may help; else restore a copy of the table";
            audit.find(Finding::new("table", format!("it cannot be opened: {error}"), remedy));
        }
    }
    audit.clean = audit.findings_count == 0;
    Ok(Some(audit))
}

/// What is summed up while the files are read.
struct Auditor<'a> {
    table: &'a Table,
    review: Review,
    tiles: BTreeMap<String, Tiles>,
    partitions: BTreeMap<String, PartitionSums>,
    /// By version of the entry that added the rows.
    commits: HashMap<u64, BTreeMap<String, PartitionSums>>,
    /// Grains of which a file cannot be read, so that nothing is said of their sums.
    damaged: HashSet<String>,
    unhashed: u64,
}

impl<'a> Auditor<'a> {
    fn new(table: &'a Table) -> Auditor<'a> {
        Auditor {
            table,
            review: Review::default(),
            tiles: BTreeMap::new(),
            partitions: BTreeMap::new(),
            commits: HashMap::new(),
            damaged: HashSet::new(),
            unhashed: 0,
        }
    }

    fn run(
        mut self,
        audit: &mut Audit,
        listing: log::Listing,
        now_ms: i64,
    ) -> Result<(), TableError> {
        audit.version = self.table.version();
        self.review = log::review(self.table, listing, audit)?;
        self.review.retained = self.table.offset(RETENTION)?.is_some();
        log::check_properties(self.table, audit);
        log::check_removed(self.table.dir(), &self.review, now_ms, audit);
        let files = self.table.live_files()?;
        audit.files = files.len() as u64;
        audit.bytes = files.iter().map(|file| file.size).sum();
        let mut days: BTreeMap<Option<Day>, Vec<&LiveFile>> = BTreeMap::new();
        for file in files.iter() {
            days.entry(file.day).or_default().push(file);
        }
        for (day, files) in days {
            self.check_day(audit, day, &files);
        }
        self.check_offsets(audit);
        self.check_events(audit);
        if self.review.retained {
            let old = "days past retention were removed: of what is older than that, only the \
                       ranges are proven";
            audit.notes.push(old.to_owned());
        }
        if self.unhashed > 0 {
            let others = "have no hash in the log: others wrote them, so a flipped bit would show \
                          in sums alone";
            audit.notes.push(format!("{} data files {others}", self.unhashed));
        }
        Ok(())
    }

    fn check_day(&mut self, audit: &mut Audit, day: Option<Day>, files: &[&LiveFile]) {
        let mut sums = DaySums::default();
        for files in files.chunks(FILES_AT_ONCE) {
            for (file, read) in files.iter().zip(file::read_all(self.table, files)) {
                self.unhashed += u64::from(file.sha256.is_none());
                match read {
                    Ok(read) => self.take(audit, &mut sums, file, read),
                    Err(error) => {
                        self.damaged.insert(file.grain.clone());
                        sums.damaged = true;
                        audit.find(self.review.of_damaged(file, &error));
                    }
                }
            }
        }
        if sums.damaged {
            let day = day.map_or_else(|| "no day".to_owned(), |day| day.to_string());
            audit.notes.push(format!("{day}: grains are not compared, since a file is damaged"));
        } else {
            sums.check(audit, day);
        }
    }

    fn take(&mut self, audit: &mut Audit, day: &mut DaySums, file: &LiveFile, read: FileSums) {
        audit.rows += read.rows;
        if let Some(rows) = file.rows.filter(|rows| *rows != read.rows) {
            let found = format!("the log says {rows} rows, and it has {}", read.rows);
            audit.find(Finding::new("file", found, RESTORE).of_file(&file.path));
        }
        for finding in read.findings {
            audit.find(finding.of_file(&file.path));
        }
        audit.gaps.extend(read.gaps);
        for (partition, first, next) in read.tiles {
            let overlaps = self.tiles.entry(partition.clone()).or_default().add(first, next);
            for (first, next) in overlaps {
                let found = format!("offsets {first}..{next} are counted or left out twice");
                let finding = Finding::new("offsets", found, RECOUNT).of_file(&file.path);
                audit.find(finding.of_partition(&partition, Some(first)));
            }
        }
        if let Some(version) = self.review.whole_entry_of(&file.path) {
            let commit = self.commits.entry(version).or_default();
            merge(commit, &read.partitions);
        }
        merge(&mut self.partitions, &read.partitions);
        day.add(&file.grain, read.cells);
        if let Some(units) = read.units {
            day.add_units(file, units);
        }
    }

    /// The tiles of every partition join from its begin to where the log says that it stands.
    fn check_offsets(&mut self, audit: &mut Audit) {
        audit.gaps.sort();
        let offsets = self.table.offsets();
        for (partition, next) in &offsets {
            let Some(tiles) = self.tiles.get(partition) else {
                if partition.starts_with("file/") {
                    let found = format!("{next} bytes are counted by the log, by no row of source");
                    let finding = Finding::new("offsets", found, RECOUNT);
                    audit.find(finding.of_partition(partition, Some(0)));
                }
                continue;
            };
            // A file begins with its first byte; a log may have begun to be counted anywhere.
            let first = if partition.starts_with("file/") { 0 } else { tiles.first() };
            for (first, next) in tiles.holes(first, *next) {
                let found = format!("offsets {first}..{next} are in no commit and in no gap");
                let finding = Finding::new("offsets", found, RECOUNT);
                audit.find(finding.of_partition(partition, Some(first)));
            }
            if tiles.next() > *next {
                let found = format!("rows reach offset {}, the log {next}", tiles.next());
                let finding = Finding::new("offsets", found, RECOUNT);
                audit.find(finding.of_partition(partition, Some(*next)));
            }
        }
        for (partition, sums) in &self.partitions {
            let Some(next) = offsets.get(partition) else {
                let found = "the table has rows of it, and the log no offset".to_owned();
                audit.find(Finding::new("offsets", found, RECOUNT).of_partition(partition, None));
                continue;
            };
            let first = self.tiles.get(partition).map_or(0, Tiles::first);
            let gaps = audit.gaps.iter().filter(|gap| gap.partition == *partition);
            let gap = gaps.map(|gap| gap.next - gap.first).sum();
            audit.partitions.push(sums.report(partition, first, *next, gap));
        }
    }

    /// What was counted is what the rows sum up to, of the table and of each commit.
    fn check_events(&self, audit: &mut Audit) {
        let damaged = |grain: &str| self.damaged.contains(grain) || self.damaged.contains("source");
        let (series, dead) = (!damaged("series"), !damaged("dead"));
        let retained = self.review.retained;
        let whole = Provable { series, dead, retained };
        for (partition, sums) in &self.partitions {
            sums.check(audit, partition, "", whole);
        }
        let mut versions: Vec<&u64> = self.commits.keys().collect();
        versions.sort_unstable();
        for version in versions {
            let entry = format!("_delta_log/{version:020}.json");
            for (partition, sums) in &self.commits[version] {
                sums.check(audit, partition, &entry, Provable { retained: false, ..whole });
            }
        }
    }
}

fn merge(all: &mut BTreeMap<String, PartitionSums>, more: &BTreeMap<String, PartitionSums>) {
    for (partition, sums) in more {
        all.entry(partition.clone()).or_default().add(sums);
    }
}
