//! Pools: whoever is too small for evidence is judged with others, exactly.
//!
//! The oracle recounts the raw lines at every tick: the windows of each customer and of each pool
//! without those whose own alerts fire, and steps the alerts of all by these. It is held against
//! pipelines with and without bounds on their memory.

#[path = "support/options.rs"]
mod options;
#[path = "../../tests/common/recount.rs"]
mod recount;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ninefold_engine::model;
use ninefold_engine::pipeline::incidents::stored_incidents;
use ninefold_engine::pipeline::memory::Bounds;
use ninefold_engine::pipeline::watch::stored_transitions;
use ninefold_engine::pipeline::{Pipeline, Start, Unit};
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::query::incident::newest;
use ninefold_engine::slo::alert::{AlertOptions, Look, State, Tier, step, tiers_of};
use ninefold_engine::slo::objective::{Decimal, Objective, Objectives};
use ninefold_engine::slo::pool::{Group, Pools};
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Tail};
use ninefold_engine::table::{Filter, Table};
use ninefold_engine::time::Minute;
use options::options;
use recount::{Counts, Recount, Rules};

const ALL: std::ops::RangeInclusive<Minute> = Minute(0)..=Minute(u32::MAX);

/// 2025-10-06T00:00:00Z.
const START_MS: i64 = 1_759_708_800_000;

/// SplitMix64: the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}

fn minute(since_start: u32) -> Minute {
    Minute(Minute::of_ms(START_MS).0 + since_start)
}

fn line(since_start: u32, customer: &str, status: u16, count: u64) -> String {
    let ts = START_MS + i64::from(since_start) * 60_000;
    format!(
        "{{\"ts\":{ts},\"customer\":\"{customer}\",\"service\":\"api\",\"status\":{status},\
         \"release\":\"r42\",\"count\":{count}}}\n"
    )
}

/// A tier `gold` with a target of its own, and a group `trials`.
fn promised() -> (Objectives, Arc<Pools>) {
    let mut objectives = Objectives::default();
    let strict =
        Objective { target: Decimal::parse("0.999").unwrap(), ..objectives.default[0].clone() };
    objectives.tiers.insert("gold".into(), vec![strict]);
    for n in 0..40 {
        objectives.tier_of.insert(format!("gold{n}"), "gold".into());
    }
    // Its name is that of the pool, and it is in none.
    objectives.tier_of.remove("gold");
    let trials = Group { name: "trials".into(), customers: vec!["trial*".into()] };
    let pools = Pools::new(&[trials], &objectives);
    (objectives, Arc::new(pools))
}

struct Instance {
    pipeline: Pipeline,
    objectives: Objectives,
}

impl Instance {
    fn new(dir: &Path, series_bytes: usize) -> Instance {
        let (objectives, pools) = promised();
        let options = ninefold_engine::pipeline::Options { pools, ..options() };
        let table = Table::open_or_create(dir).unwrap();
        let mut pipeline = Pipeline::new(options, table, true, 7);
        pipeline.bound(Bounds { series_bytes, ..Bounds::default() });
        pipeline.recover(ALL).unwrap();
        Instance { pipeline, objectives }
    }

    /// Counts a partition up to the byte `end`, from where it stands.
    fn count(&mut self, name: &str, text: &[u8], end: usize) {
        let first = self.pipeline.place_of(name).unwrap() as usize;
        let mut tail = Tail::default();
        tail.push(&text[..first]);
        let decode = self.pipeline.options().decode.clone();
        let (unit, offset) = (Unit::Bytes, first as u64);
        let start = Start { name, label: name, decode, unit, offset, tail: tail.clone() };
        let number = self.pipeline.partition(start).unwrap();
        if first < end {
            tail.push(&text[first..end]);
            let (next, kind, bytes) = (end as u64, ChunkKind::Lines, text[first..end].to_vec());
            self.pipeline.ingest(number, &[Chunk { first: offset, next, kind, bytes, tail }]);
        }
    }

    fn tick(&mut self, since_start: u32) -> Vec<AlertTransition> {
        self.pipeline.load_evicted().unwrap();
        let before = self.pipeline.transitions().count();
        let now_ms = minute(since_start).start_ms() + 30_000;
        self.pipeline.tick(now_ms, &self.objectives, &AlertOptions::default());
        self.pipeline.transitions().skip(before).cloned().collect()
    }

