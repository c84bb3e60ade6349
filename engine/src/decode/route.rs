//! Route templates: what of a request names its kind and not its object.
//!
//! The route of an access log's line is `METHOD path`, the path without query, with each
//! segment that identifies an object as `{id}`: digits alone, a UUID, or at least eight hex
//! digits of which one is decimal (`deadbeef` may be a word, `deadbee1` is not). Configured
//! patterns come first: a pattern is a path of segments; `{name}` stands for one segment, `*`
//! for one segment or, at the end, for any rest. It may begin with a method and a space, and
//! matches that method alone then. A line that matches has the pattern's path as its path.
//!
//! A route is at most [`ROUTE_BYTES_MAX`] long, and requests that are no HTTP share one, so
//! that garbage sent by a scanner costs one route.

/// The longest route of an access log in bytes; a longer one is cut at a character.
pub const ROUTE_BYTES_MAX: usize = 256;

/// The route of requests that have no method or no path.
pub const ROUTE_MALFORMED: &str = "(malformed)";

/// The longest known method is `UPDATEREDIRECTREF`; more is no method.
const METHOD_BYTES_MAX: usize = 20;

/// Writes the route of a request to `route`, over what it holds.
///
/// `target` is a path with or without a query, or a whole URL.
///
/// ```
/// use ninefold_engine::decode::route::write_route;
/// let mut route = String::new();
/// write_route("GET", "/v1/orders/4711?full=1", &[], &mut route);
/// assert_eq!(route, "GET /v1/orders/{id}");
/// write_route("GET", "/v1/orders/a-b", &["/v1/orders/{order}".into()], &mut route);
/// assert_eq!(route, "GET /v1/orders/{order}");
/// ```
pub fn write_route(method: &str, target: &str, patterns: &[String], route: &mut String) {
    route.clear();
    let path = path(target);
    if !is_method(method) || !(path.starts_with('/') || path == "*") {
        route.push_str(ROUTE_MALFORMED);
        return;
    }
    route.push_str(method);
    route.push(' ');
    let pattern = patterns.iter().find_map(|pattern| matching(pattern, method, path));
    match pattern {
        Some(pattern) => route.push_str(pattern),
        None => push_template(path, route),
    }
    route.truncate(route.floor_char_boundary(ROUTE_BYTES_MAX));
}

/// The method and target of a request line; the protocol after them may be missing, as in
/// HTTP/0.9. `None` where there are no two words.
pub(super) fn request_line(request: &str) -> Option<(&str, &str)> {
    let (method, rest) = request.split_once(' ')?;
    let target = match rest.rsplit_once(' ') {
        Some((target, protocol)) if protocol.starts_with("HTTP/") => target,
        _ => rest,
    };
    Some((method, target))
}

/// The path of a target: without scheme and authority, without query and fragment.
fn path(target: &str) -> &str {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find(['/', '?', '#']).map_or("/", |start| &rest[start..])
        }
        _ => target,
    };
    let path = target.find(['?', '#']).map_or(target, |end| &target[..end]);
    if path.is_empty() && !target.is_empty() { "/" } else { path }
}

fn is_method(method: &str) -> bool {
    (1..=METHOD_BYTES_MAX).contains(&method.len())
        && method.starts_with(|first: char| first.is_ascii_uppercase())
        && method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// The path of `pattern`, if it matches.
fn matching<'p>(pattern: &'p str, method: &str, path: &str) -> Option<&'p str> {
    let (pattern_method, pattern_path) = match pattern.split_once(' ') {
        Some((method, path)) => (Some(method), path),
        None => (None, pattern),
    };
    let is_method = pattern_method.is_none_or(|wanted| wanted == method);
    (is_method && path_matches(pattern_path, path)).then_some(pattern_path)
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let mut wanted = pattern.split('/').peekable();
    while let Some(want) = wanted.next() {
        let Some(segment) = segments.next() else { return false };
        if want == "*" && wanted.peek().is_none() {
            return true;
        }
        let is_any = want == "*" || (want.starts_with('{') && want.ends_with('}'));
        if if is_any { segment.is_empty() } else { want != segment } {
            return false;
        }
    }
    segments.next().is_none()
}

/// Writes a path with its identifying segments replaced, up to the length that is kept.
fn push_template(path: &str, route: &mut String) {
    for (index, segment) in path.split('/').enumerate() {
        if route.len() > ROUTE_BYTES_MAX {
            return;
        }
        if index > 0 {
            route.push('/');
        }
        route.push_str(if is_identifier(segment) { "{id}" } else { segment });
    }
}

