//! What the ledger remembers. A ledger is a list of records; replaying them rebuilds the pool's truth about allocations.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::effect::GrowBy;
use crate::ids::{
    AttachmentId, DeviceIndex, EniId, GroupId, Mac, NetworkCard, OpId, PodRef, SandboxKey, SubnetId,
};
use crate::time::Time;

/// One durable fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Record {
    /// An ENI of ours is known in this state; replaces an earlier record of the same ENI.
    Eni(EniRecord),
    /// The ENI is gone.
    EniGone {
        /// Which.
        eni: EniId,
    },
    /// EC2 confirmed an assignment.
    Assigned {
        /// To which ENI.
        eni: EniId,
        /// What.
        net: IpNetwork,
        /// When.
        at: Time,
    },
    /// EC2 confirmed that this is off the ENI.
    Unassigned {
        /// From which ENI.
        eni: EniId,
        /// What.
        net: IpNetwork,
        /// When.
        at: Time,
    },
    /// A sandbox holds addresses.
    Allocated {
        /// Which.
        sandbox: SandboxKey,
        /// Whose.
        pod: PodRef,
        /// What.
        addresses: Vec<IpAddr>,
        /// When its ADD began: a DEL that began before that is of an earlier life of the same key.
        at: Time,
    },
    /// A sandbox gave its addresses back; they cool from here.
    Released {
        /// Which.
        sandbox: SandboxKey,
        /// What.
        addresses: Vec<IpAddr>,
        /// When its DEL plugin started: an ADD that began before is refused.
        started: Time,
        /// When it was released.
        at: Time,
    },
    /// A DEL came for a sandbox the ledger did not know.
    Tombstone {
        /// Which.
        sandbox: SandboxKey,
        /// When its DEL plugin started.
        started: Time,
        /// When it was noted.
        at: Time,
    },
    /// A mutating EC2 call with lasting consequences is about to be made; found again after a crash, it calls for a Describe.
    Intent {
        /// Which.
        op: OpId,
        /// What an ENI to be created would carry; `None` for a call on an existing ENI.
        create: Option<GrowBy>,
        /// The ENI it concerns, when it exists.
        eni: Option<EniId>,
    },
    /// That call's outcome is known.
    Settled {
        /// Which.
        op: OpId,
    },
    /// Operation ids below this were used by earlier lives of the daemon.
    OpsUsed {
        /// The next free id.
        next: OpId,
    },
}

crate::text::variants!(Record { Eni(a), EniGone { eni }, Assigned { eni, net, at }, Unassigned { eni, net, at }, Allocated { sandbox, pod, addresses, at }, Released { sandbox, addresses, started, at }, Tombstone { sandbox, started, at }, Intent { op, create, eni }, Settled { op }, OpsUsed { next } });

/// What is remembered of an ENI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EniRecord {
    /// Its id.
    pub id: EniId,
    /// Its MAC.
    pub mac: Mac,
    /// Its attachment, once known.
    pub attachment: Option<AttachmentId>,
    /// Its card.
    pub card: NetworkCard,
    /// Its device index.
    pub device: DeviceIndex,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its subnet's CIDR, where known.
    pub subnet_cidr: Option<IpNetwork>,
    /// Its security groups.
    pub groups: Vec<GroupId>,
    /// Its own address.
    pub primary: IpAddr,
    /// How far its life has come.
    pub stage: EniStage,
}

crate::text::fields!(EniRecord {
    id,
    mac,
    attachment,
    card,
    device,
    subnet,
    subnet_cidr,
    groups,
    primary,
    stage
});

/// Durable stages of an ENI's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EniStage {
    /// Created by us, not attached.
    Created,
    /// Attached to this instance.
    Attached,
    /// Attached to this instance by others, without tags, and ours to use: to be tagged before anything is changed.
    Borrowed,
    /// On its way out: no new pods; to be detached and deleted.
    Leaving,
}

crate::text::variants!(EniStage { Created, Attached, Borrowed, Leaving });
