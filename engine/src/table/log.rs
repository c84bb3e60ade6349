//! The Delta log: which files are live, how far each partition was counted, and how that moves.
//!
//! An entry `_delta_log/<20 digits>.json` is created where none is, by the kernel through
//! [`EntryCommitter`], which differs from the kernel's own committer in four things:
//! - A create that fails is followed by a read of the entry: the same bytes mean that it landed
//!   and only the reply was lost. Each entry carries a random `txnId`, so another writer's entry
//!   never has the same bytes.
//! - `txn` actions lose `lastUpdated`, so that no retention setting ever expires an offset.
//! - `add` actions gain tags: `sha256`, the hash of the file, so that a reader can tell a
//!   flipped bit from a count, and what a compaction says of its files.
//! - `remove` actions carry the caller's time, not the kernel's.
//!
//! Invariants: `offsets` are those of `snapshot`, always. The log is listed once, on opening;
//! after that the snapshot is advanced, by our own entry or from the version that it has. A
//! checkpoint is only ever built upon after [`super::checkpoint`] has found it whole.
//! Entry 0 is written here and not by the kernel, whose new tables demand table features:
//! reader version 1 and writer version 2 are read by everybody.
//!
//! Format: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use delta_kernel::actions::{LOG_REMOVE_SCHEMA, LOG_TXN_SCHEMA};
use delta_kernel::committer::{CommitMetadata, CommitResponse, Committer, PublishMetadata};
use delta_kernel::engine::arrow_conversion::TryFromArrow;
use delta_kernel::engine::arrow_data::{ArrowEngineData, EngineDataArrowExt};
use delta_kernel::engine::arrow_utils::to_json_bytes;
use delta_kernel::scan::StatsOptions;
use delta_kernel::schema::StructType;
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{
    Engine, FileMeta, FilteredEngineData, KernelError, KernelResult, KernelResultIterator,
};
use delta_kernel_default_engine::executor::TaskExecutor;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use object_store::path::Path;
use object_store::{DynObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::checkpoint::{Verified, last_checkpoint, open_snapshot};
use super::error::{CommitError, TableError};
use super::live::LiveFile;
use super::protocol::{Appended, LogStore, Move, Seen};
use super::schema::{Grain, PARTITION_COLUMNS, STATS_COLUMNS, wide_schema};
use crate::delta;
use crate::failpoint;
use crate::time::Day;

/// What names the writer in `commitInfo`.
pub(crate) const ENGINE_INFO: &str = concat!("ninefold/", env!("CARGO_PKG_VERSION"));

/// The property that says which version of `docs/format/table.md` a table follows.
pub(crate) const FORMAT_PROPERTY: &str = "ninefold.format";

/// The newest value of [`FORMAT_PROPERTY`] that this version writes.
pub(crate) const FORMAT: u32 = 1;

/// Entries between checkpoints of the log: with a hundred, opening takes milliseconds, and a
/// checkpoint costs less than a hundredth of the commits that it follows.
pub(crate) const CHECKPOINT_ENTRIES: u64 = 100;

/// How often a create that is refused for an entry that is not there is tried: some object
/// stores answer so while two creates race.
const CREATE_ATTEMPTS: u32 = 3;

/// A data file that was written and is not in the log yet.
pub(crate) struct Add {
    /// Relative to the table, as the log has it.
    pub path: String,
    /// What its rows are.
    pub grain: Grain,
    /// The value of the partition column `day`.
    pub day: Day,
    /// Bytes.
    pub size: u64,
    /// What the log says of it beside the protocol: see [`super::live`].
    pub tags: BTreeMap<&'static str, String>,
    /// One row: what the kernel's `add_files` takes.
    pub batch: RecordBatch,
}

/// What one entry says.
pub(crate) struct NewEntry<'a> {
    /// What it is for.
    pub kind: EntryKind,
    /// The files that come.
    pub adds: &'a [Add],
    /// The paths of the files that go.
    pub removes: &'a HashSet<String>,
    /// When those files went, in epoch milliseconds.
    pub removed_ms: i64,
    /// How far each partition was counted.
    pub moves: &'a [Move],
    /// What made it, for people; may be empty.
    pub info: &'a str,
    /// The process that writes it.
    pub instance: &'a str,
    /// What tells it from every other entry.
    pub commit: &'a str,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// Counted rows.
    Epoch,
    /// The same rows in other files.
    Compaction,
    /// Rows past their time go.
    Retention,
}

