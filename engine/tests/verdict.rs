//! The verdict against simulated roll-outs: how often it is wrong, how often and how soon right.
//!
//! A run is 30 minutes of history and 30 with the candidate, looked at each 10 s, 180 times; a
//! false alarm is `bad` at any look. `NINEFOLD_VERDICT_RUNS=2000` gives the figures of
//! `docs/verdict.md`; without it there are fewer runs. Everything is drawn from the run's number.

use std::sync::atomic::{AtomicU64, Ordering};

use ninefold_engine::slo::verdict::{Observation, Verdict, judge_sets};
use ninefold_engine::time::Minute;

/// Minutes before the candidate, and with it.
const BEFORE: u32 = 30;
const AFTER: u32 = 30;
/// Looks in a minute.
const LOOKS: u32 = 6;
/// Sets of dimensions in which a flag's events are known.
const SETS: u32 = 8;
/// Runs where no number is given: seconds.
const RUNS_SHORT: u64 = 60;

/// SplitMix64 (Vigna).
struct Random(u64);

impl Random {
    fn ratio(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// By multiplication of uniforms (Knuth), in parts of mean 30 so that nothing underflows.
    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return self.poisson(30.0) + self.poisson(mean - 30.0);
        }
        let (end, mut product, mut count) = ((-mean).exp(), self.ratio(), 0);
        while product > end {
            product *= self.ratio();
            count += 1;
        }
        count
    }

    /// By skipping over the good ones (geometric gaps).
    fn binomial(&mut self, count: u64, ratio: f64) -> u64 {
        if ratio <= 0.0 {
            return 0;
        }
        if ratio >= 1.0 {
            return count;
        }
        let (scale, mut at, mut hits) = ((-ratio).ln_1p(), 0.0, 0);
        loop {
            at += ((1.0 - self.ratio()).ln() / scale).floor() + 1.0;
            if at > count as f64 {
                return hits;
            }
            hits += 1;
        }
    }

    /// Sum of twelve uniforms.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.ratio()).sum::<f64>() - 6.0
    }
}

/// Who is served how, and what fails.
#[derive(Clone, Copy)]
struct World {
    customers: u32,
    /// Of them, how many are on the candidate.
    cohort: u32,
    /// Requests each second, of all.
    requests_per_s: f64,
    /// Error ratio of everybody.
    ratio: f64,
    /// Times as much for the cohort, in all of its history.
    cohort_times: f64,
    /// Outages of all customers begin in so many minutes on average; 0 = never.
    outage_minutes: f64,
    /// Volumes by Zipf's law with exponent 1; error ratios log-normal; a customer's own trouble
    /// (20% errors for 5 minutes on average) begins once in so many of their minutes; 0 = off.
    trouble_minutes: f64,
    /// The candidate's error ratio beyond that.
    added: f64,
    /// From so many minutes after its first one on.
    well: u32,
    /// Whether each request is served by the candidate with the cohort's share of the customers.
    split: bool,
    /// Whether the candidate is a flag: valid events are known by set of dimensions, of which a
    /// customer uses another one every ten seconds, and by customer the bad ones alone.
    flag: bool,
    /// Minutes of history.
    before: u32,
}

const PLAIN: World = World {
    customers: 40,
    cohort: 8,
    requests_per_s: 250.0,
    ratio: 0.002,
    cohort_times: 1.0,
    outage_minutes: 0.0,
    trouble_minutes: 0.0,
    added: 0.0,
    well: 0,
    split: false,
    flag: false,
    before: BEFORE,
};
const OUTAGES: World = World { outage_minutes: 15.0, ..PLAIN };
const ZIPF: World = World { customers: 120, cohort: 24, trouble_minutes: 1_000.0, ..PLAIN };
const FLAKY: World = World { cohort_times: 2.0, ..PLAIN };

/// One run, minute by minute.
struct Simulation {
    world: World,
    random: Random,
    /// Requests in 10 s, error ratio, and whether they are in the cohort, by customer.
    customers: Vec<(f64, f64, bool)>,
    /// Minutes of own trouble left.
    trouble: Vec<u32>,
    /// Minutes of the outage left, and its error ratio.
    outage: (u32, f64),
    rows: Vec<Observation>,
    /// Of a flag: what customers had, and what failed of it on each side.
    by_customer: Vec<Observation>,
}

/// Adds to the observation of the same minute, unit and side.
fn add(rows: &mut Vec<Observation>, o: Observation) {
    let mut known = rows.iter_mut().rev().take_while(|row| row.minute == o.minute);
    match known.find(|row| (row.unit, row.on) == (o.unit, o.on)) {
        Some(row) => (row.valid, row.bad) = (row.valid + o.valid, row.bad + o.bad),
        None => rows.push(o),
    }
}

