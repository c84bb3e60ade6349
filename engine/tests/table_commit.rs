//! The table keeps what was committed: once, whole, through races, lost replies and litter.

#[path = "support/store.rs"]
mod store;

use std::collections::BTreeMap;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::Int64Type;
use ninefold_engine::table::schema::{Grain, timestamp};
use ninefold_engine::table::{
    CommitError, DataFile, Epoch, Filter, Move, SyncedDisk, Table, TableError,
};
use ninefold_engine::time::{Day, Minute};
use object_store::path::Path;
use object_store::{PutMode, PutOptions, Result};
use store::{Hooked, Hooks};

const DAY: Day = Day(20_000);
const START: Minute = Minute(20_000 * 1_440);

/// Customer, minute after [`START`], valid, bad.
type Row<'a> = (&'a str, u32, i64, i64);

/// Rows of the grain `series`.
fn series(rows: &[Row<'_>]) -> RecordBatch {
    let ints = |of: fn(&Row<'_>) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let text = |of: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..rows.len()).map(of)))
    };
    let schema = Grain::Series.schema();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "minute" => {
            let micros = rows.iter().map(|row| i64::from(START.0 + row.1) * 60_000_000);
            let minutes = TimestampMicrosecondArray::from_iter_values(micros);
            Arc::new(minutes.with_data_type(timestamp()))
        }
        "customer" => text(&|at| rows[at].0.to_owned()),
        "service" => text(&|_| "api".to_owned()),
        "partition" => text(&|_| "file/p".to_owned()),
        "valid" => ints(|row| row.2),
        "bad" => ints(|row| row.3),
        "excluded" | "timed" | "slow" | "latency_sum_us" | "latency_max_us" => ints(|_| 0),
        "latency" => Arc::new(BinaryArray::from_iter_values(rows.iter().map(|_| b"hdr"))),
        _ => new_null_array(field.data_type(), rows.len()),
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn file_of(rows: &[Row<'_>]) -> DataFile {
    DataFile { grain: Grain::Series, day: DAY, batches: vec![series(rows)] }
}

fn epoch(rows: &[Row<'_>], base: Option<u64>, next: u64) -> Epoch {
    let partition = "file/p".to_owned();
    let moves = vec![Move { partition, base, next }];
    Epoch { files: vec![file_of(rows)], moves, info: "test".to_owned() }
}

/// Valid and bad of each customer.
type Sums = BTreeMap<String, (i64, i64)>;

fn counts(table: &Table, filter: &Filter) -> Sums {
    let mut sums = Sums::new();
    for batch in table.scan(Grain::Series, filter).unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        for row in 0..batch.num_rows() {
            let customer = column("customer").as_string::<i32>().value(row).to_owned();
            let sum = sums.entry(customer).or_default();
            sum.0 += column("valid").as_primitive::<Int64Type>().value(row);
            sum.1 += column("bad").as_primitive::<Int64Type>().value(row);
        }
    }
    sums
}

fn sums(pairs: &[(&str, (i64, i64))]) -> Sums {
    pairs.iter().map(|(customer, sum)| ((*customer).to_owned(), *sum)).collect()
}

#[test]
fn what_was_committed_is_read_back_by_the_writer_and_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("rollups");
    assert!(Table::open(&dir).unwrap().is_none());
    let mut table = Table::open_or_create(&dir).unwrap();
    assert_eq!((table.version(), table.offset("file/p").unwrap()), (0, None));
    let rows = [("a", 0, 10, 1), ("a", 1, 20, 0), ("b", 0, 5, 5)];
    assert_eq!(table.commit(epoch(&rows, None, 100)).unwrap(), 1);
    assert_eq!(table.commit(epoch(&[("a", 0, 1, 1)], Some(100), 120)).unwrap(), 2);
    let expect = sums(&[("a", (31, 2)), ("b", (5, 5))]);
    assert_eq!(counts(&table, &Filter::default()), expect);
    assert_eq!(table.offset("file/p").unwrap(), Some(120));

    let other = Table::open(&dir).unwrap().unwrap();
    assert_eq!((other.version(), other.id()), (2, table.id()));
    assert_eq!(other.offset("file/p").unwrap(), Some(120));
    assert_eq!(other.offset("file/q").unwrap(), None);
    assert_eq!(counts(&other, &Filter::default()), expect);
}

#[test]
fn a_reader_sees_new_commits_when_it_refreshes() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Table::open_or_create(dir.path()).unwrap();
    let mut reader = Table::open(dir.path()).unwrap().unwrap();
    writer.commit(epoch(&[("a", 0, 1, 0)], None, 1)).unwrap();
    assert_eq!(counts(&reader, &Filter::default()), sums(&[]));
    assert_eq!(reader.refresh().unwrap(), 1);
    assert_eq!(counts(&reader, &Filter::default()), sums(&[("a", (1, 0))]));
    assert_eq!(reader.offset("file/p").unwrap(), Some(1));
}

#[test]
fn an_epoch_counted_from_elsewhere_is_fenced_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Table::open_or_create(dir.path()).unwrap();
    let mut second = Table::open_or_create(dir.path()).unwrap();
    first.commit(epoch(&[("a", 0, 1, 0)], None, 10)).unwrap();
    // The second one still sees the empty table: only the conflict tells it.
    match second.commit(epoch(&[("a", 0, 1, 0)], None, 10)) {
        Err(error @ CommitError::Fenced { .. }) => {
            let by = first.instance();
            let expect = format!("fenced: file/p moved none->10 by instance {by};");
            assert!(error.to_string().starts_with(&expect), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Once it knows, it is told before anything is written.
    let fenced = second.commit(epoch(&[("a", 0, 1, 0)], Some(5), 11));
    assert!(matches!(fenced, Err(CommitError::Fenced { found: Some(10), .. })), "{fenced:?}");
    assert_eq!(counts(&second, &Filter::default()), sums(&[("a", (1, 0))]));
    assert_eq!(second.version(), 1);
    second.commit(epoch(&[("a", 1, 1, 0)], Some(10), 11)).unwrap();
    assert_eq!(first.refresh().unwrap(), 2);
}

#[test]
fn two_writers_of_different_partitions_both_land() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Table::open_or_create(dir.path()).unwrap();
    let mut second = Table::open_or_create(dir.path()).unwrap();
    first.commit(epoch(&[("a", 0, 1, 0)], None, 10)).unwrap();
    let mut other = epoch(&[("a", 0, 2, 0)], None, 7);
    other.moves[0].partition = "file/q".to_owned();
    assert_eq!(second.commit(other).unwrap(), 2);
    assert_eq!(counts(&second, &Filter::default()), sums(&[("a", (3, 0))]));
    assert_eq!(second.offsets(), BTreeMap::from([("file/p".into(), 10), ("file/q".into(), 7)]));
}

#[test]
fn two_racing_writers_count_every_commit_once() {
    let dir = tempfile::tempdir().unwrap();
    Table::open_or_create(dir.path()).unwrap();
    let fenced = AtomicU32::new(0);
    let write = || {
        let mut table = Table::open_or_create(dir.path()).unwrap();
        let mut landed = 0;
        while landed < 100 {
            let base = table.offset("file/p").unwrap();
            match table.commit(epoch(&[("a", 0, 1, 0)], base, base.unwrap_or(0) + 1)) {
                Ok(_) => landed += 1,
                Err(CommitError::Fenced { .. }) => {
                    fenced.fetch_add(1, Ordering::Relaxed);
                    table.refresh().unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(write);
        scope.spawn(write);
    });
    let table = Table::open(dir.path()).unwrap().unwrap();
    assert_eq!(table.offset("file/p").unwrap(), Some(200));
    assert_eq!(counts(&table, &Filter::default()), sums(&[("a", (200, 0))]));
    assert_eq!(table.version(), 200);
    println!("{} commits were fenced", fenced.load(Ordering::Relaxed));
}

#[test]
fn an_epoch_that_contradicts_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let refused = |outcome| matches!(outcome, Err(CommitError::Epoch { .. }));
    let mut twice = epoch(&[], None, 1);
    twice.moves.push(twice.moves[0].clone());
    assert!(refused(table.commit(twice)));
    assert!(refused(table.commit(epoch(&[], Some(2), 1))));
    assert!(refused(table.commit(epoch(&[], None, u64::MAX))));
    let mut foreign = epoch(&[("a", 0, 1, 0)], None, 1);
    foreign.files[0].grain = Grain::Dead;
    assert!(refused(table.commit(foreign)));
    assert_eq!(table.refresh().unwrap(), 0);
}

#[test]
fn litter_of_a_crash_is_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    table.commit(epoch(&[("a", 0, 1, 0)], None, 1)).unwrap();
    let (folder, written) = only_file(dir.path());
    std::fs::copy(&written, folder.join("orphan-0.parquet")).unwrap();
    std::fs::write(folder.join("half-0.parquet#12345"), b"PAR1").unwrap();
    let log = dir.path().join("_delta_log");
    std::fs::write(log.join("00000000000000000002.json#12345"), b"{\"add\":{\"pa").unwrap();

    let mut table = Table::open(dir.path()).unwrap().unwrap();
    assert_eq!(table.version(), 1);
    assert_eq!(counts(&table, &Filter::default()), sums(&[("a", (1, 0))]));
    assert_eq!(table.commit(epoch(&[("a", 0, 1, 0)], Some(1), 2)).unwrap(), 2);
}

/// The folder of the one data file, and the file.
fn only_file(dir: &FsPath) -> (std::path::PathBuf, std::path::PathBuf) {
    let folder = dir.join(format!("grain=series/day={DAY}"));
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    (folder, file)
}

#[test]
fn a_table_of_many_commits_opens_from_a_checkpoint_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    for at in 0..250 {
        let mut epoch = epoch(&[("a", at, 1, 0)], None, u64::from(at) + 1);
        epoch.moves[0].partition = format!("file/{}", at % 50);
        epoch.moves[0].base = (at >= 50).then(|| u64::from(at) - 49);
        table.commit(epoch).unwrap();
        assert!(table.take_upkeep_error().is_none());
    }
    let log = dir.path().join("_delta_log");
    let checkpoint = |version: u64| log.join(format!("{version:020}.checkpoint.parquet")).exists();
    assert!(checkpoint(100) && checkpoint(200) && !checkpoint(150));
    // Without the entries below the checkpoint, nothing but it can tell.
    for version in 0..200 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let reopened = Table::open(dir.path()).unwrap().unwrap();
    assert_eq!(reopened.version(), 250);
    assert_eq!(reopened.offsets(), table.offsets());
    assert_eq!(reopened.offset("file/7").unwrap(), Some(208));
    assert_eq!(counts(&reopened, &Filter::default()), sums(&[("a", (250, 0))]));
    let filter = Filter { customer: Some("a".to_owned()), ..Filter::of_minutes(START..=START) };
    assert_eq!(counts(&reopened, &filter), sums(&[("a", (1, 0))]));
}

#[test]
fn an_entry_put_into_a_hole_of_a_cleaned_log_has_not_landed() {
    let dir = tempfile::tempdir().unwrap();
    let mut sleeper = Table::open_or_create(dir.path()).unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    for at in 0..120 {
        table.commit(epoch(&[("a", 0, 1, 0)], (at > 0).then_some(at), at + 1)).unwrap();
    }
    for version in 0..100 {
        let entry = dir.path().join(format!("_delta_log/{version:020}.json"));
        std::fs::remove_file(entry).unwrap();
    }
    // Its number, 1, is free again: the create succeeds and no reader ever looks there.
    let outcome = sleeper.commit(epoch(&[("a", 0, 1, 0)], None, 1));
    assert!(matches!(outcome, Err(CommitError::Fenced { found: Some(120), .. })), "{outcome:?}");
    let reopened = Table::open(dir.path()).unwrap().unwrap();
    assert_eq!(counts(&reopened, &Filter::default()), sums(&[("a", (120, 0))]));
}

#[test]
fn a_hole_in_the_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    for at in 0..4 {
        table.commit(epoch(&[("a", 0, 1, 0)], (at > 0).then_some(at), at + 1)).unwrap();
    }
    std::fs::remove_file(dir.path().join("_delta_log/00000000000000000002.json")).unwrap();
    let error = Table::open(dir.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, TableError::LogHole { version: 2, .. }), "{error}");
}

