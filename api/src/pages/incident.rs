//! The page of one incident: whom it hits, what explains it, what happened when.

use askama::Template;
use ninefold_engine::query::body::{Incident, IncidentStatus};

use crate::pages::fleet::{CauseView, hit, incident_class, named};
use crate::pages::{AsOf, Who, format, pools};

/// The live part of the page.
#[derive(Template)]
#[template(path = "incident.html")]
pub(crate) struct Live<'a> {
    name: &'a str,
    as_of: AsOf,
    id: &'a str,
    service: String,
    state: &'static str,
    words: String,
    class: &'static str,
    severity: &'a str,
    evidence: String,
    facts: Vec<(&'static str, String)>,
    causes: Vec<CauseView>,
    worst: Vec<Worst>,
    more: u64,
    newly: Vec<(String, String)>,
    changes: Vec<Change>,
    merged_into: Option<&'a str>,
}

/// One of the customers that are hit worst.
struct Worst {
    key: String,
    who: Who,
    bad: String,
    valid: String,
    consumed: String,
}

/// One line of the history.
struct Change {
    at: String,
    what: String,
}

impl<'a> Live<'a> {
    pub(crate) fn new(status: &'a IncidentStatus, name: &'a str, now_ms: i64) -> Live<'a> {
        let IncidentStatus { incident, changes, .. } = status;
        let as_of = status.as_of.as_deref().unwrap_or_default();
        let moment = |at: &str| format::moment(at, as_of);
        let is_open = incident.state == "open";
        let words = match &incident.closed_at {
            Some(closed) => format!("{} to {} UTC", moment(&incident.from), moment(closed)),
            None => format!("since {} UTC", moment(&incident.from)),
        };
        let newly = incident.newly.iter();
        Live {
            name,
            as_of: AsOf::new(as_of, now_ms),
            id: &incident.id,
            service: format::visible(&incident.service),
            state: if is_open { "burning" } else { "kept" },
            words: format!("{}, {words}", if is_open { "burning" } else { "over" }),
            class: incident_class(incident),
            severity: &incident.severity,
            evidence: evidence(incident),
            facts: facts(incident),
            causes: incident.causes.iter().map(CauseView::new).collect(),
            worst: incident.worst.iter().map(worst).collect(),
            more: incident.customers.saturating_sub(incident.worst.len() as u64),
            newly: newly
                .map(|one| (moment(&one.at), format::counted(one.customers, "customer")))
                .collect(),
            changes: changes
                .iter()
                .map(|change| Change {
                    at: moment(&change.at),
                    what: format!(
                        "{}: {}, {}, {} failed{}",
                        change.change,
                        change.severity,
                        format::counted(change.customers, "customer"),
                        format::grouped(change.bad),
                        change
                            .cause
                            .as_ref()
                            .map_or_else(String::new, |cause| { format!("; {}", named(cause)) }),
                    ),
                })
                .collect(),
            merged_into: incident.merged_into.as_deref(),
        }
    }
}

/// Who is told, and why.
fn evidence(incident: &Incident) -> String {
    match (&incident.page, incident.is_ticket) {
        (Some(page), _) => format!(
            "It pages: {} of {} active series show evidence, p {}.",
            format::grouped(page.evident),
            format::grouped(page.active),
            format::p_value(page.p_value)
        ),
        (None, true) => "It is a ticket.".to_owned(),
        (None, false) => "It wakes nobody: so much may be chance among so many.".to_owned(),
    }
}

fn facts(incident: &Incident) -> Vec<(&'static str, String)> {
    let exhausted = incident.exhausted_in_s.map(|after| format::duration(after.max(0.0) as u64));
    let pools = incident.pools.iter().map(|pool| pools::name(pool)).collect::<Vec<_>>().join(", ");
    let silence = incident.silence.as_ref().map(|_| ("silence", hit(incident)));
    let pools = Some(("pools", pools)).filter(|(_, names)| !names.is_empty());
    let facts = [
        ("customers", format::grouped(incident.customers)),
        ("burning now", format::grouped(incident.customers_firing)),
        ("active, 1 h", format::grouped(incident.customers_active)),
        ("failed", format::grouped(incident.bad)),
        ("requests", format::grouped(incident.valid)),
        ("bad minutes", format::grouped(incident.bad_minutes)),
        ("budget lost", incident.budget_lost.map_or_else(|| "–".to_owned(), format::share)),
        ("promises broken", format::grouped(incident.objectives_broken)),
        ("promises at risk", format::grouped(incident.objectives_at_risk)),
        ("first of these in", exhausted.unwrap_or_else(|| "–".to_owned())),
    ];
    facts.into_iter().chain(pools).chain(silence).collect()
}

fn worst(one: &ninefold_engine::query::incident::IncidentCustomer) -> Worst {
    Worst {
        key: format::escaped(&one.customer),
        who: Who::new(&one.customer),
        bad: format::grouped(one.bad),
        valid: format::grouped(one.valid),
        consumed: one.budget_consumed.map_or_else(|| "–".to_owned(), format::share),
    }
}
