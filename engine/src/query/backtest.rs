//! Back-test: what the alerts of a configuration would have done over the history there is.
//!
//! The alerts are the settled ones of [`alerts`](super::alerts), by the same code, under the
//! objectives and tiers that are tried. Each is held against what became of its objective:
//! - the *breach*: the minute from which the budget of the period was exhausted, `bad > (1 -
//!   target) * valid`. A calendar period is broken where that holds at its end, from the last
//!   minute on that it began to hold; a rolling one at every minute whose period ends there;
//! - *lead*: from the alert to the breach; negative where the budget was exhausted before;
//! - *kept*: the calendar period of the alert, or every rolling one that holds it, was kept, so
//!   it was a false alarm; *open* while that is not over and was kept so far.
//!
//! An alert that a faster tier of its objective holds back is told when that one ends, or never:
//! the never-told ones are counted by themselves, as they would have woken nobody.

use std::ops::RangeInclusive;

use rayon::prelude::*;
use serde::Serialize;

use crate::model::Counts;
use crate::query::Promise;
use crate::query::alerts::{settled_transitions, transition};
use crate::query::body::AlertTransition;
use crate::query::column::{column, failing_cells};
use crate::slo::alert::{Alert, Change, Severity, Tier, Transition, settled_at_ms, tiers_of};
use crate::slo::decimal::{Decimal, met};
use crate::slo::objective::Objective;
use crate::slo::period::Period;
use crate::state::series::Series;
use crate::time::{Minute, rfc3339};

/// The body of `ninefold alerts --backtest`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backtest {
    /// Newest counted minute; `None` for an empty table.
    pub as_of: Option<String>,
    /// Alerts of severity `page`.
    pub pages: Tally,
    /// Alerts of severity `ticket`.
    pub tickets: Tally,
    /// Breaches of which no alert had told before.
    pub breaches_unalerted: u64,
    /// The median lead of the breaches that an alert had told of, in seconds.
    pub lead_s_median: Option<i64>,
    /// Every alert that would have fired, oldest first.
    pub alerts: Vec<BacktestAlert>,
    /// Every breach, oldest first.
    pub breaches: Vec<Breach>,
}

/// How many alerts became what: `fired = held_back + breached + false_alarms + open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All that fired.
    pub fired: u64,
    /// Never told, since a faster tier fired all the while.
    pub held_back: u64,
    /// Told, and the objective was broken.
    pub breached: u64,
    /// Told, and the objective was kept.
    pub false_alarms: u64,
    /// Told; kept so far, and the period is not over.
    pub open: u64,
}

/// One alert that would have fired.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BacktestAlert {
    /// The transition to firing, as `alerts` has it.
    #[serde(flatten)]
    pub alert: AlertTransition,
    /// When it resolved or went stale; `None` while it fires.
    pub until: Option<String>,
    /// When people would have been told; `None` = never, held back by a faster tier.
    pub told_at: Option<String>,
    /// `breached`, `kept` or `open`.
    pub outcome: &'static str,
    /// When the budget was exhausted.
    pub breached_at: Option<String>,
    /// From firing to that, in seconds.
    pub lead_s: Option<i64>,
}

/// One time that a budget was exhausted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breach {
    /// Whose.
    pub customer: String,
    /// Of which component.
    pub service: String,
    /// Which promise.
    pub objective: String,
    /// When the budget was exhausted.
    pub at: String,
    /// When the first alert told of it, before or then.
    pub alerted_at: Option<String>,
    /// Severity of that alert.
    pub severity: Option<&'static str>,
    /// From that alert to the breach, in seconds.
    pub lead_s: Option<i64>,
}

/// What `promise` would have told of `series` in a range of minutes, both ends included, judged
/// by the counts up to `as_of`.
pub fn backtest(
    promise: &Promise<'_>,
    series: &[&Series],
    minutes: &RangeInclusive<Minute>,
    as_of: Minute,
) -> Backtest {
    let trials = series.par_iter().flat_map_iter(|series| series_trials(promise, series, as_of));
    let trials: Vec<Trial<'_>> = trials.collect();
    let mut alerts: Vec<(Minute, Severity, BacktestAlert)> = Vec::new();
    let mut breaches: Vec<(Minute, Breach)> = Vec::new();
    for trial in &trials {
        let told = trial.firings.iter().filter(|firing| minutes.contains(&firing.from));
        alerts.extend(told.map(|firing| (firing.from, firing.severity, trial.alert(firing))));
        let broken = trial.breaches.iter().filter(|breach| minutes.contains(&breach.from));
        breaches.extend(broken.map(|breach| (breach.from, trial.breach(breach))));
    }
    let place = |alert: &AlertTransition| {
        [&alert.customer, &alert.service, &alert.objective, &alert.tier].map(String::clone)
    };
    alerts.sort_by_cached_key(|(at, _, one)| (*at, place(&one.alert)));
    breaches.sort_by_cached_key(|(at, one)| {
        (*at, [&one.customer, &one.service, &one.objective].map(String::clone))
    });
    let tally = |severity| {
        let of_severity = alerts.iter().filter(|(_, of, _)| *of == severity);
        of_severity.fold(Tally::default(), |tally, (_, _, alert)| tally.with(alert))
    };
    let mut leads: Vec<i64> = breaches.iter().filter_map(|(_, breach)| breach.lead_s).collect();
    leads.sort_unstable();
    Backtest {
        as_of: Some(as_of.to_string()),
        pages: tally(Severity::Page),
        tickets: tally(Severity::Ticket),
        breaches_unalerted: (breaches.len() - leads.len()) as u64,
        lead_s_median: leads.get(leads.len() / 2).copied(),
        alerts: alerts.into_iter().map(|(_, _, alert)| alert).collect(),
        breaches: breaches.into_iter().map(|(_, breach)| breach).collect(),
    }
}

