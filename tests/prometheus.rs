//! What Prometheus makes of Ninefold: a real Prometheus and Alertmanager, Sloth's own rules on
//! our series, our rules in `promtool`, and remote-write.
//!
//! The long scenarios go through `promtool test rules`: our series, minute by minute, as input
//! of the alert rules that Sloth wrote (from the data of others), whose firing is compared with
//! the settled transitions of our own tiers, joined as Sloth joins them.

#[path = "common/program.rs"]
mod program;
#[path = "common/prometheus.rs"]
mod prometheus;
#[path = "common/recount.rs"]
mod recount;
#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;

use ninefold_engine::config::Config;
use ninefold_engine::model::Measures;
use ninefold_engine::query::Promise;
use ninefold_engine::query::alerts::settled_alerts;
use ninefold_engine::query::gauges::{Gauge, of_customer};
use ninefold_engine::query::sla::sla;
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::state::{Key, State};
use ninefold_engine::time::{DAY_MINUTES, Minute, parse_rfc3339};
use prometheus::{Hook, Server, alertmanager, free_port, has, promtool};
use service::Service;
use session::Session;

/// The promise of Sloth's file: 99.9%, here with the objective's name from there, and without
/// the tier that Sloth does not have.
const SLOTH_PROMISE: &str = "
[[objective]]
name = \"slo1\"
sli = \"availability\"
target = 0.999
tiers = { rollout_5m = { enabled = false } }
";

/// Three clean days come first.
const STEADY: u32 = 3 * DAY_MINUTES;

/// The first minute that Prometheus sees: nothing can be told of the clean days.
const SEEN_FROM: u32 = STEADY - 30;

/// A course of failures: so many of 1,000 requests a minute, for so many minutes, and how many
/// clean minutes come after.
struct Scenario {
    name: &'static str,
    bad: u64,
    lasting: u32,
    after: u32,
    /// Which alerts fire.
    fires: &'static [&'static str],
}

/// Of the workbook, at 99.9%; and 2%, at which `page_1h` pages alone and after long enough that a
/// wrong factor shows: at 10% one of 18 would fire within two minutes of 14.4.
const SCENARIOS: [Scenario; 7] = [
    Scenario { name: "all", bad: 1_000, lasting: 10, after: 500, fires: &["page", "ticket"] },
    Scenario { name: "10%", bad: 100, lasting: 90, after: 500, fires: &["page", "ticket"] },
    Scenario { name: "2%", bad: 20, lasting: 100, after: 300, fires: &["page"] },
    Scenario { name: "1%", bad: 10, lasting: 500, after: 500, fires: &["page", "ticket"] },
    Scenario { name: "0.5%", bad: 5, lasting: 1_000, after: 500, fires: &["ticket"] },
    Scenario { name: "spike", bad: 500, lasting: 1, after: 300, fires: &[] },
    Scenario { name: "leak", bad: 2, lasting: 2_500, after: 500, fires: &["ticket"] },
];

impl Scenario {
    fn minutes(&self) -> u32 {
        STEADY + self.lasting + self.after
    }

    fn state(&self) -> State {
        let mut state = State::new(1_000, 0, true, 1);
        for at in 0..self.minutes() {
            let fails = (STEADY..STEADY + self.lasting).contains(&at);
            let bad = if fails { self.bad } else { 0 };
            let measures = Measures { valid: 1_000, bad, ..Measures::default() };
            let key = Key { customer: "acme", service: "svc01", minute: minute(at) };
            state.fold_series(key, &measures, None);
        }
        state
    }
}

/// The minute of a scenario.
fn minute(at: u32) -> Minute {
    Minute(29_000_000 + at)
}

