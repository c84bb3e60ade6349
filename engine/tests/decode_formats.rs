//! Every log format from outside: our own samples against stored events, the logs of others
//! against facts that were computed apart from this code, and what must not crash.
//!
//! Our samples are `fixtures/formats/FORMAT.log`, their events `fixtures/expected/FORMAT.json`;
//! `UPDATE_GOLDEN=1` writes those. The logs of others are read from `NINEFOLD_DATA`, by default
//! `../shared/data` beside the workspace; without that folder their tests pass and say so.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ninefold_engine::decode::{Decoder, Format, Line, Options, UnknownFormat, compress, detect};
use ninefold_engine::model::{Event, Latency};
use ninefold_engine::time::rfc3339;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The plain text of a file of the data, or `None` where there is no data.
fn data(name: &str) -> Option<Vec<u8>> {
    let default = workspace().join("../shared/data");
    let folder = std::env::var_os("NINEFOLD_DATA").map_or(default, PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: no data in {}", folder.display());
        return None;
    }
    let packed = fs::read(folder.join(name)).expect("the data holds every file that is named");
    let mut text = Vec::new();
    compress::plain(&packed[..]).unwrap().read_to_end(&mut text).unwrap();
    Some(text)
}

/// What the tests need of an event, owned.
#[derive(Debug, PartialEq)]
struct Seen {
    ts_ms: i64,
    customer: String,
    route: String,
    status: u16,
    latency: Latency,
}

/// What became of the lines of a text.
#[derive(Debug, Default)]
struct Outcome {
    events: Vec<Seen>,
    /// The number of each dead line, from 1, with its reason.
    dead: Vec<(usize, String)>,
    /// Lines that are neither blank nor headers.
    read: usize,
}

fn decode(text: &[u8], format: Format, options: &Options) -> Outcome {
    let mut decoder = Decoder::new(options, format);
    let mut outcome = Outcome::default();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let is_blank = line.trim_ascii().is_empty();
        outcome.read += usize::from(!is_blank && !line.starts_with(b"#"));
        match decoder.decode(line) {
            Line::Event(event) => outcome.events.push(seen(&event)),
            Line::Dead(reason) => outcome.dead.push((index + 1, reason)),
            Line::Skip => {}
        }
    }
    assert_eq!(outcome.read, outcome.events.len() + outcome.dead.len(), "read = events + dead");
    outcome
}

fn seen(event: &Event<'_>) -> Seen {
    Seen {
        ts_ms: event.ts_ms,
        customer: event.customer.to_owned(),
        route: event.route.to_owned(),
        status: event.status,
        latency: event.latency,
    }
}

/// Decodes a file of the data in the format that is found.
fn found(name: &str, expected: Format) -> Option<Outcome> {
    let text = data(name)?;
    assert_eq!(detect(&text, &Options::default()), Ok(expected), "{name}");
    Some(decode(&text, expected, &Options::default()))
}

impl Outcome {
    fn statuses(&self) -> Vec<u16> {
        self.events.iter().map(|event| event.status).collect()
    }

    /// Latencies in microseconds of the events that have one.
    fn latencies_us(&self) -> Vec<u32> {
        let us = |event: &Seen| match event.latency {
            Latency::Us(us) => Some(us),
            Latency::Absent | Latency::Invalid => None,
        };
        self.events.iter().filter_map(us).collect()
    }

    fn dead_lines(&self) -> Vec<usize> {
        self.dead.iter().map(|(line, _)| *line).collect()
    }

    fn customers(&self) -> std::collections::BTreeMap<&str, usize> {
        let mut counts = std::collections::BTreeMap::new();
        for event in &self.events {
            *counts.entry(event.customer.as_str()).or_default() += 1;
        }
        counts
    }
}

#[test]
fn own_samples_give_the_stored_events() {
    for (format, name) in Format::ALL {
        if matches!(format, Format::Auto | Format::Parquet) {
            continue;
        }
        let text = fs::read(workspace().join(format!("fixtures/formats/{name}.log"))).unwrap();
        assert_eq!(detect(&text, &Options::default()), Ok(format), "{name}");
        let given = golden(&text, format);
        let stored = workspace().join(format!("fixtures/expected/{name}.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&stored, &given).unwrap();
        }
        let expected = fs::read_to_string(&stored).expect("UPDATE_GOLDEN=1 writes the file");
        assert_eq!(given, expected, "{name}: UPDATE_GOLDEN=1 accepts the difference");
    }
}

/// One line of JSON for each line that is not skipped.
fn golden(text: &[u8], format: Format) -> String {
    let mut decoder = Decoder::new(&Options::default(), format);
    let mut rows = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let row = match decoder.decode(line) {
            Line::Skip => continue,
            Line::Dead(reason) => serde_json::json!({"line": index + 1, "dead": reason}),
            Line::Event(event) => serde_json::json!({
                "line": index + 1,
                "ts": rfc3339(event.ts_ms),
                "customer": event.customer,
                "service": event.service,
                "route": event.route,
                "release": event.release,
                "cohort": event.cohort,
                "region": event.region,
                "status": event.status,
                "outcome": event.outcome.map(|outcome| format!("{outcome:?}").to_lowercase()),
                "latency": match event.latency {
                    Latency::Absent => serde_json::Value::Null,
                    Latency::Us(us) => us.into(),
                    Latency::Invalid => "invalid".into(),
                },
                "id": event.id,
                "count": event.count,
            }),
        };
        rows.push(row.to_string());
    }
    format!("[\n{}\n]\n", rows.join(",\n"))
}

