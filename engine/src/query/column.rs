//! The counts of an objective in a series.
//!
//! The default availability SLI and the first latency SLI are columns of every cell; further
//! ones have cells of their own. Whatever judges an objective reads its counts here, so that
//! `valid` and `bad` mean the same in every answer.

use std::ops::RangeInclusive;

use crate::model::{Counts, Measures};
use crate::slo::alert::{Outline, Run};
use crate::slo::objective::{Objective, SliRef, Slis};
use crate::state::series::{Cell, Series};
use crate::time::Minute;

/// Where the counts of `objective` stand in a series of `service`; `None` where its SLI judges
/// nothing of that service, so that there is nothing to answer.
///
/// # Panics
/// If no SLI has the objective's name for it: a checked configuration has none such.
pub fn column(slis: &Slis, objective: &Objective, service: &str) -> Option<SliRef> {
    let column = slis.find(&objective.sli).expect("a checked objective names a configured SLI");
    let SliRef::Further(index) = column else { return Some(column) };
    let services = &slis.further[index].services;
    let covered = services.is_empty() || services.iter().any(|covered| covered == service);
    covered.then_some(column)
}

/// The counts over a range of minutes, both ends included.
pub fn sum(series: &Series, column: SliRef, minutes: RangeInclusive<Minute>) -> Counts {
    match column {
        SliRef::Further(index) => series.sum_further(index, minutes),
        SliRef::Availability | SliRef::Latency => in_first_two(&series.sum(minutes), column),
    }
}

/// What a series holds from each of several minutes up to one, read in one walk: of both first
/// SLIs, or of a further one.
pub struct Sums {
    /// The latest first.
    starts: Vec<Minute>,
    sums: Vec<Measures>,
}

impl Sums {
    /// From each of `starts`, in any order, up to `to`, both ends included.
    pub fn of(series: &Series, column: SliRef, mut starts: Vec<Minute>, to: Minute) -> Sums {
        starts.sort_unstable_by(|a, b| b.cmp(a));
        let sums = match column {
            SliRef::Further(index) => series.further[index].sums_from(&starts, to),
            SliRef::Availability | SliRef::Latency => series.cells.sums_from(&starts, to),
        };
        Sums { starts, sums }
    }

    /// The sum from `start`.
    ///
    /// # Panics
    /// If it is none of the starts.
    pub fn from(&self, start: Minute) -> &Measures {
        let at = self.starts.binary_search_by(|known| start.cmp(known));
        &self.sums[at.expect("the sum from this start was read")]
    }

    /// What [`sum`] gives from `start`, by an SLI whose minutes were read.
    ///
    /// # Panics
    /// As [`Sums::from`].
    pub fn counts_from(&self, column: SliRef, start: Minute) -> Counts {
        counts_in(self.from(start), column)
    }
}

/// All minutes up to `to`, most of them summed up by runs: what costs little to look at.
pub fn outline(series: &Series, column: SliRef, to: Minute) -> Outline {
    let (runs, cells) = match column {
        SliRef::Further(index) => series.further[index].runs(to),
        SliRef::Availability | SliRef::Latency => series.cells.runs(to),
    };
    let runs = runs.into_iter().map(|(minutes, measures)| {
        let (first, last) = minutes.into_inner();
        Run { first, last, counts: counts_in(&measures, column) }
    });
    let cell = |cell: &Cell| (cell.minute, counts_in(&cell.measures, column));
    Outline {
        runs: runs.collect(),
        cells: cells.iter().map(cell).collect(),
        first: series.cells.first_minute().unwrap_or(to),
        last: to,
    }
}

/// The counts of an SLI in what its cells hold.
fn counts_in(measures: &Measures, column: SliRef) -> Counts {
    match column {
        SliRef::Further(_) => measures.counts(),
        SliRef::Availability | SliRef::Latency => in_first_two(measures, column),
    }
}

/// The counts of one of the first two SLIs.
fn in_first_two(measures: &Measures, column: SliRef) -> Counts {
    column.counts_in(measures).expect("the cells hold the counts of both first SLIs")
}

/// Minutes with a bad event in a range of minutes, both ends included.
pub fn bad_minutes(
    series: &Series,
    column: SliRef,
    minutes: RangeInclusive<Minute>,
) -> Vec<Minute> {
    let cells = failing_cells(series, column, minutes).into_iter();
    cells.filter(|(_, counts)| counts.bad > 0).map(|(minute, _)| minute).collect()
}

/// The cells of a range of minutes, both ends included, by one SLI; none where nothing of them was
/// bad, which nearly always spares the copy.
pub fn failing_cells(
    series: &Series,
    column: SliRef,
    minutes: RangeInclusive<Minute>,
) -> Vec<(Minute, Counts)> {
    if sum(series, column, minutes.clone()).bad == 0 {
        return Vec::new();
    }
    match column {
        SliRef::Further(index) => {
            let cells = series.further[index].within(minutes);
            cells.map(|cell| (cell.minute, cell.counts)).collect()
        }
        SliRef::Availability | SliRef::Latency => {
            let counts = |cell: Cell| (cell.minute, in_first_two(&cell.measures, column));
            series.cells_in(minutes).map(counts).collect()
        }
    }
}
