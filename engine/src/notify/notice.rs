//! What a receiver may be told of: one thing with a key and a state, whatever it is.
//!
//! Invariants: `fingerprint` names the thing for ever, `id` one time that it was on; neither
//! changes with what is measured. Values stand in `values` and `details`, never in the key. Pure.

use serde_json::Value;

use super::matcher::Scope;
use crate::query::body::{AlertTransition, AlertWindow, Cause, Incident, Judgement, Verdict};
use crate::time::parse_rfc3339;

/// A notice of one series and tier.
pub const ALERT: &str = "alert";

/// A notice of what the alerts of many series fold into.
pub const INCIDENT: &str = "incident";

/// A notice that a release or a flag has turned out bad.
pub const VERDICT: &str = "verdict";
/// The tier of the alert that many customers fell silent together.
pub const SILENCE: &str = "silence";

/// The state of what is on.
pub const FIRING: &str = "firing";

/// The newest state of an alert, or of anything else that begins and ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Under which key our JSON shows `details`: `alert`, `incident` or `verdict`.
    pub subject: &'static str,
    /// What a receiver merges by.
    pub fingerprint: String,
    /// This time that it is on.
    pub id: String,
    /// [`FIRING`] while it lasts; any other says that it is over, and how.
    pub state: String,
    /// Grows where something has changed that is to be told under the same id and state.
    pub revision: u64,
    /// Since when it is in this state, RFC 3339.
    pub at: String,
    /// Whom and what it is about.
    pub scope: Scope,
    /// One line for a person who was just woken.
    pub summary: String,
    /// What was measured, by name, for people.
    pub values: Vec<(&'static str, String)>,
    /// All that is known, for programs.
    pub details: Value,
}

impl Notice {
    /// Of an alert of a customer in `customer_tier` (empty = in none; of a pool, its name), or of
    /// the incident or the verdict that it stands for.
    pub fn of_alert(transition: &AlertTransition, customer_tier: &str) -> Notice {
        let AlertTransition { customer, service, objective, tier, severity, .. } = transition;
        let AlertTransition { state, at, id, fingerprint, long, short, .. } = transition;
        let scope = Scope {
            customer: customer.clone(),
            service: service.clone(),
            objective: objective.clone(),
            tier: tier.clone(),
            severity: severity.clone(),
            customer_tier: customer_tier.to_owned(),
        };
        if let Some(incident) = &transition.incident {
            return Notice { scope, ..of_incident(transition, incident) };
        }
        if let Some(judgement) = &transition.verdict {
            return Notice { scope, ..of_verdict(transition, judgement) };
        }
        Notice {
            subject: ALERT,
            fingerprint: fingerprint.clone(),
            id: id.clone(),
            state: state.clone(),
            revision: 0,
            at: at.clone(),
            summary: summary(transition),
            values: match tier.as_str() {
                SILENCE => vec![("customers", silent(long))],
                _ => vec![("long", window(long)), ("short", window(short))],
            },
            details: serde_json::to_value(transition).expect("a transition is plain data"),
            scope,
        }
    }

    /// Whether it lasts.
    pub fn is_firing(&self) -> bool {
        self.state == FIRING
    }

    /// `at` in epoch milliseconds.
    pub fn at_ms(&self) -> i64 {
        parse_rfc3339(self.at.as_bytes()).unwrap_or(i64::MIN)
    }

    /// What is told: once for each of these.
    pub fn name(&self) -> Name {
        Name { id: self.id.clone(), state: self.state.clone(), revision: self.revision }
    }
}

/// One state of one time that something was on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Which time.
    pub id: String,
    /// Which state.
    pub state: String,
    /// Which revision of it.
    pub revision: u64,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.id, self.state)?;
        if self.revision > 0 { write!(f, "-{}", self.revision) } else { Ok(()) }
    }
}

