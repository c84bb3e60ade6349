//! What the service says of itself, for `/healthz`, `/readyz` and `/metrics`.
//!
//! The loop writes it down after each turn; who asks reads that, and the age of what is not
//! committed as of now, so that a loop that hangs in a commit is seen too.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use ninefold_engine::query::{Health, KafkaHealth};

use super::outbox::Outbox;
use super::remote_write::Note;
use crate::states::lock;

/// The board that the loop writes on and answers read.
#[derive(Clone, Default)]
pub struct Board {
    noted: Arc<Mutex<Noted>>,
    outbox: Outbox,
    kafka: Arc<Mutex<KafkaHealth>>,
    remote_write: Note,
    /// Why the certificate in its files is not served.
    certificate: Arc<Mutex<Option<String>>>,
}

#[derive(Default)]
struct Noted {
    health: Health,
    /// When the oldest of what is not committed was counted.
    uncommitted_since: Option<Instant>,
}

impl Board {
    /// A board that also tells what `outbox` has sent, and how the Kafka source is.
    pub fn new(outbox: Outbox, kafka: Arc<Mutex<KafkaHealth>>) -> Board {
        let (remote_write, certificate) = (Note::default(), Arc::default());
        Board { noted: Arc::default(), outbox, kafka, remote_write, certificate }
    }

    /// Where remote-write says how it is.
    pub(super) fn remote_write(&self) -> Note {
        Arc::clone(&self.remote_write)
    }

    /// Writes down how things are, and since when something is not committed.
    pub(super) fn note(&self, health: Health, uncommitted_since: Option<Instant>) {
        *lock(&self.noted) = Noted { health, uncommitted_since };
    }

    /// Writes down since when something is not committed.
    pub(super) fn note_uncommitted(&self, since: Instant) {
        lock(&self.noted).uncommitted_since = Some(since);
    }

    /// Writes down why the certificate in its files is not served; `None` = it is.
    pub fn note_certificate(&self, refused: Option<String>) {
        *lock(&self.certificate) = refused;
    }

    /// How things are.
    pub fn read(&self) -> Health {
        let noted = lock(&self.noted);
        let kafka = lock(&self.kafka).clone();
        let remote_write = lock(&self.remote_write).clone();
        let complaint = remote_write.as_ref().and_then(|one| one.complaint.as_ref());
        let complaint = complaint.map(|complaint| format!("remote-write: {complaint}"));
        let certificate = lock(&self.certificate).clone();
        let notes = noted.health.notes.iter().chain(&kafka.notes).cloned();
        let notes = notes.chain(complaint).chain(certificate).collect();
        // 0 is "all is committed".
        let age_ms = |since: Instant| (since.elapsed().as_millis() as u64).max(1);
        Health {
            uncommitted_age_ms: noted.uncommitted_since.map_or(0, age_ms),
            event_to_alert: self.outbox.delays(),
            notes,
            kafka,
            remote_write,
            ..noted.health.clone()
        }
    }
}
