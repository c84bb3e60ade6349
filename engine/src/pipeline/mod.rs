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
pub mod careful;
mod columnar;
pub mod decision;
pub mod dedupe;
pub mod fold;
pub mod follow;
pub mod gap;
pub mod incidents;
pub mod ledger;
pub mod memory;
mod overlap;
pub mod pools;
pub mod relay;
pub mod replay;
pub mod sent;
pub mod silent;
pub mod snapshot;
pub mod summary;
pub mod tick;
pub mod verdicts;
pub mod verify;
pub mod watch;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::decode::{self, Decoder, Line, Usual};
use crate::failpoint;
use crate::model::Bare;
use crate::notify::outbox::Sent;
use crate::slo::pool::Pools;
use crate::slo::sli::Slis;
use crate::source::chunk::{Chunk, ChunkKind, LINE_BYTES_MAX, RecordMark, Tail};
use crate::source::file::Known;
use crate::state::block::{Block, BlockBuilder, DeadLetter, Rooms};
use crate::state::dimension_rows::Total;
use crate::state::shard::NOBODY;
use crate::state::{Cut, State};
use crate::table::schema::Grain;
use crate::table::{Ahead, CommitError, DataFile, Epoch, Filter, Move, Table, TableError};
use crate::time::{DAY_MINUTES, Day, MINUTE_MS, Minute};
use batches::Names;
use careful::Poison;
use dedupe::DedupeWindow;
use follow::Following;
use ledger::Ledger;
use watch::Watch;

/// How much later than its record an event may claim to have been: clocks differ.
const AHEAD_MS_MAX: i64 = 5 * MINUTE_MS;

/// How much earlier than its record an event may have been: thirteen of the longest months.
/// What is older than that is past retention.
const AGE_MS_MAX: i64 = 13 * 31 * DAY_MINUTES as i64 * MINUTE_MS;

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
    /// The same for partitions whose offsets are numbers of records.
    pub dedupe_window_records: u64,
    /// How many ids a dedupe window holds at most; the oldest are forgotten where there are more.
    pub dedupe_ids_max: usize,
    /// Who is judged together.
    pub pools: Arc<Pools>,
    /// How many events an epoch holds at most: 16 bytes each in memory, and as much again
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
    /// Counts or latencies are too large to be added up.
    #[error(
        "events of customers add up to more than 63 bits hold; nothing since the last commit is \
         kept: mend or remove the source of counts or latencies that are too large"
    )]
    Overload,
    /// There are more sources than a process counts at once.
    #[error("more than {} sources at once: give them in several runs", u16::MAX)]
    Partitions,
}

/// Lines by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// All but blank lines and headers.
    pub read: u64,
    /// Lines that are events, excluded ones among them.
    pub counted: u64,
    /// Events that those lines stand for: each is as many as its `count`.
    pub events: u64,
    /// Refused.
    pub dead: u64,
    /// Dropped by the dedupe window.
    pub duplicate: u64,
    /// Offsets that stand for nothing, where offsets are numbers of records.
    pub holes: u64,
    /// Counted, but without their latency.
    pub invalid_latency: u64,
}

impl LineCounts {
    /// Takes back what was added: it was dropped before it was committed.
    fn subtract(&mut self, other: &LineCounts) {
        self.read -= other.read;
        self.counted -= other.counted;
        self.events -= other.events;
        self.dead -= other.dead;
        self.duplicate -= other.duplicate;
        self.holes -= other.holes;
        self.invalid_latency -= other.invalid_latency;
    }

    /// Adds `other` to these.
    pub fn add(&mut self, other: &LineCounts) {
        self.read += other.read;
        self.counted += other.counted;
        self.events += other.events;
        self.dead += other.dead;
        self.duplicate += other.duplicate;
        self.holes += other.holes;
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

/// What the offsets of a partition are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of plain text, or rows of a Parquet file.
    Bytes,
    /// Numbers of records; one that is missing is a hole.
    Records,
}

/// A partition that begins, or goes on.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Its name in the table.
    pub name: &'a str,
    /// What people call it.
    pub label: &'a str,
    /// How its lines are read; the format is a certain one.
    pub decode: decode::Options,
    /// What its offsets are.
    pub unit: Unit,
    /// Where counting ended.
    pub offset: u64,
    /// What stands before that.
    pub tail: Tail,
}

