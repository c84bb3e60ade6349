//! Sixteen bytes of a text at once, or some times as many: where a plain string ends, what number
//! digits write, whether a text begins as another does.
//!
//! A window may reach behind the line, into the line after it, so that no reader has to look out
//! for the end byte by byte: what it finds there is the reader's to refuse. Behind the end of the
//! text stand zeros, which no string and no number holds. Loops over bytes guess their end wrong
//! once a value; there are none here.
//!
//! A usual line costs what its instructions cost (`docs/performance.md`): bytes are compared in
//! vectors, and a place is checked once for all that is read there.

use wide::u8x16;

/// How many bytes a window shows.
pub(super) const WIDTH: usize = 16;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Ten to the power of the index.
const TENS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// What `read` makes of the `N` bytes that stand in a text from `at`.
#[inline(always)]
pub(super) fn ahead<const N: usize, T>(bytes: &[u8], at: usize, read: impl Fn(&[u8; N]) -> T) -> T {
    match bytes.get(at..at.wrapping_add(N)).and_then(<[u8]>::first_chunk) {
        Some(chunk) => read(chunk),
        None => read(&at_end(bytes, at)),
    }
}

/// The same bytes where fewer are left.
#[cold]
#[inline(never)]
fn at_end<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut chunk = [0; N];
    chunk[..rest.len()].copy_from_slice(rest);
    chunk
}

/// Sixteen bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window(u8x16);

impl Window {
    pub(super) const ZEROS: Window = Window(u8x16::ZERO);

    const ALL: Window = Window(u8x16::MAX);

    /// What no text begins with.
    pub(super) const NEVER: Window = Window::ALL;

    /// What stands in a text from `at`.
    #[inline(always)]
    pub(super) fn at(bytes: &[u8], at: usize) -> Window {
        ahead(bytes, at, |chunk| Window(u8x16::new(*chunk)))
    }

    /// Window `part` of some bytes.
    ///
    /// # Panics
    /// If they end before it does.
    #[inline(always)]
    pub(super) fn part<const N: usize>(bytes: &[u8; N], part: usize) -> Window {
        let chunk = bytes[part * WIDTH..].first_chunk().expect("a whole window");
        Window(u8x16::new(*chunk))
    }

    /// All bits of the first `length` bytes; of all from [`WIDTH`].
    pub(super) fn mask(length: usize) -> Window {
        Window(u8x16::new(std::array::from_fn(|at| if at < length { u8::MAX } else { 0 })))
    }

    /// The bits that both have.
    #[inline(always)]
    pub(super) fn and(self, other: Window) -> Window {
        Window(self.0 & other.0)
    }

    /// The bits by which the bytes of `mask` differ from a text.
    #[inline(always)]
    pub(super) fn differs(self, mask: Window, text: Window) -> Window {
        Window((self.0 & mask.0) ^ text.0)
    }

    /// The bits that one of them has.
    #[inline(always)]
    pub(super) fn or(self, other: Window) -> Window {
        Window(self.0 | other.0)
    }

    /// The bytes as [`words`].
    #[inline(always)]
    pub(super) fn words(self) -> [u64; 2] {
        words(&self.0.to_array())
    }

    /// Where quotes stand, one bit a byte, and where backslashes and control characters do.
    #[inline(always)]
    pub(super) fn marks(self) -> [u32; 2] {
        let quotes = self.0.simd_eq(u8x16::splat(b'"'));
        let escapes = self.0.simd_eq(u8x16::splat(b'\\'));
        let controls = self.0.simd_le(u8x16::splat(0x1f));
        [quotes.to_bitmask(), (escapes | controls).to_bitmask()]
    }

    /// Where spaces and control characters stand, one bit a byte.
    #[inline(always)]
    fn gaps(self) -> u32 {
        self.0.simd_le(u8x16::splat(b' ')).to_bitmask()
    }

    /// Where newlines stand, one bit a byte.
    #[inline(always)]
    fn newlines(self) -> u32 {
        self.0.simd_eq(u8x16::splat(b'\n')).to_bitmask()
    }
}

/// How a text begins, zeros behind its end.
#[derive(Clone, Copy)]
pub(super) struct Begin([Window; 4]);

