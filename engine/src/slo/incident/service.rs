//! The incidents of one service, one tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::evidence::{Q, passing, pooled, pools};
use super::{
    Basis, CAUSES_MINUTES, CLOSED_MINUTES, Change, Field, Firing, Incident, JOIN_MINUTES, Kind,
    Member, Page, SeriesKey, Told,
};
use crate::slo::alert::Severity;
use crate::time::{MINUTE_MS, Minute};

/// Causes and radius are looked at after a tenth of the incident's age, within these bounds.
const LOOK_MS: (i64, i64) = (10_000, 60_000);

/// What has changed a little is told after so long.
const TELL_MS: i64 = 5 * MINUTE_MS;

/// It is told at once where the customers have grown by this factor.
const GROWTH: f64 = 1.25;

/// The incidents of one service, by ordinal.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    pub incidents: Vec<Incident>,
    /// How many there ever were.
    pub count: u64,
}

/// Where a firing series belongs.
enum Place {
    /// In this incident.
    In(usize),
    /// It goes on burning after its incident has closed, at a ticket's tier.
    Tail,
    /// In none yet.
    New,
}

impl Service {
    /// Whether an incident is open.
    pub fn is_open(&self) -> bool {
        self.incidents.iter().any(Incident::is_open)
    }

    /// Forgets those that closed long ago.
    pub fn forget(&mut self, now: Minute) {
        let oldest_ms = now.minus(CLOSED_MINUTES).start_ms();
        self.incidents.retain(|one| one.closed_ms.is_none_or(|closed_ms| closed_ms >= oldest_ms));
    }

    /// As [`super::Incidents::step`], of this service alone; `firing` is sorted.
    pub fn step(
        &mut self,
        name: &Arc<str>,
        now_ms: i64,
        firing: &[Firing],
        field: &dyn Field,
    ) -> Vec<Change> {
        for incident in &mut self.incidents {
            incident.is_fresh = false;
            incident.members.values_mut().for_each(|member| member.firing = None);
        }
        let mut newcomers = Vec::new();
        for one in firing {
            match self.place(one, now_ms) {
                Place::In(at) => self.incidents[at].take(one, now_ms, field),
                Place::Tail => {}
                Place::New => newcomers.push(one),
            }
            self.reopen(&one.series);
        }
        if !newcomers.is_empty() {
            self.open(name, now_ms, &newcomers, field);
        }
        // Without evidence an incident is what fires now: else chance would add up in it.
        let unproven = |one: &&mut Incident| one.is_open() && !one.is_proven(Severity::Ticket);
        for incident in self.incidents.iter_mut().filter(unproven) {
            let is_over = incident.members.values().all(|member| member.firing.is_none());
            incident.members.retain(|_, member| is_over || member.firing.is_some());
        }
        self.prove(name, Severity::Page, now_ms, field);
        self.prove(name, Severity::Ticket, now_ms, field);
        for incident in self.incidents.iter_mut().filter(|one| one.is_open()) {
            look(incident, now_ms, field);
        }
        self.merge(now_ms, field);
        for incident in self.incidents.iter_mut().filter(|one| one.is_open()) {
            if !incident.is_burning() {
                incident.closed_ms = Some(now_ms);
                refresh(incident, now_ms, field);
                incident.note(Kind::Closed);
            }
        }
        self.incidents.iter_mut().filter_map(|incident| tell(incident, now_ms)).collect()
    }

    /// Where a firing series belongs; the newest incident that it fits.
    fn place(&self, one: &Firing, now_ms: i64) -> Place {
        let newest = || self.incidents.iter().enumerate().rev();
        let open = || newest().filter(|(_, it)| it.is_open());
        if let Some((at, _)) = open().find(|(_, it)| it.members.contains_key(&one.series)) {
            return Place::In(at);
        }
        let mut closed = newest().filter_map(|(at, it)| Some((at, it, it.closed_ms?)));
        let own = closed.find(|(_, it, _)| it.members.contains_key(&one.series));
        if let Some((at, it, closed_ms)) = own {
            let is_page = one.severity == Severity::Page;
            if !is_page && it.is_urgent() && one.since.start_ms() <= closed_ms {
                return Place::Tail;
            }
            if it.may_reopen(now_ms) && (is_page || !it.is_urgent()) {
                return Place::In(at);
            }
        }
        let joins = |it: &Incident| {
            !it.is_proven(Severity::Ticket) || within(it.grown_ms, now_ms, JOIN_MINUTES)
        };
        open().find(|(_, it)| joins(it)).map_or(Place::New, |(at, _)| Place::In(at))
    }

