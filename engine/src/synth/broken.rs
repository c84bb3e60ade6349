//! Lines that must become dead letters, one kind for each rule that a line can break.

use super::Format;
use super::line::{Lines, Pairs, Request, json_text};
use super::population::Customer;
use super::random::Random;

/// How a line of the native form is broken. Each has its name in the truth file.
const NDJSON_KINDS: [&str; 26] = [
    "truncated",
    "status as text",
    "status out of range",
    "customer missing",
    "customer null",
    "customer empty",
    "customer too long",
    "customer a number",
    "key twice",
    "invalid utf-8",
    "lone surrogate",
    "raw control character",
    "status missing",
    "time missing",
    "time impossible",
    "time before 2000",
    "time after 2100",
    "count zero",
    "count too large",
    "count a fraction",
    "outcome unknown",
    "array",
    "number",
    "garbage",
    "text after the object",
    "two objects",
];

/// How a line of an access log is broken.
const COMBINED_KINDS: [&str; 4] = ["truncated", "status missing", "time impossible", "garbage"];

/// Appends a line that says `request` in a way that must be refused, and returns the kind.
pub(crate) fn push(
    format: Format,
    lines: &Lines,
    request: &Request,
    customer: &Customer,
    random: &mut Random,
    out: &mut Vec<u8>,
) -> &'static str {
    match format {
        Format::Ndjson => {
            let kind = *random.one_of(&NDJSON_KINDS);
            out.extend_from_slice(&ndjson(kind, lines.pairs(request, customer), random));
            out.push(b'\n');
            kind
        }
        Format::Combined => {
            let kind = *random.one_of(&COMBINED_KINDS);
            let mut line = Vec::new();
            lines.push(request, &mut line);
            let line = String::from_utf8(line).expect("addresses and routes are ASCII");
            out.extend_from_slice(combined(kind, line.trim_end()).as_bytes());
            out.push(b'\n');
            kind
        }
    }
}

fn ndjson(kind: &'static str, mut pairs: Pairs, random: &mut Random) -> Vec<u8> {
    match kind {
        "truncated" => {
            let mut line = pairs.plain().into_bytes();
            line.truncate(1 + random.below(line.len() as u64 - 1) as usize);
            return line;
        }
        "invalid utf-8" => {
            pairs.set("customer", "\"a?z\"".into());
            let replace = |byte| if byte == b'?' { 0xff } else { byte };
            return pairs.plain().into_bytes().into_iter().map(replace).collect();
        }
        "array" => return b"[\"ts\",1764547200000]".to_vec(),
        "number" => return b"42".to_vec(),
        "garbage" => return b"connection reset by peer".to_vec(),
        "text after the object" => return (pairs.plain() + " ok").into_bytes(),
        "two objects" => return (pairs.plain() + &pairs.plain()).into_bytes(),
        _ => {}
    }
    spoil(kind, &mut pairs, random);
    pairs.plain().into_bytes()
}

/// Breaks one rule about one key.
fn spoil(kind: &'static str, pairs: &mut Pairs, random: &mut Random) {
    match kind {
        "status as text" => pairs.set("status", "\"200\"".into()),
        "status out of range" => {
            pairs.set("status", (*random.one_of(&["1", "99", "600", "-200", "65736"])).into());
        }
        "customer missing" => pairs.remove("customer"),
        "customer null" => pairs.set("customer", "null".into()),
        "customer empty" => pairs.set("customer", "\"\"".into()),
        "customer too long" => pairs.set("customer", json_text(&"é".repeat(129))),
        "customer a number" => pairs.set("customer", "4711".into()),
        "key twice" => {
            let twice = *random.one_of(&["ts", "customer", "status"]);
            let value = if twice == "customer" { "\"x\"" } else { "200" };
            pairs.push(twice, value.into());
        }
        "lone surrogate" => pairs.set("customer", "\"a\\ud800z\"".into()),
        "raw control character" => pairs.set("customer", "\"a\tz\"".into()),
        "status missing" => pairs.remove("status"),
        "time missing" => pairs.remove("ts"),
        "time impossible" => pairs.set("ts", "\"2025-02-29T12:00:00Z\"".into()),
        "time before 2000" => pairs.set("ts", "946684799999".into()),
        "time after 2100" => pairs.set("ts", "4133980800000".into()),
        _ => spoil_rest(kind, pairs),
    }
}

fn spoil_rest(kind: &'static str, pairs: &mut Pairs) {
    let (key, value) = match kind {
        "count zero" => ("count", "0"),
        "count too large" => ("count", "1000001"),
        "count a fraction" => ("count", "1.5"),
        "outcome unknown" => ("outcome", "\"fine\""),
        _ => unreachable!("{kind} is among the kinds above"),
    };
    pairs.remove(key);
    pairs.push(key, value.into());
}

fn combined(kind: &'static str, line: &str) -> String {
    let status_at = line.find("\" ").expect("a request is quoted") + 2;
    match kind {
        "truncated" => line[..status_at].to_owned(),
        "status missing" => format!("{}-{}", &line[..status_at], &line[status_at + 3..]),
        "time impossible" => line.replace(" +0000]", "]").replace('[', "[99/Nil/"),
        "garbage" => "connection reset by peer".to_owned(),
        _ => unreachable!("{kind} is among the kinds above"),
    }
}
