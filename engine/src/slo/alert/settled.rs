//! Settled transitions: what the final counts of every minute say, late data in place.
//!
//! By definition the result is that of one [`step`] at the end of every minute. The windows of a
//! minute differ from those of the one before only where a cell enters or leaves one, so only
//! such *breakpoints* are stepped, beside the time-outs of a firing state and the minute from
//! which a ticket has history enough. An alert that does not fire cannot begin to before its
//! long window holds `min_bad` bad events and its short window one, so idle stretches are skipped
//! from one bad cell to the next: a series without failures costs one scan of its cells, and
//! nothing per tier. Who asks for the state of one minute alone looks at the last days first
//! ([`SeriesCells::may_be_firing`]), since nearly always that settles it.
//!
//! Property tests compare with the minute-by-minute evaluation.

use super::{Look, State, Tier, Transition, may_fire, step};
use crate::model::Counts;
use crate::slo::window::window_range;
use crate::time::Minute;

/// The counts of one series by one SLI.
#[derive(Clone, Copy, Debug)]
pub struct SeriesCells<'a> {
    /// Sorted by minute, each minute at most once.
    pub cells: &'a [(Minute, Counts)],
    /// The first counted minute of the series, by any SLI: its history begins here.
    pub first: Minute,
    /// The last minute whose counts are final; later cells are not looked at.
    pub last: Minute,
}

impl SeriesCells<'_> {
    /// What a step of `tier` looks at in the minute `at`: for a state that is asked for once.
    /// A tier that does not fire by its last transition is `step(State::Inactive, ..)` of this.
    pub fn look(&self, tier: &Tier, at: Minute) -> Look {
        let sum = |minutes: u32| {
            let range = window_range(at, minutes);
            let first = self.cells.partition_point(|cell| cell.0 < *range.start());
            let within = self.cells[first..].iter().take_while(|cell| cell.0 <= at);
            within.fold(Counts::default(), |mut sum, cell| {
                sum.add(cell.1);
                sum
            })
        };
        let covered_minutes = (at.0 + 1).saturating_sub(self.first.0);
        Look { at, long: sum(tier.spec.long.1), short: sum(tier.spec.short.1), covered_minutes }
    }

    /// Whether an alert of `tier` may fire at the minute `last`, whatever was before these cells,
    /// which have to hold the [last minutes that matter](super::Spec::failed_within_minutes). False
    /// where no short window of that time burned: nothing has to be known of its beginning then,
    /// which takes all the history.
    pub fn may_be_firing(&self, tier: &Tier) -> bool {
        let within = tier.spec.burned_within_minutes(tier.options.keep_firing_for_minutes);
        let first = self.last.minus(within - 1);
        if !self.may_have_burned(tier, first) {
            return false;
        }
        let mut short = Sliding::new(self.cells, tier.spec.short.1);
        let mut next = Some(first);
        while let Some(at) = next.filter(|at| *at <= self.last) {
            if may_fire(tier, short.move_to(at)) {
                return true;
            }
            next = short.next_change();
        }
        false
    }

    /// Whether a short window that ends at the minute `first` or later may be at or above the
    /// factor: for a busy series without an incident nearly always false, and found in one pass.
    ///
    /// A window lies in `steps + 1` neighbouring steps and holds all of those between the two
    /// outer ones. So it has at most the bad events of the former, and at least the valid ones of
    /// the latter, and its error ratio is no higher than theirs.
    fn may_have_burned(&self, tier: &Tier, first: Minute) -> bool {
        let short = tier.spec.short.1;
        let step = if short.is_multiple_of(SHORT_STEPS) { short / SHORT_STEPS } else { 1 };
        let steps = (short / step) as usize;
        let start = first.minus(short - 1);
        let next = self.cells.partition_point(|cell| cell.0 <= self.last);
        let cells = &self.cells[self.cells.partition_point(|cell| cell.0 < start).min(next)..next];
        let Some((oldest, _)) = cells.first() else { return false };
        let start = start.max(oldest.minus(short - 1));
        let count = ((self.last.0 - start.0) / step) as usize + 1;
        let mut sums = vec![Counts::default(); count + steps];
        for (minute, counts) in cells {
            sums[((minute.0 - start.0) / step) as usize].add(*counts);
        }
        sums.windows(steps + 1).any(|around| {
            let bad = around.iter().map(|sum| sum.bad).sum();
            let inside: u64 = around[1..steps].iter().map(|sum| sum.valid).sum();
            bad > 0 && may_fire(tier, Counts { valid: inside.max(bad), bad, excluded: 0 })
        })
    }
}

