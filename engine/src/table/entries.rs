//! What was added since a version: log entries read one by one, for who follows other writers.
//!
//! A reader that has folded the table at one version comes to a later one by adding the rows of
//! the entries between. Only files that change data count: compaction writes the same rows once
//! more. Such a file is read whether or not a later entry has removed it, so following and
//! compaction do not disturb each other, as long as the file has not been vacuumed.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::live::LiveFile;
use super::log::Log;
use super::schema::Grain;
use super::{Table, TableError};
use crate::delta;

/// What one entry says.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its version.
    pub version: u64,
    /// The process that made it, as [`Table::instance`] names it; empty where it does not say.
    pub instance: String,
    /// Each application id that moved, and where to.
    pub moves: Vec<(String, u64)>,
    /// The files with rows that no entry before had.
    pub files: Added,
}

/// Files that entries have added: a [`Filter`](super::Filter) may ask for these alone.
#[derive(Clone, Debug, Default)]
pub struct Added(Arc<Vec<LiveFile>>);

impl Added {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are rows of `grain` among them.
    pub fn has(&self, grain: Grain) -> bool {
        self.0.iter().any(|file| file.grain == grain.name())
    }

    /// The files of several entries.
    pub fn of_all<'a>(parts: impl IntoIterator<Item = &'a Added>) -> Added {
        let files = parts.into_iter().flat_map(|part| part.0.iter().cloned());
        Added(Arc::new(files.collect()))
    }

    pub(super) fn files(&self) -> Arc<Vec<LiveFile>> {
        Arc::clone(&self.0)
    }
}

impl Table {
    /// The entries after version `after`, up to this one, oldest first; `None` where one of them
    /// was cleaned away, so that the table has to be folded afresh.
    ///
    /// # Errors
    /// An entry cannot be read, or names a file outside of the table.
    pub fn entries_after(&self, after: u64) -> Result<Option<Vec<Entry>>, TableError> {
        (after + 1..=self.version()).map(|version| entry(&self.log, version)).collect()
    }

    /// The SHA-256 of the entry of a version: what tells it from any other that may have stood
    /// there. `None` where there is none, or none any more.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn entry_sha256(&self, version: u64) -> Result<Option<[u8; 32]>, TableError> {
        Ok(self.log.entry(version)?.map(|bytes| Sha256::digest(bytes).into()))
    }
}

/// The entry of a version, where it is still there.
fn entry(log: &Log, version: u64) -> Result<Option<Entry>, TableError> {
    let Some(bytes) = log.entry(version)? else { return Ok(None) };
    let parsed = delta::parse(&bytes).map_err(|fault| TableError::Value {
        grain: "log entry",
        column: "action",
        found: format!("at version {version}: {fault}"),
    })?;
    let adds = parsed.adds.into_iter().filter(|add| add.data_change);
    let files: Vec<LiveFile> = adds.map(LiveFile::of_add).collect::<Result<_, _>>()?;
    let moved = |(id, next): (String, i64)| Some((id, u64::try_from(next).ok()?));
    Ok(Some(Entry {
        version,
        instance: parsed.info.instance,
        moves: parsed.offsets.into_iter().filter_map(moved).collect(),
        files: Added(Arc::new(files)),
    }))
}
