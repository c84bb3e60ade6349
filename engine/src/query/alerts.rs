//! The history of alerts by final counts, and the form in which every transition is answered.
//!
//! Each series is judged by itself, so they are judged in parallel; the answer is put into one
//! total order afterwards and does not depend on how they were shared out.

use std::ops::RangeInclusive;

use rayon::prelude::*;

use crate::model::Counts;
use crate::query::Promise;
use crate::query::body::{AlertTransition, AlertWindow, Alerts};
use crate::query::column::{self, column};
use crate::slo::alert::{Alert, SeriesCells, Tier, Transition, settled, tiers_of};
use crate::slo::budget;
use crate::slo::decimal::Decimal;
use crate::slo::objective::{Objective, SliRef};
use crate::state::series::Series;
use crate::time::{Minute, rfc3339};

/// The settled transitions of `series` within a range of minutes, both ends included, judged by
/// the counts up to `as_of`; oldest first, then by customer, service, objective and tier.
pub fn settled_alerts(
    promise: &Promise<'_>,
    series: &[&Series],
    minutes: &RangeInclusive<Minute>,
    as_of: Minute,
) -> Alerts {
    let last = as_of.min(*minutes.end());
    let of_series = |series: &&Series| series_alerts(promise, series, last);
    let mut alerts: Vec<Alert> = series.par_iter().flat_map_iter(of_series).collect();
    alerts.retain(|alert| alert.transition.look.at >= *minutes.start());
    alerts.par_sort_unstable_by(|a, b| place(a).cmp(&place(b)));
    let alerts = alerts.iter().map(transition).collect();
    Alerts { as_of: Some(as_of.to_string()), alerts, silences: Vec::new() }
}

/// The place of a settled transition: a tier changes at most once in a minute.
fn place(alert: &Alert) -> (i64, &str, &str, &str, u32, &str) {
    let Alert { at_ms, customer, service, objective, tier, .. } = alert;
    // The fastest tier first.
    (*at_ms, customer, service, objective, tier.spec.long.1, tier.spec.name)
}

/// The settled transitions of one series, up to the minute `last`.
fn series_alerts(promise: &Promise<'_>, series: &Series, last: Minute) -> Vec<Alert> {
    let objectives = promise.objectives.resolve(&series.customer, &series.service);
    let of_objective = |objective: &Objective| {
        let column = column(promise.slis, objective, &series.service)?;
        let tiers = tiers_of(objective, promise.alerts).active;
        let alert = |(tier, transition): (usize, Transition)| {
            let (customer, service) = (&series.customer, &series.service);
            Alert::settled(&objective.name, customer, service, &tiers[tier], transition)
        };
        let transitions = settled_transitions(series, column, &tiers, last);
        Some(transitions.into_iter().map(alert).collect::<Vec<Alert>>())
    };
    objectives.into_iter().filter_map(of_objective).flatten().collect()
}

/// The settled transitions of one series by one SLI, with the index of their tier.
pub(super) fn settled_transitions(
    series: &Series,
    column: SliRef,
    tiers: &[Tier],
    last: Minute,
) -> Vec<(usize, Transition)> {
    let Some(first) = series.cells.first_minute() else { return Vec::new() };
    let cells = column::failing_cells(series, column, Minute(0)..=last);
    settled(SeriesCells { cells: &cells, first, last }, tiers)
}

/// A transition of the core, settled or live, as it is answered, streamed and stored.
pub fn transition(alert: &Alert) -> AlertTransition {
    let Alert { tier, transition, .. } = alert;
    AlertTransition {
        id: alert.id.clone(),
        fingerprint: alert.fingerprint.clone(),
        customer: alert.customer.clone(),
        service: alert.service.clone(),
        objective: alert.objective.clone(),
        tier: tier.spec.name.to_owned(),
        severity: tier.spec.severity.name().to_owned(),
        state: transition.change.name().to_owned(),
        basis: alert.basis.name().to_owned(),
        at: rfc3339(alert.at_ms),
        long: window(tier.spec.long.0, tier.target, transition.look.long),
        short: window(tier.spec.short.0, tier.target, transition.look.short),
        factor: tier.factor.to_f64(),
        pool: None,
        incident: None,
        verdict: None,
    }
}

/// One window of an alert.
pub(super) fn window(name: &str, target: Decimal, counts: Counts) -> AlertWindow {
    AlertWindow {
        window: name.to_owned(),
        valid: counts.valid,
        bad: counts.bad,
        burn_rate: budget::burn_rate(counts, target),
    }
}