/// The customer, service, route and first attribute of one line, or its refusal.
fn read(format: Format, options: &Options, line: &[u8]) -> Result<[String; 4], String> {
    match Decoder::new(options, format).decode(line) {
        Line::Event(event) => {
            let texts = [event.customer, event.service, event.route, event.attributes[0]];
            Ok(texts.map(str::to_owned))
        }
        Line::Dead(reason) => Err(reason),
        Line::Skip => panic!("no line here is blank"),
    }
}

#[test]
fn access_logs_take_customer_service_routes_and_attributes_from_the_options() {
    let check = |format, [customer, attribute]: [&str; 2], line: &str, expected: [&str; 2]| {
        let options = Options {
            customer_field: Some(customer.to_owned()),
            attributes: vec![attribute.to_owned()],
            service: Some("edge".to_owned()),
            routes: vec!["/v1/{thing}".to_owned()],
            ..Options::default()
        };
        let [customer, attribute] = expected;
        let expected = [customer, "edge", "GET /v1/{thing}", attribute].map(str::to_owned);
        assert_eq!(read(format, &options, line.as_bytes()), Ok(expected), "{line}");
    };
    let caddy = r#"{"ts":1793491200,"request":{"client_ip":"1.2.3.4","method":"GET","uri":"/v1/a?b","headers":{"X-Tenant":"Zo\u00eb"}},"user_id":42,"status":200}"#;
    check(Format::Caddy, ["request.headers.X-Tenant", "user_id"], caddy, ["Zoë", "42"]);
    let text = r#"[2026-11-01T00:00:02Z] "GET /v1/a HTTP/2" 204 - 0 0 1 1 "1.2.3.4" "curl" "r7" "shop" "-""#;
    check(Format::Envoy, ["x-request-id", ":authority"], text, ["r7", "shop"]);
    let combined =
        r#"a.b:80 1.2.3.4 - kim [01/Nov/2026:00:00:00 +0000] "GET /v1/a HTTP/1.1" 200 1"#;
    check(Format::Combined, ["user", "host"], combined, ["kim", "a.b"]);
    let alb = r#"h2 2026-11-01T00:00:01Z lb 1.2.3.4:5 - 0 0 0 200 - 1 1 "GET https://a:443/v1/a HTTP/2.0" "ua" - - - "t" "shop.example""#;
    check(Format::Alb, ["domain_name", "elb"], alb, ["shop.example", "lb"]);
    let cloudfront = "2026-11-01\t00:00:00\tD\t7\t1.2.3.4\tGET\th\t/v1/a\t200\t-\t-\t-\t-\tHit\tr\tshop\thttps\t1\t0.1";
    check(Format::Cloudfront, ["x-host-header", "cs(Host)"], cloudfront, ["shop", "h"]);
}

#[test]
fn a_line_without_its_configured_customer_is_dead() {
    let options = Options { customer_field: Some("tenant".into()), ..Options::default() };
    let line = r#"{"msec":1793491200,"remote_addr":"1.2.3.4","status":200,"tenant":TENANT}"#;
    for absent in ["null", "\"\"", "\"-\"", "{}"] {
        let line = line.replace("TENANT", absent);
        let read = read(Format::NginxJson, &options, line.as_bytes());
        assert_eq!(read, Err("no customer: tenant is empty".to_owned()), "{line}");
    }
    let long = line.replace("TENANT", &format!("\"{}\"", "x".repeat(257)));
    let read = read(Format::NginxJson, &options, long.as_bytes());
    assert_eq!(read, Err("tenant has more than 256 bytes".to_owned()));
}

#[test]
fn invalid_utf8_in_a_request_counts_and_in_a_customer_does_not() {
    let line = b"1.2.3.4 - k\xff [01/Nov/2026:00:00:00 +0000] \"GET /\xff HTTP/1.1\" 200 1";
    let [customer, _, route, _] = read(Format::Combined, &Options::default(), line).unwrap();
    assert_eq!((&customer[..], &route[..]), ("1.2.3.4", "GET /\u{FFFD}"));
    let options = Options { customer_field: Some("user".into()), ..Options::default() };
    let refusal = read(Format::Combined, &options, line);
    assert_eq!(refusal, Err("user is not UTF-8".to_owned()));
}

