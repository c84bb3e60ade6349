//! The oracle: an obvious, slow recount of raw NDJSON lines that shares no code with the engine.
//!
//! It reads each line with `serde_json`, applies the rules of the design one by one, and keeps
//! the counts per customer, service and minute in one ordered map. Windows, reports and settled
//! alerts are sums over that map, minute by minute. Where engine and recount differ, one of the
//! two is wrong; nothing here is fast, so that it can be read.
//!
//! Rules as read from the design, where that leaves room:
//! - `ts` as a number is a whole number; `status` and `count` are whole numbers too.
//! - An empty `service` is the `default` one.
//! - A latency is rounded to microseconds; exactly one hour is the longest that is valid.
//! - An episode's bad events are all those between its ends, joined gaps included.
//! - A firing alert is *quiet* while its short window holds fewer than 10 valid events and its
//!   tier does not burn; it goes stale when it has been quiet for the long window.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Customer, service, minute since the epoch.
pub type Key = (String, String, u32);

/// The counts of a set of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub valid: u64,
    pub bad: u64,
    pub excluded: u64,
    pub timed: u64,
    pub slow: u64,
    pub latency_sum_us: u64,
    pub latency_max_us: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.valid += other.valid;
        self.bad += other.bad;
        self.excluded += other.excluded;
        self.timed += other.timed;
        self.slow += other.slow;
        self.latency_sum_us += other.latency_sum_us;
        self.latency_max_us = self.latency_max_us.max(other.latency_max_us);
    }
}

/// What may be configured.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A timed event slower than this is slow.
    pub slow_over_us: u64,
    /// An id that stood within this many bytes before it, from the start of one line to that of
    /// the other, is a duplicate; 0 = none is.
    pub dedupe_bytes: u64,
}

impl Default for Rules {
    /// One second, and no dedupe window.
    fn default() -> Rules {
        Rules { slow_over_us: 1_000_000, dedupe_bytes: 0 }
    }
}

/// One request, or several equal ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub ts_ms: i64,
    pub customer: String,
    pub service: String,
    /// `good`, `bad` or `excluded`.
    pub outcome: &'static str,
    pub latency_us: Option<u64>,
    /// It has a latency that cannot be used.
    pub invalid_latency: bool,
    pub count: u64,
    pub id: Option<String>,
}

/// Everything that was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recount {
    pub read: u64,
    pub counted: u64,
    pub dead: u64,
    pub duplicate: u64,
    pub invalid_latency: u64,
    pub minutes: BTreeMap<Key, Counts>,
}

impl Recount {
    /// Counts the lines of a file; the last may lack its newline.
    pub fn of(lines: &[u8], rules: Rules) -> Recount {
        let mut recount = Recount::default();
        // Where the newest line that carried each id begins.
        let mut ids: BTreeMap<String, u64> = BTreeMap::new();
        let mut next = 0;
        for line in lines.split(|byte| *byte == b'\n') {
            let offset = next;
            next += line.len() as u64 + 1;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            recount.read += 1;
            let Ok(event) = event(line) else {
                recount.dead += 1;
                continue;
            };
            let id = event.id.clone();
            let seen = id.and_then(|id| ids.insert(id, offset));
            match seen {
                Some(before) if offset - before <= rules.dedupe_bytes => recount.duplicate += 1,
                _ => recount.count(&event, rules),
            }
        }
        assert_eq!(recount.read, recount.counted + recount.duplicate + recount.dead);
        recount
    }

    fn count(&mut self, event: &Event, rules: Rules) {
        self.counted += 1;
        self.invalid_latency += u64::from(event.invalid_latency);
        let minute = u32::try_from(event.ts_ms.div_euclid(60_000)).unwrap();
        let key = (event.customer.clone(), event.service.clone(), minute);
        let counts = self.minutes.entry(key).or_default();
        match event.outcome {
            "excluded" => counts.excluded += event.count,
            "bad" => {
                counts.valid += event.count;
                counts.bad += event.count;
            }
            _ => {
                counts.valid += event.count;
                if let Some(latency_us) = event.latency_us {
                    counts.timed += event.count;
                    counts.latency_sum_us += latency_us * event.count;
                    counts.latency_max_us = counts.latency_max_us.max(latency_us);
                    if latency_us > rules.slow_over_us {
                        counts.slow += event.count;
                    }
                }
            }
        }
    }