/// An incident that comes again under its id is told again, as a further revision.
fn of_incident(transition: &AlertTransition, incident: &Incident) -> Notice {
    let AlertTransition { state, at, id, fingerprint, .. } = transition;
    let worst = incident.worst.iter().map(|one| one.customer.as_str()).collect::<Vec<_>>();
    let cause = |cause: &Cause| {
        let values = cause.dimensions.iter().map(|(name, value)| format!("{name}={value}"));
        values.collect::<Vec<_>>().join(" ")
    };
    let causes = incident.causes.iter().map(cause).collect::<Vec<_>>();
    let values = vec![
        ("customers", incident.customers.to_string()),
        ("requests", format!("{} of {} bad", incident.bad, incident.valid)),
        ("worst", worst.join(", ")),
        ("causes", causes.join("; ")),
    ];
    Notice {
        subject: INCIDENT,
        fingerprint: fingerprint.clone(),
        id: id.clone(),
        state: state.clone(),
        revision: u64::from(incident.reopened),
        at: at.clone(),
        scope: Scope::default(),
        summary: incident.summary.clone(),
        values,
        details: serde_json::to_value(incident).expect("an incident is plain data"),
    }
}

fn of_verdict(transition: &AlertTransition, judgement: &Judgement) -> Notice {
    let AlertTransition { state, at, id, fingerprint, .. } = transition;
    let Verdict { dimension, value, errors, latency, budget_consumed, .. } = &judgement.verdict;
    let mut values = vec![
        ("candidate", format!("{dimension}={value}")),
        ("requests", format!("{} of {} bad", errors.bad, errors.valid)),
    ];
    let slow = latency.as_ref().map(|test| format!("{} of {} slow", test.bad, test.valid));
    values.extend(slow.map(|slow| ("latency", slow)));
    let budget = budget_consumed.map(|share| format!("{:.1}% of 30 days", 100.0 * share));
    values.extend(budget.map(|budget| ("budget", budget)));
    Notice {
        subject: VERDICT,
        fingerprint: fingerprint.clone(),
        id: id.clone(),
        state: state.clone(),
        revision: 0,
        at: at.clone(),
        scope: Scope::default(),
        summary: judgement.summary.clone(),
        values,
        details: serde_json::to_value(judgement).expect("a judgement is plain data"),
    }
}

fn summary(transition: &AlertTransition) -> String {
    let AlertTransition { customer, pool, service, objective, tier, state, long, .. } = transition;
    let whom = match pool.as_deref() {
        _ if tier == SILENCE => return format!("{service}: {tier} {state}: {}", silent(long)),
        None => customer.clone(),
        Some("") => "customers in no pool".to_owned(),
        Some(pool) => format!("pool {pool}"),
    };
    format!("{whom} / {service}: {objective} {state} ({tier}): {}", window(long))
}

/// Of the alert of that name the windows count customers.
fn silent(AlertWindow { window, valid, bad, .. }: &AlertWindow) -> String {
    format!("{bad} of {valid} customers fell silent together in {window}")
}

fn window(AlertWindow { window, valid, bad, burn_rate }: &AlertWindow) -> String {
    let burn_rate = burn_rate.map_or("nothing".to_owned(), |rate| format!("{rate:.1} x budget"));
    format!("{bad} of {valid} requests bad in {window}, burning {burn_rate}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_many(pool: Option<&str>, tier: &str) -> Notice {
        let window = AlertWindow { window: "1h".into(), valid: 20, bad: 6, burn_rate: Some(150.0) };
        let transition = AlertTransition {
            id: "i".into(),
            fingerprint: "f".into(),
            customer: String::new(),
            pool: pool.map(str::to_owned),
            service: "api".into(),
            objective: "availability".into(),
            tier: tier.into(),
            severity: "page".into(),
            state: FIRING.into(),
            basis: "live".into(),
            at: "2026-11-01T00:00:00Z".into(),
            long: window.clone(),
            short: window,
            factor: 14.4,
            incident: None,
            verdict: None,
        };
        Notice::of_alert(&transition, pool.unwrap_or_default())
    }

    #[test]
    fn what_is_of_many_says_of_whom() {
        let bad = "6 of 20 requests bad in 1h, burning 150.0 x budget";
        let firing = "api: availability firing (page_1h)";
        let check = |pool, expect: &str| {
            assert_eq!(
                of_many(Some(pool), "page_1h").summary,
                format!("{expect} / {firing}: {bad}")
            );
        };
        check("gold", "pool gold");
        check("", "customers in no pool");
        let silence = of_many(None, SILENCE);
        let many = "6 of 20 customers fell silent together in 1h";
        assert_eq!(silence.summary, format!("api: silence firing: {many}"));
        assert_eq!(silence.values, [("customers", many.to_owned())]);
    }
}
