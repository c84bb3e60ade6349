//! `[memory]`: how much of it each part may take, and what is in force on a machine.
//!
//! What is configured says as much as one likes: nothing, the total, or single parts. With what
//! the machine has, [`Memory::budget`] settles the rest: a fixed base for the program itself,
//! half of what is left for uncommitted events at most, then everything for series. It refuses
//! what does not fit.

use super::reader::Section;
use super::set;
use crate::source::wal;

/// Smallest budget of a part that is worth having, and of the total.
const PART_BYTES_MIN: u64 = 1 << 20;
const TOTAL_BYTES_MIN: u64 = 384 << 20;
const BYTES_MAX: u64 = 1 << 42;
/// The total where the machine does not say what it has.
const TOTAL_BYTES_UNKNOWN: u64 = 1 << 30;
/// Set aside for what the program takes whatever comes: its code and threads, the names of
/// customers that were evicted, a row group of each file that is being written, small answers,
/// and freed memory that is not handed back yet. Measured by `tests/flood.rs`: in floods of one,
/// four and ten million customers the process took 55 to 193 MiB beside the parts and a base of
/// 96 MiB.
pub const BASE_BYTES: u64 = 320 << 20;
/// Of what there is, this is taken: the rest is for large answers and the cache of files.
const SHARE_PERCENT: u64 = 75;
/// Of the total, at most this for uncommitted events.
const UNCOMMITTED_PERCENT: u64 = 25;

/// What is configured, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All parts and [`BASE_BYTES`] together, `total`; `None` = 75% of what there is.
    pub total_bytes: Option<u64>,
    /// Chunks that wait to be counted, `queue`.
    pub queue_bytes: u64,
    /// Events that no commit has taken, `uncommitted`; `None` = a quarter of the total.
    pub uncommitted_bytes: Option<u64>,
    /// Names and series of customers, `series`; `None` = what the others leave.
    pub series_bytes: Option<u64>,
    /// The ids of the dedupe window of one partition, `dedupe`; nothing where it is off.
    pub dedupe_bytes: u64,
    /// What was sent to us and waits for the disk, `wal`.
    pub wal_bytes: u64,
    /// New customers a minute above which the service says so, `new_customers_per_minute`;
    /// 0 = never.
    pub new_customers_per_minute: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            total_bytes: None,
            queue_bytes: 64 << 20,
            uncommitted_bytes: None,
            series_bytes: None,
            dedupe_bytes: 64 << 20,
            wal_bytes: wal::Options::default().queue_bytes_max,
            new_customers_per_minute: 100_000,
        }
    }
}

/// What is in force, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// All parts and [`BASE_BYTES`] together.
    pub total: u64,
    /// Chunks that wait to be counted.
    pub queue: u64,
    /// Events that no commit has taken.
    pub uncommitted: u64,
    /// Names and series of customers.
    pub series: u64,
    /// The ids of the dedupe window of one partition.
    pub dedupe: u64,
    /// What was sent to us and waits for the disk.
    pub wal: u64,
}

/// How much memory there is, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In bytes.
    pub bytes: u64,
    /// A file, such as that of a control group.
    pub origin: String,
}

/// Why a budget cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// More than there is.
    #[error(
        "[memory] total of {total} bytes is more than the {limit} that {origin} allows; take \
         less, or leave it out for {SHARE_PERCENT}% of that"
    )]
    OverLimit {
        /// The configured total.
        total: u64,
        /// What there is.
        limit: u64,
        /// Who says so.
        origin: String,
    },
    /// The parts are more than the whole.
    #[error(
        "[memory] the parts need {parts} bytes, and the total is {total}{basis}: the program \
         {BASE_BYTES}, queue {queue}, uncommitted {uncommitted}, series {series}, dedupe {dedupe}, \
         wal {wal}; make a part smaller or the total larger"
    )]
    OverTotal {
        /// All parts together.
        parts: u64,
        /// What they may take.
        total: u64,
        /// Where the total comes from, if it is not configured.
        basis: String,
        /// A part.
        queue: u64,
        /// A part.
        uncommitted: u64,
        /// A part.
        series: u64,
        /// A part.
        dedupe: u64,
        /// A part.
        wal: u64,
    },
}