    /// Opens the closed incident that a series was put in.
    fn reopen(&mut self, series: &SeriesKey) {
        let fires = |one: &&mut Incident| {
            !one.is_open() && one.members.get(series).is_some_and(|member| member.firing.is_some())
        };
        if let Some(incident) = self.incidents.iter_mut().find(fires) {
            incident.closed_ms = None;
            incident.reopened += 1;
            // It has to be proven anew; the key stays.
            incident.page = None;
            incident.is_ticket = false;
            incident.looked_ms = i64::MIN;
            incident.note(Kind::Reopened);
        }
    }

    /// Opens an incident for series that are in none, unless they prove to be in one that is open
    /// or closed lately.
    fn open(&mut self, name: &Arc<str>, now_ms: i64, newcomers: &[&Firing], field: &dyn Field) {
        let mut incident = Incident::open(name, self.count, now_ms);
        newcomers.iter().for_each(|one| incident.take(one, now_ms, field));
        refresh(&mut incident, now_ms, field);
        let same = |one: &&mut Incident| {
            (one.is_open() || one.may_reopen(now_ms)) && proves_one(one, &incident)
        };
        if let Some(known) = self.incidents.iter_mut().rev().find(same) {
            newcomers.iter().for_each(|one| known.take(one, now_ms, field));
            newcomers.iter().for_each(|one| self.reopen(&one.series));
            return;
        }
        self.count += 1;
        self.incidents.push(incident);
    }

    /// Looks for the evidence of the open incidents that nobody is told of yet, and whether the
    /// others still grow by more than chance.
    fn prove(&mut self, name: &Arc<str>, severity: Severity, now_ms: i64, field: &dyn Field) {
        let fires = |member: &Member| member.firing == Some(severity);
        let asks = |one: &Incident| {
            one.is_open()
                && (!one.is_proven(severity) || one.is_fresh)
                && one.members.values().any(fires)
        };
        if !self.incidents.iter().any(asks) {
            return;
        }
        let open = self.incidents.iter().filter(|one| one.is_open());
        let firing = open.flat_map(|one| &one.members).filter(|(_, member)| fires(member));
        let p_values: BTreeMap<SeriesKey, f64> = firing
            .filter_map(|(series, _)| {
                Some((series.clone(), field.p_value(name, series, severity)?))
            })
            .collect();
        // That many fell silent is one question to the service, and no one of many series.
        let of_series = p_values.iter().filter(|(series, _)| !series.is_service());
        let all: Vec<f64> = of_series.map(|(_, p)| *p).collect();
        let active = field.active(name).max(all.len() as u64);
        let trial = Trial { active, chance: field.chance(severity), bound: passing(&all, active) };
        let mut split = Vec::new();
        for incident in self.incidents.iter_mut().filter(|one| asks(one)) {
            let recent = incident.is_proven(severity);
            let own = incident.members.iter().filter(|(_, member)| {
                !recent || within(member.joined.start_ms(), now_ms, JOIN_MINUTES)
            });
            let own: Vec<(&SeriesKey, f64)> =
                own.filter_map(|(series, _)| Some((series, *p_values.get(series)?))).collect();
            let Some((page, proven)) = trial.judge(&own, now_ms) else { continue };
            incident.grown_ms = now_ms;
            if recent {
                continue;
            }
            let rest = |(series, member): (&SeriesKey, &Member)| {
                member.firing.is_some() && !proven.contains(series)
            };
            // What has been firing by chance for long is not what this is about.
            if !within(incident.opened_ms, now_ms, JOIN_MINUTES)
                && incident.members.iter().any(rest)
            {
                let moved = proven.iter().filter_map(|one| incident.members.remove_entry(one));
                split.push((page, moved.collect()));
            } else {
                incident.prove(page, severity);
                incident.note(Kind::Updated);
            }
        }
        for (page, members) in split {
            let mut incident = Incident::open(name, self.count, now_ms);
            incident.members = members;
            incident.joined = incident.members.keys().cloned().collect();
            incident.prove(page, severity);
            self.count += 1;
            self.incidents.push(incident);
        }
    }

    /// Merges open incidents that prove to be one.
    fn merge(&mut self, now_ms: i64, field: &dyn Field) {
        for younger in (1..self.incidents.len()).rev() {
            let (before, rest) = self.incidents.split_at_mut(younger);
            let younger = &mut rest[0];
            let same = |one: &&mut Incident| one.is_open() && proves_one(one, younger);
            let Some(older) = before.iter_mut().find(same).filter(|_| younger.is_open()) else {
                continue;
            };
            let (stays, goes) = match (&older.page, &younger.page) {
                (None, Some(_)) => (younger, older),
                _ => (older, younger),
            };
            for (series, member) in &goes.members {
                if !stays.members.contains_key(series) {
                    stays.joined.push(series.clone());
                    stays.members.insert(series.clone(), *member);
                }
            }
            stays.grown_ms = stays.grown_ms.max(goes.grown_ms);
            refresh(stays, now_ms, field);
            stays.note(Kind::Updated);
            goes.closed_ms = Some(now_ms);
            goes.merged_into = Some(stays.id.clone());
            goes.note(Kind::Merged);
        }
    }
}

