//! Telling receivers: one thread each, so that one that hangs delays no other.
//!
//! A thread holds the outbox of its receiver. It hears of transitions from the loop and leaves
//! word of what was taken, which becomes a row of the next commit. A start begins with what the
//! table holds of the last days: what was never confirmed is sent again, under the same keys.

use std::sync::mpsc::{Receiver as Queue, RecvTimeoutError, Sender as QueueSender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use ninefold_engine::config::{Receiver, Secret};
use ninefold_engine::notify::address::AddressRule;
use ninefold_engine::notify::outbox::{Notification, Outbox, Sent};
use ninefold_engine::notify::send::Sender;
use ninefold_engine::pipeline::incidents::stored_incidents;
use ninefold_engine::pipeline::sent::stored_sent;
use ninefold_engine::pipeline::watch::stored_transitions;
use ninefold_engine::query::incident::notices;
use ninefold_engine::table::{Filter, Table};
use ninefold_engine::time::{DAY_MINUTES, Minute};

use super::clock_ms;
use super::outbox::Published;
use crate::batch::random_seed;
use crate::states::lock;

/// How much of the past a start looks at: a slow ticket fires for days.
const PAST_MINUTES: u32 = 7 * DAY_MINUTES;

/// The longest wait of a thread before it looks at its outbox again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The threads that tell receivers; they end when this is dropped.
pub struct Notifiers {
    queues: Vec<QueueSender<Published>>,
    told: Told,
}

/// What receivers have taken and no commit holds.
type Told = Arc<Mutex<Vec<Sent>>>;

impl Notifiers {
    /// Starts a thread for each of `receivers`, with what `table` says of the last days.
    ///
    /// # Errors
    /// A secret cannot be fetched, or the table cannot be read.
    pub fn start(receivers: &[Receiver], table: &Table) -> anyhow::Result<Notifiers> {
        let mut notifiers = Notifiers { queues: Vec::new(), told: Told::default() };
        if receivers.is_empty() {
            return Ok(notifiers);
        }
        let past = Minute::of_ms(clock_ms()).minus(PAST_MINUTES)..=Minute(u32::MAX);
        let mut transitions = stored_transitions(table, &past)?;
        let past = Filter::of_minutes(past);
        let incidents = stored_incidents(table, &past)?;
        transitions.extend(incidents.iter().flat_map(|stored| notices(&stored.incident)));
        let sent = stored_sent(table, &past)?;
        for receiver in receivers {
            let secret = receiver.secret.as_ref().map(|place| place.fetch()).transpose();
            let secret = secret.with_context(|| format!("receiver {}", receiver.name))?;
            let resend_ms = receiver.kind.resend_ms();
            let mut outbox = Outbox::new(&receiver.name, receiver.severities.clone(), resend_ms);
            let wanted = transitions.iter().filter(|one| receiver.each.hears_of(one));
            wanted.for_each(|transition| outbox.note(transition, false));
            sent.iter().for_each(|sent| outbox.note_sent(sent));
            let rule = AddressRule { allow: receiver.allow.clone() };
            let teller = Teller {
                sender: Sender::new(&receiver.url, rule),
                receiver: receiver.clone(),
                secret: secret.unwrap_or_default(),
                outbox,
                told: Arc::clone(&notifiers.told),
                complaint: None,
            };
            let (queue, published) = channel();
            notifiers.queues.push(queue);
            std::thread::spawn(move || teller.run(&published));
        }
        Ok(notifiers)
    }

    /// Hands a transition to every receiver.
    pub fn publish(&self, published: &Published) {
        for queue in &self.queues {
            // A thread ends only when its queue does.
            let _ = queue.send(published.clone());
        }
    }

    /// What was taken since it was asked last: to be committed.
    pub fn take_told(&self) -> Vec<Sent> {
        std::mem::take(&mut *lock(&self.told))
    }
}

/// Tells one receiver.
struct Teller {
    receiver: Receiver,
    sender: Sender,
    secret: Secret,
    outbox: Outbox,
    told: Told,
    /// The last failure: one that repeats is said once.
    complaint: Option<String>,
}

impl Teller {
    fn run(mut self, published: &Queue<Published>) {
        loop {
            for notification in self.outbox.due(clock_ms()) {
                self.tell(&notification);
            }
            match published.recv_timeout(self.wait()) {
                Ok(first) => {
                    let all = std::iter::once(first).chain(published.try_iter());
                    for one in all.filter(|one| self.receiver.each.hears_of(&one.transition)) {
                        self.outbox.note(&one.transition, one.uncommitted);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn wait(&self) -> Duration {
        let wait_ms = self.outbox.wakes_at_ms().map(|at_ms| at_ms.saturating_sub(clock_ms()));
        let wait = wait_ms.map(|ms| Duration::from_millis(ms.max(0) as u64));
        wait.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL)
    }

    fn tell(&mut self, notification: &Notification) {
        let kind = self.receiver.kind;
        let message = kind.message(notification, clock_ms(), self.secret.reveal());
        match self.sender.send(&message) {
            Ok(()) => {
                let sent = self.outbox.told(notification, clock_ms());
                lock(&self.told).push(sent);
                if self.complaint.take().is_some() {
                    eprintln!(
                        "ninefold: receiver {} takes notifications again",
                        self.receiver.name
                    );
                }
            }
            Err(error) => {
                let jitter = random_seed() as f64 / u64::MAX as f64;
                self.outbox.failed(notification, clock_ms(), jitter);
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    eprintln!("ninefold: receiver {} is not told: {complaint}", self.receiver.name);
                    self.complaint = Some(complaint);
                }
            }
        }
    }
}
