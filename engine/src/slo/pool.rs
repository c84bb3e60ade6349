//! Pools: customers who are judged together, since each of them may be too small for evidence.
//!
//! A customer is in one pool: the first configured [`Group`] that names them, else their tier,
//! else the pool without a name. A pool and a service are a series of their own, with the
//! promises of the tier ([`Objectives::resolve_pool`]); a group has those of everyone.
//!
//! Pure; numbers of pools are those of one configuration and are stored nowhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::objective::Objectives;
use super::sli::glob;

/// The most pools there may be, the one without a name aside: each takes memory by service.
pub const POOLS_MAX: usize = 1_000;

/// A configured group of customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name, which no tier has.
    pub name: String,
    /// Names of customers, where `*` is any text.
    pub customers: Vec<String>,
}

/// Which customer is in which pool.
///
/// ```
/// use ninefold_engine::slo::objective::Objectives;
/// use ninefold_engine::slo::pool::{Group, Pools};
/// let mut objectives = Objectives::default();
/// objectives.tier_of.insert("acme".into(), "gold".into());
/// objectives.tier_of.insert("eu-gmbh".into(), "gold".into());
/// let europe = Group { name: "europe".into(), customers: vec!["eu-*".into()] };
/// let pools = Pools::new(&[europe], &objectives);
/// let name = |customer: &str| pools.name(pools.of(customer));
/// assert_eq!([name("acme"), name("eu-gmbh"), name("other")], ["gold", "europe", ""]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// By number; the first one has no name, then come the groups, then the tiers.
    names: Vec<Arc<str>>,
    /// Names with a `*`, in the order of the groups.
    patterns: Vec<(String, u16)>,
    /// Customers who are named.
    of: HashMap<String, u16>,
}

impl Default for Pools {
    /// One pool, without a name, of everybody.
    fn default() -> Pools {
        Pools { names: vec![Arc::from("")], patterns: Vec::new(), of: HashMap::new() }
    }
}

impl Pools {
    /// The pools of these groups and of the tiers of `objectives`.
    ///
    /// # Panics
    /// If there are more than 65,535 of them: a checked configuration has at most
    /// [`POOLS_MAX`].
    pub fn new(groups: &[Group], objectives: &Objectives) -> Pools {
        let mut pools = Pools::default();
        for group in groups {
            let number = pools.add(&group.name);
            for customer in &group.customers {
                if customer.contains('*') {
                    pools.patterns.push((customer.clone(), number));
                } else {
                    pools.of.entry(customer.clone()).or_insert(number);
                }
            }
        }
        let tiers: BTreeSet<&String> =
            objectives.tiers.keys().chain(objectives.tier_of.values()).collect();
        let numbers: HashMap<&String, u16> =
            tiers.into_iter().map(|tier| (tier, pools.add(tier))).collect();
        for (customer, tier) in &objectives.tier_of {
            pools.of.entry(customer.clone()).or_insert(numbers[tier]);
        }
        pools
    }

    fn add(&mut self, name: &str) -> u16 {
        let number = u16::try_from(self.names.len()).expect("pools are bounded by POOLS_MAX");
        self.names.push(Arc::from(name));
        number
    }

    /// The number of a customer's pool.
    pub fn of(&self, customer: &str) -> u16 {
        let named = self.of.get(customer).copied();
        let picks = |(pattern, _): &&(String, u16)| glob(pattern, customer);
        let picked = self.patterns.iter().find(picks).map(|(_, number)| *number);
        // Groups have the smaller numbers, in their order: the first one wins, and before a tier.
        named.into_iter().chain(picked).min().unwrap_or(0)
    }

    /// The name of a pool; empty for that of whoever is in no other.
    ///
    /// # Panics
    /// If the number is of other pools.
    pub fn name(&self, number: u16) -> &str {
        &self.names[usize::from(number)]
    }

    /// The same, shared.
    ///
    /// # Panics
    /// As [`Pools::name`].
    pub fn shared(&self, number: u16) -> Arc<str> {
        Arc::clone(&self.names[usize::from(number)])
    }

    /// Who is in which pool, as text: the same for the same pools.
    pub fn described(&self) -> String {
        let of: BTreeMap<&String, &u16> = self.of.iter().collect();
        format!("{:?} {:?} {of:?}", self.names, self.patterns)
    }

    /// The number of the pool of that name.
    pub fn find(&self, name: &str) -> Option<u16> {
        self.names.iter().position(|known| **known == *name).map(|at| at as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_group_wins_before_the_tier_whether_named_or_picked() {
        let group = |name: &str, customers: &[&str]| Group {
            name: name.to_owned(),
            customers: customers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut objectives = Objectives::default();
        objectives.tiers.insert("idle".into(), Vec::new());
        for customer in ["a-1", "b-1", "c-1"] {
            objectives.tier_of.insert(customer.into(), "gold".into());
        }
        let groups = [group("one", &["a-*", "z"]), group("two", &["a-1", "b-1", "z"])];
        let pools = Pools::new(&groups, &objectives);
        let check = |customer: &str, expect: &str| {
            assert_eq!(pools.name(pools.of(customer)), expect, "{customer}");
        };
        check("a-1", "one");
        check("a-2", "one");
        check("b-1", "two");
        check("z", "one");
        check("c-1", "gold");
        check("nobody", "");
        assert_eq!(pools.find("gold").map(|number| pools.name(number)), Some("gold"));
        assert_eq!((pools.find(""), pools.find("three")), (Some(0), None));
        assert!(pools.find("idle").is_some(), "a tier without customers is a pool");
    }
}
