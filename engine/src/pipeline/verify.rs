//! Proving the table against its source: what the source still holds is counted again, apart from
//! the table, and compared with its rows by customer, service and minute.
//!
//! A source takes part as [`Recorded`]: a partition, and its chunks from its first one on. A log
//! of records is compared range by range as well, as its commits have counted it.
//!
//! Rows do not say from which offsets they were counted. So where a source has let go of its
//! begin, a row can only be shown to hold at least what the rest of the source says; what is gone
//! is named, and the verdict is never that all is equal.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

mod scope;

pub use scope::RangeDifference;
use scope::Scope;

use super::dedupe::DedupeWindow;
use super::replay::settled_decode;
use super::{Decoding, LineCounts, Options, PipelineError, Unit, columnar, known_in, settle};
use crate::decode;
use crate::model::Measures;
use crate::source::chunk::Chunk;
use crate::source::file::{self, Known, Opened, SourceError};
use crate::source::wal::{self, WalError};
use crate::state::State;
use crate::state::block::Rooms;
use crate::table::{Filter, Table, TableError};
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
    /// Ranges of offsets that were compared, each counted by one commit.
    #[serde(skip_serializing_if = "is_zero")]
    pub ranges_compared: u64,
    /// How many of them differ.
    #[serde(skip_serializing_if = "is_zero")]
    pub ranges_different: u64,
    /// The first of those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeDifference>,
    /// Sources of which the table knows nothing.
    pub unknown: Vec<String>,
    /// Parts of partitions that cannot be compared: the source has let go of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a source holds of a partition.
pub struct Recorded<'a> {
    /// The partition.
    pub partition: &'a str,
    /// What people call it.
    pub label: &'a str,
    /// What its offsets are.
    pub unit: Unit,
    /// How its lines or records are read; the format is a certain one.
    pub decode: decode::Options,
    /// The first offset that the source still has.
    pub first: u64,
    /// Its chunks from there on, or from where the table has begun and as many records before as
    /// the dedupe window has. Records behind the committed offset are not counted; a source of
    /// lines ends at that offset.
    pub chunks: &'a mut dyn Iterator<Item = io::Result<Chunk>>,
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

/// Counts `files` again, each up to its committed offset, and compares. The folder of a
/// write-ahead log is a file like any other.
///
/// # Errors
/// A file or the table cannot be read.
pub fn verify(
    options: Options,
    table: &Table,
    files: &[PathBuf],
) -> Result<Verdict, PipelineError> {
    let known = known_in(table)?;
    let mut verdict = Verdict::of(table);
    for path in files {
        if wal::Recorded::is_log(path) {
            verdict.add_log(&options, table, path)?;
        } else if columnar::is_parquet(&options.decode, path)? {
            match rows_of(&corrected(&options, table)?, path, &known)? {
                Some((partition, source)) => verdict.compare(table, &partition, source, true)?,
                None => verdict.unknown.push(path.display().to_string()),
            }
        } else if let Some(opened) = file::open(path, &known)? {
            verdict.add_file(&options, table, path, &known, &opened)?;
        }
    }
    Ok(verdict.judged())
}

impl Verdict {
    /// A verdict on `table` at its version, to which sources are to be added.
    pub fn of(table: &Table) -> Verdict {
        Verdict { version: table.version(), ..Verdict::default() }
    }

    /// Counts what a source holds of a partition again, and compares.
    ///
    /// # Errors
    /// The source or the table cannot be read.
    pub fn add(
        &mut self,
        options: &Options,
        table: &Table,
        recorded: Recorded<'_>,
    ) -> Result<(), PipelineError> {
        let Some(next) = table.offset(recorded.partition)? else {
            self.unknown.push(recorded.label.to_owned());
            return Ok(());
        };
        let mut scope = Scope::of(options, table, &recorded, next)?;
        let (partition, first) = (recorded.partition, recorded.first);
        if let Some(gone) = &scope.gone {
            let Range { start, end } = gone;
            self.gone.push(format!(
                "{partition}: offsets {start}..{first} are gone from the source, so {start}..{end} \
                 cannot be verified"
            ));
        }
        let source = recount(&corrected(options, table)?, recorded, &mut scope)?;
        self.ranges_compared += scope.compared();
        for difference in scope.differences(partition) {
            self.ranges_different += 1;
            if self.ranges.len() < DIFFERENCES_MAX {
                self.ranges.push(difference);
            }
        }
        self.compare(table, partition, source, scope.gone.is_none())
    }

