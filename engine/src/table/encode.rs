//! Record batches into Parquet bytes, on all cores, and what the log says of a file.
//!
//! A file is cut into row groups of about [`GROUP_ROWS`] rows, one encoded after the other, so
//! that two of them at a time take memory. Each column is encoded on its own, and the columns
//! are put together in order, so the bytes do not depend on the number of threads. Of what a
//! commit builds, numbers and bytes become pages as soon as [`SLICE_ROWS`] rows are built, so that
//! of these two groups take no more memory than their pages do.
//!
//! What a commit writes is put into pages by [`columns`]; what that does not take, such as texts
//! that are no numbers, is left to the library's writers. Readers cannot tell which.
//!
//! Encodings, per column, because readers of one customer's month should touch little and
//! writers should spend little:
//! - `customer`: delta of prefixes. Rows are sorted by it, so it costs a few bytes a row and no
//!   dictionary needs to be read for one page. With a bloom filter.
//! - numbers: delta, bit-packed: zeros and constant steps vanish.
//! - few-valued text (service, release, partition, ...) and minutes, of which a file has those of
//!   a day: dictionary.
//! - `latency` and other long values: plain; they hardly repeat.
//!
//! Latencies and texts of the other grains are zstd, level 1: it takes a latency to a tenth. Of the
//! other columns of a customer's row it would save 4% of the file, and who reads a page of each
//! would pay for a decompressor each: those are not compressed.
//! Pages have [`PAGE_ROWS`] rows and an index, so that one customer's rows are a page or two of
//! each column.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Fields, SchemaRef, TimestampMicrosecondType, UInt32Type};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};
use rayon::prelude::*;

use super::schema::{Grain, STATS_COLUMNS, timestamp};
use columns::Piece;
use pages::{Chunk, PAGE_ROWS};

mod columns;
mod packed;
mod pages;

/// Rows of a row group: large enough for encodings to pay, small enough to skip by.
pub(crate) const GROUP_ROWS: usize = 100_000;

/// Rows that one core builds at a time: small enough to spread a row group over some cores. Whole
/// pages.
const SLICE_ROWS: usize = 4 * PAGE_ROWS;

/// Room for a row in a file: what one of a customer takes (`docs/performance.md`), and some more.
const ROW_BYTES: usize = 16;

/// Share of customers that a bloom filter wrongly says it has.
const BLOOM_FALSE_RATIO: f64 = 0.01;

/// The texts of a customer's row, whose encodings leave little to compress; nor do those of numbers.
const UNCOMPRESSED: [&str; 4] = ["customer", "service", "partition", "rules"];

/// The columns that files are sorted by, in this order, where the grain has them.
const SORT_COLUMNS: [&str; 3] = ["customer", "service", "minute"];

/// A whole Parquet file and what the log says of it.
pub(crate) struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// One row: `numRecords`, `nullCount`, `minValues`, `maxValues`, `tightBounds`.
    pub stats: StructArray,
}

/// Encodes `batches`, all of the grain's schema, into one file. No batch, or empty ones, give
/// a file without rows. Here and below a text column may also be numbers with a dictionary.
pub(crate) fn encode(grain: Grain, batches: &[RecordBatch]) -> Result<Encoded, ParquetError> {
    let groups = row_groups(batches);
    let sorted = groups.par_iter().all(|group| is_sorted(group));
    let rows = rows_of(batches);
    let mut encoder = Encoder::new(grain, rows_of_group(rows), sorted)?.with_room(rows);
    groups.iter().try_for_each(|group| encoder.push(group))?;
    encoder.finish()
}

