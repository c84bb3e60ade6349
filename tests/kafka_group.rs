//! Several instances in one group of a real Kafka: who decides when the judge dies, what an
//! instance does that has missed its polls, and how counting goes on while members come and go.
//! And what the proofs for users say of topics.
//!
//! Tests share one broker, and each has topics, a group and a table of its own.

#[path = "common/asked.rs"]
mod asked;
#[path = "common/broker.rs"]
mod broker;
#[path = "common/chaos.rs"]
mod chaos;
#[path = "common/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use broker::{Broker, Writer};
use chaos::{Instance, until};
use ninefold_engine::failpoint;
use ninefold_engine::table::schema::Grain;
use ninefold_engine::table::{DataFile, Epoch, Filter, JUDGE};
use ninefold_engine::time::Minute;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};
use world::{Produced, World, send, shared};

#[expect(clippy::disallowed_methods, reason = "live alerts are of now")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}

fn health(instance: &Instance) -> Value {
    serde_json::from_str(&instance.get("/healthz")).expect("JSON")
}

/// An instance that answers.
fn started(world: &World, name: &str) -> Instance {
    answering(world.start(name))
}

fn answering(mut instance: Instance) -> Instance {
    instance.until_said("ninefold: http://");
    instance
}

/// The partitions of a topic that an instance counts, by its metrics.
fn partitions(instance: &Instance) -> usize {
    let text = instance.get("/metrics");
    text.lines().filter(|line| line.starts_with("ninefold_kafka_position{")).count()
}

/// Sends 40 events of now, half of them bad, of a customer to a partition.
fn burn(writer: &Writer, topic: &str, partition: i32, customer: &str) {
    let now = now_ms();
    for n in 0..40 {
        let status = if n % 2 == 0 { 503 } else { 200 };
        let line = format!("{{\"ts\":{now},\"customer\":\"{customer}\",\"status\":{status}}}");
        writer.send(topic, partition, customer, line.as_bytes(), now);
    }
    writer.flush();
}

