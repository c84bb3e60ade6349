//! Who may ask what: every route with every kind of token, and bodies that do not come.

#[allow(dead_code, reason = "several tests include this module and each uses a part of it")]
mod fake;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use fake::{Fake, NOW_MS, Scene};
use ninefold_api::{Ingest, IngestFigures, Intake, Listening, Options, Refusal, Upload};
use ninefold_engine::config::{Role, Token, token_hash};
use serde_json::Value;
use tower::ServiceExt;

/// Takes everything and keeps nothing.
struct Sink;

impl Ingest for Sink {
    fn take(&self, upload: Upload) -> Result<u64, Refusal> {
        upload.meter.charge(upload.body.len() as u64)?;
        Ok(upload.body.iter().filter(|byte| **byte == b'\n').count() as u64)
    }

    fn figures(&self) -> IngestFigures {
        IngestFigures { syncs: vec![(0.1, 3), (f64::MAX, 1)], ..IngestFigures::default() }
    }
}

fn options(body_timeout: Duration) -> Options {
    let intake =
        Intake { ingest: Arc::new(Sink), body_bytes_max: 1_000, room_bytes: 10_000, body_timeout };
    let mut options = Options::new(|| NOW_MS);
    options.intake = Some(intake);
    options
}

/// The tokens of the tests: the name is the token.
fn with_tokens() -> Options {
    let roles = [
        ("admin", Role::Admin, None),
        ("read", Role::Read, None),
        ("ingest", Role::Ingest, None),
        ("acme", Role::Customer("acme".to_owned()), None),
        ("late", Role::Admin, Some(NOW_MS)),
        ("early", Role::Admin, Some(NOW_MS + 1)),
    ];
    let token = |(name, role, expires_ms): (&str, Role, Option<i64>)| Token {
        name: name.to_owned(),
        role,
        sha256: token_hash(name.as_bytes()),
        expires_ms,
        requests_per_second: None,
        bytes_per_second: None,
    };
    let mut options = options(Duration::from_secs(30));
    options.tokens = roles.map(token).into();
    options
}

async fn ask(options: Options, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let router = ninefold_api::router(Arc::new(Fake::new(Scene::Incident, || NOW_MS)), options);
    let is_events = path.starts_with("/v1/events");
    let mut request = Request::builder().method(if is_events { "POST" } else { "GET" }).uri(path);
    request = request.header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if is_events { Body::from("{}\n") } else { Body::empty() };
    let request = request.body(body).expect("a request");
    router.oneshot(request).await.expect("a router never fails")
}

async fn status(path: &str, bearer: &str) -> u16 {
    let ndjson = ("content-type", "application/x-ndjson");
    let value = format!("Bearer {bearer}");
    let headers = [ndjson, ("authorization", value.as_str())];
    let headers = if bearer.is_empty() { &headers[..1] } else { &headers };
    ask(with_tokens(), path, headers).await.status().as_u16()
}

async fn problem(response: Response<Body>) -> Value {
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    serde_json::from_slice(&body).expect("JSON")
}

/// What a token is answered on a route, written down once more, by hand.
fn expected(path: &str, token: &str) -> u16 {
    match (path, token) {
        ("/healthz", _) => 200,
        (_, "" | "late" | "unknown") => 401,
        // Nobody keeps silences here, and one is not read alone.
        ("/v1/silences", "admin" | "early") => 404,
        ("/v1/silences/{id}", "admin" | "early") => 405,
        (path, _) if path.starts_with("/v1/silences") => 403,
        (_, "admin" | "early") => 200,
        ("/v1/events", "ingest") => 200,
        ("/v1/events", _) => 403,
        ("/docs" | "/openapi.json" | "/assets/{name}", _) => 200,
        (_, "read") => 200,
        (path, "acme") if path.contains("{customer}") => 200,
        _ => 403,
    }
}

#[tokio::test]
async fn every_route_asks_every_token_for_its_role() {
    for path in ninefold_api::paths() {
        for token in ["", "unknown", "late", "early", "admin", "read", "ingest", "acme"] {
            let filled = path
                .replace("{customer}", "acme")
                .replace("{month}", "2026-11")
                .replace("{id}", fake::INCIDENT)
                .replace("{name}", "ninefold.css");
            let query = match path {
                "/v1/impact" => "?from=2026-11-24T22:00:00Z&to=2026-11-24T22:59:00Z",
                "/v1/customers/{customer}/sla" => "?month=2026-11",
                _ => "",
            };
            let found = status(&format!("{filled}{query}"), token).await;
            assert_eq!(found, expected(path, token), "{path} with {token:?}");
        }
    }
}

