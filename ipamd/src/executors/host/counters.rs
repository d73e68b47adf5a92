//! What host networking has counted since the daemon started. Written by its thread, read by whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};

use podwire_hostnet::Part;

/// The counts. Each only grows.
#[derive(Debug, Default)]
pub struct HostCounters {
    repaired: [AtomicU64; Part::ALL.len()],
    applied: [AtomicU64; Part::ALL.len()],
    failures: AtomicU64,
    quarrels: AtomicU64,
    overruns: AtomicU64,
}

impl HostCounters {
    /// Changes of the kernel by others that were put right, by part.
    #[must_use]
    pub fn repaired(&self, part: Part) -> u64 {
        read(&self.repaired[index(part)])
    }

    /// All of those.
    #[must_use]
    pub fn all_repaired(&self) -> u64 {
        Part::ALL.into_iter().map(|part| self.repaired(part)).sum()
    }

    /// Changes of the kernel made because the plan or an address's owner changed, by part; what stood in the way of an
    /// address's next owner is [`Part::Leftover`].
    #[must_use]
    pub fn applied(&self, part: Part) -> u64 {
        read(&self.applied[index(part)])
    }

    /// Repairs that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        read(&self.failures)
    }

    /// Times that it was told that somebody keeps undoing repairs.
    #[must_use]
    pub fn quarrels(&self) -> u64 {
        read(&self.quarrels)
    }

    /// Times that notifications were lost, so that everything was looked at.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        read(&self.overruns)
    }

    pub(super) fn add_repaired(&self, part: Part) {
        self.repaired[index(part)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_applied(&self, part: Part) {
        self.applied[index(part)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_quarrel(&self) {
        self.quarrels.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_overrun(&self) {
        self.overruns.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn index(part: Part) -> usize {
    Part::ALL.iter().position(|p| *p == part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_apart() {
        let counters = HostCounters::default();
        for (times, part) in Part::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.add_repaired(part));
        }
        for (times, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(usize::try_from(counters.repaired(part)), Ok(times));
            assert_eq!(counters.applied(part), 0);
        }
    }
}
