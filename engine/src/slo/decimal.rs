//! Exact decimals for targets and factors, and the integer comparisons on them.
//!
//! Targets are no binary fractions: `1.0 - 0.9` is 0.09999999999999998 in an `f64`, so 1 bad of
//! 10 would miss a promise of 90% that it meets. A [`Decimal`] keeps the digits that were
//! written; comparisons multiply crosswise in `u128` and never round.
//!
//! Invariants: `scale <= 9` and `units <= 10^9 * 10^scale`. Hence `units < 2^60` and a product
//! with a 64-bit count is below `2^124`: no comparison here can overflow.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::model::Counts;

/// How many digits may stand behind the point.
pub const SCALE_MAX: u8 = 9;
/// The largest whole part.
const WHOLE_MAX: u64 = 1_000_000_000;

/// An exact decimal in 0..=10^9 with at most 9 digits after the point: `value = units / 10^scale`.
///
/// Equal values are equal however they were written: `0.50` is `0.5`.
///
/// ```
/// use ninefold_engine::slo::decimal::Decimal;
/// let target = Decimal::parse("0.998").unwrap();
/// assert_eq!((target.units, target.scale), (998, 3));
/// assert_eq!(target.complement().unwrap().to_string(), "0.002");
/// assert_eq!(Decimal::from_f64_shortest(0.998).unwrap(), target);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    /// The number without its point.
    pub units: u64,
    /// How many digits stand behind the point, at most 9.
    pub scale: u8,
}

/// Why a text or a number is no [`Decimal`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Something other than digits with at most one point among them.
    #[error("{0:?} is not a plain decimal; write digits such as 0.998")]
    NotDecimal(String),
    /// More digits than are kept exactly.
    #[error("{0:?} has more than 9 digits after the point")]
    TooManyDigits(String),
    /// Out of range.
    #[error("{0:?} is above 1000000000")]
    TooLarge(String),
}

impl Decimal {
    /// Zero.
    pub const ZERO: Decimal = Decimal { units: 0, scale: 0 };
    /// One.
    pub const ONE: Decimal = Decimal { units: 1, scale: 0 };

    /// Reads digits with at most one point among them; digits stand on both sides of it.
    /// Trailing zeros after the point are dropped.
    ///
    /// # Errors
    /// A sign, an exponent, a space or no digit at all; more than 9 digits after the point
    /// (zeros at the end aside); above 10^9.
    pub fn parse(text: &str) -> Result<Decimal, DecimalError> {
        let not_decimal = || DecimalError::NotDecimal(text.to_owned());
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(not_decimal()),
            Some((whole, fraction)) => (whole, fraction),
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(not_decimal());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > usize::from(SCALE_MAX) {
            return Err(DecimalError::TooManyDigits(text.to_owned()));
        }
        let too_large = || DecimalError::TooLarge(text.to_owned());
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let behind: u64 = if fraction.is_empty() { 0 } else { fraction.parse().expect("digits") };
        if whole > WHOLE_MAX || (whole == WHOLE_MAX && behind > 0) {
            return Err(too_large());
        }
        let scale = fraction.len() as u8;
        Ok(Decimal { units: whole * power_of_ten(scale) + behind, scale })
    }

    /// The decimal that a person wrote to get this `f64`: its shortest text that reads back as
    /// the same number. This is how a number of a TOML file becomes exact again.
    ///
    /// # Errors
    /// As [`Decimal::parse`]: negative, not finite, too long or too large.
    pub fn from_f64_shortest(value: f64) -> Result<Decimal, DecimalError> {
        // `Display` of an `f64` writes the shortest round-trip digits and never an exponent.
        Decimal::parse(&value.to_string())
    }

    /// `1 - self`; `None` where that is negative.
    pub fn complement(self) -> Option<Decimal> {
        let units = power_of_ten(self.scale).checked_sub(self.units)?;
        Some(Decimal { units, scale: self.scale }.normal())
    }

    /// The nearest `f64`, for answers; nothing is decided by it.
    pub fn to_f64(self) -> f64 {
        // Both are integers below 2^60. The division rounds once where they are below 2^53,
        // which holds for every target (units <= 10^9).
        self.units as f64 / power_of_ten(self.scale) as f64
    }

    /// Whether `0 < self < 1`, as a target has to be.
    pub fn is_target(self) -> bool {
        self.units > 0 && self.units < power_of_ten(self.scale)
    }

