//! Latency histograms: sparse (slot, count) pairs in the layout of HdrHistogram, 1 µs to 1 h,
//! 2 significant digits.
//!
//! **Layout.** With lowest value 1 and 2 digits every value below 256 has its own slot; from
//! there each doubling has 128 slots, so a slot is at most 1/128 of its value wide. With
//! `b = 24 - leading_zeros32(us | 255)` (how many doublings past 255) the slot is
//! `128 * b + (us >> b)`: 300 µs has b = 1 and slot 128 + 150 = 278, which spans 300 to 301.
//! The slots of a dense HdrHistogram for 1 to 3,600,000,000 end at 3,328; every `u32` has one.
//! Half of all customer-minutes use a single slot, so pairs are kept, not 26 KB of counts.
//!
//! **V2 encoding**, big-endian: cookie `0x1c849313`, length of the payload, normalizing offset
//! (0), digits (2), each 4 bytes; lowest and highest value, conversion ratio as `f64` (1.0),
//! each 8 bytes. Payload: for the slots from 0 to the last used one, ZigZag LEB128 numbers of at
//! most 9 bytes: a count, or minus the length of a run of two or more empty slots; one empty
//! slot is the count 0. An empty histogram has the payload `[0]`. Source: HdrHistogram's
//! `encodeIntoByteBuffer`; tests compare with the `hdrhistogram` crate byte by byte.
//!
//! Invariants: pairs are sorted by slot, no slot twice, no count 0, slots below
//! [`SLOTS`], the total fits 63 bits.

use crate::model::LATENCY_US_MAX;

/// How many slots the dense form has.
pub const SLOTS: u16 = 3_328;

/// The bytes before the payload of the V2 encoding.
const HEADER_SIZE: usize = 40;
/// The header with a payload length of 0.
const HEADER: [u8; HEADER_SIZE] = header();
/// Where the length of the payload stands in the header.
const LENGTH_AT: usize = 4;
/// The longest a number of the payload may be.
const VARINT_SIZE_MAX: usize = 9;

/// The slot of a latency; 0 is recorded as 1.
///
/// ```
/// use ninefold_engine::slo::histogram::slot_of;
/// assert_eq!((slot_of(0), slot_of(255), slot_of(300), slot_of(301)), (1, 255, 278, 278));
/// ```
#[inline]
pub fn slot_of(us: u32) -> u16 {
    let us = us | u32::from(us == 0);
    let doublings = 24 - (us | 255).leading_zeros();
    (128 * doublings + (us >> doublings)) as u16
}

/// The lowest and the highest value of a slot, in microseconds.
pub fn slot_range_us(slot: u16) -> std::ops::RangeInclusive<u64> {
    let doublings = (slot / 128).saturating_sub(1);
    let lowest = u64::from(slot - 128 * doublings) << doublings;
    lowest..=lowest + (1 << doublings) - 1
}

/// Why bytes are no histogram of this layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// Fewer bytes than the header, or a number that does not end.
    #[error("the histogram ends early, at byte {0}")]
    Truncated(usize),
    /// Another format or version.
    #[error("cookie {0:#010x} is not that of an uncompressed HdrHistogram V2 (0x1c849313)")]
    Cookie(u32),
    /// Another range, precision or unit.
    #[error("the histogram is not 1 to 3600000000 with 2 digits, offset 0 and ratio 1")]
    Layout,
    /// The header and the bytes disagree.
    #[error("the header says {header} bytes of payload, there are {found}")]
    Length {
        /// What the header says.
        header: u32,
        /// How many there are.
        found: usize,
    },
    /// Counts beyond the last slot.
    #[error("the histogram goes past slot {}", SLOTS - 1)]
    Slots,
    /// A sum past 63 bits.
    #[error("the counts of the histogram do not fit 63 bits")]
    Counts,
}

/// A sparse latency histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Sorted by slot, no slot twice, no count zero.
    slots: Vec<(u16, u64)>,
}

