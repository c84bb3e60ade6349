//! Incidents: the firing alerts of one service and time, as one thing with one page.
//!
//! Each tick brings all alerts that fire ([`Firing`]); [`Incidents::step`] folds them:
//!
//! - A series that is in an open incident stays in it, under whatever tier it fires.
//! - A newcomer joins the newest open incident that pages, while that *grows* by more than chance
//!   ([`JOIN_MINUTES`]): an outage beside a customer who has been failing for days is another
//!   incident, and pages. Else it joins the one that does not page, where there is one: what
//!   fires in a service without evidence is one thing, and consists of what fires now.
//! - What fires again within [`REOPEN_MINUTES`] reopens its incident, under the same id.
//! - Else an incident *opens*. Before it does, its causes are looked at: where its leading cause
//!   is that of one that is open or closed lately, it is that one.
//! - Where a part of an old one without evidence comes to have some, that part opens by itself.
//! - Two open ones that prove one (same leading cause, or half of the smaller one's customers in
//!   the other) are *merged*: the one that has paged stays, else the older one.
//! - It *closes* when none of its series fires any more; where some fired at a page's tier, when
//!   none does at such a tier: tickets that go on burning do not hold a page up.
//!
//! It *pages* once, when its page tiers have the evidence of [`evidence`], and is a ticket where
//! its ticket tiers have; what fires without it is shown and wakes nobody. Its id is a hash of the service and of how many incidents that service had
//! before, not of time: a process that is killed before it has committed an incident opens it
//! again under the same id.
//!
//! Invariants: a step depends on its arguments alone; the order of `firing` does not matter; a
//! firing series is in one open incident at most; what a step costs follows the alerts that fire.

mod book;
pub mod evidence;
mod radius;
mod service;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub use self::book::{Incidents, Restored};
pub use self::radius::{Grade, Radius, Silenced, Worst};

use crate::slo::alert::Severity;
use crate::slo::excess::Cause;
use crate::time::Minute;

/// An incident that pages takes newcomers in for so many minutes after it grew last: after those
/// who joined within that time showed evidence by themselves.
pub const JOIN_MINUTES: u32 = 30;

/// What fires so many minutes after its incident closed reopens it.
pub const REOPEN_MINUTES: u32 = 30;

/// A closed incident is remembered while tickets of it may go on firing.
pub const CLOSED_MINUTES: u32 = 4 * 1_440;

/// The causes of an incident are judged while its beginning is this near, and stay afterwards.
/// They are those of its service, so an old incident would take on the cause of an outage that
/// begins beside it, prove to be the same thing, and swallow its page. What explains an incident
/// as a whole, a review says from the table.
pub const CAUSES_MINUTES: u32 = 90;

/// One customer, or a pool of them, and objective in a service; or the whole service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Who; empty for a pool and for the whole service.
    pub customer: Arc<str>,
    /// Which promise.
    pub objective: Arc<str>,
    /// The [pool](super::pool), where it is one; that of whoever is in no other has no name.
    pub pool: Option<Arc<str>>,
}

impl SeriesKey {
    /// Whether it stands for a whole service, in which customers fell [silent](super::silent).
    pub fn is_service(&self) -> bool {
        self.customer.is_empty() && self.pool.is_none()
    }
}

/// An alert that fires at a tick.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firing {
    /// Which component.
    pub service: Arc<str>,
    /// Which series of it.
    pub series: SeriesKey,
    /// The severity of its tier.
    pub severity: Severity,
    /// The minute it began to fire.
    pub since: Minute,
}

/// A series of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The minute it joined.
    pub joined: Minute,
    /// Its first bad minute of this stretch.
    pub from: Minute,
    /// The most urgent tier that fires now; `None` where none does any more.
    pub firing: Option<Severity>,
    /// Whether it ever fired at a page's tier.
    pub is_page: bool,
    /// Whether it ever fired at a ticket's tier.
    pub is_ticket: bool,
}

/// On what evidence an incident pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// One of its series passes over all that were active.
    Series,
    /// So many show evidence at once.
    Pooled,
}

/// That an incident pages, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Page {
    /// When it was decided, epoch milliseconds.
    pub at_ms: i64,
    /// On what.
    pub basis: Basis,
    /// How many of its series showed evidence.
    pub evident: u64,
    /// Of how many that were active in the service.
    pub active: u64,
    /// The smallest corrected p-value of a series, or that of so many at once.
    pub p_value: f64,
}

