//! The real binary, as whole-program tests drive it: commands that end, servers, Python readers,
//! and a table's sums by customer, service and minute read through the engine.
//!
//! What a test needs and the machine may lack (the data of others, a Python) is an `Option`:
//! where it is absent, the caller prints nothing more, because `skipped: why` was printed here.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ninefold_engine::model::Measures;
use ninefold_engine::table::{Filter, Table};
use serde_json::Value;

use crate::recount::{Counts, Key};

/// The program, ready for its arguments.
pub fn ninefold() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninefold"));
    command.stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    ninefold().args(arguments).output().expect("the program can be started")
}

/// Runs the program, which has to succeed, and reads what it prints as JSON.
pub fn json<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Value {
    let arguments: Vec<A> = arguments.into_iter().collect();
    let output = run(&arguments);
    let shown: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    assert!(output.status.success(), "{shown:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{shown:?}: {error}"))
}

/// `ninefold replay FILE --data DIR --json`, and what else is given.
pub fn replay(file: &Path, data: &Path, more: &[&str]) -> Value {
    let fixed = [OsStr::new("replay"), file.as_ref(), "--data".as_ref(), data.as_ref()];
    json(fixed.into_iter().chain(["--json".as_ref()]).chain(more.iter().map(OsStr::new)))
}

/// The number under a key; the test fails where there is none.
pub fn number(body: &Value, key: &str) -> u64 {
    body[key].as_u64().unwrap_or_else(|| panic!("{key} is no number in {body}"))
}

/// Several numbers at once.
pub fn numbers<const N: usize>(body: &Value, keys: [&str; N]) -> [u64; N] {
    keys.map(|key| number(body, key))
}

/// A server of the program, killed when it is dropped.
pub struct Server {
    pub child: Child,
    address: String,
}

impl Server {
    /// Starts a command that prints `ninefold: http://ADDRESS/` once it answers.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Server {
        let mut command = ninefold();
        command.args(arguments).args(["--listen", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it can be started");
        let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            let read = errors.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended without an address: {said}");
            said += &line;
            if let Some(address) = line.trim().strip_prefix("ninefold: http://") {
                break address.trim_end_matches('/').to_owned();
            }
        };
        // What it says later must not block it.
        std::thread::spawn(move || errors.read_to_end(&mut Vec::new()));
        Server { child, address }
    }

    /// The status and body of a path that is encoded already.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("http://{}{path}", self.address);
        let mut response = agent.get(&url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
        let body = response.body_mut().read_to_string().expect("text");
        let body = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{url}: {body}"));
        (response.status().as_u16(), body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A name as one segment of a path: every byte that is no letter or digit is escaped.
pub fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

/// RFC 3339 of a minute's start.
pub fn time(minute: u32) -> String {
    ninefold_engine::time::Minute(minute).to_string()
}

/// The table of a data folder.
pub fn table(data: &Path) -> Table {
    Table::open(&data.join("rollups")).expect("readable").expect("there is a table")
}

/// The audit has nothing to say of the table of a data folder.
pub fn assert_clean(data: &Path, what: &str) {
    // Half of all time: every file that was removed may be gone.
    let audit = ninefold_engine::audit::audit(&data.join("rollups"), i64::MAX / 2);
    let audit = audit.expect("the folder can be read").expect("there is a table");
    assert!(audit.clean, "{what}: {:#?}", audit.findings);
}

/// What the table holds by customer, service and minute, read through the engine.
pub fn minutes(data: &Path) -> BTreeMap<Key, Counts> {
    let mut minutes: BTreeMap<Key, Counts> = BTreeMap::new();
    let add = |row: ninefold_engine::table::read::SeriesRow<'_>| {
        let key = (row.customer.to_owned(), row.service.to_owned(), row.minute.0);
        minutes.entry(key).or_default().add(&counts(&row.measures));
    };
    table(data).for_each_series(&Filter::default(), add).expect("readable");
    minutes
}

fn counts(measures: &Measures) -> Counts {
    let Measures { valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us } = *measures;
    Counts { valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us }
}

/// Fails with the first minute that differs; the whole maps would be millions of lines.
pub fn assert_same(found: &BTreeMap<Key, Counts>, expect: &BTreeMap<Key, Counts>, what: &str) {
    for (key, counts) in expect {
        assert_eq!(found.get(key), Some(counts), "{what}: {key:?}");
    }
    for key in found.keys() {
        assert!(expect.contains_key(key), "{what}: {key:?} is in no line");
    }
}

/// The folder with the data of others, where there is one.
pub fn data_of_others() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("NINEFOLD_DATA").map_or(default, PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: no data in {}", folder.display());
        return None;
    }
    Some(folder)
}

/// A Python that has the readers of `tests/requirements.txt`, where one is named.
pub fn python() -> Option<Command> {
    let Some(python) = std::env::var_os("NINEFOLD_PYTHON") else {
        println!(
            "skipped: NINEFOLD_PYTHON names no Python with deltalake, polars and hdrhistogram"
        );
        return None;
    };
    Some(Command::new(python))
}

/// Runs a script of `tests/interop` and reads what it prints as JSON.
pub fn script<A: AsRef<OsStr>>(
    mut python: Command,
    name: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name);
    let output = python.arg(path).args(arguments).output().expect("Python can be started");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The sums of `read_table.py --minutes` of one reader, as [`minutes`] gives them.
pub fn minutes_of_reader(reader: &Value) -> BTreeMap<Key, Counts> {
    let rows = reader["minutes"].as_array().unwrap_or_else(|| panic!("no minutes: {reader}"));
    let row = |row: &Value| {
        let text = |at: usize| row[at].as_str().expect("text").to_owned();
        let int = |at: usize| row[at].as_u64().expect("a count");
        let ms = ninefold_engine::time::parse_rfc3339(text(2).as_bytes()).expect("a time");
        let minute = u32::try_from(ms / 60_000).expect("after 1970");
        let counts = Counts {
            valid: int(3),
            bad: int(4),
            excluded: int(5),
            timed: int(6),
            slow: int(7),
            latency_sum_us: int(8),
            latency_max_us: int(9),
        };
        ((text(0), text(1), minute), counts)
    };
    rows.iter().map(row).collect()
}
