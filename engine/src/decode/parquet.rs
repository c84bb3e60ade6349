//! Events from a Parquet file whose columns have the names of the native fields.
//!
//! The rules are those of the native form; a null is an absent field. What a
//! column takes:
//!
//! | field | Parquet type |
//! |---|---|
//! | `ts` | integer of epoch milliseconds, timestamp of any unit, or text in RFC 3339 |
//! | texts | string, or bytes in UTF-8; dictionaries are an encoding and make no difference |
//! | `status`, `count` | integer of any width |
//! | `latency_ms`, `latency_us` | integer or floating point of any width |
//!
//! A path such as `account.id` is a column in a group, or a column of that very name. Columns
//! of lists are not read. Others are not looked at.
//!
//! Memory: one batch of `BATCH_ROWS` rows, and one page and dictionary a column, which the
//! format itself bounds at 2 GiB each. Texts are views into their pages, so that a long text
//! which a dictionary repeats costs its length once and not once a row. Schemas that other
//! programs embed are ignored: the types of Parquet alone count.
//!
//! Two readers give the same events. [`Rows::for_each`] reads row by row and alone refuses;
//! [`Rows::numbered`] takes the usual rows by numbers of their services and dimensions, and asks
//! the other one about the rest.
//!
//! A file that is broken ends in an error after the rows before the break. The `parquet` crate
//! refuses most broken files, but asserts some of what a file may lie about: of a small file
//! with one byte changed, four of its assertions fail. No input may stop the process, so the
//! panic is caught around each call into the reader, and is an error too; nothing of the reader
//! is used after it. Its message goes to the panic hook as well.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, Float64Array, Int64Array, RecordBatch,
    StringViewArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;
use parquet::schema::types::SchemaDescriptor;

pub use self::numbered::{Numbered, Taken};
use super::value::{self, Row, SLOTS, Text, slot};
use super::{Line, Options, Read};

mod numbered;
mod usual;

/// How many rows are read at once: enough that the cost of a batch vanishes, few enough that
/// the fixed-width columns stay in the cache.
const BATCH_ROWS: usize = 4_096;

