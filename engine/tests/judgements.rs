//! Verdicts of running instances: a release that begins to fail is told within a minute, under one
//! key, whoever judges and whatever dies.
//!
//! A roll-out is drawn from a seed, second by second, and counted by pipelines in one process, each
//! with a `Table` of its own. Commits and looks come each ten seconds of its time, at phases of
//! their own; nothing here waits.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use ninefold_engine::decode::{self, Format};
use ninefold_engine::pipeline::decision::correct;
use ninefold_engine::pipeline::verdicts::stored_verdicts;
use ninefold_engine::pipeline::{Options, Pipeline, PipelineError, Start, Unit};
use ninefold_engine::query::Promise;
use ninefold_engine::query::judgement::{Change, Judgement};
use ninefold_engine::query::young::{CANDIDATES_MAX, FLAG_VALUES_MAX, GONE_MINUTES, Look, Young};
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::{Objectives, Slis};
use ninefold_engine::slo::verdict::Verdict;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Tail};
use ninefold_engine::table::correction::Correction;
use ninefold_engine::table::{CommitError, Filter, Table};
use ninefold_engine::time::Minute;

const ALL: std::ops::RangeInclusive<Minute> = Minute(0)..=Minute(u32::MAX);

/// 2025-10-06T00:00:00Z.
const START_MS: i64 = 1_759_708_800_000;

/// The names of the dimensions.
const NAMES: [&str; 5] = ["release", "cohort", "region", "route", "checkout"];

/// Customers, of whom the first ones are the cohort: a fifth of the traffic.
const CUSTOMERS: u32 = 40;
const COHORT: u32 = 8;

/// Requests of a customer each second: 50 of the cohort.
const REQUESTS_PER_S: f64 = 6.25;

/// SplitMix64: the same at every run.
struct Random(u64);

impl Random {
    fn ratio(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of `count` happen, each with a chance of `ratio`.
    fn of(&mut self, count: u32, ratio: f64) -> u32 {
        (0..count).filter(|_| self.ratio() < ratio).count() as u32
    }
}

/// What the cohort is served by in some time, and which part of it fails beyond 0.2%.
#[derive(Clone, Copy)]
struct Served<'a> {
    release: &'a str,
    checkout: &'a str,
    fails: f64,
}

const OLD: Served<'_> = Served { release: "r41", checkout: "old", fails: 0.0 };
const NEW: Served<'_> = Served { release: "r42", ..OLD };

/// A roll-out, written second by second.
struct Rollout {
    random: Random,
    text: String,
}

impl Rollout {
    fn new(seed: u64) -> Rollout {
        Rollout { random: Random(seed), text: String::new() }
    }

    /// The requests of some seconds since the start; the text's length is then their end.
    fn serve(&mut self, seconds: std::ops::Range<u32>, cohort: Served<'_>) -> usize {
        let mut at = seconds.start;
        while at < seconds.end {
            let until = seconds.end.min(at - at % 60 + 60);
            for customer in 0..CUSTOMERS {
                let served = if customer < COHORT { cohort } else { OLD };
                self.serve_customer(customer, at, until - at, served);
            }
            at = until;
        }
        self.text.len()
    }

    fn serve_customer(&mut self, customer: u32, at_s: u32, seconds: u32, served: Served<'_>) {
        let requests = (REQUESTS_PER_S * f64::from(seconds)).round() as u32;
        let bad = self.random.of(requests, 0.002 + served.fails);
        let ts = START_MS + i64::from(at_s) * 1_000;
        let Served { release, checkout, .. } = served;
        let (route, region) = (customer % 4, customer / 4 % 2);
        for (status, count) in [(200, requests - bad), (503, bad)] {
            if count > 0 {
                writeln!(
                    self.text,
                    "{{\"ts\":{ts},\"customer\":\"c{customer}\",\"service\":\"api\",\
                     \"route\":\"r{route}\",\"region\":\"r{region}\",\"status\":{status},\
                     \"release\":\"{release}\",\"checkout\":\"{checkout}\",\
                     \"count\":{count}}}"
                )
                .unwrap();
            }
        }
    }
}

fn options() -> Options {
    Options {
        slis: Slis::default(),
        decode: decode::Options {
            format: Format::Ndjson,
            attributes: vec!["checkout".to_owned()],
            ..decode::Options::default()
        },
        dimension_values_max: 1_000,
        pools: Default::default(),
        dedupe_window_bytes: 0,
        dedupe_window_records: 0,
        dedupe_ids_max: usize::MAX,
        epoch_events_max: usize::MAX,
    }
}

fn ms_of(second: u32) -> i64 {
    START_MS + i64::from(second) * 1_000
}

