//! The monthly statement: what was promised to each customer, what was kept, what is owed.
//!
//! Every figure is a function of the minute counts of one calendar month in one time zone, so
//! anyone can recount it from the rows of the table. A month that is still running is judged
//! up to `as_of`, the newest counted minute: later minutes are in no figure, neither as up nor
//! as idle.
//!
//! | figure | definition |
//! |---|---|
//! | `valid`, `bad`, `excluded` | the default availability SLI, all services of the customer pooled |
//! | `target` | of the customer's calendar availability objective, else the default target |
//! | `met` | `bad <= (1 - target) * valid`, in integers; `null` where nothing was valid |
//! | `uptime.request` | `1 - bad / valid` |
//! | `uptime.time_slice` | share of the 1-minute slices that were up: at least 95% good, or idle |
//! | `uptime.interval_mean` | mean of `1 - bad / valid` over the 5-minute intervals from the month's first minute, an idle one = 1; the interval that `as_of` cuts counts as it stands |
//! | `down_minutes` | minutes with a valid event and no good one |
//! | `idle_minutes` | minutes without a valid event |
//! | `gap_minutes` | minutes without a valid event of which events may be missing, since an accepted gap of a source may lie in them; they are not idle, and in no figure of uptime |
//! | `credit_percent` | of the lowest rung of the ladder that `uptime.request` is below, compared in integers; 0 where it is below none or nothing was valid; `null` without a ladder |
//! | `episodes` | runs of minutes whose error ratio exceeds `1 - target`; runs with at most 5 other minutes between them are one |
//!
//! `services` repeats the counts for every objective of every service, whatever its period.

#[cfg(feature = "table")]
pub mod everybody;
mod render;
pub mod review;
pub mod text;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use rayon::prelude::*;

pub use render::{
    csv, csv_heading, csv_records, json_customers, json_end, json_start, markdown, table,
};

use crate::model::Counts;
use crate::query::body::{
    DataGap, Episode, Report, ReportCustomer, ReportObjective, ReportService, Uptime,
};
use crate::query::column::{column, sum};
use crate::query::{AskError, Promise};
use crate::slo::budget::{self, Budget};
use crate::slo::decimal::{Decimal, met};
use crate::slo::objective::{Objective, SliRef};
use crate::slo::period::{PeriodError, month_range};
use crate::state::series::{Cell, Series, SliCells};
use crate::time::Minute;

/// Minutes of one interval of `interval_mean`, as the large clouds' contracts have it.
pub const INTERVAL_MINUTES: u32 = 5;

/// As many minutes within the objective may lie inside one episode.
pub const EPISODE_GAP_MINUTES_MAX: u32 = 5;

/// One rung of the ladder of service credits: uptime below `below` owes `percent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CreditStep {
    /// A ratio of good to valid events, such as 0.99. Uptime equal to it is not below it.
    pub below: Decimal,
    /// How much of the fee is owed, 0 to 100.
    pub percent: f64,
}

/// Which statement is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The calendar month, such as `2026-10`.
    pub month: &'a str,
    /// Its IANA zone.
    pub zone: &'a str,
    /// Only this customer, who is then stated even if idle.
    pub customer: Option<&'a str>,
    /// The newest counted minute; `None` where nothing was ever counted.
    pub as_of: Option<Minute>,
    /// Version of the table that the series were read at.
    pub revision: u64,
    /// The accepted gaps whose events may lie in the month.
    pub gaps: &'a [DataGap],
}