    /// Counts minute by minute, with a tick at each; all transitions.
    fn run(&mut self, text: &[u8], ends: &[usize], minutes: Range<u32>) -> Vec<AlertTransition> {
        let tick = |now: u32| {
            self.count("file/a", text, ends[now as usize]);
            self.tick(now)
        };
        minutes.flat_map(tick).collect()
    }

    fn commit(&mut self) {
        self.pipeline.commit().unwrap();
    }
}

/// Pool, tier and state of the transitions of pools, sorted.
fn of_pools(transitions: &[AlertTransition]) -> Vec<(String, String, String)> {
    let of_pool = |one: &AlertTransition| {
        assert_eq!(one.pool.is_some(), one.customer.is_empty());
        Some((one.pool.clone()?, one.tier.clone(), one.state.clone()))
    };
    let mut found: Vec<_> = transitions.iter().filter_map(of_pool).collect();
    found.sort();
    found
}

/// The alerts, stepped by recounts.
struct Oracle {
    objectives: Objectives,
    pools: Arc<Pools>,
    customers: BTreeMap<(String, String), State>,
    of_pools: BTreeMap<(String, String), State>,
}

impl Oracle {
    fn new() -> Oracle {
        let (objectives, pools) = promised();
        let (customers, of_pools) = (BTreeMap::new(), BTreeMap::new());
        Oracle { objectives, pools, customers, of_pools }
    }

    fn tick(&mut self, so_far: &Recount, now: Minute) -> Vec<(String, String, String)> {
        let customers: BTreeSet<&str> = so_far.customers().into_iter().collect();
        let pool_of = |customer: &str| self.pools.name(self.pools.of(customer)).to_owned();
        let mut firing: BTreeSet<&str> = BTreeSet::new();
        for customer in &customers {
            let objective = self.objectives.resolve(customer, "api")[0].clone();
            for tier in tiers_of(&objective, &AlertOptions::default()).active {
                let key = ((*customer).to_owned(), tier.spec.name.to_owned());
                let state = self.customers.entry(key).or_default();
                let seen = look(so_far, &tier, now, &|who| who == *customer, &|_| true);
                *state = step(*state, &tier, &seen).0;
                if state.is_firing() {
                    firing.insert(customer);
                }
            }
        }
        let mut transitions = Vec::new();
        for pool in customers.iter().map(|customer| pool_of(customer)).collect::<BTreeSet<_>>() {
            let objective = self.objectives.resolve_pool(&pool)[0].clone();
            for tier in tiers_of(&objective, &AlertOptions::default()).active {
                let state = self.of_pools.entry((pool.clone(), tier.spec.name.to_owned()));
                let state = state.or_default();
                let is_in = |who: &str| pool_of(who) == pool;
                let seen = look(so_far, &tier, now, &is_in, &|who| !firing.contains(who));
                let (next, change) = step(*state, &tier, &seen);
                *state = next;
                if let Some(change) = change {
                    let change = change.change.name().to_owned();
                    transitions.push((pool.clone(), tier.spec.name.to_owned(), change));
                }
            }
        }
        transitions.sort();
        transitions
    }
}

/// What a tier looks at: counts of whoever is `counted` of those who are `known`, whose history
/// begins with the first of them.
fn look(
    so_far: &Recount,
    tier: &Tier,
    now: Minute,
    known: &dyn Fn(&str) -> bool,
    counted: &dyn Fn(&str) -> bool,
) -> Look {
    let of_known = || so_far.minutes.iter().filter(|((who, ..), _)| known(who));
    let sum = |minutes: u32| {
        let mut sum = model::Counts::default();
        let within = |at: u32| at <= now.0 && at + minutes > now.0;
        for ((who, _, at), Counts { valid, bad, excluded, .. }) in of_known() {
            if within(*at) && counted(who) {
                let (valid, bad, excluded) = (*valid, *bad, *excluded);
                sum.add(model::Counts { valid, bad, excluded });
            }
        }
        sum
    };
    let first = of_known().map(|((.., at), _)| *at).min().unwrap_or(now.0);
    Look {
        at: now,
        long: sum(tier.spec.long.1),
        short: sum(tier.spec.short.1),
        covered_minutes: (now.0 + 1).saturating_sub(first),
    }
}

