//! `[[sli]]`, `[[objective]]`, `[tier.NAME]` and `[customer."NAME"]`: what is promised to whom.
//!
//! Objectives are inherited by name: default, then tier, then customer, then customer and
//! service. One further in replaces the one of the same name further out, and what it leaves
//! unsaid it takes from there, so that a stricter target is one line.
//!
//! A checked set holds: names are unique in their scope, every objective is on an SLI that
//! exists, a customer is of one tier at most, `0 < target < 1`, and an alert tier that was
//! given a factor can both burn faster than the budget (`factor >= 1`) and be reached
//! (`factor * (1 - target) <= 1`).

use std::collections::BTreeMap;

use super::reader::{Section, suggestion};
use super::value;
use crate::model::{CUSTOMER_BYTES_MAX, LATENCY_US_MAX};
use crate::slo::alert::{AlertOptions, SPECS, Spec, tiers_of};
use crate::slo::decimal::{Decimal, Factor, SCALE_MAX};
use crate::slo::objective::{
    AVAILABILITY, Objective, Objectives, Period, TARGET_DEFAULT, TierOverride,
};
use crate::slo::sli::{BAD_DEFAULT, FURTHER_SLIS_MAX, Sli, SliKind, Slis, THRESHOLD_US_DEFAULT};

/// Name of the latency SLI where none is configured.
const LATENCY: &str = "latency";
/// The period of an objective that names none, in days.
pub(super) const PERIOD_DAYS: u32 = 30;

const TARGET_TAKES: &str = "more than 0 and less than 1, such as 0.998";
const FACTOR_TAKES: &str = "1 or more, such as 14.4";
const PERIOD_TAKES: &str = "1d to 366d, month or quarter";

/// Reads `[[sli]]`.
pub(super) fn slis(root: &Section<'_>) -> Slis {
    let mut slis = Slis::default();
    let mut names: Vec<String> = Vec::new();
    let mut has_latency = false;
    for section in root.sections("sli") {
        if let Some(sli) = sli(&section) {
            if names.contains(&sli.name) {
                section.problem("name", format!("{:?} is taken", sli.name), "names are unique");
            }
            names.push(sli.name.clone());
            let covers_all = sli.services.is_empty() && sli.routes.is_empty();
            match &sli.kind {
                _ if sli.name == AVAILABILITY => slis.availability = sli,
                SliKind::Latency { .. } if covers_all && !has_latency => {
                    slis.latency = sli;
                    has_latency = true;
                }
                _ => push_further(&section, sli, &mut slis),
            }
        }
        section.finish();
    }
    if !has_latency && names.iter().any(|name| name == LATENCY) {
        root.problem(
            "sli",
            "gives the name of the default latency SLI to another one",
            "takes another name",
        );
    }
    slis
}

fn push_further(section: &Section<'_>, sli: Sli, slis: &mut Slis) {
    slis.further.push(sli);
    if slis.further.len() == FURTHER_SLIS_MAX + 1 {
        let takes = format!("takes {FURTHER_SLIS_MAX} beside the two that are always counted");
        section.problem("name", "is one SLI too many", takes);
    }
}

fn sli(section: &Section<'_>) -> Option<Sli> {
    let name = section.name("name", "a unique name");
    let is_latency = section.choice("kind", &[("availability", false), ("latency", true)]);
    let services = owned(section.names("services", "service names"));
    let routes = owned(section.names("routes", "route patterns, where * is any text"));
    let bad = status_ranges(section, "bad");
    let excluded = status_ranges(section, "excluded");
    let threshold_us = threshold_us(section);
    if !section.has("name") {
        section.missing("name", "a unique name");
    }
    let is_latency = is_latency.unwrap_or(false);
    if name == Some(AVAILABILITY) {
        check_default_availability(section, is_latency);
    }
    let kind = if is_latency {
        refuse(section, &["bad", "excluded"], "kind = \"availability\"");
        if !section.has("threshold_ms") {
            section.missing("threshold_ms", "0.001 to 3600000");
        }
        SliKind::Latency { threshold_us: threshold_us.unwrap_or(THRESHOLD_US_DEFAULT) }
    } else {
        refuse(section, &["threshold_ms"], "kind = \"latency\"");
        let bad = bad.unwrap_or_else(|| vec![BAD_DEFAULT]);
        SliKind::Availability { bad, excluded: excluded.unwrap_or_default() }
    };
    Some(Sli { name: name?.to_owned(), kind, services, routes })
}

