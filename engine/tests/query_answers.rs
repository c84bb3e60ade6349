//! The answers from series against an obvious recount of raw events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ninefold_engine::model::{Counts, Measures};
use ninefold_engine::query::alerts::settled_alerts;
use ninefold_engine::query::body::{Sla, Top};
use ninefold_engine::query::burn::burn;
use ninefold_engine::query::fleet::{Everybody, fleet};
use ninefold_engine::query::impact::{Dimensions, impact};
use ninefold_engine::query::sla::sla;
use ninefold_engine::query::timeseries::timeseries;
use ninefold_engine::query::top::{Page, top};
use ninefold_engine::query::{AskError, By, Promise};
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::decimal::Decimal;
use ninefold_engine::slo::excess::Row;
use ninefold_engine::slo::histogram::Histogram;
use ninefold_engine::slo::objective::{Objective, Objectives};
use ninefold_engine::slo::period::Period;
use ninefold_engine::slo::sli::{Sli, SliKind, Slis};
use ninefold_engine::state::series::Series;
use ninefold_engine::time::Minute;
use proptest::prelude::*;

/// 2026-10-20T00:00:00Z: 19 days into a month.
const AT: Minute = Minute(29_874_240);

/// The windows of the design, in minutes.
const WINDOWS: [(&str, u32); 11] = [
    ("2m", 2),
    ("5m", 5),
    ("30m", 30),
    ("1h", 60),
    ("2h", 120),
    ("6h", 360),
    ("1d", 1_440),
    ("3d", 4_320),
    ("7d", 10_080),
    ("28d", 40_320),
    ("30d", 43_200),
];

/// One raw event.
#[derive(Clone, Copy, Debug)]
struct Raw {
    customer: usize,
    service: usize,
    minute: Minute,
    outcome: Outcome,
    /// Of a good event.
    latency_us: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Good,
    Bad,
    Excluded,
}

/// Slower than this is slow.
const THRESHOLD_US: u32 = 1_000_000;

impl Raw {
    fn timed(&self) -> Option<u32> {
        self.latency_us.filter(|_| self.outcome == Outcome::Good)
    }

    fn measures(&self) -> Measures {
        let latency_us = u64::from(self.timed().unwrap_or(0));
        Measures {
            valid: u64::from(self.outcome != Outcome::Excluded),
            bad: u64::from(self.outcome == Outcome::Bad),
            excluded: u64::from(self.outcome == Outcome::Excluded),
            timed: u64::from(self.timed().is_some()),
            slow: u64::from(self.timed().is_some_and(|us| us > THRESHOLD_US)),
            latency_sum_us: latency_us,
            latency_max_us: latency_us,
        }
    }

    /// By the further SLI of these tests, which holds good what others hold bad.
    fn inverted(&self) -> Counts {
        match self.outcome {
            Outcome::Good => Counts { valid: 1, bad: 1, excluded: 0 },
            Outcome::Bad => Counts { valid: 1, bad: 0, excluded: 0 },
            Outcome::Excluded => Counts { valid: 0, bad: 0, excluded: 1 },
        }
    }
}

fn name(prefix: &str, number: usize) -> Arc<str> {
    Arc::from(format!("{prefix}{number}"))
}

fn series_of(raw: &[Raw]) -> Vec<Series> {
    let mut all: BTreeMap<(usize, usize), Series> = BTreeMap::new();
    for event in raw {
        let new = || Series::new(name("c", event.customer), name("s", event.service), 1);
        let series = all.entry((event.customer, event.service)).or_insert_with(new);
        series.add(event.minute, &event.measures());
        series.add_further(0, event.minute, event.inverted());
        if let Some(us) = event.timed() {
            let found = series.histograms.binary_search_by_key(&event.minute, |pair| pair.0);
            let at = found.unwrap_or_else(|at| {
                series.histograms.insert(at, (event.minute, Histogram::default()));
                at
            });
            series.histograms[at].1.record(us, 1);
        }
    }
    all.into_values().collect()
}

struct Config {
    slis: Slis,
    objectives: Objectives,
    alerts: AlertOptions,
}

