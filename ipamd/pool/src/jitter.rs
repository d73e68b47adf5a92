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
