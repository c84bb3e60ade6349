//! Rows of the grain `dimension`: all customers' records of an epoch, summed by service, all
//! dimensions, minute and partition.
//!
//! Many records make few rows, so that they are numbered by row and never sorted. Runs of records
//! become *pieces* of rows side by side, each reading its own records alone; pieces of one row
//! meet when the rows are put in order.
//!
//! Invariants: the rows depend on the set of records alone, not on their order nor on how they
//! were cut into runs.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;
use rayon::prelude::*;

use super::kinds::{Counted, Record};
use super::rows::TupleOrder;
use crate::model::{Counts, Measures};
use crate::slo::histogram::slot_of;
use crate::slo::tally::Tally;
use crate::time::Minute;

/// A row, or what one run of records has of it.
struct DimensionRow {
    tuple: u32,
    minute: Minute,
    partition: u16,
    measures: Measures,
    /// Where its run's latencies of it are.
    latencies: Range<u32>,
}

impl DimensionRow {
    fn total(&self) -> Total {
        Total { counts: self.measures.counts(), minutes: (self.minute, self.minute) }
    }
}

/// What records come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// By the default availability SLI.
    pub counts: Counts,
    /// The first and the last minute.
    pub minutes: (Minute, Minute),
}

impl Total {
    fn and(self, other: Total) -> Total {
        let Total { mut counts, minutes: (first, last) } = self;
        counts.add(other.counts);
        Total { counts, minutes: (first.min(other.minutes.0), last.max(other.minutes.1)) }
    }
}

/// There is room for one row for so many records, which is more than most need.
const RECORDS_OF_A_ROW: usize = 32;

/// For how many minutes in a row the rows of each tuple are remembered.
const MINUTES_BEFORE: usize = 4;

/// The latencies of one record. Packed, since there is one for each event of an epoch.
#[derive(Clone, Copy, Default)]
#[repr(C, packed(2))]
struct Latencies {
    slot: u16,
    count: u32,
}

/// What a run of records has of all rows.
#[derive(Default)]
struct Run {
    rows: Vec<DimensionRow>,
    /// Those of a row in a row.
    latencies: Vec<Latencies>,
}

/// All rows of the grain, in the order of the table.
#[derive(Default)]
pub struct DimensionRows {
    runs: Vec<Run>,
    /// Run and number there of each piece, those of a row in a row.
    pieces: Vec<(u32, u32)>,
    /// Where the pieces of each row end.
    ends: Vec<u32>,
}

impl DimensionRows {
    /// The rows of runs of records, each in parts, of about `room` records. It is fastest where
    /// records of one row stand close to each other in a run.
    pub fn new<'a, R>(
        runs: impl IndexedParallelIterator<Item = R>,
        room: usize,
        order: &TupleOrder<'_>,
    ) -> Self
    where
        R: Iterator<Item = &'a Vec<Record>>,
    {
        let runs: Vec<Run> = runs.map(|parts| Run::of(parts, room, order)).collect();
        let keyed = |(number, run): (u32, &Run)| {
            let keyed = |(at, row): (u32, &DimensionRow)| {
                (order.dimension_key(row.tuple, row.minute, row.partition), number, at)
            };
            (0..).zip(&run.rows).map(keyed).collect::<Vec<_>>()
        };
        let mut sorted: Vec<_> = (0..).zip(&runs).flat_map(keyed).collect();
        sorted.par_sort_unstable();
        let mut end = 0;
        let rows = sorted.chunk_by(|(a, ..), (b, ..)| a == b).map(|pieces| {
            end += pieces.len() as u32;
            end
        });
        let ends = rows.collect();
        let pieces = sorted.into_iter().map(|(_, run, at)| (run, at)).collect();
        DimensionRows { runs, pieces, ends }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key of row `number`: service and all dimensions, minute, partition.
    pub fn key(&self, number: usize) -> (u32, Minute, u16) {
        let (row, _) = self.piece(self.pieces_of(number).start);
        (row.tuple, row.minute, row.partition)
    }

    /// What all rows come to; `None` where there is none.
    pub fn total(&self) -> Option<Total> {
        self.runs.iter().flat_map(|run| &run.rows).map(DimensionRow::total).reduce(Total::and)
    }

    /// The sums of row `number`; its latencies are added to `tally`.
    pub fn sums(&self, number: usize, tally: &mut Tally) -> Measures {
        let mut measures = Measures::default();
        for piece in self.pieces_of(number) {
            let (row, latencies) = self.piece(piece);
            measures.add(&row.measures);
            latencies.iter().for_each(|one| tally.add(one.slot, one.count));
        }
        measures
    }

    fn pieces_of(&self, number: usize) -> Range<usize> {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[number] as usize
    }

    fn piece(&self, number: usize) -> (&DimensionRow, &[Latencies]) {
        let (run, at) = self.pieces[number];
        let Run { rows, latencies } = &self.runs[run as usize];
        let row = &rows[at as usize];
        (row, &latencies[row.latencies.start as usize..row.latencies.end as usize])
    }
}

