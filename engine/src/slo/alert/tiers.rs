//! Alert tiers: which pair of windows at which factor, for one objective.
//!
//! A tier fires when burning for its long window has cost a fixed share of the period's budget:
//! `factor = fraction * period / long`. For 30 days: 2% in 1h is 14.4, 5% in 6h is 6, 10% in 1d
//! is 3, 10% in 3d is 1 (SRE workbook, chapter 5, tables 5-6 and 5-8). `rollout_5m` stands at 50
//! for every period: 10% errors at 99.8%, since the fastest standard tier spends half of a
//! five-minute roll-back. Factors are exact ratios, as 10% of 7 days over 3 is 7/30.
//!
//! A tier below factor 1 would fire within the budget, one whose `factor * (1 - target)` is above
//! 1 could never fire: a default one is left out and named, a configured one is an error.

use crate::slo::budget::allowed_ratio;
use crate::slo::decimal::{Decimal, Factor};
use crate::slo::objective::{Objective, TierOverride};
use crate::slo::period::Period;
use crate::time::DAY_MINUTES;

/// How urgent a tier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Someone is woken.
    Page,
    /// Someone looks at it in working hours.
    Ticket,
}

impl Severity {
    /// `page` or `ticket`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Page => "page",
            Severity::Ticket => "ticket",
        }
    }
}

/// What a tier is before an objective gives it a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// `page_1h`: a contract name.
    pub name: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// The long window, by name and length.
    pub long: (&'static str, u32),
    /// The short window, by name and length.
    pub short: (&'static str, u32),
    /// What its factor is.
    rule: Rule,
}

/// How a tier comes by its factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// So many percent of the period's budget within the long window.
    Percent(u64),
    /// The same for every period.
    Fixed(u64),
}

/// Every tier, the fastest first.
pub const SPECS: [Spec; 5] = [
    Spec {
        name: "rollout_5m",
        severity: Severity::Page,
        long: ("5m", 5),
        short: ("2m", 2),
        rule: Rule::Fixed(50),
    },
    Spec {
        name: "page_1h",
        severity: Severity::Page,
        long: ("1h", 60),
        short: ("5m", 5),
        rule: Rule::Percent(2),
    },
    Spec {
        name: "page_6h",
        severity: Severity::Page,
        long: ("6h", 360),
        short: ("30m", 30),
        rule: Rule::Percent(5),
    },
    Spec {
        name: "ticket_1d",
        severity: Severity::Ticket,
        long: ("1d", DAY_MINUTES),
        short: ("2h", 120),
        rule: Rule::Percent(10),
    },
    Spec {
        name: "ticket_3d",
        severity: Severity::Ticket,
        long: ("3d", 3 * DAY_MINUTES),
        short: ("6h", 360),
        rule: Rule::Percent(10),
    },
];

impl Spec {
    /// The factor of this tier for a period, unless it is configured.
    pub fn factor(&self, period: &Period) -> Factor {
        let factor = match self.rule {
            Rule::Percent(percent) => {
                Factor::new(percent * u64::from(period.minutes()), 100 * u64::from(self.long.1))
            }
            Rule::Fixed(factor) => Factor::new(factor, 1),
        };
        factor.expect("a few percent of a year over minutes is in bounds")
    }

    /// Of how many minutes before the one in which an alert of this tier fires at least one had a
    /// short window at or above the factor, that one included.
    ///
    /// For it ends while none has: either so few events come that it goes stale after the long
    /// window; or there are enough in one minute of that, and it is resolved as soon as there are
    /// again after `keep_firing_for_minutes`, or goes stale after another long window.
    pub fn burned_within_minutes(&self, keep_firing_for_minutes: u32) -> u32 {
        keep_firing_for_minutes.saturating_add(2 * self.long.1 + 1)
    }

    /// Of how many minutes before the one in which an alert of this tier fires, or burns, at least
    /// one had a bad event, that one included.
    pub fn failed_within_minutes(&self, keep_firing_for_minutes: u32) -> u32 {
        self.burned_within_minutes(keep_firing_for_minutes).saturating_add(self.short.1 - 1)
    }
}

