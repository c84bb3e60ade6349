//! The one loop: chunks of a source in, counted epochs in the table out.
//!
//! ```text
//! chunk ─▶ decode and classify (all cores) ─▶ dedupe, dictionaries (in order)
//!       ─▶ shards take their records (all cores) ─▶ … ─▶ cut ─▶ data files, offsets: one commit
//! ```
//!
//! Invariants, asserted as it runs: of every partition `read = counted + duplicate + dead`; the
//! offsets of an epoch begin where the last committed one ended; nothing is dropped from memory
//! before its commit was read back from the table.

pub mod batches;
mod columnar;
pub mod dedupe;
pub mod fold;
pub mod replay;
pub mod summary;
pub mod verify;
pub mod watch;

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder};
use rayon::prelude::*;

use crate::decode::{self, Decoder, Line};
use crate::slo::sli::Slis;
use crate::source::chunk::{Chunk, ChunkKind, LINE_BYTES_MAX, Tail};
use crate::source::file::Known;
use crate::state::block::{Block, BlockBuilder, DeadLetter};
use crate::state::{Cut, State};
use crate::table::schema::Grain;
use crate::table::{CommitError, DataFile, Epoch, Filter, Move, Table, TableError};
use crate::time::{Day, Minute};
use batches::Names;
use dedupe::DedupeWindow;
use watch::Watch;

/// What a pipeline is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The SLIs that sort events.
    pub slis: Slis,
    /// How lines are read.
    pub decode: decode::Options,
    /// Values of one dimension for each service, UTC day and partition.
    pub dimension_values_max: usize,
    /// Over how many bytes of a partition an id is known; 0 = no dedupe.
    pub dedupe_window_bytes: u64,
    /// How many events an epoch holds at most: 32 bytes each in memory, and as much again
    /// while they are sorted for the commit.
    pub epoch_events_max: usize,
}

/// Why the pipeline cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The epoch did not land.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] crate::source::file::SourceError),
    /// The format of a source is none that is known.
    #[error("{path}: {source}")]
    Format {
        /// Which source.
        path: String,
        /// What was looked for.
        source: decode::UnknownFormat,
    },
    /// A Parquet file cannot be read as events.
    #[error("{path}: {source}")]
    Parquet {
        /// Which source.
        path: String,
        /// What is wrong with it.
        source: decode::parquet::ParquetFault,
    },
    /// There are more sources than a process counts at once.
    #[error("more than {} sources at once: give them in several runs", u16::MAX)]
    Partitions,
}

/// Lines by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// All but blank lines and headers.
    pub read: u64,
    /// Events, excluded ones among them.
    pub counted: u64,
    /// Refused.
    pub dead: u64,
    /// Dropped by the dedupe window.
    pub duplicate: u64,
    /// Counted, but without their latency.
    pub invalid_latency: u64,
}

impl LineCounts {
    /// Adds `other` to these.
    pub fn add(&mut self, other: &LineCounts) {
        self.read += other.read;
        self.counted += other.counted;
        self.dead += other.dead;
        self.duplicate += other.duplicate;
        self.invalid_latency += other.invalid_latency;
    }
}

/// Events by the default availability SLI, and the minutes they lie in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Good and bad ones.
    pub valid: u64,
    /// Bad ones.
    pub bad: u64,
    /// Those in no ratio.
    pub excluded: u64,
    /// First and last minute.
    pub minutes: Option<(Minute, Minute)>,
}

/// One log that is being counted.
struct Partition {
    name: String,
    /// Its path, for people.
    label: String,
    /// How its lines are read; the format is a certain one.
    decode: decode::Options,
    /// The committed offset; `None` before the first commit.
    base: Option<u64>,
    next: u64,
    tail: Tail,
    /// Since the last commit.
    lines: LineCounts,
    dead: Vec<DeadLetter>,
    dedupe: Option<DedupeWindow>,
}

/// Counts sources into a table.
pub struct Pipeline {
    /// What is held in memory.
    pub state: State,
    table: Table,
    options: Options,
    rules: String,
    partitions: Vec<Partition>,
    watch: Watch,
    /// Lines since the start.
    lines: LineCounts,
    /// Events committed since the start.
    events: EventCounts,
    commits: u64,
    /// Unterminated last lines that were left for later.
    unterminated: u64,
    /// Whether a partition was counted before this process began.
    resumed: bool,
}

