//! What an incident was, told afterwards: timeline, impact by customer, causes, budget by cause.
//!
//! Everything comes from the table. What people did then (detected, paged, told, decided) is the
//! live history; every count is of the final ones, so late events and corrections are in it, and
//! anyone can recount it from the rows. It answers for an open incident as well, until now.
//!
//! | figure | definition |
//! |---|---|
//! | `from` | the first bad minute: of the series whose trouble began with the incident, the earliest minute of the stretch that made them fire, by final counts |
//! | `to` | the minute in which it closed; while it is open the newest counted one |
//! | `time_to_detect_s` | from the start of `from` to the first alert of a series of it: up to a minute too long, as the minute is the unit of the counts |
//! | `time_to_page_s` | from the start of `from` until the first receiver had taken its page |
//! | `time_to_resolve_s` | from the start of `from` until it closed |
//! | `valid`, `bad` | by the default availability SLI: the incident's customers, its service, `from` to `to` |
//! | `bad_minutes` | minutes of a customer with a bad one of these events |
//! | `budget_events` | sum of what the availability promises of these customers allow over their periods until `to` |
//! | `budget_lost` | `bad / budget_events` |
//! | `outcome` of a promise | `broken_before` where it is broken without the incident's bad events too, `broken`, `at_risk` where it will be within a day if the last hour goes on, else `kept` |
//! | `causes` | as `impact` has them, of this service, from half an hour before `from` on, over a day at most |
//! | `budget_by_cause` | each bad event belongs to the first cause whose values it has ([`super::attribution`]); those of none are `unexplained`. The parts add up to `bad` |

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::model::Counts;
use crate::notify::outbox::Sent;
use crate::query::Promise;
use crate::query::body::{AlertTransition, Cause, DataGap};
use crate::query::column::bad_minutes;
use crate::query::excluded::Excluded;
use crate::query::hit::{Hit, Promised, STRETCH_MINUTES};
use crate::query::incident::{Incident, IncidentChange, IncidentStatus, Joined, notices};
use crate::query::judgement::Judgement;
use crate::slo::objective::{AVAILABILITY, SliRef};
use crate::state::series::Series;
use crate::time::{DAY_MINUTES, Minute, parse_rfc3339};

#[cfg(feature = "table")]
mod failures;
#[cfg(feature = "table")]
pub use failures::parts;

/// Causes are looked for from so many minutes before the first bad one, while an incident is open
/// and afterwards: a release that was rolled out to all is a cause only beside the time before it.
pub const CAUSES_BEFORE_MINUTES: u32 = 30;
/// Causes are looked for over so many minutes at most: a day of rows by minute is in memory.
pub const CAUSES_MINUTES_MAX: u32 = DAY_MINUTES;

/// What a promise came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is kept.
    Kept,
    /// It will be broken within a day if the last hour goes on.
    AtRisk,
    /// It is broken, and would not be without the incident.
    Broken,
    /// It would be broken without the incident, too.
    BrokenBefore,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReviewEvent {
    /// When, RFC 3339.
    pub at: String,
    /// `first_bad`, `detected`, `opened`, `updated`, `reopened`, `merged`, `page`, `told`,
    /// `verdict`, `last_bad` or `closed`.
    pub event: String,
    /// What it says, for people.
    pub detail: String,
}

/// The verdicts that something in a service is bad, as events of a timeline.
pub fn verdicts<'a>(
    judged: impl Iterator<Item = &'a Judgement>,
    service: &str,
) -> Vec<ReviewEvent> {
    let of_service =
        |one: &&Judgement| one.is_bad() && one.verdict.service.as_deref() == Some(service);
    let event = |one: &Judgement| ReviewEvent {
        at: one.at.clone(),
        event: "verdict".to_owned(),
        detail: one.summary.clone(),
    };
    judged.filter(of_service).map(event).collect()
}

/// What the incident did to one promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReviewObjective {
    /// Its name.
    pub objective: String,
    /// The SLI it is on.
    pub sli: String,
    /// The target ratio.
    pub target: f64,
    /// `30d`, `month`, ….
    pub period: String,
    /// Whether it fired in the incident.
    pub fired: bool,
    /// Valid events by its SLI.
    pub valid: u64,
    /// Bad ones.
    pub bad: u64,
    /// Bad ones as a share of the budget of its period until `to`.
    pub budget_lost: Option<f64>,
    /// Share of that budget which all bad events of the period took.
    pub budget_consumed: Option<f64>,
    /// What it came to.
    pub outcome: Outcome,
}

