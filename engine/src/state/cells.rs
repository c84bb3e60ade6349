//! The minutes of one series, packed: a few bytes for a quiet minute, exact.
//!
//! The newest minutes, and late ones, stand unpacked in a short list. The others are packed in
//! *blocks* (`cells/packed`) of up to `BLOCK_CELLS` minutes, each a piece of memory of its own.
//! Windows add the sums of whole blocks, and decode two at most. A minute that ages is appended to
//! the newest block; a full block stays where it is, so that a million series that grow alike
//! leave no holes behind in the allocator's sizes.
//!
//! Invariants: blocks are in the order of their minutes and share none; within a block each
//! minute stands once; the list is sorted by minute, one cell per minute. A minute may stand
//! both in a block and in the list (it was late): its counts are the sum of both.
//!
//! Late minutes come in runs where partitions are read hours apart: each adds to a stretch of its
//! own. So the list may then be longer, and is relieved of the minutes of one block at a time,
//! where there are the most of them; they are written between the bytes that the block has. A
//! block that this makes too long is cut, so that *loose* blocks are left; they are filled up
//! again once no more late minutes come.

mod packed;

use std::iter::Peekable;
use std::ops::{Range, RangeInclusive};
use std::slice;

use super::series::Cell;
use super::snapshot::{Reader, push_number};
use crate::model::Measures;
use crate::time::Minute;
use packed::{BLOCK_CELLS, Block, CellReader, blocks_of, minute_before, push_blocks};

/// The longest list of a series whose minutes come in their order: its older half is packed then.
const LIST_CELLS: usize = 16;

/// The longest list of a series with late minutes in it, so that several of them are merged into
/// a block at once.
const LATE_LIST_CELLS: usize = 32;

/// How often a series is looked at, without late minutes in between, before its blocks are filled
/// up again.
const CALM_LOOKS: u8 = 2;

/// Minutes with their measures; none empty.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    blocks: Vec<Block>,
    /// What the blocks take of the allocator, in bytes.
    block_bytes: usize,
    /// The newest packed minute.
    last: Minute,
    /// How many minutes the newest block has.
    newest_cells: u8,
    /// How often it is looked at until its blocks are filled up again; 0 where they are full.
    loose: u8,
    /// A minute of the first block that is not full, if some are not.
    loose_from: Minute,
    list: Vec<Cell>,
}

impl Cells {
    /// Adds the counts of one minute, late ones included.
    ///
    /// # Panics
    /// If a sum leaves 64 bits.
    pub fn add(&mut self, minute: Minute, measures: &Measures) {
        match self.list.last_mut() {
            Some(last) if last.minute == minute => last.measures.add(measures),
            Some(last) if last.minute > minute => {
                match self.list.binary_search_by_key(&minute, |cell| cell.minute) {
                    Ok(at) => self.list[at].measures.add(measures),
                    Err(at) => self.insert(at, Cell { minute, measures: *measures }),
                }
            }
            _ => self.insert(self.list.len(), Cell { minute, measures: *measures }),
        }
    }

    fn insert(&mut self, mut at: usize, cell: Cell) {
        let is_late = self.list.first().is_some_and(|first| self.is_late(first));
        if self.list.len() >= if is_late { LATE_LIST_CELLS } else { LIST_CELLS } {
            self.pack_some();
            at = self.list.partition_point(|listed| listed.minute < cell.minute);
        }
        if self.list.len() == self.list.capacity() {
            // From one on: most series of a large fleet have one minute at a time. A list that was
            // shrunk gets no larger than others.
            let length = self.list.len();
            self.list.reserve_exact((length + 1).next_power_of_two() - length);
        }
        self.list.insert(at, cell);
    }

    /// Packs the minutes before `minute`.
    pub fn pack_before(&mut self, minute: Minute) {
        let count = self.list.partition_point(|cell| cell.minute < minute);
        if count > 0 {
            self.pack(0..count);
        }
        self.list.shrink_to_fit();
    }

