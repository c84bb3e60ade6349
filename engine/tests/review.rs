//! A review against an obvious recount of raw events: impact by customer, budget, outcomes, times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ninefold_engine::model::Measures;
use ninefold_engine::notify::outbox::Sent;
use ninefold_engine::query::Promise;
use ninefold_engine::query::body::{AlertTransition, AlertWindow, Cause};
use ninefold_engine::query::incident::{
    Incident, IncidentChange, IncidentPage, IncidentStatus, Joined, notices,
};
use ninefold_engine::query::review::{
    Evidence, Outcome, Parts, Review, ReviewEvent, latest_of, minutes, review,
};
use ninefold_engine::report::review::markdown;
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::{Objectives, Slis};
use ninefold_engine::state::series::Series;
use ninefold_engine::time::{Minute, parse_rfc3339, rfc3339};
use proptest::prelude::*;

/// 2026-10-20T00:00:00Z.
const OPENED: Minute = Minute(29_874_240);

/// When the incident closed.
const CLOSED: Minute = Minute(OPENED.0 + 40);

/// One raw event of `api`, by minutes since it opened.
#[derive(Clone, Copy, Debug)]
struct Raw {
    customer: usize,
    after: i64,
    bad: bool,
    count: u64,
}

fn name(customer: usize) -> String {
    // Nothing in a name is markup.
    format!("c{customer}|<b>")
}

fn minute(after: i64) -> Minute {
    Minute((i64::from(OPENED.0) + after) as u32)
}

fn series_of(raw: &[Raw]) -> Vec<Series> {
    let mut all: BTreeMap<usize, Series> = BTreeMap::new();
    for event in raw {
        let new = || Series::new(Arc::from(name(event.customer)), Arc::from("api"), 0);
        let bad = if event.bad { event.count } else { 0 };
        let measures = Measures { valid: event.count, bad, ..Measures::default() };
        all.entry(event.customer).or_insert_with(new).add(minute(event.after), &measures);
    }
    all.into_values().collect()
}

fn joined(customer: usize, from: i64) -> Joined {
    Joined {
        customer: name(customer),
        pool: None,
        objective: "availability".to_owned(),
        joined: minute(2).to_string(),
        from: minute(from).to_string(),
        is_page: true,
        is_ticket: false,
    }
}

/// What receivers know its page by.
fn page_key() -> String {
    let page = IncidentPage {
        at: String::new(),
        basis: String::new(),
        evident: 0,
        active: 0,
        p_value: 0.0,
    };
    let (id, service) = ("0a1b".to_owned(), "api".to_owned());
    let paging = Incident { id, service, page: Some(page), ..Incident::default() };
    notices(&paging)[0].fingerprint.clone()
}

/// An incident of the first three customers.
fn status(closed: Option<Minute>) -> IncidentStatus {
    let change = |change: &str, at: Minute, severity: &str| IncidentChange {
        at: at.to_string(),
        change: change.to_owned(),
        severity: severity.to_owned(),
        notifies: "page".to_owned(),
        customers: 3,
        bad: 9,
        cause: None,
    };
    IncidentStatus {
        as_of: None,
        incident: Incident {
            id: "0a1b".to_owned(),
            fingerprint: page_key(),
            service: "api".to_owned(),
            state: if closed.is_some() { "closed" } else { "open" }.to_owned(),
            severity: "minor".to_owned(),
            notifies: "page".to_owned(),
            from: minute(0).to_string(),
            opened_at: minute(2).to_string(),
            closed_at: closed.map(|minute| minute.to_string()),
            page: Some(IncidentPage {
                at: minute(2).to_string(),
                basis: "pooled".to_owned(),
                evident: 3,
                active: 5,
                p_value: 1e-9,
            }),
            ..Incident::default()
        },
        changes: vec![
            change("opened", minute(2), "minor"),
            change("updated", minute(3), "minor"),
            change("updated", minute(4), "major"),
            change("updated", minute(9), "major"),
            change("closed", CLOSED, "minor"),
        ],
        series: vec![joined(0, 0), joined(1, 1), joined(2, 0)],
    }
}

fn alert(customer: usize, at_ms: i64, severity: &str, service: &str) -> AlertTransition {
    let window = AlertWindow { window: "1h".to_owned(), valid: 1, bad: 1, burn_rate: None };
    AlertTransition {
        id: format!("{customer}"),
        fingerprint: format!("alert {customer}"),
        customer: name(customer),
        pool: None,
        service: service.to_owned(),
        objective: "availability".to_owned(),
        tier: "page_1h".to_owned(),
        severity: severity.to_owned(),
        state: "firing".to_owned(),
        basis: "live".to_owned(),
        at: rfc3339(at_ms),
        long: window.clone(),
        short: window,
        factor: 14.4,
        incident: None,
        verdict: None,
    }
}

fn sent(fingerprint: &str, state: &str, at_ms: i64) -> Sent {
    Sent {
        receiver: "ops".to_owned(),
        fingerprint: fingerprint.to_owned(),
        id: "0a1b".to_owned(),
        state: state.to_owned(),
        revision: 0,
        at: rfc3339(at_ms),
    }
}

