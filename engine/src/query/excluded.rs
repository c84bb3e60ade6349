//! What is excluded, with the reasons: beside every statement that counts it as excluded.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::slo::exclusion::Exclusion;
use crate::time::Minute;

/// Minutes whose events are in no ratio.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Excluded {
    /// The first of them.
    pub from: String,
    /// The last one.
    pub to: String,
    /// Whose events; empty = everybody's.
    pub customers: Vec<String>,
    /// Of which services; empty = all.
    pub services: Vec<String>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Excluded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Excluded { from, to, customers, services, reason } = self;
        let names = |names: &[String], all: &str| match names.len() {
            0 => all.to_owned(),
            1..=3 => names.join(", "),
            count => format!("{count} of them"),
        };
        let (whose, which) = (names(customers, "everybody"), names(services, "all"));
        write!(
            formatter,
            "excluded: events of {from} to {to}, customers: {whose}, services: {which} ({reason})"
        )
    }
}

/// What `exclusions` leave out of some minutes, oldest first. Of one customer's statement only
/// what is about that customer, and no other's name.
pub fn excluded_in<'a>(
    exclusions: impl Iterator<Item = &'a Exclusion>,
    minutes: &RangeInclusive<Minute>,
    customer: Option<&str>,
) -> Vec<Excluded> {
    let mut found = Vec::new();
    for one in exclusions {
        let named = one.customers.as_ref();
        if customer.zip(named).is_some_and(|(customer, named)| !named.contains(customer)) {
            continue;
        }
        let customers: Vec<String> = match (named, customer) {
            (None, _) => Vec::new(),
            (Some(_), Some(customer)) => vec![customer.to_owned()],
            (Some(named), None) => named.iter().cloned().collect(),
        };
        for (first, last) in one.spans_in(*minutes.start(), *minutes.end()) {
            found.push(Excluded {
                from: first.to_string(),
                to: last.to_string(),
                customers: customers.clone(),
                services: one.services.clone(),
                reason: one.reason.clone(),
            });
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customers_statement_names_no_other_customer() {
        let one = |customers: &[&str], first| Exclusion {
            customers: Some(customers.iter().map(|name| (*name).to_owned()).collect()),
            services: vec![],
            spans: vec![(Minute(first), Minute(first + 9))],
            reason: "upgrade".into(),
        };
        let all = [one(&["acme", "globex"], 5), one(&["globex"], 0)];
        let of = |customer| excluded_in(all.iter(), &(Minute(0)..=Minute(7)), customer);
        assert_eq!(of(None).len(), 2);
        let acme = of(Some("acme"));
        assert_eq!((acme.len(), &acme[0].customers), (1, &vec!["acme".to_owned()]));
        assert_eq!(acme[0].to, Minute(7).to_string(), "cut off at the end of the month");
    }
}
