//! One shard: the names, records and series of the customers that hash to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::block::{Record, ShardPart};
use super::dimensions::Dimensions;
use super::intern::Interner;
use super::rows::further_counts;
use super::series::Series;
use super::{HISTOGRAM_MINUTES, RECENT_MINUTES};
use crate::model::{Counts, Measures, Outcome};
use crate::slo::histogram::Histogram;
use crate::time::Minute;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Names, records and series; nothing outside touches them while a batch is applied.
#[derive(Default)]
pub struct Shard {
    /// The names of its customers.
    pub customers: Interner,
    /// What was applied since the last cut, in order.
    pub records: Vec<Record>,
    /// By customer: its series with the number of their service.
    series: Vec<Vec<(u32, Series)>>,
    /// Valid and bad events of the last hours by minute and tuple.
    pub recent: Map<(Minute, u32), Counts>,
    service_names: Map<u32, Arc<str>>,
    /// Series with a bad event of any SLI, by customer and service.
    hot: BTreeMap<(u32, u32), Heat>,
}

/// The number of no partition: that of rows whose source nobody counts any more.
pub const NOBODY: u16 = u16::MAX;

/// A series that may burn.
struct Heat {
    /// When its last bad event was.
    last: Minute,
    /// The partition of its newest rows, and their minute.
    partition: u16,
    newest: Minute,
    /// Another partition that had rows of it before, or [`NOBODY`].
    other: u16,
}

impl Shard {
    /// Takes its part of a block; `tuples` translates the block's tuples.
    pub fn take(&mut self, part: &ShardPart, tuples: &[u32]) {
        let customers: Vec<u32> =
            part.customers().map(|name| self.customers.intern(name)).collect();
        self.records.extend(part.records.iter().map(|record| Record {
            customer: customers[record.customer as usize],
            tuple: tuples[record.tuple as usize],
            ..*record
        }));
    }

    /// Folds the records from `start` on into the series; `newest` is the newest minute of
    /// which anything is known.
    pub fn fold(&mut self, start: usize, dimensions: &Dimensions, further: usize, newest: Minute) {
        let oldest_histogram = newest.minus(HISTOGRAM_MINUTES);
        let oldest_recent = newest.minus(RECENT_MINUTES);
        let records = std::mem::take(&mut self.records);
        for record in records[start..].iter().filter(|record| record.count > 0) {
            let service = dimensions.tuple(record.tuple).service;
            let series = self.series(record.customer, service, dimensions, further);
            series.add(record.minute, &record.measures());
            for sli in 0..further {
                let counts = further_counts(record, sli);
                if counts != Counts::default() {
                    series.add_further(sli, record.minute, counts);
                }
            }
            if record.class.timed && record.minute > oldest_histogram {
                let histogram = series.histogram(record.minute);
                histogram.record(record.latency_us, u64::from(record.count));
            }
            if record.minute > oldest_recent {
                self.note(record);
            }
            let class = record.class;
            if class.availability == Some(Outcome::Bad) || class.slow || class.further_bad != 0 {
                self.heat(record.customer, service, record.minute);
                self.own(record.customer, service, record.minute, record.partition);
            }
        }
        self.records = records;
    }

    /// Notes that a series had a bad event.
    pub fn heat(&mut self, customer: u32, service: u32, minute: Minute) {
        let cold = Heat { last: minute, partition: NOBODY, newest: Minute(0), other: NOBODY };
        let heat = self.hot.entry((customer, service)).or_insert(cold);
        heat.last = minute.max(heat.last);
    }

    /// Whether a series may burn.
    pub fn is_hot(&self, customer: &str, service: u32) -> bool {
        let known = self.customers.find(customer);
        known.is_some_and(|customer| self.hot.contains_key(&(customer, service)))
    }

    /// Notes from which partition a series that may burn has rows of a minute: the newest rows
    /// say whose it is.
    pub fn own(&mut self, customer: u32, service: u32, minute: Minute, partition: u16) {
        if let Some(heat) = self.hot.get_mut(&(customer, service))
            && heat.newest <= minute
        {
            if heat.partition != partition && heat.partition != NOBODY {
                heat.other = heat.partition;
            }
            (heat.newest, heat.partition) = (minute, partition);
        }
    }

    /// Series whose last bad event was before `oldest` burn no more.
    pub fn cool(&mut self, oldest: Minute) {
        self.hot.retain(|_, heat| heat.last >= oldest);
    }

    /// The series that may burn, each with the partition of its newest rows.
    pub fn hot_series(&self) -> impl Iterator<Item = (&Series, u16)> {
        self.hot.iter().filter_map(|((customer, service), heat)| {
            let of_customer = self.series.get(*customer as usize)?;
            let found = of_customer.iter().find(|(known, _)| known == service);
            found.map(|(_, series)| (series, heat.partition))
        })
    }

    /// The partitions of the series that may burn and that two partitions have rows of.
    pub fn split_series(&self) -> impl Iterator<Item = (u16, u16)> {
        let split = self.hot.values().filter(|heat| heat.other != NOBODY);
        split.map(|heat| (heat.partition, heat.other))
    }

    /// Forgets what is older than the last hours.
    pub fn forget(&mut self, newest: Minute) {
        let oldest_recent = newest.minus(RECENT_MINUTES);
        self.recent.retain(|(minute, _), _| *minute > oldest_recent);
        let oldest_histogram = newest.minus(HISTOGRAM_MINUTES);
        for (_, series) in self.series.iter_mut().flatten() {
            series.forget_histograms(oldest_histogram);
        }
    }

    /// The series of a customer and service, made at first sight.
    pub fn series(
        &mut self,
        customer: u32,
        service: u32,
        dimensions: &Dimensions,
        further: usize,
    ) -> &mut Series {
        let place = customer as usize;
        if self.series.len() <= place {
            self.series.resize_with(place + 1, Vec::new);
        }
        let of_customer = &mut self.series[place];
        let at = of_customer.iter().position(|(known, _)| *known == service);
        let at = at.unwrap_or_else(|| {
            let text = |id| Arc::from(dimensions.values.text(id));
            let name = self.service_names.entry(service).or_insert_with(|| text(service));
            let who = Arc::from(self.customers.text(customer));
            of_customer.push((service, Series::new(who, Arc::clone(name), further)));
            of_customer.len() - 1
        });
        &mut of_customer[at].1
    }

    /// The series of one customer.
    pub fn series_of(&self, customer: &str) -> impl Iterator<Item = &Series> {
        let known = self.customers.find(customer);
        let series = known.and_then(|id| self.series.get(id as usize));
        series.into_iter().flatten().map(|(_, series)| series)
    }

    /// All series.
    pub fn all_series(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().flatten().map(|(_, series)| series)
    }

    fn note(&mut self, record: &Record) {
        let Measures { valid, bad, excluded, .. } = record.measures();
        let counts = Counts { valid, bad, excluded };
        self.recent.entry((record.minute, record.tuple)).or_default().add(counts);
    }
}

impl Series {
    /// The latency histogram of a minute, made at first sight.
    pub fn histogram(&mut self, minute: Minute) -> &mut Histogram {
        let found = self.histograms.binary_search_by_key(&minute, |(known, _)| *known);
        let at = found.unwrap_or_else(|at| {
            self.histograms.insert(at, (minute, Histogram::default()));
            at
        });
        &mut self.histograms[at].1
    }

    fn forget_histograms(&mut self, oldest: Minute) {
        let keep_from = self.histograms.partition_point(|(minute, _)| *minute <= oldest);
        self.histograms.drain(..keep_from);
    }
}
