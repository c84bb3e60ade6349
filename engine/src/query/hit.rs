//! What a stretch of minutes does to one series and its promise.
//!
//! A running service asks it of the series that fire, a review of those that were in an incident:
//! both mean the same by *first bad minute*, *budget* and *broken*.

use std::ops::RangeInclusive;

use crate::model::Counts;
use crate::query::column::column;
use crate::query::pools::Rest;
use crate::slo::budget::{self, Budget};
use crate::slo::decimal::met;
use crate::slo::objective::{Objective, Objectives, SliRef, Slis};
use crate::slo::window::window_range;
use crate::state::series::Series;
use crate::time::Minute;

/// A stretch of bad minutes is looked for in so many before a series fires.
pub const STRETCH_MINUTES: u32 = 360;

/// Good or idle minutes in a stretch, at most, as in an episode of a report.
const STRETCH_GAP_MINUTES: u32 = 5;

/// A promise is at risk that will be broken within so many seconds.
pub const AT_RISK_S: f64 = 86_400.0;

/// A series with one of its promises.
#[derive(Clone, Copy, Debug)]
pub struct Promised<'a> {
    /// Whose, and by which component; a pool without those who are judged by themselves.
    pub rest: Rest<'a>,
    /// What was promised.
    pub objective: &'a Objective,
    /// Where its counts stand.
    pub column: SliRef,
}

impl<'a> Promised<'a> {
    /// Every promise of a series, in the order of the configuration; those whose SLI judges
    /// nothing of its service are none.
    pub fn all_of(
        slis: &'a Slis,
        objectives: &'a Objectives,
        series: &'a Series,
    ) -> impl Iterator<Item = Promised<'a>> {
        let of = move |objective: &'a Objective| {
            let column = column(slis, objective, &series.service)?;
            Some(Promised { rest: Rest::whole(series), objective, column })
        };
        objectives.resolve(&series.customer, &series.service).into_iter().filter_map(of)
    }

    /// The promise of a series with this name.
    pub fn of(
        slis: &'a Slis,
        objectives: &'a Objectives,
        series: &'a Series,
        objective: &str,
    ) -> Option<Promised<'a>> {
        Promised::all_of(slis, objectives, series).find(|one| one.objective.name == objective)
    }

    /// The counts of some minutes, both ends included.
    pub fn sum(&self, minutes: RangeInclusive<Minute>) -> Counts {
        self.rest.sum(self.column, minutes)
    }

    /// The first bad minute of the stretch that ends with `at`: minutes that break the promise
    /// with at most five others between them, over [`STRETCH_MINUTES`] at most.
    /// `None` where none does.
    pub fn first_bad(&self, at: Minute) -> Option<Minute> {
        let (mut first, mut gap) = (None, 0);
        for minute in (0..STRETCH_MINUTES).map(|back| at.minus(back)) {
            let counts = self.sum(minute..=minute);
            if met(self.objective.target, counts.valid, counts.bad) == Some(false) {
                (first, gap) = (Some(minute), 0);
            } else {
                gap += u32::from(first.is_some());
                if gap > STRETCH_GAP_MINUTES {
                    break;
                }
            }
        }
        first
    }

    /// What the minutes from `from` to `to`, both included, did.
    pub fn hit(&self, from: Minute, to: Minute) -> Hit {
        let target = self.objective.target;
        let whole = self.objective.period.range(to);
        let period = self.sum(whole.clone());
        let last_hour = budget::burn_rate(self.sum(window_range(to, 60)), target);
        let budget = Budget::of(period, target);
        Hit {
            counts: self.sum(from..=to),
            bad_of_period: self.sum(from.max(*whole.start())..=to).bad,
            period,
            is_broken: met(target, period.valid, period.bad) == Some(false),
            exhausted_in_s: budget.exhausted_in_s(last_hour, self.objective.period.minutes()),
            budget,
        }
    }
}

/// What some minutes did to a series and its promise.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// The counts of these minutes.
    pub counts: Counts,
    /// Their bad events that lie in the objective's period, which may begin among them.
    pub bad_of_period: u64,
    /// The counts of the period so far.
    pub period: Counts,
    /// The budget of the period so far.
    pub budget: Budget,
    /// Whether the promise is broken over the period.
    pub is_broken: bool,
    /// Seconds until it is, if the last hour goes on.
    pub exhausted_in_s: Option<f64>,
}

impl Hit {
    /// Seconds until the promise is broken, where it is not and will be within a day.
    pub fn at_risk_s(&self) -> Option<f64> {
        self.exhausted_in_s.filter(|after| !self.is_broken && *after <= AT_RISK_S)
    }
}
