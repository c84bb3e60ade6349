//! The whole program is exact: what it counts, stores and answers equals a recount of the raw
//! lines, to the request.
//!
//! A million hostile events (disorder, lines late by up to a third of the span, weights, broken
//! lines, names that break trusting software) are generated and counted once; every test looks
//! at that table from another side. The recount of `common/recount` shares no code with the
//! engine.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ninefold_engine::slo::histogram::Histogram;
use ninefold_engine::table::Filter;
use program::{
    Server, assert_clean, assert_same, escaped, json, minutes, minutes_of_reader, number, numbers,
    python, replay, run, script, table, time,
};
use recount::{Counts, Key, Month, Recount, Rules, TARGET, month_span, tiers};
use serde_json::Value;

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

/// The lines, what a recount says of them, and a table that they were counted into.
struct World {
    folder: PathBuf,
    file: PathBuf,
    data: PathBuf,
    oracle: Recount,
    truth: Value,
    summary: Value,
}

/// Generates lines into `file`; the truth that is written beside them.
fn generate(file: &Path, options: &[&str]) -> Value {
    let output =
        run(["generate", "--hostile", "--out", file.to_str().unwrap()].iter().chain(options));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let truth = fs::read(format!("{}.truth.json", file.display())).unwrap();
    serde_json::from_slice(&truth).unwrap()
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        // Nobody drops what is static: the next run removes what this one leaves.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exact");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (file, data) = (folder.join("events.ndjson"), folder.join("data"));
        // From one month into the next.
        let options = "--seed 9 --events 1000000 --customers 400 --start 2025-11-28T06:00:00Z \
                       --days 5 --disorder 120 --late-share 0.03 --weights 0.2 --broken 0.02 \
                       --error-ratio 0.01 --ids 0.2 --duplicates 0.01";
        let truth = generate(&file, &options.split_whitespace().collect::<Vec<_>>());
        let oracle = Recount::of(&fs::read(&file).unwrap(), Rules::default());
        let summary = replay(&file, &data, &[]);
        World { folder, file, data, oracle, truth, summary }
    })
}

/// SplitMix64: instants and customers to ask for, the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % limit as u64) as usize
    }
}

fn total(minutes: &BTreeMap<Key, Counts>) -> Counts {
    let mut total = Counts::default();
    minutes.values().for_each(|counts| total.add(counts));
    total
}

/// A ratio that both sides compute in floating point.
fn assert_close(found: &Value, expect: Option<f64>, what: &str) {
    match (found.as_f64(), expect) {
        (None, None) => assert!(found.is_null(), "{what}: {found}"),
        (Some(found), Some(expect)) => {
            let error = (found - expect).abs();
            assert!(error <= 1e-9 * expect.abs().max(1.0), "{what}: {found} is not {expect}");
        }
        _ => panic!("{what}: {found} is not {expect:?}"),
    }
}

#[test]
fn the_summary_equals_the_recount_and_the_truth() {
    let World { oracle, truth, summary, .. } = world();
    let found = numbers(summary, ["read", "counted", "dead", "duplicate", "already"]);
    assert_eq!(found, [oracle.read, oracle.counted, oracle.dead, 0, 0]);
    assert_eq!(oracle.read, 1_000_000);
    assert_eq!(number(summary, "invalid_latency"), oracle.invalid_latency);
    let sum = total(&oracle.minutes);
    let found = numbers(summary, ["valid", "bad", "excluded", "customers"]);
    let customers = oracle.customers().len() as u64;
    assert_eq!(found, [sum.valid, sum.bad, sum.excluded, customers]);
    // Without a dedupe window the repetitions count too.
    let of_truth = |key: &str| number(&truth["total"], key) + number(&truth["duplicated"], key);
    assert_eq!([sum.valid, sum.bad, sum.excluded], ["valid", "bad", "excluded"].map(of_truth));
    let (first, last) = oracle.span().unwrap();
    assert_eq!([&summary["from"], &summary["to"]], [&*time(first), &*time(last)]);
    for name in ["../../etc/passwd", "=1+1", "<script>alert(1)</script>", "two\nlines"] {
        assert!(oracle.customers().contains(&name), "{name} is not in the data");
    }
    assert!(oracle.customers().iter().any(|name| name.len() == 200));
}

