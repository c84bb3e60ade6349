//! Incidents as they are answered, stored and told.
//!
//! One body for all three: `GET /v1/incidents`, the rows of the grain `incident`, and what
//! receivers get. Each row is a whole state of its incident, so the newest row of an id is the
//! incident; only the list of its series is spread over its rows.
//!
//! Receivers are told of an incident as of an alert ([`notices`]): `fingerprint` is its stable
//! key, `state` is `firing` from `opened` on and `resolved` after `closed` or `merged`. Its page
//! and its ticket have a key each, so that neither takes the other's place.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::query::body::{AlertTransition, AlertWindow, Cause};
use crate::query::impact::cause;
use crate::slo::alert::hash_of;
use crate::slo::excess;
use crate::slo::incident::{
    Basis, Grade, Incident as Core, Kind, Member, Page, Restored, SeriesKey, Worst,
};
use crate::time::{Minute, parse_rfc3339, rfc3339};

/// The tier under which receivers hear of incidents.
pub const TIER: &str = "incident";

/// An incident, as of its newest change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its stable name.
    pub id: String,
    /// What receivers know its page by: a hash of `incident`, service and id.
    pub fingerprint: String,
    /// Which component.
    pub service: String,
    /// How many incidents the service had before.
    pub ordinal: u64,
    /// `open` or `closed`.
    pub state: String,
    /// What happened last: `opened`, `updated`, `reopened`, `merged` or `closed`.
    pub change: String,
    /// When that was.
    pub at: String,
    /// Its first bad minute.
    pub from: String,
    /// The last minute that is in its figures.
    pub to: String,
    /// When it opened.
    pub opened_at: String,
    /// When a series joined last.
    pub grown_at: String,
    /// When it closed.
    pub closed_at: Option<String>,
    /// How often it was reopened.
    pub reopened: u32,
    /// The incident that it turned out to be.
    pub merged_into: Option<String>,
    /// `critical`, `major` or `minor`, by whom it hits.
    pub severity: String,
    /// Who is told: `page` (somebody is woken), `ticket`, or `nobody` while there is too little
    /// evidence.
    pub notifies: String,
    /// Whether it was told as a ticket, before it paged or without.
    pub is_ticket: bool,
    /// Since when it pages, and on what evidence.
    pub page: Option<IncidentPage>,
    /// One line for a person who was just woken.
    pub summary: String,
    /// Customers who have fired in it.
    pub customers: u64,
    /// Those who fire now.
    pub customers_firing: u64,
    /// Customers with events of the service in the last hour.
    pub customers_active: u64,
    /// Customers newly hit, by minute.
    pub newly: Vec<NewlyHit>,
    /// Customers by tier; under the empty name those that have none.
    pub tiers: BTreeMap<String, u64>,
    /// Valid events of the series that have fired in it, since its first bad minute.
    pub valid: u64,
    /// Bad ones.
    pub bad: u64,
    /// Minutes of these series with a bad event.
    pub bad_minutes: u64,
    /// Valid events of the whole service in the same time.
    pub service_valid: u64,
    /// Bad ones.
    pub service_bad: u64,
    /// Bad events as a share of the budget of these series over their periods.
    pub budget_lost: Option<f64>,
    /// Promises of these series that are broken over their period.
    pub objectives_broken: u64,
    /// Promises that will be within a day if the last hour goes on.
    pub objectives_at_risk: u64,
    /// Seconds until the first of these is.
    pub exhausted_in_s: Option<f64>,
    /// The customers with the most bad events.
    pub worst: Vec<IncidentCustomer>,
    /// The pools that have fired in it; that of whoever is in no other has an empty name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
    /// Who fell silent, where that is what it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<IncidentSilence>,
    /// What explains it, the best explanation first.
    pub causes: Vec<Cause>,
}

/// Customers who fell silent together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentSilence {
    /// How many.
    pub customers: u64,
    /// Of how many who would be missed.
    pub missed: u64,
    /// Some of them, by name.
    pub names: Vec<String>,
}

/// The evidence on which an incident pages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentPage {
    /// When it was found.
    pub at: String,
    /// `series`: one passes over all that were active; `pooled`: so many show evidence at once.
    pub basis: String,
    /// How many series showed evidence.
    pub evident: u64,
    /// Of how many that were active in the service.
    pub active: u64,
    /// Corrected for series and looks.
    pub p_value: f64,
}

