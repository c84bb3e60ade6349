//! Common and Combined logs, in the forms that servers write:
//!
//! ```text
//! address ident user [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 203023 "referer" "agent"
//! host:port address ident user […] …     a virtual host before
//! address ident […] …                    the user missing
//! … "router" "http://server" 42ms        Traefik: the latency is the last field
//! ```
//!
//! After the size any fields may follow. A request of garbage counts: it was answered. The line
//! is scanned from the left; the time in brackets is what everything else is placed by.
//!
//! Two readers give the same answer. [`usual`] takes `address - user [time] "request" status size`
//! in one pass, with what it remembers of lines before: minutes and requests repeat. On any doubt
//! it gives up, and [`decode`] decides, which alone refuses. A property test holds the two against
//! each other.

use core::net::IpAddr;
use core::ops::Range;

use super::access::{self, Access, Request};
use super::route::{ROUTE_MALFORMED, request_line, write_route};
use super::window::{self, BEGIN_BYTES, Begin, newline_or_end, plain_end, word_end};
use super::{Read, Usual, clock};
use crate::model::{Alike, Bare, Event, Latency};
use crate::short;
use crate::time::digits;

/// Reads the usual line that `text` begins with into `event`, which is as by default, but for its
/// service and dimensions: those are [`shared`]. `None` where [`decode`] is to decide, whatever
/// stands in `event` then. The line has `length` bytes; where that is `None` it ends at the first
/// newline, or with the text.
pub(super) fn usual<'t>(
    access: &Access,
    text: &'t str,
    length: Option<usize>,
    memo: &mut Memo,
    event: &mut Bare<'t>,
) -> Option<Usual> {
    let bytes = text.as_bytes();
    let address_end = word_end(bytes, 0);
    if address_end == 0 || bytes[0] == b'#' {
        return None;
    }
    let user_start = address_end + 3;
    let behind = bytes[address_end..].first_chunk::<6>()?;
    // Nearly all lines have no user.
    let user_end = if behind == b" - - [" {
        user_start + 1
    } else if behind.starts_with(b" - ") && behind[3] != b'[' {
        word_end(bytes, user_start)
    } else {
        return None;
    };
    let [b' ', b'[', time @ .., b']', b' ', b'"'] = bytes[user_end..].first_chunk::<31>()? else {
        return None;
    };
    let request_start = user_end + 31;
    let request_end = plain_end(bytes, request_start);
    let [b'"', b' ', _, _, _, b' '] = bytes[request_end..].first_chunk::<6>()? else {
        return None;
    };
    event.status = window::status(bytes, request_end + 2)?;
    let size_start = request_end + 6;
    let size_end = match window::digits(bytes, size_start) {
        0 if bytes.get(size_start) == Some(&b'-') => size_start + 1,
        0 => return None,
        digits => size_start + digits,
    };
    // Up to here there is no newline, so that only the end of a record can have been passed.
    let length = length.unwrap_or_else(|| newline_or_end(bytes, size_end));
    match bytes.get(size_end..length)? {
        // As nearly all lines end.
        [b' ', .., b'"'] => {}
        rest => match rest.strip_suffix(b"\r").unwrap_or(rest) {
            [] => {}
            rest @ [b' ', ..] if !rest.ends_with(b"ms") => {}
            _ => return None,
        },
    }
    let peer = PeerPlace { address_end, user_start, user_end };
    let customer = match &access.customer_field {
        None => text.get(..address_end)?,
        Some(name) => peer.of(text).field(name)?,
    };
    if !access::is_customer(customer) {
        return None;
    }
    event.customer = customer;
    event.ts_ms = memo.minute.ts_ms(time).filter(|ms| clock::is_in_years(*ms))?;
    let alike = memo.requests.find(text, request_start..request_end, access);
    if access.attributes.is_empty() {
        return Some(Usual { length, alike });
    }
    // Attributes are of the line, not of its request.
    memo.peer = peer;
    Some(Usual { length, alike: Alike::NONE })
}

/// An event with the service and the dimensions of the usual line that was read last, which `text`
/// begins with, and nothing else.
pub(super) fn shared<'a>(access: &'a Access, text: &'a str, memo: &'a Memo) -> Event<'a> {
    Event {
        service: access.service(),
        route: memo.requests.route(),
        attributes: access.attributes(|name| memo.peer.of(text).field(name)),
        ..Event::default()
    }
}