#[test]
fn tables_of_others_and_of_the_future_are_refused() {
    let edited = |from: &str, to: &str| {
        let dir = tempfile::tempdir().unwrap();
        Table::open_or_create(dir.path()).unwrap();
        let entry = dir.path().join("_delta_log/00000000000000000000.json");
        let text = std::fs::read_to_string(&entry).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&entry, text.replace(from, to)).unwrap();
        dir
    };
    let refused = |dir: tempfile::TempDir| Table::open(dir.path()).map(|_| ()).unwrap_err();

    let error = refused(edited("ninefold.format", "other.format"));
    assert!(matches!(error, TableError::Foreign { .. }), "{error}");
    let versions = r#""minReaderVersion":1,"minWriterVersion":2"#;
    let mapped = r#""minReaderVersion":2,"minWriterVersion":5"#;
    let error = refused(edited(versions, mapped));
    assert!(matches!(error, TableError::Unsupported { .. }), "{error}");
    let format = r#""ninefold.format":"1""#;
    let forgets =
        r#""delta.setTransactionRetentionDuration":"interval 1 days","ninefold.format":"1""#;
    let error = refused(edited(format, forgets));
    assert!(matches!(error, TableError::Unsupported { .. }), "{error}");

    let newer = edited(format, r#""ninefold.format":"2""#);
    let mut table = Table::open(newer.path()).unwrap().unwrap();
    assert_eq!(counts(&table, &Filter::default()), sums(&[]));
    let outcome = table.commit(epoch(&[("a", 0, 1, 0)], None, 1));
    assert!(matches!(outcome, Err(CommitError::Newer { .. })), "{outcome:?}");
}

