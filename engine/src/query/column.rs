//! The counts of an objective in a series.
//!
//! The default availability SLI and the first latency SLI are columns of every cell; further
//! ones have cells of their own. Whatever judges an objective reads its counts here, so that
//! `valid` and `bad` mean the same in every answer.

use std::ops::RangeInclusive;

use crate::model::Counts;
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
        SliRef::Availability | SliRef::Latency => {
            let measures = series.sum(minutes);
            column.counts_in(&measures).expect("the cells hold the counts of both first SLIs")
        }
    }
}

/// The counts of one cell by one of the first two SLIs.
fn of_cell(cell: &Cell, column: SliRef) -> Counts {
    column.counts_in(&cell.measures).expect("the cells hold the counts of both first SLIs")
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
    match column {
        SliRef::Further(index) => {
            let within = series.further[index].iter().filter(|cell| minutes.contains(&cell.minute));
            within.filter(|cell| cell.counts.bad > 0).map(|cell| cell.minute).collect()
        }
        _ => {
            let bad = |cell: &Cell| of_cell(cell, column).bad > 0;
            series.cells_in(minutes).filter(bad).map(|cell| cell.minute).collect()
        }
    }
}

/// All cells of a series by one SLI; none where nothing was ever bad, which nearly always spares
/// the copy.
pub fn failing_cells(series: &Series, column: SliRef) -> Vec<(Minute, Counts)> {
    if !any_bad(series, column, Minute(0)..=Minute(u32::MAX)) {
        return Vec::new();
    }
    match column {
        SliRef::Further(index) => {
            series.further[index].iter().map(|cell| (cell.minute, cell.counts)).collect()
        }
        _ => series.cells.iter().map(|cell| (cell.minute, of_cell(&cell, column))).collect(),
    }
}
