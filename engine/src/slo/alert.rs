//! Alerts: one state machine for every series, objective and tier.
//!
//! - *Burning*: the long and the short window are both at or above the tier's factor, compared
//!   in integers.
//! - *Firing*: burning, at least `min_bad` bad events in the long window, and evidence: the
//!   [binomial tail](evidence) of the long window is at most `1 - confidence`. Burning without
//!   it is *insufficient*. A ticket also needs a history that covers a quarter of its long
//!   window: an hour after its first event nothing is known of three days.
//! - *Resolved* on evidence only: at least `min_valid` valid events in the short window, below
//!   the factor, for `keep_firing_for_minutes` on end. With fewer valid events it stays firing
//!   with `no_data`, and after the long window of that it is *stale*. While both windows burn,
//!   however few the events, nothing goes stale: failing is not silence.
//!
//! ```text
//!             burning                      evidence
//! inactive ────────────▶ insufficient ────────────────▶ firing ──▶ resolved or stale = inactive
//!    ▲  ◀─────────────────────┘  │ (may be skipped)       │ ▲
//!    └───── not burning ─────────┘                        └─┘ no_data on and off
//! ```
//! [`step`] is the one pure transition function. `settled` alerts step through the final counts
//! of each minute ([`settled()`]); `live` ones step at every tick with the sums known then.
//!
//! Invariants: a step depends on its arguments alone; with unchanged windows a second step at
//! the same minute changes nothing; every firing ends by exactly one transition.

pub mod evidence;
mod outline;
mod settled;
mod tiers;

use sha2::{Digest, Sha256};

pub use self::outline::{Outline, Run};
pub use self::settled::{SeriesCells, settled};
pub use self::tiers::{AlertOptions, SPECS, Severity, Spec, Tier, TierProblem, Tiers, tiers_of};

use crate::model::Counts;
use crate::slo::decimal::burn_at_least;
use crate::slo::sli::hex;
use crate::time::{MINUTE_MS, Minute};

/// A ticket needs a history that covers one part in so many of its long window.
const COVERAGE_PARTS: u64 = 4;

/// The state of one series, objective and tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not burning.
    #[default]
    Inactive,
    /// Burning, but with too few events, too little evidence or too short a history to fire.
    Insufficient,
    /// Firing until resolved or stale.
    Firing(Firing),
}

/// A firing alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The minute it began to fire.
    pub since: Minute,
    /// Whether the short window holds fewer than `min_valid` valid events.
    pub no_data: bool,
    /// Since when it has had too few events to see it burn.
    quiet_since: Option<Minute>,
    /// Since when the short window is below the factor, minutes of no data left out.
    clear_since: Option<Minute>,
}

impl Firing {
    /// As a stored transition tells it after a restart: firing since then, and nothing seen yet.
    pub fn resumed(since: Minute) -> Firing {
        Firing { since, no_data: false, quiet_since: None, clear_since: None }
    }
}

impl State {
    /// `inactive`, `insufficient` or `firing`.
    pub fn name(&self) -> &'static str {
        match self {
            State::Inactive => "inactive",
            State::Insufficient => "insufficient",
            State::Firing(_) => "firing",
        }
    }

    /// Whether it fires.
    pub fn is_firing(&self) -> bool {
        matches!(self, State::Firing(_))
    }

    /// The minute at which it changes although no window does: it goes stale, or has been clear
    /// for long enough.
    pub fn timeout(&self, tier: &Tier) -> Option<Minute> {
        let State::Firing(firing) = self else { return None };
        if firing.no_data {
            return firing.quiet_since.map(|since| Minute(since.0 + tier.spec.long.1));
        }
        let keep = tier.options.keep_firing_for_minutes;
        firing.clear_since.map(|since| Minute(since.0.saturating_add(keep)))
    }
}

/// What a step looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The minute that both windows end with.
    pub at: Minute,
    /// The counts of the long window.
    pub long: Counts,
    /// The counts of the short window.
    pub short: Counts,
    /// How many minutes the history of the series has, from its first counted minute to `at`,
    /// both included; more than the long window is as good as the long window.
    pub covered_minutes: u32,
}

