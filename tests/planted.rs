//! Incidents that were planted are the first causes of `ninefold impact`: that of the generator of
//! the project's comparison (`NINEFOLD_BENCH`, or `../shared/bench` beside the repository; skipped
//! where it, or a Python for it, is missing), and those of `ninefold generate`.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;

use std::path::{Path, PathBuf};

use program::{json, python, replay, run, time};
use serde_json::Value;

/// 2025-12-01T12:00:00Z: the middle of the generator's day.
const NOON: u32 = 29_409_120 + 720;

/// The generator, where there is one.
fn generator() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/bench");
    let folder = std::env::var_os("NINEFOLD_BENCH").map_or(default, PathBuf::from);
    let script = folder.join("generate.py");
    if !script.is_file() {
        println!("skipped: no generator in {}", folder.display());
        return None;
    }
    Some(script)
}

/// The causes of some minutes of a table, both ends included.
fn causes(data: &Path, from: u32, to: u32) -> Vec<Value> {
    let (from, to) = (time(from), time(to));
    let data = data.to_str().unwrap();
    let impact = json(["impact", "--data", data, "--from", &from, "--to", &to, "--json"]);
    impact["causes"].as_array().unwrap().clone()
}

fn named(cause: &Value, values: &[(&str, &str)]) -> bool {
    let dimensions = cause["dimensions"].as_object().unwrap();
    dimensions.len() == values.len()
        && values.iter().all(|(name, value)| dimensions.get(*name).is_some_and(|of| of == value))
}

fn share(cause: &Value) -> f64 {
    cause["share_of_excess"].as_f64().unwrap_or_else(|| panic!("no share in {cause}"))
}

#[test]
fn the_first_cause_is_the_release_and_cohort_that_the_generator_planted() {
    let (Some(script), Some(_)) = (generator(), python()) else { return };
    let folder = tempfile::tempdir().unwrap();
    for (events, seed) in [("100000", "1"), ("500000", "2"), ("1500000", "3")] {
        let (out, data) = (folder.path().join("events.ndjson"), folder.path().join(seed));
        let mut python = python().expect("it was there");
        python.arg(&script).args(["--events", events, "--seed", seed, "--out"]).arg(&out);
        let ended = python.output().expect("Python can be started");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        replay(&out, &data, &[]);
        let found = causes(&data, NOON, NOON + 19);
        let first = found.first().unwrap_or_else(|| panic!("{events} {seed}: no cause"));
        let what = format!("{events} events, seed {seed}: {found:#?}");
        assert!(named(first, &[("release", "2026.11.2"), ("cohort", "canary")]), "{what}");
        assert!((0.9..=1.0).contains(&share(first)), "{what}");
    }
}

/// A table of `ninefold generate` with these incidents, which begin at noon.
fn generated(folder: &Path, seed: u32, incidents: &[String]) -> PathBuf {
    let (out, data) = (folder.join("events.ndjson"), folder.join(format!("{seed}")));
    let seed = seed.to_string();
    let out_text = out.to_str().unwrap();
    let mut line = vec!["generate", "--events", "400000", "--customers", "2000", "--seed", &seed];
    line.extend(["--start", "2025-12-01T00:00:00Z", "--services", "4", "--out", out_text]);
    for incident in incidents {
        line.extend(["--incident", incident.as_str()]);
    }
    let ended = run(line);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    replay(&out, &data, &[]);
    data
}

#[test]
fn where_only_a_pair_fails_the_pair_is_the_first_cause() {
    let folder = tempfile::tempdir().unwrap();
    let pair = "release=r42,cohort=canary,from=12:00,minutes=30,rate=0.3,share=0.5,elsewhere=0.3";
    for seed in 1..=3 {
        let data = generated(folder.path(), seed, &[pair.to_owned()]);
        let found = causes(&data, NOON, NOON + 29);
        assert!(named(&found[0], &[("release", "r42"), ("cohort", "canary")]), "{found:#?}");
        assert!(share(&found[0]) > 0.9, "{found:#?}");
    }
}

#[test]
fn two_incidents_at_once_are_two_causes_in_one_service_and_in_two() {
    let folder = tempfile::tempdir().unwrap();
    let release = "release=r42,cohort=canary,from=12:00,minutes=20,rate=0.4,service=checkout";
    for (seed, second) in [
        (1, "region=eu-west-1,from=12:00,minutes=20,rate=0.2,service=catalog"),
        (2, "route=POST /v1/payments,from=12:00,minutes=20,rate=0.2,service=checkout"),
    ] {
        let data = generated(folder.path(), seed, &[release.to_owned(), second.to_owned()]);
        let found = causes(&data, NOON, NOON + 19);
        let (name, rest) = second.split_once('=').unwrap();
        let value = rest.split(',').next().unwrap();
        let two = &found[..2.min(found.len())];
        let has = |part: (&str, &str)| two.iter().any(|one| one["dimensions"][part.0] == part.1);
        assert!(has(("release", "r42")) && has((name, value)), "{found:#?}");
        let shares: f64 = two.iter().map(share).sum();
        assert!((0.85..=1.0 + 1e-9).contains(&shares), "{found:#?}");
    }
}
