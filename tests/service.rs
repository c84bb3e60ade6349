//! `ninefold run` under fire: several instances on one table, zombies, a store that fails, stops,
//! reloads, panics. Whatever happens, each line is counted once, and every instance answers what
//! a recount of the lines says.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;
#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;
#[path = "common/small.rs"]
mod small;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use ninefold_engine::failpoint::{POINTS, VARIABLE};
use ninefold_engine::state::snapshot::PARTS;
use ninefold_engine::table::{Filter, JUDGE};
use program::{assert_clean, assert_same, minutes, table, time};
use recount::{Recount, Rules};
use serde_json::Value;
use service::Service;
use session::Session;
use small::Small;

/// Commits come often, so that the tests need not wait for them.
const CONFIG: &str = "[run]\ncommit_interval = \"200ms\"\n";

/// The first minute of the made-up lines.
const START: u32 = 29_328_480;

fn session(config: &str) -> Session {
    let session = Session::new();
    session.write("c.toml", config.as_bytes());
    session
}

fn run_line(files: &str) -> String {
    format!("run --data d --config c.toml --follow {files} --listen 127.0.0.1:0")
}

/// Lines `range` of a stream: some customers, some failures, one broken line in fifty.
fn lines(range: std::ops::Range<u32>) -> String {
    let line = |n: u32| {
        let ts = i64::from(START) * 60_000 + i64::from(n) * 700;
        let (customer, status) = (n % 7, if n.is_multiple_of(11) { 503 } else { 200 });
        if n % 50 == 49 {
            return format!("broken {n}\n");
        }
        format!("{{\"ts\":{ts},\"customer\":\"c{customer}\",\"status\":{status}}}\n")
    };
    range.map(line).collect()
}

fn append(session: &Session, name: &str, text: &str) {
    let mut file =
        OpenOptions::new().create(true).append(true).open(session.path(name)).expect("writable");
    file.write_all(text.as_bytes()).expect("there is space");
}

/// What the recount of some files says by customer: valid and bad.
fn recounted(session: &Session, files: &[&str]) -> BTreeMap<String, (u64, u64)> {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for file in files {
        for ((customer, ..), counts) in Recount::of(&session.bytes(file), Rules::default()).minutes
        {
            let sum = sums.entry(customer).or_default();
            *sum = (sum.0 + counts.valid, sum.1 + counts.bad);
        }
    }
    sums
}

/// What an instance answers by customer: valid and bad; `None` while it cannot.
fn answered(service: &Service) -> Option<BTreeMap<String, (u64, u64)>> {
    let at = time(START + 10_000);
    let answer = service.get(&format!("/v1/customers?sort=valid&limit=100&at={at}"));
    if answer.status != 200 {
        return None;
    }
    let row = |row: &Value| {
        let count = |key: &str| row[key].as_u64().expect("a count");
        (row["customer"].as_str().expect("a name").to_owned(), (count("valid"), count("bad")))
    };
    Some(answer.json()["customers"].as_array()?.iter().map(row).collect())
}

/// Waits until an instance answers what the recount says.
fn until_exact(service: &mut Service, session: &Session, files: &[&str]) {
    let expected = recounted(session, files);
    let total = |sums: &BTreeMap<String, (u64, u64)>| sums.values().map(|sum| sum.0).sum::<u64>();
    let most = total(&expected);
    service.until("the recount", |service| {
        let found = answered(service)?;
        assert!(total(&found) <= most, "counted twice: {found:?}, not {expected:?}");
        (found == expected).then_some(())
    });
}

/// Waits until everything is committed.
fn until_committed(service: &mut Service) {
    service.until("the commit", |service| {
        (service.json("/healthz")["uncommitted_age_ms"] == 0).then_some(())
    });
}

fn check_table(session: &Session, files: &[&str]) {
    let mut expected = BTreeMap::new();
    for file in files {
        for (key, counts) in Recount::of(&session.bytes(file), Rules::default()).minutes {
            let sum: &mut recount::Counts = expected.entry(key).or_default();
            sum.add(&counts);
        }
    }
    assert_same(&minutes(&session.path("d")), &expected, "the table");
    assert_clean(&session.path("d"), "the table");
}

fn partitions(service: &Service) -> usize {
    service.json("/healthz")["partitions"].as_array().expect("a list").len()
}

fn is_judge(service: &Service) -> bool {
    service.json("/healthz")["role"] == "judge"
}

