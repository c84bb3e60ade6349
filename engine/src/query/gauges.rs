//! Gauges for Prometheus under the names that Sloth's recording rules give, so that dashboards,
//! alert rules and routes made for those work unchanged.
//!
//! Sloth knows one SLO per `sloth_service` and `sloth_slo`; here each customer's objective is
//! one: `sloth_slo` is `OBJECTIVE/CUSTOMER`, `sloth_id` is `SERVICE-OBJECTIVE/CUSTOMER`, and
//! `customer` stands beside them. The fleet is `sloth_service="fleet"` without a customer.
//!
//! A million customers are no labels: listed are the burning ones and the largest ones, so many
//! of each as is asked for, and with 0 no name of a customer leaves the process. Ratios are those
//! of exact windows; where nothing was valid a gauge is absent, never 0.

use std::collections::BTreeSet;

use crate::query::body::{BurnRow, ObjectiveStatus, Sla, Window};
use crate::query::{Answers, AskError};

/// The windows that every objective has an error ratio of: those of Sloth, and the short one of
/// the tier `rollout_5m`. The window of the period comes with them.
const WINDOWS: [&str; 8] = ["2m", "5m", "30m", "1h", "2h", "6h", "1d", "3d"];
/// The windows that are as long as a rolling period; any other period has the last one.
const PERIODS: [&str; 3] = ["7d", "28d", "30d"];

/// What stands before the window in the name of an error ratio.
pub const ERROR_RATIO: &str = "slo:sli_error:ratio_rate";
/// The name of the allowed error ratio, `1 - target`.
pub const ERROR_BUDGET: &str = "slo:error_budget:ratio";
/// The name of the length of the period.
pub const PERIOD_DAYS: &str = "slo:time_period:days";
/// The name of the target.
pub const OBJECTIVE: &str = "slo:objective:ratio";

/// Names and labels of one gauge.
pub type Labels = Vec<(&'static str, String)>;

/// One gauge.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// Its name: `slo:objective:ratio`.
    pub name: String,
    /// Its labels, in the order in which they are written.
    pub labels: Labels,
    /// Its value, never NaN.
    pub value: f64,
}

/// What a gauge of this name says, in a few words.
pub fn help(name: &str) -> &'static str {
    match name {
        OBJECTIVE => "The target",
        ERROR_BUDGET => "One less the target",
        PERIOD_DAYS => "The period of the objective",
        "slo:current_burn_rate:ratio" => "Burn rate of the last 5 minutes",
        "slo:period_burn_rate:ratio" => "Burn rate of the period",
        "slo:period_error_budget_remaining:ratio" => "Budget left of the period",
        "sloth_slo_info" => "One per objective",
        _ => "Bad over valid events of the window",
    }
}

/// The gauges of the fleet, held against the default `target`, and of at most `customers_max`
/// burning and as many of the largest customers; `now_ms` is the wall clock of who asks.
///
/// # Errors
/// There is no answer to one of the questions they are made from.
pub fn gauges(
    answers: &dyn Answers,
    customers_max: usize,
    target: f64,
    now_ms: i64,
) -> Result<Vec<Gauge>, AskError> {
    let fleet = answers.fleet(now_ms)?;
    let mut gauges = Vec::new();
    let mut slo = Slo { labels: labels("fleet", "availability", None), gauges: &mut gauges };
    slo.promise(target, "30d");
    slo.error_ratios("30d", |window| fleet.windows.get(window));
    let burn_rate = |window| fleet.windows.get(window).and_then(|window: &Window| window.burn_rate);
    let consumed = burn_rate("30d");
    slo.burn(burn_rate("5m"), consumed, consumed.map(|consumed| 1.0 - consumed));
    // Who was evicted or corrected between the two questions is left out: the next time is right
    // again.
    let listed: Vec<String> = listed(answers, customers_max)?.into_iter().collect();
    answers.slas(&listed)?.iter().for_each(|sla| of_customer(sla, &mut gauges));
    Ok(gauges)
}

