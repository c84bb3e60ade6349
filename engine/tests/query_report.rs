//! The monthly statement against an obvious recount of raw events, minute by minute; against the
//! facts of a real access log; and its texts against hostile names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use ninefold_engine::model::Measures;
use ninefold_engine::query::body::{Report, ReportCustomer, Uptime};
use ninefold_engine::query::{AskError, Promise};
use ninefold_engine::report::{Ask, CreditStep, csv, markdown, report, table};
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::decimal::Decimal;
use ninefold_engine::slo::objective::{Objective, Objectives, Slis};
use ninefold_engine::slo::period::Period;
use ninefold_engine::state::series::Series;
use ninefold_engine::time::{Minute, parse_rfc3339};
use proptest::prelude::*;

/// One raw event: customer and service by number, a minute, and what it was.
#[derive(Clone, Copy, Debug)]
struct Raw {
    customer: usize,
    service: usize,
    minute: Minute,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Good,
    Bad,
    Excluded,
}

fn minute(text: &str) -> Minute {
    Minute::of_ms(parse_rfc3339(text.as_bytes()).unwrap())
}

fn one(kind: Kind) -> Measures {
    Measures {
        valid: u64::from(kind != Kind::Excluded),
        bad: u64::from(kind == Kind::Bad),
        excluded: u64::from(kind == Kind::Excluded),
        ..Measures::default()
    }
}

/// The series of raw events, added one by one in the order given.
fn series(raw: &[Raw]) -> Vec<Series> {
    let mut series: BTreeMap<(usize, usize), Series> = BTreeMap::new();
    for event in raw {
        let name = |prefix: &str, number: usize| Arc::from(format!("{prefix}{number}"));
        let new = || Series::new(name("c", event.customer), name("s", event.service), 0);
        let series = series.entry((event.customer, event.service)).or_insert_with(new);
        series.add(event.minute, &one(event.kind));
    }
    series.into_values().collect()
}

/// A configuration that lives as long as a test.
struct Config {
    slis: Slis,
    objectives: Objectives,
    alerts: AlertOptions,
    credits: Vec<CreditStep>,
}

impl Config {
    fn new(target: &str) -> Config {
        let period = Period::Month("UTC".to_owned());
        let monthly = Objective::availability(decimal(target), period);
        Config {
            slis: Slis::default(),
            objectives: Objectives { default: vec![monthly], ..Objectives::default() },
            alerts: AlertOptions::default(),
            credits: Vec::new(),
        }
    }

    fn promise(&self) -> Promise<'_> {
        Promise {
            slis: &self.slis,
            objectives: &self.objectives,
            alerts: &self.alerts,
            credits: &self.credits,
            zone: "UTC",
        }
    }
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

fn ask(month: &str) -> Ask<'_> {
    Ask { month, zone: "UTC", customer: None, as_of: None, revision: 7, gaps: &[] }
}

fn state(config: &Config, series: &[Series], ask: &Ask<'_>) -> Report {
    let series: Vec<&Series> = series.iter().collect();
    report(&config.promise(), &series, ask).unwrap()
}

/// The recount: walks every minute of the span and looks at the raw events of each.
struct Recount {
    valid: u64,
    bad: u64,
    excluded: u64,
    time_slice: f64,
    interval_mean: f64,
    down_minutes: u64,
    idle_minutes: u64,
    episodes: Vec<(u32, u32, u64)>,
}