/// Into how many steps short windows are cut to be looked at roughly.
const SHORT_STEPS: u32 = 5;

/// Every transition of a series up to `series.last`, with the index of its tier in `tiers`;
/// in order of time, and of `tiers` within a minute.
///
/// # Panics
/// In debug builds, if the cells are not sorted by minute.
pub fn settled(series: SeriesCells<'_>, tiers: &[Tier]) -> Vec<(usize, Transition)> {
    debug_assert!(series.cells.is_sorted_by(|a, b| a.0 < b.0), "cells are sorted by minute");
    let next = series.cells.partition_point(|cell| cell.0 <= series.last);
    let series = SeriesCells { cells: &series.cells[..next], ..series };
    let bad: Vec<(Minute, u64)> = series
        .cells
        .iter()
        .filter(|(_, counts)| counts.bad > 0)
        .map(|(minute, counts)| (*minute, counts.bad))
        .collect();
    let mut transitions = Vec::new();
    if bad.is_empty() {
        return transitions;
    }
    for (index, tier) in tiers.iter().enumerate() {
        let found = settled_tier(series, &bad, tier);
        transitions.extend(found.into_iter().map(|transition| (index, transition)));
    }
    transitions.sort_by_key(|(index, transition)| (transition.look.at, *index));
    transitions
}

/// The transitions of one tier.
fn settled_tier(series: SeriesCells<'_>, bad: &[(Minute, u64)], tier: &Tier) -> Vec<Transition> {
    let (long, short) = (tier.spec.long.1, tier.spec.short.1);
    let mut transitions = Vec::new();
    let mut candidates = Candidates::new(bad, tier);
    let mut long_window = Sliding::new(series.cells, long);
    let mut short_window = Sliding::new(series.cells, short);
    let mut state = State::default();
    let mut next = Some(Minute(0));
    while let Some(minute) = next {
        let candidate = match state {
            State::Firing(_) => Some(minute),
            _ => candidates.at_or_after(minute),
        };
        let Some(at) = candidate.filter(|at| *at <= series.last) else { break };
        let look = Look {
            at,
            long: long_window.move_to(at),
            short: short_window.move_to(at),
            covered_minutes: (at.0 + 1).saturating_sub(series.first.0),
        };
        let (after, transition) = step(state, tier, &look);
        state = after;
        transitions.extend(transition);
        // A ticket may have to wait for history while its windows stand still: the quarter
        // is complete `ceil(long / 4)` minutes after the first one, that one included.
        let history = Minute(series.first.0 + long.div_ceil(4) - 1);
        let times = [
            long_window.next_change(),
            short_window.next_change(),
            state.timeout(tier),
            Some(history),
        ];
        next = times.into_iter().flatten().filter(|time| *time > at).min();
    }
    transitions
}

/// The minutes at which the long window holds at least `min_bad` bad events, and the short one any.
struct Candidates<'a> {
    bad: &'a [(Minute, u64)],
    long: u32,
    short: u32,
    min_bad: u64,
    /// The bad cells `start..end` of the long window and their sum.
    start: usize,
    end: usize,
    sum: u64,
}

