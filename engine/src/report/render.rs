//! The monthly statement as text: aligned for a terminal, CSV, Markdown. JSON is the body.
//!
//! On the terminal and in Markdown the worst customer comes first, since whoever reads it looks
//! for broken promises; CSV keeps the alphabetical order of the body. CSV and JSON carry full
//! precision, `null` being an empty field; percentages exist only in the texts for people.
//!
//! CSV and JSON can be had in pieces, so that a report of a million customers is never held.

use std::cmp::Reverse;
use std::fmt::{Display, Write as _};

use rayon::prelude::*;
use serde::Serialize;

use crate::query::body::{Report, ReportCustomer};
use crate::report::text::{
    Side, aligned, csv_text, markdown_table, markdown_text, percent, percent_exact, percent_good,
    printable,
};

/// So many customers are written as CSV in one go, each chunk on a core of its own.
const CSV_CHUNK: usize = 4_096;

/// The columns of the terminal and Markdown tables.
const COLUMNS: [(&str, Side); 14] = [
    ("customer", Side::Left),
    ("met", Side::Left),
    ("valid", Side::Right),
    ("bad", Side::Right),
    ("excluded", Side::Right),
    ("availability", Side::Right),
    ("target", Side::Right),
    ("budget used", Side::Right),
    ("time slice", Side::Right),
    ("interval mean", Side::Right),
    ("down min", Side::Right),
    ("idle min", Side::Right),
    ("credit", Side::Right),
    ("episodes", Side::Right),
];

/// The statement for a terminal, the worst customer first.
pub fn table(report: &Report) -> String {
    let rows: Vec<Vec<String>> = worst_first(report).into_iter().map(cells).collect();
    format!("{}\n{}\n{}", heading(report), gap_lines(report, printable), aligned(&COLUMNS, &rows))
}

/// The statement as CSV with a heading, one record per customer in alphabetical order.
///
/// Columns: `month`, `tz`, `as_of`, `revision`, then the keys of a customer in the body, with
/// `uptime` as three columns and the number of `episodes`.
pub fn csv(report: &Report) -> String {
    let chunks = report.customers.par_chunks(CSV_CHUNK);
    let lines: Vec<String> = chunks.map(|chunk| csv_records(report, chunk)).collect();
    std::iter::once(csv_heading()).chain(lines).collect()
}

/// The heading of [`csv()`].
pub fn csv_heading() -> String {
    format!("{}\n", CSV_COLUMNS.join(","))
}

/// The records of [`csv()`] for some customers of a report; its own do not matter.
pub fn csv_records(report: &Report, customers: &[ReportCustomer]) -> String {
    let mut start = String::new();
    for field in [&report.month, &csv_text(&report.tz), report.as_of.as_deref().unwrap_or("")] {
        push_field(&mut start, field);
        start.push(',');
    }
    write!(start, "{},", report.revision).expect(WRITTEN);
    let mut lines = String::with_capacity(customers.len() * (start.len() + CSV_FIGURES_BYTES));
    for customer in customers {
        lines.push_str(&start);
        push_record(&mut lines, customer).expect(WRITTEN);
    }
    lines
}

/// The report as JSON for people, indented, up to its customers; its own do not matter.
/// [`json_customers`] follow, and [`json_end`].
///
/// # Errors
/// None that is known: text is written to memory.
pub fn json_start(report: &Report) -> serde_json::Result<String> {
    let nobody = Report { customers: Vec::new(), ..report.clone() };
    let mut text = serde_json::to_string_pretty(&nobody)?;
    text.truncate(text.len() - NOBODY.len());
    Ok(text)
}

/// What a report of nobody ends with.
const NOBODY: &str = "[]\n}";

/// Some customers of the report, one or more, without the sign that stands before them: `[`
/// before the first ones, `,` before others.
///
/// # Errors
/// As [`json_start`].
pub fn json_customers(customers: &[ReportCustomer]) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Body<'a> {
        customers: &'a [ReportCustomer],
    }
    let mut text = serde_json::to_string_pretty(&Body { customers })?;
    text.truncate(text.len() - json_end(true).len());
    Ok(text.split_off("{\n  \"customers\": [".len()))
}

/// The end of it; `are_any` where a customer stands before it.
pub fn json_end(are_any: bool) -> &'static str {
    if are_any { "\n  ]\n}" } else { NOBODY }
}

/// What numbers and a name take in a record, about.
const CSV_FIGURES_BYTES: usize = 128;

const WRITTEN: &str = "text is written to memory";

/// The columns of a customer.
fn push_record(line: &mut String, customer: &ReportCustomer) -> std::fmt::Result {
    push_field(line, &csv_text(&customer.customer));
    write!(line, ",{},{},{}", customer.valid, customer.bad, customer.excluded)?;
    push_optional(line, customer.availability)?;
    write!(line, ",{}", customer.target)?;
    push_optional(line, customer.met)?;
    push_optional(line, customer.budget_consumed)?;
    push_optional(line, customer.uptime.request)?;
    push_optional(line, customer.uptime.time_slice)?;
    push_optional(line, customer.uptime.interval_mean)?;
    write!(line, ",{},{}", customer.down_minutes, customer.idle_minutes)?;
    push_optional(line, customer.credit_percent)?;
    writeln!(line, ",{}", customer.episodes.len())
}

