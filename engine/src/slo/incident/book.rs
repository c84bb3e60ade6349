//! All incidents that are open, and those that closed lately, by service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::service::{Service, within};
use super::{
    Change, Field, Firing, Grade, Incident, Kind, Member, Page, REOPEN_MINUTES, Radius, SeriesKey,
    Told,
};
use crate::slo::alert::Severity;
use crate::slo::excess::Cause;
use crate::time::Minute;

/// The incidents that are open or closed lately. Of the others only their number is known.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    services: BTreeMap<Arc<str>, Service>,
}

/// An incident as a stored change tells it. Changes of one incident build on each other: each
/// names the series that joined since the one before.
#[derive(Clone, Debug)]
pub struct Restored {
    /// As [`Incident::id`].
    pub id: String,
    /// As [`Incident::ordinal`].
    pub ordinal: u64,
    /// Which component.
    pub service: Arc<str>,
    /// When it opened, epoch milliseconds.
    pub opened_ms: i64,
    /// When a series joined last.
    pub grown_ms: i64,
    /// When the change was.
    pub at_ms: i64,
    /// When it closed.
    pub closed_ms: Option<i64>,
    /// How often it was reopened.
    pub reopened: u32,
    /// The incident that it turned out to be.
    pub merged_into: Option<String>,
    /// Since when it pages.
    pub page: Option<Page>,
    /// Whether it was told as a ticket.
    pub is_ticket: bool,
    /// What explained it.
    pub causes: Vec<Cause>,
    /// How many customers had fired in it.
    pub customers: u64,
    /// How grave it was.
    pub grade: Grade,
    /// The series that joined since the change before.
    pub joined: Vec<(SeriesKey, Member)>,
}

impl Incidents {
    /// Folds the alerts that fire at `now_ms` into incidents; what changed, by service, then by
    /// age of the incident.
    pub fn step(&mut self, now_ms: i64, mut firing: Vec<Firing>, field: &dyn Field) -> Vec<Change> {
        // Of the tiers of one series the most urgent comes first.
        firing.sort_unstable();
        let burning = firing.iter().map(|one| &one.service);
        let open = self.services.iter().filter(|(_, one)| one.is_open()).map(|(name, _)| name);
        let names: BTreeSet<Arc<str>> = burning.chain(open).cloned().collect();
        let mut changes = Vec::new();
        for name in names {
            let first = firing.partition_point(|one| one.service < name);
            let last = firing.partition_point(|one| one.service <= name);
            let service = self.services.entry(Arc::clone(&name)).or_default();
            changes.extend(service.step(&name, now_ms, &firing[first..last], field));
        }
        let now = Minute::of_ms(now_ms);
        self.services.values_mut().for_each(|service| service.forget(now));
        changes
    }

    /// An incident that is open or closed lately.
    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.iter().find(|incident| incident.id == id)
    }

    /// Those that are open or closed lately, by service, then by age.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.services.values().flat_map(|service| &service.incidents)
    }

    /// Takes over a stored change; of one incident in the order in which they were made.
    pub fn restore(&mut self, row: Restored) {
        let service = self.services.entry(Arc::clone(&row.service)).or_default();
        service.count = service.count.max(row.ordinal + 1);
        let known = service.incidents.iter().position(|one| one.id == row.id);
        let incident = match known {
            Some(at) => &mut service.incidents[at],
            None => {
                let at = service.incidents.partition_point(|one| one.ordinal < row.ordinal);
                service.incidents.insert(at, Incident::blank(&row));
                &mut service.incidents[at]
            }
        };
        incident.members.extend(row.joined);
        incident.grown_ms = row.grown_ms;
        incident.closed_ms = row.closed_ms;
        incident.reopened = row.reopened;
        incident.merged_into = row.merged_into;
        incident.page = row.page;
        incident.is_ticket = row.is_ticket;
        incident.told = Some(Told {
            at_ms: row.at_ms,
            customers: row.customers,
            grade: row.grade,
            cause: row.causes.first().map(|cause| cause.dimensions.clone()),
        });
        incident.causes = row.causes;
    }

    /// Forgets what closed long ago, where nothing is stepped.
    pub fn forget(&mut self, now: Minute) {
        self.services.values_mut().for_each(|service| service.forget(now));
    }
}

impl Incident {
    /// One of which nothing is known but its name.
    fn blank(row: &Restored) -> Incident {
        let (service, opened_ms) = (Arc::clone(&row.service), row.opened_ms);
        let id = row.id.clone();
        Incident { id, news: None, ..Incident::open(&service, row.ordinal, opened_ms) }
    }

    /// A new one.
    pub(super) fn open(service: &Arc<str>, ordinal: u64, now_ms: i64) -> Incident {
        Incident {
            id: super::id(service, ordinal),
            ordinal,
            service: Arc::clone(service),
            opened_ms: now_ms,
            grown_ms: now_ms,
            closed_ms: None,
            reopened: 0,
            merged_into: None,
            page: None,
            is_ticket: false,
            members: BTreeMap::new(),
            causes: Vec::new(),
            radius: Radius::default(),
            looked_ms: i64::MIN,
            told: None,
            news: Some(Kind::Opened),
            is_fresh: false,
            joined: Vec::new(),
        }
    }

    /// Takes a series that fires.
    pub(super) fn take(&mut self, one: &Firing, now_ms: i64, field: &dyn Field) {
        let member = self.members.entry(one.series.clone()).or_insert_with(|| {
            self.is_fresh = true;
            if self.page.is_none() && !self.is_ticket {
                self.grown_ms = now_ms;
            }
            let from = field.first_bad(&one.service, &one.series);
            let joined = Minute::of_ms(now_ms);
            Member { joined, from, firing: None, is_page: false, is_ticket: false }
        });
        member.firing = Some(member.firing.map_or(one.severity, |known| known.min(one.severity)));
        let known = match one.severity {
            Severity::Page => std::mem::replace(&mut member.is_page, true),
            Severity::Ticket => std::mem::replace(&mut member.is_ticket, true),
        };
        if !known {
            self.joined.push(one.series.clone());
        }
    }

    /// Whether something in it fires that keeps it open.
    pub(super) fn is_burning(&self) -> bool {
        let urgent = self.is_urgent();
        let keeps = |firing: Severity| !urgent || firing == Severity::Page;
        self.members.values().any(|member| member.firing.is_some_and(keeps))
    }

    /// Whether somebody is told of it, as urgently or more so.
    pub(super) fn is_proven(&self, severity: Severity) -> bool {
        self.page.is_some() || (severity == Severity::Ticket && self.is_ticket)
    }

    /// Takes evidence of a severity.
    pub(super) fn prove(&mut self, page: Page, severity: Severity) {
        match severity {
            Severity::Page => self.page = Some(page),
            Severity::Ticket => self.is_ticket = true,
        }
        self.looked_ms = i64::MIN;
    }

    /// Whether what fires again may open it again.
    pub(super) fn may_reopen(&self, now_ms: i64) -> bool {
        let lately = |closed_ms| within(closed_ms, now_ms, REOPEN_MINUTES);
        self.merged_into.is_none() && self.closed_ms.is_some_and(lately)
    }

    /// Notes something to be told; what weighs more stays.
    pub(super) fn note(&mut self, kind: Kind) {
        let keeps = |known: Kind| known != Kind::Updated;
        if !self.news.is_some_and(keeps) || matches!(kind, Kind::Closed | Kind::Merged) {
            self.news = Some(kind);
        }
    }
}
