//! Synthetic events whose truth is known: what `ninefold generate` writes, and the product that
//! `ninefold demo` shows.
//!
//! [`generate`] is a pure function of its [`Options`]: the same options give the same bytes on
//! every machine, since the random numbers and the mathematics are
//! this module's own. Customers come by Zipf's law, each with a fixed cohort and home region;
//! requests follow a daily wave; latencies are log-normal around the median of their route;
//! release `r43` replaces `r41` by cohort at 70, 80 and 90% of the span. [`Incident`]s come on
//! top. Arrival order is nearly time order, as far as `disorder_s` and `late_share` let it.
//!
//! Invariants: `events` lines are written, each of them counted in the [`Truth`] as a request,
//! a duplicate or a dead letter; every request is in the truth under its customer once.

mod broken;
pub mod demo;
mod incident;
mod line;
mod numeric;
mod population;
pub(crate) mod random;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Write};

use serde::Serialize;

pub use self::incident::{Begin, Incident, IncidentError};

use self::line::{Lines, Request};
use self::numeric::{LogNormal, Weighted, daily_wave};
use self::population::Population;
use self::random::{Chance, Random};
use self::traffic::{COHORTS, LATENCY_SIGMA, REGIONS, ROUTES, SERVICES};
use crate::model::{COUNT_MAX, Outcome};
use crate::time::{TS_MS_END, TS_MS_MIN, rfc3339};

/// The release that serves from the start of the data.
const RELEASE_FIRST: &str = "r41";
/// The release that replaces it, and when: by cohort, as a share of the span.
const RELEASE_LAST: (&str, [f64; 3]) = ("r43", [0.7, 0.8, 0.9]);
/// The share of requests whose client had gone before anything was sent: status 0.
const EXCLUDED_RATIO: f64 = 0.002;
/// The share of requests that their home region serves.
const HOME_RATIO: f64 = 0.85;
/// How many of the last lines with an id may be sent again.
const DUPLICATE_DISTANCE_MAX: usize = 64;
/// The share of lines in an odd spelling, among hostile ones.
const ODD_RATIO: f64 = 0.1;
/// How many pieces the daily wave is cut into over the span.
const WAVE_PIECES: usize = 4_096;
/// Lines are written out in blocks of at least this size.
const BLOCK_SIZE: usize = 256 * 1024;

/// The form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The native form: one JSON object a line.
    #[default]
    Ndjson,
    /// The Combined log of a web server: the customer is the client's address; no latency,
    /// release, cohort, region, weight, id or excluded request; whole seconds.
    Combined,
}

/// The form of `ts` in plain lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeForm {
    /// Epoch milliseconds.
    #[default]
    Epoch,
    /// RFC 3339 with milliseconds.
    Rfc3339,
}

/// What to generate. [`Options::check`] says what each field takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// Names the data among all that these options could give.
    pub seed: u64,
    /// How many lines, broken ones and duplicates among them.
    pub events: u64,
    /// How many customers there are; few of a long tail may send nothing.
    pub customers: u32,
    /// The span of event time in days.
    pub days: f64,
    /// The first millisecond of the span.
    pub start_ms: i64,
    /// Zipf's exponent: 0 = all customers alike.
    pub zipf: f64,
    /// The share of requests that fail outside incidents.
    pub error_ratio: f64,
    /// How many of the services there are, busiest routes first, at most 7.
    pub services: u32,
    /// What goes wrong, in order: where two deploy a release at the same time, the first wins.
    pub incidents: Vec<Incident>,
    /// Lines stand up to this many seconds behind their time (most of them far less).
    pub disorder_s: f64,
    /// The share of lines that come much later still.
    pub late_share: f64,
    /// By how much at most, as a share of the span.
    pub late_up_to: f64,
    /// The share of lines that stand for several equal requests (`count`).
    pub weights: f64,
    /// The share of lines that must become dead letters.
    pub broken: f64,
    /// The share of lines that carry an `id`.
    pub ids: f64,
    /// The share of lines that repeat one of the last 64 lines with an id, byte for byte.
    pub duplicates: f64,
    /// Names that break trusting software, one line in ten in an odd spelling of JSON, lines
    /// whose `outcome` overrules the status, latencies that cannot be used, the largest
    /// `count`, blank lines.
    pub hostile: bool,
    /// The form of the lines.
    pub format: Format,
    /// The form of `ts`.
    pub time: TimeForm,
}