/// What a transition leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// It fires.
    Firing,
    /// The short window showed that it no longer burns.
    Resolved,
    /// There were too few events to tell, for as long as the long window.
    Stale,
}

impl Change {
    /// `firing`, `resolved` or `stale`.
    pub fn name(self) -> &'static str {
        match self {
            Change::Firing => "firing",
            Change::Resolved => "resolved",
            Change::Stale => "stale",
        }
    }
}

/// One change of state that is told to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What it leads to.
    pub change: Change,
    /// The minute this firing began with; `at` for [`Change::Firing`] itself.
    pub since: Minute,
    /// What was seen.
    pub look: Look,
}

/// The next state, and the transition where there is one.
pub fn step(state: State, tier: &Tier, look: &Look) -> (State, Option<Transition>) {
    match state {
        State::Firing(firing) => step_firing(firing, tier, look),
        State::Inactive | State::Insufficient => step_idle(tier, look),
    }
}

/// Whether an alert that does not fire may come to with such a short window: it alone is asked of
/// series after series, since it is mostly empty or clean.
pub fn may_fire(tier: &Tier, short: Counts) -> bool {
    burn_at_least(short, tier.target, tier.factor)
}

/// Whether both windows are at or above the factor.
fn is_burning(tier: &Tier, look: &Look) -> bool {
    may_fire(tier, look.short) && burn_at_least(look.long, tier.target, tier.factor)
}

/// Whether there is enough history, enough bad events and evidence to fire on.
fn is_evident(tier: &Tier, look: &Look) -> bool {
    let covered = COVERAGE_PARTS * u64::from(look.covered_minutes) >= u64::from(tier.spec.long.1);
    if look.long.bad < tier.options.min_bad || (tier.spec.severity == Severity::Ticket && !covered)
    {
        return false;
    }
    let tail = evidence::binomial_tail(look.long.bad, look.long.valid, tier.allowed_ratio);
    tail <= 1.0 - tier.options.confidence
}

/// A step of an alert that does not fire.
fn step_idle(tier: &Tier, look: &Look) -> (State, Option<Transition>) {
    if !is_burning(tier, look) {
        return (State::Inactive, None);
    }
    if !is_evident(tier, look) {
        return (State::Insufficient, None);
    }
    let firing = Firing { since: look.at, no_data: false, quiet_since: None, clear_since: None };
    let firing = watched(firing, tier, look);
    let transition = Transition { change: Change::Firing, since: look.at, look: *look };
    (State::Firing(firing), Some(transition))
}

/// A step of an alert that fires.
fn step_firing(firing: Firing, tier: &Tier, look: &Look) -> (State, Option<Transition>) {
    let firing = watched(firing, tier, look);
    let lasts = |since: Option<Minute>, minutes: u32| {
        since.is_some_and(|since| look.at.0.saturating_sub(since.0) >= minutes)
    };
    let clear = lasts(firing.clear_since, tier.options.keep_firing_for_minutes);
    let change = if clear && !firing.no_data {
        Change::Resolved
    } else if lasts(firing.quiet_since, tier.spec.long.1) {
        Change::Stale
    } else {
        return (State::Firing(firing), None);
    };
    let transition = Transition { change, since: firing.since, look: *look };
    (State::Inactive, Some(transition))
}

/// The firing alert with its clocks set by what the short window shows.
fn watched(firing: Firing, tier: &Tier, look: &Look) -> Firing {
    let no_data = look.short.valid < tier.options.min_valid;
    let quiet = no_data && !is_burning(tier, look);
    let clear_since = if no_data {
        firing.clear_since
    } else if burn_at_least(look.short, tier.target, tier.factor) {
        None
    } else {
        firing.clear_since.or(Some(look.at))
    };
    Firing {
        no_data,
        quiet_since: quiet.then(|| firing.quiet_since.unwrap_or(look.at)),
        clear_since,
        ..firing
    }
}

/// Which of the two kinds of truth a transition tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// What was known at a tick.
    Live,
    /// What the final counts say at the end of a minute.
    Settled,
}

impl Basis {
    /// `live` or `settled`.
    pub fn name(self) -> &'static str {
        match self {
            Basis::Live => "live",
            Basis::Settled => "settled",
        }
    }
}