#[test]
fn the_table_equals_the_recount_by_customer_service_and_minute() {
    let World { data, oracle, .. } = world();
    assert_same(&minutes(data), &oracle.minutes, "engine");
    assert_clean(data, "one replay");
}

#[test]
fn deltalake_reads_what_the_recount_says() {
    let World { data, oracle, .. } = world();
    let Some(python) = python() else { return };
    let rollups = data.join("rollups");
    let arguments = [rollups.to_str().unwrap(), "--minutes", "--reader", "deltalake"];
    let found = script(python, "read_table.py", arguments);
    assert_same(&minutes_of_reader(&found["deltalake"]), &oracle.minutes, "deltalake");
}

#[test]
fn every_grain_of_the_table_holds_the_same_events() {
    let World { file, data, oracle, .. } = world();
    let table = table(data);
    let all = Filter::default();
    // All customers together, and the bad events alone.
    let (mut expect_dimension, mut expect_failure) = (BTreeMap::new(), BTreeMap::new());
    for ((customer, service, minute), counts) in &oracle.minutes {
        let sum: &mut Counts = expect_dimension.entry((service.clone(), *minute)).or_default();
        sum.add(counts);
        if counts.bad > 0 {
            expect_failure.insert((customer.clone(), service.clone(), *minute), counts.bad);
        }
    }
    let mut dimension: BTreeMap<(String, u32), Counts> = BTreeMap::new();
    let add = |row: ninefold_engine::table::read::DimensionRow<'_>| {
        let sum = dimension.entry((row.service.to_owned(), row.minute.0)).or_default();
        let timed = histogram_count(row.latency);
        assert_eq!(timed, row.measures.timed, "{} at {}", row.service, row.minute);
        sum.add(&Counts {
            valid: row.measures.valid,
            bad: row.measures.bad,
            excluded: row.measures.excluded,
            timed: row.measures.timed,
            slow: row.measures.slow,
            latency_sum_us: row.measures.latency_sum_us,
            latency_max_us: row.measures.latency_max_us,
        });
    };
    table.for_each_dimension(&all, add).unwrap();
    assert!(dimension == expect_dimension, "the grain dimension differs from the recount");
    let mut failure: BTreeMap<Key, u64> = BTreeMap::new();
    let add = |row: ninefold_engine::table::read::FailureRow<'_>| {
        let key = (row.customer.to_owned(), row.service.to_owned(), row.minute.0);
        *failure.entry(key).or_default() += row.bad;
    };
    table.for_each_failure(&all, add).unwrap();
    assert!(failure == expect_failure, "the grain failure differs from the recount");
    let mut timed = 0;
    let add = |row: ninefold_engine::table::read::SeriesRow<'_>| {
        assert_eq!(histogram_count(row.latency), row.measures.timed, "{row:?}");
        timed += row.measures.timed;
    };
    table.for_each_series(&all, add).unwrap();
    assert_eq!(timed, total(&oracle.minutes).timed);
    // Each dead letter is the line at its offset.
    let lines = fs::read(file).unwrap();
    let mut dead = 0;
    let add = |row: ninefold_engine::table::read::DeadRow<'_>| {
        let line = lines[row.offset as usize..].split(|byte| *byte == b'\n').next().unwrap();
        assert_eq!(row.line, &line[..line.len().min(4_096)], "at {}", row.offset);
        assert!(recount::event(line).is_err(), "at {}: {}", row.offset, row.reason);
        dead += 1;
    };
    table.for_each_dead(&all, add).unwrap();
    assert_eq!(dead, oracle.dead);
}

fn histogram_count(bytes: &[u8]) -> u64 {
    if bytes.is_empty() { 0 } else { Histogram::decode_v2(bytes).unwrap().count() }
}

