//! Every grain reads back as typed rows, and other people's Delta Lake readers see the same.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use ninefold_engine::model::{Counts, Measures};
use ninefold_engine::table::read::{
    AlertRow, DeadRow, DimensionRow, FailureRow, GapRow, SeriesRow, SliRow, SourceRow,
};
use ninefold_engine::table::schema::{Grain, timestamp};
use ninefold_engine::table::{
    CommitError, Customers, DataFile, Epoch, Filter, Move, Table, TableError,
};
use ninefold_engine::time::{Day, Minute};
use proptest::prelude::*;

const DAY: Day = Day(20_000);
const START: Minute = Minute(20_000 * 1_440);

/// A correction of a minute in which nothing was: every reader has to be able to read it.
const CORRECTION: &str = r#"{"id":"c","from":"2000-01-01T00:00:00Z","to":"2000-01-01T00:00:00Z",
                             "reason":"r","at":"2000-01-01T00:00:00Z"}"#;

/// `rows` rows in which each text is `name-row`, each number `row * 10 + place of its column`,
/// each minute `START + row`.
fn filled(grain: Grain, rows: u32) -> RecordBatch {
    let schema = grain.schema();
    let columns = schema.fields().iter().enumerate().map(|(place, field)| -> ArrayRef {
        let is_correction = grain == Grain::Correction && field.name() == "alert";
        let text = (0..rows).map(|row| match is_correction {
            true => CORRECTION.to_owned(),
            false => format!("{}-{row}", field.name()),
        });
        let ints = (0..rows).map(|row| i64::from(row) * 100 + place as i64);
        match field.data_type() {
            DataType::Utf8 => Arc::new(StringArray::from_iter_values(text)),
            DataType::Binary => Arc::new(BinaryArray::from_iter_values(text)),
            DataType::Int64 => Arc::new(Int64Array::from_iter_values(ints)),
            _ => {
                let micros = (0..rows).map(|row| i64::from(START.0 + row) * 60_000_000);
                let minutes = TimestampMicrosecondArray::from_iter_values(micros);
                Arc::new(minutes.with_data_type(timestamp()))
            }
        }
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// A table with `rows` rows of every grain in each of two commits.
fn table_of(dir: &Path, rows: u32) -> Table {
    let mut table = Table::open_or_create(dir).unwrap();
    for at in 0..2 {
        let file =
            |grain| DataFile { grain, day: Day(DAY.0 + at), batches: vec![filled(grain, rows)] };
        let moves = vec![Move {
            partition: "file/p".to_owned(),
            base: (at > 0).then_some(1),
            next: u64::from(at) + 1,
        }];
        let files = Grain::ALL.into_iter().map(file).collect();
        table.commit(Epoch { files, moves, info: String::new() }).unwrap();
    }
    table
}

#[test]
fn every_grain_reads_back_as_typed_rows() {
    let dir = tempfile::tempdir().unwrap();
    let table = table_of(dir.path(), 3);
    let (filter, minute) = (Filter::default(), Minute(START.0 + 2));
    let measures = |from: u64| {
        let value = |place: u64| 200 + from + place;
        Measures {
            valid: value(0),
            bad: value(1),
            excluded: value(2),
            timed: value(3),
            slow: value(4),
            latency_sum_us: value(5),
            latency_max_us: value(6),
        }
    };
    let attributes = ["attribute_1-2", "attribute_2-2", "attribute_3-2", "attribute_4-2"];

    let mut seen = 0;
    table
        .for_each_series(&filter, |row| {
            seen += u32::from(
                row == SeriesRow {
                    minute,
                    customer: "customer-2",
                    service: "service-2",
                    release: "release-2",
                    cohort: "cohort-2",
                    measures: measures(5),
                    latency: b"latency-2",
                    partition: "partition-2",
                    rules: "rules-2",
                },
            );
        })
        .unwrap();
    table
        .for_each_sli(&filter, |row| {
            seen += u32::from(
                row == SliRow {
                    minute,
                    customer: "customer-2",
                    service: "service-2",
                    release: "release-2",
                    cohort: "cohort-2",
                    sli: "sli-2",
                    counts: Counts { valid: 206, bad: 207, excluded: 208 },
                    partition: "partition-2",
                    rules: "rules-2",
                },
            );
        })
        .unwrap();
    table
        .for_each_dimension(&filter, |row| {
            seen += u32::from(
                row == DimensionRow {
                    minute,
                    service: "service-2",
                    release: "release-2",
                    cohort: "cohort-2",
                    region: "region-2",
                    route: "route-2",
                    attributes,
                    measures: measures(10),
                    latency: b"latency-2",
                    partition: "partition-2",
                    rules: "rules-2",
                },
            );
        })
        .unwrap();
    table
        .for_each_failure(&filter, |row| {
            seen += u32::from(
                row == FailureRow {
                    minute,
                    customer: "customer-2",
                    service: "service-2",
                    release: "release-2",
                    cohort: "cohort-2",
                    region: "region-2",
                    route: "route-2",
                    attributes,
                    status: 211,
                    bad: 212,
                    partition: "partition-2",
                    rules: "rules-2",
                },
            );
        })
        .unwrap();
    table
        .for_each_alert(&filter, |row| {
            seen += u32::from(
                row == AlertRow {
                    minute,
                    customer: "customer-2",
                    service: "service-2",
                    id: "id-2",
                    fingerprint: "fingerprint-2",
                    alert: "alert-2",
                },
            );
        })
        .unwrap();
    table
        .for_each_dead(&filter, |row| {
            seen += u32::from(
                row == DeadRow {
                    partition: "partition-2",
                    offset: 201,
                    reason: "reason-2",
                    line: b"line-2",
                },
            );
        })
        .unwrap();
    table
        .for_each_source(&filter, |row| {
            seen += u32::from(
                row == SourceRow {
                    partition: "partition-2",
                    name: "name-2",
                    first: 202,
                    next: 203,
                    read: 204,
                    counted: 205,
                    events: 206,
                    dead: 207,
                    duplicate: 208,
                    holes: 209,
                    invalid_latency: 210,
                    tail: b"tail-2",
                },
            );
        })
        .unwrap();
    table
        .for_each_gap(&filter, |row| {
            seen += u32::from(
                row == GapRow {
                    partition: "partition-2",
                    first: 203,
                    next: 204,
                    reason: "reason-2",
                    minutes: (minute, minute),
                },
            );
        })
        .unwrap();
    assert_eq!(seen, 8 * 2, "the third row of each grain, in both commits");
}

#[test]
fn columns_that_were_not_asked_for_read_as_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = table_of(dir.path(), 1);
    let columns = Some(vec!["customer", "valid"]);
    let filter = Filter { columns, days: Some(DAY..=DAY), ..Filter::default() };
    let stats = table
        .for_each_series(&filter, |row| {
            assert_eq!((row.customer, row.measures.valid), ("customer-0", 5));
            // The service is read for the corrections that the table holds.
            assert_eq!((row.release, row.measures.bad, row.latency), ("", 0, &b""[..]));
        })
        .unwrap();
    assert_eq!((stats.files, stats.files_read, stats.rows), (2, 1, 1));
}

#[test]
fn a_count_below_zero_is_an_error_and_not_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let batch = filled(Grain::Series, 1);
    let place = batch.schema().index_of("bad").unwrap();
    let mut columns = batch.columns().to_vec();
    columns[place] = Arc::new(Int64Array::from(vec![-1]));
    let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let file = DataFile { grain: Grain::Series, day: DAY, batches: vec![batch] };
    table.commit(Epoch { files: vec![file], ..Epoch::default() }).unwrap();
    let outcome = table.for_each_series(&Filter::default(), |_| ());
    assert!(matches!(outcome, Err(TableError::Value { column: "bad", .. })), "{outcome:?}");
}

#[test]
fn an_epoch_without_rows_moves_offsets_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::open_or_create(dir.path()).unwrap();
    let empty = DataFile { grain: Grain::Sli, day: DAY, batches: vec![filled(Grain::Sli, 0)] };
    let moves = vec![Move { partition: "file/p".to_owned(), base: None, next: 7 }];
    let version = table.commit(Epoch { files: vec![empty], moves, info: String::new() });
    assert_eq!(version.unwrap(), 1);
    assert_eq!(table.offset("file/p").unwrap(), Some(7));
    assert!(!dir.path().join("grain=sli").exists());
    let stale = vec![Move { partition: "file/p".to_owned(), base: None, next: 9 }];
    let outcome = table.commit(Epoch { moves: stale, ..Epoch::default() });
    assert!(matches!(outcome, Err(CommitError::Fenced { .. })), "{outcome:?}");
}

