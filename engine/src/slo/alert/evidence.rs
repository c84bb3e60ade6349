//! The exact binomial tail: how likely so many failures are if the promise is just kept.
//!
//! `P(X >= bad | valid, p)` for X binomial equals the regularised incomplete beta function
//! `I_p(bad, valid - bad + 1)` (DLMF 8.17.5). It is computed as
//! `pmf(bad) * (1 - p) * 1 / (1 + d1 / (1 + d2 / (1 + …)))` by the continued fraction of
//! DLMF 8.17.22, evaluated with the modified Lentz method; at or below the mean, where that
//! converges slowly, as 1 minus the other tail.
//!
//! The mass `pmf` comes from Loader's saddle-point form (C. Loader, "Fast and accurate
//! computation of binomial probabilities", 2000): differences of log-gammas would lose 3 digits
//! for each factor of 1,000 in `valid`, this form loses none up to 10^12 and beyond. A tail
//! below 10^-308 comes out as 0.

use std::f64::consts::PI;

/// `P(X >= bad)` for X binomial with `valid` trials of probability `ratio`.
///
/// 1 for `bad` 0, 0 for `bad` above `valid`; a ratio at or below 0 makes any failure impossible,
/// one at or above 1 makes all certain.
///
/// ```
/// use ninefold_engine::slo::alert::evidence::binomial_tail;
/// // One failure in eight at 99.8%: 1 - 0.998^8.
/// assert!((binomial_tail(1, 8, 0.002) - 0.015_888).abs() < 1e-6);
/// ```
pub fn binomial_tail(bad: u64, valid: u64, ratio: f64) -> f64 {
    if bad == 0 || (ratio >= 1.0 && bad <= valid) {
        return 1.0;
    }
    if bad > valid || ratio <= 0.0 {
        return 0.0;
    }
    let (a, b) = (bad as f64, (valid - bad) as f64 + 1.0);
    if ratio < (a + 1.0) / (a + b + 2.0) {
        mass(bad, valid, ratio) * (1.0 - ratio) * fraction(a, b, ratio)
    } else {
        let below = mass(bad - 1, valid, ratio) * ratio * fraction(b, a, 1.0 - ratio);
        1.0 - below
    }
}

/// `P(X = bad)`, for `0 < ratio < 1` and `bad <= valid`.
fn mass(bad: u64, valid: u64, ratio: f64) -> f64 {
    let (k, n) = (bad as f64, valid as f64);
    if bad == 0 {
        return (n * (-ratio).ln_1p()).exp();
    }
    if bad == valid {
        return (n * ratio.ln()).exp();
    }
    let good = n - k;
    let stirling = stirling_error(n) - stirling_error(k) - stirling_error(good);
    let deviance = deviance(k, n * ratio) + deviance(good, n * (1.0 - ratio));
    (stirling - deviance).exp() * (n / (2.0 * PI * k * good)).sqrt()
}

/// `ln n! - ln(sqrt(2 pi n) (n / e)^n)`, for whole `n >= 1`.
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        let ln_factorial: f64 = (2..=n as u32).map(|k| f64::from(k).ln()).sum();
        return ln_factorial - 0.5 * (2.0 * PI * n).ln() - n * n.ln() + n;
    }
    let square = n * n;
    let inner = 1.0 / 1_260.0 - (1.0 / 1_680.0 - 1.0 / 1_188.0 / square) / square;
    (1.0 / 12.0 - (1.0 / 360.0 - inner / square) / square) / n
}

/// `x ln(x / mean) + mean - x`, without the cancellation near the mean.
fn deviance(x: f64, mean: f64) -> f64 {
    let gap = x - mean;
    if gap.abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() + mean - x;
    }
    // With v = gap / (x + mean): ln(x / mean) = 2 (v + v^3 / 3 + v^5 / 5 + …).
    let v = gap / (x + mean);
    let mut sum = gap * v;
    let mut power = 2.0 * x * v;
    for odd in (3..).step_by(2) {
        power *= v * v;
        let next = sum + power / f64::from(odd);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// The continued fraction of DLMF 8.17.22 for `I_x(a, b)`. For `x < (a + 1) / (a + b + 2)` it
/// takes few terms away from the mean and a few times `sqrt(a)` near it.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    const TERMS_MAX: u32 = 10_000_000;
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for term in 1..TERMS_MAX {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        result *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        result *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tail term by term, from the mass of `bad` by the ratio of neighbours; the first mass
    /// by multiplying out `C(n, k) p^k q^(n-k)` in logarithms.
    fn summed(bad: u64, valid: u64, ratio: f64) -> f64 {
        let (n, p) = (valid as f64, ratio);
        let mut ln_mass = n * (-p).ln_1p();
        let mut masses = vec![ln_mass.exp()];
        for k in 1..=valid {
            ln_mass += ((n - k as f64 + 1.0) / k as f64).ln() + p.ln() - (-p).ln_1p();
            masses.push(ln_mass.exp());
        }
        masses[bad as usize..].iter().rev().sum()
    }

    fn near(found: f64, expect: f64, tolerance: f64) {
        assert!((found - expect).abs() <= tolerance * expect, "{found:e} {expect:e}");
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(binomial_tail(0, 10, 0.002), 1.0);
        assert_eq!(binomial_tail(0, 0, 0.002), 1.0);
        assert_eq!(binomial_tail(1, 0, 0.002), 0.0);
        assert_eq!(binomial_tail(11, 10, 0.002), 0.0);
        assert_eq!(binomial_tail(1, 10, 0.0), 0.0);
        assert_eq!(binomial_tail(10, 10, 1.0), 1.0);
        near(binomial_tail(10, 10, 0.5), 0.5_f64.powi(10), 1e-13);
        near(binomial_tail(3, 3, 0.002), 8e-9, 1e-13);
        near(binomial_tail(1, 1_000_000, 1e-9), -(1e6 * (-1e-9_f64).ln_1p()).exp_m1(), 1e-12);
    }

    #[test]
    fn large_counts_agree_with_the_poisson_and_the_normal_limit() {
        // Ten expected of 10^12 at p = 10^-11: Poisson with mean 10, P(X >= 20) by summation.
        let mut mass = (-10.0_f64).exp();
        let mut below = 0.0;
        for k in 0..20 {
            below += mass;
            mass *= 10.0 / f64::from(k + 1);
        }
        near(binomial_tail(20, 1_000_000_000_000, 1e-11), 1.0 - below, 1e-9);
        // At the mean of 2 * 10^9 the tail is a half, and 3.0902 deviations above it 0.001.
        let (valid, ratio) = (1_000_000_000_000_u64, 0.002);
        near(binomial_tail(2_000_000_000, valid, ratio), 0.5, 1e-4);
        let deviation = (2e9_f64 * 0.998).sqrt();
        let above = 2_000_000_000 + (3.090_232 * deviation) as u64;
        near(binomial_tail(above, valid, ratio), 0.001, 1e-3);
    }

    proptest! {
        #[test]
        fn the_tail_is_the_sum_of_its_terms(
            valid in 1..1_500_u64,
            share in 0.0..1.0_f64,
            ratio in prop_oneof![1e-6..0.01_f64, 0.01..0.99_f64],
        ) {
            let bad = (share * share * valid as f64) as u64;
            let (found, expect) = (binomial_tail(bad, valid, ratio), summed(bad, valid, ratio));
            let close = (found - expect).abs() <= 1e-9 * expect + 1e-290;
            prop_assert!(close, "{} of {} at {}: {:e} {:e}", bad, valid, ratio, found, expect);
        }
    }
}
