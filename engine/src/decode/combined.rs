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

use core::net::IpAddr;

use super::access::{self, Access, Request};
use super::route::request_line;
use super::{Read, clock};
use crate::model::{Event, Latency};

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
        match ms.and_then(|ms| crate::time::digits(ms.as_bytes())) {
            Some(ms) => super::value::latency(ms as f64 * 1_000.0),
            None => Latency::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
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
}