/// Counts a file of 40 such events into the table: no partition of the group holds the customer,
/// so that the judge decides.
fn burn_aside(world: &World, customer: &str) {
    let path = world.folder.path().join(format!("{customer}.ndjson"));
    let now = now_ms();
    let line = |n: u64| {
        let status = if n.is_multiple_of(2) { 503 } else { 200 };
        format!("{{\"ts\":{now},\"customer\":\"{customer}\",\"status\":{status}}}\n")
    };
    fs::write(&path, (0..40).map(line).collect::<String>()).expect("it can be written");
    let output = world.command(&["replay", path.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The live transitions of the table: by fingerprint, the states in their order.
fn transitions(world: &World) -> BTreeMap<(String, String, String), Vec<String>> {
    let (_, alerts) = world.ask(&["alerts", "--basis", "live"]);
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for alert in alerts["alerts"].as_array().expect("alerts") {
        let text = |key: &str| alert[key].as_str().expect("text").to_owned();
        let of = (text("fingerprint"), text("customer"), text("tier"));
        found.entry(of).or_default().push(text("state"));
    }
    found
}

/// The customers whose fastest page fires, each decided once.
fn fire(world: &World) -> BTreeSet<String> {
    let mut fire = BTreeSet::new();
    for ((_, customer, tier), states) in transitions(world) {
        let twice = states.windows(2).any(|pair| pair[0] == pair[1]);
        assert!(!twice, "{customer} {tier} was decided twice: {states:?}");
        if tier == "rollout_5m" && states[0] == "firing" {
            fire.insert(customer);
        }
    }
    fire
}

#[test]
fn when_the_judge_dies_the_next_one_goes_on_and_nothing_is_decided_twice() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let world = World::new(broker, "judged", 6, "");
    let writer = broker.producer(None);
    let mut instances: Vec<Instance> = ["a", "b", "c"].map(|name| started(&world, name)).into();
    let judge_of = |instances: &[Instance]| {
        let health: Vec<Value> = instances.iter().map(health).collect();
        let judges: Vec<usize> =
            (0..health.len()).filter(|at| health[*at]["role"] == "judge").collect();
        match judges[..] {
            [judge] => {
                let owned = health[judge]["partitions"].as_array().expect("partitions");
                owned.contains(&json!("kafka/judged/0")).then_some(judge)
            }
            _ => None,
        }
    };
    let mut expect = BTreeSet::new();
    let until_fire = |expect: &BTreeSet<String>| {
        until("every transition", || fire(&world).is_superset(expect));
    };
    for partition in 0..6 {
        burn(&writer, "judged", partition, &format!("first-{partition}"));
        expect.insert(format!("first-{partition}"));
    }
    until("a fair share", || instances.iter().all(|instance| partitions(instance) == 2));
    until("one judge, with partition 0", || judge_of(&instances).is_some());
    burn_aside(&world, "aside-first");
    expect.insert("aside-first".to_owned());
    until_fire(&expect);
    let decided =
        |world: &World| world.table().and_then(|table| table.offset(JUDGE).expect("readable"));
    let before = decided(&world);
    assert!(before.is_some(), "the judge has said so");

    let judge = judge_of(&instances).expect("one was there");
    instances.remove(judge).kill();
    // While nobody judges, or the dead one seems to.
    burn_aside(&world, "aside-between");
    expect.insert("aside-between".to_owned());
    for partition in 0..6 {
        burn(&writer, "judged", partition, &format!("second-{partition}"));
        expect.insert(format!("second-{partition}"));
    }
    until("the next judge", || judge_of(&instances).is_some());
    burn_aside(&world, "aside-second");
    expect.insert("aside-second".to_owned());
    until_fire(&expect);
    assert!(decided(&world) > before, "the next one has decided");
    // The first comes back; whoever gets partition 0 knows what was decided.
    instances.push(started(&world, "d"));
    until("a fair share", || instances.iter().all(|instance| partitions(instance) == 2));
    until("one judge, with partition 0", || judge_of(&instances).is_some());
    burn_aside(&world, "aside-third");
    expect.insert("aside-third".to_owned());
    until_fire(&expect);
    instances.into_iter().for_each(Instance::stop);
    assert!(fire(&world).is_superset(&expect), "none is lost");
    world.verify();
}

#[test]
fn an_instance_that_misses_its_polls_commits_nothing_and_joins_again() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) = (World::new(broker, "stalls", 4, ""), Produced::default());
    let text = fs::read_to_string(&world.config).expect("it was written");
    fs::write(&world.config, text + "\"max.poll.interval.ms\" = 7000\n").expect("it can be");
    let writer = broker.producer(None);
    let mut send_all = |count: u64| {
        (0..4).for_each(|partition| produced.send(&writer, "stalls", partition, count));
    };
    // Its data files are written, and the disk hangs before the log entry: for longer than the
    // group waits for a poll.
    let hangs = world.folder.path().join("hangs");
    fs::write(&hangs, "").expect("it can be written");
    let point = format!("commit.data.written:12:{}", hangs.display());
    let mut stalled = answering(world.start_with("a", &[(failpoint::VARIABLE, &point)]));
    let other = started(&world, "b");
    send_all(50);
    until("a fair share", || partitions(&stalled) == 2 && partitions(&other) == 2);
    until("a disk that hangs", || {
        send_all(10);
        stalled.said().contains("held at failpoint")
    });
    until("all partitions at the other one", || partitions(&other) == 4);
    send_all(50);
    let ends = |broker: &Broker| [0, 1, 2, 3].map(|partition| broker.end("stalls", partition));
    let all = ends(broker);
    until("what came meanwhile", || (0..4).all(|at| world.offset(at) == all[at as usize]));
    // The disk answers: what was counted is not its own any more.
    fs::remove_file(&hangs).expect("it is there");
    stalled.until_said("counting on from where the table stands");
    stalled.until_said("poll interval");
    until("a fair share again", || partitions(&stalled) == 2 && partitions(&other) == 2);
    send_all(50);
    let all = ends(broker);
    until("what came last", || (0..4).all(|at| world.offset(at) == all[at as usize]));
    stalled.stop();
    other.stop();
    world.check(&produced);
    world.verify();
    let (code, audit) = world.ask(&["audit"]);
    assert_eq!(code, Some(0), "{audit:#}");
}

