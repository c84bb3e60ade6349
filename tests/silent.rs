//! Pools and silence in the running program: what is listed, what alerts, and that no data is
//! never shown as up.

#[path = "common/receiver.rs"]
mod receiver;
#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::time::{SystemTime, UNIX_EPOCH};

use receiver::{Receiver, Request};
use serde_json::{Value, json};
use service::Service;
use session::Session;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 1_440 * MINUTE_MS;

/// Alerts are about now, so that the lines have to be.
#[expect(clippy::disallowed_methods, reason = "the program under test goes by the wall clock")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn line(ts: i64, customer: &str, status: u16, count: u32) -> String {
    let event = json!({
        "ts": ts, "customer": customer, "service": "api", "status": status, "count": count,
    });
    format!("{event}\n")
}

/// Twenty customers around this hour of three weeks, of whom six send nothing for the last half
/// hour; nine of ten requests of three tiny ones fail.
fn traffic(now: i64) -> String {
    let mut text = String::new();
    for week in (0..3).rev() {
        for ago in (0..520).rev() {
            let ts = now - week * 7 * DAY_MS - (ago - if week > 0 { 90 } else { 0 }) * MINUTE_MS;
            for customer in 0..20 {
                if week > 0 || customer >= 6 || ago >= 30 {
                    text += &line(ts, &format!("c{customer:02}"), 200, 10);
                }
            }
        }
    }
    for tiny in ["tiny-1", "tiny-2", "tiny-3"] {
        text += &line(now - MINUTE_MS, tiny, 503, 2);
        text += &line(now, tiny, 200, 1);
    }
    text
}

const CONFIG: &str = "[run]\ncommit_interval = \"200ms\"\n[alerts]\nsilence_after = \"0m\"\n\
                      [tier.gold]\ncustomers = [\"c00\", \"c01\"]\n";
const TINY: &str = "[[pool]]\nname = \"tiny\"\ncustomers = [\"tiny-*\"]\n";

fn session(config: &str) -> Session {
    let session = Session::new();
    session.write("c.toml", format!("{CONFIG}{config}").as_bytes());
    session.write("a.ndjson", traffic(now_ms()).as_bytes());
    session
}

fn rows<'a>(pools: &'a Value, pool: &str, tier: &str) -> Vec<&'a Value> {
    let rows = pools["pools"].as_array().expect("a list").iter();
    rows.filter(|row| row["pool"] == pool && row["tier"] == tier).collect()
}

