//! What happens to the pool.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::ids::{
    AttachmentId, DeviceIndex, EniId, GroupId, InstanceId, Mac, NetworkCard, OpId, PodRef, RequestId,
    Revision, SandboxKey, SubnetId,
};
use crate::time::Time;

/// One event. `Pool::handle` accepts any of them in any state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// A plugin wants an address for a sandbox.
    Allocate {
        /// Who waits.
        request: RequestId,
        /// For which attachment.
        sandbox: SandboxKey,
        /// Whose it is.
        pod: PodRef,
        /// When the plugin started; an ADD that began before its sandbox's DEL is refused.
        started: Time,
        /// When the answer is due at the latest.
        deadline: Time,
    },
    /// The caller of a waiting request went away. A durable allocation stays until its DEL.
    Abandon {
        /// Who no longer waits.
        request: RequestId,
    },
    /// A plugin has torn a sandbox down and gives its address back.
    Release {
        /// Who waits.
        request: RequestId,
        /// Which attachment.
        sandbox: SandboxKey,
        /// When the plugin started.
        started: Time,
    },
    /// The runtime listed every live attachment of a network; all older others of that network are released.
    Collect {
        /// Who waits.
        request: RequestId,
        /// The network whose attachments are listed.
        network: Box<str>,
        /// The live ones.
        valid: Vec<SandboxKey>,
        /// When the plugin started: younger attachments are left alone.
        started: Time,
    },
    /// All revisions up to and including this one are on disk.
    Persisted {
        /// The newest durable revision.
        revision: Revision,
    },
    /// Nothing after the last durable revision can be written now; the driver goes on trying.
    PersistFailed {
        /// Oldest revision that is not durable.
        revision: Revision,
        /// What the disk said.
        reason: Box<str>,
    },
    /// An EC2 call ended.
    Ec2 {
        /// Which.
        op: OpId,
        /// How.
        outcome: Result<Ec2Answer, Ec2Failure>,
    },
    /// A change of the host's networking ended. The error is for people.
    Host {
        /// Which.
        op: OpId,
        /// How.
        outcome: Result<(), Box<str>>,
    },
    /// Somebody looked at the attachments.
    Observed(Snapshot),
    /// Pods bound to this node: how many should have an address of ours, wired or not (host-network pods not counted).
    /// `None`: unknown, for example because the API server cannot be reached.
    Demand {
        /// The count, when known.
        bound: Option<u32>,
    },
    /// Under custom networking: where new ENIs go (the node's ENIConfig). `None`: there is none, and no ENI is made.
    EniConfig(Option<EniConfig>),
    /// Somebody asks what dead nodes left behind. Answered with [`crate::Answer::Leaks`] after a look at EC2.
    Leaks {
        /// Who waits.
        request: RequestId,
        /// Delete what is proven to have been left behind, also where the daemon would only name it.
        delete: bool,
    },
    /// Whether the node is cordoned or about to end. While it is, nothing is detached and nothing is given back: an
    /// instance that ends between a detach and its delete leaves the ENI behind (pain-points C36).
    Cordoned(bool),
    /// A deadline from `Pool::next_deadline` has come, or nothing in particular.
    Timer,
    /// The daemon is stopping: start no new EC2 operation.
    Stop,
}

/// What an ENIConfig object says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EniConfig {
    /// Subnet of new ENIs.
    pub subnet: SubnetId,
    /// Their security groups; empty: the primary ENI's (incumbent-behaviour §5.9).
    pub groups: Vec<GroupId>,
}

crate::text::fields!(EniConfig { subnet, groups });

crate::text::variants!(Input { Allocate { request, sandbox, pod, started, deadline }, Abandon { request }, Release { request, sandbox, started }, Collect { request, network, valid, started }, Persisted { revision }, PersistFailed { revision, reason }, Ec2 { op, outcome }, Host { op, outcome }, Observed(a), Demand { bound }, EniConfig(a), Leaks { request, delete }, Cordoned(a), Timer, Stop });

/// Who looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapshotSource {
    /// Instance metadata: a hint, may be hours old; absence means nothing (design D1).
    Metadata,
    /// DescribeNetworkInterfaces of this instance: decides about attachment.
    Describe,
}

crate::text::variants!(SnapshotSource { Metadata, Describe });

/// The ENIs of this instance as somebody saw them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Who looked.
    pub source: SnapshotSource,
    /// What was asked last before this was read: results of operations with a higher id are not in it.
    pub as_of: OpId,
    /// What was seen.
    pub enis: Vec<ObservedEni>,
}

crate::text::fields!(Snapshot { source, as_of, enis });

