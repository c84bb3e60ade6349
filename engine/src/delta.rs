//! The entries of a Delta log as text: parsed, and nothing opened.
//!
//! An entry is one JSON object a line, each an *action*: a file added or removed, an offset that
//! moved, the properties of the table, or what made the entry. Others may have written it, so
//! everything in it is input: a path must stay within the table, a number must be one. Actions
//! that are not listed here are passed over, as the protocol asks for.
//!
//! Format: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::time::{Day, MINUTE_MS, Minute, checked_days, digits, parse_rfc3339};

/// What one entry says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Files that it adds.
    pub adds: Vec<Add>,
    /// Files that it removes; they stay on disk until they are vacuumed.
    pub removes: Vec<Remove>,
    /// Each application id that moved, and where to. A partition's is never below zero.
    pub offsets: Vec<(String, i64)>,
    /// The table's properties and schema, where the entry sets them.
    pub metadata: Option<Metadata>,
    /// Reader and writer version, where the entry sets them.
    pub protocol: Option<(u64, u64)>,
    /// What made the entry.
    pub info: Info,
}

/// A file that an entry adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// Relative to the table, decoded, without `..`.
    pub path: String,
    /// Its value of the partition column `grain`; empty where it has none.
    pub grain: String,
    /// Its value of the partition column `day`.
    pub day: Option<Day>,
    /// Bytes.
    pub size: u64,
    /// Hex of the hash of the whole file, where the entry says so.
    pub sha256: Option<String>,
    /// Whether its rows are new: compaction writes the rows of other files once more.
    pub data_change: bool,
    /// Whether rows of it are deleted by a vector beside it, which this program does not read.
    pub deletion_vector: bool,
    /// What it holds.
    pub stats: Stats,
}

/// What an entry says of the rows of a file. All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// How many.
    pub rows: Option<u64>,
    /// The least and the greatest minute.
    pub minutes: Option<(Minute, Minute)>,
    /// The least and the greatest customer. Other writers cut long ones, so these bound the
    /// values and need not be any.
    pub customers: Option<(String, String)>,
}

/// A file that an entry removes.
#[derive(Clone, Debug, PartialEq)]
pub struct Remove {
    /// Relative to the table, decoded, without `..`.
    pub path: String,
    /// When, in epoch milliseconds by the writer's clock.
    pub deleted_ms: Option<i64>,
    /// Whether its rows are gone with it: compaction keeps them in another file.
    pub data_change: bool,
}

/// The table's identity and properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The identity: a UUID.
    pub id: String,
    /// The properties by name.
    pub properties: BTreeMap<String, String>,
}

/// What made an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// When, in epoch milliseconds by the writer's clock.
    pub timestamp_ms: Option<i64>,
    /// The operation, such as `STREAMING UPDATE` or `OPTIMIZE`; empty where it does not say.
    pub operation: String,
    /// The program, such as `ninefold/0.1.0`; empty where it does not say.
    pub engine: String,
    /// The process that made it; empty where it does not say.
    pub instance: String,
    /// What tells it from every other entry; empty where it does not say.
    pub commit: String,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line is no JSON, as where the entry is torn.
    #[error("line {line} is no JSON: {found}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        found: String,
    },
    /// An action lacks what it must have.
    #[error("line {line} has no {field}")]
    Field {
        /// Counted from 1.
        line: usize,
        /// The field, such as `add.path`.
        field: &'static str,
    },
    /// A path leads out of the table.
    #[error("line {line} names the file {found:?}; it would be right relative and without \"..\"")]
    Path {
        /// Counted from 1.
        line: usize,
        /// The path in the entry.
        found: String,
    },
}

/// Parses an entry. Blank lines are none of it; no byte at all is an entry without actions.
///
/// # Errors
/// A line is no JSON, or an action lacks what it must have.
pub fn parse(bytes: &[u8]) -> Result<Entry, Fault> {
    let mut entry = Entry::default();
    for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line = index + 1;
        let action = serde_json::from_slice(text)
            .map_err(|error| Fault::Json { line, found: error.to_string() })?;
        entry.take(&action, line)?;
    }
    Ok(entry)
}

