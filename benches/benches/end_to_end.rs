//! How many events a second go from a file to a committed table, and how does that grow with a
//! second core and shrink with more customers?
//!
//! Everything that `ninefold replay` does: read, cut into lines, decode, classify, apply, cut into
//! rows, encode, fsync, commit. The file is in the page cache, the table is new in each run and
//! lies in the temporary folder of the system. This is the figure to hold against other engines:
//! see the README beside this.

use std::io::Write;
use std::path::Path;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use ninefold_benches::{Input, SHARD_SEED, ndjson, size, threads};
use ninefold_engine::config::Config;
use ninefold_engine::pipeline::{EventCounts, LineCounts, Options, Pipeline};
use ninefold_engine::source::file;
use ninefold_engine::synth;
use ninefold_engine::table::Table;

/// What the pipeline is told when nothing is configured.
fn defaults() -> Options {
    let config = Config::default();
    Options {
        slis: config.slis,
        decode: config.decode,
        dimension_values_max: config.dimension_values_max,
        dedupe_window_bytes: config.dedupe_window_bytes,
        dedupe_window_records: config.dedupe_window_records,
        dedupe_ids_max: usize::MAX,
        pools: Default::default(),
        epoch_events_max: config.epoch_events_max,
    }
}

/// Counts the file into a new table.
fn replay(path: &Path) -> (LineCounts, EventCounts) {
    let dir = tempfile::tempdir().expect("the temporary folder takes a folder");
    let table = Table::open_or_create(dir.path()).expect("a table can be made there");
    let mut pipeline = Pipeline::new(defaults(), table, false, SHARD_SEED);
    let opened = file::open(path, &[]).expect("the file can be read");
    let opened = opened.expect("the file is not empty");
    pipeline.replay(path, opened, &|_| {}).expect("the file can be counted");
    pipeline.commit().expect("the epoch lands");
    (pipeline.lines(), pipeline.events())
}

fn check(input: &Input, (lines, events): (LineCounts, EventCounts)) {
    let truth = &input.truth;
    let found = (lines.read, lines.counted, lines.dead, lines.duplicate);
    assert_eq!(found, (truth.lines, truth.counted, truth.dead, 0));
    let found = (events.valid, events.bad, events.excluded);
    assert_eq!(found, (truth.total.valid, truth.total.bad, truth.total.excluded));
}

fn case(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, options: &synth::Options) {
    let input = Input::of(options);
    let mut file = tempfile::NamedTempFile::new().expect("the temporary folder takes a file");
    file.write_all(&input.bytes).expect("the temporary folder has room for the input");
    group.throughput(input.throughput());
    for count in [1, 2] {
        let pool = threads(count);
        group.bench_function(format!("{name}/{count}"), |bench| {
            bench.iter(|| check(&input, pool.install(|| replay(file.path()))));
        });
    }
}

fn end_to_end(criterion: &mut Criterion) {
    let events = size(1_000_000, 50_000);
    let mut group = criterion.benchmark_group("end_to_end");
    group.sample_size(10);
    case(&mut group, "ndjson/10k", &ndjson(events, 10_000, 1.0));
    case(&mut group, "ndjson/200k", &ndjson(events, 200_000, 1.0));
    let format = synth::Format::Combined;
    case(&mut group, "combined/10k", &synth::Options { format, ..ndjson(events, 10_000, 1.0) });
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
