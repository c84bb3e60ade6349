//! The counts of pools: all their customers together, evicted ones included.
//!
//! What is folded into the series of a customer is added here too, at the same moment, so that
//! for every minute kept a pool has the sum of its customers, whoever is in memory. It is kept
//! for as long as alerts look back ([`State::forget_pools`](super::State::forget_pools)), and
//! without latencies.

use std::collections::HashMap;
use std::sync::Arc;

use super::series::Series;
use super::snapshot::{Reader, push_number, push_run};
use crate::model::{Counts, Measures};
use crate::slo::pool::Pools;
use crate::time::Minute;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What a batch adds, by number of the pool, number of the service, and minute.
pub type PoolCells = Map<(u16, u32, Minute), PoolCell>;

/// What a batch adds to one minute of a pool and service.
#[derive(Clone, Debug)]
pub struct PoolCell {
    /// The default availability SLI and the first latency SLI.
    pub measures: Measures,
    /// The further SLIs.
    pub further: Vec<Counts>,
}

impl PoolCell {
    /// Nothing, by so many further SLIs.
    pub fn new(further: usize) -> PoolCell {
        PoolCell { measures: Measures::default(), further: vec![Counts::default(); further] }
    }

    /// Adds what another holds, which is nothing afterwards.
    pub fn take(&mut self, other: &mut PoolCell) {
        self.measures.add(&std::mem::take(&mut other.measures));
        for (sum, more) in self.further.iter_mut().zip(&mut other.further) {
            sum.add(std::mem::take(more));
        }
    }
}

/// The series of every pool and service that has had an event. The pool's name stands in the
/// place of the customer's.
#[derive(Default)]
pub struct PoolSeries {
    pools: Arc<Pools>,
    series: Map<(u16, u32), Series>,
    bytes: usize,
}

impl PoolSeries {
    /// Without a series yet.
    pub fn new(pools: Arc<Pools>) -> PoolSeries {
        PoolSeries { pools, ..PoolSeries::default() }
    }

    /// Which customer is in which pool.
    pub fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// Adds a minute to the series of a pool and service, whose name is `service`.
    pub fn add(
        &mut self,
        (pool, number): (u16, u32),
        service: &str,
        minute: Minute,
        cell: &PoolCell,
    ) {
        let PoolCell { measures, further } = cell;
        let series = self.series.entry((pool, number)).or_insert_with(|| {
            let series = Series::new(self.pools.shared(pool), Arc::from(service), further.len());
            self.bytes += series.bytes();
            series
        });
        let mut grown = 0;
        if *measures != Measures::default() {
            grown += series.add_sized(minute, measures);
        }
        for (sli, counts) in further.iter().enumerate() {
            if *counts != Counts::default() {
                grown += series.add_further_sized(sli, minute, *counts);
            }
        }
        self.bytes = self.bytes.saturating_add_signed(grown);
    }

    /// Forgets the minutes before `oldest`.
    pub fn forget(&mut self, oldest: Minute) {
        self.series.values_mut().for_each(|series| series.drop_before(oldest));
        self.bytes = self.series.values().map(Series::bytes).sum();
    }

    /// The series of a pool and service.
    pub fn get(&self, pool: u16, service: u32) -> Option<&Series> {
        self.series.get(&(pool, service))
    }

    /// All series, sorted by the names of pool and service.
    pub fn all(&self) -> Vec<&Series> {
        let mut series: Vec<&Series> = self.series.values().collect();
        series.sort_unstable_by(|a, b| (&a.customer, &a.service).cmp(&(&b.customer, &b.service)));
        series
    }

    /// Appends all series: how many, then each with the names of pool and service.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        push_number(out, self.series.len() as u64);
        for series in self.series.values() {
            push_run(out, series.customer.as_bytes());
            push_run(out, series.service.as_bytes());
            series.write(out);
        }
    }

    /// Reads what [`PoolSeries::write`] has written, of the same pools; `None` where it is
    /// something else. `number` gives a service its number.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        (pools, further): (&Arc<Pools>, usize),
        number: &dyn Fn(&str) -> Option<u32>,
    ) -> Option<PoolSeries> {
        let mut read = PoolSeries::new(Arc::clone(pools));
        for _ in 0..reader.number()? {
            let (name, service) = (reader.text()?, reader.text()?);
            let place = (pools.find(name)?, number(service)?);
            let (name, service) = (pools.shared(place.0), Arc::from(service));
            let series = Series::read(reader, name, service, further)?;
            read.bytes += series.bytes();
            if read.series.insert(place, series).is_some() {
                return None;
            }
        }
        Some(read)
    }

    /// How much memory the series take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
