//! The page of one customer: what was promised, what was kept, what burns, the last hours.

use std::collections::BTreeMap;

use askama::Template;
use ninefold_engine::query::body::{
    BurnRow, LatencyStatus, ObjectiveStatus, ServiceStatus, Sla, Timeseries,
};
use ninefold_engine::query::{Answers, AskError};

use crate::pages::chart::Chart;
use crate::pages::fleet::{Budget, Excess, Tier, WindowView, firing_since, urgency};
use crate::pages::{AsOf, Who, format, minute_of, pools};

/// The minutes of the chart: three hours.
const CHART_MINUTES: u32 = 180;
/// Every window of an objective, the shortest first, with its name for people.
const WINDOWS: [(&str, &str); 11] = [
    ("2m", "2 min"),
    ("5m", "5 min"),
    ("30m", "30 min"),
    ("1h", "1 hour"),
    ("2h", "2 hours"),
    ("6h", "6 hours"),
    ("1d", "1 day"),
    ("3d", "3 days"),
    ("7d", "7 days"),
    ("28d", "28 days"),
    ("30d", "30 days"),
];
/// Against which the chart is drawn where the customer has no objective at all.
const TARGET_DEFAULT: f64 = 0.998;

/// All that the page needs, of one moment.
pub(crate) struct Answered {
    sla: Sla,
    timeseries: Option<Timeseries>,
    burning: Vec<BurnRow>,
    since: BTreeMap<(String, String, String, String), String>,
}

impl Answered {
    /// Asks for it.
    pub(crate) fn ask(answers: &dyn Answers, customer: &str) -> Result<Answered, AskError> {
        let sla = answers.sla(customer, None, None)?;
        let timeseries = match minute_of(Some(&sla.as_of)) {
            Some(to) => {
                let from = to.minus(CHART_MINUTES - 1);
                Some(answers.timeseries(Some(customer), from, to, 1)?)
            }
            None => None,
        };
        let mut burning = answers.burn()?.burning;
        burning.retain(|row| row.customer == customer);
        burning.sort_by_key(urgency);
        let since = match burning.is_empty() {
            true => BTreeMap::new(),
            false => firing_since(answers, &sla.as_of)?,
        };
        Ok(Answered { sla, timeseries, burning, since })
    }

    /// Whether an alert of this promise fires.
    fn burns(&self, service: &ServiceStatus, status: &ObjectiveStatus) -> bool {
        self.burning.iter().any(|row| {
            row.state == "firing"
                && row.service == service.service
                && row.objective == status.objective
        })
    }
}

/// The live part of the page.
#[derive(Template)]
#[template(path = "customer.html")]
pub(crate) struct Live<'a> {
    name: &'a str,
    who: Who,
    /// The customer in addresses of the API.
    escaped: String,
    /// `2026-11`, of `as_of`.
    month: String,
    as_of: AsOf,
    firing: Vec<Firing>,
    /// With whom they are judged where a tier has too little evidence; else empty.
    pool: String,
    services: Vec<Service>,
    chart: Chart,
    chart_target: String,
}

/// One alert of this customer.
struct Firing {
    key: String,
    tier: Tier,
    service: String,
    objective: String,
    long: String,
    long_excess: Excess,
    short: String,
    short_excess: Excess,
    factor: String,
    since: String,
}