/// A scenario's alerts by our own tiers, joined by severity: when each fires, in its minutes.
fn our_firings(scenario: &Scenario, promise: &Promise<'_>, state: &State) -> Firings {
    let last = minute(scenario.minutes() - 1);
    let alerts = settled_alerts(promise, &state.all_series(), &(minute(0)..=last), last).alerts;
    let mut firings = Firings::new();
    let mut since: BTreeMap<&str, u32> = BTreeMap::new();
    for alert in &alerts {
        let at = Minute::of_ms(parse_rfc3339(alert.at.as_bytes()).unwrap()).0 - minute(0).0;
        if alert.state == "firing" {
            since.insert(&alert.tier, at);
        } else {
            let from = since.remove(&*alert.tier).unwrap();
            firings.entry(alert.severity.clone()).or_default().push(from..at);
        }
    }
    assert!(since.is_empty(), "{}: it clears: {alerts:#?}", scenario.name);
    for ranges in firings.values_mut() {
        ranges.sort_by_key(|range| range.start);
        *ranges = ranges.drain(..).fold(Vec::new(), |mut joined: Vec<Range<u32>>, range| {
            match joined.last_mut().filter(|last| range.start <= last.end) {
                Some(last) => last.end = last.end.max(range.end),
                None => joined.push(range),
            }
            joined
        });
    }
    firings
}

/// The minutes in which an alert of a severity fires.
type Firings = BTreeMap<String, Vec<Range<u32>>>;

/// Our series of a scenario, as input of `promtool`: a value each minute.
fn input_series(scenario: &Scenario, promise: &Promise<'_>, state: &State) -> String {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let series = state.series_of("acme");
    for at in SEEN_FROM..scenario.minutes() {
        let mut gauges = Vec::new();
        of_customer(&sla(promise, "acme", &series, None, minute(at)).unwrap(), &mut gauges);
        for gauge in gauges.iter().filter(|gauge| gauge.name.starts_with("slo:sli_error")) {
            let values = values.entry(name_of(gauge)).or_default();
            write!(values, "{:.12} ", gauge.value).unwrap();
        }
    }
    let one = |(name, values): (&String, &String)| {
        format!("    - series: '{name}'\n      values: '{}'\n", values.trim_end())
    };
    values.iter().map(one).collect()
}

/// A gauge as Prometheus writes a series.
fn name_of(gauge: &Gauge) -> String {
    let labels = gauge.labels.iter().map(|(name, value)| format!("{name}={value:?}"));
    format!("{}{{{}}}", gauge.name, labels.collect::<Vec<_>>().join(","))
}

/// What `promtool` has to find: at both sides of each change that is expected, and every quarter
/// of an hour that is not near one. A change may be two minutes off: a scrape and an evaluation.
fn expectations(scenario: &Scenario, alert: &str, firings: &Firings) -> String {
    let mut text = String::new();
    for severity in ["page", "ticket"] {
        let none = Vec::new();
        let ranges = firings.get(severity).unwrap_or(&none);
        let changes: Vec<u32> = ranges.iter().flat_map(|range| [range.start, range.end]).collect();
        let sides = changes.iter().flat_map(|at| [at - 2, at + 2]);
        let near = |at: &u32| changes.iter().any(|change| at.abs_diff(*change) < 2);
        let times: BTreeSet<u32> =
            (SEEN_FROM..scenario.minutes()).step_by(15).chain(sides).collect();
        for at in times.into_iter().filter(|at| !near(at)) {
            let fires = ranges.iter().any(|range| range.contains(&at));
            let select = format!("alertname=\"{alert}\",alertstate=\"firing\"");
            write!(
                text,
                "    - expr: count(ALERTS{{{select},sloth_severity=\"{severity}\"}}) > bool 0 \
                 or vector(0)\n      eval_time: {at}m\n      exp_samples: [{{ labels: '{{}}', \
                 value: {} }}]\n",
                u32::from(fires),
                at = at - SEEN_FROM,
            )
            .unwrap();
        }
    }
    text
}

