//! Minutes, windows of minutes, and the text forms of time.
//!
//! All time is UTC epoch milliseconds in an `i64`, or a whole [`Minute`]. The unit of exactness
//! is the minute: `floor(epoch_ms / 60000)`. A window of L minutes at T is the minutes
//! `m - L + 1 ..= m` with `m = minute(T)`, the running one included.

use std::fmt;

/// Milliseconds in a minute.
pub const MINUTE_MS: i64 = 60_000;
/// Microseconds in a minute, as the table has them.
pub const MINUTE_US: i64 = 1_000 * MINUTE_MS;
/// Minutes in a day.
pub const DAY_MINUTES: u32 = 1_440;
/// The earliest event time that is admitted: 2000-01-01T00:00:00Z.
pub const TS_MS_MIN: i64 = 946_684_800_000;
/// One past the latest event time that is admitted: 2101-01-01T00:00:00Z.
pub const TS_MS_END: i64 = 4_133_980_800_000;

/// Whole minutes since the epoch, UTC.
///
/// ```
/// use ninefold_engine::time::Minute;
/// let minute = Minute::of_ms(1_764_547_259_999);
/// assert_eq!(minute.start_ms(), 1_764_547_200_000);
/// assert_eq!(minute.to_string(), "2025-12-01T00:00:00Z");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(pub u32);

impl Minute {
    /// The minute that holds `ts_ms`.
    ///
    /// # Panics
    /// If the time is before the epoch or past the year 10,000: decoders admit neither.
    pub fn of_ms(ts_ms: i64) -> Minute {
        // Without sign: a division that need not look at it is half as long.
        let minutes = u64::try_from(ts_ms).map(|ms| u32::try_from(ms / MINUTE_MS as u64));
        Minute(minutes.ok().and_then(Result::ok).expect("event times are after the epoch"))
    }

    /// The first millisecond of this minute.
    pub fn start_ms(self) -> i64 {
        i64::from(self.0) * MINUTE_MS
    }

    /// The UTC day that holds this minute.
    pub fn day(self) -> Day {
        Day(self.0 / DAY_MINUTES)
    }

    /// This minute moved by `minutes` towards the past; the epoch is the floor.
    pub fn minus(self, minutes: u32) -> Minute {
        Minute(self.0.saturating_sub(minutes))
    }

    /// The next minute.
    pub fn next(self) -> Minute {
        Minute(self.0 + 1)
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339(self.start_ms()))
    }
}

/// Whole days since the epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl fmt::Display for Day {
    /// Writes `2025-12-01`, the value of the partition column `day`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(i64::from(self.0));
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Year, month and day of a count of days since the epoch (proleptic Gregorian calendar).
///
/// The method is that of Howard Hinnant, "chrono-compatible low-level date algorithms": years
/// begin in March, so that the leap day is the last of its year; eras of 400 years repeat.
///
/// ```
/// assert_eq!(ninefold_engine::time::civil(20_423), (2025, 12, 1));
/// ```
pub fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since the epoch of a civil date; the inverse of [`civil`]. The date must exist.
///
/// ```
/// assert_eq!(ninefold_engine::time::days_of_civil(2025, 12, 1), 20_423);
/// ```
pub fn days_of_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `2025-12-01T00:00:00Z`, with milliseconds only where there are some.
///
/// ```
/// use ninefold_engine::time::rfc3339;
/// assert_eq!(rfc3339(1_764_547_200_123), "2025-12-01T00:00:00.123Z");
/// assert_eq!(rfc3339(1_764_547_200_000), "2025-12-01T00:00:00Z");
/// ```
pub fn rfc3339(ts_ms: i64) -> String {
    let (year, month, day) = civil(ts_ms.div_euclid(86_400_000));
    let in_day_ms = ts_ms.rem_euclid(86_400_000);
    let (hour, minute) = (in_day_ms / 3_600_000, in_day_ms / 60_000 % 60);
    let (second, ms) = (in_day_ms / 1_000 % 60, in_day_ms % 1_000);
    let whole = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if ms == 0 { format!("{whole}Z") } else { format!("{whole}.{ms:03}Z") }
}

/// Reads an RFC 3339 time into epoch milliseconds; digits past the millisecond are cut off.
///
/// Takes `T`, `t` or a space between date and time, `Z`, `z` or an offset such as `+02:00`, a
/// fraction of any length, and a leap second `:60` as the second after it. `None` for
/// anything else: a date that does not exist, a missing offset, trailing text.
///
/// ```
/// use ninefold_engine::time::parse_rfc3339;
/// assert_eq!(parse_rfc3339(b"2025-12-01T02:00:00.1239+02:00"), Some(1_764_547_200_123));
/// assert_eq!(parse_rfc3339(b"2025-02-29T00:00:00Z"), None);
/// ```
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    if text.len() < 20 {
        return None;
    }
    let punctuation: [(usize, &[u8]); 5] =
        [(4, b"-"), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")];
    if !punctuation.iter().all(|(at, any)| any.contains(&text[*at])) {
        return None;
    }
    let days = checked_days(digits(&text[0..4])?, digits(&text[5..7])?, digits(&text[8..10])?)?;
    let (hour, minute) = (digits(&text[11..13])?, digits(&text[14..16])?);
    let second = digits(&text[17..19])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut ms = 0;
    if let [b'.', fraction @ ..] = rest {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        let digits = fraction[..length].iter().chain(b"00").take(3);
        ms = digits.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
        rest = &fraction[length..];
    }
    let offset_minutes = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    Some((((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second) * 1_000 + ms)
}

/// Days since the epoch of a date that may not exist.
pub(crate) fn checked_days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    Some(days_of_civil(year, month as u32, day as u32))
}

/// The number that ASCII digits spell; `None` where another byte stands among them.
pub(crate) fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0_i64, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_and_its_inverse_agree_with_the_calendar_library() {
        for days in (-100_000..100_000).step_by(37) {
            let (year, month, day) = civil(days);
            assert_eq!(days_of_civil(year, month, day), days);
            let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(days);
            let expected = (i64::from(date.year()), date.month() as u32, date.day() as u32);
            assert_eq!((year, month, day), expected);
        }
    }

    #[test]
    fn times_that_do_not_exist_are_refused() {
        for text in [
            "",
            "2025-12-01",
            "2025-12-01T00:00:00",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-12-32T00:00:00Z",
            "2025-12-01T24:00:00Z",
            "2025-12-01T00:60:00Z",
            "2025-12-01T00:00:00.Z",
            "2025-12-01T00:00:00+2:00",
            "2025-12-01T00:00:00ZZ",
            "2025-12-01T00:00:00+0200",
            "+025-12-01T00:00:00Z",
            "2100-02-29T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }
}
