//! The bodies of the answers: what `--json` prints and the API sends, one definition for both.
//!
//! Ratios are full-precision numbers in 0..1, `null` where nothing was there to judge. Times
//! are RFC 3339 UTC. More keys may come to stand beside these; none of these goes away.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

pub use super::excluded::Excluded;
pub use super::incident::{Incident, IncidentStatus, Incidents};
pub use super::judgement::Judgement;
pub use super::pools::{PoolRow, Pools};
pub use super::silent::{Silent, SilentCustomer, SilentService};
use crate::notify::silence::Silence;
use crate::slo::verdict;
use crate::time::Minute;

/// What most bodies fit in, so that they are not copied as they grow.
const JSON_BYTES: usize = 16 * 1024;

/// A body as JSON, without white space.
///
/// # Panics
/// If it has keys that are no texts: no body has.
pub fn json<T: Serialize>(body: &T) -> Vec<u8> {
    let mut json = Vec::with_capacity(JSON_BYTES);
    serde_json::to_writer(&mut json, body).expect("bodies have text keys and plain numbers");
    json
}

/// What `replay` did, and what its sources hold in the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReplaySummary {
    /// Lines read in this run.
    pub read: u64,
    /// Lines counted in this run, excluded ones among them.
    pub counted: u64,
    /// Lines refused in this run.
    pub dead: u64,
    /// Lines dropped by the dedupe window in this run.
    pub duplicate: u64,
    /// Lines of these sources that an earlier run had dealt with.
    pub already: u64,
    /// Counted lines whose latency could not be used.
    pub invalid_latency: u64,
    /// Last lines without a newline that do not decode: not read, but left until they are whole.
    pub unterminated: u64,
    /// Valid events of these sources in the table.
    pub valid: u64,
    /// Bad events of these sources in the table.
    pub bad: u64,
    /// Excluded events of these sources in the table.
    pub excluded: u64,
    /// Distinct customers of these sources in the table.
    pub customers: u64,
    /// The first counted minute of these sources.
    pub from: Option<String>,
    /// The last counted minute of these sources.
    pub to: Option<String>,
}

/// Availability over one window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Valid events.
    pub valid: u64,
    /// Bad events.
    pub bad: u64,
    /// `1 - bad / valid`.
    pub availability: Option<f64>,
    /// `bad / valid / (1 - target)`.
    pub burn_rate: Option<f64>,
}

/// An error budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// `(1 - target) * valid`: how many bad events the traffic so far allows.
    pub events: f64,
    /// `bad / events`.
    pub consumed: Option<f64>,
    /// `1 - consumed`; negative when the promise is broken.
    pub left: Option<f64>,
    /// Rolling periods: seconds until nothing is left if the last hour's burn rate holds;
    /// `null` where nothing burns or nothing was valid.
    pub exhausted_in_s: Option<f64>,
    /// Calendar periods: `consumed` at the period's end if traffic and failures go on as over
    /// the period so far. A projection, not a count.
    pub projected_consumed: Option<f64>,
}

/// One objective of one customer and service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectiveStatus {
    /// Its name.
    pub objective: String,
    /// The SLI it is on.
    pub sli: String,
    /// The target ratio.
    pub target: f64,
    /// `30d`, `month`, ….
    pub period: String,
    /// Valid events of the period so far.
    pub valid: u64,
    /// Bad events of the period so far.
    pub bad: u64,
    /// Excluded events of the period so far.
    pub excluded: u64,
    /// `1 - bad / valid`.
    pub availability: Option<f64>,
    /// `bad <= (1 - target) * valid`, in integers; `null` at no traffic.
    pub met: Option<bool>,
    /// The error budget of the period.
    pub budget: Budget,
    /// Every window of the design: `2m` to `30d`.
    pub windows: BTreeMap<&'static str, Window>,
    /// `firing` or `insufficient` as the worst of `alerts` is; else `no_data` where nothing of the
    /// period was valid, and `ok`.
    pub state: &'static str,
    /// The tiers that burn, the fastest first.
    pub alerts: Vec<TierStatus>,
}