/// The review of some events.
fn of(raw: &[Raw], status: &IncidentStatus, causes: &[Cause], parts: &Parts) -> Review {
    let (slis, objectives, alerts) =
        (Slis::default(), Objectives::default(), AlertOptions::default());
    let promise = Promise {
        slis: &slis,
        objectives: &objectives,
        alerts: &alerts,
        credits: &[],
        zone: "UTC",
    };
    let series = series_of(raw);
    let known: BTreeSet<String> = status.series.iter().map(|one| one.customer.clone()).collect();
    let series: Vec<&Series> =
        series.iter().filter(|series| known.contains(&*series.customer)).collect();
    let to = latest_of(&status.incident, Some(minute(60)));
    let within = minutes(&promise, status, &series, to);
    let base = minute(0).start_ms();
    let evidence = Evidence {
        status,
        minutes: &within,
        series: &series,
        alerts: &[
            alert(1, base + 95_000, "page", "api"),
            alert(0, base + 80_500, "page", "api"),
            // Neither another service's nor a stranger's.
            alert(0, base + 70_000, "page", "web"),
            alert(4, base + 70_000, "page", "api"),
        ],
        told: &[
            sent(&page_key(), "resolved", CLOSED.start_ms() + 700),
            sent(&page_key(), "firing", base + 121_250),
            sent(&page_key(), "firing", base + 130_000),
            sent("something else", "firing", base + 90_000),
        ],
        verdicts: &[ReviewEvent {
            at: rfc3339(base + 200_000),
            event: "verdict".to_owned(),
            detail: "release r42: bad".to_owned(),
        }],
        causes,
        parts,
    };
    review(&promise, &evidence, Some(minute(60)))
}

/// The first minute of the stretch that ends with the joining, by looking at every minute.
fn first_bad(raw: &[Raw], customer: usize) -> Option<i64> {
    let broken = |after: i64| {
        let own = || raw.iter().filter(|one| one.customer == customer && one.after == after);
        let valid: u64 = own().map(|one| one.count).sum();
        let bad: u64 = own().filter(|one| one.bad).map(|one| one.count).sum();
        valid > 0 && bad * 1_000 > valid * 2
    };
    let bad: Vec<i64> = (-357..=2).rev().filter(|after| broken(*after)).collect();
    let mut first = *bad.first()?;
    for after in bad {
        // At most five minutes lie between two of a stretch.
        if first - after > 6 {
            break;
        }
        first = after;
    }
    Some(first)
}

fn raw_events() -> impl Strategy<Value = Vec<Raw>> {
    let after = prop_oneof![6 => -12..50_i64, 1 => -400..0_i64, 1 => -60_000..0_i64];
    let raw = (0..5_usize, after, prop::bool::weighted(0.4), 1..200_u64);
    let raw = raw.prop_map(|(customer, after, bad, count)| Raw { customer, after, bad, count });
    prop::collection::vec(raw, 1..160)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_figure_equals_a_recount(raw in raw_events(), is_open in any::<bool>()) {
        let status = status((!is_open).then_some(CLOSED));
        let found = of(&raw, &status, &[], &Parts::default());
        let from = (0..3).filter_map(|customer| first_bad(&raw, customer)).min().unwrap_or(0);
        let to = if is_open { 60 } else { 40 };
        prop_assert_eq!(&found.from, &minute(from).to_string());
        prop_assert_eq!(&found.to, &minute(to).to_string());
        let (mut valid, mut bad, mut bad_minutes, mut budget) = (0, 0, 0, 0.0);
        let (mut broken, mut customers) = (0, 0);
        for customer in 0..3 {
            let own: Vec<&Raw> = raw.iter().filter(|one| one.customer == customer).collect();
            if own.is_empty() {
                continue;
            }
            customers += 1;
            let sum = |within: &dyn Fn(&Raw) -> bool| -> u64 {
                own.iter().filter(|one| within(one)).map(|one| one.count).sum()
            };
            let is_in = |one: &Raw| (from..=to).contains(&one.after);
            let of_30d = |one: &Raw| (to - 43_199..=to).contains(&one.after);
            let (own_valid, own_bad) = (sum(&is_in), sum(&|one| is_in(one) && one.bad));
            let minutes: BTreeSet<i64> =
                own.iter().filter(|one| is_in(one) && one.bad).map(|one| one.after).collect();
            let (all, all_bad) = (sum(&of_30d), sum(&|one| of_30d(one) && one.bad));
            let is_broken = |bad: u64| bad * 1_000 > all * 2;
            let told = found.customers.iter().find(|one| one.customer == name(customer)).unwrap();
            prop_assert_eq!((told.valid, told.bad), (own_valid, own_bad));
            prop_assert_eq!(told.bad_minutes, minutes.len() as u64);
            prop_assert_eq!(&told.first, &minutes.first().map(|one| minute(*one).to_string()));
            prop_assert_eq!(&told.last, &minutes.last().map(|one| minute(*one).to_string()));
            let promise = &told.objectives[0];
            prop_assert_eq!(told.objectives.len(), 1);
            prop_assert_eq!((promise.valid, promise.bad), (own_valid, own_bad));
            let outcome = match (is_broken(all_bad), is_broken(all_bad - own_bad)) {
                (true, true) => Outcome::BrokenBefore,
                (true, false) => Outcome::Broken,
                // Which of the two, the last hour's rate decides.
                (false, _) if promise.outcome == Outcome::AtRisk => Outcome::AtRisk,
                (false, _) => Outcome::Kept,
            };
            prop_assert_eq!(promise.outcome, outcome);
            let spent = told.budget_lost.unwrap_or(0.0);
            let expect = if all > 0 { own_bad as f64 / (all as f64 * 0.002) } else { 0.0 };
            prop_assert!((spent - expect).abs() <= 1e-9 * (1.0 + expect), "{} {}", spent, expect);
            valid += own_valid;
            bad += own_bad;
            bad_minutes += minutes.len() as u64;
            budget += all as f64 * 0.002;
            broken += u64::from(outcome == Outcome::Broken);
        }
        prop_assert_eq!((found.valid, found.bad, found.bad_minutes), (valid, bad, bad_minutes));
        prop_assert!((found.budget_events - budget).abs() < 1e-6);
        prop_assert_eq!(found.objectives_broken, broken);
        prop_assert_eq!(found.customers.len(), customers);
        prop_assert!(found.customers.is_sorted_by_key(|one| std::cmp::Reverse(one.bad)));
    }
}