impl EntryKind {
    /// The name in the history of the table, and whether what a reader sums changes.
    fn operation(self) -> (UpdateTableOperation, bool) {
        match self {
            EntryKind::Epoch => (UpdateTableOperation::StreamingUpdate, true),
            EntryKind::Compaction => (UpdateTableOperation::Optimize, false),
            EntryKind::Retention => (UpdateTableOperation::Delete, true),
        }
    }
}

/// What a log comes to at one version.
pub(crate) struct Folded {
    /// The live files, by grain, day and path.
    pub files: Vec<LiveFile>,
    /// How far each partition was counted.
    pub offsets: HashMap<String, i64>,
}

/// How far back the log is searched for who moved a partition.
const MOVER_ENTRIES_MAX: u64 = 200;

/// One table's log at one version. See the module.
pub(crate) struct Log {
    pub(super) dir: PathBuf,
    pub(super) url: Url,
    pub(super) store: Arc<DynObjectStore>,
    pub(super) executor: Arc<TokioMultiThreadExecutor>,
    pub(super) engine: Arc<TableEngine>,
    pub(super) snapshot: SnapshotRef,
    pub(super) offsets: HashMap<String, i64>,
    /// The version of the newest log checkpoint that this has found whole.
    pub(super) checkpoint: Option<u64>,
    /// The newest checkpoint that was compared with its log, by this writer or another.
    pub(super) verified: Option<Verified>,
    /// The log behind an entry that was put and not confirmed yet.
    posted: Option<SnapshotRef>,
    /// How large the last entry was that was put.
    entry_bytes: Arc<AtomicU64>,
}

/// The kernel's own engine on our store.
pub(super) type TableEngine = DefaultEngine<TokioMultiThreadExecutor>;

impl Log {
    /// The log under `dir`; `None` where it has no entry.
    pub fn open(dir: &FsPath, store: Arc<DynObjectStore>) -> Result<Option<Log>, TableError> {
        if !has_entry(dir)? {
            return Ok(None);
        }
        let dir = dir.canonicalize().map_err(|source| TableError::io("resolve", dir, source))?;
        let url = Url::from_directory_path(&dir).expect("a canonical path is absolute");
        let executor = executor(&dir)?;
        let engine = DefaultEngineBuilder::new(Arc::clone(&store))
            .with_task_executor(Arc::clone(&executor))
            .build();
        let engine = Arc::new(engine);
        let reader = LogReader { dir: &dir, url: &url, store: &store, executor: &executor };
        let opened = open_snapshot(&reader, engine.as_ref())?;
        let Opened { snapshot, offsets, checkpoint, verified } = opened;
        let (posted, entry_bytes) = (None, Arc::default());
        Ok(Some(Log {
            dir,
            url,
            store,
            executor,
            engine,
            snapshot,
            offsets,
            checkpoint,
            verified,
            posted,
            entry_bytes,
        }))
    }

    /// Folds the log afresh, from its newest checkpoint that is whole.
    fn reopen(&mut self) -> Result<(), TableError> {
        let opened = open_snapshot(&self.reader(), self.engine.as_ref())?;
        (self.snapshot, self.offsets) = (opened.snapshot, opened.offsets);
        (self.checkpoint, self.verified) = (opened.checkpoint, opened.verified);
        Ok(())
    }

