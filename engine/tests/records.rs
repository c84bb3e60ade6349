//! Partitions whose offsets are numbers of records: holes, the time at which the log took a
//! record, what cannot be an event, the dedupe window, and partitions that are let go, taken
//! back and fenced.
//!
//! The oracle is a list of what was sent; each rule was seen to fail with its line taken out.

use std::collections::BTreeMap;
use std::path::Path;

use ninefold_engine::decode::{self, Format};
use ninefold_engine::pipeline::gap;
use ninefold_engine::pipeline::verify::{Recorded, Verdict, recounts_from, verify};
use ninefold_engine::pipeline::{Options, Pipeline, PipelineError, Start, Unit};
use ninefold_engine::slo::objective::Slis;
use ninefold_engine::slo::sli::SliKind;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, LINE_BYTES_MAX, RecordMark, Tail};
use ninefold_engine::source::wal::{self, Folder, Kind, Wal};
use ninefold_engine::table::{CommitError, Epoch, Filter, Move, Table};
use ninefold_engine::time::{Day, Minute, parse_rfc3339, rfc3339};
use proptest::prelude::*;

const LOG: &str = "kafka/requests/0";

/// When the log takes its records.
const NOW: &str = "2026-11-01T12:00:00Z";

/// One record: its offset, when the log took it, its payload.
type Record = (u64, Option<i64>, Vec<u8>);

fn now_ms() -> i64 {
    parse_rfc3339(NOW.as_bytes()).unwrap()
}

fn event(ts_ms: i64, id: &str) -> Vec<u8> {
    let ts = rfc3339(ts_ms);
    format!(r#"{{"ts":"{ts}","customer":"acme","status":200,"id":"{id}"}}"#).into_bytes()
}

fn options(window: u64) -> Options {
    Options {
        slis: Slis::default(),
        decode: decode::Options { format: Format::Ndjson, ..decode::Options::default() },
        dimension_values_max: 1_000,
        dedupe_window_bytes: 0,
        dedupe_window_records: window,
        dedupe_ids_max: usize::MAX,
        pools: Default::default(),
        epoch_events_max: usize::MAX,
    }
}

fn pipeline(dir: &Path, window: u64) -> Pipeline {
    Pipeline::new(options(window), Table::open_or_create(dir).unwrap(), true, 7)
}

fn start(pipeline: &Pipeline, offset: u64) -> Start<'static> {
    Start {
        name: LOG,
        label: "cluster/requests/0",
        decode: pipeline.options().decode.clone(),
        unit: Unit::Records,
        offset,
        tail: Tail::default(),
    }
}

/// The chunk of `records` that begins at `first` and ends at `next`.
fn chunk(first: u64, records: &[Record], next: u64) -> Chunk {
    let (mut bytes, mut marks, mut tail) = (Vec::new(), Vec::new(), Tail::default());
    for (offset, time_ms, payload) in records {
        bytes.extend_from_slice(&payload[..payload.len().min(LINE_BYTES_MAX)]);
        marks.push(RecordMark {
            offset: *offset,
            end: bytes.len() as u32,
            length_bytes: payload.len() as u64,
            time_ms: *time_ms,
        });
        tail = Tail::of_record(*offset, *time_ms, payload);
    }
    Chunk { first, next, kind: ChunkKind::Records(marks), bytes, tail }
}

fn dead_letters(table: &Table, filter: &Filter) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    table.for_each_dead(filter, |row| found.push((row.offset, row.reason.to_owned()))).unwrap();
    found.sort();
    found
}

fn valid(table: &Table) -> u64 {
    let mut sum = 0;
    table.for_each_series(&Filter::default(), |row| sum += row.measures.valid).unwrap();
    sum
}

