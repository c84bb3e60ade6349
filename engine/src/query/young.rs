//! What has just begun to serve, and the verdict on each of it, kept up with the table.
//!
//! Asked every few seconds, [`Young::look`] reads what was committed since, no more: the rows by
//! dimension say which releases and flags are new, and the sample of each of these grows by the
//! rows of its service. A flag is an attribute of few values: one of many is no decision that
//! could be rolled back, and would be judged by chance now and then.
//!
//! Why the table and not memory: a verdict needs the counts of each customer by release. Memory
//! has customers without releases and releases without customers; the table has both, for all
//! instances. So what is judged is at most one commit interval old, and the loop that counts
//! neither waits nor holds anything for it.
//!
//! Invariants: each row is in a sample once, as each entry of the log is read once, and a sample
//! that begins is read at the version that the others are brought to. After an error, after a
//! correction (which changes rows that were read) and where the log does not reach back, all is
//! read afresh. Pure but for the table: time comes in.

use std::collections::{BTreeMap, BTreeSet};

use super::Promise;
use super::body;
use super::judgement::Name;
use super::verdict::{
    Candidate, DIMENSION_COLUMNS, HISTORY_MINUTES, SEEN_MINUTES, Sample, judged, read,
};
use crate::model::ATTRIBUTES_MAX;
use crate::state::dimensions::OTHER;
use crate::table::schema::Grain;
use crate::table::{Added, Filter, Table, TableError};
use crate::time::Minute;

/// For how long after its first minute a candidate is judged.
pub const YOUNG_MINUTES: u32 = 180;

/// A candidate that has served nothing for so long, while its service has, is gone.
pub const GONE_MINUTES: u32 = 30;

/// An attribute with more values in a service and day is no flag.
pub const FLAG_VALUES_MAX: usize = 20;

/// So many candidates are judged at once, at most.
pub const CANDIDATES_MAX: usize = 16;

/// A sample holds so many observations of a measure, of 32 bytes each: with more customers every
/// other one is left out.
const OBSERVATIONS_MAX: usize = 1 << 17;

/// The place of the release among the dimensions, and of the first attribute.
const RELEASE: usize = 0;
const ATTRIBUTE_FIRST: usize = 4;

/// First and last minute with a valid event.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Minute,
    last: Minute,
}

impl Seen {
    fn at(minute: Minute) -> Seen {
        Seen { first: minute, last: minute }
    }

    fn note(&mut self, minute: Minute) {
        (self.first, self.last) = (self.first.min(minute), self.last.max(minute));
    }
}

/// What is known of a service.
struct Service {
    seen: Seen,
    /// The values of each dimension that may be young.
    values: [BTreeMap<String, Seen>; 4 + ATTRIBUTES_MAX],
}

/// Service, place of the dimension, and value.
type Key = (String, usize, String);

/// The candidates of a table, as of the last look.
#[derive(Default)]
pub struct Young {
    /// The version that was read; `None` before the first look and after an error.
    version: Option<u64>,
    services: BTreeMap<String, Service>,
    samples: BTreeMap<Key, (Minute, Sample)>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct Look {
    /// The verdict on each candidate.
    pub judged: Vec<Judged>,
    /// Of those that were asked for: who has gone.
    pub gone: Vec<Name>,
    /// How many candidates were too many to be judged.
    pub passed_over: usize,
}

/// A candidate that was judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Who.
    pub name: Name,
    /// The answer, but for what it cost.
    pub verdict: body::Verdict,
    /// Customers with a bad event on its side.
    pub hit: BTreeSet<String>,
}

impl Young {
    /// Reads what is new in `table`, and judges as of `now` all that is young and serves. `names`
    /// are those of the dimensions, `bad` are candidates of whom it is to be said when they are
    /// gone.
    ///
    /// # Errors
    /// The table cannot be read; the next look reads it afresh.
    pub fn look(
        &mut self,
        table: &Table,
        promise: &Promise<'_>,
        names: &[&str],
        bad: &[Name],
        now: Minute,
    ) -> Result<Look, TableError> {
        let added = self.added(table)?;
        if self.version.take().is_none() || added.is_none() {
            *self = Young::default();
        }
        self.read_dimensions(table, added.clone(), (names.len(), now))?;
        let (candidates, passed_over) = self.candidates(now);
        self.read_samples(table, promise, names, (&candidates, added))?;
        self.version = Some(table.version());
        let judge = |(key, (from, sample)): (&Key, &(Minute, Sample))| {
            let candidate = candidate(key, names);
            let to = self.services[&key.0].seen.last.min(now);
            let (verdict, hit) = judged(promise, &candidate, sample, [*from, to], to);
            let name = [key.0.as_str(), names[key.1], key.2.as_str()].map(str::to_owned);
            let [service, dimension, value] = name;
            Judged { name: Name { service, dimension, value }, verdict, hit }
        };
        let gone = bad.iter().filter(|name| self.is_gone(name, names, now)).cloned().collect();
        Ok(Look { judged: self.samples.iter().map(judge).collect(), gone, passed_over })
    }

