//! The few functions of analysis that synthetic data needs, made of `+ - * /` and `sqrt` alone.
//!
//! IEEE 754 fixes those five to the last bit, while `exp`, `ln` and `pow` of a platform's
//! library differ in theirs: generated data must not depend on the machine. Accuracy is about
//! 1e-14, which is far more than data shapes need.

use super::random::Random;

/// `e^x` for `|x|` up to 600: `x = n ln 2 + r`, a Taylor series for `e^r`, times `2^n`.
pub(crate) fn exp(x: f64) -> f64 {
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = x - n * std::f64::consts::LN_2;
    let series = (1..=16).rev().fold(1.0, |sum, k| 1.0 + r / f64::from(k) * sum);
    series * f64::from_bits(((n as i64 + 1_023) as u64) << 52)
}

/// The natural logarithm of a positive normal number: `x = m 2^e`, and
/// `ln m = 2 (s + s^3/3 + s^5/5 + …)` with `s = (m - 1) / (m + 1)`.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1_023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1_023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..=12).rev().fold(0.0, |sum, k| 1.0 / f64::from(2 * k + 1) + s * s * sum);
    2.0 * s * series + exponent as f64 * std::f64::consts::LN_2
}

/// How many equal steps of probability a [`LogNormal`] knows.
const QUANTILES: usize = 1_024;

/// The largest deviation that is drawn, in standard deviations.
const DEVIATION_MAX: f64 = 4.0;

/// A log-normal factor with median 1, as a table of its quantiles in 1/65536.
///
/// The table comes from summing the normal density in steps of 1/2048 and noting where each
/// 1/1024 of probability is passed; draws interpolate between two entries.
pub(crate) struct LogNormal {
    quantiles: Vec<u64>,
}

impl LogNormal {
    /// With this standard deviation of the logarithm.
    pub(crate) fn new(sigma: f64) -> LogNormal {
        let scaled = |z: &f64| (exp(sigma * z) * 65_536.0) as u64;
        LogNormal { quantiles: normal_quantiles().iter().map(scaled).collect() }
    }

    /// `median` times a random factor.
    #[inline]
    pub(crate) fn draw(&self, median: u64, random: &mut Random) -> u64 {
        let bits = random.bits();
        let (index, within) = ((bits >> 54) as usize, (bits >> 38) & 0xffff);
        let (low, high) = (self.quantiles[index], self.quantiles[index + 1]);
        (median * (low + (((high - low) * within) >> 16))) >> 16
    }
}

/// The normal deviations at probability 0/1024 (cut at -4), 1/1024, …, 1024/1024 (cut at 4).
fn normal_quantiles() -> Vec<f64> {
    const STEP: f64 = 1.0 / 2_048.0;
    let steps = (2.0 * DEVIATION_MAX / STEP) as usize;
    let density: Vec<f64> = (0..steps)
        .map(|step| -DEVIATION_MAX + (step as f64 + 0.5) * STEP)
        .map(|z| exp(-z * z / 2.0))
        .collect();
    let total: f64 = density.iter().sum();
    let mut quantiles = vec![-DEVIATION_MAX];
    let mut sum = 0.0;
    for (step, mass) in density.iter().enumerate() {
        sum += mass;
        if quantiles.len() < QUANTILES && sum * QUANTILES as f64 >= quantiles.len() as f64 * total {
            quantiles.push(-DEVIATION_MAX + (step as f64 + 1.0) * STEP);
        }
    }
    quantiles.push(DEVIATION_MAX);
    assert_eq!(quantiles.len(), QUANTILES + 1, "each step passes at most one quantile");
    quantiles
}

/// A Poisson count of mean `mean`, which is also a binomial one of many trials and few hits.
///
/// Small means by Knuth's product of uniform numbers; from 30 on the normal approximation
/// (mean and variance `mean`), from a sum of twelve uniform numbers.
pub(crate) fn poisson(mean: f64, random: &mut Random) -> u64 {
    if mean >= 30.0 {
        let deviation: f64 = (0..12).map(|_| random.ratio()).sum::<f64>() - 6.0;
        return (mean + mean.sqrt() * deviation).round().max(0.0) as u64;
    }
    let limit = exp(-mean);
    let mut product = random.ratio();
    let mut count = 0;
    while product > limit {
        product *= random.ratio();
        count += 1;
    }
    count
}

