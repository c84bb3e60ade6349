//! What is held in memory: series of minute cells, and the records that no commit has taken.
//!
//! Series are split over [`block::SHARDS`] shards by a hash of the customer; each shard owns
//! its names, records and series, so that applying a batch needs no lock. A batch goes through
//! in three steps: blocks are decoded in parallel ([`block::BlockBuilder`]); the blocks'
//! dictionaries are merged in the order of the lines; the shards take their parts in parallel.
//! Nothing that can be seen depends on the number of shards, threads, blocks or batches.

pub mod block;
pub mod dimensions;
pub mod intern;
pub mod rows;
pub mod series;
pub mod shard;

use rayon::prelude::*;

use crate::model::{Counts, Measures};
use crate::slo::excess::Row;
use crate::slo::histogram::Histogram;
use crate::time::Minute;
use block::{Block, SHARDS, ShardPart};
use dimensions::{Dimensions, Tuple};
use rows::{DimensionRow, ShardRows, TupleOrder};
use series::Series;
use shard::Shard;

/// Into how many parts the rows by dimension are cut: each part reads all records once, so
/// more parts than a machine has cores cost more than they even out.
const DIMENSION_PARTS: u32 = 8;

/// For how many minutes the state keeps latency histograms: the 1 h window and as much again.
pub const HISTOGRAM_MINUTES: u32 = 120;

/// For how many minutes the state keeps counts by dimension: enough to explain what burns.
pub const RECENT_MINUTES: u32 = 180;

/// All shards, with the dictionaries they share.
pub struct State {
    /// One for each of [`SHARDS`].
    pub shards: Vec<Shard>,
    /// Services and dimension values.
    pub dimensions: Dimensions,
    /// Seed of the hash that sends customers to shards.
    seed: u64,
    further: usize,
    live: bool,
    newest: Option<Minute>,
}

/// The rows of an epoch, still by number.
pub struct Cut {
    /// Of each shard.
    pub shards: Vec<ShardRows>,
    /// Of all customers together, with the arenas of their histograms.
    pub dimensions: Vec<(Vec<DimensionRow>, Vec<u8>)>,
    /// The order of their tuples.
    pub order: TupleOrder,
}

impl State {
    /// An empty state. `live` keeps series for answers; else only records for the next cut.
    pub fn new(values_max: usize, further: usize, live: bool, seed: u64) -> State {
        State {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            dimensions: Dimensions::new(values_max),
            seed,
            further,
            live,
            newest: None,
        }
    }

    /// Takes decoded blocks, those of one partition in the order of their offsets.
    pub fn apply(&mut self, mut blocks: Vec<Block>) {
        let tuples: Vec<Vec<u32>> = blocks.iter().map(|block| self.admit(block)).collect();
        let (live, further, dimensions) = (self.live, self.further, &self.dimensions);
        let before = self.newest;
        let parts = by_shard(&mut blocks);
        let work = self.shards.par_iter_mut().zip(parts).map(|(shard, parts)| {
            let start = shard.records.len();
            for (part, tuples) in parts.iter().zip(&tuples) {
                shard.take(part, tuples);
            }
            let minutes = shard.records[start..].iter().filter(|record| record.count > 0);
            let newest = minutes.map(|record| record.minute).max().max(before);
            if live && let Some(newest) = newest {
                shard.fold(start, dimensions, further, newest);
            }
            newest
        });
        self.newest = work.max().flatten();
        if live && self.newest > before {
            self.forget();
        }
    }

    /// Sums what was applied since the last cut into rows.
    pub fn cut(&self) -> Cut {
        let ranks = self.dimensions.values.ranks();
        let order = TupleOrder::new(self.dimensions.tuples(), &ranks);
        let of_shard = |shard: &Shard| {
            rows::shard_rows(&shard.records, shard.customers.count(), self.further, &order)
        };
        let of_part = |part: u32| {
            let records = self.shards.iter().map(|shard| shard.records.as_slice());
            rows::dimension_rows(records, (part, DIMENSION_PARTS), &order)
        };
        let (shards, dimensions) = rayon::join(
            || self.shards.par_iter().map(of_shard).collect(),
            || (0..DIMENSION_PARTS).into_par_iter().map(of_part).collect(),
        );
        Cut { shards, dimensions, order }
    }

    /// Drops the records that the last cut has taken: its commit has landed.
    pub fn drop_records(&mut self) {
        self.shards.iter_mut().for_each(|shard| shard.records.clear());
    }

    /// How many records no commit has taken.
    pub fn pending(&self) -> usize {
        self.shards.iter().map(|shard| shard.records.len()).sum()
    }

    /// How many series there are.
    pub fn series_count(&self) -> u64 {
        self.shards.iter().map(|shard| shard.all_series().count() as u64).sum()
    }

    /// The newest minute with an event.
    pub fn newest(&self) -> Option<Minute> {
        self.newest
    }

    /// Whether series are kept for answers.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// How many further SLIs the series have.
    pub fn further(&self) -> usize {
        self.further
    }

