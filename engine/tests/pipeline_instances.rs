//! Several instances on one table: memory is table + own uncommitted at every version followed
//! to, a zombie finds out, and no two decide the same thing.
//!
//! The instances are pipelines in one process, each with a `Table` of its own, driven by a seed
//! through counting, commits, hand-overs, zombies, and rebuilds. The oracle is the recount of
//! `tests/common`, up to the offsets that the table and the instance itself stand at.

#[path = "support/options.rs"]
mod options;
#[path = "../../tests/common/recount.rs"]
mod recount;

use std::collections::BTreeMap;
use std::path::Path;

use ninefold_engine::pipeline::careful::{Poison, REASON};
use ninefold_engine::pipeline::{Pipeline, PipelineError, Start, Unit};
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::Objectives;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, RecordMark, Tail};
use ninefold_engine::state::State;
use ninefold_engine::synth::{self, generate};
use ninefold_engine::table::{CommitError, Filter, JUDGE, Table};
use ninefold_engine::time::Minute;
use options::options;
use recount::{Counts, Key, Recount, Rules};

const ALL: std::ops::RangeInclusive<Minute> = Minute(0)..=Minute(u32::MAX);

/// 2025-10-06T00:00:00Z.
const START_MS: i64 = 1_759_708_800_000;

fn lines(seed: u64, events: u64) -> Vec<u8> {
    let options = synth::Options {
        seed,
        events,
        customers: 12,
        days: 0.2,
        start_ms: START_MS,
        services: 2,
        error_ratio: 0.01,
        incidents: vec!["from=60,minutes=20,rate=0.7,latency=9".parse().unwrap()],
        late_share: 0.05,
        broken: 0.05,
        ..synth::Options::default()
    };
    let mut lines = Vec::new();
    generate(&options, &mut lines).unwrap();
    lines
}

/// SplitMix64: the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }
}

/// One instance: a pipeline that holds the whole table.
struct Instance(Pipeline);

fn instance(dir: &Path) -> Instance {
    let table = Table::open_or_create(dir).unwrap();
    let mut pipeline = Pipeline::new(options(), table, true, 7);
    pipeline.recover(ALL).unwrap();
    Instance(pipeline)
}

impl Instance {
    /// Begins a partition, or goes on with it, where it stands.
    fn begin(&mut self, name: &str, text: &[u8]) -> u16 {
        let offset = self.0.place_of(name).unwrap();
        let mut tail = Tail::default();
        tail.push(&text[..offset as usize]);
        let decode = self.0.options().decode.clone();
        let start = Start { name, label: name, decode, unit: Unit::Bytes, offset, tail };
        self.0.partition(start).unwrap()
    }

    /// Counts about so many bytes more of a partition, whole lines.
    fn count(&mut self, name: &str, text: &[u8], bytes: usize) {
        let number = self.begin(name, text);
        let first = self.0.place_of(name).unwrap() as usize;
        let Some(rest) = text.get(first..).filter(|rest| !rest.is_empty()) else { return };
        let least = bytes.clamp(1, rest.len());
        let end = rest[least - 1..].iter().position(|byte| *byte == b'\n').unwrap();
        let bytes = rest[..least + end].to_vec();
        let mut tail = Tail::default();
        tail.push(&text[..first + bytes.len()]);
        let (next, kind) = ((first + bytes.len()) as u64, ChunkKind::Lines);
        self.0.ingest(number, &[Chunk { first: first as u64, next, kind, bytes, tail }]);
    }

