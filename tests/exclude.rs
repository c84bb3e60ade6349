//! What is excluded is excluded exactly: by a maintenance window as it is counted, or afterwards
//! by a correction, the table says what a recount of the lines says; nothing else changes.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;
#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;

use program::{assert_clean, assert_same, minutes, time};
use recount::{Counts, Key, Recount, Rules};
use service::Service;
use session::Session;

/// The first minute of the made-up lines: 2026-11-01T00:00:00Z.
const START: u32 = 29_891_520;

/// What is excluded here: 40 minutes of one service, for two customers.
const EXCLUDED: std::ops::Range<u32> = START + 10..START + 50;
const CUSTOMERS: [&str; 2] = ["c1", "c2"];

/// Lines of an hour and a half: some customers and services, failures, latencies.
fn lines(seed: u32) -> Vec<u8> {
    let line = |n: u32| {
        let ts = i64::from(START) * 60_000 + i64::from(n) * 900 + i64::from(seed) * 37;
        let (customer, service) = (n % 5, ["api", "inbox"][(n / 3 % 2) as usize]);
        let status = if (n + seed).is_multiple_of(7) { 503 } else { 200 };
        let latency = n % 2_000;
        format!(
            "{{\"ts\":{ts},\"customer\":\"c{customer}\",\"service\":\"{service}\",\
             \"status\":{status},\"latency_ms\":{latency},\"count\":{}}}\n",
            1 + n % 3
        )
    };
    (0..6_000).map(line).collect::<String>().into_bytes()
}

fn is_excluded((customer, service, minute): &Key) -> bool {
    EXCLUDED.contains(minute) && service == "api" && CUSTOMERS.contains(&customer.as_str())
}

/// The recount of some lines with what is excluded taken out by hand.
fn expected(parts: &[&[u8]]) -> BTreeMap<Key, Counts> {
    let mut all = Recount::of(&parts.concat(), Rules::default()).minutes;
    for (_, counts) in all.iter_mut().filter(|(key, _)| is_excluded(key)) {
        let excluded = counts.valid + counts.excluded;
        *counts = Counts { excluded, ..Counts::default() };
    }
    all
}

/// A latency SLI beside the default ones, and objectives on it.
const SLI: &str = "[[sli]]\nname = \"fast\"\nkind = \"latency\"\nthreshold_ms = 1000\n\
                   services = [\"api\"]\n[[objective]]\nname = \"availability\"\n\
                   [[objective]]\nname = \"fast\"\nsli = \"fast\"\n";

fn window() -> String {
    format!(
        "{SLI}[[maintenance]]\nreason = \"announced upgrade\"\nfrom = \"{}\"\nto = \"{}\"\n\
         customers = [\"c1\", \"c2\"]\nservices = [\"api\"]\n",
        time(EXCLUDED.start),
        time(EXCLUDED.end)
    )
}

fn exclude(session: &Session, more: &[&str]) -> session::Ended {
    let (from, to) = (time(EXCLUDED.start), time(EXCLUDED.end - 1));
    let scope = ["--customer", "c1", "--customer", "c2", "--service", "api"];
    let words = ["exclude", "--data", "d", "--from", &from, "--to", &to];
    let reason = ["--reason", "announced upgrade"];
    session.run_words(&[&words[..], &scope, &reason, more].concat())
}

/// Counts of the SLI `fast` by customer and service, as answered.
fn fast(session: &Session, customer: &str) -> String {
    let at = time(START + 89);
    let line = format!("sla --data d --config c.toml --at {at} --service api --json {customer}");
    let sla = session.run(&line).json();
    let objectives = sla["services"][0]["objectives"].as_array().expect("objectives").clone();
    objectives.iter().find(|one| one["objective"] == "fast").expect("it is there").to_string()
}

