//! Random numbers that are the same on every machine: SplitMix64 spreads a seed, xoshiro256**
//! draws from it.
//!
//! Both are by Blackman and Vigna (<https://prng.di.unimi.it/>), written out here because a
//! library may change its stream between versions and generated data must not. Only integer
//! operations and exact conversions to `f64` take part.

/// One step of SplitMix64: moves `state` and returns the mixed value.
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A stream of xoshiro256**.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of `seed` that is named by `stream`: streams of one seed are unrelated, so
    /// that more draws in one part of the data do not move another part.
    pub(crate) fn new(seed: u64, stream: u64) -> Random {
        let mut state = seed;
        let mut key = split_mix(&mut state) ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93);
        Random { state: std::array::from_fn(|_| split_mix(&mut key)) }
    }

    /// 64 random bits.
    #[inline]
    pub(crate) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let drawn = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        drawn
    }

    /// A multiple of 2^-53 in `0..1`.
    #[inline]
    pub(crate) fn ratio(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number in `0..limit`; 0 for a limit of 0. Its bias is below `limit / 2^64`.
    #[inline]
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    /// Whether an event of this chance happens.
    #[inline]
    pub(crate) fn hits(&mut self, chance: Chance) -> bool {
        self.bits() >> 11 < chance.0
    }

    /// One of `items`.
    pub(crate) fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// A probability as a threshold on 53 random bits, so that the hot loop compares integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The chance of a ratio; below 0 counts as 0, above 1 as 1.
    pub(crate) fn new(ratio: f64) -> Chance {
        Chance((ratio.clamp(0.0, 1.0) * (1_u64 << 53) as f64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_gives_its_published_values() {
        let mut state = 1_234_567;
        let drawn: [u64; 5] = std::array::from_fn(|_| split_mix(&mut state));
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn xoshiro_gives_its_reference_values() {
        let mut random = Random { state: [1, 2, 3, 4] };
        let drawn: [u64; 8] = std::array::from_fn(|_| random.bits());
        assert_eq!(
            drawn,
            [
                11_520,
                0,
                1_509_978_240,
                1_215_971_899_390_074_240,
                1_216_172_134_540_287_360,
                607_988_272_756_665_600,
                16_172_922_978_634_559_625,
                8_476_171_486_693_032_832,
            ]
        );
    }

    #[test]
    fn a_chance_holds_at_its_ends_and_on_average() {
        let mut random = Random::new(1, 0);
        let mut hits = |ratio| (0..100_000).filter(|_| random.hits(Chance::new(ratio))).count();
        assert_eq!(hits(0.0), 0);
        assert_eq!(hits(1.0), 100_000);
        assert!((24_000..26_000).contains(&hits(0.25)));
    }

    #[test]
    fn streams_of_one_seed_differ() {
        assert_ne!(Random::new(7, 0).bits(), Random::new(7, 1).bits());
        assert_ne!(Random::new(7, 0).bits(), Random::new(8, 0).bits());
    }
}