/// What the incident did to one customer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReviewCustomer {
    /// Who.
    pub customer: String,
    /// Their tier; empty where they have none.
    pub tier: String,
    /// Valid events.
    pub valid: u64,
    /// Bad ones.
    pub bad: u64,
    /// Minutes with a bad one.
    pub bad_minutes: u64,
    /// The first of them.
    pub first: Option<String>,
    /// The last one.
    pub last: Option<String>,
    /// `bad` as a share of the budget of their availability promise.
    pub budget_lost: Option<f64>,
    /// Their promises on this service.
    pub objectives: Vec<ReviewObjective>,
}

/// A part of the budget that was lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetPart {
    /// The cause that took it; empty for what no cause explains.
    pub dimensions: BTreeMap<String, String>,
    /// Bad events of it.
    pub bad: u64,
    /// As a share of all bad events; `null` where there are none.
    pub share: Option<f64>,
    /// As a share of the budget.
    pub budget_lost: Option<f64>,
}

/// `review`, `GET /v1/incidents/{id}/review`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Review {
    /// Newest counted minute.
    pub as_of: Option<String>,
    /// The incident.
    pub id: String,
    /// Its service.
    pub service: String,
    /// `open` or `closed`.
    pub state: String,
    /// `critical`, `major` or `minor`: the gravest that it was.
    pub severity: String,
    /// `page`, `ticket` or `nobody`.
    pub notifies: String,
    /// The incident that it turned out to be.
    pub merged_into: Option<String>,
    /// First bad minute.
    pub from: String,
    /// Last minute of the figures, included.
    pub to: String,
    /// When the first alert fired.
    pub detected_at: Option<String>,
    /// When the first receiver had taken its page.
    pub paged_at: Option<String>,
    /// When it closed.
    pub closed_at: Option<String>,
    /// Seconds from the first bad minute to the first alert.
    pub time_to_detect_s: Option<f64>,
    /// Seconds from the first bad minute to the page; `null` where nobody was paged.
    pub time_to_page_s: Option<f64>,
    /// Seconds from the first bad minute to the first verdict on a release; `null` without one.
    pub time_to_verdict_s: Option<f64>,
    /// Seconds from the first bad minute to the end; `null` while it is open.
    pub time_to_resolve_s: Option<f64>,
    /// What happened, oldest first.
    pub timeline: Vec<ReviewEvent>,
    /// Valid events of its customers.
    pub valid: u64,
    /// Bad ones.
    pub bad: u64,
    /// Minutes of a customer with a bad one.
    pub bad_minutes: u64,
    /// Bad events that the availability promises of its customers allow.
    pub budget_events: f64,
    /// `bad` over that.
    pub budget_lost: Option<f64>,
    /// Promises that the incident has broken.
    pub objectives_broken: u64,
    /// Promises that will be broken within a day.
    pub objectives_at_risk: u64,
    /// Customers of the service who had bad events then and never fired.
    pub others_hit: u64,
    /// Their bad events.
    pub others_bad: u64,
    /// The most bad events first.
    pub customers: Vec<ReviewCustomer>,
    /// The best explanation first.
    pub causes: Vec<Cause>,
    /// What each cause took, and at last what none explains.
    pub budget_by_cause: Vec<BudgetPart>,
    /// Accepted gaps of the sources whose events may lie in it.
    pub gaps: Vec<DataGap>,
    /// Maintenance windows and corrections that lie in it.
    pub exclusions: Vec<Excluded>,
}

/// Bad events of a service and some minutes, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Those of the incident's customers, by cause.
    pub by_cause: Vec<u64>,
    /// Those of them that no cause explains.
    pub unexplained: u64,
    /// Who else had some.
    pub others: BTreeSet<String>,
    /// How many those had.
    pub others_bad: u64,
}

/// What the table says of an incident.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The incident with its history and its series.
    pub status: &'a IncidentStatus,
    /// Its minutes by final counts: see [`minutes`].
    pub minutes: &'a RangeInclusive<Minute>,
    /// The series of its customers, over their periods.
    pub series: &'a [&'a Series],
    /// Live transitions of alerts since [`earliest`], of any series.
    pub alerts: &'a [AlertTransition],
    /// Who was told of what since then.
    pub told: &'a [Sent],
    /// Verdicts on releases since then, as events of the timeline.
    pub verdicts: &'a [ReviewEvent],
    /// What explains it.
    pub causes: &'a [Cause],
    /// Its bad events by these causes.
    pub parts: &'a Parts,
}

/// Its customers, each once, by name.
pub fn customers(status: &IncidentStatus) -> BTreeSet<String> {
    status.series.iter().map(|one| one.customer.clone()).collect()
}

