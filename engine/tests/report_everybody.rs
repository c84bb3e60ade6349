//! The report of everybody read range by range equals the report over a state that the same table
//! was folded into, to the bit, for tables of every shape: several commits, late rows, files that
//! are not sorted, exclusions over midnight, gaps, several services, further SLIs, compaction.

#[path = "support/rows.rs"]
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use ninefold_engine::pipeline::decision::correct;
use ninefold_engine::pipeline::fold::{Need, fold, newest_minute};
use ninefold_engine::query::body::{DataGap, Report, ReportCustomer};
use ninefold_engine::query::{AskError, Promise};
use ninefold_engine::report::everybody::{Detail, Everybody, Sizes};
use ninefold_engine::report::{self, Ask};
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::decimal::Decimal;
use ninefold_engine::slo::objective::{Objective, Objectives, Slis};
use ninefold_engine::slo::period::{Period, month_range};
use ninefold_engine::slo::sli::Sli;
use ninefold_engine::state::State;
use ninefold_engine::table::correction::Correction;
use ninefold_engine::table::schema::Grain;
use ninefold_engine::table::upkeep::{Done, Upkeep};
use ninefold_engine::table::{DataFile, Epoch, Filter, Table};
use ninefold_engine::time::{DAY_MINUTES, Day, Minute};
use rows::batch;

const MONTH: &str = "2025-11";
const ZONE: &str = "Europe/Berlin";
const SERVICES: [&str; 3] = ["api", "default", "web"];

/// SplitMix64: the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn month() -> RangeInclusive<Minute> {
    month_range(MONTH, ZONE).unwrap()
}

/// Names with beginnings in common, with bytes of little value at the end, and longer than what
/// the index of a page keeps.
fn customer(number: u64) -> String {
    match number {
        0 => "a".to_owned(),
        1 => "a\0".to_owned(),
        2 => "z".repeat(200),
        3 => format!("{}a", "z".repeat(200)),
        4 => "cust_00".to_owned(),
        5 => "cust_0010\0".to_owned(),
        6 => "zoë, \"the\" 1st\n".to_owned(),
        other => format!("cust_{other:04}"),
    }
}

/// One row of `series`, or of `sli` where it has one.
#[derive(Clone, Debug)]
struct Raw {
    customer: String,
    service: &'static str,
    minute: Minute,
    release: &'static str,
    sli: Option<&'static str>,
    valid: i64,
    bad: i64,
    excluded: i64,
    timed: i64,
    slow: i64,
}

fn raw(random: &mut Random, customers: u64) -> Raw {
    // Half of it in a few hours around the begin of the month, so that minutes meet.
    let start = month().start().0;
    let offset = match random.below(4) {
        0 | 1 => random.below(300),
        2 => random.below(3 * u64::from(DAY_MINUTES)),
        _ => {
            let day = [0, 1, 29, 30, 31][random.below(5) as usize];
            day * u64::from(DAY_MINUTES) + random.below(u64::from(DAY_MINUTES))
        }
    };
    let valid = random.below(6) as i64 * if random.one_in(9) { 1_000 } else { 1 };
    let bad = if random.one_in(3) { random.below(valid as u64 + 1) as i64 } else { 0 };
    let sli = ["reads", "writes", "gone"][random.below(3) as usize];
    Raw {
        customer: customer(random.below(customers)),
        service: SERVICES[random.below(3) as usize],
        minute: Minute(start - 150 + offset as u32),
        release: ["", "r1", "r2"][random.below(3) as usize],
        sli: random.one_in(4).then_some(sli),
        valid,
        bad,
        excluded: if random.one_in(5) { random.below(4) as i64 } else { 0 },
        timed: valid - bad,
        slow: random.below((valid - bad) as u64 + 1) as i64,
    }
}

