//! Places where a test can kill the process, as `kill -9` would.
//!
//! What is tested is what ships: the points are always compiled in, and cost one relaxed load
//! each. The environment variable `NINEFOLD_FAILPOINT=name` or `name:nth` arms one of them: when
//! it is reached for the nth time (the first, unless said), the process aborts. Nothing is
//! unwound, flushed or cleaned up.
//!
//! ```
//! use ninefold_engine::failpoint;
//!
//! failpoint::reach("commit.check"); // Nothing happens: the variable is not set.
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Every point there is, in the order of the protocol: a test kills the program at each.
///
/// A point is a line here and a call of [`reach`]; a test compares both.
pub const POINTS: &[&str] = &[
    // An epoch: see `table`.
    "commit.cut",
    "commit.data",
    "commit.data.written",
    "commit.check",
    "commit.entry",
    "commit.entry.put",
    "commit.confirm",
    "commit.landed",
    // A checkpoint of the log.
    "checkpoint",
    "checkpoint.written",
    // The disk: between the staged file and its name.
    "put.staged",
    "put.linked",
    // The write-ahead log.
    "wal.rotate",
    "wal.write",
    "wal.sync",
    "wal.reply",
    // Upkeep; its entry is an epoch's.
    "compact.merged",
    "cleanup.delete",
    "vacuum.delete",
    // Partitions that the group gives to this instance, or takes away.
    "kafka.assign",
    "kafka.revoke",
];

/// The variable that arms a point.
pub const VARIABLE: &str = "NINEFOLD_FAILPOINT";

/// False once it is known that nothing is armed.
static MAY_BE_ARMED: AtomicBool = AtomicBool::new(true);

/// Ends the process here if this point is armed, and this is the time for it.
///
/// # Panics
/// If the variable arms a point that is not in [`POINTS`]: a test that kills nobody.
#[inline]
pub fn reach(point: &'static str) {
    if MAY_BE_ARMED.load(Ordering::Relaxed) {
        reach_armed(point);
    }
}

#[cold]
fn reach_armed(point: &'static str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| Armed::parse(&text)));
    match armed {
        None => MAY_BE_ARMED.store(false, Ordering::Relaxed),
        Some(armed) if armed.is_due(point) => {
            eprintln!("ninefold: killed at failpoint {point}");
            std::process::abort();
        }
        Some(_) => {}
    }
}

/// What the variable says.
struct Armed {
    point: String,
    /// How often it is still passed unharmed, and once more.
    left: AtomicU32,
}

impl Armed {
    fn parse(text: &str) -> Armed {
        let (point, nth) = text.split_once(':').unwrap_or((text, "1"));
        let nth = nth.parse().ok().filter(|nth| *nth > 0);
        let nth: u32 = nth.unwrap_or_else(|| panic!("{VARIABLE}={text}: the number begins at 1"));
        assert!(POINTS.contains(&point), "{VARIABLE}={text}: there is no such failpoint");
        Armed { point: point.to_owned(), left: AtomicU32::new(nth) }
    }

    /// Whether it is `point` that is armed, and for this time.
    fn is_due(&self, point: &str) -> bool {
        self.point == point && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_due_at_its_time_and_no_other() {
        let due = |text: &str| {
            let armed = Armed::parse(text);
            ["commit.entry", "commit.check", "commit.entry", "commit.entry"]
                .map(|point| armed.is_due(point))
        };
        assert_eq!(due("commit.entry"), [true, false, false, false]);
        assert_eq!(due("commit.entry:2"), [false, false, true, false]);
        assert_eq!(due("commit.check"), [false, true, false, false]);
    }

    #[test]
    #[should_panic(expected = "no such failpoint")]
    fn an_unknown_point_is_refused() {
        Armed::parse("commit.entrance");
    }

    #[test]
    #[should_panic(expected = "the number begins at 1")]
    fn a_number_that_never_comes_is_refused() {
        Armed::parse("commit.entry:0");
    }
}
