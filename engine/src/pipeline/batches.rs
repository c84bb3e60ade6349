//! From the rows of an epoch to the record batches of its files, in the order of the table.
//!
//! The grains of customers are sorted by customer, service, minute; `dimension` by service,
//! minute. One file for each grain and UTC day; its batches are built as it is written, so that
//! never all rows of an epoch are in memory as columns. Texts that many rows share are columns of
//! numbers with a dictionary in memory; what is written does not show it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, DictionaryArray, Int64Array, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Schema, UInt32Type};
use rayon::prelude::*;

use crate::model::Measures;
use crate::slo::tally::Tally;
use crate::state::block::DIMENSIONS;
use crate::state::kinds::{Counted, Record};
use crate::state::rows::{CustomerRows, ShardRows, sum_records};
use crate::state::{Cut, State};
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

/// The texts that columns of numbers stand for.
struct Dictionaries {
    /// Services and dimension values.
    values: ArrayRef,
    partitions: ArrayRef,
    rules: ArrayRef,
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
    let values = &state.dimensions.values;
    let dictionaries = Dictionaries {
        values: dictionary((0..values.count() as u32).map(|id| values.text(id))),
        partitions: dictionary(names.partitions.iter().copied()),
        rules: dictionary([names.rules].into_iter()),
    };
    let build = Build { state, cut, names, dictionaries: Arc::new(dictionaries) };
    let mut files = Vec::new();
    // The records lie all over memory: where they are of one day, none is looked at for it.
    let only = only_day(cut);
    let series = |rows: &ShardRows, row: usize| {
        only.unwrap_or_else(|| state.kinds()[rows.series(row)[0].kind as usize].day)
    };
    let places = by_day(cut, &order, |_| true, |rows| rows.series, series);
    files.extend(build.files(Grain::Series, places, Build::series));
    let slis = |rows: &ShardRows, row: usize| rows.slis[row].minute.day();
    let places = by_day(cut, &order, |named| named.has_more, |rows| rows.slis, slis);
    files.extend(build.files(Grain::Sli, places, Build::slis));
    let failures = |rows: &ShardRows, row: usize| rows.failures[row].minute.day();
    let places = by_day(cut, &order, |named| named.has_more, |rows| rows.failures, failures);
    files.extend(build.files(Grain::Failure, places, Build::failures));
    let places = dimensions_by_day(cut);
    files.extend(build.files(Grain::Dimension, places, Build::dimensions));
    files
}

/// Of so many customers one core looks for the rows.
const CUSTOMERS_AT_ONCE: usize = 1_024;

/// A customer with rows.
struct Named {
    /// The begin of its name.
    head: u128,
    shard: u32,
    /// Its place among the customers with rows of its shard.
    place: u32,
    /// Whether it has rows of `sli` or `failure`. Few have, and those of the others need not be
    /// looked for.
    has_more: bool,
}

/// Customers with rows by name.
fn customers_by_name(state: &State, cut: &Cut) -> Vec<Named> {
    let name = |shard: u32, place: u32| {
        let of_customer = cut.shards[shard as usize].of_customer(place as usize);
        state.shards[shard as usize].customers.text(of_customer.customer)
    };
    let mut ends: Vec<usize> = Vec::with_capacity(cut.shards.len());
    for rows in &cut.shards {
        ends.push(ends.last().unwrap_or(&0) + rows.customers());
    }
    let named = |number: usize| {
        let shard = ends.partition_point(|end| *end <= number);
        let place = number - shard.checked_sub(1).map_or(0, |before| ends[before]);
        let rows = cut.shards[shard].of_customer(place);
        let head = head(state.shards[shard].customers.text(rows.customer));
        let has_more = !(rows.slis.is_empty() && rows.failures.is_empty());
        Named { head, shard: shard as u32, place: place as u32, has_more }
    };
    let customers = 0..ends.last().copied().unwrap_or(0);
    let mut order: Vec<Named> = customers.into_par_iter().map(named).collect();
    order.par_sort_unstable_by(|a, b| {
        a.head.cmp(&b.head).then_with(|| name(a.shard, a.place).cmp(name(b.shard, b.place)))
    });
    order
}

/// The first 16 bytes of a text, in whose order texts are that differ in them.
fn head(text: &str) -> u128 {
    let mut head = [0; 16];
    let length = text.len().min(head.len());
    head[..length].copy_from_slice(&text.as_bytes()[..length]);
    u128::from_be_bytes(head)
}

/// The day of all records, if it is one.
fn only_day(cut: &Cut) -> Option<Day> {
    let ends = || cut.shards.iter().filter_map(|rows| rows.total).map(|total| total.minutes);
    let first = ends().map(|(first, _)| first.day()).min()?;
    let last = ends().map(|(_, last)| last.day()).max()?;
    (first == last).then_some(first)
}