/// Compares the answer on one customer at one minute with sums over minutes.
fn check_sla(sla: &Value, oracle: &Recount, customer: &str, at: u32) {
    let what = format!("{customer:?} at {}", time(at));
    assert_eq!(sla["customer"], customer, "{what}");
    assert_eq!(sla["as_of"], time(at), "{what}");
    let known = |service: &&str| oracle.window(customer, service, at, at) != Counts::default();
    let expect: Vec<&str> = oracle.services(customer).into_iter().filter(known).collect();
    let services = sla["services"].as_array().unwrap();
    let found: Vec<&str> =
        services.iter().map(|service| service["service"].as_str().unwrap()).collect();
    assert_eq!(found, expect, "{what}");
    for service in services {
        let name = service["service"].as_str().unwrap();
        let what = format!("{what}, {name}");
        let objective = &service["objectives"][0];
        let windows = objective["windows"].as_object().unwrap();
        assert_eq!(windows.len(), WINDOWS.len(), "{what}");
        for (window, length) in WINDOWS {
            let sum = oracle.window(customer, name, length, at);
            let (what, found) = (format!("{what}, {window}"), &windows[window]);
            assert_eq!(numbers(found, ["valid", "bad"]), [sum.valid, sum.bad], "{what}");
            let ratio = (sum.valid > 0).then(|| sum.bad as f64 / sum.valid as f64);
            assert_close(&found["availability"], ratio.map(|ratio| 1.0 - ratio), &what);
            assert_close(&found["burn_rate"], ratio.map(|ratio| ratio / 0.002), &what);
        }
        let sum = oracle.window(customer, name, 43_200, at);
        let found = numbers(objective, ["valid", "bad", "excluded"]);
        assert_eq!(found, [sum.valid, sum.bad, sum.excluded], "{what}");
        let consumed = (sum.valid > 0).then(|| sum.bad as f64 / (sum.valid as f64 * 0.002));
        assert_close(&objective["budget"]["consumed"], consumed, &what);
        assert_close(&objective["budget"]["left"], consumed.map(|part| 1.0 - part), &what);
        let hour = oracle.window(customer, name, 60, at);
        assert_eq!(number(&service["latency"], "count"), hour.timed, "{what}");
        let max_ms = (hour.timed > 0).then(|| hour.latency_max_us as f64 / 1_000.0);
        assert_close(&service["latency"]["max_ms"], max_ms, &what);
    }
}

#[test]
fn every_window_equals_the_recount_at_200_random_instants() {
    let World { data, oracle, .. } = world();
    let server = Server::start(["serve".as_ref(), "--data".as_ref(), data.as_os_str()]);
    let (customers, (first, last)) = (oracle.customers(), oracle.span().unwrap());
    let mut random = Random(4);
    let (mut by_command, mut unknown) = (0, 0);
    for instant in 0..200 {
        // The hostile names sort before or after the plain ones: ask for them in turn.
        let hostile: Vec<&&str> =
            customers.iter().filter(|name| !name.starts_with("cust_")).collect();
        let customer = match instant % 2 {
            0 => hostile[instant / 2 % hostile.len()],
            _ => &customers[random.below(customers.len())],
        };
        let at = first - 60 + random.below((last - first + 120) as usize) as u32;
        let ask = format!("/v1/customers/{}?at={}", escaped(customer), time(at));
        let (status, sla) = server.get(&ask);
        if oracle.sum(customer, None, 0..=at) == Counts::default() {
            assert_eq!(status, 404, "{ask}: {sla}");
            unknown += 1;
            continue;
        }
        assert_eq!(status, 200, "{ask}: {sla}");
        check_sla(&sla, oracle, customer, at);
        // The command line takes no NUL.
        if by_command < 12 && !customer.contains('\0') {
            let data = data.to_str().unwrap();
            let printed = json(["sla", "--data", data, "--json", "--at", &time(at), customer]);
            assert_eq!(printed, sla, "{ask}");
            by_command += 1;
        }
    }
    assert_eq!(by_command, 12);
    assert!(unknown < 100, "{unknown} of 200 asked for nothing");
}

