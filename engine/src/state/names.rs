//! The names of a shard's customers as small numbers, which are free again once a customer is
//! forgotten.
//!
//! Invariants: a number in use has one name and the other way round; a free number is given out
//! again before a new one, so that the numbers stay as few as the customers ever were at once.
//! A name of up to 23 bytes stands in the list by number itself: one look at memory less for each.
//! The hash is seeded at random for each process, so that crafted names cannot make a chain.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smol_str::SmolStr;

use crate::short::same;

/// The customers of a shard.
///
/// ```
/// use ninefold_engine::state::names::Names;
/// let mut names = Names::default();
/// let acme = names.intern("acme");
/// assert_eq!((names.find("acme"), names.text(acme)), (Some(acme), "acme"));
/// names.forget(acme);
/// assert_eq!((names.find("acme"), names.count()), (None, 0));
/// assert_eq!(names.intern("globex"), acme);
/// ```
#[derive(Default)]
pub struct Names {
    hasher: RandomState,
    index: HashTable<u32>,
    texts: Vec<Option<SmolStr>>,
    free: Vec<u32>,
}

impl Names {
    /// The number of `text`, a free one at first sight.
    pub fn intern(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        let (texts, hasher) = (&self.texts, &self.hasher);
        let entry = self.index.entry(
            hash,
            |id| text_of(texts, *id) == text,
            |id| hasher.hash_one(text_of(texts, *id)),
        );
        match entry {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let id = self.free.pop().unwrap_or(self.texts.len() as u32);
                place.insert(id);
                if id as usize == self.texts.len() {
                    self.texts.push(None);
                }
                self.texts[id as usize] = Some(SmolStr::new(text));
                id
            }
        }
    }

    /// The number of `text`, if it has one.
    pub fn find(&self, text: &str) -> Option<u32> {
        let found = |id: &u32| text_of(&self.texts, *id) == text;
        self.index.find(self.hasher.hash_one(text), found).copied()
    }

    /// The numbers of many texts, in their order; `None` for one that has none. The index and the
    /// names lie all over memory: looked up in two steps, many texts wait for it side by side.
    pub fn find_all<'a>(
        &self,
        texts: impl Iterator<Item = &'a str> + Clone,
    ) -> impl Iterator<Item = Option<u32>> {
        let first_alike =
            |text: &str| self.index.find(self.hasher.hash_one(text), |_| true).copied();
        let alike: Vec<Option<u32>> = texts.clone().map(first_alike).collect();
        alike.into_iter().zip(texts).map(|(alike, text)| {
            // One of a hundred is alike by its hash alone.
            let is_it = |id: &u32| same(self.text(*id).as_bytes(), text.as_bytes());
            alike.filter(is_it).or_else(|| alike.and_then(|_| self.find(text)))
        })
    }

    /// The name of a number.
    ///
    /// # Panics
    /// If the number is not in use.
    pub fn text(&self, id: u32) -> &str {
        text_of(&self.texts, id)
    }

    /// The name of a number; `None` where it is not in use.
    pub fn get(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)?.as_ref().map(SmolStr::as_str)
    }

    /// The name of a number, to be shared by what is kept of it: a short one is made anew.
    ///
    /// # Panics
    /// If the number is not in use.
    pub fn shared(&self, id: u32) -> Arc<str> {
        self.texts[id as usize].clone().expect("the number is in use").into()
    }

    /// Frees a number.
    ///
    /// # Panics
    /// If it is not in use.
    pub fn forget(&mut self, id: u32) {
        let text = self.texts[id as usize].take().expect("the number is in use");
        let found =
            self.index.find_entry(self.hasher.hash_one(text.as_str()), |known| *known == id);
        found.expect("every name is in the index").remove();
        self.free.push(id);
    }

    /// How many numbers are in use.
    pub fn count(&self) -> usize {
        self.texts.len() - self.free.len()
    }

    /// One past the largest number that was ever in use.
    pub fn numbers(&self) -> usize {
        self.texts.len()
    }

    /// About how much memory a name takes, in bytes: its text and counters where it is shared, its
    /// place here, in the index and, later, in the list of free numbers.
    pub fn bytes_of(text: &str) -> usize {
        let counters = 16;
        let index = 10;
        text.len().next_multiple_of(8) + counters + size_of::<Option<SmolStr>>() + index + 4
    }
}

fn text_of(texts: &[Option<SmolStr>], id: u32) -> &str {
    texts[id as usize].as_ref().expect("the number is in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_found_as_one_by_one() {
        let mut names = Names::default();
        // Of both sides of what stands in the list itself.
        let name = |n: usize| format!("{n}{}", "x".repeat(n % 40));
        let all: Vec<String> = (0..3_000).map(name).collect();
        let known = all.iter().filter(|name| name.len() % 3 != 0);
        let known: Vec<u32> = known.map(|name| names.intern(name)).collect();
        assert_eq!(known.len(), names.count());
        let texts = || all.iter().map(String::as_str);
        let found: Vec<Option<u32>> = names.find_all(texts()).collect();
        assert_eq!(found, texts().map(|text| names.find(text)).collect::<Vec<_>>());
        for (text, found) in texts().zip(found) {
            assert_eq!(found.is_some(), text.len() % 3 != 0, "{text}");
            if let Some(id) = found {
                assert_eq!((names.text(id), &*names.shared(id)), (text, text));
            }
        }
    }

    #[test]
    fn numbers_are_used_again_and_names_keep_theirs() {
        let mut names = Names::default();
        let name = |n: u32| format!("customer {n}");
        for n in 0..1_000 {
            assert_eq!(names.intern(&name(n)), n);
        }
        (0..1_000).filter(|n| n % 3 == 0).for_each(|n| names.forget(n));
        assert_eq!((names.count(), names.numbers()), (666, 1_000));
        for n in 0..1_000 {
            assert_eq!(names.find(&name(n)), (n % 3 != 0).then_some(n));
        }
        for n in 1_000..1_334 {
            assert!(names.intern(&name(n)) < 1_000, "free numbers come first");
        }
        assert_eq!(names.intern("one more"), 1_000);
        assert_eq!(names.text(names.find(&name(1_333)).unwrap()), name(1_333));
    }
}