    /// Drops the minutes before `minute`; of the packed ones whole blocks, so that up to a block
    /// of them stays.
    pub fn drop_before(&mut self, minute: Minute) {
        self.drop_blocks(self.block_from(minute));
        self.list.drain(..self.list.partition_point(|cell| cell.minute < minute));
    }

    /// Whether a minute before `minute` is not packed.
    pub fn has_unpacked_before(&self, minute: Minute) -> bool {
        self.list.first().is_some_and(|cell| cell.minute < minute)
    }

    /// Packs those minutes of the list that go to the same block, where these are the most; or,
    /// where they are more, the older half of those behind all that are packed.
    fn pack_some(&mut self) {
        let late = self.list.partition_point(|cell| self.is_late(cell));
        let mut most = late..late + (self.list.len() - late).div_ceil(2);
        let (mut start, mut at) = (0, self.block_from(self.list[0].minute));
        while start < late {
            let count;
            (at, count) = self.of_block(&self.list[start..late], at);
            if count > most.len() {
                most = start..start + count;
            }
            start += count;
        }
        self.pack(most);
    }

    /// Packs a part of the list.
    fn pack(&mut self, part: Range<usize>) {
        let mut list = std::mem::take(&mut self.list);
        let cells = &list[part.clone()];
        let late = cells.partition_point(|cell| self.is_late(cell));
        let (mut late, newer) = cells.split_at(late);
        while let Some(first) = late.first() {
            let (at, count) = self.of_block(late, self.block_from(first.minute));
            self.merge(at, &late[..count]);
            late = &late[count..];
        }
        self.append(newer);
        list.drain(part);
        self.list = list;
    }

    /// Whether a minute comes before one that is packed.
    fn is_late(&self, cell: &Cell) -> bool {
        !self.blocks.is_empty() && cell.minute <= self.last
    }

    /// The block that the first of some late minutes goes to, which is no earlier than `from`, and
    /// how many of them do.
    fn of_block(&self, late: &[Cell], from: usize) -> (usize, usize) {
        let is_before = |block: &&Block| block.first() <= late[0].minute;
        let at = from + self.blocks[from + 1..].iter().take_while(is_before).count();
        let next = self.blocks.get(at + 1).map(Block::first);
        (at, next.map_or(late.len(), |next| late.partition_point(|cell| cell.minute < next)))
    }

    /// Adds late minutes to a block.
    fn merge(&mut self, at: usize, late: &[Cell]) {
        let block = &self.blocks[at];
        let is_newest = at + 1 == self.blocks.len();
        if let Some((merged, count)) = block.merged(late) {
            self.block_bytes = self.block_bytes - block.heap_bytes() + merged.heap_bytes();
            self.blocks[at] = merged;
            if is_newest {
                self.newest_cells = count as u8;
            }
            self.loose = if self.loose > 0 { CALM_LOOKS } else { 0 };
            return;
        }
        let both: Vec<Cell> = Merged::new(block.cells(), late.iter().copied()).collect();
        // Where minutes go on behind a block it stays full, as the newest one does; else it is cut
        // in parts alike, which have room for more.
        let length = match is_newest || both.ends_with(late) {
            true => BLOCK_CELLS,
            false => both.len().div_ceil(both.len().div_ceil(BLOCK_CELLS)),
        };
        self.replace(at, &both, length);
        if !is_newest {
            let known = if self.loose > 0 { self.loose_from } else { Minute(u32::MAX) };
            (self.loose, self.loose_from) = (CALM_LOOKS, known.min(both[0].minute));
        }
    }

    /// Puts cells, in their order, in the place of a block: in blocks of `length` each.
    fn replace(&mut self, at: usize, cells: &[Cell], length: usize) {
        let runs = cells.chunks(length);
        if at + 1 == self.blocks.len() {
            self.newest_cells = runs.clone().last().map_or(0, <[Cell]>::len) as u8;
        }
        let blocks: Vec<Block> =
            runs.map(|cells| Block::default().with(Minute(0), cells)).collect();
        self.block_bytes += blocks.iter().map(Block::heap_bytes).sum::<usize>();
        self.block_bytes -= self.blocks[at].heap_bytes();
        self.reserve(blocks.len().saturating_sub(1));
        self.blocks.splice(at..=at, blocks);
    }

