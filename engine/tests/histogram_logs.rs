//! The interval logs of HdrHistogram's own tests, read by the crate and counted again in our
//! sparse histograms: counts, percentiles and maxima are those that upstream states.
//!
//! The files are not in the repository: `NINEFOLD_DATA` names the folder of test data, by
//! default `../shared/data` beside the workspace; without it the test says so and passes. The
//! V1 log is read by upstream only: the crate knows V2.

use std::path::PathBuf;

use hdrhistogram::Histogram as Dense;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogHistogram, IntervalLogIterator, LogEntry,
};
use ninefold_engine::slo::histogram::{Histogram, slot_of, slot_range_us};

/// The bytes of a log; `None` where there is no test data.
fn log(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("NINEFOLD_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join("hdrhistogram").join(name);
    if !folder.is_dir() {
        println!("skipped: no test data at {}", folder.display());
        return None;
    }
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The intervals of a log.
fn intervals(log: &[u8]) -> Vec<IntervalLogHistogram<'_>> {
    let entries = IntervalLogIterator::new(log).map(|entry| entry.unwrap());
    let interval = |entry| match entry {
        LogEntry::Interval(interval) => Some(interval),
        _ => None,
    };
    entries.filter_map(interval).collect()
}

/// Base64 of the standard alphabet, padded.
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for symbol in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == symbol).unwrap();
        bits = (bits << 6 | value as u32) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// The sum of intervals, as the crate reads them and as our layout keeps them.
fn sum(intervals: &[&IntervalLogHistogram<'_>]) -> (Dense<u64>, Histogram) {
    let mut dense = Dense::new(3).unwrap();
    let mut sparse = Histogram::default();
    for interval in intervals {
        let bytes = base64(interval.encoded_histogram());
        let one: Dense<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        let mut part = Histogram::default();
        for value in one.iter_recorded() {
            // The logs' slots have other bounds than ours; a sum of the crate goes by their
            // lowest values too.
            let lowest = one.lowest_equivalent(value.value_iterated_to());
            part.record(u32::try_from(lowest).unwrap(), value.count_at_value());
        }
        dense.add(&one).unwrap();
        // Through the bytes of our own encoding, as rows of the table are merged.
        let mut encoded = Vec::new();
        part.encode_v2(&mut encoded);
        sparse.merge(&Histogram::decode_v2(&encoded).unwrap());
    }
    (dense, sparse)
}

/// What upstream states of a sum.
struct Facts {
    intervals: usize,
    count: u64,
    /// Quantile and value.
    quantiles: &'static [(f64, u64)],
    max: u64,
}

fn check(chosen: &[&IntervalLogHistogram<'_>], facts: &Facts) {
    let (dense, sparse) = sum(chosen);
    assert_eq!(chosen.len(), facts.intervals);
    assert_eq!((dense.len(), sparse.count()), (facts.count, facts.count));
    assert_eq!(dense.max(), facts.max);
    for &(quantile, value) in facts.quantiles.iter().chain(&[(1.0, facts.max)]) {
        assert_eq!(dense.value_at_quantile(quantile), value, "{quantile}");
        // Ours keeps 2 digits where the logs keep 3: the slot that holds the same value.
        let ours = sparse.quantile_us(quantile).unwrap();
        let slot = slot_range_us(slot_of(u32::try_from(value).unwrap()));
        assert_eq!(ours, *slot.end(), "{quantile} of {value}");
    }
}

/// The intervals that start so many seconds after the log, from `first` on and before `next`.
fn between<'a, 'b>(
    all: &[&'b IntervalLogHistogram<'a>],
    first: f64,
    next: f64,
) -> Vec<&'b IntervalLogHistogram<'a>> {
    let starts_s = |interval: &IntervalLogHistogram<'_>| interval.start_timestamp().as_secs_f64();
    all.iter().copied().filter(|interval| (first..next).contains(&starts_s(interval))).collect()
}

#[test]
fn a_v2_log_has_the_counts_and_percentiles_that_upstream_states() {
    let Some(log) = log("jHiccup-2.0.7S.logV2.hlog") else { return };
    let all = intervals(&log);
    let all: Vec<_> = all.iter().collect();
    let quantiles =
        &[(0.5, 327_935), (0.9, 409_855), (0.99, 1_427_111_935), (0.999, 1_745_879_039)];
    check(&all, &Facts { intervals: 62, count: 48_761, quantiles, max: 1_796_210_687 });
    let quantiles = &[(0.999, 1_536_163_839)];
    let part = between(&all, 5.0, 20.0);
    check(&part, &Facts { intervals: 15, count: 11_664, quantiles, max: 1_544_552_447 });
    let quantiles = &[(0.999, 1_779_433_471)];
    let part = between(&all, 40.0, 60.0);
    check(&part, &Facts { intervals: 20, count: 15_830, quantiles, max: 1_796_210_687 });
}

#[test]
fn a_tagged_log_holds_the_same_twice() {
    let Some(log) = log("tagged-Log.logV2.hlog") else { return };
    let all = intervals(&log);
    let all: Vec<_> = all.iter().collect();
    let quantiles =
        &[(0.5, 344_319), (0.9, 409_855), (0.99, 1_385_168_895), (0.999, 1_536_163_839)];
    check(&all, &Facts { intervals: 42, count: 32_290, quantiles, max: 1_544_552_447 });
    let (tagged, untagged): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|interval| interval.tag().is_some());
    assert_eq!((tagged.len(), untagged.len()), (21, 21));
    assert_eq!(sum(&tagged).1, sum(&untagged).1);
}
