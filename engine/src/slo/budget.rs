//! Error budgets and burn rates from counts: `valid`, `bad` and a target.
//!
//! With T the target and `b = 1 - T`:
//! - `error_ratio = bad / valid`; `burn_rate = error_ratio / b`.
//! - budget in events `B = b * valid`; `consumed = bad / B`, `left = 1 - consumed`: negative when
//!   the promise is broken, never clamped. Over one and the same range `consumed` is the burn
//!   rate of that range.
//! - A rolling period of W that has `left` of its budget and burns at rate r is empty after
//!   `left * W / r`: at rate 1 a full budget lasts exactly the period.
//! - A calendar period has no fixed B before its end. If traffic and failures go on as so far,
//!   both grow alike and `consumed` stays what it is; what the failures so far take of the
//!   *whole* period's budget is `consumed * elapsed / whole`. Both are told apart by name.
//!
//! All is `None` where nothing was valid. Whether a promise is *met* is decided in integers by
//! [`met`](super::decimal::met), never by these.
//!
//! Worked example (the Apache log of the test data, 99.8%): 2 bad of 482 have an error ratio of
//! 0.004149 and burn at 2.0747; the budget is 0.964 events, 207.5% consumed, -107.5% left.
//!
//! Source: Google SRE workbook, chapter 5.

use crate::model::Counts;
use crate::slo::decimal::Decimal;

/// `bad / valid`; `None` where nothing was valid.
pub fn error_ratio(counts: Counts) -> Option<f64> {
    (counts.valid > 0).then(|| counts.bad as f64 / counts.valid as f64)
}

/// `1 - bad / valid`; `None` where nothing was valid. The good events are counted, so that it
/// is 1 exactly where nothing was bad and 0 exactly where all was.
pub fn availability(counts: Counts) -> Option<f64> {
    let good = counts.valid.saturating_sub(counts.bad);
    (counts.valid > 0).then(|| good as f64 / counts.valid as f64)
}

/// The allowed error ratio `1 - target`, rounded once from the exact decimal.
pub fn allowed_ratio(target: Decimal) -> f64 {
    target.complement().unwrap_or(Decimal::ZERO).to_f64()
}

/// `error_ratio / (1 - target)`; `None` where nothing was valid, or the target is 1.
///
/// ```
/// use ninefold_engine::{model::Counts, slo::{budget::burn_rate, objective::TARGET_DEFAULT}};
/// let burn = burn_rate(Counts { valid: 8, bad: 1, excluded: 0 }, TARGET_DEFAULT).unwrap();
/// assert_eq!(burn, 62.5);
/// ```
pub fn burn_rate(counts: Counts, target: Decimal) -> Option<f64> {
    let allowed = budget_events(counts.valid, target);
    (allowed > 0.0).then(|| counts.bad as f64 / allowed)
}

/// How many bad events `valid` events allow: `(1 - target) * valid`.
pub fn budget_events(valid: u64, target: Decimal) -> f64 {
    // The product is exact in integers and below 2^124; only the division rounds.
    let missing = target.complement().unwrap_or(Decimal::ZERO);
    let units = u128::from(missing.units) * u128::from(valid);
    units as f64 / super::decimal::power_of_ten(missing.scale) as f64
}

/// An error budget of a range of minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// `(1 - target) * valid`.
    pub events: f64,
    /// `bad / events`; `None` where nothing was valid.
    pub consumed: Option<f64>,
    /// `1 - consumed`; negative when the promise is broken.
    pub left: Option<f64>,
}

impl Budget {
    /// The budget of the counts of one range.
    pub fn of(counts: Counts, target: Decimal) -> Budget {
        let consumed = burn_rate(counts, target);
        let events = budget_events(counts.valid, target);
        Budget { events, consumed, left: consumed.map(|consumed| 1.0 - consumed) }
    }

    /// Seconds until nothing is left of a rolling period of `period_minutes`, if the burn rate
    /// of the last hour holds: `left * period / burn_rate`. 0 where nothing is left already;
    /// `None` where nothing burns or nothing was valid.
    pub fn exhausted_in_s(
        &self,
        last_hour_burn_rate: Option<f64>,
        period_minutes: u32,
    ) -> Option<f64> {
        let rate = last_hour_burn_rate.filter(|rate| *rate > 0.0)?;
        Some(self.left?.max(0.0) * f64::from(period_minutes) * 60.0 / rate)
    }
}

