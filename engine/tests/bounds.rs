//! Memory within bounds changes no answer and no alert.
//!
//! A pipeline whose series may take so little that customers are evicted all the time is held
//! against one without bounds, and against a recount of the raw lines: every customer's minutes,
//! further SLI and latencies, the fleet, the live transitions of the alerts, and the table.

#[path = "support/options.rs"]
mod options;
#[path = "../../tests/common/recount.rs"]
mod recount;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use ninefold_engine::model::Measures;
use ninefold_engine::pipeline::fold::Need;
use ninefold_engine::pipeline::memory::{Bounds, EVENT_BYTES};
use ninefold_engine::pipeline::watch::stored_transitions;
use ninefold_engine::pipeline::{Pipeline, PipelineError, Start, Unit};
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::Objectives;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Tail};
use ninefold_engine::state::State;
use ninefold_engine::state::series::Series;
use ninefold_engine::table::read::SeriesPart;
use ninefold_engine::table::{Filter, Table};
use ninefold_engine::time::{MINUTE_MS, Minute};
use options::options;
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use recount::{Counts, Recount, Rules};

const START_MS: i64 = 1_759_708_800_000;
const LOG: &str = "test/log";

/// A linear congruence, the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Lines of ten hours: many quiet customers, a few of whom fail now and then, and five who have
/// incidents, some of which outlast a silence of hours.
fn lines(seed: u64, events: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut text = String::new();
    for nth in 0..events {
        let late_ms = if random.below(20) == 0 { random.below(7_200_000) } else { 0 };
        let at_ms = nth * 36_000_000 / events + random.below(90_000);
        let ts = START_MS + at_ms.saturating_sub(late_ms) as i64;
        let minute = at_ms / 60_000;
        let (customer, bad) = match random.below(4) {
            0 => {
                let failing = random.below(5);
                let fails = minute % (97 + 40 * failing) < 25 && random.below(3) > 0;
                (format!("failing{failing}"), fails)
            }
            _ => (format!("quiet{}", random.below(1_500)), random.below(200) == 0),
        };
        let status = if bad { 503 } else { 200 };
        let (route, latency) =
            (["GET /a", "POST /b"][random.below(2) as usize], random.below(1_500));
        text.push_str(&format!(
            "{{\"ts\":{ts},\"customer\":\"{customer}\",\"service\":\"s{}\",\"route\":\"{route}\",\
             \"status\":{status},\"latency_ms\":{latency}}}\n",
            random.below(2)
        ));
    }
    text.into_bytes()
}

fn pipeline(folder: &tempfile::TempDir, series_bytes: usize) -> Pipeline {
    let table = Table::open_or_create(&folder.path().join("d")).unwrap();
    let mut pipeline = Pipeline::new(options(), table, true, 7);
    pipeline.bound(Bounds { series_bytes, ..Bounds::default() });
    pipeline
}

/// The chunks of a text, of some whole lines each.
fn chunks(text: &[u8], chunk_bytes: usize) -> Vec<Chunk> {
    let (mut chunks, mut tail, mut first) = (Vec::new(), Tail::default(), 0);
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').peekable();
    while lines.peek().is_some() {
        let mut bytes = Vec::new();
        while bytes.len() < chunk_bytes
            && let Some(line) = lines.next()
        {
            bytes.extend_from_slice(line);
        }
        tail.push(&bytes);
        let next = first + bytes.len() as u64;
        let kind = ChunkKind::Lines;
        chunks.push(Chunk { first, next, kind, bytes, tail: tail.clone() });
        first = next;
    }
    chunks
}

fn begin(pipeline: &mut Pipeline, offset: u64, tail: Tail) -> u16 {
    let decode = pipeline.options().decode.clone();
    let start = Start { name: LOG, label: LOG, decode, unit: Unit::Bytes, offset, tail };
    pipeline.partition(start).unwrap()
}

/// Counts a chunk; a commit where it is due or `commit` says so; a tick.
fn step(pipeline: &mut Pipeline, number: u16, chunk: &Chunk, commit: bool, now_ms: i64) {
    pipeline.ingest(number, std::slice::from_ref(chunk));
    if commit || pipeline.epoch_is_full() {
        pipeline.commit().unwrap();
    }
    pipeline.load_evicted().unwrap();
    pipeline.tick(now_ms, &Objectives::default(), &AlertOptions::default());
}

/// What is answered of one customer: its series, loaded where the table may hold more.
fn answered<R>(pipeline: &Pipeline, customer: &str, answer: impl FnOnce(&State) -> R) -> R {
    if !pipeline.state.may_lack(customer) {
        return answer(&pipeline.state);
    }
    let all = Minute(0)..=Minute(u32::MAX);
    let need = Need { customer: None, minutes: all.clone(), histograms: Some(all) };
    answer(&pipeline.whole_of(&[customer.to_owned()], &need).unwrap())
}

type Latency = BTreeMap<(String, u32), Vec<(u16, u64)>>;
type Known = (BTreeMap<(String, u32), Measures>, BTreeMap<(String, u32), [u64; 3]>, Latency);

