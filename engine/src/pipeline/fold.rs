//! Memory = fold(table): reading rows back into series.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ops::RangeInclusive;

use rayon::prelude::*;

use crate::model::Counts;
use crate::slo::histogram::Histogram;
use crate::slo::sli::Slis;
use crate::state::snapshot::FLEET;
use crate::state::{Key, RECENT_MINUTES, SeriesBatch, State};
use crate::table::read::{SeriesPart, SeriesRow};
use crate::table::schema::Grain;
use crate::table::{Added, Filter, Table, TableError};
use crate::time::{Day, Minute};

/// What is to be folded.
#[derive(Clone, Debug)]
pub struct Need {
    /// One customer's series only.
    pub customer: Option<String>,
    /// Which minutes, both ends included.
    pub minutes: RangeInclusive<Minute>,
    /// Of which minutes latency histograms are wanted.
    pub histograms: Option<RangeInclusive<Minute>>,
}

/// Folds the rows of `need` into `state`.
///
/// # Errors
/// The table cannot be read, or a histogram in it is damaged.
pub fn fold(table: &Table, slis: &Slis, need: &Need, state: &mut State) -> Result<(), TableError> {
    fold_from(table, slis, need, None, state)
}

/// As [`fold`], of the files of some entries alone where they are given.
///
/// # Errors
/// As [`fold`].
pub fn fold_from(
    table: &Table,
    slis: &Slis,
    need: &Need,
    added: Option<&Added>,
    state: &mut State,
) -> Result<(), TableError> {
    let wanted = need.customer.as_ref().map_or(Wanted::All, |one| Wanted::of([one]));
    fold_wanted(table, slis, need, (&wanted, added), state, Watching::default())
}

/// Whose rows are folded.
pub enum Wanted<'a> {
    /// Everybody's.
    All,
    /// Those of a few, who are looked up one by one.
    Few(Vec<&'a str>),
    /// Those of many, who are picked from all rows.
    Many(HashSet<&'a str>),
}

/// How many customers are looked up one by one: a look-up reads a few pages of each file.
pub(super) const FEW: usize = 4;

impl<'a> Wanted<'a> {
    /// These customers.
    pub fn of(customers: impl IntoIterator<Item = &'a String>) -> Wanted<'a> {
        let customers: HashSet<&str> = customers.into_iter().map(String::as_str).collect();
        match customers.len() {
            0..=FEW => Wanted::Few(customers.into_iter().collect()),
            _ => Wanted::Many(customers),
        }
    }

    /// The customers of each scan, and whether a row of it is wanted.
    fn scans(&self) -> (Vec<Option<String>>, impl Fn(&str) -> bool) {
        let scans = match self {
            Wanted::Few(few) => few.iter().map(|one| Some((*one).to_owned())).collect(),
            Wanted::All | Wanted::Many(_) => vec![None],
        };
        (scans, move |customer: &str| match self {
            Wanted::Many(many) => many.contains(customer),
            Wanted::All | Wanted::Few(_) => true,
        })
    }
}

/// Who looks on while rows are folded; nobody by default.
#[derive(Default)]
pub struct Watching<'a> {
    /// Is shown every wanted row of `series`, on any thread; with its partition.
    pub each: Option<&'a (dyn Fn(&SeriesRow<'_>) + Sync)>,
    /// Is lent the state after every few thousand rows, and may drop whole customers.
    pub between: Option<&'a mut (dyn FnMut(&mut State) + Send)>,
}

/// How many files are read side by side, at most: each adds a batch to what is held at once.
const READ_MAX: usize = 8;

