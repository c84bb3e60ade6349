//! What the service says of itself, for `/healthz`, `/readyz` and `/metrics`.
//!
//! The loop writes it down after each turn; who asks reads that, and the age of what is not
//! committed as of now, so that a loop that hangs in a commit is seen too.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use ninefold_engine::query::Health;

use super::outbox::Outbox;
use crate::states::lock;

/// The board that the loop writes on and answers read.
#[derive(Clone, Default)]
pub struct Board {
    noted: Arc<Mutex<Noted>>,
    outbox: Outbox,
}

#[derive(Default)]
struct Noted {
    health: Health,
    /// When the oldest of what is not committed was counted.
    uncommitted_since: Option<Instant>,
}

impl Board {
    /// A board that also tells what `outbox` has sent.
    pub fn new(outbox: Outbox) -> Board {
        Board { noted: Arc::default(), outbox }
    }

    /// Writes down how things are, and since when something is not committed.
    pub(super) fn note(&self, health: Health, uncommitted_since: Option<Instant>) {
        *lock(&self.noted) = Noted { health, uncommitted_since };
    }

    /// How things are.
    pub fn read(&self) -> Health {
        let noted = lock(&self.noted);
        let age = noted.uncommitted_since.map(|since| since.elapsed().as_millis() as u64);
        Health {
            uncommitted_age_ms: age.unwrap_or(0),
            event_to_alert: self.outbox.delays(),
            ..noted.health.clone()
        }
    }
}
