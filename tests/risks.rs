//! What has spent the budget, against a recount of the lines: two planted causes amid chance, by
//! the command and by the API; the minutes of an incident as a scope of their own.

#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::collections::BTreeSet;

use ninefold_engine::query::Promise;
use ninefold_engine::query::incident::Incident;
use ninefold_engine::query::risks::{Risk, Risks, risks};
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::{Objectives, Slis};
use ninefold_engine::table::Table;
use ninefold_engine::time::Minute;
use serde_json::Value;
use service::Service;
use session::Session;

/// 2026-11-02T00:00:00Z: the days are of the quarter 2026-Q4.
const START: u32 = 29_892_960;

/// How many days are made up.
const DAYS: u32 = 5;

const CUSTOMERS: u32 = 20;

/// Requests of one minute.
#[derive(Clone, Debug)]
struct Raw {
    minute: u32,
    customer: u32,
    service: &'static str,
    release: &'static str,
    dependency: &'static str,
    valid: u64,
    bad: u64,
}

/// Days of traffic in which one request in some hundreds fails; a dependency fails for three
/// hours of the second day, a release of the fourth day for a quarter of the customers.
fn events() -> Vec<Raw> {
    let mut raw = Vec::new();
    let mut noise = 7_u32;
    for hour in 0..DAYS * 24 {
        for customer in 0..CUSTOMERS {
            for service in ["api", "web"] {
                for dependency in ["db", "cache", "mail"] {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let (day, of_day) = (hour / 24, hour % 24);
                    let is_young = day == 3 && customer % 4 == 0;
                    let down = service == "api"
                        && dependency == "db"
                        && day == 1
                        && (10..13).contains(&of_day)
                        && customer < 15;
                    let broken = service == "web" && is_young && of_day >= 20;
                    let chance = u64::from(noise >> 16).is_multiple_of(9);
                    let bad =
                        u64::from(chance) + if down { 30 } else { 0 } + if broken { 12 } else { 0 };
                    raw.push(Raw {
                        minute: START + hour * 60 + (noise >> 8) % 60,
                        customer,
                        service,
                        release: if is_young { "r42" } else { "r41" },
                        dependency,
                        valid: 100 + u64::from(noise >> 24),
                        bad,
                    });
                }
            }
        }
    }
    raw
}

fn lines(raw: &[Raw]) -> Vec<u8> {
    let line = |one: &Raw, status: u16, count: u64| {
        format!(
            "{{\"ts\":{},\"customer\":\"c{}\",\"service\":\"{}\",\"release\":\"{}\",\
             \"dependency\":\"{}\",\"status\":{status},\"count\":{count}}}\n",
            i64::from(one.minute) * 60_000,
            one.customer,
            one.service,
            one.release,
            one.dependency
        )
    };
    let both = |one: &Raw| {
        let bad = if one.bad > 0 { line(one, 500, one.bad) } else { String::new() };
        line(one, 200, one.valid - one.bad) + &bad
    };
    raw.iter().map(both).collect::<String>().into_bytes()
}

const CONFIG: &str = "[dimensions]\nattributes = [\"dependency\"]\n";

fn session(raw: &[Raw]) -> Session {
    let session = Session::new();
    session.write("c.toml", CONFIG.as_bytes());
    session.write("events.ndjson", &lines(raw));
    session.run("replay events.ndjson --data d --config c.toml").ok_with_notes();
    session
}

