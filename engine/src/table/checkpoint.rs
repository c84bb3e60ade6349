//! Checkpoints of the log: written, read back, found whole, and what lies below them cleaned up.
//!
//! A checkpoint is written every [`CHECKPOINT_ENTRIES`] entries, folded again from the file and
//! compared with the log; only then `_last_checkpoint` names it, with its hash, and with the one
//! verified before it and that one's hash. Opening hashes the newest checkpoint and builds on the
//! one before where it is not what was verified, or does not decode: so a checkpoint that was
//! torn, cut or flipped costs a few more entries to read, and never a wrong number. A checkpoint
//! of another program has no hash with us; it is believed if all of it decodes.
//!
//! Entries go only below the older of the two verified checkpoints, after both were found whole
//! once more, oldest first, so that what is left never has a hole: see [`Log::clean`].

use std::collections::HashMap;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::{Engine, KernelError, KernelResult};
use delta_kernel_default_engine::executor::TaskExecutor;
use object_store::ObjectStoreExt;
use serde_json::json;

use super::error::TableError;
use super::log::{
    CHECKPOINT_ENTRIES, Log, LogReader, Opened, TableEngine, fold_offsets, is_entry, log_path,
    parsed, refuse_what_we_cannot_read,
};
use super::scan::sha256_hex;
use super::store::modified_ms;
use crate::failpoint;
use crate::time::MINUTE_MS;

/// What names the newest checkpoint.
const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// Entries kept below the older verified checkpoint, at least: what a slow reader may lag.
const KEPT_ENTRIES: u64 = 2_000;

/// The same in time.
const KEPT_MS: i64 = 6 * 60 * MINUTE_MS;

/// Files of the log removed at once, at most.
const CLEANED_MAX: usize = 1_000;

/// A checkpoint that was compared with its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub version: u64,
    /// Hex of the hash of the file.
    pub sha256: String,
}

/// What `_last_checkpoint` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastCheckpoint {
    pub version: u64,
    /// The checkpoints that we verified: the newest, unless another program wrote it, and the
    /// one before.
    pub verified: Vec<Verified>,
}

impl LastCheckpoint {
    fn sha256(&self, version: u64) -> Option<&str> {
        let known = self.verified.iter().find(|verified| verified.version == version);
        known.map(|verified| verified.sha256.as_str())
    }
}

/// What `_last_checkpoint` says; `None` where it is not there or says nothing that we know.
pub(super) fn last_checkpoint(log: &LogReader<'_>) -> Result<Option<LastCheckpoint>, TableError> {
    let Some(hint) = log.read(LAST_CHECKPOINT)?.as_deref().and_then(parsed) else {
        return Ok(None);
    };
    let Some(version) = hint["version"].as_u64() else { return Ok(None) };
    let tags = &hint["tags"];
    let text = |name: &str| tags[name].as_str();
    let newest = text("sha256").map(|sha256| (version, sha256));
    let previous = text("previousVersion").and_then(|version| version.parse().ok());
    let previous = previous.zip(text("previousSha256"));
    let verified = newest.into_iter().chain(previous);
    let verified =
        verified.map(|(version, sha256)| Verified { version, sha256: sha256.to_owned() });
    Ok(Some(LastCheckpoint { version, verified: verified.collect() }))
}

/// The names in `_delta_log`, sorted out.
#[derive(Debug, Default)]
struct Listing {
    /// Versions of entries, rising.
    entries: Vec<u64>,
    /// Versions of checkpoints, rising, each once.
    checkpoints: Vec<u64>,
}

impl Listing {
    fn of(dir: &FsPath) -> Result<Listing, TableError> {
        let log = dir.join("_delta_log");
        let failed = |source| TableError::io("list", &log, source);
        let mut listing = Listing::default();
        for file in std::fs::read_dir(&log).map_err(failed)? {
            let name = file.map_err(failed)?.file_name();
            listing.take(&name.to_string_lossy());
        }
        listing.entries.sort_unstable();
        listing.checkpoints.sort_unstable();
        listing.checkpoints.dedup();
        Ok(listing)
    }

