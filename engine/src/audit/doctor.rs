//! What is wrong with the place of a table, and what to do: the disk, the log, files that nobody
//! names.
//!
//! The doctor looks at what the audit takes for granted, and explains a table that cannot be
//! opened. Beside the probe of the disk, which leaves nothing behind, it writes nothing; it reads
//! no data file, so that it is done in seconds.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::log::{Listing, explain, list};
use super::{Audit, Finding};
use crate::table::{FORMAT, FORMAT_PROPERTY, LiveFile, Table, TableError};

/// Clocks of disk and machine may differ by so much before that is told.
const CLOCK_MS_MAX: i64 = 5_000;

/// With less than this free, a commit may fail at any moment.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// With less than this free, it is time to look for space.
const FREE_BYTES_FEW: u64 = 1 << 30;

/// More entries behind the newest checkpoint make opening slow; a checkpoint is due every 100.
const ENTRIES_MAX: u64 = 1_000;

/// A file that no entry names may still be committed, until it is so old.
const ORPHAN_AGE_MS: i64 = 24 * 3_600_000;

/// How much an advice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is as it should be, or worth knowing.
    Ok,
    /// It works, and will not for ever.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// How much it matters.
    pub level: Level,
    /// What was looked at.
    pub about: String,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Advice {
    /// An advice without a remedy, as it is where all is well.
    pub fn ok(about: &str, found: impl Into<String>) -> Advice {
        Advice::new(Level::Ok, about, found, "")
    }

    /// An advice.
    pub fn new(level: Level, about: &str, found: impl Into<String>, remedy: &str) -> Advice {
        let (about, remedy) = (about.to_owned(), remedy.to_owned());
        Advice { level, about, found: found.into(), remedy }
    }
}

/// Looks at the table under `dir` and at its disk. `now_ms` is the wall clock in epoch
/// milliseconds.
pub fn doctor(dir: &Path, now_ms: i64) -> Vec<Advice> {
    let mut advice = Vec::new();
    let place = dir.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("."));
    advice.extend(disk(place, now_ms));
    match list(dir) {
        Ok(listing) if listing.entries.is_empty() && listing.checkpoints.is_empty() => {
            let found = format!("there is none in {} yet", dir.display());
            advice.push(Advice::ok("table", found));
        }
        Ok(listing) => advice.extend(table(dir, &listing, now_ms)),
        Err(error) => advice.push(refused("table", &error)),
    }
    advice
}

fn refused(about: &str, error: &TableError) -> Advice {
    Advice::new(Level::Error, about, error.to_string(), "")
}

/// Creating, linking, syncing, the clock and the room of a disk.
fn disk(place: &Path, now_ms: i64) -> Vec<Advice> {
    let mut advice = Vec::new();
    match Table::probe(place) {
        Err(error) => advice.push(refused("disk", &error)),
        Ok(disk_ms) => {
            let found = format!("{} creates only what is absent, and syncs", place.display());
            advice.push(Advice::ok("disk", found));
            advice.push(clock(disk_ms, now_ms));
        }
    }
    match rustix::fs::statvfs(place) {
        Ok(room) => advice.push(free(room.f_bavail.saturating_mul(room.f_frsize))),
        Err(error) => advice.push(Advice::new(Level::Warning, "space", error.to_string(), "")),
    }
    advice
}

fn clock(disk_ms: i64, now_ms: i64) -> Advice {
    let apart = disk_ms - now_ms;
    let found = format!("the disk's clock is {apart} ms from this machine's");
    if apart.abs() <= CLOCK_MS_MAX {
        return Advice::ok("clock", found);
    }
    let remedy = "synchronise both: ages of files, and alerts, are judged by these clocks";
    Advice::new(Level::Warning, "clock", found, remedy)
}

fn free(bytes: u64) -> Advice {
    let found = format!("{} MiB are free", bytes >> 20);
    let remedy = "free some: a full disk loses nothing, but nothing is committed until there is \
                  space";
    match bytes {
        _ if bytes < FREE_BYTES_MIN => Advice::new(Level::Error, "space", found, remedy),
        _ if bytes < FREE_BYTES_FEW => Advice::new(Level::Warning, "space", found, remedy),
        _ => Advice::ok("space", found),
    }
}