impl Pipeline {
    /// A pipeline into `table`. `live` keeps series in memory for answers.
    pub fn new(options: Options, table: Table, live: bool, seed: u64) -> Pipeline {
        let further = options.slis.further.len();
        let state = State::new(options.dimension_values_max, further, live, seed);
        let rules = options.slis.rules_version();
        Pipeline {
            state,
            table,
            options,
            rules,
            partitions: Vec::new(),
            watch: Watch::default(),
            lines: LineCounts::default(),
            events: EventCounts::default(),
            commits: 0,
            unterminated: 0,
            resumed: false,
        }
    }

    /// The table it writes to.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What it was told.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Lines since the start.
    pub fn lines(&self) -> LineCounts {
        self.lines
    }

    /// Events committed since the start.
    pub fn events(&self) -> EventCounts {
        self.events
    }

    /// Epochs committed since the start.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// The file partitions that were counted before, by the table and by this process.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn known(&self) -> Result<Vec<Known>, PipelineError> {
        let mut known = known_in(&self.table)?;
        for partition in &self.partitions {
            known.retain(|one| one.partition != partition.name);
            let (name, next) = (partition.name.clone(), partition.next);
            known.push(Known { partition: name, next, tail: partition.tail.hash() });
        }
        Ok(known)
    }

    /// Begins or resumes a partition at `offset`, which is where its counting ended.
    ///
    /// # Errors
    /// The table cannot be read; too many partitions.
    ///
    /// # Panics
    /// If `offset` is not where counting ended: the caller took it from [`Pipeline::known`].
    pub fn partition(
        &mut self,
        name: &str,
        label: &str,
        decode: decode::Options,
        (offset, tail): (u64, Tail),
    ) -> Result<u16, PipelineError> {
        if let Some(number) = self.partitions.iter().position(|one| one.name == name) {
            assert_eq!(self.partitions[number].next, offset, "{name} goes on where it ended");
            return Ok(number as u16);
        }
        let number = u16::try_from(self.partitions.len()).map_err(|_| PipelineError::Partitions)?;
        let base = self.table.offset(name)?;
        assert_eq!(base.unwrap_or(0), offset, "{name} goes on where the table says");
        if base.is_some() {
            self.resumed = true;
            self.restore_dimensions(number, name)?;
        }
        let window = self.options.dedupe_window_bytes;
        self.partitions.push(Partition {
            name: name.to_owned(),
            label: label.to_owned(),
            decode,
            base,
            next: offset,
            tail,
            lines: LineCounts::default(),
            dead: Vec::new(),
            dedupe: (window > 0).then(|| DedupeWindow::new(window)),
        });
        Ok(number)
    }

    /// The number of a partition that has begun.
    pub fn number_of(&self, name: &str) -> Option<u16> {
        self.partitions.iter().position(|one| one.name == name).map(|number| number as u16)
    }

    /// Counts chunks of one partition, in their order.
    ///
    /// # Panics
    /// If they do not begin where the partition's counting ended.
    pub fn ingest(&mut self, number: u16, chunks: &[Chunk]) {
        let blocks = self.decode(number, chunks);
        let mut tails = Vec::with_capacity(chunks.len());
        for (block, chunk) in blocks.iter().zip(chunks) {
            // An unterminated line that was left for later moves nothing.
            let moved = block.next == chunk.next;
            self.unterminated += u64::from(!moved);
            tails.push(if moved { Some(&chunk.tail) } else { None });
        }
        self.take(number, blocks, &tails);
    }

    /// Takes decoded blocks of one partition; each with what stands before its end, where it
    /// has moved there.
    fn take(&mut self, number: u16, mut blocks: Vec<Block>, tails: &[Option<&Tail>]) {
        let partition = &mut self.partitions[usize::from(number)];
        let mut lines = LineCounts::default();
        for (block, tail) in blocks.iter_mut().zip(tails) {
            assert_eq!(block.first, partition.next, "blocks of {} tile it", partition.name);
            lines.add(&settle(block, partition.dedupe.as_mut()));
            partition.next = block.next;
            if let Some(tail) = tail {
                partition.tail.clone_from(tail);
            }
            partition.dead.append(&mut block.dead);
        }
        partition.lines.add(&lines);
        self.lines.add(&lines);
        self.state.apply(blocks);
    }

    /// Feeds the dedupe window with what stands before the offset of a partition that goes on
    /// where an earlier process ended: [`chunks_before`](crate::source::file::chunks_before) of
    /// [`Options::dedupe_window_bytes`], before anything of it is counted.
    pub fn remember(&mut self, number: u16, chunks: &[Chunk]) {
        self.remember_blocks(number, self.decode(number, chunks));
    }

    fn remember_blocks(&mut self, number: u16, mut blocks: Vec<Block>) {
        if let Some(window) = &mut self.partitions[usize::from(number)].dedupe {
            blocks.iter_mut().for_each(|block| {
                window.drop_duplicates(block);
            });
        }
    }

    /// Whether the epoch is as large as it may be.
    pub fn epoch_is_full(&self) -> bool {
        self.state.pending() >= self.options.epoch_events_max
    }

    /// Commits everything since the last commit: rows, dead letters, transitions and offsets at
    /// once. `None` where nothing has moved.
    ///
    /// # Errors
    /// The epoch did not land: nothing of it is in the table, nothing was dropped from memory.
    pub fn commit(&mut self) -> Result<Option<u64>, PipelineError> {
        let moves: Vec<Move> = self.partitions.iter().filter_map(Partition::movement).collect();
        if moves.is_empty() && !self.has_transitions() {
            return Ok(None);
        }
        let cut = self.state.cut();
        let mut files = batches::data_files(&self.state, &cut, &self.names());
        files.extend(self.dead_file());
        files.extend(self.source_file());
        files.extend(self.alert_files());
        let version = self.table.commit(Epoch { files, moves, info: "ninefold".into() })?;
        self.landed(&cut);
        Ok(Some(version))
    }

    fn landed(&mut self, cut: &Cut) {
        for row in cut.shards.iter().flat_map(|shard| &shard.series) {
            let measures = &row.sums.measures;
            self.events.add(measures.valid, measures.bad, measures.excluded, row.minute);
        }
        self.state.drop_records();
        for partition in &mut self.partitions {
            partition.base = partition.movement().map_or(partition.base, |moved| Some(moved.next));
            partition.lines = LineCounts::default();
            partition.dead.clear();
        }
        self.watch.drop_pending();
        self.commits += 1;
    }

    fn names(&self) -> Names<'_> {
        Names {
            partitions: self.partitions.iter().map(|partition| partition.name.as_str()).collect(),
            slis: self.options.slis.further.iter().map(|sli| sli.name.as_str()).collect(),
            rules: &self.rules,
        }
    }

    fn decode(&self, number: u16, chunks: &[Chunk]) -> Vec<Block> {
        let partition = &self.partitions[usize::from(number)];
        decode_chunks(&self.options, &partition.decode, (number, self.state.seed()), chunks)
    }

    /// Dead letters have no trusted time in files: their day is the epoch's.
    fn dead_file(&self) -> Option<DataFile> {
        let dead = || {
            let of = |partition: &'_ Partition| partition.dead.len();
            self.partitions.iter().filter(move |partition| of(partition) > 0)
        };
        let letters = || dead().flat_map(|one| one.dead.iter().map(move |letter| (one, letter)));
        letters().next()?;
        let mut lines = BinaryBuilder::new();
        letters().for_each(|(_, letter)| lines.append_value(&letter.line));
        let columns: Vec<ArrayRef> = vec![
            batches::texts(letters().map(|(partition, _)| partition.name.as_str())),
            batches::ints(letters().map(|(_, letter)| letter.offset)),
            batches::texts(letters().map(|(_, letter)| letter.reason.as_str())),
            Arc::new(lines.finish()),
        ];
        Some(file_of(Grain::Dead, columns))
    }

    fn source_file(&self) -> Option<DataFile> {
        let moved: Vec<(&Partition, Move)> = self
            .partitions
            .iter()
            .filter_map(|partition| Some((partition, partition.movement()?)))
            .collect();
        if moved.is_empty() {
            return None;
        }
        let line = |get: fn(&LineCounts) -> u64| {
            batches::ints(moved.iter().map(move |(partition, _)| get(&partition.lines)))
        };
        let mut tails = BinaryBuilder::new();
        moved.iter().for_each(|(partition, _)| tails.append_value(partition.tail.hash()));
        let columns = vec![
            batches::texts(moved.iter().map(|(partition, _)| partition.name.as_str())),
            batches::texts(moved.iter().map(|(partition, _)| partition.label.as_str())),
            batches::ints(moved.iter().map(|(_, moved)| moved.base.unwrap_or(0))),
            batches::ints(moved.iter().map(|(_, moved)| moved.next)),
            line(|lines| lines.read),
            line(|lines| lines.counted),
            line(|lines| lines.dead),
            line(|lines| lines.duplicate),
            line(|lines| lines.invalid_latency),
            Arc::new(tails.finish()),
        ];
        Some(file_of(Grain::Source, columns))
    }

    /// Values that the table holds of a partition stay admitted after a restart.
    fn restore_dimensions(&mut self, number: u16, name: &str) -> Result<(), TableError> {
        let filter = Filter { partition: Some(name.to_owned()), ..Filter::default() };
        let dimensions = &mut self.state.dimensions;
        self.table.for_each_dimension(&filter, |row| {
            for (n, value) in row.dimensions().into_iter().enumerate() {
                dimensions.restore(number, row.service, row.minute.day(), n, value);
            }
        })?;
        Ok(())
    }
}

