//! Live alerts: their states, the transitions that ticks ([`super::tick`]) make, and both as the
//! table has them.
//!
//! A tick has a time and stands at an offset of every partition; both are stored with the
//! transitions that it makes, and the core given the same events and ticks makes the same ones.
//! After a restart the states are those of the last stored transitions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};

use super::fold::fold_recent;
use super::follow::KAFKA;
use super::incidents::Book;
use super::verdicts::Docket;
use super::{Pipeline, PipelineError, batches};
use crate::query::alerts::transition;
use crate::query::body::AlertTransition;
use crate::slo::alert::{
    Alert, Basis, Change, Firing, Look, Severity, State, Tier, fingerprint, fingerprint_of_pool,
    id, step,
};
use crate::slo::incident::{self, SeriesKey};
use crate::state::shard::NOBODY;
use crate::table::schema::Grain;
use crate::table::{DataFile, Filter, Table, TableError};
use crate::time::{Day, Minute, parse_rfc3339, rfc3339};

/// The longest long window of a tier, in minutes: what happened before burns no more.
pub(super) const LOOK_BACK_MINUTES: u32 = 3 * 1_440;

/// A stored live transition: the API's keys, and the tick that made it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// What the API shows.
    #[serde(flatten)]
    pub transition: AlertTransition,
    /// When and where it was made.
    pub tick: Tick,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Its time in epoch milliseconds.
    pub at_ms: i64,
    /// How far each partition was counted.
    pub offsets: Arc<BTreeMap<String, u64>>,
    /// The version of the table that it knew. It grows from tick to tick whatever the clock
    /// does, so it tells the later of two transitions.
    #[serde(default)]
    pub version: u64,
}

impl Tick {
    /// What sorts ticks in the order in which they were made.
    pub fn order(&self) -> (u64, i64) {
        (self.version, self.at_ms)
    }
}

/// The states of the alerts that fire, and the transitions to be committed.
#[derive(Default)]
pub struct Watch {
    states: HashMap<String, Watched>,
    pending: Vec<Pending>,
}

/// A transition that no commit has taken.
struct Pending {
    stored: Stored,
    /// The partition whose owner has made it; [`NOBODY`] where it was the judge.
    partition: u16,
}

/// An alert that fires.
struct Watched {
    state: State,
    /// Names this firing.
    id: String,
    customer: Arc<str>,
    service: Arc<str>,
    objective: Arc<str>,
    severity: Severity,
    /// What made it fire, where it is no single customer's: of a pool, or of a whole service.
    of_many: Option<Arc<AlertTransition>>,
}

/// What an alert is of.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// Who; empty for a pool.
    pub customer: &'a Arc<str>,
    /// The pool, where it is one.
    pub pool: Option<&'a Arc<str>>,
    /// On which component.
    pub service: &'a Arc<str>,
}

impl Subject<'_> {
    /// What names its alert.
    pub fn fingerprint(self, objective: &str, tier: &str) -> String {
        match self.pool {
            Some(pool) => fingerprint_of_pool(objective, pool, self.service, tier),
            None => fingerprint(objective, self.customer, self.service, tier),
        }
    }
}

impl Watched {
    /// The pool that it is of.
    fn pool(&self) -> Option<&str> {
        self.of_many.as_ref()?.pool.as_deref()
    }
}

