//! The usual native line in one pass: a flat object, no escapes, plain integers.
//!
//! What was read before is tried first, and compared sixteen bytes at a time. What stands between
//! two values is one [`Joint`]: the comma, the key, the colon. The value of a service or dimension
//! is one [`Passage`] with the joint behind it. A source which writes its keys in one order costs
//! one comparison a field; any other order costs a search. Every byte that the answer relies on
//! is checked: the text is valid UTF-8 (a `&str`), the line has the grammar of an object from its
//! first byte to its last, known keys stand at most once and hold values that their rule takes.
//! Whatever is not so (an escape, a nested value, white space other than one space after `:` and
//! `,`, a number in another form, a value to refuse) ends in `None`: the strict reader decides.
//!
//! The text may go on behind the line. The place in it only ever grows, so that a reader which
//! has gone too far is not at the line's end when it meets the end of an object.

use super::passages::{Passage, Passages};
use super::values::Values;
use crate::decode::value::{self, SLOTS, slot};
use crate::decode::window::{WIDTH, Window, plain_end};
use crate::model::{Alike, Event, LATENCY_US_MAX, Latency, SERVICE_DEFAULT};
use crate::short;
use crate::time::{TS_MS_END, TS_MS_MIN, parse_rfc3339};

/// The slot of keys that are not known.
const OTHER: usize = SLOTS;

/// What comes before the first key.
const START: usize = SLOTS + 1;

/// In the place of a slot: the object has ended.
pub(super) const END: usize = SLOTS + 2;

/// The reader with what it remembers of lines before.
pub(super) struct Fast {
    /// `"name":` of each slot; empty where the configuration names no such field.
    keys: [Vec<u8>; SLOTS],
    /// What followed each slot the last time.
    joints: [Joint; SLOTS + 2],
    passages: Passages,
    values: Values,
    /// Whether no two fields share a name: those are left to the strict reader.
    usable: bool,
}

/// What stands between two values, or before the first, with the slot that it leads to.
#[derive(Clone, Copy)]
struct Joint {
    slot: usize,
    length: usize,
    /// The bytes, and where they are: in a long one what comes behind the first window too.
    text: [Window; 2],
    mask: [Window; 2],
}

impl Joint {
    /// One that is never met.
    const NONE: Joint =
        Joint { slot: OTHER, length: 0, text: [Window::NEVER; 2], mask: [Window::NEVER; 2] };

    /// One that is longer than two windows is never met either.
    fn of(bytes: &[u8], slot: usize) -> Joint {
        let length = bytes.len();
        if length > 2 * WIDTH {
            return Joint { slot, ..Joint::NONE };
        }
        let mask = [Window::mask(length), Window::mask(length.saturating_sub(WIDTH))];
        Joint { slot, length, text: [Window::at(bytes, 0), Window::at(bytes, WIDTH)], mask }
    }

    #[inline(always)]
    fn is_at(&self, line: Line<'_>, at: usize) -> bool {
        let same = |part: usize| {
            Window::at(line.bytes, at + part * WIDTH).and(self.mask[part]) == self.text[part]
        };
        same(0) && (self.length <= WIDTH || same(1))
    }
}

impl Fast {
    pub(super) fn new(names: &[String]) -> Fast {
        let mut keys = [const { Vec::new() }; SLOTS];
        for (key, name) in keys.iter_mut().zip(names) {
            *key = format!("\"{name}\":").into_bytes();
        }
        let twice = |(index, name): (usize, &String)| names[..index].contains(name);
        let usable = !names.iter().enumerate().any(twice);
        let joints = [Joint::NONE; SLOTS + 2];
        Fast { keys, joints, passages: Passages::default(), values: Values::default(), usable }
    }