    /// Commits; where it is fenced, forgets and reads the table. Whether it has landed.
    fn commit(&mut self) -> bool {
        match self.0.commit() {
            Ok(_) => true,
            Err(PipelineError::Commit(CommitError::Fenced { .. })) => {
                self.0.rebuild(ALL).unwrap();
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Follows; where it turns out to be a zombie, forgets and reads the table. Whether it is
    /// none.
    fn follow(&mut self) -> bool {
        let followed = self.0.follow().unwrap();
        assert!(!followed.lost, "{followed:?}");
        let well = followed.overtaken.is_none();
        if !well {
            self.0.rebuild(ALL).unwrap();
        }
        assert!(self.0.is_complete());
        well
    }

    /// What the recount says that memory has to hold.
    fn expected(&self, texts: &BTreeMap<String, Vec<u8>>) -> BTreeMap<Key, Counts> {
        let mut minutes: BTreeMap<Key, Counts> = BTreeMap::new();
        for (name, text) in texts {
            let end = self.0.place_of(name).unwrap() as usize;
            for (key, counts) in Recount::of(&text[..end], Rules::default()).minutes {
                minutes.entry(key).or_default().add(&counts);
            }
        }
        minutes
    }

    fn check(&self, texts: &BTreeMap<String, Vec<u8>>, what: &str) {
        let (found, expected) = (cells(&self.0.state), self.expected(texts));
        for (key, counts) in &expected {
            assert_eq!(found.get(key), Some(counts), "{what}: {key:?}");
        }
        assert_eq!(found.len(), expected.len(), "{what}");
    }

    fn tick(&mut self, minute: Minute) -> Vec<AlertTransition> {
        let now_ms = minute.start_ms() + 30_000;
        self.0.tick(now_ms, &Objectives::default(), &AlertOptions::default());
        self.0.transitions().cloned().collect()
    }
}

fn cells(state: &State) -> BTreeMap<Key, Counts> {
    let mut minutes = BTreeMap::new();
    for series in state.all_series() {
        for cell in series.cells_in(ALL) {
            let key = (series.customer.to_string(), series.service.to_string(), cell.minute.0);
            let measures = cell.measures;
            let counts = Counts {
                valid: measures.valid,
                bad: measures.bad,
                excluded: measures.excluded,
                timed: measures.timed,
                slow: measures.slow,
                latency_sum_us: measures.latency_sum_us,
                latency_max_us: measures.latency_max_us,
            };
            minutes.insert(key, counts);
        }
    }
    minutes
}

/// What else memory holds: further SLIs, latencies of the last hour, counts by dimension.
fn rest(state: &State) -> Vec<String> {
    let newest = state.newest().unwrap();
    let mut rest = Vec::new();
    for series in state.all_series() {
        let name = format!("{} {}", series.customer, series.service);
        rest.push(format!("{name} {:?}", series.sum_further(0, ALL)));
        let last = series.histograms.iter().filter(|(minute, _)| *minute > newest.minus(60));
        rest.extend(last.map(|(minute, h)| format!("{name} {minute} {:?}", h.slots())));
    }
    let recent = state.recent_rows(8);
    let mut sums: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for row in recent.iter().filter(|row| row.minute > newest.minus(180)) {
        let sum = sums.entry((row.minute, row.service, row.values.clone())).or_default();
        (sum.0, sum.1) = (sum.0 + row.valid, sum.1 + row.bad);
    }
    rest.extend(sums.iter().map(|row| format!("{row:?}")));
    rest
}

#[test]
fn memory_is_the_table_and_our_own_whatever_the_others_do() {
    let (mut landed, mut fenced, mut zombies) = (0, 0, 0);
    for seed in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("d");
        let names = ["kafka/requests/0", "kafka/requests/1", "file/a"];
        let texts: BTreeMap<String, Vec<u8>> = names
            .iter()
            .zip(0..)
            .map(|(name, n)| (name.to_string(), lines(seed * 9 + n, 250)))
            .collect();
        let mut random = Random(seed);
        let mut instances: Vec<Instance> = (0..3).map(|_| instance(&dir)).collect();
        for step in 0..60 {
            let number = random.below(instances.len());
            let one = &mut instances[number];
            let name = names[random.below(names.len())];
            match random.below(12) {
                // Its own partition mostly; now and then that of another, as a zombie would.
                0..=5 => {
                    let name = if random.below(3) == 0 { name } else { names[number] };
                    one.count(name, &texts[name], 2_000);
                }
                6..=7 => {
                    let well = one.commit();
                    (landed, fenced) = (landed + usize::from(well), fenced + usize::from(!well));
                }
                8..=9 => zombies += usize::from(!one.follow()),
                10 if one.commit() => one.0.release(name),
                11 if random.below(4) == 0 => one.0.rebuild(ALL).unwrap(),
                _ => {}
            }
            // Not after each step: what nobody has looked at has to be fenced at the commit.
            if random.below(3) == 0 && one.follow() {
                one.check(&texts, &format!("seed {seed}, step {step}, instance {number}"));
            }
        }
        for one in &mut instances {
            one.commit();
        }
        let fresh = instance(&dir);
        fresh.check(&texts, "read afresh");
        for one in &mut instances {
            // One that still holds a partition of another has not been asked until now.
            one.follow();
            one.check(&texts, "at the end");
            assert_eq!(rest(&one.0.state), rest(&fresh.0.state), "seed {seed}");
        }
    }
    println!("{landed} commits landed, {fenced} were fenced, {zombies} zombies found out");
    assert!(landed > 50 && fenced > 5 && zombies > 5);
}

/// Two hours of one customer, all of whose requests fail in the second.
fn failing(customer: &str) -> Vec<u8> {
    let line = |minute: i64| {
        let status = if minute < 60 { 200 } else { 503 };
        let ts = START_MS + minute * 60_000;
        format!("{{\"ts\":{ts},\"customer\":\"{customer}\",\"status\":{status}}}\n")
    };
    (0..120).flat_map(|minute| line(minute).repeat(5).into_bytes()).collect()
}

fn end() -> Minute {
    Minute(Minute::of_ms(START_MS).0 + 119)
}

fn states(transitions: &[AlertTransition]) -> Vec<(String, String)> {
    let mut states: Vec<(String, String)> =
        transitions.iter().map(|one| (one.customer.clone(), one.state.clone())).collect();
    states.sort();
    states.dedup();
    states
}

fn stored(dir: &Path) -> usize {
    let table = Table::open(dir).unwrap().unwrap();
    let mut stored = 0;
    table.for_each_alert(&Filter::default(), |_| stored += 1).unwrap();
    stored
}

#[test]
fn who_counts_a_series_decides_its_alerts_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let (mut a, mut b) = (instance(&dir), instance(&dir));
    b.0.stop_judging().unwrap();
    a.count("kafka/t/0", &failing("of-a"), usize::MAX);
    b.count("kafka/t/1", &failing("of-b"), usize::MAX);
    assert!(a.commit() && b.commit() && a.follow() && b.follow());
    let firing = |customer: &str| vec![(customer.to_owned(), "firing".to_owned())];
    assert_eq!(states(&a.tick(end())), firing("of-a"));
    assert_eq!(states(&b.tick(end())), firing("of-b"));
    assert!(a.commit() && b.commit() && a.follow() && b.follow());
    let fired = stored(&dir);
    // Each knows the other's, and says nothing twice.
    assert_eq!(states(&a.tick(end())), []);
    assert_eq!(states(&b.tick(end())), []);
    assert!(fired >= 4, "{fired}");

    // What was of b goes on at a, from the state in which b has left it: only what resolves or
    // goes stale is new.
    assert!(b.commit());
    b.0.release("kafka/t/1");
    a.count("kafka/t/1", &failing("of-b"), 1);
    let later = Minute(end().0 + 3 * 1_440);
    assert!(states(&a.tick(later)).iter().all(|(_, state)| state != "firing"));
}

#[test]
fn what_nobody_counts_is_decided_by_one_judge() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let mut gone = instance(&dir);
    gone.count("file/ended", &failing("c"), usize::MAX);
    assert!(gone.commit());
    drop(gone);
    // Two newcomers, each of which holds itself for the judge.
    let (mut a, mut b) = (instance(&dir), instance(&dir));
    assert_eq!(states(&a.tick(end())), states(&b.tick(end())));
    assert!(a.0.has_transitions());
    b.count("file/other", &failing("other"), 1_000);
    assert!(a.commit());
    let fired = stored(&dir);
    let Err(PipelineError::Commit(CommitError::Fenced { partition, .. })) = b.0.commit() else {
        panic!("two have judged")
    };
    assert_eq!(partition, JUDGE);
    // What b has counted stays; what it has judged does not.
    b.0.stop_judging().unwrap();
    assert!(!b.0.has_transitions() && b.0.is_uncommitted("file/other"));
    assert!(b.follow() && b.commit());
    assert_eq!(states(&b.tick(end())), []);
    assert_eq!(stored(&dir), fired);
    // The judge dies: b takes over from the state that it has left, hours later.
    drop(a);
    b.0.judge(false).unwrap();
    let later = Minute(end().0 + 12 * 60);
    assert_eq!(states(&b.tick(later)), []);
    let stale = states(&b.tick(Minute(later.0 + 12 * 60)));
    assert_eq!(stale, [("c".to_owned(), "stale".to_owned())]);
    assert!(b.commit());
    assert!(stored(&dir) > fired);
}

