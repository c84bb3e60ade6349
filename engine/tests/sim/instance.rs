//! One instance: it reads the partitions that it was given, counts, and commits. The guard, the
//! ledger and the protocol are the ones that ship; what is written here only calls them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;

use ninefold_engine::pipeline::ledger::Ledger;
use ninefold_engine::source::guard::{Guard, Holes, Verdict};
use ninefold_engine::table::protocol::{Commit, Moment, Move, Step};

use crate::options::{Mutant, Options, Random};
use crate::store::{Attempt, DataFile, Entry, Fault, Row, State, Store};
use crate::world::{Shared, Topic};

/// A commit goes on after so many failures, as the table's does.
const FAILURES_MAX: u32 = 2;

/// A partition that is being counted.
struct Owned {
    ledger: Ledger,
    guard: Guard,
    /// Where the client fetches next.
    position: u64,
    /// What it has fetched, each with the generation of its assignment.
    fetched: VecDeque<(u64, u64)>,
    /// Events that no commit has taken.
    counted: Vec<u64>,
    /// How long it may still be committed, where it was revoked.
    revoked_turns: Option<u32>,
}

/// A commit on its way.
struct Flight {
    commit: Commit<Fault>,
    entry: Rc<Entry>,
    rows: Vec<Row>,
    written: Moment,
    failures: u32,
    believed: bool,
}

pub struct Instance {
    pub number: usize,
    view: State,
    owned: BTreeMap<usize, Owned>,
    flight: Option<Flight>,
    /// Of transitions: they go with the next commit.
    notes: Vec<u64>,
    /// Steps that it stands still.
    pub asleep: u32,
    /// How wrong its wall clock is.
    pub skew_ms: i64,
}

impl Instance {
    pub fn new(number: usize) -> Instance {
        Instance {
            number,
            view: State::default(),
            owned: BTreeMap::new(),
            flight: None,
            notes: Vec::new(),
            asleep: 0,
            skew_ms: 0,
        }
    }

    /// It is killed, and started again: nothing in memory is left.
    pub fn crash(&mut self) {
        *self = Instance { skew_ms: self.skew_ms, ..Instance::new(self.number) };
    }

    /// What it thinks that the log comes to.
    pub fn view(&self) -> &State {
        &self.view
    }

    fn now(&self, shared: &Shared) -> Moment {
        let now = shared.now();
        Moment { wall_ms: now.wall_ms + self.skew_ms, ..now }
    }

