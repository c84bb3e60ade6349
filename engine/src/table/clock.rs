//! What a writer asks of its machine: how old its files are, and pauses between attempts.
//!
//! No count, no minute and no label depends on it: it only decides when a file is written once
//! more and how long a writer waits for others.

use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use uuid::Uuid;

use super::protocol::Moment;

/// A machine's clocks, its dice, and its patience.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The moment by both clocks.
    fn now(&self) -> Moment;

    /// Any number.
    fn random(&self) -> u64;

    /// Returns after so many milliseconds.
    fn pause(&self, ms: u64);
}

/// The clocks of this machine.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let wall_ms = milliseconds(clock_gettime(ClockId::Realtime));
        Moment { wall_ms, boot_ms: milliseconds(clock_gettime(boot_clock())) }
    }

    fn random(&self) -> u64 {
        Uuid::new_v4().as_u64_pair().0
    }

    fn pause(&self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

/// The clock that goes on while the machine sleeps, where there is one.
fn boot_clock() -> ClockId {
    #[cfg(target_os = "linux")]
    return ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    return ClockId::Monotonic;
}

fn milliseconds(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000)
}