#[test]
fn silence_and_a_pool_are_listed_alert_and_reach_a_receiver() {
    let inbox = Receiver::taking();
    let session = session(&format!(
        "{TINY}[[notify]]\nname = \"inbox\"\nkind = \"webhook\"\neach = \"all\"\n\
         url = \"http://{}/\"\nallow = [\"127.0.0.1/32\"]\n",
        inbox.address
    ));
    let run = "run --data d --config c.toml --follow a.ndjson --listen 127.0.0.1:0";
    let mut service = Service::start(&session, run);
    let told = |what: &dyn Fn(&Value) -> bool| {
        let requests = inbox.requests();
        let notices = requests.iter().map(Request::json);
        let notices = notices.flat_map(|one| one["notices"].as_array().expect("a list").clone());
        notices.into_iter().find(|one| what(one))
    };
    let silence = service.until("the silence", |_| told(&|one| one["alert"]["tier"] == "silence"));
    assert_eq!(
        silence["summary"],
        "api: silence firing: 6 of 20 customers fell silent together in 2h"
    );
    assert_eq!(
        (&silence["alert"]["long"]["valid"], &silence["severity"]),
        (&json!(20), &json!("page"))
    );
    // It is a part of the incident that the pool has opened, which has one page.
    let incident = service.until("the incident", |service| {
        let incidents = service.json("/v1/incidents")["incidents"].clone();
        let one = incidents.as_array().expect("a list").first().cloned();
        one.filter(|one| one["silence"].is_object() && one["pools"].is_array())
    });
    assert_eq!(
        (&incident["silence"]["customers"], &incident["pools"]),
        (&json!(6), &json!(["tiny"]))
    );
    assert_eq!((&incident["customers"], &incident["notifies"]), (&json!(3), &json!("page")));
    let pool = service.until("the pool", |_| {
        told(&|one| one["alert"]["pool"] == "tiny" && one["alert"]["tier"] == "rollout_5m")
    });
    let summary = pool["summary"].as_str().expect("a text");
    assert!(
        summary.starts_with("pool tiny / api: availability firing (rollout_5m): 6 of 9"),
        "{summary}"
    );

    let listed = service.json("/v1/silent");
    let names: Vec<&str> = listed["customers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["customer"].as_str().expect("a text"))
        .collect();
    assert_eq!(names, ["c00", "c01", "c02", "c03", "c04", "c05"]);
    let of_service = &listed["services"][0];
    assert_eq!((&of_service["together"], &of_service["are_many"]), (&json!(6), &json!(true)));
    let pools = service.json("/v1/pools");
    let fast = rows(&pools, "tiny", "rollout_5m")[0];
    assert_eq!((&fast["state"], &fast["long"]["bad"]), (&json!("firing"), &json!(6)));
    assert_eq!(rows(&pools, "gold", "page_1h")[0]["state"], "inactive");
    let of_one = service.json("/v1/customers/tiny-1");
    assert_eq!(of_one["pool"], "tiny");
    let promise = &of_one["services"][0]["objectives"][0];
    assert_eq!(
        (&promise["state"], &promise["alerts"][0]["state"]),
        (&json!("insufficient"), &json!("insufficient"))
    );
    let page = service.get("/").body;
    assert!(page.contains("<strong>pool tiny</strong>") && page.contains("6 of 20 fell silent"));
    assert!(
        service.get("/customers/tiny-1").body.contains("judged together with others: pool tiny")
    );
    let alerts = service.json("/v1/alerts?basis=live");
    let of_pool = |one: &Value| one["pool"] == "tiny" && one["customer"] == "";
    assert!(alerts["alerts"].as_array().expect("a list").iter().any(of_pool));

    // A changed map of customers reads the same rows again.
    let both = |service: &Service, pool: &str| {
        let pools = service.json("/v1/pools");
        rows(&pools, pool, "ticket_3d").first().map(|row| row["long"]["valid"].clone())
    };
    let (gold, rest) = (both(&service, "gold"), both(&service, ""));
    let (gold, rest) = (gold.expect("a pool").as_u64(), rest.expect("a pool").as_u64());
    assert_eq!((gold, both(&service, "all")), (Some(2 * 10 * 490), None));
    session.write(
        "c.toml",
        format!("{CONFIG}[[pool]]\nname = \"all\"\ncustomers = [\"*\"]\n").as_bytes(),
    );
    service.signal("HUP");
    let all = service.until("the other pools", |service| both(service, "all")).as_u64();
    assert_eq!(all, gold.zip(rest).map(|(gold, rest)| gold + rest + 9));
    service.stop();

    // The same body by the command, of the table at rest.
    let at = listed["as_of"].as_str().expect("a time");
    let body = session.run(&format!("silent --data d --at {at} --json")).ok();
    let body: Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!(body["customers"], listed["customers"]);
    let text = session.run(&format!("silent --data d --at {at}")).ok();
    assert!(
        text.contains("api: 6 of 20 fell silent in the last 2 hours, more than by chance"),
        "{text}"
    );
}

/// A table of three customers, served: one is well, one has sent nothing for a month, and all
/// that the third one has sent is excluded.
fn served() -> (Session, Service) {
    let (session, now) = (Session::new(), now_ms());
    let mut text = line(now - 31 * DAY_MS - DAY_MS / 2, "gone", 200, 100);
    text += &line(now - MINUTE_MS, "excluded", 0, 77);
    text += &line(now - MINUTE_MS, "well", 200, 100);
    session.write("a.ndjson", text.as_bytes());
    session.run("replay a.ndjson --data d --json").ok();
    let service = Service::start(&session, "serve --data d --listen 127.0.0.1:0");
    (session, service)
}

/// Who has nothing to judge in the last 30 days.
const IDLE: [&str; 2] = ["gone", "excluded"];

#[test]
fn no_data_is_null_in_the_windows_of_a_customer() {
    let (_session, service) = served();
    for customer in IDLE {
        let promise =
            &service.json(&format!("/v1/customers/{customer}"))["services"][0]["objectives"][0];
        for key in ["availability", "met"] {
            assert_eq!(promise[key], Value::Null, "{customer} {key}");
        }
        assert_eq!(
            (&promise["state"], &promise["budget"]["left"]),
            (&json!("no_data"), &Value::Null)
        );
        for (name, window) in promise["windows"].as_object().expect("an object") {
            let ratios = (&window["availability"], &window["burn_rate"]);
            assert_eq!(ratios, (&Value::Null, &Value::Null), "{customer} {name}");
        }
    }
    let well = &service.json("/v1/customers/well")["services"][0]["objectives"][0];
    assert_eq!((&well["state"], &well["availability"]), (&json!("ok"), &json!(1.0)));
}

#[test]
fn no_data_is_null_in_time_series_and_rankings() {
    let (_session, service) = served();
    for customer in IDLE {
        let steps = &service.json(&format!("/v1/customers/{customer}/timeseries"))["steps"];
        let steps = steps.as_array().expect("a list");
        assert!(!steps.is_empty() && steps.iter().all(|step| step["availability"].is_null()));
    }
    let rows = &service.json("/v1/customers")["customers"];
    let idle = rows.as_array().expect("a list").iter().filter(|row| row["customer"] != "well");
    let idle: Vec<&Value> = idle.collect();
    assert!(!idle.is_empty());
    for row in idle {
        let judged = (&row["availability"], &row["budget_left"], &row["burn_rate_1h"]);
        assert_eq!(judged, (&Value::Null, &Value::Null, &Value::Null), "{row}");
    }
}

#[test]
fn no_data_is_neither_met_nor_up_in_a_statement_in_any_form() {
    let (session, service) = served();
    let month = &service.json("/healthz")["as_of"].as_str().expect("a time")[..7].to_owned();
    let path = format!("/v1/customers/excluded/sla?month={month}");
    let stated = &service.json(&path)["customers"][0];
    assert_eq!((&stated["valid"], &stated["excluded"]), (&json!(0), &json!(77)));
    for key in ["availability", "met", "budget_consumed"] {
        assert_eq!(stated[key], Value::Null, "{key}");
    }
    let nothing = json!({ "request": null, "time_slice": null, "interval_mean": null });
    assert_eq!(stated["uptime"], nothing);
    for format in ["table", "csv", "md"] {
        let line = format!("report --data d --month {month} --customer excluded --format {format}");
        let text = session.run(&line).ok();
        let reads_as_up = ["100%", "100.0", "true", "1 kept"];
        assert!(text.contains("excluded"), "{text}");
        assert!(!reads_as_up.iter().any(|up| text.contains(up)), "{text}");
    }
}

#[test]
fn no_data_has_no_gauge() {
    let (_session, service) = served();
    let metrics = service.get("/metrics").body;
    let of = |customer: &str| {
        let mine = format!("customer=\"{customer}\"");
        let lines = metrics.lines().filter(|line| line.contains(&mine));
        lines.filter(|line| line.starts_with("slo:sli_error") || line.contains("burn_rate")).count()
    };
    assert!(of("well") > 5);
    assert_eq!(IDLE.map(of), [0, 0], "{metrics}");
}

#[test]
fn no_data_is_said_in_words_on_pages() {
    let (_session, service) = served();
    for customer in IDLE {
        let page = service.get(&format!("/customers/{customer}")).body;
        assert!(page.contains("availability: no data") && !page.contains("100%</"), "{page}");
    }
    let page = service.get("/customers/well").body;
    assert!(page.contains("availability: kept") && page.contains("100%</"), "{page}");
}

#[test]
fn no_data_is_said_of_a_pool() {
    let (session, now) = (Session::new(), now_ms());
    session.write("c.toml", b"[tier.old]\ncustomers = [\"gone\"]\n");
    session.write(
        "a.ndjson",
        format!("{}{}", line(now - 5 * DAY_MS, "gone", 503, 9), line(now, "well", 200, 9))
            .as_bytes(),
    );
    session.run("replay a.ndjson --data d --json").ok();
    let service = Service::start(&session, "serve --data d --config c.toml --listen 127.0.0.1:0");
    let pools = service.json("/v1/pools");
    for row in rows(&pools, "old", "page_1h").into_iter().chain(rows(&pools, "old", "ticket_3d")) {
        assert_eq!((&row["state"], &row["long"]["burn_rate"]), (&json!("no_data"), &Value::Null));
    }
    assert_eq!(rows(&pools, "", "page_1h")[0]["state"], "inactive");
}