#[test]
fn what_was_counted_adds_nothing_again_as_itself_renamed_or_compressed() {
    let World { folder, file, data, oracle, summary, .. } = world();
    let lines = fs::read(file).unwrap();
    let path = |name: &str| folder.join(name);
    fs::write(path("events.gz"), gzip(&lines)).unwrap();
    fs::write(path("packed"), zstd::encode_all(&lines[..], 1).unwrap()).unwrap();
    fs::copy(file, path("other.log")).unwrap();
    let version = table(data).version();
    let mut expect = summary.clone();
    for key in ["read", "counted", "dead", "invalid_latency"] {
        expect[key] = 0.into();
    }
    expect["already"] = oracle.read.into();
    for again in [file.clone(), path("events.gz"), path("packed"), path("other.log")] {
        assert_eq!(replay(&again, data, &[]), expect, "{}", again.display());
        assert_eq!(table(data).version(), version, "{}", again.display());
    }
    assert_same(&minutes(data), &oracle.minutes, "after four more replays");
    assert_clean(data, "after four more replays");
}

fn check_month(found: &Value, expect: &Month, what: &str) {
    let of_found = numbers(found, ["valid", "bad", "excluded", "down_minutes", "idle_minutes"]);
    let Month { valid, bad, excluded, down_minutes, idle_minutes, .. } = *expect;
    assert_eq!(of_found, [valid, bad, excluded, down_minutes, idle_minutes], "{what}");
    assert_eq!(found["met"].as_bool(), expect.met, "{what}");
    assert_close(&found["availability"], expect.availability, what);
    assert_close(&found["budget_consumed"], expect.budget_consumed, what);
    assert_close(&found["uptime"]["request"], expect.availability, what);
    assert_close(&found["uptime"]["time_slice"], Some(expect.time_slice), what);
    assert_close(&found["uptime"]["interval_mean"], Some(expect.interval_mean), what);
    let episodes: Vec<Value> = expect
        .episodes
        .iter()
        .map(
            |(from, to, bad)| serde_json::json!({"from": time(*from), "to": time(*to), "bad": bad}),
        )
        .collect();
    assert_eq!(found["episodes"], Value::from(episodes), "{what}");
}

#[test]
fn the_monthly_report_equals_the_recount_for_every_customer() {
    let World { data, oracle, .. } = world();
    let (data, last) = (data.to_str().unwrap(), oracle.span().unwrap().1);
    for (name, (first, next)) in
        [("2025-11", month_span(2025, 11)), ("2025-12", month_span(2025, 12))]
    {
        let report = json(["report", "--data", data, "--month", name, "--format", "json"]);
        let next = next.min(last + 1);
        let active =
            |customer: &&str| oracle.sum(customer, None, first..=next - 1) != Counts::default();
        let expect: Vec<&str> = oracle.customers().into_iter().filter(active).collect();
        let rows = report["customers"].as_array().unwrap();
        let found: Vec<&str> = rows.iter().map(|row| row["customer"].as_str().unwrap()).collect();
        assert_eq!(found, expect, "{name}");
        for (row, customer) in rows.iter().zip(expect) {
            let what = format!("{name} of {customer:?}");
            check_month(row, &oracle.month(customer, TARGET, first, next), &what);
            for service in row["services"].as_array().unwrap() {
                let of = service["service"].as_str().unwrap();
                let sum = oracle.sum(customer, Some(of), first..=next - 1);
                let found = numbers(&service["objectives"][0], ["valid", "bad", "excluded"]);
                assert_eq!(found, [sum.valid, sum.bad, sum.excluded], "{what}, {of}");
            }
        }
    }
}

/// Firings, resolutions and so on: second of the transition, customer, service, tier, state.
type Transitions = Vec<(String, String, String, String, String)>;

