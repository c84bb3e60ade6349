//! Who has fallen silent: customers who send far less than their own history makes expect.
//!
//! The test is [`crate::slo::silent`]; an event here is any counted one, excluded ones included,
//! since whatever arrives is no silence.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::slo::silent::{self, TOGETHER_MINUTES, Tally};
use crate::state::series::Series;
use crate::time::{DAY_MINUTES, Minute};

/// How far back the last event of a silent customer is looked for.
const SINCE_MINUTES: u32 = 7 * DAY_MINUTES;

/// How many of those who fell silent together are named.
pub const NAMES_MAX: usize = 10;

/// `silent`, `GET /v1/silent`: customers who send far less than they always do at this hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Silent {
    /// Newest minute that is in it.
    pub as_of: String,
    /// Whom the answer leaves out, where not all customers are in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// Services in which somebody would be missed, by name.
    pub services: Vec<SilentService>,
    /// Who is silent, those of whom most is to be expected first.
    pub customers: Vec<SilentCustomer>,
}

/// How many customers of a service are silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SilentService {
    /// Which component.
    pub service: String,
    /// Customers who would be missed within the hour.
    pub missed: u64,
    /// Those of them who fell silent within the last two hours.
    pub together: u64,
    /// Whether they are so many that it is no chance.
    pub are_many: bool,
}

/// A silent customer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SilentCustomer {
    /// Who.
    pub customer: String,
    /// In which component.
    pub service: String,
    /// The first minute without an event; `null` where that is more than a week ago.
    pub since: Option<String>,
    /// The shortest span in which they are missed, in minutes.
    pub span_minutes: u32,
    /// Events in that span.
    pub events: u64,
    /// What was to be expected in it at least, by the same hour of the weeks before.
    pub expected: f64,
    /// The probability of so few.
    pub p_value: f64,
}

/// How many customers of a service would be missed, and who of them fell silent together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Together {
    /// How many, by span; silent are those who fell so since the minute that was asked for.
    pub tally: Tally,
    /// [`NAMES_MAX`] of these, the first by name.
    pub names: Vec<String>,
}

impl Together {
    /// Adds those of other customers.
    pub fn add(&mut self, other: Together) {
        self.tally.add(other.tally);
        self.names.extend(other.names);
        self.names.sort_unstable();
        self.names.truncate(NAMES_MAX);
    }
}

/// The customers of `series` who are silent at the end of minute `at`, and the services in which
/// somebody would be missed.
pub fn silent(series: &[&Series], at: Minute) -> Silent {
    let looks: Vec<Looked<'_>> = series.par_iter().filter_map(|one| look(one, at)).collect();
    let mut services: BTreeMap<&str, Together> = BTreeMap::new();
    let lately = |_: &Series| at.minus(TOGETHER_MINUTES);
    for one in looks.iter().filter(|one| one.look.is_missed()) {
        services.entry(&one.series.service).or_default().add(one.together(&lately));
    }
    let service = |(service, found): (&str, Together)| {
        let (missed, together) = found.tally.within_hour();
        let are_many = found.tally.are_many();
        SilentService { service: service.to_owned(), missed, together, are_many }
    };
    let mut customers: Vec<SilentCustomer> = looks.iter().filter_map(Looked::body).collect();
    customers.sort_by(|a, b| {
        let rate = |one: &SilentCustomer| one.expected / f64::from(one.span_minutes);
        let names = || (&a.customer, &a.service).cmp(&(&b.customer, &b.service));
        rate(b).total_cmp(&rate(a)).then_with(names)
    });
    Silent {
        as_of: at.to_string(),
        partial: None,
        services: services.into_iter().map(service).collect(),
        customers,
    }
}

/// By service, of all `series`: who would be missed at the end of minute `at`, and who fell
/// silent after the minute that `since` says for a series of that service.
pub fn together<'a>(
    series: impl IntoParallelIterator<Item = &'a Series>,
    at: Minute,
    since: &(impl Fn(&Series) -> Minute + Sync),
) -> BTreeMap<String, Together> {
    let of_series = |series: &'a Series| {
        let one = look(series, at).filter(|one| one.look.is_missed())?;
        Some((series.service.to_string(), one.together(since)))
    };
    let add = |mut found: BTreeMap<String, Together>, (service, one): (String, Together)| {
        found.entry(service).or_default().add(one);
        found
    };
    let looked = series.into_par_iter().filter_map(of_series).fold(BTreeMap::new, add);
    looked.reduce(BTreeMap::new, |a, b| b.into_iter().fold(a, add))
}