    pub(super) fn reader(&self) -> LogReader<'_> {
        let Log { dir, url, store, executor, .. } = self;
        LogReader { dir, url, store, executor }
    }

    /// Creates entry 0 if there is none. Losing that race to another creator is fine.
    pub fn create(
        dir: &FsPath,
        store: &Arc<DynObjectStore>,
        now_ms: i64,
    ) -> Result<(), TableError> {
        let absolute =
            dir.canonicalize().map_err(|source| TableError::io("resolve", dir, source))?;
        let path = log_path(&absolute, &entry_name(0))?;
        let entry = Bytes::from(first_entry(now_ms));
        let executor = executor(dir)?;
        let created = create_entry(&executor, Arc::clone(store), path, entry);
        created.map(|_| ()).map_err(|source| TableError::Create { path: absolute, source })
    }

    pub fn dir(&self) -> &FsPath {
        &self.dir
    }

    pub fn store(&self) -> &Arc<DynObjectStore> {
        &self.store
    }

    pub fn executor(&self) -> &Arc<TokioMultiThreadExecutor> {
        &self.executor
    }

    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    pub fn id(&self) -> &str {
        self.snapshot.table_configuration().metadata().id()
    }

    pub fn properties(&self) -> &HashMap<String, String> {
        self.snapshot.table_configuration().metadata().configuration()
    }

    /// Folds the log at `version` afresh, from the checkpoint there if there is one.
    pub fn folded_at(&self, version: u64) -> Result<Folded, TableError> {
        let snapshot = Snapshot::builder_for(self.url.as_str())
            .at_version(version)
            .build(self.engine.as_ref())
            .map_err(|source| TableError::log(&self.dir, source))?;
        let offsets = fold_offsets(&self.dir, self.engine.as_ref(), &snapshot)?;
        Ok(Folded { files: self.live_files_of(&snapshot)?, offsets })
    }

    /// Refuses a table of a newer format than this version writes.
    pub fn check_writable(&self) -> Result<(), CommitError> {
        let found = self.properties().get(FORMAT_PROPERTY).cloned().unwrap_or_default();
        match found.parse::<u32>() {
            Ok(format) if format <= FORMAT => Ok(()),
            _ => Err(CommitError::Newer { path: self.dir.clone(), found, known: FORMAT }),
        }
    }

    /// How far `partition` was counted at this version.
    pub fn offset(&self, partition: &str) -> Result<Option<u64>, TableError> {
        let version = self.offsets.get(partition).copied();
        let negative = |found: i64| TableError::Value {
            grain: "txn",
            column: "version",
            found: found.to_string(),
        };
        version.map(|found| u64::try_from(found).map_err(|_| negative(found))).transpose()
    }

    /// Every partition and how far it was counted, by name.
    pub fn offsets(&self) -> BTreeMap<String, u64> {
        let whole = self.offsets.iter().filter_map(|(partition, offset)| {
            u64::try_from(*offset).ok().map(|offset| (partition.clone(), offset))
        });
        whole.collect()
    }

    /// Advances to the newest version; says whether it moved.
    ///
    /// Entries are only ever removed below a checkpoint, and a writer that slept may have filled
    /// a hole there: so what lies between this version and a checkpoint above it is not looked
    /// at, the log is folded from that checkpoint. Otherwise new entries alone are read.
    pub fn refresh(&mut self) -> Result<bool, TableError> {
        let (before, newest) = (self.version(), last_checkpoint(&self.reader())?);
        let folded_from = self.snapshot.log_segment().checkpoint_version.unwrap_or(0);
        let is_long = before - folded_from > 2 * CHECKPOINT_ENTRIES;
        let is_behind = |checkpoint: u64| {
            checkpoint > before
                || (is_long && self.checkpoint.is_none_or(|known| checkpoint > known))
        };
        if newest.is_some_and(|newest| is_behind(newest.version)) {
            self.reopen()?;
            return Ok(self.version() != before);
        }
        let newest = Snapshot::builder_from(Arc::clone(&self.snapshot))
            .skip_new_checkpoints()
            .build(self.engine.as_ref())
            .map_err(|source| TableError::log(&self.dir, source))?;
        if newest.version() == before {
            return Ok(false);
        }
        refuse_what_we_cannot_read(&self.dir, &newest)?;
        self.snapshot = newest;
        for version in before + 1..=self.version() {
            self.take_moves_of(version)?;
        }
        Ok(true)
    }

    /// Takes over the offsets of an entry that another writer has put.
    fn take_moves_of(&mut self, version: u64) -> Result<(), TableError> {
        let Some(entry) = self.entry(version)? else {
            return Err(TableError::LogHole { path: self.dir.clone(), version });
        };
        match delta::parse(&entry) {
            Ok(entry) => self.offsets.extend(entry.offsets),
            // The kernel could read it: let it say what the entry moves.
            Err(_) => {
                self.offsets = fold_offsets(&self.dir, self.engine.as_ref(), &self.snapshot)?;
            }
        }
        Ok(())
    }

    /// Tries to create the entry after this version. This stays at its version until
    /// [`Log::confirm`] has read it back.
    fn append(&mut self, entry: &NewEntry<'_>) -> Result<Appended, CommitError> {
        failpoint::reach("commit.entry");
        let outcome = self.try_append(entry);
        failpoint::reach("commit.entry.put");
        match outcome {
            Ok(CommitResult::Committed(committed)) => {
                self.posted = committed.post_commit_snapshot().map(Arc::clone);
                Ok(Appended::Landed)
            }
            Ok(CommitResult::Conflicted(_)) => Ok(Appended::Conflict),
            Ok(CommitResult::Retryable(retryable)) => Err(self.write_error(retryable.error)),
            Err(error) => Err(self.write_error(error)),
        }
    }

    fn try_append(&self, entry: &NewEntry<'_>) -> KernelResult<CommitResult> {
        let NewEntry { kind, adds, removes, removed_ms, moves, info, instance, commit } = entry;
        let committer = EntryCommitter {
            store: Arc::clone(&self.store),
            executor: Arc::clone(&self.executor),
            tags: adds.iter().map(|add| (add.path.clone(), json!(add.tags))).collect(),
            removed_ms: *removed_ms,
            entry_bytes: Arc::clone(&self.entry_bytes),
        };
        let parameters = [("info", info), ("instance", instance), ("commit", commit)];
        let parameters = parameters.map(|(name, value)| (name, Some(*value)));
        let (operation, data_change) = kind.operation();
        let mut builder = Arc::clone(&self.snapshot)
            .update_table(operation, ENGINE_INFO, data_change)
            .with_operation_parameters(parameters.into_iter().filter(|one| one.1 != Some("")));
        for Move { partition, next, .. } in *moves {
            let next = i64::try_from(*next).expect("the moves of an epoch were validated");
            builder = builder.with_transaction_id(partition, next);
        }
        let mut transaction = builder.build(self.engine.as_ref(), Box::new(committer))?;
        for add in *adds {
            transaction.add_files(Box::new(ArrowEngineData::new(add.batch.clone())));
        }
        if !removes.is_empty() {
            self.for_each_file_batch(&self.snapshot, |batch, selected| {
                let goes = LiveFile::selected(&batch, &selected, removes);
                if goes.contains(&true) {
                    let data = Box::new(ArrowEngineData::new(batch));
                    transaction.remove_files(FilteredEngineData::try_new(data, goes)?);
                }
                Ok(())
            })?;
        }
        transaction.commit(self.engine.as_ref())
    }

    fn write_error(&self, error: KernelError) -> CommitError {
        match error {
            KernelError::Backtraced { source, .. } => self.write_error(*source),
            KernelError::ObjectStore(source) => {
                let path = self.dir.join("_delta_log").join(entry_name(self.version() + 1));
                let needed_bytes = self.entry_bytes.load(Ordering::Relaxed);
                CommitError::write(path, needed_bytes, source)
            }
            source => TableError::log(&self.dir, source).into(),
        }
    }

    /// What a reader sees where the entry named `commit` was put.
    ///
    /// Entries are only ever removed below a checkpoint. So a writer that slept while others
    /// wrote, checkpointed and cleaned up may fill a hole that no reader looks at; then the
    /// newest checkpoint lies above its entry, and the log is folded afresh.
    fn confirm(&mut self, version: u64, commit: &str) -> Result<Seen, TableError> {
        let posted = self.posted.take();
        if newest_checkpoint(&self.dir)?.is_some_and(|newest| newest > version) {
            self.reopen()?;
            return Ok(Seen::Covered);
        }
        // One that is gone or broken is none of ours.
        let entry = delta::parse(&self.entry(version)?.unwrap_or_default()).unwrap_or_default();
        let is_ours = entry.info.commit == commit;
        match posted.filter(|_| is_ours && self.version() + 1 == version) {
            // The offsets as they read back from the store, not as meant.
            Some(snapshot) => {
                self.snapshot = snapshot;
                self.offsets.extend(entry.offsets);
            }
            None => drop(self.refresh()?),
        }
        Ok(if is_ours { Seen::Ours } else { Seen::Other })
    }

    /// The instance that moved a partition to where it stands, where the log still says so.
    pub fn mover_of(&self, partition: &str) -> Option<String> {
        let newest = self.version();
        for version in (newest.saturating_sub(MOVER_ENTRIES_MAX)..=newest).rev() {
            let entry = delta::parse(&self.entry(version).ok()??).ok()?;
            if entry.offsets.iter().any(|(moved, _)| moved == partition) {
                return Some(entry.info.instance).filter(|instance| !instance.is_empty());
            }
        }
        None
    }

    /// The entry of a version; `None` where there is none, or none any more.
    pub fn entry(&self, version: u64) -> Result<Option<Bytes>, TableError> {
        self.reader().read(&entry_name(version))
    }

    fn live_paths(&self) -> Result<Vec<String>, TableError> {
        Ok(self.live_files()?.into_iter().map(|file| file.path).collect())
    }

    /// The live files at this version, by grain, day and path.
    pub fn live_files(&self) -> Result<Vec<LiveFile>, TableError> {
        self.live_files_of(&self.snapshot)
    }

    /// The same of another snapshot of this log.
    pub(super) fn live_files_of(
        &self,
        snapshot: &SnapshotRef,
    ) -> Result<Vec<LiveFile>, TableError> {
        let (mut files, mut refused) = (Vec::new(), Ok(()));
        let read = self.for_each_file_batch(snapshot, |batch, selected| {
            if refused.is_ok() {
                refused = LiveFile::read_all(&batch, &selected, &mut files);
            }
            Ok(())
        });
        read.map_err(|source| TableError::log(&self.dir, source))?;
        refused?;
        files.sort_by(|a, b| (&a.grain, a.day, &a.path).cmp(&(&b.grain, b.day, &b.path)));
        Ok(files)
    }

    /// Visits the kernel's rows of the files of a snapshot, with which of them are live.
    fn for_each_file_batch(
        &self,
        snapshot: &SnapshotRef,
        mut visit: impl FnMut(RecordBatch, Vec<bool>) -> KernelResult<()>,
    ) -> KernelResult<()> {
        let scan = Arc::clone(snapshot)
            .scan_builder()
            .with_stats(StatsOptions::json_only())
            .without_row_transforms()
            .build()?;
        for part in scan.scan_metadata(self.engine.as_ref())? {
            let (data, selected) = part?.scan_files.into_parts();
            visit(data.try_into_record_batch()?, selected)?;
        }
        Ok(())
    }

    /// The files that were removed and when, in epoch milliseconds, as far as the log remembers.
    pub fn tombstones(&self) -> Result<HashMap<String, i64>, TableError> {
        let failed = |source| TableError::log(&self.dir, source);
        let mut removed = HashMap::new();
        let segment = self.snapshot.log_segment();
        let actions = segment.read_actions(self.engine.as_ref(), LOG_REMOVE_SCHEMA.clone());
        for batch in actions.map_err(failed)? {
            let batch = batch.map_err(failed)?.actions.try_into_record_batch().map_err(failed)?;
            LiveFile::read_removed(&batch, &mut removed)?;
        }
        Ok(removed)
    }
}

