//! One evaluation of the live alerts, in two steps: *looking* and *entering*.
//!
//! Looking reads every series that may burn, and a part of those that may be silent
//! ([`super::silent`]); it takes nearly all of the time and changes nothing, so that a running
//! service answers meanwhile. Entering takes what was seen into the states of the alerts
//! ([`super::watch`]) and judges what spans series. Nothing is counted between the two.
//!
//! Only series with a bad event within the longest window of any tier are looked at, so a tick
//! costs what burns and not what exists. Nothing that is seen depends on the number of threads.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::memory::bad_min;
use super::silent;
use super::watch::{LOOK_BACK_MINUTES, Subject, Tick};
use super::{Pipeline, follow};
use crate::query::burn;
use crate::query::column::{column, sum};
use crate::slo::alert::{AlertOptions, Look, Tier, may_fire, tiers_of};
use crate::slo::objective::Objectives;
use crate::slo::window::window_range;
use crate::state::series::Series;
use crate::state::shard::Shard;
use crate::time::Minute;

/// What a tick sees.
pub struct Sight<'a> {
    tick: Tick,
    objectives: &'a Objectives,
    options: &'a AlertOptions,
    seen: Vec<Seen<'a>>,
    silence: Option<silent::Part>,
}

/// What is seen of one series by one objective and tier.
struct Seen<'a> {
    customer: Arc<str>,
    service: Arc<str>,
    /// Whose owner decides it.
    partition: u16,
    objective: &'a str,
    tier: Tier,
    look: Look,
}

impl Pipeline {
    /// Evaluates the alerts of every series that may burn, as of the minute of `now_ms`. Those
    /// that may have been evicted before are left out until [`Pipeline::load_evicted`].
    pub fn tick(&mut self, now_ms: i64, objectives: &Objectives, options: &AlertOptions) {
        let sight = self.look(now_ms, objectives, options);
        self.enter(sight);
    }

    /// The first step of [`Pipeline::tick`]: all that it looks at, series by series.
    pub fn look<'a>(
        &self,
        now_ms: i64,
        objectives: &'a Objectives,
        options: &'a AlertOptions,
    ) -> Sight<'a> {
        let now = Minute::of_ms(now_ms);
        let (firing, bad_min) = (self.watch.firing(), bad_min(objectives, options));
        let is_firing = |who: &str| firing.contains(who);
        let (promised, deciders) = ((objectives, options), self.deciders());
        let of_shard = |shard: &Shard| {
            self.look_at(shard.hot_series(bad_min, is_firing), &deciders, is_firing, promised, now)
        };
        let seen = self.state.shards.par_iter().flat_map_iter(of_shard).collect();
        let silence = self.look_for_silence(now, options);
        Sight { tick: self.tick_at(now_ms), objectives, options, seen, silence }
    }

    /// What is seen of series, in their order; with each the partition of its newest rows.
    fn look_at<'a, 's>(
        &self,
        hot: impl Iterator<Item = (&'s Series, u16)>,
        deciders: &follow::Deciders,
        is_firing: impl Fn(&str) -> bool,
        (objectives, options): (&'a Objectives, &AlertOptions),
        now: Minute,
    ) -> Vec<Seen<'a>> {
        // By address: nearly all series have the same few objectives.
        let mut tiers: HashMap<*const _, Vec<Tier>> = HashMap::new();
        let mut seen = Vec::new();
        for (series, partition) in hot {
            let Some(partition) = deciders.of(partition) else { continue };
            let is_firing = is_firing(&series.customer);
            for objective in objectives.resolve(&series.customer, &series.service) {
                let slis = &self.options.slis;
                let Some(column) = column(slis, objective, &series.service) else { continue };
                let tiers = tiers
                    .entry(std::ptr::from_ref(objective))
                    .or_insert_with(|| tiers_of(objective, options).active);
                for tier in tiers.iter() {
                    // Most series that are looked at burn no more, and none of their alerts fires.
                    let short = || sum(series, column, window_range(now, tier.spec.short.1));
                    if !is_firing && !may_fire(tier, short()) {
                        continue;
                    }
                    seen.push(Seen {
                        customer: Arc::clone(&series.customer),
                        service: Arc::clone(&series.service),
                        partition,
                        objective: &objective.name,
                        tier: tier.clone(),
                        look: burn::look(series, column, tier, now),
                    });
                }
            }
        }
        seen
    }

    /// The second step of [`Pipeline::tick`]: what was seen changes the states of alerts.
    ///
    /// # Panics
    /// If anything was counted since it was looked, or the table followed.
    pub fn enter(&mut self, sight: Sight<'_>) {
        let Sight { tick, objectives, options, seen, silence } = sight;
        assert_eq!(tick, self.tick_at(tick.at_ms), "what was seen is what there is");
        let oldest = Minute::of_ms(tick.at_ms).minus(LOOK_BACK_MINUTES);
        self.memory.note_tick(&self.state, tick.at_ms, (objectives, options));
        let firing = self.watch.firing();
        self.state
            .shards
            .iter_mut()
            .for_each(|shard| shard.cool(oldest, |who| firing.contains(who)));
        for one in &seen {
            let subject = Subject { customer: &one.customer, pool: None, service: &one.service };
            let promise = (one.objective, &one.tier);
            self.watch.step(subject, one.partition, promise, &one.look, &tick);
        }
        self.state.forget_pools(oldest);
        if self.is_judge() {
            self.judge_pools(&tick, (objectives, options));
            self.judge_silence(&tick, options, silence);
            self.judge_incidents(&tick, (objectives, options));
        }
    }
}
