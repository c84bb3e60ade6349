//! Commits on a disk that is slow, forgets or is full: each row is there once, and what could not
//! be done is named.

#[path = "support/rows.rs"]
mod rows;
#[path = "../../tests/common/small.rs"]
mod small;
#[path = "support/store.rs"]
mod store;

use std::fs::File;
use std::io::Write;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ninefold_engine::table::protocol::{FILE_AGE_MS_MAX, Moment};
use ninefold_engine::table::{Clock, CommitError, Epoch, Move, SyncedDisk, Table};
use ninefold_engine::time::{DAY_MINUTES, Minute};
use object_store::path::Path;
use object_store::{Error, GetOptions, Result};
use rows::{Row, epoch_of, sums_in, sums_of};
use small::Small;
use store::{Hooked, Hooks};

const START: Minute = Minute(20_000 * DAY_MINUTES);
const PARTITION: &str = "file/p";

fn row(minute: u32) -> Row {
    let (customer, release) = ("a".to_owned(), String::new());
    let minute = Minute(START.0 + minute);
    Row { customer, minute, release, valid: 3, bad: 1, latency_us: vec![700] }
}

fn opened(dir: &FsPath) -> Table {
    Table::open(dir).unwrap().unwrap()
}

/// A clock on which so much time passes between the first look and the second, and none after.
#[derive(Debug)]
struct Sleep {
    looks: AtomicI64,
    ms: i64,
}

impl Clock for Sleep {
    fn now(&self) -> Moment {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let ms = if looks == 0 { 0 } else { self.ms };
        Moment { wall_ms: ms, boot_ms: ms }
    }

    fn random(&self) -> u64 {
        0
    }

    fn pause(&self, _ms: u64) {}
}

/// The data files of the rows that were written, whether an entry names them or not.
fn written(dir: &FsPath) -> Vec<String> {
    let day = dir.join(format!("grain=series/day={}", START.day()));
    let files = std::fs::read_dir(day).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_file_that_waited_too_long_for_its_entry_is_written_again() {
    for (ms, files) in [(FILE_AGE_MS_MAX, 1), (FILE_AGE_MS_MAX + 1, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Sleep { looks: AtomicI64::new(0), ms });
        let mut table = Table::open_or_create(dir.path()).unwrap().with_clock(clock);
        let rows = [row(0), row(1)];
        let epoch = epoch_of(&table, PARTITION, &rows);
        assert_eq!(table.commit(epoch).unwrap(), 1);
        let entry = dir.path().join(format!("_delta_log/{:020}.json", 1));
        let entry = std::fs::read_to_string(entry).unwrap();
        let written = written(dir.path());
        let named = written.iter().filter(|name| entry.contains(name.as_str())).count();
        assert_eq!((written.len(), named), (files, 1), "after {ms} ms");
        assert_eq!(sums_in(&opened(dir.path()), 1).unwrap(), sums_of(&rows, 1));
    }
}

/// The entry of version 1 cannot be read so many times.
#[derive(Debug)]
struct Forgetful {
    left: AtomicI64,
}

impl Hooks for Forgetful {
    fn before_get(&self, location: &Path, _options: &GetOptions) -> Result<()> {
        let is_entry = location.as_ref().ends_with("00000000000000000001.json");
        if is_entry && self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Err(Error::Generic { store: "forgetful disk", source: "injected".into() });
        }
        Ok(())
    }
}

#[test]
fn an_entry_that_landed_and_cannot_be_read_back_is_not_counted_twice() {
    for failures in [1, 2, 3, 5] {
        let dir = tempfile::tempdir().unwrap();
        let hooks = Forgetful { left: AtomicI64::new(failures) };
        let disk = Arc::new(Hooked::new(SyncedDisk::new(), hooks));
        let mut table = Table::open_or_create_on(dir.path(), disk).unwrap();
        let rows = [row(0)];
        let epoch = epoch_of(&table, PARTITION, &rows);
        // A hiccup is waited out; beyond it the caller hears of it, and tries the same again.
        let outcome = table.commit(epoch.clone());
        assert_eq!(outcome.is_ok(), failures <= 2, "{failures} failures: {outcome:?}");
        if outcome.is_err() {
            let again = (0..9).map(|_| table.commit(epoch.clone())).find(|outcome| {
                !matches!(outcome, Err(CommitError::Table(_) | CommitError::Write { .. }))
            });
            let fenced = matches!(again, Some(Err(CommitError::Fenced { found: Some(1), .. })));
            assert!(fenced, "{failures} failures: {again:?}");
        }
        let reopened = opened(dir.path());
        assert_eq!(reopened.version(), 1, "{failures} failures");
        assert_eq!(sums_in(&reopened, 1).unwrap(), sums_of(&rows, 1), "{failures} failures");
    }
}

#[test]
fn a_disk_that_is_full_at_a_checkpoint_loses_nothing_and_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_small) = Small::mount(folder.path(), "4m") else { return };
    let dir = folder.path().join("rollups");
    let mut table = Table::open_or_create(&dir).unwrap();
    let mut all = Vec::new();
    for at in 0..99 {
        let rows = [row(at)];
        let epoch = epoch_of(&table, PARTITION, &rows);
        table.commit(epoch).unwrap();
        all.extend(rows);
    }
    // Room for a few entries, and not for a checkpoint of a hundred.
    let filler = folder.path().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4_096]).is_ok() {}
    file.set_len(file.metadata().unwrap().len() - 3 * 4_096).unwrap();
    let move_on = |table: &mut Table| {
        let base = table.offset(PARTITION).unwrap();
        let moves = vec![Move { partition: PARTITION.to_owned(), base, next: base.unwrap() + 1 }];
        table.commit(Epoch { moves, ..Epoch::default() }).unwrap();
        table.take_upkeep_error().map(|error| error.to_string())
    };
    for version in [100, 101] {
        let told = move_on(&mut table).expect("there is no room for a checkpoint");
        let path = dir.canonicalize().unwrap().join("_delta_log");
        let path = path.join(format!("{version:020}.checkpoint.parquet"));
        let parts = [path.to_str().unwrap(), " bytes needed, ", " free)", "free space"];
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        let reader = opened(&dir);
        assert_eq!(reader.offset(PARTITION).unwrap(), Some(version));
        assert_eq!(sums_in(&reader, 1).unwrap(), sums_of(&all, 1));
    }
    drop(file);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(move_on(&mut table), None);
    let log = std::fs::read_dir(dir.join("_delta_log")).unwrap();
    let names = log.map(|file| file.unwrap().file_name().into_string().unwrap());
    let checkpoints: Vec<String> = names.filter(|name| name.contains("checkpoint")).collect();
    let expect = [format!("{:020}.checkpoint.parquet", 102), "_last_checkpoint".to_owned()];
    assert!(checkpoints.len() == 2 && expect.iter().all(|name| checkpoints.contains(name)));
    assert_eq!(sums_in(&opened(&dir), 1).unwrap(), sums_of(&all, 1));
}
