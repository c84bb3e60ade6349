//! The running service tells receivers: routed, signed, repeated until taken, silenced, each
//! without a wait for the others; and whatever is killed, nobody is told under another key.

#[path = "common/receiver.rs"]
mod receiver;
#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ninefold_engine::failpoint::VARIABLE;
use ninefold_engine::notify::message::signature;
use ninefold_engine::time::rfc3339;
use receiver::{Receiver, Request};
use serde_json::{Value, json};
use service::Service;
use session::Session;

const RUN: &str = "run --data d --config c.toml --follow a.ndjson --listen 127.0.0.1:0";

/// Alerts are about now, so that the lines have to be.
#[expect(clippy::disallowed_methods, reason = "the program under test goes by the wall clock")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Appends lines at once: so many equal requests of now with each status.
fn append(session: &Session, customer: &str, service: &str, requests: &[(u16, u32)]) {
    let line = |(status, count): &(u16, u32)| {
        let (ts, status, count) = (now_ms(), *status, *count);
        let event = json!({
            "ts": ts, "customer": customer, "service": service, "status": status, "count": count,
        });
        format!("{event}\n")
    };
    let path = session.path("a.ndjson");
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("writable");
    let lines: String = requests.iter().map(line).collect();
    file.write_all(lines.as_bytes()).expect("there is space");
}

/// Half of a customer's requests fail: every fast tier fires.
fn burn(session: &Session, customer: &str, service: &str) {
    append(session, customer, service, &[(503, 500), (200, 500)]);
}

/// So many good requests that nothing burns any more.
fn heal(session: &Session, customer: &str, service: &str) {
    append(session, customer, service, &[(200, 1_000_000)]);
}

fn session(config: &str) -> Session {
    let session = Session::new();
    let run = "[run]\ncommit_interval = \"200ms\"\n";
    session.write("c.toml", format!("{run}{config}").as_bytes());
    session.write("a.ndjson", b"");
    session
}

fn hook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!(
        "[[notify]]\nname = \"{name}\"\nkind = \"webhook\"\neach = \"alert\"\n\
         url = \"http://{}/{name}\"\nallow = [\"127.0.0.1/32\"]\n{more}\n",
        receiver.address
    )
}

/// The states of a customer's alerts that a receiver was told, in their order.
fn told<'a>(requests: &'a [Request], customer: &str) -> Vec<(String, String)> {
    let of_one = |request: &'a Request| {
        let notices = request.json()["notices"].as_array().expect("a list").clone();
        notices.into_iter().filter(|one| one["alert"]["customer"] == customer).map(|one| {
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            (text(&one["alert"]["tier"]), text(&one["state"]))
        })
    };
    requests.iter().flat_map(of_one).collect()
}

fn is_told(receiver: &Receiver, customer: &str, state: &str) -> Option<()> {
    told(&receiver.requests(), customer).iter().any(|(_, one)| one == state).then_some(())
}