/// Encodes `rows` rows, built range by range in the order of the grain, into one file.
pub(crate) fn encode_sliced(
    grain: Grain,
    rows: usize,
    build: &(dyn Fn(Range<usize>) -> RecordBatch + Sync),
) -> Result<Encoded, ParquetError> {
    let group_rows = rows_of_group(rows);
    let mut encoder = Encoder::new(grain, group_rows, true)?.with_room(rows);
    let layout = encoder.layout.clone();
    let build_group = |from: usize| {
        let end = rows.min(from + group_rows);
        let slices = || (from..end).into_par_iter().step_by(SLICE_ROWS);
        let build = |from: usize| build(from..end.min(from + SLICE_ROWS));
        let group: Vec<Option<Slice>> =
            slices().map(|from| layout.slice(&build(from))).collect::<Result<_, _>>()?;
        let group = match group.into_iter().collect() {
            Some(slices) => Group::of_slices(slices),
            None => Group::of_batches(slices().map(build).collect()),
        };
        // Readers rely on the order that a file declares.
        assert!(is_sorted(&group.batches), "rows of {} are built in its order", grain.name());
        Ok::<_, ParquetError>(group)
    };
    // One group is built while the one before is encoded: neither has work for all cores to its
    // very end.
    let mut starts = (0..rows).step_by(group_rows);
    let mut group = starts.next().map(build_group).transpose()?;
    while let Some(built) = group {
        let next = starts.next();
        let (encoded, next) = rayon::join(|| encoder.push_group(built), || next.map(build_group));
        encoded?;
        group = next.transpose()?;
    }
    encoder.finish()
}

/// Some rows of a group, put into pages as they were built: while they stand in the caches, and so
/// that of most columns no more than a slice takes memory.
struct Slice {
    /// The columns of which all rows of the group are needed first.
    batch: RecordBatch,
    /// The others, by column.
    pieces: Vec<Option<Piece>>,
}

/// A row group, its columns in rows of some batches each or in pages.
struct Group {
    /// Of those in pages only what says how the rows are sorted and bounded.
    batches: Vec<RecordBatch>,
    /// By column.
    pieces: Vec<Option<Piece>>,
}

impl Group {
    fn of_batches(batches: Vec<RecordBatch>) -> Group {
        Group { batches, pieces: Vec::new() }
    }

    /// Of slices that are whole pages but the last, of which each has the same columns in pages.
    fn of_slices(slices: Vec<Slice>) -> Group {
        let mut group = Group::of_batches(Vec::new());
        for Slice { batch, pieces } in slices {
            group.batches.push(batch);
            if group.pieces.is_empty() {
                group.pieces = pieces;
                continue;
            }
            for (before, piece) in
                group.pieces.iter_mut().flatten().zip(pieces.into_iter().flatten())
            {
                before.append(piece);
            }
        }
        group
    }
}

/// The columns of a file, and how they are written.
#[derive(Clone)]
struct Layout {
    columns: Vec<ColumnDescPtr>,
    properties: WriterPropertiesPtr,
}

impl Layout {
    /// Puts rows into pages, as far as that can be done. `None` if there is a column of which some
    /// rows can become pages and those of this batch cannot.
    fn slice(&self, batch: &RecordBatch) -> Result<Option<Slice>, ParquetError> {
        let (mut kept, mut pieces) = (Vec::new(), Vec::new());
        for (at, (column, descriptor)) in batch.columns().iter().zip(&self.columns).enumerate() {
            let in_pieces = columns::comes_in_pieces(descriptor, &self.properties);
            let piece = match in_pieces {
                true => Piece::of(&[column], descriptor, &self.properties)?,
                false => None,
            };
            if in_pieces && piece.is_none() {
                return Ok(None);
            }
            if !in_pieces
                || STATS_COLUMNS.contains(&descriptor.name())
                || SORT_COLUMNS.contains(&descriptor.name())
            {
                kept.push(at);
            }
            pieces.push(piece);
        }
        Ok(Some(Slice { batch: batch.project(&kept)?, pieces }))
    }
}

/// Encodes one file row group by row group, for rows that do not fit memory as a whole.
pub(crate) struct Encoder {
    schema: SchemaRef,
    layout: Layout,
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    groups: usize,
    stats: Stats,
}

