//! The counts of an objective in a series.
//!
//! The default availability SLI and the first latency SLI are columns of every cell; further
//! ones have cells of their own. Whatever judges an objective reads its counts here, so that
//! `valid` and `bad` mean the same in every answer.

use std::cmp::Reverse;
use std::ops::RangeInclusive;

use crate::model::{Counts, Measures};
use crate::slo::alert::{Outline, Run};
use crate::slo::objective::{Objective, SliRef, Slis};
use crate::state::series::{Cell, Series, sli_counts};
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

/// The counts from each of `starts`, in any order, up to `to`, both ends included: what [`sum`]
/// gives for each, by one walk over the minutes.
pub fn sums_from(series: &Series, column: SliRef, starts: &[Minute], to: Minute) -> Vec<Counts> {
    let mut order: Vec<usize> = (0..starts.len()).collect();
    order.sort_unstable_by_key(|at| Reverse(starts[*at]));
    let sorted: Vec<Minute> = order.iter().map(|at| starts[*at]).collect();
    let found = match column {
        SliRef::Further(index) => series.further[index].sums_from(&sorted, to),
        SliRef::Availability | SliRef::Latency => {
            let sums = series.cells.sums_from(&sorted, to);
            sums.iter().map(|measures| in_first_two(measures, column)).collect()
        }
    };
    let mut sums = vec![Counts::default(); starts.len()];
    order.into_iter().zip(found).for_each(|(at, counts)| sums[at] = counts);
    sums
}

/// All minutes up to `to`, most of them summed up by runs: what costs little to look at.
pub fn outline(series: &Series, column: SliRef, to: Minute) -> Outline {
    let (runs, cells) = match column {
        SliRef::Further(index) => series.further[index].runs(to),
        SliRef::Availability | SliRef::Latency => series.cells.runs(to),
    };
    let counts = |measures: &Measures| match column {
        SliRef::Further(_) => sli_counts(*measures),
        SliRef::Availability | SliRef::Latency => in_first_two(measures, column),
    };
    let runs = runs.into_iter().map(|(minutes, measures)| {
        let (first, last) = minutes.into_inner();
        Run { first, last, counts: counts(&measures) }
    });
    Outline {
        runs: runs.collect(),
        cells: cells.iter().map(|cell| (cell.minute, counts(&cell.measures))).collect(),
        first: series.cells.first_minute().unwrap_or(to),
        last: to,
    }
}

/// The counts of one of the first two SLIs.
fn in_first_two(measures: &Measures, column: SliRef) -> Counts {
    column.counts_in(measures).expect("the cells hold the counts of both first SLIs")
}

/// Whether anything was bad in a range of minutes, both ends included.
pub fn any_bad(series: &Series, column: SliRef, minutes: RangeInclusive<Minute>) -> bool {
    sum(series, column, minutes).bad > 0
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
    if !any_bad(series, column, minutes.clone()) {
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
