//! Several instances on one table: each adds to its memory what the others have committed, and
//! knows which decisions are its own.
//!
//! Memory is table + own uncommitted, at every version that was followed to: the entries after
//! it are read one by one, our own commits are left out (their rows are in memory already), and
//! of the others the rows of data-changing files are folded. Where that cannot be done (entries
//! were cleaned away, or one is ours that we do not remember), the pipeline is built afresh.
//!
//! Who decides a series' alerts: the instance that counts the partition of its newest rows.
//! Where nobody does any more (a file that has ended), the *judge*, of which there is one: its
//! decisions move [`JUDGE`] in the log, and whoever else decided meanwhile is fenced.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::fold::{Need, fold_dimensions, fold_from, oldest_minute, recent_minutes};
use super::incidents::Book;
use super::ledger::Ledger;
use super::silent::Silence;
use super::verdicts::Docket;
use super::watch::{LOOK_BACK_MINUTES, for_each_stored};
use super::{Partition, Pipeline, PipelineError, Unit, known_in};
use crate::decode;
use crate::query::body::AlertTransition;
use crate::query::incident::notices;
use crate::query::judgement;
use crate::source::chunk::Tail;
use crate::source::file::Known;
use crate::state::shard::NOBODY;
use crate::state::{HISTOGRAM_MINUTES, Key};
use crate::table::schema::Grain;
use crate::table::{Added, Entry, Filter, JUDGE, Move, RELAY, TableError};
use crate::time::Minute;

/// The names of Kafka's partitions begin so.
pub const KAFKA: &str = "kafka/";

/// The newest minute of series, by customer and service, and the partition of its rows.
pub(super) type Owners = BTreeMap<(String, String), (Minute, String)>;

/// What an instance remembers of the table that it follows.
pub(super) struct Following {
    /// The version up to which memory holds everything.
    version: u64,
    /// Our own commits after it.
    own: Vec<u64>,
    /// Of every partition of the table, how far it was counted; `None` until the table was
    /// folded.
    known: Option<BTreeMap<String, Known>>,
    /// The minutes that memory holds.
    memory: RangeInclusive<Minute>,
    /// Whether memory is whole: false from the begin of a rebuild to its end.
    complete: bool,
    judge: Judge,
}

/// Whether this instance decides what spans series.
struct Judge {
    active: bool,
    /// Where [`JUDGE`] stood when the role was taken, or after our last decision.
    base: Option<u64>,
    /// Whether every commit moves it, so that others see that the judge is alive.
    announced: bool,
}

/// What following has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Followed {
    /// Another instance has counted a partition that is counted here: this one is a zombie, and
    /// has to build its pipeline afresh.
    pub overtaken: Option<Overtaken>,
    /// The entries between are not to be followed: the pipeline has to be built afresh. So it is
    /// after a correction, which changes what was folded before.
    pub lost: bool,
    /// Somebody has made or ended a silence.
    pub silences: bool,
    /// What others have decided of alerts, in the order of their ticks; and of incidents and
    /// verdicts, as receivers are told of them.
    pub transitions: Vec<AlertTransition>,
    /// What other instances have moved, partitions and [`JUDGE`], with the name of who did it.
    pub moved: BTreeMap<String, String>,
}

/// A partition that another instance has counted while it was counted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overtaken {
    /// Which.
    pub partition: String,
    /// Where it stood for us.
    pub expected: Option<u64>,
    /// Where the table says it stands.
    pub found: Option<u64>,
}

/// Who decides on the series of each partition, as far as this instance is concerned.
pub(super) struct Deciders {
    /// By number of the partition.
    partitions: Vec<Option<u16>>,
    judge: Option<u16>,
}

impl Deciders {
    /// The partition in whose name this instance decides, [`NOBODY`] for the judge; `None`
    /// where another instance does.
    pub fn of(&self, partition: u16) -> Option<u16> {
        self.partitions.get(usize::from(partition)).copied().unwrap_or(self.judge)
    }
}

impl Following {
    pub fn new(version: u64) -> Following {
        Following {
            version,
            own: Vec::new(),
            known: None,
            memory: Minute(0)..=Minute(u32::MAX),
            complete: true,
            judge: Judge { active: true, base: None, announced: false },
        }
    }

    /// Takes note of a commit of our own.
    pub fn committed(&mut self, version: u64, moved: impl Iterator<Item = Known>) {
        self.own.push(version);
        if let Some(known) = &mut self.known {
            known.extend(moved.map(|one| (one.partition.clone(), one)));
        }
    }

    /// Where every partition of the table stands; `None` until the table was folded.
    pub fn known(&self) -> Option<Vec<Known>> {
        self.known.as_ref().map(|known| known.values().cloned().collect())
    }
}

