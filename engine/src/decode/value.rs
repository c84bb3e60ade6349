//! The rules of the native fields, whatever they are read from: JSON or Parquet.
//!
//! [`event`] makes an event of a [`Row`], whose fields may be absent and may be of a wrong
//! type. Each other function takes a value of a fitting type and gives what the event holds,
//! or the reason that makes the line a dead letter. `name` is the field's name in the source.

use std::ops::Range;

use super::{Options, Read};
use crate::model::{
    ATTRIBUTES_MAX, COUNT_MAX, CUSTOMER_BYTES_MAX, Event, LATENCY_US_MAX, Latency, Outcome,
    SERVICE_DEFAULT,
};
use crate::time::{TS_MS_END, TS_MS_MIN, parse_rfc3339};

/// Where each native field stands in arrays of names and values.
pub(super) mod slot {
    pub const TS: usize = 0;
    pub const CUSTOMER: usize = 1;
    pub const SERVICE: usize = 2;
    pub const ROUTE: usize = 3;
    pub const STATUS: usize = 4;
    pub const OUTCOME: usize = 5;
    pub const LATENCY_MS: usize = 6;
    pub const LATENCY_US: usize = 7;
    pub const RELEASE: usize = 8;
    pub const COHORT: usize = 9;
    pub const REGION: usize = 10;
    pub const ID: usize = 11;
    pub const COUNT: usize = 12;
    /// The first attribute; the others follow.
    pub const ATTRIBUTE: usize = 13;
}

/// How many native fields there are at most.
pub(super) const SLOTS: usize = slot::ATTRIBUTE + ATTRIBUTES_MAX;

/// The names of the native fields in the order of their slots; as many attributes as set.
pub(super) fn names(options: &Options) -> Vec<String> {
    let fields = &options.fields;
    let fixed = [
        &fields.ts,
        &fields.customer,
        &fields.service,
        &fields.route,
        &fields.status,
        &fields.outcome,
        &fields.latency_ms,
        &fields.latency_us,
        &fields.release,
        &fields.cohort,
        &fields.region,
        &fields.id,
        &fields.count,
    ];
    fixed.into_iter().chain(options.attributes.iter().take(ATTRIBUTES_MAX)).cloned().collect()
}

/// A text: a piece of the line, or of the buffer that its reader fills with texts that are
/// written otherwise than they read.
pub(super) enum Text<'a> {
    /// As it is written.
    Plain(&'a str),
    /// Where it stands in the buffer.
    Buffered(Range<usize>),
}

impl<'a> Text<'a> {
    /// The text itself, once the buffer is filled.
    pub(super) fn get(self, buffer: &'a str) -> &'a str {
        match self {
            Text::Plain(text) => text,
            Text::Buffered(range) => &buffer[range],
        }
    }
}

/// The native fields of one line or row, by their slots; `None` is an absent field.
pub(super) trait Row<'a> {
    /// The time in milliseconds, already held to the admitted years.
    fn ts(&mut self) -> Option<Read<i64>>;
    /// A text.
    fn text(&mut self, slot: usize) -> Option<Read<Text<'a>>>;
    /// An integer; the inner `None` is a value of another type or size.
    fn integer(&self, slot: usize) -> Option<Option<i64>>;
    /// A number.
    fn number(&self, slot: usize) -> Option<Read<f64>>;
    /// The buffer of the texts; called last.
    fn buffer(self) -> &'a str;
}

