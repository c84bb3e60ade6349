//! The first page: is the promise kept, who burns, what fires, what explains it.
//!
//! [`Overview`] is what is asked, [`Live`] what is shown of it. The order of the page is the
//! order of an on-call engineer's questions.

use std::collections::BTreeMap;

use askama::Template;
use ninefold_engine::query::body::{
    AlertTransition, BurnRow, Cause, Fleet, Incident, ObjectiveStatus, PoolRow, TopRow, Window,
};
use ninefold_engine::query::{Answers, AskError, Basis, By};
use ninefold_engine::time::DAY_MINUTES;

use crate::pages::chart::Chart;
use crate::pages::pools::{self, PoolView};
use crate::pages::{AsOf, Who, format, minute_of};

/// The windows over which the fleet is shown, with their names for people.
const WINDOWS: [(&str, &str); 4] =
    [("5m", "5 min"), ("1h", "1 hour"), ("1d", "1 day"), ("30d", "30 days")];
/// The period of the fleet's budget.
const PERIOD: &str = "30d";
/// Its length in seconds.
const PERIOD_S: f64 = 30.0 * 86_400.0;
/// The most burning customers that are listed; `/v1/burn` has them all.
const BURNING_MAX: usize = 12;
/// The most incidents that are listed; `/v1/incidents` has them all.
const INCIDENTS_MAX: usize = 6;
/// The most causes that are listed.
const CAUSES_MAX: usize = 4;
/// The most customers in the list of the worst.
const WORST_MAX: usize = 12;
/// How far back the start of a firing alert is looked up: as long as the slowest tier's window.
const SINCE_MINUTES: u32 = 3 * DAY_MINUTES;
/// The rows of `top` among which the budgets of burning customers are found.
const TOP_MAX: usize = 100;

/// All that the first page needs, of one moment.
pub(crate) struct Overview {
    fleet: Fleet,
    burning: Vec<BurnRow>,
    top: Vec<TopRow>,
    since: BTreeMap<AlertKey, String>,
    incidents: Vec<Incident>,
    pools: Vec<PoolRow>,
}

/// Customer, service, objective, tier.
type AlertKey = (String, String, String, String);

impl Overview {
    /// Asks for it.
    pub(crate) fn ask(answers: &dyn Answers, now_ms: i64) -> Result<Overview, AskError> {
        let fleet = answers.fleet(now_ms)?;
        let since = match fleet.alerts.is_empty() {
            true => BTreeMap::new(),
            false => firing_since(answers, &fleet.as_of)?,
        };
        Ok(Overview {
            burning: answers.burn()?.burning,
            top: answers.top(By::Burn, None, TOP_MAX, None)?.customers,
            since,
            incidents: answers.incidents(None, None)?.incidents,
            pools: answers.pools()?.pools,
            fleet,
        })
    }
}

/// When each alert that fires began to, by its live transitions, else by its settled ones: a
/// table that was replayed has no live ones.
pub(super) fn firing_since(
    answers: &dyn Answers,
    as_of: &str,
) -> Result<BTreeMap<AlertKey, String>, AskError> {
    let Some(to) = minute_of(Some(as_of)) else { return Ok(BTreeMap::new()) };
    let from = to.minus(SINCE_MINUTES);
    for basis in [Basis::Live, Basis::Settled] {
        let alerts = answers.alerts(Some(from), Some(to), basis)?.alerts;
        if !alerts.is_empty() {
            return Ok(open_since(alerts));
        }
    }
    Ok(BTreeMap::new())
}

/// The last transition of each alert, where it is to `firing`.
fn open_since(oldest_first: Vec<AlertTransition>) -> BTreeMap<AlertKey, String> {
    let mut since = BTreeMap::new();
    for alert in oldest_first {
        let key = (alert.customer, alert.service, alert.objective, alert.tier);
        match alert.state.as_str() {
            "firing" => since.insert(key, alert.at),
            _ => since.remove(&key),
        };
    }
    since
}

/// The live part of the first page.
#[derive(Template)]
#[template(path = "fleet.html")]
pub(crate) struct Live<'a> {
    name: &'a str,
    as_of: AsOf,
    state: State,
    availability: String,
    target: String,
    sentence: String,
    budget: Budget,
    windows: Vec<WindowView>,
    customers: String,
    customers_active: String,
    customers_burning: u64,
    customers_broken: u64,
    burning: Vec<Burning>,
    burning_more: u64,
    incidents: Vec<IncidentView>,
    pools: Vec<PoolView>,
    alerts: Vec<AlertGroup>,
    causes: Vec<CauseView>,
    chart: Chart,
    worst: Vec<Worst>,
}