/// The first minute that may matter: a series is looked at so far back for its first bad minute.
pub fn earliest(status: &IncidentStatus) -> Minute {
    minute_of(&status.incident.from).minus(STRETCH_MINUTES)
}

/// The last minute of an incident's figures; `as_of` is the newest counted one.
pub fn latest_of(incident: &Incident, as_of: Option<Minute>) -> Minute {
    let closed = incident.closed_at.as_deref().map(minute_of);
    closed.or(as_of).unwrap_or_default().max(minute_of(&incident.from))
}

/// The minutes of an incident by final counts: from the earliest first bad minute of those series
/// whose trouble began with it (one that had failed for long before it joined tells nothing of the
/// begin) to the last minute of the figures.
pub fn minutes(
    promise: &Promise<'_>,
    status: &IncidentStatus,
    series: &[&Series],
    to: Minute,
) -> RangeInclusive<Minute> {
    let live = minute_of(&status.incident.from);
    let began = status.series.iter().filter(|one| minute_of(&one.from) >= live);
    let first = |one: &Joined| {
        let own = |series: &&&Series| {
            *series.customer == *one.customer && *series.service == *status.incident.service
        };
        let series = series.iter().find(own)?;
        let found = Promised::of(promise.slis, promise.objectives, series, &one.objective)?;
        found.first_bad(minute_of(&one.joined))
    };
    began.filter_map(first).min().unwrap_or(live)..=to
}

/// The minutes in which causes are looked for.
pub fn cause_minutes(minutes: &RangeInclusive<Minute>) -> RangeInclusive<Minute> {
    let from = minutes.start().minus(CAUSES_BEFORE_MINUTES);
    from..=(*minutes.end()).min(Minute(from.0 + CAUSES_MINUTES_MAX - 1))
}

/// The review; gaps and exclusions are left for the caller, who has the table.
pub fn review(promise: &Promise<'_>, evidence: &Evidence<'_>, as_of: Option<Minute>) -> Review {
    let Evidence { status, minutes, series, .. } = *evidence;
    let incident = &status.incident;
    let own = series.iter().filter(|series| *series.service == *incident.service);
    let hit = own.map(|series| customer(promise, evidence, series));
    let (mut customers, mut budget_events) = (Vec::new(), 0.0);
    for (customer, budget) in hit {
        customers.push(customer);
        budget_events += budget;
    }
    customers.sort_by(|a: &ReviewCustomer, b: &ReviewCustomer| {
        b.bad.cmp(&a.bad).then_with(|| a.customer.cmp(&b.customer))
    });
    let sum = |figure: fn(&ReviewCustomer) -> u64| customers.iter().map(figure).sum::<u64>();
    let promises = || customers.iter().flat_map(|customer| &customer.objectives);
    let of = |outcome| promises().filter(|one| one.outcome == outcome).count() as u64;
    let timeline = timeline(evidence, &customers);
    let first = |event: &str| {
        let found = timeline.iter().find(|one| one.event == event);
        found.map(|found| found.at.clone())
    };
    let since = |at: &Option<String>| {
        let at_ms = parse_rfc3339(at.as_deref()?.as_bytes())?;
        Some((at_ms - minutes.start().start_ms()) as f64 / 1e3)
    };
    let (detected_at, paged_at) = (first("detected"), paged_at(evidence));
    let bad = sum(|customer| customer.bad);
    let grades = ["critical", "major", "minor"];
    let was = |grade: &&&str| status.changes.iter().any(|change| change.severity == **grade);
    Review {
        as_of: as_of.map(|minute| minute.to_string()),
        id: incident.id.clone(),
        service: incident.service.clone(),
        state: incident.state.clone(),
        severity: (*grades.iter().find(was).unwrap_or(&&*incident.severity)).to_owned(),
        notifies: incident.notifies.clone(),
        merged_into: incident.merged_into.clone(),
        from: minutes.start().to_string(),
        to: minutes.end().to_string(),
        time_to_detect_s: since(&detected_at),
        time_to_page_s: since(&paged_at),
        time_to_verdict_s: since(&first("verdict")),
        time_to_resolve_s: since(&incident.closed_at),
        detected_at,
        paged_at,
        closed_at: incident.closed_at.clone(),
        timeline,
        valid: sum(|customer| customer.valid),
        bad,
        bad_minutes: sum(|customer| customer.bad_minutes),
        budget_events,
        budget_lost: share(bad as f64, budget_events),
        objectives_broken: of(Outcome::Broken),
        objectives_at_risk: of(Outcome::AtRisk),
        others_hit: evidence.parts.others.len() as u64,
        others_bad: evidence.parts.others_bad,
        causes: evidence.causes.to_vec(),
        budget_by_cause: budget_by_cause(evidence, budget_events),
        customers,
        gaps: Vec::new(),
        exclusions: Vec::new(),
    }
}

