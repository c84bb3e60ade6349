//! Which customers of a shard may have been evicted: a bit array of fixed size.
//!
//! It never misses one that was; it may name one that was not, which costs a look into the
//! table and nothing else. Nothing is ever taken out of it.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::snapshot::{Reader, push_number};

/// A Bloom filter with three bits for a name; of all 32 shards together 16 MiB. With 10 million
/// names every fifth bit is set, and every 120th stranger is taken for one that was evicted.
const BITS: usize = 1 << 22;

/// The customers that may have been evicted.
pub struct Evicted {
    hasher: FixedState,
    /// Empty until the first eviction: 512 KiB after it.
    words: Vec<u64>,
    count: u64,
}

impl Evicted {
    /// Nobody yet; hashed by the seed of the state, turned over: the shard of a name says nothing
    /// of its bits.
    pub fn new(seed: u64) -> Evicted {
        Evicted { hasher: FixedState::with_seed(!seed), words: Vec::new(), count: 0 }
    }

    /// Appends it to bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        push_number(out, self.count);
        push_number(out, self.words.len() as u64);
        self.words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }

    /// Reads what [`Evicted::write`] has written of a state of this seed.
    pub(super) fn read(reader: &mut Reader<'_>, seed: u64) -> Option<Evicted> {
        let (count, words) = (reader.number()?, reader.number()?);
        if ![0, BITS as u64 / 64].contains(&words) {
            return None;
        }
        let words = (0..words).map(|_| reader.word()).collect::<Option<Vec<u64>>>()?;
        Some(Evicted { words, count, ..Evicted::new(seed) })
    }

    /// Takes note of a customer.
    pub fn insert(&mut self, customer: &str) {
        if self.words.is_empty() {
            self.words = vec![0; BITS / 64];
        }
        for bit in self.bits(customer) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
        self.count += 1;
    }

    /// Whether a customer may have been evicted.
    pub fn may_hold(&self, customer: &str) -> bool {
        let is_set = |bit: usize| self.words[bit / 64] & 1 << (bit % 64) != 0;
        !self.words.is_empty() && self.bits(customer).into_iter().all(is_set)
    }

    /// How often a customer was evicted.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn bits(&self, customer: &str) -> [usize; 3] {
        let hash = self.hasher.hash_one(customer);
        [0, 21, 42].map(|shift| (hash >> shift) as usize % BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_missed_and_few_are_taken_for_another() {
        let mut evicted = Evicted::new(7);
        assert!(!evicted.may_hold("c0"));
        (0..1_000).for_each(|n| evicted.insert(&format!("c{n}")));
        assert!((0..1_000).all(|n| evicted.may_hold(&format!("c{n}"))));
        let strangers = (10_000..20_000).filter(|n| evicted.may_hold(&format!("c{n}"))).count();
        assert!(strangers < 10, "{strangers}");
        assert_eq!(evicted.count(), 1_000);
    }
}
