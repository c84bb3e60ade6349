//! Questions to a table or a running service: [`Asker`] answers them for the command line and
//! the API alike.

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::anyhow;
use ninefold_engine::config::Config;
use ninefold_engine::pipeline::decision::stored_silences;
use ninefold_engine::pipeline::fold::Need;
use ninefold_engine::pipeline::gap::gaps_in;
use ninefold_engine::pipeline::sent::stored_sent;
use ninefold_engine::pipeline::verdicts::stored_verdicts;
use ninefold_engine::query::backtest::Backtest;
use ninefold_engine::query::body::{
    self, AlertTransition, Alerts, Burn, DataGap, Excluded, Fleet, Impact, IncidentStatus,
    Incidents, Pools, Report, ReportCustomer, Silent, Sla, Timeseries, Top, Verdict,
};
use ninefold_engine::query::excluded::excluded_in;
use ninefold_engine::query::fleet::Everybody;
use ninefold_engine::query::impact::{Dimensions, MINUTES_BEFORE};
use ninefold_engine::query::review::{self, Review};
use ninefold_engine::query::risks::{self, Risks};
use ninefold_engine::query::rules::prometheus_rules;
use ninefold_engine::query::top::Page;
use ninefold_engine::query::verdict::{Candidate, first_seen, sample};
use ninefold_engine::query::{self, Answers, AskError, Basis, By, Health, Promise};
use ninefold_engine::report;
use ninefold_engine::report::everybody::Detail;
use ninefold_engine::slo::objective::Objective;
use ninefold_engine::slo::period::{Period, month_range, quarter_range};
use ninefold_engine::slo::window::{WINDOW_MINUTES_MAX, window_range};
use ninefold_engine::state::State;
use ninefold_engine::state::series::Series;
use ninefold_engine::table::Filter;
use ninefold_engine::time::{DAY_MINUTES, Minute};

use crate::costly::Costly;
use crate::live::Current;
use crate::remembered::{Remembered, Seen};
use crate::states::{States, TableStates, open_table};
use crate::{AlertBasis, Place, ReportFormat, ReviewFormat, TopBy, batch, live, show};

/// The longest period there is: a quarter of 92 days, and a day for zones.
const LONGEST_MINUTES: u32 = 93 * DAY_MINUTES;
/// The longest window, 30 days, and a month of 31.
const USUAL_MINUTES: u32 = 32 * DAY_MINUTES;

/// How long a pool may fire without a further transition.
const DECIDED_MINUTES: u32 = 7 * DAY_MINUTES;

/// What the first page explains: the failures of so many minutes.
const CAUSE_MINUTES: u32 = 30;

/// Answers everything from a source of states.
pub struct Asker<S> {
    states: S,
    config: Current,
    burn: Costly<Burn>,
    /// With the minute that it is of.
    fleet: Costly<(Minute, Fleet)>,
    /// The customers with the most valid events, so many of them.
    largest: Costly<(usize, Vec<String>)>,
    /// The bodies of what was asked at once.
    remembered: Remembered,
}

/// Which report is asked for, and what it is made of beside series.
struct Asked {
    month: String,
    zone: String,
    need: Need,
    as_of: Option<Minute>,
    revision: u64,
    gaps: Vec<DataGap>,
    exclusions: Vec<Excluded>,
}

impl Asked {
    fn ask(&self) -> report::Ask<'_> {
        let Asked { month, zone, need, as_of, revision, gaps, .. } = self;
        let (as_of, revision, customer) = (*as_of, *revision, need.customer.as_deref());
        report::Ask { month, zone, customer, as_of, revision, gaps }
    }
}

/// A customer whose minutes take more than that in memory has so many of them, some hundred
/// thousand, that an answer may take milliseconds.
const AT_ONCE_BYTES_MAX: usize = 512 * 1024;

/// What looks at everybody, each second if somebody wants it, takes one in so many of a core.
const COSTLY_TIMES: u32 = 20;

/// Who the largest customers are changes little in an hour.
const LARGEST_TIMES: u32 = 500;

