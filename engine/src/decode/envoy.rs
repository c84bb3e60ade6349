//! Envoy's text form, the default and Istio's longer one:
//!
//! ```text
//! [time] "METHOD path protocol" status flags received sent duration upstream_time
//!     "x-forwarded-for" "user-agent" "x-request-id" "authority" "upstream_host"
//! ```
//!
//! Istio puts three fields after the flags and six after the upstream's host, of which the
//! fourth is the client's address. Source: Envoy's "Access logging, default format string" and
//! Istio's "Envoy Access Logs". The duration is in milliseconds.

use super::access::{self, Access, Request, Word};
use super::route::request_line;
use super::{Read, clock, value};
use crate::model::{Event, Latency};

/// How many words after the flags are looked at: the longest known form has 18.
const WORDS_MAX: usize = 24;

/// Where words stand after the first of `received sent duration`.
mod place {
    pub const DURATION: usize = 2;
    pub const FORWARDED_FOR: usize = 4;
    pub const USER_AGENT: usize = 5;
    pub const REQUEST_ID: usize = 6;
    pub const AUTHORITY: usize = 7;
    pub const UPSTREAM_HOST: usize = 8;
    pub const DOWNSTREAM_ADDRESS: usize = 12;
}

/// Reads one line.
pub(super) fn decode<'a>(
    access: &'a Access,
    line: &'a str,
    route: &'a mut String,
) -> Read<Event<'a>> {
    let parts = Parts::of(line).ok_or_else(|| "not an Envoy access log line".to_owned())?;
    let ts_ms = clock::text(parts.time).ok_or_else(|| "the time takes RFC 3339".to_owned())?;
    let forwarded = parts.word(place::FORWARDED_FOR);
    let client = match forwarded {
        "" | "-" => parts.word(place::DOWNSTREAM_ADDRESS),
        _ => forwarded,
    };
    let field = |name: &str| parts.field(name);
    let request = Request {
        ts_ms: clock::in_years(ts_ms)?,
        status: access::status(parts.status)?,
        customer: access.customer(access::address(client), field)?,
        request: request_line(parts.request),
        latency: parts.latency(),
        attributes: access.attributes(field),
    };
    Ok(access.event(request, route))
}

/// The line cut into its parts.
struct Parts<'a> {
    time: &'a str,
    request: &'a str,
    status: &'a str,
    /// From the bytes received on.
    words: Vec<Word<'a>>,
}

impl<'a> Parts<'a> {
    fn of(line: &'a str) -> Option<Parts<'a>> {
        let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
        let mut words = access::words(rest);
        let request = words.next().filter(|word| word.is_quoted)?.text;
        let status = words.next().filter(|word| access::is_status(word.text))?.text;
        let mut words: Vec<Word<'a>> = words.skip(1).take(WORDS_MAX).collect();
        let is_count = |word: &Word<'_>| {
            !word.is_quoted && (word.text == "-" || word.text.bytes().all(|b| b.is_ascii_digit()))
        };
        let is_here = |four: &[Word<'_>]| four.iter().all(is_count) && four[0].text != "-";
        let start = words.windows(4).position(is_here)?;
        words.drain(..start);
        Some(Parts { time, request, status, words })
    }

    fn word(&self, place: usize) -> &'a str {
        self.words.get(place).map_or("", |word| word.text)
    }

    fn latency(&self) -> Latency {
        let ms = self.word(place::DURATION).parse::<f64>();
        ms.map_or(Latency::Absent, |ms| value::latency(ms * 1_000.0))
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        let place = match name {
            "x-forwarded-for" => place::FORWARDED_FOR,
            "user-agent" => place::USER_AGENT,
            "x-request-id" => place::REQUEST_ID,
            ":authority" | "authority" => place::AUTHORITY,
            "upstream_host" => place::UPSTREAM_HOST,
            "downstream_remote_address" => place::DOWNSTREAM_ADDRESS,
            _ => return None,
        };
        Some(self.word(place))
    }
}