/// The places of one grain's rows by day, in the order of those customers who may have some.
fn by_day(
    cut: &Cut,
    order: &[Named],
    may_have: impl Fn(&Named) -> bool + Sync,
    range: impl Fn(CustomerRows) -> Range<usize> + Sync,
    day: impl Fn(&ShardRows, usize) -> Day + Sync,
) -> BTreeMap<Day, Vec<Place>> {
    let of_some = |order: &[Named]| {
        let mut days: Vec<(Day, Vec<Place>)> = Vec::new();
        // Nearly all rows are of the day of the row before.
        let mut now = 0;
        for Named { shard, place, .. } in order.iter().filter(|named| may_have(named)) {
            let rows = &cut.shards[*shard as usize];
            let of_customer = rows.of_customer(*place as usize);
            let customer = of_customer.customer;
            for row in range(of_customer) {
                let day = day(rows, row);
                if days.get(now).is_none_or(|(known, _)| *known != day) {
                    now = days.iter().position(|(known, _)| *known == day).unwrap_or(days.len());
                }
                if now == days.len() {
                    days.push((day, Vec::new()));
                }
                days[now].1.push(Place { shard: *shard, customer, row: row as u32 });
            }
        }
        days
    };
    // Customers and their rows lie all over memory: all cores wait for them at once.
    let pieces: Vec<_> = order.par_chunks(CUSTOMERS_AT_ONCE).map(of_some).collect();
    let mut rows: BTreeMap<Day, usize> = BTreeMap::new();
    for (day, places) in pieces.iter().flatten() {
        *rows.entry(*day).or_default() += places.len();
    }
    let room = |(day, rows)| (day, Vec::with_capacity(rows));
    let mut days: BTreeMap<Day, Vec<Place>> = rows.into_iter().map(room).collect();
    for (day, places) in pieces.iter().flatten() {
        days.get_mut(day).expect("its rows were counted").extend_from_slice(places);
    }
    days
}

/// The numbers of the rows of `dimension` by day.
fn dimensions_by_day(cut: &Cut) -> BTreeMap<Day, Vec<Place>> {
    let mut days: BTreeMap<Day, Vec<Place>> = BTreeMap::new();
    for row in 0..cut.dimensions.len() {
        let (_, minute, _) = cut.dimensions.key(row);
        let place = Place { shard: 0, customer: 0, row: row as u32 };
        days.entry(minute.day()).or_default().push(place);
    }
    days
}

#[derive(Clone)]
struct Build<'a> {
    state: &'a State,
    cut: &'a Cut,
    names: &'a Names<'a>,
    dictionaries: Arc<Dictionaries>,
}

impl<'a> Build<'a> {
    fn files(
        &self,
        grain: Grain,
        days: BTreeMap<Day, Vec<Place>>,
        columns: fn(&Build<'a>, &[Place]) -> Vec<ArrayRef>,
    ) -> impl Iterator<Item = SlicedFile<'a>> {
        days.into_iter().map(move |(day, places)| {
            let (build, rows) = (self.clone(), places.len());
            let build = move |rows: Range<usize>| batch(grain, columns(&build, &places[rows]));
            SlicedFile { grain, day, rows, build: Box::new(build) }
        })
    }

    fn series(&self, places: &[Place]) -> Vec<ArrayRef> {
        let row = |place: &Place| self.shard(place).series(place.row as usize);
        let rows: Vec<&[Record]> = places.iter().map(row).collect();
        let kinds = self.state.kinds();
        let firsts: Vec<Counted> = rows.iter().map(|row| row[0].with(kinds)).collect();
        let key = firsts.iter().map(|first| (first.minute, first.tuple));
        let mut columns = self.customer_key(places, key);
        let mut sums = MeasureColumns::with_room(places.len());
        rows.iter().for_each(|row| sums.push(|tally| sum_records(row, kinds, tally)));
        columns.extend(sums.finish());
        columns.extend(self.source(firsts.iter().map(|first| first.partition)));
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
        columns.push(self.customers(places));
        columns.extend(self.whole_tuple(places.iter().map(|place| row(place).tuple)));
        columns.push(ints(places.iter().map(|place| u64::from(row(place).status))));
        columns.push(ints(places.iter().map(|place| row(place).bad)));
        columns.extend(self.source(places.iter().map(|place| row(place).partition)));
        columns
    }

    fn dimensions(&self, places: &[Place]) -> Vec<ArrayRef> {
        let rows = &self.cut.dimensions;
        let keys = places.iter().map(|place| rows.key(place.row as usize));
        let mut columns = vec![minutes(keys.clone().map(|(_, minute, _)| minute))];
        columns.extend(self.whole_tuple(keys.clone().map(|(tuple, ..)| tuple)));
        let mut sums = MeasureColumns::with_room(places.len());
        places.iter().for_each(|place| sums.push(|tally| rows.sums(place.row as usize, tally)));
        columns.extend(sums.finish());
        columns.extend(self.source(keys.map(|(.., partition)| partition)));
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
        vec![
            minutes(keys.clone().map(|(minute, _)| minute)),
            self.customers(places),
            self.values(keys.clone().map(|key| tuple(key).service)),
            self.values(keys.clone().map(|key| tuple(key).dimensions[0])),
            self.values(keys.map(|key| tuple(key).dimensions[1])),
        ]
    }

