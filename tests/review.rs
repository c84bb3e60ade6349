//! A review of a real incident: a service that runs, fails, pages and recovers; then every figure
//! of `ninefold review` against a recount of the lines, open and closed.

#[path = "common/receiver.rs"]
mod receiver;
#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use ninefold_engine::time::parse_rfc3339;
use receiver::Receiver;
use serde_json::Value;
use service::Service;
use session::Session;

/// Customers who fail, of twice as many.
const FAILING: usize = 12;

/// The wall clock in epoch milliseconds: alerts are judged by it.
#[expect(clippy::disallowed_methods, reason = "events of a running service are of now")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Requests of one customer and release.
#[derive(Clone, Copy)]
struct Raw {
    ts_ms: i64,
    customer: usize,
    release: &'static str,
    bad: bool,
    count: u64,
}

/// A name with markup in it.
fn name(customer: usize) -> String {
    format!("c{customer} *|*")
}

/// What was written so far, line by line.
#[derive(Default)]
struct Log(Vec<Raw>);

impl Log {
    fn append(&mut self, session: &Session, more: Vec<Raw>) {
        let path = session.path("events.ndjson");
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        let line = |raw: &Raw| {
            let (name, status) = (name(raw.customer), if raw.bad { 503 } else { 200 });
            format!(
                "{{\"ts\":{},\"customer\":\"{name}\",\"service\":\"api\",\"release\":\"{}\",\
                 \"status\":{status},\"count\":{}}}\n",
                raw.ts_ms, raw.release, raw.count
            )
        };
        file.write_all(more.iter().map(line).collect::<String>().as_bytes()).unwrap();
        self.0.extend(more);
    }

    /// Holds a review against the lines.
    fn check(&self, review: &Value) {
        let minute = |key: &str| ms(&review[key]) / 60_000;
        let (from, to) = (minute("from"), minute("to"));
        let is_in = |raw: &&Raw| (from..=to).contains(&(raw.ts_ms / 60_000));
        let customers = review["customers"].as_array().unwrap();
        let named: BTreeSet<&str> =
            customers.iter().map(|one| one["customer"].as_str().unwrap()).collect();
        assert_eq!(
            named,
            (0..FAILING).map(name).collect::<Vec<_>>().iter().map(|n| &**n).collect()
        );
        let count = |raw: &mut dyn Iterator<Item = &Raw>| raw.map(|one| one.count).sum::<u64>();
        let (mut budget, mut all_bad) = (0.0, 0);
        for one in customers {
            let own = || self.0.iter().filter(|raw| one["customer"] == name(raw.customer).as_str());
            let bad = || own().filter(is_in).filter(|raw| raw.bad);
            let minutes: BTreeSet<i64> = bad().map(|raw| raw.ts_ms / 60_000).collect();
            let expect = [count(&mut own().filter(is_in)), count(&mut bad()), minutes.len() as u64];
            let found = ["valid", "bad", "bad_minutes"].map(|key| one[key].as_u64().unwrap());
            assert_eq!(found, expect, "{one}");
            let until = own().filter(|raw| raw.ts_ms / 60_000 <= to);
            let period: Vec<&Raw> = until.collect();
            let allowed = 0.002 * count(&mut period.iter().copied()) as f64;
            close(&one["budget_lost"], expect[1] as f64 / allowed);
            let spent = count(&mut period.iter().copied().filter(|raw| raw.bad)) as f64;
            let outcome = one["objectives"][0]["outcome"].as_str().unwrap();
            assert_eq!(outcome == "broken", spent > allowed, "{one}");
            budget += allowed;
            all_bad += expect[1];
        }
        assert_eq!(review["bad"], all_bad);
        close(&review["budget_events"], budget);
        close(&review["budget_lost"], all_bad as f64 / budget);
        // Causes take what has their values, and the rest is named.
        let mut parts: BTreeMap<&str, u64> = BTreeMap::new();
        for raw in self.0.iter().filter(is_in).filter(|raw| raw.bad && raw.customer < FAILING) {
            let part = if raw.release == "r42" { "r42" } else { "" };
            *parts.entry(part).or_default() += raw.count;
        }
        let told = review["budget_by_cause"].as_array().unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        for part in told {
            let release = part["dimensions"]["release"].as_str().unwrap_or_default();
            assert_eq!(part["bad"], *parts.get(release).unwrap_or(&0), "{part}");
        }
        let others =
            || self.0.iter().filter(is_in).filter(|raw| raw.bad && raw.customer >= FAILING);
        let hit: BTreeSet<usize> = others().map(|raw| raw.customer).collect();
        assert_eq!(review["others_hit"], hit.len());
        assert_eq!(review["others_bad"], count(&mut others()));
    }
}

fn close(found: &Value, expect: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expect).abs() <= 1e-9 * (1.0 + expect.abs()), "{found} {expect}");
}

fn ms(at: &Value) -> i64 {
    parse_rfc3339(at.as_str().unwrap_or_else(|| panic!("{at} is no time")).as_bytes()).unwrap()
}

