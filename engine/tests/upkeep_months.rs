//! A stream in simulated time: every commit, few rows, upkeep beside it.
//!
//! In the ordinary run a few days; as a soak, 13 months and more of a commit each minute:
//!
//! ```sh
//! UPKEEP_DAYS=420 UPKEEP_COMMIT_S=60 UPKEEP_EVERY_MIN=60 UPKEEP_DIR=/dev/shm/months \
//!   cargo test --release --test upkeep_months -- --nocapture
//! ```
//!
//! Broken off, it goes on where it was when it is started again with the same settings: how many
//! commits landed, the table says, and what was in them is drawn once more from the same seed.
//! What it tells is added to `UPKEEP_DIR` with the suffix `.log`.
//!
//! The disk is real but for two things: nothing is synced, and files carry the simulated time.
//! After each simulated day it holds that days outside the last 26 hours have a handful of files
//! of each grain, that the kept log is bounded, that opening reads the newest checkpoint and the
//! entries after it and no more, and that the sums by minute, hour and day are those of an oracle.

#[path = "support/rows.rs"]
mod rows;
#[path = "support/store.rs"]
mod store;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ninefold_engine::table::schema::Grain;
use ninefold_engine::table::upkeep::{Done, Upkeep};
use ninefold_engine::table::{DataFile, Epoch, Filter, Move, Table};
use ninefold_engine::time::{DAY_MINUTES, Day, Minute};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, PutOptions, Result};
use rows::{Row, batch, series_files, source_file};
use store::{Hooked, Hooks};

const PARTITION: &str = "kafka/requests/0";

/// The first simulated day. Far enough in the past that 13 months end before now: the kernel
/// forgets removed files by the real clock.
const START: Day = Day(20_361);

const CUSTOMERS: u32 = 3;

/// Files of one grain and a day outside the last 26 hours, but for the fresh ones of an hour.
const HANDFUL: usize = 9;

/// A disk in simulated time.
type SimulatedDisk = Hooked<LocalFileSystem, Simulated>;

#[derive(Debug)]
struct Simulated {
    now_ms: AtomicI64,
    log_reads: AtomicU64,
}

impl Simulated {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.now_ms.load(Ordering::Relaxed) as u64)
    }

    /// Gives files that a killed run has left without a simulated time the time of now.
    fn age(&self, dir: &FsPath) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().map(std::io::Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                self.age(&entry.path());
            } else if entry.metadata().unwrap().modified().unwrap() > self.now() {
                let file = File::options().write(true).open(entry.path()).unwrap();
                file.set_modified(self.now()).unwrap();
            }
        }
    }
}

impl Hooks for Simulated {
    fn after_put(&self, location: &Path, _options: &PutOptions) -> Result<()> {
        let path = LocalFileSystem::new().path_to_filesystem(location)?;
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(self.now()).unwrap();
        Ok(())
    }

