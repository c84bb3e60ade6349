//! Ranges of customers: how a question about everybody is cut into questions about some, so that
//! cores work side by side and memory is that of a few ranges.
//!
//! Files are sorted by customer, so a range is some pages of each; of a file that is not, rows
//! are picked one by one. Ranges that tile give every row of a customer once, in whichever order
//! the files are.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;

use super::{Columns, Filter, LiveFile, Query, Scan, TableError, opened};

/// The customers from one to another, in the order of their bytes. The default is everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Customers {
    /// The first of them; `None` = from the very first.
    pub from: Option<String>,
    /// The first one behind them; `None` = to the very last.
    pub before: Option<String>,
}

impl Customers {
    /// Cuts everybody into ranges, one after the other, that begin at `starts`, sorted.
    ///
    /// ```
    /// use ninefold_engine::table::Customers;
    /// let ranges = Customers::tiled(["c".to_owned(), "k".to_owned()]);
    /// assert_eq!(ranges.len(), 3);
    /// assert!(ranges[0].contains("b") && ranges[1].contains("c") && ranges[2].contains("k"));
    /// ```
    pub fn tiled(starts: impl IntoIterator<Item = String>) -> Vec<Customers> {
        let mut ranges = vec![Customers::default()];
        for start in starts {
            let last = ranges.last_mut().expect("there is one from the beginning");
            last.before = Some(start.clone());
            ranges.push(Customers { from: Some(start), before: None });
        }
        ranges
    }

    /// Whether a customer is in it.
    pub fn contains(&self, customer: &str) -> bool {
        self.from.as_deref().is_none_or(|from| from <= customer) && !self.ends_before(customer)
    }

    /// With how many bytes all of them begin alike, at least.
    pub fn shared_bytes(&self) -> usize {
        let (from, before) = (self.from.as_deref(), self.before.as_deref());
        let pairs = from.unwrap_or_default().bytes().zip(before.unwrap_or_default().bytes());
        pairs.take_while(|(from, before)| from == before).count()
    }

    /// Whether a customer and all behind are not in it any more.
    fn ends_before(&self, customer: &str) -> bool {
        self.before.as_deref().is_some_and(|before| before <= customer)
    }

    /// Whether one between two bounds may be in it; a bound that is not known leaves room.
    pub(in crate::table) fn meets(&self, least: Option<&[u8]>, greatest: Option<&[u8]>) -> bool {
        let (from, before) = (self.from.as_deref(), self.before.as_deref());
        from.zip(greatest).is_none_or(|(from, greatest)| from.as_bytes() <= greatest)
            && before.zip(least).is_none_or(|(before, least)| least < before.as_bytes())
    }

    /// The rows of a batch that are in it; `in_order` says that customers never fall in it.
    pub(super) fn of(
        &self,
        batch: &RecordBatch,
        in_order: bool,
    ) -> arrow::error::Result<RecordBatch> {
        let column = batch.column_by_name("customer").expect("deciding columns are read");
        let customers = column.as_string::<i32>();
        if !in_order || customers.null_count() > 0 {
            let inside =
                |row: usize| customers.is_valid(row) && self.contains(customers.value(row));
            let mask: BooleanArray = (0..customers.len()).map(|row| Some(inside(row))).collect();
            return filter_record_batch(batch, &mask);
        }
        let is_before = |customer: &str| self.from.as_deref().is_some_and(|from| customer < from);
        let first = partition_point(customers, is_before);
        let end = partition_point(customers, |customer| !self.ends_before(customer));
        Ok(batch.slice(first, end.saturating_sub(first)))
    }
}

/// How many values at the beginning of a sorted column are so.
fn partition_point(column: &StringArray, is_so: impl Fn(&str) -> bool) -> usize {
    let (mut least, mut end) = (0, column.len());
    while least < end {
        let middle = least + (end - least) / 2;
        if is_so(column.value(middle)) { least = middle + 1 } else { end = middle }
    }
    least
}

