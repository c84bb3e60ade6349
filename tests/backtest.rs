//! Back-tests against a slow recount: when each budget was exhausted, and what that makes of each
//! alert, minute by minute from the definitions.

#[path = "common/session.rs"]
mod session;

use std::collections::BTreeMap;
use std::fmt::Write;

use ninefold_engine::config::Config;
use ninefold_engine::model::Measures;
use ninefold_engine::query::Promise;
use ninefold_engine::query::alerts::settled_alerts;
use ninefold_engine::query::backtest::backtest;
use ninefold_engine::state::{Key, State};
use ninefold_engine::time::{Minute, parse_rfc3339};
use proptest::prelude::*;
use session::Session;

/// 2026-10-30T00:00:00Z: two days before a month ends.
const START: u32 = 29_888_640;
const NOVEMBER: u32 = START + 2 * 1_440;

/// Tiers that fire and end often within a few days.
const TIERS: &str = "target = 0.9\ntiers = { rollout_5m = { factor = 5 }, page_1h = { factor = 2 }, \
                     page_6h = { factor = 1.5 }, ticket_1d = { factor = 1 } }\n";

/// When an alert fired and ended, when it was told, what became of it, when the budget went.
type Told = (u32, String, Option<u32>, Option<u32>, &'static str, Option<u32>);

/// The slow way. `period` gives the first and the last minute of the period that is judged at a
/// minute; `ends` of it, whether only its end decides.
struct Recount {
    minutes: Vec<(u64, u64)>,
    first_of: fn(u32) -> u32,
    /// The last minute that decides on an alert of a minute.
    until: fn(u32) -> u32,
    calendar: bool,
}

impl Recount {
    /// Of rolling days, without minutes.
    fn of_days() -> Recount {
        Recount {
            minutes: Vec::new(),
            first_of: |at| at - 1_440 + 1,
            until: |at| at + 1_440 - 1,
            calendar: false,
        }
    }

    fn last(&self) -> u32 {
        START + self.minutes.len() as u32 - 1
    }

    /// Whether more than a tenth of what was valid in the period so far is bad.
    fn is_broken(&self, at: u32) -> bool {
        let first = (self.first_of)(at).max(START);
        let inside = &self.minutes[(first - START) as usize..=(at - START) as usize];
        let (valid, bad) = inside.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        10 * bad > valid
    }

    /// The begin of every breach, and its last minute.
    fn breaches(&self) -> Vec<(u32, u32)> {
        let mut spans: Vec<(u32, u32)> = Vec::new();
        for at in START..=self.last() {
            let new_period = self.calendar && at == NOVEMBER;
            match spans.last_mut() {
                _ if !self.is_broken(at) => {}
                Some(span) if span.1 + 1 == at && !new_period => span.1 = at,
                _ => spans.push((at, at)),
            }
        }
        if self.calendar {
            spans.retain(|span| span.1 == (self.until)(span.1).min(self.last()));
        }
        spans
    }

    /// What becomes of an alert that fired at a minute.
    fn outcome(&self, at: u32, breaches: &[(u32, u32)]) -> (&'static str, Option<u32>) {
        let until = (self.until)(at);
        match breaches.iter().find(|span| span.1 >= at && span.0 <= until) {
            Some(span) => ("breached", Some(span.0)),
            None if until <= self.last() => ("kept", None),
            None => ("open", None),
        }
    }
}

fn minute_of(text: &str) -> u32 {
    Minute::of_ms(parse_rfc3339(text.as_bytes()).unwrap()).0
}

/// The alerts of a back-test, after they were compared with the recount.
fn check(recount: &Recount, period: &str) -> Vec<Told> {
    let text = format!("[[objective]]\nname = \"availability\"\nperiod = \"{period}\"\n{TIERS}");
    let config = Config::parse(&text, "tried.toml").unwrap();
    let promise = Promise {
        slis: &config.slis,
        objectives: &config.objectives,
        alerts: &config.alerts,
        credits: &[],
        zone: "UTC",
    };
    let mut state = State::new(1_000, 0, true, 1);
    for (at, (valid, bad)) in (START..).zip(&recount.minutes) {
        let measures = Measures { valid: *valid, bad: *bad, ..Measures::default() };
        let key = Key { customer: "acme", service: "api", minute: Minute(at) };
        state.fold_series(key, &measures, None);
    }
    let (series, last) = (state.all_series(), Minute(recount.last()));
    let all = Minute(0)..=last;
    let found = backtest(&promise, &series, &all, last);
    // Who fires in which minute, by the transitions.
    let order = ["rollout_5m", "page_1h", "page_6h", "ticket_1d", "ticket_3d"];
    let mut firing: BTreeMap<usize, Vec<(u32, Option<u32>)>> = BTreeMap::new();
    for alert in &settled_alerts(&promise, &series, &all, last).alerts {
        let tier = order.iter().position(|tier| *tier == alert.tier).unwrap();
        let (spans, at) = (firing.entry(tier).or_default(), minute_of(&alert.at));
        match &*alert.state {
            "firing" => spans.push((at, None)),
            _ => spans.last_mut().unwrap().1 = Some(at),
        }
    }
    let fires = |tier: usize, at: u32| {
        let within = |span: &(u32, Option<u32>)| span.0 <= at && span.1.is_none_or(|end| at < end);
        firing.get(&tier).is_some_and(|spans| spans.iter().any(within))
    };
    let breaches = recount.breaches();
    let mut expect: Vec<Told> = Vec::new();
    for (tier, spans) in &firing {
        for (from, until) in spans {
            let mut life = *from..until.unwrap_or(last.0 + 1);
            let told = life.find(|at| (0..*tier).all(|faster| !fires(faster, *at)));
            let (outcome, breach) = recount.outcome(*from, &breaches);
            expect.push((*from, order[*tier].to_owned(), *until, told, outcome, breach));
        }
    }
    let mut alerts: Vec<Told> = Vec::new();
    for one in &found.alerts {
        let at = |text: &Option<String>| text.as_deref().map(minute_of);
        let (from, breach) = (minute_of(&one.alert.at), at(&one.breached_at));
        let lead_s = breach.map(|breach| (i64::from(breach) - i64::from(from)) * 60);
        assert_eq!(one.lead_s, lead_s);
        let tier = one.alert.tier.clone();
        alerts.push((from, tier, at(&one.until), at(&one.told_at), one.outcome, breach));
    }
    assert!(alerts.is_sorted_by_key(|alert| alert.0));
    expect.sort();
    alerts.sort();
    assert_eq!(alerts, expect);
    // Every breach with the first alert that was told before it and was about it.
    let first_told = |breach: u32| {
        let about = expect.iter().filter(|one| one.5 == Some(breach));
        about.filter_map(|one| one.3).filter(|told| *told <= breach).min()
    };
    let expect_breaches: Vec<_> =
        breaches.iter().map(|span| (span.0, first_told(span.0))).collect();
    let at = |text: &Option<String>| text.as_deref().map(minute_of);
    let found_breaches: Vec<_> =
        found.breaches.iter().map(|one| (minute_of(&one.at), at(&one.alerted_at))).collect();
    assert_eq!(found_breaches, expect_breaches);
    // The tallies add up to the list.
    for (severity, tally) in [("page", found.pages), ("ticket", found.tickets)] {
        let of_severity = found.alerts.iter().filter(|one| one.alert.severity == severity);
        assert_eq!(tally.fired, of_severity.count() as u64);
        let parts = [tally.held_back, tally.breached, tally.false_alarms, tally.open];
        assert_eq!(tally.fired, parts.iter().sum::<u64>());
    }
    let unalerted = expect_breaches.iter().filter(|breach| breach.1.is_none()).count();
    assert_eq!(found.breaches_unalerted, unalerted as u64);
    alerts
}

/// Stretches of minutes, some idle, with a share of failures each; mostly good ones and long
/// enough in all that many an alert is about a day that was kept, and over.
fn minutes() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let valid = || prop_oneof![1 => Just(0_u64), 6 => Just(100)];
    let good = (50..500_usize, valid(), 0..4_u64);
    let failing = (1..60_usize, valid(), prop_oneof![10..40_u64, Just(100)]);
    let outage = (1..400_usize, valid(), 10..100_u64);
    let stretch = prop_oneof![6 => good, 3 => failing, 1 => outage];
    prop::collection::vec(stretch, 10..30).prop_map(|stretches| {
        let minutes = |(length, valid, percent): (usize, u64, u64)| {
            std::iter::repeat_n((valid, valid * percent / 100), length)
        };
        stretches.into_iter().flat_map(minutes).collect()
    })
}