    /// The sum over a customer's minutes, of one service or of all.
    pub fn sum(
        &self,
        customer: &str,
        service: Option<&str>,
        minutes: RangeInclusive<u32>,
    ) -> Counts {
        let mut sum = Counts::default();
        for ((other, its_service, minute), counts) in self.of_customer(customer) {
            assert_eq!(other, customer);
            if minutes.contains(minute) && service.is_none_or(|service| service == its_service) {
                sum.add(counts);
            }
        }
        sum
    }

    /// The window of `length` minutes at minute `at`, which is in it.
    pub fn window(&self, customer: &str, service: &str, length: u32, at: u32) -> Counts {
        self.sum(customer, Some(service), (at + 1).saturating_sub(length)..=at)
    }

    /// All customers, in alphabetical order of their bytes.
    pub fn customers(&self) -> Vec<&str> {
        let mut customers: Vec<&str> = self.minutes.keys().map(|key| key.0.as_str()).collect();
        customers.dedup();
        customers
    }

    /// The services of a customer, in alphabetical order of their bytes.
    pub fn services(&self, customer: &str) -> Vec<&str> {
        let mut services: Vec<&str> =
            self.of_customer(customer).map(|(key, _)| key.1.as_str()).collect();
        services.dedup();
        services
    }

    /// The first and the last counted minute.
    pub fn span(&self) -> Option<(u32, u32)> {
        let minutes = || self.minutes.keys().map(|key| key.2);
        Some((minutes().min()?, minutes().max()?))
    }

    fn of_customer(&self, customer: &str) -> impl Iterator<Item = (&Key, &Counts)> {
        let from = (customer.to_owned(), String::new(), 0);
        self.minutes.range(from..).take_while(move |(key, _)| key.0 == customer)
    }
}

/// The event of a line, or why it is a dead letter.
pub fn event(line: &[u8]) -> Result<Event, String> {
    let Object(pairs) = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let known = [
        "ts",
        "customer",
        "service",
        "route",
        "status",
        "outcome",
        "latency_ms",
        "latency_us",
        "release",
        "cohort",
        "region",
        "id",
        "count",
    ];
    let mut fields: BTreeMap<&str, &Value> = BTreeMap::new();
    for (key, value) in pairs.iter().filter(|(key, _)| known.contains(&key.as_str())) {
        if fields.insert(key, value).is_some() {
            return Err(format!("{key} twice"));
        }
    }
    fields.retain(|_, value| !value.is_null());
    for text in ["service", "route", "release", "cohort", "region", "id"] {
        if fields.get(text).is_some_and(|value| !value.is_string()) {
            return Err(format!("{text} is no text"));
        }
    }
    let text = |key| fields.get(key).and_then(|value: &&Value| value.as_str()).unwrap_or_default();
    let (latency_us, invalid_latency) = latency(&fields)?;
    Ok(Event {
        ts_ms: time(fields.get("ts").ok_or("no ts")?)?,
        customer: customer(fields.get("customer").ok_or("no customer")?)?,
        service: if text("service").is_empty() { "default" } else { text("service") }.to_owned(),
        outcome: outcome(fields.get("status").copied(), fields.get("outcome").copied())?,
        latency_us,
        invalid_latency,
        count: count(fields.get("count").copied())?,
        id: fields.contains_key("id").then(|| text("id").to_owned()).filter(|id| !id.is_empty()),
    })
}

