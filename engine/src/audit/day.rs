//! One day of the table: the grains that count the same events agree, minute by minute.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::{Audit, Finding, RECOUNT, RESTORE};
use crate::model::Measures;
use crate::table::read::SeriesRow;
use crate::table::schema::Grain;
use crate::table::{HOUR_MINUTES, LiveFile, floor};
use crate::time::{DAY_MINUTES, Day, Minute};

/// Measures by service, partition and minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cells(BTreeMap<String, BTreeMap<String, BTreeMap<Minute, Measures>>>);

impl Cells {
    /// The measures at a key; nothing is allocated where they are known.
    pub fn at(&mut self, service: &str, partition: &str, minute: Minute) -> &mut Measures {
        let of_service = slot(&mut self.0, service);
        slot(of_service, partition).entry(minute).or_default()
    }

    fn add(&mut self, other: Cells) {
        for (service, partitions) in other.0 {
            for (partition, minutes) in partitions {
                for (minute, measures) in minutes {
                    self.at(&service, &partition, minute).add(&measures);
                }
            }
        }
    }

    fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(service, partitions)| {
            partitions.keys().map(move |partition| (service.as_str(), partition.as_str()))
        })
    }

    fn minutes(&self, service: &str, partition: &str) -> Option<&BTreeMap<Minute, Measures>> {
        self.0.get(service)?.get(partition)
    }
}

fn slot<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), V::default());
    }
    map.get_mut(key).expect("it was inserted where it was missing")
}

/// Into how many groups customers are cut, so that coarse rows of another customer show.
const GROUPS: u64 = 256;

/// What a file of minutes, hours or days says of the measures by hour, of each service and each
/// group of customers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Units(Cells);

impl Units {
    pub fn add(&mut self, row: &SeriesRow<'_>) {
        let group = FixedState::with_seed(0).hash_one(row.customer) % GROUPS;
        let hour = floor(row.minute, HOUR_MINUTES);
        // The place of a partition, which coarse rows do not have.
        self.0.at(row.service, &group.to_string(), hour).add(&row.measures);
    }

    fn by_day(&self) -> Units {
        let mut days = Cells::default();
        for (service, group) in self.0.keys() {
            for (minute, measures) in self.0.minutes(service, group).into_iter().flatten() {
                days.at(service, group, floor(*minute, DAY_MINUTES)).add(measures);
            }
        }
        Units(days)
    }
}

/// A file of coarse rows, and the file of minutes that it sums.
#[derive(Debug)]
struct Coarse {
    path: String,
    covers: String,
    is_of_days: bool,
    units: Units,
}

/// What the files of one day sum up to.
#[derive(Debug, Default)]
pub(super) struct DaySums {
    /// Whether a file could not be read, so that the sums prove nothing.
    pub damaged: bool,
    series: Cells,
    dimension: Cells,
    /// Of each, `bad` alone.
    failure: Cells,
    /// By the path of a file of minutes.
    units: BTreeMap<String, Units>,
    coarse: Vec<Coarse>,
}

impl DaySums {
    /// Adds what a file of `grain` holds.
    pub fn add(&mut self, grain: &str, cells: Cells) {
        match grain {
            _ if grain == Grain::Series.name() => self.series.add(cells),
            _ if grain == Grain::Dimension.name() => self.dimension.add(cells),
            _ if grain == Grain::Failure.name() => self.failure.add(cells),
            _ => {}
        }
    }

    /// Adds what a file of minutes, hours or days says of whole units.
    pub fn add_units(&mut self, file: &LiveFile, units: Units) {
        let path = file.path.clone();
        match &file.covers {
            None => drop(self.units.insert(path, units)),
            Some(covers) => {
                let is_of_days = file.grain == Grain::SeriesDay.name();
                self.coarse.push(Coarse { path, covers: covers.clone(), is_of_days, units });
            }
        }
    }

    /// Tells which coarse files are not the sums of the file of minutes that they stand for.
    fn check_coarse(&self, audit: &mut Audit) {
        let none = Units::default();
        for Coarse { path, covers, is_of_days, units } in &self.coarse {
            let minutes = self.units.get(covers).unwrap_or(&none);
            let same = if *is_of_days { *units == minutes.by_day() } else { units == minutes };
            if !same {
                let found = format!("its rows are not the sums of {covers}, which it stands for");
                audit.find(Finding::new("coarse", found, RESTORE).of_file(path));
            }
        }
    }

    /// Tells where the grains differ: once for each service and partition, with the first minute.
    pub fn check(&self, audit: &mut Audit, day: Option<Day>) {
        let Some(day) = day else { return };
        self.check_coarse(audit);
        let whole = |measures: &Measures| *measures;
        let bad = |measures: &Measures| Measures { bad: measures.bad, ..Measures::default() };
        self.compare(audit, day, (Grain::Dimension, &self.dimension), whole);
        self.compare(audit, day, (Grain::Failure, &self.failure), bad);
    }

    /// Compares a grain with `series` in the part of the measures that it has.
    fn compare(
        &self,
        audit: &mut Audit,
        day: Day,
        (grain, other): (Grain, &Cells),
        part: impl Fn(&Measures) -> Measures,
    ) {
        let mut keys: Vec<(&str, &str)> = self.series.keys().chain(other.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let none = BTreeMap::new();
        for (service, partition) in keys {
            let series = self.series.minutes(service, partition).unwrap_or(&none);
            let others = other.minutes(service, partition).unwrap_or(&none);
            let mut minutes: Vec<&Minute> = series.keys().chain(others.keys()).collect();
            minutes.sort_unstable();
            minutes.dedup();
            let at = |cells: &BTreeMap<Minute, Measures>, minute: &Minute| {
                cells.get(minute).map(&part).unwrap_or_default()
            };
            minutes.retain(|minute| at(series, minute) != at(others, minute));
            let Some(first) = minutes.first() else { continue };
            let (name, count) = (grain.name(), minutes.len());
            let found = format!(
                "service {service:?}, {count} minutes of {day} from {first} on: series has {} and \
                 {name} {}",
                told(&at(series, first)),
                told(&at(others, first)),
            );
            let finding = Finding::new(name, found, RECOUNT);
            let finding = finding.of_file(&format!("grain={name}/day={day}"));
            audit.find(finding.of_partition(partition, None));
        }
    }
}

fn told(measures: &Measures) -> String {
    let Measures { valid, bad, excluded, timed, slow, latency_sum_us, latency_max_us } = measures;
    format!(
        "valid {valid}, bad {bad}, excluded {excluded}, timed {timed}, slow {slow}, latency sum \
         {latency_sum_us} max {latency_max_us} us"
    )
}
