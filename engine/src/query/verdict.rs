//! The verdict on one value of a dimension: a release, a flag, a region.
//!
//! What is compared comes from the committed rows of the table, at most one commit interval old:
//! - of a release or cohort from the grain `series`: strata of minute, service and the
//!   customers' tier, units are customers;
//! - of a region, route or attribute from the grain `dimension`, which knows no customers:
//!   strata of minute, service and route, units are sets of the other dimensions. So their own
//!   customers' history cannot be told apart there. One customer's trouble can: whose bad events
//!   they are, the grain `failure` says.
//!
//! The test itself is [`crate::slo::verdict`].

use std::collections::BTreeSet;

use crate::model::Measures;
use crate::query::impact::availability_target;
use crate::query::{Promise, body};
use crate::slo::budget::{allowed_ratio, budget_events};
use crate::slo::verdict::{Evidence, Observation, Verdict, judge, judge_sets};
use crate::slo::window::{WINDOW_MINUTES_MAX, window_range};
use crate::state::intern::Interner;
use crate::state::series::Series;
use crate::table::{Filter, Table, TableError};
use crate::time::{DAY_MINUTES, Minute};

/// How long before `to` the first minute of a candidate is looked for.
pub const SEEN_MINUTES: u32 = DAY_MINUTES;
/// How long the history before the candidate's first minute is.
pub const HISTORY_MINUTES: u32 = 120;

/// The columns that say what an event was, but for its customer.
pub(super) const DIMENSION_COLUMNS: [&str; 10] = [
    "minute",
    "service",
    "release",
    "cohort",
    "region",
    "route",
    "attribute_1",
    "attribute_2",
    "attribute_3",
    "attribute_4",
];

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
    /// Whether its valid events are known by customer.
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

/// The observations of a candidate, with the names of its units.
#[derive(Default)]
pub struct Sample {
    /// By minute, stratum, unit and side, each once; as all that follow.
    errors: Vec<Observation>,
    slow: Vec<Observation>,
    units: Units,
    /// Where units are sets of dimensions, what customers had and what failed of it.
    customers: Vec<Observation>,
    names: Units,
    strata: Interner,
    /// The first minute that is read: the begin of the history.
    history_from: Minute,
    /// So many observations of a measure stay; twice as many are held while it is read.
    observations_max: usize,
    /// Where a name is put together.
    name: String,
}

/// Names of which some are left out, by what they are called.
#[derive(Default)]
struct Units {
    numbers: Interner,
    /// How many there are for each one that is in it; 0 and 1 = all are.
    one_in: u32,
}

impl Units {
    fn number(&mut self, name: &str) -> Option<u32> {
        is_in(name, self.one_in).then(|| self.numbers.intern(name))
    }

    /// Leaves out every other one until there are at most so many observations of them.
    fn thin(&mut self, observations_max: usize, all: &mut [&mut Vec<Observation>]) {
        while all.iter().any(|rows| rows.len() > observations_max) {
            self.one_in = 2 * self.one_in.max(1);
            for rows in &mut *all {
                rows.retain(|o| is_in(self.numbers.text(o.unit), self.one_in));
            }
        }
    }
}

fn is_in(name: &str, one_in: u32) -> bool {
    one_in <= 1 || crc32fast::hash(name.as_bytes()).is_multiple_of(one_in)
}

impl Sample {
    /// An empty one of a candidate whose first minute is `from`. Where there would be more than
    /// `observations_max` observations of a measure, every other unit is left out, again and
    /// again; whether a unit is in follows from its name, so that one is in for all the time.
    pub fn new(from: Minute, observations_max: usize) -> Sample {
        let history_from = from.minus(HISTORY_MINUTES);
        Sample { history_from, observations_max, ..Sample::default() }
    }

    /// Whether it has to be settled before more is read.
    fn is_full(&self) -> bool {
        let longest = self.errors.len().max(self.customers.len());
        longest > self.observations_max.saturating_mul(2)
    }

    /// Takes in the events of a unit; it is named by several texts, as a stratum is.
    fn add(&mut self, minute: Minute, [stratum, unit]: [&[&str]; 2], on: bool, counts: &Measures) {
        if minute < self.history_from || counts.valid == 0 {
            return;
        }
        let Some(unit) = self.units.number(join(&mut self.name, unit)) else { return };
        let stratum = self.strata.intern(join(&mut self.name, stratum));
        let of = |valid, bad| Observation { minute, stratum, unit, on, valid, bad };
        self.errors.push(of(counts.valid, counts.bad));
        if counts.timed > 0 {
            self.slow.push(of(counts.timed, counts.slow));
        }
        if self.is_full() {
            self.settle();
        }
    }

    /// Takes in what a customer had, or what failed of it on one side.
    fn add_customer(&mut self, minute: Minute, customer: &str, on: bool, (valid, bad): (u64, u64)) {
        if minute >= self.history_from
            && let Some(unit) = self.names.number(join(&mut self.name, &[customer]))
        {
            self.customers.push(Observation { minute, stratum: 0, unit, on, valid, bad });
            if self.is_full() {
                self.settle();
            }
        }
    }

