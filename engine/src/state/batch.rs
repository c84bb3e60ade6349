//! Rows of the table on their way into series: sorted to their shards on the thread that has read
//! them, so that all shards take theirs at once.
//!
//! Invariants: a batch owns all its text; what it says of a service is a place in its own list
//! until [`super::State::fold_batches`] translates it. Rows may come in any order; those of one
//! customer that follow each other, as files have them, cost one look at the name.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::block::{SHARDS, shard_of};
use super::runs::Runs;
use super::{Key, load_of};
use crate::model::Measures;
use crate::slo::histogram::Histogram;
use crate::time::Minute;

/// Rows of the grain `series`.
pub struct SeriesBatch {
    seed: u64,
    pub(super) parts: Vec<Part>,
    pub(super) services: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32, RandomState>,
    /// The newest minute of a row.
    pub(super) newest: Option<Minute>,
    /// A bound on every sum of them.
    pub(super) load: u128,
    /// The shard of the newest row.
    shard: usize,
}

/// The part of a batch that goes to one shard.
pub(super) type Part = Runs<Row>;

/// One row of a part.
pub(super) struct Row {
    pub(super) service: u32,
    pub(super) minute: Minute,
    pub(super) measures: Measures,
    pub(super) latency: Option<Box<Histogram>>,
}

impl SeriesBatch {
    /// An empty one, for a state of this seed.
    pub fn new(seed: u64) -> SeriesBatch {
        SeriesBatch {
            seed,
            parts: (0..SHARDS).map(|_| Part::default()).collect(),
            services: Vec::new(),
            numbers: HashMap::default(),
            newest: None,
            load: 0,
            shard: 0,
        }
    }

    /// Adds a row.
    pub fn push(&mut self, at: Key<'_>, measures: &Measures, latency: Option<Histogram>) {
        if self.parts[self.shard].last_name() != Some(at.customer) {
            self.shard = shard_of(self.seed, at.customer);
            self.parts[self.shard].begin(at.customer);
        }
        let service = self.service(at.service);
        let (minute, measures, latency) = (at.minute, *measures, latency.map(Box::new));
        self.parts[self.shard].push(Row { service, minute, measures, latency });
        self.newest = self.newest.max(Some(minute));
        self.load += load_of(&measures);
    }

    fn service(&mut self, name: &str) -> u32 {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        let number = self.services.len() as u32;
        self.services.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }
}
