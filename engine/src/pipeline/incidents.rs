//! Incidents of a running service: the judge folds what fires at each tick, and what it decides
//! becomes rows of the next commit.
//!
//! Only the judge decides, in the name of [`JUDGE`](crate::table::JUDGE), which fences it as its
//! other decisions. The other instances take its rows over as they follow the table, so whoever
//! becomes judge goes on from there. A tick looks at the alerts that fire and at the series they
//! are of, never at all series; how many were active is counted once a minute, in services where
//! something fires.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::pools::Apart;
use super::silent::{SEVERITY, Silence};
use super::watch::{LOOK_BACK_MINUTES, Tick};
use super::{Pipeline, batches};
use crate::model::Counts;
use crate::query::body::{AlertTransition, Incident as Body};
use crate::query::column::{bad_minutes, column};
use crate::query::hit::{Hit, Promised};
use crate::query::impact::{Dimensions, MINUTES_BEFORE, found_causes};
use crate::query::incident::{Joined, incident, joined, notices, restored};
use crate::query::judgement;
use crate::query::pools::Rest;
use crate::query::review::CAUSES_BEFORE_MINUTES;
use crate::slo::alert::evidence::binomial_tail;
use crate::slo::alert::{AlertOptions, SPECS, Severity, State as AlertState, step, tiers_of};
use crate::slo::decimal::met;
use crate::slo::excess::Cause;
use crate::slo::incident::evidence::scanned;
use crate::slo::incident::{Change, Field, Firing, Incident, Incidents, Radius, SeriesKey, Worst};
use crate::slo::objective::{Objectives, Slis};
use crate::slo::window::window_range;
use crate::state::series::Series;
use crate::state::{RECENT_MINUTES, State};
use crate::table::schema::Grain;
use crate::table::{DataFile, Filter, Table, TableError};
use crate::time::{DAY_MINUTES, Day, Minute};

/// A series is active that had events in so many minutes.
const ACTIVE_MINUTES: u32 = 60;

/// How many customers an incident names.
const WORST_MAX: usize = 10;

/// How many minutes of newly hit customers are told.
const NEWLY_MINUTES: u32 = 60;

/// A stored change of an incident: the API's keys, the series that joined, and the tick.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// What the API shows.
    #[serde(flatten)]
    pub incident: Body,
    /// The series that joined since the change before.
    pub joined: Vec<Joined>,
    /// When and where it was made.
    pub tick: Tick,
}

/// The incidents, and their changes that are to be committed.
#[derive(Default)]
pub struct Book {
    incidents: Incidents,
    pending: Vec<Stored>,
    /// By service, how many series were active at a minute.
    active: HashMap<String, (Minute, u64)>,
}

impl Book {
    /// The incidents as the table's changes left them.
    ///
    /// # Errors
    /// The table cannot be read.
    pub(super) fn recover(table: &Table, now: Minute) -> Result<Book, TableError> {
        let mut book = Book::default();
        book.enter(table, &Filter::default())?;
        book.incidents.forget(now);
        Ok(book)
    }

    /// Takes over the changes that pass a filter, and returns them.
    ///
    /// # Errors
    /// The table cannot be read.
    pub(super) fn enter(
        &mut self,
        table: &Table,
        filter: &Filter,
    ) -> Result<Vec<Stored>, TableError> {
        let changes = stored_incidents(table, filter)?;
        for stored in &changes {
            let row = restored(&stored.incident, &stored.joined);
            self.incidents.restore(row.ok_or_else(|| damaged(&stored.incident.id))?);
        }
        Ok(changes)
    }

    /// Changes that no commit has taken.
    pub fn pending(&self) -> &[Stored] {
        &self.pending
    }

    /// Forgets the changes that a commit has taken.
    pub(super) fn drop_pending(&mut self) {
        self.pending.clear();
    }

    /// Folds what fires at a tick.
    fn step(&mut self, tick: &Tick, firing: Vec<Firing>, world: &World<'_>) {
        let known = RefCell::new(std::mem::take(&mut self.active));
        let field = View { world, now: Minute::of_ms(tick.at_ms), active: &known };
        for change in self.incidents.step(tick.at_ms, firing, &field) {
            let Change { id, kind, at_ms, joined: series } = change;
            let core = self.incidents.get(&id).expect("a step tells of incidents it has");
            let (incident, joined) = (incident(core, kind, at_ms), joined(core, &series));
            self.pending.push(Stored { incident, joined, tick: tick.clone() });
        }
        self.active = known.into_inner();
    }
}