/// Whether every row group of a file says that its rows are sorted by customer first, and their
/// bounds that none begins before the one ahead of it ends.
pub(super) fn is_in_order(metadata: &ParquetMetaData, columns: &Columns) -> bool {
    let Some(customer) = columns.customer else { return false };
    let mut end: &[u8] = &[];
    metadata.row_groups().iter().all(|group| {
        let first = group.sorting_columns().and_then(|sorting| sorting.first());
        let is_by_customer = |first: &SortingColumn| {
            !first.descending && usize::try_from(first.column_idx) == Ok(customer)
        };
        let Some(Statistics::ByteArray(bounds)) = group.column(customer).statistics() else {
            return false;
        };
        let bounds = bounds.min_bytes_opt().zip(bounds.max_bytes_opt());
        let follows = bounds.is_some_and(|(least, _)| end <= least);
        end = bounds.map_or(end, |(_, greatest)| greatest);
        follows && first.is_some_and(is_by_customer)
    })
}

/// A place between the customers of a file: a customer, and about how many rows begin there.
pub type Mark = (String, u64);

/// The files of a scan of which nothing was read yet; unlike that, several threads may share it.
pub(crate) struct Unread {
    query: Arc<Query>,
    files: Vec<LiveFile>,
}

impl Scan {
    /// What is not read yet.
    pub(crate) fn unread(self) -> Unread {
        Unread { query: self.query, files: self.files.into() }
    }
}

impl Unread {
    /// How many rows the files have, where the log says so.
    pub(crate) fn rows_logged(&self) -> Option<u64> {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// The rows: those of some customers, for which the files are not proven against their hashes,
    /// since [`Unread::marks`] does that once for all ranges; or all of them.
    pub(crate) fn scan(&self, customers: Option<&Customers>) -> Result<Scan, TableError> {
        let Query { place, grain, filter, .. } = &*self.query;
        let filter = Filter { customers: customers.cloned(), ..filter.clone() };
        Scan::new(place, &self.files, *grain, &filter)
    }

    /// Proves the files against the log and says where between customers they can be cut.
    pub(crate) fn marks(&self) -> Result<Vec<Mark>, TableError> {
        let mut marks = Vec::new();
        for file in &self.files {
            let (_, builder) = opened(&self.query.place, file, true)?;
            let columns = Columns::of(builder.parquet_schema());
            marks_of(builder.metadata(), &columns, &mut marks);
        }
        Ok(marks)
    }
}

/// The least customer of every page, or of every row group where pages have no index, and how
/// many rows are there. What does not name its least customer makes no mark.
fn marks_of(metadata: &ParquetMetaData, columns: &Columns, marks: &mut Vec<Mark>) {
    let Some(customer) = columns.customer else { return };
    for (at, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows().max(0) as u64;
        let index = metadata.column_index().and_then(|index| index.get(at)?.get(customer));
        let pages = metadata.offset_index().and_then(|index| index.get(at)?.get(customer));
        let mut mark = |least: Option<&[u8]>, rows: u64| {
            let least = least.and_then(|least| std::str::from_utf8(least).ok());
            marks.extend(least.map(|least| (least.to_owned(), rows)));
        };
        if let (Some(ColumnIndexMetaData::BYTE_ARRAY(index)), Some(pages)) = (index, pages) {
            let starts: Vec<u64> =
                pages.page_locations().iter().map(|page| page.first_row_index as u64).collect();
            let ends = starts.iter().skip(1).copied().chain([rows]);
            for (page, (start, end)) in starts.iter().zip(ends).enumerate() {
                mark(index.min_value(page), end.saturating_sub(*start));
            }
        } else if let Some(Statistics::ByteArray(bounds)) = group.column(customer).statistics() {
            mark(bounds.min_bytes_opt(), rows);
        }
    }
}
