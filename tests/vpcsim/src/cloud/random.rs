//! Seeded randomness: same seed, same run.

/// Xoshiro256** seeded by SplitMix64.
///
/// Source: Blackman & Vigna, "Scrambled Linear Pseudorandom Number Generators" (2021) and its public-domain reference.
#[derive(Debug, Clone)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator that this seed names.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        Self { state: std::array::from_fn(|_| splitmix(&mut mix)) }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c2, d2) = (c ^ a, d ^ b);
        self.state = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        result
    }

    /// Uniform in `0..bound`; 0 when `bound` is 0.
    ///
    /// Multiply-shift without rejection: the bias is below `bound / 2^64`, nothing a test could see.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.bits()) * (bound as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

/// A number in `[0, 1)` that depends on nothing but its inputs: for questions that must not change the cloud's state.
#[must_use]
pub(crate) fn steady_unit(parts: &[&[u8]]) -> f64 {
    // FNV-1a, then one SplitMix step to spread the low bits.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.iter().chain(std::iter::once(&0xff))) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    unit(splitmix(&mut hash))
}

fn unit(bits: u64) -> f64 {
    // 53 bits fill a double's mantissa exactly.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers() {
        let (mut one, mut two, mut other) = (Random::new(7), Random::new(7), Random::new(8));
        let first: Vec<u64> = (0..50).map(|_| one.bits()).collect();
        assert_eq!(first, (0..50).map(|_| two.bits()).collect::<Vec<_>>());
        assert_ne!(first, (0..50).map(|_| other.bits()).collect::<Vec<_>>());
    }

    #[test]
    fn below_reaches_every_value_and_no_other() {
        let mut random = Random::new(1);
        let mut seen = [0_u32; 7];
        for _ in 0..7000 {
            seen[random.below(7)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn unit_stays_in_range() {
        let mut random = Random::new(3);
        let mean =
            (0..10_000).map(|_| random.unit()).inspect(|u| assert!((0.0..1.0).contains(u))).sum::<f64>()
                / 1e4;
        assert!((0.48..0.52).contains(&mean), "{mean}");
    }
}
