//! Numbers, names and times as people read them.
//!
//! Rounding never flatters: availability and budget are cut off towards the worse side, so a
//! text that looks like a kept promise is one. What is not known reads `no data`.

use ninefold_engine::query::body::Window;
use ninefold_engine::time::parse_rfc3339;

/// Stands where nothing was valid.
pub(crate) const NO_DATA: &str = "no data";
/// The most digits behind the point of a percentage.
const DIGITS_MAX: u32 = 7;
/// Within it a time of day is not mistaken for that of another day.
const HALF_DAY_MS: i64 = 43_200_000;

/// `1 - bad / valid` as a percentage, cut off, with at least three digits and one more than
/// the target has; more where the failing share would show fewer than two digits.
pub(crate) fn availability(valid: u64, bad: u64, target: f64) -> String {
    if valid == 0 {
        return NO_DATA.to_owned();
    }
    if bad == 0 {
        return "100%".to_owned();
    }
    let scaled = |part: u64, digits| u128::from(part) * 100 * 10_u128.pow(digits);
    let mut digits = (percent_digits(target) + 1).max(3);
    while digits < DIGITS_MAX && scaled(bad, digits) < 10 * u128::from(valid) {
        digits += 1;
    }
    let cut_off = scaled(valid.saturating_sub(bad), digits) / u128::from(valid);
    let point = 10_u128.pow(digits);
    format!("{}.{:0width$}%", cut_off / point, cut_off % point, width = digits as usize)
}

/// The same for a window that may be missing from an answer.
pub(crate) fn window_availability(window: Option<&Window>, target: f64) -> String {
    window
        .map_or_else(|| NO_DATA.to_owned(), |window| availability(window.valid, window.bad, target))
}

/// `bad <= (1 - target) * valid` in integers; `None` at no traffic.
pub(crate) fn met(valid: u64, bad: u64, target: f64) -> Option<bool> {
    let allowed = u128::from(1_000_000_000 - (target * 1e9).round() as u64);
    (valid > 0).then(|| u128::from(bad) * 1_000_000_000 <= allowed * u128::from(valid))
}

/// A target as it was promised: `99.8%`.
pub(crate) fn target(ratio: f64) -> String {
    format!("{}%", (ratio * 1e9).round() / 1e7)
}

/// How many digits a target has behind the point as a percentage: 1 for 0.998.
fn percent_digits(ratio: f64) -> u32 {
    let text = format!("{}", (ratio * 1e9).round() / 1e7);
    text.split_once('.').map_or(0, |(_, digits)| digits.len() as u32).min(DIGITS_MAX - 1)
}

/// A share of the budget, cut off towards the worse side: `62.3%`, `−140.0%`.
pub(crate) fn left(ratio: Option<f64>) -> String {
    let Some(ratio) = ratio else { return NO_DATA.to_owned() };
    // Counts of a few digits make ratios such as 0.6229999999999999, which are 62.3%.
    let hair = if ratio > 0.0 { 1e-9 } else { 0.0 };
    let tenths = (ratio * 1_000.0 + hair).floor() as i64;
    let sign = if tenths < 0 { "−" } else { "" };
    format!("{sign}{}.{}%", grouped(tenths.unsigned_abs() / 10), tenths.unsigned_abs() % 10)
}

/// A share for text that decides nothing: `94%`, `0.4%`.
pub(crate) fn share(ratio: f64) -> String {
    let percent = ratio * 100.0;
    match percent.abs() {
        0.0 => "0%".to_owned(),
        size if size < 0.01 => "<0.01%".to_owned(),
        size if size < 1.0 => format!("{percent:.2}%"),
        size if size < 10.0 => format!("{percent:.1}%"),
        _ => format!("{percent:.0}%"),
    }
}

/// A burn rate or a lift: `14.4×`.
pub(crate) fn times(rate: Option<f64>) -> String {
    match rate {
        None => NO_DATA.to_owned(),
        Some(0.0) => "0×".to_owned(),
        Some(rate) if rate < 0.01 => "<0.01×".to_owned(),
        Some(rate) if rate < 9.995 => format!("{rate:.2}×"),
        Some(rate) if rate < 99.95 => format!("{rate:.1}×"),
        Some(rate) => format!("{}×", grouped(rate.round() as u64)),
    }
}

/// A factor as it was configured: `14.4×`, `6×`.
pub(crate) fn factor(factor: f64) -> String {
    format!("{}×", (factor * 100.0).round() / 100.0)
}

/// A count in groups of three: `1,234,567`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 customer`, `2 customers`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A length of time in its two largest units: `45 s`, `3 min 5 s`, `2 h 10 min`, `4 d 2 h`.
pub(crate) fn duration(seconds: u64) -> String {
    let (major, minor) = match seconds {
        0..60 => ((seconds, "s"), (0, "")),
        60..3_600 => ((seconds / 60, "min"), (seconds % 60, "s")),
        3_600..86_400 => ((seconds / 3_600, "h"), (seconds % 3_600 / 60, "min")),
        _ => ((seconds / 86_400, "d"), (seconds % 86_400 / 3_600, "h")),
    };
    match minor.0 {
        0 => format!("{} {}", major.0, major.1),
        _ => format!("{} {} {} {}", major.0, major.1, minor.0, minor.1),
    }
}

