//! Sends the gauges of objectives to a Prometheus, at an interval, from a thread of its own.
//!
//! With several instances on one table only the judge sends, since each would send the same
//! series; one that is no longer the judge ends its series, and the next one goes on with them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender as Guard, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use ninefold_engine::config::{HeaderValue, RemoteWrite, Secret};
use ninefold_engine::notify::address::AddressRule;
use ninefold_engine::notify::outbox::Failure;
use ninefold_engine::notify::remote_write::{Backlog, HEADERS, Outcome};
use ninefold_engine::notify::send::{SendError, Sender};
use ninefold_engine::query::gauges::gauges;
use ninefold_engine::query::{Answers, RemoteWriteHealth};

use super::{Service, clock_ms};
use crate::batch::random_seed;
use crate::serve::default_target;
use crate::states::lock;

/// How long one request may take.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// What is told of it; `None` where nothing is sent.
pub type Note = Arc<Mutex<Option<RemoteWriteHealth>>>;

/// Starts the thread where the configuration asks for it; it ends when what is returned is
/// dropped.
///
/// # Errors
/// A secret of a header cannot be fetched, or the table not be opened a second time.
pub fn start(service: &Service) -> anyhow::Result<Option<Guard<()>>> {
    let config = service.config();
    let Some(remote) = config.remote_write.clone() else { return Ok(None) };
    let fetch = |(name, value): (&String, &HeaderValue)| {
        let value = value.fetch().with_context(|| format!("[remote_write] header {name}"))?;
        Ok((name.clone(), value))
    };
    let headers = remote.headers.iter().map(fetch).collect::<anyhow::Result<Vec<_>>>()?;
    let note = service.board.remote_write();
    *lock(&note) = Some(RemoteWriteHealth::default());
    let writer = Writer {
        sender: Sender::new(&remote.url, AddressRule { allow: remote.allow.clone() }, SEND_LIMIT),
        backlog: Backlog::new(remote.labels.clone()),
        customers_max: config.metrics_customers_max,
        target: default_target(&config),
        answers: Box::new(service.answers()?),
        remote,
        headers,
        note,
        complaint: None,
    };
    let (guard, guarded) = channel();
    std::thread::spawn(move || writer.run(&guarded));
    Ok(Some(guard))
}

struct Writer {
    remote: RemoteWrite,
    headers: Vec<(String, Secret)>,
    sender: Sender,
    backlog: Backlog,
    answers: Box<dyn Answers>,
    customers_max: usize,
    target: f64,
    note: Note,
    /// The last failure: one that repeats is said once.
    complaint: Option<String>,
}

impl Writer {
    fn run(mut self, guarded: &Receiver<()>) {
        let interval_ms = self.remote.interval_ms as i64;
        let mut next_ms = clock_ms();
        loop {
            let now_ms = clock_ms();
            // A clock that was set back must not stop it for as long.
            if now_ms >= next_ms || next_ms > now_ms + interval_ms {
                self.take(now_ms);
                next_ms = now_ms + interval_ms;
            }
            while self.send_due() {}
            let health =
                RemoteWriteHealth { complaint: self.complaint.clone(), ..self.backlog.health() };
            *lock(&self.note) = Some(health);
            let wakes_ms = self.backlog.wakes_at_ms().map_or(next_ms, |wakes| wakes.min(next_ms));
            let wait_ms = wakes_ms.saturating_sub(clock_ms()).clamp(0, interval_ms);
            let wait = Duration::from_millis(wait_ms as u64);
            if guarded.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Puts the gauges of now into the backlog.
    fn take(&mut self, now_ms: i64) {
        let health = self.answers.health();
        if health.role == "member" {
            self.backlog.note(&[], now_ms);
            return;
        }
        // Where memory is incomplete there is no answer, and no sample: never a wrong one.
        match gauges(&*self.answers, self.customers_max, self.target, now_ms) {
            Ok(gauges) => self.backlog.note(&gauges, now_ms),
            Err(error) => self.complain(Some(error.to_string())),
        }
    }

    /// Sends the batch that is due; whether another one may be.
    fn send_due(&mut self) -> bool {
        let Some(body) = self.backlog.due(clock_ms()) else { return false };
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.reveal()));
        let sent = self.sender.post("", HEADERS.into_iter().chain(own), body);
        let outcome = match sent.as_ref().map_err(SendError::failure) {
            Ok(()) => Outcome::Taken,
            Err(Failure::Message) => Outcome::Refused,
            Err(Failure::Receiver(asked_ms)) => Outcome::Failed(asked_ms),
        };
        let jitter = random_seed() as f64 / u64::MAX as f64;
        self.backlog.ended(outcome, clock_ms(), jitter);
        self.complain(sent.err().map(|error| error.to_string()));
        !matches!(outcome, Outcome::Failed(_))
    }

    fn complain(&mut self, complaint: Option<String>) {
        if self.complaint != complaint {
            match &complaint {
                Some(complaint) => eprintln!("ninefold: remote-write: {complaint}"),
                None => eprintln!("ninefold: remote-write goes on"),
            }
            self.complaint = complaint;
        }
    }
}
