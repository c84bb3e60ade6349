//! What is sent or piped to the real binary: acknowledged once, counted once, whatever happens.
//!
//! The kill loop sends 40,000 events as fast as they are taken and kills by their number;
//! `NINEFOLD_PUSH_EVENTS=200000` sends so many over more than a minute, and kills at random
//! every two to four seconds.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;
#[path = "common/small.rs"]
mod small;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ninefold_engine::failpoint::{POINTS, VARIABLE};
use ninefold_engine::table::Filter;
use ninefold_engine::table::read::GapRow;
use program::{assert_clean, minutes, ninefold, run, table};
use serde_json::Value;
use small::Small;
use tempfile::TempDir;

/// How long anything here may take; far more than it does.
const DEADLINE: Duration = Duration::from_secs(60);

/// So many events are in one request of the kill loop.
const BATCH: u64 = 10;

/// The long form of the kill loop takes at least so long.
const LONG: Duration = Duration::from_secs(75);

#[expect(clippy::disallowed_methods, reason = "events have to be of now, or they are dead")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

/// A folder with a configuration, and the service on it.
struct World {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
    stdin: Option<std::process::ChildStdin>,
    said: Arc<Mutex<String>>,
    arguments: Vec<String>,
}

impl World {
    fn new(config: &str, arguments: &[&str]) -> World {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("c.toml"), config).unwrap();
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        World { folder, port, child: None, stdin: None, said: Arc::default(), arguments }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("d")
    }

    /// Starts the service, and waits until it answers.
    fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with variables of the environment.
    fn start_with(&mut self, variables: &[(&str, &str)]) {
        let announced = self.spawn(variables).recv_timeout(DEADLINE);
        assert!(announced.is_ok(), "no address: {}", self.said());
    }

    /// Starts it with a failpoint that kills it before it answers.
    fn dies_at(&mut self, point: &str) {
        // It announces nothing.
        drop(self.spawn(&[(VARIABLE, point)]));
        self.died(point);
    }

    /// Waits until it has been killed at a failpoint.
    fn died(&mut self, point: &str) {
        let status = self.ended();
        assert_eq!(status.code(), None, "{point}: {}", self.said());
    }

    /// Starts it; the receiver hears of its address.
    fn spawn(&mut self, variables: &[(&str, &str)]) -> Receiver<()> {
        let mut command = ninefold();
        command.envs(variables.iter().copied());
        command.arg("run").args(&self.arguments).arg("--data").arg(self.data());
        command.arg("-c").arg(self.folder.path().join("c.toml"));
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        let mut child =
            command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (sender, announced) = std::sync::mpsc::channel();
        let (errors, said) = (child.stderr.take().unwrap(), Arc::clone(&self.said));
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if line.contains("http://") {
                    // Nobody waits for a second one.
                    let _ = sender.send(());
                }
                *said.lock().unwrap() += &(line + "\n");
            }
        });
        self.stdin = child.stdin.take();
        self.child = Some(child);
        announced
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Kill -9.
    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and its end.
    fn stop(&mut self) {
        self.signal("-TERM");
        self.end();
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Waits until a signal or a failpoint has stopped it.
    fn until_stopped(&self) {
        let stat = format!("/proc/{}/stat", self.child.as_ref().expect("it runs").id());
        let since = Instant::now();
        while !fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(since.elapsed() < DEADLINE, "it is not stopped: {}", self.said());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits for its end, which is a good one.
    fn end(&mut self) {
        let status = self.ended();
        assert!(status.success(), "{}", self.said());
    }

    fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if since.elapsed() > DEADLINE {
                let _ = child.kill();
                panic!("it does not end: {}", self.said());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn get(&self, path: &str) -> Value {
        let text = agent().get(self.url(path)).call().unwrap().body_mut().read_to_string();
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    /// Sends a body; status and answer.
    fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        post(&agent(), &self.url("/v1/events"), headers, body).expect("it answers")
    }

    fn until_read(&self, lines: u64) {
        let since = Instant::now();
        while self.get("/healthz")["read"].as_u64() != Some(lines) {
            let health = self.get("/healthz");
            assert!(since.elapsed() < DEADLINE, "not {lines} lines: {health} {}", self.said());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Valid events by customer in the table.
    fn valid(&self) -> BTreeMap<String, u64> {
        let mut valid = BTreeMap::new();
        for ((customer, ..), counts) in minutes(&self.data()) {
            *valid.entry(customer).or_default() += counts.valid;
        }
        valid
    }

    /// The folders of logs.
    fn logs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data().join("wal")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended is not there to be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(40)));
    config.build().into()
}

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Sends a body; `None` where there is no answer.
fn post(
    agent: &ureq::Agent,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<(u16, Value)> {
    let mut request = agent.post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send(body).ok()?;
    let status = response.status().as_u16();
    if status == 429 || status == 503 {
        assert!(response.headers().contains_key("retry-after"));
    }
    let text = response.body_mut().read_to_string().ok()?;
    Some((status, serde_json::from_str(&text).ok()?))
}

/// Events of one customer, the n-th with a latency of n ms.
fn events(customer: &str, count: u64) -> String {
    let ts = now_ms();
    let line = |n: u64| {
        format!(
            "{{\"ts\":{ts},\"customer\":\"{customer}\",\"status\":{},\"latency_ms\":{}}}\n",
            if n == 1 { 500 } else { 200 },
            n + 1
        )
    };
    (0..count).map(line).collect()
}

/// Xorshift: the same instants at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Sends one batch until it is acknowledged; how often it was sent.
fn send_until_acknowledged(agent: &ureq::Agent, url: &str, customer: &str, body: &str) -> u64 {
    let since = Instant::now();
    let mut sent = 0;
    loop {
        sent += 1;
        let headers = [NDJSON, ("idempotency-key", customer)];
        match post(agent, url, &headers, body.as_bytes()) {
            Some((200, answer)) => {
                assert_eq!(answer["accepted"], BATCH);
                return sent;
            }
            Some((429 | 503, _)) | None => {}
            Some((status, answer)) => panic!("{status}: {answer}"),
        }
        assert!(since.elapsed() < DEADLINE, "{customer} is not taken");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn acknowledged_events_are_counted_once_while_the_server_is_killed() {
    let asked = std::env::var("NINEFOLD_PUSH_EVENTS").ok();
    let is_long = asked.is_some();
    let events_max: u64 = asked.map_or(40_000, |text| text.parse().expect("a number"));
    let (clients, kills_min) = (8, 10);
    let batches = events_max / BATCH / clients;
    let pace = if is_long { LONG / batches as u32 } else { Duration::ZERO };
    let begun = Instant::now();
    let config = "[run]\ncommit_interval = \"300ms\"\n";
    let mut world = World::new(config, &["--push"]);
    world.start();
    let url = world.url("/v1/events");
    let (acknowledged, repeated) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut kills = 0;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    std::thread::scope(|scope| {
        let (url, acknowledged, repeated) = (&url, &acknowledged, &repeated);
        for client in 0..clients {
            scope.spawn(move || {
                let agent = agent();
                for batch in 0..batches {
                    let customer = format!("c{client}-{batch}");
                    let body = events(&customer, BATCH);
                    let mut sent = send_until_acknowledged(&agent, url, &customer, &body);
                    if batch % 16 == 0 {
                        // One whose answer was lost on its way would be sent like this.
                        sent += send_until_acknowledged(&agent, url, &customer, &body);
                    }
                    repeated.fetch_add(sent - 1, Ordering::Relaxed);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    std::thread::park_timeout(pace);
                }
            });
        }
        let all = clients * batches;
        while acknowledged.load(Ordering::Relaxed) < all {
            // So much is acknowledged between two kills, or so long is waited, and then anything
            // may be under way.
            let next = acknowledged.load(Ordering::Relaxed) + all / (4 * kills_min);
            let next = if is_long { all } else { next.min(all) };
            let most_ms = if is_long { 2_000 + random.below(2_000) } else { 3_000 };
            let since = Instant::now();
            while acknowledged.load(Ordering::Relaxed) < next
                && since.elapsed() < Duration::from_millis(most_ms)
            {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            std::thread::park_timeout(Duration::from_millis(random.below(50)));
            if acknowledged.load(Ordering::Relaxed) < all {
                world.kill();
                kills += 1;
                world.start();
            }
        }
    });
    world.stop();
    let repeated = repeated.into_inner();
    let seconds = begun.elapsed().as_secs();
    println!(
        "{events_max} events in {seconds} s, {kills} kills, {repeated} requests were repeated"
    );
    assert!(kills >= kills_min && repeated > clients, "{kills} kills, {repeated} repeated");
    let mut found = BTreeMap::new();
    for ((customer, ..), counts) in minutes(&world.data()) {
        let sums: &mut [u64; 3] = found.entry(customer).or_default();
        sums[0] += counts.valid;
        sums[1] += counts.bad;
        sums[2] += counts.latency_sum_us;
    }
    // The second one is bad, and so not timed.
    let expect = [BATCH, 1, ((1..=BATCH).sum::<u64>() - 2) * 1_000];
    for client in 0..clients {
        for batch in 0..batches {
            let customer = format!("c{client}-{batch}");
            assert_eq!(found.remove(&customer), Some(expect), "{customer}");
        }
    }
    assert!(found.is_empty(), "{found:?}");
    let audit = run(["audit".as_ref(), "--data".as_ref(), world.data().as_os_str()]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
}

/// The steps of a write.
const WRITE_POINTS: [&str; 4] = ["wal.rotate", "wal.write", "wal.sync", "wal.reply"];

/// The steps of a log's life around its writes.
const LIFE_POINTS: [&str; 4] = ["wal.about", "wal.free", "wal.set_aside", "wal.remove"];

#[test]
fn every_step_of_the_log_is_named_here() {
    let steps = POINTS.iter().copied().filter(|point| point.starts_with("wal."));
    let named: Vec<&str> = WRITE_POINTS.into_iter().chain(LIFE_POINTS).collect();
    assert_eq!(steps.collect::<Vec<_>>(), named);
}

/// A stop that comes at a step of a write ends in order; what was acknowledged is counted.
#[test]
fn a_stop_at_any_step_of_a_write_is_clean() {
    for point in WRITE_POINTS {
        let mut world = World::new("", &["--push"]);
        world.start_with(&[(VARIABLE, &format!("{point}:1:stop"))]);
        let (url, body) = (world.url("/v1/events"), events("acme", BATCH));
        let answer = std::thread::scope(|scope| {
            let post = scope.spawn(|| post(&agent(), &url, &[NDJSON], body.as_bytes()));
            world.until_stopped();
            world.signal("-TERM");
            world.signal("-CONT");
            world.end();
            post.join().unwrap()
        });
        world.start();
        world.stop();
        let valid = world.valid().get("acme").copied().unwrap_or(0);
        let is_acknowledged = answer.as_ref().is_some_and(|(status, _)| *status == 200);
        assert!(valid == BATCH || (valid == 0 && !is_acknowledged), "{point}: {valid} {answer:?}");
        assert_clean(&world.data(), point);
    }
}

/// The log is killed where it is made, freed and set aside, and one of a pipe where it is removed.
#[test]
fn a_log_killed_at_any_step_of_its_life_loses_nothing() {
    let [about, free, set_aside, remove] = LIFE_POINTS;
    let config = "[run]\ncommit_interval = \"200ms\"\n";
    let mut world = World::new(config, &["--push"]);
    world.dies_at(about);
    world.start();
    assert_eq!(world.post(&[NDJSON], events("first", 3).as_bytes()).0, 200);
    world.stop();
    // Each life begins a segment; the one before is freed once it is committed.
    world.start_with(&[(VARIABLE, free)]);
    assert_eq!(world.post(&[NDJSON], events("second", 3).as_bytes()).0, 200);
    world.died(free);
    assert_eq!(segments(&world).len(), 2, "it was not freed yet");
    world.start();
    world.stop();
    let segment = segments(&world).pop().expect("the last one stays");
    assert_eq!(segments(&world).len(), 1, "it is freed");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&segment, &bytes).unwrap();
    world.dies_at(set_aside);
    world.start();
    assert_eq!(world.post(&[NDJSON], events("third", 3).as_bytes()).0, 200);
    world.stop();
    let expect = ["first", "second", "third"].map(|name| (name.to_owned(), 3));
    assert_eq!(world.valid(), BTreeMap::from(expect), "what was damaged had been counted");
    assert_clean(&world.data(), "set aside");

    let mut world = World::new(config, &["-"]);
    world.start_with(&[(VARIABLE, remove)]);
    world.stdin.as_mut().unwrap().write_all(events("piped", 3).as_bytes()).unwrap();
    world.stdin = None;
    world.died(remove);
    assert_eq!(world.logs().len(), 1, "it was not removed yet");
    world.start();
    world.stdin = None;
    world.end();
    assert!(world.logs().is_empty(), "{:?}", world.logs());
    assert_eq!(world.valid(), BTreeMap::from([("piped".to_owned(), 3)]));
}

/// The server is killed at each step of a write; what is sent again under its key counts once.
#[test]
fn a_write_killed_at_any_step_is_repeated_and_counts_once() {
    for point in WRITE_POINTS {
        let mut world = World::new("[run]\ncommit_interval = \"300ms\"\n", &["--push"]);
        world.start_with(&[(VARIABLE, point)]);
        let headers = [NDJSON, ("idempotency-key", "one")];
        let body = events("acme", BATCH);
        let url = world.url("/v1/events");
        assert_eq!(post(&agent(), &url, &headers, body.as_bytes()), None, "{point}");
        let status = world.child.take().expect("it ran").wait().unwrap();
        assert_eq!(status.code(), None, "{point}: {}", world.said());
        world.start();
        for _ in 0..2 {
            let accepted = serde_json::json!({ "accepted": BATCH });
            assert_eq!(world.post(&headers, body.as_bytes()), (200, accepted), "{point}");
        }
        world.stop();
        assert_eq!(world.valid(), BTreeMap::from([("acme".to_owned(), BATCH)]), "{point}");
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_form_of_a_body_is_taken_and_broken_events_are_dead_letters() {
    let mut world = World::new("", &["--push"]);
    world.start();
    let lines = events("acme", 4);
    let array = format!("[{}]", lines.trim_end().replace('\n', ","));
    let zstd = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    let json = ("content-type", "application/json");
    let packed = |name| ("content-encoding", name);
    type Sent<'a> = (&'a [(&'a str, &'a str)], Vec<u8>);
    let all: [Sent<'_>; 5] = [
        (&[NDJSON], lines.clone().into_bytes()),
        (&[NDJSON, packed("gzip")], gzip(lines.as_bytes())),
        (&[NDJSON, packed("zstd")], zstd),
        (&[json], array.into_bytes()),
        (&[NDJSON], b"broken\n{\"ts\":1}\n\n[[[]]]\n{\"ts\":9e99}".to_vec()),
    ];
    for (headers, body) in &all {
        assert_eq!(world.post(headers, body), (200, serde_json::json!({ "accepted": 4 })));
    }
    world.until_read(20);
    let health = world.get("/healthz");
    assert_eq!((&health["counted"], &health["dead"]), (&16.into(), &4.into()));
    world.stop();
    assert_eq!(world.valid(), BTreeMap::from([("acme".to_owned(), 16)]));
}

/// The most memory that a process ever had, in bytes.
fn memory_peak(world: &World) -> u64 {
    let id = world.child.as_ref().expect("it runs").id();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn bombs_are_refused_and_memory_stays_flat() {
    let mut world = World::new("", &["--push"]);
    world.start();
    let zeros = vec![b'\n'; 200 << 20];
    let bombs = [
        ("gzip", gzip(&zeros), 413),
        ("zstd", zstd::encode_all(&*zeros, 3).unwrap(), 413),
        ("gzip", b"no gzip".to_vec(), 400),
    ];
    for (coding, bomb, expect) in &bombs {
        for _ in 0..20 {
            let (status, answer) = world.post(&[NDJSON, ("content-encoding", coding)], bomb);
            assert_eq!(status, *expect, "{answer}");
        }
    }
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let (status, answer) = world.post(&[("content-type", "application/json")], deep.as_bytes());
    assert_eq!(status, 400, "{answer}");
    assert_eq!(world.post(&[NDJSON], deep.as_bytes()).0, 200, "as a line it is a dead letter");
    // Refused by its length, before any of it is read.
    let mut large = TcpStream::connect((Ipv4Addr::LOCALHOST, world.port)).unwrap();
    let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/x-ndjson\r\ncontent-length: 5242880\r\n\r\n";
    large.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    large.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    let mut endless = TcpStream::connect((Ipv4Addr::LOCALHOST, world.port)).unwrap();
    let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    endless.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x1_0000], b"\r\n"].concat();
    // 640 MiB, if it were read: it closes at 4 MiB.
    let sent = (0..10_000).take_while(|_| endless.write_all(&chunk).is_ok()).count();
    assert!(sent < 1_000, "{sent} chunks were taken");
    world.until_read(1);
    let peak = memory_peak(&world);
    assert!(peak < 400 << 20, "{} MiB", peak >> 20);
    world.stop();
}

/// The segments of the only log, in their order.
fn segments(world: &World) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = world
        .logs()
        .iter()
        .flat_map(|log| fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|end| end == "wal"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_torn_tail_is_cut_and_a_corrupt_middle_is_set_aside() {
    // Nothing is committed by itself: all that counts is what the log holds.
    let config = "[run]\ncommit_interval = \"10m\"\n";
    let mut world = World::new(config, &["--push"]);
    world.start();
    for n in 0..10 {
        assert_eq!(world.post(&[NDJSON], events(&format!("c{n}"), 3).as_bytes()).0, 200);
    }
    world.kill();
    let segment = segments(&world).pop().expect("there is one");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    bytes.extend_from_slice(b"9wal");
    fs::write(&segment, &bytes).unwrap();
    world.start();
    world.until_read(27);
    let said = world.said();
    for part in ["are damaged and were set aside as", "are lost", "did not end, and were cut"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // What is lost is told while it runs, and kept in the table.
    let notes = world.get("/readyz")["notes"].to_string();
    assert!(notes.contains("are damaged and were set aside as"), "{notes}");
    let kept = fs::read_dir(segment.parent().unwrap()).unwrap();
    let is_kept = |path: &Path| path.extension().is_some_and(|end| end == "damaged");
    assert_eq!(kept.filter(|entry| is_kept(&entry.as_ref().unwrap().path())).count(), 1);
    assert_eq!(world.post(&[NDJSON], events("later", 3).as_bytes()).0, 200);
    world.until_read(30);
    world.stop();
    let valid = world.valid();
    assert_eq!((valid.len(), valid["later"]), (10, 3), "{valid:?}");
    assert!(valid.values().all(|count| *count == 3), "{valid:?}");
    let mut gaps = Vec::new();
    let keep = |row: GapRow<'_>| gaps.push((row.first, row.next, row.reason.to_owned()));
    table(&world.data()).for_each_gap(&Filter::default(), keep).unwrap();
    let [(15, 18, reason)] = &gaps[..] else { panic!("{gaps:?}") };
    assert!(reason.contains("bytes ") && reason.contains("records 15 to 18 are lost"), "{reason}");
    assert_clean(&world.data(), "a gap is accounted for");
}

#[test]
fn what_waits_too_long_for_a_commit_refuses_more() {
    let config = "[run]\ncommit_interval = \"10m\"\n[wal]\nuncommitted_bytes_max = \"1MiB\"\n\
                  [source.http]\ndecoded_bytes_max = \"512KiB\"\n";
    let mut world = World::new(config, &[]);
    world.start();
    let mut accepted = 0;
    let answer = loop {
        match world.post(&[NDJSON], events("acme", 1_000).as_bytes()) {
            (200, _) => accepted += 1_000,
            (429, answer) => break answer,
            other => panic!("{other:?}"),
        }
        assert!(accepted < 1_000_000);
    };
    assert!(answer["detail"].as_str().unwrap().contains("above the limit of 1048576"), "{answer}");
    let metrics = agent().get(world.url("/metrics")).call().unwrap().body_mut().read_to_string();
    let metrics = metrics.unwrap();
    let expect = format!("ninefold_ingest_accepted_total {accepted}");
    for line in [&*expect, "ninefold_ingest_refused_total{reason=\"full\"} 1"] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    world.stop();
    assert_eq!(world.valid()["acme"], accepted);
    world.start();
    assert_eq!(world.post(&[NDJSON], events("acme", 1_000).as_bytes()).0, 200);
    world.stop();
    assert_eq!(world.valid()["acme"], accepted + 1_000);
}

#[test]
fn a_full_disk_refuses_and_takes_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    let Some(_small) = Small::mount(&small, "2m") else { return };
    let config = format!("[wal]\ndir = {small:?}\n");
    let mut world = World::new(&config, &["--push"]);
    world.start();
    let filler = small.join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap();
    let mut expect = BTreeMap::new();
    let mut bodies: BTreeMap<u64, String> = BTreeMap::new();
    let mut send = |world: &World, number: u64| {
        let customer = format!("c{number}");
        let key = ("idempotency-key", customer.as_str());
        let body = bodies.entry(number).or_insert_with(|| events(&customer, 1_000));
        let (status, answer) = world.post(&[NDJSON, key], body.as_bytes());
        if status == 200 {
            expect.insert(customer, 1_000);
        }
        (status, answer)
    };
    let mut number = 0;
    let answer = loop {
        match send(&world, number) {
            (200, _) => number += 1,
            (503, answer) => break answer,
            other => panic!("{other:?}"),
        }
        assert!(number < 1_000, "it is never full");
    };
    let detail = answer["detail"].as_str().unwrap();
    let path = small.to_str().unwrap();
    assert!(detail.contains(path) && detail.contains("bytes are free"), "{detail}");
    assert_eq!(send(&world, number).0, 503);
    fs::remove_file(filler).unwrap();
    assert_eq!(send(&world, number).0, 200);
    // What the disk refused is not there after a crash either.
    world.kill();
    world.start();
    assert_eq!(send(&world, number).0, 200);
    world.until_read_all(&expect);
    world.stop();
    assert_eq!(world.valid(), expect);
}

impl World {
    /// Waits until all of these are counted, whichever life of the service has read them.
    fn until_read_all(&self, expect: &BTreeMap<String, u64>) {
        let all: u64 = expect.values().sum();
        let since = Instant::now();
        let total = |world: &World| world.get("/v1/fleet")["windows"]["1h"]["valid"].as_u64();
        while total(self) != Some(all) {
            assert!(since.elapsed() < DEADLINE, "not {all}: {}", self.get("/v1/fleet"));
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

#[test]
fn what_was_piped_is_counted_though_the_process_was_killed() {
    let config = "[run]\ncommit_interval = \"10m\"\n";
    let mut world = World::new(config, &["-"]);
    world.start();
    let old = "{\"ts\":\"2015-01-01T00:00:00Z\",\"customer\":\"old\",\"status\":200}\n";
    let text = events("acme", 5) + old + "broken\n";
    world.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    world.until_read(7);
    world.kill();
    assert!(world.valid().is_empty());
    // The next process counts it, whatever it reads itself.
    world.start();
    world.until_read(7);
    world.stdin.as_mut().unwrap().write_all(events("more", 2).as_bytes()).unwrap();
    world.until_read(9);
    world.stop();
    let expect = [("acme", 5), ("more", 2), ("old", 1)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(world.valid(), BTreeMap::from(expect));
    // What is committed and that no writer holds is removed by the next start.
    world.start();
    let since = Instant::now();
    while world.logs().len() > 1 {
        assert!(since.elapsed() < DEADLINE, "{:?}", world.logs());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    world.stop();
}

#[test]
fn tokens_are_made_asked_for_and_never_said() {
    let made = run(["token", "--name", "gateway", "--role", "ingest"]);
    assert!(made.status.success());
    let text = String::from_utf8(made.stdout).unwrap();
    let (token, table) = text.split_once("\n\n").unwrap();
    let mut world = World::new(table, &["--push"]);
    world.start();
    let bearer = format!("Bearer {token}");
    let body = events("acme", 1);
    assert_eq!(world.post(&[NDJSON], body.as_bytes()).0, 401);
    assert_eq!(world.post(&[NDJSON, ("authorization", &bearer)], body.as_bytes()).0, 200);
    let mut refused = agent().get(world.url("/v1/fleet")).header("authorization", &bearer).call();
    let refused = refused.as_mut().unwrap();
    assert_eq!(refused.status().as_u16(), 403);
    assert!(!refused.body_mut().read_to_string().unwrap().contains(token));
    world.stop();
    assert!(!world.said().contains(token));
    let mut files = vec![world.data()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let mut bytes = Vec::new();
        fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        let is_said = bytes.windows(token.len()).any(|window| window == token.as_bytes());
        assert!(!is_said, "{}", path.display());
    }
    let refused = run(["token", "--name", "x", "--role", "root"]);
    assert_eq!(refused.status.code(), Some(2));
}
