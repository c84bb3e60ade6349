//! A real Prometheus and a real Alertmanager, each with a folder of its own, on loopback; and
//! `promtool`. Where one is not installed, `skipped: why` is printed and the caller returns.

#![allow(dead_code, reason = "several tests may include this module and use a part of it")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything here may take; far more than it does, for slow machines.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server of others, killed when it is dropped.
pub struct Server {
    child: Child,
    log: std::path::PathBuf,
    /// `http://127.0.0.1:PORT`.
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no {program}");
    }
    found
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("it is bound").port()
}

/// A Prometheus on `port` with a configuration, its data in `folder`, where it also finds again
/// what it had before. It takes remote-write.
pub fn prometheus(folder: &Path, port: u16, config: &str) -> Server {
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config).expect("the folder can be written");
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", folder.join("tsdb").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    Server::start("prometheus", folder, &arguments, port)
}

/// An Alertmanager on `port` with a configuration.
pub fn alertmanager(folder: &Path, port: u16, config: &str) -> Server {
    let file = folder.join("alertmanager.yml");
    std::fs::write(&file, config).expect("the folder can be written");
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.path={}", folder.join("alerts").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
    ];
    Server::start("prometheus-alertmanager", folder, &arguments, port)
}

/// Runs `promtool WORDS`, which has to succeed.
pub fn promtool(words: &[&str]) -> String {
    let output = Command::new("promtool").args(words).output().expect("promtool starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "promtool {words:?}:\n{stdout}\n{stderr}");
    stdout
}

impl Server {
    fn start(program: &str, folder: &Path, arguments: &[String], port: u16) -> Server {
        let log = folder.join(format!("{program}.log"));
        let file = File::create(&log).expect("the folder can be written");
        let errors = file.try_clone().expect("a second handle");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().expect("it starts");
        let mut server = Server { child, log, address: format!("http://127.0.0.1:{port}") };
        server.until("it to be ready", |server| server.get("/-/ready").map(drop));
        server
    }

    /// The body of an answer that is fine.
    pub fn get(&self, path: &str) -> Option<String> {
        let url = format!("{}{path}", self.address);
        ureq::get(&url).call().ok()?.body_mut().read_to_string().ok()
    }

    pub fn json(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&self.get(path)?).ok()
    }

    /// The result of a query to Prometheus: each series with its labels and its value.
    pub fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.json(&format!("/api/v1/query?query={encoded}")).unwrap_or_default();
        let series = |one: &Value| {
            let value = one["value"][1].as_str().expect("a sample").parse().expect("a number");
            (one["metric"].clone(), value)
        };
        answer["data"]["result"].as_array().into_iter().flatten().map(series).collect()
    }

    /// Asks until the answer is there.
    pub fn until<T>(&mut self, what: &str, ask: impl Fn(&Server) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = ask(self) {
                return found;
            }
            if since.elapsed() > DEADLINE || self.child.try_wait().expect("a child").is_some() {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("{} waits for {what}:\n{log}", self.address);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

/// Takes POSTs on loopback, says 200 and keeps their bodies.
pub struct Hook {
    pub port: u16,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    pub fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut size = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    let lower = line.to_ascii_lowercase();
                    if let Some(length) = lower.strip_prefix("content-length:") {
                        size = length.trim().parse().unwrap_or(0);
                    }
                    line.clear();
                }
                let mut body = vec![0; size];
                if reader.read_exact(&mut body).is_ok()
                    && let Ok(body) = serde_json::from_slice(&body)
                {
                    kept.lock().expect("no panic").push(body);
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                // Who has gone does not want the answer.
                let _ = reader.get_mut().write_all(answer);
            }
        });
        Hook { port, bodies }
    }

    /// What has come so far.
    pub fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().expect("no panic").clone()
    }
}