impl Default for Options {
    /// A million plain requests of 10,000 customers on 2025-12-01, without incidents.
    fn default() -> Options {
        Options {
            seed: 1,
            events: 1_000_000,
            customers: 10_000,
            days: 1.0,
            start_ms: 1_764_547_200_000,
            zipf: 1.1,
            error_ratio: 0.0005,
            services: SERVICES.len() as u32,
            incidents: Vec::new(),
            disorder_s: 2.0,
            late_share: 0.0,
            late_up_to: 1.0 / 3.0,
            weights: 0.0,
            broken: 0.0,
            ids: 0.0,
            duplicates: 0.0,
            hostile: false,
            format: Format::Ndjson,
            time: TimeForm::Epoch,
        }
    }
}

/// An option that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct OptionsError {
    /// The field of [`Options`], or of an incident.
    pub field: &'static str,
    /// What it is and what it takes.
    pub problem: String,
}

impl Options {
    /// Whether data can be made of these.
    ///
    /// # Errors
    /// The first field that is out of its range, or an incident that names a service, route,
    /// cohort, region or customer which the data does not have.
    pub fn check(&self) -> Result<(), OptionsError> {
        let ratios = [
            ("error_ratio", self.error_ratio),
            ("late_share", self.late_share),
            ("late_up_to", self.late_up_to),
            ("weights", self.weights),
            ("broken", self.broken),
            ("ids", self.ids),
            ("duplicates", self.duplicates),
        ];
        for (field, value) in ratios {
            require(field, value, (0.0..=1.0).contains(&value), "a ratio from 0 to 1")?;
        }
        let services = SERVICES.len() as u32;
        require("customers", self.customers, self.customers > 0, "at least 1")?;
        let is_in = (1..=services).contains(&self.services);
        require("services", self.services, is_in, "1 to 7")?;
        require("zipf", self.zipf, (0.0..=10.0).contains(&self.zipf), "0 to 10")?;
        let is_in = (0.0..=86_400.0).contains(&self.disorder_s);
        require("disorder_s", self.disorder_s, is_in, "0 to 86,400 seconds")?;
        let is_in = self.days >= 0.001 && self.days <= 36_500.0;
        require("days", self.days, is_in, "0.001 to 36,500")?;
        let is_in = self.start_ms >= TS_MS_MIN && self.start_ms + self.span_ms() <= TS_MS_END;
        require("start_ms", self.start_ms, is_in, "a span within the years 2000 to 2100")?;
        if self.format == Format::Combined {
            let limit = 1 << 24;
            require("customers", self.customers, self.customers <= limit, "up to 16,777,216")?;
            require("hostile", true, !self.hostile, "the format ndjson")?;
        }
        let population = || Population::new(self);
        let names_customer = self.incidents.iter().any(|incident| incident.customer.is_some());
        let population = names_customer.then(population);
        self.incidents.iter().try_for_each(|incident| {
            Effect::new(incident, self, population.as_ref(), &[]).map(|_| ())
        })
    }

    fn span_ms(&self) -> i64 {
        (self.days * 86_400_000.0) as i64
    }
}

fn require(
    field: &'static str,
    value: impl std::fmt::Display,
    holds: bool,
    takes: &str,
) -> Result<(), OptionsError> {
    let problem = || format!("{value} cannot be used; it takes {takes}");
    if holds { Ok(()) } else { Err(OptionsError { field, problem: problem() }) }
}

/// Counts of requests, weights included; `valid` includes `bad`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Good and bad requests.
    pub valid: u64,
    /// Bad requests.
    pub bad: u64,
    /// Requests that count in no ratio.
    pub excluded: u64,
}

impl Tally {
    fn add(&mut self, outcome: Outcome, count: u32) {
        let count = u64::from(count);
        match outcome {
            Outcome::Good => self.valid += count,
            Outcome::Bad => {
                self.valid += count;
                self.bad += count;
            }
            Outcome::Excluded => self.excluded += count,
        }
    }
}