impl Histogram {
    /// From pairs that are sorted by slot.
    ///
    /// # Panics
    /// If a slot comes twice or out of order, is past the end, or a count is 0.
    pub fn from_slots(slots: Vec<(u16, u64)>) -> Histogram {
        assert!(slots.is_sorted_by(|a, b| a.0 < b.0), "slots are sorted and come once");
        assert!(slots.iter().all(|&(slot, count)| slot < SLOTS && count > 0), "slots are used");
        Histogram { slots }
    }

    /// The pairs (slot, count), sorted by slot.
    pub fn slots(&self) -> &[(u16, u64)] {
        &self.slots
    }

    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.slots.iter().map(|(_, count)| count).sum()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Records a latency `count` times; 0 µs as 1 µs, `count` 0 as nothing.
    pub fn record(&mut self, us: u32, count: u64) {
        self.add(slot_of(us), count);
    }

    /// Adds `count` to a slot.
    ///
    /// # Panics
    /// If the slot is past the end or the count of the slot leaves 64 bits.
    pub fn add(&mut self, slot: u16, count: u64) {
        assert!(slot < SLOTS, "slot {slot} is past the end");
        if count == 0 {
            return;
        }
        match self.slots.binary_search_by_key(&slot, |pair| pair.0) {
            Ok(at) => self.slots[at].1 = sum(self.slots[at].1, count),
            Err(at) => {
                if self.slots.len() == self.slots.capacity() {
                    // From one on: half of all minutes of customers use a single slot.
                    self.slots.reserve_exact(self.slots.len().max(1));
                }
                self.slots.insert(at, (slot, count));
            }
        }
    }

