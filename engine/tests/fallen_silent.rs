//! Customers fallen silent: no alarm in weeks of ordinary traffic, and a prompt one where a third
//! of them stops.
//!
//! The traffic is made up by the minute: each customer has a rate that follows the hour of their
//! day and the day of the week, and comes by Poisson's law, or in bursts. The oracle of a running
//! service is what was planted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ninefold_engine::decode::{self, Format};
use ninefold_engine::model::Measures;
use ninefold_engine::pipeline::incidents::stored_incidents;
use ninefold_engine::pipeline::{Options, Pipeline, Start, Unit};
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::query::incident::newest;
use ninefold_engine::query::silent::{silent, together};
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::{Objectives, Slis};
use ninefold_engine::slo::silent::TOGETHER_MINUTES;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Tail};
use ninefold_engine::state::series::Series;
use ninefold_engine::table::{Filter, Table};
use ninefold_engine::time::{DAY_MINUTES, Minute};

/// 2025-10-06T00:00:00Z, a Monday.
const MONDAY: Minute = Minute(1_759_708_800 / 60);
const WEEK_MINUTES: u32 = 7 * DAY_MINUTES;

/// SplitMix64: the same at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// In 0..1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (mut k, mut p) = (0, self.uniform());
        while p > (-mean).exp() {
            (k, p) = (k + 1, p * self.uniform());
        }
        k
    }
}

/// How the traffic of a customer comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Traffic {
    /// By Poisson's law.
    Steady,
    /// Each quarter of an hour has a rate of its own, from a fifth to five times the usual one
    /// mostly.
    Bursty,
}

/// Some weeks of customers, each a series of its own. Of the first `gone` nothing comes from the
/// minute `stops` on.
fn weeks(
    seed: u64,
    traffic: Traffic,
    customers: u32,
    weeks: u32,
    (gone, stops): (u32, Minute),
) -> Vec<Series> {
    let of_customer = |nth: u32| {
        let mut random = Random(seed << 32 | u64::from(nth));
        let name = Arc::from(format!("c{nth}"));
        let mut series = Series::new(name, Arc::from("api"), 0);
        // From one in ten minutes to fifty a minute at noon; an office of its own time zone.
        let rate = 0.1 * 500_f64.powf(random.uniform());
        let noon = 8.0 + 10.0 * random.uniform();
        let mut burst = 1.0;
        for at in 0..weeks * WEEK_MINUTES {
            let minute = Minute(MONDAY.0 + at);
            let hour = f64::from(at % DAY_MINUTES) / 60.0;
            let day = (1.0 + ((hour - noon) * std::f64::consts::TAU / 24.0).cos()) / 2.0;
            let week = if at % WEEK_MINUTES >= 5 * DAY_MINUTES { 0.2 } else { 1.0 };
            if at % 15 == 0 {
                burst = match traffic {
                    Traffic::Steady => 1.0,
                    Traffic::Bursty => (0.8 * random.normal()).exp(),
                };
            }
            let valid = random.poisson(rate * (0.02 + 0.98 * day) * week * burst);
            if valid > 0 && !(nth < gone && minute >= stops) {
                series.add(minute, &Measures { valid, ..Measures::default() });
            }
        }
        series
    };
    (0..customers).map(of_customer).collect()
}

fn lately(at: Minute) -> impl Fn(&Series) -> Minute + Sync {
    move |_| at.minus(TOGETHER_MINUTES)
}

#[test]
fn weeks_of_ordinary_traffic_raise_no_alarm() {
    let (mut looks, mut missed, mut alone) = (0_u64, 0_u64, 0_u64);
    for seed in 0..6 {
        for traffic in [Traffic::Steady, Traffic::Bursty] {
            let customers = [8, 40][seed as usize % 2];
            let series = weeks(seed, traffic, customers, 5, (0, Minute(0)));
            for at in (4 * WEEK_MINUTES + 7..5 * WEEK_MINUTES).step_by(31) {
                let at = Minute(MONDAY.0 + at);
                let found = together(&series, at, &lately(at));
                let Some(found) = found.get("api") else { continue };
                looks += 1;
                let (hour, silent) = found.tally.within_hour();
                (missed, alone) = (missed + hour, alone + silent);
                assert!(!found.tally.are_many(), "seed {seed}, {traffic:?}, {at}: {found:?}");
            }
        }
    }
    println!("{looks} looks, {} missed at each, {alone} silent by chance", missed / looks);
    assert!(missed / looks > 5, "somebody was there to be missed");
}

