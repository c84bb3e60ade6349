//! Reads a TOML document key by key and collects every problem on the way.
//!
//! A [`Section`] is one table. Each typed read (`whole`, `decimal`, `duration_ms`, …) names its
//! key and its range and answers the value, or `None` where it is absent *or wrong*; a wrong
//! one has been reported by then, so the caller goes on with its default and finds the next
//! problem. The reads are the schema: a key that nobody read is unknown, which
//! [`Section::finish`] reports with the key that was probably meant.
//!
//! A text that is no TOML is read as far as the parser recovers; then missing keys are not
//! reported, nor anything else on the broken lines, since it may follow from them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::value;
use crate::slo::decimal::{Decimal, DecimalError, SCALE_MAX};

/// One document being read.
pub(super) struct Reader {
    /// Where each line begins, in bytes; a configuration may name 100,000 customers.
    line_starts: Vec<usize>,
    /// Whether the text is TOML throughout.
    whole: bool,
    problems: RefCell<Vec<Problem>>,
    /// Every key that was asked for, as `(section, key)`: what the documentation must list.
    asked: RefCell<BTreeSet<(String, &'static str)>>,
}

impl Reader {
    /// Takes note of what the TOML parser refused, by line.
    pub(super) fn new(text: &str, errors: &[toml::de::Error]) -> Reader {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let reader = Reader {
            line_starts: std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect(),
            whole: errors.is_empty(),
            problems: RefCell::default(),
            asked: RefCell::default(),
        };
        for error in errors {
            let span = error.span().unwrap_or_default();
            let line = reader.line(&span);
            if error.message() == "duplicate key" {
                let key = text.get(span).unwrap_or_default().escape_debug().to_string();
                reader.push(line, key, "stands twice".to_owned(), "takes one value".to_owned());
            } else {
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                reader.push(line, String::new(), format!("no TOML: {message}"), String::new());
            }
        }
        reader
    }

    /// The outermost table.
    pub(super) fn root<'a>(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        self.section(String::new(), String::new(), Some(table), 1)
    }

    /// What was found wrong, if anything.
    pub(super) fn into_problems(self, file: &str) -> Option<Problems> {
        let mut list = self.problems.into_inner();
        if !self.whole {
            let broken: BTreeSet<usize> =
                list.iter().filter(|one| one.is_syntax()).map(|one| one.line).collect();
            list.retain(|one| one.is_syntax() || !broken.contains(&one.line));
        }
        (!list.is_empty()).then(|| Problems::new(file, list))
    }

    /// Every `(section, key)` that was read so far.
    #[cfg(test)]
    pub(super) fn asked(&self) -> BTreeSet<(String, &'static str)> {
        self.asked.borrow().clone()
    }

    fn section<'a>(
        &'a self,
        prefix: String,
        schema: String,
        table: Option<&'a DeTable<'a>>,
        line: usize,
    ) -> Section<'a> {
        Section { reader: self, prefix, schema, table, line, known: RefCell::default() }
    }

    fn push(&self, line: usize, key: String, what: String, takes: String) {
        self.problems.borrow_mut().push(Problem { line, key, what, takes });
    }

    /// Line of the first byte of `span`, from 1.
    fn line(&self, span: &Range<usize>) -> usize {
        self.line_starts.partition_point(|start| *start <= span.start)
    }
}