#[test]
fn a_file_that_is_missing_short_or_flipped_is_an_error_that_names_it() {
    let check = |damage: &dyn Fn(&FsPath), expect: &dyn Fn(&TableError) -> bool| {
        let dir = tempfile::tempdir().unwrap();
        let mut table = Table::open_or_create(dir.path()).unwrap();
        table.commit(epoch(&[("a", 0, 1, 0)], None, 1)).unwrap();
        let (_, file) = only_file(dir.path());
        damage(&file);
        let outcome = table.scan(Grain::Series, &Filter::default()).unwrap().next().unwrap();
        let error = outcome.unwrap_err();
        assert!(expect(&error), "{error}");
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.to_string().contains(&name), "{error}");
    };
    let missing = |error: &TableError| matches!(error, TableError::FileMissing { .. });
    check(&|file| std::fs::remove_file(file).unwrap(), &missing);
    let edit = |file: &FsPath, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(file).unwrap();
        edit(&mut bytes);
        std::fs::write(file, &bytes).unwrap();
    };
    let short = |error: &TableError| matches!(error, TableError::FileSize { .. });
    check(&|file| edit(file, &|bytes| bytes.truncate(bytes.len() - 1)), &short);
    let flipped = |error: &TableError| matches!(error, TableError::FileHash { .. });
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    check(&|file| edit(file, &flip), &flipped);
}