    /// How much memory it has behind its own size, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<(u16, u64)>()
    }

    /// Adds everything that `other` holds.
    pub fn merge(&mut self, other: &Histogram) {
        let after = self.slots.last().map_or(0, |pair| pair.0 + 1);
        match other.slots.first() {
            None => {}
            Some(first) if first.0 >= after => self.slots.extend_from_slice(&other.slots),
            // A few pairs are added in place, many in one pass over both.
            Some(_) if other.slots.len() <= 4 => {
                other.slots.iter().for_each(|&(slot, count)| self.add(slot, count));
            }
            Some(_) => self.slots = merged(&self.slots, &other.slots),
        }
    }

    /// All of several together.
    ///
    /// # Panics
    /// If the count of a slot leaves 64 bits.
    pub fn sum<'a>(histograms: impl Iterator<Item = &'a Histogram> + Clone) -> Histogram {
        // Which slots are used, a bit each, and how many are in the words before: that says where
        // each slot stands among the used ones, so that no pair is moved as others come.
        let mut used = [0_u64; SLOTS.div_ceil(64) as usize];
        for (slot, _) in histograms.clone().flat_map(|one| &one.slots) {
            used[usize::from(slot / 64)] |= 1 << (slot % 64);
        }
        let mut before = [0_u16; SLOTS.div_ceil(64) as usize];
        let mut slots = Vec::new();
        for (word, bits) in (0..).zip(used) {
            before[usize::from(word)] = slots.len() as u16;
            let mut left = bits;
            while left > 0 {
                slots.push((64 * word + left.trailing_zeros() as u16, 0));
                left &= left - 1;
            }
        }
        for (slot, count) in histograms.flat_map(|one| &one.slots) {
            let word = usize::from(slot / 64);
            let lower = used[word] & ((1 << (slot % 64)) - 1);
            let known: &mut u64 =
                &mut slots[usize::from(before[word]) + lower.count_ones() as usize].1;
            *known = sum(*known, *count);
        }
        Histogram { slots }
    }

    /// The value below or at which the share `quantile` of the values lies, in microseconds:
    /// the highest value of the slot of element `ceil(quantile * count)` (at least the first),
    /// as HdrHistogram's `value_at_quantile`; for quantile 0 the lowest value of the first used
    /// slot. `None` where it holds nothing. Above 1 counts as 1.
    pub fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let quantile = quantile.min(1.0);
        let rank = ((quantile * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = |&&(_, count): &&(u16, u64)| {
            seen += count;
            seen >= rank
        };
        // Rounding may lift the rank past the count where that has more than 53 bits.
        let found = self.slots.iter().find(reached).or(self.slots.last())?;
        let range = slot_range_us(found.0);
        Some(if quantile == 0.0 { *range.start() } else { *range.end() })
    }

    /// The same as a dense HdrHistogram.
    pub fn to_hdr(&self) -> hdrhistogram::Histogram<u64> {
        let mut dense = hdrhistogram::Histogram::new_with_bounds(1, u64::from(LATENCY_US_MAX), 2)
            .expect("the bounds are those of the layout");
        for &(slot, count) in &self.slots {
            let value = *slot_range_us(slot).start();
            dense.record_n(value, count).expect("every slot is within the bounds");
        }
        dense
    }

    /// Appends the V2 encoding; see [`encode_v2`].
    pub fn encode_v2(&self, out: &mut Vec<u8>) {
        encode_v2(&self.slots, out);
    }

    /// Reads the V2 encoding of a histogram of this layout, and nothing behind it. Memory is
    /// bounded by the number of bytes given, whatever they hold.
    ///
    /// # Errors
    /// Another format, range or precision, truncated or surplus bytes, counts past the last
    /// slot or past 63 bits in sum.
    pub fn decode_v2(bytes: &[u8]) -> Result<Histogram, HistogramError> {
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
            return Err(HistogramError::Truncated(bytes.len()));
        };
        check_header(header, payload.len())?;
        let mut slots = Vec::new();
        let (mut at, mut slot, mut total) = (0, 0_u64, 0_u64);
        while at < payload.len() {
            let (number, size) = read_number(&payload[at..])
                .ok_or(HistogramError::Truncated(HEADER_SIZE + payload.len()))?;
            at += size;
            if slot >= u64::from(SLOTS) || (number < 0 && number.unsigned_abs() > u64::from(SLOTS))
            {
                return Err(HistogramError::Slots);
            }
            if number > 0 {
                total = total.checked_add(number.unsigned_abs()).ok_or(HistogramError::Counts)?;
                slots.push((slot as u16, number.unsigned_abs()));
            }
            slot += if number < 0 { number.unsigned_abs() } else { 1 };
        }
        let whole = slot <= u64::from(SLOTS);
        let fits = i64::try_from(total).is_ok();
        match (whole, fits) {
            (false, _) => Err(HistogramError::Slots),
            (_, false) => Err(HistogramError::Counts),
            _ => {
                // Most are kept for hours, and half of them have a single slot.
                slots.shrink_to_fit();
                Ok(Histogram { slots })
            }
        }
    }
}

/// Appends the V2 encoding of sorted (slot, count) pairs to `out`, byte for byte what
/// HdrHistogram's own V2 serializer writes of the same values.
///
/// # Panics
/// If a count does not fit 63 bits. In debug builds also if the pairs are not sorted.
pub fn encode_v2(slots: &[(u16, u64)], out: &mut Vec<u8>) {
    encode_slots_v2(slots.len(), slots.iter().copied(), out);
}