#[test]
fn receivers_are_told_signed_routed_and_each_without_the_others() {
    let hanging = Receiver::hanging();
    let busy = Receiver::answering(|number| match number {
        0 => (503, ""),
        1 => (429, "retry-after: 2\r\n"),
        2 => (307, "location: http://127.0.0.1:1/\r\n"),
        _ => (204, ""),
    });
    let (inbox, pager) = (Receiver::taking(), Receiver::taking());
    let config = [
        format!(
            "[[notify]]\nname = \"pager\"\nkind = \"pagerduty\"\neach = \"alert\"\n\
             url = \"http://{}/v2/enqueue\"\nallow = [\"127.0.0.1/32\"]\n\
             secret = {{ env = \"NINEFOLD_TEST_SECRET\" }}\n",
            pager.address
        ),
        hook("hanging", &hanging, "timeout = \"60s\""),
        hook("busy", &busy, "secret = { env = \"NINEFOLD_TEST_SECRET\" }"),
        hook(
            "inbox",
            &inbox,
            "content_type = \"text/plain\"\ntemplate = \"{{ notices|length }} {{ alert.customer }} {{ state }}\"",
        ),
        "[[notify]]\nname = \"script\"\nkind = \"command\"\neach = \"all\"\n\
         command = [\"sh\", \"-c\", \"cat >> told.txt; echo >> told.txt\"]\n"
            .to_owned(),
        "[[route]]\nreceivers = [\"inbox\"]\nservices = [\"inbox\"]\ngroup_wait = \"1s\"\n\
         [[route]]\nreceivers = [\"script\"]\ntiers = [\"rollout_5m\"]\ncontinue = true\n\
         [[route]]\nreceivers = [\"hanging\", \"busy\", \"pager\"]\n"
            .to_owned(),
    ];
    let session = session(&config.concat());
    let mut service = Service::start_with(&session, RUN, &[("NINEFOLD_TEST_SECRET", "k-7")]);
    burn(&session, "acme", "api");
    burn(&session, "acme", "inbox");
    service.until("the alert", |_| {
        is_told(&busy, "acme", "firing").filter(|()| busy.requests().len() > 3)
    });
    service.until("the other service", |_| inbox.requests().last().map(drop));
    heal(&session, "acme", "api");
    service.until("the end", |_| is_told(&busy, "acme", "resolved"));
    service.until("the pager's", |_| (pager.requests().len() >= 2).then_some(()));
    let script = || std::fs::read_to_string(session.path("told.txt")).unwrap_or_default();
    service.until("the script", |_| script().contains("\"resolved\"").then_some(()));
    assert!(!hanging.requests().is_empty(), "it was called, and did not answer");
    let health = service.json("/healthz")["notes"].to_string();
    assert!(health.contains("receiver hanging") || hanging.requests().len() == 1, "{health}");

    let events: Vec<Value> = pager.requests().iter().map(Request::json).collect();
    let actions: Vec<&Value> = events.iter().map(|event| &event["event_action"]).collect();
    assert_eq!(actions, ["trigger", "resolve"], "each once");
    assert_eq!(events[0]["dedup_key"], events[1]["dedup_key"]);
    assert_eq!(
        (&events[0]["routing_key"], &events[0]["payload"]["severity"]),
        (&json!("k-7"), &json!("critical"))
    );

    let requests = busy.requests();
    let waited = requests[2].at.duration_since(requests[1].at);
    // The service counts whole milliseconds.
    assert!(waited >= Duration::from_millis(1_999), "it asked for two seconds: {waited:?}");
    let key = |request: &Request| request.header("idempotency-key").to_owned();
    assert!(requests[1..3].iter().all(|one| key(one) == key(&requests[0])));
    for request in &requests {
        let timestamp = request.header("x-ninefold-timestamp");
        let signed = signature("k-7", timestamp, &request.body);
        assert_eq!(request.header("x-ninefold-signature"), signed);
        assert!(request.body.contains("\"api\"") && !request.body.contains("\"inbox\""));
    }
    // The page of an hour was held back by the faster tier, until that was over.
    let busy_told = told(&requests[3..], "acme");
    assert_eq!(busy_told[0], ("rollout_5m".to_owned(), "firing".to_owned()), "{busy_told:?}");
    let texts: Vec<String> = inbox.requests().into_iter().map(|one| one.body).collect();
    assert!(texts[0].ends_with(" acme firing"), "{texts:?}");
    assert!(inbox.requests()[0].header("content-type").starts_with("text/plain"));
    for line in script().lines() {
        let one: Value = serde_json::from_str(line).expect("our JSON");
        assert_eq!(one["alert"]["tier"], "rollout_5m");
    }
    service.stop().ok_with_notes();
}