    /// Adds that a partition cannot be compared at all, and why.
    pub fn add_gone(&mut self, partition: &str, why: &str) {
        self.gone.push(format!("{partition}: {why}"));
    }

    /// The verdict once all sources were added.
    pub fn judged(mut self) -> Verdict {
        self.equal = self.different == 0
            && self.ranges_different == 0
            && self.unknown.is_empty()
            && self.gone.is_empty();
        self
    }

    fn add_log(
        &mut self,
        options: &Options,
        table: &Table,
        folder: &Path,
    ) -> Result<(), PipelineError> {
        let fail = |error: WalError| SourceError::Read {
            path: folder.to_owned(),
            source: io::Error::other(error),
        };
        let mut log = wal::Recorded::open(folder).map_err(fail)?;
        let (label, partition, first) = (folder.display().to_string(), log.partition(), log.first);
        let format = log.about.format.parse().map_err(|error: decode::FormatName| {
            let source = io::Error::other(error);
            SourceError::Read { path: folder.to_owned(), source }
        })?;
        let decode = decode::Options { format, ..options.decode.clone() };
        let decode = settled_decode(&label, decode, b"")?;
        let chunks = || log.next_chunk().map_err(io::Error::other).transpose();
        let (partition, label, unit) = (&*partition, &*label, Unit::Records);
        let chunks = &mut std::iter::from_fn(chunks);
        self.add(options, table, Recorded { partition, label, unit, decode, first, chunks })
    }

    fn add_file(
        &mut self,
        options: &Options,
        table: &Table,
        path: &Path,
        known: &[Known],
        opened: &Opened,
    ) -> Result<(), PipelineError> {
        let label = path.display().to_string();
        let Some(known) = known.iter().find(|one| one.partition == opened.partition) else {
            self.unknown.push(label);
            return Ok(());
        };
        let decode = settled_decode(&label, options.decode.clone(), &opened.head)?;
        let mut chunks = file::chunks_until(path, known.next)?;
        let mut chunks = std::iter::from_fn(|| chunks.next_chunk().transpose());
        let (partition, label, unit) = (&*opened.partition, &*label, Unit::Bytes);
        let chunks = &mut chunks;
        self.add(options, table, Recorded { partition, label, unit, decode, first: 0, chunks })
    }
}

/// The options with what the table's corrections exclude, as its rows are read.
fn corrected(options: &Options, table: &Table) -> Result<Options, TableError> {
    let mut options = options.clone();
    options.slis.corrections = table.corrections()?;
    Ok(options)
}

/// From which offset on records of a partition take part in a recount: where the table has begun
/// to count it, and as many before that as the dedupe window has.
///
/// # Errors
/// The table cannot be read.
pub fn recounts_from(
    options: &Options,
    table: &Table,
    partition: &str,
) -> Result<u64, PipelineError> {
    let mut begun = table.offset(partition)?.unwrap_or(0);
    let filter = Filter { partition: Some(partition.to_owned()), ..Filter::default() };
    table.for_each_source(&filter, |row| begun = begun.min(row.first))?;
    Ok(begun.saturating_sub(window_records(options)))
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
    let mut window = window_of(options, Unit::Bytes);
    let mut state = State::new(usize::MAX, options.slis.further.len(), false, SEED);
    columnar::for_each_block(options, path, known.next, |mut block| {
        settle(&mut block, window.as_mut());
        state.apply(vec![block]);
        drain(&mut state, &mut sums);
    })?;
    Ok(Some((name, sums)))
}

fn window_of(options: &Options, unit: Unit) -> Option<DedupeWindow> {
    let window = match unit {
        Unit::Bytes => options.dedupe_window_bytes,
        Unit::Records => window_records(options),
    };
    (window > 0).then(|| DedupeWindow::new(window, options.dedupe_ids_max))
}