impl Partition {
    fn movement(&self) -> Option<Move> {
        let (partition, base, next) = (self.name.clone(), self.base, self.next);
        (next != base.unwrap_or(0)).then_some(Move { partition, base, next })
    }
}

/// The file partitions that a table holds, with how far each was counted.
///
/// # Errors
/// The table cannot be read.
pub fn known_in(table: &Table) -> Result<Vec<Known>, TableError> {
    let mut known: Vec<Known> = Vec::new();
    table.for_each_source(&Filter::default(), |row| {
        let found = known.iter_mut().find(|one| one.partition == row.partition);
        let tail = row.tail.try_into().unwrap_or([0; 32]);
        match found {
            Some(one) if one.next < row.next => (one.next, one.tail) = (row.next, tail),
            Some(_) => {}
            None => {
                known.push(Known { partition: row.partition.to_owned(), next: row.next, tail });
            }
        }
    })?;
    Ok(known)
}

/// Drops a block's duplicates and says what became of its lines.
fn settle(block: &mut Block, window: Option<&mut DedupeWindow>) -> LineCounts {
    let duplicate = window.map_or(0, |window| window.drop_duplicates(block));
    let records = block.parts.iter().flat_map(|part| &part.records);
    let counted = records.filter(|record| record.count > 0).count() as u64;
    let (read, dead) = (block.read, block.dead.len() as u64);
    assert_eq!(read, counted + duplicate + dead, "every line is counted, a duplicate or dead");
    LineCounts { read, counted, dead, duplicate, invalid_latency: block.invalid_latency }
}

