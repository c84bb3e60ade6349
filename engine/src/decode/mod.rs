//! From bytes to events: one line in, one event, one refusal or nothing out.
//!
//! A file has one [`Format`], told or found by [`detect()`] from its first lines; within it each
//! line may take any form of that family. A [`Decoder`] reads lines of one format. Each line
//! is read by itself, whatever came before it, so that the blocks of a file may be decoded in
//! any order by any number of decoders with the same result. What a decoder remembers between
//! lines (buffers, the order of the keys, values that repeat) is for speed alone.
//!
//! Bad input is data: a line that is no event is [`Line::Dead`] with a reason in a few words.
//! The CRI prefix of a container runtime (`2025-12-31T17:37:40.493+01:00 stdout F `) is taken
//! off in every format.
//!
//! | module | reads |
//! |---|---|
//! | `ndjson` | the native form; `ndjson::fast` for its usual shape |
//! | `combined` | Common and Combined logs, Traefik's among them |
//! | `jsonlog` | JSON access logs of nginx, Caddy, Traefik and Envoy |
//! | `envoy` | Envoy's text form |
//! | `aws` | ALB and CloudFront |
//! | `parquet` | rows with the native names as columns |
//! | `value` | the rules of the native fields, whatever they are read from |
//! | `window` | sixteen bytes of a text at once |
//! | `access` | what all access logs share: customer, attributes, address |
//! | `clock` | the forms of time in access logs |
//! | `json` | wanted values out of one JSON object |
//! | `route` | route templates |
//! | `compress` | gzip and zstd, before lines are cut |
//!
//! Decoders know nothing of where lines come from or what becomes of events.

mod access;
mod aws;
mod clock;
mod combined;
pub mod compress;
mod detect;
mod envoy;
mod json;
mod jsonlog;
mod ndjson;
#[cfg(feature = "table")]
pub mod parquet;
pub mod route;
mod value;
mod window;

use std::fmt;
use std::str::FromStr;

use crate::model::{Alike, Bare, Event};
pub use detect::{UnknownFormat, detect};

/// What one line (without its newline) turned out to be.
#[derive(Debug, PartialEq)]
pub enum Line<'a> {
    /// A request.
    Event(Event<'a>),
    /// Blank, or a header of the format (`#Version: 1.0`): neither read nor dead.
    Skip,
    /// A dead letter, with the reason in a few words that name the field and what it takes.
    Dead(String),
}

/// A family of line forms, or a columnar file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Found by [`detect()`] from the first lines. A [`Decoder`] that is given it reads the
    /// native form.
    #[default]
    Auto,
    /// The native form: one JSON object a line.
    Ndjson,
    /// Common and Combined logs of Apache and nginx, and Traefik's default.
    Combined,
    /// nginx with a JSON `log_format`.
    NginxJson,
    /// Caddy's JSON access log.
    Caddy,
    /// Traefik's JSON access log.
    Traefik,
    /// Envoy's access log, JSON or text.
    Envoy,
    /// Access log of an AWS application load balancer.
    Alb,
    /// Standard access log of AWS CloudFront, its columns in the standard order.
    Cloudfront,
    /// A Parquet file whose columns have the names of the native fields.
    Parquet,
}

