//! What do a customer's questions cost, of a table as it stands?
//!
//! `windows` are the bodies of `sla`, all windows, budget and quantiles of a customer's services,
//! from series in memory; `month` is the customer's monthly report, from the table's files. The
//! customers are drawn at random, each question a number of times; p50 and p99 go to standard
//! output as a line of JSON each, with a sum to compare by. `benches/against-peers` runs it.
//!
//! `cargo build --release --workspace --example answers && target/release/examples/answers DIR RUNS`

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use ninefold_benches::{Defaults, SHARD_SEED};
use ninefold_engine::pipeline::fold::{Need, fold, newest_minute};
use ninefold_engine::query::sla::sla;
use ninefold_engine::report;
use ninefold_engine::slo::period::month_range;
use ninefold_engine::slo::window::WINDOW_MINUTES_MAX;
use ninefold_engine::state::{HISTOGRAM_MINUTES, State};
use ninefold_engine::table::Table;
use ninefold_engine::time::Minute;

/// Questions before those that count.
const WARM_UP: usize = 5;

/// Asks of `customers` at random and prints how long answers took; `ask` gives the valid events.
fn measure(question: &str, customers: &[String], runs: usize, mut ask: impl FnMut(&str) -> u64) {
    let (mut random, mut check, mut took_ms) = (1_u64, 0, Vec::with_capacity(runs));
    for run in 0..runs + WARM_UP {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let customer = &customers[(random >> 33) as usize % customers.len()];
        let began = Instant::now();
        check += black_box(ask(customer));
        if run >= WARM_UP {
            took_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    took_ms.sort_by(f64::total_cmp);
    let (p50, p99) = (took_ms[runs / 2], took_ms[runs * 99 / 100]);
    println!(
        "{{\"engine\":\"ninefold\",\"question\":\"{question}\",\"p50_ms\":{p50:.4},\"p99_ms\":{p99:.4},\"runs\":{runs},\"check\":{check}}}"
    );
}

fn empty() -> State {
    State::new(1_000, 0, true, SHARD_SEED)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, runs] = arguments.as_slice() else {
        eprintln!("usage: answers DIR RUNS");
        std::process::exit(2);
    };
    let runs: usize = runs.parse().expect("RUNS is a number");
    let table = Table::open(&Path::new(dir).join("rollups"));
    let table = table.expect("the table opens").expect("there is a table");
    let defaults = Defaults::default();
    let newest = newest_minute(&table, Minute(u32::MAX)).expect("it reads").expect("it has rows");

    let mut state = empty();
    let minutes = newest.minus(WINDOW_MINUTES_MAX - 1)..=newest;
    let recent: RangeInclusive<Minute> = newest.minus(HISTOGRAM_MINUTES - 1)..=newest;
    let need = Need { customer: None, minutes, histograms: Some(recent) };
    fold(&table, &defaults.slis, &need, &mut state).expect("it folds");
    let mut customers: Vec<String> =
        state.all_series().iter().map(|series| series.customer.to_string()).collect();
    customers.dedup();

    measure("windows", &customers, runs, |customer| {
        let series = state.series_of(customer);
        let answer =
            sla(&defaults.promise(), customer, &series, None, newest).expect("it is known");
        let body = serde_json::to_vec(&answer).expect("a body is JSON");
        body.len() as u64
    });

    let month = newest.to_string()[..7].to_owned();
    let minutes = month_range(&month, "UTC").expect("a month of the table");
    measure("month", &customers, runs, |customer| {
        let mut state = empty();
        let need = Need {
            customer: Some(customer.to_owned()),
            minutes: minutes.clone(),
            histograms: None,
        };
        fold(&table, &defaults.slis, &need, &mut state).expect("it folds");
        let series = state.series_of(customer);
        let ask = report::Ask {
            month: &month,
            zone: "UTC",
            customer: Some(customer),
            as_of: Some(newest),
            revision: 0,
            gaps: &[],
        };
        let report = report::report(&defaults.promise(), &series, &ask).expect("it is known");
        report.customers[0].valid
    });
}
