//! The world: the log of records, who reads what, the clock, housekeeping, and the check.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use ninefold_engine::table::protocol::{Commit, Moment, Step};

use crate::instance::Instance;
use crate::options::{Mutant, Options, Random};
use crate::store::{Attempt, DataFile, Entry, Fault, Row, State, Store};

const HOUR_MS: i64 = 3_600_000;

/// Orphans younger than this are left alone.
const ORPHAN_AGE_MS: i64 = 24 * HOUR_MS;

/// One partition of the source.
pub struct Topic {
    pub name: String,
    /// Whether its offsets are decisions, made by who owns it.
    pub is_judge: bool,
    /// Whether what was acknowledged is forgotten: a write-ahead log.
    is_freed: bool,
    is_record: Vec<bool>,
    /// What clients were told to be safe.
    pub acknowledged: u64,
    /// Records that a client has lost once.
    pub lost: BTreeSet<u64>,
}

impl Topic {
    pub fn end(&self) -> u64 {
        self.is_record.len() as u64
    }

    pub fn is_hole(&self, offset: u64) -> bool {
        self.is_record.get(offset as usize) == Some(&false)
    }

    pub fn is_kept(&self, offset: u64) -> bool {
        !self.is_freed || offset >= self.acknowledged
    }
}

/// What every actor sees.
pub struct Shared {
    pub options: Options,
    pub random: Random,
    pub mutant: Option<Mutant>,
    pub now_ms: i64,
    pub topics: Vec<Topic>,
    /// Which instance reads each partition.
    pub owners: Vec<Option<usize>>,
    pub landed_notes: Vec<Row>,
    numbers: u64,
}

impl Shared {
    /// A number that was never used: an id, a path, a generation.
    pub fn fresh(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The moment by clocks that are right.
    pub fn now(&self) -> Moment {
        Moment { wall_ms: self.now_ms, boot_ms: self.now_ms }
    }

    pub fn number_of(&self, name: &str) -> usize {
        let found = self.topics.iter().position(|topic| topic.name == name);
        found.expect("moves name partitions that there are")
    }
}

/// Somebody who compacts: two of the live files into one.
#[derive(Default)]
struct Compactor {
    view: State,
    flight: Option<Merge>,
}

/// A compaction on its way.
struct Merge {
    commit: Commit<Fault>,
    entry: Rc<Entry>,
    written: Moment,
}

/// Somebody who collects orphans, in three steps with pauses between.
#[derive(Default)]
struct Collector {
    orphans: Vec<String>,
    announced: bool,
}

pub struct World {
    store: Store,
    shared: Shared,
    instances: Vec<Instance>,
    compactors: [Compactor; 2],
    collector: Collector,
    trace: bool,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, trace: bool) -> World {
        let mut random = Random::new(seed);
        let options = Options::of_seed(&mut random);
        if trace {
            println!("seed {seed}: {options:#?}");
        }
        let topics = (0..options.topics + 2).map(|number| topic(number, &options, &mut random));
        let topics: Vec<Topic> = topics.collect();
        let owners = topics.iter().map(|_| None).collect();
        let instances = (0..options.instances).map(Instance::new).collect();
        let (now_ms, landed_notes, numbers) = (1_000 * HOUR_MS, Vec::new(), 0);
        World {
            store: Store::default(),
            shared: Shared {
                options,
                random,
                mutant,
                now_ms,
                topics,
                owners,
                landed_notes,
                numbers,
            },
            instances,
            compactors: Default::default(),
            collector: Collector::default(),
            trace,
        }
    }

    /// All faults for a while, then none: what is wrong, if anything is.
    pub fn run(&mut self) -> Result<(), String> {
        for step in 0..self.shared.options.steps {
            self.step();
            if let Some(violation) = self.store.violation.take() {
                return Err(format!("step {step}: {violation}"));
            }
        }
        self.check().map_err(|wrong| format!("with faults: {wrong}"))?;
        self.calm();
        if let Some(violation) = self.store.violation.take() {
            return Err(format!("without faults: {violation}"));
        }
        self.check().map_err(|wrong| format!("without faults: {wrong}"))?;
        self.check_everything_is_counted()
    }

    /// Whether something happens in this step.
    fn happens(&mut self, permille: u32, what: &str) -> bool {
        let happens = self.shared.random.hits(permille);
        if happens && self.trace {
            println!("{what}");
        }
        happens
    }

