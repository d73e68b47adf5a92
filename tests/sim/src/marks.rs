//! Rare states a run must reach, so that a search that reached nothing fails (testing.md, "sometimes").

use std::collections::BTreeMap;

/// How often each named state was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<&'static str, u64>);

impl Marks {
    /// Notes that a state was reached.
    pub fn reach(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// Notes it when it is so.
    pub fn sometimes(&mut self, name: &'static str, so: bool) {
        if so {
            self.reach(name);
        }
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        for (name, times) in &other.0 {
            *self.0.entry(name).or_default() += times;
        }
    }

    /// How often a state was reached.
    #[must_use]
    pub fn times(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, times)| (*name, *times))
    }
}
