//! What has spent the error budget of a quarter: bad events by cause, ranked by whom they hit.
//!
//! Bad events of the default availability SLI are sorted into *scopes*: those of a service in the
//! minutes of an incident that paged or was a ticket, and those of a service in the rest of a UTC
//! day. In each scope causes are looked for as everywhere ([`crate::slo::excess`]), against the
//! same minutes in an incident and against the same hours outside, and against the day before
//! where there is no rest. A cause takes the bad events that have its values, each event the first
//! cause that it fits ([`super::attribution`]):
//!
//! `spent(cause) = Σ over scopes of min(excess, bad events taken)`
//!
//! so what would have failed anyway is not the cause's. `unexplained = bad - Σ spent`: nothing is
//! counted twice, and the parts with the rest are all bad events. A cause is one of its scope only
//! where its p-value passes times the number of scopes of the whole range, so that in a quarter
//! without any the chance of one is about 1%.
//!
//! `budget.events = Σ over customers of (1 - target) * valid`, by the target of their first
//! availability objective.
//!
//! The cost: each day of the grains `dimension` and `failure` is read once, and the days of the
//! series from `series_day` where the table was compacted. In memory are one day by hour (by
//! minute in incidents) and all dimensions, the names of the customers who had a bad event, and a
//! number for each customer and minute of each cause.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::query::incident::Incident;
use crate::query::review::{latest_of, minute_of};
use crate::time::{DAY_MINUTES, Minute};

#[cfg(feature = "table")]
mod spend;
#[cfg(feature = "table")]
pub use spend::risks;

/// One cause of a range of days.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Risk {
    /// The values that name it.
    pub dimensions: BTreeMap<String, String>,
    /// The services it was found in.
    pub services: BTreeSet<String>,
    /// The incidents it was found in.
    pub incidents: BTreeSet<String>,
    /// Customers who had a bad event of it.
    pub customers: u64,
    /// Minutes with a bad event of it.
    pub minutes: u64,
    /// Bad events that have its values where it was found.
    pub bad: u64,
    /// Those of them beyond what would have failed anyway.
    pub spent: f64,
    /// `spent` as a share of all bad events.
    pub share: Option<f64>,
    /// `spent` as a share of the budget of everybody.
    pub budget_consumed: Option<f64>,
    /// Its first minute.
    pub first: String,
    /// Its last one.
    pub last: String,
}

/// What no cause has spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Unexplained {
    /// Bad events less what the causes have spent.
    pub spent: f64,
    /// As a share of all bad events.
    pub share: Option<f64>,
    /// As a share of the budget of everybody.
    pub budget_consumed: Option<f64>,
}

/// The budget of everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RiskBudget {
    /// Bad events that the promises allow.
    pub events: f64,
    /// The share that all bad events took.
    pub consumed: Option<f64>,
}

/// `risks`, `GET /v1/risks`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Risks {
    /// Newest counted minute.
    pub as_of: Option<String>,
    /// First minute of the first day.
    pub from: String,
    /// Last minute of the last day.
    pub to: String,
    /// Valid events.
    pub valid: u64,
    /// Bad events.
    pub bad: u64,
    /// What was allowed.
    pub budget: RiskBudget,
    /// The most customers first, then the most minutes.
    pub causes: Vec<Risk>,
    /// The rest.
    pub unexplained: Unexplained,
}

/// Whole UTC days that hold some minutes.
pub fn whole_days(minutes: &RangeInclusive<Minute>) -> RangeInclusive<Minute> {
    let (first, last) = (minutes.start().day().0, minutes.end().day().0);
    Minute(first * DAY_MINUTES)..=Minute(last * DAY_MINUTES + DAY_MINUTES - 1)
}

/// The minutes of a service in which incidents were that somebody was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The service.
    pub service: String,
    /// Its minutes, both ends included.
    pub minutes: RangeInclusive<Minute>,
    /// The incidents, by name; several where they overlap or touch.
    pub incidents: BTreeSet<String>,
}