#[test]
fn a_third_of_the_customers_who_stop_are_found_within_a_quarter_of_an_hour() {
    for (seed, traffic) in [(1, Traffic::Steady), (2, Traffic::Bursty), (3, Traffic::Bursty)] {
        // Wednesday of the fourth week, 13:00.
        let stops = Minute(MONDAY.0 + 3 * WEEK_MINUTES + 2 * DAY_MINUTES + 13 * 60);
        let series = weeks(seed, traffic, 60, 4, (18, stops));
        let alarm = |after: u32| {
            let at = Minute(stops.0 + after);
            let found = together(&series, at, &lately(at)).remove("api").unwrap();
            found.tally.are_many().then_some(found)
        };
        assert_eq!(alarm(0), None, "{traffic:?}");
        let (after, found) = (0..60).find_map(|after| Some((after, alarm(after)?))).unwrap();
        println!("{traffic:?}: {found:?} after {after} minutes");
        assert!(after <= 15, "{traffic:?}: {after} minutes");
        // An hour later whoever sends enough is known by name, and nobody else.
        let at = Minute(stops.0 + 60);
        let listed = silent(&series.iter().collect::<Vec<_>>(), at);
        let is_gone = |customer: &str| customer[1..].parse::<u32>().unwrap() < 18;
        let gone = listed.customers.iter().filter(|one| is_gone(&one.customer)).count();
        let others = listed.customers.len() - gone;
        assert!(gone >= 8 && others <= 1, "{traffic:?}: {gone} of 18, {others} others");
        assert!(listed.services[0].are_many);
    }
}

/// One line: so many requests of a customer in a minute.
fn line(minute: Minute, customer: u32, count: u32) -> String {
    let ts = minute.start_ms();
    format!(
        "{{\"ts\":{ts},\"customer\":\"c{customer}\",\"service\":\"api\",\"status\":200,\"count\":{count}}}\n"
    )
}

/// A service that counts one log and ticks each minute.
struct Running {
    pipeline: Pipeline,
    place: u64,
    tail: Tail,
}

impl Running {
    fn new(dir: &Path) -> Running {
        let options = Options {
            slis: Slis::default(),
            decode: decode::Options { format: Format::Ndjson, ..decode::Options::default() },
            dimension_values_max: 1_000,
            dedupe_window_bytes: 0,
            dedupe_window_records: 0,
            dedupe_ids_max: usize::MAX,
            pools: Arc::default(),
            epoch_events_max: usize::MAX,
        };
        let table = Table::open_or_create(dir).unwrap();
        let mut pipeline = Pipeline::new(options, table, true, 7);
        pipeline.recover(Minute(0)..=Minute(u32::MAX)).unwrap();
        Running { pipeline, place: 0, tail: Tail::default() }
    }

    /// Another process goes on where this one has committed.
    fn restarted(self, dir: &Path) -> Running {
        let (place, tail) = (self.place, self.tail);
        drop(self.pipeline);
        Running { place, tail, ..Running::new(dir) }
    }

    fn count(&mut self, text: &str) {
        let decode = self.pipeline.options().decode.clone();
        let (name, label, unit, offset) = ("file/a", "a", Unit::Bytes, self.place);
        let tail = self.tail.clone();
        let start = Start { name, label, decode, unit, offset, tail };
        let number = self.pipeline.partition(start).unwrap();
        self.tail.push(text.as_bytes());
        let next = offset + text.len() as u64;
        let (kind, bytes, tail) = (ChunkKind::Lines, text.as_bytes().to_vec(), self.tail.clone());
        self.pipeline.ingest(number, &[Chunk { first: offset, next, kind, bytes, tail }]);
        self.place = next;
    }

    /// The transitions of the alert at a tick, after a commit.
    fn tick(&mut self, now: Minute) -> Vec<AlertTransition> {
        self.pipeline.commit().unwrap();
        let (objectives, options) = (Objectives::default(), AlertOptions::default());
        self.pipeline.tick(now.start_ms() + 30_000, &objectives, &options);
        self.pipeline.transitions().filter(|one| one.tier == "silence").cloned().collect()
    }
}

#[test]
fn a_running_service_alerts_once_and_resolves_when_they_are_back() {
    const GONE: std::ops::Range<u32> = 0..6;
    let noon = Minute(MONDAY.0 + 3 * WEEK_MINUTES + 12 * 60);
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let mut one = Running::new(&dir);
    // Twenty customers with ten requests a minute, from 8:00 to 17:00.
    let (opens, closes) = (noon.0 - 240, noon.0 + 300);
    let mut history = String::new();
    for week in (1..4).rev() {
        for minute in opens..closes {
            let minute = Minute(minute - week * WEEK_MINUTES);
            history.extend((0..20).map(|customer| line(minute, customer, 10)));
        }
    }
    one.count(&history);
    let is_sent = |customer: u32, minute: u32| {
        !GONE.contains(&customer) || !(noon.0..noon.0 + 150).contains(&minute)
    };
    let minute_of = |minute: u32| -> String {
        let sends = (0..20).filter(|customer| is_sent(*customer, minute));
        sends.map(|customer| line(Minute(minute), customer, 10)).collect()
    };
    let past: String = (opens..noon.0 - 10).map(minute_of).collect();
    one.count(&past);
    let mut told: Vec<(u32, AlertTransition)> = Vec::new();
    for minute in noon.0 - 10..noon.0 + 180 {
        one.count(&minute_of(minute));
        told.extend(one.tick(Minute(minute)).into_iter().map(|one| (minute - noon.0 + 10, one)));
        if minute == noon.0 + 60 {
            one.pipeline.commit().unwrap();
            one = one.restarted(&dir);
        }
    }
    let states: Vec<(u32, &str)> = told.iter().map(|(at, one)| (*at, &*one.state)).collect();
    let [(fired, "firing"), (resolved, "resolved")] = states[..] else { panic!("{states:?}") };
    assert!((15..25).contains(&fired), "five minutes, and two until they are settled: {fired}");
    assert!((160..172).contains(&resolved), "{resolved}");
    let (first, last) = (&told[0].1, &told[1].1);
    assert_eq!((first.long.valid, first.long.bad), (20, 6));
    assert_eq!((&first.id, &first.fingerprint), (&last.id, &last.fingerprint));
    assert_eq!((&*first.objective, &*first.customer, &*first.severity), ("silence", "", "page"));

    // It is an incident with one page, which names who fell silent.
    one.pipeline.commit().unwrap();
    let stored = stored_incidents(one.pipeline.table(), &Filter::default()).unwrap();
    let incidents = newest(stored.iter().map(|one| one.incident.clone()));
    let [incident] = &incidents[..] else { panic!("{incidents:?}") };
    assert_eq!((&*incident.state, &*incident.notifies), ("closed", "page"));
    let opened = &stored[0].incident;
    let silence = opened.silence.as_ref().unwrap();
    assert_eq!((silence.customers, silence.missed, opened.customers), (6, 20, 0));
    assert_eq!(silence.names, ["c0", "c1", "c2", "c3", "c4", "c5"]);
    let summary = "api: 6 of 20 customers fell silent (c0, c1, c2, …)";
    assert_eq!((&*opened.summary, &*opened.severity), (summary, "critical"));
}

