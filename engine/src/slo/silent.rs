//! Customers fallen silent: who sends far less than they always do at this hour of the week.
//!
//! A customer who cannot reach a service sends nothing that could fail, so their availability
//! reads as fine. What betrays them is their own history. (A notification silence is another
//! thing: [`crate::notify::silence`].)
//!
//! # Expected
//! For the last `L` minutes the same minutes of the [`WEEKS`] weeks before are counted, and those
//! an hour earlier and later, since clocks are put forward and back and jobs run late. Of all
//! that the history reaches the *quietest* counts (a holiday, an outage of ours), less two of its
//! own standard deviations: `λ = (max(0, sqrt(min y) - 1))²`, as the square root of a Poisson
//! count has the standard deviation 1/2 (Bartlett 1936). A history of less than [`WEEKS_MIN`]
//! weeks expects nothing: whoever is new is not missed.
//!
//! # Silent
//! With `x` events in the last `L` minutes, `P(X <= x)` of a Poisson law of mean `λ` is at most
//! [`CHANCE`]; `L` is each of [`SPANS_MINUTES`], so that the busy are missed within minutes and
//! the quiet within the day. Traffic that comes in bursts varies more than Poisson's: the minimum
//! over weeks and hours and `x <= λ / `[`FALL`] hold against it; a mere dip is no silence.
//!
//! # Together
//! One customer who stops is a customer who went home. Many who stop at once are an outage before
//! us: a network, a certificate, a client release. For each span of at most an hour, of `n`
//! customers who would be *missed* within it (λ is large enough) `k` are so, and fell silent in the
//! last [`TOGETHER_MINUTES`]; they are too many where `k` is at least [`TOGETHER_MIN`] and the
//! binomial tail `P(K >= k | n, `[`RATIO_USUAL`]`)` at most [`TAIL_MAX`]. The short spans tell of
//! the busy customers before it can be known of the others.
//!
//! Pure; nothing is expected of minutes before the history, which are no zeros.

use std::ops::RangeInclusive;

use super::alert::evidence::binomial_tail;
use crate::time::{DAY_MINUTES, Minute};

/// How many weeks of history are looked at.
pub const WEEKS: u32 = 4;
/// How many of them there have to be.
pub const WEEKS_MIN: usize = 2;
/// The lengths of time over which a customer may be missed, in minutes.
pub const SPANS_MINUTES: [u32; 4] = [5, 15, HOUR_MINUTES, 360];
/// A customer is silent where so few events have at most this probability.
pub const CHANCE: f64 = 1e-6;
/// Silent is who sends at most one part in so many of what is expected.
pub const FALL: f64 = 10.0;
/// Customers who fell silent within so many minutes did so together: the hour in which the
/// slowest of those who count are missed, and as long again for the others to stop after them.
pub const TOGETHER_MINUTES: u32 = 2 * HOUR_MINUTES;
/// The share of customers who stop for reasons of their own in that time, at most.
pub const RATIO_USUAL: f64 = 0.02;
/// Fewer customers are never many.
pub const TOGETHER_MIN: u64 = 3;
/// The largest chance of so many at which they are too many.
pub const TAIL_MAX: f64 = 0.001;

const HOUR_MINUTES: u32 = 60;
const WEEK_MINUTES: u32 = 7 * DAY_MINUTES;
/// The fewest events of which any can be missed: `λ` of fewer makes no event at all likely.
const EVENTS_MIN: u64 = 23;

/// A customer who has fallen silent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Silent {
    /// The shortest span in which they are missed, in minutes.
    pub span_minutes: u32,
    /// Events in that span.
    pub events: u64,
    /// What was to be expected in it, at least.
    pub expected: f64,
    /// The probability of so few.
    pub p_value: f64,
}

/// What is known of a customer at a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// The shortest span in which they would be missed, in minutes; `None` where they would not
    /// be in any.
    pub missed_minutes: Option<u32>,
    /// How they are silent, where they are.
    pub silent: Option<Silent>,
}