/// A comma, and the value where there is one.
fn push_optional(line: &mut String, value: Option<impl Display>) -> std::fmt::Result {
    match value {
        Some(value) => write!(line, ",{value}"),
        None => write!(line, ","),
    }
}

/// A field of text, in quotes where it needs them.
fn push_field(line: &mut String, text: &str) {
    if !text.contains([',', '"', '\n', '\r']) {
        return line.push_str(text);
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([text]).expect(WRITTEN);
    let bytes = writer.into_inner().expect(WRITTEN);
    let record = String::from_utf8(bytes).expect("every field is text");
    line.push_str(record.trim_end_matches('\n'));
}

/// The statement as a Markdown document, the worst customer first, with the episodes of those
/// to whom the promise was broken.
pub fn markdown(report: &Report) -> String {
    let customers = worst_first(report);
    let rows: Vec<Vec<String>> = customers.iter().map(|customer| cells(customer)).collect();
    let mut text = format!("# SLA statement {}\n\n{}\n", report.month, heading(report));
    text.push_str(&gap_lines(report, |line| format!("\n{}", markdown_text(line))));
    text.push('\n');
    text.push_str(&markdown_table(&COLUMNS, &rows));
    text.push_str(&markdown_episodes(&customers));
    text
}

fn markdown_episodes(customers: &[&ReportCustomer]) -> String {
    let broken = customers.iter().filter(|customer| customer.met == Some(false));
    let rows = broken.flat_map(|customer| {
        customer.episodes.iter().map(|episode| {
            let (from, to) = (episode.from.clone(), episode.to.clone());
            vec![customer.customer.clone(), from, to, episode.bad.to_string()]
        })
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns =
        [("customer", Side::Left), ("from", Side::Left), ("to", Side::Left), ("bad", Side::Right)];
    format!("\n## Episodes of broken promises\n\n{}", markdown_table(&columns, &rows))
}

/// What it is, until when it counts, and how many promises were kept.
fn heading(report: &Report) -> String {
    let count = |met| report.customers.iter().filter(|customer| customer.met == met).count();
    let counted = match &report.as_of {
        Some(as_of) => format!("counted through the minute {as_of}"),
        None => "nothing counted yet".to_owned(),
    };
    format!(
        "{} in {}, {counted}, table version {}. \
         {} customers: {} kept, {} broken, {} without traffic to judge.",
        report.month,
        report.tz,
        report.revision,
        report.customers.len(),
        count(Some(true)),
        count(Some(false)),
        count(None),
    )
}

/// A line for each data gap that may lie in the month, since its minutes are not 100% uptime, and
/// for each exclusion.
fn gap_lines(report: &Report, escaped: impl Fn(&str) -> String) -> String {
    let gaps = report.gaps.iter().map(ToString::to_string);
    let lines = gaps.chain(report.exclusions.iter().map(ToString::to_string));
    lines.map(|line| escaped(&line) + "\n").collect()
}

/// Broken promises before kept ones, the most consumed budget first, then by name.
fn worst_first(report: &Report) -> Vec<&ReportCustomer> {
    let mut customers: Vec<&ReportCustomer> = report.customers.iter().collect();
    // Consumed is never negative, so the order of its bits is the order of its values.
    customers.sort_by_key(|customer| {
        let consumed = customer.budget_consumed.map(f64::to_bits);
        Reverse((customer.met == Some(false), consumed))
    });
    customers
}

fn cells(customer: &ReportCustomer) -> Vec<String> {
    let met = match customer.met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    };
    let credit = customer.credit_percent;
    vec![
        customer.customer.clone(),
        met.to_owned(),
        customer.valid.to_string(),
        customer.bad.to_string(),
        customer.excluded.to_string(),
        percent_good(customer.valid, customer.bad),
        percent_exact(customer.target),
        percent(customer.budget_consumed, 1),
        percent(customer.uptime.time_slice, 4),
        percent(customer.uptime.interval_mean, 4),
        customer.down_minutes.to_string(),
        customer.idle_minutes.to_string(),
        credit.map_or_else(|| "-".to_owned(), |credit| format!("{credit}%")),
        customer.episodes.len().to_string(),
    ]
}

const CSV_COLUMNS: [&str; 19] = [
    "month",
    "tz",
    "as_of",
    "revision",
    "customer",
    "valid",
    "bad",
    "excluded",
    "availability",
    "target",
    "met",
    "budget_consumed",
    "uptime_request",
    "uptime_time_slice",
    "uptime_interval_mean",
    "down_minutes",
    "idle_minutes",
    "credit_percent",
    "episodes",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_alone_is_what_it_is_in_a_record() {
        for text in ["", "plain", "a,b", "a\"b", "\"", "a\nb", "\r", " ", "'=1+1", "é;\t|"] {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record([text, "x"]).unwrap();
            let mut field = String::new();
            push_field(&mut field, text);
            assert_eq!(format!("{field},x\n").as_bytes(), writer.into_inner().unwrap(), "{text:?}");
        }
    }
}