/// A transition with all that an answer or a notification tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// This firing; see [`id`].
    pub id: String,
    /// This alert; see [`fingerprint`].
    pub fingerprint: String,
    /// Name of the objective.
    pub objective: String,
    /// Who.
    pub customer: String,
    /// Which component.
    pub service: String,
    /// The tier: name, severity, windows, factor, target.
    pub tier: Tier,
    /// The kind of truth.
    pub basis: Basis,
    /// Epoch milliseconds: of the tick, or of the last second of the minute.
    pub at_ms: i64,
    /// What changed, and the counts of both windows.
    pub transition: Transition,
}

impl Alert {
    /// A settled transition: at the last second of its minute, made firing by its first minute.
    pub fn settled(
        objective: &str,
        customer: &str,
        service: &str,
        tier: &Tier,
        transition: Transition,
    ) -> Alert {
        let fingerprint = fingerprint(objective, customer, service, tier.spec.name);
        Alert {
            id: id(&fingerprint, &format!("settled {}", transition.since)),
            fingerprint,
            objective: objective.to_owned(),
            customer: customer.to_owned(),
            service: service.to_owned(),
            tier: tier.clone(),
            basis: Basis::Settled,
            at_ms: settled_at_ms(transition.look.at),
            transition,
        }
    }
}

/// The last second of a minute, in epoch milliseconds: when a settled transition is.
pub fn settled_at_ms(minute: Minute) -> i64 {
    minute.start_ms() + MINUTE_MS - 1_000
}

/// The identity of an alert, the same on every machine and in every life of the process: 32 hex
/// digits of the SHA-256 over the four names, each preceded by its length.
pub fn fingerprint(objective: &str, customer: &str, service: &str, tier: &str) -> String {
    hash_of(&[objective, customer, service, tier])
}

/// The same of a [pool](super::pool), which no customer's is, whatever their name.
pub fn fingerprint_of_pool(objective: &str, pool: &str, service: &str, tier: &str) -> String {
    hash_of(&["pool", objective, pool, service, tier])
}

/// The identity of one firing: of its fingerprint and what made it firing (a commit, or the
/// minute of a settled one). Its resolution has the same.
pub fn id(fingerprint: &str, what: &str) -> String {
    hash_of(&[fingerprint, what])
}

