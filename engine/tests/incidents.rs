//! Incidents of running instances: one page, whoever judges, whatever dies.
//!
//! Instances are pipelines in one process, each with a `Table` of its own. What people are told
//! is what is committed, and what was told without a commit by one that was killed right after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ninefold_engine::decode::{self, Format};
use ninefold_engine::pipeline::incidents::stored_incidents;
use ninefold_engine::pipeline::watch::stored_transitions;
use ninefold_engine::pipeline::{Options, Pipeline, PipelineError, Start, Unit};
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::query::incident::newest;
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::{Objectives, Slis};
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Tail};
use ninefold_engine::table::{CommitError, Filter, Table};
use ninefold_engine::time::Minute;

const ALL: std::ops::RangeInclusive<Minute> = Minute(0)..=Minute(u32::MAX);

/// 2025-10-06T00:00:00Z.
const START_MS: i64 = 1_759_708_800_000;

fn options() -> Options {
    Options {
        slis: Slis::default(),
        decode: decode::Options { format: Format::Ndjson, ..decode::Options::default() },
        dimension_values_max: 1_000,
        dedupe_window_bytes: 0,
        dedupe_window_records: 0,
        dedupe_ids_max: usize::MAX,
        pools: Default::default(),
        epoch_events_max: usize::MAX,
    }
}

/// One line: so many requests of a customer in a minute since the start.
fn line(minute: u32, customer: &str, status: u16, count: u32) -> String {
    let ts = START_MS + i64::from(minute) * 60_000;
    let release = if status == 200 { "r41" } else { "r42" };
    format!(
        "{{\"ts\":{ts},\"customer\":\"{customer}\",\"service\":\"api\",\"status\":{status},\
         \"release\":\"{release}\",\"count\":{count}}}\n"
    )
}

fn minute(since_start: u32) -> Minute {
    Minute(Minute::of_ms(START_MS).0 + since_start)
}

/// What people were told: the states of each key of a page, each once in a row.
#[derive(Debug, Default)]
struct Told(BTreeMap<String, Vec<String>>);

impl Told {
    fn tell(&mut self, notices: &[AlertTransition]) {
        let pages = notices.iter().filter(|one| one.incident.is_some() && one.severity == "page");
        for page in pages {
            let states = self.0.entry(page.fingerprint.clone()).or_default();
            if states.last() != Some(&page.state) {
                states.push(page.state.clone());
            }
        }
    }

    /// The states of the one page there was.
    fn one(&self) -> Vec<&str> {
        assert_eq!(self.0.len(), 1, "{self:?}");
        self.0.values().next().unwrap().iter().map(String::as_str).collect()
    }
}

struct Instance(Pipeline);

impl Instance {
    fn new(dir: &Path) -> Instance {
        let table = Table::open_or_create(dir).unwrap();
        let mut pipeline = Pipeline::new(options(), table, true, 7);
        pipeline.recover(ALL).unwrap();
        Instance(pipeline)
    }

    /// Counts a partition up to the byte `end`, from where it stands.
    fn count(&mut self, name: &str, text: &[u8], end: usize) {
        let first = self.0.place_of(name).unwrap() as usize;
        let mut tail = Tail::default();
        tail.push(&text[..first]);
        let decode = self.0.options().decode.clone();
        let (unit, offset) = (Unit::Bytes, first as u64);
        let start = Start { name, label: name, decode, unit, offset, tail: tail.clone() };
        let number = self.0.partition(start).unwrap();
        if first < end {
            tail.push(&text[first..end]);
            let (next, kind, bytes) = (end as u64, ChunkKind::Lines, text[first..end].to_vec());
            self.0.ingest(number, &[Chunk { first: offset, next, kind, bytes, tail }]);
        }
    }

    fn tick(&mut self, since_start: u32) {
        let now_ms = minute(since_start).start_ms() + 30_000;
        self.0.tick(now_ms, &Objectives::default(), &AlertOptions::default());
    }

    /// Commits, and tells what has landed.
    fn commit(&mut self, told: &mut Told) {
        let notices = self.0.notices();
        self.0.commit().unwrap();
        told.tell(&notices);
    }

    fn follow(&mut self) {
        let followed = self.0.follow().unwrap();
        assert!(!followed.lost && followed.overtaken.is_none(), "{followed:?}");
    }
}

/// An hour of good traffic of some customers, then failures, then good traffic again.
fn outage(customers: std::ops::Range<usize>) -> (Vec<u8>, usize) {
    let mut text = String::new();
    for n in customers.clone() {
        text += &line(50, &format!("c{n}"), 200, 30);
        text += &line(59, &format!("c{n}"), 503, 5);
    }
    let failing = text.len();
    for n in customers {
        text += &line(64, &format!("c{n}"), 200, 3_000);
    }
    (text.into_bytes(), failing)
}

