//! What can go wrong with the table, as a caller would act on it.
//!
//! Every message names the path and what would be right. A wrong number is never an answer:
//! whatever is missing, short, torn or written by others beyond what this version reads is an
//! error.

use std::path::{Path, PathBuf};

use delta_kernel::KernelError;
use parquet::errors::ParquetError;

use super::store::free_bytes;

/// Why the table could not be opened, refreshed or read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file system refused something.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was attempted, such as `read`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason given.
        source: std::io::Error,
    },
    /// The directory cannot create a file only where none is: commits would not be safe.
    #[error(
        "{path} does not honour create-if-absent ({found}); put the table on a file system with \
         hard links"
    )]
    NoCreateIfAbsent {
        /// The directory that was probed.
        path: PathBuf,
        /// What the probe met.
        found: String,
    },
    /// The first entry of the log could not be written.
    #[error("cannot create the table at {path}: {source}; free space or choose another directory")]
    Create {
        /// The directory of the table.
        path: PathBuf,
        /// The reason given.
        source: object_store::Error,
    },
    /// The log is torn, has a hole, or cannot be read.
    #[error("log of {path}: {source}; restore the missing entry from a copy of the table")]
    Log {
        /// The directory of the table.
        path: PathBuf,
        /// What the kernel said.
        source: Box<KernelError>,
    },
    /// An entry in the middle of the log is not there.
    #[error(
        "log hole at version {version} of {path}: the entry is missing and later ones are there; \
         restore it from a copy of the table"
    )]
    LogHole {
        /// The directory of the table.
        path: PathBuf,
        /// The first version that is missing.
        version: u64,
    },
    /// A checkpoint could not be written. Commits go on; only opening reads more of the log.
    #[error(
        "cannot write the checkpoint {path}: {source}; commits go on without it and the next one \
         tries again: free space or fix the disk"
    )]
    CheckpointWrite {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: Box<KernelError>,
    },
    /// A checkpoint that was just written reads back different from the log that it stands for.
    #[error(
        "checkpoint {version} of {path} read back different from its log and was removed again; \
         check the disk"
    )]
    Checkpoint {
        /// The directory of the table.
        path: PathBuf,
        /// The version of the checkpoint.
        version: u64,
    },
    /// A Delta table, but not one of ours.
    #[error(
        "{path} is a Delta table without the property ninefold.format; choose another directory"
    )]
    Foreign {
        /// The directory of the table.
        path: PathBuf,
    },
    /// The table demands what this version does not do.
    #[error("{path} needs {found}; this version reads reader version 1 and plain Parquet only")]
    Unsupported {
        /// The directory of the table.
        path: PathBuf,
        /// The protocol, feature or property that was found.
        found: String,
    },
    /// A file that the log names is not there.
    #[error("data file {path} is missing: the log names it; restore it from a copy of the table")]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file of the version that was asked is gone, and of the newest version it is no part:
    /// it was compacted or retained away, and then vacuumed.
    #[error("snapshot expired: version {version} names {path}, which was vacuumed; ask again")]
    SnapshotExpired {
        /// The file.
        path: PathBuf,
        /// The version that was asked.
        version: u64,
    },
    /// Files that the newest version names are not there.
    #[error("{} data files are missing, restore them from a copy: {}", paths.len(), named(paths))]
    FilesMissing {
        /// All of them.
        paths: Vec<PathBuf>,
    },
    /// A compaction would have changed a sum; nothing was committed.
    #[error(
        "compacting grain {grain} of {day} gave other sums than its files; they were left alone: \
         report this with the files"
    )]
    Sums {
        /// The grain.
        grain: &'static str,
        /// The day.
        day: String,
    },
    /// A file has another size than the log says.
    #[error(
        "data file {path} has {found} bytes and the log says {expected}; restore it from a copy"
    )]
    FileSize {
        /// The file.
        path: PathBuf,
        /// Bytes by the log.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// A file has other content than was written.
    #[error("data file {path} does not have the SHA-256 that the log says; restore it from a copy")]
    FileHash {
        /// The file.
        path: PathBuf,
    },
    /// The log names a file outside of the table.
    #[error("log names the data file {found:?}; it would be right relative and without \"..\"")]
    FilePath {
        /// The name in the log.
        found: String,
    },
    /// A data file cannot be decoded.
    #[error("data file {path}: {source}; restore it from a copy of the table")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: ParquetError,
    },
    /// A column that the grain does not have was asked for.
    #[error("grain {grain} has no column {column:?}")]
    Column {
        /// The grain.
        grain: &'static str,
        /// The name that was asked for.
        column: String,
    },
    /// A value that no version writes.
    #[error("column {column} of grain {grain} holds {found}; restore the table from a copy")]
    Value {
        /// The grain.
        grain: &'static str,
        /// The column.
        column: &'static str,
        /// What was found.
        found: String,
    },
}