    fn take(&mut self, name: &str) {
        if !is_entry(name) {
            return;
        }
        let version = name[..20].parse().expect("the name of an entry begins with 20 digits");
        let of = if name.ends_with(".json") { &mut self.entries } else { &mut self.checkpoints };
        of.push(version);
    }

    /// The first version above a checkpoint, or from 0 on, of which the entry is missing though
    /// later ones are there.
    fn hole_above(&self, checkpoint: Option<u64>) -> Option<u64> {
        let first = checkpoint.map_or(0, |version| version + 1);
        let above = self.entries.partition_point(|version| *version < first);
        let mut expected = (first..).zip(&self.entries[above..]);
        expected.find(|(expected, found)| expected != *found).map(|(hole, _)| hole)
    }
}

/// Folds the log to its newest version, from the newest checkpoint that is whole.
pub(super) fn open_snapshot(
    log: &LogReader<'_>,
    engine: &TableEngine,
) -> Result<Opened, TableError> {
    let listing = Listing::of(log.dir)?;
    let hint = last_checkpoint(log)?;
    let mut failure = None;
    let bases = listing.checkpoints.iter().rev().map(|version| Some(*version)).chain([None]);
    for base in bases {
        if base.is_none() && failure.is_some() && listing.entries.first() != Some(&0) {
            break;
        }
        let known = base.and_then(|version| hint.as_ref()?.sha256(version).map(str::to_owned));
        if let (Some(version), Some(sha256)) = (base, &known)
            && !is_whole(log, version, sha256)?
        {
            failure.get_or_insert(TableError::Checkpoint { path: log.dir.to_owned(), version });
            continue;
        }
        if let Some(version) = listing.hole_above(base) {
            return Err(TableError::LogHole { path: log.dir.to_owned(), version });
        }
        let is_newest = base == listing.checkpoints.last().copied();
        let plainly = is_newest && hint.as_ref().is_none_or(|hint| Some(hint.version) <= base);
        let verified = base.zip(known).map(|(version, sha256)| Verified { version, sha256 });
        match open_above(log, engine, base, plainly, verified) {
            Ok(opened) => return Ok(opened),
            Err(error @ (TableError::Unsupported { .. } | TableError::Foreign { .. })) => {
                return Err(error);
            }
            Err(error) => drop(failure.get_or_insert(error)),
        }
    }
    Err(failure.expect("a log is tried from its begin at least"))
}

/// Folds the log from one checkpoint. `plainly`: the kernel would choose this one by itself.
fn open_above(
    log: &LogReader<'_>,
    engine: &TableEngine,
    base: Option<u64>,
    plainly: bool,
    verified: Option<Verified>,
) -> Result<Opened, TableError> {
    let failed = |source| TableError::log(log.dir, source);
    let snapshot = if plainly {
        Snapshot::builder_for(log.url.as_str()).build(engine).map_err(failed)?
    } else {
        let start = Snapshot::builder_for(log.url.as_str()).at_version(base.unwrap_or(0));
        let start = start.build(engine).map_err(failed)?;
        Snapshot::builder_from(start).skip_new_checkpoints().build(engine).map_err(failed)?
    };
    refuse_what_we_cannot_read(log.dir, &snapshot)?;
    let offsets = fold_offsets(log.dir, engine, &snapshot)?;
    if base.is_some() && verified.is_none() {
        decode_whole(&snapshot, engine).map_err(failed)?;
    }
    Ok(Opened { snapshot, offsets, checkpoint: base, verified })
}

/// Reads all that a checkpoint holds, of which no hash is known.
fn decode_whole(snapshot: &SnapshotRef, engine: &TableEngine) -> KernelResult<()> {
    let scan = Arc::clone(snapshot).scan_builder().build()?;
    scan.scan_metadata(engine)?.try_for_each(|part| part.map(drop))
}

fn checkpoint_name(version: u64) -> String {
    format!("{version:020}.checkpoint.parquet")
}

