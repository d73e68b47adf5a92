//! Simulation of the pool: a world whose truth is known, an oracle outside the pool that judges every step, and three
//! engines that choose what happens next (testing.md §2): random with heavy-tailed delays and a fault mix drawn for each
//! seed, exhaustive over a small world, and a tape of numbers that proptest shrinks.
//!
//! What the outside owes the pool is written down in testing.md §3 (A1 to A8); the world keeps to it.

pub mod crew;
pub mod ec2;
pub mod exhaustive;
pub mod host;
pub mod marks;
pub mod oracle;
pub mod random;
pub mod runtime;
pub mod script;
pub mod storm;
pub mod swarm;
pub mod tape;
pub mod world;
pub mod zone;

pub use oracle::Violation;
pub use world::{Action, Blur, Fate, World};

/// Something that chooses.
pub trait Choose {
    /// A number below `n`; `n` is at least one.
    fn pick(&mut self, n: usize) -> usize;

    /// True once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.pick(n) == 0
    }
}

/// A seeded stream of choices. *Source*: splitmix64.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// The stream of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; `n` is at least one.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n.max(1)
    }
}

impl Choose for Seeded {
    fn pick(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        usize::try_from(self.below(n)).unwrap_or(0)
    }
}