fn customer(value: &Value) -> Result<String, String> {
    let name = value.as_str().ok_or("customer is no text")?;
    if name.is_empty() || name.len() > 256 {
        return Err("customer is not 1 to 256 bytes".into());
    }
    Ok(name.to_owned())
}

fn time(value: &Value) -> Result<i64, String> {
    let ts_ms = match value {
        Value::String(text) => rfc3339(text).ok_or("ts is no RFC 3339 time")?,
        _ => value.as_i64().ok_or("ts is no whole number")?,
    };
    let year_2000 = days_before_year(2000) * 86_400_000;
    let year_2101 = days_before_year(2101) * 86_400_000;
    if ts_ms < year_2000 || ts_ms >= year_2101 {
        return Err("ts is outside the years 2000 to 2100".into());
    }
    Ok(ts_ms)
}

fn outcome(status: Option<&Value>, outcome: Option<&Value>) -> Result<&'static str, String> {
    let status = match status {
        None => None,
        Some(value) => Some(value.as_u64().ok_or("status is no whole number")?),
    };
    if status.is_some_and(|status| status != 0 && !(100..=599).contains(&status)) {
        return Err("status is neither 0 nor 100 to 599".into());
    }
    match outcome.map(Value::as_str) {
        Some(Some("good")) => Ok("good"),
        Some(Some("bad")) => Ok("bad"),
        Some(Some("excluded")) => Ok("excluded"),
        Some(_) => Err("outcome is none of good, bad, excluded".into()),
        None => match status {
            None => Err("neither status nor outcome".into()),
            Some(0) => Ok("excluded"),
            Some(500..) => Ok("bad"),
            Some(_) => Ok("good"),
        },
    }
}

fn count(value: Option<&Value>) -> Result<u64, String> {
    let Some(value) = value else { return Ok(1) };
    let count = value.as_u64().ok_or("count is no whole number")?;
    if !(1..=1_000_000).contains(&count) {
        return Err("count is not 1 to 1,000,000".into());
    }
    Ok(count)
}

/// The latency, and whether there is one that cannot be used.
fn latency(fields: &BTreeMap<&str, &Value>) -> Result<(Option<u64>, bool), String> {
    let (value, us_per_unit) = match (fields.get("latency_us"), fields.get("latency_ms")) {
        (Some(_), Some(_)) => return Err("two latencies".into()),
        (Some(value), None) => (value, 1.0),
        (None, Some(value)) => (value, 1_000.0),
        (None, None) => return Ok((None, false)),
    };
    let us = (value.as_f64().ok_or("latency is no number")? * us_per_unit).round();
    let negative = value.as_f64().is_some_and(|number| number < 0.0);
    if negative || !us.is_finite() || us > 3_600_000_000.0 {
        return Ok((None, true));
    }
    Ok((Some(us as u64), false))
}

/// Epoch milliseconds of `2025-12-01T02:00:00.123+02:00`.
fn rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let marks: String = [4, 7, 10, 13, 16].iter().filter_map(|at| text.chars().nth(*at)).collect();
    if !["--T::", "--t::", "-- ::"].contains(&marks.as_str()) || hour > 23 || minute > 59 {
        return None;
    }
    if second > 60 || !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let rest = &text[19..];
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let ms = match fraction.strip_prefix('.') {
        None if fraction.is_empty() => 0,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{digits}000")[..3].parse().ok()?
        }
        _ => return None,
    };
    let offset_minutes = offset_minutes(zone)?;
    let mut days = days_before_year(year) + day - 1;
    days += (1..month).map(|month| days_of_month(year, month)).sum::<i64>();
    let minutes = days * 1_440 + hour * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1_000 + ms)
}

