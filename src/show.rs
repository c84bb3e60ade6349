//! Answers as text for a terminal: the same bodies that `--json` prints.
//!
//! Names come from outside, so control characters are shown escaped.

use std::io::{self, Write};

use ninefold_engine::pipeline::verify;
use ninefold_engine::query::body;
use ninefold_engine::query::body::{
    Alerts, Cause, Impact, ImpactCustomer, ObjectiveStatus, ReplaySummary, Silent, SilentService,
    Sla, TierStatus, Top, Window,
};
use ninefold_engine::query::review::name;
use ninefold_engine::query::risks::{Risk, Risks};
use ninefold_engine::report;
use ninefold_engine::report::text::{Side, aligned, percent_exact, printable};
use ninefold_engine::slo::verdict::{Control, Verdict};
use serde::Serialize;

/// Prints a body as JSON.
pub fn json(body: &impl Serialize) -> io::Result<()> {
    // Standard output writes line by line, of which a body has many.
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, body)?;
    writeln!(out)?;
    out.flush()
}

/// Prints a text that is ready.
pub fn text(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// How many reasons of dead letters are told.
const REASONS_MAX: usize = 10;

/// Prints what a replay did, and why the dead letters of its files, also those of earlier runs,
/// are dead.
pub fn summary(summary: &ReplaySummary, reasons: &[(String, u64)]) -> io::Result<()> {
    let ReplaySummary { read, counted, dead, duplicate, already, .. } = summary;
    let mut out = io::stdout().lock();
    writeln!(out, "read {read} lines: {counted} counted, {duplicate} duplicate, {dead} dead")?;
    if *already > 0 {
        writeln!(out, "{already} lines were counted before and add nothing")?;
    }
    if summary.invalid_latency > 0 {
        writeln!(out, "{} counted without their unusable latency", summary.invalid_latency)?;
    }
    if summary.unterminated > 0 {
        let left = "unterminated last lines left until they are whole";
        writeln!(out, "{} {left}", summary.unterminated)?;
    }
    for (reason, lines) in reasons.iter().take(REASONS_MAX) {
        writeln!(out, "{lines:>6} dead: {}", printable(reason))?;
    }
    if let Some(more @ [_, ..]) = reasons.get(REASONS_MAX..) {
        let lines: u64 = more.iter().map(|(_, lines)| lines).sum();
        writeln!(out, "{lines:>6} dead for {} other reasons", more.len())?;
    }
    let ReplaySummary { valid, bad, excluded, customers, .. } = summary;
    writeln!(out, "in the table: {}", of(*customers, "customer"))?;
    writeln!(out, "  {valid} valid events, {bad} of them bad, {excluded} excluded")?;
    if let (Some(from), Some(to)) = (&summary.from, &summary.to) {
        writeln!(out, "  minutes {from} to {to}")?;
    }
    Ok(())
}

/// `1 customer`, `2 customers`.
fn of(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Prints whether the table is what its sources say.
pub fn verdict(verdict: &verify::Verdict) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let verify::Verdict { compared, different, version, .. } = verdict;
    write!(out, "table version {version}: {compared} customer minutes compared")?;
    match verdict.ranges_compared {
        0 => writeln!(out)?,
        ranges => writeln!(out, ", {ranges} ranges of offsets")?,
    }
    for path in &verdict.unknown {
        writeln!(out, "not counted: {}", printable(path))?;
    }
    for gone in &verdict.gone {
        writeln!(out, "not compared: {}", printable(gone))?;
    }
    for one in &verdict.differences {
        let (customer, service) = (printable(&one.customer), printable(&one.service));
        writeln!(out, "{customer} {service} {}:", one.minute)?;
        writeln!(out, "  source: {}", measures(&one.source))?;
        writeln!(out, "  table:  {}", measures(&one.table))?;
    }
    for one in &verdict.ranges {
        let (partition, first, next) = (printable(&one.partition), one.first, one.next);
        writeln!(out, "{partition} offsets {first}..{next}:")?;
        writeln!(out, "  source: {}", lines_of(&one.source))?;
        writeln!(out, "  table:  {}", lines_of(&one.table))?;
    }
    match (verdict.equal, different + verdict.ranges_different) {
        (true, _) => writeln!(out, "equal"),
        (false, 0) => writeln!(out, "not complete"),
        (false, different) => writeln!(out, "{different} differ"),
    }
}

/// The measures of a difference by name.
fn measures(values: &[u64; 7]) -> String {
    let [valid, bad, excluded, timed, slow, sum_us, max_us] = values;
    format!(
        "{valid} valid, {bad} bad, {excluded} excluded, {timed} timed, {slow} slow, \
         {sum_us} µs in all, {max_us} µs at most"
    )
}

/// What became of the records of a range, by name.
fn lines_of(values: &[u64; 5]) -> String {
    let [read, counted, dead, duplicate, events] = values;
    format!("{read} read, {counted} counted, {dead} dead, {duplicate} duplicate, {events} events")
}

/// Prints one customer.
pub fn sla(sla: &Sla) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}  as of {}", printable(&sla.customer), sla.as_of)?;
    for service in &sla.services {
        for objective in &service.objectives {
            writeln!(out)?;
            objective_lines(&mut out, &service.service, objective)?;
        }
        let latency = &service.latency;
        if latency.count > 0 {
            let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
            writeln!(
                out,
                "  latency of the last {}: p50 {}  p90 {}  p99 {}  max {}  ({} timed)",
                latency.window,
                ms(latency.p50_ms),
                ms(latency.p90_ms),
                ms(latency.p99_ms),
                ms(latency.max_ms),
                latency.count
            )?;
        }
    }
    Ok(())
}

