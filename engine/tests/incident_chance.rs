//! What chance alone does: customers whose requests fail independently at exactly `1 - target`,
//! looked at whenever one fails. Alerts of single series fire, and nobody is woken.
//!
//! The short form is 20,000 customers for a day. The long one, by
//! `NINEFOLD_CHANCE_CUSTOMERS=100000 NINEFOLD_CHANCE_DAYS=7`, takes a few minutes. Failures are
//! drawn by their distance, so that only they cost anything, and a customer is looked at when one
//! arrives: between two failures no window comes to show more of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ninefold_engine::model::Counts;
use ninefold_engine::slo::alert::evidence::binomial_tail;
use ninefold_engine::slo::alert::{AlertOptions, Look, Severity, State, Tier, step, tiers_of};
use ninefold_engine::slo::excess::Cause;
use ninefold_engine::slo::incident::evidence::scanned;
use ninefold_engine::slo::incident::{Field, Firing, Incident, Incidents, Radius, SeriesKey};
use ninefold_engine::slo::objective::Objectives;
use ninefold_engine::time::{MINUTE_MS, Minute};

/// `1 - target`.
const FAILS: f64 = 0.002;

/// Requests of a customer, in so many minutes: from one in 20 minutes to 30 a minute.
const RATES: [(u64, u64); 6] = [(1, 20), (1, 5), (1, 1), (1, 1), (5, 1), (30, 1)];

/// How far page tiers look back.
const BACK_MINUTES: u32 = 360;

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

    /// How many requests come before the next one that fails.
    fn gap(&mut self) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((1.0 - uniform).ln() / (-FAILS).ln_1p()) as u64
    }
}

/// One customer: its requests come evenly, its failures as they are drawn.
struct Customer {
    name: Arc<str>,
    rate: (u64, u64),
    /// The minutes of its failures in the last hours.
    bad: VecDeque<u32>,
    /// How many requests it has made so far.
    requests: u64,
    states: [State; 3],
}

impl Customer {
    /// How many requests come before a minute.
    fn before(&self, minute: u32) -> u64 {
        (u64::from(minute) * self.rate.0).div_ceil(self.rate.1)
    }

    fn look(&self, tier: &Tier, now: u32) -> Look {
        let counts = |minutes: u32| {
            let first = (now + 1).saturating_sub(minutes);
            let bad = self.bad.iter().rev().take_while(|at| **at >= first).count() as u64;
            Counts { valid: self.requests - self.before(first), bad, excluded: 0 }
        };
        let (long, short) = (counts(tier.spec.long.1), counts(tier.spec.short.1));
        Look { at: Minute(now), long, short, covered_minutes: u32::MAX / 8 }
    }

    /// Steps its alerts; whether one began to fire.
    fn step(&mut self, tiers: &[Tier], now: u32) -> bool {
        let mut began = false;
        for (n, tier) in tiers.iter().enumerate() {
            let look = self.look(tier, now);
            let (state, _) = step(self.states[n], tier, &look);
            began |= state.is_firing() && !self.states[n].is_firing();
            self.states[n] = state;
        }
        began
    }

    fn fires(&self) -> bool {
        self.states.iter().any(State::is_firing)
    }
}

/// What a tick sees.
struct World<'a> {
    customers: &'a [Customer],
    tiers: &'a [Tier],
    now: u32,
}

impl World<'_> {
    fn find(&self, series: &SeriesKey) -> &Customer {
        let number: usize = series.customer[1..].parse().unwrap();
        &self.customers[number]
    }
}

impl Field for World<'_> {
    fn active(&self, _: &str) -> u64 {
        self.customers.len() as u64
    }

    fn chance(&self, _: Severity) -> f64 {
        self.tiers.iter().map(|tier| 1.0 - tier.options.confidence).sum()
    }

    fn p_value(&self, _: &str, series: &SeriesKey, _: Severity) -> Option<f64> {
        let customer = self.find(series);
        let of_tier = |tier: &Tier| {
            let look = customer.look(tier, self.now);
            let fires = step(State::default(), tier, &look).0.is_firing();
            let tail = binomial_tail(look.long.bad, look.long.valid, FAILS);
            fires.then(|| scanned(tail, look.long.bad, tier.spec.long.1))
        };
        let least = self.tiers.iter().filter_map(of_tier).reduce(f64::min)?;
        Some((least * self.tiers.len() as f64).min(1.0))
    }

    fn first_bad(&self, _: &str, _: &SeriesKey) -> Minute {
        Minute(self.now)
    }

    fn causes(&self, _: &str, _: RangeInclusive<Minute>) -> Vec<Cause> {
        Vec::new()
    }

    fn radius(&self, incident: &Incident) -> Radius {
        Radius { customers: incident.customers().count() as u64, ..Radius::default() }
    }
}

