//! The usual native line in one pass: a flat object, no escapes, plain integers.
//!
//! What was read before is tried first, and compared sixteen bytes at a time. What stands between
//! two values is one [`Joint`]: the comma, the key, the colon. The value of a service or dimension
//! is one [passage](Passages) with the joint behind it. A source which writes its keys in one order
//! costs one comparison a field; any other order costs a search. Every byte that the answer relies
//! on is checked: the text is valid UTF-8 (a `&str`), the object has the grammar of one from its
//! first byte to its last, known keys stand at most once and hold values that their rule takes.
//! Whatever is not so (an escape, a nested value, white space other than one space after `:` and
//! `,`, a number in another form, a value to refuse) ends in `None`: the strict reader decides.
//!
//! The text may go on behind the object, whose end the reader tells: no newline stands before it.

use super::passages::Passages;
use super::values::Values;
use crate::decode::clock::is_in_years;
use crate::decode::value::{self, SLOTS, slot};
use crate::decode::window::{self, KnownDigits, WIDTH, Window, ahead, plain_end};
use crate::model::{Alike, Bare, CUSTOMER_BYTES_MAX, Event, LATENCY_US_MAX, Latency};
use crate::short;
use crate::time::parse_rfc3339;

/// The slot of keys that are not known.
const OTHER: usize = SLOTS;

/// What comes before the first key.
const START: usize = SLOTS + 1;

/// In the place of a slot: the object has ended.
pub(super) const END: usize = SLOTS + 2;

/// The slots of the service and the dimensions, one bit each.
const TEXTS: u32 = (1 << slot::SERVICE)
    | (1 << slot::ROUTE)
    | (1 << slot::RELEASE)
    | (1 << slot::COHORT)
    | (1 << slot::REGION)
    | ((1 << SLOTS) - (1 << slot::ATTRIBUTE));

/// The reader with what it remembers of lines before.
pub(super) struct Fast {
    /// `"name":` of each slot; empty where the configuration names no such field.
    keys: [Vec<u8>; SLOTS],
    /// What followed each slot the last time.
    joints: [Joint; SLOTS + 2],
    passages: Passages,
    values: Values,
    /// The begin of the time before, in milliseconds.
    ts_begin: KnownDigits,
    /// Whether no two fields share a name: those are left to the strict reader.
    usable: bool,
    /// Where the service and the dimensions of the line before stand, those that it has.
    places: [(usize, usize); SLOTS],
    /// Which slots it has, one bit each.
    seen: u32,
}

/// What stands between two values, or before the first, with the slot that it leads to.
#[derive(Clone, Copy)]
#[repr(align(128))]
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
        ahead(line.bytes, at, |chunk: &[u8; 2 * WIDTH]| {
            let differs =
                |part| Window::part(chunk, part).differs(self.mask[part], self.text[part]);
            differs(0).or(differs(1)) == Window::ZEROS
        })
    }
}

impl Fast {
    pub(super) fn new(names: &[String]) -> Fast {
        let mut keys = [const { Vec::new() }; SLOTS];
        for (key, name) in keys.iter_mut().zip(names) {
            *key = format!("\"{name}\":").into_bytes();
        }
        let twice = |(index, name): (usize, &String)| names[..index].contains(name);
        Fast {
            keys,
            joints: [Joint::NONE; SLOTS + 2],
            passages: Passages::default(),
            values: Values::default(),
            ts_begin: KnownDigits::default(),
            usable: !names.iter().enumerate().any(twice),
            places: [(0, 0); SLOTS],
            seen: 0,
        }
    }