impl Look {
    /// Whether they would be missed within the hour.
    pub fn is_missed(&self) -> bool {
        self.missed_minutes.is_some_and(|minutes| minutes <= HOUR_MINUTES)
    }
}

/// The lengths of time for which customers are counted who fell silent together, in minutes.
pub const TOGETHER_SPANS: [u32; 3] = [SPANS_MINUTES[0], SPANS_MINUTES[1], SPANS_MINUTES[2]];

/// Customers of a service by each of [`TOGETHER_SPANS`]: how many would be missed within it, and
/// how many of them are and fell silent lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    missed: [u64; 3],
    silent: [u64; 3],
}

impl Tally {
    /// Of one customer, who fell silent lately or not.
    pub fn of(look: &Look, lately: bool) -> Tally {
        let within = |minutes: Option<u32>, span: u32| minutes.is_some_and(|one| one <= span);
        let silent = look.silent.map(|silent| silent.span_minutes).filter(|_| lately);
        let count = |is: bool| u64::from(is);
        Tally {
            missed: TOGETHER_SPANS.map(|span| count(within(look.missed_minutes, span))),
            silent: TOGETHER_SPANS
                .map(|span| count(within(look.missed_minutes, span) && within(silent, span))),
        }
    }

    /// Adds other customers.
    pub fn add(&mut self, other: Tally) {
        let sum = |a: &mut [u64; 3], b: [u64; 3]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        sum(&mut self.missed, other.missed);
        sum(&mut self.silent, other.silent);
    }

    /// How many would be missed within the hour, and how many of them fell silent lately.
    pub fn within_hour(&self) -> (u64, u64) {
        (self.missed[2], self.silent[2])
    }

    /// Of the span by which they are least likely so many by chance: how many would be missed,
    /// how many fell silent, and how likely that is.
    pub fn least_likely(&self) -> (u64, u64, f64) {
        let spans = self.missed.into_iter().zip(self.silent);
        let all = spans.map(|(missed, silent)| (missed, silent, chance_of(silent, missed)));
        // The longest of equals: it counts most customers.
        let least = all.reduce(|least, one| if one.2 <= least.2 { one } else { least });
        least.unwrap_or((0, 0, 1.0))
    }

    /// Whether they are too many by any span.
    pub fn are_many(&self) -> bool {
        let mut spans = self.missed.into_iter().zip(self.silent);
        spans.any(|(missed, silent)| are_many(silent, missed))
    }
}

/// Looks at a customer at the end of minute `at`. `events` counts theirs over a range of minutes,
/// both ends included; `known_from` is the first minute of their history.
///
/// ```
/// use ninefold_engine::slo::silent::look;
/// use ninefold_engine::time::Minute;
/// // 20 events in each minute for three weeks, and nothing for the last five.
/// let now = Minute(29_409_120);
/// let count = |minutes: std::ops::RangeInclusive<Minute>| {
///     let last = (*minutes.end()).min(now.minus(5));
///     20 * u64::from((last.0 + 1).saturating_sub(minutes.start().0))
/// };
/// let silent = |at, days: u32| look(at, now.minus(days * 1_440), count).silent;
/// let found = silent(now, 21).unwrap();
/// assert_eq!((found.span_minutes, found.events, found.expected), (5, 0, 81.0));
/// assert!(silent(now.minus(5), 21).is_none());
/// assert!(silent(now, 8).is_none(), "a week is no history");
/// ```
pub fn look(
    at: Minute,
    known_from: Minute,
    events: impl Fn(RangeInclusive<Minute>) -> u64,
) -> Look {
    // Spares nearly everything for the many who send little: the longest span, a week ago.
    let [.., longest] = SPANS_MINUTES;
    let week_ago = at.minus(WEEK_MINUTES);
    if events(week_ago.minus(longest - 1)..=week_ago) < EVENTS_MIN {
        return Look::default();
    }
    let mut look = Look::default();
    for span_minutes in SPANS_MINUTES {
        let expected = expected(at, known_from, span_minutes, &events);
        // Even none at all would be no surprise: spares the count.
        if (-expected).exp() > CHANCE {
            continue;
        }
        look.missed_minutes = look.missed_minutes.or(Some(span_minutes));
        let seen = events(at.minus(span_minutes - 1)..=at);
        let p_value = poisson_below(seen, expected);
        if look.silent.is_none() && p_value <= CHANCE && seen as f64 * FALL <= expected {
            look.silent = Some(Silent { span_minutes, events: seen, expected, p_value });
        }
    }
    look
}