fn transitions(alerts: &Value) -> Transitions {
    let mut found: Transitions = alerts["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| {
            let text = |key: &str| alert[key].as_str().unwrap().to_owned();
            (text("at"), text("customer"), text("service"), text("tier"), text("state"))
        })
        .collect();
    found.sort();
    found
}

/// The last second of a minute: when its settled transitions are.
fn last_second(minute: u32) -> String {
    time(minute).replace(":00Z", ":59Z")
}

#[test]
fn settled_alerts_equal_the_recount_for_every_series() {
    let World { data, oracle, .. } = world();
    let (tiers, last) = (tiers(30, TARGET), oracle.span().unwrap().1);
    let mut expect = Transitions::new();
    for customer in oracle.customers() {
        for service in oracle.services(customer) {
            let of_series = |key: &&Key| key.0 == customer && key.1 == service;
            let range = (customer.to_owned(), service.to_owned(), 0)..;
            let first = oracle.minutes.range(range).map(|(key, _)| key).find(of_series).unwrap().2;
            for found in oracle.settled(customer, service, (TARGET, &tiers), first, last) {
                let (at, tier, state) = (last_second(found.minute), found.tier, found.state);
                let texts = [customer, service, tier, state].map(str::to_owned);
                let [customer, service, tier, state] = texts;
                expect.push((at, customer, service, tier, state));
            }
        }
    }
    expect.sort();
    let found = transitions(&json(["alerts", "--data", data.to_str().unwrap(), "--json"]));
    for (found, expect) in found.iter().zip(&expect) {
        assert_eq!(found, expect);
    }
    assert_eq!(found.len(), expect.len());
    for state in ["firing", "resolved", "stale"] {
        assert!(expect.iter().any(|transition| transition.4 == state), "nothing is {state}");
    }
}

#[test]
fn a_grown_file_adds_its_new_lines_only() {
    let World { folder, file, oracle, summary, .. } = world();
    let lines = fs::read(file).unwrap();
    let data = folder.join("grown-data");
    let grown = folder.join("grown.log");
    // Behind a newline, within a line, and the whole.
    let third = lines[..lines.len() / 3].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let half = lines[..lines.len() / 2].iter().rposition(|byte| *byte == b'\n').unwrap() + 20;
    let mut read = 0;
    for size in [third, half, lines.len()] {
        fs::write(&grown, &lines[..size]).unwrap();
        let found = replay(&grown, &data, &[]);
        assert_eq!(number(&found, "already"), read, "up to byte {size}");
        read += number(&found, "read");
        let complete = lines[..size].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        let expect = Recount::of(&lines[..complete], Rules::default());
        assert_eq!(read, expect.read, "up to byte {size}");
        assert_same(&minutes(&data), &expect.minutes, "grown");
        assert_clean(&data, "grown");
        if size == lines.len() {
            let keys = ["valid", "bad", "excluded", "customers"];
            assert_eq!(numbers(&found, keys), numbers(summary, keys));
        }
    }
    assert_eq!(read, oracle.read);
}

