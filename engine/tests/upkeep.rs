//! Upkeep never changes a sum: whatever is committed meanwhile, whoever else compacts, wherever
//! it is killed. And the log below the checkpoints, retention and vacuum keep what is needed.

#[path = "support/rows.rs"]
mod rows;
#[path = "support/store.rs"]
mod store;

use std::fs::File;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use ninefold_engine::audit::audit;
use ninefold_engine::table::schema::Grain;
use ninefold_engine::table::upkeep::{Done, Upkeep, clean, retain, vacuum};
use ninefold_engine::table::{
    CommitError, DataFile, Epoch, Filter, Move, SyncedDisk, Table, TableError,
};
use ninefold_engine::time::{DAY_MINUTES, Day, MINUTE_MS, Minute};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, PutOptions, Result};
use proptest::prelude::*;
use rows::{Row, epoch_of, series_batch, source_file, sums_in, sums_of};
use serde_json::Value;
use store::{Hooked, Hooks};

const START: Minute = Minute(20_000 * DAY_MINUTES);
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Two hours into the first day: nothing is a whole day yet.
fn early_ms() -> i64 {
    START.start_ms() + 2 * HOUR_MS
}

/// Long after: every day is whole.
fn late_ms() -> i64 {
    START.start_ms() + 9 * DAY_MS
}

fn row(customer: u32, minute: u32, valid: i64) -> Row {
    Row {
        customer: format!("c{customer}"),
        minute: Minute(START.0 + minute),
        release: if valid % 3 == 0 { String::new() } else { format!("r{}", valid % 3) },
        valid,
        bad: valid / 10,
        latency_us: (0..valid % 4).map(|at| (100 + 37 * valid * (at + 1)) as u32).collect(),
    }
}

/// Three days of commits, some of them late.
fn many_rows() -> Vec<Vec<Row>> {
    let commit = |at: u32| {
        let minute = at * 190 % (3 * DAY_MINUTES);
        vec![row(at % 3, minute, i64::from(at) + 1), row(at % 2, minute / 2, i64::from(at) + 2)]
    };
    (0..24).map(commit).collect()
}

fn commit_all(table: &mut Table, commits: &[Vec<Row>]) {
    for rows in commits {
        let epoch = epoch_of(table, "file/p", rows);
        table.commit(epoch).unwrap();
    }
}

fn opened(dir: &FsPath) -> Table {
    Table::open(dir).unwrap().unwrap()
}

/// The table says the same of `rows` by minutes, hours and days.
fn assert_sums(table: &Table, rows: &[Row], context: &str) {
    for unit in [1, 60, DAY_MINUTES] {
        let found = sums_in(table, unit).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(found, sums_of(rows, unit), "{context}, by {unit} minutes");
    }
}

/// Compacts until nothing is due.
fn compact_all(table: &mut Table, now_ms: i64) -> usize {
    let mut upkeep = Upkeep::eager();
    for steps in 0..100 {
        table.refresh().unwrap();
        if upkeep.compact(table, now_ms).unwrap() == Done::Nothing {
            return steps;
        }
    }
    panic!("compaction never comes to an end");
}

fn count(table: &Table, grain: Grain) -> usize {
    let counts = table.file_counts().unwrap();
    counts.iter().filter(|((name, _), _)| name == grain.name()).map(|(_, count)| count).sum()
}

