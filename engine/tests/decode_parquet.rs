//! Parquet files of our own, of others, and broken ones.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, DictionaryArray, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt16Array, UInt64Array,
};
use arrow::datatypes::{Field, Int32Type};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use ninefold_engine::decode::parquet::{ParquetFault, for_each};
use ninefold_engine::decode::{Fields, Line, Options};
use ninefold_engine::model::{Latency, Outcome};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

const TS_MS: i64 = 1_764_547_200_123;

fn file(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    );
    let batch = batch.unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(1_000))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    Bytes::from(writer.into_inner().unwrap())
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Each row as text.
fn read_with(file: Bytes, options: &Options, first_row: u64) -> Result<Vec<String>, ParquetFault> {
    let mut rows = Vec::new();
    let next = for_each(file, options, first_row, |row, line| {
        assert_eq!(row, first_row + rows.len() as u64);
        rows.push(match line {
            Line::Event(event) => format!("{event:?}"),
            Line::Dead(reason) => format!("dead: {reason}"),
            Line::Skip => panic!("a row is never skipped"),
        });
    })?;
    assert_eq!(next, first_row + rows.len() as u64);
    Ok(rows)
}

fn read(file: Bytes) -> Result<Vec<String>, ParquetFault> {
    read_with(file, &Options::default(), 0)
}

#[test]
fn rows_are_read_by_the_rules_of_the_native_form() {
    let cohort: DictionaryArray<Int32Type> = ["canary"; 4].into_iter().collect();
    let file = file(vec![
        (
            "ts",
            Arc::new(Int64Array::from(vec![Some(TS_MS), Some(TS_MS / 1_000), None, Some(TS_MS)])),
        ),
        ("customer", texts(&["acme", "acme", "acme", ""])),
        ("status", Arc::new(Int16Array::from(vec![Some(503), Some(200), Some(200), Some(200)]))),
        ("latency_ms", Arc::new(Float64Array::from(vec![f64::NAN, 1.0, 1.0, 1.0]))),
        ("cohort", Arc::new(cohort)),
        ("count", Arc::new(UInt64Array::from(vec![7, 1, 1, 1]))),
        ("unknown", Arc::new(Float32Array::from(vec![1.0; 4]))),
    ]);
    let mut rows = 0;
    for_each(file, &Options::default(), 0, |row, line| {
        rows += 1;
        match (row, line) {
            (0, Line::Event(event)) => {
                assert_eq!((event.ts_ms, event.customer, event.status), (TS_MS, "acme", 503));
                assert_eq!((event.latency, event.cohort), (Latency::Invalid, "canary"));
                assert_eq!((event.count, event.service, event.id), (7, "default", ""));
            }
            (1, Line::Dead(reason)) => assert!(reason.contains("in seconds"), "{reason}"),
            (2, Line::Dead(reason)) => assert!(reason.starts_with("ts is required"), "{reason}"),
            (3, Line::Dead(reason)) => assert!(reason.starts_with("customer is empty"), "{reason}"),
            (row, line) => panic!("row {row}: {line:?}"),
        }
    })
    .unwrap();
    assert_eq!(rows, 4);
}

#[test]
fn times_of_every_unit_and_integers_of_every_width_are_read() {
    let times: [ArrayRef; 5] = [
        Arc::new(Int64Array::from(vec![TS_MS])),
        Arc::new(TimestampMillisecondArray::from(vec![TS_MS]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![TS_MS * 1_000 + 999])),
        Arc::new(TimestampNanosecondArray::from(vec![TS_MS * 1_000_000 + 999_999])),
        texts(&["2025-12-01T00:00:00.123Z"]),
    ];
    let latencies: [ArrayRef; 3] = [
        Arc::new(Int8Array::from(vec![100])),
        Arc::new(Float32Array::from(vec![100.0])),
        Arc::new(UInt64Array::from(vec![100])),
    ];
    let statuses: [ArrayRef; 3] = [
        Arc::new(UInt16Array::from(vec![200])),
        Arc::new(Int32Array::from(vec![200])),
        Arc::new(Int64Array::from(vec![200])),
    ];
    for ts in &times {
        for (latency, status) in latencies.iter().zip(&statuses) {
            let file = file(vec![
                ("ts", Arc::clone(ts)),
                ("customer", Arc::new(BinaryArray::from(vec![&b"acme"[..]]))),
                ("status", Arc::clone(status)),
                ("outcome", texts(&["bad"])),
                ("latency_us", Arc::clone(latency)),
            ]);
            for_each(file, &Options::default(), 0, |_, line| {
                let Line::Event(event) = line else { panic!("{line:?}") };
                assert_eq!((event.ts_ms, event.customer, event.status), (TS_MS, "acme", 200));
                assert_eq!(event.latency, Latency::Us(100));
                assert_eq!(event.outcome, Some(Outcome::Bad));
            })
            .unwrap();
        }
    }
}

#[test]
fn bytes_that_are_no_text_make_a_dead_letter() {
    let file = file(vec![
        ("ts", Arc::new(Int64Array::from(vec![TS_MS]))),
        ("customer", Arc::new(BinaryArray::from(vec![&b"\xff"[..]]))),
        ("status", Arc::new(UInt64Array::from(vec![u64::MAX]))),
    ]);
    assert_eq!(read(file).unwrap(), ["dead: customer is not UTF-8"]);
}