impl Backtest {
    /// Of a table without events.
    pub fn empty() -> Backtest {
        Backtest {
            as_of: None,
            pages: Tally::default(),
            tickets: Tally::default(),
            breaches_unalerted: 0,
            lead_s_median: None,
            alerts: Vec::new(),
            breaches: Vec::new(),
        }
    }
}

impl Tally {
    fn with(mut self, alert: &BacktestAlert) -> Tally {
        self.fired += 1;
        let place = match alert.outcome {
            _ if alert.told_at.is_none() => &mut self.held_back,
            BREACHED => &mut self.breached,
            KEPT => &mut self.false_alarms,
            _ => &mut self.open,
        };
        *place += 1;
        self
    }
}

const BREACHED: &str = "breached";
const KEPT: &str = "kept";
const OPEN: &str = "open";

/// One objective of one series, with what was and what would have been told.
struct Trial<'a> {
    series: &'a Series,
    objective: &'a Objective,
    tiers: Vec<Tier>,
    firings: Vec<Firing>,
    breaches: Vec<Span>,
    as_of: Minute,
}

/// Minutes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: Minute,
    to: Minute,
}

/// One firing of one tier.
struct Firing {
    tier: usize,
    transition: Transition,
    severity: Severity,
    from: Minute,
    /// The minute in which it ended.
    until: Option<Minute>,
    /// The minute in which people are told.
    told: Option<Minute>,
}

fn series_trials<'a>(promise: &Promise<'a>, series: &'a Series, as_of: Minute) -> Vec<Trial<'a>> {
    let trial = |objective: &'a Objective| {
        let column = column(promise.slis, objective, &series.service)?;
        let cells = failing_cells(series, column, Minute(0)..=as_of);
        let tiers = tiers_of(objective, promise.alerts).active;
        let firings = firings(&settled_transitions(series, column, &tiers, as_of), &tiers);
        let breaches = breaches(&cells, &objective.period, objective.target, as_of);
        Some(Trial { series, objective, tiers, firings, breaches, as_of })
    };
    let objectives = promise.objectives.resolve(&series.customer, &series.service);
    objectives.into_iter().filter_map(trial).collect()
}

/// The firings of all tiers, the fastest tier first, each with the minute it is told in.
fn firings(transitions: &[(usize, Transition)], tiers: &[Tier]) -> Vec<Firing> {
    let mut firings: Vec<Firing> = Vec::new();
    for (index, tier) in tiers.iter().enumerate() {
        let faster = firings.len();
        for (_, transition) in transitions.iter().filter(|(of, _)| *of == index) {
            let (from, severity) = (transition.look.at, tier.spec.severity);
            match transition.change {
                Change::Firing => firings.push(Firing {
                    tier: index,
                    transition: *transition,
                    severity,
                    from,
                    until: None,
                    told: None,
                }),
                Change::Resolved | Change::Stale => {
                    let firing = firings.last_mut().expect("only what fires ends");
                    firing.until = Some(from);
                }
            }
        }
        let (faster, own) = firings.split_at_mut(faster);
        own.iter_mut().for_each(|firing| firing.told = told(firing, faster));
    }
    firings
}

/// The first minute of `firing` in which none of `faster` fires.
fn told(firing: &Firing, faster: &[Firing]) -> Option<Minute> {
    let fires =
        |one: &&Firing, at: Minute| one.from <= at && one.until.is_none_or(|until| at < until);
    let mut at = firing.from;
    while let Some(holds) = faster.iter().find(|one| fires(one, at)) {
        at = holds.until?;
    }
    firing.until.is_none_or(|until| at < until).then_some(at)
}

