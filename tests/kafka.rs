//! The Kafka source against a real broker: everything produced is counted once, or lies in a
//! named gap, whatever is done to instances, partitions, groups and logs.
//!
//! Tests share one broker, and each has topics, a group and a table of its own; those that stop
//! or damage a broker have one of their own. The long form of the first test is `tests/soak`.

#[path = "common/asked.rs"]
mod asked;
#[path = "common/broker.rs"]
mod broker;
#[path = "common/chaos.rs"]
mod chaos;
#[path = "common/world.rs"]
mod world;

use std::fs;
use std::path::PathBuf;

use broker::{Broker, START_MS, signal};
use chaos::{Instance, Plan, until, write_config};
use world::{Produced, World, line, send, shared};

#[test]
fn instances_killed_put_to_sleep_and_cut_off_count_every_event_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mut broker) = Broker::start(folder.path()) else { return };
    broker.create_topic("chaos", 6, &[]);
    let plan = Plan {
        program: PathBuf::from(env!("CARGO_BIN_EXE_ninefold")),
        folder: folder.path().to_owned(),
        topic: "chaos".to_owned(),
        events: 150_000,
        partitions: 6,
        customers: 300,
        minutes: 30,
        rate: 10_000,
        instances: 2,
        kills: 4,
        pauses: 1,
        restarts: 1,
        sleep_ms: (7_000, 9_000),
        pace_ms: 5_000,
        seed: 3,
    };
    let config = write_config(folder.path(), &broker.address(), &["chaos"], "group = \"chaos\"");
    plan.run(&mut broker, &config, |line| println!("{line}"));
}

#[test]
fn partitions_that_are_added_are_read_from_their_beginning_and_shared() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) =
        (World::new(broker, "grows", 1, "start = \"latest\""), Produced::default());
    let writer = broker.producer(None);
    // What was there before the first start is not wanted; all that comes later is.
    send(&writer, "grows", 0, 50);
    let first = world.start("a");
    world.until_at(0, 50);
    produced.send(&writer, "grows", 0, 300);
    broker.add_partitions("grows", 4);
    for partition in 1..4 {
        produced.send(&writer, "grows", partition, 100);
    }
    let second = world.start("b");
    for (partition, end) in [(0, 350), (1, 100), (2, 100), (3, 100)] {
        world.until_at(partition, end);
    }
    let metrics = |instance: &Instance| {
        let text = instance.get("/metrics");
        let lines = text.lines().filter(|line| line.starts_with("ninefold_kafka_lag{"));
        lines.count()
    };
    until("a fair share", || metrics(&first) == 2 && metrics(&second) == 2);
    until("a lag of nothing", || {
        let text = first.get("/metrics");
        let mut lags = text.lines().filter(|line| line.starts_with("ninefold_kafka_lag{"));
        lags.all(|line| line.ends_with(" 0.0"))
    });
    // Kafka hears how far the table is.
    until("a committed offset", || broker.committed_offset("grows", "grows", 3) == Some(100));
    first.stop();
    produced.send(&writer, "grows", 2, 100);
    world.until_at(2, 200);
    second.stop();
    world.check(&produced);
    world.verify();
}

#[test]
fn partitions_that_come_while_the_store_is_down_are_read_when_it_is_back() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) = (World::new(broker, "nostore", 1, ""), Produced::default());
    let writer = broker.producer(None);
    produced.send(&writer, "nostore", 0, 100);
    let instance = world.start("a");
    world.until_at(0, 100);
    // A file in the place of the log: it can be neither read nor written.
    let log = world.data().join("rollups/_delta_log");
    let away = world.data().join("away");
    fs::rename(&log, &away).expect("on one disk");
    fs::write(&log, "").expect("writable");
    broker.add_partitions("nostore", 3);
    for partition in 0..3 {
        produced.send(&writer, "nostore", partition, 100);
    }
    until("a note that names the store", || instance.get("/readyz").contains("rollups"));
    fs::remove_file(&log).expect("it is there");
    fs::rename(&away, &log).expect("on one disk");
    for (partition, end) in [(0, 200), (1, 100), (2, 100)] {
        world.until_at(partition, end);
    }
    instance.stop();
    world.check(&produced);
}

