//! Latencies of one row after the other, counted by slot in memory that is used again: what a
//! file of rows is written with.
//!
//! Invariant: a count is above 0 exactly where its bit is set, and a word of bits above 0 exactly
//! where its own is. So a row costs what it holds, in the order of its slots, and nothing is
//! sorted.

use super::histogram::{SLOTS, encode_single_v2, encode_slots_v2, slot_of};

/// How many words hold a bit for each slot; one more holds a bit for each of them.
const WORDS: usize = SLOTS.div_ceil(64) as usize;
const _: () = assert!(WORDS <= 64, "a word has a bit for each word");

/// The latencies of one row.
///
/// ```
/// use ninefold_engine::slo::{histogram::Histogram, tally::Tally};
/// let mut tally = Tally::default();
/// let mut same = Histogram::default();
/// for us in [900, 17, 900] {
///     tally.record(us, 1);
///     same.record(us, 1);
/// }
/// let mut bytes = Vec::new();
/// tally.take_v2(&mut bytes);
/// assert_eq!(Histogram::decode_v2(&bytes), Ok(same));
/// let length = bytes.len();
/// tally.take_v2(&mut bytes);
/// assert_eq!(bytes.len(), length, "the next row begins empty");
/// ```
pub struct Tally {
    counts: Vec<u64>,
    used: [u64; WORDS],
    used_words: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        let counts = vec![0; usize::from(SLOTS)];
        Tally { counts, used: [0; WORDS], used_words: 0 }
    }
}

impl Tally {
    /// Counts a latency `count` times; 0 µs as 1 µs, `count` 0 as nothing.
    #[inline]
    pub fn record(&mut self, us: u32, count: u32) {
        if count > 0 {
            self.add(slot_of(us), count);
        }
    }

    /// The same by its slot; `count` is above 0.
    #[inline]
    pub(crate) fn add(&mut self, slot: u16, count: u32) {
        // The events of an epoch add up to no more than 63 bits.
        self.counts[usize::from(slot)] += u64::from(count);
        self.used[usize::from(slot / 64)] |= 1 << (slot % 64);
        self.used_words |= 1 << (slot / 64);
    }

    /// Appends the V2 encoding of what was counted, nothing where that is nothing, and forgets it.
    pub fn take_v2(&mut self, out: &mut Vec<u8>) {
        if let Some((slot, count)) = self.take_single() {
            return encode_single_v2(slot, count, out);
        }
        let Tally { counts, used, used_words } = self;
        let words = std::mem::take(used_words);
        let slots = bits(words).map(|word| used[usize::from(word)].count_ones()).sum::<u32>();
        if slots == 0 {
            return;
        }
        let of_word = |word: u16| {
            let slots = std::mem::take(&mut used[usize::from(word)]);
            bits(slots).map(move |bit| 64 * word + bit)
        };
        let count = |slot: u16| (slot, std::mem::take(&mut counts[usize::from(slot)]));
        encode_slots_v2(slots as usize, bits(words).flat_map(of_word).map(count), out);
    }

    /// The slot of a row that has only one, with its count; forgets it.
    #[inline]
    fn take_single(&mut self) -> Option<(u16, u64)> {
        let word = self.used_words.trailing_zeros() as u16;
        let bits = self.used.get_mut(usize::from(word))?;
        if !self.used_words.is_power_of_two() || !bits.is_power_of_two() {
            return None;
        }
        let slot = 64 * word + bits.trailing_zeros() as u16;
        (self.used_words, *bits) = (0, 0);
        Some((slot, std::mem::take(&mut self.counts[usize::from(slot)])))
    }
}

/// The places of the bits that are set, from the lowest.
fn bits(mut word: u64) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let lowest = (word > 0).then(|| word.trailing_zeros() as u16);
        word &= word.wrapping_sub(1);
        lowest
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LATENCY_US_MAX;
    use crate::slo::histogram::Histogram;

    #[test]
    fn rows_are_encoded_as_their_histograms_one_after_the_other() {
        let mut tally = Tally::default();
        let mut random = 1_u32;
        for row in 0..500_u32 {
            let mut histogram = Histogram::default();
            for _ in 0..row % 97 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let us = (random >> (row % 30)).min(LATENCY_US_MAX);
                tally.record(us, random % 5);
                histogram.record(us, u64::from(random % 5));
            }
            let (mut bytes, mut expected) = (vec![7], vec![7]);
            tally.take_v2(&mut bytes);
            if !histogram.is_empty() {
                histogram.encode_v2(&mut expected);
            }
            assert_eq!(bytes, expected, "row {row}");
        }
        let mut all = Vec::new();
        tally.record(0, u32::MAX);
        tally.record(LATENCY_US_MAX, u32::MAX);
        tally.take_v2(&mut all);
        let ends = Histogram::decode_v2(&all).unwrap();
        let (lowest, highest) = (slot_of(0), slot_of(LATENCY_US_MAX));
        assert_eq!(ends.slots(), [(lowest, u32::MAX.into()), (highest, u32::MAX.into())]);
    }
}
