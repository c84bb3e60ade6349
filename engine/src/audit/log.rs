//! The log of a table, read entry by entry and apart from the program that writes it.
//!
//! The entries that are there are folded by hand, and compared with what a Delta reader sees at
//! every checkpoint and at the newest version. Entries below a checkpoint may have been cleaned
//! away; then the fold begins at the oldest checkpoint that the rest goes on from.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;

use super::{Audit, Finding, RESTORE};
use crate::delta::{self, Entry};
use crate::table::{FORMAT, FORMAT_PROPERTY, Folded, LiveFile, Table, TableError};

/// Removed files stay readable at least so long: a reader may still be at an older version.
const REMOVED_KEPT_MS: i64 = 24 * 3_600_000;

/// The properties that a table is created with.
const PROPERTIES: [&str; 3] =
    [FORMAT_PROPERTY, "delta.dataSkippingStatsColumns", "delta.checkpointInterval"];

/// The versions that the folder of the log has files of.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    pub entries: BTreeSet<u64>,
    pub checkpoints: BTreeSet<u64>,
}

/// What the entries say that are there.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// The entry that added the rows of a file, where it is there.
    added: HashMap<String, u64>,
    /// Entries of which a file with rows of their own is live no more, so that what is left of
    /// them proves nothing.
    broken_up: HashSet<u64>,
    /// Files that were removed, with the entry and the time in epoch milliseconds.
    removed: BTreeMap<String, (u64, i64)>,
    /// Entries by which others said that they deleted files.
    vacuums: Vec<String>,
    /// Whether rows of old days were removed.
    pub retained: bool,
}

impl Review {
    /// The entry that added a file, where all that it added is live.
    pub fn whole_entry_of(&self, path: &str) -> Option<u64> {
        self.added.get(path).copied().filter(|version| !self.broken_up.contains(version))
    }

    /// What to say of a live file that cannot be read.
    pub fn of_damaged(&self, file: &LiveFile, error: &TableError) -> Finding {
        let mut found = error.to_string();
        let mut remedy = RESTORE.to_owned();
        if let TableError::FileMissing { .. } = error {
            for vacuum in &self.vacuums {
                found.push_str(&format!("; {vacuum}"));
            }
            if !self.vacuums.is_empty() {
                remedy.push_str("; let VACUUM keep files for at least 7 days");
            }
        }
        Finding::new("file", found, &remedy).of_file(&file.path)
    }
}

/// What the folder of the log holds; nothing where there is none.
pub(super) fn list(dir: &Path) -> Result<Listing, TableError> {
    let folder = dir.join("_delta_log");
    let mut listing = Listing::default();
    let files = match std::fs::read_dir(&folder) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(listing),
        Err(error) => return Err(TableError::io("list", &folder, error)),
    };
    for file in files {
        let file = file.map_err(|error| TableError::io("list", &folder, error))?;
        let name = file.file_name();
        let Some((digits, rest)) = name.to_str().and_then(|name| name.split_at_checked(20)) else {
            continue;
        };
        let Ok(version) = digits.parse() else { continue };
        match rest {
            ".json" => listing.entries.insert(version),
            ".checkpoint.parquet" => listing.checkpoints.insert(version),
            _ => false,
        };
    }
    Ok(listing)
}

/// Reads and parses the entry of a version; `None` where it is gone.
fn read_entry(dir: &Path, version: u64, audit: &mut Audit) -> Result<Option<Entry>, TableError> {
    let name = format!("_delta_log/{version:020}.json");
    let path = dir.join(&name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TableError::io("read", &path, error)),
    };
    audit.entries += 1;
    match delta::parse(&bytes) {
        Ok(entry) => Ok(Some(entry)),
        Err(fault) => {
            audit.find(Finding::new("log", fault.to_string(), RESTORE).of_file(&name));
            Ok(Some(Entry::default()))
        }
    }
}

/// Says what of a log is wrong that cannot be opened: entries that cannot be parsed, and holes.
pub(super) fn explain(dir: &Path, listing: &Listing, audit: &mut Audit) {
    for version in &listing.entries {
        if let Err(error) = read_entry(dir, *version, audit) {
            audit.find(Finding::new("log", error.to_string(), RESTORE));
        }
    }
    find_holes(listing, audit);
}

