//! `[[maintenance]]`: windows whose events are excluded as they are counted.
//!
//! A window is `from`/`to`, or a recurrence rule (RFC 5545) with a local begin, a zone and a
//! duration. Rules are unrolled here, up to the end of what events may be dated, so that what is
//! excluded is a plain list of minutes, the same on every machine.

use std::collections::BTreeSet;

use rrule::RRuleSet;

use super::promise;
use super::reader::{Section, suggestion};
use crate::slo::exclusion::{Exclusion, joined};
use crate::slo::objective::Objectives;
use crate::time::{MINUTE_MS, Minute, TS_MS_END, parse_rfc3339};

/// So many times a rule may recur until 2100: each day does.
const SPANS_MAX: usize = 40_000;

const TIME_TAKES: &str = "a whole minute such as \"2026-11-01T02:00:00Z\"";
const START_TAKES: &str = "a local time such as \"2026-11-01T02:00\"";

/// Reads all of them.
pub(super) fn maintenance(root: &Section<'_>, objectives: &Objectives) -> Vec<Exclusion> {
    let mut windows = Vec::new();
    for section in root.sections("maintenance") {
        let customers = customers(&section, objectives);
        let services = section.names("services", "services").unwrap_or_default();
        let services = services.into_iter().map(str::to_owned).collect();
        let reason = section.name("reason", "a reason, for people").map(str::to_owned);
        if !section.has("reason") {
            section.missing("reason", "a reason, for people");
        }
        let spans = spans(&section);
        section.finish();
        if let (Some(reason), Some(spans)) = (reason, spans) {
            windows.push(Exclusion { customers, services, spans: joined(spans), reason });
        }
    }
    windows
}

/// The customers of `customers` and of `tiers`; `None` where neither is given.
fn customers(section: &Section<'_>, objectives: &Objectives) -> Option<BTreeSet<String>> {
    let named = section.names("customers", "customers");
    let tiers = section.names("tiers", "tiers of customers");
    let known: Vec<&str> = objectives.tiers.keys().map(String::as_str).collect();
    for tier in tiers.iter().flatten().filter(|tier| !known.contains(tier)) {
        section.problem("tiers", format!("{tier:?} is unknown"), suggestion(tier, &known));
    }
    if named.is_none() && tiers.is_none() {
        return None;
    }
    let mut customers: BTreeSet<String> = named.into_iter().flatten().map(str::to_owned).collect();
    let tiers = tiers.unwrap_or_default();
    let of_tiers = objectives.tier_of.iter().filter(|(_, tier)| tiers.contains(&tier.as_str()));
    customers.extend(of_tiers.map(|(customer, _)| customer.clone()));
    Some(customers)
}

fn spans(section: &Section<'_>) -> Option<Vec<(Minute, Minute)>> {
    let once = (minute(section, "from"), minute(section, "to"));
    let rule = section.name("rrule", "a rule such as \"FREQ=WEEKLY;BYDAY=SU\"");
    let start = section.name("start", START_TAKES);
    let zone = promise::zone(section, "zone").unwrap_or("UTC");
    let duration_ms = section.duration_ms("duration", MINUTE_MS as u64..=31 * 86_400_000);
    let has = |keys: [&'static str; 2]| keys.into_iter().any(|key| section.has(key));
    if section.has("rrule") == has(["from", "to"]) {
        let takes = "takes from and to, or rrule with start and duration";
        section.problem("from", "or rrule: one of them says when", takes);
        return None;
    }
    if !section.has("rrule") {
        let (Some(from), Some(to)) = once else {
            for key in ["from", "to"].into_iter().filter(|key| !section.has(key)) {
                section.missing(key, TIME_TAKES);
            }
            return None;
        };
        if to <= from {
            section.problem("to", "is not after from", "takes a later time");
            return None;
        }
        return Some(vec![(from, to.minus(1))]);
    }
    for (key, takes) in [("start", START_TAKES), ("duration", "a duration such as \"2h\"")] {
        if !section.has(key) {
            section.missing(key, takes);
        }
    }
    let minutes = u32::try_from(duration_ms? / MINUTE_MS as u64).ok()?;
    if !duration_ms?.is_multiple_of(MINUTE_MS as u64) {
        section.problem("duration", "is no whole number of minutes", "takes minutes, as \"90m\"");
        return None;
    }
    // A rule that nothing fits would be searched for ever.
    let rule = rule_set(section, (rule?, start?, zone))?.limit();
    let mut spans = Vec::new();
    for begin in &rule {
        let first_ms = begin.timestamp_millis();
        if first_ms >= TS_MS_END {
            break;
        }
        if spans.len() == SPANS_MAX {
            let what = format!("recurs more than {SPANS_MAX} times until 2100");
            section.problem("rrule", what, "takes a rule with UNTIL or COUNT");
            return None;
        }
        let first = Minute::of_ms(first_ms);
        spans.push((first, Minute(first.0 + minutes - 1)));
    }
    if spans.is_empty() {
        section.problem("rrule", "never comes to pass", "takes a rule that some day fits");
        return None;
    }
    Some(spans)
}

/// The rule from its begin in its zone.
fn rule_set(section: &Section<'_>, (rule, start, zone): (&str, &str, &str)) -> Option<RRuleSet> {
    let digits: String = start.chars().filter(char::is_ascii_digit).collect();
    let is_time = start.len() == "2026-11-01T02:00".len()
        && start.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 => byte == b':',
            _ => byte.is_ascii_digit(),
        });
    if !is_time {
        section.problem("start", format!("{start:?} is no time"), format!("takes {START_TAKES}"));
        return None;
    }
    if rule.contains(['\n', '\r', ':']) {
        section.problem("rrule", "is more than one rule", "takes what stands behind RRULE:");
        return None;
    }
    let (day, time) = digits.split_at(8);
    let text = format!("DTSTART;TZID={zone}:{day}T{time}00\nRRULE:{rule}");
    match text.parse::<RRuleSet>() {
        Ok(set) => Some(set),
        Err(error) => {
            let takes = "takes a rule of RFC 5545, such as \"FREQ=WEEKLY;BYDAY=SU\"";
            section.problem("rrule", format!("cannot be used: {error}"), takes);
            None
        }
    }
}

