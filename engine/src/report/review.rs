//! A review of an incident as a Markdown document, for whoever writes the post-mortem.
//!
//! Names come from outside: each is a cell of a table or escaped as one, so that none is markup.

use crate::query::body::Cause;
use crate::query::review::{
    BudgetPart, Outcome, Review, ReviewCustomer, ReviewEvent, ReviewObjective, name,
};
use crate::report::text::{Side, markdown_table, markdown_text, percent, percent_exact};

/// So many customers are listed; JSON has all of them.
pub const CUSTOMERS_MAX: usize = 50;

/// The review as Markdown.
pub fn markdown(review: &Review) -> String {
    let title =
        format!("# Incident {} of {}\n", markdown_text(&review.id), markdown_text(&review.service));
    let mut parts = vec![title, heading(review), notes(review), times(review)];
    parts.push(format!("\n## Timeline\n\n{}", timeline(&review.timeline)));
    parts.push(format!("\n## Impact\n\n{}", impact(review)));
    if !review.causes.is_empty() {
        parts.push(format!("\n## Causes\n\n{}", causes(&review.causes)));
    }
    parts.push(format!("\n## Budget by cause\n\n{}", budget(&review.budget_by_cause)));
    parts.concat()
}

fn heading(review: &Review) -> String {
    let Review { state, severity, notifies, from, to, merged_into, as_of, .. } = review;
    let merged = merged_into
        .as_ref()
        .map_or(String::new(), |id| format!(" It is part of {}.", markdown_text(id)));
    let as_of = as_of.as_deref().unwrap_or("nothing");
    format!(
        "\n{state}, {severity}, notified as {notifies}; {from} to {to}, counted through \
         {as_of}.{merged}\n"
    )
}

/// A line for each gap and exclusion that lies in it.
fn notes(review: &Review) -> String {
    let gaps = review.gaps.iter().map(ToString::to_string);
    let lines = gaps.chain(review.exclusions.iter().map(ToString::to_string));
    lines.map(|line| format!("\n{}\n", markdown_text(&line))).collect()
}

fn times(review: &Review) -> String {
    let row = |what: &str, seconds: Option<f64>, at: &Option<String>| {
        let at = at.clone().unwrap_or("-".to_owned());
        vec![what.to_owned(), seconds.map_or("-".to_owned(), duration), at]
    };
    let rows = [
        row("detect", review.time_to_detect_s, &review.detected_at),
        row("page", review.time_to_page_s, &review.paged_at),
        row("verdict", review.time_to_verdict_s, &None),
        row("resolve", review.time_to_resolve_s, &review.closed_at),
    ];
    let columns = [("time to", Side::Left), ("", Side::Right), ("at", Side::Left)];
    format!("\n{}", markdown_table(&columns, &rows))
}

/// `1h 02m 03s`, `4m 07s`, `12s`: whole seconds, cut off.
fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (whole / 3_600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds:02}s"),
        _ => format!("{hours}h {minutes:02}m {seconds:02}s"),
    }
}

fn timeline(events: &[ReviewEvent]) -> String {
    let columns = [("at", Side::Left), ("event", Side::Left), ("detail", Side::Left)];
    let row = |one: &ReviewEvent| vec![one.at.clone(), one.event.clone(), one.detail.clone()];
    markdown_table(&columns, &events.iter().map(row).collect::<Vec<_>>())
}

fn impact(review: &Review) -> String {
    let Review { valid, bad, bad_minutes, others_hit, others_bad, customers, .. } = review;
    let mut text = format!(
        "{} customers: {bad} of {valid} of their requests bad, in {bad_minutes} minutes of a \
         customer; {} of their budget lost, {} promises broken, {} at risk.\n",
        customers.len(),
        percent(review.budget_lost, 1),
        review.objectives_broken,
        review.objectives_at_risk,
    );
    if *others_hit > 0 {
        let others = format!("{others_hit} others had {others_bad} bad requests and never fired.");
        text.push_str(&format!("{others}\n"));
    }
    let columns = [
        ("customer", Side::Left),
        ("tier", Side::Left),
        ("valid", Side::Right),
        ("bad", Side::Right),
        ("bad minutes", Side::Right),
        ("budget lost", Side::Right),
        ("promises", Side::Left),
    ];
    let rows: Vec<Vec<String>> = customers.iter().take(CUSTOMERS_MAX).map(customer).collect();
    text.push_str(&format!("\n{}", markdown_table(&columns, &rows)));
    if let Some(more) = customers.len().checked_sub(CUSTOMERS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("\nand {more} more.\n"));
    }
    text
}

fn customer(one: &ReviewCustomer) -> Vec<String> {
    let promises = one.objectives.iter().map(promise).collect::<Vec<_>>();
    vec![
        one.customer.clone(),
        one.tier.clone(),
        one.valid.to_string(),
        one.bad.to_string(),
        one.bad_minutes.to_string(),
        percent(one.budget_lost, 1),
        promises.join(", "),
    ]
}

fn promise(one: &ReviewObjective) -> String {
    let outcome = match one.outcome {
        Outcome::Kept => "kept",
        Outcome::AtRisk => "at risk",
        Outcome::Broken => "BROKEN",
        Outcome::BrokenBefore => "broken before",
    };
    format!("{} {} over {}: {outcome}", one.objective, percent_exact(one.target), one.period)
}

fn causes(causes: &[Cause]) -> String {
    let columns = [
        ("cause", Side::Left),
        ("valid", Side::Right),
        ("bad", Side::Right),
        ("of excess", Side::Right),
        ("lift", Side::Right),
        ("p", Side::Right),
    ];
    let row = |cause: &Cause| {
        vec![
            name(&cause.dimensions),
            cause.valid.to_string(),
            cause.bad.to_string(),
            percent(cause.share_of_excess, 1),
            cause.lift.map_or("-".to_owned(), |lift| format!("{lift:.1}")),
            format!("{:.1e}", cause.p_value),
        ]
    };
    markdown_table(&columns, &causes.iter().map(row).collect::<Vec<_>>())
}

fn budget(parts: &[BudgetPart]) -> String {
    let columns = [
        ("cause", Side::Left),
        ("bad", Side::Right),
        ("share", Side::Right),
        ("budget lost", Side::Right),
    ];
    let row = |part: &BudgetPart| {
        let budget_lost = percent(part.budget_lost, 2);
        vec![name(&part.dimensions), part.bad.to_string(), percent(part.share, 1), budget_lost]
    };
    markdown_table(&columns, &parts.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let check = |seconds, expect: &str| assert_eq!(duration(seconds), expect);
        check(0.4, "0s");
        check(59.9, "59s");
        check(247.0, "4m 07s");
        check(3_723.0, "1h 02m 03s");
        check(90_000.0, "25h 00m 00s");
    }
}