/// Minutes, further SLI, and latencies of the last hour.
fn known(state: &State, customer: &str, newest: Minute) -> Known {
    let mut known = Known::default();
    for series in state.series_of(customer) {
        let key = |minute: Minute| (series.service.to_string(), minute.0);
        known.0.extend(series.cells.iter().map(|cell| (key(cell.minute), cell.measures)));
        let further = series.further[0].iter();
        let counts = further.map(|cell| (key(cell.minute), cell.counts));
        known.1.extend(counts.map(|(key, one)| (key, [one.valid, one.bad, one.excluded])));
        let hour = series.histograms.iter().filter(|(minute, _)| *minute > newest.minus(60));
        known.2.extend(hour.map(|(minute, one)| (key(*minute), one.slots().to_vec())));
    }
    known
}

/// The transitions of all ticks, in their order.
fn transitions(pipeline: &Pipeline) -> Vec<AlertTransition> {
    let all = Minute(0)..=Minute(u32::MAX);
    let mut found = stored_transitions(pipeline.table(), &all).unwrap();
    found.extend(pipeline.transitions().cloned());
    found.sort_by_key(|one| (one.at.clone(), one.fingerprint.clone(), one.state.clone()));
    found
}

fn pooled(series: &[&Series]) -> BTreeMap<Minute, [u64; 3]> {
    let mut sums: BTreeMap<Minute, [u64; 3]> = BTreeMap::new();
    for cell in series.iter().flat_map(|series| series.cells.iter()) {
        let Measures { valid, bad, latency_sum_us, .. } = cell.measures;
        let sum = sums.entry(cell.minute).or_default();
        sum.iter_mut().zip([valid, bad, latency_sum_us]).for_each(|(sum, more)| *sum += more);
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, max_shrink_iters: 10, ..ProptestConfig::default() })]

    #[test]
    fn answers_and_alerts_are_those_of_a_run_without_bounds(
        seed in any::<u64>(),
        chunk_bytes in 2_000_usize..30_000,
        commit_every in 1_usize..4,
        restart in any::<prop::sample::Index>(),
    ) {
        let text = lines(seed, 4_000);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut free = pipeline(&folders[0], usize::MAX);
        // Less than half of what the free one will hold, and more than those who fail need.
        const SERIES_BYTES: usize = 650_000;
        let mut bound = pipeline(&folders[1], SERIES_BYTES);
        let (mut numbers, mut evicted) = ([&mut free, &mut bound].map(|one| begin(one, 0, Tail::default())), 0);
        let chunks = chunks(&text, chunk_bytes);
        let restart = restart.index(chunks.len());
        let mut customers = BTreeSet::new();
        for (nth, chunk) in chunks.iter().enumerate() {
            let so_far = Recount::of(&text[..chunk.next as usize], Rules::default());
            customers.extend(so_far.customers().into_iter().map(str::to_owned));
            let (_, last) = so_far.span().unwrap();
            let now_ms = i64::from(last) * MINUTE_MS + 59_000;
            let commit = nth % commit_every == 0 || nth == restart;
            step(&mut free, numbers[0], chunk, commit, now_ms);
            step(&mut bound, numbers[1], chunk, commit, now_ms);
            let newest = bound.state.newest().unwrap();
            prop_assert_eq!(Some(newest), free.state.newest());
            // Some customers, the same for both; at the end all.
            let mut random = Random(seed ^ nth as u64);
            let ask = |_: &&String| nth + 1 == chunks.len() || random.below(40) == 0;
            for customer in customers.iter().filter(ask) {
                let expect = known(&free.state, customer, newest);
                let found = answered(&bound, customer, |state| known(state, customer, newest));
                prop_assert_eq!(&found, &expect, "{}", customer);
                let of_customer = |((who, service, minute), counts): (&recount::Key, &Counts)| {
                    (who == customer).then(|| ((service.clone(), *minute), counts.valid, counts.bad))
                };
                let oracle: Vec<_> = so_far.minutes.iter().filter_map(of_customer).collect();
                let minutes = found.0.into_iter().map(|(key, one)| (key, one.valid, one.bad));
                prop_assert_eq!(minutes.collect::<Vec<_>>(), oracle, "{}", customer);
            }
            prop_assert_eq!(pooled(&[bound.state.fleet()]), pooled(&free.state.all_series()));
            if nth == restart {
                evicted += bound.state.evicted();
                prop_assert_eq!(bound.memory_use().evicted_hot, 0);
                (free, bound) = (pipeline(&folders[0], usize::MAX), pipeline(&folders[1], SERIES_BYTES));
                for (one, number) in [&mut free, &mut bound].into_iter().zip(&mut numbers) {
                    one.recover(Minute(0)..=Minute(u32::MAX)).unwrap();
                    *number = begin(one, chunk.next, chunk.tail.clone());
                }
            }
        }
        free.commit().unwrap();
        bound.commit().unwrap();
        let (found, expect) = (transitions(&bound), transitions(&free));
        prop_assert!(!found.is_empty(), "something fires");
        let differs = found.iter().zip(&expect).find(|(found, expect)| found != expect);
        prop_assert_eq!((differs, found.len()), (None, expect.len()));
        prop_assert_eq!(bound.memory_use().evicted_hot, 0);
        println!("{} bytes without bounds, {evicted} evicted", free.state.bytes());
        prop_assert!(evicted + bound.state.evicted() > 100, "{}", evicted);
        prop_assert!(bound.state.bytes() <= SERIES_BYTES, "{}", bound.state.bytes());
    }
}