#[test]
fn two_levels_leave_one_file_of_a_day_and_coarse_rows_that_stand_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let commits = many_rows();
    commit_all(&mut table, &commits);
    let all = commits.concat();
    let before = table.for_each_series(&Filter::default(), |_| {}).unwrap();
    assert!(compact_all(&mut table, early_ms()) > 0);
    assert_sums(&opened(dir.path()), &all, "level 1");
    assert_eq!((count(&table, Grain::Series), count(&table, Grain::SeriesHour)), (3, 3));
    assert_eq!(count(&table, Grain::SeriesDay), 0);
    assert!(compact_all(&mut table, late_ms()) > 0);
    assert_eq!(compact_all(&mut table, late_ms()), 0, "nothing is left to do");
    let table = opened(dir.path());
    assert_sums(&table, &all, "level 2");
    for grain in [Grain::Series, Grain::SeriesHour, Grain::SeriesDay] {
        assert_eq!(count(&table, grain), 3, "{}", grain.name());
    }
    // The last row of each commit, which gives its source row the day, is of two days alone.
    assert_eq!(count(&table, Grain::Source), 2);
    // What is covered is read coarse, not by minutes.
    let filter = Filter::default();
    let days = table.for_each_series_day(&filter, |row| assert_eq!(row.minute.0 % 1_440, 0));
    assert!(days.unwrap().rows < before.rows / 2);
    // Late rows stay uncovered until the next compaction.
    let mut table = table;
    let late = vec![row(1, 5, 40)];
    commit_all(&mut table, std::slice::from_ref(&late));
    let all = [all, late].concat();
    assert_sums(&table, &all, "late rows");
    compact_all(&mut table, late_ms());
    assert_sums(&opened(dir.path()), &all, "late rows, compacted");
}

#[test]
fn rows_that_stand_for_themselves_are_kept_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let text = |name: &str, _: usize| Some(format!("{name} text"));
    let bytes = |_: &str, _: usize| Some(b"the same line".to_vec());
    for at in 0..5 {
        // Equal rows are not one row: two dead letters of one text are two.
        let file = |grain| DataFile {
            grain,
            day: START.day(),
            batches: vec![rows::batch(grain, &[START, START], &text, &|_, _| 1, &bytes)],
        };
        let (base, partition) = ((at > 0).then_some(at), "file/p".to_owned());
        let files = [Grain::Dead, Grain::Alert, Grain::Gap, Grain::Source].map(file).to_vec();
        let moves = vec![Move { partition, base, next: at + 1 }];
        table.commit(Epoch { files, moves, info: String::new() }).unwrap();
    }
    compact_all(&mut table, late_ms());
    for grain in [Grain::Dead, Grain::Alert, Grain::Gap, Grain::Source] {
        assert_eq!(count(&table, grain), 1, "{}", grain.name());
        let rows = table.scan(grain, &Filter::default()).unwrap();
        let rows: usize = rows.map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(rows, 10, "{}", grain.name());
    }
}

#[test]
fn the_second_of_two_compactors_gives_up_and_a_commit_between_joins_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Table::open_or_create(dir.path()).unwrap();
    let commits = many_rows();
    commit_all(&mut writer, &commits);
    let (mut first, mut second) = (opened(dir.path()), opened(dir.path()));
    let between = vec![row(0, 3, 50)];
    commit_all(&mut writer, std::slice::from_ref(&between));
    let all = [commits.concat(), between].concat();
    // Neither has seen the commit between: the first meets its entry and goes on top of it.
    let done = Upkeep::eager().compact(&mut first, late_ms()).unwrap();
    assert!(matches!(done, Done::Compacted { .. }), "{done:?}");
    assert_sums(&opened(dir.path()), &all, "after the first");
    assert_eq!(Upkeep::eager().compact(&mut second, late_ms()).unwrap(), Done::Abandoned);
    assert_sums(&opened(dir.path()), &all, "after the second");
    compact_all(&mut second, late_ms());
    assert_sums(&opened(dir.path()), &all, "in the end");
}

#[test]
fn compactors_and_writers_at_once_keep_every_sum() {
    let dir = tempfile::tempdir().unwrap();
    Table::open_or_create(dir.path()).unwrap();
    let commits = many_rows();
    std::thread::scope(|scope| {
        for partition in ["file/p", "file/q"] {
            let commits = &commits;
            let dir = dir.path();
            scope.spawn(move || {
                let mut table = opened(dir);
                for rows in commits {
                    let epoch = epoch_of(&table, partition, rows);
                    table.commit(epoch).unwrap();
                }
            });
        }
        for now_ms in [early_ms(), late_ms()] {
            let dir = dir.path();
            scope.spawn(move || {
                let (mut table, mut upkeep) = (opened(dir), Upkeep::eager());
                for _ in 0..12 {
                    table.refresh().unwrap();
                    upkeep.compact(&mut table, now_ms).unwrap();
                }
            });
        }
    });
    let twice = [commits.concat(), commits.concat()].concat();
    assert_sums(&opened(dir.path()), &twice, "after the race");
}

