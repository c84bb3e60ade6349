//! The records of a shard that no commit has taken, in the parts in which blocks brought them.
//!
//! Invariants: records keep the order in which they came. Parts that are worth it are kept as
//! they are, so that nothing is copied and no list grows; small ones are put together. Blocks
//! fill all shards alike, so parts of one number are about of one time in all of them.

use super::kinds::Record;

/// Parts below this many records are put together.
const PART_RECORDS_MIN: usize = 128;

/// Records in the order in which they came.
#[derive(Debug, Default)]
pub struct Records {
    parts: Vec<Vec<Record>>,
    count: usize,
}

impl Records {
    /// How many there are, dropped duplicates among them.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a part of a block.
    pub fn push(&mut self, mut part: Vec<Record>) {
        self.count += part.len();
        if part.len() >= PART_RECORDS_MIN {
            if part.capacity() > 2 * part.len() {
                part.shrink_to_fit();
            }
            return self.parts.push(part);
        }
        match self.parts.last_mut() {
            Some(last) if last.len() + part.len() <= last.capacity() => last.extend(part),
            _ => {
                let mut together = Vec::with_capacity(PART_RECORDS_MIN);
                together.extend(part);
                self.parts.push(together);
            }
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Records::default();
    }

    /// The parts.
    pub fn parts(&self) -> &[Vec<Record>] {
        &self.parts
    }

    /// All that came after the first `start`.
    pub fn since(&self, start: usize) -> impl Iterator<Item = &Record> + Clone {
        let mut before = start;
        let skipped = self.parts.iter().take_while(|part| {
            let is_before = part.len() <= before;
            before -= if is_before { part.len() } else { 0 };
            is_before
        });
        let first = skipped.count();
        let rest = &self.parts[first..];
        rest.iter().flatten().skip(before)
    }

    /// Those that count: without dropped duplicates.
    pub fn counted(&self) -> impl Iterator<Item = &Record> {
        self.counted_by_part().flatten()
    }

    /// The same part by part, for who does little with each: a chain of iterators may call a
    /// function for each record.
    pub fn counted_by_part(&self) -> impl Iterator<Item = impl Iterator<Item = &Record>> {
        self.parts.iter().map(|part| part.iter().filter(|record| !record.is_dropped()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::sli::Class;
    use crate::state::kinds::{Counted, Kinds};
    use crate::time::Minute;

    fn record(number: u32) -> Record {
        Kinds::default().record(Counted {
            customer: number,
            tuple: 0,
            minute: Minute(0),
            latency_us: 0,
            count: number % 3,
            status: 0,
            partition: 0,
            class: Class::default(),
        })
    }

    #[test]
    fn records_keep_their_order_whatever_the_size_of_their_parts() {
        let mut records = Records::default();
        let mut next = 0;
        for size in [1, 127, 128, 0, 3, 1_000, 64, 64, 64, 2] {
            let part: Vec<Record> = (next..next + size).map(record).collect();
            records.push(part);
            next += size;
            assert_eq!(records.len(), next as usize);
        }
        for start in 0..=next {
            let numbers = records.since(start as usize).map(|record| record.customer);
            assert!(numbers.eq(start..next), "{start}");
        }
        assert!(records.parts().iter().flatten().eq(records.since(0)));
        assert!(records.counted().all(|record| !record.is_dropped()));
        assert_eq!(records.counted().count(), (0..next).filter(|number| number % 3 > 0).count());
        assert!(records.parts().len() < 10, "small parts are put together");
        records.clear();
        assert!(records.is_empty() && records.since(0).next().is_none());
    }
}
