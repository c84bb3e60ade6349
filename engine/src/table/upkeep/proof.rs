//! What files add up to, in a form that two sets of files can be compared by.
//!
//! For each measure `Σ hash(key) · value` over all rows, modulo 2^64. Rows of one key may be one
//! row or many: the sum is the same. A row under another key, a lost or doubled row, a changed
//! number give another sum, but for one chance in 2^64. Histograms count slot by slot, the
//! greatest latency as a maximum. Grains without a key are compared row by row: their sum is
//! that of the hashes of whole rows.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use foldhash::quality::FixedState;

use super::super::error::TableError;
use super::super::schema::{Grain, timestamp};
use crate::slo::histogram::Histogram;
use crate::time::MINUTE_US;

/// The seed of the hashes: any will do, since both sides are hashed by one process.
const SEED: u64 = 0x9f;

/// What a merge makes of rows: the grain that comes out, and how much time a row of it spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fold {
    /// What is read.
    pub from: Grain,
    /// What is written.
    pub to: Grain,
    /// Minutes that a row of it spans.
    pub unit_minutes: u32,
}

impl Fold {
    /// The same grain, rows of one key in one.
    pub fn same(grain: Grain) -> Fold {
        let unit_minutes = match grain {
            Grain::SeriesHour => super::super::coarse::HOUR_MINUTES,
            Grain::SeriesDay => crate::time::DAY_MINUTES,
            _ => 1,
        };
        Fold { from: grain, to: grain, unit_minutes }
    }

    /// A column of `batch` as a row of the outcome has it.
    pub fn column(&self, batch: &RecordBatch, name: &str) -> ArrayRef {
        let column = batch.column_by_name(name).expect("a scan yields every column of its grain");
        if name == "minute" && self.unit_minutes > 1 {
            return floored(column, self.unit_minutes);
        }
        Arc::clone(column)
    }

    /// The measures of the outcome: whole numbers that are no part of its key.
    pub fn measures(&self) -> Vec<&'static str> {
        const MEASURES: [&str; 7] =
            ["valid", "bad", "excluded", "timed", "slow", "latency_sum_us", "latency_max_us"];
        let schema = self.to.schema();
        MEASURES.into_iter().filter(|name| schema.index_of(name).is_ok()).collect()
    }
}

/// Whether rows of one key have a greatest value rather than a sum.
pub(super) fn is_maximum(measure: &str) -> bool {
    measure == "latency_max_us"
}

fn floored(column: &ArrayRef, unit_minutes: u32) -> ArrayRef {
    let unit_us = i64::from(unit_minutes) * MINUTE_US;
    let minutes = column.as_primitive::<TimestampMicrosecondType>();
    let floored: TimestampMicrosecondArray =
        minutes.unary(|micros| micros - micros.rem_euclid(unit_us));
    Arc::new(floored.with_data_type(timestamp()))
}

/// A converter of columns of `grain` into rows that compare as bytes.
pub(super) fn converter(grain: Grain, names: &[impl AsRef<str>]) -> RowConverter {
    let schema = grain.schema();
    let sort_field = |name: &str| {
        let field = schema.field_with_name(name).expect("a key is made of columns of its grain");
        SortField::new(field.data_type().clone())
    };
    let fields = names.iter().map(|name| sort_field(name.as_ref())).collect();
    RowConverter::new(fields).expect("plain types have an order")
}

/// The sums of some rows: see the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    rows: u64,
    measures: Vec<u64>,
    latency_max_us: i64,
    latency: u64,
}

/// Adds rows up for comparison.
pub(super) struct Proof {
    fold: Fold,
    names: Vec<String>,
    is_summed: bool,
    converter: RowConverter,
    measures: Vec<&'static str>,
    sums: Sums,
}

impl Proof {
    pub fn new(fold: Fold) -> Proof {
        let key = fold.to.key();
        let is_summed = key.is_some();
        let schema = fold.to.schema();
        let names: Vec<String> = match key {
            Some(key) => key.sorted.iter().chain(&key.rest).map(ToString::to_string).collect(),
            None => schema.fields().iter().map(|field| field.name().clone()).collect(),
        };
        let converter = converter(fold.to, &names);
        let measures: Vec<&str> = if is_summed { fold.measures() } else { Vec::new() };
        let sums = Sums { measures: vec![0; measures.len()], ..Sums::default() };
        Proof { fold, names, is_summed, converter, measures, sums }
    }

    /// Adds rows, of either grain of the fold.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        let columns: Vec<ArrayRef> =
            self.names.iter().map(|name| self.fold.column(batch, name)).collect();
        let rows = self.converter.convert_columns(&columns).expect("the types are those of before");
        let state = FixedState::with_seed(SEED);
        let hashes: Vec<u64> = rows.iter().map(|row| state.hash_one(row.data())).collect();
        if !self.is_summed {
            self.sums.rows += hashes.len() as u64;
            self.sums.latency =
                hashes.iter().fold(self.sums.latency, |sum, h| sum.wrapping_add(*h));
            return Ok(());
        }
        for (at, name) in self.measures.iter().enumerate() {
            let column = self.fold.column(batch, name);
            let values = column.as_primitive::<Int64Type>();
            for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
                let value = values.value(row);
                if is_maximum(name) {
                    self.sums.latency_max_us = self.sums.latency_max_us.max(value);
                } else {
                    let sum = &mut self.sums.measures[at];
                    *sum = sum.wrapping_add(hashes[row].wrapping_mul(value as u64));
                }
            }
        }
        self.add_histograms(batch, &hashes)
    }

    fn add_histograms(&mut self, batch: &RecordBatch, hashes: &[u64]) -> Result<(), TableError> {
        let Some(column) = batch.column_by_name("latency") else { return Ok(()) };
        let column = column.as_binary::<i32>();
        for (row, hash) in hashes.iter().enumerate() {
            if column.is_null(row) || column.value(row).is_empty() {
                continue;
            }
            for &(slot, count) in histogram(self.fold.from, column.value(row))?.slots() {
                let place = hash.wrapping_mul(u64::from(slot) + 1);
                self.sums.latency = self.sums.latency.wrapping_add(place.wrapping_mul(count));
            }
        }
        Ok(())
    }

    pub fn sums(self) -> Sums {
        self.sums
    }
}

/// The histogram of one row.
pub(super) fn histogram(grain: Grain, bytes: &[u8]) -> Result<Histogram, TableError> {
    Histogram::decode_v2(bytes).map_err(|error| TableError::Value {
        grain: grain.name(),
        column: "latency",
        found: error.to_string(),
    })
}