/// 32 hex digits over texts that cannot run into each other.
pub(crate) fn hash_of(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hex(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::objective::Objectives;

    fn tier(name: &str, options: AlertOptions) -> Tier {
        let tiers = tiers_of(&Objectives::default().default[0], &options).active;
        tiers.into_iter().find(|tier| tier.spec.name == name).unwrap()
    }

    fn look(at: u32, long: (u64, u64), short: (u64, u64)) -> Look {
        let counts = |(valid, bad)| Counts { valid, bad, excluded: 0 };
        Look { at: Minute(at), long: counts(long), short: counts(short), covered_minutes: 5_000 }
    }

    /// Steps through looks and names the state after each and the change made by it.
    fn walk(tier: &Tier, looks: &[Look]) -> Vec<String> {
        let mut state = State::default();
        let mut seen = Vec::new();
        for look in looks {
            let (next, transition) = step(state, tier, look);
            state = next;
            let change = transition.map_or("", |transition| transition.change.name());
            seen.push(format!("{} {change}", state.name()).trim_end().to_owned());
        }
        seen
    }

    #[test]
    fn both_windows_have_to_burn() {
        let tier = tier("page_1h", AlertOptions::default());
        let check = |long: (u64, u64), short: (u64, u64), expect: &str| {
            assert_eq!(walk(&tier, &[look(100, long, short)]), [expect], "{long:?} {short:?}");
        };
        check((10_000, 288), (1_000, 29), "firing firing");
        check((10_000, 287), (1_000, 29), "inactive");
        check((10_000, 288), (1_000, 28), "inactive");
        check((10_000, 288), (0, 0), "inactive");
    }

    #[test]
    fn few_failures_are_insufficient() {
        let tier = tier("page_1h", AlertOptions::default());
        // Two of 10 are strong evidence (0.0002), but fewer than min_bad; three of 500 burn at
        // 3 only; three of 100 burn at 15, but so many come by chance at 0.0011.
        let check = |counts: (u64, u64), expect: &str| {
            assert_eq!(walk(&tier, &[look(100, counts, counts)]), [expect], "{counts:?}");
        };
        check((10, 2), "insufficient");
        check((500, 3), "inactive");
        check((100, 3), "insufficient");
        check((90, 3), "firing firing");
    }

    #[test]
    fn tickets_need_a_quarter_of_history_and_pages_do_not() {
        let check = |name: &str, covered_minutes: u32, expect: &str| {
            let tier = tier(name, AlertOptions::default());
            let look = Look { covered_minutes, ..look(9_000, (10_000, 500), (10_000, 500)) };
            assert_eq!(walk(&tier, &[look]), [expect], "{name} {covered_minutes}");
        };
        check("ticket_1d", 359, "insufficient");
        check("ticket_1d", 360, "firing firing");
        check("ticket_3d", 1_079, "insufficient");
        check("ticket_3d", 1_080, "firing firing");
        check("page_1h", 1, "firing firing");
    }

    #[test]
    fn resolution_takes_evidence_and_silence_goes_stale() {
        let tier = tier("page_1h", AlertOptions::default());
        let burning = look(100, (10_000, 500), (1_000, 50));
        let check = |looks: &[Look], expect: &[&str]| {
            assert_eq!(walk(&tier, &[&[burning], looks].concat())[1..], *expect, "{looks:?}");
        };
        check(&[look(101, (10_000, 500), (10, 0))], &["inactive resolved"]);
        check(&[look(101, (10_000, 500), (9, 0))], &["firing"]);
        // 60 minutes of too few events: quiet since minute 101.
        let quiet = |at| look(at, (10_000, 500), (9, 0));
        check(&[quiet(101), quiet(160), quiet(161)], &["firing", "firing", "inactive stale"]);
        // Something in between starts the clock again.
        let some = look(130, (10_000, 500), (1_000, 50));
        let expect = ["firing", "firing", "firing", "firing", "inactive stale"];
        check(&[quiet(101), some, quiet(131), quiet(190), quiet(191)], &expect);
        // Few events that all fail are no silence.
        let failing = |at| look(at, (20, 20), (5, 5));
        check(&[failing(101), failing(500)], &["firing", "firing"]);
    }

    #[test]
    fn a_quiet_firing_alert_says_so() {
        let tier = tier("page_1h", AlertOptions::default());
        let (state, _) = step(State::Inactive, &tier, &look(100, (10_000, 500), (1_000, 50)));
        let (state, _) = step(state, &tier, &look(101, (10_000, 500), (9, 0)));
        let State::Firing(firing) = state else { panic!("{state:?}") };
        assert!(firing.no_data);
        assert_eq!(state.timeout(&tier), Some(Minute(161)));
    }

    #[test]
    fn an_alert_keeps_firing_for_as_long_as_it_is_told() {
        let options = AlertOptions { keep_firing_for_minutes: 10, ..AlertOptions::default() };
        let tier = tier("page_1h", options);
        let burning = |at| look(at, (10_000, 500), (1_000, 50));
        let clear = |at| look(at, (10_000, 500), (1_000, 0));
        let quiet = |at| look(at, (10_000, 500), (9, 0));
        let looks = [burning(100), clear(101), clear(110), burning(111), clear(112), quiet(122)];
        let expect = ["firing firing", "firing", "firing", "firing", "firing", "firing"];
        assert_eq!(walk(&tier, &looks), expect);
        let looks = [burning(100), clear(101), quiet(105), clear(111)];
        assert_eq!(walk(&tier, &looks)[2..], ["firing", "inactive resolved"]);
    }

    #[test]
    fn identities_are_stable_and_names_do_not_run_together() {
        let known = fingerprint("availability", "acme", "api", "page_1h");
        assert_eq!(known, "8825bdd557c9cd8a016c41144503bcfa");
        assert_ne!(known, fingerprint("availability", "acmea", "pi", "page_1h"));
        assert_ne!(known, fingerprint_of_pool("availability", "acme", "api", "page_1h"));
        assert_ne!(id(&known, "1"), id(&known, "2"));
    }
}
