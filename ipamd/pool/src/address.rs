//! Life of an address and of the block (single address or prefix) it came in.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::eni::Slot;
use crate::ids::{OpId, SandboxKey};
use crate::time::Time;
use crate::tuning::count;

/// Where an address is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Nobody's.
    Free {
        /// Since when: the longest idle is used first.
        since: Time,
    },
    /// Promised; the ledger is not on disk yet.
    Allocating {
        /// To whom.
        sandbox: SandboxKey,
    },
    /// Held.
    Allocated {
        /// By whom.
        sandbox: SandboxKey,
    },
    /// Given back; the ledger is not on disk yet.
    Releasing {
        /// By whom.
        sandbox: SandboxKey,
    },
    /// Resting.
    Cooling {
        /// Since when.
        since: Time,
        /// Whose it was, where known.
        sandbox: Option<SandboxKey>,
    },
}

crate::text::variants!(State { Free { since }, Allocating { sandbox }, Allocated { sandbox }, Releasing { sandbox }, Cooling { since, sandbox } });

impl State {
    /// Who holds it.
    pub(crate) const fn holder(&self) -> Option<&SandboxKey> {
        match self {
            Self::Allocating { sandbox } | Self::Allocated { sandbox } | Self::Releasing { sandbox } => {
                Some(sandbox)
            }
            Self::Free { .. } | Self::Cooling { .. } => None,
        }
    }
}

/// One address of a block.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    /// The block it came in.
    pub(crate) block: IpNetwork,
    /// Where it is in its life.
    pub(crate) state: State,
}

crate::text::fields!(Address { block, state });

/// Where a block is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BlockState {
    /// EC2 confirmed it; the host does not send it out by its ENI yet.
    Adding,
    /// Pods may use it.
    Ready,
    /// Being given back by this operation: never offered again.
    Unassigning(OpId),
}

crate::text::variants!(BlockState { Adding, Ready, Unassigning(a) });

/// Order in which blocks of one ENI are used: fullest first, prefixes that are in use before singles before idle
/// prefixes, longest idle first, then by number so that the order is total (design D8).
pub(crate) type ReadyKey = (Reverse<u32>, u32, Time, IpNetwork);

/// What EC2 assigned in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    /// On which ENI.
    pub(crate) slot: Slot,
    /// Where it is in its life.
    pub(crate) state: BlockState,
    /// Contradicted by an observation since then: out of use until it is confirmed.
    pub(crate) suspect: Option<Time>,
    /// Since when we know it.
    pub(crate) since: Time,
    /// How many addresses it has.
    pub(crate) size: u32,
    /// How many are allocating or allocated.
    pub(crate) held: u32,
    /// How many are releasing.
    pub(crate) releasing: u32,
    /// How many cool.
    pub(crate) cooling: u32,
    /// The free ones, longest idle first.
    pub(crate) free: BTreeSet<(Time, IpAddr)>,
    /// Its place in the ENI's order, while it has one.
    pub(crate) key: Option<ReadyKey>,
}

crate::text::fields!(Block { slot, state, suspect, since, size, held, releasing, cooling, free, key });

impl Block {
    /// A block with no addresses entered yet.
    pub(crate) const fn new(slot: Slot, size: u32, now: Time) -> Self {
        Self {
            slot,
            state: BlockState::Adding,
            suspect: None,
            since: now,
            size,
            held: 0,
            releasing: 0,
            cooling: 0,
            free: BTreeSet::new(),
            key: None,
        }
    }

    /// Whether its free addresses count as supply.
    pub(crate) const fn offered(&self) -> bool {
        matches!(self.state, BlockState::Adding | BlockState::Ready) && self.suspect.is_none()
    }

    /// Nobody has anything to do with any of its addresses.
    pub(crate) const fn idle(&self) -> bool {
        self.held == 0 && self.releasing == 0 && self.cooling == 0
    }

    /// A prefix, not a single address.
    pub(crate) const fn is_prefix(&self) -> bool {
        self.size > 1
    }

    /// Where it belongs in its ENI's order; nowhere when it has nothing to offer.
    pub(crate) fn place(&self, net: IpNetwork) -> Option<ReadyKey> {
        let offers = matches!(self.state, BlockState::Ready) && self.suspect.is_none();
        let (since, _) = self.free.first().filter(|_| offers)?;
        let busy = self.held + self.releasing + self.cooling;
        Some((Reverse(busy), self.size, *since, net))
    }

    /// What it adds to its ENI's counts.
    pub(crate) fn counts(&self) -> Counts {
        let offered = self.offered();
        let ready = offered && matches!(self.state, BlockState::Ready);
        let idle_prefix = self.is_prefix() && ready && self.idle();
        Counts {
            slots: 1,
            prefixes: u32::from(self.is_prefix()),
            idle_prefixes: u32::from(idle_prefix),
            held: self.held,
            releasing: self.releasing,
            cooling: self.cooling,
            free: if offered { count(self.free.len()) } else { 0 },
            total: if offered { self.size } else { self.held },
        }
    }
}

/// Numbers of one ENI, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Counts {
    /// Blocks: each takes one of the ENI's places.
    pub(crate) slots: u32,
    /// Blocks that are prefixes.
    pub(crate) prefixes: u32,
    /// Prefixes with no address in use or cooling, ready to be given back.
    pub(crate) idle_prefixes: u32,
    /// Addresses allocating or allocated.
    pub(crate) held: u32,
    /// Addresses releasing.
    pub(crate) releasing: u32,
    /// Addresses cooling.
    pub(crate) cooling: u32,
    /// Addresses free, on blocks that are offered or soon will be.
    pub(crate) free: u32,
    /// Addresses of offered blocks, and held ones of others.
    pub(crate) total: u32,
}

crate::text::fields!(Counts { slots, prefixes, idle_prefixes, held, releasing, cooling, free, total });

impl Counts {
    /// Adds another's.
    pub(crate) const fn add(&mut self, other: &Self) {
        self.slots += other.slots;
        self.prefixes += other.prefixes;
        self.idle_prefixes += other.idle_prefixes;
        self.held += other.held;
        self.releasing += other.releasing;
        self.cooling += other.cooling;
        self.free += other.free;
        self.total += other.total;
    }

    /// Takes another's away, which was added before.
    pub(crate) const fn sub(&mut self, other: &Self) {
        self.slots -= other.slots;
        self.prefixes -= other.prefixes;
        self.idle_prefixes -= other.idle_prefixes;
        self.held -= other.held;
        self.releasing -= other.releasing;
        self.cooling -= other.cooling;
        self.free -= other.free;
        self.total -= other.total;
    }

    /// Nobody has anything to do with any address.
    pub(crate) const fn idle(&self) -> bool {
        self.held == 0 && self.releasing == 0 && self.cooling == 0
    }
}
