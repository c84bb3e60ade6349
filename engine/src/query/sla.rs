//! One customer: windows, budget, burn and latency of every objective of every service.
//!
//! All sums end with the minute that was asked for, whole: an objective's own figures run over
//! its period (for a calendar period, from its first minute), the windows over their lengths.

use std::collections::BTreeMap;

use crate::model::{Counts, Measures};
use crate::query::body::{
    self, BurnRow, LatencyStatus, ObjectiveStatus, ServiceStatus, Sla, TierStatus,
};
use crate::query::burn::{objective_rows, since};
use crate::query::column::{Sums, column};
use crate::query::{AskError, Promise};
use crate::slo::budget::{self, Budget};
use crate::slo::decimal::{Decimal, met};
use crate::slo::histogram::Histogram;
use crate::slo::objective::{Objective, SliRef};
use crate::slo::window::{WINDOWS, Window, window_range};
use crate::state::series::Series;
use crate::time::Minute;

/// Over which window quantiles are answered, and at whose burn rate exhaustion is told.
const LAST_HOUR: Window = Window { name: "1h", minutes: 60 };

/// The answer on `customer` at the minute `at`. `series` are the customer's, in any order; with
/// `service`, only that one is in the answer.
///
/// In which pool they are, whoever knows the pools has to fill in.
/// Histograms are merged over the last hour, so the series have to hold those of its minutes.
///
/// # Errors
/// [`AskError::Unknown`] where the customer has no series, or none of that service.
pub fn sla(
    promise: &Promise<'_>,
    customer: &str,
    series: &[&Series],
    service: Option<&str>,
    at: Minute,
) -> Result<Sla, AskError> {
    let unknown = |what, name: &str| Err(AskError::Unknown { what, name: name.to_owned() });
    let mut chosen: Vec<&Series> = series.to_vec();
    chosen.retain(|series| *series.customer == *customer);
    if chosen.is_empty() {
        return unknown("customer", customer);
    }
    if let Some(service) = service {
        chosen.retain(|series| *series.service == *service);
        if chosen.is_empty() {
            return unknown("service", service);
        }
    }
    chosen.sort_unstable_by(|a, b| a.service.cmp(&b.service));
    let status = |series: &&Series| service_status(promise, series, at);
    Ok(Sla {
        customer: customer.to_owned(),
        pool: String::new(),
        as_of: at.to_string(),
        services: chosen.iter().map(status).collect(),
    })
}

fn service_status(promise: &Promise<'_>, series: &Series, at: Minute) -> ServiceStatus {
    let objectives = promise.objectives.resolve(&series.customer, &series.service);
    let mut starts = WINDOWS.map(|window| start_of(window, at)).to_vec();
    starts.push(since(promise, at));
    starts.extend(objectives.iter().map(|objective| *objective.period.range(at).start()));
    // Most objectives are on the two SLIs that share their cells: one walk serves all of them.
    let sums = Sums::of(series, SliRef::Availability, starts.clone(), at);
    let status = |objective: &Objective| {
        let column = column(promise.slis, objective, &series.service)?;
        let status = |sums: &Sums| objective_status(promise, series, (objective, column), at, sums);
        Some(match column {
            SliRef::Availability | SliRef::Latency => status(&sums),
            SliRef::Further(_) => status(&Sums::of(series, column, starts.clone(), at)),
        })
    };
    ServiceStatus {
        service: series.service.to_string(),
        objectives: objectives.into_iter().filter_map(status).collect(),
        latency: latency_status(series, at, sums.from(start_of(LAST_HOUR, at))),
    }
}

