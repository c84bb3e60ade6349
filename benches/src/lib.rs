//! What the benches share: the input, its size, and the allocator.
//!
//! The input is made by [`ninefold_engine::synth`], so that it needs no download and its truth is
//! known: every bench compares what it counted with that truth, in each run. Its lines have the
//! nine fields, the key order and about the size of the lines of the project's comparison with
//! other engines, so that events/s here and there speak of the same work.
//!
//! Each bench runs in two sizes. `cargo bench … -- --test` runs everything once on a small input:
//! a check that the assertions hold. Without `--test` the size is one whose times mean something.

use criterion::Throughput;
use ninefold_engine::model::{Event, Latency};
use ninefold_engine::query::Promise;
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::{Objectives, Slis};
use ninefold_engine::synth::{self, Truth};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;

/// The allocator of the `ninefold` binary: without it the benches would time another program.
#[path = "../../src/allocator.rs"]
pub mod allocator;

/// Seed of the hash that sends customers to shards. Fixed, so that two runs do the same work.
pub const SHARD_SEED: u64 = 9;

/// What is promised unless something is configured.
#[derive(Default)]
pub struct Defaults {
    /// The SLIs.
    pub slis: Slis,
    /// The objectives.
    pub objectives: Objectives,
    /// How alerts are judged.
    pub alerts: AlertOptions,
}

impl Defaults {
    /// As answers take it.
    pub fn promise(&self) -> Promise<'_> {
        let Defaults { slis, objectives, alerts } = self;
        Promise { slis, objectives, alerts, credits: &[], zone: "UTC" }
    }
}

/// `full`, or `smoke` under `--test`.
pub fn size<T>(full: T, smoke: T) -> T {
    if std::env::args().any(|argument| argument == "--test") { smoke } else { full }
}

/// Lines with their truth.
pub struct Input {
    /// The lines, each with its newline.
    pub bytes: Vec<u8>,
    /// What an exact reader finds in them.
    pub truth: Truth,
}

impl Input {
    /// The lines of `options`.
    ///
    /// # Panics
    /// If the options do not hold together: a bench writes them as literals.
    pub fn of(options: &synth::Options) -> Input {
        let mut bytes = Vec::new();
        let truth = synth::generate(options, &mut bytes).expect("the options of a bench are valid");
        Input { bytes, truth }
    }

    /// The lines without their newlines, found as the pipeline finds them.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        memchr::memchr_iter(b'\n', &self.bytes).map(move |end| {
            let line = &self.bytes[start..end];
            start = end + 1;
            line
        })
    }

    /// Events and bytes a second.
    pub fn throughput(&self) -> Throughput {
        Throughput::ElementsAndBytes { elements: self.truth.lines, bytes: self.bytes.len() as u64 }
    }
}

/// The nine fields of a native line, as most programs would read them: derived, its texts borrowed.
///
/// A text with an escape could not be borrowed; the input has none.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "each field is the native field of its name")]
pub struct Derived<'a> {
    pub ts: i64,
    pub customer: &'a str,
    pub service: &'a str,
    pub route: &'a str,
    pub status: u16,
    pub latency_us: u32,
    pub release: &'a str,
    pub cohort: &'a str,
    pub region: &'a str,
}

impl<'a> Derived<'a> {
    /// Reads one line.
    ///
    /// # Panics
    /// If it is not as plain as the lines of the input are.
    pub fn read(line: &'a [u8]) -> Derived<'a> {
        serde_json::from_slice(line).expect("the input has plain lines alone")
    }

    /// The event that the decoder makes of the same line.
    pub fn event(&self) -> Event<'a> {
        Event {
            ts_ms: self.ts,
            customer: self.customer,
            service: self.service,
            route: self.route,
            status: self.status,
            latency: Latency::Us(self.latency_us),
            release: self.release,
            cohort: self.cohort,
            region: self.region,
            ..Event::default()
        }
    }
}

/// Plain native lines of `customers` customers over `days`: no late, weighted or broken ones.
pub fn ndjson(events: u64, customers: u32, days: f64) -> synth::Options {
    synth::Options { events, customers, days, ..synth::Options::default() }
}

/// A pool of `threads` threads, to run the engine in instead of on all cores.
///
/// # Panics
/// If the machine refuses a thread.
pub fn threads(threads: usize) -> ThreadPool {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("a machine that runs benches has threads to give")
}
