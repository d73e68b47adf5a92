//! What the pool wants done.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::cause::Cause;
use crate::ids::{
    AttachmentId, DeviceIndex, EniId, GroupId, InstanceId, Mac, NetworkCard, OpId, RequestId, Revision,
    SandboxKey, SubnetId,
};
use crate::leaks::LeakReport;
use crate::record::Record;

/// One thing to carry out. Order matters: carry them out in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Append records; answer with [`crate::Input::Persisted`].
    Persist {
        /// The revision these records make.
        revision: Revision,
        /// What to append.
        records: Vec<Record>,
    },
    /// Answer a waiting caller.
    Reply {
        /// Who.
        request: RequestId,
        /// With what.
        answer: Answer,
    },
    /// Call EC2; answer with [`crate::Input::Ec2`].
    Ec2 {
        /// To name the answer. Also the source of the client token.
        op: OpId,
        /// What to call.
        call: Ec2Call,
    },
    /// Change the host's networking; answer with [`crate::Input::Host`].
    Host {
        /// To name the answer.
        op: OpId,
        /// What to change.
        change: HostChange,
    },
    /// Tell people; needs no answer.
    Explain(Cause),
}

crate::text::variants!(Effect { Persist { revision, records }, Reply { request, answer }, Ec2 { op, call }, Host { op, change }, Explain(a) });

/// An answer to a caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The sandbox holds these addresses.
    Allocated {
        /// Primary family first.
        addresses: Vec<IpAddr>,
        /// This request made the allocation.
        is_new: bool,
        /// The ENI that carries them.
        eni: EniId,
        /// Its card.
        card: NetworkCard,
        /// Its device index.
        device: DeviceIndex,
    },
    /// The sandbox holds nothing any more; these were released, none if it was unknown.
    Released(Vec<IpAddr>),
    /// These sandboxes were collected.
    Collected(Vec<SandboxKey>),
    /// What dead nodes left behind, as a look just now shows it.
    Leaks(LeakReport),
    /// It cannot be done.
    Refused(Cause),
}

crate::text::variants!(Answer { Allocated { addresses, is_new, eni, card, device }, Released(a), Collected(a), Leaks(a), Refused(a) });

/// How much to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrowBy {
    /// Single IPv4 addresses.
    Addresses(u32),
    /// /28 prefixes.
    Prefixes(u32),
}

crate::text::variants!(GrowBy { Addresses(a), Prefixes(a) });

/// One call of one EC2 action.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ec2Call {
    /// AssignPrivateIpAddresses.
    Assign {
        /// To which ENI.
        eni: EniId,
        /// How much.
        by: GrowBy,
    },
    /// UnassignPrivateIpAddresses.
    Unassign {
        /// From which ENI.
        eni: EniId,
        /// Addresses (/32) and prefixes.
        nets: Vec<IpNetwork>,
    },
    /// CreateNetworkInterface with tags, description and client token.
    Create {
        /// In which subnet.
        subnet: SubnetId,
        /// With which security groups.
        groups: Vec<GroupId>,
        /// Carrying what from the start.
        with: GrowBy,
    },
    /// AttachNetworkInterface to this instance.
    Attach {
        /// Which ENI.
        eni: EniId,
        /// To which card.
        card: NetworkCard,
        /// At which index.
        device: DeviceIndex,
    },
    /// ModifyNetworkInterfaceAttribute: delete with the instance.
    DeleteOnTermination {
        /// Which ENI.
        eni: EniId,
        /// Which attachment.
        attachment: AttachmentId,
    },
    /// DetachNetworkInterface.
    Detach {
        /// Which ENI.
        eni: EniId,
        /// Which attachment.
        attachment: AttachmentId,
    },
    /// DeleteNetworkInterface.
    Delete {
        /// Which ENI.
        eni: EniId,
    },
    /// DescribeNetworkInterfaces: those of this instance, and these whether attached or not.
    Describe {
        /// Asked for by id; an ENI missing from the answer does not exist as far as EC2 says now.
        also: Vec<EniId>,
    },
    /// ModifyNetworkInterfaceAttribute: these security groups and no others.
    SetGroups {
        /// Which ENI.
        eni: EniId,
        /// All of its groups from now on.
        groups: Vec<GroupId>,
    },
    /// CreateTags: those of an ENI of ours, on one that had none.
    Tag {
        /// Which ENI.
        eni: EniId,
    },
    /// DescribeSubnets; answered with [`crate::Ec2Answer::Subnets`].
    DescribeSubnets {
        /// Which; empty: all of this instance's VPC and zone.
        only: Vec<SubnetId>,
    },
    /// DescribeNetworkInterfaces: detached ENIs with a node's tag and this cluster's, whoever made them; where the
    /// cluster has no name, those with this instance's tag. Answered with [`crate::Ec2Answer::Described`].
    FindDetached,
    /// DescribeInstances; answered with [`crate::Ec2Answer::Instances`].
    DescribeInstances {
        /// Asked for by id; one that does not exist is no error.
        ids: Vec<InstanceId>,
    },
}

crate::text::variants!(Ec2Call { Assign { eni, by }, Unassign { eni, nets }, Create { subnet, groups, with }, Attach { eni, card, device }, DeleteOnTermination { eni, attachment }, Detach { eni, attachment }, Delete { eni }, Describe { also }, SetGroups { eni, groups }, Tag { eni }, DescribeSubnets { only }, FindDetached, DescribeInstances { ids } });

/// One change of the host's networking.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostChange {
    /// Wait for the device with this MAC, bring it up, give it table, rule and these sources. For the primary ENI
    /// (card 0, device 0) only sources are set. Repeating it changes nothing.
    ConfigureEni {
        /// Which ENI.
        eni: EniId,
        /// Its MAC.
        mac: Mac,
        /// Its card.
        card: NetworkCard,
        /// Its device index.
        device: DeviceIndex,
        /// Its own address.
        primary: IpAddr,
        /// Its subnet's CIDR, where known.
        subnet_cidr: Option<IpNetwork>,
        /// Everything assigned to it for pods.
        sources: Vec<IpNetwork>,
    },
    /// These leave by this ENI from now on.
    AddSources {
        /// Its card.
        card: NetworkCard,
        /// Its device index.
        device: DeviceIndex,
        /// Addresses and prefixes.
        nets: Vec<IpNetwork>,
    },
    /// These no longer leave by this ENI.
    RemoveSources {
        /// Its card.
        card: NetworkCard,
        /// Its device index.
        device: DeviceIndex,
        /// Addresses and prefixes.
        nets: Vec<IpNetwork>,
    },
    /// Take the ENI's table, rule and sources away; the device itself goes with the detachment.
    RemoveEni {
        /// Which ENI.
        eni: EniId,
        /// Its card.
        card: NetworkCard,
        /// Its device index.
        device: DeviceIndex,
    },
    /// Forget connections and neighbours of an address whose cooling starts.
    Flush {
        /// Which.
        address: IpAddr,
    },
}

crate::text::variants!(HostChange { ConfigureEni { eni, mac, card, device, primary, subnet_cidr, sources }, AddSources { card, device, nets }, RemoveSources { card, device, nets }, RemoveEni { eni, card, device }, Flush { address } });
