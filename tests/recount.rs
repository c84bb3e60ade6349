//! The oracle is checked on literals, and against the truth of synthetic data.

#[path = "common/recount.rs"]
mod recount;

use ninefold_engine::synth::{Options, Tally, TimeForm, Truth, generate};
use recount::{Counts, Recount, Rules, TARGET, binomial_tail, event, month_span, tiers};

const LINE: &str = r#"{"ts":"2026-11-01T00:00:00.123Z","customer":"acme","status":200}"#;

#[test]
fn a_line_is_counted_or_dead_by_the_rules_of_the_design() {
    let check = |from: &str, to: &str, expect: Result<&str, ()>| {
        assert!(LINE.contains(from), "{from}");
        let line = LINE.replace(from, to);
        let found = event(line.as_bytes());
        assert_eq!(found.as_ref().map(|event| event.outcome).map_err(|_| ()), expect, "{line}");
    };
    check("200", "200", Ok("good"));
    check("200", "499", Ok("good"));
    check("200", "500", Ok("bad"));
    check("200", "599", Ok("bad"));
    check("200", "0", Ok("excluded"));
    check("200", "600", Err(()));
    check("200", "99", Err(()));
    check("200", "null", Err(()));
    check("200", "\"200\"", Err(()));
    check("200", "200,\"status\":200", Err(()));
    check("200", "200,\"other\":1,\"other\":2", Ok("good"));
    check("200", "200,\"outcome\":\"bad\"", Ok("bad"));
    check("200", "500,\"outcome\":\"good\"", Ok("good"));
    check("\"status\":200", "\"outcome\":\"excluded\"", Ok("excluded"));
    check("200", "200,\"outcome\":\"fine\"", Err(()));
    check("200", "200,\"count\":1000000", Ok("good"));
    check("200", "200,\"count\":1000001", Err(()));
    check("200", "200,\"count\":0", Err(()));
    check("200", "200,\"latency_ms\":\"5\"", Err(()));
    check("200", "200,\"service\":5", Err(()));
    check("\"acme\"", "\"\"", Err(()));
    check("\"acme\"", "null", Err(()));
    check("acme", &"x".repeat(256), Ok("good"));
    check("acme", &"x".repeat(257), Err(()));
    check("\"2026-11-01T00:00:00.123Z\"", "1793491200123", Ok("good"));
    check("\"2026-11-01T00:00:00.123Z\"", "946684799999", Err(()));
    check("2026-11-01T00:00:00.123Z", "2100-12-31T23:59:59Z", Ok("good"));
    check("2026-11-01T00:00:00.123Z", "2101-01-01T00:00:00Z", Err(()));
    check("2026-11-01T00:00:00.123Z", "2026-11-31T00:00:00Z", Err(()));
    check("}", "", Err(()));
    check("}", "}x", Err(()));
}

#[test]
fn times_and_latencies_are_read_to_the_unit() {
    let read = |ts: &str, more: &str| {
        let line = LINE.replace("\"2026-11-01T00:00:00.123Z\"", ts).replace("200}", more);
        event(line.as_bytes()).expect(&line)
    };
    for ts in [
        "1793491200123",
        "\"2026-11-01T00:00:00.1239Z\"",
        "\"2026-11-01t05:30:00.123+05:30\"",
        "\"2026-10-31 23:00:00.123-01:00\"",
    ] {
        assert_eq!(read(ts, "200}").ts_ms, 1_793_491_200_123, "{ts}");
    }
    for (field, expect, invalid) in [
        ("\"latency_ms\":12.5", Some(12_500), false),
        ("\"latency_us\":0", Some(0), false),
        ("\"latency_us\":3600000000", Some(3_600_000_000), false),
        ("\"latency_us\":3600000001", None, true),
        ("\"latency_ms\":-0.001", None, true),
        ("\"latency_ms\":null", None, false),
    ] {
        let event = read("1793491200123", &format!("200,{field}}}"));
        assert_eq!((event.latency_us, event.invalid_latency), (expect, invalid), "{field}");
    }
}

