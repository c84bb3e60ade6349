//! `[[route]]` and `[[silence]]`: who is told of what, and when nobody is.

use super::reader::{Section, suggestion};
use super::receiver::Receiver;
use crate::notify::matcher::{LABELS, Matcher};
use crate::notify::notice::{INCIDENT, VERDICT};
use crate::notify::route::{Grouping, Route, Routes};
use crate::notify::silence::Silence;
use crate::slo::alert::SPECS;

/// A day: nobody waits longer for company, or is told more seldom.
const DAY_MS: u64 = 86_400_000;

/// Reads `[[route]]`.
pub(super) fn routes(root: &Section<'_>, receivers: &[Receiver]) -> Routes {
    let sections = root.sections("route");
    let mut list = Vec::new();
    for section in &sections {
        list.push(route(section, receivers));
        section.finish();
    }
    if let Some((last, section)) = list.last().zip(sections.last())
        && (!last.matcher.picks_all() || last.goes_on)
    {
        let what = "is the last route and does not take everything";
        section.problem("receivers", what, "takes a last [[route]] that picks by nothing");
    }
    Routes { list, default: Grouping::default() }
}

fn route(section: &Section<'_>, receivers: &[Receiver]) -> Route {
    let matcher = matcher(section);
    let names = section.names("receivers", "names of [[notify]]").unwrap_or_default();
    if !section.has("receivers") {
        section.missing("receivers", "a list of names of [[notify]], empty for nobody");
    }
    let known: Vec<&str> = receivers.iter().map(|receiver| &*receiver.name).collect();
    for name in names.iter().filter(|name| !known.contains(name)) {
        section.problem("receivers", format!("{name:?} is unknown"), suggestion(name, &known));
    }
    let receivers = names.into_iter().map(str::to_owned).collect();
    let goes_on = section.flag("continue").unwrap_or(false);
    Route { matcher, receivers, goes_on, grouping: grouping(section) }
}

fn grouping(section: &Section<'_>) -> Grouping {
    let mut grouping = Grouping::default();
    if let Some(names) = section.names("group_by", "labels such as \"service\"") {
        for name in names.iter().filter(|name| !LABELS.contains(name)) {
            section.problem("group_by", format!("{name:?} is unknown"), suggestion(name, &LABELS));
        }
        grouping.by = names.into_iter().map(str::to_owned).collect();
    }
    let duration = |key| section.duration_ms(key, 0..=DAY_MS).map(|ms| ms as i64);
    grouping.wait_ms = duration("group_wait").unwrap_or(grouping.wait_ms);
    grouping.interval_ms = duration("group_interval").unwrap_or(grouping.interval_ms);
    let repeat_ms = section.duration_ms("repeat_interval", 60_000..=30 * DAY_MS);
    grouping.repeat_ms = repeat_ms.map(|ms| ms as i64);
    grouping
}

/// Reads what a route or a silence picks by.
fn matcher(section: &Section<'_>) -> Matcher {
    let names = |key, takes| -> Vec<String> {
        let names = section.names(key, takes).unwrap_or_default();
        names.into_iter().map(str::to_owned).collect()
    };
    let matcher = Matcher {
        customers: names("customers", "customers, where * is any text"),
        services: names("services", "services, where * is any text"),
        objectives: names("objectives", "objectives, where * is any text"),
        tiers: names("tiers", "alert tiers such as \"page_1h\""),
        severities: names("severities", "severities"),
        customer_tiers: names("customer_tiers", "tiers of customers, where * is any text"),
    };
    let tiers = SPECS.iter().map(|spec| spec.name).chain([INCIDENT, VERDICT]);
    let tiers: Vec<&str> = tiers.collect();
    for (key, names, known) in [
        ("tiers", &matcher.tiers, &*tiers),
        ("severities", &matcher.severities, &["page", "ticket"]),
    ] {
        for name in names.iter().filter(|name| !name.contains('*') && !known.contains(&&***name)) {
            section.problem(key, format!("{name:?} is unknown"), suggestion(name, known));
        }
    }
    matcher
}

/// Reads `[[silence]]`.
pub(super) fn silences(root: &Section<'_>) -> Vec<Silence> {
    let mut silences = Vec::new();
    for (number, section) in root.sections("silence").iter().enumerate() {
        let text = |key| section.text(key, "a text").unwrap_or_default().to_owned();
        let silence = Silence {
            id: format!("config-{}", number + 1),
            matcher: matcher(section),
            author: text("author"),
            reason: text("reason"),
            from: text("from"),
            to: text("to"),
        };
        section.finish();
        match silence.checked() {
            Ok(silence) => silences.push(silence),
            Err(error) => section.problem(error.field, error.problem, "see [[silence]]"),
        }
    }
    silences
}