#[test]
fn counting_goes_on_while_members_come_and_go() {
    const ROUNDS: u64 = 8;
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) = (World::new(broker, "storm", 6, ""), Produced::default());
    let writer = broker.producer(None);
    let instances = ["a", "b"].map(|name| started(&world, name));
    until("a fair share", || instances.iter().all(|instance| partitions(instance) == 3));
    let counted = || (0..6).map(|partition| world.offset(partition)).sum::<u64>();
    for round in 0..ROUNDS {
        let before = counted();
        let mut settings = broker.client();
        settings
            .set("group.id", "storm")
            .set("partition.assignment.strategy", "cooperative-sticky");
        settings.set("session.timeout.ms", "6000").set("enable.auto.commit", "false");
        // A member that takes partitions, counts nothing, and leaves or dies.
        let member: BaseConsumer = settings.create().expect("a client");
        member.subscribe(&["storm"]).expect("it can");
        until("its partitions", || {
            drop(member.poll(Duration::from_millis(50)));
            member.assignment().expect("it answers").count() > 0
        });
        (0..6).for_each(|partition| produced.send(&writer, "storm", partition, 40));
        if round.is_multiple_of(2) {
            member.unsubscribe();
        }
        drop(member);
        until("something that was counted", || counted() > before);
    }
    for partition in 0..6 {
        world.until_at(partition, ROUNDS * 40);
    }
    for instance in &instances {
        let text = instance.get("/metrics");
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
        };
        let rebalances =
            of("ninefold_kafka_rebalances_total ").or(of("ninefold_kafka_rebalances "));
        assert!(rebalances >= Some(ROUNDS as f64), "{rebalances:?} in {text}");
    }
    instances.into_iter().for_each(Instance::stop);
    world.check(&produced);
    world.verify();
}

#[test]
fn verify_reads_topics_again_and_says_what_retention_has_taken() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) = (World::new(broker, "verified-again", 2, ""), Produced::default());
    let writer = broker.producer(None);
    let instance = world.start("a");
    for round in 1..=3 {
        (0..2).for_each(|partition| produced.send(&writer, "verified-again", partition, 100));
        (0..2).for_each(|partition| world.until_at(partition, round * 100));
    }
    // An accepted gap whose records are still there, a dead letter, and more.
    instance.stop();
    send(&writer, "verified-again", 0, 20);
    world.skip_to(0, 320);
    writer.send("verified-again", 0, "k", b"poison", broker::START_MS);
    produced.send(&writer, "verified-again", 0, 100);
    let instance = world.start("a");
    world.until_at(0, 421);
    instance.stop();
    // What is not counted yet is not the table's.
    send(&writer, "verified-again", 1, 50);
    world.check(&produced);
    world.verify();

    broker.delete_records("verified-again", 0, 150);
    let (code, verdict) = world.ask(&["verify"]);
    assert_eq!((code, &verdict["equal"]), (Some(1), &json!(false)), "{verdict:#}");
    let gone = verdict["gone"].as_array().expect("a list");
    let [gone] = &gone[..] else { panic!("{verdict:#}") };
    let gone = gone.as_str().expect("text");
    assert!(gone.starts_with("kafka/verified-again/0: offsets 0..150 are gone"), "{gone}");
    assert_eq!((&verdict["different"], &verdict["ranges_different"]), (&json!(0), &Value::Null));
    let text = world.command(&["verify"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("not compared: ") && text.ends_with("not complete\n"), "{text}");

    // A row of the table once more.
    let mut table = world.table().expect("there is one");
    let filter =
        Filter { partition: Some("kafka/verified-again/1".to_owned()), ..Filter::default() };
    let rows = table.scan(Grain::Series, &filter).expect("readable");
    let rows = rows.map(|rows| rows.expect("readable")).find(|rows| rows.num_rows() > 0);
    let rows = rows.expect("a row").slice(0, 1);
    let day = Minute::of_ms(broker::START_MS).day();
    let files = vec![DataFile { grain: Grain::Series, day, batches: vec![rows] }];
    table.commit(Epoch { files, ..Epoch::default() }).expect("it lands");
    let (code, verdict) = world.ask(&["verify"]);
    assert_eq!((code, &verdict["different"]), (Some(1), &json!(1)), "{verdict:#}");
    assert_eq!(verdict["differences"][0]["partition"], "kafka/verified-again/1");
}

