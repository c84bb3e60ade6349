//! The rows that are taken by number against the same rows one by one.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, DictionaryArray, Float64Array, Int16Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use super::*;
use crate::slo::exclusion::Exclusion;
use crate::slo::sli::{Sli, SliKind};

const TS_MS: i64 = 1_764_633_540_123;
const LONG: &str = "a text of more than twelve bytes";

/// Texts by field, in the order of [`TEXTS`].
const TEXTS: [&str; 9] =
    ["customer", "outcome", "id", "service", "route", "release", "cohort", "region", "flag"];

/// What a row holds; `None` is a null.
#[derive(Clone, Debug)]
struct RowOf {
    ts: Option<i64>,
    texts: [Option<String>; 9],
    status: Option<i64>,
    latency: [Option<f64>; 2],
    count: Option<i64>,
}

/// How a file has its rows: each kind picks a type, or that there is no such column.
#[derive(Clone, Debug)]
struct Shape {
    ts: u8,
    texts: [u8; 9],
    status: u8,
    latency: u8,
    count: u8,
    /// Where a dictionary ends and texts are written out; 0 is none.
    dictionary_bytes: usize,
    group_rows: usize,
}

/// Mostly one of the usual values, sometimes an odd one.
fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: &[T],
    odd: &[T],
) -> impl Strategy<Value = Option<T>> + use<T> {
    let pick = |of: &[T]| prop::sample::select(of.to_vec()).prop_map(Some);
    prop_oneof![60 => pick(usual), 1 => pick(odd), 1 => Just(None)]
}

fn text(usual: &[&str], odd: &[&str]) -> impl Strategy<Value = Option<String>> + use<> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    mostly(&owned(usual), &owned(odd))
}

fn rows() -> impl Strategy<Value = Vec<RowOf>> {
    let overlong = "x".repeat(257);
    let dimension =
        || text(&["a", "b", LONG], &["", "ü", "another text of more than twelve bytes"]);
    let texts = (
        text(&["acme", "globex", LONG], &["", &overlong]),
        text(&["good", "bad", "excluded"], &["ugly", ""]),
        text(&["id-1", LONG], &["", "id-2"]),
        text(&["checkout", "search"], &["", LONG]),
        [dimension(), dimension(), dimension(), dimension(), dimension()],
    );
    let texts = texts.prop_map(|(customer, outcome, id, service, others)| {
        let [a, b, c, d, e] = others;
        [customer, outcome, id, service, a, b, c, d, e]
    });
    let ts = mostly(&[TS_MS, TS_MS + 60_000, TS_MS + 86_400_000], &[TS_MS / 1_000, -1, i64::MAX]);
    let latency = || mostly(&[0.0, 20.5, 2_000.0], &[-1.0, f64::NAN, f64::INFINITY, 3.7e6, 4e9]);
    let row = (
        ts,
        texts,
        mostly(&[200, 404, 503, 0], &[99, 600, -1, 70_000]),
        [latency(), latency()],
        mostly(&[1, 7], &[0, -1, 1_000_001]),
    );
    let row = row.prop_map(|(ts, texts, status, latency, count)| RowOf {
        ts,
        texts,
        status,
        latency,
        count,
    });
    prop::collection::vec(row, 1..300)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let texts = prop::array::uniform9(prop_oneof![8 => Just(0), 8 => Just(1), 3 => Just(2),
        1 => Just(3), 3 => Just(4)]);
    let odd = || prop_oneof![6 => Just(0_u8), 3 => Just(1), 1 => Just(2), 1 => Just(3)];
    let rest = (
        prop_oneof![Just(0_usize), Just(48), Just(1_000_000)],
        prop_oneof![Just(7_usize), Just(100), Just(1_000)],
    );
    (odd(), texts, odd(), 0..5_u8, odd(), rest).prop_map(
        |(ts, texts, status, latency, count, (dictionary_bytes, group_rows))| Shape {
            ts,
            texts,
            status,
            latency,
            count,
            dictionary_bytes,
            group_rows,
        },
    )
}

fn integers(kind: u8, values: Vec<Option<i64>>) -> ArrayRef {
    match kind {
        0 => Arc::new(Int64Array::from(values)),
        1 => Arc::new(
            values.iter().map(|n| n.and_then(|n| i16::try_from(n).ok())).collect::<Int16Array>(),
        ),
        _ => Arc::new(values.iter().map(|n| n.map(|n| n as u64)).collect::<UInt64Array>()),
    }
}

/// A column of texts; kind 3 has one that is none.
fn texts(kind: u8, values: Vec<Option<&str>>) -> ArrayRef {
    let mut bytes: Vec<Option<&[u8]>> = values.iter().map(|text| text.map(str::as_bytes)).collect();
    match kind {
        0 => Arc::new(StringArray::from(values)),
        1 => Arc::new(values.into_iter().collect::<DictionaryArray<Int32Type>>()),
        2 => Arc::new(BinaryArray::from(bytes)),
        _ => {
            let middle = bytes.len() / 2;
            bytes[middle] = Some(b"\xff");
            Arc::new(BinaryArray::from(bytes))
        }
    }
}

