//! The long run against a real Kafka: three instances of one group, killed, put to sleep and cut
//! off at random, and at the end a table that equals what was produced.
//!
//! Run by hand, since it takes a quarter of an hour and more:
//!
//! ```text
//! cargo build --release --workspace --all-targets
//! NINEFOLD_SOAK=target/soak target/release/examples/soak_kafka
//! ```
//!
//! NINEFOLD_SOAK is the folder to work in; its `soak.log` is added to. Started again on the same
//! folder, it goes on where it was broken off: broker, topic and table are there, what was
//! produced is not produced again, and what was done (`left` says what was not) not done again.
//! Other variables, with what holds without them: EVENTS
//! (20000000), PARTITIONS (12), INSTANCES (3), KILLS (100), PAUSES (20), RESTARTS (5), RATE
//! (25000 events a second), PACE_MS (10000: the longest wait between two deeds), SEED (1).

#[path = "../common/broker.rs"]
mod broker;
#[path = "../common/chaos.rs"]
mod chaos;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use broker::{Broker, signal};
use chaos::{Plan, write_config};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Kills brokers and instances of a run on this folder that was killed itself.
fn end_left_over(folder: &Path) {
    let ours = [folder.join("ninefold.toml"), folder.join("kafka/server.properties")];
    let ours = ours.map(|path| path.into_os_string().into_encoded_bytes());
    for process in fs::read_dir("/proc").expect("Linux").flatten() {
        // It may end while one looks.
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let is_ours = arguments.split(|byte| *byte == 0).any(|one| ours.iter().any(|it| it == one));
        let id = process.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(id) = id.filter(|_| is_ours) {
            signal(id, "KILL");
        }
    }
}

fn main() {
    let folder = std::env::var_os("NINEFOLD_SOAK").expect("NINEFOLD_SOAK names a folder");
    fs::create_dir_all(&folder).expect("it can be made");
    let folder = PathBuf::from(folder).canonicalize().expect("it is there");
    let program = std::env::current_exe().expect("this program has a path");
    let program = program.ancestors().nth(2).expect("it is in target/release/examples");
    let mut file =
        File::options().create(true).append(true).open(folder.join("soak.log")).expect("a log");
    let mut log = |line: String| {
        println!("{line}");
        writeln!(file, "{line}").expect("the log can be written");
    };
    let plan = Plan {
        program: program.join("ninefold"),
        topic: "requests".to_owned(),
        events: number("EVENTS", 20_000_000),
        partitions: i32::try_from(number("PARTITIONS", 12)).expect("few"),
        customers: 5_000,
        minutes: 60,
        rate: number("RATE", 25_000),
        instances: number("INSTANCES", 3) as usize,
        kills: number("KILLS", 100),
        pauses: number("PAUSES", 20),
        restarts: number("RESTARTS", 5),
        sleep_ms: (10_000, 60_000),
        pace_ms: number("PACE_MS", 10_000),
        seed: number("SEED", 1),
        folder: folder.clone(),
    };
    end_left_over(&folder);
    let is_new = !folder.join("kafka").exists();
    let broker = if is_new { Broker::start(&folder) } else { Broker::resume(&folder) };
    let Some(mut broker) = broker else { return };
    if is_new {
        broker.create_topic(&plan.topic, plan.partitions, &[]);
    }
    log(format!(
        "{}: {} events in {} partitions, {} instances, {} kills, {} pauses, {} restarts, seed {}",
        if is_new { "begins" } else { "goes on" },
        plan.events,
        plan.partitions,
        plan.instances,
        plan.kills,
        plan.pauses,
        plan.restarts,
        plan.seed
    ));
    let config = write_config(&folder, &broker.address(), &["requests"], "group = \"soak\"");
    plan.run(&mut broker, &config, &mut log);
    log("the soak has passed".to_owned());
}