#[test]
fn every_record_is_counted_or_dead_and_holes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(dir.path(), 0);
    let number = pipeline.partition(start(&pipeline, 0)).unwrap();
    let (now, minute_ms) = (now_ms(), 60_000);
    let months_13_ms = 403 * 24 * 60 * minute_ms;
    let at = Some(now);
    let records = vec![
        (3, at, event(now, "a")),
        (4, at, Vec::new()),
        (5, at, vec![b'x'; LINE_BYTES_MAX + 1]),
        (6, at, b"not json".to_vec()),
        (7, at, event(now + 5 * minute_ms, "b")),
        (8, at, event(now + 5 * minute_ms + 1, "c")),
        (11, at, event(now - months_13_ms, "d")),
        (12, at, event(now - months_13_ms - 1, "e")),
        (13, None, event(now + 60 * minute_ms, "f")),
    ];
    pipeline.ingest(number, &[chunk(0, &records, 16)]);
    let lines = pipeline.lines();
    assert_eq!((lines.read, lines.counted, lines.dead, lines.holes), (9, 4, 5, 7));
    pipeline.commit().unwrap();

    let table = Table::open(dir.path()).unwrap().unwrap();
    assert_eq!((table.offset(LOG).unwrap(), valid(&table)), (Some(16), 4));
    let expect = [
        (4, "record is empty or a format header"),
        (5, "record is longer than 1048576 bytes"),
        (6, ""),
        (8, "ts is more than 5 minutes after the time of its record"),
        (12, "ts is more than 13 months before the time of its record"),
    ];
    let found = dead_letters(&table, &Filter::default());
    assert_eq!(found.len(), expect.len(), "{found:?}");
    for ((offset, reason), (expect_offset, expect_reason)) in found.iter().zip(expect) {
        assert_eq!(*offset, expect_offset);
        assert!(reason.starts_with(expect_reason), "{offset}: {reason}");
    }
    let day = Minute::of_ms(now).day();
    let of_day = |day: Day| Filter { days: Some(day..=day), ..Filter::default() };
    assert_eq!(dead_letters(&table, &of_day(day)), found, "by the day of the record");
    let mut row = None;
    table
        .for_each_source(&Filter::default(), |one| {
            row = Some((one.first, one.next, one.read, one.holes, one.name.to_owned()));
        })
        .unwrap();
    assert_eq!(row, Some((0, 16, 9, 7, "cluster/requests/0".to_owned())));
}

#[test]
fn an_id_is_known_over_a_window_of_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(dir.path(), 10);
    let number = pipeline.partition(start(&pipeline, 0)).unwrap();
    let at = Some(now_ms());
    let sent = |offset, id| (offset, at, event(now_ms(), id));
    let records = [sent(0, "a"), sent(5, "b"), sent(10, "a"), sent(16, "b"), sent(30, "a")];
    pipeline.ingest(number, &[chunk(0, &records, 31)]);
    let lines = pipeline.lines();
    assert_eq!((lines.counted, lines.duplicate), (4, 1), "only the second a is near enough");
}

#[test]
fn a_fenced_instance_builds_itself_afresh_and_counts_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut zombie, mut owner) = (pipeline(dir.path(), 0), pipeline(dir.path(), 0));
    let at = Some(now_ms());
    let sent = |offset| (offset, at, event(now_ms(), "x"));
    for pipeline in [&mut zombie, &mut owner] {
        let number = pipeline.partition(start(pipeline, 0)).unwrap();
        pipeline.ingest(number, &[chunk(0, &[sent(0), sent(1)], 2)]);
    }
    owner.commit().unwrap();
    let error = zombie.commit().unwrap_err();
    assert!(matches!(error, PipelineError::Commit(CommitError::Fenced { .. })), "{error}");
    assert!(zombie.is_uncommitted(LOG));
    zombie.rebuild(Minute(0)..=Minute(u32::MAX)).unwrap();
    assert_eq!((zombie.number_of(LOG), zombie.lines().read), (None, 0), "it was not read here");
    assert_eq!(zombie.commit().unwrap(), None, "nothing is left to commit");

    // The partition goes from one to the other and back, each time where the table stands.
    owner.release(LOG);
    let number = zombie.partition(start(&zombie, 2)).unwrap();
    zombie.ingest(number, &[chunk(2, &[sent(2)], 3)]);
    zombie.commit().unwrap();
    zombie.release(LOG);
    owner.rebuild(Minute(0)..=Minute(u32::MAX)).unwrap();
    let number = owner.partition(start(&owner, 3)).unwrap();
    owner.ingest(number, &[chunk(3, &[sent(3)], 4)]);
    owner.commit().unwrap();
    let table = Table::open(dir.path()).unwrap().unwrap();
    assert_eq!((table.offset(LOG).unwrap(), valid(&table)), (Some(4), 4));
}