/// Every span of minutes up to `last` in which the budget of the period was exhausted; of a
/// calendar period only the one that lasted to its end.
///
/// The sums of a rolling period change where a minute enters or leaves it, so only such minutes
/// are looked at.
fn breaches(
    cells: &[(Minute, Counts)],
    period: &Period,
    target: Decimal,
    last: Minute,
) -> Vec<Span> {
    let mut spans = Vec::new();
    if period.is_calendar() {
        let mut rest = cells;
        while let Some((first, _)) = rest.first() {
            let to = (*period.full_range(*first).end()).min(last);
            let (inside, after) = rest.split_at(rest.partition_point(|(minute, _)| *minute <= to));
            let changes = inside.iter().map(|(minute, counts)| (*minute, *counts, true));
            spans.extend(exhausted(changes, target, to).pop().filter(|span| span.to == to));
            rest = after;
        }
        return spans;
    }
    let entering = cells.iter().map(|(minute, counts)| (*minute, *counts, true));
    let left = |minute: &Minute| Minute(minute.0 + period.minutes());
    let leaving = cells.iter().map(|(minute, counts)| (left(minute), *counts, false));
    let mut changes: Vec<(Minute, Counts, bool)> = entering.chain(leaving).collect();
    changes.retain(|(minute, ..)| *minute <= last);
    changes.sort_by_key(|(minute, ..)| *minute);
    spans.extend(exhausted(changes.into_iter(), target, last));
    spans
}

/// The spans up to `last` in which more is bad than the target allows, given what enters the sum
/// (`true`) or leaves it in each minute, sorted by minute.
fn exhausted(
    changes: impl Iterator<Item = (Minute, Counts, bool)>,
    target: Decimal,
    last: Minute,
) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let (mut valid, mut bad) = (0_u64, 0_u64);
    let mut since = None;
    let mut changes = changes.peekable();
    while let Some((minute, counts, enters)) = changes.next() {
        if enters {
            (valid, bad) = (valid + counts.valid, bad + counts.bad);
        } else {
            (valid, bad) = (valid - counts.valid, bad - counts.bad);
        }
        if changes.peek().is_some_and(|(next, ..)| *next == minute) {
            continue;
        }
        let is_broken = met(target, valid, bad) == Some(false);
        match since {
            None if is_broken => since = Some(minute),
            Some(from) if !is_broken => {
                spans.push(Span { from, to: minute.minus(1) });
                since = None;
            }
            _ => {}
        }
    }
    spans.extend(since.map(|from| Span { from, to: last }));
    spans
}

impl Trial<'_> {
    /// The breach that an alert at `at` was about, and the last minute that decides it.
    fn breach_after(&self, at: Minute) -> (Option<Span>, Minute) {
        let period = &self.objective.period;
        let until = match period.is_calendar() {
            true => *period.full_range(at).end(),
            false => Minute(at.0 + period.minutes() - 1),
        };
        let reaches = |span: &&Span| span.to >= at && span.from <= until;
        (self.breaches.iter().find(reaches).copied(), until)
    }

    fn alert(&self, firing: &Firing) -> BacktestAlert {
        let tier = &self.tiers[firing.tier];
        let (customer, service) = (&self.series.customer, &self.series.service);
        let alert =
            Alert::settled(&self.objective.name, customer, service, tier, firing.transition);
        let (breach, until) = self.breach_after(firing.from);
        BacktestAlert {
            alert: transition(&alert),
            until: firing.until.map(last_second),
            told_at: firing.told.map(last_second),
            outcome: match breach {
                Some(_) => BREACHED,
                None if until <= self.as_of => KEPT,
                None => OPEN,
            },
            breached_at: breach.map(|breach| last_second(breach.from)),
            lead_s: breach.map(|breach| seconds(firing.from, breach.from)),
        }
    }

    fn breach(&self, breach: &Span) -> Breach {
        let told = |firing: &&Firing| {
            let before = firing.told.is_some_and(|told| told <= breach.from);
            before && self.breach_after(firing.from).0.as_ref() == Some(breach)
        };
        let first = self.firings.iter().filter(told).min_by_key(|firing| firing.told);
        let alerted = first.and_then(|firing| firing.told);
        Breach {
            customer: self.series.customer.to_string(),
            service: self.series.service.to_string(),
            objective: self.objective.name.clone(),
            at: last_second(breach.from),
            alerted_at: alerted.map(last_second),
            severity: first.map(|firing| firing.severity.name()),
            lead_s: alerted.map(|alerted| seconds(alerted, breach.from)),
        }
    }
}

fn last_second(minute: Minute) -> String {
    rfc3339(settled_at_ms(minute))
}

fn seconds(from: Minute, to: Minute) -> i64 {
    (i64::from(to.0) - i64::from(from.0)) * 60
}
