//! The fleet at a glance: the first page and the live stream.
//!
//! Windows and minutes pool the events of all series, by the default availability SLI and held
//! against the default scope's target: a large customer weighs more than a small one, which is
//! why the customers who burn, or whose promise is broken, are counted beside them.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::model::Measures;
use crate::query::body::{BurnRow, Cause, Fleet, Step, TopRow, Window};
use crate::query::column::{column, sum};
use crate::query::sla::windows;
use crate::query::timeseries::{self, step};
use crate::query::top::{Page, top};
use crate::query::{By, Promise};
use crate::slo::decimal::{Decimal, met};
use crate::slo::objective::{AVAILABILITY, Objective, SliRef, TARGET_DEFAULT};
use crate::slo::window::{WINDOW_MINUTES_MAX, window_range};
use crate::state::series::Series;
use crate::time::Minute;

/// How many of the worst customers are shown.
pub const WORST_MAX: usize = 10;

/// How many firing alerts are shown; all are counted by their customers.
pub const ALERTS_MAX: usize = 100;

/// How many minutes the graph of the last minutes has.
const GRAPH_MINUTES: u32 = 60;

/// A customer with valid events in so many minutes is active.
const ACTIVE_MINUTES: u32 = 5;

/// All customers.
#[derive(Clone, Copy)]
pub struct Everybody<'a> {
    /// Their series, those of one customer together.
    pub series: &'a [&'a Series],
    /// Series that together hold the events of everybody, also of customers who are not in memory.
    pub pool: &'a [&'a Series],
}

/// The fleet at the minute `at`, asked at `now_ms`.
///
/// `burning` are the rows of the moment, sorted by customer, service and objective as those of
/// [`crate::query::burn::burn`]; `causes` explain the failures of the last 30 minutes.
pub fn fleet(
    promise: &Promise<'_>,
    Everybody { series, pool }: Everybody<'_>,
    burning: &[BurnRow],
    causes: Vec<Cause>,
    at: Minute,
    now_ms: i64,
) -> Fleet {
    let customers = customers(promise, series, at);
    let (windows, minutes) = pooled(promise, pool, at);
    Fleet {
        partial: None,
        as_of: at.to_string(),
        age_s: age_s(at, now_ms),
        customers: customers.seen,
        customers_active: customers.active,
        customers_burning: firing(burning).map(|row| &row.customer).collect::<BTreeSet<_>>().len()
            as u64,
        customers_broken: customers.broken,
        windows,
        minutes,
        alerts: worst_alerts(burning),
        worst: worst(promise, series, burning, at),
        causes,
    }
}

/// How old the minute `at` is at `now_ms`, in seconds.
pub fn age_s(at: Minute, now_ms: i64) -> i64 {
    (now_ms - at.start_ms()).div_euclid(1_000)
}

fn firing(burning: &[BurnRow]) -> impl Iterator<Item = &BurnRow> {
    burning.iter().filter(|row| row.state == "firing")
}

/// What fires, pages first, then the fastest burning.
fn worst_alerts(burning: &[BurnRow]) -> Vec<BurnRow> {
    let mut alerts: Vec<&BurnRow> = firing(burning).collect();
    alerts.sort_by(|a, b| {
        let urgency = |row: &BurnRow| (row.severity != "page", -row.long.burn_rate.unwrap_or(0.0));
        let ((a_later, a_rate), (b_later, b_rate)) = (urgency(a), urgency(b));
        a_later.cmp(&b_later).then(a_rate.total_cmp(&b_rate))
    });
    alerts.into_iter().take(ALERTS_MAX).cloned().collect()
}

fn worst(
    promise: &Promise<'_>,
    series: &[&Series],
    burning: &[BurnRow],
    at: Minute,
) -> Vec<TopRow> {
    let page = Page { by: By::Burn, at, limit: WORST_MAX, cursor: None, burning: Some(burning) };
    top(promise, series, &page).expect("the limit is in range").customers
}

/// The target of the default scope's availability objective.
fn default_target(promise: &Promise<'_>) -> Decimal {
    let mut default = promise.objectives.default.iter();
    let availability = default.find(|objective| objective.sli == AVAILABILITY);
    availability.map_or(TARGET_DEFAULT, |objective| objective.target)
}

/// The windows and the last minutes of all series together.
fn pooled(
    promise: &Promise<'_>,
    series: &[&Series],
    at: Minute,
) -> (BTreeMap<&'static str, Window>, Vec<Step>) {
    let range = window_range(at, WINDOW_MINUTES_MAX);
    let minutes = timeseries::sums(series, &range, 1, range.end().0 - range.start().0 + 1);
    let last = |count: u32| &minutes[minutes.len().saturating_sub(count as usize)..];
    let window = |minutes_of: &[Measures]| {
        let mut sum = Measures::default();
        minutes_of.iter().for_each(|measures| sum.add(measures));
        SliRef::Availability.counts_in(&sum).expect("measures hold the availability SLI")
    };
    let graph = window_range(at, GRAPH_MINUTES);
    let steps = (graph.start().0..=graph.end().0).zip(last(GRAPH_MINUTES));
    (
        windows(default_target(promise), |span| window(last(span.minutes))),
        steps.map(|(minute, measures)| step(Minute(minute), measures)).collect(),
    )
}

/// How many customers are what.
#[derive(Clone, Copy, Debug, Default)]
struct Customers {
    seen: u64,
    active: u64,
    broken: u64,
}

fn customers(promise: &Promise<'_>, series: &[&Series], at: Minute) -> Customers {
    let groups: Vec<&[&Series]> = series.chunk_by(|a, b| a.customer == b.customer).collect();
    let any = |group: &[&Series], is: &dyn Fn(&Series) -> bool| {
        u64::from(group.iter().any(|series| is(series)))
    };
    let count = |group: &&[&Series]| Customers {
        seen: any(group, &|series| series.is_active_in(window_range(at, WINDOW_MINUTES_MAX))),
        active: any(group, &|series| series.sum(window_range(at, ACTIVE_MINUTES)).valid > 0),
        broken: any(group, &|series| is_broken(promise, series, at)),
    };
    groups.par_iter().map(count).reduce(Customers::default, |a, b| Customers {
        seen: a.seen + b.seen,
        active: a.active + b.active,
        broken: a.broken + b.broken,
    })
}

/// Whether any promise on the series is broken over its period.
fn is_broken(promise: &Promise<'_>, series: &Series, at: Minute) -> bool {
    let broken = |objective: &Objective| {
        let Some(column) = column(promise.slis, objective, &series.service) else { return false };
        let counts = sum(series, column, objective.period.range(at));
        met(objective.target, counts.valid, counts.bad) == Some(false)
    };
    promise.objectives.resolve(&series.customer, &series.service).into_iter().any(broken)
}
