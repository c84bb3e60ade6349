//! One function for each fuzz target: any bytes in, no panic out, and what must hold of every
//! outcome asserted. Each is deterministic, so that a finding is a file.

use axum::http::Uri;
use ninefold_engine::config::{Config, check_report};
use ninefold_engine::decode::{Decoder, Format, Line, Options, detect};
use ninefold_engine::delta;
use ninefold_engine::model::Outcome;
use ninefold_engine::model::{COUNT_MAX, CUSTOMER_BYTES_MAX, Event, LATENCY_US_MAX, Latency};
use ninefold_engine::slo::sli::Slis;
use ninefold_engine::source::body::{Coding, Media, inflate, records};
use ninefold_engine::source::wal::{Batch, Piece, Records, Salt, encode, scan};
use ninefold_engine::time::{TS_MS_END, TS_MS_MIN};

use crate::{arguments, recount};

/// The name of a target, and what is called with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also the name of its folder in `fixtures/fuzz`.
pub const ALL: [Target; 7] = [
    ("decode_ndjson", decode_ndjson),
    ("decode_formats", decode_formats),
    ("config", config),
    ("log_entry", log_entry),
    ("arguments", arguments),
    ("wal", wal),
    ("body", body),
];

/// Native lines: the decoder agrees with the recount by `serde_json`, line by line.
pub fn decode_ndjson(data: &[u8]) {
    let mut decoder = Decoder::new(&Options::default(), Format::Ndjson);
    for line in data.split(|byte| *byte == b'\n') {
        let expect = recount::event(line);
        let shown = String::from_utf8_lossy(line);
        match decoder.decode(line) {
            Line::Event(event) => {
                check_event(&event);
                match expect {
                    Ok(expect) => check_same(&event, &expect, &shown),
                    Err(error) if is_reader_limit(&error) || has_prefix(line) => {}
                    Err(error) => panic!("counted, and dead by the recount: {error}: {shown:?}"),
                }
            }
            Line::Dead(reason) => {
                assert!(!reason.is_empty(), "a dead letter has its reason");
                assert!(expect.is_err(), "{reason}, and an event by the recount: {shown:?}");
            }
            Line::Skip => assert!(expect.is_err(), "skipped, and an event: {shown:?}"),
        }
    }
}

/// What `serde_json` refuses that is none of the rules: depth, numbers beyond 64 bits, and halves of
/// surrogate pairs, which it takes itself in a field that nobody reads.
fn is_reader_limit(error: &str) -> bool {
    let limits = ["recursion limit", "number out of range", "surrogate", "end of hex escape"];
    limits.iter().any(|limit| error.contains(limit))
}

/// A container runtime's prefix before the object, which the recount does not know.
fn has_prefix(line: &[u8]) -> bool {
    !line.trim_ascii_start().starts_with(b"{")
}

fn check_same(event: &Event<'_>, expect: &recount::Event, line: &str) {
    let class = Slis::default().classify(event);
    let outcome = match class.availability {
        Some(Outcome::Good) => "good",
        Some(Outcome::Bad) => "bad",
        Some(Outcome::Excluded) | None => "excluded",
    };
    let found = (event.ts_ms, event.customer, event.service, outcome, u64::from(event.count));
    let expect_of = (
        expect.ts_ms,
        expect.customer.as_str(),
        expect.service.as_str(),
        expect.outcome,
        expect.count,
    );
    assert_eq!(found, expect_of, "{line:?}");
    assert_eq!(event.id, expect.id.as_deref().unwrap_or_default(), "{line:?}");
    // The two readers of decimals may differ in the last bit, and so by one after rounding.
    match (event.latency, expect.latency_us) {
        (Latency::Us(us), Some(other)) => assert!(u64::from(us).abs_diff(other) <= 1, "{line:?}"),
        (Latency::Absent, None) => assert!(!expect.invalid_latency, "{line:?}"),
        (Latency::Invalid, None) => assert!(expect.invalid_latency, "{line:?}"),
        (found, other) => panic!("latency {found:?}, and {other:?} by the recount: {line:?}"),
    }
}