    fn step(&mut self) {
        self.shared.now_ms += self.shared.random.below(20_000) as i64;
        let options = self.shared.options.clone();
        self.store.full_steps = self.store.full_steps.saturating_sub(1);
        if self.happens(300, "late put") {
            self.store.land_late(&mut self.shared.random);
        }
        if self.happens(options.disk_full, "disk full") {
            self.store.full_steps = 30;
        }
        self.disturb(&options);
        self.move_partitions(&options);
        self.keep_house(&options);
        let number = self.shared.random.below(self.instances.len());
        let instance = &mut self.instances[number];
        if instance.asleep > 0 {
            instance.asleep -= 1;
        } else {
            instance.turn(&mut self.store, &mut self.shared);
        }
    }

    /// Something happens to an instance.
    fn disturb(&mut self, options: &Options) {
        let number = self.shared.random.below(self.instances.len());
        if self.happens(options.crash, "crash") {
            self.instances[number].crash();
        }
        if self.happens(options.sleep, "sleep") {
            self.instances[number].asleep = self.shared.random.below(40) as u32;
        }
        if self.happens(options.long_sleep, "long sleep") {
            self.instances[number].asleep = 1 + self.shared.random.below(30) as u32;
            self.shared.now_ms += 25 * HOUR_MS;
        }
        if self.happens(options.clock_set, "clock set") {
            let hours = self.shared.random.below(97) as i64 - 48;
            self.instances[number].skew_ms = hours * HOUR_MS;
        }
    }

    fn move_partitions(&mut self, options: &Options) {
        let (revoked, stolen) =
            (self.happens(options.revoke, "revoke"), self.happens(options.steal, "steal"));
        let number = self.shared.random.below(self.shared.topics.len());
        let unowned = self.shared.owners[number].is_none();
        if !(revoked || stolen || unowned) {
            return;
        }
        let next = self.shared.random.below(self.instances.len());
        let before = self.shared.owners[number].replace(next);
        if let Some(before) = before.filter(|before| revoked && *before != next) {
            self.instances[before].revoke(number);
        }
    }

    fn keep_house(&mut self, options: &Options) {
        let number = self.shared.random.below(self.instances.len());
        if self.happens(options.checkpoint, "checkpoint") {
            let torn = self.shared.random.hits(options.torn);
            let view = self.instances[number].view();
            if view.version > 0 {
                self.store.checkpoint(view, torn);
            }
        }
        if self.happens(options.bit_flip, "bit flip") {
            self.store.flip_bit();
        }
        if self.happens(options.clean_up, "clean up") {
            self.store.clean_up(self.shared.mutant);
        }
        if self.happens(options.vacuum * 3, "vacuum") {
            self.vacuum();
        }
        if self.happens(options.compact * 3, "compact") {
            self.compact();
        }
    }

    /// Looks for orphans; announces itself; deletes what is still one.
    fn vacuum(&mut self) {
        let Shared { mutant, now_ms, .. } = self.shared;
        let collector = &mut self.collector;
        if collector.orphans.is_empty() {
            let age_ms = if mutant == Some(Mutant::CollectsYoungFiles) { 0 } else { ORPHAN_AGE_MS };
            collector.orphans = self.store.orphans(now_ms, age_ms);
            collector.announced = mutant == Some(Mutant::CollectsUnannounced);
        } else if !collector.announced {
            collector.announced = self.store.announce(self.shared.fresh());
        } else {
            self.store.collect(&std::mem::take(&mut self.collector.orphans));
        }
    }

    /// One step of one of the compactors.
    fn compact(&mut self) {
        let (store, shared) = (&mut self.store, &mut self.shared);
        let compactor = &mut self.compactors[shared.random.below(2)];
        let Some(Merge { mut commit, entry, written }) = compactor.flight.take() else {
            store.advance(&mut compactor.view, shared.mutant);
            compactor.flight = merge_two(&compactor.view, store, shared);
            return;
        };
        let conflicts = commit.conflicts();
        let is_fresh = written.is_fresh(shared.now());
        let Shared { options, random, mutant, .. } = shared;
        let mut attempt = Attempt {
            store,
            view: &mut compactor.view,
            entry: &entry,
            options,
            random,
            mutant: *mutant,
            conflicts,
            believed: &mut false,
        };
        // What does not land is given up: there will be another time.
        if let Step::Next | Step::Conflict = commit.step(&mut attempt, is_fresh) {
            compactor.flight = Some(Merge { commit, entry, written });
        }
    }

