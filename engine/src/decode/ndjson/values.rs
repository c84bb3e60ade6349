//! Values that fields with few of them have had, by number: what a line's service and dimensions
//! are is one word then, and lines that have the same word have the same texts.
//!
//! Invariants: a number stands for one text of one field and is never given to another, so a word
//! means the same as long as its reader lives; texts are compared whole. What is longer than
//! [`BYTES_MAX`], or comes when there is no number or no place left, is not numbered.

use crate::decode::window::{WIDTH, Window};
use crate::short;

/// Service and dimensions.
const FIELDS: usize = 9;

/// Bits of a word that each of them has: all of them together leave one.
const BITS: usize = 7;

/// The number of what has none.
const UNKNOWN: u64 = (1 << BITS) - 1;

/// Longer texts are not numbered.
const BYTES_MAX: usize = 2 * WIDTH;

const PLACES: usize = 512;

/// How many places are looked at for a text, from the one of its hash.
const PROBES: usize = 4;

/// The numbers of one reader.
pub(super) struct Values {
    places: Box<[Place; PLACES]>,
    /// How many numbers each field has given out.
    given: [u64; FIELDS],
}

#[derive(Clone, Copy)]
struct Place {
    /// Zeros behind its end: no plain string holds one.
    text: [Window; 2],
    field: usize,
    /// 0 where the place is free.
    number: u64,
}

impl Default for Values {
    fn default() -> Self {
        let free = Place { text: [Window::ZEROS; 2], field: 0, number: 0 };
        Values { places: Box::new([free; PLACES]), given: [0; FIELDS] }
    }
}

impl Values {
    /// The number of a plain string as value of `field`, at its place in a word; `None` where it
    /// has none. An empty one is 0, as an absent one is.
    pub(super) fn bits(&mut self, field: usize, text: &[u8]) -> Option<u64> {
        if text.is_empty() {
            return Some(0);
        }
        if text.len() > BYTES_MAX {
            return None;
        }
        let number = self.number(field, [Window::at(text, 0), Window::at(text, WIDTH)]);
        (number != UNKNOWN).then_some(number << (BITS * field))
    }

    fn number(&mut self, field: usize, text: [Window; 2]) -> u64 {
        let [[a, b], [c, d]] = text.map(Window::words);
        let mixed = a ^ b.rotate_left(19) ^ c.rotate_left(37) ^ d.rotate_left(53) ^ field as u64;
        let home = short::place(mixed, PLACES);
        for place in home..home + PROBES {
            let place = &mut self.places[place % PLACES];
            if place.text == text && place.field == field {
                return place.number;
            }
            if place.number == 0 {
                let number = self.given[field] + 1;
                if number < UNKNOWN {
                    self.given[field] = number;
                    *place = Place { text, field, number };
                }
                return number;
            }
        }
        UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_number_stands_for_one_text_of_one_field() {
        let mut values = Values::default();
        let mut known = HashMap::new();
        // More than there are numbers, and places; some differ behind the sixteenth byte alone.
        for _ in 0..3 {
            for n in 0..200_u32 {
                for field in 0..FIELDS {
                    let text = format!("{}{n}", "value of a field ".repeat(n as usize % 2));
                    let Some(bits) = values.bits(field, text.as_bytes()) else { continue };
                    assert!(bits != 0 && bits & !(UNKNOWN << (BITS * field)) == 0);
                    let before = known.insert(bits, (field, text.clone()));
                    assert!(before.is_none_or(|before| before == (field, text)));
                }
            }
        }
        assert!(known.len() > 300, "{}", known.len());
        assert_eq!(values.bits(3, b""), Some(0));
        assert_eq!(values.bits(3, &[b'x'; BYTES_MAX + 1]), None);
    }
}
