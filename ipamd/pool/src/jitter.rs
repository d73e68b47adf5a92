//! Deterministic jitter: the seed comes with the settings, so that two nodes differ and two runs do not.

use std::time::Duration;

/// A stream of numbers. *Source*: splitmix64 (Steele, Lea, Flood 2014): one word of state, passes BigCrush.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Jitter(u64);

crate::text::wraps!(Jitter);

impl Jitter {
    /// The stream that starts at `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A span from `least` to `most`, both possible ("full jitter").
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let low = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
        let high = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(low);
        let width = (high - low).saturating_add(1);
        Duration::from_millis(low.saturating_add(self.next() % width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// *Source*: the first numbers of the reference implementation for seed 1234567 (prng.di.unimi.it, splitmix64.c).
    #[test]
    fn stream_is_splitmix64() {
        let mut jitter = Jitter::new(1_234_567);
        let numbers = [(); 3].map(|()| jitter.next());
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn both_ends_of_a_span_come_up_and_nothing_beyond() {
        let ms = Duration::from_millis;
        let mut jitter = Jitter::new(3);
        let drawn: Vec<Duration> = (0..400).map(|_| jitter.between(ms(10), ms(13))).collect();
        for wanted in 10..=13 {
            assert!(drawn.contains(&ms(wanted)), "{wanted} ms never came");
        }
        assert!(drawn.iter().all(|span| (ms(10)..=ms(13)).contains(span)));
        assert_eq!(jitter.between(ms(9), ms(2)), ms(9), "a span of nothing");
    }
}
