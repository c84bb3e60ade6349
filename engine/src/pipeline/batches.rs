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
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, Schema, UInt32Type};
use rayon::prelude::*;

use crate::model::Measures;
use crate::slo::tally::Tally;
use crate::state::block::DIMENSIONS;
use crate::state::kinds::Counted;
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

/// About so many customers one core puts in order, and looks for the rows of.
const CUSTOMERS_AT_ONCE: usize = 1_024;

/// Every how many customers of a shard one is asked where to cut.
const ASKED_EVERY: usize = 64;

/// A customer with rows.
struct Named {
    /// The begin of its name.
    head: u128,
    shard: u32,
    /// Its number there.
    customer: u32,
    /// Its place among the customers with rows of its shard.
    place: u32,
    /// Whether it has rows of `sli` or `failure`. Few have, and those of the others need not be
    /// looked for.
    has_more: bool,
}

/// Customers with rows by name, in pieces. Those of each shard are in order already: a piece takes
/// those of all shards between two names, and each core puts its own pieces in order.
fn customers_by_name(state: &State, cut: &Cut) -> Vec<Vec<Named>> {
    let name = |one: &Named| state.shards[one.shard as usize].customers.text(one.customer);
    let by_name = |a: &Named, b: &Named| a.head.cmp(&b.head).then_with(|| name(a).cmp(name(b)));
    let named = |shard: u32, place: usize| {
        let rows = cut.shards[shard as usize].of_customer(place);
        let has_more = !(rows.slis.is_empty() && rows.failures.is_empty());
        let CustomerRows { customer, head, .. } = rows;
        Named { head, shard, customer, place: place as u32, has_more }
    };
    let shards = 0..cut.shards.len() as u32;
    let customers = |shard: u32| 0..cut.shards[shard as usize].customers();
    let asked = |shard| customers(shard).step_by(ASKED_EVERY).map(move |place| named(shard, place));
    let mut asked: Vec<Named> = shards.clone().flat_map(asked).collect();
    asked.sort_unstable_by(by_name);
    let cuts: Vec<Named> =
        asked.into_iter().step_by(CUSTOMERS_AT_ONCE / ASKED_EVERY).skip(1).collect();
    // By shard: where each piece ends.
    let ends = |shard: u32| {
        let rows = &cut.shards[shard as usize];
        let end = |cut: &Named| {
            rows.place_of((cut.head, name(cut)), &state.shards[shard as usize].customers)
        };
        cuts.iter().map(end).chain([rows.customers()]).collect()
    };
    let ends: Vec<Vec<usize>> = shards.clone().into_par_iter().map(ends).collect();
    let piece = |number: usize| {
        let places = |shard: u32| {
            let ends = &ends[shard as usize];
            let start = number.checked_sub(1).map_or(0, |before| ends[before]);
            (start..ends[number]).map(move |place| named(shard, place))
        };
        let mut piece: Vec<Named> = shards.clone().flat_map(places).collect();
        piece.sort_unstable_by(by_name);
        piece
    };
    (0..cuts.len() + 1).into_par_iter().map(piece).collect()
}

/// The day of all records, if it is one.
fn only_day(cut: &Cut) -> Option<Day> {
    let (first, last) = cut.dimensions.total()?.minutes;
    (first.day() == last.day()).then_some(first.day())
}

/// The places of one grain's rows by day, in the order of those customers who may have some.
fn by_day(
    cut: &Cut,
    order: &[Vec<Named>],
    may_have: impl Fn(&Named) -> bool + Sync,
    range: impl Fn(CustomerRows) -> Range<usize> + Sync,
    day: impl Fn(&ShardRows, usize) -> Day + Sync,
) -> BTreeMap<Day, Vec<Place>> {
    let of_some = |order: &Vec<Named>| {
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
    let pieces: Vec<_> = order.par_iter().map(of_some).collect();
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
        let kinds = self.state.kinds();
        let mut keys = Vec::with_capacity(places.len());
        let mut partitions = Vec::with_capacity(places.len());
        let mut sums = MeasureColumns::with_room(places.len());
        for place in places {
            let records = self.shard(place).series(place.row as usize);
            let Counted { minute, tuple, partition, .. } = records[0].with(kinds);
            keys.push((minute, tuple));
            partitions.push(partition);
            sums.push(|tally| sum_records(records, kinds, tally));
        }
        let mut columns = self.customer_key(places, keys.iter().copied());
        columns.extend(sums.finish());
        columns.extend(self.source(partitions.iter().copied()));
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
        let numbers: Vec<u32> = numbers.collect();
        let there = || BooleanBuffer::collect_bool(numbers.len(), |row| numbers[row] != 0);
        let nulls = numbers.contains(&0).then(|| NullBuffer::new(there()));
        numbered(UInt32Array::new(numbers.into(), nulls), &self.dictionaries.values)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use crate::slo::sli::Slis;
    use crate::state::block::BlockBuilder;

    #[test]
    fn pieces_hold_all_customers_by_name_however_their_names_begin() {
        // Short names and long ones, many of one begin, in the order of no sort.
        let name = |n: u32| match n % 3 {
            0 => format!("{:x}", n.wrapping_mul(0x9e37_79b1)),
            1 => format!("all of these begin alike {}", n.wrapping_mul(0x9e37_79b1)),
            _ => format!("c{n}"),
        };
        let mut names: Vec<String> = (0..20_000).map(name).collect();
        let mut state = State::new(10, 0, false, 7);
        let mut builder = BlockBuilder::new(7, false);
        builder.begin(0, 0);
        for customer in &names {
            let event = Event { customer, ts_ms: 1_764_547_200_000, ..Event::default() };
            builder.push(&event, &Slis::default(), 0);
        }
        state.apply(vec![builder.finish(1)]);
        let cut = state.cut();
        let pieces = customers_by_name(&state, &cut);
        let text = |one: &Named| state.shards[one.shard as usize].customers.text(one.customer);
        let found: Vec<&str> = pieces.iter().flatten().map(text).collect();
        names.sort_unstable();
        assert_eq!(found, names);
        let largest = pieces.iter().map(Vec::len).max();
        assert!(largest < Some(2 * CUSTOMERS_AT_ONCE), "cores share the work: {largest:?}");
    }
}
