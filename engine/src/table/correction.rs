//! Corrections: what is excluded of what was counted before.
//!
//! A correction is a row that names minutes, customers and services, with a reason. It changes no
//! row that is there: every reader of `series`, `sli`, `dimension` and `failure` here applies all
//! corrections to what it reads, so that `valid` is `excluded` in those minutes, whether a row was
//! counted before the correction or after it. Reading one file by its name gives it as it is: that
//! is for proofs.
//!
//! A further row takes a correction back: both stay in the table, and say what was changed when.
//!
//! Rows of `dimension` hold all customers together: only a correction of everybody's events can
//! be applied to them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::read::{DimensionRow, FailureRow, SeriesRow, SliRow};
use super::schema::Grain;
use super::{Filter, Table, TableError};
use crate::model::Counts;
use crate::slo::exclusion::{Exclusion, excluded_measures, joined};
use crate::time::{Minute, parse_rfc3339};

/// A correction, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// Names it.
    pub id: String,
    /// First minute, RFC 3339.
    pub from: String,
    /// Last minute, included.
    pub to: String,
    /// Whose events; empty = everybody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub customers: Vec<String>,
    /// Of which services; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Why.
    pub reason: String,
    /// When it was made, RFC 3339.
    pub at: String,
    /// The correction that this one takes back, with its minutes and scope; `None` = it excludes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
}

impl Correction {
    /// What it excludes; `None` where its times are none.
    pub fn exclusion(&self) -> Option<Exclusion> {
        let minute = |text: &str| parse_rfc3339(text.as_bytes()).map(Minute::of_ms);
        let customers: BTreeSet<String> = self.customers.iter().cloned().collect();
        Some(Exclusion {
            customers: Some(customers).filter(|customers| !customers.is_empty()),
            services: self.services.clone(),
            spans: joined(vec![(minute(&self.from)?, minute(&self.to)?)]),
            reason: self.reason.clone(),
        })
    }
}

/// The corrections that a reader knows, and the version that they are of.
pub(super) type Known = (u64, Arc<Vec<Exclusion>>);

impl Table {
    /// What the corrections of this version exclude.
    ///
    /// # Errors
    /// The table cannot be read, or a correction in it is damaged.
    pub fn corrections(&self) -> Result<Arc<Vec<Exclusion>>, TableError> {
        let mut known = self.corrections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, corrections)) = &*known
            && *version == self.version()
        {
            return Ok(Arc::clone(corrections));
        }
        let corrections = Arc::new(self.read_corrections()?);
        *known = Some((self.version(), Arc::clone(&corrections)));
        Ok(corrections)
    }

    /// Every correction of this version, those that were undone and those that undo them too, in
    /// the order in which they were made.
    ///
    /// # Errors
    /// The table cannot be read, or a correction in it is damaged.
    pub fn stored_corrections(&self) -> Result<Vec<Correction>, TableError> {
        let (mut corrections, mut damaged) = (Vec::new(), None);
        self.for_each_correction(&Filter::default(), |row| {
            let parsed = serde_json::from_str(row.alert).ok();
            match parsed.filter(|correction: &Correction| correction.exclusion().is_some()) {
                Some(correction) => corrections.push(correction),
                None => damaged = Some(format!("{}: {}", row.id, row.alert)),
            }
        })?;
        let error =
            |found| TableError::Value { grain: Grain::Correction.name(), column: "alert", found };
        corrections.sort_by(|a, b| (&a.at, &a.id).cmp(&(&b.at, &b.id)));
        damaged.map_or(Ok(corrections), |found| Err(error(found)))
    }

    fn read_corrections(&self) -> Result<Vec<Exclusion>, TableError> {
        let all = self.stored_corrections()?;
        let undone: BTreeSet<&str> = all.iter().filter_map(|one| one.undoes.as_deref()).collect();
        let holds = |one: &&Correction| one.undoes.is_none() && !undone.contains(&*one.id);
        Ok(all.iter().filter(holds).filter_map(Correction::exclusion).collect())
    }

    /// What is to be applied to a scan. Who follows the log entry by entry has looked whether
    /// there are new corrections, and goes by those that are known.
    pub(super) fn applied(&self, filter: &Filter) -> Result<Applied, TableError> {
        if filter.file.is_some() {
            return Ok(Applied(Arc::default()));
        }
        let known = self.corrections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known.filter(|_| filter.added.is_some()) {
            Some((_, corrections)) => Ok(Applied(corrections)),
            None => self.corrections().map(Applied),
        }
    }
}

/// Corrections on their way over rows.
pub(super) struct Applied(Arc<Vec<Exclusion>>);

impl Applied {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them touches some minutes.
    pub fn touches(&self, first: Minute, last: Minute) -> bool {
        self.0.iter().any(|one| one.spans_in(first, last).next().is_some())
    }

    /// The filter with the columns that corrections go by.
    pub fn widened(&self, filter: &Filter, by: &[&'static str]) -> Filter {
        let mut filter = filter.clone();
        if let Some(columns) = filter.columns.as_mut().filter(|_| !self.is_empty()) {
            let lacking = by.iter().filter(|column| !columns.contains(column)).copied();
            let lacking: Vec<&str> = lacking.collect();
            columns.extend(lacking);
        }
        filter
    }

    fn covers(&self, minute: Minute, customer: &str, service: &str) -> bool {
        self.0.iter().any(|one| one.covers(minute, customer, service))
    }

    /// What is left of a row.
    pub fn series<'a>(&self, row: SeriesRow<'a>) -> SeriesRow<'a> {
        if !self.covers(row.minute, row.customer, row.service) {
            return row;
        }
        SeriesRow { measures: excluded_measures(&row.measures), latency: &[], ..row }
    }

    /// What is left of a row.
    pub fn sli<'a>(&self, row: SliRow<'a>) -> SliRow<'a> {
        if !self.covers(row.minute, row.customer, row.service) {
            return row;
        }
        let excluded = row.counts.valid + row.counts.excluded;
        SliRow { counts: Counts { valid: 0, bad: 0, excluded }, ..row }
    }

    /// What is left of a row.
    pub fn dimension<'a>(&self, row: DimensionRow<'a>) -> DimensionRow<'a> {
        if !self.0.iter().any(|one| one.covers_everybody(row.minute, row.service)) {
            return row;
        }
        DimensionRow { measures: excluded_measures(&row.measures), latency: &[], ..row }
    }

    /// Whether the failures of a row are any.
    pub fn is_failure(&self, row: &FailureRow<'_>) -> bool {
        !self.covers(row.minute, row.customer, row.service)
    }
}
