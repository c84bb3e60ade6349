//! Reading: whole files are left out by the log, row groups by statistics and bloom filter,
//! pages by the page index, and what is left is filtered row by row.
//!
//! So a scan is exact: it yields the rows that pass the filter and no others, whatever was left
//! out on the way. [`ScanStats`] says what was read.
//!
//! A file is believed only if it has the size that the log says, and, where it is read whole
//! (no customer is asked for), the hash too: point reads would cost a pass over every file.
//! Files of other writers (after an `OPTIMIZE`, say) may lack columns or have other encodings:
//! what lacks is null, what differs is cast.

mod range;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::{AddAssign, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar, StringArray};
use arrow::array::{TimestampMicrosecondArray, new_null_array};
use arrow::compute::kernels::cmp;
use arrow::compute::{and, cast, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use sha2::{Digest, Sha256};

use super::Table;
use super::entries::Added;
use super::error::TableError;
use super::footers::{self, Footers};
use super::live::LiveFile;
use super::schema::{Grain, timestamp};
use crate::time::{Day, Minute};
pub(crate) use range::Unread;
pub use range::{Customers, Mark};

/// Rows of a batch that a scan yields, at most.
const BATCH_ROWS: usize = 8_192;

/// Bytes read at a time while a file is hashed.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// Which rows and columns of a grain are wanted. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Values of the partition column `day`, both ends included. This, not `minutes`, is what
    /// leaves out whole folders of the table, also for grains without a minute.
    pub days: Option<RangeInclusive<Day>>,
    /// Values of `minute`, both ends included. Rows without a minute do not pass.
    pub minutes: Option<RangeInclusive<Minute>>,
    /// This customer alone. Rows without a customer do not pass.
    pub customer: Option<String>,
    /// These customers alone. Rows without a customer do not pass.
    pub customers: Option<Customers>,
    /// Rows counted from this partition alone. Rows without a partition do not pass.
    pub partition: Option<String>,
    /// These columns alone, in the order of the grain; all where `None`. Names that the grain
    /// does not have are an error.
    pub columns: Option<Vec<&'static str>>,
    /// The rows of this data file alone, by its path in the log.
    pub file: Option<String>,
    /// The files of some entries in place of those that are live at this version.
    pub added: Option<Added>,
}

impl Filter {
    /// Everything of these minutes, both ends included, and of the days that hold them.
    pub fn of_minutes(minutes: RangeInclusive<Minute>) -> Filter {
        let days = minutes.start().day()..=minutes.end().day();
        Filter { days: Some(days), minutes: Some(minutes), ..Filter::default() }
    }

    /// The columns of `grain` that are wanted.
    fn schema(&self, grain: Grain) -> Result<SchemaRef, TableError> {
        let all = grain.schema();
        let Some(columns) = &self.columns else { return Ok(all) };
        if let Some(unknown) = columns.iter().find(|column| all.index_of(column).is_err()) {
            let (grain, column) = (grain.name(), (*unknown).to_owned());
            return Err(TableError::Column { grain, column });
        }
        let wanted = all.fields().iter().filter(|field| columns.contains(&field.name().as_str()));
        Ok(Arc::new(Schema::new(wanted.cloned().collect::<Vec<_>>())))
    }

    /// Whether a wanted customer may lie between two bounds, as far as they are known.
    pub(crate) fn may_hold_customer(&self, least: Option<&[u8]>, greatest: Option<&[u8]>) -> bool {
        let one = self.customer.as_ref().is_none_or(|customer| {
            least.is_none_or(|least| least <= customer.as_bytes())
                && greatest.is_none_or(|greatest| customer.as_bytes() <= greatest)
        });
        one && self.customers.as_ref().is_none_or(|range| range.meets(least, greatest))
    }

