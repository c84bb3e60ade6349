//! Live alerts of pools: who is too small for evidence is judged with others.
//!
//! At each tick the judge looks at every pool and service as at one large customer, with the
//! promises of its tier. Left out are the customers whose own alerts fire: they have been told
//! of, and a pool that burned because of them would tell of them again, and hide an outage of the
//! small ones behind a large one that has been failing for days. So a pool burns because of those
//! for whom there is no evidence one by one.
//!
//! The counts are exact: those of the pool, evicted customers included, less those of customers
//! whose alerts fire, who are in memory. Where one of these is being loaded, the pool is judged
//! at a later tick. Another instance's alerts are known when they are committed; so that a pool
//! does not fire in their place meanwhile, one that is about to is held against whoever would
//! fire by themselves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Pipeline;
use super::watch::{Subject, Tick, Watch};
use crate::query::burn;
use crate::query::column::column;
use crate::query::pools::Rest;
use crate::slo::alert::{AlertOptions, Look, State as AlertState, Tier, step, tiers_of};
use crate::slo::objective::{Objective, Objectives, Slis};
use crate::slo::sli::SliRef;
use crate::state::State;
use crate::state::series::Series;
use crate::state::shard::NOBODY;
use crate::time::Minute;

/// The series of customers whose own alerts fire, by pool and service.
pub(super) struct Apart<'a>(HashMap<(&'a str, Arc<str>), Option<Vec<&'a Series>>>);

impl<'a> Apart<'a> {
    /// As the alerts stand.
    pub fn of(watch: &Watch, state: &'a State) -> Apart<'a> {
        let mut apart: HashMap<_, Option<Vec<&Series>>> = HashMap::new();
        for (customer, service) in watch.firing_series() {
            let pool = state.pools().name(state.pools().of(&customer));
            let found =
                apart.entry((pool, Arc::clone(&service))).or_insert_with(|| Some(Vec::new()));
            *found = found.take().and_then(|mut series| {
                series.push(state.series(&customer, &service)?);
                Some(series)
            });
        }
        Apart(apart)
    }

    /// A pool without them; `None` where one of them is not in memory.
    pub fn rest<'b>(&'b self, pool: &'b Series) -> Option<Rest<'b>> {
        let key = (&*pool.customer, Arc::clone(&pool.service));
        match self.0.get(&key) {
            None => Some(Rest::whole(pool)),
            Some(apart) => apart.as_deref().map(|apart| Rest { series: pool, apart }),
        }
    }
}

/// One promise of a pool, and one tier of it.
struct Asked<'a> {
    objective: &'a Objective,
    column: SliRef,
    tier: Tier,
}

/// Every objective and tier that a series is judged by.
fn asked<'a>(
    objectives: Vec<&'a Objective>,
    service: &str,
    slis: &Slis,
    options: &AlertOptions,
) -> Vec<Asked<'a>> {
    let of_objective = |objective: &'a Objective| {
        let column = column(slis, objective, service)?;
        let tiers = tiers_of(objective, options).active;
        Some(tiers.into_iter().map(move |tier| Asked { objective, column, tier }))
    };
    objectives.into_iter().filter_map(of_objective).flatten().collect()
}

impl Pipeline {
    /// Evaluates the alerts of pools; ends those of pools and promises that are no more.
    pub(super) fn judge_pools(
        &mut self,
        tick: &Tick,
        (objectives, options): (&Objectives, &AlertOptions),
    ) {
        let now = Minute::of_ms(tick.at_ms);
        let (state, slis) = (&self.state, &self.options.slis);
        let apart = Apart::of(&self.watch, state);
        let mut judged = HashSet::new();
        for series in state.pool_series() {
            let pool = &series.customer;
            let asked = asked(objectives.resolve_pool(pool), &series.service, slis, options);
            let nobody = Arc::from("");
            let subject = Subject { customer: &nobody, pool: Some(pool), service: &series.service };
            let fingerprint =
                |one: &Asked<'_>| subject.fingerprint(&one.objective.name, one.tier.spec.name);
            judged.extend(asked.iter().map(fingerprint));
            let Some(mut rest) = apart.rest(series) else { continue };
            let looks = |rest: Rest<'_>| -> Vec<Look> {
                asked.iter().map(|one| rest.look(one.column, &one.tier, now)).collect()
            };
            let mut seen = looks(rest);
            let fires = |(one, look): (&Asked<'_>, &Look)| {
                !self.watch.is_firing(&fingerprint(one))
                    && step(AlertState::default(), &one.tier, look).0.is_firing()
            };
            let mut alone: Vec<&Series> = Vec::new();
            if asked.iter().zip(&seen).any(fires) {
                alone.extend_from_slice(rest.apart);
                let others = state.hot_in_pool(pool, &series.service);
                let others =
                    others.filter(|one| !alone.iter().any(|known| std::ptr::eq(*known, *one)));
                let others: Vec<&Series> = others
                    .filter(|one| fires_alone(one, (objectives, options), slis, now))
                    .collect();
                alone.extend(others);
                rest = Rest { series, apart: &alone };
                seen = looks(rest);
            }
            for (one, look) in asked.iter().zip(&seen) {
                let promise = (one.objective.name.as_str(), &one.tier);
                self.watch.step(subject, NOBODY, promise, look, tick);
            }
        }
        for fired in self.watch.firing_of_many() {
            if fired.pool.is_some() && !judged.contains(&fired.fingerprint) {
                self.watch.end(&fired, tick);
            }
        }
    }
}

/// Whether an alert of the series would fire, if none did.
fn fires_alone(
    series: &Series,
    (objectives, options): (&Objectives, &AlertOptions),
    slis: &Slis,
    now: Minute,
) -> bool {
    let objectives = objectives.resolve(&series.customer, &series.service);
    asked(objectives, &series.service, slis, options).iter().any(|one| {
        let look = burn::look(series, one.column, &one.tier, now);
        step(AlertState::default(), &one.tier, &look).0.is_firing()
    })
}