#[test]
fn what_an_admin_does_to_the_groups_offsets_has_no_effect() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) = (World::new(broker, "admin", 1, ""), Produced::default());
    let writer = broker.producer(None);
    produced.send(&writer, "admin", 0, 200);
    let instance = world.start("a");
    world.until_at(0, 200);
    instance.stop();
    broker.commit_offset("admin", "admin", 0, 17);
    produced.send(&writer, "admin", 0, 100);
    let instance = world.start("a");
    world.until_at(0, 300);
    instance.stop();
    until("the group is empty", || {
        // A member that has left is forgotten after a moment.
        broker.committed_offset("admin", "admin", 0).is_some()
    });
    broker.delete_group("admin");
    produced.send(&writer, "admin", 0, 100);
    let instance = world.start("a");
    world.until_at(0, 400);
    until("a committed offset", || broker.committed_offset("admin", "admin", 0) == Some(400));
    instance.stop();
    world.check(&produced);

    // The same group with a new table would count everything twice for whoever adds them up.
    let other = World::of(broker, "admin", "");
    let mut instance = other.start("a");
    assert_eq!(instance.wait(), Some(1));
    let said = instance.said();
    assert!(said.contains("no position for group admin"), "{said}");
    assert_eq!(other.offset(0), 0);
}

#[test]
fn a_topic_that_was_created_again_stops_and_others_go_on() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    broker.create_topic("beside", 1, &[]);
    let mut world = World::new(broker, "again", 1, "");
    let address = broker.address();
    let topics = ["again", "beside"];
    world.config = write_config(world.folder.path(), &address, &topics, "group = \"again\"");
    let (writer, mut produced) = (broker.producer(None), Produced::default());
    produced.send(&writer, "again", 0, 100);
    let instance = world.start("a");
    world.until_at(0, 100);
    instance.stop();
    broker.delete_topic("again");
    broker.create_topic("again", 1, &[]);
    let writer = broker.producer(None);
    // A log that is longer than before, with other records.
    for n in 0..150 {
        let (_, time_ms) = line(n);
        writer.send("again", 0, "k", format!("{{\"n\":{n}}}").as_bytes(), time_ms);
    }
    writer.flush();
    let mut instance = world.start("a");
    instance.until_said("again/0 is stopped: the log changed at offset 99");
    produced.send(&writer, "beside", 0, 100);
    let beside = World { topic: "beside", ..world };
    beside.until_at(0, 100);
    until("a note", || instance.get("/healthz").contains("topic recreated or truncated"));
    let again = World { topic: "again", ..beside };
    assert_eq!(again.offset(0), 100, "nothing of the other log is counted");
    instance.stop();
    again.check(&produced);
}

#[test]
fn a_topic_that_is_created_again_under_a_running_instance_stops() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) = (World::new(broker, "swap", 1, ""), Produced::default());
    produced.send(&broker.producer(None), "swap", 0, 100);
    let mut instance = world.start("a");
    world.until_at(0, 100);
    broker.delete_topic("swap");
    broker.create_topic("swap", 1, &[]);
    let writer = broker.producer(None);
    for n in 0..150 {
        let (_, time_ms) = line(n);
        writer.send("swap", 0, "k", format!("{{\"n\":{n}}}").as_bytes(), time_ms);
    }
    writer.flush();
    instance.until_said("swap/0 is stopped: the log");
    assert_eq!(world.offset(0), 100);
    instance.stop();
    world.check(&produced);
}

