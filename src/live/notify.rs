//! Telling receivers: one thread each, so that one that hangs delays no other.
//!
//! A thread holds the outbox of its receiver. It hears of transitions from the loop and leaves
//! word of what was taken, which becomes a row of the next commit. A start begins with what the
//! table holds of the last days: what was never confirmed is sent again, under the same keys. So
//! does a thread whose queue was full while its receiver hung: what did not fit is in the table.
//!
//! Of several instances the judge tells, for all of them: it hears of what the others commit, and
//! whoever becomes judge begins with the table. Another instance tells only what it cannot commit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{
    Receiver as Queue, RecvTimeoutError, SyncSender, TrySendError, sync_channel,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use ninefold_engine::config::{Config, Receiver};
use ninefold_engine::failpoint;
use ninefold_engine::notify::message::Writer;
use ninefold_engine::notify::notice::Notice;
use ninefold_engine::notify::outbox::{Bundle, Failure, Outbox, Sent, Wants};
use ninefold_engine::notify::silence::Silence;
use ninefold_engine::notify::template::Template;
use ninefold_engine::pipeline::decision::stored_silences;
use ninefold_engine::pipeline::incidents::stored_incidents;
use ninefold_engine::pipeline::sent::stored_sent;
use ninefold_engine::pipeline::verdicts::stored_verdicts;
use ninefold_engine::pipeline::watch::stored_transitions;
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::query::incident::notices;
use ninefold_engine::query::judgement;
use ninefold_engine::table::{Filter, Table};
use ninefold_engine::time::{DAY_MINUTES, Minute};

use super::outbox::Published;
use super::reload::Current;
use super::transport::Transport;
use super::{clock_ms, outbox};
use crate::batch::random_seed;
use crate::states::{lock, open_table};

/// How much of the past a start looks at: a slow ticket fires for days.
const PAST_MINUTES: u32 = 7 * DAY_MINUTES;

/// The longest wait of a thread before it looks at its outbox again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The transitions of so many moments wait for a receiver that hangs; more are read from the
/// table later.
const QUEUE_MAX: usize = 1_024;

/// The threads that tell receivers; they end when this is dropped.
pub struct Notifiers {
    lines: Vec<Line>,
    shared: Arc<Shared>,
}

/// The way to one thread.
struct Line {
    queue: SyncSender<Arc<Vec<Published>>>,
    overflowed: Arc<AtomicBool>,
    /// Why its receiver is not told.
    complaint: Arc<Mutex<Option<String>>>,
}

/// What all threads know.
struct Shared {
    config: Current,
    data: PathBuf,
    /// Those of the configuration and of the table.
    silences: Mutex<Arc<Vec<Silence>>>,
    /// What receivers have taken and no commit holds.
    told: Mutex<Vec<Sent>>,
    /// Whether this instance tells what was committed.
    active: AtomicBool,
}

impl Notifiers {
    /// Starts a thread for each receiver of `config`, with what `table` in `data` says of the
    /// last days.
    ///
    /// # Errors
    /// A secret cannot be fetched, or the table cannot be read.
    pub fn start(config: &Current, data: &Path, table: &Table) -> anyhow::Result<Notifiers> {
        let settings = config.get();
        let shared = Arc::new(Shared {
            config: config.clone(),
            data: data.to_owned(),
            silences: Mutex::default(),
            told: Mutex::default(),
            active: AtomicBool::new(true),
        });
        let mut notifiers = Notifiers { lines: Vec::new(), shared };
        notifiers.set_silences(&stored_silences(table)?);
        for receiver in &settings.receivers {
            let line = notifiers.line(receiver, &settings, table);
            let line = line.with_context(|| format!("receiver {}", receiver.name))?;
            notifiers.lines.push(line);
        }
        Ok(notifiers)
    }

    fn line(&self, receiver: &Receiver, config: &Config, table: &Table) -> anyhow::Result<Line> {
        let secret = receiver.secret.as_ref().map(|place| place.fetch()).transpose()?;
        let content_type = receiver.content_type.clone();
        let template = receiver.template.as_deref();
        let template = template.map(|text| Template::new(text, &content_type)).transpose()?;
        let kind = receiver.kind;
        let wants = Wants {
            receiver: receiver.name.clone(),
            each: receiver.each,
            severities: receiver.severities.clone(),
            resend_ms: kind.resend_ms(),
            repeats: kind.repeats(),
            packing: kind.packing(),
            routes: Arc::new(config.routes.clone()),
        };
        let (queue, published) = sync_channel(QUEUE_MAX);
        let line = Line { queue, overflowed: Arc::default(), complaint: Arc::default() };
        let secret = secret.unwrap_or_default().reveal().to_owned();
        let mut teller = Teller {
            name: receiver.name.clone(),
            writer: Writer { kind, secret, content_type, template },
            transport: Transport::to(receiver)?,
            outbox: Outbox::new(wants),
            shared: Arc::clone(&self.shared),
            overflowed: Arc::clone(&line.overflowed),
            complaint: Arc::clone(&line.complaint),
        };
        teller.read(table)?;
        std::thread::spawn(move || teller.run(&published));
        Ok(line)
    }

    /// Whether this instance is to tell what was committed, by itself and by others.
    pub fn set_active(&self, active: bool) {
        let was_active = self.shared.active.swap(active, Ordering::AcqRel);
        if active && !was_active {
            self.read_again();
        }
    }

    /// Every thread looks at the table for what it may have missed.
    pub fn read_again(&self) {
        self.lines.iter().for_each(|line| line.overflowed.store(true, Ordering::Release));
    }

