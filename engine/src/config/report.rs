//! What `ninefold check` prints of a configuration that is right: what it will do.
//!
//! For every objective the alert tiers in force, each with its windows, its burn-rate factor
//! and what that means as a share of failed requests, and the default tiers that are left out
//! with the reason. At 99.8% a factor of 14.4 is an error ratio of 14.4 * 0.002 = 0.0288.

use super::Config;
use crate::slo::alert::{AlertOptions, SPECS, Spec, Tier, Tiers, tiers_of};
use crate::slo::objective::{Objective, Period, TierOverride};

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
        let of_one = |objective| objective_lines(whom, objective, &config.alerts);
        lines.extend(list.iter().flat_map(of_one));
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

fn objective_lines(whom: &str, objective: &Objective, options: &AlertOptions) -> Vec<String> {
    let Objective { name, sli, target, period, .. } = objective;
    let period = period_text(period);
    let mut lines = vec![format!("objective {name:?} of {whom}: {target} of {sli} over {period}")];
    let tiers = tiers_of(objective, options);
    for spec in SPECS {
        lines.push(format!("  {:<11} {}", spec.name, tier_text(&spec, objective, &tiers, options)));
    }
    lines
}

/// What becomes of one tier: in force, left out, or switched off.
fn tier_text(spec: &Spec, objective: &Objective, tiers: &Tiers, options: &AlertOptions) -> String {
    if let Some(tier) = tiers.active.iter().find(|tier| tier.spec.name == spec.name) {
        return active_text(tier, options);
    }
    let is_off = |change: &TierOverride| change.tier == spec.name && !change.enabled;
    if objective.tiers.iter().any(is_off) {
        return "switched off".to_owned();
    }
    let factor = spec.factor(&objective.period);
    let rate = rounded(factor.to_f64());
    if factor.is_below_one() {
        format!("left out: burn rate {rate} would fire while the budget still lasts")
    } else {
        format!("left out: burn rate {rate} is above 1 / (1 - target), out of reach")
    }
}

fn active_text(tier: &Tier, options: &AlertOptions) -> String {
    let windows = format!("{} and {}", tier.spec.long.0, tier.spec.short.0);
    let rate = rounded(tier.factor.to_f64());
    let threshold = rounded(tier.factor.to_f64() * tier.allowed_ratio);
    let min_bad = match tier.options.min_bad {
        own if own != options.min_bad => format!("   min_bad {own}"),
        _ => String::new(),
    };
    format!("{windows:<11} burn rate {rate:<6} error ratio {threshold}{min_bad}")
}

/// The period with its zone, where it has one.
fn period_text(period: &Period) -> String {
    match period {
        Period::RollingDays(_) => period.to_string(),
        Period::Month(zone) | Period::Quarter(zone) => format!("{period} in {zone}"),
    }
}

/// Six digits behind the point at most; nothing is decided by it.
fn rounded(value: f64) -> String {
    let digits = format!("{value:.6}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}