#[test]
fn the_doctor_looks_at_brokers_topics_and_the_group() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let mut world = World::new(broker, "looked-at", 2, "");
    let writer = broker.producer(None);
    let advice = |world: &World| -> BTreeMap<String, (String, String)> {
        let (_, found) = world.ask(&["doctor"]);
        let advice = found["advice"].as_array().expect("advice");
        let text = |one: &Value, key: &str| one[key].as_str().expect("text").to_owned();
        advice
            .iter()
            .map(|one| (text(one, "about"), (text(one, "level"), text(one, "found"))))
            .collect()
    };
    let says = |world: &World, about: &str, level: &str, part: &str| {
        until(&format!("{level} {about}: {part}"), || {
            let all = advice(world);
            all.get(about).is_some_and(|found| found.0 == level && found.1.contains(part))
        });
    };
    says(&world, "topic looked-at", "ok", "2 partitions, 0 records behind; 2 not counted yet");
    says(&world, "group looked-at", "ok", "nobody is in it");
    says(&world, "kafka", "ok", "1 brokers of cluster");
    says(&world, "memory", "ok", "uncommitted");

    (0..2).for_each(|partition| send(&writer, "looked-at", partition, 100));
    let instance = world.start("a");
    (0..2).for_each(|partition| world.until_at(partition, 100));
    says(&world, "group looked-at", "ok", "1 members, Stable");
    instance.stop();
    send(&writer, "looked-at", 1, 30);
    says(&world, "topic looked-at", "ok", "30 records behind in all, at most 30 in partition 1");
    let text = fs::read_to_string(&world.config).expect("it was written");
    fs::write(&world.config, text.clone() + "[dedupe]\nwindow_records = 60\n").expect("it can be");
    says(&world, "topic looked-at", "ok", "behind");
    broker.delete_records("looked-at", 0, 70);
    let about = "partition kafka/looked-at/0";
    says(&world, about, "warning", "30 records before offset 100");
    broker.delete_records("looked-at", 1, 110);
    let about = "partition kafka/looked-at/1";
    says(&world, about, "error", "wanted offset 100, broker starts at 110");
    assert_eq!(world.ask(&["doctor"]).0, Some(1));

    // The same name, and another log.
    fs::write(&world.config, &text).expect("it can be");
    broker.delete_topic("looked-at");
    says(&world, "topic looked-at", "error", "no such topic");
    broker.create_topic("looked-at", 1, &[]);
    let writer = broker.producer(None);
    (0..150).for_each(|_| writer.send("looked-at", 0, "k", b"{}", broker::START_MS));
    writer.flush();
    says(&world, "partition kafka/looked-at/0", "error", "the log changed at offset 99");
    let (_, found) = world.ask(&["doctor"]);
    assert!(found.to_string().contains("counted partition 1, which is not there"), "{found:#}");

    let away =
        chaos::write_config(world.folder.path(), "127.0.0.1:1", &["looked-at"], "group = \"g\"");
    world.config = away;
    says(&world, "kafka", "error", "no broker of 127.0.0.1:1 answers");
}