impl Config {
    /// A rolling and a calendar objective on availability, one on latency, and one on a further
    /// SLI that covers service `s1` only.
    fn new() -> Config {
        let further = Sli {
            name: "inverted".to_owned(),
            kind: SliKind::Availability { bad: vec![(200, 299)], excluded: Vec::new() },
            services: vec!["s1".to_owned()],
            routes: Vec::new(),
        };
        let rolling = Objective::availability(decimal("0.998"), Period::RollingDays(30));
        let on = |sli: &str, target: &str, period: Period| Objective {
            name: format!("{sli} {period}"),
            sli: sli.to_owned(),
            ..Objective::availability(decimal(target), period)
        };
        let default = vec![
            rolling,
            on("availability", "0.9", Period::Month("UTC".to_owned())),
            on("latency", "0.5", Period::RollingDays(7)),
            on("inverted", "0.25", Period::RollingDays(1)),
        ];
        Config {
            slis: Slis { further: vec![further], ..Slis::default() },
            objectives: Objectives { default, ..Objectives::default() },
            alerts: AlertOptions::default(),
        }
    }

    fn simple() -> Config {
        Config { objectives: Objectives::default(), ..Config::new() }
    }

    fn promise(&self) -> Promise<'_> {
        Promise {
            slis: &self.slis,
            objectives: &self.objectives,
            alerts: &self.alerts,
            credits: &[],
            zone: "UTC",
        }
    }
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

fn refs(series: &[Series]) -> Vec<&Series> {
    series.iter().collect()
}

/// Raw events of three customers and services; most in the last hours, some weeks ago, some
/// after `AT`.
fn raw_events(most: usize) -> impl Strategy<Value = Vec<Raw>> {
    let ago = prop_oneof![4 => -5..90_i64, 2 => 0..2_000_i64, 2 => 0..45_000_i64];
    let outcome = prop_oneof![
        6 => Just(Outcome::Good),
        2 => Just(Outcome::Bad),
        1 => Just(Outcome::Excluded)
    ];
    let latency_us = prop::option::of(prop_oneof![1..5_000_u32, 900_000..5_000_000_u32]);
    let raw = (0..3_usize, 0..3_usize, ago, outcome, latency_us).prop_map(
        |(customer, service, ago, outcome, latency_us)| {
            let minute = Minute((i64::from(AT.0) - ago) as u32);
            Raw { customer, service, minute, outcome, latency_us }
        },
    );
    prop::collection::vec(raw, 1..most)
}

/// The recount of the events of one customer and service in the `length` minutes up to `AT`.
fn recount(
    raw: &[Raw],
    customer: usize,
    service: usize,
    length: u32,
    counts: impl Fn(&Raw) -> Counts,
) -> Counts {
    let mut sum = Counts::default();
    for event in raw {
        let age = i64::from(AT.0) - i64::from(event.minute.0);
        let within = (0..i64::from(length)).contains(&age);
        if within && event.customer == customer && event.service == service {
            sum.add(counts(event));
        }
    }
    sum
}

fn availability(event: &Raw) -> Counts {
    let Measures { valid, bad, excluded, .. } = event.measures();
    Counts { valid, bad, excluded }
}

fn latency(event: &Raw) -> Counts {
    let Measures { timed, slow, .. } = event.measures();
    Counts { valid: timed, bad: slow, excluded: 0 }
}