/// Where the files of a log are, and how they are read.
#[derive(Clone, Copy)]
pub(super) struct LogReader<'a> {
    pub dir: &'a FsPath,
    pub url: &'a Url,
    pub store: &'a Arc<DynObjectStore>,
    pub executor: &'a Arc<TokioMultiThreadExecutor>,
}

impl LogReader<'_> {
    /// A file of the log; `None` where it is not there.
    pub fn read(&self, name: &str) -> Result<Option<Bytes>, TableError> {
        let path = log_path(self.dir, name)?;
        let store = Arc::clone(self.store);
        match self.executor.block_on(async move { store.get(&path).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(TableError::log(self.dir, KernelError::ObjectStore(error))),
        }
    }
}

/// A log folded to its newest version.
pub(super) struct Opened {
    pub snapshot: SnapshotRef,
    pub offsets: HashMap<String, i64>,
    pub checkpoint: Option<u64>,
    pub verified: Option<Verified>,
}

/// An entry that is being committed: the log, as [`super::protocol`] sees it.
pub(crate) struct Attempt<'a> {
    pub log: &'a mut Log,
    pub entry: NewEntry<'a>,
}

impl LogStore for Attempt<'_> {
    type Error = CommitError;

    fn version(&self) -> u64 {
        self.log.version()
    }

    fn offset(&self, partition: &str) -> Result<Option<u64>, CommitError> {
        Ok(self.log.offset(partition)?)
    }

    fn are_live(&self, paths: &HashSet<String>) -> Result<bool, CommitError> {
        let live = self.log.live_paths()?;
        Ok(live.iter().filter(|path| paths.contains(*path)).count() == paths.len())
    }

    fn is_added(&self) -> Result<bool, CommitError> {
        let live = self.log.live_paths()?;
        Ok(live.iter().any(|path| self.entry.adds.iter().any(|add| add.path == *path)))
    }

    fn refresh(&mut self) -> Result<(), CommitError> {
        self.log.refresh()?;
        Ok(())
    }

    fn append(&mut self) -> Result<Appended, CommitError> {
        self.log.append(&self.entry)
    }

    fn confirm(&mut self, version: u64) -> Result<Seen, CommitError> {
        failpoint::reach("commit.confirm");
        Ok(self.log.confirm(version, self.entry.commit)?)
    }
}

