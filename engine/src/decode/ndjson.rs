//! The native form: one JSON object a line.
//!
//! Two readers give the same answer. [`fast`] takes the usual line, a flat object of plain
//! strings and plain integers, in one pass; on any doubt it gives up, and the strict reader
//! here decides, which alone refuses. A property test holds the two against each other.

mod fast;

use super::json::{self, Found, Text};
use super::value::{self, slot};
use super::{Options, Read, without_cri};
use crate::model::{ATTRIBUTES_MAX, CUSTOMER_BYTES_MAX, Event, Latency, SERVICE_DEFAULT};

/// The reader of native lines.
pub(super) struct Ndjson {
    names: Vec<String>,
    fast: fast::Fast,
}

impl Ndjson {
    pub(super) fn new(options: &Options) -> Ndjson {
        let names = value::names(options);
        Ndjson { fast: fast::Fast::new(&names), names }
    }

    /// Reads one line; texts that hold escapes are put into `texts`.
    pub(super) fn decode<'a>(&mut self, line: &'a [u8], texts: &'a mut String) -> Read<Event<'a>> {
        let Ok(line) = std::str::from_utf8(line) else {
            return Err("the line is not UTF-8".to_owned());
        };
        match self.fast.decode(line) {
            Some(event) => Ok(event),
            None => strict(&self.names, without_cri(line), texts),
        }
    }
}

/// Reads one object by the rules of DESIGN section 3, "Event, native form".
fn strict<'a>(names: &[String], line: &'a str, texts: &'a mut String) -> Read<Event<'a>> {
    texts.clear();
    let mut object = Object { names, found: json::pick(names, line)?, texts };
    object.drop_nulls();
    let ts_ms = object.ts()?;
    let customer = object.text(slot::CUSTOMER)?.ok_or_else(|| {
        let name = &names[slot::CUSTOMER];
        format!("{name} is required: a string of 1 to {CUSTOMER_BYTES_MAX} bytes")
    })?;
    let outcome = object.outcome()?;
    let status = object.integer(slot::STATUS, value::status)?;
    if outcome.is_none() && status.is_none() {
        let (status, outcome) = (&names[slot::STATUS], &names[slot::OUTCOME]);
        return Err(format!("{status} or {outcome} is required"));
    }
    let latency = object.latency()?;
    let count = object.integer(slot::COUNT, value::count)?.unwrap_or(1);
    let service = object.text(slot::SERVICE)?;
    let route = object.text(slot::ROUTE)?;
    let release = object.text(slot::RELEASE)?;
    let cohort = object.text(slot::COHORT)?;
    let region = object.text(slot::REGION)?;
    let id = object.text(slot::ID)?;
    let mut attributes = [const { None }; ATTRIBUTES_MAX];
    for (index, attribute) in attributes.iter_mut().enumerate() {
        *attribute = object.text(slot::ATTRIBUTE + index)?;
    }

    let texts: &'a str = object.texts;
    let get = |text: Option<Text<'a>>| text.map_or("", |text| text.get(texts));
    Ok(Event {
        ts_ms,
        customer: value::customer(&names[slot::CUSTOMER], customer.get(texts))?,
        service: Some(get(service)).filter(|name| !name.is_empty()).unwrap_or(SERVICE_DEFAULT),
        route: get(route),
        release: get(release),
        cohort: get(cohort),
        region: get(region),
        attributes: attributes.map(get),
        status: status.unwrap_or(0),
        outcome,
        latency,
        id: get(id),
        count,
    })
}

/// The values of one line, and the buffer for those that hold escapes.
struct Object<'n, 'a> {
    names: &'n [String],
    found: Found<'a>,
    texts: &'a mut String,
}

impl<'a> Object<'_, 'a> {
    /// A `null` stands for an absent field.
    fn drop_nulls(&mut self) {
        for found in &mut self.found {
            *found = found.filter(|raw| *raw != "null");
        }
    }

    fn ts(&mut self) -> Read<i64> {
        let name = &self.names[slot::TS];
        let raw = self.found[slot::TS]
            .ok_or_else(|| format!("{name} is required: RFC 3339 or epoch milliseconds"))?;
        if let Some(ms) = json::integer(raw) {
            return value::ts_of_ms(name, ms);
        }
        let text = Text::of(raw, self.texts).ok_or_else(|| value::ts_form(name))?;
        value::ts_of_text(name, text.get(self.texts))
    }

    fn text(&mut self, slot: usize) -> Read<Option<Text<'a>>> {
        let Some(raw) = self.found[slot] else { return Ok(None) };
        let text = Text::of(raw, self.texts);
        text.map(Some).ok_or_else(|| format!("{} takes a string", self.names[slot]))
    }

    fn outcome(&mut self) -> Read<Option<crate::model::Outcome>> {
        let Some(raw) = self.found[slot::OUTCOME] else { return Ok(None) };
        let text = Text::of(raw, self.texts);
        let text = text.map(|text| text.get(self.texts));
        value::outcome(&self.names[slot::OUTCOME], text).map(Some)
    }

    fn integer<T>(&self, slot: usize, rule: fn(&str, Option<i64>) -> Read<T>) -> Read<Option<T>> {
        let Some(raw) = self.found[slot] else { return Ok(None) };
        rule(&self.names[slot], json::integer(raw)).map(Some)
    }

    fn latency(&self) -> Read<Latency> {
        let (in_ms, in_us) = (&self.names[slot::LATENCY_MS], &self.names[slot::LATENCY_US]);
        let (name, raw, us) = match (self.found[slot::LATENCY_MS], self.found[slot::LATENCY_US]) {
            (None, None) => return Ok(Latency::Absent),
            (Some(raw), None) => (in_ms, raw, 1_000.0),
            (None, Some(raw)) => (in_us, raw, 1.0),
            (Some(_), Some(_)) => return Err(format!("{in_ms} and {in_us} are both given")),
        };
        let number = json::number(raw).ok_or_else(|| format!("{name} takes a number"))?;
        Ok(value::latency(number * us))
    }
}