/// The answer to the first question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing was valid: not good.
    NoData,
    /// The promise is kept and nothing burns.
    Kept,
    /// The promise is kept so far, the budget burns faster than it may.
    Burning,
    /// The promise is broken over its period.
    Broken,
}

impl State {
    fn of(fleet: &Fleet, target: f64) -> State {
        let period = fleet.windows.get(PERIOD);
        match period.and_then(|window| format::met(window.valid, window.bad, target)) {
            None => State::NoData,
            Some(false) => State::Broken,
            Some(true) if fleet.customers_burning > 0 || !fleet.alerts.is_empty() => State::Burning,
            Some(true) => State::Kept,
        }
    }

    /// What is kept burns where a pool of small customers does.
    fn beside(self, pools: &[PoolRow]) -> State {
        let fires = pools.iter().any(|row| row.state == "firing");
        if fires && self == State::Kept { State::Burning } else { self }
    }

    /// The class that colours it.
    pub(crate) fn class(self) -> &'static str {
        match self {
            State::NoData => "none",
            State::Kept => "kept",
            State::Burning => "burning",
            State::Broken => "broken",
        }
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            State::NoData => "Nothing to judge",
            State::Kept => "The promise is kept",
            State::Burning => "Kept so far, and burning",
            State::Broken => "The promise is broken",
        }
    }
}

/// An error budget as a bar.
pub(crate) struct Budget {
    /// `62.3%`, or `no data`.
    pub(crate) left: String,
    /// Width of the consumed part, 0 to 100.
    pub(crate) consumed_width: String,
    /// Whether there is something to show.
    pub(crate) has_data: bool,
    /// Overspent.
    pub(crate) is_over: bool,
    /// How long it lasts, labelled as the projection that it is; may be empty.
    pub(crate) note: String,
}

impl Budget {
    fn new(left: Option<f64>, note: String) -> Budget {
        let consumed = left.map_or(0.0, |left| (1.0 - left).clamp(0.0, 1.0));
        Budget {
            left: format::left(left),
            consumed_width: format!("{:.2}", consumed * 100.0),
            has_data: left.is_some(),
            is_over: left.is_some_and(|left| left < 0.0),
            note,
        }
    }

    /// Of the fleet: over 30 days the burn rate is what was consumed.
    fn of_fleet(fleet: &Fleet) -> Budget {
        let rate = |window: &str| fleet.windows.get(window).and_then(|counts| counts.burn_rate);
        let left = rate(PERIOD).map(|consumed| 1.0 - consumed);
        let note = match (left, rate("1h")) {
            (Some(left), Some(rate)) if left > 0.0 && rate > 1.0 => {
                let seconds = (left * PERIOD_S / rate) as u64;
                format!("gone in {} at the last hour’s rate", format::duration(seconds))
            }
            _ => String::new(),
        };
        Budget::new(left, note)
    }

    /// Of one objective.
    pub(super) fn of_objective(status: &ObjectiveStatus) -> Budget {
        let budget = &status.budget;
        let note = match (budget.exhausted_in_s, budget.projected_consumed) {
            (Some(seconds), _) if seconds > 0.0 => {
                format!("gone in {} at the last hour’s rate", format::duration(seconds as u64))
            }
            (_, Some(consumed)) => {
                let end = format::share(consumed);
                format!("{end} consumed at the period’s end if it goes on like this")
            }
            _ => String::new(),
        };
        Budget::new(budget.left, note)
    }
}

/// One window of the fleet or of an objective.
pub(crate) struct WindowView {
    pub(crate) label: String,
    pub(crate) availability: String,
    pub(crate) burn: String,
    pub(crate) bad: String,
    pub(crate) valid: String,
    pub(crate) excess: Excess,
}

/// How a burn rate reads: this is what is coloured, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Nothing to judge.
    None,
    /// Within the budget's pace.
    Within,
    /// Faster than the budget's pace.
    Over,
    /// At a rate that pages over an hour (14.4) or faster.
    Fast,
}

