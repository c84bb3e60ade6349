//! How long do the answers on one series take, when it holds a whole month of minutes?
//!
//! `sla` is every window, budget and quantile of one customer from memory. `settled` are the
//! alert transitions of a month by final counts: of a series without a failure (`quiet`), of one
//! with a failure now and then and no alert (`dripping`), and of one that fails for an hour every
//! day (`burning`). Each series has an event in all 43,200 minutes; throughput is in minutes.

use std::collections::BTreeMap;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ninefold_benches::{Defaults, SHARD_SEED};
use ninefold_engine::model::Measures;
use ninefold_engine::query::alerts::settled_alerts;
use ninefold_engine::query::body::{Alerts, Sla};
use ninefold_engine::query::sla::sla;
use ninefold_engine::slo::histogram::Histogram;
use ninefold_engine::slo::window::{WINDOW_MINUTES_MAX, WINDOWS};
use ninefold_engine::state::{Key, State};
use ninefold_engine::time::{DAY_MINUTES, Minute};

/// The first minute of the month: 2025-12-01T00:00:00Z.
const FIRST: Minute = Minute(29_409_120);

/// Its last minute.
const LAST: Minute = Minute(FIRST.0 + WINDOW_MINUTES_MAX - 1);

/// Valid events of each minute.
const VALID: u64 = 20;

/// Bad events of minute `n` of the month.
type BadOf = fn(u32) -> u64;

/// A state with the one series of `acme`; the last hour has histograms, as a service keeps them.
fn month(bad_of: BadOf) -> State {
    let mut state = State::new(1_000, 0, true, SHARD_SEED);
    for minute in FIRST.0..=LAST.0 {
        let bad = bad_of(minute - FIRST.0);
        let timed = VALID - bad;
        let measures = Measures {
            valid: VALID,
            bad,
            timed,
            latency_sum_us: timed * 20_000,
            latency_max_us: 20_000,
            ..Measures::default()
        };
        let mut latency = Histogram::default();
        (0..timed).for_each(|nth| latency.record(1_000 * (1 + nth as u32), 1));
        let latency = (minute + 60 > LAST.0).then_some(&latency);
        let at = Key { customer: "acme", service: "inbox", minute: Minute(minute) };
        state.fold_series(at, &measures, latency);
    }
    state
}

fn quiet(_: u32) -> u64 {
    0
}

/// One in 1,200 events: well within a budget of one in 500.
fn dripping(minute: u32) -> u64 {
    u64::from(minute.is_multiple_of(60))
}

/// From noon, a tenth of the events of an hour.
fn burning(minute: u32) -> u64 {
    let noon = DAY_MINUTES / 2;
    if (noon..noon + 60).contains(&(minute % DAY_MINUTES)) { VALID / 10 } else { 0 }
}

fn check_sla(answer: &Sla, bad_of: BadOf) {
    let objective = &answer.services[0].objectives[0];
    for window in WINDOWS {
        let minutes = WINDOW_MINUTES_MAX - window.minutes..WINDOW_MINUTES_MAX;
        let expected = (VALID * u64::from(window.minutes), minutes.map(bad_of).sum::<u64>());
        let found = &objective.windows[window.name];
        assert_eq!((found.valid, found.bad), expected, "{}", window.name);
    }
    assert_eq!(answer.services[0].latency.max_ms, Some(20.0));
}

fn check_alerts(answer: &Alerts, days_with_pages: usize) {
    let mut firing: BTreeMap<&str, usize> = BTreeMap::new();
    for alert in answer.alerts.iter().filter(|alert| alert.state == "firing") {
        *firing.entry(alert.tier.as_str()).or_default() += 1;
    }
    let pages = firing.get("rollout_5m").copied().unwrap_or_default();
    assert_eq!(pages, days_with_pages, "{firing:?}");
}

fn window(criterion: &mut Criterion) {
    let defaults = Defaults::default();
    let promise = defaults.promise();
    let mut group = criterion.benchmark_group("window");
    group.throughput(Throughput::Elements(u64::from(WINDOW_MINUTES_MAX)));

    let cases: [(&str, BadOf, usize); 3] =
        [("quiet", quiet, 0), ("dripping", dripping, 0), ("burning", burning, 30)];
    for (name, bad_of, days_with_pages) in cases {
        let state = month(bad_of);
        let ask = || {
            let series = state.series_of("acme");
            sla(&promise, "acme", &series, None, LAST).expect("acme is known")
        };
        check_sla(&ask(), bad_of);
        if name == "burning" {
            group.bench_function("sla", |bench| bench.iter(ask));
        }
        let settle = || settled_alerts(&promise, &state.series_of("acme"), &(FIRST..=LAST), LAST);
        check_alerts(&settle(), days_with_pages);
        group.bench_function(format!("settled/{name}"), |bench| bench.iter(settle));
    }
    group.finish();
}

criterion_group!(benches, window);
criterion_main!(benches);
