//! The sums of [`super`] from the rows of the table, one UTC day after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;

use super::{Risk, RiskBudget, Risks, Span, finish, spans, whole_days};
use crate::model::Counts;
use crate::query::Promise;
use crate::query::attribution::Attribution;
use crate::query::body::Cause;
use crate::query::impact::{availability_target, cause};
use crate::query::incident::Incident;
use crate::query::verdict::DIMENSION_COLUMNS;
use crate::slo::budget::budget_events;
use crate::slo::decimal::Decimal;
use crate::slo::excess::{self, P_MAX, Row};
use crate::state::State;
use crate::table::{Filter, Table, TableError};
use crate::time::{DAY_MINUTES, Day, Minute};

/// Minutes of an hour, the strata outside incidents.
const HOUR_MINUTES: u32 = 60;

/// What has spent the budget of the UTC days that hold `minutes`. `names` are the names of the
/// dimensions; `as_of` is the newest counted minute, which ends open incidents.
///
/// # Errors
/// The table cannot be read.
pub fn risks(
    table: &Table,
    promise: &Promise<'_>,
    names: &[&str],
    incidents: &[Incident],
    minutes: &RangeInclusive<Minute>,
    as_of: Option<Minute>,
) -> Result<Risks, TableError> {
    let whole = whole_days(minutes);
    let days = whole.start().day().0..=whole.end().day().0;
    let spans = spans(incidents, as_of);
    let mut ledger = Ledger::default();
    let mut before = Scopes::read(table, Day(days.start().saturating_sub(1)), &[])?.totals;
    let count = days.end() - days.start() + 1;
    for day in days.map(Day) {
        let scopes = Scopes::read(table, day, &spans)?;
        let found = scopes.causes(names, &before, count);
        ledger.take(table, day, names, &scopes, &found)?;
        before = scopes.totals;
    }
    let (valid, budget_events) = allowed(table, promise, &whole)?;
    Ok(finish(Risks {
        as_of: as_of.map(|minute| minute.to_string()),
        from: whole.start().to_string(),
        to: whole.end().to_string(),
        valid,
        bad: ledger.bad,
        budget: RiskBudget { events: budget_events, consumed: None },
        causes: ledger.causes.into_values().map(Entry::risk).collect(),
        ..Risks::default()
    }))
}

/// Valid events of everybody, and the bad ones that their promises allow.
fn allowed(
    table: &Table,
    promise: &Promise<'_>,
    minutes: &RangeInclusive<Minute>,
) -> Result<(u64, f64), TableError> {
    let columns = vec!["minute", "customer", "service", "valid"];
    let filter = Filter { columns: Some(columns), ..Filter::of_minutes(minutes.clone()) };
    let mut by_target: Vec<(Decimal, u64)> = Vec::new();
    // Files are sorted by customer: whose target it is seldom changes.
    let mut last = (String::new(), 0);
    table.for_each_series_day(&filter, |row| {
        if by_target.is_empty() || row.customer != last.0 {
            let target = availability_target(promise, row.customer);
            let known = by_target.iter().position(|(known, _)| *known == target);
            let at = known.unwrap_or_else(|| {
                by_target.push((target, 0));
                by_target.len() - 1
            });
            last = (row.customer.to_owned(), at);
        }
        by_target[last.1].1 += row.measures.valid;
    })?;
    let valid = by_target.iter().map(|(_, valid)| valid).sum();
    let events = by_target.iter().map(|(target, valid)| budget_events(*valid, *target)).sum();
    Ok((valid, events))
}

/// The scopes of one day, with their rows by dimension.
struct Scopes<'a> {
    /// Rows outside incidents, by the first minute of their hour.
    hours: State,
    /// Rows of incidents, by minute.
    minutes: State,
    /// Spans that touch the day.
    spans: Vec<&'a Span>,
    /// The counts of each service.
    totals: BTreeMap<String, Counts>,
}

/// Causes of a scope: of a service alone, or of a span by its place.
type Found = BTreeMap<(String, Option<usize>), Vec<Cause>>;

