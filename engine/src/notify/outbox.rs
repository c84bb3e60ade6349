//! What one receiver has to be told: the newest state of every alert, less what it was told.
//!
//! Invariants: a receiver hears of each alert at least once, under keys that never change
//! (fingerprint and id), so that a repetition merges there; a receiver that was away hears the
//! state of now and not the history; what was told is known across restarts by the rows of the
//! grain `sent`. A firing fast tier holds back the notifications of slower ones of the same
//! series and objective, not their states. Pure: time comes in, nothing is sent here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::query::body::AlertTransition;
use crate::time::{parse_rfc3339, rfc3339};

/// The first wait after a failure.
const RETRY_MS: i64 = 1_000;

/// The longest wait after a failure.
const RETRY_MS_MAX: i64 = 60_000;

/// Tiers from the fastest to the slowest; others are slower still.
const TIERS: [&str; 5] = ["rollout_5m", "page_1h", "page_6h", "ticket_1d", "ticket_3d"];

/// That a receiver was told of a transition: a row of the grain `sent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Who was told.
    pub receiver: String,
    /// Of which alert.
    pub fingerprint: String,
    /// Of which firing of it.
    pub id: String,
    /// In which state.
    pub state: String,
    /// When, RFC 3339.
    pub at: String,
}

/// What is to be told now.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The newest transition of the alert.
    pub transition: AlertTransition,
    /// Since when this firing lasts, as far as is known.
    pub since: Option<String>,
    /// Whether it goes out before its commit was confirmed.
    pub uncommitted: bool,
}

/// An alert as a receiver has to know it.
#[derive(Debug)]
struct Held {
    transition: AlertTransition,
    since: Option<String>,
    uncommitted: bool,
    /// Id and state that the receiver was told last, and when.
    told: Option<(String, String, i64)>,
    /// Whether it was firing and held back, and never told.
    held_back: bool,
    failures: u32,
    not_before_ms: i64,
}

/// The outbox of one receiver.
#[derive(Debug)]
pub struct Outbox {
    receiver: String,
    /// Severities that it wants; empty = all.
    severities: Vec<String>,
    /// Tell it again while an alert fires, so often.
    resend_ms: Option<i64>,
    alerts: BTreeMap<String, Held>,
}

impl Outbox {
    /// An empty one for `receiver`, which wants `severities` (all where empty) and, where
    /// `resend_ms` is given, to be told again so often while an alert fires.
    pub fn new(receiver: &str, severities: Vec<String>, resend_ms: Option<i64>) -> Outbox {
        Outbox { receiver: receiver.to_owned(), severities, resend_ms, alerts: BTreeMap::new() }
    }

    /// Takes a transition. An older one than is known changes nothing; the same one again
    /// confirms its commit.
    pub fn note(&mut self, transition: &AlertTransition, uncommitted: bool) {
        if !self.severities.is_empty() && !self.severities.contains(&transition.severity) {
            return;
        }
        let firing = is_firing(transition);
        let since = firing.then(|| transition.at.clone());
        match self.alerts.get_mut(&transition.fingerprint) {
            Some(held) if held.transition == *transition => held.uncommitted &= uncommitted,
            Some(held) if at_ms(transition) < at_ms(&held.transition) => {}
            Some(held) => {
                let same_firing = held.transition.id == transition.id;
                held.since = since.or_else(|| held.since.take().filter(|_| same_firing));
                held.transition = transition.clone();
                held.uncommitted = uncommitted;
                held.failures = 0;
                held.not_before_ms = i64::MIN;
            }
            None => {
                let held = Held {
                    transition: transition.clone(),
                    since,
                    uncommitted,
                    told: None,
                    held_back: false,
                    failures: 0,
                    not_before_ms: i64::MIN,
                };
                self.alerts.insert(transition.fingerprint.clone(), held);
            }
        }
    }

    /// Takes a row of the grain `sent`, also of other receivers, which change nothing. Rows come
    /// after the transitions that they tell of; of two the newer one counts.
    pub fn note_sent(&mut self, sent: &Sent) {
        if sent.receiver != self.receiver {
            return;
        }
        let told_ms = parse_rfc3339(sent.at.as_bytes()).unwrap_or(i64::MIN);
        if let Some(held) = self.alerts.get_mut(&sent.fingerprint)
            && held.told.as_ref().is_none_or(|(_, _, at_ms)| *at_ms <= told_ms)
        {
            held.told = Some((sent.id.clone(), sent.state.clone(), told_ms));
            held.held_back = false;
        }
        self.forget();
    }

