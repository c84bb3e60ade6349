//! Services with their dimensions as numbers, and the bound on how many values a dimension has.
//!
//! A dimension may have [`values_max`](Dimensions::new) values for each service and UTC day;
//! later ones are folded into [`OTHER`]. The bound is counted per partition in the order of its
//! offsets, so the result depends on neither batches nor threads nor how partitions interleave;
//! after a restart the values that the table holds of that partition and day are admitted first.

use std::collections::{HashMap, HashSet};

use super::block::{DIMENSIONS, LocalTuple};
use super::intern::Interner;
use crate::time::Day;

/// The value that stands for all values past the bound.
pub const OTHER: &str = "__other__";

/// A service with its dimensions, each a number of [`Dimensions::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The service.
    pub service: u32,
    /// Release, cohort, region, route and the attributes.
    pub dimensions: [u32; DIMENSIONS],
}

/// Which values are admitted: by partition, service, day and dimension.
type Scope = (u16, u32, Day, u8);

/// All services and dimension values of the process.
pub struct Dimensions {
    /// Their texts; number 0 is the empty text, the absent value.
    pub values: Interner,
    tuples: Vec<Tuple>,
    index: HashMap<Tuple, u32, foldhash::fast::RandomState>,
    admitted: HashMap<Scope, HashSet<u32>, foldhash::fast::RandomState>,
    values_max: usize,
    folded: u64,
}

impl Dimensions {
    /// No value yet; at most `values_max` for each dimension, service and UTC day.
    pub fn new(values_max: usize) -> Dimensions {
        let mut values = Interner::default();
        values.intern("");
        Dimensions {
            values,
            tuples: Vec::new(),
            index: HashMap::default(),
            admitted: HashMap::default(),
            values_max,
            folded: 0,
        }
    }

    /// The number of a block's tuple, in the order of the partition's offsets.
    pub fn admit_tuple(&mut self, partition: u16, local: &LocalTuple) -> u32 {
        let service = self.values.intern(local.service());
        let mut dimensions = [0; DIMENSIONS];
        for (n, value) in dimensions.iter_mut().enumerate() {
            *value = self.admit(partition, service, local.day, n as u8, local.dimension(n));
        }
        self.number(Tuple { service, dimensions })
    }

    /// Admits a value that the table already holds for this partition, service and day.
    pub fn restore(&mut self, partition: u16, service: &str, day: Day, n: usize, value: &str) {
        let service = self.values.intern(service);
        self.admit(partition, service, day, n as u8, value);
    }

    /// The number of a tuple.
    pub fn number(&mut self, tuple: Tuple) -> u32 {
        let next = self.tuples.len() as u32;
        let number = *self.index.entry(tuple).or_insert(next);
        if number == next {
            self.tuples.push(tuple);
        }
        number
    }

    /// The tuple of a number.
    pub fn tuple(&self, number: u32) -> &Tuple {
        &self.tuples[number as usize]
    }

    /// All tuples, by number.
    pub fn tuples(&self) -> &[Tuple] {
        &self.tuples
    }

    /// How many values were folded into [`OTHER`], counted once for each block they were in.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    fn admit(&mut self, partition: u16, service: u32, day: Day, n: u8, text: &str) -> u32 {
        if text.is_empty() || text == OTHER {
            return self.values.intern(text);
        }
        let admitted = self.admitted.entry((partition, service, day, n)).or_default();
        if admitted.len() >= self.values_max {
            let known = self.values.find(text).filter(|id| admitted.contains(id));
            return known.unwrap_or_else(|| {
                self.folded += 1;
                self.values.intern(OTHER)
            });
        }
        let id = self.values.intern(text);
        admitted.insert(id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use crate::slo::sli::Slis;
    use crate::state::block::BlockBuilder;

    fn local(ts_ms: i64, release: &str) -> LocalTuple {
        let mut builder = BlockBuilder::new(1, false);
        builder.begin(0, 0);
        let event = Event { ts_ms, customer: "c", release, ..Event::default() };
        builder.push(&event, &Slis::default(), 0);
        builder.finish(1).tuples.remove(0)
    }

    #[test]
    fn values_past_the_bound_are_folded_and_the_first_ones_kept() {
        let mut dimensions = Dimensions::new(2);
        let mut release = |partition, ts_ms, text: &str| {
            let number = dimensions.admit_tuple(partition, &local(ts_ms, text));
            let value = dimensions.tuple(number).dimensions[0];
            dimensions.values.text(value).to_owned()
        };
        assert_eq!(release(0, 0, "a"), "a");
        assert_eq!(release(0, 0, "b"), "b");
        assert_eq!(release(0, 0, "c"), OTHER);
        assert_eq!(release(0, 0, "a"), "a");
        assert_eq!(release(0, 86_400_000, "c"), "c", "another day has its own bound");
        assert_eq!(release(1, 0, "c"), "c", "another partition has its own bound");
        assert_eq!(dimensions.folded(), 1);
    }
}
