//! The *silence* alert: many customers of a service fell silent together.
//!
//! The judge looks at every series in memory once a minute ([`crate::slo::silent`]), shard by
//! shard, over several ticks where there are many: a round. What a round finds leads to a
//! transition like those of other alerts, of the objective and tier [`SILENCE`] and of no
//! customer: its windows say how many would be missed (`valid`) and how many of them fell silent
//! together (`bad`).
//!
//! It *ends* on evidence: those who fell silent since shortly before it fired have come back, or
//! are no longer many, at an hour at which at least half as many customers would be missed as
//! when it fired. In a quiet night nobody is missed and nothing ends. After a week, when what is
//! to be expected is what there was, it is stale.
//!
//! Nothing is judged before the newest event was of now, and for some minutes after it
//! ([`AlertOptions::silence_after_minutes`]): a service that starts reads what it has missed
//! first. From then on the clock counts, so that a stream that stops as a whole is a silence of
//! everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Pipeline;
use super::watch::Tick;
use crate::notify::notice::SILENCE;
use crate::query::body::{AlertTransition, AlertWindow};
use crate::query::silent::{Together, together};
use crate::slo::alert::{AlertOptions, Basis, Change, Severity, fingerprint, id};
use crate::slo::incident::evidence::scanned;
use crate::slo::incident::{Incident, SeriesKey, Silenced};
use crate::slo::silent::{TOGETHER_MIN, TOGETHER_MINUTES, TOGETHER_SPANS};
use crate::state::block::SHARDS;
use crate::state::series::Series;
use crate::time::{DAY_MINUTES, Minute, parse_rfc3339, rfc3339};

/// It wakes somebody, with the evidence that an incident takes.
pub(super) const SEVERITY: Severity = Severity::Page;

/// Minutes that are looked at are over for so long: other instances have committed them.
const SETTLE_MINUTES: u32 = 2;

/// How many shards a tick looks at, where there are more than [`FEW`] series: all of them well
/// within a minute of ticks.
const SHARDS_PER_TICK: usize = 1;

/// So many series are looked at within one tick: a busy one takes some 40 µs, one of whom nothing
/// is to be expected one.
const FEW: u64 = 5_000;

/// So long after it has fired, what is to be expected is what there was meanwhile.
const STALE_MINUTES: u32 = 7 * DAY_MINUTES;

/// What is known of who is silent.
#[derive(Default)]
pub(super) struct Silence {
    /// The first minute in which the newest event was of now.
    warm_since: Option<Minute>,
    round: Option<Round>,
    /// The minute in which the last round began.
    begun: Minute,
    /// By service, what the last whole round has found.
    found: BTreeMap<String, Together>,
}

/// A look at every series, as of one minute.
struct Round {
    at: Minute,
    /// By service with an alert that fires: since when who fell silent counts.
    since: BTreeMap<String, Minute>,
    next_shard: usize,
    found: BTreeMap<String, Together>,
}

/// What a tick has seen of a round.
pub(super) struct Part {
    /// The round, where it begins with this part.
    begins: Option<Round>,
    /// The first shard of the next part.
    end: usize,
    found: BTreeMap<String, Together>,
}

impl Silence {
    /// The p-value of so many at once, corrected for looks; `None` where nobody would be missed.
    pub fn p_value(&self, service: &str) -> Option<f64> {
        let (_, silent, chance) = self.found.get(service)?.tally.least_likely();
        let spans = TOGETHER_SPANS.len() as f64;
        Some((scanned(chance, silent, TOGETHER_MINUTES) * spans).min(1.0))
    }

    /// Who fell silent, where that is a part of an incident.
    pub fn of(&self, incident: &Incident) -> Option<Silenced> {
        if !incident.members.keys().any(SeriesKey::is_service) {
            return None;
        }
        let Together { tally, names } = self.found.get(&*incident.service)?;
        let (missed, customers) = tally.within_hour();
        Some(Silenced { customers, missed, names: names.clone() })
    }
}

impl Pipeline {
    /// Looks for silence: at the next part of a round, where there is one or one is due.
    pub(super) fn look_for_silence(&self, now: Minute, options: &AlertOptions) -> Option<Part> {
        let after = options.silence_after_minutes.filter(|_| self.is_judge())?;
        let Silence { warm_since, round, begun, .. } = &self.silence;
        let is_warm = warm_since.is_some_and(|since| now.0 >= since.0 + after);
        let begins = (round.is_none() && is_warm && now > *begun).then(|| Round {
            at: now.minus(SETTLE_MINUTES),
            since: self.fired_silence().into_iter().map(|(of, one)| (of, since(&one))).collect(),
            next_shard: 0,
            found: BTreeMap::new(),
        });
        let round = round.as_ref().or(begins.as_ref())?;
        let most = if self.state.series_count() <= FEW { SHARDS } else { SHARDS_PER_TICK };
        let end = (round.next_shard + most).min(SHARDS);
        let lately = round.at.minus(TOGETHER_MINUTES);
        let from =
            |series: &Series| round.since.get(&*series.service).map_or(lately, |since| *since);
        let mut found: BTreeMap<String, Together> = BTreeMap::new();
        for shard in &self.state.shards[round.next_shard..end] {
            let series: Vec<&Series> = shard.all_series().collect();
            for (service, one) in together(series, round.at, &from) {
                found.entry(service).or_default().add(one);
            }
        }
        Some(Part { begins, end, found })
    }

