//! What the commands say of fixed events, held against stored text.
//!
//! `fixtures/events` holds a hand-made story and generated lines; `fixtures/golden` what each
//! command prints of them. A change of a contract shows as a change of those files in review:
//! `UPDATE_GOLDEN=1 cargo test --release --test golden` writes them anew.
//!
//! The hand-made story, October 2025: steady traffic of acme and globex for three days; on the
//! 15th at 12:30 the canary release r42 fails globex, at 100% for three minutes, then milder;
//! initech fails for one minute; acme has a late failure two days back. Then every form of the
//! native form, and eleven kinds of dead letters.

#[path = "common/session.rs"]
mod session;

use std::path::PathBuf;

use session::{Session, events, fixture};

/// The options that made `fixtures/events/generated.ndjson`.
const GENERATED: &str = "generate --seed 12 --events 240 --customers 5 --days 1 \
    --start 2025-10-16T00:00:00Z --time rfc3339 --services 2 \
    --incident release=r42,service=checkout,from=15:00,minutes=120,rate=0.7,latency=2.5 \
    --late-share 0.05 --weights 0.3 --broken 0.04 --ids 0.3 --duplicates 0.05";

/// Holds `text` against `fixtures/golden/NAME`, or stores it there.
fn check(name: &str, text: &str) {
    let path: PathBuf = fixture("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("fixtures can be written");
        return;
    }
    let expect = std::fs::read_to_string(&path).unwrap_or_default();
    let first = expect.lines().zip(text.lines()).position(|(expect, found)| expect != found);
    let line = first.map_or_else(|| "the end".to_owned(), |at| format!("line {}", at + 1));
    assert!(
        expect == text,
        "{} differs from {line} on; UPDATE_GOLDEN=1 stores this:\n{text}",
        path.display()
    );
}

#[test]
fn generated_lines_are_the_same_everywhere_and_always() {
    let found = Session::new().run(GENERATED).ok_with_notes();
    assert!(found.as_bytes() == events("generated.ndjson"), "the generator has changed");
}

#[test]
fn replays_are_summed_up() {
    let session = Session::with_events();
    let replay = "replay hand-made.ndjson generated.ndjson --data d";
    check("replay.txt", &session.run(replay).ok());
    check("replay-again.txt", &session.run(replay).ok());
    check("replay-again.json", &session.run(&format!("{replay} --json")).ok());
    let other = "replay hand-made.ndjson generated.ndjson --data other --json";
    check("replay.json", &session.run(other).ok());
    let verify = "verify hand-made.ndjson generated.ndjson --data d";
    check("verify.txt", &session.run(verify).ok());
    check("verify.json", &session.run(&format!("{verify} --json")).ok());
}

#[test]
fn a_table_that_differs_from_its_source_is_told_minute_by_minute() {
    let session = Session::with_events();
    let story = String::from_utf8(events("hand-made.ndjson")).expect("UTF-8");
    // Some twenty lines behind the begin, which names the file, and far before the end.
    let other = story.replacen("\"latency_ms\":18.5", "\"latency_ms\":19.5", 3);
    assert!(other != story && other.len() == story.len());
    session.run("replay hand-made.ndjson --data d").ok();
    session.write("hand-made.ndjson", other.as_bytes());
    let verdict = session.run("verify hand-made.ndjson --data d");
    assert_eq!((verdict.code, verdict.stderr.as_str()), (Some(1), ""), "{verdict}");
    check("verify-differs.txt", &verdict.stdout);
}

#[test]
fn a_table_is_proven_from_itself() {
    let session = Session::with_table();
    check("audit.txt", &session.run("audit --data d").ok());
    check("source-list.txt", &session.run("source list --data d").ok());
    let partition = session.run("source list --data d --json").json()["partitions"][0]["partition"]
        .as_str()
        .expect("a name")
        .to_owned();
    let words = ["source", "skip", "--data", "d", &partition, "--to", "99999", "--reason", "lost"];
    let refused = session.run_words(&words);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused}");
    check("source-skip.txt", &refused.stderr);
    let accepted = session.run_words(&[&words[..], &["--yes"]].concat()).ok();
    check("source-skipped.txt", &accepted);
    let dropped = session.path("d").join("rollups/_delta_log/00000000000000000001.json");
    std::fs::write(&dropped, "{").expect("the log can be written");
    let found = session.run("audit --data d");
    assert_eq!((found.code, found.stderr.as_str()), (Some(1), ""), "{found}");
    assert!(found.stdout.contains("line 1 is no JSON"), "{found}");
}

#[test]
fn customers_are_shown() {
    let session = Session::with_table();
    for (name, customer, rest) in [
        ("globex", "globex", "--at 2025-10-15T12:33:00Z"),
        ("acme", "acme", ""),
        ("forms", "forms", "--at 2025-10-15T12:00:30Z"),
    ] {
        let line = format!("sla {customer} --data d {rest}");
        check(&format!("sla-{name}.txt"), &session.run(&line).ok());
        check(&format!("sla-{name}.json"), &session.run(&format!("{line} --json")).ok());
    }
    let hostile = ["sla", "two\nlines, \"quoted\"", "--data", "d"];
    check("sla-two-lines.txt", &session.run_words(&hostile).ok());
}

#[test]
fn a_month_is_stated_in_every_format() {
    let session = Session::with_table();
    for (format, name) in [
        ("json", "report.json"),
        ("csv", "report.csv"),
        ("md", "report.md"),
        ("table", "report.txt"),
    ] {
        let line = format!("report --data d --month 2025-10 --format {format}");
        check(name, &session.run(&line).ok());
    }
    let tokyo = "report --data d --month 2025-10 --tz Asia/Tokyo --customer initech";
    check("report-initech-tokyo.txt", &session.run(tokyo).ok());
    check("report-empty.txt", &session.run("report --data d --month 2025-09").ok());
}

#[test]
fn an_incident_is_explained() {
    let session = Session::with_table();
    let line = "impact --data d --from 2025-10-15T12:30:00Z --to 2025-10-15T12:39:00Z";
    check("impact.txt", &session.run(line).ok());
    check("impact.json", &session.run(&format!("{line} --json")).ok());
    let quiet = "impact --data d --from 2025-10-14T12:30:00Z --to 2025-10-14T12:39:00Z";
    check("impact-nobody.txt", &session.run(quiet).ok());
}

#[test]
fn the_worst_customers_are_listed() {
    let session = Session::with_table();
    for by in ["burn", "budget", "bad", "valid"] {
        let line = format!("top --data d --by {by} --at 2025-10-15T12:33:00Z --limit 5");
        check(&format!("top-{by}.txt"), &session.run(&line).ok());
        check(&format!("top-{by}.json"), &session.run(&format!("{line} --json")).ok());
    }
}

#[test]
fn alert_history_is_told() {
    let session = Session::with_table();
    check("alerts.txt", &session.run("alerts --data d").ok());
    check("alerts.json", &session.run("alerts --data d --json").ok());
    check("alerts-live.txt", &session.run("alerts --data d --basis live").ok());
}

#[test]
fn a_configuration_is_explained_and_its_problems_are_told_all_at_once() {
    let session = Session::new();
    for name in ["saas.toml", "many-problems.toml"] {
        let text = std::fs::read(fixture("config").join(name)).expect("a fixture");
        session.write(name, &text);
    }
    check("check.txt", &session.run("check saas.toml").ok());
    check("init.toml", &session.run("init").ok());
    let problems = session.run("check many-problems.toml");
    assert_eq!((problems.code, problems.stdout.as_str()), (Some(1), ""), "{problems}");
    check("check-problems.txt", &problems.stderr);
}