impl Format {
    /// Every format with the name that `--format` takes.
    pub const ALL: [(Format, &'static str); 10] = [
        (Format::Auto, "auto"),
        (Format::Ndjson, "ndjson"),
        (Format::Combined, "combined"),
        (Format::NginxJson, "nginx-json"),
        (Format::Caddy, "caddy"),
        (Format::Traefik, "traefik"),
        (Format::Envoy, "envoy"),
        (Format::Alb, "alb"),
        (Format::Cloudfront, "cloudfront"),
        (Format::Parquet, "parquet"),
    ];

    /// The name that `--format` takes.
    pub fn name(self) -> &'static str {
        let found = Format::ALL.iter().find(|(format, _)| *format == self);
        found.expect("every format is in the list of all").1
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no format.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no format; write one of {names}", names = Format::ALL.map(|(_, name)| name).join(", "))]
pub struct FormatName(String);

impl FromStr for Format {
    type Err = FormatName;

    /// Reads a name as `--format` takes it.
    ///
    /// ```
    /// use ninefold_engine::decode::Format;
    /// assert_eq!("nginx-json".parse(), Ok(Format::NginxJson));
    /// assert!("nginx".parse::<Format>().is_err());
    /// ```
    fn from_str(name: &str) -> Result<Format, FormatName> {
        let found = Format::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(format, _)| *format).ok_or_else(|| FormatName(name.to_owned()))
    }
}

/// Under which names the native fields stand, in JSON objects and in Parquet columns.
///
/// A name may be a dotted path into nested objects: `account.id` is `"account":{"id":…}`, and
/// also the flat key `"account.id"`. A line that holds both has the field twice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the native field of its name")]
pub struct Fields {
    pub ts: String,
    pub customer: String,
    pub service: String,
    pub route: String,
    pub status: String,
    pub outcome: String,
    pub latency_ms: String,
    pub latency_us: String,
    pub release: String,
    pub cohort: String,
    pub region: String,
    pub id: String,
    pub count: String,
}

impl Default for Fields {
    fn default() -> Self {
        Fields {
            ts: "ts".to_owned(),
            customer: "customer".to_owned(),
            service: "service".to_owned(),
            route: "route".to_owned(),
            status: "status".to_owned(),
            outcome: "outcome".to_owned(),
            latency_ms: "latency_ms".to_owned(),
            latency_us: "latency_us".to_owned(),
            release: "release".to_owned(),
            cohort: "cohort".to_owned(),
            region: "region".to_owned(),
            id: "id".to_owned(),
            count: "count".to_owned(),
        }
    }
}

/// How lines become events. The default detects the format and maps nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The format of the source, or [`Format::Auto`].
    pub format: Format,
    /// Names of the native fields.
    pub fields: Fields,
    /// Which field of an access log is the customer; the client's address where unset. In JSON
    /// logs any key or dotted path; `address`, `user` or `host` in Combined logs; the
    /// documented field names in the others.
    pub customer_field: Option<String>,
    /// The service of every line of an access log; [`crate::model::SERVICE_DEFAULT`] where
    /// unset.
    pub service: Option<String>,
    /// Route patterns for access logs, the first match wins: see [`route`].
    pub routes: Vec<String>,
    /// Names (dotted paths allowed) of the attributes of an event, in order; those past
    /// [`crate::model::ATTRIBUTES_MAX`] are not read.
    pub attributes: Vec<String>,
}

/// Reads lines of one format; one a thread.
///
/// ```
/// use ninefold_engine::decode::{Decoder, Format, Line, Options};
/// let mut decoder = Decoder::new(&Options::default(), Format::Ndjson);
/// let line = br#"{"ts":1764547200123,"customer":"acme","status":503}"#;
/// let Line::Event(event) = decoder.decode(line) else { panic!("an event") };
/// assert_eq!((event.customer, event.status, event.count), ("acme", 503, 1));
/// let dead = decoder.decode(br#"{"ts":1764547200123,"status":503}"#);
/// assert_eq!(dead, Line::Dead("customer is required: a string of 1 to 256 bytes".into()));
/// ```
pub struct Decoder {
    family: Family,
    /// The line with its invalid UTF-8 replaced.
    lossy: String,
    scratch: Scratch,
}

/// The reader of a family with what it knows of the options.
enum Family {
    Native(Box<ndjson::Ndjson>),
    Combined(access::Access),
    Json(Box<jsonlog::JsonLog>),
    /// JSON or text.
    Envoy(Box<jsonlog::JsonLog>),
    Alb(access::Access),
    Cloudfront(access::Access),
    /// A format that has no lines.
    Columnar,
}

/// Buffers that texts of an event may borrow from, reused from line to line.
#[derive(Default)]
struct Scratch {
    /// Texts that hold escapes, without them.
    texts: String,
    /// The route.
    route: String,
    /// Of lines in the Combined form.
    memo: combined::Memo,
}

/// A value read from a line, or the reason that makes the line a dead letter.
type Read<T> = Result<T, String>;

impl Decoder {
    /// A decoder for lines of `format`. [`Format::Auto`] reads the native form: find the format
    /// with [`detect()`] first. [`Format::Parquet`] has no lines: every one is a dead letter.
    pub fn new(options: &Options, format: Format) -> Decoder {
        let access = || access::Access::new(options);
        let json = |keys| Box::new(jsonlog::JsonLog::new(access(), keys));
        let family = match format {
            Format::Auto | Format::Ndjson => Family::Native(Box::new(ndjson::Ndjson::new(options))),
            Format::Combined => Family::Combined(access()),
            Format::NginxJson => Family::Json(json(&jsonlog::NGINX)),
            Format::Caddy => Family::Json(json(&jsonlog::CADDY)),
            Format::Traefik => Family::Json(json(&jsonlog::TRAEFIK)),
            Format::Envoy => Family::Envoy(json(&jsonlog::ENVOY)),
            Format::Alb => Family::Alb(access()),
            Format::Cloudfront => Family::Cloudfront(access()),
            Format::Parquet => Family::Columnar,
        };
        Decoder { family, lossy: String::new(), scratch: Scratch::default() }
    }

    /// Reads one line, without its newline; a carriage return at its end is taken off.
    pub fn decode<'a>(&'a mut self, line: &'a [u8]) -> Line<'a> {
        let Ok(text) = std::str::from_utf8(line) else { return self.decode_invalid(line) };
        let mut event = Bare::default();
        if self.usual(text, Some(line.len()), &mut event).is_some() {
            return Line::Event(event.with(self.shared(text)));
        }
        self.unusual(text)
    }