/// Tells the entries that are missing: between two, and before the first where no checkpoint
/// stands for them.
fn find_holes(listing: &Listing, audit: &mut Audit) {
    let newest_checkpoint = listing.checkpoints.last().copied();
    let mut expected = match start_of(listing) {
        Some(start) => start.map_or(0, |checkpoint| checkpoint + 1),
        None => 0,
    };
    for version in listing.entries.range(expected..) {
        for missing in expected..*version {
            let name = format!("_delta_log/{missing:020}.json");
            let what = if newest_checkpoint.is_some_and(|checkpoint| checkpoint >= missing) {
                "readers begin at a later checkpoint, and the history before is incomplete"
            } else {
                "readers stop here, or read wrong sums"
            };
            let found = format!("log hole at version {missing}: {what}");
            audit.find(Finding::new("log", found, RESTORE).of_file(&name));
        }
        expected = version + 1;
    }
}

/// Where a fold of the entries begins: at nothing (`Some(None)`) where entry 0 is there, else at
/// a checkpoint that the first entry goes on from; `None` where there is neither.
fn start_of(listing: &Listing) -> Option<Option<u64>> {
    let first = *listing.entries.first()?;
    if first == 0 {
        return Some(None);
    }
    listing.checkpoints.range(first - 1..).next().map(|checkpoint| Some(*checkpoint))
}

/// Files by path with size and hash, and offsets by application id.
#[derive(Debug, Default, PartialEq)]
struct State {
    files: BTreeMap<String, (u64, Option<String>)>,
    offsets: BTreeMap<String, i64>,
}

impl State {
    fn of(folded: Folded) -> State {
        let file = |file: LiveFile| (file.path, (file.size, file.sha256));
        State {
            files: folded.files.into_iter().map(file).collect(),
            offsets: folded.offsets.into_iter().collect(),
        }
    }

    fn apply(&mut self, entry: &Entry) {
        for remove in &entry.removes {
            self.files.remove(&remove.path);
        }
        for add in &entry.adds {
            self.files.insert(add.path.clone(), (add.size, add.sha256.clone()));
        }
        self.offsets.extend(entry.offsets.iter().cloned());
    }

    /// The first thing in which another state differs.
    fn difference(&self, other: &State) -> Option<String> {
        for (path, found) in &other.files {
            match self.files.get(path) {
                None => return Some(format!("it has {path}, which no entry adds")),
                Some(expect) if expect != found => {
                    return Some(format!("of {path} it has {found:?}, and the entries {expect:?}"));
                }
                Some(_) => {}
            }
        }
        if let Some(path) = self.files.keys().find(|path| !other.files.contains_key(*path)) {
            return Some(format!("it lacks {path}"));
        }
        let ids: BTreeSet<&String> = self.offsets.keys().chain(other.offsets.keys()).collect();
        let differs = |id: &&&String| self.offsets.get(**id) != other.offsets.get(**id);
        let id = ids.iter().find(differs)?;
        let (expect, found) = (self.offsets.get(*id), other.offsets.get(*id));
        Some(format!("{id} stands at {found:?} by it, and at {expect:?} by the entries"))
    }
}

/// How often the log is read afresh where entries are cleaned away meanwhile.
const ATTEMPTS: u32 = 3;

/// Reads every entry up to the table's version, and compares their fold with what readers see.
pub(super) fn review(
    table: &Table,
    mut listing: Listing,
    audit: &mut Audit,
) -> Result<Review, TableError> {
    for _ in 0..ATTEMPTS {
        let mut attempt = Audit::default();
        if let Some(review) = try_review(table, &listing, &mut attempt)? {
            audit.absorb(attempt);
            return Ok(review);
        }
        listing = list(table.dir())?;
    }
    let found = "entries were cleaned away while they were read, three times: the log is not \
                 compared";
    audit.notes.push(found.to_owned());
    Ok(Review::default())
}

/// As [`review`]; `None` where an entry that was listed is gone.
fn try_review(
    table: &Table,
    listing: &Listing,
    audit: &mut Audit,
) -> Result<Option<Review>, TableError> {
    let newest = table.version();
    let mut listing = listing.clone();
    // Entries that came between the listing and the opening.
    listing.entries.extend(listing.entries.last().map_or(0, |last| last + 1)..=newest);
    listing.entries.retain(|version| *version <= newest);
    listing.checkpoints.retain(|version| *version <= newest);
    find_holes(&listing, audit);
    let start = start_of(&listing).flatten();
    let mut state = match start {
        Some(checkpoint) => State::of(table.folded_at(checkpoint)?),
        None => State::default(),
    };
    let mut review = Review::default();
    for version in &listing.entries {
        let Some(entry) = read_entry(table.dir(), *version, audit)? else { return Ok(None) };
        review.take(*version, &entry, audit);
        if start.is_some_and(|checkpoint| *version <= checkpoint) {
            continue;
        }
        state.apply(&entry);
        if listing.checkpoints.contains(version) {
            check_checkpoint(table, *version, &state, audit);
        }
    }
    let seen = State::of(table.folded_at(newest)?);
    if let Some(difference) = state.difference(&seen) {
        let found = format!("a reader of version {newest}: {difference}");
        audit.find(Finding::new("log", found, RESTORE));
    }
    Ok(Some(review))
}