/// One log that is being counted.
struct Partition {
    name: String,
    /// Whether it is being counted: one that was let go may be another instance's by now.
    owned: bool,
    /// Whether another instance has counted it lately.
    elsewhere: bool,
    unit: Unit,
    /// Its path, for people.
    label: String,
    /// How its lines are read; the format is a certain one.
    decode: decode::Options,
    ledger: Ledger,
    tail: Tail,
    /// Since the last commit.
    lines: LineCounts,
    /// Since it began here.
    since_begin: LineCounts,
    dead: Vec<DeadLetter>,
    dedupe: Option<DedupeWindow>,
}

/// Chunks of partitions, decoded; `None` where they have to be taken record by record.
pub struct Decoded(Option<Vec<Vec<Block>>>);

/// Counts sources into a table.
pub struct Pipeline {
    /// What is held in memory.
    pub state: State,
    table: Table,
    options: Options,
    rules: String,
    partitions: Vec<Partition>,
    watch: Watch,
    incidents: incidents::Book,
    verdicts: verdicts::Docket,
    silence: silent::Silence,
    memory: memory::Memory,
    /// What receivers were told since the last commit.
    sent: Vec<Sent>,
    /// Lines since the start.
    lines: LineCounts,
    /// Events committed since the start.
    events: EventCounts,
    commits: u64,
    /// Unterminated last lines that were left for later.
    unterminated: u64,
    /// Whether a partition was counted before this process began.
    resumed: bool,
    following: Following,
    snapshots: snapshot::Snapshots,
    /// Places that have made the program panic before.
    poison: Vec<Poison>,
    /// The one record that is being counted, where it is taken alone.
    alone: Option<(u16, u64, u64)>,
    /// Those of the last block.
    rooms: Rooms,
}

