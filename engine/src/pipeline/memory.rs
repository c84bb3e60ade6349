//! Memory has bounds: when to commit sooner, whom to evict, and how to load them again.
//!
//! Two things grow with what comes. *Uncommitted events* end with a commit, so that reaching
//! their bound is a reason to commit. *Series* grow with the number of customers: after a
//! commit, when the table holds everything, those that were idle longest are evicted.
//!
//! Answers and alerts stay exact. A series whose customer may have been evicted before is
//! *partial*: it is loaded from the table before it is answered or judged. Only a bad event can
//! bring a series to fire, so a tick loads those partial series alone that had one. Never
//! evicted is whoever has a firing alert, and, as long as there are others, whoever may come to
//! fire by time alone: windows move, and good events leave them too.

use std::collections::{HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use super::fold::{FEW, Need, Wanted, Watching, fold_wanted, newest_minute};
use super::follow::Owners;
use super::watch::LOOK_BACK_MINUTES;
use super::{Pipeline, PipelineError};
use crate::query::{MemoryPart, MemoryUse};
use crate::slo::alert::{AlertOptions, SPECS};
use crate::slo::objective::Objectives;
use crate::state::shard::Shard;
use crate::state::{HISTOGRAM_MINUTES, Keep, State};
use crate::table::read::SeriesRow;
use crate::time::{MINUTE_MS, Minute};

/// What an uncommitted event takes at most, where it becomes a row of its own: its record with
/// room to grow, and its part of the sorted copies, the rows and the files of the commit.
pub const EVENT_BYTES: usize = 512;

/// How many customers who cannot burn are loaded along with those who may.
const ALONG_MAX: usize = 1_000;

/// After so many looks while rows of the table are folded everything is packed: each comes after
/// some ten thousands of rows, so that of many series each has a few minutes by then.
const PACK_LOOKS: u32 = 128;

/// Bounds of what grows; none unless set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of uncommitted events, in bytes: reached, they are committed.
    pub uncommitted_bytes: usize,
    /// Of names and series, in bytes: reached, it is committed, and who was idle longest is
    /// evicted.
    pub series_bytes: usize,
    /// New customers a minute above which it is said so; 0 = never.
    pub new_customers_per_minute: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            uncommitted_bytes: usize::MAX,
            series_bytes: usize::MAX,
            new_customers_per_minute: 0,
        }
    }
}

/// What the pipeline remembers about its memory.
pub(super) struct Memory {
    bounds: Bounds,
    /// The size of the series at which they are looked over next.
    evict_at: usize,
    /// The minute that alerts were judged for last.
    judged: Minute,
    /// The fewest bad events that any alert fires on, as of the last tick.
    bad_min: u64,
    /// How often it was looked at while rows of the table were folded.
    looks: u32,
    /// Evicted although they might have come to fire.
    evicted_hot: u64,
    /// Customers loaded again, so that they could be judged.
    loaded: u64,
    /// At each tick of the last minute: its time, and how many customers were ever new.
    arrivals: VecDeque<(i64, u64)>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            bounds: Bounds::default(),
            evict_at: usize::MAX,
            judged: Minute(0),
            bad_min: 1,
            looks: 0,
            evicted_hot: 0,
            loaded: 0,
            arrivals: VecDeque::new(),
        }
    }
}

impl Memory {
    /// Whether series are to be looked over, which takes a commit.
    pub(super) fn is_full(&self, state: &State) -> bool {
        let (events, bounds) = (state.pending(), &self.bounds);
        let uncommitted = events.saturating_mul(EVENT_BYTES) >= bounds.uncommitted_bytes;
        events > 0 && (uncommitted || state.bytes() >= self.evict_at)
    }

    /// Notes of a tick what evictions depend on.
    pub(super) fn note_tick(
        &mut self,
        state: &State,
        now_ms: i64,
        (objectives, options): (&Objectives, &AlertOptions),
    ) {
        self.judged = Minute::of_ms(now_ms);
        self.bad_min = bad_min(objectives, options);
        self.arrivals.push_back((now_ms, state.new_customers()));
        // One tick of a minute ago or more stays, which the rate is told from.
        while self.arrivals.get(1).is_some_and(|(at, _)| *at <= now_ms - MINUTE_MS) {
            self.arrivals.pop_front();
        }
    }