/// Five hours of many customers with a request now and then, of whom those of a pool fail
/// together for some time, beside a large one that fails by itself, and late lines. The text, and
/// where it ends by minute.
fn lines(seed: u64) -> (Vec<u8>, Vec<usize>) {
    let mut random = Random(seed);
    let (mut text, mut ends) = (String::new(), Vec::new());
    let outages: Vec<(u64, u64, u64)> =
        (0..3).map(|pool| (pool, 40 + random.below(150), 10 + random.below(50))).collect();
    let whale = 30 + random.below(200);
    for at in 0..300_u32 {
        for _ in 0..6 + random.below(6) {
            let pool = random.below(3);
            let customer =
                format!("{}{}", ["gold", "trial", "other"][pool as usize], random.below(40));
            let fails = outages.iter().any(|(of, from, minutes)| {
                *of == pool && (*from..*from + *minutes).contains(&u64::from(at))
            });
            let status = match () {
                () if fails && random.below(3) > 0 => 503,
                () if random.below(300) == 0 => 500,
                () => 200,
            };
            let late = if random.below(25) == 0 { random.below(90) as u32 } else { 0 };
            text += &line(at.saturating_sub(late), &customer, status, 1);
        }
        let failing = (whale..whale + 40).contains(&u64::from(at));
        text += &line(at, "gold0", 200, 40);
        if failing {
            text += &line(at, "gold0", 503, 10);
        }
        text += &line(at, "gold", 200, 1);
        ends.push(text.len());
    }
    (text.into_bytes(), ends)
}

#[test]
fn counts_and_alerts_of_pools_are_those_of_a_recount() {
    let (mut fired, mut resolved, mut evicted) = (0, 0, 0);
    for seed in 0..6 {
        let (text, ends) = lines(seed);
        let folder = tempfile::tempdir().unwrap();
        let series_bytes = if seed % 2 == 0 { usize::MAX } else { 150_000 };
        let mut one = Instance::new(&folder.path().join("d"), series_bytes);
        let mut oracle = Oracle::new();
        for now in (4..300).step_by(5) {
            one.count("file/a", &text, ends[now]);
            let so_far = Recount::of(&text[..ends[now]], Rules::default());
            let (expect, now) = (oracle.tick(&so_far, minute(now as u32)), now as u32);
            let found = of_pools(&one.tick(now));
            assert_eq!(found, expect, "seed {seed}, minute {now}");
            fired += found.iter().filter(|one| one.2 == "firing").count();
            resolved += found.iter().filter(|one| one.2 == "resolved").count();
            if now % 20 == 4 {
                one.commit();
            }
            let mut sums: BTreeMap<(String, u32), (u64, u64)> = BTreeMap::new();
            for ((customer, _, at), counts) in &so_far.minutes {
                let pool = oracle.pools.name(oracle.pools.of(customer)).to_owned();
                let sum = sums.entry((pool, *at)).or_default();
                *sum = (sum.0 + counts.valid, sum.1 + counts.bad);
            }
            let state = &one.pipeline.state;
            let cells = state.pool_series().into_iter().flat_map(|series| {
                let pool = series.customer.to_string();
                series.cells.iter().map(move |cell| {
                    let counts = (cell.measures.valid, cell.measures.bad);
                    ((pool.clone(), cell.minute.0), counts)
                })
            });
            assert_eq!(cells.collect::<BTreeMap<_, _>>(), sums, "seed {seed}, minute {now}");
        }
        evicted += one.pipeline.state.evicted();
        assert_eq!(one.pipeline.memory_use().evicted_hot, 0);
    }
    println!("{fired} fired, {resolved} resolved, {evicted} evicted");
    assert!(fired > 10 && resolved > 3 && evicted > 50);
}

