//! Rows of an epoch: its records, summed by the key of each grain.
//!
//! Every function here is a sort and a sum, so the rows depend on the set of records alone and
//! not on their order. Customers stay numbers of their shard; tuples stay numbers of
//! [`Dimensions`](super::dimensions::Dimensions).

use std::cmp::Ordering;
use std::ops::Range;

use super::dimensions::Tuple;
use super::kinds::{Counted, Kind, Record};
use super::names::Names;
use super::records::Records;
use crate::model::{Counts, Measures, Outcome};
use crate::slo::sli::one;
use crate::slo::tally::Tally;
use crate::time::{DAY_MINUTES, Minute};

/// A row of the grain `sli`, without its customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliRow {
    /// Any tuple with its service, release and cohort.
    pub tuple: u32,
    /// When.
    pub minute: Minute,
    /// From which partition.
    pub partition: u16,
    /// Which further SLI.
    pub sli: u8,
    /// How much.
    pub counts: Counts,
}

/// A row of the grain `failure`, without its customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureRow {
    /// Service and all dimensions.
    pub tuple: u32,
    /// When.
    pub minute: Minute,
    /// From which partition.
    pub partition: u16,
    /// HTTP status or 0.
    pub status: u16,
    /// How many.
    pub bad: u64,
}

/// The rows of one customer: ranges of its shard's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerRows {
    /// Who, by number of the shard.
    pub customer: u32,
    /// The first 16 bytes of its name, in whose order names are that differ in them.
    pub head: u128,
    /// Rows of the grain `series`: [`ShardRows::series`] by number.
    pub series: Range<usize>,
    /// In [`ShardRows::slis`].
    pub slis: Range<usize>,
    /// In [`ShardRows::failures`].
    pub failures: Range<usize>,
}

/// A customer, and where its rows end of each grain: they begin where those before it do. There
/// may be one for each record.
#[derive(Clone, Copy, Debug)]
struct CustomerEnds {
    head: u128,
    customer: u32,
    series: u32,
    slis: u32,
    failures: u32,
}

/// The rows of one shard.
#[derive(Debug, Default)]
pub struct ShardRows {
    /// Customers with rows, by name.
    customers: Vec<CustomerEnds>,
    /// The records, those of a row of `series` in a row, in the order of the customers: who goes
    /// through the rows by name goes through memory from its begin to its end. Sums are made as a
    /// row is written: the records take less memory than the rows, of which each may be a single
    /// record.
    records: Vec<Record>,
    /// Where the records of each row end.
    ends: Vec<u32>,
    /// Each customer's in the order of `series`, then by SLI.
    pub slis: Vec<SliRow>,
    /// Each customer's sorted by service, minute, tuple, partition, status.
    pub failures: Vec<FailureRow>,
}

impl ShardRows {
    /// How many customers have rows.
    pub fn customers(&self) -> usize {
        self.customers.len()
    }

    /// The place of the first customer whose name is not below `name`, of which the head is given.
    pub fn place_of(&self, (head, name): (u128, &str), names: &Names) -> usize {
        self.customers.partition_point(|one| match one.head.cmp(&head) {
            Ordering::Equal => names.text(one.customer) < name,
            order => order.is_lt(),
        })
    }

    /// The rows of the customer at `place` among those that have some, by name.
    pub fn of_customer(&self, place: usize) -> CustomerRows {
        let CustomerEnds { head, customer, series, slis, failures } = self.customers[place];
        let before = place.checked_sub(1).map(|before| self.customers[before]);
        let range = |end: u32, start: fn(CustomerEnds) -> u32| {
            before.map_or(0, start) as usize..end as usize
        };
        CustomerRows {
            customer,
            head,
            series: range(series, |before| before.series),
            slis: range(slis, |before| before.slis),
            failures: range(failures, |before| before.failures),
        }
    }

    /// The records of row `number` of the grain `series`, all of one customer, service, minute,
    /// release, cohort and partition. Each customer's rows are sorted by service, minute, release,
    /// cohort, partition.
    pub fn series(&self, number: usize) -> &[Record] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.records[start as usize..self.ends[number] as usize]
    }
}

/// Orders of the texts of tuples, so that rows sort as their texts do.
pub struct TupleOrder<'a> {
    /// What records share, by number.
    pub kinds: &'a [Kind],
    /// By tuple: the rank of its service, and that of its release and cohort together.
    series: Vec<(u32, u32)>,
    /// By tuple: its rank among all tuples, by service and then all dimensions.
    whole: Vec<u32>,
    short: Option<ShortKeys>,
}