fn offset_minutes(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let is_pair = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_pair(hours) || !is_pair(minutes) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let minutes = hours * 60 + minutes;
    Some(if zone.starts_with('-') { -minutes } else { minutes })
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to January 1st of `year`; negative before.
fn days_before_year(year: i64) -> i64 {
    let length = |year: i64| if is_leap(year) { 366 } else { 365 };
    if year < 1970 {
        -(year..1970).map(length).sum::<i64>()
    } else {
        (1970..year).map(length).sum()
    }
}

/// A JSON object that keeps a key that comes twice.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry().map_err(de::Error::custom)? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A target ratio as a fraction: 0.998 is `998 / 1000`.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub numerator: u64,
    pub denominator: u64,
}

/// The target unless said otherwise.
pub const TARGET: Target = Target { numerator: 998, denominator: 1_000 };

impl Target {
    /// `bad / valid > times * (1 - target)`, in integers.
    fn is_exceeded(self, bad: u64, valid: u64, times: (u64, u64)) -> bool {
        self.sides(bad, valid, times).0 > self.sides(bad, valid, times).1
    }

    /// `bad / valid` and `times * (1 - target)`, both by what makes them whole numbers.
    fn sides(self, bad: u64, valid: u64, times: (u64, u64)) -> (u128, u128) {
        let wide = u128::from;
        let allowed = wide(self.denominator - self.numerator);
        (wide(bad) * wide(self.denominator) * wide(times.1), allowed * wide(valid) * wide(times.0))
    }

    fn allowed_ratio(self) -> f64 {
        (self.denominator - self.numerator) as f64 / self.denominator as f64
    }
}

/// One customer's month in UTC, all services pooled.
#[derive(Clone, Debug, PartialEq)]
pub struct Month {
    pub valid: u64,
    pub bad: u64,
    pub excluded: u64,
    pub availability: Option<f64>,
    pub met: Option<bool>,
    pub budget_consumed: Option<f64>,
    /// Minutes with valid events and no good one.
    pub down_minutes: u64,
    /// Minutes without a valid event.
    pub idle_minutes: u64,
    /// Share of the minutes with at least 95% good events, idle ones included.
    pub time_slice: f64,
    /// Mean availability of the 5-minute intervals, idle ones at 1.
    pub interval_mean: f64,
    /// First minute, last minute, bad events.
    pub episodes: Vec<(u32, u32, u64)>,
}

/// The first minute of a month and the first of the next one.
pub fn month_span(year: i64, month: i64) -> (u32, u32) {
    let months: i64 = (1..month).map(|month| days_of_month(year, month)).sum();
    let days = days_before_year(year) + months;
    let minute = |days: i64| u32::try_from(days * 1_440).unwrap();
    (minute(days), minute(days + days_of_month(year, month)))
}

impl Recount {
    /// The figures of one customer over the minutes `first..next`: a month, or what of it lies
    /// before the end of the data.
    pub fn month(&self, customer: &str, target: Target, first: u32, next: u32) -> Month {
        let minutes: Vec<Counts> = self.pooled(customer, first, next);
        let mut total = Counts::default();
        minutes.iter().for_each(|counts| total.add(counts));
        let ratio = |bad: u64, valid: u64| (valid > 0).then(|| bad as f64 / valid as f64);
        let is_up = |counts: &&Counts| {
            (counts.valid - counts.bad) * 100 >= counts.valid * 95 || counts.valid == 0
        };
        let number = |is: &dyn Fn(&&Counts) -> bool| minutes.iter().filter(is).count() as u64;
        let intervals = minutes.chunks(5).map(|interval| {
            let valid = interval.iter().map(|counts| counts.valid).sum();
            let bad = interval.iter().map(|counts| counts.bad).sum();
            1.0 - ratio(bad, valid).unwrap_or(0.0)
        });
        let intervals: Vec<f64> = intervals.collect();
        Month {
            valid: total.valid,
            bad: total.bad,
            excluded: total.excluded,
            availability: ratio(total.bad, total.valid).map(|ratio| 1.0 - ratio),
            met: (total.valid > 0).then(|| !target.is_exceeded(total.bad, total.valid, (1, 1))),
            budget_consumed: ratio(total.bad, total.valid)
                .map(|ratio| ratio / target.allowed_ratio()),
            down_minutes: number(&|counts| counts.valid > 0 && counts.bad == counts.valid),
            idle_minutes: number(&|counts| counts.valid == 0),
            time_slice: number(&is_up) as f64 / minutes.len() as f64,
            interval_mean: intervals.iter().sum::<f64>() / intervals.len() as f64,
            episodes: episodes(&minutes, target, first),
        }
    }