    /// Reads a usual line, the first `length` bytes of `text`, into `event`, which is as by
    /// default; `None` where the strict reader is to decide, whatever stands in `event` then.
    pub(super) fn decode<'a>(
        &mut self,
        text: &'a str,
        length: usize,
        event: &mut Event<'a>,
    ) -> Option<Alike> {
        if !self.usable {
            return None;
        }
        let line = Line { text, bytes: text.as_bytes() };
        // One bit a slot.
        let mut seen = 0_u32;
        let mut alike = 0;
        let (mut slot, mut at) = self.joint(START, line, 0)?;
        while slot != END {
            if slot < OTHER && seen & (1 << slot) != 0 {
                return None;
            }
            seen |= 1 << slot;
            if let Some(field) = field_of(slot) {
                let Some(passage) = self.passage(slot, field, line, at) else {
                    return self.give_up(line, at);
                };
                *place_of(event, field) = line.text.get(at + 1..at + 1 + passage.value)?;
                alike |= passage.alike;
                (slot, at) = (passage.next, at + passage.length);
            } else {
                let Some(end) = value(slot, line, at, event) else {
                    return self.give_up(line, at);
                };
                (slot, at) = self.joint(slot, line, end)?;
            }
        }
        (at == length && is_whole(seen, event)).then_some(Alike(alike))
    }

    /// The value at `at` is none. A joint without a space is met where there is one too, so the
    /// next line is to learn its joints anew if that is why.
    #[cold]
    fn give_up(&mut self, line: Line<'_>, at: usize) -> Option<Alike> {
        if line.eat(at, b' ').is_some() {
            self.joints = [Joint::NONE; SLOTS + 2];
        }
        None
    }

    /// What stands at `at`, behind a value: the slot of the next, and where that begins; or the end
    /// of the object, and where that is.
    #[inline(always)]
    fn joint(&mut self, before: usize, line: Line<'_>, at: usize) -> Option<(usize, usize)> {
        let joint = &self.joints[before];
        if joint.is_at(line, at) {
            return Some((joint.slot, at + joint.length));
        }
        self.other_joint(before, line, at)
    }

    /// The same for one that is not known.
    fn other_joint(
        &mut self,
        before: usize,
        line: Line<'_>,
        start: usize,
    ) -> Option<(usize, usize)> {
        if let Some(end) = line.eat(start, b'}').filter(|_| before != START) {
            return Some((END, end));
        }
        let mut at = line.eat(start, if before == START { b'{' } else { b',' })?;
        if before != START {
            at = line.eat(at, b' ').unwrap_or(at);
        }
        let (_, key_end) = line.string(at)?;
        let end = line.eat(key_end, b':')?;
        let found = &line.bytes[at..end];
        let slot = self.keys.iter().position(|key| short::same(key, found)).unwrap_or(OTHER);
        let end = line.eat(end, b' ').unwrap_or(end);
        self.joints[before] = Joint::of(&line.bytes[start..end], slot);
        Some((slot, end))
    }

    /// The value of a service or dimension at `at`, with the joint behind it.
    #[inline(always)]
    fn passage(&mut self, slot: usize, field: usize, line: Line<'_>, at: usize) -> Option<Passage> {
        match self.passages.find(slot, line.bytes, at) {
            Some(passage) => Some(passage),
            None => self.other_passage(slot, field, line, at),
        }
    }

    /// The same for one that is not known.
    fn other_passage(
        &mut self,
        slot: usize,
        field: usize,
        line: Line<'_>,
        at: usize,
    ) -> Option<Passage> {
        let (text, behind) = line.string(at)?;
        let alike = self.values.bits(field, text.as_bytes()).unwrap_or(Alike::NONE.0);
        let (next, end) = self.joint(slot, line, behind)?;
        let passage = Passage { next, length: end - at, value: text.len(), alike };
        self.passages.keep(slot, line.bytes, at, passage);
        Some(passage)
    }
}

/// Which of the service (0) and the dimensions has a slot.
#[inline(always)]
fn field_of(slot: usize) -> Option<usize> {
    match slot {
        slot::SERVICE => Some(0),
        slot::ROUTE => Some(1),
        slot::RELEASE => Some(2),
        slot::COHORT => Some(3),
        slot::REGION => Some(4),
        slot::ATTRIBUTE..SLOTS => Some(5 + slot - slot::ATTRIBUTE),
        _ => None,
    }
}

/// Where it stands in an event.
#[inline(always)]
fn place_of<'e, 'a>(event: &'e mut Event<'a>, field: usize) -> &'e mut &'a str {
    match field {
        0 => &mut event.service,
        1 => &mut event.route,
        2 => &mut event.release,
        3 => &mut event.cohort,
        4 => &mut event.region,
        _ => &mut event.attributes[field - 5],
    }
}

