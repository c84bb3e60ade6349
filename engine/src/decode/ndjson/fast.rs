//! The usual native line in one pass: a flat object, no escapes, plain integers.
//!
//! The key that followed the last time is tried first, so that a source which writes its keys
//! in one order costs one comparison a key; any other order costs a search. Every byte that the
//! answer relies on is checked: the line is valid UTF-8 (the caller's `&str`), it has the
//! grammar of an object from its first byte to its last, known keys stand at most once and hold
//! values that their rule takes. Whatever is not so (an escape, a nested value, white space
//! other than one space after `:` and `,`, a number in another form, a value to refuse) ends in
//! `None`: the strict reader decides.

use crate::decode::value::{self, SLOTS, slot};
use crate::model::{Event, LATENCY_US_MAX, Latency, SERVICE_DEFAULT};
use crate::short;
use crate::time::{TS_MS_END, TS_MS_MIN, parse_rfc3339};

/// The slot of keys that are not known; also of the place before the first key.
const OTHER: usize = SLOTS;

/// The reader with its guess of the next key.
pub(super) struct Fast {
    /// `"name":` of each slot; empty where the configuration names no such field.
    keys: [Vec<u8>; SLOTS],
    /// Which slot followed each slot the last time.
    after: [usize; SLOTS + 1],
    /// Whether no two fields share a name: those are left to the strict reader.
    usable: bool,
}

impl Fast {
    pub(super) fn new(names: &[String]) -> Fast {
        let mut keys = [const { Vec::new() }; SLOTS];
        for (key, name) in keys.iter_mut().zip(names) {
            *key = format!("\"{name}\":").into_bytes();
        }
        let twice = |(index, name): (usize, &String)| names[..index].contains(name);
        let usable = !names.iter().enumerate().any(twice);
        Fast { keys, after: [OTHER; SLOTS + 1], usable }
    }

    /// Reads a usual line into `event`, which is as by default; `None` where the strict reader is
    /// to decide, whatever stands in `event` then.
    pub(super) fn decode<'a>(&mut self, line: &'a str, event: &mut Event<'a>) -> Option<()> {
        let mut cursor = Cursor { line, bytes: line.as_bytes(), at: 0 };
        if !self.usable || !cursor.eat(b'{') {
            return None;
        }
        let mut draft = Draft { event, seen: 0 };
        let mut before = OTHER;
        loop {
            let slot = self.key(&mut cursor, before)?;
            cursor.eat(b' ');
            draft.value(slot, &mut cursor)?;
            before = slot;
            if cursor.eat(b',') {
                cursor.eat(b' ');
            } else {
                break;
            }
        }
        (cursor.eat(b'}') && cursor.at == line.len() && draft.is_whole()).then_some(())
    }

    /// Reads a key with its colon: the one that was guessed, or by a search.
    fn key(&mut self, cursor: &mut Cursor<'_>, before: usize) -> Option<usize> {
        let rest = &cursor.bytes[cursor.at..];
        if let Some(key) = self.keys.get(self.after[before])
            && !key.is_empty()
            && rest.get(..key.len()).is_some_and(|found| short::same(found, key))
        {
            cursor.at += key.len();
            return Some(self.after[before]);
        }
        let start = cursor.at;
        cursor.string()?;
        if !cursor.eat(b':') {
            return None;
        }
        let found = &cursor.bytes[start..cursor.at];
        let slot = self.keys.iter().position(|key| short::same(key, found)).unwrap_or(OTHER);
        self.after[before] = slot;
        Some(slot)
    }
}

/// A place in the line.
struct Cursor<'a> {
    line: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, byte: u8) -> bool {
        let is_here = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(is_here);
        is_here
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        if !self.eat(b'"') {
            return None;
        }
        let start = self.at;
        let end = start + plain_length(&self.bytes[start..])?;
        self.at = end + 1;
        self.line.get(start..end)
    }

    /// An integer without sign, of at most 18 digits, as JSON writes it.
    fn integer(&mut self) -> Option<u64> {
        let start = self.at;
        let mut number = 0_u64;
        // A time in milliseconds has 13 digits: the first eight at once.
        if let Some(eight) = self.bytes[self.at..].first_chunk().and_then(eight_digits) {
            (number, self.at) = (eight, self.at + 8);
        }
        while let Some(digit) = self.bytes.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            if self.at - start == 18 {
                return None;
            }
            number = number * 10 + u64::from(digit - b'0');
            self.at += 1;
        }
        let length = self.at - start;
        (length == 1 || (length > 1 && self.bytes[start] != b'0')).then_some(number)
    }

    /// A value that a comma or the end of the object follows at once.
    fn ends_here(&self) -> Option<()> {
        matches!(self.bytes.get(self.at), Some(b',' | b'}')).then_some(())
    }

    /// A number of milliseconds with at most three decimals, as microseconds.
    ///
    /// With these limits the product in `f64` that the strict reader rounds is within a
    /// millionth of the same integer, so that both give the same.
    fn thousandths(&mut self) -> Option<u64> {
        let whole = self.integer().filter(|whole| *whole <= u64::from(LATENCY_US_MAX))?;
        if !self.eat(b'.') {
            return Some(whole * 1_000);
        }
        let start = self.at;
        let mut decimals = 0;
        while let Some(digit) = self.bytes.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            decimals = decimals * 10 + u64::from(digit - b'0');
            self.at += 1;
            if self.at - start > 3 {
                return None;
            }
        }
        let scale = match self.at - start {
            1 => 100,
            2 => 10,
            3 => 1,
            _ => return None,
        };
        Some(whole * 1_000 + decimals * scale)
    }

    /// Passes over the value of an unknown key: a plain string or integer, or a constant.
    fn skip(&mut self) -> Option<()> {
        match self.bytes.get(self.at)? {
            b'"' => self.string().map(|_| ()),
            b'0'..=b'9' => self.integer().map(|_| ()),
            _ => {
                let rest = &self.bytes[self.at..];
                let constants: [&[u8]; 3] = [b"null", b"true", b"false"];
                let constant = constants.iter().find(|constant| rest.starts_with(constant))?;
                self.at += constant.len();
                Some(())
            }
        }
    }
}

