//! What does an event cost from decoded to rows, with few and with many customers, on one core
//! and on two?
//!
//! The stages of an epoch, one by one: `blocks` (records and dictionaries of each block), `apply`
//! (blocks to shards, as `replay` does), `live` (the same, and into the series that a running
//! service answers from) and `cut` (records to rows). Decoding is left out: the events lie
//! decoded in memory. A stage that takes as long on two threads as on one does not scale.
//!
//! `minutes` is what a minute costs its series: of one partition, in order; and of twelve that are
//! read two hours apart, as those of a backlog are.

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use ninefold_benches::{Derived, Input, SHARD_SEED, ndjson, size, threads};
use ninefold_engine::model::{Event, Measures};
use ninefold_engine::slo::sli::Slis;
use ninefold_engine::slo::tally::Tally;
use ninefold_engine::state::block::{Block, BlockBuilder};
use ninefold_engine::state::cells::Cells;
use ninefold_engine::state::kinds::Kind;
use ninefold_engine::state::{Cut, State};
use ninefold_engine::time::{DAY_MINUTES, Minute};
use rayon::prelude::*;

/// Events of a block: about as many lines as a chunk of a file has.
const BLOCK_EVENTS: usize = 12_000;

/// Values of a dimension; the input has far fewer.
const VALUES_MAX: usize = 1_000;

fn blocks(events: &[Event<'_>]) -> Vec<Block> {
    let slis = Slis::default();
    let builder = || BlockBuilder::new(SHARD_SEED, false);
    let chunks = events.par_chunks(BLOCK_EVENTS).enumerate();
    let work = chunks.map_init(builder, |builder, (index, chunk)| {
        let first = (index * BLOCK_EVENTS) as u64;
        builder.begin(0, first);
        chunk.iter().for_each(|event| builder.push(event, &slis, first));
        builder.finish(first + chunk.len() as u64)
    });
    work.collect()
}

fn empty(live: bool) -> State {
    State::new(VALUES_MAX, 0, live, SHARD_SEED)
}

fn applied(mut state: State, blocks: Vec<Block>) -> State {
    state.apply(blocks);
    state
}

fn check_pending(state: &State, input: &Input) {
    assert_eq!(state.pending() as u64, input.truth.counted, "every event is a record");
}

fn check_cut((cut, kinds): (&Cut, &[Kind]), input: &Input) {
    let (mut series, mut dimensions) = (Measures::default(), Measures::default());
    for shard in &cut.shards {
        let rows = (0..shard.customers()).flat_map(|place| shard.of_customer(place).series);
        let records = rows.flat_map(|row| shard.series(row));
        records.for_each(|record| series.add(&record.with(kinds).measures()));
    }
    let mut tally = Tally::default();
    for row in 0..cut.dimensions.len() {
        dimensions.add(&cut.dimensions.sums(row, &mut tally));
    }
    let total = input.truth.total;
    let found = (series.valid, series.bad, series.excluded);
    assert_eq!(found, (total.valid, total.bad, total.excluded), "rows add up to the events");
    assert_eq!(series, dimensions, "the grains agree");
}

/// All stages with `customers` customers on `count` threads.
fn stages(group: &mut BenchmarkGroup<'_, WallTime>, customers: u32, count: usize) {
    let input = Input::of(&ndjson(size(500_000, 20_000), customers, 1.0));
    let events: Vec<Event<'_>> = input.lines().map(|line| Derived::read(line).event()).collect();
    let name = |stage| format!("{stage}/{}k/{count}", customers / 1_000);
    let pool = threads(count);
    group.throughput(Throughput::Elements(input.truth.lines));

    group.bench_function(name("blocks"), |bench| {
        bench.iter_with_large_drop(|| pool.install(|| blocks(&events)));
    });
    for (stage, live) in [("apply", false), ("live", true)] {
        group.bench_function(name(stage), |bench| {
            let setup = || (empty(live), blocks(&events));
            let run = |(state, blocks)| pool.install(|| applied(state, blocks));
            bench.iter_batched(setup, run, BatchSize::PerIteration);
        });
    }
    let state = applied(empty(false), blocks(&events));
    check_pending(&state, &input);
    check_pending(&applied(empty(true), blocks(&events)), &input);
    let cut = || pool.install(|| state.cut());
    check_cut((&cut(), state.kinds()), &input);
    group.bench_function(name("cut"), |bench| bench.iter_with_large_drop(cut));
}

/// The minutes of a day as partitions bring them that are read two hours apart, each at a pace of
/// its own.
fn minutes(partitions: u64) -> Vec<Minute> {
    let of_partition = |nth: u64| {
        let (begin, pace) = (nth * 12_000, 80 + nth * 7 % 41);
        let steps = (1..).scan(0, move |at, step: u64| {
            *at += 1 + (step * 31 + nth * 17) * step % 24;
            Some(*at)
        });
        let of_day = steps.take_while(|at| *at < u64::from(DAY_MINUTES));
        of_day.map(move |at| (begin + at * pace, Minute(29_409_120 + at as u32)))
    };
    let mut arrivals: Vec<(u64, Minute)> = (0..partitions).flat_map(of_partition).collect();
    arrivals.sort_unstable();
    arrivals.into_iter().map(|(_, minute)| minute).collect()
}

/// Adds events of 20 ms.
fn counted(minutes: &[Minute]) -> Cells {
    let (latency_sum_us, latency_max_us) = (20_000, 20_000);
    let one =
        Measures { valid: 1, timed: 1, latency_sum_us, latency_max_us, ..Measures::default() };
    let mut cells = Cells::default();
    minutes.iter().for_each(|minute| cells.add(*minute, &one));
    cells
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.sample_size(10);
    for customers in [10_000, 200_000] {
        for count in [1, 2] {
            stages(&mut group, customers, count);
        }
    }
    for partitions in [1, 12] {
        let minutes = minutes(partitions);
        let sum = counted(&minutes).sum(Minute(0)..=Minute(u32::MAX));
        assert_eq!(sum.valid, minutes.len() as u64, "every event stands in its minute");
        group.throughput(Throughput::Elements(minutes.len() as u64));
        group.bench_function(format!("minutes/{partitions}"), |bench| {
            bench.iter(|| counted(&minutes));
        });
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