/// What it did to one customer, and the budget of their availability promise in events.
fn customer(
    promise: &Promise<'_>,
    evidence: &Evidence<'_>,
    series: &Series,
) -> (ReviewCustomer, f64) {
    let (from, to) = (*evidence.minutes.start(), *evidence.minutes.end());
    let joined = |name: &str| {
        let mut all = evidence.status.series.iter();
        all.any(|one| *one.customer == *series.customer && one.objective == name)
    };
    let promised = || Promised::all_of(promise.slis, promise.objectives, series);
    let availability = promised().find(|one| one.objective.sli == AVAILABILITY);
    let budget = availability.map_or(0.0, |one| one.hit(from, to).budget.events);
    let objective = |one: Promised<'_>| {
        let hit = one.hit(from, to);
        ReviewObjective {
            objective: one.objective.name.clone(),
            sli: one.objective.sli.clone(),
            target: one.objective.target.to_f64(),
            period: one.objective.period.to_string(),
            fired: joined(&one.objective.name),
            valid: hit.counts.valid,
            bad: hit.counts.bad,
            budget_lost: share(hit.counts.bad as f64, hit.budget.events),
            budget_consumed: hit.budget.consumed,
            outcome: outcome(&one, &hit),
        }
    };
    let measures = series.sum(from..=to);
    let minutes = bad_minutes(series, SliRef::Availability, from..=to);
    let tier = promise.objectives.tier_of.get(&*series.customer);
    let customer = ReviewCustomer {
        customer: series.customer.to_string(),
        tier: tier.cloned().unwrap_or_default(),
        valid: measures.valid,
        bad: measures.bad,
        bad_minutes: minutes.len() as u64,
        first: minutes.first().map(ToString::to_string),
        last: minutes.last().map(ToString::to_string),
        budget_lost: share(measures.bad as f64, budget),
        objectives: promised().map(objective).collect(),
    };
    (customer, budget)
}

fn outcome(promised: &Promised<'_>, hit: &Hit) -> Outcome {
    let Counts { valid, bad, .. } = hit.period;
    let without = bad - hit.bad_of_period;
    let broken = crate::slo::decimal::met(promised.objective.target, valid, without);
    match (hit.is_broken, hit.at_risk_s()) {
        (true, _) if broken == Some(false) => Outcome::BrokenBefore,
        (true, _) => Outcome::Broken,
        (false, Some(_)) => Outcome::AtRisk,
        (false, None) => Outcome::Kept,
    }
}

fn budget_by_cause(evidence: &Evidence<'_>, budget_events: f64) -> Vec<BudgetPart> {
    let Parts { by_cause, unexplained, .. } = evidence.parts;
    let bad: u64 = by_cause.iter().sum::<u64>() + unexplained;
    let part = |(dimensions, own): (BTreeMap<String, String>, u64)| BudgetPart {
        dimensions,
        bad: own,
        share: share(own as f64, bad as f64),
        budget_lost: share(own as f64, budget_events),
    };
    let causes = evidence.causes.iter().map(|cause| cause.dimensions.clone());
    let parts = causes.zip(by_cause.iter().copied());
    parts.chain([(BTreeMap::new(), *unexplained)]).map(part).collect()
}

/// `part / whole`; `None` where there is no whole.
fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// The alerts of its series while it lasted, oldest first: the first one is its detection.
fn own_alerts<'a>(evidence: &Evidence<'a>) -> Vec<&'a AlertTransition> {
    let Evidence { status, minutes, alerts, .. } = *evidence;
    let series: BTreeSet<(&str, &str)> =
        status.series.iter().map(|one| (&*one.customer, &*one.objective)).collect();
    let is_own = |alert: &&AlertTransition| {
        alert.service == status.incident.service
            && alert.state == "firing"
            && minutes.contains(&minute_of(&alert.at))
            && series.contains(&(&*alert.customer, &*alert.objective))
    };
    let mut own: Vec<&AlertTransition> = alerts.iter().filter(is_own).collect();
    own.sort_by_key(|alert| (ms_of(&alert.at), alert.fingerprint.clone()));
    own
}

