//! How many bytes of memory does a record, a series and a minute take?
//!
//! Grows one thing at a time and prints by how much the resident set grew, as `/proc` tells it:
//! what an operator sees, spare capacity and allocator included. No measured thing is freed before
//! the end, so that none hides in what another left. Linux only.
//!
//! `cargo build --release --workspace --example memory && target/release/examples/memory`

use std::hint::black_box;

use ninefold_benches::{Derived, Input, SHARD_SEED, ndjson};
use ninefold_engine::model::Measures;
use ninefold_engine::slo::histogram::Histogram;
use ninefold_engine::slo::sli::Slis;
use ninefold_engine::state::block::BlockBuilder;
use ninefold_engine::state::kinds::Record;
use ninefold_engine::state::series::Cell;
use ninefold_engine::state::{Key, State};
use ninefold_engine::synth;
use ninefold_engine::time::Minute;

/// The first minute of the data: 2025-12-01T00:00:00Z.
const FIRST: u32 = 29_409_120;

/// Events of a block.
const BLOCK_EVENTS: u64 = 10_000;

/// Minutes of 30 days.
const MONTH: u32 = 43_200;

/// Bytes that are resident.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has a size");
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<u64>().expect("the size is a number") * 1_024
}

/// Prints what `grow` adds for each of `count` things, and keeps it.
fn measure<T>(what: &str, count: u64, grow: impl FnOnce() -> T) -> T {
    let before = resident();
    let grown = grow();
    let bytes = resident().saturating_sub(before) as f64 / count as f64;
    println!("{what}: {bytes:.1} bytes");
    grown
}

/// The events of one block.
fn block_input(seed: u64) -> Input {
    Input::of(&synth::Options { seed, ..ndjson(BLOCK_EVENTS, 10_000, 1.0) })
}

/// A state that holds the events of `blocks` blocks as records. The lines of a block are gone
/// before those of the next are made: what they took is not taken for the state's.
fn records(blocks: u64) -> State {
    let slis = Slis::default();
    let mut state = State::new(1_000, 0, false, SHARD_SEED);
    let mut builder = BlockBuilder::new(SHARD_SEED, false);
    for seed in 0..blocks {
        let input = block_input(seed);
        builder.begin(0, 0);
        input.lines().for_each(|line| builder.push(&Derived::read(line).event(), &slis, 0));
        state.apply(vec![builder.finish(1)]);
    }
    state
}

/// A state with `customers` series of `minutes` minutes each.
fn series(customers: u32, minutes: u32, latency: Option<&Histogram>) -> State {
    let mut state = State::new(1_000, 0, true, SHARD_SEED);
    let measures = Measures { valid: 1, ..Measures::default() };
    for customer in 0..customers {
        let customer = format!("cust_{customer:07}");
        for minute in FIRST..FIRST + minutes {
            let at = Key { customer: &customer, service: "inbox", minute: Minute(minute) };
            state.fold_series(at, &measures, latency);
        }
    }
    state
}

/// Minutes of a series of few events.
const SPARSE_MINUTES: u32 = 500;

/// A state with `customers` series of one event each 86 minutes, with its latency; all packed,
/// as those of a running service are after two hours.
fn sparse(customers: u32) -> State {
    let mut state = State::new(1_000, 0, true, SHARD_SEED);
    for customer in 0..customers {
        let customer = format!("cust_{customer:07}");
        for nth in 0..SPARSE_MINUTES {
            let latency_us = 5_000 + u64::from(nth * 7_919 % 200_000);
            let measures = Measures {
                valid: 1,
                timed: 1,
                latency_sum_us: latency_us,
                latency_max_us: latency_us,
                ..Measures::default()
            };
            let at =
                Key { customer: &customer, service: "inbox", minute: Minute(FIRST + nth * 86) };
            state.fold_series(at, &measures, None);
        }
    }
    state.pack_before(Minute(u32::MAX));
    state
}

fn main() {
    println!("size of a record: {}, of a cell: {}", size_of::<Record>(), size_of::<Cell>());
    // What making and reading a block takes is resident before the first measurement.
    assert_eq!(records(1).pending() as u64, BLOCK_EVENTS);
    let (blocks, count) = (200, 200 * BLOCK_EVENTS);
    let state = measure("an uncommitted event of 10,000 customers", count, || records(blocks));
    assert_eq!(state.pending() as u64, count);
    let one = measure("a series of one minute", 500_000, || series(500_000, 1, None));
    assert_eq!(one.series_count(), 500_000);
    let minutes = 40 * u64::from(MONTH);
    let month = measure("a minute in a series of a month", minutes, || series(40, MONTH, None));
    let mut latency = Histogram::default();
    [1_000, 2_000, 3_000].into_iter().for_each(|us| latency.record(us, 1));
    let count = 20_000 * 60;
    let with = || series(20_000, 60, Some(&latency));
    let timed = measure("a minute with three latencies, its histogram included", count, with);
    let minutes = 20_000 * u64::from(SPARSE_MINUTES);
    let sparse = measure("a minute of 500 in a month, packed", minutes, || sparse(20_000));
    println!("as it accounts for: {:.1} bytes", sparse.bytes() as f64 / minutes as f64);
    black_box((state, one, month, timed, sparse));
}