/// Files of some rows, one for each grain and day; in order, unless `scattered`. What is of a
/// series is of a dimension too.
fn files(raws: &[Raw], scattered: bool) -> Vec<DataFile> {
    let mut parts: BTreeMap<(Grain, Day), Vec<&Raw>> = BTreeMap::new();
    for raw in raws {
        let grains: &[Grain] = match raw.sli {
            Some(_) => &[Grain::Sli],
            None => &[Grain::Series, Grain::Dimension],
        };
        for grain in grains {
            parts.entry((*grain, raw.minute.day())).or_default().push(raw);
        }
    }
    let file = |((grain, day), mut raws): ((Grain, Day), Vec<&Raw>)| {
        if !scattered {
            let of_customer = |raw: &Raw| match grain {
                Grain::Dimension => String::new(),
                _ => raw.customer.clone(),
            };
            raws.sort_by_cached_key(|raw| (of_customer(raw), raw.service, raw.minute));
        }
        let text = |name: &str, at: usize| match name {
            "customer" => Some(raws[at].customer.clone()),
            "service" => Some(raws[at].service.to_owned()),
            "release" => Some(raws[at].release.to_owned()).filter(|one| !one.is_empty()),
            "sli" => raws[at].sli.map(str::to_owned),
            "partition" => Some("file/p".to_owned()),
            _ => None,
        };
        let int = |name: &str, at: usize| match name {
            "valid" => raws[at].valid,
            "bad" => raws[at].bad,
            "excluded" => raws[at].excluded,
            "timed" => raws[at].timed,
            "slow" => raws[at].slow,
            _ => 0,
        };
        let minutes: Vec<Minute> = raws.iter().map(|raw| raw.minute).collect();
        let batches = vec![batch(grain, &minutes, &text, &int, &|_, _| None)];
        DataFile { grain, day, batches }
    };
    parts.into_iter().map(file).collect()
}

fn correction(random: &mut Random, id: usize) -> Correction {
    // From before a midnight, UTC, to after it.
    let midnight = month().start().day().0 + 1 + random.below(2) as u32;
    let from = Minute(midnight * DAY_MINUTES - 1 - random.below(90) as u32);
    let customers = if random.one_in(2) { vec![] } else { vec![customer(random.below(9))] };
    let services = if random.one_in(2) { vec![] } else { vec!["api".to_owned()] };
    Correction {
        id: format!("c{id}"),
        from: from.to_string(),
        to: Minute(midnight * DAY_MINUTES + random.below(90) as u32).to_string(),
        customers,
        services,
        reason: "a test".to_owned(),
        at: from.to_string(),
        undoes: None,
    }
}

/// A table of a seed, of about `rows` rows in each of some commits.
fn table(dir: &std::path::Path, random: &mut Random, customers: u64, rows: u64) -> Table {
    let mut table = Table::open_or_create(dir).unwrap();
    let long_after_ms = month().end().start_ms() + 20 * 86_400_000;
    for at in 0..2 + random.below(6) as usize {
        let raws: Vec<Raw> = (0..1 + random.below(rows)).map(|_| raw(random, customers)).collect();
        let files = files(&raws, random.one_in(4));
        table.commit(Epoch { files, ..Epoch::default() }).unwrap();
        if random.one_in(4) {
            correct(&mut table, &correction(random, at)).unwrap();
        }
        if random.one_in(4) {
            let mut upkeep = Upkeep::eager();
            while upkeep.compact(&mut table, long_after_ms).unwrap() != Done::Nothing {}
        }
    }
    table
}

struct Promised {
    slis: Slis,
    objectives: Objectives,
    alerts: AlertOptions,
    credits: Vec<report::CreditStep>,
}

impl Promised {
    /// `further` and `latency` say of what there are SLIs and objectives beside availability.
    fn new(further: bool, latency: bool) -> Promised {
        let objective = |name: &str, sli: &str, target: &str| {
            let target = Decimal::parse(target).unwrap();
            let calendar = Objective::availability(target, Period::Month("UTC".to_owned()));
            Objective { name: name.to_owned(), sli: sli.to_owned(), ..calendar }
        };
        let mut default = vec![objective("availability", "availability", "0.998")];
        default.extend(latency.then(|| objective("fast", "latency", "0.9")));
        let sli = |name: &str, services: &[&str]| Sli {
            name: name.to_owned(),
            services: services.iter().map(|one| (*one).to_owned()).collect(),
            routes: Vec::new(),
            kind: Slis::default().availability.kind,
        };
        let mut slis = Slis::default();
        let mut objectives = Objectives { default, ..Objectives::default() };
        if further {
            slis.further = vec![sli("writes", &[]), sli("reads", &["web"])];
            let writes = vec![objective("writing", "writes", "0.95")];
            objectives.customers.insert(customer(4), writes);
            let key = (customer(8), "web".to_owned());
            objectives.services.insert(key, vec![objective("reading", "reads", "0.9")]);
        }
        let step = report::CreditStep { below: Decimal::parse("0.99").unwrap(), percent: 10.0 };
        Promised { slis, objectives, alerts: AlertOptions::default(), credits: vec![step] }
    }