/// What a configuration promises.
pub fn promise(config: &Config) -> Promise<'_> {
    Promise {
        slis: &config.slis,
        objectives: &config.objectives,
        alerts: &config.alerts,
        credits: &config.credits,
        zone: &config.report_zone,
    }
}

/// The names of the dimensions, as causes have them.
pub fn dimension_names(config: &Config) -> Vec<&str> {
    let fixed = ["release", "cohort", "region", "route"];
    let attributes = config.decode.attributes.iter().map(String::as_str);
    fixed.into_iter().chain(attributes).collect()
}

impl<S: States> Asker<S> {
    /// Answers by what the configuration in force promises, each question by one of them.
    pub fn new(states: S, config: Current) -> Asker<S> {
        let (burn, fleet) = (Costly::new(COSTLY_TIMES), Costly::new(COSTLY_TIMES));
        let (largest, remembered) = (Costly::new(LARGEST_TIMES), Remembered::default());
        Asker { states, config, burn, fleet, largest, remembered }
    }

    fn at(&self, at: Option<Minute>) -> Result<Minute, AskError> {
        let now = || self.states.now().map(|now| now.unwrap_or_default());
        at.map_or_else(now, Ok)
    }

    /// What the configuration's alerts would have done over the whole history.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn backtest(&self, from: Option<Minute>, to: Option<Minute>) -> Result<Backtest, AskError> {
        let config = self.config.get();
        let minutes = from.unwrap_or_default()..=to.unwrap_or(Minute(u32::MAX));
        let Some(as_of) = self.states.newest()? else { return Ok(Backtest::empty()) };
        self.states.with(&self.all(Minute(0)..=as_of), |state| {
            let series = everybody_in(state, "backtest")?;
            Ok(query::backtest::backtest(&promise(&config), &series, &minutes, as_of))
        })?
    }

    /// The review of an incident from the table alone, so that every figure can be recounted.
    fn review_at_rest(&self, id: &str) -> Result<Review, AskError> {
        let config = self.config.get();
        let (names, promise) = (dimension_names(&config), promise(&config));
        let table = self.states.at_rest();
        let (status, as_of) = (incident_status(table, id)?, table.newest()?);
        let to = review::latest_of(&status.incident, as_of);
        let (earliest, customers) = (review::earliest(&status), review::customers(&status));
        // A receiver that was away hears of the end within a day, or the review does not tell it.
        let since = earliest..=Minute(to.0 + DAY_MINUTES);
        let alerts = table.live_transitions(&since)?;
        let (told, verdicts) = table.with_table(|table| {
            let filter = Filter::of_minutes(since);
            Ok((stored_sent(table, &filter)?, stored_verdicts(table, &filter)?))
        })?;
        let judged = verdicts.iter().map(|stored| &stored.judgement);
        let verdicts = review::verdicts(judged, &status.incident.service);
        let reach = reach(&config, to);
        let minutes = earliest.min(*reach.start())..=to;
        table.with_customers(&customers, minutes, |state| {
            let series: Vec<&Series> =
                customers.iter().flat_map(|one| state.series_of(one)).collect();
            let minutes = review::minutes(&promise, &status, &series, to);
            let within = review::cause_minutes(&minutes);
            let rows = within.start().minus(MINUTES_BEFORE)..=*within.end();
            let service = &status.incident.service;
            let causes = table.with_dimensions(rows, names.len(), |rows| {
                let own = rows.iter().filter(|row| row.service == service).cloned();
                let dimensions = Dimensions { names: &names, rows: &own.collect::<Vec<_>>() };
                query::impact::causes(&dimensions, &within)
            })?;
            let (parts, gaps, corrections) = table.with_table(|table| {
                let of = (service.as_str(), &customers);
                let parts = review::parts(table, of, &minutes, (&names, &causes))?;
                Ok((parts, gaps_in(table, &minutes)?, table.corrections()?))
            })?;
            let evidence = review::Evidence {
                status: &status,
                minutes: &minutes,
                series: &series,
                alerts: &alerts,
                told: &told,
                verdicts: &verdicts,
                causes: &causes,
                parts: &parts,
            };
            let exclusions = config.slis.maintenance.iter().chain(&*corrections);
            let exclusions = excluded_in(exclusions, &minutes, None);
            let review = review::review(&promise, &evidence, as_of);
            Ok(Review { gaps, exclusions, ..review })
        })?
    }

    /// What a report is made of beside series.
    fn asked(
        &self,
        config: &Config,
        month: &str,
        tz: Option<&str>,
        customer: Option<&str>,
    ) -> Result<Asked, AskError> {
        let zone = tz.unwrap_or(&config.report_zone);
        let as_of = self.states.newest()?;
        let minutes = month_range(month, zone).map_err(report::refused)?;
        let need = Need { customer: customer.map(str::to_owned), minutes, histograms: None };
        let (revision, gaps, corrections) = self.states.with_table(|table| {
            Ok((table.version(), gaps_in(table, &need.minutes)?, table.corrections()?))
        })?;
        let exclusions = config.slis.maintenance.iter().chain(&*corrections);
        let exclusions = excluded_in(exclusions, &need.minutes, customer);
        let (month, zone) = (month.to_owned(), zone.to_owned());
        Ok(Asked { month, zone, need, as_of, revision, gaps, exclusions })
    }

    /// The report, whose services are left out where `detail` says so and that saves something.
    fn report_of(
        &self,
        month: &str,
        tz: Option<&str>,
        customer: Option<&str>,
        detail: Detail,
    ) -> Result<Report, AskError> {
        let config = self.config.get();
        let asked = self.asked(&config, month, tz, customer)?;
        let (promise, ask) = (promise(&config), asked.ask());
        let everybody = match customer {
            Some(_) => None,
            None => self.states.everybody(&promise, &asked.need.minutes)?,
        };
        let report = match everybody {
            Some(everybody) => everybody.report(&promise, &ask, detail)?,
            None => self.states.with(&asked.need, |state| {
                let series = match customer {
                    Some(customer) => state.series_of(customer),
                    None => everybody_in(state, "customer")?,
                };
                report::report(&promise, &series, &ask)
            })??,
        };
        Ok(Report { exclusions: asked.exclusions, ..report })
    }

    /// Writes the report of everybody as CSV or JSON, customers as they are stated.
    ///
    /// # Errors
    /// As [`Answers::report`]; `out` cannot be written.
    pub fn write_report(
        &self,
        month: &str,
        tz: Option<&str>,
        as_json: bool,
        out: &mut (impl Write + Send),
    ) -> anyhow::Result<()> {
        let config = self.config.get();
        let asked = self.asked(&config, month, tz, None)?;
        let (promise, ask) = (promise(&config), asked.ask());
        let nobody = Report { exclusions: asked.exclusions.clone(), ..report::of_nobody(&ask)? };
        let Some(everybody) = self.states.everybody(&promise, &asked.need.minutes)? else {
            let report = self.report(month, tz, None)?;
            let text = match as_json {
                true => format!("{}\n", serde_json::to_string_pretty(&report)?),
                false => report::csv(&report),
            };
            return Ok(out.write_all(text.as_bytes())?);
        };
        if !as_json {
            out.write_all(report::csv_heading().as_bytes())?;
            let records = |some: Vec<ReportCustomer>| report::csv_records(&nobody, &some);
            let write = |text: String| Ok(out.write_all(text.as_bytes())?);
            return everybody.each(&promise, &ask, Detail::Figures, records, write);
        }
        out.write_all(report::json_start(&nobody)?.as_bytes())?;
        let mut any = false;
        let bodies = |some: Vec<ReportCustomer>| {
            (!some.is_empty()).then(|| report::json_customers(&some)).transpose()
        };
        everybody.each(&promise, &ask, Detail::Services, bodies, |text| {
            let Some(text) = text? else { return Ok::<(), anyhow::Error>(()) };
            out.write_all(if any { b"," } else { b"[" })?;
            any = true;
            Ok(out.write_all(text.as_bytes())?)
        })?;
        Ok(writeln!(out, "{}", report::json_end(any))?)
    }

    fn all(&self, minutes: RangeInclusive<Minute>) -> Need {
        Need { customer: None, minutes, histograms: None }
    }
}

