//! What is held in memory: series of minute cells, and the records that no commit has taken.
//!
//! Series are split over [`block::SHARDS`] shards by a hash of the customer; each shard owns
//! its names, records and series, so that applying a batch needs no lock. A batch goes through
//! in three steps: blocks are decoded in parallel ([`block::BlockBuilder`]); the blocks'
//! dictionaries are merged in the order of the lines; the shards take their parts in parallel.
//! Nothing that can be seen depends on the number of shards, threads, blocks or batches.
//!
//! Memory is bounded from outside: [`State::bytes`] says what names and series take, and
//! [`State::evict`] drops the customers that were idle longest, all of which the table holds.
//! Sums over all customers, and over those of a pool, stay exact, since they are kept apart
//! ([`State::fleet`], [`State::pool_series`]).

mod batch;
pub mod block;
pub mod cells;
pub mod dimension_rows;
pub mod dimensions;
mod evicted;
pub mod intern;
pub mod kinds;
pub mod names;
pub mod pools;
pub mod records;
pub mod rows;
pub mod runs;
pub mod series;
pub mod shard;
pub mod snapshot;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rayon::prelude::*;

use crate::model::{Counts, Measures};
use crate::slo::excess::Row;
use crate::slo::histogram::Histogram;
use crate::slo::pool::Pools;
use crate::time::Minute;
pub use batch::SeriesBatch;
use block::{Block, SHARDS, ShardPart};
use dimension_rows::DimensionRows;
use dimensions::{Dimensions, Tuple};
use kinds::{Counted, Kind, Kinds};
use pools::{PoolCell, PoolCells, PoolSeries};
use rows::{ShardRows, TupleOrder};
use series::Series;
use shard::{Evictable, Folding, Shard};

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
    /// What the records since the last cut share.
    kinds: Kinds,
    /// Seed of the hash that sends customers to shards.
    seed: u64,
    further: usize,
    live: bool,
    newest: Option<Minute>,
    /// All series together.
    fleet: Series,
    pools: PoolSeries,
    /// How often it was looked over for idle customers.
    round: u32,
    /// A bound on every sum of what was ever folded.
    load: u128,
    is_overloaded: bool,
    /// No other state has the same.
    identity: Arc<()>,
}

/// What the series of a customer hold, as far as that can be compared: while two seals are equal,
/// nothing of them has changed but how they are packed, and which latencies of before the last
/// hours are kept.
#[derive(Clone, Debug)]
pub struct Seal {
    /// Of the state, which stays its own while this is kept.
    identity: Arc<()>,
    changed: u32,
}

impl PartialEq for Seal {
    fn eq(&self, other: &Seal) -> bool {
        Arc::ptr_eq(&self.identity, &other.identity) && self.changed == other.changed
    }
}

/// The most that may add up to one sum: what the table's columns hold.
const LOAD_MAX: u128 = i64::MAX as u128;

/// The rows of an epoch, still by number.
pub struct Cut {
    /// Of each shard.
    pub shards: Vec<ShardRows>,
    /// Of all customers together.
    pub dimensions: DimensionRows,
}

impl State {
    /// An empty state. `live` keeps series for answers; else only records for the next cut.
    pub fn new(values_max: usize, further: usize, live: bool, seed: u64) -> State {
        State {
            shards: (0..SHARDS).map(|_| Shard::new(seed, Arc::default(), live)).collect(),
            dimensions: Dimensions::new(values_max),
            kinds: Kinds::default(),
            seed,
            further,
            live,
            newest: None,
            fleet: Series::new(Arc::from(""), Arc::from(""), 0),
            pools: PoolSeries::default(),
            round: 0,
            load: 0,
            is_overloaded: false,
            identity: Arc::new(()),
        }
    }

    /// The same, whose customers are in these pools.
    pub fn pooled(self, pools: Arc<Pools>) -> State {
        assert!(self.newest.is_none(), "a customer's pool is told before the first event");
        State {
            shards: (0..SHARDS)
                .map(|_| Shard::new(self.seed, Arc::clone(&pools), self.live))
                .collect(),
            pools: PoolSeries::new(pools),
            ..self
        }
    }

