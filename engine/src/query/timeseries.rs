//! Counts by step, for graphs: of one customer, or of the fleet.
//!
//! Every step of the range is there, idle ones with `null` for what nothing was there to judge.
//! Steps are counted from the first minute that was asked for; the last one is cut off at the
//! end of the range.

use std::ops::RangeInclusive;

use rayon::prelude::*;

use crate::model::{Counts, Measures};
use crate::query::AskError;
use crate::query::body::{Step, Timeseries};
use crate::slo::budget;
use crate::state::series::Series;
use crate::time::Minute;

/// The most steps of one answer: a month of 5-minute steps fits, and an answer stays below
/// 2 MB.
pub const STEPS_MAX: u32 = 10_000;

/// So many series are summed by one task: enough to outweigh its array of steps.
const SERIES_PER_TASK: usize = 4_096;

/// The steps of a range of minutes, both ends included, pooled over `series`.
///
/// `customer` names them in the answer and is empty for the fleet.
///
/// # Errors
/// [`AskError::Argument`] where `step_minutes` is 0, the range ends before it begins, or it has
/// more than [`STEPS_MAX`] steps.
pub fn timeseries(
    customer: &str,
    series: &[&Series],
    minutes: RangeInclusive<Minute>,
    step_minutes: u32,
    as_of: Minute,
) -> Result<Timeseries, AskError> {
    let steps = check_steps(&minutes, step_minutes)?;
    let (from, to) = (*minutes.start(), *minutes.end());
    Ok(Timeseries {
        customer: customer.to_owned(),
        as_of: as_of.to_string(),
        from: from.to_string(),
        to: to.to_string(),
        step_minutes,
        steps: sums(series, &minutes, step_minutes, steps)
            .iter()
            .zip(0..)
            .map(|(measures, at)| step(Minute(from.0 + at * step_minutes), measures))
            .collect(),
    })
}

/// How many steps the range has.
fn check_steps(minutes: &RangeInclusive<Minute>, step_minutes: u32) -> Result<u32, AskError> {
    let refuse = |field, problem: String| Err(AskError::Argument { field, problem });
    if step_minutes == 0 {
        return refuse("step", "0 minutes is no step; it takes 1 minute or more".to_owned());
    }
    let (from, to) = (*minutes.start(), *minutes.end());
    if to < from {
        return refuse("to", format!("{to} is before from, {from}"));
    }
    let steps = (to.0 - from.0) / step_minutes + 1;
    if steps > STEPS_MAX {
        let least = (to.0 - from.0) / STEPS_MAX + 1;
        let problem = format!(
            "{steps} steps are more than {STEPS_MAX}; \
             for this range it takes {least} minutes or more"
        );
        return refuse("step", problem);
    }
    Ok(steps)
}

/// The sum of each step, over all series.
pub(super) fn sums(
    series: &[&Series],
    minutes: &RangeInclusive<Minute>,
    step_minutes: u32,
    steps: u32,
) -> Vec<Measures> {
    let idle = || vec![Measures::default(); steps as usize];
    let sum = |series: &[&Series]| {
        let mut sums = idle();
        for cell in series.iter().flat_map(|series| series.cells_in(minutes.clone())) {
            let at = (cell.minute.0 - minutes.start().0) / step_minutes;
            sums[at as usize].add(&cell.measures);
        }
        sums
    };
    series.par_chunks(SERIES_PER_TASK).map(sum).reduce(idle, |mut sums, others| {
        for (sum, other) in sums.iter_mut().zip(&others) {
            sum.add(other);
        }
        sums
    })
}

/// One step; also the minutes of the fleet.
pub(super) fn step(at: Minute, measures: &Measures) -> Step {
    let counts = measures.counts();
    let Counts { valid, bad, excluded } = counts;
    let mean_us = measures.latency_sum_us as f64 / measures.timed as f64;
    Step {
        at: at.to_string(),
        valid,
        bad,
        excluded,
        availability: budget::availability(counts),
        latency_mean_ms: (measures.timed > 0).then(|| mean_us / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: u32, to: u32, step: u32, expect: Result<u32, &str>) {
        let result = check_steps(&(Minute(from)..=Minute(to)), step);
        let message = result.map_err(|error| error.to_string());
        assert_eq!(message, expect.map_err(str::to_owned), "{from} {to} {step}");
    }

    #[test]
    fn a_range_is_cut_into_steps_up_to_a_limit() {
        check(5, 5, 1, Ok(1));
        check(0, 59, 5, Ok(12));
        check(0, 60, 5, Ok(13));
        check(0, 9_999, 1, Ok(10_000));
        check(0, u32::MAX, u32::MAX, Ok(2));
        check(5, 5, 0, Err("step: 0 minutes is no step; it takes 1 minute or more"));
        let backwards = "to: 1970-01-01T00:04:00Z is before from, 1970-01-01T00:05:00Z";
        check(5, 4, 1, Err(backwards));
        let many = "step: 10001 steps are more than 10000; \
                    for this range it takes 2 minutes or more";
        check(0, 10_000, 1, Err(many));
        check(0, 10_000, 2, Ok(5_001));
    }
}
