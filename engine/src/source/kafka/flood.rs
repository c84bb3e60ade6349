//! A flood of records that cannot be read: a bad deploy of whoever writes them.
//!
//! Dead letters keep single bad records; a whole release in them would be a month's page of
//! numbers that are quietly too small. So a partition of which more than a fifth is dead within
//! a minute is paused, and somebody is told.

use std::collections::VecDeque;

/// How long the past is that is judged.
const WINDOW_MS: u64 = 60_000;

/// Of fewer records nothing is said.
const READ_MIN: u64 = 1_000;

/// More than one of so many records is a flood.
const DEAD_ONE_OF: u64 = 5;

/// Watches one partition.
///
/// ```
/// use ninefold_engine::source::kafka::flood::Flood;
/// let mut flood = Flood::default();
/// assert!(!flood.is_flood(0, 0, 0));
/// assert!(!flood.is_flood(1_000, 2_000, 400));
/// assert!(flood.is_flood(2_000, 3_000, 900));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Flood {
    /// When it was looked at, and how many records were read and dead by then.
    looks: VecDeque<(u64, u64, u64)>,
}

impl Flood {
    /// Whether the last minute was one, where by `now_ms` of a clock that never goes back so
    /// many records were read in all, and so many of them dead.
    pub fn is_flood(&mut self, now_ms: u64, read: u64, dead: u64) -> bool {
        while self.looks.len() > 1 && self.looks[1].0 + WINDOW_MS <= now_ms {
            self.looks.pop_front();
        }
        // Counts that fell: the partition was begun again.
        if self.looks.back().is_some_and(|last| last.1 > read || last.2 > dead) {
            self.looks.clear();
        }
        self.looks.push_back((now_ms, read, dead));
        let (_, read_before, dead_before) = self.looks[0];
        let (read, dead) = (read - read_before, dead - dead_before);
        read >= READ_MIN && dead * DEAD_ONE_OF > read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_a_minute_is_a_flood_and_what_is_older_is_forgotten() {
        let mut flood = Flood::default();
        assert!(!flood.is_flood(0, 1_000, 0));
        assert!(!flood.is_flood(1_000, 11_000, 2_000), "exactly a fifth");
        assert!(flood.is_flood(2_000, 11_001, 2_001));
        // A minute later only what came since counts.
        assert!(!flood.is_flood(62_000, 13_000, 2_100));
        assert!(!flood.is_flood(62_500, 13_500, 2_400), "a fifth of 2,499 are 499");
    }

    #[test]
    fn few_records_and_a_new_beginning_are_none() {
        let mut flood = Flood::default();
        assert!(!flood.is_flood(0, 0, 0));
        assert!(!flood.is_flood(1, 999, 999));
        assert!(!flood.is_flood(2, 10, 10), "begun again");
        assert!(flood.is_flood(3, 1_010, 1_010));
    }
}