/// What is remembered of lines before; for speed alone, but for where the address and the user of
/// the last one stand, if it has attributes.
#[derive(Default)]
pub(super) struct Memo {
    minute: KnownMinute,
    requests: KnownRequests,
    peer: PeerPlace,
}

/// Where the address and the user of a line stand.
#[derive(Clone, Copy, Default)]
struct PeerPlace {
    address_end: usize,
    user_start: usize,
    user_end: usize,
}

impl PeerPlace {
    fn of(self, line: &str) -> Peer<'_> {
        let PeerPlace { address_end, user_start, user_end } = self;
        Peer { host: "-", address: &line[..address_end], user: &line[user_start..user_end] }
    }
}

/// The minute of the line before: what stands before and behind the seconds of its time.
#[derive(Default)]
struct KnownMinute {
    before: [u8; 18],
    behind: [u8; 6],
    ms: i64,
}

impl KnownMinute {
    /// As [`clock::clf`].
    #[inline(always)]
    fn ts_ms(&mut self, time: &[u8; 26]) -> Option<i64> {
        let (before, rest) = time.split_first_chunk()?;
        let (second, behind) = rest.split_first_chunk::<2>()?;
        let second_ms = digits(second)? * 1_000;
        if *before == self.before && *behind == self.behind {
            return (second_ms <= 60_000).then_some(self.ms + second_ms);
        }
        let ts_ms = clock::clf(std::str::from_utf8(time).ok()?)?;
        *self =
            KnownMinute { before: *before, behind: behind.try_into().ok()?, ms: ts_ms - second_ms };
        Some(ts_ms)
    }
}

/// Into how many places requests go by their hash; a new one takes the place of another.
const KNOWN_REQUESTS: usize = 256;

/// How many places are looked at for a request, from the one of its hash: of two that are often
/// asked for neither is to take the other's.
const PROBES: usize = 4;

/// Longer ones are hardly asked for twice.
const KNOWN_REQUEST_BYTES_MAX: usize = 256;

/// Requests with their routes.
#[derive(Default)]
struct KnownRequests {
    /// None before the first request.
    places: Vec<KnownRequest>,
    /// How many requests have come to a place.
    taken: u64,
    /// The place of the request before.
    last: usize,
}

#[derive(Clone)]
struct KnownRequest {
    begin: Begin,
    length: usize,
    /// What stands behind the begin, which may end within a character.
    rest: Vec<u8>,
    route: String,
    /// How many had come before: no other request has the same.
    number: u64,
}

impl KnownRequest {
    /// That of a place that is free, or was last taken by a request that is too long to be kept.
    const NONE: KnownRequest = KnownRequest {
        begin: Begin::NEVER,
        length: 0,
        rest: Vec::new(),
        route: String::new(),
        number: 0,
    };
}

impl KnownRequests {
    /// What events of a request are alike by, which stands in `text` without a control character.
    #[inline(always)]
    fn find(&mut self, text: &str, request: Range<usize>, access: &Access) -> Alike {
        if self.places.is_empty() {
            self.places.resize(KNOWN_REQUESTS, KnownRequest::NONE);
        }
        let (bytes, start, length) = (text.as_bytes(), request.start, request.len());
        let begin = Begin::of(bytes, start, length);
        let home = short::place(begin.mixed() ^ length as u64, KNOWN_REQUESTS);
        for place in home..home + PROBES {
            let known = &self.places[place % KNOWN_REQUESTS];
            if known.begin.is(&begin)
                && known.length == length
                && (length <= BEGIN_BYTES || known.rest == bytes[start + BEGIN_BYTES..request.end])
            {
                self.last = place % KNOWN_REQUESTS;
                return Alike(known.number);
            }
        }
        self.take(home, begin, &text[request], access)
    }