    /// Makes room for more blocks: an eighth of what there are.
    fn reserve(&mut self, count: usize) {
        if self.blocks.len() + count > self.blocks.capacity() {
            self.blocks.reserve_exact(count + self.blocks.len() / 8);
        }
    }

    /// Whether late minutes have left blocks that are not full.
    pub fn is_loose(&self) -> bool {
        self.loose > 0
    }

    /// Takes note that it was looked at: after a few looks without late minutes in between,
    /// [`Cells::tighten`].
    pub fn settle(&mut self) {
        match self.loose {
            0 | 1 => self.tighten(),
            _ => self.loose -= 1,
        }
    }

    /// Fills up the blocks that late minutes have left with room, so that they take what they
    /// would if all minutes had come in their order.
    pub fn tighten(&mut self) {
        if std::mem::take(&mut self.loose) > 0 {
            let loose = self.blocks.drain(self.block_from(self.loose_from)..);
            let mut cells = Vec::with_capacity(BLOCK_CELLS * loose.len());
            for block in loose {
                cells.extend(block.cells());
                self.block_bytes -= block.heap_bytes();
            }
            self.newest_cells = BLOCK_CELLS as u8;
            self.append(&cells);
            self.blocks.shrink_to(self.blocks.len() + self.blocks.len() / 8);
        }
    }

    /// Packs minutes behind all that are packed.
    fn append(&mut self, mut cells: &[Cell]) {
        while !cells.is_empty() {
            if self.blocks.is_empty() || usize::from(self.newest_cells) == BLOCK_CELLS {
                self.reserve(1);
                self.blocks.push(Block::default());
                self.newest_cells = 0;
            }
            let room = BLOCK_CELLS - usize::from(self.newest_cells);
            let (fit, others) = cells.split_at(room.min(cells.len()));
            let newest = self.blocks.last_mut().expect("one with room");
            self.block_bytes -= newest.heap_bytes();
            *newest = newest.with(self.last, fit);
            self.block_bytes += newest.heap_bytes();
            self.last = fit[fit.len() - 1].minute;
            self.newest_cells += fit.len() as u8;
            cells = others;
        }
    }

    /// The block that holds a minute or would: the last one that begins no later, or the first.
    fn block_from(&self, minute: Minute) -> usize {
        self.blocks.partition_point(|block| block.first() <= minute).saturating_sub(1)
    }

    /// Drops the oldest blocks.
    fn drop_blocks(&mut self, count: usize) {
        let dropped = self.blocks.drain(..count);
        self.block_bytes -= dropped.map(|block| block.heap_bytes()).sum::<usize>();
        self.blocks.shrink_to_fit();
    }

    /// The minutes in order.
    pub fn iter(&self) -> impl Iterator<Item = Cell> {
        self.within(Minute(0)..=Minute(u32::MAX))
    }

    /// The minutes of a range, both ends included, in order.
    pub fn within(&self, minutes: RangeInclusive<Minute>) -> impl Iterator<Item = Cell> {
        let (from, to) = (*minutes.start(), *minutes.end());
        let next = self.blocks.partition_point(|block| block.first() <= to);
        let blocks = self.blocks[self.block_from(from).min(next)..next].iter();
        let reader = CellReader { bytes: &[], at: 0 };
        Within { blocks, reader, before: 0, ahead: None, list: self.listed(&minutes), minutes }
    }

    /// Whether a range of minutes, both ends included, holds an event.
    pub fn any_within(&self, minutes: RangeInclusive<Minute>) -> bool {
        self.sums(minutes, |_| {}) > 0
    }

    /// The sum over a range of minutes, both ends included.
    ///
    /// # Panics
    /// If a sum leaves 64 bits.
    pub fn sum(&self, minutes: RangeInclusive<Minute>) -> Measures {
        let mut sum = Measures::default();
        self.sums(minutes, |measures| sum.add(measures));
        sum
    }