/// A `promtool` file with all scenarios against the rules in `rules`.
fn rule_tests(rules: &str, alert: &str) -> String {
    let config = Config::parse(SLOTH_PROMISE, "promise.toml").unwrap();
    // As Sloth judges: on one bad event, without evidence.
    let alerts = AlertOptions { min_bad: 1, confidence: 0.0, ..AlertOptions::default() };
    let promise = Promise {
        slis: &config.slis,
        objectives: &config.objectives,
        alerts: &alerts,
        credits: &[],
        zone: "UTC",
    };
    let mut text = format!("rule_files: [{rules}]\nevaluation_interval: 1m\ntests:\n");
    for scenario in &SCENARIOS {
        let state = scenario.state();
        let firings = our_firings(scenario, &promise, &state);
        let fired: Vec<&str> = firings.keys().map(String::as_str).collect();
        assert_eq!(fired, scenario.fires, "{}: {firings:?}", scenario.name);
        let budget = "slo:error_budget:ratio{sloth_id=\"svc01-slo1/acme\",sloth_service=\"svc01\",\
                      sloth_slo=\"slo1/acme\",customer=\"acme\"}";
        write!(
            text,
            "  - name: {}\n    interval: 1m\n    input_series:\n{}    - series: '{budget}'\n      \
             values: '0.001+0x{}'\n    promql_expr_test:\n{}",
            scenario.name,
            input_series(scenario, &promise, &state),
            scenario.minutes(),
            expectations(scenario, alert, &firings)
        )
        .unwrap();
    }
    text
}

/// The alerts that Sloth wrote for its example, on our series of one customer.
fn sloth_rules(template: &str) -> String {
    let begin = template.find("- name: sloth-slo-alerts-svc01-slo1\n").unwrap();
    let rest = &template[begin..];
    let end = rest[2..].find("\n- name:").map_or(rest.len(), |at| at + 3);
    let group = rest[..end].replace("{{\"", "").replace("\"}}", "");
    let ours = group
        .replace("sloth_id=\"svc01-slo1\"", "sloth_id=\"svc01-slo1/acme\"")
        .replace("sloth_slo=\"slo1\"", "sloth_slo=\"slo1/acme\"");
    assert_eq!(ours.matches("slo1/acme").count(), 2 * 8, "{ours}");
    format!("groups:\n{ours}")
}

#[test]
fn rules_of_sloth_on_our_series_fire_when_our_tiers_do() {
    let Some(data) = program::data_of_others() else { return };
    if !has("promtool") {
        return;
    }
    let template = std::fs::read_to_string(data.join("slo-peers/sloth/out-base.yaml.tpl")).unwrap();
    let session = Session::new();
    session.write("sloth.yml", sloth_rules(&template).as_bytes());
    let test = session.write("test.yml", rule_tests("sloth.yml", "myServiceAlert").as_bytes());
    promtool(&["test", "rules", test.to_str().unwrap()]);
}

#[test]
fn our_rules_on_our_series_fire_when_our_tiers_do() {
    if !has("promtool") {
        return;
    }
    let session = Session::new();
    session.write("ninefold.toml", SLOTH_PROMISE.as_bytes());
    let rules = session.run("rules -c ninefold.toml").ok();
    let rules = session.write("ours.yml", rules.as_bytes());
    promtool(&["check", "rules", rules.to_str().unwrap()]);
    let tests = rule_tests("ours.yml", "NinefoldErrorBudgetBurn");
    let test = session.write("test.yml", tests.as_bytes());
    promtool(&["test", "rules", test.to_str().unwrap()]);
}

