//! What one receiver has to be told: the newest state of every notice, less what it was told.
//!
//! Invariants: a receiver hears of each alert at least once, under keys that never change
//! (fingerprint and id), so that a repetition merges there; a receiver that was away hears the
//! state of now and not the history; what was told is known across restarts by the rows of the
//! grain `sent`. A firing fast tier holds back the notifications of slower ones of the same
//! series and objective, and a silence those that it picks: the notifications, not the states.
//! What a receiver believes to be on is always called off. Pure: time comes in, nothing is sent
//! here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::notice::{ALERT, FIRING, Name, Notice, VERDICT};
use super::route::{Grouping, Routes};
use super::silence::Silence;
use crate::time::{parse_rfc3339, rfc3339};

/// The first wait after a failure.
const RETRY_MS: i64 = 1_000;

/// The longest wait after a failure.
const RETRY_MS_MAX: i64 = 60_000;

/// The longest wait that a receiver may ask for.
const ASKED_MS_MAX: i64 = 3_600_000;

/// So many notices go in one message at most.
const BUNDLE_MAX: usize = 100;

/// Tiers from the fastest to the slowest; others are slower still.
const TIERS: [&str; 5] = ["rollout_5m", "page_1h", "page_6h", "ticket_1d", "ticket_3d"];

/// That a receiver was told of a notice: a row of the grain `sent`.
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
    /// Of which revision of that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
    /// When, RFC 3339.
    pub at: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is to be told now.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The newest state.
    pub notice: Notice,
    /// Since when this firing lasts, as far as is known.
    pub since: Option<String>,
    /// Whether it goes out before its commit was confirmed.
    pub uncommitted: bool,
}

/// What goes in one message: at least one notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// What its notices have in common: label and value.
    pub group: Vec<(String, String)>,
    /// The worst first: pages before tickets, firing before over, older before newer.
    pub notifications: Vec<Notification>,
}

/// How a protocol takes several notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As many as there are, whatever they have in common: the receiver groups them itself.
    All,
    /// Those of one group; each verdict alone.
    Group,
    /// Each alone.
    One,
}

/// Who did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The receiver cannot be reached or takes nothing: everything waits, so long at least as it
    /// asks for, in milliseconds.
    Receiver(i64),
    /// It refuses this message; others may do.
    Message,
}

/// A notice as a receiver has to know it.
#[derive(Debug)]
struct Held {
    notice: Notice,
    grouping: Grouping,
    since: Option<String>,
    uncommitted: bool,
    /// What the receiver was told last, and when.
    told: Option<(Name, i64)>,
    /// Whether it was firing and held back, and the receiver was not told of that.
    held_back: bool,
    wait: Wait,
}

/// Waiting that doubles.
#[derive(Debug)]
struct Wait {
    failures: u32,
    until_ms: i64,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait { failures: 0, until_ms: i64::MIN }
    }
}

impl Wait {
    /// After a further failure at `now_ms`.
    fn longer(&mut self, now_ms: i64, jitter: f64, asked_ms: i64) {
        self.until_ms = now_ms + wait_ms(self.failures, jitter, asked_ms);
        self.failures += 1;
    }
}

/// How long to wait after a failure with `failures` before it, in milliseconds: it doubles, with
/// `jitter` (0 to 1) of half of it, so that many do not come back at once; at least for `asked_ms`,
/// which is what the receiver asked for.
pub(super) fn wait_ms(failures: u32, jitter: f64, asked_ms: i64) -> i64 {
    let wait_ms = (RETRY_MS << failures.min(10)).min(RETRY_MS_MAX);
    let wait_ms = wait_ms / 2 + (wait_ms as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as i64;
    wait_ms.max(asked_ms.min(ASKED_MS_MAX))
}

/// What a receiver is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Each {
    /// Incidents (one notice for all that burns in a service) and verdicts.
    #[default]
    Incident,
    /// The alerts of each series and tier.
    Alert,
    /// Verdicts alone: that a release or a flag has turned out bad.
    Verdict,
    /// All of these.
    All,
}