/// An hour of 30 customers with a request in each ten minutes, all of whose requests fail from
/// minute 60 on for a quarter of an hour; then plenty of good ones.
fn small_fleet() -> (Vec<u8>, Vec<usize>) {
    let (mut text, mut ends) = (String::new(), Vec::new());
    for at in 0..140_u32 {
        for n in (0..30).filter(|n| n % 10 == at % 10) {
            let status = if (60..75).contains(&at) { 503 } else { 200 };
            let count = if at >= 75 { 40 } else { 1 };
            text += &line(at, &format!("other{n}"), status, count);
        }
        ends.push(text.len());
    }
    (text.into_bytes(), ends)
}

#[test]
fn a_fleet_too_small_for_any_single_alert_has_an_incident_by_its_pool() {
    let (text, ends) = small_fleet();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("d");
    let mut one = Instance::new(&dir, usize::MAX);
    one.run(&text, &ends, 50..68);
    one.commit();
    let stored = stored_transitions(one.pipeline.table(), &ALL).unwrap();
    assert!(!stored.is_empty() && stored.iter().all(|one| one.pool.as_deref() == Some("")));
    let incident = |one: &Instance| {
        let stored = stored_incidents(one.pipeline.table(), &Filter::default()).unwrap();
        let mut incidents = newest(stored.into_iter().map(|one| one.incident));
        assert_eq!(incidents.len(), 1, "{incidents:?}");
        incidents.remove(0)
    };
    let known = incident(&one);
    assert_eq!((&*known.notifies, known.pools.clone()), ("page", vec![String::new()]), "{known:?}");
    assert!(known.customers > 2 && known.customers_firing == 0, "{known:?}");
    assert_eq!(known.worst.len() as u64, known.customers.min(10));
    assert!(known.summary.contains("customers burn") && known.summary.contains("in no pool"));

    // A restart takes over: nothing is told twice, and its end is told under the same key.
    drop(one);
    let mut one = Instance::new(&dir, usize::MAX);
    one.count("file/a", &text, ends[69]);
    assert_eq!(of_pools(&one.tick(69)), []);
    one.run(&text, &ends, 70..80);
    one.commit();
    let known = incident(&one);
    assert!(known.customers >= 28, "{known:?}");
    one.run(&text, &ends, 80..140);
    one.commit();
    let (closed, stored) =
        (incident(&one), stored_transitions(one.pipeline.table(), &ALL).unwrap());
    assert_eq!((&*closed.state, &closed.fingerprint), ("closed", &known.fingerprint));
    let ids = |state: &str| -> BTreeSet<&str> {
        stored.iter().filter(|one| one.state == state).map(|one| &*one.id).collect()
    };
    assert!(!ids("firing").is_empty());
    assert_eq!(ids("firing"), ids("resolved"), "{stored:?}");
}

#[test]
fn a_large_customer_who_fails_for_hours_does_not_hide_the_small_ones() {
    let (small, ends) = small_fleet();
    let whale: String = (0..140).map(|at| line(at, "other-whale", 503, 500)).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut one = Instance::new(&folder.path().join("d"), usize::MAX);
    one.count("file/whale", whale.as_bytes(), whale.len());
    let mut fired = BTreeMap::new();
    for now in 50..70 {
        for (pool, tier, state) in of_pools(&one.run(&small, &ends, now..now + 1)) {
            assert_eq!((&*pool, &*state), ("", "firing"), "{tier}");
            fired.insert(tier, now);
        }
    }
    assert!(fired["rollout_5m"] > 59 && fired["rollout_5m"] < 65, "{fired:?}");
}

#[test]
fn a_customer_named_as_a_pool_is_another_one() {
    let names = ["gold", "gold1", "gold2", "gold3"];
    let text: String = (0..8)
        .flat_map(|at| names.map(|name| line(at, name, if at > 3 { 503 } else { 200 }, 3)))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let mut one = Instance::new(&folder.path().join("d"), usize::MAX);
    one.count("file/a", text.as_bytes(), text.len());
    let found = one.tick(7);
    // All fire by themselves, so that no pool does; and none is taken for the other.
    let of_gold: Vec<&str> =
        found.iter().filter(|one| one.customer == "gold").map(|one| &*one.tier).collect();
    assert!(of_gold.contains(&"rollout_5m") && of_pools(&found).is_empty(), "{found:?}");
    assert!(one.pipeline.state.pool("gold", "api").unwrap().sum(ALL).valid == 3 * 8 * 3);
    assert_eq!(one.pipeline.state.pool("", "api").unwrap().sum(ALL).valid, 8 * 3);
}

