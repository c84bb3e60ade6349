//! The text forms of values: durations, sizes and ranges of statuses; and names that are near.
//!
//! | form | examples | grammar |
//! |---|---|---|
//! | duration | `10s`, `250ms`, `5m`, `1h`, `2d` | whole number and unit |
//! | size | `4096B`, `64KiB`, `64MiB`, `1GiB` | whole number and unit, powers of 1,024 |
//! | statuses | `404`, `500-599` | one status or an inclusive range, 100 to 599 |
//!
//! Decimals and periods are read by the modules that own them.

use std::fmt;

/// Units of a duration in milliseconds, the longest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size in bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `10s` as milliseconds; `None` where it is no duration or overflows.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    with_unit(text, &DURATION_UNITS)
}

/// Writes milliseconds in the largest unit that divides them; the inverse of [`duration_ms`].
pub(super) fn duration_text(ms: u64) -> String {
    if ms == 0 { "0s".to_owned() } else { in_unit(ms, &DURATION_UNITS) }
}

/// Reads `64MiB` as bytes; `None` where it is no size or overflows.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    with_unit(text, &SIZE_UNITS)
}

/// Writes bytes in the largest unit that divides them; the inverse of [`size_bytes`].
pub(super) fn size_text(bytes: u64) -> String {
    in_unit(bytes, &SIZE_UNITS)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn in_unit(value: u64, units: &[(&str, u64)]) -> String {
    let smallest = units.last().expect("a table of units is not empty");
    let fits = |(_, factor): &&(&str, u64)| value != 0 && value.is_multiple_of(*factor);
    let (name, factor) = units.iter().find(fits).unwrap_or(smallest);
    format!("{}{name}", value / factor)
}

/// Reads `404` or `500-599` as an inclusive range within 100 to 599.
pub(super) fn statuses(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |part: &str| {
        let digits = part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|status| digits && (100..=599).contains(status))
    };
    let range = (status(first)?, status(last)?);
    (range.0 <= range.1).then_some(range)
}

/// A list for people: `a, b or c`.
pub(super) fn one_of<T: fmt::Display>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(T::to_string).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "nothing".to_owned(),
    }
}

/// The name in `known` that `name` was probably meant to be: the nearest one by edits, where
/// about a third of its letters differ at most, and some do not.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |other: &str| edits(&name.to_lowercase(), &other.to_lowercase());
    let (edits, nearest) = known.iter().map(|other| (distance(other), *other)).min()?;
    let letters = name.chars().count().min(nearest.chars().count());
    (edits <= letters.div_ceil(3) && edits < letters).then_some(nearest)
}

/// Levenshtein distance: insertions, deletions and substitutions of characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_back_as_written() {
        for (text, ms) in [("10s", 10_000), ("250ms", 250), ("90s", 90_000), ("2d", 172_800_000)] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
            assert_eq!(duration_ms(&duration_text(ms)), Some(ms), "{text}");
        }
        assert_eq!((duration_text(0), duration_text(90_000)), ("0s".into(), "90s".into()));
        for (text, bytes) in [("64MiB", 64 << 20), ("1GiB", 1 << 30), ("7B", 7)] {
            assert_eq!(size_bytes(text), Some(bytes), "{text}");
            assert_eq!(size_text(bytes), text);
        }
        for text in ["", "s", "10", "10 s", "1.5s", "-1s", "99999999999999999999s", "1w", "10S"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
        for text in ["", "64MB", "64", "18446744073709551615GiB"] {
            assert_eq!(size_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn statuses_are_ranges_within_http() {
        assert_eq!(statuses("404"), Some((404, 404)));
        assert_eq!(statuses("500-599"), Some((500, 599)));
        for text in ["", "0", "99", "600", "599-500", "5xx", "+404", "500-", "0404"] {
            assert_eq!(statuses(text), None, "{text}");
        }
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let known = ["min_bad", "min_valid", "confidence"];
        assert_eq!(nearest("min_bod", &known), Some("min_bad"));
        assert_eq!(nearest("Confidense", &known), Some("confidence"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("x", &["y", "z"]), None);
        assert_eq!(nearest("glod", &["silver", "gold"]), Some("gold"));
        assert_eq!((edits("kitten", "sitting"), edits("", "abc")), (3, 3));
    }
}