fn objective_lines(
    out: &mut impl Write,
    service: &str,
    status: &ObjectiveStatus,
) -> io::Result<()> {
    writeln!(
        out,
        "{}  {} {} over {}: {}",
        printable(service),
        printable(&status.objective),
        percent_exact(status.target),
        status.period,
        verdict_of(status.met)
    )?;
    writeln!(
        out,
        "  {} of {} valid are bad: {}; budget left {}",
        status.bad,
        status.valid,
        percent(status.availability),
        percent(status.budget.left)
    )?;
    if !status.alerts.is_empty() {
        let tier = |one: &TierStatus| format!("{} {}", one.tier, one.state);
        let tiers: Vec<String> = status.alerts.iter().map(tier).collect();
        writeln!(out, "  burning: {}", tiers.join(", "))?;
    }
    let columns = [
        ("window", Side::Left),
        ("valid", Side::Right),
        ("bad", Side::Right),
        ("availability", Side::Right),
        ("burn rate", Side::Right),
    ];
    let mut windows: Vec<(&&str, &Window)> = status.windows.iter().collect();
    windows.sort_by_key(|(name, _)| ninefold_engine::slo::window::find(name).map(|w| w.minutes));
    let row = |(name, window): (&&str, &Window)| {
        vec![
            (*name).to_owned(),
            window.valid.to_string(),
            window.bad.to_string(),
            percent(window.availability),
            rate(window.burn_rate),
        ]
    };
    let rows: Vec<Vec<String>> = windows.into_iter().map(row).collect();
    for line in aligned(&columns, &rows).lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// Prints who was hit, and by what.
pub fn impact(impact: &Impact) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Impact { from, to, valid, bad, customers_hit, .. } = impact;
    let customers = of(*customers_hit, "customer");
    writeln!(out, "{from} to {to}: {bad} of {valid} valid events bad, {customers} hit")?;
    for gap in &impact.gaps {
        writeln!(out, "{}", printable(&gap.to_string()))?;
    }
    if !impact.causes.is_empty() {
        writeln!(out, "\n{}", causes(&impact.causes).trim_end())?;
    } else if *bad > 0 {
        writeln!(out, "\nno release, cohort, region or route explains it")?;
    }
    if !impact.customers.is_empty() {
        writeln!(out, "\n{}", hit(&impact.customers).trim_end())?;
    }
    Ok(())
}

/// The causes, each with its whole name behind its numbers.
fn causes(causes: &[Cause]) -> String {
    let columns = [
        ("valid", Side::Right),
        ("bad", Side::Right),
        ("of excess", Side::Right),
        ("lift", Side::Right),
        ("p", Side::Right),
    ];
    let row = |cause: &Cause| {
        vec![
            cause.valid.to_string(),
            cause.bad.to_string(),
            percent(cause.share_of_excess),
            rate(cause.lift),
            format!("{:.1e}", cause.p_value),
        ]
    };
    let numbers = aligned(&columns, &causes.iter().map(row).collect::<Vec<_>>());
    let names = std::iter::once("cause".to_owned()).chain(causes.iter().map(cause_name));
    numbers.lines().zip(names).map(|(line, name)| format!("{line}  {name}\n")).collect()
}