/// The order of `series` in one word, which also says which of a customer's records it is of.
struct ShortKeys {
    /// By kind: the key of its first record at the begin of its day.
    begins: Vec<u64>,
    /// Where the minute of the day is added.
    minute_at: u32,
    /// How many of the lowest bits say which record.
    place_bits: u32,
}

impl ShortKeys {
    /// Those of records of these `kinds`, of whose tuples the ranks of `series` are given. `None`
    /// where they take more than a word.
    fn new(kinds: &[Kind], series: &[(u32, u32)]) -> Option<ShortKeys> {
        // That of dropped records comes first, which no tuple may be of.
        let of_records = || kinds.iter().skip(1);
        let most = |of: &dyn Fn(&Kind) -> u32| of_records().map(of).max().unwrap_or(0);
        let bits = |most: u32| u32::BITS - most.leading_zeros();
        let first_day = of_records().map(|kind| kind.day.0).min().unwrap_or(0);
        let minute = |kind: &Kind| (kind.day.0 - first_day) * DAY_MINUTES;
        let ranks = |kind: &Kind| series[kind.tuple as usize];
        let release_cohort_at = bits(most(&|kind| kind.partition.into()));
        let minute_at = release_cohort_at + bits(most(&|kind| ranks(kind).1));
        let service_at = minute_at + bits(most(&minute) + DAY_MINUTES - 1);
        let key_bits = service_at + bits(most(&|kind| ranks(kind).0));
        let place_bits = u64::BITS.checked_sub(key_bits)?;
        let begin = |kind: &Kind| {
            let (service, release_cohort) = ranks(kind);
            let key = (u64::from(service) << service_at)
                | (u64::from(minute(kind)) << minute_at)
                | (u64::from(release_cohort) << release_cohort_at)
                | u64::from(kind.partition);
            key << place_bits
        };
        let begins = [0].into_iter().chain(of_records().map(begin)).collect();
        Some(ShortKeys { begins, minute_at: minute_at + place_bits, place_bits })
    }

    /// Whether keys can tell so many records of one customer apart.
    fn have_room_for(&self, records: usize) -> bool {
        records as u64 <= 1 << self.place_bits
    }

    /// The key of a record that stands at `place` among its customer's.
    fn of(&self, record: &Record, place: u32) -> u64 {
        let minute = u64::from(record.minute_of_day()) << self.minute_at;
        self.begins[record.kind as usize] + minute + u64::from(place)
    }

    /// The part of a key that the records of a row share, and the place.
    fn split(&self, key: u64) -> (u64, u32) {
        let shared = key >> self.place_bits;
        (shared, (key - (shared << self.place_bits)) as u32)
    }
}