/// What a store does to the creation of a log entry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It lands, and the reply is an error.
    LostReply,
    /// It lands, and the reply is that the name exists.
    RepliesExists,
    /// It does not land, and the reply is that the name exists.
    FalseExists,
    /// It does not land.
    Full,
}

/// One fault on the first creations of an entry after entry 0.
#[derive(Debug)]
struct Faulty {
    fault: Fault,
    left: AtomicU32,
}

impl Faulty {
    /// Whether a put is refused, by a store on which entries land or do not.
    fn refused(&self, location: &Path, options: &PutOptions, landed: bool) -> Result<()> {
        let name = location.filename().unwrap_or_default().to_owned();
        let entry = name.ends_with(".json") && name != format!("{:020}.json", 0);
        let lands = matches!(self.fault, Fault::LostReply | Fault::RepliesExists);
        if !entry || options.mode != PutMode::Create || lands != landed {
            return Ok(());
        }
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err()
        {
            return Ok(());
        }
        let source = Box::new(std::io::Error::other("injected"));
        Err(match self.fault {
            Fault::LostReply | Fault::Full => {
                object_store::Error::Generic { store: "faulty", source }
            }
            Fault::RepliesExists | Fault::FalseExists => {
                object_store::Error::AlreadyExists { path: name, source }
            }
        })
    }
}

