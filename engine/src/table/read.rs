//! Typed rows: what a grain's columns mean, visited without an allocation per row.
//!
//! Each `for_each_…` scans and calls a visitor with one row after the other, in no promised
//! order; text and bytes are borrowed from the batch. A column that was not asked for
//! ([`Filter::columns`]), or is null, reads as the empty text, no bytes or 0. Rows are partial:
//! the visitor sums rows of one key.

mod part;

use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::array::{Array, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::compute;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

use super::schema::Grain;
use super::{Filter, Scan, ScanStats, Table, TableError};
use crate::model::{ATTRIBUTES_MAX, Counts, Measures};
use crate::time::{MINUTE_US, Minute};
use part::Part;
pub use part::{CustomerFile, SeriesPart, SliPart};

/// One row of [`Grain::Series`]: a minute of a customer, service and customer dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesRow<'a> {
    /// When the events were.
    pub minute: Minute,
    /// Who was served.
    pub customer: &'a str,
    /// By which component.
    pub service: &'a str,
    /// The release that served; empty where none was named.
    pub release: &'a str,
    /// The cohort; empty where none was named.
    pub cohort: &'a str,
    /// What was counted.
    pub measures: Measures,
    /// The histogram of the timed events, HdrHistogram V2; empty where none was timed.
    pub latency: &'a [u8],
    /// The partition that it was counted from.
    pub partition: &'a str,
    /// The version of the SLI rules that counted it.
    pub rules: &'a str,
}

/// One row of [`Grain::Sli`]: the counts of one further SLI.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SliRow<'a> {
    /// When the events were.
    pub minute: Minute,
    /// Who was served.
    pub customer: &'a str,
    /// By which component.
    pub service: &'a str,
    /// The release that served; empty where none was named.
    pub release: &'a str,
    /// The cohort; empty where none was named.
    pub cohort: &'a str,
    /// The SLI.
    pub sli: &'a str,
    /// What was counted.
    pub counts: Counts,
    /// The partition that it was counted from.
    pub partition: &'a str,
    /// The version of the SLI rules that counted it.
    pub rules: &'a str,
}

/// One row of [`Grain::Dimension`]: a minute of a service and all its dimensions, all customers
/// together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DimensionRow<'a> {
    /// When the events were.
    pub minute: Minute,
    /// Which component served.
    pub service: &'a str,
    /// The release that served; empty where none was named, as for all that follow.
    pub release: &'a str,
    /// The cohort.
    pub cohort: &'a str,
    /// The region.
    pub region: &'a str,
    /// The route template.
    pub route: &'a str,
    /// The configured attributes, in the order of the configuration.
    pub attributes: [&'a str; ATTRIBUTES_MAX],
    /// What was counted.
    pub measures: Measures,
    /// The histogram of the timed events, HdrHistogram V2; empty where none was timed.
    pub latency: &'a [u8],
    /// The partition that it was counted from.
    pub partition: &'a str,
    /// The version of the SLI rules that counted it.
    pub rules: &'a str,
}

/// One row of [`Grain::Failure`]: bad events of one customer, dimensions and status.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureRow<'a> {
    /// When the events were.
    pub minute: Minute,
    /// Who was hit.
    pub customer: &'a str,
    /// Which component failed.
    pub service: &'a str,
    /// The release that served; empty where none was named, as for all that follow.
    pub release: &'a str,
    /// The cohort.
    pub cohort: &'a str,
    /// The region.
    pub region: &'a str,
    /// The route template.
    pub route: &'a str,
    /// The configured attributes, in the order of the configuration.
    pub attributes: [&'a str; ATTRIBUTES_MAX],
    /// The HTTP status; 0 where none was given.
    pub status: u64,
    /// How many.
    pub bad: u64,
    /// The partition that it was counted from.
    pub partition: &'a str,
    /// The version of the SLI rules that counted it.
    pub rules: &'a str,
}

/// One row of [`Grain::Alert`]: a transition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlertRow<'a> {
    /// When it was.
    pub minute: Minute,
    /// Whose alert.
    pub customer: &'a str,
    /// On which component.
    pub service: &'a str,
    /// Names this alert from firing to resolved.
    pub id: &'a str,
    /// Names the alerts of one objective, series and tier.
    pub fingerprint: &'a str,
    /// The transition as JSON, with the keys of the API.
    pub alert: &'a str,
}

