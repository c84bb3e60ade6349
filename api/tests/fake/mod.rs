//! A made-up fleet behind [`Answers`]: some customers, one incident, names that hurt.
//!
//! Every count follows from the customer's rate, the minute and the incident, so that answers
//! agree with each other. Tests use it at a fixed time, `examples/fake.rs` at the real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use ninefold_engine::query::body::*;
use ninefold_engine::query::incident::{IncidentCustomer, IncidentPage, Joined, NewlyHit, status};
use ninefold_engine::query::review::{
    BudgetPart, Outcome, Review, ReviewCustomer, ReviewEvent, ReviewObjective,
};
use ninefold_engine::query::risks::{self, Risk, Risks};
use ninefold_engine::query::{Answers, AskError, Basis, By, Health, MemoryUse};
use ninefold_engine::slo::verdict;
use ninefold_engine::time::{Minute, rfc3339};

/// The time of the tests: 2026-11-24T23:14:42Z.
pub const NOW_MS: i64 = 1_795_562_082_000;
/// How many minutes ago the incident began.
pub const INCIDENT_MINUTES: u32 = 14;
/// Windows and their minutes.
pub const WINDOWS: [(&str, u32); 11] = [
    ("2m", 2),
    ("5m", 5),
    ("30m", 30),
    ("1h", 60),
    ("2h", 120),
    ("6h", 360),
    ("1d", 1_440),
    ("3d", 4_320),
    ("7d", 10_080),
    ("28d", 40_320),
    ("30d", 43_200),
];
/// Tiers: name, severity, long window, short window, factor.
const TIERS: [(&str, &str, &str, &str, f64); 3] = [
    ("rollout_5m", "page", "5m", "2m", 50.0),
    ("page_1h", "page", "1h", "5m", 14.4),
    ("ticket_1d", "ticket", "1d", "2h", 3.0),
];
/// Names that break what does not escape.
pub const HOSTILE: [&str; 7] = [
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "line\nbreak",
    "quo\"te\\back",
    "=1+1&x=1;#",
    "東京 \u{202e}株式会社",
    "\u{1f980}'\"><img src=x>",
];

/// The incident of [`Scene::Incident`].
pub const INCIDENT: &str = "0123456789abcdef0123456789abcdef";

/// What the fleet goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A canary fails for some.
    Incident,
    /// All is well.
    Quiet,
    /// Nothing was ever counted.
    Empty,
    /// The incident, and then silence for seven minutes.
    Silent,
    /// Every question panics.
    Broken,
    /// Every question takes longer than any time-out of a test, but for what is answered at once.
    Slow,
    /// The table cannot be read.
    Unreadable,
}

/// One customer.
struct Customer {
    name: String,
    service: &'static str,
    /// Valid events a minute.
    rate: u64,
    /// Failing share when all is well.
    base: f64,
    /// Failing share in the incident.
    hit: f64,
}

/// The answers.
pub struct Fake {
    pub scene: Scene,
    pub clock: fn() -> i64,
    customers: Vec<Customer>,
}

impl Fake {
    pub fn new(scene: Scene, clock: fn() -> i64) -> Fake {
        let plain = [
            "acme",
            "globex",
            "initech",
            "umbrella",
            "hooli",
            "stark-industries",
            "wayne",
            "wonka",
            "cyberdyne",
            "tyrell",
            "soylent",
            "vandelay",
            "dunder-mifflin",
            "aperture",
            "black-mesa",
            "massive-dynamic",
            "oscorp",
            "weyland-yutani",
            "nakatomi",
            "gringotts",
            "bluth",
            "prestige-worldwide",
            "sterling-cooper",
            "pied-piper",
        ];
        let customers = plain
            .into_iter()
            .chain(HOSTILE)
            .enumerate()
            .map(|(at, name)| Customer {
                name: name.to_owned(),
                service: ["inbox", "search", "billing"][at % 3],
                rate: 4_000 / (at as u64 + 1) + 3,
                base: [0.0004, 0.0009, 0.0001, 0.0017, 0.0023][at % 5],
                hit: if at % 3 == 0 { 0.22 + 0.02 * (at % 7) as f64 } else { 0.0 },
            })
            .collect();
        Fake { scene, clock, customers }
    }

