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
            }
        }
    }
}