impl<'a> TupleOrder<'a> {
    /// The order of `tuples`, whose values have these `ranks`, in records of these `kinds`.
    pub fn new(tuples: &[Tuple], kinds: &'a [Kind], ranks: &[u32]) -> TupleOrder<'a> {
        let rank = |value: u32| ranks[value as usize];
        let tuple = |number: u32| &tuples[number as usize];
        let whole = dense_ranks(tuples.len(), |number| {
            (rank(tuple(number).service), tuple(number).dimensions.map(rank))
        });
        let services = dense_ranks(tuples.len(), |number| rank(tuple(number).service));
        let release_cohorts = dense_ranks(tuples.len(), |number| {
            let [release, cohort, ..] = tuple(number).dimensions;
            (rank(release), rank(cohort))
        });
        let series: Vec<(u32, u32)> = services.into_iter().zip(release_cohorts).collect();
        let short = ShortKeys::new(kinds, &series);
        TupleOrder { kinds, series, whole, short }
    }

    /// Service, minute, release and cohort, partition.
    fn series_key(&self, record: &Record) -> (u32, u32, u32, u16) {
        let Counted { tuple, minute, partition, .. } = record.with(self.kinds);
        let (service, release_cohort) = self.series[tuple as usize];
        (service, minute.0, release_cohort, partition)
    }

    /// How many tuples it orders.
    pub fn tuples(&self) -> usize {
        self.whole.len()
    }

    /// Service, minute, the other dimensions, partition: the order of the grain `dimension`.
    pub fn dimension_key(
        &self,
        tuple: u32,
        minute: Minute,
        partition: u16,
    ) -> (u32, u32, u32, u16) {
        (self.series[tuple as usize].0, minute.0, self.whole[tuple as usize], partition)
    }
}

/// The rank of each number below `count` by its key; equal keys share one, and none is left out.
fn dense_ranks<K: Ord>(count: usize, key: impl Fn(u32) -> K) -> Vec<u32> {
    let mut sorted: Vec<u32> = (0..count as u32).collect();
    sorted.sort_unstable_by_key(|number| key(*number));
    let mut ranks = vec![0; count];
    for (rank, same) in (0..).zip(sorted.chunk_by(|a, b| key(*a) == key(*b))) {
        same.iter().for_each(|number| ranks[*number as usize] = rank);
    }
    ranks
}

/// The rows of the records of one shard, whose customers have these `names`; there are `further`
/// further SLIs.
pub fn shard_rows(
    records: &Records,
    names: &Names,
    further: usize,
    order: &TupleOrder<'_>,
) -> ShardRows {
    let grouped = Grouped::new(records, names);
    match order.short.as_ref().filter(|keys| keys.have_room_for(records.len())) {
        Some(keys) => {
            let key = |record: &Record, place| keys.of(record, place);
            rows_by(grouped, further, order, key, |key| keys.split(key))
        }
        None => {
            let key = |record: &Record, place| (order.series_key(record), place);
            rows_by(grouped, further, order, key, |key| key)
        }
    }
}

/// The same, by the key of each record and its place among its customer's, which `split` takes
/// apart again.
fn rows_by<K: Ord + Copy, S: PartialEq>(
    Grouped { mut records, customers }: Grouped,
    further: usize,
    order: &TupleOrder<'_>,
    key: impl Fn(&Record, u32) -> K,
    split: impl Fn(K) -> (S, u32),
) -> ShardRows {
    let mut rows = ShardRows {
        customers: Vec::with_capacity(customers.len()),
        ends: Vec::with_capacity(records.len()),
        ..ShardRows::default()
    };
    let (mut keys, mut copy): (Vec<K>, Vec<Record>) = (Vec::new(), Vec::new());
    let mut start = 0;
    for Named { head, customer, size } in customers {
        let group = &mut records[start as usize..(start + size) as usize];
        keys.clear();
        keys.extend((0..).zip(&*group).map(|(place, record)| key(record, place)));
        if !keys.is_sorted() {
            // A key is half as much to move as a record, if it is short.
            keys.sort_unstable();
            copy.clear();
            copy.extend_from_slice(group);
            for (record, key) in group.iter_mut().zip(&keys) {
                *record = copy[split(*key).1 as usize];
            }
        }
        let mut rest = &*group;
        for same in keys.chunk_by(|a, b| split(*a).0 == split(*b).0) {
            let (of_row, after) = rest.split_at(same.len());
            push_slis(of_row, further, order.kinds, &mut rows.slis);
            start += of_row.len() as u32;
            rows.ends.push(start);
            rest = after;
        }
        push_failures(group, order, &mut rows.failures);
        let end = |rows: usize| u32::try_from(rows).expect("a shard's rows are numbers of 32 bits");
        rows.customers.push(CustomerEnds {
            head,
            customer,
            series: end(rows.ends.len()),
            slis: end(rows.slis.len()),
            failures: end(rows.failures.len()),
        });
    }
    rows.records = records;
    rows
}

/// A customer with records.
struct Named {
    head: u128,
    customer: u32,
    /// How many records it has.
    size: u32,
}

/// The records without the dropped duplicates, by the name of their customer.
struct Grouped {
    records: Vec<Record>,
    customers: Vec<Named>,
}

impl Grouped {
    /// Those of customers of these `names`.
    fn new(records: &Records, names: &Names) -> Grouped {
        // By number of a customer.
        let mut sizes = vec![0_u32; names.numbers()];
        for part in records.counted_by_part() {
            part.for_each(|record| sizes[record.customer as usize] += 1);
        }
        let with_records = (0..).zip(&sizes).filter(|(_, size)| **size > 0);
        let named = |(customer, size): (u32, &u32)| Named {
            head: head(names.text(customer)),
            customer,
            size: *size,
        };
        let mut customers: Vec<Named> = with_records.map(named).collect();
        let text = |one: &Named| names.text(one.customer);
        customers.sort_unstable_by(|a, b| a.head.cmp(&b.head).then_with(|| text(a).cmp(text(b))));
        let (mut places, mut total) = (sizes, 0);
        for Named { customer, size, .. } in &customers {
            places[*customer as usize] = total;
            total += size;
        }
        let mut grouped = match records.counted().next() {
            Some(any) => vec![*any; total as usize],
            None => Vec::new(),
        };
        for part in records.counted_by_part() {
            part.for_each(|record| {
                let place = &mut places[record.customer as usize];
                grouped[*place as usize] = *record;
                *place += 1;
            });
        }
        Grouped { records: grouped, customers }
    }
}

/// The first 16 bytes of a text.
fn head(text: &str) -> u128 {
    let mut head = [0; 16];
    let length = text.len().min(head.len());
    head[..length].copy_from_slice(&text.as_bytes()[..length]);
    u128::from_be_bytes(head)
}

/// The sums of records of these kinds; their latencies are added to `tally`.
#[inline]
pub fn sum_records(records: &[Record], kinds: &[Kind], tally: &mut Tally) -> Measures {
    let mut measures = Measures::default();
    for record in records.iter().map(|record| record.with(kinds)) {
        record.add_to(&mut measures);
        if record.class.timed {
            tally.record(record.latency_us, record.count);
        }
    }
    measures
}

/// What one record adds to further SLI `sli`.
pub fn further_counts(record: &Counted, sli: usize) -> Counts {
    let sorted = record.class.further(sli);
    sorted.map(|outcome| one(outcome, record.count)).unwrap_or_default()
}

fn push_slis(records: &[Record], further: usize, kinds: &[Kind], rows: &mut Vec<SliRow>) {
    let Counted { tuple, minute, partition, .. } = records[0].with(kinds);
    for sli in 0..further {
        let mut counts = Counts::default();
        let counted = records.iter().map(|record| record.with(kinds));
        counted.for_each(|record| counts.add(further_counts(&record, sli)));
        if counts != Counts::default() {
            rows.push(SliRow { tuple, minute, partition, sli: sli as u8, counts });
        }
    }
}

fn push_failures(records: &[Record], order: &TupleOrder<'_>, rows: &mut Vec<FailureRow>) {
    let counted = records.iter().map(|record| record.with(order.kinds));
    let bad = counted.filter(|record| record.class.availability == Some(Outcome::Bad));
    let mut failed: Vec<FailureRow> = bad.map(failure_of).collect();
    let key =
        |row: &FailureRow| (order.dimension_key(row.tuple, row.minute, row.partition), row.status);
    failed.sort_unstable_by_key(key);
    failed.dedup_by(|next, kept| {
        let same = key(next) == key(kept);
        if same {
            kept.bad += next.bad;
        }
        same
    });
    rows.append(&mut failed);
}

fn failure_of(record: Counted) -> FailureRow {
    let Counted { tuple, minute, partition, status, count, .. } = record;
    FailureRow { tuple, minute, partition, status, bad: u64::from(count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::sli::Class;
    use crate::state::block::DIMENSIONS;
    use crate::state::kinds::Kinds;

    /// Rows of one customer as (service, minute, release, partition) of their records.
    fn rows_of(services: u32) -> (bool, Vec<(u32, u32, u32, u16)>) {
        let tuple = |number: u32| {
            let mut dimensions = [0; DIMENSIONS];
            dimensions[0] = services - 1 - number;
            Tuple { service: number, dimensions }
        };
        let tuples: Vec<Tuple> = (0..services).map(tuple).collect();
        let ranks: Vec<u32> = (0..services).rev().collect();
        let mut kinds = Kinds::default();
        let record = |nth: u32| Counted {
            customer: 0,
            tuple: nth.wrapping_mul(0x9e37_79b1) % services,
            // Of three days.
            minute: Minute(29_000_000 + nth * 7 % 5 * 400),
            latency_us: 0,
            count: 1,
            status: 200,
            partition: (nth % 3 * 20_000) as u16,
            class: Class::default(),
        };
        let mut records = Records::default();
        records.push((0..5_000).map(|nth| kinds.record(record(nth))).collect());
        let order = TupleOrder::new(&tuples, kinds.list(), &ranks);
        let mut names = Names::default();
        names.intern("customer");
        let rows = shard_rows(&records, &names, 0, &order);
        let rank = |value: u32| ranks[value as usize];
        let key = |record: &Record| {
            let record = record.with(kinds.list());
            let Tuple { service, dimensions } = tuples[record.tuple as usize];
            (rank(service), record.minute.0, rank(dimensions[0]), record.partition)
        };
        let all = rows.of_customer(0).series;
        let keys = all.map(|row| {
            let same = rows.series(row);
            assert!(same.iter().all(|record| key(record) == key(&same[0])), "one key a row");
            key(&same[0])
        });
        let keys = keys.collect();
        assert_eq!(rows.records.len(), 5_000);
        (order.short.is_some_and(|keys| keys.have_room_for(5_000)), keys)
    }

    #[test]
    fn rows_have_one_order_whether_keys_fit_one_word_or_not() {
        for (services, is_short) in
            [(1, true), (7, true), (256, true), (2_048, true), (2_049, false)]
        {
            let (short, keys) = rows_of(services);
            assert_eq!(short, is_short, "{services}");
            assert!(keys.is_sorted_by(|a, b| a < b), "{services}: in order, and none twice");
        }
    }
}