#[test]
fn of_two_instances_on_one_file_one_counts_and_the_other_takes_over() {
    let session = session(CONFIG);
    append(&session, "a.log", &lines(0..500));
    let line = run_line("a.log");
    let mut one = Service::start(&session, &line);
    until_exact(&mut one, &session, &["a.log"]);
    until_committed(&mut one);
    let mut two = Service::start(&session, &line);
    for round in 1..6 {
        append(&session, "a.log", &lines(round * 500..(round + 1) * 500));
        until_exact(&mut one, &session, &["a.log"]);
        until_exact(&mut two, &session, &["a.log"]);
    }
    let (counting, mut other) = if partitions(&one) > 0 { (one, two) } else { (two, one) };
    counting.kill();
    append(&session, "a.log", &lines(3_000..3_500));
    until_exact(&mut other, &session, &["a.log"]);
    other.until("the role", |service| is_judge(service).then_some(()));
    let ended = other.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
    check_table(&session, &["a.log"]);
}

#[test]
fn a_zombie_that_wakes_up_is_fenced_and_counts_on() {
    let session = session(CONFIG);
    append(&session, "a.log", &lines(0..500));
    let line = run_line("a.log");
    let mut zombie = Service::start(&session, &line);
    until_exact(&mut zombie, &session, &["a.log"]);
    until_committed(&mut zombie);
    // It has read lines that it will not have committed when it is stopped, or it will read
    // them when it wakes up.
    append(&session, "a.log", &lines(500..600));
    zombie.signal("STOP");
    let mut next = Service::start(&session, &line);
    append(&session, "a.log", &lines(600..1_000));
    until_exact(&mut next, &session, &["a.log"]);
    until_committed(&mut next);
    zombie.signal("CONT");
    append(&session, "a.log", &lines(1_000..1_500));
    until_exact(&mut zombie, &session, &["a.log"]);
    until_exact(&mut next, &session, &["a.log"]);
    until_committed(&mut next);
    until_committed(&mut zombie);
    let (zombie, next) = (zombie.stop(), next.stop());
    assert_eq!((zombie.code, next.code), (Some(0), Some(0)), "{zombie}{next}");
    let said = [&zombie.stderr, &next.stderr].map(|text| text.contains("counting on from where"));
    assert!(said.contains(&true), "nobody was fenced: {zombie}{next}");
    check_table(&session, &["a.log"]);
}

#[test]
fn three_instances_answer_for_all_and_one_of_them_judges() {
    let session = session(CONFIG);
    let files = ["a.log", "b.log", "c.log"];
    let part = |file: u32, round: u32| {
        let first = file * 100_000 + round * 300;
        lines(first..first + 300)
    };
    let write = |round: u32| {
        for (file, n) in files.iter().zip(0..) {
            append(&session, file, &part(n, round));
        }
    };
    write(0);
    let mut instances: Vec<Service> =
        files.iter().map(|file| Service::start(&session, &run_line(file))).collect();
    for round in 1..5 {
        write(round);
        for instance in &mut instances {
            until_exact(instance, &session, &files);
        }
    }
    let ids: BTreeSet<String> =
        instances.iter().map(|one| one.json("/healthz")["instance"].to_string()).collect();
    assert_eq!(ids.len(), 3, "each has a name of its own");
    // With traffic everywhere they agree on one judge.
    let mut round = 5;
    let judges = |instances: &[Service]| {
        let judges = instances.iter().enumerate().filter(|(_, one)| is_judge(one));
        judges.map(|(number, _)| number).collect::<Vec<_>>()
    };
    let mut agree = |instances: &mut [Service]| {
        for _ in 0..100 {
            write(round);
            round += 1;
            for instance in &mut *instances {
                until_exact(instance, &session, &files[..]);
            }
            if let [judge] = judges(instances)[..] {
                return judge;
            }
        }
        panic!("there are {:?} judges", judges(instances));
    };
    let judge = agree(&mut instances);
    let metrics = instances[judge].get("/metrics").body;
    assert!(metrics.contains("role=\"judge\""), "{metrics}");
    // The judge dies, and so does its file's counting until it is started again.
    instances.remove(judge).kill();
    let again = Service::start(&session, &run_line(files[judge]));
    instances.insert(judge, again);
    agree(&mut instances);
    for instance in &mut instances {
        until_committed(instance);
    }
    for instance in instances {
        let ended = instance.stop();
        assert_eq!(ended.code, Some(0), "{ended}");
    }
    check_table(&session, &files);
    let table = table(&session.path("d"));
    assert!(table.offset(JUDGE).expect("readable").is_some(), "the judge has said so");
}

