//! What is promised: objectives on SLIs, inherited by scope.
//!
//! An objective is an SLI, a target and a period. Scopes go from the outside in: default, then
//! the customer's tier, then the customer, then customer and service. An inner objective takes
//! the place of the outer one of the same name and of no other, so that a customer with an own
//! target for `availability` keeps the default latency objective. The order is that of first
//! appearance, outside in.

use std::collections::BTreeMap;

pub use super::decimal::{Decimal, DecimalError, Factor, burn_at_least, met};
pub use super::period::{Period, PeriodError, month_range};
pub use super::sli::{Class, FURTHER_SLIS_MAX, Sli, SliKind, SliRef, Slis};

/// The target unless said otherwise: 99.8%.
pub const TARGET_DEFAULT: Decimal = Decimal { units: 998, scale: 3 };

/// The name of the default availability SLI and of the objective on it.
pub const AVAILABILITY: &str = "availability";

/// One promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Its name, unique per scope; one of the same name further in replaces it.
    pub name: String,
    /// Name of the SLI it is on.
    pub sli: String,
    /// The target ratio, 0 < target < 1.
    pub target: Decimal,
    /// Over what time.
    pub period: Period,
    /// Alert tiers that are switched off (`page_1h`), or have their own factor or `min_bad`.
    pub tiers: Vec<TierOverride>,
}

impl Objective {
    /// An availability objective without changes to its tiers.
    pub fn availability(target: Decimal, period: Period) -> Objective {
        let name = AVAILABILITY.to_owned();
        Objective { sli: name.clone(), name, target, period, tiers: Vec::new() }
    }
}

/// A change to one alert tier of one objective.
#[derive(Clone, Debug, PartialEq)]
pub struct TierOverride {
    /// `rollout_5m`, `page_1h`, `page_6h`, `ticket_1d` or `ticket_3d`.
    pub tier: String,
    /// `false` switches it off.
    pub enabled: bool,
    /// Its own factor.
    pub factor: Option<Decimal>,
    /// Its own `min_bad`.
    pub min_bad: Option<u64>,
}

/// All objectives, by scope: default, then tier, then customer, then customer and service.
/// An objective of an inner scope replaces the one of the same name further out.
#[derive(Clone, Debug, PartialEq)]
pub struct Objectives {
    /// For everyone.
    pub default: Vec<Objective>,
    /// By customer tier (`enterprise`).
    pub tiers: BTreeMap<String, Vec<Objective>>,
    /// The tier of a customer.
    pub tier_of: BTreeMap<String, String>,
    /// By customer.
    pub customers: BTreeMap<String, Vec<Objective>>,
    /// By customer and service.
    pub services: BTreeMap<(String, String), Vec<Objective>>,
}

impl Default for Objectives {
    /// One objective for everyone: availability of 99.8% over 30 days.
    fn default() -> Self {
        Objectives {
            default: vec![Objective::availability(TARGET_DEFAULT, Period::RollingDays(30))],
            tiers: BTreeMap::new(),
            tier_of: BTreeMap::new(),
            customers: BTreeMap::new(),
            services: BTreeMap::new(),
        }
    }
}

impl Objectives {
    /// Every objective of every scope.
    pub fn all(&self) -> impl Iterator<Item = &Objective> {
        let scopes =
            self.tiers.values().chain(self.customers.values()).chain(self.services.values());
        self.default.iter().chain(scopes.flatten())
    }

    /// The objectives of one customer and service.
    ///
    /// ```
    /// use ninefold_engine::slo::objective::*;
    /// let mut objectives = Objectives::default();
    /// let strict = Objective::availability(Decimal::parse("0.9995").unwrap(), Period::RollingDays(30));
    /// objectives.customers.insert("acme".into(), vec![strict]);
    /// assert_eq!(objectives.resolve("acme", "api")[0].target.to_string(), "0.9995");
    /// assert_eq!(objectives.resolve("other", "api")[0].target.to_string(), "0.998");
    /// ```
    pub fn resolve(&self, customer: &str, service: &str) -> Vec<&Objective> {
        let mut found = self.resolve_customer(customer);
        // The map is empty for nearly everyone; a look into it would copy both names.
        if !self.services.is_empty() {
            let key = (customer.to_owned(), service.to_owned());
            replace(&mut found, self.services.get(&key));
        }
        found
    }

    /// The objectives of a customer over all its services together: those of every scope but
    /// the innermost.
    pub fn resolve_customer(&self, customer: &str) -> Vec<&Objective> {
        let mut found: Vec<&Objective> = self.default.iter().collect();
        let tier = self.tier_of.get(customer);
        replace(&mut found, tier.and_then(|tier| self.tiers.get(tier)));
        replace(&mut found, self.customers.get(customer));
        found
    }