fn table(dir: &Path, listing: &Listing, now_ms: i64) -> Vec<Advice> {
    let mut advice = Vec::new();
    let table = match Table::open(dir) {
        Ok(Some(table)) => table,
        Ok(None) => return advice,
        Err(error) => {
            advice.push(refused("table", &error));
            let mut found = Audit::default();
            explain(dir, listing, &mut found);
            advice.extend(found.findings.into_iter().map(of_finding));
            return advice;
        }
    };
    let (version, id) = (table.version(), table.id());
    advice.push(Advice::ok("table", format!("{id} at version {version} can be read")));
    advice.extend(format(&table));
    advice.push(entries_behind(listing, version));
    match table.live_files() {
        Ok(files) => {
            advice.extend(missing(dir, &files));
            advice.extend(unnamed(dir, &files, now_ms));
        }
        Err(error) => advice.push(refused("files", &error)),
    }
    advice
}

fn of_finding(finding: Finding) -> Advice {
    let about = finding.file.as_deref().unwrap_or("log");
    let hole = "a hole stands for rows and offsets that are lost with the entry: restore it from \
                a copy of the table; without one, count the sources into a new table";
    let remedy = if finding.found.starts_with("log hole") { hole } else { &finding.remedy };
    Advice::new(Level::Error, about, finding.found.clone(), remedy)
}

fn format(table: &Table) -> Option<Advice> {
    let found = table.properties().get(FORMAT_PROPERTY)?;
    if found.parse::<u32>().is_ok_and(|format| format <= FORMAT) {
        return None;
    }
    let told = format!("{FORMAT_PROPERTY} is {found} and this program writes {FORMAT}");
    let remedy = "it may be read; run the newer Ninefold to write";
    Some(Advice::new(Level::Warning, "format", told, remedy))
}

fn entries_behind(listing: &Listing, version: u64) -> Advice {
    let newest = listing.checkpoints.last().copied().unwrap_or(0);
    let behind = version.saturating_sub(newest);
    let found = format!("{behind} entries behind the newest checkpoint");
    if behind <= ENTRIES_MAX {
        return Advice::ok("log", found);
    }
    let remedy = "checkpoints fail: the messages of `run` say why; opening becomes slow";
    Advice::new(Level::Warning, "log", found, remedy)
}

/// Live files that are not there, or not of their size.
fn missing(dir: &Path, files: &[LiveFile]) -> Vec<Advice> {
    let mut advice = Vec::new();
    for file in files {
        let path = dir.join(&file.path);
        let found = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() == file.size => continue,
            Ok(metadata) => {
                TableError::FileSize { path, expected: file.size, found: metadata.len() }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                TableError::FileMissing { path }
            }
            Err(error) => TableError::io("measure", &path, error),
        };
        advice.push(refused(&file.path, &found));
    }
    if advice.is_empty() {
        let found = format!("{} are there with their sizes", files.len());
        advice.push(Advice::ok("files", found + "; `ninefold audit` compares their content"));
    }
    advice
}

/// Files in the table's folders that are old and that no reader sees.
fn unnamed(dir: &Path, files: &[LiveFile], now_ms: i64) -> Vec<Advice> {
    let live: HashSet<PathBuf> = files.iter().map(|file| dir.join(&file.path)).collect();
    let (mut count, mut bytes) = (0_u64, 0_u64);
    let mut staged = 0_u64;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(inside) = std::fs::read_dir(&folder) else { continue };
        for entry in inside.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let age_ms = now_ms - crate::table::modified_ms(&path).unwrap_or(now_ms);
            if age_ms < ORPHAN_AGE_MS {
                continue;
            }
            let is_data =
                path.extension() == Some(OsStr::new("parquet")) && !folder.ends_with("_delta_log");
            if path.to_string_lossy().contains('#') {
                staged += 1;
            } else if is_data && !live.contains(&path) {
                (count, bytes) = (count + 1, bytes + metadata.len());
            }
        }
    }
    let mut advice = Vec::new();
    if count > 0 {
        let found = format!("{count} data files, {} MiB, that no reader sees", bytes >> 20);
        advice.push(Advice::new(
            Level::Ok,
            "orphans",
            found,
            "they count nothing; `ninefold vacuum` removes them",
        ));
    }
    if staged > 0 {
        let found = format!("{staged} files that were being written at a crash");
        advice.push(Advice::new(Level::Ok, "staging", found, "files with a # may be deleted"));
    }
    advice
}