/// How many events are to be expected at least in the `span_minutes` that end with `at`.
fn expected(
    at: Minute,
    known_from: Minute,
    span_minutes: u32,
    events: &impl Fn(RangeInclusive<Minute>) -> u64,
) -> f64 {
    let ends = |week: u32| {
        let hours = [-1, 0, 1].map(|hour| hour * i64::from(HOUR_MINUTES));
        let end = i64::from(at.0) - i64::from(week * WEEK_MINUTES);
        hours.map(|hour| Minute((end + hour).max(0) as u32))
    };
    let known = |end: &Minute| end.minus(span_minutes - 1) >= known_from;
    let mut weeks = 0;
    let mut quietest = u64::MAX;
    for ends in (1..=WEEKS).map(ends).filter(|ends| ends.iter().all(known)) {
        weeks += 1;
        for end in ends {
            quietest = quietest.min(events(end.minus(span_minutes - 1)..=end));
            if quietest < EVENTS_MIN {
                return 0.0;
            }
        }
    }
    if weeks < WEEKS_MIN {
        return 0.0;
    }
    ((quietest as f64).sqrt() - 1.0).powi(2)
}

/// `P(X <= x)` for a Poisson law of mean `mean`: the sum of its terms.
fn poisson_below(x: u64, mean: f64) -> f64 {
    // What matters lies far below the mean, where the terms grow and the last one leads.
    if x as f64 >= mean {
        return 1.0;
    }
    let mut ln_term = -mean;
    let mut sum = ln_term.exp();
    for k in 1..=x {
        ln_term += (mean / k as f64).ln();
        sum += ln_term.exp();
    }
    sum.min(1.0)
}

/// How likely it is that so many of those who would be `missed` stop together, each for reasons
/// of their own.
pub fn chance_of(silent: u64, missed: u64) -> f64 {
    binomial_tail(silent, missed.max(silent), RATIO_USUAL)
}