    /// Hands transitions to every receiver.
    pub fn publish(&self, published: Vec<Published>) {
        let published = Arc::new(published);
        for line in &self.lines {
            // A thread ends only when its queue does.
            if let Err(TrySendError::Full(_)) = line.queue.try_send(Arc::clone(&published)) {
                line.overflowed.store(true, Ordering::Release);
            }
        }
    }

    /// What was taken since it was asked last: to be committed.
    pub fn take_told(&self) -> Vec<Sent> {
        std::mem::take(&mut *lock(&self.shared.told))
    }

    /// Takes the silences of the table; those of the configuration stay.
    pub fn set_silences(&self, stored: &[Silence]) {
        let config = self.shared.config.get();
        let all = config.silences.iter().chain(stored).cloned().collect();
        *lock(&self.shared.silences) = Arc::new(all);
    }

    /// A line for each receiver that is not told, for the health.
    pub fn notes(&self) -> Vec<String> {
        self.lines.iter().filter_map(|line| lock(&line.complaint).clone()).collect()
    }
}

/// Tells one receiver.
struct Teller {
    name: String,
    writer: Writer,
    transport: Transport,
    outbox: Outbox,
    shared: Arc<Shared>,
    overflowed: Arc<AtomicBool>,
    complaint: Arc<Mutex<Option<String>>>,
}

impl Teller {
    fn run(mut self, published: &Queue<Arc<Vec<Published>>>) {
        let mut was_active = true;
        loop {
            let active = self.shared.active.load(Ordering::Acquire);
            if was_active && !active {
                self.outbox.clear();
            }
            was_active = active;
            if active && self.overflowed.swap(false, Ordering::AcqRel) {
                self.read_again();
            }
            self.outbox.set_silences(Arc::clone(&lock(&self.shared.silences)));
            for bundle in self.outbox.due(clock_ms()) {
                if let Some(Failure::Receiver(_)) = self.tell(&bundle) {
                    break;
                }
            }
            match published.recv_timeout(self.wait()) {
                Ok(first) => {
                    for one in std::iter::once(first).chain(published.try_iter()) {
                        for one in one.iter().filter(|one| active || one.uncommitted) {
                            self.note(&one.transition, one.uncommitted);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn note(&mut self, transition: &AlertTransition, uncommitted: bool) {
        let config = self.shared.config.get();
        let tier = config.objectives.tier_of.get(&transition.customer);
        let tier = tier.or(transition.pool.as_ref()).map_or("", String::as_str);
        let notice = Notice::of_alert(transition, tier);
        self.outbox.note(&notice, uncommitted);
    }

    /// Takes what the table holds of the last days: transitions less what was sent.
    fn read(&mut self, table: &Table) -> anyhow::Result<()> {
        let past = Minute::of_ms(clock_ms()).minus(PAST_MINUTES)..=Minute(u32::MAX);
        let mut transitions = stored_transitions(table, &past)?;
        let past = Filter::of_minutes(past);
        let incidents = stored_incidents(table, &past)?;
        transitions.extend(incidents.iter().flat_map(|stored| notices(&stored.incident)));
        let verdicts = stored_verdicts(table, &past)?;
        transitions.extend(verdicts.iter().map(|stored| judgement::notice(&stored.judgement)));
        transitions.sort_by(|a, b| a.at.cmp(&b.at));
        transitions.iter().for_each(|transition| self.note(transition, false));
        let sent = stored_sent(table, &past)?;
        sent.iter().for_each(|sent| self.outbox.note_sent(sent));
        Ok(())
    }

    /// As [`Teller::read`], after something did not fit the queue; where the table cannot be
    /// read now, it is tried again.
    fn read_again(&mut self) {
        let read = open_table(&self.shared.data).and_then(|table| self.read(&table));
        if let Err(error) = read {
            self.complain(format!("what did not fit its queue cannot be read: {error:#}"));
            self.overflowed.store(true, Ordering::Release);
        }
    }

    fn wait(&self) -> Duration {
        let wait_ms = self.outbox.wakes_at_ms().map(|at_ms| at_ms.saturating_sub(clock_ms()));
        let wait = wait_ms.map(|ms| Duration::from_millis(ms.max(0) as u64));
        wait.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL)
    }

    fn tell(&mut self, bundle: &Bundle) -> Option<Failure> {
        let (message, fault) = self.writer.message(bundle, clock_ms());
        if let Some(fault) = &fault {
            self.complain(format!("its template cannot be used, it gets our JSON: {fault}"));
        }
        failpoint::reach("notify.send");
        match self.transport.send(&message) {
            Ok(()) => {
                failpoint::reach("notify.sent");
                let sent = self.outbox.told(bundle, clock_ms());
                lock(&self.shared.told).extend(sent);
                if fault.is_none() && lock(&self.complaint).take().is_some() {
                    eprintln!("ninefold: receiver {} takes notifications again", self.name);
                }
                None
            }
            Err((failure, error)) => {
                let jitter = random_seed() as f64 / u64::MAX as f64;
                self.outbox.failed(bundle, failure, clock_ms(), jitter);
                self.complain(error);
                Some(failure)
            }
        }
    }

    /// Says what is the matter, once for each cause.
    fn complain(&self, what: String) {
        let what = format!("receiver {} is not told: {what}", self.name);
        let mut complaint = lock(&self.complaint);
        if complaint.as_ref() != Some(&what) {
            eprintln!("ninefold: {what}");
            *complaint = Some(what);
        }
    }
}

/// What [`outbox::Outbox::send_to`] is given.
pub fn sink(
    notifiers: Arc<Notifiers>,
    mut also: impl FnMut(&Published) + Send + 'static,
) -> outbox::Sink {
    Box::new(move |published| {
        published.iter().for_each(&mut also);
        notifiers.publish(published);
    })
}
