//! How far one partition was counted, and how far of that the table has it.
//!
//! Invariants: counting begins where the table stands, `base`, and each step begins where the
//! one before ended; `base` moves only to where a commit was read back. What lies between is
//! dropped as a whole, by making a new ledger where the table stands: never taken back in part.

use std::ops::Range;

use crate::table::Move;

/// The ledger of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    base: Option<u64>,
    next: u64,
}

impl Ledger {
    /// Nothing is counted beyond where the table stands; `None` where it has never seen the
    /// partition, which then begins at offset 0.
    pub fn new(base: Option<u64>) -> Ledger {
        Ledger { base, next: base.unwrap_or(0) }
    }

    /// Where the table stands; `None` where it has never seen the partition.
    pub fn base(&self) -> Option<u64> {
        self.base
    }

    /// The next offset to count.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes a range that was counted, or that holds nothing.
    ///
    /// # Panics
    /// If it does not begin where counting ended: something would be lost, or counted twice.
    pub fn advance(&mut self, range: Range<u64>) {
        assert_eq!(range.start, self.next, "what is counted tiles its partition");
        assert!(range.start <= range.end, "offsets grow");
        self.next = range.end;
    }

    /// What a commit of everything that is counted moves; `None` where nothing is.
    pub fn movement(&self, partition: &str) -> Option<Move> {
        let (base, next) = (self.base, self.next);
        let moved = || Move { partition: partition.to_owned(), base, next };
        (next != base.unwrap_or(0)).then(moved)
    }

    /// A commit that ends at `next` was read back from the table.
    ///
    /// # Panics
    /// If it ends before the last one, or beyond what is counted.
    pub fn landed(&mut self, next: u64) {
        let base = self.base.unwrap_or(0);
        assert!(base <= next && next <= self.next, "{base} <= {next} <= {}", self.next);
        if next > base {
            self.base = Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(base: Option<u64>, next: u64) -> Option<Move> {
        Some(Move { partition: "p".to_owned(), base, next })
    }

    #[test]
    fn counting_goes_on_while_a_commit_is_on_its_way() {
        let mut ledger = Ledger::new(None);
        assert_eq!((ledger.next(), ledger.movement("p")), (0, None));
        ledger.advance(0..7);
        assert_eq!(ledger.movement("p"), moved(None, 7));
        ledger.advance(7..9);
        ledger.landed(7);
        assert_eq!(ledger.movement("p"), moved(Some(7), 9));
        ledger.landed(9);
        assert_eq!((ledger, None), (Ledger::new(Some(9)), None::<Move>));
    }

    #[test]
    #[should_panic(expected = "tiles its partition")]
    fn a_range_that_was_counted_is_refused() {
        let mut ledger = Ledger::new(Some(5));
        ledger.advance(5..7);
        ledger.advance(6..8);
    }

    #[test]
    #[should_panic(expected = "5 <= 9 <= 7")]
    fn nothing_lands_that_was_not_counted() {
        let mut ledger = Ledger::new(Some(5));
        ledger.advance(5..7);
        ledger.landed(9);
    }
}