/// Makes an event of a row by the rules of the native form.
pub(super) fn event<'a>(names: &[String], mut row: impl Row<'a>) -> Read<Event<'a>> {
    let ts_ms = row.ts().unwrap_or_else(|| {
        Err(format!("{} is required: RFC 3339 or epoch milliseconds", names[slot::TS]))
    })?;
    let customer_text = row.text(slot::CUSTOMER).unwrap_or_else(|| {
        let name = &names[slot::CUSTOMER];
        Err(format!("{name} is required: a string of 1 to {CUSTOMER_BYTES_MAX} bytes"))
    })?;
    let outcome_text = row.text(slot::OUTCOME).transpose()?;
    let status_number = row.integer(slot::STATUS);
    if outcome_text.is_none() && status_number.is_none() {
        let (status, outcome) = (&names[slot::STATUS], &names[slot::OUTCOME]);
        return Err(format!("{status} or {outcome} is required"));
    }
    let status = status_number.map_or(Ok(0), |number| status(&names[slot::STATUS], number))?;
    let latency = latency_of(names, &row)?;
    let count =
        row.integer(slot::COUNT).map_or(Ok(1), |number| count(&names[slot::COUNT], number))?;
    let others = others(&mut row)?;

    let buffer = row.buffer();
    Ok(Event {
        ts_ms,
        customer: customer(&names[slot::CUSTOMER], customer_text.get(buffer))?,
        status,
        outcome: outcome_text
            .map(|text| outcome(&names[slot::OUTCOME], text.get(buffer)))
            .transpose()?,
        latency,
        count,
        ..with_others(others, buffer)
    })
}

/// An event with the service, the dimensions and the id of a row; the rest is as by default.
pub(super) fn shared<'a>(mut row: impl Row<'a>) -> Read<Event<'a>> {
    let others = others(&mut row)?;
    Ok(with_others(others, row.buffer()))
}

/// Service, route, release, cohort, region and id; the attributes.
type Others<'a> = ([Option<Text<'a>>; 6], [Option<Text<'a>>; ATTRIBUTES_MAX]);

fn others<'a>(row: &mut impl Row<'a>) -> Read<Others<'a>> {
    let slots = [slot::SERVICE, slot::ROUTE, slot::RELEASE, slot::COHORT, slot::REGION, slot::ID];
    let mut texts = [const { None }; 6];
    for (text, slot) in texts.iter_mut().zip(slots) {
        *text = row.text(slot).transpose()?;
    }
    let mut attributes = [const { None }; ATTRIBUTES_MAX];
    for (index, attribute) in attributes.iter_mut().enumerate() {
        *attribute = row.text(slot::ATTRIBUTE + index).transpose()?;
    }
    Ok((texts, attributes))
}

fn with_others<'a>((texts, attributes): Others<'a>, buffer: &'a str) -> Event<'a> {
    let get = |text: Option<Text<'a>>| text.map_or("", |text| text.get(buffer));
    let [service, route, release, cohort, region, id] = texts.map(get);
    let service = if service.is_empty() { SERVICE_DEFAULT } else { service };
    let attributes = attributes.map(get);
    Event { service, route, release, cohort, region, id, attributes, ..Event::default() }
}

/// The latency of a row, in one of its two units.
fn latency_of<'a>(names: &[String], row: &impl Row<'a>) -> Read<Latency> {
    match (row.number(slot::LATENCY_MS), row.number(slot::LATENCY_US)) {
        (None, None) => Ok(Latency::Absent),
        (Some(ms), None) => Ok(latency(ms? * 1_000.0)),
        (None, Some(us)) => Ok(latency(us?)),
        (Some(_), Some(_)) => {
            let (in_ms, in_us) = (&names[slot::LATENCY_MS], &names[slot::LATENCY_US]);
            Err(format!("{in_ms} and {in_us} are both given"))
        }
    }
}

/// Milliseconds since the epoch in the years 2000 to 2100.
#[inline]
pub(super) fn ts_of_ms(name: &str, ms: i64) -> Read<i64> {
    if (TS_MS_MIN..TS_MS_END).contains(&ms) {
        return Ok(ms);
    }
    let in_ms = |scaled: Option<i64>| scaled.is_some_and(|ms| (TS_MS_MIN..TS_MS_END).contains(&ms));
    let unit = if in_ms(ms.checked_mul(1_000)) {
        "seconds"
    } else if in_ms(Some(ms / 1_000)) {
        "microseconds"
    } else if in_ms(Some(ms / 1_000_000)) {
        "nanoseconds"
    } else {
        return Err(format!("{name} {ms} is outside the years 2000 to 2100"));
    };
    Err(format!("{name} {ms} seems to be in {unit}; write milliseconds"))
}

