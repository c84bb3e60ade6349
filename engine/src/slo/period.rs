//! Periods of objectives, as ranges of whole minutes.
//!
//! A rolling period at minute `m` is the `days * 1440` minutes that end with `m`, as every
//! window. A calendar period runs from the first instant of the month or quarter in its IANA
//! zone: an October of Europe/Berlin has 31 days and one hour. `jiff` knows the zones; where
//! midnight does not exist the day starts at the first instant that does, where it exists twice
//! it starts at the first one.
//!
//! Invariants: zone names were checked when the period was read; all offsets since 2000 are
//! whole minutes, so that a month starts with a minute.

use std::fmt;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use crate::slo::window::window_range;
use crate::time::{DAY_MINUTES, MINUTE_MS, Minute};

/// The longest rolling period in days: a year, as rows are kept for 13 months.
pub const ROLLING_DAYS_MAX: u32 = 366;

/// The time over which an objective is to hold.
///
/// ```
/// use ninefold_engine::slo::period::Period;
/// assert_eq!(Period::parse("28d", "UTC").unwrap(), Period::RollingDays(28));
/// let month = Period::parse("month", "Europe/Berlin").unwrap();
/// assert_eq!((month.to_string().as_str(), month.minutes()), ("month", 43_200));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// The last so many days, whole minutes: `30d`, `28d`, `7d`.
    RollingDays(u32),
    /// The running calendar month in this IANA zone.
    Month(String),
    /// The running calendar quarter in this IANA zone.
    Quarter(String),
}

/// Why a text names no period, zone or month.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// Neither days nor a calendar period.
    #[error("unknown period {0:?}; write days (1d to 366d), month or quarter")]
    Period(String),
    /// Not in the time zone database.
    #[error("unknown time zone {0:?}; write an IANA name such as Europe/Berlin")]
    Zone(String),
    /// Not a month of the years that are admitted.
    #[error("unknown month {0:?}; write it as 2026-10, from 2000-01 to 2100-12")]
    Month(String),
    /// Not a quarter of the years that are admitted.
    #[error("unknown quarter {0:?}; write it as 2026-Q4, from 2000-Q1 to 2100-Q4")]
    Quarter(String),
}

impl Period {
    /// Reads `30d`, `month` or `quarter`; `zone` is that of the calendar ones.
    ///
    /// # Errors
    /// Another text, days beyond 1 to [`ROLLING_DAYS_MAX`], a calendar period in an unknown zone.
    pub fn parse(text: &str, zone: &str) -> Result<Period, PeriodError> {
        let zone = || time_zone(zone).map(|_| zone.to_owned());
        match text {
            "month" => Ok(Period::Month(zone()?)),
            "quarter" => Ok(Period::Quarter(zone()?)),
            _ => text
                .strip_suffix('d')
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|days| (1..=ROLLING_DAYS_MAX).contains(days))
                .map(Period::RollingDays)
                .ok_or_else(|| PeriodError::Period(text.to_owned())),
        }
    }

    /// Its length for alert factors: 30 days for a month and 90 for a quarter, so that a factor
    /// does not change from month to month.
    pub fn minutes(&self) -> u32 {
        DAY_MINUTES
            * match self {
                Period::RollingDays(days) => *days,
                Period::Month(_) => 30,
                Period::Quarter(_) => 90,
            }
    }

    /// Whether it is a calendar period.
    pub fn is_calendar(&self) -> bool {
        !matches!(self, Period::RollingDays(_))
    }

    /// From its first minute to `at`, both included: what an objective is judged on at `at`.
    ///
    /// # Panics
    /// If the zone is unknown, which [`Period::parse`] refuses.
    pub fn range(&self, at: Minute) -> RangeInclusive<Minute> {
        *self.full_range(at).start()..=at
    }

    /// The whole period that holds `at`; ends with `at` for a rolling one and with the last
    /// minute of the month or quarter for a calendar one. For projections.
    ///
    /// # Panics
    /// If the zone is unknown, which [`Period::parse`] refuses.
    pub fn full_range(&self, at: Minute) -> RangeInclusive<Minute> {
        let (zone, months) = match self {
            Period::RollingDays(_) => return window_range(at, self.minutes()),
            Period::Month(zone) => (zone, 1),
            Period::Quarter(zone) => (zone, 3),
        };
        let zone = time_zone(zone).expect("the zone of a period was checked when it was read");
        let start = Timestamp::from_millisecond(at.start_ms()).expect("minutes are within range");
        let day = start.to_zoned_datetime(zone.clone()).date();
        let first_month = (day.month() - 1) / months * months + 1;
        months_range(date(day.year(), first_month, 1), months, &zone)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Period::RollingDays(days) => write!(f, "{days}d"),
            Period::Month(_) => f.write_str("month"),
            Period::Quarter(_) => f.write_str("quarter"),
        }
    }
}

