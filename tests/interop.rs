//! Others read what we write, and we read what others write.
//!
//! The table is summed by Python `deltalake`, `polars` and DuckDB and compared with `report`;
//! its histograms are decoded by the Python package `hdrhistogram` and compared with `sla`, and
//! both with the latencies of the raw lines. A log of the first version of HdrHistogram's own
//! encoding, which the Rust crate does not read, gives the percentiles that upstream states.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use hdrhistogram::Histogram as Dense;
use ninefold_engine::slo::histogram::{Histogram, slot_of, slot_range_us};
use ninefold_engine::table::read::SeriesRow;
use ninefold_engine::table::{Filter, Table};
use program::{
    Server, assert_same, data_of_others, escaped, json, minutes_of_reader, number, numbers, python,
    replay, run, script, time,
};
use recount::{Counts, Key, Recount, Rules};
use serde_json::{Value, json as value};

/// The lines, what a recount says of them, and a table of several commits.
struct World {
    lines: Vec<u8>,
    data: PathBuf,
    oracle: Recount,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        // Nobody drops what is static: the next run removes what this one leaves.
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("interop");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (file, data) = (folder.join("events.ndjson"), folder.join("data"));
        let options = "generate --seed 3 --events 200000 --customers 60 --days 2 --hostile \
                       --late-share 0.02 --weights 0.1 --broken 0.01 --error-ratio 0.01 --out";
        let output = run(options.split_whitespace().chain([file.to_str().unwrap()]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = fs::read(&file).unwrap();
        // In three parts, so that keys have rows of several commits.
        for part in [3, 2, 1] {
            let end = lines[..lines.len() / part].iter().rposition(|byte| *byte == b'\n').unwrap();
            fs::write(&file, &lines[..=end]).unwrap();
            replay(&file, &data, &[]);
        }
        let oracle = Recount::of(&lines, Rules::default());
        World { lines, data, oracle }
    })
}

#[test]
fn three_other_readers_sum_the_table_as_the_report_does() {
    let World { data, oracle, .. } = world();
    let Some(python) = python() else { return };
    let dir = data.to_str().unwrap();
    let report = json(["report", "--data", dir, "--month", "2025-12", "--format", "json"]);
    let mut expect: BTreeMap<(&str, &str), [u64; 3]> = BTreeMap::new();
    for row in report["customers"].as_array().unwrap() {
        for service in row["services"].as_array().unwrap() {
            let key = (row["customer"].as_str().unwrap(), service["service"].as_str().unwrap());
            let objective = &service["objectives"][0];
            expect.insert(key, numbers(objective, ["valid", "bad", "excluded"]));
        }
    }
    assert!(expect.len() > 100, "{} series", expect.len());
    let rollups = data.join("rollups");
    let found = script(python, "read_table.py", [rollups.to_str().unwrap(), "--minutes"]);
    for reader in ["deltalake", "polars", "duckdb"] {
        if let Some(why) = found[reader]["skipped"].as_str() {
            println!("skipped: {reader}: {why}");
            continue;
        }
        let minutes = minutes_of_reader(&found[reader]);
        assert_same(&minutes, &oracle.minutes, reader);
        let mut sums: BTreeMap<(&str, &str), [u64; 3]> = BTreeMap::new();
        for ((customer, service, _), counts) in &minutes {
            let sum = sums.entry((customer, service)).or_default();
            let counts = [counts.valid, counts.bad, counts.excluded];
            *sum = std::array::from_fn(|at| sum[at] + counts[at]);
        }
        assert_eq!(sums, expect, "{reader}");
        let dead = &found[reader]["grains"]["dead"]["rows"];
        assert_eq!(dead.as_u64(), Some(oracle.dead), "{reader}");
        assert_eq!(found[reader]["grains"]["source"]["rows"], 3, "{reader}");
    }
}

/// Every minute of the table as three other readers see it.
fn assert_readers(data: &Path, python: Command, expect: &BTreeMap<Key, Counts>, context: &str) {
    let rollups = data.join("rollups");
    let found = script(python, "read_table.py", [rollups.to_str().unwrap(), "--minutes"]);
    for reader in ["deltalake", "polars", "duckdb"] {
        if let Some(why) = found[reader]["skipped"].as_str() {
            println!("skipped: {reader}: {why}");
            continue;
        }
        assert_same(&minutes_of_reader(&found[reader]), expect, &format!("{context}: {reader}"));
    }
}

/// Valid, bad and excluded by customer, service and day: by coarse rows and the rest.
fn days_of(table: &Table) -> BTreeMap<(String, String, u32), [u64; 3]> {
    let mut days: BTreeMap<_, [u64; 3]> = BTreeMap::new();
    let visit = |row: SeriesRow<'_>| {
        let key = (row.customer.to_owned(), row.service.to_owned(), row.minute.0 / 1_440);
        let counts = [row.measures.valid, row.measures.bad, row.measures.excluded];
        let sum = days.entry(key).or_default();
        *sum = std::array::from_fn(|at| sum[at] + counts[at]);
    };
    table.for_each_series_day(&Filter::default(), visit).unwrap();
    days
}