    /// The sums from each of `starts`, the latest first, up to `to`, both ends included: what
    /// [`Cells::sum`] gives for each, by one walk for all.
    ///
    /// # Panics
    /// If a sum leaves 64 bits; in debug builds, if `starts` are in another order.
    pub fn sums_from(&self, starts: &[Minute], to: Minute) -> Vec<Measures> {
        debug_assert!(starts.is_sorted_by(|later, earlier| later >= earlier), "the latest first");
        let mut packed = Backwards::new(starts);
        let mut cells = Vec::with_capacity(BLOCK_CELLS);
        for (block, last) in self.blocks_back() {
            let Some(start) = packed.start_of_next(last) else { break };
            if start <= block.first() && last <= to {
                packed.sum.add(&block.sum());
            } else if block.first() <= to {
                cells.clear();
                for cell in block.cells().take_while(|cell| cell.minute <= to) {
                    cells.push(cell);
                }
                packed.add(&cells);
            }
        }
        let mut listed = Backwards::new(starts);
        listed.add(&self.list[..self.list.partition_point(|cell| cell.minute <= to)]);
        let mut sums = packed.finish();
        sums.iter_mut().zip(listed.finish()).for_each(|(sum, more)| sum.add(&more));
        sums
    }

    /// The sums of all packed minutes up to `to` by runs that follow one another, the oldest first,
    /// and the minutes that are not packed; each run ends before the next begins, where it may
    /// have none of its own. Where `to` lies within the last run, that holds later minutes too.
    pub fn runs(&self, to: Minute) -> (Vec<(RangeInclusive<Minute>, Measures)>, &[Cell]) {
        let known = self.blocks_back().filter(|(block, _)| block.first() <= to);
        let mut runs: Vec<_> =
            known.map(|(block, last)| (block.first()..=last, block.sum())).collect();
        runs.reverse();
        (runs, self.listed(&(Minute(0)..=to)))
    }

    /// Visits what a range of minutes sums up from, and says how much that was.
    fn sums(&self, minutes: RangeInclusive<Minute>, mut visit: impl FnMut(&Measures)) -> usize {
        let (from, to) = (*minutes.start(), *minutes.end());
        let mut visited = 0;
        for (block, last) in self.blocks_back().take_while(|(_, last)| *last >= from) {
            if from <= block.first() && last <= to {
                visit(&block.sum());
                visited += 1;
            } else if block.first() <= to {
                let inside = |cell: &Cell| (from..=to).contains(&cell.minute);
                for cell in block.cells().filter(inside) {
                    visit(&cell.measures);
                    visited += 1;
                }
            }
        }
        let listed = self.listed(&minutes);
        listed.iter().for_each(|cell| visit(&cell.measures));
        visited + listed.len()
    }

    /// The first minute with its counts.
    pub fn first(&self) -> Option<Cell> {
        self.iter().next()
    }

    /// The first minute.
    pub fn first_minute(&self) -> Option<Minute> {
        let packed = self.blocks.first().map(Block::first);
        let listed = self.list.first().map(|cell| cell.minute);
        packed.into_iter().chain(listed).min()
    }

