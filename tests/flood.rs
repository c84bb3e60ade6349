//! A flood of customers that were never seen before leaves memory flat and every total exact.
//!
//! The running service is fed made-up lines through its standard input, each of a customer of
//! its own, with a small budget. The most memory it ever had is what the kernel says of it; the
//! totals are those of its answers while it runs, and of the table once it has ended.
//!
//! `NINEFOLD_FLOOD_CUSTOMERS` and `NINEFOLD_FLOOD_TOTAL_MIB` make it longer: ten million take
//! some minutes.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::thread::park_timeout;
use std::time::Duration;

use ninefold_engine::table::Filter;
use program::{ninefold, number, table};
use serde_json::Value;

/// One in so many customers fails.
const FAILING: u64 = 100;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("it is a number"))
}

/// A customer of the flood: what SplitMix64 makes of its number.
fn customer(nth: u64) -> String {
    let mut mixed = (nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}", mixed ^ mixed >> 31)
}

/// Writes the lines of the flood, all of this minute and the next ones.
fn flood(input: ChildStdin, customers: u64, at_ms: i64) -> ChildStdin {
    let mut lines = BufWriter::with_capacity(1 << 20, input);
    for nth in 0..customers {
        let status = if nth.is_multiple_of(FAILING) { 503 } else { 200 };
        let (who, ts) = (customer(nth), at_ms + (nth * 60_000 / customers) as i64);
        writeln!(
            lines,
            "{{\"ts\":{ts},\"customer\":\"{who}\",\"status\":{status},\"latency_ms\":{}}}",
            nth % 700
        )
        .expect("the service reads");
    }
    lines.into_inner().unwrap_or_else(|error| panic!("the service reads: {error}"))
}

/// The most memory that a process had so far, in MiB; `None` where it has ended.
fn peak_mib(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib / 1_024)
}

/// The address that the service announces.
fn announced(child: &mut Child) -> String {
    let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.starts_with("ninefold: http://") {
        line.clear();
        assert!(errors.read_line(&mut line).expect("text") > 0, "it ended without an address");
    }
    std::thread::spawn(move || {
        // What it says later must not block it, and is worth seeing.
        let mut rest = String::new();
        let _ = errors.read_to_string(&mut rest);
        eprint!("{rest}");
    });
    line.trim().trim_start_matches("ninefold: ").to_owned()
}

fn get(url: &str) -> String {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.get(url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
    response.body_mut().read_to_string().expect("text")
}

fn body(url: &str) -> Value {
    serde_json::from_str(&get(url)).unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn a_flood_of_customers_leaves_memory_flat_and_totals_exact() {
    if !std::path::Path::new("/proc/self/status").exists() {
        println!("skipped: no /proc to tell the memory of a process");
        return;
    }
    let customers = setting("NINEFOLD_FLOOD_CUSTOMERS", 1_000_000);
    let total_mib = setting("NINEFOLD_FLOOD_TOTAL_MIB", 416);
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("d"), folder.path().join("ninefold.toml"));
    let text = format!(
        "[memory]\ntotal = \"{total_mib}MiB\"\nqueue = \"16MiB\"\nnew_customers_per_minute = 1000\n\
         [source.stdin]\nformat = \"ndjson\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = ninefold();
    command.arg("run").arg("--data").arg(&data).arg("--config").arg(&config);
    command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let input = child.stdin.take().unwrap();
    let address = announced(&mut child);
    let at_ms = a_minute_ago_ms();
    let writer = std::thread::spawn(move || flood(input, customers, at_ms));
    let (mut peak, mut said_cardinality) = (0, false);
    // Until everything that was written in full chunks is counted; the end waits in the pipe.
    let counted = loop {
        park_timeout(Duration::from_millis(500));
        peak = peak.max(peak_mib(&child).expect("it runs"));
        let ready = body(&format!("{address}readyz"));
        said_cardinality |= ready["notes"].to_string().contains("cardinality");
        let counted = number(&ready, "counted");
        if writer.is_finished() && counted >= customers {
            break counted;
        }
    };
    assert_eq!(counted, customers);
    assert!(said_cardinality, "/readyz has a note on the new customers");
    let bad = customers.div_ceil(FAILING);
    let fleet = body(&format!("{address}v1/fleet"));
    let window = &fleet["windows"]["1h"];
    assert_eq!((number(window, "valid"), number(window, "bad")), (customers, bad));
    assert!(fleet["partial"].is_string(), "{}", fleet["partial"]);
    // The first ones were evicted long ago; they are answered all the same.
    for nth in [0, 1, customers / 2, customers - 1] {
        let sla = body(&format!("{address}v1/customers/{}", customer(nth)));
        let objective = &sla["services"][0]["objectives"][0];
        let expect = (1, u64::from(nth.is_multiple_of(FAILING)));
        assert_eq!((number(objective, "valid"), number(objective, "bad")), expect, "{sla}");
    }
    let metrics = get(&format!("{address}metrics"));
    for name in [
        "ninefold_evicted_total",
        "ninefold_evicted_hot_total",
        "ninefold_evicted_loaded_total",
        "ninefold_series ",
        "ninefold_commits_total",
    ] {
        let line = metrics.lines().find(|line| line.starts_with(name));
        println!("{}", line.unwrap_or("no such metric"));
    }
    drop(writer.join().unwrap());
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_mib(&child).unwrap_or(0));
        park_timeout(Duration::from_millis(50));
    }
    println!("{customers} customers: at most {peak} MiB, with a budget of {total_mib} MiB");
    assert!(peak <= total_mib, "{peak} MiB");
    let (mut valid, mut failed, mut seen) = (0, 0, HashSet::new());
    let visit = |row: ninefold_engine::table::read::SeriesRow<'_>| {
        valid += row.measures.valid;
        failed += row.measures.bad;
        seen.insert(u64::from_str_radix(row.customer, 16).unwrap());
    };
    table(&data).for_each_series(&Filter::default(), visit).unwrap();
    assert_eq!((valid, failed, seen.len() as u64), (customers, bad, customers));
}

/// The wall clock, which the service answers by.
#[expect(clippy::disallowed_methods, reason = "the lines have to be of now")]
fn a_minute_ago_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("it is after 1970").as_millis() as i64 - 60_000
}
