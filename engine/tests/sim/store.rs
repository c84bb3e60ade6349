//! The store: data files, log entries, checkpoints. Entries are created where none is, and that
//! is all that it promises.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use ninefold_engine::table::protocol::{Appended, LogStore, Move, Seen};

use crate::options::{Mutant, Options, Random};

/// What a data file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// The event at an offset of a partition.
    Event(usize, u64),
    /// Something that stands in no partition: a transition of an alert.
    Note(u64),
}

pub struct DataFile {
    pub rows: Vec<Row>,
    pub written_ms: i64,
}

/// A log entry.
#[derive(Debug)]
pub struct Entry {
    pub commit: u64,
    pub adds: Vec<String>,
    pub removes: Vec<String>,
    pub moves: Vec<Move>,
}

/// What the log comes to at a version.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub version: u64,
    pub offsets: BTreeMap<String, u64>,
    pub live: BTreeSet<String>,
}

impl State {
    /// Takes the next entry. Ranges must tile each partition, and only live files may go:
    /// otherwise the protocol has let something through.
    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        for Move { partition, base, next } in &entry.moves {
            let found = self.offsets.insert(partition.clone(), *next);
            if found != *base {
                return Err(format!("{partition} stood at {found:?}, moved from {base:?}"));
            }
        }
        for path in &entry.removes {
            if !self.live.remove(path) {
                return Err(format!("{path} was removed twice"));
            }
        }
        self.live.extend(entry.adds.iter().cloned());
        self.version += 1;
        Ok(())
    }
}

pub struct Checkpoint {
    state: State,
    whole: bool,
}

/// The store did not do it, or did not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Unclear,
    Away,
    Full,
}

#[derive(Default)]
pub struct Store {
    pub files: HashMap<String, DataFile>,
    entries: BTreeMap<u64, Rc<Entry>>,
    checkpoints: BTreeMap<u64, Checkpoint>,
    /// What `_last_checkpoint` says.
    hint: u64,
    /// Puts that are still on their way.
    late: Vec<(u64, Rc<Entry>)>,
    /// For so many steps there is no room.
    pub full_steps: u32,
    /// What no reader should ever see.
    pub violation: Option<String>,
}

impl Store {
    /// The log as a new reader folds it: the newest checkpoint that is whole, and what follows.
    pub fn fold(&mut self) -> State {
        let whole = |checkpoint: &&Checkpoint| checkpoint.whole;
        let newest = self.checkpoints.values().rev().find(whole);
        let mut state = newest.map(|checkpoint| checkpoint.state.clone()).unwrap_or_default();
        self.walk(&mut state);
        let first = self.entries.keys().find(|version| **version > state.version);
        if let Some(first) = first {
            let hole = format!("the log has a hole between {} and {first}", state.version);
            self.violation.get_or_insert(hole);
        }
        state
    }

    /// Takes entry after entry.
    fn walk(&mut self, state: &mut State) {
        while let Some(entry) = self.entries.get(&(state.version + 1)) {
            if let Err(wrong) = state.take(entry) {
                self.violation.get_or_insert(wrong);
                state.version += 1;
            }
        }
    }

    /// Advances a view: entry by entry, unless a checkpoint lies above it.
    pub fn advance(&mut self, view: &mut State, mutant: Option<Mutant>) {
        let is_behind = self.newest_checkpoint(mutant) > view.version;
        if is_behind && mutant != Some(Mutant::WalksThroughHoles) {
            *view = self.fold();
        } else {
            self.walk(view);
        }
    }

    /// By the list of files: `_last_checkpoint` may be set back by somebody who slept.
    fn newest_checkpoint(&self, mutant: Option<Mutant>) -> u64 {
        match mutant {
            Some(Mutant::TrustsTheHint) => self.hint,
            _ => self.checkpoints.keys().next_back().copied().unwrap_or(0),
        }
    }

    /// Creates an entry where none is.
    fn create(&mut self, version: u64, entry: &Rc<Entry>) -> bool {
        let is_free = !self.entries.contains_key(&version);
        if is_free {
            self.entries.insert(version, Rc::clone(entry));
        }
        is_free
    }

    /// One put that is on its way lands, or loses to what stands there.
    pub fn land_late(&mut self, random: &mut Random) {
        if !self.late.is_empty() {
            let (version, entry) = self.late.swap_remove(random.below(self.late.len()));
            if random.hits(800) {
                self.create(version, &entry);
            }
        }
    }

    pub fn land_all(&mut self) {
        for (version, entry) in std::mem::take(&mut self.late) {
            self.create(version, &entry);
        }
    }

    /// Writes a checkpoint of a view. A torn one is not announced, and replaces none: files are
    /// put into place when they are whole.
    pub fn checkpoint(&mut self, view: &State, torn: bool) {
        let checkpoint = Checkpoint { state: view.clone(), whole: !torn };
        if torn {
            self.checkpoints.entry(view.version).or_insert(checkpoint);
        } else {
            self.checkpoints.insert(view.version, checkpoint);
            self.hint = view.version;
        }
    }

    /// The newest checkpoint turns bad, where the rest of the log still tells everything: of two
    /// copies one is lost.
    pub fn flip_bit(&mut self) {
        let before = self.fold();
        let newest = self.checkpoints.iter().rev().find(|(_, one)| one.whole);
        let Some(newest) = newest.map(|(version, _)| *version) else { return };
        self.set_whole(newest, false);
        let after = self.fold();
        if self.violation.take().is_some() || after.offsets != before.offsets {
            self.set_whole(newest, true);
        }
    }