#[tokio::test]
async fn another_customer_is_unknown_word_by_word() {
    let mut checked = 0;
    for path in ninefold_api::paths().into_iter().filter(|path| path.contains("{customer}")) {
        let query = if path.ends_with("/sla") { "?month=2026-11" } else { "" };
        // There is a globex; nobody is called nobody; the escapes of acme are acme.
        for (customer, token, expect) in [
            ("globex", "acme", 404),
            ("globex", "read", 200),
            ("acme%00", "acme", 404),
            ("ACME", "acme", 404),
            ("%61cme", "acme", 200),
        ] {
            let path = path.replace("{customer}", customer) + query;
            assert_eq!(status(&path, token).await, expect, "{path} with {token}");
            checked += 1;
        }
    }
    assert_eq!(checked, 20);
    let bearer = |token| [("authorization", token)];
    let denied = ask(with_tokens(), "/v1/customers/globex", &bearer("Bearer acme")).await;
    let unknown = ask(with_tokens(), "/v1/customers/nobody", &bearer("Bearer read")).await;
    let denied = problem(denied).await.to_string();
    assert_eq!(denied.replace("globex", "nobody"), problem(unknown).await.to_string());
}

#[tokio::test]
async fn a_header_that_is_none_is_refused_and_the_token_is_not_repeated() {
    for (headers, expect) in [
        (&[][..], 401),
        (&["Bearer"][..], 401),
        (&["Bearer "][..], 401),
        (&["Basic cmVhZA=="][..], 401),
        (&["read"][..], 401),
        (&["Bearer secret-of-mine"][..], 401),
        (&["Bearer read", "Bearer read"][..], 400),
        (&["bearer read"][..], 200),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|value| ("authorization", *value)).collect();
        let response = ask(with_tokens(), "/v1/burn", &headers).await;
        assert_eq!(response.status().as_u16(), expect, "{headers:?}");
        let asks = response.headers().contains_key("www-authenticate");
        assert_eq!(asks, expect == 401, "{headers:?}");
        let body = problem(response).await.to_string();
        assert!(!body.contains("secret-of-mine"), "{body}");
    }
}

