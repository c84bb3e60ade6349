//! Rows of an epoch: its records, summed by the key of each grain.
//!
//! Every function here is a sort and a sum, so the rows depend on the set of records alone and
//! not on their order. Customers stay numbers of their shard; tuples stay numbers of
//! [`Dimensions`](super::dimensions::Dimensions).

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use super::block::Record;
use super::dimensions::Tuple;
use crate::model::{Counts, Measures, Outcome};
use crate::slo::histogram::{encode_v2, slot_of};
use crate::slo::sli::one;
use crate::time::Minute;

/// What records of one key add up to, their latencies as HdrHistogram V2 bytes in an arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// The counts.
    pub measures: Measures,
    /// Where in the arena the histogram is; empty where nothing was timed.
    pub latency: Range<u32>,
}

/// A row of the grain `series`, without its customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesRow {
    /// Any tuple with its service, release and cohort.
    pub tuple: u32,
    /// When.
    pub minute: Minute,
    /// From which partition.
    pub partition: u16,
    /// How much.
    pub sums: Sums,
}

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

/// A row of the grain `dimension`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimensionRow {
    /// Service and all dimensions.
    pub tuple: u32,
    /// When.
    pub minute: Minute,
    /// From which partition.
    pub partition: u16,
    /// How much.
    pub sums: Sums,
}

/// The rows of one customer: ranges of its shard's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerRows {
    /// Who, by number of the shard.
    pub customer: u32,
    /// In [`ShardRows::series`].
    pub series: Range<usize>,
    /// In [`ShardRows::slis`].
    pub slis: Range<usize>,
    /// In [`ShardRows::failures`].
    pub failures: Range<usize>,
}

/// The rows of one shard.
#[derive(Debug, Default)]
pub struct ShardRows {
    /// Customers with rows.
    pub customers: Vec<CustomerRows>,
    /// Each customer's sorted by service, minute, release, cohort, partition.
    pub series: Vec<SeriesRow>,
    /// Each customer's in the order of `series`, then by SLI.
    pub slis: Vec<SliRow>,
    /// Each customer's sorted by service, minute, tuple, partition, status.
    pub failures: Vec<FailureRow>,
    /// Histograms of `series`.
    pub latency: Vec<u8>,
}

/// Orders of the texts of tuples, so that rows sort as their texts do.
pub struct TupleOrder {
    /// By tuple: the rank of service, then of release and cohort as one number.
    series: Vec<(u32, u64)>,
    /// By tuple: its rank among all tuples, by service and then all dimensions.
    whole: Vec<u32>,
}

impl TupleOrder {
    /// The order of `tuples`, whose values have these `ranks`.
    pub fn new(tuples: &[Tuple], ranks: &[u32]) -> TupleOrder {
        let rank = |value: u32| ranks[value as usize];
        let series = |tuple: &Tuple| {
            let release_cohort =
                (u64::from(rank(tuple.dimensions[0])) << 32) | u64::from(rank(tuple.dimensions[1]));
            (rank(tuple.service), release_cohort)
        };
        let key = |number: &u32| {
            let tuple = &tuples[*number as usize];
            (rank(tuple.service), tuple.dimensions.map(rank))
        };
        let mut sorted: Vec<u32> = (0..tuples.len() as u32).collect();
        sorted.sort_unstable_by_key(key);
        let mut whole = vec![0; tuples.len()];
        for (place, number) in sorted.into_iter().enumerate() {
            whole[number as usize] = place as u32;
        }
        TupleOrder { series: tuples.iter().map(series).collect(), whole }
    }