impl Encoder {
    /// An empty file for row groups of at most `group_rows`; `sorted` says that the rows to come
    /// are in the order of the grain.
    pub fn new(grain: Grain, group_rows: usize, sorted: bool) -> Result<Encoder, ParquetError> {
        let schema = grain.schema();
        let sorting = sorted.then(|| sort_keys(&schema)).flatten();
        let writer = writer_of(&schema, group_rows, sorting)?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema));
        let columns = writer.schema_descr().columns().to_vec();
        let layout = Layout { columns, properties: Arc::clone(writer.properties()) };
        Ok(Encoder { schema, layout, writer, factory, groups: 0, stats: Stats::default() })
    }

    /// The same, for about so many rows in all.
    fn with_room(mut self, rows: usize) -> Encoder {
        self.writer.inner_mut().reserve(rows * ROW_BYTES);
        self
    }

    /// Appends one row group.
    pub fn push(&mut self, group: &[RecordBatch]) -> Result<(), ParquetError> {
        self.push_group(Group::of_batches(group.to_vec()))
    }

    fn push_group(&mut self, group: Group) -> Result<(), ParquetError> {
        let Group { batches, pieces } = group;
        let mut stats = std::mem::take(&mut self.stats);
        let (columns, ()) =
            rayon::join(|| self.encode_group(&batches, pieces), || stats.add(&batches));
        self.stats = stats;
        let mut group = self.writer.next_row_group()?;
        for column in columns? {
            match column {
                Column::Ours(Chunk { bytes, close }) => group.append_column(&bytes, close)?,
                Column::Theirs(chunk) => chunk.append_to_row_group(&mut group)?,
            }
        }
        group.close()?;
        self.groups += 1;
        Ok(())
    }

    fn encode_group<'a>(
        &self,
        group: &'a [RecordBatch],
        mut pieces: Vec<Option<Piece>>,
    ) -> Result<Vec<Column>, ParquetError> {
        let Layout { columns, properties } = &self.layout;
        let parts = |at: usize| -> Vec<&'a ArrayRef> {
            let part = |batch: &'a RecordBatch| batch.column_by_name(columns[at].name());
            group.iter().map(|batch| part(batch).expect("what is not in pages is kept")).collect()
        };
        pieces.resize_with(columns.len(), || None);
        let ours = |(at, piece): (usize, Option<Piece>)| {
            let chunk = match piece {
                Some(piece) => {
                    piece.close(properties.statistics_enabled(columns[at].path())).map(Some)
                }
                None => columns::encode(&parts(at), &columns[at], properties),
            };
            Ok::<_, ParquetError>(chunk?.map(Column::Ours))
        };
        let ours = pieces.into_par_iter().enumerate().map(ours);
        let mut encoded: Vec<Option<Column>> = ours.collect::<Result<_, _>>()?;
        // The library's writers make room before their first row: where all columns are ours, they
        // are not even made.
        if encoded.iter().any(Option::is_none) {
            let writers = self.factory.create_column_writers(self.groups)?;
            let theirs = writers.into_par_iter().zip(&mut encoded).enumerate();
            theirs.filter(|(_, (_, column))| column.is_none()).try_for_each(
                |(at, (mut writer, column))| {
                    for part in parts(at) {
                        for leaf in compute_leaves(self.schema.field(at), part)? {
                            writer.write(&leaf)?;
                        }
                    }
                    *column = Some(Column::Theirs(writer.close()?));
                    Ok::<_, ParquetError>(())
                },
            )?;
        }
        Ok(encoded.into_iter().flatten().collect())
    }

    /// Bytes of the file so far.
    pub fn size(&self) -> usize {
        self.writer.bytes_written()
    }

    /// The whole file.
    pub fn finish(self) -> Result<Encoded, ParquetError> {
        Ok(Encoded { bytes: self.writer.into_inner()?, stats: self.stats.finish() })
    }
}

/// Rows of all of them.
pub(super) fn rows_of(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

fn writer_of(
    schema: &SchemaRef,
    group_rows: usize,
    sorting: Option<Vec<SortingColumn>>,
) -> Result<SerializedFileWriter<Vec<u8>>, ParquetError> {
    let properties = Arc::new(properties(schema, group_rows, sorting));
    let descriptor = ArrowSchemaConverter::new().convert(schema)?;
    SerializedFileWriter::new(Vec::new(), descriptor.root_schema_ptr(), properties)
}

/// A column of a row group, encoded by us or by the library.
enum Column {
    Ours(Chunk),
    Theirs(ArrowColumnChunk),
}

/// How many rows each group of a file has: equal sizes, at most [`GROUP_ROWS`], at least one.
fn rows_of_group(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(GROUP_ROWS).max(1)).max(1)
}