    /// Without trailing zeros after the point.
    fn normal(self) -> Decimal {
        let Decimal { mut units, mut scale } = self;
        while scale > 0 && units.is_multiple_of(10) {
            units /= 10;
            scale -= 1;
        }
        Decimal { units, scale }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Decimal) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> std::cmp::Ordering {
        let left = u128::from(self.units) * u128::from(power_of_ten(other.scale));
        left.cmp(&(u128::from(other.units) * u128::from(power_of_ten(self.scale))))
    }
}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Decimal { units, scale } = self.normal();
        (units, scale).hash(state);
    }
}

impl fmt::Display for Decimal {
    /// Writes `0.998`, without zeros at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decimal { units, scale } = self.normal();
        let ten = power_of_ten(scale);
        if scale == 0 {
            return write!(f, "{units}");
        }
        write!(f, "{}.{:0width$}", units / ten, units % ten, width = usize::from(scale))
    }
}

/// A positive exact ratio, for burn-rate factors: 10% of 7 days over 3 days is 7/30, which no
/// decimal holds.
///
/// Invariants: in lowest terms, denominator 1..=10^9, numerator at most 10^18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Factor {
    numerator: u64,
    denominator: u64,
}

impl Factor {
    /// `numerator / denominator` in lowest terms; `None` where the denominator is 0 or they
    /// leave the bounds of the type.
    pub fn new(numerator: u64, denominator: u64) -> Option<Factor> {
        let divisor = gcd(numerator, denominator);
        if denominator == 0 {
            return None;
        }
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        let fits = denominator <= WHOLE_MAX && numerator <= WHOLE_MAX * WHOLE_MAX;
        fits.then_some(Factor { numerator, denominator })
    }

    /// The nearest `f64`, for answers.
    pub fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// Whether the factor is below 1: such a tier would fire within the budget.
    pub fn is_below_one(self) -> bool {
        self.numerator < self.denominator
    }

    /// The error ratio at which this burn rate is reached, `factor * (1 - target)`, as a
    /// fraction; both parts below 2^98.
    fn error_ratio(self, target: Decimal) -> (u128, u128) {
        let ten = power_of_ten(target.scale);
        let allowed = ten.saturating_sub(target.units);
        let numerator = u128::from(self.numerator) * u128::from(allowed);
        (numerator, u128::from(self.denominator) * u128::from(ten))
    }

    /// Whether an error ratio of 1 reaches this burn rate: `factor * (1 - target) <= 1`. A tier
    /// for which it does not can never fire.
    pub fn is_reachable(self, target: Decimal) -> bool {
        let (numerator, denominator) = self.error_ratio(target);
        numerator <= denominator
    }
}

impl From<Decimal> for Factor {
    fn from(decimal: Decimal) -> Factor {
        Factor::new(decimal.units, power_of_ten(decimal.scale)).expect("a decimal is in bounds")
    }
}

/// Whether the promise is kept: `bad <= (1 - target) * valid`, in integers; `None` where
/// nothing was valid.
///
/// ```
/// use ninefold_engine::slo::decimal::{met, Decimal};
/// let target = Decimal::parse("0.998").unwrap();
/// assert_eq!(met(target, 1_000, 2), Some(true)); // exactly at the budget
/// assert_eq!(met(target, 482, 2), Some(false));
/// assert_eq!(met(target, 0, 0), None);
/// ```
pub fn met(target: Decimal, valid: u64, bad: u64) -> Option<bool> {
    if valid == 0 {
        return None;
    }
    let ten = power_of_ten(target.scale);
    let allowed = u128::from(ten.saturating_sub(target.units)) * u128::from(valid);
    Some(u128::from(bad) * u128::from(ten) <= allowed)
}

/// Whether the burn rate of `counts` is at least `factor`: `bad / valid >= factor * (1 - target)`,
/// in integers. Where nothing was valid nothing burns.
///
/// 29 bad of 1,000 at 99.8% burn at 14.5: at least 14.4; 28 do not (14.0).
pub fn burn_at_least(counts: Counts, target: Decimal, factor: Factor) -> bool {
    let (numerator, denominator) = factor.error_ratio(target);
    // Above 1 no error ratio reaches it; up to 1 the numerator is at most the denominator,
    // which is at most 10^18 < 2^60, so that both products stay below 2^124.
    if counts.valid == 0 || numerator > denominator {
        return false;
    }
    u128::from(counts.bad) * denominator >= numerator * u128::from(counts.valid)
}