    /// Takes what a tick has seen of a round, and evaluates the alerts when the round is whole.
    pub(super) fn judge_silence(
        &mut self,
        tick: &Tick,
        options: &AlertOptions,
        part: Option<Part>,
    ) {
        if options.silence_after_minutes.is_none() {
            return self.end_silence(tick);
        }
        let now = Minute::of_ms(tick.at_ms);
        let is_now = self.state.newest() >= Some(now.minus(SETTLE_MINUTES));
        self.silence.warm_since = self.silence.warm_since.or(is_now.then_some(now));
        let Some(Part { begins, end, found }) = part else { return };
        if begins.is_some() {
            (self.silence.begun, self.silence.round) = (now, begins);
        }
        let round = self.silence.round.as_mut().expect("a part is one of a round");
        round.next_shard = end;
        for (service, one) in found {
            round.found.entry(service).or_default().add(one);
        }
        if end == SHARDS
            && let Some(round) = self.silence.round.take()
        {
            self.silence.found = round.found;
            self.step_silence(tick);
        }
    }

    /// By service, what made the alerts fire.
    fn fired_silence(&self) -> BTreeMap<String, Arc<AlertTransition>> {
        let fired = self.watch.firing_of_many().into_iter().filter(|one| one.tier == SILENCE);
        fired.map(|one| (one.service.clone(), one)).collect()
    }

    /// Ends all: it is not judged any more.
    fn end_silence(&mut self, tick: &Tick) {
        self.silence = Silence::default();
        self.fired_silence().values().for_each(|fired| self.watch.end(fired, tick));
    }

    fn step_silence(&mut self, tick: &Tick) {
        let now = Minute::of_ms(tick.at_ms);
        let fired = self.fired_silence();
        let nobody = Together::default();
        let services = self.silence.found.keys().chain(fired.keys());
        let mut services: Vec<String> = services.cloned().collect();
        services.sort_unstable();
        services.dedup();
        for service in services {
            let tally = self.silence.found.get(&service).unwrap_or(&nobody).tally;
            let (missed, _) = tally.within_hour();
            let change = match fired.get(&service) {
                _ if tally.are_many() => (!fired.contains_key(&service)).then_some(Change::Firing),
                None => None,
                Some(one) if missed >= TOGETHER_MIN && 2 * missed >= one.long.valid => {
                    Some(Change::Resolved)
                }
                Some(one) if now.0 >= began(one).0 + STALE_MINUTES => Some(Change::Stale),
                Some(_) => None,
            };
            if let Some(change) = change {
                let known = fired.get(&service).map(|one| one.id.clone());
                let (missed, silent, _) = tally.least_likely();
                let transition = transition(&service, (missed, silent), change, known, tick);
                self.watch.judged(transition, tick);
            }
        }
    }
}

/// When an alert began to fire.
fn began(fired: &AlertTransition) -> Minute {
    parse_rfc3339(fired.at.as_bytes()).map(Minute::of_ms).unwrap_or_default()
}

/// Since when who fell silent counts for an alert that fires.
fn since(fired: &AlertTransition) -> Minute {
    began(fired).minus(SETTLE_MINUTES + TOGETHER_MINUTES)
}

fn transition(
    service: &str,
    (missed, silent): (u64, u64),
    change: Change,
    known: Option<String>,
    tick: &Tick,
) -> AlertTransition {
    let fingerprint = fingerprint(SILENCE, "", service, SILENCE);
    let window =
        AlertWindow { window: "2h".to_owned(), valid: missed, bad: silent, burn_rate: None };
    AlertTransition {
        id: known.unwrap_or_else(|| id(&fingerprint, &format!("tick {}", tick.at_ms))),
        fingerprint,
        customer: String::new(),
        pool: None,
        service: service.to_owned(),
        objective: SILENCE.to_owned(),
        tier: SILENCE.to_owned(),
        severity: SEVERITY.name().to_owned(),
        state: change.name().to_owned(),
        basis: Basis::Live.name().to_owned(),
        at: rfc3339(tick.at_ms),
        long: window.clone(),
        short: window,
        factor: 0.0,
        incident: None,
        verdict: None,
    }
}
