//! The named windows: whole minutes, the running one included.
//!
//! A window of L minutes at minute `m` is `m - L + 1 ..= m`. The names are contracts: they are
//! the keys of `windows` in the answers.

use std::ops::RangeInclusive;

use crate::time::{DAY_MINUTES, Minute};

/// A named window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// `2m` to `30d`.
    pub name: &'static str,
    /// Its length.
    pub minutes: u32,
}

/// Every window that is answered, the shortest first.
pub const WINDOWS: [Window; 11] = [
    Window { name: "2m", minutes: 2 },
    Window { name: "5m", minutes: 5 },
    Window { name: "30m", minutes: 30 },
    Window { name: "1h", minutes: 60 },
    Window { name: "2h", minutes: 120 },
    Window { name: "6h", minutes: 360 },
    Window { name: "1d", minutes: DAY_MINUTES },
    Window { name: "3d", minutes: 3 * DAY_MINUTES },
    Window { name: "7d", minutes: 7 * DAY_MINUTES },
    Window { name: "28d", minutes: 28 * DAY_MINUTES },
    Window { name: "30d", minutes: 30 * DAY_MINUTES },
];

/// The longest window in minutes.
pub const WINDOW_MINUTES_MAX: u32 = 30 * DAY_MINUTES;

/// The window of this name; `None` for another name.
///
/// ```
/// assert_eq!(ninefold_engine::slo::window::find("6h").unwrap().minutes, 360);
/// ```
pub fn find(name: &str) -> Option<Window> {
    WINDOWS.into_iter().find(|window| window.name == name)
}

/// The minutes of the window of `minutes` that ends with `at`, both ends included; it stops at
/// the epoch.
///
/// # Panics
/// If `minutes` is 0: a window holds at least the running minute.
///
/// ```
/// use ninefold_engine::{slo::window::window_range, time::Minute};
/// assert_eq!(window_range(Minute(100), 5), Minute(96)..=Minute(100));
/// ```
pub fn window_range(at: Minute, minutes: u32) -> RangeInclusive<Minute> {
    assert!(minutes > 0, "a window holds at least the running minute");
    at.minus(minutes - 1)..=at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lengths_agree_and_rise() {
        for window in WINDOWS {
            let (number, unit) = window.name.split_at(window.name.len() - 1);
            let unit = match unit {
                "m" => 1,
                "h" => 60,
                _ => DAY_MINUTES,
            };
            assert_eq!(window.minutes, number.parse::<u32>().unwrap() * unit);
        }
        assert!(WINDOWS.is_sorted_by(|a, b| a.minutes < b.minutes));
        assert_eq!(WINDOWS.last().unwrap().minutes, WINDOW_MINUTES_MAX);
    }
}