    /// What is to be told at `now_ms`, the alert that waits longest first.
    pub fn due(&mut self, now_ms: i64) -> Vec<Notification> {
        let fastest = self.fastest_firing();
        let mut due = Vec::new();
        for held in self.alerts.values_mut() {
            let transition = &held.transition;
            let slower = fastest
                .get(&series_of(transition))
                .is_some_and(|fastest| *fastest < rank(&transition.tier));
            if is_firing(transition) && slower && held.told.is_none() {
                held.held_back = true;
            } else if held.not_before_ms <= now_ms && held.is_due(now_ms, self.resend_ms) {
                due.push(held.notification());
            }
        }
        due.sort_by_key(|one| (at_ms(&one.transition), one.transition.fingerprint.clone()));
        self.forget();
        due
    }

    /// The receiver has taken it: the row to be committed.
    pub fn told(&mut self, notification: &Notification, now_ms: i64) -> Sent {
        let AlertTransition { fingerprint, id, state, .. } = &notification.transition;
        let sent = Sent {
            receiver: self.receiver.clone(),
            fingerprint: fingerprint.clone(),
            id: id.clone(),
            state: state.clone(),
            at: rfc3339(now_ms),
        };
        self.note_sent(&sent);
        sent
    }

    /// The receiver has not taken it: it is tried again after a wait that doubles, with `jitter`
    /// (0 to 1) of half of it, so that many do not come back at once.
    pub fn failed(&mut self, notification: &Notification, now_ms: i64, jitter: f64) {
        if let Some(held) = self.alerts.get_mut(&notification.transition.fingerprint) {
            let wait_ms = (RETRY_MS << held.failures.min(10)).min(RETRY_MS_MAX);
            let wait_ms = wait_ms / 2 + (wait_ms as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as i64;
            held.failures += 1;
            held.not_before_ms = now_ms + wait_ms;
        }
    }

    /// When something may be due next without a further transition; `None` = never.
    pub fn wakes_at_ms(&self) -> Option<i64> {
        let wake = |held: &Held| {
            if !held.is_told() {
                return Some(held.not_before_ms);
            }
            let (_, _, told_ms) = held.told.as_ref()?;
            let again_ms = self.resend_ms.filter(|_| is_firing(&held.transition))?;
            Some((told_ms + again_ms).max(held.not_before_ms))
        };
        self.alerts.values().filter(|held| !held.held_back).filter_map(wake).min()
    }

    /// How many alerts wait to be told.
    pub fn waiting(&self) -> usize {
        self.alerts.values().filter(|held| !held.is_told() && !held.held_back).count()
    }

    /// The fastest firing tier of each series and objective.
    fn fastest_firing(&self) -> BTreeMap<[String; 3], usize> {
        let mut fastest = BTreeMap::new();
        for held in self.alerts.values().filter(|held| is_firing(&held.transition)) {
            let rank = rank(&held.transition.tier);
            let known = fastest.entry(series_of(&held.transition)).or_insert(rank);
            *known = (*known).min(rank);
        }
        fastest
    }

    /// Forgets the alerts that are over and of which the receiver knows, or never heard.
    fn forget(&mut self) {
        self.alerts
            .retain(|_, held| is_firing(&held.transition) || !(held.is_told() || held.held_back));
    }
}

impl Held {
    fn is_told(&self) -> bool {
        let now = (&self.transition.id, &self.transition.state);
        self.told.as_ref().is_some_and(|(id, state, _)| (id, state) == now)
    }

    fn is_due(&mut self, now_ms: i64, resend_ms: Option<i64>) -> bool {
        if !self.is_told() {
            // What was held back while it fired is over: nobody has to hear of it. What no longer
            // is held back, since the faster tier is over, is told now.
            self.held_back &= !is_firing(&self.transition);
            return !self.held_back;
        }
        let again = |(_, _, told_ms): &(String, String, i64)| {
            resend_ms.is_some_and(|resend_ms| told_ms + resend_ms <= now_ms)
        };
        is_firing(&self.transition) && self.told.as_ref().is_some_and(again)
    }