impl Simulation {
    fn new(world: World, seed: u64) -> Simulation {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5851_f42d_4c95_7f2d);
        random.ratio();
        let zipf = world.trouble_minutes > 0.0;
        let mut order: Vec<u32> = (0..world.customers).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, (random.ratio() * (at + 1) as f64) as usize);
        }
        let volume = |rank: u32| if zipf { 1.0 / f64::from(rank + 1) } else { 1.0 };
        let all: f64 = (0..world.customers).map(volume).sum();
        let customers = (0..world.customers).map(|rank| {
            let in_cohort = order[rank as usize] < world.cohort;
            let spread = if zipf { random.normal().exp() } else { 1.0 };
            let times = if in_cohort { world.cohort_times } else { 1.0 };
            let mean = world.requests_per_s * 10.0 * volume(rank) / all;
            (mean, world.ratio * spread * times, in_cohort)
        });
        let customers: Vec<_> = customers.collect();
        let trouble = vec![0; customers.len()];
        let (outage, rows, by_customer) = ((0, 0.0), Vec::new(), Vec::new());
        Simulation { world, random, customers, trouble, outage, rows, by_customer }
    }

    fn begin_minute(&mut self) {
        let World { outage_minutes, trouble_minutes, .. } = self.world;
        self.outage.0 = self.outage.0.saturating_sub(1);
        if self.outage.0 == 0 {
            self.outage.1 = 0.0;
            if outage_minutes > 0.0 && self.random.ratio() < 1.0 / outage_minutes {
                self.outage = (1 + (self.random.ratio() * 5.0) as u32, self.random.ratio() * 0.5);
            }
        }
        for left in &mut self.trouble {
            *left = left.saturating_sub(1);
            if trouble_minutes > 0.0 && *left == 0 && self.random.ratio() < 1.0 / trouble_minutes {
                *left = 1 + (-5.0 * (1.0 - self.random.ratio()).ln()) as u32;
            }
        }
    }

    /// The ten seconds of a minute before a look.
    fn serve(&mut self, minute: u32, look: u32) {
        let began = minute >= self.world.before;
        let fails = minute >= self.world.before + self.world.well;
        let share = f64::from(self.world.cohort) / f64::from(self.world.customers);
        for unit in 0..self.customers.len() {
            let (mean, ratio, in_cohort) = self.customers[unit];
            let troubled = if self.trouble[unit] > 0 { 0.2 } else { 0.0 };
            let ratio = ratio + self.outage.1 + troubled;
            let sides: &[(bool, f64)] = match (began, self.world.split) {
                (true, true) => &[(true, share), (false, 1.0 - share)],
                (true, false) => &[(in_cohort, 1.0)],
                (false, _) => &[(false, 1.0)],
            };
            for &(on, part) in sides {
                let added = if on && fails { self.world.added } else { 0.0 };
                let valid = self.random.poisson(mean * part);
                let bad = self.random.binomial(valid, (ratio + added).min(1.0));
                let (minute, customer) = (Minute(minute), unit as u32);
                let of =
                    |unit, on, valid, bad| Observation { minute, stratum: 0, unit, on, valid, bad };
                if self.world.flag {
                    let set = (customer + look) % SETS;
                    add(&mut self.rows, of(if on { set } else { SETS + set }, on, valid, bad));
                    add(
                        &mut self.by_customer,
                        of(customer, false, valid, if on { 0 } else { bad }),
                    );
                    if on {
                        add(&mut self.by_customer, of(customer, true, 0, bad));
                    }
                } else {
                    add(&mut self.rows, of(customer, on, valid, bad));
                }
            }
        }
    }

    /// Looks until the verdict is bad, at most for some minutes after the candidate has begun to
    /// fail.
    fn run(mut self, minutes: u32) -> Outcome {
        let (since, well) = (self.world.before, self.world.well);
        let mut outcome = Outcome { bad_s: None, good: false };
        for minute in 0..since + well + minutes {
            self.begin_minute();
            for look in 1..=LOOKS {
                self.serve(minute, look);
                if minute < since {
                    continue;
                }
                let found = judge_sets(&self.rows, &self.by_customer, Minute(since), None);
                let verdict = found.verdict;
                outcome.good = verdict == Verdict::Good;
                if verdict == Verdict::Bad {
                    let second = 10 * ((minute - since) * LOOKS + look);
                    outcome.bad_s = Some(i64::from(second) - i64::from(60 * well));
                    return outcome;
                }
            }
        }
        outcome
    }
}

/// What came of a run.
#[derive(Clone, Copy)]
struct Outcome {
    /// Seconds from when the candidate began to fail to the first look that was bad; negative for
    /// a false alarm before that.
    bad_s: Option<i64>,
    /// Whether the last look was good.
    good: bool,
}

fn runs() -> u64 {
    let given = std::env::var("NINEFOLD_VERDICT_RUNS").ok();
    given.map_or(RUNS_SHORT, |text| text.parse().expect("NINEFOLD_VERDICT_RUNS is a number"))
}