impl Each {
    fn takes(self, subject: &str) -> bool {
        match self {
            Each::Incident => subject != ALERT,
            Each::Alert => subject == ALERT,
            Each::Verdict => subject == VERDICT,
            Each::All => true,
        }
    }
}

/// How a receiver is told.
#[derive(Clone, Debug)]
pub struct Wants {
    /// Its name.
    pub receiver: String,
    /// What it is told of.
    pub each: Each,
    /// Severities that it wants; empty = all.
    pub severities: Vec<String>,
    /// Tell it again while an alert fires, so often: its protocol wants that.
    pub resend_ms: Option<i64>,
    /// Whether it may be told again by a route's `repeat_interval`.
    pub repeats: bool,
    /// How it takes several notices.
    pub packing: Packing,
    /// What goes to whom.
    pub routes: Arc<Routes>,
}

/// Label values of a group, and how long it waits.
type Group = (Vec<(String, String)>, i64, i64);

/// What goes together: the fingerprint of what goes alone, and label values.
type Pack = (String, Vec<(String, String)>);

/// The outbox of one receiver.
#[derive(Debug)]
pub struct Outbox {
    wants: Wants,
    notices: BTreeMap<String, Held>,
    /// When a group was told last.
    groups: BTreeMap<Group, i64>,
    silences: Arc<Vec<Silence>>,
    wait: Wait,
}

impl Outbox {
    /// An empty one.
    pub fn new(wants: Wants) -> Outbox {
        let (notices, groups) = (BTreeMap::new(), BTreeMap::new());
        Outbox { wants, notices, groups, silences: Arc::default(), wait: Wait::default() }
    }

    /// Takes a notice. An older one than is known changes nothing; the same one again confirms
    /// its commit.
    pub fn note(&mut self, notice: &Notice, uncommitted: bool) {
        let Wants { receiver, each, severities, routes, .. } = &self.wants;
        if !each.takes(notice.subject) {
            return;
        }
        if !severities.is_empty() && !severities.contains(&notice.scope.severity) {
            return;
        }
        let Some(grouping) = routes.of(receiver, &notice.scope) else { return };
        let since = notice.is_firing().then(|| notice.at.clone());
        match self.notices.get_mut(&notice.fingerprint) {
            Some(held) if notice.at_ms() < held.notice.at_ms() => {}
            Some(held) if held.notice.name() == notice.name() => {
                // What was measured since is for who is told again; it is no reason to tell.
                held.notice = notice.clone();
                held.uncommitted &= uncommitted;
            }
            Some(held) => {
                let same_firing = held.notice.id == notice.id;
                held.since = held.since.take().filter(|_| same_firing).or(since);
                held.notice = notice.clone();
                held.uncommitted = uncommitted;
                held.wait = Wait::default();
            }
            None => {
                let held = Held {
                    notice: notice.clone(),
                    grouping: grouping.clone(),
                    since,
                    uncommitted,
                    told: None,
                    held_back: false,
                    wait: Wait::default(),
                };
                self.notices.insert(notice.fingerprint.clone(), held);
            }
        }
    }

    /// Takes a row of the grain `sent`, also of other receivers, which change nothing. Rows come
    /// after the notices that they tell of; of two the newer one counts.
    pub fn note_sent(&mut self, sent: &Sent) {
        if sent.receiver != self.wants.receiver {
            return;
        }
        let told_ms = parse_rfc3339(sent.at.as_bytes()).unwrap_or(i64::MIN);
        if let Some(held) = self.notices.get_mut(&sent.fingerprint)
            && held.told.as_ref().is_none_or(|(_, at_ms)| *at_ms <= told_ms)
        {
            let (id, state) = (sent.id.clone(), sent.state.clone());
            held.told = Some((Name { id, state, revision: sent.revision }, told_ms));
            held.held_back = false;
            let at_ms = self.groups.entry(held.group()).or_insert(told_ms);
            *at_ms = told_ms.max(*at_ms);
        }
        self.forget();
    }