/// The number that eight digits write; `None` where one of them is none.
fn eight_digits(bytes: &[u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(*bytes);
    // A digit is 0x30 to 0x39: its high half is 3, also with 6 added.
    let high = 0xf0f0_f0f0_f0f0_f0f0;
    let threes = 0x3030_3030_3030_3030;
    if word & high != threes || word.wrapping_add(0x0606_0606_0606_0606) & high != threes {
        return None;
    }
    // Digits to pairs, pairs to fours, fours to the eight: the first digit is the lowest byte.
    let pairs = (word & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(1 + (10 << 8)) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(1 + (100 << 16)) >> 16;
    let eight = (fours & 0x0000_ffff_0000_ffff).wrapping_mul(1 + (10_000 << 32)) >> 32;
    Some(eight)
}

/// How many bytes come before the quote that ends a string; `None` where an escape, a control
/// character or the end of the line comes first. Eight bytes at a time.
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte that is zero. A borrow may set bits above a true hit, never
    // below it, and the lowest is the one that is used.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some((chunk, _)) = bytes[at..].split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let escapes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let hits = quotes | escapes | controls;
        if hits != 0 {
            let hit = at + hits.trailing_zeros() as usize / 8;
            return (bytes[hit] == b'"').then_some(hit);
        }
        at += 8;
    }
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    let hit = at + bytes[at..].iter().position(is_special)?;
    (bytes[hit] == b'"').then_some(hit)
}

/// What was read of a line so far.
struct Draft<'e, 'a> {
    event: &'e mut Event<'a>,
    /// One bit a slot.
    seen: u32,
}

impl<'a> Draft<'_, 'a> {
    /// Reads the value of `slot`; `None` where it is not of the usual form or stands twice.
    fn value(&mut self, slot: usize, cursor: &mut Cursor<'a>) -> Option<()> {
        if slot == OTHER {
            cursor.skip()?;
            return cursor.ends_here();
        }
        if self.seen & (1 << slot) != 0 {
            return None;
        }
        self.seen |= 1 << slot;
        let event = &mut *self.event;
        match slot {
            slot::TS => event.ts_ms = ts(cursor)?,
            slot::CUSTOMER => event.customer = cursor.string()?,
            slot::SERVICE => event.service = cursor.string()?,
            slot::ROUTE => event.route = cursor.string()?,
            slot::STATUS => {
                let status = i64::try_from(cursor.integer()?).ok();
                event.status = value::status("", status).ok()?;
            }
            slot::OUTCOME => event.outcome = Some(value::outcome("", cursor.string()?).ok()?),
            slot::LATENCY_MS => event.latency = latency(cursor.thousandths()?)?,
            slot::LATENCY_US => event.latency = latency(cursor.integer()?)?,
            slot::RELEASE => event.release = cursor.string()?,
            slot::COHORT => event.cohort = cursor.string()?,
            slot::REGION => event.region = cursor.string()?,
            slot::ID => event.id = cursor.string()?,
            slot::COUNT => {
                let count = i64::try_from(cursor.integer()?).ok();
                event.count = value::count("", count).ok()?;
            }
            _ => event.attributes[slot - slot::ATTRIBUTE] = cursor.string()?,
        }
        cursor.ends_here()
    }

    /// Whether all that is required was seen; an empty service is the default one.
    fn is_whole(&mut self) -> bool {
        let has = |slot: usize| self.seen & (1 << slot) != 0;
        if self.event.service.is_empty() {
            self.event.service = SERVICE_DEFAULT;
        }
        has(slot::TS)
            && value::customer("", self.event.customer).is_ok()
            && (has(slot::STATUS) || has(slot::OUTCOME))
            && !(has(slot::LATENCY_MS) && has(slot::LATENCY_US))
    }
}

fn ts(cursor: &mut Cursor<'_>) -> Option<i64> {
    let ms = if cursor.bytes.get(cursor.at) == Some(&b'"') {
        parse_rfc3339(cursor.string()?.as_bytes())?
    } else {
        i64::try_from(cursor.integer()?).ok()?
    };
    (TS_MS_MIN..TS_MS_END).contains(&ms).then_some(ms)
}

fn latency(us: u64) -> Option<Latency> {
    let us = u32::try_from(us).ok().filter(|us| *us <= LATENCY_US_MAX)?;
    Some(Latency::Us(us))
}
