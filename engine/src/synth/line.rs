//! Requests as lines of text: plain ones fast, odd ones in every spelling that means the same.
//!
//! The plain path copies fragments that were rendered once and formats three numbers. The odd
//! path renders key by key: any order and spacing, escapes, the other forms of time and
//! latency, nulls and unknown keys. Both say the same request.

use super::population::{Customer, Population};
use super::random::Random;
use super::traffic::{COHORTS, REGIONS, ROUTES};
use super::{Format, Options, TimeForm};
use crate::model::Outcome;
use crate::time::civil;

/// One request, by index into the shape of the data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) ts_ms: i64,
    pub(crate) customer: usize,
    pub(crate) cohort: u8,
    pub(crate) region: u8,
    pub(crate) route: usize,
    pub(crate) release: usize,
    /// 0 where nothing was sent: an excluded request.
    pub(crate) status: u16,
    pub(crate) latency_us: u64,
    pub(crate) count: u32,
    pub(crate) id: Option<u64>,
}

/// Writes requests in one format.
pub(crate) struct Lines {
    format: Format,
    time: TimeForm,
    releases: Vec<String>,
    /// Escaped names, one after the other, and where each ends.
    names: Vec<u8>,
    name_ends: Vec<usize>,
    /// From behind the name to the status, by route.
    middles: Vec<Vec<u8>>,
    /// From behind the latency to the region's end, by release, cohort and region.
    tails: Vec<Vec<u8>>,
}

impl Lines {
    /// For these options, customers and releases.
    pub(crate) fn new(options: &Options, population: &Population, releases: &[String]) -> Lines {
        let (mut names, mut name_ends) = (Vec::new(), Vec::new());
        for customer in &population.customers {
            match options.format {
                Format::Ndjson => names.extend_from_slice(json_inner(&customer.name).as_bytes()),
                Format::Combined => names.extend_from_slice(customer.name.as_bytes()),
            }
            name_ends.push(names.len());
        }
        let middle = |route: &super::traffic::Route| {
            let (service, route) = (route.service, route.route);
            format!("\",\"service\":\"{service}\",\"route\":\"{route}\",\"status\":").into_bytes()
        };
        Lines {
            format: options.format,
            time: options.time,
            releases: releases.to_vec(),
            names,
            name_ends,
            middles: ROUTES.iter().map(middle).collect(),
            tails: tails(releases),
        }
    }

    /// Appends the request as one plain line.
    #[inline]
    pub(crate) fn push(&self, request: &Request, out: &mut Vec<u8>) {
        match self.format {
            Format::Ndjson => self.push_ndjson(request, out),
            Format::Combined => self.push_combined(request, out),
        }
    }

    fn push_ndjson(&self, request: &Request, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ts\":");
        match self.time {
            TimeForm::Epoch => push_number(request.ts_ms as u64, out),
            TimeForm::Rfc3339 => push_rfc3339(request.ts_ms, out),
        }
        out.extend_from_slice(b",\"customer\":\"");
        out.extend_from_slice(self.name(request.customer));
        out.extend_from_slice(&self.middles[request.route]);
        push_number(u64::from(request.status), out);
        out.extend_from_slice(b",\"latency_us\":");
        push_number(request.latency_us, out);
        out.extend_from_slice(&self.tails[tail_index(request)]);
        if let Some(id) = request.id {
            out.extend_from_slice(b",\"id\":\"");
            push_hex(id, out);
            out.push(b'"');
        }
        if request.count != 1 {
            out.extend_from_slice(b",\"count\":");
            push_number(u64::from(request.count), out);
        }
        out.extend_from_slice(b"}\n");
    }

    fn push_combined(&self, request: &Request, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name(request.customer));
        out.extend_from_slice(b" - - [");
        push_clf_time(request.ts_ms, out);
        out.extend_from_slice(b"] \"");
        let route = ROUTES[request.route].route;
        let (path, has_id) = match route.strip_suffix("{id}") {
            Some(path) => (path, true),
            None => (route, false),
        };
        out.extend_from_slice(path.as_bytes());
        if has_id {
            push_number(request.latency_us % 9_973 + 1, out);
        }
        out.extend_from_slice(b" HTTP/1.1\" ");
        push_number(u64::from(request.status), out);
        out.push(b' ');
        push_number(request.latency_us % 65_521, out);
        out.extend_from_slice(b" \"-\" \"synthetic/1.0\"\n");
    }

    #[inline]
    fn name(&self, customer: usize) -> &[u8] {
        let first = if customer == 0 { 0 } else { self.name_ends[customer - 1] };
        &self.names[first..self.name_ends[customer]]
    }

    /// The keys and values of the request in the native form.
    pub(crate) fn pairs(&self, request: &Request, customer: &Customer) -> Pairs {
        let mut pairs = Pairs(Vec::with_capacity(14));
        pairs.push("ts", request.ts_ms.to_string());
        pairs.push("customer", json_text(&customer.name));
        pairs.push("service", json_text(ROUTES[request.route].service));
        pairs.push("route", json_text(ROUTES[request.route].route));
        pairs.push("status", request.status.to_string());
        pairs.push("latency_us", request.latency_us.to_string());
        pairs.push("release", json_text(&self.releases[request.release]));
        pairs.push("cohort", json_text(COHORTS[usize::from(request.cohort)]));
        pairs.push("region", json_text(REGIONS[usize::from(request.region)]));
        if let Some(id) = request.id {
            pairs.push("id", format!("\"{id:016x}\""));
        }
        if request.count != 1 {
            pairs.push("count", request.count.to_string());
        }
        pairs
    }

    /// Appends the request as one line in an odd spelling. `outcome` is said beside, and over,
    /// whatever the status says; `spoilt` gives it a latency that cannot be used.
    pub(crate) fn push_odd(
        &self,
        request: &Request,
        customer: &Customer,
        outcome: Option<Outcome>,
        spoilt: bool,
        random: &mut Random,
        out: &mut Vec<u8>,
    ) {
        let mut pairs = self.pairs(request, customer);
        if random.below(2) == 0 {
            let mut ts = Vec::new();
            push_rfc3339_odd(request.ts_ms, random, &mut ts);
            pairs.set("ts", String::from_utf8(ts).expect("digits are ASCII"));
        }
        if random.below(2) == 0 {
            pairs.set("customer", json_ascii(&customer.name));
        }
        if random.below(2) == 0 {
            let (whole, part) = (request.latency_us / 1_000, request.latency_us % 1_000);
            pairs.rename("latency_us", "latency_ms", format!("{whole}.{part:03}"));
        }
        if spoilt {
            let bad = *random.one_of(&["-1", "-0.001", "3600000001", "1e300"]);
            pairs.rename("latency_ms", "latency_us", String::new());
            pairs.set("latency_us", bad.to_owned());
        }
        if let Some(outcome) = outcome {
            pairs.push("outcome", json_text(outcome_text(outcome)));
        }
        if request.count == 1 && random.below(2) == 0 {
            pairs.push("count", (*random.one_of(&["1", "null"])).to_owned());
        }
        if random.below(2) == 0 {
            pairs.push("extra", "{\"a\":[1,-2.5e3,null,true],\"ts\":\"not this one\"}".to_owned());
        }
        pairs.shuffle(random);
        pairs.render(random, out);
    }
}