/// The daily wave of traffic: 1.5 at 15:00 UTC, 0.5 at 03:00, 1 on average.
///
/// Two arcs of `y²(3 - 2y)`, within 1% of a cosine.
pub(crate) fn daily_wave(ts_ms: i64) -> f64 {
    const DAY_MS: i64 = 86_400_000;
    let from_trough_ms = (ts_ms - 3 * 3_600_000).rem_euclid(DAY_MS);
    let y = 1.0 - (from_trough_ms * 2 - DAY_MS).abs() as f64 / DAY_MS as f64;
    0.5 + y * y * (3.0 - 2.0 * y)
}

/// Draws an index in proportion to its weight, in constant time (Walker's alias method as set
/// up by Vose): a column is either its own index or its alias.
pub(crate) struct Weighted {
    /// Per index: below this of 2^32 it stands for itself; and else for whom.
    columns: Vec<(u32, u32)>,
}

impl Weighted {
    /// For weights that are positive; at most 2^32 of them.
    pub(crate) fn new(weights: &[f64]) -> Weighted {
        let scale = weights.len() as f64 / weights.iter().sum::<f64>();
        let mut heights: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let mut columns: Vec<(u32, u32)> = vec![(u32::MAX, 0); weights.len()];
        for (index, column) in columns.iter_mut().enumerate() {
            column.1 = index as u32;
        }
        let (mut low, mut high): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|index| heights[*index as usize] < 1.0);
        while let (Some(small), Some(tall)) = (low.pop(), high.last().copied()) {
            let height = heights[small as usize];
            columns[small as usize] = ((height * 4_294_967_296.0) as u32, tall);
            heights[tall as usize] -= 1.0 - height;
            if heights[tall as usize] < 1.0 {
                high.pop();
                low.push(tall);
            }
        }
        Weighted { columns }
    }

    /// One index.
    #[inline]
    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let bits = random.bits();
        let index = ((bits >> 32) * self.columns.len() as u64) >> 32;
        let (own, alias) = self.columns[index as usize];
        if (bits as u32) < own { index as usize } else { alias as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_ln_agree_with_the_platform() {
        for step in -2_000..2_000 {
            let x = f64::from(step) / 37.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "{x}");
            let y = f64::from(step + 2_001) * 1.7;
            assert!((ln(y) - y.ln()).abs() < 1e-13, "{y}");
        }
    }

    #[test]
    fn a_log_normal_has_its_median_and_its_tail() {
        let latency = LogNormal::new(0.6);
        let mut random = Random::new(3, 0);
        let mut drawn: Vec<u64> = (0..100_000).map(|_| latency.draw(10_000, &mut random)).collect();
        drawn.sort_unstable();
        // The 99% quantile is exp(0.6 * 2.326) = 4.04 times the median.
        assert!((9_900..10_100).contains(&drawn[50_000]), "{}", drawn[50_000]);
        assert!((39_000..42_000).contains(&drawn[99_000]), "{}", drawn[99_000]);
    }

    #[test]
    fn poisson_counts_have_their_mean_and_variance() {
        let mut random = Random::new(5, 0);
        for mean in [0.0, 0.3, 7.0, 29.0, 45.0, 5_000.0] {
            let drawn: Vec<f64> = (0..20_000).map(|_| poisson(mean, &mut random) as f64).collect();
            let average = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|x| (x - average).powi(2)).sum::<f64>() / 20_000.0;
            assert!((average - mean).abs() <= mean * 0.05, "{mean}: {average}");
            assert!((variance - mean).abs() <= mean * 0.1, "{mean}: {variance}");
        }
    }

    #[test]
    fn the_wave_peaks_in_the_afternoon_and_averages_one() {
        let hour_ms = 3_600_000;
        assert_eq!(daily_wave(15 * hour_ms), 1.5);
        assert_eq!(daily_wave(3 * hour_ms), 0.5);
        let mean = (0..1_440).map(|minute| daily_wave(minute * 60_000)).sum::<f64>() / 1_440.0;
        assert!((mean - 1.0).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn weights_are_drawn_in_proportion() {
        let weighted = Weighted::new(&[1.0, 0.0, 6.0, 3.0]);
        let mut random = Random::new(9, 0);
        let mut counts = [0; 4];
        for _ in 0..100_000 {
            counts[weighted.draw(&mut random)] += 1;
        }
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[1], 0);
        assert!((59_000..61_000).contains(&counts[2]), "{counts:?}");
    }
}