#[test]
fn a_decision_of_a_zombie_is_fenced_although_it_has_counted_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let more = b"{\"ts\":1759708800000,\"customer\":\"c\",\"status\":200}\n";
    let text = [failing("c").as_slice(), more].concat();
    let mut zombie = instance(&dir);
    zombie.count("kafka/t/0", &text, text.len() - more.len());
    zombie.0.stop_judging().unwrap();
    assert!(zombie.commit());
    // It sleeps; another one goes on with its partition, and decides.
    let mut next = instance(&dir);
    next.count("kafka/t/0", &text[..], 1);
    assert!(next.0.is_uncommitted("kafka/t/0"));
    next.tick(end());
    assert!(next.commit());
    let fired = stored(&dir);
    assert!(!zombie.tick(end()).is_empty());
    let is_ahead = next.0.place_of("kafka/t/0").unwrap() > zombie.0.place_of("kafka/t/0").unwrap();
    assert!(is_ahead, "the other one has made progress");
    assert!(!zombie.commit(), "a zombie has decided");
    assert_eq!(stored(&dir), fired);
    assert_eq!(states(&zombie.tick(end())), [], "it knows what was decided");
}

#[test]
fn the_later_of_two_transitions_is_told_by_the_table_and_not_by_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let mut one = instance(&dir);
    one.count("file/a", &failing("c"), usize::MAX);
    assert!(one.commit());
    assert_eq!(states(&one.tick(end())), [("c".to_owned(), "firing".to_owned())]);
    assert!(one.commit());
    // The clock is set back by more than an hour, to when everything was well.
    let before = end().minus(80);
    let resolved = one.tick(before);
    assert!(resolved.iter().any(|one| one.state == "resolved"), "{resolved:?}");
    assert!(one.commit() && one.follow());
    let rows = cells(&one.0.state);
    let mut restarted = instance(&dir);
    assert_eq!(cells(&restarted.0.state), rows, "a clock moves no row");
    assert_eq!(states(&restarted.tick(before)), [], "what has resolved does not resolve again");
}