/// Why a Parquet file cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ParquetFault {
    /// The file is no Parquet, is broken, or its disk failed.
    #[error("the Parquet file cannot be read: {0}")]
    Parquet(#[from] ParquetError),
    /// A batch of its rows is broken.
    #[error("the Parquet file is broken: {0}")]
    Rows(#[from] ArrowError),
    /// Its decoder gave up on it.
    #[error("the Parquet file is broken: its decoder panicked: {0}")]
    Panicked(String),
    /// Required columns are missing.
    #[error("the Parquet file has no column {missing}; map the names with [decode.fields]")]
    Missing {
        /// The missing columns, joined by commas.
        missing: String,
    },
    /// Two columns have one name.
    #[error("the Parquet file has more than one column {column:?}")]
    Twice {
        /// Its name.
        column: String,
    },
    /// A column has a type that its field does not take.
    #[error("the column {column:?} of the Parquet file has type {found}: it takes {takes}")]
    Type {
        /// Its name.
        column: String,
        /// Its type.
        found: String,
        /// What it takes.
        takes: &'static str,
    },
}

/// Calls `f` with each row from `first_row` on, and its index from 0. Gives the index after
/// the last row.
///
/// # Errors
/// [`ParquetFault`] where the file cannot be read, or lacks `ts`, `customer`, or both `status`
/// and `outcome`; rows before a break have been handed out then.
pub fn for_each(
    file: impl ChunkReader + 'static,
    options: &Options,
    first_row: u64,
    mut f: impl FnMut(u64, Line<'_>),
) -> Result<u64, ParquetFault> {
    let mut reader = Reader::open(file, options, first_row, None)?;
    while let Some(rows) = reader.next_rows()? {
        rows.for_each(&mut f)?;
    }
    Ok(reader.next)
}

/// The rows of a file, some thousands at a time.
pub struct Reader {
    batches: ParquetRecordBatchReader,
    columns: Arc<Columns>,
    next: u64,
}

impl Reader {
    /// Opens a file to read `count` rows, or all, from `first_row` on.
    ///
    /// # Errors
    /// [`ParquetFault`] where it is not to be read as events.
    pub fn open(
        file: impl ChunkReader + 'static,
        options: &Options,
        first_row: u64,
        count: Option<u64>,
    ) -> Result<Reader, ParquetFault> {
        let names = value::names(options);
        let (batches, columns) = guarded(|| open(file, &names, first_row, count))??;
        Ok(Reader { batches, columns: Arc::new(columns), next: first_row })
    }

    /// The next rows, in no form of ours yet: that is what [`Rows::for_each`] makes of them, on
    /// any thread.
    ///
    /// # Errors
    /// The file is broken here.
    pub fn next_rows(&mut self) -> Result<Option<Rows>, ParquetFault> {
        let Some(batch) = guarded(|| self.batches.next())?.transpose()? else { return Ok(None) };
        let first = self.next;
        self.next += batch.num_rows() as u64;
        Ok(Some(Rows { batch, columns: Arc::clone(&self.columns), first }))
    }
}

/// Some rows of a file.
pub struct Rows {
    batch: RecordBatch,
    columns: Arc<Columns>,
    first: u64,
}

impl Rows {
    /// The index of the first row.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last row.
    pub fn next(&self) -> u64 {
        self.first + self.batch.num_rows() as u64
    }

    /// The same rows with their services and dimensions by number, which makes them cheap.
    ///
    /// # Errors
    /// As [`Rows::for_each`].
    pub fn numbered(&self) -> Result<Numbered<'_>, ParquetFault> {
        let columns = guarded(|| self.columns.of(&self.batch))??;
        Ok(Numbered::of(self, columns))
    }

    /// Calls `f` with each row and its index.
    ///
    /// # Errors
    /// A column has a type that its field does not take: no row was handed out.
    pub fn for_each(&self, mut f: impl FnMut(u64, Line<'_>)) -> Result<(), ParquetFault> {
        let columns = guarded(|| self.columns.of(&self.batch))??;
        let names = &self.columns.names;
        for (index, row) in (self.first..self.next()).enumerate() {
            f(row, At { columns: &columns, names, index }.line());
        }
        Ok(())
    }
}

/// Turns a panic of the decoder into an error.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, ParquetFault> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        ParquetFault::Panicked(text.unwrap_or("without a message").to_owned())
    })
}

/// The reader of the columns that are wanted, of `count` rows or all from a row on.
fn open<R: ChunkReader + 'static>(
    file: R,
    names: &[String],
    first_row: u64,
    count: Option<u64>,
) -> Result<(ParquetRecordBatchReader, Columns), ParquetFault> {
    let bare = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(&file, bare.clone())?;
    let leaves = leaves(metadata.parquet_schema(), names)?;
    let with_views = bare.with_schema(Arc::new(viewed(metadata.schema())));
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), with_views)?;
    let schema = metadata.parquet_schema();
    let paths = leaves.map(|leaf| leaf.map(|leaf| schema.column(leaf).path().parts().to_vec()));
    let wanted = leaves.into_iter().flatten();
    let mask = ProjectionMask::leaves(schema, wanted);
    let size = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .with_offset(size(first_row));
    if let Some(count) = count {
        builder = builder.with_limit(size(count));
    }
    let columns = Columns { paths, names: names.to_vec() };
    Ok((builder.build()?, columns))
}

/// The leaf column of each native field that the file has.
fn leaves(
    schema: &SchemaDescriptor,
    names: &[String],
) -> Result<[Option<usize>; SLOTS], ParquetFault> {
    let mut leaves = [None; SLOTS];
    for (leaf, name) in leaves.iter_mut().zip(names) {
        for (index, column) in schema.columns().iter().enumerate() {
            let is_wanted = column.max_rep_level() == 0 && column.path().string() == *name;
            if is_wanted && leaf.replace(index).is_some() {
                return Err(ParquetFault::Twice { column: name.clone() });
            }
        }
    }
    let mut missing: Vec<String> = Vec::new();
    for slot in [slot::TS, slot::CUSTOMER] {
        if leaves[slot].is_none() {
            missing.push(format!("{:?}", names[slot]));
        }
    }
    if leaves[slot::STATUS].is_none() && leaves[slot::OUTCOME].is_none() {
        missing.push(format!("{:?} or {:?}", names[slot::STATUS], names[slot::OUTCOME]));
    }
    if missing.is_empty() {
        Ok(leaves)
    } else {
        Err(ParquetFault::Missing { missing: missing.join(", ") })
    }
}

