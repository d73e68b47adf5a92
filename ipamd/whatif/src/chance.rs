//! Numbers that look like chance and follow from a seed.

use std::time::Duration;

/// A seeded stream of numbers. *Source*: splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
/// generators").
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` up to and including `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.next() % span.max(1))
    }

    /// A span from `low` up to and including `high`, in whole milliseconds.
    pub fn span(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_millis(self.between(millis(low), millis(high)))
    }
}

/// Whole milliseconds of a span, as the virtual clock counts them.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