    fn promise(&self) -> Promise<'_> {
        Promise {
            slis: &self.slis,
            objectives: &self.objectives,
            alerts: &self.alerts,
            credits: &self.credits,
            zone: ZONE,
        }
    }
}

/// The report over a state.
fn folded(table: &Table, promise: &Promise<'_>, ask: &Ask<'_>) -> Report {
    let mut state = State::new(1_000, promise.slis.further.len(), true, 0);
    let need = Need { customer: None, minutes: month(), histograms: None };
    fold(table, promise.slis, &need, &mut state).unwrap();
    report::report(promise, &state.all_series(), ask).unwrap()
}

fn sizes(small_rows: u64, held_rows: u64, range_rows: u64) -> Sizes {
    Sizes { small_rows, held_rows, range_rows, edge_rows: 1 }
}

fn gap() -> DataGap {
    let minutes = Minute(month().start().0 + 20)..=Minute(month().start().0 + 150);
    DataGap {
        partition: "file/p".to_owned(),
        first: 1,
        next: 9,
        reason: "a test".to_owned(),
        from: minutes.start().to_string(),
        to: minutes.end().to_string(),
        minutes,
    }
}

/// The report as the command line writes it, in pieces.
fn in_pieces(everybody: &Everybody, promise: &Promise<'_>, ask: &Ask<'_>) -> [String; 2] {
    let nobody = report::of_nobody(ask).unwrap();
    let (mut csv, mut json) = (report::csv_heading(), report::json_start(&nobody).unwrap());
    let mut any = false;
    let pieces = |some: Vec<ReportCustomer>| {
        let bodies = (!some.is_empty()).then(|| report::json_customers(&some).unwrap());
        (report::csv_records(&nobody, &some), bodies)
    };
    let take = |(records, bodies): (String, Option<String>)| {
        csv.push_str(&records);
        if let Some(bodies) = bodies {
            json.push(if any { ',' } else { '[' });
            json.push_str(&bodies);
            any = true;
        }
        Ok::<(), AskError>(())
    };
    everybody.each(promise, ask, Detail::Services, pieces, take).unwrap();
    json.push_str(report::json_end(any));
    [csv, json]
}

/// None of the month, a part of it, or all of it counted.
fn any_as_of(random: &mut Random) -> Option<Minute> {
    match random.below(6) {
        0 => None,
        1 => Some(Minute(month().start().0 + random.below(500) as u32)),
        _ => Some(Minute(month().end().0 + DAY_MINUTES)),
    }
}

/// Compares both ways for some cuts; how many ranges they made.
fn check(
    table: &Table,
    random: &mut Random,
    as_of: Option<Minute>,
    cuts: &[Sizes],
    context: &str,
) -> BTreeSet<usize> {
    let promised = Promised::new(!random.one_in(3), random.one_in(2));
    let promise = promised.promise();
    let gaps = if random.one_in(3) { vec![gap()] } else { vec![] };
    let ask = Ask { month: MONTH, zone: ZONE, customer: None, as_of, revision: 3, gaps: &gaps };
    let expect = folded(table, &promise, &ask);
    assert!(as_of < Some(*month().end()) || expect.customers.len() > 5, "{context}");
    let texts = [report::csv(&expect), serde_json::to_string_pretty(&expect).unwrap()];
    let compare = |sizes: &Sizes| {
        let everybody = Everybody::open(table, &promise, &month(), *sizes).unwrap();
        let found = everybody.report(&promise, &ask, Detail::Services).unwrap();
        assert_eq!(found, expect, "{context}, {sizes:?}");
        assert_eq!(in_pieces(&everybody, &promise, &ask), texts, "{context}, {sizes:?}");
        everybody.ranges()
    };
    cuts.iter().map(compare).collect()
}

