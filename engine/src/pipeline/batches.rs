//! From the rows of an epoch to the record batches of its files, in the order of the table.
//!
//! The grains of customers are sorted by customer, service, minute; `dimension` by service,
//! minute. One file for each grain and UTC day; its batches are built as it is written, so that
//! never all rows of an epoch are in memory as columns.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringBuilder, TimestampMicrosecondArray,
};
use rayon::prelude::*;

use crate::model::Measures;
use crate::state::rows::{CustomerRows, ShardRows, Sums};
use crate::state::{Cut, State, block::DIMENSIONS};
use crate::table::SlicedFile;
use crate::table::schema::Grain;
use crate::time::{Day, Minute};

/// The names that rows carry beside their numbers.
pub struct Names<'a> {
    /// By number of a partition.
    pub partitions: Vec<&'a str>,
    /// Names of the further SLIs.
    pub slis: Vec<&'a str>,
    /// Version of the SLI rules.
    pub rules: &'a str,
}

/// Where a row of a customer is.
#[derive(Clone, Copy)]
struct Place {
    shard: u32,
    customer: u32,
    row: u32,
}

/// All data files of an epoch's counts.
pub fn data_files<'a>(state: &'a State, cut: &'a Cut, names: &'a Names<'a>) -> Vec<SlicedFile<'a>> {
    let order = customers_by_name(state, cut);
    let build = Build { state, cut, names };
    let mut files = Vec::new();
    let series = |rows: &ShardRows, row: usize| rows.series[row].minute.day();
    let places = by_day(cut, &order, |rows| rows.series.clone(), series);
    files.extend(build.files(Grain::Series, places, Build::series));
    let slis = |rows: &ShardRows, row: usize| rows.slis[row].minute.day();
    let places = by_day(cut, &order, |rows| rows.slis.clone(), slis);
    files.extend(build.files(Grain::Sli, places, Build::slis));
    let failures = |rows: &ShardRows, row: usize| rows.failures[row].minute.day();
    let places = by_day(cut, &order, |rows| rows.failures.clone(), failures);
    files.extend(build.files(Grain::Failure, places, Build::failures));
    let places = dimensions_by_day(cut);
    files.extend(build.files(Grain::Dimension, places, Build::dimensions));
    files
}

/// Customers with rows, as (shard, place in its customers), by name.
fn customers_by_name(state: &State, cut: &Cut) -> Vec<(u32, u32)> {
    let of_shard = |(shard, rows): (usize, &ShardRows)| {
        let places = 0..rows.customers.len() as u32;
        places.map(move |place| (shard as u32, place)).collect::<Vec<_>>()
    };
    let mut order: Vec<(u32, u32)> = cut.shards.iter().enumerate().flat_map(of_shard).collect();
    order.par_sort_unstable_by_key(|(shard, place)| {
        let customer = cut.shards[*shard as usize].customers[*place as usize].customer;
        state.shards[*shard as usize].customers.text(customer)
    });
    order
}

/// The places of one grain's rows by day, in the order of customers.
fn by_day(
    cut: &Cut,
    order: &[(u32, u32)],
    range: impl Fn(&CustomerRows) -> Range<usize>,
    day: impl Fn(&ShardRows, usize) -> Day,
) -> BTreeMap<Day, Vec<Place>> {
    let mut days: BTreeMap<Day, Vec<Place>> = BTreeMap::new();
    for (shard, place) in order {
        let rows = &cut.shards[*shard as usize];
        let of_customer = &rows.customers[*place as usize];
        for row in range(of_customer) {
            let place = Place { shard: *shard, customer: of_customer.customer, row: row as u32 };
            days.entry(day(rows, row)).or_default().push(place);
        }
    }
    days
}

