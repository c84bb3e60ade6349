//! The write-ahead log: what was sent to us, durable before it is acknowledged.
//!
//! A log is a folder `DIR/wal/<id>`, whose random id was made with it: an empty disk is a new
//! log, never an old one at offset 0. It is the partition `wal/<id>`, its offsets are numbers of
//! records. It holds `about.json` and *segments*, each a file of [frames](self::frame) named
//! `<number>-<first offset>.wal`. The format: `docs/format/wal.md`.
//!
//! - [`Wal::append`] queues a batch and waits. One thread writes what has queued up and syncs it
//!   once for all of them: then, and only then, they are acknowledged and can be read.
//! - After a write or a sync that failed the file is never written again: the next batch begins
//!   a new segment, whose first offset says where the one before really ended. So what was not
//!   acknowledged is void, whatever of it may have reached the disk.
//! - Opening reads all segments again. Damage is *set aside*: a second name keeps the file, its
//!   byte range is reported, reading goes on behind it.
//! - A segment is freed when all its records are committed in the table and it is past the
//!   idempotency horizon, if it holds keys, and the dedupe window.
//!
//! Invariants: what is readable is synced; an acknowledged record is read exactly once from any
//! offset at or before it, or lies in a reported range; offsets never go back, also behind the
//! table's own.

mod append;
pub mod frame;
mod keys;
mod open;
mod read;
mod recorded;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::failpoint;

pub use append::{Accepted, Refusal, SYNC_SECONDS};
pub use frame::{Batch, Frame, Piece, Records, Salt, encode, scan};
pub use open::{About, Folder, KEPT, Kind};
pub use read::{Read, Reader};
pub use recorded::Recorded;

/// What a log is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment that is longer takes no further frame.
    pub segment_bytes: u64,
    /// Most bytes that no commit has taken; more are refused.
    pub uncommitted_bytes_max: u64,
    /// Most bytes that wait for the disk or are being written; more are refused. One batch
    /// alone is always taken.
    pub queue_bytes_max: u64,
    /// For how long an idempotency key is known, in milliseconds.
    pub horizon_ms: i64,
    /// Keys are forgotten sooner where so many bytes came after them.
    pub horizon_bytes: u64,
    /// Keys are forgotten sooner where so many came after them: 60 bytes of memory each.
    pub keys_max: usize,
    /// How many committed records are kept for the dedupe window.
    pub keep_records: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            uncommitted_bytes_max: 1 << 30,
            queue_bytes_max: 32 << 20,
            horizon_ms: 24 * 3_600_000,
            horizon_bytes: 10 << 30,
            keys_max: 2_000_000,
            keep_records: 0,
        }
    }
}

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The world.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `about.json` is none of ours, or of a later version.
    #[error("{path}: {what}; move the folder away, or use the version that wrote it")]
    About {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl WalError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> WalError + use<'a> {
        move |source| WalError::Io { action, path: path.to_owned(), source }
    }
}

/// Bytes that could not be read, or records that are not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Bytes inside a segment that are no frame. The file is kept under a second name.
    #[error("{path}: bytes {} to {} are damaged and were set aside as {kept}{}",
        bytes.start, bytes.end, lost_text(records))]
    Bytes {
        /// The segment.
        path: PathBuf,
        /// Where.
        bytes: Range<u64>,
        /// Offsets that no frame has, as far as that can be told.
        records: Range<u64>,
        /// Name under which the file is kept.
        kept: String,
    },
    /// A frame at the end of the last segment whose writing did not end: it was never
    /// acknowledged.
    #[error("{path}: bytes {} to {} are a write that did not end, and were cut",
        bytes.start, bytes.end)]
    Torn {
        /// The segment.
        path: PathBuf,
        /// Where.
        bytes: Range<u64>,
    },
    /// Records that the table does not have, in no segment.
    #[error("{path}: records {} to {} are in no segment", records.start, records.end)]
    Missing {
        /// The log.
        path: PathBuf,
        /// Which.
        records: Range<u64>,
    },
}

