//! Places where a test can kill the process, as `kill -9` would, stop it, hold a thread, or make it
//! panic.
//!
//! What is tested is what ships: the points are always compiled in, and cost one relaxed load
//! each. The environment variable `NINEFOLD_FAILPOINT=name` or `name:nth` arms one of them: when
//! it is reached for the nth time (the first, unless said), the process aborts. Nothing is
//! unwound, flushed or cleaned up. `name:nth:stop` stops it there in the place of that, as
//! SIGSTOP does: a test can send it other signals at that very step. `name:nth:file` holds the
//! thread that reaches it for as long as the file is there, as a disk that hangs would do it.
//!
//! `NINEFOLD_PANIC=place:text` plants a panic: at the place, where it holds the text.
//!
//! ```
//! use ninefold_engine::failpoint;
//!
//! failpoint::reach("commit.check"); // Nothing happens: the variable is not set.
//! ```

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

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
    // A log is made, freed, found to be damaged, and removed.
    "wal.about",
    "wal.free",
    "wal.set_aside",
    "wal.remove",
    // Upkeep; its entry is an epoch's.
    "compact.merged",
    "cleanup.delete",
    "vacuum.delete",
    // A message to a receiver: before it goes out, and before it is noted as taken.
    "notify.send",
    "notify.sent",
    // Partitions that the group gives to this instance, or takes away.
    "kafka.assign",
    "kafka.revoke",
    // Rows of the table on their way to topics: before they are sent, and once all are taken.
    "relay.send",
    "relay.sent",
    // A part of a snapshot: before its checksum, before it has its name, and once it has.
    "snapshot.write",
    "snapshot.written",
    "snapshot.renamed",
];

/// The variable that plants a panic.
pub const PANIC: &str = "NINEFOLD_PANIC";

/// The variable that arms a point.
pub const VARIABLE: &str = "NINEFOLD_FAILPOINT";

/// False once it is known that nothing is armed.
static MAY_BE_ARMED: AtomicBool = AtomicBool::new(true);

/// Ends the process here, or holds this thread, if this point is armed and it is the time.
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
        Some(armed) if armed.is_due(point) => match &armed.deed {
            Deed::Kill => {
                eprintln!("ninefold: killed at failpoint {point}");
                std::process::abort();
            }
            Deed::Stop => stop(point),
            Deed::Hold(file) => {
                eprintln!("ninefold: held at failpoint {point}");
                while file.exists() {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
            }
        },
        Some(_) => {}
    }
}

/// Stops the process until somebody lets it go on.
fn stop(point: &str) {
    eprintln!("ninefold: stopped at failpoint {point}");
    let id = std::process::id().to_string();
    let stopped = std::process::Command::new("kill").args(["-STOP", &id]).status();
    assert!(stopped.is_ok_and(|status| status.success()), "a test needs kill");
}

/// Panics where a test has planted it: `place` is `decode` (the bytes of a chunk) or `fold` (the
/// name of a customer).
pub fn planted_panic(place: &str, bytes: &[u8]) {
    static PLANTED: OnceLock<Option<(String, String)>> = OnceLock::new();
    let planted = PLANTED.get_or_init(|| {
        let text = std::env::var(PANIC).ok()?;
        let planted = text.split_once(':').map(|(place, text)| (place.to_owned(), text.to_owned()));
        assert!(planted.is_some(), "{PANIC}={text}: takes a place and a text");
        planted
    });
    if let Some((_, text)) = planted.as_ref().filter(|(planted, _)| planted == place) {
        let found = memchr::memmem::find(bytes, text.as_bytes());
        assert!(found.is_none(), "a panic was planted at {text:?}");
    }
}

/// What happens at a point.
#[derive(Debug, PartialEq)]
enum Deed {
    /// The process ends.
    Kill,
    /// The process is stopped.
    Stop,
    /// The thread is held while the file is there.
    Hold(PathBuf),
}

/// What the variable says.
struct Armed {
    point: String,
    /// What happens there.
    deed: Deed,
    /// How often it is still passed unharmed, and once more.
    left: AtomicU32,
}

impl Armed {
    fn parse(text: &str) -> Armed {
        let (point, rest) = text.split_once(':').unwrap_or((text, "1"));
        let (nth, deed) = match rest.split_once(':') {
            None => (rest, Deed::Kill),
            Some((nth, "stop")) => (nth, Deed::Stop),
            Some((nth, file)) => (nth, Deed::Hold(PathBuf::from(file))),
        };
        let nth = nth.parse().ok().filter(|nth| *nth > 0);
        let nth: u32 = nth.unwrap_or_else(|| panic!("{VARIABLE}={text}: the number begins at 1"));
        assert!(POINTS.contains(&point), "{VARIABLE}={text}: there is no such failpoint");
        Armed { point: point.to_owned(), deed, left: AtomicU32::new(nth) }
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
        assert_eq!(due("commit.entry:1:/f:g"), [true, false, false, false]);
        let deed = |text: &str| Armed::parse(text).deed;
        assert_eq!(deed("commit.entry:1:/f:g"), Deed::Hold(PathBuf::from("/f:g")));
        assert_eq!(deed("commit.entry:1:stop"), Deed::Stop);
        assert_eq!(deed("commit.entry:1"), Deed::Kill);
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