#[test]
fn tables_of_every_shape_are_reported_as_by_a_state() {
    let mut ranges = BTreeSet::new();
    for seed in 0..12 {
        let mut random = Random(seed);
        let dir = tempfile::tempdir().unwrap();
        let (customers, rows) = (10 + random.below(90), [30, 400][seed as usize % 2]);
        let table = table(dir.path(), &mut random, customers, rows);
        let cuts = [Sizes::default(), sizes(0, 0, 20), sizes(60, 150, 25), sizes(1_000, 9_000, 9)];
        let as_of = any_as_of(&mut random);
        ranges.extend(check(&table, &mut random, as_of, &cuts, &format!("seed {seed}")));
    }
    assert!(ranges.len() > 10, "many ways to cut were tried: {ranges:?}");
}

#[test]
fn files_of_many_pages_are_cut_between_any_of_them() {
    let (mut random, dir) = (Random(77), tempfile::tempdir().unwrap());
    let mut table = Table::open_or_create(dir.path()).unwrap();
    for scattered in [false, true, false] {
        let mut raws: Vec<Raw> = (0..10_000).map(|_| raw(&mut random, 4_000)).collect();
        raws.iter_mut().for_each(|raw| raw.minute = Minute(month().start().0 + 200));
        let files = files(&raws, scattered);
        table.commit(Epoch { files, ..Epoch::default() }).unwrap();
    }
    let cuts = [sizes(0, 0, 1), sizes(0, 0, 6_000), sizes(10_000, 10_000, 2_000)];
    for turn in 0..2 {
        let as_of = Some(*month().end());
        let ranges = check(&table, &mut random, as_of, &cuts, &format!("turn {turn}"));
        assert!(ranges.last() > Some(&5), "{ranges:?}");
    }
}

#[test]
fn the_newest_minute_is_that_of_a_look_at_every_row() {
    let mut found = BTreeSet::new();
    for seed in 100..106 {
        let (mut random, dir) = (Random(seed), tempfile::tempdir().unwrap());
        let table = table(dir.path(), &mut random, 20, 40);
        let mut minutes = Vec::new();
        table.for_each_dimension(&Filter::default(), |row| minutes.push(row.minute)).unwrap();
        let near = |minute: &Minute| [minute.minus(1), *minute, Minute(minute.0 + 1)];
        let asked: Vec<Minute> = minutes.iter().flat_map(near).chain([Minute(u32::MAX)]).collect();
        for not_after in asked.into_iter().step_by(7).chain([Minute(u32::MAX)]) {
            let expect = minutes.iter().copied().filter(|minute| *minute <= not_after).max();
            assert_eq!(newest_minute(&table, not_after).unwrap(), expect, "{seed}, {not_after}");
            found.extend(expect);
        }
    }
    assert!(found.len() > 20, "many were asked for: {}", found.len());
}

#[test]
fn the_first_failure_ends_a_report() {
    let (mut random, dir) = (Random(5), tempfile::tempdir().unwrap());
    let table = table(dir.path(), &mut random, 90, 400);
    let (promised, month) = (Promised::new(true, true), month());
    let promise = promised.promise();
    let as_of = Some(*month.end());
    let ask = Ask { month: MONTH, zone: ZONE, customer: None, as_of, revision: 1, gaps: &[] };
    let everybody = Everybody::open(&table, &promise, &month, sizes(0, 0, 10)).unwrap();
    assert!(everybody.ranges() > 3);
    let mut taken = 0;
    let full = |_| {
        taken += 1;
        if taken < 3 { Ok(()) } else { Err(AskError::Table("the disk is full".to_owned())) }
    };
    let ended = everybody.each(&promise, &ask, Detail::Figures, |some| some.len(), full);
    assert_eq!(ended.unwrap_err().to_string(), "the disk is full");
    assert_eq!(taken, 3);
    let unknown = Ask { zone: "Mars/Base", ..ask };
    assert!(matches!(
        everybody.report(&promise, &unknown, Detail::Figures),
        Err(AskError::Argument { .. })
    ));
    let damaged = std::fs::read_dir(dir.path().join("grain=series")).unwrap();
    for day in damaged {
        for file in std::fs::read_dir(day.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), b"no longer what it was").unwrap();
        }
    }
    assert!(Everybody::open(&table, &promise, &month, sizes(0, 0, 10)).is_err());
    assert!(Everybody::open(&table, &promise, &month, Sizes::default()).is_err());
}
