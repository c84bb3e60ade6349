//! What was added since a version: log entries read one by one, for who follows other writers.
//!
//! A reader that has folded the table at one version comes to a later one by adding the rows of
//! the entries between. Only files that change data count: compaction writes the same rows once
//! more. Such a file is read whether or not a later entry has removed it, so following and
//! compaction do not disturb each other, as long as the file has not been vacuumed.

use std::sync::Arc;

use serde_json::Value;

use super::live::LiveFile;
use super::log::Log;
use super::{Table, TableError};

/// What one entry says.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its version.
    pub version: u64,
    /// What made it: [`Epoch::info`](super::Epoch::info); empty where it does not say.
    pub info: String,
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
}

/// The entry of a version, where it is still there.
fn entry(log: &Log, version: u64) -> Result<Option<Entry>, TableError> {
    let Some(bytes) = log.entry(version)? else { return Ok(None) };
    let mut entry =
        Entry { version, info: String::new(), moves: Vec::new(), files: Added::default() };
    let mut files = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let action: Value = serde_json::from_slice(line).map_err(|error| TableError::Value {
            grain: "log entry",
            column: "action",
            found: format!("at version {version} no JSON: {error}"),
        })?;
        let info = action["commitInfo"]["operationParameters"]["info"].as_str();
        entry.info.push_str(info.unwrap_or_default());
        let txn = &action["txn"];
        if let (Some(id), Some(next)) = (txn["appId"].as_str(), txn["version"].as_u64()) {
            entry.moves.push((id.to_owned(), next));
        }
        if action["add"]["dataChange"] == Value::Bool(true) {
            files.push(LiveFile::of_add(&action["add"])?);
        }
    }
    entry.files = Added(Arc::new(files));
    Ok(Some(entry))
}
