//! The rules of the native form one by one, and the fast reader against the strict one.

use proptest::prelude::*;

use super::*;
use crate::decode::{Decoder, Fields, Format, Line};
use crate::model::{ATTRIBUTES_MAX, Alike, Latency, Outcome};

/// The line's event as text, or its refusal.
fn read_with(options: &Options, line: &[u8]) -> Result<String, String> {
    match Decoder::new(options, Format::Ndjson).decode(line) {
        Line::Event(event) => Ok(format!("{event:?}")),
        Line::Dead(reason) => Err(reason),
        Line::Skip => panic!("no line here is blank"),
    }
}

/// Checks one property of the event of a line that has a time and a customer beside `fields`.
fn check<T: PartialEq + std::fmt::Debug>(
    fields: &str,
    get: impl Fn(&Event<'_>) -> T,
    expected: Result<T, &str>,
) {
    let line = format!(r#"{{"ts":1764547200123,"customer":"acme",{fields}}}"#);
    let mut decoder = Decoder::new(&Options::default(), Format::Ndjson);
    let read = match decoder.decode(line.as_bytes()) {
        Line::Event(event) => Ok(get(&event)),
        Line::Dead(reason) => Err(reason),
        Line::Skip => panic!("no line here is blank"),
    };
    assert_eq!(read, expected.map_err(str::to_owned), "{line}");
}

fn refused(line: &str, reason: &str) {
    assert_eq!(read_with(&Options::default(), line.as_bytes()), Err(reason.to_owned()), "{line}");
}

#[test]
fn every_field_is_read_in_any_order() {
    let in_order = r#"{"ts":"2026-11-01T00:00:00.123Z","customer":"acme","service":"inbox","route":"GET /inbox","status":200,"latency_ms":12.5,"release":"r41","cohort":"canary","region":"eu-west-1","id":"x1","count":7,"flag":"on","outcome":"good"}"#;
    let shuffled = r#"{"outcome":"good","flag":"on","count":7,"id":"x1","region":"eu-west-1","cohort":"canary","release":"r41","latency_us":12500,"status":200,"route":"GET /inbox","service":"inbox","customer":"acme","ts":1793491200123}"#;
    let options = Options { attributes: vec!["plan".into(), "flag".into()], ..Options::default() };
    let expected = Event {
        ts_ms: 1_793_491_200_123,
        customer: "acme",
        service: "inbox",
        route: "GET /inbox",
        release: "r41",
        cohort: "canary",
        region: "eu-west-1",
        attributes: ["", "on", "", ""],
        status: 200,
        outcome: Some(Outcome::Good),
        latency: Latency::Us(12_500),
        id: "x1",
        count: 7,
    };
    for line in [in_order, shuffled] {
        let mut decoder = Decoder::new(&options, Format::Ndjson);
        assert_eq!(decoder.decode(line.as_bytes()), Line::Event(expected), "{line}");
    }
}

#[test]
fn both_forms_of_time_are_read() {
    let check = |ts: &str, expected: Result<i64, &str>| {
        let line = format!(r#"{{"ts":{ts},"customer":"a","status":200}}"#);
        let mut decoder = Decoder::new(&Options::default(), Format::Ndjson);
        let read = match decoder.decode(line.as_bytes()) {
            Line::Event(event) => Ok(event.ts_ms),
            Line::Dead(reason) => Err(reason),
            Line::Skip => panic!("no line here is blank"),
        };
        assert_eq!(read, expected.map_err(str::to_owned), "{ts}");
    };
    check("1764547200123", Ok(1_764_547_200_123));
    check(r#""2025-12-01T00:00:00.1239Z""#, Ok(1_764_547_200_123));
    check(r#""2025-12-01T02:00:00+02:00""#, Ok(1_764_547_200_000));
    check(r#""2025-12-01T0\u0030:00:00Z""#, Ok(1_764_547_200_000));
    let form = "ts takes RFC 3339 with an offset, or an integer of epoch milliseconds";
    for ts in
        ["1764547200123.0", "1.7e12", "true", "{}", "\"\"", "\"1764547200123\"", "\"2025-12-01\""]
    {
        check(ts, Err(form));
    }
    check("99999999999999999999", Err(form));
    check("1764547200", Err("ts 1764547200 seems to be in seconds; write milliseconds"));
    check("-1", Err("ts -1 is outside the years 2000 to 2100"));
    check("\"1999-12-31T23:59:59Z\"", Err("ts is outside the years 2000 to 2100"));
    check("\"2100-12-31T23:59:59Z\"", Ok(4_133_980_799_000));
    check("null", Err("ts is required: RFC 3339 or epoch milliseconds"));
}

#[test]
fn a_customer_is_taken_as_it_is() {
    let customer = |event: &Event<'_>| event.customer.to_owned();
    let check = |text: &str, expected: Result<&str, &str>| {
        let line = format!(r#"{{"ts":1764547200123,"status":200,"customer":{text}}}"#);
        let mut decoder = Decoder::new(&Options::default(), Format::Ndjson);
        let read = match decoder.decode(line.as_bytes()) {
            Line::Event(event) => Ok(customer(&event)),
            Line::Dead(reason) => Err(reason),
            Line::Skip => panic!("no line here is blank"),
        };
        assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
    };
    for name in [" acme ", "ACME", "../../etc/passwd", "=1+1", "<script>", "Zoë 🦀", "\u{7f}"] {
        check(&format!("\"{name}\""), Ok(name));
    }
    check(r#""a\nb\"\\\/\u00e9\ud83e\udd80""#, Ok("a\nb\"\\/é🦀"));
    check(&format!("\"{}\"", "x".repeat(256)), Ok(&"x".repeat(256)));
    check(&format!("\"{}\"", "x".repeat(257)), Err("customer has 257 bytes: it takes 1 to 256"));
    check("\"\"", Err("customer is empty: it takes 1 to 256 bytes"));
    check("null", Err("customer is required: a string of 1 to 256 bytes"));
    for text in ["7", "true", "[\"a\"]", r#""\ud83e""#, r#""\ud83ex""#] {
        check(text, Err("customer takes a string"));
    }
}

#[test]
fn a_status_or_an_outcome_is_required() {
    let both = |event: &Event<'_>| (event.status, event.outcome);
    check(r#""status":100"#, both, Ok((100, None)));
    check(r#""status":599"#, both, Ok((599, None)));
    check(r#""status":0"#, both, Ok((0, None)));
    check(r#""outcome":"bad""#, both, Ok((0, Some(Outcome::Bad))));
    check(r#""status":200,"outcome":"bad""#, both, Ok((200, Some(Outcome::Bad))));
    check(r#""status":null,"outcome":"\u0067ood""#, both, Ok((0, Some(Outcome::Good))));
    check(r#""status":0,"outcome":"excluded""#, both, Ok((0, Some(Outcome::Excluded))));
    check(r#""x":1"#, both, Err("status or outcome is required"));
    check(r#""status":null"#, both, Err("status or outcome is required"));
    let takes = "status takes an integer: 0 or 100 to 599";
    for status in
        ["1", "99", "600", "-200", "-0", "200.0", "2e2", "\"200\"", "[]", "99999999999999999999"]
    {
        check(&format!(r#""status":{status},"outcome":"good""#), both, Err(takes));
    }
    for outcome in ["\"Good\"", "\"\""] {
        check(&format!(r#""outcome":{outcome}"#), both, Err("outcome takes good, bad or excluded"));
    }
    check(r#""outcome":1"#, both, Err("outcome takes a string"));
}

#[test]
fn a_latency_that_makes_no_sense_is_invalid_and_the_event_counts() {
    let latency = |fields: &str, expected: Result<Latency, &str>| {
        check(&format!(r#""status":200{fields}"#), |event| event.latency, expected);
    };
    latency("", Ok(Latency::Absent));
    latency(r#","latency_ms":null"#, Ok(Latency::Absent));
    latency(r#","latency_ms":12.3456"#, Ok(Latency::Us(12_346)));
    latency(r#","latency_ms":12.3"#, Ok(Latency::Us(12_300)));
    latency(r#","latency_ms":1e3"#, Ok(Latency::Us(1_000_000)));
    latency(r#","latency_ms":3600000"#, Ok(Latency::Us(3_600_000_000)));
    latency(r#","latency_us":48213"#, Ok(Latency::Us(48_213)));
    latency(r#","latency_us":0.5"#, Ok(Latency::Us(1)));
    latency(r#","latency_us":-0"#, Ok(Latency::Us(0)));
    latency(r#","latency_us":7,"latency_ms":null"#, Ok(Latency::Us(7)));
    for number in ["-1", "-0.001", "3600000.001", "1e999", "-1e999", "99999999999999999999"] {
        latency(&format!(r#","latency_ms":{number}"#), Ok(Latency::Invalid));
    }
    latency(
        r#","latency_ms":1,"latency_us":1000"#,
        Err("latency_ms and latency_us are both given"),
    );
    latency(r#","latency_ms":"12""#, Err("latency_ms takes a number"));
    latency(r#","latency_us":true"#, Err("latency_us takes a number"));
}

#[test]
fn a_count_is_one_to_a_million() {
    let count = |text: &str, expected: Result<u32, &str>| {
        check(&format!(r#""status":200,"count":{text}"#), |event| event.count, expected);
    };
    count("1", Ok(1));
    count("1000000", Ok(1_000_000));
    count("null", Ok(1));
    for text in ["0", "1000001", "-1", "1.0", "\"1\"", "99999999999999999999"] {
        count(text, Err("count takes an integer: 1 to 1000000"));
    }
}

#[test]
fn optional_texts_are_strings() {
    let texts = |event: &Event<'_>| format!("{} {} {}", event.service, event.route, event.id);
    check(r#""status":200,"route":"a\tb","id":"\u0031""#, texts, Ok("default a\tb 1".into()));
    check(r#""status":200,"service":"","route":null"#, texts, Ok("default  ".into()));
    check(r#""status":200,"service":7"#, texts, Err("service takes a string"));
    check(r#""status":200,"region":{}"#, texts, Err("region takes a string"));
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for value in
        ["null", "1e999", r#"{"customer":{"ts":[1,{"status":"x"}]}}"#, r#""\ud83e""#, &deep]
    {
        check(&format!(r#""status":200,"x":{value},"x":1"#), |event| event.status, Ok(200));
    }
}

#[test]
fn a_known_field_twice_is_refused() {
    refused(r#"{"ts":1,"ts":1}"#, "ts is given twice");
    let twice = r#"{"ts":1764547200123,"customer":"a","status":200,"customer":null}"#;
    refused(twice, "customer is given twice");
    let escaped = r#"{"ts":1764547200123,"customer":"a","status":200,"\u0063ustomer":"a"}"#;
    refused(escaped, "customer is given twice");
}

#[test]
fn what_is_not_one_json_object_is_refused() {
    let line = r#"{"ts":1764547200123,"customer":"a","status":200}"#;
    for length in 1..line.len() {
        refused(&line[..length], "the JSON object is cut off");
    }
    refused(&format!("{line}x"), "not JSON near byte 49");
    refused(&format!("{line}{line}"), "not JSON near byte 49");
    refused("[1]", "not a JSON object");
    refused("\u{feff}{}", "not a JSON object");
    let mut bytes = line.as_bytes().to_vec();
    bytes[32] = 0xff;
    let read = read_with(&Options::default(), &bytes);
    assert_eq!(read, Err("the line is not UTF-8".to_owned()));
    bytes[32] = b'\n';
    assert_eq!(read_with(&Options::default(), &bytes), Err("not JSON near byte 32".to_owned()));
}

#[test]
fn names_are_mapped_to_keys_and_paths() {
    let fields = Fields {
        customer: "account.id".into(),
        ts: "@timestamp".into(),
        status: "http.response.status_code".into(),
        ..Fields::default()
    };
    let attributes = vec!["account.plan".into(), "account.id".into()];
    let options = Options { fields, attributes, ..Options::default() };
    let check = |line: &str| {
        let mut decoder = Decoder::new(&options, Format::Ndjson);
        let Line::Event(event) = decoder.decode(line.as_bytes()) else { panic!("{line}") };
        let found = (event.customer, event.ts_ms, event.status, event.attributes);
        assert_eq!(found, ("a", 1_764_547_200_123, 404, ["pro", "a", "", ""]), "{line}");
    };
    check(
        r#"{"account":{"id":"a","plan":"pro"},"@timestamp":1764547200123,"http":{"response":{"status_code":404}},"customer":7}"#,
    );
    check(
        r#"{"account.id":"a","account.plan":"pro","@timestamp":1764547200123,"http":{"response.status_code":404}}"#,
    );
    let missing = read_with(&options, br#"{"@timestamp":1764547200123,"account":"a"}"#);
    assert_eq!(missing, Err("account.id is required: a string of 1 to 256 bytes".to_owned()));
}

#[test]
fn a_carriage_return_and_a_runtime_prefix_are_taken_off() {
    for line in [
        "{\"ts\":1764547200123,\"customer\":\"a\",\"status\":200}\r",
        "2025-12-31T17:37:40.49+01:00 stdout F {\"ts\":1764547200123,\"customer\":\"a\",\"status\":200}",
        "  {\"ts\":1764547200123,\"customer\":\"a\",\"status\":200}\t",
    ] {
        assert!(read_with(&Options::default(), line.as_bytes()).is_ok(), "{line}");
    }
}

/// What the one pass makes of a line.
fn one_pass<'a>(fast: &mut fast::Fast, line: &'a str) -> Option<Event<'a>> {
    one_pass_of_first(fast, line, line.len()).map(|(event, _)| event)
}

/// What the one pass makes of the first `length` bytes of a text.
fn one_pass_of_first<'a>(
    fast: &mut fast::Fast,
    text: &'a str,
    length: usize,
) -> Option<(Event<'a>, Alike)> {
    let mut event = Bare::default();
    let (alike, end) = fast.decode(text, &mut event)?;
    (end == length).then(|| (event.with(fast.shared(text)), alike))
}

/// The service and the dimensions of an event.
fn shared<'a>(event: &Event<'a>) -> ([&'a str; 5], [&'a str; ATTRIBUTES_MAX]) {
    let Event { service, route, release, cohort, region, attributes, .. } = *event;
    ([service, route, release, cohort, region], attributes)
}

#[test]
fn the_usual_lines_are_read_in_one_pass() {
    let names = value::names(&Options::default());
    let mut fast = fast::Fast::new(&names);
    for line in [
        r#"{"ts":1764547200123,"customer":"cust_0004711","service":"checkout","route":"/v1/orders","status":200,"latency_us":48213,"release":"2026.11.1","cohort":"stable","region":"eu-west-1"}"#,
        r#"{"ts": "2025-12-01T00:00:00.123Z", "customer": "ä", "status": 200, "latency_ms": 12.5}"#,
        r#"{"x":"y","n":0,"b":true,"z":null,"count":3,"outcome":"bad","customer":"a","ts":1764547200123}"#,
    ] {
        let mut texts = String::new();
        let strict = strict(&names, line, &mut texts).ok();
        assert!(strict.is_some(), "{line}");
        // The first may find that it is to learn, the others go by what it has left.
        let first = one_pass(&mut fast, line);
        assert!(first.is_none() || first == strict, "{line}");
        for _ in 0..2 {
            assert_eq!(one_pass(&mut fast, line), strict, "{line}");
        }
    }
}

/// A JSON text for a field, fitting or not.
fn value_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-zA-Z0-9 /{}éß🦀._-]{0,12}".prop_map(|text| format!("\"{text}\"")),
        1 => r#"\PC{0,6}"#.prop_map(|text| serde_json::to_string(&text).unwrap()),
        1 => Just(r#""a\u0062\ud83e\udd80""#.to_owned()),
        1 => Just(r#""2025-12-01T00:00:00.5+01:00""#.to_owned()),
        2 => (0..700_u32).prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => (1_764_000_000_000..1_765_000_000_000_i64).prop_map(|number| number.to_string()),
        1 => (0..4_000_000_u32, 0..4_usize).prop_map(|(ms, places)| format!("{ms}.{:0places$}", ms % 10)),
        1 => any::<f64>().prop_filter("JSON has no such number", |float| float.is_finite()).prop_map(|float| float.to_string()),
        1 => prop::sample::select(vec![
            "null", "true", "false", "0", "-0", "01", "1.", "1e3", "-1", "{}", "[1]", "\"good\"",
            "\"bad\"", "\"\"", "nul", "\"a", "\"\t\"", "3600000000", "3600000001", "3600000.0004",
        ]).prop_map(str::to_owned),
    ]
}

/// A value that the field of this name takes, most often.
fn fitting(key: &str) -> BoxedStrategy<String> {
    let number = |range: std::ops::Range<u64>| {
        (range, 0..16_u8).prop_map(|(number, odd)| match odd {
            0 => format!("0{number}"),
            1 => format!("-{number}"),
            _ => number.to_string(),
        })
    };
    match key {
        "ts" => prop_oneof![
            3 => number(1_764_000_000_000..1_765_000_000_000),
            1 => Just("\"2025-12-01T00:00:00.5+01:00\"".to_owned()),
        ]
        .boxed(),
        "status" => number(95..605).boxed(),
        "count" => number(0..1_000_002).boxed(),
        "outcome" => Just("\"bad\"".to_owned()).boxed(),
        "latency_ms" => (0..3_700_000_u32, "[0-9]{0,5}")
            .prop_map(|(ms, places)| format!("{ms}.{places}"))
            .boxed(),
        "latency_us" => number(0..4_000_000_000).boxed(),
        _ => "[a-z0-9é_-]{1,24}".prop_map(|text| format!("\"{text}\"")).boxed(),
    }
}

const KEYS: [&str; 16] = [
    "ts",
    "customer",
    "service",
    "route",
    "status",
    "outcome",
    "latency_ms",
    "latency_us",
    "release",
    "cohort",
    "region",
    "id",
    "count",
    "flag",
    "other",
    "t\\u0073",
];

fn member() -> impl Strategy<Value = String> {
    let key = prop::sample::select(KEYS.to_vec());
    let spaces = prop::sample::select(vec!["", "", "", " ", "  ", "\t"]);
    (key, spaces, any::<prop::sample::Index>()).prop_flat_map(|(key, space, often)| {
        let value = if often.index(8) > 0 { fitting(key) } else { value_text().boxed() };
        value.prop_map(move |value| format!("\"{key}\":{space}{value}"))
    })
}

/// An object with the required fields and some others, in any order.
fn object() -> impl Strategy<Value = String> {
    let required = (fitting("ts"), fitting("customer"), fitting("status")).prop_map(
        |(ts, customer, status)| {
            let members = [("ts", ts), ("customer", customer), ("status", status)];
            members.map(|(key, value)| format!("\"{key}\":{value}")).to_vec()
        },
    );
    (required, prop::collection::vec(member(), 0..8), any::<bool>())
        .prop_flat_map(|(required, others, whole)| {
            let kept = if whole { required } else { required[1..].to_vec() };
            Just([kept, others].concat()).prop_shuffle()
        })
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

/// The line with a few bytes changed, put in or taken out.
fn mutated(line: String, edits: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = line.into_bytes();
    for (place, kind, byte) in edits {
        let at = place.index(bytes.len() + 1);
        match kind % 3 {
            0 => bytes.insert(at, *byte),
            1 if at < bytes.len() => bytes[at] = *byte,
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

/// A line of few keys and values in one order most of the time: what follows what is remembered.
fn similar() -> impl Strategy<Value = String> {
    let of = |values: &'static [&'static str]| prop::sample::select(values);
    let text = of(&[
        "a",
        "b",
        "stable",
        "stables",
        "stable-with-more-than-16",
        "stable-with-more-than-17",
        "stable-with-more-than-thirty-two-a",
        "stable-with-more-than-thirty-two-b",
        "ä",
        "",
        "default",
    ]);
    let texts = [(); 6].map(|()| text.clone());
    let order = prop_oneof![
        6 => Just(vec![0, 1, 2, 3, 4, 5, 6, 7]),
        1 => Just(vec![0, 1, 2, 2, 3, 4, 5, 6, 7]),
        1 => Just(vec![0, 1, 2, 3, 4, 5, 6, 7]).prop_shuffle(),
    ];
    let kept = prop::collection::vec(prop::bool::weighted(0.95), 8);
    let space = of(&["", "", "", "", " "]);
    (texts, order, kept, space, 0..3_u32).prop_map(|(texts, order, kept, space, number)| {
        let [customer, service, route, cohort, flag, other] =
            texts.map(|text| format!("\"{text}\""));
        let members = [
            ("ts", format!("176454720012{number}")),
            ("customer", customer),
            ("service", service),
            ("route", route),
            ("status", format!("20{number}")),
            ("cohort", cohort),
            ("other", other),
            ("flag", flag),
        ];
        let members: Vec<String> = order
            .into_iter()
            .filter(|member| kept[*member])
            .map(|member| format!("\"{}\":{space}{}", members[member].0, members[member].1))
            .collect();
        format!("{{{}}}", members.join(&format!(",{space}")))
    })
}

#[test]
fn a_line_that_is_cut_off_is_not_read_on() {
    let text = r#"{"ts":1764547200123,"customer":"a","status":200,"cohort":"b","region":"eu"}"#;
    let mut fast = fast::Fast::new(&value::names(&Options::default()));
    for _ in 0..2 {
        for length in 0..text.len() {
            assert_eq!(one_pass_of_first(&mut fast, text, length), None, "{length}");
        }
        assert!(one_pass(&mut fast, text).is_some());
    }
}

#[test]
fn similar_lines_are_read_in_one_pass_and_alike() {
    let line = |service: &str, cohort: &str| {
        format!(
            r#"{{"ts":1764547200123,"customer":"acme","service":"{service}","status":200,"cohort":"{cohort}"}}"#
        )
    };
    let mut fast = fast::Fast::new(&value::names(&Options::default()));
    let mut word = |service: &str, cohort: &str| {
        let line = line(service, cohort);
        one_pass_of_first(&mut fast, &line, line.len()).expect("a usual line").1
    };
    let first = word("checkout", "stable");
    assert_ne!(first, Alike::NONE);
    assert_ne!(word("checkout", "beta"), first);
    assert_ne!(word("search", "stable"), first);
    assert_eq!(word("checkout", "stable"), first);
    assert_eq!(word("checkout", &"x".repeat(33)), Alike::NONE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_fast_reader_gives_what_the_strict_one_gives(
        lines in prop::collection::vec(object(), 1..4),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<u8>(), prop::sample::select(b"\"\\{}[]:,. 0e-nt\x00\xff".to_vec())),
            0..3,
        ),
    ) {
        let options = Options { attributes: vec!["flag".into()], ..Options::default() };
        let names = value::names(&options);
        let mut fast = fast::Fast::new(&names);
        let last = lines.last().cloned().into_iter().map(|line| mutated(line, &edits));
        for line in lines.iter().map(|line| line.clone().into_bytes()).chain(last) {
            let Ok(line) = std::str::from_utf8(&line) else { continue };
            let mut texts = String::new();
            let strict = strict(&names, line, &mut texts);
            if let Some(event) = one_pass(&mut fast, line) {
                prop_assert_eq!(Ok(event), strict, "{}", line);
            }
        }
    }

    #[test]
    fn what_is_remembered_changes_no_line(
        lines in prop::collection::vec(similar(), 1..40),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), prop::sample::select(b"\"\\{}:,. 0ae-\n\x00".to_vec())),
            0..12,
        ),
        newlines in any::<bool>(),
    ) {
        let mut lines: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
        for (line, place, kind, byte) in &edits {
            let index = line.index(lines.len());
            let text = String::from_utf8_lossy(&lines[index]).into_owned();
            lines[index] = mutated(text, &[(*place, *kind, *byte)]);
        }
        lines.retain(|line| std::str::from_utf8(line).is_ok());
        // Records of a log follow each other without a newline.
        let text = lines.join(if newlines { &b"\n"[..] } else { b"" });
        let text = std::str::from_utf8(&text).unwrap();
        let options = Options { attributes: vec!["flag".into()], ..Options::default() };
        let names = value::names(&options);
        let mut fast = fast::Fast::new(&names);
        let mut alike = std::collections::HashMap::new();
        let mut start = 0;
        for line in &lines {
            let mut texts = String::new();
            let strict = strict(&names, &text[start..start + line.len()], &mut texts);
            if let Some((event, word)) = one_pass_of_first(&mut fast, &text[start..], line.len()) {
                if word != Alike::NONE {
                    let known = *alike.entry(word).or_insert(shared(&event));
                    prop_assert_eq!(known, shared(&event), "{:?}", word);
                }
                prop_assert_eq!(Ok(event), strict, "{}", &text[start..]);
            }
            start += line.len() + usize::from(newlines);
        }
    }

    #[test]
    fn no_bytes_crash_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200), text in r#"[\[\]{}":, \t0-9A-Za-z/+-]{0,120}"#) {
        for (format, _) in Format::ALL {
            let options = Options { customer_field: Some("user".into()), ..Options::default() };
            for options in [&options, &Options::default()] {
                let mut decoder = Decoder::new(options, format);
                decoder.decode(&bytes);
                decoder.decode(text.as_bytes());
            }
        }
    }
}
