//! Whole-program tests that read like sessions at a terminal: every command, what it prints,
//! how it fails.

#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use service::Service;
use session::{Ended, Session, events, fixture};

/// Every command that `ninefold --help` lists.
const COMMANDS: [&str; 27] = [
    "demo", "init", "run", "replay", "sla", "report", "impact", "verdict", "top", "alerts",
    "serve", "verify", "compact", "vacuum", "audit", "doctor", "source", "check", "token",
    "generate", "rules", "import", "exclude", "silence", "silent", "review", "risks",
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Native lines of one minute each, good ones, numbered by their customer.
fn good_lines(numbers: std::ops::Range<u32>) -> String {
    let line = |n: u32| {
        let (hour, minute) = (n / 60, n % 60);
        format!(
            "{{\"ts\":\"2025-10-15T{hour:02}:{minute:02}:00Z\",\"customer\":\"c{n}\",\"status\":200}}\n"
        )
    };
    numbers.map(line).collect()
}

#[test]
fn a_log_counts_the_same_in_any_form() {
    let story = events("hand-made.ndjson");
    let summary = |session: &Session, files: &str| {
        session.run(&format!("replay {files} --data d --json")).json()
    };
    let plain = summary(&Session::with_events(), "hand-made.ndjson");
    assert_eq!((&plain["read"], &plain["dead"]), (&json!(142), &json!(11)));
    let session = Session::new();
    session.write("story.gz", &gzip(&story));
    assert_eq!(summary(&session, "story.gz"), plain);
    let session = Session::new();
    session.write("story.zst", &zstd::encode_all(story.as_slice(), 1).unwrap());
    assert_eq!(summary(&session, "story.*"), plain);
    let piped = Session::new().pipe(&story, "replay - --data d --json");
    assert_eq!(piped.json(), plain);
    let piped = Session::new().pipe(&gzip(&story), "replay - --data d --json");
    assert_eq!(piped.json(), plain);
}

#[test]
fn a_parquet_file_is_a_log() {
    let session = Session::new();
    session.write("sixty.parquet", &std::fs::read(fixture("events/sixty.parquet")).unwrap());
    let first = session.run("replay sixty.parquet --data d --json").json();
    assert_eq!((&first["read"], &first["counted"]), (&json!(60), &json!(60)));
    let second = session.run("replay sixty.parquet --data d --json").json();
    assert_eq!((&second["read"], &second["already"]), (&json!(0), &json!(60)));
    assert_eq!(second["valid"], first["valid"]);
    let verdict = session.run("verify sixty.parquet --data d --json").json();
    assert_eq!(verdict["equal"], true);
    assert!(verdict["compared"].as_u64() > Some(0), "{verdict}");
}

#[test]
fn a_late_event_corrects_its_minute_and_the_report_has_a_later_revision() {
    let session = Session::new();
    let line = |ts: &str, status: u16| {
        format!("{{\"ts\":\"{ts}\",\"customer\":\"acme\",\"status\":{status}}}\n")
    };
    let report = |session: &Session| {
        let report = session.run("report --data d --month 2025-10 --format json").json();
        let acme = &report["customers"][0];
        let counts = (acme["valid"].clone(), acme["bad"].clone(), acme["met"].clone());
        (counts, report["revision"].as_u64().expect("a revision"))
    };
    let october = line("2025-10-31T23:59:00Z", 200).repeat(500);
    session.write("october.log", (october + &line("2025-11-02T00:00:00Z", 200)).as_bytes());
    session.run("replay october.log --data d").ok();
    let (before, revision) = report(&session);
    assert_eq!(before, (json!(500), json!(0), json!(true)));
    // 40 minutes, 20 days and a month late: what the log said only after the month was over.
    let late = ["2025-10-31T23:20:00Z", "2025-10-11T00:00:00Z", "2025-10-01T00:00:00Z"];
    let late: String = late.iter().map(|ts| line(ts, 500)).collect();
    session.write("november.log", (line("2025-11-03T00:00:00Z", 200) + &late).as_bytes());
    session.run("replay november.log --data d").ok();
    let (after, later) = report(&session);
    assert_eq!(after, (json!(503), json!(3), json!(false)));
    assert!(later > revision, "{later} is later than {revision}");
}

#[test]
fn what_was_counted_adds_nothing_under_any_name() {
    let session = Session::new();
    let lines = good_lines(0..900);
    session.write("access.log", lines.as_bytes());
    session.run("replay access.log --data d").ok();
    session.write("copy.log", lines.as_bytes());
    session.write("access.log.1.gz", &gzip(lines.as_bytes()));
    session.write("grown.log", (lines + &good_lines(900..1_000)).as_bytes());
    let check = |files: &str, read: u64, already: u64| {
        let summary = session.run(&format!("replay {files} --data d --json")).json();
        assert_eq!(summary["read"], read, "{files}: {summary}");
        assert_eq!(summary["already"], already, "{files}: {summary}");
    };
    check("access.log", 0, 900);
    check("copy.log access.log.1.gz", 0, 900);
    check("grown.log", 100, 900);
    check("g*.log grown.log", 0, 1_000);
}

#[test]
fn a_duplicate_is_known_after_a_restart() {
    let session = Session::new();
    let line = |id: u32| {
        format!("{{\"ts\":1760529600000,\"customer\":\"c\",\"status\":200,\"id\":\"{id:08}\"}}\n")
    };
    let first: String = (0..100).map(line).collect();
    session.write("dedupe.toml", b"[dedupe]\nwindow_bytes = \"64KiB\"\n");
    session.write("a.log", first.as_bytes());
    session.run("replay a.log --data d -c dedupe.toml").ok();
    session.write("a.log", (first.clone() + &first + &line(100)).as_bytes());
    let summary = session.run("replay a.log --data d -c dedupe.toml --json").json();
    assert_eq!((&summary["duplicate"], &summary["counted"]), (&json!(100), &json!(1)));
    let verdict = session.run("verify a.log --data d -c dedupe.toml --json").json();
    assert_eq!(verdict["equal"], true);
    // And the same by the service, on the file grown once more.
    let last = line(7) + &line(101);
    session.write("a.log", (first.clone() + &first + &line(100) + &last).as_bytes());
    session.run("run a.log --data d -c dedupe.toml --listen 127.0.0.1:0").ok_with_notes();
    let sla = session.run("sla c --data d --json").json();
    assert_eq!(sla["services"][0]["objectives"][0]["valid"], 102);
}

#[test]
fn answers_are_printed_as_asked_for() {
    let session = Session::with_table();
    for format in ["table", "json", "csv", "md"] {
        let report = session.run(&format!("report --data d --month 2025-10 --format {format}"));
        assert!(report.ok().contains("globex"), "{format}");
    }
    let customer = |line: &str| session.run(line).json()["customers"][0]["customer"].clone();
    assert_eq!(customer("top --data d --by bad --json"), "globex");
    assert_eq!(customer("top --data d --by valid --json"), "acme");
    assert_eq!(customer("top --data d --by budget --json"), "<script>alert(1)</script>");
    assert_eq!(
        customer("top --data d --at 2025-10-15T12:40:00Z --by burn --json"),
        "<script>alert(1)</script>"
    );
    let one = session.run("top --data d --limit 1 --json").json();
    assert_eq!(one["customers"].as_array().map(Vec::len), Some(1));
    let line = "impact --data d --from 2025-10-15T12:30:00Z --to 2025-10-15T12:39:00Z --json";
    assert_eq!(session.run(line).json()["causes"][0]["dimensions"]["release"], "r42");
    let fired = session.run("alerts --data d --to 2025-10-15T12:30:59Z --json").json();
    assert_eq!(fired["alerts"].as_array().map(Vec::len), Some(5));
    assert!(session.run("verify hand-made.ndjson --data d").ok().ends_with("equal\n"));
}

#[test]
fn a_file_that_was_never_counted_is_no_proof() {
    let session = Session::with_table();
    session.write("other.ndjson", good_lines(0..20).as_bytes());
    let verdict = session.run("verify other.ndjson --data d");
    assert_eq!((verdict.code, verdict.stderr.as_str()), (Some(1), ""), "{verdict}");
    assert!(verdict.stdout.contains("not counted: other.ndjson"), "{verdict}");
}

#[test]
fn a_configuration_that_init_writes_is_one() {
    let session = Session::new();
    session.write("plain.toml", session.run("init").ok().as_bytes());
    assert!(session.run("check plain.toml").ok().contains("availability"));
    for (name, format) in [
        ("alb.log", "alb"),
        ("caddy.log", "caddy"),
        ("cloudfront.log", "cloudfront"),
        ("combined.log", "combined"),
        ("envoy.log", "envoy"),
        ("ndjson.log", "ndjson"),
        ("nginx-json.log", "nginx-json"),
        ("traefik.log", "traefik"),
    ] {
        session.write(name, &std::fs::read(fixture("formats").join(name)).unwrap());
        let config = format!("{format}.toml");
        assert_eq!(session.run(&format!("init {name} -o {config}")).ok(), "");
        assert!(session.read(&config).contains(&format!("format = \"{format}\"")), "{config}");
        session.run(&format!("check {config}")).ok();
        let summary =
            session.run(&format!("replay {name} --data {format} -c {config} --json")).json();
        assert!(summary["counted"].as_u64() > Some(0), "{name}: {summary}");
    }
    session.run("init -o plain.toml").fails(1, &["plain.toml", "give a new file"]);
}

#[test]
fn a_configuration_is_refused_with_all_its_problems() {
    let session = Session::new();
    session.write("bad.toml", &std::fs::read(fixture("config/many-problems.toml")).unwrap());
    let problems = [
        "bad.toml has 11 problems",
        "bad.toml:3: table.dir",
        "bad.toml:10: objective \"api\": target 99.8 is a percentage; write 0.998",
        "bad.toml:18: alerts.min_bad 0 is out of range; takes 1 to 1000000",
        "bad.toml:25: run.commit_intervall is no key; did you mean commit_interval?",
    ];
    session.run("check bad.toml").fails(1, &problems);
    session.run("top --data d -c bad.toml").fails(1, &problems);
    session.run("check none.toml").fails(1, &["cannot read none.toml", "No such file"]);
}

#[test]
fn a_seed_names_its_events_and_their_truth_is_what_is_counted() {
    let session = Session::new();
    let generate = |seed: u32, name: &str| {
        let incident = "--incident service=checkout,from=30,minutes=20,rate=0.5";
        let line = format!(
            "generate --seed {seed} --events 5000 --days 0.1 --broken 0.02 {incident} --out {name}"
        );
        assert_eq!(session.run(&line).ok_with_notes(), "");
        session.bytes(name)
    };
    let first = generate(3, "a.ndjson");
    assert!(first == generate(3, "b.ndjson") && first != generate(4, "c.ndjson"));
    let truth: Value = serde_json::from_str(&session.read("a.ndjson.truth.json")).unwrap();
    let summary = session.run("replay a.ndjson --data d --json").json();
    for key in ["counted", "dead"] {
        assert_eq!(summary[key], truth[key], "{key}");
    }
    for key in ["valid", "bad", "excluded"] {
        assert_eq!(summary[key], truth["total"][key], "{key}");
    }
    let printed = session.run("generate --events 10 --seed 3").ok_with_notes();
    assert_eq!(printed.lines().count(), 10);
}

#[test]
fn a_service_ends_with_its_sources() {
    let session = Session::with_events();
    let summary = |session: &Session| {
        let mut summary = session.run("replay hand-made.ndjson --data d --json").json();
        assert_eq!(summary["read"], 0);
        summary["already"].take()
    };
    session.run("run hand-made.ndjson --data d --listen 127.0.0.1:0").ok_with_notes();
    assert_eq!(summary(&session), 142);
    let session = Session::with_events();
    let piped = session.pipe(&events("hand-made.ndjson"), "run - --data d --listen 127.0.0.1:0");
    assert_eq!(piped.ok_with_notes(), "");
    // A pipe has no name that the file would be known by: it counts as often as it is sent.
    let piped = session.run("audit --data d --json").json();
    assert_eq!(piped["partitions"][0]["read"], 142, "{piped}");
}

#[test]
fn a_pipe_is_counted_while_it_is_open() {
    let session = Session::new();
    let mut service = Service::start(&session, "run - --data d --listen 127.0.0.1:0");
    service.write(&good_lines(0..5));
    service.until_read(5);
    service.write(&good_lines(5..7));
    service.until_read(7);
    assert_eq!(service.close().ok_with_notes(), "");
    assert_eq!(session.run("top --data d --json").json()["total"], 7);
}

#[test]
fn a_followed_log_is_counted_through_its_rotations() {
    let session = Session::new();
    session.write("run.toml", b"[run]\ncommit_interval = \"100ms\"\n");
    session.write("access.log", good_lines(0..10).as_bytes());
    let line = "run access.log --follow --data d -c run.toml --listen 127.0.0.1:0";
    let mut service = Service::start(&session, line);
    service.until_read(10);
    let append = |name: &str, text: &str| {
        let file = std::fs::OpenOptions::new().append(true).open(session.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    append("access.log", &good_lines(10..20));
    service.until_read(20);
    // Half a line waits for its other half.
    let half = good_lines(20..21);
    append("access.log", &half[..30]);
    append("access.log", &half[30..]);
    service.until_read(21);
    // Renamed, written on, and replaced.
    std::fs::rename(session.path("access.log"), session.path("access.log.1")).unwrap();
    append("access.log.1", &good_lines(21..25));
    session.write("access.log", good_lines(25..30).as_bytes());
    service.until_read(30);
    // Truncated in place, as copytruncate does.
    session.write("access.log", good_lines(30..32).as_bytes());
    service.until_read(32);
    assert_eq!(service.stop().ok_with_notes(), "");
    let top = session.run("top --data d --limit 100 --json").json();
    assert_eq!(top["total"], 32);
    assert_eq!(session.run("verify access.log.1 access.log --data d --json").json()["equal"], true);
    // What came while nobody looked is found at the next start.
    append("access.log", &good_lines(32..40));
    let mut service = Service::start(&session, line);
    service.until_read(8);
    assert_eq!(service.stop().ok_with_notes(), "");
    assert_eq!(session.run("top --data d --limit 100 --json").json()["total"], 40);
}

#[test]
fn a_service_counts_two_copies_and_a_compressed_one_once() {
    let session = Session::new();
    let lines = good_lines(0..1_000);
    session.write("a.log", lines.as_bytes());
    session.write("b.log", lines.as_bytes());
    session.write("c.gz", &gzip(lines.as_bytes()));
    session.run("run a.log b.log c.gz --data d --listen 127.0.0.1:0").ok_with_notes();
    let again = session.run("replay a.log --data d --json").json();
    assert_eq!((&again["valid"], &again["already"]), (&json!(1_000), &json!(1_000)));
    // A compressed file does not grow: it is read, and nothing more is expected of it.
    session.run("run c.gz --follow --data other --listen 127.0.0.1:0").ok_with_notes();
    assert_eq!(session.run("top --data other --json").json()["total"], 1_000);
}

#[test]
fn failures_name_what_and_what_to_do() {
    let session = Session::with_table();
    let fails = |line: &str, code: i32, parts: &[&str]| session.run(line).fails(code, parts);
    fails("replay none.log --data d", 1, &["none.log", "no such file"]);
    fails("replay none*.log --data d", 1, &["none*.log", "no file matches"]);
    fails("replay . --data d", 1, &["cannot read .", "directory"]);
    fails("verify none.log --data d", 1, &["none.log", "no such file"]);
    for ask in
        ["sla acme", "top", "alerts", "report --month 2025-10", "verify hand-made.ndjson", "serve"]
    {
        fails(&format!("{ask} --data none"), 1, &["no table in none", "ninefold replay"]);
        fails(ask, 2, &["--data DIR", "[table] dir"]);
    }
    fails("sla nobody --data d", 1, &["unknown customer \"nobody\"", "ninefold top"]);
    fails("sla acme --service x --data d", 1, &["unknown service \"x\""]);
    fails("report --month 2025-10 --customer nobody --data d", 1, &["\"nobody\"", "ninefold top"]);
    fails("sla acme --at yesterday --data d", 2, &["yesterday", "--at", "2026-11-01T12:00:00Z"]);
    fails("top --at 1999-01-01T00:00:00Z --data d", 2, &["--at", "2000 to 2100"]);
    fails("impact --from 2025-10-15T12:30:00Z --data d", 2, &["--to"]);
    fails(
        "impact --from 2025-10-15T12:30:00Z --to 2025-10-15T12:29:00Z --data d",
        2,
        &["--to", "before from"],
    );
    fails("report --month 2025-13 --data d", 2, &["2025-13", "2026-10"]);
    fails(
        "report --month 2025-10 --tz Mars/Base --data d",
        2,
        &["--tz", "Mars/Base", "Europe/Berlin"],
    );
    fails("report --month 2025-10 --format pdf --data d", 2, &["pdf", "csv"]);
    fails("replay hand-made.ndjson --format csv --data d", 2, &["csv", "combined"]);
    fails("top --by name --data d", 2, &["name", "burn"]);
    fails("top --limit 0 --data d", 2, &["--limit", "1 to 1000"]);
    fails("top --threads 0 --data d", 2, &["--threads"]);
    fails("run --data d", 2, &["nothing to count", "[[source.file]]"]);
    fails("generate --broken 3", 2, &["broken", "0 to 1"]);
    fails("generate --incident rate", 2, &["rate", "key=value"]);
    fails("frobnicate", 2, &["frobnicate", "--help"]);
    fails("init none.log", 1, &["none.log"]);
    session.write("noise", b"what is this\nno log of any kind\n");
    fails("replay noise --data d", 1, &["noise", "unknown format", "--format"]);
    fails("init noise", 1, &["noise", "format"]);
    session.write("file", b"");
    fails("replay hand-made.ndjson --data file", 1, &["file"]);
    fails("serve --data d --listen 0.0.0.0:0", 1, &["0.0.0.0:0", "loopback", "proxy"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for service in ["serve", "run hand-made.ndjson"] {
        let line = format!("{service} --data d --listen {address}");
        fails(&line, 1, &[&format!("cannot listen on {address}"), "another --listen"]);
    }
}

#[test]
fn a_truncated_log_is_refused_by_name() {
    let session = Session::new();
    let lines = good_lines(0..500);
    session.write("a.log", lines.as_bytes());
    session.run("replay a.log --data d").ok();
    session.write("a.log", &lines.as_bytes()[..lines.len() / 2]);
    session.run("replay a.log --data d").fails(1, &["a.log", "truncated", "give the whole file"]);
}

#[test]
fn an_empty_log_is_a_log() {
    let session = Session::new();
    session.write("empty.log", b"");
    let summary = session.run("replay empty.log --data d --json").json();
    assert_eq!((&summary["read"], &summary["customers"]), (&json!(0), &json!(0)));
    assert_eq!(session.run("top --data d --json").json()["total"], 0);
    assert!(session.run("alerts --data d").ok().contains("no alerts"));
    session.run("report --data d --month 2025-10").ok();
    session.run("sla acme --data d").fails(1, &["unknown customer"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let session = Session::with_table();
    for line in [
        "report --data d --month 2025-10 --format csv",
        "top --data d --json",
        "alerts --data d",
        "generate --events 100000",
        "init",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut child = session.command(&words).stdin(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = Ended::of(line.to_owned(), child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{ended}");
        assert!(!ended.stderr.contains("panicked"), "{ended}");
    }
}

#[test]
fn help_is_there_for_every_command() {
    let session = Session::new();
    let all = session.run("--help").ok();
    assert!(all.contains("ninefold demo") && all.contains("Exit codes"), "{all}");
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command} in {all}");
        let help = session.run(&format!("{command} --help")).ok();
        assert!(help.contains(&format!("Usage: ninefold {command}")), "{help}");
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{help}");
    }
    let listed = all.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let listed = listed.filter(|line| !line.starts_with("    ")).count();
    assert_eq!(listed, COMMANDS.len() + 1, "and `help`: {all}");
    assert!(session.run("--version").ok().starts_with("ninefold "));
}

#[test]
fn the_folder_of_the_table_may_be_configured() {
    let session = Session::with_events();
    session.write("here.toml", b"[table]\ndir = \"here\"\n\n[run]\nthreads = 1\n");
    session.run("replay hand-made.ndjson -c here.toml").ok();
    assert!(session.path("here/rollups").is_dir());
    let answers = |rest: &str| session.run(&format!("sla acme --json {rest}")).json();
    assert_eq!(answers("-c here.toml"), answers("--data here"));
    assert_eq!(answers("-c here.toml --threads 2"), answers("--data here"));
}

#[test]
fn more_is_said_on_standard_error_alone() {
    let session = Session::with_events();
    let ended = session.run("replay hand-made.ndjson --data d --json -v");
    assert!(ended.stderr.contains("hand-made.ndjson: file/"), "{ended}");
    serde_json::from_str::<Value>(&ended.stdout).unwrap();
}

#[test]
fn a_demo_ends_by_itself_and_leaves_nothing() {
    let session = Session::new();
    let started = std::time::Instant::now();
    let ended = session.run("demo --for-s 1 --port 0");
    assert!(started.elapsed() > Duration::from_secs(1));
    let said = ended.ok_with_notes();
    let folder = said.split("table in ").nth(1).and_then(|rest| rest.lines().next());
    assert!(said.starts_with("open http://127.0.0.1:"), "{said}");
    assert!(!std::path::Path::new(folder.unwrap()).exists(), "{said}");
}

#[test]
fn a_release_that_fails_is_bad_and_the_one_before_is_not() {
    let session = Session::new();
    let incident = "release=r42,cohort=canary,from=600,minutes=20,rate=0.3";
    let line = format!(
        "generate --seed 5 --events 200000 --customers 200 --days 1 --out e.ndjson --incident {incident}"
    );
    assert_eq!(session.run(&line).code, Some(0));
    session.run("replay e.ndjson --data d").ok();
    let truth: Value =
        serde_json::from_slice(&std::fs::read(session.path("e.ndjson.truth.json")).unwrap())
            .unwrap();
    let at = |minute: i64| {
        truth["incidents"][0][["from", "to"][minute as usize]].as_str().unwrap().to_owned()
    };
    let (from, to) = (at(0), at(1));
    let bad = session.run(&format!("verdict r42 --data d --from {from} --to {to} --json")).json();
    assert_eq!((&bad["verdict"], &bad["dimension"]), (&json!("bad"), &json!("release")), "{bad:#}");
    assert!(bad["errors"]["excess"].as_f64().unwrap() > 10.0, "{bad:#}");
    assert!(bad["customers_hit"].as_u64().unwrap() > 3, "{bad:#}");
    let region = session
        .run(&format!("verdict us-east-1 --by region --data d --from {from} --to {to} --json"));
    assert_ne!(region.json()["verdict"], json!("bad"));
    let text = session.run(&format!("verdict canary --by cohort --data d --from {from} --to {to}"));
    assert!(text.ok().contains("cohort canary: BAD"));
    let unknown = session.run("verdict r99 --data d");
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("unknown release \"r99\""), "{unknown:?}");
}
