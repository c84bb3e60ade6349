//! JSON access logs: nginx, Caddy, Traefik and Envoy.
//!
//! They differ in the names of their keys and in the unit of the duration, so each is a table
//! of [`Keys`]. nginx has no keys of its own (`log_format … escape=json` is written by the
//! operator): the names that its documentation and its users use are taken. Of several names
//! for one thing the first that holds a value is read. Numbers may be strings here, since
//! nginx quotes what the operator quotes.
//!
//! The times are UTC: `StartUTC` of Traefik, the start of the request of Envoy.

use super::access::{self, Access, Request};
use super::json::{self, Found};
use super::route::request_line;
use super::value::{self, Text};
use super::{Read, clock};
use crate::model::{ATTRIBUTES_MAX, Event, Latency};

/// Which keys of a product's log mean what; dotted ones are paths.
pub(super) struct Keys {
    time: &'static [&'static str],
    status: &'static [&'static str],
    client: &'static [&'static str],
    method: &'static [&'static str],
    target: &'static [&'static str],
    /// Method, target and protocol in one, where there is no method.
    request: &'static [&'static str],
    duration: &'static [&'static str],
    /// Microseconds in one unit of the duration.
    duration_unit_us: f64,
}

/// nginx with a JSON `log_format`; `$request_time` is in seconds.
pub(super) static NGINX: Keys = Keys {
    time: &["time_iso8601", "msec", "time_local", "timestamp", "@timestamp", "time", "ts"],
    status: &["status", "status_code", "http_status"],
    client: &["remote_addr", "client_ip", "remote_ip", "client", "clientip"],
    method: &["request_method", "method"],
    target: &["request_uri", "uri", "path", "url"],
    request: &["request"],
    duration: &["request_time"],
    duration_unit_us: 1_000_000.0,
};

/// Caddy 2, <https://caddyserver.com/docs/caddyfile/directives/log>; seconds. Before 2.5 the
/// client was `remote_addr`.
pub(super) static CADDY: Keys = Keys {
    time: &["ts"],
    status: &["status"],
    client: &["request.client_ip", "request.remote_ip", "request.remote_addr"],
    method: &["request.method"],
    target: &["request.uri"],
    request: &[],
    duration: &["duration"],
    duration_unit_us: 1_000_000.0,
};

/// Traefik, <https://doc.traefik.io/traefik/observability/access-logs/>; nanoseconds.
pub(super) static TRAEFIK: Keys = Keys {
    time: &["StartUTC", "StartLocal", "time"],
    status: &["DownstreamStatus"],
    client: &["ClientHost", "ClientAddr"],
    method: &["RequestMethod"],
    target: &["RequestPath"],
    request: &[],
    duration: &["Duration"],
    duration_unit_us: 0.001,
};

/// Envoy with the JSON format of Envoy Gateway and of Istio; milliseconds. The client is the
/// first address that the request was forwarded for, as in the text form.
pub(super) static ENVOY: Keys = Keys {
    time: &["start_time", "timestamp", "@timestamp", "time"],
    status: &["response_code"],
    client: &[
        "x-forwarded-for",
        "x_forwarded_for",
        "downstream_remote_address",
        "downstream_direct_remote_address",
    ],
    method: &["method", ":method", "request_method"],
    target: &["x-envoy-original-path", "x-envoy-origin-path", "path", ":path"],
    request: &[],
    duration: &["duration"],
    duration_unit_us: 1_000.0,
};

/// The reader of one product's lines.
pub(super) struct JsonLog {
    access: Access,
    keys: &'static Keys,
    /// All wanted keys: those of `keys` in the order of its fields, the customer's, the
    /// attributes'.
    names: Vec<String>,
}

impl JsonLog {
    pub(super) fn new(access: Access, keys: &'static Keys) -> JsonLog {
        let known = [
            keys.time,
            keys.status,
            keys.client,
            keys.method,
            keys.target,
            keys.request,
            keys.duration,
        ];
        let names = known.into_iter().flatten().map(|name| (*name).to_owned());
        let names = names.chain(access.customer_field.clone());
        let names = names.chain(access.attributes.iter().cloned()).collect();
        JsonLog { access, keys, names }
    }

    /// What this reader shares with readers of other forms of the same family.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// Reads one line.
    pub(super) fn decode<'a>(
        &'a self,
        line: &'a str,
        texts: &'a mut String,
        route: &'a mut String,
    ) -> Read<Event<'a>> {
        texts.clear();
        let mut values = Values { found: json::pick(&self.names, line)?, next: 0, texts };
        let time = values.first(self.keys.time).ok_or_else(|| "no time".to_owned())?;
        let status = values.first(self.keys.status).ok_or_else(|| "no status".to_owned())?;
        let client = values.first(self.keys.client);
        let method = values.first(self.keys.method);
        let target = values.first(self.keys.target);
        let request = values.first(self.keys.request);
        let duration = values.first(self.keys.duration);
        let customer = self.access.customer_field.as_deref().map(|name| (name, values.one()));
        let mut attributes = [const { None }; ATTRIBUTES_MAX];
        for attribute in attributes.iter_mut().take(self.access.attributes.len()) {
            *attribute = values.one();
        }

        let texts: &'a str = values.texts;
        let get = |text: Option<Text<'a>>| text.map_or("", |text| text.get(texts));
        let customer = match customer {
            Some((name, found)) => access::customer(name, get(found)),
            None => access::customer("the client address", access::address(get(client))),
        };
        let ts_ms = clock::text(time.get(texts))
            .ok_or("the time is in no known form, or outside the years 2000 to 2100")?;
        let request = Request {
            ts_ms: clock::in_years(ts_ms)?,
            status: access::status(status.get(texts))?,
            customer: customer?,
            request: match (method, target) {
                (Some(method), Some(target)) => Some((method.get(texts), target.get(texts))),
                _ => request_line(get(request)),
            },
            latency: self.latency(get(duration)),
            attributes: attributes.map(get),
        };
        Ok(self.access.event(request, route))
    }

    fn latency(&self, text: &str) -> Latency {
        if text.is_empty() {
            return Latency::Absent;
        }
        let units = text.parse::<f64>();
        units.map_or(Latency::Invalid, |units| value::latency(units * self.keys.duration_unit_us))
    }
}

/// The values of a line, taken in the order of the wanted names.
struct Values<'a> {
    found: Found<'a>,
    next: usize,
    texts: &'a mut String,
}

impl<'a> Values<'a> {
    /// The first of the next values that is not absent.
    fn first(&mut self, names: &[&str]) -> Option<Text<'a>> {
        let all = &self.found[self.next..self.next + names.len()];
        self.next += names.len();
        all.iter().flatten().find_map(|raw| scalar(raw, self.texts))
    }

    /// The next value.
    fn one(&mut self) -> Option<Text<'a>> {
        self.first(&[""])
    }
}

/// The text of a string or a number; `None` for what stands for nothing (`null`, the empty
/// string, `-`) and for nested values.
fn scalar<'a>(raw: &'a str, texts: &mut String) -> Option<Text<'a>> {
    match raw {
        "null" | "\"\"" | "\"-\"" => None,
        _ if raw.starts_with('"') => json::text(raw, texts),
        _ if raw.starts_with(['{', '[']) => None,
        _ => Some(Text::Plain(raw)),
    }
}
