//! The incidents of one service, one tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::evidence::{passing, pooled, pools};
use super::{
    Basis, CAUSES_MINUTES, CLOSED_MINUTES, Change, Field, Firing, Incident, JOIN_MINUTES, Kind,
    Page, REOPEN_MINUTES, SeriesKey, Told,
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
        for member in self.incidents.iter_mut().flat_map(|one| one.members.values_mut()) {
            member.firing = None;
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
        self.prove(name, now_ms, field);
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
        let is_page = one.severity == Severity::Page;
        let newest = || self.incidents.iter().enumerate().rev();
        let open = || newest().filter(|(_, incident)| incident.is_open());
        if let Some((at, _)) = open().find(|(_, it)| it.members.contains_key(&one.series)) {
            return Place::In(at);
        }
        let within = |since_ms: i64, minutes: u32| {
            now_ms.saturating_sub(since_ms) <= i64::from(minutes) * MINUTE_MS
        };
        let mut closed = newest().filter_map(|(at, it)| Some((at, it, it.closed_ms?)));
        let own = closed.find(|(_, it, _)| it.members.contains_key(&one.series));
        if let Some((at, it, closed_ms)) = own {
            if !is_page && it.is_urgent() && one.since.start_ms() <= closed_ms {
                return Place::Tail;
            }
            if it.merged_into.is_none()
                && within(closed_ms, REOPEN_MINUTES)
                && (is_page || !it.is_urgent())
            {
                return Place::In(at);
            }
        }
        let grows = |it: &Incident| !is_page || within(it.grown_ms, JOIN_MINUTES);
        if let Some((at, _)) = open().find(|(_, it)| grows(it)) {
            return Place::In(at);
        }
        let mut closed = newest().filter_map(|(at, it)| Some((at, it, it.closed_ms?)));
        let lately = closed.find(|(_, it, closed_ms)| {
            is_page
                && it.merged_into.is_none()
                && it.is_urgent()
                && within(*closed_ms, REOPEN_MINUTES)
        });
        lately.map_or(Place::New, |(at, ..)| Place::In(at))
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

    /// Opens an incident for series that are in none, unless they prove to be in an open one.
    fn open(&mut self, name: &Arc<str>, now_ms: i64, newcomers: &[&Firing], field: &dyn Field) {
        let mut incident = Incident::open(name, self.count, now_ms);
        newcomers.iter().for_each(|one| incident.take(one, now_ms, field));
        refresh(&mut incident, now_ms, field);
        let same = |one: &&mut Incident| one.is_open() && proves_one(one, &incident);
        if let Some(known) = self.incidents.iter_mut().find(same) {
            newcomers.iter().for_each(|one| known.take(one, now_ms, field));
            return;
        }
        self.count += 1;
        self.incidents.push(incident);
    }

    /// Looks for the evidence of the open incidents that do not page yet.
    fn prove(&mut self, name: &str, now_ms: i64, field: &dyn Field) {
        let fires_a_page = |incident: &Incident| {
            incident.members.values().any(|member| member.firing == Some(Severity::Page))
        };
        let unproven = |one: &Incident| one.is_open() && one.page.is_none() && fires_a_page(one);
        if !self.incidents.iter().any(unproven) {
            return;
        }
        let open = self.incidents.iter().filter(|one| one.is_open());
        let firing = open.flat_map(|one| &one.members);
        let pages = firing.filter(|(_, member)| member.firing == Some(Severity::Page));
        let p_values: BTreeMap<SeriesKey, f64> = pages
            .filter_map(|(series, _)| Some((series.clone(), field.p_value(name, series)?)))
            .collect();
        let active = field.active(name).max(p_values.len() as u64);
        let all: Vec<f64> = p_values.values().copied().collect();
        let bound = passing(&all, active);
        for incident in self.incidents.iter_mut().filter(|one| unproven(one)) {
            let own = incident.members.keys().filter_map(|series| p_values.get(series));
            let own: Vec<f64> = own.copied().collect();
            let least = own.iter().copied().fold(1.0, f64::min);
            let evident = own.len() as u64;
            let at_once = pooled(evident, active, field.chance());
            let (basis, p_value) = match bound {
                Some(bound) if evident > 0 && least <= bound => (Basis::Series, least),
                _ if evident > 0 && pools(at_once) => (Basis::Pooled, at_once),
                _ => continue,
            };
            incident.page = Some(Page { at_ms: now_ms, basis, evident, active, p_value });
            incident.looked_ms = i64::MIN;
            incident.note(Kind::Updated);
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
    let is_ticket = incident.members.values().any(|member| member.is_ticket);
    if is_ticket && !incident.is_ticket && incident.page.is_none() && incident.is_open() {
        incident.is_ticket = true;
        incident.note(Kind::Updated);
    }
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
