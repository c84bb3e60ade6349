//! The rollup table: a Delta Lake table, the only durable state.
//!
//! What is counted is committed in *epochs*: the rows, and with them how far each partition of
//! each source was counted, in one log entry. A row is *partial*: rows of one key are summed by
//! whoever reads, so late data is one more row and nothing is ever rewritten. The page for
//! readers of the files is `docs/format/table.md`.
//!
//! [`Table::commit`] writes the data files first, under names that were never used, synced;
//! then [`protocol`] brings the one entry into the log that holds every file and every new
//! offset: on a version where each partition stands where the epoch's counting began (else the
//! epoch is *fenced*), and confirmed by reading. A failure at any step leaves files that no
//! reader sees, or a whole epoch. Nothing is deleted when in doubt. There is no lock, no lease and no leader: a writer that slept for hours loses
//! by that comparison.

mod checkpoint;
mod clock;
mod coarse;
pub mod correction;
mod encode;
mod entries;
mod error;
mod footers;
mod live;
mod log;
pub mod protocol;
pub mod read;
mod reserve;
mod scan;
/// The columns of the rollup table.
pub mod schema;
mod store;
pub mod upkeep;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::builder::{MapBuilder, StringBuilder};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use delta_kernel_default_engine::executor::TaskExecutor;
use object_store::path::Path as StorePath;
use object_store::{DynObjectStore, ObjectStoreExt, PutMode, PutOptions};
use rayon::prelude::*;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

pub use clock::{Clock, SystemClock};
pub(crate) use coarse::{HOUR_MINUTES, floor};
pub use entries::{Added, Entry};
pub use error::{CommitError, Space, TableError, io_error_in};
pub use protocol::Move;
pub(crate) use scan::Unread;
pub use scan::{Customers, Filter, Mark, Scan, ScanStats};
pub use store::SyncedDisk;
pub(crate) use store::modified_ms;

use crate::failpoint;
use crate::time::{Day, Minute};
use encode::Encoded;
use footers::Footers;
pub(crate) use live::LiveFile;
use live::TAG_SHA256;
use log::{Add, Attempt, EntryKind, Log, NewEntry};
pub(crate) use log::{FORMAT, FORMAT_PROPERTY, Folded};
use protocol::{Commit, Fence, Moment, Step, pause_ms};
use reserve::Reserve;
use schema::Grain;

/// The application id whose moves count the decisions of the one instance that decides what
/// spans series: it is fenced as a partition is, and it is none.
pub const JUDGE: &str = "judge";

/// The application id that says up to which day, as a number and exclusive, rows were removed as
/// past retention: for who proves the table after the log has forgotten the removal.
pub(crate) const RETENTION: &str = "retention";

/// Application ids that begin so say up to which version, inclusive, rows of the table were sent
/// elsewhere: they are fenced as partitions are, and are none.
pub const RELAY: &str = "relay/";

/// How often a commit goes on after a failure of the store: a hiccup passes by itself, and
/// the reserve is freed in between.
const FAILURES_MAX: u32 = 2;

/// Files that go and what comes in their place.
#[derive(Clone, Copy)]
struct Replacement<'a> {
    kind: EntryKind,
    adds: &'a [Add],
    moves: &'a [Move],
    removes: &'a HashSet<String>,
    /// Now, in epoch milliseconds: when those files went.
    now_ms: i64,
    info: &'a str,
    /// When the first of `adds` was written.
    written: Moment,
}

/// Files of an epoch that are written and that no entry names yet, and when that began.
pub struct Ahead(Vec<Add>, Moment);

/// What is committed at once.
#[derive(Clone, Debug, Default)]
pub struct Epoch {
    /// The rows.
    pub files: Vec<DataFile>,
    /// How far each partition was counted.
    pub moves: Vec<Move>,
    /// What made this epoch, for the history of the table (`commitInfo`); may be empty.
    pub info: String,
}

/// The rows of one grain and day. An epoch may have several files of one grain and day.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// The grain of every row.
    pub grain: Grain,
    /// The value of the partition column `day`.
    pub day: Day,
    /// The rows in their final order, by customer, service and minute where the grain has
    /// them; each of exactly [`Grain::schema`], but that texts may be numbers with a dictionary. A
    /// file without rows is not written.
    pub batches: Vec<RecordBatch>,
}