/// How many customers were hit first in a minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewlyHit {
    /// The minute.
    pub at: String,
    /// How many.
    pub customers: u64,
}

/// One customer of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentCustomer {
    /// Who.
    pub customer: String,
    /// Valid events in it.
    pub valid: u64,
    /// Bad ones.
    pub bad: u64,
    /// Share of the period's budget that these took.
    pub budget_consumed: Option<f64>,
}

/// `GET /v1/incidents`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incidents {
    /// Newest counted minute.
    pub as_of: Option<String>,
    /// Open ones first, then the newest first.
    pub incidents: Vec<Incident>,
}

/// `GET /v1/incidents/{id}`: the incident, what happened to it, and who is in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentStatus {
    /// Newest counted minute.
    pub as_of: Option<String>,
    /// As it is now.
    #[serde(flatten)]
    pub incident: Incident,
    /// Its changes, oldest first.
    pub changes: Vec<IncidentChange>,
    /// Every series that has fired in it, by customer, then by objective.
    pub series: Vec<Joined>,
}

/// One change of an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentChange {
    /// When.
    pub at: String,
    /// `opened`, `updated`, `reopened`, `merged` or `closed`.
    pub change: String,
    /// `critical`, `major` or `minor`.
    pub severity: String,
    /// `page`, `ticket` or `nobody`.
    pub notifies: String,
    /// Customers who had fired in it.
    pub customers: u64,
    /// Bad events of its series.
    pub bad: u64,
    /// What named its leading cause.
    pub cause: Option<BTreeMap<String, String>>,
}

/// The body of an incident at a change of it.
pub fn incident(core: &Core, kind: Kind, at_ms: i64) -> Incident {
    let radius = &core.radius;
    let newly = |(minute, customers): (&Minute, &u64)| NewlyHit {
        at: minute.to_string(),
        customers: *customers,
    };
    let customer = |worst: &Worst| IncidentCustomer {
        customer: worst.customer.clone(),
        valid: worst.valid,
        bad: worst.bad,
        budget_consumed: worst.budget_consumed,
    };
    let notifies = match core.page {
        Some(_) => "page",
        None if core.is_ticket => "ticket",
        None => "nobody",
    };
    let mut body = Incident {
        id: core.id.clone(),
        fingerprint: fingerprint(&core.service, &core.id, &[]),
        service: core.service.to_string(),
        ordinal: core.ordinal,
        state: if core.is_open() { "open" } else { "closed" }.to_owned(),
        change: kind.name().to_owned(),
        at: rfc3339(at_ms),
        from: core.from().to_string(),
        to: radius.to.to_string(),
        opened_at: rfc3339(core.opened_ms),
        grown_at: rfc3339(core.grown_ms),
        closed_at: core.closed_ms.map(rfc3339),
        reopened: core.reopened,
        merged_into: core.merged_into.clone(),
        severity: radius.grade().name().to_owned(),
        notifies: notifies.to_owned(),
        is_ticket: core.is_ticket,
        page: core.page.as_ref().map(page),
        summary: String::new(),
        customers: radius.customers,
        customers_firing: radius.customers_firing,
        customers_active: radius.customers_active,
        newly: radius.newly.iter().map(newly).collect(),
        tiers: radius.tiers.clone(),
        valid: radius.valid,
        bad: radius.bad,
        bad_minutes: radius.bad_minutes,
        service_valid: radius.service_valid,
        service_bad: radius.service_bad,
        budget_lost: radius.budget_lost,
        objectives_broken: radius.objectives_broken,
        objectives_at_risk: radius.objectives_at_risk,
        exhausted_in_s: radius.exhausted_in_s,
        worst: radius.worst.iter().map(customer).collect(),
        pools: radius.pools.iter().map(ToString::to_string).collect(),
        silence: radius.silence.as_ref().map(|silence| IncidentSilence {
            customers: silence.customers,
            missed: silence.missed,
            names: silence.names.clone(),
        }),
        causes: core.causes.iter().cloned().map(cause).collect(),
    };
    body.summary = summary(&body);
    body
}

fn page(page: &Page) -> IncidentPage {
    IncidentPage {
        at: rfc3339(page.at_ms),
        basis: match page.basis {
            Basis::Series => "series",
            Basis::Pooled => "pooled",
        }
        .to_owned(),
        evident: page.evident,
        active: page.active,
        p_value: page.p_value,
    }
}

