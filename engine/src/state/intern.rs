//! Texts as small numbers: each text is kept once, its number is its place of first sight.
//!
//! Numbers never change and never run out below 2³² texts. The hash is seeded at random for
//! each process, so that crafted names cannot make a chain; nothing that is stored or shown
//! depends on a number or on the seed.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// The set of texts seen so far.
///
/// ```
/// use ninefold_engine::state::intern::Interner;
/// let mut names = Interner::default();
/// let acme = names.intern("acme");
/// assert_eq!(names.intern("acme"), acme);
/// assert_eq!(names.text(acme), "acme");
/// assert_eq!(names.find("globex"), None);
/// ```
#[derive(Default)]
pub struct Interner {
    hasher: RandomState,
    index: HashTable<u32>,
    /// Where each text ends in `arena`; it begins where the one before ends.
    ends: Vec<usize>,
    arena: String,
}

impl Interner {
    /// The number of `text`, a new one at first sight.
    pub fn intern(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        let (ends, arena, hasher) = (&self.ends, &self.arena, &self.hasher);
        let entry = self.index.entry(
            hash,
            |id| text_at(ends, arena, *id) == text,
            |id| hasher.hash_one(text_at(ends, arena, *id)),
        );
        let id = u32::try_from(ends.len()).expect("fewer than 2^32 texts fit in memory");
        match entry {
            hashbrown::hash_table::Entry::Occupied(known) => *known.get(),
            hashbrown::hash_table::Entry::Vacant(free) => {
                free.insert(id);
                self.arena.push_str(text);
                self.ends.push(self.arena.len());
                id
            }
        }
    }

    /// The number of `text`, if it was seen.
    pub fn find(&self, text: &str) -> Option<u32> {
        let found = |id: &u32| text_at(&self.ends, &self.arena, *id) == text;
        self.index.find(self.hasher.hash_one(text), found).copied()
    }

    /// The text of a number.
    ///
    /// # Panics
    /// If the number is not of this interner.
    pub fn text(&self, id: u32) -> &str {
        text_at(&self.ends, &self.arena, id)
    }

    /// How many texts there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The place of each text in the order of all texts, by number.
    pub fn ranks(&self) -> Vec<u32> {
        let mut sorted: Vec<u32> = (0..self.count() as u32).collect();
        sorted.sort_unstable_by_key(|id| self.text(*id));
        let mut ranks = vec![0; sorted.len()];
        for (rank, id) in sorted.into_iter().enumerate() {
            ranks[id as usize] = rank as u32;
        }
        ranks
    }
}

fn text_at<'a>(ends: &[usize], arena: &'a str, id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &arena[start..ends[id]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_the_order_of_texts() {
        let mut names = Interner::default();
        for name in ["b", "", "c", "a"] {
            names.intern(name);
        }
        assert_eq!(names.ranks(), [2, 0, 3, 1]);
        assert_eq!(names.count(), 4);
    }

    #[test]
    fn many_texts_keep_their_numbers() {
        let mut names = Interner::default();
        let ids: Vec<u32> = (0..10_000).map(|n| names.intern(&format!("customer {n}"))).collect();
        for (n, id) in ids.into_iter().enumerate() {
            assert_eq!(names.text(id), format!("customer {n}"));
            assert_eq!(names.find(&format!("customer {n}")), Some(id));
        }
    }
}
