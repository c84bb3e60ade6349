//! A receiver of notifications: an HTTP server that keeps what it is sent and answers as told.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub at: Instant,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Fingerprint, id and state of every notice in it.
    pub fn notices(&self) -> Vec<[String; 3]> {
        let body = self.json();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let of_one = |one: &Value| ["fingerprint", "id", "state"].map(|key| text(&one[key]));
        body["notices"].as_array().expect("a list").iter().map(of_one).collect()
    }
}

/// The status and the further headers of the answer to the request of that number, from 0.
pub type Answering = fn(usize) -> (u16, &'static str);

/// The server; it ends with the process.
pub struct Receiver {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// One that takes everything.
    pub fn taking() -> Receiver {
        Receiver::answering(|_| (200, ""))
    }

    /// One that takes the connection and never answers.
    pub fn hanging() -> Receiver {
        Receiver::answering(|_| (0, ""))
    }

    /// One that answers as `answering` says; status 0 is no answer at all.
    pub fn answering(answering: Answering) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, answering, &kept));
            }
        });
        Receiver { address, requests }
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("nobody panics with it").clone()
    }

    /// Fingerprint, id and state of everything that came.
    pub fn notices(&self) -> Vec<[String; 3]> {
        self.requests().iter().flat_map(Request::notices).collect()
    }
}

/// Answers one request; a client that goes away is its own business.
fn serve(stream: TcpStream, answering: Answering, kept: &Mutex<Vec<Request>>) {
    let Some(request) = read(&stream) else { return };
    let number = {
        let mut kept = kept.lock().expect("nobody panics with it");
        kept.push(request);
        kept.len() - 1
    };
    let (status, headers) = answering(number);
    if status == 0 {
        std::thread::park_timeout(std::time::Duration::from_secs(600));
        return;
    }
    let answer =
        format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
    let _ = (&stream).write_all(answer.as_bytes());
}

fn read(stream: &TcpStream) -> Option<Request> {
    let at = Instant::now();
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        Some(line.trim_end().to_owned())
    };
    let path = line()?.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body: String::from_utf8(body).ok()?, at })
}
