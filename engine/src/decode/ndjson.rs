//! The native form: one JSON object a line.
//!
//! Two readers give the same answer. [`fast`] takes the usual line, a flat object of plain
//! strings and plain integers, in one pass; on any doubt it gives up, and the strict reader
//! here decides, which alone refuses. A property test holds the two against each other.

mod fast;
mod passages;
mod values;

use super::json::{self, Found};
use super::value::{self, Row, Text, slot};
use super::{Options, Read};
use crate::model::{Alike, Bare, Event};

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

    /// Reads the usual line that `text` begins with: what its event is alike by, and where its
    /// object ends; see [`fast::Fast::decode`].
    #[inline]
    pub(super) fn usual<'t>(
        &mut self,
        text: &'t str,
        event: &mut Bare<'t>,
    ) -> Option<(Alike, usize)> {
        self.fast.decode(text, event)
    }

    /// An event with the service and the dimensions of the usual line that was read last.
    pub(super) fn shared<'t>(&self, text: &'t str) -> Event<'t> {
        self.fast.shared(text)
    }

    /// Reads any line; texts that hold escapes are put into `texts`.
    pub(super) fn decode<'a>(&self, line: &'a str, texts: &'a mut String) -> Read<Event<'a>> {
        strict(&self.names, line, texts)
    }
}

/// Reads one object by the rules of the native fields.
fn strict<'a>(names: &[String], line: &'a str, texts: &'a mut String) -> Read<Event<'a>> {
    texts.clear();
    let mut found = json::pick(names, line)?;
    for value in &mut found {
        // A `null` stands for an absent field.
        *value = value.filter(|raw| *raw != "null");
    }
    value::event(names, Object { names, found, texts })
}

/// The values of one line, and the buffer for those that hold escapes.
struct Object<'n, 'a> {
    names: &'n [String],
    found: Found<'a>,
    texts: &'a mut String,
}

impl<'a> Row<'a> for Object<'_, 'a> {
    fn ts(&mut self) -> Option<Read<i64>> {
        let (name, raw) = (&self.names[slot::TS], self.found[slot::TS]?);
        Some(match (json::integer(raw), json::text(raw, self.texts)) {
            (Some(ms), _) => value::ts_of_ms(name, ms),
            (None, Some(text)) => value::ts_of_text(name, text.get(self.texts)),
            (None, None) => Err(value::ts_form(name)),
        })
    }

    fn text(&mut self, slot: usize) -> Option<Read<Text<'a>>> {
        let text = json::text(self.found[slot]?, self.texts);
        Some(text.ok_or_else(|| format!("{} takes a string", self.names[slot])))
    }

    fn integer(&self, slot: usize) -> Option<Option<i64>> {
        self.found[slot].map(json::integer)
    }

    fn number(&self, slot: usize) -> Option<Read<f64>> {
        let number = json::number(self.found[slot]?);
        Some(number.ok_or_else(|| format!("{} takes a number", self.names[slot])))
    }

    fn buffer(self) -> &'a str {
        self.texts
    }
}

#[cfg(test)]
mod tests;