/// The word for an outcome.
fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Good => "good",
        Outcome::Bad => "bad",
        Outcome::Excluded => "excluded",
    }
}

fn tails(releases: &[String]) -> Vec<Vec<u8>> {
    let mut tails = Vec::new();
    for release in releases {
        let release = json_text(release);
        for cohort in COHORTS {
            for region in REGIONS {
                let tail = format!(
                    ",\"release\":{release},\"cohort\":\"{cohort}\",\"region\":\"{region}\""
                );
                tails.push(tail.into_bytes());
            }
        }
    }
    tails
}

#[inline]
fn tail_index(request: &Request) -> usize {
    (request.release * COHORTS.len() + usize::from(request.cohort)) * REGIONS.len()
        + usize::from(request.region)
}

/// Keys with their values as JSON text, in order.
pub(crate) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Appends a pair; a key may come twice.
    pub(crate) fn push(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), value));
    }

    /// Replaces the value of a key that is there.
    pub(crate) fn set(&mut self, key: &str, value: String) {
        self.rename(key, key, value);
    }

    /// Replaces a key and its value, where it is there.
    pub(crate) fn rename(&mut self, key: &str, other: &str, value: String) {
        if let Some(pair) = self.0.iter_mut().find(|pair| pair.0 == key) {
            *pair = (other.to_owned(), value);
        }
    }

    /// Takes a key away.
    pub(crate) fn remove(&mut self, key: &str) {
        self.0.retain(|pair| pair.0 != key);
    }

    fn shuffle(&mut self, random: &mut Random) {
        for last in (1..self.0.len()).rev() {
            self.0.swap(last, random.below(last as u64 + 1) as usize);
        }
    }

    /// Appends the object with random white space, one key in sixteen spelt with an escape.
    fn render(&self, random: &mut Random, out: &mut Vec<u8>) {
        let gap = *random.one_of(&["", "", " ", "\t", "  "]);
        out.extend_from_slice(gap.as_bytes());
        for (index, (key, value)) in self.0.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"{" } else { b"," });
            out.extend_from_slice(gap.as_bytes());
            let key = if random.below(16) == 0 { escaped_first(key) } else { key.clone() };
            out.extend_from_slice(format!("\"{key}\"{gap}:{gap}{value}{gap}").as_bytes());
        }
        out.extend_from_slice(b"}");
        out.extend_from_slice(gap.as_bytes());
        out.push(b'\n');
    }

    /// The object without white space or newline.
    pub(crate) fn plain(&self) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", pairs.join(","))
    }
}

/// `ts` as `\u0074s`.
fn escaped_first(key: &str) -> String {
    format!("\\u{:04x}{}", key.as_bytes()[0], &key[1..])
}

/// A JSON string.
pub(crate) fn json_text(text: &str) -> String {
    format!("\"{}\"", json_inner(text))
}