#[tokio::test]
async fn what_is_public_tells_no_figures_and_what_is_nowhere_needs_no_token() {
    let health = problem(ask(with_tokens(), "/healthz", &[]).await).await;
    assert_eq!(health, serde_json::json!({ "ready": true }));
    let health = ask(with_tokens(), "/healthz", &[("authorization", "Bearer read")]).await;
    assert!(problem(health).await["read"].is_u64());
    assert_eq!(status("/status", "").await, 404);
    assert_eq!(ask(options(Duration::ZERO), "/v1/burn", &[]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn bodies_are_refused_by_their_headers() {
    let check = async |headers: &[(&str, &str)], expect: u16| {
        let response = ask(options(Duration::from_secs(30)), "/v1/events", headers).await;
        assert_eq!(response.status().as_u16(), expect, "{headers:?}");
        let retry = response.headers().contains_key("retry-after");
        assert_eq!(retry, expect == 429, "{headers:?}");
    };
    let ndjson = ("content-type", "application/x-ndjson; charset=utf-8");
    check(&[ndjson], 200).await;
    check(&[], 415).await;
    check(&[("content-type", "text/plain")], 415).await;
    check(&[("content-type", "application/x-www-form-urlencoded")], 415).await;
    check(&[ndjson, ("content-encoding", "gzip, gzip")], 415).await;
    check(&[ndjson, ("content-encoding", "br")], 415).await;
    check(&[ndjson, ("content-encoding", "gzip"), ("content-encoding", "zstd")], 415).await;
    check(&[ndjson, ("content-length", "1001")], 413).await;
    check(&[ndjson, ("idempotency-key", "")], 400).await;
    check(&[ndjson, ("idempotency-key", "a b")], 400).await;
    check(&[ndjson, ("idempotency-key", "a"), ("idempotency-key", "a")], 400).await;
    check(&[ndjson, ("idempotency-key", &"k".repeat(129))], 400).await;
    check(&[ndjson, ("idempotency-key", &"k".repeat(128))], 200).await;
    let mut full = options(Duration::from_secs(30));
    full.intake.as_mut().expect("it is there").room_bytes = 1;
    let response = ask(full, "/v1/events", &[ndjson]).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let metrics = ask(options(Duration::ZERO), "/metrics", &[]).await;
    let text = to_bytes(metrics.into_body(), usize::MAX).await.expect("a body");
    let text = String::from_utf8(text.into()).expect("a text");
    assert!(text.contains("ninefold_wal_fsync_seconds_bucket{le=\"0.1\"} 3"), "{text}");
    assert!(text.contains("ninefold_wal_fsync_seconds_count 4"), "{text}");
}

/// A client that sends a byte and then nothing is told so, and one that never ends is cut.
#[tokio::test]
async fn a_slow_body_and_an_endless_one_are_ended() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let fake = Arc::new(Fake::new(Scene::Quiet, || NOW_MS));
    let router = ninefold_api::router(fake, options(Duration::from_millis(200)));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server =
        tokio::spawn(ninefold_api::serve(listener, router, Listening::default(), async move {
            // An error says that the test has ended.
            let _ = stopped.await;
        }));
    let clients = tokio::task::spawn_blocking(move || {
        let send = |head: &str, piece: &[u8], count: usize| {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
            let head = format!(
                "POST /v1/events HTTP/1.1\r\nhost: localhost\r\n\
                 content-type: application/x-ndjson\r\n{head}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).expect("it reads");
            // The server may close while there is more to send.
            let _ = (0..count).try_for_each(|_| stream.write_all(piece));
            let mut answer = Vec::new();
            let mut buffer = [0; 1_024];
            while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(count) if count > 0 => answer.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
        };
        let slow = send("content-length: 100", b"{", 1);
        let chunk = [b"64\r\n".as_slice(), &[b'x'; 100], b"\r\n"].concat();
        let endless = send("transfer-encoding: chunked", &chunk, 11);
        (slow, endless)
    });
    let (slow, endless) = clients.await.expect("no panic");
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    assert!(endless.starts_with("HTTP/1.1 413"), "{endless}");
    drop(stop);
    server.await.expect("no panic").expect("it ends");
}

/// A token that has used up its rate is told when to come again; others are not held up.
#[tokio::test]
async fn a_token_over_its_rate_is_told_to_wait() {
    let mut options = with_tokens();
    let limit = |options: &mut Options, name: &str, requests, bytes| {
        let token = options.tokens.iter_mut().find(|token| token.name == name);
        let token = token.expect("it is there");
        (token.requests_per_second, token.bytes_per_second) = (requests, bytes);
    };
    limit(&mut options, "read", Some(1), None);
    limit(&mut options, "ingest", None, Some(1));
    let router = ninefold_api::router(Arc::new(Fake::new(Scene::Quiet, || NOW_MS)), options);
    let ask = async |method: &str, path: &str, token: &str, body: &'static str| {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("content-type", "application/x-ndjson");
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::from(body)).expect("a request");
        router.clone().oneshot(request).await.expect("a router never fails")
    };
    let is_told = async |response: Response<Body>, most_s: u64| {
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let after = response.headers()["retry-after"].to_str().expect("a text");
        assert!((1..=most_s).contains(&after.parse().expect("seconds")), "{after}");
        assert_eq!(problem(response).await["type"], "/docs#problem-rate");
    };
    // Ten at once, and one a second while this takes.
    let (began, mut taken) = (std::time::Instant::now(), 0);
    let refused = loop {
        let response = ask("GET", "/v1/burn", "read", "").await;
        if response.status() != StatusCode::OK {
            break response;
        }
        taken += 1;
        assert!(taken <= 12 + began.elapsed().as_secs() && taken < 1_000, "{taken} are taken");
    };
    assert!(taken >= 10, "{taken} are taken");
    is_told(refused, 2).await;
    assert_eq!(ask("GET", "/v1/burn", "admin", "").await.status(), StatusCode::OK);
    assert_eq!(ask("GET", "/healthz", "read", "").await.status(), StatusCode::OK, "it is public");
    // One body is taken whole; it takes 90 seconds too much.
    const BODY: &str = concat!(
        "0123456789012345678901234567890123456789012345678\n",
        "0123456789012345678901234567890123456789012345678\n"
    );
    assert_eq!(ask("POST", "/v1/events", "ingest", BODY).await.status(), StatusCode::OK);
    is_told(ask("POST", "/v1/events", "ingest", "").await, 91).await;
    let metrics = ask("GET", "/metrics", "admin", "").await;
    let text = to_bytes(metrics.into_body(), usize::MAX).await.expect("a body");
    let text = String::from_utf8(text.into()).expect("a text");
    assert!(text.contains("ninefold_rate_limited_total 2\n"), "{text}");
}