/// `consumed` at the end of a calendar period if traffic and failures go on as over the
/// `elapsed_minutes` so far. Traffic then comes to `valid * whole / elapsed` and failures grow
/// with it, so it is the burn rate so far; `None` where nothing was valid or no time has passed.
pub fn projected_consumed(counts: Counts, target: Decimal, elapsed_minutes: u32) -> Option<f64> {
    (elapsed_minutes > 0).then(|| burn_rate(counts, target))?
}

/// What the failures so far take of the whole calendar period's budget if traffic goes on as so
/// far and nothing more fails: `consumed * elapsed / whole`. The best end there can be.
pub fn consumed_of_whole(
    counts: Counts,
    target: Decimal,
    elapsed_minutes: u32,
    whole_minutes: u32,
) -> Option<f64> {
    let share = f64::from(elapsed_minutes) / f64::from(whole_minutes.max(1));
    projected_consumed(counts, target, elapsed_minutes).map(|consumed| consumed * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::objective::TARGET_DEFAULT;

    fn counts(valid: u64, bad: u64) -> Counts {
        Counts { valid, bad, excluded: 0 }
    }

    fn near(value: Option<f64>, expect: f64) {
        let value = value.unwrap();
        assert!((value - expect).abs() < 5e-5 * expect.abs().max(1e-9), "{value} {expect}");
    }

    #[test]
    fn the_two_broken_clients_of_the_apache_log() {
        let first = Budget::of(counts(482, 2), TARGET_DEFAULT);
        near(error_ratio(counts(482, 2)), 0.004_149_4);
        near(availability(counts(482, 2)), 0.995_851);
        near(burn_rate(counts(482, 2), TARGET_DEFAULT), 2.0747);
        assert_eq!(first.events, 0.964);
        near(first.consumed, 2.0747);
        near(first.left, -1.0747);
        let second = Budget::of(counts(8, 1), TARGET_DEFAULT);
        assert_eq!((second.events, second.consumed), (0.016, Some(62.5)));
        near(Budget::of(counts(10_000, 3), TARGET_DEFAULT).consumed, 0.15);
    }

    #[test]
    fn no_traffic_has_no_ratio() {
        let none = counts(0, 0);
        assert_eq!((error_ratio(none), availability(none)), (None, None));
        assert_eq!(burn_rate(none, TARGET_DEFAULT), None);
        let budget = Budget::of(none, TARGET_DEFAULT);
        assert_eq!(budget, Budget { events: 0.0, consumed: None, left: None });
        assert_eq!(budget.exhausted_in_s(Some(1.0), 43_200), None);
        assert_eq!(projected_consumed(none, TARGET_DEFAULT, 10), None);
    }

    #[test]
    fn a_full_budget_lasts_its_period_at_rate_one_and_86_minutes_in_an_outage() {
        let full = Budget::of(counts(1_000_000, 0), TARGET_DEFAULT);
        let days_30 = 43_200;
        assert_eq!(full.exhausted_in_s(Some(1.0), days_30), Some(30.0 * 86_400.0));
        // 100% errors burn at 500: 86.4 minutes.
        assert_eq!(full.exhausted_in_s(Some(500.0), days_30), Some(5_184.0));
        let half = Budget::of(counts(1_000_000, 1_000), TARGET_DEFAULT);
        assert_eq!(half.exhausted_in_s(Some(1.0), days_30), Some(15.0 * 86_400.0));
        let broken = Budget::of(counts(1_000, 3), TARGET_DEFAULT);
        assert_eq!(broken.exhausted_in_s(Some(1.0), days_30), Some(0.0));
        assert_eq!(full.exhausted_in_s(Some(0.0), days_30), None);
        assert_eq!(full.exhausted_in_s(None, days_30), None);
    }

    #[test]
    fn projections_tell_going_on_from_nothing_more() {
        // Ten days of a month of 30: 3 bad of 1,000 so far.
        let so_far = counts(1_000, 3);
        near(projected_consumed(so_far, TARGET_DEFAULT, 14_400), 1.5);
        near(consumed_of_whole(so_far, TARGET_DEFAULT, 14_400, 43_200), 0.5);
    }
}