/// The slowest ticket goes stale later than three days after the last failure, which is as far
/// back as series are looked at that do not fire.
#[test]
fn an_alert_of_who_went_away_is_over_once_it_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let text = line(0, "gone", 200, 1_000) + &line(1_200, "gone", 503, 100);
    let mut one = Instance::new(&folder.path().join("d"));
    one.count("kafka/t/0", text.as_bytes(), text.len());
    for hour in 20..125 {
        one.tick(60 * hour);
        one.commit(&mut Told::default());
    }
    let all = stored_transitions(one.0.table(), &ALL).unwrap();
    let mut slowest: Vec<_> = all.iter().filter(|one| one.tier == "ticket_3d").collect();
    slowest.sort_by_key(|one| &one.at);
    let states: Vec<&str> = slowest.iter().map(|one| one.state.as_str()).collect();
    assert_eq!(states, ["firing", "stale"], "{slowest:#?}");
}

#[test]
fn ten_thousand_burning_customers_are_one_page_although_the_judge_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let names = ["kafka/t/0", "kafka/t/1", "kafka/t/2"];
    let texts: Vec<(Vec<u8>, usize)> = [0..3_334, 3_334..6_667, 6_667..10_000].map(outage).into();
    let mut told = Told::default();
    let mut instances: Vec<Instance> = names.iter().map(|_| Instance::new(&dir)).collect();
    for (n, one) in instances.iter_mut().enumerate() {
        if n > 0 {
            one.0.stop_judging().unwrap();
        }
        one.count(names[n], &texts[n].0, texts[n].1);
        one.commit(&mut told);
    }
    // The judge sees its own part first, the parts of the others a tick later.
    for now in [59, 60] {
        for one in &mut instances {
            one.follow();
            one.tick(now);
            one.commit(&mut told);
        }
    }
    assert_eq!(told.one(), ["firing"]);
    instances.iter_mut().for_each(Instance::follow);
    instances[0].tick(61);
    let open = |one: &Instance| -> Vec<(usize, bool)> {
        let incidents = one.0.incidents().iter().filter(|one| one.is_open());
        incidents.map(|one| (one.customers().count(), one.page.is_some())).collect()
    };
    assert_eq!(open(&instances[0]), [(10_000, true)]);
    // It is killed with what it has not committed. Another takes over its partition and its role.
    drop(instances.remove(0));
    instances[0].0.judge(false).unwrap();
    instances[0].count(names[0], &texts[0].0, texts[0].1);
    for one in &mut instances {
        one.follow();
        one.tick(62);
        one.commit(&mut told);
    }
    assert_eq!(open(&instances[0]), [(10_000, true)]);
    assert_eq!(told.one(), ["firing"], "no second page, and none under another key");
    // All is well again.
    instances[0].count(names[0], &texts[0].0, texts[0].0.len());
    for (n, one) in instances.iter_mut().enumerate() {
        one.count(names[n + 1], &texts[n + 1].0, texts[n + 1].0.len());
        one.commit(&mut told);
    }
    for now in [65, 66] {
        for one in &mut instances {
            one.follow();
            one.tick(now);
            one.commit(&mut told);
        }
    }
    assert_eq!(told.one(), ["firing", "resolved"]);
    let table = Table::open(&dir).unwrap().unwrap();
    let stored = stored_incidents(&table, &Filter::default()).unwrap();
    let members: BTreeSet<&str> =
        stored.iter().flat_map(|one| &one.joined).map(|one| one.customer.as_str()).collect();
    assert_eq!(members.len(), 10_000, "its rows name everybody");
    let incidents = newest(stored.iter().map(|one| one.incident.clone()));
    let [incident] = &incidents[..] else { panic!("{incidents:?}") };
    assert_eq!((&*incident.state, &*incident.severity), ("closed", "critical"));
    assert_eq!((incident.customers, incident.bad, incident.objectives_broken), (10_000, 50_000, 0));
}

