//! Comparing short texts in words, without a call.
//!
//! Names, keys and dimension values have a few bytes each and are compared for every event: the
//! call into the C library for it took a quarter of the time of a whole replay once.

/// Whether two texts are equal; made for those of up to some tens of bytes.
///
/// ```
/// use ninefold_engine::short::same;
/// assert!(same(b"checkout", b"checkout") && same(b"", b""));
/// assert!(!same(b"checkout", b"checkbox") && !same(b"a", b"ab"));
/// ```
pub fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let half = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    if !a_words.iter().zip(b_words).all(|(a, b)| word(a) == word(b)) {
        return false;
    }
    // What is left overlaps what was compared, so that it is one more word.
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a), Some(b)) => word(a) == word(b),
        _ => match (a.first_chunk(), b.first_chunk(), a.last_chunk(), b.last_chunk()) {
            (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) => {
                half(a_first) == half(b_first) && half(a_last) == half(b_last)
            }
            _ => a.iter().zip(b).all(|(a, b)| a == b),
        },
    }
}

/// How many bytes [`ends`] tells whole.
pub const ENDS_BYTES: usize = 16;

/// The begin and the end of a text: texts of one length up to [`ENDS_BYTES`] are equal where these
/// are.
///
/// ```
/// use ninefold_engine::short::ends;
/// assert!(ends(b"cust_0004711") != ends(b"cust_0004712"));
/// assert_eq!(ends(b"one of 17 letters"), ends(b"one of 18 letters"));
/// ```
#[inline]
pub fn ends(text: &[u8]) -> [u64; 2] {
    let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => [u64::from_le_bytes(*first), u64::from_le_bytes(*last)],
        _ => match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
            (Some(first), Some(last)) => [half(first), half(last)],
            _ => [text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0],
        },
    }
}

/// Where a word stands in a table of so many places, which are a power of two from 2 on.
///
/// ```
/// use ninefold_engine::short::place;
/// assert!(place(1, 512) < 512 && place(1, 512) != place(2, 512));
/// ```
#[inline(always)]
pub const fn place(word: u64, places: usize) -> usize {
    // Only the highest bits of the product depend on all bits.
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - places.ilog2())) as usize
}

/// Whether all bytes of a text are ASCII; made for those of up to [`ENDS_BYTES`].
///
/// ```
/// use ninefold_engine::short::is_ascii;
/// assert!(is_ascii(b"cust_0004711") && is_ascii(b""));
/// assert!(!is_ascii("ä".as_bytes()) && !is_ascii("a longer text ends in ä".as_bytes()));
/// ```
#[inline]
pub fn is_ascii(text: &[u8]) -> bool {
    match text.len() {
        0..=ENDS_BYTES => {
            let [begin, end] = ends(text);
            (begin | end) & 0x8080_8080_8080_8080 == 0
        }
        _ => text.is_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_differ_where_one_byte_does() {
        for length in 0..70_u8 {
            let text: Vec<u8> = (0..length).collect();
            assert!(same(&text, &text.clone()));
            for at in 0..text.len() {
                let mut other = text.clone();
                other[at] ^= 0x80;
                assert!(!same(&text, &other), "{length} {at}");
                assert!(is_ascii(&text) && !is_ascii(&other), "{length} {at}");
                assert!(ends(&text) != ends(&other) || length as usize > ENDS_BYTES);
            }
        }
    }
}