    /// Forgets what it remembers of a state that is built afresh.
    fn reset(&mut self) {
        self.evict_at = self.bounds.series_bytes;
        self.arrivals.clear();
    }

    /// Whoever comes from now on is new.
    fn begin(&mut self, state: &State) {
        self.arrivals.push_back((i64::MIN, state.new_customers()));
    }

    /// New customers over the last minute, as of the last tick.
    fn new_customers_per_minute(&self) -> u64 {
        let (first, last) = (self.arrivals.front(), self.arrivals.back());
        first.zip(last).map_or(0, |(first, last)| last.1 - first.1)
    }

    /// Evicts who was idle longest where the bound is reached. Everything has to be committed.
    fn evict(&mut self, state: &mut State, firing: &HashSet<&str>) {
        if state.bytes() < self.evict_at {
            return;
        }
        let longest_short = SPECS.iter().map(|spec| spec.short.1).max().unwrap_or(0);
        let keep = Keep {
            last_bad: self.judged.minus(longest_short),
            since: self.judged.minus(LOOK_BACK_MINUTES),
            bad_min: self.bad_min,
        };
        let most = self.bounds.series_bytes;
        let [_, hot] = state.evict((most / 4 * 3, most), &|who| firing.contains(who), keep);
        self.evicted_hot += hot;
        // What is left may be protected; it has to grow before it is looked over again.
        self.evict_at = most.max(state.bytes() + most / 8);
    }

    /// While rows of the table are folded: keeps within the bound.
    fn tidy(&mut self, state: &mut State, firing: &HashSet<&str>) {
        self.looks += 1;
        if self.looks.is_multiple_of(PACK_LOOKS) {
            pack(state);
        }
        if state.bytes() >= self.evict_at
            && let Some(newest) = state.newest()
        {
            pack(state);
            self.judged = newest;
            self.evict(state, firing);
        }
    }
}

/// The fewest bad events that any alert fires on.
pub(super) fn bad_min(objectives: &Objectives, options: &AlertOptions) -> u64 {
    let own = objectives.all().flat_map(|objective| &objective.tiers);
    let own = own.filter_map(|tier| tier.min_bad).min();
    own.unwrap_or(u64::MAX).min(options.min_bad)
}

/// Packs what is older than the last hours, as a running service has it.
fn pack(state: &mut State) {
    let newest = state.newest().unwrap_or_default();
    state.pack_before(newest.minus(HISTOGRAM_MINUTES));
}

impl Pipeline {
    /// Whether its memory is at one of its bounds, which a commit gives room in.
    pub fn is_short_of_memory(&self) -> bool {
        self.memory.is_full(&self.state)
    }

    /// Sets the bounds of its memory.
    pub fn bound(&mut self, bounds: Bounds) {
        self.memory.bounds = bounds;
        self.memory.evict_at = bounds.series_bytes;
    }

    /// Whether [`Pipeline::load_evicted`] has something to do.
    pub fn lacks_evicted(&self) -> bool {
        let lacks = |shard: &Shard| shard.hot_partial().next().is_some();
        self.is_followed() && self.state.shards.iter().any(lacks)
    }

