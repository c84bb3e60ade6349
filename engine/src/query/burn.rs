//! What burns at a moment: one row per series, objective and tier, for alert rules to consume.
//!
//! A row's state is that of the settled alert: *firing* from the minute that made it so until
//! it resolves or goes stale, *insufficient* while both windows burn without the evidence to
//! fire. A live service, which holds the states of its own ticks, writes its rows by [`row`].

use rayon::prelude::*;

use crate::model::Counts;
use crate::query::Promise;
use crate::query::alerts::{settled_transitions, window};
use crate::query::body::{Burn, BurnRow};
use crate::query::column::{column, failing_cells, outline, sum};
use crate::slo::alert::{Change, Look, SPECS, SeriesCells, State, Tier, may_fire, step, tiers_of};
use crate::slo::objective::{Objective, SliRef};
use crate::slo::window::window_range;
use crate::state::series::Series;
use crate::time::Minute;

/// The rows of `series` at the minute `at`, sorted by customer, service, objective and tier.
pub fn burn(promise: &Promise<'_>, series: &[&Series], at: Minute) -> Burn {
    let of_series = |series: &&Series| series_rows(promise, series, at);
    let mut burning: Vec<BurnRow> = series.par_iter().flat_map_iter(of_series).collect();
    burning.par_sort_unstable_by(|a, b| place(a).cmp(&place(b)));
    Burn { as_of: at.to_string(), burning }
}

fn place(row: &BurnRow) -> (&str, &str, &str, &str) {
    (&row.customer, &row.service, &row.objective, &row.tier)
}

fn series_rows(promise: &Promise<'_>, series: &Series, at: Minute) -> Vec<BurnRow> {
    let of_objective = |objective: &Objective| {
        let column = column(promise.slis, objective, &series.service)?;
        let counts_from = |from: Minute| sum(series, column, from..=at);
        Some(objective_rows(promise, series, (objective, column), at, counts_from))
    };
    let objectives = promise.objectives.resolve(&series.customer, &series.service);
    objectives.into_iter().filter_map(of_objective).flatten().collect()
}

/// The first minute whose failures an alert at `at` may stand on: a series without any since then
/// has no row.
pub fn since(promise: &Promise<'_>, at: Minute) -> Minute {
    let keep = promise.alerts.keep_firing_for_minutes;
    let longest = SPECS.iter().map(|spec| spec.failed_within_minutes(keep)).max();
    *window_range(at, longest.expect("there are tiers")).start()
}

/// The rows of one objective of a series, the fastest tier first. `counts_from` gives what [`sum`]
/// gives from a minute to `at`; it is asked about [`since`], and the windows of tiers.
pub(super) fn objective_rows(
    promise: &Promise<'_>,
    series: &Series,
    (objective, column): (&Objective, SliRef),
    at: Minute,
    counts_from: impl Fn(Minute) -> Counts,
) -> Vec<BurnRow> {
    if counts_from(since(promise, at)).bad == 0 {
        return Vec::new();
    }
    let tiers = tiers_of(objective, promise.alerts).active;
    let firing = firing(series, column, &tiers, at);
    let row_of = |(tier, firing): (&Tier, bool)| {
        let look = || look_by(series, tier, at, &counts_from);
        if firing {
            return Some(row(series, objective, tier, "firing", &look()));
        }
        if !may_fire(tier, counts_from(*window_range(at, tier.spec.short.1).start())) {
            return None;
        }
        let look = look();
        let insufficient = step(State::default(), tier, &look).0 == State::Insufficient;
        insufficient.then(|| row(series, objective, tier, "insufficient", &look))
    };
    tiers.iter().zip(firing).filter_map(row_of).collect()
}

/// The first minute whose failures an alert of a tier at `at` may stand on.
fn failed_since(tier: &Tier, at: Minute) -> Minute {
    let within = tier.spec.failed_within_minutes(tier.options.keep_firing_for_minutes);
    *window_range(at, within).start()
}

