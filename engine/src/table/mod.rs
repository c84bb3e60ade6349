//! The rollup table: a Delta Lake table, the only durable state.
//!
//! What is counted is committed in *epochs*: the rows, and with them how far each partition of
//! each source was counted, in one log entry. A row is *partial*: rows of one key are summed by
//! whoever reads, so late data is one more row and nothing is ever rewritten. The page for
//! readers of the files is `docs/format/table.md`.
//!
//! The protocol of [`Table::commit`]:
//! 1. Data files first, under names that were never used, synced.
//! 2. On the very version that the entry goes on top of, each partition must stand where the
//!    epoch's counting began; else another writer moved it, and the epoch is *fenced*.
//! 3. One entry, created only where none is, holds every file and every new offset.
//! 4. Where another entry came first: advance, and check again from 2, with the same files.
//! 5. The entry is read back; only what a reader sees has landed.
//!
//! A failure at any step leaves files that no reader sees, or a whole epoch. Nothing is deleted
//! when in doubt. There is no lock, no lease and no leader: a writer that slept for hours loses
//! by step 2.

mod checkpoint;
mod coarse;
mod encode;
mod error;
mod live;
mod log;
pub mod read;
mod scan;
/// The columns of the rollup table.
pub mod schema;
mod store;
pub mod upkeep;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow::array::builder::{MapBuilder, StringBuilder};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use delta_kernel_default_engine::executor::TaskExecutor;
use object_store::path::Path as StorePath;
use object_store::{DynObjectStore, ObjectStoreExt, PutMode, PutOptions};
use rayon::prelude::*;
use uuid::Uuid;

pub use error::{CommitError, TableError};
pub use scan::{Filter, Scan, ScanStats};
pub use store::SyncedDisk;

use crate::time::Day;
use encode::Encoded;
use live::{LiveFile, TAG_SHA256};
use log::{Add, Appended, Change, ChangeKind, Log};
use schema::Grain;

/// How often an entry is tried against other writers. Each conflict is another writer's
/// progress, so this many in a row mean that commits are far too frequent.
const CONFLICTS_MAX: u32 = 1_000;

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
    /// them; each of exactly [`Grain::schema`]. A file without rows is not written.
    pub batches: Vec<RecordBatch>,
}

