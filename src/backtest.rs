//! `ninefold alerts --backtest`: another configuration tried on the history of a table.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ninefold_engine::query::backtest::{Backtest, BacktestAlert, Breach, Tally};
use ninefold_engine::report::text::{Side, aligned};
use ninefold_engine::time::Minute;

use crate::{Place, ask, batch};

/// Tries `config` on the table of `place`, which may be named by either configuration.
pub fn backtest(
    place: Place,
    config: PathBuf,
    (from, to): (Option<Minute>, Option<Minute>),
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let data = match (place.data, &place.config) {
        (None, Some(_)) => batch::load(&Place { data: None, ..place })?.data,
        (data, _) => data,
    };
    let asker = ask::asker(&Place { data, config: Some(config) })?;
    ask::print(&asker.backtest(from, to)?, as_json, show)
}

fn show(answer: &Backtest) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if answer.alerts.is_empty() && answer.breaches.is_empty() {
        return writeln!(out, "no alert would have fired, and no budget was exhausted");
    }
    if !answer.alerts.is_empty() {
        writeln!(out, "{}", alerts(&answer.alerts))?;
    }
    if !answer.breaches.is_empty() {
        writeln!(out, "{}", breaches(&answer.breaches))?;
    }
    tally(&mut out, "pages", &answer.pages)?;
    tally(&mut out, "tickets", &answer.tickets)?;
    let (all, unalerted) = (answer.breaches.len(), answer.breaches_unalerted);
    write!(out, "breaches: {all}, {unalerted} of them without an alert before")?;
    match answer.lead_s_median {
        Some(lead_s) => writeln!(out, "; median lead {}", duration(lead_s)),
        None => writeln!(out),
    }
}

fn tally(out: &mut impl Write, what: &str, tally: &Tally) -> io::Result<()> {
    let Tally { fired, held_back, breached, false_alarms, open } = tally;
    writeln!(
        out,
        "{what}: {fired} fired, {held_back} of them held back; {breached} before or in a breach, \
         {false_alarms} false, {open} open"
    )
}

fn alerts(alerts: &[BacktestAlert]) -> String {
    let columns = [
        ("at", Side::Left),
        ("until", Side::Left),
        ("tier", Side::Left),
        ("customer", Side::Left),
        ("service", Side::Left),
        ("objective", Side::Left),
        ("told", Side::Left),
        ("outcome", Side::Left),
        ("lead", Side::Right),
    ];
    let row = |one: &BacktestAlert| {
        let alert = &one.alert;
        let or = |text: &Option<String>, none: &str| text.clone().unwrap_or(none.to_owned());
        vec![
            alert.at.clone(),
            or(&one.until, "fires"),
            alert.tier.clone(),
            alert.customer.clone(),
            alert.service.clone(),
            alert.objective.clone(),
            or(&one.told_at, "held back"),
            one.outcome.to_owned(),
            lead(one.lead_s),
        ]
    };
    aligned(&columns, &alerts.iter().map(row).collect::<Vec<_>>())
}

fn breaches(breaches: &[Breach]) -> String {
    let columns = [
        ("budget exhausted", Side::Left),
        ("customer", Side::Left),
        ("service", Side::Left),
        ("objective", Side::Left),
        ("first alert", Side::Left),
        ("lead", Side::Right),
    ];
    let row = |breach: &Breach| {
        vec![
            breach.at.clone(),
            breach.customer.clone(),
            breach.service.clone(),
            breach.objective.clone(),
            breach.alerted_at.clone().unwrap_or("none".to_owned()),
            lead(breach.lead_s),
        ]
    };
    aligned(&columns, &breaches.iter().map(row).collect::<Vec<_>>())
}

fn lead(lead_s: Option<i64>) -> String {
    lead_s.map_or("-".to_owned(), duration)
}

/// `1d 2h 3m`, from whole minutes; with a minus where it came too late.
fn duration(seconds: i64) -> String {
    let minutes = seconds.unsigned_abs() / 60;
    let sign = if seconds < 0 { "-" } else { "" };
    let parts = [(minutes / 1_440, 'd'), (minutes / 60 % 24, 'h'), (minutes % 60, 'm')];
    let told = parts.iter().filter(|(count, _)| *count > 0);
    let text = told.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ");
    if text.is_empty() { "0m".to_owned() } else { format!("{sign}{text}") }
}