/// Creates one log entry, told apart from a lost reply. See the module.
struct EntryCommitter {
    store: Arc<DynObjectStore>,
    executor: Arc<TokioMultiThreadExecutor>,
    /// The tags of each file by its path.
    tags: HashMap<String, Value>,
    removed_ms: i64,
    entry_bytes: Arc<AtomicU64>,
}

impl Committer for EntryCommitter {
    fn commit(
        &self,
        _engine: &dyn Engine,
        actions: KernelResultIterator<'_, FilteredEngineData>,
        metadata: CommitMetadata,
    ) -> KernelResult<CommitResponse> {
        let entry = Bytes::from(entry_of(&to_json_bytes(actions)?, &self.tags, self.removed_ms)?);
        let size = entry.len() as u64;
        self.entry_bytes.store(size, Ordering::Relaxed);
        let location = metadata.published_commit_path()?;
        let path = Path::from_url_path(location.path())?;
        let created = create_entry(&self.executor, Arc::clone(&self.store), path, entry);
        if created.map_err(KernelError::ObjectStore)? {
            let file_meta = FileMeta::new(location, metadata.in_commit_timestamp(), size);
            Ok(CommitResponse::Committed { file_meta })
        } else {
            Ok(CommitResponse::Conflict { version: metadata.version() })
        }
    }