/// The rows of one grain and day that are built when they are written, some at a time: an epoch
/// of many rows never has all of them in memory as columns.
pub struct SlicedFile<'a> {
    /// The grain of every row.
    pub grain: Grain,
    /// The value of the partition column `day`.
    pub day: Day,
    /// How many rows.
    pub rows: usize,
    /// A range of them as a batch of [`Grain::schema`], in the order of the grain, the same each
    /// time: a commit that takes too long writes its files once more.
    pub build: Box<dyn Fn(Range<usize>) -> RecordBatch + Send + Sync + 'a>,
}

/// One table at one version, as a writer or as a reader.
///
/// One writer per table and process; further `Table`s of the same directory, here or in other
/// processes, are as good as other instances: they see what was committed when they refresh.
/// Calls block; they may be made from a thread of a multi-threaded tokio runtime, not from one
/// of a current-thread runtime.
pub struct Table {
    log: Log,
    live: OnceLock<Arc<Vec<LiveFile>>>,
    corrections: Mutex<Option<correction::Known>>,
    footers: Arc<Footers>,
    upkeep_error: Option<TableError>,
    instance: String,
    clock: Arc<dyn Clock>,
    reserve: Reserve,
}

impl Table {
    /// Opens the table under `dir`; `None` where there is none, also where there is no `dir`.
    ///
    /// # Errors
    /// If the log has a hole or is torn, or demands what this version does not read.
    pub fn open(dir: &Path) -> Result<Option<Table>, TableError> {
        Table::open_on(dir, Arc::new(SyncedDisk::new()))
    }