    /// Reads the line that `text` begins with into `event`, which is as by default, if it is of the
    /// form that most have; `None` where [`Decoder::unusual`] is to read it, whatever stands in
    /// `event` then. The service and the dimensions are [`Decoder::shared`].
    ///
    /// The line has `length` bytes; where that is `None` it ends at the first newline, or with the
    /// text. A reader may look behind it: what stands there must be text too.
    ///
    /// # Panics
    /// If the text is shorter.
    #[inline]
    pub fn usual<'t>(
        &mut self,
        text: &'t str,
        length: Option<usize>,
        event: &mut Bare<'t>,
    ) -> Option<Usual> {
        match &mut self.family {
            Family::Native(native) => {
                let (alike, end) = native.usual(text, event)?;
                Some(Usual { length: end_of_line(text.as_bytes(), end, length)?, alike })
            }
            Family::Combined(access) => {
                combined::usual(access, text, length, &mut self.scratch.memo, event)
            }
            _ => None,
        }
    }

    /// An event with the service and the dimensions of the usual line that was read last, which
    /// `text` begins with, and nothing else.
    ///
    /// # Panics
    /// If no line was read, or the text is another.
    pub fn shared<'a>(&'a self, text: &'a str) -> Event<'a> {
        match &self.family {
            Family::Native(native) => native.shared(text),
            Family::Combined(access) => combined::shared(access, text, &self.scratch.memo),
            _ => unreachable!("the format has no usual lines"),
        }
    }

    /// Reads one line as [`Decoder::decode`], which tries [`Decoder::usual`] first.
    pub fn unusual<'a>(&'a mut self, line: &'a str) -> Line<'a> {
        self.family.decode(line, &mut self.scratch)
    }

    /// Reads a line that is not UTF-8.
    fn decode_invalid<'a>(&'a mut self, line: &'a [u8]) -> Line<'a> {
        match &self.family {
            Family::Native(_) if is_skipped(line) => Line::Skip,
            Family::Native(_) => Line::Dead("the line is not UTF-8".to_owned()),
            _ => self.family.decode(replaced(line, &mut self.lossy), &mut self.scratch),
        }
    }
}

/// A usual line that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// How long it is, without its newline.
    pub length: usize,
    /// What its event is alike by.
    pub alike: Alike,
}

/// Where the line ends that has nothing from `at` on but a carriage return, if that: at `length`,
/// or where that is `None` at the newline or the end of the text.
#[inline(always)]
fn end_of_line(text: &[u8], at: usize, length: Option<usize>) -> Option<usize> {
    match (text.get(at..length.unwrap_or(text.len()))?, length) {
        ([b'\n', ..], None) => Some(at),
        ([b'\r', b'\n', ..], None) => Some(at + 1),
        (rest @ ([] | [b'\r']), _) => Some(at + rest.len()),
        _ => None,
    }
}

impl Family {
    /// Reads any line.
    fn decode<'a>(&'a mut self, line: &'a str, scratch: &'a mut Scratch) -> Line<'a> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if is_skipped(line.as_bytes()) {
            return Line::Skip;
        }
        let line = without_cri(line);
        let Scratch { texts, route, .. } = scratch;
        let read = match self {
            Family::Native(native) => native.decode(line, texts),
            Family::Combined(access) => combined::decode(access, line, route),
            Family::Json(log) => log.decode(line, texts, route),
            Family::Envoy(log) => match line.starts_with('[') {
                true => envoy::decode(log.access(), line, route),
                false => log.decode(line, texts, route),
            },
            Family::Alb(access) => aws::alb(access, line, route),
            Family::Cloudfront(access) => aws::cloudfront(access, line, route),
            Family::Columnar => Err("the format has no such lines".to_owned()),
        };
        read.map_or_else(Line::Dead, Line::Event)
    }
}

/// Whether a line is blank or a header. Lines of JSON, the most, are told by their first byte.
fn is_skipped(line: &[u8]) -> bool {
    match line.first() {
        Some(b'{') => false,
        Some(b'#') => true,
        _ => line.trim_ascii().is_empty(),
    }
}

/// The line with its invalid UTF-8 replaced, in a buffer.
///
/// Access logs hold what clients sent, and a request of garbage is still a request.
fn replaced<'a>(line: &[u8], buffer: &'a mut String) -> &'a str {
    buffer.clear();
    buffer.push_str(&String::from_utf8_lossy(line));
    buffer
}

