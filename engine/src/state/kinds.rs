//! What an epoch's records have in common, by number, so that a record takes 16 bytes: there is
//! one for each event, and most of what becomes of it is waiting for the memory that it stands in.
//!
//! Invariants: number 0 is [`Kind::NOTHING`] in every list, the kind of a record that was dropped;
//! a number means the same until its list is cleared, which no record of it outlives.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::model::{Measures, Outcome};
use crate::slo::sli::Class;
use crate::time::{DAY_MINUTES, Day, Minute};

/// What many records share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Service and dimensions, by number.
    pub tuple: u32,
    /// The UTC day.
    pub day: Day,
    /// How many equal requests a record stands for; 0 for [`Kind::NOTHING`] alone.
    pub count: u32,
    /// From which partition, by number.
    pub partition: u16,
    /// How the further SLIs sorted it: [`Class::further_masks`].
    pub further: [u8; 3],
}

impl Kind {
    /// That of a dropped record, which counts nowhere.
    pub const NOTHING: Kind =
        Kind { tuple: 0, day: Day(0), count: 0, partition: 0, further: [0; 3] };

    /// The number of [`Kind::NOTHING`].
    pub const NOTHING_NUMBER: u32 = 0;
}

/// Kinds by number.
pub struct Kinds {
    list: Vec<Kind>,
    numbers: HashMap<Kind, u32, RandomState>,
}

impl Default for Kinds {
    fn default() -> Self {
        let mut kinds = Kinds { list: Vec::new(), numbers: HashMap::default() };
        kinds.take();
        kinds
    }
}

impl Kinds {
    /// The number of a kind.
    pub fn number(&mut self, kind: Kind) -> u32 {
        let next = self.list.len() as u32;
        let number = *self.numbers.entry(kind).or_insert(next);
        if number == next {
            self.list.push(kind);
        }
        number
    }

    /// All kinds, by number.
    pub fn list(&self) -> &[Kind] {
        &self.list
    }

    /// All kinds, by number; it begins again without them.
    pub fn take(&mut self) -> Vec<Kind> {
        let list = std::mem::take(&mut self.list);
        self.numbers.clear();
        assert_eq!(self.number(Kind::NOTHING), Kind::NOTHING_NUMBER, "it is the first");
        list
    }
}

/// One counted event in 16 bytes. What it says is told together with its kind: [`Record::with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who, by number.
    pub customer: u32,
    /// What it shares with others, by number.
    pub kind: u32,
    /// Microseconds; 0 where the event is not timed.
    latency_us: u32,
    minute_of_day: u16,
    sorted: Sorted,
}

/// All that a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Who, by number.
    pub customer: u32,
    /// Service and dimensions, by number.
    pub tuple: u32,
    /// When.
    pub minute: Minute,
    /// Microseconds; 0 where the event is not timed.
    pub latency_us: u32,
    /// How many equal requests; 0 = dropped as a duplicate.
    pub count: u32,
    /// HTTP status or 0.
    pub status: u16,
    /// From which partition, by number.
    pub partition: u16,
    /// How the SLIs sorted it.
    pub class: Class,
}

impl Counted {
    /// What it adds.
    #[inline]
    pub fn measures(&self) -> Measures {
        self.class.measures(self.count, self.latency_us)
    }

    /// Adds the same to `sums`.
    #[inline(always)]
    pub fn add_to(&self, sums: &mut Measures) {
        self.class.add_to(sums, self.count, self.latency_us);
    }

    /// What it adds to any sum at most.
    #[inline]
    pub fn load(&self) -> u128 {
        u128::from(u64::from(self.latency_us.max(1)) * u64::from(self.count))
    }

    /// What it shares with others.
    #[inline]
    pub fn kind(&self) -> Kind {
        let Counted { tuple, minute, count, partition, class, .. } = *self;
        Kind { tuple, day: minute.day(), count, partition, further: class.further_masks() }
    }

    /// What is left of it beside its kind, whose number is given.
    #[inline]
    pub fn record(&self, kind: u32) -> Record {
        let Counted { customer, minute, latency_us, status, class, .. } = *self;
        let minute_of_day = (minute.0 % DAY_MINUTES) as u16;
        Record { customer, kind, latency_us, minute_of_day, sorted: Sorted::new(status, class) }
    }
}

impl Record {
    /// Whether it was dropped as a duplicate.
    #[inline]
    pub fn is_dropped(&self) -> bool {
        self.kind == Kind::NOTHING_NUMBER
    }