/// The stored changes that pass a filter, in the order in which they were made.
///
/// # Errors
/// The table cannot be read, or a change in it is damaged.
pub fn stored_incidents(table: &Table, filter: &Filter) -> Result<Vec<Stored>, TableError> {
    let (mut found, mut bad) = (Vec::new(), None);
    table.for_each_incident(filter, |row| match serde_json::from_str::<Stored>(row.alert) {
        Ok(stored) => found.push(stored),
        Err(error) => bad = Some(damaged(&format!("{}: {error}", row.id))),
    })?;
    found.sort_by_key(|stored| stored.tick.order());
    bad.map_or(Ok(found), Err)
}

fn damaged(found: &str) -> TableError {
    TableError::Value { grain: Grain::Incident.name(), column: "alert", found: found.to_owned() }
}

impl Pipeline {
    /// What receivers are to be told of the changes that no commit has taken: of incidents, of
    /// verdicts, and of the alerts of single series for those who want each.
    pub fn notices(&self) -> Vec<AlertTransition> {
        let incidents = self.incidents.pending().iter().map(|stored| &stored.incident);
        let verdicts = self.verdicts.pending().iter().map(|stored| &stored.judgement);
        let decided = incidents.flat_map(notices).chain(verdicts.map(judgement::notice));
        self.transitions().cloned().chain(decided).collect()
    }

    /// The changes of incidents that no commit has taken, the newest last.
    pub fn pending_incidents(&self) -> &[Stored] {
        self.incidents.pending()
    }

    /// The incidents that are open or closed lately, as this instance knows them.
    pub fn incidents(&self) -> &Incidents {
        &self.incidents.incidents
    }

    /// Folds the alerts that fire into incidents.
    pub(super) fn judge_incidents(
        &mut self,
        tick: &Tick,
        (objectives, options): (&Objectives, &AlertOptions),
    ) {
        let world = World {
            state: &self.state,
            apart: &Apart::of(&self.watch, &self.state),
            silence: &self.silence,
            slis: &self.options.slis,
            objectives,
            options,
            attributes: &self.options.decode.attributes,
        };
        self.incidents.step(tick, self.watch.firing_alerts(), &world);
    }

    /// The changes since the last commit, by day.
    pub(super) fn incident_files(&self) -> Vec<DataFile> {
        let mut days: BTreeMap<Day, Vec<&Stored>> = BTreeMap::new();
        for stored in self.incidents.pending() {
            days.entry(Minute::of_ms(stored.tick.at_ms).day()).or_default().push(stored);
        }
        let file = |(day, stored): (Day, Vec<&Stored>)| {
            let text = |get: fn(&Body) -> &str| {
                batches::texts(stored.iter().map(move |stored| get(&stored.incident)))
            };
            let json: Vec<String> = stored
                .iter()
                .map(|stored| serde_json::to_string(stored).expect("a change is plain data"))
                .collect();
            let columns = vec![
                batches::minutes(stored.iter().map(|stored| Minute::of_ms(stored.tick.at_ms))),
                text(|_| ""),
                text(|incident| &incident.service),
                text(|incident| &incident.id),
                text(|incident| &incident.fingerprint),
                batches::texts(json.iter().map(String::as_str)),
            ];
            let batches = vec![batches::batch(Grain::Incident, columns)];
            DataFile { grain: Grain::Incident, day, batches }
        };
        days.into_iter().map(file).collect()
    }
}

/// What a tick knows.
struct World<'a> {
    state: &'a State,
    apart: &'a Apart<'a>,
    silence: &'a Silence,
    slis: &'a Slis,
    objectives: &'a Objectives,
    options: &'a AlertOptions,
    attributes: &'a [String],
}

/// The counts of a tick.
struct View<'a> {
    world: &'a World<'a>,
    now: Minute,
    active: &'a RefCell<HashMap<String, (Minute, u64)>>,
}