/// How sure an alert has to be; owned by the configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlertOptions {
    /// A tier fires only where the failures would be this unlikely if the promise were just
    /// kept: `P(X >= bad) <= 1 - confidence`. In 0.5..1.
    pub confidence: f64,
    /// How many bad events of the long window it takes to fire; at least 1.
    pub min_bad: u64,
    /// How many valid events of the short window it takes to resolve; at least 1.
    pub min_valid: u64,
    /// How long the short window has to stay below the factor before it resolves.
    pub keep_firing_for_minutes: u32,
    /// How long events have to be of now before it is judged who has fallen silent; `None` = that
    /// is never judged.
    pub silence_after_minutes: Option<u32>,
}

impl Default for AlertOptions {
    fn default() -> Self {
        AlertOptions {
            confidence: 0.999,
            min_bad: 3,
            min_valid: 10,
            keep_firing_for_minutes: 0,
            silence_after_minutes: Some(5),
        }
    }
}

/// One tier of one objective, with all that a step needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Name, severity and windows.
    pub spec: Spec,
    /// The burn rate that both windows have to reach.
    pub factor: Factor,
    /// The target of its objective.
    pub target: Decimal,
    /// `1 - target`.
    pub allowed_ratio: f64,
    /// How sure it has to be; `min_bad` is the tier's own.
    pub options: AlertOptions,
}

/// Why a tier is not in force.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TierProblem {
    /// No tier has this name.
    #[error("unknown tier {0:?}; there are rollout_5m, page_1h, page_6h, ticket_1d, ticket_3d")]
    Unknown(String),
    /// It would fire within the budget.
    #[error("tier {tier}: factor {factor} is below 1, so it would fire within the budget")]
    BelowOne {
        /// Its name.
        tier: &'static str,
        /// Its factor.
        factor: f64,
    },
    /// It could never fire.
    #[error("tier {tier}: factor {factor} needs an error ratio above 1 at target {target}")]
    Unreachable {
        /// Its name.
        tier: &'static str,
        /// Its factor.
        factor: f64,
        /// The target of the objective.
        target: Decimal,
    },
    /// `min_bad` is 0.
    #[error("tier {tier}: min_bad is 0; it takes at least 1 bad event to fire")]
    MinBad {
        /// Its name.
        tier: &'static str,
    },
}

/// The tiers of one objective.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tiers {
    /// Those in force, the fastest first.
    pub active: Vec<Tier>,
    /// Default ones that make no sense for this objective; `check` names them.
    pub left_out: Vec<TierProblem>,
    /// Configured ones that make no sense: errors of the configuration.
    pub errors: Vec<TierProblem>,
}

/// The tiers of `objective`: defaults, its own changes, and what of them cannot be.
///
/// ```
/// use ninefold_engine::slo::{alert::{tiers_of, AlertOptions}, objective::Objectives};
/// let tiers = tiers_of(&Objectives::default().default[0], &AlertOptions::default());
/// let factors: Vec<f64> = tiers.active.iter().map(|tier| tier.factor.to_f64()).collect();
/// assert_eq!(factors, [50.0, 14.4, 6.0, 3.0, 1.0]);
/// ```
pub fn tiers_of(objective: &Objective, options: &AlertOptions) -> Tiers {
    let mut tiers = Tiers::default();
    for change in &objective.tiers {
        if !SPECS.iter().any(|spec| spec.name == change.tier) {
            tiers.errors.push(TierProblem::Unknown(change.tier.clone()));
        }
    }
    for spec in SPECS {
        let change = objective.tiers.iter().rfind(|change| change.tier == spec.name);
        if change.is_some_and(|change| !change.enabled) {
            continue;
        }
        let tier = tier_of(spec, objective, change, options);
        let configured = change.is_some_and(|change| change.factor.is_some());
        match problem(&tier) {
            None => tiers.active.push(tier),
            Some(problem @ TierProblem::MinBad { .. }) => tiers.errors.push(problem),
            Some(problem) if configured => tiers.errors.push(problem),
            Some(problem) => tiers.left_out.push(problem),
        }
    }
    tiers
}

