//! Rare states a run must reach, so that a search that reached nothing fails (testing.md, "sometimes").

use std::collections::BTreeMap;

/// Rare states that the seeds of a gate must reach, or the search is vacuous.
pub const SOMETIMES: [&str; 46] = [
    "ADD repeated",
    "ENI detached by others",
    "ENI in another subnet",
    "a dead plugin's ADD arrives",
    "a key comes back",
    "address assigned by others",
    "address moved by others",
    "address unassigned by others",
    "answer lost, call done",
    "attach",
    "call done after it was given up",
    "compacted under load",
    "cooling address used early",
    "cordoned",
    "crash between effects",
    "crash during recovery",
    "create",
    "delete",
    "delete on termination",
    "describe instances",
    "describe subnets",
    "detach",
    "find detached",
    "foreign ENI attached",
    "gc",
    "host not ready",
    "leak deleted",
    "leak proven",
    "leaks told",
    "ledger lost",
    "ledger unwritable",
    "metadata left addresses out",
    "metadata left an ENI out",
    "metadata without leaves",
    "no subnet",
    "quarantined",
    "reboot without ledger",
    "recovered with an open intent",
    "release kept pending",
    "restarted with other settings",
    "set groups",
    "subnet exhausted",
    "subnet floor",
    "subnet fragmented",
    "tag",
    "the daemon stood still",
];

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