/// Whether the file of a checkpoint is what was verified.
fn is_whole(log: &LogReader<'_>, version: u64, sha256: &str) -> Result<bool, TableError> {
    let bytes = log.read(&checkpoint_name(version))?;
    Ok(bytes.is_some_and(|bytes| sha256_hex(&bytes) == sha256))
}

impl Log {
    /// Writes a checkpoint of the log if one is due: see the module.
    pub fn checkpoint_if_due(&mut self) -> Result<(), TableError> {
        let version = self.version();
        if version.saturating_sub(self.checkpoint.unwrap_or(0)) < CHECKPOINT_ENTRIES {
            return Ok(());
        }
        let newest = last_checkpoint(&self.reader())?;
        let newer = newest.as_ref().filter(|newest| newest.version > self.checkpoint.unwrap_or(0));
        if let Some(newest) = newer
            && let Some(sha256) = newest.sha256(newest.version)
            && is_whole(&self.reader(), newest.version, sha256)?
        {
            // Another writer was first.
            let sha256 = sha256.to_owned();
            self.checkpoint = Some(newest.version);
            self.verified = Some(Verified { version: newest.version, sha256 });
            return self.checkpoint_if_due();
        }
        let name = checkpoint_name(version);
        let actions = self.write_checkpoint()?;
        let reread = self.read_back(version);
        let Some((snapshot, bytes)) = reread? else {
            self.remove_log_file(&name)?;
            return Err(TableError::Checkpoint { path: self.dir.clone(), version });
        };
        let verified = Verified { version, sha256: sha256_hex(&bytes) };
        if newest.is_none_or(|newest| newest.version < version) {
            self.name_checkpoint(&verified, actions, bytes.len())?;
        }
        self.snapshot = snapshot;
        self.checkpoint = Some(version);
        self.verified = Some(verified);
        Ok(())
    }