fn lost_text(records: &Range<u64>) -> String {
    if records.is_empty() {
        return String::new();
    }
    format!("; records {} to {} are lost", records.start, records.end)
}

/// One file of a log, as far as it is durable.
#[derive(Clone, Debug)]
struct Segment {
    path: PathBuf,
    /// Offset of its first record.
    first: u64,
    /// Offset after its last.
    next: u64,
    /// How many of its bytes count.
    size_bytes: u64,
    /// When its newest batch arrived.
    time_ms: i64,
    /// Whether a frame of it has an idempotency key.
    keyed: bool,
}

/// What a log and its threads share.
struct Shared {
    folder: PathBuf,
    /// Holds the lock on the folder.
    _about: File,
    about: About,
    options: Options,
    state: Mutex<State>,
    /// Something was queued, became readable, or was closed.
    changed: Condvar,
}

/// What changes.
struct State {
    /// In their order; the last may be the one that is being written.
    segments: VecDeque<Segment>,
    /// The number of the next segment.
    number: u64,
    /// Offset after the last durable record.
    next: u64,
    /// How far the table has counted.
    committed: u64,
    /// Bytes of all segments so far, freed ones included.
    written_bytes: u64,
    /// What `written_bytes` was at some offsets that are not committed.
    marks: VecDeque<(u64, u64)>,
    /// What `written_bytes` was at the last mark that was committed.
    committed_bytes: u64,
    queue: append::Queue,
    /// When batches came that no reader has asked about, by the offset after them.
    received: VecDeque<(u64, Instant)>,
    keys: keys::Keys,
    /// Not asked for yet.
    damages: Vec<Damage>,
    /// All that was reported.
    known_damages: Vec<Damage>,
    figures: Figures,
    /// No batch is taken any more.
    closed: bool,
}

/// Figures for operators.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Of these, bytes that no commit has taken.
    pub uncommitted_bytes: u64,
    /// Idempotency keys that are known.
    pub keys: u64,
    /// How many reports of damage there were since the start.
    pub damages: u64,
    /// Writes or syncs that failed since the start.
    pub failures: u64,
    /// What the last write said, where it failed.
    pub failure: Option<String>,
    /// How many syncs took at most as long as [`SYNC_SECONDS`] says, each in the first place
    /// that fits; the last place is for longer ones.
    pub syncs: [u64; SYNC_SECONDS.len() + 1],
    /// How long all syncs took together.
    pub sync_seconds: f64,
}

/// A log that is open, locked for this process.
pub struct Wal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

/// So many times of arrival are kept apart: far more than there are between two looks of a reader.
const RECEIVED_MAX: usize = 4_096;

/// A mark at least so many bytes behind the last one: exact enough for a bound, and few.
const MARK_BYTES: u64 = 64 << 10;

impl State {
    fn uncommitted_bytes(&self) -> u64 {
        self.written_bytes - self.committed_bytes
    }

    /// Takes note that `written_bytes` reach up to an offset.
    fn mark(&mut self, next: u64) {
        let before = self.marks.len().checked_sub(2).map(|index| self.marks[index].1);
        let covered = self.written_bytes - before.unwrap_or(self.committed_bytes);
        if !self.marks.is_empty() && covered < MARK_BYTES {
            self.marks.pop_back();
        }
        self.marks.push_back((next, self.written_bytes));
    }

    /// Takes note of when the batches up to an offset came, the oldest of them.
    fn note_received(&mut self, next: u64, received: Instant) {
        if self.received.len() < RECEIVED_MAX {
            self.received.push_back((next, received));
        } else if let Some(last) = self.received.back_mut() {
            last.0 = next;
        }
    }

    /// Takes note of how far the table has counted.
    fn commit(&mut self, offset: u64) {
        self.committed = self.committed.max(offset);
        while let Some((next, bytes)) = self.marks.front().copied()
            && next <= self.committed
        {
            self.committed_bytes = bytes;
            self.marks.pop_front();
        }
    }