    /// A partition is taken away, and it is told so.
    pub fn revoke(&mut self, partition: usize) {
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.revoked_turns = Some(12);
        }
    }

    /// Does a few things: assigns, fetches, counts, one step of a commit.
    pub fn turn(&mut self, store: &mut Store, shared: &mut Shared) {
        self.let_go(store, shared);
        self.assign(store, shared);
        let numbers: Vec<usize> = self.owned.keys().copied().collect();
        for number in numbers {
            if shared.random.hits(700) {
                self.read(number, shared);
            }
        }
        match self.flight.take() {
            Some(flight) => self.step(flight, store, shared),
            None if shared.random.hits(400) => self.cut(store, shared),
            None => {}
        }
    }

    /// Partitions that were revoked go when they are committed; when that takes too long,
    /// everything is dropped.
    fn let_go(&mut self, store: &mut Store, shared: &mut Shared) {
        let is_in_flight = self.flight.is_some();
        let mut too_late = false;
        self.owned.retain(|number, owned| {
            let Some(turns) = &mut owned.revoked_turns else { return true };
            *turns = turns.saturating_sub(1);
            too_late |= *turns == 0;
            is_in_flight || owned.ledger.movement(&shared.topics[*number].name).is_some()
        });
        if too_late {
            self.rebuild(store, shared);
        }
    }

    /// Forgets everything, and begins again where the table stands.
    fn rebuild(&mut self, store: &mut Store, shared: &mut Shared) {
        self.flight = None;
        self.notes.clear();
        store.advance(&mut self.view, shared.mutant);
        let before = std::mem::take(&mut self.owned);
        for (number, mut owned) in before {
            if shared.owners[number] != Some(self.number) {
                continue;
            }
            let base = self.view.offsets.get(&shared.topics[number].name).copied();
            if shared.mutant != Some(Mutant::KeepsWhatWasFenced) {
                owned.counted.clear();
            }
            owned.ledger = Ledger::new(base);
            owned.revoked_turns = None;
            reassign(&mut owned, base.unwrap_or(0), shared);
            self.owned.insert(number, owned);
        }
    }

    fn assign(&mut self, store: &mut Store, shared: &mut Shared) {
        for number in 0..shared.topics.len() {
            let is_new =
                shared.owners[number] == Some(self.number) && !self.owned.contains_key(&number);
            // While a commit is on its way the table is not asked: one loop does both.
            if !is_new || self.flight.is_some() || shared.random.hits(shared.options.read_refused) {
                continue;
            }
            store.advance(&mut self.view, shared.mutant);
            let base = self.view.offsets.get(&shared.topics[number].name).copied();
            let holes = match shared.mutant {
                Some(Mutant::AcceptsAnyJump) => Holes::Accept,
                _ => Holes::Verify,
            };
            let mut owned = Owned {
                ledger: Ledger::new(base),
                guard: Guard::new(holes),
                position: 0,
                fetched: VecDeque::new(),
                counted: Vec::new(),
                revoked_turns: None,
            };
            reassign(&mut owned, base.unwrap_or(0), shared);
            self.owned.insert(number, owned);
        }
    }

    /// Fetches from the client, and counts what the guard lets through.
    fn read(&mut self, number: usize, shared: &mut Shared) {
        let owned = self.owned.get_mut(&number).expect("it is being counted");
        let topic = &mut shared.topics[number];
        if topic.is_judge {
            let next = owned.ledger.next();
            if next < topic.end() && shared.random.hits(200) {
                owned.ledger.advance(next..next + 1);
                owned.counted.push(next);
            }
            return;
        }
        fetch(owned, topic, &shared.options, &mut shared.random);
        for _ in 0..shared.random.below(5) {
            let Some((generation, offset)) = owned.fetched.pop_front() else { break };
            let generation = match shared.mutant {
                Some(Mutant::IgnoresGenerations) => owned.guard.generation(),
                _ => generation,
            };
            match owned.guard.judge(generation, offset) {
                Verdict::Take { hole_first } => {
                    owned.ledger.advance(hole_first..offset + 1);
                    owned.counted.push(offset);
                }
                Verdict::Drop(_) => {}
                Verdict::Suspect { expected } => reassign(owned, expected, shared),
                // An operator looks at it, and starts it again.
                Verdict::Stop(_) => {
                    let next = owned.ledger.next();
                    reassign(owned, next, shared);
                }
            }
        }
        // The high watermark is beyond what came: fetch again.
        let (topic, expected) = (&shared.topics[number], owned.ledger.next());
        if owned.fetched.is_empty() && owned.position >= topic.end() && expected < topic.end() {
            reassign(owned, expected, shared);
        }
        assert_eq!(owned.guard.expected(), Some(owned.ledger.next()));
    }

    /// Everything that was counted becomes a commit, if its data files can be written.
    fn cut(&mut self, store: &mut Store, shared: &mut Shared) {
        let (mut moves, mut rows) = (Vec::new(), Vec::new());
        for (number, owned) in &self.owned {
            if let Some(moved) = owned.ledger.movement(&shared.topics[*number].name) {
                rows.extend(owned.counted.iter().map(|offset| Row::Event(*number, *offset)));
                moves.push(moved);
            }
        }
        if moves.is_empty() {
            return self.look(store, shared);
        }
        if shared.random.hits(300) {
            self.notes.push(shared.fresh());
        }
        rows.extend(self.notes.iter().map(|note| Row::Note(*note)));
        let Some(paths) = self.write_files(&rows, &moves, store, shared) else { return };
        if shared.mutant == Some(Mutant::AcknowledgesEarly) {
            acknowledge(&moves, &rows, shared);
        }
        let entry = Entry {
            commit: shared.fresh(),
            adds: paths,
            removes: Vec::new(),
            moves: moves.clone(),
        };
        self.flight = Some(Flight {
            commit: Commit::new(moves, HashSet::new()),
            entry: Rc::new(entry),
            rows,
            written: self.now(shared),
            failures: 0,
            believed: false,
        });
    }

    /// One that has nothing to commit looks whether others have counted its partitions: their
    /// records may be gone from the source, so that none would ever tell it.
    fn look(&mut self, store: &mut Store, shared: &mut Shared) {
        store.advance(&mut self.view, shared.mutant);
        let has_moved = |(number, owned): (&usize, &Owned)| {
            let found = self.view.offsets.get(&shared.topics[*number].name);
            found.copied().unwrap_or(0) != owned.ledger.next()
        };
        if self.owned.iter().any(has_moved) {
            self.rebuild(store, shared);
        }
    }

    /// Writes rows to one or two files; `None` where the store refuses one.
    fn write_files(
        &self,
        rows: &[Row],
        moves: &[Move],
        store: &mut Store,
        shared: &mut Shared,
    ) -> Option<Vec<String>> {
        let middle = shared.random.below(rows.len() + 1);
        let mut paths = Vec::new();
        for (index, rows) in [&rows[..middle], &rows[middle..]].into_iter().enumerate() {
            let path = match shared.mutant {
                Some(Mutant::ReusesPaths) => format!("{}-{:?}", moves[0].partition, moves[0].base),
                _ => shared.fresh().to_string(),
            };
            let path = format!("{path}-{index}");
            let refused = shared.random.hits(shared.options.file_refused);
            if refused || store.full_steps > 0 {
                return None;
            }
            let (rows, written_ms) = (rows.to_vec(), shared.now_ms);
            store.files.insert(path.clone(), DataFile { rows, written_ms });
            paths.push(path);
        }
        Some(paths)
    }

    fn step(&mut self, mut flight: Flight, store: &mut Store, shared: &mut Shared) {
        let now = self.now(shared);
        let is_fresh = match shared.mutant {
            Some(Mutant::NamesOldFiles) => true,
            _ => flight.written.is_fresh(now),
        };
        let Shared { options, random, mutant, .. } = shared;
        let mut attempt = Attempt {
            store,
            view: &mut self.view,
            entry: &flight.entry,
            options,
            random,
            mutant: *mutant,
            conflicts: flight.commit.conflicts(),
            believed: &mut flight.believed,
        };
        match flight.commit.step(&mut attempt, is_fresh) {
            Step::Next | Step::Conflict => self.flight = Some(flight),
            Step::FilesTooOld => {
                let moves = flight.entry.moves.clone();
                if let Some(adds) = self.write_files(&flight.rows, &moves, store, shared) {
                    let (commit, removes) = (flight.entry.commit, Vec::new());
                    flight.entry = Rc::new(Entry { commit, adds, removes, moves });
                    flight.written = self.now(shared);
                    self.flight = Some(flight);
                }
            }
            Step::Landed(_) => self.landed(&flight, shared),
            Step::Fenced(_) => self.rebuild(store, shared),
            Step::Failed(_) if flight.failures < FAILURES_MAX => {
                flight.failures += 1;
                self.flight = Some(flight);
            }
            // Given up: what was counted stays, and goes into the next commit.
            Step::Failed(_) | Step::Contended => {
                if shared.mutant == Some(Mutant::DeletesAfterFailure) {
                    flight.entry.adds.iter().for_each(|path| drop(store.files.remove(path)));
                }
            }
        }
    }

    fn landed(&mut self, flight: &Flight, shared: &mut Shared) {
        for moved in &flight.entry.moves {
            let number = shared.number_of(&moved.partition);
            let owned = self.owned.get_mut(&number).expect("one in flight is not let go");
            owned.ledger.landed(moved.next);
            owned.counted.retain(|offset| *offset >= moved.next);
        }
        self.notes.clear();
        acknowledge(&flight.entry.moves, &flight.rows, shared);
    }
}