/// A tier that burns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TierStatus {
    /// `page_1h`, ….
    pub tier: String,
    /// `page` or `ticket`.
    pub severity: String,
    /// `firing`, or `insufficient`: burning without enough evidence.
    pub state: String,
    /// Firing, but the short window holds too few valid events to see whether it still burns.
    pub no_data: bool,
}

/// Quantiles of the latency of good events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencyStatus {
    /// Over which window: `1h`.
    pub window: String,
    /// How many events carried a latency.
    pub count: u64,
    /// Quantiles in milliseconds; `null` where `count` is 0.
    pub p50_ms: Option<f64>,
    /// 90%.
    pub p90_ms: Option<f64>,
    /// 95%.
    pub p95_ms: Option<f64>,
    /// 99%.
    pub p99_ms: Option<f64>,
    /// The longest, exact.
    pub max_ms: Option<f64>,
}

/// One service of one customer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub service: String,
    /// Its objectives, in the order of the configuration.
    pub objectives: Vec<ObjectiveStatus>,
    /// Its latency.
    pub latency: LatencyStatus,
}

/// `sla`, `GET /v1/customers/{c}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sla {
    /// Who.
    pub customer: String,
    /// The pool that they are judged with where they are too small for evidence; empty for that
    /// of whoever is in no other.
    pub pool: String,
    /// Start of the newest whole minute that is in the windows.
    pub as_of: String,
    /// Services in alphabetical order.
    pub services: Vec<ServiceStatus>,
}

/// Three definitions of uptime, side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Uptime {
    /// `1 - bad / valid`.
    pub request: Option<f64>,
    /// Share of the month's 1-minute slices that were up: good ratio at least 0.95, idle = up.
    pub time_slice: Option<f64>,
    /// Mean of `1 - bad / valid` over the month's 5-minute intervals, idle = 1.
    pub interval_mean: Option<f64>,
}

/// A run of minutes in which the objective's error ratio was exceeded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Episode {
    /// Its first minute.
    pub from: String,
    /// Its last minute.
    pub to: String,
    /// Bad events in it.
    pub bad: u64,
}

/// One objective of one service in a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportObjective {
    /// Its name.
    pub objective: String,
    /// The SLI it is on.
    pub sli: String,
    /// The target ratio.
    pub target: f64,
    /// Valid events of the month.
    pub valid: u64,
    /// Bad events of the month.
    pub bad: u64,
    /// Excluded events of the month.
    pub excluded: u64,
    /// `1 - bad / valid`.
    pub availability: Option<f64>,
    /// In integers; `null` at no traffic.
    pub met: Option<bool>,
    /// `bad / ((1 - target) * valid)`.
    pub budget_consumed: Option<f64>,
}

/// One service in a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportService {
    /// Its name.
    pub service: String,
    /// Its objectives.
    pub objectives: Vec<ReportObjective>,
}

/// One customer's month.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportCustomer {
    /// Who.
    pub customer: String,
    /// Valid events, all services pooled.
    pub valid: u64,
    /// Bad events.
    pub bad: u64,
    /// Excluded events.
    pub excluded: u64,
    /// `1 - bad / valid`.
    pub availability: Option<f64>,
    /// Target of the customer's calendar availability objective.
    pub target: f64,
    /// `bad <= (1 - target) * valid`, in integers; `null` at no traffic.
    pub met: Option<bool>,
    /// `bad / ((1 - target) * valid)`.
    pub budget_consumed: Option<f64>,
    /// Three definitions.
    pub uptime: Uptime,
    /// Minutes with at least one valid event and no good one.
    pub down_minutes: u64,
    /// Minutes of the month (until `as_of`) without a valid event.
    pub idle_minutes: u64,
    /// Minutes without a valid event of which events may be missing: neither idle nor up.
    #[serde(skip_serializing_if = "is_zero")]
    pub gap_minutes: u64,
    /// By the configured ladder; `null` without one.
    pub credit_percent: Option<f64>,
    /// Runs of minutes over the objective's error ratio; gaps up to 5 minutes joined.
    pub episodes: Vec<Episode>,
    /// The same by service.
    pub services: Vec<ReportService>,
}