fn assert_sla(answer: &Sla, raw: &[Raw], customer: usize) {
    // Name, length of the period in minutes until `AT`, `1 - target`, counts.
    type Expected = (&'static str, u32, f64, fn(&Raw) -> Counts);
    let all: [Expected; 4] = [
        ("availability", 43_200, 0.002, availability),
        ("availability month", 19 * 1_440 + 1, 0.1, availability),
        ("latency 7d", 10_080, 0.5, latency),
        ("inverted 1d", 1_440, 0.75, Raw::inverted),
    ];
    for status in &answer.services {
        let service: usize = status.service[1..].parse().unwrap();
        let covered = if service == 1 { &all[..] } else { &all[..3] };
        assert_eq!(status.objectives.len(), covered.len(), "{}", status.service);
        for (objective, (name, length, allowed, counts)) in status.objectives.iter().zip(covered) {
            assert_eq!(objective.objective, *name);
            let of = |length| recount(raw, customer, service, length, counts);
            let expect = of(*length);
            let found = (objective.valid, objective.bad, objective.excluded);
            assert_eq!(found, (expect.valid, expect.bad, expect.excluded), "{name}");
            assert_eq!(objective.availability.is_none(), expect.valid == 0);
            assert!((objective.budget.events - allowed * expect.valid as f64).abs() < 1e-9);
            let calendar = name.ends_with("month");
            assert!(!calendar || objective.budget.exhausted_in_s.is_none());
            assert_eq!(objective.budget.projected_consumed.is_some(), calendar && expect.valid > 0);
            assert_eq!(objective.windows.len(), WINDOWS.len());
            for (window, length) in WINDOWS {
                let (found, expect) = (&objective.windows[window], of(length));
                assert_eq!((found.valid, found.bad), (expect.valid, expect.bad), "{name} {window}");
                let burn_rate = expect.bad as f64 / expect.valid as f64 / allowed;
                match found.burn_rate {
                    None => assert_eq!(expect.valid, 0),
                    Some(found) => assert!((found - burn_rate).abs() <= 1e-9 * burn_rate),
                }
            }
        }
        assert_latency(status, raw, customer, service);
    }
}

/// Quantiles by sorting: nearest rank, within the 1% of two significant digits.
fn assert_latency(
    status: &ninefold_engine::query::body::ServiceStatus,
    raw: &[Raw],
    customer: usize,
    service: usize,
) {
    let of_hour = |event: &&Raw| {
        let age = i64::from(AT.0) - i64::from(event.minute.0);
        (0..60).contains(&age) && event.customer == customer && event.service == service
    };
    let mut sorted: Vec<u32> = raw.iter().filter(of_hour).filter_map(Raw::timed).collect();
    sorted.sort_unstable();
    let latency = &status.latency;
    assert_eq!((latency.window.as_str(), latency.count), ("1h", sorted.len() as u64));
    assert_eq!(latency.max_ms, sorted.last().map(|us| f64::from(*us) / 1_000.0));
    let quantiles = [
        (0.5, latency.p50_ms),
        (0.9, latency.p90_ms),
        (0.95, latency.p95_ms),
        (0.99, latency.p99_ms),
    ];
    for (quantile, found) in quantiles {
        let rank = ((quantile * sorted.len() as f64).ceil() as usize).max(1);
        let expect = sorted.get(rank - 1).map(|us| f64::from(*us) / 1_000.0);
        match (found, expect) {
            (None, None) => {}
            (Some(found), Some(expect)) => {
                assert!((found - expect).abs() <= 0.01 * expect + 0.001, "{found} {expect}");
                assert!(found <= latency.max_ms.unwrap());
            }
            other => panic!("{quantile}: {other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_window_equals_the_recount_in_any_order_of_arrival(raw in raw_events(250)) {
        let config = Config::new();
        let series = series_of(&raw);
        let reversed: Vec<Raw> = raw.iter().rev().copied().collect();
        let late = series_of(&reversed);
        for customer in 0..3_usize {
            let name = format!("c{customer}");
            let seen = raw.iter().any(|event| event.customer == customer);
            let answer = sla(&config.promise(), &name, &refs(&series), None, AT);
            prop_assert_eq!(answer.is_ok(), seen);
            let Ok(answer) = answer else { continue };
            let services: BTreeSet<usize> = raw
                .iter()
                .filter(|event| event.customer == customer)
                .map(|event| event.service)
                .collect();
            prop_assert_eq!(answer.services.len(), services.len());
            assert_sla(&answer, &raw, customer);
            let other = sla(&config.promise(), &name, &refs(&late), None, AT).unwrap();
            prop_assert_eq!(other, answer);
        }
    }

    #[test]
    fn steps_add_up_to_the_recount(
        raw in raw_events(250),
        before in 0..3_000_u32,
        step in 1..400_u32,
    ) {
        let series = series_of(&raw);
        let from = AT.minus(before);
        let answer = timeseries("", &refs(&series), from..=AT, step, AT).unwrap();
        prop_assert_eq!(answer.steps.len() as u32, before / step + 1);
        for (index, found) in (0..).zip(&answer.steps) {
            let first = from.0 + index * step;
            let last = (first + step - 1).min(AT.0);
            let mut sum = Measures::default();
            let within = raw.iter().filter(|event| (first..=last).contains(&event.minute.0));
            within.for_each(|event| sum.add(&event.measures()));
            prop_assert_eq!(&found.at, &Minute(first).to_string());
            let counts = (found.valid, found.bad, found.excluded);
            prop_assert_eq!(counts, (sum.valid, sum.bad, sum.excluded));
            prop_assert_eq!(found.availability.is_none(), sum.valid == 0);
            prop_assert_eq!(found.latency_mean_ms.is_none(), sum.timed == 0);
        }
    }

    #[test]
    fn those_hit_are_those_of_the_recount(raw in raw_events(250), length in 1..300_u32) {
        let config = Config::simple();
        let series = series_of(&raw);
        let first = AT.minus(length - 1);
        let rows: Vec<Row<'_>> = raw
            .iter()
            .map(|event| {
                let Counts { valid, bad, .. } = availability(event);
                let values = vec![["r0", "r1", "r2"][event.customer]];
                Row { minute: event.minute, service: "s", values, valid, bad }
            })
            .collect();
        let dimensions = Dimensions { names: &["release"], rows: &rows };
        let range = first..=AT;
        let answer =
            impact(&config.promise(), &refs(&series), &dimensions, &range, AT).unwrap();
        let within = |event: &&Raw| (first..=AT).contains(&event.minute);
        let count = |of: fn(&Measures) -> u64| -> u64 {
            raw.iter().filter(within).map(|event| of(&event.measures())).sum()
        };
        prop_assert_eq!((answer.valid, answer.bad), (count(|m| m.valid), count(|m| m.bad)));
        let failed = |event: &&Raw| within(event) && event.outcome == Outcome::Bad;
        let hit: BTreeSet<String> =
            raw.iter().filter(failed).map(|event| format!("c{}", event.customer)).collect();
        let found: BTreeSet<String> =
            answer.customers.iter().map(|customer| customer.customer.clone()).collect();
        prop_assert_eq!(&found, &hit);
        prop_assert_eq!(answer.customers_hit, hit.len() as u64);
        prop_assert!(answer.customers.is_sorted_by(|a, b| (b.bad, &a.customer) < (a.bad, &b.customer)));
        for customer in &answer.customers {
            let number: usize = customer.customer[1..].parse().unwrap();
            let own = || raw.iter().filter(|event| event.customer == number);
            let minutes = || own().filter(failed).map(|event| event.minute);
            let ends = (customer.first.clone(), customer.last.clone());
            let expect = (minutes().min().unwrap(), minutes().max().unwrap());
            prop_assert_eq!(ends, (expect.0.to_string(), expect.1.to_string()));
            prop_assert_eq!(customer.bad, minutes().count() as u64);
            let month = own().filter(|event| {
                (0..43_200).contains(&(i64::from(AT.0) - i64::from(event.minute.0)))
            });
            let valid: u64 = month.map(|event| event.measures().valid).sum();
            let consumed = customer.bad as f64 / (0.002 * valid as f64);
            prop_assert!((customer.budget_consumed.unwrap() - consumed).abs() < 1e-9 * consumed);
        }
    }

    #[test]
    fn pages_of_top_are_the_sorted_list_cut_up(
        raw in raw_events(120),
        limit in 1..6_usize,
        by in prop_oneof![Just(By::Burn), Just(By::Budget), Just(By::Bad), Just(By::Valid)],
    ) {
        let config = Config::new();
        let mut series = series_of(&raw);
        series.reverse();
        let page = |limit, cursor: Option<&str>| {
            let page = Page { by, at: AT, limit, cursor, burning: None };
            top(&config.promise(), &refs(&series), &page).unwrap()
        };
        let whole = page(1_000, None);
        prop_assert_eq!(whole.customers.len() as u64, whole.total);
        prop_assert_eq!(&whole.next, &None);
        assert_sorted(&whole, by);
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let next = page(limit, cursor.as_deref());
            prop_assert_eq!(next.total, whole.total);
            prop_assert!(next.customers.len() <= limit);
            rows.extend(next.customers);
            match next.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        prop_assert_eq!(rows, whole.customers);
    }
}

/// Never a better row before a worse one; among equals by name.
fn assert_sorted(answer: &Top, by: By) {
    for pair in answer.customers.windows(2) {
        let key = |row: &ninefold_engine::query::body::TopRow| match by {
            By::Burn => [row.burn_rate_1h.unwrap_or(-1.0), row.burn_rate_5m.unwrap_or(-1.0)],
            By::Budget => [-row.budget_left.unwrap_or(2.0), 0.0],
            By::Bad => [row.bad as f64, 0.0],
            By::Valid => [row.valid as f64, 0.0],
        };
        let names = |row: &ninefold_engine::query::body::TopRow| {
            (row.customer.clone(), row.service.clone(), row.objective.clone())
        };
        let (left, right) = (key(&pair[0]), key(&pair[1]));
        assert!(left > right || (left == right && names(&pair[0]) < names(&pair[1])), "{pair:?}");
    }
}

/// `length` minutes that end `ago` minutes before `AT`, each with these counts.
fn fill(series: &mut Series, ago: u32, length: u32, valid: u64, bad: u64) {
    for back in 0..length {
        let measures = Measures { valid, bad, ..Measures::default() };
        series.add(AT.minus(ago + back), &measures);
    }
}

fn steady(customer: &str) -> Series {
    let mut series = Series::new(Arc::from(customer), Arc::from("api"), 1);
    fill(&mut series, 0, 5 * 1_440, 100, 0);
    series
}

/// One steady customer, one with an outage 100 minutes ago, one burning now, one that burns
/// with too few events to tell.
fn incident() -> Vec<Series> {
    let mut over = steady("over");
    fill(&mut over, 100, 3, 0, 100);
    let mut now = steady("now");
    fill(&mut now, 0, 3, 0, 100);
    let mut few = Series::new(Arc::from("few"), Arc::from("api"), 1);
    fill(&mut few, 0, 1, 1, 1);
    vec![steady("steady"), over, now, few]
}

#[test]
fn what_burns_now_is_told_with_its_evidence() {
    let config = Config::simple();
    let answer = burn(&config.promise(), &refs(&incident()), AT);
    let rows: Vec<_> = answer
        .burning
        .iter()
        .map(|row| (row.customer.as_str(), row.tier.as_str(), row.state.as_str()))
        .collect();
    let few = ["page_1h", "page_6h", "rollout_5m", "ticket_1d", "ticket_3d"];
    let mut expect: Vec<_> = few.map(|tier| ("few", tier, "insufficient")).to_vec();
    // 300 bad of 144,000 in a day burn at 1.04, of 6 hours at 4.2, of an hour at 25.
    expect.extend([("now", "page_1h", "firing"), ("now", "rollout_5m", "firing")]);
    assert_eq!(rows, expect);
    let page = answer.burning.iter().find(|row| row.tier == "page_1h" && row.state == "firing");
    let page = page.unwrap();
    assert_eq!((page.long.window.as_str(), page.short.window.as_str()), ("1h", "5m"));
    assert_eq!((page.long.valid, page.long.bad, page.factor), (6_000, 300, 14.4));
    assert_eq!((page.short.valid, page.short.bad), (500, 300));
    assert_eq!(page.severity, "page");
}

#[test]
fn a_firing_alert_without_new_events_stays_in_what_burns() {
    let config = Config::simple();
    let mut series = Series::new(Arc::from("silent"), Arc::from("api"), 1);
    fill(&mut series, 20, 1_000, 100, 0);
    fill(&mut series, 20, 3, 0, 100);
    let answer = burn(&config.promise(), &[&series], AT);
    let rows: Vec<_> = answer.burning.iter().map(|row| (&*row.tier, &*row.state)).collect();
    // The short window of page_1h has been empty for a quarter of an hour: no data, no end.
    assert!(rows.contains(&("page_1h", "firing")), "{rows:?}");
    assert!(!rows.iter().any(|row| row.0 == "rollout_5m"), "stale after 5 minutes: {rows:?}");
}

#[test]
fn alerts_are_one_list_oldest_first_whatever_the_order_of_the_series() {
    let config = Config::simple();
    let mut series = incident();
    let all = AT.minus(50_000)..=AT;
    let answer = settled_alerts(&config.promise(), &refs(&series), &all, AT);
    series.reverse();
    assert_eq!(settled_alerts(&config.promise(), &refs(&series), &all, AT), answer);
    let told: Vec<_> = answer.alerts.iter().map(|a| (&*a.customer, &*a.tier, &*a.state)).collect();
    let over = |state| [("over", "rollout_5m", state), ("over", "page_1h", state)];
    let [fast, slow] = over("firing");
    assert_eq!(told[..2], [fast, slow], "in the same minute the faster tier comes first");
    assert_eq!(told[2..4], over("resolved"));
    assert_eq!(told[4..], [("now", "rollout_5m", "firing"), ("now", "page_1h", "firing")]);
    let first = &answer.alerts[0];
    assert_eq!((first.basis.as_str(), first.severity.as_str()), ("settled", "page"));
    assert!(first.at.ends_with(":59Z"), "the last second of the minute: {}", first.at);
    assert_eq!(first.id, answer.alerts.iter().find(|a| a.state == "resolved").unwrap().id);
    // A range cuts the answer and changes nothing in it.
    let late = settled_alerts(&config.promise(), &refs(&series), &(AT.minus(10)..=AT), AT);
    assert_eq!(late.alerts[..], answer.alerts[4..]);
    let early = AT.minus(50_000)..=AT.minus(50);
    let early = settled_alerts(&config.promise(), &refs(&series), &early, AT);
    assert_eq!(early.alerts[..], answer.alerts[..4]);
}

#[test]
fn the_worst_customers_carry_the_tiers_that_fire() {
    let config = Config::simple();
    let series = incident();
    let page = Page { by: By::Burn, at: AT, limit: 2, cursor: None, burning: None };
    let answer = top(&config.promise(), &refs(&series), &page).unwrap();
    let rows: Vec<_> = answer.customers.iter().map(|row| (&*row.customer, &row.firing)).collect();
    let fires = vec!["page_1h".to_owned(), "rollout_5m".to_owned()];
    assert_eq!(rows, [("few", &vec![]), ("now", &fires)]);
    assert_eq!((answer.total, answer.by.as_str()), (4, "burn"));
    // A live service says by its own ticks what fires.
    let burning = burn(&config.promise(), &refs(&series), AT).burning;
    let live = |burning| {
        let page = Page { burning: Some(burning), ..page };
        top(&config.promise(), &refs(&series), &page).unwrap()
    };
    assert_eq!(live(&burning), answer);
    assert_eq!(live(&[]).customers[1].firing, Vec::<String>::new());
}

#[test]
fn a_bad_release_is_the_cause_against_its_own_minutes_and_the_hour_before() {
    let config = Config::simple();
    let row = |ago: u32, release: &'static str, valid: u64, bad: u64| Row {
        minute: AT.minus(ago),
        service: "api",
        values: vec![release],
        valid,
        bad,
    };
    let mut rows = Vec::new();
    for ago in 0..75 {
        rows.push(row(ago, "r41", 1_000, 1));
        rows.push(row(ago, "r42", 100, if ago < 10 { 30 } else { 0 }));
    }
    // Older than the hour before: not looked at.
    rows.push(row(500, "r41", 1, 1));
    let dimensions = Dimensions { names: &["release"], rows: &rows };
    let answer = impact(&config.promise(), &[], &dimensions, &(AT.minus(9)..=AT), AT).unwrap();
    assert_eq!((answer.valid, answer.bad, answer.customers_hit), (11_000, 310, 0));
    let [cause] = &answer.causes[..] else { panic!("{:?}", answer.causes) };
    assert_eq!(cause.dimensions, BTreeMap::from([("release".to_owned(), "r42".to_owned())]));
    assert_eq!((cause.valid, cause.bad), (1_000, 300));
    // 300 less the 1 of 1,000 that the rest has. The rest fails as in the hour before, so that
    // there is no other excess.
    assert_eq!((cause.excess, cause.share_of_excess), (299.0, Some(1.0)));
    assert_eq!(cause.lift, Some(300.0));
    let backwards = impact(&config.promise(), &[], &dimensions, &(AT..=AT.minus(1)), AT);
    assert!(matches!(backwards, Err(AskError::Argument { field: "to", .. })));
}

#[test]
fn bad_limits_and_cursors_are_refused_by_name() {
    let config = Config::simple();
    let series = incident();
    let refusal = |limit, cursor| {
        let page = Page { by: By::Burn, at: AT, limit, cursor, burning: None };
        top(&config.promise(), &refs(&series), &page).unwrap_err()
    };
    for limit in [0, 1_001] {
        let error = refusal(limit, None);
        assert!(matches!(error, AskError::Argument { field: "limit", .. }), "{error}");
    }
    let error = refusal(1, Some("../../etc/passwd"));
    assert!(matches!(error, AskError::Argument { field: "cursor", .. }), "{error}");
    let unknown = sla(&config.promise(), "over", &refs(&series), Some("web"), AT).unwrap_err();
    assert!(matches!(unknown, AskError::Unknown { what: "service", .. }), "{unknown}");
}

#[test]
fn the_fleet_pools_all_series_and_counts_customers_once() {
    let config = Config::simple();
    let mut series = incident();
    let mut second = Series::new(Arc::from("now"), Arc::from("web"), 1);
    fill(&mut second, 1_000, 1, 10, 10);
    series.push(second);
    let mut gone = Series::new(Arc::from("gone"), Arc::from("api"), 1);
    fill(&mut gone, 43_200, 1, 10, 10);
    series.push(gone);
    series.sort_by(|a, b| a.customer.cmp(&b.customer));
    let burning = burn(&config.promise(), &refs(&series), AT).burning;
    let now_ms = AT.start_ms() + 61_500;
    let all = refs(&series);
    let everybody = Everybody { series: &all, pool: &all };
    let answer = fleet(&config.promise(), everybody, &burning, Vec::new(), AT, now_ms);
    assert_eq!((answer.customers, answer.customers_active), (4, 4));
    assert_eq!((answer.customers_burning, answer.customers_broken), (1, 2));
    assert_eq!(answer.age_s, 61);
    let hour = &answer.windows["1h"];
    assert_eq!((hour.valid, hour.bad), (3 * 6_000 + 1, 301));
    let month = &answer.windows["30d"];
    assert_eq!((month.valid, month.bad), (3 * 720_000 + 1 + 10, 611));
    assert_eq!(answer.minutes.len(), 60);
    let last = answer.minutes.last().unwrap();
    assert_eq!((last.valid, last.bad, last.at.clone()), (301, 101, AT.to_string()));
    assert_eq!(answer.worst[0].customer, "few");
    assert!(answer.alerts.iter().all(|row| row.state == "firing" && row.customer == "now"));
    assert_eq!(answer.alerts[0].tier, "rollout_5m", "the fastest burning first");
}

#[test]
fn a_top_of_many_series_is_selected_and_not_sorted() {
    let config = Config::simple();
    let series: Vec<Series> = (0..20_000_u32)
        .map(|number| {
            let mut series = Series::new(name("c", number as usize), Arc::from("api"), 1);
            let bad = u64::from(number.wrapping_mul(2_654_435_761) >> 22);
            series.add(AT, &Measures { valid: 10_000, bad, ..Measures::default() });
            series
        })
        .collect();
    let page = Page { by: By::Bad, at: AT, limit: 100, cursor: None, burning: None };
    let answer = top(&config.promise(), &refs(&series), &page).unwrap();
    let mut bad: Vec<u64> =
        series.iter().map(|series| series.cells.first().unwrap().measures.bad).collect();
    bad.sort_unstable_by(|a, b| b.cmp(a));
    let found: Vec<u64> = answer.customers.iter().map(|row| row.bad).collect();
    assert_eq!(found, bad[..100]);
    assert_eq!(answer.total, 20_000);
}