    /// Takes the silences that there are from now on.
    pub fn set_silences(&mut self, silences: Arc<Vec<Silence>>) {
        self.silences = silences;
    }

    /// Forgets all notices: somebody else tells them.
    pub fn clear(&mut self) {
        self.notices.clear();
        self.groups.clear();
    }

    /// What is to be told at `now_ms`, what waits longest first.
    pub fn due(&mut self, now_ms: i64) -> Vec<Bundle> {
        if self.wait.until_ms > now_ms {
            return Vec::new();
        }
        self.hold_back(now_ms);
        let ready = self.ready_groups();
        let again_ms = |held: &Held| self.wants.again_ms(held);
        let due = self.notices.values().filter(|held| match held.is_told() {
            _ if held.held_back || held.wait.until_ms > now_ms => false,
            true => again_ms(held).is_some_and(|again_ms| again_ms <= now_ms),
            false => ready.get(&held.group()).is_some_and(|ready_ms| *ready_ms <= now_ms),
        });
        let mut bundles: Vec<(i64, Bundle)> = Vec::new();
        let mut packs: BTreeMap<Pack, Vec<Notification>> = BTreeMap::new();
        for held in due {
            let (alone, group) = match self.wants.packing {
                Packing::All => (String::new(), Vec::new()),
                // A program that rolls back is told of one candidate at a time.
                Packing::Group if held.notice.subject == VERDICT => {
                    (held.notice.fingerprint.clone(), held.group().0)
                }
                Packing::Group => (String::new(), held.group().0),
                Packing::One => (held.notice.fingerprint.clone(), Vec::new()),
            };
            packs.entry((alone, group)).or_default().push(held.notification());
        }
        for ((_, group), mut notifications) in packs {
            notifications.sort_by_cached_key(|one| {
                let Notice { scope, fingerprint, .. } = &one.notice;
                let (is_page, is_firing) = (scope.severity == "page", one.notice.is_firing());
                (!is_page, !is_firing, one.notice.at_ms(), fingerprint.clone())
            });
            for notifications in notifications.chunks(BUNDLE_MAX) {
                let oldest_ms = notifications.iter().map(|one| one.notice.at_ms()).min();
                let (group, notifications) = (group.clone(), notifications.to_vec());
                bundles.push((oldest_ms.unwrap_or(0), Bundle { group, notifications }));
            }
        }
        bundles.sort_by_key(|(oldest_ms, _)| *oldest_ms);
        self.forget();
        bundles.into_iter().map(|(_, bundle)| bundle).collect()
    }

    /// The receiver has taken it: the rows to be committed.
    pub fn told(&mut self, bundle: &Bundle, now_ms: i64) -> Vec<Sent> {
        self.wait = Wait::default();
        let sent = |one: &Notification| {
            let Name { id, state, revision } = one.notice.name();
            let (receiver, fingerprint) =
                (self.wants.receiver.clone(), one.notice.fingerprint.clone());
            Sent { receiver, fingerprint, id, state, revision, at: rfc3339(now_ms) }
        };
        let sent: Vec<Sent> = bundle.notifications.iter().map(sent).collect();
        sent.iter().for_each(|sent| self.note_sent(sent));
        sent
    }

    /// The receiver has not taken it: it is tried again after a wait that doubles up to a
    /// minute, with `jitter` (0 to 1).
    pub fn failed(&mut self, bundle: &Bundle, failure: Failure, now_ms: i64, jitter: f64) {
        match failure {
            Failure::Receiver(asked_ms) => self.wait.longer(now_ms, jitter, asked_ms),
            Failure::Message => {
                for one in &bundle.notifications {
                    if let Some(held) = self.notices.get_mut(&one.notice.fingerprint) {
                        held.wait.longer(now_ms, jitter, 0);
                    }
                }
            }
        }
    }

