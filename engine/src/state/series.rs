//! One series: the counts of one customer and service, minute by minute.
//!
//! Invariants: cells are sorted by minute, one per minute, none empty; a window's sum is the
//! sum of its cells, so it equals a recount of the raw events whatever order they came in.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::model::{Counts, Measures};
use crate::slo::histogram::Histogram;
use crate::time::Minute;

/// The counts of one active minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// When.
    pub minute: Minute,
    /// What.
    pub measures: Measures,
}

/// The counts of one active minute by one further SLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliCell {
    /// When.
    pub minute: Minute,
    /// What.
    pub counts: Counts,
}

/// One customer and service.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Who was served.
    pub customer: Arc<str>,
    /// By which component.
    pub service: Arc<str>,
    /// The default availability SLI and the first latency SLI, sorted by minute.
    pub cells: Vec<Cell>,
    /// Latency of the timed events, sorted by minute; only of the minutes that were asked for
    /// (live: the last two hours), since longer spans merge the table's rows.
    pub histograms: Vec<(Minute, Histogram)>,
    /// The further SLIs in the order of the configuration, each sorted by minute.
    pub further: Vec<Vec<SliCell>>,
}

impl Series {
    /// A series without events.
    pub fn new(customer: Arc<str>, service: Arc<str>, further_slis: usize) -> Series {
        Series {
            customer,
            service,
            cells: Vec::new(),
            histograms: Vec::new(),
            further: vec![Vec::new(); further_slis],
        }
    }

    /// Adds the counts of one minute, late ones included.
    pub fn add(&mut self, minute: Minute, measures: &Measures) {
        match self.cells.last_mut() {
            Some(last) if last.minute == minute => last.measures.add(measures),
            Some(last) if last.minute > minute => {
                match self.cells.binary_search_by_key(&minute, |cell| cell.minute) {
                    Ok(at) => self.cells[at].measures.add(measures),
                    Err(at) => self.cells.insert(at, Cell { minute, measures: *measures }),
                }
            }
            _ => self.cells.push(Cell { minute, measures: *measures }),
        }
    }

    /// Adds the counts of one minute by further SLI `sli`.
    pub fn add_further(&mut self, sli: usize, minute: Minute, counts: Counts) {
        let cells = &mut self.further[sli];
        match cells.binary_search_by_key(&minute, |cell| cell.minute) {
            Ok(at) => cells[at].counts.add(counts),
            Err(at) => cells.insert(at, SliCell { minute, counts }),
        }
    }

    /// The cells of a range of minutes, both ends included.
    pub fn cells_in(&self, minutes: RangeInclusive<Minute>) -> &[Cell] {
        let first = self.cells.partition_point(|cell| cell.minute < *minutes.start());
        let next = self.cells.partition_point(|cell| cell.minute <= *minutes.end());
        &self.cells[first..next.max(first)]
    }

    /// The sum over a range of minutes, both ends included.
    pub fn sum(&self, minutes: RangeInclusive<Minute>) -> Measures {
        let mut sum = Measures::default();
        for cell in self.cells_in(minutes) {
            sum.add(&cell.measures);
        }
        sum
    }

    /// The sum by further SLI `sli` over a range of minutes, both ends included.
    pub fn sum_further(&self, sli: usize, minutes: RangeInclusive<Minute>) -> Counts {
        let cells = &self.further[sli];
        let first = cells.partition_point(|cell| cell.minute < *minutes.start());
        let mut sum = Counts::default();
        for cell in cells[first..].iter().take_while(|cell| cell.minute <= *minutes.end()) {
            sum.add(cell.counts);
        }
        sum
    }
}
