//! Memory = fold(table): reading rows back into series.

use std::ops::RangeInclusive;

use crate::model::Counts;
use crate::slo::histogram::Histogram;
use crate::slo::sli::Slis;
use crate::state::{Key, RECENT_MINUTES, State};
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
    let filter = Filter {
        days: Some(need.minutes.start().day()..=need.minutes.end().day()),
        minutes: Some(need.minutes.clone()),
        customer: need.customer.clone(),
        added: added.cloned(),
        ..Filter::default()
    };
    let with_latency =
        |minute: Minute| need.histograms.as_ref().is_some_and(|minutes| minutes.contains(&minute));
    let mut damaged = None;
    table.for_each_series(&filter, |row| {
        let at = Key { customer: row.customer, service: row.service, minute: row.minute };
        let wanted = !row.latency.is_empty() && with_latency(row.minute);
        let histogram = wanted.then(|| Histogram::decode_v2(row.latency)).transpose();
        let histogram = histogram.unwrap_or_else(|error| {
            damaged = Some(format!("{:?} at {}: {error}", row.customer, row.minute));
            None
        });
        state.fold_series(at, &row.measures, histogram.as_ref());
    })?;
    if let Some(found) = damaged {
        return Err(TableError::Value { grain: Grain::Series.name(), column: "latency", found });
    }
    if slis.further.is_empty() {
        return Ok(());
    }
    table.for_each_sli(&filter, |row| {
        let at = Key { customer: row.customer, service: row.service, minute: row.minute };
        if let Some(sli) = slis.further.iter().position(|sli| sli.name == row.sli) {
            state.fold_sli(at, sli, row.counts);
        }
    })?;
    Ok(())
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