#[test]
fn counts_windows_and_months_are_sums_over_minutes() {
    let line = |minute: u32, status: u16, count: u64| {
        let ts_ms = u64::from(minute) * 60_000 + 59_999;
        format!(
            "{{\"ts\":{ts_ms},\"customer\":\"acme\",\"service\":\"s\",\"status\":{status},\
             \"count\":{count},\"latency_us\":2000000}}\n"
        )
    };
    let (first, next) = month_span(2026, 11);
    assert_eq!((first, next - first), (29_891_520, 30 * 1_440));
    // 100 good ones, a minute all bad, a joined gap of 5 minutes, an episode of its own.
    let lines = [
        line(first, 200, 100),
        line(first + 10, 500, 3),
        line(first + 16, 503, 1),
        line(first + 16, 200, 1),
        line(first + 23, 500, 2),
        line(first + 23, 0, 7),
    ];
    let recount = Recount::of(lines.concat().as_bytes(), Rules::default());
    assert_eq!((recount.read, recount.counted), (6, 6));
    let expect = Counts {
        valid: 4,
        bad: 3,
        timed: 1,
        slow: 1,
        latency_sum_us: 2_000_000,
        latency_max_us: 2_000_000,
        excluded: 0,
    };
    let at_16 = recount.window("acme", "s", 7, first + 16);
    assert_eq!(at_16, Counts { valid: 5, bad: 4, ..expect });
    assert_eq!(recount.window("acme", "s", 6, first + 16), Counts { valid: 2, bad: 1, ..expect });
    let month = recount.month("acme", TARGET, first, next);
    assert_eq!((month.valid, month.bad, month.excluded), (107, 6, 7));
    assert_eq!(month.met, Some(false));
    assert_eq!(month.down_minutes, 2);
    assert_eq!(month.idle_minutes, 30 * 1_440 - 4);
    assert_eq!(month.time_slice, 1.0 - 3.0 / 43_200.0);
    // Intervals: minutes 10 to 14 all bad, 15 to 19 half bad, 20 to 24 all bad.
    assert!((month.interval_mean - (1.0 - 2.5 / 8_640.0)).abs() < 1e-12);
    assert_eq!(month.episodes, [(first + 10, first + 16, 4), (first + 23, first + 23, 2)]);
}

#[test]
fn default_tiers_have_the_factors_of_the_workbook() {
    let factors = |days| -> Vec<(&str, f64)> {
        let factor = |tier: &recount::Tier| tier.factor.0 as f64 / tier.factor.1 as f64;
        tiers(days, TARGET).iter().map(|tier| (tier.name, factor(tier))).collect()
    };
    let days_30 = [
        ("rollout_5m", 50.0),
        ("page_1h", 14.4),
        ("page_6h", 6.0),
        ("ticket_1d", 3.0),
        ("ticket_3d", 1.0),
    ];
    assert_eq!(factors(30), days_30);
    // At 7 days the factor of ticket_3d would be 0.23 and that of ticket_1d 0.7.
    assert_eq!(factors(7), [("rollout_5m", 50.0), ("page_1h", 3.36), ("page_6h", 1.4)]);
}

#[test]
fn the_binomial_tail_is_that_of_the_textbook() {
    let check = |bad, valid, p, expect: f64| {
        let found = binomial_tail(bad, valid, p);
        assert!((found / expect - 1.0).abs() < 1e-9, "{bad} of {valid}: {found}");
    };
    check(1, 1, 0.002, 0.002);
    check(3, 3, 0.002, 8e-9);
    check(2, 3, 0.5, 0.5);
    check(8, 10, 0.5, 56.0 / 1_024.0);
    check(
        3,
        100,
        0.002,
        1.0 - 0.998_f64.powi(100)
            - 100.0 * 0.002 * 0.998_f64.powi(99)
            - 4_950.0 * 0.000_004 * 0.998_f64.powi(98),
    );
}

/// Minutes of steady traffic: how many, and bad ones among 100 a minute.
fn series(spans: &[(u32, u64)]) -> (Recount, u32) {
    let first = month_span(2026, 11).0;
    let mut recount = Recount::default();
    let mut minute = first;
    for (minutes, bad) in spans {
        for _ in 0..*minutes {
            let counts = Counts { valid: 100, bad: *bad, ..Counts::default() };
            recount.minutes.insert(("acme".into(), "s".into(), minute), counts);
            minute += 1;
        }
    }
    (recount, first)
}

fn settled(spans: &[(u32, u64)]) -> Vec<(u32, &'static str, &'static str)> {
    let (recount, first) = series(spans);
    let last = recount.span().expect("there are minutes").1;
    recount
        .settled("acme", "s", (TARGET, &tiers(30, TARGET)), first, last)
        .iter()
        .map(|transition| (transition.minute - first, transition.tier, transition.state))
        .collect()
}

