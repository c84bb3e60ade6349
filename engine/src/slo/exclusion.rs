//! Exclusions: minutes whose events count in no ratio, by customer and service.
//!
//! What comes (maintenance windows of the configuration) is excluded as it is counted; what was
//! counted before is excluded by a correction, which every reader applies to the rows that it
//! reads. Both say the same of an event: its own minute decides, so that a late one is excluded
//! too, and nothing that is excluded twice changes twice.
//!
//! An excluded event is `excluded` by every SLI that would judge it, and is not timed. Nothing is
//! lost: `valid + excluded` stays what it was.

use std::collections::BTreeSet;

use crate::model::Measures;
use crate::time::Minute;

/// Some minutes of some customers and services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// Whose events; `None` = everybody's.
    pub customers: Option<BTreeSet<String>>,
    /// Of which services; empty = all.
    pub services: Vec<String>,
    /// First and last minute of each span, both included; sorted, without overlaps.
    pub spans: Vec<(Minute, Minute)>,
    /// Why, for people.
    pub reason: String,
}

impl Exclusion {
    /// Whether events of this customer and service in this minute are excluded.
    ///
    /// ```
    /// use ninefold_engine::slo::exclusion::Exclusion;
    /// use ninefold_engine::time::Minute;
    /// let night = Exclusion {
    ///     customers: None,
    ///     services: vec!["api".into()],
    ///     spans: vec![(Minute(60), Minute(119)), (Minute(1500), Minute(1559))],
    ///     reason: "database upgrade".into(),
    /// };
    /// assert!(night.covers(Minute(119), "acme", "api"));
    /// assert!(!night.covers(Minute(120), "acme", "api"));
    /// assert!(!night.covers(Minute(1500), "acme", "inbox"));
    /// ```
    pub fn covers(&self, minute: Minute, customer: &str, service: &str) -> bool {
        self.covers_minute(minute)
            && (self.services.is_empty() || self.services.iter().any(|one| one == service))
            && self.customers.as_ref().is_none_or(|customers| customers.contains(customer))
    }

    /// Whether everybody's events of this service in this minute are excluded: what can be said
    /// of rows that hold all customers together.
    pub fn covers_everybody(&self, minute: Minute, service: &str) -> bool {
        self.customers.is_none() && self.covers(minute, "", service)
    }

    /// The spans that touch some minutes, cut off at their ends.
    pub fn spans_in(&self, first: Minute, last: Minute) -> impl Iterator<Item = (Minute, Minute)> {
        let touching = self.spans.iter().filter(move |span| span.0 <= last && span.1 >= first);
        touching.map(move |span| (span.0.max(first), span.1.min(last)))
    }

    fn covers_minute(&self, minute: Minute) -> bool {
        let after = self.spans.partition_point(|span| span.0 <= minute);
        after > 0 && minute <= self.spans[after - 1].1
    }
}

/// Sorts spans and joins those that overlap or touch.
pub fn joined(mut spans: Vec<(Minute, Minute)>) -> Vec<(Minute, Minute)> {
    spans.sort_unstable();
    let mut joined: Vec<(Minute, Minute)> = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match joined.last_mut() {
            Some(before) if first.0 <= before.1.0.saturating_add(1) => {
                before.1 = before.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// What is left of measures that are excluded.
pub fn excluded_measures(measures: &Measures) -> Measures {
    Measures { excluded: measures.valid + measures.excluded, ..Measures::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_joined_where_they_touch_and_found_at_their_ends() {
        let span = |first, last| (Minute(first), Minute(last));
        let spans = joined(vec![span(20, 29), span(0, 4), span(5, 9), span(25, 26)]);
        assert_eq!(spans, [span(0, 9), span(20, 29)]);
        let one = Exclusion { customers: None, services: vec![], spans, reason: String::new() };
        for minute in 0..40 {
            let expect = minute < 10 || (20..30).contains(&minute);
            assert_eq!(one.covers(Minute(minute), "c", "s"), expect, "{minute}");
        }
        let cut: Vec<_> = one.spans_in(Minute(3), Minute(20)).collect();
        assert_eq!(cut, [span(3, 9), span(20, 20)]);
    }

    #[test]
    fn nobody_is_not_everybody() {
        let spans = vec![(Minute(0), Minute(9))];
        let customers = Some(BTreeSet::new());
        let nobody = Exclusion { customers, services: vec![], spans, reason: String::new() };
        assert!(!nobody.covers(Minute(0), "c", "s"));
        assert!(!nobody.covers_everybody(Minute(0), "s"));
    }
}