/// One row of [`Grain::Dead`]: a dead letter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeadRow<'a> {
    /// The partition that it was read from.
    pub partition: &'a str,
    /// Where in it.
    pub offset: u64,
    /// Why it could not be counted.
    pub reason: &'a str,
    /// Its first 4 KiB.
    pub line: &'a [u8],
}

/// One row of [`Grain::Source`]: how far one commit counted one partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceRow<'a> {
    /// The partition.
    pub partition: &'a str,
    /// What people call it: the path of the file, say.
    pub name: &'a str,
    /// The offset that this commit counted from.
    pub first: u64,
    /// One past the last offset that it counted.
    pub next: u64,
    /// Lines read: `counted + dead + duplicate`.
    pub read: u64,
    /// Lines counted, excluded ones included.
    pub counted: u64,
    /// Events that those lines stand for: each is as many as its `count`.
    pub events: u64,
    /// Lines that became dead letters.
    pub dead: u64,
    /// Lines dropped as repetitions.
    pub duplicate: u64,
    /// Offsets between `first` and `next` that stand for nothing; 0 where offsets are bytes.
    pub holes: u64,
    /// Lines counted without their latency.
    pub invalid_latency: u64,
    /// SHA-256 of the last KiB before `next`.
    pub tail: &'a [u8],
}

/// One row of [`Grain::Gap`]: a part of a partition that will never be counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GapRow<'a> {
    /// The partition.
    pub partition: &'a str,
    /// Its first offset.
    pub first: u64,
    /// One past its last offset.
    pub next: u64,
    /// Why somebody has accepted it.
    pub reason: &'a str,
    /// First and last minute of which events may be missing; both minute 0 where nothing is
    /// known of that.
    pub minutes: (Minute, Minute),
}

impl Table {
    /// Visits the rows of [`Grain::Series`] that pass `filter`.
    ///
    /// # Errors
    /// As [`Table::scan`] and its iterator; the rows visited until then are no answer.
    pub fn for_each_series(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(SeriesRow<'_>),
    ) -> Result<ScanStats, TableError> {
        let mut stats = ScanStats::default();
        for mut part in self.series_parts(filter)? {
            while part.next_rows(&mut visit)? {}
            stats += part.0.scan.stats();
        }
        Ok(stats)
    }

    /// The rows of [`Grain::Series`] that pass `filter`, in parts that can be read side by side:
    /// one for each file, the oldest first as far as the log says of what minutes they are.
    ///
    /// # Errors
    /// As [`Table::scan`].
    pub fn series_parts(&self, filter: &Filter) -> Result<Vec<SeriesPart>, TableError> {
        Ok(self.parts(Grain::Series, filter)?.into_iter().map(SeriesPart).collect())
    }

    /// Visits the rows of [`Grain::Sli`] that pass `filter`.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_sli(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(SliRow<'_>),
    ) -> Result<ScanStats, TableError> {
        let mut stats = ScanStats::default();
        for part in self.parts(Grain::Sli, filter)? {
            let mut part = SliPart(part);
            while part.next_rows(&mut visit)? {}
            stats += part.0.scan.stats();
        }
        Ok(stats)
    }

    fn parts(&self, grain: Grain, filter: &Filter) -> Result<Vec<Part>, TableError> {
        let corrections = Arc::new(self.applied(filter)?);
        let filter = corrections.widened(filter, &["minute", "customer", "service"]);
        let scans = self.scan(grain, &filter)?.split();
        let part = |scan| Part { scan, corrections: Arc::clone(&corrections) };
        Ok(scans.into_iter().map(part).collect())
    }