impl Excess {
    pub(super) fn of(burn_rate: Option<f64>) -> Excess {
        match burn_rate {
            None => Excess::None,
            Some(rate) if rate >= 14.4 => Excess::Fast,
            Some(rate) if rate > 1.0 => Excess::Over,
            Some(_) => Excess::Within,
        }
    }

    /// The class that colours it.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Excess::None => "none",
            Excess::Within => "within",
            Excess::Over => "over",
            Excess::Fast => "fast",
        }
    }
}

impl WindowView {
    pub(super) fn new(label: &str, window: Option<&Window>, target: f64) -> WindowView {
        let count = |count: fn(&Window) -> u64| {
            window.map_or_else(|| "0".to_owned(), |window| format::grouped(count(window)))
        };
        WindowView {
            label: label.to_owned(),
            availability: format::window_availability(window, target),
            burn: format::times(window.and_then(|window| window.burn_rate)),
            bad: count(|window| window.bad),
            valid: count(|window| window.valid),
            excess: Excess::of(window.and_then(|window| window.burn_rate)),
        }
    }
}

/// A tier in which a series burns.
pub(crate) struct Tier {
    pub(crate) name: String,
    /// `page`, `ticket` or `insufficient`.
    pub(crate) class: String,
    /// In words, for who points at it.
    pub(crate) title: String,
}

impl Tier {
    pub(super) fn new(row: &BurnRow) -> Tier {
        let is_firing = row.state == "firing";
        Tier {
            name: row.tier.clone(),
            class: if is_firing { row.severity.clone() } else { "insufficient".to_owned() },
            title: format!(
                "{}: {} over {}, {} over {}; fires at {}",
                if is_firing { &row.severity } else { "burning, too little evidence" },
                format::times(row.long.burn_rate),
                row.long.window,
                format::times(row.short.burn_rate),
                row.short.window,
                format::factor(row.factor),
            ),
        }
    }
}

/// One burning customer and service.
struct Burning {
    key: String,
    who: Who,
    service: String,
    tiers: Vec<Tier>,
    burn: String,
    window: String,
    excess: Excess,
    bad: String,
    valid: String,
    left: String,
    is_over: bool,
    since: String,
}

impl Burning {
    /// `rows` are those of one customer and service, the most urgent first.
    fn new(rows: &[&BurnRow], overview: &Overview) -> Burning {
        let first = rows[0];
        let row = overview.top.iter().chain(&overview.fleet.worst).find(|row| {
            row.customer == first.customer
                && row.service == first.service
                && row.objective == first.objective
        });
        let left = row.and_then(|row| row.budget_left);
        let since = rows.iter().filter_map(|row| overview.since.get(&key_of(row))).min();
        Burning {
            key: format!("{}/{}", format::escaped(&first.customer), first.service),
            who: Who::new(&first.customer),
            service: format::visible(&first.service),
            tiers: rows.iter().map(|row| Tier::new(row)).collect(),
            burn: format::times(first.long.burn_rate),
            window: first.long.window.clone(),
            excess: Excess::of(first.long.burn_rate),
            bad: format::grouped(first.long.bad),
            valid: format::grouped(first.long.valid),
            left: row.map_or_else(|| "–".to_owned(), |_| format::left(left)),
            is_over: left.is_some_and(|left| left < 0.0),
            since: since
                .map_or_else(|| "–".to_owned(), |at| format::moment(at, &overview.fleet.as_of)),
        }
    }
}

fn key_of(row: &BurnRow) -> AlertKey {
    (row.customer.clone(), row.service.clone(), row.objective.clone(), row.tier.clone())
}

/// Firing before insufficient, pages before tickets, then the highest burn rate.
pub(super) fn urgency(row: &BurnRow) -> (bool, bool, std::cmp::Reverse<u64>) {
    // The bits of non-negative floats sort as the floats do.
    let rate = row.long.burn_rate.unwrap_or(0.0).max(0.0).to_bits();
    (row.state != "firing", row.severity != "page", std::cmp::Reverse(rate))
}

/// The burning series, one entry per customer and service, the most urgent first.
fn burning(overview: &Overview) -> Vec<Vec<&BurnRow>> {
    let mut by_series: BTreeMap<(&str, &str), Vec<&BurnRow>> = BTreeMap::new();
    for row in &overview.burning {
        by_series.entry((&row.customer, &row.service)).or_default().push(row);
    }
    let mut all: Vec<Vec<&BurnRow>> = by_series.into_values().collect();
    for rows in &mut all {
        rows.sort_by_key(|row| urgency(row));
    }
    all.sort_by_key(|rows| urgency(rows[0]));
    all
}

