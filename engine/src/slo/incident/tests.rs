//! Incidents by hand: who joins whom, who pages, what ends.

use std::cell::Cell;

use super::*;
use crate::time::MINUTE_MS;

/// What a tick of a test knows.
#[derive(Clone, Default)]
struct World {
    active: u64,
    /// The p-value of every series that fires at a page's tier.
    p_value: Option<f64>,
    /// Instead of `p_value`, by series.
    only: Option<fn(&SeriesKey) -> Option<f64>>,
    cause: Option<&'static str>,
    /// The first bad minute, in the place of minute 10.
    from: Option<Minute>,
    asked: Cell<u64>,
}

impl Field for World {
    fn active(&self, _: &str) -> u64 {
        self.active
    }

    fn chance(&self, _: Severity) -> f64 {
        0.003
    }

    fn p_value(&self, _: &str, series: &SeriesKey, _: Severity) -> Option<f64> {
        self.asked.set(self.asked.get() + 1);
        self.only.map_or(self.p_value, |only| only(series))
    }

    fn first_bad(&self, _: &str, _: &SeriesKey) -> Minute {
        self.from.unwrap_or(Minute(10))
    }

    fn causes(&self, _: &str, _: RangeInclusive<Minute>) -> Vec<Cause> {
        let cause = |release: &str| Cause {
            dimensions: BTreeMap::from([("release".to_owned(), release.to_owned())]),
            valid: 100,
            bad: 50,
            excess: 49.0,
            share_of_excess: Some(0.98),
            lift: None,
            p_value: 1e-9,
        };
        self.cause.into_iter().map(cause).collect()
    }

    fn radius(&self, incident: &Incident) -> Radius {
        let customers = incident.customers().count() as u64;
        Radius { customers, customers_active: self.active, ..Radius::default() }
    }
}

/// A thousand active series, none of which shows evidence.
fn quiet() -> World {
    World { active: 1_000, ..World::default() }
}

/// The same, and what fires shows it.
fn evident() -> World {
    World { p_value: Some(1e-12), ..quiet() }
}

fn firing(service: &str, customer: &str, severity: Severity, since: u32) -> Firing {
    let series =
        SeriesKey { customer: customer.into(), objective: "availability".into(), pool: None };
    Firing { service: service.into(), series, severity, since: Minute(since) }
}

fn page(customer: &str) -> Firing {
    firing("api", customer, Severity::Page, 10)
}

fn ticket(customer: &str) -> Firing {
    firing("api", customer, Severity::Ticket, 10)
}

/// Steps at a minute, and says what changed as `ordinal kind`.
fn step(book: &mut Incidents, minute: i64, firing: &[Firing], world: &World) -> Vec<String> {
    let changes = book.step(minute * MINUTE_MS, firing.to_vec(), world);
    let name = |change: &Change| {
        let incident = book.get(&change.id).unwrap();
        let page = if incident.page.is_some() { " page" } else { "" };
        format!("{}{} {}{page}", incident.service, incident.ordinal, change.kind.name())
    };
    changes.iter().map(name).collect()
}

#[test]
fn ten_thousand_at_once_are_one_incident_and_one_page() {
    let mut book = Incidents::default();
    let world = World { active: 20_000, ..evident() };
    let all: Vec<Firing> = (0..10_000).map(|n| page(&format!("c{n}"))).collect();
    assert_eq!(step(&mut book, 10, &all[..50], &world), ["api0 opened page"]);
    // The rest within the minute, the order turned round.
    let mut rest = all.clone();
    rest.reverse();
    assert_eq!(step(&mut book, 11, &rest, &world), ["api0 updated page"]);
    assert_eq!(step(&mut book, 12, &all, &world), [""; 0], "nothing new");
    assert_eq!(step(&mut book, 13, &all[..1], &world), [""; 0], "one still fires");
    assert_eq!(step(&mut book, 14, &[], &world), ["api0 closed page"]);
    assert_eq!(book.iter().next().unwrap().customers().count(), 10_000);
    assert_eq!(step(&mut book, 15, &[], &world), [""; 0]);
}

