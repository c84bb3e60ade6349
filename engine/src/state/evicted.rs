//! Which customers of a shard may have been evicted: a bit array of fixed size.
//!
//! It never misses one that was; it may name one that was not, which costs a look into the
//! table and nothing else. Nothing is ever taken out of it.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// A Bloom filter with three bits for a name; of all 32 shards together 16 MiB. With 10 million
/// names every fifth bit is set, and every 120th stranger is taken for one that was evicted.
const BITS: usize = 1 << 22;

/// The customers that may have been evicted.
#[derive(Default)]
pub struct Evicted {
    hasher: RandomState,
    /// Empty until the first eviction: 512 KiB after it.
    words: Vec<u64>,
    count: u64,
}

impl Evicted {
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
        let mut evicted = Evicted::default();
        assert!(!evicted.may_hold("c0"));
        (0..1_000).for_each(|n| evicted.insert(&format!("c{n}")));
        assert!((0..1_000).all(|n| evicted.may_hold(&format!("c{n}"))));
        let strangers = (10_000..20_000).filter(|n| evicted.may_hold(&format!("c{n}"))).count();
        assert!(strangers < 10, "{strangers}");
        assert_eq!(evicted.count(), 1_000);
    }
}
