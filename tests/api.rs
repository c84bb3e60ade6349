//! `ninefold serve` and `ninefold run` as processes, over HTTP: every route answers what the
//! command of the same question prints with `--json`.

#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use serde_json::Value;
use service::Service;
use session::{Session, events};

const SERVE: &str = "serve --data d --listen 127.0.0.1:0";

#[test]
fn routes_answer_what_commands_print() {
    let session = Session::with_table();
    let service = Service::start(&session, SERVE);
    let check = |path: &str, line: &str| {
        assert_eq!(service.json(path), session.run(line).json(), "{path} and {line}");
    };
    let at = "2025-10-15T12:33:00Z";
    check("/v1/customers/globex", "sla globex --data d --json");
    check(
        &format!("/v1/customers/acme?service=mail&at={at}"),
        &format!("sla acme --service mail --at {at} --data d --json"),
    );
    check("/v1/customers/%3D1%2B1", "sla =1+1 --data d --json");
    for by in ["burn", "budget", "bad", "valid"] {
        check(
            &format!("/v1/customers?sort={by}&limit=3&at={at}"),
            &format!("top --by {by} --limit 3 --at {at} --data d --json"),
        );
    }
    check("/v1/alerts?basis=settled", "alerts --data d --json");
    check("/v1/alerts?basis=live", "alerts --basis live --data d --json");
    check(
        &format!("/v1/alerts?basis=settled&from={at}&to=2025-10-15T13:00:00Z"),
        &format!("alerts --from {at} --to 2025-10-15T13:00:00Z --data d --json"),
    );
    check(
        &format!("/v1/impact?from=2025-10-15T12:30:00Z&to={at}"),
        &format!("impact --from 2025-10-15T12:30:00Z --to {at} --data d --json"),
    );
    check(
        &format!("/v1/attributes/cohort/canary/verdict?to={at}"),
        &format!("verdict canary --by cohort --to {at} --data d --json"),
    );
    check("/v1/reports/2025-10", "report --month 2025-10 --format json --data d");
    check(
        "/v1/reports/2025-10?tz=Asia/Tokyo&customer=initech",
        "report --month 2025-10 --tz Asia/Tokyo --customer initech --format json --data d",
    );
    check(
        "/v1/customers/initech/sla?month=2025-10",
        "report --month 2025-10 --customer initech --format json --data d",
    );
    let hostile = ["sla", "two\nlines, \"quoted\"", "--data", "d", "--json"];
    let path = "/v1/customers/two%0Alines%2C%20%22quoted%22";
    assert_eq!(service.json(path), session.run_words(&hostile).json());
    let ended = service.stop();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended}");
}

#[test]
fn routes_without_a_command_agree_with_those_that_have_one() {
    let session = Session::with_table();
    let service = Service::start(&session, SERVE);
    let series = service
        .json("/v1/customers/globex/timeseries?from=2025-10-01T00:00:00Z&to=2025-10-31T23:59:00Z");
    let sla = service.json("/v1/customers/globex");
    let (status, step) = (&sla["services"][0]["objectives"][0], &series["steps"]);
    for key in ["valid", "bad", "excluded"] {
        let sum: u64 = step.as_array().unwrap().iter().map(|step| number(step, key)).sum();
        assert_eq!(sum, number(status, key), "{key} in {series}");
    }
    let objectives = service.json("/v1/objectives");
    assert!(objectives.to_string().contains("0.998"), "{objectives}");
    assert_eq!(service.json("/v1/burn")["as_of"], sla["as_of"]);
    assert_eq!(service.json("/v1/fleet")["as_of"], sla["as_of"]);
    let document = service.json("/openapi.json");
    let paths = document["paths"].as_object().unwrap().iter();
    for (path, _) in paths.filter(|(_, operations)| operations.get("get").is_some()) {
        let path = path.replace("{customer}", "acme").replace("{month}", "2025-10");
        // Silences are kept by a running service alone.
        if !path.contains('{') && !["/v1/stream", "/v1/silences"].contains(&&*path) {
            let status = service.get(&path).status;
            assert!(status == 200 || status == 400, "{path}: {status}");
        }
    }
}

#[test]
fn problems_are_told_by_their_details() {
    let session = Session::with_table();
    let service = Service::start(&session, SERVE);
    let check = |path: &str, status: u16, parts: &[&str]| {
        let answer = service.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.content_type, "application/problem+json", "{path}");
        let problem = answer.json();
        assert_eq!(problem["status"], Value::from(status), "{problem}");
        for part in parts {
            assert!(problem.to_string().contains(part), "{part:?} in {problem}");
        }
    };
    check("/v1/customers/nobody", 404, &["nobody"]);
    check("/v1/customers/acme?at=yesterday", 400, &["\"field\":\"at\"", "2026-11-01T00:00:00Z"]);
    check("/v1/customers?sort=name", 400, &["\"field\":\"sort\"", "burn"]);
    check("/v1/customers?limit=0", 400, &["\"field\":\"limit\""]);
    check("/v1/customers?cursor=x", 400, &["\"field\":\"cursor\""]);
    check("/v1/reports/2025-13", 400, &["\"field\":\"month\""]);
    check("/v1/reports/2025-10?tz=Mars/Base", 400, &["\"field\":\"tz\""]);
    check("/v1/impact?from=2025-10-15T12:30:00Z", 400, &["\"field\":\"to\""]);
    check("/v1/alerts?form=x", 400, &["\"field\":\"form\""]);
    check("/v1/nothing", 404, &["/docs"]);
    assert_eq!(service.post("/v1/alerts").status, 405);
}

