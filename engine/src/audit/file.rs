//! One data file: its hash, its rows, and what they sum up to.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::day::{Cells, Units};
use super::{Audit, Finding, Gap, PartitionAudit, RECOUNT, RESTORE};
use crate::model::Measures;
use crate::slo::histogram::Histogram;
use crate::table::read::SourceRow;
use crate::table::schema::Grain;
use crate::table::{Filter, LiveFile, Table, TableError};
use crate::time::{Day, Minute};

/// What one file holds.
#[derive(Debug, Default)]
pub(super) struct FileSums {
    /// Rows.
    pub rows: u64,
    /// What its rows say of minutes, where its grain counts events.
    pub cells: Cells,
    /// What its rows say of hours and days, where readers may take one file for another by it.
    pub units: Option<Units>,
    /// What its rows say of partitions.
    pub partitions: BTreeMap<String, PartitionSums>,
    /// Ranges of offsets that its rows account for: partition, first, next.
    pub tiles: Vec<(String, u64, u64)>,
    /// Accepted gaps.
    pub gaps: Vec<Gap>,
    /// What is wrong with single rows; once for each kind.
    pub findings: Vec<Finding>,
}

/// Of what it can be told whether all rows are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Provable {
    /// No file of `series` is damaged.
    pub series: bool,
    /// No file of dead letters is damaged.
    pub dead: bool,
    /// Old days were removed, so that there may be fewer rows than were counted.
    pub retained: bool,
}

/// What rows say of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PartitionSums {
    name: String,
    /// How far the row reaches that `name` is of.
    name_next: u64,
    read: u64,
    counted: u64,
    dead: u64,
    duplicate: u64,
    holes: u64,
    events: u64,
    /// Whether a range says how many lines it counted and not for how many events they stand, as
    /// tables of before that column do.
    without_events: bool,
    series_events: u64,
    dead_rows: u64,
}

impl PartitionSums {
    pub fn add(&mut self, other: &PartitionSums) {
        if other.name_next >= self.name_next {
            (self.name_next, self.name) = (other.name_next, other.name.clone());
        }
        self.read += other.read;
        self.counted += other.counted;
        self.dead += other.dead;
        self.duplicate += other.duplicate;
        self.holes += other.holes;
        self.events += other.events;
        self.without_events |= other.without_events;
        self.series_events += other.series_events;
        self.dead_rows += other.dead_rows;
    }

    /// The rows of what was counted are there, no more and no less, as far as that can be told.
    /// `entry` is the commit, or empty for the table.
    pub fn check(&self, audit: &mut Audit, partition: &str, entry: &str, provable: Provable) {
        let Provable { series, dead, retained } = provable;
        let place = if entry.is_empty() { "the table" } else { "this commit" };
        let mut find = |proof, found: String| {
            let finding = Finding::new(proof, found, RECOUNT).of_partition(partition, None);
            audit.find(if entry.is_empty() { finding } else { finding.of_file(entry) });
        };
        let differs = |counted: u64, rows: u64| {
            if retained { rows > counted } else { rows != counted }
        };
        if series && !self.without_events && differs(self.events, self.series_events) {
            let (events, rows) = (self.events, self.series_events);
            let found = format!("{place} counted {events} events and its rows sum up to {rows}");
            find("events", found);
        }
        if dead && differs(self.dead, self.dead_rows) {
            let (dead, rows) = (self.dead, self.dead_rows);
            find(
                "dead",
                format!("{place} counted {dead} dead letters and has {rows} rows of them"),
            );
        }
    }

    pub fn report(&self, partition: &str, first: u64, next: u64, gap: u64) -> PartitionAudit {
        let PartitionSums { name, read, counted, dead, duplicate, holes, events, .. } =
            self.clone();
        let partition = partition.to_owned();
        PartitionAudit {
            partition,
            name,
            first,
            next,
            read,
            counted,
            dead,
            duplicate,
            holes,
            events,
            gap,
        }
    }
}

/// Reads files in parallel; each outcome in its place.
pub(super) fn read_all(table: &Table, files: &[&LiveFile]) -> Vec<Result<FileSums, TableError>> {
    files.par_iter().map(|file| read(table, file)).collect()
}

