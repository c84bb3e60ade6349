//! Memory = fold(table): reading rows back into series.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::model::Counts;
use crate::slo::histogram::Histogram;
use crate::slo::sli::Slis;
use crate::state::{Key, RECENT_MINUTES, State};
use crate::table::read::SeriesRow;
use crate::table::schema::Grain;
use crate::table::{Added, Filter, Table, TableError};
use crate::time::Minute;

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
        if slis.further.is_empty() {
            continue;
        }
        table.for_each_sli(&filter, |row| {
            let at = Key { customer: row.customer, service: row.service, minute: row.minute };
            let sli = slis.further.iter().position(|sli| sli.name == row.sli);
            if let Some(sli) = sli.filter(|_| is_wanted(row.customer)) {
                state.fold_sli(at, sli, row.counts);
            }
        })?;
    }
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
    extreme_minute(table, Minute(0)..=not_after, Option::max)
}

/// The oldest counted minute.
///
/// # Errors
/// The table cannot be read.
pub fn oldest_minute(table: &Table) -> Result<Option<Minute>, TableError> {
    let first = |known: Option<Minute>, other: Option<Minute>| {
        known.map_or(other, |known| Some(other.map_or(known, |other| known.min(other))))
    };
    extreme_minute(table, Minute(0)..=Minute(u32::MAX), first)
}

fn extreme_minute(
    table: &Table,
    minutes: RangeInclusive<Minute>,
    better: fn(Option<Minute>, Option<Minute>) -> Option<Minute>,
) -> Result<Option<Minute>, TableError> {
    let filter =
        Filter { minutes: Some(minutes), columns: Some(vec!["minute"]), ..Filter::default() };
    let mut found = None;
    table.for_each_dimension(&filter, |row| found = better(found, Some(row.minute)))?;
    Ok(found)
}