#[test]
fn a_silence_holds_the_notification_and_not_the_state_and_survives_a_restart() {
    let receiver = Receiver::taking();
    let session = session(&hook("ops", &receiver, ""));
    let service = Service::start(&session, RUN);
    let ask = |body: Value| {
        ureq::post(format!("{}/v1/silences", service.address))
            .config()
            .http_status_as_error(false)
            .build()
            .header("content-type", "application/json")
            .send(body.to_string())
            .expect("it answers")
    };
    let to = rfc3339(now_ms() + 3_600_000);
    let mut refused = ask(json!({ "author": "ops", "reason": " ", "to": to }));
    assert_eq!(refused.status(), 400);
    let problem: Value =
        serde_json::from_str(&refused.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(problem["field"], "reason", "{problem}");
    let mut made =
        ask(json!({ "author": "ops", "reason": "known", "to": to, "customers": ["quiet-*"] }));
    assert_eq!(made.status(), 201);
    let made: Value = serde_json::from_str(&made.body_mut().read_to_string().unwrap()).unwrap();
    service.stop().ok_with_notes();

    let mut service = Service::start(&session, RUN);
    burn(&session, "quiet-1", "api");
    burn(&session, "loud", "api");
    service.until("the other's alert", |_| is_told(&receiver, "loud", "firing"));
    let alerts = service.until("the state", |service| {
        let alerts = service.json("/v1/alerts?basis=live");
        let fires = |one: &Value| one["customer"] == "quiet-1" && one["state"] == "firing";
        alerts["alerts"].as_array().expect("a list").iter().any(fires).then_some(alerts)
    });
    assert_eq!(alerts["silences"][0]["reason"], "known");
    assert_eq!(told(&receiver.requests(), "quiet-1"), [], "it is silenced");
    let list = session.run("silence list --data d --json").json();
    assert_eq!(list[0]["id"], made["id"]);
    session.run(&format!("silence end --data d {}", made["id"].as_str().unwrap())).ok();
    service.until("what still fires", |_| is_told(&receiver, "quiet-1", "firing"));
    service.stop().ok_with_notes();
}

#[test]
fn of_two_instances_the_judge_tells_for_both_and_the_other_takes_over() {
    let receiver = Receiver::taking();
    let session = session(&hook("ops", &receiver, ""));
    let mut first = Service::start(&session, RUN);
    session.write("b.ndjson", b"");
    let mut second = Service::start(&session, &RUN.replace("a.ndjson", "b.ndjson"));
    burn(&session, "acme", "api");
    first.until("the alert", |_| is_told(&receiver, "acme", "firing"));
    first.until("its row", |service| {
        (service.json("/healthz")["uncommitted_lines"] == 0).then_some(())
    });
    let data = session.path("d");
    let is_noted = || {
        let table = ninefold_engine::table::Table::open(&data.join("rollups")).unwrap().unwrap();
        let mut rows = 0;
        table.for_each_sent(&ninefold_engine::table::Filter::default(), |_| rows += 1).unwrap();
        (rows > 0).then_some(())
    };
    first.until("what was sent", |_| is_noted());
    first.kill();
    let before = receiver.notices();
    // The file of the one that is gone goes on in that of the other.
    let good = json!({
        "ts": now_ms(), "customer": "acme", "service": "api", "status": 200, "count": 1_000_000,
    });
    session.write("b.ndjson", format!("{good}\n").as_bytes());
    second.until("the end", |_| is_told(&receiver, "acme", "resolved"));
    second.stop().ok_with_notes();
    let firing = |notices: &[[String; 3]]| -> BTreeSet<[String; 3]> {
        notices.iter().filter(|one| one[2] == "firing").cloned().collect()
    };
    let ids: BTreeSet<String> = receiver.notices().into_iter().map(|[_, id, _]| id).collect();
    assert_eq!(ids.len(), firing(&before).len(), "nothing under another key");
}

/// A free port on loopback.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port()
}

/// An Alertmanager, killed at the end.
struct Alertmanager {
    child: Child,
    address: String,
}

impl Alertmanager {
    /// `None` where there is none on this machine.
    fn start(session: &Session, hook: &Receiver) -> Option<Alertmanager> {
        let program = std::env::var("NINEFOLD_ALERTMANAGER");
        let program = program.unwrap_or_else(|_| "prometheus-alertmanager".to_owned());
        let config = format!(
            "route:\n  receiver: hook\n  group_by: [service]\n  group_wait: 1s\n  \
             group_interval: 1s\n  repeat_interval: 1h\nreceivers:\n- name: hook\n  \
             webhook_configs:\n  - url: http://{}/am\n    send_resolved: true\n",
            hook.address
        );
        let config = session.write("am.yml", config.as_bytes());
        let address = format!("127.0.0.1:{}", free_port());
        let child = Command::new(&program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", session.path("am").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Alertmanager { child, address }),
            Err(error) => {
                println!("skipped: {program}: {error}");
                None
            }
        }
    }