/// Makes commits fail: each writes rows of the grain `source`, whose folder becomes a file.
struct Broken {
    folder: PathBuf,
    aside: PathBuf,
}

impl Broken {
    fn new(session: &Session) -> Broken {
        let folder = session.path("d/rollups/grain=source");
        let aside = session.path("aside");
        fs::rename(&folder, &aside).expect("it is there");
        fs::write(&folder, "no folder").expect("writable");
        Broken { folder, aside }
    }

    fn mend(self) {
        fs::remove_file(&self.folder).expect("it is there");
        fs::rename(&self.aside, &self.folder).expect("it is there");
    }
}

fn until_failing(service: &mut Service) {
    service.until("commits that fail", |service| {
        (service.json("/healthz")["commit_failures"].as_u64()? >= 3).then_some(())
    });
}

#[test]
fn a_store_that_fails_is_waited_for_and_nothing_is_lost() {
    let session = session(CONFIG);
    append(&session, "a.log", &lines(0..500));
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    until_committed(&mut service);
    let broken = Broken::new(&session);
    append(&session, "a.log", &lines(500..1_000));
    until_failing(&mut service);
    // Answers go on, and say how it is.
    until_exact(&mut service, &session, &["a.log"]);
    let health = service.json("/readyz");
    let notes = health["notes"].to_string();
    assert!(notes.contains("no commit for") && notes.contains("grain=source"), "{notes}");
    assert!(health["uncommitted_age_ms"].as_u64() > Some(0), "{health}");
    assert_eq!(health["uncommitted_lines"], 500, "{health}");
    broken.mend();
    until_committed(&mut service);
    assert_eq!(service.json("/readyz")["notes"], serde_json::json!([]));
    let ended = service.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(ended.stderr.matches("tried again by itself").count(), 1, "once: {ended}");
    assert!(ended.stderr.contains("the store works again"), "{ended}");
    check_table(&session, &["a.log"]);
}

#[test]
fn while_the_store_fails_no_more_is_taken_than_the_epoch_holds() {
    let config = "[run]\ncommit_interval = \"200ms\"\nepoch_events_max = 1000\n";
    let session = session(config);
    append(&session, "a.log", &lines(0..10));
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    until_committed(&mut service);
    let broken = Broken::new(&session);
    append(&session, "a.log", &lines(10..20));
    until_failing(&mut service);
    append(&session, "a.log", &lines(20..400_000));
    service.until("a full epoch", |service| {
        (service.json("/healthz")["read"].as_u64()? > 1_000).then_some(())
    });
    until_failing(&mut service);
    let read = service.json("/healthz")["read"].as_u64().expect("a count");
    assert!(read < 100_000, "{read} of 400,000 lines were taken");
    broken.mend();
    until_exact(&mut service, &session, &["a.log"]);
    let ended = service.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
    check_table(&session, &["a.log"]);
}

#[test]
fn a_full_disk_is_named_with_its_bytes_and_waited_for() {
    let session = session(CONFIG);
    let Some(_small) = Small::mount(&session.path("d"), "1536k") else { return };
    append(&session, "a.log", &lines(0..500));
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    until_committed(&mut service);
    // All but nothing is taken.
    let filler = session.path("d/filler");
    let mut file = fs::File::create(&filler).expect("writable");
    while file.write_all(&[0; 4_096]).is_ok() {}
    append(&session, "a.log", &lines(500..1_000));
    until_failing(&mut service);
    until_exact(&mut service, &session, &["a.log"]);
    fs::remove_file(&filler).expect("it is there");
    drop(file);
    until_committed(&mut service);
    let ended = service.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
    let full = ended.stderr.lines().find(|line| line.contains("No space left"));
    let full = full.unwrap_or_else(|| panic!("nothing is said: {ended}"));
    let told = ["d/rollups", " bytes needed, ", " free)"].iter().all(|part| full.contains(part));
    assert!(told, "{full}");
    check_table(&session, &["a.log"]);
}