    /// Visits the rows of [`Grain::Dimension`] that pass `filter`.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_dimension(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(DimensionRow<'_>),
    ) -> Result<ScanStats, TableError> {
        let corrections = self.applied(filter)?;
        let filter = corrections.widened(filter, &["minute", "service"]);
        self.for_each_batch(Grain::Dimension, &filter, |columns| {
            let (minute, key) = (columns.minutes(), DimensionKey::of(columns));
            let (measures, source) = (MeasureColumns::of(columns)?, SourceKey::of(columns));
            for row in 0..columns.rows() {
                visit(corrections.dimension(DimensionRow {
                    minute: minute.at(row),
                    service: key.service.at(row),
                    release: key.release.at(row),
                    cohort: key.cohort.at(row),
                    region: key.region.at(row),
                    route: key.route.at(row),
                    attributes: key.attributes_at(row),
                    measures: measures.at(row),
                    latency: measures.latency.at(row),
                    partition: source.partition.at(row),
                    rules: source.rules.at(row),
                }));
            }
            Ok(())
        })
    }

    /// Visits the rows of [`Grain::Failure`] that pass `filter`.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_failure(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(FailureRow<'_>),
    ) -> Result<ScanStats, TableError> {
        let corrections = self.applied(filter)?;
        let filter = corrections.widened(filter, &["minute", "customer", "service"]);
        self.for_each_batch(Grain::Failure, &filter, |columns| {
            let (minute, customer) = (columns.minutes(), columns.text("customer"));
            let (key, source) = (DimensionKey::of(columns), SourceKey::of(columns));
            let [status, bad] = columns.ints(["status", "bad"])?;
            for row in 0..columns.rows() {
                let failure = FailureRow {
                    minute: minute.at(row),
                    customer: customer.at(row),
                    service: key.service.at(row),
                    release: key.release.at(row),
                    cohort: key.cohort.at(row),
                    region: key.region.at(row),
                    route: key.route.at(row),
                    attributes: key.attributes_at(row),
                    status: status.at(row),
                    bad: bad.at(row),
                    partition: source.partition.at(row),
                    rules: source.rules.at(row),
                };
                if corrections.is_failure(&failure) {
                    visit(failure);
                }
            }
            Ok(())
        })
    }

    /// Visits the rows of [`Grain::Alert`] that pass `filter`.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_alert(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(AlertRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_alert_of(Grain::Alert, filter, &mut visit)
    }

    /// Visits the rows of [`Grain::Incident`] that pass `filter`; `alert` is the incident as
    /// JSON.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_incident(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(AlertRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_alert_of(Grain::Incident, filter, &mut visit)
    }

    /// Visits the rows of [`Grain::Verdict`] that pass `filter`; `alert` is the judgement as
    /// JSON.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_verdict(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(AlertRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_alert_of(Grain::Verdict, filter, &mut visit)
    }

    /// Visits the rows of [`Grain::Sent`] that pass `filter`; `alert` is what was sent to whom,
    /// as JSON.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_sent(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(AlertRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_alert_of(Grain::Sent, filter, &mut visit)
    }

    /// Visits the rows of [`Grain::Correction`] that pass `filter`; `alert` is the correction as
    /// JSON, `minute` its first minute.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_correction(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(AlertRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_alert_of(Grain::Correction, filter, &mut visit)
    }

    /// Visits the rows of [`Grain::Silence`] that pass `filter`; `alert` is the silence as JSON,
    /// `minute` its begin.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_silence(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(AlertRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_alert_of(Grain::Silence, filter, &mut visit)
    }

    fn for_each_alert_of(
        &self,
        grain: Grain,
        filter: &Filter,
        visit: &mut dyn FnMut(AlertRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_batch(grain, filter, |columns| {
            let minute = columns.minutes();
            let [customer, service, id, fingerprint, alert] =
                ["customer", "service", "id", "fingerprint", "alert"]
                    .map(|name| columns.text(name));
            for row in 0..columns.rows() {
                visit(AlertRow {
                    minute: minute.at(row),
                    customer: customer.at(row),
                    service: service.at(row),
                    id: id.at(row),
                    fingerprint: fingerprint.at(row),
                    alert: alert.at(row),
                });
            }
            Ok(())
        })
    }

    /// Visits the rows of [`Grain::Dead`] that pass `filter`.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_dead(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(DeadRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_batch(Grain::Dead, filter, |columns| {
            let [partition, reason] = ["partition", "reason"].map(|name| columns.text(name));
            let ([offset], line) = (columns.ints(["offset"])?, columns.bytes("line"));
            for row in 0..columns.rows() {
                visit(DeadRow {
                    partition: partition.at(row),
                    offset: offset.at(row),
                    reason: reason.at(row),
                    line: line.at(row),
                });
            }
            Ok(())
        })
    }

    /// Visits the rows of [`Grain::Source`] that pass `filter`.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_source(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(SourceRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_batch(Grain::Source, filter, |columns| {
            let [partition, name] = ["partition", "name"].map(|name| columns.text(name));
            let [first, next, read, counted, events, dead, duplicate, holes, invalid] = columns
                .ints([
                    "first",
                    "next",
                    "read",
                    "counted",
                    "events",
                    "dead",
                    "duplicate",
                    "holes",
                    "invalid_latency",
                ])?;
            let tail = columns.bytes("tail");
            for row in 0..columns.rows() {
                visit(SourceRow {
                    partition: partition.at(row),
                    name: name.at(row),
                    first: first.at(row),
                    next: next.at(row),
                    read: read.at(row),
                    counted: counted.at(row),
                    events: events.at(row),
                    dead: dead.at(row),
                    duplicate: duplicate.at(row),
                    holes: holes.at(row),
                    invalid_latency: invalid.at(row),
                    tail: tail.at(row),
                });
            }
            Ok(())
        })
    }

    /// Visits the rows of [`Grain::Gap`] that pass `filter`.
    ///
    /// # Errors
    /// As [`Table::for_each_series`].
    pub fn for_each_gap(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(GapRow<'_>),
    ) -> Result<ScanStats, TableError> {
        self.for_each_batch(Grain::Gap, filter, |columns| {
            let [partition, reason] = ["partition", "reason"].map(|name| columns.text(name));
            let [first, next] = columns.ints(["first", "next"])?;
            let (minute, minute_last) = (columns.minutes(), columns.minutes_of("minute_last"));
            for row in 0..columns.rows() {
                visit(GapRow {
                    partition: partition.at(row),
                    first: first.at(row),
                    next: next.at(row),
                    reason: reason.at(row),
                    minutes: (minute.at(row), minute_last.at(row)),
                });
            }
            Ok(())
        })
    }

    fn for_each_batch(
        &self,
        grain: Grain,
        filter: &Filter,
        mut visit: impl FnMut(&Columns<'_>) -> Result<(), TableError>,
    ) -> Result<ScanStats, TableError> {
        let mut scan = self.scan(grain, filter)?;
        for batch in scan.by_ref() {
            visit(&Columns { grain, batch: &batch? })?;
        }
        Ok(scan.stats())
    }
}

/// Visits what a scan of [`Grain::Series`], or of a coarser grain of the same, yields.
pub(super) fn visit_series(
    scan: &mut Scan,
    grain: Grain,
    mut visit: impl FnMut(SeriesRow<'_>),
) -> Result<(), TableError> {
    for batch in scan.by_ref() {
        visit_batch(&batch?, grain, &mut visit)?;
    }
    Ok(())
}

fn visit_batch(
    batch: &RecordBatch,
    grain: Grain,
    mut visit: impl FnMut(SeriesRow<'_>),
) -> Result<(), TableError> {
    let columns = Columns { grain, batch };
    let key = CustomerKey::of(&columns);
    let (measures, source) = (MeasureColumns::of(&columns)?, SourceKey::of(&columns));
    for row in 0..columns.rows() {
        visit(SeriesRow {
            minute: key.minute.at(row),
            customer: key.customer.at(row),
            service: key.service.at(row),
            release: key.release.at(row),
            cohort: key.cohort.at(row),
            measures: measures.at(row),
            latency: measures.latency.at(row),
            partition: source.partition.at(row),
            rules: source.rules.at(row),
        });
    }
    Ok(())
}

/// The columns of one batch, by name.
struct Columns<'a> {
    grain: Grain,
    batch: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn text(&self, name: &str) -> Text<'a> {
        Text(self.batch.column_by_name(name).map(|column| column.as_string::<i32>()))
    }

    fn bytes(&self, name: &str) -> Bytes<'a> {
        Bytes(self.batch.column_by_name(name).map(|column| column.as_binary::<i32>()))
    }

    fn minutes(&self) -> Minutes<'a> {
        self.minutes_of("minute")
    }

    fn minutes_of(&self, name: &str) -> Minutes<'a> {
        let column = self.batch.column_by_name(name);
        Minutes(column.map(|column| column.as_primitive::<TimestampMicrosecondType>()))
    }

    /// Columns of numbers, none of which is below zero.
    fn ints<const N: usize>(&self, names: [&'static str; N]) -> Result<[Ints<'a>; N], TableError> {
        for name in names {
            let least = self.int(name).0.and_then(compute::min).unwrap_or(0);
            if least < 0 {
                let (grain, column, found) = (self.grain.name(), name, least.to_string());
                return Err(TableError::Value { grain, column, found });
            }
        }
        Ok(names.map(|name| self.int(name)))
    }

    fn int(&self, name: &str) -> Ints<'a> {
        Ints(self.batch.column_by_name(name).map(|column| column.as_primitive::<Int64Type>()))
    }
}