/// A part of a source that will never be counted, and that somebody has accepted: no figure
/// holds its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataGap {
    /// The partition of the source.
    pub partition: String,
    /// Its first offset.
    pub first: u64,
    /// One past its last offset.
    pub next: u64,
    /// Why it was accepted.
    pub reason: String,
    /// The first minute of which events may be missing.
    pub from: String,
    /// The last one.
    pub to: String,
    /// Both.
    #[serde(skip)]
    pub minutes: RangeInclusive<Minute>,
}

impl fmt::Display for DataGap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DataGap { partition, first, next, reason, from, to, .. } = self;
        write!(
            formatter,
            "data gap: offsets {first}..{next} of {partition} were never counted ({reason}); \
             events of {from} to {to} may be missing"
        )
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `report`, `GET /v1/reports/{month}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `2026-10`.
    pub month: String,
    /// The IANA zone whose calendar month it is.
    pub tz: String,
    /// Version of the table it was computed at.
    pub revision: u64,
    /// Start of the newest minute that is in it.
    pub as_of: Option<String>,
    /// Accepted gaps of the sources whose events may lie in the month.
    pub gaps: Vec<DataGap>,
    /// Maintenance windows and corrections that lie in the month: events that are in no ratio.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclusions: Vec<Excluded>,
    /// In alphabetical order.
    pub customers: Vec<ReportCustomer>,
}

/// A customer hit by an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImpactCustomer {
    /// Who.
    pub customer: String,
    /// Valid events in the range.
    pub valid: u64,
    /// Bad events in the range.
    pub bad: u64,
    /// Share of the period's budget that these bad events took: over the 30 days that end
    /// with the range.
    pub budget_consumed: Option<f64>,
    /// First minute with a bad event.
    pub first: String,
    /// Last minute with a bad event.
    pub last: String,
}

/// What may explain the failures.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Cause {
    /// The values that name it; several where the same events carry them all.
    pub dimensions: BTreeMap<String, String>,
    /// Valid events with them.
    pub valid: u64,
    /// Bad events with them.
    pub bad: u64,
    /// Bad events beyond those that the rest's error ratio explains.
    pub excess: f64,
    /// Excess over the rest, as a share of all excess; `null` where there is none.
    pub share_of_excess: Option<f64>,
    /// Error ratio with them over the ratio without; `null` where the rest has no failure.
    pub lift: Option<f64>,
    /// Two proportions, corrected for how many candidates were tried.
    pub p_value: f64,
}

/// `impact`, `GET /v1/impact`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Impact {
    /// First minute.
    pub from: String,
    /// Last minute, included.
    pub to: String,
    /// Newest counted minute.
    pub as_of: String,
    /// Valid events in the range.
    pub valid: u64,
    /// Bad events in the range.
    pub bad: u64,
    /// Accepted gaps of the sources whose events may lie in the range.
    pub gaps: Vec<DataGap>,
    /// How many customers had a bad event.
    pub customers_hit: u64,
    /// Whom the answer leaves out, where not all customers are in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// The worst first.
    pub customers: Vec<ImpactCustomer>,
    /// The best explanation first.
    pub causes: Vec<Cause>,
}

/// `verdict`, `GET /v1/releases/{r}/verdict`, `GET /v1/attributes/{name}/{value}/verdict`.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Verdict {
    /// `release`, `cohort`, `region`, `route` or the name of an attribute.
    pub dimension: String,
    /// Its value that was judged.
    pub value: String,
    /// The service that was asked for; `null` = all.
    pub service: Option<String>,
    /// First minute of the candidate.
    pub from: String,
    /// Last minute, included.
    pub to: String,
    /// Newest counted minute.
    pub as_of: String,
    /// First minute of the history it is compared with.
    pub history_from: String,
    /// One of so many customers (or sets of dimensions) was judged, and all counts are of these;
    /// left out where all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u32>,
    /// Bad if errors or latency are, good if both are.
    pub verdict: verdict::Verdict,
    /// Customers with a bad event on its side.
    pub customers_hit: Option<u64>,
    /// The excess as a share of the 30-day budget of the customers hit; `null` without any.
    pub budget_consumed: Option<f64>,
    /// By bad events.
    pub errors: VerdictTest,
    /// By slow events; `null` where none carries a latency.
    pub latency: Option<VerdictTest>,
}

/// The evidence of a verdict, by one measure.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct VerdictTest {
    /// By this measure alone.
    pub verdict: verdict::Verdict,
    /// What it was compared with: `same_units`, `own_history` or `assumed`.
    pub control: verdict::Control,
    /// Valid (timed) events of the candidate.
    pub valid: u64,
    /// Bad (slow) events of the candidate.
    pub bad: u64,
    /// Valid (timed) events of the rest.
    pub rest_valid: u64,
    /// Bad (slow) events of the rest.
    pub rest_bad: u64,
    /// Evidence against "no worse than its control": bad from 100 on.
    pub e_bad: f64,
    /// The begin that most of that evidence is of: since when it is bad, if it is.
    pub bad_from: String,
    /// Evidence against "twice as bad as its control": good from 100 on.
    pub e_good: f64,
    /// Evidence against "breaks the promise by itself": good from 100 on; `null` for latency.
    pub e_kept: Option<f64>,
    /// Its error ratio over that of the rest, in the same strata.
    pub ratio: Option<f64>,
    /// Lower bound of `ratio`, with 95% at all looks together.
    pub ratio_low: Option<f64>,
    /// Upper bound of `ratio`.
    pub ratio_high: Option<f64>,
    /// `ratio` in the history; `null` where there is none.
    pub ratio_before: Option<f64>,
    /// The largest ratio that is not worse than its control.
    pub ratio_allowed: f64,
    /// How many failures count as one independent one.
    pub dispersion: f64,
    /// Bad events beyond what the rest and the history explain.
    pub excess: f64,
}

/// One window of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct AlertWindow {
    /// Its length: `1h`.
    pub window: String,
    /// Valid events in it.
    pub valid: u64,
    /// Bad events in it.
    pub bad: u64,
    /// `null` where nothing was valid.
    pub burn_rate: Option<f64>,
}

/// One transition of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct AlertTransition {
    /// This firing: hash of the fingerprint and what made it firing.
    pub id: String,
    /// This alert: hash of objective, series and tier.
    pub fingerprint: String,
    /// Who; empty where it is no single customer's: of a pool, or of a service in which many fell
    /// silent.
    pub customer: String,
    /// The pool, where it is one; that of whoever is in no other has an empty name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Which component.
    pub service: String,
    /// Which promise.
    pub objective: String,
    /// `page_1h`, ….
    pub tier: String,
    /// `page` or `ticket`.
    pub severity: String,
    /// `firing`, `resolved` or `stale`.
    pub state: String,
    /// `live` or `settled`.
    pub basis: String,
    /// When.
    pub at: String,
    /// The long window at that moment.
    pub long: AlertWindow,
    /// The short window at that moment.
    pub short: AlertWindow,
    /// The burn rate that both had to reach.
    pub factor: f64,
    /// The incident, where this is what receivers are told of one: see
    /// [`crate::query::incident::notices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Box<Incident>>,
    /// The verdict, where this is what receivers are told of one: see
    /// [`crate::query::judgement::notice`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Box<Judgement>>,
}