/// Prints what has spent the budget.
pub fn risks(risks: &Risks) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Risks { from, to, valid, bad, budget, unexplained, .. } = risks;
    let consumed = share(budget.consumed);
    writeln!(out, "{from} to {to}: {bad} of {valid} valid events bad, {consumed} of the budget\n")?;
    let columns = ["customers", "minutes", "bad", "spent", "of bad", "of budget", "incidents"];
    let row = |one: &Risk| {
        vec![
            one.customers.to_string(),
            one.minutes.to_string(),
            one.bad.to_string(),
            format!("{:.0}", one.spent),
            share(one.share),
            share(one.budget_consumed),
            one.incidents.len().to_string(),
        ]
    };
    let none = || "-".to_owned();
    let (of_bad, of_budget) = (share(unexplained.share), share(unexplained.budget_consumed));
    let spent = format!("{:.0}", unexplained.spent);
    let rest = vec![none(), none(), none(), spent, of_bad, of_budget, none()];
    let rows: Vec<Vec<String>> = risks.causes.iter().map(row).chain([rest]).collect();
    let named = |one: &Risk| {
        let services = one.services.iter().map(|name| printable(name)).collect::<Vec<_>>();
        format!("{} in {}", printable(&name(&one.dimensions)), services.join(", "))
    };
    let names = std::iter::once("cause".to_owned()).chain(risks.causes.iter().map(named));
    let numbers = aligned(&columns.map(|name| (name, Side::Right)), &rows);
    for (line, name) in numbers.lines().zip(names.chain(["unexplained".to_owned()])) {
        writeln!(out, "{line}  {name}")?;
    }
    Ok(())
}

/// A share, rounded: `12.3%`.
fn share(ratio: Option<f64>) -> String {
    report::text::percent(ratio, 1)
}

fn hit(customers: &[ImpactCustomer]) -> String {
    let columns = [
        ("customer", Side::Left),
        ("valid", Side::Right),
        ("bad", Side::Right),
        ("of budget", Side::Right),
        ("first", Side::Left),
        ("last", Side::Left),
    ];
    let row = |customer: &ImpactCustomer| {
        vec![
            customer.customer.clone(),
            customer.valid.to_string(),
            customer.bad.to_string(),
            percent(customer.budget_consumed),
            customer.first.clone(),
            customer.last.clone(),
        ]
    };
    aligned(&columns, &customers.iter().map(row).collect::<Vec<_>>())
}

fn cause_name(cause: &Cause) -> String {
    let one =
        |(name, value): (&String, &String)| format!("{}={}", printable(name), printable(value));
    cause.dimensions.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Prints whether a release or another value made things worse.
pub fn release_verdict(answer: &body::Verdict) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (name, value) = (printable(&answer.dimension), printable(&answer.value));
    writeln!(out, "{name} {value}: {}", word(answer.verdict))?;
    writeln!(out, "{} to {}, history from {}", answer.from, answer.to, answer.history_from)?;
    test_lines(&mut out, "errors", "bad", &answer.errors)?;
    if let Some(latency) = &answer.latency {
        test_lines(&mut out, "latency", "slow", latency)?;
    }
    if let Some(hit) = answer.customers_hit {
        let budget = answer.budget_consumed.map(|share| format!("{:.3}%", share * 100.0));
        let budget = budget.unwrap_or_else(|| "nothing".to_owned());
        writeln!(out, "cost: {} hit, {budget} of their 30-day budget", of(hit, "customer"))?;
    }
    Ok(())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Bad => "BAD",
        Verdict::Insufficient => "insufficient evidence",
    }
}

fn test_lines(
    out: &mut impl Write,
    what: &str,
    failed: &str,
    test: &body::VerdictTest,
) -> io::Result<()> {
    let body::VerdictTest { valid, bad, rest_valid, rest_bad, .. } = test;
    let control = match test.control {
        Control::SameUnits => "the same customers on the rest",
        Control::OwnHistory => "its own history",
        Control::Assumed => "the rest alone, no history",
    };
    let (ratio, before) = (rate(test.ratio), rate(test.ratio_before));
    let interval = format!("{} to {}", rate(test.ratio_low), rate(test.ratio_high));
    writeln!(out, "{what}: {}", word(test.verdict))?;
    writeln!(out, "  {bad} of {valid} {failed}, the rest {rest_bad} of {rest_valid}")?;
    writeln!(out, "  ratio {ratio} (95%: {interval}), before {before}; against {control}")?;
    writeln!(out, "  excess {:.1} {failed}", test.excess)?;
    let good = test.e_kept.unwrap_or_default().max(test.e_good);
    writeln!(out, "  evidence for bad {:.3e}, for good {good:.3e}; 100 decides", test.e_bad)
}

