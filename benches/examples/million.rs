//! How much memory does a service of a million customers hold, and how long does it take to be
//! ready again?
//!
//! Generates events in the order of their time over the days that end now, counts them live into
//! a table as `run` does (decode, series, commits, ticks), writes a snapshot of memory, and starts
//! twice: from the snapshot, and from the table alone. Each of the three is a process of its own,
//! so that each tells its own peak. Every one compares what it holds with the generator's own
//! totals: of everybody, and of a thousand customers.
//!
//! `cargo build --release --workspace --example million && target/release/examples/million DIR`
//!
//! Then any of `customers=1000000 events=500000000 days=30 hours=720 spread=zipf|uniform
//! epoch=1000000`, `upkeep` (compact as the service does, by the clock of the data) and `small`.
//! DIR has to be a new folder; the table of the full size takes some 15 GB, which are not removed.
//! `million DIR feed …` counts and starts nothing again.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ninefold_benches::{Defaults, SHARD_SEED, allocator};
use ninefold_engine::decode::{self, Format};
use ninefold_engine::model::Measures;
use ninefold_engine::pipeline::snapshot::Restored;
use ninefold_engine::pipeline::{Options, Pipeline, Start, Unit};
use ninefold_engine::source::chunk::{CHUNK_BYTES, Chunk, ChunkKind, Tail};
use ninefold_engine::state::State;
use ninefold_engine::state::snapshot::PARTS;
use ninefold_engine::table::Table;
use ninefold_engine::table::upkeep::{Done, Upkeep};
use ninefold_engine::time::{DAY_MINUTES, MINUTE_MS, Minute};
use serde::{Deserialize, Serialize};

/// The one partition.
const LOG: &str = "million/log";

/// How many customers are compared one by one.
const SAMPLE: u64 = 1_000;

/// One event of so many fails.
const BAD_EVERY: u64 = 500;

/// How much of the past `run` keeps in memory.
const MEMORY_MINUTES: u32 = 93 * DAY_MINUTES;

/// What is to be generated.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    customers: u64,
    events: u64,
    hours: u64,
    uniform: bool,
    epoch: u64,
    upkeep: bool,
    /// The time behind the last event.
    end_ms: i64,
}

/// What the generator has made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Truth {
    all: Sums,
    /// By customer, of every so many.
    sample: Vec<Sums>,
}

/// Events, failures, and the sum of the latencies of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    valid: u64,
    bad: u64,
    latency_sum_us: u64,
}

impl Sums {
    fn add(&mut self, is_bad: bool, latency_us: u64) {
        self.valid += 1;
        self.bad += u64::from(is_bad);
        self.latency_sum_us += if is_bad { 0 } else { latency_us };
    }
}

impl Plan {
    fn of(arguments: &[String]) -> Plan {
        let mut plan = Plan {
            customers: 1_000_000,
            events: 500_000_000,
            hours: 720,
            uniform: false,
            epoch: 1_000_000,
            upkeep: false,
            end_ms: now_ms(),
        };
        for argument in arguments {
            let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
            let number = || value.parse().unwrap_or_else(|_| panic!("{argument}: a number"));
            match key {
                "customers" => plan.customers = number(),
                "events" => plan.events = number(),
                "days" => plan.hours = 24 * number(),
                "hours" => plan.hours = number(),
                "epoch" => plan.epoch = number(),
                "spread" => plan.uniform = value == "uniform",
                "upkeep" => plan.upkeep = true,
                "small" => (plan.customers, plan.events, plan.epoch) = (2_000, 100_000, 20_000),
                _ => panic!("{argument}: see the head of the file"),
            }
        }
        plan
    }

    fn start_ms(&self) -> i64 {
        self.end_ms - (60 * self.hours) as i64 * MINUTE_MS
    }

    /// Every so many customers one is of the sample.
    fn step(&self) -> u64 {
        (self.customers / SAMPLE).max(1)
    }
}

/// Draws customers by Zipf's law with exponent 1.1, or all alike: for each number a share of
/// draws that it keeps, and another number that gets the rest.
struct Spread(Vec<(u32, u32)>);

