//! The product that `ninefold demo` shows: about a hundred customers on a handful of services,
//! thirty days of their past, and a live stream with a canary release that goes wrong.
//!
//! [`Demo::history`] writes the past. Streams (one customer on one service) write one weighted
//! line every few minutes, and every minute in the last six hours and in trouble, so that
//! three billion requests fit 1.4 million lines. Fleet availability is near 99.95%, yet one
//! small customer had a terrible week, one was down for two and a half hours, one region
//! coughed, and one customer has fallen silent.
//!
//! [`Demo::live`] writes single requests. Each second draws from a random stream of its own, so
//! that the requests of a span do not depend on how it is cut into slices. From
//! [`Demo::incident_from_ms`] on, every 15 minutes, [`RELEASE_BAD`] is rolled out to the cohort
//! `canary` on `checkout` for 5 minutes: 25 to 40% of those requests fail, and clients retry.
//! `rollout_5m` asks for 10% errors over five minutes at the target 99.8%: with 40% errors and
//! twice the requests, `t` seconds into an incident the window of `W` seconds (240 to 300: whole
//! minutes) holds `0.8 t` failures in `W + t` units of traffic, which is 10% at `t = W / 7`: 34
//! to 43 s.
//!
//! Past and live stream meet at `now_ms` without gap or overlap, at the same rates.

mod product;

use std::io::{self, Write};

use super::line::push_number;
use super::numeric::{LogNormal, daily_wave, poisson};
use super::random::Random;
use super::traffic::{LATENCY_SIGMA, ROUTES, bad_status, good_status};
use crate::model::COUNT_MAX;
use crate::time::{DAY_MINUTES, MINUTE_MS};

pub use self::product::Customer;
use self::product::{Stream, Trouble, customers, streams, troubles};

/// The release that goes wrong.
pub const RELEASE_BAD: &str = "r42";
/// The service that it goes wrong on.
pub const SERVICE_BAD: &str = "checkout";
/// The release that runs everywhere else.
pub const RELEASE_GOOD: &str = "r41";
/// The release that ran before it.
const RELEASE_OLD: &str = "r40";

/// How often the incident comes back, so that a late visitor sees one.
pub const INCIDENT_EVERY_MS: i64 = 15 * 60_000;
/// How long it takes until the release is rolled back.
pub const INCIDENT_LENGTH_MS: i64 = 5 * 60_000;
/// For so long into an incident the error ratio stays at its highest.
const INCIDENT_PEAK_MS: i64 = 2 * 60_000;
/// The highest and the lowest error ratio of an incident.
const INCIDENT_ERROR_RATIOS: (f64, f64) = (0.40, 0.25);
/// Requests of those hit, retries included, per request that they would send otherwise.
const INCIDENT_TRAFFIC: f64 = 2.0;
/// How much slower requests are that an incident hits.
const INCIDENT_SLOWNESS: u64 = 3;

const DAY_MS: i64 = 86_400_000;
/// The last part of the past is written minute by minute.
const RECENT_MS: i64 = 6 * 3_600_000;
/// Of which the last part is cut into [`LINES_PER_MINUTE`] lines, so that the quantiles of the
/// last hour rest on more than one latency a minute.
const FINE_MS: i64 = 70 * MINUTE_MS;
const LINES_PER_MINUTE: u64 = 4;
/// The share of requests whose client had gone.
const EXCLUDED_RATIO: f64 = 0.00005;
/// Lines are written out in blocks of at least this size.
const BLOCK_SIZE: usize = 256 * 1024;

/// The demo product at one moment.
///
/// ```
/// use ninefold_engine::synth::demo::Demo;
/// let now_ms = 1_764_547_200_000;
/// let mut demo = Demo::new(1, now_ms);
/// demo.incident_from_ms = Some(now_ms + 20_000);
/// let (mut whole, mut halves) = (Vec::new(), Vec::new());
/// demo.live(now_ms, now_ms + 1_000, &mut whole).unwrap();
/// demo.live(now_ms, now_ms + 500, &mut halves).unwrap();
/// demo.live(now_ms + 500, now_ms + 1_000, &mut halves).unwrap();
/// assert_eq!(whole, halves);
/// ```
pub struct Demo {
    /// When the first incident begins, in epoch milliseconds; `None` = all stays well.
    pub incident_from_ms: Option<i64>,
    /// How many minutes of past there are; those of 30 days.
    pub history_minutes: u32,
    seed: u64,
    now_ms: i64,
    customers: Vec<Customer>,
    streams: Vec<Stream>,
    troubles: Vec<Trouble>,
    latency: LogNormal,
}

impl Demo {
    /// The product of `seed` whose live stream begins at `now_ms`, without an incident so far.
    pub fn new(seed: u64, now_ms: i64) -> Demo {
        let customers = customers(seed);
        let streams = streams(seed, &customers);
        Demo {
            incident_from_ms: None,
            history_minutes: 30 * DAY_MINUTES,
            seed,
            now_ms,
            troubles: troubles(now_ms),
            customers,
            streams,
            latency: LogNormal::new(LATENCY_SIGMA),
        }
    }

