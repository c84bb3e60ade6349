//! The Delta log: which files are live, how far each partition was counted, and how that moves.
//!
//! An entry `_delta_log/<20 digits>.json` is created where none is, by the kernel through
//! [`EntryCommitter`], which differs from the kernel's own committer in three things:
//! - A create that fails is followed by a read of the entry: the same bytes mean that it landed
//!   and only the reply was lost. Each entry carries a random `txnId`, so another writer's entry
//!   never has the same bytes.
//! - `txn` actions lose `lastUpdated`, so that no retention setting ever expires an offset.
//! - `add` actions gain the tag `sha256`, the hash of the file, so that a reader can tell a
//!   flipped bit from a count.
//!
//! Invariants: `offsets` are those of `snapshot`, always. The log is listed once, on opening;
//! after that the snapshot is advanced, by our own entry or from the version that it has.
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
use delta_kernel::actions::LOG_TXN_SCHEMA;
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

use super::error::{CommitError, TableError};
use super::live::LiveFile;
use super::protocol::{Appended, LogStore, Move, Seen};
use super::schema::{PARTITION_COLUMNS, STATS_COLUMNS, wide_schema};
use crate::failpoint;

/// What names the writer in `commitInfo`.
pub(crate) const ENGINE_INFO: &str = concat!("ninefold/", env!("CARGO_PKG_VERSION"));

/// The property that says which version of `docs/format/table.md` a table follows.
const FORMAT_PROPERTY: &str = "ninefold.format";

/// The newest value of [`FORMAT_PROPERTY`] that this version writes.
const FORMAT: u32 = 1;

/// Entries between checkpoints of the log: with a hundred, opening takes milliseconds, and a
/// checkpoint costs less than a hundredth of the commits that it follows.
const CHECKPOINT_ENTRIES: u64 = 100;

/// How often a create that is refused for an entry that is not there is tried: some object
/// stores answer so while two creates race.
const CREATE_ATTEMPTS: u32 = 3;

/// A data file that was written and is not in the log yet.
pub(crate) struct Add {
    /// Relative to the table, as the log has it.
    pub path: String,
    /// Hex of the hash of the whole file.
    pub sha256: String,
    /// One row: what the kernel's `add_files` takes.
    pub batch: RecordBatch,
}

/// What one entry says.
pub(crate) struct Entry<'a> {
    /// The files that come.
    pub adds: &'a [Add],
    /// How far each partition was counted.
    pub moves: &'a [Move],
    /// What made it, for people; may be empty.
    pub info: &'a str,
    /// The process that writes it.
    pub instance: &'a str,
    /// What tells it from every other entry.
    pub commit: &'a str,
}

/// How far back the log is searched for who moved a partition.
const MOVER_ENTRIES_MAX: u64 = 200;