#[test]
fn a_window_and_a_correction_say_what_a_recount_says_and_the_same_as_each_other() {
    let (first, late) = (lines(0), lines(1));
    let expect = expected(&[&first, &late]);
    assert!(expect.values().any(|counts| counts.excluded > 0 && counts.valid == 0));

    let windowed = Session::new();
    windowed.write("c.toml", window().as_bytes());
    windowed.write("first.ndjson", &first);
    windowed.write("late.ndjson", &late);
    windowed.run("replay first.ndjson late.ndjson --data d --config c.toml").ok_with_notes();
    assert_same(&minutes(&windowed.path("d")), &expect, "a window");
    windowed.run("verify first.ndjson late.ndjson --data d --config c.toml").ok_with_notes();

    let corrected = Session::new();
    corrected.write("c.toml", SLI.as_bytes());
    corrected.write("first.ndjson", &first);
    corrected.write("late.ndjson", &late);
    corrected.run("replay first.ndjson --data d --config c.toml").ok_with_notes();
    let unchanged = Recount::of(&first, Rules::default()).minutes;
    let asked = exclude(&corrected, &[]);
    assert_eq!(asked.code, Some(2), "it does nothing without a yes: {asked}");
    assert_same(&minutes(&corrected.path("d")), &unchanged, "nothing was done");
    exclude(&corrected, &["--yes"]).ok();
    assert_same(&minutes(&corrected.path("d")), &expected(&[&first]), "a correction");
    // Late lines of these minutes are excluded, too.
    corrected.run("replay late.ndjson --data d --config c.toml").ok_with_notes();
    let data = corrected.path("d");
    assert_same(&minutes(&data), &expect, "late lines");
    corrected.run("verify first.ndjson late.ndjson --data d --config c.toml").ok_with_notes();
    assert_clean(&data, "a correction");
    corrected.run("compact --data d").ok_with_notes();
    assert_same(&minutes(&data), &expect, "compacted");
    assert_clean(&data, "compacted");

    for customer in ["c1", "c3"] {
        assert_eq!(fast(&windowed, customer), fast(&corrected, customer), "{customer}");
    }
    for session in [&windowed, &corrected] {
        let line = "report --data d --config c.toml --month 2026-11";
        let report = session.run(&format!("{line} --format json")).json();
        assert_eq!(report["exclusions"][0]["reason"], "announced upgrade");
        let of_one = |key: &str| report["customers"][1][key].as_u64().expect("a count");
        let sums = |pick: fn(&Counts) -> u64| -> u64 {
            expect.iter().filter(|(key, _)| key.0 == "c1").map(|(_, counts)| pick(counts)).sum()
        };
        assert_eq!(of_one("excluded"), sums(|counts| counts.excluded));
        assert_eq!((of_one("valid"), of_one("bad")), (sums(|c| c.valid), sums(|c| c.bad)));
        let other = session.run(&format!("{line} --customer c3 --format json")).json();
        assert!(other.get("exclusions").is_none(), "it is not about c3");
        let text = session.run(line).ok();
        assert!(text.contains("announced upgrade"), "{text}");
    }
}

#[test]
fn a_running_service_takes_a_correction_and_excludes_what_comes_late() {
    let (first, late) = (lines(0), lines(1));
    let session = Session::new();
    session.write("c.toml", format!("{SLI}[run]\ncommit_interval = \"200ms\"\n").as_bytes());
    session.write("a.ndjson", &first);
    let line = "run --data d --config c.toml --follow a.ndjson --listen 127.0.0.1:0";
    let mut service = Service::start(&session, line);
    let answer = |service: &Service| {
        let path = format!("/v1/customers/c1?service=api&at={}", time(START + 89));
        let answer = service.get(&path);
        (answer.status == 200).then(|| {
            let objective = answer.json()["services"][0]["objectives"][0].clone();
            ["valid", "bad", "excluded"].map(|key| objective[key].as_u64().unwrap_or(u64::MAX))
        })
    };
    let sum = |minutes: &BTreeMap<Key, Counts>| {
        let own = minutes
            .iter()
            .filter(|((customer, service, _), _)| customer == "c1" && service == "api");
        own.fold([0; 3], |[valid, bad, excluded], (_, counts)| {
            [valid + counts.valid, bad + counts.bad, excluded + counts.excluded]
        })
    };
    let whole = sum(&Recount::of(&first, Rules::default()).minutes);
    service.until("the lines", |service| answer(service).filter(|found| *found == whole));
    service.until("their commit", |service| {
        (service.json("/healthz")["uncommitted_lines"] == 0).then_some(())
    });
    exclude(&session, &["--yes"]).ok();
    let expect = sum(&expected(&[&first]));
    service.until("the correction", |service| answer(service).filter(|found| *found == expect));
    let mut file = OpenOptions::new().append(true).open(session.path("a.ndjson")).unwrap();
    file.write_all(&late).unwrap();
    let expect = expected(&[&first, &late]);
    let sums = sum(&expect);
    service.until("late lines", |service| answer(service).filter(|found| *found == sums));
    service.stop().ok_with_notes();
    assert_same(&minutes(&session.path("d")), &expect, "live = table = recount");
    assert_clean(&session.path("d"), "live");
}