    /// Everybody is awake, nothing fails, and partitions stay where they are.
    fn calm(&mut self) {
        self.shared.options = self.shared.options.calm();
        self.store.land_all();
        self.store.full_steps = 0;
        for (number, owner) in self.shared.owners.iter_mut().enumerate() {
            *owner = Some(number % self.instances.len());
        }
        for instance in &mut self.instances {
            instance.asleep = 0;
        }
        for _ in 0..600 {
            for instance in &mut self.instances {
                instance.turn(&mut self.store, &mut self.shared);
            }
            if self.is_everything_counted() {
                return;
            }
        }
    }

    fn is_everything_counted(&mut self) -> bool {
        let state = self.store.fold();
        let ended = |topic: &Topic| state.offsets.get(&topic.name) == Some(&topic.end());
        self.shared.topics.iter().all(ended)
    }

    fn check_everything_is_counted(&mut self) -> Result<(), String> {
        let state = self.store.fold();
        for topic in &self.shared.topics {
            let found = state.offsets.get(&topic.name).copied().unwrap_or(0);
            if found != topic.end() {
                return Err(format!("{} stands at {found} for ever", topic.name));
            }
        }
        Ok(())
    }

    /// What a reader sees: each event before the offset of its partition once, nothing beyond,
    /// and what was acknowledged.
    fn check(&mut self) -> Result<(), String> {
        let state = self.store.fold();
        let mut rows: BTreeMap<Row, u32> = BTreeMap::new();
        for path in &state.live {
            let file = self.store.files.get(path).ok_or(format!("data file {path} is missing"))?;
            file.rows.iter().for_each(|row| *rows.entry(*row).or_default() += 1);
        }
        for (number, topic) in self.shared.topics.iter().enumerate() {
            let next = state.offsets.get(&topic.name).copied().unwrap_or(0);
            for offset in 0..topic.end() {
                let expect = u32::from(offset < next && !topic.is_hole(offset));
                let found = rows.get(&Row::Event(number, offset)).copied().unwrap_or(0);
                if found != expect {
                    let name = &topic.name;
                    return Err(format!("{name} at {next}: {offset} counted {found} times"));
                }
            }
            if topic.acknowledged > next {
                let (name, acknowledged) = (&topic.name, topic.acknowledged);
                return Err(format!("{name} at {next} was acknowledged up to {acknowledged}"));
            }
        }
        let landed: BTreeSet<&Row> = self.shared.landed_notes.iter().collect();
        let twice = rows.iter().find(|(row, count)| matches!(row, Row::Note(_)) && **count > 1);
        if let Some((note, count)) = twice {
            return Err(format!("{note:?} is there {count} times"));
        }
        match landed.into_iter().find(|note| !rows.contains_key(note)) {
            Some(lost) => Err(format!("{lost:?} was told to have landed, and is not there")),
            None => Ok(()),
        }
    }
}

fn topic(number: usize, options: &Options, random: &mut Random) -> Topic {
    let (is_judge, is_freed) = (number == options.topics, number == options.topics + 1);
    let name = match (is_judge, is_freed) {
        (true, _) => "judge".to_owned(),
        (_, true) => "wal/0".to_owned(),
        _ => format!("kafka/requests/{number}"),
    };
    let holes = if is_judge || is_freed { 0 } else { options.holes };
    let end = if is_judge { 8 } else { options.records };
    let mut is_record: Vec<bool> = (0..end).map(|_| !random.hits(holes)).collect();
    // A hole at the end shows only when something comes behind it.
    is_record.push(true);
    Topic { name, is_judge, is_freed, is_record, acknowledged: 0, lost: BTreeSet::new() }
}

/// Writes the rows of two live files into one.
fn merge_two(view: &State, store: &mut Store, shared: &mut Shared) -> Option<Merge> {
    let live: Vec<&String> = view.live.iter().collect();
    if live.len() < 2 {
        return None;
    }
    let first = shared.random.below(live.len() - 1);
    let removes = vec![live[first].clone(), live[first + 1].clone()];
    // One that was collected meanwhile was replaced before.
    let rows = |path: &String| store.files.get(path).map(|file| file.rows.clone());
    let rows = removes.iter().map(rows).collect::<Option<Vec<_>>>()?.concat();
    let path = format!("merged-{}", shared.fresh());
    store.files.insert(path.clone(), DataFile { rows, written_ms: shared.now_ms });
    let gone: HashSet<String> = removes.iter().cloned().collect();
    let (commit, adds, moves) = (shared.fresh(), vec![path], Vec::new());
    let entry = Rc::new(Entry { commit, adds, removes, moves });
    Some(Merge { commit: Commit::new(Vec::new(), gone), entry, written: shared.now() })
}
