//! What does a row of the table cost to commit and to read, and how large is it?
//!
//! `commit` encodes and commits the files of one epoch, fsync and log entry included, into a new
//! table each time. `customer_month` reads one customer's rows out of a month of 30 commits, what
//! `ninefold sla` waits for: of a `middling` customer, and of the `busiest`, who has an eighth of
//! all events; `scan` reads every row of the grain `series`. Throughput is in rows.
//! The sizes of the files, by grain, are printed once: they are no measurement, but exact.

use std::collections::BTreeMap;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ninefold_benches::{Derived, Input, SHARD_SEED, ndjson, size};
use ninefold_engine::pipeline::batches::{Names, data_files};
use ninefold_engine::slo::sli::Slis;
use ninefold_engine::state::State;
use ninefold_engine::state::block::BlockBuilder;
use ninefold_engine::synth;
use ninefold_engine::table::{DataFile, Epoch, Filter, Move, SlicedFile, Table};
use tempfile::TempDir;

/// The name of the only partition.
const PARTITION: &str = "file/bench";

/// The days of the month that is read.
const DAYS: u64 = 30;

/// The files of one epoch with all events of `input`, and how many rows they have.
fn epoch_files(input: &Input) -> (Vec<DataFile>, u64) {
    let slis = Slis::default();
    let mut builder = BlockBuilder::new(SHARD_SEED, false);
    builder.begin(0, 0);
    for line in input.lines() {
        builder.push(&Derived::read(line).event(), &slis, 0);
    }
    let mut state = State::new(1_000, 0, false, SHARD_SEED);
    state.apply(vec![builder.finish(input.truth.lines)]);
    let cut = state.cut();
    let rules = slis.rules_version();
    let names = Names { partitions: vec![PARTITION], slis: Vec::new(), rules: &rules };
    let files = data_files(&state, &cut, &names);
    let rows = files.iter().map(|file| file.rows as u64).sum();
    let whole = |file: &SlicedFile<'_>| {
        let batches = vec![(file.build)(0..file.rows)];
        DataFile { grain: file.grain, day: file.day, batches }
    };
    (files.iter().map(whole).collect(), rows)
}

fn epoch(files: Vec<DataFile>, base: Option<u64>, next: u64) -> Epoch {
    let moves = vec![Move { partition: PARTITION.to_owned(), base, next }];
    Epoch { files, moves, info: "bench".to_owned() }
}

fn new_table() -> (TempDir, Table) {
    let dir = tempfile::tempdir().expect("the temporary folder takes a folder");
    let table = Table::open_or_create(dir.path()).expect("a table can be made there");
    (dir, table)
}

/// Bytes of the Parquet files below a folder, by grain.
fn sizes(dir: &Path) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the table can be listed") {
            let path = entry.expect("the table can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let text = path.display().to_string();
                let grain = text.split("grain=").nth(1).and_then(|rest| rest.split('/').next());
                let size = path.metadata().expect("the file is there").len();
                *sizes.entry(grain.unwrap_or("log").to_owned()).or_default() += size;
            }
        }
    }
    sizes
}

fn print_sizes(name: &str, input: &Input, files: &[DataFile], dir: &Path) {
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        let count: usize = file.batches.iter().map(|batch| batch.num_rows()).sum();
        *rows.entry(file.grain.name().to_owned()).or_default() += count as u64;
    }
    let events = input.truth.lines as f64;
    for (grain, bytes) in sizes(dir) {
        let Some(rows) = rows.get(&grain).copied().filter(|rows| *rows > 0) else { continue };
        let (per_row, per_event) = (bytes as f64 / rows as f64, bytes as f64 / events);
        let of_events = rows as f64 / events;
        println!(
            "{name}: {grain}: {rows} rows, {per_row:.1} bytes a row, {of_events:.2} rows and \
             {per_event:.2} bytes an event"
        );
    }
}

/// Commits `files` into a new table and proves that a reader finds every event.
fn check_commit(name: &str, input: &Input, files: &[DataFile]) {
    let (dir, mut table) = new_table();
    table.commit(epoch(files.to_vec(), None, 1)).expect("the epoch lands");
    print_sizes(name, input, files, dir.path());
    let mut valid = 0;
    let visited = table.for_each_series(&Filter::default(), |row| valid += row.measures.valid);
    visited.expect("the table can be read");
    assert_eq!(valid, input.truth.total.valid, "the table holds every event");
}

/// A table with one commit a day, and its customers by their valid events, the fewest first.
fn month() -> (TempDir, Table, Vec<(u64, String)>) {
    let (dir, mut table) = new_table();
    let mut of = BTreeMap::<String, u64>::new();
    for day in 0..DAYS {
        let start_ms = 1_764_547_200_000 + day as i64 * 86_400_000;
        // The same seed for all days: a customer that is busy on one is so on every other.
        let options = ndjson(size(50_000, 2_000), 10_000, 1.0);
        let input = Input::of(&synth::Options { start_ms, ..options });
        let (files, _) = epoch_files(&input);
        let base = (day > 0).then_some(day);
        table.commit(epoch(files, base, day + 1)).expect("the epoch lands");
        for (customer, tally) in input.truth.customers {
            *of.entry(customer).or_default() += tally.valid;
        }
    }
    let mut customers: Vec<(u64, String)> =
        of.into_iter().map(|(customer, valid)| (valid, customer)).collect();
    customers.sort_unstable();
    (dir, table, customers)
}

/// Rows and valid events that pass `filter`.
fn read(table: &Table, filter: &Filter) -> (u64, u64) {
    let (mut rows, mut valid) = (0, 0);
    let visited = table.for_each_series(filter, |row| {
        rows += 1;
        valid += row.measures.valid;
    });
    visited.expect("the table can be read");
    (rows, valid)
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table/commit");
    group.sample_size(10);
    for customers in [10_000, 200_000] {
        let name = format!("{}k", customers / 1_000);
        let input = Input::of(&ndjson(size(500_000, 20_000), customers, 1.0));
        let (files, rows) = epoch_files(&input);
        check_commit(&name, &input, &files);
        group.throughput(Throughput::Elements(rows));
        group.bench_function(name, |bench| {
            let setup = || (new_table(), epoch(files.clone(), None, 1));
            let run = |((dir, mut table), epoch): ((TempDir, Table), Epoch)| {
                table.commit(epoch).expect("the epoch lands");
                (dir, table)
            };
            bench.iter_batched(setup, run, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let (_dir, table, customers) = month();
    let of = |customer: &str| Filter { customer: Some(customer.to_owned()), ..Filter::default() };
    let (middling, busiest) = (&customers[customers.len() / 2], &customers[customers.len() - 1]);
    let total = customers.iter().map(|(valid, _)| valid).sum();
    let cases = [
        ("customer_month/middling", of(&middling.1), middling.0),
        ("customer_month/busiest", of(&busiest.1), busiest.0),
        ("scan", Filter::default(), total),
    ];
    let mut group = criterion.benchmark_group("table/read");
    group.sample_size(20);
    for (name, filter, expected) in cases {
        let (rows, found) = read(&table, &filter);
        assert_eq!(found, expected, "{name} finds every event");
        group.throughput(Throughput::Elements(rows));
        group.bench_function(name, |bench| bench.iter(|| read(&table, &filter)));
    }
    group.finish();
}

criterion_group!(benches, commit, reads);
criterion_main!(benches);