/// The minutes of a calendar month such as `2026-10` in an IANA zone, both ends included.
///
/// ```
/// use ninefold_engine::slo::period::month_range;
/// let utc = month_range("2026-10", "UTC").unwrap();
/// assert_eq!(utc.start().to_string(), "2026-10-01T00:00:00Z");
/// assert_eq!(utc.end().to_string(), "2026-10-31T23:59:00Z");
/// ```
///
/// # Errors
/// Not a month from 2000-01 to 2100-12 in this form, or an unknown zone.
pub fn month_range(month: &str, zone: &str) -> Result<RangeInclusive<Minute>, PeriodError> {
    let first = first_of_month(month).ok_or_else(|| PeriodError::Month(month.to_owned()))?;
    Ok(months_range(first, 1, &time_zone(zone)?))
}

/// The minutes of a calendar quarter such as `2026-Q4`, UTC, both ends included.
///
/// ```
/// use ninefold_engine::slo::period::quarter_range;
/// let quarter = quarter_range("2026-Q4").unwrap();
/// assert_eq!(quarter.start().to_string(), "2026-10-01T00:00:00Z");
/// assert_eq!(quarter.end().to_string(), "2026-12-31T23:59:00Z");
/// assert!(quarter_range("2026-Q5").is_err());
/// ```
///
/// # Errors
/// Not a quarter from 2000-Q1 to 2100-Q4 in this form.
pub fn quarter_range(quarter: &str) -> Result<RangeInclusive<Minute>, PeriodError> {
    let refused = || PeriodError::Quarter(quarter.to_owned());
    let (year, number) = quarter.split_once("-Q").ok_or_else(refused)?;
    let number: u8 = number.parse().ok().filter(|number| *number <= 4).ok_or_else(refused)?;
    let month = format!("{year}-{:02}", i16::from(number) * 3 - 2);
    let first = first_of_month(&month).ok_or_else(refused)?;
    Ok(months_range(first, 3, &TimeZone::UTC))
}

/// The first day of `2026-10`.
fn first_of_month(month: &str) -> Option<Date> {
    let bytes = month.as_bytes();
    let (year, number) = (bytes.get(..4)?, bytes.get(5..)?);
    if bytes.len() != 7 || bytes[4] != b'-' {
        return None;
    }
    let year = crate::time::digits(year).filter(|year| (2000..=2100).contains(year))?;
    let number = crate::time::digits(number).filter(|number| (1..=12).contains(number))?;
    Some(date(year as i16, number as i8, 1))
}

/// The minutes of `count` months from the one that starts with `first`.
fn months_range(first: Date, count: i8, zone: &TimeZone) -> RangeInclusive<Minute> {
    let month = first.month() - 1 + count;
    let next = date(first.year() + i16::from(month / 12), month % 12 + 1, 1);
    start_of(first, zone)..=start_of(next, zone).minus(1)
}

/// The first minute of a day in a zone.
fn start_of(day: Date, zone: &TimeZone) -> Minute {
    let start = day.to_zoned_datetime(zone.clone()).expect("admitted years are within range");
    let ms = start.timestamp().as_millisecond();
    Minute(u32::try_from(ms.div_euclid(MINUTE_MS)).unwrap_or(0))
}