/// `10^scale`.
///
/// # Panics
/// If `scale` is above 9, which breaks the invariant of [`Decimal`].
pub(crate) fn power_of_ten(scale: u8) -> u64 {
    assert!(scale <= SCALE_MAX, "a decimal has at most 9 digits after the point");
    10_u64.pow(u32::from(scale))
}

/// The greatest common divisor; that of 0 and x is x.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn plain_decimals_read_exactly_and_print_as_written() {
        let check = |text: &str, units: u64, scale: u8| {
            let value = decimal(text);
            assert_eq!((value.units, value.scale), (units, scale), "{text}");
        };
        check("0.998", 998, 3);
        check("0.9980", 998, 3);
        check("14.4", 144, 1);
        check("00.5", 5, 1);
        check("0", 0, 0);
        check("1000000000", 1_000_000_000, 0);
        check("999999999.999999999", 999_999_999_999_999_999, 9);
        for text in ["0.998", "14.4", "0", "1", "50", "0.000000001", "10.05"] {
            assert_eq!(decimal(text).to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", " 1", "0,5", "1.2.3", "NaN", "٣"] {
            let expected = DecimalError::NotDecimal(text.to_owned());
            assert_eq!(Decimal::parse(text), Err(expected), "{text}");
        }
        assert!(matches!(Decimal::parse("0.9999999999"), Err(DecimalError::TooManyDigits(_))));
        assert!(matches!(Decimal::parse("1000000000.1"), Err(DecimalError::TooLarge(_))));
        assert!(matches!(Decimal::parse(&"9".repeat(99)), Err(DecimalError::TooLarge(_))));
        assert!(Decimal::from_f64_shortest(f64::NAN).is_err());
        assert!(Decimal::from_f64_shortest(-0.5).is_err());
        assert!(Decimal::from_f64_shortest(0.1 + 0.2).is_err(), "17 digits were never written");
    }

    #[test]
    fn a_promise_at_the_edge_is_kept_where_floats_would_break_it() {
        let target: f64 = "0.9".parse().unwrap();
        assert!((1.0 - target) * 10.0 < 1.0, "floats do not hold the edge");
        assert_eq!(met(decimal("0.998"), 1_000, 2), Some(true));
        assert_eq!(met(decimal("0.998"), 1_000, 3), Some(false));
        assert_eq!(met(decimal("0.9"), 10, 1), Some(true));
        assert_eq!(met(decimal("0.999999999"), u64::MAX, 18_446_744_073), Some(true));
        assert_eq!(met(decimal("0.999999999"), u64::MAX, 18_446_744_074), Some(false));
    }

    #[test]
    fn burn_rates_compare_exactly_at_the_factor() {
        let check = |valid: u64, bad: u64, factor: &str, expect: bool| {
            let counts = Counts { valid, bad, excluded: 0 };
            let factor = Factor::from(decimal(factor));
            assert_eq!(burn_at_least(counts, decimal("0.998"), factor), expect, "{valid} {bad}");
        };
        check(10_000, 288, "14.4", true);
        check(10_000, 287, "14.4", false);
        check(1_000, 29, "14.4", true);
        check(1_000, 28, "14.4", false);
        check(0, 0, "14.4", false);
        check(u64::MAX, u64::MAX, "500", true);
        check(u64::MAX, u64::MAX, "500.000000001", false);
        let third = Factor::new(7, 30).unwrap();
        let counts = Counts { valid: 15_000, bad: 7, excluded: 0 };
        assert!(burn_at_least(counts, decimal("0.998"), third));
        assert!(!burn_at_least(Counts { bad: 6, ..counts }, decimal("0.998"), third));
    }

    proptest! {
        #[test]
        fn text_and_number_round_trip(units in 0..=10_u64.pow(15), scale in 0..=9_u8) {
            let value = Decimal { units: units % 10_u64.pow(9 + u32::from(scale)), scale };
            prop_assert_eq!(decimal(&value.to_string()), value);
            if value.units < 1 << 53 {
                prop_assert_eq!(Decimal::from_f64_shortest(value.to_f64()).unwrap(), value);
            }
        }

        #[test]
        fn complement_twice_is_the_same(units in 0..=1_000_000_000_u64) {
            let value = Decimal { units, scale: 9 };
            let back = value.complement().unwrap().complement().unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