/// The schema with texts and bytes as views into their pages.
fn viewed(schema: &Schema) -> Schema {
    fn fields(of: &Fields) -> Fields {
        of.iter().map(|field| field.as_ref().clone().with_data_type(data_type(field))).collect()
    }
    fn data_type(field: &Field) -> DataType {
        match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::Binary => DataType::BinaryView,
            DataType::Struct(inner) => DataType::Struct(fields(inner)),
            other => other.clone(),
        }
    }
    Schema::new(fields(schema.fields()))
}

/// Where the native fields stand in a batch.
struct Columns {
    /// The path of each field that the file has.
    paths: [Option<Vec<String>>; SLOTS],
    names: Vec<String>,
}

impl Columns {
    fn of(&self, batch: &RecordBatch) -> Result<[Column; SLOTS], ParquetFault> {
        let mut columns = [const { Column::absent() }; SLOTS];
        for (slot, (column, path)) in columns.iter_mut().zip(&self.paths).enumerate() {
            if let Some(path) = path {
                *column = Column::of(slot, &self.names[slot], batch, path)?;
            }
        }
        Ok(columns)
    }
}

/// One field's values in a batch.
struct Column {
    values: Values,
    /// The nulls of the column and of the groups that it is in.
    nulls: Option<NullBuffer>,
}

/// The values of a column, in one of the types that the rules are told for.
enum Values {
    Absent,
    Integer(Int64Array),
    Unsigned(UInt64Array),
    /// Times in a unit of which there are so many in a second.
    Time(Int64Array, i64),
    Float(Float64Array),
    Text(StringViewArray),
    /// Some of which are not text.
    Bytes(BinaryViewArray),
}

impl Column {
    const fn absent() -> Column {
        Column { values: Values::Absent, nulls: None }
    }

    fn of(
        slot: usize,
        name: &str,
        batch: &RecordBatch,
        path: &[String],
    ) -> Result<Column, ParquetFault> {
        let (array, nulls) = descend(batch, path)?;
        let wrong = |takes| ParquetFault::Type {
            column: name.to_owned(),
            found: array.data_type().to_string(),
            takes,
        };
        let values = Values::of(&array)?;
        let (fits, takes) = match (slot, &values) {
            (slot::TS, Values::Float(_)) => {
                (false, "an integer of milliseconds, a timestamp or text")
            }
            (slot::TS, Values::Absent) => {
                (false, "an integer of milliseconds, a timestamp or text")
            }
            (slot::TS, _) => (true, ""),
            (slot::STATUS | slot::COUNT, values) => {
                (matches!(values, Values::Integer(_) | Values::Unsigned(_)), "an integer")
            }
            (slot::LATENCY_MS | slot::LATENCY_US, values) => {
                let fits =
                    matches!(values, Values::Integer(_) | Values::Unsigned(_) | Values::Float(_));
                (fits, "a number")
            }
            (_, values) => (matches!(values, Values::Text(_) | Values::Bytes(_)), "text"),
        };
        if fits { Ok(Column { values, nulls }) } else { Err(wrong(takes)) }
    }

    fn is_null(&self, index: usize) -> bool {
        matches!(self.values, Values::Absent)
            || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(index))
    }
}