    fn notification(&self) -> Notification {
        let (transition, since) = (self.transition.clone(), self.since.clone());
        Notification { transition, since, uncommitted: self.uncommitted }
    }
}

fn is_firing(transition: &AlertTransition) -> bool {
    transition.state == "firing"
}

fn at_ms(transition: &AlertTransition) -> i64 {
    parse_rfc3339(transition.at.as_bytes()).unwrap_or(i64::MIN)
}

fn series_of(transition: &AlertTransition) -> [String; 3] {
    [&transition.customer, &transition.service, &transition.objective].map(String::clone)
}

fn rank(tier: &str) -> usize {
    TIERS.iter().position(|known| *known == tier).unwrap_or(TIERS.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::body::AlertWindow;

    fn transition(tier: &str, state: &str, at_ms: i64) -> AlertTransition {
        let window = |name: &str| AlertWindow {
            window: name.to_owned(),
            valid: 100,
            bad: 50,
            burn_rate: Some(250.0),
        };
        AlertTransition {
            id: format!("id-{tier}"),
            fingerprint: format!("fp-{tier}"),
            customer: "acme".into(),
            service: "api".into(),
            objective: "availability".into(),
            tier: tier.into(),
            severity: if tier.starts_with("ticket") { "ticket" } else { "page" }.into(),
            state: state.into(),
            basis: "live".into(),
            at: rfc3339(at_ms),
            long: window("1h"),
            short: window("5m"),
            factor: 14.4,
            incident: None,
        }
    }

    fn states(due: &[Notification]) -> Vec<(&str, &str)> {
        due.iter().map(|one| (&*one.transition.tier, &*one.transition.state)).collect()
    }

    /// Tells everything that is due.
    fn tell(outbox: &mut Outbox, now_ms: i64) -> Vec<Sent> {
        outbox.due(now_ms).iter().map(|one| outbox.told(one, now_ms)).collect()
    }

    #[test]
    fn each_state_is_told_once_and_a_restart_knows_what_was_told() {
        let mut outbox = Outbox::new("ops", vec![], None);
        let firing = transition("page_1h", "firing", 1_000);
        outbox.note(&firing, false);
        let sent = tell(&mut outbox, 2_000);
        assert_eq!(sent.len(), 1);
        assert!(outbox.due(3_000).is_empty());

        let mut restarted = Outbox::new("ops", vec![], None);
        restarted.note(&firing, false);
        assert_eq!(restarted.waiting(), 1, "before it knows what was sent");
        restarted.note_sent(&sent[0]);
        assert!(restarted.due(4_000).is_empty());
        let resolved = transition("page_1h", "resolved", 5_000);
        restarted.note(&resolved, false);
        assert_eq!(states(&restarted.due(5_000)), [("page_1h", "resolved")]);
        tell(&mut restarted, 5_000);
        assert!(restarted.alerts.is_empty(), "it is over and known");
    }

    #[test]
    fn a_receiver_that_was_away_hears_the_state_of_now() {
        let mut outbox = Outbox::new("ops", vec![], None);
        outbox.note(&transition("page_1h", "firing", 0), false);
        let mut now_ms = 0;
        for _ in 0..100 {
            for one in outbox.due(now_ms) {
                outbox.failed(&one, now_ms, 1.0);
            }
            now_ms = outbox.wakes_at_ms().unwrap().max(now_ms + 1);
        }
        assert!(now_ms > 90 * RETRY_MS_MAX, "it backs off");
        outbox.note(&transition("page_1h", "resolved", now_ms), false);
        assert_eq!(states(&outbox.due(now_ms)), [("page_1h", "resolved")], "and nothing else");
    }

    #[test]
    fn a_fast_tier_holds_slower_ones_back_until_it_is_over() {
        let mut outbox = Outbox::new("ops", vec![], None);
        outbox.note(&transition("page_1h", "firing", 1), false);
        outbox.note(&transition("page_6h", "firing", 1), false);
        outbox.note(&transition("ticket_1d", "firing", 1), false);
        assert_eq!(tell(&mut outbox, 10).len(), 1);
        outbox.note(&transition("ticket_1d", "resolved", 20), false);
        assert!(outbox.due(20).is_empty(), "it was held back to its end");
        outbox.note(&transition("page_1h", "resolved", 30), false);
        let due = outbox.due(30);
        assert_eq!(states(&due), [("page_6h", "firing"), ("page_1h", "resolved")]);
    }

    #[test]
    fn a_firing_alert_is_repeated_where_the_receiver_wants_it() {
        let mut outbox = Outbox::new("am", vec!["page".into()], Some(60_000));
        outbox.note(&transition("ticket_1d", "firing", 0), false);
        outbox.note(&transition("page_1h", "firing", 0), true);
        let due = outbox.due(0);
        assert_eq!(states(&due), [("page_1h", "firing")], "tickets are not for it");
        assert!(due[0].uncommitted);
        tell(&mut outbox, 0);
        outbox.note(&transition("page_1h", "firing", 0), false);
        assert!(outbox.due(59_999).is_empty());
        assert_eq!(outbox.wakes_at_ms(), Some(60_000));
        let again = outbox.due(60_000);
        assert_eq!(states(&again), [("page_1h", "firing")]);
        assert!(!again[0].uncommitted, "its commit was confirmed since");
        assert_eq!(again[0].since.as_deref(), Some("1970-01-01T00:00:00Z"));
    }
}
