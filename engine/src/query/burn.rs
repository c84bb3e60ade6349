//! What burns at a moment: one row per series, objective and tier, for alert rules to consume.
//!
//! A row's state is that of the settled alert: *firing* from the minute that made it so until
//! it resolves or goes stale, *insufficient* while both windows burn without the evidence to
//! fire. A live service, which holds the states of its own ticks, writes its rows by [`row`].

use rayon::prelude::*;

use crate::query::Promise;
use crate::query::alerts::{settled_transitions, window};
use crate::query::body::{Burn, BurnRow};
use crate::query::column::{self, column, sum};
use crate::slo::alert::{Change, Look, State, Tier, step, tiers_of};
use crate::slo::objective::{Objective, SliRef};
use crate::slo::window::window_range;
use crate::state::series::Series;
use crate::time::{DAY_MINUTES, Minute};

/// A series without failures for so long is not looked at: the longest tier's alert, `ticket_3d`,
/// is over 6 hours and 3 days after the last failure, unless `keep_firing_for` prolongs it.
const FAILURES_MINUTES: u32 = 7 * DAY_MINUTES;

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
    let recent = since(promise, at)..=at;
    let of_objective = |objective: &Objective| {
        let column = column(promise.slis, objective, &series.service)?;
        let failing = column::any_bad(series, column, recent.clone());
        failing.then(|| objective_rows(promise, series, objective, column, at))
    };
    let objectives = promise.objectives.resolve(&series.customer, &series.service);
    objectives.into_iter().filter_map(of_objective).flatten().collect()
}

/// The first minute whose failures an alert at `at` may stand on: a series without any since then
/// has no row.
pub fn since(promise: &Promise<'_>, at: Minute) -> Minute {
    at.minus(FAILURES_MINUTES.saturating_add(promise.alerts.keep_firing_for_minutes))
}

/// The rows of one objective of a series, the fastest tier first.
pub(super) fn objective_rows(
    promise: &Promise<'_>,
    series: &Series,
    objective: &Objective,
    column: SliRef,
    at: Minute,
) -> Vec<BurnRow> {
    let tiers = tiers_of(objective, promise.alerts).active;
    let mut firing = vec![false; tiers.len()];
    for (tier, transition) in settled_transitions(series, column, &tiers, at) {
        firing[tier] = transition.change == Change::Firing;
    }
    let row_of = |(tier, firing): (&Tier, bool)| {
        let look = look(series, column, tier, at);
        let insufficient = || step(State::default(), tier, &look).0 == State::Insufficient;
        let state = match firing {
            true => "firing",
            false if insufficient() => "insufficient",
            false => return None,
        };
        Some(row(series, objective, tier, state, &look))
    };
    tiers.iter().zip(firing).filter_map(row_of).collect()
}

/// What a step of `tier` looks at in `series` at the minute `at`.
pub fn look(series: &Series, column: SliRef, tier: &Tier, at: Minute) -> Look {
    let first = series.cells.first_minute().unwrap_or(at);
    Look {
        at,
        long: sum(series, column, window_range(at, tier.spec.long.1)),
        short: sum(series, column, window_range(at, tier.spec.short.1)),
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
