//! Verdicts of a running service: that a release or a flag has turned out bad becomes a row of
//! the next commit, and so does that this is over.
//!
//! What is judged comes from outside, already looked at ([`crate::query::young`]): here is what
//! was decided before, and so what is news. Only the judge decides, in the name of
//! [`JUDGE`](crate::table::JUDGE); the others take its rows over as they follow the table. A `bad`
//! stands until the candidate is proven good or serves nothing any more: evidence that fades
//! calls for no second roll-back.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::watch::Tick;
use super::{Pipeline, batches};
use crate::query::Promise;
use crate::query::body::Verdict as Body;
use crate::query::judgement::{Change, Judgement, Name};
use crate::query::verdict::budget_consumed;
use crate::query::young::Look;
use crate::slo::verdict::Verdict;
use crate::table::schema::Grain;
use crate::table::{DataFile, Filter, Table, TableError};
use crate::time::{Day, Minute};

/// A stored judgement: what receivers are told, and the tick.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// What receivers are told.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// When and where it was made.
    pub tick: Tick,
}

/// The newest judgement on each candidate, and those that are to be committed.
#[derive(Default)]
pub struct Docket {
    /// By fingerprint.
    known: HashMap<String, Judgement>,
    pending: Vec<Stored>,
}

impl Docket {
    /// The judgements as the table has them.
    ///
    /// # Errors
    /// The table cannot be read.
    pub(super) fn recover(table: &Table) -> Result<Docket, TableError> {
        let mut docket = Docket::default();
        docket.enter(table, &Filter::default())?;
        Ok(docket)
    }

    /// Takes over the judgements that pass a filter, and returns them.
    ///
    /// # Errors
    /// The table cannot be read.
    pub(super) fn enter(
        &mut self,
        table: &Table,
        filter: &Filter,
    ) -> Result<Vec<Stored>, TableError> {
        let stored = stored_verdicts(table, filter)?;
        for Stored { judgement, .. } in &stored {
            self.known.insert(judgement.fingerprint.clone(), judgement.clone());
        }
        Ok(stored)
    }

    /// Judgements that no commit has taken.
    pub fn pending(&self) -> &[Stored] {
        &self.pending
    }

    /// Forgets the judgements that a commit has taken.
    pub(super) fn drop_pending(&mut self) {
        self.pending.clear();
    }

    fn push(&mut self, judgement: Judgement, tick: &Tick) {
        self.known.insert(judgement.fingerprint.clone(), judgement.clone());
        self.pending.push(Stored { judgement, tick: tick.clone() });
    }

    /// The judgement that a candidate is bad, where that is the newest one.
    fn bad(&self, name: &Name) -> Option<&Judgement> {
        self.known.get(&name.fingerprint()).filter(|known| known.is_bad())
    }

    /// Takes a verdict; `cost` is asked for what a bad one cost.
    fn judge(
        &mut self,
        name: &Name,
        verdict: Body,
        tick: &Tick,
        cost: impl FnOnce(&Body) -> Option<f64>,
    ) {
        let known = self.known.get(&name.fingerprint());
        let judgement = match (verdict.verdict, known) {
            (Verdict::Good, Some(bad)) if bad.is_bad() => {
                bad.over(Change::Good, verdict, tick.at_ms)
            }
            (Verdict::Bad, known) if known.is_none_or(|known| !known.is_bad()) => {
                let ordinal = known.map_or(0, |known| known.ordinal + 1);
                let budget_consumed = cost(&verdict);
                name.bad(ordinal, Body { budget_consumed, ..verdict }, tick.at_ms)
            }
            _ => return,
        };
        self.push(judgement, tick);
    }

    /// A candidate serves nothing any more.
    fn gone(&mut self, name: &Name, tick: &Tick) {
        if let Some(bad) = self.bad(name) {
            let judgement = bad.over(Change::Gone, bad.verdict.clone(), tick.at_ms);
            self.push(judgement, tick);
        }
    }
}

/// The stored judgements that pass a filter, in the order in which they were made.
///
/// # Errors
/// The table cannot be read, or a judgement in it is damaged.
pub fn stored_verdicts(table: &Table, filter: &Filter) -> Result<Vec<Stored>, TableError> {
    let (mut found, mut damaged) = (Vec::new(), None);
    table.for_each_verdict(filter, |row| match serde_json::from_str::<Stored>(row.alert) {
        Ok(stored) => found.push(stored),
        Err(error) => damaged = Some(format!("{}: {error}", row.id)),
    })?;
    found.sort_by_key(|stored| stored.tick.order());
    let error = |found| TableError::Value { grain: Grain::Verdict.name(), column: "alert", found };
    damaged.map_or(Ok(found), |found| Err(error(found)))
}

impl Pipeline {
    /// The candidates whose newest verdict is bad, in no order.
    pub fn bad_verdicts(&self) -> Vec<Name> {
        let known = self.verdicts.known.values();
        known.filter(|judgement| judgement.is_bad()).map(Judgement::name).collect()
    }

    /// Takes what a look has found at `now_ms`, where this instance is the judge: what is news
    /// goes into the next commit.
    pub fn note_verdicts(&mut self, look: Look, now_ms: i64, promise: &Promise<'_>) {
        if !self.is_judge() {
            return;
        }
        let (tick, now) = (self.tick_at(now_ms), Minute::of_ms(now_ms));
        let state = &self.state;
        for judged in look.judged {
            let series = judged.hit.iter().flat_map(|customer| state.series_of(customer));
            let cost = |verdict: &Body| budget_consumed(promise, verdict, series, now);
            self.verdicts.judge(&judged.name, judged.verdict, &tick, cost);
        }
        look.gone.iter().for_each(|name| self.verdicts.gone(name, &tick));
    }

    /// The judgements since the last commit, by day.
    pub(super) fn verdict_files(&self) -> Vec<DataFile> {
        let mut days: BTreeMap<Day, Vec<&Stored>> = BTreeMap::new();
        for stored in self.verdicts.pending() {
            days.entry(Minute::of_ms(stored.tick.at_ms).day()).or_default().push(stored);
        }
        let file = |(day, stored): (Day, Vec<&Stored>)| {
            let text = |get: fn(&Judgement) -> &str| {
                batches::texts(stored.iter().map(move |stored| get(&stored.judgement)))
            };
            let json: Vec<String> = stored
                .iter()
                .map(|stored| serde_json::to_string(stored).expect("a judgement is plain data"))
                .collect();
            let columns = vec![
                batches::minutes(stored.iter().map(|stored| Minute::of_ms(stored.tick.at_ms))),
                text(|_| ""),
                text(|judgement| judgement.verdict.service.as_deref().unwrap_or_default()),
                text(|judgement| &judgement.id),
                text(|judgement| &judgement.fingerprint),
                batches::texts(json.iter().map(String::as_str)),
            ];
            let batches = vec![batches::batch(Grain::Verdict, columns)];
            DataFile { grain: Grain::Verdict, day, batches }
        };
        days.into_iter().map(file).collect()
    }
}