impl Entry {
    fn take(&mut self, action: &Value, line: usize) -> Result<(), Fault> {
        let found = |name: &str| action.get(name).filter(|found| found.is_object());
        if let Some(add) = found("add") {
            self.adds.push(Add::of(add, line)?);
        }
        if let Some(remove) = found("remove") {
            self.removes.push(Remove {
                path: path_of(remove, line, "remove.path")?,
                deleted_ms: remove["deletionTimestamp"].as_i64(),
                data_change: remove["dataChange"].as_bool().unwrap_or(true),
            });
        }
        if let Some(txn) = found("txn") {
            let id = txn["appId"].as_str().ok_or(Fault::Field { line, field: "txn.appId" })?;
            let version = txn["version"].as_i64();
            let version = version.ok_or(Fault::Field { line, field: "txn.version" })?;
            self.offsets.push((id.to_owned(), version));
        }
        if let Some(metadata) = found("metaData") {
            self.metadata = Some(Metadata {
                id: text(&metadata["id"]),
                properties: texts(&metadata["configuration"]),
            });
        }
        if let Some(protocol) = found("protocol") {
            let version = |name: &str| protocol[name].as_u64().unwrap_or(0);
            self.protocol = Some((version("minReaderVersion"), version("minWriterVersion")));
        }
        if let Some(info) = found("commitInfo") {
            self.info = Info {
                timestamp_ms: info["timestamp"].as_i64(),
                operation: text(&info["operation"]),
                engine: text(&info["engineInfo"]),
                instance: text(&info["operationParameters"]["instance"]),
                commit: text(&info["operationParameters"]["commit"]),
            };
        }
        Ok(())
    }
}

impl Add {
    fn of(add: &Value, line: usize) -> Result<Add, Fault> {
        let partition = &add["partitionValues"];
        Ok(Add {
            path: path_of(add, line, "add.path")?,
            grain: text(&partition["grain"]),
            day: partition["day"].as_str().and_then(parse_day),
            size: add["size"].as_u64().ok_or(Fault::Field { line, field: "add.size" })?,
            sha256: add["tags"]["sha256"].as_str().map(str::to_owned),
            // The protocol demands it; a writer that leaves it out has changed the data.
            data_change: add["dataChange"].as_bool().unwrap_or(true),
            deletion_vector: !add["deletionVector"].is_null(),
            stats: Stats::parse(add["stats"].as_str().unwrap_or_default()),
        })
    }
}

impl Stats {
    /// Reads the text that an `add` has in `stats`. What cannot be read is not known.
    pub fn parse(stats: &str) -> Stats {
        let stats: Value = serde_json::from_str(stats).unwrap_or_default();
        Stats {
            rows: stats["numRecords"].as_u64(),
            minutes: bounds(&stats, "minute", parse_minute),
            customers: bounds(&stats, "customer", |text| Some(text.to_owned())),
        }
    }
}

fn path_of(action: &Value, line: usize, field: &'static str) -> Result<String, Fault> {
    let path = action["path"].as_str().ok_or(Fault::Field { line, field })?;
    relative(path).ok_or_else(|| Fault::Path { line, found: path.to_owned() })
}

/// The path of a data file decoded, if it stays within the table: relative, without a scheme,
/// without empty, `.` and `..` segments, also encoded ones.
///
/// ```
/// use ninefold_engine::delta::relative;
/// assert_eq!(relative("grain=series/a%20b.parquet").as_deref(), Some("grain=series/a b.parquet"));
/// assert_eq!(relative("a/%2e%2e/b.parquet"), None);
/// ```
pub fn relative(path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains(':') || path.contains('\\') {
        return None;
    }
    let decoded = percent_decoded(path)?;
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..") && !segment.chars().any(|c| c.is_ascii_control())
    };
    decoded.split('/').all(is_plain).then_some(decoded)
}

/// `%20` is a space; a `%` without two hex digits behind it stands for itself, as in URLs.
fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

