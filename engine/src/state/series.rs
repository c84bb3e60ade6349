//! One series: the counts of one customer and service, minute by minute.
//!
//! Invariants: a minute's counts stand in [`Cells`], none empty; a window's sum is the sum of
//! its minutes, so it equals a recount of the raw events whatever order they came in.

use std::iter;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::cells::Cells;
use super::snapshot::{Reader, push_number, push_run};
use crate::model::{Counts, Measures};
use crate::slo::histogram::Histogram;
use crate::time::Minute;

/// The counts of one active minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// When.
    pub minute: Minute,
    /// What.
    pub measures: Measures,
}

/// The counts of one active minute by one further SLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliCell {
    /// When.
    pub minute: Minute,
    /// What.
    pub counts: Counts,
}

/// The minutes of one further SLI, packed as those of the first two are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SliCells(Cells);

/// One customer and service.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Who was served.
    pub customer: Arc<str>,
    /// By which component.
    pub service: Arc<str>,
    /// The default availability SLI and the first latency SLI.
    pub cells: Cells,
    /// Latency of the timed events, sorted by minute; only of the minutes that were asked for
    /// (live: the last two hours), since longer spans merge the table's rows.
    pub histograms: Vec<(Minute, Histogram)>,
    /// The further SLIs in the order of the configuration.
    pub further: Vec<SliCells>,
}

impl Series {
    /// A series without events.
    pub fn new(customer: Arc<str>, service: Arc<str>, further_slis: usize) -> Series {
        Series {
            customer,
            service,
            cells: Cells::default(),
            histograms: Vec::new(),
            further: vec![SliCells::default(); further_slis],
        }
    }

    /// Adds the counts of one minute, late ones included.
    pub fn add(&mut self, minute: Minute, measures: &Measures) {
        self.cells.add(minute, measures);
    }

    /// Adds the counts of one minute by further SLI `sli`.
    pub fn add_further(&mut self, sli: usize, minute: Minute, counts: Counts) {
        let Counts { valid, bad, excluded } = counts;
        let measures = Measures { valid, bad, excluded, ..Measures::default() };
        self.further[sli].0.add(minute, &measures);
    }

    /// The cells of a range of minutes, both ends included, in order.
    pub fn cells_in(&self, minutes: RangeInclusive<Minute>) -> impl Iterator<Item = Cell> {
        self.cells.within(minutes)
    }

    /// Whether it has events in a range of minutes, both ends included.
    pub fn is_active_in(&self, minutes: RangeInclusive<Minute>) -> bool {
        self.cells.any_within(minutes)
    }

    /// The sum over a range of minutes, both ends included.
    pub fn sum(&self, minutes: RangeInclusive<Minute>) -> Measures {
        self.cells.sum(minutes)
    }

    /// The sum by further SLI `sli` over a range of minutes, both ends included.
    pub fn sum_further(&self, sli: usize, minutes: RangeInclusive<Minute>) -> Counts {
        self.further[sli].sum(minutes)
    }

    /// As [`Series::add`]; by how many bytes it has grown.
    pub fn add_sized(&mut self, minute: Minute, measures: &Measures) -> isize {
        let before = self.cells.heap_bytes() as isize;
        self.cells.add(minute, measures);
        self.cells.heap_bytes() as isize - before
    }

    /// As [`Series::add_further`]; by how many bytes it has grown.
    pub fn add_further_sized(&mut self, sli: usize, minute: Minute, counts: Counts) -> isize {
        let before = self.further[sli].0.heap_bytes() as isize;
        self.add_further(sli, minute, counts);
        self.further[sli].0.heap_bytes() as isize - before
    }

    /// Records a latency `count` times; by how many bytes it has grown.
    pub fn record_sized(&mut self, minute: Minute, us: u32, count: u64) -> isize {
        let room = self.histograms.capacity();
        let histogram = self.histogram(minute);
        let before = histogram.heap_bytes() as isize;
        histogram.record(us, count);
        let grown = histogram.heap_bytes() as isize - before;
        grown + ((self.histograms.capacity() - room) * size_of::<(Minute, Histogram)>()) as isize
    }

    /// The most bad events that any SLI has seen since a minute.
    pub fn most_bad(&self, since: Minute) -> u64 {
        let minutes = since..=Minute(u32::MAX);
        let Measures { bad, slow, .. } = self.sum(minutes.clone());
        let further = self.further.iter().map(|cells| cells.sum(minutes.clone()).bad);
        further.fold(bad.max(slow), u64::max)
    }

    /// Whether [`Series::forget`] has something to do.
    pub fn has_older(&self, oldest: Minute) -> bool {
        let mut all = iter::once(&self.cells).chain(self.further.iter().map(|cells| &cells.0));
        self.histograms.first().is_some_and(|(minute, _)| *minute <= oldest)
            || all.any(|cells| cells.has_unpacked_before(oldest) || cells.is_loose())
    }

    /// Packs the minutes before `minute`.
    pub fn pack_before(&mut self, minute: Minute) {
        self.cells.pack_before(minute);
        self.further.iter_mut().for_each(|cells| cells.0.pack_before(minute));
    }

    /// Packs as closely as can be what is packed, as [`Cells::tighten`].
    pub fn tighten(&mut self) {
        self.cells.tighten();
        self.further.iter_mut().for_each(|cells| cells.0.tighten());
    }