    /// As [`Table::open`], with a store of one's own for the log and for writing: one that
    /// injects faults, say. Its paths are absolute ones of the disk without their first `/`.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub fn open_on(dir: &Path, store: Arc<DynObjectStore>) -> Result<Option<Table>, TableError> {
        let log = Log::open(dir, store)?;
        Ok(log.map(|log| Table {
            reserve: Reserve::none(log.dir()),
            log,
            live: OnceLock::new(),
            corrections: Mutex::default(),
            footers: Arc::default(),
            upkeep_error: None,
            instance: Uuid::new_v4().to_string(),
            clock: Arc::new(SystemClock),
        }))
    }

    /// The same table with other clocks: ones that jump, say.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Table {
        Table { clock, ..self }
    }

    /// The same table with a reserve of `bytes` beside it: a file that is given up when there is
    /// no room for a log entry, and taken again when there is. 0 is none. Without room for it
    /// now, it is taken after a later commit.
    pub fn with_reserve(self, bytes: u64) -> Table {
        Table { reserve: Reserve::of(self.log.dir(), bytes), ..self }
    }

    /// What names this writer in the log, and to the writers that it fences.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Opens the table under `dir`, or creates it with the directory.
    ///
    /// Proves first that the file system can create a file only where none is, and can sync.
    ///
    /// # Errors
    /// If that fails, and as [`Table::open`].
    pub fn open_or_create(dir: &Path) -> Result<Table, TableError> {
        Table::open_or_create_on(dir, Arc::new(SyncedDisk::new()))
    }

    /// As [`Table::open_or_create`], with a store of one's own; see [`Table::open_on`].
    ///
    /// # Errors
    /// As [`Table::open_or_create`].
    pub fn open_or_create_on(dir: &Path, store: Arc<DynObjectStore>) -> Result<Table, TableError> {
        let now_ms = store::probe(dir)?;
        if let Some(table) = Table::open_on(dir, Arc::clone(&store))? {
            return Ok(table);
        }
        Log::create(dir, &store, now_ms)?;
        let table = Table::open_on(dir, store)?;
        let gone =
            || TableError::io("find the new log of", dir, std::io::ErrorKind::NotFound.into());
        table.ok_or_else(gone)
    }

    /// The directory of the table, resolved.
    pub fn dir(&self) -> &Path {
        self.log.dir()
    }

    /// The identity of the table: a UUID that it got when it was created.
    pub fn id(&self) -> &str {
        self.log.id()
    }

    /// The version that this sees: the number of its newest log entry.
    pub fn version(&self) -> u64 {
        self.log.version()
    }

    /// Advances to the newest version, reading only what is new, and returns it.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub fn refresh(&mut self) -> Result<u64, TableError> {
        if self.log.refresh()? {
            self.live = OnceLock::new();
        }
        Ok(self.log.version())
    }

    /// One past the last offset of `partition` that was counted, at this version; `None` where
    /// it was never counted.
    ///
    /// # Errors
    /// If the log holds a number below zero.
    pub fn offset(&self, partition: &str) -> Result<Option<u64>, TableError> {
        self.log.offset(partition)
    }

    /// Every partition of a source and its offset, by name, at this version.
    pub fn offsets(&self) -> BTreeMap<String, u64> {
        let mut offsets = self.log.offsets();
        offsets
            .retain(|id, _| ![JUDGE, RETENTION].contains(&id.as_str()) && !id.starts_with(RELAY));
        offsets
    }

    /// Commits the whole epoch, or nothing of it, and returns the version that it made.
    ///
    /// An epoch without files moves offsets alone; one without moves cannot be fenced, nor told
    /// from its repetition: the caller must not retry it blindly.
    ///
    /// # Errors
    /// [`CommitError::Fenced`]: what was counted must be dropped, and counted again from where
    /// the table stands. Otherwise nothing landed, and the same epoch may be committed again.
    pub fn commit(&mut self, epoch: Epoch) -> Result<u64, CommitError> {
        self.land(&epoch, &Vec::new, None)
    }

    /// The first step of a commit, which takes most of its time and changes nothing that anybody
    /// sees: its files are written, and no entry names them yet. With further rows, which are
    /// built as they are written.
    ///
    /// # Errors
    /// As [`Table::commit`], but that it is fenced is found by [`Table::land`].
    pub fn write_ahead(
        &self,
        epoch: &Epoch,
        sliced: &[SlicedFile<'_>],
    ) -> Result<Ahead, CommitError> {
        self.begin(epoch)?;
        self.write_files(&epoch.files, sliced)
    }

    fn begin(&self, epoch: &Epoch) -> Result<(), CommitError> {
        self.log.check_writable()?;
        validate(epoch)?;
        failpoint::reach("commit.cut");
        Ok(())
    }

    /// The second step: the entry, with the files that are written already; without them it is
    /// both steps. `sliced` gives the further rows again, for files that have become too old.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub fn land<'a>(
        &mut self,
        epoch: &Epoch,
        sliced: &dyn Fn() -> Vec<SlicedFile<'a>>,
        ahead: Option<Ahead>,
    ) -> Result<u64, CommitError> {
        if ahead.is_none() {
            self.begin(epoch)?;
        }
        let outcome = self.append(epoch, sliced, ahead);
        // Also where it is fenced now, scans have to see what came first.
        self.live = OnceLock::new();
        let version = outcome?;
        failpoint::reach("commit.landed");
        self.reserve.restore();
        self.checkpoint_if_due();
        Ok(version)
    }

    /// Why the last log checkpoint failed, if it did; asking forgets it. Commits go on without:
    /// only opening becomes slower.
    pub fn take_upkeep_error(&mut self) -> Option<TableError> {
        self.upkeep_error.take()
    }

    /// The rows of `grain` that pass `filter`, at this version.
    ///
    /// # Errors
    /// If the log cannot be read or the filter names a column that the grain does not have. The
    /// iterator yields an error for a file that is missing, short or broken.
    pub fn scan(&self, grain: Grain, filter: &Filter) -> Result<Scan, TableError> {
        let files = match &filter.added {
            Some(added) => added.files(),
            None => self.live_files()?,
        };
        Scan::new(&self.scan_place(), &files, grain, filter)
    }

    /// The last minute that a live file of a grain and day may hold, as far as the log says so.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn last_minute_logged(&self, grain: Grain, day: Day) -> Result<Option<Minute>, TableError> {
        let live = self.live_files()?;
        let of_day = live.iter().filter(|file| file.grain == grain.name() && file.day == Some(day));
        Ok(of_day.filter_map(|file| file.minutes.map(|(_, last)| last)).max())
    }

    /// How many live files each grain and day has, at this version.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn file_counts(&self) -> Result<BTreeMap<(String, Option<Day>), usize>, TableError> {
        let mut counts = BTreeMap::new();
        for file in self.live_files()?.iter() {
            *counts.entry((file.grain.clone(), file.day)).or_default() += 1;
        }
        Ok(counts)
    }

    /// Where the files of a scan are, and at which version the log names them.
    fn scan_place(&self) -> scan::Place {
        let footers = Arc::clone(&self.footers);
        scan::Place { dir: self.log.dir().to_owned(), version: self.version(), footers }
    }

    /// Proves that `dir` can create a file only where none is and can sync, leaves nothing behind,
    /// and returns the disk's idea of now in epoch milliseconds. Makes `dir` where it is missing.
    ///
    /// # Errors
    /// If it cannot.
    pub fn probe(dir: &Path) -> Result<i64, TableError> {
        store::probe(dir)
    }

    /// The table's properties, at this version.
    pub(crate) fn properties(&self) -> &HashMap<String, String> {
        self.log.properties()
    }

    /// What a reader sees that begins at the log checkpoint of `version`.
    pub(crate) fn folded_at(&self, version: u64) -> Result<Folded, TableError> {
        self.log.folded_at(version)
    }

    /// Checks that a file is there, with the size and the hash that the log says.
    pub(crate) fn check_file(&self, file: &LiveFile) -> Result<(), TableError> {
        scan::open_checked(&self.log.dir().join(&file.path), file, true).map(drop)
    }

    /// The live files at this version, by grain, day and path.
    pub(crate) fn live_files(&self) -> Result<Arc<Vec<LiveFile>>, TableError> {
        if let Some(live) = self.live.get() {
            return Ok(Arc::clone(live));
        }
        let live = Arc::new(self.log.live_files()?);
        Ok(Arc::clone(self.live.get_or_init(|| live)))
    }

    /// The files that were removed and when, in epoch milliseconds, as far as the log remembers.
    fn tombstones(&self) -> Result<HashMap<String, i64>, TableError> {
        self.log.tombstones()
    }

    fn checkpoint_if_due(&mut self) {
        if let Err(error) = self.log.checkpoint_if_due() {
            self.upkeep_error = Some(error);
        }
    }

    /// Puts other files into the place of some, or nothing into the place of old ones, by the
    /// protocol of [`Table::commit`]. `None`, and nothing changed, where another writer has
    /// replaced one of them, or where `adds` were written too long ago to be named.
    fn replace(&mut self, change: &Replacement<'_>) -> Result<Option<u64>, CommitError> {
        self.log.check_writable()?;
        let outcome = self.append_replacement(change);
        self.live = OnceLock::new();
        let version = outcome?;
        self.checkpoint_if_due();
        Ok(version)
    }

    fn append_replacement(&mut self, change: &Replacement<'_>) -> Result<Option<u64>, CommitError> {
        let Replacement { kind, adds, moves, removes, now_ms, info, written } = *change;
        let mut commit = Commit::new(moves.to_vec(), removes.clone());
        let (commit_id, mut failures) = (Uuid::new_v4().to_string(), 0);
        loop {
            let entry = NewEntry {
                kind,
                adds,
                removes,
                removed_ms: now_ms,
                moves,
                info,
                instance: &self.instance,
                commit: &commit_id,
            };
            let mut attempt = Attempt { log: &mut self.log, entry };
            match commit.step(&mut attempt, written.is_fresh(self.clock.now())) {
                Step::Next => {}
                Step::Conflict => self.pause(commit.conflicts()),
                Step::Landed(version) => return Ok(Some(version)),
                Step::Fenced(_) | Step::FilesTooOld => return Ok(None),
                Step::Failed(_) if failures < FAILURES_MAX => {
                    failures += 1;
                    self.pause(failures);
                }
                Step::Failed(error) => return Err(error),
                Step::Contended => {
                    return Err(CommitError::Contended { attempts: commit.conflicts() });
                }
            }
        }
    }

    /// Runs the protocol to its end.
    fn append<'a>(
        &mut self,
        epoch: &Epoch,
        sliced: &dyn Fn() -> Vec<SlicedFile<'a>>,
        ahead: Option<Ahead>,
    ) -> Result<u64, CommitError> {
        let mut commit = Commit::new(epoch.moves.clone(), HashSet::new());
        let commit_id = Uuid::new_v4().to_string();
        // What is fenced already needs no files.
        if let Some(fence) = self.fence(&epoch.moves)? {
            return Err(self.fenced(fence));
        }
        let write = || self.write_files(&epoch.files, &sliced());
        let Ahead(mut adds, mut written) = ahead.map_or_else(write, Ok)?;
        let mut failures = 0;
        loop {
            failpoint::reach("commit.check");
            let entry = NewEntry {
                kind: EntryKind::Epoch,
                adds: &adds,
                removes: &HashSet::new(),
                removed_ms: 0,
                moves: &epoch.moves,
                info: &epoch.info,
                instance: &self.instance,
                commit: &commit_id,
            };
            let mut attempt = Attempt { log: &mut self.log, entry };
            match commit.step(&mut attempt, written.is_fresh(self.clock.now())) {
                Step::Next => {}
                Step::Conflict => self.pause(commit.conflicts()),
                Step::FilesTooOld => {
                    Ahead(adds, written) = self.write_files(&epoch.files, &sliced())?;
                }
                Step::Landed(version) => return Ok(version),
                Step::Fenced(fence) => return Err(self.fenced(fence)),
                Step::Failed(error) if failures < FAILURES_MAX => {
                    failures += 1;
                    if !(error.is_full() && self.reserve.free()) {
                        self.pause(failures);
                    }
                }
                Step::Failed(error) => return Err(error),
                Step::Contended => {
                    return Err(CommitError::Contended { attempts: commit.conflicts() });
                }
            }
        }
    }

    fn fence(&mut self, moves: &[Move]) -> Result<Option<Fence>, CommitError> {
        let removes = &HashSet::new();
        let entry = NewEntry {
            kind: EntryKind::Epoch,
            adds: &[],
            removes,
            removed_ms: 0,
            moves,
            info: "",
            instance: "",
            commit: "",
        };
        protocol::fence(&Attempt { log: &mut self.log, entry }, moves, removes)
    }

    fn fenced(&self, fence: Fence) -> CommitError {
        match fence {
            Fence::Moved { partition, expected, found } => {
                let by = self.log.mover_of(&partition);
                CommitError::Fenced { partition, expected, found, by }
            }
            Fence::Removed => unreachable!("an epoch removes no file"),
        }
    }

    fn pause(&self, attempts: u32) {
        self.clock.pause(pause_ms(attempts, self.clock.random()));
    }

    /// Encodes every file that has rows, on all cores, and writes each while others are encoded;
    /// says when that began.
    fn write_files(
        &self,
        files: &[DataFile],
        sliced: &[SlicedFile<'_>],
    ) -> Result<Ahead, CommitError> {
        failpoint::reach("commit.data");
        let (began, names) = (self.clock.now(), Uuid::new_v4());
        let whole = files.iter().map(Rows::Whole);
        let mut files: Vec<Rows<'_>> = whole.chain(sliced.iter().map(Rows::Sliced)).collect();
        files.retain(|rows| rows.count() > 0);
        // What takes the longest to write is to be written beside the most.
        files.sort_by_key(|rows| Reverse(rows.count()));
        let files = files.into_par_iter().with_max_len(1).enumerate();
        let write = |(index, rows)| self.write_file(rows, &format!("{names}-{index}"));
        let writing: Vec<Result<_, CommitError>> = files.map(write).collect();
        let wait = |put: Result<JoinHandle<_>, _>| {
            self.log.executor().block_on(put?).expect("puts do not panic")
        };
        // All of them, also after one that failed: who goes on then finds nobody writing.
        let adds: Vec<Result<Add, CommitError>> = writing.into_iter().map(wait).collect();
        let adds = adds.into_iter().collect::<Result<_, _>>()?;
        failpoint::reach("commit.data.written");
        Ok(Ahead(adds, began))
    }

    /// Encodes one file and begins to write it.
    fn write_file(
        &self,
        rows: Rows<'_>,
        name: &str,
    ) -> Result<JoinHandle<Result<Add, CommitError>>, CommitError> {
        let (grain, day) = match rows {
            Rows::Whole(file) => (file.grain, file.day),
            Rows::Sliced(file) => (file.grain, file.day),
        };
        let path = data_path(grain, day, name);
        let encoded = match rows {
            Rows::Whole(file) => encode::encode(grain, &file.batches),
            Rows::Sliced(file) => encode::encode_sliced(grain, file.rows, &file.build),
        };
        let failed = |source| TableError::parquet(&self.log.dir().join(&path), source);
        let encoded = encoded.map_err(failed)?;
        let _executor = self.log.executor().enter();
        Ok(tokio::spawn(self.put(grain, day, path, encoded)?))
    }

    /// Writes one data file under a path that was never used.
    fn put_file(
        &self,
        grain: Grain,
        day: Day,
        path: String,
        encoded: Encoded,
    ) -> Result<Add, CommitError> {
        self.log.executor().block_on(self.put(grain, day, path, encoded)?)
    }

    /// The same, for a thread of the executor.
    fn put(
        &self,
        grain: Grain,
        day: Day,
        path: String,
        encoded: Encoded,
    ) -> Result<impl Future<Output = Result<Add, CommitError>> + use<>, TableError> {
        let full = self.log.dir().join(&path);
        let location = StorePath::from_absolute_path(&full)
            .map_err(|_| TableError::FilePath { found: full.display().to_string() })?;
        let store = Arc::clone(self.log.store());
        Ok(async move {
            let _room = WRITES.acquire().await.expect("it is never closed");
            let bytes = Bytes::from(encoded.bytes);
            let (size, hashed) = (bytes.len() as u64, bytes.clone());
            let hash = spawn_blocking(move || scan::sha256_hex(&hashed));
            let write = async {
                let options = PutOptions::from(PutMode::Create);
                store.put_opts(&location, bytes.into(), options).await?;
                store.head(&location).await
            };
            let meta = write.await.map_err(|source| CommitError::write(full, size, source))?;
            assert_eq!(meta.size, size, "the store keeps what was put");
            let hash = hash.await.expect("hashing does not panic");
            let tags = BTreeMap::from([(TAG_SHA256, hash)]);
            let modified_ms = meta.last_modified.timestamp_millis();
            let batch = add_row(&path, grain, day, size, modified_ms, encoded.stats);
            Ok(Add { path, grain, day, size, tags, batch })
        })
    }
}

