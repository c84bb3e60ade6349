//! What a replay did, and what its sources hold in the table.

use std::collections::HashSet;

use super::{EventCounts, Pipeline, PipelineError};
use crate::model::Counts;
use crate::query::body::ReplaySummary;
use crate::table::{Filter, TableError};
use crate::time::Minute;

impl Pipeline {
    /// The summary of a run over `partitions`, all of it committed.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn summary(&self, partitions: &[String]) -> Result<ReplaySummary, PipelineError> {
        let lines = self.lines;
        let (already, events, customers) = if self.resumed {
            let (events, customers) = self.scan_sources(partitions)?;
            (self.read_ever(partitions)? - lines.read, events, customers)
        } else {
            // All that the table holds of these sources, this process has counted.
            (0, self.events, self.state.customers())
        };
        let mut summary = ReplaySummary {
            read: lines.read,
            counted: lines.counted,
            dead: lines.dead,
            duplicate: lines.duplicate,
            invalid_latency: lines.invalid_latency,
            unterminated: self.unterminated,
            already,
            customers,
            ..ReplaySummary::default()
        };
        (summary.valid, summary.bad, summary.excluded) =
            (events.valid, events.bad, events.excluded);
        summary.from = events.minutes.map(|(first, _)| first.to_string());
        summary.to = events.minutes.map(|(_, last)| last.to_string());
        Ok(summary)
    }

    /// How many lines of these partitions were ever read, by the table.
    fn read_ever(&self, partitions: &[String]) -> Result<u64, TableError> {
        let mut read = 0;
        self.table.for_each_source(&Filter::default(), |row| {
            if partitions.iter().any(|partition| partition == row.partition) {
                read += row.read;
            }
        })?;
        Ok(read)
    }

    fn scan_sources(&self, partitions: &[String]) -> Result<(EventCounts, u64), TableError> {
        let mut events = EventCounts::default();
        let mut customers: HashSet<String> = HashSet::new();
        let columns = ["minute", "customer", "valid", "bad", "excluded", "partition"];
        let filter = Filter { columns: Some(columns.to_vec()), ..Filter::default() };
        self.table.for_each_series(&filter, |row| {
            if !partitions.iter().any(|partition| partition == row.partition) {
                return;
            }
            events.add(row.measures.counts(), (row.minute, row.minute));
            if !customers.contains(row.customer) {
                customers.insert(row.customer.to_owned());
            }
        })?;
        Ok((events, customers.len() as u64))
    }
}

impl EventCounts {
    /// Adds events, and the first and the last minute that they lie in.
    pub fn add(&mut self, counts: Counts, minutes: (Minute, Minute)) {
        self.valid += counts.valid;
        self.bad += counts.bad;
        self.excluded += counts.excluded;
        let (first, last) = self.minutes.unwrap_or(minutes);
        self.minutes = Some((first.min(minutes.0), last.max(minutes.1)));
    }
}
