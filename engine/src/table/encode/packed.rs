//! The two packed encodings of Parquet that nearly all our columns are in: whole pages at a time.
//!
//! What is written here is what the format's own pages on encodings ask for, and what the library
//! of our readers decodes; the library's encoders take a value at a time, which costs two to
//! three times as much (`docs/performance.md`).

use crate::leb128::push_number;

/// Differences of a block of DELTA_BINARY_PACKED; each block has a least difference of its own.
const BLOCK: usize = 256;

/// Parts of a block; each has a bit width of its own.
const PARTS: usize = 4;

/// Values of a part.
const PART: usize = BLOCK / PARTS;

/// A run of so many equal values is written as one. Packed values come in groups of so many.
const GROUP: usize = 8;

/// Bits that `value` needs: none for 0.
///
/// ```text
/// width(0) == 0, width(1) == 1, width(255) == 8, width(u64::MAX) == 64
/// ```
pub(super) fn width(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// Appends `values` in DELTA_BINARY_PACKED: the first one, then differences, each block's above
/// the least of it. Differences wrap, as the format asks for, so any values will do.
pub(super) fn deltas(values: &[i64], page: &mut Vec<u8>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "only so is a function for some processors called")]
        // SAFETY: this processor has what the function is compiled for.
        return unsafe { deltas_avx2(values, page) };
    }
    deltas_of(values, page);
}

/// The same with instructions that compare words of 64 bits, which takes half the time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn deltas_avx2(values: &[i64], page: &mut Vec<u8>) {
    deltas_of(values, page);
}

#[inline(always)]
fn deltas_of(values: &[i64], page: &mut Vec<u8>) {
    push_number(page, BLOCK as u64);
    push_number(page, PARTS as u64);
    push_number(page, values.len() as u64);
    push_number(page, zigzag(values.first().copied().unwrap_or(0)));
    let mut room = [0_i64; BLOCK];
    let ends = values.get(1..).unwrap_or_default();
    for (starts, ends) in values.chunks(BLOCK).zip(ends.chunks(BLOCK)) {
        let block = &mut room[..ends.len()];
        for ((difference, start), end) in block.iter_mut().zip(starts).zip(ends) {
            *difference = end.wrapping_sub(*start);
        }
        let first = block[0];
        if block.iter().fold(0, |bits, difference| bits | (difference ^ first)) == 0 {
            push_number(page, zigzag(first));
            page.extend([0; PARTS]);
            continue;
        }
        let least = block.iter().copied().min().expect("chunks are not empty");
        push_number(page, zigzag(least));
        // Parts that have no value have no width and no bytes.
        let widths = page.len();
        page.extend([0; PARTS]);
        for (part, differences) in block.chunks(PART).enumerate() {
            let mut above = [0_u64; PART];
            for (above, difference) in above.iter_mut().zip(differences) {
                *above = difference.wrapping_sub(least) as u64;
            }
            let width = width(above.iter().fold(0, |bits, value| bits | value));
            page[widths + part] = width as u8;
            pack(&above, width, page);
        }
    }
}

/// Appends `values` of `width` bits each as runs and packed groups (RLE): levels, and places in a
/// dictionary.
pub(super) fn runs(values: &[u32], width: u32, page: &mut Vec<u8>) {
    let mut packed = 0;
    let mut at = 0;
    while at < values.len() {
        let value = values[at];
        let same = values[at..].iter().take_while(|other| **other == value).count();
        if same < GROUP {
            at += GROUP;
            continue;
        }
        groups(&values[packed..at], width, page);
        run(value, same, width, page);
        at += same;
        packed = at;
    }
    groups(&values[packed..], width, page);
}

/// One run of RLE: `count` times `value`.
pub(super) fn run(value: u32, count: usize, width: u32, page: &mut Vec<u8>) {
    push_number(page, (count as u64) << 1);
    page.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// Packed groups of RLE; the last one is filled up with zeros.
fn groups(values: &[u32], width: u32, page: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    push_number(page, ((values.len().div_ceil(GROUP) as u64) << 1) | 1);
    for values in values.chunks(PART) {
        let mut wide = [0; PART];
        wide.iter_mut().zip(values).for_each(|(wide, value)| *wide = u64::from(*value));
        pack(&wide[..values.len().next_multiple_of(GROUP)], width, page);
    }
}

/// Appends values of `width` bits each, the low bits first; a multiple of [`GROUP`] of them, so
/// that they end with a byte.
fn pack(values: &[u64], width: u32, page: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut word, mut filled) = (0, 0);
    for value in values {
        word |= value << filled;
        filled += width;
        if filled >= u64::BITS {
            page.extend_from_slice(&word.to_le_bytes());
            filled -= u64::BITS;
            // The high bits, which had no room; there are none where the word was just filled.
            word = value.checked_shr(width - filled).unwrap_or(0);
        }
    }
    page.extend_from_slice(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// Small numbers of either sign as small numbers.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Steps of every size, and runs of one step as long as some blocks.
    fn values() -> impl Strategy<Value = Vec<i64>> {
        let step = (any::<i64>(), 0_u32..64).prop_map(|(step, less)| step >> less);
        let runs = prop::collection::vec((step, 1_usize..600), 0..12);
        let steps = |runs: Vec<(i64, usize)>| {
            let steps = runs.into_iter().flat_map(|(step, count)| std::iter::repeat_n(step, count));
            let sum = |sum: &mut i64, step| {
                *sum = sum.wrapping_add(step);
                Some(*sum)
            };
            steps.scan(0, sum).collect()
        };
        runs.prop_map(steps)
    }

    proptest! {
        /// What one processor writes, any other does.
        #[test]
        fn deltas_are_the_same_bytes_on_every_processor(values in values()) {
            let (mut here, mut anywhere) = (Vec::new(), Vec::new());
            deltas(&values, &mut here);
            deltas_of(&values, &mut anywhere);
            prop_assert_eq!(here, anywhere);
        }
    }
}
