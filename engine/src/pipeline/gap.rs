//! Gaps: parts of a partition that will never be counted, and that somebody has accepted.
//!
//! A gap is accepted by an epoch like any other: the partition moves from where it stands to the
//! end of the gap, and a row of the grain `gap` says who has let go of what, and why. So a gap
//! and counting are fenced against each other, and offsets still tile.
//!
//! Records of a write-ahead log that are damaged are a gap that the service accepts by itself:
//! nobody else has them.
//!
//! Nobody knows the times of events that cannot be read. They lie, as far as can be told, between
//! the newest minute that was counted of the partition and the minute in which the gap was
//! accepted: those are the minutes in which reports tell of it.

use std::ops::RangeInclusive;

use arrow::array::ArrayRef;

use super::{Pipeline, PipelineError, batches, file_of};
use crate::query::body::DataGap;
use crate::table::schema::Grain;
use crate::table::{CommitError, Epoch, Filter, Move, Table, TableError};
use crate::time::{Day, Minute};

/// Why a gap is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum GapError {
    /// The table has never counted the partition.
    #[error("partition {partition} is unknown; `ninefold source list` names those of the table")]
    Unknown {
        /// What was asked for.
        partition: String,
    },
    /// The gap ends where the partition stands, or before.
    #[error(
        "partition {partition} stands at offset {found}: a gap must end behind that, not at {next}"
    )]
    Backwards {
        /// Which.
        partition: String,
        /// Where it stands.
        found: u64,
        /// Where the gap was to end.
        next: u64,
    },
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The gap did not land: where the partition was counted on meanwhile, look again.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Accepts that `partition` is not counted from where it stands up to `next`; returns where it
/// stood and the version that this made. `now` is the minute of the wall clock.
///
/// # Errors
/// The partition is unknown, stands behind `next` already, or was moved by another writer
/// meanwhile.
pub fn accept(
    table: &mut Table,
    partition: &str,
    next: u64,
    reason: &str,
    now: Minute,
) -> Result<(u64, u64), GapError> {
    table.refresh()?;
    let base = table.offset(partition)?;
    let unknown = || GapError::Unknown { partition: partition.to_owned() };
    let first = base.ok_or_else(unknown)?;
    if next <= first {
        let partition = partition.to_owned();
        return Err(GapError::Backwards { partition, found: first, next });
    }
    let moved = Move { partition: partition.to_owned(), base, next };
    let epoch = epoch(table, moved, reason, now)?;
    let version = table.commit(epoch)?;
    Ok((first, version))
}

impl Pipeline {
    /// Accepts that a partition that is being counted is not counted from where it stands up to
    /// `next`. `now` is the minute of the wall clock.
    ///
    /// # Errors
    /// The gap did not land, and nothing has moved.
    ///
    /// # Panics
    /// If the partition is not being counted, if anything was counted that no commit has taken,
    /// or if the gap is empty.
    pub fn accept_gap(
        &mut self,
        partition: &str,
        next: u64,
        reason: &str,
        now: Minute,
    ) -> Result<(), PipelineError> {
        assert!(!self.has_moved(), "what stands before a gap is committed first");
        let number = self.number_of(partition).expect("it is being counted");
        let ledger = &self.partitions[usize::from(number)].ledger;
        let (base, first) = (ledger.base(), ledger.next());
        assert!(first < next, "a gap holds something");
        let moved = Move { partition: partition.to_owned(), base, next };
        let epoch = epoch(&self.table, moved.clone(), reason, now)?;
        let version = self.table.commit(epoch)?;
        self.partitions[usize::from(number)].ledger.advance(first..next);
        self.moved(version, &[moved]);
        self.partitions[usize::from(number)].ledger.landed(next);
        Ok(())
    }
}

/// The epoch that accepts a gap.
fn epoch(table: &Table, moved: Move, reason: &str, now: Minute) -> Result<Epoch, TableError> {
    let (partition, first, next) = (&*moved.partition, moved.base.unwrap_or(0), moved.next);
    let from = newest_of(table, partition)?.unwrap_or(now).min(now);
    let one = |value: u64| batches::ints(std::iter::once(value));
    let text = |text: &str| -> ArrayRef { batches::texts(std::iter::once(text)) };
    let minute = |minute: Minute| batches::minutes(std::iter::once(minute));
    let columns =
        vec![minute(from), minute(now), text(partition), one(first), one(next), text(reason)];
    let files = vec![file_of(Grain::Gap, Day(0), columns)];
    let info = format!("gap accepted: {partition} {first}..{next}: {reason}");
    Ok(Epoch { files, moves: vec![moved], info })
}

/// The newest minute that was counted of a partition.
fn newest_of(table: &Table, partition: &str) -> Result<Option<Minute>, TableError> {
    let mut newest = None;
    let (columns, partition) = (Some(vec!["minute"]), Some(partition.to_owned()));
    let filter = Filter { columns, partition, ..Filter::default() };
    table.for_each_series(&filter, |row| newest = newest.max(Some(row.minute)))?;
    Ok(newest)
}

/// The gaps of a table whose events may lie in these minutes, both ends included; oldest first.
///
/// # Errors
/// The table cannot be read.
pub fn gaps_in(
    table: &Table,
    minutes: &RangeInclusive<Minute>,
) -> Result<Vec<DataGap>, TableError> {
    let mut gaps = Vec::new();
    table.for_each_gap(&Filter::default(), |row| {
        let (first, last) = row.minutes;
        if first <= *minutes.end() && last >= *minutes.start() {
            gaps.push(DataGap {
                partition: row.partition.to_owned(),
                first: row.first,
                next: row.next,
                reason: row.reason.to_owned(),
                from: first.to_string(),
                to: last.to_string(),
                minutes: first..=last,
            });
        }
    })?;
    gaps.sort_by(|a, b| (&a.from, &a.partition, a.first).cmp(&(&b.from, &b.partition, b.first)));
    Ok(gaps)
}