/// A rolling upgrade that changes the rules: one instance has the new ones, one still the old.
#[test]
fn two_versions_of_the_rules_side_by_side_both_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut of_status = options(0).slis;
    let SliKind::Availability { bad, .. } = &mut of_status.availability.kind else {
        panic!("the default judges by status");
    };
    *bad = vec![(200, 200)];
    let new = Options { slis: of_status, ..options(0) };
    let mut expect = BTreeMap::new();
    for (number, options) in [options(0), new].into_iter().enumerate() {
        let table = Table::open_or_create(dir.path()).unwrap();
        let mut pipeline = Pipeline::new(options, table, true, 7);
        let name = format!("kafka/requests/{number}");
        let begin = Start { name: &name, ..start(&pipeline, 0) };
        let partition = pipeline.partition(begin).unwrap();
        let records = [(0, Some(now_ms()), event(now_ms(), "x"))];
        pipeline.ingest(partition, &[chunk(0, &records, 1)]);
        pipeline.commit().unwrap();
        expect.insert(pipeline.options().slis.rules_version(), (1, number as u64));
    }
    let mut found = BTreeMap::new();
    let table = Table::open(dir.path()).unwrap().unwrap();
    table
        .for_each_series(&Filter::default(), |row| {
            found.insert(row.rules.to_owned(), (row.measures.valid, row.measures.bad));
        })
        .unwrap();
    assert_eq!((found.len(), found), (2, expect), "valid and bad by version of the rules");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// However records are cut into chunks, and wherever a commit, a rebuild or a new process
    /// comes between, each is counted once.
    #[test]
    fn records_are_counted_once_over_cuts_commits_and_rebuilds(
        gaps in prop::collection::vec(1_u64..4, 1..60),
        cuts in prop::collection::vec((1_usize..8, 0_u8..5), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut offset = 0;
        let records: Vec<Record> = gaps.iter().map(|gap| {
            offset += gap;
            (offset, Some(now_ms()), event(now_ms(), "x"))
        }).collect();
        let mut pipeline = pipeline(dir.path(), 0);
        let (mut next, mut cuts) = (0, cuts.into_iter().cycle());
        let mut number = pipeline.partition(start(&pipeline, 0)).unwrap();
        for _ in 0..1_000 {
            let (size, action) = cuts.next().unwrap();
            let from = records.partition_point(|(offset, ..)| *offset < next);
            let taken = &records[from..records.len().min(from + size)];
            let Some((last, ..)) = taken.last() else { break };
            pipeline.ingest(number, &[chunk(next, taken, last + 1)]);
            next = last + 1;
            match action {
                0 => { pipeline.commit().unwrap(); }
                1 => {
                    pipeline.rebuild(Minute(0)..=Minute(u32::MAX)).unwrap();
                    next = pipeline.table().offset(LOG).unwrap().unwrap_or(0);
                    number = pipeline.partition(start(&pipeline, next)).unwrap();
                    // Each time a little more is committed, so that it ends.
                    pipeline.commit().unwrap();
                    cuts.next();
                }
                2 => {
                    pipeline.commit().unwrap();
                    pipeline.release(LOG);
                    number = pipeline.partition(start(&pipeline, next)).unwrap();
                }
                _ => {}
            }
        }
        pipeline.commit().unwrap();
        let live: u64 = pipeline
            .state
            .shards
            .iter()
            .flat_map(|shard| shard.all_series())
            .map(|series| series.sum(Minute(0)..=Minute(u32::MAX)).valid)
            .sum();
        let table = Table::open(dir.path()).unwrap().unwrap();
        let stands = table.offset(LOG).unwrap().unwrap_or(0);
        let expect = records.iter().filter(|(offset, ..)| *offset < stands).count() as u64;
        prop_assert_eq!(valid(&table), expect);
        prop_assert_eq!(live, expect);
        prop_assert_eq!(stands, next);
    }
}

/// A recount of `records` from offset `first` on, against the table.
fn verified(table: &Table, first: u64, records: &[Record], next: u64) -> Verdict {
    let mut chunks = std::iter::once(Ok(chunk(first, records, next)));
    let mut verdict = Verdict::of(table);
    let recorded = Recorded {
        partition: LOG,
        label: "cluster/requests/0",
        unit: Unit::Records,
        decode: options(0).decode,
        first,
        chunks: &mut chunks,
    };
    verdict.add(&options(0), table, recorded).unwrap();
    verdict.judged()
}