#[test]
fn duplicates_are_dropped_within_the_window_across_runs_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let options = "--seed 5 --events 200000 --customers 100 --days 1 --ids 0.5 --duplicates 0.05 \
                   --broken 0.01 --weights 0.1 --disorder 60";
    let truth = generate(&path("all.log"), &options.split_whitespace().collect::<Vec<_>>());
    let lines = fs::read(path("all.log")).unwrap();
    for (window, bytes) in [("16MiB", 16 << 20), ("4KiB", 4 << 10)] {
        let config = path(&format!("{window}.toml"));
        fs::write(&config, format!("[dedupe]\nwindow_bytes = \"{window}\"\n")).unwrap();
        let more = ["--config", config.to_str().unwrap()];
        let expect = Recount::of(&lines, Rules { dedupe_bytes: bytes, ..Rules::default() });
        if window == "16MiB" {
            assert_eq!(expect.duplicate, number(&truth, "duplicate"));
        } else {
            assert!(expect.duplicate > 100, "{}", expect.duplicate);
            assert!(expect.duplicate < number(&truth, "duplicate"));
        }
        let expect_lines = [expect.read, expect.counted, expect.dead, expect.duplicate];
        let keys = ["read", "counted", "dead", "duplicate"];
        let whole = path(&format!("{window}-whole"));
        assert_eq!(numbers(&replay(&path("all.log"), &whole, &more), keys), expect_lines);
        assert_same(&minutes(&whole), &expect.minutes, window);
        assert_clean(&whole, window);
        // Cut right before a repetition: the second run has to know what the first one saw.
        let cut = before_a_duplicate(&lines, bytes);
        for (name, pack) in [("plain", false), ("gzip", true)] {
            let split = path(&format!("{window}-{name}-data"));
            let mut sums = [0; 4];
            for size in [cut, lines.len()] {
                let part = path(&format!("{window}-{name}.log"));
                fs::write(&part, if pack { gzip(&lines[..size]) } else { lines[..size].to_vec() })
                    .unwrap();
                let found = numbers(&replay(&part, &split, &more), keys);
                sums = std::array::from_fn(|at| sums[at] + found[at]);
            }
            assert_eq!(sums, expect_lines, "{window}, {name}, cut at {cut}");
            assert_same(&minutes(&split), &expect.minutes, name);
            assert_clean(&split, name);
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// The begin of a line behind the middle that repeats one of the `window` bytes before it.
fn before_a_duplicate(lines: &[u8], window: u64) -> usize {
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut offset = 0;
    for line in lines.split(|byte| *byte == b'\n') {
        let id = recount::event(line).ok().and_then(|event| event.id);
        if let Some(before) = id.and_then(|id| ids.insert(id, offset))
            && offset > lines.len() / 2
            && offset - before <= window as usize
        {
            return offset;
        }
        offset += line.len() + 1;
    }
    panic!("nothing is repeated within {window} bytes");
}

/// What is independent of the order of rows: how many, and the sum of their hashes.
fn digest(data: &Path) -> (u64, u64) {
    let hashes = BuildHasherDefault::<DefaultHasher>::default();
    let (mut rows, mut sum) = (0_u64, 0_u64);
    let add = |row: ninefold_engine::table::read::SeriesRow<'_>| {
        rows += 1;
        let key = (row.customer, row.service, row.release, row.cohort, row.minute);
        let measures = format!("{:?}", row.measures);
        sum = sum.wrapping_add(hashes.hash_one((key, measures, row.latency, row.rules)));
    };
    table(data).for_each_series(&Filter::default(), add).unwrap();
    (rows, sum)
}

#[test]
fn summary_report_and_rows_have_the_same_bits_for_any_number_of_threads() {
    let World { folder, file, data, summary, .. } = world();
    let report = |data: &Path| {
        let data = data.to_str().unwrap();
        json(["report", "--data", data, "--month", "2025-12", "--format", "json"])
    };
    let (rows, statement) = (digest(data), report(data));
    for threads in ["1", "2", "3"] {
        let other = folder.join(format!("threads-{threads}"));
        assert_eq!(replay(file, &other, &["--threads", threads]), *summary, "{threads} threads");
        assert_eq!(digest(&other), rows, "{threads} threads");
        assert_eq!(report(&other), statement, "{threads} threads");
        fs::remove_dir_all(&other).unwrap();
    }
}

/// Minutes of steady traffic of `acme` from 2026-03-01 on: how many, and bad ones among 100.
fn steady(spans: &[(u32, u64)]) -> (Vec<u8>, u32) {
    let first = month_span(2026, 3).0;
    let (mut lines, mut minute) = (Vec::new(), first);
    for (length, bad) in spans {
        for _ in 0..*length {
            let ts_ms = u64::from(minute) * 60_000 + 30_000;
            for (status, count) in [(200, 100 - bad), (503, *bad)] {
                if count > 0 {
                    let event = serde_json::json!({"ts": ts_ms, "customer": "acme",
                        "service": "inbox", "status": status, "count": count});
                    writeln!(lines, "{event}").unwrap();
                }
            }
            minute += 1;
        }
    }
    (lines, first)
}

/// What fires, as (minutes after the first one, tier), after all transitions were compared with
/// those of the recount.
fn firing(spans: &[(u32, u64)]) -> Vec<(u32, String)> {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("steady.ndjson"), folder.path().join("data"));
    let (lines, first) = steady(spans);
    fs::write(&file, &lines).unwrap();
    assert_eq!(number(&replay(&file, &data, &[]), "dead"), 0);
    let alerts = json(["alerts", "--data", data.to_str().unwrap(), "--json"]);
    let oracle = Recount::of(&lines, Rules::default());
    let last = oracle.span().unwrap().1;
    let expect = oracle.settled("acme", "inbox", (TARGET, &tiers(30, TARGET)), first, last);
    let expect = expect.iter().map(|found| {
        let [tier, state] = [found.tier, found.state].map(str::to_owned);
        (last_second(found.minute), "acme".to_owned(), "inbox".to_owned(), tier, state)
    });
    let mut expect: Transitions = expect.collect();
    expect.sort();
    assert_eq!(transitions(&alerts), expect);
    let fired = alerts["alerts"].as_array().unwrap().iter().filter(|alert| {
        let severity =
            if alert["tier"].as_str().unwrap().starts_with("ticket") { "ticket" } else { "page" };
        assert_eq!((&alert["severity"], &alert["basis"]), (&severity.into(), &"settled".into()));
        alert["state"] == "firing"
    });
    let fired = fired.map(|alert| {
        let at = alert["at"].as_str().unwrap();
        let ms = ninefold_engine::time::parse_rfc3339(at.as_bytes()).unwrap();
        ((ms / 60_000) as u32 - first, alert["tier"].as_str().unwrap().to_owned())
    });
    fired.collect()
}