#[test]
fn samples_decode_the_same_in_any_order_of_lines() {
    for (format, name) in Format::ALL {
        if matches!(format, Format::Auto | Format::Parquet) {
            continue;
        }
        let text = fs::read(workspace().join(format!("fixtures/formats/{name}.log"))).unwrap();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let mut one = Decoder::new(&Options::default(), format);
        for line in lines.iter().rev() {
            let mut fresh = Decoder::new(&Options::default(), format);
            assert_eq!(one.decode(line), fresh.decode(line));
        }
    }
}

#[test]
fn the_apache_log_has_its_known_counts() {
    let Some(outcome) = found("weblogs/elastic-apache-combined.log.gz", Format::Combined) else {
        return;
    };
    assert_eq!((outcome.read, outcome.dead.len()), (10_000, 0));
    let count = |status| outcome.events.iter().filter(|event| event.status == status).count();
    let statuses = [200, 206, 301, 304, 403, 404, 416, 500];
    assert_eq!(statuses.map(count), [9_126, 45, 164, 445, 2, 213, 2, 3]);
    let customers = outcome.customers();
    assert_eq!(customers.len(), 1_753);
    assert_eq!((customers["66.249.73.135"], customers["46.105.14.53"]), (482, 364));
    let times = outcome.events.iter().map(|event| event.ts_ms);
    let (first, last) = (times.clone().min().unwrap(), times.max().unwrap());
    assert_eq!(rfc3339(first), "2015-05-17T10:05:00Z");
    assert_eq!(rfc3339(last), "2015-05-20T21:05:59Z");
    let failed = outcome.events.iter().filter(|event| event.status == 500);
    let mut failed: Vec<&str> = failed.map(|event| event.customer.as_str()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["64.131.102.243", "66.249.73.135", "66.249.73.135"]);
}

#[test]
fn the_nginx_flood_has_its_known_counts() {
    let name = "weblogs/crowdsec-nginx-flood-combined.log";
    let Some(outcome) = found(name, Format::Combined) else { return };
    assert_eq!((outcome.events.len(), outcome.dead.len()), (356, 0));
    assert!(outcome.events.iter().all(|event| event.status == 200));
    let customers = outcome.customers();
    assert_eq!((customers.len(), customers["127.0.0.2"], customers["127.1.1.6"]), (14, 69, 9));
}

#[test]
fn the_load_balancer_log_has_its_known_facts() {
    let Some(outcome) = found("proxylogs/alb-access.log", Format::Alb) else { return };
    assert!(outcome.dead.is_empty());
    let count = |status| outcome.events.iter().filter(|event| event.status == status).count();
    assert_eq!((count(200), count(404), outcome.events.len()), (6, 8, 14));
    let mut latencies_us = outcome.latencies_us();
    latencies_us.sort_unstable();
    assert_eq!(latencies_us, [1_000, 2_000, 2_000, 171_000, 171_000, 171_000]);
    assert_eq!(outcome.customers().len(), 14);
    assert_eq!(rfc3339(outcome.events[7].ts_ms), "2018-07-02T22:23:00.186Z");
}

#[test]
fn the_envoy_log_has_its_known_facts() {
    let Some(outcome) = found("proxylogs/envoy-json-cri.log", Format::Envoy) else { return };
    assert!(outcome.dead.is_empty());
    assert_eq!(outcome.statuses(), [200, 301, 404, 204, 200, 301, 200, 201, 200, 201]);
    let ms = [11, 0, 5, 226, 50, 0, 15, 20, 30, 40];
    assert_eq!(outcome.latencies_us(), ms.map(|ms| ms * 1_000));
    assert_eq!(rfc3339(outcome.events[3].ts_ms), "2016-04-15T20:17:00.310Z");
    assert_eq!(outcome.events[4].customer, "fd00:1234:5678::5a24");
}

#[test]
fn the_traefik_logs_have_their_known_facts() {
    let Some(json) = found("proxylogs/traefik-json.log", Format::Traefik) else { return };
    assert_eq!((json.statuses(), json.dead_lines()), (vec![200, 200, 200, 200, 404, 204], vec![6]));
    // 10,158 ns, 564,849 ns and 2,337,877 ns among them.
    assert_eq!(json.latencies_us(), [357, 565, 2_001, 1_500, 10, 2_338]);
    assert_eq!(json.events[5].customer, "192.168.1.100");
    let Some(clf) = found("proxylogs/traefik-clf.log", Format::Combined) else { return };
    assert_eq!((clf.statuses(), clf.read), (vec![200; 6], 7));
    assert_eq!(clf.dead, [(5, "no status".to_owned())]);
    assert_eq!(clf.latencies_us(), [0, 0, 0, 1_000, 42_000, 25_000]);
}