/// Customer and minute after [`START`] of each row of one file; every row counts 1.
type Keys = Vec<(u8, u32)>;

fn keyed(keys: &Keys) -> RecordBatch {
    let batch = filled(Grain::Series, keys.len() as u32);
    let mut columns = batch.columns().to_vec();
    let mut replace = |name: &str, column: ArrayRef| {
        columns[batch.schema().index_of(name).unwrap()] = column;
    };
    let customers = keys.iter().map(|key| format!("c{:03}", key.0));
    replace("customer", Arc::new(StringArray::from_iter_values(customers)));
    // One service, so that what is sorted by customer and minute is sorted.
    replace("service", Arc::new(StringArray::from(vec!["api"; keys.len()])));
    let micros = keys.iter().map(|key| i64::from(START.0 + key.1) * 60_000_000);
    let minutes = TimestampMicrosecondArray::from_iter_values(micros);
    replace("minute", Arc::new(minutes.with_data_type(timestamp())));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever was left out on the way, sorted files or not, a scan finds what a look at each
    /// row finds.
    #[test]
    fn a_scan_is_exact(
        files in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((any::<u8>(), 0_u32..3_000), 1..9_000)),
            1..4,
        ),
        wanted in prop::collection::vec((any::<u8>(), any::<bool>(), 0_u32..3_000, 0_u32..500), 8),
        ranges in prop::collection::vec(prop::array::uniform2(prop::option::of(any::<u8>())), 8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut table = Table::open_or_create(dir.path()).unwrap();
        let mut all = Keys::new();
        let mut epoch = Epoch::default();
        for (sorted, mut keys) in files {
            if sorted {
                keys.sort();
            }
            let batches = keys.chunks(1_000).map(|keys| keyed(&keys.to_vec())).collect();
            epoch.files.push(DataFile { grain: Grain::Series, day: DAY, batches });
            all.extend(keys);
        }
        table.commit(epoch).unwrap();
        for ((customer, any_customer, first, length), [from, before]) in wanted.into_iter().zip(ranges) {
            let name = |number: u8| format!("c{number:03}");
            let customers = Customers { from: from.map(name), before: before.map(name) };
            let minutes = Minute(START.0 + first)..=Minute(START.0 + first + length);
            let filter = Filter {
                customer: (!any_customer).then(|| name(customer)),
                customers: Some(customers).filter(|range| *range != Customers::default()),
                minutes: Some(minutes),
                ..Filter::default()
            };
            let passes = |key: &&(u8, u32)| {
                (any_customer || key.0 == customer)
                    && from.is_none_or(|from| from <= key.0)
                    && before.is_none_or(|before| key.0 < before)
                    && (first..=first + length).contains(&key.1)
            };
            let mut expect: Vec<(String, u32)> =
                all.iter().filter(passes).map(|key| (name(key.0), key.1)).collect();
            let mut found = Vec::new();
            table
                .for_each_series(&filter, |row| {
                    found.push((row.customer.to_owned(), row.minute.0 - START.0));
                })
                .unwrap();
            expect.sort();
            found.sort();
            prop_assert_eq!(found, expect);
        }
    }
}