    fn is_catalog_committer(&self) -> bool {
        false
    }

    fn publish(&self, _engine: &dyn Engine, _metadata: PublishMetadata) -> KernelResult<()> {
        Ok(())
    }
}

/// The kernel's actions with our three changes: see the module.
fn entry_of(
    actions: &[u8],
    tags: &HashMap<String, Value>,
    removed_ms: i64,
) -> KernelResult<Vec<u8>> {
    let mut entry = Vec::with_capacity(actions.len() + 128 * tags.len());
    let lines = actions.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for line in lines {
        let mut action: Value = serde_json::from_slice(line)?;
        if let Some(txn) = action.get_mut("txn").and_then(Value::as_object_mut) {
            txn.remove("lastUpdated");
        }
        if let Some(add) = action.get_mut("add").and_then(Value::as_object_mut) {
            let path = add.get("path").and_then(Value::as_str).unwrap_or_default();
            if let Some(tags) = tags.get(path) {
                add.insert("tags".to_owned(), tags.clone());
            }
        }
        if let Some(remove) = action.get_mut("remove").and_then(Value::as_object_mut) {
            remove.insert("deletionTimestamp".to_owned(), json!(removed_ms));
        }
        serde_json::to_writer(&mut entry, &action)?;
        entry.push(b'\n');
    }
    Ok(entry)
}