impl Run {
    /// What parts of about `room` records have of all rows.
    fn of<'a>(
        parts: impl Iterator<Item = &'a Vec<Record>>,
        room: usize,
        order: &TupleOrder<'_>,
    ) -> Run {
        let mut numbers: HashMap<(u32, Minute, u16), u32, RandomState> = HashMap::default();
        let mut rows: Vec<DimensionRow> = Vec::with_capacity(room / RECORDS_OF_A_ROW);
        // By tuple and minute, the row of its record before. Minutes that follow each other have
        // places of their own: parts of shards, which are of one time, come one after the other.
        let mut rows_before = vec![[u32::MAX; MINUTES_BEFORE]; order.tuples()];
        let mut timed: Vec<(u32, Latencies)> = Vec::with_capacity(room);
        // Loops, since a chain of iterators may call a function for each record.
        for part in parts {
            for record in part.iter().filter(|record| !record.is_dropped()) {
                let record = record.with(order.kinds);
                let Counted { tuple, minute, partition, class, .. } = record;
                let before = &mut rows_before[tuple as usize][minute.0 as usize % MINUTES_BEFORE];
                let is_same =
                    |row: &DimensionRow| row.minute == minute && row.partition == partition;
                if !rows.get(*before as usize).is_some_and(is_same) {
                    *before = *numbers.entry((tuple, minute, partition)).or_insert_with(|| {
                        let (measures, latencies) = (Measures::default(), 0..0);
                        rows.push(DimensionRow { tuple, minute, partition, measures, latencies });
                        rows.len() as u32 - 1
                    });
                }
                let row = &mut rows[*before as usize];
                record.add_to(&mut row.measures);
                if class.timed {
                    // Until they have a place: how many there are.
                    row.latencies.end += 1;
                    let (slot, count) = (slot_of(record.latency_us), record.count);
                    timed.push((*before, Latencies { slot, count }));
                }
            }
        }
        let mut end = 0;
        for row in &mut rows {
            // From here on: the end moves as they come.
            let count = row.latencies.end;
            row.latencies = end..end;
            end += count;
        }
        let mut latencies = vec![Latencies::default(); timed.len()];
        for (number, of_record) in timed {
            let end = &mut rows[number as usize].latencies.end;
            latencies[*end as usize] = of_record;
            *end += 1;
        }
        Run { rows, latencies }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use Outcome::{Bad, Excluded, Good};

    use super::*;
    use crate::model::Outcome;
    use crate::slo::sli::Class;
    use crate::state::block::DIMENSIONS;
    use crate::state::dimensions::Tuple;
    use crate::state::kinds::Kinds;

    fn tuples(count: u32) -> Vec<Tuple> {
        let tuple = |number| Tuple { service: number % 3, dimensions: [number; DIMENSIONS] };
        (0..count).map(tuple).collect()
    }

    fn record(nth: u32) -> Counted {
        let mixed = nth.wrapping_mul(0x9e37_79b1) >> 8;
        Counted {
            customer: nth,
            tuple: mixed % 7,
            minute: Minute(29_000_000 + mixed / 7 % 5),
            latency_us: nth % 900,
            count: [0, 1, 2, 150_000][nth as usize % 4],
            status: 200,
            partition: (mixed / 35 % 2) as u16,
            class: Class {
                availability: [None, Some(Good), Some(Bad), Some(Excluded)][nth as usize / 4 % 4],
                timed: !nth.is_multiple_of(5),
                ..Class::default()
            },
        }
    }

    #[test]
    fn rows_are_those_of_a_recount_however_records_are_cut_into_runs() {
        let mut kinds = Kinds::default();
        let records: Vec<Record> = (0..3_000).map(|nth| kinds.record(record(nth))).collect();
        let ranks: Vec<u32> = (0..7).rev().collect();
        let order = TupleOrder::new(&tuples(7), kinds.list(), &ranks);
        type Key = (u32, u32, u32, u16);
        let encoded = |mut tally: Tally| {
            let mut bytes = Vec::new();
            tally.take_v2(&mut bytes);
            bytes
        };
        let mut recounted: BTreeMap<Key, (Measures, Tally)> = BTreeMap::new();
        for one in (0..3_000).map(record).filter(|one| one.count > 0) {
            let key = order.dimension_key(one.tuple, one.minute, one.partition);
            let (measures, tally) = recounted.entry(key).or_default();
            measures.add(&one.measures());
            if one.class.timed {
                tally.record(one.latency_us, one.count);
            }
        }
        let mut counts = Counts::default();
        for Measures { valid, bad, excluded, .. } in
            recounted.values().map(|(measures, _)| *measures)
        {
            counts.add(Counts { valid, bad, excluded });
        }
        let minutes = recounted.keys().map(|(_, minute, ..)| Minute(*minute));
        let minutes = (minutes.clone().min().unwrap(), minutes.max().unwrap());
        let recounted: Vec<_> = recounted
            .into_iter()
            .map(|(key, (measures, tally))| (key, measures, encoded(tally)))
            .collect();
        for run in [1, 7, 1_000, 3_000] {
            let runs: Vec<_> = records.chunks(run).map(<[Record]>::to_vec).collect();
            let rows = DimensionRows::new(runs.par_chunks(1).map(<[_]>::iter), run, &order);
            assert_eq!(rows.total(), Some(Total { counts, minutes }), "runs of {run}");
            let row = |number| {
                let (tuple, minute, partition) = rows.key(number);
                let mut tally = Tally::default();
                let measures = rows.sums(number, &mut tally);
                (order.dimension_key(tuple, minute, partition), measures, encoded(tally))
            };
            let all: Vec<_> = (0..rows.len()).map(row).collect();
            assert_eq!(all, recounted, "runs of {run}");
        }
        let none =
            DimensionRows::new(rayon::iter::empty::<std::slice::Iter<Vec<Record>>>(), 0, &order);
        assert!(none.is_empty() && none.total().is_none());
    }
}