    /// Whether there is no minute.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.list.is_empty()
    }

    /// Drops the minutes before `minute`.
    pub fn forget_before(&mut self, minute: Minute) {
        self.list.drain(..self.list.partition_point(|cell| cell.minute < minute));
        self.drop_blocks(self.block_from(minute));
        if let Some(oldest) = self.blocks.first().filter(|block| block.first() < minute) {
            let cells: Vec<Cell> = oldest.cells().filter(|cell| cell.minute >= minute).collect();
            self.replace(0, &cells, BLOCK_CELLS);
        }
    }

    /// Appends it to bytes as it stands, the list as blocks of its own.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        push_blocks(out, &self.blocks);
        push_number(out, u64::from(self.last.0));
        let mut list = Cells::default();
        list.append(&self.list);
        push_blocks(out, &list.blocks);
    }

    /// Reads what [`Cells::write`] has written; `None` where its blocks do not follow one another.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Cells> {
        let blocks = blocks_of(reader.run()?)?;
        let last = reader.minute()?;
        let list = blocks_of(reader.run()?)?;
        let mut list: Vec<Cell> = list.iter().flat_map(Block::cells).collect();
        list.shrink_to_fit();
        let block_bytes = blocks.iter().map(Block::heap_bytes).sum();
        let newest_cells = blocks.last().map_or(0, |block| block.cells().count()) as u8;
        Some(Cells { blocks, block_bytes, last, newest_cells, list, ..Cells::default() })
    }

    /// How much memory it has behind its own size, in bytes.
    pub fn heap_bytes(&self) -> usize {
        let blocks = self.block_bytes + self.blocks.capacity() * size_of::<Block>();
        blocks + self.list.capacity() * size_of::<Cell>()
    }

    /// The cells of the list in a range of minutes.
    fn listed(&self, minutes: &RangeInclusive<Minute>) -> &[Cell] {
        let first = self.list.partition_point(|cell| cell.minute < *minutes.start());
        let next = self.list.partition_point(|cell| cell.minute <= *minutes.end());
        &self.list[first..next.max(first)]
    }

    /// The blocks, the newest first, each with a minute that none of it is behind and all of the
    /// next are.
    fn blocks_back(&self) -> impl Iterator<Item = (&Block, Minute)> {
        let mut last = self.last;
        self.blocks
            .iter()
            .rev()
            .map(move |block| (block, std::mem::replace(&mut last, block.first().minus(1))))
    }
}

impl PartialEq for Cells {
    fn eq(&self, other: &Cells) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a> IntoIterator for &'a Cells {
    type Item = Cell;
    type IntoIter = Box<dyn Iterator<Item = Cell> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

/// The cells of a range of minutes, those of blocks and list in one order.
struct Within<'a> {
    /// What follows.
    blocks: slice::Iter<'a, Block>,
    /// The block that is being read, and the minute before its next cell.
    reader: CellReader<'a>,
    before: u32,
    /// A packed cell that some of the list come before.
    ahead: Option<Cell>,
    list: &'a [Cell],
    minutes: RangeInclusive<Minute>,
}

impl Within<'_> {
    #[inline]
    fn next_packed(&mut self) -> Option<Cell> {
        loop {
            if self.reader.at == self.reader.bytes.len() {
                let block = self.blocks.next()?;
                self.reader = block.reader();
                self.before = minute_before(block.first());
            }
            let (apart, measures) = self.reader.cell();
            self.before = self.before.wrapping_add(apart);
            let minute = Minute(self.before);
            if minute > *self.minutes.end() {
                self.blocks = [].iter();
                self.reader.at = self.reader.bytes.len();
            } else if minute >= *self.minutes.start() {
                return Some(Cell { minute, measures });
            }
        }
    }
}

impl Iterator for Within<'_> {
    type Item = Cell;

    #[inline]
    fn next(&mut self) -> Option<Cell> {
        let packed = self.ahead.take().or_else(|| self.next_packed());
        let Some(listed) = self.list.first() else { return packed };
        if packed.as_ref().is_some_and(|packed| packed.minute < listed.minute) {
            return packed;
        }
        self.list = &self.list[1..];
        match packed {
            Some(mut packed) if packed.minute == listed.minute => {
                packed.measures.add(&listed.measures);
                Some(packed)
            }
            later => {
                self.ahead = later;
                Some(*listed)
            }
        }
    }
}

/// Sums up minutes from the newest back, to each of several starts.
struct Backwards<'a> {
    /// The latest first.
    starts: &'a [Minute],
    /// Of the starts that were passed.
    sums: Vec<Measures>,
    /// Of all minutes so far.
    sum: Measures,
}