/// An instance: its pipeline, and its second look at the table.
struct Instance {
    pipeline: Pipeline,
    table: Table,
    young: Young,
}

impl Instance {
    fn new(dir: &Path) -> Instance {
        let table = Table::open_or_create(dir).unwrap();
        let mut pipeline = Pipeline::new(options(), table, true, 7);
        pipeline.recover(ALL).unwrap();
        Instance { pipeline, table: Table::open(dir).unwrap().unwrap(), young: Young::default() }
    }

    /// Counts up to the byte `end`, from where the partition stands.
    fn count(&mut self, text: &str, end: usize) {
        let first = self.pipeline.place_of("file/a").unwrap() as usize;
        let mut tail = Tail::default();
        tail.push(&text.as_bytes()[..first]);
        let decode = self.pipeline.options().decode.clone();
        let (name, unit, offset) = ("file/a", Unit::Bytes, first as u64);
        let start = Start { name, label: name, decode, unit, offset, tail: tail.clone() };
        let number = self.pipeline.partition(start).unwrap();
        if first < end {
            let bytes = text.as_bytes()[first..end].to_vec();
            tail.push(&bytes);
            let (next, kind) = (end as u64, ChunkKind::Lines);
            self.pipeline.ingest(number, &[Chunk { first: offset, next, kind, bytes, tail }]);
        }
    }

    fn look(&mut self, second: u32) -> Look {
        self.table.refresh().unwrap();
        let bad = self.pipeline.bad_verdicts();
        let now = Minute::of_ms(ms_of(second));
        with_promise(|promise| self.young.look(&self.table, promise, &NAMES, &bad, now).unwrap())
    }

    /// Looks, and decides; what is news and not committed.
    fn judge(&mut self, second: u32) -> Vec<Judgement> {
        let look = self.look(second);
        with_promise(|promise| self.pipeline.note_verdicts(look, ms_of(second), promise));
        self.pending()
    }

    fn pending(&self) -> Vec<Judgement> {
        let notices = self.pipeline.notices().into_iter().filter_map(|one| one.verdict);
        notices.map(|judgement| *judgement).collect()
    }

    /// Counts, commits and judges.
    fn step(&mut self, rollout: &Rollout, end: usize, second: u32) -> Vec<Judgement> {
        self.count(&rollout.text, end);
        self.pipeline.commit().unwrap();
        self.judge(second)
    }
}

fn with_promise<R>(answer: impl FnOnce(&Promise<'_>) -> R) -> R {
    let (slis, objectives, alerts) =
        (Slis::default(), Objectives::default(), AlertOptions::default());
    let (slis, objectives, alerts) = (&slis, &objectives, &alerts);
    answer(&Promise { slis, objectives, alerts, credits: &[], zone: "UTC" })
}

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    (folder, dir)
}

/// Who is bad or no more, and how.
fn changes(judgements: &[Judgement]) -> Vec<(&str, Change)> {
    judgements.iter().map(|one| (one.verdict.value.as_str(), one.change)).collect()
}

#[test]
fn a_fifth_of_errors_is_told_within_a_minute_of_its_begin_whenever_that_is() {
    let mut slowest_s = 0;
    for seed in 0..6_u32 {
        // It fails from its first second on, or after a while in which it was well.
        let well_s = [0, 37, 1_800][seed as usize % 3];
        let (_folder, dir) = folder();
        let (mut one, mut rollout) = (Instance::new(&dir), Rollout::new(u64::from(seed)));
        let begin_s = 1_200 + 7 * seed;
        let fails_s = begin_s + well_s;
        let end = rollout.serve(0..begin_s, OLD);
        assert_eq!(one.step(&rollout, end, begin_s), []);
        let end = rollout.serve(begin_s..fails_s, NEW);
        assert_eq!(one.step(&rollout, end, fails_s), [], "it is well");
        // Commits and looks at the worst phases: a look has just missed the first rows.
        let (mut committed_s, mut told) = (fails_s, None);
        for look in 1..=6 {
            let second = fails_s + 10 * look;
            rollout.serve(committed_s..second - 1, Served { fails: 0.2, ..NEW });
            committed_s = second - 1;
            let told_now = one.judge(second);
            if let Some(judgement) = told_now.first() {
                told = Some((second - fails_s, judgement.clone()));
                break;
            }
            one.count(&rollout.text, rollout.text.len());
            one.pipeline.commit().unwrap();
        }
        let (delay_s, judgement) = told.unwrap_or_else(|| panic!("seed {seed}: nothing is told"));
        assert!(delay_s <= 60, "seed {seed}: {delay_s} s");
        assert_eq!((judgement.verdict.value.as_str(), judgement.change), ("r42", Change::Bad));
        let bad_from = &judgement.verdict.errors.bad_from;
        let earliest = Minute::of_ms(ms_of(fails_s)).minus(2).to_string();
        assert!(well_s < 1_800 || *bad_from >= earliest, "{bad_from}, not {earliest}");
        slowest_s = delay_s.max(slowest_s);
    }
    println!("the slowest of 6: {slowest_s} s");
}

