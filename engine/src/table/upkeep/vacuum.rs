//! Files that nobody needs any more: removed from the log long ago, or never in it.
//!
//! Three kinds go: a file whose `remove` in the log is older than [`REMOVED_MS`], so that a
//! reader of an older version has had that long; a file of ours that the log does not know and
//! that is older than [`ORPHAN_MS`], left by a commit that failed or was killed (a writer writes
//! a file again that it has not committed within minutes, so no commit that may still land names
//! one so old, and one that fell asleep in between meets an entry of ours first); and what a
//! killed write left under a staging name. The folder is listed *before*
//! the log is read, so a file that was committed meanwhile is known to be live.
//!
//! Nothing else is touched: no file outside of `grain=…/day=…`, no name that neither the log
//! knows nor we would give, nothing behind a symbolic link. A live file that is not there ends it
//! before anything is removed: another program has vacuumed too much, or the disk has lost it.

use std::collections::HashSet;
use std::fs::DirEntry;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::{CommitError, Epoch, Table, TableError};
use crate::delta::parse_day;
use crate::failpoint;
use crate::time::{DAY_MINUTES, MINUTE_MS};

/// How long a removed file is kept for readers of older versions.
pub(super) const REMOVED_MS: i64 = 7 * DAY_MS;

/// How long a file that the log does not know is kept for the commit that may name it.
const ORPHAN_MS: i64 = DAY_MS;

const DAY_MS: i64 = DAY_MINUTES as i64 * MINUTE_MS;

/// Files removed at once at most.
const SWEPT_MAX: usize = 10_000;

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Their bytes.
    pub bytes: u64,
}

/// A file in the folder of the table.
struct Found {
    /// Relative to the table, with `/`.
    path: String,
    kind: Kind,
    modified_ms: i64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Named as we name data files.
    Ours,
    /// A data file named by others.
    Theirs,
    /// What a write leaves that was killed.
    Staging,
}

/// Removes what nobody needs, or with `dry_run` says what that is.
///
/// # Errors
/// [`TableError::FilesMissing`] where a live file is not there; then nothing was removed.
/// Otherwise if the folder or the log cannot be read, or a file not removed.
pub fn vacuum(table: &mut Table, now_ms: i64, dry_run: bool) -> Result<Vacuumed, CommitError> {
    let dir = table.dir().to_owned();
    let found = list(&dir)?;
    table.refresh()?;
    let (mut done, has_orphans) = no_longer_needed(table, &found, now_ms)?;
    if has_orphans && !dry_run {
        // A writer that sleeps since before these files were too old for it may still name them
        // in the entry after the newest one. With an entry of ours there, it has to look again.
        table.commit(Epoch { info: "vacuum".to_owned(), ..Epoch::default() })?;
        (done, _) = no_longer_needed(table, &found, now_ms)?;
    }
    let mut vacuumed = Vacuumed::default();
    for file in done {
        let path = dir.join(&file.path);
        if !dry_run {
            failpoint::reach("vacuum.delete");
            remove(&path)?;
        }
        vacuumed.files.push(path);
        vacuumed.bytes += file.bytes;
    }
    Ok(vacuumed)
}

/// The files that may go, a bounded number at once, and whether there are some that no entry
/// has ever named.
fn no_longer_needed<'a>(
    table: &Table,
    found: &'a [Found],
    now_ms: i64,
) -> Result<(Vec<&'a Found>, bool), TableError> {
    let live = table.live_files()?;
    let live: HashSet<&str> = live.iter().map(|file| file.path.as_str()).collect();
    let mut lost: Vec<PathBuf> = live.iter().map(|path| table.dir().join(path)).collect();
    lost.retain(|path| !path.exists());
    if !lost.is_empty() {
        lost.sort();
        return Err(TableError::FilesMissing { paths: lost });
    }
    let tombstones = table.tombstones()?;
    let is_done = |file: &&Found| match (file.kind, tombstones.get(&file.path)) {
        _ if live.contains(file.path.as_str()) => false,
        (_, Some(removed_ms)) => removed_ms + REMOVED_MS <= now_ms,
        (Kind::Ours | Kind::Staging, None) => file.modified_ms + ORPHAN_MS <= now_ms,
        (Kind::Theirs, None) => false,
    };
    let done: Vec<&Found> = found.iter().filter(is_done).take(SWEPT_MAX).collect();
    let has_orphans = done.iter().any(|file| !tombstones.contains_key(&file.path));
    Ok((done, has_orphans))
}