/// What an incident did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentTruth {
    /// The incident.
    pub incident: Incident,
    /// Its beginning.
    pub from: String,
    /// Its end, exclusive.
    pub to: String,
    /// Valid requests that it hit; duplicates do not count.
    pub valid: u64,
    /// Bad ones among them.
    pub bad: u64,
    /// Customers with at least one bad request among those, in alphabetical order.
    pub customers_hit: Vec<String>,
}

/// What was written: what an exact reader must find.
///
/// A reader without a dedupe window counts duplicates as requests: its totals are these plus
/// [`Truth::duplicated`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Truth {
    /// The options.
    pub options: Options,
    /// Lines, not counting blank ones: `counted + duplicate + dead`.
    pub lines: u64,
    /// Lines that are a request for the first time.
    pub counted: u64,
    /// Lines that repeat one.
    pub duplicate: u64,
    /// Lines that must be refused.
    pub dead: u64,
    /// The same by kind.
    pub dead_by_kind: BTreeMap<&'static str, u64>,
    /// Blank lines.
    pub blank: u64,
    /// Counted lines whose latency cannot be used.
    pub invalid_latency: u64,
    /// Requests of the counted lines.
    pub total: Tally,
    /// Requests of the duplicate lines.
    pub duplicated: Tally,
    /// Time of the earliest counted line; `null` where there is none.
    pub first: Option<String>,
    /// Time of the latest counted line.
    pub last: Option<String>,
    /// What each incident did, in the order of the options.
    pub incidents: Vec<IncidentTruth>,
    /// Requests of the counted lines by customer; customers without any are left out.
    pub customers: BTreeMap<String, Tally>,
}

/// Writes the lines of `options` to `out` and returns what they are.
///
/// ```
/// use ninefold_engine::synth::{Options, generate};
/// let options = Options { events: 1_000, customers: 10, ..Options::default() };
/// let mut lines = Vec::new();
/// let truth = generate(&options, &mut lines).unwrap();
/// assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 1_000);
/// assert_eq!(truth.total.valid + truth.total.excluded, 1_000);
/// ```
///
/// # Errors
/// Of `out`; and `InvalidInput` with an [`OptionsError`] inside for options that do not
/// [`check`](Options::check).
pub fn generate(options: &Options, out: &mut impl Write) -> Result<Truth, io::Error> {
    options.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut generator = Generator::new(options);
    let mut block = Vec::with_capacity(2 * BLOCK_SIZE);
    for index in 0..options.events {
        generator.push_line(index, &mut block);
        if block.len() >= BLOCK_SIZE {
            out.write_all(&block)?;
            block.clear();
        }
    }
    out.write_all(&block)?;
    Ok(generator.truth())
}

/// The chances of what a line becomes.
struct Chances {
    broken: Chance,
    duplicate: Chance,
    late: Chance,
    weight: Chance,
    id: Chance,
    odd: Chance,
    bad: Chance,
    excluded: Chance,
    home: Chance,
}

impl Chances {
    fn new(options: &Options) -> Chances {
        let excluded = match options.format {
            Format::Ndjson => EXCLUDED_RATIO,
            Format::Combined => 0.0,
        };
        let native = |ratio| if options.format == Format::Ndjson { ratio } else { 0.0 };
        Chances {
            broken: Chance::new(options.broken),
            duplicate: Chance::new(native(options.duplicates)),
            late: Chance::new(options.late_share),
            weight: Chance::new(native(options.weights)),
            id: Chance::new(native(options.ids)),
            odd: Chance::new(if options.hostile { ODD_RATIO } else { 0.0 }),
            bad: Chance::new(options.error_ratio),
            excluded: Chance::new(excluded),
            home: Chance::new(HOME_RATIO),
        }
    }
}

/// A line that may be sent again.
struct Sent {
    line: Vec<u8>,
    outcome: Outcome,
    count: u32,
}