    /// The first segment, where nobody needs it any more. The last one is never freed: it says
    /// where the log ends.
    fn first_if_free(&self, options: &Options, now_ms: i64) -> Option<&Segment> {
        let segment = self.segments.front().filter(|_| self.segments.len() > 1)?;
        let newer_bytes: u64 = self.segments.iter().skip(1).map(|one| one.size_bytes).sum();
        let is_past = segment.time_ms.saturating_add(options.horizon_ms) < now_ms
            || newer_bytes >= options.horizon_bytes;
        let is_free = segment.next.saturating_add(options.keep_records) <= self.committed
            && (is_past || !segment.keyed);
        is_free.then_some(segment)
    }
}

impl Wal {
    /// The name of its partition.
    pub fn partition(&self) -> String {
        format!("wal/{}", self.shared.about.id)
    }

    /// What it is for.
    pub fn about(&self) -> &About {
        &self.shared.about
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// Figures for operators.
    pub fn figures(&self) -> Figures {
        let state = self.shared.lock();
        let mut figures = state.figures.clone();
        figures.bytes = state.segments.iter().map(|segment| segment.size_bytes).sum();
        figures.uncommitted_bytes = state.uncommitted_bytes();
        figures.keys = state.keys.count() as u64;
        figures
    }

    /// When the oldest batch came that nobody has asked about, of those that end at `next` or
    /// before; `None` where they came before the log was opened, or were asked about.
    pub fn received(&self, next: u64) -> Option<Instant> {
        let received = &mut self.shared.lock().received;
        let oldest = received.front().map(|(_, received)| *received);
        let mut asked = None;
        while received.front().is_some_and(|(end, _)| *end <= next) {
            (_, asked) = (received.pop_front(), oldest);
        }
        asked
    }

    /// The damage that was found since it was last asked for.
    pub fn take_damages(&self) -> Vec<Damage> {
        std::mem::take(&mut self.shared.lock().damages)
    }

    /// Takes note that the table has counted everything before `offset`, and frees what nobody
    /// needs any more. `now_ms` is the wall clock.
    ///
    /// # Errors
    /// A segment cannot be removed; it is tried again with the next call.
    pub fn committed(&self, offset: u64, now_ms: i64) -> Result<(), WalError> {
        let mut state = self.shared.lock();
        state.commit(offset);
        state.keys.forget_before(now_ms.saturating_sub(self.shared.options.horizon_ms));
        while let Some(segment) = state.first_if_free(&self.shared.options, now_ms) {
            failpoint::reach("wal.free");
            std::fs::remove_file(&segment.path).map_err(WalError::io("remove", &segment.path))?;
            state.segments.pop_front();
        }
        Ok(())
    }

    /// Takes no further batch. Readers end behind what is there.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }

    /// Whether the table has everything that the log holds.
    pub fn is_committed(&self) -> bool {
        let state = self.shared.lock();
        state.committed >= state.next
    }

    /// Removes the log for good, of which the table has everything. What was set aside stays,
    /// and the folder with it.
    ///
    /// # Errors
    /// A file cannot be removed.
    ///
    /// # Panics
    /// If the table does not have everything.
    pub fn remove(self) -> Result<(), WalError> {
        assert!(self.is_committed(), "what is not committed is not removed");
        self.close();
        let folder = self.folder().to_owned();
        let mut is_empty = true;
        let entries = std::fs::read_dir(&folder).map_err(WalError::io("list", &folder))?;
        for entry in entries {
            let path = entry.map_err(WalError::io("list", &folder))?.path();
            let is_kept = path.extension().is_some_and(|extension| extension == KEPT);
            is_empty &= !is_kept;
            if !is_kept {
                failpoint::reach("wal.remove");
                std::fs::remove_file(&path).map_err(WalError::io("remove", &path))?;
            }
        }
        if is_empty {
            std::fs::remove_dir(&folder).map_err(WalError::io("remove", &folder))?;
        }
        Ok(())
    }
}

impl Drop for Wal {
    /// Writes what was queued, and lets the folder go.
    fn drop(&mut self) {
        self.close();
        if let Some(writer) = self.writer.take() {
            // It ends with the queue; a panic of it was told where it happened.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
