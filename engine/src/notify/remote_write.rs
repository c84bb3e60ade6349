//! Prometheus remote-write 1.0: gauges as samples, and what of them still has to be taken.
//!
//! A batch holds every gauge of one moment: a protobuf `WriteRequest`, packed by Snappy's block
//! format (Prometheus, "Remote-Write 1.0 specification"). A series that a batch has no more gets
//! one *stale marker* there, the NaN that ends a series in Prometheus: otherwise it would stand
//! for five minutes more.
//!
//! Invariants: batches go out in the order of their time, each until it is taken, since a
//! receiver refuses samples that are older than those it has; one that is refused for good (a
//! status of 400 to 499 but 429) is dropped and counted, and so is the oldest one where too many
//! wait. Pure: time comes in, nothing is sent here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message;

use super::outbox::wait_ms;
use crate::query::RemoteWriteHealth;
use crate::query::gauges::Gauge;

/// How many batches wait at most: an hour of the default interval.
pub const BATCHES_MAX: usize = 240;

/// The headers of every request, beside those of the configuration.
pub const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// The bits of the NaN that ends a series: `StaleNaN` of Prometheus.
const STALE: u64 = 0x7ff0_0000_0000_0002;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    /// Sorted by name, as the specification asks.
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    /// Epoch milliseconds.
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Taken,
    /// It will never be taken.
    Refused,
    /// It may be taken later: not before so many milliseconds, where the receiver has said so,
    /// else 0.
    Failed(i64),
}

/// A batch that waits.
#[derive(Debug)]
struct Batch {
    body: Vec<u8>,
    samples: u64,
}

/// The batches that a receiver has not taken.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Labels of every series.
    labels: BTreeMap<String, String>,
    /// The series of the newest batch.
    told: BTreeSet<Vec<Label>>,
    waiting: VecDeque<Batch>,
    failures: u32,
    not_before_ms: i64,
    health: RemoteWriteHealth,
}

impl Backlog {
    /// An empty one, whose series all get `labels`; a label of their own wins.
    pub fn new(labels: BTreeMap<String, String>) -> Backlog {
        Backlog { labels, ..Backlog::default() }
    }

    /// Takes the gauges of the moment `at_ms`. None at all ends every series.
    pub fn note(&mut self, gauges: &[Gauge], at_ms: i64) {
        let series = gauges.iter().map(|gauge| (self.labels_of(gauge), gauge.value));
        let mut series: BTreeMap<Vec<Label>, f64> = series.collect();
        let now: BTreeSet<Vec<Label>> = series.keys().cloned().collect();
        let ended = std::mem::replace(&mut self.told, now);
        for labels in ended {
            series.entry(labels).or_insert(f64::from_bits(STALE));
        }
        if series.is_empty() {
            return;
        }
        if self.waiting.len() == BATCHES_MAX {
            let oldest = self.waiting.pop_front().map_or(0, |batch| batch.samples);
            self.health.samples_overflowed += oldest;
        }
        let samples = series.len() as u64;
        self.waiting.push_back(Batch { body: encode(series, at_ms), samples });
    }

    fn labels_of(&self, gauge: &Gauge) -> Vec<Label> {
        let mut labels = self.labels.clone();
        labels.extend(gauge.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        labels.insert("__name__".to_owned(), gauge.name.clone());
        // An empty value is no label.
        labels.retain(|_, value| !value.is_empty());
        labels.into_iter().map(|(name, value)| Label { name, value }).collect()
    }

    /// The body that is to be sent at `now_ms`: of the oldest batch, unless it waits.
    pub fn due(&self, now_ms: i64) -> Option<&[u8]> {
        let oldest = self.waiting.front().filter(|_| self.not_before_ms <= now_ms)?;
        Some(&oldest.body)
    }

    /// When something is due next; `None` = not before the next batch.
    pub fn wakes_at_ms(&self) -> Option<i64> {
        (!self.waiting.is_empty()).then_some(self.not_before_ms)
    }

    /// Takes how an attempt at the oldest batch ended. After a failure it is tried again after a
    /// wait that doubles, with `jitter` (0 to 1) of half of it, and not before the receiver wants.
    pub fn ended(&mut self, outcome: Outcome, now_ms: i64, jitter: f64) {
        if let Outcome::Failed(asked_ms) = outcome {
            self.not_before_ms = now_ms + wait_ms(self.failures, jitter, asked_ms);
            self.failures += 1;
            self.health.failures += 1;
            return;
        }
        (self.failures, self.not_before_ms) = (0, i64::MIN);
        let samples = self.waiting.pop_front().map_or(0, |batch| batch.samples);
        match outcome {
            Outcome::Taken => self.health.samples_sent += samples,
            _ => self.health.samples_refused += samples,
        }
    }

    /// What became of the samples so far.
    pub fn health(&self) -> RemoteWriteHealth {
        RemoteWriteHealth { batches_waiting: self.waiting.len() as u64, ..self.health.clone() }
    }
}

/// The body of a request.
fn encode(series: BTreeMap<Vec<Label>, f64>, timestamp: i64) -> Vec<u8> {
    let one = |(labels, value)| TimeSeries { labels, samples: vec![Sample { value, timestamp }] };
    let request = WriteRequest { timeseries: series.into_iter().map(one).collect() };
    let packed = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec());
    packed.expect("a batch is far below the 4 GiB that Snappy takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(name: &str, customer: &str, value: f64) -> Gauge {
        let labels = vec![("sloth_slo", "s".to_owned()), ("customer", customer.to_owned())];
        Gauge { name: name.to_owned(), labels, value }
    }