impl<'a> Scopes<'a> {
    fn read(table: &Table, day: Day, spans: &'a [Span]) -> Result<Scopes<'a>, TableError> {
        let first = Minute(day.0 * DAY_MINUTES);
        let whole = first..=Minute(first.0 + DAY_MINUTES - 1);
        let touches = |span: &&Span| {
            span.minutes.start() <= whole.end() && span.minutes.end() >= whole.start()
        };
        let empty = || State::new(1, 0, false, 0);
        let mut scopes = Scopes {
            hours: empty(),
            minutes: empty(),
            spans: spans.iter().filter(touches).collect(),
            totals: BTreeMap::new(),
        };
        let columns = Some([&DIMENSION_COLUMNS[..], &["valid", "bad"]].concat());
        let filter = Filter { columns, ..Filter::of_minutes(whole.clone()) };
        table.for_each_dimension(&filter, |row| {
            let counts = Counts { valid: row.measures.valid, bad: row.measures.bad, excluded: 0 };
            if !scopes.totals.contains_key(row.service) {
                scopes.totals.insert(row.service.to_owned(), Counts::default());
            }
            scopes.totals.get_mut(row.service).expect("it was put in").add(counts);
            let is_of_incident = scopes.span(row.service, row.minute).is_some();
            let (state, minute) = match is_of_incident {
                true => (&mut scopes.minutes, row.minute),
                false => {
                    let hour = Minute(row.minute.0 - row.minute.0 % HOUR_MINUTES);
                    (&mut scopes.hours, hour)
                }
            };
            state.fold_dimension(row.service, &row.dimensions(), minute, counts);
        })?;
        Ok(scopes)
    }

    /// The place of the span that a minute of a service is in.
    fn span(&self, service: &str, minute: Minute) -> Option<usize> {
        let holds = |span: &&Span| span.service == service && span.minutes.contains(&minute);
        self.spans.iter().position(holds)
    }

    /// The causes of each scope that has some; `before` are the counts of the day before, and
    /// `days` are to be judged in all.
    fn causes(&self, names: &[&str], before: &BTreeMap<String, Counts>, days: u32) -> Found {
        let before: BTreeMap<&str, Counts> =
            before.iter().map(|(service, counts)| (service.as_str(), *counts)).collect();
        let scopes = self.totals.len() + self.spans.len();
        let judged = |rows: &[Row<'_>]| -> Vec<Cause> {
            let found = excess::causes(names, rows, &before);
            let tries = scopes as f64 * f64::from(days);
            let passes = |one: &excess::Cause| one.p_value * tries <= P_MAX;
            found.into_iter().filter(passes).map(cause).collect()
        };
        let always = Minute(0)..=Minute(u32::MAX);
        let mut all = Found::new();
        for service in self.totals.keys() {
            let rows = self.hours.recent_rows_of(service, &always, names.len());
            all.insert((service.clone(), None), judged(&rows));
        }
        for (place, span) in self.spans.iter().enumerate() {
            let rows = self.minutes.recent_rows_of(&span.service, &span.minutes, names.len());
            all.insert((span.service.clone(), Some(place)), judged(&rows));
        }
        all.retain(|_, causes| !causes.is_empty());
        all
    }
}

/// One cause, with whom and when it hit.
#[derive(Default)]
struct Entry {
    risk: Risk,
    customers: HashSet<u32>,
    minutes: BTreeSet<Minute>,
}

impl Entry {
    fn risk(self) -> Risk {
        let at = |minute: Option<&Minute>| minute.map_or(String::new(), ToString::to_string);
        Risk {
            customers: self.customers.len() as u64,
            minutes: self.minutes.len() as u64,
            first: at(self.minutes.first()),
            last: at(self.minutes.last()),
            ..self.risk
        }
    }
}

/// What the causes of one scope took of a day.
struct Taken {
    attribution: Attribution,
    /// Bad events by cause.
    bad: Vec<u64>,
}

/// What was spent so far.
#[derive(Default)]
struct Ledger {
    bad: u64,
    customers: HashMap<String, u32>,
    causes: BTreeMap<BTreeMap<String, String>, Entry>,
}

impl Ledger {
    /// Takes the bad events of a day.
    fn take(
        &mut self,
        table: &Table,
        day: Day,
        names: &[&str],
        scopes: &Scopes<'_>,
        found: &Found,
    ) -> Result<(), TableError> {
        let first = Minute(day.0 * DAY_MINUTES);
        let whole = first..=Minute(first.0 + DAY_MINUTES - 1);
        let mut taken: HashMap<&str, HashMap<Option<usize>, Taken>> = HashMap::new();
        for ((service, span), causes) in found {
            let of_scope =
                Taken { attribution: Attribution::of(names, causes), bad: vec![0; causes.len()] };
            taken.entry(service).or_default().insert(*span, of_scope);
        }
        table.for_each_failure(&Filter::of_minutes(whole), |row| {
            self.bad += row.bad;
            let Some(scopes_of) = taken.get_mut(row.service) else { return };
            let span = scopes.span(row.service, row.minute);
            let Some(of_scope) = scopes_of.get_mut(&span) else { return };
            let Some(place) = of_scope.attribution.cause_of(&row.dimensions()) else { return };
            of_scope.bad[place] += row.bad;
            let customer = self.number(row.customer);
            let cause = &found[&(row.service.to_owned(), span)][place];
            if !self.causes.contains_key(&cause.dimensions) {
                let dimensions = cause.dimensions.clone();
                let risk = Risk { dimensions: dimensions.clone(), ..Risk::default() };
                self.causes.insert(dimensions, Entry { risk, ..Entry::default() });
            }
            let entry = self.causes.get_mut(&cause.dimensions).expect("it was put in");
            entry.risk.bad += row.bad;
            entry.customers.insert(customer);
            entry.minutes.insert(row.minute);
        })?;
        for ((service, span), causes) in found {
            let of_scope = &taken[service.as_str()][span];
            for (cause, bad) in causes.iter().zip(&of_scope.bad) {
                // A cause without a row of `failure` (all corrected, say) has spent nothing.
                let Some(entry) = self.causes.get_mut(&cause.dimensions) else { continue };
                entry.risk.spent += cause.excess.min(*bad as f64);
                entry.risk.services.insert(service.clone());
                let incidents = span.iter().flat_map(|place| &scopes.spans[*place].incidents);
                entry.risk.incidents.extend(incidents.cloned());
            }
        }
        Ok(())
    }

    /// The number of a customer, given at first sight.
    fn number(&mut self, customer: &str) -> u32 {
        if let Some(known) = self.customers.get(customer) {
            return *known;
        }
        let next = self.customers.len() as u32;
        self.customers.insert(customer.to_owned(), next);
        next
    }
}