struct Generator<'a> {
    options: &'a Options,
    random: Random,
    population: Population,
    routes: Weighted,
    latency: LogNormal,
    clock: Clock,
    chances: Chances,
    effects: Vec<Effect>,
    /// When `r43` comes, by cohort.
    rollout_ms: [i64; 3],
    lines: Lines,
    sent: VecDeque<Sent>,
    truth: Truth,
    tallies: Vec<Tally>,
    first_ms: i64,
    last_ms: i64,
}

impl<'a> Generator<'a> {
    fn new(options: &'a Options) -> Generator<'a> {
        let population = Population::new(options);
        let releases = releases(&options.incidents);
        let effect = |incident| {
            Effect::new(incident, options, Some(&population), &releases).expect("was checked")
        };
        let offered = SERVICES.len().min(options.services as usize);
        let weight = |route: &&traffic::Route| SERVICES[..offered].contains(&route.service);
        let weights: Vec<f64> =
            ROUTES.iter().take_while(weight).map(|route| f64::from(route.weight)).collect();
        let span_ms = options.span_ms();
        Generator {
            options,
            random: Random::new(options.seed, 2),
            routes: Weighted::new(&weights),
            latency: LogNormal::new(LATENCY_SIGMA),
            clock: Clock::new(options.start_ms, span_ms, options.events),
            chances: Chances::new(options),
            effects: options.incidents.iter().map(effect).collect(),
            rollout_ms: RELEASE_LAST
                .1
                .map(|share| options.start_ms + (span_ms as f64 * share) as i64),
            lines: Lines::new(options, &population, &releases),
            sent: VecDeque::new(),
            truth: Truth::new(options),
            tallies: vec![Tally::default(); population.customers.len()],
            population,
            first_ms: i64::MAX,
            last_ms: i64::MIN,
        }
    }

    /// Appends line number `index`.
    fn push_line(&mut self, index: u64, out: &mut Vec<u8>) {
        self.truth.lines += 1;
        let now_ms = self.clock.at(index, self.random.ratio());
        if self.random.hits(self.chances.broken) {
            return self.push_broken(now_ms, out);
        }
        if self.random.hits(self.chances.duplicate) && !self.sent.is_empty() {
            return self.push_duplicate(out);
        }
        let ts_ms = self.event_ms(now_ms);
        let request = self.request(ts_ms);
        let (request, outcome, hit) = self.outcome(request);
        let first = out.len();
        let outcome = if self.random.hits(self.chances.odd) {
            self.push_odd(&request, outcome, out)
        } else {
            self.lines.push(&request, out);
            outcome
        };
        self.count(&request, outcome, hit);
        if request.id.is_some() && self.chances.duplicate != Chance::new(0.0) {
            self.remember(&out[first..], outcome, request.count);
        }
    }

    /// The time of an event that arrives at `now_ms`.
    fn event_ms(&mut self, now_ms: i64) -> i64 {
        let options = self.options;
        let lag = self.random.ratio();
        let passed_ms = (now_ms - options.start_ms) as f64;
        let up_to_ms = if self.random.hits(self.chances.late) {
            lag * self.options.late_up_to * options.span_ms() as f64
        } else {
            // The fourth power puts half of the lines within 1/16 of the largest disorder.
            lag * lag * lag * lag * options.disorder_s * 1_000.0
        };
        now_ms - up_to_ms.min(passed_ms) as i64
    }

    /// A request at `ts_ms` before anything goes wrong.
    fn request(&mut self, ts_ms: i64) -> Request {
        let random = &mut self.random;
        let customer = self.population.draw(random);
        let who = &self.population.customers[customer];
        let region =
            if random.hits(self.chances.home) { who.home } else { (random.bits() >> 62) as u8 };
        let route = self.routes.draw(random);
        let latency_us = self.latency.draw(u64::from(ROUTES[route].latency_us), random);
        let count =
            if random.hits(self.chances.weight) { weight(self.options.hostile, random) } else { 1 };
        let id = random.hits(self.chances.id).then(|| random.bits());
        let release = usize::from(ts_ms >= self.rollout_ms[usize::from(who.cohort)]);
        Request {
            ts_ms,
            customer,
            cohort: who.cohort,
            region,
            route,
            release,
            status: 0,
            latency_us,
            count,
            id,
        }
    }

    /// Deploys the releases of the incidents, decides how the request ends, and by which
    /// incident it was hit first.
    fn outcome(&mut self, mut request: Request) -> (Request, Outcome, Option<usize>) {
        let random = &mut self.random;
        for effect in &self.effects {
            if effect.deploys(&request, random) {
                request.release = effect.release.expect("it deploys one");
                break;
            }
        }
        let mut is_bad = random.hits(self.chances.bad);
        let mut hit = None;
        for (index, effect) in self.effects.iter().enumerate() {
            if effect.hits(&request) {
                hit = hit.or(Some(index));
                is_bad |= random.hits(effect.rate);
                request.latency_us = (request.latency_us * effect.latency) >> 16;
            }
        }
        request.latency_us = request.latency_us.clamp(50, 60_000_000);
        if random.hits(self.chances.excluded) {
            return (request, Outcome::Excluded, hit);
        }
        let (status, outcome) = if is_bad {
            (traffic::bad_status(random), Outcome::Bad)
        } else {
            (traffic::good_status(random), Outcome::Good)
        };
        request.status = status;
        (request, outcome, hit)
    }

    /// Appends a line in an odd spelling; one in eight overrules the status, one in eight has
    /// a latency that cannot be used, one in eight is followed by a blank line.
    fn push_odd(&mut self, request: &Request, outcome: Outcome, out: &mut Vec<u8>) -> Outcome {
        let random = &mut self.random;
        let said = match random.below(24) {
            0 => Some(Outcome::Good),
            1 => Some(Outcome::Bad),
            2 => Some(Outcome::Excluded),
            _ => None,
        };
        let is_spoilt = random.below(8) == 0;
        self.truth.invalid_latency += u64::from(is_spoilt);
        let customer = &self.population.customers[request.customer];
        self.lines.push_odd(request, customer, said, is_spoilt, random, out);
        if random.below(8) == 0 {
            self.truth.blank += 1;
            out.extend_from_slice(random.one_of(&["\n", "  \n", "\r\n"]).as_bytes());
        }
        said.unwrap_or(outcome)
    }

    fn push_broken(&mut self, now_ms: i64, out: &mut Vec<u8>) {
        let mut request = self.request(now_ms);
        request.status = traffic::good_status(&mut self.random);
        let customer = &self.population.customers[request.customer];
        let format = self.options.format;
        let kind = broken::push(format, &self.lines, &request, customer, &mut self.random, out);
        self.truth.dead += 1;
        *self.truth.dead_by_kind.entry(kind).or_default() += 1;
    }

    fn push_duplicate(&mut self, out: &mut Vec<u8>) {
        let sent = &self.sent[self.random.below(self.sent.len() as u64) as usize];
        out.extend_from_slice(&sent.line);
        self.truth.duplicate += 1;
        self.truth.duplicated.add(sent.outcome, sent.count);
    }

    fn remember(&mut self, line: &[u8], outcome: Outcome, count: u32) {
        if self.sent.len() == DUPLICATE_DISTANCE_MAX {
            self.sent.pop_front();
        }
        let end = memchr::memchr(b'\n', line).map_or(line.len(), |newline| newline + 1);
        self.sent.push_back(Sent { line: line[..end].to_vec(), outcome, count });
    }

    fn count(&mut self, request: &Request, outcome: Outcome, hit: Option<usize>) {
        self.truth.counted += 1;
        self.truth.total.add(outcome, request.count);
        self.tallies[request.customer].add(outcome, request.count);
        self.first_ms = self.first_ms.min(request.ts_ms);
        self.last_ms = self.last_ms.max(request.ts_ms);
        if let Some(effect) = hit.map(|index| &mut self.effects[index]) {
            effect.tally.add(outcome, request.count);
            if outcome == Outcome::Bad {
                effect.customers_hit.insert(request.customer);
            }
        }
    }

    fn truth(self) -> Truth {
        let mut truth = self.truth;
        let names = |customer: usize| self.population.customers[customer].name.clone();
        if truth.counted > 0 {
            truth.first = Some(rfc3339(self.first_ms));
            truth.last = Some(rfc3339(self.last_ms));
        }
        truth.incidents = self
            .effects
            .into_iter()
            .zip(&self.options.incidents)
            .map(|(effect, incident)| effect.truth(incident, names))
            .collect();
        for (customer, tally) in self.tallies.iter().enumerate() {
            if *tally != Tally::default() {
                truth.customers.insert(names(customer), *tally);
            }
        }
        assert_eq!(
            truth.lines,
            truth.counted + truth.duplicate + truth.dead,
            "each line is one of the three"
        );
        truth
    }
}

impl Truth {
    fn new(options: &Options) -> Truth {
        Truth {
            options: options.clone(),
            lines: 0,
            counted: 0,
            duplicate: 0,
            dead: 0,
            dead_by_kind: BTreeMap::new(),
            blank: 0,
            invalid_latency: 0,
            total: Tally::default(),
            duplicated: Tally::default(),
            first: None,
            last: None,
            incidents: Vec::new(),
            customers: BTreeMap::new(),
        }
    }
}

/// A `count` above 1: 2 to 99, and the largest once in 1,000 among hostile ones.
fn weight(is_hostile: bool, random: &mut Random) -> u32 {
    if is_hostile && random.below(1_000) == 0 {
        return COUNT_MAX;
    }
    2 + random.below(98) as u32
}

/// Every release of the data: the two of the roll-out, then those of the incidents.
fn releases(incidents: &[Incident]) -> Vec<String> {
    let mut releases = vec![RELEASE_FIRST.to_owned(), RELEASE_LAST.0.to_owned()];
    for release in incidents.iter().filter_map(|incident| incident.release.as_ref()) {
        if !releases.contains(release) {
            releases.push(release.clone());
        }
    }
    releases
}

/// When the next line arrives: the daily wave turned into a time for each share of the lines.
struct Clock {
    start_ms: i64,
    piece_ms: f64,
    /// The share of the lines before the end of each piece.
    shares: Vec<f64>,
    piece: usize,
    lines: f64,
}

impl Clock {
    fn new(start_ms: i64, span_ms: i64, lines: u64) -> Clock {
        let piece_ms = span_ms as f64 / WAVE_PIECES as f64;
        let middle_ms = |piece: usize| start_ms + ((piece as f64 + 0.5) * piece_ms) as i64;
        let wave: Vec<f64> = (0..WAVE_PIECES).map(|piece| daily_wave(middle_ms(piece))).collect();
        let total: f64 = wave.iter().sum();
        let mut sum = 0.0;
        let share = |weight: &f64| {
            sum += weight;
            sum / total
        };
        let shares = wave.iter().map(share).collect();
        Clock { start_ms, piece_ms, shares, piece: 0, lines: lines as f64 }
    }