/// How far one partition was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The partition: `file/<identity>`, or `source/topic/partition`.
    pub partition: String,
    /// Where the counting of this epoch began; `None` where the table has never seen it.
    pub base: Option<u64>,
    /// One past the last offset that this epoch counts.
    pub next: u64,
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
    upkeep_error: Option<TableError>,
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
        Ok(log.map(|log| Table { log, live: OnceLock::new(), upkeep_error: None }))
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

    /// Every partition and its offset, by name, at this version.
    pub fn offsets(&self) -> BTreeMap<String, u64> {
        self.log.offsets()
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
        self.log.check_writable()?;
        validate(&epoch)?;
        self.log.check(&epoch.moves)?;
        let adds = self.write_files(epoch.files)?;
        let version = self.append(&adds, &epoch.moves, &epoch.info)?;
        self.live = OnceLock::new();
        self.log.confirm(version, &epoch.moves)?;
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
        Scan::new(&self.scan_place(), &self.live_files()?, grain, filter)
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
        scan::Place { dir: self.log.dir().to_owned(), version: self.version() }
    }

    fn live_files(&self) -> Result<Arc<Vec<LiveFile>>, TableError> {
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

    /// Puts other files into the place of some, or nothing into the place of old ones, by the
    /// protocol of [`Table::commit`]: what must hold on the version that the entry goes on top
    /// of is that every file that goes is live there. `None`, and nothing changed, where one is
    /// not: another writer has replaced it.
    fn replace(
        &mut self,
        kind: ChangeKind,
        adds: &[Add],
        removes: &HashSet<String>,
        now_ms: i64,
        info: &str,
    ) -> Result<Option<u64>, CommitError> {
        self.log.check_writable()?;
        let change = Change { kind, adds, removes, now_ms, moves: &[], info };
        for _ in 0..CONFLICTS_MAX {
            if !self.log.are_live(removes)? {
                return Ok(None);
            }
            let appended = self.log.append(&change);
            self.live = OnceLock::new();
            match appended {
                Ok(Appended::Landed(version)) => {
                    self.log.confirm_seen(version)?;
                    let landed = !self.log.are_live(removes)?;
                    self.checkpoint_if_due();
                    return Ok(landed.then_some(version));
                }
                Ok(Appended::Conflict) => drop(self.log.refresh()?),
                Err(error) => {
                    // Unclear: the log tells.
                    let seen = self.log.refresh().and_then(|_| self.log.are_live(removes));
                    return if let Ok(false) = seen { Ok(Some(self.version())) } else { Err(error) };
                }
            }
        }
        Err(CommitError::Contended { attempts: CONFLICTS_MAX })
    }

    fn checkpoint_if_due(&mut self) {
        if let Err(error) = self.log.checkpoint_if_due() {
            self.upkeep_error = Some(error);
        }
    }

    /// Steps 2 to 4 of the protocol.
    fn append(&mut self, adds: &[Add], moves: &[Move], info: &str) -> Result<u64, CommitError> {
        let (kind, removes) = (ChangeKind::Epoch, &HashSet::new());
        let change = Change { kind, adds, removes, now_ms: 0, moves, info };
        for _ in 0..CONFLICTS_MAX {
            match self.log.append(&change) {
                Ok(Appended::Landed(version)) => return Ok(version),
                Ok(Appended::Conflict) => {
                    self.log.refresh()?;
                    self.log.check(moves)?;
                }
                Err(error) => return self.resolve(moves, error),
            }
        }
        Err(CommitError::Contended { attempts: CONFLICTS_MAX })
    }

    /// After an unclear outcome the log is read: it landed if all partitions stand at the end.
    fn resolve(&mut self, moves: &[Move], error: CommitError) -> Result<u64, CommitError> {
        let landed = self.log.refresh().and_then(|_| self.log.stands_after(moves));
        match landed {
            Ok(true) if !moves.is_empty() => Ok(self.log.version()),
            _ => Err(error),
        }
    }

    /// Step 1: encodes and writes every file that has rows, all in parallel.
    fn write_files(&self, files: Vec<DataFile>) -> Result<Vec<Add>, CommitError> {
        let epoch_id = Uuid::new_v4();
        let with_rows = |file: &DataFile| file.batches.iter().any(|batch| batch.num_rows() > 0);
        let files: Vec<DataFile> = files.into_iter().filter(with_rows).collect();
        let files = files.into_par_iter().enumerate();
        files.map(|(index, file)| self.write_file(&file, &format!("{epoch_id}-{index}"))).collect()
    }

    fn write_file(&self, file: &DataFile, name: &str) -> Result<Add, CommitError> {
        let path = data_path(file.grain, file.day, name);
        let encoded = encode::encode(file.grain, &file.batches)
            .map_err(|source| TableError::parquet(&self.log.dir().join(&path), source))?;
        self.put_file(file.grain, file.day, path, encoded)
    }

    /// Writes one data file under a path that was never used.
    fn put_file(
        &self,
        grain: Grain,
        day: Day,
        path: String,
        encoded: Encoded,
    ) -> Result<Add, CommitError> {
        let full = self.log.dir().join(&path);
        let tags = BTreeMap::from([(TAG_SHA256, scan::sha256_hex(&encoded.bytes))]);
        let size = encoded.bytes.len() as u64;
        let location = StorePath::from_absolute_path(&full)
            .map_err(|_| TableError::FilePath { found: full.display().to_string() })?;
        let store = Arc::clone(self.log.store());
        let put = self.log.executor().block_on(async move {
            let options = PutOptions::from(PutMode::Create);
            store.put_opts(&location, encoded.bytes.into(), options).await?;
            store.head(&location).await
        });
        let meta = put.map_err(|source| CommitError::Write { path: full, source })?;
        assert_eq!(meta.size, size, "the store keeps what was put");
        let modified_ms = meta.last_modified.timestamp_millis();
        let batch = add_row(&path, grain, day, size, modified_ms, encoded.stats);
        Ok(Add { path, grain, day, size, tags, batch })
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
        if let Some(batch) = file.batches.iter().find(|batch| batch.schema() != schema) {
            let (grain, found) = (file.grain.name(), batch.schema());
            return refused(format!("a batch of grain {grain} has the schema {found}"));
        }
    }
    Ok(())
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