#[test]
fn compaction_changes_no_sum_for_others_and_their_optimize_none_for_us() {
    let World { lines, oracle, .. } = world();
    let Some(mut python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("events.ndjson"), folder.path().join("data"));
    let dir = data.to_str().unwrap();
    let compact = || {
        let output = run(["compact", "--data", dir]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let opened = || Table::open(&data.join("rollups")).unwrap().unwrap();
    let mut expect: BTreeMap<_, [u64; 3]> = BTreeMap::new();
    for ((customer, service, minute), counts) in &oracle.minutes {
        let key = (customer.clone(), service.clone(), minute / 1_440);
        let sum = expect.entry(key).or_default();
        let counts = [counts.valid, counts.bad, counts.excluded];
        *sum = std::array::from_fn(|at| sum[at] + counts[at]);
    }
    let half = lines[..lines.len() / 2].iter().rposition(|byte| *byte == b'\n').unwrap();
    fs::write(&file, &lines[..=half]).unwrap();
    replay(&file, &data, &[]);
    compact();
    fs::write(&file, lines).unwrap();
    replay(&file, &data, &[]);
    assert_eq!(days_of(&opened()), expect, "compacted in part");
    // Somebody else merges what we have compacted with what we have not.
    let optimize = "import deltalake, sys; t = deltalake.DeltaTable(sys.argv[1]); \
                    print(t.optimize.compact()['numFilesRemoved'])";
    let output = python.args(["-c", optimize]).arg(data.join("rollups")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let removed: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(removed > 5, "{removed} files were merged");
    assert_eq!(days_of(&opened()), expect, "optimized by others");
    compact();
    assert_eq!(days_of(&opened()), expect, "compacted after it");
    let Some(again) = self::python() else { return };
    assert_readers(&data, again, &oracle.minutes, "compacted");
    let verdict = json(["verify", file.to_str().unwrap(), "--data", dir, "--json"]);
    assert_eq!(verdict["equal"], true, "{verdict}");
    let audit = run(["audit", "--data", dir]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    compact();
    assert_eq!(replay(&file, &data, &[])["counted"], 0, "the offsets are where they were");
}

/// The latencies of a service in some minutes, in microseconds, each as often as it counts.
fn latencies(
    lines: &[u8],
    minutes: std::ops::RangeInclusive<u32>,
) -> BTreeMap<(String, String), Vec<u64>> {
    let mut found: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for event in lines.split(|byte| *byte == b'\n').filter_map(|line| recount::event(line).ok()) {
        let minute = (event.ts_ms / 60_000) as u32;
        if event.outcome == "good"
            && minutes.contains(&minute)
            && let Some(latency_us) = event.latency_us
        {
            let of_series = found.entry((event.customer, event.service)).or_default();
            of_series.extend(std::iter::repeat_n(latency_us, event.count as usize));
        }
    }
    found.values_mut().for_each(|latencies| latencies.sort_unstable());
    found
}

/// Nearest rank: element `ceil(percent / 100 * n)` in order.
fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

#[test]
fn quantiles_are_those_of_another_hdrhistogram_and_of_the_raw_lines() {
    let World { lines, data, oracle, .. } = world();
    let at = oracle.span().unwrap().0 + 1_000;
    let raw = latencies(lines, at - 59..=at);
    assert!(raw.len() > 50, "{} series in the hour", raw.len());
    let asks: Vec<Value> =
        raw.keys().map(|(customer, service)| value!([customer, service, at - 59, at])).collect();
    let server = Server::start(["serve".as_ref(), "--data".as_ref(), data.as_os_str()]);
    let mut ours = Vec::new();
    for ((customer, service), raw) in &raw {
        let ask = format!("/v1/customers/{}?service={service}&at={}", escaped(customer), time(at));
        let (status, sla) = server.get(&ask);
        assert_eq!(status, 200, "{ask}: {sla}");
        let latency = sla["services"][0]["latency"].clone();
        assert_eq!(number(&latency, "count"), raw.len() as u64, "{ask}");
        for (name, percent) in [("p50_ms", 50), ("p90_ms", 90), ("p95_ms", 95), ("p99_ms", 99)] {
            let true_us = nearest_rank(raw, percent).max(1);
            let slot = slot_range_us(slot_of(u32::try_from(true_us).unwrap()));
            let found_us = (latency[name].as_f64().unwrap() * 1_000.0).round() as u32;
            // The highest value of the slot, or the longest latency where that is less.
            let expect = (*slot.end()).min(raw[raw.len() - 1]);
            assert_eq!(u64::from(found_us), expect, "{ask}: {name} of {true_us}");
        }
        ours.push(latency);
    }
    let Some(mut python) = python() else { return };
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_histograms.py");
    python.arg(script).arg(data.join("rollups")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    write!(child.stdin.take().unwrap(), "{}", Value::from(asks.clone())).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let theirs: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(theirs.len(), ours.len());
    for ((theirs, ours), ask) in theirs.iter().zip(&ours).zip(&asks) {
        assert_eq!(theirs["count"], ours["count"], "{ask}");
        let max_us = ours["max_ms"].as_f64().unwrap() * 1_000.0;
        for name in ["p50", "p90", "p95", "p99"] {
            let found = theirs[format!("{name}_us")].as_f64().unwrap().min(max_us);
            let ours = ours[format!("{name}_ms")].as_f64().unwrap() * 1_000.0;
            assert_eq!(found.round(), ours.round(), "{ask}: {name}");
        }
    }
}

/// One interval of a log: seconds after its start, and the lowest value and count of each slot.
struct Interval {
    starts_s: f64,
    slots: Vec<(u64, u64)>,
}

/// Base64 of the standard alphabet, padded.
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for symbol in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == symbol).unwrap();
        bits = (bits << 6 | value as u32) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// A big-endian number of some bytes.
fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The slots of a compressed histogram of the first version: a header (cookie, length) around
/// zlib; in it a header of 40 bytes (cookie, length of the counts, index offset, digits, lowest
/// and highest value, ratio), then one fixed-width count a slot. The second lowest hexadecimal
/// digit of a cookie is the width, with its lowest bit set.
fn decode_v1(packed: &[u8]) -> Vec<(u64, u64)> {
    assert_eq!(big_endian(&packed[..4]) & !0xf0, 0x1c84_9302, "compressed, version 1");
    let mut raw = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[8..]).read_to_end(&mut raw).unwrap();
    let (header, counts) = raw.split_at(40);
    let cookie = big_endian(&header[..4]);
    assert_eq!(cookie & !0xf0, 0x1c84_9301, "version 1");
    assert_eq!(big_endian(&header[8..12]), 0, "no index is shifted");
    let (digits, lowest) = (big_endian(&header[12..16]), big_endian(&header[16..24]));
    let width = (cookie >> 4 & 0xe) as usize;
    let counts = &counts[..big_endian(&header[4..8]) as usize];
    // As many sub-buckets, a power of two, as give the digits; the upper half of each bucket.
    let half = (2 * 10_u64.pow(digits as u32)).next_power_of_two() / 2;
    let lowest_value = |index: u64| {
        let (bucket, sub) = (index / half, index % half);
        match bucket {
            0 => sub << lowest.ilog2(),
            _ => (sub + half) << (bucket - 1 + u64::from(lowest.ilog2())),
        }
    };
    let slots = counts.chunks_exact(width).zip(0..);
    slots
        .map(|(count, index)| (lowest_value(index), big_endian(count)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn v1_log(text: &str) -> Vec<Interval> {
    let lines = text.lines().filter(|line| !line.starts_with(['#', '"']) && !line.is_empty());
    let interval = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let starts_s = fields[0].parse().unwrap();
        Interval { starts_s, slots: decode_v1(&base64(fields[3])) }
    };
    lines.map(interval).collect()
}

#[test]
fn a_log_of_version_1_has_the_counts_and_percentiles_that_upstream_states() {
    let Some(folder) = data_of_others() else { return };
    let log = fs::read_to_string(folder.join("hdrhistogram/jHiccup-2.0.6.logV1.hlog")).unwrap();
    let all = v1_log(&log);
    // Begin and end in seconds; intervals, count, p99.9 and the greatest value.
    let check = |from: f64, to: f64, [intervals, count, p999, max]: [u64; 4]| {
        let chosen: Vec<&Interval> =
            all.iter().filter(|interval| (from..to).contains(&interval.starts_s)).collect();
        assert_eq!(chosen.len() as u64, intervals);
        let (mut dense, mut ours) = (Dense::<u64>::new(3).unwrap(), Histogram::default());
        for (value, count) in chosen.iter().flat_map(|interval| &interval.slots) {
            dense.record_n(*value, *count).unwrap();
            ours.record(u32::try_from(*value).unwrap(), *count);
        }
        assert_eq!([dense.len(), ours.count()], [count, count]);
        assert_eq!([dense.value_at_quantile(0.999), dense.max()], [p999, max]);
        // Ours keeps two digits where the sum above has three: the slot that holds the value.
        for (quantile, value) in [(0.999, p999), (1.0, max)] {
            let slot = slot_range_us(slot_of(u32::try_from(value).unwrap()));
            assert_eq!(ours.quantile_us(quantile), Some(*slot.end()), "{quantile}");
        }
        // And again from our own bytes.
        let mut encoded = Vec::new();
        ours.encode_v2(&mut encoded);
        assert_eq!(Histogram::decode_v2(&encoded).unwrap(), ours);
    };
    check(0.0, f64::MAX, [88, 65_964, 1_829_765_119, 1_888_485_375]);
    check(5.0, 20.0, [15, 11_213, 1_019_740_159, 1_032_323_071]);
    check(50.0, 80.0, [29, 22_630, 1_871_708_159, 1_888_485_375]);
}
