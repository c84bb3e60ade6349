//! The verdict on one value of a dimension: a release, a flag, a region.
//!
//! What is compared comes from the committed rows of the table, at most one commit interval old:
//! - of a release or cohort from the grain `series`: strata of minute, service and the
//!   customers' tier, units are customers;
//! - of a region, route or attribute from the grain `dimension`, which knows no customers:
//!   strata of minute, service and route, units are sets of the other dimensions. So neither
//!   their own customers' history nor one customer's trouble can be told apart there.
//!
//! The test itself is [`crate::slo::verdict`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::Measures;
use crate::query::impact::availability_target;
use crate::query::{Promise, body};
use crate::slo::budget::{allowed_ratio, budget_events};
use crate::slo::verdict::{Evidence, Observation, Verdict, judge};
use crate::slo::window::{WINDOW_MINUTES_MAX, window_range};
use crate::state::series::Series;
use crate::table::{Filter, Table, TableError};
use crate::time::{DAY_MINUTES, Minute};

/// How long before `to` the first minute of a candidate is looked for.
pub const SEEN_MINUTES: u32 = DAY_MINUTES;
/// How long the history before the candidate's first minute is.
pub const HISTORY_MINUTES: u32 = 120;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// `release`, `cohort`, `region`, `route` or the name of an attribute.
    pub name: &'a str,
    /// Its place among the dimensions, `release` being 0.
    pub dimension: usize,
    /// The value that is judged against all others.
    pub value: &'a str,
    /// One service alone.
    pub service: Option<&'a str>,
}

impl Candidate<'_> {
    /// Whether its rows know customers.
    fn knows_customers(&self) -> bool {
        self.dimension < 2
    }

    fn covers(&self, service: &str) -> bool {
        self.service.is_none_or(|wanted| wanted == service)
    }
}

/// The first minute of the candidate in the day that ends with `to`; `None` where it has none.
///
/// # Errors
/// The table cannot be read.
pub fn first_seen(
    table: &Table,
    candidate: &Candidate<'_>,
    to: Minute,
) -> Result<Option<Minute>, TableError> {
    let mut first: Option<Minute> = None;
    table.for_each_dimension(&Filter::of_minutes(window_range(to, SEEN_MINUTES)), |row| {
        let is_ours = row.dimensions()[candidate.dimension] == candidate.value;
        if is_ours && candidate.covers(row.service) && row.measures.valid > 0 {
            first = Some(first.map_or(row.minute, |known| known.min(row.minute)));
        }
    })?;
    Ok(first)
}

/// Releases whose first minute in the day that ends with `to` is one of the last `minutes`: those
/// that a running service asks about.
///
/// # Errors
/// The table cannot be read.
pub fn young_releases(table: &Table, to: Minute, minutes: u32) -> Result<Vec<String>, TableError> {
    let mut first: BTreeMap<String, Minute> = BTreeMap::new();
    table.for_each_dimension(
        &Filter::of_minutes(window_range(to, SEEN_MINUTES)),
        |row| match first.get_mut(row.release) {
            Some(known) => *known = row.minute.min(*known),
            None => {
                first.insert(row.release.to_owned(), row.minute);
            }
        },
    )?;
    let young = window_range(to, minutes);
    let is_young =
        |(release, first): &(String, Minute)| !release.is_empty() && young.contains(first);
    Ok(first.into_iter().filter(is_young).map(|(release, _)| release).collect())
}

/// The observations of a candidate, with the names of its units.
#[derive(Debug, Default)]
pub struct Sample {
    errors: Vec<Observation>,
    slow: Vec<Observation>,
    units: HashMap<String, u32>,
    strata: HashMap<(String, String), u32>,
}

impl Sample {
    fn add(&mut self, minute: Minute, names: [&str; 2], unit: &str, on: bool, counts: &Measures) {
        let next = self.units.len() as u32;
        let unit = match self.units.get(unit) {
            Some(known) => *known,
            None => *self.units.entry(unit.to_owned()).or_insert(next),
        };
        let next = self.strata.len() as u32;
        let names = names.map(str::to_owned);
        let stratum = *self.strata.entry(names.into()).or_insert(next);
        let of = |valid, bad| Observation { minute, stratum, unit, on, valid, bad };
        self.errors.push(of(counts.valid, counts.bad));
        if counts.timed > 0 {
            self.slow.push(of(counts.timed, counts.slow));
        }
    }
}

/// Reads what is compared, from [`HISTORY_MINUTES`] before `from` to `to`.
///
/// # Errors
/// The table cannot be read.
pub fn sample(
    table: &Table,
    promise: &Promise<'_>,
    candidate: &Candidate<'_>,
    from: Minute,
    to: Minute,
) -> Result<Sample, TableError> {
    let filter = Filter::of_minutes(from.minus(HISTORY_MINUTES)..=to);
    let mut sample = Sample::default();
    if candidate.knows_customers() {
        table.for_each_series(&filter, |row| {
            let value = [row.release, row.cohort][candidate.dimension];
            if candidate.covers(row.service) {
                let tier = promise.objectives.tier_of.get(row.customer).map_or("", String::as_str);
                let on = value == candidate.value;
                sample.add(row.minute, [row.service, tier], row.customer, on, &row.measures);
            }
        })?;
        return Ok(sample);
    }
    table.for_each_dimension(&filter, |row| {
        if candidate.covers(row.service) {
            let mut values = row.dimensions();
            let on = values[candidate.dimension] == candidate.value;
            // Units of the two sides are never the same: nobody knows whose events they are.
            values[candidate.dimension] = if on { "on" } else { "off" };
            let route = if candidate.name == "route" { "" } else { row.route };
            let unit = format!("{}\0{}", row.service, values.join("\0"));
            sample.add(row.minute, [row.service, route], &unit, on, &row.measures);
        }
    })?;
    Ok(sample)
}