/// Cuts the rows into the groups of a file; nothing is copied.
fn row_groups(batches: &[RecordBatch]) -> Vec<Vec<RecordBatch>> {
    let group_rows = rows_of_group(rows_of(batches));
    let mut groups: Vec<Vec<RecordBatch>> = Vec::new();
    let mut room = 0;
    for batch in batches {
        let mut from = 0;
        while from < batch.num_rows() {
            if room == 0 {
                groups.push(Vec::new());
                room = group_rows;
            }
            let taken = room.min(batch.num_rows() - from);
            groups.last_mut().expect("one was pushed").push(batch.slice(from, taken));
            from += taken;
            room -= taken;
        }
    }
    groups
}

fn properties(
    schema: &SchemaRef,
    group_rows: usize,
    sorting: Option<Vec<SortingColumn>>,
) -> WriterProperties {
    let level = ZstdLevel::try_new(1).expect("level 1 exists");
    let mut builder = WriterProperties::builder()
        .set_created_by(super::log::ENGINE_INFO.to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_sorting_columns(sorting);
    for field in schema.fields() {
        let path = ColumnPath::from(field.name().as_str());
        let plain = |builder: parquet::file::properties::WriterPropertiesBuilder, encoding| {
            builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), encoding)
        };
        builder = match (field.name().as_str(), field.data_type()) {
            ("customer", _) => plain(builder, Encoding::DELTA_BYTE_ARRAY)
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_RATIO)
                .set_column_bloom_filter_max_ndv(path.clone(), group_rows as u64),
            ("alert" | "line" | "id", _) | (_, DataType::Binary) => plain(builder, Encoding::PLAIN)
                .set_column_statistics_enabled(path.clone(), EnabledStatistics::None),
            // Nobody looks for them by bounds, and comparing texts is what bounds cost.
            (_, DataType::Utf8) => {
                builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
            }
            (_, DataType::Timestamp(..)) => builder,
            _ => plain(builder, Encoding::DELTA_BINARY_PACKED),
        };
        let is_number = matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..));
        if is_number || UNCOMPRESSED.contains(&field.name().as_str()) {
            builder = builder.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
        }
        if STATS_COLUMNS.contains(&field.name().as_str()) {
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::Page);
        }
    }
    builder.build()
}

/// The columns of [`SORT_COLUMNS`] that the schema has; `None` where it has none.
fn sort_keys(schema: &SchemaRef) -> Option<Vec<SortingColumn>> {
    let sorting = |index: usize| SortingColumn {
        column_idx: index as i32,
        descending: false,
        nulls_first: true,
    };
    let keys = SORT_COLUMNS.iter().filter_map(|name| schema.index_of(name).ok());
    let keys: Vec<SortingColumn> = keys.map(sorting).collect();
    (!keys.is_empty()).then_some(keys)
}

/// Whether customer, service and minute never fall from row to row; nulls come first.
fn is_sorted(group: &[RecordBatch]) -> bool {
    let mut last = None;
    group.iter().filter(|batch| batch.num_rows() > 0).all(|batch| {
        let keys = SortKeys::of(batch);
        let rises = last.as_ref().is_none_or(|last| *last <= keys.of_row(0))
            && (1..batch.num_rows()).all(|row| keys.rises(row));
        last = Some(keys.of_row(batch.num_rows() - 1));
        rises
    })
}

/// What the rows of a batch are sorted by.
struct SortKeys<'a> {
    texts: [Option<Texts<'a>>; 2],
    minutes: Option<&'a TimestampMicrosecondArray>,
}