#[derive(Clone, Copy)]
struct Text<'a>(Option<&'a StringArray>);

impl<'a> Text<'a> {
    fn at(self, row: usize) -> &'a str {
        self.0.filter(|column| column.is_valid(row)).map_or("", |column| column.value(row))
    }
}

#[derive(Clone, Copy)]
struct Bytes<'a>(Option<&'a BinaryArray>);

impl<'a> Bytes<'a> {
    fn at(self, row: usize) -> &'a [u8] {
        self.0.filter(|column| column.is_valid(row)).map_or(&[], |column| column.value(row))
    }
}

#[derive(Clone, Copy)]
struct Ints<'a>(Option<&'a Int64Array>);

impl Ints<'_> {
    fn at(self, row: usize) -> u64 {
        let value =
            self.0.filter(|column| column.is_valid(row)).map_or(0, |column| column.value(row));
        value as u64
    }
}

#[derive(Clone, Copy)]
struct Minutes<'a>(Option<&'a TimestampMicrosecondArray>);

impl Minutes<'_> {
    fn at(self, row: usize) -> Minute {
        let micros =
            self.0.filter(|column| column.is_valid(row)).map_or(0, |column| column.value(row));
        Minute(u32::try_from(micros.div_euclid(MINUTE_US)).unwrap_or_default())
    }
}