/// Creates the entry at `path`; `true` where it is ours, `false` where another stands there.
///
/// Whatever the store answers to a create that was not a plain success, the entry is read: the
/// store's memory decides, not its reply.
fn create_entry(
    executor: &Arc<TokioMultiThreadExecutor>,
    store: Arc<DynObjectStore>,
    path: Path,
    entry: Bytes,
) -> object_store::Result<bool> {
    executor.block_on(async move {
        let mut attempt = 1;
        loop {
            let options = PutOptions::from(PutMode::Create);
            let Err(refused) = store.put_opts(&path, entry.clone().into(), options).await else {
                return Ok(true);
            };
            let found = match store.get(&path).await {
                Ok(found) => Some(found.bytes().await?),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(_) => return Err(refused),
            };
            match found {
                Some(found) => return Ok(found == entry),
                None if matches!(refused, object_store::Error::AlreadyExists { .. })
                    && attempt < CREATE_ATTEMPTS =>
                {
                    attempt += 1;
                }
                None => return Err(refused),
            }
        }
    })
}

/// Entry 0: protocol, schema, properties.
fn first_entry(now_ms: i64) -> Vec<u8> {
    let schema = StructType::try_from_arrow(wide_schema().as_ref())
        .expect("the wide schema has only types that Delta has");
    let schema = serde_json::to_string(&schema).expect("a schema of plain types is JSON");
    let actions = [
        json!({"commitInfo": {
            "timestamp": now_ms, "operation": "CREATE TABLE", "operationParameters": {},
            "engineInfo": ENGINE_INFO, "txnId": Uuid::new_v4().to_string(),
        }}),
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        json!({"metaData": {
            "id": Uuid::new_v4().to_string(),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema,
            "partitionColumns": PARTITION_COLUMNS,
            "configuration": {
                FORMAT_PROPERTY: FORMAT.to_string(),
                "delta.dataSkippingStatsColumns": STATS_COLUMNS.join(","),
                "delta.checkpointInterval": CHECKPOINT_ENTRIES.to_string(),
            },
            "createdTime": now_ms,
        }}),
    ];
    actions.iter().flat_map(|action| format!("{action}\n").into_bytes()).collect()
}

/// Offsets of every partition: the newest `txn` of each application id.
pub(super) fn fold_offsets(
    dir: &FsPath,
    engine: &dyn Engine,
    snapshot: &SnapshotRef,
) -> Result<HashMap<String, i64>, TableError> {
    let failed = |source| TableError::log(dir, source);
    let mut offsets = HashMap::new();
    let actions = snapshot.log_segment().read_actions(engine, LOG_TXN_SCHEMA.clone());
    for batch in actions.map_err(failed)? {
        let batch = batch.map_err(failed)?.actions.try_into_record_batch().map_err(failed)?;
        take_newest(&batch, &mut offsets);
    }
    Ok(offsets)
}

/// Adds the ids that are not known yet: batches come newest first. Within an entry an id occurs
/// once.
fn take_newest(batch: &RecordBatch, offsets: &mut HashMap<String, i64>) {
    let Some(txn) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else {
        return;
    };
    let (Some(ids), Some(versions)) = (txn.column_by_name("appId"), txn.column_by_name("version"))
    else {
        return;
    };
    let (ids, versions) = (ids.as_string::<i32>(), versions.as_primitive::<Int64Type>());
    for row in (0..batch.num_rows()).filter(|row| txn.is_valid(*row) && ids.is_valid(*row)) {
        offsets.entry(ids.value(row).to_owned()).or_insert_with(|| versions.value(row));
    }
}

/// Refuses tables that would be read wrongly, or whose offsets could vanish.
pub(super) fn refuse_what_we_cannot_read(
    dir: &FsPath,
    snapshot: &Snapshot,
) -> Result<(), TableError> {
    let configuration = snapshot.table_configuration();
    let protocol = configuration.protocol();
    if protocol.min_reader_version() > 1 {
        let (version, features) = (protocol.min_reader_version(), protocol.reader_features());
        let found = format!("reader version {version} with the features {features:?}");
        return Err(TableError::Unsupported { path: dir.to_owned(), found });
    }
    if !configuration.metadata().configuration().contains_key(FORMAT_PROPERTY) {
        return Err(TableError::Foreign { path: dir.to_owned() });
    }
    if snapshot.table_properties().set_transaction_retention_duration.is_some() {
        let found = "the property delta.setTransactionRetentionDuration, which would let offsets \
                     expire; unset it"
            .to_owned();
        return Err(TableError::Unsupported { path: dir.to_owned(), found });
    }
    Ok(())
}