/// The alerts of one service and tier: one line with its blast radius.
struct AlertGroup {
    key: String,
    severity: String,
    tier: String,
    service: String,
    objective: String,
    customers: String,
    condition: String,
    since: String,
}

impl AlertGroup {
    fn new(rows: &[&BurnRow], overview: &Overview) -> AlertGroup {
        let first = rows[0];
        let since = rows.iter().filter_map(|row| overview.since.get(&key_of(row))).min();
        AlertGroup {
            key: format!("{}/{}/{}", first.service, first.objective, first.tier),
            severity: first.severity.clone(),
            tier: first.tier.clone(),
            service: format::visible(&first.service),
            objective: format::visible(&first.objective),
            customers: format::counted(rows.len() as u64, "customer"),
            condition: format!(
                "{} or faster over {} and {}",
                format::factor(first.factor),
                first.long.window,
                first.short.window
            ),
            since: since.map_or_else(String::new, |at| format::moment(at, &overview.fleet.as_of)),
        }
    }
}

fn alert_groups(overview: &Overview) -> Vec<AlertGroup> {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&BurnRow>> = BTreeMap::new();
    for row in overview.fleet.alerts.iter().filter(|row| row.state == "firing") {
        groups.entry((&row.service, &row.objective, &row.tier)).or_default().push(row);
    }
    let mut groups: Vec<Vec<&BurnRow>> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        let rank = |rows: &[&BurnRow]| (rows[0].severity != "page", std::cmp::Reverse(rows.len()));
        rank(a).cmp(&rank(b)).then(b[0].factor.total_cmp(&a[0].factor))
    });
    groups.iter().map(|rows| AlertGroup::new(rows, overview)).collect()
}

/// One incident in the list of the first page.
struct IncidentView {
    id: String,
    /// `page`, `ticket` or `insufficient`.
    class: &'static str,
    severity: String,
    service: String,
    customers: String,
    state: String,
    cause: String,
}

impl IncidentView {
    fn new(incident: &Incident, as_of: &str) -> IncidentView {
        let opened = format::moment(&incident.opened_at, as_of);
        let state = match &incident.closed_at {
            Some(closed) => format!("{opened} to {} UTC", format::moment(closed, as_of)),
            None => format!("since {opened} UTC, {} now", incident.customers_firing),
        };
        let cause = incident.causes.first();
        IncidentView {
            id: incident.id.clone(),
            class: incident_class(incident),
            severity: incident.severity.clone(),
            service: format::visible(&incident.service),
            customers: hit(incident),
            state,
            cause: cause.map_or_else(String::new, |cause| named(&cause.dimensions)),
        }
    }
}

/// Who is hit, and who fell silent.
pub(super) fn hit(incident: &Incident) -> String {
    let hit = format::counted(incident.customers, "customer");
    match &incident.silence {
        None => hit,
        Some(silence) => {
            let (silent, missed) = (silence.customers, silence.missed);
            let silent =
                format!("{} of {} fell silent", format::grouped(silent), format::grouped(missed));
            if incident.customers == 0 { silent } else { format!("{hit}; {silent}") }
        }
    }
}

/// The class that colours an incident: who is told of it.
pub(super) fn incident_class(incident: &Incident) -> &'static str {
    match incident.notifies.as_str() {
        "page" => "page",
        "ticket" => "ticket",
        _ => "insufficient",
    }
}