#[test]
fn an_alert_is_false_once_the_last_day_that_holds_it_was_kept() {
    // Three minutes without success after a thousand good ones: half of five minutes has failed
    // in the third of them. The last day that holds it ends 1,439 minutes later.
    let outcome = |after: usize| {
        let spike = std::iter::repeat_n((100, 100), 3);
        let minutes = std::iter::repeat_n((100, 0), 1_000).chain(spike);
        let minutes = minutes.chain(std::iter::repeat_n((100, 0), after)).collect();
        let alerts = check(&Recount { minutes, ..Recount::of_days() }, "1d");
        let told = |one: &Told| (one.0 - START, one.1.clone(), one.4);
        alerts.iter().map(told).collect::<Vec<_>>()
    };
    let rollout = "rollout_5m".to_owned();
    assert_eq!(outcome(1_438), [(1_002, rollout.clone(), "open")]);
    assert_eq!(outcome(1_439), [(1_002, rollout, "kept")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_alert_and_breach_is_that_of_a_slow_recount(minutes in minutes()) {
        let rolling = Recount {
            minutes: minutes.clone(),
            ..Recount::of_days()
        };
        check(&rolling, "1d");
        let month = Recount {
            minutes,
            first_of: |at| if at < NOVEMBER { 0 } else { NOVEMBER },
            until: |at| if at < NOVEMBER { NOVEMBER - 1 } else { NOVEMBER + 30 * 1_440 - 1 },
            calendar: true,
        };
        check(&month, "month");
    }
}

/// A request line every ten minutes from October to the third of November, `failing` of 1,000 in
/// the ten-minute steps of `outages`.
fn history(customer: &str, outages: &[(&str, usize, u32)]) -> String {
    let begin = minute_of("2025-10-01T00:00:00Z");
    let mut text = String::new();
    for step in 0..33 * 144 {
        let at = begin + step * 10;
        let within = |(from, steps, _): &&(&str, usize, u32)| {
            let from = minute_of(from);
            (from..from + 10 * *steps as u32).contains(&at)
        };
        let failing = outages.iter().find(within).map_or(0, |outage| outage.2);
        for (status, count) in [(503, failing), (200, 1_000 - failing)] {
            if count > 0 {
                let ts = Minute(at);
                writeln!(
                    text,
                    "{{\"ts\":\"{ts}\",\"customer\":\"{customer}\",\"status\":{status},\"count\":{count}}}"
                )
                .unwrap();
            }
        }
    }
    text
}

#[test]
fn a_month_is_tried_with_another_target() {
    let session = Session::new();
    // Half an hour without success of October costs 3,000 of its 8,928; two hours 12,000, and
    // with 2.8 million requests so far the sixth step of them is one too many. In November 300
    // of the 432 so far are spent.
    let events = history("kept", &[("2025-10-20T12:00:00Z", 3, 1_000)])
        + &history("broken", &[("2025-10-20T12:00:00Z", 12, 1_000)])
        + &history("open", &[("2025-11-02T12:00:00Z", 1, 300)]);
    session.write("events.ndjson", events.as_bytes());
    session.run("replay events.ndjson --data d").ok();
    let month = "[[objective]]\nname = \"availability\"\nperiod = \"month\"\n";
    session.write("month.toml", month.as_bytes());
    let body = session.run("alerts --data d --backtest month.toml --json").json();
    // The alerts are those of the configuration itself.
    let alerts = session.run("alerts --data d -c month.toml --json").json();
    let fired = |body: &serde_json::Value| -> Vec<String> {
        let all = body["alerts"].as_array().unwrap().iter();
        let firing = all.filter(|one| one["state"] == "firing");
        firing.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let (mut tried, mut told) = (fired(&body), fired(&alerts));
    tried.sort();
    told.sort();
    assert_eq!(tried, told);
    assert!(!tried.is_empty());
    let outcomes = |customer: &str| {
        let all = body["alerts"].as_array().unwrap().iter();
        let of_one = all.filter(|one| one["customer"] == customer);
        of_one.map(|one| one["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (customer, outcome) in [("kept", "kept"), ("broken", "breached"), ("open", "open")] {
        let found = outcomes(customer);
        assert!(
            !found.is_empty() && found.iter().all(|one| one == outcome),
            "{customer}: {found:?}"
        );
    }
    let breaches = body["breaches"].as_array().unwrap();
    assert_eq!(breaches.len(), 1, "{breaches:#?}");
    let (at, lead_s) = (&breaches[0]["at"], &breaches[0]["lead_s"]);
    assert_eq!((at.as_str(), lead_s.as_i64()), (Some("2025-10-20T12:50:59Z"), Some(3_000)));
    assert_eq!(body["lead_s_median"], 3_000);
    let table = session.run("alerts --data d --backtest month.toml").ok();
    assert!(
        table.contains("breaches: 1, 0 of them without an alert before; median lead 50m"),
        "{table}"
    );
    // A laxer target pages nobody for what a stricter one would.
    let lax = format!("{month}target = 0.6\n");
    session.write("lax.toml", lax.as_bytes());
    let lax = session.run("alerts --data d --backtest lax.toml --json").json();
    assert_eq!(lax["breaches"], serde_json::json!([]));
    assert!(lax["pages"]["fired"].as_u64() < body["pages"]["fired"].as_u64(), "{lax}");
    let from = "alerts --data d --backtest month.toml --json --from 2025-11-01T00:00:00Z";
    let november = session.run(from).json();
    assert_eq!(
        november["pages"]["open"],
        november["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| { one["severity"] == "page" && one["told_at"].is_string() })
            .count()
    );
    session.run("alerts --data d --backtest month.toml --basis live").fails(2, &["--basis"]);
}
