//! What of a partition can be compared with its source, and how its ranges are.
//!
//! A row of the grain `source` says which offsets a commit counted, and what became of them. A
//! log of records is recounted range by range, so that each row is proved by itself, also where
//! older ranges are gone from the source. What lies between ranges (an accepted gap), or before
//! the first one, was never counted: its ids are remembered, as the service does it, and nothing
//! else.

use serde::Serialize;

use super::{Recorded, window_records};
use crate::pipeline::{LineCounts, Options, PipelineError, Unit};
use crate::source::chunk::{Chunk, ChunkKind, RecordMark, Tail};
use crate::table::{Filter, Table};

/// A range of offsets whose records became something else than the table says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RangeDifference {
    /// Which partition.
    pub partition: String,
    /// Its first offset.
    pub first: u64,
    /// One past its last offset.
    pub next: u64,
    /// Records read, counted, dead and duplicate, and events, by the source.
    pub source: [u64; 5],
    /// The same by the table.
    pub table: [u64; 5],
}

/// A range that one commit counted.
pub(super) struct Range {
    pub first: u64,
    pub next: u64,
    /// What the table says of it.
    said: [u64; 5],
    /// What the source says.
    found: LineCounts,
}

/// The part of a partition that is compared.
pub(super) struct Scope {
    /// By their first offset.
    ranges: Vec<Range>,
    /// The offsets that are not compared since the source has let go of them, or of ids that
    /// decide what is a duplicate in them; `None` where all are compared.
    pub gone: Option<std::ops::Range<u64>>,
    /// The offset up to which the table has counted.
    pub next: u64,
}

impl Scope {
    /// What can be compared with a source that still holds `recorded.first` and what follows.
    pub fn of(
        options: &Options,
        table: &Table,
        recorded: &Recorded<'_>,
        next: u64,
    ) -> Result<Scope, PipelineError> {
        if recorded.unit == Unit::Bytes {
            // A file is read from its begin, and its lines are one range.
            return Ok(Scope { ranges: Vec::new(), gone: None, next });
        }
        let (mut ranges, mut begun) = (Vec::new(), next);
        let filter = Filter { partition: Some(recorded.partition.to_owned()), ..Filter::default() };
        table.for_each_source(&filter, |row| {
            begun = begun.min(row.first);
            if row.next <= recorded.first {
                // It is gone; a table may have millions of those.
                return;
            }
            let said = [row.read, row.counted, row.dead, row.duplicate, row.events];
            let found = LineCounts::default();
            ranges.push(Range { first: row.first, next: row.next, said, found });
        })?;
        ranges.sort_unstable_by_key(|range| range.first);
        let window = window_records(options);
        if recorded.first <= begun.saturating_sub(window) {
            return Ok(Scope { ranges, gone: None, next });
        }
        // What is a duplicate behind the first record depends on those before it.
        ranges.retain(|range| range.first >= recorded.first + window);
        let from = ranges.first().map_or(next, |range| range.first);
        Ok(Scope { ranges, gone: Some(begun..from), next })
    }

    /// Where the range ends, or the space between two ranges, that holds an offset; and the
    /// place of the range.
    fn place(&self, offset: u64) -> (u64, Option<usize>) {
        let after = self.ranges.partition_point(|range| range.first <= offset);
        if let Some(at) = after.checked_sub(1)
            && offset < self.ranges[at].next
        {
            return (self.ranges[at].next, Some(at));
        }
        (self.ranges.get(after).map_or(u64::MAX, |range| range.first), None)
    }

    /// Cuts a chunk of records where ranges begin and end; each piece with the place of its
    /// range. Lines are not cut: they are one range.
    pub fn cut(&self, chunk: Chunk) -> Vec<(Option<usize>, Chunk)> {
        let ChunkKind::Records(marks) = &chunk.kind else { return vec![(None, chunk)] };
        let mut pieces = Vec::new();
        let (mut rest, mut start) = (&marks[..], 0);
        while let Some(mark) = rest.first() {
            let (end, place) = self.place(mark.offset);
            let (piece, others) = rest.split_at(rest.partition_point(|mark| mark.offset < end));
            let last = piece.last().expect("its first record is before its end");
            let moved = |mark: &RecordMark| RecordMark { end: mark.end - start, ..*mark };
            let bytes = chunk.bytes[start as usize..last.end as usize].to_vec();
            let (first, next) = (mark.offset, last.offset + 1);
            let kind = ChunkKind::Records(piece.iter().map(moved).collect());
            pieces.push((place, Chunk { first, next, kind, bytes, tail: Tail::default() }));
            (rest, start) = (others, last.end);
        }
        pieces
    }

    /// Adds what became of the records of a piece.
    pub fn count(&mut self, place: usize, counts: &LineCounts) {
        self.ranges[place].found.add(counts);
    }

    /// How many ranges were compared.
    pub fn compared(&self) -> u64 {
        self.ranges.len() as u64
    }

    /// The ranges that differ.
    pub fn differences(&self, partition: &str) -> impl Iterator<Item = RangeDifference> {
        self.ranges.iter().filter_map(move |range| {
            let LineCounts { read, counted, dead, duplicate, events, .. } = range.found;
            let source = [read, counted, dead, duplicate, events];
            let (partition, first, next) = (partition.to_owned(), range.first, range.next);
            let table = range.said;
            (source != table).then_some(RangeDifference { partition, first, next, source, table })
        })
    }
}