/// One table's log at one version. See the module.
pub(crate) struct Log {
    dir: PathBuf,
    url: Url,
    store: Arc<DynObjectStore>,
    executor: Arc<TokioMultiThreadExecutor>,
    engine: Arc<DefaultEngine<TokioMultiThreadExecutor>>,
    snapshot: SnapshotRef,
    offsets: HashMap<String, i64>,
    /// The version of the newest log checkpoint, as of the last confirmed commit.
    checkpoint: Option<u64>,
    /// The log behind an entry that was put and not confirmed yet.
    posted: Option<SnapshotRef>,
    /// How large the last entry was that was put.
    entry_bytes: Arc<AtomicU64>,
}

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
        let snapshot = Snapshot::builder_for(url.as_str())
            .build(engine.as_ref())
            .map_err(|source| TableError::log(&dir, source))?;
        refuse_what_we_cannot_read(&dir, &snapshot)?;
        let offsets = fold_offsets(&dir, engine.as_ref(), &snapshot)?;
        let (posted, entry_bytes) = (None, Arc::default());
        let mut log = Log {
            dir,
            url,
            store,
            executor,
            engine,
            snapshot,
            offsets,
            checkpoint: None,
            posted,
            entry_bytes,
        };
        log.checkpoint = log.last_checkpoint()?;
        Ok(Some(log))
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

    /// Refuses a table of a newer format than this version writes.
    pub fn check_writable(&self) -> Result<(), CommitError> {
        let configuration = self.snapshot.table_configuration().metadata().configuration();
        let found = configuration.get(FORMAT_PROPERTY).cloned().unwrap_or_default();
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
    pub fn refresh(&mut self) -> Result<bool, TableError> {
        let newest = Snapshot::builder_from(Arc::clone(&self.snapshot))
            .build(self.engine.as_ref())
            .map_err(|source| TableError::log(&self.dir, source))?;
        if newest.version() == self.snapshot.version() {
            return Ok(false);
        }
        refuse_what_we_cannot_read(&self.dir, &newest)?;
        self.offsets = fold_offsets(&self.dir, self.engine.as_ref(), &newest)?;
        self.snapshot = newest;
        Ok(true)
    }

    /// Tries to create the entry after this version. This stays at its version until
    /// [`Log::confirm`] has read it back.
    fn append(&mut self, entry: &Entry<'_>) -> Result<Appended, CommitError> {
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

    fn try_append(&self, entry: &Entry<'_>) -> KernelResult<CommitResult> {
        let Entry { adds, moves, info, instance, commit } = entry;
        let committer = EntryCommitter {
            store: Arc::clone(&self.store),
            executor: Arc::clone(&self.executor),
            hashes: adds.iter().map(|add| (add.path.clone(), add.sha256.clone())).collect(),
            entry_bytes: Arc::clone(&self.entry_bytes),
        };
        let parameters = [("info", info), ("instance", instance), ("commit", commit)];
        let parameters = parameters.map(|(name, value)| (name, Some(*value)));
        let mut builder = Arc::clone(&self.snapshot)
            .update_table(UpdateTableOperation::StreamingUpdate, ENGINE_INFO, true)
            .with_operation_parameters(parameters.into_iter().filter(|one| one.1 != Some("")));
        for Move { partition, next, .. } in *moves {
            let next = i64::try_from(*next).expect("the moves of an epoch were validated");
            builder = builder.with_transaction_id(partition, next);
        }
        let mut transaction = builder.build(self.engine.as_ref(), Box::new(committer))?;
        for add in *adds {
            transaction.add_files(Box::new(ArrowEngineData::new(add.batch.clone())));
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
        self.checkpoint = newest_checkpoint(&self.dir)?;
        if self.checkpoint.is_some_and(|checkpoint| checkpoint > version) {
            self.refresh()?;
            return Ok(Seen::Covered);
        }
        let entry = self.read_log_file(&entry_name(version))?.unwrap_or_default();
        let is_ours = parameter_of(&entry, "commit").is_some_and(|found| found == commit);
        match posted.filter(|_| is_ours && self.version() + 1 == version) {
            // The offsets as they read back from the store, not as meant.
            Some(snapshot) => {
                self.snapshot = snapshot;
                self.offsets.extend(moves_of(&entry));
            }
            None => drop(self.refresh()?),
        }
        Ok(if is_ours { Seen::Ours } else { Seen::Other })
    }

    /// The instance that moved a partition to where it stands, where the log still says so.
    pub fn mover_of(&self, partition: &str) -> Option<String> {
        let newest = self.version();
        for version in (newest.saturating_sub(MOVER_ENTRIES_MAX)..=newest).rev() {
            let entry = self.read_log_file(&entry_name(version)).ok()??;
            if moves_of(&entry).any(|(moved, _)| moved == partition) {
                return parameter_of(&entry, "instance");
            }
        }
        None
    }

    /// The version that `_last_checkpoint` names.
    fn last_checkpoint(&self) -> Result<Option<u64>, TableError> {
        let hint = self.read_log_file("_last_checkpoint")?;
        Ok(hint.and_then(|hint| parsed(&hint)).and_then(|hint| hint["version"].as_u64()))
    }

    fn read_log_file(&self, name: &str) -> Result<Option<Bytes>, TableError> {
        let path = log_path(&self.dir, name)?;
        match read(&self.executor, Arc::clone(&self.store), path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(TableError::log(&self.dir, KernelError::ObjectStore(error))),
        }
    }

    /// Writes a checkpoint of the log if one is due, and reads it back against the log.
    pub fn checkpoint_if_due(&mut self) -> Result<(), TableError> {
        if self.version().saturating_sub(self.checkpoint.unwrap_or(0)) < CHECKPOINT_ENTRIES {
            return Ok(());
        }
        let failed = |source| TableError::log(&self.dir, source);
        let before = self.live_paths()?;
        failpoint::reach("checkpoint");
        let (_, with_checkpoint) =
            self.snapshot.checkpoint(self.engine.as_ref(), None).map_err(failed)?;
        failpoint::reach("checkpoint.written");
        let reread = Snapshot::builder_for(self.url.as_str())
            .at_version(self.version())
            .build(self.engine.as_ref())
            .map_err(failed)?;
        let offsets = fold_offsets(&self.dir, self.engine.as_ref(), &reread)?;
        self.snapshot = with_checkpoint;
        if offsets != self.offsets || self.live_paths()? != before {
            let (path, version) = (self.dir.clone(), self.version());
            return Err(TableError::Checkpoint { path, version });
        }
        self.checkpoint = Some(self.version());
        Ok(())
    }

    fn live_paths(&self) -> Result<Vec<String>, TableError> {
        Ok(self.live_files()?.into_iter().map(|file| file.path).collect())
    }

    /// The live files at this version, by grain, day and path.
    pub fn live_files(&self) -> Result<Vec<LiveFile>, TableError> {
        let failed = |source| TableError::log(&self.dir, source);
        let scan = Arc::clone(&self.snapshot)
            .scan_builder()
            .with_stats(StatsOptions::json_only())
            .without_row_transforms()
            .build()
            .map_err(failed)?;
        let mut files = Vec::new();
        for part in scan.scan_metadata(self.engine.as_ref()).map_err(failed)? {
            let (data, selected) = part.map_err(failed)?.scan_files.into_parts();
            let batch = data.try_into_record_batch().map_err(failed)?;
            LiveFile::read_all(&batch, &selected, &mut files)?;
        }
        files.sort_by(|a, b| (&a.grain, a.day, &a.path).cmp(&(&b.grain, b.day, &b.path)));
        Ok(files)
    }
}

/// An entry that is being committed: the log, as [`super::protocol`] sees it.
pub(crate) struct Attempt<'a> {
    pub log: &'a mut Log,
    pub entry: Entry<'a>,
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
    hashes: HashMap<String, String>,
    entry_bytes: Arc<AtomicU64>,
}

impl Committer for EntryCommitter {
    fn commit(
        &self,
        _engine: &dyn Engine,
        actions: KernelResultIterator<'_, FilteredEngineData>,
        metadata: CommitMetadata,
    ) -> KernelResult<CommitResponse> {
        let entry = Bytes::from(entry_of(&to_json_bytes(actions)?, &self.hashes)?);
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

/// The kernel's actions with our two changes: see the module.
fn entry_of(actions: &[u8], hashes: &HashMap<String, String>) -> KernelResult<Vec<u8>> {
    let mut entry = Vec::with_capacity(actions.len() + 128 * hashes.len());
    let lines = actions.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for line in lines {
        let mut action: Value = serde_json::from_slice(line)?;
        if let Some(txn) = action.get_mut("txn").and_then(Value::as_object_mut) {
            txn.remove("lastUpdated");
        }
        if let Some(add) = action.get_mut("add").and_then(Value::as_object_mut) {
            let path = add.get("path").and_then(Value::as_str).unwrap_or_default();
            if let Some(sha256) = hashes.get(path) {
                add.insert("tags".to_owned(), json!({ "sha256": sha256 }));
            }
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

fn read(
    executor: &Arc<TokioMultiThreadExecutor>,
    store: Arc<DynObjectStore>,
    path: Path,
) -> object_store::Result<Bytes> {
    executor.block_on(async move { store.get(&path).await?.bytes().await })
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
fn fold_offsets(
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
fn refuse_what_we_cannot_read(dir: &FsPath, snapshot: &Snapshot) -> Result<(), TableError> {
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
fn is_entry(name: &str) -> bool {
    let (version, rest) = name.split_at_checked(20).unwrap_or_default();
    version.len() == 20
        && version.bytes().all(|byte| byte.is_ascii_digit())
        && (rest == ".json" || (rest.starts_with(".checkpoint") && rest.ends_with(".parquet")))
}

fn entry_name(version: u64) -> String {
    format!("{version:020}.json")
}

/// The actions of an entry; what is no JSON is none.
fn actions(entry: &[u8]) -> impl Iterator<Item = Value> {
    entry.split(|byte| *byte == b'\n').filter_map(parsed)
}

/// Each application id that an entry moves, and where to.
fn moves_of(entry: &[u8]) -> impl Iterator<Item = (String, i64)> {
    actions(entry).filter_map(|action| {
        let txn = action.get("txn")?;
        Some((txn["appId"].as_str()?.to_owned(), txn["version"].as_i64()?))
    })
}

/// What an entry says in the parameters of its operation.
fn parameter_of(entry: &[u8], name: &str) -> Option<String> {
    actions(entry).find_map(|action| {
        let parameters = &action.get("commitInfo")?["operationParameters"];
        Some(parameters[name].as_str()?.to_owned())
    })
}

fn log_path(dir: &FsPath, name: &str) -> Result<Path, TableError> {
    let path = dir.join("_delta_log").join(name);
    Path::from_absolute_path(&path)
        .map_err(|_| TableError::FilePath { found: path.display().to_string() })
}

fn parsed(line: &[u8]) -> Option<Value> {
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
"#;
        let hashes = HashMap::from([("a.parquet".to_owned(), "00ff".to_owned())]);
        let entry = String::from_utf8(entry_of(actions, &hashes).unwrap()).unwrap();
        let lines: Vec<Value> = entry.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0], json!({"txn": {"appId": "p", "version": 7}}));
        assert_eq!(lines[1]["add"]["tags"], json!({"sha256": "00ff"}));
        assert_eq!(lines[2]["add"].get("tags"), None);
    }
}
