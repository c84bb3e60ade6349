//! How much each token may ask and send: a bucket that fills over time.
//!
//! [`Bucket`] is pure: time comes in as an argument. It holds at most [`BURST_SECONDS`] of its
//! rate. Something is admitted while anything is left, and then taken whole, so that the level
//! may fall below zero: how large a body is once inflated is known only then. What was taken too
//! much has to flow in again before anything else is admitted, so that the rate holds over time.
//!
//! Invariant: in any span of `t` seconds no more is taken than `rate * (t + BURST_SECONDS)` and
//! one amount.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ninefold_engine::config::Token;
use tokio::time::Instant;

use crate::ingest::Refusal;
use crate::problem::{Kind, Problem};

/// So many seconds of the rate may be used at once after a pause.
pub(crate) const BURST_SECONDS: u64 = 10;

const MICROS: i128 = 1_000_000;

/// A rate, and what is left of it.
#[derive(Debug)]
struct Bucket {
    per_second: u64,
    /// In millionths of a unit, so that a microsecond adds a whole number of them.
    level: i128,
    /// When it had that level.
    at: Duration,
}

impl Bucket {
    /// A full one, at time zero.
    fn new(per_second: u64) -> Bucket {
        let mut bucket = Bucket { per_second, level: 0, at: Duration::ZERO };
        bucket.level = bucket.full();
        bucket
    }

    fn full(&self) -> i128 {
        i128::from(self.per_second) * i128::from(BURST_SECONDS) * MICROS
    }

    /// Takes an amount as of `now`; 0 only asks.
    ///
    /// # Errors
    /// Nothing is left, and nothing is taken: after so long there will be. A time before one
    /// that was named adds nothing.
    fn take(&mut self, now: Duration, amount: u64) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.at).as_micros() as i128;
        self.at = self.at.max(now);
        self.level = (self.level + passed * i128::from(self.per_second)).min(self.full());
        if self.level <= 0 {
            let micros = (1 - self.level).div_euclid(i128::from(self.per_second)) + 1;
            return Err(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
        }
        self.level -= i128::from(amount) * MICROS;
        Ok(())
    }
}

/// The buckets of one token.
#[derive(Debug)]
struct Buckets {
    requests: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// The limits of all tokens that have one.
#[derive(Debug)]
pub(crate) struct Limits {
    started: Instant,
    by_name: HashMap<String, Mutex<Buckets>>,
    refused: AtomicU64,
}

impl Limits {
    /// Those of `tokens`, all full.
    pub(crate) fn new(tokens: &[Token]) -> Limits {
        let is_limited = |token: &&Token| {
            token.requests_per_second.is_some() || token.bytes_per_second.is_some()
        };
        let buckets = |token: &Token| {
            let requests = token.requests_per_second.map(Bucket::new);
            let bytes = token.bytes_per_second.map(Bucket::new);
            (token.name.clone(), Mutex::new(Buckets { requests, bytes }))
        };
        let by_name = tokens.iter().filter(is_limited).map(buckets).collect();
        Limits { started: Instant::now(), by_name, refused: AtomicU64::new(0) }
    }

    /// How many requests were refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes one request of a token.
    pub(crate) fn request(&self, name: &str) -> Result<(), Problem> {
        self.take(name, |buckets| &mut buckets.requests, 1)
            .map_err(|wait| problem(wait, "requests"))
    }

    /// Takes bytes of events of a token; 0 only asks.
    pub(crate) fn bytes(&self, name: &str, bytes: u64) -> Result<(), Duration> {
        self.take(name, |buckets| &mut buckets.bytes, bytes)
    }

    fn take(
        &self,
        name: &str,
        which: impl Fn(&mut Buckets) -> &mut Option<Bucket>,
        amount: u64,
    ) -> Result<(), Duration> {
        let Some(buckets) = self.by_name.get(name) else { return Ok(()) };
        let mut buckets = buckets.lock().expect("nobody panics while holding it");
        let Some(bucket) = which(&mut buckets) else { return Ok(()) };
        let taken = bucket.take(self.started.elapsed(), amount);
        self.refused.fetch_add(u64::from(taken.is_err()), Ordering::Relaxed);
        taken
    }
}

/// What a token is told that has used up its rate.
pub(crate) fn problem(wait: Duration, what: &str) -> Problem {
    let detail = format!("the token has used up its {what} a second");
    let mut problem = Problem::new(Kind::Rate, detail);
    problem.retry_after_s = wait.as_secs() + 1;
    problem
}

/// Charges what a body holds, once that is known.
#[derive(Clone, Debug)]
pub struct Meter {
    pub(crate) limits: Arc<Limits>,
    /// The name of the token.
    pub(crate) name: String,
}

impl Meter {
    /// Charges the bytes of a body as they are once inflated, before anything is kept of it.
    ///
    /// # Errors
    /// The sender has used up its rate.
    pub fn charge(&self, bytes: u64) -> Result<(), Refusal> {
        self.limits.bytes(&self.name, bytes).map_err(Refusal::Rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_burst_is_admitted_and_then_the_rate() {
        let mut bucket = Bucket::new(2);
        for _ in 0..20 {
            assert_eq!(bucket.take(seconds(5.0), 1), Ok(()));
        }
        let wait = bucket.take(seconds(5.0), 1).unwrap_err();
        assert!(wait <= Duration::from_micros(2), "{wait:?}");
        assert_eq!(bucket.take(seconds(5.5), 1), Ok(()), "half a second is one request");
        assert!(bucket.take(seconds(5.0), 1).is_err(), "time does not go back");
    }

    #[test]
    fn what_was_taken_too_much_has_to_pass() {
        let mut bucket = Bucket::new(100);
        assert_eq!(bucket.take(Duration::ZERO, 1_500), Ok(()), "whole while anything is left");
        let wait = bucket.take(seconds(1.0), 0).unwrap_err();
        assert!((4.0..4.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(bucket.take(seconds(4.9), 1).is_err());
        assert_eq!(bucket.take(seconds(5.1), 1), Ok(()));
    }

    /// Whatever is asked and whenever: a span has what the rate allows, and who waits as long as
    /// told is admitted.
    #[test]
    fn no_span_has_more_than_its_rate() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |end: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % end
        };
        for _ in 0..50 {
            let rate = 1 + below(1_000);
            let most = 1 + below(3 * BURST_SECONDS * rate);
            let mut bucket = Bucket::new(rate);
            let mut now = Duration::ZERO;
            let mut taken: Vec<(Duration, u64)> = Vec::new();
            for _ in 0..200 {
                now += Duration::from_micros(below(5_000_000));
                let amount = 1 + below(most);
                if let Err(wait) = bucket.take(now, amount) {
                    now += wait;
                    assert_eq!(bucket.take(now, amount), Ok(()), "it waited {wait:?}");
                }
                taken.push((now, amount));
            }
            for (index, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (to, amount) in &taken[index..] {
                    sum += amount;
                    let allowed = rate as f64 * ((*to - *from).as_secs_f64() + 10.0);
                    assert!(sum as f64 <= allowed + most as f64 + 1.0, "{sum} of {allowed}");
                }
            }
        }
    }
}
