//! The columns that usual files have, in the types that an event takes: a row of them is an event
//! without a choice to make. What each value has to be, [`value`] says here too.

use std::borrow::Cow;

use arrow::array::StringViewArray;
use arrow::buffer::NullBuffer;

use super::super::value::{self, SLOTS, slot};
use super::{Column, Values, ms_of};
use crate::model::{Bare, Latency};

/// Those columns of some rows.
pub(super) struct Usual<'c> {
    names: &'c [String],
    /// Where one of the values is missing that a row has to have.
    doubts: Option<NullBuffer>,
    ts_ms: Cow<'c, [i64]>,
    customers: &'c StringViewArray,
    statuses: Option<&'c [i64]>,
    outcomes: Option<Optional<'c, StringViewArray>>,
    /// Empty where no event has one.
    latencies: Vec<Latency>,
    counts: Option<Optional<'c, [i64]>>,
    ids: Option<Optional<'c, StringViewArray>>,
}

/// The values of a field that a row may do without, and where it does.
type Optional<'c, T> = (&'c T, Option<&'c NullBuffer>);

impl<'c> Usual<'c> {
    /// `None` where a column has another type, or latencies have both of their columns.
    pub(super) fn of(columns: &'c [Column; SLOTS], names: &'c [String]) -> Option<Usual<'c>> {
        let statuses = integers(&columns[slot::STATUS])?;
        let needed = if statuses.is_some() { slot::STATUS } else { slot::OUTCOME };
        let nulls = |slot: usize| columns[slot].nulls.as_ref();
        let doubts = NullBuffer::union(nulls(slot::TS), nulls(slot::CUSTOMER));
        Some(Usual {
            names,
            doubts: NullBuffer::union(doubts.as_ref(), nulls(needed)),
            ts_ms: times(&columns[slot::TS])?,
            customers: texts(&columns[slot::CUSTOMER])??.0,
            statuses: statuses.map(|(statuses, _)| statuses),
            outcomes: texts(&columns[slot::OUTCOME])?,
            latencies: latencies(&columns[slot::LATENCY_MS], &columns[slot::LATENCY_US])?,
            counts: integers(&columns[slot::COUNT])?,
            ids: texts(&columns[slot::ID])?,
        })
    }

    /// The event of a row, but for its service and dimensions; `None` where it may be none.
    #[inline]
    pub(super) fn event(&self, row: usize) -> Option<Bare<'c>> {
        if self.doubts.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let name = |slot: usize| &self.names[slot];
        let status = self.statuses.map(|statuses| Some(statuses[row]));
        let count = present(self.counts, row).map(|counts| Some(counts[row]));
        let outcome = present(self.outcomes, row).map(|outcomes| outcomes.value(row));
        Some(Bare {
            ts_ms: value::ts_of_ms(name(slot::TS), self.ts_ms[row]).ok()?,
            customer: value::customer(name(slot::CUSTOMER), self.customers.value(row)).ok()?,
            status: match status {
                Some(status) => value::status(name(slot::STATUS), status).ok()?,
                None => 0,
            },
            outcome: match outcome {
                Some(outcome) => Some(value::outcome(name(slot::OUTCOME), outcome).ok()?),
                None => None,
            },
            latency: self.latencies.get(row).copied().unwrap_or_default(),
            id: present(self.ids, row).map_or("", |ids| ids.value(row)),
            count: match count {
                Some(count) => value::count(name(slot::COUNT), count).ok()?,
                None => 1,
            },
        })
    }
}

/// The values of a field that is not null in a row.
#[inline]
fn present<T: ?Sized>(field: Option<Optional<'_, T>>, row: usize) -> Option<&T> {
    let (values, nulls) = field?;
    nulls.is_none_or(|nulls| nulls.is_valid(row)).then_some(values)
}

/// A column of integers, if there is one; `None` where it has another type.
fn integers(column: &Column) -> Option<Option<Optional<'_, [i64]>>> {
    match &column.values {
        Values::Absent => Some(None),
        Values::Integer(integers) => Some(Some((&integers.values()[..], column.nulls.as_ref()))),
        _ => None,
    }
}

/// A column of texts, if there is one; `None` where it has another type.
fn texts(column: &Column) -> Option<Option<Optional<'_, StringViewArray>>> {
    match &column.values {
        Values::Absent => Some(None),
        Values::Text(texts) => Some(Some((texts, column.nulls.as_ref()))),
        _ => None,
    }
}

/// Times in milliseconds.
fn times(column: &Column) -> Option<Cow<'_, [i64]>> {
    Some(match &column.values {
        Values::Integer(times) | Values::Time(times, 1_000) => Cow::Borrowed(&times.values()[..]),
        Values::Time(times, per_second) => {
            times.values().iter().map(|time| ms_of(*time, *per_second)).collect()
        }
        _ => return None,
    })
}

/// The latencies of the one column that there is.
fn latencies(ms: &Column, us: &Column) -> Option<Vec<Latency>> {
    let (column, us_each) = match (&ms.values, &us.values) {
        (Values::Absent, _) => (us, 1.0),
        (_, Values::Absent) => (ms, 1_000.0),
        _ => return None,
    };
    let of = |number: f64| value::latency(number * us_each);
    let mut latencies: Vec<Latency> = match &column.values {
        Values::Absent => return Some(Vec::new()),
        Values::Integer(numbers) => numbers.values().iter().map(|n| of(*n as f64)).collect(),
        Values::Unsigned(numbers) => numbers.values().iter().map(|n| of(*n as f64)).collect(),
        Values::Float(numbers) => numbers.values().iter().map(|n| of(*n)).collect(),
        _ => return None,
    };
    if let Some(nulls) = &column.nulls {
        for (latency, is_valid) in latencies.iter_mut().zip(nulls) {
            if !is_valid {
                *latency = Latency::Absent;
            }
        }
    }
    Some(latencies)
}