    /// When in its day.
    #[inline]
    pub fn minute_of_day(&self) -> u32 {
        u32::from(self.minute_of_day)
    }

    /// When; `kinds` are those of its list.
    ///
    /// # Panics
    /// If its kind is not among them.
    #[inline]
    pub fn minute(&self, kinds: &[Kind]) -> Minute {
        let Day(day) = kinds[self.kind as usize].day;
        Minute(day * DAY_MINUTES + self.minute_of_day())
    }

    /// All that it says; `kinds` are those of its list.
    ///
    /// # Panics
    /// If its kind is not among them.
    #[inline]
    pub fn with(&self, kinds: &[Kind]) -> Counted {
        let Record { customer, kind, latency_us, sorted, .. } = *self;
        let Kind { tuple, count, partition, further, .. } = kinds[kind as usize];
        Counted {
            customer,
            tuple,
            minute: self.minute(kinds),
            latency_us,
            count,
            status: sorted.status(),
            partition,
            class: sorted.class(further),
        }
    }
}

/// The status, and how the default SLIs have sorted it: ten bits of status, two of availability,
/// then timed and slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sorted(u16);

const STATUS_BITS: u32 = 10;

impl Sorted {
    #[inline]
    fn new(status: u16, class: Class) -> Sorted {
        debug_assert!(status < 1 << STATUS_BITS, "a status has three digits");
        let availability = match class.availability {
            None => 0,
            Some(Outcome::Good) => 1,
            Some(Outcome::Bad) => 2,
            Some(Outcome::Excluded) => 3,
        };
        let sorted = availability | u16::from(class.timed) << 2 | u16::from(class.slow) << 3;
        Sorted(status | sorted << STATUS_BITS)
    }

    #[inline]
    fn status(self) -> u16 {
        self.0 & ((1 << STATUS_BITS) - 1)
    }

    #[inline]
    fn class(self, [further_good, further_bad, further_excluded]: [u8; 3]) -> Class {
        let sorted = self.0 >> STATUS_BITS;
        let availability = match sorted & 3 {
            0 => None,
            1 => Some(Outcome::Good),
            2 => Some(Outcome::Bad),
            _ => Some(Outcome::Excluded),
        };
        let (timed, slow) = (sorted & 4 != 0, sorted & 8 != 0);
        Class { availability, timed, slow, further_good, further_bad, further_excluded }
    }
}

#[cfg(test)]
impl Kinds {
    /// The record that says this; a dropped one where it counts nothing.
    pub fn record(&mut self, of: Counted) -> Record {
        let kind = if of.count == 0 { Kind::NOTHING_NUMBER } else { self.number(of.kind()) };
        of.record(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LATENCY_US_MAX;

    #[test]
    fn a_record_says_with_its_kind_what_was_counted() {
        let outcomes = [None, Some(Outcome::Good), Some(Outcome::Bad), Some(Outcome::Excluded)];
        let mut kinds = Kinds::default();
        let mut said = Vec::new();
        for n in 0..5_000_u32 {
            let class = Class {
                availability: outcomes[n as usize % 4],
                timed: n % 3 == 0,
                slow: n % 5 == 0,
                further_good: (n % 7) as u8,
                further_bad: (n % 11) as u8 * 23,
                further_excluded: u8::MAX * (n % 2) as u8,
            };
            let counted = Counted {
                customer: u32::MAX - n,
                tuple: n % 13,
                minute: Minute(29_000_000 + n),
                latency_us: LATENCY_US_MAX - n,
                count: [1, 2, u32::MAX][n as usize % 3],
                status: (n % 600) as u16,
                partition: u16::MAX - (n % 2) as u16,
                class,
            };
            said.push((kinds.record(counted), counted));
        }
        for (record, counted) in &said {
            assert_eq!(record.with(kinds.list()), *counted);
            assert!(!record.is_dropped());
        }
        assert_eq!(size_of::<Record>(), 16);
        let dropped = kinds.record(Counted { count: 0, ..said[0].1 });
        assert!(dropped.is_dropped() && dropped.with(kinds.list()).count == 0);
        let one = said[7].1.kind();
        let count = kinds.list().len();
        assert_eq!(kinds.number(one), said[7].0.kind, "known again");
        assert_eq!(kinds.take().len(), count);
        assert_eq!(kinds.list(), [Kind::NOTHING]);
        assert_eq!(kinds.number(one), 1, "a new list");
    }
}
