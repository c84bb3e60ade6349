//! Instances of the service on one topic and one table, and what is done to them: kill -9,
//! SIGSTOP, brokers that stop, all at random instants; at the end the table has to hold what was
//! produced, by customer and minute.
//!
//! What is right is recounted from the logs, record by record, by a consumer that is no part of
//! the program: a producer that loses its broker may write a record twice, and then it is twice
//! in the log. Each record carries the number of its event, and an event is a function of its
//! number. So the logs prove that they hold every event as it was produced, and a run that was
//! broken off goes on with the events that they lack, and with the deeds that were not done.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ninefold_engine::table::{Filter, Table};

use crate::broker::{Broker, START_MS, Writer, signal};

/// How long a partition may stand still that is behind, once nothing more is done to anybody.
const STUCK: Duration = Duration::from_secs(180);

/// How often one looks whether somebody has to wake up.
const LOOK: Duration = Duration::from_millis(100);

/// A service, killed when it is dropped.
pub struct Instance {
    child: Child,
    log: PathBuf,
}

impl Instance {
    /// Starts `ninefold run` with a configuration on a table; what it says goes to `log`.
    pub fn start(program: &Path, config: &Path, data: &Path, log: &Path) -> Instance {
        Instance::start_with(program, (config, data, log), &[])
    }