    /// The same for one that has no place: it gets one of those from `home` on.
    #[inline(never)]
    fn take(&mut self, home: usize, begin: Begin, request: &str, access: &Access) -> Alike {
        let place = |probe: usize| (home + probe) % KNOWN_REQUESTS;
        let is_free = |place: &usize| self.places[*place].begin.is(&Begin::NEVER);
        let free = (0..PROBES).map(place).find(is_free);
        self.last = free.unwrap_or_else(|| place(self.taken as usize % PROBES));
        let known = &mut self.places[self.last];
        match request_line(request) {
            Some((method, target)) => {
                write_route(method, target, access.patterns(), &mut known.route);
            }
            None => ROUTE_MALFORMED.clone_into(&mut known.route),
        }
        let is_kept = request.len() <= KNOWN_REQUEST_BYTES_MAX;
        known.begin = if is_kept { begin } else { Begin::NEVER };
        known.length = request.len();
        known.rest.clear();
        if is_kept {
            known.rest.extend_from_slice(request.as_bytes().get(BEGIN_BYTES..).unwrap_or_default());
        }
        known.number = self.taken;
        self.taken += 1;
        Alike(known.number)
    }

    /// The route of the request before.
    fn route(&self) -> &str {
        &self.places[self.last].route
    }
}

/// Reads one line.
pub(super) fn decode<'a>(
    access: &'a Access,
    line: &'a str,
    route: &'a mut String,
) -> Read<Event<'a>> {
    let (before, ts_ms, after) =
        split_at_time(line).ok_or_else(|| "not a Common or Combined log line".to_owned())?;
    let peer = Peer::of(before).ok_or_else(|| "no address before the time".to_owned())?;
    let answer =
        Answer::of(after).ok_or_else(|| "no request and status after the time".to_owned())?;
    let field = |name: &str| peer.field(name);
    let request = Request {
        ts_ms: clock::in_years(ts_ms)?,
        status: access::status(answer.status)?,
        customer: access.customer(peer.address, field)?,
        request: request_line(answer.request),
        latency: answer.latency,
        attributes: access.attributes(field),
    };
    Ok(access.event(request, route))
}

/// What stands before the time, the time, and what stands after it. Brackets that hold no time
/// belong to a name.
fn split_at_time(line: &str) -> Option<(&str, i64, &str)> {
    let opening = line.match_indices(" [").map(|(at, _)| at);
    opening.take_while(|at| line.len() - at >= 28).find_map(|at| {
        let ts_ms = clock::clf(line.get(at + 2..at + 28)?)?;
        Some((&line[..at], ts_ms, line[at + 28..].strip_prefix("] ")?))
    })
}

/// Who asked whom.
struct Peer<'a> {
    host: &'a str,
    address: &'a str,
    user: &'a str,
}

