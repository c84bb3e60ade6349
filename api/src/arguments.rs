//! The arguments of a request: query keys, times, steps, limits.
//!
//! Strict on purpose: an unknown key, a repeated one or an empty value is refused by name, so
//! that a typing error never reads as "no filter". Times are RFC 3339 or epoch milliseconds and
//! round down to their minute.

use axum::extract::Query;
use axum::http::Uri;
use ninefold_engine::model::CUSTOMER_BYTES_MAX;
use ninefold_engine::query::{AskError, Basis, By};
use ninefold_engine::time::{DAY_MINUTES, Minute, TS_MS_END, TS_MS_MIN, parse_rfc3339};

use crate::problem::Problem;

/// The most rows one answer lists.
pub(crate) const LIMIT_MAX: usize = 1_000;
/// The rows one answer lists unless told.
pub(crate) const LIMIT_DEFAULT: usize = 50;
/// The longest range of a question: 400 days, so that a year and a month fit.
pub(crate) const RANGE_MINUTES_MAX: u32 = 400 * DAY_MINUTES;
/// The longest range whose causes are searched: every candidate is counted for every minute.
pub(crate) const IMPACT_MINUTES_MAX: u32 = 31 * DAY_MINUTES;
/// The most transitions of alerts in one answer.
pub(crate) const ALERTS_MAX: usize = 10_000;
/// The most steps of one time series: a week by minutes.
pub(crate) const STEPS_MAX: u32 = 7 * DAY_MINUTES;
/// Texts other than customers: names of zones and services, cursors.
const TEXT_BYTES_MAX: usize = 1_024;
/// What every time takes, for the details of problems.
const TIME_FORM: &str = "takes a time such as 2026-11-01T00:00:00Z, or epoch milliseconds";

/// The query of one request, checked to hold known keys only.
#[derive(Debug)]
pub(crate) struct Arguments {
    pairs: Vec<(String, String)>,
}