/// The rows as a file; without the columns that the shape leaves out.
fn file(rows: &[RowOf], shape: &Shape) -> Bytes {
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    let ts = rows.iter().map(|row| row.ts);
    columns.push((
        "ts",
        match shape.ts {
            0 => Arc::new(ts.collect::<Int64Array>()),
            1 => Arc::new(
                ts.map(|ts| Some(ts?.saturating_mul(1_000))).collect::<TimestampMicrosecondArray>(),
            ),
            2 => Arc::new(ts.map(|ts| Some(ts? as u64)).collect::<UInt64Array>()),
            _ => Arc::new(ts.map(|ts| ts.map(|_| "2025-12-01T00:00:00Z")).collect::<StringArray>()),
        },
    ));
    for (index, (name, kind)) in TEXTS.into_iter().zip(shape.texts).enumerate() {
        // A file has to have customers.
        if kind < 4 || name == "customer" {
            let values = rows.iter().map(|row| row.texts[index].as_deref()).collect();
            columns.push((name, texts(kind % 4, values)));
        }
    }
    if shape.status < 3 || shape.texts[1] == 4 {
        columns.push((
            "status",
            integers(shape.status % 3, rows.iter().map(|row| row.status).collect()),
        ));
    }
    if shape.count < 3 {
        columns.push(("count", integers(shape.count, rows.iter().map(|row| row.count).collect())));
    }
    let floats = |n: usize| rows.iter().map(move |row| row.latency[n]);
    if matches!(shape.latency, 1 | 3) {
        columns.push(("latency_ms", Arc::new(floats(0).collect::<Float64Array>())));
    }
    if matches!(shape.latency, 2 | 3) {
        columns.push(("latency_us", Arc::new(floats(1).collect::<Float64Array>())));
    }
    if shape.latency == 4 {
        let whole = floats(1).map(|us| us.map(|us| us as i64)).collect();
        columns.push(("latency_us", integers(0, whole)));
    }
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(shape.dictionary_bytes > 0)
        .set_dictionary_page_size_limit(shape.dictionary_bytes.max(1))
        .set_write_batch_size(8)
        .set_max_row_group_row_count(Some(shape.group_rows));
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    Bytes::from(writer.into_inner().unwrap())
}

/// A further SLI and a maintenance window, so that services and routes matter.
fn slis() -> Slis {
    let minute = Minute::of_ms(TS_MS);
    let slow = Sli {
        name: "slow".to_owned(),
        kind: SliKind::Latency { threshold_us: 100 },
        services: vec!["checkout".to_owned()],
        routes: vec!["a*".to_owned()],
    };
    let window = Exclusion {
        customers: Some(["acme".to_owned()].into()),
        services: vec!["search".to_owned()],
        spans: vec![(minute, minute)],
        reason: "work".to_owned(),
    };
    Slis { further: vec![slow], maintenance: vec![window], ..Slis::default() }
}

fn groups(file: Bytes) -> Vec<Vec<Rows>> {
    let options = decode::Options { attributes: vec!["flag".to_owned()], ..Default::default() };
    let mut reader = Reader::open(file, &options, 0, None).unwrap();
    let mut next = || Some(next_group(&mut reader).unwrap()).filter(|group| !group.is_empty());
    std::iter::from_fn(&mut next).collect()
}

/// The slow and obvious way.
fn block_by_rows(builder: &mut BlockBuilder, slis: &Slis, group: &[Rows]) -> Block {
    builder.begin(3, group[0].first());
    for rows in group {
        rows.for_each(|row, line| push_line(builder, slis, row, line)).unwrap();
    }
    builder.finish(group[group.len() - 1].next())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rows_by_number_make_the_block_that_rows_one_by_one_make(
        rows in rows(),
        shape in shapes(),
        keep_ids in any::<bool>(),
    ) {
        let mut builders = [BlockBuilder::new(1, keep_ids), BlockBuilder::new(1, keep_ids)];
        let slis = slis();
        for group in groups(file(&rows, &shape)) {
            let slow = block_by_rows(&mut builders[0], &slis, &group);
            let fast = block_of(&mut builders[1], 3, &slis, &group).unwrap().unwrap();
            prop_assert_eq!(format!("{fast:#?}"), format!("{slow:#?}"));
        }
    }
}

#[test]
fn usual_rows_are_taken_by_number_and_a_dead_one_does_not_change_it() {
    let row = |n: usize| RowOf {
        ts: (n != 5).then_some(TS_MS),
        texts: std::array::from_fn(|text| match text {
            1 => Some("bad".to_owned()),
            6 => Some(format!("{LONG} {}", n % 4)).filter(|_| n % 4 != 3),
            text => Some(format!("text {text}")),
        }),
        status: Some(200),
        latency: [Some(1.0), Some(1_000.0)],
        count: Some(1),
    };
    let rows: Vec<RowOf> = (0..40).map(row).collect();
    for (latency, kind) in [(0, 0), (1, 1), (2, 2), (4, 0)] {
        let shape = Shape {
            ts: u8::from(kind == 1),
            texts: [kind; 9],
            status: u8::from(kind == 1),
            latency,
            count: 0,
            dictionary_bytes: 1_000_000,
            group_rows: 1_000,
        };
        let groups = groups(file(&rows, &shape));
        let numbered = groups[0][0].numbered().unwrap();
        let mut dead = Vec::new();
        numbered.for_each(|row, taken| match taken {
            Taken::Event(_, number) => assert!(number < 4, "{number}"),
            Taken::Line(line) => dead.push((row, matches!(line, Line::Dead(_)))),
        });
        assert_eq!(dead, [(5, true)]);
    }
}
