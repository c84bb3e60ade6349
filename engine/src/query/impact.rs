//! Who was hit in a range of minutes, and what caused it.
//!
//! A customer is hit who had a bad event by the default availability SLI in the range, on any
//! service. What it cost them is a share of their budget over the 30 days that end with the
//! range: `bad in the range / ((1 - target) * valid of the 30 days)`, by the target of their
//! first availability objective. Causes compare the values of the dimensions with the rest of
//! the same minutes ([`crate::slo::excess`]); those rows know no customers, so they count
//! everyone's events and give the totals.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rayon::prelude::*;

use crate::model::Counts;
use crate::query::body::{Cause, Impact, ImpactCustomer};
use crate::query::{AskError, Promise, check_order};
use crate::slo::budget;
use crate::slo::decimal::Decimal;
use crate::slo::excess::{self, Row};
use crate::slo::objective::{AVAILABILITY, TARGET_DEFAULT};
use crate::slo::window::{WINDOW_MINUTES_MAX, window_range};
use crate::state::series::Series;
use crate::time::Minute;

/// How many minutes before a range say what failed without the causes in it.
pub const MINUTES_BEFORE: u32 = 60;

/// What the grain `dimension` holds, all customers together.
#[derive(Clone, Copy, Debug)]
pub struct Dimensions<'a> {
    /// The names of the dimensions: `release`, `cohort`, `region`, `route`, and the attributes
    /// as they are configured.
    pub names: &'a [&'a str],
    /// The rows of the range and of the [`MINUTES_BEFORE`] minutes before it, in any order;
    /// several of one key are summed. Others are ignored.
    pub rows: &'a [Row<'a>],
}

/// The answer on a range of minutes, both ends included; its gaps are left for the caller, who
/// has the table. `series` hold at least those of every
/// customer who was hit, over the 30 days that end with the range.
///
/// # Errors
/// [`AskError::Argument`] where the range ends before it begins.
pub fn impact(
    promise: &Promise<'_>,
    series: &[&Series],
    dimensions: &Dimensions<'_>,
    minutes: &RangeInclusive<Minute>,
    as_of: Minute,
) -> Result<Impact, AskError> {
    let (from, to) = (*minutes.start(), *minutes.end());
    check_order(from, to)?;
    let customers = customers(promise, series, minutes);
    let (mut valid, mut bad) = (0, 0);
    for row in dimensions.rows.iter().filter(|row| minutes.contains(&row.minute)) {
        valid += row.valid;
        bad += row.bad;
    }
    Ok(Impact {
        partial: None,
        from: from.to_string(),
        to: to.to_string(),
        as_of: as_of.to_string(),
        valid,
        bad,
        gaps: Vec::new(),
        customers_hit: customers.len() as u64,
        customers,
        causes: causes(dimensions, minutes),
    })
}

/// What explains the failures of a range of minutes, the best explanation first.
pub fn causes(dimensions: &Dimensions<'_>, minutes: &RangeInclusive<Minute>) -> Vec<Cause> {
    let from = *minutes.start();
    let mut hour_before: BTreeMap<&str, Counts> = BTreeMap::new();
    for row in dimensions.rows {
        if (from.minus(MINUTES_BEFORE)..from).contains(&row.minute) {
            let counts = Counts { valid: row.valid, bad: row.bad, excluded: 0 };
            hour_before.entry(row.service).or_default().add(counts);
        }
    }
    let within = dimensions.rows.iter().filter(|row| minutes.contains(&row.minute));
    let rows: Vec<Row<'_>> = within.cloned().collect();
    excess::causes(dimensions.names, &rows, &hour_before).into_iter().map(cause).collect()
}

pub(super) fn cause(found: excess::Cause) -> Cause {
    Cause {
        dimensions: found.dimensions,
        valid: found.valid,
        bad: found.bad,
        excess: found.excess,
        share_of_excess: found.share_of_excess,
        lift: found.lift,
        p_value: found.p_value,
    }
}

/// Those who were hit: the most bad events first, then by name.
fn customers(
    promise: &Promise<'_>,
    series: &[&Series],
    minutes: &RangeInclusive<Minute>,
) -> Vec<ImpactCustomer> {
    let mut sorted: Vec<&Series> = series.to_vec();
    sorted.par_sort_unstable_by(|a, b| (&a.customer, &a.service).cmp(&(&b.customer, &b.service)));
    let groups: Vec<&[&Series]> = sorted.chunk_by(|a, b| a.customer == b.customer).collect();
    let hit = |group: &&[&Series]| customer(promise, group, minutes);
    let mut customers: Vec<ImpactCustomer> = groups.par_iter().filter_map(hit).collect();
    // The groups come by name and the sort is stable.
    customers.sort_by_key(|customer| std::cmp::Reverse(customer.bad));
    customers
}

/// `None` for a customer without a bad event in the range.
fn customer(
    promise: &Promise<'_>,
    group: &[&Series],
    minutes: &RangeInclusive<Minute>,
) -> Option<ImpactCustomer> {
    let cells = || group.iter().flat_map(|series| series.cells_in(minutes.clone()));
    let failing = || cells().filter(|cell| cell.measures.bad > 0).map(|cell| cell.minute);
    let (first, last) = (failing().min()?, failing().max()?);
    let bad = cells().map(|cell| cell.measures.bad).sum();
    let month = window_range(*minutes.end(), WINDOW_MINUTES_MAX);
    let valid_of_month = group.iter().map(|series| series.sum(month.clone()).valid).sum();
    let spent = Counts { valid: valid_of_month, bad, excluded: 0 };
    let customer = &*group[0].customer;
    Some(ImpactCustomer {
        customer: customer.to_owned(),
        valid: cells().map(|cell| cell.measures.valid).sum(),
        bad,
        budget_consumed: budget::burn_rate(spent, availability_target(promise, customer)),
        first: first.to_string(),
        last: last.to_string(),
    })
}

/// The target of the customer's first availability objective.
pub(super) fn availability_target(promise: &Promise<'_>, customer: &str) -> Decimal {
    let objectives = promise.objectives.resolve_customer(customer);
    let first = objectives.into_iter().find(|objective| objective.sli == AVAILABILITY);
    first.map_or(TARGET_DEFAULT, |objective| objective.target)
}