fn check_firing(spans: &[(u32, u64)], expect: &[(u32, &str)]) {
    let expect: Vec<(u32, String)> =
        expect.iter().map(|(minute, tier)| (*minute, (*tier).to_owned())).collect();
    assert_eq!(firing(spans), expect);
}

#[test]
fn an_outage_after_three_good_days_pages_three_times_and_files_no_ticket() {
    // rollout_5m asks for 10% of 5 minutes: 100 of 500 in the first minute. page_1h asks for
    // 2.88% of 6,000, 172.8: the second minute. page_6h asks for 1.2% of 36,000, 432: 300 and
    // 14 minutes of 10, so minute 3 + 14 - 1. The tickets ask for 864; there are 500.
    check_firing(
        &[(4_320, 0), (3, 100), (20, 10), (400, 0)],
        &[(4_320, "rollout_5m"), (4_321, "page_1h"), (4_336, "page_6h")],
    );
}

#[test]
fn one_percent_for_a_day_files_both_tickets_and_pages_nobody() {
    // ticket_1d: 0.6% of 144,000 is 864, after as many minutes. ticket_3d: 864 of 432,000 are
    // the budget rate itself, which chance gives; P(X >= bad) falls below 0.001 at 957.
    check_firing(&[(4_320, 0), (1_440, 1)], &[(5_183, "ticket_1d"), (5_276, "ticket_3d")]);
}

#[test]
fn a_fresh_table_files_no_ticket() {
    // Half of all requests fail for five hours: every page fires in its first minute, but a
    // quarter of a day is not covered yet.
    let pages = [(0, "rollout_5m"), (0, "page_1h"), (0, "page_6h")];
    check_firing(&[(300, 50)], &pages);
    // With the sixth hour it is.
    check_firing(&[(370, 50)], &[&pages[..], &[(359, "ticket_1d")]].concat());
}