#[test]
fn a_stop_that_cannot_commit_ends_within_its_limit_and_loses_nothing() {
    let config = "[run]\ncommit_interval = \"200ms\"\nstop_timeout = \"1s\"\n";
    let session = session(config);
    append(&session, "a.log", &lines(0..500));
    let line = run_line("a.log");
    let mut service = Service::start(&session, &line);
    until_exact(&mut service, &session, &["a.log"]);
    until_committed(&mut service);
    let broken = Broken::new(&session);
    append(&session, "a.log", &lines(500..700));
    until_failing(&mut service);
    let ended = service.stop();
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("no end within 1 s: ends with 200 lines"), "{ended}");

    // A second signal is not made to wait; the limit is long here.
    session.write("c.toml", CONFIG.as_bytes());
    broken.mend();
    let mut service = Service::start(&session, &line);
    until_exact(&mut service, &session, &["a.log"]);
    until_committed(&mut service);
    let broken = Broken::new(&session);
    append(&session, "a.log", &lines(700..900));
    until_failing(&mut service);
    service.signal("TERM");
    // Signals of one kind that come at once are one: it has to have seen the first.
    let mut asked = 0;
    service.signal("INT");
    while service.is_running() && asked < 100 {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        service.signal("INT");
        asked += 1;
    }
    let ended = service.end();
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("a second signal: ends with 200 lines"), "{ended}");
    broken.mend();
    let mut service = Service::start(&session, &line);
    until_exact(&mut service, &session, &["a.log"]);
    assert_eq!(service.stop().code, Some(0));
    check_table(&session, &["a.log"]);
}

#[test]
fn a_stop_under_load_is_clean_and_the_next_start_goes_on() {
    let session = session(CONFIG);
    append(&session, "a.log", &lines(0..600_000));
    let line = run_line("a.log");
    let mut service = Service::start(&session, &line);
    service.until_read(1);
    let ended = service.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
    let mut service = Service::start(&session, &line);
    until_exact(&mut service, &session, &["a.log"]);
    assert_eq!(service.stop().code, Some(0));
    check_table(&session, &["a.log"]);
}

#[test]
fn a_reload_takes_what_is_good_and_keeps_the_old_for_what_is_not() {
    let session = session(CONFIG);
    append(&session, "a.log", &lines(0..500));
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    until_committed(&mut service);
    let reload =
        |service: &mut Service, config: &str, what: &str, done: &dyn Fn(&Service) -> bool| {
            session.write("c.toml", config.as_bytes());
            service.signal("HUP");
            service.until(what, |service| done(service).then_some(()));
        };
    let has_target = |target: &'static str| {
        move |service: &Service| service.json("/v1/objectives").to_string().contains(target)
    };
    let objective = |target: &str| {
        format!("{CONFIG}[[objective]]\nname = \"availability\"\ntarget = {target}\n")
    };
    reload(&mut service, &objective("0.9"), "the new target", &has_target("\"target\":0.9}"));

    // A typo, and a target that is none: file, line, key and range are told; the old one stays.
    let bad = objective("100.5") + "[alerts]\nmin_bod = 3\n";
    let refused = |service: &Service| {
        let notes = service.json("/readyz")["notes"].to_string();
        notes.contains("c.toml:5") && notes.contains("min_bad")
    };
    reload(&mut service, &bad, "the refusal", &refused);
    assert!(has_target("\"target\":0.9}")(&service));

    // New rules, from here on: 503 is fine and 200 is bad. What a start alone can change stays.
    let rules = "[[sli]]\nname = \"availability\"\nkind = \"availability\"\nbad = [\"200\"]\n\
                 [dedupe]\nwindow_bytes = \"1MiB\"\n";
    let no_notes = |service: &Service| service.json("/readyz")["notes"] == serde_json::json!([]);
    reload(&mut service, &(objective("0.8") + rules), "the new rules", &|service| {
        no_notes(service) && has_target("\"target\":0.8}")(service)
    });
    let before = recounted(&session, &["a.log"]);
    append(&session, "a.log", &lines(500..1_000));
    let all = recounted(&session, &["a.log"]);
    let expected: BTreeMap<String, (u64, u64)> = all
        .iter()
        .map(|(customer, (valid, bad))| {
            let (valid_before, bad_before) = before[customer];
            let new = (valid - valid_before) - (bad - bad_before);
            (customer.clone(), (*valid, bad_before + new))
        })
        .collect();
    service.until("both rules", |service| (answered(service)? == expected).then_some(()));
    until_committed(&mut service);
    let ended = service.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stderr.contains("the configuration stays as it was: c.toml"), "{ended}");
    assert!(ended.stderr.contains("[dedupe] has changed: it takes a restart"), "{ended}");
    let mut rules = BTreeSet::new();
    let table = table(&session.path("d"));
    table
        .for_each_series(&Filter::default(), |row| {
            rules.insert(row.rules.to_owned());
        })
        .unwrap();
    assert_eq!(rules.len(), 2, "rows tell by which rules they were counted");
}