#[test]
fn what_fires_without_evidence_is_shown_and_does_not_page_until_it_has_some() {
    let mut book = Incidents::default();
    assert_eq!(step(&mut book, 10, &[page("a")], &quiet()), ["api0 opened"]);
    // 1e-3 is no evidence among a thousand, 1e-5 is.
    let weak = World { p_value: Some(1e-3), ..quiet() };
    assert_eq!(step(&mut book, 11, &[page("a")], &weak), [""; 0]);
    let strong = World { p_value: Some(1e-5), ..quiet() };
    assert_eq!(step(&mut book, 12, &[page("a")], &strong), ["api0 updated page"]);
    assert_eq!(book.iter().next().unwrap().page.unwrap().basis, Basis::Series);
    let asked = strong.asked.get();
    assert_eq!(step(&mut book, 13, &[page("a")], &strong), [""; 0]);
    assert_eq!(strong.asked.get(), asked, "what pages is not asked again");
    // Thirty of a thousand at once are evidence, although none of them is.
    let mut book = Incidents::default();
    let many: Vec<Firing> = (0..30).map(|n| page(&format!("c{n}"))).collect();
    assert_eq!(step(&mut book, 10, &many, &weak), ["api0 opened page"]);
    assert_eq!(book.iter().next().unwrap().page.unwrap().basis, Basis::Pooled);
    // Nor does a ticket ever page.
    let mut book = Incidents::default();
    assert_eq!(step(&mut book, 10, &[ticket("a")], &evident()), ["api0 opened"]);
    assert!(book.iter().next().unwrap().is_ticket);
}

#[test]
fn pools_are_no_customers_and_silence_is_one_question_to_a_service() {
    let of_many = |pool: Option<&str>| Firing {
        series: SeriesKey {
            customer: "".into(),
            objective: "availability".into(),
            pool: pool.map(Into::into),
        },
        ..page("")
    };
    let customers = |book: &Incidents| {
        let names = book.iter().next().unwrap().customers();
        names.map(ToString::to_string).collect::<Vec<_>>()
    };
    // A pool is one of the series, and needs as much evidence.
    let (weak, strong) = (World { p_value: Some(1e-3), ..quiet() }, evident());
    let mut book = Incidents::default();
    let both = [of_many(Some("")), of_many(Some("gold")), page("gold")];
    assert_eq!(step(&mut book, 10, &both[..2], &weak), ["api0 opened"]);
    assert_eq!(step(&mut book, 11, &both, &strong), ["api0 updated page"]);
    assert_eq!(customers(&book), ["gold"]);
    assert_eq!(book.iter().next().unwrap().members.len(), 3);
    assert_eq!(step(&mut book, 12, &[], &strong), ["api0 closed page"]);
    // Silence is not one of a thousand.
    let mut book = Incidents::default();
    assert_eq!(step(&mut book, 10, &[of_many(None)], &weak), ["api0 opened page"]);
    let page = book.iter().next().unwrap().page.unwrap();
    assert_eq!((page.basis, page.p_value), (Basis::Pooled, 1e-3));
    assert_eq!(customers(&book), [""; 0]);
    let chance = World { p_value: Some(0.02), ..quiet() };
    assert_eq!(step(&mut Incidents::default(), 10, &[of_many(None)], &chance), ["api0 opened"]);
}

#[test]
fn services_are_incidents_of_their_own() {
    let mut book = Incidents::default();
    let both = [page("a"), firing("web", "a", Severity::Page, 10)];
    assert_eq!(step(&mut book, 10, &both, &evident()), ["api0 opened page", "web0 opened page"]);
}

#[test]
fn an_outage_beside_somebody_who_fails_for_days_is_another_incident() {
    let mut book = Incidents::default();
    assert_eq!(step(&mut book, 10, &[page("chronic")], &evident()), ["api0 opened page"]);
    let both = [page("chronic"), page("other")];
    let later = 10 + i64::from(JOIN_MINUTES) + 1;
    assert_eq!(step(&mut book, later, &both, &evident()), ["api1 opened page"]);
    // Within that time it would have been the same.
    let mut book = Incidents::default();
    step(&mut book, 10, &[page("chronic")], &evident());
    assert_eq!(step(&mut book, later - 1, &both, &evident()), ["api0 updated page"]);
}