#[test]
fn rules_are_valid_whatever_objectives_are_called() {
    let session = Session::new();
    let strange = "
[alerts]
keep_firing_for = \"5m\"
[[objective]]
name = \"it's \\\"a\\\\b\\\" | c: #d\"
sli = \"availability\"
[tier.gold]
customers = [\"acme\", \"globex\"]
[[tier.gold.objective]]
name = \"availability\"
target = 0.9999
period = \"month\"
[[tier.gold.objective]]
name = \"week\"
sli = \"latency\"
period = \"7d\"
[customer.\"acme\"]
[[customer.\"acme\".objective]]
name = \"week\"
sli = \"latency\"
period = \"7d\"
target = 0.9
tiers = { page_1h = { factor = 2 } }
";
    session.write("strange.toml", strange.as_bytes());
    let default = session.run("rules --format prometheus").ok();
    let strange = session.run("rules -c strange.toml").ok();
    assert!(strange.contains("keep_firing_for: 5m"), "{strange}");
    if !has("promtool") {
        return;
    }
    for (name, rules) in [("default.yml", default), ("strange.yml", strange)] {
        let path = session.write(name, rules.as_bytes());
        let told = promtool(&["check", "rules", path.to_str().unwrap()]);
        let count = rules.matches("- alert:").count();
        assert!(told.contains(&format!("SUCCESS: {count} rules found")), "{told}");
    }
}

/// A running service that takes events, and its session.
fn service(config: &str) -> (Session, Service) {
    let session = Session::new();
    session.write("ninefold.toml", config.as_bytes());
    let line = "run --push --data d -c ninefold.toml --listen 127.0.0.1:0";
    let service = Service::start(&session, line);
    (session, service)
}

/// Sends `count` requests of this moment that were answered with `status`.
fn push(service: &Service, customer: &str, status: u16, count: u64) {
    #[expect(clippy::disallowed_methods, reason = "the events have to be of now")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let event = serde_json::json!({
        "ts": now.as_millis() as u64,
        "customer": customer,
        "service": "api",
        "status": status,
        "count": count,
    });
    let url = format!("{}/v1/events", service.address);
    let sent = ureq::post(&url).header("content-type", "application/x-ndjson");
    assert_eq!(sent.send(event.to_string()).unwrap().status().as_u16(), 200);
}

#[test]
fn a_total_outage_goes_through_prometheus_to_alertmanager_and_ends_there() {
    if !["prometheus", "prometheus-alertmanager"].into_iter().all(has) {
        return;
    }
    let (session, service) = service("");
    let rules = session.run("rules").ok();
    session.write("rules.yml", rules.as_bytes());
    let hook = Hook::start();
    let route = format!(
        "route:\n  receiver: hook\n  group_by: [sloth_service, severity]\n  group_wait: 1s\n  \
         group_interval: 1s\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: \
         http://127.0.0.1:{}/\n    send_resolved: true\n",
        hook.port
    );
    let (ours, theirs) = (service.address.trim_start_matches("http://"), free_port());
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\n\
         alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{theirs}'] }}] \
         }}] }}\nscrape_configs:\n- job_name: ninefold\n  static_configs: [{{ targets: \
         ['{ours}'] }}]\n"
    );
    let mut alertmanager = alertmanager(&session.path(""), theirs, &route);
    let mut prometheus = prometheus::prometheus(&session.path(""), free_port(), &config);
    let customers = ["acme", "globex", "quo\"te\\d\nname"];
    for customer in customers {
        push(&service, customer, 503, 500);
    }
    // One group for the service, with every customer in it.
    let told = |hook: &Hook, status: &str| {
        let of = |body: &serde_json::Value| {
            body["groupLabels"]["severity"] == "page"
                && body["groupLabels"]["sloth_service"] == "api"
        };
        let alerts =
            |body: serde_json::Value| body["alerts"].as_array().cloned().unwrap_or_default();
        hook.bodies()
            .into_iter()
            .filter(of)
            .flat_map(alerts)
            .filter(|alert| alert["status"] == status && alert["labels"]["tier"] == "page_1h")
            .map(|alert| alert["labels"]["customer"].as_str().unwrap_or_default().to_owned())
            .collect::<BTreeSet<String>>()
    };
    let all: BTreeSet<String> = customers.map(str::to_owned).into();
    let fires = |status: &'static str| {
        let (hook, all) = (&hook, &all);
        move |_: &Server| (told(hook, status) == *all).then_some(())
    };
    prometheus.until("scrapes", |one| {
        (one.query("slo:sli_error:ratio_rate5m{sloth_service=\"api\"} == 1").len() == 3)
            .then_some(())
    });
    alertmanager.until("the pages", fires("firing"));
    let groups = alertmanager.json("/api/v2/alerts/groups").unwrap();
    let page = |group: &&serde_json::Value| {
        group["labels"] == serde_json::json!({"severity": "page", "sloth_service": "api"})
    };
    assert_eq!(groups.as_array().unwrap().iter().filter(page).count(), 1, "{groups:#}");
    for customer in customers {
        push(&service, customer, 200, 1_000_000);
    }
    alertmanager.until("the ends", fires("resolved"));
    assert_eq!(service.stop().code, Some(0));
}

/// Prometheus with nothing to scrape and no rules.
const RECEIVER: &str = "global: { scrape_interval: 1s }\n";