#[test]
fn a_table_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Table>();
}

/// Needs a Python that has `deltalake`, `pyarrow`, `polars` and `duckdb`: `NINEFOLD_PYTHON`.
#[test]
fn other_readers_see_the_same_sums() {
    let Some(python) = std::env::var_os("NINEFOLD_PYTHON") else {
        println!("skipped: NINEFOLD_PYTHON names no Python with deltalake, polars and duckdb");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut table = table_of(dir.path(), 1_000);
    for at in 2..110 {
        let moves = vec![Move { partition: "file/p".to_owned(), base: Some(at), next: at + 1 }];
        table.commit(Epoch { moves, ..Epoch::default() }).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop/read_table.py");
    let output = Command::new(python).arg(script).arg(dir.path()).arg("--minutes").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();

    let mut sum = Measures::default();
    table.for_each_series(&Filter::default(), |row| sum.add(&row.measures)).unwrap();
    assert_eq!(found["deltalake"]["version"], table.version());
    for reader in ["deltalake", "polars", "duckdb"] {
        let grains = &found[reader]["grains"];
        for grain in Grain::ALL {
            assert_eq!(grains[grain.name()]["rows"], 2_000, "{reader}: {grains}");
        }
        let series = &grains["series"];
        assert_eq!(series["valid"], sum.valid, "{reader}");
        assert_eq!(series["latency_sum_us"], sum.latency_sum_us, "{reader}");
        assert_eq!(series["latency_max_us"], sum.latency_max_us, "{reader}");
        assert_eq!(found[reader]["minutes"], found["deltalake"]["minutes"], "{reader}");
    }
    let minutes = found["polars"]["minutes"].as_array().unwrap();
    assert_eq!(minutes.len(), 1_000);
    let first = &minutes[0];
    assert_eq!(first[0], "customer-0");
    assert_eq!((&first[2], &first[3]), (&"2024-10-04T00:00:00Z".into(), &10.into()));
}
