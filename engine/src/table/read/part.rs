//! The rows of one file at a time, so that files can be read side by side, and some customers of
//! it alone.

use std::sync::Arc;

use super::{Columns, CustomerKey, SeriesRow, SliRow, SourceKey, visit_batch};
use crate::model::Counts;
use crate::table::correction::Applied;
use crate::table::schema::Grain;
use crate::table::{Customers, Filter, Mark, Scan, Table, TableError, Unread};

/// Rows of one file, and the corrections of them.
pub(super) struct Part {
    pub scan: Scan,
    pub corrections: Arc<Applied>,
}

/// Rows of [`Grain::Series`] of one file: see [`Table::series_parts`].
pub struct SeriesPart(pub(super) Part);

impl SeriesPart {
    /// Visits its next rows, a few thousand at most; false where there are none any more.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn next_rows(&mut self, mut visit: impl FnMut(SeriesRow<'_>)) -> Result<bool, TableError> {
        let Some(batch) = self.0.scan.next() else { return Ok(false) };
        let corrections = &self.0.corrections;
        match corrections.is_empty() {
            true => visit_batch(&batch?, Grain::Series, visit)?,
            false => visit_batch(&batch?, Grain::Series, |row| visit(corrections.series(row)))?,
        }
        Ok(true)
    }
}

/// Rows of [`Grain::Sli`] of one file.
pub struct SliPart(pub(super) Part);

impl SliPart {
    /// As [`SeriesPart::next_rows`].
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn next_rows(&mut self, mut visit: impl FnMut(SliRow<'_>)) -> Result<bool, TableError> {
        let Some(batch) = self.0.scan.next() else { return Ok(false) };
        let columns = Columns { grain: Grain::Sli, batch: &batch? };
        let key = CustomerKey::of(&columns);
        let (sli, source) = (columns.text("sli"), SourceKey::of(&columns));
        let [valid, bad, excluded] = columns.ints(["valid", "bad", "excluded"])?;
        for row in 0..columns.rows() {
            let (valid, bad, excluded) = (valid.at(row), bad.at(row), excluded.at(row));
            visit(self.0.corrections.sli(SliRow {
                minute: key.minute.at(row),
                customer: key.customer.at(row),
                service: key.service.at(row),
                release: key.release.at(row),
                cohort: key.cohort.at(row),
                sli: sli.at(row),
                counts: Counts { valid, bad, excluded },
                partition: source.partition.at(row),
                rules: source.rules.at(row),
            }));
        }
        Ok(true)
    }
}

/// A file of rows of customers that can be read in ranges of them, by several threads at once.
pub struct CustomerFile {
    unread: Unread,
    corrections: Arc<Applied>,
}

impl Table {
    /// The files of a grain that may hold rows that pass `filter`, the oldest days first.
    ///
    /// # Errors
    /// As [`Table::scan`].
    pub fn customer_files(
        &self,
        grain: Grain,
        filter: &Filter,
    ) -> Result<Vec<CustomerFile>, TableError> {
        let file = |Part { scan, corrections }| CustomerFile { unread: scan.unread(), corrections };
        Ok(self.parts(grain, filter)?.into_iter().map(file).collect())
    }
}

impl CustomerFile {
    /// How many rows it has, where the log says so.
    pub fn rows_logged(&self) -> Option<u64> {
        self.unread.rows_logged()
    }

    /// Proves it against the log, and says where between customers it can be cut: customers, each
    /// with about how many rows begin there.
    ///
    /// # Errors
    /// It is not what the log says, or cannot be read.
    pub fn marks(&self) -> Result<Vec<Mark>, TableError> {
        self.unread.marks()
    }

    /// Its rows of the grain [`Grain::Series`]: those of some customers, for which it is not proven
    /// again; or all of them.
    ///
    /// # Errors
    /// As [`Table::scan`].
    pub fn series(&self, customers: Option<&Customers>) -> Result<SeriesPart, TableError> {
        self.part(customers).map(SeriesPart)
    }

    /// As [`CustomerFile::series`], of the grain [`Grain::Sli`].
    ///
    /// # Errors
    /// As [`Table::scan`].
    pub fn slis(&self, customers: Option<&Customers>) -> Result<SliPart, TableError> {
        self.part(customers).map(SliPart)
    }

    fn part(&self, customers: Option<&Customers>) -> Result<Part, TableError> {
        let corrections = Arc::clone(&self.corrections);
        Ok(Part { scan: self.unread.scan(customers)?, corrections })
    }
}