#[test]
fn records_that_expired_unread_are_a_gap_that_somebody_accepts() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) = (World::new(broker, "expires", 2, ""), Produced::default());
    let writer = broker.producer(None);
    produced.send(&writer, "expires", 0, 100);
    produced.send(&writer, "expires", 1, 10);
    let instance = world.start("a");
    world.until_at(0, 100);
    world.until_at(1, 10);
    instance.stop();
    send(&writer, "expires", 0, 400);
    produced.send(&writer, "expires", 0, 50);
    broker.delete_records("expires", 0, 500);
    let mut instance = world.start("a");
    instance.until_said(
        "expires/0 is stopped: wanted offset 100, broker starts at 500: 400 records expired unread",
    );
    // The other partition goes on.
    produced.send(&writer, "expires", 1, 10);
    world.until_at(1, 20);
    let stopped = "ninefold_kafka_stopped{topic=\"expires\",partition=\"0\"} 1";
    until("a metric", || instance.get("/metrics").contains(stopped));
    world.skip_to(0, 500);
    world.until_at(0, 550);
    instance.stop();
    world.check(&produced);
}

#[test]
fn aborted_transactions_are_not_counted_and_their_holes_are() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    for (topic, holes) in [("verified", "verify"), ("accepted", "accept")] {
        let world = World::new(broker, topic, 1, &format!("holes = \"{holes}\""));
        let mut produced = Produced::default();
        let writer = broker.producer(Some(topic));
        for round in 0..6 {
            writer.begin();
            send(&writer, topic, 0, 30);
            if round % 2 == 0 {
                writer.commit();
                produced.sum(30);
            } else {
                writer.abort();
            }
        }
        writer.begin();
        produced.send(&writer, topic, 0, 30);
        writer.commit();
        let instance = world.start("a");
        // Seven transactions with a marker each, the last of which nothing has followed yet.
        world.until_at(0, 7 * 31 - 1);
        instance.stop();
        world.check(&produced);
        world.verify();
        assert_eq!(world.sum(|row| row.holes), 3 * 31 + 3, "three aborted, three more markers");
        assert_eq!(world.sum(|row| row.read), 120);
    }
}

#[test]
fn holes_stop_a_partition_that_may_have_none() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let world = World::new(broker, "refused", 1, "holes = \"refuse\"");
    let writer = broker.producer(Some("refused"));
    for _ in 0..2 {
        writer.begin();
        send(&writer, "refused", 0, 5);
        writer.commit();
    }
    let mut instance = world.start("a");
    instance.until_said("refused/0 is stopped: offsets 5 to 5 are missing");
    world.until_at(0, 5);
    instance.stop();
}

#[test]
fn a_compacted_topic_is_counted_from_what_is_left_of_it() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "500"),
    ];
    broker.create_topic("compacted", 1, &settings);
    let (world, writer) = (World::of(broker, "compacted", ""), broker.producer(None));
    let mut sent = 0;
    // Ten keys over and over, until the cleaner has made holes that a reader meets.
    until("a hole", || {
        for n in 0..200 {
            let (line, time_ms) = line(n);
            writer.send("compacted", 0, &(n % 10).to_string(), line.as_bytes(), time_ms);
            sent += 1;
        }
        writer.flush();
        first_hole(broker, "compacted").is_some()
    });
    let instance = world.start("a");
    world.until_at(0, sent);
    instance.stop();
    let (read, holes) = (world.sum(|row| row.read), world.sum(|row| row.holes));
    assert!(holes > 0 && read > 0, "{read} read, {holes} holes");
    assert_eq!(read + holes, sent);
}

/// The first offset of a partition that no record has.
fn first_hole(broker: &Broker, topic: &str) -> Option<i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::{Message, Offset, TopicPartitionList};
    let mut config = broker.client();
    config.set("group.id", "holes").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("it can be assigned");
    let mut next = 0;
    loop {
        match consumer.poll(std::time::Duration::from_secs(5)) {
            Some(Ok(message)) if message.offset() == next => next += 1,
            Some(Ok(_)) => return Some(next),
            Some(Err(_)) | None => return None,
        }
    }
}