/// One ENI as seen by EC2 or instance metadata.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObservedEni {
    /// Its id.
    pub id: EniId,
    /// Its MAC address, by which the kernel device is found.
    pub mac: Mac,
    /// Its attachment, where known (metadata does not say).
    pub attachment: Option<AttachmentId>,
    /// The instance it is attached to, where known.
    pub instance: Option<InstanceId>,
    /// Network card.
    pub card: NetworkCard,
    /// Device index on that card.
    pub device: DeviceIndex,
    /// Subnet.
    pub subnet: SubnetId,
    /// Subnet's CIDR, where known (metadata says it; EC2's ENI description does not).
    pub subnet_cidr: Option<IpNetwork>,
    /// Security groups.
    pub groups: Vec<GroupId>,
    /// Primary address: the ENI's own, never a pod's. Without IPv4 its IPv6 address, and `::` where it has none at all.
    pub primary: IpAddr,
    /// Secondary addresses.
    pub addresses: Vec<IpAddr>,
    /// Delegated prefixes.
    pub prefixes: Vec<IpNetwork>,
    /// `interface`, `trunk`, `efa`, `efa-only`, `branch`…; `None` where metadata does not say.
    pub kind: Option<Box<str>>,
    /// Tags, where known; `None` from metadata.
    pub tags: Option<Vec<(Box<str>, Box<str>)>>,
    /// Attachment is complete (`attached`), not on its way in or out.
    pub attached: bool,
}

/// One subnet as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObservedSubnet {
    /// Its id.
    pub id: SubnetId,
    /// Its IPv4 CIDR.
    pub cidr: Option<IpNetwork>,
    /// Free IPv4 addresses.
    pub free: u32,
    /// Its tags.
    pub tags: Vec<(Box<str>, Box<str>)>,
}

crate::text::fields!(ObservedSubnet { id, cidr, free, tags });

crate::text::fields!(ObservedEni {
    id,
    mac,
    attachment,
    instance,
    card,
    device,
    subnet,
    subnet_cidr,
    groups,
    primary,
    addresses,
    prefixes,
    kind,
    tags,
    attached
});

/// What EC2 answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ec2Answer {
    /// Newly assigned addresses (/32, /128) or prefixes; may be fewer than asked for.
    Assigned(Vec<IpNetwork>),
    /// The addresses or prefixes are off the ENI.
    Unassigned,
    /// A new ENI, not attached yet, with what came with it.
    Created(Box<ObservedEni>),
    /// The ENI is attaching; its device will appear.
    Attached(AttachmentId),
    /// The attribute is set.
    Modified,
    /// The ENI carries our tags.
    Tagged,
    /// The ENI is detaching.
    Detached,
    /// The ENI is gone.
    Deleted,
    /// The ENIs asked for.
    Described(Vec<ObservedEni>),
    /// The subnets asked for.
    Subnets(Vec<ObservedSubnet>),
    /// Those of the instances asked for that exist and are not terminated.
    Instances(Vec<InstanceId>),
}

crate::text::variants!(Ec2Answer { Assigned(a), Unassigned, Created(a), Attached(a), Modified, Tagged, Detached, Deleted, Described(a), Subnets(a), Instances(a) });

/// What a failed EC2 call means for the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// The account's budget for this action is used up. Nothing was done.
    Throttled,
    /// The subnet has no free address. Nothing was done.
    SubnetExhausted,
    /// The subnet has free addresses but no free /28. Nothing was done.
    SubnetFragmented,
    /// The ENI or the instance can take no more. Nothing was done.
    LimitExceeded,
    /// A quota of the account or the VPC is used up, which says nothing of what this ENI or instance can take. Nothing was
    /// done.
    QuotaExceeded,
    /// The role may not do this. Nothing was done.
    Denied,
    /// The thing does not exist, or not yet everywhere.
    NotFound,
    /// The thing is in a state that forbids this now (in use, still attaching).
    Busy,
    /// The request itself is wrong. Nothing was done; asking again is useless.
    Invalid,
    /// It is not known whether it was done: timeout, lost connection, server error.
    Unknown,
}

crate::text::variants!(FailureClass {
    Throttled,
    SubnetExhausted,
    SubnetFragmented,
    LimitExceeded,
    QuotaExceeded,
    Denied,
    NotFound,
    Busy,
    Invalid,
    Unknown
});

/// A failed EC2 call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ec2Failure {
    /// What it means.
    pub class: FailureClass,
    /// EC2's error code, or a word of ours such as `timeout`.
    pub code: Box<str>,
    /// What EC2 said and what to do about it, for people.
    pub message: Box<str>,
}

crate::text::fields!(Ec2Failure { class, code, message });