    /// The columns that decide on a row.
    fn deciding(&self) -> impl Iterator<Item = &'static str> {
        let minute = self.minutes.is_some().then_some("minute");
        let is_of_some = self.customer.is_some() || self.customers.is_some();
        let customer = is_of_some.then_some("customer");
        let partition = self.partition.is_some().then_some("partition");
        minute.into_iter().chain(customer).chain(partition)
    }
}

/// What a scan looked at, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Live files of the grain.
    pub files: u64,
    /// Files opened.
    pub files_read: u64,
    /// Row groups of the files opened.
    pub row_groups: u64,
    /// Row groups of which pages were read.
    pub row_groups_read: u64,
    /// Rows decoded.
    pub rows_read: u64,
    /// Rows that passed the filter.
    pub rows: u64,
}

impl AddAssign for ScanStats {
    fn add_assign(&mut self, other: ScanStats) {
        self.files += other.files;
        self.files_read += other.files_read;
        self.row_groups += other.row_groups;
        self.row_groups_read += other.row_groups_read;
        self.rows_read += other.rows_read;
        self.rows += other.rows;
    }
}

/// The rows of one grain that pass a filter, batch by batch, in no promised order.
///
/// The files are those of one version of the table: commits that land meanwhile are not seen.
/// After an error the iterator ends.
pub struct Scan {
    query: Arc<Query>,
    files: VecDeque<LiveFile>,
    current: Option<FileReader>,
    stats: ScanStats,
}

/// Where the files of a scan are, and at which version the log names them.
#[derive(Clone)]
pub(crate) struct Place {
    /// The table.
    pub dir: PathBuf,
    /// Its version.
    pub version: u64,
    /// Those of its files that were read before.
    pub footers: Arc<Footers>,
}

struct Query {
    place: Place,
    grain: Grain,
    filter: Filter,
    /// What the scan yields.
    schema: SchemaRef,
    /// What it reads: the same and the deciding columns.
    reads: SchemaRef,
}

impl Scan {
    pub(crate) fn new(
        place: &Place,
        live: &[LiveFile],
        grain: Grain,
        filter: &Filter,
    ) -> Result<Scan, TableError> {
        let schema = filter.schema(grain)?;
        let mut reads = schema.fields().to_vec();
        for name in filter.deciding().filter(|name| schema.index_of(name).is_err()) {
            let column = || TableError::Column { grain: grain.name(), column: name.to_owned() };
            let known = grain.schema();
            reads.push(Arc::new(known.field_with_name(name).map_err(|_| column())?.clone()));
        }
        let reads = Arc::new(Schema::new(reads));
        let of_grain = live.iter().filter(|file| file.grain == grain.name()).count();
        let mut files: Vec<LiveFile> =
            live.iter().filter(|file| file.may_hold(grain, filter)).cloned().collect();
        // What is folded minute by minute comes cheapest in the order of time. Names of files say
        // nothing of that.
        files.sort_by_key(|file| (file.day, file.minutes));
        Ok(Scan {
            files: files.into(),
            query: Arc::new(Query {
                place: place.clone(),
                grain,
                filter: filter.clone(),
                schema,
                reads,
            }),
            current: None,
            stats: ScanStats { files: of_grain as u64, ..ScanStats::default() },
        })
    }

    /// The columns of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.query.schema
    }

    /// What was read up to here.
    pub fn stats(&self) -> ScanStats {
        self.stats
    }

    /// The same rows as several scans, one for each file, so that they can be read in parallel.
    pub fn split(self) -> Vec<Scan> {
        let Scan { query, files, current, mut stats } = self;
        let mut parts = Vec::with_capacity(files.len() + 1);
        if current.is_some() {
            let files = VecDeque::new();
            parts.push(Scan { query: Arc::clone(&query), files, current, stats });
            stats = ScanStats::default();
        }
        for file in files {
            let (query, files) = (Arc::clone(&query), VecDeque::from([file]));
            parts.push(Scan { query, files, current: None, stats });
            stats = ScanStats::default();
        }
        parts
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        loop {
            if let Some(reader) = &mut self.current {
                if let Some(batch) = reader.next(&self.query, &mut self.stats)? {
                    return Ok(Some(batch));
                }
                self.current = None;
            }
            let Some(file) = self.files.pop_front() else { return Ok(None) };
            self.current = FileReader::open(&self.query, &file, &mut self.stats)?;
        }
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch();
        if next.is_err() {
            self.files.clear();
            self.current = None;
        }
        next.transpose()
    }
}

