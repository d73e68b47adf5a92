//! What comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The answer to a [`crate::Scenario`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Addresses over time and in sum.
    pub held: Held,
    /// What was asked of EC2.
    pub calls: Ec2Calls,
    /// Waits of all ADDs.
    pub all: Waits,
    /// Waits of ADDs that came while the attached ENIs had places left, for which nobody had to attach anything.
    pub with_room: Waits,
    /// Waits of all others.
    pub without_room: Waits,
    /// ADDs refused; the pod asks again later, and its wait goes on.
    pub refused: u32,
    /// Pods that never got an address before they stopped or the end came.
    pub never: u32,
    /// Addresses handed out before their cooldown was over.
    pub hurried: u64,
}

/// Addresses over time. *Unit* of what is summed up: address-seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Once each second.
    pub samples: Vec<Sample>,
    /// Assigned to ENIs of the node, in EC2's truth.
    pub held: u64,
    /// Of these, held by pods.
    pub pods: u64,
    /// Of these, resting after a release.
    pub cooling: u64,
    /// What the frugality bound allows: with single addresses the peak of pods and cooling over the last ten
    /// minutes and max(2, 10 %) more; with prefixes sixteen for each of ceil((that peak + reserve) / 16) + 1.
    pub allowed: u64,
}

/// The node at one moment. *Unit*: addresses, unless named otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Assigned to ENIs of the node, in EC2's truth.
    pub held: u32,
    /// Held by pods.
    pub pods: u32,
    /// Pods that wait for one.
    pub waiting: u32,
    /// Resting after a release.
    pub cooling: u32,
    /// ENIs that exist for the node.
    pub enis: u32,
    /// Prefixes.
    pub prefixes: u32,
}

impl Held {
    /// Share of the held address-seconds that served neither a pod nor a cooldown; 0 when nothing was held.
    #[must_use]
    pub fn idle_share(&self) -> f64 {
        ratio(self.held.saturating_sub(self.pods).saturating_sub(self.cooling), self.held)
    }

    /// Held over allowed, both on average; at most 1 is within the bound.
    #[must_use]
    pub fn over_bound(&self) -> f64 {
        ratio(self.held, self.allowed)
    }

    /// Addresses held on average.
    #[must_use]
    pub fn average(&self) -> f64 {
        ratio(self.held, u64::try_from(self.samples.len()).unwrap_or(u64::MAX))
    }

    /// The greatest of each number.
    #[must_use]
    pub fn peak(&self) -> Sample {
        self.samples.iter().fold(Sample::default(), |top, s| Sample {
            held: top.held.max(s.held),
            pods: top.pods.max(s.pods),
            waiting: top.waiting.max(s.waiting),
            cooling: top.cooling.max(s.cooling),
            enis: top.enis.max(s.enis),
            prefixes: top.prefixes.max(s.prefixes),
        })
    }
}

/// *Precision*: address-seconds of a year on the largest node stay far below 2^53.
#[allow(clippy::cast_precision_loss, reason = "sums stay far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Calls of EC2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ec2Calls {
    /// By action, those refused for want of budget included.
    pub by_action: BTreeMap<&'static str, u32>,
    /// Refused for want of budget.
    pub throttled: u32,
    /// Refused for another reason.
    pub failed: u32,
}

impl Ec2Calls {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.by_action.values().sum()
    }
}

/// How long ADDs waited inside IPAM, from their arrival to the answer with an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waits(Vec<Duration>);

impl Waits {
    pub(crate) fn new(mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        Self(waits)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// So many of a hundred waited at most this long (nearest rank); zero when there were none.
    #[must_use]
    pub fn percentile(&self, share: usize) -> Duration {
        let rank = (self.0.len() * share).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// Those of several reports together.
    #[must_use]
    pub fn joined<'a>(many: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::new(many.into_iter().flat_map(|w| w.0.iter().copied()).collect())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peak = self.held.peak();
        writeln!(
            f,
            "held {:.1} on average, {} at most, for {} pods at most; idle {:.0} %, {:.2} of what is allowed; {} ENIs at most",
            self.held.average(),
            peak.held,
            peak.pods,
            self.held.idle_share() * 100.0,
            self.held.over_bound(),
            peak.enis
        )?;
        let wait =
            |w: &Waits| format!("{} ADDs, p50 {:?}, p99 {:?}", w.count(), w.percentile(50), w.percentile(99));
        writeln!(f, "waits with room: {}; without: {}", wait(&self.with_room), wait(&self.without_room))?;
        write!(f, "EC2 calls: {}", self.calls.total())?;
        for (action, count) in &self.calls.by_action {
            write!(f, ", {action} {count}")?;
        }
        write!(
            f,
            "; throttled {}, failed {}; refused ADDs {}, pods without address {}, cut cooldowns {}",
            self.calls.throttled, self.calls.failed, self.refused, self.never, self.hurried
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let waits = Waits::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(waits.percentile(50), Duration::from_millis(100));
        assert_eq!(waits.percentile(99), Duration::from_millis(198));
        assert_eq!(Waits::default().percentile(99), Duration::ZERO);
    }
}
