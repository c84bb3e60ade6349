//! Access logs of AWS: application load balancers and CloudFront.
//!
//! Both have fixed columns that AWS only ever adds to at the end. ALB: words, those with spaces
//! in quotes; the latency is the sum of the three processing times, of which -1 says that there
//! was none; the status is the load balancer's, what the client got. CloudFront: tab-separated,
//! in the order of its standard log; the time to the last byte is in seconds. A CloudFront file
//! whose `#Fields:` header tells another order is refused by [`super::detect()`], because a
//! decoder sees lines and no header.
//!
//! Sources: "Access logs for your Application Load Balancer" and "Standard log file fields" in
//! the AWS documentation.

use super::access::{self, Access, Request};
use super::route::request_line;
use super::{Read, value};
use crate::model::{Event, Latency};
use crate::time::parse_rfc3339;

/// The columns of an ALB log.
const ALB_COLUMNS: [&str; 33] = [
    "type",
    "time",
    "elb",
    "client:port",
    "target:port",
    "request_processing_time",
    "target_processing_time",
    "response_processing_time",
    "elb_status_code",
    "target_status_code",
    "received_bytes",
    "sent_bytes",
    "request",
    "user_agent",
    "ssl_cipher",
    "ssl_protocol",
    "target_group_arn",
    "trace_id",
    "domain_name",
    "chosen_cert_arn",
    "matched_rule_priority",
    "request_creation_time",
    "actions_executed",
    "redirect_url",
    "error_reason",
    "target:port_list",
    "target_status_code_list",
    "classification",
    "classification_reason",
    "conn_trace_id",
    "transformed_host",
    "transformed_uri",
    "request_transform_status",
];

/// The columns of a CloudFront standard log.
pub(super) const CLOUDFRONT_COLUMNS: [&str; 33] = [
    "date",
    "time",
    "x-edge-location",
    "sc-bytes",
    "c-ip",
    "cs-method",
    "cs(Host)",
    "cs-uri-stem",
    "sc-status",
    "cs(Referer)",
    "cs(User-Agent)",
    "cs-uri-query",
    "cs(Cookie)",
    "x-edge-result-type",
    "x-edge-request-id",
    "x-host-header",
    "cs-protocol",
    "cs-bytes",
    "time-taken",
    "x-forwarded-for",
    "ssl-protocol",
    "ssl-cipher",
    "x-edge-response-result-type",
    "cs-protocol-version",
    "fle-status",
    "fle-encrypted-fields",
    "c-port",
    "time-to-first-byte",
    "x-edge-detailed-result-type",
    "sc-content-type",
    "sc-content-len",
    "sc-range-start",
    "sc-range-end",
];

/// A line must reach to the last column that is read: the request.
const ALB_COLUMNS_MIN: usize = 13;
/// A line must reach to the last column that is read: the time taken.
const CLOUDFRONT_COLUMNS_MIN: usize = 19;

/// Reads a line of an application load balancer.
pub(super) fn alb<'a>(access: &'a Access, line: &'a str, route: &'a mut String) -> Read<Event<'a>> {
    let mut columns = [""; ALB_COLUMNS.len()];
    let count = fill(&mut columns, access::words(line).map(|word| word.text));
    let is_known = matches!(columns[0], "http" | "https" | "h2" | "grpcs" | "ws" | "wss");
    if count < ALB_COLUMNS_MIN || !is_known {
        return Err("not an ALB access log line".to_owned());
    }
    let field = |name: &str| column(&ALB_COLUMNS, &columns, name);
    let request = Request {
        ts_ms: time(columns[1])?,
        status: access::status(columns[8])?,
        customer: access.customer(access::address(columns[3]), field)?,
        request: request_line(columns[12]),
        latency: sum_of_seconds(&columns[5..8]),
        attributes: access.attributes(field),
    };
    Ok(access.event(request, route))
}

/// Reads a line of CloudFront's standard log.
pub(super) fn cloudfront<'a>(
    access: &'a Access,
    line: &'a str,
    route: &'a mut String,
) -> Read<Event<'a>> {
    let mut columns = [""; CLOUDFRONT_COLUMNS.len()];
    let count = fill(&mut columns, line.split('\t'));
    if count < CLOUDFRONT_COLUMNS_MIN {
        return Err("not a CloudFront standard log line".to_owned());
    }
    let field = |name: &str| column(&CLOUDFRONT_COLUMNS, &columns, name);
    let request = Request {
        ts_ms: time(&format!("{}T{}Z", columns[0], columns[1]))?,
        status: access::status(columns[8])?,
        customer: access.customer(columns[4], field)?,
        request: Some((columns[5], columns[7])),
        latency: sum_of_seconds(&columns[18..19]),
        attributes: access.attributes(field),
    };
    Ok(access.event(request, route))
}

/// Puts the values into the columns, those past the known ones aside. How many there were.
fn fill<'a>(columns: &mut [&'a str], values: impl Iterator<Item = &'a str>) -> usize {
    values.enumerate().fold(0, |_, (index, value)| {
        if let Some(column) = columns.get_mut(index) {
            *column = value;
        }
        index + 1
    })
}

fn column<'a>(names: &[&str], columns: &[&'a str], name: &str) -> Option<&'a str> {
    let index = names.iter().position(|known| *known == name)?;
    Some(columns[index])
}

fn time(text: &str) -> Read<i64> {
    let ms = parse_rfc3339(text.as_bytes()).ok_or_else(|| "no time".to_owned())?;
    super::clock::in_years(ms)
}

/// The latency that seconds in text add up to; none where one of them is no time or -1.
fn sum_of_seconds(texts: &[&str]) -> Latency {
    let sum_s = texts.iter().try_fold(0.0, |sum, text| {
        let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds != -1.0);
        seconds.map(|seconds| sum + seconds)
    });
    sum_s.map_or(Latency::Absent, |sum_s: f64| value::latency(sum_s * 1_000_000.0))
}