    /// The objectives of a [pool](super::pool): those of everyone, and of the tier of its name.
    pub fn resolve_pool(&self, pool: &str) -> Vec<&Objective> {
        let mut found: Vec<&Objective> = self.default.iter().collect();
        replace(&mut found, self.tiers.get(pool));
        found
    }

    /// The objective that a customer's monthly report is judged by: its first calendar one on
    /// the default availability SLI, else a monthly one in `zone` on the default target. That
    /// is the target of the default scope's availability objective, 0.998 where it has none.
    pub fn calendar_availability(&self, customer: &str, zone: &str) -> Objective {
        if let Some(objective) = self.own_calendar(customer) {
            return objective.clone();
        }
        Objective::availability(self.calendar_target(customer), Period::Month(zone.to_owned()))
    }

    /// The target of [`Objectives::calendar_availability`].
    pub fn calendar_target(&self, customer: &str) -> Decimal {
        let own = self.own_calendar(customer);
        let judging = own.or_else(|| self.default.iter().find(on_availability));
        judging.map_or(TARGET_DEFAULT, |objective| objective.target)
    }

    fn own_calendar(&self, customer: &str) -> Option<&Objective> {
        let mut own = self.resolve_customer(customer).into_iter().filter(on_availability);
        own.find(|objective| objective.period.is_calendar())
    }
}

fn on_availability(objective: &&Objective) -> bool {
    objective.sli == AVAILABILITY
}

/// Puts the objectives of an inner scope in the place of those of the same name.
fn replace<'a>(found: &mut Vec<&'a Objective>, inner: Option<&'a Vec<Objective>>) {
    for objective in inner.into_iter().flatten() {
        match found.iter_mut().find(|outer| outer.name == objective.name) {
            Some(outer) => *outer = objective,
            None => found.push(objective),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(name: &str, target: &str, period: Period) -> Objective {
        let target = Decimal::parse(target).unwrap();
        Objective { name: name.to_owned(), ..Objective::availability(target, period) }
    }

    fn rolling(name: &str, target: &str) -> Objective {
        objective(name, target, Period::RollingDays(30))
    }

    fn scopes() -> Objectives {
        let mut objectives = Objectives {
            default: vec![rolling("a", "0.9"), rolling("b", "0.91")],
            ..Objectives::default()
        };
        objectives.tiers.insert("gold".into(), vec![rolling("c", "0.92"), rolling("a", "0.93")]);
        objectives.tier_of.insert("acme".into(), "gold".into());
        objectives.tier_of.insert("lost".into(), "no such tier".into());
        objectives.customers.insert("acme".into(), vec![rolling("b", "0.94")]);
        let key = ("acme".into(), "api".into());
        objectives.services.insert(key, vec![rolling("a", "0.95"), rolling("d", "0.96")]);
        objectives
    }

    #[test]
    fn inner_scopes_replace_by_name_and_keep_the_order() {
        let objectives = scopes();
        let check = |customer: &str, service: &str, expect: &[&str]| {
            let found = objectives.resolve(customer, service);
            let texts: Vec<_> = found.iter().map(|o| format!("{} {}", o.name, o.target)).collect();
            assert_eq!(texts, expect, "{customer} {service}");
        };
        check("acme", "api", &["a 0.95", "b 0.94", "c 0.92", "d 0.96"]);
        check("acme", "web", &["a 0.93", "b 0.94", "c 0.92"]);
        check("lost", "api", &["a 0.9", "b 0.91"]);
        check("other", "api", &["a 0.9", "b 0.91"]);
    }

    #[test]
    fn reports_are_judged_by_the_calendar_objective_or_a_month_on_the_default_target() {
        let mut objectives = scopes();
        let found = objectives.calendar_availability("acme", "Europe/Berlin");
        assert_eq!(found.period, Period::Month("Europe/Berlin".into()));
        assert_eq!(found.target.to_string(), "0.9");
        let contract = objective("contract", "0.995", Period::Month("Asia/Tokyo".into()));
        objectives.customers.get_mut("acme").unwrap().push(contract.clone());
        assert_eq!(objectives.calendar_availability("acme", "UTC"), contract);
        objectives.default.clear();
        assert_eq!(objectives.calendar_availability("other", "UTC").target, TARGET_DEFAULT);
    }

    #[test]
    fn everyone_is_promised_998_of_1000_over_30_days() {
        let objectives = Objectives::default();
        let found = objectives.resolve("anyone", "default");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].sli.as_str()), (AVAILABILITY, AVAILABILITY));
        assert_eq!(found[0].target.to_string(), "0.998");
        assert_eq!(found[0].period.to_string(), "30d");
    }
}