    /// Takes decoded blocks, those of one partition in the order of their offsets.
    pub fn apply(&mut self, mut blocks: Vec<Block>) {
        let admitted: Vec<Vec<u32>> = blocks.iter().map(|block| self.admit(block)).collect();
        let (live, further, dimensions) = (self.live, self.further, &self.dimensions);
        let kinds = self.kinds.list();
        let (before, round) = (self.newest, self.round);
        self.load += blocks.iter().map(|block| block.load).sum::<u128>();
        if self.load > LOAD_MAX {
            self.is_overloaded = true;
            return;
        }
        let parts = by_shard(&mut blocks);
        let work = self.shards.par_iter_mut().zip(parts).map(|(shard, parts)| {
            let start = shard.records.len();
            let mut newest = before;
            for (part, admitted) in parts.into_iter().zip(&admitted) {
                newest = newest.max(shard.take(part, admitted, kinds));
            }
            let of_shard = newest.filter(|_| live && shard.records.len() > start);
            let folding = |newest| Folding { dimensions, kinds, further, newest, round };
            (newest, of_shard.map(|newest| shard.fold(start, folding(newest))))
        });
        let work: Vec<(Option<Minute>, Option<_>)> = work.collect();
        self.newest = work.iter().map(|(newest, _)| *newest).max().unwrap_or(before);
        self.add_to_pools(work.into_iter().filter_map(|(_, pools)| pools));
        if live && self.newest > before {
            self.forget();
        }
    }

    /// Sums what was applied since the last cut into rows.
    pub fn cut(&self) -> Cut {
        let ranks = self.dimensions.values.ranks();
        let order = TupleOrder::new(self.dimensions.tuples(), self.kinds(), &ranks);
        let of_shard = |shard: &Shard| {
            rows::shard_rows(&shard.records, &shard.customers, self.further, &order)
        };
        // Part by part over all shards, as they came: what shares a row is met together.
        let parts = self.shards.iter().map(|shard| shard.records.parts().len()).max().unwrap_or(0);
        // A run for each thread: the fewer there are, the more of a row is in one.
        let threads = rayon::current_num_threads();
        let size = parts.div_ceil(threads).max(1);
        let of_part =
            |part| self.shards.iter().filter_map(move |shard| shard.records.parts().get(part));
        let starts: Vec<usize> = (0..parts).step_by(size).collect();
        let runs = starts.par_iter().map(|start| (*start..start + size).flat_map(of_part));
        // One after the other: a core that still has a whole run to do would be waited for.
        let dimensions = DimensionRows::new(runs, self.pending() / threads, &order);
        let shards = self.shards.par_iter().map(of_shard).collect();
        Cut { shards, dimensions }
    }

    /// Drops the records that the last cut has taken: its commit has landed.
    pub fn drop_records(&mut self) {
        self.shards.iter_mut().for_each(|shard| shard.records.clear());
        self.kinds.take();
        if !self.live {
            self.load = 0;
        }
    }

    /// What the records since the last cut share, by number.
    pub fn kinds(&self) -> &[Kind] {
        self.kinds.list()
    }

    /// Whether something would have led to a sum that does not fit 63 bits. It was not taken,
    /// so that nothing after it is to be committed or answered.
    pub fn is_overloaded(&self) -> bool {
        self.is_overloaded
    }

    /// About how much memory names and series take, those of pools included, in bytes: what they
    /// hold, and a quarter of it for what an allocator rounds up and for the room that lists grow
    /// into.
    pub fn bytes(&self) -> usize {
        (self.held_bytes() + self.pools.bytes()) / 4 * 5
    }

    fn held_bytes(&self) -> usize {
        self.shards.iter().map(Shard::bytes).sum()
    }

