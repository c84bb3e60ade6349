//! Synthetic data: the same bytes for the same options, the shape that the options ask for, and
//! a demo that tells its story.

#[path = "../../tests/common/recount.rs"]
mod recount;

use std::collections::{BTreeMap, BTreeSet};

use ninefold_engine::synth::demo::{Demo, INCIDENT_EVERY_MS, INCIDENT_LENGTH_MS};
use ninefold_engine::synth::{Format, Options, Tally, TimeForm, Truth, generate};
use recount::{Recount, Rules, TARGET, tiers};

/// 2026-11-24T21:05:12.345Z: within a minute, so that spans end inside one.
const NOW_MS: i64 = 1_795_554_312_345;

fn generated(options: &Options) -> (Vec<u8>, Truth) {
    let mut lines = Vec::new();
    let truth = generate(options, &mut lines).unwrap();
    (lines, truth)
}

/// A line of plain data, borrowed.
#[derive(serde::Deserialize)]
struct Line<'a> {
    ts: i64,
    customer: &'a str,
    service: &'a str,
    status: u16,
    #[serde(default)]
    release: &'a str,
    cohort: &'a str,
    #[serde(default = "one")]
    count: u64,
}

fn one() -> u64 {
    1
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap())
}

/// FNV-1a: enough to tell one file from another.
fn fingerprint(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn everything(seed: u64) -> Options {
    Options {
        seed,
        events: 20_000,
        customers: 200,
        disorder_s: 30.0,
        late_share: 0.02,
        weights: 0.1,
        broken: 0.03,
        ids: 0.2,
        duplicates: 0.02,
        hostile: true,
        incidents: vec![
            "release=r42,cohort=canary,service=checkout,from=12:00,minutes=60,rate=0.2,latency=2.5"
                .parse()
                .unwrap(),
            "region=eu-west-1,from=300,minutes=30,rate=0.5".parse().unwrap(),
        ],
        ..Options::default()
    }
}

#[test]
fn the_same_options_give_the_same_bytes_on_every_machine() {
    let plain = Options { events: 20_000, ..Options::default() };
    let check = |options: Options, expect: u64| {
        let (bytes, _) = generated(&options);
        assert_eq!(bytes, generated(&options).0);
        assert_eq!(fingerprint(&bytes), expect, "{options:?}");
    };
    check(plain.clone(), 0x2c54_421f_92da_139c);
    check(Options { time: TimeForm::Rfc3339, ..plain.clone() }, 0xd4b1_3484_d6b2_4883);
    check(Options { format: Format::Combined, ..plain }, 0xe412_b834_a8ea_84d7);
    check(everything(1), 0xc1c7_958d_cfd7_d541);
}

#[test]
fn seeds_differ() {
    assert_ne!(generated(&everything(1)).0, generated(&everything(2)).0);
}

#[test]
fn plain_data_is_in_time_order_but_for_its_disorder() {
    let check = |disorder_s: f64, late_share: f64, least_ms: i64, most_ms: i64| {
        let options = Options { events: 20_000, disorder_s, late_share, ..Options::default() };
        let (mut newest, mut lag_ms) = (i64::MIN, 0);
        let (bytes, _) = generated(&options);
        for line in lines(&bytes) {
            newest = newest.max(line.ts);
            lag_ms = lag_ms.max(newest - line.ts);
        }
        assert!((least_ms..=most_ms).contains(&lag_ms), "{lag_ms}");
    };
    check(0.0, 0.0, 0, 0);
    check(30.0, 0.0, 25_000, 30_000);
    // 1 in 20 up to a third of the day.
    check(30.0, 0.05, 7 * 3_600_000, 8 * 3_600_000 + 1);
}

#[test]
fn customers_follow_zipf_and_keep_their_cohort() {
    let options = Options { events: 50_000, customers: 100, zipf: 1.0, ..Options::default() };
    let (bytes, truth) = generated(&options);
    let mut cohorts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in lines(&bytes) {
        cohorts.entry(line.customer).or_default().insert(line.cohort);
    }
    assert!(cohorts.values().all(|cohorts| cohorts.len() == 1));
    let requests = |tally: &Tally| tally.valid + tally.excluded;
    let mut sizes: Vec<u64> = truth.customers.values().map(requests).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(sizes.iter().sum::<u64>(), 50_000);
    // The harmonic number of 100 is 5.19: 9,639 for the first, 964 for the tenth.
    assert!((9_300..10_000).contains(&sizes[0]), "{}", sizes[0]);
    assert!((850..1_100).contains(&sizes[9]), "{}", sizes[9]);
}

/// Bad and valid events by (release, cohort) on checkout in the hour from `from_ms` on.
fn by_pair(bytes: &[u8], from_ms: i64) -> BTreeMap<(String, String), (u64, u64)> {
    let mut pairs: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for line in lines(bytes) {
        let lasts = (from_ms..from_ms + 3_600_000).contains(&line.ts);
        if lasts && line.service == "checkout" && line.status != 0 {
            let pair = pairs.entry((line.release.into(), line.cohort.into())).or_default();
            pair.0 += u64::from(line.status >= 500);
            pair.1 += 1;
        }
    }
    pairs
}

#[test]
fn an_incident_can_lie_in_a_pair_of_which_neither_half_is_to_blame() {
    let incident = "release=r42,cohort=canary,service=checkout,from=2:00,minutes=60,rate=0.4,\
                    share=0.5,elsewhere=0.5";
    let options = Options {
        events: 200_000,
        customers: 500,
        days: 0.25,
        incidents: vec![incident.parse().unwrap()],
        ..Options::default()
    };
    let (bytes, truth) = generated(&options);
    let pairs = by_pair(&bytes, options.start_ms + 2 * 3_600_000);
    let ratio = |release: &str, cohort: &str| {
        let (bad, valid) = pairs[&(release.to_owned(), cohort.to_owned())];
        assert!(valid > 50, "{release} {cohort}: {valid}");
        bad as f64 / valid as f64
    };
    assert!((0.25..0.55).contains(&ratio("r42", "canary")), "{pairs:?}");
    for (release, cohort) in [("r41", "canary"), ("r42", "stable"), ("r41", "stable")] {
        assert!(ratio(release, cohort) < 0.02, "{pairs:?}");
    }
    let hit = &truth.incidents[0];
    assert_eq!((hit.bad, hit.valid), pairs[&("r42".to_owned(), "canary".to_owned())]);
    assert_eq!(hit.from, "2025-12-01T02:00:00Z");
    let in_lines: BTreeSet<&str> = lines(&bytes)
        .filter(|line| line.release == "r42" && line.cohort == "canary" && line.status >= 500)
        .filter(|line| line.service == "checkout")
        .map(|line| line.customer)
        .collect();
    assert_eq!(hit.customers_hit.iter().map(String::as_str).collect::<BTreeSet<_>>(), in_lines);
}

#[test]
fn a_release_of_an_incident_runs_for_those_alone_whom_it_hits() {
    let incident = "release=r42,cohort=canary,service=checkout,from=12:00,minutes=60,rate=0.4";
    let options = Options {
        events: 100_000,
        customers: 500,
        incidents: vec![incident.parse().unwrap()],
        ..Options::default()
    };
    let (bytes, _) = generated(&options);
    for line in lines(&bytes).filter(|line| line.release == "r42") {
        assert_eq!((line.cohort, line.service), ("canary", "checkout"));
    }
}

#[test]
fn hostile_data_has_every_name_and_every_kind_of_broken_line() {
    let (bytes, truth) = generated(&everything(3));
    for name in ["../../etc/passwd", "=1+1", "<script>alert(1)</script>", "two\nlines"] {
        assert!(truth.customers.contains_key(name), "{name}");
    }
    assert!(truth.customers.contains_key(&"x".repeat(200)));
    assert_eq!(truth.dead_by_kind.len(), 26);
    assert_eq!(truth.dead_by_kind.values().sum::<u64>(), truth.dead);
    assert!(truth.blank > 0 && truth.invalid_latency > 0 && truth.duplicate > 0);
    let found = Recount::of(&bytes, Rules { dedupe_bytes: 1 << 20, ..Rules::default() });
    let counts = (found.read, found.counted, found.duplicate, found.dead);
    assert_eq!(counts, (20_000, truth.counted, truth.duplicate, truth.dead));
    let names: Vec<&str> = found.customers();
    assert_eq!(names, truth.customers.keys().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn combined_lines_hold_the_truth() {
    let format = Format::Combined;
    let options = Options { events: 10_000, format, broken: 0.02, ..Options::default() };
    let (bytes, truth) = generated(&options);
    let mut found: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut dead = 0;
    for line in std::str::from_utf8(&bytes).unwrap().lines() {
        match combined_status(line) {
            Some(status) => {
                let tally = found.entry(line.split(' ').next().unwrap()).or_default();
                tally.valid += 1;
                tally.bad += u64::from(status >= 500);
            }
            None => dead += 1,
        }
    }
    assert_eq!(dead, truth.dead);
    let found: BTreeMap<String, Tally> =
        found.into_iter().map(|(customer, tally)| (customer.to_owned(), tally)).collect();
    assert_eq!(found, truth.customers);
    assert!(bytes.starts_with(b"10.0."), "{}", String::from_utf8_lossy(&bytes[..80]));
}

/// The status of `host - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 …`.
fn combined_status(line: &str) -> Option<u16> {
    let (before, after) = line.split_once('[')?;
    let (time, after) = after.split_once("] \"")?;
    let (_, after) = after.split_once("\" ")?;
    let is_time = time.len() == 26 && time.ends_with(" +0000") && !time.contains("Nil");
    (before.ends_with(" - - ") && is_time).then(|| after.split(' ').next()?.parse().ok())?
}

#[test]
fn options_out_of_range_are_named() {
    let check = |options: Options, expect: &str| {
        assert_eq!(options.check().unwrap_err().to_string(), expect);
        let error = generate(&options, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    };
    let options = Options::default();
    let incident = |text: &str| {
        let incidents = vec![text.parse().unwrap()];
        Options { incidents, customers: 10, ..Options::default() }
    };
    check(
        Options { broken: 1.5, ..options.clone() },
        "broken: 1.5 cannot be used; it takes a ratio from 0 to 1",
    );
    check(
        Options { days: f64::NAN, ..options.clone() },
        "days: NaN cannot be used; it takes 0.001 to 36,500",
    );
    check(
        Options { start_ms: 0, ..options.clone() },
        "start_ms: 0 cannot be used; it takes a span within the years 2000 to 2100",
    );
    check(Options { customers: 0, ..options }, "customers: 0 cannot be used; it takes at least 1");
    check(
        incident("cohort=gold,rate=1"),
        "cohort: \"gold\" is not in the data; it takes canary, beta, stable",
    );
    check(
        incident("customer=acme,rate=1"),
        "customer: \"acme\" is not in the data; it takes such as \"cust_0000000\"",
    );
    check(
        incident("service=search,route=POST /v1/orders,rate=1"),
        "route: \"POST /v1/orders\" is not in the data; it takes a route of the service named \
         beside it",
    );
}

fn demo() -> Demo {
    let mut demo = Demo::new(1, NOW_MS);
    demo.incident_from_ms = Some(NOW_MS + 20_000);
    demo
}

#[test]
fn the_past_meets_the_live_stream_without_gap_or_overlap() {
    let mut demo = demo();
    demo.history_minutes = 120;
    let (mut past, mut live) = (Vec::new(), Vec::new());
    let past_lines = demo.history(&mut past).unwrap();
    let live_lines = demo.live(NOW_MS - 60_000, NOW_MS + 20_000, &mut live).unwrap();
    assert_eq!(lines(&past).count() as u64, past_lines);
    assert_eq!(lines(&live).count() as u64, live_lines);
    let first_ms = demo.history_from_ms();
    assert!(lines(&past).all(|line| (first_ms..NOW_MS).contains(&line.ts)));
    assert!(lines(&live).all(|line| (NOW_MS..NOW_MS + 20_000).contains(&line.ts)));
    // The last two whole minutes and the first 20 s run at the same rate.
    let count = |bytes, from_ms, to_ms| -> f64 {
        let inside = lines(bytes).filter(|line| (from_ms..to_ms).contains(&line.ts));
        inside.map(|line| line.count).sum::<u64>() as f64
    };
    let minute_ms = NOW_MS - NOW_MS % 60_000;
    let before = count(&past, minute_ms - 120_000, minute_ms) / 120.0;
    let partial = count(&past, minute_ms, NOW_MS) / ((NOW_MS - minute_ms) as f64 / 1_000.0);
    let after = count(&live, NOW_MS, NOW_MS + 20_000) / 20.0;
    assert!((partial / before - 1.0).abs() < 0.1, "{before} {partial}");
    assert!((after / before - 1.0).abs() < 0.1, "{before} {after}");
}

#[test]
fn live_slices_of_any_length_give_the_same_stream() {
    let demo = demo();
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    demo.live(NOW_MS, NOW_MS + 30_000, &mut whole).unwrap();
    let mut from_ms = NOW_MS;
    for step_ms in [1, 250, 749, 1_000, 5_000, 333].into_iter().cycle() {
        let to_ms = (from_ms + step_ms).min(NOW_MS + 30_000);
        demo.live(from_ms, to_ms, &mut parts).unwrap();
        from_ms = to_ms;
        if from_ms == NOW_MS + 30_000 {
            break;
        }
    }
    assert!(whole == parts);
}

#[test]
fn the_bad_release_fails_for_the_canaries_of_checkout_alone_and_comes_back() {
    let demo = demo();
    let mut bytes = Vec::new();
    let from_ms = NOW_MS + 20_000;
    demo.live(NOW_MS, from_ms + INCIDENT_LENGTH_MS + 60_000, &mut bytes).unwrap();
    let mut customers = BTreeSet::new();
    let (mut bad, mut valid) = (0, 0);
    for line in lines(&bytes) {
        let lasts = (from_ms..from_ms + INCIDENT_LENGTH_MS).contains(&line.ts);
        let is_hit = lasts && line.cohort == "canary" && line.service == "checkout";
        assert_eq!(line.release == "r42", is_hit, "{}", line.ts);
        if is_hit {
            customers.insert(line.customer);
            valid += 1;
            bad += u64::from(line.status >= 500);
        }
    }
    assert_eq!(customers.len(), 6);
    assert!((0.30..0.38).contains(&(bad as f64 / valid as f64)), "{bad} of {valid}");
    let again_ms = from_ms + INCIDENT_EVERY_MS;
    assert_eq!(demo.in_incident_ms(again_ms - 1), None);
    assert_eq!(demo.in_incident_ms(again_ms), Some(0));
    assert_eq!(demo.in_incident_ms(from_ms - 1), None);
}

#[test]
fn rollout_5m_fires_for_every_canary_within_about_a_minute() {
    for seed in 1..4 {
        // Any phase within a minute: the window is shortest just after a minute's start.
        for phase_s in [0, 17, 31, 59] {
            let now_ms = NOW_MS - NOW_MS % 60_000 + phase_s * 1_000;
            let mut demo = Demo::new(seed, now_ms);
            demo.history_minutes = 10;
            demo.incident_from_ms = Some(now_ms);
            let mut bytes = Vec::new();
            demo.history(&mut bytes).unwrap();
            demo.live(now_ms, now_ms + 60_000, &mut bytes).unwrap();
            let recount = Recount::of(&bytes, Rules::default());
            let last = recount.span().unwrap().1;
            let plan = (TARGET, &tiers(30, TARGET)[..1]);
            for customer in demo.customers().iter().filter(|who| who.cohort == "canary") {
                let found = recount.settled(&customer.name, "checkout", plan, last - 9, last);
                assert_eq!(found.len(), 1, "seed {seed} phase {phase_s} {}", customer.name);
            }
        }
    }
}

#[test]
fn the_past_tells_its_story() {
    let demo = demo();
    let mut bytes = Vec::new();
    let written = demo.history(&mut bytes).unwrap();
    assert!((1_000_000..1_600_000).contains(&written), "{written}");
    let mut by_customer: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for line in lines(&bytes).filter(|line| line.status != 0) {
        let (bad, valid) = by_customer.entry(line.customer).or_default();
        *valid += line.count;
        *bad += if line.status >= 500 { line.count } else { 0 };
    }
    assert_eq!(by_customer.len(), 100);
    let (bad, valid) =
        by_customer.values().fold((0, 0), |sum, (bad, valid)| (sum.0 + bad, sum.1 + valid));
    let error_ratio = bad as f64 / valid as f64;
    assert!((0.0003..0.0009).contains(&error_ratio), "{error_ratio}");
    let broken: Vec<&str> = by_customer
        .iter()
        .filter(|(_, (bad, valid))| bad * 1_000 > 2 * valid)
        .map(|(customer, _)| *customer)
        .collect();
    assert_eq!(broken.len(), 2, "{broken:?}");
}