impl Pipeline {
    /// Names this process in the history of the table and in its health.
    pub fn instance(&self) -> &str {
        self.table.instance()
    }

    /// Whether memory holds all that the table says. It does not from the begin of a rebuild
    /// until it has succeeded; answers from memory would be wrong meanwhile.
    pub fn is_complete(&self) -> bool {
        self.following.complete
    }

    /// The first minute of which memory holds everything; minute 0 where it holds the whole
    /// table.
    pub fn memory_from(&self) -> Minute {
        *self.following.memory.start()
    }

    /// Says that memory is not to be trusted: it has to be built afresh.
    pub fn distrust(&mut self) {
        self.following.complete = false;
    }

    /// The partitions that are being counted, in no order.
    pub fn owned(&self) -> impl Iterator<Item = &str> {
        self.partitions.iter().filter(|one| one.owned).map(|one| one.name.as_str())
    }

    /// Whether something was counted, or decided, that no commit has taken.
    pub fn has_uncommitted(&self) -> bool {
        self.has_transitions() || !self.sent.is_empty() || self.has_moved()
    }

    /// Whether offsets were counted that no commit has taken.
    pub fn has_moved(&self) -> bool {
        self.partitions.iter().any(|one| one.movement().is_some())
    }

    /// Lines that no commit has taken.
    pub fn uncommitted_lines(&self) -> u64 {
        self.partitions.iter().map(|one| one.lines.read).sum()
    }

    /// Takes note that memory was folded from the table as it stands. Whose series are is read
    /// from the files of `since`, where memory knows of the others.
    pub(super) fn recovered(
        &mut self,
        memory: RangeInclusive<Minute>,
        since: Option<Added>,
    ) -> Result<(), PipelineError> {
        let known = known_in(&self.table)?.into_iter();
        let is_all = oldest_minute(&self.table)?.is_none_or(|oldest| memory.contains(&oldest));
        let first = if is_all { Minute(0) } else { *memory.start() };
        let following = &mut self.following;
        following.known = Some(known.map(|one| (one.partition.clone(), one)).collect());
        following.memory = first..=*memory.end();
        following.version = self.table.version();
        following.own.clear();
        following.judge.base = self.table.offset(JUDGE)?;
        if let Some(newest) = self.state.newest() {
            let minutes = newest.minus(LOOK_BACK_MINUTES)..=newest;
            self.fold_owners(Filter { added: since, ..Filter::of_minutes(minutes) })?;
        }
        self.following.complete = true;
        Ok(())
    }

    /// Advances to the newest version of the table, and adds what others have committed.
    ///
    /// # Errors
    /// The table cannot be read; where that was in the midst of folding, memory is not
    /// [complete](Pipeline::is_complete) any more.
    pub fn follow(&mut self) -> Result<Followed, PipelineError> {
        self.table.refresh()?;
        let mut followed = Followed::default();
        let entries = self.table.entries_after(self.following.version)?;
        let Some(entries) = entries.and_then(|entries| self.foreign(entries)) else {
            followed.lost = true;
            followed.overtaken = self.overtaken()?;
            return Ok(followed);
        };
        for entry in &entries {
            if !entry.instance.is_empty() {
                let by = |(id, _): &(String, u64)| (id.clone(), entry.instance.clone());
                let moves = entry.moves.iter().filter(|(id, _)| !id.starts_with(RELAY));
                followed.moved.extend(moves.map(by));
            }
        }
        followed.overtaken = self.overtaken()?;
        if followed.overtaken.is_some() {
            return Ok(followed);
        }
        let added = Added::of_all(entries.iter().map(|entry| &entry.files));
        followed.silences = added.has(Grain::Silence);
        if added.has(Grain::Correction) {
            followed.lost = true;
            return Ok(followed);
        }
        if !added.is_empty() {
            self.following.complete = false;
            followed.transitions = self.take_added(&followed, &added)?;
            self.following.complete = true;
        }
        self.following.version = self.table.version();
        self.following.own.clear();
        if followed.moved.contains_key(JUDGE) {
            self.stop_judging()?;
        }
        Ok(followed)
    }

    /// The entries of others; `None` where one is ours that we do not remember: it landed after
    /// all, and what it holds is in memory as uncommitted.
    fn foreign(&self, mut entries: Vec<Entry>) -> Option<Vec<Entry>> {
        entries.retain(|entry| !self.following.own.contains(&entry.version));
        let mine = self.table.instance();
        entries.iter().all(|entry| entry.instance != mine).then_some(entries)
    }