#[test]
fn an_exclusion_that_is_undone_is_as_if_it_had_not_been() {
    let (first, late) = (lines(0), lines(1));
    let session = Session::new();
    session.write("c.toml", format!("{SLI}[run]\ncommit_interval = \"200ms\"\n").as_bytes());
    session.write("a.ndjson", &first);
    session.run("replay a.ndjson --data d --config c.toml").ok_with_notes();
    let data = session.path("d");
    let unchanged = Recount::of(&first, Rules::default()).minutes;
    exclude(&session, &["--yes"]).ok();
    // The same once more: undoing one of two changes nothing yet.
    exclude(&session, &["--yes"]).ok();
    let list = || session.run("exclude --data d --list").ok();
    let excluded = |list: &str| -> Vec<String> {
        let lines = list.lines().filter(|line| line.contains(" excluded "));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let ids = excluded(&list());
    assert_eq!(ids.len(), 2, "{}", list());
    let undo = |id: &str, more: &[&str]| {
        let words = ["exclude", "--data", "d", "--undo", id, "--reason", "the wrong night"];
        session.run_words(&[&words[..], more].concat())
    };
    undo("nothing", &["--yes"]).fails(2, &["unknown exclusion \"nothing\"", "--list"]);
    undo(&ids[0], &[]).fails(2, &["would be undone", "--yes"]);
    undo(&ids[0], &["--yes"]).ok();
    undo(&ids[0], &["--yes"]).fails(2, &["was undone already"]);
    assert_same(&minutes(&data), &expected(&[&first]), "one of two is undone");
    assert_eq!(excluded(&list()), ids[1..]);
    assert!(list().contains(&format!("undoes {}", ids[0])) && list().contains("the wrong night"));

    // A running service takes the other one back, and counts what comes late.
    let line = "run --data d --config c.toml --follow a.ndjson --listen 127.0.0.1:0";
    let mut service = Service::start(&session, line);
    let valid = |service: &Service| {
        let path = format!("/v1/customers/c1?service=api&at={}", time(START + 89));
        let answer = service.get(&path);
        let counted = || answer.json()["services"][0]["objectives"][0]["valid"].as_u64();
        (answer.status == 200).then(counted).flatten()
    };
    let sum = |minutes: &BTreeMap<Key, Counts>| -> u64 {
        let own = minutes.iter().filter(|(key, _)| key.0 == "c1" && key.1 == "api");
        own.map(|(_, counts)| counts.valid).sum()
    };
    let partly = sum(&expected(&[&first]));
    service.until("memory", |service| valid(service).filter(|found| *found == partly));
    undo(&ids[1], &["--yes"]).ok();
    let whole = sum(&unchanged);
    service.until("the undoing", |service| valid(service).filter(|found| *found == whole));
    let mut file = OpenOptions::new().append(true).open(session.path("a.ndjson")).unwrap();
    file.write_all(&late).unwrap();
    let all = Recount::of(&[first.clone(), late].concat(), Rules::default()).minutes;
    let both = sum(&all);
    service.until("late lines", |service| valid(service).filter(|found| *found == both));
    service.stop().ok_with_notes();
    assert_same(&minutes(&data), &all, "live = table = recount");
    session.run("verify a.ndjson --data d --config c.toml").ok_with_notes();
    assert_clean(&data, "undone");
    let report = session.run("report --data d --config c.toml --month 2026-11 --format json");
    assert!(report.json().get("exclusions").is_none(), "nothing is excluded any more");
}