/// States a month: one row per customer with events in it (excluded ones too), sorted by name.
///
/// `series` may be in any order; cells outside the month are ignored.
///
/// # Errors
/// [`AskError::Argument`] for an unknown month or zone, [`AskError::Unknown`] where the asked customer
/// has no series at all.
pub fn report(
    promise: &Promise<'_>,
    series: &[&Series],
    ask: &Ask<'_>,
) -> Result<Report, AskError> {
    let frame = Frame::of(ask)?;
    let mut chosen: Vec<&Series> = series.to_vec();
    chosen.retain(|series| ask.customer.is_none_or(|customer| *series.customer == *customer));
    if let (Some(customer), true) = (ask.customer, chosen.is_empty()) {
        return Err(AskError::Unknown { what: "customer", name: customer.to_owned() });
    }
    chosen.par_sort_unstable_by(|a, b| (&a.customer, &a.service).cmp(&(&b.customer, &b.service)));
    let groups: Vec<&[&Series]> = chosen.chunk_by(|a, b| a.customer == b.customer).collect();
    let statement = |group: &&[&Series]| {
        let minutes = frame.minutes.as_ref();
        let active = minutes.is_some_and(|minutes| has_events(group, minutes));
        (active || ask.customer.is_some()).then(|| {
            let cells = minutes.map(|minutes| pool(group, minutes)).unwrap_or_default();
            let services = group.iter().map(|series| service(promise, series, minutes)).collect();
            state(promise, &group[0].customer, &cells, services, &frame)
        })
    };
    let customers = groups.par_iter().filter_map(statement).collect();
    Ok(Report { customers, ..frame.report })
}

/// What is the same for all customers of a report.
struct Frame {
    /// The minutes of the month that are counted; `None` where none is.
    minutes: Option<RangeInclusive<Minute>>,
    /// Those of them that gaps may lie in, as ranges that are sorted and do not overlap.
    gaps: Vec<RangeInclusive<Minute>>,
    /// The report, without its customers.
    report: Report,
}

impl Frame {
    fn of(ask: &Ask<'_>) -> Result<Frame, AskError> {
        let month = month_range(ask.month, ask.zone).map_err(refused)?;
        let counted = ask.as_of.filter(|as_of| as_of >= month.start());
        let minutes = counted.map(|as_of| *month.start()..=as_of.min(*month.end()));
        let gaps = minutes.as_ref().map(|minutes| joined(ask.gaps, minutes)).unwrap_or_default();
        let report = Report {
            month: ask.month.to_owned(),
            tz: ask.zone.to_owned(),
            revision: ask.revision,
            as_of: minutes.as_ref().map(|minutes| minutes.end().to_string()),
            gaps: ask.gaps.to_vec(),
            exclusions: Vec::new(),
            customers: Vec::new(),
        };
        Ok(Frame { minutes, gaps, report })
    }
}

/// A report without customers: what it says of all of them.
///
/// # Errors
/// As [`report`].
pub fn of_nobody(ask: &Ask<'_>) -> Result<Report, AskError> {
    Ok(Frame::of(ask)?.report)
}

/// The refusal of a month, a quarter or a zone, under the name of the argument: `month`, `quarter`
/// or `tz`.
pub fn refused(error: PeriodError) -> AskError {
    let field = match error {
        PeriodError::Zone(_) => "tz",
        PeriodError::Quarter(_) => "quarter",
        PeriodError::Month(_) | PeriodError::Period(_) => "month",
    };
    AskError::Argument { field, problem: error.to_string() }
}

fn has_events(group: &[&Series], minutes: &RangeInclusive<Minute>) -> bool {
    group.iter().any(|series| {
        let further = |cells: &SliCells| cells.any_within(minutes.clone());
        series.is_active_in(minutes.clone()) || series.further.iter().any(further)
    })
}

/// The minutes of `within` that gaps may lie in, as ranges that are sorted and do not overlap.
fn joined(gaps: &[DataGap], within: &RangeInclusive<Minute>) -> Vec<RangeInclusive<Minute>> {
    let clipped = gaps.iter().map(|gap| {
        let (first, last) = (*gap.minutes.start(), *gap.minutes.end());
        (first.max(*within.start()), last.min(*within.end()))
    });
    let mut ranges: Vec<(Minute, Minute)> = clipped.filter(|(first, last)| first <= last).collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joins = next.0 <= kept.1;
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
    ranges.into_iter().map(|(first, last)| first..=last).collect()
}

