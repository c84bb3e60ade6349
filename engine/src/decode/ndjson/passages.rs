//! Values of services and dimensions that were met before, each with what stood behind it up to
//! the next value: where a line has one again, one comparison reads both.
//!
//! Invariants: a passage is met where all its bytes stand as value of its slot, and nowhere else;
//! its reader has read it byte by byte once. Where it is looked for, sixteen bytes decide; those
//! among them that are behind it are no part of it. A place keeps the newest.

use super::fast::END;
use crate::decode::window::{WIDTH, Window};

/// A power of two.
const PLACES: usize = 512;

/// Longer ones are not kept.
const WINDOWS: usize = 3;

/// What is read with one comparison.
#[derive(Clone, Copy)]
pub(super) struct Passage {
    /// The slot of the value behind it, or the end.
    pub(super) next: usize,
    /// From the quote before the value to the begin of the next, or to the end of the object.
    pub(super) length: usize,
    /// How long the value is, without its quotes.
    pub(super) value: usize,
    /// What the event is alike by, as far as this value goes.
    pub(super) alike: u64,
}

/// What a reader remembers.
pub(super) struct Passages(Box<[Place; PLACES]>);

#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    passage: Passage,
    text: [Window; WINDOWS],
    mask: [Window; WINDOWS],
}

impl Default for Passages {
    fn default() -> Self {
        let passage = Passage { next: END, length: 0, value: 0, alike: 0 };
        let nothing = [Window::NEVER; WINDOWS];
        Passages(Box::new([Place { slot: END, passage, text: nothing, mask: nothing }; PLACES]))
    }
}

impl Passages {
    /// The passage that stands at `at` as value of `slot`.
    #[inline(always)]
    pub(super) fn find(&self, slot: usize, bytes: &[u8], at: usize) -> Option<Passage> {
        let first = Window::at(bytes, at);
        let place = &self.0[home(first)];
        let is_at = |part: usize, window: Window| window.and(place.mask[part]) == place.text[part];
        let is_here = place.slot == slot
            && is_at(0, first)
            && is_at(1, Window::at(bytes, at + WIDTH))
            && (place.passage.length <= 2 * WIDTH || is_at(2, Window::at(bytes, at + 2 * WIDTH)));
        is_here.then_some(place.passage)
    }

    /// Keeps a passage that was read at `at`.
    pub(super) fn keep(&mut self, slot: usize, bytes: &[u8], at: usize, passage: Passage) {
        // A short one before another value would be kept anew for each of that one's values.
        let is_stable = passage.length >= WIDTH || passage.next == END;
        if passage.length > WINDOWS * WIDTH || !is_stable {
            return;
        }
        let parts: [usize; WINDOWS] = std::array::from_fn(|part| part * WIDTH);
        let mask = parts.map(|start| Window::mask(passage.length.saturating_sub(start)));
        let mut text = parts.map(|start| Window::at(bytes, at + start));
        text.iter_mut().zip(mask).for_each(|(text, mask)| *text = text.and(mask));
        self.0[home(Window::at(bytes, at))] = Place { slot, passage, text, mask };
    }
}

#[inline(always)]
fn home(Window([first, second]): Window) -> usize {
    let mixed = first ^ second.rotate_left(29);
    // Only the highest bits of the product depend on all bits.
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % PLACES
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
            passages.keep(3, line.as_bytes(), 0, Passage { next: 4, length, value, alike: 7 });
            for slot in 0..17 {
                let found = passages.find(slot, line.as_bytes(), 0);
                assert_eq!(found.map(|passage| passage.length), (slot == 3).then_some(length));
            }
        }
    }
}