fn read(table: &Table, file: &LiveFile) -> Result<FileSums, TableError> {
    let filter = Filter { file: Some(file.path.clone()), ..Filter::default() };
    let mut sums = FileSums::default();
    let Some(grain) = Grain::of_name(&file.grain) else {
        // Of another version, or of other people: its rows are none that we know to sum.
        table.check_file(file)?;
        sums.rows = file.rows.unwrap_or(0);
        return Ok(sums);
    };
    let mut units = Units::default();
    let stats = match grain {
        Grain::Series => table.for_each_series(&filter, |row| {
            units.add(&row);
            sums.cells.at(row.service, row.partition, row.minute).add(&row.measures);
            sums.partition(row.partition).series_events +=
                row.measures.valid + row.measures.excluded;
            sums.check_day(file.day, row.minute);
            sums.check_measures(&row.measures, row.latency);
        }),
        Grain::Dimension => table.for_each_dimension(&filter, |row| {
            sums.cells.at(row.service, row.partition, row.minute).add(&row.measures);
            sums.check_day(file.day, row.minute);
            sums.check_measures(&row.measures, row.latency);
        }),
        Grain::Failure => table.for_each_failure(&filter, |row| {
            let bad = Measures { bad: row.bad, ..Measures::default() };
            sums.cells.at(row.service, row.partition, row.minute).add(&bad);
            sums.check_day(file.day, row.minute);
        }),
        Grain::Sli => table.for_each_sli(&filter, |row| sums.check_day(file.day, row.minute)),
        Grain::Alert => table.for_each_alert(&filter, |row| sums.check_day(file.day, row.minute)),
        Grain::Incident => {
            table.for_each_incident(&filter, |row| sums.check_day(file.day, row.minute))
        }
        Grain::Verdict => {
            table.for_each_verdict(&filter, |row| sums.check_day(file.day, row.minute))
        }
        Grain::Sent => table.for_each_sent(&filter, |row| sums.check_day(file.day, row.minute)),
        // Decisions have no day: they are kept for ever.
        Grain::Correction => table.for_each_correction(&filter, |_| {}),
        Grain::Silence => table.for_each_silence(&filter, |_| {}),
        Grain::Dead => table.for_each_dead(&filter, |row| {
            sums.partition(row.partition).dead_rows += 1;
        }),
        Grain::Source => table.for_each_source(&filter, |row| sums.take_source(&row)),
        Grain::Gap => table.for_each_gap(&filter, |row| {
            let (partition, reason) = (row.partition.to_owned(), row.reason.to_owned());
            sums.tiles.push((partition.clone(), row.first, row.next));
            sums.partition(row.partition);
            sums.gaps.push(Gap { partition, first: row.first, next: row.next, reason });
        }),
        Grain::SeriesHour => table.for_each_series_hour(&filter, |row| units.add(&row)),
        Grain::SeriesDay => table.for_each_series_day(&filter, |row| units.add(&row)),
    }?;
    sums.rows = stats.rows_read;
    if stats.files_read == 0 {
        // Coarse rows whose minutes were replaced: readers pass them over, and so do we.
        table.check_file(file)?;
        sums.rows = file.rows.unwrap_or(0);
    } else if matches!(grain, Grain::Series | Grain::SeriesHour | Grain::SeriesDay) {
        sums.units = Some(units);
    }
    Ok(sums)
}

impl FileSums {
    fn partition(&mut self, partition: &str) -> &mut PartitionSums {
        if !self.partitions.contains_key(partition) {
            self.partitions.insert(partition.to_owned(), PartitionSums::default());
        }
        self.partitions.get_mut(partition).expect("it was inserted where it was missing")
    }

    fn take_source(&mut self, row: &SourceRow<'_>) {
        let SourceRow { partition, first, next, read, counted, dead, duplicate, holes, .. } = *row;
        let place = |finding: Finding| finding.of_partition(partition, Some(first));
        if read != counted + dead + duplicate {
            let found = format!(
                "of {first}..{next} {read} were read and {counted} counted + {dead} dead + \
                 {duplicate} duplicate"
            );
            self.findings.push(place(Finding::new("lines", found, RECOUNT)));
        }
        if first > next {
            let found = format!("the range {first}..{next} ends before it begins");
            self.findings.push(place(Finding::new("offsets", found, RECOUNT)));
        }
        let in_records = ["kafka/", "wal/"].iter().any(|source| partition.starts_with(source));
        if in_records && next.saturating_sub(first) != read + holes {
            let found = format!("{first}..{next} is not {read} records and {holes} holes");
            self.findings.push(place(Finding::new("lines", found, RECOUNT)));
        }
        self.tiles.push((partition.to_owned(), first, next));
        let (name, events) = (row.name.to_owned(), row.events);
        self.partition(partition).add(&PartitionSums {
            name,
            name_next: next,
            read,
            counted,
            dead,
            duplicate,
            holes,
            events,
            without_events: events < counted,
            ..PartitionSums::default()
        });
    }

    /// A row lies in the day of its file: readers leave out the other days' files.
    fn check_day(&mut self, day: Option<Day>, minute: Minute) {
        if day != Some(minute.day()) {
            let found = format!("a row of {minute} does not lie in the day of its file");
            self.find_once("file", found);
        }
    }

    /// A row's measures agree with each other, and its histogram holds what was timed.
    fn check_measures(&mut self, measures: &Measures, latency: &[u8]) {
        let Measures { valid, bad, timed, slow, .. } = *measures;
        let fits = bad <= valid && slow <= timed && timed <= valid - bad;
        if !fits {
            let found = format!("a row has valid {valid}, bad {bad}, timed {timed}, slow {slow}");
            self.find_once("lines", found);
        }
        let held = if latency.is_empty() {
            Ok(0)
        } else {
            Histogram::decode_v2(latency).map(|histogram| histogram.count())
        };
        match held {
            Ok(held) if held == timed => {}
            Ok(held) => {
                let found = format!("a histogram holds {held} latencies of {timed} timed events");
                self.find_once("histogram", found);
            }
            Err(error) => self.find_once("histogram", format!("a histogram is broken: {error}")),
        }
    }

    fn find_once(&mut self, proof: &'static str, found: String) {
        if self.findings.iter().all(|finding| finding.proof != proof) {
            self.findings.push(Finding::new(proof, found, RESTORE));
        }
    }
}