/// An entry of a table with any keys.
pub(super) enum Written<'a> {
    /// Its text, or that of its number.
    Text(String),
    /// The environment variable that holds it.
    Env(&'a str),
    /// The file that holds it.
    File(&'a str),
}

fn written<'a>(value: &'a DeValue<'a>) -> Option<Written<'a>> {
    match value {
        DeValue::String(text) => Some(Written::Text(text.to_string())),
        DeValue::Integer(integer) => Some(Written::Text(integer.to_string())),
        DeValue::Float(float) => Some(Written::Text(float.as_str().to_owned())),
        DeValue::Boolean(flag) => Some(Written::Text(flag.to_string())),
        DeValue::Table(table) if table.len() == 1 => {
            let place = |key| table.get(key).and_then(|value| value.get_ref().as_str());
            place("env").map(Written::Env).or_else(|| place("file").map(Written::File))
        }
        _ => None,
    }
}

/// One table of the document; an absent one reads as empty.
pub(super) struct Section<'a> {
    reader: &'a Reader,
    /// What stands before a key in a message: `alerts.`, `objective "api": `.
    prefix: String,
    /// The table's place in the schema: `alerts`, `objective[]`, `tier.*`.
    schema: String,
    table: Option<&'a DeTable<'a>>,
    line: usize,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// Whether the table is written at all.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Reports a problem at a key of this table, or at its header where the key is absent.
    pub(super) fn problem(
        &self,
        key: &'static str,
        what: impl Into<String>,
        takes: impl Into<String>,
    ) {
        let found = self.table.and_then(|table| table.get_key_value(key));
        let line = found.map_or(self.line, |(name, _)| self.reader.line(&name.span()));
        self.reader.push(line, format!("{}{key}", self.prefix), what.into(), takes.into());
    }

    /// Reports that `key` has to be there.
    pub(super) fn missing(&self, key: &'static str, takes: impl Into<String>) {
        if self.reader.whole {
            self.problem(key, "is missing", format!("takes {}", takes.into()));
        }
    }

    /// Whether `key` is written, right or wrong.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A text.
    pub(super) fn text(&self, key: &'static str, takes: &str) -> Option<&'a str> {
        let value = self.value(key)?;
        value.as_str().or_else(|| self.wrong_type(key, value, takes))
    }

    /// A text that is not empty.
    pub(super) fn name(&self, key: &'static str, takes: &str) -> Option<&'a str> {
        let text = self.text(key, takes)?;
        if text.is_empty() {
            self.problem(key, "is empty", format!("takes {takes}"));
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// A text of a closed set.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let text = self.text(key, &value::one_of(&names))?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            self.problem(key, format!("{text:?} is unknown"), suggestion(text, &names));
        }
        found.map(|(_, value)| *value)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        value.as_bool().or_else(|| self.wrong_type(key, value, "true or false"))
    }

    /// A whole number in a range.
    pub(super) fn whole(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let takes = format!("{} to {}", range.start(), range.end());
        let value = self.value(key)?;
        let Some(integer) = value.as_integer() else {
            return self.wrong_type(key, value, &format!("a whole number, {takes}"));
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        self.in_range(key, &integer.to_string(), number, &range, &takes)
    }

    /// An exact decimal with `takes` as the words for its range, which the caller checks.
    pub(super) fn decimal(&self, key: &'static str, takes: &str) -> Option<Decimal> {
        let found = self.value(key)?;
        let text = match found {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => return self.wrong_type(key, found, takes),
        };
        match Decimal::parse(text) {
            Ok(decimal) => return Some(decimal),
            Err(DecimalError::TooManyDigits(_)) => {
                let what = format!("{text} has more than {SCALE_MAX} digits after the point");
                self.problem(key, what, format!("takes {takes}"));
            }
            Err(_) => self.out_of_range(key, text, takes),
        }
        None
    }

    /// A duration such as `10s`, in milliseconds.
    pub(super) fn duration_ms(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.measured(
            key,
            range,
            "a duration such as \"10s\"",
            value::duration_ms,
            value::duration_text,
        )
    }

    /// A size such as `64MiB`, in bytes.
    pub(super) fn size_bytes(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.measured(key, range, "a size such as \"64MiB\"", value::size_bytes, value::size_text)
    }

    /// A list of texts, none of them empty.
    pub(super) fn names(&self, key: &'static str, takes: &str) -> Option<Vec<&'a str>> {
        let value = self.value(key)?;
        let Some(array) = value.as_array() else {
            return self.wrong_type(key, value, &format!("a list of {takes}"));
        };
        let texts: Option<Vec<&str>> = array
            .iter()
            .map(|item| item.get_ref().as_str().filter(|text| !text.is_empty()))
            .collect();
        if texts.is_none() {
            self.problem(
                key,
                "holds something else than names",
                format!("takes a list of {takes}"),
            );
        }
        texts
    }

    /// A table inside this one; empty where absent.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let found = self.find(key);
        let table = found.and_then(|(_, value)| {
            value.get_ref().as_table().or_else(|| self.wrong_type(key, value.get_ref(), "a table"))
        });
        let line = found.map_or(self.line, |(name, _)| self.reader.line(&name.span()));
        let prefix = format!("{}{key}.", self.prefix);
        self.reader.section(prefix, self.schema_of(key), table, line)
    }

    /// The tables of `[[key]]`, in the order of the file.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some((_, found)) = self.find(key) else { return Vec::new() };
        let takes = format!("tables, each under [[{}{key}]]", self.prefix.replace(": ", "."));
        let tables = found.get_ref().as_array().and_then(|array| {
            array.iter().map(|item| Some((item.span(), item.get_ref().as_table()?))).collect()
        });
        let Some(tables): Option<Vec<(Range<usize>, &DeTable<'_>)>> = tables else {
            self.wrong_type::<()>(key, found.get_ref(), &takes);
            return Vec::new();
        };
        let schema = format!("{}[]", self.schema_of(key));
        let element = |(index, (span, table)): (usize, (Range<usize>, &'a DeTable<'a>))| {
            let name = table.get("name").and_then(|name| name.get_ref().as_str());
            let label = name.map_or(format!("#{}", index + 1), |name| format!("{name:?}"));
            let prefix = format!("{}{key} {label}: ", self.spaced_prefix());
            self.reader.section(prefix, schema.clone(), Some(table), self.reader.line(&span))
        };
        tables.into_iter().enumerate().map(element).collect()
    }

    /// The tables of `[key.NAME]`, with their names, sorted by name.
    pub(super) fn named_sections(&self, key: &'static str) -> Vec<(&'a str, Section<'a>)> {
        let Some((_, found)) = self.find(key) else { return Vec::new() };
        let Some(tables) = found.get_ref().as_table() else {
            let takes = format!("tables, each under [{key}.NAME]");
            self.wrong_type::<()>(key, found.get_ref(), &takes);
            return Vec::new();
        };
        let schema = format!("{}.*", self.schema_of(key));
        let mut sections = Vec::with_capacity(tables.len());
        for (name, value) in tables {
            let line = self.reader.line(&name.span());
            let label = format!("{}{key} {:?}", self.spaced_prefix(), name.get_ref());
            let Some(table) = value.get_ref().as_table() else {
                let what = format!("is {}", kind(value.get_ref()));
                self.reader.push(line, label, what, "takes a table".to_owned());
                continue;
            };
            let inner =
                self.reader.section(format!("{label}: "), schema.clone(), Some(table), line);
            sections.push((&**name.get_ref(), inner));
        }
        sections
    }

    /// The entries of a table with any keys, each a text, a number, `true` or `false`, or the
    /// place where it stands, in the order of their names.
    pub(super) fn settings(&self, key: &'static str) -> Vec<(&'a str, Written<'a>)> {
        let takes = "a table of texts, numbers, true or false, { env = … } or { file = … }";
        let Some((_, found)) = self.find(key) else { return Vec::new() };
        let Some(table) = found.get_ref().as_table() else {
            self.wrong_type::<()>(key, found.get_ref(), takes);
            return Vec::new();
        };
        let mut settings = Vec::with_capacity(table.len());
        for (name, value) in table {
            match written(value.get_ref()) {
                Some(value) => settings.push((&**name.get_ref(), value)),
                None => {
                    let what = format!("{:?} is {}", name.get_ref(), kind(value.get_ref()));
                    self.problem(key, what, format!("takes {takes}"));
                }
            }
        }
        settings
    }

    /// Reports every key that was not read.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for name in self.table.into_iter().flat_map(|table| table.keys()) {
            let key = &**name.get_ref();
            if !known.contains(&key) {
                let line = self.reader.line(&name.span());
                let takes = suggestion(key, &known);
                let key = format!("{}{}", self.prefix, key.escape_debug());
                self.reader.push(line, key, "is no key".to_owned(), takes);
            }
        }
    }

    fn find(
        &self,
        key: &'static str,
    ) -> Option<(&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        self.known.borrow_mut().push(key);
        self.reader.asked.borrow_mut().insert((self.schema.clone(), key));
        self.table.and_then(|table| table.get_key_value(key))
    }

    fn value(&self, key: &'static str) -> Option<&'a DeValue<'a>> {
        self.find(key).map(|(_, value)| value.get_ref())
    }

    fn schema_of(&self, key: &str) -> String {
        if self.schema.is_empty() { key.to_owned() } else { format!("{}.{key}", self.schema) }
    }

    /// The prefix as it stands before a further name: `source.`, `customer "acme" `.
    fn spaced_prefix(&self) -> String {
        self.prefix.strip_suffix(": ").map_or(self.prefix.clone(), |label| format!("{label} "))
    }

    /// Reports a value that is none of those that `takes` says.
    pub(super) fn out_of_range(&self, key: &'static str, written: impl Display, takes: &str) {
        self.problem(key, format!("{written} is out of range"), format!("takes {takes}"));
    }

    /// An exact ratio between 0 and 1, both excluded.
    pub(super) fn ratio(&self, key: &'static str) -> Option<Decimal> {
        let takes = "more than 0 and less than 1, such as 0.999";
        let ratio = self.decimal(key, takes)?;
        if !ratio.is_target() {
            self.out_of_range(key, ratio, takes);
        }
        Some(ratio).filter(|ratio| ratio.is_target())
    }

    fn wrong_type<T>(&self, key: &'static str, value: &DeValue<'_>, takes: &str) -> Option<T> {
        self.problem(key, format!("is {}", kind(value)), format!("takes {takes}"));
        None
    }

    fn measured(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        example: &str,
        read: fn(&str) -> Option<u64>,
        write: fn(u64) -> String,
    ) -> Option<u64> {
        let takes = format!("{} to {}", write(*range.start()), write(*range.end()));
        let text = self.text(key, &format!("{example}, {takes}"))?;
        let number = read(text);
        if number.is_none() {
            let takes = format!("takes {example}, {takes}");
            self.problem(key, format!("{text:?} cannot be read"), takes);
            return None;
        }
        self.in_range(key, &format!("{text:?}"), number, &range, &takes)
    }

    fn in_range(
        &self,
        key: &'static str,
        written: &str,
        number: Option<u64>,
        range: &RangeInclusive<u64>,
        takes: &str,
    ) -> Option<u64> {
        let inside = number.filter(|number| range.contains(number));
        if inside.is_none() {
            self.out_of_range(key, written, takes);
        }
        inside
    }
}

/// `did you mean x?`, or what there is.
pub(super) fn suggestion(name: &str, known: &[&str]) -> String {
    match value::nearest(name, known) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("takes {}", value::one_of(known)),
    }
}

/// The type of a value with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
