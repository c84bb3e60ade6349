//! Reading hours and days: coarse rows for what was compacted, rows of minutes for the rest.
//!
//! A coarse file sums exactly one file of minutes, which its tag `covers` names. It counts while
//! that file is live, and then in its place; a file of minutes without one is read itself. So
//! what is read is the sum of the minutes in every state of the table: late rows are in files
//! that nothing covers yet, and a coarse file whose minutes another program has rewritten is
//! passed over.

use std::collections::HashSet;

use super::live::LiveFile;
use super::read::SeriesRow;
use super::schema::Grain;
use super::{Filter, Scan, ScanStats, Table, TableError};
use crate::time::{DAY_MINUTES, Minute};

/// Minutes in an hour.
pub(crate) const HOUR_MINUTES: u32 = 60;

/// The files that together hold each minute of `series` once: those of `coarse` that count, and
/// those of minutes that none of them covers.
pub(super) fn split(live: &[LiveFile], coarse: Grain) -> (Vec<LiveFile>, Vec<LiveFile>) {
    let of = |grain: Grain| live.iter().filter(move |file| file.grain == grain.name());
    let minutes: HashSet<&str> = of(Grain::Series).map(|file| file.path.as_str()).collect();
    let (mut covered, mut counted) = (HashSet::new(), Vec::new());
    for file in of(coarse) {
        if let Some(covers) = file.covers.as_deref()
            && minutes.contains(covers)
            && covered.insert(covers)
        {
            counted.push(file.clone());
        }
    }
    let rest = of(Grain::Series).filter(|file| !covered.contains(file.path.as_str()));
    (counted, rest.cloned().collect())
}

impl Table {
    /// Visits rows of whole hours of the series: [`SeriesRow::minute`] is the first minute of
    /// the hour, and `partition` is empty. Rows are partial, as everywhere. The minutes of
    /// `filter` are widened to whole hours; a partition cannot be asked for.
    ///
    /// The sums are those of [`Table::for_each_series`] over the same hours, from up to sixty
    /// times fewer rows where the table was compacted.
    ///
    /// # Errors
    /// As [`Table::for_each_series`]; [`TableError::Column`] for a filter by partition.
    pub fn for_each_series_hour(
        &self,
        filter: &Filter,
        visit: impl FnMut(SeriesRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_coarse(Grain::SeriesHour, HOUR_MINUTES, filter, visit)
    }

    /// As [`Table::for_each_series_hour`], of whole UTC days.
    ///
    /// # Errors
    /// As [`Table::for_each_series_hour`].
    pub fn for_each_series_day(
        &self,
        filter: &Filter,
        visit: impl FnMut(SeriesRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_coarse(Grain::SeriesDay, DAY_MINUTES, filter, visit)
    }

    fn for_each_coarse(
        &self,
        grain: Grain,
        unit_minutes: u32,
        filter: &Filter,
        mut visit: impl FnMut(SeriesRow<'_>),
    ) -> Result<ScanStats, TableError> {
        let filter = widened(filter, unit_minutes);
        let corrections = self.applied(&filter)?;
        let all = Minute(0)..=Minute(u32::MAX);
        let minutes = filter.minutes.as_ref().unwrap_or(&all);
        let (mut coarse, mut rest) = split(&self.live_files()?, grain);
        if corrections.touches(*minutes.start(), *minutes.end()) {
            // A coarse row cannot be taken apart into the minutes that a correction names.
            let live = self.live_files()?;
            let is_minutes = |file: &&LiveFile| file.grain == Grain::Series.name();
            (coarse, rest) = (Vec::new(), live.iter().filter(is_minutes).cloned().collect());
        }
        let place = self.scan_place();
        let mut scan = Scan::new(&place, &coarse, grain, &filter)?;
        super::read::visit_series(&mut scan, grain, &mut visit)?;
        let mut stats = scan.stats();
        let mut scan = Scan::new(&place, &rest, Grain::Series, &filter)?;
        super::read::visit_series(&mut scan, Grain::Series, |row| {
            let row = corrections.series(row);
            visit(SeriesRow { minute: floor(row.minute, unit_minutes), partition: "", ..row });
        })?;
        stats += scan.stats();
        Ok(stats)
    }
}

/// The first minute of the unit that a minute is in.
pub(crate) fn floor(minute: Minute, unit_minutes: u32) -> Minute {
    Minute(minute.0 - minute.0 % unit_minutes)
}

/// The same filter over whole units.
fn widened(filter: &Filter, unit_minutes: u32) -> Filter {
    let minutes = filter.minutes.as_ref().map(|minutes| {
        let last = floor(*minutes.end(), unit_minutes);
        floor(*minutes.start(), unit_minutes)..=Minute(last.0.saturating_add(unit_minutes - 1))
    });
    Filter { minutes, ..filter.clone() }
}