impl Spread {
    fn of(plan: &Plan) -> Spread {
        let count = plan.customers as usize;
        let exponent = if plan.uniform { 0.0 } else { 1.1 };
        let mut weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
        let mean = weights.iter().sum::<f64>() / count as f64;
        weights.iter_mut().for_each(|weight| *weight /= mean);
        let mut table: Vec<(u32, u32)> = (0..count as u32).map(|id| (u32::MAX, id)).collect();
        let (mut light, mut heavy): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|id| weights[*id] < 1.0);
        while let (Some(small), Some(&large)) = (light.pop(), heavy.last()) {
            table[small] = ((weights[small] * f64::from(u32::MAX)) as u32, large as u32);
            weights[large] -= 1.0 - weights[small];
            if weights[large] < 1.0 {
                heavy.pop();
                light.push(large);
            }
        }
        Spread(table)
    }

    fn draw(&self, random: u64) -> u64 {
        let at = ((random >> 32) * self.0.len() as u64) >> 32;
        let (share, other) = self.0[at as usize];
        if (random as u32) <= share { at } else { u64::from(other) }
    }
}

/// One step of SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Sends the lines in chunks, each with how many they are; gives the totals.
fn generate(plan: &Plan, sender: &SyncSender<(u64, Vec<u8>)>) -> Truth {
    let (spread, step, mut state) = (Spread::of(plan), plan.step(), 9);
    let sample = plan.customers.div_ceil(step) as usize;
    let mut truth = Truth { all: Sums::default(), sample: vec![Sums::default(); sample] };
    let (mut lines, mut count) = (Vec::with_capacity(CHUNK_BYTES), 0);
    let span = (plan.end_ms - plan.start_ms()) as u128;
    let per_day = u128::from((24 * plan.events).div_ceil(plan.hours));
    for event in 0..plan.events {
        let ts = plan.start_ms() + (u128::from(event) * span / u128::from(plan.events)) as i64;
        let customer = spread.draw(random(&mut state));
        let drawn = random(&mut state);
        let is_bad = drawn.is_multiple_of(BAD_EVERY);
        // From 2 ms on, half of all below 34 ms, the longest above half a second.
        let doublings = ((drawn >> 32) % 64).saturating_sub(60);
        let latency_us = 2_000 + (((drawn >> 10) % 64_000) << doublings);
        let status = if is_bad { 503 } else { 200 };
        let release = u128::from(event) / per_day;
        let cohort = if customer.is_multiple_of(20) { "canary" } else { "stable" };
        let (region, route) = (customer % 4, (drawn >> 40) % 8);
        push(&mut lines, "{\"ts\":", ts as u64);
        push(&mut lines, ",\"customer\":\"cust_", customer);
        push(&mut lines, "\",\"service\":\"api\",\"route\":\"GET /r", route);
        push(&mut lines, "\",\"status\":", status);
        push(&mut lines, ",\"latency_us\":", latency_us);
        push(&mut lines, ",\"release\":\"r", release as u64);
        push(&mut lines, "\",\"region\":\"eu-", region);
        lines.extend_from_slice(b"\",\"cohort\":\"");
        lines.extend_from_slice(cohort.as_bytes());
        lines.extend_from_slice(b"\"}\n");
        truth.all.add(is_bad, latency_us);
        if customer.is_multiple_of(step) {
            truth.sample[(customer / step) as usize].add(is_bad, latency_us);
        }
        count += 1;
        if lines.len() >= CHUNK_BYTES - 256 || event + 1 == plan.events {
            let full = std::mem::replace(&mut lines, Vec::with_capacity(CHUNK_BYTES));
            sender.send((count, full)).expect("somebody counts");
            count = 0;
        }
    }
    truth
}

/// Appends a text and a number.
fn push(line: &mut Vec<u8>, text: &str, mut number: u64) {
    line.extend_from_slice(text.as_bytes());
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[first..]);
}

fn options() -> Options {
    Options {
        slis: Defaults::default().slis,
        decode: decode::Options { format: Format::Ndjson, ..decode::Options::default() },
        pools: Arc::default(),
        dimension_values_max: 1_000,
        dedupe_window_bytes: 0,
        dedupe_window_records: 0,
        dedupe_ids_max: 0,
        epoch_events_max: usize::MAX,
    }
}

fn open(dir: &Path) -> Pipeline {
    let table = Table::open_or_create(&dir.join("rollups")).expect("the table opens");
    Pipeline::new(options(), table, true, SHARD_SEED)
}

