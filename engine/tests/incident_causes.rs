//! Causes on generated traffic with a known truth: the first cause is what was planted.
//!
//! Rows are added up from the generated lines by hand, as the grain `dimension` has them, and
//! judged over the minutes of the incident, over all services (as `impact` does) or over one (as
//! an incident does).

use std::collections::BTreeMap;

use ninefold_engine::model::Counts;
use ninefold_engine::slo::excess::{Cause, Row, causes};
use ninefold_engine::synth::{self, generate};
use ninefold_engine::time::Minute;

const NAMES: [&str; 4] = ["release", "cohort", "region", "route"];

/// 2025-10-06T00:00:00Z.
const START_MS: i64 = 1_759_708_800_000;

/// The incidents begin here, an hour and a half after the data.
const FROM: u32 = 90;

/// Valid and bad by minute since the start, service and values.
type Cells = BTreeMap<(u32, String, [String; 4]), (u64, u64)>;

/// Two and a half hours of traffic with incidents.
fn cells(seed: u64, events: u64, incidents: &[&str]) -> Cells {
    let options = synth::Options {
        seed,
        events,
        customers: 2_000,
        days: 150.0 / 1_440.0,
        start_ms: START_MS,
        services: 4,
        error_ratio: 0.0005,
        incidents: incidents.iter().map(|text| text.parse().unwrap()).collect(),
        ..synth::Options::default()
    };
    let mut lines = Vec::new();
    generate(&options, &mut lines).unwrap();
    let mut cells = Cells::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: serde_json::Value = serde_json::from_slice(line).unwrap();
        let status = event["status"].as_u64().unwrap();
        if status == 0 {
            continue;
        }
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let minute = (event["ts"].as_i64().unwrap() - START_MS) / 60_000;
        let key = (minute as u32, text("service"), NAMES.map(text));
        let cell = cells.entry(key).or_default();
        *cell = (cell.0 + 1, cell.1 + u64::from(status >= 500));
    }
    cells
}

/// The causes of some minutes, of one service or of all.
fn found(cells: &Cells, minutes: std::ops::Range<u32>, service: Option<&str>) -> Vec<Cause> {
    let wanted = |of: &str| service.is_none_or(|service| service == of);
    let mut rows = Vec::new();
    let mut before: BTreeMap<&str, Counts> = BTreeMap::new();
    for ((minute, of, values), (valid, bad)) in cells.iter().filter(|cell| wanted(&cell.0.1)) {
        if minutes.contains(minute) {
            let values = values.iter().map(String::as_str).collect();
            let (valid, bad) = (*valid, *bad);
            rows.push(Row { minute: Minute(*minute), service: of, values, valid, bad });
        } else if (minutes.start.saturating_sub(60)..minutes.start).contains(minute) {
            let counts = Counts { valid: *valid, bad: *bad, excluded: 0 };
            before.entry(of).or_default().add(counts);
        }
    }
    causes(&NAMES, &rows, &before)
}

fn named(cause: &Cause) -> Vec<(&str, &str)> {
    cause.dimensions.iter().map(|(name, value)| (&**name, &**value)).collect()
}

fn share(cause: &Cause) -> f64 {
    cause.share_of_excess.unwrap()
}

#[test]
fn a_canary_release_is_the_first_cause_at_every_size_and_seed() {
    let incident = format!("release=r42,cohort=canary,from={FROM},minutes=20,rate=0.2");
    for (seed, events) in [(1, 20_000), (2, 60_000), (3, 150_000)] {
        let cells = cells(seed, events, &[&incident]);
        let found = found(&cells, FROM..FROM + 20, None);
        let first = &found[0];
        assert_eq!(named(first), [("cohort", "canary"), ("release", "r42")], "{seed} {events}");
        assert!(share(first) > 0.9 && first.p_value < 1e-6, "{seed} {events}: {first:?}");
    }
}

#[test]
fn where_only_the_pair_fails_the_pair_is_the_first_cause() {
    // Half of the canary runs r42, and so do three of ten others: neither is to blame alone.
    let incident = format!(
        "release=r42,cohort=canary,from={FROM},minutes=30,rate=0.3,share=0.5,elsewhere=0.3"
    );
    for seed in 1..=3 {
        let cells = cells(seed, 150_000, &[&incident]);
        let found = found(&cells, FROM..FROM + 30, None);
        assert_eq!(named(&found[0]), [("cohort", "canary"), ("release", "r42")], "{found:?}");
        assert!(share(&found[0]) > 0.9, "{found:?}");
    }
}

#[test]
fn two_incidents_in_two_services_have_their_own_causes() {
    let canary =
        format!("release=r42,cohort=canary,service=gateway,from={FROM},minutes=20,rate=0.3");
    let region = format!("region=eu-west-1,service=catalog,from={FROM},minutes=20,rate=0.2");
    for seed in 1..=3 {
        let cells = cells(seed, 150_000, &[&canary, &region]);
        let minutes = || FROM..FROM + 20;
        let gateway = found(&cells, minutes(), Some("gateway"));
        assert_eq!(named(&gateway[0]), [("cohort", "canary"), ("release", "r42")], "{gateway:?}");
        let catalog = found(&cells, minutes(), Some("catalog"));
        assert_eq!(named(&catalog[0]), [("region", "eu-west-1")], "{catalog:?}");
        assert!(share(&gateway[0]) > 0.9 && share(&catalog[0]) > 0.9);
        // A service beside them has none.
        assert_eq!(found(&cells, minutes(), Some("search")), []);
        // And over all services both are found.
        let all = found(&cells, minutes(), None);
        for part in [("release", "r42"), ("region", "eu-west-1")] {
            assert!(all.iter().take(2).any(|cause| named(cause).contains(&part)), "{all:?}");
        }
    }
}

#[test]
fn two_incidents_in_one_service_are_both_found() {
    let canary =
        format!("release=r42,cohort=canary,service=checkout,from={FROM},minutes=20,rate=0.4");
    let route =
        format!("route=POST /v1/payments,service=checkout,from={FROM},minutes=20,rate=0.15");
    for seed in 1..=3 {
        let cells = cells(seed, 200_000, &[&canary, &route]);
        let found = found(&cells, FROM..FROM + 20, Some("checkout"));
        let two: Vec<_> = found.iter().take(2).map(named).collect();
        assert!(two.contains(&vec![("cohort", "canary"), ("release", "r42")]), "{found:?}");
        assert!(two.contains(&vec![("route", "POST /v1/payments")]), "{found:?}");
        let shares: f64 = found.iter().take(2).map(share).sum();
        assert!((0.85..1.15).contains(&shares), "{found:?}");
    }
}

#[test]
fn small_numbers_have_no_cause() {
    // A service with a request a minute, of which two fail, and a quiet one.
    for seed in 1..=20 {
        let cells = cells(seed, 600, &[]);
        assert_eq!(found(&cells, FROM..FROM + 30, None), [], "seed {seed}");
    }
}