impl<S: States> Answers for Asker<S> {
    fn sla(
        &self,
        customer: &str,
        service: Option<&str>,
        at: Option<Minute>,
    ) -> Result<Sla, AskError> {
        let config = self.config.get();
        let at = self.at(at)?;
        let need = sla_need(&config, customer, at);
        self.states.with(&need, |state| {
            sla_of(&config, customer, &state.series_of(customer), service, at)
        })?
    }

    fn sla_at_once(
        &self,
        customer: &str,
        service: Option<&str>,
        at: Option<Minute>,
    ) -> Option<Result<Arc<[u8]>, AskError>> {
        enum Found {
            Known(Arc<[u8]>),
            Made(Result<Sla, AskError>, Option<Seen>),
        }
        let config = self.config.get();
        let need = |now| sla_need(&config, customer, at.unwrap_or(now));
        let answer = |state: &State, now| {
            let is_usual = service.is_none() && at.is_none();
            let seen = is_usual.then(|| Seen {
                at: now,
                config: Arc::clone(&config),
                seal: state.seal_of(customer),
            });
            if let Some(body) = seen.as_ref().and_then(|seen| self.remembered.get(customer, seen)) {
                return Some(Found::Known(body));
            }
            let series = state.series_of(customer);
            let bytes: usize = series.iter().map(|one| one.bytes_of_minutes()).sum();
            let is_small = bytes <= AT_ONCE_BYTES_MAX;
            let sla = || sla_of(&config, customer, &series, service, at.unwrap_or(now));
            is_small.then(|| Found::Made(sla(), seen))
        };
        let (sla, seen) = match self.states.with_at_once(need, answer)?? {
            Found::Known(body) => return Some(Ok(body)),
            Found::Made(Err(error), _) => return Some(Err(error)),
            Found::Made(Ok(sla), seen) => (sla, seen),
        };
        let body: Arc<[u8]> = body::json(&sla).into();
        if let Some(seen) = seen {
            self.remembered.put(customer, seen, &body);
        }
        Some(Ok(body))
    }