    /// The counts of each minute of `first..next`, all services together.
    fn pooled(&self, customer: &str, first: u32, next: u32) -> Vec<Counts> {
        let mut minutes = vec![Counts::default(); (next - first) as usize];
        for ((_, _, minute), counts) in self.of_customer(customer) {
            if (first..next).contains(minute) {
                minutes[(minute - first) as usize].add(counts);
            }
        }
        minutes
    }
}

fn episodes(minutes: &[Counts], target: Target, first: u32) -> Vec<(u32, u32, u64)> {
    let mut episodes: Vec<(u32, u32, u64)> = Vec::new();
    for (index, counts) in minutes.iter().enumerate() {
        let minute = first + index as u32;
        if !target.is_exceeded(counts.bad, counts.valid, (1, 1)) {
            continue;
        }
        match episodes.last_mut() {
            // Five minutes between two bad ones are joined, six are not.
            Some(last) if minute - last.1 - 1 <= 5 => last.1 = minute,
            _ => episodes.push((minute, minute, 0)),
        }
    }
    for (from, to, bad) in &mut episodes {
        let inside = &minutes[(*from - first) as usize..=(*to - first) as usize];
        *bad = inside.iter().map(|counts| counts.bad).sum();
    }
    episodes
}

/// One alert tier for an objective: two windows in minutes and a factor as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    pub name: &'static str,
    pub long: u32,
    pub short: u32,
    pub factor: (u64, u64),
    pub is_ticket: bool,
}

/// The default tiers for a period of so many days: `factor = fraction * period / long`.
pub fn tiers(period_days: u64, target: Target) -> Vec<Tier> {
    let tier = |name, percent: u64, long: u32, short, is_ticket| {
        let factor = (percent * period_days * 1_440, 100 * u64::from(long));
        Tier { name, long, short, factor, is_ticket }
    };
    let rollout = Tier { name: "rollout_5m", long: 5, short: 2, factor: (50, 1), is_ticket: false };
    let all = [
        rollout,
        tier("page_1h", 2, 60, 5, false),
        tier("page_6h", 5, 360, 30, false),
        tier("ticket_1d", 10, 1_440, 120, true),
        tier("ticket_3d", 10, 4_320, 360, true),
    ];
    let can_fire = |tier: &Tier| {
        tier.factor.0 >= tier.factor.1 && !target.is_exceeded_by_all_failing(tier.factor)
    };
    all.into_iter().filter(can_fire).collect()
}

impl Target {
    /// Whether the factor asks for more than 100% errors.
    fn is_exceeded_by_all_failing(self, factor: (u64, u64)) -> bool {
        let (all, asked) = self.sides(1, 1, factor);
        asked > all
    }
}

/// A settled transition: at which minute, which tier, and into what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub minute: u32,
    pub tier: &'static str,
    /// `firing`, `resolved` or `stale`.
    pub state: &'static str,
}

