//! Instances of the service on one topic and one table, and what is done to them: kill -9,
//! SIGSTOP, brokers that stop, all at random instants; at the end the table has to hold what was
//! produced, by customer and minute.
//!
//! What is right is recounted from the logs, record by record, by a consumer that is no part of
//! the program: a producer that loses its broker may write a record twice, and then it is twice
//! in the log. Events are a function of their number, so a run that was broken off goes on: of
//! each partition as many events are left out as its log holds already.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ninefold_engine::table::{Filter, Table};

use crate::broker::{Broker, START_MS, signal};

/// How long the table may take to hold everything once nothing more is done to anybody.
const SETTLE: Duration = Duration::from_secs(300);

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

/// Event number `n`.
struct Event {
    customer: u64,
    partition: i32,
    time_ms: i64,
    is_bad: bool,
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

    /// Produces what is not there yet.
    fn produce(&self, broker: &BrokerHandle<'_>, produced: &AtomicU64) {
        let mut there: Vec<u64> =
            (0..self.partitions).map(|partition| broker.end(&self.topic, partition)).collect();
        let writer = broker.writer();
        let since = Instant::now();
        let mut sent = 0;
        for n in 0..self.events {
            let event = self.event(n);
            produced.store(n + 1, Ordering::Relaxed);
            let left = &mut there[event.partition as usize];
            if *left > 0 {
                *left -= 1;
                continue;
            }
            let status = if event.is_bad { 503 } else { 200 };
            let (customer, time_ms) = (event.customer, event.time_ms);
            let line = format!(
                "{{\"ts\":{time_ms},\"customer\":\"c{customer}\",\"service\":\"inbox\",\
                 \"route\":\"GET /inbox\",\"status\":{status},\"latency_ms\":12.5,\
                 \"release\":\"r41\",\"cohort\":\"canary\",\"region\":\"eu-west-1\"}}"
            );
            let key = format!("c{customer}");
            writer.send(&self.topic, event.partition, &key, line.as_bytes(), time_ms);
            sent += 1;
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
        let produced = AtomicU64::new(0);
        let is_done = AtomicBool::new(false);
        let handle = BrokerHandle::new(broker);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.produce(&handle, &produced);
                is_done.store(true, Ordering::Relaxed);
            });
            let mut instances: Vec<Instance> = (0..self.instances).map(start).collect();
            let mut asleep: Vec<Option<Instant>> = vec![None; self.instances];
            let mut left = [self.kills, self.pauses, self.restarts];
            let mut random = Random(self.seed);
            let since = Instant::now();
            while left != [0, 0, 0] || !is_done.load(Ordering::Relaxed) {
                let wait = 1 + random.below(self.pace_ms);
                std::thread::park_timeout(Duration::from_millis(wait));
                for (at, until) in asleep.iter_mut().enumerate() {
                    if until.is_some_and(|until| Instant::now() >= until) {
                        *until = None;
                        signal(instances[at].id(), "CONT");
                        log(format!("{at} wakes up"));
                    }
                }
                for (at, instance) in instances.iter_mut().enumerate() {
                    assert!(!instance.has_ended(), "{at} has ended: {}", instance.said());
                }
                let all: u64 = left.iter().sum();
                if all == 0 {
                    continue;
                }
                let at = random.below(self.instances as u64) as usize;
                let mut pick = random.below(all);
                let deed = left.iter().position(|count| {
                    let is_it = pick < *count;
                    pick = pick.saturating_sub(*count);
                    is_it
                });
                let deed = deed.expect("one is left");
                let now = since.elapsed().as_secs();
                let events = produced.load(Ordering::Relaxed);
                match deed {
                    0 => {
                        instances[at].kill();
                        asleep[at] = None;
                        instances[at] = start(at);
                    }
                    1 if asleep[at].is_some() => continue,
                    1 => {
                        let (least, most) = self.sleep_ms;
                        let sleep = least + random.below(most - least + 1);
                        signal(instances[at].id(), "STOP");
                        asleep[at] = Some(Instant::now() + Duration::from_millis(sleep));
                    }
                    _ => handle.restart(random.below(2) == 0),
                }
                left[deed] -= 1;
                let deed = ["kill -9", "SIGSTOP", "broker restart"][deed];
                log(format!("{now} s, {events} events: {deed} of {at}; left {left:?}"));
            }
            for (at, until) in asleep.iter().enumerate() {
                if until.is_some() {
                    signal(instances[at].id(), "CONT");
                }
            }
            log(format!("{} s: all is produced and done", since.elapsed().as_secs()));
            self.settle(&handle, &data, &mut log);
            instances.into_iter().for_each(Instance::stop);
            log(format!("{} s: the table holds every offset", since.elapsed().as_secs()));
        });
        let (found, expect) = (sums_of(&data), self.recount(broker));
        let total: u64 = expect.values().map(|sum| sum.0).sum();
        assert!(total >= self.events, "{total} records of {} events are in the logs", self.events);
        assert_same(&found, &expect);
        let rows = expect.len();
        log(format!("{total} records in the logs; {rows} rows of customer and minute are equal"));
        self.audit(&data, &mut log);
    }

    /// What the logs hold, record by record.
    fn recount(&self, broker: &Broker) -> Sums {
        let mut sums = Sums::new();
        for partition in 0..self.partitions {
            broker.for_each(&self.topic, partition, |payload| {
                let event: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
                let customer = event["customer"].as_str().expect("a customer").to_owned();
                let minute = event["ts"].as_i64().expect("a time") / 60_000;
                let sum = sums.entry((customer, minute as u32)).or_default();
                sum.0 += 1;
                sum.1 += u64::from(event["status"] == 503);
            });
        }
        sums
    }

    /// Asks the program to prove its table.
    fn audit(&self, data: &Path, log: &mut impl FnMut(String)) {
        let output = Command::new(&self.program).arg("audit").arg("--data").arg(data).output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        log(format!("audit: {}", said.lines().last().unwrap_or_default()));
    }

    /// Waits until the table has counted every log to its end.
    fn settle(&self, broker: &BrokerHandle<'_>, data: &Path, log: &mut impl FnMut(String)) {
        let ends: Vec<u64> =
            (0..self.partitions).map(|partition| broker.end(&self.topic, partition)).collect();
        let since = Instant::now();
        loop {
            let table = Table::open(&data.join("rollups")).expect("readable").expect("a table");
            let offset = |partition: usize| {
                let name = format!("kafka/{}/{partition}", self.topic);
                table.offset(&name).expect("readable").unwrap_or(0)
            };
            let lags: Vec<u64> =
                ends.iter().enumerate().map(|(at, end)| end - offset(at)).collect();
            if lags.iter().all(|lag| *lag == 0) {
                return;
            }
            assert!(since.elapsed() < SETTLE, "partitions are stuck: {lags:?}");
            log(format!("{} s to settle: behind by {lags:?}", since.elapsed().as_secs()));
            std::thread::park_timeout(Duration::from_secs(2));
        }
    }
}

/// The broker, shared by who produces and who restarts it.
struct BrokerHandle<'a> {
    broker: std::sync::Mutex<&'a mut Broker>,
    client: rdkafka::ClientConfig,
}

impl<'a> BrokerHandle<'a> {
    fn new(broker: &'a mut Broker) -> BrokerHandle<'a> {
        let client = broker.client();
        BrokerHandle { broker: std::sync::Mutex::new(broker), client }
    }

    fn end(&self, topic: &str, partition: i32) -> u64 {
        self.broker.lock().expect("nobody has panicked").end(topic, partition)
    }

    fn writer(&self) -> crate::broker::Writer {
        self.broker.lock().expect("nobody has panicked").producer(None)
    }

    fn restart(&self, in_order: bool) {
        let mut broker = self.broker.lock().expect("nobody has panicked");
        if in_order {
            broker.stop()
        } else {
            broker.kill()
        }
        broker.run();
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