#[test]
fn an_outage_after_three_good_days_pages_and_files_no_ticket() {
    let day = 1_440;
    let fired: Vec<(u32, &str)> = settled(&[(3 * day, 0), (3, 100), (20, 10), (400, 0)])
        .into_iter()
        .filter(|(_, _, state)| *state == "firing")
        .map(|(minute, tier, _)| (minute, tier))
        .collect();
    // rollout_5m: 100 of 500 in the first minute is 20%. page_1h: 2.88% of 6,000 is 172.8, so
    // the second minute. page_6h: 1.2% of 36,000 is 432 = 300 + 14 minutes of 10, minutes
    // 3 to 16. The tickets ask for 864 of a day and of three; there are 500.
    assert_eq!(fired, [(4_320, "rollout_5m"), (4_321, "page_1h"), (4_336, "page_6h")]);
}

#[test]
fn a_slow_leak_files_both_tickets_and_pages_nobody() {
    let fired: Vec<(u32, &str)> = settled(&[(4_320, 0), (1_440, 1)])
        .into_iter()
        .map(|(minute, tier, state)| {
            assert_eq!(state, "firing");
            (minute - 4_320, tier)
        })
        .collect();
    // Both ask for 864 bad: after 864 minutes of one each. At three times the budget rate 864
    // of 144,000 are evidence enough; at the budget rate itself 864 of 432,000 are what chance
    // gives, and P(X >= bad | 432,000, 0.002) falls to 0.00096 at 957.
    assert_eq!(fired, [(863, "ticket_1d"), (956, "ticket_3d")]);
}

#[test]
fn tickets_wait_for_a_quarter_of_their_window_and_alerts_for_evidence_of_recovery() {
    let transitions = settled(&[(400, 2), (1, 0)]);
    let tickets: Vec<_> =
        transitions.iter().filter(|(_, tier, _)| tier.starts_with("ticket")).collect();
    assert_eq!(tickets, [&(359, "ticket_1d", "firing")]);
    // 20 minutes of all bad, good again: resolved when the short window is below the factor.
    let transitions = settled(&[(20, 100), (10, 0)]);
    assert!(transitions.contains(&(21, "rollout_5m", "resolved")), "{transitions:?}");
    // After the outage nothing comes any more: no evidence of recovery, stale in the end.
    let (mut recount, first) = series(&[(20, 100)]);
    let quiet = Counts { valid: 1, ..Counts::default() };
    recount.minutes.insert(("acme".into(), "s".into(), first + 200), quiet);
    let tiers = tiers(30, TARGET);
    let found = recount.settled("acme", "s", (TARGET, &tiers[1..2]), first, first + 200);
    let found: Vec<(u32, &str)> =
        found.iter().map(|transition| (transition.minute - first, transition.state)).collect();
    // The short window of page_1h empties at minute 24 (five minutes after 19).
    assert_eq!(found, [(0, "firing"), (84, "stale")]);
}

fn hostile(seed: u64) -> Options {
    Options {
        seed,
        events: 10_000,
        customers: 60,
        days: 0.5,
        disorder_s: 120.0,
        late_share: 0.05,
        weights: 0.2,
        broken: 0.05,
        ids: 0.3,
        duplicates: 0.03,
        hostile: true,
        error_ratio: 0.01,
        time: if seed.is_multiple_of(2) { TimeForm::Epoch } else { TimeForm::Rfc3339 },
        ..Options::default()
    }
}

/// Totals by customer as the truth has them.
fn by_customer(recount: &Recount) -> std::collections::BTreeMap<String, Tally> {
    let mut tallies = std::collections::BTreeMap::new();
    for ((customer, _, _), counts) in &recount.minutes {
        let tally: &mut Tally = tallies.entry(customer.clone()).or_default();
        tally.valid += counts.valid;
        tally.bad += counts.bad;
        tally.excluded += counts.excluded;
    }
    tallies
}

#[test]
fn a_recount_finds_the_truth_of_hostile_data() {
    for seed in 0..4 {
        let mut lines = Vec::new();
        let truth: Truth = generate(&hostile(seed), &mut lines).unwrap();
        let found = Recount::of(&lines, Rules { dedupe_bytes: 1 << 20, ..Rules::default() });
        let expect = (truth.lines, truth.counted, truth.duplicate, truth.dead);
        assert_eq!((found.read, found.counted, found.duplicate, found.dead), expect, "seed {seed}");
        assert_eq!(found.invalid_latency, truth.invalid_latency, "seed {seed}");
        assert_eq!(by_customer(&found), truth.customers, "seed {seed}");
        let whole = Recount::of(&lines, Rules::default());
        let valid: u64 = whole.minutes.values().map(|counts| counts.valid).sum();
        assert_eq!(valid, truth.total.valid + truth.duplicated.valid, "seed {seed}");
        assert_eq!(whole.counted, truth.counted + truth.duplicate, "seed {seed}");
    }
}