    /// The newest minute: the running one, or an older one where it went silent.
    fn as_of(&self) -> Minute {
        let silent = if self.scene == Scene::Silent { 7 } else { 0 };
        Minute::of_ms((self.clock)()).minus(silent)
    }

    fn ready(&self) -> Result<(), AskError> {
        match self.scene {
            Scene::Broken => panic!("a planted bug"),
            Scene::Slow => std::thread::sleep(std::time::Duration::from_millis(400)),
            Scene::Unreadable => {
                return Err(AskError::Table("rollups/_delta_log: permission denied".to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<&Customer, AskError> {
        let unknown = || AskError::Unknown { what: "customer", name: name.to_owned() };
        let known = self.customers.iter().find(|customer| customer.name == name);
        known.filter(|_| self.scene != Scene::Empty).ok_or_else(unknown)
    }

    /// Valid and bad of one minute.
    fn minute(&self, customer: &Customer, minute: Minute) -> (u64, u64) {
        if minute > self.as_of() || self.scene == Scene::Empty || is_gap(minute, self.as_of()) {
            return (0, 0);
        }
        let noise = u64::from(minute.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ customer.rate.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let wobble = 0.82 + 0.36 * ((noise >> 40) % 1_000) as f64 / 1_000.0;
        let valid = (customer.rate as f64 * wobble).round().max(1.0) as u64;
        let share = customer.base * (0.4 + 1.2 * ((noise >> 20) % 1_000) as f64 / 1_000.0)
            + if self.in_incident(minute) { customer.hit } else { 0.0 };
        let expected = valid as f64 * share;
        let chance = ((noise >> 8) % 1_000) as f64 / 1_000.0;
        (valid, ((expected + chance) as u64).min(valid))
    }

    fn in_incident(&self, minute: Minute) -> bool {
        let began = self.as_of().minus(INCIDENT_MINUTES - 1);
        matches!(self.scene, Scene::Incident | Scene::Silent) && minute >= began
    }

    fn counts(&self, customer: &Customer, to: Minute, minutes: u32) -> (u64, u64) {
        // Sixty minutes are counted one by one, the rest is as steady as the base.
        let counted = minutes.min(60);
        let near = (0..counted).map(|back| self.minute(customer, to.minus(back)));
        let (valid, bad) = near.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        if self.scene == Scene::Empty {
            return (0, 0);
        }
        let far = customer.rate * u64::from(minutes - counted);
        (valid + far, bad + (far as f64 * customer.base) as u64)
    }

    fn window(&self, customer: &Customer, to: Minute, minutes: u32) -> Window {
        let (valid, bad) = self.counts(customer, to, minutes);
        window(valid, bad)
    }

    fn top_row(&self, customer: &Customer) -> TopRow {
        let to = self.as_of();
        let period = self.window(customer, to, 43_200);
        TopRow {
            customer: customer.name.clone(),
            service: customer.service.to_owned(),
            objective: "availability".to_owned(),
            target: 0.998,
            valid: period.valid,
            bad: period.bad,
            availability: period.availability,
            budget_left: period.burn_rate.map(|consumed| 1.0 - consumed),
            burn_rate_1h: self.window(customer, to, 60).burn_rate,
            burn_rate_5m: self.window(customer, to, 5).burn_rate,
            firing: self
                .burning(customer)
                .into_iter()
                .filter(|row| row.state == "firing")
                .map(|row| row.tier)
                .collect(),
        }
    }

    fn burning(&self, customer: &Customer) -> Vec<BurnRow> {
        let to = self.as_of();
        TIERS
            .into_iter()
            .filter_map(|(tier, severity, long, short, factor)| {
                let long = self.alert_window(customer, to, long);
                let short = self.alert_window(customer, to, short);
                let burns = |window: &AlertWindow| window.burn_rate >= Some(factor);
                let is_firing = customer.rate > 150;
                (burns(&long) && burns(&short)).then(|| BurnRow {
                    customer: customer.name.clone(),
                    service: customer.service.to_owned(),
                    objective: "availability".to_owned(),
                    tier: tier.to_owned(),
                    severity: severity.to_owned(),
                    state: if is_firing { "firing" } else { "insufficient" }.to_owned(),
                    no_data: false,
                    factor,
                    long,
                    short,
                })
            })
            .collect()
    }

    fn alert_window(&self, customer: &Customer, to: Minute, name: &str) -> AlertWindow {
        let minutes = WINDOWS.iter().find(|(known, _)| *known == name).expect("a window").1;
        let window = self.window(customer, to, minutes);
        AlertWindow {
            window: name.to_owned(),
            valid: window.valid,
            bad: window.bad,
            burn_rate: window.burn_rate,
        }
    }

    fn step(&self, customers: &[&Customer], first: Minute, minutes: u32) -> Step {
        let (valid, bad) = (0..minutes)
            .flat_map(|at| customers.iter().map(move |one| (one, Minute(first.0 + at))))
            .map(|(one, minute)| self.minute(one, minute))
            .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        Step {
            at: first.to_string(),
            valid,
            bad,
            excluded: valid / 200,
            availability: (valid > 0).then(|| 1.0 - bad as f64 / valid as f64),
            latency_mean_ms: (valid > 0).then_some(18.25),
        }
    }
}

/// Two minutes of the last hour without any data.
fn is_gap(minute: Minute, as_of: Minute) -> bool {
    (36..=37).contains(&(as_of.0 - minute.0))
}

fn window(valid: u64, bad: u64) -> Window {
    let ratio = (valid > 0).then(|| bad as f64 / valid as f64);
    Window {
        valid,
        bad,
        availability: ratio.map(|ratio| 1.0 - ratio),
        burn_rate: ratio.map(|ratio| ratio / 0.002),
    }
}

impl Fake {
    fn status(
        &self,
        customer: &str,
        service: Option<&str>,
        at: Option<Minute>,
    ) -> Result<Sla, AskError> {
        let customer = self.find(customer)?;
        if let Some(service) = service.filter(|service| *service != customer.service) {
            return Err(AskError::Unknown { what: "service", name: service.to_owned() });
        }
        let to = at.unwrap_or(self.as_of());
        let windows: BTreeMap<&'static str, Window> = WINDOWS
            .iter()
            .map(|(name, minutes)| (*name, self.window(customer, to, *minutes)))
            .collect();
        let period = windows["30d"].clone();
        let events = period.valid as f64 * 0.002;
        let left = period.burn_rate.map(|consumed| 1.0 - consumed);
        let burn_1h = windows["1h"].burn_rate.filter(|rate| *rate > 0.0);
        let exhausted_in_s = left
            .filter(|left| *left > 0.0)
            .zip(burn_1h)
            .map(|(left, rate)| left * 30.0 * 86_400.0 / rate);
        let objective = ObjectiveStatus {
            objective: "availability".to_owned(),
            sli: "availability".to_owned(),
            target: 0.998,
            period: "30d".to_owned(),
            valid: period.valid,
            bad: period.bad,
            excluded: period.valid / 200,
            availability: period.availability,
            met: period.burn_rate.map(|rate| rate <= 1.0),
            budget: Budget {
                events,
                consumed: period.burn_rate,
                left,
                exhausted_in_s,
                projected_consumed: None,
            },
            windows,
            state: if period.valid == 0 { "no_data" } else { "insufficient" },
            alerts: vec![TierStatus {
                tier: "page_6h".to_owned(),
                severity: "page".to_owned(),
                state: "insufficient".to_owned(),
                no_data: false,
            }],
        };
        Ok(Sla {
            customer: customer.name.clone(),
            pool: "gold".to_owned(),
            as_of: to.to_string(),
            services: vec![ServiceStatus {
                service: customer.service.to_owned(),
                objectives: vec![objective],
                latency: LatencyStatus {
                    window: "1h".to_owned(),
                    count: 58_112,
                    p50_ms: Some(11.2),
                    p90_ms: Some(42.5),
                    p95_ms: Some(88.0),
                    p99_ms: Some(412.0),
                    max_ms: Some(2_930.125),
                },
            }],
        })
    }
}

impl Answers for Fake {
    fn sla(
        &self,
        customer: &str,
        service: Option<&str>,
        at: Option<Minute>,
    ) -> Result<Sla, AskError> {
        self.ready()?;
        self.status(customer, service, at)
    }

    /// Where everything else is slow, so that it can be told which was asked.
    fn sla_at_once(
        &self,
        customer: &str,
        service: Option<&str>,
        at: Option<Minute>,
    ) -> Option<Result<Arc<[u8]>, AskError>> {
        let body = || Ok(json(&self.status(customer, service, at)?).into());
        (self.scene == Scene::Slow).then(body)
    }

    fn timeseries(
        &self,
        customer: Option<&str>,
        from: Minute,
        to: Minute,
        step_minutes: u32,
    ) -> Result<Timeseries, AskError> {
        self.ready()?;
        let customers: Vec<&Customer> = match customer {
            Some(name) => vec![self.find(name)?],
            None => self.customers.iter().collect(),
        };
        let firsts = (from.0..=to.0).step_by(step_minutes as usize);
        Ok(Timeseries {
            customer: customer.unwrap_or_default().to_owned(),
            as_of: self.as_of().to_string(),
            from: from.to_string(),
            to: to.to_string(),
            step_minutes,
            steps: firsts.map(|first| self.step(&customers, Minute(first), step_minutes)).collect(),
        })
    }

    fn report(
        &self,
        month: &str,
        tz: Option<&str>,
        customer: Option<&str>,
    ) -> Result<Report, AskError> {
        self.ready()?;
        let tz = tz.unwrap_or("UTC");
        if !["UTC", "Europe/Berlin"].contains(&tz) {
            let problem =
                format!("{tz:?} is no time zone; takes an IANA name such as Europe/Berlin");
            return Err(AskError::Argument { field: "tz", problem });
        }
        let customers: Vec<&Customer> = match customer {
            Some(name) => vec![self.find(name)?],
            None => self.customers.iter().collect(),
        };
        Ok(Report {
            month: month.to_owned(),
            tz: tz.to_owned(),
            revision: 12,
            as_of: Some(self.as_of().to_string()),
            exclusions: Vec::new(),
            gaps: Vec::new(),
            customers: customers.into_iter().map(|one| self.statement(one)).collect(),
        })
    }

    fn impact(&self, from: Minute, to: Minute) -> Result<Impact, AskError> {
        self.ready()?;
        let hit: Vec<&Customer> =
            self.customers.iter().filter(|customer| customer.hit > 0.0).collect();
        let minutes = (to.0 - from.0 + 1).min(60);
        let all: Vec<&Customer> = self.customers.iter().collect();
        let sum = self.step(&all, to.minus(minutes - 1), minutes);
        let customers = hit.iter().map(|customer| {
            let (valid, bad) = self.counts(customer, to, minutes);
            ImpactCustomer {
                customer: customer.name.clone(),
                valid,
                bad,
                budget_consumed: Some(0.31),
                first: from.to_string(),
                last: to.to_string(),
            }
        });
        Ok(Impact {
            partial: None,
            from: from.to_string(),
            to: to.to_string(),
            as_of: self.as_of().to_string(),
            valid: sum.valid,
            bad: sum.bad,
            gaps: Vec::new(),
            customers_hit: hit.len() as u64,
            customers: customers.collect(),
            causes: self.causes(),
        })
    }

    fn verdict(
        &self,
        name: &str,
        value: &str,
        service: Option<&str>,
        from: Option<Minute>,
        to: Option<Minute>,
    ) -> Result<Verdict, AskError> {
        self.ready()?;
        if value == "nothing" {
            return Err(AskError::Unknown { what: "release", name: value.to_owned() });
        }
        let to = to.unwrap_or(self.as_of());
        let from = from.unwrap_or(to.minus(INCIDENT_MINUTES));
        let errors = VerdictTest {
            verdict: verdict::Verdict::Bad,
            control: verdict::Control::OwnHistory,
            valid: 61_204,
            bad: 16_112,
            rest_valid: 181_807,
            rest_bad: 166,
            e_bad: 1e300,
            bad_from: from.to_string(),
            e_good: 1e-9,
            e_kept: Some(0.0),
            ratio: Some(288.4),
            ratio_low: Some(228.1),
            ratio_high: None,
            ratio_before: Some(1.04),
            ratio_allowed: 1.9,
            dispersion: 3.2,
            excess: 16_053.5,
        };
        Ok(Verdict {
            dimension: name.to_owned(),
            value: value.to_owned(),
            service: service.map(str::to_owned),
            from: from.to_string(),
            to: to.to_string(),
            as_of: self.as_of().to_string(),
            history_from: from.minus(120).to_string(),
            one_in: None,
            verdict: verdict::Verdict::Bad,
            customers_hit: Some(11),
            budget_consumed: Some(0.42),
            errors: errors.clone(),
            latency: Some(VerdictTest {
                verdict: verdict::Verdict::Insufficient,
                control: verdict::Control::Assumed,
                e_kept: None,
                ratio_before: None,
                ..errors
            }),
        })
    }

    fn alerts(
        &self,
        _from: Option<Minute>,
        _to: Option<Minute>,
        basis: Basis,
    ) -> Result<Alerts, AskError> {
        self.ready()?;
        let began = self.as_of().minus(INCIDENT_MINUTES - 3);
        let alert = |row: BurnRow| AlertTransition {
            id: format!("{}-{}-1", row.customer.len(), row.tier),
            fingerprint: format!("{}-{}", row.customer.len(), row.tier),
            at: rfc3339(began.start_ms() + if row.tier == "page_1h" { 179_000 } else { 59_000 }),
            state: "firing".to_owned(),
            basis: if basis == Basis::Live { "live" } else { "settled" }.to_owned(),
            customer: row.customer,
            service: row.service,
            objective: row.objective,
            tier: row.tier,
            severity: row.severity,
            long: row.long,
            short: row.short,
            factor: row.factor,
            pool: None,
            incident: None,
            verdict: None,
        };
        let firing = self.burn()?.burning.into_iter().filter(|row| row.state == "firing");
        let alerts = firing.map(alert).collect();
        Ok(Alerts { as_of: Some(self.as_of().to_string()), alerts, silences: Vec::new() })
    }

    fn incidents(&self, _from: Option<Minute>, _to: Option<Minute>) -> Result<Incidents, AskError> {
        self.ready()?;
        let as_of = Some(self.as_of().to_string());
        Ok(Incidents { as_of, incidents: self.open_incident().into_iter().collect() })
    }

    fn incident(&self, id: &str) -> Result<IncidentStatus, AskError> {
        self.ready()?;
        let known = self.open_incident().filter(|_| id == INCIDENT);
        let known =
            known.ok_or_else(|| AskError::Unknown { what: "incident", name: id.to_owned() })?;
        let joined = |one: &IncidentCustomer| Joined {
            customer: one.customer.clone(),
            pool: None,
            objective: "availability".to_owned(),
            joined: known.opened_at.clone(),
            from: known.from.clone(),
            is_page: true,
            is_ticket: false,
        };
        let series: Vec<Joined> = known.worst.iter().map(joined).collect();
        let as_of = Some(self.as_of().to_string());
        Ok(status(as_of, [(&known, &series[..])]).expect("there is a change"))
    }

    fn review(&self, id: &str) -> Result<Review, AskError> {
        let status = self.incident(id)?;
        let incident = &status.incident;
        let customer = |one: &IncidentCustomer| ReviewCustomer {
            customer: one.customer.clone(),
            tier: String::new(),
            valid: one.valid,
            bad: one.bad,
            bad_minutes: 9,
            first: Some(incident.from.clone()),
            last: None,
            budget_lost: one.budget_consumed,
            objectives: vec![ReviewObjective {
                objective: "availability".to_owned(),
                sli: "availability".to_owned(),
                target: 0.998,
                period: "30d".to_owned(),
                fired: true,
                valid: one.valid,
                bad: one.bad,
                budget_lost: one.budget_consumed,
                budget_consumed: one.budget_consumed,
                outcome: Outcome::AtRisk,
            }],
        };
        let event = |event: &str, detail: &str| ReviewEvent {
            at: incident.from.clone(),
            event: event.to_owned(),
            detail: detail.to_owned(),
        };
        Ok(Review {
            as_of: status.as_of.clone(),
            id: incident.id.clone(),
            service: incident.service.clone(),
            state: incident.state.clone(),
            severity: incident.severity.clone(),
            notifies: incident.notifies.clone(),
            merged_into: None,
            from: incident.from.clone(),
            to: incident.to.clone(),
            detected_at: Some(incident.opened_at.clone()),
            paged_at: None,
            closed_at: None,
            time_to_detect_s: Some(61.5),
            time_to_page_s: None,
            time_to_verdict_s: None,
            time_to_resolve_s: None,
            timeline: vec![event("first_bad", HOSTILE[0]), event("detected", HOSTILE[1])],
            valid: incident.valid,
            bad: incident.bad,
            bad_minutes: incident.bad_minutes,
            budget_events: 12.5,
            budget_lost: incident.budget_lost,
            objectives_broken: incident.objectives_broken,
            objectives_at_risk: incident.objectives_at_risk,
            others_hit: 1,
            others_bad: 2,
            customers: incident.worst.iter().map(customer).collect(),
            causes: incident.causes.clone(),
            budget_by_cause: vec![BudgetPart {
                dimensions: BTreeMap::new(),
                bad: incident.bad,
                share: Some(1.0),
                budget_lost: incident.budget_lost,
            }],
            gaps: Vec::new(),
            exclusions: Vec::new(),
        })
    }

    fn risks(
        &self,
        _quarter: Option<&str>,
        from: Option<Minute>,
        to: Option<Minute>,
    ) -> Result<Risks, AskError> {
        self.ready()?;
        let (from, to) = (from.unwrap_or(self.as_of()), to.unwrap_or(self.as_of()));
        let cause = Risk {
            dimensions: BTreeMap::from([("release".to_owned(), HOSTILE[0].to_owned())]),
            customers: 3,
            bad: 40,
            spent: 38.5,
            first: from.to_string(),
            last: to.to_string(),
            ..Risk::default()
        };
        Ok(risks::finish(Risks {
            as_of: Some(self.as_of().to_string()),
            from: from.to_string(),
            to: to.to_string(),
            bad: 50,
            causes: vec![cause],
            ..Risks::default()
        }))
    }

    fn top(
        &self,
        by: By,
        _at: Option<Minute>,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Top, AskError> {
        self.ready()?;
        let first: usize = match cursor.map(str::parse) {
            None => 0,
            Some(Ok(first)) => first,
            Some(Err(_)) => {
                let problem =
                    "no cursor of this list; takes the next of the page before".to_owned();
                return Err(AskError::Argument { field: "cursor", problem });
            }
        };
        let mut rows: Vec<TopRow> = match self.scene {
            Scene::Empty => Vec::new(),
            _ => self.customers.iter().map(|customer| self.top_row(customer)).collect(),
        };
        rows.sort_by(|a, b| match by {
            By::Burn => b.burn_rate_1h.unwrap_or(-1.0).total_cmp(&a.burn_rate_1h.unwrap_or(-1.0)),
            By::Budget => a.budget_left.unwrap_or(2.0).total_cmp(&b.budget_left.unwrap_or(2.0)),
            By::Bad => b.bad.cmp(&a.bad),
            By::Valid => b.valid.cmp(&a.valid),
        });
        let total = rows.len();
        let next = (first + limit < total).then(|| (first + limit).to_string());
        Ok(Top {
            partial: None,
            as_of: self.as_of().to_string(),
            by: format!("{by:?}").to_lowercase(),
            total: total as u64,
            customers: rows.into_iter().skip(first).take(limit).collect(),
            next,
        })
    }

    fn burn(&self) -> Result<Burn, AskError> {
        self.ready()?;
        let burning = match self.scene {
            Scene::Empty => Vec::new(),
            _ => self.customers.iter().flat_map(|customer| self.burning(customer)).collect(),
        };
        Ok(Burn { as_of: self.as_of().to_string(), burning })
    }

    fn largest(&self, count: usize) -> Result<Vec<String>, AskError> {
        let largest = self.top(By::Valid, None, count, None)?.customers;
        Ok(largest.into_iter().map(|row| row.customer).collect())
    }

    fn pools(&self) -> Result<Pools, AskError> {
        self.ready()?;
        let window = |window: &str, valid| AlertWindow {
            window: window.to_owned(),
            valid,
            bad: valid / 9,
            burn_rate: (valid > 0).then_some(55.6),
        };
        let row = |pool: &str, tier: &str, state: &str, valid| PoolRow {
            pool: pool.to_owned(),
            service: "inbox".to_owned(),
            objective: "availability".to_owned(),
            tier: tier.to_owned(),
            severity: "page".to_owned(),
            state: state.to_owned(),
            customers_apart: 2,
            factor: 14.4,
            long: window("1h", valid),
            short: window("5m", valid / 12),
        };
        let mut pools = Vec::new();
        if self.scene == Scene::Incident {
            pools.push(row("", "page_1h", "inactive", 70));
            pools.push(row(HOSTILE[0], "page_1h", "firing", 1_200));
            pools.push(row("gold", "page_1h", "insufficient", 12));
            pools.push(row("idle", "page_1h", "no_data", 0));
        }
        Ok(Pools { as_of: self.as_of().to_string(), partial: None, pools })
    }

    fn silent(&self, at: Option<Minute>) -> Result<Silent, AskError> {
        self.ready()?;
        let at = at.unwrap_or(self.as_of());
        let service =
            SilentService { service: "inbox".to_owned(), missed: 20, together: 6, are_many: true };
        let customers = HOSTILE.iter().take(6).map(|name| SilentCustomer {
            customer: (*name).to_owned(),
            service: "inbox".to_owned(),
            since: Some(at.minus(17).to_string()),
            span_minutes: 15,
            events: 0,
            expected: 64.0,
            p_value: 1.6e-28,
        });
        let customers = customers.collect();
        Ok(Silent { as_of: at.to_string(), partial: None, services: vec![service], customers })
    }

    fn fleet(&self, now_ms: i64) -> Result<Fleet, AskError> {
        self.ready()?;
        let to = self.as_of();
        let pooled = |minutes| {
            let counts = self.customers.iter().map(|one| self.counts(one, to, minutes));
            let (valid, bad) = counts.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
            window(valid, bad)
        };
        let all: Vec<&Customer> = self.customers.iter().collect();
        let mut alerts = self.burn()?.burning;
        alerts.retain(|row| row.state == "firing");
        let mut worst = self.top(By::Burn, None, 1_000, None)?.customers;
        let is_empty = self.scene == Scene::Empty;
        let count = |test: fn(&TopRow) -> bool| worst.iter().filter(|row| test(row)).count() as u64;
        let (customers_burning, customers_broken) =
            (count(|row| !row.firing.is_empty()), count(|row| row.budget_left < Some(0.0)));
        worst.truncate(20);
        Ok(Fleet {
            partial: None,
            as_of: if is_empty { String::new() } else { to.to_string() },
            age_s: (now_ms - to.start_ms()) / 1_000,
            customers: if is_empty { 0 } else { self.customers.len() as u64 },
            customers_active: if is_empty { 0 } else { self.customers.len() as u64 },
            customers_burning,
            customers_broken,
            windows: WINDOWS.iter().map(|(name, minutes)| (*name, pooled(*minutes))).collect(),
            minutes: (0..60).map(|at| self.step(&all, to.minus(59 - at), 1)).collect(),
            alerts,
            causes: self.causes(),
            worst,
        })
    }

    fn objectives(&self) -> serde_json::Value {
        serde_json::json!({"default": [
            {"objective": "availability", "sli": "availability", "target": 0.998, "period": "30d"}
        ]})
    }

    fn health(&self) -> Health {
        let ready = !matches!(self.scene, Scene::Silent | Scene::Unreadable);
        Health {
            memory: MemoryUse::default(),
            ready,
            notes: if ready { vec![] } else { vec!["the table is still being read".to_owned()] },
            as_of: (self.scene != Scene::Empty).then(|| self.as_of().to_string()),
            read: 1_000_200,
            counted: 1_000_000,
            dead: 150,
            duplicate: 50,
            series: 31,
            commits: 9,
            table_version: Some(12),
            uncommitted_age_ms: 1_250,
            uncommitted_lines: 40,
            instance: "5f3a9c01".to_owned(),
            role: "judge".to_owned(),
            partitions: vec!["file/a".to_owned()],
            ..Health::default()
        }
    }
}

impl Fake {
    fn statement(&self, customer: &Customer) -> ReportCustomer {
        let counts = self.window(customer, self.as_of(), 43_200);
        let met = counts.burn_rate.map(|rate| rate <= 1.0);
        ReportCustomer {
            customer: customer.name.clone(),
            valid: counts.valid,
            bad: counts.bad,
            excluded: counts.valid / 200,
            availability: counts.availability,
            target: 0.998,
            met,
            budget_consumed: counts.burn_rate,
            uptime: Uptime {
                request: counts.availability,
                time_slice: Some(0.9997),
                interval_mean: counts.availability,
            },
            down_minutes: 0,
            idle_minutes: 2,
            gap_minutes: 0,
            credit_percent: None,
            episodes: vec![Episode {
                from: self.as_of().minus(INCIDENT_MINUTES - 1).to_string(),
                to: self.as_of().to_string(),
                bad: counts.bad,
            }],
            services: vec![ReportService {
                service: customer.service.to_owned(),
                objectives: vec![ReportObjective {
                    objective: "availability".to_owned(),
                    sli: "availability".to_owned(),
                    target: 0.998,
                    valid: counts.valid,
                    bad: counts.bad,
                    excluded: counts.valid / 200,
                    availability: counts.availability,
                    met,
                    budget_consumed: counts.burn_rate,
                }],
            }],
        }
    }

    /// The one incident there is; its names are those that hurt.
    fn open_incident(&self) -> Option<Incident> {
        if !matches!(self.scene, Scene::Incident | Scene::Silent) {
            return None;
        }
        let began = self.as_of().minus(INCIDENT_MINUTES);
        let customer = |name: &str| IncidentCustomer {
            customer: name.to_owned(),
            valid: 900,
            bad: 210,
            budget_consumed: Some(1.25),
        };
        let at = began.to_string();
        Some(Incident {
            id: INCIDENT.to_owned(),
            fingerprint: INCIDENT.chars().rev().collect(),
            service: "inbox".to_owned(),
            state: "open".to_owned(),
            change: "opened".to_owned(),
            at: at.clone(),
            from: at.clone(),
            to: self.as_of().to_string(),
            opened_at: at.clone(),
            grown_at: at.clone(),
            severity: "critical".to_owned(),
            notifies: "page".to_owned(),
            page: Some(IncidentPage {
                at: at.clone(),
                basis: "pooled".to_owned(),
                evident: 9,
                active: 31,
                p_value: 1e-12,
            }),
            summary: "inbox: 11 of 31 customers burn".to_owned(),
            customers: 11,
            customers_firing: 11,
            customers_active: 31,
            newly: vec![NewlyHit { at, customers: 11 }],
            tiers: BTreeMap::from([(String::new(), 11)]),
            valid: 61_204,
            bad: 16_112,
            bad_minutes: 140,
            service_valid: 90_000,
            service_bad: 16_400,
            budget_lost: Some(0.31),
            objectives_broken: 4,
            objectives_at_risk: 3,
            exhausted_in_s: Some(4_300.0),
            worst: HOSTILE.iter().map(|name| customer(name)).collect(),
            causes: self.causes(),
            ..Incident::default()
        })
    }

    fn causes(&self) -> Vec<Cause> {
        if !matches!(self.scene, Scene::Incident | Scene::Silent) {
            return Vec::new();
        }
        let dimensions = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        vec![
            Cause {
                dimensions: dimensions(&[("release", "r42"), ("cohort", "canary")]),
                valid: 61_204,
                bad: 16_112,
                excess: 16_061.4,
                share_of_excess: Some(0.942),
                lift: Some(288.4),
                p_value: 1e-300,
            },
            Cause {
                dimensions: dimensions(&[("route", "POST /v1/messages/{id}/send")]),
                valid: 9_320,
                bad: 402,
                excess: 358.1,
                share_of_excess: Some(0.021),
                lift: Some(3.2),
                p_value: 0.0021,
            },
        ]
    }
}
