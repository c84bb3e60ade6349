//! What it takes to wake somebody: evidence that holds at all looks and over all series.
//!
//! A firing alert has evidence of its own (`1 - confidence` at one look at one series). With a
//! million series looked at each second some of them fire by chance. An incident pages only with
//! one of two kinds of evidence that no chance of that kind reaches:
//!
//! - *Series*: the p-value of one of its series, corrected for how often it is looked at, passes
//!   Benjamini–Hochberg at [`Q`] over the series that were active in the service (Benjamini and
//!   Hochberg, 1995: the largest `k` with `p_(k) <= k * Q / m`). This catches one customer.
//! - *Pooled*: how many series show evidence at once is itself binomial: of `m` active series
//!   each does so by chance with probability `tiers * (1 - confidence)` at most. The tail of the
//!   number that do is at most [`Q`] over [`HORIZON_MINUTES`] looks. This catches many small
//!   ones. (The events of the firing series are not added up: they were picked because they
//!   fail, so their sum would prove anything.)
//!
//! The correction for looks is that of a scan: over a horizon T a sliding window of length w
//! first holds `k` bad events at the arrival of one of them, and such arrivals are
//! `T/w * k * P(X = k)` by expectation (Poisson), so
//!
//! `P(some window of T holds k or more) <= P(X >= k) + T/w * k * P(X = k)
//!                                      <= (1 + k * T/w) * P(X >= k)`.
//!
//! So in a world where every promise is just kept a service pages by chance less than once in
//! `1 / Q` horizons of one week, by either kind. Pure.

use crate::slo::alert::evidence::binomial_tail;

/// The rate of false pages: of incidents that page, and of weeks with one where nothing is wrong.
pub const Q: f64 = 0.01;

/// How long the evidence has to hold against chance: one week of looks.
pub const HORIZON_MINUTES: u32 = 7 * 1_440;

/// The p-value of one look at one window, corrected for all looks of the horizon: at most 1.
///
/// ```
/// use ninefold_engine::slo::incident::evidence::scanned;
/// // Four failures of four at 99.8%: 1.6e-11 in a window of 5 minutes.
/// assert!((scanned(1.6e-11, 4, 5) - 1.29e-7).abs() < 1e-9);
/// ```
pub fn scanned(tail: f64, bad: u64, long_minutes: u32) -> f64 {
    let windows = f64::from(HORIZON_MINUTES) / f64::from(long_minutes.max(1));
    (tail * (1.0 + bad as f64 * windows)).min(1.0)
}

/// The largest p-value that passes Benjamini–Hochberg at [`Q`], where `p_values` are some of
/// those of `active` series and all others are 1; `None` where none passes.
pub fn passing(p_values: &[f64], active: u64) -> Option<f64> {
    let mut sorted = p_values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let of = active.max(sorted.len() as u64) as f64;
    let passes = |rank: &usize| sorted[rank - 1] <= *rank as f64 * Q / of;
    (1..=sorted.len()).rev().find(passes).map(|rank| sorted[rank - 1])
}

/// How likely so many of `active` series show evidence at one look, where each does by chance
/// with probability `chance`.
pub fn pooled(evident: u64, active: u64, chance: f64) -> f64 {
    binomial_tail(evident, active.max(evident), chance)
}

/// Whether a [`pooled`] p-value holds at all looks of the horizon.
pub fn pools(p_value: f64) -> bool {
    p_value <= Q / f64::from(HORIZON_MINUTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_procedure_rejects_up_to_the_last_rank_that_passes() {
        // Of 100 series: bounds 1e-4, 2e-4, 3e-4. The second is above its own and passes by the
        // third.
        assert_eq!(passing(&[2.9e-4, 1e-5, 2.5e-4], 100), Some(2.9e-4));
        assert_eq!(passing(&[3.1e-4, 1e-5, 2.5e-4], 100), Some(1e-5));
        assert_eq!(passing(&[1.1e-4], 100), None);
        assert_eq!(passing(&[], 100), None);
        assert_eq!(passing(&[0.01], 0), Some(0.01), "as many as are given at least");
    }

    #[test]
    fn many_at_once_are_evidence_and_a_few_of_many_are_not() {
        let check = |evident, active, expect: bool| {
            assert_eq!(pools(pooled(evident, active, 0.003)), expect, "{evident} of {active}");
        };
        check(10_000, 10_000, true);
        check(4, 10, true);
        check(3, 10, false);
        check(300, 100_000, false);
        check(400, 100_000, true);
        check(1, 1, false);
    }

    #[test]
    fn scans_are_as_rare_as_the_bound_says() {
        // One series of 60 events a minute at 99.8%, looked at each minute for 300 weeks: how
        // many weeks have an hour with at least 17 (mean 7.2) failures. The bound has to hold,
        // and not be out of all proportion.
        let mut state = 7_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let poisson = |mean: f64, uniform: &mut dyn FnMut() -> f64| {
            let (mut k, mut p) = (0_u32, uniform());
            while p > (-mean).exp() {
                (k, p) = (k + 1, p * uniform());
            }
            k
        };
        let (bad, mut weeks) = (19, 0);
        for _ in 0..300 {
            let minutes: Vec<u32> =
                (0..HORIZON_MINUTES).map(|_| poisson(0.12, &mut uniform)).collect();
            weeks += u32::from(minutes.windows(60).any(|hour| hour.iter().sum::<u32>() >= bad));
        }
        let bound = scanned(binomial_tail(u64::from(bad), 3_600, 0.002), u64::from(bad), 60);
        let share = f64::from(weeks) / 300.0;
        assert!(share > 0.0 && share <= bound * 1.5 && share >= bound / 20.0, "{share} {bound}");
    }
}