/// Prints the worst customers.
pub fn top(top: &Top) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (shown, total) = (top.customers.len(), of(top.total, "row"));
    let what = match top.by.as_str() {
        "budget" => "the least budget left",
        "bad" => "the most bad events",
        "valid" => "the most valid events",
        _ => "the highest burn rate of the last hour",
    };
    writeln!(out, "{what}, as of {}: {shown} of {total}\n", top.as_of)?;
    let columns = [
        ("customer", Side::Left),
        ("service", Side::Left),
        ("objective", Side::Left),
        ("valid", Side::Right),
        ("bad", Side::Right),
        ("availability", Side::Right),
        ("budget left", Side::Right),
        ("burn 1h", Side::Right),
        ("burn 5m", Side::Right),
        ("firing", Side::Left),
    ];
    let rows = top.customers.iter().map(|row| {
        vec![
            row.customer.clone(),
            row.service.clone(),
            row.objective.clone(),
            row.valid.to_string(),
            row.bad.to_string(),
            percent(row.availability),
            percent(row.budget_left),
            rate(row.burn_rate_1h),
            rate(row.burn_rate_5m),
            row.firing.join(" "),
        ]
    });
    let table = aligned(&columns, &rows.collect::<Vec<_>>());
    out.write_all(table.as_bytes())
}

/// Prints alert history.
pub fn alerts(alerts: &Alerts) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if alerts.alerts.is_empty() {
        return writeln!(out, "no alerts");
    }
    let columns = [
        ("at", Side::Left),
        ("state", Side::Left),
        ("tier", Side::Left),
        ("customer", Side::Left),
        ("service", Side::Left),
        ("objective", Side::Left),
        ("long", Side::Right),
        ("short", Side::Right),
        ("factor", Side::Right),
    ];
    let rows = alerts.alerts.iter().map(|alert| {
        vec![
            alert.at.clone(),
            alert.state.clone(),
            alert.tier.clone(),
            alert.pool.as_ref().map_or_else(|| alert.customer.clone(), |pool| pool_name(pool)),
            alert.service.clone(),
            alert.objective.clone(),
            format!("{} {}", alert.long.window, rate(alert.long.burn_rate)),
            format!("{} {}", alert.short.window, rate(alert.short.burn_rate)),
            rate(Some(alert.factor)),
        ]
    });
    let table = aligned(&columns, &rows.collect::<Vec<_>>());
    out.write_all(table.as_bytes())
}

/// A pool in the place of a customer.
fn pool_name(pool: &str) -> String {
    if pool.is_empty() { "(in no pool)".to_owned() } else { format!("(pool {pool})") }
}

/// Prints who has fallen silent.
pub fn silent(silent: &Silent) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "as of {}", silent.as_of)?;
    for SilentService { service, missed, together, are_many } in &silent.services {
        let more = if *are_many { ", more than by chance" } else { "" };
        let service = printable(service);
        writeln!(out, "{service}: {together} of {missed} fell silent in the last 2 hours{more}")?;
    }
    if let Some(partial) = &silent.partial {
        writeln!(out, "{partial}")?;
    }
    if silent.customers.is_empty() {
        return writeln!(out, "nobody is silent of whom enough is to be expected");
    }
    let columns = [
        ("customer", Side::Left),
        ("service", Side::Left),
        ("silent since", Side::Left),
        ("minutes", Side::Right),
        ("events", Side::Right),
        ("expected", Side::Right),
    ];
    let rows = silent.customers.iter().map(|one| {
        vec![
            one.customer.clone(),
            one.service.clone(),
            one.since.clone().unwrap_or_else(|| "over a week ago".to_owned()),
            one.span_minutes.to_string(),
            one.events.to_string(),
            format!("{:.0}", one.expected.floor()),
        ]
    });
    let table = aligned(&columns, &rows.collect::<Vec<_>>());
    out.write_all(table.as_bytes())
}

/// Cut off, not rounded: 99.7999% never reads as 99.8%.
fn percent(ratio: Option<f64>) -> String {
    ratio.map_or("no data".to_owned(), |ratio| {
        format!("{:.3}%", (ratio * 100_000.0 + 1e-7).floor() / 1_000.0)
    })
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| format!("{rate:.2}"))
}

fn verdict_of(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "BROKEN",
        None => "no data",
    }
}