/// A latency: `12.5 ms`, `1.30 s`.
pub(crate) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => NO_DATA.to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.2} ms"),
        Some(ms) if ms < 100.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 1_000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.2} s", ms / 1_000.0),
    }
}

/// A p-value: `0.012`, `<0.001`.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

/// The time of day of an RFC 3339 time: `23:14`. The text itself where it is none.
pub(crate) fn clock(at: &str) -> String {
    if parse_rfc3339(at.as_bytes()).is_some() { at[11..16].to_owned() } else { at.to_owned() }
}

/// The time of day, with the date where it is half a day or more away from `as_of`:
/// `11-24 23:14`.
pub(crate) fn moment(at: &str, as_of: &str) -> String {
    let ms = |text: &str| parse_rfc3339(text.as_bytes());
    let Some(at_ms) = ms(at) else { return at.to_owned() };
    let is_near = ms(as_of).is_some_and(|as_of_ms| (as_of_ms - at_ms).abs() < HALF_DAY_MS);
    if is_near { clock(at) } else { format!("{} {}", &at[5..10], clock(at)) }
}

/// A name so that all of it can be seen: control characters and those that turn or hide text
/// become symbols, a space at either end becomes `␠`. Markup is the template's part.
pub(crate) fn visible(name: &str) -> String {
    let last = name.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(name.len());
    for (at, character) in name.chars().enumerate() {
        match character {
            '\u{0}'..='\u{1f}' => {
                let symbol = 0x2400 + u32::from(character);
                text.push(char::from_u32(symbol).expect("U+2400 to U+241F are characters"));
            }
            '\u{7f}' => text.push('␡'),
            ' ' if at == 0 || at == last => text.push('␠'),
            hidden if is_hidden(hidden) => text.push_str(&format!("⟨U+{:04X}⟩", hidden as u32)),
            plain => text.push(plain),
        }
    }
    text
}

/// Whether a character shows as nothing, or changes how its neighbours show.
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// The address of a customer's page: one segment. `None` for `.` and `..`, which every browser
/// takes as steps in the path, escaped or not.
pub(crate) fn href(customer: &str) -> Option<String> {
    let is_step = matches!(customer, "." | "..");
    (!is_step).then(|| format!("/customers/{}", escaped(customer)))
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_never_looks_better_than_it_is() {
        for (valid, bad, target, expect) in [
            (0, 0, 0.998, "no data"),
            (1_000, 0, 0.998, "100%"),
            (1_000, 2, 0.998, "99.800%"),
            (1_000_000, 2_001, 0.998, "99.799%"),
            (100_000_000, 200_001, 0.998, "99.799%"),
            (482, 2, 0.998, "99.585%"),
            (10_000_000, 1, 0.998, "99.999990%"),
            (u64::MAX, 1, 0.998, "99.9999999%"),
            (1_000_000, 51, 0.9995, "99.9949%"),
            (10, 10, 0.998, "0.000%"),
            (2_000_000, 1, 0.99995, "99.999950%"),
        ] {
            assert_eq!(availability(valid, bad, target), expect, "{valid} {bad} {target}");
        }
    }

    #[test]
    fn a_promise_met_to_the_request_is_met() {
        assert_eq!(met(1_000, 2, 0.998), Some(true));
        assert_eq!(met(999, 2, 0.998), Some(false));
        assert_eq!(met(0, 0, 0.998), None);
        assert_eq!(met(u64::MAX, u64::MAX / 1_000, 0.999), Some(true));
    }

    #[test]
    fn what_is_left_is_cut_off_towards_the_worse_side() {
        for (ratio, expect) in [
            (Some(0.623), "62.3%"),
            (Some(0.0009), "0.0%"),
            (Some(0.0), "0.0%"),
            (Some(-0.0004), "−0.1%"),
            (Some(-1.4), "−140.0%"),
            (Some(1.0), "100.0%"),
            (None, "no data"),
        ] {
            assert_eq!(left(ratio), expect, "{ratio:?}");
        }
    }

    #[test]
    fn rates_and_lengths_keep_their_first_digits() {
        assert_eq!(times(Some(14.4)), "14.4×");
        assert_eq!(times(Some(0.004)), "<0.01×");
        assert_eq!(times(Some(9.996)), "10.0×");
        assert_eq!(times(Some(500.0)), "500×");
        assert_eq!(factor(14.4), "14.4×");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(185), "3 min 5 s");
        assert_eq!(duration(7_200), "2 h");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
    }

    #[test]
    fn nothing_in_a_name_stays_hidden() {
        assert_eq!(visible("a\nb"), "a␊b");
        assert_eq!(visible("\u{202e}evil"), "⟨U+202E⟩evil");
        assert_eq!(visible(" a b "), "␠a b␠");
        assert_eq!(visible("Zoë 東京"), "Zoë 東京");
    }

    #[test]
    fn a_customer_is_one_segment() {
        assert_eq!(href("a/b?c#d").as_deref(), Some("/customers/a%2Fb%3Fc%23d"));
        assert_eq!(href("../../etc").as_deref(), Some("/customers/..%2F..%2Fetc"));
        assert_eq!(href("é\n").as_deref(), Some("/customers/%C3%A9%0A"));
        assert_eq!(href(".."), None);
    }
}