/// The first of many files.
fn named(paths: &[PathBuf]) -> String {
    const NAMED_MAX: usize = 20;
    let shown = paths.iter().take(NAMED_MAX).map(|path| path.display().to_string());
    let more = if paths.len() > NAMED_MAX { ", …" } else { "" };
    shown.collect::<Vec<_>>().join(", ") + more
}

impl TableError {
    /// Whether it may pass by itself: the store is away, full or failing. What the table *says*
    /// (a hole in its log, a newer format, a damaged file) does not heal.
    pub fn may_heal(&self) -> bool {
        match self {
            TableError::Io { .. } | TableError::Create { .. } => true,
            TableError::Log { source, .. } => is_of_the_store(source),
            TableError::Parquet { source, .. } => io_error_in(source).is_some(),
            _ => false,
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> TableError {
        TableError::Io { doing, path: path.to_owned(), source }
    }

    pub(crate) fn log(path: &Path, source: KernelError) -> TableError {
        TableError::Log { path: path.to_owned(), source: Box::new(source) }
    }

    pub(crate) fn parquet(path: &Path, source: ParquetError) -> TableError {
        TableError::Parquet { path: path.to_owned(), source }
    }
}

/// Why an epoch did not become part of the table.
///
/// None of these leaves a part of the epoch visible. Its data files may stay behind as orphans
/// that no reader sees; they are never deleted here, since an unclear failure may have landed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another writer moved the partition: what was counted since `expected` is not ours to
    /// commit. Drop it, and count again from `found`.
    #[error(
        "fenced: {partition} moved {}->{} by {}; what was counted from there is dropped",
        shown(*expected), shown(*found), instance(by.as_deref())
    )]
    Fenced {
        /// The partition.
        partition: String,
        /// Where our counting began; `None` is "never counted".
        expected: Option<u64>,
        /// Where the table says it stands.
        found: Option<u64>,
        /// The instance that moved it there, where the log still says so.
        by: Option<String>,
    },
    /// The epoch contradicts itself.
    #[error("epoch: {found}")]
    Epoch {
        /// What was found, and what would be right.
        found: String,
    },
    /// A file or the entry could not be written; nothing of the epoch landed.
    #[error(
        "cannot write {path}{}: {source}; free space or fix the disk, then commit again",
        room(space)
    )]
    Write {
        /// What was written.
        path: PathBuf,
        /// The bytes that it takes and that are left, where the file system is full.
        space: Option<Space>,
        /// The reason given.
        source: object_store::Error,
    },
    /// Others committed so often that this epoch never came first.
    #[error("gave up after {attempts} conflicts with other writers; commit less often")]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// The table was written by a newer version: it may be read, not written.
    #[error(
        "{path} has ninefold.format {found} and this version writes {known}; use the newer \
         program to write"
    )]
    Newer {
        /// The directory of the table.
        path: PathBuf,
        /// The format of the table.
        found: String,
        /// The newest format of this version.
        known: u32,
    },
    /// The log could not be read.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl CommitError {
    /// Whether the same epoch may land later, with nothing done but waiting.
    pub fn may_heal(&self) -> bool {
        match self {
            CommitError::Write { .. } | CommitError::Contended { .. } => true,
            CommitError::Table(error) => error.may_heal(),
            CommitError::Fenced { .. } | CommitError::Epoch { .. } | CommitError::Newer { .. } => {
                false
            }
        }
    }

    /// A file of `needed_bytes` that could not be written.
    pub(crate) fn write(path: PathBuf, needed_bytes: u64, source: object_store::Error) -> Self {
        let room = || path.ancestors().find_map(free_bytes);
        let space = is_full(&source).then(room).flatten();
        let space = space.map(|free_bytes| Space { needed_bytes, free_bytes });
        CommitError::Write { path, space, source }
    }

    /// Whether the file system had no room.
    pub fn is_full(&self) -> bool {
        match self {
            CommitError::Write { source, .. } => is_full(source),
            CommitError::Table(error) => is_full(error),
            _ => false,
        }
    }
}

fn is_of_the_store(error: &KernelError) -> bool {
    match error {
        KernelError::Backtraced { source, .. } => is_of_the_store(source),
        KernelError::ObjectStore(_) | KernelError::IOError(_) => true,
        error => io_error_in(error).is_some(),
    }
}

/// A file system that has no room for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What the file takes.
    pub needed_bytes: u64,
    /// What is left to us, the reserve not among it.
    pub free_bytes: u64,
}

/// The error of the file system at the bottom of another one.
pub fn io_error_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|error| error.downcast_ref())
}

/// Whether an error says at its bottom that there is no room, or no more than a quota.
pub(crate) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    io_error_in(error).is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

fn room(space: &Option<Space>) -> String {
    space.map_or_else(String::new, |Space { needed_bytes, free_bytes }| {
        format!(" ({needed_bytes} bytes needed, {free_bytes} free)")
    })
}

fn shown(offset: Option<u64>) -> String {
    offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string())
}

fn instance(by: Option<&str>) -> String {
    by.map_or_else(|| "another instance".to_owned(), |id| format!("instance {id}"))
}