    /// Puts the observations of one key together, and leaves out what are too many.
    fn settle(&mut self) {
        let key = |o: &Observation| (o.minute, o.stratum, o.unit, o.on);
        for rows in [&mut self.errors, &mut self.slow, &mut self.customers] {
            // What was settled before is in order, which this sort makes use of.
            rows.sort_by_key(key);
            rows.dedup_by(|next, first| {
                let is_same = key(next) == key(first);
                if is_same {
                    (first.valid, first.bad) = (first.valid + next.valid, first.bad + next.bad);
                }
                is_same
            });
        }
        self.units.thin(self.observations_max, &mut [&mut self.errors, &mut self.slow]);
        self.names.thin(self.observations_max, &mut [&mut self.customers]);
    }
}

/// Writes texts behind each other, each with its end.
fn join<'a>(name: &'a mut String, texts: &[&str]) -> &'a str {
    name.clear();
    for text in texts {
        name.push_str(text);
        name.push('\0');
    }
    name
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
    let mut sample = Sample::new(from, usize::MAX);
    let filter = Filter::of_minutes(from.minus(HISTORY_MINUTES)..=to);
    read(table, promise, &filter, &mut [(*candidate, &mut sample)])?;
    Ok(sample)
}

/// Adds the rows that pass a filter to the samples of candidates.
///
/// # Errors
/// The table cannot be read; then the samples may have some of the rows.
pub fn read(
    table: &Table,
    promise: &Promise<'_>,
    filter: &Filter,
    samples: &mut [(Candidate<'_>, &mut Sample)],
) -> Result<(), TableError> {
    let columns = |columns: &[&'static str]| Filter {
        columns: Some([columns, &["valid", "bad", "timed", "slow"]].concat()),
        ..filter.clone()
    };
    let (mut of_customers, mut of_sets): (Vec<_>, Vec<_>) =
        samples.iter_mut().partition(|(candidate, _)| candidate.knows_customers());
    if !of_customers.is_empty() {
        let filter = columns(&["minute", "customer", "service", "release", "cohort"]);
        table.for_each_series(&filter, |row| {
            for (candidate, sample) in &mut of_customers {
                if candidate.covers(row.service) {
                    let tier = promise.objectives.tier_of.get(row.customer);
                    let stratum = [row.service, tier.map_or("", String::as_str)];
                    let on = [row.release, row.cohort][candidate.dimension] == candidate.value;
                    sample.add(row.minute, [&stratum, &[row.customer]], on, &row.measures);
                }
            }
        })?;
    }
    if !of_sets.is_empty() {
        table.for_each_dimension(&columns(&DIMENSION_COLUMNS), |row| {
            for (candidate, sample) in &mut of_sets {
                if candidate.covers(row.service) {
                    let mut values = row.dimensions();
                    let on = values[candidate.dimension] == candidate.value;
                    // Units of the two sides are never the same: nobody knows whose events they
                    // are.
                    values[candidate.dimension] = if on { "on" } else { "off" };
                    let route = if candidate.name == "route" { "" } else { row.route };
                    let stratum = [row.service, route];
                    sample.add(row.minute, [&stratum, &values], on, &row.measures);
                }
            }
        })?;
        read_customers(table, filter, &mut of_sets)?;
    }
    samples.iter_mut().for_each(|(_, sample)| sample.settle());
    Ok(())
}

/// Adds what customers had, and what failed of it on each side.
fn read_customers(
    table: &Table,
    filter: &Filter,
    samples: &mut [&mut (Candidate<'_>, &mut Sample)],
) -> Result<(), TableError> {
    let columns = Some(vec!["minute", "customer", "service", "valid"]);
    table.for_each_series(&Filter { columns, ..filter.clone() }, |row| {
        for (candidate, sample) in &mut *samples {
            if candidate.covers(row.service) && row.measures.valid > 0 {
                sample.add_customer(row.minute, row.customer, false, (row.measures.valid, 0));
            }
        }
    })?;
    let columns = Some([&["customer", "bad"], &DIMENSION_COLUMNS[..]].concat());
    table.for_each_failure(&Filter { columns, ..filter.clone() }, |row| {
        for (candidate, sample) in &mut *samples {
            if candidate.covers(row.service) {
                let on = row.dimensions()[candidate.dimension] == candidate.value;
                sample.add_customer(row.minute, row.customer, on, (0, row.bad));
            }
        }
    })?;
    Ok(())
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
    let (verdict, hit) = judged(promise, candidate, sample, minutes, as_of);
    let of_hit = series.iter().copied().filter(|one| hit.contains(&*one.customer));
    let budget_consumed = budget_consumed(promise, &verdict, of_hit, minutes[1]);
    body::Verdict { budget_consumed, ..verdict }
}

/// The verdict from a sample as it is up to the second of the minutes, without its cost; and the
/// customers with a bad event on the candidate's side.
pub fn judged(
    promise: &Promise<'_>,
    candidate: &Candidate<'_>,
    sample: &Sample,
    [from, to]: [Minute; 2],
    as_of: Minute,
) -> (body::Verdict, BTreeSet<String>) {
    let [errors, slow, customers] = [&sample.errors, &sample.slow, &sample.customers]
        .map(|rows| &rows[..rows.partition_point(|o| o.minute <= to)]);
    let hit = match candidate.knows_customers() {
        true => customers_hit(errors, &sample.units, from),
        false => customers_hit(customers, &sample.names, from),
    };
    let strictest = hit.iter().map(|customer| availability_target(promise, customer)).max();
    let target = strictest.unwrap_or_else(|| availability_target(promise, ""));
    let errors = judge_sets(errors, customers, from, Some(allowed_ratio(target)));
    let latency = (!slow.is_empty()).then(|| judge(slow, from, None));
    let all = [Some(errors.verdict), latency.as_ref().map(|test| test.verdict)];
    let verdict = body::Verdict {
        dimension: candidate.name.to_owned(),
        value: candidate.value.to_owned(),
        service: candidate.service.map(str::to_owned),
        from: from.to_string(),
        to: to.to_string(),
        as_of: as_of.to_string(),
        history_from: from.minus(HISTORY_MINUTES).to_string(),
        one_in: Some(sample.units.one_in).filter(|one_in| *one_in > 1),
        verdict: joined(all),
        customers_hit: Some(hit.len() as u64),
        budget_consumed: None,
        errors: test(errors),
        latency: latency.map(test),
    };
    (verdict, hit)
}

/// The excess of a verdict as a share of the error budget of the customers hit, whose `series`
/// these are, over the 30 days that end with `to`; `None` where they have none.
pub fn budget_consumed<'a>(
    promise: &Promise<'_>,
    verdict: &body::Verdict,
    series: impl Iterator<Item = &'a Series>,
    to: Minute,
) -> Option<f64> {
    let month = window_range(to, WINDOW_MINUTES_MAX);
    let budget = |series: &Series| {
        let target = availability_target(promise, &series.customer);
        budget_events(series.sum(month.clone()).valid, target)
    };
    let all: f64 = series.map(budget).sum();
    (all > 0.0).then(|| verdict.errors.excess.max(0.0) / all)
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

/// Customers with a bad event on the candidate's side.
fn customers_hit(rows: &[Observation], names: &Units, from: Minute) -> BTreeSet<String> {
    let is_hit = |o: &&Observation| o.on && o.bad > 0 && o.minute >= from;
    let units: BTreeSet<u32> = rows.iter().filter(is_hit).map(|o| o.unit).collect();
    let name = |unit: u32| {
        let joined = names.numbers.text(unit);
        joined.strip_suffix('\0').unwrap_or(joined).to_owned()
    };
    units.into_iter().map(name).collect()
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
        bad_from: found.bad_from.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten minutes of so many customers, each of whom has the same in two parts.
    fn sample(customers: u32, observations_max: usize) -> Sample {
        let mut sample = Sample::new(Minute(HISTORY_MINUTES), observations_max);
        for customer in (0..customers).flat_map(|n| [n, n]) {
            for minute in 0..10 {
                let counts = Measures { valid: 3, bad: 1, ..Measures::default() };
                let unit = format!("c{customer}");
                sample.add(Minute(minute), [&["api", ""], &[&unit]], minute < 5, &counts);
            }
        }
        sample.settle();
        sample
    }

    #[test]
    fn parts_of_one_key_are_one_observation() {
        let sample = sample(50, 500);
        assert_eq!(sample.errors.len(), 500);
        assert!(sample.errors.iter().all(|o| (o.valid, o.bad) == (6, 2)));
        assert!(sample.errors.is_sorted_by_key(|o| (o.minute, o.stratum, o.unit, o.on)));
    }

    #[test]
    fn a_sample_that_is_too_large_keeps_whole_customers_and_says_so() {
        let mut thinned = sample(1_000, 3_000);
        let units: BTreeSet<u32> = thinned.errors.iter().map(|o| o.unit).collect();
        assert_eq!(thinned.errors.len(), 10 * units.len(), "all minutes of each");
        assert!((150..=300).contains(&units.len()) && thinned.units.one_in == 4, "{}", units.len());
        // Who was left out stays out.
        let before = thinned.errors.len();
        for customer in 0..1_000 {
            let counts = Measures { valid: 1, ..Measures::default() };
            let unit = format!("c{customer}");
            thinned.add(Minute(0), [&["api", ""], &[&unit]], true, &counts);
        }
        thinned.settle();
        assert_eq!(thinned.errors.len(), before);
        assert_eq!(thinned.units.one_in, 4);
        let small = sample(10, 3_000);
        assert_eq!((small.errors.len(), small.units.one_in), (100, 0));
    }
}