/// The places of the rows of `dimension` by day; the part stands in `shard`.
fn dimensions_by_day(cut: &Cut) -> BTreeMap<Day, Vec<Place>> {
    let mut days: BTreeMap<Day, Vec<Place>> = BTreeMap::new();
    for (part, (rows, _)) in cut.dimensions.iter().enumerate() {
        for (row, of_row) in rows.iter().enumerate() {
            let place = Place { shard: part as u32, customer: 0, row: row as u32 };
            days.entry(of_row.minute.day()).or_default().push(place);
        }
    }
    for places in days.values_mut() {
        places.par_sort_unstable_by_key(|place| {
            let row = &cut.dimensions[place.shard as usize].0[place.row as usize];
            cut.order.dimension_key(row.tuple, row.minute, row.partition)
        });
    }
    days
}

#[derive(Clone, Copy)]
struct Build<'a> {
    state: &'a State,
    cut: &'a Cut,
    names: &'a Names<'a>,
}

impl<'a> Build<'a> {
    fn files(
        self,
        grain: Grain,
        days: BTreeMap<Day, Vec<Place>>,
        columns: fn(&Build<'a>, &[Place]) -> Vec<ArrayRef>,
    ) -> impl Iterator<Item = SlicedFile<'a>> {
        days.into_iter().map(move |(day, places)| SlicedFile {
            grain,
            day,
            rows: places.len(),
            build: Box::new(move |rows| batch(grain, columns(&self, &places[rows]))),
        })
    }

    fn series(&self, places: &[Place]) -> Vec<ArrayRef> {
        let row = |place: &Place| &self.shard(place).series[place.row as usize];
        let key = places.iter().map(|place| (row(place).minute, row(place).tuple));
        let mut columns = self.customer_key(places, key);
        let sums = |place: &Place| (&row(place).sums, self.shard(place).latency.as_slice());
        columns.extend(measures(places.iter().map(sums)));
        columns.extend(self.source(places.iter().map(|place| row(place).partition)));
        columns
    }

    fn slis(&self, places: &[Place]) -> Vec<ArrayRef> {
        let row = |place: &Place| &self.shard(place).slis[place.row as usize];
        let key = places.iter().map(|place| (row(place).minute, row(place).tuple));
        let mut columns = self.customer_key(places, key);
        columns
            .push(texts(places.iter().map(|place| self.names.slis[usize::from(row(place).sli)])));
        columns.push(ints(places.iter().map(|place| row(place).counts.valid)));
        columns.push(ints(places.iter().map(|place| row(place).counts.bad)));
        columns.push(ints(places.iter().map(|place| row(place).counts.excluded)));
        columns.extend(self.source(places.iter().map(|place| row(place).partition)));
        columns
    }

    fn failures(&self, places: &[Place]) -> Vec<ArrayRef> {
        let row = |place: &Place| &self.shard(place).failures[place.row as usize];
        let mut columns = vec![minutes(places.iter().map(|place| row(place).minute))];
        columns.push(texts(places.iter().map(|place| self.customer(place))));
        columns.extend(self.whole_tuple(places.iter().map(|place| row(place).tuple)));
        columns.push(ints(places.iter().map(|place| u64::from(row(place).status))));
        columns.push(ints(places.iter().map(|place| row(place).bad)));
        columns.extend(self.source(places.iter().map(|place| row(place).partition)));
        columns
    }

    fn dimensions(&self, places: &[Place]) -> Vec<ArrayRef> {
        let part = |place: &Place| &self.cut.dimensions[place.shard as usize];
        let row = |place: &Place| &part(place).0[place.row as usize];
        let mut columns = vec![minutes(places.iter().map(|place| row(place).minute))];
        columns.extend(self.whole_tuple(places.iter().map(|place| row(place).tuple)));
        let sums = |place: &Place| (&row(place).sums, part(place).1.as_slice());
        columns.extend(measures(places.iter().map(sums)));
        columns.extend(self.source(places.iter().map(|place| row(place).partition)));
        columns
    }