impl Memory {
    /// What is in force where `limit` is all there is; `dedupes` says whether any window is on.
    ///
    /// ```
    /// use ninefold_engine::config::{BASE_BYTES, Limit, Memory};
    /// let limit = Limit { bytes: 4 << 30, origin: "memory.max".into() };
    /// let budget = Memory::default().budget(Some(&limit), false).unwrap();
    /// assert_eq!(budget.total, (4 << 30) / 100 * 75);
    /// assert_eq!(budget.uncommitted, budget.total / 100 * 25);
    /// let parts = budget.queue + budget.uncommitted + budget.series + budget.wal;
    /// assert_eq!(BASE_BYTES + parts, budget.total);
    /// ```
    ///
    /// # Errors
    /// The total is more than there is, or the parts are more than the total.
    pub fn budget(&self, limit: Option<&Limit>, dedupes: bool) -> Result<Budget, BudgetError> {
        let share = |limit: &Limit| limit.bytes / 100 * SHARE_PERCENT;
        let given = self.total_bytes;
        let total = given.unwrap_or_else(|| limit.map_or(TOTAL_BYTES_UNKNOWN, share));
        if let Some(limit) = limit.filter(|limit| limit.bytes < total) {
            let (limit, origin) = (limit.bytes, limit.origin.clone());
            return Err(BudgetError::OverLimit { total, limit, origin });
        }
        let (queue, wal) = (self.queue_bytes, self.wal_bytes);
        let dedupe = if dedupes { self.dedupe_bytes } else { 0 };
        let left = total.saturating_sub(BASE_BYTES + queue + wal + dedupe);
        let quarter = total / 100 * UNCOMMITTED_PERCENT;
        let of_left = left.saturating_sub(self.series_bytes.unwrap_or(left / 2));
        let uncommitted = self.uncommitted_bytes.unwrap_or(quarter.min(of_left));
        let uncommitted = uncommitted.max(PART_BYTES_MIN);
        let series = self.series_bytes.unwrap_or(left.saturating_sub(uncommitted));
        let series = series.max(PART_BYTES_MIN);
        let parts = BASE_BYTES + queue + wal + dedupe + uncommitted + series;
        if parts > total {
            let of = |limit: &Limit| format!(" ({SHARE_PERCENT}% of {})", limit.origin);
            let basis = limit.filter(|_| given.is_none()).map(of).unwrap_or_default();
            return Err(BudgetError::OverTotal {
                parts,
                total,
                basis,
                queue,
                uncommitted,
                series,
                dedupe,
                wal,
            });
        }
        Ok(Budget { total, queue, uncommitted, series, dedupe, wal })
    }
}

pub(super) fn read_memory(section: Section<'_>, memory: &mut Memory) {
    let part = |key| section.size_bytes(key, PART_BYTES_MIN..=BYTES_MAX);
    memory.total_bytes = section.size_bytes("total", TOTAL_BYTES_MIN..=BYTES_MAX);
    set(&mut memory.queue_bytes, part("queue"));
    memory.uncommitted_bytes = part("uncommitted");
    memory.series_bytes = part("series");
    set(&mut memory.dedupe_bytes, part("dedupe"));
    set(&mut memory.wal_bytes, part("wal"));
    let rate = section.whole("new_customers_per_minute", 0..=1_000_000_000);
    set(&mut memory.new_customers_per_minute, rate);
    section.finish();
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn limit(bytes: u64) -> Limit {
        Limit { bytes, origin: "/sys/fs/cgroup/memory.max".to_owned() }
    }

    #[test]
    fn what_is_left_out_follows_from_what_there_is() {
        let budget = Memory::default().budget(Some(&limit(10 * GIB)), true).unwrap();
        assert_eq!(budget.total, 10 * GIB / 100 * 75);
        let parts = [budget.queue, budget.uncommitted, budget.series, budget.dedupe, budget.wal];
        assert_eq!(BASE_BYTES + parts.iter().sum::<u64>(), budget.total);
        let without = Memory::default().budget(None, false).unwrap();
        assert_eq!((without.total, without.dedupe), (TOTAL_BYTES_UNKNOWN, 0));
        let series = Some(without.total / 2);
        let large = Memory { series_bytes: series, ..Memory::default() };
        assert_eq!(Some(large.budget(None, false).unwrap().series), series);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_remedy() {
        let refusal = |memory: Memory, bytes: u64| {
            memory.budget(Some(&limit(bytes)), false).unwrap_err().to_string()
        };
        let total = Memory { total_bytes: Some(2 * GIB), ..Memory::default() };
        assert_eq!(
            refusal(total, GIB),
            "[memory] total of 2147483648 bytes is more than the 1073741824 that \
             /sys/fs/cgroup/memory.max allows; take less, or leave it out for 75% of that"
        );
        let parts = Memory { series_bytes: Some(GIB), ..Memory::default() };
        let found = refusal(parts, GIB);
        assert!(found.starts_with("[memory] the parts need 1"), "{found}");
        assert!(
            found.contains("(75% of /sys/fs/cgroup/memory.max): the program 335544320, queue"),
            "{found}"
        );
        assert!(found.ends_with("make a part smaller or the total larger"), "{found}");
        assert!(refusal(Memory::default(), 100 << 20).contains("the parts need"));
    }
}
