//! The running service tells receivers of a bad release: under one key, also when the store takes
//! nothing more and when it is killed.

#[path = "common/receiver.rs"]
mod receiver;
#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use ninefold_engine::pipeline::verdicts::stored_verdicts;
use ninefold_engine::table::{Filter, Table};
use receiver::{Receiver, Request};
use serde_json::{Value, json};
use service::Service;
use session::Session;

const RUN: &str = "run --data d --config c.toml --follow a.ndjson --listen 127.0.0.1:0";

/// Verdicts are about now, so that the lines have to be.
#[expect(clippy::disallowed_methods, reason = "the program under test goes by the wall clock")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Twenty minutes of forty customers; in the last three a fifth of them is served by `r42`, and a
/// fifth of what that serves fails.
fn roll_out() -> String {
    let (mut text, now_ms) = (String::new(), now_ms());
    for back in (0..20_i64).rev() {
        let ts = now_ms - back * 60_000;
        for customer in 0..40 {
            let is_new = back < 3 && customer < 8;
            let release = if is_new { "r42" } else { "r41" };
            let bad = if is_new { 75 } else { i64::from((customer + back) % 4 == 0) };
            for (status, count) in [(200, 375 - bad), (503, bad)] {
                if count > 0 {
                    let event = json!({
                        "ts": ts, "customer": format!("c{customer}"), "service": "api",
                        "status": status, "release": release, "count": count,
                    });
                    writeln!(text, "{event}").expect("a text takes all");
                }
            }
        }
    }
    text
}

fn config(hook: &Receiver, pager: &Receiver) -> String {
    let allow = "allow = [\"127.0.0.1/32\"]";
    format!(
        "[run]\ncommit_interval = \"200ms\"\n\
         [[notify]]\nname = \"roll-back\"\nkind = \"webhook\"\neach = \"verdict\"\n\
         url = \"http://{hook}/\"\n{allow}\n\
         template = '{{\"service\": {{{{ verdict.service }}}}, \"release\": {{{{ verdict.value }}}}, \
         \"fingerprint\": {{{{ fingerprint }}}}, \"id\": {{{{ id }}}}, \"state\": {{{{ state }}}}, \
         \"uncommitted\": {{{{ uncommitted }}}}}}'\n\
         [[notify]]\nname = \"pager\"\nkind = \"pagerduty\"\neach = \"all\"\n\
         url = \"http://{pager}/v2/enqueue\"\n{allow}\nsecret = {{ env = \"NINEFOLD_TEST_SECRET\" }}\n\
         [[notify]]\nname = \"script\"\nkind = \"command\"\n\
         command = [\"sh\", \"-c\", \"cat >> told.txt; echo >> told.txt\"]\n\
         [[route]]\nreceivers = [\"roll-back\"]\nservices = [\"api\"]\ntiers = [\"verdict\"]\n\
         severities = [\"ticket\"]\ncontinue = true\n\
         [[route]]\nreceivers = [\"script\", \"pager\"]\n",
        hook = hook.address,
        pager = pager.address
    )
}

/// Identity of what a hook was told, and whether that was committed.
fn told(request: &Request) -> ([String; 5], bool) {
    let body = request.json();
    let text = |key: &str| body[key].as_str().expect("a text").to_owned();
    let identity = ["service", "release", "fingerprint", "id", "state"].map(text);
    (identity, body["uncommitted"] == false)
}

#[test]
fn a_bad_release_is_told_to_all_though_the_store_is_stuck_and_under_one_key_after_a_kill() {
    let (hook, pager) = (Receiver::taking(), Receiver::taking());
    let session = Session::new();
    session.write("c.toml", config(&hook, &pager).as_bytes());
    session.write("a.ndjson", b"");
    let secret = [("NINEFOLD_TEST_SECRET", "k-7")];
    Service::start_with(&session, RUN, &secret).stop().ok_with_notes();
    // Where the rows of verdicts belong is a file: their commit fails, the others do not.
    let place = session.write("d/rollups/grain=verdict", b"");
    session.write("a.ndjson", roll_out().as_bytes());
    let mut service = Service::start_with(&session, RUN, &secret);
    service.until("the verdict", |_| hook.requests().first().map(drop));
    let (identity, is_committed) = told(&hook.requests()[0]);
    assert_eq!([&*identity[0], &*identity[1], &*identity[4]], ["api", "r42", "firing"]);
    assert!(!is_committed, "nothing takes it");
    let health = service.json("/healthz");
    assert!(health["notes"].to_string().contains("no commit for"), "{health}");
    service.kill();

    std::fs::remove_file(place).expect("it is ours");
    let mut service = Service::start_with(&session, RUN, &secret);
    service.until("the verdict as committed", |_| {
        hook.requests().iter().any(|request| told(request).1).then_some(())
    });
    let script = || std::fs::read_to_string(session.path("told.txt")).unwrap_or_default();
    let verdicts = || -> Vec<Value> {
        let lines = script();
        let bodies = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        bodies.filter(|body| body["subject"] == "verdict" && body["uncommitted"] == false).collect()
    };
    let body = service.until("the script", |_| verdicts().pop());
    assert_eq!(body["verdict"]["verdict"], "bad");
    assert_eq!(body["notices"].as_array().map(Vec::len), Some(1), "it goes alone: {body:#}");
    let is_verdict = |request: &Request| request.json()["dedup_key"] == *identity[2];
    service.until("the pager", |_| pager.requests().iter().any(is_verdict).then_some(()));
    // What was told is noted before it is asked again.
    service.until("its rows", |_| {
        let table = Table::open(&session.path("d/rollups")).expect("it is well")?;
        let mut sent = BTreeSet::new();
        let note = |row: ninefold_engine::table::read::AlertRow<'_>| {
            if row.fingerprint == identity[2] {
                let text: Value = serde_json::from_str(row.alert).expect("JSON");
                sent.insert(text["receiver"].to_string());
            }
        };
        table.for_each_sent(&Filter::default(), note).expect("it is well");
        (sent.len() == 3).then_some(())
    });
    service.kill();

    let before = hook.requests().len();
    let mut service = Service::start_with(&session, RUN, &secret);
    let more = json!({ "ts": now_ms(), "customer": "c9", "service": "api", "status": 200 });
    let mut lines = std::fs::read_to_string(session.path("a.ndjson")).expect("it is there");
    writeln!(lines, "{more}").expect("a text takes all");
    session.write("a.ndjson", lines.as_bytes());
    service.until_read(1);
    service.until("its commit", |service| {
        (service.json("/healthz")["uncommitted_lines"] == 0).then_some(())
    });
    let table = Table::open(&session.path("d/rollups")).expect("it is well").expect("it is there");
    let stored = stored_verdicts(&table, &Filter::default()).expect("it is well");
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(
        (&stored[0].judgement.id, &stored[0].judgement.fingerprint),
        (&identity[3], &identity[2])
    );
    service.stop().ok_with_notes();
    assert_eq!(hook.requests().len(), before, "a restart repeats nothing");
    let all: BTreeSet<[String; 5]> = hook.requests().iter().map(|one| told(one).0).collect();
    assert_eq!(all, BTreeSet::from([identity]));
}