/// The default availability SLI fills the columns `valid` and `bad` of every row, so it has to
/// judge every event.
fn check_default_availability(section: &Section<'_>, is_latency: bool) {
    if is_latency {
        section.problem("kind", "of availability is latency", "takes another name");
    }
    for key in ["services", "routes"] {
        if section.has(key) {
            let what = "limits availability, which judges every event";
            section.problem(key, what, "takes an SLI of another name");
        }
    }
}

fn refuse(section: &Section<'_>, keys: &[&'static str], belongs: &str) {
    for key in keys.iter().filter(|key| section.has(key)) {
        section.problem(key, "has no meaning here", format!("belongs to {belongs}"));
    }
}

fn status_ranges(section: &Section<'_>, key: &'static str) -> Option<Vec<(u16, u16)>> {
    let takes = "statuses such as \"404\" or \"500-599\", 100 to 599";
    let mut ranges = Vec::new();
    for text in section.names(key, takes)? {
        match value::statuses(text) {
            Some(range) => ranges.push(range),
            None => {
                section.problem(key, format!("{text:?} is no status"), format!("takes {takes}"))
            }
        }
    }
    Some(ranges)
}

/// A threshold in milliseconds, exact to the microsecond.
fn threshold_us(section: &Section<'_>) -> Option<u32> {
    let takes = "0.001 to 3600000, at most three digits after the point";
    let decimal = section.decimal("threshold_ms", takes)?;
    let us = (decimal.scale <= 3)
        .then(|| u128::from(decimal.units) * 10_u128.pow(u32::from(3 - decimal.scale)))
        .and_then(|us| u32::try_from(us).ok())
        .filter(|us| (1..=LATENCY_US_MAX).contains(us));
    if us.is_none() {
        section.out_of_range("threshold_ms", decimal, takes);
    }
    us
}

fn owned(names: Option<Vec<&str>>) -> Vec<String> {
    names.unwrap_or_default().into_iter().map(str::to_owned).collect()
}

/// Reads `[[objective]]`, `[tier.NAME]` and `[customer."NAME"]`. `zone` is what calendar
/// periods are counted in unless they name their own.
pub(super) fn objectives(root: &Section<'_>, slis: &Slis, zone: &str) -> Objectives {
    let mut objectives = Objectives::default();
    let scope = Scope { slis: sli_names(slis), zone };
    let sections = root.sections("objective");
    if !sections.is_empty() {
        objectives.default.clear();
        scope.read(&sections, &[], &mut objectives.default);
    }
    for (name, section) in root.named_sections("tier") {
        let mut list = Vec::new();
        scope.read(&section.sections("objective"), &[&objectives.default], &mut list);
        read_customers(&section, name, &mut objectives.tier_of);
        objectives.tiers.insert(name.to_owned(), list);
        section.finish();
    }
    for (name, section) in root.named_sections("customer") {
        check_customer(name, &section);
        read_tier(&section, name, &mut objectives);
        scope.read_customer(&section, name, &mut objectives);
        section.finish();
    }
    objectives
}

fn sli_names(slis: &Slis) -> Vec<&str> {
    [&slis.availability, &slis.latency]
        .into_iter()
        .chain(&slis.further)
        .map(|sli| &*sli.name)
        .collect()
}

fn read_customers(section: &Section<'_>, tier: &str, tier_of: &mut BTreeMap<String, String>) {
    for customer in section.names("customers", "customer names").unwrap_or_default() {
        let before = tier_of.insert(customer.to_owned(), tier.to_owned());
        if let Some(before) = before {
            let what = format!("{customer:?} stands in {before:?} and {tier:?}");
            section.problem("customers", what, "takes each customer once");
        }
    }
}

fn check_customer(name: &str, section: &Section<'_>) {
    if name.is_empty() || name.len() > CUSTOMER_BYTES_MAX {
        let what = format!("belongs to a customer name of {} bytes", name.len());
        section.problem("tier", what, format!("takes 1 to {CUSTOMER_BYTES_MAX} bytes"));
    }
}