/// The firing series of one service and time.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its stable name: see [`id`].
    pub id: String,
    /// How many incidents the service had before.
    pub ordinal: u64,
    /// Which component.
    pub service: Arc<str>,
    /// When it opened, epoch milliseconds.
    pub opened_ms: i64,
    /// When it grew last; see [`JOIN_MINUTES`].
    pub grown_ms: i64,
    /// When it closed; `None` while it is open.
    pub closed_ms: Option<i64>,
    /// How often it was reopened.
    pub reopened: u32,
    /// The incident that it turned out to be.
    pub merged_into: Option<String>,
    /// Since when it pages; `None` while there is no evidence.
    pub page: Option<Page>,
    /// Whether it is a ticket: there was evidence at a ticket's tier while it did not page.
    pub is_ticket: bool,
    /// Every series that has fired in it.
    pub members: BTreeMap<SeriesKey, Member>,
    /// What explains it, the best explanation first.
    pub causes: Vec<Cause>,
    /// Whom and what it hits, as of the last look.
    pub radius: Radius,
    /// When causes and radius were looked at last.
    looked_ms: i64,
    /// What was told of it last.
    told: Option<Told>,
    /// What is to be told of it at the end of the step.
    news: Option<Kind>,
    /// Whether a series has joined at this step.
    is_fresh: bool,
    /// Members that no change has named yet.
    joined: Vec<SeriesKey>,
}

/// What a change told.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    at_ms: i64,
    customers: u64,
    grade: Grade,
    cause: Option<BTreeMap<String, String>>,
}

/// What happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It is new.
    Opened,
    /// It pages now, or has grown, or is graded or explained otherwise.
    Updated,
    /// It is open again.
    Reopened,
    /// It turned out to be another one, and is closed.
    Merged,
    /// Nothing in it burns any more.
    Closed,
}

impl Kind {
    /// `opened`, `updated`, `reopened`, `merged` or `closed`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Opened => "opened",
            Kind::Updated => "updated",
            Kind::Reopened => "reopened",
            Kind::Merged => "merged",
            Kind::Closed => "closed",
        }
    }
}

/// What a step tells of one incident, which [`Incidents::get`] has as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub id: String,
    /// What happened.
    pub kind: Kind,
    /// The tick, epoch milliseconds.
    pub at_ms: i64,
    /// The series that joined since the change before.
    pub joined: Vec<SeriesKey>,
}

/// What a step asks of the counts; only of series that fire, and of services with some.
pub trait Field {
    /// How many series of the service had valid events in the last hour.
    fn active(&self, service: &str) -> u64;

    /// The probability that one series shows evidence by chance at one look: that of every tier
    /// of a severity together.
    fn chance(&self, severity: Severity) -> f64;

    /// The least p-value of a series over the tiers of a severity that burn with evidence now,
    /// corrected for looks ([`evidence::scanned`]) and tiers; `None` where none does.
    fn p_value(&self, service: &str, series: &SeriesKey, severity: Severity) -> Option<f64>;

    /// The first bad minute of the stretch that makes a series fire.
    fn first_bad(&self, service: &str, series: &SeriesKey) -> Minute;

    /// What explains the failures of a service in some minutes, the best explanation first.
    fn causes(&self, service: &str, minutes: RangeInclusive<Minute>) -> Vec<Cause>;

    /// Whom and what an incident hits.
    fn radius(&self, incident: &Incident) -> Radius;
}

/// The stable name of the incident of a service that had `ordinal` before: 32 hex digits.
pub fn id(service: &str, ordinal: u64) -> String {
    crate::slo::alert::id("incident", &format!("{ordinal} {service}"))
}

impl Incident {
    /// Its first bad minute: that of the first series that pages, where one does.
    pub fn from(&self) -> Minute {
        let of = |is_page: bool| {
            let chosen = self.members.values().filter(move |member| member.is_page == is_page);
            chosen.map(|member| member.from).min()
        };
        of(true).or_else(|| of(false)).unwrap_or_else(|| Minute::of_ms(self.opened_ms))
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.closed_ms.is_none()
    }

    /// Whether a series ever fired in it at a page's tier.
    pub fn is_urgent(&self) -> bool {
        self.members.values().any(|member| member.is_page)
    }

    /// Who has fired in it, each customer once, by name.
    pub fn customers(&self) -> impl Iterator<Item = &Arc<str>> {
        let mut before: Option<&Arc<str>> = None;
        let customers = self.members.keys().map(|series| &series.customer);
        let customers = customers.filter(|customer| !customer.is_empty());
        customers.filter(move |customer| before.replace(*customer) != Some(*customer))
    }

    /// What names its leading cause.
    pub fn leading_cause(&self) -> Option<&BTreeMap<String, String>> {
        self.causes.first().map(|cause| &cause.dimensions)
    }
}

#[cfg(test)]
mod tests;
