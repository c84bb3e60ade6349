//! A command that keeps running, and its HTTP answers.
//!
//! [`Service::start`] waits for the line that names the address; [`Service::until`] asks again
//! until an answer is there or a deadline has passed; [`Service::stop`] sends SIGTERM and waits
//! for the end. One that is dropped is killed.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::session::{Ended, Session};

/// How long anything here may take; far more than it does, for slow machines.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a service may take to end once it is asked to.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait before one asks again.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

pub struct Service {
    line: String,
    child: Child,
    stdin: Option<ChildStdin>,
    /// `http://127.0.0.1:PORT`, or `https:` where it has a certificate.
    pub address: String,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    agent: ureq::Agent,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Service {
    /// Starts `ninefold LINE` and waits until it names its address.
    pub fn start(session: &Session, line: &str) -> Service {
        Service::start_with(session, line, &[])
    }

    /// The same with variables in its environment.
    pub fn start_with(session: &Session, line: &str, variables: &[(&str, &str)]) -> Service {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = session.command(&words);
        command.envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
        let (sender, addresses) = channel();
        let stdout = lines(child.stdout.take().expect("it is piped"), sender.clone());
        let stderr = lines(child.stderr.take().expect("it is piped"), sender);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(DEADLINE))
            .build();
        let mut service = Service {
            line: line.to_owned(),
            stdin: child.stdin.take(),
            child,
            address: String::new(),
            stdout: Some(stdout),
            stderr: Some(stderr),
            agent: config.into(),
        };
        service.address = service.announced(&addresses);
        service
    }

    fn announced(&mut self, addresses: &Receiver<String>) -> String {
        addresses.recv_timeout(DEADLINE).unwrap_or_else(|_| {
            let _ = self.child.kill();
            panic!("no address: {}", self.ended());
        })
    }

    pub fn get(&self, path: &str) -> Answer {
        let url = format!("{}{path}", self.address);
        let mut response = self.agent.get(&url).call().unwrap_or_else(|e| panic!("{url}: {e}"));
        let content_type = response.headers().get("content-type");
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (status, content_type) = (response.status().as_u16(), content_type.to_owned());
        let body = response.body_mut().read_to_string().expect("the body is text");
        Answer { status, content_type, body }
    }

    /// The body of an answer that is fine.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.content_type, "application/json", "{path}");
        answer.json()
    }

    pub fn post(&self, path: &str) -> Answer {
        let url = format!("{}{path}", self.address);
        let mut response = self.agent.post(&url).send_empty().expect("it answers");
        let body = response.body_mut().read_to_string().expect("the body is text");
        Answer { status: response.status().as_u16(), content_type: String::new(), body }
    }

    /// The lines of an answer that does not end, one by one.
    pub fn lines(&self, path: &str) -> impl Iterator<Item = String> + use<> {
        let url = format!("{}{path}", self.address);
        let response = self.agent.get(&url).call().expect("it answers");
        assert_eq!(response.status().as_u16(), 200);
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        lines.map_while(Result::ok)
    }

    /// Asks until the answer is there.
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&Service) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = ask(self) {
                return found;
            }
            if since.elapsed() > DEADLINE || self.child.try_wait().expect("a child").is_some() {
                let health = self.agent.get(format!("{}/healthz", self.address)).call();
                let _ = self.child.kill();
                panic!("{what} does not come: {health:?}\n{}", self.ended());
            }
            std::thread::park_timeout(ASK_INTERVAL);
        }
    }

    /// Waits until the service has read so many lines.
    pub fn until_read(&mut self, lines: u64) {
        self.until(&format!("line {lines}"), |service| {
            (service.json("/healthz")["read"].as_u64()? >= lines).then_some(())
        });
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Ends its standard input and waits for its end.
    pub fn close(mut self) -> Ended {
        self.stdin = None;
        self.wait();
        self.ended()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(self) -> Ended {
        self.signal("TERM");
        self.end()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let (name, id) = (format!("-{name}"), self.child.id().to_string());
        let sent = Command::new("kill").args([&name, &id]).status().expect("there is kill");
        assert!(sent.success());
    }

    /// Waits until a signal or a failpoint has stopped it; it answers nothing then.
    pub fn until_stopped(&mut self) {
        self.until("the stop", |service| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.id()));
            stat.expect("Linux").contains(") T ").then_some(())
        });
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for an end that has been asked for, or that comes by itself.
    pub fn end(mut self) -> Ended {
        self.wait();
        self.ended()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("it is there");
        self.ended()
    }

    /// The same of one that may take as long as that.
    pub fn end_within(mut self, limit: Duration) -> Ended {
        self.wait_for(limit);
        self.ended()
    }

    fn wait(&mut self) {
        self.wait_for(END_DEADLINE);
    }

    fn wait_for(&mut self, limit: Duration) {
        let since = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            assert!(since.elapsed() < limit, "ninefold {} does not end", self.line);
            std::thread::park_timeout(ASK_INTERVAL);
        }
    }

    fn ended(&mut self) -> Ended {
        let code = self.child.wait().expect("a child").code();
        let text = |lines: Option<JoinHandle<String>>| {
            lines.map(|lines| lines.join().expect("lines are read")).unwrap_or_default()
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Ended { line: self.line.clone(), code, stdout, stderr }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all lines of a stream; the first address in them is sent.
fn lines(
    stream: impl Read + Send + 'static,
    addresses: std::sync::mpsc::Sender<String>,
) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(at) = line.find("http://").or_else(|| line.find("https://")) {
                let address = line[at..].split_whitespace().next().unwrap_or_default();
                // Nobody waits for a second one.
                let _ = addresses.send(address.trim_end_matches('/').to_owned());
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    })
}