fn window_records(options: &Options) -> u64 {
    options.dedupe_window_records
}

/// The counts of what is compared of a partition; those of its ranges are added to `scope`.
fn recount(
    options: &Options,
    recorded: Recorded<'_>,
    scope: &mut Scope,
) -> Result<HashMap<Key, Measures>, PipelineError> {
    let is_counted = |place: Option<usize>| place.is_some() || recorded.unit == Unit::Bytes;
    let mut sums = HashMap::new();
    let decoding = Decoding { options, decode: &recorded.decode, number: 0, seed: SEED };
    let mut window = window_of(options, recorded.unit);
    let mut state = State::new(usize::MAX, options.slis.further.len(), false, SEED);
    let fail = |source| SourceError::Read { path: PathBuf::from(recorded.label), source };
    loop {
        let batch = next_chunks(recorded.chunks, scope.next).map_err(fail)?;
        if batch.is_empty() {
            break;
        }
        let pieces = batch.into_iter().flat_map(|chunk| scope.cut(chunk));
        let (places, chunks): (Vec<Option<usize>>, Vec<Chunk>) = pieces.unzip();
        let blocks = decoding.blocks(Rooms::default(), &chunks);
        let mut counted = Vec::with_capacity(blocks.len());
        for (place, mut block) in places.into_iter().zip(blocks) {
            let counts: LineCounts = settle(&mut block, window.as_mut());
            if let Some(place) = place {
                scope.count(place, &counts);
            }
            if is_counted(place) {
                counted.push(block);
            }
        }
        state.apply(counted);
        drain(&mut state, &mut sums);
    }
    Ok(sums)
}

/// The next chunks that begin before the committed offset, some for each core.
fn next_chunks(
    chunks: &mut dyn Iterator<Item = io::Result<Chunk>>,
    next: u64,
) -> io::Result<Vec<Chunk>> {
    let most = rayon::current_num_threads() * 4;
    let mut batch = Vec::new();
    while batch.len() < most
        && let Some(chunk) = chunks.next().transpose()?
        && chunk.first < next
    {
        batch.push(chunk);
    }
    Ok(batch)
}

fn drain(state: &mut State, sums: &mut HashMap<Key, Measures>) {
    for shard in &state.shards {
        for record in shard.records.counted().map(|record| record.with(state.kinds())) {
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

impl Verdict {
    fn compare(
        &mut self,
        table: &Table,
        partition: &str,
        mut source: HashMap<Key, Measures>,
        is_whole: bool,
    ) -> Result<(), PipelineError> {
        let mut held: HashMap<Key, Measures> = HashMap::new();
        let filter = Filter { partition: Some(partition.to_owned()), ..Filter::default() };
        table.for_each_series(&filter, |row| {
            let key = (row.customer.to_owned(), row.service.to_owned(), row.minute);
            held.entry(key).or_default().add(&row.measures);
        })?;
        // What is gone from the source may stand behind any row.
        let unsourced = held.keys().filter(|key| is_whole && !source.contains_key(*key));
        let mut keys: Vec<Key> = source.keys().chain(unsourced).cloned().collect();
        keys.sort_unstable();
        self.compared += keys.len() as u64;
        for key in keys {
            let source = source.remove(&key).unwrap_or_default();
            let table = held.remove(&key).unwrap_or_default();
            let is_held = numbers(&source).iter().zip(numbers(&table)).all(|(a, b)| *a <= b);
            if if is_whole { source != table } else { !is_held } {
                self.differ(partition, key, &source, &table);
            }
        }
        Ok(())
    }

    fn differ(&mut self, partition: &str, key: Key, source: &Measures, table: &Measures) {
        self.different += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            let (customer, service, minute) = key;
            let (partition, minute) = (partition.to_owned(), minute.to_string());
            let (source, table) = (numbers(source), numbers(table));
            let difference = Difference { partition, customer, service, minute, source, table };
            self.differences.push(difference);
        }
    }
}

fn numbers(measures: &Measures) -> [u64; 7] {
    let Measures { valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us } = *measures;
    [valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us]
}