/// Whether each tier fires at the minute `at`. What decides that is the whole history, which is
/// costly to step through, so that it is done for those tiers alone of which the history in outline
/// and the last days leave it open.
fn firing(series: &Series, column: SliRef, tiers: &[Tier], at: Minute) -> Vec<bool> {
    let starts: Vec<Minute> = tiers.iter().map(|tier| failed_since(tier, at)).collect();
    let mut firing = vec![false; tiers.len()];
    let outline = outline(series, column, at);
    let may_fire = |index: &usize| {
        outline.may_fail_since(starts[*index]) && outline.may_ever_fire(&tiers[*index])
    };
    let mut open: Vec<usize> = (0..tiers.len()).filter(may_fire).collect();
    let Some(from) = open.iter().map(|index| starts[*index]).min() else { return firing };
    let lately = failing_cells(series, column, from..=at);
    let lately = SeriesCells { cells: &lately, first: from, last: at };
    open.retain(|index| lately.may_be_firing(&tiers[*index]));
    if open.is_empty() {
        return firing;
    }
    let left: Vec<Tier> = open.iter().map(|index| tiers[*index].clone()).collect();
    for (tier, transition) in settled_transitions(series, column, &left, at) {
        firing[open[tier]] = transition.change == Change::Firing;
    }
    firing
}

/// What a step of `tier` looks at in `series` at the minute `at`.
pub fn look(series: &Series, column: SliRef, tier: &Tier, at: Minute) -> Look {
    look_by(series, tier, at, &|from| sum(series, column, from..=at))
}

fn look_by(
    series: &Series,
    tier: &Tier,
    at: Minute,
    counts_from: &impl Fn(Minute) -> Counts,
) -> Look {
    let first = series.cells.first_minute().unwrap_or(at);
    let window = |minutes| counts_from(*window_range(at, minutes).start());
    Look {
        at,
        long: window(tier.spec.long.1),
        short: window(tier.spec.short.1),
        covered_minutes: (at.0 + 1).saturating_sub(first.0),
    }
}

/// The row of one tier in the state `firing` or `insufficient`.
pub fn row(
    series: &Series,
    objective: &Objective,
    tier: &Tier,
    state: &str,
    look: &Look,
) -> BurnRow {
    BurnRow {
        customer: series.customer.to_string(),
        service: series.service.to_string(),
        objective: objective.name.clone(),
        tier: tier.spec.name.to_owned(),
        severity: tier.spec.severity.name().to_owned(),
        state: state.to_owned(),
        no_data: state == "firing" && look.short.valid < tier.options.min_valid,
        factor: tier.factor.to_f64(),
        long: window(tier.spec.long.0, tier.target, look.long),
        short: window(tier.spec.short.0, tier.target, look.short),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Measures;
    use crate::slo::alert::AlertOptions;
    use crate::slo::objective::Objectives;

    /// The definition: the state after the last of all settled transitions.
    fn firing_by_history(series: &Series, tiers: &[Tier], at: Minute) -> Vec<bool> {
        let mut firing = vec![false; tiers.len()];
        for (tier, transition) in settled_transitions(series, SliRef::Availability, tiers, at) {
            firing[tier] = transition.change == Change::Firing;
        }
        firing
    }

    /// Stretches of minutes: how long, how far apart its events are, how many at once, and one in
    /// how many fails.
    fn stretches() -> impl Strategy<Value = Vec<(u32, u32, u64, u64)>> {
        let length = prop_oneof![1_u32..20, 20_u32..400, 400_u32..5_000];
        let apart = prop_oneof![Just(1_u32), 1_u32..60];
        let valid = prop_oneof![1_u64..4, 5_u64..200];
        let rarely = prop_oneof![2_u64..10, 20_u64..600];
        let one_in = prop_oneof![2 => Just(u64::MAX), 1 => Just(1_u64), 3 => rarely];
        prop::collection::vec((length, apart, valid, one_in), 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_left_out_fires_nothing(
            stretches in stretches(),
            min_bad in 1_u64..5,
            keep_firing_for_minutes in prop_oneof![3 => Just(0_u32), 1 => 1_u32..3_000],
            pack in any::<bool>(),
        ) {
            let options =
                AlertOptions { min_bad, keep_firing_for_minutes, ..AlertOptions::default() };
            let tiers = tiers_of(&Objectives::default().default[0], &options).active;
            let mut series = Series::new(Arc::from("c"), Arc::from("s"), 0);
            let (mut at, mut seen) = (1_000_000_u32, 0_u64);
            for (length, apart, valid, one_in) in stretches {
                for minute in (at..at + length).step_by(apart as usize) {
                    let bad = (seen + valid) / one_in - seen / one_in;
                    seen += valid;
                    series.add(Minute(minute), &Measures { valid, bad, ..Measures::default() });
                }
                at += length;
            }
            if pack {
                series.pack_before(Minute(at - 50));
            }
            for at in (1_000_000..at + 14_000).step_by(499).map(Minute) {
                let expect = firing_by_history(&series, &tiers, at);
                prop_assert_eq!(firing(&series, SliRef::Availability, &tiers, at), expect, "{}", at);
            }
        }
    }
}