/// One service of this customer.
struct Service {
    name: String,
    objectives: Vec<Objective>,
    latency: Vec<(&'static str, String)>,
    latency_count: String,
    latency_window: String,
}

/// One promise to this customer.
struct Objective {
    name: String,
    sli: String,
    target: String,
    period: String,
    availability: String,
    state: &'static str,
    words: &'static str,
    valid: String,
    bad: String,
    excluded: String,
    budget: Budget,
    windows: Vec<WindowView>,
}

impl<'a> Live<'a> {
    pub(crate) fn new(answered: &Answered, name: &'a str, now_ms: i64) -> Live<'a> {
        let sla = &answered.sla;
        let target = sla
            .services
            .iter()
            .flat_map(|service| &service.objectives)
            .find(|status| status.sli == "availability")
            .map_or(TARGET_DEFAULT, |status| status.target);
        let steps = answered.timeseries.as_ref().map_or(&[][..], |series| &series.steps);
        Live {
            name,
            who: Who::new(&sla.customer),
            escaped: format::escaped(&sla.customer),
            month: sla.as_of.get(..7).unwrap_or_default().to_owned(),
            as_of: AsOf::new(&sla.as_of, now_ms),
            firing: answered.burning.iter().map(|row| Firing::new(row, answered)).collect(),
            pool: match answered.burning.iter().any(|row| row.state == "insufficient") {
                true => pools::name(&sla.pool),
                false => String::new(),
            },
            services: sla
                .services
                .iter()
                .map(|service| Service {
                    name: format::visible(&service.service),
                    objectives: service
                        .objectives
                        .iter()
                        .map(|status| Objective::new(status, answered.burns(service, status)))
                        .collect(),
                    latency: quantiles(&service.latency),
                    latency_count: format::grouped(service.latency.count),
                    latency_window: window_name(&service.latency.window),
                })
                .collect(),
            chart: Chart::new(steps, target),
            chart_target: format::target(target),
        }
    }
}

impl Firing {
    fn new(row: &BurnRow, answered: &Answered) -> Firing {
        let key =
            (row.customer.clone(), row.service.clone(), row.objective.clone(), row.tier.clone());
        let rate = |window: &ninefold_engine::query::body::AlertWindow| {
            format!("{} over {}", format::times(window.burn_rate), window.window)
        };
        Firing {
            key: format!("{}/{}/{}", row.service, row.objective, row.tier),
            tier: Tier::new(row),
            service: format::visible(&row.service),
            objective: format::visible(&row.objective),
            long: rate(&row.long),
            long_excess: Excess::of(row.long.burn_rate),
            short: rate(&row.short),
            short_excess: Excess::of(row.short.burn_rate),
            factor: format::factor(row.factor),
            since: answered
                .since
                .get(&key)
                .map_or_else(|| "–".to_owned(), |at| format::moment(at, &answered.sla.as_of)),
        }
    }
}

impl Objective {
    fn new(status: &ObjectiveStatus, burns: bool) -> Objective {
        let (state, words) = match status.met {
            None => ("none", "no data"),
            Some(true) if burns => ("burning", "kept so far, and burning"),
            Some(true) if status.state == "insufficient" => {
                ("burning", "kept so far, and burning on too little evidence")
            }
            Some(true) => ("kept", "kept"),
            Some(false) => ("broken", "broken"),
        };
        let window = |(key, label): &(&str, &str)| {
            WindowView::new(label, status.windows.get(*key), status.target)
        };
        Objective {
            name: format::visible(&status.objective),
            sli: format::visible(&status.sli),
            target: format::target(status.target),
            period: period_name(&status.period),
            availability: format::availability(status.valid, status.bad, status.target),
            state,
            words,
            valid: format::grouped(status.valid),
            bad: format::grouped(status.bad),
            excluded: format::grouped(status.excluded),
            budget: Budget::of_objective(status),
            windows: WINDOWS.iter().map(window).collect(),
        }
    }
}

fn quantiles(latency: &LatencyStatus) -> Vec<(&'static str, String)> {
    [
        ("p50", latency.p50_ms),
        ("p90", latency.p90_ms),
        ("p95", latency.p95_ms),
        ("p99", latency.p99_ms),
        ("max", latency.max_ms),
    ]
    .map(|(name, ms)| (name, format::latency(ms)))
    .into()
}

fn window_name(key: &str) -> String {
    let known = WINDOWS.iter().find(|(known, _)| *known == key);
    known.map_or(key, |(_, name)| name).to_owned()
}

/// `30d` as `the last 30 days`, `month` as `this month`.
fn period_name(period: &str) -> String {
    match period.strip_suffix('d') {
        Some(days) => format!("the last {days} days"),
        None => format!("this {period}"),
    }
}
