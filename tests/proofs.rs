//! The proofs that users have of a table: each thing that must hold is broken once by hand, and
//! the audit names it, with the place and a remedy. What is whole is clean, also while it is
//! being written, after a gap was accepted, and after others have rewritten files.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;
#[path = "common/session.rs"]
mod session;

use std::fs;
use std::path::{Path, PathBuf};

use ninefold_engine::table::schema::Grain;
use ninefold_engine::table::{DataFile, Epoch, Filter, Move};
use ninefold_engine::time::{Day, parse_rfc3339};
use program::{python, script, table};
use serde_json::{Value, json};
use session::{Session, events};

/// A session with a table `d` of the fixtures, counted in as many commits as `parts`.
fn counted(parts: usize) -> Session {
    let session = Session::new();
    let lines = events("hand-made.ndjson");
    // The first KiB names a file, so a part is never shorter.
    let least = 2_048;
    for part in 1..=parts {
        let end = least + (lines.len() - least) * part / parts;
        let end = lines[..end].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
        session.write("story.ndjson", &lines[..end]);
        session.run("replay story.ndjson --data d").ok();
    }
    session
}

/// What `ninefold audit --json` says, and its exit code.
fn audit(session: &Session) -> (Option<i32>, Value) {
    let ended = session.run("audit --data d --json");
    let audit = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended}"));
    (ended.code, audit)
}

fn assert_clean(session: &Session, what: &str) -> Value {
    let (code, audit) = audit(session);
    assert_eq!((code, &audit["clean"]), (Some(0), &json!(true)), "{what}: {audit:#}");
    audit
}

/// The audit fails, and each of `expect` is the begin of a finding, as `proof: place: found`.
fn assert_finds(session: &Session, what: &str, expect: &[(&str, &str)]) {
    let (code, audit) = audit(session);
    assert_eq!((code, &audit["clean"]), (Some(1), &json!(false)), "{what}: {audit:#}");
    let findings = audit["findings"].as_array().expect("findings");
    for (proof, part) in expect {
        let named = findings
            .iter()
            .any(|finding| finding["proof"] == *proof && finding.to_string().contains(part));
        assert!(named, "{what}: no {proof} with {part:?} in {audit:#}");
    }
    let remedied = |finding: &Value| !finding["remedy"].as_str().unwrap_or_default().is_empty();
    assert!(findings.iter().all(remedied), "{what}: every finding has a remedy: {audit:#}");
    let text = session.run("audit --data d");
    assert_eq!(text.code, Some(1), "{text}");
    assert!(text.stdout.contains("finding: ") && text.stdout.contains("remedy: "), "{text}");
}

/// A copy of a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A session with a copy of another one's table.
fn copied(session: &Session) -> Session {
    let other = Session::new();
    copy(&session.path("d"), &other.path("d"));
    other
}

fn rollups(session: &Session) -> PathBuf {
    session.path("d").join("rollups")
}

fn entry_path(session: &Session, version: u64) -> PathBuf {
    rollups(session).join(format!("_delta_log/{version:020}.json"))
}