    /// The samples of a body, as `name customer value-bits timestamp`.
    fn samples(body: &[u8]) -> Vec<(String, u64, i64)> {
        let bytes = snap::raw::Decoder::new().decompress_vec(body).unwrap();
        let request = WriteRequest::decode(&*bytes).unwrap();
        let sample = |series: TimeSeries| {
            assert!(series.labels.is_sorted_by(|a, b| a.name < b.name), "{:?}", series.labels);
            let text = |label: &Label| format!("{}={}", label.name, label.value);
            let labels = series.labels.iter().map(text).collect::<Vec<_>>().join(",");
            (labels, series.samples[0].value.to_bits(), series.samples[0].timestamp)
        };
        request.timeseries.into_iter().map(sample).collect()
    }

    #[test]
    fn a_message_is_what_the_specification_says_byte_by_byte() {
        let mut backlog = Backlog::default();
        backlog.note(&[Gauge { name: "up".into(), labels: vec![], value: 1.0 }], 1);
        let bytes = snap::raw::Decoder::new().decompress_vec(backlog.due(0).unwrap()).unwrap();
        // timeseries { labels { "__name__", "up" } samples { 1.0, 1 } }, by hand.
        let mut expect = vec![0x0a, 29, 0x0a, 14, 0x0a, 8];
        expect.extend(b"__name__\x12\x02up\x12\x0b\x09");
        expect.extend(1.0_f64.to_le_bytes());
        expect.extend([0x10, 1]);
        assert_eq!(bytes, expect);
    }

    #[test]
    fn a_series_that_is_gone_is_ended_once() {
        let job = BTreeMap::from([("job".to_owned(), "ninefold".to_owned())]);
        let mut backlog = Backlog::new(job);
        backlog.note(&[gauge("m", "a", 0.5), gauge("m", "b", 0.25)], 1_000);
        backlog.note(&[gauge("m", "b", 0.75)], 2_000);
        backlog.note(&[], 3_000);
        backlog.note(&[], 4_000);
        let name =
            |customer: &str| format!("__name__=m,customer={customer},job=ninefold,sloth_slo=s");
        let mut next = || {
            let found = samples(backlog.due(0).unwrap());
            backlog.ended(Outcome::Taken, 0, 0.0);
            found
        };
        let bits = f64::to_bits;
        assert_eq!(next(), [(name("a"), bits(0.5), 1_000), (name("b"), bits(0.25), 1_000)]);
        assert_eq!(next(), [(name("a"), STALE, 2_000), (name("b"), bits(0.75), 2_000)]);
        assert_eq!(next(), [(name("b"), STALE, 3_000)]);
        assert_eq!(backlog.due(i64::MAX), None);
        assert_eq!(backlog.health().samples_sent, 5);
    }

    #[test]
    fn a_failure_waits_a_refusal_drops_and_the_order_stays() {
        let mut backlog = Backlog::default();
        for at_ms in [1, 2, 3] {
            backlog.note(&[gauge("m", "a", 0.5)], at_ms);
        }
        let at = |backlog: &Backlog, now_ms| backlog.due(now_ms).map(|body| samples(body)[0].2);
        assert_eq!(at(&backlog, 0), Some(1));
        backlog.ended(Outcome::Failed(0), 0, 0.0);
        assert_eq!((at(&backlog, 499), at(&backlog, 500)), (None, Some(1)));
        assert_eq!(backlog.wakes_at_ms(), Some(500));
        backlog.ended(Outcome::Failed(0), 500, 1.0);
        assert_eq!((at(&backlog, 2_499), at(&backlog, 2_500)), (None, Some(1)));
        for _ in 0..40 {
            backlog.ended(Outcome::Failed(0), 0, 1.0);
        }
        assert_eq!(backlog.wakes_at_ms(), Some(60_000));
        // What the receiver asks for counts where it is longer, up to an hour.
        for (asked_ms, expect_ms) in [(7_000, 60_000), (90_000, 90_000), (i64::MAX, 3_600_000)] {
            backlog.ended(Outcome::Failed(asked_ms), 0, 1.0);
            assert_eq!(backlog.wakes_at_ms(), Some(expect_ms), "{asked_ms}");
        }
        backlog.ended(Outcome::Refused, 0, 0.0);
        assert_eq!(at(&backlog, 0), Some(2), "what comes after a refusal does not wait");
        backlog.ended(Outcome::Taken, 0, 0.0);
        let health = backlog.health();
        let counted = (health.samples_sent, health.samples_refused, health.failures);
        assert_eq!((counted, health.batches_waiting), ((1, 1, 45), 1));
    }

    #[test]
    fn no_more_than_the_newest_batches_wait() {
        let mut backlog = Backlog::default();
        for at_ms in 0..BATCHES_MAX as i64 + 2 {
            backlog.note(&[gauge("m", "a", 0.5)], at_ms);
        }
        assert_eq!(samples(backlog.due(0).unwrap())[0].2, 2);
        let health = backlog.health();
        assert_eq!((health.samples_overflowed, health.batches_waiting), (2, BATCHES_MAX as u64));
    }
}