#[test]
fn what_fires_by_chance_all_day_hides_no_outage() {
    // One at a time fires without evidence, another each ten minutes.
    let mut book = Incidents::default();
    let by_chance = |minute: i64| {
        let name = format!("chance {}", minute / 10);
        firing("api", &name, Severity::Page, minute as u32 / 10 * 10)
    };
    let mut seen = Vec::new();
    for minute in 10..500 {
        seen.extend(step(&mut book, minute, &[by_chance(minute)], &quiet()));
        assert_eq!(book.iter().next().unwrap().members.len(), 1, "what fires now");
    }
    assert_eq!(seen, ["api0 opened"]);
    // Then somebody fails for certain: that is an incident of its own, and pages.
    let only = |series: &SeriesKey| (&*series.customer == "down").then_some(1e-12);
    let down = World { only: Some(only), ..quiet() };
    let out = |minute| [by_chance(minute), page("down")];
    assert_eq!(step(&mut book, 500, &out(500), &down), ["api1 opened page"]);
    // Who joins by chance does not keep it: it ends with what it is about, and the next one pages.
    for minute in 501..600 {
        let seen = step(&mut book, minute, &out(minute), &down);
        assert!(seen.iter().all(|one| !one.ends_with("opened page")), "{minute}: {seen:?}");
    }
    assert_eq!(step(&mut book, 600, &[by_chance(600)], &down), ["api1 closed page"]);
    let other = |series: &SeriesKey| (&*series.customer == "other").then_some(1e-12);
    let other = World { only: Some(other), ..quiet() };
    let out = [by_chance(640), page("other")];
    assert_eq!(step(&mut book, 640, &out, &other), ["api3 opened page"]);
}

#[test]
fn one_leading_cause_is_one_incident_however_late() {
    let mut book = Incidents::default();
    let r42 = World { cause: Some("r42"), ..evident() };
    assert_eq!(step(&mut book, 10, &[page("a")], &r42), ["api0 opened page"]);
    // An hour later it is found at others: no second page.
    let both = [page("a"), page("b")];
    assert_eq!(step(&mut book, 70, &both, &r42), ["api0 updated page"]);
    // What has no cause yet, and proves to have this one, is merged.
    let all = [page("a"), page("b"), page("c")];
    let unknown = World { cause: None, ..evident() };
    assert_eq!(step(&mut book, 130, &all, &unknown), ["api1 opened page"]);
    let late = World { cause: Some("r42"), ..evident() };
    assert_eq!(step(&mut book, 131, &all, &late), [""; 0], "beyond the reach of causes");
}

#[test]
fn incidents_that_prove_one_are_merged_and_the_one_that_paged_stays() {
    let unknown = evident();
    let mut book = Incidents::default();
    step(&mut book, 10, &[page("a")], &unknown);
    let both = [page("a"), page("b")];
    assert_eq!(step(&mut book, 45, &both, &unknown), ["api1 opened page"]);
    let r42 = World { cause: Some("r42"), ..unknown.clone() };
    let seen = step(&mut book, 46, &both, &r42);
    assert_eq!(seen, ["api0 updated page", "api1 merged page"]);
    let merged = book.iter().last().unwrap();
    assert_eq!(merged.merged_into.as_deref(), Some(&*id("api", 0)));
    assert_eq!(step(&mut book, 47, &both, &r42), [""; 0], "its series are in the other one now");
    assert_eq!(step(&mut book, 48, &[], &r42), ["api0 closed page"]);

    // The younger one has paged: the older one goes.
    let mut book = Incidents::default();
    step(&mut book, 10, &[ticket("a")], &unknown);
    let both = [ticket("a"), page("b")];
    assert_eq!(step(&mut book, 45, &both, &evident()), ["api1 opened page"]);
    let r42 = World { cause: Some("r42"), ..evident() };
    let seen = step(&mut book, 46, &both, &r42);
    assert_eq!(seen, ["api0 merged", "api1 updated page"]);
    // Overlapping customers prove one as well: another promise of the same customer.
    let mut book = Incidents::default();
    let mut slow = page("a");
    slow.series.objective = "latency".into();
    step(&mut book, 10, &[page("a")], &unknown);
    assert_eq!(step(&mut book, 100, &[page("a"), slow], &unknown), [""; 0]);
    assert_eq!(book.iter().next().unwrap().members.len(), 2);
}

