//! The monthly statement as text: aligned for a terminal, CSV, Markdown. JSON is the body.
//!
//! On the terminal and in Markdown the worst customer comes first, since whoever reads it looks
//! for broken promises; CSV keeps the alphabetical order of the body. CSV and JSON carry full
//! precision, `null` being an empty field; percentages exist only in the texts for people.

use std::cmp::Reverse;

use rayon::prelude::*;

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
    let lines = chunks.map(|chunk| csv_lines(chunk.iter().map(|one| csv_record(report, one))));
    let lines: Vec<String> = lines.collect();
    std::iter::once(csv_lines([CSV_COLUMNS])).chain(lines).collect()
}

fn csv_lines<R: IntoIterator<Item: AsRef<[u8]>>>(records: impl IntoIterator<Item = R>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = "a record is written to memory";
    records.into_iter().for_each(|record| writer.write_record(record).expect(written));
    let bytes = writer.into_inner().expect(written);
    String::from_utf8(bytes).expect("every field is text")
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

fn csv_record(report: &Report, customer: &ReportCustomer) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    vec![
        report.month.clone(),
        csv_text(&report.tz),
        report.as_of.clone().unwrap_or_default(),
        report.revision.to_string(),
        csv_text(&customer.customer),
        customer.valid.to_string(),
        customer.bad.to_string(),
        customer.excluded.to_string(),
        number(customer.availability),
        customer.target.to_string(),
        customer.met.map_or_else(String::new, |met| met.to_string()),
        number(customer.budget_consumed),
        number(customer.uptime.request),
        number(customer.uptime.time_slice),
        number(customer.uptime.interval_mean),
        customer.down_minutes.to_string(),
        customer.idle_minutes.to_string(),
        number(customer.credit_percent),
        customer.episodes.len().to_string(),
    ]
}
