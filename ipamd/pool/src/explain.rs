//! What the pool is doing and what it waits for, for people: why it does not grow, why an ADD waits.

use crate::cause::Cause;
use crate::eni::{Role, Stage};
use crate::ids::{DeviceIndex, EniId, NetworkCard, PodRef, SandboxKey, SubnetId};
use crate::machine::{Growth, Pool};
use crate::time::Time;

/// How growth stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrowthNow {
    /// The instance's ENIs have not been seen yet.
    Blind,
    /// Nothing is wanted.
    Satisfied,
    /// It goes on then; until then further requests join it.
    Gathering {
        /// When it goes on.
        until: Time,
    },
    /// A call of EC2 or a change of the host is under way.
    InFlight,
    /// It goes on then; until then it waits because of this.
    Waiting {
        /// When it goes on.
        until: Time,
        /// Why it waits.
        cause: Cause,
    },
    /// The node can hold no more, or may not.
    Full,
    /// The ledger cannot be written, or the daemon is stopping.
    Halted,
}

impl GrowthNow {
    /// Stable name, for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Blind => "blind",
            Self::Satisfied => "satisfied",
            Self::Gathering { .. } => "gathering",
            Self::InFlight => "in-flight",
            Self::Waiting { .. } => "waiting",
            Self::Full => "full",
            Self::Halted => "halted",
        }
    }
}

/// A sandbox that waits for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub sandbox: SandboxKey,
    /// Whose.
    pub pod: PodRef,
    /// When its ADD began.
    pub since: Time,
    /// What it would be told if its time ended now.
    pub cause: Cause,
}

/// One ENI, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniRow {
    /// Its id.
    pub id: EniId,
    /// Its card.
    pub card: NetworkCard,
    /// Its device index.
    pub device: DeviceIndex,
    /// Its subnet.
    pub subnet: SubnetId,
    /// `primary`, `secondary`, `borrowed`, `unverified` or `foreign`.
    pub role: &'static str,
    /// How far its life has come.
    pub stage: &'static str,
    /// Since when EC2's answers contradict what is known of it.
    pub doubted_since: Option<Time>,
    /// Prefixes on it.
    pub prefixes: u32,
    /// Addresses on it that are held.
    pub held: u32,
    /// Addresses on it that cool.
    pub cooling: u32,
    /// Addresses on it that are free.
    pub free: u32,
}

impl Pool {
    /// How growth stands.
    #[must_use]
    pub fn growth_now(&self) -> GrowthNow {
        match &self.growth {
            Growth::Blind => GrowthNow::Blind,
            Growth::Satisfied => GrowthNow::Satisfied,
            Growth::Gathering(until) => GrowthNow::Gathering { until: *until },
            Growth::InFlight => GrowthNow::InFlight,
            Growth::Waiting(until, cause) => GrowthNow::Waiting { until: *until, cause: cause.clone() },
            Growth::Full => GrowthNow::Full,
            Growth::Halted => GrowthNow::Halted,
        }
    }

    /// The sandboxes that wait for an address, and why.
    #[must_use]
    pub fn waiting_now(&self) -> Vec<Waiting> {
        let waiters = self.requests.waiters().map(|(key, waiter)| Waiting {
            sandbox: key.clone(),
            pod: waiter.pod.clone(),
            since: waiter.started,
            cause: self.why_late(key),
        });
        waiters.collect()
    }

    /// The instance's ENIs, foreign ones included.
    #[must_use]
    pub fn eni_rows(&self) -> Vec<EniRow> {
        let rows = self.ledger.enis().map(|(_, eni)| EniRow {
            id: eni.id.clone(),
            card: eni.card,
            device: eni.device,
            subnet: eni.subnet.clone(),
            role: match eni.role {
                Role::Primary => "primary",
                Role::Secondary => "secondary",
                Role::Borrowed => "borrowed",
                Role::Unverified => "unverified",
                Role::Foreign => "foreign",
            },
            stage: match eni.stage {
                Stage::Created => "created",
                Stage::Attached => "attached",
                Stage::Leaving(_) => "leaving",
            },
            doubted_since: eni
                .doubt
                .map(|doubt| doubt.since)
                .or_else(|| eni.missing.map(|missing| missing.since)),
            prefixes: eni.counts.prefixes,
            held: eni.counts.held + eni.counts.releasing,
            cooling: eni.counts.cooling,
            free: eni.counts.free,
        });
        rows.collect()
    }
}