/// Reads the value of the partition column `day`, such as `2026-11-01`; `None` for anything else
/// and for days before 1970.
pub fn parse_day(text: &str) -> Option<Day> {
    let text = text.as_bytes();
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let days = checked_days(digits(&text[0..4])?, digits(&text[5..7])?, digits(&text[8..10])?)?;
    u32::try_from(days).ok().map(Day)
}

fn parse_minute(text: &str) -> Option<Minute> {
    let ts_ms = parse_rfc3339(text.as_bytes())?;
    u32::try_from(ts_ms.div_euclid(MINUTE_MS)).ok().map(Minute)
}

fn bounds<T>(stats: &Value, column: &str, read: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
    let least = stats["minValues"][column].as_str()?;
    let greatest = stats["maxValues"][column].as_str()?;
    Some((read(least)?, read(greatest)?))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_must_stay_within_the_table() {
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(relative(path).as_deref(), expect, "{path}");
        };
        check(
            "grain=series/day=2026-11-01/a-0.parquet",
            Some("grain=series/day=2026-11-01/a-0.parquet"),
        );
        check("a%20b.parquet", Some("a b.parquet"));
        check("100%.parquet", Some("100%.parquet"));
        check("", None);
        check("a//b.parquet", None);
        check("../a.parquet", None);
        check("a/../../b.parquet", None);
        check("a/%2e%2e/b.parquet", None);
        check("a%2f..%2fb.parquet", None);
        check("a%00b.parquet", None);
        check("a%ffb.parquet", None);
        check("/etc/passwd", None);
        check("file:///etc/passwd", None);
        check("s3://bucket/a.parquet", None);
    }

    #[test]
    fn an_entry_says_what_came_and_went() {
        let text = br#"{"commitInfo":{"timestamp":7,"operation":"OPTIMIZE","engineInfo":"x/1"}}
{"add":{"path":"a%20b","partitionValues":{"grain":"series","day":"2026-11-01"},"size":9,"dataChange":false,"stats":"{\"numRecords\":3}","tags":{"sha256":"00"}}}
{"remove":{"path":"c","deletionTimestamp":8,"dataChange":false}}
{"txn":{"appId":"file/x","version":12}}
{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"i","configuration":{"p":"q"}}}
{"sidecar":{"path":"/ignored"}}
"#;
        let entry = parse(text).unwrap();
        let add = &entry.adds[0];
        assert_eq!((add.path.as_str(), add.size, add.data_change), ("a b", 9, false));
        assert_eq!((add.stats.rows, add.sha256.as_deref()), (Some(3), Some("00")));
        assert_eq!(add.day.unwrap().to_string(), "2026-11-01");
        let removed = Remove { path: "c".into(), deleted_ms: Some(8), data_change: false };
        assert_eq!(entry.removes, [removed]);
        assert_eq!(entry.offsets, [("file/x".to_owned(), 12)]);
        assert_eq!(entry.protocol, Some((1, 2)));
        assert_eq!(entry.metadata.unwrap().properties["p"], "q");
        assert_eq!((entry.info.operation.as_str(), entry.info.timestamp_ms), ("OPTIMIZE", Some(7)));
    }

    #[test]
    fn a_torn_entry_is_told_by_its_line() {
        let check = |text: &str, expect: &str| {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), expect);
        };
        check(
            "{\"txn\":{\"appId\":\"p\",\"version\":1}}\n{\"add\":{\"pa",
            "line 2 is no JSON: EOF while parsing a string at line 1 column 11",
        );
        check("{\"add\":{}}", "line 1 has no add.path");
        check("{\"add\":{\"path\":\"a\",\"size\":-1}}", "line 1 has no add.size");
        check("{\"txn\":{\"appId\":\"p\",\"version\":1.5}}", "line 1 has no txn.version");
        check(
            "{\"remove\":{\"path\":\"../a\"}}",
            "line 1 names the file \"../a\"; it would be right relative and without \"..\"",
        );
        assert_eq!(parse(b"\n \n"), Ok(Entry::default()));
    }
}