    /// When something may be due next without a further notice or the end of a silence; `None` =
    /// never.
    pub fn wakes_at_ms(&self) -> Option<i64> {
        let ready = self.ready_groups();
        let wake = |held: &Held| {
            let at_ms = match held.is_told() {
                false => ready.get(&held.group()).copied()?,
                true => self.wants.again_ms(held)?,
            };
            Some(at_ms.max(held.wait.until_ms).max(self.wait.until_ms))
        };
        self.notices.values().filter(|held| !held.held_back).filter_map(wake).min()
    }

    /// How many notices wait to be told.
    pub fn waiting(&self) -> usize {
        self.notices.values().filter(|held| !held.is_told() && !held.held_back).count()
    }

    /// Whether the receiver has refused or missed what it was sent last.
    pub fn is_failing(&self) -> bool {
        self.wait.failures > 0 || self.notices.values().any(|held| held.wait.failures > 0)
    }

    /// Decides what is held back as of now: by a faster tier, or by a silence.
    fn hold_back(&mut self, now_ms: i64) {
        let fastest = self.fastest_firing();
        let expires = self.wants.resend_ms.is_some();
        for held in self.notices.values_mut() {
            let notice = &held.notice;
            let silenced = self.silences.iter().any(|one| one.holds(&notice.scope, now_ms));
            if !notice.is_firing() {
                // What was held back while it fired is over: nobody has to hear of it, unless
                // the receiver believes that an earlier one lasts.
                held.held_back &= !held.is_believed_on();
            } else if held.is_told() {
                // Who forgets what is not repeated would take silence for an end.
                held.held_back = silenced && !expires;
            } else {
                let rank = rank(&notice.scope.tier);
                let slower = fastest.get(&series_of(notice)).is_some_and(|first| *first < rank);
                let inhibited = slower && held.told.is_none();
                held.held_back = inhibited || silenced;
            }
        }
    }

    /// When the groups of what waits may be told: a new one after its wait, a known one after
    /// its interval.
    fn ready_groups(&self) -> BTreeMap<Group, i64> {
        let mut ready = BTreeMap::new();
        for held in self.notices.values().filter(|held| !held.is_told() && !held.held_back) {
            let group = held.group();
            let ready_ms = match self.groups.get(&group) {
                Some(told_ms) => told_ms.saturating_add(held.grouping.interval_ms),
                None => held.notice.at_ms().saturating_add(held.grouping.wait_ms),
            };
            let known = ready.entry(group).or_insert(ready_ms);
            *known = ready_ms.min(*known);
        }
        ready
    }

    /// The fastest firing tier of each series and objective.
    fn fastest_firing(&self) -> BTreeMap<[String; 4], usize> {
        let mut fastest = BTreeMap::new();
        for held in self.notices.values().filter(|held| held.notice.is_firing()) {
            let rank = rank(&held.notice.scope.tier);
            let known = fastest.entry(series_of(&held.notice)).or_insert(rank);
            *known = (*known).min(rank);
        }
        fastest
    }

    /// Forgets what is over and of which the receiver knows, or never heard.
    fn forget(&mut self) {
        self.notices
            .retain(|_, held| held.notice.is_firing() || !(held.is_told() || held.held_back));
        let held: BTreeSet<Group> = self.notices.values().map(Held::group).collect();
        self.groups.retain(|group, _| held.contains(group));
    }
}

impl Wants {
    /// When what is firing and was told is to be told again.
    fn again_ms(&self, held: &Held) -> Option<i64> {
        let (_, told_ms) = held.told.as_ref().filter(|_| held.notice.is_firing())?;
        let repeat_ms = held.grouping.repeat_ms.filter(|_| self.repeats);
        Some(told_ms + self.resend_ms.or(repeat_ms)?)
    }
}