    /// Service, minute, release and cohort, partition.
    fn series_key(&self, record: &Record) -> (u64, u64, u16) {
        let (service, release_cohort) = self.series[record.tuple as usize];
        let service_minute = (u64::from(service) << 32) | u64::from(record.minute.0);
        (service_minute, release_cohort, record.partition)
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

/// Sums the records of one shard, which has `customers` customers and `further` further SLIs.
pub fn shard_rows(
    records: &[Record],
    customers: usize,
    further: usize,
    order: &TupleOrder,
) -> ShardRows {
    let mut rows = ShardRows::default();
    let mut slots = Vec::new();
    let (mut sorted, ends) = sorted_by_customer(records, customers);
    let mut rest = sorted.as_mut_slice();
    for (customer, size) in ends.into_iter().enumerate() {
        let (group, after) = rest.split_at_mut(size as usize);
        rest = after;
        if group.is_empty() {
            continue;
        }
        group.sort_unstable_by_key(|record| order.series_key(record));
        let starts = (rows.series.len(), rows.slis.len(), rows.failures.len());
        for same in group.chunk_by(|a, b| order.series_key(a) == order.series_key(b)) {
            let Record { tuple, minute, partition, .. } = same[0];
            let sums = sum_records(same, &mut slots, &mut rows.latency);
            rows.series.push(SeriesRow { tuple, minute, partition, sums });
            push_slis(same, further, &mut rows.slis);
        }
        push_failures(group, order, &mut rows.failures);
        rows.customers.push(CustomerRows {
            customer: customer as u32,
            series: starts.0..rows.series.len(),
            slis: starts.1..rows.slis.len(),
            failures: starts.2..rows.failures.len(),
        });
    }
    // They live until the commit has landed: without the room that they grew into.
    rows.series.shrink_to_fit();
    rows.latency.shrink_to_fit();
    rows.customers.shrink_to_fit();
    rows
}

/// Part `part` of `parts` of the rows of the grain `dimension`, all customers together, with
/// the arena of their histograms. Sorted by service, minute, then the other dimensions.
///
/// Many records make few rows, so that they are numbered by row and never sorted.
pub fn dimension_rows<'a>(
    shards: impl Iterator<Item = &'a [Record]> + Clone,
    (part, parts): (u32, u32),
    order: &TupleOrder,
) -> (Vec<DimensionRow>, Vec<u8>) {
    let mine = |record: &&Record| record.tuple % parts == part && record.count > 0;
    let records = || shards.clone().flatten().filter(mine);
    let mut numbers: HashMap<(u32, Minute, u16), u32, RandomState> = HashMap::default();
    let mut rows: Vec<DimensionRow> = Vec::new();
    let mut row_of: Vec<u32> = Vec::new();
    for record in records() {
        let Record { tuple, minute, partition, class, .. } = *record;
        let number = *numbers.entry((tuple, minute, partition)).or_insert_with(|| {
            let sums = Sums { measures: Measures::default(), latency: 0..0 };
            rows.push(DimensionRow { tuple, minute, partition, sums });
            rows.len() as u32 - 1
        });
        let sums = &mut rows[number as usize].sums;
        sums.measures.add(&record.measures());
        // Until the histograms are written: how many latencies there are.
        sums.latency.end += u32::from(class.timed);
        row_of.push(number);
    }
    let mut places: Vec<usize> = Vec::with_capacity(rows.len());
    let mut timed = 0;
    for row in &rows {
        places.push(timed);
        timed += row.sums.latency.end as usize;
    }
    let mut slots = vec![(0_u16, 0_u64); timed];
    for (record, number) in records().zip(&row_of).filter(|(record, _)| record.class.timed) {
        let place = &mut places[*number as usize];
        slots[*place] = (slot_of(record.latency_us), u64::from(record.count));
        *place += 1;
    }
    let mut sorted: Vec<u32> = (0..rows.len() as u32).collect();
    sorted.sort_unstable_by_key(|number| {
        let DimensionRow { tuple, minute, partition, .. } = rows[*number as usize];
        order.dimension_key(tuple, minute, partition)
    });
    let mut latency = Vec::new();
    let in_order = sorted.into_iter().map(|number| {
        let row = &rows[number as usize];
        let end = places[number as usize];
        let mut of_row = slots[end - row.sums.latency.end as usize..end].to_vec();
        let sums =
            Sums { measures: row.sums.measures, latency: encoded(&mut of_row, &mut latency) };
        DimensionRow { sums, ..row.clone() }
    });
    (in_order.collect(), latency)
}

/// The records without the dropped duplicates, by customer, and how many each customer has.
fn sorted_by_customer(records: &[Record], customers: usize) -> (Vec<Record>, Vec<u32>) {
    let mut sizes = vec![0_u32; customers];
    let counted = || records.iter().filter(|record| record.count > 0);
    for record in counted() {
        sizes[record.customer as usize] += 1;
    }
    let mut places: Vec<u32> = Vec::with_capacity(customers);
    let mut total = 0;
    for size in &sizes {
        places.push(total);
        total += size;
    }
    let mut sorted = match records.first() {
        Some(any) => vec![*any; total as usize],
        None => Vec::new(),
    };
    for record in counted() {
        let place = &mut places[record.customer as usize];
        sorted[*place as usize] = *record;
        *place += 1;
    }
    (sorted, sizes)
}

/// The sums of records; their histogram goes to the end of `arena`.
fn sum_records(records: &[Record], slots: &mut Vec<(u16, u64)>, arena: &mut Vec<u8>) -> Sums {
    let mut measures = Measures::default();
    slots.clear();
    for record in records {
        measures.add(&record.measures());
        if record.class.timed {
            slots.push((slot_of(record.latency_us), u64::from(record.count)));
        }
    }
    Sums { measures, latency: encoded(slots, arena) }
}

/// Writes the histogram of latencies to the end of `arena`; where it is then.
fn encoded(slots: &mut Vec<(u16, u64)>, arena: &mut Vec<u8>) -> Range<u32> {
    let start = arena.len() as u32;
    if !slots.is_empty() {
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        slots.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        encode_v2(slots, arena);
    }
    start..arena.len() as u32
}

/// What one record adds to further SLI `sli`.
pub fn further_counts(record: &Record, sli: usize) -> Counts {
    let sorted = record.class.further(sli);
    sorted.map(|outcome| one(outcome, record.count)).unwrap_or_default()
}

fn push_slis(records: &[Record], further: usize, rows: &mut Vec<SliRow>) {
    let Record { tuple, minute, partition, .. } = records[0];
    for sli in 0..further {
        let mut counts = Counts::default();
        records.iter().for_each(|record| counts.add(further_counts(record, sli)));
        if counts != Counts::default() {
            rows.push(SliRow { tuple, minute, partition, sli: sli as u8, counts });
        }
    }
}

fn push_failures(records: &[Record], order: &TupleOrder, rows: &mut Vec<FailureRow>) {
    let bad = |record: &&Record| record.class.availability == Some(Outcome::Bad);
    let mut failed: Vec<FailureRow> = records.iter().filter(bad).map(failure_of).collect();
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

fn failure_of(record: &Record) -> FailureRow {
    let Record { tuple, minute, partition, status, .. } = *record;
    FailureRow { tuple, minute, partition, status, bad: u64::from(record.count) }
}
