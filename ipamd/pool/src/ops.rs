//! Operations in flight: what was asked of EC2 and of the host, so that each answer finds its question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::effect::{Ec2Call, GrowBy};
use crate::eni::Slot;
use crate::ids::{DeviceIndex, EniId, GroupId, InstanceId, NetworkCard, OpId, SubnetId};
use crate::settings::Mode;
use crate::time::Time;
use crate::tuning::PREFIX_SIZE;

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum About {
    Assign {
        slot: Slot,
        by: GrowBy,
    },
    Unassign {
        slot: Slot,
        nets: Vec<IpNetwork>,
    },
    Create {
        subnet: SubnetId,
        with: GrowBy,
    },
    Attach {
        slot: Slot,
    },
    Terminate {
        slot: Slot,
    },
    Detach {
        slot: Slot,
    },
    Delete {
        slot: Slot,
    },
    SetGroups {
        slot: Slot,
        groups: Vec<GroupId>,
    },
    Tag {
        slot: Slot,
    },
    DescribeSubnets,
    FindDetached,
    DescribeInstances {
        ids: Vec<InstanceId>,
    },
    DeleteLeak {
        eni: EniId,
    },
    /// The ENIs asked for by id.
    Describe {
        also: Vec<EniId>,
    },
    Configure {
        slot: Slot,
        sources: Vec<IpNetwork>,
    },
    AddSources {
        slot: Slot,
        nets: Vec<IpNetwork>,
    },
    RemoveSources {
        slot: Slot,
        nets: Vec<IpNetwork>,
    },
    RemoveEni {
        slot: Slot,
    },
    /// What the host has of an ENI that is gone, at this place.
    Forget {
        eni: EniId,
        card: NetworkCard,
        device: DeviceIndex,
    },
    Flush {
        address: IpAddr,
        tries: u32,
    },
}

crate::text::variants!(About { Assign { slot, by }, Unassign { slot, nets }, Create { subnet, with }, Attach { slot }, Terminate { slot }, Detach { slot }, Delete { slot }, SetGroups { slot, groups }, Tag { slot }, DescribeSubnets, FindDetached, DescribeInstances { ids }, DeleteLeak { eni }, Describe { also }, Configure { slot, sources }, AddSources { slot, nets }, RemoveSources { slot, nets }, RemoveEni { slot }, Forget { eni, card, device }, Flush { address, tries } });

impl About {
    /// Whether it is a step of the search for what dead nodes left behind.
    pub(crate) const fn seeks_leaks(&self) -> bool {
        matches!(self, Self::FindDetached | Self::DescribeInstances { .. } | Self::DeleteLeak { .. })
    }