/// `api: 12 of 340 customers burn (acme, beta, …), 513 of 9021 requests bad; release=r42 explains
/// 97%`; before it, who fell silent.
fn summary(body: &Incident) -> String {
    let mut text = format!("{}: ", body.service);
    if let Some(IncidentSilence { customers, missed, names }) = &body.silence {
        let listed = listed(names.iter().map(String::as_str), *customers);
        text += &format!("{customers} of {missed} customers fell silent ({listed})");
        if body.customers == 0 {
            return text;
        }
        text += "; ";
    }
    let names = listed(body.worst.iter().map(|one| one.customer.as_str()), body.customers);
    let active = body.customers_active.max(body.customers);
    text += &format!(
        "{} of {active} customers burn ({names}){}, {} of {} of their requests bad since {}",
        body.customers,
        pooled(&body.pools),
        body.bad,
        body.valid,
        body.from,
    );
    if let Some(cause) = body.causes.first() {
        let named: Vec<String> =
            cause.dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
        text += &format!("; {}", named.join(", "));
        if let Some(share) = cause.share_of_excess {
            text += &format!(" explains {:.0}%", 100.0 * share);
        }
    }
    text
}

/// Three of the names, and that there are more of `all`.
fn listed<'a>(names: impl Iterator<Item = &'a str>, all: u64) -> String {
    let names: Vec<&str> = names.take(3).collect();
    let more = if all > names.len() as u64 { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// That they are evident together, where they are.
fn pooled(pools: &[String]) -> String {
    let name = |pool: &String| match pool.as_str() {
        "" => "those in no pool".to_owned(),
        name => name.to_owned(),
    };
    match pools {
        [] => String::new(),
        pools => format!(" by pool {}", pools.iter().map(name).collect::<Vec<_>>().join(", ")),
    }
}

/// What receivers know an incident by.
fn fingerprint(service: &str, id: &str, what: &[&str]) -> String {
    hash_of(&[&[TIER, service, id], what].concat())
}

/// What receivers are told of an incident at a change of it: nothing, its page, its ticket, or
/// both. As of an alert of the tier `incident` without a customer: `firing` while it is open,
/// then `resolved`. The severity of each is part of its identity and does not change.
pub fn notices(body: &Incident) -> Vec<AlertTransition> {
    let told =
        [(body.page.is_some(), "page", &[][..]), (body.is_ticket, "ticket", &["ticket"][..])];
    let window = || AlertWindow {
        window: TIER.to_owned(),
        valid: body.valid,
        bad: body.bad,
        burn_rate: body.budget_lost,
    };
    let notice = |(_, severity, what): (bool, &str, &[&str])| AlertTransition {
        id: body.id.clone(),
        fingerprint: fingerprint(&body.service, &body.id, what),
        customer: String::new(),
        pool: None,
        service: body.service.clone(),
        objective: String::new(),
        tier: TIER.to_owned(),
        severity: severity.to_owned(),
        state: if body.state == "open" { "firing" } else { "resolved" }.to_owned(),
        basis: "live".to_owned(),
        at: body.at.clone(),
        long: window(),
        short: window(),
        factor: 0.0,
        incident: Some(Box::new(body.clone())),
        verdict: None,
    };
    told.into_iter().filter(|one| one.0).map(notice).collect()
}

/// A series of an incident, as a change of it names those that joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// Who; empty for a pool, and for a service in which many fell silent.
    pub customer: String,
    /// The pool, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Which promise.
    pub objective: String,
    /// When it joined.
    pub joined: String,
    /// Its first bad minute.
    pub from: String,
    /// Whether it fired at a page's tier.
    pub is_page: bool,
    /// Whether it fired at a ticket's tier.
    pub is_ticket: bool,
}

/// The series of a change, as they are stored with it.
pub fn joined(core: &Core, series: &[SeriesKey]) -> Vec<Joined> {
    let joined = |series: &SeriesKey| {
        let member = core.members.get(series)?;
        Some(Joined {
            customer: series.customer.to_string(),
            pool: series.pool.as_ref().map(|pool| pool.to_string()),
            objective: series.objective.to_string(),
            joined: member.joined.to_string(),
            from: member.from.to_string(),
            is_page: member.is_page,
            is_ticket: member.is_ticket,
        })
    };
    series.iter().filter_map(joined).collect()
}

/// A stored change, for the core to go on from; `None` where a time in it is none.
pub fn restored(body: &Incident, joined: &[Joined]) -> Option<Restored> {
    let ms = |text: &str| parse_rfc3339(text.as_bytes());
    let page = |page: &IncidentPage| {
        Some(Page {
            at_ms: ms(&page.at)?,
            basis: if page.basis == "series" { Basis::Series } else { Basis::Pooled },
            evident: page.evident,
            active: page.active,
            p_value: page.p_value,
        })
    };
    let member = |one: &Joined| {
        let (customer, objective) = (Arc::from(&*one.customer), Arc::from(&*one.objective));
        let member = Member {
            joined: Minute::of_ms(ms(&one.joined)?),
            from: Minute::of_ms(ms(&one.from)?),
            firing: None,
            is_page: one.is_page,
            is_ticket: one.is_ticket,
        };
        let pool = one.pool.as_deref().map(Arc::from);
        Some((SeriesKey { customer, objective, pool }, member))
    };
    let cause = |cause: &Cause| excess::Cause {
        dimensions: cause.dimensions.clone(),
        valid: cause.valid,
        bad: cause.bad,
        excess: cause.excess,
        share_of_excess: cause.share_of_excess,
        lift: cause.lift,
        p_value: cause.p_value,
    };
    Some(Restored {
        id: body.id.clone(),
        ordinal: body.ordinal,
        service: Arc::from(&*body.service),
        opened_ms: ms(&body.opened_at)?,
        grown_ms: ms(&body.grown_at)?,
        at_ms: ms(&body.at)?,
        closed_ms: match &body.closed_at {
            Some(closed_at) => Some(ms(closed_at)?),
            None => None,
        },
        reopened: body.reopened,
        merged_into: body.merged_into.clone(),
        page: match &body.page {
            Some(found) => Some(page(found)?),
            None => None,
        },
        is_ticket: body.is_ticket,
        causes: body.causes.iter().map(cause).collect(),
        customers: body.customers,
        grade: Grade::of_name(&body.severity)?,
        joined: joined.iter().map(member).collect::<Option<_>>()?,
    })
}

/// The newest state of each incident: open ones first, then the newest first. `changes` come in
/// the order in which they were made.
pub fn newest(changes: impl IntoIterator<Item = Incident>) -> Vec<Incident> {
    let mut newest: BTreeMap<String, Incident> = BTreeMap::new();
    for change in changes {
        newest.insert(change.id.clone(), change);
    }
    let mut incidents: Vec<Incident> = newest.into_values().collect();
    incidents.sort_by(|a, b| {
        let place =
            |one: &Incident| (one.state != "open", std::cmp::Reverse(one.opened_at.clone()));
        place(a).cmp(&place(b)).then_with(|| a.id.cmp(&b.id))
    });
    incidents
}

/// One incident from its changes, in the order in which they were made; `None` without any.
pub fn status<'a>(
    as_of: Option<String>,
    changes: impl IntoIterator<Item = (&'a Incident, &'a [Joined])>,
) -> Option<IncidentStatus> {
    let (mut newest, mut seen) = (None, Vec::new());
    let mut series: BTreeMap<(String, Option<String>, String), Joined> = BTreeMap::new();
    for (change, joined) in changes {
        seen.push(IncidentChange {
            at: change.at.clone(),
            change: change.change.clone(),
            severity: change.severity.clone(),
            notifies: change.notifies.clone(),
            customers: change.customers,
            bad: change.bad,
            cause: change.causes.first().map(|cause| cause.dimensions.clone()),
        });
        let key = |one: &Joined| (one.customer.clone(), one.pool.clone(), one.objective.clone());
        series.extend(joined.iter().map(|one| (key(one), one.clone())));
        newest = Some(change.clone());
    }
    let series = series.into_values().collect();
    newest.map(|incident| IncidentStatus { as_of, incident, changes: seen, series })
}

/// Whether an incident was open at some time in a range of minutes, both ends included.
pub fn is_within(body: &Incident, minutes: &RangeInclusive<Minute>) -> bool {
    let minute = |at: &str| parse_rfc3339(at.as_bytes()).map(Minute::of_ms);
    let opened = minute(&body.opened_at).unwrap_or_default();
    let closed = body.closed_at.as_deref().and_then(minute).unwrap_or(Minute(u32::MAX));
    opened <= *minutes.end() && closed >= *minutes.start()
}