    /// The alerts of our name that it holds to be active.
    fn active(&self) -> Option<Vec<Value>> {
        let url = format!("http://{}/api/v2/alerts?active=true", self.address);
        let text = ureq::get(url).call().ok()?.body_mut().read_to_string().ok()?;
        let alerts: Vec<Value> = serde_json::from_str(&text).expect("a list of alerts");
        let ours = |one: &Value| one["labels"]["alertname"] == "NinefoldErrorBudgetBurn";
        Some(alerts.into_iter().filter(ours).collect())
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_alertmanager_receives_groups_and_resolves_and_a_restart_makes_no_second_alert() {
    let hook = Receiver::taking();
    let folder = Session::new();
    let Some(alertmanager) = Alertmanager::start(&folder, &hook) else { return };
    let session = session(&format!(
        "[[notify]]\nname = \"am\"\nkind = \"alertmanager\"\neach = \"alert\"\n\
         url = \"http://{}\"\nallow = [\"127.0.0.1/32\"]\nseverities = [\"page\"]\n",
        alertmanager.address
    ));
    let mut service = Service::start(&session, RUN);
    burn(&session, "acme", "api");
    burn(&session, "globex", "api");
    let customers = |alerts: &[Value]| -> BTreeSet<String> {
        alerts.iter().map(|one| one["labels"]["customer"].to_string()).collect()
    };
    let alerts = service.until("both alerts", |_| {
        alertmanager.active().filter(|alerts| customers(alerts).len() == 2)
    });
    for alert in &alerts {
        let labels = alert["labels"].as_object().expect("labels");
        let known =
            ["alertname", "customer", "fingerprint", "objective", "service", "severity", "tier"];
        assert_eq!(labels.keys().collect::<Vec<_>>(), known, "no value is a label");
        assert!(alert["annotations"]["long"].as_str().expect("a text").contains("500 of 1000"));
        assert!(alert["endsAt"].as_str() > alert["updatedAt"].as_str(), "it lasts: {alert}");
    }
    let grouped = service.until("its notification", |_| {
        let body = hook.requests().last()?.json();
        (body["alerts"].as_array()?.len() == 2).then_some(body)
    });
    assert_eq!(grouped["groupLabels"], json!({ "service": "api" }));
    service.kill();
    let mut service = Service::start(&session, RUN);
    heal(&session, "acme", "api");
    service.until("one to resolve", |_| {
        alertmanager.active().filter(|alerts| customers(alerts).len() == 1)
    });
    let left = alertmanager.active().expect("it answers");
    assert_eq!(left.len(), 1, "the restart made no second alert: {left:?}");
    service.until("the end to be told on", |_| {
        let resolved =
            |one: &Value| one["status"] == "resolved" && one["labels"]["customer"] == "acme";
        let told = |request: &Request| {
            request.json()["alerts"].as_array().is_some_and(|all| all.iter().any(resolved))
        };
        hook.requests().iter().any(told).then_some(())
    });
    service.stop().ok_with_notes();
}

/// Each fingerprint was told under one id, fires first, and is over at the end.
fn assert_one_story(receiver: &Receiver, what: &str) {
    let mut stories: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for [fingerprint, id, state] in receiver.notices() {
        stories.entry(fingerprint).or_default().push((id, state));
    }
    assert!(!stories.is_empty(), "{what}: somebody was told");
    for (fingerprint, story) in stories {
        let ids: BTreeSet<&String> = story.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 1, "{what}: {fingerprint} has one id: {story:?}");
        assert_eq!(story.last().expect("one").1, "resolved", "{what}: {fingerprint}");
    }
}

#[test]
fn killed_between_decision_commit_send_and_note_it_tells_once_more_under_the_same_key() {
    for point in ["commit.cut", "commit.entry.put", "commit.landed", "notify.send", "notify.sent"] {
        let receiver = Receiver::taking();
        let session = session(&hook("ops", &receiver, ""));
        // The first commit is that of the alert: no other is due.
        let config = hook("ops", &receiver, "") + "[run]\ncommit_interval = \"60s\"\n";
        session.write("c.toml", config.as_bytes());
        let service = Service::start_with(&session, RUN, &[(VARIABLE, point)]);
        burn(&session, "acme", "api");
        let ended = service.end_within(Duration::from_secs(60));
        assert_eq!(ended.code, None, "{point}: it was killed: {ended:?}");
        let mut service = Service::start(&session, RUN);
        service.until("the alert", |_| is_told(&receiver, "acme", "firing"));
        heal(&session, "acme", "api");
        service.until("the end", |_| {
            let told = told(&receiver.requests(), "acme");
            let over = |tier: &str| told.contains(&(tier.to_owned(), "resolved".to_owned()));
            over("rollout_5m").then_some(())
        });
        service.stop().ok_with_notes();
        assert_one_story(&receiver, point);
    }
}

/// Kills at any moment; 8 of them, or `NINEFOLD_KILLS`.
#[test]
fn killed_in_the_midst_of_an_alert_nobody_is_told_under_a_new_key_and_the_end_arrives() {
    let kills = std::env::var("NINEFOLD_KILLS").map_or(8, |text| text.parse().expect("a number"));
    let receiver = Receiver::taking();
    let session = session(&hook("ops", &receiver, ""));
    for kill in 0..kills {
        let mut service = Service::start(&session, RUN);
        burn(&session, "acme", "api");
        service.until_read(2);
        // Spread over commit, send and the commit of what was sent.
        std::thread::park_timeout(Duration::from_millis(97 * (kill % 16)));
        service.kill();
    }
    let mut service = Service::start(&session, RUN);
    service.until("the alert", |_| is_told(&receiver, "acme", "firing"));
    heal(&session, "acme", "api");
    service.until("the end", |_| is_told(&receiver, "acme", "resolved"));
    service.stop().ok_with_notes();
    let keys: BTreeSet<String> =
        receiver.notices().into_iter().map(|[fingerprint, ..]| fingerprint).collect();
    // Rollout, and the pages that it holds back until it is over.
    assert!(keys.len() <= 3, "no page under a new key: {keys:?}");
}