#[test]
fn the_caddy_log_has_its_known_facts() {
    let Some(outcome) = found("proxylogs/caddy-json.log", Format::Caddy) else { return };
    assert_eq!(outcome.statuses(), [0, 0, 0, 0, 0, 0, 0, 401, 401, 200]);
    assert_eq!((outcome.read, outcome.dead.clone()), (11, vec![(11, "no status".to_owned())]));
    assert_eq!(outcome.latencies_us().into_iter().max(), Some(794_682));
    assert_eq!(rfc3339(outcome.events[0].ts_ms), "2023-09-04T15:19:51.756Z");
}

#[test]
fn the_cloudfront_log_has_its_known_facts() {
    let Some(outcome) = found("proxylogs/cloudfront.log", Format::Cloudfront) else { return };
    assert_eq!((outcome.statuses(), outcome.dead.len()), (vec![400, 400], 0));
    assert_eq!(outcome.latencies_us(), [113_000, 113_000]);
    assert_eq!(outcome.customers()["1.2.3.4"], 2);
}

#[test]
fn the_nginx_logs_have_their_known_facts() {
    let Some(mixed) = found("proxylogs/nginx-combined.log", Format::Combined) else { return };
    assert_eq!(mixed.statuses(), [404, 500, 500, 500, 500, 301, 200, 200]);
    assert_eq!((mixed.dead_lines(), mixed.customers()["192.168.1.1"]), (vec![9], 8));
    let Some(garbage) = found("proxylogs/nginx-malformed.log", Format::Combined) else { return };
    assert_eq!((garbage.statuses(), garbage.dead.len()), (vec![400; 12], 0));
    assert!(garbage.events.iter().all(|event| event.route == "(malformed)"));
    let Some(lite) = found("proxylogs/litespeed-mixed.log", Format::Combined) else { return };
    assert_eq!((lite.statuses(), lite.dead_lines()), (vec![404], vec![1, 3]));
}

#[test]
fn lines_of_formats_that_are_not_listed_are_dead_in_every_format() {
    for (name, lines) in [
        ("proxylogs/haproxy-http.log", 5),
        ("proxylogs/fastly-json.log", 4),
        ("weblogs/elastic-nginxplus-status.ndjson.gz", 500),
    ] {
        let Some(text) = data(name) else { return };
        let detected = detect(&text, &Options::default());
        assert!(matches!(detected, Err(UnknownFormat::Foreign { .. })), "{name}: {detected:?}");
        for (format, _) in Format::ALL {
            let outcome = decode(&text, format, &Options::default());
            assert_eq!((outcome.read, outcome.dead.len()), (lines, lines), "{name} as {format}");
        }
    }
}

#[test]
fn no_file_of_the_json_test_suite_crashes_a_decoder_or_is_an_event() {
    let Some(archive) = data("json/JSONTestSuite-test_parsing.tar.gz") else { return };
    let files = untar(&archive);
    assert_eq!(files.len(), 318);
    for (format, _) in Format::ALL {
        for (name, bytes) in &files {
            let mut decoder = Decoder::new(&Options::default(), format);
            for line in bytes.split(|byte| *byte == b'\n').chain([&bytes[..]]) {
                let line = decoder.decode(line);
                assert!(!matches!(line, Line::Event(_)), "{name} as {format}: {line:?}");
            }
        }
    }
}

#[test]
fn an_unknown_field_may_hold_all_that_is_json_and_nothing_else() {
    let Some(archive) = data("json/JSONTestSuite-test_parsing.tar.gz") else { return };
    for (name, bytes) in untar(&archive) {
        let start = br#"{"ts":1764547200123,"customer":"a","status":200,"x":"#;
        let line = [&start[..], &bytes[..], b"}"].concat();
        let mut decoder = Decoder::new(&Options::default(), Format::Ndjson);
        let is_event = matches!(decoder.decode(&line), Line::Event(_));
        let is_json = name.starts_with("y_");
        if !name.starts_with("i_") {
            assert_eq!(is_event, is_json, "{name}");
        }
    }
}

/// The files of a ustar archive: blocks of 512 bytes, a header before each file with its name
/// at 0, its size in octal at 124 and its type at 156 (`0` for a file).
fn untar(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut rest = archive;
    while rest.len() >= 512 && rest[0] != 0 {
        let (header, body) = rest.split_at(512);
        let text = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap();
        if header[156] == b'0' {
            let name = text(0..100).rsplit('/').next().unwrap().to_owned();
            files.push((name, body[..size].to_vec()));
        }
        rest = &body[size.next_multiple_of(512)..];
    }
    files
}