#[test]
fn health_and_metrics_can_be_scraped() {
    let session = Session::with_table();
    let service = Service::start(&session, SERVE);
    assert_eq!(service.json("/healthz")["ready"], true);
    assert_eq!(service.json("/readyz")["ready"], true);
    let metrics = service.get("/metrics");
    assert_eq!(metrics.status, 200);
    let mut samples = 0;
    for line in metrics.body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let kind = comment.split(' ').next();
            assert!(matches!(kind, Some("HELP" | "TYPE" | "UNIT" | "EOF")), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().unwrap();
        let known = ["ninefold_", "slo:", "sloth_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(known, "{line}");
        samples += 1;
    }
    assert!(samples > 10, "{}", metrics.body);
    assert!(metrics.body.contains("globex"), "the largest customers are listed");
}

#[test]
fn a_stream_begins_at_once_and_does_not_keep_the_service_from_ending() {
    let session = Session::with_table();
    let service = Service::start(&session, SERVE);
    let mut stream = service.lines("/v1/stream");
    let data = stream.find_map(|line| line.strip_prefix("data:").map(str::to_owned));
    let fleet: Value = serde_json::from_str(&data.expect("an event")).expect("JSON");
    assert_eq!(fleet["as_of"], service.json("/v1/fleet")["as_of"]);
    assert_eq!(service.stop().code, Some(0));
    assert!(stream.count() < 100, "the stream has ended");
}

#[test]
fn a_table_that_grows_is_answered_as_it_is() {
    let session = Session::with_table();
    let service = Service::start(&session, SERVE);
    let valid = |service: &Service| {
        let sla = service.json("/v1/customers/acme?service=web");
        number(&sla["services"][0]["objectives"][0], "valid")
    };
    let before = valid(&service);
    let line = r#"{"ts":"2025-10-16T20:00:00Z","customer":"acme","service":"web","status":200}"#;
    session.write("more.ndjson", format!("{line}\n").as_bytes());
    session.run("replay more.ndjson --data d").ok();
    assert_eq!(valid(&service), before + 1);
}

#[test]
fn a_running_service_answers_what_its_table_will_say() {
    let session = Session::with_events();
    session.write("run.toml", b"[run]\ncommit_interval = \"100ms\"\n");
    let line = "run hand-made.ndjson --follow --data d -c run.toml --listen 127.0.0.1:0";
    let mut service = Service::start(&session, line);
    let story = String::from_utf8(events("hand-made.ndjson")).unwrap();
    let lines = story.lines().filter(|line| !line.is_empty()).count() as u64;
    service.until_read(lines);
    let at = "2025-10-15T12:33:00Z";
    let asked = [
        (format!("/v1/customers/globex?at={at}"), format!("sla globex --at {at} --json")),
        (
            format!("/v1/customers?sort=bad&at={at}"),
            format!("top --by bad --at {at} --limit 50 --json"),
        ),
        ("/v1/alerts?basis=settled".to_owned(), "alerts --json".to_owned()),
        (
            format!("/v1/impact?from=2025-10-15T12:30:00Z&to={at}"),
            format!("impact --from 2025-10-15T12:30:00Z --to {at} --json"),
        ),
        ("/v1/reports/2025-10".to_owned(), "report --month 2025-10 --format json".to_owned()),
    ];
    // Older latencies are answered from the table, so they have to be there.
    service.until("a commit", |service| {
        let health = service.json("/healthz");
        (health["commits"].as_u64() > Some(0) && health["uncommitted_age_ms"] == 0).then_some(())
    });
    let live: Vec<Value> = asked.iter().map(|(path, _)| service.json(path)).collect();
    assert_eq!(service.json("/readyz")["ready"], true);
    let ended = service.stop();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended}");
    for ((path, line), live) in asked.iter().zip(live) {
        let table = session.run(&format!("{line} --data d")).json();
        assert_eq!(timeless(live), timeless(table), "{path}");
    }
}

/// A body without what depends on when it was asked for.
fn timeless(mut body: Value) -> Value {
    let object = body.as_object_mut().expect("a body is an object");
    object.remove("as_of");
    object.remove("revision");
    body
}

fn number(body: &Value, key: &str) -> u64 {
    body[key].as_u64().unwrap_or_else(|| panic!("{key} in {body}"))
}