impl Arguments {
    /// Reads the query of `uri`, in which only `known` keys may stand, each once.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Result<Arguments, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::argument("query", error.body_text()))?;
        for (at, (key, value)) in pairs.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(Problem::argument(key, unknown_key(known)));
            }
            if pairs[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(Problem::argument(key, "given twice; takes one value"));
            }
            if value.is_empty() {
                return Err(Problem::argument(key, "empty; leave the key out or give a value"));
            }
        }
        Ok(Arguments { pairs })
    }

    /// The value of `key` as it is, at most 1,024 bytes.
    pub(crate) fn text(&self, key: &'static str) -> Result<Option<String>, Problem> {
        match self.get(key) {
            Some(text) if text.len() > TEXT_BYTES_MAX => Err(Problem::argument(
                key,
                format!("{} bytes long; takes at most {TEXT_BYTES_MAX}", text.len()),
            )),
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// The minute that holds the time at `key`.
    pub(crate) fn minute(&self, key: &'static str) -> Result<Option<Minute>, Problem> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let Some(ts_ms) = time_ms(text) else {
            return Err(Problem::argument(key, format!("{text:?} is no time; {TIME_FORM}")));
        };
        if !(TS_MS_MIN..TS_MS_END).contains(&ts_ms) {
            return Err(Problem::argument(
                key,
                format!("{text:?} is out of range; takes the years 2000 to 2100"),
            ));
        }
        Ok(Some(Minute::of_ms(ts_ms)))
    }

    /// `from` and `to`, both needed, both included, at most `minutes_max` apart.
    pub(crate) fn range(&self, minutes_max: u32) -> Result<(Minute, Minute), Problem> {
        let missing = |key| Problem::argument(key, format!("missing; {TIME_FORM}"));
        let from = self.minute("from")?.ok_or_else(|| missing("from"))?;
        let to = self.minute("to")?.ok_or_else(|| missing("to"))?;
        check_range(from, to, minutes_max)?;
        Ok((from, to))
    }

    /// `from` and `to` where either may be open.
    pub(crate) fn open_range(&self) -> Result<(Option<Minute>, Option<Minute>), Problem> {
        let (from, to) = (self.minute("from")?, self.minute("to")?);
        if let (Some(from), Some(to)) = (from, to) {
            check_range(from, to, RANGE_MINUTES_MAX)?;
        }
        Ok((from, to))
    }

    /// `step` in minutes for a range of `minutes`. Without it: one minute up to a day, one hour
    /// up to 60 days, one day beyond, so that a chart has some 1,500 steps at most.
    pub(crate) fn step_minutes(&self, minutes: u32) -> Result<u32, Problem> {
        let step = match self.get("step") {
            None if minutes <= DAY_MINUTES => 1,
            None if minutes <= 60 * DAY_MINUTES => 60,
            None => DAY_MINUTES,
            Some(text) => step_of(text).ok_or_else(|| {
                Problem::argument("step", format!("{text:?}; takes 1m to 30d: 5m, 1h, 1d"))
            })?,
        };
        let steps = minutes.div_ceil(step);
        if steps > STEPS_MAX {
            return Err(Problem::argument(
                "step",
                format!("{steps} steps of {step} min; takes at most {STEPS_MAX} in one answer"),
            ));
        }
        Ok(step)
    }

    /// `limit`: 1 to 1,000, 50 by default.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(LIMIT_DEFAULT) };
        let takes = || Problem::argument("limit", format!("{text:?}; takes 1 to {LIMIT_MAX}"));
        let limit = text.parse().map_err(|_| takes())?;
        if (1..=LIMIT_MAX).contains(&limit) { Ok(limit) } else { Err(takes()) }
    }

    /// `sort`: `burn` by default.
    pub(crate) fn sort(&self) -> Result<By, Problem> {
        let all =
            [("burn", By::Burn), ("budget", By::Budget), ("bad", By::Bad), ("valid", By::Valid)];
        self.one_of("sort", &all)
    }

    /// `basis`: `live` by default.
    pub(crate) fn basis(&self) -> Result<Basis, Problem> {
        self.one_of("basis", &[("live", Basis::Live), ("settled", Basis::Settled)])
    }

    /// The value that the word at `key` stands for; the first one where it is absent.
    pub(crate) fn one_of<T: Copy>(
        &self,
        key: &'static str,
        all: &[(&str, T)],
    ) -> Result<T, Problem> {
        let Some(text) = self.get(key) else { return Ok(all[0].1) };
        all.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = all.iter().map(|(word, _)| *word).collect();
            Problem::argument(key, format!("{text:?}; takes {}", words.join(", ")))
        })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

/// A customer from a path or a query, taken as it is.
pub(crate) fn customer(name: String) -> Result<String, Problem> {
    if name.is_empty() || name.len() > CUSTOMER_BYTES_MAX {
        let problem =
            format!("{} bytes long; a customer has 1 to {CUSTOMER_BYTES_MAX}", name.len());
        return Err(Problem::argument("customer", problem));
    }
    Ok(name)
}

/// A calendar month, `2026-10`.
pub(crate) fn month(text: &str) -> Result<String, Problem> {
    let takes = || Problem::argument("month", format!("{text:?}; takes a month such as 2026-10"));
    let (year, month) = text.split_once('-').ok_or_else(takes)?;
    let is_number =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    let year_fits = is_number(year, 4) && ("2000"..="2100").contains(&year);
    let month_fits = is_number(month, 2) && ("01"..="12").contains(&month);
    if year_fits && month_fits { Ok(text.to_owned()) } else { Err(takes()) }
}

/// What to say of a key that is not among `known`.
fn unknown_key(known: &[&str]) -> String {
    match known {
        [] => "unknown key; this route takes none".to_owned(),
        known => format!("unknown key; this route takes {}", known.join(", ")),
    }
}