    /// The ENI it is about.
    pub(crate) const fn slot(&self) -> Option<Slot> {
        match self {
            Self::Assign { slot, .. }
            | Self::Unassign { slot, .. }
            | Self::Attach { slot }
            | Self::Terminate { slot }
            | Self::Detach { slot }
            | Self::Delete { slot }
            | Self::SetGroups { slot, .. }
            | Self::Tag { slot }
            | Self::Configure { slot, .. }
            | Self::AddSources { slot, .. }
            | Self::RemoveSources { slot, .. }
            | Self::RemoveEni { slot } => Some(*slot),
            Self::Create { .. }
            | Self::DescribeSubnets
            | Self::FindDetached
            | Self::DescribeInstances { .. }
            | Self::DeleteLeak { .. }
            | Self::Describe { .. }
            | Self::Forget { .. }
            | Self::Flush { .. } => None,
        }
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Op {
    /// What it is about.
    pub(crate) about: About,
    /// When it was asked for, or prepared.
    pub(crate) asked: Time,
    /// Not asked for yet: its intent is not on disk.
    pub(crate) held: Option<Ec2Call>,
}

crate::text::fields!(Op { about, asked, held });

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(crate) struct Ops {
    next: u64,
    /// A few for each ENI at most.
    open: BTreeMap<OpId, Op>,
    /// As many as addresses were released lately: apart, so that nothing walks over them.
    flushes: BTreeMap<OpId, Op>,
    flushing: BTreeSet<IpAddr>,
}

crate::text::fields!(Ops { next, open, flushes, flushing });

impl Ops {
    /// Ids start at `first`.
    pub(crate) const fn starting_at(first: OpId) -> Self {
        Self { next: first.0, open: BTreeMap::new(), flushes: BTreeMap::new(), flushing: BTreeSet::new() }
    }

    /// The id the next one will get.
    pub(crate) const fn next_id(&self) -> OpId {
        OpId(self.next)
    }

    /// Ids below `next` were used.
    pub(crate) fn skip_to(&mut self, next: OpId) {
        self.next = self.next.max(next.0);
    }

    /// A name for something that is noted like an operation, but not asked of anybody.
    pub(crate) fn name(&mut self) -> OpId {
        let id = OpId(self.next);
        self.next = self.next.saturating_add(1);
        id
    }

    /// A new operation.
    pub(crate) fn open(&mut self, about: About, now: Time, held: Option<Ec2Call>) -> OpId {
        let id = self.name();
        let flush = if let About::Flush { address, .. } = &about { Some(*address) } else { None };
        let op = Op { about, asked: now, held };
        if let Some(address) = flush {
            self.flushing.insert(address);
            self.flushes.insert(id, op);
        } else {
            self.open.insert(id, op);
        }
        id
    }

    /// One operation, a flush apart.
    pub(crate) fn get(&self, id: OpId) -> Option<&Op> {
        self.open.get(&id)
    }

    /// The intent is on disk: the call may go out now.
    pub(crate) fn unhold(&mut self, id: OpId, now: Time) -> Option<Ec2Call> {
        let op = self.open.get_mut(&id)?;
        op.asked = now;
        op.held.take()
    }

    /// An operation ended. One that was never asked for cannot end.
    pub(crate) fn close(&mut self, id: OpId) -> Option<Op> {
        if let Some(flush) = self.flushes.remove(&id) {
            if let About::Flush { address, .. } = &flush.about {
                self.flushing.remove(address);
            }
            return Some(flush);
        }
        if self.open.get(&id).is_none_or(|op| op.held.is_some()) {
            return None;
        }
        self.open.remove(&id)
    }

    /// One that was held back will never be asked for.
    pub(crate) fn cancel(&mut self, id: OpId) -> Option<Op> {
        self.open.remove(&id)
    }

    /// Whether an address is being flushed: a new owner's connections must not be hit.
    pub(crate) fn flushing(&self, address: IpAddr) -> bool {
        self.flushing.contains(&address)
    }

    /// All but the flushes, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.open.iter().map(|(id, op)| (*id, op))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.flushes.len()
    }

    /// The one asked longest ago. Those held back for the disk do not count: the disk has its own alarm.
    pub(crate) fn oldest(&self) -> Option<(Time, OpId)> {
        let asked = self.open.iter().filter(|(_, op)| op.held.is_none()).map(|(id, op)| (op.asked, *id));
        let flush = self.flushes.first_key_value().map(|(id, op)| (op.asked, *id));
        asked.chain(flush).min()
    }

    /// Addresses that calls in flight will bring.
    pub(crate) fn coming(&self) -> u32 {
        let growth = self.open.values().filter_map(|op| {
            if let About::Assign { by, .. } | About::Create { with: by, .. } = &op.about {
                return Some(addresses_of(*by));
            }
            None
        });
        growth.fold(0, u32::saturating_add)
    }

    /// Whether one is open that fits.
    pub(crate) fn any(&self, fits: impl Fn(&About) -> bool) -> bool {
        self.open.values().any(|op| fits(&op.about))
    }

    /// Whether an ENI is being created.
    pub(crate) fn creating(&self) -> bool {
        self.any(|about| matches!(about, About::Create { .. }))
    }

    /// Whether a Describe is on its way.
    pub(crate) fn describing(&self) -> bool {
        self.any(|about| matches!(about, About::Describe { .. }))
    }
}

/// How many addresses a growth brings.
pub(crate) const fn addresses_of(by: GrowBy) -> u32 {
    match by {
        GrowBy::Addresses(n) => n,
        GrowBy::Prefixes(n) => n.saturating_mul(PREFIX_SIZE),
    }
}

/// How many places of an ENI a growth takes.
pub(crate) const fn places_of(by: GrowBy) -> u32 {
    match by {
        GrowBy::Addresses(n) | GrowBy::Prefixes(n) => n,
    }
}

/// Addresses one place of an ENI holds.
pub(crate) const fn unit(mode: Mode) -> u32 {
    match mode {
        Mode::SecondaryIp => 1,
        Mode::Prefix => PREFIX_SIZE,
    }
}