impl World<'_> {
    /// The series and the objective of a key; `None` where memory has not all of it, and for a
    /// whole service.
    fn find(&self, service: &str, key: &SeriesKey) -> Option<Promised<'_>> {
        let (rest, objectives) = match &key.pool {
            Some(pool) => {
                let series = self.state.pool(pool, service)?;
                (self.apart.rest(series)?, self.objectives.resolve_pool(pool))
            }
            None => {
                let series = self.state.series(&key.customer, service)?;
                (Rest::whole(series), self.objectives.resolve(&key.customer, service))
            }
        };
        let objective = objectives.into_iter().find(|one| *one.name == *key.objective)?;
        Some(Promised { rest, objective, column: column(self.slis, objective, service)? })
    }

    /// What an incident does to one customer's series, with its bad minutes of the last day: what
    /// went on for longer is told by its sums.
    fn hit(
        &self,
        service: &str,
        key: &SeriesKey,
        (from, now): (Minute, Minute),
    ) -> Option<(Hit, usize)> {
        let found = self.find(service, key)?;
        let day = from.max(now.minus(DAY_MINUTES - 1))..=now;
        let bad_minutes = bad_minutes(found.rest.series, found.column, day).len();
        Some((found.hit(from, now), bad_minutes))
    }

    /// Those of a pool whose promise was not kept since the pool began to fail, and who do not
    /// fire by themselves: each with the objective of that name.
    fn hit_in_pool(
        &self,
        service: &str,
        key: &SeriesKey,
        from: Minute,
        now: Minute,
    ) -> Vec<SeriesKey> {
        let Some(pool) = &key.pool else { return Vec::new() };
        let is_hit = |key: &SeriesKey| {
            let found = self.find(service, key)?;
            let Counts { valid, bad, .. } = found.sum(from..=now);
            Some(met(found.objective.target, valid, bad) == Some(false))
        };
        let customer = |series: &Series| SeriesKey {
            customer: Arc::clone(&series.customer),
            objective: Arc::clone(&key.objective),
            pool: None,
        };
        let keys = self.state.hot_in_pool(pool, service).map(customer);
        keys.filter(|key| is_hit(key) == Some(true)).collect()
    }
}

impl Field for View<'_> {
    fn active(&self, service: &str) -> u64 {
        let mut known = self.active.borrow_mut();
        let at = known.entry(service.to_owned()).or_insert((Minute(u32::MAX), 0));
        if at.0 != self.now {
            let hour = window_range(self.now, ACTIVE_MINUTES);
            *at = (self.now, self.world.state.active_series(service, hour));
        }
        at.1
    }

    fn chance(&self, severity: Severity) -> f64 {
        let tiers = SPECS.iter().filter(|spec| spec.severity == severity).count();
        tiers as f64 * (1.0 - self.world.options.confidence)
    }

    fn p_value(&self, service: &str, key: &SeriesKey, severity: Severity) -> Option<f64> {
        if key.is_service() {
            return self.world.silence.p_value(service).filter(|_| severity == SEVERITY);
        }
        let found = self.world.find(service, key)?;
        let tiers = tiers_of(found.objective, self.world.options).active;
        let asked = || tiers.iter().filter(|tier| tier.spec.severity == severity);
        let of_tier = |tier| {
            let look = found.rest.look(found.column, tier, self.now);
            if !step(AlertState::default(), tier, &look).0.is_firing() {
                return None;
            }
            let tail = binomial_tail(look.long.bad, look.long.valid, tier.allowed_ratio);
            Some(scanned(tail, look.long.bad, tier.spec.long.1))
        };
        let least = asked().filter_map(of_tier).reduce(f64::min)?;
        Some((least * asked().count() as f64).min(1.0))
    }

    fn first_bad(&self, service: &str, key: &SeriesKey) -> Minute {
        let found = self.world.find(service, key);
        found.and_then(|found| found.first_bad(self.now)).unwrap_or(self.now)
    }

    fn causes(&self, service: &str, minutes: RangeInclusive<Minute>) -> Vec<Cause> {
        let attributes = self.world.attributes.iter().map(String::as_str);
        let names: Vec<&str> =
            ["release", "cohort", "region", "route"].into_iter().chain(attributes).collect();
        let from = minutes.start().minus(CAUSES_BEFORE_MINUTES);
        let with_hour = from.minus(MINUTES_BEFORE)..=*minutes.end();
        let rows = self.world.state.recent_rows_of(service, &with_hour, names.len());
        let dimensions = Dimensions { names: &names, rows: &rows };
        found_causes(&dimensions, &(from..=*minutes.end()))
    }

    fn radius(&self, incident: &Incident) -> Radius {
        let (from, now) = (incident.from(), self.now);
        let of_customers = |key: &&SeriesKey| !key.customer.is_empty();
        // Whom a pool's failures hit: no further back than the pool is kept.
        let pooled = incident.members.iter().flat_map(|(key, member)| {
            let from = member.from.max(now.minus(LOOK_BACK_MINUTES - 1));
            self.world.hit_in_pool(&incident.service, key, from, now)
        });
        let keys: BTreeSet<SeriesKey> =
            incident.members.keys().filter(of_customers).cloned().chain(pooled).collect();
        let keys: Vec<&SeriesKey> = keys.iter().collect();
        let of_series = |key: &&SeriesKey| self.world.hit(&incident.service, key, (from, now));
        let hits: Vec<Option<(Hit, usize)>> = keys.par_iter().map(of_series).collect();
        let mut radius = Radius {
            to: now,
            customers_active: self.active(&incident.service),
            pools: incident.members.keys().filter_map(|key| key.pool.clone()).collect(),
            silence: self.world.silence.of(incident),
            ..Radius::default()
        };
        let mut budget = 0.0;
        for (hit, bad_minutes) in hits.iter().flatten() {
            radius.valid += hit.counts.valid;
            radius.bad += hit.counts.bad;
            radius.bad_minutes += *bad_minutes as u64;
            radius.objectives_broken += u64::from(hit.is_broken);
            let at_risk_s = hit.at_risk_s();
            radius.objectives_at_risk += u64::from(at_risk_s.is_some());
            radius.exhausted_in_s =
                [radius.exhausted_in_s, at_risk_s].into_iter().flatten().reduce(f64::min);
            budget += hit.budget.events;
        }
        radius.budget_lost = (budget > 0.0).then(|| radius.bad as f64 / budget);
        self.count_customers(incident, &keys, &hits, &mut radius);
        let recent = from.max(now.minus(RECENT_MINUTES - 1))..=now;
        for row in self.world.state.recent_rows_of(&incident.service, &recent, 0) {
            radius.service_valid += row.valid;
            radius.service_bad += row.bad;
        }
        radius
    }
}