impl Recount {
    /// Every settled transition of one series until the end of minute `last`, by minute, then
    /// in the order of the tiers: each minute's end is judged on the sums of its windows.
    /// `history_first` is the first minute that the table knows.
    pub fn settled(
        &self,
        customer: &str,
        service: &str,
        (target, tiers): (Target, &[Tier]),
        history_first: u32,
        last: u32,
    ) -> Vec<Transition> {
        let mut minutes = vec![Counts::default(); (last + 1 - history_first) as usize];
        for ((_, its_service, minute), counts) in self.of_customer(customer) {
            if its_service == service && (history_first..=last).contains(minute) {
                minutes[(minute - history_first) as usize].add(counts);
            }
        }
        // Bad and valid events before each minute: a window is the difference of two of them.
        let mut before = vec![(0, 0)];
        for counts in minutes {
            let (bad, valid) = before[before.len() - 1];
            before.push((bad + counts.bad, valid + counts.valid));
        }
        let mut transitions = Vec::new();
        for tier in tiers {
            let mut alert = Alert::default();
            for index in 0..before.len() - 1 {
                if let Some(state) = alert.step(&before[..=index + 1], *tier, target) {
                    let minute = history_first + index as u32;
                    transitions.push(Transition { minute, tier: tier.name, state });
                }
            }
        }
        transitions.sort_by_key(|transition| transition.minute);
        transitions
    }
}

/// One tier of one series.
#[derive(Default)]
struct Alert {
    is_firing: bool,
    /// Minutes since it went quiet.
    quiet_minutes: Option<u32>,
}

impl Alert {
    /// Judges the end of the last minute of a history, given as the (bad, valid) events before
    /// each of its minutes and, at the end, of all of them.
    fn step(&mut self, before: &[(u64, u64)], tier: Tier, target: Target) -> Option<&'static str> {
        let minutes = before.len() - 1;
        let window = |length: u32| {
            let first = minutes.saturating_sub(length as usize);
            (before[minutes].0 - before[first].0, before[minutes].1 - before[first].1)
        };
        let (long, short) = (window(tier.long), window(tier.short));
        let burns = |(bad, valid): (u64, u64)| {
            let (is, asked) = target.sides(bad, valid, tier.factor);
            valid > 0 && is >= asked
        };
        let is_burning = burns(long) && burns(short);
        if !self.is_firing {
            let is_covered = !tier.is_ticket || minutes * 4 >= tier.long as usize;
            let is_evident =
                long.0 >= 3 && binomial_tail(long.0, long.1, target.allowed_ratio()) <= 0.001;
            if is_burning && is_covered && is_evident {
                *self = Alert { is_firing: true, quiet_minutes: None };
                return Some("firing");
            }
            return None;
        }
        if short.1 >= 10 && !burns(short) {
            *self = Alert::default();
            return Some("resolved");
        }
        let is_quiet = short.1 < 10 && !is_burning;
        self.quiet_minutes = is_quiet.then(|| self.quiet_minutes.map_or(0, |minutes| minutes + 1));
        if self.quiet_minutes == Some(tier.long) {
            *self = Alert::default();
            return Some("stale");
        }
        None
    }
}

/// `P(X >= bad)` for `valid` trials of chance `p`: the sum of the probabilities from `bad` on,
/// the first from factorials, each next from the one before.
pub fn binomial_tail(bad: u64, valid: u64, p: f64) -> f64 {
    if bad as f64 <= valid as f64 * p {
        // At or below the mean the tail is about a half or more; nobody asks how much.
        return 1.0;
    }
    let ln_choose = ln_factorial(valid) - ln_factorial(bad) - ln_factorial(valid - bad);
    let ln_first = ln_choose + bad as f64 * p.ln() + (valid - bad) as f64 * (-p).ln_1p();
    let mut term = ln_first.exp();
    let mut tail = 0.0;
    for k in bad..=valid {
        tail += term;
        if term < tail * 1e-17 {
            break;
        }
        term *= (valid - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
    }
    tail
}

/// By the sum up to 1,000 and Stirling's series beyond.
fn ln_factorial(n: u64) -> f64 {
    if n <= 1_000 {
        return (1..=n).map(|k| (k as f64).ln()).sum();
    }
    let n = n as f64;
    let half_ln_2_pi = (2.0 * std::f64::consts::PI).ln() / 2.0;
    (n + 0.5) * n.ln() - n + half_ln_2_pi + 1.0 / (12.0 * n) - 1.0 / (360.0 * n * n * n)
}