impl Held {
    fn is_told(&self) -> bool {
        self.told.as_ref().is_some_and(|(told, _)| *told == self.notice.name())
    }

    /// Whether the receiver was told that it fires, and of no end.
    fn is_believed_on(&self) -> bool {
        self.told.as_ref().is_some_and(|(told, _)| told.state == FIRING)
    }

    fn group(&self) -> Group {
        let Grouping { by, wait_ms, interval_ms, .. } = &self.grouping;
        let scope = &self.notice.scope;
        let values = by.iter().map(|name| (name.clone(), scope.label(name).to_owned())).collect();
        (values, *wait_ms, *interval_ms)
    }

    fn notification(&self) -> Notification {
        let (notice, since) = (self.notice.clone(), self.since.clone());
        Notification { notice, since, uncommitted: self.uncommitted }
    }
}

/// Of a pool, the name stands in the place of the customer's tier.
fn series_of(notice: &Notice) -> [String; 4] {
    ["customer", "customer_tier", "service", "objective"]
        .map(|name| notice.scope.label(name).to_owned())
}

fn rank(tier: &str) -> usize {
    TIERS.iter().position(|known| *known == tier).unwrap_or(TIERS.len())
}

#[cfg(test)]
mod tests {
    use super::super::matcher::{Matcher, Scope};
    use super::super::route::Route;
    use super::*;

    /// An alert of a service; its severity is that of its tier.
    fn notice_of(service: &str, tier: &str, state: &str, at_ms: i64) -> Notice {
        let severity = if tier.starts_with("ticket") { "ticket" } else { "page" };
        let scope = Scope {
            customer: "acme".into(),
            service: service.into(),
            objective: "availability".into(),
            tier: tier.into(),
            severity: severity.into(),
            customer_tier: String::new(),
        };
        Notice {
            subject: "alert",
            fingerprint: format!("fp-{service}-{tier}"),
            id: format!("id-{tier}"),
            state: state.into(),
            revision: 0,
            at: rfc3339(at_ms),
            scope,
            summary: String::new(),
            values: Vec::new(),
            details: serde_json::Value::Null,
        }
    }

    fn notice(tier: &str, state: &str, at_ms: i64) -> Notice {
        notice_of("api", tier, state, at_ms)
    }

    fn wants() -> Wants {
        Wants {
            receiver: "ops".into(),
            each: Each::All,
            severities: Vec::new(),
            resend_ms: None,
            repeats: true,
            packing: Packing::One,
            routes: Arc::default(),
        }
    }

    fn grouped(grouping: Grouping) -> Wants {
        let (matcher, receivers) = (Matcher::default(), vec!["ops".to_owned()]);
        let list = vec![Route { matcher, receivers, goes_on: false, grouping }];
        let routes = Arc::new(Routes { list, ..Routes::default() });
        Wants { packing: Packing::Group, routes, ..wants() }
    }

    /// Tier and state of all that is in some bundles.
    fn states(due: &[Bundle]) -> Vec<(&str, &str)> {
        let all = due.iter().flat_map(|bundle| &bundle.notifications);
        all.map(|one| (&*one.notice.scope.tier, &*one.notice.state)).collect()
    }

    /// Tells everything that is due.
    fn tell(outbox: &mut Outbox, now_ms: i64) -> Vec<Sent> {
        outbox.due(now_ms).iter().flat_map(|one| outbox.told(one, now_ms)).collect()
    }

    #[test]
    fn each_state_is_told_once_and_a_restart_knows_what_was_told() {
        let mut outbox = Outbox::new(wants());
        let firing = notice("page_1h", "firing", 1_000);
        outbox.note(&firing, false);
        let sent = tell(&mut outbox, 2_000);
        assert_eq!(sent.len(), 1);
        assert!(outbox.due(3_000).is_empty());

        let mut restarted = Outbox::new(wants());
        restarted.note(&firing, false);
        assert_eq!(restarted.waiting(), 1, "before it knows what was sent");
        restarted.note_sent(&sent[0]);
        assert!(restarted.due(4_000).is_empty());
        let resolved = notice("page_1h", "resolved", 5_000);
        restarted.note(&resolved, false);
        assert_eq!(states(&restarted.due(5_000)), [("page_1h", "resolved")]);
        tell(&mut restarted, 5_000);
        assert!(restarted.notices.is_empty(), "it is over and known");
    }

