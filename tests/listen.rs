//! How the real binary takes connections: TLS with a certificate that is exchanged while it runs,
//! and clients that are slow on purpose.
//!
//! `fixtures/tls` holds two certificates for `localhost` and 127.0.0.1 with their keys, each its
//! own root, made for these tests alone.

#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use service::Service;
use session::Session;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

const TLS: &str = "[api]\ntls_certificate = \"tls.crt\"\ntls_key = \"tls.key\"\n";
const RUN: &str = "run --push --data d --config c.toml --listen 127.0.0.1:0";

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("it is there")
}

/// Copies a certificate, its key, or both, to where the configuration says.
fn put(session: &Session, certificate: &str, key: &str) {
    session.write("tls.crt", &fixture(&format!("{certificate}.crt")));
    session.write("tls.key", &fixture(&format!("{key}.key")));
}

/// A client that trusts one certificate and no other, and opens a connection for each request.
fn trusting(certificate: &str) -> ureq::Agent {
    let root = Certificate::from_pem(&fixture(&format!("{certificate}.crt"))).expect("PEM");
    let tls = TlsConfig::builder().root_certs(RootCerts::from([root].into_iter())).build();
    let config = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false);
    let config = config.timeout_global(Some(Duration::from_secs(30))).max_idle_connections(0);
    config.build().into()
}

fn ready(service: &Service, agent: &ureq::Agent) -> Result<Value, ureq::Error> {
    let text =
        agent.get(format!("{}/readyz", service.address)).call()?.body_mut().read_to_string()?;
    Ok(serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn tls_is_spoken_and_nothing_else() {
    let session = Session::new();
    session.write("c.toml", TLS.as_bytes());
    put(&session, "a", "a");
    let service = Service::start(&session, RUN);
    assert!(service.address.starts_with("https://127.0.0.1:"), "{}", service.address);
    let agent = trusting("a");
    assert!(ready(&service, &agent).expect("it is trusted")["ready"].is_boolean());
    let events = agent.post(format!("{}/v1/events", service.address));
    let events = events.header("content-type", "application/x-ndjson");
    assert_eq!(events.send("broken\n").expect("it answers").status(), 200);
    assert!(ready(&service, &trusting("b")).is_err(), "another certificate is not this one");
    let plain = service.address.replace("https", "http");
    let answer = trusting("a").get(format!("{plain}/readyz")).call();
    assert!(answer.is_err(), "no HTTP in the clear: {answer:?}");
    service.stop().ok_with_notes();
}

#[test]
fn a_certificate_is_exchanged_while_it_runs_and_a_broken_pair_is_not() {
    let session = Session::new();
    session.write("c.toml", TLS.as_bytes());
    put(&session, "a", "a");
    let mut service = Service::start(&session, RUN);
    let (a, b) = (trusting("a"), trusting("b"));
    // One file is new already, the other is not yet.
    put(&session, "b", "a");
    service.signal("HUP");
    let note = service.until("the refusal", |service| {
        let ready = ready(service, &a).expect("the old one is served");
        let notes = ready["notes"].as_array().expect("a list").iter().filter_map(Value::as_str);
        notes.map(str::to_owned).find(|note| note.contains("certificate"))
    });
    assert!(note.contains("the certificate stays as it was: cannot use [api] tls_"), "{note}");
    put(&session, "b", "b");
    service.signal("HUP");
    let ready_now = service.until("the new one", |service| ready(service, &b).ok());
    assert!(!ready_now["notes"].to_string().contains("certificate"), "{ready_now}");
    assert!(ready(&service, &a).is_err(), "the old one is gone");
    // Without a signal it is found by itself.
    put(&session, "a", "a");
    service.until("the old one again", |service| ready(service, &a).ok());
    let ended = service.stop();
    let said = &ended.stderr;
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(said.matches("the new tls.crt is served").count(), 2, "{said}");
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start_by_name() {
    let session = Session::new();
    session.write("c.toml", TLS.as_bytes());
    let missing = session.run(RUN);
    assert_eq!(missing.code, Some(1), "{missing}");
    assert!(missing.stderr.contains("cannot read tls.crt"), "{missing}");
    put(&session, "a", "b");
    let wrong = session.run(RUN);
    assert_eq!(wrong.code, Some(1), "{wrong}");
    let expect = "cannot use [api] tls_certificate tls.crt with tls_key tls.key";
    assert!(wrong.stderr.contains(expect), "{wrong}");
}

/// The most memory that a process ever had, in bytes.
fn memory_peak(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.id())).expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib << 10
}

/// Far more connections than are taken, each with headers that never end: they are closed when
/// their time is over, those that wait come after them, and memory stays flat. A stream, which
/// sends no further headers, goes on meanwhile.
#[test]
fn headers_that_never_end_hold_nobody_up_for_long() {
    let session = Session::new();
    session.write("c.toml", b"[api]\nheader_timeout = \"1s\"\nconnections_max = 100\n");
    let service = Service::start(&session, RUN);
    service.json("/healthz");
    let stream = service.lines("/v1/stream");
    let before = memory_peak(&service);
    let address = service.address.trim_start_matches("http://").to_owned();
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", "x".repeat(32 << 10));
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
            stream.write_all(head.as_bytes()).expect("the system takes it");
            stream
        })
        .collect();
    // It comes last, and is answered within the time-out of the client all the same.
    service.json("/healthz");
    for stream in &mut slow {
        let mut rest = Vec::new();
        // Closed in order, or reset, since what was sent was not all read.
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(String::from_utf8_lossy(&rest), "", "no answer to half a request");
    }
    assert_eq!(stream.filter(|line| line == "event: fleet").take(6).count(), 6);
    let grown = memory_peak(&service).saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes for slow clients");
    service.stop().ok_with_notes();
}