/// Whether `silent` customers who stopped together, of `missed` who would be missed, are so many
/// that it is no chance.
///
/// ```
/// use ninefold_engine::slo::silent::are_many;
/// assert!(are_many(5, 20));
/// assert!(are_many(40, 1_000));
/// assert!(!are_many(22, 1_000), "twenty in a thousand may go home");
/// assert!(!are_many(2, 2), "two are few");
/// ```
pub fn are_many(silent: u64, missed: u64) -> bool {
    silent >= TOGETHER_MIN && chance_of(silent, missed) <= TAIL_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Minute = Minute(29_409_120);

    #[test]
    fn a_poisson_tail_is_the_sum_of_its_terms() {
        assert!((poisson_below(0, 2.0) - (-2.0_f64).exp()).abs() < 1e-15);
        let three = (-5.0_f64).exp() * (1.0 + 5.0 + 12.5 + 125.0 / 6.0);
        assert!((poisson_below(3, 5.0) - three).abs() < 1e-12);
        assert_eq!(poisson_below(6, 5.0), 1.0);
        assert_eq!(poisson_below(0, 1e9), 0.0);
    }

    #[test]
    fn nobody_can_be_missed_with_fewer_events() {
        let chance = |events: u64| (-((events as f64).sqrt() - 1.0).powi(2)).exp();
        assert!(chance(EVENTS_MIN) <= CHANCE && chance(EVENTS_MIN - 1) > CHANCE);
    }

    /// How many weeks before now the middle of a range lies.
    fn weeks_ago(minutes: &RangeInclusive<Minute>) -> u32 {
        (NOW.0 - minutes.end().0 + WEEK_MINUTES / 2) / WEEK_MINUTES
    }

    fn length(minutes: &RangeInclusive<Minute>) -> u64 {
        u64::from(minutes.end().0 - minutes.start().0 + 1)
    }

    #[test]
    fn the_quietest_week_decides_and_minutes_before_the_history_are_no_zeros() {
        // 100 a minute; two weeks ago half, and nothing is known of earlier ones.
        let count = |minutes: RangeInclusive<Minute>| {
            length(&minutes) * if weeks_ago(&minutes) == 2 { 50 } else { 100 }
        };
        let expect = (250.0_f64.sqrt() - 1.0).powi(2);
        let from = NOW.minus(2 * WEEK_MINUTES + 64);
        assert!((expected(NOW, from, 5, &count) - expect).abs() < 1e-9);
        assert_eq!(expected(NOW, Minute(from.0 + 1), 5, &count), 0.0, "one week is too few");
    }

    #[test]
    fn an_hour_earlier_or_later_counts_as_well() {
        // Opens at this very hour: a customer whose clock was put back comes an hour later.
        let opens = |minutes: RangeInclusive<Minute>| {
            let hour = |minute: u32| (minute - (NOW.0 - 30) % 1_440) % 1_440 < 600;
            (minutes.start().0..=minutes.end().0).filter(|at| hour(*at)).count() as u64 * 100
        };
        assert_eq!(expected(NOW, NOW.minus(5 * WEEK_MINUTES), 15, &opens), 0.0);
        let later = Minute(NOW.0 + 90);
        assert!(expected(later, NOW.minus(5 * WEEK_MINUTES), 15, &opens) > 1_000.0);
    }

    #[test]
    fn a_quiet_customer_is_missed_later_and_a_dip_is_no_silence() {
        // One event each two minutes.
        let steady = |last: Minute| {
            move |minutes: RangeInclusive<Minute>| {
                let end = last.min(*minutes.end());
                u64::from(end.0 / 2) - u64::from(end.0.min(minutes.start().0 - 1) / 2)
            }
        };
        let from = NOW.minus(3 * WEEK_MINUTES);
        let after = |minutes: u32| look(NOW, from, steady(NOW.minus(minutes)));
        assert_eq!(after(15), Look { missed_minutes: Some(60), silent: None });
        assert_eq!(after(60).silent.map(|found| found.span_minutes), Some(60));
        let tally = Tally::of(&after(60), true);
        assert_eq!((tally.missed, tally.silent), ([0, 0, 1], [0, 0, 1]));
        assert_eq!(Tally::of(&after(60), false).silent, [0; 3]);
        // One each twelve minutes: missed in the longest span alone, and never one of many.
        let slow = |minutes: RangeInclusive<Minute>| {
            if *minutes.end() == NOW { 0 } else { length(&minutes) / 12 }
        };
        let found = look(NOW, from, slow);
        assert_eq!(found.silent.map(|found| found.span_minutes), Some(360));
        assert!(!found.is_missed() && Tally::of(&found, true) == Tally::default());
        let half = |minutes: RangeInclusive<Minute>| {
            100 * length(&minutes) / if *minutes.end() == NOW { 2 } else { 1 }
        };
        assert_eq!(look(NOW, from, half), Look { missed_minutes: Some(5), silent: None });
    }

    #[test]
    fn the_busy_are_known_to_be_gone_before_the_others_can_be() {
        let silent =
            |span_minutes| Silent { span_minutes, events: 0, expected: 20.0, p_value: 0.0 };
        let busy = Look { missed_minutes: Some(5), silent: Some(silent(5)) };
        let slow = Look { missed_minutes: Some(60), silent: None };
        let mut tally = Tally::default();
        (0..5).for_each(|_| tally.add(Tally::of(&busy, true)));
        (0..95).for_each(|_| tally.add(Tally::of(&slow, true)));
        assert_eq!(tally.within_hour(), (100, 5));
        assert!(!are_many(5, 100) && tally.are_many());
        let (missed, gone, chance) = tally.least_likely();
        assert_eq!((missed, gone), (5, 5));
        assert!(chance < 1e-8);
    }
}
