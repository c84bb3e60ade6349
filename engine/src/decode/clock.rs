//! The forms of time in access logs: Common Log Format, RFC 3339 and its lax kin, and numbers.

use super::Read;
use crate::time::{TS_MS_END, TS_MS_MIN, checked_days, digits, parse_rfc3339};

/// The time of an access log's line must lie in the years 2000 to 2100.
pub(super) fn in_years(ms: i64) -> Read<i64> {
    if is_in_years(ms) {
        Ok(ms)
    } else {
        Err("the time is outside the years 2000 to 2100".to_owned())
    }
}

/// Whether [`in_years`] takes it.
#[inline]
pub(super) fn is_in_years(ms: i64) -> bool {
    (TS_MS_MIN..TS_MS_END).contains(&ms)
}

/// Reads `17/May/2015:10:05:03 +0000` into epoch milliseconds.
pub(super) fn clf(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let separators = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':'), (20, b' ')];
    if bytes.len() != 26 || !separators.iter().all(|(at, byte)| bytes[*at] == *byte) {
        return None;
    }
    let day_number =
        checked_days(digits(&bytes[7..11])?, month(&bytes[3..6])?, digits(&bytes[..2])?)?;
    let (hour, minute) = (digits(&bytes[12..14])?, digits(&bytes[15..17])?);
    let second = digits(&bytes[18..20])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local_s = ((day_number * 24 + hour) * 60 + minute) * 60 + second;
    Some((local_s - zone_s(&bytes[21..26])?) * 1_000)
}

/// The number of a month's English short name.
fn month(name: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let index = MONTHS.iter().position(|month| *month == name)?;
    Some(index as i64 + 1)
}

/// Seconds east of UTC of a zone such as `-0730`.
fn zone_s(zone: &[u8]) -> Option<i64> {
    let (sign, digits_of) = match zone {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = (digits(&digits_of[..2])?, digits(&digits_of[2..])?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60)
}

/// Reads a time in a text form that JSON logs use: RFC 3339, the same with a zone without its
/// colon (`+0200`), Common Log Format, or a number.
pub(super) fn text(text: &str) -> Option<i64> {
    parse_rfc3339(text.as_bytes())
        .or_else(|| clf(text))
        .or_else(|| number(text))
        .or_else(|| zone_without_colon(text))
}

fn zone_without_colon(text: &str) -> Option<i64> {
    let at = text.len().checked_sub(2)?;
    let (head, minutes) = (text.get(..at)?, text.get(at..)?);
    parse_rfc3339(format!("{head}:{minutes}").as_bytes())
}

/// Reads a number of seconds, milliseconds, microseconds or nanoseconds since the epoch.
///
/// The years 2000 to 2100 in one unit do not meet those in another, so the size of the number
/// tells its unit. A fraction is cut off at the millisecond, by its digits: `f64` would turn
/// `….756` seconds into 755 ms.
pub(super) fn number(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(whole) || !is_plain(fraction) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let millis = (0..3).fold(0, |millis, place| {
        millis * 10 + fraction.as_bytes().get(place).map_or(0, |digit| i64::from(digit - b'0'))
    });
    let in_ms = [
        whole.saturating_mul(1_000).saturating_add(millis),
        whole,
        whole / 1_000,
        whole / 1_000_000,
    ];
    in_ms.into_iter().find(|ms| (TS_MS_MIN..TS_MS_END).contains(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_log_times_follow_their_zone() {
        let check = |text, expected| assert_eq!(clf(text), expected, "{text}");
        check("17/May/2015:10:05:03 +0000", Some(1_431_857_103_000));
        check("17/May/2015:12:05:03 +0200", Some(1_431_857_103_000));
        check("17/May/2015:02:35:03 -0730", Some(1_431_857_103_000));
        check("29/Feb/2016:00:00:00 +0000", Some(1_456_704_000_000));
        check("29/Feb/2015:00:00:00 +0000", None);
        check("17/Mai/2015:10:05:03 +0000", None);
        check("17/May/2015:24:05:03 +0000", None);
        check("17/May/2015:10:05:03 +00:0", None);
        check("17/May/2015:10:05:03 0000+", None);
        check("14/Jan/2015:12:48:57.127", None);
        check("", None);
    }

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        let check = |text, expected| assert_eq!(number(text), expected, "{text}");
        check("1693840791.756", Some(1_693_840_791_756));
        check("1693840791.7564995", Some(1_693_840_791_756));
        check("1693840791", Some(1_693_840_791_000));
        check("1693840791.7", Some(1_693_840_791_700));
        check("1693840791756", Some(1_693_840_791_756));
        check("1693840791756499", Some(1_693_840_791_756));
        check("1693840791756499123", Some(1_693_840_791_756));
        check("9999999999999999999", None);
        check("12", None);
        check("-1693840791", None);
        check("1.6938407915e9", None);
        check("", None);
    }

    #[test]
    fn lax_forms_of_text_are_read() {
        let check = |given, expected| assert_eq!(text(given), expected, "{given}");
        check("2021-11-12T16:59:45+0000", Some(1_636_736_385_000));
        check("2021-11-12T16:59:45.5+01:00", Some(1_636_732_785_500));
        check("12/Nov/2021:16:59:45 +0000", Some(1_636_736_385_000));
        check("1636736385.000", Some(1_636_736_385_000));
        check("yesterday", None);
        check("ä", None);
    }
}