/// The put of a certain number fails, and all after it.
#[derive(Debug)]
struct Dying {
    puts_left: AtomicI64,
}

impl Hooks for Dying {
    fn before_put(&self, _location: &Path, _options: &PutOptions) -> Result<()> {
        if self.puts_left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(Error::Generic { store: "dying disk", source: "killed".into() });
        }
        Ok(())
    }
}

#[test]
fn a_compaction_killed_at_any_write_leaves_every_sum() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Table::open_or_create(dir.path()).unwrap();
    let commits = many_rows();
    commit_all(&mut writer, &commits);
    let all = commits.concat();
    let mut killed = 0;
    loop {
        let disk = Hooked::new(SyncedDisk::new(), Dying { puts_left: AtomicI64::new(killed) });
        let mut table = Table::open_on(dir.path(), Arc::new(disk)).unwrap().unwrap();
        let done = Upkeep::eager().compact(&mut table, wall_ms());
        assert_sums(&opened(dir.path()), &all, &format!("killed at write {killed}"));
        if done.is_ok() {
            break;
        }
        killed += 1;
    }
    assert!(killed > 5, "{killed} writes were tried");
    // Orphans go after a day, and nothing else.
    let mut table = opened(dir.path());
    let now_ms = wall_ms();
    assert_eq!(vacuum(&mut table, now_ms, true).unwrap().files, Vec::<PathBuf>::new());
    let orphans = vacuum(&mut table, now_ms + 2 * DAY_MS, false).unwrap().files.len();
    assert!(orphans > killed as usize, "{orphans} orphans of {killed} attempts");
    assert_sums(&opened(dir.path()), &all, "vacuumed");
}

fn wall_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "files are stamped by the real clock")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn a_flipped_bit_in_an_input_ends_a_compaction_before_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    commit_all(&mut table, &many_rows());
    let file = data_files(dir.path(), Grain::Series).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let version = table.version();
    let error = Upkeep::eager().compact(&mut table, late_ms()).unwrap_err();
    let CommitError::Table(TableError::FileHash { path }) = &error else { panic!("{error}") };
    assert_eq!(path.file_name(), file.file_name());
    assert_eq!(opened(dir.path()).version(), version);
}

/// The data files of a grain, sorted.
fn data_files(dir: &FsPath, grain: Grain) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for day in std::fs::read_dir(dir.join(format!("grain={}", grain.name()))).unwrap() {
        let day = std::fs::read_dir(day.unwrap().path()).unwrap();
        files.extend(day.map(|file| file.unwrap().path()));
    }
    files.sort();
    files
}

#[test]
fn rows_out_of_order_are_sorted_and_summed() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let mut all = Vec::new();
    for at in 0..3_u32 {
        let rows: Vec<Row> =
            (0..50).rev().map(|m| row((m + at) % 4, m, i64::from(m + 1))).collect();
        let partition = "file/p";
        let batches = vec![series_batch(&rows, partition)];
        let files = vec![DataFile { grain: Grain::Series, day: START.day(), batches }];
        table.commit(Epoch { files, ..Epoch::default() }).unwrap();
        all.extend(rows);
    }
    compact_all(&mut table, late_ms());
    assert_eq!(count(&table, Grain::Series), 1);
    assert_sums(&table, &all, "unsorted");
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u32, u32, i64)>),
    Compact { eager: bool, early: bool, stale: bool },
    Reopen,
    Vacuum,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = prop::collection::vec((0_u32..3, 0_u32..4_000, 1_i64..30), 1..6);
    let compact = (any::<bool>(), any::<bool>(), any::<bool>());
    let step = prop_oneof![
        4 => rows.prop_map(Step::Commit),
        3 => compact.prop_map(|(eager, early, stale)| Step::Compact { eager, early, stale }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Vacuum),
    ];
    prop::collection::vec(step, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sums_are_equal_after_any_commits_and_compactions(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Table::open_or_create(dir.path()).unwrap();
        let (mut keepers, mut all) = ([opened(dir.path()), opened(dir.path())], Vec::new());
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Commit(rows) => {
                    let rows: Vec<Row> = rows.iter().map(|(c, m, v)| row(*c, *m, *v)).collect();
                    commit_all(&mut writer, std::slice::from_ref(&rows));
                    all.extend(rows);
                }
                Step::Compact { eager, early, stale } => {
                    let mut upkeep = if *eager { Upkeep::eager() } else { Upkeep::new() };
                    let keeper = &mut keepers[at % 2];
                    if !stale {
                        keeper.refresh().unwrap();
                    }
                    upkeep.compact(keeper, if *early { early_ms() } else { late_ms() }).unwrap();
                }
                Step::Reopen => writer = opened(dir.path()),
                Step::Vacuum => drop(vacuum(&mut keepers[at % 2], wall_ms(), false).unwrap()),
            }
            assert_sums(&opened(dir.path()), &all, &format!("after step {at}"));
        }
    }
}

