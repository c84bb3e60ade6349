//! The offsets of one partition that commits and gaps account for, joined as they come.
//!
//! Invariant: the runs are disjoint, do not touch, and stand for every range that was added. So
//! a partition without a fault is one run, however many commits counted it.

use std::collections::BTreeMap;

/// Ranges of offsets, each `first..next`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tiles {
    runs: BTreeMap<u64, u64>,
}

impl Tiles {
    /// Adds a range, and returns what of it was there already.
    pub fn add(&mut self, first: u64, next: u64) -> Vec<(u64, u64)> {
        let mut overlaps = Vec::new();
        if first >= next {
            return overlaps;
        }
        let (mut from, mut to) = (first, next);
        let before = self.runs.range(..first).next_back().map(|(start, end)| (*start, *end));
        let within = self.runs.range(first..=next).map(|(start, end)| (*start, *end));
        let touched: Vec<(u64, u64)> =
            before.filter(|(_, end)| *end >= first).into_iter().chain(within).collect();
        for (start, end) in touched {
            let overlap = (start.max(first), end.min(next));
            if overlap.0 < overlap.1 {
                overlaps.push(overlap);
            }
            self.runs.remove(&start);
            (from, to) = (from.min(start), to.max(end));
        }
        self.runs.insert(from, to);
        overlaps
    }

    /// The first offset; 0 where there is none.
    pub fn first(&self) -> u64 {
        self.runs.first_key_value().map_or(0, |(first, _)| *first)
    }

    /// One past the last offset; 0 where there is none.
    pub fn next(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(_, next)| *next)
    }

    /// What of `first..next` no range covers.
    pub fn holes(&self, first: u64, next: u64) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut at = first;
        for (start, end) in &self.runs {
            if *start > at {
                holes.push((at, (*start).min(next)));
            }
            at = at.max(*end);
        }
        if at < next {
            holes.push((at, next));
        }
        holes.retain(|(first, next)| first < next);
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiles(ranges: &[(u64, u64)]) -> Tiles {
        let mut tiles = Tiles::default();
        ranges.iter().for_each(|(first, next)| drop(tiles.add(*first, *next)));
        tiles
    }

    #[test]
    fn ranges_join_in_any_order() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let ranges = [(0, 10), (10, 11), (11, 30)];
            let tiles = tiles(&order.map(|at| ranges[at]));
            assert_eq!(tiles, self::tiles(&[(0, 30)]), "{order:?}");
            assert_eq!((tiles.first(), tiles.next()), (0, 30));
            assert_eq!(tiles.holes(0, 30), []);
        }
    }

    #[test]
    fn holes_and_overlaps_are_told() {
        let mut tiles = tiles(&[(0, 10), (20, 30), (30, 40)]);
        assert_eq!(tiles.holes(0, 40), [(10, 20)]);
        assert_eq!(tiles.holes(0, 45), [(10, 20), (40, 45)]);
        assert_eq!(tiles.holes(0, 15), [(10, 15)]);
        assert_eq!(tiles.add(5, 25), [(5, 10), (20, 25)]);
        assert_eq!(tiles.add(0, 40), [(0, 40)]);
        assert_eq!(tiles.add(7, 7), []);
        assert_eq!(tiles.holes(0, 40), []);
        assert_eq!(Tiles::default().holes(0, 3), [(0, 3)]);
    }
}