/// One tier with the changes to it.
fn tier_of(
    spec: Spec,
    objective: &Objective,
    change: Option<&TierOverride>,
    options: &AlertOptions,
) -> Tier {
    let own_factor = change.and_then(|change| change.factor).map(Factor::from);
    let own_min_bad = change.and_then(|change| change.min_bad);
    Tier {
        spec,
        factor: own_factor.unwrap_or_else(|| spec.factor(&objective.period)),
        target: objective.target,
        allowed_ratio: allowed_ratio(objective.target),
        options: AlertOptions { min_bad: own_min_bad.unwrap_or(options.min_bad), ..*options },
    }
}

/// Why this tier cannot be in force.
fn problem(tier: &Tier) -> Option<TierProblem> {
    let (name, factor, target) = (tier.spec.name, tier.factor.to_f64(), tier.target);
    if tier.options.min_bad == 0 {
        Some(TierProblem::MinBad { tier: name })
    } else if tier.factor.is_below_one() {
        Some(TierProblem::BelowOne { tier: name, factor })
    } else if !tier.factor.is_reachable(target) {
        Some(TierProblem::Unreachable { tier: name, factor, target })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(target: &str, period: &str, tiers: Vec<TierOverride>) -> Objective {
        let period = Period::parse(period, "UTC").unwrap();
        let target = Decimal::parse(target).unwrap();
        Objective { tiers, ..Objective::availability(target, period) }
    }

    fn change(tier: &str, enabled: bool, factor: Option<&str>) -> TierOverride {
        let factor = factor.map(|text| Decimal::parse(text).unwrap());
        TierOverride { tier: tier.to_owned(), enabled, factor, min_bad: None }
    }

    fn factors(objective: &Objective) -> Vec<(&'static str, f64)> {
        let tiers = tiers_of(objective, &AlertOptions::default());
        assert_eq!(tiers.errors, []);
        tiers.active.iter().map(|tier| (tier.spec.name, tier.factor.to_f64())).collect()
    }

    #[test]
    fn factors_are_the_share_of_the_budget_times_period_over_long_window() {
        let check = |period: &str, expect: &[f64]| {
            let found = factors(&objective("0.998", period, vec![]));
            assert_eq!(found.iter().map(|tier| tier.1).collect::<Vec<_>>(), expect, "{period}");
        };
        check("30d", &[50.0, 14.4, 6.0, 3.0, 1.0]);
        check("month", &[50.0, 14.4, 6.0, 3.0, 1.0]);
        check("quarter", &[50.0, 43.2, 18.0, 9.0, 3.0]);
        check("28d", &[50.0, 13.44, 5.6, 2.8]);
        check("7d", &[50.0, 3.36, 1.4]);
    }

    #[test]
    fn default_tiers_that_make_no_sense_are_left_out_and_named() {
        let tiers = tiers_of(&objective("0.998", "7d", vec![]), &AlertOptions::default());
        assert_eq!(tiers.errors, []);
        let texts: Vec<_> = tiers.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "tier ticket_1d: factor 0.7 is below 1, so it would fire within the budget"
        );
        assert_eq!(texts.len(), 2);
        // At 95% the factor 50 would need 250% errors; 20 is just reachable.
        let loose = tiers_of(&objective("0.95", "30d", vec![]), &AlertOptions::default());
        let unreachable = &loose.left_out[0];
        let expect = "tier rollout_5m: factor 50 needs an error ratio above 1 at target 0.95";
        assert_eq!(unreachable.to_string(), expect);
        let just = vec![change("rollout_5m", true, Some("20"))];
        assert_eq!(factors(&objective("0.95", "30d", just))[0], ("rollout_5m", 20.0));
    }

    #[test]
    fn changes_replace_factors_switch_tiers_off_and_fail_where_they_make_no_sense() {
        let changes = vec![change("page_1h", true, Some("10")), change("ticket_1d", false, None)];
        let found = factors(&objective("0.998", "30d", changes));
        assert_eq!(found[1], ("page_1h", 10.0));
        assert!(found.iter().all(|tier| tier.0 != "ticket_1d"));
        let changes = vec![
            change("page_1h", true, Some("0.5")),
            change("page_6h", true, Some("501")),
            change("page_2h", true, None),
            TierOverride { min_bad: Some(0), ..change("ticket_1d", true, None) },
        ];
        let tiers = tiers_of(&objective("0.998", "30d", changes), &AlertOptions::default());
        assert_eq!(tiers.errors.len(), 4, "{:?}", tiers.errors);
        assert_eq!(tiers.active.len(), 2);
    }
}