    fn set_whole(&mut self, version: u64, whole: bool) {
        self.checkpoints.get_mut(&version).expect("it is there").whole = whole;
    }

    /// Deletes the entries below the older of the two newest whole checkpoints.
    pub fn clean_up(&mut self, mutant: Option<Mutant>) {
        let whole = self.checkpoints.iter().rev().filter(|(_, one)| one.whole);
        let kept = if mutant == Some(Mutant::CleansToTheNewest) { 0 } else { 1 };
        let Some((bound, _)) = whole.map(|(version, one)| (*version, one)).nth(kept) else {
            return;
        };
        self.entries.retain(|version, _| *version > bound);
        self.checkpoints.retain(|version, _| *version >= bound);
    }

    /// Files that a reader does not see and that are old enough to be collected.
    pub fn orphans(&mut self, now_ms: i64, age_ms: i64) -> Vec<String> {
        let live = self.fold().live;
        let is_orphan = |(path, file): &(&String, &DataFile)| {
            !live.contains(*path) && now_ms - file.written_ms > age_ms
        };
        let mut orphans: Vec<String> =
            self.files.iter().filter(is_orphan).map(|(path, _)| path.clone()).collect();
        orphans.sort();
        orphans
    }

    /// Appends an entry that says nothing, so that every put on its way meets another one.
    pub fn announce(&mut self, commit: u64) -> bool {
        let version = self.fold().version + 1;
        let (adds, removes, moves) = (Vec::new(), Vec::new(), Vec::new());
        self.create(version, &Rc::new(Entry { commit, adds, removes, moves }))
    }

    pub fn collect(&mut self, orphans: &[String]) {
        let live = self.fold().live;
        for path in orphans.iter().filter(|path| !live.contains(*path)) {
            self.files.remove(path);
        }
    }
}

/// An entry on its way into the store, as the protocol sees it.
pub struct Attempt<'a> {
    pub store: &'a mut Store,
    pub view: &'a mut State,
    pub entry: &'a Rc<Entry>,
    pub options: &'a Options,
    pub random: &'a mut Random,
    pub mutant: Option<Mutant>,
    pub conflicts: u32,
    /// What a planted bug makes of the reply to the last put.
    pub believed: &'a mut bool,
}

impl LogStore for Attempt<'_> {
    type Error = Fault;

    fn version(&self) -> u64 {
        self.view.version
    }

    fn offset(&self, partition: &str) -> Result<Option<u64>, Fault> {
        let is_blind = match self.mutant {
            Some(Mutant::ChecksNothing) => true,
            Some(Mutant::RenumbersBlindly) => self.conflicts > 0,
            _ => false,
        };
        if is_blind {
            let moved = self.entry.moves.iter().find(|one| one.partition == partition);
            return Ok(moved.and_then(|moved| moved.base));
        }
        Ok(self.view.offsets.get(partition).copied())
    }

    fn are_live(&self, paths: &HashSet<String>) -> Result<bool, Fault> {
        let is_blind = self.mutant == Some(Mutant::CompactsWhatIsGone);
        Ok(is_blind || paths.iter().all(|path| self.view.live.contains(path)))
    }

    fn is_added(&self) -> Result<bool, Fault> {
        if self.mutant == Some(Mutant::TellsByOffsets) {
            let stands =
                |moved: &Move| self.view.offsets.get(&moved.partition) == Some(&moved.next);
            return Ok(self.entry.moves.iter().all(stands));
        }
        Ok(self.entry.adds.iter().any(|path| self.view.live.contains(path)))
    }

    fn refresh(&mut self) -> Result<(), Fault> {
        if self.random.hits(self.options.read_refused) {
            return Err(Fault::Away);
        }
        self.store.advance(self.view, self.mutant);
        Ok(())
    }

    fn append(&mut self) -> Result<Appended, Fault> {
        let version = self.view.version + 1;
        *self.believed = false;
        if self.store.full_steps > 0 {
            return Err(Fault::Full);
        }
        if self.random.hits(self.options.false_conflict) {
            return Ok(Appended::Conflict);
        }
        *self.believed = self.mutant == Some(Mutant::AssumesTheBest);
        if self.random.hits(self.options.put_refused) {
            return Err(Fault::Unclear);
        }
        if self.random.hits(self.options.put_late) {
            self.store.late.push((version, Rc::clone(self.entry)));
            return Err(Fault::Unclear);
        }
        if !self.store.create(version, self.entry) {
            *self.believed = false;
            return Ok(Appended::Conflict);
        }
        if self.random.hits(self.options.reply_lost) {
            return Err(Fault::Unclear);
        }
        *self.believed |= self.mutant == Some(Mutant::TrustsTheReply);
        Ok(Appended::Landed)
    }

    fn confirm(&mut self, version: u64) -> Result<Seen, Fault> {
        if *self.believed {
            self.store.advance(self.view, self.mutant);
            return Ok(Seen::Ours);
        }
        if self.random.hits(self.options.read_refused) {
            return Err(Fault::Away);
        }
        let is_covered = self.store.newest_checkpoint(self.mutant) > version;
        self.store.advance(self.view, self.mutant);
        if is_covered || self.mutant == Some(Mutant::TellsByOffsets) {
            return Ok(Seen::Covered);
        }
        let found = self.store.entries.get(&version);
        let is_ours = found.is_some_and(|found| found.commit == self.entry.commit);
        Ok(if is_ours { Seen::Ours } else { Seen::Other })
    }
}