/// Two minutes of failures of three customers, amid good ones.
fn outage() -> Vec<Raw> {
    let one = |customer, after, bad, count| Raw { customer, after, bad, count };
    let failing = (0..3).flat_map(|customer| {
        (0..3)
            .flat_map(move |after| [one(customer, after, true, 10), one(customer, after, false, 9)])
    });
    failing.chain([one(0, -100, false, 500), one(4, 1, true, 7)]).collect()
}

#[test]
fn times_are_those_from_the_first_bad_minute_to_each_event() {
    let found = of(&outage(), &status(Some(CLOSED)), &[], &Parts::default());
    assert_eq!(found.from, minute(0).to_string());
    assert_eq!(found.time_to_detect_s, Some(80.5));
    assert_eq!(found.time_to_page_s, Some(121.25));
    assert_eq!(found.time_to_verdict_s, Some(200.0));
    assert_eq!(found.time_to_resolve_s, Some(2_400.0));
    assert_eq!(found.severity, "major", "the gravest that it was");
    let events: Vec<&str> = found.timeline.iter().map(|one| one.event.as_str()).collect();
    let expect = [
        "first_bad",
        "detected",
        "opened",
        "page",
        "told",
        "last_bad",
        "verdict",
        "updated",
        "told",
        "closed",
    ];
    let mut sorted = expect;
    // What is at one moment stands in the order in which it is told; which it is is no matter.
    sorted.sort_unstable();
    let mut told = events.clone();
    told.sort_unstable();
    assert_eq!(told, sorted, "{:#?}", found.timeline);
    assert!(
        found.timeline.is_sorted_by_key(|one| parse_rfc3339(one.at.as_bytes())),
        "{:#?}",
        found.timeline
    );
    assert_eq!((events[0], events[1]), ("first_bad", "detected"));
    let open = of(&outage(), &status(None), &[], &Parts::default());
    assert_eq!((open.time_to_resolve_s, open.time_to_detect_s), (None, Some(80.5)));
    assert_eq!(open.to, minute(60).to_string());
}

#[test]
fn parts_of_the_budget_and_the_rest_are_all_that_was_lost() {
    let cause = |name: &str, value: &str| Cause {
        dimensions: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        valid: 100,
        bad: 60,
        excess: 59.0,
        share_of_excess: Some(0.6),
        lift: None,
        p_value: 1e-9,
    };
    let causes = [cause("release", "r_42*"), cause("region", "eu")];
    let parts = Parts {
        by_cause: vec![60, 20],
        unexplained: 10,
        others: BTreeSet::from(["c4".to_owned()]),
        others_bad: 7,
    };
    let found = of(&outage(), &status(Some(CLOSED)), &causes, &parts);
    assert_eq!(found.bad, 90);
    let bad: Vec<u64> = found.budget_by_cause.iter().map(|part| part.bad).collect();
    assert_eq!(bad, [60, 20, 10]);
    assert_eq!(found.budget_by_cause[2].dimensions, BTreeMap::new());
    let lost: f64 = found.budget_by_cause.iter().filter_map(|part| part.budget_lost).sum();
    assert!((lost - found.budget_lost.unwrap()).abs() < 1e-9);
    assert_eq!((found.others_hit, found.others_bad), (1, 7));
    let text = markdown(&found);
    for part in ["c0\\|&lt;b&gt;", "release=r\\_42\\*", "| unexplained | 10 | 11.1% |", "40m 00s"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("<b>"), "{text}");
}