fn read_tier(section: &Section<'_>, customer: &str, objectives: &mut Objectives) {
    let Some(tier) = section.name("tier", "the name of a [tier.NAME]") else { return };
    if !objectives.tiers.contains_key(tier) {
        let known: Vec<&str> = objectives.tiers.keys().map(String::as_str).collect();
        section.problem("tier", format!("{tier:?} is unknown"), suggestion(tier, &known));
        return;
    }
    let before = objectives.tier_of.insert(customer.to_owned(), tier.to_owned());
    if let Some(before) = before.filter(|before| before != tier) {
        let what = format!("{tier:?} contradicts tier {before:?}, which lists this customer");
        section.problem("tier", what, "takes one tier");
    }
}

/// What every objective is read against.
struct Scope<'a> {
    slis: Vec<&'a str>,
    zone: &'a str,
}

impl Scope<'_> {
    /// Reads the objectives of one scope; `outer` are the scopes around it, the nearest first.
    fn read(&self, sections: &[Section<'_>], outer: &[&Vec<Objective>], list: &mut Vec<Objective>) {
        for section in sections {
            let Some(objective) = self.objective(section, outer) else { continue };
            if list.iter().any(|other| other.name == objective.name) {
                let what = format!("{:?} is taken in this scope", objective.name);
                section.problem("name", what, "names are unique per scope");
            }
            list.push(objective);
        }
        sections.iter().for_each(Section::finish);
    }

    /// Reads the objectives of one customer: those for all its services first, since those for
    /// one service inherit from them.
    fn read_customer(&self, section: &Section<'_>, name: &str, objectives: &mut Objectives) {
        let all = section.sections("objective");
        let service =
            |section: &Section<'_>| section.name("service", "a service name").map(str::to_owned);
        let (for_one, for_all): (Vec<_>, Vec<_>) = all
            .into_iter()
            .map(|section| (service(&section), section))
            .partition(|(service, _)| service.is_some());
        let for_all: Vec<Section<'_>> = for_all.into_iter().map(|(_, section)| section).collect();
        let tier = objectives.tier_of.get(name).and_then(|tier| objectives.tiers.get(tier));
        let mut outer: Vec<&Vec<Objective>> =
            tier.into_iter().chain([&objectives.default]).collect();
        let mut customer = Vec::new();
        self.read(&for_all, &outer, &mut customer);
        outer.insert(0, &customer);
        let mut services: BTreeMap<(String, String), Vec<Objective>> = BTreeMap::new();
        for (service, section) in for_one {
            let key = (name.to_owned(), service.unwrap_or_default());
            self.read(&[section], &outer, services.entry(key).or_default());
        }
        objectives.services.append(&mut services);
        if !customer.is_empty() {
            objectives.customers.insert(name.to_owned(), customer);
        }
    }

    fn objective(&self, section: &Section<'_>, outer: &[&Vec<Objective>]) -> Option<Objective> {
        let name = section.name("name", "a name");
        if !section.has("name") {
            section.missing("name", "a name, unique in its scope");
        }
        let base = outer.iter().find_map(|list| list.iter().find(|one| Some(&*one.name) == name));
        let sli = self.sli(section, name, base);
        let target = target(section).or(base.map(|base| base.target)).unwrap_or(TARGET_DEFAULT);
        let period = self.period(section, base);
        let tiers = tiers(section, target, base);
        let objective = Objective { name: name?.to_owned(), sli, target, period, tiers };
        if !section.has("tiers") {
            check_inherited_tiers(section, &objective);
        }
        Some(objective)
    }

    fn sli(&self, section: &Section<'_>, name: Option<&str>, base: Option<&Objective>) -> String {
        let written = section.name("sli", "the name of an SLI");
        if let Some(sli) = written.filter(|sli| !self.slis.contains(sli)) {
            section.problem("sli", format!("{sli:?} is unknown"), suggestion(sli, &self.slis));
        }
        let same_name = name.filter(|name| self.slis.contains(name));
        let inherited = base.map(|base| &*base.sli);
        written.or(inherited).or(same_name).unwrap_or(AVAILABILITY).to_owned()
    }

    fn period(&self, section: &Section<'_>, base: Option<&Objective>) -> Period {
        let own_zone = zone(section, "zone");
        let written = section.text("period", PERIOD_TAKES).and_then(|text| {
            let period = Period::parse(text, own_zone.unwrap_or(self.zone));
            if period.is_err() {
                let what = format!("{text:?} is no period");
                section.problem("period", what, format!("takes {PERIOD_TAKES}"));
            }
            period.ok()
        });
        let inherited = || base.map(|base| base.period.clone());
        let period = written.or_else(inherited).unwrap_or(Period::RollingDays(PERIOD_DAYS));
        match (period, own_zone.map(str::to_owned)) {
            (Period::Month(_), Some(zone)) => Period::Month(zone),
            (Period::Quarter(_), Some(zone)) => Period::Quarter(zone),
            (rolling, Some(_)) => {
                refuse(section, &["zone"], "period = \"month\" or \"quarter\"");
                rolling
            }
            (period, None) => period,
        }
    }
}