/// `alerts`, `GET /v1/alerts`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alerts {
    /// Newest counted minute.
    pub as_of: Option<String>,
    /// Oldest first.
    pub alerts: Vec<AlertTransition>,
    /// The silences in force: of what they pick nobody is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silences: Vec<Silence>,
}

/// One row of `top` and of `GET /v1/customers`: a customer and service on one objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopRow {
    /// Who.
    pub customer: String,
    /// Which component.
    pub service: String,
    /// Which promise.
    pub objective: String,
    /// Its target.
    pub target: f64,
    /// Valid events of the period.
    pub valid: u64,
    /// Bad events of the period.
    pub bad: u64,
    /// `1 - bad / valid`.
    pub availability: Option<f64>,
    /// `1 - consumed`.
    pub budget_left: Option<f64>,
    /// Over the last hour.
    pub burn_rate_1h: Option<f64>,
    /// Over the last five minutes.
    pub burn_rate_5m: Option<f64>,
    /// Tiers that fire now (live), or would by final counts (batch).
    pub firing: Vec<String>,
}

/// `top`, `GET /v1/customers`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Top {
    /// Newest minute that is in it.
    pub as_of: String,
    /// What it is sorted by.
    pub by: String,
    /// How many rows there are in all.
    pub total: u64,
    /// Whom the answer leaves out, where not all customers are in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// The worst first.
    pub customers: Vec<TopRow>,
    /// Pass it as `cursor` for the rows after these; `null` at the end.
    pub next: Option<String>,
}