struct FileReader {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    /// Whether the customers of its rows never fall.
    in_order: bool,
}

impl FileReader {
    /// Opens a file at the pages that may hold wanted rows; `None` where there is none.
    fn open(
        query: &Query,
        file: &LiveFile,
        stats: &mut ScanStats,
    ) -> Result<Option<FileReader>, TableError> {
        let is_whole = query.filter.customer.is_none() && query.filter.customers.is_none();
        let (path, builder) = opened(&query.place, file, is_whole)?;
        let failed = |source| TableError::parquet(&path, source);
        let columns = Columns::of(builder.parquet_schema());
        let mut groups = Vec::new();
        for index in 0..builder.metadata().num_row_groups() {
            let group = builder.metadata().row_group(index);
            if may_hold(group, &columns, &query.filter)
                && bloom_may_hold(&builder, index, &columns, &query.filter).map_err(failed)?
            {
                groups.push(index);
            }
        }
        let metadata = Arc::clone(builder.metadata());
        // Only of what was written here, and has its hash, is what it declares known to be so.
        let in_order = file.sha256.is_some() && range::is_in_order(&metadata, &columns);
        let selection = selection_of(&metadata, &groups, &columns, &query.filter);
        stats.files_read += 1;
        stats.row_groups += metadata.num_row_groups() as u64;
        stats.row_groups_read += groups.len() as u64;
        if groups.is_empty() {
            return Ok(None);
        }
        let wanted = query.reads.fields().iter().map(|field| field.name().as_str());
        let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
        let mut builder =
            builder.with_row_groups(groups).with_projection(mask).with_batch_size(BATCH_ROWS);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let batches = builder.build().map_err(failed)?;
        Ok(Some(FileReader { path, batches, in_order }))
    }

