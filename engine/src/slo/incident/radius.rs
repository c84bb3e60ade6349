//! Whom and what an incident hits, and how grave that makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::time::Minute;

/// At this share of the service's customers, or of its requests, an incident is critical.
const CRITICAL: (f64, f64) = (0.25, 0.10);

/// At this share of the service's customers, or of its requests, an incident is major.
const MAJOR: (f64, f64) = (0.02, 0.01);

/// How grave an incident is, by whom it hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// A few customers.
    #[default]
    Minor,
    /// 2% of the service's customers burn, or 1% of its requests fail.
    Major,
    /// 25% of the service's customers burn, or 10% of its requests fail.
    Critical,
}

impl Grade {
    /// `minor`, `major` or `critical`.
    pub fn name(self) -> &'static str {
        match self {
            Grade::Minor => "minor",
            Grade::Major => "major",
            Grade::Critical => "critical",
        }
    }

    /// The grade of that name.
    pub fn of_name(name: &str) -> Option<Grade> {
        [Grade::Minor, Grade::Major, Grade::Critical].into_iter().find(|one| one.name() == name)
    }
}

/// One customer of an incident.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worst {
    /// Who.
    pub customer: String,
    /// Valid events in the incident.
    pub valid: u64,
    /// Bad ones.
    pub bad: u64,
    /// What these took of the budget of the objective's period; `None` at no traffic.
    pub budget_consumed: Option<f64>,
}

/// Customers who fell silent together, in an incident that is of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silenced {
    /// How many.
    pub customers: u64,
    /// Of how many who would be missed.
    pub missed: u64,
    /// Some of them, by name.
    pub names: Vec<String>,
}

/// Whom and what an incident hits, from its first bad minute on. Counts are those of the series
/// that have fired in it, each by the SLI of its objective.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Radius {
    /// The last minute that is in it.
    pub to: Minute,
    /// Customers who have fired in it, and those of its pools whose promise was not kept.
    pub customers: u64,
    /// Those who fire now.
    pub customers_firing: u64,
    /// Customers with events of the service in the last hour.
    pub customers_active: u64,
    /// Customers by their tier; under the empty name those that have none.
    pub tiers: BTreeMap<String, u64>,
    /// Customers by the minute they came to be hit: their first bad one, the last hour of it.
    pub newly: BTreeMap<Minute, u64>,
    /// Valid events of its series.
    pub valid: u64,
    /// Bad ones.
    pub bad: u64,
    /// Minutes of its series with a bad event.
    pub bad_minutes: u64,
    /// Valid events of the whole service in the same time, as far as the last hours reach.
    pub service_valid: u64,
    /// Bad ones.
    pub service_bad: u64,
    /// Bad events over the budget of the periods of its series; `None` at no traffic.
    pub budget_lost: Option<f64>,
    /// Promises that are broken over their period.
    pub objectives_broken: u64,
    /// Promises that are not, and will be within a day if the last hour goes on.
    pub objectives_at_risk: u64,
    /// Seconds until the first of these is; `None` where none is at risk.
    pub exhausted_in_s: Option<f64>,
    /// The customers with the most bad events.
    pub worst: Vec<Worst>,
    /// The pools that have fired in it.
    pub pools: BTreeSet<Arc<str>>,
    /// Who fell silent, where that is what it is about.
    pub silence: Option<Silenced>,
}

impl Radius {
    /// How grave it is.
    pub fn grade(&self) -> Grade {
        let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
        let silent = self.silence.as_ref().map_or(0.0, |one| share(one.customers, one.missed));
        let customers = share(self.customers, self.customers_active).max(silent);
        let requests = share(self.service_bad, self.service_valid);
        let reaches = |bound: (f64, f64)| customers >= bound.0 || requests >= bound.1;
        match () {
            () if reaches(CRITICAL) => Grade::Critical,
            () if reaches(MAJOR) => Grade::Major,
            () => Grade::Minor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grade_follows_customers_or_requests() {
        let grade = |customers, service_bad| {
            let (customers_active, service_valid) = (1_000, 1_000_000);
            Radius { customers, customers_active, service_bad, service_valid, ..Radius::default() }
                .grade()
        };
        assert_eq!(grade(1, 100), Grade::Minor);
        assert_eq!(grade(20, 100), Grade::Major);
        assert_eq!(grade(1, 10_000), Grade::Major, "one large customer");
        assert_eq!(grade(250, 0), Grade::Critical);
        assert_eq!(grade(1, 100_000), Grade::Critical);
        let silence = Some(Silenced { customers: 6, missed: 20, names: Vec::new() });
        assert_eq!(Radius { silence, ..Radius::default() }.grade(), Grade::Critical);
        assert_eq!(Radius::default().grade(), Grade::Minor);
    }
}
