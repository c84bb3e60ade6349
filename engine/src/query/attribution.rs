//! Bad events by cause: each belongs to the first cause whose values it has, or to none.
//!
//! Causes come in the order in which they were found, greedily: each explains what those before
//! it left, so an event that has the values of two is the first one's. So no event counts twice,
//! and what belongs to none is a rest with a name, never a share of the others.

use crate::query::body::Cause;

/// Some causes, ready to be held against the values of events.
#[derive(Clone, Debug, Default)]
pub struct Attribution {
    /// By cause, its values with their places among the dimensions.
    wanted: Vec<Vec<(usize, String)>>,
}

impl Attribution {
    /// Of `causes`, the best explanation first; `names` are the names of the dimensions.
    pub fn of(names: &[&str], causes: &[Cause]) -> Attribution {
        let place = |name: &str| names.iter().position(|known| *known == name);
        let values = |cause: &Cause| {
            // A name that is no dimension of this configuration has no events.
            let values = cause.dimensions.iter();
            values.map(|(name, value)| (place(name).unwrap_or(usize::MAX), value.clone())).collect()
        };
        Attribution { wanted: causes.iter().map(values).collect() }
    }

    /// The place of the cause that takes an event with these values, by dimension.
    pub fn cause_of(&self, values: &[&str]) -> Option<usize> {
        let has = |(place, value): &(usize, String)| values.get(*place) == Some(&value.as_str());
        self.wanted.iter().position(|wanted| wanted.iter().all(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_belongs_to_the_first_cause_that_it_has_all_values_of() {
        let cause = |values: &[(&str, &str)]| Cause {
            dimensions: values.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            valid: 0,
            bad: 0,
            excess: 0.0,
            share_of_excess: None,
            lift: None,
            p_value: 0.0,
        };
        let names = ["release", "cohort", "region"];
        let pair = cause(&[("release", "r42"), ("cohort", "canary")]);
        let causes = [pair, cause(&[("region", "eu")]), cause(&[("flag", "on")])];
        let attribution = Attribution::of(&names, &causes);
        let check = |values: [&str; 3], expect| assert_eq!(attribution.cause_of(&values), expect);
        check(["r42", "canary", "eu"], Some(0));
        check(["r42", "canary", "us"], Some(0));
        check(["r42", "stable", "eu"], Some(1));
        check(["r41", "canary", "us"], None);
        assert_eq!(Attribution::of(&names, &[]).cause_of(&["r42", "canary", "eu"]), None);
    }
}