/// Counts everything, commits it, and writes a snapshot.
fn feed(dir: &Path, plan: &Plan) {
    let (sender, chunks) = sync_channel(8);
    let mut pipeline = open(dir);
    let began = Instant::now();
    let truth = std::thread::scope(|scope| {
        let generating = scope.spawn(move || generate(plan, &sender));
        count(&mut pipeline, dir, plan, &chunks);
        generating.join().expect("the generator does not panic")
    });
    let took = began.elapsed().as_secs_f64();
    let peak = status_bytes("VmHWM:");
    println!(
        "counted {} events of {} customers in {took:.0} s, {:.0} events/s, {} commits",
        plan.events,
        plan.customers,
        plan.events as f64 / took,
        pipeline.commits()
    );
    tell_memory(&pipeline.state, peak);
    println!("the table takes {:.2} GB", folder_bytes(&dir.join("rollups")) as f64 / 1e9);
    compare(&pipeline.state, plan, &truth);
    let text = serde_json::to_string(&(plan, truth)).expect("plain data");
    fs::write(dir.join("truth.json"), text).expect("there is space");
    snapshot(&pipeline, &dir.join("snapshot"));
}

/// Counts the chunks; a commit, a tick and perhaps a step of upkeep at the end of each epoch.
fn count(pipeline: &mut Pipeline, dir: &Path, plan: &Plan, chunks: &Receiver<(u64, Vec<u8>)>) {
    let Defaults { objectives, alerts, .. } = Defaults::default();
    let decode = pipeline.options().decode.clone();
    let mut tail = Tail::default();
    let (name, label, unit) = (LOG, LOG, Unit::Bytes);
    let start = Start { name, label, decode, unit, offset: 0, tail: tail.clone() };
    let number = pipeline.partition(start).expect("the table can be read");
    let (mut first, mut counted, mut pending) = (0, 0, 0);
    let mut upkeep = (Upkeep::new(), None);
    let mut waiting = Vec::new();
    while let Ok((lines, bytes)) = chunks.recv() {
        tail.push(&bytes);
        let next = first + bytes.len() as u64;
        let kind = ChunkKind::Lines;
        waiting.push(Chunk { first, next, kind, bytes, tail: tail.clone() });
        (first, pending, counted) = (next, pending + lines, counted + lines);
        if waiting.len() < 4 && counted < plan.events {
            continue;
        }
        pipeline.ingest(number, &std::mem::take(&mut waiting));
        if pending >= plan.epoch || counted == plan.events {
            pending = 0;
            pipeline.commit().expect("the epoch lands");
            pipeline.follow().expect("the log can be read");
            let newest = pipeline.state.newest().expect("something was counted");
            pipeline.tick(newest.start_ms(), &objectives, &alerts);
            if plan.upkeep {
                keep(&mut upkeep, dir, newest);
            }
        }
    }
    pipeline.commit().expect("the epoch lands");
    pipeline.follow().expect("the log can be read");
}

/// Does what is due on the table as of a minute.
fn keep((upkeep, table): &mut (Upkeep, Option<Table>), dir: &Path, now: Minute) {
    let table = table.get_or_insert_with(|| {
        Table::open(&dir.join("rollups")).expect("the table opens").expect("there is one")
    });
    while upkeep.step(table, now.start_ms()).expect("the table can be kept") != Done::Nothing {}
}

/// Writes all parts, and tells how long the loop of a service would be held up by one of them.
fn snapshot(pipeline: &Pipeline, dir: &Path) {
    let (mut longest, mut copying, began) = (Duration::ZERO, Duration::ZERO, Instant::now());
    for part in 0..PARTS {
        let copied = Instant::now();
        let image = pipeline.image(part).expect("the log can be read").expect("all is committed");
        copying += copied.elapsed();
        longest = longest.max(copied.elapsed());
        image.write(dir).expect("there is space");
    }
    println!(
        "snapshot of {:.2} GB: {:.1} s, of it {:.1} s in the loop, {:.0} ms at once at most",
        folder_bytes(dir) as f64 / 1e9,
        began.elapsed().as_secs_f64(),
        copying.as_secs_f64(),
        longest.as_secs_f64() * 1e3
    );
}