    fn shard(&self, place: &Place) -> &'a ShardRows {
        &self.cut.shards[place.shard as usize]
    }

    fn customer(&self, place: &Place) -> &'a str {
        self.state.shards[place.shard as usize].customers.text(place.customer)
    }

    /// `minute`, `customer`, `service`, `release`, `cohort`.
    fn customer_key(
        &self,
        places: &[Place],
        keys: impl Iterator<Item = (Minute, u32)> + Clone,
    ) -> Vec<ArrayRef> {
        let tuple = |(_, tuple): (Minute, u32)| self.state.dimensions.tuple(tuple);
        let text = |value: u32| self.state.dimensions.values.text(value);
        vec![
            minutes(keys.clone().map(|(minute, _)| minute)),
            texts(places.iter().map(|place| self.customer(place))),
            texts(keys.clone().map(|key| text(tuple(key).service))),
            texts(keys.clone().map(|key| text(tuple(key).dimensions[0]))),
            texts(keys.map(|key| text(tuple(key).dimensions[1]))),
        ]
    }

    /// `service` and every dimension.
    fn whole_tuple(&self, tuples: impl Iterator<Item = u32> + Clone) -> Vec<ArrayRef> {
        let (dimensions, text) =
            (&self.state.dimensions, |value| self.state.dimensions.values.text(value));
        let mut columns = vec![texts(tuples.clone().map(|t| text(dimensions.tuple(t).service)))];
        columns.extend((0..DIMENSIONS).map(|n| {
            texts(tuples.clone().map(|tuple| text(dimensions.tuple(tuple).dimensions[n])))
        }));
        columns
    }

    /// `partition` and `rules`.
    fn source(&self, partitions: impl Iterator<Item = u16> + Clone) -> [ArrayRef; 2] {
        let names = &self.names.partitions;
        [
            texts(partitions.clone().map(|partition| names[usize::from(partition)])),
            texts(partitions.map(|_| self.names.rules)),
        ]
    }
}

/// A batch of the columns of a grain.
///
/// # Panics
/// If the columns are not those of the grain's schema: they are built beside it.
pub fn batch(grain: Grain, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(grain.schema(), columns).expect("the columns are those of the grain")
}

/// The columns of [`Measures`], then the histogram.
fn measures<'a>(sums: impl Iterator<Item = (&'a Sums, &'a [u8])> + Clone) -> Vec<ArrayRef> {
    let of = |get: fn(&Measures) -> u64| ints(sums.clone().map(|(sums, _)| get(&sums.measures)));
    let mut latency = BinaryBuilder::new();
    for (sums, arena) in sums.clone() {
        let bytes = &arena[sums.latency.start as usize..sums.latency.end as usize];
        latency.append_option((!bytes.is_empty()).then_some(bytes));
    }
    vec![
        of(|measures| measures.valid),
        of(|measures| measures.bad),
        of(|measures| measures.excluded),
        of(|measures| measures.timed),
        of(|measures| measures.slow),
        of(|measures| measures.latency_sum_us),
        of(|measures| measures.latency_max_us),
        Arc::new(latency.finish()),
    ]
}

/// A text column; the empty text is absent.
pub fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> ArrayRef {
    let mut column = StringBuilder::with_capacity(texts.size_hint().0, 0);
    texts.for_each(|text| column.append_option((!text.is_empty()).then_some(text)));
    Arc::new(column.finish())
}

/// A column of counts.
pub fn ints(counts: impl Iterator<Item = u64>) -> ArrayRef {
    let signed = |count| i64::try_from(count).expect("a count fits 63 bits");
    Arc::new(Int64Array::from_iter_values(counts.map(signed)))
}

/// A column of minutes.
pub fn minutes(minutes: impl Iterator<Item = Minute>) -> ArrayRef {
    let column = TimestampMicrosecondArray::from_iter_values(
        minutes.map(|minute| minute.start_ms() * 1_000),
    );
    Arc::new(column.with_timezone("UTC"))
}