#[test]
fn poison_is_a_dead_letter_and_a_flood_of_it_pauses_the_partition() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let (world, mut produced) = (World::new(broker, "poison", 1, ""), Produced::default());
    let writer = broker.producer(None);
    let poison: [&[u8]; 5] = [b"no json", b"{\"ts\":\"x\"}", b"\xff\xfe", b"\0", b""];
    for bytes in poison {
        writer.send("poison", 0, "k", bytes, START_MS);
    }
    // Longer than a line may be, and as long as a broker takes.
    writer.send("poison", 0, "k", &vec![b'x'; 900_000], START_MS);
    produced.send(&writer, "poison", 0, 500);
    let instance = world.start("a");
    world.until_at(0, 506);
    assert_eq!((world.sum(|row| row.dead), world.sum(|row| row.counted)), (6, 500));
    // A release writes events in a new form.
    let line = format!("{{\"at\":{START_MS},\"who\":\"new\",\"status\":200}}");
    let mut flooded = 0;
    until("the flood is told", || {
        for _ in 0..500 {
            writer.send("poison", 0, "k", line.as_bytes(), START_MS);
            flooded += 1;
        }
        writer.flush();
        instance.said().contains("poison/0 is stopped")
    });
    assert!(instance.said().contains("schema change?"), "{}", instance.said());
    until("a note", || instance.get("/healthz").contains("schema change?"));
    for _ in 0..700 {
        writer.send("poison", 0, "k", line.as_bytes(), START_MS);
    }
    writer.flush();

    // Somebody maps the new form, and the instance goes on with it from where it stands.
    let text = fs::read_to_string(&world.config).expect("it was written");
    let fields = "[decode.fields]\nts = \"at\"\ncustomer = \"who\"\n";
    fs::write(&world.config, text.clone() + fields).expect("it can be written");
    signal(instance.id(), "HUP");
    let end = 506 + flooded + 700;
    world.until_at(0, end);
    let (dead, counted) = (world.sum(|row| row.dead), world.sum(|row| row.counted));
    assert_eq!(dead + counted, end);
    assert!(dead <= 6 + flooded && counted >= 500 + 700, "{dead} of {flooded} are dead");
    let minute = (START_MS / 60_000) as u32;
    produced.sums.insert(("new".to_owned(), minute), (counted - 500, 0));

    // Another flood, of which somebody wants the rest as dead letters.
    for _ in 0..2_000 {
        writer.send("poison", 0, "k", b"{\"v\":3}", START_MS);
    }
    writer.flush();
    until("it stops once more", || {
        instance.said().matches("poison/0 is stopped").count() == 2 || world.offset(0) > end + 1_999
    });
    let text = text.replace("group =", "flood = \"count\"\ngroup =") + fields;
    fs::write(&world.config, text).expect("it can be written");
    signal(instance.id(), "HUP");
    for _ in 0..2_000 {
        writer.send("poison", 0, "k", b"{\"v\":3}", START_MS);
    }
    writer.flush();
    world.until_at(0, end + 4_000);
    assert_eq!(world.sum(|row| row.dead), dead + 4_000);
    instance.stop();
    world.check(&produced);
}

#[test]
fn ids_are_known_over_a_restart_of_the_instance() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let world = World::new(broker, "twice", 1, "");
    let text = fs::read_to_string(&world.config).expect("it was written");
    fs::write(&world.config, text + "[dedupe]\nwindow_records = 100\n").expect("it can be");
    let writer = broker.producer(None);
    let send = |id: u64| {
        let (line, time_ms) = line(id);
        let line = format!("{},\"id\":\"id-{id}\"}}", line.trim_end_matches('}'));
        writer.send("twice", 0, "k", line.as_bytes(), time_ms);
    };
    (0..60).for_each(&send);
    writer.flush();
    let instance = world.start("a");
    world.until_at(0, 60);
    instance.stop();
    (0..60).for_each(&send);
    writer.flush();
    let instance = world.start("a");
    world.until_at(0, 120);
    instance.stop();
    assert_eq!((world.sum(|row| row.counted), world.sum(|row| row.duplicate)), (60, 60));
    world.verify();
}

