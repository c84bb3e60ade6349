//! What `ninefold check` prints of a configuration that is right: what it will do.
//!
//! For every objective the alert tiers in force, each with its windows, its burn-rate factor
//! and what that means as a share of failed requests, and the default tiers that are left out
//! with the reason. The factor of a standard tier is `fraction * period / long window`:
//!
//! | tier | budget spent | long window | short | 30 days | 7 days |
//! |---|---|---|---|---|---|
//! | `rollout_5m` | any | 5m | 2m | 50 | 50 |
//! | `page_1h` | 2% | 1h | 5m | 14.4 | 3.36 |
//! | `page_6h` | 5% | 6h | 30m | 6 | 1.4 |
//! | `ticket_1d` | 10% | 1d | 2h | 3 | 0.7, left out |
//! | `ticket_3d` | 10% | 3d | 6h | 1 | 0.233…, left out |
//!
//! At 99.8% a factor of 14.4 is an error ratio of 14.4 * 0.002 = 0.0288.

use super::Config;
use super::value::duration_text;
use crate::slo::decimal::Decimal;
use crate::slo::objective::{Objective, Period, TierOverride};

/// One alert tier as DESIGN defines it.
struct Tier {
    name: &'static str,
    /// Percent of the budget spent within the long window; `None` = a factor for every period.
    percent: Option<u64>,
    long_minutes: u64,
    short_minutes: u64,
}

const TIERS: [Tier; 5] = [
    Tier { name: "rollout_5m", percent: None, long_minutes: 5, short_minutes: 2 },
    Tier { name: "page_1h", percent: Some(2), long_minutes: 60, short_minutes: 5 },
    Tier { name: "page_6h", percent: Some(5), long_minutes: 360, short_minutes: 30 },
    Tier { name: "ticket_1d", percent: Some(10), long_minutes: 1_440, short_minutes: 120 },
    Tier { name: "ticket_3d", percent: Some(10), long_minutes: 4_320, short_minutes: 360 },
];

/// The factor of `rollout_5m` whatever the period: 10% errors at 99.8%.
const ROLLOUT_FACTOR: Fraction = Fraction(50, 1);

/// A non-negative exact fraction.
#[derive(Clone, Copy)]
struct Fraction(u128, u128);

/// What `ninefold check` prints of `config`, line by line.
///
/// ```
/// use ninefold_engine::config::{Config, check_report};
/// let lines = check_report(&Config::default());
/// assert_eq!(lines[0], "objective \"availability\" of everyone: 0.998 of availability over 30d");
/// assert_eq!(lines[2], "  page_1h     1h and 5m   burn rate 14.4   error ratio 0.0288");
/// ```
pub fn check_report(config: &Config) -> Vec<String> {
    let objectives = &config.objectives;
    let mut lines = Vec::new();
    let mut push = |whom: &str, list: &[Objective]| {
        list.iter().for_each(|objective| lines.extend(objective_lines(whom, objective)));
    };
    push("everyone", &objectives.default);
    for (tier, list) in &objectives.tiers {
        let count = objectives.tier_of.values().filter(|of| *of == tier).count();
        push(&format!("tier {tier:?} ({count} customers)"), list);
    }
    for (customer, list) in &objectives.customers {
        push(&format!("customer {customer:?}"), list);
    }
    for ((customer, service), list) in &objectives.services {
        push(&format!("customer {customer:?} and service {service:?}"), list);
    }
    lines
}

fn objective_lines(whom: &str, objective: &Objective) -> Vec<String> {
    let Objective { name, sli, target, period, tiers } = objective;
    let period_text = period_text(period);
    let mut lines =
        vec![format!("objective {name:?} of {whom}: {target} of {sli} over {period_text}")];
    for tier in &TIERS {
        let own = tiers.iter().find(|own| own.tier == tier.name);
        lines.push(format!("  {:<11} {}", tier.name, tier_text(tier, own, *target, period)));
    }
    lines
}

fn tier_text(tier: &Tier, own: Option<&TierOverride>, target: Decimal, period: &Period) -> String {
    if own.is_some_and(|own| !own.enabled) {
        return "switched off".to_owned();
    }
    let factor = match own.and_then(|own| own.factor) {
        Some(factor) => Fraction(factor.units.into(), 10_u128.pow(factor.scale.into())),
        None => default_factor(tier, period),
    };
    let threshold = factor.of_budget(target);
    if factor.0 < factor.1 {
        return format!("left out: burn rate {factor} would fire while the budget still lasts");
    }
    if threshold.0 > threshold.1 {
        return format!("left out: burn rate {factor} is above 1 / (1 - target), out of reach");
    }
    let windows =
        [tier.long_minutes, tier.short_minutes].map(|minutes| duration_text(minutes * 60_000));
    let windows = windows.join(" and ");
    let min_bad = own.and_then(|own| own.min_bad);
    let min_bad = min_bad.map_or(String::new(), |count| format!("   min_bad {count}"));
    let factor = factor.to_string();
    format!("{windows:<11} burn rate {factor:<6} error ratio {threshold}{min_bad}")
}

fn default_factor(tier: &Tier, period: &Period) -> Fraction {
    let Some(percent) = tier.percent else { return ROLLOUT_FACTOR };
    let spent_minutes = u128::from(percent) * u128::from(period.minutes());
    Fraction(spent_minutes, 100 * u128::from(tier.long_minutes))
}

/// The period with its zone, where it has one.
fn period_text(period: &Period) -> String {
    match period {
        Period::RollingDays(_) => period.to_string(),
        Period::Month(zone) | Period::Quarter(zone) => format!("{period} in {zone}"),
    }
}

impl Fraction {
    /// This times `1 - target`.
    fn of_budget(self, target: Decimal) -> Fraction {
        let one = 10_u128.pow(target.scale.into());
        Fraction(self.0 * (one - u128::from(target.units)), self.1 * one)
    }
}

impl std::fmt::Display for Fraction {
    /// Rounds to six digits behind the point and drops trailing zeros.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millionths = (self.0 * 1_000_000 + self.1 / 2) / self.1;
        let digits = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
        f.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
    }
}