fn recount(raw: &[Raw], customer: usize, first: Minute, last: Minute, permille: u64) -> Recount {
    let of = |minute: u32, kind: Kind| {
        let same = |event: &&Raw| {
            event.customer == customer && event.minute.0 == minute && event.kind == kind
        };
        raw.iter().filter(same).count() as u64
    };
    let minutes: Vec<(u32, u64, u64, u64)> = (first.0..=last.0)
        .map(|m| (m, of(m, Kind::Good), of(m, Kind::Bad), of(m, Kind::Excluded)))
        .collect();
    let share = |good: u64, bad: u64| match good + bad {
        0 => 1.0,
        valid => good as f64 / valid as f64,
    };
    let up = minutes.iter().filter(|(_, good, bad, _)| share(*good, *bad) >= 0.95).count();
    let intervals: Vec<f64> = minutes
        .chunks(5)
        .map(|chunk| share(chunk.iter().map(|m| m.1).sum(), chunk.iter().map(|m| m.2).sum()))
        .collect();
    // Over the ratio where more than `permille` thousandths of the valid events are bad.
    let over: BTreeSet<u32> = minutes
        .iter()
        .filter(|(_, good, bad, _)| bad * 1_000 > permille * (good + bad))
        .map(|(minute, ..)| *minute)
        .collect();
    let mut episodes: Vec<(u32, u32, u64)> = Vec::new();
    for minute in over {
        match episodes.last_mut() {
            Some(episode) if minute - episode.1 <= 6 => episode.1 = minute,
            _ => episodes.push((minute, minute, 0)),
        }
    }
    for (from, to, bad) in &mut episodes {
        *bad = (*from..=*to).map(|minute| of(minute, Kind::Bad)).sum();
    }
    Recount {
        valid: minutes.iter().map(|m| m.1 + m.2).sum(),
        bad: minutes.iter().map(|m| m.2).sum(),
        excluded: minutes.iter().map(|m| m.3).sum(),
        time_slice: up as f64 / minutes.len() as f64,
        interval_mean: intervals.iter().sum::<f64>() / intervals.len() as f64,
        down_minutes: minutes.iter().filter(|m| m.1 == 0 && m.2 > 0).count() as u64,
        idle_minutes: minutes.iter().filter(|m| m.1 + m.2 == 0).count() as u64,
        episodes,
    }
}

fn assert_equals_recount(stated: &ReportCustomer, expected: &Recount) {
    let counts = (stated.valid, stated.bad, stated.excluded);
    assert_eq!(counts, (expected.valid, expected.bad, expected.excluded));
    let minutes = (stated.down_minutes, stated.idle_minutes);
    assert_eq!(minutes, (expected.down_minutes, expected.idle_minutes));
    // Of a month without anything valid there is no uptime.
    let near = |stated: Option<f64>, of_minutes: f64| match stated {
        Some(stated) => expected.valid > 0 && (stated - of_minutes).abs() < 1e-12,
        None => expected.valid == 0,
    };
    assert!(near(stated.uptime.time_slice, expected.time_slice), "{:?}", stated.uptime);
    assert!(near(stated.uptime.interval_mean, expected.interval_mean), "{:?}", stated.uptime);
    let text = |minute: u32| Minute(minute).to_string();
    let episodes: Vec<_> =
        stated.episodes.iter().map(|e| (e.from.clone(), e.to.clone(), e.bad)).collect();
    let expected_episodes: Vec<_> =
        expected.episodes.iter().map(|(from, to, bad)| (text(*from), text(*to), *bad)).collect();
    assert_eq!(episodes, expected_episodes);
}

fn raw_events(first: Minute, minutes: u32) -> impl Strategy<Value = Vec<Raw>> {
    let kind = prop_oneof![6 => Just(Kind::Good), 2 => Just(Kind::Bad), 1 => Just(Kind::Excluded)];
    // Some events lie before and after the month: they are not to be counted.
    let minute = (first.0 - 5..first.0 + minutes).prop_map(Minute);
    let raw = (0..3_usize, 0..3_usize, minute, kind)
        .prop_map(|(customer, service, minute, kind)| Raw { customer, service, minute, kind });
    prop::collection::vec(raw, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_statement_equals_the_recount_in_any_order_of_arrival(
        raw in raw_events(minute("2026-10-01T00:00:00Z"), 120),
        length in 1..140_u32,
        permille in prop_oneof![Just(2_u64), Just(100), Just(500)],
        seed in any::<u64>(),
    ) {
        let first = minute("2026-10-01T00:00:00Z");
        let last = Minute(first.0 + length - 1);
        let config = Config::new(&format!("0.{:03}", 1_000 - permille));
        let asked = Ask { as_of: Some(last), ..ask("2026-10") };
        let stated = state(&config, &series(&raw), &asked);

        let mut shuffled = raw.clone();
        let mut random = seed | 1;
        for at in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (random >> 33) as usize % (at + 1));
        }
        let mut backwards = series(&shuffled);
        backwards.reverse();
        prop_assert_eq!(&state(&config, &backwards, &asked), &stated);

        let active = |customer: usize| raw.iter().any(|event| {
            event.customer == customer && (first..=last).contains(&event.minute)
        });
        let expected: Vec<usize> = (0..3).filter(|customer| active(*customer)).collect();
        prop_assert_eq!(stated.customers.len(), expected.len());
        for (stated, customer) in stated.customers.iter().zip(expected) {
            prop_assert_eq!(&stated.customer, &format!("c{customer}"));
            assert_equals_recount(stated, &recount(&raw, customer, first, last, permille));
        }
    }
}