/// All runs, in no order.
fn outcomes(world: World, minutes: u32, runs: u64) -> Vec<Outcome> {
    let next = AtomicU64::new(0);
    let work = || {
        let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let run = |seed| Simulation::new(world, seed).run(minutes);
        seeds.take_while(|&seed| seed < runs).map(run).collect::<Vec<_>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// The delays of those that were found bad, sorted.
fn delays_s(outcomes: &[Outcome]) -> Vec<i64> {
    let mut delays: Vec<i64> = outcomes.iter().filter_map(|outcome| outcome.bad_s).collect();
    delays.sort_unstable();
    delays
}

/// False alarms below 5%. In short form: not so many that 5% is refuted at three deviations.
fn check_false_alarms(name: &str, world: World, runs: u64) {
    let outcomes = outcomes(world, AFTER, runs);
    let alarms = delays_s(&outcomes).len() as f64;
    let good = outcomes.iter().filter(|outcome| outcome.good).count();
    println!("{name}: {alarms} false alarms in {runs} runs, {good} good in the end");
    let count = runs as f64;
    let slack = if runs < 1_000 { 3.0 * (0.05 * 0.95 * count).sqrt() } else { 0.0 };
    assert!(alarms < 0.05 * count + slack, "{name}: {alarms} of {runs}");
}

#[test]
fn independent_failures_raise_no_alarm() {
    check_false_alarms("independent", PLAIN, runs());
}

#[test]
fn bursts_common_to_both_sides_raise_no_alarm() {
    check_false_alarms("bursts of all", OUTAGES, runs());
}

#[test]
fn zipf_customers_with_troubles_of_their_own_raise_no_alarm() {
    check_false_alarms("zipf", ZIPF, runs());
}

#[test]
fn a_thousand_looks_raise_no_alarm() {
    for (name, world) in
        [("independent", PLAIN), ("bursts of all", OUTAGES), ("zipf", ZIPF), ("flaky", FLAKY)]
    {
        let world = World { well: 180 - AFTER, ..world };
        check_false_alarms(&format!("{name}, three hours"), world, runs() / 40);
    }
}

#[test]
fn a_flag_that_changes_nothing_raises_no_alarm() {
    for (name, world) in
        [("", PLAIN), (", with bursts of all", OUTAGES), (", flaky", FLAKY), (", zipf", ZIPF)]
    {
        check_false_alarms(&format!("a flag{name}"), World { flag: true, ..world }, runs() / 2);
    }
}

#[test]
fn a_canary_that_always_failed_twice_as_often_raises_no_alarm() {
    check_false_alarms("flaky", FLAKY, runs());
    check_false_alarms(
        "flaky, with bursts of all",
        World { cohort_times: 2.0, ..OUTAGES },
        runs() / 4,
    );
    check_false_alarms("flaky, without a history", World { before: 0, ..FLAKY }, runs() / 4);
    check_false_alarms("zipf, without a history", World { before: 0, ..ZIPF }, runs() / 4);
    check_false_alarms("zipf, a share of the requests", World { split: true, ..ZIPF }, runs() / 4);
}

#[test]
fn a_bad_release_is_found() {
    for (name, world) in [
        ("independent", PLAIN),
        ("bursts of all", OUTAGES),
        ("zipf", ZIPF),
        ("flaky", FLAKY),
        ("no history", World { before: 0, ..PLAIN }),
        ("a share of the requests", World { split: true, ..PLAIN }),
        ("after half an hour", World { well: 30, ..PLAIN }),
        ("zipf, after half an hour", World { well: 30, ..ZIPF }),
        ("a flag", World { flag: true, ..PLAIN }),
        ("zipf, a flag", World { flag: true, ..ZIPF }),
    ] {
        for added in [0.002, 0.01, 0.05, 0.2] {
            let runs = runs() / 6;
            let mut found = delays_s(&outcomes(World { added, ..world }, AFTER, runs));
            found.retain(|seconds| *seconds > 0);
            let median = found.get(found.len() / 2);
            let late = found.get(found.len() * 9 / 10);
            println!(
                "{name}, {added} more: {} of {runs}, {median:?} s, 90% {late:?} s",
                found.len()
            );
            // A whale in the cohort, or one in trouble, hides what happens to the others.
            let least = if name.starts_with("zipf") { runs * 6 / 10 } else { runs * 9 / 10 };
            if added >= 0.2 {
                assert!(found.len() as u64 >= least, "{name}: {} of {runs}", found.len());
            }
        }
    }
}

#[test]
fn a_fifth_of_errors_at_50_requests_a_second_is_bad_within_a_minute() {
    // From its begin, and after it was well for half an hour, and for three hours.
    for (well, runs) in [(0, 200), (30, 40), (180, 4)] {
        let world = World { added: 0.2, well, ..PLAIN };
        let found = delays_s(&outcomes(world, 1, runs));
        assert_eq!(found.len() as u64, runs);
        assert!(found.iter().all(|seconds| (0..=60).contains(seconds)), "{found:?}");
    }
}
