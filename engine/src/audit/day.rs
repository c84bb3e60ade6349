//! One day of the table: the grains that count the same events agree, minute by minute.

use std::collections::BTreeMap;

use super::{Audit, Finding, RECOUNT};
use crate::model::Measures;
use crate::table::schema::Grain;
use crate::time::{Day, Minute};

/// Measures by service, partition and minute.
#[derive(Clone, Debug, Default)]
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

/// What the files of one day sum up to.
#[derive(Debug, Default)]
pub(super) struct DaySums {
    /// Whether a file could not be read, so that the sums prove nothing.
    pub damaged: bool,
    series: Cells,
    dimension: Cells,
    /// Of each, `bad` alone.
    failure: Cells,
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

    /// Tells where the grains differ: once for each service and partition, with the first minute.
    pub fn check(&self, audit: &mut Audit, day: Option<Day>) {
        let Some(day) = day else { return };
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