impl<'a> SortKeys<'a> {
    fn of(batch: &'a RecordBatch) -> SortKeys<'a> {
        let text = |name| batch.column_by_name(name).and_then(Texts::of);
        let minutes = batch.column_by_name("minute").and_then(|column| column.as_primitive_opt());
        SortKeys { texts: [text("customer"), text("service")], minutes }
    }

    fn of_row(&self, row: usize) -> ([Option<&'a str>; 2], Option<i64>) {
        (self.texts.each_ref().map(|texts| texts.as_ref()?.get(row)), self.minute(row))
    }

    fn minute(&self, row: usize) -> Option<i64> {
        self.minutes.filter(|minutes| minutes.is_valid(row)).map(|minutes| minutes.value(row))
    }

    /// Whether a row is not below the one before. Where their texts have one number, as those of
    /// most rows do, no text is looked at.
    fn rises(&self, row: usize) -> bool {
        if self.texts.iter().flatten().all(|texts| texts.are_one_number(row - 1, row)) {
            return self.minute(row - 1) <= self.minute(row);
        }
        self.of_row(row - 1) <= self.of_row(row)
    }
}

/// A text column: texts, or numbers with a dictionary.
struct Texts<'a> {
    numbers: Option<&'a UInt32Array>,
    texts: &'a StringArray,
}

impl<'a> Texts<'a> {
    fn of(column: &'a ArrayRef) -> Option<Texts<'a>> {
        let (numbers, texts) = match column.as_dictionary_opt::<UInt32Type>() {
            Some(numbered) => (Some(numbered.keys()), numbered.values()),
            None => (None, column),
        };
        Some(Texts { numbers, texts: texts.as_string_opt()? })
    }

    fn get(&self, row: usize) -> Option<&'a str> {
        let place = match self.numbers {
            Some(numbers) => numbers.is_valid(row).then(|| numbers.value(row) as usize)?,
            None => row,
        };
        self.texts.is_valid(place).then(|| self.texts.value(place))
    }

    /// Whether two rows surely have one text.
    fn are_one_number(&self, a: usize, b: usize) -> bool {
        let one = |numbers: &UInt32Array| {
            numbers.null_count() == 0 && numbers.value(a) == numbers.value(b)
        };
        self.numbers.is_some_and(one)
    }

    /// The least and the greatest of them.
    fn bounds(&self) -> Option<(&'a str, &'a str)> {
        let Some(numbers) = self.numbers else {
            return Some((compute::min_string(self.texts)?, compute::max_string(self.texts)?));
        };
        let mut stands = vec![false; self.texts.len()];
        numbers.iter().flatten().for_each(|number| stands[number as usize] = true);
        let standing = (0..).zip(stands).filter(|(_, stands)| *stands);
        bounds_among(standing.map(|(place, _)| self.texts.value(place)))
    }
}

/// The least and the greatest of some texts.
fn bounds_among<'a>(mut texts: impl Iterator<Item = &'a str>) -> Option<(&'a str, &'a str)> {
    let first = texts.next()?;
    Some(texts.fold((first, first), |(low, high), text| (low.min(text), high.max(text))))
}

/// Rows, nulls, least and greatest values of [`STATS_COLUMNS`], as the log keeps them. A column
/// that the grain does not have is left out.
#[derive(Default)]
struct Stats {
    rows: usize,
    nulls: [usize; STATS_COLUMNS.len()],
    /// Least and greatest values of what was added, one after the other.
    bounds: [Vec<ArrayRef>; STATS_COLUMNS.len()],
}

impl Stats {
    fn add(&mut self, batches: &[RecordBatch]) {
        self.rows += rows_of(batches);
        for (at, name) in STATS_COLUMNS.into_iter().enumerate() {
            let columns: Vec<&ArrayRef> =
                batches.iter().filter_map(|batch| batch.column_by_name(name)).collect();
            if columns.is_empty() {
                continue;
            }
            self.nulls[at] += columns.iter().map(|column| column.null_count()).sum::<usize>();
            let (least, greatest) = bounds_of(&columns);
            self.bounds[at].extend([least, greatest]);
        }
    }