#[test]
fn vacuum_takes_what_nobody_needs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let commits = many_rows();
    commit_all(&mut table, &commits);
    let reader = opened(dir.path());
    let now_ms = wall_ms();
    let inputs = data_files(dir.path(), Grain::Series);
    let mut upkeep = Upkeep::eager();
    while upkeep.compact(&mut table, now_ms).unwrap() != Done::Nothing {
        table.refresh().unwrap();
    }
    let folder = inputs[0].parent().unwrap();
    let put = |path: PathBuf, age_ms: i64| {
        std::fs::write(&path, b"x").unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis((now_ms - age_ms) as u64);
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        path
    };
    let id = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
    let old_orphan = put(folder.join(format!("{id}-0.parquet")), 2 * DAY_MS);
    let staged = put(folder.join(format!("{id}-1.parquet#77")), 2 * DAY_MS);
    let torn = put(dir.path().join("_delta_log/00000000000000000099.json#7"), 2 * DAY_MS);
    let kept = [
        put(folder.join(format!("{id}-2.parquet")), HOUR_MS),
        put(folder.join("part-of-somebody.parquet"), 30 * DAY_MS),
        put(folder.join("notes.txt"), 30 * DAY_MS),
        put(dir.path().join("other.parquet"), 30 * DAY_MS),
        put(dir.path().join("_delta_log/notes.json#7x"), 30 * DAY_MS),
    ];
    // A reader of the version before finishes for seven days.
    let mut gone = vec![torn.clone(), old_orphan.clone(), staged.clone()];
    gone.sort();
    let dry = vacuum(&mut table, now_ms, true).unwrap();
    assert_eq!(dry.files, gone);
    assert_eq!(vacuum(&mut table, now_ms, false).unwrap(), dry);
    assert!(gone.iter().all(|path| !path.exists()));
    assert_sums(&reader, &commits.concat(), "an older version");
    let removed = vacuum(&mut table, now_ms + 8 * DAY_MS, false).unwrap();
    assert!(inputs.iter().all(|input| removed.files.contains(input)), "{removed:?}");
    assert!(kept[1..].iter().all(|path| path.exists()));
    assert_sums(&opened(dir.path()), &commits.concat(), "the newest version");
    let expired = sums_in(&reader, 1).unwrap_err();
    assert!(matches!(expired, TableError::SnapshotExpired { .. }), "{expired}");
    assert!(expired.to_string().starts_with("snapshot expired"), "{expired}");

    // Somebody else removes a file that the newest version needs.
    let lost = data_files(dir.path(), Grain::SeriesDay).remove(0);
    std::fs::remove_file(&lost).unwrap();
    let error = vacuum(&mut table, now_ms + 30 * DAY_MS, false).unwrap_err();
    assert!(error.to_string().contains(lost.file_name().unwrap().to_str().unwrap()), "{error}");
    let error = sums_in(&opened(dir.path()), DAY_MINUTES).unwrap_err();
    assert!(matches!(error, TableError::FileMissing { .. }), "{error}");
}