    /// Evicts customers, those first that were idle longest, until names and series take `goal`
    /// bytes; of those that may come to fire by themselves only where they alone take more than
    /// `most`. How many of either. Never those of whom `firing` says so.
    ///
    /// # Panics
    /// If a record is not committed.
    pub fn evict(
        &mut self,
        (goal, most): (usize, usize),
        firing: &dyn Fn(&str) -> bool,
        keep: Keep,
    ) -> [u64; 2] {
        let mut evicted = [0; 2];
        for (all, bytes) in [(false, goal), (true, most)] {
            let total = self.held_bytes();
            let excess = (total + self.pools.bytes()).saturating_sub(bytes / 5 * 4) as f64;
            for shard in self.shards.iter_mut().filter(|_| excess > 0.0) {
                let share = (excess * shard.bytes() as f64 / total as f64).ceil() as usize;
                let (idle, hot) = shard.evict(share, Evictable { firing, keep }, all);
                evicted = [evicted[0] + idle, evicted[1] + hot];
            }
        }
        self.round += 1;
        evicted
    }

    /// Packs the minutes before `minute` of all series.
    pub fn pack_before(&mut self, minute: Minute) {
        self.shards.par_iter_mut().for_each(|shard| shard.pack_before(minute));
    }

    /// Packs as closely as can be what is packed of all series, so that it takes no more than if
    /// every minute had come in its order.
    pub fn tighten(&mut self) {
        self.shards.par_iter_mut().for_each(Shard::tighten);
    }

    /// How often a customer was evicted.
    pub fn evicted(&self) -> u64 {
        self.shards.iter().map(Shard::evicted).sum()
    }

    /// How often a customer was new, those included that came back.
    pub fn new_customers(&self) -> u64 {
        self.shards.iter().map(Shard::new_customers).sum()
    }

    /// How many customers there are names of.
    pub fn customers(&self) -> u64 {
        self.shards.iter().map(|shard| shard.customers.count() as u64).sum()
    }

    /// Forgets all names, which is for who keeps no series.
    ///
    /// # Panics
    /// If a record is not committed.
    pub fn forget_names(&mut self) {
        self.shards.iter_mut().for_each(Shard::forget_names);
    }

    /// Whether the table may hold more of a customer than is in memory.
    pub fn may_lack(&self, customer: &str) -> bool {
        self.shards[block::shard_of(self.seed, customer)].may_lack(customer)
    }

    /// The customers that may burn and cannot be judged before they were loaded.
    pub fn hot_partial(&self) -> Vec<String> {
        self.shards.iter().flat_map(Shard::hot_partial).map(str::to_owned).collect()
    }

    /// Some customers, at most `most`, of whom the table may hold more than is in memory.
    pub fn partial(&self, most: usize) -> Vec<String> {
        self.shards.iter().flat_map(Shard::partial).take(most).map(str::to_owned).collect()
    }

    /// Puts the whole series of `customers` in the place of what is in memory of them.
    pub fn complete(&mut self, customers: &[String], mut whole: State) {
        for customer in customers {
            let from = block::shard_of(whole.seed, customer);
            let series = whole.shards[from].take_out(customer);
            let number = |(series, bad): (Series, Option<Minute>)| {
                (self.dimensions.values.intern(&series.service), series, bad)
            };
            let series = series.into_iter().map(number).collect();
            let shard = &mut self.shards[block::shard_of(self.seed, customer)];
            let id = shard.customer(customer);
            shard.complete(id, series);
        }
    }

    /// Folds what `other` holds of `customers` that no commit has taken.
    pub fn fold_uncommitted(&mut self, other: &State, customers: &[String]) {
        for customer in customers {
            let shard = &other.shards[block::shard_of(other.seed, customer)];
            let Some(id) = shard.customers.find(customer) else { continue };
            let counted = shard.records.counted().filter(|record| record.customer == id);
            for record in counted.map(|record| record.with(other.kinds())) {
                let service = other.dimensions.tuple(record.tuple).service;
                let service = other.dimensions.values.text(service);
                self.fold_one(Key { customer, service, minute: record.minute }, &record);
            }
        }
    }

    /// Folds one event.
    fn fold_one(&mut self, at: Key<'_>, record: &Counted) {
        let latency = record.class.timed.then(|| {
            let mut latency = Histogram::default();
            latency.record(record.latency_us, u64::from(record.count));
            latency
        });
        self.fold_series(at, &record.measures(), latency.as_ref());
        for sli in 0..self.further {
            let counts = rows::further_counts(record, sli);
            if counts != Counts::default() {
                self.fold_sli(at, sli, counts);
            }
        }
    }

