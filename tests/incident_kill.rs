//! `kill -9` in the middle of an incident: its receiver hears of one page under one key, loses
//! none, and hears of its end.
//!
//! The short form kills 10 times, the long one `NINEFOLD_INCIDENT_KILLS=50` times.

#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use service::Service;
use session::Session;

/// How many customers fail.
const CUSTOMERS: usize = 20;

/// The wall clock in epoch milliseconds: alerts are judged by it.
#[expect(clippy::disallowed_methods, reason = "events of a running service are of now")]
fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// A webhook that takes everything.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<Value>>>);

impl Taken {
    /// Starts it; its port.
    fn listen(&self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = self.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let taken = taken.clone();
                // One that was killed in the middle has told nothing.
                std::thread::spawn(move || drop(taken.serve(connection)));
            }
        });
        port
    }

    fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        self.0.lock().unwrap().push(serde_json::from_slice(&body)?);
        (&connection)
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }

    /// Key and state of every page, in the order in which they came.
    fn pages(&self) -> Vec<(String, String)> {
        let taken = self.0.lock().unwrap();
        let notices = taken.iter().flat_map(|one| one["notices"].as_array().unwrap());
        let pages = notices.filter(|one| one["subject"] == "incident" && one["severity"] == "page");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        pages.map(|one| (text(&one["fingerprint"]), text(&one["state"]))).collect()
    }

    fn has(&self, state: &str) -> bool {
        self.pages().last().is_some_and(|page| page.1 == state)
    }
}

/// Appends requests of now of every customer.
fn append(session: &Session, status: u16, count: u32) {
    let path = session.path("events.ndjson");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let ts = now_ms();
    let line = |n: usize| {
        format!("{{\"ts\":{ts},\"customer\":\"c{n}\",\"status\":{status},\"count\":{count}}}\n")
    };
    let lines: String = (0..CUSTOMERS).map(line).collect();
    file.write_all(lines.as_bytes()).unwrap();
}

#[test]
fn a_killed_instance_pages_under_one_key_and_resolves() {
    let kills = std::env::var("NINEFOLD_INCIDENT_KILLS").map_or(10, |text| text.parse().unwrap());
    let (session, taken) = (Session::new(), Taken::default());
    let port = taken.listen();
    let config = format!(
        "[run]\ncommit_interval = \"200ms\"\n[[notify]]\nname = \"ops\"\nkind = \"webhook\"\n\
         url = \"http://127.0.0.1:{port}/\"\nallow = [\"127.0.0.1/32\"]\n"
    );
    session.write("c.toml", config.as_bytes());
    append(&session, 200, 5);
    let line = "run --data d --config c.toml --follow events.ndjson --listen 127.0.0.1:0";
    for kill in 0..kills {
        let service = Service::start(&session, line);
        append(&session, 503, 5);
        // Somewhere between the first look at the file and the word of what was sent.
        std::thread::park_timeout(Duration::from_millis(kill * 379 % 2_500));
        service.kill();
    }
    let mut service = Service::start(&session, line);
    append(&session, 503, 5);
    service.until("the page", |_| taken.has("firing").then_some(()));
    append(&session, 200, 1_000_000);
    service.until("the resolve", |_| taken.has("resolved").then_some(()));
    let pages = taken.pages();
    let keys: BTreeSet<&str> = pages.iter().map(|page| page.0.as_str()).collect();
    assert_eq!(keys.len(), 1, "{pages:?}");
    let incidents = service.json("/v1/incidents");
    let incidents = incidents["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0]["customers"], CUSTOMERS as u64);
    assert_eq!(
        (&incidents[0]["state"], &incidents[0]["fingerprint"]),
        (&Value::from("closed"), &Value::from(*keys.first().unwrap()),)
    );
    service.stop();
}