#[test]
fn who_starts_with_a_backlog_misses_nobody_and_a_quiet_evening_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Running::new(&folder.path().join("d"));
    let noon = Minute(MONDAY.0 + 3 * WEEK_MINUTES + 12 * 60);
    let mut history = String::new();
    for week in (1..4).rev() {
        for minute in noon.0 - 240..noon.0 + 300 {
            let minute = Minute(minute - week * WEEK_MINUTES);
            history.extend((0..20).map(|customer| line(minute, customer, 10)));
        }
    }
    one.count(&history);
    // It was down since nine, and reads what it has missed for ten minutes.
    let mut silences = BTreeSet::new();
    for minute in noon.0..noon.0 + 10 {
        let read = noon.0 - 180 + (minute - noon.0) * 18;
        let text: String = (read..read + 18)
            .flat_map(|minute| (0..20).map(move |customer| line(Minute(minute), customer, 10)))
            .collect();
        one.count(&text);
        silences.extend(one.tick(Minute(minute)).into_iter().map(|one| one.state));
    }
    assert!(silences.is_empty(), "{silences:?}");
    // Up to date until one; then nothing comes from anybody, and nothing does in the evening.
    let mut states = BTreeMap::new();
    for minute in noon.0 + 10..noon.0 + 1_000 {
        if minute < noon.0 + 60 {
            let text: String = (0..20).map(|customer| line(Minute(minute), customer, 10)).collect();
            one.count(&text);
        }
        for transition in one.tick(Minute(minute)) {
            states.insert(minute - noon.0, (transition.state, transition.long.bad));
        }
    }
    let states: Vec<_> = states.into_iter().collect();
    let [(fired, (state, silent))] = &states[..] else { panic!("{states:?}") };
    assert_eq!((state.as_str(), *silent), ("firing", 20), "the stream has stopped as a whole");
    assert!((65..75).contains(fired), "{fired}");
}

#[test]
fn where_there_are_many_series_a_look_takes_several_ticks() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Running::new(&folder.path().join("d"));
    let noon = Minute(MONDAY.0 + 3 * WEEK_MINUTES + 12 * 60);
    let mut history: String =
        (100..6_000).map(|customer| line(noon.minus(900), customer, 1)).collect();
    for week in (0..4).rev() {
        // Nothing comes for the last twenty minutes of now.
        for minute in noon.0 - 200..noon.0 + if week == 0 { 0 } else { 100 } {
            let minute = Minute(minute - week * WEEK_MINUTES);
            let sends = (0..20).filter(|customer| *customer >= 9 || minute < noon.minus(20));
            history.extend(sends.map(|customer| line(minute, customer, 10)));
        }
    }
    one.count(&history);
    // Up to date since a quarter of an hour, as far as the ticks know.
    for minute in noon.0 - 15..noon.0 - 5 {
        assert!(one.tick(Minute(minute)).is_empty());
    }
    let (objectives, options) = (Objectives::default(), AlertOptions::default());
    let mut fired = Vec::new();
    for tick in 0..60 {
        one.pipeline.commit().unwrap();
        one.pipeline.tick(noon.start_ms() + tick * 1_000, &objectives, &options);
        let silence = one.pipeline.transitions().find(|one| one.tier == "silence");
        fired.extend(silence.map(|one| (tick, one.long.bad)));
    }
    assert_eq!(fired.len(), 1, "{fired:?}");
    assert!(
        fired[0].0 > 10 && fired[0].1 == 9,
        "not at the first tick, and all of them: {fired:?}"
    );
}