impl<'a> Backwards<'a> {
    fn new(starts: &'a [Minute]) -> Backwards<'a> {
        Backwards { starts, sums: Vec::with_capacity(starts.len()), sum: Measures::default() }
    }

    /// The latest start that is not behind `minute`, which no minute that follows is; `None` where
    /// all of them are.
    fn start_of_next(&mut self, minute: Minute) -> Option<Minute> {
        while let Some(start) = self.starts.get(self.sums.len()) {
            if *start <= minute {
                return Some(*start);
            }
            self.sums.push(self.sum);
        }
        None
    }

    /// Adds cells in the order of their minutes, none of which is newer than those before.
    fn add(&mut self, cells: &[Cell]) {
        for cell in cells.iter().rev() {
            if self.start_of_next(cell.minute).is_none() {
                break;
            }
            self.sum.add(&cell.measures);
        }
    }

    /// The sum of each start: nothing more follows.
    fn finish(mut self) -> Vec<Measures> {
        self.sums.resize(self.starts.len(), self.sum);
        self.sums
    }
}

/// Two runs of cells in one order; cells of one minute are added.
struct Merged<A: Iterator, B: Iterator> {
    a: Peekable<A>,
    b: Peekable<B>,
}

impl<A: Iterator<Item = Cell>, B: Iterator<Item = Cell>> Merged<A, B> {
    fn new(a: A, b: B) -> Merged<A, B> {
        Merged { a: a.peekable(), b: b.peekable() }
    }
}

impl<A: Iterator<Item = Cell>, B: Iterator<Item = Cell>> Iterator for Merged<A, B> {
    type Item = Cell;