/// How many bytes of a text its [`Begin`] has.
pub(super) const BEGIN_BYTES: usize = 4 * WIDTH;

/// The masks of begins of any length, one within the other.
static BEGINS: [u8; 2 * BEGIN_BYTES] = {
    let mut masks = [0; 2 * BEGIN_BYTES];
    let (ones, _) = masks.split_at_mut(BEGIN_BYTES);
    let mut at = 0;
    while at < BEGIN_BYTES {
        ones[at] = u8::MAX;
        at += 1;
    }
    masks
};

impl Begin {
    /// That of no text.
    pub(super) const NEVER: Begin = Begin([Window::NEVER; 4]);

    /// That of the `length` bytes from `at` on.
    #[inline(always)]
    pub(super) fn of(bytes: &[u8], at: usize, length: usize) -> Begin {
        let masks = &BEGINS[BEGIN_BYTES - length.min(BEGIN_BYTES)..];
        let masks: &[u8; BEGIN_BYTES] = masks.first_chunk().expect("masks behind the longest");
        ahead(bytes, at, |chunk: &[u8; BEGIN_BYTES]| {
            let part = |part| Window::part(chunk, part).and(Window::part(masks, part));
            Begin([part(0), part(1), part(2), part(3)])
        })
    }

    /// Whether both are of the same bytes.
    #[inline(always)]
    pub(super) fn is(&self, other: &Begin) -> bool {
        let differs = |part: usize| self.0[part].differs(Window::ALL, other.0[part]);
        differs(0).or(differs(1)).or(differs(2).or(differs(3))) == Window::ZEROS
    }

    /// A word that depends on all of it.
    #[inline(always)]
    pub(super) fn mixed(&self) -> u64 {
        let word = |part: usize| {
            let [first, second] = self.0[part].words();
            first ^ second.rotate_left(29)
        };
        word(0) ^ word(1).rotate_left(7) ^ word(2).rotate_left(14) ^ word(3).rotate_left(21)
    }
}

/// Where the first quote, backslash or control character stands from `at` on, or else the text
/// ends.
#[inline(always)]
pub(super) fn plain_end(bytes: &[u8], at: usize) -> usize {
    first_of(bytes, at, |window| {
        let [quotes, others] = window.marks();
        quotes | others
    })
}

/// Where the first space or control character stands from `at` on, or else the text ends. Quick
/// where that is within a window.
#[inline(always)]
pub(super) fn word_end(bytes: &[u8], at: usize) -> usize {
    match Window::at(bytes, at).gaps() {
        0 => first_of(bytes, at + WIDTH, Window::gaps),
        gaps => at + gaps.trailing_zeros() as usize,
    }
}

/// Where the first newline stands from `at` on, or else the text ends.
#[inline(always)]
pub(super) fn newline_or_end(bytes: &[u8], at: usize) -> usize {
    first_of(bytes, at, Window::newlines)
}

/// Where the first byte stands from `at` on that `marks` gives a bit, or else the text ends. Quick
/// where that is within two windows.
#[inline(always)]
fn first_of(bytes: &[u8], at: usize, marks: impl Fn(Window) -> u32) -> usize {
    // The windows, not their bits: those would be taken apart to be brought together again.
    let [first, second] = ahead(bytes, at, |chunk: &[u8; 2 * WIDTH]| {
        [Window::part(chunk, 0), Window::part(chunk, 1)]
    });
    match marks(first) | marks(second) << WIDTH {
        0 => first_behind(bytes, at + 2 * WIDTH, marks),
        // Behind the end stand zeros, which may have a bit.
        near => bytes.len().min(at + near.trailing_zeros() as usize),
    }
}

/// The same, 64 bytes at once.
#[inline(never)]
fn first_behind(bytes: &[u8], mut at: usize, marks: impl Fn(Window) -> u32) -> usize {
    while at < bytes.len() {
        let marks = ahead(bytes, at, |chunk: &[u8; 4 * WIDTH]| {
            let of = |part| u64::from(marks(Window::part(chunk, part))) << (part * WIDTH);
            of(0) | of(1) | of(2) | of(3)
        });
        if marks != 0 {
            return bytes.len().min(at + marks.trailing_zeros() as usize);
        }
        at += 4 * WIDTH;
    }
    bytes.len()
}

