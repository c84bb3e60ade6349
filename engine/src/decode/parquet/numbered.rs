//! The usual rows, whose services and dimensions are numbers: no text of theirs is looked at row
//! by row, since of some thousand rows a few hundred differ in them.
//!
//! A text is a *view* of 16 bytes: the text itself where it is short, else its place in a page.
//! Equal views of one column are equal texts, and a dictionary gives each of its texts one view,
//! so views are compared and hashed in their place. The reverse does not hold: one text from two
//! dictionaries, or written out twice, has two views, and then two numbers. Whoever takes a
//! number's texts has to know them by what they say.
//!
//! On any doubt a row is read as [`Rows::for_each`] reads it, which alone refuses; where a column
//! has an unusual type, all rows are.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::super::value::{self, SLOTS, slot};
use super::usual::Usual;
use super::{At, Column, Line, Rows, Values};
use crate::model::{Bare, Event};

/// Some rows of a file; see [`Rows::numbered`].
pub struct Numbered<'r> {
    rows: &'r Rows,
    columns: [Column; SLOTS],
    /// `None` where texts may be what is no text.
    numbers: Option<Numbers>,
}

/// A row.
#[derive(Debug, PartialEq)]
pub enum Taken<'a> {
    /// An event, with the number of its service and dimensions.
    Event(Bare<'a>, usize),
    /// As [`Rows::for_each`] gives it.
    Line(Line<'a>),
}

/// Which service and dimensions each row has.
struct Numbers {
    of_rows: Vec<u32>,
    /// The first row of each number.
    firsts: Vec<u32>,
}

impl<'r> Numbered<'r> {
    pub(super) fn of(rows: &'r Rows, columns: [Column; SLOTS]) -> Numbered<'r> {
        let numbers = views(&columns).map(|views| Numbers::of(&views, rows.batch.num_rows()));
        Numbered { rows, columns, numbers }
    }

    /// How many numbers there are; they count from 0, in the order of the rows.
    pub fn tuples(&self) -> usize {
        self.numbers.as_ref().map_or(0, |numbers| numbers.firsts.len())
    }

    /// An event with the service and dimensions of a number; nothing else of it matters.
    ///
    /// # Panics
    /// If there is no such number.
    pub fn example(&self, number: usize) -> Event<'_> {
        let firsts = self.numbers.as_ref().map_or(&[][..], |numbers| &numbers.firsts);
        let shared = value::shared(self.at(firsts[number] as usize));
        shared.expect("rows have numbers only where all texts are text")
    }

    /// Calls `f` with each row and its index.
    pub fn for_each(&self, mut f: impl FnMut(u64, Taken<'_>)) {
        let names = &self.rows.columns.names;
        let usual = self.numbers.as_ref().zip(Usual::of(&self.columns, names));
        for (index, row) in (self.rows.first..self.rows.next()).enumerate() {
            let event = usual.as_ref().and_then(|(numbers, usual)| {
                Some(Taken::Event(usual.event(index)?, numbers.of_rows[index] as usize))
            });
            f(row, event.unwrap_or_else(|| Taken::Line(self.at(index).line())));
        }
    }

    fn at(&self, index: usize) -> At<'_> {
        At { columns: &self.columns, names: &self.rows.columns.names, index }
    }
}

/// The views of the services and dimensions, a list a column; `None` where one of their columns,
/// or the one of the ids, holds what is no text.
fn views(columns: &[Column; SLOTS]) -> Option<Vec<Cow<'_, [u128]>>> {
    let mut views = Vec::new();
    let dimensions = [slot::SERVICE, slot::ROUTE, slot::RELEASE, slot::COHORT, slot::REGION];
    for slot in dimensions.into_iter().chain(slot::ATTRIBUTE..SLOTS).chain([slot::ID]) {
        let Column { values, nulls } = &columns[slot];
        match (values, nulls) {
            (Values::Absent, _) => {}
            (Values::Text(_), _) if slot == slot::ID => {}
            (Values::Text(texts), None) => views.push(Cow::Borrowed(&texts.views()[..])),
            (Values::Text(texts), Some(nulls)) => {
                // What stands where a null is does not count; 0 is the view of an empty text.
                let with_nulls = texts.views().iter().zip(nulls);
                let views_of = with_nulls.map(|(view, is_valid)| if is_valid { *view } else { 0 });
                views.push(views_of.collect());
            }
            _ => return None,
        }
    }
    Some(views)
}

impl Numbers {
    fn of(views: &[Cow<'_, [u128]>], rows: usize) -> Numbers {
        let state = RandomState::default();
        let hash = |row: usize| {
            let mut hasher = state.build_hasher();
            views.iter().for_each(|column| hasher.write_u128(column[row]));
            hasher.finish()
        };
        let mut known: HashTable<u32> = HashTable::new();
        let mut firsts: Vec<u32> = Vec::new();
        let number_of = |row: usize| {
            let same = |number: &u32| {
                let first = firsts[*number as usize] as usize;
                views.iter().all(|column| column[row] == column[first])
            };
            let hash_of_row = hash(row);
            if let Some(number) = known.find(hash_of_row, same) {
                return *number;
            }
            let number = firsts.len() as u32;
            firsts.push(row as u32);
            known.insert_unique(hash_of_row, number, |number| {
                hash(firsts[*number as usize] as usize)
            });
            number
        };
        Numbers { of_rows: (0..rows).map(number_of).collect(), firsts }
    }
}
