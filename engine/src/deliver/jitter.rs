//! Random numbers for backoffs, from a seed, so that a simulated run can be repeated.

/// A `SplitMix64` generator: small, and good enough to spread retries.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A generator whose numbers follow from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number from `0.0..1.0`.
    pub fn next_fraction(&mut self) -> f64 {
        /// 53 bits, which is what a float holds exactly.
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next_bits() >> 11) as f64 * SCALE
    }

    /// Another generator, whose numbers follow from this one's.
    #[must_use]
    pub const fn split(&mut self) -> Self {
        Self(self.next_bits())
    }

    /// The next 64 bits.
    pub const fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::Jitter;

    #[test]
    fn fractions_follow_from_the_seed_and_spread() {
        let (mut one, mut same) = (Jitter::new(7), Jitter::new(7));
        let drawn: Vec<f64> = (0..1_000).map(|_| one.next_fraction()).collect();
        assert!(drawn.iter().all(|&x| (0.0..1.0).contains(&x) && same.next_fraction().eq(&x)));
        let mean = drawn.iter().sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