    fn slas(&self, customers: &[String]) -> Result<Vec<Sla>, AskError> {
        let config = self.config.get();
        let at = self.at(None)?;
        let (promise, all) = (promise(&config), self.all(reach(&config, at)));
        let mut lacking = Vec::new();
        let mut found = self.states.with(&all, |state| {
            let mut found = Vec::new();
            for customer in customers {
                let series = state.series_of(customer);
                if state.may_lack(customer) {
                    lacking.push(customer);
                } else if !series.is_empty() {
                    found.push(query::sla::sla(&promise, customer, &series, None, at)?);
                }
            }
            Ok::<_, AskError>(found)
        })??;
        for customer in lacking {
            match self.sla(customer, None, Some(at)) {
                Ok(sla) => found.push(sla),
                Err(AskError::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.customer.cmp(&b.customer));
        Ok(found)
    }

    fn timeseries(
        &self,
        customer: Option<&str>,
        from: Minute,
        to: Minute,
        step_minutes: u32,
    ) -> Result<Timeseries, AskError> {
        let as_of = self.at(None)?;
        let customer_need = customer.map(str::to_owned);
        let need = Need { customer: customer_need, minutes: from..=to, histograms: None };
        self.states.with(&need, |state| {
            let series = match customer {
                Some(customer) => state.series_of(customer),
                None => vec![state.fleet()],
            };
            let name = customer.unwrap_or_default();
            query::timeseries::timeseries(name, &series, from..=to, step_minutes, as_of)
        })?
    }

    fn report(
        &self,
        month: &str,
        tz: Option<&str>,
        customer: Option<&str>,
    ) -> Result<Report, AskError> {
        self.report_of(month, tz, customer, Detail::Services)
    }

    fn impact(&self, from: Minute, to: Minute) -> Result<Impact, AskError> {
        let config = self.config.get();
        let as_of = self.at(None)?;
        let month_before = to.minus(WINDOW_MINUTES_MAX - 1).min(from);
        let (names, promise) = (dimension_names(&config), promise(&config));
        let minutes = from.minus(MINUTES_BEFORE)..=to;
        let gaps = self.states.with_table(|table| gaps_in(table, &(from..=to)))?;
        // Not the other way round: who holds a state must not ask for another lock.
        let impact = self.states.with_dimensions(minutes, names.len(), |rows| {
            self.states.with(&self.all(month_before..=to), |state| {
                let dimensions = Dimensions { names: &names, rows };
                let series = state.all_series();
                let impact =
                    query::impact::impact(&promise, &series, &dimensions, &(from..=to), as_of)?;
                Ok(Impact { partial: partial(state, "customers"), ..impact })
            })?
        })??;
        Ok(Impact { gaps, ..impact })
    }

    fn verdict(
        &self,
        name: &str,
        value: &str,
        service: Option<&str>,
        from: Option<Minute>,
        to: Option<Minute>,
    ) -> Result<Verdict, AskError> {
        let config = self.config.get();
        let promise = promise(&config);
        let names = dimension_names(&config);
        let unknown = |what, name: &str| AskError::Unknown { what, name: name.to_owned() };
        let dimension = names.iter().position(|known| *known == name);
        let dimension = dimension.ok_or_else(|| unknown("name", name))?;
        let candidate = Candidate { name, dimension, value, service };
        let as_of = self.states.newest()?.unwrap_or_default();
        let to = to.unwrap_or(as_of);
        let seen = self.states.with_table(|table| first_seen(table, &candidate, to))?;
        let what = if name == "release" { "release" } else { "value" };
        let from = from.or(seen).filter(|_| seen.is_some()).ok_or_else(|| unknown(what, value))?;
        query::check_order(from, to)?;
        let sample =
            self.states.with_table(|table| sample(table, &promise, &candidate, from, to))?;
        let month = self.all(window_range(to, WINDOW_MINUTES_MAX));
        self.states.with(&month, |state| {
            let (series, minutes) = (state.all_series(), [from, to]);
            query::verdict::verdict(&promise, &candidate, &sample, &series, minutes, as_of)
        })
    }

    fn alerts(
        &self,
        from: Option<Minute>,
        to: Option<Minute>,
        basis: Basis,
    ) -> Result<Alerts, AskError> {
        let config = self.config.get();
        let minutes = from.unwrap_or_default()..=to.unwrap_or(Minute(u32::MAX));
        let Some(as_of) = self.states.newest()? else {
            return Ok(Alerts { as_of: None, alerts: Vec::new(), silences: Vec::new() });
        };
        let now_ms = live::clock_ms();
        let mut silences = config.silences.clone();
        silences.extend(self.states.with_table(stored_silences)?);
        silences.retain(|silence| silence.is_active(now_ms));
        let alerts = match basis {
            // What fired earlier decides what fires now, so the whole history is looked at.
            Basis::Settled => self.states.with(&self.all(Minute(0)..=as_of), |state| {
                let series = everybody_in(state, "basis")?;
                Ok(query::alerts::settled_alerts(&promise(&config), &series, &minutes, as_of))
            })??,
            Basis::Live => {
                let mut alerts = self.states.live_transitions(&minutes)?;
                let key = |alert: &AlertTransition| (alert.at.clone(), alert.fingerprint.clone());
                alerts.sort_by_key(key);
                Alerts { as_of: Some(as_of.to_string()), alerts, silences: Vec::new() }
            }
        };
        Ok(Alerts { silences, ..alerts })
    }

    fn incidents(&self, from: Option<Minute>, to: Option<Minute>) -> Result<Incidents, AskError> {
        let minutes = from.unwrap_or_default()..=to.unwrap_or(Minute(u32::MAX));
        let as_of = self.states.newest()?.map(|minute| minute.to_string());
        let changes = self.states.incident_changes()?.into_iter().map(|stored| stored.incident);
        let mut incidents = query::incident::newest(changes);
        incidents.retain(|incident| query::incident::is_within(incident, &minutes));
        Ok(Incidents { as_of, incidents })
    }

    fn incident(&self, id: &str) -> Result<IncidentStatus, AskError> {
        incident_status(&self.states, id)
    }

    fn review(&self, id: &str) -> Result<Review, AskError> {
        self.review_at_rest(id)
    }

    fn risks(
        &self,
        quarter: Option<&str>,
        from: Option<Minute>,
        to: Option<Minute>,
    ) -> Result<Risks, AskError> {
        let config = self.config.get();
        let names = dimension_names(&config);
        let table = self.states.at_rest();
        let as_of = table.newest()?;
        let now = as_of.unwrap_or_default();
        let minutes = match (quarter, from, to) {
            (Some(name), None, None) => quarter_range(name).map_err(report::refused)?,
            (Some(_), ..) => {
                let problem = "takes the place of from and to; give either".to_owned();
                return Err(AskError::Argument { field: "quarter", problem });
            }
            (None, ..) => {
                let running = Period::Quarter("UTC".to_owned()).full_range(now);
                let from = from.unwrap_or(*running.start());
                from..=to.unwrap_or(now.max(from))
            }
        };
        query::check_order(*minutes.start(), *minutes.end())?;
        let changes = table.incident_changes()?.into_iter().map(|stored| stored.incident);
        let incidents = query::incident::newest(changes);
        // A table of its own: other questions do not wait for a quarter of rows.
        let table = table.reopened()?;
        risks::risks(&table, &promise(&config), &names, &incidents, &minutes, as_of)
            .map_err(|error| AskError::Table(error.to_string()))
    }

    fn top(
        &self,
        by: By,
        at: Option<Minute>,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Top, AskError> {
        let config = self.config.get();
        let at = self.at(at)?;
        self.states.with(&self.all(reach(&config, at)), |state| {
            let page = Page { by, at, limit, cursor, burning: None };
            let top = query::top::top(&promise(&config), &state.all_series(), &page)?;
            Ok(Top { partial: partial(state, "customers and total"), ..top })
        })?
    }

    fn largest(&self, count: usize) -> Result<Vec<String>, AskError> {
        let ask = || Ok((count, largest(self, count)?));
        let (known, customers) = self.largest.get(ask)?;
        // Another number is asked for only where the configuration was changed.
        if known == count { Ok(customers) } else { largest(self, count) }
    }

    fn burn(&self) -> Result<Burn, AskError> {
        self.burn.get(|| {
            let config = self.config.get();
            let at = self.at(None)?;
            self.states.with(&self.all(reach(&config, at)), |state| {
                let promise = promise(&config);
                query::burn::burn(&promise, &may_burn(state, &promise, at), at)
            })
        })
    }

    fn pools(&self) -> Result<Pools, AskError> {
        let config = self.config.get();
        let at = self.at(None)?;
        let days = at.minus(DECIDED_MINUTES)..=at;
        let mut live = self.states.live_transitions(&days)?;
        live.retain(|one| one.pool.is_some());
        live.sort_by(|a, b| a.at.cmp(&b.at));
        self.states.with(&self.all(reach(&config, at)), |state| {
            let promise = promise(&config);
            let burning = query::burn::burn(&promise, &state.all_series(), at).burning;
            let pools = query::pools::pools(&promise, state, &burning, &live, at);
            Pools { partial: partial(state, "customers_apart"), ..pools }
        })
    }

    fn silent(&self, at: Option<Minute>) -> Result<Silent, AskError> {
        let at = self.at(at)?;
        self.states.with(&self.all(window_range(at, WINDOW_MINUTES_MAX)), |state| {
            let silent = query::silent::silent(&state.all_series(), at);
            Silent { partial: partial(state, "services and customers"), ..silent }
        })
    }

    fn fleet(&self, now_ms: i64) -> Result<Fleet, AskError> {
        let (at, fleet) = self.fleet.get(|| {
            let config = self.config.get();
            let at = self.at(None)?;
            let fleet = self.states.with(&self.all(reach(&config, at)), |state| {
                let names = dimension_names(&config);
                let rows = state.recent_rows(names.len());
                let dimensions = Dimensions { names: &names, rows: &rows };
                let last = window_range(at, CAUSE_MINUTES);
                let causes = query::impact::causes(&dimensions, &last);
                let (promise, series) = (promise(&config), state.whole_series());
                let burning =
                    query::burn::burn(&promise, &may_burn(state, &promise, at), at).burning;
                let everybody = Everybody { series: &series, pool: &[state.fleet()] };
                let fleet = query::fleet::fleet(&promise, everybody, &burning, causes, at, now_ms);
                Fleet { partial: partial(state, "customers, customers_broken and worst"), ..fleet }
            })?;
            Ok((at, fleet))
        })?;
        Ok(Fleet { age_s: query::fleet::age_s(at, now_ms), ..fleet })
    }

    fn objectives(&self) -> serde_json::Value {
        query::objectives::objectives(&self.config.get().objectives)
    }

    fn health(&self) -> Health {
        self.states.health()
    }
}

/// The minutes that windows and periods that end at `at` can reach.
fn reach(config: &Config, at: Minute) -> RangeInclusive<Minute> {
    let quarter = |objective: &Objective| matches!(objective.period, Period::Quarter(_));
    let longest = config.objectives.all().any(quarter);
    at.minus(if longest { LONGEST_MINUTES } else { USUAL_MINUTES })..=at
}

/// What windows, budget and quantiles of a customer at `at` are made from.
fn sla_need(config: &Config, customer: &str, at: Minute) -> Need {
    Need {
        customer: Some(customer.to_owned()),
        minutes: reach(config, at),
        histograms: Some(at.minus(59)..=at),
    }
}

/// Windows, budget and quantiles of the customer whose series these are.
fn sla_of(
    config: &Config,
    customer: &str,
    series: &[&Series],
    service: Option<&str>,
    at: Minute,
) -> Result<Sla, AskError> {
    let sla = query::sla::sla(&promise(config), customer, series, service, at)?;
    let pool = config.pools.name(config.pools.of(customer)).to_owned();
    Ok(Sla { pool, ..sla })
}

/// The customers with the most valid events.
fn largest<S: States>(asker: &Asker<S>, count: usize) -> Result<Vec<String>, AskError> {
    let largest = asker.top(By::Valid, None, count, None)?.customers;
    Ok(largest.into_iter().map(|row| row.customer).collect())
}

/// The series that may have something to say of what burns.
fn may_burn<'a>(state: &'a State, promise: &Promise<'_>, at: Minute) -> Vec<&'a Series> {
    let since = query::burn::since(promise, at);
    state.series_where(|series| series.most_bad(since) > 0)
}

/// One incident with what happened to it and who is in it.
fn incident_status(states: &impl States, id: &str) -> Result<IncidentStatus, AskError> {
    let as_of = states.newest()?.map(|minute| minute.to_string());
    let changes = states.incident_changes()?;
    let own = changes.iter().filter(|stored| stored.incident.id == id);
    let own = own.map(|stored| (&stored.incident, &stored.joined[..]));
    let unknown = || AskError::Unknown { what: "incident", name: id.to_owned() };
    query::incident::status(as_of, own).ok_or_else(unknown)
}

/// What an answer says that ranks those in memory alone; `None` where they are all.
fn partial(state: &State, figures: &str) -> Option<String> {
    let evicted = state.evicted();
    (evicted > 0).then(|| {
        format!(
            "{figures} cover the customers in memory: others that were idle were evicted \
             ({evicted} times), and are answered one by one"
        )
    })
}

/// All series, where all are in memory.
fn everybody_in<'a>(state: &'a State, field: &'static str) -> Result<Vec<&'a Series>, AskError> {
    if state.evicted() == 0 {
        return Ok(state.all_series());
    }
    let problem = "not all customers are in memory ([memory] series); ask for one customer, or \
                   ask the table: `ninefold serve --data DIR`, or the command with --data"
        .to_owned();
    Err(AskError::Argument { field, problem })
}

/// `ninefold sla`.
pub fn sla(
    place: &Place,
    customer: &str,
    service: Option<&str>,
    at: Option<Minute>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let body = asker(place)?.sla(customer, service, at).map_err(known_by_top)?;
    print(&body, as_json, show::sla)
}

/// `ninefold report`.
pub fn report(
    place: &Place,
    month: &str,
    tz: Option<&str>,
    customer: Option<&str>,
    format: ReportFormat,
) -> anyhow::Result<ExitCode> {
    let asker = asker(place)?;
    let as_json = matches!(format, ReportFormat::Json);
    if customer.is_none() && (as_json || matches!(format, ReportFormat::Csv)) {
        asker.write_report(month, tz, as_json, &mut std::io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    // The texts for people say nothing of services.
    let detail = if as_json { Detail::Services } else { Detail::Figures };
    let body = asker.report_of(month, tz, customer, detail).map_err(known_by_top)?;
    match format {
        ReportFormat::Json => show::json(&body)?,
        ReportFormat::Table => show::text(&report::table(&body))?,
        ReportFormat::Csv => show::text(&report::csv(&body))?,
        ReportFormat::Md => show::text(&report::markdown(&body))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `ninefold impact`.
pub fn impact(place: &Place, from: Minute, to: Minute, as_json: bool) -> anyhow::Result<ExitCode> {
    print(&asker(place)?.impact(from, to)?, as_json, show::impact)
}

/// `ninefold verdict`: `value` is a release unless `name` says otherwise.
pub fn verdict(
    place: &Place,
    (name, value): (&str, &str),
    service: Option<&str>,
    from: Option<Minute>,
    to: Option<Minute>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    print(&asker(place)?.verdict(name, value, service, from, to)?, as_json, show::release_verdict)
}

/// `ninefold review`.
pub fn review(place: &Place, id: &str, format: ReviewFormat) -> anyhow::Result<ExitCode> {
    let body = asker(place)?.review(id)?;
    match format {
        ReviewFormat::Json => show::json(&body)?,
        ReviewFormat::Md => show::text(&report::review::markdown(&body))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `ninefold risks`.
pub fn risks(
    place: &Place,
    quarter: Option<&str>,
    (from, to): (Option<Minute>, Option<Minute>),
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    print(&asker(place)?.risks(quarter, from, to)?, as_json, show::risks)
}

/// `ninefold top`.
pub fn top(
    place: &Place,
    by: TopBy,
    at: Option<Minute>,
    limit: usize,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let by = match by {
        TopBy::Burn => By::Burn,
        TopBy::Budget => By::Budget,
        TopBy::Bad => By::Bad,
        TopBy::Valid => By::Valid,
    };
    print(&asker(place)?.top(by, at, limit, None)?, as_json, show::top)
}

/// `ninefold silent`.
pub fn silent(place: &Place, at: Option<Minute>, as_json: bool) -> anyhow::Result<ExitCode> {
    print(&asker(place)?.silent(at)?, as_json, show::silent)
}

/// `ninefold alerts`.
pub fn alerts(
    place: &Place,
    from: Option<Minute>,
    to: Option<Minute>,
    basis: AlertBasis,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let basis = match basis {
        AlertBasis::Live => Basis::Live,
        AlertBasis::Settled => Basis::Settled,
    };
    print(&asker(place)?.alerts(from, to, basis)?, as_json, show::alerts)
}

/// `ninefold rules`.
pub fn rules(config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let config = batch::load(&Place { data: None, config })?;
    show::text(&prometheus_rules(&config.objectives, &config.alerts)?)?;
    Ok(ExitCode::SUCCESS)
}

/// An unknown name, with where the known ones are told.
fn known_by_top(error: AskError) -> anyhow::Error {
    match error {
        AskError::Unknown { .. } => anyhow!("{error}: `ninefold top` lists whom the table knows"),
        error => error.into(),
    }
}

/// A table that answers.
///
/// # Errors
/// The configuration cannot be read, or there is no table.
pub fn asker(place: &Place) -> anyhow::Result<Asker<TableStates>> {
    let config = batch::load(place)?;
    let table = open_table(&batch::table_dir(place, &config)?)?;
    let config = Current::new(config);
    Ok(Asker::new(TableStates::new(table, config.clone(), live::clock_ms), config))
}

/// Prints a body, as JSON or by `text`.
///
/// # Errors
/// Standard output cannot be written.
pub fn print<B: serde::Serialize>(
    body: &B,
    as_json: bool,
    text: impl FnOnce(&B) -> std::io::Result<()>,
) -> anyhow::Result<ExitCode> {
    if as_json {
        show::json(body)?
    } else {
        text(body)?
    }
    Ok(ExitCode::SUCCESS)
}