    /// The first partition of ours that the table says others have counted.
    fn overtaken(&self) -> Result<Option<Overtaken>, TableError> {
        for partition in self.partitions.iter().filter(|one| one.owned) {
            let (expected, found) = (partition.ledger.base(), self.table.offset(&partition.name)?);
            if found != expected {
                let partition = partition.name.clone();
                return Ok(Some(Overtaken { partition, expected, found }));
            }
        }
        Ok(None)
    }

    /// Folds the rows of files that others have added; returns their transitions.
    fn take_added(
        &mut self,
        followed: &Followed,
        added: &Added,
    ) -> Result<Vec<AlertTransition>, PipelineError> {
        let filter = |minutes| Filter { added: Some(added.clone()), ..Filter::of_minutes(minutes) };
        let memory = self.following.memory.clone();
        let oldest = self.state.newest().unwrap_or_default().minus(HISTOGRAM_MINUTES);
        let histograms = Some(oldest..=Minute(u32::MAX));
        let need = Need { customer: None, minutes: memory.clone(), histograms };
        fold_from(&self.table, &self.options.slis, &need, Some(added), &mut self.state)?;
        if let Some(newest) = self.state.newest() {
            fold_dimensions(&self.table, &filter(recent_minutes(newest)), &mut self.state)?;
        }
        self.state.forget();
        for name in followed.moved.keys().filter(|name| *name != JUDGE) {
            if let Some(number) = self.number_for(name) {
                self.partitions[usize::from(number)].elsewhere = true;
            }
        }
        self.fold_owners(filter(memory))?;
        let of_files = Filter { added: Some(added.clone()), ..Filter::default() };
        let mut stored = Vec::new();
        for_each_stored(&self.table, &of_files, |one| stored.push(one))?;
        stored.sort_by_key(|one| one.tick.order());
        stored.iter().for_each(|one| self.watch.enter(&one.transition));
        let changes = self.incidents.enter(&self.table, &of_files)?;
        let judgements = self.verdicts.enter(&self.table, &of_files)?;
        if self.state.pending() == 0 {
            self.bound_memory();
        }
        self.take_known(&of_files)?;
        let told = changes.iter().flat_map(|change| notices(&change.incident));
        let told = told.chain(judgements.iter().map(|one| judgement::notice(&one.judgement)));
        Ok(stored.into_iter().map(|one| one.transition).chain(told).collect())
    }

    fn take_known(&mut self, filter: &Filter) -> Result<(), PipelineError> {
        let Some(known) = &mut self.following.known else { return Ok(()) };
        self.table.for_each_source(filter, |row| {
            let (partition, next) = (row.partition.to_owned(), row.next);
            let tail = row.tail.try_into().unwrap_or([0; 32]);
            if known.get(&partition).is_none_or(|one| one.next < next) {
                known.insert(partition.clone(), Known { partition, next, tail });
            }
        })?;
        Ok(())
    }

    /// Whether memory holds all that the table says at the version it was read last.
    pub(super) fn is_followed(&self) -> bool {
        let Following { version, own, .. } = &self.following;
        (version + 1..=self.table.version()).all(|version| own.contains(&version))
    }

    /// The minutes that memory holds.
    pub(super) fn remembered(&self) -> RangeInclusive<Minute> {
        self.following.memory.clone()
    }

    /// Notes of each series that may burn which partition its newest rows are from.
    fn fold_owners(&mut self, filter: Filter) -> Result<(), PipelineError> {
        let columns = Some(vec!["minute", "customer", "service", "partition"]);
        let mut rows = Owners::new();
        let state = &self.state;
        self.table.for_each_series(&Filter { columns, ..filter }, |row| {
            if !state.is_hot(row.customer, row.service) {
                return;
            }
            let key = (row.customer.to_owned(), row.service.to_owned());
            let newest = (row.minute, row.partition.to_owned());
            let known = rows.entry(key).or_insert_with(|| newest.clone());
            *known = newest.max(std::mem::take(known));
        })?;
        self.own(rows);
        Ok(())
    }

    /// Notes of series that may burn which partition their newest rows are from.
    pub(super) fn own(&mut self, owners: Owners) {
        for ((customer, service), (minute, partition)) in owners {
            let number = self.number_for(&partition).unwrap_or(NOBODY);
            let at = Key { customer: &customer, service: &service, minute };
            self.state.own(at, number);
        }
    }

    /// The number of a partition, whoever counts it; `None` where there are too many.
    pub(super) fn number_for(&mut self, name: &str) -> Option<u16> {
        let known = self.partitions.iter().position(|one| one.name == name);
        let number = known.unwrap_or(self.partitions.len());
        let number = u16::try_from(number).ok().filter(|number| *number < NOBODY)?;
        if known.is_none() {
            self.partitions.push(Partition::of_others(name));
        }
        Some(number)
    }