/// Folds the rows of `need` of whom is `wanted`, of the files of some entries alone where they
/// are given; the customer of `need` does not matter.
///
/// # Errors
/// As [`fold`].
pub fn fold_wanted(
    table: &Table,
    slis: &Slis,
    need: &Need,
    (wanted, added): (&Wanted<'_>, Option<&Added>),
    state: &mut State,
    mut watching: Watching<'_>,
) -> Result<(), TableError> {
    let (scans, is_wanted) = wanted.scans();
    for customer in scans {
        let filter =
            Filter { customer, added: added.cloned(), ..Filter::of_minutes(need.minutes.clone()) };
        fold_series(table, &filter, need, &is_wanted, state, &mut watching)?;
        if state.is_overloaded() {
            let (column, found) = ("latency_sum_us", "sums that do not fit 63 bits".to_owned());
            return Err(TableError::Value { grain: Grain::Series.name(), column, found });
        }
        if slis.further.is_empty() {
            continue;
        }
        for_each_further(table, slis, &filter, |at, sli, counts| {
            if is_wanted(at.customer) {
                state.fold_sli(at, sli, counts);
            }
        })?;
    }
    Ok(())
}

/// Folds the rows that pass a filter into those parts of a state, see
/// [`snapshot`](crate::state::snapshot), of which `is_wanted` says so.
///
/// # Errors
/// As [`fold`].
pub(super) fn fold_rows(
    table: &Table,
    slis: &Slis,
    (filter, need): (&Filter, &Need),
    state: &mut State,
    is_wanted: &dyn Fn(usize) -> bool,
) -> Result<(), TableError> {
    let mut damaged = None;
    table.for_each_series(filter, |row| {
        let at = Key { customer: row.customer, service: row.service, minute: row.minute };
        if is_wanted(FLEET) {
            state.fold_fleet(at, &row.measures);
        }
        if is_wanted(state.shard_of(row.customer)) {
            let latency = latency_of(&row, need).unwrap_or_else(|error| {
                damaged = Some(error);
                None
            });
            state.fold_customer(at, &row.measures, latency.as_ref());
        }
    })?;
    if slis.further.is_empty() {
        return damaged.map_or(Ok(()), Err);
    }
    for_each_further(table, slis, filter, |at, sli, counts| {
        if is_wanted(FLEET) {
            state.fold_sli_of_fleet(at, sli, counts);
        }
        if is_wanted(state.shard_of(at.customer)) {
            state.fold_sli_of_customer(at, sli, counts);
        }
    })?;
    damaged.map_or(Ok(()), Err)
}

/// Visits the rows of the configured further SLIs that pass a filter, each with its place.
fn for_each_further(
    table: &Table,
    slis: &Slis,
    filter: &Filter,
    mut visit: impl FnMut(Key<'_>, usize, Counts),
) -> Result<(), TableError> {
    table.for_each_sli(filter, |row| {
        let at = Key { customer: row.customer, service: row.service, minute: row.minute };
        if let Some(sli) = slis.further.iter().position(|sli| sli.name == row.sli) {
            visit(at, sli, row.counts);
        }
    })?;
    Ok(())
}

/// The latencies of a row, where `need` asks for them.
fn latency_of(row: &SeriesRow<'_>, need: &Need) -> Result<Option<Histogram>, TableError> {
    let wanted = need.histograms.as_ref().is_some_and(|minutes| minutes.contains(&row.minute));
    let histogram = (wanted && !row.latency.is_empty()).then(|| Histogram::decode_v2(row.latency));
    histogram.transpose().map_err(|error| {
        let found = format!("{:?} at {}: {error}", row.customer, row.minute);
        TableError::Value { grain: Grain::Series.name(), column: "latency", found }
    })
}

/// The columns of `series` that are folded, but for the latencies.
const COLUMNS: [&str; 10] = [
    "minute",
    "customer",
    "service",
    "valid",
    "bad",
    "excluded",
    "timed",
    "slow",
    "latency_sum_us",
    "latency_max_us",
];

/// Folds the wanted rows of the grain `series` with their histograms, where `need` asks for
/// them. While some rows are folded the next ones are read.
fn fold_series(
    table: &Table,
    filter: &Filter,
    need: &Need,
    is_wanted: &(impl Fn(&str) -> bool + Sync),
    state: &mut State,
    watching: &mut Watching<'_>,
) -> Result<(), TableError> {
    let mut parts = VecDeque::from(parts(table, filter, need, watching.each.is_some())?);
    let (seed, each) = (state.seed(), watching.each);
    let read = |part: &mut SeriesPart| -> Result<Option<SeriesBatch>, TableError> {
        let (mut batch, mut damaged) = (SeriesBatch::new(seed), None);
        let more = part.next_rows(|row| {
            if !is_wanted(row.customer) {
                return;
            }
            let histogram = latency_of(&row, need).unwrap_or_else(|error| {
                damaged = Some(error);
                None
            });
            let at = Key { customer: row.customer, service: row.service, minute: row.minute };
            batch.push(at, &row.measures, histogram);
            if let Some(each) = each {
                each(&row);
            }
        })?;
        damaged.map_or(Ok(more.then_some(batch)), Err)
    };
    let side_by_side = rayon::current_num_threads().min(READ_MAX);
    let mut reading: Vec<SeriesPart> = Vec::with_capacity(side_by_side);
    let mut next = || -> Result<Vec<SeriesBatch>, TableError> {
        loop {
            let room = side_by_side - reading.len();
            reading.extend(parts.drain(..room.min(parts.len())));
            let batches: Result<Vec<Option<SeriesBatch>>, TableError> =
                reading.par_iter_mut().map(&read).collect();
            let batches = batches?;
            let mut has_more = batches.iter().map(Option::is_some);
            reading.retain(|_| has_more.next() == Some(true));
            let batches: Vec<SeriesBatch> = batches.into_iter().flatten().collect();
            if !batches.is_empty() || (reading.is_empty() && parts.is_empty()) {
                return Ok(batches);
            }
        }
    };
    let mut batches = next()?;
    while !batches.is_empty() {
        let between = &mut watching.between;
        let (read, ()) = rayon::join(&mut next, || {
            state.fold_batches(&batches);
            if let Some(between) = between {
                between(state);
            }
        });
        batches = read?;
    }
    Ok(())
}

/// What is read of the grain `series`: latencies of no more days than they are wanted of.
fn parts(
    table: &Table,
    filter: &Filter,
    need: &Need,
    with_partition: bool,
) -> Result<Vec<SeriesPart>, TableError> {
    let columns: Vec<&str> =
        COLUMNS.into_iter().chain(with_partition.then_some("partition")).collect();
    let with_latency = columns.iter().copied().chain(["latency"]).collect();
    let (first, last) = (need.minutes.start().day(), need.minutes.end().day());
    let Some(latest) = &need.histograms else {
        return table.series_parts(&Filter { columns: Some(columns), ..filter.clone() });
    };
    let from = latest.start().day().max(first);
    let newer = Filter { columns: Some(with_latency), days: Some(from..=last), ..filter.clone() };
    let mut parts = Vec::new();
    if first < from {
        let days = Some(first..=Day(from.0 - 1).min(last));
        parts = table.series_parts(&Filter { columns: Some(columns), days, ..filter.clone() })?;
    }
    parts.extend(table.series_parts(&newer)?);
    Ok(parts)
}

/// Folds the last hours by dimension before `newest`, which explain what burns.
///
/// # Errors
/// The table cannot be read.
pub fn fold_recent(table: &Table, newest: Minute, state: &mut State) -> Result<(), TableError> {
    fold_dimensions(table, &Filter::of_minutes(recent_minutes(newest)), state)
}

/// The last hours before `newest`.
pub fn recent_minutes(newest: Minute) -> RangeInclusive<Minute> {
    newest.minus(RECENT_MINUTES - 1)..=newest
}

/// Folds the counts by dimension that pass a filter.
///
/// # Errors
/// The table cannot be read.
pub fn fold_dimensions(
    table: &Table,
    filter: &Filter,
    state: &mut State,
) -> Result<(), TableError> {
    table.for_each_dimension(filter, |row| {
        let (valid, bad, excluded) = (row.measures.valid, row.measures.bad, row.measures.excluded);
        let counts = Counts { valid, bad, excluded };
        state.fold_dimension(row.service, &row.dimensions(), row.minute, counts);
    })?;
    Ok(())
}

/// The newest counted minute that is not after `not_after`.
///
/// # Errors
/// The table cannot be read.
pub fn newest_minute(table: &Table, not_after: Minute) -> Result<Option<Minute>, TableError> {
    let days = counted_days(table)?;
    first_found(days.into_iter().rev().filter(|day| *day <= not_after.day()), |day| {
        // Where the log says how far the files go, their last minute is looked for first, which
        // spares reading the others.
        let from = table.last_minute_logged(Grain::Dimension, day)?.unwrap_or_default();
        let find = |from| extreme_minute(table, day, from..=not_after, Minute::max);
        match find(from)? {
            None if from > Minute(0) => find(Minute(0)),
            found => Ok(found),
        }
    })
}

/// The oldest counted minute.
///
/// # Errors
/// The table cannot be read.
pub fn oldest_minute(table: &Table) -> Result<Option<Minute>, TableError> {
    first_found(counted_days(table)?, |day| {
        extreme_minute(table, day, Minute(0)..=Minute(u32::MAX), Minute::min)
    })
}

/// The days that there are counts of.
fn counted_days(table: &Table) -> Result<BTreeSet<Day>, TableError> {
    let of_counts = |((grain, day), _): ((String, Option<Day>), usize)| {
        day.filter(|_| grain == Grain::Dimension.name())
    };
    Ok(table.file_counts()?.into_iter().filter_map(of_counts).collect())
}

/// What is found on the first day that has something.
fn first_found(
    days: impl IntoIterator<Item = Day>,
    mut find: impl FnMut(Day) -> Result<Option<Minute>, TableError>,
) -> Result<Option<Minute>, TableError> {
    days.into_iter().find_map(|day| find(day).transpose()).transpose()
}

fn extreme_minute(
    table: &Table,
    day: Day,
    minutes: RangeInclusive<Minute>,
    better: fn(Minute, Minute) -> Minute,
) -> Result<Option<Minute>, TableError> {
    let (days, columns) = (Some(day..=day), Some(vec!["minute"]));
    let filter = Filter { days, minutes: Some(minutes), columns, ..Filter::default() };
    let mut found: Option<Minute> = None;
    table.for_each_dimension(&filter, |row| {
        found = Some(found.map_or(row.minute, |known| better(known, row.minute)));
    })?;
    Ok(found)
}