#[test]
fn a_path_leads_into_groups_and_their_nulls() {
    let id: ArrayRef = texts(&["a", "b"]);
    let field = Arc::new(Field::new("id", id.data_type().clone(), true));
    let group = StructArray::new(vec![field].into(), vec![id], Some(vec![true, false].into()));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(Int64Array::from(vec![TS_MS, TS_MS]))),
        ("account", Arc::new(group)),
        ("status", Arc::new(Int32Array::from(vec![200, 200]))),
    ];
    let fields = Fields { customer: "account.id".into(), ..Fields::default() };
    let options = Options { fields, ..Options::default() };
    let rows = read_with(file(columns.clone()), &options, 0).unwrap();
    assert!(rows[0].contains("customer: \"a\""), "{}", rows[0]);
    assert!(rows[1].starts_with("dead: account.id is required"), "{}", rows[1]);
    let rest = read_with(file(columns), &options, 1).unwrap();
    assert_eq!(rest, rows[1..]);
}

#[test]
fn reading_goes_on_from_any_row() {
    let count = 2_500;
    let names: Vec<String> = (0..count).map(|row| format!("c{row}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let whole = file(vec![
        ("ts", Arc::new(Int64Array::from(vec![TS_MS; count]))),
        ("customer", texts(&names)),
        ("status", Arc::new(Int32Array::from(vec![200; count]))),
    ]);
    let all = read(whole.clone()).unwrap();
    assert_eq!(all.len(), count);
    for first in [0, 1, 999, 1_000, 1_001, 2_499, 2_500] {
        let rest = read_with(whole.clone(), &Options::default(), first as u64).unwrap();
        assert_eq!(rest, all[first..], "from row {first}");
    }
}

#[test]
fn missing_and_unfit_columns_are_named() {
    let check = |columns, expected: &str| {
        let error = read(file(columns)).unwrap_err().to_string();
        assert_eq!(error, expected);
    };
    let ts: ArrayRef = Arc::new(Int64Array::from(vec![TS_MS]));
    let mapped = "map the names with [decode.fields]";
    check(
        vec![("x", Arc::clone(&ts))],
        &format!(
            "the Parquet file has no column \"ts\", \"customer\", \"status\" or \"outcome\"; {mapped}"
        ),
    );
    check(
        vec![("ts", Arc::clone(&ts)), ("customer", texts(&["a"]))],
        &format!("the Parquet file has no column \"status\" or \"outcome\"; {mapped}"),
    );
    let bad = |name| {
        let mut columns = vec![
            ("ts", Arc::clone(&ts)),
            ("customer", texts(&["a"])),
            ("status", Arc::clone(&ts)),
            ("latency_ms", Arc::clone(&ts)),
        ];
        let unfit: ArrayRef = if name == "customer" { Arc::clone(&ts) } else { texts(&["a"]) };
        columns
            .iter_mut()
            .filter(|(column, _)| *column == name)
            .for_each(|c| c.1 = Arc::clone(&unfit));
        columns
    };
    check(
        bad("customer"),
        "the column \"customer\" of the Parquet file has type Int64: it takes text",
    );
    check(
        bad("status"),
        "the column \"status\" of the Parquet file has type Utf8View: it takes an integer",
    );
    check(
        bad("latency_ms"),
        "the column \"latency_ms\" of the Parquet file has type Utf8View: it takes a number",
    );
}

fn data(folder: &str) -> Vec<(String, Bytes)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let default = workspace.join("../shared/data");
    let root = std::env::var_os("NINEFOLD_DATA").map_or(default, PathBuf::from);
    let Ok(entries) = fs::read_dir(root.join("parquet").join(folder)) else {
        println!("skipped: no data in {}", root.display());
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|end| end == "parquet"));
    files.map(|path| (path.display().to_string(), Bytes::from(fs::read(&path).unwrap()))).collect()
}

/// Options that make each column of a file, one after another, stand for each field, so that
/// every decoder of the file runs.
fn mappings(file: &Bytes) -> Vec<Options> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let Ok(reader) = SerializedFileReader::new(file.clone()) else {
        return vec![Options::default()];
    };
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let paths = schema.columns().iter().map(|column| column.path().string());
    let map = |name: String| {
        let [ts, customer, status] = [name.clone(), name.clone(), name];
        Options {
            fields: Fields { ts, customer, status, ..Fields::default() },
            ..Options::default()
        }
    };
    paths.map(map).chain([Options::default()]).collect()
}

#[test]
fn files_of_others_are_refused_or_read_and_never_crash() {
    for (name, file) in data("bad_data").into_iter().chain(data("odd")) {
        for options in mappings(&file) {
            let read = catch_unwind(AssertUnwindSafe(|| read_with(file.clone(), &options, 0)));
            assert!(read.is_ok(), "{name} with {:?}", options.fields.ts);
            assert!(peak_mib() < 1_024, "{name} took {} MiB", peak_mib());
        }
    }
}

#[test]
fn a_file_with_any_byte_changed_is_refused_or_read() {
    let whole = file(vec![
        ("ts", Arc::new(Int64Array::from(vec![TS_MS, TS_MS + 1, TS_MS + 2]))),
        ("customer", texts(&["a", "b", "a"])),
        ("status", Arc::new(Int32Array::from(vec![200, 500, 200]))),
        ("latency_ms", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]))),
    ]);
    for at in 0..whole.len() {
        for byte in [0, 0x7f, 0xff, whole[at] ^ 1, whole[at] ^ 0x80] {
            let mut bytes = whole.to_vec();
            bytes[at] = byte;
            let bytes = Bytes::from(bytes);
            let read = catch_unwind(AssertUnwindSafe(|| read(bytes)));
            assert!(read.is_ok(), "byte {at} as {byte}");
        }
        assert!(read(whole.slice(..at)).is_err(), "cut off at {at}");
    }
    assert!(peak_mib() < 1_024, "took {} MiB", peak_mib());
}

/// The most memory this process has held, where the system tells (Linux).
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}