impl<'a> Candidates<'a> {
    fn new(bad: &'a [(Minute, u64)], tier: &Tier) -> Candidates<'a> {
        let (long, short, min_bad) = (tier.spec.long.1, tier.spec.short.1, tier.options.min_bad);
        Candidates { bad, long, short, min_bad, start: 0, end: 0, sum: 0 }
    }

    /// The first such minute from `minute` on; calls come with rising minutes.
    fn at_or_after(&mut self, minute: Minute) -> Option<Minute> {
        let mut at = minute;
        loop {
            while let Some(cell) = self.bad.get(self.end).filter(|cell| cell.0 <= at) {
                self.sum += cell.1;
                self.end += 1;
            }
            while self.start < self.end && self.bad[self.start].0.0 + self.long <= at.0 {
                self.sum -= self.bad[self.start].1;
                self.start += 1;
            }
            let newest = self.bad[..self.end].last();
            let fails = newest.is_some_and(|cell| cell.0.0 + self.short > at.0);
            if fails && self.sum >= self.min_bad {
                return Some(at);
            }
            // Only another bad cell can lift the sums.
            at = self.bad.get(self.end)?.0;
        }
    }
}

/// The sum of the cells of a window that moves forward.
struct Sliding<'a> {
    cells: &'a [(Minute, Counts)],
    minutes: u32,
    /// The cells `start..end` are in the window.
    start: usize,
    end: usize,
    sum: Counts,
}

