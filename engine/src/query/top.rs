//! The worst customers, page by page.
//!
//! A row is a customer, a service and an objective. Rows have a total order: by what was asked
//! for, then by the names, so pages neither repeat nor miss a row while the counts stand still.
//! A page's `next` is a *keyset cursor*: it holds the place of the page's last row, not a number
//! of rows, so that finding the next page costs the same wherever it is.
//!
//! With a million series only 40-byte keys are made and the rows of one page are selected, not
//! sorted from all: the texts of a row are written for those of the page alone.

mod cursor;

use std::cmp::{Ordering, Reverse};

use rayon::prelude::*;

use self::cursor::Cursor;
use crate::model::Counts;
use crate::query::body::{BurnRow, Top, TopRow};
use crate::query::burn::burn;
use crate::query::column::{column, sum};
use crate::query::{AskError, By, Promise};
use crate::slo::budget::{self, Budget};
use crate::slo::objective::{Objective, SliRef};
use crate::slo::window::window_range;
use crate::state::series::Series;
use crate::time::Minute;

/// The most rows of one page.
pub const LIMIT_MAX: usize = 1_000;

/// The windows that burn is sorted by, in minutes: `1h`, then `5m`.
const BURN_MINUTES: [u32; 2] = [60, 5];

/// Which page is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What to sort by.
    pub by: By,
    /// The last minute that is in every figure.
    pub at: Minute,
    /// How many rows, 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// `next` of the page before; `None` for the first one.
    pub cursor: Option<&'a str>,
    /// What burns by the ticks of a live service, sorted as by [`burn`];
    /// `None` = the settled alerts of the page's series say which tiers fire.
    pub burning: Option<&'a [BurnRow]>,
}

impl By {
    /// Its name in questions and answers.
    pub fn name(self) -> &'static str {
        match self {
            By::Burn => "burn",
            By::Budget => "budget",
            By::Bad => "bad",
            By::Valid => "valid",
        }
    }
}

/// One page of the rows of `series`, in any order. A series counts where it has events in the
/// objective's period.
///
/// # Errors
/// [`AskError::Argument`] for a limit out of range and for a cursor that is not one of this
/// order.
pub fn top(promise: &Promise<'_>, series: &[&Series], page: &Page<'_>) -> Result<Top, AskError> {
    if !(1..=LIMIT_MAX).contains(&page.limit) {
        let problem = format!("{} is out of range; it takes 1 to {LIMIT_MAX}", page.limit);
        return Err(AskError::Argument { field: "limit", problem });
    }
    let cursor = page.cursor.map(|text| Cursor::decode(text, page.by)).transpose()?;
    let keys = |series| keys(promise, series, page);
    let mut rows: Vec<Key<'_>> = series.par_iter().copied().flat_map_iter(keys).collect();
    let total = rows.len() as u64;
    if let Some(cursor) = &cursor {
        rows.retain(|key| key.place() > cursor.place());
    }
    let more = rows.len() > page.limit;
    if more {
        rows.select_nth_unstable(page.limit);
        rows.truncate(page.limit);
    }
    rows.sort_unstable();
    let next = more.then(|| rows.last()).flatten();
    Ok(Top {
        as_of: page.at.to_string(),
        by: page.by.name().to_owned(),
        total,
        partial: None,
        next: next.map(|key| Cursor::of(key.place()).encode(page.by)),
        customers: rows.par_iter().map(|key| row(promise, key, page)).collect(),
    })
}

/// Where a row stands: its rank, the largest first, then its names.
type Place<'a> = (Reverse<Rank>, &'a str, &'a str, &'a str);

/// What a page is sorted by, as numbers whose order is the order of the ratios they stand for.
type Rank = [u64; 2];

/// A row that is not written yet.
struct Key<'a> {
    rank: Rank,
    series: &'a Series,
    objective: &'a Objective,
    column: SliRef,
}

impl Key<'_> {
    fn place(&self) -> Place<'_> {
        let Series { customer, service, .. } = self.series;
        (Reverse(self.rank), customer, service, &self.objective.name)
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// The rows of one series: one for each objective that covers its service and had events.
fn keys<'a>(promise: &Promise<'a>, series: &'a Series, page: &Page<'_>) -> Vec<Key<'a>> {
    let (by, at) = (page.by, page.at);
    let key = |objective: &'a Objective| {
        let column = column(promise.slis, objective, &series.service)?;
        let active = series.is_active_in(objective.period.range(at));
        active.then(|| {
            let rank = rank(by, series, objective, column, at);
            Key { rank, series, objective, column }
        })
    };
    let objectives = promise.objectives.resolve(&series.customer, &series.service);
    objectives.into_iter().filter_map(key).collect()
}

fn rank(by: By, series: &Series, objective: &Objective, column: SliRef, at: Minute) -> Rank {
    let period = || sum(series, column, objective.period.range(at));
    match by {
        By::Burn => BURN_MINUTES.map(|minutes| {
            let counts = sum(series, column, window_range(at, minutes));
            ordered(budget::burn_rate(counts, objective.target))
        }),
        By::Budget => [ordered(Budget::of(period(), objective.target).consumed), 0],
        By::Bad => [period().bad, 0],
        By::Valid => [period().valid, 0],
    }
}

/// The bits of a ratio that is never negative have its order; nothing to judge comes last.
fn ordered(ratio: Option<f64>) -> u64 {
    ratio.map_or(0, |ratio| ratio.to_bits() + 1)
}

/// The row of a key, written.
fn row(promise: &Promise<'_>, key: &Key<'_>, page: &Page<'_>) -> TopRow {
    let Key { series, objective, column, .. } = *key;
    let at = page.at;
    let counts = sum(series, column, objective.period.range(at));
    let [hour, five_minutes] = BURN_MINUTES.map(|minutes| {
        let counts: Counts = sum(series, column, window_range(at, minutes));
        budget::burn_rate(counts, objective.target)
    });
    TopRow {
        customer: series.customer.to_string(),
        service: series.service.to_string(),
        objective: objective.name.clone(),
        target: objective.target.to_f64(),
        valid: counts.valid,
        bad: counts.bad,
        availability: budget::availability(counts),
        budget_left: Budget::of(counts, objective.target).left,
        burn_rate_1h: hour,
        burn_rate_5m: five_minutes,
        firing: firing(promise, key, page),
    }
}

/// The tiers of a row that fire, by name.
fn firing(promise: &Promise<'_>, key: &Key<'_>, page: &Page<'_>) -> Vec<String> {
    let Key { series, objective, .. } = *key;
    let settled;
    let rows = match page.burning {
        Some(rows) => rows,
        None => {
            settled = burn(promise, &[series], page.at).burning;
            &settled
        }
    };
    let of = (&*series.customer, &*series.service, &*objective.name);
    let first = rows.partition_point(|row| (&*row.customer, &*row.service, &*row.objective) < of);
    rows[first..]
        .iter()
        .take_while(|row| (&*row.customer, &*row.service, &*row.objective) == of)
        .filter(|row| row.state == "firing")
        .map(|row| row.tier.clone())
        .collect()
}