    /// All series together: the default availability SLI and the first latency SLI, by minute,
    /// evicted customers included.
    pub fn fleet(&self) -> &Series {
        &self.fleet
    }

    /// Who is in which pool.
    pub fn pools(&self) -> &Arc<Pools> {
        self.pools.pools()
    }

    /// The series of every pool and service, evicted customers included, without latencies;
    /// sorted by pool, then service. The pool's name stands in the place of the customer's.
    pub fn pool_series(&self) -> Vec<&Series> {
        self.pools.all()
    }

    /// The series of one pool and service.
    pub fn pool(&self, pool: &str, service: &str) -> Option<&Series> {
        let service = self.dimensions.values.find(service)?;
        self.pools.get(self.pools().find(pool)?, service)
    }

    /// The series of a pool and service that may burn and that memory has all of, in no order.
    pub fn hot_in_pool<'a>(
        &'a self,
        pool: &str,
        service: &str,
    ) -> impl Iterator<Item = &'a Series> + use<'a> {
        let numbers = self.pools().find(pool).zip(self.dimensions.values.find(service));
        numbers.into_iter().flat_map(|(pool, service)| {
            self.shards.iter().flat_map(move |shard| shard.hot_in_pool(pool, service))
        })
    }

    /// Forgets what the pools hold of minutes before `oldest`, about.
    pub fn forget_pools(&mut self, oldest: Minute) {
        self.pools.forget(oldest);
    }

    /// How many records no commit has taken.
    pub fn pending(&self) -> usize {
        self.shards.iter().map(|shard| shard.records.len()).sum()
    }

    /// How many series there are.
    pub fn series_count(&self) -> u64 {
        self.shards.iter().map(|shard| shard.series_count() as u64).sum()
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

    /// The shard of a customer.
    pub fn shard_of(&self, customer: &str) -> usize {
        block::shard_of(self.seed, customer)
    }

    /// Seed of the hash that sends customers to shards, for [`block::BlockBuilder::new`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Folds a row of the grain `series` that the table holds.
    pub fn fold_series(&mut self, at: Key<'_>, measures: &Measures, latency: Option<&Histogram>) {
        if self.fold_fleet(at, measures) {
            self.fold_customer(at, measures, latency);
        }
    }

    /// Folds such a row into the sums over everybody alone; false where they would not hold it.
    pub fn fold_fleet(&mut self, at: Key<'_>, measures: &Measures) -> bool {
        self.load += load_of(measures);
        if self.load > LOAD_MAX {
            self.is_overloaded = true;
            return false;
        }
        self.fleet.add(at.minute, measures);
        let cell = PoolCell { measures: *measures, ..PoolCell::new(self.further) };
        self.add_to_pool(at, &cell);
        self.newest = self.newest.max(Some(at.minute));
        true
    }

    /// Adds to the pool of a customer.
    fn add_to_pool(&mut self, at: Key<'_>, cell: &PoolCell) {
        let service = self.dimensions.values.intern(at.service);
        let pool = self.pools.pools().of(at.customer);
        self.pools.add((pool, service), at.service, at.minute, cell);
    }

    /// Folds such a row into its series alone.
    pub fn fold_customer(&mut self, at: Key<'_>, measures: &Measures, latency: Option<&Histogram>) {
        let (shard, customer, service) = self.place(at);
        let series = self.shards[shard].series(customer, service, &self.dimensions, self.further);
        let mut grown = series.add_sized(at.minute, measures);
        if let Some(latency) = latency {
            let before = series.bytes_of_latency();
            series.histogram(at.minute).merge(latency);
            grown += series.bytes_of_latency() as isize - before as isize;
        }
        self.shards[shard].grow(grown);
        self.shards[shard].touch(customer, self.round);
        let bad = measures.bad + measures.slow;
        if bad > 0 {
            self.shards[shard].heat(customer, service, at.minute, bad);
        }
    }

    /// Folds rows of the grain `series` that the table holds, on all cores.
    pub fn fold_batches(&mut self, batches: &[SeriesBatch]) {
        self.load += batches.iter().map(|batch| batch.load).sum::<u128>();
        if self.load > LOAD_MAX {
            self.is_overloaded = true;
            return;
        }
        let values = &mut self.dimensions.values;
        let mut numbers = |batch: &SeriesBatch| -> Vec<u32> {
            batch.services.iter().map(|service| values.intern(service)).collect()
        };
        let services: Vec<Vec<u32>> = batches.iter().map(&mut numbers).collect();
        self.newest = self.newest.max(batches.iter().filter_map(|batch| batch.newest).max());
        let (dimensions, further, round) = (&self.dimensions, self.further, self.round);
        let newest = self.newest.unwrap_or_default();
        let kinds = self.kinds.list();
        let folding = Folding { dimensions, kinds, further, newest, round };
        let of_shard = |(number, shard): (usize, &mut Shard)| {
            let mut pools = PoolCells::default();
            for (batch, services) in batches.iter().zip(&services) {
                shard.fold_rows(&batch.parts[number], services, folding, &mut pools);
            }
            pools
        };
        let work: Vec<PoolCells> = self.shards.par_iter_mut().enumerate().map(of_shard).collect();
        self.add_to_pools(work);
    }

    /// Adds what shards have folded to the pools, and to the fleet.
    fn add_to_pools(&mut self, work: impl IntoIterator<Item = PoolCells>) {
        // Sorted, since minutes are cheapest to add in their order.
        let mut pools: BTreeMap<(u16, u32, Minute), PoolCell> = BTreeMap::new();
        for (place, mut cell) in work.into_iter().flatten() {
            let new = || PoolCell::new(self.further);
            pools.entry(place).or_insert_with(new).take(&mut cell);
        }
        let mut fleet: BTreeMap<Minute, Measures> = BTreeMap::new();
        for ((pool, service, minute), cell) in &pools {
            fleet.entry(*minute).or_default().add(&cell.measures);
            let name = self.dimensions.values.text(*service);
            self.pools.add((*pool, *service), name, *minute, cell);
        }
        for (minute, measures) in fleet {
            if measures != Measures::default() {
                self.fleet.add(minute, &measures);
            }
        }
    }

    /// Folds a row of the grain `sli` that the table holds.
    pub fn fold_sli(&mut self, at: Key<'_>, sli: usize, counts: Counts) {
        self.fold_sli_of_fleet(at, sli, counts);
        self.fold_sli_of_customer(at, sli, counts);
    }

    /// Folds such a row into the sums over many alone.
    pub fn fold_sli_of_fleet(&mut self, at: Key<'_>, sli: usize, counts: Counts) {
        let mut cell = PoolCell::new(self.further);
        cell.further[sli] = counts;
        self.add_to_pool(at, &cell);
    }

    /// Folds such a row into its series alone.
    pub fn fold_sli_of_customer(&mut self, at: Key<'_>, sli: usize, counts: Counts) {
        let (shard, customer, service) = self.place(at);
        let series = self.shards[shard].series(customer, service, &self.dimensions, self.further);
        let grown = series.add_further_sized(sli, at.minute, counts);
        self.shards[shard].grow(grown);
        if counts.bad > 0 {
            self.shards[shard].heat(customer, service, at.minute, counts.bad);
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
        self.recent_rows_where(dimensions, |_, _| true)
    }

    /// As [`State::recent_rows`], of one service and some minutes, both ends included.
    pub fn recent_rows_of(
        &self,
        service: &str,
        minutes: &RangeInclusive<Minute>,
        dimensions: usize,
    ) -> Vec<Row<'_>> {
        let Some(service) = self.dimensions.values.find(service) else { return Vec::new() };
        self.recent_rows_where(dimensions, |minute, of| of == service && minutes.contains(&minute))
    }

    fn recent_rows_where(
        &self,
        dimensions: usize,
        is_wanted: impl Fn(Minute, u32) -> bool,
    ) -> Vec<Row<'_>> {
        let text = |value: u32| self.dimensions.values.text(value);
        let recent = self.shards.iter().flat_map(|shard| &shard.recent);
        let row = |((minute, tuple), counts): (&(Minute, u32), &Counts)| {
            let tuple = self.dimensions.tuple(*tuple);
            if !is_wanted(*minute, tuple.service) {
                return None;
            }
            let values = tuple.dimensions[..dimensions].iter().map(|value| text(*value)).collect();
            let (service, Counts { valid, bad, .. }) = (text(tuple.service), *counts);
            Some(Row { minute: *minute, service, values, valid, bad })
        };
        recent.filter_map(row).collect()
    }

    /// One series, where memory has all of it.
    pub fn series(&self, customer: &str, service: &str) -> Option<&Series> {
        let shard = &self.shards[block::shard_of(self.seed, customer)];
        if shard.may_lack(customer) {
            return None;
        }
        shard.series_of(customer).find(|series| *series.service == *service)
    }

    /// How many series of a service had events in some minutes, both ends included.
    pub fn active_series(&self, service: &str, minutes: RangeInclusive<Minute>) -> u64 {
        let Some(service) = self.dimensions.values.find(service) else { return 0 };
        self.shards.par_iter().map(|shard| shard.active_series(service, &minutes)).sum()
    }

    /// The series of one customer, sorted by service.
    pub fn series_of(&self, customer: &str) -> Vec<&Series> {
        let shard = &self.shards[block::shard_of(self.seed, customer)];
        let mut series: Vec<&Series> = shard.series_of(customer).collect();
        series.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        series
    }

    /// By what it can be told later whether the series of a customer are what they are now.
    pub fn seal_of(&self, customer: &str) -> Seal {
        let shard = &self.shards[block::shard_of(self.seed, customer)];
        Seal { identity: Arc::clone(&self.identity), changed: shard.changed(customer) }
    }

    /// All series that are whole, sorted by customer, then service. Those of customers of whom
    /// the table may hold more are left out.
    pub fn all_series(&self) -> Vec<&Series> {
        self.series_where(|_| true)
    }

    /// Those of [`State::all_series`] that are wanted.
    pub fn series_where(&self, is_wanted: impl Fn(&Series) -> bool + Sync) -> Vec<&Series> {
        let wanted = |shard| Shard::all_series(shard).filter(|series| is_wanted(series));
        let mut series: Vec<&Series> = self.shards.par_iter().flat_map_iter(wanted).collect();
        series
            .par_sort_unstable_by(|a, b| (&a.customer, &a.service).cmp(&(&b.customer, &b.service)));
        series
    }

    /// As [`State::all_series`], in no order, but those of one customer together.
    pub fn whole_series(&self) -> Vec<&Series> {
        self.shards.iter().flat_map(Shard::all_series).collect()
    }

    /// The numbers of a block's kinds.
    fn admit(&mut self, block: &Block) -> Vec<u32> {
        let admit = |tuple| self.dimensions.admit_tuple(block.partition, tuple);
        let tuples: Vec<u32> = block.tuples.iter().map(admit).collect();
        let number = |kind: &Kind| match *kind {
            Kind::NOTHING => Kind::NOTHING_NUMBER,
            kind => self.kinds.number(Kind { tuple: tuples[kind.tuple as usize], ..kind }),
        };
        block.kinds.iter().map(number).collect()
    }

    /// Drops the latencies and the counts by dimension that are older than the last hours.
    pub fn forget(&mut self) {
        if let Some(newest) = self.newest {
            self.shards.par_iter_mut().for_each(|shard| shard.forget(newest));
            self.fleet.forget(newest.minus(HISTOGRAM_MINUTES));
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
        (shard, self.shards[shard].customer(at.customer), service)
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

/// Which series are kept because they may come to fire without a further bad event: those with
/// a bad event since `last_bad`, and with `bad_min` bad events since `since`.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// See above.
    pub last_bad: Minute,
    /// See above.
    pub since: Minute,
    /// See above.
    pub bad_min: u64,
}

/// What measures add to any sum at most.
fn load_of(measures: &Measures) -> u128 {
    let Measures { valid, excluded, timed, latency_sum_us, .. } = *measures;
    [valid, excluded, timed, latency_sum_us].map(u128::from).iter().sum()
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
