//! How many records a second come out of a real Kafka into the table, and what does the client
//! library take by itself?
//!
//! A broker of its own with 12 partitions is filled with the lines of a file. Then, in turns, a
//! bare consumer with our settings takes all of it and counts bytes, and `ninefold run` counts it
//! into a new table. Time runs from the first record until the last one is taken (ours: counted),
//! so that joining the group is in neither; CPU is that of the whole process. Prints a line of
//! JSON for each turn. Broker and reader share the machine. `benches/against-peers` runs it.
//!
//! ```text
//! cargo build --release --workspace --bin ninefold --example bench_kafka
//! target/release/examples/bench_kafka FOLDER EVENTS.ndjson TURNS
//! ```

#[path = "../../tests/common/broker.rs"]
mod broker;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use broker::Broker;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const TOPIC: &str = "requests";
const PARTITIONS: i32 = 12;

/// How long a turn, and a record of the bare consumer, may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// How often the counters of the service are read.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Clock ticks a second in `/proc`, on every Linux that this runs on.
const TICKS: f64 = 100.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["bare", address, records] => bare(address, records.parse().expect("a number")),
        [folder, events, turns] => {
            compare(Path::new(folder), Path::new(events), turns.parse().expect("a number"));
        }
        _ => {
            eprintln!("usage: bench_kafka FOLDER EVENTS.ndjson TURNS");
            std::process::exit(2);
        }
    }
}

fn compare(folder: &Path, events: &Path, turns: u32) {
    fs::create_dir_all(folder).expect("it can be made");
    let Some(broker) = Broker::start(folder) else { return };
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let records = fill(&broker, events);
    let this = std::env::current_exe().expect("this program has a path");
    for turn in 0..turns {
        let records = records.to_string();
        let bare = Command::new(&this).args(["bare", &broker.address(), &records]).status();
        assert!(bare.expect("it starts").success(), "the bare consumer failed");
        ours(&broker, folder, turn, &records);
    }
}

/// Sends the lines of a file to all partitions, by customer as a producer with keys would; gives
/// their number.
fn fill(broker: &Broker, events: &Path) -> u64 {
    let writer = broker.producer(None);
    let mut records = 0;
    for line in BufReader::new(File::open(events).expect("the events are there")).split(b'\n') {
        let line = line.expect("it reads");
        let customer = line.split(|byte| *byte == b'"').nth(5).expect("the form of the generator");
        let hash =
            customer.iter().fold(7_u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(*byte));
        let key = std::str::from_utf8(customer).expect("names are text");
        let partition = (hash % PARTITIONS.unsigned_abs()).cast_signed();
        writer.send(TOPIC, partition, key, &line, broker::START_MS);
        records += 1;
    }
    writer.flush();
    records
}

/// User and system time of a process in seconds.
fn cpu_s(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux tells of it");
    let fields = stat.rsplit(')').next().expect("the name stands in parentheses").split(' ');
    let ticks = fields.skip(12).take(2).map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / TICKS
}

fn tell(engine: &str, records: u64, wall: Duration, cpu_s: f64) {
    let (wall_s, count) = (wall.as_secs_f64(), records as f64);
    println!(
        "{{\"engine\":\"{engine}\",\"records\":{records},\"wall_s\":{wall_s:.3},\"cpu_s\":{cpu_s:.2},\
         \"records_per_s\":{:.0},\"cpu_us_per_record\":{:.3}}}",
        count / wall_s,
        cpu_s * 1e6 / count
    );
}

/// Takes all records and does nothing with them.
fn bare(address: &str, records: u64) {
    let mut settings = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", address),
        ("group.id", "bare"),
        ("enable.auto.commit", "false"),
        ("check.crcs", "true"),
        ("isolation.level", "read_committed"),
        ("queued.max.messages.kbytes", "16384"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.queue.backoff.ms", "10"),
    ] {
        settings.set(key, value);
    }
    let consumer: BaseConsumer = settings.create().expect("the settings are right");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("they are there");
    let (mut taken, mut bytes, mut began) = (0, 0, Instant::now());
    while taken < records {
        let record = consumer.poll(DEADLINE).expect("more records").expect("a record");
        if taken == 0 {
            began = Instant::now();
        }
        taken += 1;
        bytes += record.payload().map_or(0, <[u8]>::len);
    }
    let wall = began.elapsed();
    assert!(bytes > 0, "records have bytes");
    tell("bare", records, wall, cpu_s(std::process::id()));
}

/// What the service says it has counted, where it answers.
fn lines_counted(url: &str) -> Option<u64> {
    let text = ureq::get(url).call().ok()?.body_mut().read_to_string().ok()?;
    text.split_once("\"counted\":")?.1.split([',', '}']).next()?.parse().ok()
}

/// Counts all records into a new table.
fn ours(broker: &Broker, folder: &Path, turn: u32, records: &str) {
    let records: u64 = records.parse().expect("a number");
    let (config, data) = (folder.join("ninefold.toml"), folder.join(format!("data-{turn}")));
    let port = broker::free_port();
    let text = format!(
        "[source.kafka]\nbrokers = [\"{}\"]\ntopics = [\"{TOPIC}\"]\ngroup = \"turn-{turn}\"\n",
        broker.address()
    );
    fs::write(&config, text).expect("it can be written");
    let program = std::env::current_exe().expect("this program has a path");
    let program = program.ancestors().nth(2).expect("it is in target/release/examples");
    let log = File::create(folder.join(format!("run-{turn}.log"))).expect("it can be written");
    let mut run = Command::new(program.join("ninefold"));
    run.args(["run", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(&data)
        .arg("-c")
        .arg(&config);
    let mut run =
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
    let url = format!("http://127.0.0.1:{port}/healthz");
    let started = Instant::now();
    // When the counters were read before: the first records came after that.
    let (mut counted, mut began, mut looked) = (0, started, started);
    while counted < records {
        assert!(started.elapsed() < DEADLINE, "{counted} of {records} records are counted");
        std::thread::park_timeout(LOOK_INTERVAL);
        let before = std::mem::replace(&mut looked, Instant::now());
        let now = lines_counted(&url).unwrap_or(counted);
        if counted == 0 && now > 0 {
            began = before;
        }
        counted = now;
    }
    let wall = began.elapsed();
    let used_s = cpu_s(run.id());
    broker::signal(run.id(), "TERM");
    assert!(run.wait().expect("it ends").success(), "it ends in order");
    tell("ninefold", records, wall, used_s);
}
