//! Alert transitions on their way to people: durable first, but never late.
//!
//! A transition is published when its commit has landed. Where that takes longer than a second
//! (a slow or full store), it is published all the same, marked `uncommitted`, and once more
//! when it has landed; the fingerprint is the same, so that the receiver merges the two. What
//! was decided by an instance that turned out to be fenced is never published as committed.
//!
//! A process that was stopped for a while may be a zombie and not know it: after a pause the
//! second begins anew, so that the loop looks at the table first.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ninefold_engine::query::Delays;
use ninefold_engine::query::body::AlertTransition;

use crate::states::lock;

/// How long a transition waits for its commit.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

/// How often the ones that wait are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What leaves the outbox.
#[derive(Clone, Debug)]
pub struct Published {
    /// What has changed.
    pub transition: AlertTransition,
    /// Whether no commit holds it yet.
    pub uncommitted: bool,
}

/// Who sends what is published to people. What is published at one moment comes at once: what
/// holds back what has to be seen together.
pub type Sink = Box<dyn FnMut(Vec<Published>) + Send>;

/// The transitions that wait for their commit.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    waiting: Vec<Waiting>,
    sink: Option<Sink>,
    delays: Delays,
}

struct Waiting {
    transition: AlertTransition,
    /// Since when it waits.
    since: Instant,
    /// When the oldest events arrived that it may be caused by.
    arrived: Option<Instant>,
    told: bool,
}

impl Outbox {
    /// Sends what is published to `sink`; what was published before is gone.
    pub fn send_to(&self, sink: Sink) {
        lock(&self.0).sink = Some(sink);
    }

    /// How long it took from the arrival of events to the alert that they caused.
    pub fn delays(&self) -> Delays {
        lock(&self.0).delays.clone()
    }

    /// Takes the transitions that no commit holds, those that it knows among them; `arrived` is
    /// when the oldest events came that were counted since the tick before.
    pub(super) fn offer<'a>(
        &self,
        transitions: impl Iterator<Item = &'a AlertTransition>,
        arrived: Option<Instant>,
    ) {
        let mut inside = lock(&self.0);
        for transition in transitions {
            if inside.waiting.iter().all(|one| one.transition != *transition) {
                // A verdict rests on more than what came last.
                let arrived = arrived.filter(|_| transition.verdict.is_none());
                let (transition, since) = (transition.clone(), Instant::now());
                inside.waiting.push(Waiting { transition, since, arrived, told: false });
            }
        }
    }

    /// Everything that waits has landed.
    pub(super) fn confirm(&self) {
        let mut inside = lock(&self.0);
        let waiting = std::mem::take(&mut inside.waiting);
        inside.publish(waiting.iter(), false);
    }

    /// Drops what waits and is not among `kept`: it was not ours to decide.
    pub(super) fn withdraw<'a>(&self, kept: impl Iterator<Item = &'a AlertTransition>) {
        let kept: Vec<&AlertTransition> = kept.collect();
        lock(&self.0).waiting.retain(|one| kept.contains(&&one.transition));
    }

    /// Starts the thread that publishes what waits for too long; it ends with the outbox.
    pub(super) fn watch(&self) {
        let inside = Arc::downgrade(&self.0);
        std::thread::spawn(move || watch(&inside));
    }
}

fn watch(inside: &Weak<Mutex<Inside>>) {
    let mut looked = Instant::now();
    loop {
        std::thread::sleep(LOOK_INTERVAL);
        let Some(inside) = inside.upgrade() else { return };
        lock(&inside).look(Instant::now(), looked.elapsed());
        looked = Instant::now();
    }
}

impl Inside {
    /// Publishes what has waited too long as of `now`, where the last look was `since_look` ago.
    fn look(&mut self, now: Instant, since_look: Duration) {
        let mut waiting = std::mem::take(&mut self.waiting);
        if since_look > CONFIRM_WITHIN {
            waiting.iter_mut().for_each(|one| one.since = now);
        }
        let is_late =
            |one: &Waiting| !one.told && now.saturating_duration_since(one.since) >= CONFIRM_WITHIN;
        self.publish(waiting.iter().filter(|one| is_late(one)), true);
        for one in &mut waiting {
            one.told |= is_late(one);
        }
        self.waiting = waiting;
    }

    fn publish<'a>(&mut self, waiting: impl Iterator<Item = &'a Waiting>, uncommitted: bool) {
        let mut published = Vec::new();
        for one in waiting {
            if let Some(arrived) = one.arrived
                && !one.told
            {
                self.delays.observe(arrived.elapsed().as_secs_f64());
            }
            published.push(Published { transition: one.transition.clone(), uncommitted });
        }
        if let Some(sink) = self.sink.as_mut().filter(|_| !published.is_empty()) {
            sink(published);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninefold_engine::query::body::AlertWindow;
    use std::sync::mpsc::{Receiver, channel};

    fn transition(id: &str) -> AlertTransition {
        let window = AlertWindow { window: "1h".into(), valid: 1, bad: 1, burn_rate: None };
        AlertTransition {
            id: id.into(),
            fingerprint: "f".into(),
            customer: "c".into(),
            service: "s".into(),
            objective: "availability".into(),
            tier: "page_1h".into(),
            severity: "page".into(),
            state: "firing".into(),
            basis: "live".into(),
            at: "2026-11-01T00:00:00Z".into(),
            long: window.clone(),
            short: window,
            factor: 14.4,
            pool: None,
            incident: None,
            verdict: None,
        }
    }

    fn outbox() -> (Outbox, Receiver<(String, bool)>) {
        let (sender, published) = channel();
        let outbox = Outbox::default();
        outbox.send_to(Box::new(move |published: Vec<Published>| {
            for one in published {
                sender.send((one.transition.id, one.uncommitted)).unwrap();
            }
        }));
        (outbox, published)
    }

    #[test]
    fn what_lands_at_once_is_published_once_and_what_is_fenced_never() {
        let (outbox, published) = outbox();
        let (a, b) = (transition("a"), transition("b"));
        outbox.offer([&a, &b].into_iter(), Some(Instant::now()));
        outbox.offer([&a].into_iter(), None);
        outbox.withdraw([&a].into_iter());
        outbox.confirm();
        outbox.confirm();
        assert_eq!(published.try_iter().collect::<Vec<_>>(), [("a".to_owned(), false)]);
        assert_eq!(outbox.delays().count(), 1);
    }

    #[test]
    fn what_waits_too_long_is_published_uncommitted_and_again_when_it_lands() {
        let (outbox, published) = outbox();
        outbox.offer([&transition("a")].into_iter(), Some(Instant::now()));
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        let seen = || published.try_iter().map(|(_, uncommitted)| uncommitted).collect::<Vec<_>>();
        lock(&outbox.0).look(Instant::now(), LOOK_INTERVAL);
        assert_eq!(seen(), [false; 0]);
        // The process was stopped for a minute: the second begins anew.
        lock(&outbox.0).look(later(60), Duration::from_secs(60));
        assert_eq!(seen(), [false; 0]);
        lock(&outbox.0).look(later(62), LOOK_INTERVAL);
        lock(&outbox.0).look(later(64), LOOK_INTERVAL);
        assert_eq!(seen(), [true]);
        outbox.confirm();
        assert_eq!(seen(), [false]);
        assert_eq!(outbox.delays().count(), 1, "the first time counts");
    }
}