#[test]
fn the_judge_judges_pools_over_what_all_have_counted_and_nobody_else_does() {
    let (small, ends) = small_fleet();
    // Each instance has half of the customers.
    let half = |odd: bool| -> (Vec<u8>, Vec<usize>) {
        let text = String::from_utf8(small.clone()).unwrap();
        let is_mine = |line: &&str| {
            let digits =
                line.split("other").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            (digits.parse::<u32>().unwrap() / 10 % 2 == 1) == odd
        };
        let (mut mine, mut place) = (String::new(), Vec::new());
        let mut from = 0;
        for end in &ends {
            mine.extend(text[from..*end].split_inclusive('\n').filter(is_mine));
            from = *end;
            place.push(mine.len());
        }
        (mine.into_bytes(), place)
    };
    let (folder, texts) = (tempfile::tempdir().unwrap(), [half(false), half(true)]);
    let dir = folder.path().join("d");
    let mut both = [Instance::new(&dir, usize::MAX), Instance::new(&dir, usize::MAX)];
    both[1].pipeline.stop_judging().unwrap();
    for now in 50..72_usize {
        for (n, one) in both.iter_mut().enumerate() {
            one.count(&format!("kafka/t/{n}"), &texts[n].0, texts[n].1[now]);
            one.commit();
        }
        for (n, one) in both.iter_mut().enumerate() {
            let followed = one.pipeline.follow().unwrap();
            assert!(!followed.lost && followed.overtaken.is_none());
            let found = of_pools(&one.tick(now as u32));
            assert!(n == 0 || found.is_empty(), "{found:?}");
        }
    }
    both[0].commit();
    let fired = stored_transitions(both[0].pipeline.table(), &ALL).unwrap();
    let page = fired.iter().find(|one| one.tier == "page_1h").unwrap();
    let counts = |one: &Instance| one.pipeline.state.pool("", "api").unwrap().sum(ALL).valid;
    assert_eq!(counts(&both[0]), counts(&both[1]));
    assert!(page.long.valid > 150, "of both: {page:?}");

    // The judge is gone. Whoever takes over says nothing again, and later the end.
    let [gone, mut heir] = both;
    drop(gone);
    heir.pipeline.follow().unwrap();
    heir.pipeline.judge(false).unwrap();
    heir.count("kafka/t/0", &texts[0].0, texts[0].1[71]);
    assert_eq!(of_pools(&heir.tick(71)), []);
    heir.count("kafka/t/0", &texts[0].0, texts[0].1[139]);
    heir.count("kafka/t/1", &texts[1].0, texts[1].1[139]);
    let ended = of_pools(&heir.tick(139));
    assert!(ended.iter().any(|one| one.1 == "page_1h" && one.2 == "resolved"), "{ended:?}");
}

#[test]
fn the_alert_of_a_pool_that_is_no_more_ends() {
    let (text, ends) = small_fleet();
    let folder = tempfile::tempdir().unwrap();
    let mut one = Instance::new(&folder.path().join("d"), usize::MAX);
    one.count("file/a", &text, ends[68]);
    let fired = of_pools(&one.tick(68)).len();
    assert!(fired > 0);
    // Another configuration puts everybody in a tier without alerts of its own name.
    one.commit();
    let mut objectives = Objectives::default();
    for n in 0..30 {
        objectives.tier_of.insert(format!("other{n}"), "silver".into());
    }
    let pools = Arc::new(Pools::new(&[], &objectives));
    let options = ninefold_engine::pipeline::Options { pools, ..one.pipeline.options().clone() };
    one.pipeline.set_options(options);
    one.pipeline.rebuild(ALL).unwrap();
    one.objectives = objectives;
    let found = of_pools(&one.tick(69));
    let of = |pool: &str, state: &str| {
        found.iter().filter(|one| one.0 == pool && one.2 == state).count()
    };
    assert_eq!((of("", "stale"), of("silver", "firing")), (fired, fired), "{found:?}");
    assert_eq!(of_pools(&one.tick(70)), [], "once");
}