    #[test]
    fn a_change_under_the_same_id_is_told_as_a_further_revision() {
        let mut outbox = Outbox::new(wants());
        outbox.note(&notice("page_1h", "firing", 1_000), false);
        tell(&mut outbox, 1_000);
        outbox.note(&Notice { revision: 1, ..notice("page_1h", "firing", 2_000) }, false);
        let due = outbox.due(2_000);
        assert_eq!(due[0].notifications[0].since.as_deref(), Some("1970-01-01T00:00:01Z"));
        assert_eq!(outbox.told(&due[0], 2_000)[0].revision, 1);
        assert!(outbox.due(3_000).is_empty());
    }

    #[test]
    fn a_receiver_that_was_away_hears_the_state_of_now() {
        let mut outbox = Outbox::new(wants());
        outbox.note(&notice("page_1h", "firing", 0), false);
        let mut now_ms = 0;
        let hour_ms = 3_600_000;
        while now_ms < hour_ms {
            for one in outbox.due(now_ms) {
                outbox.failed(&one, Failure::Receiver(0), now_ms, 1.0);
            }
            assert!(outbox.is_failing());
            let wake_ms = outbox.wakes_at_ms().unwrap();
            assert!(wake_ms - now_ms <= RETRY_MS_MAX);
            now_ms = wake_ms.max(now_ms + 1);
        }
        let tries = outbox.wait.failures;
        assert!((60..80).contains(&tries), "it backs off to a minute: {tries}");
        outbox.note(&notice("page_1h", "resolved", now_ms), false);
        outbox.note(&notice("page_6h", "firing", now_ms), false);
        let due = outbox.due(now_ms);
        let mut all = states(&due);
        all.sort_unstable();
        assert_eq!(all, [("page_1h", "resolved"), ("page_6h", "firing")], "and nothing else");
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it_and_a_refused_message_delays_no_other() {
        let mut outbox = Outbox::new(wants());
        outbox.note(&notice("page_1h", "firing", 0), false);
        let due = outbox.due(0);
        outbox.failed(&due[0], Failure::Receiver(30_000), 0, 0.0);
        outbox.note(&notice_of("inbox", "page_1h", "firing", 1), false);
        assert!(outbox.due(29_999).is_empty());
        let due = outbox.due(30_000);
        assert_eq!(due.len(), 2);
        outbox.failed(&due[0], Failure::Message, 30_000, 0.0);
        assert_eq!(outbox.due(30_000), due[1..]);
        assert_eq!(outbox.due(30_500), due, "half a second of a second's wait");
    }

    #[test]
    fn a_fast_tier_holds_slower_ones_back_until_it_is_over() {
        let mut outbox = Outbox::new(wants());
        outbox.note(&notice("page_1h", "firing", 1), false);
        outbox.note(&notice("page_6h", "firing", 1), false);
        outbox.note(&notice("ticket_1d", "firing", 1), false);
        assert_eq!(tell(&mut outbox, 10).len(), 1);
        outbox.note(&notice("ticket_1d", "resolved", 20), false);
        assert!(outbox.due(20).is_empty(), "it was held back to its end");
        outbox.note(&notice("page_1h", "resolved", 30), false);
        let due = outbox.due(30);
        assert_eq!(states(&due), [("page_6h", "firing"), ("page_1h", "resolved")]);
    }

    #[test]
    fn a_fast_tier_of_one_pool_holds_nothing_of_another_back() {
        let mut outbox = Outbox::new(wants());
        for (pool, tier) in [("gold", "page_1h"), ("gold", "page_6h"), ("", "page_6h")] {
            let known = notice(tier, "firing", 1);
            let (customer, customer_tier) = (String::new(), pool.to_owned());
            let scope = Scope { customer, customer_tier, ..known.scope.clone() };
            outbox.note(&Notice { fingerprint: format!("{pool} {tier}"), scope, ..known }, false);
        }
        let due = outbox.due(10);
        assert_eq!(states(&due), [("page_6h", "firing"), ("page_1h", "firing")]);
    }

    #[test]
    fn a_firing_alert_is_repeated_where_the_receiver_wants_it() {
        let severities = vec!["page".to_owned()];
        let packing = Packing::All;
        let mut outbox =
            Outbox::new(Wants { severities, resend_ms: Some(60_000), packing, ..wants() });
        outbox.note(&notice("ticket_1d", "firing", 0), false);
        outbox.note(&notice("page_1h", "firing", 0), true);
        outbox.note(&notice_of("inbox", "page_1h", "firing", 0), false);
        let due = outbox.due(0);
        assert_eq!((due.len(), states(&due).len()), (1, 2), "tickets are not for it");
        assert!(due[0].notifications[0].uncommitted);
        tell(&mut outbox, 0);
        outbox.note(&notice("page_1h", "firing", 0), false);
        assert!(outbox.due(59_999).is_empty());
        assert_eq!(outbox.wakes_at_ms(), Some(60_000));
        let again = outbox.due(60_000);
        assert_eq!(states(&again).len(), 2);
        assert!(!again[0].notifications[0].uncommitted, "its commit was confirmed since");
        let since = again[0].notifications[0].since.as_deref();
        assert_eq!(since, Some("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn a_group_waits_for_company_then_for_its_interval_and_repeats() {
        let by = vec!["service".to_owned()];
        let (wait_ms, interval_ms, repeat_ms) = (10_000, 60_000, Some(3_600_000));
        let mut outbox = Outbox::new(grouped(Grouping { by, wait_ms, interval_ms, repeat_ms }));
        outbox.note(&notice("page_1h", "firing", 0), false);
        outbox.note(&notice_of("inbox", "page_1h", "firing", 5_000), false);
        assert!(outbox.due(9_999).is_empty());
        assert_eq!(outbox.wakes_at_ms(), Some(10_000));
        outbox.note(
            &Notice { fingerprint: "other".into(), ..notice("page_1h", "firing", 9_000) },
            false,
        );
        let due = outbox.due(10_000);
        assert_eq!(due.len(), 1, "the other service waits for its own company");
        assert_eq!(due[0].group, [("service".to_owned(), "api".to_owned())]);
        assert_eq!(due[0].notifications.len(), 2);
        outbox.told(&due[0], 10_000);
        assert_eq!(tell(&mut outbox, 15_000).len(), 1);
        outbox.note(&notice("page_1h", "resolved", 20_000), false);
        assert!(outbox.due(69_999).is_empty());
        assert_eq!(states(&outbox.due(70_000)), [("page_1h", "resolved")]);
        tell(&mut outbox, 70_000);
        assert!(outbox.due(3_609_999).is_empty());
        assert_eq!(outbox.due(3_610_000).len(), 1, "what still fires is told again");
    }

    #[test]
    fn a_receiver_hears_of_incidents_or_of_alerts_as_it_wants() {
        for (each, expect) in [
            (Each::Incident, vec!["incident", "verdict"]),
            (Each::Alert, vec!["alert"]),
            (Each::Verdict, vec!["verdict"]),
            (Each::All, vec!["alert", "incident", "verdict"]),
        ] {
            let mut outbox = Outbox::new(Wants { each, ..wants() });
            outbox.note(&notice("page_1h", "firing", 1), false);
            let (subject, fingerprint) = ("incident", "fp-incident".to_owned());
            let scope = Scope { service: "api".into(), ..Scope::default() };
            let incident =
                Notice { subject, fingerprint, scope, ..notice("incident", "firing", 2) };
            outbox.note(&incident, false);
            let (subject, fingerprint) = (VERDICT, "fp-verdict".to_owned());
            outbox.note(&Notice { subject, fingerprint, ..incident }, false);
            let due = outbox.due(10);
            let told = |one: &Bundle| one.notifications[0].notice.subject;
            assert_eq!(due.iter().map(told).collect::<Vec<_>>(), expect);
        }
    }

    #[test]
    fn a_verdict_goes_alone_whatever_goes_together() {
        let mut outbox = Outbox::new(grouped(Grouping::default()));
        for (n, subject) in ["incident", VERDICT, "incident", VERDICT].into_iter().enumerate() {
            let fingerprint = format!("fp-{n}");
            outbox.note(&Notice { subject, fingerprint, ..notice("page_1h", "firing", 1) }, false);
        }
        let due = outbox.due(10);
        let subjects = |one: &Bundle| {
            one.notifications.iter().map(|one| one.notice.subject).collect::<Vec<_>>()
        };
        let mut subjects: Vec<Vec<&str>> = due.iter().map(subjects).collect();
        subjects.sort_unstable();
        assert_eq!(subjects, [vec!["incident", "incident"], vec![VERDICT], vec![VERDICT]]);
        assert_eq!(due[1].group, due[0].group, "its group is told");
    }

    #[test]
    fn many_notices_go_in_several_messages() {
        let mut outbox = Outbox::new(grouped(Grouping::default()));
        for n in 0..250 {
            let fingerprint = format!("fp-{n}");
            outbox.note(&Notice { fingerprint, ..notice("page_1h", "firing", n) }, false);
        }
        let lengths: Vec<usize> =
            outbox.due(1_000).iter().map(|one| one.notifications.len()).collect();
        assert_eq!(lengths, [100, 100, 50]);
        assert_eq!(tell(&mut outbox, 1_000).len(), 250);
        assert!(outbox.due(2_000).is_empty());
    }

    #[test]
    fn a_silence_holds_what_is_new_until_it_ends_and_never_an_end() {
        let silence = |from_ms, to_ms| {
            Arc::new(vec![Silence {
                id: "s".into(),
                matcher: Matcher { services: vec!["api".into()], ..Matcher::default() },
                author: "ops".into(),
                reason: "known".into(),
                from: rfc3339(from_ms),
                to: rfc3339(to_ms),
            }])
        };
        let mut outbox = Outbox::new(wants());
        outbox.set_silences(silence(5_000, 100_000));
        outbox.note(&notice("page_1h", "firing", 1_000), false);
        assert_eq!(tell(&mut outbox, 2_000).len(), 1, "before it begins");
        outbox.note(
            &Notice { fingerprint: "new".into(), ..notice("page_1h", "firing", 6_000) },
            false,
        );
        outbox.note(
            &Notice { fingerprint: "brief".into(), ..notice("page_1h", "firing", 6_000) },
            false,
        );
        outbox.note(&notice_of("inbox", "page_1h", "firing", 6_000), false);
        let due = outbox.due(6_000);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].notifications[0].notice.scope.service, "inbox");
        tell(&mut outbox, 6_000);
        outbox.note(&notice("page_1h", "resolved", 7_000), false);
        assert_eq!(states(&outbox.due(7_000)), [("page_1h", "resolved")], "it was told before");
        tell(&mut outbox, 7_000);
        outbox.note(
            &Notice { fingerprint: "brief".into(), ..notice("page_1h", "resolved", 8_000) },
            false,
        );
        assert!(outbox.due(99_999).is_empty());
        let due = outbox.due(100_000);
        assert_eq!(states(&due), [("page_1h", "firing")], "what still fires goes out");
        assert_eq!(due[0].notifications[0].notice.fingerprint, "new");
    }
}