/// A configuration that sends each second to a port of this machine.
fn remote_write(port: u16, path: &str) -> String {
    format!(
        "[metrics]\ncustomers_max = 5\n[remote_write]\nurl = \"http://127.0.0.1:{port}{path}\"\n\
         interval = \"1s\"\nlabels = {{ job = \"ninefold\" }}\nheaders = {{ X-Scope-OrgID = \"a\" \
         }}\nallow = [\"127.0.0.1/32\"]\n"
    )
}

/// The value of one of our own metrics.
fn metric(service: &Service, name: &str) -> Option<f64> {
    let text = service.get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

#[test]
fn remote_write_gives_prometheus_the_series_of_metrics_also_after_it_was_away() {
    if !has("prometheus") {
        return;
    }
    let folder = Session::new();
    let port = free_port();
    let mut prometheus = prometheus::prometheus(&folder.path(""), port, RECEIVER);
    let (_session, mut service) = service(&remote_write(port, "/api/v1/write"));
    push(&service, "quo\"te\\d\nname", 503, 1);
    push(&service, "quo\"te\\d\nname", 200, 3);
    let ratio = "slo:sli_error:ratio_rate5m{job=\"ninefold\",sloth_service=\"api\"}";
    prometheus.until("the ratio", |one| {
        let found = one.query(ratio);
        let [(labels, value)] = &found[..] else { return None };
        assert_eq!(labels["customer"], "quo\"te\\d\nname");
        (*value == 0.25).then_some(())
    });
    // Every series of /metrics is there, and no other.
    let names = |text: &str| text.split(['{', ' ']).next().unwrap_or_default().to_owned();
    let is_slo = |line: &&str| line.starts_with("slo:") || line.starts_with("sloth_");
    // The fleet and the customers are asked one after the other: the next interval has both.
    prometheus.until("every series of /metrics and no other", |one| {
        let text = service.get("/metrics").body;
        let mut ours: BTreeMap<String, usize> = BTreeMap::new();
        text.lines().filter(is_slo).for_each(|line| *ours.entry(names(line)).or_default() += 1);
        let mut theirs: BTreeMap<String, usize> = BTreeMap::new();
        for (labels, _) in one.query("{job=\"ninefold\"}") {
            *theirs.entry(labels["__name__"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        (theirs == ours && ours.len() > 15).then_some(())
    });
    // Away: it waits, says so, and nothing is lost when it is back.
    drop(prometheus);
    service.until("a failure", |service| {
        let told = service.get("/readyz").body.contains("remote-write");
        (told && metric(service, "ninefold_remote_write_waiting ")? > 1.0).then_some(())
    });
    let mut prometheus = prometheus::prometheus(&folder.path(""), port, RECEIVER);
    prometheus.until("what waited", |_| {
        let waiting = metric(&service, "ninefold_remote_write_waiting ")?;
        let sent = metric(&service, "ninefold_remote_write_samples_total{outcome=\"sent\"} ")?;
        (waiting == 0.0 && sent > 0.0).then_some(())
    });
    let refused = "ninefold_remote_write_samples_total{outcome=\"refused\"} ";
    assert_eq!(metric(&service, refused), Some(0.0));
    assert_eq!(service.stop().code, Some(0));
}

#[test]
fn what_a_receiver_refuses_is_dropped_and_counted_and_internal_addresses_are_not_called() {
    if !has("prometheus") {
        return;
    }
    let folder = Session::new();
    let port = free_port();
    let _prometheus = prometheus::prometheus(&folder.path(""), port, RECEIVER);
    let (_session, mut refused) = service(&remote_write(port, "/nowhere"));
    refused.until("a refusal", |service| {
        let name = "ninefold_remote_write_samples_total{outcome=\"refused\"} ";
        (metric(service, name)? > 0.0).then_some(())
    });
    let config = remote_write(port, "/api/v1/write").replace("127.0.0.1/32", "10.0.0.0/8");
    let (_session, mut internal) = service(&config);
    internal.until("the rule of addresses", |service| {
        // Asked so early that it may not be ready: what it notes is said in either case.
        let told = service.get("/readyz").body;
        told.contains("127.0.0.1, which is internal or without TLS").then_some(())
    });
    assert_eq!(refused.stop().code, Some(0));
    assert_eq!(internal.stop().code, Some(0));
}