/// The same of slots that come one after the other, `slots` of them at most.
#[inline]
pub(crate) fn encode_slots_v2(
    slots: usize,
    each: impl Iterator<Item = (u16, u64)>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&HEADER);
    let payload = out.len();
    // Where the next one goes to would be read from memory if they were pushed. One takes three
    // bytes at most, but for large counts.
    out.resize(payload + 3 * slots + size_of::<u32>(), 0);
    let (mut at, mut next) = (payload, 0);
    each.for_each(|(slot, count)| {
        debug_assert!(slot >= next && slot < SLOTS && count > 0, "pairs are sorted");
        assert!(count <= i64::MAX as u64, "a count fits 63 bits");
        // A run of n is -n, whose ZigZag form is 2n - 1; a single empty slot is a count of 0. It
        // takes two bytes at most. Without branches, which would guess wrong for half of them.
        let gap = u32::from(slot - next);
        let run = if gap < 2 { 0 } else { 2 * gap - 1 };
        let is_long = u32::from(run >= 0x80);
        let run_bytes = u32::from(gap > 0) + is_long;
        let run = (run & 0x7f) | (is_long << 7) | (run >> 7 << 8);
        // Most counts take one byte, behind the run.
        let is_small = count < 0x40;
        let count_byte = if is_small { 2 * count as u32 } else { 0 };
        let bytes = (run | (count_byte << (8 * run_bytes))).to_le_bytes();
        out[at..at + bytes.len()].copy_from_slice(&bytes);
        at += run_bytes as usize + usize::from(is_small);
        if !is_small {
            out.resize(out.len() + VARINT_SIZE_MAX, 0);
            at += write_number(2 * count, &mut out[at..]);
        }
        next = slot + 1;
    });
    // That of nothing is one empty slot.
    out.truncate(at.max(payload + 1));
    let length = (out.len() - payload) as u32;
    out[start + LENGTH_AT..start + LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
}

/// The same of one slot, which is all that most rows have.
pub(crate) fn encode_single_v2(slot: u16, count: u64, out: &mut Vec<u8>) {
    // Two bytes for the run before it and one for its count; few are shorter or longer.
    if slot <= 64 || count >= 64 {
        return encode_v2(&[(slot, count)], out);
    }
    let run = 2 * slot - 1;
    let mut encoded = [0; HEADER_SIZE + 3];
    encoded[..HEADER_SIZE].copy_from_slice(&HEADER);
    encoded[LENGTH_AT + 3] = 3;
    encoded[HEADER_SIZE..].copy_from_slice(&[run as u8 | 0x80, (run >> 7) as u8, 2 * count as u8]);
    out.extend_from_slice(&encoded);
}

/// Writes a ZigZag number in LEB128 of at most 9 bytes, the ninth of which holds 8 bits. How many
/// it takes.
#[inline]
fn write_number(mut zigzag: u64, out: &mut [u8]) -> usize {
    let mut at = 0;
    while at < VARINT_SIZE_MAX - 1 && zigzag >= 0x80 {
        out[at] = zigzag as u8 | 0x80;
        zigzag >>= 7;
        at += 1;
    }
    out[at] = zigzag as u8;
    at + 1
}

/// Reads a number and how many bytes it took; `None` where it does not end.
fn read_number(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut zigzag = 0_u64;
    for (index, &byte) in bytes.iter().take(VARINT_SIZE_MAX).enumerate() {
        let last = index == VARINT_SIZE_MAX - 1;
        let bits = if last { byte } else { byte & 0x7f };
        zigzag |= u64::from(bits) << (7 * index);
        if last || byte < 0x80 {
            let number = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
            return Some((number, index + 1));
        }
    }
    None
}

/// The header with a payload length of 0.
const fn header() -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    let fields: [(usize, u64); 5] = [
        (0, 0x1c84_9313 << 32),
        (8, 2),
        (16, 1),
        (24, LATENCY_US_MAX as u64),
        (32, 1.0_f64.to_bits()),
    ];
    let mut index = 0;
    while index < fields.len() {
        let (at, value) = fields[index];
        let field = value.to_be_bytes();
        let mut byte = 0;
        while byte < 8 {
            bytes[at + byte] = field[byte];
            byte += 1;
        }
        index += 1;
    }
    bytes
}

/// Whether a header is ours and its length that of the payload.
fn check_header(header: &[u8; HEADER_SIZE], found: usize) -> Result<(), HistogramError> {
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let length = word(LENGTH_AT);
    if word(0) != 0x1c84_9313 {
        return Err(HistogramError::Cookie(word(0)));
    }
    if header[LENGTH_AT + 4..] != HEADER[LENGTH_AT + 4..] {
        return Err(HistogramError::Layout);
    }
    if length as usize != found {
        return Err(HistogramError::Length { header: length, found });
    }
    Ok(())
}