/// What happened.
#[derive(Debug, Default)]
struct Seen {
    failures: u64,
    alerts: u64,
    incidents: usize,
    pages: BTreeSet<String>,
    /// The first customer of the last of them.
    page_of: Option<String>,
}

/// Runs a world of chance, and from `outage` on one in which a customer fails altogether.
fn run(count: usize, days: u32, seed: u64, outage: Option<(usize, u32)>) -> Seen {
    let objective = &Objectives::default().default[0];
    let mut tiers = tiers_of(objective, &AlertOptions::default()).active;
    tiers.retain(|tier| tier.spec.severity == Severity::Page);
    let mut random = Random(seed);
    let customer = |number: usize| Customer {
        name: format!("c{number}").into(),
        rate: RATES[number % RATES.len()],
        bad: VecDeque::new(),
        requests: 0,
        states: [State::default(); 3],
    };
    let mut customers: Vec<Customer> = (0..count).map(customer).collect();
    // The next failure of each: its minute, the customer, the number of the request.
    let mut next: BinaryHeap<Reverse<(u32, usize, u64)>> = BinaryHeap::new();
    let at = |one: &Customer, request: u64| (request * one.rate.1 / one.rate.0) as u32;
    for (number, one) in customers.iter().enumerate() {
        let mut request = random.gap();
        if let Some((who, from)) = outage
            && who == number
        {
            request = request.min(one.before(from));
        }
        next.push(Reverse((at(one, request), number, request)));
    }
    let (mut book, mut seen, mut ids) = (Incidents::default(), Seen::default(), BTreeSet::new());
    let mut firing: BTreeMap<usize, Minute> = BTreeMap::new();
    for now in 0..BACK_MINUTES + days * 1_440 {
        let mut is_news = false;
        while let Some(&Reverse((minute, number, request))) = next.peek()
            && minute <= now
        {
            next.pop();
            let one = &mut customers[number];
            one.bad.push_back(minute);
            while one.bad.front().is_some_and(|first| first + BACK_MINUTES <= now) {
                one.bad.pop_front();
            }
            one.requests = request + 1;
            seen.failures += 1;
            // Windows are whole only after the first hours; fewer than three never fire.
            if now >= BACK_MINUTES && one.bad.len() >= 3 && one.step(&tiers, now) {
                seen.alerts += 1;
                is_news = true;
                firing.entry(number).or_insert(Minute(now));
            }
            let mut following = request + 1 + random.gap();
            if let Some((who, from)) = outage
                && who == number
            {
                following = following.min(one.before(from).max(request + 1));
            }
            next.push(Reverse((at(one, following), number, following)));
        }
        firing.retain(|number, _| {
            let one = &mut customers[*number];
            one.requests = one.before(now + 1);
            one.step(&tiers, now);
            one.fires()
        });
        if is_news || book.iter().any(Incident::is_open) {
            let alert = |(number, since): (&usize, &Minute)| Firing {
                service: "api".into(),
                series: SeriesKey {
                    customer: Arc::clone(&customers[*number].name),
                    objective: "availability".into(),
                    pool: None,
                },
                severity: Severity::Page,
                since: *since,
            };
            let alerts = firing.iter().map(alert).collect();
            let world = World { customers: &customers, tiers: &tiers, now };
            for change in book.step(i64::from(now) * MINUTE_MS, alerts, &world) {
                let incident = book.get(&change.id).unwrap();
                ids.insert(change.id.clone());
                if incident.page.is_some() && seen.pages.insert(change.id) {
                    seen.page_of = incident.customers().next().map(ToString::to_string);
                    println!("minute {now}: {:?}", incident.page);
                }
            }
        }
    }
    seen.incidents = ids.len();
    seen
}

fn of_env(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn chance_fires_alerts_and_wakes_nobody() {
    let count = of_env("NINEFOLD_CHANCE_CUSTOMERS", 20_000);
    let days = of_env("NINEFOLD_CHANCE_DAYS", 1) as u32;
    let seen = run(count, days, 1, None);
    println!("{count} customers, {days} days: {seen:?}");
    // Otherwise nothing would be held back.
    assert!(seen.alerts > 100 && seen.incidents > 0, "{seen:?}");
    assert!(seen.pages.len() <= 1, "{seen:?}");
}

#[test]
fn one_small_customer_who_fails_altogether_is_a_page_amid_all_that_chance() {
    // One request in five minutes.
    let seen = run(10_000, 1, 2, Some((1, BACK_MINUTES + 600)));
    assert_eq!(seen.pages.len(), 1, "{seen:?}");
    assert_eq!(seen.page_of.as_deref(), Some("c1"), "{seen:?}");
}
