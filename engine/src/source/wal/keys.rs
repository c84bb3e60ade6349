//! Idempotency keys: what was accepted under each, so that a repetition is answered, not written.
//!
//! Keys are kept as 128 bits of SHA-256, some 60 bytes each with their entry, in the order in
//! which they came. The oldest are forgotten first: past the horizon, or where there are more
//! than the bound.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};

/// A key, as it is kept.
pub(super) type KeyHash = [u8; 16];

/// What was accepted under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) count: u32,
    /// Of the batch: another one under the same key is a mistake of the client.
    pub(super) digest: u32,
}

/// The keys of a log.
pub(super) struct Keys {
    known: HashMap<KeyHash, Known, foldhash::fast::RandomState>,
    /// Arrival times and keys, the oldest first.
    order: VecDeque<(i64, KeyHash)>,
    count_max: usize,
}

impl Keys {
    pub(super) fn new(count_max: usize) -> Keys {
        Keys { known: HashMap::default(), order: VecDeque::new(), count_max }
    }

    pub(super) fn get(&self, key: &KeyHash) -> Option<Known> {
        self.known.get(key).copied()
    }

    pub(super) fn insert(&mut self, time_ms: i64, key: KeyHash, known: Known) {
        if self.known.insert(key, known).is_none() {
            self.order.push_back((time_ms, key));
        }
        while self.order.len() > self.count_max {
            self.forget_oldest();
        }
    }

    /// Forgets what came before a time.
    pub(super) fn forget_before(&mut self, time_ms: i64) {
        while self.order.front().is_some_and(|(came, _)| *came < time_ms) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.known.remove(&key);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.known.len()
    }
}

pub(super) fn hash(key: &[u8]) -> KeyHash {
    let digest: [u8; 32] = Sha256::digest(key).into();
    *digest.first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_by_time_and_by_number() {
        let mut keys = Keys::new(3);
        let known = Known { count: 1, digest: 2 };
        for (time_ms, key) in [(10, b"a"), (20, b"b"), (30, b"c"), (30, b"c"), (40, b"d")] {
            keys.insert(time_ms, hash(key), known);
        }
        let is_known = |keys: &Keys, key: &[u8]| keys.get(&hash(key)).is_some();
        assert_eq!((is_known(&keys, b"a"), is_known(&keys, b"b")), (false, true));
        keys.forget_before(40);
        assert_eq!((is_known(&keys, b"c"), is_known(&keys, b"d")), (false, true));
        assert_eq!(keys.count(), 1);
    }
}