    /// The arrival of line `index`, which never falls; `within` in 0..1 spreads the lines.
    #[inline]
    fn at(&mut self, index: u64, within: f64) -> i64 {
        let share = (index as f64 + within) / self.lines;
        while self.piece + 1 < self.shares.len() && share >= self.shares[self.piece] {
            self.piece += 1;
        }
        let before = if self.piece == 0 { 0.0 } else { self.shares[self.piece - 1] };
        let part = ((share - before) / (self.shares[self.piece] - before)).clamp(0.0, 0.999_999);
        self.start_ms + ((self.piece as f64 + part) * self.piece_ms) as i64
    }
}

/// An incident as the hot loop sees it, and what it did so far.
struct Effect {
    from_ms: i64,
    to_ms: i64,
    cohort: Option<u8>,
    region: Option<u8>,
    customer: Option<usize>,
    /// Bit `n` = route `n` of [`ROUTES`].
    routes: u32,
    /// Index into the releases.
    release: Option<usize>,
    share: Chance,
    elsewhere: Chance,
    rate: Chance,
    /// In 1/65536.
    latency: u64,
    tally: Tally,
    customers_hit: BTreeSet<usize>,
}

impl Effect {
    /// Resolves the names of an incident. `population` may be absent where it names no
    /// customer, `releases` be empty where only the names are to be checked.
    fn new(
        incident: &Incident,
        options: &Options,
        population: Option<&Population>,
        releases: &[String],
    ) -> Result<Effect, OptionsError> {
        let (from_ms, to_ms) = incident.span_ms(options.start_ms);
        let named = |name: &String| {
            let customers = &population.expect("is there where one is named").customers;
            let found = customers.iter().position(|customer| customer.name == *name);
            let example = || format!("such as {:?}", customers[0].name);
            found.ok_or_else(|| unknown("customer", name, &example()))
        };
        let released = |name: &String| releases.iter().position(|release| release == name);
        Ok(Effect {
            from_ms,
            to_ms,
            cohort: position("cohort", incident.cohort.as_deref(), &COHORTS)?,
            region: position("region", incident.region.as_deref(), &REGIONS)?,
            customer: incident.customer.as_ref().map(named).transpose()?,
            routes: routes(incident, options.services as usize)?,
            release: incident.release.as_ref().and_then(released),
            share: Chance::new(incident.share),
            elsewhere: Chance::new(incident.elsewhere),
            rate: Chance::new(incident.rate),
            latency: (incident.latency * 65_536.0) as u64,
            tally: Tally::default(),
            customers_hit: BTreeSet::new(),
        })
    }