/// What evidence is judged against.
struct Trial {
    active: u64,
    chance: f64,
    /// The largest p-value that passes over all series.
    bound: Option<f64>,
}

impl Trial {
    /// The evidence of series with these p-values, and which of them have it.
    fn judge(&self, own: &[(&SeriesKey, f64)], now_ms: i64) -> Option<(Page, BTreeSet<SeriesKey>)> {
        let (silent, own): (Vec<_>, Vec<_>) =
            own.iter().copied().partition(|(series, _)| series.is_service());
        let silent = silent.into_iter().find(|(_, p)| *p <= Q);
        let evident = own.len() as u64;
        let at_once = pooled(evident, self.active, self.chance);
        let is_pooled = evident > 0 && pools(at_once);
        let passes = |p: f64| self.bound.is_some_and(|bound| p <= bound);
        let least = own.iter().map(|(_, p)| *p).fold(1.0, f64::min);
        let proven = own.into_iter().filter(|(_, p)| is_pooled || passes(*p)).chain(silent);
        let proven: BTreeSet<SeriesKey> = proven.map(|(series, _)| series.clone()).collect();
        let (basis, p_value) = match (passes(least), is_pooled, silent) {
            (true, ..) => (Basis::Series, least),
            (false, true, _) => (Basis::Pooled, at_once),
            (false, false, Some((_, p))) => (Basis::Pooled, p),
            (false, false, None) => return None,
        };
        let page = Page { at_ms: now_ms, basis, evident, active: self.active, p_value };
        Some((page, proven))
    }
}

/// Whether so many minutes have not passed since.
pub(super) fn within(since_ms: i64, now_ms: i64, minutes: u32) -> bool {
    now_ms.saturating_sub(since_ms) <= i64::from(minutes) * MINUTE_MS
}

/// Whether two incidents of one service are the same thing.
fn proves_one(one: &Incident, other: &Incident) -> bool {
    let customers = |incident: &Incident| incident.customers().cloned().collect::<BTreeSet<_>>();
    if one.leading_cause().is_some() && one.leading_cause() == other.leading_cause() {
        return true;
    }
    let (ours, theirs) = (customers(one), customers(other));
    let common = ours.intersection(&theirs).count();
    common > 0 && 2 * common >= ours.len().min(theirs.len())
}

/// Looks at causes and radius where it is time to, and notes what has to be told.
fn look(incident: &mut Incident, now_ms: i64, field: &dyn Field) {
    let age_ms = now_ms.saturating_sub(incident.opened_ms);
    let interval_ms = (age_ms / 10).clamp(LOOK_MS.0, LOOK_MS.1);
    if now_ms.saturating_sub(incident.looked_ms) < interval_ms {
        return;
    }
    let before = incident.radius.clone();
    refresh(incident, now_ms, field);
    let Some(told) = &incident.told else { return };
    let cause = incident.leading_cause();
    let is_other = told.grade != incident.radius.grade() || told.cause.as_ref() != cause;
    let has_grown = incident.radius.customers as f64 >= GROWTH * told.customers as f64
        && incident.radius.customers > told.customers;
    let is_due = now_ms - told.at_ms >= TELL_MS && before != incident.radius;
    if is_other || has_grown || is_due {
        incident.note(Kind::Updated);
    }
}

/// Looks at causes, while the beginning is near enough, and radius.
fn refresh(incident: &mut Incident, now_ms: i64, field: &dyn Field) {
    let (from, now) = (incident.from(), Minute::of_ms(now_ms));
    if now.0.saturating_sub(from.0) < CAUSES_MINUTES {
        let found = field.causes(&incident.service, from..=now);
        // At the end the failures thin out: what was found before says more than nothing.
        if !found.is_empty() {
            incident.causes = found;
        }
    }
    incident.radius = field.radius(incident);
    incident.looked_ms = now_ms;
}

/// What is to be told of an incident.
fn tell(incident: &mut Incident, now_ms: i64) -> Option<Change> {
    let kind = incident.news.take()?;
    incident.told = Some(Told {
        at_ms: now_ms,
        customers: incident.radius.customers,
        grade: incident.radius.grade(),
        cause: incident.leading_cause().cloned(),
    });
    let joined = std::mem::take(&mut incident.joined);
    Some(Change { id: incident.id.clone(), kind, at_ms: now_ms, joined })
}
