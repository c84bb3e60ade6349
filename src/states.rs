//! Where answers take their series from: a table at rest, or a running pipeline.
//!
//! Both give the same [`State`], so everything that is asked has one code path.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use ninefold_engine::config::Config;
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::fold::{
    Need, Wanted, Watching, fold, fold_dimensions, fold_recent, fold_wanted, newest_minute,
};
use ninefold_engine::pipeline::gap::gaps_in;
use ninefold_engine::pipeline::incidents::{Stored, stored_incidents};
use ninefold_engine::pipeline::watch::stored_transitions;
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::query::{AskError, Health, Promise};
use ninefold_engine::report::everybody::{Everybody, Sizes};
use ninefold_engine::slo::excess::Row;
use ninefold_engine::slo::histogram::Histogram;
use ninefold_engine::slo::pool::Pools;
use ninefold_engine::slo::sli::Slis;
use ninefold_engine::state::series::Series;
use ninefold_engine::state::{HISTOGRAM_MINUTES, Key, RECENT_MINUTES, State};
use ninefold_engine::table::{Filter, Table, TableError};
use ninefold_engine::time::{DAY_MINUTES, Minute};

use crate::live::{Board, Current};

/// How long a gap is noted by `/healthz` and `/readyz`: 30 days.
const GAP_MINUTES: u32 = 30 * DAY_MINUTES;

/// What answers are made from.
pub trait States: Send + Sync {
    /// The minute that a question means which names none: for a table the newest counted one
    /// that is not ahead of the clock, for a running service the clock's.
    fn now(&self) -> Result<Option<Minute>, AskError>;

    /// The newest counted minute that is not ahead of the clock.
    fn newest(&self) -> Result<Option<Minute>, AskError>;

    /// Lends a state that holds at least what is needed.
    fn with<R>(&self, need: &Need, answer: impl FnOnce(&State) -> R) -> Result<R, AskError>;

    /// Everybody's rows of some minutes, where they come from the table more easily than by
    /// [`States::with`].
    fn everybody(
        &self,
        promise: &Promise<'_>,
        minutes: &RangeInclusive<Minute>,
    ) -> Result<Option<Everybody>, AskError>;

    /// As [`States::now`] and [`States::with`], where memory has what is needed at that minute and
    /// nobody has to be waited for; `None` elsewhere.
    fn with_at_once<R>(
        &self,
        _need: impl FnOnce(Minute) -> Need,
        _answer: impl FnOnce(&State, Minute) -> R,
    ) -> Option<R> {
        None
    }