/// Measures of `valid` events of which `bad` failed.
fn measures(valid: u64, bad: u64) -> Measures {
    Measures { valid, bad, ..Measures::default() }
}

fn one_series(cells: &[(Minute, u64, u64)]) -> Vec<Series> {
    let mut series = Series::new(Arc::from("acme"), Arc::from("api"), 0);
    for (minute, valid, bad) in cells {
        series.add(*minute, &measures(*valid, *bad));
    }
    vec![series]
}

#[test]
fn episodes_join_over_gaps_of_five_minutes_and_not_of_six() {
    let start = minute("2026-10-05T00:00:00Z");
    let check = |good_between: u32, episodes: usize| {
        let at = |offset: u32| Minute(start.0 + offset);
        let mut cells = vec![(at(0), 10, 5)];
        cells.extend((1..=good_between).map(|offset| (at(offset), 1_000, 1)));
        cells.push((at(good_between + 1), 10, 5));
        let asked = Ask { as_of: Some(at(60)), ..ask("2026-10") };
        let stated = state(&Config::new("0.998"), &one_series(&cells), &asked);
        let bad: u64 = stated.customers[0].episodes.iter().map(|episode| episode.bad).sum();
        assert_eq!(stated.customers[0].episodes.len(), episodes, "{good_between}");
        // The failures within the ratio that lie between joined runs belong to the episode.
        assert_eq!(bad, 10 + if episodes == 1 { u64::from(good_between) } else { 0 });
    };
    check(0, 1);
    check(5, 1);
    check(6, 2);
}

#[test]
fn a_credit_is_owed_below_a_rung_and_not_at_it() {
    let mut config = Config::new("0.998");
    let rung = |below: &str, percent: f64| CreditStep { below: decimal(below), percent };
    let at = minute("2026-10-05T00:00:00Z");
    let credit = |config: &Config, valid: u64, bad: u64| {
        let asked = Ask { as_of: Some(at), ..ask("2026-10") };
        let stated = state(config, &one_series(&[(at, valid, bad)]), &asked);
        stated.customers[0].credit_percent
    };
    assert_eq!(credit(&config, 10, 10), None);
    config.credits = vec![rung("0.999", 10.0), rung("0.95", 100.0), rung("0.99", 25.0)];
    assert_eq!(credit(&config, 1_000, 0), Some(0.0));
    assert_eq!(credit(&config, 1_000, 1), Some(0.0), "equal is not below");
    assert_eq!(credit(&config, 1_000_000_000, 1_000_001), Some(10.0), "unrounded");
    assert_eq!(credit(&config, 100, 1), Some(10.0));
    assert_eq!(credit(&config, 1_000, 11), Some(25.0));
    assert_eq!(credit(&config, 1_000, 51), Some(100.0));
    assert_eq!(credit(&config, 0, 0), Some(0.0), "nothing was valid, so nothing is owed");
}

#[test]
fn a_running_month_is_judged_until_as_of_only() {
    let first = minute("2026-10-01T00:00:00Z");
    let series = one_series(&[(first, 10, 10), (Minute(first.0 + 9), 10, 0)]);
    let config = Config::new("0.998");
    let at = |as_of: &str| {
        state(&config, &series, &Ask { as_of: Some(minute(as_of)), ..ask("2026-10") })
    };
    let running = at("2026-10-01T00:09:00Z");
    let customer = &running.customers[0];
    assert_eq!(running.as_of.as_deref(), Some("2026-10-01T00:09:00Z"));
    assert_eq!((customer.down_minutes, customer.idle_minutes), (1, 8));
    assert_eq!(customer.uptime.time_slice, Some(0.9));
    assert_eq!(customer.uptime.interval_mean, Some(0.5));
    let over = at("2026-12-24T00:00:00Z");
    assert_eq!(over.as_of.as_deref(), Some("2026-10-31T23:59:00Z"));
    assert_eq!(over.customers[0].idle_minutes, 31 * 1_440 - 2);
    let ahead = at("2026-09-30T23:59:00Z");
    assert_eq!((ahead.as_of, ahead.customers), (None, Vec::new()));
}

