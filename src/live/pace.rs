//! How often the loop evaluates alerts and commits, so that an alert is out within a second of
//! the failures that cause it, also while all is counted that can be.
//!
//! A failure waits for the next evaluation, and during a commit for its end: nothing is counted
//! meanwhile. So evaluations follow each other quickly as long as they are cheap, and commits are
//! made before they take long. Invariants: with news an evaluation comes at least each second,
//! and within a tenth of it where evaluations take next to nothing; commits that come before
//! their interval take a third of the time at most.

use std::time::{Duration, Instant};

/// The longest time between two evaluations of the alerts.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest, where something was counted since the last one.
const TICK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Evaluations take one part in so many of the loop's time, where that leaves one each second.
const TICK_PARTS: u32 = 20;

/// Commits that alerts ask for come at most so often. An alert waits for its commit for a second
/// before it goes out without, so that what is left of it has to be enough for the commit.
const ASKED_INTERVAL: Duration = Duration::from_millis(500);

/// How long a commit should take at most, by those before.
const COMMIT_AIM: Duration = Duration::from_millis(300);

/// With fewer lines a commit costs what it costs, and is left to its interval.
const LINES_MIN: u64 = 100_000;

/// A commit that comes to be short leaves at least so many times as long as the last one took.
const PAUSE_PARTS: u32 = 2;

/// What the loop has seen of its own speed.
pub(super) struct Pace {
    ticked: Instant,
    tick_took: Duration,
    committed: Instant,
    commit_took: Duration,
    /// How many lines make a commit of [`COMMIT_AIM`].
    lines_aim: u64,
    /// When an alert last asked for a commit.
    asked: Option<Instant>,
}

impl Pace {
    /// Nothing was done before `now`.
    pub fn new(now: Instant) -> Pace {
        let none = Duration::ZERO;
        Pace {
            ticked: now,
            tick_took: none,
            committed: now,
            commit_took: none,
            lines_aim: LINES_MIN,
            asked: None,
        }
    }

    /// How long after `now` the next evaluation is due; `news` is whether something was counted
    /// since the last one.
    pub fn until_tick(&self, now: Instant, news: bool) -> Duration {
        let wanted = if news { TICK_PARTS * self.tick_took } else { TICK_INTERVAL };
        wanted.clamp(TICK_INTERVAL_MIN, TICK_INTERVAL).saturating_sub(now - self.ticked)
    }

    /// An evaluation was made.
    pub fn ticked(&mut self, from: Instant, to: Instant) {
        (self.ticked, self.tick_took) = (from, to - from);
    }

    /// Whether a commit of so many lines should not wait for its interval, or it would be long.
    pub fn is_long(&self, now: Instant, lines: u64) -> bool {
        lines >= self.lines_aim && now - self.committed >= PAUSE_PARTS * self.commit_took
    }

    /// Learns from a commit of so many lines: a long one makes the next ones smaller, a short one
    /// lets them grow. A small one that was quick tells nothing of large ones.
    pub fn committed(&mut self, from: Instant, to: Instant, lines: u64) {
        (self.committed, self.commit_took) = (to, to - from);
        let aim = (lines as f64 * COMMIT_AIM.div_duration_f64(self.commit_took)) as u64;
        let is_long = self.commit_took > COMMIT_AIM;
        self.lines_aim = if is_long { aim.max(LINES_MIN) } else { aim.max(self.lines_aim) };
    }

    /// Whether an alert may ask for a commit; where it may, it has.
    pub fn ask(&mut self, now: Instant) -> bool {
        let may = self.asked.is_none_or(|asked| now - asked >= ASKED_INTERVAL);
        if may {
            self.asked = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn evaluations_are_quick_while_they_are_cheap_and_come_each_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let check = |pace: &Pace, news: bool, expect_ms: u32| {
            assert_eq!(pace.until_tick(pace.ticked, news), expect_ms * MS, "{news}");
        };
        for (took_ms, expect_ms) in [(0, 100), (5, 100), (20, 400), (50, 1_000), (800, 1_000)] {
            pace.ticked(start, start + took_ms * MS);
            check(&pace, true, expect_ms);
            check(&pace, false, 1_000);
        }
        assert_eq!(pace.until_tick(pace.ticked + 900 * MS, true), 100 * MS);
        assert_eq!(pace.until_tick(pace.ticked + 2_000 * MS, true), Duration::ZERO);
    }

    /// How many lines commits come to hold in a store that takes so long for each of them, and a
    /// millisecond for a thousand lines, where a hundred lines come in a millisecond.
    fn lines_with(each: Duration) -> u64 {
        let (mut now, mut lines) = (Instant::now(), 0);
        let mut pace = Pace::new(now);
        for _ in 0..50 {
            lines = 0;
            while !pace.is_long(now, lines) {
                (now, lines) = (now + MS, lines + 100);
            }
            let from = now;
            now += each + MS.mul_f64(lines as f64 / 1_000.0);
            pace.committed(from, now, lines);
        }
        lines
    }

    #[test]
    fn commits_come_to_take_as_long_as_they_should() {
        // 50 ms, and 250 ms for the lines.
        let lines = lines_with(50 * MS);
        assert!((240_000..=260_000).contains(&lines), "{lines}");
        // A slow store gains nothing by small commits, and is left two thirds of the time.
        let lines = lines_with(2_000 * MS);
        assert!((490_000..=510_000).contains(&lines), "{lines}");
    }

    #[test]
    fn a_small_commit_tells_nothing_of_large_ones() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.committed(start, start + 200 * MS, 1_000_000);
        assert!(!pace.is_long(start + 10_000 * MS, 1_400_000));
        assert!(pace.is_long(start + 10_000 * MS, 1_500_000));
        pace.committed(start, start + 50 * MS, 10);
        assert!(!pace.is_long(start + 10_000 * MS, 1_400_000));
        pace.committed(start, start + 600 * MS, 1_000_000);
        assert!(pace.is_long(start + 10_000 * MS, 500_000));
        assert!(!pace.is_long(start + 600 * MS + 1_100 * MS, 500_000), "a pause of twice as long");
    }

    #[test]
    fn an_alert_asks_at_once_and_then_twice_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let asked = [0, 100, 499, 500, 999, 1_700].map(|ms| pace.ask(start + ms * MS));
        assert_eq!(asked, [true, false, false, true, false, true]);
    }
}