/// The gauges of every objective of one customer, after those in `gauges`.
pub fn of_customer(sla: &Sla, gauges: &mut Vec<Gauge>) {
    for service in &sla.services {
        for status in &service.objectives {
            let labels = labels(&service.service, &status.objective, Some(&sla.customer));
            Slo { labels, gauges: &mut *gauges }.objective(status);
        }
    }
}

/// The burning customers with the highest burn rate, and the largest ones.
fn listed(answers: &dyn Answers, customers_max: usize) -> Result<BTreeSet<String>, AskError> {
    let mut listed = BTreeSet::new();
    if customers_max == 0 {
        return Ok(listed);
    }
    let mut burning = answers.burn()?.burning;
    let rate = |row: &BurnRow| row.long.burn_rate.unwrap_or(0.0);
    burning.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    for row in burning {
        if listed.len() == customers_max {
            break;
        }
        listed.insert(row.customer);
    }
    listed.extend(answers.largest(customers_max)?);
    Ok(listed)
}

/// One SLO whose gauges are being written.
struct Slo<'a> {
    labels: Labels,
    gauges: &'a mut Vec<Gauge>,
}

impl Slo<'_> {
    fn objective(&mut self, status: &ObjectiveStatus) {
        self.promise(status.target, &status.period);
        self.error_ratios(&status.period, |window| status.windows.get(window));
        let now = status.windows.get("5m").and_then(|window| window.burn_rate);
        self.burn(now, status.budget.consumed, status.budget.left);
    }

    fn promise(&mut self, target: f64, period: &str) {
        self.push(OBJECTIVE, &[], Some(target));
        // The complement of a decimal, as a decimal: 0.002, not 0.0020000000000000018.
        self.push(ERROR_BUDGET, &[], Some(((1.0 - target) * 1e12).round() / 1e12));
        self.push(PERIOD_DAYS, &[], Some(period_days(period)));
        let percent = format!("{}", (target * 1e9).round() / 1e7);
        let more = [("sloth_mode", "ninefold"), ("sloth_objective", &percent)];
        self.push("sloth_slo_info", &more, Some(1.0));
    }

    fn error_ratios<'a>(&mut self, period: &str, counts: impl Fn(&str) -> Option<&'a Window>) {
        let whole = PERIODS.into_iter().find(|name| *name == period).unwrap_or("30d");
        for window in WINDOWS.into_iter().chain([whole]) {
            let valid = counts(window).filter(|counts| counts.valid > 0);
            let ratio = valid.map(|counts| counts.bad as f64 / counts.valid as f64);
            self.push(&format!("{ERROR_RATIO}{window}"), &[("sloth_window", window)], ratio);
        }
    }

    fn burn(&mut self, now: Option<f64>, period: Option<f64>, left: Option<f64>) {
        self.push("slo:current_burn_rate:ratio", &[], now);
        self.push("slo:period_burn_rate:ratio", &[], period);
        self.push("slo:period_error_budget_remaining:ratio", &[], left);
    }

    fn push(&mut self, name: &str, more: &[(&'static str, &str)], value: Option<f64>) {
        let Some(value) = value else { return };
        let mut labels = self.labels.clone();
        labels.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.gauges.push(Gauge { name: name.to_owned(), labels, value });
    }
}

fn labels(service: &str, objective: &str, customer: Option<&str>) -> Labels {
    let slo = match customer {
        Some(customer) => format!("{objective}/{customer}"),
        None => objective.to_owned(),
    };
    let mut labels = vec![
        ("sloth_id", format!("{service}-{slo}")),
        ("sloth_service", service.to_owned()),
        ("sloth_slo", slo),
    ];
    if let Some(customer) = customer {
        labels.push(("customer", customer.to_owned()));
    }
    labels
}

/// Days of a period as alerts take them: 30 for `month`, 90 for `quarter`.
fn period_days(period: &str) -> f64 {
    match period {
        "month" => 30.0,
        "quarter" => 90.0,
        rolling => rolling.strip_suffix('d').and_then(|days| days.parse().ok()).unwrap_or(30.0),
    }
}