/// Whether the log under `dir` has an entry or a checkpoint.
fn has_entry(dir: &FsPath) -> Result<bool, TableError> {
    Ok(log_names(dir)?.iter().any(|name| is_entry(name)))
}

/// The newest checkpoint by the list of files: `_last_checkpoint` may be set back by a writer
/// that slept.
fn newest_checkpoint(dir: &FsPath) -> Result<Option<u64>, TableError> {
    let names = log_names(dir)?;
    let checkpoints = names.iter().filter(|name| is_entry(name) && !name.ends_with(".json"));
    Ok(checkpoints.filter_map(|name| name[..20].parse().ok()).max())
}

/// The names of the files of the log; none where there is no log.
fn log_names(dir: &FsPath) -> Result<Vec<String>, TableError> {
    let log = dir.join("_delta_log");
    let failed = |source| TableError::io("list", &log, source);
    let files = match std::fs::read_dir(&log) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        Ok(file.map_err(failed)?.file_name().to_string_lossy().into_owned())
    };
    files.map(name).collect()
}

/// Whether a name is 20 digits and `.json` or `.checkpoint….parquet`.
pub(super) fn is_entry(name: &str) -> bool {
    let (version, rest) = name.split_at_checked(20).unwrap_or_default();
    version.len() == 20
        && version.bytes().all(|byte| byte.is_ascii_digit())
        && (rest == ".json" || (rest.starts_with(".checkpoint") && rest.ends_with(".parquet")))
}

fn entry_name(version: u64) -> String {
    format!("{version:020}.json")
}

pub(super) fn log_path(dir: &FsPath, name: &str) -> Result<Path, TableError> {
    let path = dir.join("_delta_log").join(name);
    Path::from_absolute_path(&path)
        .map_err(|_| TableError::FilePath { found: path.display().to_string() })
}

pub(super) fn parsed(line: &[u8]) -> Option<Value> {
    serde_json::from_slice(line).ok()
}

/// The executor of every table of the process: two threads that only wait for the disk. They
/// live as long as the process, since a runtime must not end within another one.
fn executor(dir: &FsPath) -> Result<Arc<TokioMultiThreadExecutor>, TableError> {
    static RUNTIME: Mutex<Option<tokio::runtime::Runtime>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().expect("starting threads does not panic");
    if runtime.is_none() {
        let started = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("table")
            .enable_all()
            .build()
            .map_err(|source| TableError::io("start threads for", dir, source))?;
        *runtime = Some(started);
    }
    let handle = runtime.as_ref().expect("it was started above").handle().clone();
    Ok(Arc::new(TokioMultiThreadExecutor::new(handle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_names_are_told_from_others() {
        let entry = |name: &str| is_entry(name);
        assert!(entry("00000000000000000000.json"));
        assert!(entry("00000000000000000100.checkpoint.parquet"));
        assert!(!entry("00000000000000000000.json#123"));
        assert!(!entry("0000000000000000000.json"));
        assert!(!entry("_last_checkpoint"));
        assert!(!entry("00000000000000000000.crc"));
        assert!(!entry("ÄÄÄÄÄÄÄÄÄÄÄÄÄÄ.json"));
    }

    #[test]
    fn an_entry_keeps_offsets_forever_and_names_the_hash_of_its_files() {
        let actions = br#"{"txn":{"appId":"p","version":7,"lastUpdated":1}}
{"add":{"path":"a.parquet","size":1}}
{"add":{"path":"b.parquet","size":1}}
{"remove":{"path":"c.parquet","deletionTimestamp":1}}
"#;
        let tags = HashMap::from([("a.parquet".to_owned(), json!({"sha256": "00ff"}))]);
        let entry = String::from_utf8(entry_of(actions, &tags, 5).unwrap()).unwrap();
        let lines: Vec<Value> = entry.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0], json!({"txn": {"appId": "p", "version": 7}}));
        assert_eq!(lines[1]["add"]["tags"], json!({"sha256": "00ff"}));
        assert_eq!(lines[2]["add"].get("tags"), None);
        assert_eq!(lines[3]["remove"]["deletionTimestamp"], 5);
    }
}