/// The actions of a log entry.
fn entry(session: &Session, version: u64) -> Vec<Value> {
    let text = fs::read_to_string(entry_path(session, version)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write_entry(session: &Session, version: u64, actions: &[Value]) {
    let text: String = actions.iter().map(|action| format!("{action}\n")).collect();
    fs::write(entry_path(session, version), text).unwrap();
}

/// The data file of a grain that an entry adds, relative to the table.
fn added(session: &Session, version: u64, grain: &str) -> String {
    let of_grain = |action: &Value| {
        let path = action["add"]["path"].as_str()?;
        path.starts_with(&format!("grain={grain}/")).then(|| path.to_owned())
    };
    entry(session, version).iter().find_map(of_grain).unwrap_or_else(|| panic!("no {grain}"))
}

/// The entry without the files of a grain.
fn drop_grain(session: &Session, version: u64, grain: &str) {
    let prefix = format!("grain={grain}/");
    let mut actions = entry(session, version);
    let before = actions.len();
    actions.retain(|action| {
        action["add"]["path"].as_str().is_none_or(|path| !path.starts_with(&prefix))
    });
    assert!(actions.len() < before, "{grain} is in entry {version}");
    write_entry(session, version, &actions);
}

/// Commits the rows of a grain's first file once more.
fn commit_again(session: &Session, grain: Grain, moves: Vec<Move>) {
    let mut table = table(&session.path("d"));
    let batches: Vec<_> =
        table.scan(grain, &Filter::default()).unwrap().take(1).map(|rows| rows.unwrap()).collect();
    let day = match grain {
        Grain::Source | Grain::Dead => Day(0),
        _ => Day((parse_rfc3339(b"2025-10-13T00:00:00Z").unwrap() / 86_400_000) as u32),
    };
    table
        .commit(Epoch { files: vec![DataFile { grain, day, batches }], moves, info: String::new() })
        .unwrap();
}

#[test]
fn what_is_whole_is_clean() {
    let session = Session::with_table();
    let text = session.run("audit --data d").ok();
    assert!(text.ends_with("clean: everything holds\n"), "{text}");
    let audit = assert_clean(&session, "two files");
    let partitions = audit["partitions"].as_array().unwrap();
    let sum = |key: &str| partitions.iter().map(|one| one[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("read"), sum("counted"), sum("dead")), (382, 363, 19), "{audit:#}");
    // Valid and excluded ones, by the summary of the replay.
    assert_eq!(sum("events"), 16_179 + 2, "{audit:#}");
    assert_clean(&counted(5), "a file that grew");
    let nothing = Session::new();
    nothing.run("audit --data d").fails(1, &["no table in"]);
}

#[test]
fn damaged_files_are_named() {
    let whole = counted(3);
    let path = added(&whole, 2, "series");
    for (what, part, damage) in [
        ("missing", "is missing", (|path| fs::remove_file(path).unwrap()) as fn(&Path)),
        ("shorter", "bytes and the log says", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("one bit flipped", "SHA-256", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
    ] {
        let session = copied(&whole);
        damage(&rollups(&session).join(&path));
        assert_finds(&session, what, &[("file", part), ("file", &path)]);
    }
}

#[test]
fn a_damaged_log_is_explained() {
    let whole = counted(4);
    let session = copied(&whole);
    fs::remove_file(entry_path(&session, 2)).unwrap();
    let expect = [("log", "log hole at version 2"), ("table", "it cannot be opened")];
    assert_finds(&session, "an entry is gone", &expect);
    let doctor = session.run("doctor --data d");
    assert_eq!(doctor.code, Some(1), "{doctor}");
    assert!(doctor.stdout.contains("log hole at version 2"), "{doctor}");
    assert!(doctor.stdout.contains("restore it from a copy"), "{doctor}");

    let session = copied(&whole);
    let text = fs::read(entry_path(&session, 4)).unwrap();
    fs::write(entry_path(&session, 4), &text[..text.len() - 40]).unwrap();
    assert_finds(&session, "a torn entry", &[("log", "is no JSON")]);

    let session = copied(&whole);
    let mut actions = entry(&session, 3);
    for action in &mut actions {
        if let Some(version) = action.pointer_mut("/txn/version") {
            *version = json!(version.as_u64().unwrap() + 7);
        }
    }
    write_entry(&session, 3, &actions);
    assert_clean(&session, "a later entry says where the partition stands");
    let mut actions = entry(&session, 4);
    for action in &mut actions {
        if let Some(version) = action.pointer_mut("/txn/version") {
            *version = json!(version.as_u64().unwrap() + 7);
        }
    }
    write_entry(&session, 4, &actions);
    assert_finds(&session, "an offset that no row reaches", &[("offsets", "are in no commit")]);
}

#[test]
fn rows_that_are_missing_are_told_by_their_proof() {
    let whole = counted(3);
    let all = [
        ("series", "events", "this commit counted"),
        ("dimension", "dimension", "dimension valid 0"),
        ("failure", "failure", "failure valid 0"),
        ("source", "offsets", "are in no commit and in no gap"),
        ("dead", "dead", "dead letters and has"),
    ];
    for (grain, proof, part) in all {
        let session = copied(&whole);
        let versions = 1..=3;
        let version = versions.clone().find(|version| {
            entry(&session, *version).iter().any(|action| {
                let path = action["add"]["path"].as_str();
                path.is_some_and(|path| path.starts_with(&format!("grain={grain}/")))
            })
        });
        drop_grain(&session, version.unwrap_or_else(|| panic!("{grain} in {versions:?}")), grain);
        assert_finds(&session, grain, &[(proof, part), (proof, "file/")]);
    }
}

#[test]
fn rows_too_many_are_told_by_their_proof() {
    let whole = counted(2);
    for (grain, proof, part) in [
        (Grain::Series, "events", "the table counted"),
        (Grain::Dimension, "dimension", "series has"),
        (Grain::Failure, "failure", "series has"),
        (Grain::Source, "offsets", "are counted or left out twice"),
        (Grain::Dead, "dead", "the table counted"),
    ] {
        let session = copied(&whole);
        commit_again(&session, grain, Vec::new());
        assert_finds(&session, grain.name(), &[(proof, part)]);
    }
}

#[test]
fn a_checkpoint_that_differs_from_its_entries_is_named() {
    let session = counted(101);
    let checkpoint = rollups(&session).join(format!("_delta_log/{:020}.checkpoint.parquet", 100));
    assert!(checkpoint.exists(), "a hundred commits make a checkpoint");
    assert_clean(&session, "with a checkpoint");

    let cleaned = copied(&session);
    (0..90).for_each(|version| fs::remove_file(entry_path(&cleaned, version)).unwrap());
    assert_clean(&cleaned, "old entries were cleaned away");

    let broken = copied(&session);
    drop_grain(&broken, 50, "series");
    let expect = [("checkpoint", "which no entry adds"), ("log", "which no entry adds")];
    assert_finds(&broken, "an entry lost a file after the checkpoint", &expect);

    let hole = copied(&session);
    fs::remove_file(entry_path(&hole, 50)).unwrap();
    assert_finds(&hole, "readers see no harm", &[("log", "readers begin at a later checkpoint")]);
}

/// An entry of others, on top of the newest.
fn foreign(session: &Session, operation: &str, actions: &[Value]) {
    let version = table(&session.path("d")).version() + 1;
    let info = json!({"commitInfo": {
        "timestamp": 1_760_000_000_000_u64, "operation": operation, "engineInfo": "other/1.0",
    }});
    write_entry(session, version, &[&[info], actions].concat());
}

#[test]
fn others_may_rewrite_files_and_nothing_else() {
    let whole = counted(2);
    let path = added(&whole, 1, "series");
    let mut add = entry(&whole, 1)
        .into_iter()
        .find(|action| action["add"]["path"] == path.as_str())
        .expect("the file's action");
    let moved = path.replace(".parquet", "-rewritten.parquet");
    add["add"]["path"] = json!(moved);
    add["add"]["dataChange"] = json!(false);
    let now_ms = u64::MAX >> 12;
    let remove = json!({"remove": {
        "path": path, "dataChange": false, "deletionTimestamp": now_ms,
    }});

    let session = copied(&whole);
    fs::copy(rollups(&session).join(&path), rollups(&session).join(&moved)).unwrap();
    foreign(&session, "OPTIMIZE", &[remove.clone(), add.clone()]);
    let audit = assert_clean(&session, "OPTIMIZE");
    assert!(audit["notes"].to_string().contains("OPTIMIZE"), "{audit:#}");
    // The file that was replaced is needed by readers of the version before.
    fs::remove_file(rollups(&session).join(&path)).unwrap();
    assert_finds(&session, "too short a VACUUM", &[("vacuum", &path)]);
    // And here a file that is live has gone.
    foreign(&session, "VACUUM END", &[]);
    fs::remove_file(rollups(&session).join(&moved)).unwrap();
    assert_finds(&session, "VACUUM of a live file", &[("file", &moved), ("file", "VACUUM END")]);

    let session = copied(&whole);
    add["add"]["dataChange"] = json!(true);
    fs::copy(rollups(&session).join(&path), rollups(&session).join(&moved)).unwrap();
    foreign(&session, "WRITE", &[add]);
    assert_finds(&session, "rows of others", &[("foreign", &moved), ("events", "the table")]);

    let session = copied(&whole);
    let mut metadata = entry(&session, 0).into_iter().find(|one| one["metaData"].is_object());
    let metadata = metadata.as_mut().expect("the table's");
    metadata["metaData"]["configuration"]["delta.logRetentionDuration"] = json!("interval 1 day");
    foreign(&session, "SET TBLPROPERTIES", std::slice::from_ref(metadata));
    assert_finds(&session, "a property", &[("property", "delta.logRetentionDuration")]);
    let name = "delta.setTransactionRetentionDuration";
    metadata["metaData"]["configuration"][name] = json!("interval 1 day");
    foreign(&session, "SET TBLPROPERTIES", std::slice::from_ref(metadata));
    assert_finds(&session, "offsets would expire", &[("table", name)]);
}

#[test]
fn optimize_and_vacuum_of_delta_rs_are_seen_for_what_they_are() {
    let session = counted(6);
    let Some(first) = python() else { return };
    let dir = rollups(&session);
    let found = script(first, "optimize.py", [dir.to_str().unwrap()]);
    assert!(found["removed"].as_u64() > Some(0), "{found}");
    let audit = assert_clean(&session, "OPTIMIZE by delta-rs");
    assert!(audit["notes"].to_string().contains("OPTIMIZE"), "{audit:#}");
    let Some(second) = python() else { return };
    let found = script(second, "optimize.py", [dir.to_str().unwrap(), "--vacuum"]);
    let gone = found["vacuumed"][0].as_str().expect("a file was deleted").to_owned();
    assert_finds(&session, "VACUUM by delta-rs", &[("vacuum", &gone)]);
}

#[test]
fn a_gap_is_accepted_once_recorded_and_reported() {
    let session = counted(2);
    let list = session.run("source list --data d --json").json();
    let partition = list["partitions"][0]["partition"].as_str().unwrap().to_owned();
    let next = list["partitions"][0]["next"].as_u64().unwrap();
    assert_eq!(list["gaps"], json!([]));
    let to = (next + 500).to_string();
    let skip = |to: &str, yes: &[&str]| {
        let fixed =
            ["source", "skip", "--data", "d", &partition, "--to", to, "--reason", "disk broke"];
        session.run_words(&[&fixed, yes].concat())
    };
    skip(&to, &[]).fails(2, &["would never be counted", "--yes"]);
    assert_eq!(table(&session.path("d")).offset(&partition).unwrap(), Some(next));
    skip(&next.to_string(), &["--yes"]).fails(1, &["stands at offset", "a gap must end behind"]);
    let told = skip(&to, &["--yes"]).ok();
    assert!(told.contains(&format!("offsets {next}..{to} are a gap")), "{told}");
    assert_eq!(table(&session.path("d")).offset(&partition).unwrap(), Some(next + 500));
    skip(&to, &["--yes"]).fails(1, &["a gap must end behind"]);
    let unknown = "source skip --data d kafka/x/0 --to 1 --reason r --yes";
    session.run(unknown).fails(1, &["kafka/x/0 is unknown", "source list"]);

    let audit = assert_clean(&session, "a gap tiles");
    assert_eq!(audit["gaps"][0]["next"], next + 500, "{audit:#}");
    assert_eq!(audit["partitions"][0]["gap"], 500, "{audit:#}");
    let list = session.run("source list --data d").ok();
    assert!(list.contains("data gap: ") && list.contains("disk broke"), "{list}");

    // It may hold events of any minute from the newest counted one on.
    let report = session.run("report --data d --month 2025-10 --format json").json();
    assert_eq!(report["gaps"][0]["partition"], partition.as_str(), "{report:#}");
    let text = session.run("report --data d --month 2025-10").ok();
    assert!(text.contains("data gap: "), "{text}");
    let before = session.run("report --data d --month 2025-09 --format json").json();
    assert_eq!(before["gaps"], json!([]), "{before:#}");
    let impact = session
        .run("impact --data d --from 2025-10-17T12:30:00Z --to 2025-10-17T12:39:00Z --json")
        .json();
    assert_eq!(impact["gaps"].as_array().unwrap().len(), 1, "{impact:#}");
}

#[test]
fn the_doctor_finds_a_table_well_and_says_what_it_looked_at() {
    let session = counted(2);
    let said = session.run("doctor --data d").ok();
    for about in ["disk: ", "clock: ", "space: ", "table: ", "log: ", "files: ", "time zones: "] {
        assert!(said.contains(about), "{about} is not in {said}");
    }
    let before: Vec<_> = fs::read_dir(rollups(&session)).unwrap().collect();
    assert!(before.iter().all(|entry| {
        !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("_probe")
    }));
    let json = session.run("doctor --data d --json").json();
    assert_eq!(json["healthy"], true, "{json:#}");
    let path = added(&session, 1, "series");
    fs::remove_file(rollups(&session).join(&path)).unwrap();
    let said = session.run("doctor --data d");
    assert_eq!(said.code, Some(1), "{said}");
    assert!(said.stdout.contains(&path) && said.stdout.contains("is missing"), "{said}");
    let nothing = Session::new().run("doctor --data nowhere").ok();
    assert!(nothing.contains("there is none"), "{nothing}");
}
