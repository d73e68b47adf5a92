//! The things that stand still: VPC, subnets, security groups, and the instances in them.

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::ids::{EniId, GroupId, InstanceId, SubnetId, VpcId};
use super::limits::TypeLimits;
use super::spec::{IngressSpec, Tags};
use super::time::Millis;

/// The VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vpc {
    /// Its id.
    pub id: VpcId,
    /// IPv4 CIDRs, the main one first.
    pub cidrs: Vec<Ipv4Network>,
    /// IPv6 CIDRs.
    pub ipv6_cidrs: Vec<Ipv6Network>,
    /// Tags.
    pub tags: Tags,
}

/// A subnet, without its addresses ([`super::space::Space`] has them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// IPv4 CIDR.
    pub cidr: Ipv4Network,
    /// IPv6 CIDR.
    pub ipv6_cidr: Option<Ipv6Network>,
    /// Availability zone.
    pub az: String,
    /// Availability zone id.
    pub az_id: String,
    /// `AvailableIpAddressCount`.
    pub free: usize,
    /// Tags.
    pub tags: Tags,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// What may come in; peers that are groups are named by id.
    pub ingress: Vec<IngressSpec>,
    /// Tags.
    pub tags: Tags,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// It runs.
    Running,
    /// It was terminated and has not ended yet.
    ShuttingDown,
    /// It has ended.
    Terminated,
}

impl InstanceState {
    /// EC2's code and name.
    #[must_use]
    pub fn code_and_name(self) -> (u16, &'static str) {
        match self {
            Self::Running => (16, "running"),
            Self::ShuttingDown => (32, "shutting-down"),
            Self::Terminated => (48, "terminated"),
        }
    }
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its type's limits.
    pub limits: &'static TypeLimits,
    /// Subnet of its primary interface.
    pub subnet: SubnetId,
    /// Availability zone.
    pub az: String,
    /// Its primary interface.
    pub primary_eni: EniId,
    /// Where it is in its life.
    pub state: InstanceState,
    /// When it was launched.
    pub launched: Millis,
    /// Tags.
    pub tags: Tags,
}
