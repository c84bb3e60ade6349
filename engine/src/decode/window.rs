//! Sixteen bytes of a text at once, as two words: where a plain string ends, what number digits
//! write, whether a text begins as another does.
//!
//! A window may reach behind the line, into the line after it, so that no reader has to look out
//! for the end byte by byte: what it finds there is the reader's to refuse. Behind the end of the
//! text stand zeros, which no string and no number holds. Loops over bytes guess their end wrong
//! once a value; there are none here.

/// How many bytes a window shows.
pub(super) const WIDTH: usize = 16;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Ten to the power of the index.
const TENS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Sixteen bytes; the first is the lowest of the first word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window(pub(super) [u64; 2]);

impl Window {
    /// What no text begins with.
    pub(super) const NEVER: Window = Window([u64::MAX; 2]);

    /// What stands in a text from `at`.
    #[inline(always)]
    pub(super) fn at(bytes: &[u8], at: usize) -> Window {
        match bytes.get(at..at + WIDTH).and_then(<[u8]>::first_chunk) {
            Some(chunk) => Window::of(chunk),
            None => Window::at_end(bytes.get(at..).unwrap_or_default()),
        }
    }

    #[inline(always)]
    fn of(chunk: &[u8; WIDTH]) -> Window {
        let both = u128::from_le_bytes(*chunk);
        Window([both as u64, (both >> 64) as u64])
    }

    #[cold]
    fn at_end(rest: &[u8]) -> Window {
        let mut chunk = [0; WIDTH];
        chunk[..rest.len()].copy_from_slice(rest);
        Window::of(&chunk)
    }

    /// All bits of the first `length` bytes; of all from [`WIDTH`].
    #[inline(always)]
    pub(super) fn mask(length: usize) -> Window {
        let word = |length: usize| if length >= 8 { u64::MAX } else { !(u64::MAX << (8 * length)) };
        Window([word(length), word(length.saturating_sub(8))])
    }

    /// The bits that both have.
    #[inline(always)]
    pub(super) fn and(self, other: Window) -> Window {
        Window([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }

    /// How many bytes come before the first quote, backslash or control character;
    /// [`WIDTH`] where there is none.
    #[inline(always)]
    pub(super) fn plain(self) -> usize {
        // The high bit of each byte that is one of them. A borrow may set bits above a true hit,
        // never below it, and the lowest is the one that is used.
        let hits = |word: u64| {
            let quotes = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
            let escapes = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
            let controls = word.wrapping_sub(ONES * 0x20);
            (quotes | escapes | controls) & !word & HIGHS
        };
        first_high(hits(self.0[0]), hits(self.0[1]))
    }

    /// How many bytes come before the first `byte`, which is ASCII; [`WIDTH`] where there is none.
    #[inline(always)]
    pub(super) fn find(self, byte: u8) -> usize {
        let hits = |word: u64| {
            let others = word ^ (ONES * u64::from(byte));
            others.wrapping_sub(ONES) & !others & HIGHS
        };
        first_high(hits(self.0[0]), hits(self.0[1]))
    }

    /// The number that the digits at the begin write, and how many they are: at most 15, and
    /// none where there are more.
    #[inline(always)]
    pub(super) fn number(self) -> (u64, usize) {
        let (first, digits) = word_number(self.0[0]);
        if digits < 8 {
            return (first, digits);
        }
        match word_number(self.0[1]) {
            (_, 8) => (0, 0),
            (second, more) => (first * TENS[more] + second, 8 + more),
        }
    }
}

/// Where the first quote, backslash or control character stands from `at` on; the end of the text
/// is one.
#[inline(always)]
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let plain = Window::at(bytes, at).plain();
        at += plain;
        if plain < WIDTH {
            return at;
        }
    }
}

/// Where the first `byte`, which is ASCII, stands from `at` on and before `end`.
#[inline(always)]
pub(super) fn find(bytes: &[u8], mut at: usize, end: usize, byte: u8) -> Option<usize> {
    while at < end {
        let before = Window::at(bytes, at).find(byte);
        at += before;
        if before < WIDTH {
            return (at < end).then_some(at);
        }
    }
    None
}

/// The place of the first byte of two words whose high bit is set; [`WIDTH`] where there is none.
#[inline(always)]
fn first_high(first: u64, second: u64) -> usize {
    let bits = if first == 0 { 64 + second.trailing_zeros() } else { first.trailing_zeros() };
    bits as usize / 8
}

/// The number that the digits at the begin of a word write, and how many they are.
#[inline(always)]
fn word_number(word: u64) -> (u64, usize) {
    let values = word ^ (ONES * u64::from(b'0'));
    // The high bit of each byte that is more than nine; no sum leaves its byte.
    let others = (((values & !HIGHS) + ONES * (0x80 - 10)) | values) & HIGHS;
    let bits = others.trailing_zeros() & !7;
    // The digits to the high end, so that zeros stand before them.
    let digits = values.checked_shl(64 - bits).unwrap_or(0);
    // Digits to pairs, pairs to fours, fours to the eight: the first digit is the lowest byte.
    let pairs = digits.wrapping_mul(1 + (10 << 8)) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(1 + (100 << 16)) >> 16;
    let eight = (fours & 0x0000_ffff_0000_ffff).wrapping_mul(1 + (10_000 << 32)) >> 32;
    (eight, bits as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of a likely byte with others put in.
    fn texts() -> impl Iterator<Item = Vec<u8>> {
        let bytes = (0..=255_u8).flat_map(|byte| (0..WIDTH).map(move |at| (byte, at)));
        bytes.flat_map(|(byte, at)| {
            [b'a', b'7', b'"', 0x80, 0xff].map(|usual| {
                let mut text = vec![usual; WIDTH];
                text[at] = byte;
                text[(at + 5) % WIDTH] ^= byte & 1;
                text
            })
        })
    }

    #[test]
    fn a_window_finds_what_a_loop_finds() {
        for text in texts() {
            let window = Window::at(&text, 0);
            let place = |wanted: &dyn Fn(u8) -> bool| {
                text.iter().position(|byte| wanted(*byte)).unwrap_or(WIDTH)
            };
            let special = |byte: u8| byte < 0x20 || matches!(byte, b'"' | b'\\');
            assert_eq!(window.plain(), place(&special), "{text:?}");
            assert_eq!(window.find(b'7'), place(&|byte| byte == b'7'), "{text:?}");
            let digits = place(&|byte| !byte.is_ascii_digit());
            let number = text[..digits].iter().fold(0, |n, byte| n * 10 + u64::from(byte - b'0'));
            let expected = if digits == WIDTH { (0, 0) } else { (number, digits) };
            assert_eq!(window.number(), expected, "{text:?}");
        }
    }

    #[test]
    fn behind_the_end_stand_zeros() {
        let text: Vec<u8> = (1..40).collect();
        for at in 0..60 {
            let mut shown = [0; WIDTH];
            let rest = text.get(at..).unwrap_or_default();
            let length = rest.len().min(WIDTH);
            shown[..length].copy_from_slice(&rest[..length]);
            assert_eq!(Window::at(&text, at), Window::of(&shown));
            for length in 0..20 {
                let mut first = shown;
                first.iter_mut().skip(length).for_each(|byte| *byte = 0);
                assert_eq!(Window::at(&text, at).and(Window::mask(length)), Window::of(&first));
            }
        }
    }
}