    /// Writes the checkpoint of this version, which nothing names yet; how many actions it has.
    fn write_checkpoint(&self) -> Result<u64, TableError> {
        let failed = |source| TableError::log(&self.dir, source);
        let engine: &dyn Engine = self.engine.as_ref();
        failpoint::reach("checkpoint");
        let writer = Arc::clone(&self.snapshot).create_checkpoint_writer(engine);
        let writer = writer.map_err(failed)?;
        let (path, data) = (writer.checkpoint_path(), writer.checkpoint_data(engine));
        let (path, data) = (path.map_err(failed)?, data.map_err(failed)?);
        let actions = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&actions);
        let data = data.map(move |part| {
            let part = part?.apply_selection_vector()?;
            counter.fetch_add(part.len() as u64, Ordering::Relaxed);
            Ok(part)
        });
        let written = engine.parquet_handler().write_parquet_file(path, Box::new(data));
        written.map_err(|source| TableError::CheckpointWrite {
            path: self.dir.join("_delta_log").join(checkpoint_name(self.version())),
            source: Box::new(source),
        })?;
        failpoint::reach("checkpoint.written");
        Ok(actions.load(Ordering::Relaxed))
    }

    /// Folds the log from the checkpoint of `version` and reads its bytes; `None` where it does
    /// not say what the log says.
    fn read_back(&self, version: u64) -> Result<Option<(SnapshotRef, Bytes)>, TableError> {
        let failed = |source| TableError::log(&self.dir, source);
        let reread = Snapshot::builder_for(self.url.as_str())
            .at_version(version)
            .build(self.engine.as_ref())
            .map_err(failed)?;
        let is_built_on_it = reread.log_segment().checkpoint_version == Some(version);
        let offsets = fold_offsets(&self.dir, self.engine.as_ref(), &reread)?;
        let files = self.live_files_of(&reread)?;
        let bytes = self.reader().read(&checkpoint_name(version))?;
        let same = is_built_on_it && offsets == self.offsets && files == self.live_files()?;
        Ok(bytes.filter(|_| same).map(|bytes| (reread, bytes)))
    }

    /// Puts `_last_checkpoint`: the kernel's keys, and ours as tags.
    fn name_checkpoint(
        &self,
        verified: &Verified,
        actions: u64,
        size: usize,
    ) -> Result<(), TableError> {
        let mut tags = HashMap::from([("sha256", verified.sha256.clone())]);
        if let Some(previous) = &self.verified {
            tags.insert("previousVersion", previous.version.to_string());
            tags.insert("previousSha256", previous.sha256.clone());
        }
        let hint = json!({
            "version": verified.version, "size": actions, "sizeInBytes": size, "tags": tags,
        });
        let path = log_path(&self.dir, LAST_CHECKPOINT)?;
        let (store, hint) = (Arc::clone(&self.store), Bytes::from(hint.to_string()));
        let put = self.executor.block_on(async move { store.put(&path, hint.into()).await });
        put.map(drop).map_err(|source| TableError::log(&self.dir, KernelError::ObjectStore(source)))
    }

    fn remove_log_file(&self, name: &str) -> Result<(), TableError> {
        let path = log_path(&self.dir, name)?;
        let store = Arc::clone(&self.store);
        match self.executor.block_on(async move { store.delete(&path).await }) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(TableError::log(&self.dir, KernelError::ObjectStore(source))),
        }
    }

    /// Removes entries and checkpoints that nobody needs any more, oldest first, and says how
    /// many; at most [`CLEANED_MAX`] at once.
    ///
    /// Kept are the two verified checkpoints, all entries above the older one, and below it
    /// [`KEPT_ENTRIES`] or those of [`KEPT_MS`], whichever is more. Nothing goes where there are
    /// no two, or one of them is not whole.
    pub fn clean(&self) -> Result<usize, TableError> {
        let Some(hint) = last_checkpoint(&self.reader())? else { return Ok(0) };
        let [newest, previous] = &hint.verified[..] else { return Ok(0) };
        let listing = Listing::of(&self.dir)?;
        let count_floor = previous.version.saturating_sub(KEPT_ENTRIES);
        let log = self.dir.join("_delta_log");
        let written_ms = |name: &str| {
            let path = log.join(name);
            modified_ms(&path).map_err(|source| TableError::io("read the time of", &path, source))
        };
        if listing.entries.first().is_none_or(|first| *first >= count_floor)
            || !is_whole(&self.reader(), newest.version, &newest.sha256)?
            || !is_whole(&self.reader(), previous.version, &previous.sha256)?
        {
            return Ok(0);
        }
        let kept_from_ms = written_ms(&checkpoint_name(previous.version))? - KEPT_MS;
        let mut removed = 0;
        let below = listing.entries.iter().take_while(|version| **version < count_floor);
        for version in below.take(CLEANED_MAX) {
            let name = format!("{version:020}.json");
            if written_ms(&name)? >= kept_from_ms {
                break;
            }
            failpoint::reach("cleanup.delete");
            self.remove_log_file(&name)?;
            removed += 1;
        }
        let old = listing.checkpoints.iter().take_while(|version| **version < previous.version);
        for version in old.take(CLEANED_MAX) {
            failpoint::reach("cleanup.delete");
            self.remove_log_file(&checkpoint_name(*version))?;
            removed += 1;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_an_entry_that_later_ones_outlive() {
        let check = |entries: &[u64], checkpoint: Option<u64>, expect: Option<u64>| {
            let listing = Listing { entries: entries.to_vec(), checkpoints: vec![] };
            assert_eq!(listing.hole_above(checkpoint), expect, "{entries:?} above {checkpoint:?}");
        };
        check(&[0, 1, 2], None, None);
        check(&[0, 2], None, Some(1));
        check(&[1, 2], None, Some(0));
        check(&[], None, None);
        check(&[56, 58, 59], Some(55), Some(57));
        check(&[56, 58, 59], Some(58), None);
        // Put by a writer that slept, where others had cleaned up.
        check(&[3, 101, 102], Some(100), None);
        check(&[3, 102], Some(100), Some(101));
        check(&[99, 100], Some(100), None);
    }
}
