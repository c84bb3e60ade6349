//! Values of services and dimensions that were met before, each with what stood behind it up to
//! the next value: where a line has one again, one comparison reads both.
//!
//! Invariants: a passage is met where all its bytes stand as value of its slot, and nowhere else;
//! its reader has read it byte by byte once. Where it is looked for, sixteen bytes decide; those
//! among them that are behind it are no part of it. A place keeps the newest.

use super::fast::END;
use crate::decode::window::{self, WIDTH, Window, ahead};
use crate::short;

/// A power of two; so many that a few dozen seldom share one.
const PLACES: usize = 1_024;

/// Longer ones are not kept.
const WINDOWS: usize = 3;

const BYTES_MAX: usize = WINDOWS * WIDTH;

/// What a reader remembers.
pub(super) struct Passages(Box<[Passage; PLACES]>);

/// What is read with one comparison. It has lines of the cache of its own.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Passage {
    text: [Window; WINDOWS],
    mask: [Window; WINDOWS],
    /// What the event is alike by, as far as this value goes.
    pub(super) alike: u64,
    slot: u8,
    /// The slot of the value behind it, or the end.
    pub(super) next: u8,
    /// From the quote before the value to the begin of the next, or to the end of the object.
    pub(super) length: u8,
    /// How long the value is, without its quotes.
    pub(super) value: u8,
}

impl Default for Passages {
    fn default() -> Self {
        let (text, mask) = ([Window::NEVER; WINDOWS], [Window::ZEROS; WINDOWS]);
        let slot = END as u8;
        let nothing = Passage { text, mask, alike: 0, slot, next: slot, length: 0, value: 0 };
        Passages(Box::new([nothing; PLACES]))
    }
}

impl Passages {
    /// The passage that stands at `at` as value of `slot`.
    #[inline(always)]
    pub(super) fn find(&self, slot: usize, bytes: &[u8], at: usize) -> Option<&Passage> {
        ahead(bytes, at, |chunk: &[u8; BYTES_MAX]| {
            // The words first: a vector made of them would be waited for.
            let known = &self.0[home(window::words(chunk))];
            let differs =
                |part| Window::part(chunk, part).differs(known.mask[part], known.text[part]);
            let is_here = usize::from(known.slot) == slot
                && differs(0).or(differs(1)) == Window::ZEROS
                && (usize::from(known.length) <= 2 * WIDTH || differs(2) == Window::ZEROS);
            is_here.then_some(known)
        })
    }

    /// Keeps a passage that was read at `at`: the value of `slot`, of `value` bytes and alike by
    /// `alike`, and what follows up to the value of `next`, of `length` bytes with it.
    pub(super) fn keep(
        &mut self,
        slot: usize,
        (bytes, at): (&[u8], usize),
        (value, alike): (usize, u64),
        (next, length): (usize, usize),
    ) {
        // A short one before another value would be kept anew for each of that one's values.
        let is_stable = length >= WIDTH || next == END;
        if length > BYTES_MAX || !is_stable {
            return;
        }
        let parts: [usize; WINDOWS] = std::array::from_fn(|part| part * WIDTH);
        let mask = parts.map(|start| Window::mask(length.saturating_sub(start)));
        let mut text = parts.map(|start| Window::at(bytes, at + start));
        text.iter_mut().zip(mask).for_each(|(text, mask)| *text = text.and(mask));
        let [slot, next, length, value] = [slot, next, length, value].map(|small| small as u8);
        self.0[home(ahead(bytes, at, window::words::<WIDTH>))] =
            Passage { text, mask, alike, slot, next, length, value };
    }
}

#[inline(always)]
fn home([first, second]: [u64; 2]) -> usize {
    short::place(first ^ second.rotate_left(29), PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_is_met_as_value_of_its_slot_alone() {
        let mut passages = Passages::default();
        for n in 0..2_000 {
            let line = format!("\"value {n}\",\"behind\":");
            let (length, value) = (line.len(), line.len() - 12);
            passages.keep(3, (line.as_bytes(), 0), (value, 7), (4, length));
            for slot in 0..17 {
                let found = passages.find(slot, line.as_bytes(), 0);
                let found = found.map(|known| (usize::from(known.length), known.next, known.alike));
                assert_eq!(found, (slot == 3).then_some((length, 4, 7)));
            }
        }
    }
}
