//! The bad events of an incident by cause, from the grain `failure`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::Parts;
use crate::query::attribution::Attribution;
use crate::query::body::Cause;
use crate::table::{Filter, Table, TableError};
use crate::time::Minute;

/// The bad events of a service in some minutes, both ends included, by cause: those of
/// `customers`, and how many others had.
///
/// # Errors
/// The table cannot be read.
pub fn parts(
    table: &Table,
    (service, customers): (&str, &BTreeSet<String>),
    minutes: &RangeInclusive<Minute>,
    (names, causes): (&[&str], &[Cause]),
) -> Result<Parts, TableError> {
    let attribution = Attribution::of(names, causes);
    let mut parts = Parts { by_cause: vec![0; causes.len()], ..Parts::default() };
    table.for_each_failure(&Filter::of_minutes(minutes.clone()), |row| {
        if row.service != service {
            return;
        }
        if !customers.contains(row.customer) {
            parts.others_bad += row.bad;
            if !parts.others.contains(row.customer) {
                parts.others.insert(row.customer.to_owned());
            }
            return;
        }
        match attribution.cause_of(&row.dimensions()) {
            Some(cause) => parts.by_cause[cause] += row.bad,
            None => parts.unexplained += row.bad,
        }
    })?;
    Ok(parts)
}