/// Room for so many files that are written at once: a late commit may have one for each of many
/// days, and each takes two threads.
static WRITES: Semaphore = Semaphore::const_new(8);

/// The rows of a file that is to be written.
#[derive(Clone, Copy)]
enum Rows<'a> {
    Whole(&'a DataFile),
    Sliced(&'a SlicedFile<'a>),
}

impl Rows<'_> {
    fn count(self) -> usize {
        match self {
            Rows::Whole(file) => encode::rows_of(&file.batches),
            Rows::Sliced(file) => file.rows,
        }
    }
}

/// The path of a data file in the table. `name` is a UUID and a number.
fn data_path(grain: Grain, day: Day, name: &str) -> String {
    format!("grain={}/day={day}/{name}.parquet", grain.name())
}

/// Refuses an epoch that contradicts itself, before anything is written.
fn validate(epoch: &Epoch) -> Result<(), CommitError> {
    let refused = |found: String| Err(CommitError::Epoch { found });
    let mut partitions = HashSet::new();
    for Move { partition, base, next } in &epoch.moves {
        if !partitions.insert(partition) {
            return refused(format!("partition {partition} moves twice; once is right"));
        }
        if i64::try_from(*next).is_err() || base.is_some_and(|base| base > *next) {
            return refused(format!("partition {partition} moves from {base:?} to {next}"));
        }
    }
    for file in &epoch.files {
        let schema = file.grain.schema();
        if let Some(batch) = file.batches.iter().find(|batch| !is_of(&schema, batch)) {
            let (grain, found) = (file.grain.name(), batch.schema());
            return refused(format!("a batch of grain {grain} has the schema {found}"));
        }
    }
    Ok(())
}