/// Whether a segment names one object: a number, a UUID, or a long hex string.
fn is_identifier(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    if !bytes.first().is_some_and(u8::is_ascii_hexdigit) {
        return false;
    }
    let all_digits = bytes.iter().all(u8::is_ascii_digit);
    let long_hex = bytes.len() >= 8
        && bytes.iter().all(u8::is_ascii_hexdigit)
        && bytes.iter().any(u8::is_ascii_digit);
    all_digits || long_hex || is_uuid(bytes)
}

fn is_uuid(bytes: &[u8]) -> bool {
    let is_in_place = |(index, byte): (usize, &u8)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    bytes.len() == 36 && bytes.iter().enumerate().all(is_in_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, expected: &str) {
        check_with(&[], method, target, expected);
    }

    fn check_with(patterns: &[&str], method: &str, target: &str, expected: &str) {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.into()).collect();
        let mut route = "left from before".to_owned();
        write_route(method, target, &patterns, &mut route);
        assert_eq!(route, expected, "{method} {target}");
    }

    #[test]
    fn identifying_segments_become_id() {
        check("GET", "/", "GET /");
        check("GET", "/v1/orders/4711", "GET /v1/orders/{id}");
        check("GET", "/4711/", "GET /{id}/");
        check("PUT", "/u/123e4567-e89b-12d3-a456-426614174000/x", "PUT /u/{id}/x");
        check(
            "GET",
            "/u/123e4567-e89b-12d3-a456-42661417400g",
            "GET /u/123e4567-e89b-12d3-a456-42661417400g",
        );
        check("GET", "/deadbee1", "GET /{id}");
        check("GET", "/deadbeef", "GET /deadbeef");
        check("GET", "/deadbe1", "GET /deadbe1");
        check("GET", "/v2.1/a1", "GET /v2.1/a1");
    }

    #[test]
    fn query_fragment_and_authority_are_left_out() {
        check("GET", "/a?b=/1", "GET /a");
        check("GET", "/a#b?c", "GET /a");
        check("GET", "https://example.com:443/a/1?b", "GET /a/{id}");
        check("GET", "http://example.com", "GET /");
        check("GET", "http://example.com?x", "GET /");
        check("GET", "?x=1", "GET /");
        check("OPTIONS", "*", "OPTIONS *");
    }

    #[test]
    fn what_is_no_request_has_one_route() {
        for (method, target) in [
            ("", "/"),
            ("get", "/"),
            ("GET", ""),
            ("GET", "x"),
            ("\\x16\\x03", "/"),
            ("-", "http://example.com:80-"),
            ("CONNECT", "example.com:443"),
            ("ABCDEFGHIJKLMNOPQRSTU", "/"),
        ] {
            check(method, target, ROUTE_MALFORMED);
        }
    }

    #[test]
    fn the_first_pattern_that_matches_is_the_route() {
        let patterns = ["POST /v1/{a}", "/v1/{order}/items", "/static/*", "/*/x", "/v1/7"];
        check_with(&patterns, "GET", "/v1/abc/items?x", "GET /v1/{order}/items");
        check_with(&patterns, "POST", "/v1/abc", "POST /v1/{a}");
        check_with(&patterns, "GET", "/v1/7", "GET /v1/7");
        check_with(&patterns, "GET", "/v1/8", "GET /v1/{id}");
        check_with(&patterns, "GET", "/static/css/1.css", "GET /static/*");
        check_with(&patterns, "GET", "/static/", "GET /static/*");
        check_with(&patterns, "GET", "/static", "GET /static");
        check_with(&patterns, "GET", "/q/x", "GET /*/x");
        check_with(&patterns, "GET", "//x", "GET //x");
        check_with(&["*"], "GET", "/any/thing", "GET *");
    }

    #[test]
    fn a_route_is_bounded_at_a_character() {
        let mut route = String::new();
        let long = format!("/{}", "ä".repeat(1_000));
        write_route("GET", &long, &[], &mut route);
        // Five bytes of `GET /`, then 125 characters of two bytes; one byte is left over.
        assert_eq!((route.len(), route.chars().count()), (255, 130));
        write_route("GET", &"/segment".repeat(1_000), &[], &mut route);
        assert_eq!(route.len(), ROUTE_BYTES_MAX);
    }

    #[test]
    fn a_request_line_has_a_method_and_a_target() {
        let check = |request, expected| assert_eq!(request_line(request), expected, "{request}");
        check("GET /a HTTP/1.1", Some(("GET", "/a")));
        check("GET /a", Some(("GET", "/a")));
        check("GET /a b HTTP/1.1", Some(("GET", "/a b")));
        check("GET /a b", Some(("GET", "/a b")));
        check("HELP", None);
        check("", None);
    }
}