#[test]
fn what_fires_again_soon_reopens_under_the_same_id_and_has_to_be_proven_anew() {
    let mut book = Incidents::default();
    step(&mut book, 10, &[page("a")], &evident());
    assert_eq!(step(&mut book, 11, &[], &evident()), ["api0 closed page"]);
    let soon = 11 + i64::from(REOPEN_MINUTES);
    let again = firing("api", "a", Severity::Page, soon as u32);
    let one = std::slice::from_ref(&again);
    let mut flapping = book.clone();
    assert_eq!(step(&mut flapping, soon, one, &quiet()), ["api0 reopened"]);
    assert_eq!(step(&mut flapping, soon + 1, one, &evident()), ["api0 updated page"]);
    assert_eq!(step(&mut flapping, soon + 2, &[], &quiet()), ["api0 closed page"]);
    // Another customer does so where it has the same cause.
    let mut other = again.clone();
    other.series.customer = "b".into();
    let other = std::slice::from_ref(&other);
    assert_eq!(step(&mut book.clone(), soon, other, &evident()), ["api1 opened page"]);
    let r42 = World { cause: Some("r42"), ..evident() };
    let mut caused = Incidents::default();
    step(&mut caused, 10, &[page("a")], &r42);
    step(&mut caused, 11, &[], &r42);
    assert_eq!(step(&mut caused, soon, other, &r42), ["api0 reopened page"]);
    assert_eq!(step(&mut book, soon + 1, &[again], &evident()), ["api1 opened page"]);
}

#[test]
fn tickets_that_go_on_burning_neither_hold_a_page_up_nor_open_another() {
    let mut book = Incidents::default();
    let both = [page("a"), ticket("a")];
    assert_eq!(step(&mut book, 10, &both, &evident()), ["api0 opened page"]);
    assert_eq!(step(&mut book, 20, &[ticket("a")], &evident()), ["api0 closed page"]);
    assert_eq!(step(&mut book, 200, &[ticket("a")], &evident()), [""; 0]);
    // One that began later is another matter.
    let later = firing("api", "a", Severity::Ticket, 190);
    assert_eq!(step(&mut book, 200, &[later], &evident()), ["api1 opened"]);
    // A ticket holds the incident of a ticket open.
    assert_eq!(step(&mut book, 4_000, &[ticket("a")], &evident()), [""; 0]);
}

#[test]
fn a_restored_book_goes_on_as_the_first_one() {
    let mut first = Incidents::default();
    let mut second = Incidents::default();
    let world = World { cause: Some("r42"), ..evident() };
    let all: Vec<Firing> = (0..40).map(|n| page(&format!("c{n:02}"))).collect();
    let mut transfer = |first: &mut Incidents, minute: i64, firing: &[Firing]| {
        for change in first.step(minute * MINUTE_MS, firing.to_vec(), &world) {
            let incident = first.get(&change.id).unwrap();
            let joined = change.joined.iter();
            second.restore(Restored {
                id: incident.id.clone(),
                ordinal: incident.ordinal,
                service: Arc::clone(&incident.service),
                opened_ms: incident.opened_ms,
                grown_ms: incident.grown_ms,
                at_ms: change.at_ms,
                closed_ms: incident.closed_ms,
                reopened: incident.reopened,
                merged_into: incident.merged_into.clone(),
                page: incident.page,
                is_ticket: incident.is_ticket,
                causes: incident.causes.clone(),
                customers: incident.radius.customers,
                grade: incident.radius.grade(),
                joined: joined.map(|one| (one.clone(), incident.members[one])).collect(),
            });
        }
    };
    transfer(&mut first, 10, &all[..4]);
    transfer(&mut first, 12, &all);
    let mut resumed = second.clone();
    // Neither a second page nor another incident: it is the one that it was.
    assert_eq!(step(&mut resumed, 13, &all, &world), [""; 0]);
    assert_eq!(step(&mut resumed, 14, &[], &world), ["api0 closed page"]);
    assert_eq!(resumed.iter().next().unwrap().members.len(), 40);
    // Without a row it opens under the same name: it does not depend on time.
    let mut lost = Incidents::default();
    step(&mut lost, 999, &all[7..9], &world);
    assert_eq!(lost.iter().next().unwrap().id, first.iter().next().unwrap().id);
    let mut next = resumed;
    assert_eq!(step(&mut next, 60, &all[..1], &world), ["api1 opened page"]);
}

#[test]
fn an_old_incident_does_not_take_on_the_cause_of_an_outage_beside_it() {
    let mut book = Incidents::default();
    assert_eq!(step(&mut book, 12, &[page("a")], &evident()), ["api0 opened page"]);
    for minute in 13..300 {
        step(&mut book, minute, &[page("a")], &evident());
    }
    // The causes are of the service, so r42 explains what is seen of the old one, too.
    let both = [page("a"), page("b"), page("c")];
    let r42 = World { cause: Some("r42"), from: Some(Minute(299)), ..evident() };
    assert_eq!(step(&mut book, 300, &both, &r42), ["api1 opened page"]);
    assert_eq!(step(&mut book, 302, &both, &r42), [""; 0], "they stay two");
    assert_eq!(book.iter().next().unwrap().leading_cause(), None);
}