impl Pipeline {
    /// A pipeline into `table`. `live` keeps series in memory for answers.
    pub fn new(options: Options, table: Table, live: bool, seed: u64) -> Pipeline {
        let further = options.slis.further.len();
        let state = State::new(options.dimension_values_max, further, live, seed)
            .pooled(Arc::clone(&options.pools));
        let rules = options.slis.rules_version();
        let following = Following::new(table.version());
        Pipeline {
            state,
            table,
            options,
            rules,
            partitions: Vec::new(),
            watch: Watch::default(),
            incidents: incidents::Book::default(),
            verdicts: verdicts::Docket::default(),
            silence: silent::Silence::default(),
            memory: memory::Memory::default(),
            sent: Vec::new(),
            lines: LineCounts::default(),
            events: EventCounts::default(),
            commits: 0,
            unterminated: 0,
            resumed: false,
            following,
            snapshots: snapshot::Snapshots::default(),
            poison: Vec::new(),
            alone: None,
            rooms: Rooms::default(),
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

    /// Goes on with other options. Where the SLIs differ, a new version of the rules begins
    /// here; then, and where the pools differ, [`Pipeline::rebuild`] has to follow before anything
    /// is counted: series have a place for each SLI, and customers one in a pool. Windows, and how lines are read, hold for partitions that begin later.
    ///
    /// # Panics
    /// If something is not committed: it was counted by the old rules.
    pub fn set_options(&mut self, options: Options) {
        assert!(!self.has_uncommitted(), "options change at a commit boundary");
        self.rules = options.slis.rules_version();
        let corrections = std::mem::take(&mut self.options.slis.corrections);
        self.options = options;
        self.options.slis.corrections = corrections;
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
        let mut known = match self.following.known() {
            Some(known) => known,
            None => known_in(&self.table)?,
        };
        for partition in self.partitions.iter().filter(|one| one.owned) {
            known.retain(|one| one.partition != partition.name);
            let (name, next) = (partition.name.clone(), partition.ledger.next());
            known.push(Known { partition: name, next, tail: partition.tail.hash() });
        }
        Ok(known)
    }

    /// Begins or resumes a partition where its counting ended.
    ///
    /// # Errors
    /// The table cannot be read; too many partitions.
    ///
    /// # Panics
    /// If its offset is not where counting ended: the caller took it from [`Pipeline::known`] or
    /// from the table.
    pub fn partition(&mut self, start: Start<'_>) -> Result<u16, PipelineError> {
        let Start { name, label, decode, unit, offset, tail } = start;
        let known = self.partitions.iter().position(|one| one.name == name);
        if let Some(number) = known
            && self.partitions[number].owned
        {
            assert_eq!(
                self.partitions[number].ledger.next(),
                offset,
                "{name} goes on where it ended"
            );
            return Ok(number as u16);
        }
        let number = known.unwrap_or(self.partitions.len());
        let number = u16::try_from(number).ok().filter(|number| *number < NOBODY);
        let number = number.ok_or(PipelineError::Partitions)?;
        self.options.slis.corrections = self.table.corrections()?;
        let base = self.table.offset(name)?;
        assert_eq!(base.unwrap_or(0), offset, "{name} goes on where the table says");
        if base.is_some() {
            self.resumed = true;
            self.restore_dimensions(number, name)?;
        }
        let window = match unit {
            Unit::Bytes => self.options.dedupe_window_bytes,
            Unit::Records => self.options.dedupe_window_records,
        };
        let partition = Partition {
            name: name.to_owned(),
            owned: true,
            elsewhere: false,
            unit,
            label: label.to_owned(),
            decode,
            ledger: Ledger::new(base),
            tail,
            lines: LineCounts::default(),
            since_begin: LineCounts::default(),
            dead: Vec::new(),
            dedupe: (window > 0).then(|| DedupeWindow::new(window, self.options.dedupe_ids_max)),
        };
        match known {
            Some(slot) => self.partitions[slot] = partition,
            None => self.partitions.push(partition),
        }
        Ok(number)
    }

    /// The number of a partition that is being counted.
    pub fn number_of(&self, name: &str) -> Option<u16> {
        let named = |one: &Partition| one.owned && one.name == name;
        self.partitions.iter().position(named).map(|number| number as u16)
    }

    /// Where the counting of a partition goes on: what [`Start::offset`] has to be.
    ///
    /// # Errors
    /// The log holds a number below zero.
    pub fn place_of(&self, name: &str) -> Result<u64, PipelineError> {
        match self.number_of(name) {
            Some(number) => Ok(self.partitions[usize::from(number)].ledger.next()),
            None => Ok(self.table.offset(name)?.unwrap_or(0)),
        }
    }

    /// Lines of a partition since it began here; `None` where it is not being counted.
    pub fn lines_of(&self, name: &str) -> Option<LineCounts> {
        self.number_of(name).map(|number| self.partitions[usize::from(number)].since_begin)
    }

    /// Lets a partition go, whose counting another instance may take over from the table. What
    /// was decided in its name and not committed is dropped: its next owner decides it. Nothing
    /// happens where it is not being counted.
    ///
    /// # Panics
    /// If something of it is not committed: that has to be committed first, or dropped by
    /// [`Pipeline::rebuild`].
    pub fn release(&mut self, name: &str) {
        if let Some(number) = self.number_of(name) {
            let partition = &mut self.partitions[usize::from(number)];
            assert!(partition.movement().is_none(), "{name} is committed before it is let go");
            partition.owned = false;
            partition.dedupe = None;
            self.watch.forget_decided(number);
        }
    }

    /// Whether something of a partition was counted that no commit has taken.
    pub fn is_uncommitted(&self, name: &str) -> bool {
        self.partitions.iter().any(|one| one.name == name && one.movement().is_some())
    }

    /// Forgets everything that no commit has taken, lets all partitions go, and folds the table
    /// afresh: what an instance does that was fenced, or that lost a partition while it had
    /// counted some of it. Always right, since the sources can be read again from the table's
    /// offsets.
    ///
    /// # Errors
    /// As [`Pipeline::recover`]; then memory may not be [complete](Pipeline::is_complete), and
    /// this has to be called again before anything else.
    pub fn rebuild(&mut self, minutes: RangeInclusive<Minute>) -> Result<(), PipelineError> {
        self.table.refresh()?;
        self.distrust();
        for partition in std::mem::take(&mut self.partitions) {
            self.lines.subtract(&partition.lines);
        }
        let options = &self.options;
        let further = options.slis.further.len();
        let live = self.state.is_live();
        self.state = State::new(options.dimension_values_max, further, live, self.state.seed())
            .pooled(Arc::clone(&options.pools));
        self.watch = Watch::default();
        self.incidents = incidents::Book::default();
        self.verdicts = verdicts::Docket::default();
        self.silence = silent::Silence::default();
        self.recover(minutes)
    }

    /// Counts chunks of one partition, in their order.
    ///
    /// # Panics
    /// If they do not begin where the partition's counting ended.
    pub fn ingest(&mut self, number: u16, chunks: &[Chunk]) {
        self.ingest_all(&[(number, chunks)]);
    }

    /// Counts chunks of several partitions, those of each in their order, decoded all at once.
    ///
    /// # Panics
    /// If those of a partition do not begin where its counting ended.
    pub fn ingest_all<C: AsRef<[Chunk]> + Sync>(&mut self, work: &[(u16, C)]) {
        let decoded = self.decode_all(work);
        self.count_all(work, decoded);
    }

    /// The first step of [`Pipeline::ingest_all`], which changes nothing: decoding. What has to be
    /// taken record by record is decoded in the second one.
    fn decode_all<C: AsRef<[Chunk]> + Sync>(&self, work: &[(u16, C)]) -> Decoded {
        let is_poisoned = |(number, chunks): &(u16, C)| self.is_poisoned(*number, chunks.as_ref());
        if work.iter().any(is_poisoned) {
            return Decoded(None);
        }
        let decode = |(number, chunks): &(u16, C)| self.decode(*number, chunks.as_ref());
        Decoded(Some(work.par_iter().map(decode).collect()))
    }

    /// The second step of [`Pipeline::ingest_all`]: counting what was decoded of the same chunks.
    fn count_all<C: AsRef<[Chunk]>>(&mut self, work: &[(u16, C)], decoded: Decoded) {
        let Some(blocks) = decoded.0 else {
            for (number, chunks) in work {
                chunks.as_ref().iter().for_each(|chunk| self.ingest_carefully(*number, chunk));
            }
            return;
        };
        let taken = work.iter().zip(blocks).flat_map(|((number, chunks), blocks)| {
            self.take_chunks(*number, blocks, chunks.as_ref())
        });
        let taken: Vec<Block> = taken.collect();
        self.state.apply(taken);
    }

    /// Notes what chunks of a partition became; gives the blocks, to be applied.
    fn take_chunks(&mut self, number: u16, blocks: Vec<Block>, chunks: &[Chunk]) -> Vec<Block> {
        let pairs = blocks.iter().zip(chunks);
        let tails: Vec<Option<&Tail>> =
            pairs.map(|(block, chunk)| (block.next == chunk.next).then_some(&chunk.tail)).collect();
        self.take_lines(number, blocks, &tails)
    }

    /// As [`Pipeline::take`], of lines: a block that has not moved to the end of its chunk has left
    /// an unterminated line for later.
    fn take_lines(
        &mut self,
        number: u16,
        blocks: Vec<Block>,
        tails: &[Option<&Tail>],
    ) -> Vec<Block> {
        self.unterminated += tails.iter().filter(|tail| tail.is_none()).count() as u64;
        self.take(number, blocks, tails)
    }

    /// Notes decoded blocks of a partition, each with what stands before its end, where it has
    /// moved there; gives them, to be applied.
    fn take(&mut self, number: u16, mut blocks: Vec<Block>, tails: &[Option<&Tail>]) -> Vec<Block> {
        let partition = &mut self.partitions[usize::from(number)];
        let mut lines = LineCounts::default();
        for (block, tail) in blocks.iter_mut().zip(tails) {
            lines.add(&settle(block, partition.dedupe.as_mut()));
            if partition.unit == Unit::Records {
                let offsets = block.next - block.first;
                let holes = offsets.checked_sub(block.read);
                lines.holes += holes.expect("every record has an offset of its own");
            }
            partition.ledger.advance(block.first..block.next);
            if let Some(tail) = tail {
                partition.tail.clone_from(tail);
            }
            partition.dead.append(&mut block.dead);
        }
        partition.lines.add(&lines);
        partition.since_begin.add(&lines);
        self.lines.add(&lines);
        self.rooms = blocks.last().map_or(self.rooms, Rooms::of);
        blocks
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

    /// Whether the epoch is as large as it may be, or memory has to be freed.
    pub fn epoch_is_full(&self) -> bool {
        self.state.pending() >= self.options.epoch_events_max || self.memory.is_full(&self.state)
    }

    /// Commits everything since the last commit: rows, dead letters, transitions and offsets at
    /// once. `None` where nothing has moved.
    ///
    /// # Errors
    /// The epoch did not land: nothing of it is in the table, nothing was dropped from memory.
    pub fn commit(&mut self) -> Result<Option<u64>, PipelineError> {
        let Some((epoch, cut)) = self.epoch()? else { return Ok(None) };
        self.land_epoch(&epoch, &cut, None).map(Some)
    }

    /// The first step of [`Pipeline::commit`], which takes most of its time and changes nothing:
    /// the files are written. `None` where nothing has moved.
    ///
    /// # Errors
    /// As [`Pipeline::commit`].
    pub fn write_ahead(&self) -> Result<Option<Ready>, PipelineError> {
        let Some((epoch, cut)) = self.epoch()? else { return Ok(None) };
        let names = names(&self.partitions, &self.options, &self.rules);
        let counted = batches::data_files(&self.state, &cut, &names);
        let ahead = self.table.write_ahead(&epoch, &counted)?;
        drop(counted);
        Ok(Some(Ready { epoch, cut, ahead }))
    }

    /// The second step: what was made ready lands, at once or not at all.
    ///
    /// # Errors
    /// As [`Pipeline::commit`].
    ///
    /// # Panics
    /// If anything was counted since.
    pub fn land(&mut self, ready: Ready) -> Result<u64, PipelineError> {
        let Ready { epoch, cut, ahead } = ready;
        assert_eq!(epoch.moves, self.moves(), "what is ready is all that there is");
        self.land_epoch(&epoch, &cut, Some(ahead))
    }

    fn land_epoch(
        &mut self,
        epoch: &Epoch,
        cut: &Cut,
        ahead: Option<Ahead>,
    ) -> Result<u64, PipelineError> {
        let names = names(&self.partitions, &self.options, &self.rules);
        let counted = || batches::data_files(&self.state, cut, &names);
        let version = self.table.land(epoch, &counted, ahead)?;
        self.landed(version, epoch, cut);
        Ok(version)
    }

    /// All since the last commit but the counts, and what these are made of.
    fn epoch(&self) -> Result<Option<(Epoch, Cut)>, PipelineError> {
        if !self.has_uncommitted() {
            return Ok(None);
        }
        if self.state.is_overloaded() {
            return Err(PipelineError::Overload);
        }
        let cut = self.state.cut();
        let mut files = self.dead_files();
        files.extend(self.source_file());
        files.extend(self.alert_files());
        files.extend(self.incident_files());
        files.extend(self.verdict_files());
        files.extend(self.sent_files());
        Ok(Some((Epoch { files, moves: self.moves(), info: self.info() }, cut)))
    }

    /// Why the log could not be shortened after a commit, if it could not; asking forgets it.
    pub fn take_upkeep_error(&mut self) -> Option<TableError> {
        self.table.take_upkeep_error()
    }

    fn landed(&mut self, version: u64, epoch: &Epoch, cut: &Cut) {
        self.moved(version, &epoch.moves);
        if let Some(Total { counts, minutes }) = cut.dimensions.total() {
            self.events.add(counts, minutes);
        }
        self.state.drop_records();
        for partition in &mut self.partitions {
            partition.ledger.landed(partition.ledger.next());
            partition.lines = LineCounts::default();
            partition.dead.clear();
        }
        self.watch.drop_pending();
        self.incidents.drop_pending();
        self.verdicts.drop_pending();
        self.bound_memory();
        self.sent.clear();
        self.commits += 1;
    }

    fn decode(&self, number: u16, chunks: &[Chunk]) -> Vec<Block> {
        let decode = &self.partitions[usize::from(number)].decode;
        let decoding = Decoding { options: &self.options, decode, number, seed: self.state.seed() };
        decoding.blocks(self.rooms, chunks)
    }

    /// Dead letters by the day on which their log took them. Files do not say when: 1970-01-01.
    fn dead_files(&self) -> Vec<DataFile> {
        let mut days: BTreeMap<Day, Vec<(&Partition, &DeadLetter)>> = BTreeMap::new();
        for partition in &self.partitions {
            for letter in &partition.dead {
                let day = letter.time_ms.map_or(Day(0), |ms| Minute::of_ms(ms).day());
                days.entry(day).or_default().push((partition, letter));
            }
        }
        let file = |(day, letters): (Day, Vec<(&Partition, &DeadLetter)>)| {
            let letters = || letters.iter();
            let mut lines = BinaryBuilder::new();
            letters().for_each(|(_, letter)| lines.append_value(&letter.line));
            let columns: Vec<ArrayRef> = vec![
                batches::texts(letters().map(|(partition, _)| partition.name.as_str())),
                batches::ints(letters().map(|(_, letter)| letter.offset)),
                batches::texts(letters().map(|(_, letter)| letter.reason.as_str())),
                Arc::new(lines.finish()),
            ];
            file_of(Grain::Dead, day, columns)
        };
        days.into_iter().map(file).collect()
    }

    /// What the history of the table says of an epoch: the ranges that it counts, what became of
    /// their lines, and the hash of what stands before their ends.
    fn info(&self) -> String {
        let range = |partition: &Partition| {
            let moved = partition.movement()?;
            let LineCounts { read, counted, dead, duplicate, holes, .. } = partition.lines;
            let tail = partition.tail.hash().map(|byte| format!("{byte:02x}")).concat();
            Some(json!({
                "partition": moved.partition, "first": moved.base.unwrap_or(0),
                "next": moved.next, "read": read, "counted": counted, "dead": dead,
                "duplicate": duplicate, "holes": holes, "tail": tail,
            }))
        };
        let ranges: Vec<Value> = self.partitions.iter().filter_map(range).collect();
        json!({ "ranges": ranges }).to_string()
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
            line(|lines| lines.events),
            line(|lines| lines.dead),
            line(|lines| lines.duplicate),
            line(|lines| lines.holes),
            line(|lines| lines.invalid_latency),
            Arc::new(tails.finish()),
        ];
        Some(file_of(Grain::Source, Day(0), columns))
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

/// An epoch whose files are written, and which no entry of the log names yet.
pub struct Ready {
    epoch: Epoch,
    cut: Cut,
    ahead: Ahead,
}

impl Partition {
    fn movement(&self) -> Option<Move> {
        self.ledger.movement(&self.name)
    }
}

/// What the numbers in records stand for.
fn names<'a>(partitions: &'a [Partition], options: &'a Options, rules: &'a str) -> Names<'a> {
    Names {
        partitions: partitions.iter().map(|partition| partition.name.as_str()).collect(),
        slis: options.slis.further.iter().map(|sli| sli.name.as_str()).collect(),
        rules,
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
    let records = block.parts.iter().map(|part| part.records.len() as u64).sum::<u64>();
    let (counted, dead) = (records - duplicate, block.dead.len() as u64);
    let Block { read, events, invalid_latency, .. } = *block;
    assert_eq!(read, records + dead, "every line is counted, a duplicate or dead");
    LineCounts { read, counted, events, dead, duplicate, holes: 0, invalid_latency }
}

/// How chunks of one partition become blocks.
struct Decoding<'a> {
    options: &'a Options,
    decode: &'a decode::Options,
    number: u16,
    seed: u64,
}

impl Decoding<'_> {
    /// What a thread needs for it: for blocks of about `rooms`.
    fn tools(&self, rooms: Rooms) -> (BlockBuilder, Decoder) {
        let Options { dedupe_window_bytes, dedupe_window_records, .. } = *self.options;
        let keep_ids = dedupe_window_bytes > 0 || dedupe_window_records > 0;
        let builder = BlockBuilder::new(self.seed, keep_ids).expecting(rooms);
        (builder, Decoder::new(self.decode, self.decode.format))
    }

    /// The blocks of chunks, made on all cores.
    fn blocks(&self, rooms: Rooms, chunks: &[Chunk]) -> Vec<Block> {
        let tools = || self.tools(rooms);
        chunks.par_iter().map_init(tools, |tools, chunk| self.block(tools, chunk)).collect()
    }

    fn block(&self, (builder, decoder): &mut (BlockBuilder, Decoder), chunk: &Chunk) -> Block {
        builder.begin(self.number, chunk.first);
        decode_chunk(builder, decoder, &self.options.slis, chunk)
    }
}

/// Decodes one chunk; an unterminated line that does not decode is left for later.
fn decode_chunk(
    builder: &mut BlockBuilder,
    decoder: &mut Decoder,
    slis: &Slis,
    chunk: &Chunk,
) -> Block {
    failpoint::planted_panic("decode", &chunk.bytes);
    let text = simdutf8::basic::from_utf8(&chunk.bytes).ok();
    match &chunk.kind {
        ChunkKind::Lines | ChunkKind::Unterminated => {}
        ChunkKind::Overlong => {
            builder.push_dead(chunk.first, overlong("line"), &chunk.bytes, None);
            return builder.finish(chunk.next);
        }
        ChunkKind::Records(marks) => {
            let mut start = 0;
            for mark in marks {
                let place = start..mark.end as usize;
                start = place.end;
                let payload = &chunk.bytes[place.clone()];
                // Both of its ends may be in the middle of a character.
                let text =
                    text.and_then(|text| text.get(place.clone()).and(text.get(place.start..)));
                if let Err(reason) = push_record(builder, decoder, slis, mark, payload, text) {
                    builder.push_dead(mark.offset, reason, payload, mark.time_ms);
                }
            }
            return builder.finish(chunk.next);
        }
    }
    let mut start = 0;
    while start < chunk.bytes.len() {
        let offset = chunk.first + start as u64;
        if let Some(text) = text.and_then(|text| text.get(start..)) {
            let mut event = Bare::default();
            if let Some(Usual { length, alike }) = decoder.usual(text, None, &mut event) {
                builder.push_alike(&event, alike, || decoder.shared(text), slis, offset);
                start += length + 1;
                continue;
            }
        }
        let rest = &chunk.bytes[start..];
        let length = memchr::memchr(b'\n', rest);
        let line = &rest[..length.unwrap_or(rest.len())];
        let read = match text.and_then(|text| text.get(start..start + line.len())) {
            Some(line) => decoder.unusual(line),
            None => decoder.decode(line),
        };
        match read {
            Line::Event(event) => builder.push(&event, slis, offset),
            Line::Skip => {}
            Line::Dead(_) if length.is_none() => return builder.finish(chunk.first),
            Line::Dead(reason) => builder.push_dead(offset, reason, line, None),
        }
        start += line.len() + 1;
    }
    builder.finish(chunk.next)
}

/// Counts one record: every record is an event or a dead letter, whose reason is the error.
/// `text` begins with the payload, where that is valid UTF-8 and so is all behind it. Its age is
/// judged by the time at which its log took it, never by our clock.
fn push_record(
    builder: &mut BlockBuilder,
    decoder: &mut Decoder,
    slis: &Slis,
    mark: &RecordMark,
    payload: &[u8],
    text: Option<&str>,
) -> Result<(), String> {
    if mark.length_bytes > payload.len() as u64 {
        return Err(overlong("record"));
    }
    let read = match text {
        Some(text) => {
            let mut event = Bare::default();
            let usual = decoder.usual(text, Some(payload.len()), &mut event);
            if let Some(Usual { alike, .. }) = usual {
                in_time(event.ts_ms, mark)?;
                builder.push_alike(&event, alike, || decoder.shared(text), slis, mark.offset);
                return Ok(());
            }
            decoder.unusual(&text[..payload.len()])
        }
        None => decoder.decode(payload),
    };
    match read {
        Line::Event(event) => {
            in_time(event.ts_ms, mark)?;
            builder.push(&event, slis, mark.offset);
            Ok(())
        }
        Line::Skip => Err("record is empty or a format header".to_owned()),
        Line::Dead(reason) => Err(reason),
    }
}

/// Whether the time of an event fits that of its record.
fn in_time(ts_ms: i64, mark: &RecordMark) -> Result<(), String> {
    let Some(time_ms) = mark.time_ms else { return Ok(()) };
    if ts_ms > time_ms.saturating_add(AHEAD_MS_MAX) {
        return Err("ts is more than 5 minutes after the time of its record".to_owned());
    }
    if ts_ms < time_ms.saturating_sub(AGE_MS_MAX) {
        return Err("ts is more than 13 months before the time of its record".to_owned());
    }
    Ok(())
}

fn overlong(what: &str) -> String {
    format!("{what} is longer than {LINE_BYTES_MAX} bytes")
}

fn file_of(grain: Grain, day: Day, columns: Vec<ArrayRef>) -> DataFile {
    DataFile { grain, day, batches: vec![batches::batch(grain, columns)] }
}