/// How many minutes of `gaps` have no valid event.
fn idle_in(cells: &[Cell], gaps: &[RangeInclusive<Minute>]) -> u64 {
    let idle = |gap: &RangeInclusive<Minute>| {
        let start = cells.partition_point(|cell| cell.minute < *gap.start());
        let within = cells[start..].iter().take_while(|cell| cell.minute <= *gap.end());
        let active = within.filter(|cell| cell.measures.valid > 0).count() as u64;
        u64::from(gap.end().0 - gap.start().0) + 1 - active
    };
    gaps.iter().map(idle).sum()
}

/// One customer's month from the cells of all its services by minute. In the minutes of gaps
/// that have no event nothing is known: they are neither up nor idle.
fn state(
    promise: &Promise<'_>,
    customer: &str,
    cells: &[Cell],
    services: Vec<ReportService>,
    frame: &Frame,
) -> ReportCustomer {
    let Frame { minutes, gaps, .. } = frame;
    let target = promise.objectives.calendar_target(customer);
    let mut pooled = Counts::default();
    for cell in cells {
        pooled.add(cell.measures.counts());
    }
    let length =
        minutes.as_ref().map_or(0, |minutes| u64::from(minutes.end().0 - minutes.start().0) + 1);
    let slices = slices(cells);
    let first = minutes.as_ref().map_or(Minute(0), |minutes| *minutes.start());
    let gap_minutes = idle_in(cells, gaps);
    let known = length - gap_minutes;
    ReportCustomer {
        customer: customer.to_owned(),
        valid: pooled.valid,
        bad: pooled.bad,
        excluded: pooled.excluded,
        availability: budget::availability(pooled),
        target: target.to_f64(),
        met: met(target, pooled.valid, pooled.bad),
        budget_consumed: Budget::of(pooled, target).consumed,
        // Idle minutes are up beside others; a month without anything valid is no data.
        uptime: Uptime {
            request: budget::availability(pooled),
            time_slice: (slices.active > 0).then(|| (known - slices.not_up) as f64 / known as f64),
            interval_mean: interval_mean(cells, first, length, gaps).filter(|_| slices.active > 0),
        },
        down_minutes: slices.down,
        idle_minutes: known - slices.active,
        gap_minutes,
        credit_percent: credit_percent(promise.credits, pooled),
        episodes: episodes(cells, target),
        services,
    }
}

/// The cells of all services by minute.
fn pool(group: &[&Series], minutes: &RangeInclusive<Minute>) -> Vec<Cell> {
    let cells = group.iter().flat_map(|series| series.cells_in(minutes.clone()));
    let mut cells: Vec<Cell> = cells.collect();
    by_minute(&mut cells);
    cells
}

/// Sorts cells by minute and sums those of one minute.
fn by_minute(cells: &mut Vec<Cell>) {
    cells.sort_by_key(|cell| cell.minute);
    cells.dedup_by(|cell, kept| {
        let same = cell.minute == kept.minute;
        if same {
            kept.measures.add(&cell.measures);
        }
        same
    });
}

/// How many minutes were what.
#[derive(Default)]
struct Slices {
    /// With a valid event.
    active: u64,
    /// Active, and less than 95% good.
    not_up: u64,
    /// Active, and nothing good.
    down: u64,
}

fn slices(cells: &[Cell]) -> Slices {
    let mut slices = Slices::default();
    for Counts { valid, bad, .. } in cells.iter().map(|cell| cell.measures.counts()) {
        slices.active += u64::from(valid > 0);
        // good / valid < 0.95, that is bad / valid > 1 / 20.
        slices.not_up += u64::from(u128::from(bad) * 20 > u128::from(valid));
        slices.down += u64::from(valid > 0 && bad == valid);
    }
    slices
}