/// Whether a batch has the columns of a schema, whose texts may be numbers with a dictionary.
fn is_of(schema: &Schema, batch: &RecordBatch) -> bool {
    let is_column = |(field, found): (&Arc<Field>, &Arc<Field>)| match found.data_type() {
        DataType::Dictionary(numbers, texts) => {
            **numbers == DataType::UInt32
                && **field == Field::clone(found).with_data_type(DataType::clone(texts))
        }
        _ => field == found,
    };
    let found = batch.schema();
    schema.fields().len() == found.fields().len()
        && schema.fields().iter().zip(found.fields()).all(is_column)
}

/// What the kernel's `add_files` takes: one row.
fn add_row(
    path: &str,
    grain: Grain,
    day: Day,
    size: u64,
    modified_ms: i64,
    stats: arrow::array::StructArray,
) -> RecordBatch {
    let mut values = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for (name, value) in [("grain", grain.name().to_owned()), ("day", day.to_string())] {
        values.keys().append_value(name);
        values.values().append_value(value);
    }
    values.append(true).expect("as many keys as values");
    let values = values.finish();
    let field = |name: &str, kind: &DataType| Field::new(name, kind.clone(), name == "stats");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("path", Arc::new(StringArray::from(vec![path]))),
        ("partitionValues", Arc::new(values)),
        ("size", Arc::new(Int64Array::from(vec![size as i64]))),
        ("modificationTime", Arc::new(Int64Array::from(vec![modified_ms]))),
        ("stats", Arc::new(stats)),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| field(name, column.data_type())).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one row")
}