impl View<'_> {
    /// Fills in what is told by customer, each of whom may have several series in it.
    fn count_customers(
        &self,
        incident: &Incident,
        keys: &[&SeriesKey],
        hits: &[Option<(Hit, usize)>],
        radius: &mut Radius,
    ) {
        let mut worst: Vec<Worst> = Vec::new();
        let hits = hits.iter().map(|hit| hit.as_ref().map(|(hit, _)| hit));
        let together: Vec<(&SeriesKey, Option<&Hit>)> = keys.iter().copied().zip(hits).collect();
        for of_customer in together.chunk_by(|a, b| a.0.customer == b.0.customer) {
            let name: &Arc<str> = &of_customer[0].0.customer;
            let members = || of_customer.iter().filter_map(|(key, _)| incident.members.get(*key));
            radius.customers += 1;
            radius.customers_firing += u64::from(members().any(|one| one.firing.is_some()));
            let tier = self.world.objectives.tier_of.get(&**name).cloned().unwrap_or_default();
            *radius.tiers.entry(tier).or_default() += 1;
            // Of a pool: from when on, nobody has judged for each.
            let first = members().map(|one| one.from).min().unwrap_or(incident.from());
            *radius.newly.entry(first).or_default() += 1;
            let hit = of_customer.iter().filter_map(|(_, hit)| *hit);
            let hit = hit.max_by_key(|hit| hit.counts.bad);
            worst.extend(hit.map(|hit| Worst {
                customer: name.to_string(),
                valid: hit.counts.valid,
                bad: hit.counts.bad,
                budget_consumed:
                    (hit.budget.events > 0.0).then(|| hit.counts.bad as f64 / hit.budget.events),
            }));
        }
        let newest = radius.newly.keys().last().copied().unwrap_or_default();
        radius.newly = radius.newly.split_off(&newest.minus(NEWLY_MINUTES - 1));
        // They come by name and the sort is stable.
        worst.sort_by_key(|one| std::cmp::Reverse(one.bad));
        worst.truncate(WORST_MAX);
        radius.worst = worst;
    }
}