    /// Reads the usual line that `text` begins with into `event`, which is as by default, but for
    /// its service and dimensions: those are [`Fast::shared`]. What its event is alike by, and where
    /// the object ends; `None` where the strict reader is to decide, whatever stands in `event`
    /// then. No line ends within the object.
    pub(super) fn decode<'t>(
        &mut self,
        text: &'t str,
        event: &mut Bare<'t>,
    ) -> Option<(Alike, usize)> {
        if !self.usable {
            return None;
        }
        let line = Line { text, bytes: text.as_bytes() };
        // One bit a slot.
        let mut seen = 0_u32;
        let mut alike = 0;
        let (mut slot, mut at) = self.joint(START, line, 0)?;
        while slot != END {
            if seen & 1 << slot != 0 {
                return None;
            }
            // Keys that are not known may stand more than once.
            seen |= 1 << slot & ((1 << OTHER) - 1);
            if TEXTS & 1 << slot == 0 {
                let Some(end) = self.value(slot, line, at, event) else {
                    return self.give_up(line, at);
                };
                (slot, at) = self.joint(slot, line, end)?;
            } else if let Some(known) = self.passages.find(slot, line.bytes, at) {
                self.places[slot] = (at + 1, known.value.into());
                alike |= known.alike;
                (slot, at) = (known.next.into(), at + usize::from(known.length));
            } else {
                let Some(read) = self.other_passage(slot, line, at) else {
                    return self.give_up(line, at);
                };
                alike |= read.alike;
                (slot, at) = (read.next, read.end);
            }
        }
        self.seen = seen;
        is_whole(seen, event).then_some((Alike(alike), at))
    }

    /// An event with the service and the dimensions of the line that was read last, which `text`
    /// begins with, and nothing else.
    pub(super) fn shared<'t>(&self, text: &'t str) -> Event<'t> {
        let mut event = Event::default();
        for (slot, (start, length)) in self.places.into_iter().enumerate() {
            if self.seen & TEXTS & 1 << slot == 0 {
                continue;
            }
            let value = &text[start..start + length];
            match slot {
                // An empty one is the default.
                slot::SERVICE if value.is_empty() => {}
                slot::SERVICE => event.service = value,
                slot::ROUTE => event.route = value,
                slot::RELEASE => event.release = value,
                slot::COHORT => event.cohort = value,
                slot::REGION => event.region = value,
                _ => event.attributes[slot - slot::ATTRIBUTE] = value,
            }
        }
        event
    }

    /// The value at `at` is none. A joint without a space is met where there is one too, so the
    /// next line is to learn its joints anew if that is why.
    #[cold]
    fn give_up<T>(&mut self, line: Line<'_>, at: usize) -> Option<T> {
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

    /// Reads the value of a service or dimension at `at`, with the joint behind it, where that
    /// passage is not known.
    #[inline(never)]
    fn other_passage(&mut self, slot: usize, line: Line<'_>, at: usize) -> Option<Read> {
        let (text, behind) = line.string(at)?;
        self.places[slot] = (at + 1, text.len());
        // Its place among those that have numbers.
        let field = (TEXTS & ((1 << slot) - 1)).count_ones() as usize;
        let alike = self.values.bits(field, text.as_bytes()).unwrap_or(Alike::NONE.0);
        let (next, end) = self.joint(slot, line, behind)?;
        self.passages.keep(slot, (line.bytes, at), (text.len(), alike), (next, end - at));
        Some(Read { alike, next, end })
    }

    /// Reads the value of any other slot at `at`; `None` where it is not of the usual form. Where it
    /// ends.
    #[inline(always)]
    fn value<'t>(
        &mut self,
        slot: usize,
        line: Line<'t>,
        at: usize,
        event: &mut Bare<'t>,
    ) -> Option<usize> {
        let end;
        match slot {
            slot::TS => (event.ts_ms, end) = self.ts(line, at)?,
            slot::CUSTOMER => (event.customer, end) = line.string(at)?,
            slot::STATUS => {
                // A digit behind it is no joint.
                (event.status, end) = match window::status(line.bytes, at) {
                    Some(status) => (status, at + 3),
                    None => match line.integer(at)? {
                        (0, end) => (0, end),
                        _ => return None,
                    },
                };
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

    #[inline(always)]
    fn ts(&mut self, line: Line<'_>, at: usize) -> Option<(i64, usize)> {
        let (ms, end) = match self.ts_begin.integer(line.bytes, at) {
            Some((ms, digits)) => (i64::try_from(ms).ok()?, at + digits),
            None => {
                let (text, end) = line.string(at)?;
                (parse_rfc3339(text.as_bytes())?, end)
            }
        };
        is_in_years(ms).then_some((ms, end))
    }
}

/// What a value and the joint behind it came to.
struct Read {
    /// What the event is alike by, as far as the value goes.
    alike: u64,
    /// The slot of the next one, or the end, and where that is.
    next: usize,
    end: usize,
}

/// Whether all that is required was seen.
#[inline(always)]
fn is_whole(seen: u32, event: &Bare<'_>) -> bool {
    let has = |slot: usize| seen & (1 << slot) != 0;
    has(slot::TS)
        && (1..=CUSTOMER_BYTES_MAX).contains(&event.customer.len())
        && (has(slot::STATUS) || has(slot::OUTCOME))
        && !(has(slot::LATENCY_MS) && has(slot::LATENCY_US))
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
        let [quotes, others] = Window::at(self.bytes, at).marks();
        if quotes & 1 == 0 {
            return None;
        }
        let end = match (quotes | others) & !1 {
            0 => plain_end(self.bytes, at + WIDTH),
            marks => at + marks.trailing_zeros() as usize,
        };
        let behind = self.eat(end, b'"')?;
        Some((self.text.get(at + 1..end)?, behind))
    }

    /// An integer without sign, of at most 15 digits, as JSON writes it.
    #[inline(always)]
    fn integer(self, at: usize) -> Option<(u64, usize)> {
        let (number, digits) = window::integer(self.bytes, at)?;
        Some((number, at + digits))
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
        let (decimals, digits) = window::number(self.bytes, point);
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