/// The first sixteen bytes as two words; the first byte is the lowest of the first.
#[inline(always)]
pub(super) fn words<const N: usize>(chunk: &[u8; N]) -> [u64; 2] {
    let word =
        |part: usize| u64::from_le_bytes(*chunk.as_chunks().0.get(part).expect("sixteen bytes"));
    [word(0), word(1)]
}

/// A text of 8 digits that was met before, with its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownDigits {
    text: u64,
    number: u64,
}

impl Default for KnownDigits {
    fn default() -> Self {
        KnownDigits { text: u64::from_le_bytes(*b"10000000"), number: 10_000_000 }
    }
}

impl KnownDigits {
    /// As [`integer`], for numbers of 9 to 15 digits whose first 8 are mostly those of the one
    /// before; `None` for all others.
    #[inline(always)]
    pub(super) fn integer(&mut self, bytes: &[u8], at: usize) -> Option<(u64, usize)> {
        let [text, rest] = ahead(bytes, at, words::<WIDTH>);
        if text != self.text {
            let (number, digits) = word_number(text);
            if digits < 8 || text as u8 == b'0' {
                return None;
            }
            *self = KnownDigits { text, number };
        }
        let (second, more) = word_number(rest);
        (1..8).contains(&more).then(|| (self.number * TENS[more] + second, 8 + more))
    }
}

/// The number that the digits at `at` write, and how many they are: at most 15, and none where
/// there are more.
#[inline(always)]
pub(super) fn number(bytes: &[u8], at: usize) -> (u64, usize) {
    number_of(ahead(bytes, at, words::<WIDTH>))
}

/// The same as JSON writes an integer without sign: no zero before others; `None` where there is
/// no such number.
#[inline(always)]
pub(super) fn integer(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let words = ahead(bytes, at, words::<WIDTH>);
    let (number, digits) = number_of(words);
    let is_plain = (digits == 1) | ((digits > 1) & (words[0] as u8 != b'0'));
    is_plain.then_some((number, digits))
}

/// How many digits stand at `at`; more than 15 are none.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], at: usize) -> usize {
    let [first, second] = ahead(bytes, at, words::<WIDTH>);
    match word_digits(first) {
        8 => match word_digits(second) {
            8 => 0,
            more => 8 + more,
        },
        digits => digits,
    }
}

/// The status of three digits at `at`, from 100 to 599; `None` where there is none. A digit may
/// follow.
#[inline(always)]
pub(super) fn status(bytes: &[u8], at: usize) -> Option<u16> {
    let word = ahead(bytes, at, |chunk| u32::from_le_bytes(*chunk));
    let values = word ^ (ONES as u32 * u32::from(b'0'));
    let others = values.wrapping_add(ONES as u32 * (0x80 - 10)) | values;
    let [hundreds, tens, ones, _] = values.to_le_bytes().map(u16::from);
    let status = 100 * hundreds + 10 * tens + ones;
    (others & 0x0080_8080 == 0 && (100..=599).contains(&status)).then_some(status)
}

#[inline(always)]
fn number_of(words: [u64; 2]) -> (u64, usize) {
    let (first, digits) = word_number(words[0]);
    if digits < 8 {
        return (first, digits);
    }
    match word_number(words[1]) {
        (_, 8) => (0, 0),
        (second, more) => (first * TENS[more] + second, 8 + more),
    }
}

/// The number that the digits at the begin of a word write, and how many they are.
#[inline(always)]
fn word_number(word: u64) -> (u64, usize) {
    let digits = word_digits(word);
    // The digits to the high end, so that zeros stand before them.
    let values = (word ^ (ONES * u64::from(b'0'))).checked_shl(64 - 8 * digits as u32).unwrap_or(0);
    // Digits to pairs, pairs to fours, fours to the eight: the first digit is the lowest byte.
    let pairs = values.wrapping_mul(1 + (10 << 8)) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(1 + (100 << 16)) >> 16;
    let eight = (fours & 0x0000_ffff_0000_ffff).wrapping_mul(1 + (10_000 << 32)) >> 32;
    (eight, digits)
}