    /// The next batch with a row in it.
    fn next(
        &mut self,
        query: &Query,
        stats: &mut ScanStats,
    ) -> Result<Option<RecordBatch>, TableError> {
        let failed = |source: ParquetError| TableError::parquet(&self.path, source);
        for batch in self.batches.by_ref() {
            let batch = batch.map_err(|error| failed(error.into()))?;
            stats.rows_read += batch.num_rows() as u64;
            let batch =
                passed(query, &batch, self.in_order).map_err(|error| failed(error.into()))?;
            if batch.num_rows() > 0 {
                stats.rows += batch.num_rows() as u64;
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

/// A file at its footer, which is kept where parts of the file are read; one that is read as a
/// whole is proven against its hash first.
fn opened(
    place: &Place,
    file: &LiveFile,
    is_whole: bool,
) -> Result<(PathBuf, ParquetRecordBatchReaderBuilder<File>), TableError> {
    let path = place.dir.join(&file.path);
    let handle = match open_checked(&path, file, is_whole) {
        Err(TableError::FileMissing { path }) => return Err(gone(place, file, path)),
        other => other?,
    };
    // Who reads whole files asks once: only point reads find their footers again.
    let footer = if is_whole { footers::read(&handle) } else { place.footers.of(&path, &handle) };
    let footer = footer.map_err(|source| TableError::parquet(&path, source))?;
    Ok((path, ParquetRecordBatchReaderBuilder::new_with_metadata(handle, footer)))
}

/// Why a file is not there: it is live no more, or it is lost.
fn gone(place: &Place, file: &LiveFile, path: PathBuf) -> TableError {
    let newest = Table::open(&place.dir).and_then(|newest| match newest {
        Some(newest) => newest.live_files(),
        None => Ok(Arc::default()),
    });
    match newest {
        Ok(live) if live.iter().all(|live| live.path != file.path) => {
            TableError::SnapshotExpired { path, version: place.version }
        }
        _ => TableError::FileMissing { path },
    }
}

/// Opens a file that has the size, and the hash if `whole`, that the log says.
pub(crate) fn open_checked(path: &Path, file: &LiveFile, whole: bool) -> Result<File, TableError> {
    let mut handle = match File::open(path) {
        Ok(handle) => handle,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(TableError::FileMissing { path: path.to_owned() });
        }
        Err(error) => return Err(TableError::io("open", path, error)),
    };
    let found = handle.metadata().map_err(|error| TableError::io("measure", path, error))?.len();
    if found != file.size {
        let (path, expected) = (path.to_owned(), file.size);
        return Err(TableError::FileSize { path, expected, found });
    }
    if let Some(sha256) = file.sha256.as_ref().filter(|_| whole) {
        let hash = hash_of(&mut handle).map_err(|error| TableError::io("read", path, error))?;
        if hash != *sha256 {
            return Err(TableError::FileHash { path: path.to_owned() });
        }
    }
    Ok(handle)
}

fn hash_of(file: &mut File) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// The hash of a whole file, as the log tags it.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the columns that rows are found by are, in one file.
struct Columns {
    customer: Option<usize>,
    minute: Option<usize>,
}

impl Columns {
    fn of(schema: &parquet::schema::types::SchemaDescriptor) -> Columns {
        let at = |name| schema.columns().iter().position(|column| column.path().string() == name);
        Columns { customer: at("customer"), minute: at("minute") }
    }
}

/// Whether the statistics of a row group leave room for a wanted row.
fn may_hold(group: &RowGroupMetaData, columns: &Columns, filter: &Filter) -> bool {
    let statistics = |column: Option<usize>| group.column(column?).statistics();
    let customer = match statistics(columns.customer) {
        Some(Statistics::ByteArray(bounds)) => {
            filter.may_hold_customer(bounds.min_bytes_opt(), bounds.max_bytes_opt())
        }
        _ => true,
    };
    let minute = match (&filter.minutes, statistics(columns.minute)) {
        (Some(minutes), Some(Statistics::Int64(bounds))) if in_microseconds(group, columns) => {
            let (first, last) = micros_of(minutes);
            bounds.min_opt().is_none_or(|least| *least <= last)
                && bounds.max_opt().is_none_or(|greatest| first <= *greatest)
        }
        _ => true,
    };
    customer && minute
}

/// Whether `minute` is stored as we write it: other writers may choose other units.
fn in_microseconds(group: &RowGroupMetaData, columns: &Columns) -> bool {
    use parquet::basic::{LogicalType, TimeUnit};
    columns.minute.is_some_and(|minute| {
        let logical = group.column(minute).column_descr().logical_type_ref();
        matches!(logical, Some(LogicalType::Timestamp(of)) if of.unit == TimeUnit::MICROS)
    })
}

fn micros_of(minutes: &RangeInclusive<Minute>) -> (i64, i64) {
    (minutes.start().start_ms() * 1_000, minutes.end().start_ms() * 1_000)
}

fn bloom_may_hold(
    builder: &ParquetRecordBatchReaderBuilder<File>,
    group: usize,
    columns: &Columns,
    filter: &Filter,
) -> Result<bool, ParquetError> {
    let (Some(customer), Some(column)) = (&filter.customer, columns.customer) else {
        return Ok(true);
    };
    let bloom = builder.get_row_group_column_bloom_filter(group, column)?;
    Ok(bloom.is_none_or(|bloom| bloom.check(&customer.as_str())))
}

/// The rows of `groups` whose pages may hold a wanted row; `None` means all of them.
fn selection_of(
    metadata: &ParquetMetaData,
    groups: &[usize],
    columns: &Columns,
    filter: &Filter,
) -> Option<RowSelection> {
    let (indexes, offsets) = (metadata.column_index()?, metadata.offset_index()?);
    let mut selectors = Vec::new();
    for group in groups {
        let rows = metadata.row_group(*group).num_rows() as usize;
        let mut selection = RowSelection::from(vec![RowSelector::select(rows)]);
        for column in [columns.customer, columns.minute].into_iter().flatten() {
            let index = indexes.get(*group)?.get(column)?;
            let starts: Vec<usize> = offsets
                .get(*group)?
                .get(column)?
                .page_locations()
                .iter()
                .map(|page| page.first_row_index as usize)
                .collect();
            let pages = (0..starts.len()).map(|page| {
                let end = starts.get(page + 1).copied().unwrap_or(rows);
                let length = end - starts[page];
                if page_may_hold(index, page, metadata.row_group(*group), columns, filter) {
                    RowSelector::select(length)
                } else {
                    RowSelector::skip(length)
                }
            });
            selection = selection.intersection(&RowSelection::from(pages.collect::<Vec<_>>()));
        }
        selectors.extend(selection.iter().copied());
    }
    Some(RowSelection::from(selectors))
}

/// Whether the bounds of one page of the customer or minute column leave room.
fn page_may_hold(
    index: &ColumnIndexMetaData,
    page: usize,
    group: &RowGroupMetaData,
    columns: &Columns,
    filter: &Filter,
) -> bool {
    match (index, &filter.minutes) {
        (ColumnIndexMetaData::BYTE_ARRAY(index), _) => {
            filter.may_hold_customer(index.min_value(page), index.max_value(page))
        }
        (ColumnIndexMetaData::INT64(index), Some(minutes)) if in_microseconds(group, columns) => {
            let (first, last) = micros_of(minutes);
            index.min_value(page).is_none_or(|least| *least <= last)
                && index.max_value(page).is_none_or(|greatest| first <= *greatest)
        }
        _ => true,
    }
}

/// The rows of a batch that pass the filter, in the columns that are wanted.
fn passed(query: &Query, batch: &RecordBatch, in_order: bool) -> arrow::error::Result<RecordBatch> {
    let mut batch = shaped(&query.reads, batch)?;
    if let Some(customers) = &query.filter.customers {
        batch = customers.of(&batch, in_order)?;
    }
    let column = |name: &str| batch.column_by_name(name).expect("deciding columns are read");
    let filter = &query.filter;
    let mut mask: Option<BooleanArray> = None;
    let mut require = |condition: BooleanArray| -> arrow::error::Result<()> {
        mask = Some(match mask.take() {
            Some(mask) => and(&mask, &condition)?,
            None => condition,
        });
        Ok(())
    };
    if let Some(customer) = &filter.customer {
        require(cmp::eq(column("customer"), &text(customer))?)?;
    }
    if let Some(partition) = &filter.partition {
        require(cmp::eq(column("partition"), &text(partition))?)?;
    }
    if let Some(minutes) = &filter.minutes {
        let (first, last) = micros_of(minutes);
        require(cmp::gt_eq(column("minute"), &time(first))?)?;
        require(cmp::lt_eq(column("minute"), &time(last))?)?;
    }
    let wanted: Vec<usize> = (0..query.schema.fields().len()).collect();
    let batch = match mask {
        Some(mask) if mask.true_count() < batch.num_rows() => filter_record_batch(&batch, &mask)?,
        _ => batch,
    };
    batch.project(&wanted)
}

fn text(value: &str) -> Scalar<StringArray> {
    Scalar::new(StringArray::from(vec![value]))
}

fn time(micros: i64) -> Scalar<TimestampMicrosecondArray> {
    Scalar::new(TimestampMicrosecondArray::from(vec![micros]).with_data_type(timestamp()))
}

/// The batch in the columns of `schema`: what lacks is null, what differs is cast.
fn shaped(schema: &SchemaRef, batch: &RecordBatch) -> arrow::error::Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<arrow::error::Result<Vec<ArrayRef>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}