/// Reads an IANA zone and reports one that the time zone database does not know.
pub(super) fn zone<'a>(section: &Section<'a>, key: &'static str) -> Option<&'a str> {
    let takes = "an IANA zone such as \"UTC\" or \"Europe/Berlin\"";
    let zone = section.name(key, takes)?;
    let is_known = jiff::tz::TimeZone::get(zone).is_ok();
    if !is_known {
        let what = format!("{zone:?} is not in the time zone database of this machine");
        section.problem(key, what, format!("takes {takes}"));
    }
    is_known.then_some(zone)
}

fn target(section: &Section<'_>) -> Option<Decimal> {
    let target = section.decimal("target", TARGET_TAKES)?;
    if target.is_target() {
        return Some(target);
    }
    if let Some(ratio) = percentage(target) {
        section.problem("target", format!("{target} is a percentage"), format!("write {ratio}"));
    } else if target == Decimal::ONE {
        section.problem("target", "1 leaves no budget", format!("takes {TARGET_TAKES}"));
    } else {
        section.out_of_range("target", target, TARGET_TAKES);
    }
    None
}

/// The ratio that was meant by a target over 1 and below 100.
fn percentage(target: Decimal) -> Option<Decimal> {
    let hundred = Decimal { units: 100, scale: 0 };
    let is_percentage = target > Decimal::ONE && target < hundred;
    let scale = target.scale + 2;
    (is_percentage && scale <= SCALE_MAX).then_some(Decimal { units: target.units, scale })
}

fn tiers(section: &Section<'_>, target: Decimal, base: Option<&Objective>) -> Vec<TierOverride> {
    if !section.has("tiers") {
        section.section("tiers").finish();
        return base.map(|base| base.tiers.clone()).unwrap_or_default();
    }
    let tiers = section.section("tiers");
    let mut overrides = Vec::new();
    for Spec { name: tier, .. } in SPECS {
        let keys = tiers.section(tier);
        let enabled = keys.flag("enabled").unwrap_or(true);
        let factor = factor(&keys, target);
        let min_bad = keys.whole("min_bad", 1..=1_000_000);
        if keys.is_present() {
            overrides.push(TierOverride { tier: tier.to_owned(), enabled, factor, min_bad });
        }
        keys.finish();
    }
    tiers.finish();
    overrides
}

/// A factor that is in reach at one target may be out of reach at the target of an inner scope.
fn check_inherited_tiers(section: &Section<'_>, objective: &Objective) {
    for error in tiers_of(objective, &AlertOptions::default()).errors {
        let what = format!("from further out do not fit: {error}");
        section.problem("tiers", what, "takes tiers of its own");
    }
}

fn factor(section: &Section<'_>, target: Decimal) -> Option<Decimal> {
    let written = section.decimal("factor", FACTOR_TAKES)?;
    let factor = Factor::from(written);
    if factor.is_below_one() {
        let what = format!("{written} would fire while the budget still lasts");
        section.problem("factor", what, format!("takes {FACTOR_TAKES}"));
        return None;
    }
    if !factor.is_reachable(target) {
        let what = format!("{written} cannot be reached at target {target}");
        section.problem("factor", what, "takes at most 1 / (1 - target)");
        return None;
    }
    Some(written)
}