#[test]
fn what_is_read_bit_by_bit_is_what_is_read_at_once() {
    let (_folder, dir) = folder();
    let (mut one, mut rollout) = (Instance::new(&dir), Rollout::new(3));
    let flagged = Served { checkout: "new", ..NEW };
    let (mut judged, mut from) = (0, 0);
    for (second, served) in [
        (600, OLD),
        (1_200, OLD),
        (1_230, flagged),
        (1_245, Served { fails: 0.05, ..flagged }),
        (1_400, Served { fails: 0.2, ..NEW }),
        (1_410, OLD),
    ] {
        let end = rollout.serve(from..second, served);
        from = second;
        // A part of it in one commit, the rest in the next.
        let begun = one.pipeline.place_of("file/a").unwrap() as usize;
        let half = rollout.text[..end - (end - begun) / 3].rfind('\n').unwrap() + 1;
        one.count(&rollout.text, half);
        one.pipeline.commit().unwrap();
        one.look(second);
        one.count(&rollout.text, end);
        one.pipeline.commit().unwrap();
        if second == 1_400 {
            let minute = |at| Minute::of_ms(ms_of(at)).to_string();
            let correction = Correction {
                id: "c".to_owned(),
                from: minute(1_200),
                to: minute(1_200),
                customers: vec!["c1".to_owned()],
                services: Vec::new(),
                reason: "a test".to_owned(),
                at: minute(1_400),
                undoes: None,
            };
            correct(&mut one.table, &correction).unwrap();
        }
        let (bit_by_bit, now) = (one.look(second), Minute::of_ms(ms_of(second)));
        let at_once = with_promise(|promise| {
            Young::default().look(&one.table, promise, &NAMES, &[], now).unwrap()
        });
        let bodies = |look: &Look| -> BTreeMap<String, _> {
            let body = |one: &ninefold_engine::query::young::Judged| {
                (format!("{:?}", one.name), (one.verdict.clone(), one.hit.clone()))
            };
            look.judged.iter().map(body).collect()
        };
        let (bit_by_bit, at_once) = (bodies(&bit_by_bit), bodies(&at_once));
        assert_eq!(bit_by_bit.keys().collect::<Vec<_>>(), at_once.keys().collect::<Vec<_>>());
        for (name, (found, hit)) in &bit_by_bit {
            let (expected, expected_hit) = &at_once[name];
            assert_eq!(hit, expected_hit, "{name}");
            // The order of rows moves the last digit of sums.
            let text = |body: &ninefold_engine::query::body::Verdict| {
                let test = &body.errors;
                let counts = (test.valid, test.bad, test.rest_valid, test.rest_bad);
                format!("{} {counts:?} {:?} {:.6e}", body.from, body.verdict, test.e_bad)
            };
            assert_eq!(text(found), text(expected), "{name}");
        }
        judged += bit_by_bit.len();
    }
    assert!(judged >= 8, "releases and the flag were judged: {judged}");
}