impl Watch {
    /// Transitions that no commit has taken.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &Stored> {
        self.pending.iter().map(|pending| &pending.stored)
    }

    /// The partitions whose owner has made one of them.
    pub(super) fn partitions(&self) -> impl Iterator<Item = u16> {
        self.pending.iter().map(|pending| pending.partition)
    }

    /// Drops what was decided in the name of a partition since the last commit.
    pub(super) fn forget_decided(&mut self, partition: u16) {
        self.pending.retain(|pending| pending.partition != partition);
    }

    /// Drops what the judge has decided since the last commit: another one is judge. The states
    /// are those that the table's transitions and our own others lead to.
    pub(super) fn forget_judged(&mut self, table: &Table) -> Result<(), TableError> {
        let mut recovered = Watch::recover(table)?;
        for pending in std::mem::take(&mut self.pending) {
            if pending.partition != NOBODY {
                recovered.enter(&pending.stored.transition);
                recovered.pending.push(pending);
            }
        }
        *self = recovered;
        Ok(())
    }

    /// Takes over a transition as it was stored.
    pub(super) fn enter(&mut self, transition: &AlertTransition) {
        let since = parse_rfc3339(transition.at.as_bytes()).map(Minute::of_ms);
        match since {
            Some(since) if transition.state == Change::Firing.name() => {
                let state = State::Firing(Firing::resumed(since));
                let AlertTransition { id, customer, service, objective, severity, .. } = transition;
                let is_page = severity == Severity::Page.name();
                let of_many = customer.is_empty().then(|| Arc::new(transition.clone()));
                let watched = Watched {
                    of_many,
                    state,
                    id: id.clone(),
                    customer: Arc::from(customer.as_str()),
                    service: Arc::from(service.as_str()),
                    objective: Arc::from(objective.as_str()),
                    severity: if is_page { Severity::Page } else { Severity::Ticket },
                };
                self.states.insert(transition.fingerprint.clone(), watched);
            }
            _ => drop(self.states.remove(&transition.fingerprint)),
        }
    }

    /// Forgets the transitions that a commit has taken.
    pub fn drop_pending(&mut self) {
        self.pending.clear();
    }

    /// The customers with an alert that fires.
    pub(super) fn firing(&self) -> HashSet<&str> {
        self.firing_customers().map(|customer| &**customer).collect()
    }

    fn firing_customers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.states.values().map(|watched| &watched.customer)
    }

    /// What fires, in no order.
    pub(super) fn firing_alerts(&self) -> Vec<incident::Firing> {
        let firing = |watched: &Watched| {
            let State::Firing(firing) = watched.state else { return None };
            let Watched { customer, service, objective, severity, .. } = watched;
            let (customer, objective) = (Arc::clone(customer), Arc::clone(objective));
            let pool = watched.pool().map(Arc::from);
            Some(incident::Firing {
                service: Arc::clone(service),
                series: SeriesKey { customer, objective, pool },
                severity: *severity,
                since: firing.since,
            })
        };
        self.states.values().filter_map(firing).collect()
    }

    /// The states as the table's last transitions left them.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn recover(table: &Table) -> Result<Watch, TableError> {
        let mut last: HashMap<String, Stored> = HashMap::new();
        for_each_stored(table, &Filter::default(), |stored| {
            let known = last.get(&stored.transition.fingerprint);
            if known.is_none_or(|known| known.tick.order() <= stored.tick.order()) {
                last.insert(stored.transition.fingerprint.clone(), stored);
            }
        })?;
        let mut watch = Watch::default();
        last.values().for_each(|stored| watch.enter(&stored.transition));
        Ok(watch)
    }

    /// Whether an alert fires.
    pub(super) fn is_firing(&self, fingerprint: &str) -> bool {
        self.states.contains_key(fingerprint)
    }

    /// The customers and services with an alert that fires.
    pub(super) fn firing_series(&self) -> HashSet<(Arc<str>, Arc<str>)> {
        let customers = self.states.values().filter(|watched| watched.of_many.is_none());
        customers.map(|one| (Arc::clone(&one.customer), Arc::clone(&one.service))).collect()
    }

    /// What made the alerts fire that are no single customer's, in the order of their
    /// fingerprints.
    pub(super) fn firing_of_many(&self) -> Vec<Arc<AlertTransition>> {
        let mut firing: Vec<_> =
            self.states.values().filter_map(|watched| watched.of_many.clone()).collect();
        firing.sort_unstable_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
        firing
    }

    /// Takes a transition that the judge has decided.
    pub(super) fn judged(&mut self, transition: AlertTransition, tick: &Tick) {
        self.enter(&transition);
        let stored = Stored { transition, tick: tick.clone() };
        self.pending.push(Pending { stored, partition: NOBODY });
    }

    /// Ends an alert whose series is judged no more.
    pub(super) fn end(&mut self, fired: &AlertTransition, tick: &Tick) {
        let state = Change::Stale.name().to_owned();
        let ended = AlertTransition { state, at: rfc3339(tick.at_ms), ..fired.clone() };
        self.judged(ended, tick);
    }

    /// Takes what is seen of one objective and tier.
    pub(super) fn step(
        &mut self,
        subject: Subject<'_>,
        partition: u16,
        (name, tier): (&str, &Tier),
        look: &Look,
        tick: &Tick,
    ) {
        let fingerprint = subject.fingerprint(name, tier.spec.name);
        let watched = self.states.remove(&fingerprint);
        let (before, mut firing_id, mut of_many) =
            watched.map_or_else(Default::default, |w| (w.state, w.id, w.of_many));
        let (state, change) = step(before, tier, look);
        if let Some(change) = change {
            let fires = change.change == Change::Firing;
            if fires {
                firing_id = id(&fingerprint, &format!("tick {}", tick.at_ms));
            }
            let alert = Alert {
                id: firing_id.clone(),
                fingerprint: fingerprint.clone(),
                objective: name.to_owned(),
                customer: subject.customer.to_string(),
                service: subject.service.to_string(),
                tier: tier.clone(),
                basis: Basis::Live,
                at_ms: tick.at_ms,
                transition: change,
            };
            let pool = subject.pool.map(|pool| pool.to_string());
            let transition = AlertTransition { pool, ..transition(&alert) };
            if fires && subject.pool.is_some() {
                of_many = Some(Arc::new(transition.clone()));
            }
            self.pending
                .push(Pending { stored: Stored { transition, tick: tick.clone() }, partition });
        }
        // What is only not sure yet is seen again at the next tick, as it is then.
        if matches!(state, State::Firing(_)) {
            let (customer, service) = (Arc::clone(subject.customer), Arc::clone(subject.service));
            let (objective, severity) = (Arc::from(name), tier.spec.severity);
            let id = firing_id;
            let watched = Watched { state, id, customer, service, objective, severity, of_many };
            self.states.insert(fingerprint, watched);
        }
    }
}