/// Clients are told that their events are safe, and the source may forget them.
fn acknowledge(moves: &[Move], rows: &[Row], shared: &mut Shared) {
    for moved in moves {
        let number = shared.number_of(&moved.partition);
        let topic = &mut shared.topics[number];
        topic.acknowledged = topic.acknowledged.max(moved.next);
    }
    let notes = rows.iter().filter(|row| matches!(row, Row::Note(_)));
    shared.landed_notes.extend(notes.copied());
}

/// Assigns a partition afresh. What the client has fetched before stays where it is.
fn reassign(owned: &mut Owned, offset: u64, shared: &mut Shared) {
    let generation = shared.fresh();
    owned.guard.assign(generation, offset);
    owned.position = offset;
    if shared.mutant == Some(Mutant::RewindsBySeek) {
        owned.fetched.iter_mut().for_each(|(fetched_under, _)| *fetched_under = generation);
    }
}

/// The client fetches a few records. It may lose one, and deliver some again. No record is lost
/// twice: it could not be told from a hole by any means.
fn fetch(owned: &mut Owned, topic: &mut Topic, options: &Options, random: &mut Random) {
    let generation = owned.guard.generation();
    for _ in 0..random.below(6) {
        while topic.is_hole(owned.position) {
            owned.position += 1;
        }
        if owned.position >= topic.end() || !topic.is_kept(owned.position) {
            return;
        }
        if random.hits(options.repeated) {
            let back = owned.position.saturating_sub(1 + random.below(6) as u64);
            if !topic.is_hole(back) {
                owned.fetched.push_back((generation, back));
            }
        }
        if !(random.hits(options.lost) && topic.lost.insert(owned.position)) {
            owned.fetched.push_back((generation, owned.position));
        }
        owned.position += 1;
    }
}