/// `sums` are those of the objective's SLI, from the starts of all windows, of its period, and of
/// what may burn.
fn objective_status(
    promise: &Promise<'_>,
    series: &Series,
    (objective, column): (&Objective, SliRef),
    at: Minute,
    sums: &Sums,
) -> ObjectiveStatus {
    let target = objective.target;
    let counts_from = |start| sums.counts_from(column, start);
    let counts = counts_from(*objective.period.range(at).start());
    let in_window = |window: Window| counts_from(start_of(window, at));
    let burning = objective_rows(promise, series, (objective, column), at, counts_from);
    let tier = |row: BurnRow| TierStatus {
        tier: row.tier,
        severity: row.severity,
        state: row.state,
        no_data: row.no_data,
    };
    let alerts: Vec<TierStatus> = burning.into_iter().map(tier).collect();
    let is_any = |state: &str| alerts.iter().any(|one| one.state == state);
    let state = match () {
        () if is_any("firing") => "firing",
        () if is_any("insufficient") => "insufficient",
        () if counts.valid == 0 => "no_data",
        () => "ok",
    };
    ObjectiveStatus {
        objective: objective.name.clone(),
        sli: objective.sli.clone(),
        target: target.to_f64(),
        period: objective.period.to_string(),
        valid: counts.valid,
        bad: counts.bad,
        excluded: counts.excluded,
        availability: budget::availability(counts),
        met: met(target, counts.valid, counts.bad),
        budget: budget_status(objective, counts, in_window(LAST_HOUR), at),
        windows: windows(target, in_window),
        state,
        alerts,
    }
}

/// The first minute of a window that ends with `at`.
fn start_of(window: Window, at: Minute) -> Minute {
    *window_range(at, window.minutes).start()
}

/// The budget of the period with `counts`: a rolling one with its exhaustion at the rate of the
/// `last_hour`, a calendar one with its projection.
fn budget_status(
    objective: &Objective,
    counts: Counts,
    last_hour: Counts,
    at: Minute,
) -> body::Budget {
    let Objective { target, period, .. } = objective;
    let budget = Budget::of(counts, *target);
    let (exhausted_in_s, projected_consumed) = if period.is_calendar() {
        let elapsed = at.0 - period.range(at).start().0 + 1;
        (None, budget::projected_consumed(counts, *target, elapsed))
    } else {
        let burn_rate = budget::burn_rate(last_hour, *target);
        (budget.exhausted_in_s(burn_rate, period.minutes()), None)
    };
    body::Budget {
        events: budget.events,
        consumed: budget.consumed,
        left: budget.left,
        exhausted_in_s,
        projected_consumed,
    }
}

/// Every window of the design, by name.
pub(super) fn windows(
    target: Decimal,
    counts_of: impl Fn(Window) -> Counts,
) -> BTreeMap<&'static str, body::Window> {
    let named = |span: Window| (span.name, window(target, counts_of(span)));
    WINDOWS.into_iter().map(named).collect()
}

fn window(target: Decimal, counts: Counts) -> body::Window {
    body::Window {
        valid: counts.valid,
        bad: counts.bad,
        availability: budget::availability(counts),
        burn_rate: budget::burn_rate(counts, target),
    }
}

/// Quantiles over the last hour, whose measures are given.
fn latency_status(series: &Series, at: Minute, measures: &Measures) -> LatencyStatus {
    let start = start_of(LAST_HOUR, at);
    let first = series.histograms.partition_point(|(minute, _)| *minute < start);
    let next = series.histograms.partition_point(|(minute, _)| *minute <= at);
    let within = &series.histograms[first..next.max(first)];
    let merged = Histogram::sum(within.iter().map(|(_, histogram)| histogram));
    // A quantile is the highest value of its slot, which may lie above the exact longest one.
    let quantile_us = |quantile| Some(merged.quantile_us(quantile)?.min(measures.latency_max_us));
    let quantile_ms = |quantile| quantile_us(quantile).map(|us| us as f64 / 1_000.0);
    LatencyStatus {
        window: LAST_HOUR.name.to_owned(),
        count: measures.timed,
        p50_ms: quantile_ms(0.5),
        p90_ms: quantile_ms(0.9),
        p95_ms: quantile_ms(0.95),
        p99_ms: quantile_ms(0.99),
        max_ms: (measures.timed > 0).then(|| measures.latency_max_us as f64 / 1_000.0),
    }
}