fn check_checkpoint(table: &Table, version: u64, state: &State, audit: &mut Audit) {
    let found = match table.folded_at(version) {
        Ok(folded) => state.difference(&State::of(folded)),
        Err(error) => Some(error.to_string()),
    };
    if let Some(found) = found {
        let name = format!("_delta_log/{version:020}.checkpoint.parquet");
        let remedy = "delete the checkpoint and _last_checkpoint: the entries before it are there";
        audit.find(Finding::new("checkpoint", found, remedy).of_file(&name));
    }
}

impl Review {
    fn take(&mut self, version: u64, entry: &Entry, audit: &mut Audit) {
        for remove in &entry.removes {
            if let Some(by) = self.added.get(&remove.path) {
                self.broken_up.insert(*by);
            }
            let when = remove.deleted_ms.or(entry.info.timestamp_ms).unwrap_or(0);
            self.removed.insert(remove.path.clone(), (version, when));
        }
        for add in &entry.adds {
            self.removed.remove(&add.path);
            if add.data_change {
                self.added.insert(add.path.clone(), version);
            }
        }
        if !entry.info.engine.starts_with("ninefold/") {
            self.take_foreign(version, entry, audit);
        }
    }

    /// Others may rewrite files, and nothing else.
    fn take_foreign(&mut self, version: u64, entry: &Entry, audit: &mut Audit) {
        let (operation, engine) = (&entry.info.operation, &entry.info.engine);
        let by = if engine.is_empty() { "an unnamed program" } else { engine };
        let told = format!("version {version} is {operation:?} by {by}");
        if operation.contains("VACUUM") {
            self.vacuums.push(told.clone());
        }
        let adds = entry.adds.iter().filter(|add| add.data_change).map(|add| &add.path);
        let removes = entry.removes.iter().filter(|one| one.data_change).map(|one| &one.path);
        let mut changed = adds.chain(removes);
        if let Some(path) = changed.next() {
            let found = format!("{told}, and it changes rows: {} files", 1 + changed.count());
            let remedy = "rows are Ninefold's to write: restore the table from a copy of before";
            audit.find(Finding::new("foreign", found, remedy).of_file(path));
        } else if !entry.offsets.is_empty() {
            let remedy = "offsets are Ninefold's to move: restore the table from a copy of before";
            audit.find(Finding::new("foreign", format!("{told}, and it moves offsets"), remedy));
        } else {
            audit.notes.push(format!("{told}, which changes no row"));
        }
    }
}

/// Properties that the table was not created with, and a format that is newer than this program.
pub(super) fn check_properties(table: &Table, audit: &mut Audit) {
    for (name, value) in table.properties() {
        if !PROPERTIES.contains(&name.as_str()) {
            let found = format!("the table has the property {name} = {value:?}");
            audit.find(Finding::new("property", found, "unset it, unless you know its effects"));
        }
    }
    let format = table.properties().get(FORMAT_PROPERTY).map_or("", String::as_str);
    if format.parse::<u32>().map_or(true, |format| format > FORMAT) {
        let known = format!("this program knows {FORMAT}");
        audit
            .notes
            .push(format!("{FORMAT_PROPERTY} is {format:?} and {known}: audit with a newer"));
    }
}

/// Files that were removed a short while ago must still be there, for readers of older versions.
pub(super) fn check_removed(dir: &Path, review: &Review, now_ms: i64, audit: &mut Audit) {
    for (path, (version, when)) in &review.removed {
        let is_fresh = now_ms.saturating_sub(*when) < REMOVED_KEPT_MS;
        if is_fresh && !dir.join(path).exists() {
            let found = format!(
                "version {version} removed it less than 24 hours ago, and it is gone already: a \
                 reader of an older version fails, and a file that a writer had not committed yet \
                 may be gone as well"
            );
            let remedy = "this version is whole where no other file is named; let VACUUM keep \
                          files for at least 7 days";
            audit.find(Finding::new("vacuum", found, remedy).of_file(path));
        }
    }
}