#[test]
fn a_judgement_has_one_key_through_crashes_and_ends_when_the_release_is_gone() {
    let (_folder, dir) = folder();
    let (mut one, mut rollout) = (Instance::new(&dir), Rollout::new(5));
    let failing = Served { fails: 0.2, ..NEW };
    let end = rollout.serve(0..1_200, OLD);
    one.step(&rollout, end, 1_200);
    let end = rollout.serve(1_200..1_230, failing);
    let told = one.step(&rollout, end, 1_230);
    assert_eq!(changes(&told), [("r42", Change::Bad)]);
    assert!(told[0].verdict.budget_consumed.is_some_and(|share| share > 0.0), "{told:?}");
    assert!(told[0].summary.starts_with("api: release=r42 is bad: "), "{}", told[0].summary);
    assert_eq!(one.judge(1_231), told, "it is no news a second later");
    // It dies before its commit; another decides the same, later, and under the same key.
    let mut other = Instance::new(&dir);
    let again = other.judge(1_240);
    assert_eq!((&again[0].id, &again[0].fingerprint), (&told[0].id, &told[0].fingerprint));
    other.pipeline.commit().unwrap();
    assert_eq!(other.judge(1_250), [], "it is known");
    // The first one, which only slept, is fenced, and takes over what was decided.
    match one.pipeline.commit() {
        Err(PipelineError::Commit(CommitError::Fenced { .. })) => {
            one.pipeline.stop_judging().unwrap()
        }
        landed => panic!("two have decided: {landed:?}"),
    }
    assert_eq!(one.pending(), []);
    let followed = one.pipeline.follow().unwrap();
    assert_eq!(followed.transitions.len(), 1, "{followed:?}");
    assert_eq!(followed.transitions[0].id, told[0].id);
    assert_eq!(one.judge(1_260), [], "it judges no more");
    drop(one);
    // A third one, much later: it was rolled back, and that is told once.
    let gone_s = 1_230 + 60 * (GONE_MINUTES + 2);
    let end = rollout.serve(1_230..gone_s, OLD);
    let mut third = Instance::new(&dir);
    let over = third.step(&rollout, end, gone_s);
    assert_eq!(changes(&over), [("r42", Change::Gone)]);
    assert_eq!((&over[0].id, &over[0].fingerprint), (&told[0].id, &told[0].fingerprint));
    third.pipeline.commit().unwrap();
    assert_eq!(third.judge(gone_s + 10), []);
    // It comes back as it was: bad once more, and another time of it.
    let end = rollout.serve(gone_s..gone_s + 20, failing);
    let back = third.step(&rollout, end, gone_s + 20);
    assert_eq!(changes(&back), [("r42", Change::Bad)]);
    assert_eq!((&back[0].fingerprint, back[0].ordinal), (&told[0].fingerprint, 1));
    assert_ne!(back[0].id, told[0].id);
    third.pipeline.commit().unwrap();
    let stored = stored_verdicts(third.pipeline.table(), &Filter::default()).unwrap();
    let stored: Vec<Judgement> = stored.into_iter().map(|one| one.judgement).collect();
    assert_eq!(
        changes(&stored),
        [("r42", Change::Bad), ("r42", Change::Gone), ("r42", Change::Bad)]
    );
    assert_eq!(
        (&stored[2].id, &stored[2].summary),
        (&back[0].id, &back[0].summary),
        "a row is what was told"
    );
}

#[test]
fn a_flag_is_judged_and_an_attribute_of_many_values_is_not() {
    let (_folder, dir) = folder();
    let (mut one, mut rollout) = (Instance::new(&dir), Rollout::new(9));
    let end = rollout.serve(0..1_200, OLD);
    one.step(&rollout, end, 1_200);
    let flagged = Served { checkout: "new", fails: 0.2, ..OLD };
    let end = rollout.serve(1_200..1_260, flagged);
    let told = one.step(&rollout, end, 1_260);
    assert_eq!(changes(&told), [("new", Change::Bad)]);
    assert_eq!(told[0].verdict.dimension, "checkout");
    one.pipeline.commit().unwrap();
    let values: Vec<String> = (0..FLAG_VALUES_MAX).map(|n| format!("v{n}")).collect();
    for (n, value) in values.iter().enumerate() {
        let at = 1_260 + n as u32;
        rollout.serve(at..at + 1, Served { checkout: value, ..OLD });
    }
    let end = rollout.text.len();
    one.step(&rollout, end, 1_300);
    let dimensions: Vec<String> =
        one.look(1_300).judged.into_iter().map(|judged| judged.name.dimension).collect();
    assert!(!dimensions.contains(&"checkout".to_owned()), "{dimensions:?}");
    // More releases at once than are judged: that is said.
    for n in 0..2 + CANDIDATES_MAX as u32 {
        let (release, at) = (format!("s{n}"), 1_300 + n);
        rollout.serve(at..at + 1, Served { release: &release, ..OLD });
    }
    let end = rollout.text.len();
    one.step(&rollout, end, 1_330);
    let look = one.look(1_331);
    assert_eq!(look.judged.len(), CANDIDATES_MAX);
    // Those, and r41, which is as old as the data.
    assert_eq!(look.passed_over, 3);
}

#[test]
fn what_was_long_ago_is_not_judged() {
    let (_folder, dir) = folder();
    let (mut one, mut rollout) = (Instance::new(&dir), Rollout::new(11));
    rollout.serve(0..600, OLD);
    let end = rollout.serve(600..660, Served { fails: 0.2, ..NEW });
    one.count(&rollout.text, end);
    one.pipeline.commit().unwrap();
    let soon = one.look(660);
    assert!(soon.judged.iter().any(|judged| judged.verdict.verdict == Verdict::Bad), "{soon:?}");
    // A log of yesterday that is counted today calls for no roll-back.
    assert_eq!(one.judge(660 + 60 * 60), []);
    assert_eq!(one.judge(660 + 30 * 3_600), []);
}
