//! Packed minutes: up to 64 of one series in one piece of memory.
//!
//! ```text
//! cell cell …  │ sum of the block, as a cell │ first minute u32 │ length u16 │ length of the sum u8
//! ```
//!
//! A cell is one byte of flags and, for what the flags do not say, LEB128 numbers: minutes since
//! the cell before, valid, bad, excluded, timed, slow; then sum and longest of the latencies, two
//! bytes each below 57 ms and a LEB128 number more above. A minute of one good event right behind
//! the one before takes one byte, with its latency three. What stands at the end of a block tells
//! where it begins: a snapshot writes them one after another.
//!
//! Invariants: within a block each minute stands once, in order; its sum is that of its cells.

use super::super::series::Cell;
use super::super::snapshot::push_number;
use crate::model::Measures;
use crate::time::Minute;

/// The most minutes of a block: large enough that its end weighs little, small enough to decode
/// in less than a microsecond.
pub(super) const BLOCK_CELLS: usize = 64;

/// First minute, length of the cells, length of the sum.
const END_BYTES: usize = 4 + 2 + 1;

/// Latencies from so many microseconds on have a number more behind their first two bytes.
const LONG_US: u64 = 0xe000;

/// How many of their bits those two bytes hold then.
const LONG_LOW_BITS: u32 = 13;

/// It is not the minute right behind the one before.
const APART: u8 = 1;
/// Valid is not 1.
const VALID: u8 = 1 << 1;
/// Bad is not 0.
const BAD: u8 = 1 << 2;
/// Excluded is not 0.
const EXCLUDED: u8 = 1 << 3;
/// Nothing is timed, and no latency follows.
const UNTIMED: u8 = 1 << 4;
/// Timed is not valid without bad.
const TIMED: u8 = 1 << 5;
/// Slow is not 0.
const SLOW: u8 = 1 << 6;
/// The longest latency is not their sum.
const LONGEST: u8 = 1 << 7;

/// Up to `BLOCK_CELLS` minutes in order, packed; empty only until it has its first.
#[derive(Clone, Debug, Default)]
pub(super) struct Block(Box<[u8]>);

impl Block {
    /// This one, whose last minute is `last` if it has any, and minutes behind that.
    pub(super) fn with(&self, last: Minute, cells: &[Cell]) -> Block {
        let (first, mut before, mut sum, kept) = match end_of(&self.0) {
            None => {
                let first = cells[0].minute;
                (first, minute_before(first), Measures::default(), &[][..])
            }
            Some((first, length, _)) => (first, last.0, self.sum(), &self.0[..length]),
        };
        let mut bytes = Vec::with_capacity(self.0.len() + 32 * (cells.len() + 1));
        bytes.extend_from_slice(kept);
        for cell in cells {
            push_cell(&mut bytes, cell.minute.0.wrapping_sub(before), &cell.measures);
            before = cell.minute.0;
            sum.add(&cell.measures);
        }
        Block::ended(bytes, first, &sum)
    }

    /// The block of packed cells, the first of which is `first` and which are `sum` together.
    fn ended(mut bytes: Vec<u8>, first: Minute, sum: &Measures) -> Block {
        let cells_length = bytes.len();
        push_cell(&mut bytes, 1, sum);
        let sum_length = (bytes.len() - cells_length) as u8;
        let cells_length = u16::try_from(cells_length).expect("64 cells of at most 76 bytes");
        bytes.extend_from_slice(&first.0.to_le_bytes());
        bytes.extend_from_slice(&cells_length.to_le_bytes());
        bytes.push(sum_length);
        // Copied, since what is too large by less than a half would stay so.
        Block(Box::from(&bytes[..]))
    }