    fn next(&mut self) -> Option<Cell> {
        let (Some(a), Some(b)) = (self.a.peek(), self.b.peek()) else {
            return self.a.next().or_else(|| self.b.next());
        };
        if a.minute != b.minute {
            return if a.minute < b.minute { self.a.next() } else { self.b.next() };
        }
        let mut cell = self.a.next()?;
        cell.measures.add(&self.b.next()?.measures);
        Some(cell)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const GOOD: Measures = Measures {
        valid: 1,
        bad: 0,
        excluded: 0,
        timed: 0,
        slow: 0,
        latency_sum_us: 0,
        latency_max_us: 0,
    };

    fn measures() -> impl Strategy<Value = Measures> {
        let count = || prop_oneof![4 => 0_u64..3, 2 => 0_u64..2_000, 1 => 0..1_u64 << 40];
        let parts = (count(), count(), count(), count(), count(), count(), any::<u32>());
        parts.prop_map(|(good, bad, excluded, timed, slow, sum, max)| Measures {
            valid: good + bad,
            bad,
            excluded,
            timed,
            slow,
            latency_sum_us: sum,
            latency_max_us: if max % 3 == 0 { sum } else { u64::from(max) },
        })
    }

    /// Mostly forward, sometimes late by any time.
    fn arrivals() -> impl Strategy<Value = Vec<(Minute, Measures)>> {
        let step = prop_oneof![6 => 0_u32..3, 2 => 0_u32..200, 1 => 0_u32..20_000];
        let late = prop_oneof![8 => Just(0_u32), 2 => 0_u32..10, 1 => 0_u32..40_000];
        prop::collection::vec((step, late, measures()), 1..600).prop_map(|all| {
            let mut now = 50_000;
            let arrive = |(step, late, measures)| {
                now += step;
                (Minute(now - u32::min(late, now)), measures)
            };
            all.into_iter().map(arrive).collect()
        })
    }

    /// Of up to a dozen sources, each of which goes forward from an hour of its own.
    fn interleaved() -> impl Strategy<Value = Vec<(Minute, Measures)>> {
        let steps = prop::collection::vec((0_usize..12, 0_u32..20, measures()), 1..600);
        (1_usize..13, 0_u32..200, steps).prop_map(|(sources, apart, steps)| {
            let mut now: Vec<u32> = (0..sources as u32).map(|nth| 50_000 + nth * apart).collect();
            let arrive = |(source, step, measures)| {
                let now = &mut now[source % sources];
                *now += step;
                (Minute(*now), measures)
            };
            steps.into_iter().map(arrive).collect()
        })
    }

    /// Holds what is counted of the blocks against the blocks, and all invariants.
    fn check(cells: &Cells) {
        let blocks: Vec<Vec<Minute>> =
            cells.blocks.iter().map(|one| one.cells().map(|cell| cell.minute).collect()).collect();
        assert!(blocks.concat().is_sorted_by(|a, b| a < b), "blocks in order, no minute twice");
        assert!(blocks.iter().all(|block| (1..=BLOCK_CELLS).contains(&block.len())));
        for (block, minutes) in cells.blocks.iter().zip(&blocks) {
            let mut sum = Measures::default();
            block.cells().for_each(|cell| sum.add(&cell.measures));
            assert_eq!((block.first(), block.sum()), (minutes[0], sum));
        }
        if let Some(newest) = blocks.last() {
            assert_eq!(usize::from(cells.newest_cells), newest.len());
            assert_eq!(Some(&cells.last), newest.last());
        }
        let bytes = cells.blocks.iter().map(Block::heap_bytes).sum::<usize>();
        assert_eq!(cells.block_bytes, bytes);
        assert!(cells.list.is_sorted_by(|a, b| a.minute < b.minute));
        assert!(cells.list.capacity() <= LATE_LIST_CELLS);
        if cells.loose == 0 {
            let full = blocks.iter().rev().skip(1).all(|block| block.len() == BLOCK_CELLS);
            assert!(full, "blocks that are not loose are full");
        }
    }

    proptest! {
        #[test]
        fn any_window_equals_the_sum_of_a_map(
            arrivals in prop_oneof![arrivals(), interleaved()],
            windows in prop::collection::vec((0_u32..400_000, 0_u32..50_000), 20),
            pack_every in 1_usize..50,
        ) {
            let (mut cells, mut map) = (Cells::default(), BTreeMap::<Minute, Measures>::new());
            for (nth, (minute, measures)) in arrivals.iter().enumerate() {
                cells.add(*minute, measures);
                map.entry(*minute).or_default().add(measures);
                if nth % pack_every == 0 {
                    cells.pack_before(minute.minus(30));
                    cells.settle();
                }
            }
            check(&cells);
            if pack_every % 2 == 0 {
                cells.tighten();
                check(&cells);
                prop_assert!(!cells.is_loose());
            }
            let found: Vec<(Minute, Measures)> =
                cells.iter().map(|cell| (cell.minute, cell.measures)).collect();
            prop_assert_eq!(found, map.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(cells.first_minute(), map.keys().next().copied());
            let newest = map.keys().next_back().unwrap().0;
            let mut starts: Vec<Minute> = windows.iter().map(|(end, _)| Minute(*end)).collect();
            starts.extend([Minute(0), Minute(newest), Minute(u32::MAX)]);
            starts.sort_unstable_by(|a, b| b.cmp(a));
            for to in [Minute(0), Minute(newest / 2), Minute(newest - 1), Minute(u32::MAX)] {
                let sums: Vec<Measures> = starts.iter().map(|from| cells.sum(*from..=to)).collect();
                prop_assert_eq!(cells.sums_from(&starts, to), sums, "to {}", to.0);
            }
            let ends = windows.iter().map(|(end, length)| (end % (newest + 100), *length));
            for (end, length) in ends.chain([1, 60, 1_440, 43_200].map(|l| (newest, l))) {
                let range = Minute(end).minus(length)..=Minute(end);
                let mut sum = Measures::default();
                map.range(range.clone()).for_each(|(_, measures)| sum.add(measures));
                prop_assert_eq!(cells.sum(range.clone()), sum);
                prop_assert_eq!(cells.any_within(range.clone()), map.range(range.clone()).next().is_some());
                let within: Vec<Minute> = cells.within(range.clone()).map(|c| c.minute).collect();
                prop_assert_eq!(within, map.range(range).map(|(m, _)| *m).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_is_dropped_is_old_and_what_is_not_stays_exact() {
        let one = Measures { valid: 3, bad: 1, ..Measures::default() };
        let mut cells = Cells::default();
        (0..10_000).for_each(|minute| cells.add(Minute(1_000 + minute), &one));
        let before = cells.heap_bytes();
        for oldest in [0, 5_000, 7_777, 10_990, 20_000] {
            cells.drop_before(Minute(oldest));
            let (from, to) = (oldest.clamp(1_000, 10_999), 10_999);
            let expect = if oldest > to { 0 } else { u64::from(to - from + 1) };
            assert_eq!(cells.sum(Minute(oldest)..=Minute(30_000)).bad, expect, "{oldest}");
            let first = cells.first_minute().map_or(oldest, |minute| minute.0);
            assert!(first + 2 * BLOCK_CELLS as u32 > oldest.min(to), "{oldest}: {first}");
        }
        assert!(cells.heap_bytes() < before / 10);
        cells.add(Minute(20_001), &one);
        assert_eq!(cells.sum(Minute(20_000)..=Minute(30_000)).valid, 3);
    }

    #[test]
    fn a_quiet_minute_takes_few_bytes() {
        let month = |measures: Measures, apart: u32| {
            let mut cells = Cells::default();
            (0..10_000).for_each(|nth| cells.add(Minute(29_000_000 + nth * apart), &measures));
            cells.pack_before(Minute(u32::MAX));
            cells.heap_bytes() as f64 / 10_000.0
        };
        let timed = Measures { timed: 1, latency_sum_us: 15_000, latency_max_us: 15_000, ..GOOD };
        assert!(month(GOOD, 1) < 1.6, "{}", month(GOOD, 1));
        assert!(month(GOOD, 90) < 2.9, "{}", month(GOOD, 90));
        assert!(month(timed, 1) < 4.0, "{}", month(timed, 1));
        let slower = Measures { latency_sum_us: 60_000, latency_max_us: 60_000, ..timed };
        assert!(month(slower, 1) < 5.3, "{}", month(slower, 1));
    }

    /// Some five hundred minutes of a month with one event each, in an order by hours of each day.
    fn month(seed: u32, order: impl Fn(u32) -> u32) -> Vec<(Minute, Measures)> {
        let mut now = 29_000_160;
        let month = (0..500).map(|nth| {
            now += 1 + mixed(seed * 1_000 + nth) % 171;
            let us = 2_000 + u64::from(mixed(now) % 50_000);
            let timed = Measures { timed: 1, latency_sum_us: us, latency_max_us: us, ..GOOD };
            (Minute(now), timed)
        });
        let mut month: Vec<(Minute, Measures)> = month.collect();
        month.sort_by_key(|(minute, _)| (minute.day(), order(minute.0 / 60), *minute));
        month
    }

    fn mixed(number: u32) -> u32 {
        let mixed = (number ^ (number >> 16)).wrapping_mul(0x45d9_f3b5);
        (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d) >> 7
    }

    #[test]
    fn minutes_in_any_order_take_what_they_take_in_their_own() {
        let folded = |seed: u32, order: &dyn Fn(u32) -> u32| {
            let mut cells = Cells::default();
            for (nth, (minute, measures)) in month(seed, order).iter().enumerate() {
                cells.add(*minute, measures);
                if nth % 2 == 0 {
                    cells.pack_before(Minute(u32::MAX));
                }
            }
            cells.pack_before(Minute(u32::MAX));
            cells
        };
        let (mut full, mut loose, mut tight) = (0, 0, 0);
        for seed in 0..20 {
            let expected = folded(seed, &|hour| hour);
            assert!(!expected.is_loose());
            let mut cells = folded(seed, &mixed);
            full += expected.heap_bytes();
            loose += cells.heap_bytes();
            for _ in 0..CALM_LOOKS {
                assert!(cells.is_loose());
                cells.settle();
            }
            check(&cells);
            assert!(!cells.is_loose() && cells == expected);
            tight += cells.heap_bytes();
        }
        assert!(loose > full * 105 / 100, "nothing to mend: {loose} of {full} bytes");
        assert!(tight <= full * 101 / 100, "{tight} of {full} bytes");
    }
}