    /// The files that were added since the last look; `None` where all is to be read.
    fn added(&self, table: &Table) -> Result<Option<Added>, TableError> {
        let Some(version) = self.version else { return Ok(None) };
        let entries = table.entries_after(version)?;
        let added = entries.map(|all| Added::of_all(all.iter().map(|entry| &entry.files)));
        Ok(added.filter(|added| !added.has(Grain::Correction)))
    }

    /// Notes which values of the first `dimensions` dimensions serve when.
    fn read_dimensions(
        &mut self,
        table: &Table,
        added: Option<Added>,
        (dimensions, now): (usize, Minute),
    ) -> Result<(), TableError> {
        let oldest = now.minus(SEEN_MINUTES - 1);
        let columns = Some([&DIMENSION_COLUMNS[..], &["valid"]].concat());
        let filter = Filter { added, columns, ..Filter::of_minutes(oldest..=Minute(u32::MAX)) };
        table.for_each_dimension(&filter, |row| {
            if row.measures.valid == 0 {
                return;
            }
            let minute = row.minute;
            if !self.services.contains_key(row.service) {
                let begun = Service { seen: Seen::at(minute), values: Default::default() };
                self.services.insert(row.service.to_owned(), begun);
            }
            let service = self.services.get_mut(row.service).expect("it was put there");
            service.seen.note(minute);
            for (place, value) in row.dimensions().into_iter().enumerate().take(dimensions) {
                let may_be_young = place == RELEASE || place >= ATTRIBUTE_FIRST;
                if !may_be_young || value.is_empty() || value == OTHER {
                    continue;
                }
                match service.values[place].get_mut(value) {
                    Some(seen) => seen.note(minute),
                    None => drop(service.values[place].insert(value.to_owned(), Seen::at(minute))),
                }
            }
        })?;
        for values in self.services.values_mut().flat_map(|service| &mut service.values) {
            values.retain(|_, seen| seen.last >= oldest);
        }
        Ok(())
    }

    /// Who is young and serves as of `now`, with the first minute of each, and how many more there
    /// are. A flag that has served since the first minute of its service that is known may be an
    /// old one; of releases the younger one is told by how it does.
    fn candidates(&self, now: Minute) -> (BTreeMap<Key, Minute>, usize) {
        let mut found: Vec<(Key, Minute)> = Vec::new();
        for (name, service) in &self.services {
            for (place, values) in service.values.iter().enumerate() {
                let is_flag = place != RELEASE;
                if is_flag && values.len() > FLAG_VALUES_MAX {
                    continue;
                }
                for (value, seen) in values {
                    let is_new = !is_flag || seen.first > service.seen.first;
                    let is_young = seen.first <= now && seen.first > now.minus(YOUNG_MINUTES);
                    if is_new && is_young && seen.last > now.minus(GONE_MINUTES) {
                        found.push(((name.clone(), place, value.clone()), seen.first));
                    }
                }
            }
        }
        // Releases first, then the newest first.
        found.sort_by_key(|((_, place, _), first)| (*place, std::cmp::Reverse(*first)));
        let passed_over = found.len().saturating_sub(CANDIDATES_MAX);
        found.truncate(CANDIDATES_MAX);
        (found.into_iter().collect(), passed_over)
    }

    /// Brings the samples of all candidates to the version of the table.
    fn read_samples(
        &mut self,
        table: &Table,
        promise: &Promise<'_>,
        names: &[&str],
        (candidates, added): (&BTreeMap<Key, Minute>, Option<Added>),
    ) -> Result<(), TableError> {
        // One whose first minute has turned out to be an earlier one begins again.
        self.samples.retain(|key, known| candidates.get(key) == Some(&known.0));
        let mut begun: BTreeMap<Key, (Minute, Sample)> = BTreeMap::new();
        for (key, from) in candidates.iter().filter(|(key, _)| !self.samples.contains_key(*key)) {
            begun.insert(key.clone(), (*from, Sample::new(*from, OBSERVATIONS_MAX)));
        }
        let known = added.filter(|added| added.has(Grain::Series));
        for (samples, added) in [(&mut self.samples, known.map(Some)), (&mut begun, Some(None))] {
            let Some(added) = added else { continue };
            let Some(first) = samples.values().map(|(from, _)| *from).min() else { continue };
            let minutes = first.minus(HISTORY_MINUTES)..=Minute(u32::MAX);
            let filter = Filter { added, ..Filter::of_minutes(minutes) };
            let mut pairs: Vec<(Candidate<'_>, &mut Sample)> = Vec::new();
            for (key, (_, sample)) in samples.iter_mut() {
                pairs.push((candidate(key, names), sample));
            }
            read(table, promise, &filter, &mut pairs)?;
        }
        self.samples.append(&mut begun);
        Ok(())
    }

    /// Whether a candidate has served nothing for a while in which its service has.
    fn is_gone(&self, name: &Name, names: &[&str], now: Minute) -> bool {
        let Some(service) = self.services.get(&name.service) else { return false };
        let place = names.iter().position(|known| *known == name.dimension);
        let seen = place.and_then(|place| service.values[place].get(&name.value));
        let until = service.seen.last.min(now);
        seen.is_none_or(|seen| seen.last <= until.minus(GONE_MINUTES))
    }
}

fn candidate<'a>((service, place, value): &'a Key, names: &[&'a str]) -> Candidate<'a> {
    Candidate { name: names[*place], dimension: *place, value, service: Some(service) }
}