    /// Seed of the hash that sends customers to shards, for [`block::BlockBuilder::new`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Folds a row of the grain `series` that the table holds.
    pub fn fold_series(&mut self, at: Key<'_>, measures: &Measures, latency: Option<&Histogram>) {
        let (shard, customer, service) = self.place(at);
        let series = self.shards[shard].series(customer, service, &self.dimensions, self.further);
        series.add(at.minute, measures);
        if let Some(latency) = latency {
            series.histogram(at.minute).merge(latency);
        }
        if measures.bad > 0 || measures.slow > 0 {
            self.shards[shard].heat(customer, service, at.minute);
        }
        self.newest = self.newest.max(Some(at.minute));
    }

    /// Folds a row of the grain `sli` that the table holds.
    pub fn fold_sli(&mut self, at: Key<'_>, sli: usize, counts: Counts) {
        let (shard, customer, service) = self.place(at);
        let series = self.shards[shard].series(customer, service, &self.dimensions, self.further);
        series.add_further(sli, at.minute, counts);
        if counts.bad > 0 {
            self.shards[shard].heat(customer, service, at.minute);
        }
    }

    /// Whether a series may burn.
    pub fn is_hot(&self, customer: &str, service: &str) -> bool {
        let shard = &self.shards[block::shard_of(self.seed, customer)];
        let service = self.dimensions.values.find(service);
        service.is_some_and(|service| shard.is_hot(customer, service))
    }

    /// Notes from which partition a series has rows of a minute, for who decides its alerts.
    pub fn own(&mut self, at: Key<'_>, partition: u16) {
        let (shard, customer, service) = self.place(at);
        self.shards[shard].own(customer, service, at.minute, partition);
    }

    /// Folds a row of the grain `dimension` that the table holds, for the last hours.
    pub fn fold_dimension(
        &mut self,
        service: &str,
        values: &[&str; 8],
        minute: Minute,
        counts: Counts,
    ) {
        let tuple = self.tuple(service, values);
        self.shards[0].recent.entry((minute, tuple)).or_default().add(counts);
    }

    /// The counts of the last hours by service and the first `dimensions` dimensions, in no
    /// order.
    pub fn recent_rows(&self, dimensions: usize) -> Vec<Row<'_>> {
        let text = |value: u32| self.dimensions.values.text(value);
        let recent = self.shards.iter().flat_map(|shard| &shard.recent);
        let row = |((minute, tuple), counts): (&(Minute, u32), &Counts)| {
            let tuple = self.dimensions.tuple(*tuple);
            let values = tuple.dimensions[..dimensions].iter().map(|value| text(*value)).collect();
            let (service, Counts { valid, bad, .. }) = (text(tuple.service), *counts);
            Row { minute: *minute, service, values, valid, bad }
        };
        recent.map(row).collect()
    }

    /// The series of one customer, sorted by service.
    pub fn series_of(&self, customer: &str) -> Vec<&Series> {
        let shard = &self.shards[block::shard_of(self.seed, customer)];
        let mut series: Vec<&Series> = shard.series_of(customer).collect();
        series.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        series
    }

    /// All series, sorted by customer, then service.
    pub fn all_series(&self) -> Vec<&Series> {
        let mut series: Vec<&Series> = self.shards.iter().flat_map(Shard::all_series).collect();
        series
            .par_sort_unstable_by(|a, b| (&a.customer, &a.service).cmp(&(&b.customer, &b.service)));
        series
    }

    fn admit(&mut self, block: &Block) -> Vec<u32> {
        let admit = |tuple| self.dimensions.admit_tuple(block.partition, tuple);
        block.tuples.iter().map(admit).collect()
    }

    /// Drops the latencies and the counts by dimension that are older than the last hours.
    pub fn forget(&mut self) {
        if let Some(newest) = self.newest {
            self.shards.par_iter_mut().for_each(|shard| shard.forget(newest));
        }
    }

    fn tuple(&mut self, service: &str, values: &[&str; 8]) -> u32 {
        let service = self.dimensions.values.intern(service);
        let dimensions = values.map(|value| self.dimensions.values.intern(value));
        self.dimensions.number(Tuple { service, dimensions })
    }

    /// The shard of a row's customer, and the numbers of customer and service.
    fn place(&mut self, at: Key<'_>) -> (usize, u32, u32) {
        let service = self.dimensions.values.intern(at.service);
        let shard = block::shard_of(self.seed, at.customer);
        (shard, self.shards[shard].customers.intern(at.customer), service)
    }
}

/// Which minute of which series a row is of.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Who.
    pub customer: &'a str,
    /// Which component.
    pub service: &'a str,
    /// When.
    pub minute: Minute,
}

/// Each shard's parts, in the order of the blocks.
fn by_shard(blocks: &mut [Block]) -> Vec<Vec<ShardPart>> {
    let mut shards: Vec<Vec<ShardPart>> = (0..SHARDS).map(|_| Vec::new()).collect();
    for block in blocks {
        for (shard, part) in shards.iter_mut().zip(block.parts.drain(..)) {
            shard.push(part);
        }
    }
    shards
}