#[test]
fn one_customer_of_ten_thousand_is_one_page_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let good = |n: u32| line(55 + n % 5, &format!("c{n}"), 200, 20);
    let mut text: String = (0..9_999).map(good).collect();
    text += &(56..60).map(|at| line(at, "tiny", 503, 1)).collect::<String>();
    let mut one = Instance::new(&dir);
    let mut told = Told::default();
    one.count("file/a", text.as_bytes(), text.len());
    one.tick(59);
    one.commit(&mut told);
    assert_eq!(told.one(), ["firing"]);
    let incident = one.0.incidents().iter().next().unwrap();
    let names: Vec<&str> = incident.radius.worst.iter().map(|one| &*one.customer).collect();
    assert_eq!((names, incident.radius.customers_active), (vec!["tiny"], 10_000));
    let notices = stored_incidents(one.0.table(), &Filter::default()).unwrap();
    let body = &notices[0].incident;
    assert!(body.summary.contains("1 of 10000 customers burn (tiny)"), "{}", body.summary);
    assert_eq!(body.causes[0].dimensions["release"], "r42", "{:?}", body.causes);
    assert_eq!(body.page.as_ref().unwrap().basis, "series");
    assert_eq!((body.from.as_str(), body.bad_minutes), ("2025-10-06T00:56:00Z", 4));
}

#[test]
fn a_whale_that_loses_two_percent_pages_when_its_tier_fires() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let mut text = String::new();
    // Six hours in which 1.9% of a tenth of all traffic fails, beside a fleet that does well.
    for at in 0..360 {
        text += &line(at, "whale", 200, 981);
        text += &line(at, "whale", 503, 19);
        text += &line(at, "rest", 200, 9_000);
    }
    let mut one = Instance::new(&dir);
    let mut told = Told::default();
    one.count("file/a", text.as_bytes(), text.len());
    one.tick(359);
    one.commit(&mut told);
    assert_eq!(told.one(), ["firing"]);
    let incident = one.0.incidents().iter().next().unwrap();
    assert_eq!(incident.radius.worst[0].customer, "whale");
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

/// How many instances are killed in the middle of an incident.
fn kills() -> u64 {
    std::env::var("NINEFOLD_INCIDENT_KILLS").map_or(10, |text| text.parse().unwrap())
}

#[test]
fn killed_in_the_middle_there_is_one_key_none_is_lost_and_the_resolve_arrives() {
    // By minute: twenty customers, of whom half of the requests fail from 60 to 80.
    let (mut text, mut ends) = (String::new(), Vec::new());
    for at in 0..125 {
        for n in 0..20 {
            let failing = (60..80).contains(&at);
            text += &line(at, &format!("c{n}"), 200, if failing { 3 } else { 6 });
            if failing {
                text += &line(at, &format!("c{n}"), 503, 3);
            }
        }
        ends.push(text.len());
    }
    let text = text.as_bytes();
    let (mut killed, mut seed) = (0, 0);
    while killed < kills() {
        seed += 1;
        let mut random = Random(seed);
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("d");
        let mut told = Told::default();
        let mut one = Instance::new(&dir);
        for now in 55..125 {
            one.count("kafka/t/0", text, ends[now as usize]);
            one.tick(now);
            let in_the_middle = (60..120).contains(&now);
            match random.below(20) {
                // Before the commit, or after people were told of it without one.
                fate @ 0..=1 if in_the_middle => {
                    if fate == 0 {
                        told.tell(&one.0.notices());
                    }
                    drop(one);
                    one = Instance::new(&dir);
                    killed += 1;
                }
                2..=7 => {}
                _ => one.commit(&mut told),
            }
        }
        one.commit(&mut told);
        let states = told.one();
        assert_eq!(states.first(), Some(&"firing"), "seed {seed}: {states:?}");
        assert_eq!(states.last(), Some(&"resolved"), "seed {seed}: {states:?}");
        let open = one.0.incidents().iter().filter(|one| one.is_open()).count();
        assert_eq!((open, one.0.incidents().iter().count()), (0, 1), "seed {seed}");
    }
}

#[test]
fn of_two_who_judge_one_is_fenced_and_takes_over_what_the_other_decided() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let (text, failing) = outage(0..50);
    let mut told = Told::default();
    let mut gone = Instance::new(&dir);
    gone.count("file/ended", &text, failing);
    gone.commit(&mut told);
    drop(gone);
    let (mut a, mut b) = (Instance::new(&dir), Instance::new(&dir));
    a.tick(59);
    b.tick(59);
    let key = |one: &Instance| one.0.pending_incidents()[0].incident.fingerprint.clone();
    assert_eq!(key(&a), key(&b), "the key does not depend on who opens it");
    a.commit(&mut told);
    assert!(matches!(b.0.commit(), Err(PipelineError::Commit(CommitError::Fenced { .. }))));
    b.0.stop_judging().unwrap();
    b.follow();
    assert!(b.0.pending_incidents().is_empty());
    let known: Vec<&str> = b.0.incidents().iter().map(|one| &*one.id).collect();
    assert_eq!(known, a.0.incidents().iter().map(|one| &*one.id).collect::<Vec<_>>());
    drop(a);
    b.0.judge(false).unwrap();
    b.tick(60);
    b.commit(&mut told);
    assert_eq!(told.one(), ["firing"]);
}