    fn before_get(&self, location: &Path, options: &GetOptions) -> Result<()> {
        if !options.head && location.as_ref().contains("_delta_log") {
            self.log_reads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Numbers that only look random.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Valid and bad by customer and hour.
type Oracle = BTreeMap<(u32, u32), (u64, u64)>;

struct Simulation {
    disk: SimulatedDisk,
    dir: PathBuf,
    writer: Table,
    keeper: Table,
    upkeep: Upkeep,
    random: Random,
    oracle: Oracle,
    commits: u64,
    done: BTreeMap<&'static str, u64>,
    /// Real time of commits and of upkeep.
    spent: [Duration; 2],
}

impl Simulation {
    /// The simulation as it stands after so many seconds, on the table under `dir`.
    fn new(dir: &FsPath, second: i64) -> Simulation {
        let (now_ms, log_reads) = (AtomicI64::new(ms_at(second)), AtomicU64::default());
        let disk = Hooked::new(LocalFileSystem::new(), Simulated { now_ms, log_reads });
        disk.hooks.age(dir);
        let open = || Table::open_or_create_on(dir, Arc::new(disk.clone())).unwrap();
        Simulation {
            writer: open(),
            keeper: open(),
            dir: dir.to_owned(),
            upkeep: Upkeep::new(),
            random: Random(7),
            oracle: Oracle::new(),
            commits: 0,
            done: BTreeMap::new(),
            spent: [Duration::ZERO; 2],
            disk: disk.clone(),
        }
    }

    /// What is counted at `now_ms`: a row of the running minute, sometimes late ones.
    fn count(&mut self, now_ms: i64) -> Vec<Row> {
        let now = Minute::of_ms(now_ms);
        let mut rows = vec![self.row(now)];
        if self.random.below(40) == 0 {
            let late = 1 + self.random.below(20 * u64::from(DAY_MINUTES)) as u32;
            rows.push(self.row(now.minus(late)));
        }
        if self.random.below(4_000) == 0 {
            let late = self.random.below(300 * u64::from(DAY_MINUTES)) as u32;
            rows.push(self.row(now.minus(late)));
        }
        rows.retain(|row| row.minute.day() >= START);
        for row in &rows {
            let customer = row.customer[1..].parse().unwrap();
            let sum = self.oracle.entry((customer, row.minute.0 / 60)).or_default();
            *sum = (sum.0 + row.valid as u64, sum.1 + row.bad as u64);
        }
        self.commits += 1;
        rows
    }

    /// Commits what was counted at `now_ms`, each tenth time with further grains.
    fn commit(&mut self, rows: &[Row], now_ms: i64) {
        let (next, now) = (self.commits, Minute::of_ms(now_ms));
        let base = (next > 1).then_some(next - 1);
        let step = Move { partition: PARTITION.to_owned(), base, next };
        let mut files = series_files(rows, &step.partition);
        files.push(source_file(&step, now.day()));
        if next % 10 == 1 {
            files.extend([Grain::Dimension, Grain::Failure].map(|grain| further(grain, now)));
        }
        self.writer.commit(Epoch { files, moves: vec![step], info: String::new() }).unwrap();
        if let Some(error) = self.writer.take_upkeep_error() {
            panic!("{error}");
        }
    }

    fn row(&mut self, minute: Minute) -> Row {
        let customer = format!("c{}", self.random.below(u64::from(CUSTOMERS)));
        let (valid, bad) = (1 + self.random.below(100) as i64, self.random.below(2) as i64);
        let latency_us = vec![100 + self.random.below(100_000) as u32];
        Row { customer, minute, release: "r1".to_owned(), valid, bad, latency_us }
    }

    /// All upkeep that is due at `now_ms`.
    fn keep(&mut self, now_ms: i64) {
        for _ in 0..1_000 {
            let done = self.upkeep.step(&mut self.keeper, now_ms).unwrap();
            let name = match done {
                Done::Nothing => return,
                Done::Compacted { .. } => "compacted",
                Done::Abandoned => panic!("nobody else compacts"),
                Done::Cleaned { .. } => "cleaned",
                Done::Retained { .. } => "retained",
                Done::Vacuumed { .. } => "vacuumed",
            };
            *self.done.entry(name).or_default() += 1;
        }
        panic!("upkeep never comes to an end");
    }

    /// What must hold at the end of a day.
    fn check(&self, now_ms: i64) {
        let now = Minute::of_ms(now_ms);
        let log = names(&self.dir.join("_delta_log"));
        let entries = log.iter().filter(|name| name.ends_with(".json")).count();
        assert!(entries <= 2_500, "{entries} entries are kept");
        let checkpoints = log.iter().filter(|name| name.contains(".checkpoint.")).count();
        assert!(checkpoints <= 26, "{checkpoints} checkpoints are kept");

        let before = self.disk.hooks.log_reads.load(Ordering::Relaxed);
        let table = Table::open_on(&self.dir, Arc::new(self.disk.clone())).unwrap().unwrap();
        let reads = self.disk.hooks.log_reads.load(Ordering::Relaxed) - before;
        // Each entry is read once for the protocol and the schema, once for the offsets; the
        // checkpoint by its footer and some columns.
        assert!(reads <= 2 * 102 + 20, "opening read {reads} files of the log");
        assert_eq!(table.offset(PARTITION).unwrap(), Some(self.commits));

        for ((grain, day), count) in table.file_counts().unwrap() {
            let day = day.unwrap();
            if (day.0 + 1) * DAY_MINUTES + 26 * 60 <= now.0 {
                assert!(count <= HANDFUL + 6, "{count} files of {grain} of {day} at {now}");
            }
        }
        let kept_from = now.day().0.saturating_sub(13 * 31);
        let expect: Oracle = self
            .oracle
            .iter()
            .filter(|((_, hour), _)| hour / 24 >= kept_from)
            .map(|(key, sum)| (*key, *sum))
            .collect();
        let expect_days = by_day(&expect);
        let mut found = Oracle::new();
        let filter = Filter::default();
        let stats = table.for_each_series(&filter, |row| add(&mut found, &row, 60)).unwrap();
        assert_eq!(found, expect, "by minutes at {now}");
        let mut found = Oracle::new();
        let hours = table.for_each_series_hour(&filter, |row| add(&mut found, &row, 60)).unwrap();
        assert_eq!(found, expect, "by hours at {now}");
        let mut found = Oracle::new();
        let span = DAY_MINUTES;
        let days = table.for_each_series_day(&filter, |row| add(&mut found, &row, span)).unwrap();
        assert_eq!(found, expect_days, "by days at {now}");
        let rows = [stats.rows, hours.rows, days.rows];
        assert!(rows[0] > rows[1] && rows[0] > rows[2], "{rows:?} by minutes, hours, days");
        let mut next = 0;
        let mut ranges = Vec::new();
        table.for_each_source(&filter, |row| ranges.push((row.first, row.next))).unwrap();
        ranges.sort_unstable();
        for (first, end) in ranges {
            assert_eq!(first, next, "the ranges of the source tile");
            next = end;
        }
        assert_eq!(next, self.commits);
    }

    fn tell(&self, now_ms: i64, began: Instant) -> String {
        let files: usize = self.keeper.file_counts().unwrap().values().sum();
        let entries = names(&self.dir.join("_delta_log")).len();
        format!(
            "{}: {} commits, {files} live files, {entries} files of the log, {:?}, {:.0} s, of \
             it commits {:.0} s and upkeep {:.0} s",
            Minute::of_ms(now_ms),
            self.commits,
            self.done,
            began.elapsed().as_secs_f64(),
            self.spent[0].as_secs_f64(),
            self.spent[1].as_secs_f64(),
        )
    }
}

fn add(sums: &mut Oracle, row: &ninefold_engine::table::read::SeriesRow<'_>, unit_minutes: u32) {
    let key = (row.customer[1..].parse().unwrap(), row.minute.0 / unit_minutes);
    let sum = sums.entry(key).or_default();
    *sum = (sum.0 + row.measures.valid, sum.1 + row.measures.bad);
}

fn by_day(hours: &Oracle) -> Oracle {
    let mut days = Oracle::new();
    for ((customer, hour), (valid, bad)) in hours {
        let sum = days.entry((*customer, hour / 24)).or_default();
        *sum = (sum.0 + valid, sum.1 + bad);
    }
    days
}

fn names(dir: &FsPath) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// One row of a further grain.
fn further(grain: Grain, minute: Minute) -> DataFile {
    let text = |name: &str, _: usize| match name {
        "customer" => Some("c0".to_owned()),
        "service" => Some("api".to_owned()),
        "partition" => Some(PARTITION.to_owned()),
        _ => None,
    };
    let int = |name: &str, _: usize| i64::from(name == "bad" || name == "valid");
    let batches = vec![batch(grain, &[minute], &text, &int, &|_, _| None)];
    DataFile { grain, day: minute.day(), batches }
}

fn setting(name: &str, default: i64) -> i64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Epoch milliseconds of a second of the simulation.
fn ms_at(second: i64) -> i64 {
    Minute(START.0 * DAY_MINUTES).start_ms() + second * 1_000
}

/// How many commits the table under `dir` has.
fn landed(dir: &FsPath) -> u64 {
    let table = Table::open(dir).unwrap();
    table.and_then(|table| table.offset(PARTITION).unwrap()).unwrap_or(0)
}

/// Takes the table under `dir` from where it stands to `commits` commits, one each `commit_s`
/// seconds, and checks it at the end and from day to day.
fn run(dir: &FsPath, commits: u64, commit_s: i64) {
    let (began, landed) = (Instant::now(), landed(dir));
    assert!(landed <= commits, "it is past {commits} commits already");
    let keep_s = 60 * setting("UPKEEP_EVERY_MIN", 20);
    let days = commits as i64 * commit_s / 86_400;
    let check_days = 1 + days / 40;
    let tell = |line: String| {
        println!("{line}");
        let log = File::options().create(true).append(true).open(dir.with_extension("log"));
        writeln!(log.unwrap(), "{line}").unwrap();
    };
    let mut simulation = Simulation::new(dir, landed as i64 * commit_s);
    for at in 0..commits as i64 {
        let (second, ends) = (at * commit_s, (at + 1) * commit_s);
        let now_ms = ms_at(second);
        let rows = simulation.count(now_ms);
        if simulation.commits <= landed {
            continue;
        }
        simulation.disk.hooks.now_ms.store(now_ms, Ordering::Relaxed);
        let before = Instant::now();
        simulation.commit(&rows, now_ms);
        simulation.spent[0] += before.elapsed();
        if second / keep_s < ends / keep_s {
            let before = Instant::now();
            simulation.keep(now_ms);
            simulation.spent[1] += before.elapsed();
        }
        let day = ends / 86_400;
        let is_last = at + 1 == commits as i64;
        if ends % 86_400 == 0 && day % check_days == 0 && day > 2 && !is_last {
            simulation.check(now_ms);
            tell(simulation.tell(now_ms, began));
        }
    }
    let last_ms = ms_at((commits as i64 - 1) * commit_s);
    simulation.check(last_ms);
    tell(simulation.tell(last_ms, began));
    let done = |name| simulation.done.get(name).copied().unwrap_or(0);
    let ran_days = (commits - landed) * commit_s as u64 / 86_400;
    assert!(done("compacted") >= ran_days, "{:?}", simulation.done);
    assert!(done("vacuumed") >= ran_days.min(1), "{:?}", simulation.done);
    // The last row of all is where it was put.
    assert_eq!(simulation.writer.refresh().unwrap(), simulation.keeper.refresh().unwrap());
}

#[test]
fn months_of_commits_leave_few_files_a_short_log_and_equal_sums() {
    let (days, commit_s) = (setting("UPKEEP_DAYS", 4), setting("UPKEEP_COMMIT_S", 300));
    let commits = (days * 86_400 / commit_s) as u64;
    if let Ok(dir) = std::env::var("UPKEEP_DIR") {
        return run(FsPath::new(&dir), commits, commit_s);
    }
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("rollups");
    // Broken off in the middle of a day, and begun again.
    run(&dir, commits - commits / 10, commit_s);
    run(&dir, commits, commit_s);
}
