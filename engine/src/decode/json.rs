//! Picks the wanted values out of one JSON object, as text, without building a tree.
//!
//! The syntax of the whole object is checked by `serde_json`; what is not wanted is skipped
//! whatever it holds. A wanted value comes back as the text it is written in, of any kind: the
//! caller knows what its field takes, and so can a number be read that no `f64` holds. The
//! work is linear in the line and nothing is kept of it; depth costs a byte a level.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::Read;
use super::value::Text;

/// How many names may be wanted of one object.
pub(super) const WANTED_MAX: usize = 32;

/// The text of each wanted value, by the index of its name. A JSON `null` is text too.
pub(super) type Found<'a> = [Option<&'a str>; WANTED_MAX];

/// Finds the values of `names` in the object `text`.
///
/// A name with dots is a path: `a.b` stands for `{"a":{"b":…}}` and for `{"a.b":…}`. One found
/// twice is refused, and so is text that is not one JSON object.
pub(super) fn pick<'a>(names: &[String], text: &'a str) -> Read<Found<'a>> {
    assert!(names.len() <= WANTED_MAX, "the wanted names fit the array of the found");
    let wanted: Wanted<'_> = Wanted::of(names);
    let mut pick = Pick { found: [None; WANTED_MAX], twice: None };
    pick.object(wanted.as_slice(), text).map_err(|error| match pick.twice {
        Some(index) => format!("{} is given twice", names[index]),
        None => syntax(text, &error),
    })?;
    Ok(pick.found)
}

/// What is wrong with a text that is no JSON object, in a few words.
fn syntax(text: &str, error: &serde_json::Error) -> String {
    if !text.trim_start().starts_with('{') {
        return "not a JSON object".to_owned();
    }
    match error.classify() {
        Category::Eof => "the JSON object is cut off".to_owned(),
        Category::Data => "not a JSON object".to_owned(),
        Category::Syntax | Category::Io => format!("not JSON near byte {}", error.column()),
    }
}

/// Indexes of names with what is left of each path, at one level of nesting.
struct Wanted<'n> {
    rest: [(usize, &'n str); WANTED_MAX],
    count: usize,
}

impl<'n> Wanted<'n> {
    fn of(names: &'n [String]) -> Wanted<'n> {
        let mut wanted = Wanted { rest: [(0, ""); WANTED_MAX], count: 0 };
        names.iter().enumerate().for_each(|(index, name)| wanted.push(index, name));
        wanted
    }

    fn push(&mut self, index: usize, rest: &'n str) {
        self.rest[self.count] = (index, rest);
        self.count += 1;
    }

    /// What of these is wanted inside the object that stands under `key`.
    fn under(level: &[(usize, &'n str)], key: &str) -> Wanted<'n> {
        let mut inner = Wanted { rest: [(0, ""); WANTED_MAX], count: 0 };
        for (index, rest) in level {
            if let Some(rest) = rest.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')) {
                inner.push(*index, rest);
            }
        }
        inner
    }

    fn as_slice(&self) -> &[(usize, &'n str)] {
        &self.rest[..self.count]
    }
}

/// The search through one line.
struct Pick<'a> {
    found: Found<'a>,
    /// The name that was found twice, which ended the search.
    twice: Option<usize>,
}

impl<'a> Pick<'a> {
    fn object(&mut self, level: &[(usize, &str)], text: &'a str) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_map(Level { pick: self, level })?;
        deserializer.end()
    }

    /// Keeps the value of `key`, and looks into it where a path leads through it.
    fn value(
        &mut self,
        level: &[(usize, &str)],
        key: &str,
        raw: &'a str,
    ) -> serde_json::Result<()> {
        for (index, rest) in level {
            if *rest == key && self.found[*index].replace(raw).is_some() {
                self.twice = Some(*index);
                return Err(serde_json::Error::custom("twice"));
            }
        }
        if raw.starts_with('{') {
            let inner = Wanted::under(level, key);
            if inner.count > 0 {
                return self.object(inner.as_slice(), raw);
            }
        }
        Ok(())
    }
}

/// Visits one object.
struct Level<'p, 'a> {
    pick: &'p mut Pick<'a>,
    level: &'p [(usize, &'p str)],
}

impl<'a> Visitor<'a> for Level<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let raw: &'a RawValue = map.next_value()?;
            self.pick.value(self.level, &key, raw.get()).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A key, borrowed where it holds no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The string that `raw` spells, with `buffer` for one that holds escapes. `None` where `raw`
/// is another kind of value, or spells half a surrogate pair.
pub(super) fn text<'a>(raw: &'a str, buffer: &mut String) -> Option<Text<'a>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Text::Plain(inner));
    }
    let start = buffer.len();
    buffer.push_str(&serde_json::from_str::<String>(raw).ok()?);
    Some(Text::Buffered(start..buffer.len()))
}

/// The integer that `raw` writes without fraction and exponent; `None` for any other value. `-0` is
/// none either, as `serde_json` has it: no integer has a sign that says nothing.
pub(super) fn integer(raw: &str) -> Option<i64> {
    // `raw` is one JSON value, so what `parse` would take beyond JSON (`+1`) cannot stand here.
    raw.parse().ok().filter(|_| raw != "-0")
}

/// The number that `raw` writes, infinite beyond what an `f64` holds; `None` for any other
/// value.
pub(super) fn number(raw: &str) -> Option<f64> {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        .then(|| raw.parse().expect("a JSON number is a number to the standard library"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[Option<&str>], &str>) {
        let names = ["a", "b.c", "b.c.d"].map(str::to_owned);
        let read = pick(&names, text);
        let found = read.as_ref().map(|found| &found[..3]).map_err(String::as_str);
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn wanted_values_are_found_under_flat_and_nested_keys() {
        check("{}", Ok(&[None, None, None]));
        check(r#" { "a" : 1.50 , "x":[{"a":2}] } "#, Ok(&[Some("1.50"), None, None]));
        check(r#"{"b":{"c":"\n","a":1}}"#, Ok(&[None, Some(r#""\n""#), None]));
        check(r#"{"b.c":null,"b":7}"#, Ok(&[None, Some("null"), None]));
        check(r#"{"b.c":{"d":1}}"#, Ok(&[None, Some(r#"{"d":1}"#), Some("1")]));
        check(r#"{"\u0061":1}"#, Ok(&[Some("1"), None, None]));
    }

    #[test]
    fn a_value_given_twice_is_refused() {
        check(r#"{"a":1,"a":1}"#, Err("a is given twice"));
        check(r#"{"a":null,"\u0061":1}"#, Err("a is given twice"));
        check(r#"{"b":{"c":1},"b.c":1}"#, Err("b.c is given twice"));
        check(r#"{"b":{"c":1,"c":2}}"#, Err("b.c is given twice"));
        check(r#"{"x":1,"x":1}"#, Ok(&[None, None, None]));
    }

    #[test]
    fn text_that_is_not_one_object_is_refused() {
        check("", Err("not a JSON object"));
        check(r#"{"a":1"#, Err("the JSON object is cut off"));
        check("[]", Err("not a JSON object"));
        check("7", Err("not a JSON object"));
        check(r#"{"a":1}}"#, Err("not JSON near byte 8"));
        check(r#"{"a":01}"#, Err("not JSON near byte 7"));
        check(r#"{"x":"\q"}"#, Err("not JSON near byte 8"));
    }
}
