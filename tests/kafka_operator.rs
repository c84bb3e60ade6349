//! The Kafka source as its operator meets it, against a real broker: topics that tell of dead
//! letters and alerts, batches that are damaged on disk, gaps that are none, floods of poison,
//! retention that is too short.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/chaos.rs"]
mod chaos;
#[path = "common/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::process::Command;

use broker::{Broker, START_MS};
use chaos::{until, write_config};
use ninefold_engine::failpoint::VARIABLE;
use ninefold_engine::table::Filter;
use serde_json::Value;
use world::{Produced, World, send};

/// Key and body of what a topic of one partition holds: how often each is there.
fn told(broker: &Broker, topic: &str) -> BTreeMap<(String, String), usize> {
    let mut told = BTreeMap::new();
    broker.for_each_keyed(topic, 0, |key, body| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        *told.entry((text(key), text(body))).or_default() += 1;
    });
    told
}

/// The keys of what was told.
fn keys(told: &BTreeMap<(String, String), usize>) -> Vec<&str> {
    told.keys().map(|(key, _)| key.as_str()).collect()
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "alerts are judged by the clock of the service")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}

#[test]
fn dead_letters_and_transitions_arrive_in_topics_whatever_is_killed_or_away() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mut broker) = Broker::start(folder.path()) else { return };
    broker.create_topic("sent-dead", 1, &[]);
    let topics = "dead_letters_topic = \"sent-dead\"\nalerts_topic = \"sent-alerts\"";
    let world = World::new(&broker, "sent", 1, topics);
    let text = std::fs::read_to_string(&world.config).expect("it was written");
    let soon = "\"topic.metadata.propagation.max.ms\" = 1000\n";
    std::fs::write(&world.config, text + soon).expect("it can be written");
    let writer = broker.producer(None);
    let poison = |bytes: &[u8]| {
        writer.send("sent", 0, "k", bytes, START_MS);
        writer.flush();
    };
    let key = |offset: u64| format!("kafka/sent/0/{offset}");

    // Killed between what the brokers have taken and the note of it: it is sent once more.
    poison(b"{\"v\":2}");
    poison(b"\xff\"");
    let mut instance = world.start_with("a", &[(VARIABLE, "relay.sent")]);
    assert_eq!(instance.wait(), None, "killed: {}", instance.said());
    assert_eq!(keys(&told(&broker, "sent-dead")), [key(0), key(1)]);
    // Killed before anything is sent, with the table ahead; then the brokers are away.
    poison(b"no json");
    let mut instance = world.start_with("a", &[(VARIABLE, "relay.send:2")]);
    assert_eq!(instance.wait(), None, "killed: {}", instance.said());
    world.until_at(0, 3);
    broker.stop();
    let instance = world.start("a");
    until("it answers", || instance.said().contains("http://"));
    broker.run();
    until("all dead letters", || keys(&told(&broker, "sent-dead")).len() == 3);
    let dead = told(&broker, "sent-dead");
    assert_eq!(keys(&dead), [key(0), key(1), key(2)]);
    assert!(*dead.values().next().expect("three") > 1, "it was killed before the note: {dead:?}");
    let bodies: Vec<Value> =
        dead.keys().map(|(_, body)| serde_json::from_str(body).expect("JSON")).collect();
    assert_eq!((&bodies[0]["source"], &bodies[0]["offset"]), (&"kafka/sent/0".into(), &0.into()));
    assert_eq!(bodies[0]["line"], "{\"v\":2}");
    assert_eq!(bodies[1]["line"], "\u{fffd}\"");
    assert!(bodies[2]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{bodies:?}");

    // A topic that is not there is a note, and counting goes on.
    let mut next = 3;
    until("an alert in the table", || {
        for n in 0..40 {
            let (ts, status) = (now_ms(), if n % 2 == 0 { 500 } else { 200 });
            let line = format!("{{\"ts\":{ts},\"customer\":\"burning\",\"status\":{status}}}");
            writer.send("sent", 0, "k", line.as_bytes(), ts);
        }
        writer.flush();
        next += 40;
        world.until_at(0, next);
        transitions(&world).len() > 1
    });
    until("a note", || instance.get("/readyz").contains("waits to be sent: topic sent-alerts"));
    poison(b"one more");
    world.until_at(0, next + 1);
    broker.create_topic("sent-alerts", 1, &[]);
    until("all transitions", || {
        let told = told(&broker, "sent-alerts");
        transitions(&world).iter().all(|one| told.contains_key(one))
    });
    until("no note", || !instance.get("/readyz").contains("waits to be sent"));
    until("the last dead letter", || keys(&told(&broker, "sent-dead")).len() == 4);
    instance.stop();

    // What was told is not told again.
    let before = told(&broker, "sent-dead");
    let instance = world.start("a");
    poison(b"after a restart");
    let last = key(next + 1);
    until("the newest", || keys(&told(&broker, "sent-dead")).contains(&last.as_str()));
    instance.stop();
    let mut after = told(&broker, "sent-dead");
    after.retain(|(key, _), _| *key != last);
    assert_eq!(after, before);
    // What was sent is no partition.
    for command in ["audit", "source list"] {
        let mut ninefold = Command::new(env!("CARGO_BIN_EXE_ninefold"));
        ninefold.args(command.split(' ')).arg("--data").arg(world.data());
        let output = ninefold.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains("relay"), "{command}: {said}");
    }
}