/// The spans of some incidents, by service and begin; those of one service do not overlap.
/// `as_of` ends those that are open.
pub fn spans(incidents: &[Incident], as_of: Option<Minute>) -> Vec<Span> {
    let told = incidents.iter().filter(|one| one.notifies != "nobody");
    let span = |one: &Incident| Span {
        service: one.service.clone(),
        minutes: minute_of(&one.from)..=latest_of(one, as_of),
        incidents: BTreeSet::from([one.id.clone()]),
    };
    let mut all: Vec<Span> = told.map(span).collect();
    all.sort_by(|a, b| (&a.service, a.minutes.start()).cmp(&(&b.service, b.minutes.start())));
    let mut joined: Vec<Span> = Vec::new();
    for span in all {
        match joined.last_mut() {
            Some(last)
                if last.service == span.service
                    && *span.minutes.start() <= last.minutes.end().next() =>
            {
                let end = (*last.minutes.end()).max(*span.minutes.end());
                last.minutes = *last.minutes.start()..=end;
                last.incidents.extend(span.incidents);
            }
            _ => joined.push(span),
        }
    }
    joined
}

/// Puts causes in their order, and fills in the rest and the shares.
pub fn finish(mut risks: Risks) -> Risks {
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    let (bad, events) = (risks.bad as f64, risks.budget.events);
    let mut spent = 0.0;
    for cause in &mut risks.causes {
        spent += cause.spent;
        cause.share = share(cause.spent, bad);
        cause.budget_consumed = share(cause.spent, events);
    }
    risks.causes.sort_by(|a, b| {
        let hits = |one: &Risk| Reverse((one.customers, one.minutes));
        let rest = b.spent.total_cmp(&a.spent).then_with(|| a.dimensions.cmp(&b.dimensions));
        hits(a).cmp(&hits(b)).then(rest)
    });
    // Each cause has spent no more than the bad events it took; only rounding is below 0.
    let rest = (bad - spent).max(0.0);
    risks.unexplained =
        Unexplained { spent: rest, share: share(rest, bad), budget_consumed: share(rest, events) };
    risks.budget.consumed = share(bad, events);
    risks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(id: &str, service: &str, from: u32, closed: Option<u32>) -> Incident {
        Incident {
            id: id.to_owned(),
            service: service.to_owned(),
            notifies: "page".to_owned(),
            from: Minute(from).to_string(),
            closed_at: closed.map(|minute| Minute(minute).to_string()),
            ..Incident::default()
        }
    }

    #[test]
    fn incidents_that_overlap_or_touch_are_one_span_of_their_service() {
        let mut unheard = incident("n", "api", 0, Some(900));
        unheard.notifies = "nobody".to_owned();
        let all = [
            incident("c", "api", 300, None),
            incident("a", "api", 100, Some(200)),
            incident("b", "api", 201, Some(250)),
            incident("w", "web", 150, Some(160)),
            unheard,
        ];
        let span = |service: &str, first, last, incidents: &[&str]| Span {
            service: service.to_owned(),
            minutes: Minute(first)..=Minute(last),
            incidents: incidents.iter().map(|id| (*id).to_owned()).collect(),
        };
        let expect = [
            span("api", 100, 250, &["a", "b"]),
            span("api", 300, 777, &["c"]),
            span("web", 150, 160, &["w"]),
        ];
        assert_eq!(spans(&all, Some(Minute(777))), expect);
    }

    #[test]
    fn whoever_hits_most_customers_comes_first_and_the_rest_is_named() {
        let risk = |release: &str, customers, minutes, spent| Risk {
            dimensions: BTreeMap::from([("release".to_owned(), release.to_owned())]),
            customers,
            minutes,
            spent,
            ..Risk::default()
        };
        let found = finish(Risks {
            bad: 100,
            budget: RiskBudget { events: 50.0, consumed: None },
            causes: vec![risk("r1", 3, 9, 40.0), risk("r2", 8, 1, 5.0), risk("r3", 3, 10, 30.0)],
            ..Risks::default()
        });
        let order: Vec<&str> =
            found.causes.iter().map(|one| one.dimensions["release"].as_str()).collect();
        assert_eq!(order, ["r2", "r3", "r1"]);
        assert_eq!(found.causes[0].budget_consumed, Some(0.1));
        assert_eq!((found.unexplained.spent, found.unexplained.share), (25.0, Some(0.25)));
        assert_eq!(found.budget.consumed, Some(2.0));
    }
}