/// A time as RFC 3339 text in the years 2000 to 2100.
pub(super) fn ts_of_text(name: &str, text: &str) -> Read<i64> {
    let ms = parse_rfc3339(text.as_bytes()).ok_or_else(|| ts_form(name))?;
    if (TS_MS_MIN..TS_MS_END).contains(&ms) {
        Ok(ms)
    } else {
        Err(format!("{name} is outside the years 2000 to 2100"))
    }
}

/// What a time may be written as.
pub(super) fn ts_form(name: &str) -> String {
    format!("{name} takes RFC 3339 with an offset, or an integer of epoch milliseconds")
}

/// A customer, taken as it is.
#[inline]
pub(super) fn customer<'a>(name: &str, text: &'a str) -> Read<&'a str> {
    match text.len() {
        0 => Err(format!("{name} is empty: it takes 1 to {CUSTOMER_BYTES_MAX} bytes")),
        1..=CUSTOMER_BYTES_MAX => Ok(text),
        size => Err(format!("{name} has {size} bytes: it takes 1 to {CUSTOMER_BYTES_MAX}")),
    }
}

/// An HTTP status, or 0 where nothing was sent.
pub(super) fn status(name: &str, number: Option<i64>) -> Read<u16> {
    match number {
        Some(number @ (0 | 100..=599)) => Ok(number as u16),
        _ => Err(format!("{name} takes an integer: 0 or 100 to 599")),
    }
}

/// One of the three outcomes.
pub(super) fn outcome(name: &str, text: &str) -> Read<Outcome> {
    match text {
        "good" => Ok(Outcome::Good),
        "bad" => Ok(Outcome::Bad),
        "excluded" => Ok(Outcome::Excluded),
        _ => Err(format!("{name} takes good, bad or excluded")),
    }
}

/// How many equal events there were.
#[inline]
pub(super) fn count(name: &str, number: Option<i64>) -> Read<u32> {
    let number = number.and_then(|number| u32::try_from(number).ok());
    number
        .filter(|count| (1..=COUNT_MAX).contains(count))
        .ok_or_else(|| format!("{name} takes an integer: 1 to {COUNT_MAX}"))
}

/// A latency in microseconds, rounded half away from zero.
///
/// The longest is judged after rounding. Negative, not finite and overlong ones are invalid.
#[inline]
pub(super) fn latency(us: f64) -> Latency {
    let rounded = us.round();
    if us >= 0.0 && rounded <= f64::from(LATENCY_US_MAX) {
        Latency::Us(rounded as u32)
    } else {
        Latency::Invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_another_unit_is_named() {
        let check = |ms, expected: Result<i64, &str>| {
            assert_eq!(ts_of_ms("ts", ms), expected.map_err(str::to_owned));
        };
        check(946_684_800_000, Ok(946_684_800_000));
        check(4_133_980_799_999, Ok(4_133_980_799_999));
        check(946_684_799_999, Err("ts 946684799999 is outside the years 2000 to 2100"));
        check(4_133_980_800_000, Err("ts 4133980800000 is outside the years 2000 to 2100"));
        check(1_764_547_200, Err("ts 1764547200 seems to be in seconds; write milliseconds"));
        let micros = "ts 1764547200000000 seems to be in microseconds; write milliseconds";
        check(1_764_547_200_000_000, Err(micros));
        let nanos = "ts 1764547200000000000 seems to be in nanoseconds; write milliseconds";
        check(1_764_547_200_000_000_000, Err(nanos));
        check(i64::MIN, Err("ts -9223372036854775808 is outside the years 2000 to 2100"));
    }

    #[test]
    fn a_latency_counts_from_zero_to_an_hour() {
        let check = |us, expected| assert_eq!(latency(us), expected, "{us}");
        check(0.0, Latency::Us(0));
        check(0.5, Latency::Us(1));
        check(3_600_000_000.0, Latency::Us(3_600_000_000));
        check(3_600_000_000.4, Latency::Us(3_600_000_000));
        check(3_600_000_000.5, Latency::Invalid);
        check(-0.001, Latency::Invalid);
        check(f64::NAN, Latency::Invalid);
        check(f64::INFINITY, Latency::Invalid);
    }
}