/// What a cause took of some events, and what of it would not have failed otherwise: the sum over
/// strata of `bad - valid * ratio of the others of the stratum`.
fn recount(
    raw: &[&Raw],
    is_of: &dyn Fn(&Raw) -> bool,
    stratum: &dyn Fn(&Raw) -> u32,
) -> (u64, u64, u64, f64) {
    let own: Vec<&&Raw> = raw.iter().filter(|one| is_of(one)).collect();
    let bad = own.iter().map(|one| one.bad).sum();
    let hit = || own.iter().filter(|one| one.bad > 0);
    let customers: BTreeSet<u32> = hit().map(|one| one.customer).collect();
    let minutes: BTreeSet<u32> = hit().map(|one| one.minute).collect();
    let strata: BTreeSet<u32> = own.iter().map(|one| stratum(one)).collect();
    let excess = strata.iter().map(|at| {
        let sum = |ours: bool| -> (u64, u64) {
            let rows = raw.iter().filter(|one| stratum(one) == *at && is_of(one) == ours);
            rows.fold((0, 0), |sum, one| (sum.0 + one.valid, sum.1 + one.bad))
        };
        let (own, rest) = (sum(true), sum(false));
        own.1 as f64 - own.0 as f64 * rest.1 as f64 / rest.0 as f64
    });
    (customers.len() as u64, minutes.len() as u64, bad, excess.sum())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(found: f64, expect: f64) {
    assert!((found - expect).abs() <= 1e-6 * (1.0 + expect.abs()), "{found} {expect}");
}

#[test]
fn causes_take_what_a_recount_gives_them_and_the_rest_is_named() {
    let raw = events();
    let session = session(&raw);
    let line = "risks --quarter 2026-Q4 --data d --config c.toml --json";
    let found = session.run(line).json();
    let (valid, bad) = raw.iter().fold((0, 0), |sum, one| (sum.0 + one.valid, sum.1 + one.bad));
    assert_eq!((&found["valid"], &found["bad"]), (&Value::from(valid), &Value::from(bad)));
    close(number(&found["budget"]["events"]), 0.002 * valid as f64);
    close(number(&found["budget"]["consumed"]), bad as f64 / (0.002 * valid as f64));
    let causes = found["causes"].as_array().unwrap();
    let names: Vec<String> = causes.iter().map(|one| one["dimensions"].to_string()).collect();
    assert_eq!(names, ["{\"dependency\":\"db\"}", "{\"release\":\"r42\"}"], "{found:#}");
    let of_day = |service: &str, day: u32| -> Vec<&Raw> {
        let is_in = |one: &&Raw| one.service == service && (one.minute - START) / 1_440 == day;
        raw.iter().filter(is_in).collect()
    };
    let hour = |one: &Raw| one.minute / 60;
    let expect = [
        recount(&of_day("api", 1), &|one| one.dependency == "db", &hour),
        recount(&of_day("web", 3), &|one| one.release == "r42", &hour),
    ];
    let mut spent = 0.0;
    for (cause, (customers, minutes, bad, excess)) in causes.iter().zip(expect) {
        let keys = ["customers", "minutes", "bad"].map(|key| cause[key].as_u64().unwrap());
        assert_eq!(keys, [customers, minutes, bad], "{cause}");
        close(number(&cause["spent"]), excess);
        spent += excess;
    }
    close(number(&found["unexplained"]["spent"]), bad as f64 - spent);
    assert!(spent < bad as f64);

    // As text, by days, in any order of compaction, over HTTP.
    let text = session.run("risks --quarter 2026-Q4 --data d --config c.toml").ok();
    assert!(text.contains("dependency=db in api") && text.contains("unexplained"), "{text}");
    let at = |minute: u32| Minute(minute).to_string();
    let (from, to) = (at(START + 1_440 * 3 + 77), at(START + 1_440 * 3 + 78));
    let range = format!("risks --from {from} --to {to} --data d --config c.toml --json");
    let day = session.run(&range).json();
    let of_day: u64 =
        raw.iter().filter(|one| (one.minute - START) / 1_440 == 3).map(|one| one.bad).sum();
    assert_eq!((&day["bad"], day["causes"].as_array().unwrap().len()), (&Value::from(of_day), 1));
    session.run("compact --data d").ok_with_notes();
    assert_eq!(session.run(line).json()["causes"], found["causes"]);
    assert_eq!(session.run(line).json()["budget"], found["budget"]);
    let service = Service::start(&session, "serve --data d -c c.toml --listen 127.0.0.1:0");
    assert_eq!(service.json("/v1/risks?quarter=2026-Q4"), session.run(line).json());
    assert_eq!(service.json(&format!("/v1/risks?from={from}&to={to}")), session.run(&range).json());
    assert_eq!(service.get("/v1/risks?quarter=2026-5").status, 400);
    assert_eq!(service.get(&format!("/v1/risks?quarter=2026-Q4&from={from}")).status, 400);
    service.stop();
    session.run("risks --quarter 2026 --data d").fails(2, &["--quarter", "2026-Q4"]);
}

#[test]
fn the_minutes_of_an_incident_are_a_scope_of_their_own() {
    let raw = events();
    let session = session(&raw);
    let table = Table::open(&session.path("d/rollups")).unwrap().unwrap();
    let (slis, objectives, alerts) =
        (Slis::default(), Objectives::default(), AlertOptions::default());
    let promise = Promise {
        slis: &slis,
        objectives: &objectives,
        alerts: &alerts,
        credits: &[],
        zone: "UTC",
    };
    // It is over an hour before the dependency is well again, and goes over midnight.
    let (first, last) = (START + 1_440 - 30, START + 1_440 + 12 * 60 - 1);
    let incident = Incident {
        id: "i7".to_owned(),
        service: "api".to_owned(),
        notifies: "page".to_owned(),
        from: Minute(first).to_string(),
        closed_at: Some(Minute(last).to_string()),
        ..Incident::default()
    };
    let names = ["release", "cohort", "region", "route", "dependency"];
    let minutes = Minute(START)..=Minute(START + DAYS * 1_440 - 1);
    let of = |incidents: &[Incident]| -> Risks {
        risks(&table, &promise, &names, incidents, &minutes, None).unwrap()
    };
    let found = of(&[incident]);
    let is_ours = |one: &&Risk| one.dimensions.get("dependency").is_some_and(|of| of == "db");
    let db = found.causes.iter().find(is_ours).unwrap();
    assert_eq!(db.incidents, BTreeSet::from(["i7".to_owned()]));
    // By minute inside of it, on the day that has its failures, and by hour after it.
    let day = |one: &&Raw| one.service == "api" && (one.minute - START) / 1_440 == 1;
    let (inside, outside): (Vec<&Raw>, Vec<&Raw>) =
        raw.iter().filter(day).partition(|one| one.minute <= last);
    let is_db = |one: &Raw| one.dependency == "db";
    let after = recount(&outside, &is_db, &|one| one.minute / 60);
    let bad: u64 = inside.iter().filter(|one| is_db(one)).map(|one| one.bad).sum();
    assert_eq!(db.bad, bad + after.2);
    let whole = of(&[]);
    assert!(whole.causes.iter().all(|one| one.incidents.is_empty()));
    for one in [&found, &whole] {
        let spent: f64 = one.causes.iter().map(|cause| cause.spent).sum();
        close(spent + one.unexplained.spent, one.bad as f64);
        assert!(one.causes.iter().all(|cause| cause.spent <= cause.bad as f64));
    }
    assert_eq!(found.bad, whole.bad);
}

#[test]
fn days_of_chance_have_no_cause() {
    let mut raw = events();
    // What was planted comes in sixes.
    raw.iter_mut().for_each(|one| one.bad %= 6);
    let found = session(&raw).run("risks --quarter 2026-Q4 --data d --config c.toml --json").json();
    let bad: u64 = raw.iter().map(|one| one.bad).sum();
    assert_eq!(
        (&found["bad"], &found["causes"]),
        (&Value::from(bad), &Value::from(Vec::<u8>::new()))
    );
    close(number(&found["unexplained"]["share"]), 1.0);
}