    /// Every customer, the busiest first.
    pub fn customers(&self) -> &[Customer] {
        &self.customers
    }

    /// When the past begins, in epoch milliseconds.
    pub fn history_from_ms(&self) -> i64 {
        self.now_ms - i64::from(self.history_minutes) * MINUTE_MS
    }

    /// Writes the past as NDJSON, minute by minute, and returns how many lines that were.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn history(&self, out: &mut impl Write) -> io::Result<u64> {
        let mut past = Past {
            demo: self,
            random: Random::new(self.seed, 10),
            pending: vec![0.0; self.streams.len()],
            block: Vec::with_capacity(2 * BLOCK_SIZE),
            lines: 0,
        };
        let first_ms = self.history_from_ms();
        let mut minute_ms = first_ms - first_ms.rem_euclid(MINUTE_MS);
        while minute_ms < self.now_ms {
            let part = (minute_ms.max(first_ms), (minute_ms + MINUTE_MS).min(self.now_ms));
            past.push_minute(minute_ms, part);
            if past.block.len() >= BLOCK_SIZE {
                out.write_all(&past.block)?;
                past.block.clear();
            }
            minute_ms += MINUTE_MS;
        }
        out.write_all(&past.block)?;
        Ok(past.lines)
    }

    /// Writes the requests of `from_ms..to_ms` as NDJSON, in time order, and returns how many
    /// lines that were. What lies before `now_ms` belongs to the past and is left out.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn live(&self, from_ms: i64, to_ms: i64, out: &mut impl Write) -> io::Result<u64> {
        let from_ms = from_ms.max(self.now_ms);
        if from_ms >= to_ms {
            return Ok(0);
        }
        let mut requests = Vec::new();
        for second in from_ms.div_euclid(1_000)..=(to_ms - 1).div_euclid(1_000) {
            self.push_second(second, &mut requests);
        }
        requests.retain(|request| (from_ms..to_ms).contains(&request.ts_ms));
        requests.sort_by_key(|request| request.ts_ms);
        let mut block = Vec::with_capacity(requests.len() * 200);
        for request in &requests {
            self.push(request, &mut block);
        }
        out.write_all(&block)?;
        Ok(requests.len() as u64)
    }

    /// How far into an incident `ts_ms` is; `None` outside one.
    pub fn in_incident_ms(&self, ts_ms: i64) -> Option<i64> {
        let since_ms = ts_ms - self.incident_from_ms?;
        let within_ms = since_ms.rem_euclid(INCIDENT_EVERY_MS);
        (since_ms >= 0 && within_ms < INCIDENT_LENGTH_MS).then_some(within_ms)
    }

    /// Draws all requests of one second.
    fn push_second(&self, second: i64, requests: &mut Vec<Request>) {
        let mut random = Random::new(self.seed ^ second as u64, 11);
        let wave = wave(second * 1_000);
        let is_hit = self.in_incident_ms(second * 1_000).is_some();
        for (index, stream) in self.streams.iter().enumerate() {
            if stream.silent_from_ms(self.now_ms).is_some() {
                continue;
            }
            let traffic = if is_hit && stream.is_canary { INCIDENT_TRAFFIC } else { 1.0 };
            for _ in 0..poisson(stream.per_second * wave * traffic, &mut random) {
                let ts_ms = second * 1_000 + random.below(1_000) as i64;
                requests.push(self.live_request(index, ts_ms, &mut random));
            }
        }
    }

    fn live_request(&self, index: usize, ts_ms: i64, random: &mut Random) -> Request {
        let stream = &self.streams[index];
        let into_ms = self.in_incident_ms(ts_ms).filter(|_| stream.is_canary);
        let error_ratio = into_ms.map_or(stream.error_ratio, incident_error_ratio);
        let (route, latency_us) = self.served(stream, random);
        let is_excluded = random.ratio() < EXCLUDED_RATIO;
        let status = match random.ratio() < error_ratio {
            true => bad_status(random),
            false => good_status(random),
        };
        Request {
            ts_ms,
            stream: index,
            route,
            status: if is_excluded { 0 } else { status },
            latency_us: if into_ms.is_some() { latency_us * INCIDENT_SLOWNESS } else { latency_us },
            release: if into_ms.is_some() { RELEASE_BAD } else { RELEASE_GOOD },
            count: 1,
        }
    }

    /// A route of the stream's service, and how long it took.
    fn served(&self, stream: &Stream, random: &mut Random) -> (usize, u64) {
        let route = stream.route(random);
        (route, self.latency.draw(u64::from(ROUTES[route].latency_us), random))
    }

    fn push(&self, request: &Request, out: &mut Vec<u8>) {
        let stream = &self.streams[request.stream];
        out.extend_from_slice(b"{\"ts\":");
        push_number(request.ts_ms as u64, out);
        out.extend_from_slice(&stream.who);
        out.extend_from_slice(ROUTES[request.route].route.as_bytes());
        out.extend_from_slice(b"\",\"status\":");
        push_number(u64::from(request.status), out);
        out.extend_from_slice(b",\"latency_us\":");
        push_number(request.latency_us, out);
        out.extend_from_slice(b",\"release\":\"");
        out.extend_from_slice(request.release.as_bytes());
        out.extend_from_slice(&stream.place);
        if request.count != 1 {
            out.extend_from_slice(b",\"count\":");
            push_number(request.count, out);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// One line.
struct Request {
    ts_ms: i64,
    stream: usize,
    route: usize,
    status: u16,
    latency_us: u64,
    release: &'static str,
    count: u64,
}

/// Highest at first, then falling evenly to the lowest as the incident ends.
fn incident_error_ratio(into_ms: i64) -> f64 {
    let (highest, lowest) = INCIDENT_ERROR_RATIOS;
    let past_peak_ms = (into_ms - INCIDENT_PEAK_MS).max(0) as f64;
    let fall = past_peak_ms / (INCIDENT_LENGTH_MS - INCIDENT_PEAK_MS) as f64;
    highest - (highest - lowest) * fall
}

/// Half the daily wave: 0.75 to 1.25, so that the demo is busy at any hour.
fn wave(ts_ms: i64) -> f64 {
    0.5 + daily_wave(ts_ms) / 2.0
}

/// The past while it is written.
struct Past<'a> {
    demo: &'a Demo,
    random: Random,
    /// Requests of each stream that no line stands for yet.
    pending: Vec<f64>,
    block: Vec<u8>,
    lines: u64,
}

impl Past<'_> {
    /// Appends one minute, of which `part` (half-open) belongs to the past.
    fn push_minute(&mut self, minute_ms: i64, part: (i64, i64)) {
        let wave = wave(minute_ms + MINUTE_MS / 2);
        let seconds = (part.1 - part.0) as f64 / 1_000.0;
        for index in 0..self.demo.streams.len() {
            let stream = &self.demo.streams[index];
            if stream.silent_from_ms(self.demo.now_ms).is_some_and(|from_ms| minute_ms >= from_ms) {
                continue;
            }
            self.pending[index] += stream.per_second * wave * seconds;
            let period = self.period_minutes(stream, minute_ms);
            let turn = minute_ms / MINUTE_MS + i64::from(stream.phase);
            if turn % period == 0 || part.1 == self.demo.now_ms {
                self.push_stream(index, minute_ms, part);
            }
        }
    }

    /// Every how many minutes the stream writes a line.
    fn period_minutes(&self, stream: &Stream, minute_ms: i64) -> i64 {
        let is_recent = minute_ms >= self.demo.now_ms - RECENT_MS;
        let trouble = self.demo.troubles.iter().find(|trouble| {
            // From a little before, so that no line reaches from good minutes into bad ones.
            trouble.covers(stream, minute_ms) || trouble.covers(stream, minute_ms + 2 * MINUTE_MS)
        });
        match trouble {
            _ if is_recent => 1,
            Some(trouble) => trouble.period_minutes,
            None => i64::from(stream.period_minutes),
        }
    }

    /// Appends the lines of everything that is pending for one stream.
    fn push_stream(&mut self, index: usize, minute_ms: i64, part: (i64, i64)) {
        let stream = &self.demo.streams[index];
        let trouble = self.demo.troubles.iter().find(|trouble| trouble.covers(stream, minute_ms));
        let error_ratio = trouble.map_or(stream.error_ratio, |trouble| trouble.error_ratio);
        let slowness = trouble.map_or(1, |trouble| trouble.slowness);
        let count = poisson(self.pending[index], &mut self.random);
        self.pending[index] = 0.0;
        let bad = poisson(count as f64 * error_ratio, &mut self.random).min(count);
        let excluded = poisson(count as f64 * EXCLUDED_RATIO, &mut self.random).min(count - bad);
        let good = count - bad - excluded;
        let is_fine = minute_ms >= self.demo.now_ms - FINE_MS;
        let lines = if is_fine { LINES_PER_MINUTE.min(good) } else { 1 };
        for line in 0..lines {
            let status = good_status(&mut self.random);
            let share = good * (line + 1) / lines - good * line / lines;
            self.push_line(index, part, status, share, slowness);
        }
        let status = bad_status(&mut self.random);
        self.push_line(index, part, status, bad, slowness);
        self.push_line(index, part, 0, excluded, slowness);
    }

    /// Appends one line, where it stands for anything.
    fn push_line(
        &mut self,
        stream: usize,
        part: (i64, i64),
        status: u16,
        count: u64,
        slowness: u64,
    ) {
        if count == 0 {
            return;
        }
        let demo = self.demo;
        let (route, latency_us) = demo.served(&demo.streams[stream], &mut self.random);
        let ts_ms = part.0 + self.random.below((part.1 - part.0) as u64) as i64;
        let request = Request {
            ts_ms,
            stream,
            route,
            status,
            latency_us: latency_us * slowness,
            release: demo.streams[stream].past_release(demo.now_ms, ts_ms),
            count: count.min(u64::from(COUNT_MAX)),
        };
        demo.push(&request, &mut self.block);
        self.lines += 1;
    }
}