#[test]
fn a_stop_at_any_step_of_a_commit_is_clean() {
    for point in POINTS.iter().filter(|point| point.starts_with("commit")) {
        let session = session(CONFIG);
        append(&session, "a.log", &lines(0..100));
        let armed = format!("{point}:1:stop");
        let variables = [(VARIABLE, armed.as_str())];
        let mut service = Service::start_with(&session, &run_line("a.log"), &variables);
        service.until_stopped();
        service.signal("TERM");
        service.signal("CONT");
        let ended = service.end();
        assert_eq!(ended.code, Some(0), "{point}: {ended}");
        let expected = Recount::of(lines(0..100).as_bytes(), Rules::default()).minutes;
        assert_same(&minutes(&session.path("d")), &expected, point);
        assert_clean(&session.path("d"), point);
    }
}

/// Commits and snapshots as often as can be.
const SNAPSHOTS: &str = "[run]\ncommit_interval = \"100ms\"\nsnapshot_interval = \"100ms\"\n";

/// Said where a snapshot was found and is not trusted.
const REFUSED: &str = "the snapshot is not used";

/// Which parts of a snapshot there are.
fn parts(session: &Session) -> Vec<PathBuf> {
    let folder = fs::read_dir(session.path("d/snapshot"));
    let mut parts: Vec<PathBuf> = folder
        .map(|entries| entries.map(|entry| entry.expect("readable").path()).collect())
        .unwrap_or_default();
    parts.retain(|path| path.extension().is_some_and(|extension| extension == "part"));
    parts.sort();
    parts
}

#[test]
fn a_service_killed_while_it_writes_a_snapshot_goes_on_exactly() {
    for (point, nth) in POINTS
        .iter()
        .filter(|point| point.starts_with("snapshot"))
        .flat_map(|point| [(point, 1), (point, 50)])
    {
        let session = session(SNAPSHOTS);
        append(&session, "a.log", &lines(0..150));
        let armed = format!("{point}:{nth}");
        let variables = [(VARIABLE, armed.as_str())];
        let mut service = Service::start_with(&session, &run_line("a.log"), &variables);
        let mut next = 150;
        // Each commit moves the version, so that there is always something to be written.
        while service.is_running() {
            append(&session, "a.log", &lines(next..next + 10));
            next += 10;
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        let ended = service.end();
        assert!(ended.stderr.contains(&format!("killed at failpoint {point}")), "{ended}");
        let mut service = Service::start(&session, &run_line("a.log"));
        until_exact(&mut service, &session, &["a.log"]);
        let ended = service.stop();
        assert_eq!(ended.code, Some(0), "{ended}");
        check_table(&session, &["a.log"]);
    }
}

#[test]
fn a_snapshot_changes_no_answer_whatever_becomes_of_it() {
    let session = session(SNAPSHOTS);
    append(&session, "a.log", &lines(0..400));
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    assert_eq!(service.stop().code, Some(0));
    let whole = parts(&session);
    assert_eq!(whole.len(), PARTS);

    // What was written at the stop is used, and followed from there.
    append(&session, "a.log", &lines(400..500));
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    let ended = service.kill();
    assert!(!ended.stderr.contains(REFUSED), "{ended}");

    // Deleted under a running service, which then is killed.
    let mut service = Service::start(&session, &run_line("a.log"));
    fs::remove_dir_all(session.path("d/snapshot")).expect("it is there");
    append(&session, "a.log", &lines(500..600));
    until_exact(&mut service, &session, &["a.log"]);
    service.kill();

    // Compacted, and vacuumed of what is not needed, since it was written.
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    service.stop();
    session.run("compact --data d").ok_with_notes();
    session.run("vacuum --data d").ok_with_notes();
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    let ended = service.stop();
    assert!(!ended.stderr.contains(REFUSED), "{ended}");

    // A flipped bit, a part of before, and a folder that nobody can write.
    let path = parts(&session).remove(7);
    let mut bytes = fs::read(&path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, bytes).expect("there is space");
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    let ended = service.stop();
    assert!(ended.stderr.contains(REFUSED) && ended.stderr.contains("07.part"), "{ended}");
    fs::remove_dir_all(session.path("d/snapshot")).expect("it is there");
    fs::write(session.path("d/snapshot"), "in the way").expect("there is space");
    append(&session, "a.log", &lines(600..700));
    let mut service = Service::start(&session, &run_line("a.log"));
    until_exact(&mut service, &session, &["a.log"]);
    let ended = service.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stderr.contains("no snapshot"), "{ended}");
    check_table(&session, &["a.log"]);
}