/// The union of two sorted lists of pairs.
fn merged(mut left: &[(u16, u64)], mut right: &[(u16, u64)]) -> Vec<(u16, u64)> {
    let mut union = Vec::with_capacity(left.len() + right.len());
    while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) {
        if a.0 < b.0 {
            union.push(*a);
            left = left_rest;
        } else if a.0 > b.0 {
            union.push(*b);
            right = right_rest;
        } else {
            union.push((a.0, sum(a.1, b.1)));
            (left, right) = (left_rest, right_rest);
        }
    }
    union.extend_from_slice(left);
    union.extend_from_slice(right);
    union
}

/// The sum of two counts.
fn sum(a: u64, b: u64) -> u64 {
    a.checked_add(b).expect("a count fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
    use proptest::prelude::*;

    fn recorded(values: &[(u32, u64)]) -> (Histogram, hdrhistogram::Histogram<u64>) {
        let mut sparse = Histogram::default();
        let bounds = (1, u64::from(LATENCY_US_MAX));
        let mut dense = hdrhistogram::Histogram::new_with_bounds(bounds.0, bounds.1, 2).unwrap();
        for &(us, count) in values {
            sparse.record(us, count);
            dense.record_n(u64::from(us.max(1)), count).unwrap();
        }
        (sparse, dense)
    }

    fn encoded(histogram: &Histogram) -> Vec<u8> {
        let mut bytes = Vec::new();
        histogram.encode_v2(&mut bytes);
        bytes
    }

    /// Latencies of every magnitude, the ends among them.
    fn latencies() -> impl Strategy<Value = Vec<(u32, u64)>> {
        let us = prop_oneof![
            (0..32_u32, any::<u32>()).prop_map(|(shift, us)| (us >> shift).min(LATENCY_US_MAX)),
            Just(0),
            Just(1),
            Just(LATENCY_US_MAX),
        ];
        let count = prop_oneof![1..5_u64, 1..1_u64 << 40, Just(1 << 57)];
        prop::collection::vec((us, count), 0..40)
    }

    #[test]
    fn every_slot_begins_where_the_one_before_ends() {
        let mut next = 0;
        for slot in 0..SLOTS {
            let range = slot_range_us(slot);
            assert_eq!(*range.start(), next);
            next = range.end() + 1;
            for us in [*range.start(), *range.end()] {
                assert_eq!(slot_of(us as u32), slot.max(1), "{us}");
            }
        }
        assert_eq!(next, 1 << 32, "every u32 has a slot");
    }

    #[test]
    fn an_empty_histogram_encodes_as_the_crate_does_and_has_no_quantile() {
        let (sparse, dense) = recorded(&[]);
        let mut expected = Vec::new();
        V2Serializer::new().serialize(&dense, &mut expected).unwrap();
        assert_eq!(encoded(&sparse), expected);
        assert_eq!(Histogram::decode_v2(&expected), Ok(sparse.clone()));
        assert_eq!(sparse.quantile_us(0.5), None);
    }

    #[test]
    fn hostile_bytes_are_refused_with_the_reason() {
        let good = encoded(&recorded(&[(1_000, 1)]).0);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Histogram::decode_v2(&bytes)
        };
        let payload = |payload: &[u8]| {
            let mut bytes = HEADER.to_vec();
            bytes[LENGTH_AT + 3] = payload.len() as u8;
            bytes.extend_from_slice(payload);
            Histogram::decode_v2(&bytes)
        };
        assert_eq!(Histogram::decode_v2(&[]), Err(HistogramError::Truncated(0)));
        assert_eq!(Histogram::decode_v2(&good[..39]), Err(HistogramError::Truncated(39)));
        assert!(matches!(with(3, 0x14), Err(HistogramError::Cookie(_))));
        for at in [11, 15, 23, 31, 39] {
            assert_eq!(with(at, 99), Err(HistogramError::Layout), "byte {at}");
        }
        let length = HistogramError::Length { header: 99, found: good.len() - HEADER_SIZE };
        assert_eq!(with(LENGTH_AT + 3, 99), Err(length));
        assert_eq!(payload(&[0x80]), Err(HistogramError::Truncated(41)));
        // The longest run there is: i64::MIN.
        assert_eq!(payload(&[0xff; 9]), Err(HistogramError::Slots));
        // A run to the very end is as good as none; one past it, or a count behind it, is not.
        assert_eq!(payload(&[0xff, 0x33]), Ok(Histogram::default()), "3,328 empty slots");
        assert_eq!(payload(&[0x81, 0x34]), Err(HistogramError::Slots), "3,329 empty slots");
        assert_eq!(payload(&[0xff, 0x33, 2]), Err(HistogramError::Slots));
        let most = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(payload(&most).is_ok());
        assert_eq!(payload(&[most, most].concat()), Err(HistogramError::Counts));
        assert_eq!(payload(&[most, most, most].concat()), Err(HistogramError::Counts));
    }

    proptest! {
        #[test]
        fn encoding_is_that_of_the_crate_and_decodes(values in latencies()) {
            let (sparse, dense) = recorded(&values);
            let mut expected = Vec::new();
            V2Serializer::new().serialize(&dense, &mut expected).unwrap();
            prop_assert_eq!(&encoded(&sparse), &expected);
            prop_assert_eq!(Histogram::decode_v2(&expected), Ok(sparse.clone()));
            let read: hdrhistogram::Histogram<u64> =
                Deserializer::new().deserialize(&mut &expected[..]).unwrap();
            prop_assert_eq!(&read, &dense);
            prop_assert_eq!(sparse.to_hdr(), dense);
        }

        #[test]
        fn quantiles_are_those_of_the_crate(values in latencies(), quantile in 0.0..1.1_f64) {
            // Past 2^53 values the crate's rank, an `f64`, may exceed the count: it answers 0.
            let values: Vec<_> = values.iter().map(|&(us, n)| (us, n.min(1 << 47))).collect();
            let (sparse, dense) = recorded(&values);
            for quantile in [quantile, 0.0, 0.5, 0.99, 1.0] {
                let expected = dense.value_at_quantile(quantile);
                prop_assert_eq!(sparse.quantile_us(quantile).unwrap_or(0), expected);
            }
        }

        #[test]
        fn a_sum_is_a_record_of_all(parts in prop::collection::vec(latencies(), 0..30)) {
            let small = |&(us, count): &(u32, u64)| (us, count.min(1 << 50));
            let parts: Vec<Vec<_>> = parts.iter().map(|one| one.iter().map(small).collect()).collect();
            let each: Vec<Histogram> = parts.iter().map(|one| recorded(one).0).collect();
            prop_assert_eq!(Histogram::sum(each.iter()), recorded(&parts.concat()).0);
        }

        #[test]
        fn a_merge_is_a_record_of_both(left in latencies(), right in latencies()) {
            let mut merged = recorded(&left).0;
            merged.merge(&recorded(&right).0);
            prop_assert_eq!(merged, recorded(&[left, right].concat()).0);
        }

        #[test]
        fn no_bytes_crash_the_decoder(
            payload in prop::collection::vec(any::<u8>(), 0..60),
            header in prop::collection::vec((0..HEADER_SIZE, any::<u8>()), 0..3),
        ) {
            let mut bytes = HEADER.to_vec();
            bytes[LENGTH_AT + 3] = payload.len() as u8;
            bytes.extend_from_slice(&payload);
            header.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            if let Ok(histogram) = Histogram::decode_v2(&bytes) {
                // A header of another layout is refused, so what is read has ours.
                prop_assert_eq!(Histogram::decode_v2(&encoded(&histogram)), Ok(histogram));
            }
        }
    }
}