/// The array at a path, with the nulls on the way to it.
fn descend(
    batch: &RecordBatch,
    path: &[String],
) -> Result<(ArrayRef, Option<NullBuffer>), ParquetFault> {
    let lost = || ParquetFault::Missing { missing: format!("{:?}", path.join(".")) };
    let (first, rest) = path.split_first().ok_or_else(lost)?;
    let mut array = Arc::clone(batch.column_by_name(first).ok_or_else(lost)?);
    let mut nulls = array.logical_nulls();
    for name in rest {
        let group = array.as_struct_opt().ok_or_else(lost)?;
        let inner = Arc::clone(group.column_by_name(name).ok_or_else(lost)?);
        nulls = NullBuffer::union(nulls.as_ref(), inner.logical_nulls().as_ref());
        array = inner;
    }
    Ok((array, nulls))
}

impl Values {
    /// The values in the widest type of their kind; absent for a kind that no field takes.
    fn of(array: &ArrayRef) -> Result<Values, ArrowError> {
        let integers =
            || Ok::<_, ArrowError>(cast(array, &DataType::Int64)?.as_primitive().clone());
        Ok(match array.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Values::Integer(integers()?)
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Values::Integer(integers()?),
            DataType::UInt64 => Values::Unsigned(array.as_primitive().clone()),
            DataType::Timestamp(unit, _) => Values::Time(integers()?, per_second(*unit)),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Values::Float(cast(array, &DataType::Float64)?.as_primitive().clone())
            }
            DataType::Utf8View => Values::Text(array.as_string_view().clone()),
            DataType::BinaryView => {
                let bytes = array.as_binary_view();
                bytes
                    .clone()
                    .to_string_view()
                    .map_or_else(|_| Values::Bytes(bytes.clone()), Values::Text)
            }
            _ => Values::Absent,
        })
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Milliseconds of a time of so many units a second.
fn ms_of(time: i64, per_second: i64) -> i64 {
    match per_second {
        1 => time.saturating_mul(1_000),
        _ => time.div_euclid(per_second / 1_000),
    }
}

/// One row of a batch.
struct At<'c> {
    columns: &'c [Column; SLOTS],
    names: &'c [String],
    index: usize,
}

impl<'c> At<'c> {
    /// What the row is.
    fn line(self) -> Line<'c> {
        value::event(self.names, self).map_or_else(Line::Dead, Line::Event)
    }

    /// The values of a field that is not null here.
    fn present(&self, slot: usize) -> Option<&'c Values> {
        let column = &self.columns[slot];
        (!column.is_null(self.index)).then_some(&column.values)
    }
}

impl<'c> Row<'c> for At<'c> {
    fn ts(&mut self) -> Option<Read<i64>> {
        let name = &self.names[slot::TS];
        Some(match self.present(slot::TS)? {
            Values::Time(times, per_second) => {
                value::ts_of_ms(name, ms_of(times.value(self.index), *per_second))
            }
            Values::Integer(_) | Values::Unsigned(_) => {
                let ms = self.integer(slot::TS).flatten().unwrap_or(i64::MAX);
                value::ts_of_ms(name, ms)
            }
            _ => match self.text(slot::TS)? {
                Ok(text) => value::ts_of_text(name, text.get("")),
                Err(reason) => Err(reason),
            },
        })
    }

    fn text(&mut self, slot: usize) -> Option<Read<Text<'c>>> {
        let not_text = || Err(format!("{} is not UTF-8", self.names[slot]));
        Some(match self.present(slot)? {
            Values::Text(texts) => Ok(Text::Plain(texts.value(self.index))),
            Values::Bytes(bytes) => std::str::from_utf8(bytes.value(self.index))
                .map(Text::Plain)
                .or_else(|_| not_text()),
            _ => not_text(),
        })
    }

    fn integer(&self, slot: usize) -> Option<Option<i64>> {
        Some(match self.present(slot)? {
            Values::Integer(integers) => Some(integers.value(self.index)),
            Values::Unsigned(integers) => i64::try_from(integers.value(self.index)).ok(),
            _ => None,
        })
    }

    fn number(&self, slot: usize) -> Option<Read<f64>> {
        Some(Ok(match self.present(slot)? {
            Values::Integer(integers) => integers.value(self.index) as f64,
            Values::Unsigned(integers) => integers.value(self.index) as f64,
            Values::Float(floats) => floats.value(self.index),
            _ => f64::NAN,
        }))
    }

    fn buffer(self) -> &'c str {
        ""
    }
}