#[test]
fn a_month_of_a_zone_starts_at_its_own_midnight() {
    let config = Config::new("0.998");
    let series = one_series(&[
        (minute("2026-09-30T21:59:00Z"), 1, 1),
        (minute("2026-09-30T22:00:00Z"), 2, 0),
        (minute("2026-10-31T22:59:00Z"), 4, 0),
        (minute("2026-10-31T23:00:00Z"), 8, 8),
    ]);
    let asked = Ask {
        zone: "Europe/Berlin",
        as_of: Some(minute("2027-01-01T00:00:00Z")),
        ..ask("2026-10")
    };
    let stated = state(&config, &series, &asked);
    let customer = &stated.customers[0];
    assert_eq!((customer.valid, customer.bad), (6, 0));
    assert_eq!(customer.idle_minutes, (31 * 24 + 1) * 60 - 2, "the clocks went back");
}

#[test]
fn an_asked_customer_is_stated_even_if_idle_and_an_unknown_one_is_named() {
    let config = Config::new("0.998");
    let series = one_series(&[(minute("2026-09-01T00:00:00Z"), 10, 10)]);
    let as_of = Some(minute("2026-10-02T00:00:00Z"));
    let asked = Ask { customer: Some("acme"), as_of, ..ask("2026-10") };
    let stated = state(&config, &series, &asked);
    assert_eq!((stated.customers[0].met, stated.customers[0].idle_minutes), (None, 1_441));
    let nothing = Uptime { request: None, time_slice: None, interval_mean: None };
    assert_eq!(stated.customers[0].uptime, nothing, "nothing is up for want of traffic");
    assert!(state(&config, &series, &Ask { customer: None, ..asked }).customers.is_empty());
    let series: Vec<&Series> = series.iter().collect();
    let refusal = |asked: Ask<'_>| report(&config.promise(), &series, &asked).unwrap_err();
    let unknown = refusal(Ask { customer: Some("nobody"), ..asked });
    assert!(matches!(unknown, AskError::Unknown { what: "customer", .. }));
    let month = refusal(ask("2026-13"));
    assert!(matches!(month, AskError::Argument { field: "month", .. }), "{month}");
    let zone = refusal(Ask { zone: "../../etc/passwd", ..asked });
    assert!(matches!(zone, AskError::Argument { field: "tz", .. }), "{zone}");
}

/// The folder of files that others wrote; `None` where it is not there.
fn data() -> Option<PathBuf> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let default = workspace.join("../shared/data");
    let data = std::env::var_os("NINEFOLD_DATA").map_or(default, PathBuf::from);
    data.is_dir().then_some(data)
}

/// Client, minute and status of a line of a Combined log.
fn combined(line: &str) -> (&str, Minute, u16) {
    let (client, rest) = line.split_once(' ').unwrap();
    let time = &rest[rest.find('[').unwrap() + 1..][..20];
    assert_eq!(&time[3..6], "May", "the log is of one month");
    let iso = format!("{}-05-{}T{}Z", &time[7..11], &time[..2], &time[12..20]);
    let after_request = rest.split('"').nth(2).unwrap();
    let status = after_request.split_whitespace().next().unwrap().parse().unwrap();
    (client, minute(&iso), status)
}