#[test]
fn a_place_that_panicked_is_counted_record_by_record_to_the_same_numbers() {
    let text = lines(5, 300);
    let poison = |first: u64, next: u64, is_record: bool| Poison {
        partition: "file/a".to_owned(),
        first,
        next,
        is_record,
        message: String::new(),
    };
    let counted = |poison: Vec<Poison>| {
        let folder = tempfile::tempdir().unwrap();
        let mut one = instance(&folder.path().join("d"));
        one.0.set_poison(poison);
        one.count("file/a", &text, 8_000);
        one.count("file/a", &text, usize::MAX);
        assert!(one.commit());
        let mut dead = Vec::new();
        let table = one.0.table();
        table
            .for_each_dead(&Filter::default(), |row| dead.push((row.offset, row.reason.to_owned())))
            .unwrap();
        dead.sort();
        (cells(&one.0.state), dead, one.0.lines(), one.0.known().unwrap())
    };
    let plain = counted(Vec::new());
    assert_eq!(counted(vec![poison(100, 101, false)]), plain);
    assert_eq!(counted(vec![poison(0, u64::MAX, false)]), plain);
    // The second line alone.
    let first = text.iter().position(|byte| *byte == b'\n').unwrap() as u64 + 1;
    let without = counted(vec![poison(first, first + 1, true)]);
    assert!(without.1.contains(&(first, REASON.to_owned())), "{:?}", without.1);
    assert_eq!((without.2.read, &without.3), (plain.2.read, &plain.3));
    assert_eq!(without.2.dead, plain.2.dead + 1);
}

#[test]
fn records_that_panicked_keep_their_offsets_holes_and_times() {
    let line = |n: i64| {
        let ts = START_MS + n * 60_000;
        format!("{{\"ts\":{ts},\"customer\":\"c\",\"status\":200}}").into_bytes()
    };
    let (mut bytes, mut marks) = (Vec::new(), Vec::new());
    for offset in [12_u64, 13, 17] {
        let payload = line(offset as i64);
        bytes.extend_from_slice(&payload);
        marks.push(RecordMark {
            offset,
            end: bytes.len() as u32,
            length_bytes: payload.len() as u64,
            time_ms: Some(START_MS + offset as i64 * 60_000),
        });
    }
    let tail = Tail::of_record(17, Some(START_MS + 17 * 60_000), &line(17));
    let chunk = Chunk { first: 0, next: 20, kind: ChunkKind::Records(marks), bytes, tail };
    let counted = |poison: Vec<Poison>| {
        let folder = tempfile::tempdir().unwrap();
        let mut one = instance(&folder.path().join("d"));
        one.0.set_poison(poison);
        let (name, unit) = ("kafka/t/0", Unit::Records);
        let decode = one.0.options().decode.clone();
        let start = Start { name, label: name, decode, unit, offset: 0, tail: Tail::default() };
        let number = one.0.partition(start).unwrap();
        one.0.ingest(number, std::slice::from_ref(&chunk));
        assert!(one.commit());
        (cells(&one.0.state), one.0.lines(), one.0.known().unwrap())
    };
    let place = |is_record| Poison {
        partition: "kafka/t/0".to_owned(),
        first: 13,
        next: 14,
        is_record,
        message: String::new(),
    };
    let plain = counted(Vec::new());
    assert_eq!((plain.1.read, plain.1.holes), (3, 17));
    assert_eq!(counted(vec![place(false)]), plain);
    let without = counted(vec![place(true)]);
    assert_eq!((without.1.counted, without.1.dead, without.1.holes), (2, 1, 17));
    assert_eq!(without.2, plain.2);
}