pub(crate) fn check_range(from: Minute, to: Minute, minutes_max: u32) -> Result<(), Problem> {
    if to < from {
        return Err(Problem::argument("to", format!("{to} is before from, {from}")));
    }
    let minutes = to.0 - from.0 + 1;
    if minutes > minutes_max {
        let days = minutes_max / DAY_MINUTES;
        let problem = format!("{minutes} minutes after from; takes a range of at most {days} days");
        return Err(Problem::argument("to", problem));
    }
    Ok(())
}

/// Refuses an answer of more rows than one may have: leaving some out would read as fewer.
pub(crate) fn check_rows(rows: usize, rows_max: usize) -> Result<(), AskError> {
    if rows <= rows_max {
        return Ok(());
    }
    let problem =
        format!("{rows} rows in this range; takes one of at most {rows_max}: ask for less time");
    Err(AskError::Argument { field: "from", problem })
}

/// Epoch milliseconds, or RFC 3339.
///
/// A `+` that a caller did not escape reaches us as a space; the only place where it can have
/// stood is the offset, so it is put back there.
fn time_ms(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let restored: Vec<u8> = text
        .bytes()
        .enumerate()
        .map(|(at, byte)| if byte == b' ' && at >= 19 { b'+' } else { byte })
        .collect();
    parse_rfc3339(&restored)
}

/// A step in minutes: a number and `m`, `h` or `d`, at most 30 days.
fn step_of(text: &str) -> Option<u32> {
    let unit_minutes = match text.as_bytes().last()? {
        b'm' => 1,
        b'h' => 60,
        b'd' => DAY_MINUTES,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let step = number.parse::<u32>().ok()?.checked_mul(unit_minutes)?;
    (1..=30 * DAY_MINUTES).contains(&step).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_minute(text: &str, expect: Option<&str>) {
        let uri: Uri = format!("/?at={text}").parse().expect("a uri");
        let minute = Arguments::read(&uri, &["at"]).and_then(|arguments| arguments.minute("at"));
        assert_eq!(minute.ok().flatten().map(|minute| minute.to_string()).as_deref(), expect);
    }

    #[test]
    fn times_round_down_to_their_minute() {
        check_minute("2026-11-01T00:00:59.999Z", Some("2026-11-01T00:00:00Z"));
        check_minute("1793491259999", Some("2026-11-01T00:00:00Z"));
        check_minute("2026-11-01T02:00:00%2B02:00", Some("2026-11-01T00:00:00Z"));
        check_minute("2026-11-01T02:00:00+02:00", Some("2026-11-01T00:00:00Z"));
        check_minute("2026-11-01+02:00:00Z", Some("2026-11-01T02:00:00Z"));
    }

    #[test]
    fn other_times_are_refused() {
        for text in ["now", "-1", "0", "4133980800000", "2026-11-01", "99999999999999999999"] {
            check_minute(text, None);
        }
    }

    #[test]
    fn an_answer_of_too_many_rows_is_refused_whole() {
        assert_eq!(check_rows(10, 10).map_err(Problem::from), Ok(()));
        let refused = Problem::from(check_rows(11, 10).expect_err("one too many"));
        assert_eq!(refused.field.as_deref(), Some("from"));
    }

    #[test]
    fn steps_have_a_unit_and_bounds() {
        let cases = [
            ("1m", Some(1)),
            ("90m", Some(90)),
            ("2h", Some(120)),
            ("30d", Some(43_200)),
            ("31d", None),
            ("0m", None),
            ("5", None),
            ("m", None),
            ("+5m", None),
            ("5µ", None),
            ("99999999999d", None),
        ];
        for (text, expect) in cases {
            assert_eq!(step_of(text), expect, "{text}");
        }
    }

    #[test]
    fn months_are_spelled_with_all_digits() {
        for (text, expect) in [
            ("2026-10", true),
            ("2026-13", false),
            ("2026-00", false),
            ("2026-1", false),
            ("26-10", false),
            ("2026-10-01", false),
            ("1999-12", false),
            ("../../x", false),
        ] {
            assert_eq!(month(text).is_ok(), expect, "{text}");
        }
    }
}