#[test]
fn the_real_apache_log_breaks_the_promise_to_exactly_two_clients() {
    let Some(data) = data() else {
        println!("skipped: no test data; set NINEFOLD_DATA to its folder");
        return;
    };
    let packed = std::fs::File::open(data.join("weblogs/elastic-apache-combined.log.gz")).unwrap();
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    let mut by_client: BTreeMap<&str, Series> = BTreeMap::new();
    let mut newest = Minute(0);
    for line in text.lines() {
        let (client, minute, status) = combined(line);
        let new = || Series::new(Arc::from(client), Arc::from("default"), 0);
        let series = by_client.entry(client).or_insert_with(new);
        series.add(minute, &measures(1, u64::from(status >= 500)));
        newest = newest.max(minute);
    }
    let series: Vec<Series> = by_client.into_values().collect();
    let config = Config::new("0.998");
    let stated = state(&config, &series, &Ask { as_of: Some(newest), ..ask("2015-05") });
    assert_eq!(stated.customers.len(), 1_753);
    assert_eq!(stated.customers.iter().map(|customer| customer.valid).sum::<u64>(), 10_000);
    let broken: Vec<(&str, u64, u64)> = stated
        .customers
        .iter()
        .filter(|customer| customer.met == Some(false))
        .map(|customer| (customer.customer.as_str(), customer.valid, customer.bad))
        .collect();
    assert_eq!(broken, [("64.131.102.243", 8, 1), ("66.249.73.135", 482, 2)]);
    let consumed = stated.customers.iter().find(|c| c.customer == "66.249.73.135").unwrap();
    assert!((consumed.budget_consumed.unwrap() - 2.0747).abs() < 1e-4);
    assert_eq!(stated.customers.iter().filter(|c| c.met == Some(true)).count(), 1_751);
    let first = table(&stated).lines().nth(3).unwrap().to_owned();
    assert!(first.starts_with("64.131.102.243  "), "the worst first: {first}");
}

/// Names that attack what they are printed in.
fn hostile() -> Vec<String> {
    let mut names: Vec<String> = [
        "../../etc/passwd",
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "<script>alert(1)</script>",
        "new\nline",
        "car\r\nriage",
        "\"quoted\",comma",
        "a|b|c",
        "`code`",
        "[x](javascript:alert)",
        "\u{1b}[2J\u{7}",
        "\u{202e}evil",
        "\u{0}",
        " ",
        "'quote",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("n".repeat(200));
    names
}

fn hostile_report() -> Report {
    let at = minute("2026-10-05T00:00:00Z");
    let series: Vec<Series> = hostile()
        .iter()
        .map(|name| {
            let mut series = Series::new(Arc::from(name.as_str()), Arc::from("api"), 0);
            series.add(at, &measures(10, 1));
            series
        })
        .collect();
    state(&Config::new("0.998"), &series, &Ask { as_of: Some(at), ..ask("2026-10") })
}

#[test]
fn hostile_names_stay_one_csv_record_each_and_are_no_formulas() {
    let report = hostile_report();
    let text = csv(&report);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap().get(4), Some("customer"));
    let records: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), hostile().len());
    for (record, customer) in records.iter().zip(&report.customers) {
        let field = &record[4];
        assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r']), "{field:?}");
        let kept = field == customer.customer || field[1..] == customer.customer;
        assert!(kept, "{field:?} {:?}", customer.customer);
        assert_eq!((&record[5], &record[6], &record[10]), ("10", "1", "false"));
    }
}

#[test]
fn hostile_names_stay_one_line_and_no_command_on_a_terminal() {
    let text = table(&hostile_report());
    assert_eq!(text.lines().count(), 3 + hostile().len());
    let visible = |char: char| char == '\n' || (!char.is_control() && char != '\u{202e}');
    assert!(text.chars().all(visible));
    let width = text.lines().skip(2).map(|line| line.chars().count()).max().unwrap();
    assert!(width < 250, "a long name is cut: {width}");
}

#[test]
fn hostile_names_stay_one_row_and_no_markup_in_markdown() {
    let text = markdown(&hostile_report());
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    let episodes = hostile().len();
    assert_eq!(rows.len(), 2 + hostile().len() + 2 + episodes);
    assert!(!text.contains('<'));
    for row in &rows[2..2 + hostile().len()] {
        let escaped = ["\\\\", "\\|", "\\`", "\\[", "\\]"];
        let bare = escaped.iter().fold((*row).to_owned(), |row, escape| row.replace(escape, ""));
        assert_eq!(bare.matches('|').count(), 15, "{row}");
        assert!(!bare.contains(['`', '[', ']']), "{row}");
    }
}
