//! Every route on a made-up fleet, through the whole router: what it answers, how it refuses.

mod fake;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use fake::{Fake, HOSTILE, NOW_MS, Scene};
use ninefold_api::{Listening, Options};
use ninefold_engine::query::Answers;
use ninefold_engine::time::Minute;
use serde_json::Value;
use tower::ServiceExt;

/// A response that was read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a text")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }
}

fn fake(scene: Scene) -> Fake {
    Fake::new(scene, || NOW_MS)
}

fn router_of(scene: Scene, change: impl FnOnce(&mut Options)) -> Router {
    let mut options = Options::new(|| NOW_MS);
    change(&mut options);
    ninefold_api::router(Arc::new(fake(scene)), options)
}

async fn send(router: Router, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:8080");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("a router never fails");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body").to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn get_of(scene: Scene, path: &str) -> Answer {
    send(router_of(scene, |_| {}), Method::GET, path, &[]).await
}

async fn get(path: &str) -> Answer {
    get_of(Scene::Incident, path).await
}

/// One request that is to be refused: status, kind, and words that its detail has to hold.
async fn check_problem(answer: Answer, status: u16, kind: &str, field: Option<&str>, words: &str) {
    let body = answer.json();
    assert_eq!(answer.status.as_u16(), status, "{body}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], format!("/docs#problem-{kind}"));
    assert!(!body["title"].as_str().expect("a title").is_empty());
    let detail = body["detail"].as_str().expect("a detail");
    assert!(detail.contains(words), "{detail:?} lacks {words:?}");
    assert_eq!(body["field"].as_str(), field, "{body}");
}

async fn check_refused(path: &str, field: &str, words: &str) {
    check_problem(get(path).await, 400, "argument", Some(field), words).await;
}

/// The routes that need no name, with arguments where they need some.
const PLAIN_ROUTES: [&str; 21] = [
    "/",
    "/docs",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/customers",
    "/v1/objectives",
    "/v1/alerts",
    "/v1/incidents",
    "/v1/incidents/0123456789abcdef0123456789abcdef",
    "/v1/incidents/0123456789abcdef0123456789abcdef/review",
    "/v1/risks?quarter=2026-Q4",
    "/incidents/0123456789abcdef0123456789abcdef",
    "/v1/impact?from=2026-11-24T22:00:00Z&to=2026-11-24T22:59:00Z",
    "/v1/releases/r42/verdict",
    "/v1/attributes/cohort/canary/verdict?service=inbox",
    "/v1/reports/2026-11",
    "/v1/burn",
    "/v1/fleet",
    "/assets/ninefold.css",
];

/// The routes of one customer.
const CUSTOMER_ROUTES: [&str; 4] = ["", "/timeseries", "/sla?month=2026-11", "?service=inbox"];

fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn every_plain_route_answers() {
    for path in PLAIN_ROUTES {
        let answer = get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert!(!answer.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_review_is_markdown_for_who_asks_and_names_are_no_markup() {
    let path = format!("/v1/incidents/{}/review", fake::INCIDENT);
    let answer = get(&format!("{path}?format=md")).await;
    assert_eq!(answer.header("content-type"), "text/markdown; charset=utf-8");
    let text = answer.text();
    assert!(text.starts_with("# Incident ") && text.contains("## Timeline"), "{text}");
    assert!(!text.contains("<script>") && text.contains("&lt;script&gt;"), "{text}");
    assert_eq!(get(&format!("{path}?format=csv")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(get("/v1/incidents/nothing/review").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bodies_are_those_of_the_command_line() {
    let fake = fake(Scene::Incident);
    let json = |body: &dyn erased::Body| body.json();
    let from = Minute::of_ms(NOW_MS).minus(30);
    let to = Minute::of_ms(NOW_MS);
    let range = format!("from={from}&to={to}");
    for (path, expect) in [
        ("/v1/fleet".to_owned(), json(&fake.fleet(NOW_MS).expect("a fleet"))),
        ("/v1/burn".to_owned(), json(&fake.burn().expect("a burn"))),
        ("/v1/customers/acme".to_owned(), json(&fake.sla("acme", None, None).expect("an sla"))),
        (
            "/v1/releases/r%2F42/verdict?service=inbox".to_owned(),
            json(&fake.verdict("release", "r/42", Some("inbox"), None, None).expect("a verdict")),
        ),
        (
            format!("/v1/attributes/region/eu/verdict?{range}"),
            json(&fake.verdict("region", "eu", None, Some(from), Some(to)).expect("a verdict")),
        ),
        (format!("/v1/impact?{range}"), json(&fake.impact(from, to).expect("an impact"))),
        (
            format!("/v1/customers/acme/timeseries?{range}&step=5m"),
            json(&fake.timeseries(Some("acme"), from, to, 5).expect("a series")),
        ),
        (
            "/v1/customers/acme/sla?month=2026-11&tz=Europe/Berlin".to_owned(),
            json(&fake.report("2026-11", Some("Europe/Berlin"), Some("acme")).expect("a report")),
        ),
        (
            "/v1/reports/2026-11".to_owned(),
            json(&fake.report("2026-11", None, None).expect("a report")),
        ),
        ("/v1/objectives".to_owned(), fake.objectives().to_string()),
    ] {
        assert_eq!(get(&path).await.text(), expect, "{path}");
    }
}

/// Bodies of different types in one table of cases.
mod erased {
    pub trait Body {
        fn json(&self) -> String;
    }

    impl<T: serde::Serialize> Body for T {
        fn json(&self) -> String {
            serde_json::to_string(self).expect("a body")
        }
    }
}

#[tokio::test]
async fn a_statement_comes_as_a_file_too() {
    let report = fake(Scene::Incident).report("2026-11", None, Some("acme")).expect("a report");
    for (format, media_type, expect) in [
        ("csv", "text/csv; charset=utf-8; header=present", ninefold_engine::report::csv(&report)),
        ("md", "text/markdown; charset=utf-8", ninefold_engine::report::markdown(&report)),
    ] {
        let answer = get(&format!("/v1/reports/2026-11?customer=acme&format={format}")).await;
        assert_eq!(answer.header("content-type"), media_type);
        let name = format!("attachment; filename=\"ninefold-2026-11.{format}\"");
        assert_eq!(answer.header("content-disposition"), name);
        assert_eq!(answer.text(), expect);
    }
}

#[tokio::test]
async fn a_moment_rounds_down_to_its_minute_in_either_form() {
    let rfc = get("/v1/customers/acme?at=2026-11-24T22:10:59.9Z").await.json();
    let epoch = get("/v1/customers/acme?at=1795558259999").await.json();
    assert_eq!(rfc["as_of"], "2026-11-24T22:10:00Z");
    assert_eq!(rfc, epoch);
}

#[tokio::test]
async fn a_cursor_leads_through_all_customers_once() {
    let mut path = "/v1/customers?sort=valid&limit=10".to_owned();
    let mut seen = Vec::new();
    for _page in 0..10 {
        let body = get(&path).await.json();
        let rows = body["customers"].as_array().expect("rows").clone();
        seen.extend(rows.iter().map(|row| row["customer"].as_str().expect("a name").to_owned()));
        let Some(next) = body["next"].as_str() else { break };
        path = format!("/v1/customers?sort=valid&limit=10&cursor={next}");
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (31, 31));
}

#[tokio::test]
async fn hostile_names_are_one_segment_and_taken_as_they_are() {
    for name in HOSTILE {
        for rest in &CUSTOMER_ROUTES[..3] {
            let path = format!("/v1/customers/{}{rest}", escaped(name));
            let answer = get(&path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
            let body = answer.json();
            let customer = body["customer"].as_str().or(body["customers"][0]["customer"].as_str());
            assert_eq!(customer, Some(name), "{path}");
        }
    }
}

#[tokio::test]
async fn no_name_becomes_markup() {
    let mut pages = vec!["/".to_owned(), "/?part=live".to_owned()];
    pages.extend(HOSTILE.iter().map(|name| format!("/customers/{}", escaped(name))));
    for path in pages {
        let page = get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let text = page.text();
        assert!(!text.contains("<script>"), "{path}");
        assert!(!text.contains("<img"), "{path}");
        assert!(!text.contains('\u{202e}'), "{path}");
    }
    let page = get(&format!("/customers/{}", escaped(HOSTILE[0]))).await.text();
    assert!(page.contains("&#60;script&#62;alert(1)"), "the name is shown");
}

#[tokio::test]
async fn pages_have_no_inline_script_style_or_outside_host() {
    for path in ["/", "/customers/acme", "/docs", "/customers/nobody"] {
        let answer = send(
            router_of(Scene::Incident, |_| {}),
            Method::GET,
            path,
            &[("accept", "text/html,*/*")],
        )
        .await;
        let text = answer.text();
        assert!(text.starts_with("<!doctype html>"), "{path}: {text}");
        for forbidden in [" style=", "<style", " onclick", " onload", "http://", "https://"] {
            assert!(!text.contains(forbidden), "{path} has {forbidden}");
        }
        for script in text.split("<script").skip(1) {
            assert!(script.starts_with(" type=\"module\" src=\"/assets/"), "{path}");
        }
    }
}

#[tokio::test]
async fn the_first_page_answers_the_first_questions() {
    let page = get("/").await.text();
    for words in [
        "Kept so far, and burning",
        "99.8% is promised",
        "of the error budget is left",
        "Burning now",
        "href=\"/customers/acme\"",
        "rollout_5m",
        "r42",
        "canary",
        "of the excess failures",
        "Last 60 minutes",
        "class=\"gap\"",
        "href=\"/customers/%3Cscript%3Ealert%281%29%3C%2Fscript%3E\"",
    ] {
        assert!(page.contains(words), "the page lacks {words:?}");
    }
    assert!(page.contains("id=\"stale\" class=\"notice\" role=\"status\" hidden"));
}

#[tokio::test]
async fn pools_that_burn_are_on_the_first_page_and_who_is_judged_with_them_on_their_own() {
    let page = get("/").await.text();
    let section =
        page.split("<h2 id=\"pools\">").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(section.contains("pool gold</strong>") && section.contains("too little evidence"));
    assert!(section.contains("133 of 1,200"), "{section}");
    assert!(!section.contains("no pool") && !section.contains("idle"), "{section}");
    assert!(!get_of(Scene::Quiet, "/").await.text().contains("id=\"pools\""));
    let pools = get("/v1/pools").await.json();
    assert_eq!(pools["pools"][3]["state"], "no_data");
}

#[tokio::test]
async fn no_data_reads_as_no_data_and_never_as_kept() {
    let page = get_of(Scene::Empty, "/").await.text();
    assert!(page.contains("class=\"promise none\""));
    assert!(page.contains("nothing counted yet"));
    assert!(page.contains("<p class=\"figure none\">no data</p>"));
    assert!(!page.contains("is kept"));
    assert!(!page.contains("100%</"), "nothing reads as whole");
}

#[tokio::test]
async fn silence_is_said_after_two_minutes() {
    let page = get_of(Scene::Silent, "/").await.text();
    assert!(page.contains("id=\"stale\" class=\"notice\" role=\"status\">"));
    assert!(page.contains("the newest counted minute is 23:07 UTC"));
}

#[tokio::test]
async fn a_quiet_fleet_is_said_to_be_so() {
    let page = get_of(Scene::Quiet, "/").await.text();
    assert!(page.contains("class=\"promise kept\""));
    assert!(page.contains("No customer burns"));
    assert!(page.contains("No alert fires"));
}

#[tokio::test]
async fn arguments_are_refused_by_name() {
    let range = "from=2026-11-24T22:00:00Z&to=2026-11-24T22:59:00Z";
    for (path, field, words) in [
        ("/v1/fleet?x=1".to_owned(), "x", "takes none"),
        ("/v1/customers?limt=5".to_owned(), "limt", "takes sort, limit, cursor, at"),
        ("/v1/customers?limit=1001".to_owned(), "limit", "takes 1 to 1000"),
        ("/v1/customers?limit=0".to_owned(), "limit", "takes 1 to 1000"),
        ("/v1/customers?limit=-1".to_owned(), "limit", "takes 1 to 1000"),
        ("/v1/customers?limit=5&limit=6".to_owned(), "limit", "given twice"),
        ("/v1/customers?sort=name".to_owned(), "sort", "takes burn, budget, bad, valid"),
        ("/v1/customers?cursor=zzz".to_owned(), "cursor", "takes the next of the page before"),
        ("/v1/customers?at=".to_owned(), "at", "empty"),
        ("/v1/customers?at=yesterday".to_owned(), "at", "epoch milliseconds"),
        ("/v1/customers?at=1999-12-31T23:59:59Z".to_owned(), "at", "2000 to 2100"),
        ("/v1/impact".to_owned(), "from", "missing"),
        ("/v1/impact?from=2026-11-24T22:00:00Z".to_owned(), "to", "missing"),
        ("/v1/impact?to=2026-11-24T22:00:00Z&from=2026-11-24T22:01:00Z".to_owned(), "to", "before"),
        (
            "/v1/impact?from=2026-09-24T22:00:00Z&to=2026-11-24T22:00:00Z".to_owned(),
            "to",
            "at most 31 days",
        ),
        ("/v1/releases/r42/verdict?at=1".to_owned(), "at", "takes service, from, to"),
        ("/v1/releases/%FF/verdict".to_owned(), "release", "UTF-8"),
        (
            "/v1/releases/r42/verdict?from=2026-09-24T22:00:00Z&to=2026-11-24T22:00:00Z".to_owned(),
            "to",
            "at most 31 days",
        ),
        ("/v1/alerts?basis=final".to_owned(), "basis", "takes live, settled"),
        (format!("/v1/customers/acme/timeseries?{range}&step=90s"), "step", "takes 1m to 30d"),
        (
            "/v1/customers/acme/timeseries?from=2026-10-24T22:00:00Z&to=2026-11-24T22:00:00Z&step=1m"
                .to_owned(),
            "step",
            "at most 10080",
        ),
        ("/v1/customers/acme/sla".to_owned(), "month", "missing"),
        ("/v1/customers/acme/sla?month=2026-13".to_owned(), "month", "2026-10"),
        ("/v1/reports/november".to_owned(), "month", "2026-10"),
        ("/v1/reports/2026-11?format=pdf".to_owned(), "format", "takes json, csv, md"),
        ("/v1/reports/2026-11?tz=Mars/Base".to_owned(), "tz", "IANA"),
        ("/v1/customers/%FF".to_owned(), "customer", "UTF-8"),
        (format!("/v1/customers/{}", "x".repeat(257)), "customer", "1 to 256"),
        ("/?part=all".to_owned(), "part", "takes page, live"),
    ] {
        check_refused(&path, field, words).await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    check_problem(get("/v2").await, 404, "route", None, "/docs").await;
    check_problem(get("/v1/customers/").await, 404, "route", None, "nothing at").await;
    check_problem(get("/assets/x.js").await, 404, "route", None, "x.js").await;
    for rest in ["", "/timeseries", "/sla?month=2026-11"] {
        let answer = get(&format!("/v1/customers/nobody{rest}")).await;
        check_problem(answer, 404, "unknown", Some("customer"), "nobody").await;
    }
    check_problem(get("/customers/nobody").await, 404, "unknown", Some("customer"), "nobody").await;
    let answer = get("/v1/customers/acme?service=nothing").await;
    check_problem(answer, 404, "unknown", Some("service"), "nothing").await;
}

#[tokio::test]
async fn other_methods_are_told_which_ones_are_taken() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = send(router_of(Scene::Quiet, |_| {}), method, "/v1/fleet", &[]).await;
        assert_eq!(answer.header("allow"), "GET, HEAD");
        check_problem(answer, 405, "method", None, "takes GET and HEAD").await;
    }
}

#[tokio::test]
async fn a_bug_is_a_problem_and_not_a_lost_connection() {
    let answer = get_of(Scene::Broken, "/v1/fleet").await;
    assert!(!answer.text().contains("planted"), "the message stays inside");
    check_problem(answer, 500, "internal", None, "standard error").await;
    // One that happens in the handler and not in the answers.
    let router = router_of(Scene::Quiet, |options| options.clock = || panic!("a planted bug"));
    let answer = send(router, Method::GET, "/v1/fleet", &[]).await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    check_problem(answer, 500, "internal", None, "standard error").await;
}

#[tokio::test]
async fn slow_and_unreadable_answers_are_problems_that_say_when_to_try_again() {
    let router = router_of(Scene::Slow, |options| options.timeout = Duration::from_millis(20));
    let answer = send(router, Method::GET, "/v1/burn", &[]).await;
    assert_eq!(answer.header("retry-after"), "2");
    check_problem(answer, 503, "timeout", None, "within 0.02 s").await;
    let answer = get_of(Scene::Unreadable, "/v1/fleet").await;
    check_problem(answer, 503, "table", None, "permission denied").await;
}

#[tokio::test]
async fn slow_questions_wait_for_each_other_and_health_does_not_wait_for_them() {
    let router = router_of(Scene::Slow, |options| {
        options.questions_max = 1;
        options.timeout = Duration::from_millis(100);
    });
    let first = send(router.clone(), Method::GET, "/v1/burn", &[]).await;
    assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE);
    // Its thread still holds the one permit: the next question runs into its time-out waiting.
    let second = send(router.clone(), Method::GET, "/v1/objectives", &[]).await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    let health = send(router, Method::GET, "/healthz", &[]).await;
    assert_eq!(health.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_answered_at_once_takes_no_thread_but_a_permit() {
    let router = router_of(Scene::Slow, |options| {
        options.questions_max = 1;
        options.timeout = Duration::from_millis(100);
    });
    let ask = |path: &'static str| send(router.clone(), Method::GET, path, &[]);
    for _ in 0..3 {
        let answer = ask("/v1/customers/acme").await;
        assert_eq!(answer.json(), get_of(Scene::Quiet, "/v1/customers/acme").await.json());
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let nobody = ask("/v1/customers/nobody").await;
    check_problem(nobody, 404, "unknown", Some("customer"), "nobody").await;
    // A slow question, asked first, holds the one permit for longer than anybody waits.
    let (slow, waiting) = tokio::join!(ask("/v1/burn"), ask("/v1/customers/acme"));
    assert_eq!(slow.status, StatusCode::SERVICE_UNAVAILABLE);
    check_problem(waiting, 503, "timeout", None, "within 0.1 s").await;
}

#[tokio::test]
async fn readiness_says_why_not() {
    let answer = get_of(Scene::Silent, "/readyz").await;
    assert_eq!(answer.json()["notes"][0], "the table is still being read");
    assert_eq!(answer.json()["counted"], 1_000_000);
    check_problem(answer, 503, "not-ready", None, "still being read").await;
    assert_eq!(get_of(Scene::Silent, "/healthz").await.status, StatusCode::OK);
    assert_eq!(get("/readyz").await.json()["ready"], true);
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    for path in PLAIN_ROUTES.iter().filter(|path| **path != "/docs") {
        let whole = get(path).await;
        let head = send(router_of(Scene::Incident, |_| {}), Method::HEAD, path, &[]).await;
        assert_eq!(head.status, StatusCode::OK, "{path}");
        assert_eq!(head.header("content-type"), whole.header("content-type"), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn every_response_carries_the_security_headers() {
    for path in ["/", "/v1/fleet", "/nowhere", "/v1/fleet?x=1", "/assets/ninefold.js", "/metrics"] {
        let answer = get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self';"), "{path}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        let cache = if path.starts_with("/assets") { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), cache, "{path}");
    }
}

#[tokio::test]
async fn a_foreign_host_is_refused_on_the_loopback_only() {
    let foreign = [("host", "evil.example")];
    let answer = send(router_of(Scene::Quiet, |_| {}), Method::GET, "/v1/fleet", &foreign).await;
    check_problem(answer, 403, "host", None, "takes localhost").await;
    for host in ["127.0.0.1:1", "[::1]:8080", "LOCALHOST"] {
        let own = [("host", host)];
        let answer = send(router_of(Scene::Quiet, |_| {}), Method::GET, "/v1/fleet", &own).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
    let open = router_of(Scene::Quiet, |options| options.loopback_only = false);
    let answer = send(open, Method::GET, "/v1/fleet", &foreign).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn oversized_requests_are_refused() {
    let path = format!("/v1/customers?cursor={}", "x".repeat(9_000));
    check_problem(get(&path).await, 414, "address", None, "takes 8192").await;
    let long = "x".repeat(40_000);
    let large = [("x-large", long.as_str())];
    let answer = send(router_of(Scene::Quiet, |_| {}), Method::GET, "/healthz", &large).await;
    check_problem(answer, 431, "headers", None, "takes 32768").await;
    let heavy = [("content-length", "65537")];
    let answer = send(router_of(Scene::Quiet, |_| {}), Method::GET, "/healthz", &heavy).await;
    check_problem(answer, 413, "body", None, "65536").await;
}

#[tokio::test]
async fn answers_are_compressed_for_who_takes_it() {
    let takes = [("accept-encoding", "gzip")];
    let answer = send(router_of(Scene::Incident, |_| {}), Method::GET, "/v1/fleet", &takes).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert_eq!(answer.body[..2], [0x1f, 0x8b]);
    assert!(answer.body.len() * 3 < get("/v1/fleet").await.body.len());
}

#[tokio::test]
async fn an_asset_that_is_known_is_not_sent_again() {
    let first = get("/assets/ninefold.js").await;
    assert_eq!(first.header("content-type"), "text/javascript; charset=utf-8");
    let known = [("if-none-match", first.header("etag"))];
    let again =
        send(router_of(Scene::Quiet, |_| {}), Method::GET, "/assets/ninefold.js", &known).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    assert!(again.body.is_empty());
}

/// The first bytes of a stream, until they hold a whole event.
async fn first_event(router: Router, headers: &[(&str, &str)]) -> (HeaderMap, String) {
    let mut request = Request::builder().uri("/v1/stream").header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("a router never fails");
    assert_eq!(response.status(), StatusCode::OK);
    let (parts, body) = response.into_parts();
    let mut stream = Box::pin(body.into_data_stream());
    let mut text = String::new();
    while !text.contains("\n\n") {
        let next = std::future::poll_fn(|cx| futures_core::Stream::poll_next(stream.as_mut(), cx));
        let bytes = next.await.expect("the stream goes on").expect("no error");
        text.push_str(std::str::from_utf8(&bytes).expect("a text"));
    }
    (parts.headers, text)
}

#[tokio::test]
async fn the_stream_begins_with_the_fleet_whatever_was_seen_last() {
    for headers in [&[][..], &[("last-event-id", "17"), ("accept-encoding", "gzip")][..]] {
        let (sent, text) = first_event(router_of(Scene::Incident, |_| {}), headers).await;
        assert_eq!(sent["content-type"], "text/event-stream");
        let line = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
        };
        assert_eq!(line("event:"), "fleet");
        assert_eq!(line("id:"), NOW_MS.to_string());
        let data: Value = serde_json::from_str(&line("data:")).expect("json");
        assert_eq!(data, get("/v1/fleet").await.json());
    }
}

#[tokio::test]
async fn a_stream_without_an_answer_says_so_and_goes_on() {
    let (_, text) = first_event(router_of(Scene::Unreadable, |_| {}), &[]).await;
    assert!(text.contains("event: problem"), "{text}");
    assert!(text.contains("/docs#problem-table"), "{text}");
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_a_closed_one_makes_room() {
    let router = router_of(Scene::Incident, |options| options.streams_max = 1);
    let request = || {
        let request = Request::builder().uri("/v1/stream").header("host", "localhost");
        request.body(Body::empty()).expect("a request")
    };
    let open = router.clone().oneshot(request()).await.expect("a router never fails");
    let refused = send(router.clone(), Method::GET, "/v1/stream", &[]).await;
    check_problem(refused, 503, "busy", None, "1 streams are open").await;
    drop(open);
    let again = router.oneshot(request()).await.expect("a router never fails");
    assert_eq!(again.status(), StatusCode::OK);
}

#[tokio::test]
async fn shutdown_ends_open_streams() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = router_of(Scene::Incident, |_| {});
    let server = tokio::spawn(ninefold_api::serve(listener, router, Listening::default(), async {
        let _ = stopped.await;
    }));
    let client = tokio::task::spawn_blocking(move || {
        let mut client = TcpStream::connect(address).expect("a connection");
        client.set_read_timeout(Some(Duration::from_secs(4))).expect("a time-out");
        client.write_all(b"GET /v1/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
        let mut begun = [0; 4_096];
        let length = client.read(&mut begun).expect("the head of the response");
        assert!(begun[..length].starts_with(b"HTTP/1.1 200"));
        stop.send(()).expect("the server listens");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the stream ends in order");
        rest
    });
    let rest = client.await.expect("no panic");
    assert!(rest.ends_with(b"0\r\n\r\n"), "the last chunk closes the body");
    server.await.expect("no panic").expect("no error");
}

/// One line of OpenMetrics: a comment, or `name{label="value",…} number`.
fn check_metric_line(line: &str) {
    if let Some(comment) = line.strip_prefix("# ") {
        let keyword = comment.split(' ').next();
        assert!(matches!(keyword, Some("HELP" | "TYPE" | "UNIT" | "EOF")), "{line}");
        return;
    }
    let name_end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(name_end);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    assert!(name.bytes().all(is_name) && !name.is_empty(), "{line}");
    if let Some(mut labels) = rest.strip_prefix('{') {
        loop {
            let (label, value) = labels.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            let end = closing_quote(value).unwrap_or_else(|| panic!("open label: {line}"));
            labels = &value[end + 1..];
            match labels.strip_prefix(',') {
                Some(more) => labels = more,
                None => break,
            }
        }
        rest = labels.strip_prefix('}').unwrap_or_else(|| panic!("open labels: {line}"));
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
}

/// Where a label's value ends; a backslash takes the character after it along.
fn closing_quote(value: &str) -> Option<usize> {
    let mut escaped = false;
    value.char_indices().find_map(|(at, character)| {
        let closes = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        closes.then_some(at)
    })
}

#[tokio::test]
async fn metrics_are_open_metrics_whatever_the_customers_are_called() {
    let answer = get("/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1"));
    let text = answer.text();
    text.lines().for_each(check_metric_line);
    assert!(text.ends_with("# EOF\n"));
    for line in [
        "ninefold_lines_counted_total 1000000",
        "ninefold_table_version 12.0",
        "ninefold_uncommitted_age_seconds 1.25",
        "ninefold_ready 1.0",
    ] {
        assert!(text.lines().any(|known| known == line), "no {line} in {text}");
    }
    assert!(text.contains(r#"customer="line\nbreak""#));
    assert!(text.contains(r#"customer="quo\"te\\back""#));
}

#[tokio::test]
async fn metrics_stand_under_the_names_that_sloth_records() {
    let text = get("/metrics").await.text();
    for window in ["5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"] {
        let sample = format!(
            "slo:sli_error:ratio_rate{window}{{sloth_id=\"inbox-availability/acme\",\
             sloth_service=\"inbox\",sloth_slo=\"availability/acme\",customer=\"acme\",\
             sloth_window=\"{window}\"}} "
        );
        assert!(text.contains(&sample), "no {sample}");
    }
    for name in [
        "slo:objective:ratio",
        "slo:error_budget:ratio",
        "slo:time_period:days",
        "slo:current_burn_rate:ratio",
        "slo:period_burn_rate:ratio",
        "slo:period_error_budget_remaining:ratio",
        "sloth_slo_info",
    ] {
        assert!(text.contains(&format!("\n{name}{{sloth_id=\"fleet-availability\"")), "no {name}");
    }
}

#[tokio::test]
async fn metrics_list_the_burning_and_the_largest_customers_only() {
    let router = router_of(Scene::Incident, |options| options.metrics_customers = 2);
    let text = send(router, Method::GET, "/metrics", &[]).await.text();
    let named: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once("customer=\"")?.1.split('"').next())
        .collect();
    assert!((2..=4).contains(&named.len()), "{named:?}");
    assert!(named.contains("acme") && named.contains("globex"), "the largest: {named:?}");
    let router = router_of(Scene::Incident, |options| options.metrics_customers = 0);
    let text = send(router, Method::GET, "/metrics", &[]).await.text();
    assert!(!text.contains("customer=") && !text.contains("acme"), "{text}");
    assert!(text.contains("slo:error_budget:ratio{sloth_id=\"fleet-availability\""), "{text}");
}

#[tokio::test]
async fn what_was_never_valid_has_no_sample() {
    let text = get_of(Scene::Empty, "/metrics").await.text();
    text.lines().for_each(check_metric_line);
    assert!(!text.contains("ratio_rate5m{"), "{text}");
    assert!(text.contains("slo:objective:ratio{sloth_id=\"fleet-availability\""));
}

// The description of the API.

fn openapi() -> Value {
    serde_json::from_str(include_str!("../assets/openapi.json")).expect("json")
}

#[test]
fn the_description_has_exactly_the_routes_that_exist() {
    let api = openapi();
    let described: BTreeSet<&str> =
        api["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    assert_eq!(described, ninefold_api::paths().into_iter().collect());
    assert_eq!(api["openapi"], "3.1.0");
    assert_eq!(api["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_description_names_exactly_the_arguments_that_are_taken() {
    for (path, item) in openapi()["paths"].as_object().expect("paths") {
        if path.starts_with("/assets")
            || path.starts_with("/v1/silences")
            || !item["post"].is_null()
        {
            continue;
        }
        let known: BTreeSet<String> = item["get"]["parameters"]
            .as_array()
            .expect("parameters")
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().expect("a name").to_owned())
            .collect();
        let path = path.replace("{customer}", "acme").replace("{month}", "2026-11");
        let path = path.replace("{release}", "r42").replace("{id}", fake::INCIDENT);
        let path = path.replace("{name}/{value}", "cohort/canary");
        let detail = get(&format!("{path}?zz=1")).await.json()["detail"].to_string();
        let taken: BTreeSet<String> = match detail.trim_matches('"').split_once("takes ") {
            Some((_, "none")) => BTreeSet::new(),
            Some((_, keys)) => keys.split(", ").map(str::to_owned).collect(),
            None => panic!("{path}: {detail}"),
        };
        assert_eq!(taken, known, "{path}");
    }
}

/// Holds `value` against `schema`: types, required and unknown keys, enums, bounds, items.
fn check_schema(api: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/components/schemas/").expect("a local reference");
        let schema = &api["components"]["schemas"][name];
        assert!(schema.is_object(), "no schema {name}");
        return check_schema(api, schema, value, &format!("{at}({name})"));
    }
    if let Some(schemas) = schema["anyOf"].as_array() {
        let fits = |one: &&Value| check_schema(api, one, value, at).is_ok();
        return schemas.iter().find(fits).map(|_| ()).ok_or(format!("{at}: {value} fits none"));
    }
    let is_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    let fits = match &schema["type"] {
        Value::String(name) => is_type(name),
        Value::Array(names) => names.iter().any(|name| is_type(name.as_str().expect("a type"))),
        _ => panic!("{at}: a schema without a type"),
    };
    if !fits {
        return Err(format!("{at}: {value} is no {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at}: {value} is none of {words:?}"));
    }
    if let Some(number) = value.as_f64() {
        let below = schema["minimum"].as_f64().is_some_and(|minimum| number < minimum);
        let above = schema["maximum"].as_f64().is_some_and(|maximum| number > maximum);
        if below || above {
            return Err(format!("{at}: {number} is out of bounds"));
        }
    }
    if let Some(items) = value.as_array() {
        for (index, item) in items.iter().enumerate() {
            check_schema(api, &schema["items"], item, &format!("{at}[{index}]"))?;
        }
    }
    let Some(keys) = value.as_object() else { return Ok(()) };
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    if let Some(missing) =
        required.iter().find(|key| !keys.contains_key(key.as_str().expect("a key")))
    {
        return Err(format!("{at}: {missing} is missing"));
    }
    if schema.get("properties").is_none() && schema.get("additionalProperties").is_none() {
        return Ok(());
    }
    for (key, value) in keys {
        let known = schema["properties"].get(key).or(schema.get("additionalProperties"));
        let known = known.ok_or_else(|| format!("{at}: {key} is not described"))?;
        check_schema(api, known, value, &format!("{at}.{key}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn answers_are_as_described_and_the_description_is_whole() {
    let api = openapi();
    let mut paths: Vec<String> = PLAIN_ROUTES.map(str::to_owned).into();
    paths.extend(CUSTOMER_ROUTES.map(|rest| format!("/v1/customers/acme{rest}")));
    let mut checked = 0;
    for scene in [Scene::Incident, Scene::Empty] {
        for path in &paths {
            let answer = get_of(scene, path).await;
            if answer.header("content-type") != "application/json" || answer.status != 200 {
                continue;
            }
            let template = path.split('?').next().expect("a path");
            let template = template.replace("acme", "{customer}").replace("2026-11", "{month}");
            let template = template.replace("r42", "{release}").replace(fake::INCIDENT, "{id}");
            let template = template.replace("cohort/canary", "{name}/{value}");
            let content = &api["paths"][&template]["get"]["responses"]["200"]["content"];
            let schema = &content["application/json"]["schema"];
            let result = check_schema(&api, schema, &answer.json(), path);
            assert_eq!(result, Ok(()), "{scene:?}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
    let problem = get("/v1/fleet?x=1").await.json();
    let schema = serde_json::json!({"$ref": "#/components/schemas/Problem"});
    assert_eq!(check_schema(&api, &schema, &problem, "problem"), Ok(()));
}

#[tokio::test]
async fn the_checker_of_schemas_sees_a_missing_and_a_foreign_key() {
    let api = openapi();
    let schema = serde_json::json!({"$ref": "#/components/schemas/Burn"});
    let mut body = get("/v1/burn").await.json();
    body["burning"][0]["surprise"] = Value::Null;
    assert!(check_schema(&api, &schema, &body, "burn").is_err());
    let mut body = get("/v1/burn").await.json();
    body["burning"][0].as_object_mut().expect("a row").remove("tier");
    assert!(check_schema(&api, &schema, &body, "burn").is_err());
}

#[tokio::test]
async fn documents_list_every_operation_and_every_problem() {
    let page = get("/docs").await.text();
    for path in ninefold_api::paths() {
        let method = match path {
            "/v1/events" => "POST",
            "/v1/silences/{id}" => "DELETE",
            _ => "GET",
        };
        assert!(page.contains(&format!("<code>{method} {path}</code>")), "{path}");
    }
    for kind in ["argument", "host", "timeout", "not-ready"] {
        assert!(page.contains(&format!("id=\"problem-{kind}\"")), "{kind}");
    }
}
