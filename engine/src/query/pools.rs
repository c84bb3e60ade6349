//! Pools at a moment: how the small customers fare together.
//!
//! A pool is judged without the customers whose own alerts fire, as a running service does
//! ([`crate::slo::pool`] says who is in it). What fires is what the service has decided, where
//! there is one; of a table that was replayed, what would fire now.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::model::Counts;
use crate::query::Promise;
use crate::query::alerts::window;
use crate::query::body::{AlertTransition, AlertWindow, BurnRow};
use crate::query::burn;
use crate::query::column::{column, sum};
use crate::slo::alert::{Look, State as AlertState, Tier, step, tiers_of};
use crate::slo::objective::{Objective, SliRef};
use crate::slo::window::window_range;
use crate::state::State;
use crate::state::series::Series;
use crate::time::Minute;

/// `GET /v1/pools`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pools {
    /// Newest minute that is in it.
    pub as_of: String,
    /// Whom the answer leaves in, where not all customers are in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// By pool, service and objective, then the fastest tier first.
    pub pools: Vec<PoolRow>,
}

/// A pool on one objective of one service, by one tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolRow {
    /// Its name: that of a tier or of a configured pool; empty for whoever is in none.
    pub pool: String,
    /// Which component.
    pub service: String,
    /// Which promise.
    pub objective: String,
    /// Which tier.
    pub tier: String,
    /// `page` or `ticket`.
    pub severity: String,
    /// `firing`; `insufficient`: burning without enough evidence; `no_data`: nothing was valid in
    /// its long window; else `inactive`.
    pub state: String,
    /// Customers of it whose own alerts fire in that service; their events are not in it.
    pub customers_apart: u64,
    /// The burn rate both windows have to reach.
    pub factor: f64,
    /// The long window now.
    pub long: AlertWindow,
    /// The short window now.
    pub short: AlertWindow,
}

/// A series, less those that are judged by themselves; for a customer there are none of these.
#[derive(Clone, Copy, Debug)]
pub struct Rest<'a> {
    /// All of it.
    pub series: &'a Series,
    /// What is left out.
    pub apart: &'a [&'a Series],
}

impl<'a> Rest<'a> {
    /// All of a series.
    pub fn whole(series: &'a Series) -> Rest<'a> {
        Rest { series, apart: &[] }
    }

    /// The counts over a range of minutes, both ends included.
    pub fn sum(&self, column: SliRef, minutes: RangeInclusive<Minute>) -> Counts {
        let mut rest = sum(self.series, column, minutes.clone());
        for one in self.apart {
            let Counts { valid, bad, excluded } = sum(one, column, minutes.clone());
            // A pool is kept for as long as alerts look back; who asks for more gets no less.
            rest.valid = rest.valid.saturating_sub(valid);
            rest.bad = rest.bad.saturating_sub(bad);
            rest.excluded = rest.excluded.saturating_sub(excluded);
        }
        rest
    }

    /// What a step of `tier` looks at, at the minute `at`.
    pub fn look(&self, column: SliRef, tier: &Tier, at: Minute) -> Look {
        let look = burn::look(self.series, column, tier, at);
        if self.apart.is_empty() {
            return look;
        }
        let long = self.sum(column, window_range(at, tier.spec.long.1));
        let short = self.sum(column, window_range(at, tier.spec.short.1));
        Look { long, short, ..look }
    }
}

/// The pools of `state` at the minute `at`. `burning` are the rows of its customers; `live` the
/// transitions of the last days, oldest first.
pub fn pools(
    promise: &Promise<'_>,
    state: &State,
    burning: &[BurnRow],
    live: &[AlertTransition],
    at: Minute,
) -> Pools {
    let mut apart: HashMap<(&str, &str), Vec<&Series>> = HashMap::new();
    let firing = burning.iter().filter(|row| row.state == "firing");
    let firing: BTreeSet<(&str, &str)> =
        firing.map(|row| (&*row.customer, &*row.service)).collect();
    for (customer, service) in firing {
        let pool = state.pools().name(state.pools().of(customer));
        apart.entry((pool, service)).or_default().extend(state.series(customer, service));
    }
    let mut decided: HashMap<[&str; 4], bool> = HashMap::new();
    for one in live {
        if let Some(pool) = &one.pool {
            let key = [&**pool, &*one.service, &*one.objective, &*one.tier];
            decided.insert(key, one.state == "firing");
        }
    }
    let mut rows = Vec::new();
    for series in state.pool_series() {
        let (pool, service) = (&*series.customer, &*series.service);
        let apart = apart.get(&(pool, service)).map_or(&[][..], Vec::as_slice);
        for objective in promise.objectives.resolve_pool(pool) {
            let Some(column) = column(promise.slis, objective, service) else { continue };
            for tier in tiers_of(objective, promise.alerts).active {
                let fires = decided.get(&[pool, service, &objective.name, tier.spec.name]);
                let fires = fires.is_some_and(|fires| *fires);
                rows.push(row(Rest { series, apart }, (objective, column), &tier, fires, at));
            }
        }
    }
    Pools { as_of: at.to_string(), partial: None, pools: rows }
}

fn row(
    rest: Rest<'_>,
    (objective, column): (&Objective, SliRef),
    tier: &Tier,
    fires: bool,
    at: Minute,
) -> PoolRow {
    let look = rest.look(column, tier, at);
    let state = match step(AlertState::default(), tier, &look).0 {
        _ if fires => "firing",
        AlertState::Inactive if look.long.valid == 0 => "no_data",
        state => state.name(),
    };
    PoolRow {
        pool: rest.series.customer.to_string(),
        service: rest.series.service.to_string(),
        objective: objective.name.clone(),
        tier: tier.spec.name.to_owned(),
        severity: tier.spec.severity.name().to_owned(),
        state: state.to_owned(),
        customers_apart: rest.apart.len() as u64,
        factor: tier.factor.to_f64(),
        long: window(tier.spec.long.0, tier.target, look.long),
        short: window(tier.spec.short.0, tier.target, look.short),
    }
}