    /// Drops the minutes before `minute`, as [`Cells::drop_before`].
    pub fn drop_before(&mut self, minute: Minute) {
        self.cells.drop_before(minute);
        self.further.iter_mut().for_each(|cells| cells.0.drop_before(minute));
    }

    /// How much memory the latencies take, in bytes.
    pub fn bytes_of_latency(&self) -> usize {
        let slots: usize = self.histograms.iter().map(|(_, one)| one.heap_bytes()).sum();
        self.histograms.capacity() * size_of::<(Minute, Histogram)>() + slots
    }

    /// How much memory its minutes take, in bytes.
    pub fn bytes_of_minutes(&self) -> usize {
        let further: usize = self.further.iter().map(|cells| cells.0.heap_bytes()).sum();
        self.cells.heap_bytes() + further
    }

    /// How much memory it takes, names aside, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Series>()
            + self.further.capacity() * size_of::<SliCells>()
            + self.bytes_of_minutes()
            + self.bytes_of_latency()
    }

    /// The latency histogram of a minute, made at first sight.
    pub fn histogram(&mut self, minute: Minute) -> &mut Histogram {
        let found = self.histograms.binary_search_by_key(&minute, |(known, _)| *known);
        let at = found.unwrap_or_else(|at| {
            if self.histograms.len() == self.histograms.capacity() {
                self.histograms.reserve_exact(self.histograms.len().max(1));
            }
            self.histograms.insert(at, (minute, Histogram::default()));
            at
        });
        &mut self.histograms[at].1
    }

    /// Drops the minutes before `minute`.
    pub fn forget_before(&mut self, minute: Minute) {
        self.cells.forget_before(minute);
        self.further.iter_mut().for_each(|cells| cells.0.forget_before(minute));
        self.histograms.retain(|(known, _)| *known >= minute);
    }

    /// Whether it has no event.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.further.iter().all(|cells| cells.0.is_empty())
    }

    /// Appends it to bytes, its names aside.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.cells.write(out);
        self.further.iter().for_each(|cells| cells.0.write(out));
        push_number(out, self.histograms.len() as u64);
        let mut encoded = Vec::new();
        for (minute, histogram) in &self.histograms {
            encoded.clear();
            histogram.encode_v2(&mut encoded);
            push_number(out, u64::from(minute.0));
            push_run(out, &encoded);
        }
    }

    /// Reads what [`Series::write`] has written; `None` where it is something else.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        customer: Arc<str>,
        service: Arc<str>,
        further_slis: usize,
    ) -> Option<Series> {
        let cells = Cells::read(reader)?;
        let further = (0..further_slis).map(|_| Cells::read(reader).map(SliCells));
        let further = further.collect::<Option<Vec<SliCells>>>()?;
        let histograms = (0..reader.number()?).map(|_| {
            let minute = reader.minute()?;
            Some((minute, Histogram::decode_v2(reader.run()?).ok()?))
        });
        let mut histograms = histograms.collect::<Option<Vec<(Minute, Histogram)>>>()?;
        histograms.shrink_to_fit();
        let is_sorted = histograms.is_sorted_by(|a, b| a.0 < b.0);
        is_sorted.then_some(Series { customer, service, cells, histograms, further })
    }

    /// Drops the latencies up to a minute, and packs what stands before it; more closely where no
    /// late minutes came for some time, as [`Cells::settle`].
    pub fn forget(&mut self, oldest: Minute) {
        let keep_from = self.histograms.partition_point(|(minute, _)| *minute <= oldest);
        if keep_from > 0 {
            self.histograms.drain(..keep_from);
            self.histograms.shrink_to_fit();
        }
        self.pack_before(oldest);
        self.cells.settle();
        self.further.iter_mut().for_each(|cells| cells.0.settle());
    }
}

impl SliCells {
    /// The sum over a range of minutes, both ends included.
    pub fn sum(&self, minutes: RangeInclusive<Minute>) -> Counts {
        self.0.sum(minutes).counts()
    }

    /// As [`Cells::sums_from`].
    pub fn sums_from(&self, starts: &[Minute], to: Minute) -> Vec<Measures> {
        self.0.sums_from(starts, to)
    }

    /// Whether a range of minutes, both ends included, holds an event.
    pub fn any_within(&self, minutes: RangeInclusive<Minute>) -> bool {
        self.0.any_within(minutes)
    }

    /// As [`Cells::runs`].
    pub fn runs(&self, to: Minute) -> (Vec<(RangeInclusive<Minute>, Measures)>, &[Cell]) {
        self.0.runs(to)
    }

    /// The minutes in order.
    pub fn iter(&self) -> impl Iterator<Item = SliCell> {
        self.within(Minute(0)..=Minute(u32::MAX))
    }

    /// The minutes of a range, both ends included, in order.
    pub fn within(&self, minutes: RangeInclusive<Minute>) -> impl Iterator<Item = SliCell> {
        let cell = |cell: Cell| SliCell { minute: cell.minute, counts: cell.measures.counts() };
        self.0.within(minutes).map(cell)
    }
}

impl<'a> IntoIterator for &'a SliCells {
    type Item = SliCell;
    type IntoIter = Box<dyn Iterator<Item = SliCell> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}