#[test]
fn a_recount_of_records_finds_what_differs_and_leaves_out_what_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(dir.path(), 0);
    let number = pipeline.partition(start(&pipeline, 0)).unwrap();
    let record = |offset: u64| (offset, Some(now_ms()), event(now_ms(), "x"));
    let sent: Vec<Record> = [0, 1, 4, 5].map(record).to_vec();
    pipeline.ingest(number, &[chunk(0, &sent, 7)]);
    pipeline.commit().unwrap();
    let table = pipeline.table();
    assert!(verified(table, 0, &sent, 7).equal);
    // What came behind the committed offset is not the table's yet.
    let more: Vec<Record> = [0, 1, 4, 5, 7, 9].map(record).to_vec();
    assert!(verified(table, 0, &more, 10).equal);
    let fewer = verified(table, 0, &sent[..3], 7);
    assert_eq!((fewer.equal, fewer.different), (false, 1));
    assert_eq!((fewer.differences[0].source[0], fewer.differences[0].table[0]), (3, 4));
    assert_eq!((fewer.ranges_compared, fewer.ranges_different), (1, 1));
    assert_eq!((fewer.ranges[0].source[0], fewer.ranges[0].table[0]), (3, 4));
    // The one commit cannot be told from what is left of it.
    let gone = verified(table, 4, &sent[2..], 7);
    assert_eq!((gone.equal, gone.compared, gone.ranges_compared), (false, 0, 0));
    assert!(gone.gone[0].contains("offsets 0..4 are gone"), "{:?}", gone.gone);
    assert!(gone.gone[0].contains("0..7 cannot be verified"), "{:?}", gone.gone);
}

#[test]
fn what_a_log_still_holds_is_recounted_commit_by_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(dir.path(), 0);
    let number = pipeline.partition(start(&pipeline, 0)).unwrap();
    let now = now_ms();
    let record = |offset: u64| match offset {
        13 => (offset, Some(now), b"poison".to_vec()),
        _ => (offset, Some(now), event(now, "x")),
    };
    let sent: Vec<Record> = (0..30).map(record).collect();
    for first in (0..30).step_by(5) {
        let part = &sent[first as usize..first as usize + 5];
        pipeline.ingest(number, &[chunk(first, part, first + 5)]);
        pipeline.commit().unwrap();
    }
    let mut table = Table::open(dir.path()).unwrap().unwrap();
    let whole = verified(&table, 0, &sent, 30);
    assert_eq!((whole.equal, whole.compared, whole.ranges_compared), (true, 1, 6), "{whole:?}");
    // Retention has taken what stood before 12: the rest of 10..15 proves nothing.
    let rest = verified(&table, 12, &sent[12..], 30);
    assert_eq!((rest.equal, rest.different, rest.ranges_different), (false, 0, 0), "{rest:?}");
    assert_eq!((rest.compared, rest.ranges_compared), (1, 3));
    assert!(rest.gone[0].contains("0..15 cannot be verified"), "{:?}", rest.gone);
    // What came between, or became another, is found in its range.
    for change in [
        |sent: &mut Vec<Record>| drop(sent.remove(20)),
        |sent: &mut Vec<Record>| sent[20].2 = b"poison".to_vec(),
    ] {
        let mut other = sent.clone();
        change(&mut other);
        let found = verified(&table, 12, &other[12..], 30);
        assert_eq!((found.different, found.ranges_different), (0, 1), "{found:?}");
        assert_eq!((found.ranges[0].first, found.ranges[0].next), (20, 25));
    }
    // A row that holds less than what is left says differs also where older ranges are gone.
    let bad = sent.iter().map(|(offset, at, _)| {
        let line = String::from_utf8(event(now, "x")).unwrap().replace("200", "500");
        (*offset, *at, line.into_bytes())
    });
    let bad: Vec<Record> = bad.collect();
    let found = verified(&table, 12, &bad[12..], 30);
    assert_eq!((found.different, found.differences[0].source[1]), (1, 15), "{found:?}");

    // Records of a gap that was accepted were never counted, whether they are there or not.
    gap::accept(&mut table, LOG, 33, "accepted", Minute::of_ms(now)).unwrap();
    pipeline.rebuild(Minute(0)..=Minute(u32::MAX)).unwrap();
    let number = pipeline.partition(start(&pipeline, 33)).unwrap();
    let sent: Vec<Record> = (0..36).map(record).collect();
    pipeline.ingest(number, &[chunk(33, &sent[33..], 36)]);
    pipeline.commit().unwrap();
    let table = Table::open(dir.path()).unwrap().unwrap();
    for there in [sent.clone(), [&sent[..30], &sent[33..]].concat()] {
        let whole = verified(&table, 0, &there, 36);
        assert_eq!((whole.equal, whole.ranges_compared), (true, 7), "{whole:?}");
    }
}