impl<'a> Peer<'a> {
    /// Splits `[host] address ident [user]`.
    ///
    /// With four words and more the first is a host unless the second is the `-` of an absent
    /// ident (then the user's name holds spaces); with three, if the second is an address.
    fn of(text: &'a str) -> Option<Peer<'a>> {
        let (first, rest) = text.split_once(' ')?;
        let (second, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let is_address = |word: &str| word.parse::<IpAddr>().is_ok();
        let has_host = second != "-"
            && (rest.contains(' ')
                || (!rest.is_empty() && is_address(second) && !is_address(first)));
        let peer = if has_host {
            let user = rest.split_once(' ').map_or("-", |(_, user)| user);
            Peer { host: without_port(first), address: second, user }
        } else {
            Peer { host: "-", address: first, user: if rest.is_empty() { "-" } else { rest } }
        };
        (!peer.address.is_empty() && !second.is_empty()).then_some(peer)
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        match name {
            "address" => Some(self.address),
            "user" => Some(self.user),
            "host" => Some(self.host),
            _ => None,
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What was asked and answered.
struct Answer<'a> {
    request: &'a str,
    status: &'a str,
    latency: Latency,
}

impl<'a> Answer<'a> {
    /// Reads `"request" status size …`.
    ///
    /// The request ends at the first quote that no backslash escapes. Where no status follows
    /// it, the server did not escape what the client sent, and the first quote that a status
    /// follows ends it.
    fn of(text: &'a str) -> Option<Answer<'a>> {
        let text = text.strip_prefix('"')?;
        let end = closing_quote(text)?;
        let tail = |end: usize| text[end + 1..].strip_prefix(' ').and_then(Tail::of);
        let (end, tail) = match tail(end) {
            Some(tail) => (end, tail),
            None => text.match_indices('"').find_map(|(end, _)| Some((end, tail(end)?)))?,
        };
        Some(Answer { request: &text[..end], status: tail.status, latency: tail.latency() })
    }
}

/// The first quote that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', &text.as_bytes()[from..])?;
        if text.as_bytes()[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
        if from >= text.len() {
            return text.find('"');
        }
    }
}

/// Status, size and what follows.
struct Tail<'a> {
    status: &'a str,
    extra: &'a str,
}

impl<'a> Tail<'a> {
    fn of(text: &'a str) -> Option<Tail<'a>> {
        let (status, rest) = text.split_once(' ')?;
        let (size, extra) = rest.split_once(' ').unwrap_or((rest, ""));
        let is_size =
            size == "-" || (!size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit()));
        (access::is_status(status) && is_size).then_some(Tail { status, extra })
    }

    /// Traefik ends its lines with the duration in whole milliseconds.
    fn latency(&self) -> Latency {
        let last = self.extra.rsplit(' ').next().unwrap_or("");
        let ms = last.strip_suffix("ms").filter(|ms| !ms.is_empty() && ms.len() <= 18);
        match ms.and_then(|ms| digits(ms.as_bytes())) {
            Some(ms) => super::value::latency(ms as f64 * 1_000.0),
            None => Latency::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::decode::Options;
    use crate::decode::route::ROUTE_MALFORMED;

    const TIME: &str = "[17/May/2015:10:05:03 +0000]";

    fn read(line: &str) -> Result<(String, u16, String, Latency), String> {
        let access = Access::new(&Options::default());
        let mut route = String::new();
        let event = decode(&access, line, &mut route)?;
        Ok((event.customer.to_owned(), event.status, event.route.to_owned(), event.latency))
    }

    fn check(line: &str, customer: &str, status: u16, route: &str) {
        let expected = (customer.to_owned(), status, route.to_owned(), Latency::Absent);
        assert_eq!(read(line), Ok(expected), "{line}");
    }

    #[test]
    fn every_form_before_the_time_is_read() {
        for before in [
            "1.2.3.4 - -",
            "1.2.3.4 - frank",
            "1.2.3.4 - Frank N. Furter",
            "1.2.3.4 -",
            "example.com 1.2.3.4 - -",
            "example.com:443 1.2.3.4 - frank",
            "example.com 1.2.3.4 -",
        ] {
            check(&format!(r#"{before} {TIME} "GET / HTTP/1.1" 200 5"#), "1.2.3.4", 200, "GET /");
        }
        let line = format!(r#"client.example.com - - {TIME} "GET / HTTP/1.1" 200 5"#);
        check(&line, "client.example.com", 200, "GET /");
    }

    #[test]
    fn a_request_of_garbage_counts() {
        let line = |request: &str| format!(r#"::1 - - {TIME} "{request}" 400 157 "-" "-""#);
        for request in ["", "-", "HELP", r"\x16\x03", r#"a\"b"#, r#"a"b"#, r"\", r#"" 1"#] {
            check(&line(request), "::1", 400, ROUTE_MALFORMED);
        }
        check(&line(r#"GET /\"7" HTTP/1.1"#), "::1", 400, r#"GET /\"7""#);
        check(&line("GET /\u{FFFD} HTTP/1.1"), "::1", 400, "GET /\u{FFFD}");
    }

    #[test]
    fn the_last_field_of_traefik_is_the_latency() {
        let latency = |end: &str| {
            let line = format!(r#"::1 - - {TIME} "GET / HTTP/1.1" 200 5 "-" "a 7ms" {end}"#);
            read(&line).map(|(_, _, _, latency)| latency)
        };
        assert_eq!(latency(r#"1 "r" "u" 42ms"#), Ok(Latency::Us(42_000)));
        assert_eq!(latency(r#"1 "r" "u" 0ms"#), Ok(Latency::Us(0)));
        assert_eq!(latency(r#"1 "r" "u" 3600001ms"#), Ok(Latency::Invalid));
        for end in ["", "0.003", "ms", "-1ms", "\"9ms\""] {
            assert_eq!(latency(end), Ok(Latency::Absent), "{end}");
        }
    }

    #[test]
    fn lines_that_are_no_access_lines_are_refused() {
        let check =
            |line: &str, reason: &str| assert_eq!(read(line), Err(reason.to_owned()), "{line}");
        check("", "not a Common or Combined log line");
        check("2021/12/01 13:53:33 [error] 31#31: *46", "not a Common or Combined log line");
        check(&format!(r#"1.2.3.4 - - {TIME} "GET /" - - "-""#), "no status");
        check(&format!(r#"1.2.3.4 - - {TIME} "GET /" 600 1"#), "the status is outside 100 to 599");
        let no_answer = "no request and status after the time";
        check(&format!(r#"1.2.3.4 - - {TIME} "GET / HTTP/1.1""#), no_answer);
        check(&format!(r#"1.2.3.4 - - {TIME} "GET / HTTP/1.1" 200"#), no_answer);
        check(&format!(r#"1.2.3.4 - - {TIME} GET / HTTP/1.1 200 1"#), no_answer);
        check(&format!(r#"1.2.3.4 {TIME} "GET / HTTP/1.1" 200 5"#), "no address before the time");
        let old = r#"1.2.3.4 - - [17/May/1999:10:05:03 +0000] "GET / HTTP/1.1" 200 5"#;
        check(old, "the time is outside the years 2000 to 2100");
    }

    #[test]
    fn the_customer_may_be_the_user_or_the_host() {
        let customer = |field: &str, line: &str| {
            let options = Options { customer_field: Some(field.into()), ..Options::default() };
            let (access, mut route) = (Access::new(&options), String::new());
            decode(&access, line, &mut route).map(|event| event.customer.to_owned())
        };
        let line = format!(r#"example.com:80 1.2.3.4 - frank {TIME} "GET /" 200 5"#);
        assert_eq!(customer("user", &line), Ok("frank".into()));
        assert_eq!(customer("host", &line), Ok("example.com".into()));
        assert_eq!(customer("address", &line), Ok("1.2.3.4".into()));
        assert_eq!(customer("tenant", &line), Err("this format has no field \"tenant\"".into()));
        let line = format!(r#"1.2.3.4 - - {TIME} "GET /" 200 5"#);
        assert_eq!(customer("user", &line), Err("no customer: user is empty".into()));
    }

    /// A line of likely and unlikely parts, some bytes of it changed.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let one_of = |parts: &'static [&'static str]| prop::sample::select(parts);
        let before = (
            one_of(&["1.2.3.4", "cust_1", "::1", "ä", "\u{FFFD}", "[x]", "-", "", "a b"]),
            one_of(&[" - ", " - ", " - ", " x ", " ", "  "]),
            one_of(&["-", "-", "-", "frank", "[x", "a b", ""]),
        );
        let time = (
            one_of(&["17/May/2015", "17/May/2015", "29/Feb/2015", "01/Jan/1999", "1/May/2015"]),
            one_of(&["10:05", "10:05", "10:06", "24:00"]),
            one_of(&["00", "07", "59", "60", "61", "x7"]),
            one_of(&["+0000", "+0000", "-0730", "+00:0"]),
        );
        let request = one_of(&[
            "GET / HTTP/1.1",
            "GET /v1/orders/4711?x HTTP/1.1",
            "POST /a",
            "",
            "-",
            r"\x16\x03",
            r#"a\"b"#,
            r#"a"b"#,
            r#"" 1"#,
            "GET /\u{FFFD} HTTP/1.1",
        ]);
        let after = (
            one_of(&["200", "503", "404", "000", "0", "-", "600", "99", "+20"]),
            one_of(&["5", "-", "203023", "", "x"]),
            one_of(&["", " ", " \"-\" \"curl/8\"", " 1 \"r\" \"u\" 42ms", " ms", " \"9ms\""]),
        );
        let edits = prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(b"\"\\[]/: -09ax\xff".to_vec())),
            0..2,
        );
        (before, time, request, after, edits).prop_map(|(before, time, request, after, edits)| {
            let (address, ident, user) = before;
            let (day, minute, second, zone) = time;
            let (status, size, extra) = after;
            let line = format!(
                r#"{address}{ident}{user} [{day}:{minute}:{second} {zone}] "{request}" {status} {size}{extra}"#
            );
            let mut line = line.into_bytes();
            for (place, byte) in edits {
                let at = place.index(line.len());
                line[at] = byte;
            }
            line
        })
    }

    /// What the one pass makes of a line.
    fn one_pass<'a>(
        access: &'a Access,
        text: &'a str,
        length: Option<usize>,
        memo: &'a mut Memo,
    ) -> Option<(Event<'a>, Usual)> {
        let mut event = Bare::default();
        let usual = usual(access, text, length, memo, &mut event)?;
        Some((event.with(shared(access, text, memo)), usual))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_one_pass_gives_what_the_other_reader_gives(
            lines in prop::collection::vec(line(), 1..8),
            field in prop::sample::select(&[None, Some("user"), Some("host"), Some("x")][..]),
            // Records of a log follow each other without a newline.
            separator in prop::sample::select(&["\n", "\r\n", ""][..]),
            with_attributes in any::<bool>(),
            with_length in any::<bool>(),
        ) {
            let options = Options {
                customer_field: field.map(str::to_owned),
                attributes: if with_attributes { vec!["user".into()] } else { Vec::new() },
                routes: vec!["/v1/orders/{order}".into()],
                ..Options::default()
            };
            let (access, mut memo) = (Access::new(&options), Memo::default());
            let line_of = |line: &Vec<u8>| String::from_utf8_lossy(line).into_owned();
            let lines: Vec<String> = lines.iter().map(line_of).collect();
            let text = lines.join(separator);
            let mut routes = HashMap::new();
            let mut start = 0;
            for line in &lines {
                let mut route = String::new();
                let other = decode(&access, line, &mut route);
                let length = Some(line.len()).filter(|_| separator.is_empty() || with_length);
                if let Some((event, usual)) = one_pass(&access, &text[start..], length, &mut memo) {
                    let Usual { length, alike } = usual;
                    prop_assert_eq!(text[start..][..length].trim_end_matches('\r'), line);
                    if alike != Alike::NONE {
                        let known = routes.entry(alike).or_insert(event.route.to_owned());
                        prop_assert_eq!(&*known, event.route);
                        prop_assert_eq!(event.attributes, Event::default().attributes);
                    }
                    prop_assert_eq!(Ok(event), other, "{}", line);
                }
                start += line.len() + separator.len();
            }
        }
    }

    #[test]
    fn a_line_that_is_cut_off_is_not_read_on() {
        let (access, mut memo) = (Access::new(&Options::default()), Memo::default());
        let text = format!(r#"cust_1 - - {TIME} "GET / HTTP/1.1" 200 5 "-""#);
        for length in 0..text.len() {
            let mut route = String::new();
            let other = decode(&access, &text[..length], &mut route);
            if let Some((event, usual)) = one_pass(&access, &text, Some(length), &mut memo) {
                assert_eq!((Ok(event), usual.length), (other, length));
            }
        }
    }

    #[test]
    fn requests_are_alike_by_their_route_also_where_one_takes_the_place_of_another() {
        let (access, mut memo) = (Access::new(&Options::default()), Memo::default());
        let mut routes = HashMap::new();
        for n in (0..5_000).map(|n| n * n % 700) {
            // Of both sides of what is compared at once, and longer than what is kept.
            let path = match n % 50 {
                49 => format!("/page{}-{n}", "x".repeat(KNOWN_REQUEST_BYTES_MAX)),
                part => format!("/page{}-{n}", "ä".repeat(part)),
            };
            let line = format!(r#"cust_1 - - {TIME} "GET {path} HTTP/1.1" 200 5"#);
            let mut route = String::new();
            let other = decode(&access, &line, &mut route);
            let (event, usual) = one_pass(&access, &line, None, &mut memo).unwrap();
            assert_eq!(Ok(event), other);
            assert_eq!(*routes.entry(usual.alike).or_insert(n), n);
        }
        assert!(routes.len() < 4_000, "some are known again");
    }

    #[test]
    fn usual_lines_are_read_in_one_pass() {
        let (access, mut memo) = (Access::new(&Options::default()), Memo::default());
        for request in ["GET /a HTTP/1.1", "GET /a HTTP/1.1", "", "GET /b HTTP/1.1", "\u{FFFD}"] {
            for end in ["5", "-", r#"5 "-" "curl/8.14.1""#] {
                let line = format!(r#"cust_1 - - {TIME} "{request}" 200 {end}"#);
                let mut route = String::new();
                let other = decode(&access, &line, &mut route).ok();
                let read = one_pass(&access, &line, None, &mut memo).map(|(event, _)| event);
                assert!(other.is_some() && read == other, "{line}");
            }
        }
    }
}
