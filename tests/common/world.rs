//! A topic of a real broker with a table, a group and a configuration of its own.
//!
//! The broker is shared by the tests of a file that ask for [`shared`]; the last one stops it.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use ninefold_engine::table::{Filter, Table};
use tempfile::TempDir;

use crate::broker::{Broker, START_MS, Writer};
use crate::chaos::{Instance, Sums, assert_same, sums_of, until, write_config};

/// The broker that tests share: the last one that uses it stops it.
pub fn shared() -> Option<Arc<(Broker, TempDir)>> {
    static SHARED: Mutex<Weak<(Broker, TempDir)>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().expect("nobody has panicked with it");
    if let Some(running) = shared.upgrade() {
        return Some(running);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let started = Arc::new((Broker::start(folder.path())?, folder));
    *shared = Arc::downgrade(&started);
    Some(started)
}

/// A topic with its table, group and configuration.
pub struct World {
    pub topic: &'static str,
    pub folder: TempDir,
    pub config: PathBuf,
}

/// What was produced, and the next offset of each partition.
#[derive(Default)]
pub struct Produced {
    pub sums: Sums,
}

impl World {
    pub fn new(broker: &Broker, topic: &'static str, partitions: i32, more: &str) -> World {
        broker.create_topic(topic, partitions, &[]);
        World::of(broker, topic, more)
    }

    /// A world of a topic that is there.
    pub fn of(broker: &Broker, topic: &'static str, more: &str) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let more = format!("group = \"{topic}\"\n{more}");
        let config = write_config(folder.path(), &broker.address(), &[topic], &more);
        World { topic, folder, config }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn start(&self, name: &str) -> Instance {
        self.start_with(name, &[])
    }

    /// Starts an instance with variables in its environment.
    pub fn start_with(&self, name: &str, variables: &[(&str, &str)]) -> Instance {
        let log = self.folder.path().join(name);
        let program = Path::new(env!("CARGO_BIN_EXE_ninefold"));
        Instance::start_with(program, (&self.config, &self.data(), &log), variables)
    }

    pub fn table(&self) -> Option<Table> {
        Table::open(&self.data().join("rollups")).expect("readable")
    }

    pub fn offset(&self, partition: i32) -> u64 {
        let name = format!("kafka/{}/{partition}", self.topic);
        let table = self.table();
        table.and_then(|table| table.offset(&name).expect("readable")).unwrap_or(0)
    }

    /// Waits until the table stands at an offset.
    pub fn until_at(&self, partition: i32, offset: u64) {
        let what = format!("offset {offset} of {}/{partition}", self.topic);
        until(&what, || self.offset(partition) == offset);
    }

    /// Accepts a gap.
    pub fn skip_to(&self, partition: i32, offset: u64) {
        let partition = format!("kafka/{}/{partition}", self.topic);
        let output = Command::new(env!("CARGO_BIN_EXE_ninefold"))
            .args(["source", "skip", "--yes", "--reason", "accepted", &partition, "--to"])
            .args([&offset.to_string(), "--data"])
            .arg(self.data())
            .output()
            .expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sums of one column of the `source` rows.
    pub fn sum(&self, column: fn(&ninefold_engine::table::read::SourceRow<'_>) -> u64) -> u64 {
        let mut sum = 0;
        let table = self.table().expect("there is one");
        table.for_each_source(&Filter::default(), |row| sum += column(&row)).expect("readable");
        sum
    }

    pub fn check(&self, produced: &Produced) {
        assert_same(&sums_of(&self.data()), &produced.sums);
    }
}

impl Produced {
    /// Sends `count` events of a customer for each number, two of ten bad, and counts them.
    pub fn send(&mut self, writer: &Writer, topic: &str, partition: i32, count: u64) {
        self.sum(count);
        send(writer, topic, partition, count);
    }

    pub fn sum(&mut self, count: u64) {
        for n in 0..count {
            let (customer, minute) = (format!("c{}", n % 7), n % 5);
            let minute = (START_MS / 60_000) as u32 + minute as u32;
            let sums = self.sums.entry((customer, minute)).or_default();
            sums.0 += 1;
            sums.1 += u64::from(n % 10 < 2);
        }
    }
}

pub fn line(n: u64) -> (String, i64) {
    let (customer, time_ms) = (n % 7, START_MS + (n % 5) as i64 * 60_000);
    let status = if n % 10 < 2 { 500 } else { 200 };
    let line = format!("{{\"ts\":{time_ms},\"customer\":\"c{customer}\",\"status\":{status}}}");
    (line, time_ms)
}

pub fn send(writer: &Writer, topic: &str, partition: i32, count: u64) {
    for n in 0..count {
        let (line, time_ms) = line(n);
        writer.send(topic, partition, &n.to_string(), line.as_bytes(), time_ms);
    }
    writer.flush();
}