/// Lines of any format, the first byte says of which; and what format the rest is taken for.
pub fn decode_formats(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let (format, _) = Format::ALL[usize::from(*first) % Format::ALL.len()];
    let options = Options {
        attributes: vec!["flag".to_owned(), "deep.flag".to_owned()],
        customer_field: (first & 0x80 != 0).then(|| "user".to_owned()),
        routes: vec!["/a/{id}/*".to_owned()],
        ..Options::default()
    };
    let mut decoder = Decoder::new(&options, format);
    let mut again = Decoder::new(&options, format);
    for line in text.split(|byte| *byte == b'\n') {
        let found = decoder.decode(line);
        match &found {
            Line::Event(event) => check_event(event),
            Line::Dead(reason) => assert!(!reason.is_empty(), "a dead letter has its reason"),
            Line::Skip => {}
        }
        assert_eq!(found, again.decode(line), "a line means the same in another decoder");
    }
    match detect(text, &options) {
        Ok(Format::Parquet) => assert!(text.starts_with(b"PAR1"), "a columnar file by its magic"),
        Ok(found) => assert!(found != Format::Auto, "a certain format"),
        Err(_) => {}
    }
}

/// What holds of every event, whatever it was read from.
fn check_event(event: &Event<'_>) {
    assert!((1..=CUSTOMER_BYTES_MAX).contains(&event.customer.len()), "{event:?}");
    assert!((TS_MS_MIN..TS_MS_END).contains(&event.ts_ms), "{event:?}");
    assert!((1..=COUNT_MAX).contains(&event.count), "{event:?}");
    assert!(event.status == 0 || (100..=599).contains(&event.status), "{event:?}");
    assert!(!event.service.is_empty(), "{event:?}");
    if let Latency::Us(us) = event.latency {
        assert!(us <= LATENCY_US_MAX, "{event:?}");
    }
}

/// A configuration: its problems, or what `check` says of it.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, "fuzz.toml") {
        Ok(config) => assert!(!check_report(&config).is_empty(), "there is something to say"),
        Err(problems) => {
            let told = problems.to_string();
            assert!(told.contains("fuzz.toml"), "problems name the file: {told}");
        }
    }
}

/// A log entry: nothing that it names leaves the table.
pub fn log_entry(data: &[u8]) {
    let Ok(entry) = delta::parse(data) else { return };
    let added = entry.adds.iter().map(|add| &add.path);
    for path in added.chain(entry.removes.iter().map(|remove| &remove.path)) {
        let inside = std::path::Path::new(path).components();
        let is_plain =
            |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        assert!(!path.is_empty() && inside.into_iter().all(is_plain), "{path:?}");
        assert!(!path.contains('\0'), "{path:?}");
    }
    assert_eq!(delta::parse(data), Ok(entry), "an entry means the same every time");
}

/// The query of a request, and names from its path.
pub fn arguments(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (query, rest) = text.split_once('\n').unwrap_or((text, ""));
    let known = ["at", "from", "to", "step", "limit", "sort", "basis", "service", "cursor"];
    if let Ok(uri) = format!("/?{query}").parse::<Uri>()
        && let Ok(arguments) = arguments::Arguments::read(&uri, &known)
    {
        check_arguments(&arguments);
    }
    if let Ok(customer) = arguments::customer(rest.to_owned()) {
        assert!((1..=CUSTOMER_BYTES_MAX).contains(&customer.len()));
    }
    if let Ok(month) = arguments::month(rest) {
        assert_eq!(month.len(), "2026-10".len());
    }
}

fn check_arguments(arguments: &arguments::Arguments) {
    for key in ["service", "cursor", "at"] {
        if let Ok(Some(text)) = arguments.text(key) {
            assert!(!text.is_empty() && text.len() <= 1_024);
        }
    }
    if let Ok(limit) = arguments.limit() {
        assert!((1..=arguments::LIMIT_MAX).contains(&limit));
    }
    if let Ok((from, to)) = arguments.range(arguments::RANGE_MINUTES_MAX) {
        let minutes = to.0 - from.0 + 1;
        assert!(minutes <= arguments::RANGE_MINUTES_MAX);
        if let Ok(step) = arguments.step_minutes(minutes) {
            assert!(step > 0 && minutes.div_ceil(step) <= arguments::STEPS_MAX);
        }
    }
    // What they refuse they refuse by a problem; here only that they end.
    let _ = (arguments.minute("at"), arguments.open_range(), arguments.sort(), arguments.basis());
}