struct CustomerKey<'a> {
    minute: Minutes<'a>,
    customer: Text<'a>,
    service: Text<'a>,
    release: Text<'a>,
    cohort: Text<'a>,
}

impl<'a> CustomerKey<'a> {
    fn of(columns: &Columns<'a>) -> CustomerKey<'a> {
        let [customer, service, release, cohort] =
            ["customer", "service", "release", "cohort"].map(|name| columns.text(name));
        CustomerKey { minute: columns.minutes(), customer, service, release, cohort }
    }
}

struct DimensionKey<'a> {
    service: Text<'a>,
    release: Text<'a>,
    cohort: Text<'a>,
    region: Text<'a>,
    route: Text<'a>,
    attributes: [Text<'a>; ATTRIBUTES_MAX],
}

impl<'a> DimensionKey<'a> {
    fn of(columns: &Columns<'a>) -> DimensionKey<'a> {
        let [service, release, cohort, region, route] =
            ["service", "release", "cohort", "region", "route"].map(|name| columns.text(name));
        let attributes = ["attribute_1", "attribute_2", "attribute_3", "attribute_4"]
            .map(|name| columns.text(name));
        DimensionKey { service, release, cohort, region, route, attributes }
    }

    fn attributes_at(&self, row: usize) -> [&'a str; ATTRIBUTES_MAX] {
        self.attributes.map(|attribute| attribute.at(row))
    }
}

struct MeasureColumns<'a> {
    ints: [Ints<'a>; 7],
    latency: Bytes<'a>,
}

impl<'a> MeasureColumns<'a> {
    fn of(columns: &Columns<'a>) -> Result<MeasureColumns<'a>, TableError> {
        let ints = columns.ints([
            "valid",
            "bad",
            "excluded",
            "timed",
            "slow",
            "latency_sum_us",
            "latency_max_us",
        ])?;
        Ok(MeasureColumns { ints, latency: columns.bytes("latency") })
    }

    fn at(&self, row: usize) -> Measures {
        let [valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us] =
            self.ints.map(|column| column.at(row));
        Measures { valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us }
    }
}

struct SourceKey<'a> {
    partition: Text<'a>,
    rules: Text<'a>,
}

impl<'a> SourceKey<'a> {
    fn of(columns: &Columns<'a>) -> SourceKey<'a> {
        SourceKey { partition: columns.text("partition"), rules: columns.text("rules") }
    }
}

impl<'a> DimensionRow<'a> {
    /// Release, cohort, region, route and the attributes.
    pub fn dimensions(&self) -> [&'a str; 4 + ATTRIBUTES_MAX] {
        let [a, b, c, d] = self.attributes;
        [self.release, self.cohort, self.region, self.route, a, b, c, d]
    }
}

impl<'a> FailureRow<'a> {
    /// Release, cohort, region, route and the attributes.
    pub fn dimensions(&self) -> [&'a str; 4 + ATTRIBUTES_MAX] {
        let [a, b, c, d] = self.attributes;
        [self.release, self.cohort, self.region, self.route, a, b, c, d]
    }
}