impl<'a> Sliding<'a> {
    fn new(cells: &'a [(Minute, Counts)], minutes: u32) -> Sliding<'a> {
        Sliding { cells, minutes, start: 0, end: 0, sum: Counts::default() }
    }

    /// The sum of the window that ends with `at`; calls come with rising minutes.
    fn move_to(&mut self, at: Minute) -> Counts {
        self.skip_to(at);
        while let Some((_, counts)) = self.cells.get(self.end).filter(|cell| cell.0 <= at) {
            self.sum.add(*counts);
            self.end += 1;
        }
        while self.start < self.end && self.cells[self.start].0.0 + self.minutes <= at.0 {
            let (_, counts) = self.cells[self.start];
            self.sum.valid -= counts.valid;
            self.sum.bad -= counts.bad;
            self.sum.excluded -= counts.excluded;
            self.start += 1;
        }
        self.sum
    }

    /// Where the whole window lies behind the new one: begins anew at its first cell.
    fn skip_to(&mut self, at: Minute) {
        let is_behind = |cell: &(Minute, Counts)| cell.0.0 + self.minutes <= at.0;
        if self.end < self.cells.len() && is_behind(&self.cells[self.end]) {
            let rest = &self.cells[self.end..];
            self.start = self.end + rest.partition_point(is_behind);
            self.end = self.start;
            self.sum = Counts::default();
        }
    }

    /// The next minute at which a cell enters or leaves.
    fn next_change(&self) -> Option<Minute> {
        let enters = self.cells.get(self.end).map(|cell| cell.0);
        let leaves =
            (self.start < self.end).then(|| Minute(self.cells[self.start].0.0 + self.minutes));
        enters.into_iter().chain(leaves).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AlertOptions, Change, SPECS, tiers_of};
    use super::*;
    use crate::slo::objective::Objectives;
    use crate::time::DAY_MINUTES;
    use proptest::prelude::*;

    fn tiers(options: &AlertOptions) -> Vec<Tier> {
        tiers_of(&Objectives::default().default[0], options).active
    }

    /// The definition: one step at the end of every minute, windows summed from scratch.
    fn obvious(series: SeriesCells<'_>, tiers: &[Tier]) -> Vec<(usize, Transition)> {
        let mut states = vec![State::default(); tiers.len()];
        let mut transitions = Vec::new();
        let start = series.cells.first().map_or(series.last, |cell| cell.0);
        for at in (start.0..=series.last.0).map(Minute) {
            for (index, tier) in tiers.iter().enumerate() {
                let sum = |minutes| {
                    let range = window_range(at, minutes);
                    let mut sum = Counts::default();
                    let within = series.cells.iter().filter(|cell| range.contains(&cell.0));
                    within.for_each(|cell| sum.add(cell.1));
                    sum
                };
                let look = Look {
                    at,
                    long: sum(tier.spec.long.1),
                    short: sum(tier.spec.short.1),
                    covered_minutes: at.0 - series.first.0 + 1,
                };
                let (state, transition) = step(states[index], tier, &look);
                states[index] = state;
                transitions.extend(transition.map(|transition| (index, transition)));
            }
        }
        transitions
    }

    /// One cell a minute from minute `START`, each `(valid, bad)`.
    const START: u32 = 1_000_000;

    fn cells(minutes: impl IntoIterator<Item = (u64, u64)>) -> Vec<(Minute, Counts)> {
        let counts = |(valid, bad)| Counts { valid, bad, excluded: 0 };
        let cell = |(index, pair)| (Minute(START + index as u32), counts(pair));
        (0..).zip(minutes).map(cell).filter(|cell| cell.1.valid > 0).collect()
    }

    /// Name, change and minutes since `START` of every transition.
    fn told(cells: &[(Minute, Counts)], last: u32) -> Vec<(&'static str, &'static str, u32)> {
        let tiers = tiers(&AlertOptions::default());
        let first = cells.first().map_or(Minute(START), |cell| cell.0);
        let series = SeriesCells { cells, first, last: Minute(START + last) };
        let name = |(index, found): (usize, Transition)| {
            let tier: &Tier = &tiers[index];
            (tier.spec.name, found.change.name(), found.look.at.0 - START)
        };
        settled(series, &tiers).into_iter().map(name).collect()
    }

    /// The first minute at which a tier of 99.8% and 30 days should fire, by the formulas alone,
    /// in whole numbers and by summing the terms of the binomial distribution.
    fn expected_firing(
        minutes: &[(u64, u64)],
        (long, short): (usize, usize),
        factor_thousandths: u64,
    ) -> Option<u32> {
        let sum = |at: usize, length: usize| {
            let from = (at + 1).saturating_sub(length);
            minutes[from..=at].iter().fold((0, 0), |sum, m| (sum.0 + m.0, sum.1 + m.1))
        };
        // bad / valid / 0.002 >= factor.
        let burns = |(valid, bad): (u64, u64)| {
            valid > 0 && bad * 1_000_000 >= factor_thousandths * 2 * valid
        };
        let unlikely = |(valid, bad): (u64, u64)| {
            let mut ln_mass = valid as f64 * 0.998_f64.ln();
            let mut below = ln_mass.exp();
            for k in 1..bad {
                ln_mass += (((valid - k + 1) as f64 / k as f64) * (0.002 / 0.998)).ln();
                below += ln_mass.exp();
            }
            bad >= 3 && 1.0 - below <= 0.001
        };
        let fires = |at: &usize| {
            burns(sum(*at, short)) && burns(sum(*at, long)) && unlikely(sum(*at, long))
        };
        (0..minutes.len()).find(fires).map(|at| at as u32)
    }

    const ROLLOUT_5M: ((usize, usize), u64) = ((5, 2), 50_000);
    const PAGE_1H: ((usize, usize), u64) = ((60, 5), 14_400);
    const PAGE_6H: ((usize, usize), u64) = ((360, 30), 6_000);
    const TICKET_1D: ((usize, usize), u64) = ((1_440, 120), 3_000);
    const TICKET_3D: ((usize, usize), u64) = ((4_320, 360), 1_000);

    fn firings(told: &[(&'static str, &'static str, u32)]) -> Vec<(&'static str, u32)> {
        told.iter().filter(|t| t.1 == "firing").map(|t| (t.0, t.2)).collect()
    }

    const STEADY: usize = 3 * DAY_MINUTES as usize;

    #[test]
    fn an_outage_after_steady_days_pages_and_opens_no_ticket() {
        let incident = std::iter::repeat_n((100, 100), 3).chain(std::iter::repeat_n((100, 10), 20));
        let good = std::iter::repeat_n((100, 0), STEADY);
        let minutes: Vec<_> =
            good.chain(incident).chain(std::iter::repeat_n((100, 0), 600)).collect();
        let told = told(&cells(minutes.iter().copied()), minutes.len() as u32 - 1);
        let expect = [("rollout_5m", ROLLOUT_5M), ("page_1h", PAGE_1H), ("page_6h", PAGE_6H)].map(
            |(name, (windows, factor))| (name, expected_firing(&minutes, windows, factor).unwrap()),
        );
        assert_eq!(firings(&told), expect);
        // In minutes of the incident: 50 bad of 500 needs the first minute, 172.8 of 6,000 the
        // second, 432 of 36,000 the three and 14 more.
        let start = STEADY as u32;
        assert_eq!(expect.map(|(_, at)| at - start), [0, 1, 16]);
        // Each resolves in the minute in which its short window falls below its factor: two
        // minutes without failures of 2; of 5 minutes less than 14.4 bad, so one with 10; of 30
        // minutes less than 36, so three with 10.
        let resolved: Vec<_> =
            told.iter().filter(|t| t.1 == "resolved").map(|t| (t.0, t.2 - start)).collect();
        assert_eq!(resolved, [("rollout_5m", 23), ("page_1h", 26), ("page_6h", 49)]);
    }

    #[test]
    fn a_slow_leak_opens_both_tickets_and_pages_no_one() {
        let leak = std::iter::repeat_n((100, 1), DAY_MINUTES as usize);
        let minutes: Vec<_> = std::iter::repeat_n((100, 0), STEADY).chain(leak).collect();
        let told = told(&cells(minutes.iter().copied()), minutes.len() as u32 - 1);
        let expect = [("ticket_1d", TICKET_1D), ("ticket_3d", TICKET_3D)]
            .map(|(name, tier)| (name, expected_firing(&minutes, tier.0, tier.1).unwrap()));
        assert_eq!(firings(&told), expect);
        // 864 of 144,000 after 864 minutes; of 432,000 it takes evidence beyond the budget.
        assert_eq!(expect[0].1, STEADY as u32 + 863);
        assert!(expect[1].1 > expect[0].1);
        for (windows, factor) in [ROLLOUT_5M, PAGE_1H, PAGE_6H] {
            assert_eq!(expected_firing(&minutes, windows, factor), None);
        }
    }

    #[test]
    fn a_fresh_series_opens_no_ticket() {
        let incident = std::iter::repeat_n((100, 100), 3).chain(std::iter::repeat_n((100, 10), 20));
        let minutes: Vec<_> = incident.chain(std::iter::repeat_n((100, 0), 200)).collect();
        let told = told(&cells(minutes.iter().copied()), minutes.len() as u32 - 1);
        let names: Vec<_> = firings(&told).iter().map(|firing| firing.0).collect();
        assert_eq!(names, ["rollout_5m", "page_1h", "page_6h"]);
        assert!(told.iter().all(|t| !t.0.starts_with("ticket")), "{told:?}");
    }

    #[test]
    fn outages_of_the_workbook_fire_after_their_minutes() {
        // SRE workbook at 99.8%: detection after `long * factor * 0.002 / error_ratio` minutes
        // of steady traffic, which ends within the minute before it.
        let check = |bad: u64, tier: &str, expect: Option<u32>| {
            let minutes: Vec<_> = std::iter::repeat_n((1_000, 0), STEADY)
                .chain(std::iter::repeat_n((1_000, bad), 700))
                .collect();
            let told = told(&cells(minutes.iter().copied()), minutes.len() as u32 - 1);
            let fired = firings(&told).iter().find(|firing| firing.0 == tier).map(|f| f.1);
            let minute = fired.map(|at| at - STEADY as u32 + 1);
            assert_eq!(minute, expect, "{bad} of 1,000, {tier}");
        };
        check(1_000, "page_1h", Some(2)); // 104 s
        check(1_000, "page_6h", Some(5)); // 259 s
        check(1_000, "ticket_1d", Some(9)); // 518 s
        check(100, "rollout_5m", Some(5)); // both windows full of 10%
        check(100, "page_1h", Some(18)); // 17.28 min
        check(100, "page_6h", Some(44)); // 43.2 min
        check(100, "ticket_1d", Some(87)); // 86.4 min
        check(10, "page_1h", None);
        check(10, "page_6h", None);
        check(20, "page_6h", Some(216));
    }

    #[test]
    fn the_scenarios_of_the_workbook_fire_and_clear_each_tier_at_their_minutes() {
        // At 99.8% and 1,000 requests a minute, `bad` of which fail for `lasting` minutes after
        // three clean days: the n-th minute of the failures in which a tier fires, and the n-th
        // minute after them in which it clears.
        // A tier fires in minute ceil(long * factor * 0.002 / error_ratio), or later where the
        // evidence needs it: P(X >= k) of 4,320,000 at 0.002, of whom 8,640 are allowed, falls to
        // 0.001 at k = 8,929 (0.000995; at 8,928 it is 0.001032). It clears in minute
        // floor(short * (1 - factor * 0.002 / error_ratio)) + 1 after the last failure.
        let check = |bad: u64, lasting: usize, expect: &[(&str, u32, u32)]| {
            let minutes: Vec<_> = std::iter::repeat_n((1_000, 0), STEADY)
                .chain(std::iter::repeat_n((1_000, bad), lasting))
                .chain(std::iter::repeat_n((1_000, 0), 600))
                .collect();
            let (begin, end) = (STEADY as u32, (STEADY + lasting) as u32);
            let told = told(&cells(minutes.iter().copied()), minutes.len() as u32 - 1);
            let mut found: Vec<_> = firings(&told)
                .into_iter()
                .map(|(tier, at)| {
                    let clears = |t: &&(&str, &str, u32)| t.0 == tier && t.1 == "resolved";
                    let cleared = told.iter().find(clears).unwrap().2;
                    (tier, at - begin + 1, cleared - end + 1)
                })
                .collect();
            found.sort_by_key(|(tier, ..)| SPECS.iter().position(|spec| spec.name == *tier));
            assert_eq!(found, expect, "{bad} of 1,000 for {lasting} minutes");
        };
        // 100%: 500 times the budget.
        let outage = [
            ("rollout_5m", 1, 2),
            ("page_1h", 2, 5),
            ("page_6h", 5, 30),
            ("ticket_1d", 9, 120),
            ("ticket_3d", 9, 360),
        ];
        check(1_000, 10, &outage);
        // 10%: 50 times, just what rollout_5m takes, so that it clears in the first good minute.
        check(100, 60, &[("rollout_5m", 5, 1), ("page_1h", 18, 4), ("page_6h", 44, 27)]);
        // 1%: 5 times. At 0.6% of two hours ticket_1d still burns, a minute later it does not.
        check(10, 1_000, &[("ticket_1d", 864, 49), ("ticket_3d", 893, 289)]);
        // 0.5%: 2.5 times.
        check(5, 2_000, &[("ticket_3d", 1_786, 217)]);
        // A spike of one minute: a roll-out would be rolled back, nothing else is told.
        check(1_000, 1, &[("rollout_5m", 1, 2)]);
        // A slow leak: 1.5 times, for two days and more.
        check(3, 3_100, &[("ticket_3d", 2_977, 121)]);
    }

    #[test]
    fn silence_after_an_outage_goes_stale_after_the_long_window() {
        let minutes: Vec<_> =
            std::iter::repeat_n((100, 0), STEADY).chain([(100, 100), (100, 100)]).collect();
        let told = told(&cells(minutes), STEADY as u32 + 1_000);
        // Minutes of the outage: 0 and 1. The rollout tier's short window holds less than 10
        // valid ones from minute 3 on, page_1h's from minute 6 on; stale 5 and 60 minutes later.
        let ends: Vec<_> = told
            .iter()
            .filter(|t| t.1 != "firing")
            .map(|t| (t.0, t.1, t.2 - STEADY as u32))
            .collect();
        assert_eq!(ends, [("rollout_5m", "stale", 8), ("page_1h", "stale", 66)]);
    }

    #[test]
    fn a_busy_month_without_failures_has_nothing_to_tell() {
        let minutes = std::iter::repeat_n((100, 0), 43_200).chain([(100, 1), (100, 1)]);
        assert_eq!(told(&cells(minutes), 60_000), []);
        assert_eq!(told(&[], 100), []);
    }

    #[test]
    fn failures_at_both_ends_of_a_short_window_count_together() {
        let tier = tiers(&AlertOptions::default());
        let tier = tier.iter().find(|tier| tier.spec.name == "page_6h").expect("a default tier");
        // 5 of some 400 in 30 minutes burn at above 6, the 2 or 3 of fewer minutes do not.
        for shift in 100..130 {
            let bad = |minute| match minute {
                _ if minute == shift => 2,
                _ if minute == shift + 29 => 3,
                _ => 0,
            };
            let cells =
                cells((0..300).map(|minute| (14 - 5 * u64::from(bad(minute) > 0), bad(minute))));
            let series =
                SeriesCells { cells: &cells, first: Minute(START), last: Minute(START + 299) };
            let both = series.look(tier, Minute(START + shift + 29)).short;
            assert_eq!((both.bad, may_fire(tier, both)), (5, true), "{shift}");
            assert!(series.may_be_firing(tier), "{shift}");
        }
    }

    #[test]
    fn cells_after_the_last_final_minute_are_not_looked_at() {
        let minutes: Vec<_> = std::iter::repeat_n((100, 100), 10).collect();
        let tiers = tiers(&AlertOptions::default());
        let cells = cells(minutes);
        let first = Minute(START);
        let none = SeriesCells { cells: &cells, first, last: Minute(START - 1) };
        assert_eq!(settled(none, &tiers), []);
        let one = settled(SeriesCells { last: first, ..none }, &tiers);
        assert!(one.iter().all(|found| found.1.look.at == first));
        assert!(one.iter().any(|found| found.1.change == Change::Firing));
    }

    #[test]
    fn an_alert_that_was_clear_for_too_short_a_time_still_goes_stale() {
        let options = AlertOptions {
            min_bad: 1,
            min_valid: 1,
            keep_firing_for_minutes: 2,
            ..AlertOptions::default()
        };
        let tiers = tiers(&options);
        let cells = cells([(3, 3), (100, 0)]);
        let first = Minute(START);
        let series = SeriesCells { cells: &cells, first, last: Minute(START + 8) };
        let found = settled(series, &tiers);
        assert_eq!(found, obvious(series, &tiers));
        let last = found.last().unwrap();
        assert_eq!((last.0, last.1.change, last.1.look.at), (0, Change::Stale, series.last));
    }

    /// Stretches of minutes: how long, what fails in a hundred, and how busy; gaps among them.
    fn stretches() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let length = prop_oneof![1..10_usize, 10..200_usize, 200..1_500_usize];
        let valid = prop_oneof![Just(0_u64), 1..4_u64, 5..15_u64, Just(100)];
        let percent = prop_oneof![3 => Just(0_u64), 1 => 1..5_u64, 1 => 5..30_u64, 1 => Just(100)];
        let stretch = (length, valid, percent, 1..20_usize);
        prop::collection::vec(stretch, 1..12).prop_map(|stretches| {
            let mut minutes = Vec::new();
            let mut owed = 0;
            for (length, valid, percent, every) in stretches {
                for index in 0..length {
                    let valid = if index % every == 0 { valid } else { 0 };
                    owed += valid * percent;
                    let bad = (owed / 100).min(valid);
                    owed -= bad * 100;
                    minutes.push((valid, bad));
                }
            }
            minutes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn breakpoints_give_what_every_minute_gives(
            minutes in stretches(),
            after in 0..3_000_u32,
            before in prop_oneof![Just(0_u32), 0..2_000_u32],
            min_bad in 1..5_u64,
            min_valid in 1..20_u64,
            keep_firing_for_minutes in prop_oneof![Just(0_u32), 1..100_u32],
        ) {
            let options = AlertOptions {
                min_bad,
                min_valid,
                keep_firing_for_minutes,
                ..AlertOptions::default()
            };
            let tiers = tiers(&options);
            let last = Minute(START + minutes.len() as u32 + after);
            let cells = cells(minutes);
            let first = cells.first().map_or(Minute(START), |cell| cell.0).minus(before);
            let series = SeriesCells { cells: &cells, first, last };
            let transitions = settled(series, &tiers);
            prop_assert_eq!(&transitions, &obvious(series, &tiers));
            for (index, transition) in transitions {
                let look = transition.look;
                prop_assert_eq!(series.look(&tiers[index], look.at), look);
            }
        }
    }

    /// Whether each tier fires after these transitions.
    fn firing(transitions: &[(usize, Transition)], tiers: usize) -> Vec<bool> {
        let mut firing = vec![false; tiers];
        for (index, transition) in transitions {
            firing[*index] = transition.change == Change::Firing;
        }
        firing
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_fires_burned_lately_and_what_did_not_burn_needs_no_history(
            minutes in stretches(),
            spread in prop_oneof![2 => Just(1_u32), 1 => 2..12_u32],
            min_bad in 1..5_u64,
            min_valid in 1..20_u64,
            keep_firing_for_minutes in prop_oneof![Just(0_u32), 1..100_u32, 1_000..9_000_u32],
        ) {
            let options = AlertOptions {
                min_bad,
                min_valid,
                keep_firing_for_minutes,
                ..AlertOptions::default()
            };
            let tiers = tiers(&options);
            let mut cells = cells(minutes);
            cells.iter_mut().for_each(|cell| cell.0.0 = START + (cell.0.0 - START) * spread);
            let first = cells.first().map_or(Minute(START), |cell| cell.0);
            let end = cells.last().map_or(START, |cell| cell.0.0) + 12_000;
            let all = SeriesCells { cells: &cells, first, last: Minute(end) };
            let transitions = settled(all, &tiers);
            // Also where it ends: the last minute of each firing is the one that proves most.
            let ends = transitions.iter().flat_map(|(_, one)| [one.look.at.0 - 1, one.look.at.0]);
            for last in (START..end).step_by(997).chain(ends).map(Minute) {
                let until = transitions.partition_point(|(_, one)| one.look.at <= last);
                for (tier, fires) in tiers.iter().zip(firing(&transitions[..until], tiers.len())) {
                    let within = tier.spec.failed_within_minutes(keep_firing_for_minutes);
                    let from = last.minus(within - 1);
                    let lately = cells.partition_point(|cell| cell.0 < from)
                        ..cells.partition_point(|cell| cell.0 <= last);
                    let series = SeriesCells { cells: &cells[lately], first, last };
                    prop_assert!(!fires || series.may_be_firing(tier), "{} {last}", tier.spec.name);
                    let burns = step(State::default(), tier, &all.look(tier, last)).0;
                    let fails = series.cells.iter().any(|cell| cell.1.bad > 0);
                    prop_assert!(fails || (!fires && burns == State::Inactive));
                }
            }
        }
    }

    #[test]
    fn how_long_an_alert_may_fire_after_it_burned_last_is_no_longer_than_that() {
        // Windows of 5 and 2 minutes. It burns last in minute 2, and would be stale in minute 8, but
        // for the events of that; clear since then, it would be resolved in minute 15, but for
        // the silence from then on; so it is stale in minute 20.
        let options = AlertOptions { keep_firing_for_minutes: 7, ..AlertOptions::default() };
        let tiers = tiers(&options);
        let mut minutes = [(0, 0); 14];
        for (minute, counts) in [(0, (100, 100)), (1, (1, 1)), (8, (100, 0)), (13, (100, 0))] {
            minutes[minute] = counts;
        }
        let cells = cells(minutes);
        let series = |last| SeriesCells { cells: &cells, first: Minute(START), last: Minute(last) };
        let fires = |last| firing(&settled(series(last), &tiers[..1]), 1)[0];
        let until = (START..START + 100).take_while(|last| fires(*last)).last().unwrap();
        let look = |last| series(last).look(&tiers[0], Minute(last));
        let burned = (START..until).rfind(|last| may_fire(&tiers[0], look(*last).short));
        assert_eq!((burned.unwrap() - START, until - START), (2, 19));
        assert_eq!(tiers[0].spec.burned_within_minutes(7), 19 - 2 + 1);
        assert!(series(until).may_be_firing(&tiers[0]));
    }
}