/// The inside of a JSON string, with the escapes that JSON demands and no others.
fn json_inner(text: &str) -> String {
    let mut inner = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' => inner.push_str("\\\""),
            '\\' => inner.push_str("\\\\"),
            '\n' => inner.push_str("\\n"),
            '\t' => inner.push_str("\\t"),
            '\0'..='\u{1f}' => inner.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => inner.push(char),
        }
    }
    inner
}

/// A JSON string in which everything but letters and digits of ASCII is a `\u` escape, pairs
/// of surrogates among them.
fn json_ascii(text: &str) -> String {
    let mut quoted = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_alphanumeric() => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\u{unit:04X}")),
        }
    }
    quoted + "\""
}

/// Appends a number in decimal.
#[inline]
pub(crate) fn push_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    let mut rest = number;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Appends 16 hexadecimal digits.
fn push_hex(number: u64, out: &mut Vec<u8>) {
    let digit = |place: u32| b"0123456789abcdef"[(number >> (60 - 4 * place) & 15) as usize];
    let digits: [u8; 16] = std::array::from_fn(|place| digit(place as u32));
    out.extend_from_slice(&digits);
}

/// Appends `width` decimal digits.
#[inline]
fn push_digits(number: i64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 4];
    let mut rest = number;
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Appends `"2025-12-01T00:00:00.123Z"`, quotes included.
fn push_rfc3339(ts_ms: i64, out: &mut Vec<u8>) {
    push_local(ts_ms, out);
    out.extend_from_slice(b"Z\"");
}

/// Appends the same time in one of the offsets and precisions that RFC 3339 allows.
fn push_rfc3339_odd(ts_ms: i64, random: &mut Random, out: &mut Vec<u8>) {
    let (offset_minutes, offset) =
        *random.one_of(&[(0, "Z"), (0, "+00:00"), (330, "+05:30"), (-480, "-08:00")]);
    push_local(ts_ms + offset_minutes * 60_000, out);
    out.extend_from_slice(random.one_of(&["", "0", "000000"]).as_bytes());
    out.extend_from_slice(offset.as_bytes());
    out.push(b'"');
}

fn push_local(ts_ms: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(ts_ms.div_euclid(86_400_000));
    let in_day_ms = ts_ms.rem_euclid(86_400_000);
    out.push(b'"');
    push_digits(year, 4, out);
    out.push(b'-');
    push_digits(i64::from(month), 2, out);
    out.push(b'-');
    push_digits(i64::from(day), 2, out);
    out.push(b'T');
    push_clock(in_day_ms, out);
    out.push(b'.');
    push_digits(in_day_ms % 1_000, 3, out);
}

/// Appends `00:00:00`.
fn push_clock(in_day_ms: i64, out: &mut Vec<u8>) {
    push_digits(in_day_ms / 3_600_000, 2, out);
    out.push(b':');
    push_digits(in_day_ms / 60_000 % 60, 2, out);
    out.push(b':');
    push_digits(in_day_ms / 1_000 % 60, 2, out);
}

/// Appends `01/Dec/2025:00:00:00 +0000`.
fn push_clf_time(ts_ms: i64, out: &mut Vec<u8>) {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = civil(ts_ms.div_euclid(86_400_000));
    push_digits(i64::from(day), 2, out);
    out.push(b'/');
    out.extend_from_slice(MONTHS[month as usize - 1].as_bytes());
    out.push(b'/');
    push_digits(year, 4, out);
    out.push(b':');
    push_clock(ts_ms.rem_euclid(86_400_000), out);
    out.extend_from_slice(b" +0000");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::population::HOSTILE_NAMES;

    #[test]
    fn names_survive_either_way_of_escaping() {
        for name in HOSTILE_NAMES {
            for text in [json_text(name), json_ascii(name)] {
                assert_eq!(serde_json::from_str::<String>(&text).expect(&text), name);
            }
        }
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 1_764_547_200_123, u64::MAX] {
            let mut out = Vec::new();
            push_number(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
        let mut out = Vec::new();
        push_hex(0x0123_4567_89ab_cdef, &mut out);
        assert_eq!(out, b"0123456789abcdef");
    }

    #[test]
    fn times_read_back() {
        let mut random = Random::new(1, 0);
        for ts_ms in [946_684_800_000, 1_764_547_200_007, 4_133_980_799_999] {
            let mut out = Vec::new();
            push_rfc3339(ts_ms, &mut out);
            assert_eq!(crate::time::parse_rfc3339(&out[1..out.len() - 1]), Some(ts_ms));
            for _ in 0..20 {
                let mut out = Vec::new();
                push_rfc3339_odd(ts_ms, &mut random, &mut out);
                assert_eq!(crate::time::parse_rfc3339(&out[1..out.len() - 1]), Some(ts_ms));
            }
            let mut out = Vec::new();
            push_clf_time(ts_ms, &mut out);
            assert_eq!(out.len(), 26);
        }
        let mut out = Vec::new();
        push_clf_time(1_431_857_103_000, &mut out);
        assert_eq!(out, b"17/May/2015:10:05:03 +0000");
    }
}