/// Mean of `1 - bad / valid` over the intervals that `length` minutes from `first` touch, without
/// those that lie in `gaps` as a whole and have no valid event.
fn interval_mean(
    cells: &[Cell],
    first: Minute,
    length: u64,
    gaps: &[RangeInclusive<Minute>],
) -> Option<f64> {
    let interval = |cell: &Cell| (cell.minute.0 - first.0) / INTERVAL_MINUTES;
    let mut unknown: BTreeSet<u32> =
        gaps.iter().flat_map(|gap| whole_intervals(gap, first)).collect();
    let mut lost = 0.0;
    for cells in cells.chunk_by(|a, b| interval(a) == interval(b)) {
        let valid: u64 = cells.iter().map(|cell| cell.measures.valid).sum();
        let bad: u64 = cells.iter().map(|cell| cell.measures.bad).sum();
        if valid > 0 {
            lost += bad as f64 / valid as f64;
            unknown.remove(&interval(&cells[0]));
        }
    }
    let intervals = length.div_ceil(u64::from(INTERVAL_MINUTES)) - unknown.len() as u64;
    (intervals > 0).then(|| 1.0 - lost / intervals as f64)
}

/// The numbers of the intervals from `first` on all of whose minutes lie in `gap`.
fn whole_intervals(gap: &RangeInclusive<Minute>, first: Minute) -> std::ops::Range<u32> {
    let (start, end) = (gap.start().0 - first.0, gap.end().0 + 1 - first.0);
    start.div_ceil(INTERVAL_MINUTES)..end / INTERVAL_MINUTES
}

/// What the ladder owes; a rung applies where good / valid is less than its `below`, which is
/// the same comparison in integers as missing a target of that size.
fn credit_percent(ladder: &[CreditStep], counts: Counts) -> Option<f64> {
    let below = |step: &&CreditStep| met(step.below, counts.valid, counts.bad) == Some(false);
    let rung = ladder.iter().filter(below).min_by_key(|step| step.below);
    (!ladder.is_empty()).then(|| rung.map_or(0.0, |step| step.percent))
}

/// Runs of minutes over the error ratio of `target`, oldest first.
fn episodes(cells: &[Cell], target: Decimal) -> Vec<Episode> {
    let over = |cell: &&Cell| {
        let Counts { valid, bad, .. } = cell.measures.counts();
        met(target, valid, bad) == Some(false)
    };
    let mut runs: Vec<(Minute, Minute)> = Vec::new();
    for Cell { minute, .. } in cells.iter().filter(over) {
        match runs.last_mut() {
            Some((_, last)) if minute.0 - last.0 <= EPISODE_GAP_MINUTES_MAX + 1 => *last = *minute,
            _ => runs.push((*minute, *minute)),
        }
    }
    let bad = |first: Minute, last: Minute| {
        let start = cells.partition_point(|cell| cell.minute < first);
        let run = cells[start..].iter().take_while(|cell| cell.minute <= last);
        run.map(|cell| cell.measures.bad).sum()
    };
    let episode = |(first, last): (Minute, Minute)| Episode {
        from: first.to_string(),
        to: last.to_string(),
        bad: bad(first, last),
    };
    runs.into_iter().map(episode).collect()
}

fn service(
    promise: &Promise<'_>,
    series: &Series,
    minutes: Option<&RangeInclusive<Minute>>,
) -> ReportService {
    report_service(promise, &series.customer, &series.service, |column| {
        minutes.map(|minutes| sum(series, column, minutes.clone())).unwrap_or_default()
    })
}

/// The objectives of a service, each by the counts of its SLI.
fn report_service(
    promise: &Promise<'_>,
    customer: &str,
    service: &str,
    counts: impl Fn(SliRef) -> Counts,
) -> ReportService {
    let objective = |objective: &Objective| {
        let column = column(promise.slis, objective, service)?;
        Some(report_objective(objective, counts(column)))
    };
    let objectives = promise.objectives.resolve(customer, service);
    ReportService {
        service: service.to_owned(),
        objectives: objectives.into_iter().filter_map(objective).collect(),
    }
}

fn report_objective(objective: &Objective, counts: Counts) -> ReportObjective {
    ReportObjective {
        objective: objective.name.clone(),
        sli: objective.sli.clone(),
        target: objective.target.to_f64(),
        valid: counts.valid,
        bad: counts.bad,
        excluded: counts.excluded,
        availability: budget::availability(counts),
        met: met(objective.target, counts.valid, counts.bad),
        budget_consumed: Budget::of(counts, objective.target).consumed,
    }
}