/// The zone of this IANA name; `UTC` needs no database.
fn time_zone(name: &str) -> Result<TimeZone, PeriodError> {
    TimeZone::get(name).map_err(|_| PeriodError::Zone(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_rfc3339;

    fn minute(text: &str) -> Minute {
        Minute::of_ms(parse_rfc3339(text.as_bytes()).unwrap())
    }

    #[test]
    fn periods_read_and_print_as_they_are_written() {
        for text in ["1d", "7d", "28d", "30d", "366d", "month", "quarter"] {
            assert_eq!(Period::parse(text, "UTC").unwrap().to_string(), text);
        }
        for text in ["", "d", "0d", "367d", "+7d", "7", "4w", "Month", "99999999999d"] {
            assert_eq!(Period::parse(text, "UTC"), Err(PeriodError::Period(text.to_owned())));
        }
        let zone = Period::parse("month", "Mars/Base");
        assert_eq!(zone, Err(PeriodError::Zone("Mars/Base".to_owned())));
    }

    #[test]
    fn calendar_periods_start_at_local_midnight_through_changes_of_the_clock() {
        let check = |period: &str, zone: &str, at: &str, first: &str, last: &str| {
            let range = Period::parse(period, zone).unwrap().full_range(minute(at));
            let ends = (range.start().to_string(), range.end().to_string());
            assert_eq!(ends, (first.to_owned(), last.to_owned()), "{period} {zone} {at}");
            let so_far = Period::parse(period, zone).unwrap().range(minute(at));
            assert_eq!(so_far, minute(first)..=minute(at));
        };
        let berlin = "Europe/Berlin";
        let at = "2026-10-15T12:00:00Z";
        check("month", berlin, at, "2026-09-30T22:00:00Z", "2026-10-31T22:59:00Z");
        check("quarter", berlin, at, "2026-09-30T22:00:00Z", "2026-12-31T22:59:00Z");
        check("month", "UTC", at, "2026-10-01T00:00:00Z", "2026-10-31T23:59:00Z");
        let at = "2026-03-31T22:00:00Z";
        check("month", berlin, at, "2026-03-31T22:00:00Z", "2026-04-30T21:59:00Z");
        let at = "2026-12-31T23:59:00Z";
        check("month", "UTC", at, "2026-12-01T00:00:00Z", "2026-12-31T23:59:00Z");
        check("quarter", "UTC", at, "2026-10-01T00:00:00Z", "2026-12-31T23:59:00Z");
        let at = "2026-02-10T00:00:00Z";
        check("month", "Asia/Kolkata", at, "2026-01-31T18:30:00Z", "2026-02-28T18:29:00Z");
        check("7d", "UTC", at, "2026-02-03T00:01:00Z", "2026-02-10T00:00:00Z");
    }

    #[test]
    fn months_of_a_year_tile_it_in_every_kind_of_zone() {
        for zone in ["UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"] {
            let months = (2011..=2012).flat_map(|y| (1..=12).map(move |m| format!("{y}-{m:02}")));
            let ranges: Vec<_> = months.map(|month| month_range(&month, zone).unwrap()).collect();
            for pair in ranges.windows(2) {
                assert_eq!(pair[0].end().next(), *pair[1].start(), "{zone}");
            }
        }
        // Samoa left out 2011-12-30: its December had 30 days.
        let december = month_range("2011-12", "Pacific/Apia").unwrap();
        assert_eq!(december.end().0 - december.start().0 + 1, 30 * DAY_MINUTES);
    }

    #[test]
    fn other_texts_are_no_month() {
        for text in ["", "2026", "2026-1", "2026-13", "2026-00", "1999-12", "2026/10", "2026-1x"] {
            assert_eq!(month_range(text, "UTC"), Err(PeriodError::Month(text.to_owned())));
        }
        assert_eq!(month_range("2026-10", "x"), Err(PeriodError::Zone("x".to_owned())));
    }
}