#[test]
fn a_review_says_what_a_recount_says_while_it_is_open_and_afterwards() {
    let (session, pager) = (Session::new(), Receiver::taking());
    let config = format!(
        "[run]\ncommit_interval = \"200ms\"\n[[notify]]\nname = \"ops|pager\"\nkind = \"webhook\"\n\
         url = \"http://{}/\"\nallow = [\"127.0.0.1/32\"]\n",
        pager.address
    );
    session.write("c.toml", config.as_bytes());
    let mut log = Log::default();
    let raw = |ago_s: i64, customer, release, bad, count| Raw {
        ts_ms: now_ms() - ago_s * 1_000,
        customer,
        release,
        bad,
        count,
    };
    // Hours of good requests by two releases; a little of one customer's is bad by chance.
    let history = (1..40).flat_map(|step| {
        (0..2 * FAILING).map(move |customer| {
            let release = if (customer + step) % 2 == 0 { "r41" } else { "r42" };
            raw(400 + step as i64 * 240, customer, release, false, 20)
        })
    });
    log.append(&session, history.collect());
    let line = "run --data d --config c.toml --follow events.ndjson --listen 127.0.0.1:0";
    let mut service = Service::start(&session, line);
    let failing = (0..FAILING).map(|customer| raw(0, customer, "r42", true, 6));
    let around = (0..2 * FAILING).map(|customer| raw(0, customer, "r41", false, 30));
    let outside = [raw(0, 2 * FAILING - 1, "r41", true, 1), raw(0, 0, "r41", true, 1)];
    log.append(&session, failing.chain(around).chain(outside).collect());
    let pages = |service: &Service| {
        let incidents = service.json("/v1/incidents")["incidents"].clone();
        let incident = incidents.as_array().unwrap().first().cloned();
        incident.filter(|one| one["customers"] == FAILING && one["notifies"] == "page")
    };
    let incident = service.until("the page", pages);
    service.until("the pager", |_| (!pager.notices().is_empty()).then_some(()));
    let id = incident["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/incidents/{id}/review");
    // Late ones: the first bad minute is one before any that the judge has seen.
    log.append(&session, vec![raw(120, 3, "r42", true, 4), raw(120, 20, "r41", false, 9)]);
    let recounted: u64 =
        log.0.iter().filter(|one| one.bad && one.customer < FAILING).map(|one| one.count).sum();
    let open = service.until("everything in the table, and who was told", |service| {
        let review = service.json(&path);
        let is_whole = review["bad"] == recounted && !review["paged_at"].is_null();
        is_whole.then_some(review)
    });
    log.check(&open);
    assert_eq!((&open["state"], &open["time_to_resolve_s"]), (&Value::from("open"), &Value::Null));
    assert_eq!(open["causes"][0]["dimensions"]["release"], "r42", "{open}");
    assert!(ms(&open["from"]) < ms(&incident["from"]), "late events are in it: {open}");
    let broken = open["objectives_broken"].as_u64().unwrap();
    assert_eq!(broken, FAILING as u64, "{open}");

    let good = (0..2 * FAILING).map(|customer| raw(0, customer, "r41", false, 1_000_000));
    log.append(&session, good.collect());
    service.until("the end", |service| (service.json(&path)["state"] == "closed").then_some(()));
    service.until("the word of the end", |_| {
        pager.notices().iter().any(|notice| notice[2] == "resolved").then_some(())
    });
    let lines = log.0.len() as u64;
    service.until_read(lines);
    service.stop();
    let line = format!("review {id} --data d --config c.toml");
    let closed = session.run(&format!("{line} --json")).json();
    log.check(&closed);
    let seconds = |key: &str| closed[key].as_f64().unwrap_or_else(|| panic!("{key}: {closed}"));
    let resolved = (ms(&closed["closed_at"]) - ms(&closed["from"])) as f64 / 1e3;
    assert!((seconds("time_to_resolve_s") - resolved).abs() < 1e-9);
    let order = ["time_to_detect_s", "time_to_page_s", "time_to_resolve_s"].map(seconds);
    assert!(0.0 <= order[0] && order.is_sorted(), "{order:?}");
    let events = closed["timeline"].as_array().unwrap();
    for event in ["first_bad", "detected", "opened", "page", "told", "last_bad", "closed"] {
        assert!(events.iter().any(|one| one["event"] == event), "{event}: {events:#?}");
    }
    assert!(events.is_sorted_by_key(|one| ms(&one["at"])), "{events:#?}");
    let ended = |one: &&Value| one["detail"].as_str().unwrap().ends_with("resolved");
    assert!(events.iter().any(|one| ended(&one)), "the table knows who was told: {events:#?}");

    // The same as Markdown, where no name is markup, and over HTTP.
    let text = session.run(&line).ok();
    assert!(text.contains("ops\\|pager") && text.contains("c0 \\*\\|\\*"), "{text}");
    assert!(text.contains("release=r42"), "{text}");
    assert_eq!(session.run(&format!("{line} --format json")).json(), closed);
    let service = Service::start(&session, "serve --data d -c c.toml --listen 127.0.0.1:0");
    assert_eq!(service.json(&path), closed);
    let markdown = service.get(&format!("{path}?format=md"));
    assert_eq!((markdown.status, markdown.body), (200, text));
    service.stop();
    session.run("review nothing --data d").fails(1, &["unknown incident \"nothing\""]);
}
