//! What routes and silences pick by: whom and what a notice is about.
//!
//! A matcher is a list of names for each label; an empty list picks all. A name may hold `*` for
//! any text. Pure.

use serde::{Deserialize, Serialize};

use crate::slo::sli::glob;

/// Whom and what a notice is about; a text that does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Whose alert; empty for an incident, for a pool and for a silence, which are of many.
    pub customer: String,
    /// On which component.
    pub service: String,
    /// Of which objective.
    pub objective: String,
    /// By which alert tier, such as `page_1h`.
    pub tier: String,
    /// `page` or `ticket`.
    pub severity: String,
    /// The customer's tier of the configuration, or the name of the pool; empty = none.
    pub customer_tier: String,
}

/// The labels of a scope, by which it can be grouped and picked.
pub const LABELS: [&str; 6] =
    ["customer", "service", "objective", "tier", "severity", "customer_tier"];

impl Scope {
    /// The value of one of [`LABELS`]; empty for any other name.
    pub fn label(&self, name: &str) -> &str {
        match name {
            "customer" => &self.customer,
            "service" => &self.service,
            "objective" => &self.objective,
            "tier" => &self.tier,
            "severity" => &self.severity,
            "customer_tier" => &self.customer_tier,
            _ => "",
        }
    }
}

/// Picks scopes; the default one picks all.
///
/// ```
/// use ninefold_engine::notify::matcher::{Matcher, Scope};
/// let matcher = Matcher { customers: vec!["acme-*".into()], ..Matcher::default() };
/// let of = |customer: &str| Scope { customer: customer.into(), ..Scope::default() };
/// assert!(matcher.picks(&of("acme-eu")) && !matcher.picks(&of("globex")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    /// Customers, as all that follow: names where `*` is any text; empty = all.
    pub customers: Vec<String>,
    /// Services.
    pub services: Vec<String>,
    /// Objectives.
    pub objectives: Vec<String>,
    /// Alert tiers.
    pub tiers: Vec<String>,
    /// Severities.
    pub severities: Vec<String>,
    /// Tiers of customers.
    pub customer_tiers: Vec<String>,
}

impl Matcher {
    /// Whether every label is among the names that are asked for.
    pub fn picks(&self, scope: &Scope) -> bool {
        let lists = [
            &self.customers,
            &self.services,
            &self.objectives,
            &self.tiers,
            &self.severities,
            &self.customer_tiers,
        ];
        let picks = |(names, label): (&Vec<String>, &str)| {
            names.is_empty() || names.iter().any(|name| glob(name, scope.label(label)))
        };
        lists.into_iter().zip(LABELS).all(picks)
    }

    /// Whether it picks everything.
    pub fn picks_all(&self) -> bool {
        *self == Matcher::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_to_be_among_its_names() {
        let scope = Scope {
            customer: "acme".into(),
            service: "api".into(),
            tier: "page_1h".into(),
            severity: "page".into(),
            ..Scope::default()
        };
        let list = |name: &str| vec![name.to_owned()];
        assert!(Matcher::default().picks(&scope));
        let both =
            Matcher { services: list("api"), severities: list("page"), ..Matcher::default() };
        assert!(both.picks(&scope));
        assert!(!Matcher { services: list("inbox"), ..both.clone() }.picks(&scope));
        assert!(!Matcher { customer_tiers: list("gold"), ..both }.picks(&scope));
        for label in LABELS {
            assert_eq!(
                scope.label(label).is_empty(),
                ["objective", "customer_tier"].contains(&label)
            );
        }
    }
}