#[test]
fn a_recount_with_a_dedupe_window_knows_the_ids_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(dir.path(), 4);
    let now = now_ms();
    let ids = ["a", "b", "c", "d", "c", "e", "d", "f", "g", "h"];
    let sent: Vec<Record> =
        (0..).zip(ids).map(|(offset, id)| (offset, Some(now), event(now, id))).collect();
    // The table begins at 3: what stands before is remembered only.
    let table = pipeline.table();
    assert_eq!(table.offset(LOG).unwrap(), None);
    let mut table = Table::open(dir.path()).unwrap().unwrap();
    let moves = vec![Move { partition: LOG.to_owned(), base: None, next: 3 }];
    table.commit(Epoch { moves, ..Epoch::default() }).unwrap();
    pipeline.rebuild(Minute(0)..=Minute(u32::MAX)).unwrap();
    let number = pipeline.partition(start(&pipeline, 3)).unwrap();
    pipeline.remember(number, &[chunk(0, &sent[..3], 3)]);
    for (first, next) in [(3, 5), (5, 8), (8, 10)] {
        pipeline.ingest(number, &[chunk(first, &sent[first as usize..next as usize], next)]);
        pipeline.commit().unwrap();
    }
    assert_eq!(pipeline.lines().duplicate, 2, "c and d");
    let table = Table::open(dir.path()).unwrap().unwrap();
    let of = |first: u64| {
        let mut chunks = std::iter::once(Ok(chunk(first, &sent[first as usize..], 10)));
        let mut verdict = Verdict::of(&table);
        let recorded = Recorded {
            partition: LOG,
            label: LOG,
            unit: Unit::Records,
            decode: options(4).decode,
            first,
            chunks: &mut chunks,
        };
        verdict.add(&options(4), &table, recorded).unwrap();
        verdict.judged()
    };
    assert_eq!(recounts_from(&options(4), &table, LOG).unwrap(), 0);
    assert!(of(0).equal, "{:?}", of(0));
    // Without what stands before 4 nobody knows that c is one too many at 4; from 8 on all is
    // known again.
    let rest = of(4);
    assert_eq!(
        (rest.ranges_compared, rest.ranges_different, rest.different),
        (1, 0, 0),
        "{rest:?}"
    );
    assert!(rest.gone[0].contains("3..8 cannot be verified"), "{:?}", rest.gone);
}

#[test]
fn the_write_ahead_log_is_recounted_from_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(dir.path(), Kind::Http, "ndjson").unwrap();
    let (name, path) = (folder.partition(), dir.path().join(&folder.about().id));
    let wal = Wal::open(folder, 0, wal::Options::default()).unwrap();
    let send = |count: u64| {
        let mut records = wal::Records::default();
        (0..count).for_each(|at| records.push(&event(now_ms(), &at.to_string())));
        let batch = wal::Batch { time_ms: now_ms(), key: Vec::new(), records };
        assert_eq!(wal.append(batch).unwrap().count, count as u32);
    };
    send(3);
    send(5);
    let mut pipeline = pipeline(&dir.path().join("rollups"), 0);
    let mut begin = start(&pipeline, 0);
    begin.name = &name;
    let number = pipeline.partition(begin).unwrap();
    let mut reader = wal.reader(0, Some(8));
    while let wal::Read::Chunk(chunk) = reader.next_chunk(std::time::Duration::ZERO).unwrap() {
        pipeline.ingest(number, &[chunk]);
    }
    pipeline.commit().unwrap();
    // One that was not counted yet.
    send(1);
    let verdict = verify(options(0), pipeline.table(), &[path]).unwrap();
    assert_eq!((verdict.equal, verdict.compared), (true, 1), "{verdict:?}");
    let audit = ninefold_engine::audit::audit(&dir.path().join("rollups"), 0).unwrap().unwrap();
    assert!(audit.clean, "{audit:#?}");
    assert_eq!((audit.partitions[0].next, audit.partitions[0].events), (8, 8));
}