#[test]
fn what_does_not_fit_63_bits_is_an_error_and_nothing_of_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(&folder, usize::MAX);
    let number = begin(&mut pipeline, 0, Tail::default());
    // The longest latency of the largest count: a few thousand of them leave 63 bits.
    let line = format!(
        "{{\"ts\":{START_MS},\"customer\":\"c\",\"status\":200,\"latency_us\":3600000000,\"count\":1000000}}\n"
    );
    let chunks = chunks(line.repeat(2_600).as_bytes(), line.len() * 2_500);
    pipeline.ingest(number, &chunks[..1]);
    pipeline.commit().unwrap();
    let sum = pipeline.state.series_of("c")[0].sum(Minute(0)..=Minute(u32::MAX));
    assert_eq!(sum.latency_sum_us, 2_500 * 3_600_000_000 * 1_000_000);
    pipeline.ingest(number, &chunks[1..]);
    assert!(matches!(pipeline.commit(), Err(PipelineError::Overload)));
    assert_eq!(pipeline.table().offset(LOG).unwrap(), Some(chunks[0].next));
    let again = Table::open_or_create(&folder.path().join("d")).unwrap();
    assert_eq!(again.version(), pipeline.table().version());
}

/// Of a file that is far from read to its end, what reads ahead must not be waited for.
#[test]
fn a_parquet_file_whose_commit_fails_ends_with_that_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    let rows = 400_000;
    let ints = |value: i64| Arc::new(Int64Array::from(vec![value; rows])) as ArrayRef;
    let columns = [
        ("ts", ints(START_MS)),
        ("customer", Arc::new(StringArray::from(vec!["c"; rows])) as ArrayRef),
        ("status", ints(200)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (sender, outcome) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut pipeline = pipeline(&folder, usize::MAX);
        pipeline.bound(Bounds { uncommitted_bytes: EVENT_BYTES, ..Bounds::default() });
        std::fs::write(folder.path().join("d/grain=series"), "no folder").unwrap();
        sender.send(pipeline.replay_parquet(&path).is_err()).unwrap();
    });
    assert_eq!(outcome.recv_timeout(std::time::Duration::from_mins(1)), Ok(true));
}

#[test]
fn an_epoch_is_full_at_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(&folder, usize::MAX);
    pipeline.bound(Bounds { uncommitted_bytes: EVENT_BYTES * 100, ..Bounds::default() });
    let number = begin(&mut pipeline, 0, Tail::default());
    let chunks = chunks(&lines(1, 120), 100);
    for (nth, chunk) in chunks.iter().enumerate() {
        assert_eq!(pipeline.epoch_is_full(), nth >= 100);
        pipeline.ingest(number, std::slice::from_ref(chunk));
    }
    pipeline.commit().unwrap();
    assert!(!pipeline.epoch_is_full());
    assert_eq!(pipeline.memory_use().parts[0].used, 0);
}

/// Files of a day have names that say nothing of their order.
#[test]
fn minutes_that_come_from_the_table_take_no_more_than_those_that_were_counted() {
    let mut random = Random(1);
    let mut text = String::new();
    for nth in 0..8_640 {
        let (ts, latency) = (START_MS + nth * 2 * MINUTE_MS, random.below(50));
        text.push_str(&format!(
            "{{\"ts\":{ts},\"customer\":\"c{}\",\"service\":\"s\",\"route\":\"POST /b\",\
             \"status\":200,\"latency_ms\":{latency}}}\n",
            random.below(10)
        ));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut counted = pipeline(&folder, usize::MAX);
    let number = begin(&mut counted, 0, Tail::default());
    // Some four hours each.
    for chunk in &chunks(text.as_bytes(), 12_000) {
        counted.ingest(number, std::slice::from_ref(chunk));
        counted.commit().unwrap();
    }
    let filter = Filter::of_minutes(Minute(0)..=Minute(u32::MAX));
    let first = |mut part: SeriesPart| {
        let mut first = Minute(u32::MAX);
        while part.next_rows(|row| first = first.min(row.minute)).unwrap() {}
        first
    };
    let parts = counted.table().series_parts(&filter).unwrap();
    let firsts: Vec<Minute> = parts.into_iter().map(first).collect();
    assert!(firsts.len() > 60 && firsts.is_sorted(), "{firsts:?}");

    let mut folded = pipeline(&folder, usize::MAX);
    folded.recover(Minute(0)..=Minute(u32::MAX)).unwrap();
    let bytes_of = |state: &mut State| -> usize {
        state.pack_before(Minute(u32::MAX));
        state.all_series().iter().map(|series| series.bytes_of_minutes()).sum()
    };
    let (live, again) = (bytes_of(&mut counted.state), bytes_of(&mut folded.state));
    assert!(again <= live * 102 / 100, "{again} bytes from the table, {live} live");
}
