//! A state as bytes and back: one *part* for each shard, and one for the sums over everybody.
//!
//! Each part may be of another moment: whoever keeps parts keeps with each of them up to where
//! it was counted, and folds what came since ([`State::restore`]). Packed minutes are written as
//! they stand, so that reading a part is little more than copying it.
//!
//! Numbers are LEB128; texts and runs of bytes have their length before them. A shard:
//!
//! ```text
//! evictions │ words of the evicted │ customers │ per customer: name, round, whether it is partial,
//!   series │ per series: service, minutes, minutes of each further SLI, histograms, heat
//! ```
//!
//! The sums over everybody: the minutes of all, and of each pool and service with their names.
//!
//! Not in it: counts by dimension, which are few and read from the table; names of dimension
//! values, which partitions bring along when they begin.
//!
//! Invariants: what does not hold together is refused as a whole, and reading never panics on
//! any bytes; minutes are trusted to be what was written, so the bytes have a checksum around
//! them. A customer stands in the shard of its hash, and once.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::State;
use super::block::{SHARDS, shard_of};
use super::pools::PoolSeries;
use super::series::Series;
use super::shard::Shard;
pub(super) use crate::leb128::push_number;
use crate::slo::pool::Pools;
use crate::time::Minute;

/// How many parts a state has: its shards, and the sums over everybody.
pub const PARTS: usize = SHARDS + 1;

/// The part that holds the sums over everybody.
pub const FLEET: usize = SHARDS;

/// What a part is read with.
pub struct Restoring<'a> {
    /// The seed of the hash that sent customers to shards.
    pub seed: u64,
    /// How many further SLIs the series have.
    pub further: usize,
    /// Minutes before this one are left out.
    pub from: Minute,
    /// The numbers that services had, with those that they have now, and their names.
    pub services: &'a HashMap<u32, (u32, Arc<str>)>,
    /// By the number that a partition had: the one that it has now.
    pub partitions: &'a [u16],
    /// Which customer is in which pool.
    pub pools: &'a Arc<Pools>,
}

/// What tells one build's hash from another's: where it differs, customers belong elsewhere.
pub fn hash_probe(seed: u64) -> u64 {
    FixedState::with_seed(seed).hash_one("ninefold")
}

impl State {
    /// A part as bytes, and the services that it names by number.
    ///
    /// # Panics
    /// If there is no such part, or a record that no commit has taken: its offsets are not in
    /// the table, and would be counted again.
    pub fn part(&self, part: usize) -> (Vec<u8>, Vec<(u32, String)>) {
        assert_eq!(self.pending(), 0, "a snapshot is taken at a commit boundary");
        if part == FLEET {
            let mut out = Vec::new();
            self.fleet.write(&mut out);
            self.pools.write(&mut out);
            return (out, Vec::new());
        }
        let shard = &self.shards[part];
        // About what it will take: growing would copy it again and again.
        let mut out = Vec::with_capacity(shard.bytes());
        shard.write(&mut out);
        (out, shard.services().map(|(id, name)| (id, name.to_owned())).collect())
    }

    /// How many bytes names and series of a part take, as [`State::bytes`] tells of all.
    pub fn part_bytes(&self, part: usize) -> usize {
        self.shards.get(part).map_or(0, Shard::bytes) / 4 * 5
    }

    /// How often idle customers were looked for: what their last rounds are counted in.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// Puts shards and the sums over everybody, as they were read, into an empty state. What of
    /// them is older than others is folded by [`State::fold_customer`] and [`State::fold_fleet`].
    ///
    /// # Panics
    /// If the state is not empty, or the shards are not as many as it has.
    pub fn restore(
        &mut self,
        shards: Vec<Shard>,
        (fleet, pools): (Series, PoolSeries),
        newest: Option<Minute>,
        round: u32,
    ) {
        assert!(self.newest.is_none() && shards.len() == SHARDS, "an empty state gets all parts");
        self.load = super::load_of(&fleet.sum(Minute(0)..=Minute(u32::MAX)));
        self.is_overloaded = self.load > super::LOAD_MAX;
        (self.shards, self.fleet, self.pools) = (shards, fleet, pools);
        (self.newest, self.round) = (newest, round);
    }
}

/// Reads one shard; `None` where the bytes are none.
pub fn read_shard(number: usize, bytes: &[u8], with: &Restoring<'_>) -> Option<Shard> {
    let mut reader = Reader { bytes };
    let belongs = |name: &str| shard_of(with.seed, name) == number;
    let shard = Shard::read(&mut reader, &belongs, with)?;
    reader.bytes.is_empty().then_some(shard)
}

/// Reads the sums over everybody and those of the pools; `None` where the bytes are none.
/// `number` gives a service its number.
pub fn read_fleet(
    bytes: &[u8],
    from: Minute,
    (pools, further): (&Arc<Pools>, usize),
    number: &dyn Fn(&str) -> Option<u32>,
) -> Option<(Series, PoolSeries)> {
    let mut reader = Reader { bytes };
    let mut fleet = Series::read(&mut reader, Arc::from(""), Arc::from(""), 0)?;
    fleet.forget_before(from);
    let pools = PoolSeries::read(&mut reader, (pools, further), number)?;
    reader.bytes.is_empty().then_some((fleet, pools))
}

/// Takes bytes from the front; every read is `None` where they do not suffice.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A LEB128 number of at most 64 bits.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number of at most 32 bits.
    pub fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    /// A minute.
    pub fn minute(&mut self) -> Option<Minute> {
        self.small().map(Minute)
    }

    /// 0 or 1.
    pub fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A run of bytes with its length before it.
    pub fn run(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (run, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(run)
    }

    /// Eight bytes, the lowest first.
    pub fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u64::from_le_bytes(*word))
    }

    /// A text with its length before it.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.run()?).ok()
    }
}

/// Appends bytes with their length before them.
pub(super) fn push_run(bytes: &mut Vec<u8>, run: &[u8]) {
    push_number(bytes, run.len() as u64);
    bytes.extend_from_slice(run);
}