/// A record that makes decoding panic is found in the second life, one that makes folding panic
/// in the third: there it panics alone first, with memory half changed.
#[test]
fn a_record_that_makes_it_panic_becomes_a_dead_letter() {
    panics_and_is_dealt_with("decode", 1);
    panics_and_is_dealt_with("fold", 2);
}

/// Counts a file with a record that makes it panic at a place, so many times in vain.
fn panics_and_is_dealt_with(place: &str, lives: u32) {
    let session = session(CONFIG);
    let poison = "{\"ts\":1759708800000,\"customer\":\"poisonous\",\"status\":200}\n";
    let before = lines(0..100);
    append(&session, "a.log", &(before.clone() + poison + &lines(100..300)));
    let planted = [("NINEFOLD_PANIC", format!("{place}:poisonous"))];
    let run = || {
        let line = "run --data d --config c.toml a.log --listen 127.0.0.1:0";
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = session.command(&words);
        command.envs(planted.clone());
        session::Ended::of(line.to_owned(), command.output().expect("it starts"))
    };
    let (first, next) = (before.len(), before.len() + poison.len());
    for life in 1..=lives {
        let ended = run();
        assert_eq!(ended.code, Some(1), "{ended}");
        assert!(ended.stderr.contains("a bug: counting file/"), "{ended}");
        let is_alone = ended.stderr.contains(&format!("from offset {first} to {next} panicked"));
        assert_eq!(is_alone, life == 2, "{ended}");
        assert!(session.path("d/poison").is_file(), "the note");
    }
    let ended = run();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(!session.path("d/poison").exists(), "it is dealt with");
    let mut dead = Vec::new();
    let table = table(&session.path("d"));
    table
        .for_each_dead(&Filter::default(), |row| {
            if row.reason == "made the program panic" {
                dead.push((row.offset, row.line.to_vec()));
            }
        })
        .unwrap();
    let line = poison.trim_end().as_bytes().to_vec();
    assert_eq!(dead, [(before.len() as u64, line)]);
    let expected = Recount::of((before + &lines(100..300)).as_bytes(), Rules::default()).minutes;
    assert_same(&minutes(&session.path("d")), &expected, "all the others");
    assert_clean(&session.path("d"), "all the others");
}

#[test]
fn an_alert_that_cannot_be_committed_is_told_all_the_same_and_again_when_it_is() {
    let session = session(CONFIG);
    append(&session, "a.log", &lines(0..10));
    let mut service = Service::start(&session, &format!("-v {}", run_line("a.log")));
    until_exact(&mut service, &session, &["a.log"]);
    until_committed(&mut service);
    let broken = Broken::new(&session);
    #[expect(clippy::disallowed_methods, reason = "the lines have to be of now")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let line = |status: u32| {
        format!("{{\"ts\":{},\"customer\":\"hit\",\"status\":{status}}}\n", now.as_millis())
    };
    append(&session, "a.log", &(line(200) + &line(503)).repeat(200));
    let told = "ninefold_event_to_alert_seconds_count ";
    service.until("the alert", |service| {
        let metrics = service.get("/metrics").body;
        let count = metrics.lines().find_map(|line| line.strip_prefix(told))?.to_owned();
        (count.trim() != "0").then_some(())
    });
    broken.mend();
    until_committed(&mut service);
    let alerts = service.json("/v1/alerts?basis=live");
    assert!(alerts.to_string().contains("rollout_5m"), "{alerts}");
    let ended = service.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
    let is_told = |line: &&str| line.contains("rollout_5m firing: \"hit\"");
    let told: Vec<&str> = ended.stderr.lines().filter(is_told).collect();
    assert_eq!(told.len(), 2, "{ended}");
    assert!(told[0].ends_with("(uncommitted)") && !told[1].ends_with("(uncommitted)"), "{ended}");
}
