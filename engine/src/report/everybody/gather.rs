//! Rows of the table on their way into statements: by customer, in 32 bytes each, with a number in
//! the place of the service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::model::Counts;
use crate::short::same;
use crate::slo::objective::SliRef;
use crate::slo::sli::FURTHER_SLIS_MAX;
use crate::state::runs::Runs;
use crate::table::{Customers, Mark};
use crate::time::Minute;

/// What a row counts for: service and column in one number.
pub(super) type Slot = u32;

/// How many columns a service has: a power of two, so that a slot is taken apart by shifts.
pub(super) const COLUMNS: u32 = (2 + FURTHER_SLIS_MAX as u32).next_power_of_two();

/// The column of the default availability SLI.
pub(super) const AVAILABILITY: u32 = 0;

/// The number of a service and an SLI.
pub(super) fn slot(service: u32, sli: SliRef) -> Slot {
    let column = match sli {
        SliRef::Availability => AVAILABILITY,
        SliRef::Latency => 1,
        SliRef::Further(index) => 2 + index as u32,
    };
    service * COLUMNS + column
}

/// One row, or the part of it that one SLI judges.
pub(super) struct Row {
    pub minute: Minute,
    pub slot: Slot,
    pub counts: Counts,
}

/// The services that were met, by number. Which has which differs from run to run.
#[derive(Default)]
pub(super) struct Services(Mutex<Known>);

#[derive(Default)]
struct Known {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Services {
    fn number(&self, service: &str) -> u32 {
        let Known { numbers, names } = &mut *lock(&self.0);
        if let Some(known) = numbers.get(service) {
            return *known;
        }
        let (number, name) = (names.len() as u32, Arc::<str>::from(service));
        names.push(Arc::clone(&name));
        numbers.insert(name, number);
        number
    }

    /// Their names, by number.
    pub fn names(&self) -> Vec<Arc<str>> {
        lock(&self.0).names.clone()
    }
}

/// Rows that were read.
#[derive(Default)]
pub(super) struct Gathered {
    pub rows: Runs<Row>,
    /// A bound on every sum of them.
    pub load: u128,
}

/// Rows while they are read.
pub(super) struct Gathering<'a> {
    services: &'a Services,
    known: HashMap<Box<str>, u32>,
    /// The service of the row before.
    last: Option<(Box<str>, u32)>,
    pub gathered: Gathered,
}

impl<'a> Gathering<'a> {
    pub fn new(services: &'a Services) -> Gathering<'a> {
        let (known, gathered) = (HashMap::new(), Gathered::default());
        Gathering { services, known, last: None, gathered }
    }

    /// Forgets the rows, and keeps their room.
    pub fn clear(&mut self) {
        self.gathered.rows.clear();
        self.gathered.load = 0;
    }

    /// Adds what one SLI says of a row.
    pub fn push(
        &mut self,
        (customer, service): (&str, &str),
        sli: SliRef,
        minute: Minute,
        counts: Counts,
    ) {
        let slot = slot(self.service(service), sli);
        let Gathered { rows, load } = &mut self.gathered;
        if !rows.last_name().is_some_and(|last| same(last.as_bytes(), customer.as_bytes())) {
            rows.begin(customer);
        }
        rows.push(Row { minute, slot, counts });
        *load += u128::from(counts.valid.max(counts.bad)) + u128::from(counts.excluded);
    }

    fn service(&mut self, name: &str) -> u32 {
        match &self.last {
            Some((last, number)) if same(last.as_bytes(), name.as_bytes()) => return *number,
            _ => {}
        }
        let number = self.known.get(name).copied().unwrap_or_else(|| {
            let number = self.services.number(name);
            self.known.insert(name.into(), number);
            number
        });
        self.last = Some((name.into(), number));
        number
    }
}

/// A small file, its runs by name.
pub(super) struct Held {
    pub gathered: Gathered,
    order: Vec<u32>,
}

impl Held {
    pub fn new(gathered: Gathered) -> Held {
        let rows = &gathered.rows;
        let mut order: Vec<u32> = (0..rows.count() as u32).collect();
        order.sort_by_key(|at| rows.get(*at as usize).0);
        Held { gathered, order }
    }

    fn run(&self, at: u32) -> (&str, &[Row]) {
        self.gathered.rows.get(at as usize)
    }

    /// The places of the runs of a range.
    pub fn of(&self, range: &Customers) -> &[u32] {
        let is_before = |at: &u32| range.from.as_deref().is_some_and(|from| self.run(*at).0 < from);
        let is_within =
            |at: &u32| range.before.as_deref().is_none_or(|before| self.run(*at).0 < before);
        let from = self.order.partition_point(is_before);
        let end = self.order.partition_point(is_within);
        &self.order[from..end.max(from)]
    }

    /// Places between customers, some to a range.
    pub fn marks(&self, range_rows: u64) -> Vec<Mark> {
        let chunks = self.order.chunks((range_rows as usize / 64).max(1));
        let rows = |chunk: &[u32]| chunk.iter().map(|at| self.run(*at).1.len() as u64).sum();
        chunks.map(|chunk| (self.run(chunk[0]).0.to_owned(), rows(chunk))).collect()
    }
}