/// The stored transitions of some minutes, in no order.
///
/// # Errors
/// The table cannot be read, or a transition in it is damaged.
pub fn stored_transitions(
    table: &Table,
    minutes: &RangeInclusive<Minute>,
) -> Result<Vec<AlertTransition>, TableError> {
    let mut transitions = Vec::new();
    for_each_stored(table, &Filter::of_minutes(minutes.clone()), |stored| {
        transitions.push(stored.transition);
    })?;
    Ok(transitions)
}

/// Visits the stored transitions that pass a filter.
///
/// # Errors
/// The table cannot be read, or a transition in it is damaged.
pub(super) fn for_each_stored(
    table: &Table,
    filter: &Filter,
    mut visit: impl FnMut(Stored),
) -> Result<(), TableError> {
    let mut damaged = None;
    table.for_each_alert(filter, |row| match serde_json::from_str(row.alert) {
        Ok(stored) => visit(stored),
        Err(error) => damaged = Some(format!("{}: {error}", row.id)),
    })?;
    let error = |found| TableError::Value { grain: Grain::Alert.name(), column: "alert", found };
    damaged.map_or(Ok(()), |found| Err(error(found)))
}

impl Pipeline {
    /// How many series with failures several partitions of Kafka have rows of: each partition's
    /// owner sees a part of them.
    pub fn split_series(&self) -> u64 {
        let is_kafka = |number: u16| {
            let partition = self.partitions.get(usize::from(number));
            partition.is_some_and(|partition| partition.name.starts_with(KAFKA))
        };
        let split = self.state.shards.iter().flat_map(|shard| shard.split_series());
        split.filter(|(one, other)| is_kafka(*one) && is_kafka(*other)).count() as u64
    }

    /// The evaluation that is made at `now_ms`.
    pub(super) fn tick_at(&self, now_ms: i64) -> Tick {
        let owned = self.partitions.iter().filter(|one| one.owned);
        let offsets = owned.map(|one| (one.name.clone(), one.ledger.next())).collect();
        Tick { at_ms: now_ms, offsets: Arc::new(offsets), version: self.table.version() }
    }

    /// Whether an alert, an incident or a verdict has changed since the last commit.
    pub fn has_transitions(&self) -> bool {
        self.watch.pending().len() > 0
            || !self.incidents.pending().is_empty()
            || !self.verdicts.pending().is_empty()
    }

    /// The live transitions that no commit has taken.
    pub fn transitions(&self) -> impl Iterator<Item = &AlertTransition> {
        self.watch.pending().map(|stored| &stored.transition)
    }

    /// The transitions since the last commit, by day.
    pub(super) fn alert_files(&self) -> Vec<DataFile> {
        let mut days: BTreeMap<Day, Vec<&Stored>> = BTreeMap::new();
        for stored in self.watch.pending() {
            days.entry(Minute::of_ms(stored.tick.at_ms).day()).or_default().push(stored);
        }
        let file = |(day, stored): (Day, Vec<&Stored>)| {
            let batches = vec![batches::batch(Grain::Alert, alert_columns(&stored))];
            DataFile { grain: Grain::Alert, day, batches }
        };
        days.into_iter().map(file).collect()
    }

    /// Folds the table into memory: the counts of these minutes, what the last hours say by
    /// dimension, and the states of the alerts. Counts are taken from a snapshot, where there is
    /// one to be trusted ([`Pipeline::keep_snapshots`]), and what the table has added since.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn recover(&mut self, minutes: RangeInclusive<Minute>) -> Result<(), PipelineError> {
        self.options.slis.corrections = self.table.corrections()?;
        self.watch = Watch::recover(&self.table)?;
        let since = self.restore(&minutes);
        match since {
            Some(_) => self.bound_restored(),
            None => self.fold_table(minutes.clone())?,
        }
        let newest = self.state.newest().unwrap_or_default();
        self.incidents = Book::recover(&self.table, newest)?;
        self.verdicts = Docket::recover(&self.table)?;
        if let Some(newest) = self.state.newest() {
            fold_recent(&self.table, newest, &mut self.state)?;
        }
        self.recovered(minutes, since)
    }
}

fn alert_columns(stored: &[&Stored]) -> Vec<ArrayRef> {
    let text = |get: fn(&AlertTransition) -> &str| {
        batches::texts(stored.iter().map(move |stored| get(&stored.transition)))
    };
    let json: Vec<String> = stored
        .iter()
        .map(|stored| serde_json::to_string(stored).expect("a transition is plain data"))
        .collect();
    vec![
        batches::minutes(stored.iter().map(|stored| Minute::of_ms(stored.tick.at_ms))),
        text(|transition| &transition.customer),
        text(|transition| &transition.service),
        text(|transition| &transition.id),
        text(|transition| &transition.fingerprint),
        batches::texts(json.iter().map(String::as_str)),
    ]
}