    /// This one with late minutes in their places, and how many it has then; `None` where they
    /// are too many for a block. What stands between two of them is copied as it is.
    pub(super) fn merged(&self, mut late: &[Cell]) -> Option<(Block, usize)> {
        let first = self.first().min(late[0].minute);
        let (mut sum, mut reader) = (self.sum(), self.reader());
        late.iter().for_each(|cell| sum.add(&cell.measures));
        let mut bytes = Vec::with_capacity(self.0.len() + 32 * (late.len() + 1));
        // The minutes before the next cell as it is read, and as it is written.
        let (mut minute, mut before) = (minute_before(self.first()), minute_before(first));
        let (mut copied, mut count) = (0, late.len());
        while reader.at < reader.bytes.len() {
            let start = reader.at;
            minute = minute.wrapping_add(reader.skip());
            count += 1;
            if late.first().is_some_and(|late| late.minute.0 <= minute) {
                bytes.extend_from_slice(&reader.bytes[copied..start]);
                reader.at = start;
                let (_, mut measures) = reader.cell();
                while let Some((cell, others)) = late.split_first()
                    && cell.minute.0 <= minute
                {
                    late = others;
                    if cell.minute.0 == minute {
                        measures.add(&cell.measures);
                        count -= 1;
                    } else {
                        push_cell(&mut bytes, cell.minute.0.wrapping_sub(before), &cell.measures);
                        before = cell.minute.0;
                    }
                }
                push_cell(&mut bytes, minute.wrapping_sub(before), &measures);
                copied = reader.at;
            }
            before = minute;
        }
        if count > BLOCK_CELLS {
            return None;
        }
        bytes.extend_from_slice(&reader.bytes[copied..]);
        for cell in late {
            push_cell(&mut bytes, cell.minute.0.wrapping_sub(before), &cell.measures);
            before = cell.minute.0;
        }
        Some((Block::ended(bytes, first, &sum), count))
    }

    /// First minute, length of the cells, length of the sum.
    fn end(&self) -> (Minute, usize, usize) {
        end_of(&self.0).expect("a block has an end")
    }

    pub(super) fn first(&self) -> Minute {
        self.end().0
    }

    fn cells_length(&self) -> usize {
        self.end().1
    }

    pub(super) fn reader(&self) -> CellReader<'_> {
        CellReader { bytes: &self.0[..self.cells_length()], at: 0 }
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> {
        let (mut reader, mut minute) = (self.reader(), minute_before(self.first()));
        std::iter::from_fn(move || {
            (reader.at < reader.bytes.len()).then(|| {
                let (apart, measures) = reader.cell();
                minute = minute.wrapping_add(apart);
                Cell { minute: Minute(minute), measures }
            })
        })
    }

    pub(super) fn sum(&self) -> Measures {
        CellReader { bytes: &self.0[self.cells_length()..], at: 0 }.cell().1
    }

    /// What it takes of an allocator that has four sizes from one power of two to the next.
    pub(super) fn heap_bytes(&self) -> usize {
        let length = self.0.len();
        length.next_multiple_of((length.next_power_of_two() / 8).max(16))
    }
}

/// The minute before the first cell of a block, which stands right behind it, as any other may.
pub(super) fn minute_before(first: Minute) -> u32 {
    first.0.wrapping_sub(1)
}

/// What the end of the last block of a run tells: first minute, length of the cells, length of
/// the sum.
fn end_of(run: &[u8]) -> Option<(Minute, usize, usize)> {
    let [a, b, c, d, low, high, sum_length] = *run.last_chunk::<END_BYTES>()?;
    let first = Minute(u32::from_le_bytes([a, b, c, d]));
    Some((first, usize::from(u16::from_le_bytes([low, high])), usize::from(sum_length)))
}

/// Reads cells one after another.
pub(super) struct CellReader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl CellReader<'_> {
    /// Minutes since the cell before, and the measures.
    #[inline]
    pub(super) fn cell(&mut self) -> (u32, Measures) {
        let flags = self.bytes[self.at];
        self.at += 1;
        let apart = self.number_if(flags & APART != 0, 1) as u32;
        let valid = self.number_if(flags & VALID != 0, 1);
        let bad = self.number_if(flags & BAD != 0, 0);
        let excluded = self.number_if(flags & EXCLUDED != 0, 0);
        let mut measures = Measures { valid, bad, excluded, ..Measures::default() };
        if flags & UNTIMED == 0 {
            measures.timed = self.number_if(flags & TIMED != 0, valid.wrapping_sub(bad));
            measures.slow = self.number_if(flags & SLOW != 0, 0);
            measures.latency_sum_us = self.latency_us();
            measures.latency_max_us = match flags & LONGEST {
                0 => measures.latency_sum_us,
                _ => self.latency_us(),
            };
        }
        (apart, measures)
    }

    /// Minutes since the cell before; the measures are passed over.
    #[inline]
    fn skip(&mut self) -> u32 {
        let flags = self.bytes[self.at];
        self.at += 1;
        let apart = self.number_if(flags & APART != 0, 1) as u32;
        for _ in 0..(flags & (VALID | BAD | EXCLUDED | TIMED | SLOW)).count_ones() {
            self.number_if(true, 0);
        }
        if flags & UNTIMED == 0 {
            self.latency_us();
            if flags & LONGEST != 0 {
                self.latency_us();
            }
        }
        apart
    }

    /// What [`push_latency`] writes.
    #[inline]
    fn latency_us(&mut self) -> u64 {
        let short = u16::from_le_bytes([self.bytes[self.at], self.bytes[self.at + 1]]);
        self.at += 2;
        match u64::from(short) {
            short if short < LONG_US => short,
            long => (self.number_if(true, 0) << LONG_LOW_BITS) | (long - LONG_US),
        }
    }

    /// A LEB128 number where there is one.
    #[inline]
    fn number_if(&mut self, written: bool, otherwise: u64) -> u64 {
        if !written {
            return otherwise;
        }
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.bytes[self.at];
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }
}

