//! Rows of every grain that tests of the table commit, and what they add up to.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use ninefold_engine::slo::histogram::Histogram;
use ninefold_engine::table::schema::{Grain, timestamp};
use ninefold_engine::table::{DataFile, Epoch, Filter, Move, Table, TableError};
use ninefold_engine::time::{DAY_MINUTES, Minute};

/// One row of a customer; its latencies are `latency_us`, each once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub customer: String,
    pub minute: Minute,
    pub release: String,
    pub valid: i64,
    pub bad: i64,
    pub latency_us: Vec<u32>,
}

/// Valid, bad, timed, sum and greatest of the latencies, and their histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub valid: u64,
    pub bad: u64,
    pub timed: u64,
    pub latency_sum_us: u64,
    pub latency_max_us: u64,
    pub latency: Histogram,
}

impl Sum {
    pub fn add(&mut self, row: &Row) {
        self.valid += row.valid as u64;
        self.bad += row.bad as u64;
        for us in &row.latency_us {
            self.timed += 1;
            self.latency_sum_us += u64::from(*us);
            self.latency_max_us = self.latency_max_us.max(u64::from(*us));
            self.latency.record(*us, 1);
        }
    }
}

/// Sums by customer, release and the first minute of a unit.
pub type Sums = BTreeMap<(String, String, Minute), Sum>;

/// What rows add up to in units of so many minutes.
pub fn sums_of(rows: &[Row], unit_minutes: u32) -> Sums {
    let mut sums = Sums::new();
    for row in rows {
        let minute = Minute(row.minute.0 - row.minute.0 % unit_minutes);
        sums.entry((row.customer.clone(), row.release.clone(), minute)).or_default().add(row);
    }
    sums
}

/// What the table says they add up to: by minutes, or by its coarse rows and the rest.
pub fn sums_in(table: &Table, unit_minutes: u32) -> Result<Sums, TableError> {
    let mut sums = Sums::new();
    let visit = |row: ninefold_engine::table::read::SeriesRow<'_>| {
        assert_eq!(row.minute.0 % unit_minutes, 0, "a unit begins at its first minute");
        let key = (row.customer.to_owned(), row.release.to_owned(), row.minute);
        let sum = sums.entry(key).or_default();
        sum.valid += row.measures.valid;
        sum.bad += row.measures.bad;
        sum.timed += row.measures.timed;
        sum.latency_sum_us += row.measures.latency_sum_us;
        sum.latency_max_us = sum.latency_max_us.max(row.measures.latency_max_us);
        if !row.latency.is_empty() {
            sum.latency.merge(&Histogram::decode_v2(row.latency).unwrap());
        }
    };
    let filter = Filter::default();
    match unit_minutes {
        1 => table.for_each_series(&filter, visit)?,
        60 => table.for_each_series_hour(&filter, visit)?,
        DAY_MINUTES => table.for_each_series_day(&filter, visit)?,
        other => panic!("no grain has {other} minutes"),
    };
    Ok(sums)
}

/// A batch of `grain`, each row by the functions of text and of numbers of its column.
pub fn batch(
    grain: Grain,
    minutes: &[Minute],
    text: &dyn Fn(&str, usize) -> Option<String>,
    int: &dyn Fn(&str, usize) -> i64,
    bytes: &dyn Fn(&str, usize) -> Option<Vec<u8>>,
) -> RecordBatch {
    let rows = 0..minutes.len();
    let schema = grain.schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let name = field.name().as_str();
        match field.data_type() {
            DataType::Utf8 => {
                Arc::new(StringArray::from_iter(rows.clone().map(|row| text(name, row))))
            }
            DataType::Int64 => {
                Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| int(name, row))))
            }
            DataType::Binary => {
                Arc::new(BinaryArray::from_iter(rows.clone().map(|row| bytes(name, row))))
            }
            _ => {
                let micros = minutes.iter().map(|minute| minute.start_ms() * 1_000);
                let minutes = TimestampMicrosecondArray::from_iter_values(micros);
                Arc::new(minutes.with_data_type(timestamp()))
            }
        }
    });
    let columns = columns.collect();
    RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
}

/// Files of the grain `series`, one for each day of the rows, in order.
pub fn series_files(rows: &[Row], partition: &str) -> Vec<DataFile> {
    let mut days: BTreeMap<_, Vec<Row>> = BTreeMap::new();
    for row in rows {
        days.entry(row.minute.day()).or_default().push(row.clone());
    }
    let file = |(day, mut rows): (_, Vec<Row>)| {
        rows.sort_by(|a, b| (&a.customer, a.minute).cmp(&(&b.customer, b.minute)));
        DataFile { grain: Grain::Series, day, batches: vec![series_batch(&rows, partition)] }
    };
    days.into_iter().map(file).collect()
}

/// Rows of the grain `series` as they stand.
pub fn series_batch(rows: &[Row], partition: &str) -> RecordBatch {
    let minutes: Vec<Minute> = rows.iter().map(|row| row.minute).collect();
    let text = |name: &str, at: usize| match name {
        "customer" => Some(rows[at].customer.clone()),
        "service" => Some("api".to_owned()),
        "release" => Some(rows[at].release.clone()).filter(|release| !release.is_empty()),
        "partition" => Some(partition.to_owned()),
        "rules" => Some("1".to_owned()),
        _ => None,
    };
    let int = |name: &str, at: usize| {
        let latency = &rows[at].latency_us;
        match name {
            "valid" => rows[at].valid,
            "bad" => rows[at].bad,
            "timed" => latency.len() as i64,
            "latency_sum_us" => latency.iter().map(|us| i64::from(*us)).sum(),
            "latency_max_us" => latency.iter().max().map_or(0, |us| i64::from(*us)),
            _ => 0,
        }
    };
    let bytes = |_: &str, at: usize| {
        let mut histogram = Histogram::default();
        rows[at].latency_us.iter().for_each(|us| histogram.record(*us, 1));
        let mut bytes = Vec::new();
        histogram.encode_v2(&mut bytes);
        (!histogram.is_empty()).then_some(bytes)
    };
    batch(Grain::Series, &minutes, &text, &int, &bytes)
}

/// The row of the grain `source` for a move.
pub fn source_file(step: &Move, day: ninefold_engine::time::Day) -> DataFile {
    let (first, next) = (step.base.unwrap_or(0) as i64, step.next as i64);
    let text = |name: &str, _: usize| {
        Some(if name == "partition" { step.partition.clone() } else { "made up".to_owned() })
    };
    let int = |name: &str, _: usize| match name {
        "first" => first,
        "next" => next,
        "read" | "counted" => next - first,
        _ => 0,
    };
    let bytes = |_: &str, _: usize| Some(next.to_be_bytes().to_vec());
    let batches = vec![batch(Grain::Source, &[Minute(0)], &text, &int, &bytes)];
    DataFile { grain: Grain::Source, day, batches }
}

/// An epoch that counts `rows` from where `table` stands.
pub fn epoch_of(table: &Table, partition: &str, rows: &[Row]) -> Epoch {
    let base = table.offset(partition).unwrap();
    let next = base.unwrap_or(0) + rows.len() as u64;
    let step = Move { partition: partition.to_owned(), base, next };
    let mut files = series_files(rows, partition);
    files.extend(rows.last().map(|row| source_file(&step, row.minute.day())));
    Epoch { files, moves: vec![step], info: String::new() }
}