    fn finish(self) -> StructArray {
        let mut nulls: Vec<(&str, ArrayRef)> = Vec::new();
        let (mut least, mut greatest) = (Vec::new(), Vec::new());
        for (at, name) in STATS_COLUMNS.into_iter().enumerate() {
            let bounds: Vec<&ArrayRef> = self.bounds[at].iter().collect();
            if bounds.is_empty() {
                continue;
            }
            nulls.push((name, Arc::new(Int64Array::from(vec![self.nulls[at] as i64]))));
            let (low, high) = bounds_of(&bounds);
            least.push((name, low));
            greatest.push((name, high));
        }
        let mut sections: Vec<(&str, ArrayRef)> =
            vec![("numRecords", Arc::new(Int64Array::from(vec![self.rows as i64])))];
        for (name, columns) in [("nullCount", nulls), ("minValues", least), ("maxValues", greatest)]
        {
            if !columns.is_empty() {
                sections.push((name, Arc::new(struct_of(columns))));
            }
        }
        sections.push(("tightBounds", Arc::new(BooleanArray::from(vec![true]))));
        struct_of(sections)
    }
}

fn struct_of(columns: Vec<(&str, ArrayRef)>) -> StructArray {
    let field =
        |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
    let fields: Fields = columns.iter().map(field).collect();
    StructArray::new(fields, columns.into_iter().map(|(_, column)| column).collect(), None)
}