    /// Lends the rows of some minutes by the first `dimensions` dimensions.
    fn with_dimensions<R>(
        &self,
        minutes: RangeInclusive<Minute>,
        dimensions: usize,
        answer: impl FnOnce(&[Row<'_>]) -> R,
    ) -> Result<R, AskError>;

    /// The live transitions of alerts of some minutes, in no order.
    fn live_transitions(
        &self,
        minutes: &RangeInclusive<Minute>,
    ) -> Result<Vec<AlertTransition>, AskError>;

    /// The changes of incidents, in the order in which they were made.
    fn incident_changes(&self) -> Result<Vec<Stored>, AskError>;

    /// Lends the table, at its newest version.
    fn with_table<R>(
        &self,
        answer: impl FnOnce(&Table) -> Result<R, TableError>,
    ) -> Result<R, AskError>;

    /// The table alone, without what no commit has taken.
    fn at_rest(&self) -> &TableStates;

    /// For `/healthz`, `/readyz` and `/metrics`.
    fn health(&self) -> Health;
}

/// A state over all customers, as of one version of the table.
struct Whole {
    version: u64,
    minutes: RangeInclusive<Minute>,
    /// Under which its series have their places.
    slis: Slis,
    /// Under which it has folded them into pools.
    pools: Arc<Pools>,
    state: Arc<State>,
}

impl Whole {
    /// Whether it is of this version of the table, under this configuration, and has the minutes.
    fn holds(&self, table: &Table, config: &Config, minutes: &RangeInclusive<Minute>) -> bool {
        self.slis == config.slis
            && self.pools == config.pools
            && self.version == table.version()
            && self.minutes.start() <= minutes.start()
            && self.minutes.end() >= minutes.end()
    }
}

/// A table at rest.
pub struct TableStates {
    table: Mutex<Table>,
    config: Current,
    clock: fn() -> i64,
    whole: Mutex<Option<Whole>>,
    /// The newest minute of a version of the table, ahead of the clock or not.
    newest: Mutex<Option<(u64, Option<Minute>)>>,
    /// The changes of incidents as of a version of the table.
    incidents: Mutex<Option<(u64, Vec<Stored>)>>,
}

impl TableStates {
    /// Answers from `table`; `clock` gives the wall clock in epoch milliseconds.
    pub fn new(table: Table, config: Current, clock: fn() -> i64) -> TableStates {
        let (table, whole, newest) = (Mutex::new(table), Mutex::new(None), Mutex::new(None));
        TableStates { table, config, clock, whole, newest, incidents: Mutex::new(None) }
    }

    fn empty(config: &Config) -> State {
        let further = config.slis.further.len();
        State::new(config.dimension_values_max, further, true, 0).pooled(Arc::clone(&config.pools))
    }

    fn newest_ever(&self, table: &Table) -> Result<Option<Minute>, TableError> {
        let mut known = lock(&self.newest);
        if let Some((version, newest)) = *known
            && version == table.version()
        {
            return Ok(newest);
        }
        let newest = newest_minute(table, Minute(u32::MAX))?;
        *known = Some((table.version(), newest));
        Ok(newest)
    }

    /// A line for each gap whose events may lie in the last days.
    pub fn gap_notes(&self) -> Result<Vec<String>, AskError> {
        let now = Minute::of_ms((self.clock)());
        let gaps = self.with_table(|table| gaps_in(table, &(now.minus(GAP_MINUTES)..=now)))?;
        Ok(gaps.iter().map(ToString::to_string).collect())
    }

    /// Lends a state that holds some minutes of some customers.
    pub fn with_customers<R>(
        &self,
        customers: &BTreeSet<String>,
        minutes: RangeInclusive<Minute>,
        answer: impl FnOnce(&State) -> R,
    ) -> Result<R, AskError> {
        let config = self.config.get();
        let mut state = TableStates::empty(&config);
        let need = Need { customer: None, minutes, histograms: None };
        let wanted = (&Wanted::of(customers), None);
        self.with_table(|table| {
            fold_wanted(table, &config.slis, &need, wanted, &mut state, Watching::default())
        })?;
        Ok(answer(&state))
    }

    /// The table once more, for a question that takes long.
    pub fn reopened(&self) -> Result<Table, AskError> {
        let dir = self.with_table(|table| Ok(table.dir().to_owned()))?;
        let table = Table::open(&dir).map_err(failed)?;
        table.ok_or_else(|| AskError::Table(format!("no table in {} any more", dir.display())))
    }

    fn whole(&self, table: &Table, need: &Need) -> Result<Arc<State>, TableError> {
        let config = self.config.get();
        let mut whole = lock(&self.whole);
        if let Some(known) = &*whole
            && known.holds(table, &config, &need.minutes)
        {
            return Ok(Arc::clone(&known.state));
        }
        let mut state = TableStates::empty(&config);
        fold(table, &config.slis, need, &mut state)?;
        fold_recent(table, *need.minutes.end(), &mut state)?;
        let state = Arc::new(state);
        let (version, minutes) = (table.version(), need.minutes.clone());
        let (slis, pools) = (config.slis.clone(), Arc::clone(&config.pools));
        *whole = Some(Whole { version, minutes, slis, pools, state: Arc::clone(&state) });
        Ok(state)
    }
}

impl States for TableStates {
    fn now(&self) -> Result<Option<Minute>, AskError> {
        self.newest()
    }

    fn newest(&self) -> Result<Option<Minute>, AskError> {
        let clock = Minute::of_ms((self.clock)());
        self.with_table(|table| match self.newest_ever(table)? {
            Some(newest) if newest > clock => newest_minute(table, clock),
            newest => Ok(newest),
        })
    }

    fn with<R>(&self, need: &Need, answer: impl FnOnce(&State) -> R) -> Result<R, AskError> {
        if need.customer.is_some() {
            let config = self.config.get();
            let mut state = TableStates::empty(&config);
            self.with_table(|table| fold(table, &config.slis, need, &mut state))?;
            return Ok(answer(&state));
        }
        let state = self.with_table(|table| self.whole(table, need))?;
        Ok(answer(&state))
    }

    fn everybody(
        &self,
        promise: &Promise<'_>,
        minutes: &RangeInclusive<Minute>,
    ) -> Result<Option<Everybody>, AskError> {
        let config = self.config.get();
        let open = |table: &Table| {
            let is_held = |whole: &Whole| whole.holds(table, &config, minutes);
            if lock(&self.whole).as_ref().is_some_and(is_held) {
                return Ok(None);
            }
            Everybody::open(table, promise, minutes, Sizes::default()).map(Some)
        };
        self.with_table(open)
    }

    fn with_dimensions<R>(
        &self,
        minutes: RangeInclusive<Minute>,
        dimensions: usize,
        answer: impl FnOnce(&[Row<'_>]) -> R,
    ) -> Result<R, AskError> {
        let mut state = TableStates::empty(&self.config.get());
        let filter = Filter::of_minutes(minutes);
        self.with_table(|table| fold_dimensions(table, &filter, &mut state))?;
        Ok(answer(&state.recent_rows(dimensions)))
    }

    fn live_transitions(
        &self,
        minutes: &RangeInclusive<Minute>,
    ) -> Result<Vec<AlertTransition>, AskError> {
        self.with_table(|table| stored_transitions(table, minutes))
    }

    fn incident_changes(&self) -> Result<Vec<Stored>, AskError> {
        self.with_table(|table| {
            let mut known = lock(&self.incidents);
            if let Some((version, changes)) = &*known
                && *version == table.version()
            {
                return Ok(changes.clone());
            }
            let changes = stored_incidents(table, &Filter::default())?;
            *known = Some((table.version(), changes.clone()));
            Ok(changes)
        })
    }

    fn with_table<R>(
        &self,
        answer: impl FnOnce(&Table) -> Result<R, TableError>,
    ) -> Result<R, AskError> {
        let mut table = lock(&self.table);
        table.refresh().map_err(failed)?;
        answer(&table).map_err(failed)
    }

    fn at_rest(&self) -> &TableStates {
        self
    }

    fn health(&self) -> Health {
        let newest = self.newest();
        let notes = match &newest {
            Err(error) => vec![error.to_string()],
            Ok(_) => self.gap_notes().unwrap_or_else(|error| vec![error.to_string()]),
        };
        Health {
            ready: newest.is_ok(),
            notes,
            as_of: newest.ok().flatten().map(|minute| minute.to_string()),
            table_version: Some(lock(&self.table).version()),
            ..Health::default()
        }
    }
}

/// A running pipeline, and its table for what is older than its memory.
pub struct LiveStates {
    pipeline: Arc<RwLock<Pipeline>>,
    table: TableStates,
    clock: fn() -> i64,
    health: Board,
}

impl LiveStates {
    /// Answers from `pipeline`, and from its table of what is older than its memory.
    pub fn new(
        pipeline: Arc<RwLock<Pipeline>>,
        table: TableStates,
        clock: fn() -> i64,
        health: Board,
    ) -> LiveStates {
        LiveStates { pipeline, table, clock, health }
    }

    /// Counts from memory, which are exact at every moment, and of a time before the latencies
    /// in memory those that the table holds.
    fn with_older_histograms<R>(
        &self,
        need: &Need,
        answer: impl FnOnce(&State) -> R,
    ) -> Result<R, AskError> {
        self.table.with(need, |committed| {
            let mut state = TableStates::empty(&self.table.config.get());
            let pipeline = whole(&self.pipeline)?;
            let series = match &need.customer {
                Some(customer) => pipeline.state.series_of(customer),
                None => pipeline.state.all_series(),
            };
            let latencies = committed.all_series();
            for series in series {
                let name = (&series.customer, &series.service);
                let found = latencies.binary_search_by_key(&name, |s| (&s.customer, &s.service));
                let latency = found.ok().map(|at| latencies[at].histograms.as_slice());
                copy_series(&mut state, series, latency.unwrap_or_default());
            }
            Ok(answer(&state))
        })?
    }
}

/// Whether memory has all that is needed, where it is complete.
fn is_at_hand(pipeline: &Pipeline, need: &Need) -> bool {
    let lacks = |customer: &String| pipeline.state.may_lack(customer);
    *need.minutes.start() >= pipeline.memory_from()
        && !need.customer.as_ref().is_some_and(lacks)
        && holds_histograms(&pipeline.state, need)
}

/// Whether the latencies that are asked for are in memory, where they are of the last hours.
fn holds_histograms(state: &State, need: &Need) -> bool {
    let oldest = state.newest().map(|newest| newest.minus(HISTOGRAM_MINUTES - 1));
    let asked = need.histograms.as_ref().map(|minutes| *minutes.start());
    asked.is_none_or(|asked| oldest.is_none_or(|oldest| asked >= oldest))
}

/// Folds a series into another state, with the latencies of `histograms`, sorted by minute.
fn copy_series(state: &mut State, series: &Series, histograms: &[(Minute, Histogram)]) {
    let key = |minute| Key { customer: &series.customer, service: &series.service, minute };
    for cell in &series.cells {
        let found = histograms.binary_search_by_key(&cell.minute, |(minute, _)| *minute);
        let latency = found.ok().map(|at| &histograms[at].1);
        state.fold_series(key(cell.minute), &cell.measures, latency);
    }
    for (sli, cells) in series.further.iter().enumerate() {
        for cell in cells {
            state.fold_sli(key(cell.minute), sli, cell.counts);
        }
    }
}

impl States for LiveStates {
    fn now(&self) -> Result<Option<Minute>, AskError> {
        Ok(Some(Minute::of_ms((self.clock)())))
    }

    fn newest(&self) -> Result<Option<Minute>, AskError> {
        let newest = read(&self.pipeline).state.newest();
        Ok(newest.map(|newest| newest.min(Minute::of_ms((self.clock)()))))
    }

    fn with_at_once<R>(
        &self,
        need: impl FnOnce(Minute) -> Need,
        answer: impl FnOnce(&State, Minute) -> R,
    ) -> Option<R> {
        let now = Minute::of_ms((self.clock)());
        let need = need(now);
        // Where the loop has panicked too: who waits for the lock is told.
        let pipeline = self.pipeline.try_read().ok()?;
        let is_at_hand = pipeline.is_complete() && is_at_hand(&pipeline, &need);
        is_at_hand.then(|| answer(&pipeline.state, now))
    }

    fn with<R>(&self, need: &Need, answer: impl FnOnce(&State) -> R) -> Result<R, AskError> {
        {
            let pipeline = whole(&self.pipeline)?;
            if is_at_hand(&pipeline, need) {
                return Ok(answer(&pipeline.state));
            }
            if *need.minutes.start() < pipeline.memory_from() {
                drop(pipeline);
                return self.table.with(need, answer);
            }
            let lacking = need.customer.as_ref().filter(|who| pipeline.state.may_lack(who));
            if let Some(customer) = lacking {
                // The loop waits meanwhile, so that no commit moves events from one to the other.
                let loaded = pipeline.whole_of(std::slice::from_ref(customer), need);
                return Ok(answer(&loaded.map_err(|error| AskError::Table(error.to_string()))?));
            }
        }
        self.with_older_histograms(need, answer)
    }

    fn everybody(
        &self,
        promise: &Promise<'_>,
        minutes: &RangeInclusive<Minute>,
    ) -> Result<Option<Everybody>, AskError> {
        // What memory does not reach is the table's to answer, as in `with`.
        match *minutes.start() < whole(&self.pipeline)?.memory_from() {
            true => self.table.everybody(promise, minutes),
            false => Ok(None),
        }
    }

    fn with_dimensions<R>(
        &self,
        minutes: RangeInclusive<Minute>,
        dimensions: usize,
        answer: impl FnOnce(&[Row<'_>]) -> R,
    ) -> Result<R, AskError> {
        // Copied, so that the answer may ask for the series as well: two read locks at once
        // wait for ever where the loop waits between them.
        let recent: Option<Vec<OwnedRow>> = {
            let pipeline = whole(&self.pipeline)?;
            let newest = pipeline.state.newest().unwrap_or_default();
            let is_recent = *minutes.start() > newest.minus(RECENT_MINUTES);
            let rows = || pipeline.state.recent_rows(dimensions);
            is_recent.then(|| rows().iter().map(OwnedRow::of).collect())
        };
        match recent {
            Some(rows) => Ok(answer(&rows.iter().map(OwnedRow::borrowed).collect::<Vec<_>>())),
            None => self.table.with_dimensions(minutes, dimensions, answer),
        }
    }

    fn live_transitions(
        &self,
        minutes: &RangeInclusive<Minute>,
    ) -> Result<Vec<AlertTransition>, AskError> {
        let mut transitions = self.table.live_transitions(minutes)?;
        let known: HashSet<(String, String)> = transitions.iter().map(name_of).collect();
        let pipeline = read(&self.pipeline);
        let pending = pipeline.transitions().filter(|one| !known.contains(&name_of(one)));
        transitions.extend(pending.cloned());
        Ok(transitions)
    }

    fn incident_changes(&self) -> Result<Vec<Stored>, AskError> {
        let mut changes = self.table.incident_changes()?;
        let pipeline = read(&self.pipeline);
        for pending in pipeline.pending_incidents() {
            // A commit may have landed between the two looks.
            let name = |one: &Stored| (one.incident.id.clone(), one.tick.order());
            if changes.iter().all(|one| name(one) != name(pending)) {
                changes.push(pending.clone());
            }
        }
        Ok(changes)
    }

    fn with_table<R>(
        &self,
        answer: impl FnOnce(&Table) -> Result<R, TableError>,
    ) -> Result<R, AskError> {
        self.table.with_table(answer)
    }

    fn at_rest(&self) -> &TableStates {
        &self.table
    }

    fn health(&self) -> Health {
        let mut health = self.health.read();
        // Where the table cannot be read, the loop has said so.
        health.notes.extend(self.table.gap_notes().unwrap_or_default());
        health
    }
}

/// A row that has left its state.
struct OwnedRow {
    minute: Minute,
    service: String,
    values: Vec<String>,
    counts: (u64, u64),
}

impl OwnedRow {
    fn of(row: &Row<'_>) -> OwnedRow {
        OwnedRow {
            minute: row.minute,
            service: row.service.to_owned(),
            values: row.values.iter().map(|value| (*value).to_owned()).collect(),
            counts: (row.valid, row.bad),
        }
    }

    fn borrowed(&self) -> Row<'_> {
        let (minute, service, (valid, bad)) = (self.minute, self.service.as_str(), self.counts);
        let values = self.values.iter().map(String::as_str).collect();
        Row { minute, service, values, valid, bad }
    }
}

/// A transition of one firing.
fn name_of(transition: &AlertTransition) -> (String, String) {
    (transition.id.clone(), transition.state.clone())
}

/// The table in `DIR`, which has to be there.
pub fn open_table(dir: &Path) -> anyhow::Result<Table> {
    Table::open(dir)?.ok_or_else(|| {
        anyhow::anyhow!(
            "no table in {}: make one with `ninefold replay FILE --data DIR`",
            dir.display()
        )
    })
}

/// A lock whose holder may have panicked: what it guards is replaced whole, never half.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pipeline, for an answer.
///
/// # Panics
/// If the loop has panicked: its state may be half applied, and no answer is better than a
/// wrong one.
pub fn read(pipeline: &RwLock<Pipeline>) -> RwLockReadGuard<'_, Pipeline> {
    pipeline.read().expect("the loop that owns the state is well")
}

/// The pipeline, for an answer from its memory.
///
/// # Errors
/// It is being built afresh: memory would answer wrongly.
fn whole(pipeline: &RwLock<Pipeline>) -> Result<RwLockReadGuard<'_, Pipeline>, AskError> {
    let pipeline = read(pipeline);
    if pipeline.is_complete() {
        return Ok(pipeline);
    }
    Err(AskError::Table("memory is being read from the table afresh; ask again".to_owned()))
}

fn failed(error: TableError) -> AskError {
    AskError::Table(error.to_string())
}