/// `GET /v1/burn`: one row per burning series and tier, what alert rules consume.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BurnRow {
    /// Who.
    pub customer: String,
    /// Which component.
    pub service: String,
    /// Which promise.
    pub objective: String,
    /// Which tier.
    pub tier: String,
    /// `page` or `ticket`.
    pub severity: String,
    /// `firing`, or `insufficient`: burning without enough evidence.
    pub state: String,
    /// Firing, but the short window holds too few valid events to see whether it still burns.
    pub no_data: bool,
    /// The burn rate both windows have to reach.
    pub factor: f64,
    /// The long window now.
    pub long: AlertWindow,
    /// The short window now.
    pub short: AlertWindow,
}

/// `GET /v1/burn`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Burn {
    /// Newest minute that is in it.
    pub as_of: String,
    /// Sorted by customer, service, objective, tier.
    pub burning: Vec<BurnRow>,
}

/// One step of a time series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Its first minute.
    pub at: String,
    /// Valid events.
    pub valid: u64,
    /// Bad events.
    pub bad: u64,
    /// Excluded events.
    pub excluded: u64,
    /// `1 - bad / valid`; `null` = no data.
    pub availability: Option<f64>,
    /// Mean latency in milliseconds; `null` = no data.
    pub latency_mean_ms: Option<f64>,
}

/// `GET /v1/customers/{c}/timeseries`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeseries {
    /// Who; empty for the fleet.
    pub customer: String,
    /// Newest counted minute.
    pub as_of: String,
    /// First minute.
    pub from: String,
    /// Last minute, included.
    pub to: String,
    /// Length of a step in minutes.
    pub step_minutes: u32,
    /// Every step of the range, idle ones included.
    pub steps: Vec<Step>,
}

/// The fleet on the first page and on `/v1/stream`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fleet {
    /// Newest minute that is in it.
    pub as_of: String,
    /// Seconds between `as_of` and the clock of who asked.
    pub age_s: i64,
    /// Customers seen in the last 30 days.
    pub customers: u64,
    /// Customers with valid events in the last five minutes.
    pub customers_active: u64,
    /// Customers with a firing alert.
    pub customers_burning: u64,
    /// Customers whose promise is broken over its period.
    pub customers_broken: u64,
    /// Over all customers and services on the default target, by window.
    pub windows: BTreeMap<&'static str, Window>,
    /// The last 60 minutes, all customers.
    pub minutes: Vec<Step>,
    /// Alerts that fire, pages first.
    pub alerts: Vec<BurnRow>,
    /// The worst customers now.
    pub worst: Vec<TopRow>,
    /// What explains the failures of the last 30 minutes.
    pub causes: Vec<Cause>,
    /// Which figures leave out whom, where not all customers are in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
}