/// A series in which something is to be expected.
struct Looked<'a> {
    series: &'a Series,
    look: silent::Look,
    /// The minute after the last one with an event, where they are silent; `None` where that is
    /// longer ago than is looked.
    since: Option<Minute>,
}

/// `None` of a series of which too little is to be expected to miss it.
fn look(series: &Series, at: Minute) -> Option<Looked<'_>> {
    let known_from = series.cells.first_minute()?;
    let look = silent::look(at, known_from, |minutes| {
        let sum = series.sum(minutes);
        sum.valid + sum.excluded
    });
    let since = look.silent.and_then(|_| {
        let last = series.cells_in(at.minus(SINCE_MINUTES)..=at).last();
        last.map(|cell| cell.minute.next())
    });
    (look != silent::Look::default()).then_some(Looked { series, look, since })
}

impl Looked<'_> {
    /// Of one who would be missed.
    fn together(&self, since: &impl Fn(&Series) -> Minute) -> Together {
        let lately = self.since.is_some_and(|known| known > since(self.series));
        let tally = Tally::of(&self.look, lately);
        let name = || self.series.customer.to_string();
        Together { tally, names: (tally.within_hour().1 > 0).then(name).into_iter().collect() }
    }

    fn body(&self) -> Option<SilentCustomer> {
        let silent = self.look.silent?;
        Some(SilentCustomer {
            customer: self.series.customer.to_string(),
            service: self.series.service.to_string(),
            since: self.since.map(|since| since.to_string()),
            span_minutes: silent.span_minutes,
            events: silent.events,
            expected: silent.expected,
            p_value: silent.p_value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Measures;
    use crate::state::{Key, State};

    const AT: Minute = Minute(29_409_120);

    /// 20 customers with five events a minute around this hour of three weeks; the first `gone`
    /// of them stop 20 minutes before the end.
    fn state(gone: u32) -> State {
        let mut state = State::new(1_000, 0, true, 1);
        let measures = Measures { valid: 5, ..Measures::default() };
        for nth in 0..20 {
            let customer = format!("c{nth:02}");
            for week in 0..3 {
                let end = AT.minus(week * 7 * DAY_MINUTES);
                let last = if week == 0 && nth < gone { end.minus(20) } else { Minute(end.0 + 90) };
                for minute in end.minus(500).0..=last.0.min(AT.0) {
                    let key = Key { customer: &customer, service: "api", minute: Minute(minute) };
                    state.fold_series(key, &measures, None);
                }
            }
        }
        state
    }

    #[test]
    fn one_who_stops_is_listed_and_many_at_once_are_many() {
        let one = state(1);
        let found = silent(&one.all_series(), AT);
        assert_eq!(found.customers.len(), 1, "{found:?}");
        assert_eq!(found.customers[0].customer, "c00");
        assert_eq!(found.customers[0].since, Some(AT.minus(19).to_string()));
        assert_eq!((found.customers[0].span_minutes, found.customers[0].events), (5, 0));
        let service = &found.services[0];
        assert_eq!((service.missed, service.together, service.are_many), (20, 1, false));

        let many = state(6);
        let found = silent(&many.all_series(), AT);
        let service = &found.services[0];
        assert_eq!((service.missed, service.together, service.are_many), (20, 6, true));
        assert_eq!(found.customers.len(), 6);
        let series = many.all_series();
        let before = together(series.clone(), AT, &|_| AT.minus(TOGETHER_MINUTES));
        assert_eq!(before["api"].tally.within_hour(), (20, 6));
        assert_eq!(before["api"].names, ["c00", "c01", "c02", "c03", "c04", "c05"]);
        let later = together(series, AT, &|_| AT.minus(19));
        assert_eq!(later["api"].tally.within_hour(), (20, 0), "since that minute");
        assert!(silent(&many.all_series(), AT.minus(20)).customers.is_empty());
    }

    #[test]
    fn whoever_is_new_is_not_missed() {
        let mut state = State::new(1_000, 0, true, 1);
        let measures = Measures { valid: 500, ..Measures::default() };
        for minute in AT.minus(8 * DAY_MINUTES).0..AT.minus(60).0 {
            let key = Key { customer: "new", service: "api", minute: Minute(minute) };
            state.fold_series(key, &measures, None);
        }
        let found = silent(&state.all_series(), AT);
        assert!(found.customers.is_empty() && found.services.is_empty(), "{found:?}");
    }
}
