//! Proving the table against its source: the files are counted again, apart from the table, and
//! compared with its rows by customer, service and minute.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::dedupe::DedupeWindow;
use super::replay::settled_decode;
use super::{Options, PipelineError, columnar, decode_chunks, known_in, settle};
use crate::decode;
use crate::model::Measures;
use crate::source::chunk::Chunk;
use crate::source::file::{self, Known, Opened, SourceError};
use crate::state::State;
use crate::table::{Filter, Table};
use crate::time::Minute;

/// How many differences are told; all are counted.
const DIFFERENCES_MAX: usize = 20;

/// Sends customers to shards; nobody outside sees how.
const SEED: u64 = 0;

/// Customer, service and minute.
type Key = (String, String, Minute);

/// Whether the table holds what its sources say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// No difference, and every file was counted.
    pub equal: bool,
    /// Version of the table.
    pub version: u64,
    /// Customer, service and minute triples that were compared.
    pub compared: u64,
    /// How many of them differ.
    pub different: u64,
    /// The first of those.
    pub differences: Vec<Difference>,
    /// Files of which the table knows nothing.
    pub unknown: Vec<String>,
}

/// One customer, service and minute that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Which source.
    pub partition: String,
    /// Who.
    pub customer: String,
    /// Which component.
    pub service: String,
    /// When.
    pub minute: String,
    /// Valid, bad, excluded, timed, slow, sum and maximum of latency by the source.
    pub source: [u64; 7],
    /// The same by the table.
    pub table: [u64; 7],
}

/// Counts `files` again, each up to its committed offset, and compares.
///
/// # Errors
/// A file or the table cannot be read.
pub fn verify(
    options: Options,
    table: &Table,
    files: &[PathBuf],
) -> Result<Verdict, PipelineError> {
    let known = known_in(table)?;
    let mut verdict = Verdict { version: table.version(), ..Verdict::default() };
    for path in files {
        let found = if columnar::is_parquet(&options.decode, path)? {
            rows_of(&options, path, &known)?
        } else {
            let Some(opened) = file::open(path, &known)? else { continue };
            lines_of(&options, path, &known, &opened)?
        };
        match found {
            Some((partition, source)) => compare(&mut verdict, table, &partition, source)?,
            None => verdict.unknown.push(path.display().to_string()),
        }
    }
    verdict.equal = verdict.different == 0 && verdict.unknown.is_empty();
    Ok(verdict)
}

/// A partition and what its source counts up to the committed offset.
type Recounted = (String, HashMap<Key, Measures>);

/// The partition and the counts of a Parquet file; `None` where the table does not know it.
fn rows_of(
    options: &Options,
    path: &Path,
    known: &[Known],
) -> Result<Option<Recounted>, PipelineError> {
    let name = columnar::partition_of(path)?;
    let Some(known) = known.iter().find(|one| one.partition == name) else { return Ok(None) };
    let mut sums = HashMap::new();
    let mut window = window_of(options);
    let mut state = State::new(usize::MAX, options.slis.further.len(), false, SEED);
    columnar::for_each_block(options, path, known.next, |mut block| {
        settle(&mut block, window.as_mut());
        state.apply(vec![block]);
        drain(&mut state, &mut sums);
    })?;
    Ok(Some((name, sums)))
}

/// The same of a file of lines.
fn lines_of(
    options: &Options,
    path: &Path,
    known: &[Known],
    opened: &Opened,
) -> Result<Option<Recounted>, PipelineError> {
    let known = known.iter().find(|one| one.partition == opened.partition);
    let Some(known) = known else { return Ok(None) };
    let label = path.display().to_string();
    let decode = settled_decode(&label, options.decode.clone(), &opened.head)?;
    Ok(Some((opened.partition.clone(), recount(options, path, &decode, known)?)))
}

fn window_of(options: &Options) -> Option<DedupeWindow> {
    let window = options.dedupe_window_bytes;
    (window > 0).then(|| DedupeWindow::new(window, options.dedupe_ids_max))
}

/// The counts of a file of lines up to the committed offset.
fn recount(
    options: &Options,
    path: &Path,
    decode: &decode::Options,
    known: &Known,
) -> Result<HashMap<Key, Measures>, PipelineError> {
    let mut sums = HashMap::new();
    let mut window = window_of(options);
    let mut state = State::new(usize::MAX, options.slis.further.len(), false, SEED);
    let mut chunks = file::chunks_until(path, known.next)?;
    let fail = |source| SourceError::Read { path: path.to_owned(), source };
    loop {
        let batch = next_chunks(&mut chunks).map_err(fail)?;
        if batch.is_empty() {
            break;
        }
        let mut blocks = decode_chunks(options, decode, (0, SEED), &batch);
        for block in &mut blocks {
            settle(block, window.as_mut());
        }
        state.apply(blocks);
        drain(&mut state, &mut sums);
    }
    Ok(sums)
}

fn next_chunks(chunks: &mut file::FileChunks) -> std::io::Result<Vec<Chunk>> {
    let most = rayon::current_num_threads() * 4;
    let mut batch = Vec::new();
    while batch.len() < most
        && let Some(chunk) = chunks.next_chunk()?
    {
        batch.push(chunk);
    }
    Ok(batch)
}

fn drain(state: &mut State, sums: &mut HashMap<Key, Measures>) {
    for shard in &state.shards {
        for record in shard.records.iter().filter(|record| record.count > 0) {
            let service = state.dimensions.tuple(record.tuple).service;
            let key = (
                shard.customers.text(record.customer).to_owned(),
                state.dimensions.values.text(service).to_owned(),
                record.minute,
            );
            sums.entry(key).or_default().add(&record.measures());
        }
    }
    state.drop_records();
}

fn compare(
    verdict: &mut Verdict,
    table: &Table,
    partition: &str,
    mut source: HashMap<Key, Measures>,
) -> Result<(), PipelineError> {
    let mut held: HashMap<Key, Measures> = HashMap::new();
    let filter = Filter { partition: Some(partition.to_owned()), ..Filter::default() };
    table.for_each_series(&filter, |row| {
        let key = (row.customer.to_owned(), row.service.to_owned(), row.minute);
        held.entry(key).or_default().add(&row.measures);
    })?;
    let mut keys: Vec<Key> = source.keys().chain(held.keys()).cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    verdict.compared += keys.len() as u64;
    for key in keys {
        let source = source.remove(&key).unwrap_or_default();
        let table = held.remove(&key).unwrap_or_default();
        if source == table {
            continue;
        }
        verdict.different += 1;
        if verdict.differences.len() < DIFFERENCES_MAX {
            let (customer, service, minute) = key;
            let (partition, minute) = (partition.to_owned(), minute.to_string());
            let (source, table) = (numbers(&source), numbers(&table));
            let difference = Difference { partition, customer, service, minute, source, table };
            verdict.differences.push(difference);
        }
    }
    Ok(())
}

fn numbers(measures: &Measures) -> [u64; 7] {
    let Measures { valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us } = *measures;
    [valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us]
}