/// The least and the greatest value of a column of text or time, each an array of one row.
fn bounds_of(columns: &[&ArrayRef]) -> (ArrayRef, ArrayRef) {
    if Texts::of(columns[0]).is_some() {
        let bounds = columns.par_iter().filter_map(|column| Texts::of(column)?.bounds());
        let bounds: Vec<(&str, &str)> = bounds.collect();
        let bounds = bounds_among(bounds.into_iter().flat_map(|(low, high)| [low, high]));
        let array = |text| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        return (array(bounds.map(|(low, _)| low)), array(bounds.map(|(_, high)| high)));
    }
    let times = || columns.iter().map(|column| column.as_primitive::<TimestampMicrosecondType>());
    let array = |value: Option<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![value]).with_data_type(timestamp()))
    };
    (array(times().filter_map(compute::min).min()), array(times().filter_map(compute::max).max()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, DictionaryArray};

    use super::*;

    fn failures(rows: &[(&str, i64)]) -> RecordBatch {
        let schema = Grain::Failure.schema();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "customer" => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))),
                "minute" => Arc::new(
                    TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1))
                        .with_data_type(timestamp()),
                ),
                _ => arrow::array::new_null_array(field.data_type(), rows.len()),
            }
        });
        let columns = columns.collect();
        RecordBatch::try_new(schema, columns).unwrap()
    }

    #[test]
    fn sorting_is_declared_only_where_it_holds() {
        let check = |batches: &[RecordBatch], expect: bool| assert_eq!(is_sorted(batches), expect);
        check(&[failures(&[("a", 1), ("a", 2), ("b", 1)])], true);
        check(&[failures(&[("a", 2), ("a", 1)])], false);
        check(&[failures(&[("b", 1)]), failures(&[("a", 1)])], false);
        check(&[failures(&[("a", 1)]), failures(&[("a", 1)])], true);
        check(&[], true);
        check(&[failures(&[]), failures(&[("b", 1)]), failures(&[]), failures(&[("a", 1)])], false);
        let numbered = |rows: &[(&str, i64)]| {
            let customers = rows.iter().map(|row| row.0).collect::<DictionaryArray<UInt32Type>>();
            let services = rows.iter().map(|_| "s").collect::<DictionaryArray<UInt32Type>>();
            RecordBatch::try_from_iter([
                ("minute", Arc::clone(failures(rows).column(0))),
                ("customer", Arc::new(customers)),
                ("service", Arc::new(services)),
            ])
            .unwrap()
        };
        check(&[numbered(&[("b", 1), ("b", 2), ("c", 1)])], true);
        check(&[numbered(&[("b", 2), ("b", 1)])], false);
        check(&[numbered(&[("b", 1), ("a", 2)])], false);
    }

    #[test]
    fn row_groups_cover_every_row_once_and_in_order() {
        let rows: Vec<(String, i64)> =
            (0..250_001).map(|at| (format!("c{:06}", at / 7), at)).collect();
        let rows: Vec<(&str, i64)> = rows.iter().map(|row| (row.0.as_str(), row.1)).collect();
        let batches: Vec<RecordBatch> = rows.chunks(33_333).map(failures).collect();
        let groups = row_groups(&batches);
        assert_eq!(groups.len(), 3);
        let minutes: Vec<i64> = groups
            .iter()
            .flatten()
            .flat_map(|batch| {
                batch.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec()
            })
            .collect();
        assert_eq!(minutes, (0..250_001).collect::<Vec<i64>>());
    }

    /// Sorted rows of customers, of whom each has three; from `long` on their latencies are so long
    /// that no page holds as many as it should.
    fn series(rows: Range<usize>, services: &ArrayRef, long: usize) -> RecordBatch {
        let numbers = |number: fn(usize) -> u32| rows.clone().map(number).collect::<UInt32Array>();
        let customers = rows.clone().map(|row| format!("customer {:06}", row / 3));
        let customers: Vec<String> = customers.collect();
        let column = |field: &Field| -> ArrayRef {
            match (field.name().as_str(), field.data_type()) {
                ("customer", _) => {
                    let customers = customers.iter().map(String::as_str);
                    Arc::new(customers.collect::<DictionaryArray<UInt32Type>>())
                }
                ("service", _) => {
                    Arc::new(DictionaryArray::new(numbers(|_| 1), Arc::clone(services)))
                }
                (_, DataType::Utf8) => {
                    let numbers = numbers(|row| (row % 5 % 3) as u32);
                    Arc::new(DictionaryArray::new(numbers, Arc::clone(services)))
                }
                (_, DataType::Int64) => Arc::new(
                    rows.clone().map(|row| (row * row % 1_000) as i64).collect::<Int64Array>(),
                ),
                (_, DataType::Binary) => {
                    let latency = |row| vec![row as u8; if row < long { row % 50 } else { 300 }];
                    let latencies = rows.clone().map(|row| (row % 7 > 0).then(|| latency(row)));
                    Arc::new(latencies.collect::<BinaryArray>())
                }
                _ => {
                    let minutes = rows.clone().map(|row| (row % 3 * 60_000_000) as i64);
                    let minutes = TimestampMicrosecondArray::from_iter_values(minutes);
                    Arc::new(minutes.with_data_type(timestamp()))
                }
            }
        };
        let schema = Grain::Series.schema();
        let columns = schema.fields().iter().map(|field| (field.name(), column(field), true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn slices_make_the_file_that_whole_groups_make() {
        let services: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let most = 2 * GROUP_ROWS + 2;
        for (rows, long) in
            [(1, 1), (SLICE_ROWS, most), (SLICE_ROWS + 1, 0), (most, most), (most, 70_000)]
        {
            let build = |range| series(range, &services, long);
            let whole = [build(0..rows)];
            let expected = encode(Grain::Series, &whole).unwrap();
            let found = encode_sliced(Grain::Series, rows, &build).unwrap();
            assert!(found.bytes == expected.bytes, "{rows} rows, long from {long} on");
            assert_eq!(found.stats, expected.stats);
            // Else what is compared is not what it is said to be.
            let layout = Encoder::new(Grain::Series, GROUP_ROWS, true).unwrap().layout;
            let last = layout.slice(&build(rows.saturating_sub(SLICE_ROWS)..rows)).unwrap();
            assert_eq!(last.is_some(), rows <= long, "{rows} rows, long from {long} on");
            let kept = last.map_or(0, |last| last.batch.num_columns());
            assert!(kept <= Grain::Series.schema().fields().len() - 8, "numbers are in pages");
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let batches = [failures(&[("a", 1), ("a", 2)]), failures(&[("b", 1)])];
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| encode(Grain::Failure, &batches).unwrap().bytes)
        };
        assert_eq!(with(1), with(4));
    }
}