/// Reads the value of any other slot at `at`; `None` where it is not of the usual form. Where it
/// ends.
#[inline(always)]
fn value<'a>(slot: usize, line: Line<'a>, at: usize, event: &mut Event<'a>) -> Option<usize> {
    let end;
    match slot {
        slot::TS => (event.ts_ms, end) = ts(line, at)?,
        slot::CUSTOMER => (event.customer, end) = line.string(at)?,
        slot::STATUS => {
            let (status, behind) = line.integer(at)?;
            event.status = value::status("", i64::try_from(status).ok()).ok()?;
            end = behind;
        }
        slot::OUTCOME => {
            let (outcome, behind) = line.string(at)?;
            event.outcome = Some(value::outcome("", outcome).ok()?);
            end = behind;
        }
        slot::LATENCY_MS => {
            let (us, behind) = line.thousandths(at)?;
            (event.latency, end) = (latency(us)?, behind);
        }
        slot::LATENCY_US => {
            let (us, behind) = line.integer(at)?;
            (event.latency, end) = (latency(us)?, behind);
        }
        slot::ID => (event.id, end) = line.string(at)?,
        slot::COUNT => {
            let (count, behind) = line.integer(at)?;
            event.count = value::count("", i64::try_from(count).ok()).ok()?;
            end = behind;
        }
        _ => end = line.skip(at)?,
    }
    Some(end)
}

/// Whether all that is required was seen; an empty service is the default one.
#[inline(always)]
fn is_whole(seen: u32, event: &mut Event<'_>) -> bool {
    let has = |slot: usize| seen & (1 << slot) != 0;
    if event.service.is_empty() {
        event.service = SERVICE_DEFAULT;
    }
    has(slot::TS)
        && value::customer("", event.customer).is_ok()
        && (has(slot::STATUS) || has(slot::OUTCOME))
        && !(has(slot::LATENCY_MS) && has(slot::LATENCY_US))
}

#[inline(always)]
fn ts(line: Line<'_>, at: usize) -> Option<(i64, usize)> {
    let (ms, end) = if line.bytes.get(at) == Some(&b'"') {
        let (text, end) = line.string(at)?;
        (parse_rfc3339(text.as_bytes())?, end)
    } else {
        let (ms, end) = line.integer(at)?;
        (i64::try_from(ms).ok()?, end)
    };
    (TS_MS_MIN..TS_MS_END).contains(&ms).then_some((ms, end))
}

fn latency(us: u64) -> Option<Latency> {
    let us = u32::try_from(us).ok().filter(|us| *us <= LATENCY_US_MAX)?;
    Some(Latency::Us(us))
}

/// The text from the begin of a line. Each reader gives what stands at a place, and where it ends.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a str,
    bytes: &'a [u8],
}

impl<'a> Line<'a> {
    #[inline(always)]
    fn eat(self, at: usize, byte: u8) -> Option<usize> {
        (self.bytes.get(at) == Some(&byte)).then_some(at + 1)
    }

    /// A string without escapes.
    #[inline(always)]
    fn string(self, at: usize) -> Option<(&'a str, usize)> {
        let start = self.eat(at, b'"')?;
        let end = plain_end(self.bytes, start);
        let behind = self.eat(end, b'"')?;
        Some((self.text.get(start..end)?, behind))
    }

    /// An integer without sign, of at most 15 digits, as JSON writes it.
    #[inline(always)]
    fn integer(self, at: usize) -> Option<(u64, usize)> {
        let (number, digits) = Window::at(self.bytes, at).number();
        let is_plain = digits == 1 || (digits > 1 && self.bytes[at] != b'0');
        is_plain.then_some((number, at + digits))
    }

    /// A number of milliseconds with at most three decimals, as microseconds.
    ///
    /// With these limits the product in `f64` that the strict reader rounds is within a
    /// millionth of the same integer, so that both give the same.
    fn thousandths(self, at: usize) -> Option<(u64, usize)> {
        let (whole, end) = self.integer(at)?;
        if whole > u64::from(LATENCY_US_MAX) {
            return None;
        }
        let Some(point) = self.eat(end, b'.') else { return Some((whole * 1_000, end)) };
        let (decimals, digits) = Window::at(self.bytes, point).number();
        let scale = match digits {
            1 => 100,
            2 => 10,
            3 => 1,
            _ => return None,
        };
        Some((whole * 1_000 + decimals * scale, point + digits))
    }

    /// Passes over the value of an unknown key: a plain string or integer, or a constant.
    fn skip(self, at: usize) -> Option<usize> {
        match self.bytes.get(at)? {
            b'"' => self.string(at).map(|(_, end)| end),
            b'0'..=b'9' => self.integer(at).map(|(_, end)| end),
            _ => {
                let constants: [&[u8]; 3] = [b"null", b"true", b"false"];
                let rest = &self.bytes[at..];
                let constant = constants.iter().find(|constant| rest.starts_with(constant))?;
                Some(at + constant.len())
            }
        }
    }
}
