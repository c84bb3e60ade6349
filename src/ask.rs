//! Questions to a table or a running service: [`Asker`] answers them for the command line and
//! the API alike.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use ninefold_engine::config::Config;
use ninefold_engine::pipeline::fold::Need;
use ninefold_engine::query::body::{
    Alerts, Burn, Fleet, Impact, Report, Sla, Timeseries, Top,
};
use ninefold_engine::query::{self, Answers, AskError, Basis, By, Health, Promise};
use ninefold_engine::report;
use ninefold_engine::slo::objective::Objective;
use ninefold_engine::slo::period::{Period, month_range};
use ninefold_engine::state::State;
use ninefold_engine::table::Filter;
use ninefold_engine::time::{DAY_MINUTES, Minute, parse_rfc3339};

use crate::states::{States, TableStates, open_table};
use crate::{AlertBasis, Place, ReportFormat, TopBy, batch, live, show};

/// The longest period there is: a quarter of 92 days, and a day for zones.
const LONGEST_MINUTES: u32 = 93 * DAY_MINUTES;
/// The longest window, 30 days, and a month of 31.
const USUAL_MINUTES: u32 = 32 * DAY_MINUTES;

/// Answers everything from a source of states.
pub struct Asker<S> {
    states: S,
    config: Config,
}

impl<S: States> Asker<S> {
    /// Answers by what `config` promises.
    pub fn new(states: S, config: Config) -> Asker<S> {
        Asker { states, config }
    }

    fn promise(&self) -> Promise<'_> {
        let config = &self.config;
        Promise {
            slis: &config.slis,
            objectives: &config.objectives,
            alerts: &config.alerts,
            credits: &config.credits,
            zone: &config.report_zone,
        }
    }

    /// The minutes that windows and periods that end at `at` can reach.
    fn reach(&self, at: Minute) -> RangeInclusive<Minute> {
        let quarter = |objective: &Objective| matches!(objective.period, Period::Quarter(_));
        let longest = self.config.objectives.all().any(quarter);
        at.minus(if longest { LONGEST_MINUTES } else { USUAL_MINUTES })..=at
    }

    fn at(&self, at: Option<Minute>) -> Result<Minute, AskError> {
        let now = || self.states.now().map(|now| now.unwrap_or_default());
        at.map_or_else(now, Ok)
    }

    fn all(&self, minutes: RangeInclusive<Minute>) -> Need {
        Need { customer: None, minutes, histograms: None }
    }
}