/// The verdict from a sample. `series` hold at least those of its customers over the 30 days that
/// end with `to`, for what it cost them.
pub fn verdict(
    promise: &Promise<'_>,
    candidate: &Candidate<'_>,
    sample: &Sample,
    series: &[&Series],
    minutes: [Minute; 2],
    as_of: Minute,
) -> body::Verdict {
    let [from, to] = minutes;
    let hit = customers_hit(candidate, sample, from);
    let strictest = hit.iter().map(|customer| availability_target(promise, customer)).max();
    let target = strictest.unwrap_or_else(|| availability_target(promise, ""));
    let errors = judge(&sample.errors, from, Some(allowed_ratio(target)));
    let latency = (!sample.slow.is_empty()).then(|| judge(&sample.slow, from, None));
    let cost = budget_of(promise, &hit, series, to);
    let all = [Some(errors.verdict), latency.as_ref().map(|test| test.verdict)];
    body::Verdict {
        dimension: candidate.name.to_owned(),
        value: candidate.value.to_owned(),
        service: candidate.service.map(str::to_owned),
        from: from.to_string(),
        to: to.to_string(),
        as_of: as_of.to_string(),
        history_from: from.minus(HISTORY_MINUTES).to_string(),
        verdict: joined(all),
        customers_hit: candidate.knows_customers().then_some(hit.len() as u64),
        budget_consumed: (cost > 0.0).then(|| errors.excess.max(0.0) / cost),
        errors: test(errors),
        latency: latency.map(test),
    }
}

/// Bad if either is; good if all that were asked are.
fn joined(all: [Option<Verdict>; 2]) -> Verdict {
    let asked = || all.into_iter().flatten();
    if asked().any(|one| one == Verdict::Bad) {
        Verdict::Bad
    } else if asked().all(|one| one == Verdict::Good) {
        Verdict::Good
    } else {
        Verdict::Insufficient
    }
}

/// Customers with a bad event on the candidate's side, where customers are known.
fn customers_hit<'a>(
    candidate: &Candidate<'_>,
    sample: &'a Sample,
    from: Minute,
) -> BTreeSet<&'a str> {
    if !candidate.knows_customers() {
        return BTreeSet::new();
    }
    let is_hit = |o: &&Observation| o.on && o.bad > 0 && o.minute >= from;
    let hit: BTreeSet<u32> = sample.errors.iter().filter(is_hit).map(|o| o.unit).collect();
    let named = sample.units.iter().filter(|(_, unit)| hit.contains(unit));
    named.map(|(name, _)| name.as_str()).collect()
}

/// The error budget of some customers over the 30 days that end with `to`, in events.
fn budget_of(
    promise: &Promise<'_>,
    customers: &BTreeSet<&str>,
    series: &[&Series],
    to: Minute,
) -> f64 {
    let month = window_range(to, WINDOW_MINUTES_MAX);
    let budget = |series: &&&Series| {
        let target = availability_target(promise, &series.customer);
        budget_events(series.sum(month.clone()).valid, target)
    };
    series.iter().filter(|one| customers.contains(&*one.customer)).map(|one| budget(&one)).sum()
}

fn test(found: Evidence) -> body::VerdictTest {
    let [ratio_low, ratio_high] = found.interval;
    body::VerdictTest {
        verdict: found.verdict,
        control: found.control,
        valid: found.on.valid,
        bad: found.on.bad,
        rest_valid: found.off.valid,
        rest_bad: found.off.bad,
        e_bad: found.e_bad,
        e_good: found.e_good,
        e_kept: found.e_kept,
        ratio: found.ratio,
        ratio_low,
        ratio_high,
        ratio_before: found.ratio_before,
        ratio_allowed: found.ratio_allowed,
        dispersion: found.dispersion,
        excess: found.excess,
    }
}

/// What a running service knew of each candidate, to tell changes: asked every 10 s about the
/// [`young_releases`], it says what is new.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    known: BTreeMap<(String, String), Verdict>,
}

/// A candidate whose verdict has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The verdict before; `Insufficient` for one that was not known.
    pub before: Verdict,
    /// The answer that changed it.
    pub answer: body::Verdict,
}

impl Watch {
    /// Takes a newer answer; `Some` where its verdict is not the one before. A `bad` stands until
    /// the candidate is proven good: evidence that fades calls for no second roll-back.
    ///
    /// ```
    /// use ninefold_engine::query::verdict::Watch;
    /// assert!(Watch::default().forget("release", "r42").is_none());
    /// ```
    pub fn note(&mut self, answer: body::Verdict) -> Option<Change> {
        let name = (answer.dimension.clone(), answer.value.clone());
        let known = self.known.entry(name).or_insert(Verdict::Insufficient);
        let fades = *known == Verdict::Bad && answer.verdict == Verdict::Insufficient;
        if fades || *known == answer.verdict {
            return None;
        }
        let before = std::mem::replace(known, answer.verdict);
        Some(Change { before, answer })
    }

    /// Forgets a candidate that is young no more, and returns what was known of it.
    pub fn forget(&mut self, dimension: &str, value: &str) -> Option<Verdict> {
        self.known.remove(&(dimension.to_owned(), value.to_owned()))
    }
}