    /// Loads the series that are to be judged and that may have been evicted before; how many
    /// customers that were. Before each tick: what is not loaded is not judged.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn load_evicted(&mut self) -> Result<usize, PipelineError> {
        // What others have committed is loaded once it was followed to, or it would count twice.
        if !self.lacks_evicted() {
            return Ok(0);
        }
        let mut customers = self.state.hot_partial();
        if customers.len() > FEW {
            // One pass over the table serves all: others come back into the rankings with it.
            customers.extend(self.state.partial(ALONG_MAX));
            customers.sort_unstable();
            customers.dedup();
        }
        let newest = self.state.newest().unwrap_or_default();
        let need = Need {
            customer: None,
            minutes: self.remembered(),
            histograms: Some(newest.minus(HISTOGRAM_MINUTES - 1)..=Minute(u32::MAX)),
        };
        let mut owners = Owners::new();
        let whole = self.load(&customers, &need, &mut owners)?;
        self.state.complete(&customers, whole);
        self.own(owners);
        self.memory.loaded += customers.len() as u64;
        Ok(customers.len())
    }

    /// The whole series of `customers`: what the table holds and what is not committed yet. The
    /// customer of `need` does not matter.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn whole_of(&self, customers: &[String], need: &Need) -> Result<State, PipelineError> {
        self.load(customers, need, &mut Owners::new())
    }

    fn load(
        &self,
        customers: &[String],
        need: &Need,
        owners: &mut Owners,
    ) -> Result<State, PipelineError> {
        let options = &self.options;
        let further = options.slis.further.len();
        let mut whole = State::new(options.dimension_values_max, further, true, self.state.seed());
        let wanted = Wanted::of(customers);
        let owners = Mutex::new(owners);
        let note = |row: &SeriesRow<'_>| {
            let key = (row.customer.to_owned(), row.service.to_owned());
            let mut owners = owners.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = owners.entry(key).or_default();
            if newest.0 <= row.minute {
                *newest = (row.minute, row.partition.to_owned());
            }
        };
        let (of, watching) = ((&wanted, None), Watching { each: Some(&note), between: None });
        fold_wanted(&self.table, &options.slis, need, of, &mut whole, watching)?;
        whole.fold_uncommitted(&self.state, customers);
        Ok(whole)
    }

    /// After a commit: keeps names and series within their bound.
    pub(super) fn bound_memory(&mut self) {
        if self.state.is_live() {
            let firing = self.watch.firing();
            self.memory.evict(&mut self.state, &firing);
        } else if self.state.bytes() >= self.memory.bounds.series_bytes {
            self.state.forget_names();
            // The summary can no longer tell from memory who was counted.
            self.resumed = true;
        }
    }

    /// How many bytes names and series may take.
    pub(super) fn series_bound(&self) -> usize {
        self.memory.bounds.series_bytes
    }

    /// Brings a state that was restored or folded afresh within its bounds.
    pub(super) fn bound_restored(&mut self) {
        self.memory.reset();
        self.memory.tidy(&mut self.state, &self.watch.firing());
        self.memory.begin(&self.state);
    }

    /// Folds the table into memory, within its bounds.
    pub(super) fn fold_table(
        &mut self,
        minutes: RangeInclusive<Minute>,
    ) -> Result<(), PipelineError> {
        let need = Need {
            customer: None,
            histograms: newest_minute(&self.table, *minutes.end())?
                .map(|newest| newest.minus(HISTOGRAM_MINUTES)..=*minutes.end()),
            minutes,
        };
        self.memory.reset();
        let (firing, memory) = (self.watch.firing(), &mut self.memory);
        let mut tidy = |state: &mut State| memory.tidy(state, &firing);
        let (slis, state) = (&self.options.slis, &mut self.state);
        let watching = Watching { each: None, between: Some(&mut tidy) };
        fold_wanted(&self.table, slis, &need, (&Wanted::All, None), state, watching)?;
        pack(&mut self.state);
        self.state.tighten();
        self.bound_restored();
        Ok(())
    }

    /// What each part of the memory takes, and its bound.
    pub fn memory_use(&self) -> MemoryUse {
        let bounds = self.memory.bounds;
        let bound = |bytes: usize| (bytes < usize::MAX).then_some(bytes as u64);
        let dedupe = self.partitions.iter().filter_map(|one| one.dedupe.as_ref());
        let part = |name, used: usize, bound| MemoryPart { name, used: used as u64, bound };
        let events = self.state.pending() * EVENT_BYTES;
        MemoryUse {
            parts: vec![
                part("uncommitted", events, bound(bounds.uncommitted_bytes)),
                part("series", self.state.bytes(), bound(bounds.series_bytes)),
                part("dedupe", dedupe.map(|window| window.bytes()).sum(), None),
            ],
            evicted: self.state.evicted(),
            evicted_hot: self.memory.evicted_hot,
            loaded: self.memory.loaded,
            ids_forgotten: self.ids_forgotten(),
            new_customers_per_minute: self.memory.new_customers_per_minute(),
            new_customers_bound: bounds.new_customers_per_minute,
        }
    }

    /// Ids that left a dedupe window before its end.
    fn ids_forgotten(&self) -> u64 {
        self.partitions
            .iter()
            .filter_map(|one| one.dedupe.as_ref())
            .map(|one| one.forgotten())
            .sum()
    }
}