/// What the frames of the target are sealed with.
const SALT: Salt = Salt(0x0123_4567_89ab_cdef);

/// A segment of the write-ahead log: any bytes, and one that was written and then damaged. The
/// first line says where: four bytes each, a place in the segment, what flips there, and nothing.
pub fn wal(data: &[u8]) {
    check_tiles(data);
    let (flips, text) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&[][..], data),
    };
    let salt = salt_of(text);
    let (bytes, frames) = segment_of(text, salt);
    let mut damaged = bytes.clone();
    for flip in flips.chunks_exact(4) {
        let place = usize::from(u16::from_le_bytes([flip[0], flip[1]]));
        if let Some(byte) = damaged.get_mut(place) {
            *byte ^= flip[2];
        }
    }
    check_tiles(&damaged);
    for piece in scan(&damaged, salt) {
        let Piece::Frame(at, frame) = piece else { continue };
        let written = frames.iter().find(|(place, _, _)| *place == at);
        let (_, first, digest) = written.expect("a frame is found only where one was written");
        assert_eq!((frame.first, frame.digest()), (*first, *digest), "and holds what was written");
    }
    let untouched = damaged == bytes;
    let found = scan(&damaged, salt).filter(|piece| matches!(piece, Piece::Frame(..))).count();
    assert!(!untouched || found == frames.len(), "without damage every frame is found");
}

/// Nobody who sends a text knows the salt of the log, so a text must not know its own: else it
/// could hold a frame that is one as soon as what stands around it is damaged.
fn salt_of(text: &[u8]) -> Salt {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    Salt(text.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

/// A segment with the lines of a text, two of them a frame: its bytes, and where each frame
/// begins, its first offset and its digest.
fn segment_of(text: &[u8], salt: Salt) -> (Vec<u8>, Vec<(usize, u64, u32)>) {
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let mut first = 0;
    for pair in lines.chunks(2) {
        let mut records = Records::default();
        pair.iter().for_each(|line| records.push(line));
        let key = pair[0][..pair[0].len().min(20)].to_vec();
        let batch = Batch { time_ms: 1_764_547_200_123, key, records };
        frames.push((bytes.len(), first, batch.digest()));
        encode(&mut bytes, salt, first, &batch);
        first += pair.len() as u64;
    }
    (bytes, frames)
}

/// The pieces of any bytes tile them, and frames say no more than they hold.
fn check_tiles(bytes: &[u8]) {
    let mut next = 0;
    for piece in scan(bytes, SALT) {
        let (start, end) = match piece {
            Piece::Frame(at, frame) => {
                assert_eq!(frame.records().count(), frame.count() as usize);
                (at, at + frame.size_bytes)
            }
            Piece::Damaged(range) | Piece::Torn(range) => (range.start, range.end),
        };
        assert!(start == next && end > start, "pieces tile");
        next = end;
    }
    assert_eq!(next, bytes.len(), "to the end");
}

/// Bodies of events: nothing is inflated past its limit. The first byte says what it is.
pub fn body(data: &[u8]) {
    let Some((form, packed)) = data.split_first() else { return };
    let media = if form % 2 == 0 { Media::Lines } else { Media::Array };
    let coding = [Coding::Identity, Coding::Gzip, Coding::Zstd][usize::from(form / 2 % 3)];
    let bytes_max = 1 << 20;
    let Ok(text) = inflate(packed.to_vec(), coding, bytes_max, &mut |_| true) else { return };
    assert!(text.len() as u64 <= bytes_max);
    if let Ok(records) = records(&text, media) {
        assert!(records.size_bytes() <= text.len());
    }
}