/// Writes blocks as one run.
pub(super) fn push_blocks(out: &mut Vec<u8>, blocks: &[Block]) {
    push_number(out, blocks.iter().map(|block| block.0.len() as u64).sum());
    blocks.iter().for_each(|block| out.extend_from_slice(&block.0));
}

/// Cuts a run of blocks; `None` where they are not in the order of their minutes.
pub(super) fn blocks_of(mut run: &[u8]) -> Option<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut next = None;
    while !run.is_empty() {
        let (first, cells_length, sum_length) = end_of(run)?;
        let length = cells_length + sum_length;
        if next.is_some_and(|next| next <= first) || length == 0 {
            return None;
        }
        let start = run.len().checked_sub(length + END_BYTES)?;
        blocks.push(Block(Box::from(&run[start..])));
        (run, next) = (&run[..start], Some(first));
    }
    blocks.reverse();
    blocks.shrink_to_fit();
    Some(blocks)
}

fn push_number_if(bytes: &mut Vec<u8>, written: bool, number: u64) {
    if written {
        push_number(bytes, number);
    }
}

/// Writes a cell that is `apart` minutes from the one before.
fn push_cell(bytes: &mut Vec<u8>, apart: u32, measures: &Measures) {
    let Measures { valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us } = *measures;
    let untimed = timed == 0 && slow == 0 && latency_sum_us == 0 && latency_max_us == 0;
    let timed_apart = !untimed && timed != valid.wrapping_sub(bad);
    let flag = |flag: u8, is: bool| if is { flag } else { 0 };
    bytes.push(
        flag(APART, apart != 1)
            | flag(VALID, valid != 1)
            | flag(BAD, bad != 0)
            | flag(EXCLUDED, excluded != 0)
            | flag(UNTIMED, untimed)
            | flag(TIMED, timed_apart)
            | flag(SLOW, slow != 0)
            | flag(LONGEST, latency_max_us != latency_sum_us),
    );
    push_number_if(bytes, apart != 1, u64::from(apart));
    push_number_if(bytes, valid != 1, valid);
    push_number_if(bytes, bad != 0, bad);
    push_number_if(bytes, excluded != 0, excluded);
    push_number_if(bytes, timed_apart, timed);
    push_number_if(bytes, slow != 0, slow);
    if !untimed {
        push_latency(bytes, latency_sum_us);
        if latency_max_us != latency_sum_us {
            push_latency(bytes, latency_max_us);
        }
    }
}

/// Writes a latency or a sum of them: nearly all single ones fit two bytes.
fn push_latency(bytes: &mut Vec<u8>, us: u64) {
    let low = us & ((1 << LONG_LOW_BITS) - 1);
    let short = if us < LONG_US { us } else { LONG_US | low };
    bytes.extend_from_slice(&(short as u16).to_le_bytes());
    push_number_if(bytes, us >= LONG_US, us >> LONG_LOW_BITS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_of_any_length_is_read_as_it_was_written() {
        let around = |at: u64| [at.saturating_sub(1), at, at.saturating_add(1)];
        let edges = (0..64).map(|bit| 1 << bit).chain([LONG_US, LONG_US + (1 << LONG_LOW_BITS)]);
        let all: Vec<u64> = edges.flat_map(around).chain([0, u64::MAX]).collect();
        let mut bytes = Vec::new();
        all.iter().for_each(|us| push_latency(&mut bytes, *us));
        let mut reader = CellReader { bytes: &bytes, at: 0 };
        all.iter().for_each(|us| assert_eq!(reader.latency_us(), *us));
        assert_eq!(reader.at, bytes.len());
    }

    #[test]
    fn a_cell_takes_no_more_bytes_than_its_block_has_room_for() {
        let most = u64::MAX;
        let largest = Measures {
            valid: most,
            bad: most,
            excluded: most,
            timed: 1,
            slow: most,
            latency_sum_us: most,
            latency_max_us: most - 1,
        };
        let mut bytes = Vec::new();
        push_cell(&mut bytes, u32::MAX, &largest);
        assert!(bytes.len() <= 76 && BLOCK_CELLS * 76 <= usize::from(u16::MAX));
    }
}