/// `release r42, cohort canary`.
pub(super) fn named(dimensions: &BTreeMap<String, String>) -> String {
    let named = |(name, value): (&String, &String)| {
        format!("{} {}", format::visible(name), format::visible(value))
    };
    dimensions.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// Those that are open, and the newest of those that closed.
fn recent_incidents(overview: &Overview) -> Vec<IncidentView> {
    let shown = overview.incidents.iter().take(INCIDENTS_MAX);
    shown.map(|incident| IncidentView::new(incident, &overview.fleet.as_of)).collect()
}

/// What may explain the failures.
pub(super) struct CauseView {
    pub(super) key: String,
    pub(super) dimensions: Vec<(String, String)>,
    pub(super) share: String,
    /// Width of its bar, 0 to 100.
    pub(super) share_width: String,
    pub(super) lift: String,
    pub(super) bad: String,
    pub(super) valid: String,
    pub(super) p_value: String,
}

impl CauseView {
    pub(super) fn new(cause: &Cause) -> CauseView {
        let dimensions: Vec<(String, String)> = cause
            .dimensions
            .iter()
            .map(|(name, value)| (format::visible(name), format::visible(value)))
            .collect();
        let share = cause.share_of_excess;
        CauseView {
            key: format!("{dimensions:?}"),
            dimensions,
            share: share.map_or_else(|| "–".to_owned(), format::share),
            share_width: format!("{:.2}", share.unwrap_or(0.0).clamp(0.0, 1.0) * 100.0),
            lift: cause.lift.map_or_else(
                || "the rest has no failure".to_owned(),
                |lift| format!("{} the error ratio of the rest", format::times(Some(lift))),
            ),
            bad: format::grouped(cause.bad),
            valid: format::grouped(cause.valid),
            p_value: format::p_value(cause.p_value),
        }
    }
}

/// One row of the worst customers.
struct Worst {
    key: String,
    who: Who,
    service: String,
    objective: String,
    availability: String,
    target: String,
    state: &'static str,
    left: String,
    is_over: bool,
    burn_1h: String,
    excess_1h: Excess,
    burn_5m: String,
    excess_5m: Excess,
    bad: String,
    valid: String,
}

impl Worst {
    fn new(row: &TopRow) -> Worst {
        let state = match format::met(row.valid, row.bad, row.target) {
            None => "none",
            Some(true) => "within",
            Some(false) => "broken",
        };
        Worst {
            key: format!("{}/{}/{}", format::escaped(&row.customer), row.service, row.objective),
            who: Who::new(&row.customer),
            service: format::visible(&row.service),
            objective: format::visible(&row.objective),
            availability: format::availability(row.valid, row.bad, row.target),
            target: format::target(row.target),
            state,
            left: format::left(row.budget_left),
            is_over: row.budget_left.is_some_and(|left| left < 0.0),
            burn_1h: format::times(row.burn_rate_1h),
            excess_1h: Excess::of(row.burn_rate_1h),
            burn_5m: format::times(row.burn_rate_5m),
            excess_5m: Excess::of(row.burn_rate_5m),
            bad: format::grouped(row.bad),
            valid: format::grouped(row.valid),
        }
    }
}

impl<'a> Live<'a> {
    pub(crate) fn new(overview: &Overview, name: &'a str, target: f64, now_ms: i64) -> Live<'a> {
        let fleet = &overview.fleet;
        let period = fleet.windows.get(PERIOD);
        let burning = burning(overview);
        let shown = burning.iter().take(BURNING_MAX);
        Live {
            name,
            as_of: AsOf::new(&fleet.as_of, now_ms),
            state: State::of(fleet, target).beside(&overview.pools),
            availability: format::window_availability(period, target),
            target: format::target(target),
            sentence: sentence(period),
            budget: Budget::of_fleet(fleet),
            windows: WINDOWS
                .iter()
                .map(|(key, label)| WindowView::new(label, fleet.windows.get(*key), target))
                .collect(),
            customers: format::grouped(fleet.customers),
            customers_active: format::grouped(fleet.customers_active),
            customers_burning: fleet.customers_burning,
            customers_broken: fleet.customers_broken,
            burning: shown.map(|rows| Burning::new(rows, overview)).collect(),
            burning_more: burning.len().saturating_sub(BURNING_MAX) as u64,
            incidents: recent_incidents(overview),
            pools: pools::burning(&overview.pools),
            alerts: alert_groups(overview),
            causes: fleet.causes.iter().take(CAUSES_MAX).map(CauseView::new).collect(),
            chart: Chart::new(&fleet.minutes, target),
            worst: fleet.worst.iter().take(WORST_MAX).map(Worst::new).collect(),
        }
    }
}

fn sentence(period: Option<&Window>) -> String {
    match period {
        Some(window) if window.valid > 0 => format!(
            "{} of {} requests failed in the last 30 days.",
            format::grouped(window.bad),
            format::grouped(window.valid)
        ),
        _ => "No request was counted in the last 30 days.".to_owned(),
    }
}