impl Hooks for Faulty {
    fn before_put(&self, location: &Path, options: &PutOptions) -> Result<()> {
        self.refused(location, options, false)
    }

    fn after_put(&self, location: &Path, options: &PutOptions) -> Result<()> {
        self.refused(location, options, true)
    }
}

#[test]
fn an_entry_is_ours_by_its_bytes_whatever_the_store_replied() {
    let check = |fault: Fault| {
        let dir = tempfile::tempdir().unwrap();
        // A commit goes on after two failures: a hiccup is nobody's business.
        let times = if fault == Fault::Full { 3 } else { 1 };
        let faulty = Faulty { fault, left: AtomicU32::new(times) };
        let store = Hooked::new(SyncedDisk::new(), faulty);
        let mut table = Table::open_or_create_on(dir.path(), Arc::new(store)).unwrap();
        let landed = fault != Fault::Full;
        match table.commit(epoch(&[("a", 0, 1, 0)], None, 10)) {
            Ok(version) => assert!(landed && version == 1, "{fault:?}"),
            Err(CommitError::Write { .. }) => assert!(!landed, "{fault:?}"),
            Err(error) => panic!("{fault:?}: {error}"),
        }
        assert_eq!(table.offset("file/p").unwrap(), landed.then_some(10), "{fault:?}");
        // Either way the next commit goes on from what landed, and nothing counts twice.
        table.commit(epoch(&[("a", 0, 1, 0)], landed.then_some(10), 20)).unwrap();
        let valid = if landed { 2 } else { 1 };
        let reopened = Table::open(dir.path()).unwrap().unwrap();
        assert_eq!(counts(&reopened, &Filter::default()), sums(&[("a", (valid, 0))]));
    };
    check(Fault::LostReply);
    check(Fault::RepliesExists);
    check(Fault::FalseExists);
    check(Fault::Full);
}

/// Refuses the files of one day, and counts what of the table's files is begun and ended.
#[derive(Debug, Default)]
struct RefusedDay {
    begun: AtomicU32,
    ended: AtomicU32,
}

