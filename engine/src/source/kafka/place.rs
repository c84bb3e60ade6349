//! Whether a partition's log is still the one that was counted, and can be counted on.
//!
//! The table holds an offset, the hash of the record before it, and the id of the cluster. A
//! topic that was deleted and created again, a log that lost its end in an unclean election, and
//! a cluster that was swapped under one name all have offsets that look right: only the record
//! before the offset tells. It is fetched first, and nothing is counted until it was compared.

use super::super::chunk::Tail;

/// Why a partition is not counted. The message names everything but the partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The cluster is another one than the table's.
    #[error(
        "the table was counted from cluster {counted}, and these brokers are of cluster {found}; \
         give each cluster a table of its own"
    )]
    Cluster {
        /// That of the table.
        counted: String,
        /// That of the brokers.
        found: String,
    },
    /// The record before the offset is not the one that was counted.
    #[error("the log changed at offset {offset}: topic recreated or truncated")]
    Changed {
        /// The offset of that record.
        offset: u64,
    },
    /// The log ends before what was counted.
    #[error(
        "the log ends at offset {end}, and it was counted up to {offset}: topic recreated or \
         truncated"
    )]
    Truncated {
        /// Where counting stands.
        offset: u64,
        /// One past the last offset of the log.
        end: u64,
    },
    /// The log begins behind where counting stands.
    #[error(
        "wanted offset {offset}, broker starts at {begin}: {} records expired unread",
        .begin - .offset
    )]
    Expired {
        /// Where counting stands.
        offset: u64,
        /// The first offset of the log.
        begin: u64,
    },
    /// A batch whose checksum is wrong.
    #[error(
        "the batch of records at offset {offset} is corrupt (its CRC differs); restore it on the \
         broker, or accept the gap: source skip --to {next}"
    )]
    Corrupt {
        /// The first offset that cannot be read.
        offset: u64,
        /// The first one behind it that can be.
        next: u64,
    },
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first offset.
    pub begin: u64,
    /// One past its last offset.
    pub end: u64,
}

/// Whether counting can go on at `offset` in a log of `span`.
///
/// # Errors
/// What was not counted has expired, or what was counted is gone.
pub fn check_span(offset: u64, span: Span) -> Result<(), Obstacle> {
    if offset > span.end {
        return Err(Obstacle::Truncated { offset, end: span.end });
    }
    if offset < span.begin {
        return Err(Obstacle::Expired { offset, begin: span.begin });
    }
    Ok(())
}

/// Whether the brokers are of the cluster that the table was counted from.
///
/// # Errors
/// They are not.
pub fn check_cluster(counted: Option<&str>, found: &str) -> Result<(), Obstacle> {
    match counted {
        Some(counted) if counted != found => {
            Err(Obstacle::Cluster { counted: counted.to_owned(), found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

/// What the first records of an assignment say of the record before the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is the one that was counted.
    Same,
    /// It is another one.
    Differs,
    /// There is none any more. The record that came is the first one behind it.
    Missing,
    /// Others came that were not asked for: it has to be fetched again.
    Again,
}

/// Compares the record before the offset with the table.
///
/// A record that comes in its place may be left over from an older assignment, so that one is
/// missing only if it is so twice, with the same record coming first. Compaction may remove it;
/// nothing else does.
///
/// ```
/// use ninefold_engine::source::chunk::Tail;
/// use ninefold_engine::source::kafka::place::{Proof, Prover};
///
/// let last = Tail::of_record(99, Some(5), b"last").hash();
/// let mut prover = Prover::new(100, last);
/// assert_eq!(prover.judge(99, Some(5), b"last"), Proof::Same);
/// assert_eq!(prover.judge(99, Some(5), b"other"), Proof::Differs);
/// assert_eq!(prover.judge(104, Some(5), b"new"), Proof::Again);
/// assert_eq!(prover.judge(104, Some(5), b"new"), Proof::Missing);
/// ```
#[derive(Clone, Debug)]
pub struct Prover {
    offset: u64,
    tail: [u8; 32],
    /// The record that came in its place at the last fetch.
    came: Option<u64>,
}

impl Prover {
    /// Proves that counting can go on at `offset`, before which the table knows `tail`.
    pub fn new(offset: u64, tail: [u8; 32]) -> Prover {
        Prover { offset, tail, came: None }
    }

    /// The record to be fetched first.
    pub fn fetch_from(&self) -> u64 {
        self.offset.saturating_sub(1)
    }

    /// Judges a record that came. Those before [`Prover::fetch_from`] are for the caller to
    /// drop.
    pub fn judge(&mut self, offset: u64, time_ms: Option<i64>, payload: &[u8]) -> Proof {
        if offset + 1 == self.offset {
            let same = Tail::of_record(offset, time_ms, payload).hash() == self.tail;
            return if same { Proof::Same } else { Proof::Differs };
        }
        if self.came.replace(offset) == Some(offset) { Proof::Missing } else { Proof::Again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_lost_something_is_told_with_its_counts() {
        let span = Span { begin: 500, end: 900 };
        assert_eq!(check_span(500, span), Ok(()));
        assert_eq!(check_span(900, span), Ok(()));
        let expired = check_span(100, span).unwrap_err().to_string();
        assert_eq!(expired, "wanted offset 100, broker starts at 500: 400 records expired unread");
        let truncated = check_span(901, span).unwrap_err().to_string();
        assert!(truncated.contains("ends at offset 900"), "{truncated}");
    }

    #[test]
    fn another_cluster_is_refused_and_an_unknown_one_is_taken() {
        assert_eq!(check_cluster(None, "a"), Ok(()));
        assert_eq!(check_cluster(Some("a"), "a"), Ok(()));
        let refused = check_cluster(Some("a"), "b").unwrap_err().to_string();
        assert!(refused.contains("cluster a") && refused.contains("cluster b"), "{refused}");
    }

    #[test]
    fn the_record_before_the_offset_decides() {
        let tail = Tail::of_record(9, None, b"x").hash();
        let mut prover = Prover::new(10, tail);
        assert_eq!(prover.fetch_from(), 9);
        // A record from before this assignment, then others: only what came twice is believed.
        assert_eq!(prover.judge(30, None, b"y"), Proof::Again);
        assert_eq!(prover.judge(12, None, b"y"), Proof::Again);
        assert_eq!(prover.judge(12, None, b"y"), Proof::Missing);
        assert_eq!(prover.judge(9, None, b"x"), Proof::Same);
        assert_eq!(prover.judge(9, Some(1), b"x"), Proof::Differs);
    }
}
