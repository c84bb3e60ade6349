//! Alert rules for Prometheus over the [gauges](super::gauges): what `ninefold rules` prints.
//!
//! One rule for each alert tier of each objective: both windows at or above
//! `factor * (1 - target)`, with the target taken from `slo:error_budget:ratio`, so that one rule
//! does for customers with different targets. Where objectives of one name differ in period, a
//! rule asks for its own by `slo:time_period:days`; where they differ in the factors of their
//! tiers, by the target as well. So a rule file names no customer, however many there are.
//!
//! Prometheus sees ratios, not counts: these rules know neither `min_bad` nor the evidence that
//! our own alerts ask for, and fire on the one failure of a customer with ten requests.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use crate::query::gauges::{ERROR_BUDGET, ERROR_RATIO, OBJECTIVE, PERIOD_DAYS};
use crate::slo::alert::{AlertOptions, Severity, Tier, tiers_of};
use crate::slo::decimal::Decimal;
use crate::slo::objective::Objectives;
use crate::time::DAY_MINUTES;

/// What names one SLO, whichever instance tells it: an alert is raised once for it.
const IDENTITY: &str = "sloth_id, sloth_service, sloth_slo, customer";

/// Two objectives that no rule can tell apart.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "objectives {name:?} over {days} days at {target} have different alert tiers, which rules \
     cannot tell apart: give one of them another name"
)]
pub struct AmbiguousTiers {
    name: String,
    days: u32,
    target: Decimal,
}

/// The objectives of one name and period whose tiers have the same factors.
struct Alike {
    tiers: Vec<Tier>,
    targets: Vec<Decimal>,
}

impl Alike {
    fn factors(&self) -> Vec<(&'static str, f64)> {
        factors(&self.tiers)
    }
}

fn factors(tiers: &[Tier]) -> Vec<(&'static str, f64)> {
    tiers.iter().map(|tier| (tier.spec.name, tier.factor.to_f64())).collect()
}

/// Objectives by name, then by the days of their period.
type Promises<'a> = BTreeMap<&'a str, BTreeMap<u32, Vec<Alike>>>;

/// A rule file in YAML: a group for each name of an objective, and one for Ninefold itself.
///
/// # Errors
/// Two objectives of one name, period and target have different tiers.
///
/// ```
/// use ninefold_engine::{query::rules::prometheus_rules, slo::alert::AlertOptions};
/// let rules = prometheus_rules(&Default::default(), &AlertOptions::default()).unwrap();
/// assert_eq!(rules.matches("- alert: NinefoldErrorBudgetBurn").count(), 5);
/// ```
pub fn prometheus_rules(
    objectives: &Objectives,
    options: &AlertOptions,
) -> Result<String, AmbiguousTiers> {
    let mut text = HEAD.to_owned();
    for (name, periods) in promises(objectives, options)? {
        let _ = writeln!(text, "- name: {}\n  rules:", json!(format!("ninefold-{name}")));
        for (days, alikes) in &periods {
            for alike in alikes {
                let mut conditions = String::new();
                // Rules that differ in their conditions alone would be one rule twice.
                let mut promise = format!("{days}d");
                if periods.len() > 1 {
                    conditions += &condition(name, PERIOD_DAYS, &[f64::from(*days)]);
                }
                if alikes.len() > 1 {
                    let targets = alike.targets.iter().map(|target| target.to_f64());
                    conditions += &condition(name, OBJECTIVE, &targets.collect::<Vec<_>>());
                    let targets: Vec<String> =
                        alike.targets.iter().map(ToString::to_string).collect();
                    promise += &format!(" at {}", targets.join(", "));
                }
                for tier in &alike.tiers {
                    text += &rule((name, &promise), tier, &conditions, options);
                }
            }
        }
    }
    text += SELF;
    Ok(text)
}

fn promises<'a>(
    objectives: &'a Objectives,
    options: &AlertOptions,
) -> Result<Promises<'a>, AmbiguousTiers> {
    let mut promises = Promises::new();
    for objective in objectives.all() {
        let (name, target) = (&objective.name, objective.target);
        let days = objective.period.minutes() / DAY_MINUTES;
        let tiers = tiers_of(objective, options).active;
        let alikes = promises.entry(name).or_default().entry(days).or_default();
        let own = factors(&tiers);
        let other = |alike: &&Alike| alike.factors() != own && alike.targets.contains(&target);
        if alikes.iter().any(|alike| other(&alike)) {
            return Err(AmbiguousTiers { name: name.clone(), days, target });
        }
        match alikes.iter_mut().find(|alike| alike.factors() == own) {
            Some(alike) if alike.targets.contains(&target) => {}
            Some(alike) => alike.targets.push(target),
            None => alikes.push(Alike { tiers, targets: vec![target] }),
        }
    }
    Ok(promises)
}

/// A gauge of the objectives of a name, the same one from several instances taken once.
fn gauge(metric: &str, name: &str) -> String {
    let slo = json!(format!("{}(/(?s:.+))?", regex_escaped(name)));
    format!("max by ({IDENTITY}) ({metric}{{sloth_slo=~{slo}}})")
}

fn condition(name: &str, metric: &str, values: &[f64]) -> String {
    let gauge = gauge(metric, name);
    let one = |value: &f64| format!("{gauge} == {value}");
    let any = values.iter().map(one).collect::<Vec<_>>().join("\n        or ");
    format!("      and (\n        {any}\n      )\n")
}

