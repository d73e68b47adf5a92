//! What the pool says of itself: numbers and rows, for metrics and introspection.

use std::net::IpAddr;

use crate::address::{BlockState, State};
use crate::cause::Cause;
use crate::eni::Stage;
use crate::ids::{EniId, Revision, SandboxKey};
use crate::machine::{Growth, Pool};
use crate::time::Time;
use crate::tuning::count;

/// Numbers of the present state. *Unit*: addresses, unless named otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// ENIs known, foreign ones included.
    pub enis: u32,
    /// Most ENIs this instance may have now.
    pub max_enis: u32,
    /// Assigned to ENIs of ours for pods.
    pub assigned: u32,
    /// Allocated to sandboxes, durable or about to be.
    pub allocated: u32,
    /// Released, not durable yet.
    pub releasing: u32,
    /// Resting after a release.
    pub cooling: u32,
    /// Free: usable now.
    pub free: u32,
    /// Prefixes.
    pub prefixes: u32,
    /// Sandboxes waiting for an address.
    pub waiting: u32,
    /// Operations in flight, of EC2 and the host.
    pub in_flight: u32,
    /// Tombstones.
    pub tombstones: u32,
    /// Addresses used before their cooldown ended, since the start.
    pub hurried: u64,
    /// Addresses the node can hold for pods.
    pub capacity: u32,
    /// The newest revision handed out.
    pub revision: Revision,
    /// The newest durable revision.
    pub durable: Revision,
    /// At least one address is usable, or a sandbox holds one.
    pub ready: bool,
    /// Why growth waits, while it does.
    pub growth_waits: Option<Cause>,
    /// The last thing that went wrong and has not been made good.
    pub failure: Option<Cause>,
}

/// Where an address is in its life, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressState {
    /// On its way to being usable: the host or a Describe has to answer first.
    Preparing,
    /// Nobody's.
    Free,
    /// Promised; the ledger is not on disk yet.
    Allocating,
    /// Held.
    Allocated,
    /// Given back; the ledger is not on disk yet.
    Releasing,
    /// Resting.
    Cooling,
    /// Being given back to EC2.
    Unassigning,
    /// Kept out of use: observations contradict the ledger.
    Quarantined,
}

impl AddressState {
    /// Stable name, for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Free => "free",
            Self::Allocating => "allocating",
            Self::Allocated => "allocated",
            Self::Releasing => "releasing",
            Self::Cooling => "cooling",
            Self::Unassigning => "unassigning",
            Self::Quarantined => "quarantined",
        }
    }
}

/// One address, for introspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRow {
    /// Which.
    pub address: IpAddr,
    /// The ENI that carries it.
    pub eni: EniId,
    /// Where it is in its life.
    pub state: AddressState,
    /// Who holds it, or held it last while it cools.
    pub sandbox: Option<SandboxKey>,
    /// Since when.
    pub since: Time,
}

impl Pool {
    /// Numbers of the present state.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            max_enis: self.most_enis(self.now),
            allocated: self.ledger.sandbox_count(),
            waiting: self.requests.waiting(),
            in_flight: count(self.ops.len()),
            tombstones: self.requests.tombstone_count(),
            hurried: self.hurried,
            capacity: self.capacity(),
            revision: self.journal.made(),
            durable: self.journal.durable(),
            growth_waits: match &self.growth {
                Growth::Waiting(_, cause) => Some(cause.clone()),
                Growth::Blind
                | Growth::Satisfied
                | Growth::Gathering(_)
                | Growth::InFlight
                | Growth::Full
                | Growth::Halted => None,
            },
            failure: self.failure.clone(),
            ..Stats::default()
        };
        for (_, eni) in self.ledger.enis() {
            stats.enis += 1;
            if !eni.ours() {
                continue;
            }
            stats.prefixes += eni.counts.prefixes;
            stats.releasing += eni.counts.releasing;
            stats.cooling += eni.counts.cooling;
            let usable = eni.usable(&self.settings);
            for (net, block) in eni.blocks.iter().filter_map(|n| Some((n, self.ledger.block(*n)?))) {
                stats.assigned += block.size;
                if usable && block.place(*net).is_some() {
                    stats.free += count(block.free.len());
                }
            }
        }
        stats.allocated = stats.allocated.saturating_sub(stats.releasing);
        stats.ready = stats.free > 0 || self.ledger.sandbox_count() > 0;
        stats
    }

    /// Every address of ours with its state, in order of address.
    #[must_use]
    pub fn rows(&self) -> Vec<AddressRow> {
        let rows = self.ledger.addresses().filter_map(|(ip, address)| {
            let block = self.ledger.block(address.block)?;
            let eni = self.ledger.eni(block.slot)?;
            let holder = address.state.holder();
            let held_since = holder.and_then(|key| self.ledger.sandbox(key)).map_or(block.since, |s| s.since);
            let (state, sandbox, since) = match &address.state {
                State::Allocating { .. } => (AddressState::Allocating, holder.cloned(), held_since),
                State::Allocated { .. } => (AddressState::Allocated, holder.cloned(), held_since),
                State::Releasing { .. } => (AddressState::Releasing, holder.cloned(), held_since),
                State::Cooling { since, sandbox } => (AddressState::Cooling, sandbox.clone(), *since),
                State::Free { since } => {
                    let doubtful = block.suspect.is_some() || eni.doubt.is_some() || eni.missing.is_some();
                    let leaving = !matches!(eni.stage, Stage::Created | Stage::Attached);
                    let state = match block.state {
                        BlockState::Unassigning(_) => AddressState::Unassigning,
                        BlockState::Adding | BlockState::Ready if leaving => AddressState::Unassigning,
                        BlockState::Adding | BlockState::Ready if doubtful => AddressState::Quarantined,
                        BlockState::Adding => AddressState::Preparing,
                        BlockState::Ready if !eni.usable(&self.settings) => AddressState::Preparing,
                        BlockState::Ready => AddressState::Free,
                    };
                    (state, None, *since)
                }
            };
            Some(AddressRow { address: ip, eni: eni.id.clone(), state, sandbox, since })
        });
        rows.collect()
    }
}