/// A whole minute.
fn minute(section: &Section<'_>, key: &'static str) -> Option<Minute> {
    let text = section.text(key, TIME_TAKES)?;
    let ms = parse_rfc3339(text.as_bytes()).filter(|ms| ms % MINUTE_MS == 0);
    if ms.is_none() {
        section.problem(key, format!("{text:?} is no whole minute"), format!("takes {TIME_TAKES}"));
    }
    ms.map(Minute::of_ms)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::slo::exclusion::Exclusion;
    use crate::time::{Minute, parse_rfc3339};

    fn window(text: &str) -> Exclusion {
        let text = format!("[[maintenance]]\nreason = \"upgrade\"\n{text}");
        Config::parse(&text, "f").unwrap().slis.maintenance.remove(0)
    }

    fn refused(text: &str) -> String {
        let text = format!("[[maintenance]]\n{text}");
        Config::parse(&text, "f").unwrap_err().to_string()
    }

    fn at(text: &str) -> Minute {
        Minute::of_ms(parse_rfc3339(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_rule_keeps_its_local_time_over_a_change_of_the_clock() {
        let sundays = window(
            "rrule = \"FREQ=WEEKLY;BYDAY=SU\"\nstart = \"2026-10-18T03:00\"\n\
             zone = \"Europe/Berlin\"\nduration = \"2h\"",
        );
        assert_eq!(sundays.spans[0], (at("2026-10-18T01:00:00Z"), at("2026-10-18T02:59:00Z")));
        // From the 25th of October on Berlin is one hour nearer to UTC.
        assert_eq!(sundays.spans[1].0, at("2026-10-25T02:00:00Z"));
        assert_eq!(sundays.spans[2].0, at("2026-11-01T02:00:00Z"));
        assert!(sundays.spans.len() > 3_800, "to the end of the century");
        let three = window(
            "rrule = \"FREQ=DAILY;COUNT=3\"\nstart = \"2026-10-18T03:00\"\nduration = \"24h\"",
        );
        assert_eq!(three.spans, [(at("2026-10-18T03:00:00Z"), at("2026-10-21T02:59:00Z"))]);
    }

    #[test]
    fn a_window_of_once_ends_before_its_end_and_is_of_whom_it_names() {
        let text = "from = \"2026-11-01T02:00:00Z\"\nto = \"2026-11-01T03:00:00+00:00\"\n\
                    customers = [\"acme\"]\ntiers = [\"gold\"]\nservices = [\"api\"]\n\
                    [tier.gold]\ncustomers = [\"globex\"]";
        let once = window(text);
        let (first, last) = (at("2026-11-01T02:00:00Z"), at("2026-11-01T02:59:00Z"));
        assert_eq!(once.spans, [(first, last)]);
        assert!(once.covers(last, "globex", "api") && once.covers(first, "acme", "api"));
        assert!(!once.covers(last, "other", "api") && !once.covers(last, "acme", "inbox"));
    }

    #[test]
    fn what_says_no_time_or_no_reason_is_refused() {
        let once = "from = \"2026-11-01T02:00:00Z\"\nto = \"2026-11-01T03:00:00Z\"";
        assert!(refused(once).contains("reason"));
        for (text, expect) in [
            ("reason = \"r\"", "one of them says when"),
            ("reason = \"r\"\nfrom = \"2026-11-01T02:00:30Z\"\nto = \"x\"", "no whole minute"),
            (
                "reason = \"r\"\nrrule = \"FREQ=SOMETIMES\"\nstart = \"2026-11-01T02:00\"\nduration = \"1h\"",
                "cannot be used",
            ),
            (
                "reason = \"r\"\nrrule = \"FREQ=HOURLY\"\nstart = \"2026-11-01T02:00\"\nduration = \"1m\"",
                "UNTIL or COUNT",
            ),
            (
                "reason = \"r\"\nrrule = \"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30\"\nstart = \"2026-11-01T02:00\"\nduration = \"1m\"",
                "never comes to pass",
            ),
            (
                "reason = \"r\"\nrrule = \"FREQ=DAILY\"\nstart = \"tomorrow\"\nduration = \"1h\"",
                "is no time",
            ),
            (
                "reason = \"r\"\ntiers = [\"gold\"]\nfrom = \"2026-11-01T02:00:00Z\"\nto = \"2026-11-01T03:00:00Z\"",
                "\"gold\" is unknown",
            ),
        ] {
            let problems = refused(text);
            assert!(problems.contains(expect), "{text}: {problems}");
        }
    }

    #[test]
    fn windows_make_another_version_of_the_rules() {
        let version = |text: &str| Config::parse(text, "f").unwrap().slis.rules_version();
        let once = |to: &str| {
            format!(
                "[[maintenance]]\nreason = \"r\"\nfrom = \"2026-11-01T02:00:00Z\"\nto = \"{to}\""
            )
        };
        let (a, b) = (once("2026-11-01T03:00:00Z"), once("2026-11-01T04:00:00Z"));
        assert_ne!(version(""), version(&a));
        assert_ne!(version(&a), version(&b));
        assert_eq!(version(&a), version(&a.replace("\"r\"", "\"another reason\"")));
    }
}