/// Starts as `run` does, with the snapshot or without.
fn restart(dir: &Path, with_snapshot: bool) {
    let text = fs::read_to_string(dir.join("truth.json")).expect("it was fed");
    let (plan, truth): (Plan, Truth) = serde_json::from_str(&text).expect("as it was written");
    let began = Instant::now();
    let mut pipeline = open(dir);
    if with_snapshot {
        pipeline.keep_snapshots(dir.join("snapshot"));
    }
    let now = Minute::of_ms(plan.end_ms);
    pipeline.recover(now.minus(MEMORY_MINUTES)..=Minute(u32::MAX)).expect("the table can be read");
    let took = began.elapsed().as_secs_f64();
    let peak = status_bytes("VmHWM:");
    let from = match pipeline.restored() {
        Restored::From { entries, .. } => format!("from the snapshot and {entries} entries"),
        Restored::Nothing => "from the table".to_owned(),
        Restored::Refused(doubt) => panic!("the snapshot is not used: {doubt}"),
    };
    assert_eq!(with_snapshot, from.contains("snapshot"));
    println!("ready {from} in {took:.1} s");
    tell_memory(&pipeline.state, peak);
    compare(&pipeline.state, &plan, &truth);
}

/// Holds memory against the totals of the generator.
fn compare(state: &State, plan: &Plan, truth: &Truth) {
    const ALL: RangeInclusive<Minute> = Minute(0)..=Minute(u32::MAX);
    let sums =
        |sum: Measures| Sums { valid: sum.valid, bad: sum.bad, latency_sum_us: sum.latency_sum_us };
    assert_eq!(sums(state.fleet().sum(ALL)), truth.all);
    for (nth, expected) in (0..).zip(&truth.sample) {
        let series = state.series_of(&format!("cust_{}", nth * plan.step()));
        let found = series.first().map_or(Sums::default(), |series| sums(series.sum(ALL)));
        assert_eq!(found, *expected, "customer {nth}");
    }
    println!("equal to the generator's totals, and of {} customers one by one", truth.sample.len());
}

fn tell_memory(state: &State, peak: u64) {
    let (series, cells) = state.all_series().iter().fold((0_u64, 0_u64), |(series, cells), one| {
        (series + 1, cells + one.cells.iter().count() as u64)
    });
    let (resident, held) = (status_bytes("VmRSS:"), state.bytes() as u64);
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    println!(
        "peak {:.2} GiB, resident {:.2}, accounted {:.2}; {series} series of {cells} cells: {:.0} \
         resident bytes a series, {:.2} a cell",
        gib(peak),
        gib(resident),
        gib(held),
        resident as f64 / series as f64,
        resident as f64 / cells as f64
    );
}

/// A figure of this process, in bytes.
fn status_bytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells of a process");
    let line = status.lines().find(|line| line.starts_with(field)).expect("it has a size");
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<u64>().expect("the size is a number") * 1_024
}

fn folder_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("readable"));
    entries
        .map(|entry| match entry.metadata().expect("it is there") {
            metadata if metadata.is_dir() => folder_bytes(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

#[expect(clippy::disallowed_methods, reason = "an example may ask the clock: events end now")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock is after 1970").as_millis() as i64
}

fn main() {
    // As `run` does.
    allocator::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = arguments.split_first().filter(|(dir, _)| !dir.starts_with('-'));
    let Some((dir, rest)) = named else {
        eprintln!("usage: million DIR [KEY=VALUE…]; see the head of the file");
        std::process::exit(2);
    };
    let dir = PathBuf::from(dir);
    match rest.split_first() {
        Some((phase, plan)) if phase == "feed" => {
            fs::create_dir(&dir).expect("DIR is a new folder");
            feed(&dir, &Plan::of(plan));
        }
        Some((phase, _)) if phase == "restart" => restart(&dir, true),
        Some((phase, _)) if phase == "refold" => restart(&dir, false),
        _ => {
            for phase in ["feed", "restart", "refold"] {
                let program = std::env::current_exe().expect("this program has a path");
                let status = Command::new(program).arg(&dir).arg(phase).args(rest).status();
                assert!(status.expect("it starts").success(), "{phase} failed");
            }
        }
    }
}