/// How many digits a word begins with.
#[inline(always)]
fn word_digits(word: u64) -> usize {
    let values = word ^ (ONES * u64::from(b'0'));
    // The high bit of each byte that is more than nine. A sum may leave its byte, and set bits
    // above the first of those, never below it.
    let others = (values.wrapping_add(ONES * (0x80 - 10)) | values) & HIGHS;
    others.trailing_zeros() as usize / 8
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
        let mut known = KnownDigits::default();
        for text in texts() {
            let place = |wanted: &dyn Fn(u8) -> bool| {
                text.iter().position(|byte| wanted(*byte)).unwrap_or(WIDTH)
            };
            let special = |byte: u8| byte < 0x20 || matches!(byte, b'"' | b'\\');
            assert_eq!(plain_end(&text, 0), place(&special), "{text:?}");
            assert_eq!(word_end(&text, 0), place(&|byte| byte <= b' '), "{text:?}");
            assert_eq!(newline_or_end(&text, 0), place(&|byte| byte == b'\n'), "{text:?}");
            let digits = place(&|byte| !byte.is_ascii_digit());
            let number = text[..digits].iter().fold(0, |n, byte| n * 10 + u64::from(byte - b'0'));
            let expected = if digits == WIDTH { (0, 0) } else { (number, digits) };
            assert_eq!(super::number(&text, 0), expected, "{text:?}");
            assert_eq!(super::digits(&text, 0), expected.1, "{text:?}");
            let three = std::str::from_utf8(&text[..3]).ok().filter(|_| digits >= 3);
            let three = three.and_then(|digits| digits.parse().ok());
            let expected_status = three.filter(|status| (100..=599).contains(status));
            assert_eq!(status(&text, 0), expected_status, "{text:?}");
            let is_plain = expected.1 > 0 && (expected.1 == 1 || text[0] != b'0');
            let expected = is_plain.then_some(expected);
            assert_eq!(integer(&text, 0), expected, "{text:?}");
            let expected = expected.filter(|(_, digits)| *digits > 8);
            assert_eq!(known.integer(&text, 0), expected, "{text:?}");
        }
    }

    #[test]
    fn the_first_is_found_wherever_it_stands() {
        for length in 0..200 {
            let mut text = vec![b'a'; length];
            for at in 0..length {
                text[at..].fill(b'\n');
                for start in 0..=at {
                    assert_eq!(plain_end(&text, start), at);
                    assert_eq!(word_end(&text, start), at);
                    assert_eq!(newline_or_end(&text, start), at);
                }
                text[at..].fill(b'a');
            }
            let ends = [plain_end(&text, 0), word_end(&text, 0), newline_or_end(&text, 0)];
            assert_eq!(ends, [length; 3]);
        }
    }

    #[test]
    fn begins_are_those_of_equal_bytes() {
        let text: Vec<u8> = (0..=255).map(|byte: u8| byte.max(1)).collect();
        for length in 0..100 {
            for start in [0, 7, text.len() - length] {
                let begin = Begin::of(&text, start, length);
                let mut copy = text[start..start + length].to_vec();
                let alone = Begin::of(&copy, 0, length);
                assert!(
                    begin.is(&alone) && begin.mixed() == alone.mixed(),
                    "{length} from {start}"
                );
                assert!(!begin.is(&Begin::NEVER));
                for at in 0..length {
                    copy[at] ^= 0x40;
                    let other = Begin::of(&copy, 0, length);
                    let is_within = at < BEGIN_BYTES;
                    assert_eq!(begin.is(&other), !is_within, "{at} of {length}");
                    assert_eq!(begin.mixed() == other.mixed(), !is_within, "{at} of {length}");
                    copy[at] ^= 0x40;
                }
            }
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
            assert_eq!(Window::at(&text, at), Window::part(&shown, 0));
            for length in 0..20 {
                let mut first = shown;
                first.iter_mut().skip(length).for_each(|byte| *byte = 0);
                assert_eq!(
                    Window::at(&text, at).and(Window::mask(length)),
                    Window::part(&first, 0)
                );
            }
        }
    }
}
