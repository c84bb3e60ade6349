//! The audit on tables made by hand: single rows that contradict themselves, ranges that do not
//! tile, and a table that is written while it is audited.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use ninefold_engine::audit::{Audit, audit};
use ninefold_engine::pipeline::gap::{GapError, accept, gaps_in};
use ninefold_engine::slo::histogram::Histogram;
use ninefold_engine::table::schema::{Grain, timestamp};
use ninefold_engine::table::{CommitError, DataFile, Epoch, Move, Table};
use ninefold_engine::time::{Day, Minute};

const DAY: Day = Day(20_000);
const START: Minute = Minute(20_000 * 1_440);
const PARTITION: &str = "kafka/requests/7";

/// One row: its numbers by name, the rest as a sound table has it.
fn row(grain: Grain, numbers: &[(&str, i64)]) -> RecordBatch {
    let numbers: BTreeMap<&str, i64> = numbers.iter().copied().collect();
    let schema = grain.schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let name = field.name().as_str();
        let number = numbers.get(name).copied();
        match field.data_type() {
            DataType::Utf8 => {
                let text = if name == "partition" { PARTITION } else { "text" };
                Arc::new(StringArray::from(vec![text]))
            }
            DataType::Binary => {
                let mut bytes = Vec::new();
                if name == "latency" {
                    let held = numbers.get("held").or(numbers.get("timed"));
                    let slots = vec![(20, held.copied().unwrap_or(0) as u64)];
                    Histogram::from_slots(slots).encode_v2(&mut bytes);
                }
                Arc::new(BinaryArray::from(vec![bytes.as_slice()]))
            }
            DataType::Int64 => Arc::new(Int64Array::from(vec![number.unwrap_or(0)])),
            _ => {
                let minute = i64::from(START.0) + number.unwrap_or(0);
                let minutes = TimestampMicrosecondArray::from(vec![minute * 60_000_000]);
                Arc::new(minutes.with_data_type(timestamp()))
            }
        }
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn file(grain: Grain, numbers: &[(&str, i64)]) -> DataFile {
    let day = if matches!(grain, Grain::Source | Grain::Dead) { Day(0) } else { DAY };
    DataFile { grain, day, batches: vec![row(grain, numbers)] }
}

/// Ten records of which eight were counted, for nine events of which two failed.
fn sound(base: Option<u64>) -> Epoch {
    let first = base.unwrap_or(0) as i64;
    let counts = [("valid", 9), ("bad", 2), ("timed", 7), ("slow", 1)];
    let source = [
        ("first", first),
        ("next", first + 12),
        ("read", 10),
        ("counted", 8),
        ("events", 9),
        ("dead", 1),
        ("duplicate", 1),
        ("holes", 2),
    ];
    Epoch {
        files: vec![
            file(Grain::Series, &counts),
            file(Grain::Dimension, &counts),
            file(Grain::Failure, &[("bad", 2)]),
            file(Grain::Dead, &[("offset", first + 3)]),
            file(Grain::Source, &source),
        ],
        moves: vec![Move { partition: PARTITION.to_owned(), base, next: first as u64 + 12 }],
        info: String::new(),
    }
}

/// The epoch with a grain's row made of these numbers.
fn with(mut epoch: Epoch, grain: Grain, numbers: &[(&str, i64)]) -> Epoch {
    epoch.files.retain(|file| file.grain != grain);
    epoch.files.push(file(grain, numbers));
    epoch
}

fn audited(dir: &Path) -> Audit {
    audit(dir, i64::MAX / 2).unwrap().expect("there is a table")
}

/// The proofs that fail on a table of one epoch.
fn proofs_failed(epoch: Epoch) -> Vec<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    Table::open_or_create(dir.path()).unwrap().commit(epoch).unwrap();
    let audit = audited(dir.path());
    assert_eq!(audit.clean, audit.findings.is_empty());
    let mut proofs: Vec<&str> = audit.findings.iter().map(|finding| finding.proof).collect();
    proofs.sort_unstable();
    proofs.dedup();
    proofs
}

#[test]
fn a_sound_epoch_is_clean_and_each_contradiction_in_a_row_is_found() {
    assert_eq!(proofs_failed(sound(None)), [""; 0]);
    let counts = [("valid", 9), ("bad", 2), ("timed", 7), ("slow", 1)];
    let changed = |name: &str, value: i64| {
        let mut changed = counts.to_vec();
        changed.retain(|(known, _)| *known != name);
        changed.push(if name == "held" { ("held", value) } else { (leaked(name), value) });
        changed
    };
    let both = |numbers: &[(&str, i64)]| {
        with(with(sound(None), Grain::Series, numbers), Grain::Dimension, numbers)
    };
    assert_eq!(proofs_failed(both(&changed("held", 6))), ["histogram"]);
    assert_eq!(proofs_failed(both(&changed("slow", 8))), ["lines"]);
    assert_eq!(proofs_failed(both(&changed("valid", 10))), ["events"]);
    assert_eq!(proofs_failed(both(&changed("excluded", 3))), ["events"]);
    assert_eq!(proofs_failed(both(&changed("minute", 1_440))), ["failure", "file"]);
    let one = |grain, numbers: &[(&str, i64)]| proofs_failed(with(sound(None), grain, numbers));
    assert_eq!(one(Grain::Dimension, &changed("latency_sum_us", 1)), ["dimension"]);
    assert_eq!(one(Grain::Failure, &[("bad", 3)]), ["failure"]);
}