/// The line without the prefix that container runtimes write before each: time, stream, and
/// `F` for a full or `P` for a partial line (Kubernetes CRI logging format).
fn without_cri(line: &str) -> &str {
    let stripped = || {
        let (time, rest) = line.split_once(' ')?;
        let rest = rest.strip_prefix("stdout ").or_else(|| rest.strip_prefix("stderr "))?;
        let rest = rest.strip_prefix("F ").or_else(|| rest.strip_prefix("P "))?;
        crate::time::parse_rfc3339(time.as_bytes()).map(|_| rest)
    };
    if line.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        stripped().unwrap_or(line)
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Usual lines of two formats, and some that are hard to tell from them.
    const LINES: [&str; 8] = [
        r#"{"ts":1764547200123,"customer":"c1","service":"s","status":200,"latency_us":12}"#,
        r#"{"ts":1764547201123,"customer":"Zürich","service":"s","status":503}"#,
        r#"{"ts":1764547200123,"customer":"c\"2","service":"s","status":200} "#,
        r#"{"ts":1764547200123,"customer":"","status":1e2}"#,
        r#"1.2.3.4 - jo [01/Dec/2025:00:00:00 +0000] "GET /a HTTP/1.1" 200 5"#,
        r#"1.2.3.4 - é [01/Dec/2025:00:00:01 +0000] "GET /b HTTP/1.1" 500 5 "-" "curl""#,
        "# a header\n",
        " ",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_line_ends_at_its_newline(
            lines in prop::collection::vec(prop::sample::select(&LINES[..]), 1..6),
            ends in prop::collection::vec(
                prop::sample::select(&["\n", "\n", "\r\n", "\r", " \n", "}\n", ""][..]),
                6,
            ),
            format in prop::sample::select(&[Format::Ndjson, Format::Combined][..]),
        ) {
            let text: String = lines.iter().zip(&ends).flat_map(|(line, end)| [*line, *end]).collect();
            let new = || Decoder::new(&Options::default(), format);
            let (mut beside, mut alone) = (new(), new());
            let mut start = 0;
            for line in text.split('\n') {
                let (rest, mut event) = (&text[start..], Bare::default());
                if let Some(usual) = beside.usual(rest, None, &mut event) {
                    prop_assert_eq!(usual.length, line.len(), "{}", line);
                    let read = Line::Event(event.with(beside.shared(rest)));
                    prop_assert_eq!(read, alone.decode(line.as_bytes()));
                }
                start += line.len() + 1;
            }
        }

        #[test]
        fn a_record_is_read_as_if_nothing_stood_behind_it(
            lines in prop::collection::vec(prop::sample::select(&LINES[..]), 1..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            format in prop::sample::select(&[Format::Ndjson, Format::Combined][..]),
        ) {
            let text = lines.concat();
            let whole = lines.iter().scan(0, |end, line| {
                *end += line.len();
                Some(*end)
            });
            let mut ends: Vec<usize> = whole.collect();
            ends.extend(cuts.iter().map(|cut| cut.index(text.len())));
            ends.sort_unstable();
            let new = || Decoder::new(&Options::default(), format);
            let (mut beside, mut alone) = (new(), new());
            let mut start = 0;
            for end in ends {
                if let Some(record) = text.get(start..end) {
                    let read = alone.decode(record.as_bytes());
                    let (rest, mut event) = (&text[start..], Bare::default());
                    if let Some(usual) = beside.usual(rest, Some(record.len()), &mut event) {
                        prop_assert_eq!(usual.length, record.len());
                        prop_assert_eq!(&Line::Event(event.with(beside.shared(rest))), &read);
                    }
                    prop_assert_eq!(beside.unusual(record), read, "{}", record);
                }
                start = end;
            }
        }
    }

    #[test]
    fn every_format_is_read_by_the_name_it_writes() {
        for (format, name) in Format::ALL {
            assert_eq!((name.parse(), format.to_string()), (Ok(format), name.to_owned()));
        }
        let refusal = "nginx".parse::<Format>().unwrap_err().to_string();
        assert!(refusal.starts_with("\"nginx\" is no format; write one of auto, ndjson"));
    }

    #[test]
    fn blank_lines_and_headers_are_skipped() {
        let mut decoder = Decoder::new(&Options::default(), Format::Ndjson);
        for line in ["", "\r", "  \t", "#Version: 1.0", "#Fields: date\r"] {
            assert_eq!(decoder.decode(line.as_bytes()), Line::Skip, "{line:?}");
        }
    }

    #[test]
    fn the_prefix_of_container_runtimes_is_taken_off() {
        let check = |line, rest| assert_eq!(without_cri(line), rest);
        check("2025-12-31T17:37:40.493035218+01:00 stdout F {}", "{}");
        check("2025-12-31T17:37:40Z stderr P x y", "x y");
        check("2025-12-31T17:37:40Z stdin F x", "2025-12-31T17:37:40Z stdin F x");
        check("1.2.3.4 stdout F x", "1.2.3.4 stdout F x");
        check("", "");
    }
}