#[test]
fn two_instances_with_one_static_identity_end_with_an_error_that_names_it() {
    let Some(shared) = shared() else { return };
    let broker = &shared.0;
    let world = World::new(broker, "static", 1, "");
    let text = fs::read_to_string(&world.config).expect("it was written");
    fs::write(&world.config, text + "\"group.instance.id\" = \"one\"\n").expect("it can be");
    send(&broker.producer(None), "static", 0, 10);
    let mut first = world.start("a");
    world.until_at(0, 10);
    let mut second = world.start("b");
    let ended = |instance: &mut Instance| instance.has_ended();
    until("one of them ends", || ended(&mut first) || ended(&mut second));
    let said = first.said() + &second.said();
    assert!(said.contains("another instance uses the same group.instance.id"), "{said}");
}

#[test]
fn another_cluster_a_corrupt_batch_and_a_broker_that_is_away() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mut broker) = Broker::start(folder.path()) else { return };
    let (world, mut produced) = (World::new(&broker, "away", 2, ""), Produced::default());
    let writer = broker.producer(None);
    produced.send(&writer, "away", 0, 100);
    let instance = world.start("a");
    world.until_at(0, 100);
    broker.stop();
    broker.run();
    produced.send(&writer, "away", 0, 100);
    world.until_at(0, 200);
    instance.stop();

    // Batches of 10, two that are damaged, and one behind them: a byte is flipped on disk. On the
    // first one the client library dies, on the second one it may not.
    for _ in 0..5 {
        produced.send(&writer, "away", 0, 10);
    }
    for (customer, count) in [("damaged", 1), ("damaged", 3), ("whole", 1)] {
        let line = format!("{{\"ts\":{START_MS},\"customer\":\"{customer}\",\"status\":200}}");
        for _ in 0..count {
            writer.send("away", 0, "k", line.as_bytes(), START_MS);
        }
        writer.flush();
    }
    broker.stop();
    let segment = broker.log_folder("away", 0).join("00000000000000000000.log");
    let mut bytes = fs::read(&segment).expect("a segment");
    for _ in 0..2 {
        let at = bytes.windows(7).position(|bytes| bytes == b"damaged").expect("it is there");
        bytes[at] = b'D';
    }
    fs::write(&segment, bytes).expect("it can be written");
    broker.run();
    // The client library sees the wrong checksum, and mostly ends the process by an assertion of
    // its own. Whoever starts it again does so once: what stands before the batch is counted, the
    // partition stops there by name, the other one goes on.
    let mut instance = world.start("a");
    let (mut ends, stop) = (0, "away/0 is stopped: the batch of records at offset 250 is corrupt");
    until("the partition stops", || {
        if instance.has_ended() {
            ends += 1;
            instance = world.start("a");
        }
        instance.said().contains(stop)
    });
    println!("ended {ends} times by the client library");
    assert!(ends <= 1, "ended {ends} times: {}", instance.said());
    assert!(instance.said().contains("source skip --to 254"), "{}", instance.said());
    world.until_at(0, 250);
    produced.send(&writer, "away", 1, 10);
    world.until_at(1, 10);
    // The next one is told by a note, and does not read it.
    instance.kill();
    instance = world.start("b");
    instance.until_said(stop);
    world.skip_to(0, 254);
    world.until_at(0, 255);
    let minute = (START_MS / 60_000) as u32;
    produced.sums.insert(("whole".to_owned(), minute), (1, 0));
    instance.stop();
    world.check(&produced);

    // The same topic and group on another cluster.
    shared.0.create_topic("away", 2, &[]);
    send(&shared.0.producer(None), "away", 0, 300);
    let more = "group = \"away\"";
    let address = shared.0.address();
    let config = write_config(world.folder.path(), &address, &["away"], more);
    let other = World { config, ..world };
    let mut instance = other.start("c");
    instance.until_said("away/0 is stopped: the table was counted from cluster");
    assert_eq!(other.offset(0), 255);
    instance.stop();
    other.check(&produced);
}