/// Fingerprint and API body of every transition in the table.
fn transitions(world: &World) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let table = world.table().expect("there is one");
    table
        .for_each_alert(&Filter::default(), |row| {
            let stored: ninefold_engine::pipeline::watch::Stored =
                serde_json::from_str(row.alert).expect("JSON");
            let body = serde_json::to_string(&stored.transition).expect("plain data");
            found.push((row.fingerprint.to_owned(), body));
        })
        .expect("readable");
    found
}

#[test]
fn markers_that_expire_are_no_gap_and_short_retention_is_told() {
    let Some(shared) = world::shared() else { return };
    let broker = &shared.0;
    let mut world = World::new(broker, "markers", 1, "");
    broker.create_topic("short", 1, &[("retention.ms", "3600000")]);
    let topics = ["markers", "short"];
    let folder = world.folder.path();
    world.config = write_config(folder, &broker.address(), &topics, "group = \"markers\"");
    let (writer, mut produced) = (broker.producer(Some("markers")), Produced::default());
    writer.begin();
    send(&writer, "markers", 0, 20);
    writer.commit();
    produced.sum(20);
    writer.begin();
    send(&writer, "markers", 0, 5);
    writer.abort();
    // 20 records, a marker, 5 that are aborted, a marker: the end of the log is reached though
    // its last record stands at 19.
    let instance = world.start("a");
    world.until_at(0, 27);
    assert_eq!((world.sum(|row| row.read), world.sum(|row| row.holes)), (20, 7));
    let note = "topic short keeps its records for 1.0 h";
    until("a note", || instance.get("/readyz").contains(note));
    // An open transaction is not passed, however long one waits: what it holds may be counted.
    writer.begin();
    send(&writer, "markers", 0, 10);
    let lag = "ninefold_kafka_lag{topic=\"markers\",partition=\"0\"} 10";
    until("a lag", || instance.get("/metrics").contains(lag));
    let since = std::time::Instant::now();
    until("three looks at it", || since.elapsed() > std::time::Duration::from_secs(16));
    assert_eq!(world.offset(0), 27);
    instance.stop();
    broker.delete_records("markers", 0, 27);
    let instance = world.start("a");
    writer.commit();
    produced.sum(10);
    world.until_at(0, 37);
    assert!(!instance.said().contains("is stopped"), "{}", instance.said());
    instance.stop();
    world.check(&produced);
}