/// When the first receiver had taken its page: that of the incident, or, where a receiver hears of
/// each alert, that of an alert of it.
fn paged_at(evidence: &Evidence<'_>) -> Option<String> {
    let own = own_alerts(evidence);
    let pages = own.iter().filter(|alert| alert.severity == "page");
    let mut keys: BTreeSet<&str> = pages.map(|alert| &*alert.fingerprint).collect();
    keys.insert(&evidence.status.incident.fingerprint);
    let firing = |told: &&Sent| {
        told.state == "firing"
            && keys.contains(&*told.fingerprint)
            && minute_of(&told.at) >= *evidence.minutes.start()
    };
    let first = evidence.told.iter().filter(firing).min_by_key(|told| ms_of(&told.at));
    first.map(|told| told.at.clone())
}

/// What happened, oldest first; at one moment in the order of the parts below.
fn timeline(evidence: &Evidence<'_>, customers: &[ReviewCustomer]) -> Vec<ReviewEvent> {
    let event = |at: &str, event: &str, detail: String| ReviewEvent {
        at: at.to_owned(),
        event: event.to_owned(),
        detail,
    };
    let Evidence { status, minutes, .. } = *evidence;
    let hit_first = customers.iter().filter_map(|one| Some((one.first.as_ref()?, one)));
    let named = hit_first.min_by_key(|(first, one)| ((*first).clone(), one.customer.clone()));
    let named = named.map_or(String::new(), |(_, one)| format!(": {}", one.customer));
    let first = minutes.start().to_string();
    let mut events = vec![event(&first, "first_bad", format!("first bad minute{named}"))];
    if let Some(alert) = own_alerts(evidence).first() {
        let AlertTransition { customer, objective, tier, .. } = alert;
        events.push(event(&alert.at, "detected", format!("{customer}: {objective} fires {tier}")));
    }
    events.extend(changes(&status.changes));
    if let Some(page) = &status.incident.page {
        let found = format!(
            "pages by {}: {} of {} active series show evidence, p {:.1e}",
            page.basis, page.evident, page.active, page.p_value
        );
        events.push(event(&page.at, "page", found));
    }
    events.extend(told(evidence));
    events.extend(evidence.verdicts.iter().cloned());
    if let Some(last) = customers.iter().filter_map(|one| one.last.as_ref()).max() {
        events.push(event(last, "last_bad", "last bad minute".to_owned()));
    }
    events.sort_by_key(|event| ms_of(&event.at));
    events
}

/// Changes of an incident; of its updates those that say something new of who is told, how grave
/// it is, or why it is.
fn changes(changes: &[IncidentChange]) -> Vec<ReviewEvent> {
    let mut before: Option<&IncidentChange> = None;
    let mut events = Vec::new();
    for change in changes {
        let says =
            |one: &IncidentChange| (one.severity.clone(), one.notifies.clone(), one.cause.clone());
        let is_news = change.change != "updated" || before.map(says) != Some(says(change));
        before = Some(change);
        if !is_news {
            continue;
        }
        let cause =
            change.cause.as_ref().map_or(String::new(), |cause| format!("; {}", name(cause)));
        let detail = format!(
            "{}, {}: {} customers, {} bad events{cause}",
            change.severity, change.notifies, change.customers, change.bad
        );
        events.push(ReviewEvent { at: change.at.clone(), event: change.change.clone(), detail });
    }
    events
}

/// What each receiver was told first of each state of the incident's page and ticket.
fn told(evidence: &Evidence<'_>) -> Vec<ReviewEvent> {
    let notices = notices(&evidence.status.incident);
    let mut seen = BTreeSet::new();
    let mut events = Vec::new();
    let mut all: Vec<&Sent> = evidence.told.iter().collect();
    all.sort_by_key(|told| ms_of(&told.at));
    for told in all {
        let Some(notice) = notices.iter().find(|one| one.fingerprint == told.fingerprint) else {
            continue;
        };
        if seen.insert((&told.receiver, &told.fingerprint, &told.state)) {
            let detail = format!("{}: {} {}", told.receiver, notice.severity, told.state);
            events.push(ReviewEvent { at: told.at.clone(), event: "told".to_owned(), detail });
        }
    }
    events
}

/// What names a cause: `cohort=canary, release=r42`; `unexplained` for none.
pub fn name(dimensions: &BTreeMap<String, String>) -> String {
    if dimensions.is_empty() {
        return "unexplained".to_owned();
    }
    let one = |(name, value): (&String, &String)| format!("{name}={value}");
    dimensions.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Epoch milliseconds of a stored time.
fn ms_of(at: &str) -> i64 {
    parse_rfc3339(at.as_bytes()).unwrap_or_default()
}

/// The minute of a stored time.
pub(super) fn minute_of(at: &str) -> Minute {
    Minute::of_ms(ms_of(at))
}