/// Names of columns are static; those of a test may be put together.
fn leaked(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

#[test]
fn each_contradiction_in_a_range_is_found() {
    let source = |changes: &[(&'static str, i64)]| {
        let mut numbers = vec![
            ("first", 0),
            ("next", 12),
            ("read", 10),
            ("counted", 8),
            ("events", 9),
            ("dead", 1),
            ("duplicate", 1),
            ("holes", 2),
        ];
        for (name, value) in changes {
            numbers.retain(|(known, _)| known != name);
            numbers.push((name, *value));
        }
        proofs_failed(with(sound(None), Grain::Source, &numbers))
    };
    assert_eq!(source(&[]), [""; 0]);
    assert_eq!(source(&[("read", 11), ("holes", 1)]), ["lines"]);
    assert_eq!(source(&[("holes", 1)]), ["lines"]);
    assert_eq!(source(&[("dead", 2), ("duplicate", 0)]), ["dead"]);
    assert_eq!(source(&[("events", 10)]), ["events"]);
    assert_eq!(source(&[("next", 11), ("holes", 1)]), ["offsets"]);
    assert_eq!(source(&[("next", 13), ("holes", 3)]), ["offsets"]);
    // A row of before there was that column proves nothing of events, and is no fault.
    assert_eq!(source(&[("events", 0)]), [""; 0]);
}

#[test]
fn ranges_of_several_commits_and_gaps_tile() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    // A log may be counted from anywhere on.
    let begin = Move { partition: PARTITION.to_owned(), base: None, next: 100 };
    table.commit(Epoch { moves: vec![begin], ..Epoch::default() }).unwrap();
    table.commit(sound(Some(100))).unwrap();
    let now = Minute(START.0 + 60);
    let accepted = accept(&mut table, PARTITION, 500, "records deleted", now).unwrap();
    assert_eq!(accepted, (112, 3));
    table.commit(sound(Some(500))).unwrap();
    let audit = audited(dir.path());
    assert!(audit.clean, "{audit:#?}");
    let one = &audit.partitions[0];
    assert_eq!((one.first, one.next, one.read, one.gap), (100, 512, 20, 388));
    assert_eq!((audit.gaps[0].first, audit.gaps[0].next), (112, 500));
    // From the newest minute that was counted until it was accepted.
    let gaps =
        |first: u32, last: u32| gaps_in(&table, &(Minute(first)..=Minute(last))).unwrap().len();
    assert_eq!(gaps(START.0 - 60, START.0 - 1), 0);
    assert_eq!(gaps(START.0 - 60, START.0), 1);
    assert_eq!(gaps(START.0 + 60, START.0 + 70), 1);
    assert_eq!(gaps(START.0 + 61, START.0 + 70), 0);

    let backwards = accept(&mut table, PARTITION, 512, "again", now);
    assert!(matches!(backwards, Err(GapError::Backwards { found: 512, .. })), "{backwards:?}");
    let unknown = accept(&mut table, "kafka/requests/8", 1, "typing error", now);
    assert!(matches!(unknown, Err(GapError::Unknown { .. })), "{unknown:?}");
    // A counter that began before the gap is fenced by it.
    let fenced = table.commit(sound(Some(112)));
    assert!(matches!(fenced, Err(CommitError::Fenced { found: Some(512), .. })), "{fenced:?}");
}

#[test]
fn two_ranges_of_the_same_offsets_are_named_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    table.commit(sound(None)).unwrap();
    let moves = vec![Move { partition: PARTITION.to_owned(), base: Some(12), next: 16 }];
    let files = sound(Some(4)).files;
    table.commit(Epoch { files, moves, info: String::new() }).unwrap();
    let audit = audited(dir.path());
    let overlap = audit.findings.iter().find(|finding| finding.proof == "offsets").unwrap();
    assert_eq!((overlap.partition.as_deref(), overlap.offset), (Some(PARTITION), Some(4)));
    assert!(overlap.found.contains("offsets 4..12 are counted"), "{}", overlap.found);
}

#[test]
fn a_table_is_clean_at_every_moment_of_its_being_written() {
    let dir = tempfile::tempdir().unwrap();
    Table::open_or_create(dir.path()).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut table = Table::open(dir.path()).unwrap().unwrap();
            for at in 0..150 {
                table.commit(sound((at > 0).then_some(at * 12))).unwrap();
            }
            ended.store(true, Ordering::Relaxed);
        });
        let mut versions = Vec::new();
        while !ended.load(Ordering::Relaxed) {
            let audit = audited(dir.path());
            assert!(audit.clean, "{audit:#?}");
            versions.push(audit.version);
        }
        println!("audited at the versions {versions:?}");
    });
    let audit = audited(dir.path());
    assert!(audit.clean && audit.version == 150, "{audit:#?}");
    assert_eq!(audit.partitions[0].events, 150 * 9);
}