#[test]
fn retention_removes_whole_days_and_keeps_the_proof_of_the_sources() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let commits = many_rows();
    commit_all(&mut table, &commits);
    let step = Move { partition: "file/q".to_owned(), base: None, next: 1 };
    let undated = DataFile { day: Day(0), ..source_file(&step, Day(0)) };
    table.commit(Epoch { files: vec![undated], moves: vec![step], info: String::new() }).unwrap();
    compact_all(&mut table, late_ms());
    // 403 days after the second day: the first one alone is older.
    let now_ms = START.start_ms() + (1 + 13 * 31) * DAY_MS;
    let done = retain(&mut table, now_ms).unwrap();
    assert!(matches!(done, Done::Retained { days: 1, .. }), "{done:?}");
    assert_eq!(retain(&mut table, now_ms).unwrap(), Done::Nothing);
    let all = commits.concat();
    let kept: Vec<Row> = all.into_iter().filter(|row| row.minute.day() > START.day()).collect();
    assert_sums(&opened(dir.path()), &kept, "retained");
    let mut sources = 0;
    table.for_each_source(&Filter::default(), |_| sources += 1).unwrap();
    assert_eq!(sources, commits.len() + 1);
    assert_eq!(table.offset("file/p").unwrap(), Some(48));
}

/// A table of `commits` entries without files, on a disk that is not synced.
fn long_log(dir: &FsPath, commits: u64) -> Table {
    let disk = Arc::new(LocalFileSystem::new());
    let mut table = Table::open_or_create_on(dir, disk).unwrap();
    for at in 0..commits {
        let (base, partition) = ((at > 0).then_some(at), "file/p".to_owned());
        let files = if at % 50 == 7 {
            rows::series_files(&[row(0, at as u32, 10)], &partition)
        } else {
            vec![]
        };
        let moves = vec![Move { partition, base, next: at + 1 }];
        table.commit(Epoch { files, moves, info: String::new() }).unwrap();
        assert!(table.take_upkeep_error().is_none());
    }
    table
}

fn log_file(dir: &FsPath, version: u64, suffix: &str) -> PathBuf {
    dir.join(format!("_delta_log/{version:020}.{suffix}"))
}

#[test]
fn a_broken_newest_checkpoint_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let table = long_log(dir.path(), 250);
    let whole = sums_in(&table, 1).unwrap();
    drop(table);
    let newest = log_file(dir.path(), 200, "checkpoint.parquet");
    let good = std::fs::read(&newest).unwrap();
    let hint = dir.path().join("_delta_log/_last_checkpoint");
    let named = std::fs::read_to_string(&hint).unwrap();
    assert!(named.contains("\"previousVersion\":\"100\""), "{named}");
    let check = |what: &str| {
        let mut table = opened(dir.path());
        assert_eq!((table.version(), table.offset("file/p").unwrap()), (250, Some(250)), "{what}");
        assert_eq!(sums_in(&table, 1).unwrap(), whole, "{what}");
        // It goes on, and what it refreshes to is not built on the broken one either.
        table.refresh().unwrap();
        assert_eq!(sums_in(&table, 1).unwrap(), whole, "{what}");
    };
    check("whole");
    std::fs::write(&newest, &good[..good.len() / 2]).unwrap();
    check("cut");
    for at in [4, good.len() / 3, good.len() / 2, good.len() - 20] {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&newest, &flipped).unwrap();
        check(&format!("flipped at {at}"));
    }
    std::fs::remove_file(&newest).unwrap();
    check("missing");
    // Killed half way: written in part, not named yet.
    std::fs::write(&newest, &good[..good.len() / 2]).unwrap();
    std::fs::write(&hint, named.replace("200", "100")).unwrap();
    check("half, and not named");
    // A writer replaces it at its next commit.
    let mut table = opened(dir.path());
    let moves = vec![Move { partition: "file/p".to_owned(), base: Some(250), next: 251 }];
    table.commit(Epoch { moves, ..Epoch::default() }).unwrap();
    assert!(table.take_upkeep_error().is_none());
    assert!(log_file(dir.path(), 251, "checkpoint.parquet").exists());
}

#[test]
fn both_checkpoints_broken_fall_back_to_the_entries() {
    let dir = tempfile::tempdir().unwrap();
    drop(long_log(dir.path(), 210));
    for version in [100, 200] {
        std::fs::write(log_file(dir.path(), version, "checkpoint.parquet"), b"PAR1").unwrap();
    }
    assert_eq!(opened(dir.path()).offset("file/p").unwrap(), Some(210));
    // And where those are gone, it is an error, not an empty table.
    std::fs::remove_file(log_file(dir.path(), 0, "json")).unwrap();
    let error = Table::open(dir.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, TableError::Checkpoint { version: 200, .. }), "{error}");
}

