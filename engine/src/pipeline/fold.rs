//! Memory = fold(table): reading rows back into series.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;

use crate::model::Counts;
use crate::slo::histogram::Histogram;
use crate::slo::sli::Slis;
use crate::state::snapshot::FLEET;
use crate::state::{Key, RECENT_MINUTES, State};
use crate::table::read::SeriesRow;
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
    fold_wanted(table, slis, need, (&wanted, added), state, &mut |_, _| {})
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

/// Folds the rows of `need` of whom is `wanted`, of the files of some entries alone where they
/// are given; the customer of `need` does not matter. `each` is shown every row of `series`
/// once it is folded, and may drop whole customers.
///
/// # Errors
/// As [`fold`].
pub fn fold_wanted(
    table: &Table,
    slis: &Slis,
    need: &Need,
    (wanted, added): (&Wanted<'_>, Option<&Added>),
    state: &mut State,
    each: &mut dyn FnMut(&SeriesRow<'_>, &mut State),
) -> Result<(), TableError> {
    let (scans, is_wanted) = wanted.scans();
    for customer in scans {
        let filter = Filter {
            days: Some(need.minutes.start().day()..=need.minutes.end().day()),
            minutes: Some(need.minutes.clone()),
            customer,
            added: added.cloned(),
            ..Filter::default()
        };
        fold_series(table, &filter, need, &is_wanted, &mut |row, latency| {
            let at = Key { customer: row.customer, service: row.service, minute: row.minute };
            state.fold_series(at, &row.measures, latency);
            each(&row, state);
        })?;
        if state.is_overloaded() {
            let (column, found) = ("latency_sum_us", "sums that do not fit 63 bits".to_owned());
            return Err(TableError::Value { grain: Grain::Series.name(), column, found });
        }
        fold_slis(table, slis, &filter, state, &|_, customer| is_wanted(customer))?;
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
    fold_series(table, filter, need, &|_: &str| true, &mut |row, latency| {
        let at = Key { customer: row.customer, service: row.service, minute: row.minute };
        if is_wanted(FLEET) {
            state.fold_fleet(at, &row.measures);
        }
        if is_wanted(state.shard_of(row.customer)) {
            state.fold_customer(at, &row.measures, latency);
        }
    })?;
    let of_part = |state: &State, customer: &str| is_wanted(state.shard_of(customer));
    fold_slis(table, slis, filter, state, &of_part)
}

/// Folds the rows of further SLIs that pass a filter, of the customers that are wanted.
fn fold_slis(
    table: &Table,
    slis: &Slis,
    filter: &Filter,
    state: &mut State,
    is_wanted: &dyn Fn(&State, &str) -> bool,
) -> Result<(), TableError> {
    if slis.further.is_empty() {
        return Ok(());
    }
    table.for_each_sli(filter, |row| {
        let at = Key { customer: row.customer, service: row.service, minute: row.minute };
        let sli = slis.further.iter().position(|sli| sli.name == row.sli);
        if let Some(sli) = sli.filter(|_| is_wanted(state, row.customer)) {
            state.fold_sli(at, sli, row.counts);
        }
    })?;
    Ok(())
}

/// Visits the wanted rows of the grain `series` with their histograms, where `need` asks for
/// them.
fn fold_series(
    table: &Table,
    filter: &Filter,
    need: &Need,
    is_wanted: &impl Fn(&str) -> bool,
    visit: &mut dyn FnMut(SeriesRow<'_>, Option<&Histogram>),
) -> Result<(), TableError> {
    let with_latency =
        |minute: Minute| need.histograms.as_ref().is_some_and(|minutes| minutes.contains(&minute));
    let mut damaged = None;
    table.for_each_series(filter, |row| {
        if !is_wanted(row.customer) {
            return;
        }
        let wanted = !row.latency.is_empty() && with_latency(row.minute);
        let histogram = wanted.then(|| Histogram::decode_v2(row.latency)).transpose();
        let histogram = histogram.unwrap_or_else(|error| {
            damaged = Some(format!("{:?} at {}: {error}", row.customer, row.minute));
            None
        });
        visit(row, histogram.as_ref());
    })?;
    let error = |found| TableError::Value { grain: Grain::Series.name(), column: "latency", found };
    damaged.map_or(Ok(()), |found| Err(error(found)))
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
        extreme_minute(table, day, Minute(0)..=not_after, Minute::max)
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