    /// Another instance has not counted a partition for long: its series may be decided by the
    /// judge again. Of Kafka's partitions each is always somebody's, as long as one is ours.
    pub fn forget_owner(&mut self, name: &str) {
        let named = self.partitions.iter_mut().filter(|one| one.name == name);
        named.for_each(|one| one.elsewhere = false);
    }

    pub(super) fn deciders(&self) -> Deciders {
        let in_group = self.owned().any(|name| name.starts_with(KAFKA));
        let judge = self.following.judge.active.then_some(NOBODY);
        let of = |(number, one): (usize, &Partition)| match one {
            _ if one.owned => Some(number as u16),
            _ if one.elsewhere || (in_group && one.name.starts_with(KAFKA)) => None,
            _ => judge,
        };
        Deciders { partitions: self.partitions.iter().enumerate().map(of).collect(), judge }
    }

    /// Whether this instance decides what spans series.
    pub fn is_judge(&self) -> bool {
        self.following.judge.active
    }

    /// Takes the role of the judge: decisions go on from where [`JUDGE`] stands. With
    /// `announced` each commit says that the judge is alive. True unless another pipeline is
    /// told so: a new one judges.
    ///
    /// # Errors
    /// The log holds a number below zero.
    pub fn judge(&mut self, announced: bool) -> Result<(), PipelineError> {
        let base = self.table.offset(JUDGE)?;
        self.following.judge = Judge { active: true, base, announced };
        Ok(())
    }

    /// Whether each commit says that the judge is alive: worth it where others listen.
    pub fn announce(&mut self, announced: bool) {
        self.following.judge.announced = announced;
    }

    /// Gives the role up, and with it what was decided in it since the last commit.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn stop_judging(&mut self) -> Result<(), PipelineError> {
        self.following.judge.active = false;
        self.silence = Silence::default();
        if self.watch.partitions().any(|partition| partition == NOBODY) {
            self.watch.forget_judged(&self.table)?;
        }
        if !self.incidents.pending().is_empty() {
            let newest = self.state.newest().unwrap_or_default();
            self.incidents = Book::recover(&self.table, newest)?;
        }
        if !self.verdicts.pending().is_empty() {
            self.verdicts = Docket::recover(&self.table)?;
        }
        Ok(())
    }

    /// What an epoch moves: partitions that were counted; those in whose name something was
    /// decided stay where they are, which fences a decision that is not ours any more; the judge.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves: Vec<Move> = self.partitions.iter().filter_map(Partition::movement).collect();
        for number in self.watch.partitions().filter(|number| *number != NOBODY) {
            let Partition { name, ledger, .. } = &self.partitions[usize::from(number)];
            let (base, next) = (ledger.base(), ledger.next());
            if base.is_some() && moves.iter().all(|one| one.partition != *name) {
                moves.push(Move { partition: name.clone(), base, next });
            }
        }
        let judge = &self.following.judge;
        let has_judged = self.watch.partitions().any(|partition| partition == NOBODY)
            || !self.incidents.pending().is_empty()
            || !self.verdicts.pending().is_empty();
        if judge.active && (has_judged || (judge.announced && !moves.is_empty())) {
            let (partition, base) = (JUDGE.to_owned(), judge.base);
            moves.push(Move { partition, base, next: base.map_or(1, |base| base + 1) });
        }
        moves
    }

    /// Takes note that an epoch with these moves has landed.
    pub(super) fn moved(&mut self, version: u64, moves: &[Move]) {
        let judged = moves.iter().find(|one| one.partition == JUDGE);
        if let Some(judged) = judged {
            self.following.judge.base = Some(judged.next);
        }
        let partitions = self.partitions.iter().filter(|one| one.movement().is_some());
        let known = partitions.map(|one| {
            let (partition, next, tail) = (one.name.clone(), one.ledger.next(), one.tail.hash());
            Known { partition, next, tail }
        });
        self.following.committed(version, known);
    }
}

impl Partition {
    /// A partition of which we know only that there are rows of it.
    fn of_others(name: &str) -> Partition {
        Partition {
            name: name.to_owned(),
            owned: false,
            elsewhere: false,
            unit: Unit::Bytes,
            label: String::new(),
            decode: decode::Options::default(),
            ledger: Ledger::new(None),
            tail: Tail::default(),
            lines: Default::default(),
            since_begin: Default::default(),
            dead: Vec::new(),
            dedupe: None,
        }
    }
}