fn remove(path: &Path) -> Result<(), TableError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(TableError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// The files of the table: data by grain and day, and what killed writes left.
fn list(dir: &Path) -> Result<Vec<Found>, TableError> {
    let mut found = Vec::new();
    for entry in entries(dir)? {
        let name = name_of(&entry);
        if name.starts_with("_probe-") && is_file(&entry) {
            take(&entry, name, Kind::Staging, &mut found)?;
        } else if is_folder(&entry) && name == "_delta_log" {
            for entry in entries(&entry.path())?.iter().filter(|entry| is_file(entry)) {
                if is_staging(&name_of(entry)) {
                    let path = format!("{name}/{}", name_of(entry));
                    take(entry, path, Kind::Staging, &mut found)?;
                }
            }
        } else if is_folder(&entry) && name.starts_with("grain=") {
            list_grain(&entry, &name, &mut found)?;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn list_grain(
    grain: &DirEntry,
    grain_name: &str,
    found: &mut Vec<Found>,
) -> Result<(), TableError> {
    for day in entries(&grain.path())?.iter().filter(|entry| is_folder(entry)) {
        let day_name = name_of(day);
        if day_name.strip_prefix("day=").and_then(parse_day).is_none() {
            continue;
        }
        for entry in entries(&day.path())?.iter().filter(|entry| is_file(entry)) {
            let name = name_of(entry);
            let kind = match name.strip_suffix(".parquet") {
                Some(stem) if is_ours(stem) => Kind::Ours,
                Some(_) => Kind::Theirs,
                None if is_staging(&name) => Kind::Staging,
                None => continue,
            };
            take(entry, format!("{grain_name}/{day_name}/{name}"), kind, found)?;
        }
    }
    Ok(())
}

/// Notes a file, unless it has gone meanwhile.
fn take(
    entry: &DirEntry,
    path: String,
    kind: Kind,
    found: &mut Vec<Found>,
) -> Result<(), TableError> {
    let full = entry.path();
    let modified_ms = match super::super::store::modified_ms(&full) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| TableError::io("read the time of", &full, error))?,
    };
    let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
    found.push(Found { path, kind, modified_ms, bytes });
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>, TableError> {
    let failed = |error| TableError::io("list", dir, error);
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    entries.collect::<std::io::Result<Vec<DirEntry>>>().map_err(failed)
}

fn name_of(entry: &DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}

fn is_folder(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn is_file(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_file())
}

/// Whether a name without its suffix is a UUID, a hyphen and a number.
fn is_ours(stem: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = stem.split_at_checked(36);
    parts.is_some_and(|(id, rest)| {
        uuid::Uuid::try_parse(id).is_ok() && rest.strip_prefix('-').is_some_and(is_number)
    })
}

/// Whether a name is that of a write that did not end: `name#digits`.
fn is_staging(name: &str) -> bool {
    let parts = name.rsplit_once('#');
    parts.is_some_and(|(of, digits)| {
        (of.ends_with(".parquet") || of.ends_with(".json") || of == "_last_checkpoint")
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_told_from_those_of_others() {
        let id = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
        let check = |stem: &str, expect: bool| assert_eq!(is_ours(stem), expect, "{stem}");
        check(&format!("{id}-0"), true);
        check(&format!("{id}-12"), true);
        check(id, false);
        check(&format!("{id}-"), false);
        check(&format!("{id}-0-c000"), false);
        check("part-00000-0a1b2c3d-c000.snappy", false);
        check("important", false);
        check("ÄÖÜ", false);
    }

    #[test]
    fn staging_names_are_told_from_others() {
        let check = |name: &str, expect: bool| assert_eq!(is_staging(name), expect, "{name}");
        check("00000000000000000002.json#12345", true);
        check("a-0.parquet#1", true);
        check("_last_checkpoint#7", true);
        check("a-0.parquet#", false);
        check("a-0.parquet#1x", false);
        check("notes#1", false);
        check("00000000000000000002.json", false);
    }
}