#[test]
fn the_apache_log_tells_to_whom_the_promise_was_broken() {
    let Some(folder) = program::data_of_others() else { return };
    let data = tempfile::tempdir().unwrap();
    let file = folder.join("weblogs/elastic-apache-combined.log.gz");
    let summary = replay(&file, data.path(), &[]);
    let keys = ["read", "counted", "dead", "customers", "valid", "bad"];
    assert_eq!(numbers(&summary, keys), [10_000, 10_000, 0, 1_753, 10_000, 3]);
    let span = [&summary["from"], &summary["to"]];
    assert_eq!(span, ["2015-05-17T10:05:00Z", "2015-05-20T21:05:00Z"]);
    let dir = data.path().to_str().unwrap();
    let report = json(["report", "--data", dir, "--month", "2015-05", "--format", "json"]);
    let rows = report["customers"].as_array().unwrap();
    assert_eq!(rows.len(), 1_753);
    let missed: Vec<(&str, [u64; 2])> = rows
        .iter()
        .filter(|row| row["met"] == false)
        .map(|row| (row["customer"].as_str().unwrap(), numbers(row, ["valid", "bad"])))
        .collect();
    assert_eq!(missed, [("64.131.102.243", [8, 1]), ("66.249.73.135", [482, 2])]);
    let consumed = |customer: &str| {
        let row = rows.iter().find(|row| row["customer"] == customer).unwrap();
        (row["budget_consumed"].as_f64().unwrap() * 10_000.0).round() / 10_000.0
    };
    assert_eq!(consumed("66.249.73.135"), 2.0747);
    assert_eq!(consumed("64.131.102.243"), 62.5);
}

#[test]
fn logs_of_others_have_their_known_events_and_dead_lines() {
    let Some(folder) = program::data_of_others() else { return };
    // Lines read and dead; bad, excluded; customers where they are known. No format: it is found.
    let check = |name: &str, format: &str, expect: [u64; 4], customers: Option<u64>| {
        let data = tempfile::tempdir().unwrap();
        let more: &[&str] = if format.is_empty() { &[] } else { &["--format", format] };
        let summary = replay(&folder.join(name), data.path(), more);
        let keys = ["read", "dead", "bad", "excluded"];
        assert_eq!(numbers(&summary, keys), expect, "{name}");
        let found = number(&summary, "customers");
        assert_eq!(found, customers.unwrap_or(found), "{name}");
        let [read, counted, dead, duplicate, valid, excluded] =
            numbers(&summary, ["read", "counted", "dead", "duplicate", "valid", "excluded"]);
        assert_eq!(read, counted + duplicate + dead, "{name}");
        assert_eq!(counted, valid + excluded, "{name}");
        // Fastly's fourth line lacks a newline and does not decode: it waits for its rest.
        let left = u64::from(name.ends_with("fastly-json.log"));
        assert_eq!(number(&summary, "unterminated"), left, "{name}");
    };
    check("proxylogs/alb-access.log", "", [14, 0, 0, 0], Some(14));
    check("proxylogs/envoy-json-cri.log", "", [10, 0, 0, 0], None);
    check("proxylogs/traefik-json.log", "", [7, 1, 0, 0], None);
    check("proxylogs/traefik-clf.log", "", [7, 1, 0, 0], None);
    check("proxylogs/caddy-json.log", "", [11, 1, 0, 7], None);
    check("proxylogs/cloudfront.log", "", [2, 0, 0, 0], Some(1));
    check("proxylogs/nginx-combined.log", "", [9, 1, 4, 0], None);
    check("proxylogs/nginx-malformed.log", "", [12, 0, 0, 0], Some(1));
    check("proxylogs/litespeed-mixed.log", "combined", [3, 2, 0, 0], Some(1));
    check("proxylogs/haproxy-http.log", "combined", [5, 5, 0, 0], None);
    check("proxylogs/fastly-json.log", "ndjson", [3, 3, 0, 0], None);
    check("weblogs/crowdsec-nginx-flood-combined.log", "", [356, 0, 0, 0], Some(14));
    check("weblogs/elastic-nginxplus-status.ndjson.gz", "ndjson", [500, 500, 0, 0], None);
}