impl Hooks for RefusedDay {
    fn before_put(&self, location: &Path, _options: &PutOptions) -> Result<()> {
        let file = location.as_ref().contains("grain=");
        self.begun.fetch_add(u32::from(file), Ordering::SeqCst);
        if !file || !location.as_ref().contains(&format!("day={DAY}/")) {
            return Ok(());
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
        let source = Box::new(std::io::Error::other("injected"));
        Err(object_store::Error::Generic { store: "faulty", source })
    }

    fn after_put(&self, location: &Path, _options: &PutOptions) -> Result<()> {
        let file = location.as_ref().contains("grain=");
        self.ended.fetch_add(u32::from(file), Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_commit_whose_file_is_refused_waits_for_the_others_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Hooked::new(SyncedDisk::new(), RefusedDay::default());
    let hooks = Arc::clone(&store.hooks);
    let mut table = Table::open_or_create_on(dir.path(), Arc::new(store)).unwrap();
    // The largest is written first, the others while that one has failed already.
    let mut epoch = epoch(&[("a", 0, 1, 0), ("b", 0, 1, 0)], None, 1);
    let of_day = |day| DataFile { day: Day(DAY.0 + day), ..file_of(&[("a", 0, 1, 0)]) };
    epoch.files.extend((1..=20).map(of_day));
    match table.commit(epoch) {
        Err(CommitError::Write { path, .. }) => {
            assert!(path.to_str().unwrap().contains(&format!("day={DAY}/")), "{path:?}");
        }
        other => panic!("{other:?}"),
    }
    let count = |number: &AtomicU32| number.load(Ordering::SeqCst);
    assert_eq!((count(&hooks.begun), count(&hooks.ended)), (21, 21));
    assert_eq!(table.offset("file/p").unwrap(), None);
}

#[test]
fn a_scan_reads_only_files_row_groups_and_pages_that_may_hold_wanted_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let names: Vec<String> = (0..1_000).map(|at| format!("c{at:04}")).collect();
    let of_name = |name| (0..250).map(move |minute| (name, minute, 1, 0));
    let rows: Vec<Row<'_>> = names.iter().flat_map(|name| of_name(name.as_str())).collect();
    let mut epoch = epoch(&rows, None, 1);
    epoch.files.push(file_of(&[("d", 300, 7, 0)]));
    epoch.files.push(DataFile { day: Day(DAY.0 + 1), ..file_of(&[("c0500", 1_500, 9, 0)]) });
    table.commit(epoch).unwrap();

    let check = |filter: Filter, rows: u64, files: u64, groups: u64, decoded_max: u64| {
        let mut scan = table.scan(Grain::Series, &filter).unwrap();
        let found: u64 = scan.by_ref().map(|batch| batch.unwrap().num_rows() as u64).sum();
        let stats = scan.stats();
        assert_eq!(found, rows, "{filter:?}");
        assert_eq!((stats.files, stats.rows), (3, rows), "{filter:?}");
        assert_eq!((stats.files_read, stats.row_groups_read), (files, groups), "{filter:?}");
        assert!(stats.rows_read <= decoded_max, "{filter:?} {stats:?}");
    };
    let customer = |name: &str| Filter { customer: Some(name.to_owned()), ..Filter::default() };
    let minute = |offset: u32| Minute(START.0 + offset);
    check(Filter::default(), 250_002, 3, 5, 250_002);
    check(customer("c0500"), 251, 2, 2, 10_000);
    check(Filter { days: Some(DAY..=DAY), ..customer("c0500") }, 250, 1, 1, 10_000);
    // Within the bounds of a row group, and not in it: the bloom filter knows.
    check(customer("c0500x"), 0, 1, 0, 0);
    check(customer("zzz"), 0, 0, 0, 0);
    check(Filter::of_minutes(minute(300)..=minute(400)), 1, 1, 1, 1);
    check(Filter { minutes: Some(minute(7)..=minute(8)), ..customer("c0001") }, 2, 1, 1, 10_000);
    check(Filter { partition: Some("file/q".into()), ..customer("c0001") }, 0, 1, 1, 10_000);
    check(Filter { columns: Some(vec!["valid"]), ..customer("d") }, 1, 1, 1, 1);

    let unknown = Filter { columns: Some(vec!["sli"]), ..Filter::default() };
    assert!(matches!(table.scan(Grain::Series, &unknown), Err(TableError::Column { .. })));
    let parts = table.scan(Grain::Series, &customer("c0500")).unwrap().split();
    let rows: usize = parts.into_iter().flatten().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 251);
}
