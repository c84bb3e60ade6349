//! What every request passes first and every response passes last.
//!
//! In: the host (against DNS rebinding) and the sizes of address, headers and body. Out: the
//! security headers and `Cache-Control: no-store` where a route did not say otherwise.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::problem::{Kind, Problem};
use crate::routes::EVENTS;

/// The longest path and query: a customer of 256 bytes, each percent-encoded, and a cursor fit
/// several times.
const ADDRESS_BYTES_MAX: usize = 8 * 1024;
/// All header names and values of one request.
const HEADERS_BYTES_MAX: usize = 32 * 1024;
/// A declared body; no route reads one, but for the one that takes events and has its own limit.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// Set on every response. The policy allows no inline script, no inline style, no other host.
const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// The middleware.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = match check(&request, app.options.loopback_only) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    response
}

fn check(request: &Request, loopback_only: bool) -> Result<(), Problem> {
    if loopback_only {
        check_host(request)?;
    }
    let address_bytes = request.uri().path_and_query().map_or(0, |text| text.as_str().len());
    if address_bytes > ADDRESS_BYTES_MAX {
        let detail = format!("{address_bytes} bytes of address; takes {ADDRESS_BYTES_MAX}");
        return Err(Problem::new(Kind::Address, detail));
    }
    let headers_bytes: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers_bytes > HEADERS_BYTES_MAX {
        let detail = format!("{headers_bytes} bytes of headers; takes {HEADERS_BYTES_MAX}");
        return Err(Problem::new(Kind::Headers, detail));
    }
    if request.uri().path() == EVENTS {
        return Ok(());
    }
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let body_bytes = declared.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
    if body_bytes.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        let detail = format!("the request declares a body of more than {BODY_BYTES_MAX} bytes");
        return Err(Problem::new(Kind::Body, detail));
    }
    Ok(())
}

/// A browser that was lured to `evil.example`, which then resolves to 127.0.0.1, still sends
/// `Host: evil.example`: only names of the loopback itself are answered.
fn check_host(request: &Request) -> Result<(), Problem> {
    let header = request.headers().get(header::HOST).and_then(|text| text.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or(header);
    match host {
        Some(host) if is_loopback(host) => Ok(()),
        Some(host) => Err(Problem::new(
            Kind::Host,
            format!("host {host:?} is not served; takes localhost, 127.0.0.1 or [::1]"),
        )),
        None => Err(Problem::new(
            Kind::Host,
            "the request names no host; takes localhost, 127.0.0.1 or [::1]",
        )),
    }
}

fn is_loopback(authority: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        let Some((host, rest)) = authority.split_at_checked(name.len()) else { return false };
        let is_rest = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        host.eq_ignore_ascii_case(name) && is_rest
    })
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_names_of_the_loopback_pass() {
        for (authority, expect) in [
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("127.0.0.1:8080", true),
            ("[::1]:9", true),
            ("localhost.evil.example", false),
            ("127.0.0.1.nip.io", false),
            ("evil.example:80", false),
            ("localhost:80@evil.example", false),
            ("user@localhost", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(authority), expect, "{authority}");
        }
    }
}
