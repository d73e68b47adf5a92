//! Several answers taken together: one workload with many seeds, or many workloads.

use crate::report::{Held, Report, Waits};

/// What several reports say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Share of all held address-seconds that served neither a pod nor a cooldown.
    pub idle_share: f64,
    /// The greatest [`Held::over_bound`] of any one.
    pub over_bound: f64,
    /// Waits of all ADDs.
    pub all: Waits,
    /// Waits of ADDs for which nobody had to attach anything.
    pub with_room: Waits,
    /// Waits of all others.
    pub without_room: Waits,
    /// EC2 calls for each report, on average.
    pub calls: f64,
    /// Calls refused for want of budget.
    pub throttled: u32,
    /// ADDs refused and pods that never got an address.
    pub unserved: u32,
}

impl Summary {
    /// Takes them together.
    #[must_use]
    pub fn of(reports: &[Report]) -> Self {
        let sum = |part: fn(&Held) -> u64| reports.iter().map(|r| part(&r.held)).sum();
        let together = Held {
            held: sum(|h| h.held),
            pods: sum(|h| h.pods),
            cooling: sum(|h| h.cooling),
            ..Held::default()
        };
        let calls: u32 = reports.iter().map(|r| r.calls.total()).sum();
        let many = u32::try_from(reports.len()).unwrap_or(u32::MAX).max(1);
        Self {
            idle_share: together.idle_share(),
            over_bound: reports.iter().map(|r| r.held.over_bound()).fold(0.0, f64::max),
            all: Waits::joined(reports.iter().map(|r| &r.all)),
            with_room: Waits::joined(reports.iter().map(|r| &r.with_room)),
            without_room: Waits::joined(reports.iter().map(|r| &r.without_room)),
            calls: f64::from(calls) / f64::from(many),
            throttled: reports.iter().map(|r| r.calls.throttled).sum(),
            unserved: reports.iter().map(|r| r.refused + r.never).sum(),
        }
    }
}