#[test]
fn a_hole_in_the_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(long_log(dir.path(), 60));
    std::fs::remove_file(log_file(dir.path(), 57, "json")).unwrap();
    let error = Table::open(dir.path()).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("log hole at version 57 "), "{error}");
}

#[test]
fn cleaning_keeps_two_checkpoints_and_what_a_slow_reader_may_need() {
    let dir = tempfile::tempdir().unwrap();
    let table = long_log(dir.path(), 2_250);
    let mut slow = opened(dir.path());
    let expect = sums_in(&table, 1).unwrap();
    // All entries are young and stay; of the checkpoints two do.
    assert_eq!(clean(&table).unwrap(), Done::Cleaned { files: 20 });
    assert_eq!(clean(&table).unwrap(), Done::Nothing);
    let old = SystemTime::UNIX_EPOCH + Duration::from_millis((wall_ms() - 7 * HOUR_MS) as u64);
    for version in 0..=50 {
        let entry = File::options().write(true).open(log_file(dir.path(), version, "json"));
        entry.unwrap().set_modified(old).unwrap();
    }
    // Not below a checkpoint that is not whole.
    let newest = log_file(dir.path(), 2_200, "checkpoint.parquet");
    let good = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &good[1..]).unwrap();
    assert_eq!(clean(&table).unwrap(), Done::Nothing);
    std::fs::write(&newest, &good).unwrap();
    let done = clean(&table).unwrap();
    assert_eq!(done, Done::Cleaned { files: 51 });
    let has = |version, suffix| log_file(dir.path(), version, suffix).exists();
    assert!(!has(0, "json") && !has(50, "json") && has(51, "json") && has(100, "json"));
    assert!(has(2_100, "checkpoint.parquet") && has(2_200, "checkpoint.parquet"));
    assert!(!has(2_000, "checkpoint.parquet"));
    for mut table in [opened(dir.path()), slow.refresh().map(|_| slow).unwrap()] {
        assert_eq!(table.refresh().unwrap(), 2_250);
        assert_eq!(sums_in(&table, 1).unwrap(), expect);
    }
    // The older checkpoint still bears the table alone.
    std::fs::write(&newest, b"PAR1").unwrap();
    assert_eq!(sums_in(&opened(dir.path()), 1).unwrap(), expect);
}

#[test]
fn an_audit_finds_coarse_rows_that_are_not_the_sums_of_their_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    commit_all(&mut table, &many_rows());
    compact_all(&mut table, late_ms());
    let not_sums = || {
        let audit = audit(dir.path(), wall_ms()).unwrap().unwrap();
        let coarse = audit.findings.iter().filter(|finding| finding.proof == "coarse");
        coarse.map(|finding| finding.file.clone().unwrap()).collect::<Vec<String>>()
    };
    assert_eq!(not_sums(), Vec::<String>::new());
    for grain in [Grain::SeriesHour, Grain::SeriesDay] {
        // Two days change places: whole and hashed, they stand for the minutes of each other.
        let log = log_file(dir.path(), table.version(), "json");
        let honest = std::fs::read_to_string(&log).unwrap();
        let mut actions: Vec<Value> =
            honest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let is_of = |action: &Value| {
            let path = action["add"]["path"].as_str().unwrap_or_default();
            path.starts_with(&format!("grain={}/", grain.name()))
        };
        let mut of_grain: Vec<&mut Value> = actions.iter_mut().filter(|one| is_of(one)).collect();
        let [first, second, ..] = &mut of_grain[..] else { panic!("{honest}") };
        let covers = |action: &mut Value| action["add"]["tags"]["covers"].take();
        let (of_first, of_second) = (covers(first), covers(second));
        assert!(of_first.is_string() && of_first != of_second);
        (first["add"]["tags"]["covers"], second["add"]["tags"]["covers"]) = (of_second, of_first);
        let swapped: String = actions.iter().map(|action| format!("{action}\n")).collect();
        std::fs::write(&log, swapped).unwrap();
        let found = not_sums();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|file| file.starts_with(&format!("grain={}/", grain.name()))));
        std::fs::write(&log, honest).unwrap();
    }
}