/// Decodes chunks of one partition on all cores, as `decode` says.
fn decode_chunks(
    options: &Options,
    decode: &decode::Options,
    (number, seed): (u16, u64),
    chunks: &[Chunk],
) -> Vec<Block> {
    let keep_ids = options.dedupe_window_bytes > 0;
    let tools = || (BlockBuilder::new(seed, keep_ids), Decoder::new(decode, decode.format));
    let work = chunks.par_iter().map_init(tools, |(builder, decoder), chunk| {
        builder.begin(number, chunk.first);
        decode_chunk(builder, decoder, &options.slis, chunk)
    });
    work.collect()
}

/// Decodes one chunk; an unterminated line that does not decode is left for later.
fn decode_chunk(
    builder: &mut BlockBuilder,
    decoder: &mut Decoder,
    slis: &Slis,
    chunk: &Chunk,
) -> Block {
    if chunk.kind == ChunkKind::Overlong {
        let reason = format!("line is longer than {LINE_BYTES_MAX} bytes");
        builder.push_dead(chunk.first, reason, &chunk.bytes);
        return builder.finish(chunk.next);
    }
    let mut start = 0;
    while start < chunk.bytes.len() {
        let rest = &chunk.bytes[start..];
        let length = memchr::memchr(b'\n', rest);
        let line = &rest[..length.unwrap_or(rest.len())];
        let offset = chunk.first + start as u64;
        match decoder.decode(line) {
            Line::Event(event) => builder.push(&event, slis, offset),
            Line::Skip => {}
            Line::Dead(_) if length.is_none() => return builder.finish(chunk.first),
            Line::Dead(reason) => builder.push_dead(offset, reason, line),
        }
        start += line.len() + 1;
    }
    builder.finish(chunk.next)
}

fn file_of(grain: Grain, columns: Vec<ArrayRef>) -> DataFile {
    DataFile { grain, day: Day(0), batches: vec![batches::batch(grain, columns)] }
}