fn rule(
    (name, promise): (&str, &str),
    tier: &Tier,
    conditions: &str,
    options: &AlertOptions,
) -> String {
    let (factor, spec) = (tier.factor.to_f64(), &tier.spec);
    let budget = gauge(ERROR_BUDGET, name);
    let burns = |window: &str| {
        let ratio = gauge(&format!("{ERROR_RATIO}{window}"), name);
        format!("      (\n        {ratio}\n        >= {factor} * {budget}\n      )\n")
    };
    let (long, short, severity) = (spec.long.0, spec.short.0, spec.severity.name());
    let keep = match options.keep_firing_for_minutes {
        0 => String::new(),
        minutes => format!("    keep_firing_for: {minutes}m\n"),
    };
    let who = "{{ $labels.sloth_service }} {{ $labels.sloth_slo }}";
    let hurry = match spec.severity {
        Severity::Page => "somebody has to look now",
        Severity::Ticket => "somebody has to look in working hours",
    };
    format!(
        "  - alert: NinefoldErrorBudgetBurn
    expr: |
{long_burns}      and
{short_burns}{conditions}{keep}    labels:
      severity: {severity}
      sloth_severity: {severity}
      service: '{{{{ $labels.sloth_service }}}}'
      objective: {objective}
      promise: {promise}
      tier: {tier}
    annotations:
      summary: '{who} burns its error budget {factor} times as fast as it lasts, or faster.'
      description: '{{{{ $value | humanizePercentage }}}} of the requests of the last {long} \
         failed, and as many of the last {short}: {hurry}.'
",
        long_burns = burns(long),
        short_burns = burns(short),
        objective = json!(name),
        tier = spec.name,
    )
}

/// A text as a regular expression that matches it alone.
fn regex_escaped(text: &str) -> String {
    let escaped = |c: char| match c {
        c if c.is_ascii_punctuation() && c != '_' && c != '-' => format!("\\{c}"),
        c => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

const HEAD: &str = "\
# Alert rules over the slo: series of Ninefold, made by `ninefold rules`.
# They know ratios alone: no fewest number of failures, no evidence. Make them again when
# objectives or alert tiers change; a new customer needs nothing.
groups:
";

/// No rule fires on what is not there, so its absence is one.
const SELF: &str = "\
- name: ninefold
  rules:
  - alert: NinefoldAbsent
    expr: absent(slo:objective:ratio)
    for: 5m
    labels:
      severity: page
    annotations:
      summary: Prometheus has no objectives from Ninefold, so no alert on them can fire.
  - alert: NinefoldUncommitted
    expr: max by (instance) (ninefold_uncommitted_age_seconds) > 300
    for: 1m
    labels:
      severity: page
    annotations:
      summary: '{{ $labels.instance }} has not committed for {{ $value | humanizeDuration }}.'
  - alert: NinefoldNoEvents
    expr: time() - max(ninefold_as_of_timestamp_seconds) > 600
    labels:
      severity: ticket
    annotations:
      summary: The newest event counted is {{ $value | humanizeDuration }} old.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::objective::{Objective, TierOverride};
    use crate::slo::period::Period;

    fn objective(target: &str, days: u32) -> Objective {
        Objective::availability(Decimal::parse(target).unwrap(), Period::RollingDays(days))
    }

    fn rules(of_customers: Vec<Objective>) -> Result<String, AmbiguousTiers> {
        let mut objectives = Objectives::default();
        for (index, objective) in of_customers.into_iter().enumerate() {
            objectives.customers.insert(format!("c{index}"), vec![objective]);
        }
        prometheus_rules(&objectives, &AlertOptions::default())
    }

    #[test]
    fn one_rule_per_tier_does_for_all_targets() {
        let alone = rules(vec![]).unwrap();
        assert_eq!(rules(vec![objective("0.9995", 30)]).unwrap(), alone);
        assert!(!alone.contains(PERIOD_DAYS) && !alone.contains("c0"), "{alone}");
        assert!(alone.contains(">= 14.4 * max by"), "{alone}");
    }

    #[test]
    fn periods_and_factors_that_differ_are_told_apart_by_what_is_promised() {
        let week = rules(vec![objective("0.99", 7)]).unwrap();
        assert!(
            week.contains("slo:time_period:days{sloth_slo=~\"availability(/(?s:.+))?\"}) == 7")
        );
        // rollout_5m, page_1h and page_6h are the tiers of a week.
        assert_eq!(week.matches("- alert: NinefoldErrorBudgetBurn").count(), 5 + 3);
        let own = TierOverride {
            tier: "page_1h".into(),
            enabled: true,
            factor: Some(Decimal::parse("10").unwrap()),
            min_bad: None,
        };
        let strict = Objective { tiers: vec![own.clone()], ..objective("0.999", 30) };
        let text = rules(vec![strict]).unwrap();
        assert!(
            text.contains("slo:objective:ratio{sloth_slo=~\"availability(/(?s:.+))?\"}) == 0.999")
        );
        assert!(text.contains(">= 10 * max by"));
        let same = Objective { tiers: vec![own], ..objective("0.998", 30) };
        let error = rules(vec![same]).unwrap_err().to_string();
        assert!(error.contains("\"availability\" over 30 days at 0.998"), "{error}");
    }

    #[test]
    fn a_name_is_itself_alone_in_an_expression() {
        assert_eq!(regex_escaped("a.b-c_d|\"e"), "a\\.b-c_d\\|\\\"e");
        let gauge = gauge("m", "a.b");
        assert!(gauge.contains("{sloth_slo=~\"a\\\\.b(/(?s:.+))?\"}"), "{gauge}");
    }
}