    /// `customer`: rows of one follow each other.
    fn customers(&self, places: &[Place]) -> ArrayRef {
        let of = |place: &Place| (place.shard, place.customer);
        let runs = || places.chunk_by(|a, b| of(a) == of(b));
        let numbers =
            (0..).zip(runs()).flat_map(|(run, rows)| std::iter::repeat_n(run, rows.len()));
        let numbers = UInt32Array::from_iter_values(numbers);
        numbered(numbers, &dictionary(runs().map(|rows| self.customer(&rows[0]))))
    }

    /// `service` and every dimension.
    fn whole_tuple(&self, tuples: impl Iterator<Item = u32> + Clone) -> Vec<ArrayRef> {
        let tuple = |number| self.state.dimensions.tuple(number);
        let mut columns = vec![self.values(tuples.clone().map(|number| tuple(number).service))];
        columns.extend(
            (0..DIMENSIONS)
                .map(|n| self.values(tuples.clone().map(|number| tuple(number).dimensions[n]))),
        );
        columns
    }

    /// A column of values by number, of which 0 is the absent one.
    fn values(&self, numbers: impl Iterator<Item = u32>) -> ArrayRef {
        let numbers = numbers.map(|number| (number != 0).then_some(number));
        numbered(numbers.collect(), &self.dictionaries.values)
    }

    /// `partition` and `rules`.
    fn source(&self, partitions: impl Iterator<Item = u16> + Clone) -> [ArrayRef; 2] {
        let numbers = UInt32Array::from_iter_values(partitions.clone().map(u32::from));
        let rules = UInt32Array::from_iter_values(partitions.map(|_| 0));
        let Dictionaries { partitions, rules: version, .. } = &*self.dictionaries;
        [numbered(numbers, partitions), numbered(rules, version)]
    }
}

/// Texts for columns of numbers.
fn dictionary<'a>(texts: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

/// A text column by number.
fn numbered(numbers: UInt32Array, texts: &ArrayRef) -> ArrayRef {
    Arc::new(DictionaryArray::<UInt32Type>::new(numbers, Arc::clone(texts)))
}

/// A batch of the columns of a grain; text columns may be numbers with a dictionary.
///
/// # Panics
/// If the columns are not those of the grain's schema: they are built beside it.
pub fn batch(grain: Grain, columns: Vec<ArrayRef>) -> RecordBatch {
    let schema = grain.schema();
    let as_built = schema.fields().iter().zip(&columns).map(|(field, column)| match column {
        numbered if numbered.as_any_dictionary_opt().is_some() => {
            Arc::new(Field::clone(field).with_data_type(numbered.data_type().clone()))
        }
        _ => Arc::clone(field),
    });
    let as_built = Arc::new(Schema::new(as_built.collect::<Vec<_>>()));
    RecordBatch::try_new(as_built, columns).expect("the columns are those of the grain")
}

/// The columns of [`Measures`] and of the histogram, row by row.
struct MeasureColumns {
    counts: [Vec<i64>; 7],
    tally: Tally,
    /// The histograms one after the other, and where each ends; no bytes where nothing was timed.
    latency: Vec<u8>,
    ends: Vec<i32>,
}

impl MeasureColumns {
    fn with_room(rows: usize) -> MeasureColumns {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        MeasureColumns {
            counts: std::array::from_fn(|_| Vec::with_capacity(rows)),
            tally: Tally::default(),
            // Nearly all histograms have one to three slots.
            latency: Vec::with_capacity(rows * 48),
            ends,
        }
    }

    /// Adds a row of what `sums` gives, with its latencies.
    fn push(&mut self, sums: impl FnOnce(&mut Tally) -> Measures) {
        let Measures { valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us } =
            sums(&mut self.tally);
        let counts = [valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us];
        for (column, count) in self.counts.iter_mut().zip(counts) {
            column.push(signed(count));
        }
        self.tally.take_v2(&mut self.latency);
        self.ends.push(i32::try_from(self.latency.len()).expect("the rows of a batch are few"));
    }

    fn finish(self) -> Vec<ArrayRef> {
        let counts = self.counts.into_iter();
        let mut columns: Vec<ArrayRef> =
            counts.map(|counts| Arc::new(Int64Array::from(counts)) as ArrayRef).collect();
        let timed = self.ends.windows(2).map(|ends| ends[0] < ends[1]).collect();
        let ends = OffsetBuffer::new(self.ends.into());
        columns.push(Arc::new(BinaryArray::new(ends, self.latency.into(), Some(timed))));
        columns
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).expect("a count fits 63 bits")
}

/// A text column; the empty text is absent.
pub fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> ArrayRef {
    let mut column = StringBuilder::with_capacity(texts.size_hint().0, 0);
    texts.for_each(|text| column.append_option((!text.is_empty()).then_some(text)));
    Arc::new(column.finish())
}

/// A column of counts.
pub fn ints(counts: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(counts.map(signed)))
}

/// A column of minutes.
pub fn minutes(minutes: impl Iterator<Item = Minute>) -> ArrayRef {
    let column = TimestampMicrosecondArray::from_iter_values(
        minutes.map(|minute| minute.start_ms() * 1_000),
    );
    Arc::new(column.with_timezone("UTC"))
}