    /// Whether everything but the release matches, while it lasts.
    #[inline]
    fn matches(&self, request: &Request) -> bool {
        self.lasts(request)
            && self.routes >> request.route & 1 == 1
            && self.cohort.is_none_or(|cohort| cohort == request.cohort)
            && self.region.is_none_or(|region| region == request.region)
            && self.customer.is_none_or(|customer| customer == request.customer)
    }

    #[inline]
    fn lasts(&self, request: &Request) -> bool {
        (self.from_ms..self.to_ms).contains(&request.ts_ms)
    }

    /// Whether its release serves the request.
    fn deploys(&self, request: &Request, random: &mut Random) -> bool {
        if self.release.is_none() || !self.lasts(request) {
            return false;
        }
        random.hits(if self.matches(request) { self.share } else { self.elsewhere })
    }

    /// Whether it harms the request, whose release is settled.
    #[inline]
    fn hits(&self, request: &Request) -> bool {
        self.matches(request) && self.release.is_none_or(|release| release == request.release)
    }

    fn truth(self, incident: &Incident, name: impl Fn(usize) -> String) -> IncidentTruth {
        let mut customers_hit: Vec<String> = self.customers_hit.into_iter().map(name).collect();
        customers_hit.sort();
        IncidentTruth {
            incident: incident.clone(),
            from: rfc3339(self.from_ms),
            to: rfc3339(self.to_ms),
            valid: self.tally.valid,
            bad: self.tally.bad,
            customers_hit,
        }
    }
}

fn unknown(field: &'static str, name: &str, takes: &str) -> OptionsError {
    OptionsError { field, problem: format!("{name:?} is not in the data; it takes {takes}") }
}

fn position(
    field: &'static str,
    name: Option<&str>,
    all: &[&str],
) -> Result<Option<u8>, OptionsError> {
    let Some(name) = name else { return Ok(None) };
    let found = all.iter().position(|other| *other == name);
    found.map(|at| Some(at as u8)).ok_or_else(|| unknown(field, name, &all.join(", ")))
}

/// The routes that an incident's service and route leave.
fn routes(incident: &Incident, services: usize) -> Result<u32, OptionsError> {
    let offered = &SERVICES[..services.min(SERVICES.len())];
    position("service", incident.service.as_deref(), offered)?;
    let names: Vec<&str> = ROUTES.iter().map(|route| route.route).collect();
    position("route", incident.route.as_deref(), &names)?;
    let is_hit = |route: &traffic::Route| {
        incident.service.as_deref().is_none_or(|service| service == route.service)
            && incident.route.as_deref().is_none_or(|name| name == route.route)
    };
    let mask = ROUTES
        .iter()
        .enumerate()
        .filter(|(_, route)| is_hit(route))
        .fold(0, |mask, (index, _)| mask | 1 << index);
    if mask == 0 {
        let name = incident.route.as_deref().unwrap_or_default();
        return Err(unknown("route", name, "a route of the service named beside it"));
    }
    Ok(mask)
}