    /// The same with variables in its environment.
    pub fn start_with(
        program: &Path,
        (config, data, log): (&Path, &Path, &Path),
        variables: &[(&str, &str)],
    ) -> Instance {
        let out = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new(program);
        command.arg("run").arg("-c").arg(config).arg("--data").arg(data);
        command.args(["--listen", "127.0.0.1:0", "--threads", "2"]);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out);
        Instance { child: command.spawn().expect("the program starts"), log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it and those before it on the same log have said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said something.
    pub fn until_said(&mut self, what: &str) {
        until(&format!("{what:?} in {}", self.log.display()), || self.said().contains(what));
    }

    /// A page of it, as text.
    pub fn get(&self, path: &str) -> String {
        let said = self.said();
        let address = said.lines().rev().find_map(|line| line.strip_prefix("ninefold: http://"));
        let address = address.unwrap_or_else(|| panic!("no address in {said}"));
        let url = format!("http://{}{path}", address.trim_end_matches('/'));
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let agent: ureq::Agent = config.into();
        let mut response = agent.get(&url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
        response.body_mut().read_to_string().expect("text")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Its exit code, once it has ended by itself.
    pub fn wait(&mut self) -> Option<i32> {
        until(&format!("the end: {}", self.log.display()), || self.has_ended());
        self.child.wait().expect("a child").code()
    }

    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end; it has to, without an error.
    pub fn stop(mut self) {
        signal(self.id(), "TERM");
        let code = self.wait();
        assert_eq!(code, Some(0), "{}", self.said());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something holds; fails after two minutes.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(120), "{what} does not come");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// SplitMix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Customer, minute: valid, bad.
pub type Sums = BTreeMap<(String, u32), (u64, u64)>;

/// What is done, and to whom.
#[derive(Clone)]
pub struct Plan {
    pub program: PathBuf,
    pub folder: PathBuf,
    pub topic: String,
    pub events: u64,
    pub partitions: i32,
    pub customers: u64,
    /// The time that the events span.
    pub minutes: u64,
    /// Events a second; 0 = as fast as it goes.
    pub rate: u64,
    pub instances: usize,
    pub kills: u64,
    pub pauses: u64,
    pub restarts: u64,
    /// How long a paused instance sleeps, at least and at most.
    pub sleep_ms: (u64, u64),
    /// How long one waits between two deeds, at most.
    pub pace_ms: u64,
    pub seed: u64,
}

/// Which events the logs hold.
#[derive(Default)]
struct Held {
    /// By number, 64 in each word.
    events: Vec<u64>,
    records: u64,
    /// Records whose event came before.
    repeated: u64,
}

impl Held {
    fn add(&mut self, n: u64) {
        let (word, bit) = ((n / 64) as usize, 1 << (n % 64));
        if self.events.len() <= word {
            self.events.resize(word + 1, 0);
        }
        self.records += 1;
        self.repeated += u64::from(self.events[word] & bit != 0);
        self.events[word] |= bit;
    }

    fn has(&self, n: u64) -> bool {
        self.events.get((n / 64) as usize).is_some_and(|word| word >> (n % 64) & 1 == 1)
    }
}

/// Says that it is over when it is dropped, also by a panic: nobody waits for the producer then.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a record says.
#[derive(serde::Deserialize)]
struct Line<'a> {
    ts: i64,
    customer: &'a str,
    status: u16,
    n: u64,
}

/// Event number `n`.
struct Event {
    customer: u64,
    partition: i32,
    time_ms: i64,
    is_bad: bool,
}

impl Event {
    fn name(&self) -> String {
        format!("c{}", self.customer)
    }
}

/// Wakes those whose time has come.
fn wake(
    asleep: &mut [Option<Instant>],
    instances: &[Instance],
    has_come: impl Fn(Instant) -> bool,
) {
    for (until, instance) in asleep.iter_mut().zip(instances) {
        if until.take_if(|until| has_come(*until)).is_some() {
            signal(instance.id(), "CONT");
        }
    }
}

impl Plan {
    fn event(&self, n: u64) -> Event {
        let mut random = Random(self.seed ^ n.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let customer = random.below(self.customers);
        let span_ms = self.minutes * 60_000;
        let time_ms = START_MS + (n * span_ms / self.events) as i64;
        let partition = (customer % self.partitions as u64) as i32;
        Event { customer, partition, time_ms, is_bad: random.below(100) == 0 }
    }

    /// Produces what is not there yet, until it is over.
    fn produce(&self, writer: &Writer, held: &Held, produced: &AtomicU64, is_over: &AtomicBool) {
        let since = Instant::now();
        let mut sent = 0;
        for n in (0..self.events).filter(|n| !held.has(*n)) {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            let event = self.event(n);
            let (name, Event { partition, time_ms, is_bad, .. }) = (event.name(), event);
            let status = if is_bad { 503 } else { 200 };
            let line = format!(
                "{{\"ts\":{time_ms},\"customer\":\"{name}\",\"service\":\"inbox\",\
                 \"route\":\"GET /inbox\",\"status\":{status},\"latency_ms\":12.5,\
                 \"release\":\"r41\",\"cohort\":\"canary\",\"region\":\"eu-west-1\",\"n\":{n}}}"
            );
            writer.send(&self.topic, partition, &name, line.as_bytes(), time_ms);
            sent += 1;
            produced.store(sent, Ordering::Relaxed);
            if self.rate > 0 && sent % 1_000 == 0 {
                let due = Duration::from_secs_f64(sent as f64 / self.rate as f64);
                std::thread::park_timeout(due.saturating_sub(since.elapsed()));
            }
        }
        writer.flush();
    }

    /// Does all of it to a topic that is there, and checks what comes of it.
    pub fn run(&self, broker: &mut Broker, config: &Path, mut log: impl FnMut(String)) {
        let data = self.folder.join("data");
        let start = |at: usize| {
            Instance::start(&self.program, config, &data, &self.folder.join(format!("log-{at}")))
        };
        let (held, _) = self.recount(broker);
        let writer = broker.producer(None);
        let produced = AtomicU64::new(0);
        let (is_done, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let since = Instant::now();
        std::thread::scope(|scope| {
            let _over = Over(&is_over);
            scope.spawn(|| {
                self.produce(&writer, &held, &produced, &is_over);
                is_done.store(true, Ordering::Relaxed);
            });
            let mut instances: Vec<Instance> = (0..self.instances).map(start).collect();
            let mut asleep: Vec<Option<Instant>> = vec![None; self.instances];
            let mut left = self.left();
            let mut random = Random(self.seed ^ left.iter().sum::<u64>() << 32);
            let mut due = Instant::now();
            while left != [0, 0, 0] || !is_done.load(Ordering::Relaxed) {
                std::thread::park_timeout(LOOK);
                wake(&mut asleep, &instances, |until| Instant::now() >= until);
                for (at, instance) in instances.iter_mut().enumerate() {
                    assert!(!instance.has_ended(), "{at} has ended: {}", instance.said());
                }
                let all: u64 = left.iter().sum();
                if all == 0 || Instant::now() < due {
                    continue;
                }
                due = Instant::now() + Duration::from_millis(1 + random.below(self.pace_ms));
                let at = random.below(self.instances as u64) as usize;
                let mut pick = random.below(all);
                let deed = left.iter().position(|count| {
                    let is_it = pick < *count;
                    pick = pick.saturating_sub(*count);
                    is_it
                });
                let deed = deed.expect("one is left");
                let told = match deed {
                    0 => {
                        instances[at].kill();
                        asleep[at] = None;
                        instances[at] = start(at);
                        format!("kill -9 of {at}")
                    }
                    1 if asleep[at].is_some() => continue,
                    1 => {
                        let (least, most) = self.sleep_ms;
                        let sleep_ms = least + random.below(most - least + 1);
                        signal(instances[at].id(), "STOP");
                        asleep[at] = Some(Instant::now() + Duration::from_millis(sleep_ms));
                        format!("SIGSTOP of {at} for {sleep_ms} ms")
                    }
                    _ if random.below(2) == 0 => {
                        broker.stop();
                        broker.run();
                        "the broker stopped and started".to_owned()
                    }
                    _ => {
                        broker.kill();
                        broker.run();
                        "kill -9 of the broker".to_owned()
                    }
                };
                left[deed] -= 1;
                self.note_left(left);
                let (now, events) = (since.elapsed().as_secs(), produced.load(Ordering::Relaxed));
                log(format!("{now} s, {events} events sent: {told}; left {left:?}"));
            }
            wake(&mut asleep, &instances, |_| true);
            log(format!("{} s: all is produced and done", since.elapsed().as_secs()));
            self.settle(broker, &data, &mut log);
            instances.into_iter().for_each(Instance::stop);
            log(format!("{} s: the table holds every offset", since.elapsed().as_secs()));
        });
        let (held, expect) = self.recount(broker);
        let lost: Vec<u64> = (0..self.events).filter(|n| !held.has(*n)).take(10).collect();
        assert!(lost.is_empty(), "events that no log holds, the first of them: {lost:?}");
        assert_same(&sums_of(&data), &expect);
        log(format!(
            "{} records in the logs, {} of them twice, hold all {} events; {} rows of customer \
             and minute are equal; instances were fenced {} times",
            held.records,
            held.repeated,
            self.events,
            expect.len(),
            self.fenced()
        ));
        self.prove(&data, config, &mut log);
    }

    /// Kills, pauses and restarts that are not done yet.
    fn left(&self) -> [u64; 3] {
        let Ok(text) = fs::read_to_string(self.folder.join("left")) else {
            return [self.kills, self.pauses, self.restarts];
        };
        let left: Vec<u64> = text.split(' ').map(|one| one.parse().expect("a number")).collect();
        left.try_into().expect("three numbers")
    }

    fn note_left(&self, [kills, pauses, restarts]: [u64; 3]) {
        let text = format!("{kills} {pauses} {restarts}");
        fs::write(self.folder.join("left"), text).expect("it can be written");
    }

    /// How often instances have said that they were fenced.
    fn fenced(&self) -> usize {
        let log = |at| fs::read_to_string(self.folder.join(format!("log-{at}")));
        let logs = (0..self.instances).map(|at| log(at).expect("a log"));
        logs.map(|text| text.matches("fenced: ").count()).sum()
    }

    /// What the logs hold, record by record; each is what was produced.
    fn recount(&self, broker: &Broker) -> (Held, Sums) {
        let (mut held, mut sums) = (Held::default(), Sums::new());
        for partition in 0..self.partitions {
            broker.for_each(&self.topic, partition, |payload| {
                let line: Line<'_> = serde_json::from_slice(payload).expect("JSON");
                let event = self.event(line.n);
                let is_bad = line.status == 503;
                assert_eq!((partition, line.ts), (event.partition, event.time_ms), "{}", line.n);
                assert_eq!((line.customer, is_bad), (&*event.name(), event.is_bad), "{}", line.n);
                held.add(line.n);
                let minute = (line.ts / 60_000) as u32;
                let sum = sums.entry((line.customer.to_owned(), minute)).or_default();
                sum.0 += 1;
                sum.1 += u64::from(is_bad);
            });
        }
        (held, sums)
    }

    /// Asks the program to prove its table: from itself, and from the topic.
    fn prove(&self, data: &Path, config: &Path, log: &mut impl FnMut(String)) {
        for proof in ["audit", "verify"] {
            let mut command = Command::new(&self.program);
            command.arg(proof).arg("--data").arg(data).arg("-c").arg(config);
            let output = command.output().expect("the program starts");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            log(format!("{proof}: {}", said.lines().last().unwrap_or_default()));
        }
    }

    /// Waits until the table has counted every log to its end.
    fn settle(&self, broker: &Broker, data: &Path, log: &mut impl FnMut(String)) {
        let partitions = 0..self.partitions;
        let ends: Vec<u64> = partitions.map(|number| broker.end(&self.topic, number)).collect();
        let mut moved = vec![(0, Instant::now()); ends.len()];
        loop {
            let table = Table::open(&data.join("rollups")).expect("readable").expect("a table");
            let mut lags = Vec::with_capacity(ends.len());
            for (number, (end, moved)) in ends.iter().zip(&mut moved).enumerate() {
                let name = format!("kafka/{}/{number}", self.topic);
                let offset = table.offset(&name).expect("readable").unwrap_or(0);
                if moved.0 != offset {
                    *moved = (offset, Instant::now());
                }
                let is_stuck = offset < *end && moved.1.elapsed() >= STUCK;
                assert!(!is_stuck, "{name} is stuck at {offset} of {end}");
                lags.push(end.checked_sub(offset).expect("nobody counts beyond the end"));
            }
            if lags.iter().all(|lag| *lag == 0) {
                return;
            }
            log(format!("behind by {lags:?}"));
            std::thread::park_timeout(Duration::from_secs(2));
        }
    }
}

/// What the table holds.
pub fn sums_of(data: &Path) -> Sums {
    let table = Table::open(&data.join("rollups")).expect("readable").expect("there is a table");
    let mut sums = Sums::new();
    let add = |row: ninefold_engine::table::read::SeriesRow<'_>| {
        let sum = sums.entry((row.customer.to_owned(), row.minute.0)).or_default();
        sum.0 += row.measures.valid;
        sum.1 += row.measures.bad;
    };
    table.for_each_series(&Filter::default(), add).expect("readable");
    sums
}

/// Fails with the first row that differs.
pub fn assert_same(found: &Sums, expect: &Sums) {
    let total = |sums: &Sums| sums.values().map(|sum| sum.0).sum::<u64>();
    for (key, sum) in expect {
        assert_eq!(found.get(key), Some(sum), "{key:?} of {} and {}", total(found), total(expect));
    }
    assert_eq!(found.len(), expect.len(), "there are rows that nobody has produced");
}

/// Writes a configuration of the Kafka source; `more` is added to its table.
pub fn write_config(folder: &Path, broker: &str, topics: &[&str], more: &str) -> PathBuf {
    let path = folder.join("ninefold.toml");
    let text = format!(
        "[run]\ncommit_interval = \"500ms\"\n[source.kafka]\nbrokers = [\"{broker}\"]\n\
         topics = {topics:?}\n{more}\n\
         [source.kafka.options]\n\"session.timeout.ms\" = 6000\n\
         \"heartbeat.interval.ms\" = 1000\n\"topic.metadata.refresh.interval.ms\" = 1000\n\
         \"reconnect.backoff.max.ms\" = 1000\n"
    );
    let mut file = File::create(&path).expect("it can be written");
    file.write_all(text.as_bytes()).expect("it can be written");
    path
}
